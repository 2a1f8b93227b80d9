"""Uploads of deltas: the client puts the bytes by a URL that takes these and no others, once, and has it confirmed.

The URL's signature covers length, MD5, `If-None-Match: *` and three words of metadata by which an object tells which attempt has put it
(seed 000 "Delta Upload Safeguards"). The row and what the key may still do are written in one transaction before the URL is given away,
so that however many ask at once no more than permitted get one. A delta becomes `stored` in one transaction with its key's counters:
any number and order of confirmations and of the bucket's own events come to the same.

Whoever dies in between leaves a reservation, which is given back when the URL has ended and nothing came: by the next upload that needs
the room, or by the cleanup (`core/abandoned.py`). What comes later still is taken, if there is room. A confirmation deletes nothing but
what lies there and is of the very attempt and broken, and nothing can be confirmed while it does.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pynamodb.expressions.condition import Condition

from chalicelib import seam
from chalicelib.access.principals import Principal
from chalicelib.core import deltas, keys, layout, names, quotas
from chalicelib.core.layout import ATTEMPT, MD5, SIZE, URL_LIFETIME, Place
from chalicelib.errors import (
    AttemptMismatch,
    BytesMissing,
    DeltaNotFound,
    IntegrityFailed,
    InvalidRequest,
    LimitReached,
    NotUploaded,
    StowageError,
    Throttled,
    Unavailable,
    UploadSettled,
)
from chalicelib.observability import logger
from chalicelib.providers import METADATA, Described, Promise
from chalicelib.tables.deltas import DELETED, EXPIRED, PENDING, STORED, Delta, DeltaPointer
from chalicelib.tables.keys import INTERNAL, VaultKey
from chalicelib.tables.table import ConditionFailed, Transaction, TransactionFailed, tries

MAX_BYTES = 10 << 20  # seed 000: 10 MiB, everywhere
MD5_BYTES = 16
# Seconds. One deletion takes less than the time for which it keeps confirmations up.
REMEMBERED = 7 * 24 * 3600
CLEANING = 120
MAX_ATTEMPTS = 10
WRITE_TRIES = 12


Attempt = dict[str, Any]
"""As `tables/deltas.py` has it."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A URL for one PUT with exactly `headers`, until `expires` (seconds since 1970)."""

    delta: Delta
    place: Place
    attempt: str
    url: str
    headers: Mapping[str, str]
    expires: float


# ---- beginning -------------------------------------------------------------------------------------------
def begin(principal: Principal, key_uuid: str, size: int, md5: str, delta_uuid: str | None = None) -> Begun:
    """Begin the upload of a new delta, or another attempt at one that is not stored: `size` bytes of this MD5, in base64.

    Raises InvalidRequest, KeyNotFound, DeltaNotFound, UploadSettled, LimitReached, CannotPresign. Killed right after the row is
    written, an attempt was counted that nobody has a URL for; it is given back as one that was abandoned.
    """
    _check(size, md5)
    for _ in tries(quotas.BUSY, WRITE_TRIES):
        key = keys.get(principal, key_uuid)
        place = layout.place_of(key)
        presigner, _ = place.require_fit()
        delta = _known(key, delta_uuid) if delta_uuid else None
        expires = seam.timestamp() + URL_LIFETIME
        attempt: Attempt = {"attempt": seam.new_uuid(), "size": size, "md5": md5, "storage_id": key.storage_id, "expires_at": int(expires)}
        fresh = delta or _new(key)
        signed = presigner.presign_put(place.at(fresh.delta_uuid), URL_LIFETIME, _headers(attempt))
        try:
            _reserve(key, fresh, attempt, is_new=delta is None)
        except TransactionFailed:
            continue  # what has changed is met by looking anew
        except LimitReached as error:
            if error.details["window"] != quotas.STORED or not settle_abandoned(key):
                raise
            continue
        return Begun(fresh, place, attempt["attempt"], signed.url, signed.headers, expires)
    raise AssertionError("tries() ends by raising")


