"""Upload sessions: whose an upload is, who is writing to it, how far it has come, and until when.

A writer claims the session, which gives it a lease of 35 s (a function lives 28) and the next fence; every later
write of its is conditional on that fence. So a writer that was thought dead can change nothing: the part number and
the key that it was writing to were its alone. Who takes over after a lease that ran out skips that number and marks
the session as littered, for the cleanup to look for what the session does not name.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from chalicelib import seam
from chalicelib.access.permissions import require_credential
from chalicelib.access.principals import Principal
from chalicelib.core import names
from chalicelib.core.filing import UNCHANGED, Filing
from chalicelib.errors import (
    Forbidden,
    InvalidRequest,
    OffsetMismatch,
    StowageError,
    TooLarge,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
    UploadSettled,
)
from chalicelib.tables.buckets import FILES
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import ConditionFailed, Transaction, TransactionFailed, tries
from chalicelib.tables.uploads import PARTS_PER_PAGE, PartsPage, UploadSession

OPEN, DONE, EXPIRED, TERMINATED = "open", "done", "expired", "terminated"
# What an upload becomes: an object with its last byte (TUS), or when it is asked to (resumable); a part of another
# upload (partial), such a join itself (joined); an object that the client puts by itself (direct).
OBJECT, RESUMABLE, PARTIAL, JOINED, DIRECT = "object", "resumable", "partial", "joined", "direct"
CHUNKED = (OBJECT, RESUMABLE, PARTIAL)
# Seconds.
LEASE = 35
LIFETIME = 24 * 3600
REMEMBERED = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an upload is to become. `total` bytes, None: not known yet; `user_metadata` JSON text.

    `label` and `concatenation` are a TUS client's own headers, to be given back; `filing` is for files.
    """

    bucket: str
    name: str
    content_type: str
    user_metadata: str | None = None
    upsert: bool = True
    total: int | None = None
    label: str | None = None
    concatenation: str | None = None
    filing: Filing = UNCHANGED


def new(principal: Principal, kind: str, wanted: Wanted, upload_id: str, row: StoredObject) -> UploadSession:
    """A session that is not stored yet, for an upload that is to become `row`."""
    session = without_object(principal, kind, wanted, upload_id, row.physical_key)
    session.partition, session.storage_id = row.partition, row.storage_id
    session.acl, session.folder_id = wanted.filing.acl, wanted.filing.folder_id
    if wanted.bucket == FILES:
        session.files_key, session.files_of_creator_key = session.tenant_id, creators_key(principal)
    return session


def filing_of(session: UploadSession) -> Filing:
    """What was chosen for a file."""
    return Filing(session.acl, session.folder_id)


def without_object(principal: Principal, kind: str, wanted: Wanted, upload_id: str, physical_key: str) -> UploadSession:
    """The same for an upload that becomes no object by itself. Its bytes lie in the internal storage."""
    return UploadSession(
        upload_id,
        tenant_id=principal.tenant_id,
        creator=_creator(principal),
        principal=principal.snapshot(),
        kind=kind,
        status=OPEN,
        bucket=wanted.bucket or None,
        name=wanted.name or None,
        content_type=wanted.content_type,
        user_metadata=wanted.user_metadata,
        upsert=wanted.upsert,
        label=wanted.label,
        concatenation=wanted.concatenation,
        total=wanted.total,
        physical_key=physical_key,
        created_at=seam.iso(seam.now()),
        **_lasting(),
    )


def put(session: UploadSession) -> None:
    """Store a new session."""
    with suppress(ConditionFailed):  # the id is random: what stands there is this session, put before an answer was lost
        session.put(UploadSession.upload_id.does_not_exist())


def _lasting() -> dict[str, Any]:
    """A session's end, counted from now."""
    ends = seam.timestamp() + LIFETIME
    return {"expires_at": ends, "expiry_hour": seam.hour(ends), "forget_at": int(ends + REMEMBERED)}


