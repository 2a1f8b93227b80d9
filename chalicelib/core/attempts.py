"""Uploads of deltas: the client puts the bytes by a URL that takes these and no others, once, and has it confirmed.

The URL's signature covers length, MD5, `If-None-Match: *` and three words of metadata by which an object tells which attempt has put it
(seed 000 "Delta Upload Safeguards"). The row and what the key may still do are written in one transaction before the URL is given away,
so that however many ask at once no more than permitted get one. A delta becomes `stored` in one transaction with its key's counters:
any number and order of confirmations and of the bucket's own events come to the same.

Whoever dies in between leaves a reservation, which is given back when the URL has ended and nothing came: by the next upload that needs
the room, or by the cleanup (`core/abandoned.py`). What comes later still is taken, if there is room. A confirmation deletes nothing but
an object that is of the very attempt and broken, and nothing can be confirmed while it does.
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
from chalicelib.tables.keys import VaultKey
from chalicelib.tables.table import ConditionFailed, Transaction, TransactionFailed, tries

MAX_BYTES = 10 << 20  # seed 000: 10 MiB, everywhere
MD5_BYTES = 16
# Seconds. No request lives as long as what it deletes keeps others up.
REMEMBERED = 7 * 24 * 3600
CLEANING = 60
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
    key, delta = deltas.find(principal, delta_uuid)
    place = layout.place_of(key)
    return place, _confirm(place, delta, attempt)


def object_created(physical_key: str) -> Delta | None:
    """Take note of an object that was put where the internal storage keeps deltas; gives the delta that is stored by it.

    Raises Unavailable, to be told again. What is refused now may be confirmed later. What nobody expects is filed as garbage.
    """
    ids = names.delta_at(physical_key)
    delta = Delta.read(*ids) if ids else None
    key = VaultKey.read(delta.tenant_id, delta.key_uuid) if delta else None
    if ids is None:
        return None
    if delta is None or key is None or key.storage_id is not None:
        now = Delta.read(*ids)  # a key never comes back to internal storage: what is not stored by now never will be there
        if now is None or now.status != STORED:
            layout.file_internal(ids[0], [ids[1]], seam.timestamp())
        return None
    if delta.status == DELETED:
        return None  # the cleanup deletes it, once its URL has ended
    place = layout.place_of(key)
    try:
        found = _put(place, delta)
        return _confirm(place, delta, found.metadata.get(ATTEMPT, ""), found)
    except Unavailable:
        raise
    except StowageError as error:
        logger().warning("a delta was not confirmed by its event", extra={"delta_uuid": delta.delta_uuid, "code": error.code})
        return None


def _put(place: Place, delta: Delta) -> Described:
    found = place.describer.describe(place.at(delta.delta_uuid))
    if found is None:
        raise NotUploaded("nothing has arrived yet at the URL of this attempt; send the bytes there, then confirm again")
    return found


def _confirm(place: Place, delta: Delta, attempt: str, found: Described | None = None) -> Delta:
    if delta.status == STORED and delta.attempt == attempt:
        return delta
    wanted = next((each for each in delta.attempts if each["attempt"] == attempt), None)
    if delta.status == STORED or wanted is None:
        raise AttemptMismatch("this delta has no such attempt that could be confirmed; it stays as it is")
    if wanted["storage_id"] != place.storage_id:
        raise _moved_meanwhile()
    found = found or _put(place, delta)
    put_by = found.metadata.get(ATTEMPT)
    if put_by != attempt:
        ours = put_by if any(each["attempt"] == put_by for each in delta.attempts) else None
        told = "another attempt of this delta; confirm that one" if ours else "something else; delete the delta and upload it anew"
        raise AttemptMismatch(f"what lies there was put by {told}. It stays as it is", upload_attempt_uuid=ours)
    _require_whole(place, delta, wanted, found)
    return _settle(place, delta, wanted)


def _moved_meanwhile() -> AttemptMismatch:
    return AttemptMismatch("the key points to another storage since this attempt was begun; begin another one")


def _require_whole(place: Place, delta: Delta, wanted: Attempt, found: Described) -> None:
    """Raise IntegrityFailed, and delete the object if that is permitted, unless it is what the attempt has promised."""
    is_whole: bool | None = (found.metadata.get(SIZE), found.metadata.get(MD5)) == (str(wanted["size"]), wanted["md5"])
    if is_whole:
        is_whole = place.is_of(found, wanted["size"], wanted["md5"])
    if is_whole is None:
        is_whole = Promise.MD5 not in place.unkept or place.md5_of(delta.delta_uuid, found.size) == wanted["md5"]
    if not is_whole:
        left = _clean(place, delta)
        raise IntegrityFailed(_REJECTED_AND_LEFT if left else _REJECTED, left=[place.whole(each) for each in left])


def _clean(place: Place, delta: Delta) -> list[str]:
    """Delete a broken object; gives the delta if the storage does not let it.

    Nothing is confirmed meanwhile: the right bytes may come by the same URL as soon as these are gone, and must not be taken for them.
    Whoever dies over it keeps confirmations up for a minute. Raises Unavailable when the delta was changed since it was read.
    """
    row = Delta(delta.key_uuid, delta.delta_uuid)
    begun = [Delta.cleaning_until.set(seam.timestamp() + CLEANING), Delta.revision.set(delta.revision + 1)]
    try:
        row.change(begun, (Delta.revision == delta.revision) & Delta.status.is_in(PENDING, EXPIRED))
    except ConditionFailed as failed:
        if failed.row is not None and failed.row.cleaning_until > seam.timestamp():
            return []  # another is at it
        raise Unavailable("the delta was changed at this moment; confirm it again") from failed
    left = list(place.remove([delta.delta_uuid]))
    with suppress(ConditionFailed):
        row.change([Delta.cleaning_until.set(0), Delta.revision.add(1)], Delta.revision == row.revision)
    return left


_REJECTED = "what arrived is not what was promised, and was deleted; send the right bytes to the URL again, or begin another attempt"
_REJECTED_AND_LEFT = "what arrived is not what was promised, and the storage does not let it be deleted: delete it, or upload another delta"


def _settle(place: Place, delta: Delta, wanted: Attempt) -> Delta:
    """Write that a delta is stored, and count it, in one."""
    key = place.key
    for _ in tries(quotas.BUSY, WRITE_TRIES):
        if delta.cleaning_until > seam.timestamp():
            raise Unavailable("what lay there was broken, and is being deleted; confirm again shortly")
        actions = [VaultKey.deltas.add(1), VaultKey.size_bytes.add(wanted["size"]), VaultKey.revision.add(1)]
        condition = keys.is_active() & keys.points_to(place.storage_id)
        if delta.status == EXPIRED:
            try:
                room, has_room = _room(key, place.storage_id is None)
            except LimitReached:
                if not settle_abandoned(key):
                    raise
                key, delta = deltas.again(key, delta)
                continue
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
            key, delta = deltas.again(key, delta)
            if delta.status == STORED:
                return _same(delta, wanted)
            if key.storage_id != place.storage_id:
                raise _moved_meanwhile() from None
            continue
        delta.attribute_values.update(changes)
        return delta
    raise AssertionError("tries() ends by raising")


def _same(delta: Delta, wanted: Attempt) -> Delta:
    if delta.attempt != wanted["attempt"]:
        raise AttemptMismatch("another attempt of this delta was confirmed meanwhile; it stays as it is")
    return delta


# ---- what was abandoned ----------------------------------------------------------------------------------
def settle_abandoned(key: VaultKey) -> int:
    """See to the attempts at a key's deltas whose URLs have ended; gives how many reservations were given back."""
    over = [delta for delta in keys.rows_of(key.key_uuid) if delta.status == PENDING and delta.expires_at <= seam.timestamp()]
    return sum(end(layout.place_of(key), delta) == EXPIRED for delta in over)


def end(place: Place, delta: Delta) -> str:
    """Have a delta whose last URL has ended be stored, if it has come, or give back its reservation; gives what became of it.

    Raises StorageUnavailable.
    """
    found = place.describer.describe(place.at(delta.delta_uuid))
    if found is not None:
        try:
            return str(_confirm(place, delta, found.metadata.get(ATTEMPT, ""), found).status)
        except (AttemptMismatch, IntegrityFailed, BytesMissing):
            _, delta = deltas.again(place.key, delta)  # not what was promised: it counts as nothing
    return expire(place.key, delta)


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
