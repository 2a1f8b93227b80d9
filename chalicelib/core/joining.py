"""Uploads joined into one object (TUS "Concatenation"): by copies inside the storage wherever sizes allow it.

The bytes of each partial upload lie as an object of their own in staging. A part of the joined object is a copy of
a range of one of them, as long as that leaves no rest below the storage's minimum; where it would, the part is read and
written, across as many of them as it takes. A small join of copies alone is done at once, any other by a job.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chalicelib import providers, seam
from chalicelib.access.principals import Principal
from chalicelib.core import jobs, parts, sessions, uploads
from chalicelib.core.copies import LARGE, PART_BYTES
from chalicelib.core.jobs import JobFailed, Step
from chalicelib.core.sessions import DONE, JOINED, OPEN, PARTIAL, TERMINATED, Wanted
from chalicelib.errors import InvalidRequest, UploadIncomplete
from chalicelib.providers import Multipart, Part
from chalicelib.tables.jobs import Job
from chalicelib.tables.table import ConditionFailed, Transaction, read_together
from chalicelib.tables.uploads import UploadSession

JOB = "upload.join"
MAX_SOURCES = 1000
COPIES_AT_ONCE = 8
# What a part that is read and written has, in bytes: held in memory whole.
REWRITTEN_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Range:
    """`length` bytes from `offset` of the source at `source`."""

    source: int
    offset: int
    length: int


Piece = tuple[Range, ...]
"""A part of the joined object: a copy of one range, or several that are read and written together."""


# ---- beginning -----------------------------------------------------------------------------------------
def join(principal: Principal, wanted: Wanted, upload_ids: Sequence[str]) -> UploadSession:
    """The upload that joins finished partial ones, in this order; done, or being done by a job.

    Raises UploadNotFound, UploadIncomplete, InvalidRequest, and what an upload of the object raises.
    """
    found = _sources(principal, upload_ids)
    sources = [(_key(partial), int(partial.total)) for partial in found]
    total = sum(size for _, size in sources)
    if total > parts.largest():
        raise parts.too_large()
    upload_id = seam.new_version()
    told = replace(wanted, total=total)
    row = uploads.prospect(principal, told, upload_id)
    session = sessions.new(principal, JOINED, told, upload_id, row)
    session.sources = sources
    pieces = _pieces(session)
    if total <= LARGE and len(pieces) <= COPIES_AT_ONCE and all(_is_copied(session, piece) for piece in pieces):
        sessions.put(session)
        return _join_now(session, pieces)
    return _join_later(principal, session, found)


def _sources(principal: Principal, upload_ids: Sequence[str]) -> list[UploadSession]:
    if not 1 <= len(upload_ids) <= MAX_SOURCES:
        raise InvalidRequest(f"1 to {MAX_SOURCES} uploads are joined")
    distinct = list(dict.fromkeys(upload_ids))
    rows = read_together(*((UploadSession, upload_id, UploadSession.SESSION) for upload_id in distinct))
    found = {upload_id: sessions.visible(principal, upload_id, row) for upload_id, row in zip(distinct, rows, strict=True)}
    for upload_id, session in found.items():
        if session.kind != PARTIAL:
            raise InvalidRequest(f"upload {upload_id} is not a partial one")
        if session.status != DONE:
            raise UploadIncomplete(f"upload {upload_id} is not complete yet")
    return [found[upload_id] for upload_id in upload_ids]


def _key(partial: UploadSession) -> str:
    return str(partial.tail_key or partial.physical_key)


# ---- what becomes of which bytes -----------------------------------------------------------------------
def _filled(session: UploadSession) -> list[tuple[str, int]]:
    """Key and size of each source that has bytes."""
    return [(key, size) for key, size in session.sources if size]


def _pieces(session: UploadSession) -> list[Piece]:
    provider = parts.multipart(session)
    most = min(PART_BYTES, provider.max_part_bytes) if session.storage_id is None else REWRITTEN_BYTES
    return plan([size for _, size in _filled(session)], provider.min_part_bytes, most)


def plan(sizes: Sequence[int], minimum: int, most: int = PART_BYTES) -> list[Piece]:
    """The parts of an object made of sources of these sizes, each but the last of at least `minimum` bytes, and copies of at most `most`.

    A source is copied up to its end, in ranges that leave no rest below the minimum, unless it is itself below and
    others follow.
    """
    pieces: list[Piece] = []
    source, offset = 0, 0
    while source < len(sizes):
        left = sizes[source] - offset
        is_last = source == len(sizes) - 1
        if left >= minimum or is_last:
            length = left if left <= most else min(most, left - minimum)
            piece: Piece = (Range(source, offset, length),)
        else:
            piece = _gathered(sizes, source, offset, minimum)
        pieces.append(piece)
        source, offset = piece[-1].source, piece[-1].offset + piece[-1].length
        if offset == sizes[source]:
            source, offset = source + 1, 0
    return pieces


def _gathered(sizes: Sequence[int], source: int, offset: int, minimum: int) -> Piece:
    """Ranges from here on, to be read and written as one part of at least `minimum` bytes, if there are so many.

    Of a source that can be copied for the most part, only what is lacking is read.
    """
    ranges: list[Range] = []
    gathered, wanted = 0, max(minimum, REWRITTEN_BYTES)
    while source < len(sizes) and gathered < wanted:
        left = sizes[source] - offset
        length = min(left, (minimum if left >= 2 * minimum else wanted) - gathered)
        if length <= 0:
            break
        ranges.append(Range(source, offset, length))
        gathered, source, offset = gathered + length, source + 1, 0
        if length < left:
            break
    return tuple(ranges)


def _is_copied(session: UploadSession, piece: Piece) -> bool:
    """Whether the storage copies a piece by itself; partial uploads lie in the internal one."""
    return len(piece) == 1 and session.storage_id is None


def _store(provider: Multipart, session: UploadSession, multipart_id: str, number: int, piece: Piece) -> Part:
    keys = [key for key, _ in _filled(session)]
    if _is_copied(session, piece):
        only = piece[0]
        return provider.copy_part(session.physical_key, multipart_id, number, keys[only.source], only.offset, only.length)
    body = b"".join(providers.internal().read(keys[each.source], each.offset, each.length) for each in piece)
    return provider.upload_part(session.physical_key, multipart_id, number, body)


# ---- at once -------------------------------------------------------------------------------------------
def _join_now(session: UploadSession, pieces: Sequence[Piece]) -> UploadSession:
    if not pieces:
        return _land(session, [])
    provider = parts.multipart(session)
    session.multipart_id = provider.create_multipart(session.physical_key, session.content_type)
    return _land(session, [_store(provider, session, session.multipart_id, number, piece) for number, piece in enumerate(pieces, 1)])


def _land(session: UploadSession, made: Sequence[Part]) -> UploadSession:
    session.recent_parts = [f"{part.number}:{part.etag}" for part in made]
    still_open = UploadSession.fence == session.fence
    supply = uploads.assembling(session) if made else uploads.putting(b"", session.content_type)
    return uploads.land(session, supply, still_open, None if made else parts.checksum(session), session.upload_id)


# ---- by a job ------------------------------------------------------------------------------------------
def _join_later(principal: Principal, session: UploadSession, partials: Sequence[UploadSession]) -> UploadSession:
    """Leave it to a job, for which the partial uploads stay: they live on, and cannot be given up meanwhile."""
    job = jobs.new(JOB, principal, {"upload_id": session.upload_id})
    session.job_id = job.job_id
    for partial in {partial.upload_id: partial for partial in partials}.values():
        sessions.extend(partial, job.job_id)
    with Transaction() as transaction:
        transaction.put(session)
        transaction.put(job)
    jobs.wake(job.job_id)
    return session


def step(job: Job) -> Step:
    """Begin, store the next part, or end. Each can be repeated."""
    session = sessions.stored(job.task["upload_id"])
    if session is None or session.status != OPEN:
        if session is not None and session.status == DONE:
            return Step({}, int(session.total), int(session.total), finished=True)
        raise JobFailed("the upload was given up")
    checkpoint: dict[str, Any] = dict(job.checkpoint)
    provider, total = parts.multipart(session), int(session.total)
    if "multipart_id" not in checkpoint:
        multipart_id = provider.create_multipart(session.physical_key, session.content_type)
        return Step({"multipart_id": multipart_id, "etags": []}, 0, total)
    pieces, etags = _pieces(session), checkpoint["etags"]
    if len(etags) < len(pieces):
        piece = pieces[len(etags)]
        part = _store(provider, session, checkpoint["multipart_id"], len(etags) + 1, piece)
        return Step({**checkpoint, "etags": [*etags, part.etag]}, int(job.done) + sum(each.length for each in piece), total)
    session.multipart_id = checkpoint["multipart_id"]
    return _end(session, [Part(number, etag) for number, etag in enumerate(etags, 1)], checkpoint)


def _end(session: UploadSession, made: Sequence[Part], checkpoint: dict[str, Any]) -> Step:
    with jobs.refused_for_good():
        _land(session, made)
    return Step(checkpoint, int(session.total), int(session.total), finished=True)


def give_up(job: Job) -> None:
    """End the upload of a join that failed: the cleanup frees what it has stored."""
    session = sessions.stored(job.task["upload_id"])
    if session is not None and session.status == OPEN:
        try:
            sessions.end(session, TERMINATED)
        except ConditionFailed:
            return  # ended by somebody else
