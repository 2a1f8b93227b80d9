"""Files from elsewhere: what a URL answers is stored as a file, through the same engine as any upload.

Every address on the way, redirects included, is judged before it is asked (`outbound.py`). What counts are the bytes that come, not
those that are announced. The request fetches for some seconds; what takes longer is fetched anew by a job. Killed in between, either
leaves an unfinished upload, which the cleanup frees; the job remembers its upload, so that what has been stored is not stored again.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from chalicelib import outbound, seam
from chalicelib.access.permissions import Operation
from chalicelib.access.principals import Principal
from chalicelib.access.sealing import seal, unseal
from chalicelib.core import content, files, filing, jobs, limits, names, objects, sessions, uploads
from chalicelib.core.filing import UNCHANGED, Filing
from chalicelib.core.jobs import JobFailed, Step
from chalicelib.core.sessions import Wanted
from chalicelib.errors import ImportFailed, InvalidName, InvalidRequest, StowageError, TooLarge
from chalicelib.percent import percent_decoded
from chalicelib.settings import settings
from chalicelib.tables.buckets import FILES
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.uploads import UploadSession

JOB = "file.import"
MAX_BYTES = 100_000_000
# Seconds: of the 28 that a function lives, and for a job.
AT_ONCE = 15.0
WHOLE = 30.0
REDIRECTS = 5
# Of a tenant's: each holds one of the workers that all jobs share for half a minute.
SLOW_PER_MINUTE = 4
MAX_ATTEMPTS = 6
# Held twice in memory, and more than a part needs.
PIECE = 8 << 20


@dataclass(frozen=True, slots=True)
class Import:
    """What is to be fetched, and what it becomes. No `key` or `content_type`: what the URL, or its server, says.

    Without `upsert` an existing file is kept.
    """

    url: str
    key: str = ""
    content_type: str | None = None
    upsert: bool = True
    filing: Filing = UNCHANGED


class _TooSlow(Exception):
    """It takes longer than a request may; `content_type` is what its server has said until then."""

    def __init__(self) -> None:
        super().__init__("the URL takes longer than there is time")
        self.content_type: str | None = None


def begin(principal: Principal, wanted: Import) -> StoredObject | Job:
    """Fetch and store a file, or begin a job that does; gives its row, or the job.

    Raises ImportFailed, TooLarge, Throttled, InvalidRequest for a URL that must not be asked, and what storing a file raises.
    """
    files.require(principal, Operation.INSERT, Operation.UPDATE)
    outbound.check_url(wanted.url, "url")
    if wanted.content_type:
        content.check_type(wanted.content_type)
    wanted = replace(wanted, key=names.check_name_in(FILES, wanted.key or _key_of(wanted.url)))
    filing.check(principal, wanted.filing)
    _permit(principal, wanted.key, wanted.upsert)
    limits.take(principal.tenant_id, "imports", settings().imports_per_minute)
    try:
        return uploads.result(_fetch(principal, wanted, AT_ONCE))
    except _TooSlow as slow:
        limits.take(principal.tenant_id, "slow imports", SLOW_PER_MINUTE)
        task = {
            "url": seal(wanted.url, _record_of(principal.tenant_id)),
            "key": wanted.key,
            "content_type": wanted.content_type or slow.content_type,
            "upsert": wanted.upsert,
            "acl": wanted.filing.acl,
            "folder_id": wanted.filing.folder_id,
        }
        return jobs.start(JOB, principal, task)


def _record_of(tenant_id: str) -> str:
    """What a URL is sealed for while a job is to ask it: it may have been signed."""
    return f"imports/{tenant_id}/url"


def _permit(principal: Principal, key: str, upsert: bool) -> None:
    """Raise before anything is fetched where it is plain that nothing may be stored: what is there must not be replaced."""
    bucket, current = objects.read_current(principal, Operation.INSERT, FILES, key)
    if current is not None:
        objects.permit_upload(principal, bucket, current, current, upsert)


def _key_of(url: str) -> str:
    """The last part of a URL's path; raises InvalidName where there is none."""
    key = percent_decoded(urlsplit(url).path.rstrip("/").rpartition("/")[2])
    if not key:
        raise InvalidName("the URL names no file; say which key it is to have")
    return key


# ---- fetching ------------------------------------------------------------------------------------------
@contextmanager
def _asking(url: str, seconds: float) -> Iterator[outbound.Response]:
    """What a URL answers; raises _TooSlow when it takes longer, ImportFailed when it is nothing to store."""
    with outbound.within(seconds) as deadline:
        try:
            with outbound.following(url, REDIRECTS) as response:
                if response.length is not None and response.length > MAX_BYTES:
                    raise _too_large()
                yield response
        except (outbound.Refused, outbound.Unreachable) as error:
            if deadline.is_over:
                raise _TooSlow from error
            raise ImportFailed(f"the URL cannot be fetched: {error}") from error