def creators_key(principal: Principal) -> str:
    """Where the index of uploads of files has those of one creator."""
    return f"{principal.tenant_id}#{_creator(principal)}"


def _creator(principal: Principal) -> str:
    return f"{principal.role.value}:{principal.uid or ''}"


# ---- who may use it ------------------------------------------------------------------------------------
def stored(upload_id: str) -> UploadSession | None:
    """The session as it stands, whoever asks."""
    return UploadSession.read(upload_id, UploadSession.SESSION)


def find(principal: Principal, upload_id: str) -> UploadSession:
    """The session as it stands, for who began it or the service key; raises UploadNotFound, UploadExpired."""
    return visible(principal, upload_id, stored(upload_id) if names.is_version(upload_id) else None)


def visible(principal: Principal, upload_id: str, session: UploadSession | None, is_history: bool = False) -> UploadSession:
    """The session, if the principal may know of it; raises UploadNotFound, UploadExpired, and Unauthorized for nobody.

    `is_history`: one that is done is shown even when it can be asked for nothing any more.
    """
    if session is None or session.tenant_id != principal.tenant_id or session.status == TERMINATED or not _is_own(principal, session):
        require_credential(principal, False)
        raise UploadNotFound(f"there is no upload {upload_id[:64]}")
    if has_expired(session) and not (is_history and session.status == DONE):
        raise UploadExpired(f"upload {upload_id} has expired; begin a new one")
    return session


def _is_own(principal: Principal, session: UploadSession) -> bool:
    return principal.is_service or session.creator == _creator(principal)


def is_whole(session: UploadSession) -> bool:
    """Whether all bytes are there, and only the end is missing."""
    return bool(session.status == OPEN and session.kind in CHUNKED and session.total is not None and session.offset == session.total)


def has_expired(session: UploadSession) -> bool:
    return bool(session.status == EXPIRED or session.expires_at <= seam.timestamp())


# ---- the lease -----------------------------------------------------------------------------------------
def hold(session: UploadSession) -> None:
    """Have a session that is not stored yet begin with its writer."""
    session.fence, session.holder, session.lease_until = 1, seam.new_token(9), seam.timestamp() + LEASE


def claim(principal: Principal, upload_id: str, offset: int, length: int, total: int | None = None) -> UploadSession:
    """Become the writer of the `length` bytes from `offset` on, in one write; gives the session.

    `total` tells the size of an upload that began without; it counts from the commit on. Raises what `check` finds, and
    UploadLocked when another is writing.
    """
    if not names.is_version(upload_id):
        visible(principal, upload_id, None)
    holder = seam.new_token(9)
    for _ in tries(f"upload {upload_id} is busy; try again shortly"):
        session = UploadSession(upload_id, UploadSession.SESSION)
        try:
            session.change(_claiming(holder), _claimable(principal, offset, length, total))
            return _told(session, total)
        except ConditionFailed as failed:
            met = visible(principal, upload_id, failed.row)
        if met.holder == holder and met.lease_until:
            return _told(met, total)  # ours: the answer to an earlier attempt was lost
        check(met, offset, length, total)
        if met.lease_until > seam.timestamp():
            raise locked(met)
        if met.lease_until and _take_over(met, holder):
            return _told(met, total)
    raise AssertionError("tries() ends by raising")


def _told(session: UploadSession, total: int | None) -> UploadSession:
    session.total = session.total if total is None else total
    return session


def _claiming(holder: str) -> list[Action]:
    return [
        UploadSession.fence.set(UploadSession.fence + 1),
        UploadSession.holder.set(holder),
        UploadSession.lease_until.set(seam.timestamp() + LEASE),
    ]


