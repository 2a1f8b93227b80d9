"""What a request that writes an object says beside its bytes: whether it may replace one, and metadata."""

import base64

from chalicelib.core import content
from chalicelib.errors import InvalidRequest
from chalicelib.surfaces.http import Request, flag, parsed_json


def upsert(request: Request, default: bool) -> bool:
    """Whether an existing object may be replaced: `x-upsert`, or `If-None-Match: *` for never."""
    condition = request.headers.get("if-none-match")
    if condition is not None and condition.strip() != "*":
        raise InvalidRequest("on a write, If-None-Match is '*': the object must not exist")
    given = request.headers.get("x-upsert")
    replaces = default if given is None else flag(given, "x-upsert")
    return replaces and condition is None


def metadata(request: Request) -> str | None:
    """`x-metadata`: the base64 of a JSON object, as the text that is stored."""
    header = request.headers.get("x-metadata")
    if header is None:
        return None
    try:
        decoded = base64.b64decode(header, validate=True)
    except ValueError:
        raise InvalidRequest("x-metadata is not base64") from None
    return metadata_of(decoded, "x-metadata")


def metadata_in(text: str | None) -> str | None:
    """A TUS client's own `metadata`, a JSON object, as the text that is stored; raises InvalidRequest."""
    return metadata_of(text.encode(), "the metadata in Upload-Metadata") if text else None


def metadata_of(document: bytes, what: str) -> str:
    """A JSON object, given by `what`, as the text that is stored; raises InvalidRequest."""
    parsed = parsed_json(document, what)
    if not isinstance(parsed, dict):
        raise InvalidRequest(f"{what} is a JSON object")
    return content.metadata_text(parsed) or ""
