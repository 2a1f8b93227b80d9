"""Storages of tenants: connections to providers, with credentials that nobody is ever shown again.

A storage is probed before it is trusted: the vault saves none that fails, and no bucket is made on one that was never reached. What
refers to a storage is counted in its own row, in the transaction that makes or removes the reference, so that it cannot be removed,
nor pointed elsewhere, under what lies there. Removing one removes a row: its bucket is neither listed nor emptied.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from chalicelib import seam
from chalicelib.access.permissions import require_permission
from chalicelib.access.principals import Permission, Principal
from chalicelib.access.sealing import seal
from chalicelib.core import keeping, limits, names, probing, storage_rules
from chalicelib.core.keeping import PLAIN, connection_of, record_of_secrets
from chalicelib.core.probing import Profile, Result
from chalicelib.core.storage_rules import VAULT
from chalicelib.errors import (
    Forbidden,
    InvalidRequest,
    ProbeFailed,
    StorageExists,
    StorageInUse,
    StorageNotFound,
    Unavailable,
)
from chalicelib.observability import logger
from chalicelib.providers.catalogue import KINDS, SPEAKS_FTP, SPEAKS_SFTP, Connection
from chalicelib.settings import settings
from chalicelib.tables.storages import Storage, StorageName, is_storage
from chalicelib.tables.table import ConditionFailed, Transaction, TransactionFailed, tries
from chalicelib.tables.tenants import Tenant

UNTESTED, HEALTHY, DEGRADED = "untested", "healthy", "degraded"
MAX_STORAGES = 100
SECRETS = ("access_key", "secret_key", "private_key")
NOT_ENABLED = "Organization storage configuration is not enabled on this platform. Contact your platform administrator."


# ---- reading ---------------------------------------------------------------------------------------------
def get(principal: Principal, surface: str, storage_id: str) -> Storage:
    """A storage of this surface; raises StorageNotFound, Forbidden, Unauthorized."""
    require_permission(principal, Permission.LIST_STORAGES)
    return _of_surface(principal, surface, storage_id)


def all_of(principal: Principal, surface: str) -> list[Storage]:
    """Every storage that was made on this surface, oldest first."""
    require_permission(principal, Permission.LIST_STORAGES)
    rows = (Storage.from_raw_data(item) for page in Storage.pages_of(principal.tenant_id) for item in page if is_storage(item))
    return sorted((row for row in rows if row.surface == surface), key=lambda row: (row.created_at, row.storage_id))


def _of_surface(principal: Principal, surface: str, storage_id: str) -> Storage:
    row = Storage.read(principal.tenant_id, storage_id) if names.is_uuid(storage_id) else None
    if row is None or row.surface != surface:
        raise _not_found(storage_id)
    return row


def _not_found(storage_id: str) -> StorageNotFound:
    return StorageNotFound(f"there is no storage {storage_id[:64]}")


def default_of(tenant_id: str) -> str | None:
    """The id of the tenant's default storage."""
    tenant = Tenant.read(tenant_id)
    return tenant.default_storage_id if tenant else None


# ---- making, changing, removing --------------------------------------------------------------------------
def create(principal: Principal, surface: str, name: str, given: Mapping[str, Any], is_default: bool = False) -> tuple[Storage, str | None]:
    """A new storage, and what its probe warns of; raises InvalidRequest, StorageExists, ProbeFailed, Forbidden.

    The vault's are probed first, and saved only if that succeeds. Those of backups are tested when their user asks for it, and
    at the latest before a bucket is made on one.
    """
    require_permission(principal, Permission.CREATE_STORAGES)
    connection = _permitted(surface, given)
    _require_room(principal.tenant_id)
    now, storage_id = seam.iso(seam.now()), seam.new_uuid()
    row = Storage(principal.tenant_id, storage_id, surface=surface, created_at=now, updated_at=now, credentials_changed_at=now)
    row.name = storage_rules.check_name(surface, name)
    _require_free(row)
    _describe(row, connection)
    warning = None
    if surface == VAULT:
        result = _probe(principal, connection, profile_of(row, _user_id(principal)))
        _note(row, result)
        row.expected, warning = row.probe, result.warning
        _log(row, warning)
    try:
        with Transaction() as transaction:
            transaction.put(row, Storage.storage_id.does_not_exist())
            if surface == VAULT:
                transaction.put(_name_of(row), StorageName.item.does_not_exist())
            if is_default:
                transaction.change(Tenant(row.tenant_id), [Tenant.default_storage_id.set(storage_id)], Tenant.tenant_id.exists())
    except TransactionFailed as failed:
        if Storage.read(row.tenant_id, storage_id) is None:  # else it is there, and an answer was lost
            if surface == VAULT and failed.rows[1] is not None:
                raise _name_taken(row) from failed
            raise Unavailable("the tenant is being changed; try again shortly") from failed
    return row, warning


