"""Giving an object's bytes over HTTP: validators, ranges, safe headers, and redirects for what is too large."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from chalicelib import providers, seam
from chalicelib.access.permissions import object_not_found
from chalicelib.core import content, keeping, objects, staging
from chalicelib.core.objects import Found
from chalicelib.errors import InvalidRequest, PreconditionFailed, RangeNotSatisfiable
from chalicelib.images.options import PARAMETERS
from chalicelib.providers import Presigner, Provider
from chalicelib.settings import settings
from chalicelib.surfaces.http import Request
from chalicelib.tables.objects import StoredObject
from chalicelib.webapp import Answer, Stream

if TYPE_CHECKING:
    from chalicelib.core.signing import Opened

# Superseded bytes stay for a day, so a URL of an hour never dies under its holder.
PRESIGNED_FOR = 3600
STREAMED_PIECE = 1 << 20
MAX_DOWNLOAD_NAME = 255
YEAR = 31_536_000
# What a browser is told of every object: run nothing, load nothing, frame nothing.
SANDBOX = "default-src 'none'; sandbox"

_ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*")


def answer(request: Request, found: Found, opened: "Opened | None" = None, is_file: bool = False) -> Answer:
    """The answer to GET or HEAD of an object, transformed where that is asked for. Order of checks: RFC 9110 §13.2.2.

    `opened` by a signed URL: nothing that is handed out outlives it. `is_file`: by the rules of the files surface.
    """
    row, seconds_left = found.row, opened.seconds_left if opened else None
    if request.query.get("version", row.version) != row.version:
        raise object_not_found(found.bucket.name, row.name)
    if (opened and opened.transform) or PARAMETERS & request.query.keys():
        from chalicelib.surfaces import transforms

        transformed = transforms.answer(request, found, opened, is_file)
        if transformed is not None:
            return transformed
    headers = common_headers(found.bucket.public, etag(row), seconds_left, lasting="version" in request.query)
    headers["Last-Modified"] = format_datetime(min(_modified(row), seam.now().replace(microsecond=0)), usegmt=True)
    if is_unchanged(request, etag(row), seam.moment(row.updated_at)):
        return Answer(304, headers=headers)
    headers |= _headers(request, row)
    size = int(row.size)
    if request.method == "HEAD":
        return Answer(200, headers={**headers, "Content-Length": str(size)})
    wanted = _wanted_range(request, row)
    if wanted is None:
        return _body(row, 0, size, 200, headers, seconds_left)
    first, last = wanted
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return _body(row, first, last - first + 1, 206, headers, seconds_left)


def _body(row: StoredObject, offset: int, length: int, status: int, headers: dict[str, str], seconds_left: float | None) -> Answer:
    if length <= settings().max_body:
        return Answer(status, objects.read(row, offset, length), headers)
    place: tuple[Provider, str] = keeping.holding(row), row.physical_key
    if not isinstance(place[0], Presigner) and isinstance(providers.internal(), Presigner):
        place = providers.internal(), staging.require(row)
    return large(place, length, lambda start, size: objects.read(row, offset + start, size), status, headers, seconds_left)


def large(
    place: tuple[Provider, str],
    length: int,
    read: Callable[[int, int], bytes],
    status: int,
    headers: dict[str, str],
    seconds_left: float | None,
) -> Answer:
    """The answer with more bytes than one may carry: by a URL where `place`, a storage and a key, has one, else of `read(start, size)`."""
    provider, key = place
    if isinstance(provider, Presigner):
        lifetime = PRESIGNED_FOR if seconds_left is None else max(1, min(PRESIGNED_FOR, int(seconds_left)))
        url = provider.presign_get(key, lifetime, headers["Content-Type"], headers.get("Content-Disposition", ""))
        return Answer(302, headers={"Location": url, "Cache-Control": "no-store"})
    pieces = (read(start, min(STREAMED_PIECE, length - start)) for start in range(0, length, STREAMED_PIECE))
    return Answer(status, Stream(length, pieces), headers)


# ---- headers -------------------------------------------------------------------------------------------
def etag(row: StoredObject) -> str:
    """A strong validator: a version names bytes that never change."""
    return f'"{row.version}"'


def common_headers(is_public: bool, tag: str, seconds_left: float | None, lasting: bool) -> dict[str, str]:
    """What a 304 carries too (RFC 9110 §15.4.5): the validator, and who may keep the answer for how long.

    What is not `lasting`, because its URL may come to mean other bytes, is asked for again each time, so that an overwrite shows
    at once: a 304 costs no storage call.
    """
    kept_by = "public" if is_public and seconds_left is None else "private"
    age = YEAR if seconds_left is None else max(0, min(YEAR, int(seconds_left)))
    kept_for = f"max-age={age}, immutable" if lasting else "no-cache"
    return {"ETag": tag, "Cache-Control": f"{kept_by}, {kept_for}"}


def _headers(request: Request, row: StoredObject) -> dict[str, str]:
    headers = {
        "Content-Type": content.served_type(row.content_type),
        "Accept-Ranges": "bytes",
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
    return "" if asked is None and content.is_inline(row.content_type) else attachment(asked or row.name)


def attachment(name: str) -> str:
    """The Content-Disposition of what is to be saved as `name`; raises InvalidRequest."""
    name = name.rstrip("/").rpartition("/")[2] or "download"
    if len(name) > MAX_DOWNLOAD_NAME:
        raise InvalidRequest(f"a download is named by at most {MAX_DOWNLOAD_NAME} characters")
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"  # RFC 6266


def _modified(row: StoredObject) -> datetime:
    """The second by which a row had changed. Rounded up: dates have whole seconds, and two changes in one would look the same.

    Until it has come, what is told is an earlier one (RFC 9110 §8.8.2.1), by which nobody's copy is taken for current.
    """
    exact = seam.moment(row.updated_at)
    return exact if not exact.microsecond else exact.replace(microsecond=0) + timedelta(seconds=1)


# ---- conditions ----------------------------------------------------------------------------------------
def is_unchanged(request: Request, tag: str, modified: datetime | None) -> bool:
    """Whether the caller's copy, validated by `tag`, is current; raises PreconditionFailed when what it insists on is not there.

    Without `modified`, conditions by date say nothing.
    """
    headers = request.headers
    if "if-match" in headers:
        if not _names(headers["if-match"], tag, weak=False):
            raise PreconditionFailed("the object is not the version that If-Match names")
    elif modified and (limit := _date(headers.get("if-unmodified-since"))) and modified > limit:
        raise PreconditionFailed("the object was changed since If-Unmodified-Since")
    if "if-none-match" in headers:
        return _names(headers["if-none-match"], tag, weak=True)
    since = _date(headers.get("if-modified-since"))
    return bool(modified and since and modified <= since)


def _names(header: str, tag: str, weak: bool) -> bool:
    """Whether an entity tag is among those of a header, by weak comparison or by strong (RFC 9110 §8.8.3.2)."""
    if header.strip() == "*":
        return True
    is_weak, opaque = tag.startswith("W/"), tag.removeprefix("W/").strip('"')
    return any(opaque == named and (weak or not (prefix or is_weak)) for prefix, named in _ENTITY_TAG.findall(header))


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