def _too_large() -> TooLarge:
    return TooLarge(f"at most {MAX_BYTES} bytes are fetched from a URL, and these are more", limit=MAX_BYTES)


def _told(wanted: Import, response: outbound.Response) -> Wanted:
    """What the file is to be, as far as it is known before its bytes are."""
    declared = wanted.content_type or response.content_type
    try:
        content_type = content.declared_type(declared, wanted.key)
    except InvalidRequest:  # the server says something, but no media type
        content_type = content.declared_type("", wanted.key)
    return Wanted(FILES, wanted.key, content_type, upsert=wanted.upsert, filing=wanted.filing)


def _fetch(principal: Principal, wanted: Import, seconds: float, begun: UploadSession | None = None) -> UploadSession:
    """Fetch and store; gives the upload that it became. One that fails, and that `begun` is not, is given up at once."""
    session, offset, told, is_declared = begun, 0, None, False
    upload_id = seam.new_version() if begun is None else str(begun.upload_id)
    try:
        with _asking(wanted.url, seconds) as response:
            told, is_declared = _told(wanted, response), bool(response.content_type)
            for piece, is_last in _with_their_end(response.pieces(PIECE)):
                if offset + len(piece) > MAX_BYTES:
                    raise _too_large()
                total = offset + len(piece) if is_last else None
                with outbound.aside():
                    if session is None:
                        session = uploads.begin(principal, sessions.OBJECT, replace(told, total=total), piece, upload_id)
                    else:
                        session = uploads.append(principal, upload_id, offset, piece, total)
                offset += len(piece)
    except Exception as error:
        if begun is None:
            _give_up(principal, upload_id)
        if isinstance(error, _TooSlow) and told is not None and is_declared:
            error.content_type = told.content_type
        raise
    if session is None:
        raise AssertionError("there is always a piece")
    return session


def _with_their_end(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each piece, and whether it is the last; at least one, empty if there is nothing."""
    piece = next(pieces, b"")
    for following in pieces:
        yield piece, False
        piece = following
    yield piece, True


def _give_up(principal: Principal, upload_id: str) -> None:
    with suppress(StowageError):  # the cleanup frees it
        uploads.terminate(principal, upload_id)


# ---- the job -------------------------------------------------------------------------------------------
def step(job: Job) -> Step:
    """Begin an upload, of the type that the URL's server says, or fetch into it. An upload that was cut off is begun anew."""
    principal, task = Principal.restored(job.task["principal"]), job.task
    chosen = filing.standing(job.tenant_id, Filing(task["acl"], task["folder_id"]))
    wanted = Import(unseal(task["url"], _record_of(job.tenant_id)), task["key"], task["content_type"], task["upsert"], chosen)
    try:
        with jobs.refused_for_good():
            begun = sessions.stored(job.checkpoint["upload_id"]) if "upload_id" in job.checkpoint else None
            if begun is not None and begun.status == sessions.DONE:
                return Step(dict(job.checkpoint), int(begun.total), int(begun.total), finished=True)
            if begun is None or begun.status != sessions.OPEN or begun.offset or begun.lease_until:
                attempts = int(job.checkpoint.get("attempts", 0)) + 1
                if attempts > MAX_ATTEMPTS:
                    raise JobFailed("it failed repeatedly; the log has the cause")
                began = seam.timestamp()
                upload_id = _begin_anew(principal, wanted, begun)
                return Step({"upload_id": upload_id, "attempts": attempts, "seconds": seam.timestamp() - began}, 0)
            done = _fetch(principal, wanted, WHOLE - job.checkpoint["seconds"], begun)
            return Step(dict(job.checkpoint), int(done.total), int(done.total), finished=True)
    except _TooSlow as error:
        raise JobFailed(f"the URL takes longer than {WHOLE:.0f} seconds") from error


def _begin_anew(principal: Principal, wanted: Import, cut_off: UploadSession | None) -> str:
    if cut_off is not None:
        _give_up(principal, cut_off.upload_id)
    if wanted.content_type is not None:
        told = Wanted(FILES, wanted.key, wanted.content_type, upsert=wanted.upsert, filing=wanted.filing)
    else:
        with _asking(wanted.url, WHOLE) as response:
            told = _told(wanted, response)
    return str(uploads.begin(principal, sessions.OBJECT, told).upload_id)


def give_up(job: Job) -> None:
    """Free what a job that failed has stored."""
    if "upload_id" in job.checkpoint:
        _give_up(Principal.restored(job.task["principal"]), job.checkpoint["upload_id"])
