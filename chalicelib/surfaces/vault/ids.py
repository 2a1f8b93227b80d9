"""Ids as the vault's requests name them: UUIDs in their hyphenated form, in a body's or the query's fields (seed 000 "Object Layout")."""

from chalicelib.core import names
from chalicelib.errors import InvalidRequest
from chalicelib.surfaces.http import Request


def named(request: Request, field: str, in_body: str | None = None) -> str:
    """The id that a request means, by its body or its query; raises InvalidRequest."""
    in_query = request.query.get(field)
    if in_body is not None and in_query is not None and in_body.lower() != in_query.lower():
        raise InvalidRequest(f"{field}: body and query name different ones")
    given = in_body or in_query
    if not given:
        raise InvalidRequest(f"{field}: it is required")
    return uuid_of(field, given)


def uuid_of(field: str, given: str) -> str:
    """An id as it is kept, in lower case; raises InvalidRequest for what is none, the compact form included."""
    if not names.is_uuid(given.lower()):
        raise InvalidRequest(f"{field}: a UUID in its hyphenated form")
    return given.lower()
