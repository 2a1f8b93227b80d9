"""Giving an object's bytes over HTTP: validators, ranges, safe headers, and redirects for what is too large."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

from chalicelib import providers, seam
from chalicelib.core import content, objects
from chalicelib.core.objects import Found
from chalicelib.errors import InvalidRequest, PreconditionFailed, RangeNotSatisfiable
from chalicelib.providers import Presigner
from chalicelib.settings import settings
from chalicelib.surfaces.http import Request
from chalicelib.tables.objects import StoredObject
from chalicelib.webapp import Answer, Stream

# Superseded bytes stay for a day, so a URL of an hour never dies under its holder.
PRESIGNED_FOR = 3600
STREAMED_PIECE = 1 << 20
MAX_DOWNLOAD_NAME = 255
# What a browser is told of every object: run nothing, load nothing, frame nothing.
SANDBOX = "default-src 'none'; sandbox"

_ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*")


def answer(request: Request, found: Found, seconds_left: float | None = None) -> Answer:
    """The answer to GET or HEAD of an object. Order of checks: RFC 9110 §13.2.2.

    `seconds_left` of the signed URL that opened it: nothing that is handed out outlives it.
    """
    row = found.row
    headers = _headers(request, found)
    if seconds_left is not None:
        headers["Cache-Control"] = "private, no-cache"
    lifetime = PRESIGNED_FOR if seconds_left is None else max(1, min(PRESIGNED_FOR, int(seconds_left)))
    if _unchanged_for(request, row):
        return Answer(304, headers={name: headers[name] for name in ("ETag", "Last-Modified", "Cache-Control")})
    size = int(row.size)
    if request.method == "HEAD":
        return Answer(200, headers={**headers, "Content-Length": str(size)})
    wanted = _wanted_range(request, row)
    if wanted is None:
        return _body(row, 0, size, 200, headers, lifetime)
    first, last = wanted
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return _body(row, first, last - first + 1, 206, headers, lifetime)


def _body(row: StoredObject, offset: int, length: int, status: int, headers: dict[str, str], lifetime: int) -> Answer:
    if length <= settings().max_body:
        return Answer(status, objects.read(row, offset, length), headers)
    provider = providers.internal()
    if isinstance(provider, Presigner):
        disposition = headers.get("Content-Disposition", "")
        url = provider.presign_get(row.physical_key, lifetime, headers["Content-Type"], disposition)
        return Answer(302, headers={"Location": url, "Cache-Control": "no-store"})
    return Answer(status, Stream(length, _pieces(row, offset, length)), headers)


def _pieces(row: StoredObject, offset: int, length: int) -> Iterator[bytes]:
    for start in range(offset, offset + length, STREAMED_PIECE):
        yield objects.read(row, start, min(STREAMED_PIECE, offset + length - start))


# ---- headers -------------------------------------------------------------------------------------------
def etag(row: StoredObject) -> str:
    """A strong validator: a version names bytes that never change."""
    return f'"{row.version}"'


def _headers(request: Request, found: Found) -> dict[str, str]:
    row = found.row
    headers = {
        "Content-Type": content.served_type(row.content_type),
        "ETag": etag(row),
        "Last-Modified": format_datetime(_modified(row), usegmt=True),
        "Accept-Ranges": "bytes",
        # Ask again each time, so that an overwrite shows at once: a 304 costs no storage call.
        "Cache-Control": "public, no-cache" if found.bucket.public else "private, no-cache",
        "x-object-size": str(int(row.size)),
    }
    if content.essence(row.content_type) != "application/pdf":  # browsers show no PDF in a sandbox
        headers["Content-Security-Policy"] = SANDBOX
    disposition = _disposition(request, row)
    if disposition:
        headers["Content-Disposition"] = disposition
    return headers


def _disposition(request: Request, row: StoredObject) -> str:
    asked = request.query.get("download")
    if asked is None and content.is_inline(row.content_type):
        return ""
    if asked and len(asked) > MAX_DOWNLOAD_NAME:
        raise InvalidRequest(f"a download is named by at most {MAX_DOWNLOAD_NAME} characters")
    name = (asked or row.name).rstrip("/").rpartition("/")[2] or "download"
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"  # RFC 6266


def _modified(row: StoredObject) -> datetime:
    return seam.moment(row.updated_at).replace(microsecond=0)


# ---- conditions ----------------------------------------------------------------------------------------
def _unchanged_for(request: Request, row: StoredObject) -> bool:
    """Whether the caller's copy is current; raises PreconditionFailed when what it insists on is not there."""
    headers = request.headers
    if "if-match" in headers:
        if not _names(headers["if-match"], row, weak=False):
            raise PreconditionFailed("the object is not the version that If-Match names")
    elif (limit := _date(headers.get("if-unmodified-since"))) and _modified(row) > limit:
        raise PreconditionFailed("the object was changed since If-Unmodified-Since")
    if "if-none-match" in headers:
        return _names(headers["if-none-match"], row, weak=True)
    since = _date(headers.get("if-modified-since"))
    return since is not None and _modified(row) <= since


def _names(header: str, row: StoredObject, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    return any(tag == row.version and (weak or not prefix) for prefix, tag in _ENTITY_TAG.findall(header))


def _date(text: str | None) -> datetime | None:
    """An HTTP date; None for none and for what is not one, which is to be ignored (RFC 9110 §13.1.3)."""
    if not text:
        return None
    try:
        parsed = parsedate_to_datetime(text)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


# ---- ranges --------------------------------------------------------------------------------------------
def _wanted_range(request: Request, row: StoredObject) -> tuple[int, int] | None:
    """First and last byte of a single range, or None for the whole; raises RangeNotSatisfiable.

    Several ranges, another unit or a malformed header are answered with the whole, as RFC 9110 §14.2 allows.
    """
    header, size = request.headers.get("range", ""), int(row.size)
    match = _RANGE.fullmatch(header)
    if match is None or match.group(1, 2) == ("", "") or not _range_holds(request, row):
        return None
    first, last = ((int(bound.lstrip("0")[:19] or "0") if bound else None) for bound in match.group(1, 2))
    if first is None:
        first, last = max(0, size - (last or 0)), size - 1
        unsatisfiable = match[2].strip("0") == ""
    else:
        if last is not None and last < first:
            return None
        last = size - 1 if last is None else min(last, size - 1)
        unsatisfiable = False
    if unsatisfiable or first >= size:
        raise RangeNotSatisfiable(f"the object has {size} bytes, and the range begins after them", size)
    return first, last


def _range_holds(request: Request, row: StoredObject) -> bool:
    condition = request.headers.get("if-range")
    if condition is None:
        return True
    if '"' in condition:
        return condition.strip() == etag(row)
    return _date(condition) == _modified(row)
