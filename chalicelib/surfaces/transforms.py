"""Giving a transformed image over HTTP."""

from functools import partial

from chalicelib import providers
from chalicelib.core import publishing, transforms
from chalicelib.core.objects import Found
from chalicelib.core.signing import Opened
from chalicelib.core.transforms import Picture
from chalicelib.surfaces import downloads
from chalicelib.surfaces.http import Request
from chalicelib.tables.objects import PUBLIC
from chalicelib.webapp import Answer

# Seconds: as long as a change may take to be seen everywhere.
REDIRECTED_FOR = 60


def answer(request: Request, found: Found, opened: Opened | None, is_file: bool) -> Answer | None:
    """The answer to GET or HEAD of an image that is to be transformed; None if its bytes are to be given as they are.

    Ranges are not given: RFC 9110 §14.2 leaves that to the server, and pages ask for images whole. Nor is a date: a preset may
    come to mean something else, which only the ETag tells.
    """
    seconds_left, signed = (opened.seconds_left, opened.transform) if opened else (None, None)
    wanted = transforms.wanted(found, request.query, request.headers.get("accept", ""), signed, _is_trusted(request), is_file)
    if wanted is None:
        return None
    varies = {"Vary": "Accept"} if wanted.varies else {}
    if is_file and opened is None and wanted.is_open and publishing.is_published(found.row):
        location = transforms.published(found, wanted.options)
        return Answer(302, headers={"Location": location, "Cache-Control": f"public, max-age={REDIRECTED_FOR}", **varies})
    tag = transforms.etag(found.row, wanted.options)
    is_public = found.bucket.public or (is_file and wanted.is_open and found.row.acl == PUBLIC)
    headers = downloads.common_headers(is_public, tag, seconds_left, wanted.lasting) | varies
    if downloads.is_unchanged(request, tag, modified=None):
        return Answer(304, headers=headers)
    named = request.query.get("download")
    if named:
        headers["Content-Disposition"] = downloads.attachment(named)
    shown = transforms.picture(found, wanted.options)
    headers |= {
        "Content-Type": shown.content_type,
        "Content-Security-Policy": downloads.SANDBOX,
        "x-object-size": str(shown.size),
    }
    if named == "":
        headers["Content-Disposition"] = downloads.attachment(_name(found, shown))
    if request.method == "HEAD":
        return Answer(200, headers={**headers, "Content-Length": str(shown.size)})
    if shown.body is not None:
        return Answer(200, shown.body, headers)
    return downloads.large((providers.internal(), shown.key), shown.size, partial(transforms.read, shown), 200, headers, seconds_left)


def _is_trusted(request: Request) -> bool:
    """Whether a service key asks: not on the routes that anyone may call, whatever credential comes along."""
    return "principal" in request.__dict__ and request.principal.is_service


def _name(found: Found, shown: Picture) -> str:
    """The object's name, with the ending of what it has become."""
    name = found.row.name.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    return name if shown.content_type == found.row.content_type else f"{stem}.{shown.content_type.rpartition('/')[2]}"
