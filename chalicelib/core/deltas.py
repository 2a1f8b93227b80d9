"""Deltas: found, listed, downloaded and deleted. How they come to be is in `core/attempts.py`.

Deleting asks the storage first and removes the row last, so one that dies in between is repeated. What the storage does not delete is
told, for its owner to do it: the record goes all the same (seed 000 "DELETE Permission Is Optional"). While a URL still works by which
the delta could come back, its row stays as a mark for the cleanup, which looks once more when the URL has ended.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from chalicelib import seam
from chalicelib.access.principals import Principal
from chalicelib.core import keys, layout, names, quotas
from chalicelib.core.layout import ATTEMPT, URL_LIFETIME, Place
from chalicelib.errors import DeltaMissing, DeltaNotFound, IntegrityFailed, NotUploaded, StorageRemoved, StorageUnavailable
from chalicelib.tables.deltas import DELETED, EXPIRED, STORED, Delta, DeltaPointer
from chalicelib.tables.keys import ACTIVE, VaultKey
from chalicelib.tables.table import Transaction, TransactionFailed, read_together, tries

# Seconds. A PUT that began just before its URL ended takes a while.
LATE = 3600
CONTENT_TYPE = "application/octet-stream"
MAX_TOLD = 1000


# ---- reading ---------------------------------------------------------------------------------------------
def find(principal: Principal, delta_uuid: str) -> tuple[VaultKey, Delta]:
    """A delta and its key as they stand, for whoever may see the key; raises DeltaNotFound, Unauthorized, Forbidden."""
    keys.require_entry(principal)
    pointer = DeltaPointer.read(delta_uuid, DeltaPointer.ITEM) if names.is_uuid(delta_uuid) else None
    if pointer is not None:
        key, delta = as_they_stand(principal.tenant_id, pointer.key_uuid, delta_uuid)
        if key is not None and delta is not None and keys.is_visible(principal, key) and delta.status != DELETED:
            return key, delta
    raise not_found(delta_uuid)


def as_they_stand(tenant_id: str, key_uuid: str, delta_uuid: str) -> tuple[VaultKey | None, Delta | None]:
    """A key and one of its deltas, whoever asks; None for what is not there."""
    key, delta = read_together((VaultKey, tenant_id, key_uuid), (Delta, key_uuid, delta_uuid))
    return key, delta


def find_stored(principal: Principal, delta_uuid: str) -> tuple[VaultKey, Delta]:
    """The same of one that is confirmed; raises NotUploaded too."""
    key, delta = find(principal, delta_uuid)
    if delta.status != STORED:
        raise NotUploaded("this delta is not stored yet: send its bytes to the URL of its attempt, then confirm that")
    return key, delta


def not_found(delta_uuid: str) -> DeltaNotFound:
    return DeltaNotFound(f"there is no delta {delta_uuid[:64]}")


def again(key: VaultKey, delta: Delta) -> tuple[VaultKey, Delta]:
    """Both as they stand by now; raises DeltaNotFound when one is gone."""
    now, there = as_they_stand(key.tenant_id, key.key_uuid, delta.delta_uuid)
    if now is None or now.status != ACTIVE or there is None or there.status == DELETED:
        raise not_found(delta.delta_uuid)
    return now, there


def page(principal: Principal, key_uuid: str, limit: int, after: str | None) -> tuple[Place, Sequence[Delta], str | None]:
    """Up to `limit` deltas of a key, oldest first, that come `after` one, and the last of them if there are more.

    Those that may still come by a URL that works are among them.
    """
    key = keys.get(principal, key_uuid)
    keys.check_page(limit, after)
    shown = (delta for delta in keys.rows_of(key.key_uuid, after or "") if delta.status not in (EXPIRED, DELETED))
    found = list(islice(shown, limit + 1))
    return layout.place_of(key), found[:limit], found[limit - 1].delta_uuid if len(found) > limit else None


def download(principal: Principal, delta_uuid: str) -> tuple[str, float]:
    """A URL that answers GET with a delta, and when it ends (seconds since 1970).

    The object is looked at first: raises DeltaMissing when there is none, IntegrityFailed when it is another. And DeltaNotFound,
    NotUploaded, LimitReached.
    """
    key, delta = find_stored(principal, delta_uuid)
    is_internal = key.storage_id is None
    if is_internal:
        quotas.check(key, quotas.DOWNLOADS)
    place = layout.place_of(key)
    presigner, describer = place.require_fit()
    found = describer.describe(place.at(delta_uuid))
    if found is None:
        raise DeltaMissing(f"nothing lies at {place.whole(delta_uuid)}; GET /keys/check-layout tells what else is missing there")
    # What was copied there may tell of no attempt.
    is_of_another = found.metadata.get(ATTEMPT, delta.attempt) != delta.attempt
    if is_of_another or place.is_of(found, int(delta.size_bytes), delta.content_md5) is False:
        raise IntegrityFailed(f"what lies at {place.whole(delta_uuid)} is not this delta: it was overwritten by other means than Stowage")
    if is_internal:
        quotas.take(key, quotas.DOWNLOADS)
    url = presigner.presign_get(place.at(delta_uuid), URL_LIFETIME, CONTENT_TYPE, f'attachment; filename="{delta_uuid}"')
    return url, seam.timestamp() + URL_LIFETIME


# ---- deleting --------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Left:
    """What a deletion has left in storages: how many objects, why, and where the first `MAX_TOLD` of them lie.

    `kept` are ids of deltas by the whole key of the folder that they lie in, which may be a long one. `missing` are the whole keys of
    objects that were not there to be deleted.
    """

    count: int = 0
    causes: list[str] = field(default_factory=list)
    kept: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, folder: str, causes: Mapping[str, str]) -> None:
        """Note what was kept in one folder, and why, by delta."""
        room = MAX_TOLD - sum(map(len, self.kept.values()))
        if causes:
            self.kept.setdefault(folder, []).extend(islice(causes, max(0, room)))
            self.count += len(causes)
            self.causes = sorted({*self.causes, *causes.values()})

    @property
    def keys(self) -> list[str]:
        """The whole keys of what was kept, as its bucket's owner sees them."""
        return [folder + delta_uuid for folder, ids in self.kept.items() for delta_uuid in ids]

    @property
    def warning(self) -> str | None:
        """What the caller has to know of it."""
        told = []
        if self.count:
            where = ", ".join(self.kept)
            told.append(f"the storage did not delete {self.count} object(s) below {where} ({', '.join(self.causes)}); delete them yourself")
        if self.missing:
            told.append(f"no object was seen at {', '.join(self.missing)}; if the key or its storage was pointed elsewhere, look there")
        return "; ".join(told) or None


