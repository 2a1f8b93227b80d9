"""The vault's keys: a user's own, or the service key's, which sees all of its tenant's.

A key lies on the internal storage or on one of the tenant's, which counts it in its own row, in the same transaction; so none can be
removed under a key. It may be pointed to another storage by hand, after its deltas were copied there: that moves nothing and cannot be
undone towards internal storage (seed 000). Moving it with its deltas is a job (`core/migrating.py`), and so is its end.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pynamodb.expressions.condition import Condition

from chalicelib import seam
from chalicelib.access.permissions import require_user
from chalicelib.access.principals import Principal, Role
from chalicelib.core import keeping, layout, names
from chalicelib.errors import InvalidCursor, InvalidRequest, KeyBusy, KeyNotFound, StorageNotFound, Unavailable
from chalicelib.tables.deltas import STORED, Delta
from chalicelib.tables.keys import ACTIVE, INTERNAL, VaultKey
from chalicelib.tables.table import Item, Transaction, TransactionFailed, tries

MAX_PAGE = 1000
# So that limits a key are limits a user.
MAX_KEYS_OF_USER = 100
NOT_MOVED = (
    "the deltas of this key are not moved: each has to lie at its place in the new storage. GET /keys/check-layout tells which do not,"
    " POST /keys/migrate copies them"
)
BACK_TO_INTERNAL = "storage_uuid: a key does not go back to internal storage; name a storage, or leave the field out"


# ---- reading ---------------------------------------------------------------------------------------------
def get(principal: Principal, key_uuid: str) -> VaultKey:
    """A key as it stands, for its owner or the service key; raises KeyNotFound, Unauthorized, Forbidden."""
    key = get_even_ending(principal, key_uuid)
    if key.status != ACTIVE:
        raise not_found(key_uuid)
    return key


def require_entry(principal: Principal) -> None:
    """Raise Unauthorized or Forbidden for all but users and the service key."""
    require_user(principal, "the vault")


def get_even_ending(principal: Principal, key_uuid: str) -> VaultKey:
    """The same, also of a key that is being deleted."""
    require_entry(principal)
    key = VaultKey.read(principal.tenant_id, key_uuid) if names.is_uuid(key_uuid) else None
    if key is None or not _is_own(principal, key):
        raise not_found(key_uuid)
    return key


def is_visible(principal: Principal, key: VaultKey) -> bool:
    """Whether the principal may know of a key of its tenant's: one that is being deleted is gone."""
    return key.status == ACTIVE and _is_own(principal, key)


def _is_own(principal: Principal, key: VaultKey) -> bool:
    return principal.is_service or (principal.uid is not None and key.owner_id == principal.uid)


def page(principal: Principal, limit: int, after: str | None) -> tuple[list[VaultKey], str | None]:
    """Up to `limit` keys, oldest first, that come `after` one, and the last of them if there are more.

    A user's own are read from an index, which follows writes by moments.
    """
    require_entry(principal)
    check_page(limit, after)
    found = list(islice(_of(principal, after), limit + 1))
    return found[:limit], found[limit - 1].key_uuid if len(found) > limit else None


def check_page(limit: int, after: str | None) -> None:
    """Raise InvalidRequest or InvalidCursor for a page that cannot be."""
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest(f"limit lies between 1 and {MAX_PAGE}")
    if after is not None and not names.is_uuid(after):
        raise InvalidCursor("the cursor is not one that this list gave; begin again without it")


def _of(principal: Principal, after: str | None) -> Iterator[VaultKey]:
    for item in _items_of(principal, after):
        key = VaultKey.from_raw_data(item)
        if key.status == ACTIVE:
            yield key


def _items_of(principal: Principal, after: str | None, **more: Any) -> Iterator[Item]:
    partition, value = ("tenant_id", principal.tenant_id) if principal.is_service else ("owner_key", _owner_key(principal))
    condition, values = f"{partition} = :of", {":of": {"S": value}}
    if after is not None:
        condition, values = f"{condition} AND key_uuid > :after", values | {":after": {"S": after}}
    index = {"ConsistentRead": True} if principal.is_service else {"IndexName": "by-owner"}
    for page_ in VaultKey.pages(KeyConditionExpression=condition, ExpressionAttributeValues=values, **index, **more):
        yield from page_


def _owner_key(principal: Principal) -> str | None:
    return None if principal.uid is None else f"{principal.tenant_id}#{principal.uid}"