def _require_room(tenant_id: str) -> None:
    pages = Storage.pages_of(tenant_id, ProjectionExpression="storage_id")
    if sum(is_storage(item) for page in pages for item in page) >= MAX_STORAGES:
        raise InvalidRequest(f"a tenant has at most {MAX_STORAGES} storages; delete one that is not used")


def _permitted(surface: str, given: Mapping[str, Any]) -> Connection:
    """The connection that is described, if tenants may bring such; raises InvalidRequest, Forbidden."""
    if not settings().allow_org_byos:
        raise Forbidden(NOT_ENABLED)
    connection = storage_rules.checked(surface, given)
    if connection.kind not in settings().enabled_kinds:
        raise Forbidden(f"storages of the kind {connection.kind} are not enabled on this platform")
    return connection


def _name_of(row: Storage) -> StorageName:
    return StorageName(row.tenant_id, f"{StorageName.PREFIX}{row.surface}#{row.name}", taken_by=row.storage_id)


def _require_free(row: Storage) -> None:
    """Spare a probe for a name that is taken; the transaction decides."""
    if row.surface == VAULT and StorageName.read(row.tenant_id, _name_of(row).item) is not None:
        raise _name_taken(row)


def _name_taken(row: Storage) -> StorageExists:
    return StorageExists(f"there is a storage {row.name} already")


def _describe(row: Storage, connection: Connection) -> None:
    told = asdict(connection)
    for field in PLAIN:
        setattr(row, field, told[field])
    secrets = {field: told[field] for field in SECRETS}
    row.sealed = seal(json.dumps(secrets), record_of_secrets(row.tenant_id, row.storage_id))


def change(principal: Principal, surface: str, storage_id: str, changes: Mapping[str, Any]) -> tuple[Storage, str | None]:
    """Set fields of the model, `name`, `is_active` or `is_default`, and leave the others; gives what a probe warns of.

    Only changed connection details are probed, on the vault, before anything is saved. Raises what `create` does, and
    StorageInUse for another place while buckets or backups lie in this one.
    """
    require_permission(principal, Permission.UPDATE_STORAGES)
    for _ in tries(f"storage {storage_id} is being changed; try again shortly"):
        row = _of_surface(principal, surface, storage_id)
        changed, warning, unreferred = _changed(principal, row, changes)
        try:
            _save(row, changed, unreferred, changes.get("is_default"))
        except ConditionFailed as failed:
            if failed.row is not None and failed.row.revision == row.revision and unreferred and (failed.row.buckets or failed.row.backups):
                raise _in_use(failed.row) from failed
            continue
        keeping.changed(row.tenant_id, storage_id)
        return _of_surface(principal, surface, storage_id), warning
    raise AssertionError("tries() ends by raising")


def _changed(principal: Principal, row: Storage, changes: Mapping[str, Any]) -> tuple[Storage, str | None, bool]:
    """The row as it is to be, what its probe warns of, and whether it is only for a storage that no bucket or backup lies on."""
    changed, before = Storage(**row.attribute_values), connection_of(row)
    changed.name = storage_rules.check_name(row.surface, changes.get("name", row.name))
    changed.is_active = changes.get("is_active", row.is_active)
    if changed.name != row.name:
        _require_free(changed)
    details = {field: value for field, value in changes.items() if field in PLAIN + SECRETS}
    if not details:
        return changed, None, False
    after = _permitted(row.surface, _kept(before, details) | details)
    if after == before:
        return changed, None, False
    _require_secrets_again(before, after, details)
    moved = after.place != before.place
    if moved and (row.buckets or row.backups):
        raise _in_use(row)
    _describe(changed, after)
    now = seam.iso(seam.now())
    if any(getattr(after, field) != getattr(before, field) for field in SECRETS):
        changed.credentials_changed_at = now
    changed.status, changed.failures = UNTESTED, 0
    changed.reason = changed.probe = changed.expected = changed.probed_at = None
    if row.surface != VAULT and not row.buckets:
        return changed, None, moved
    result = _probe(principal, after, profile_of(row, _user_id(principal)))
    _note(changed, result)
    changed.expected = changed.probe
    _log(changed, result.warning)
    return changed, result.warning, moved


