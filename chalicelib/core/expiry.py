"""Uploads whose time is over: what they hold in the storage goes, finished or not.

Sessions are found by the hour in which they expire. One that is not finished is closed first, under the fence that
the cleanup saw: from then on no writer can add to it and nobody can complete it. Then its multipart uploads are
aborted, whatever lies in its staging is deleted (no row ever names that), and what may lie at its physical key is filed
as garbage. The row leaves the index last, so a run that dies in between is repeated; it stays for a week to tell
that the upload has expired.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from chalicelib import providers, seam
from chalicelib.core import garbage, hours, keeping, names, sessions
from chalicelib.core.patience import Patience
from chalicelib.core.sessions import CHUNKED, DONE, EXPIRED, OPEN, PARTIAL
from chalicelib.errors import StorageRemoved, StorageUnavailable, StowageError
from chalicelib.observability import logger
from chalicelib.providers import Multipart
from chalicelib.providers.failures import Failure
from chalicelib.tables.table import ConditionFailed, write_all
from chalicelib.tables.uploads import PartsPage, UploadSession

CURSOR = "uploads"
MAX_TAILS = 50_000


@dataclass(slots=True)
class Report:
    """What a run did, in uploads; `tails` keys deleted from staging, `aborted` multipart uploads, `left` to a later run."""

    due: int = 0
    expired: int = 0
    freed: int = 0
    tails: int = 0
    aborted: int = 0
    left: int = 0
    finished: bool = True
    failures: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def collect(seconds_left: Callable[[], float], dry_run: bool = False, patience: Patience | None = None) -> Report:
    """Free what expired uploads hold, oldest hour first, until it is done or time runs out; or only count them."""
    report, patience = Report(), patience or Patience()
    for item in hours.due(CURSOR, UploadSession, dry_run):
        if seconds_left() <= 0:
            report.finished = False
            return report
        _look_at(item["upload_id"]["S"], report, dry_run, patience)
    return report


def _look_at(upload_id: str, report: Report, dry_run: bool, patience: Patience) -> None:
    session = sessions.stored(upload_id)
    if session is None or session.expiry_hour is None or session.expires_at > seam.timestamp():
        return  # freed already, or it went on: it is in the index under another hour by now
    report.due += 1
    if dry_run:
        return
    if not patience.has_for(session):
        report.left += 1
        _later(session)
        return
    try:
        with patience.asking(session):
            _free(session, report)
    except (ConditionFailed, StowageError) as error:
        logger().warning("an expired upload was left to the next run", extra={"upload_id": upload_id, "error": repr(error)})
        report.failures[upload_id] = error.code if isinstance(error, StowageError) else "Busy"
        report.left += 1
        _later(session)


def _later(session: UploadSession) -> None:
    row = UploadSession(session.upload_id, UploadSession.SESSION)
    hours.later(row, UploadSession.expiry_hour == session.expiry_hour)


def _free(session: UploadSession, report: Report) -> None:
    looks = _may_hold_more(session)
    if session.status == OPEN:
        _close(session)
        report.expired += 1
    elif session.kind == PARTIAL and session.status == DONE:
        sessions.end(session, EXPIRED)  # a join that needs it would have extended it
    provider = _provider(session)
    if looks and provider is not None:
        _clear(provider, session, report)
    if session.partition and session.status != DONE:
        filed = garbage.entry(
            session.partition, str(session.name), session.upload_id, session.physical_key, seam.timestamp(), session.storage_id
        )
        garbage.file_all([filed])
    pages = [(PartsPage, {"DeleteRequest": {"Key": PartsPage.key(page.upload_id, page.item)}}) for page in sessions.pages(session)]
    write_all(pages)
    session.change([UploadSession.expiry_hour.remove()], UploadSession.fence == session.fence)
    report.freed += 1


def _clear(provider: providers.Provider, session: UploadSession, report: Report) -> None:
    """Abort and delete. A tenant's storage that denies it keeps what it has: asking again would not help."""
    try:
        if isinstance(provider, Multipart):
            report.aborted += provider.abort_all(session.physical_key)
        report.tails += _empty(provider, names.staging_prefix(session.upload_id))
    except StorageUnavailable as error:
        if session.storage_id is None or error.reason != Failure.ACCESS_DENIED:
            raise


def _provider(session: UploadSession) -> providers.Provider | None:
    """Where the bytes lie, None if the storage's record is gone, and with it the right to touch them."""
    try:
        return keeping.holding(session)
    except StorageRemoved:
        return None


def _may_hold_more(session: UploadSession) -> bool:
    """Whether there may be anything in the storage beside the object that the upload became."""
    unfinished = session.status != DONE and (session.multipart_id is not None or session.kind not in CHUNKED)
    return bool(session.litter or session.lease_until or unfinished or session.kind == PARTIAL)


def _close(session: UploadSession) -> None:
    """Raise ConditionFailed, unless nobody is writing to the session, and from now on nobody can."""
    if session.lease_until > seam.timestamp():
        raise ConditionFailed(session)
    sessions.end(session, EXPIRED)


def _empty(provider: providers.Provider, prefix: str) -> int:
    # A chunk's tail goes with the next, so there are few; whatever a server may list, no more is taken at its word.
    keys = [listed.key for listed in islice(provider.list(prefix), MAX_TAILS) if listed.key.startswith(prefix)]
    left = provider.delete(keys) if keys else {}
    if left:
        raise garbage.not_deleted(left)
    return len(keys)