def _claimable(principal: Principal, offset: int, length: int, total: int | None) -> Condition:
    """That nothing stands in the way; what does is worked out from the row that is met."""
    fits: Condition = UploadSession.total >= offset + length
    unknown: Condition = UploadSession.total.does_not_exist()
    condition: Condition = (
        (UploadSession.tenant_id == principal.tenant_id)
        & (UploadSession.status == OPEN)
        & (UploadSession.offset == offset)
        & (UploadSession.lease_until == 0)
        & (UploadSession.expires_at > seam.timestamp())
        & UploadSession.kind.is_in(*CHUNKED)
        & (unknown | fits if total is None else unknown | (UploadSession.total == total))
    )
    return condition if principal.is_service else condition & (UploadSession.creator == _creator(principal))


def check(session: UploadSession, offset: int, length: int, total: int | None, repeated: bool = False) -> None:
    """Raise what keeps bytes from being added at `offset`: UploadSettled, Forbidden, InvalidRequest, OffsetMismatch, TooLarge.

    `repeated`: that it is complete already is no obstacle.
    """
    if session.kind == JOINED:  # TUS 1.0.0, Concatenation
        raise Forbidden("this upload takes no chunks: its bytes come from other uploads")
    if session.kind == DIRECT:
        raise UploadSettled("this upload takes no chunks: its bytes go to the storage directly")
    if session.offset != offset:
        raise OffsetMismatch(f"this upload goes on at byte {int(session.offset)}, not {offset}", offset=int(session.offset))
    if total is not None and session.total is not None and session.total != total:
        raise InvalidRequest(f"this upload has {int(session.total)} bytes, which cannot be changed")
    if session.total is not None and offset + length > session.total:
        raise TooLarge(f"this upload has {int(session.total)} bytes, and these go beyond", limit=int(session.total))
    if session.status == DONE and not repeated:
        raise UploadSettled("this upload is complete")


def _take_over(session: UploadSession, holder: str) -> bool:
    """Follow a writer whose lease ran out: the number that it may have used is not used again."""
    skipped = [UploadSession.next_part.set(session.next_part + 1), UploadSession.litter.set(True)]
    unheld = (UploadSession.fence == session.fence) & (UploadSession.lease_until == session.lease_until) & (UploadSession.status == OPEN)
    try:
        session.change([*_claiming(holder), *skipped], unheld)
    except ConditionFailed:
        return False
    return True


def commit(session: UploadSession, changes: dict[str, Any]) -> None:
    """Store what a writer has reached, and let go of the session; raises UploadLocked when it was taken over."""
    changes = changes | _lasting() | {"total": session.total, "lease_until": 0}
    overflow = changes.get("recent_parts", ())
    if len(overflow) >= PARTS_PER_PAGE:
        changes |= {"recent_parts": [], "part_pages": session.part_pages + 1}
        item = f"{PartsPage.PREFIX}{int(changes['part_pages']):05d}"
        page = PartsPage(session.upload_id, item, parts=overflow)
        _commit_with(session, changes, page)
    else:
        _commit(session, changes)


def _commit(session: UploadSession, changes: dict[str, Any]) -> None:
    fence, holder = session.fence, session.holder
    try:
        session.change(UploadSession.setting(changes), held(session))
    except ConditionFailed as failed:
        if failed.row is None or (failed.row.fence, failed.row.holder, failed.row.lease_until) != (fence, holder, 0):
            raise taken_over() from failed
        session.attribute_values.update(failed.row.attribute_values)  # ours: the answer to an earlier attempt was lost


def _commit_with(session: UploadSession, changes: dict[str, Any], page: PartsPage) -> None:
    for _ in tries(f"upload {session.upload_id} is busy; try again shortly"):
        try:
            with Transaction() as transaction:
                transaction.put(page)
                transaction.change(session, UploadSession.setting(changes), held(session))
            session.attribute_values.update(changes)
            return
        except TransactionFailed as failed:
            if not failed.conflict:
                raise taken_over() from failed