def _kept(before: Connection, details: Mapping[str, Any]) -> dict[str, Any]:
    """What of a connection stays when these details change: not what belongs to another kind, or was derived from what they replace."""
    if details.get("kind", before.kind) != before.kind:
        return {field: getattr(before, field) for field in ("bucket", "prefix", *SECRETS)}
    kept = asdict(before)
    if before.kind == "backblaze_b2" and "endpoint" in details:
        kept["region"] = ""
    return kept


def _require_secrets_again(before: Connection, after: Connection, details: Mapping[str, Any]) -> None:
    """Raise unless who sends a password elsewhere knows it: a server is shown it as it stands, and whoever named it would read it."""
    if KINDS[after.kind].protocol not in (SPEAKS_SFTP, SPEAKS_FTP):
        return  # the others are shown a signature
    shown_to = ("kind", "host", "port", "tls", "host_key")
    elsewhere = any(getattr(before, field) != getattr(after, field) for field in shown_to)
    if elsewhere and any(getattr(after, field) and field not in details for field in ("secret_key", "private_key")):
        raise InvalidRequest("secret_key: give it again with another server or host key", field="secret_key")


def _save(row: Storage, changed: Storage, unreferred: bool, is_default: bool | None) -> None:
    """Write what has changed, if the row has not meanwhile; raises ConditionFailed."""
    changed.revision, changed.updated_at = row.revision + 1, seam.iso(seam.now())
    counted = ("buckets", "keys", "backups", "backup_bytes", "object_count", "total_size_bytes", "miscounted", "last_used_at")
    before, after = row.attribute_values, changed.attribute_values
    actions = Storage.setting({field: after[field] for field in after if field not in counted and after[field] != before.get(field)})
    condition = Storage.revision == row.revision
    if unreferred:
        condition &= (Storage.buckets == 0) & (Storage.backups == 0)
    try:
        with Transaction() as transaction:
            transaction.change(Storage(row.tenant_id, row.storage_id), actions, condition)
            if row.surface == VAULT and changed.name != row.name:
                transaction.put(_name_of(changed), StorageName.item.does_not_exist())
                transaction.remove(_name_of(row), StorageName.taken_by == row.storage_id)
            _make_default(transaction, row, is_default)
    except TransactionFailed as failed:
        met = Storage.read(row.tenant_id, row.storage_id)
        if met is not None and met.revision == changed.revision and met.updated_at == changed.updated_at:
            return  # ours: the answer was lost
        if row.surface == VAULT and changed.name != row.name and failed.rows[1] is not None:
            raise _name_taken(changed) from failed
        raise ConditionFailed(met) from failed


def _make_default(transaction: Transaction, row: Storage, is_default: bool | None) -> None:
    """Have `transaction` make a storage the tenant's default, or no longer so."""
    tenant = Tenant(row.tenant_id)
    if is_default:
        transaction.change(tenant, [Tenant.default_storage_id.set(row.storage_id)], Tenant.tenant_id.exists())
    elif is_default is False and default_of(row.tenant_id) == row.storage_id:
        transaction.change(tenant, [Tenant.default_storage_id.remove()], Tenant.default_storage_id == row.storage_id)


def delete(principal: Principal, surface: str, storage_id: str) -> None:
    """Remove the record, and nothing of what lies in the storage; raises StorageInUse while anything refers to it."""
    require_permission(principal, Permission.DELETE_STORAGES)
    for _ in tries(f"storage {storage_id} is being used; try again shortly"):
        row = _of_surface(principal, surface, storage_id)
        unused = (Storage.buckets == 0) & (Storage.keys == 0) & (Storage.backups == 0)
        is_default = default_of(row.tenant_id) == storage_id
        another = Tenant.default_storage_id.does_not_exist() | (Tenant.default_storage_id != storage_id)
        try:
            with Transaction() as transaction:
                transaction.remove(Storage(row.tenant_id, storage_id), unused)
                if is_default:
                    transaction.change(Tenant(row.tenant_id), [Tenant.default_storage_id.remove()], Tenant.default_storage_id == storage_id)
                else:
                    transaction.check(Tenant(row.tenant_id), another)
                if surface == VAULT:
                    transaction.remove(_name_of(row), StorageName.taken_by == storage_id)
            break
        except TransactionFailed as failed:
            if failed.rows[0] is not None and failed.rows[0].row is not None:
                raise _in_use(failed.rows[0].row) from failed
    keeping.changed(principal.tenant_id, storage_id)


