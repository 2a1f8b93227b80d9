"""Objects: rows that each name one immutable version of bytes.

A write stores new bytes under a new physical key and then flips the row in one conditional write, so a reader
gets the old version or the new one, whole. Killed before the flip, a write leaves an orphan; killed after it,
the write has happened. Superseded bytes are left to the stream (`core/changes.py`); nothing is deleted here.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pynamodb.expressions.condition import Condition

from chalicelib import seam
from chalicelib.access.credentials import require_tenant
from chalicelib.access.permissions import (
    Operation,
    absence,
    denial,
    denial_of_missing,
    grant,
    object_not_found,
    permits,
    require,
    require_credential,
)
from chalicelib.access.principals import Principal, Role
from chalicelib.core import buckets, content, filing, garbage, keeping, names
from chalicelib.core.filing import UNCHANGED, Filing
from chalicelib.errors import BucketNotFound, InvalidRequest, ObjectExists, ObjectNotFound, StowageError, TokenUsed, TooLarge, Unavailable
from chalicelib.settings import settings
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.objects import Placement, StoredObject, UsedToken
from chalicelib.tables.table import BATCH_READ_LIMIT, ConditionFailed, Transaction, TransactionFailed, read_together, tries

MAX_DELETED_AT_ONCE = 1000
# Sixteen writers of one name can each lose to the fifteen others.
WRITE_TRIES = 40


@dataclass(frozen=True, slots=True)
class Upload:
    """What is to be stored. `user_metadata` is JSON text; without `upsert` an existing object is kept; `filing` is for files."""

    body: bytes
    content_type: str
    user_metadata: str | None = None
    upsert: bool = True
    filing: Filing = UNCHANGED


@dataclass(frozen=True, slots=True)
class Companion:
    """What must be written together with an object's row, or neither is.

    `add` puts it into the row's transaction; `refused` says what it means that a condition of its own did not hold,
    given what stood there: None, if that is this very write, whose answer was lost.
    """

    add: Callable[[Transaction, StoredObject], None]
    refused: Callable[[Any], Exception | None]


@dataclass(frozen=True, slots=True)
class Found:
    """An object and the bucket that it was found in."""

    bucket: Bucket
    row: StoredObject


# ---- reading -------------------------------------------------------------------------------------------
def find(principal: Principal, bucket_name: str, name: str) -> Found:
    """An object that the principal may read; raises ObjectNotFound, BucketNotFound, Unauthorized."""
    names.check_name_in(bucket_name, name)
    bucket, row = read_current(principal, Operation.SELECT, bucket_name, name)
    return Found(bucket, permit_existing(principal, Operation.SELECT, bucket, name, row))


def find_many(principal: Principal, bucket_name: str, paths: Sequence[str]) -> list[Found | StowageError]:
    """Objects that the principal may read, each path by itself; raises BucketNotFound and Unauthorized for all alike."""
    try:
        bucket = buckets.get(principal.tenant_id, bucket_name)
    except BucketNotFound as error:
        if principal.is_service or principal.role is Role.NOBODY:
            raise denial_of_missing(principal, Operation.SELECT, bucket_name, "") from error
        return [_refusal(bucket_name, path) or absence(principal, None, bucket_name, path) for path in paths]
    require_credential(principal, not grant(principal, Operation.SELECT, bucket).nothing)
    rows = _read_valid(bucket, paths)
    outcomes = [_refusal(bucket_name, path) or _readable(principal, bucket, path, rows[path]) for path in paths]
    require_credential(principal, any(isinstance(outcome, Found) for outcome in outcomes))
    return outcomes


def _readable(principal: Principal, bucket: Bucket, path: str, row: StoredObject | None) -> Found | StowageError:
    try:
        return Found(bucket, permit_existing(principal, Operation.SELECT, bucket, path, row))
    except StowageError as error:
        return error


def find_public(tenant_id: str, bucket_name: str, name: str) -> Found:
    """An object of a public bucket, whoever asks: no policy opens a private one to this."""
    anyone = Principal(Role.ANON, tenant_id)
    names.check_name_in(bucket_name, name)
    if not names.is_uuid(tenant_id):
        raise object_not_found(bucket_name, name)
    try:
        require_tenant(tenant_id)
    except ObjectNotFound:  # worded alike, whether there is such a tenant or not
        raise object_not_found(bucket_name, name) from None
    bucket, row = read_current(anyone, Operation.SELECT, bucket_name, name)
    if row is None or not bucket.public:
        raise object_not_found(bucket_name, name)
    return Found(bucket, row)


def read(row: StoredObject, offset: int, length: int) -> bytes:
    """Bytes of an object; raises BytesMissing, StorageUnavailable."""
    return keeping.holding(row).read(row.physical_key, offset, length)


# ---- writing -------------------------------------------------------------------------------------------
def store(
    principal: Principal, bucket_name: str, name: str, upload: Upload, used: Callable[[Bucket, StoredObject], UsedToken] | None = None
) -> tuple[StoredObject, bool]:
    """Store an object; gives its row, and whether it is new. Raises what `permit_upload` and the checks raise.

    `used` gives the mark of a token that allows this once; it may refuse the bucket.
    """
    names.check_name_in(bucket_name, name)
    bucket, current = read_current(principal, Operation.INSERT, bucket_name, name)
    row = new_row(principal, bucket, name, upload.content_type, upload.user_metadata)
    row.size, row.checksum = len(upload.body), hashlib.sha256(upload.body).hexdigest()
    mark = used(bucket, row) if used else None
    try:
        permit_upload(principal, bucket, row, current, upload.upsert)
    except ObjectExists:
        if mark and UsedToken.read(mark.partition, mark.token_hash):  # most likely it is what this token stored
            raise _token_used() from None
        raise
    filing.check(principal, upload.filing)
    check_size(bucket, len(upload.body))
    content.check_allowed(bucket, upload.content_type, upload.body[: content.SNIFFED_BYTES])
    with garbage.filed_on_failure(row):
        keeping.holding(row).put(row.physical_key, upload.body, upload.content_type)
        return row, flip(principal, bucket, row, current, upload.upsert, _used_once(mark) if mark else None, upload.filing)


def flip(
    principal: Principal,
    bucket: Bucket,
    row: StoredObject,
    current: StoredObject | None,
    upsert: bool,
    companion: Companion | None = None,
    chosen: Filing = UNCHANGED,
) -> bool:
    """Make `row` the object of its name, in place of `current`; gives whether it is new.

    Another writer in between is met by asking again: may this principal still, over what is there now?
    Raises what `companion` says when it was its own condition that did not hold.
    """
    fresh = StoredObject(**row.attribute_values)
    for _ in tries(crowded(row.name), WRITE_TRIES):
        succeed(row, current, fresh, chosen)
        try:
            _put(row, unchanged(current), companion)
            return current is None
        except ConditionFailed as failed:
            current = failed.row
        if current is not None and current.version == row.version:  # ours: the answer to an earlier attempt was lost
            row.attribute_values.update(current.attribute_values)
            return bool(row.revision == 1)
        permit_upload(principal, bucket, fresh, current, upsert)
    raise AssertionError("tries() ends by raising")


def _put(row: StoredObject, condition: Condition, companion: Companion | None) -> None:
    if companion is None:
        row.put(condition)
        return
    try:
        with Transaction() as transaction:
            transaction.put(row, condition)
            companion.add(transaction, row)
    except TransactionFailed as failed:
        met, *others = failed.rows
        now_there = met.row if met else StoredObject.read(row.partition, row.name)
        refused = next((other for other in others if other), None)
        error = companion.refused(refused.row) if refused else None
        raise error or ConditionFailed(now_there) from failed


def _used_once(mark: UsedToken) -> Companion:
    return Companion(
        lambda transaction, _: transaction.put(mark, UsedToken.token_hash.does_not_exist()),
        lambda met: None if met.version == mark.version else _token_used(),
    )


def _token_used() -> TokenUsed:
    return TokenUsed("this signed URL has been used; ask for a new one")


def change(principal: Principal, bucket_name: str, name: str, changes_of: Callable[[StoredObject], dict[str, Any]]) -> StoredObject:
    """Set what `changes_of` the row says (`content_type`, `user_metadata` as JSON text, …); its bytes and version stay.

    Needs SELECT beside UPDATE, for it shows the row, as an UPDATE that returns one does in PostgreSQL.
    """
    names.check_name_in(bucket_name, name)
    bucket, row = read_current(principal, Operation.UPDATE, bucket_name, name)
    for _ in tries(crowded(name), WRITE_TRIES):
        row = permit_existing(principal, Operation.SELECT, bucket, name, row)
        require(principal, Operation.UPDATE, bucket, row)
        changes = changes_of(row)
        if "content_type" in changes:
            content.check_allowed(bucket, changes["content_type"], b"")
        was_read = unchanged(row)
        for attribute, value in changes.items():
            setattr(row, attribute, value)
        row.indexed()
        row.revision, row.updated_at = row.revision + 1, seam.iso(seam.now())
        try:
            row.put(was_read)
            return row
        except ConditionFailed as failed:
            if failed.row is not None and _same(failed.row, row):
                return row  # ours: the answer to an earlier attempt was lost
            row = failed.row
    raise AssertionError("tries() ends by raising")


def _same(row: StoredObject, other: StoredObject) -> bool:
    """Whether two rows say the same. What a row does not have is None in one that was made here, and not there in one that was read."""
    one, another = ({name: value for name, value in each.attribute_values.items() if value is not None} for each in (row, other))
    return one == another


def delete(principal: Principal, bucket_name: str, name: str) -> None:
    """Remove an object; raises ObjectNotFound, BucketNotFound, Forbidden, Unauthorized."""
    names.check_name_in(bucket_name, name)
    bucket, row = read_current(principal, Operation.DELETE, bucket_name, name)
    _delete(principal, bucket, name, row)


def delete_many(principal: Principal, bucket_name: str, paths: Sequence[str]) -> list[StowageError | None]:
    """Remove up to 1,000 objects one by one; gives, for each path in order, the error or None."""
    if len(paths) > MAX_DELETED_AT_ONCE:
        raise InvalidRequest(f"at most {MAX_DELETED_AT_ONCE} paths are deleted at once")
    try:
        bucket = buckets.get(principal.tenant_id, bucket_name)
    except BucketNotFound as error:
        if principal.is_service or principal.role is Role.NOBODY:
            raise denial_of_missing(principal, Operation.DELETE, bucket_name, "") from error
        return [_refusal(bucket_name, path) or absence(principal, None, bucket_name, path) for path in paths]
    require_credential(principal, not grant(principal, Operation.DELETE, bucket).nothing)
    outcomes: list[StowageError | None] = []
    for start in range(0, len(paths), BATCH_READ_LIMIT):  # read shortly before they are deleted
        batch = paths[start : start + BATCH_READ_LIMIT]
        rows = _read_valid(bucket, batch)
        outcomes += [_outcome(principal, bucket, path, rows.pop(path, None)) for path in batch]
    require_credential(principal, None in outcomes)
    return outcomes


def _read_valid(bucket: Bucket, paths: Sequence[str]) -> dict[str, StoredObject | None]:
    valid = list(dict.fromkeys(path for path in paths if _refusal(bucket.name, path) is None))
    rows = read_together(*((StoredObject, bucket.partition, path) for path in valid))
    return dict(zip(valid, rows, strict=True))


def _refusal(bucket_name: str, path: str) -> StowageError | None:
    try:
        names.check_name_in(bucket_name, path)
    except StowageError as error:
        return error
    return None


def _outcome(principal: Principal, bucket: Bucket, path: str, row: StoredObject | None) -> StowageError | None:
    try:
        _delete(principal, bucket, names.check_name_in(bucket.name, path), row)
        return None
    except StowageError as error:
        return error


def _delete(principal: Principal, bucket: Bucket, name: str, row: StoredObject | None) -> None:
    for _ in tries(crowded(name), WRITE_TRIES):
        row = permit_existing(principal, Operation.DELETE, bucket, name, row)
        try:
            row.remove(unchanged(row))
            return
        except ConditionFailed as failed:
            if failed.row is None:
                return  # gone: by us, if an answer was lost, or by another
            row = failed.row


# ---- moving --------------------------------------------------------------------------------------------
def repoint(principal: Principal, bucket_name: str, source: str, target: str, upsert: bool) -> StoredObject:
    """Give an object another name in its bucket: the new row names the old bytes, in one transaction."""
    for _ in tries(crowded(source), WRITE_TRIES):
        ends = dict.fromkeys((source, target))  # one name, if it is moved to itself
        bucket, old, *other = _read_current(principal, Operation.DELETE, bucket_name, *ends)
        current = other[0] if other else old
        old = permit_existing(principal, Operation.DELETE, bucket, source, old)
        require(principal, Operation.SELECT, bucket, old)
        if source == target:
            return old
        row = StoredObject(**old.attribute_values)
        row.name = target
        row.updated_at = row.tokens_not_before = seam.iso(seam.now())
        permit_replacement(principal, bucket, row, current, upsert)
        row.revision = max(old.revision, current.revision if current else 0) + 1
        with suppress(TransactionFailed):
            with Transaction() as transaction:
                transaction.remove(old, unchanged(old))
                transaction.put(row, unchanged(current))
                transaction.put(Placement(bucket.partition + Placement.SUFFIX, row.version, moved_to=target))
            return row
    raise AssertionError("tries() ends by raising")


# ---- what the above share ------------------------------------------------------------------------------
def read_current(principal: Principal, operation: Operation, bucket_name: str, name: str) -> tuple[Bucket, StoredObject | None]:
    """Bucket and object as they stand, in one consistent read wherever the bucket is still the one last seen.

    Raises BucketNotFound, or what `operation` in a private bucket would be told.
    """
    bucket, row = _read_current(principal, operation, bucket_name, name)
    return bucket, row


def _read_current(principal: Principal, operation: Operation, bucket_name: str, *wanted: str) -> list[Any]:
    try:
        known = buckets.recent(principal.tenant_id, bucket_name)
        bucket, *rows = _read_in(known, wanted)
        if bucket is None or bucket.bucket_id != known.bucket_id:
            known = buckets.get(principal.tenant_id, bucket_name)
            bucket, *rows = _read_in(known, wanted)
    except BucketNotFound as error:
        raise denial_of_missing(principal, operation, bucket_name, wanted[0]) from error
    if bucket is None or bucket.bucket_id != known.bucket_id:
        raise Unavailable(f"bucket {bucket_name} is being deleted; try again shortly")
    buckets.remember(bucket)
    return [bucket, *rows]


def _read_in(bucket: Bucket, wanted: Sequence[str]) -> list[Any]:
    return read_together((Bucket, bucket.tenant_id, bucket.name), *((StoredObject, bucket.partition, name) for name in wanted))


def crowded(name: str) -> str:
    """What is told to a writer who found others at work each time."""
    return f"object {name} is being written by too many at once; try again shortly"


def permit_upload(principal: Principal, bucket: Bucket, row: StoredObject, current: StoredObject | None, upsert: bool) -> None:
    """Raise unless `row` may be written: INSERT of what is to be, or UPDATE of what is there."""
    permitted = permits(principal, Operation.UPDATE, bucket, current) if current else permits(principal, Operation.INSERT, bucket, row)
    if not permitted:
        raise denial(principal, Operation.INSERT, bucket, row)  # worded alike, whether something is there or not
    if current and not upsert:
        raise ObjectExists(f"there is an object {row.name} in bucket {bucket.name} already")


def permit_replacement(principal: Principal, bucket: Bucket, row: StoredObject, current: StoredObject | None, upsert: bool) -> None:
    """Raise unless `row`, another object with an owner of its own, may take the place of `current`, which ends."""
    if current and not (permits(principal, Operation.INSERT, bucket, row) and permits(principal, Operation.DELETE, bucket, current)):
        raise denial(principal, Operation.INSERT, bucket, row)
    permit_upload(principal, bucket, row, current, upsert)


def permit_existing(principal: Principal, operation: Operation, bucket: Bucket, name: str, row: StoredObject | None) -> StoredObject:
    """The row, if it is there and `operation` on it is permitted; raises what the caller may know."""
    if row is None:
        raise absence(principal, bucket, bucket.name, name)
    require(principal, operation, bucket, row)
    return row


def check_size(bucket: Bucket, size: int) -> None:
    limit = bucket.size_limit or settings().max_upload_size
    if size > limit:
        raise TooLarge(f"bucket {bucket.name} takes objects of at most {limit} bytes, and this has {size}", limit=limit)


def new_row(
    principal: Principal,
    bucket: Bucket,
    name: str,
    content_type: str,
    user_metadata: str | None,
    version: str | None = None,
    direct: bool = False,
) -> StoredObject:
    """A row for new bytes of `name` under a new version, unless one was chosen; the caller fills in size and checksum."""
    now, version = seam.iso(seam.now()), version or seam.new_version()
    limit = keeping.provider_of(bucket.tenant_id, bucket.storage_id).max_key_bytes
    return StoredObject(
        bucket.partition,
        name,
        id=seam.new_uuid(),
        version=version,
        revision=1,
        bucket=bucket.name,
        physical_key=names.physical_key(bucket.tenant_id, bucket.name, name, version, limit, direct),
        storage_id=bucket.storage_id,
        content_type=content_type,
        user_metadata=user_metadata,
        created_at=now,
        updated_at=now,
        tokens_not_before=now,
    ).owned_by(principal.uid)


def succeed(row: StoredObject, current: StoredObject | None, fresh: StoredObject, chosen: Filing = UNCHANGED) -> None:
    """Give `row` what an object keeps when its bytes are replaced (identity, owner, birth, revoked tokens), else what `fresh` has.

    What was `chosen` for a file, it has in any case; and it keeps its metadata where none comes with the bytes.
    """
    kept = current or fresh
    row.revision = current.revision + 1 if current else 1
    # Tokens of what stood there while a new object was uploaded are not for this one.
    row.tokens_not_before = current.tokens_not_before if current else seam.iso(seam.now())
    row.id, row.created_at = kept.id, kept.created_at
    row.owned_by(kept.owner_id)
    filing.keep(row, current, fresh.user_metadata, chosen)
    filing.place(row, current, chosen)


def unchanged(current: StoredObject | None) -> Condition:
    """That a name still has the row that was read. The revision alone would not tell: a new object begins at 1 again."""
    condition: Condition = StoredObject.name.does_not_exist()
    if current is not None:
        condition = (StoredObject.version == current.version) & (StoredObject.revision == current.revision)
    return condition