def _check(size: int, md5: str) -> None:
    if not 1 <= size <= MAX_BYTES:
        raise InvalidRequest(f"size_bytes: a delta has 1 to {MAX_BYTES} bytes", field="size_bytes")
    try:
        decoded = base64.b64decode(md5, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != MD5_BYTES or base64.b64encode(decoded).decode() != md5:
        raise InvalidRequest(f"content_md5: the base64 of an MD5, which has {MD5_BYTES} bytes", field="content_md5")


def _new(key: VaultKey) -> Delta:
    now = seam.iso(seam.now())
    return Delta(key.key_uuid, seam.new_timed_uuid(), tenant_id=key.tenant_id, created_at=now, attempts=[])


def _known(key: VaultKey, delta_uuid: str) -> Delta:
    delta = Delta.read(key.key_uuid, delta_uuid) if names.is_uuid(delta_uuid) else None
    if delta is None or delta.status == DELETED:
        raise deltas.not_found(delta_uuid)
    if delta.status == STORED:
        raise UploadSettled("this delta is stored, and is never written again; upload another one")
    return delta


def _headers(attempt: Attempt) -> dict[str, str]:
    return {
        "Content-Length": str(attempt["size"]),
        "Content-MD5": attempt["md5"],
        "If-None-Match": "*",
        METADATA + SIZE: str(attempt["size"]),
        METADATA + MD5: attempt["md5"],
        METADATA + ATTEMPT: attempt["attempt"],
    }


def _reserve(key: VaultKey, delta: Delta, attempt: Attempt, is_new: bool) -> None:
    """Write an attempt and take what it needs, in one; raises LimitReached, TransactionFailed."""
    is_internal = key.storage_id is None
    actions: list[Any] = [VaultKey.updated_at.set(seam.iso(seam.now()))]
    condition = keys.is_active() & keys.points_to(key.storage_id)
    if is_internal:
        counting, permitted = quotas.taking(key, quotas.UPLOADS)
        actions, condition = actions + counting, condition & permitted
    if is_new or delta.status == EXPIRED:
        room, has_room = _room(key, is_internal)
        actions, condition = actions + room, condition & has_room
    changes = {
        "status": PENDING,
        "attempts": [*_worth_keeping(delta.attempts), attempt],
        "revision": int(delta.revision) + 1,
        "expires_at": attempt["expires_at"],
        "expiry_hour": seam.hour(attempt["expires_at"]),
    }
    with Transaction() as transaction:
        transaction.change(VaultKey(key.tenant_id, key.key_uuid), actions, condition)
        if is_new:
            delta.attribute_values.update(changes)
            transaction.put(delta, Delta.delta_uuid.does_not_exist())
            transaction.put(DeltaPointer(delta.delta_uuid, key_uuid=key.key_uuid), DeltaPointer.item.does_not_exist())
        else:
            transaction.change(delta, Delta.setting(changes), Delta.revision == delta.revision)
    delta.attribute_values.update(changes)


def _worth_keeping(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts that may be confirmed beside a new one: all whose URLs work, and the last of the others. Raises Throttled."""
    now = seam.timestamp()
    works = [each for each in attempts if each["expires_at"] > now]
    if len(works) >= MAX_ATTEMPTS:
        seconds = min(each["expires_at"] for each in works) - now
        raise Throttled(f"{MAX_ATTEMPTS} URLs of this delta work yet; use one of them, or wait until one has ended", seconds)
    ended = [each for each in attempts if each["expires_at"] <= now]
    return ended[max(0, len(ended) + len(works) + 1 - MAX_ATTEMPTS) :] + works


def _room(key: VaultKey, is_internal: bool) -> tuple[list[Any], Condition]:
    """What counts one more that is stored or may come, and the condition for it; raises LimitReached."""
    if is_internal and key.stored >= quotas.MAX_STORED:
        raise quotas.full()
    return [VaultKey.stored.add(1)], (VaultKey.stored < quotas.MAX_STORED) if is_internal else VaultKey.key_uuid.exists()


# ---- confirming ------------------------------------------------------------------------------------------
def confirm(principal: Principal, delta_uuid: str, attempt: str) -> tuple[Place, Delta]:
    """Have a delta be stored whose attempt has put what it had to; again, it gives the same.

    Raises DeltaNotFound; NotUploaded while there is nothing; AttemptMismatch, which leaves the object; IntegrityFailed, with which it is
    deleted if that is permitted; LimitReached for what came after its reservation had ended, if there is no room any more.
    """
    return _confirm(*deltas.find(principal, delta_uuid), attempt)


def object_created(physical_key: str) -> Delta | None:
    """Take note of an object that was put where the internal storage keeps deltas; gives the delta that is stored by it.

    Raises Unavailable, to be told again. What is refused now may be confirmed later. What nobody expects is filed as garbage.
    """
    ids = names.delta_at(physical_key)
    if ids is None:
        return None
    delta = Delta.read(*ids)
    if delta is not None and delta.status == DELETED:
        return None  # the cleanup deletes it, once its URL has ended
    key = VaultKey.read(delta.tenant_id, delta.key_uuid) if delta else None
    if delta is not None and key is not None and key.storage_id is None:
        try:
            return _confirm(key, delta, None)[1]
        except Unavailable:
            raise
        except StowageError as error:
            logger().warning("a delta was not confirmed by its event", extra={"delta_uuid": delta.delta_uuid, "code": error.code})
    if delta is None or not _may_be_needed(delta):
        layout.file_internal(ids[0], [ids[1]], seam.timestamp())
    return None


def _may_be_needed(delta: Delta) -> bool:
    """Whether what the internal storage holds of a delta may be that delta: where its key points now, or was pointed away from by hand.

    A key never comes back to internal storage: what is not stored there by the time that it points elsewhere never will be.
    """
    key, now = deltas.as_they_stand(delta.tenant_id, delta.key_uuid, delta.delta_uuid)
    if key is None or now is None:
        return False
    return key.storage_id is None or (now.status == STORED and key.moved_from == INTERNAL)


def _confirm(key: VaultKey, delta: Delta, attempt: str | None) -> tuple[Place, Delta]:
    """Have a delta be stored by an attempt, None: by the one that has put what lies there.

    When another has changed the row meanwhile, all is looked at anew: what lies there too may be another object by then.
    """
    for _ in tries(quotas.BUSY, WRITE_TRIES):
        place = layout.place_of(key)
        if delta.status == STORED and attempt in (None, delta.attempt):
            return place, delta
        if delta.status == STORED:
            raise AttemptMismatch("another attempt of this delta is stored; it stays as it is")
        if delta.cleaning_until > seam.timestamp():
            raise Unavailable("what lay there was broken, and is being deleted; confirm again shortly")
        wanted, found = _put_by(place, delta, attempt)
        _require_whole(place, delta, wanted, found)
        if _settle(place, delta, wanted):
            return place, delta
        key, delta = deltas.again(key, delta)
    raise AssertionError("tries() ends by raising")


def _put_by(place: Place, delta: Delta, attempt: str | None) -> tuple[Attempt, Described]:
    """The attempt, and the object that it has put; raises NotUploaded, AttemptMismatch."""
    by_id = {each["attempt"]: each for each in delta.attempts}
    if attempt is not None and attempt not in by_id:
        raise AttemptMismatch("this delta has no such attempt that could be confirmed; it stays as it is")
    if attempt is not None and by_id[attempt]["storage_id"] != place.storage_id:
        raise _moved_meanwhile()
    found = place.describer.describe(place.at(delta.delta_uuid))
    if found is None:
        raise NotUploaded("nothing has arrived yet at the URL of this attempt; send the bytes there, then confirm again")
    put_by = found.metadata.get(ATTEMPT)
    if put_by not in by_id:
        raise AttemptMismatch("what lies there was put by something else; it stays as it is. Delete the delta and upload it anew")
    if attempt not in (None, put_by):
        told = "what lies there was put by another attempt of this delta, and stays as it is; confirm that one"
        raise AttemptMismatch(told, upload_attempt_uuid=put_by)
    if by_id[put_by]["storage_id"] != place.storage_id:
        raise _moved_meanwhile()
    return by_id[put_by], found


def _moved_meanwhile() -> AttemptMismatch:
    return AttemptMismatch("the key points to another storage since this attempt was begun; begin another one")


def _require_whole(place: Place, delta: Delta, wanted: Attempt, found: Described) -> None:
    """Raise IntegrityFailed, and delete the object if that is permitted, unless it is what the attempt has promised."""
    is_whole: bool | None = (found.metadata.get(SIZE), found.metadata.get(MD5)) == (str(wanted["size"]), wanted["md5"])
    if is_whole:
        is_whole = place.is_of(found, wanted["size"], wanted["md5"])
    if is_whole is None:
        try:
            is_whole = Promise.MD5 not in place.unkept or place.md5_of(delta.delta_uuid, found.size) == wanted["md5"]
        except BytesMissing as error:
            raise NotUploaded("what had arrived has gone again; send the bytes once more, then confirm again") from error
    if not is_whole:
        left = _clean(place, delta)
        raise IntegrityFailed(_REJECTED_AND_LEFT if left else _REJECTED, left=[place.whole(each) for each in left])


def _clean(place: Place, delta: Delta) -> list[str]:
    """Delete a broken object; gives the delta if the storage does not let it.

    Nothing is confirmed meanwhile: the right bytes may come by the same URL as soon as these are gone, and must not be taken for them.
    Whoever dies over it keeps confirmations up for two minutes. Raises Unavailable when the delta was changed since it was read.
    """
    row, until = Delta(delta.key_uuid, delta.delta_uuid), seam.timestamp() + CLEANING
    marking = [Delta.cleaning_until.set(until), Delta.revision.set(delta.revision + 1)]
    try:
        row.change(marking, (Delta.revision == delta.revision) & Delta.status.is_in(PENDING, EXPIRED))
    except ConditionFailed as failed:
        if failed.row is None or failed.row.cleaning_until != until:  # else it is ours: the answer to an earlier try was lost
            raise Unavailable("the delta was changed at this moment; confirm it again") from failed
    left = list(place.remove([delta.delta_uuid]))
    with suppress(ConditionFailed):
        row.change([Delta.cleaning_until.set(0), Delta.revision.add(1)], Delta.cleaning_until == until)
    return left


_REJECTED = "what arrived is not what was promised, and was deleted; send the right bytes to the URL again, or begin another attempt"
_REJECTED_AND_LEFT = "what arrived is not what was promised, and the storage does not let it be deleted: delete it, or upload another delta"


def _settle(place: Place, delta: Delta, wanted: Attempt) -> bool:
    """Write that a delta is stored, and count it, in one; gives whether nothing has changed since it was read. Raises LimitReached."""
    key = place.key
    actions = [VaultKey.deltas.add(1), VaultKey.size_bytes.add(wanted["size"]), VaultKey.revision.add(1)]
    condition = keys.is_active() & keys.points_to(place.storage_id)
    if delta.status == EXPIRED:
        try:
            room, has_room = _room(key, place.storage_id is None)
        except LimitReached:
            if settle_abandoned(key):
                return False
            raise
        actions, condition = actions + room, condition & has_room
    changes = {
        "status": STORED,
        "attempt": wanted["attempt"],
        "size_bytes": wanted["size"],
        "content_md5": wanted["md5"],
        "revision": int(delta.revision) + 1,
        "confirmed_at": seam.iso(seam.now()),
        "expiry_hour": None,
    }
    try:
        with Transaction() as transaction:
            transaction.change(Delta(delta.key_uuid, delta.delta_uuid), Delta.setting(changes), Delta.revision == delta.revision)
            transaction.change(VaultKey(key.tenant_id, key.key_uuid), actions, condition)
    except TransactionFailed:
        return False
    delta.attribute_values.update(changes)
    return True


# ---- what was abandoned ----------------------------------------------------------------------------------
def settle_abandoned(key: VaultKey) -> int:
    """See to the attempts at a key's deltas whose URLs have ended; gives how many reservations were given back."""
    over = [delta for delta in keys.rows_of(key.key_uuid) if delta.status == PENDING and delta.expires_at <= seam.timestamp()]
    given_back = 0
    for delta in over:
        try:
            given_back += end(key, delta) == EXPIRED
        except DeltaNotFound:  # deleted at this moment, which gives it back as well
            given_back += 1
    return given_back


def end(key: VaultKey, delta: Delta) -> str:
    """Have a delta whose last URL has ended be stored, if it has come, or give back its reservation; gives what became of it.

    Raises StorageUnavailable, DeltaNotFound.
    """
    try:
        return str(_confirm(key, delta, None)[1].status)
    except (NotUploaded, AttemptMismatch, IntegrityFailed):
        key, delta = deltas.again(key, delta)  # nothing that was promised has come
    return expire(key, delta)


def expire(key: VaultKey, delta: Delta) -> str:
    """Give back a reservation, unless the delta has changed; gives what it is now. What comes later is still known, for a week."""
    forgotten_at = seam.timestamp() + REMEMBERED
    changes = {
        "status": EXPIRED,
        "revision": int(delta.revision) + 1,
        "expires_at": int(forgotten_at),
        "expiry_hour": seam.hour(forgotten_at),
    }
    for _ in tries(quotas.BUSY):
        try:
            with Transaction() as transaction:
                transaction.change(Delta(delta.key_uuid, delta.delta_uuid), Delta.setting(changes), Delta.revision == delta.revision)
                transaction.change(VaultKey(key.tenant_id, key.key_uuid), [VaultKey.stored.add(-1)], VaultKey.key_uuid.exists())
            return EXPIRED
        except TransactionFailed as failed:
            if any(failed.rows):
                met = Delta.read(delta.key_uuid, delta.delta_uuid)
                return str(met.status) if met else DELETED
    raise AssertionError("tries() ends by raising")
