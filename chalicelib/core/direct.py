"""Direct uploads: the client puts the bytes into the storage itself, by URLs that take nothing but what was promised.

A single PUT carries length, type, checksum and `If-None-Match: *` in its signature, so the storage refuses any other
bytes and every repetition. The bucket tells of it (keys that end in `.direct`), and the client may confirm it; a large
upload is put in parts, each of a signed length, and completed when it is confirmed. Any order and number of these come
to the same: the row is written in the transaction that ends the session. Bytes that no session expects any more are
never adopted: they are filed as garbage, and a day later they go.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from chalicelib import seam
from chalicelib.access.principals import Principal
from chalicelib.core import buckets, content, garbage, keeping, names, objects, sessions, uploads
from chalicelib.core.sessions import DIRECT, DONE, OPEN, Wanted
from chalicelib.errors import (
    BytesMissing,
    CannotPresign,
    IntegrityFailed,
    InvalidRequest,
    NotUploaded,
    StowageError,
    TooLarge,
    Unavailable,
    UploadSettled,
)
from chalicelib.observability import logger
from chalicelib.providers import Copier, Inspected, ListedPart, Multipart, Part, Presigner, Promise, Provider
from chalicelib.settings import settings
from chalicelib.tables.garbage import Garbage
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import ConditionFailed
from chalicelib.tables.uploads import UploadSession

# Seconds.
URL_LIFETIME = 3600
MAX_SINGLE = 100_000_000
MAX_SIZE = 5 * 10**12  # AWS limit: 5 TB an object
PART_BYTES = 16 << 20
MAX_PARTS_AT_ONCE = 1000
VERIFIED_BYTES = 8 << 20
IN_CHUNKS = "upload in chunks (POST /storage/v1/upload/tus or /storage/upload/resumable)"


@dataclass(frozen=True, slots=True)
class Promised:
    """What the client knows of its bytes: SHA-256 in base64, MD5 in base64, into how many parts it would cut them."""

    checksum_sha256: str | None = None
    content_md5: str | None = None
    parts: int | None = None


@dataclass(frozen=True, slots=True)
class SignedPart:
    """Where part `number` goes, of exactly `size` bytes."""

    number: int
    size: int
    url: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A direct upload: a URL for one PUT with exactly `headers`, or the first parts. `expires` in seconds since 1970."""

    session: UploadSession
    expires: float
    url: str = ""
    headers: Mapping[str, str] | None = None
    parts: Sequence[SignedPart] = ()


# ---- beginning -----------------------------------------------------------------------------------------
def begin(principal: Principal, wanted: Wanted, promise: Promised) -> Begun:
    """Begin an upload of `wanted.total` bytes; raises what an upload of the object would, and CannotPresign.

    The session is stored before anything is made in the storage: killed in between, the cleanup looks for it there.
    """
    size = wanted.total or 0
    limit = min(settings().max_upload_size, MAX_SIZE)
    if size > limit:
        raise TooLarge(f"an upload has at most {limit} bytes", limit=limit)
    in_parts = promise.parts is not None or size > MAX_SINGLE
    if in_parts and (promise.checksum_sha256 or promise.content_md5):
        raise InvalidRequest(f"a checksum is signed for a single PUT, of at most {MAX_SINGLE} bytes; leave it out for parts")
    upload_id = seam.new_version()
    checksum = content.hex_of(promise.checksum_sha256) if promise.checksum_sha256 else None
    row = uploads.prospect(principal, wanted, upload_id, direct=True, checksum=checksum)
    session = sessions.new(principal, DIRECT, wanted, upload_id, row)
    presigner = _presigner(session)
    if in_parts:
        return _begin_parts(presigner, session, size, promise.parts)
    session.checksum, session.content_md5 = checksum, promise.content_md5
    sessions.put(session)
    signed = presigner.presign_put(session.physical_key, URL_LIFETIME, _signed_headers(wanted.content_type, size, promise))
    return Begun(session, _url_end(), signed.url, signed.headers)


def _presigner(session: UploadSession) -> Presigner:
    provider = keeping.holding(session)
    if not isinstance(provider, Presigner):
        raise CannotPresign("this storage takes no direct uploads; " + IN_CHUNKS)
    return provider


def _url_end() -> float:
    return seam.timestamp() + URL_LIFETIME


def _signed_headers(content_type: str, size: int, promise: Promised) -> dict[str, str]:
    headers = {"Content-Type": content_type, "Content-Length": str(size), "If-None-Match": "*"}
    if promise.checksum_sha256:
        headers["x-amz-checksum-sha256"] = promise.checksum_sha256
    if promise.content_md5:
        headers["Content-MD5"] = promise.content_md5
    return headers