def release(session: UploadSession, touched: bool) -> None:
    """Let go of a session after a failure. What may have been written to is left to the cleanup, and not used again."""
    changes: dict[str, Any] = {"lease_until": 0}
    if touched:
        changes |= {"next_part": session.next_part + 1, "litter": True}
    try:
        session.change(UploadSession.setting(changes), held(session))
    except (ConditionFailed, StowageError):
        return  # taken over meanwhile, or the lease runs out by itself: the failure that led here matters more


def held(session: UploadSession) -> Condition:
    """That this writer still is the session's."""
    condition: Condition = (UploadSession.fence == session.fence) & (UploadSession.status == OPEN) & (UploadSession.lease_until > 0)
    return condition


def locked(session: UploadSession) -> UploadLocked:
    """What to raise while another is writing to the session."""
    return UploadLocked("another request is writing to this upload; try again shortly", session.lease_until - seam.timestamp())


def taken_over() -> UploadLocked:
    """What to raise for a writer whose session is another's by now."""
    return UploadLocked("another request has taken over this upload; ask for its offset and go on there", 1)


def note_multipart(session: UploadSession, multipart_id: str) -> None:
    """Store the multipart upload that was made for a session."""
    session.change([UploadSession.multipart_id.set(multipart_id)], UploadSession.status == OPEN)


# ---- the end -------------------------------------------------------------------------------------------
def extend(session: UploadSession, job_id: str | None = None) -> None:
    """Have a session that has not expired live as long as if its last chunk came now; for `job_id`, if a job needs it.

    Raises UploadExpired when it was closed meanwhile.
    """
    changes = _lasting() | {"fence": session.fence + 1} | ({"job_id": job_id} if job_id else {})
    same: Condition = (UploadSession.fence == session.fence) & (UploadSession.status == session.status)
    for _ in tries(f"upload {session.upload_id} is busy; try again shortly"):
        try:
            session.change(UploadSession.setting(changes), same)
            return
        except ConditionFailed as failed:
            met = failed.row
        if met is None or met.status != session.status or has_expired(met):
            raise UploadExpired(f"upload {session.upload_id} has expired; begin a new one")
        if met.expires_at >= changes["expires_at"]:
            return  # another has extended it, or this did and the answer was lost
        changes |= {"fence": met.fence + 1}
        same = (UploadSession.fence == met.fence) & (UploadSession.status == met.status)


def settle(transaction: Transaction, session: UploadSession, result: dict[str, Any], condition: Condition) -> None:
    """Have `transaction` close the session as done."""
    done = {"status": DONE, "total": session.total, "offset": session.total, "result": result, "lease_until": 0}
    changes: dict[str, Any] = done | _lasting()
    session.expires_at = changes["expires_at"]
    transaction.change(session, UploadSession.setting(changes), (UploadSession.status == OPEN) & condition)


def end(session: UploadSession, status: str) -> None:
    """Close an upload that nobody is writing to as EXPIRED or TERMINATED, or as DONE without an object.

    What a terminated one holds is due for the cleanup at once. Raises ConditionFailed when it was closed or claimed
    meanwhile.
    """
    now = seam.timestamp()
    changes: dict[str, Any] = {"status": status, "lease_until": 0, "fence": session.fence + 1}
    if status == TERMINATED:
        changes |= {"expires_at": now, "expiry_hour": seam.hour(now)}
    same: Condition = (UploadSession.fence == session.fence) & (UploadSession.status == session.status)
    session.change(UploadSession.setting(changes), same)


def pages(session: UploadSession) -> Sequence[PartsPage]:
    """The parts that no longer fitted into the session, oldest first."""
    if not session.part_pages:
        return []
    query = {
        "KeyConditionExpression": "upload_id = :u AND begins_with(#i, :p)",
        "ExpressionAttributeNames": {"#i": "item"},
        "ExpressionAttributeValues": {":u": {"S": session.upload_id}, ":p": {"S": PartsPage.PREFIX}},
        "ConsistentRead": True,
    }
    return [PartsPage.from_raw_data(item) for page in PartsPage.pages(**query) for item in page]