def _in_use(row: Storage) -> StorageInUse:
    counts = {"backups": int(row.backups), "keys": int(row.keys), "buckets": int(row.buckets)}
    what, number = next(((what, number) for what, number in counts.items() if number), ("buckets", 0))
    if what == "backups":
        message = f"Cannot delete storage config with {number} backups. Delete or migrate backups first."
    else:
        message = f"Cannot delete or move a storage with {number} {what}. Delete or move them first."
    return StorageInUse(message, **{name: count for name, count in counts.items() if count})


# ---- probing ---------------------------------------------------------------------------------------------
def try_out(principal: Principal, surface: str, given: Mapping[str, Any]) -> Result:
    """Probe a storage that is not saved; raises InvalidRequest, Forbidden, Throttled."""
    require_permission(principal, Permission.CREATE_STORAGES)
    return _result(principal, _permitted(surface, given), probing.backups_profile())


def try_saved(principal: Principal, surface: str, storage_id: str) -> Result:
    """Probe a storage as it stands and keep what is found; raises StorageNotFound, Throttled."""
    require_permission(principal, Permission.LIST_STORAGES)
    row = _of_surface(principal, surface, storage_id)
    result = _result(principal, connection_of(row), profile_of(row, _user_id(principal)))
    note(row, result, asked_for=principal.may(Permission.UPDATE_STORAGES))
    keep(row)
    return result


def profile_of(row: Storage, user_id: str) -> Profile:
    """How a storage is probed, as the surface says that it was made on."""
    return probing.vault_profile(row.storage_id, user_id) if row.surface == VAULT else probing.backups_profile()


def _user_id(principal: Principal) -> str:
    return principal.uid or principal.tenant_id


def _result(principal: Principal, connection: Connection, profile: Profile) -> Result:
    limits.take(principal.tenant_id, "probes", settings().probes_per_minute)
    return probing.probe(connection, principal.tenant_id, profile)


def _probe(principal: Principal, connection: Connection, profile: Profile) -> Result:
    """What a probe finds that succeeds; raises ProbeFailed."""
    result = _result(principal, connection, profile)
    if result.problem is not None:
        problem = result.problem
        raise ProbeFailed(f"Connection failed: {problem.message}", step=problem.step, cause=problem.code, hint=problem.hint)
    return result


def _log(row: Storage, warning: str | None) -> None:
    if warning is not None:
        logger().warning("a storage's credentials may not delete", extra={"storage_id": row.storage_id})


def _note(row: Storage, result: Result) -> None:
    """Write into a row what a probe found."""
    row.probed_at, row.failures = seam.iso(seam.now()), 0
    if result.problem is not None:
        row.status, row.reason = DEGRADED, result.problem.message
        return
    row.status, row.reason, row.probe = HEALTHY, None, result.findings()
    row.host_key = row.host_key or result.host_key


def lost(row: Storage) -> list[str]:
    """What a storage could when a person last had it tested, and was not seen to do since."""
    before, now = row.expected or {}, row.probe or {}
    return sorted(name for name, could in before.items() if could is True and now.get(name) is not True)


def note(row: Storage, result: Result, asked_for: bool = False) -> None:
    """Write into a row what a probe found. `asked_for` by a person, who then knows; else what is lost since makes it degraded."""
    _note(row, result)
    if asked_for and result.succeeded:
        row.expected = row.probe
    elif result.succeeded and (missing := lost(row)):
        row.status, row.reason = DEGRADED, f"it no longer shows: {', '.join(missing)}"


def keep(row: Storage) -> None:
    """Store what was noted, unless the storage is another by now."""
    fields = ("probed_at", "failures", "status", "reason", "probe", "expected", "host_key")
    actions = Storage.setting({field: getattr(row, field) for field in fields})
    with suppress(ConditionFailed):  # changed, or removed: what was found is of another connection
        row.change(actions, Storage.revision == row.revision)
    keeping.changed(row.tenant_id, row.storage_id)


# ---- referring -------------------------------------------------------------------------------------------
def require_usable(principal: Principal, storage_id: str) -> int:
    """Raise unless a bucket may be made on this storage: StorageNotFound, ProbeFailed. One that was never reached is tried now.

    Gives the revision that this is true of.
    """
    row = Storage.read(principal.tenant_id, storage_id) if names.is_uuid(storage_id) else None
    if row is None:
        raise _not_found(storage_id)
    if row.probe is None:
        note(row, _probe(principal, connection_of(row), profile_of(row, _user_id(principal))), asked_for=True)
        keep(row)
    return int(row.revision)
