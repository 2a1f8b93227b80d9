"""Tenants, their keys, and the platform's own."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from chalicelib import outbound, seam
from chalicelib.access.cache import LIFETIME
from chalicelib.access.credentials import key_hash
from chalicelib.access.principals import Permission, Principal, Role
from chalicelib.access.sealing import seal
from chalicelib.access.tokens import record_of_secret
from chalicelib.core import buckets, jobs, key_ends, names, policies
from chalicelib.core.buckets import REQUESTS_END_WITHIN
from chalicelib.core.jobs import Step
from chalicelib.errors import BucketNotFound, InvalidRequest, KeyNotFound, TenantNotFound
from chalicelib.tables.folders import Folder
from chalicelib.tables.jobs import Job
from chalicelib.tables.keys import DELETING, VaultKey
from chalicelib.tables.storages import Storage
from chalicelib.tables.table import ConditionFailed, Table, Transaction, TransactionFailed, scan, tries, write_all
from chalicelib.tables.tenants import DEFAULT_AUDIENCE, ApiKey, Tenant

DELETE_JOB = "tenant.delete"
KEY_PREFIXES = {Role.SERVICE: "sk", Role.ANON: "pk", Role.CUSTOM: "ck", Role.ADMIN: "ak"}
# Each takes a read, a transaction and a message: together they end well within a job's lease.
BUCKETS_AT_ONCE = VAULT_KEYS_AT_ONCE = 50
# Seconds after which no request can be under way that a deleted tenant's credential has let in: for a minute it is
# remembered, and the last request that it begins then takes its time.
SETTLED_AFTER = LIFETIME + REQUESTS_END_WITHIN
# Seconds after which it looks whether the vault's keys have ended.
LOOKS_AFTER = 10


@dataclass(frozen=True, slots=True)
class CreatedTenant:
    """A new tenant with its secrets in clear: the only time they are shown."""

    tenant_id: str
    service_key: str
    anon_key: str
    jwt_secret: str


def create_tenant(name: str, jwks_url: str | None = None, jwt_audience: str = DEFAULT_AUDIENCE) -> CreatedTenant:
    """A tenant with a service key, an anon key, a signing secret and a bucket for its files, all written together or not at all.

    `jwks_url` is where its identity provider publishes keys. Raises InvalidRequest for one that must not be asked.
    """
    _check_jwks_url(jwks_url)
    tenant_id, created_at = seam.new_uuid(), seam.iso(seam.now())
    created = CreatedTenant(tenant_id, _new_key(Role.SERVICE), _new_key(Role.ANON), seam.new_token(48))
    sealed = seal(created.jwt_secret, record_of_secret(tenant_id))
    row = Tenant(tenant_id, name=name, jwt_secret=sealed, jwks_url=jwks_url, jwt_audience=jwt_audience, created_at=created_at)
    drive = buckets.files_of(tenant_id)
    with Transaction() as transaction:
        transaction.put(drive)
        for policy in policies.seeded(drive):
            transaction.put(policy)
        transaction.put(row, Tenant.tenant_id.does_not_exist())
        transaction.put(_key_row(created.service_key, Role.SERVICE, tenant_id, created_at))
        transaction.put(_key_row(created.anon_key, Role.ANON, tenant_id, created_at))
    return created


def create_admin_key() -> str:
    """A new key of the platform, which may create tenants and nothing else."""
    key = _new_key(Role.ADMIN)
    with suppress(ConditionFailed):  # nobody else has this hash: it was put before an answer was lost
        _key_row(key, Role.ADMIN, None, seam.iso(seam.now())).put(ApiKey.key_hash.does_not_exist())
    return key


def get_tenant(tenant_id: str) -> Tenant:
    """The tenant; raises TenantNotFound."""
    tenant = Tenant.read(tenant_id) if names.is_uuid(tenant_id) else None
    if tenant is None:
        raise _not_found(tenant_id)
    return tenant


def all_tenants() -> list[Tenant]:
    """Every tenant of the installation, in no order: a table of tenants is small and rarely listed."""
    return [Tenant.from_raw_data(item) for page in scan(Tenant) for item in page]


def change_tenant(tenant_id: str, changes: dict[str, Any]) -> Tenant:
    """Set `name`, `jwks_url` (None: no key set) or `jwt_audience` (None: the usual one) and leave what is not given.

    Takes effect within a minute. Raises TenantNotFound, InvalidRequest.
    """
    _check_jwks_url(changes.get("jwks_url"))
    tenant = get_tenant(tenant_id)
    if "jwt_audience" in changes:
        changes = changes | {"jwt_audience": changes["jwt_audience"] or DEFAULT_AUDIENCE}
    actions = Tenant.setting(changes)
    if actions:
        try:
            tenant.change(actions, Tenant.tenant_id.exists())
        except ConditionFailed as failed:
            raise _not_found(tenant_id) from failed
    return tenant


# ---- keys ------------------------------------------------------------------------------------------------------
def create_key(tenant_id: str, role: Role, name: str | None, permissions: list[Permission] | None) -> tuple[str, ApiKey]:
    """A further key of a tenant, in clear this once, and its row; raises TenantNotFound, InvalidRequest."""
    if role is not Role.CUSTOM and permissions is not None:
        raise InvalidRequest("only a custom key has permissions of its own")
    key = _new_key(role)
    row = _key_row(key, role, tenant_id, seam.iso(seam.now()))
    row.name = name
    if role is Role.CUSTOM:
        row.permissions = sorted(permission.value for permission in set(permissions or ()))
    tenant = get_tenant(tenant_id)
    for _ in tries():
        try:
            with Transaction() as transaction:  # a tenant that is deleted at this moment gets no key that stays
                transaction.check(tenant, Tenant.tenant_id.exists())
                transaction.put(row)
            break
        except TransactionFailed as failed:
            if not failed.conflict:
                raise _not_found(tenant_id) from failed
    return key, row


def keys_of(tenant_id: str) -> list[ApiKey]:
    """The keys of a tenant, oldest first; what was made or revoked a moment ago may lag. Raises TenantNotFound."""
    get_tenant(tenant_id)
    return _keys(tenant_id)


def revoke_key(tenant_id: str, key_id: str) -> None:
    """Delete a key: it works for a minute at most; raises TenantNotFound, KeyNotFound."""
    for row in keys_of(tenant_id):
        if row.key_id == key_id:
            try:
                row.remove(ApiKey.key_hash.exists())
            except ConditionFailed:
                break
            return
    raise KeyNotFound(f"there is no key {key_id}")


def _keys(tenant_id: str) -> list[ApiKey]:
    query = {
        "IndexName": "by-tenant",
        "KeyConditionExpression": "tenant_id = :t",
        "ExpressionAttributeValues": {":t": {"S": tenant_id}},
    }
    return [ApiKey.from_raw_data(item) for page in ApiKey.pages(**query) for item in page]


# ---- deleting --------------------------------------------------------------------------------------------------
def delete_tenant(principal: Principal, tenant_id: str) -> Job:
    """End a tenant and every credential of it, and leave its buckets to the job that is given back.

    The row goes and the job comes in one transaction; what is left of the keys when it ends here, the job removes.
    The job is the platform's, as is the admin who asks. Raises TenantNotFound.
    """
    tenant = get_tenant(tenant_id)
    job = jobs.new(DELETE_JOB, principal, {"tenant_id": tenant_id, "deleted_at": seam.timestamp()})
    for _ in tries():
        try:
            with Transaction() as transaction:
                transaction.remove(tenant, Tenant.tenant_id.exists())
                transaction.put(job)
            break
        except TransactionFailed as failed:
            if not failed.conflict:
                raise _not_found(tenant_id) from failed
    _remove_keys(tenant_id)
    jobs.wake(job.job_id)
    return job


def delete_step(job: Job) -> Step:
    """Remove whatever a deleted tenant had; `done` counts buckets, each of which goes by a job of its own.

    A credential that is still remembered somewhere may make more, so once none can the job looks again. With a storage's record go
    its credentials, and with them the way to what lies there, which stays: it is the owner's, and only the platform's part ends.
    """
    tenant_id = job.task["tenant_id"]
    settled = job.task["deleted_at"] + SETTLED_AFTER
    wait = max(0.0, settled - seam.timestamp())  # the clock is read before the look that may be the last
    _remove_keys(tenant_id)
    _remove_all(Folder, tenant_id, "folder_id")
    left = buckets.all_of(tenant_id)[:BUCKETS_AT_ONCE]
    owner = Principal(Role.SERVICE, tenant_id)
    for bucket in left:
        with suppress(BucketNotFound):  # somebody was faster
            buckets.end(owner, bucket.name)
    vault = _end_vault_keys(owner)
    if not left and not vault and not wait:  # a credential that is still remembered could make what refers to them
        _remove_all(Storage, tenant_id, "storage_id")
    done = int(job.done) + len(left)
    return Step({}, done, done, finished=not (left or vault or wait), wait=0 if left else max(wait, LOOKS_AFTER if vault else 0))


def _remove_keys(tenant_id: str) -> None:
    write_all([(ApiKey, {"DeleteRequest": {"Key": ApiKey.key(row.key_hash)}}) for row in _keys(tenant_id)])


def _end_vault_keys(owner: Principal) -> int:
    """Have the keys of a tenant's vault end, each by a job of its own; gives how many are there yet, up to so many at once."""
    there = VaultKey.all_of(owner.tenant_id)[:VAULT_KEYS_AT_ONCE]
    for key in there:
        if key.status == DELETING and jobs.is_pending(key.job_id):
            continue
        with suppress(KeyNotFound):  # it has just ended
            jobs.wake(key_ends.begin(owner, key.key_uuid, internal_only=True).job_id)
    return len(there)


def _remove_all(model: type[Table], tenant_id: str, sort_key: str) -> None:
    """Remove whatever a table holds of the tenant, the rows of taken names included."""
    keys = [item[sort_key]["S"] for page in model.pages_of(tenant_id) for item in page]
    write_all([(model, {"DeleteRequest": {"Key": model.key(tenant_id, key)}}) for key in keys])


def _not_found(tenant_id: str) -> TenantNotFound:
    return TenantNotFound(f"there is no tenant {tenant_id}")


def _check_jwks_url(url: str | None) -> None:
    if url is not None:
        outbound.check_url(url, "jwks_url")


def _new_key(role: Role) -> str:
    return f"{KEY_PREFIXES[role]}_{seam.new_token()}"


def _key_row(key: str, role: Role, tenant_id: str | None, created_at: str) -> ApiKey:
    return ApiKey(key_hash(key), tenant_id=tenant_id, key_id=seam.new_uuid(), role=role.value, created_at=created_at)
