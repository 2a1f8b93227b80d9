"""Tenants, their keys, and the platform's own."""

from contextlib import suppress
from dataclasses import dataclass

from chalicelib import seam
from chalicelib.access.credentials import key_hash
from chalicelib.access.principals import Role
from chalicelib.access.sealing import seal
from chalicelib.access.tokens import record_of_secret
from chalicelib.core import names
from chalicelib.errors import TenantNotFound
from chalicelib.tables.table import ConditionFailed, Transaction, scan
from chalicelib.tables.tenants import ApiKey, Tenant

KEY_PREFIXES = {Role.SERVICE: "sk", Role.ANON: "pk", Role.ADMIN: "ak"}


@dataclass(frozen=True, slots=True)
class CreatedTenant:
    """A new tenant with its secrets in clear: the only time they are shown."""

    tenant_id: str
    service_key: str
    anon_key: str
    jwt_secret: str


def create_tenant(name: str) -> CreatedTenant:
    """A tenant with a service key, an anon key and a signing secret, all written together or not at all."""
    tenant_id, created_at = seam.new_uuid(), seam.iso(seam.now())
    created = CreatedTenant(tenant_id, _new_key(Role.SERVICE), _new_key(Role.ANON), seam.new_token(48))
    sealed = seal(created.jwt_secret, record_of_secret(tenant_id))
    with Transaction() as transaction:
        transaction.put(Tenant(tenant_id, name=name, jwt_secret=sealed, created_at=created_at), Tenant.tenant_id.does_not_exist())
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
        raise TenantNotFound(f"there is no tenant {tenant_id}")
    return tenant


def all_tenants() -> list[Tenant]:
    """Every tenant of the installation, in no order: a table of tenants is small and rarely listed."""
    return [Tenant.from_raw_data(item) for page in scan(Tenant) for item in page]


def _new_key(role: Role) -> str:
    return f"{KEY_PREFIXES[role]}_{seam.new_token()}"


def _key_row(key: str, role: Role, tenant_id: str | None, created_at: str) -> ApiKey:
    return ApiKey(key_hash(key), tenant_id=tenant_id, key_id=seam.new_uuid(), role=role.value, created_at=created_at)