def delete(principal: Principal, delta_uuid: str) -> Left:
    """Remove a delta, and its object if the storage lets it; raises DeltaNotFound.

    A copy that a migration has stored while the row went is deleted after that: one that comes later still, the migration deletes.
    """
    missing: list[str] | None = None
    for _ in tries(quotas.BUSY):
        key, delta = find(principal, delta_uuid)
        missing = _missing(key, delta) if missing is None else missing
        left = Left()
        stays_here = remove_copies(key, [delta_uuid], layout.copies_of(key), left)
        try:
            _forget(key, delta, bool(stays_here))
        except TransactionFailed:
            continue
        if key.target_id is not None:
            remove_copies(key, [delta_uuid], [key.target_id], Left())
        left.missing = [each for each in missing if each not in left.keys]
        return left
    raise AssertionError("tries() ends by raising")


def _missing(key: VaultKey, delta: Delta) -> list[str]:
    """The whole key of a stored delta's object if nothing is seen there, which is told: it may have been left elsewhere."""
    if delta.status != STORED:
        return []
    try:
        place = layout.place_of(key)
    except StorageUnavailable:
        return []  # deleting will tell
    with suppress(StorageUnavailable):
        if place.provider.stat(place.at(delta.delta_uuid)) is not None:
            return []
    return [place.whole(delta.delta_uuid)]


def remove_copies(key: VaultKey, delta_uuids: Sequence[str], storages: Iterable[str | None], left: Left) -> list[str]:
    """Delete the objects of deltas in these storages, and note in `left` what a tenant's have kept; gives what the internal one has.

    That only Stowage can delete, later: it is nobody else's business.
    """
    stays_here: list[str] = []
    for storage_id in storages:
        try:
            place = layout.place_in(key, storage_id)
            folder, stayed = place.whole(""), place.remove(delta_uuids)
        except StorageRemoved:
            continue  # with its record the right to touch what lies there is gone
        except StorageUnavailable as error:  # its credentials cannot be opened
            folder, stayed = f"{key.key_uuid}/", dict.fromkeys(delta_uuids, error.code)
        if storage_id is None:
            stays_here += stayed
        else:
            left.add(folder, stayed)
    return stays_here


def _forget(key: VaultKey, delta: Delta, stays_here: bool) -> None:
    """Remove a delta's row, or leave a mark, and count one less, in one; raises TransactionFailed when something has changed."""
    is_stored = delta.status == STORED
    actions = [VaultKey.revision.add(1)]
    if delta.status != EXPIRED:
        actions.append(VaultKey.stored.add(-1))
    if is_stored:
        actions += [VaultKey.deltas.add(-1), VaultKey.size_bytes.add(-int(delta.size_bytes))]
    same = keys.is_active() & keys.points_to(key.storage_id) & keys.goes_to(key.target_id)
    unchanged = Delta.revision == delta.revision
    with Transaction() as transaction:
        mark = mark_of(delta, stays_here)
        if mark is None:
            transaction.remove(delta, unchanged)
        else:
            transaction.put(mark, unchanged)
        transaction.remove(DeltaPointer(delta.delta_uuid), DeltaPointer.key_uuid == key.key_uuid)
        transaction.change(VaultKey(key.tenant_id, key.key_uuid), actions, same)


def mark_of(delta: Delta, stays_here: bool = False) -> Delta | None:
    """What stays of a deleted delta while it could come back by a URL that works, or the internal storage has not let go of it.

    None when neither is so.
    """
    now = seam.timestamp()
    ends = max((each["expires_at"] for each in delta.attempts), default=0) + LATE
    if ends <= now and not stays_here:
        return None
    due = int(max(ends, now))
    mark = Delta(delta.key_uuid, delta.delta_uuid, tenant_id=delta.tenant_id, status=DELETED, attempts=delta.attempts)
    mark.created_at, mark.revision, mark.expires_at, mark.expiry_hour = delta.created_at, delta.revision + 1, due, seam.hour(due)
    return mark