def not_found(key_uuid: str) -> KeyNotFound:
    return KeyNotFound(f"there is no key {key_uuid[:64]}")


# ---- conditions ------------------------------------------------------------------------------------------
def is_active() -> Condition:
    """That a key is there and is not being deleted."""
    condition: Condition = VaultKey.status == ACTIVE
    return condition


def points_to(storage_id: str | None) -> Condition:
    """That a key's deltas lie in this storage."""
    return _is(VaultKey.storage_id, storage_id)


def goes_to(storage_id: str | None) -> Condition:
    """That a key is being moved to this storage, None: to none."""
    return _is(VaultKey.target_id, storage_id)


def is_unchanged(key: VaultKey) -> Condition:
    """That what a migration would copy is what it was, and no job has begun."""
    unchanged: Condition = is_active() & _is(VaultKey.job_id, key.job_id) & (VaultKey.revision == key.revision)
    return unchanged


def _is(attribute: Any, value: str | None) -> Condition:
    condition: Condition = attribute.does_not_exist() if value is None else attribute == value
    return condition


# ---- making and changing ---------------------------------------------------------------------------------
def create(principal: Principal, name: str, storage_id: str | None) -> VaultKey:
    """A new key of the caller's, on one of the tenant's storages, None: the internal one.

    Raises InvalidRequest, StorageNotFound, ProbeFailed, CannotPresign.
    """
    require_entry(principal)
    _require_room(principal)
    now = seam.iso(seam.now())
    key = VaultKey(principal.tenant_id, seam.new_timed_uuid(), storage_id=storage_id, created_at=now, updated_at=now)
    key.name, key.owner_id, key.owner_key = names.check_title(name), principal.uid, _owner_key(principal)
    revision = _require_usable(principal, key, storage_id)
    for _ in tries("the storage is being changed; try again shortly"):
        try:
            with Transaction() as transaction:
                transaction.put(key, VaultKey.key_uuid.does_not_exist())
                if storage_id is not None:
                    keeping.refer(transaction, key.tenant_id, storage_id, "keys", 1, revision)
            return key
        except TransactionFailed as failed:
            if failed.rows[0] is not None:
                return key  # the id is random: what stands there is this key, and an answer was lost
            if not failed.conflict:
                raise _changed_meanwhile(failed.rows[1], storage_id) from failed
    raise AssertionError("tries() ends by raising")


def _require_room(principal: Principal) -> None:
    """Raise for a user who has enough keys, by an index that follows writes by moments."""
    if not principal.is_service and sum(1 for _ in _items_of(principal, None, ProjectionExpression="key_uuid")) >= MAX_KEYS_OF_USER:
        raise InvalidRequest(f"a user has at most {MAX_KEYS_OF_USER} keys; delete one that is not used")


def _require_usable(principal: Principal, key: VaultKey, storage_id: str | None) -> int | None:
    """Raise unless deltas can be put there; gives the revision of the storage that this is true of."""
    revision = None
    if storage_id is not None:
        from chalicelib.core import storages  # with all that probes them, which keys on internal storage do not need

        revision = storages.require_usable(principal, storage_id)
    layout.place_in(key, storage_id).require_fit()
    return revision


def _changed_meanwhile(met: Any, storage_id: str | None) -> Exception:
    if met is not None and met.row is None:
        return StorageNotFound(f"there is no storage {storage_id}")
    return Unavailable("the storage was changed at this moment; try again")


def edit(principal: Principal, key_uuid: str, changes: Mapping[str, str | None]) -> tuple[VaultKey, str | None]:
    """Give a key another `name`, or another `storage_id` to point to, without moving anything; gives what its user has to know of that.

    Raises KeyNotFound, KeyBusy, StorageNotFound, ProbeFailed, CannotPresign, KeyTooLong, InvalidRequest.
    """
    name, storage_id = changes.get("name"), changes.get("storage_id")
    if name is not None:
        names.check_title(name)
    if "storage_id" in changes and storage_id is None:
        raise InvalidRequest(BACK_TO_INTERNAL, field="storage_uuid")
    for _ in tries(f"key {key_uuid} is being used; try again shortly"):
        key = get(principal, key_uuid)
        written: dict[str, Any] = {"updated_at": seam.iso(seam.now())} | ({"name": name} if name is not None else {})
        is_moved = storage_id is not None and storage_id != key.storage_id
        revision = _pointed_elsewhere(principal, key, str(storage_id), written) if is_moved else None
        try:
            with Transaction() as transaction:
                unchanged = is_unchanged(key) if is_moved else is_active()
                transaction.change(VaultKey(key.tenant_id, key_uuid), VaultKey.setting(written), unchanged)
                if is_moved:
                    keeping.refer(transaction, key.tenant_id, str(storage_id), "keys", 1, revision)
                    if key.storage_id is not None:
                        keeping.refer(transaction, key.tenant_id, key.storage_id, "keys", -1)
        except TransactionFailed:
            continue  # what has changed is met by looking anew
        key.attribute_values.update(written)
        return key, NOT_MOVED if storage_id is not None and key.moved_from is not None else None
    raise AssertionError("tries() ends by raising")