def _begin_parts(presigner: Presigner, session: UploadSession, size: int, wanted: int | None) -> Begun:
    provider = _multipart(presigner)
    chosen = PART_BYTES if wanted is None else math.ceil(size / wanted)
    session.part_size = min(max(chosen, provider.min_part_bytes, math.ceil(size / provider.max_parts)), provider.max_part_bytes)
    sessions.put(session)
    multipart_id = provider.create_multipart(session.physical_key, session.content_type)
    sessions.note_multipart(session, multipart_id)
    return Begun(session, _url_end(), parts=_sign(presigner, session, 1, MAX_PARTS_AT_ONCE))


def _multipart(provider: object) -> Multipart:
    if not isinstance(provider, Multipart):
        raise CannotPresign("this storage takes no direct uploads in parts; " + IN_CHUNKS)
    return provider


def sign_parts(principal: Principal, upload_id: str, first: int, count: int) -> Begun:
    """URLs of an hour for `count` parts from `first` on, again or for the first time; raises UploadSettled, InvalidRequest."""
    session = sessions.find(principal, upload_id)
    if session.multipart_id is None or session.part_size is None:
        raise UploadSettled("this upload is not one that is put in parts")
    if session.status == DONE:
        raise UploadSettled("this upload is complete")
    if not 1 <= first <= _part_count(session) or not 1 <= count <= MAX_PARTS_AT_ONCE:
        raise InvalidRequest(f"this upload has the parts 1 to {_part_count(session)}; at most {MAX_PARTS_AT_ONCE} are signed at once")
    sessions.extend(session)
    return Begun(session, _url_end(), parts=_sign(_presigner(session), session, first, count))


def _sign(presigner: Presigner, session: UploadSession, first: int, count: int) -> list[SignedPart]:
    key, multipart_id = session.physical_key, str(session.multipart_id)
    numbers = range(first, min(first + count, _part_count(session) + 1))
    sizes = ((number, _part_bytes(session, number)) for number in numbers)
    return [SignedPart(number, size, presigner.presign_part(key, multipart_id, number, size, URL_LIFETIME)) for number, size in sizes]


def _part_count(session: UploadSession) -> int:
    return max(1, math.ceil(int(session.total) / int(session.part_size)))


def _part_bytes(session: UploadSession, number: int) -> int:
    return min(int(session.part_size), int(session.total) - (number - 1) * int(session.part_size))


# ---- confirming ----------------------------------------------------------------------------------------
def confirm(principal: Principal, upload_id: str, given: Mapping[int, str] | None = None) -> UploadSession:
    """Make the object of what the client has put; again, it gives the same.

    `given` are ETags by part number, where the client has them. Raises NotUploaded while bytes are missing,
    IntegrityFailed when they are not those that were promised, and what an upload of the object raises.
    """
    session = sessions.find(principal, upload_id)
    if session.kind != DIRECT:
        raise UploadSettled("this upload goes on in chunks and is not confirmed")
    if session.status != DONE and session.multipart_id:
        _assemble(session, given)
    return session if session.status == DONE else _adopt(session)


def object_created(physical_key: str) -> UploadSession | None:
    """Take note of an object that was put into the internal bucket; gives the session that it completed.

    Raises Unavailable, to be told again. What is refused now may be confirmed later, until the session ends.
    """
    placed = names.placed(physical_key)
    if placed is None or not placed.direct:
        return None
    session = sessions.stored(placed.version)
    if session is None or session.physical_key != physical_key or not _is_expected(session):
        garbage.file_all([_unexpected(placed, physical_key)])
        return None
    try:
        return session if session.status == DONE else _adopt(session)
    except Unavailable:
        raise
    except StowageError as error:
        logger().warning("a direct upload was not adopted", extra={"upload_id": session.upload_id, "code": error.code})
        return None


def _is_expected(session: UploadSession) -> bool:
    return session.status == DONE or (session.status == OPEN and not sessions.has_expired(session))


def _unexpected(placed: names.Placed, physical_key: str) -> Garbage:
    partition = buckets.partition_of(placed.tenant_id, placed.bucket)
    return garbage.entry(partition, placed.name, placed.version, physical_key, seam.timestamp())


