"""Uploads in chunks: one engine for TUS, resumable uploads and uploads that are joined.

    begun → chunk by chunk, each by one claim and one commit → all bytes there → an object

A small upload goes to its physical key whole, with its last chunk, and row and session change in one transaction.
A larger one first commits its last part: from then on its parts are fixed, whoever asks next can finish it, and
everyone who does makes the same object. Either way the session is done in the transaction that writes the row, so
nothing that is replayed brings back an object that was overwritten or deleted since. Killed before a commit, an
upload goes on where it was acknowledged; killed after the last one, `head` finishes it.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace

from pynamodb.expressions.condition import Condition

from chalicelib import seam
from chalicelib.access.permissions import Operation, bucket_not_found, require_any, require_credential
from chalicelib.access.principals import Principal, Role
from chalicelib.core import buckets, checksums, content, filing, garbage, jobs, keeping, names, objects, parts, sessions
from chalicelib.core.objects import Companion
from chalicelib.core.sessions import DONE, EXPIRED, OBJECT, OPEN, PARTIAL, RESUMABLE, TERMINATED, Wanted
from chalicelib.errors import (
    BytesMissing,
    Forbidden,
    IntegrityFailed,
    ObjectExists,
    StowageError,
    TooLarge,
    UploadExpired,
    UploadIncomplete,
    UploadLocked,
    UploadNotFound,
    UploadSettled,
)
from chalicelib.providers import Multipart
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import ConditionFailed, Transaction
from chalicelib.tables.uploads import UploadSession

RETRY_AFTER_JOIN = 60  # seconds

Supply = Callable[[StoredObject, bool], bytes]
"""Has the bytes lie where a row says; gives the first of them, which it may leave out when it is told that nobody looks."""


class _Done(Exception):
    """Another request has finished the upload, and this is its session now."""

    def __init__(self, session: UploadSession) -> None:
        super().__init__("the upload was finished by another request")
        self.session = session


# ---- beginning -----------------------------------------------------------------------------------------
def begin(principal: Principal, kind: str, wanted: Wanted, chunk: bytes = b"", upload_id: str | None = None) -> UploadSession:
    """Begin an upload, with its first bytes if they are here; gives the session, under an id of its own unless one was chosen.

    Raises what an upload of the object would, by what is known of it: the policies are asked again at its end.
    """
    session = _new(principal, kind, wanted, upload_id or seam.new_version())
    limit = parts.largest() if wanted.total is None else wanted.total
    if len(chunk) > limit:
        raise TooLarge(f"this upload has at most {limit} bytes, and these are more", limit=limit)
    holding = bool(chunk) or wanted.total == 0
    if holding:
        sessions.hold(session)
    sessions.put(session)
    return _take(session, chunk) if holding else session


def _new(principal: Principal, kind: str, wanted: Wanted, upload_id: str) -> UploadSession:
    """The session of an upload that may begin. Its id is the version that a large object gets."""
    if (wanted.total or 0) > parts.largest():
        raise parts.too_large()
    if kind == PARTIAL:
        _permit_partial(principal, wanted)
        wanted = replace(wanted, bucket="", name="")
        return sessions.without_object(principal, kind, wanted, upload_id, f"{names.staging_prefix(upload_id)}whole")
    return sessions.new(principal, kind, wanted, upload_id, prospect(principal, wanted, upload_id))


def _permit_partial(principal: Principal, wanted: Wanted) -> None:
    """Raise, unless the principal is somebody, or names the bucket that lets anybody upload."""
    require_credential(principal, False)
    if wanted.bucket:
        prospect(principal, replace(wanted, total=None), seam.new_version())
    elif not principal.is_service and principal.role is not Role.USER:
        raise Forbidden("with this key a partial upload names its bucket and filename in Upload-Metadata, as the final one does")


def prospect(principal: Principal, wanted: Wanted, version: str, direct: bool = False, checksum: str | None = None) -> StoredObject:
    """The row that an upload is to become, if the principal may; raises as an upload does. `checksum` if it is promised.

    Of an object whose size is not known yet, only who could upload nothing at all is refused.
    """
    names.check_name_in(wanted.bucket, wanted.name)
    bucket, current = objects.read_current(principal, Operation.INSERT, wanted.bucket, wanted.name)
    row = objects.new_row(principal, bucket, wanted.name, wanted.content_type, wanted.user_metadata, version, direct)
    if wanted.total is None:
        require_any(principal, (Operation.INSERT, Operation.UPDATE), bucket)
        if current and not wanted.upsert:
            raise ObjectExists(f"there is an object {row.name} in bucket {bucket.name} already")
    else:
        row.size, row.checksum = wanted.total, checksum
        objects.permit_upload(principal, bucket, row, current, wanted.upsert)
        objects.check_size(bucket, wanted.total)
    filing.check(principal, wanted.filing)
    content.check_allowed(bucket, wanted.content_type, b"")
    return row


# ---- bytes ---------------------------------------------------------------------------------------------
def append(principal: Principal, upload_id: str, offset: int, chunk: bytes, total: int | None = None) -> UploadSession:
    """Take the bytes from `offset` on; the last of them completes an upload that is to become an object by itself.

    Raises UploadNotFound, UploadExpired, OffsetMismatch, TooLarge, UploadLocked, UploadSettled, and at the end what an
    upload of the object raises. Whatever it raises, the upload goes on at the offset that `head` tells.
    """
    if not chunk and total is None:  # nothing to take, but the end may be missing
        session = sessions.find(principal, upload_id)
        sessions.check(session, offset, 0, None, repeated=True)
        return _with_its_end(session)
    limit = parts.largest() if total is None else min(total, parts.largest())
    if max(offset + len(chunk), total or 0) > limit:
        sessions.check(sessions.find(principal, upload_id), offset, 0, None)
        raise TooLarge(f"this upload has at most {limit} bytes, and these go beyond", limit=limit)
    return _take(sessions.claim(principal, upload_id, offset, len(chunk), total), chunk)


def _take(session: UploadSession, chunk: bytes) -> UploadSession:
    last = session.total is not None and session.offset + len(chunk) == session.total
    touched = False
    try:
        if not session.offset and session.bucket:
            bucket = buckets.recent(session.tenant_id, session.bucket)
            content.check_allowed(bucket, session.content_type, chunk[: content.SNIFFED_BYTES])  # not after gigabytes
        touched = True
        if last and session.kind == OBJECT and not session.multipart_id:
            return _store_whole(session, chunk)
        with _over_if_lost(session):
            changes = parts.store(session, chunk, last)
        sessions.commit(session, changes)
    except Exception:
        sessions.release(session, touched)
        raise
    return _finish(session) if last and session.kind != RESUMABLE else session


@contextmanager
def _over_if_lost(session: UploadSession) -> Iterator[None]:
    """End an upload whose stored bytes are not there any more, so that its client begins anew and does not try for ever."""
    try:
        yield
    except BytesMissing as error:
        with suppress(ConditionFailed):  # ended or taken over meanwhile: it was another's to lose
            sessions.end(session, EXPIRED)
        raise UploadExpired("the storage no longer has what this upload had stored; begin a new one") from error


def head(principal: Principal, upload_id: str) -> UploadSession:
    """How far an upload is. One that lacks nothing but its end, because a process died right there, is finished first."""
    return _with_its_end(sessions.find(principal, upload_id))


def _with_its_end(session: UploadSession) -> UploadSession:
    return _finish(session) if sessions.is_whole(session) and session.kind != RESUMABLE else session


def complete(principal: Principal, upload_id: str, checksum: str | None) -> UploadSession:
    """Make the object of an upload whose bytes are all there; again, it gives the same.

    `checksum` is the SHA-256 in hex of all bytes. Raises UploadIncomplete, IntegrityFailed, and what an upload of the
    object raises; then nothing has changed.
    """
    session = sessions.find(principal, upload_id)
    if session.kind not in (OBJECT, RESUMABLE):
        raise UploadSettled("this upload is not completed by this route")
    if session.status != DONE and not sessions.is_whole(session):
        missing = "its size is not known yet" if session.total is None else f"{int(session.total - session.offset)} bytes are missing"
        raise UploadIncomplete(f"this upload is not complete: {missing}", offset=int(session.offset))
    known = session.result["checksum"] if session.status == DONE else parts.checksum(session)
    if checksum and known is None:
        raise UploadIncomplete("uploads are hashed afterwards here; complete it without a checksum, and compare that of the object later")
    if checksum and known != checksum:
        raise IntegrityFailed("the bytes that arrived have another SHA-256", checksum=known)
    return session if session.status == DONE else _finish(session)


# ---- the end -------------------------------------------------------------------------------------------
def _store_whole(session: UploadSession, chunk: bytes) -> UploadSession:
    """The end of a small upload, by the writer that holds it: under a version that no other writer uses."""
    with _over_if_lost(session):
        body = parts.whole(session, chunk)
    checksum = hashlib.sha256(body).hexdigest()
    landed = land(session, putting(body, session.content_type), sessions.held(session), checksum)
    if landed is not session:  # done, but with the bytes of whoever took over
        raise sessions.taken_over()
    return landed


def _finish(session: UploadSession) -> UploadSession:
    """The end of an upload whose bytes are all committed, by whoever comes by."""
    unchanged: Condition = UploadSession.offset == session.offset
    with _over_if_lost(session):
        if session.kind == PARTIAL:
            return _finish_partial(session)
        if session.multipart_id:
            return land(session, assembling(session), unchanged, parts.checksum(session), session.upload_id)
        return land(session, putting(parts.whole(session, b""), session.content_type), unchanged, parts.checksum(session))


def _finish_partial(session: UploadSession) -> UploadSession:
    if session.multipart_id:
        parts.multipart(session).complete_multipart(session.physical_key, session.multipart_id, parts.all_of(session))
    try:
        sessions.end(session, DONE)
    except ConditionFailed as failed:
        return _ended_by_another(session, failed.row)
    return session


def _ended_by_another(session: UploadSession, row: UploadSession | None) -> UploadSession:
    if row is not None and row.status == DONE:
        return row
    if row is not None and row.status == EXPIRED:
        raise UploadExpired(f"upload {session.upload_id} has expired; begin a new one")
    if row is not None and row.status == OPEN:
        raise sessions.locked(row)
    raise UploadNotFound(f"there is no upload {session.upload_id}")


def putting(body: bytes, content_type: str) -> Supply:
    """Stores the bytes at hand."""

    def supply(row: StoredObject, is_looked_at: bool) -> bytes:
        keeping.holding(row).put(row.physical_key, body, content_type)
        return body[: content.SNIFFED_BYTES]

    return supply


def assembling(session: UploadSession) -> Supply:
    """Has the storage make the object of the parts that the session names."""

    def supply(row: StoredObject, is_looked_at: bool) -> bytes:
        parts.multipart(session).complete_multipart(row.physical_key, session.multipart_id, parts.all_of(session))
        stored = keeping.holding(row).stat(row.physical_key)
        if stored is None or stored.size != row.size:
            raise BytesMissing("the storage has made another object of the parts than they are")
        return objects.read(row, 0, min(int(row.size), content.SNIFFED_BYTES)) if is_looked_at else b""

    return supply


def land(session: UploadSession, supply: Supply, condition: Condition, checksum: str | None, version: str | None = None) -> UploadSession:
    """Make the object of an upload: its bytes by `supply`, then its row and the session's end in one transaction.

    `condition` is what else must hold of the session. Without a `version` of its own the object gets one that nobody
    else can write to. Without a `checksum` a job reads the bytes for it. Gives the session; another one, if the upload
    was done meanwhile with another version.
    """
    principal = Principal.restored(session.principal)
    bucket, current = objects.read_current(principal, Operation.INSERT, session.bucket, session.name)
    if bucket.partition != session.partition:  # deleted, and its name taken anew
        raise bucket_not_found(bucket.name)
    direct = session.kind == sessions.DIRECT
    row = objects.new_row(principal, bucket, session.name, session.content_type, session.user_metadata, version, direct)
    row.size, row.checksum = int(session.total), checksum
    job = checksums.job_for(principal, row)
    try:
        objects.permit_upload(principal, bucket, row, current, session.upsert)
        objects.check_size(bucket, row.size)
        with nullcontext() if version else garbage.filed_on_failure(row):
            start = supply(row, bucket.allowed_mime_types is not None)
            content.check_allowed(bucket, session.content_type, start)
            settling = _settling(session, condition, job)
            objects.flip(principal, bucket, row, current, session.upsert, settling, sessions.filing_of(session))
    except _Done as done:
        return _as_done(session, row, done.session)
    except StowageError:
        met = sessions.stored(session.upload_id)
        if met is None or met.status != DONE:
            raise
        return _as_done(session, row, met)  # refused what another request has just done
    if job:
        jobs.wake(job.job_id)
    session.status, session.offset, session.result = DONE, session.total, row.attribute_values
    return session


def _as_done(session: UploadSession, row: StoredObject, met: UploadSession) -> UploadSession:
    """The session that another request, or this one before an answer was lost, has closed; this very one, if with this version."""
    if met.result["version"] != row.version:
        return met
    session.status, session.offset, session.result = DONE, session.total, met.result
    return session


def _settling(session: UploadSession, condition: Condition, job: Job | None) -> Companion:
    def add(transaction: Transaction, row: StoredObject) -> None:
        sessions.settle(transaction, session, row.attribute_values, condition)
        if job:
            transaction.put(job)

    def refused(met: UploadSession | None) -> Exception:
        try:
            return _Done(_ended_by_another(session, met))
        except StowageError as error:
            return error

    return Companion(add, refused)


def terminate(principal: Principal, upload_id: str) -> None:
    """Give up an upload and free what it holds; the rest goes with the next cleanup. Raises UploadSettled, UploadLocked."""
    session = sessions.find(principal, upload_id)
    if session.status == DONE and session.kind != PARTIAL:
        raise UploadSettled("this upload is complete; delete the object instead")
    if session.status == DONE and session.job_id and jobs.is_pending(session.job_id):
        raise UploadLocked("this upload is being joined with others; try again later", RETRY_AFTER_JOIN)
    if session.lease_until > seam.timestamp():
        raise sessions.locked(session)
    try:
        sessions.end(session, TERMINATED)
    except ConditionFailed as failed:
        if failed.row is None or failed.row.status != TERMINATED:
            raise UploadLocked("another request is at work on this upload; try again shortly", 1) from failed
    with suppress(StowageError):  # the cleanup looks again
        provider = keeping.holding(session)
        if session.multipart_id and isinstance(provider, Multipart):
            provider.abort_multipart(session.physical_key, session.multipart_id)


def result(session: UploadSession) -> StoredObject:
    """The object that an upload became, as it was then."""
    return StoredObject(**session.result)