def _pointed_elsewhere(principal: Principal, key: VaultKey, storage_id: str, written: dict[str, Any]) -> int | None:
    """Add what is to be written of a key that is to point to another storage; gives the revision of that for which it may."""
    require_idle(key)
    # What lies in internal storage nobody but Stowage can reach: that is not forgotten for a place of the tenant's own.
    stays = key.moved_from == INTERNAL or not key.deltas
    written["moved_from"] = key.moved_from if stays else key.storage_id or INTERNAL
    written |= {"storage_id": storage_id, "revision": key.revision + 1}
    return _require_usable(principal, key, storage_id)


def require_idle(key: VaultKey) -> None:
    """Raise KeyBusy while a job moves a key."""
    if key.job_id is not None:
        raise KeyBusy("this key is being moved to another storage; wait until that is done: GET /jobs/{job_id}", job_id=key.job_id)


def owner_of(key: VaultKey, principal: Principal) -> Principal:
    """In whose name a job works on a key: its owner's, who may then ask for it, whoever has started it."""
    return principal if key.owner_id is None else Principal(Role.USER, key.tenant_id, {"sub": key.owner_id})


# ---- what lies there -------------------------------------------------------------------------------------
@dataclass(slots=True)
class Layout:
    """What was found of `checked` deltas of a key where it points: the whole keys, by delta, of those that are missing or of another size.

    There are more deltas `after` the last one that was looked at, unless that is None.
    """

    checked: int = 0
    missing: dict[str, str] = field(default_factory=dict)
    differing: dict[str, str] = field(default_factory=dict)
    after: str | None = None


def check_layout(key: VaultKey, limit: int, after: str | None) -> Layout:
    """Look whether up to `limit` deltas of a key that come `after` one lie where they have to, by listing what lies there.

    Both come in the order of their ids, so they are gone through side by side. Raises StorageUnavailable, InvalidRequest, InvalidCursor.
    """
    check_page(limit, after)
    place, found = layout.place_of(key), Layout()
    listing = place.provider.list(place.at(""), place.at(after) if after else "")
    lies = next(listing, None)
    looked_at = after
    for delta in stored_deltas(key, after or ""):
        if found.checked == limit:
            found.after = looked_at
            break
        looked_at, wanted = delta.delta_uuid, place.at(delta.delta_uuid)
        found.checked += 1
        while lies is not None and lies.key < wanted:
            lies = next(listing, None)
        if lies is None or lies.key != wanted:
            found.missing[delta.delta_uuid] = place.whole(delta.delta_uuid)
        elif lies.size != delta.size_bytes:
            found.differing[delta.delta_uuid] = place.whole(delta.delta_uuid)
    return found


def stored_deltas(key: VaultKey, after: str = "") -> Iterator[Delta]:
    """The confirmed deltas of a key that come `after` one, as they stand, oldest first."""
    for delta in rows_of(key.key_uuid, after):
        if delta.status == STORED:
            yield delta


def rows_of(key_uuid: str, after: str = "") -> Iterator[Delta]:
    """Every row of a key's deltas that comes `after` one, as it stands but for its claims, oldest first."""
    named = {f"#{number}": each.attr_name for number, each in enumerate(Delta.get_attributes().values()) if each.attr_name != "claims"}
    query = {
        "KeyConditionExpression": "#partition = :key AND #item > :after",
        "ExpressionAttributeNames": {"#partition": "partition", "#item": "item"} | named,
        "ExpressionAttributeValues": {":key": {"S": key_uuid}, ":after": {"S": after or "-"}},
        "ProjectionExpression": ", ".join(named),
        "ConsistentRead": True,
    }
    for page_ in Delta.pages(**query):
        yield from (Delta.from_raw_data(item) for item in page_)