def _adopt(session: UploadSession) -> UploadSession:
    provider = keeping.holding(session)
    found = provider.inspect(session.physical_key, content.SNIFFED_BYTES)
    if found is None:
        raise NotUploaded("nothing has arrived yet at the URL of this upload; send the bytes there, then confirm again")
    _check(session, found)
    still_open = UploadSession.fence == session.fence
    unkept = frozenset(Promise) - provider.holds if isinstance(provider, Presigner) and not session.multipart_id else frozenset()
    may_be_overwritten = Promise.NEW in unkept

    def supply(row: StoredObject, is_looked_at: bool) -> bytes:
        if may_be_overwritten:
            _take_away(provider, session, row)
        _verify(provider, session, row, unkept)
        return objects.read(row, 0, min(int(row.size), content.SNIFFED_BYTES)) if may_be_overwritten else found.start

    return uploads.land(session, supply, still_open, session.checksum, None if may_be_overwritten else session.upload_id)


def _take_away(provider: Provider, session: UploadSession, row: StoredObject) -> None:
    """Copy the bytes to a key that the URL does not lead to: this storage would let it overwrite an object that is adopted.

    What stays at the URL's key is filed first: killed in between, nothing but that has happened.
    """
    if not isinstance(provider, Copier):
        raise CannotPresign("this storage takes no direct uploads; " + IN_CHUNKS)
    name = str(session.name)
    left = garbage.entry(session.partition, name, session.upload_id, session.physical_key, seam.timestamp(), session.storage_id)
    garbage.file_all([left])
    try:
        provider.copy(session.physical_key, row.physical_key)
    except BytesMissing as error:
        raise NotUploaded("what had arrived at the URL of this upload is gone; begin a new upload") from error


def _verify(provider: Provider, session: UploadSession, row: StoredObject, unkept: frozenset[Promise]) -> None:
    """Compare with the promise what this storage does not hold a PUT to: by reading the bytes once."""
    sha256 = session.checksum if Promise.SHA256 in unkept else None
    md5 = session.content_md5 if Promise.MD5 in unkept else None
    stored = provider.stat(row.physical_key) if Promise.NEW in unkept else None
    if stored is not None and stored.size != session.total:
        raise _other_bytes(session)
    if sha256 is None and md5 is None:
        return
    sha256_of, md5_of = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for offset in range(0, int(session.total), VERIFIED_BYTES):
        piece = provider.read(row.physical_key, offset, min(VERIFIED_BYTES, int(session.total) - offset))
        sha256_of.update(piece)
        md5_of.update(piece)
    if (sha256 and sha256 != sha256_of.hexdigest()) or (md5 and md5 != base64.b64encode(md5_of.digest()).decode()):
        raise _other_bytes(session)


def _other_bytes(session: UploadSession) -> IntegrityFailed:
    """What to raise for bytes that are not those of the promise: the upload ends with them."""
    with suppress(ConditionFailed):  # claimed or ended by somebody else, who finds the same
        sessions.end(session, sessions.TERMINATED)
    return IntegrityFailed("what arrived has another checksum, or size, than was promised; begin a new upload")


def _assemble(session: UploadSession, given: Mapping[int, str] | None) -> None:
    """Complete the multipart upload, if every part is there, of its size and the ETag that the client knows."""
    provider = _multipart(keeping.holding(session))
    try:
        listed = {part.number: part for part in provider.list_parts(session.physical_key, session.multipart_id)}
    except BytesMissing:
        return  # completed by a request that was answered by nobody, or aborted
    wanted = range(1, _part_count(session) + 1)
    missing = [number for number in wanted if number not in listed or listed[number].size != _part_bytes(session, number)]
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (" …" if len(missing) > 10 else "")
        raise NotUploaded(f"{len(missing)} of {len(wanted)} parts are missing: {shown}", missing=missing[:MAX_PARTS_AT_ONCE])
    differing = [number for number, etag in (given or {}).items() if number not in listed or not _same(etag, listed[number])]
    if differing:
        raise IntegrityFailed(f"part {differing[0]} is stored with another ETag than the one given; put it again")
    provider.complete_multipart(session.physical_key, session.multipart_id, [Part(number, listed[number].etag) for number in wanted])


def _same(etag: str, part: ListedPart) -> bool:
    return etag.strip('"') == part.etag.strip('"')


def _check(session: UploadSession, found: Inspected) -> None:
    """Refuse bytes that are not those of the promise, and end the upload with them."""
    if found.size == session.total and content.essence(found.content_type or "") == content.essence(session.content_type):
        return
    with suppress(ConditionFailed):  # claimed or ended by somebody else, who finds the same
        sessions.end(session, sessions.TERMINATED)
    told = f"{int(session.total)} bytes of {session.content_type}"
    raise IntegrityFailed(f"what arrived is {found.size} bytes of {found.content_type}, and not {told}; begin a new upload")
