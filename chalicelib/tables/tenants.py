"""Tenants, the keys that speak for them, and the sessions of users who came by a browser."""

from typing import ClassVar

from chalicelib.tables.table import JSONAttribute, NumberAttribute, Table, UnicodeAttribute, table_name

DEFAULT_AUDIENCE = "authenticated"


class Tenant(Table):
    """The unit of isolation. `jwt_secret` is sealed (`access/sealing.py`); `jwks_url` None: it alone signs tokens.

    `default_storage_id` is the storage of backups that name none: here, so that there cannot be two.
    """

    class Meta:
        table_name: ClassVar[str] = table_name("tenants")

    tenant_id = UnicodeAttribute(hash_key=True)
    name = UnicodeAttribute()
    jwt_secret = UnicodeAttribute()
    jwt_audience = UnicodeAttribute(default=DEFAULT_AUDIENCE)
    jwks_url = UnicodeAttribute(null=True)
    default_storage_id = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()


class ApiKey(Table):
    """A key by the SHA-256 of its text: the text itself is shown once and kept nowhere.

    `role` is `service`, `anon`, `custom` or `admin`; an admin key belongs to the platform and has no tenant, and so
    does not show in the index `by-tenant`. Only a custom key has `permissions`.
    """

    class Meta:
        table_name: ClassVar[str] = table_name("api-keys")

    key_hash = UnicodeAttribute(hash_key=True)
    tenant_id = UnicodeAttribute(null=True)
    key_id = UnicodeAttribute()
    role = UnicodeAttribute()
    name = UnicodeAttribute(null=True)
    permissions = JSONAttribute(null=True)
    created_at = UnicodeAttribute()


class Session(Table):
    """A user's token, exchanged for a cookie: its `claims`, by the SHA-256 of the cookie's text. Lies among the keys under `PREFIX`.

    It has no attribute `tenant_id`, so it does not show among the tenant's keys. It ends at `expires_at`, in seconds since 1970.
    """

    class Meta:
        table_name: ClassVar[str] = table_name("api-keys")

    key_hash = UnicodeAttribute(hash_key=True)
    claims = JSONAttribute()
    of_tenant = UnicodeAttribute()
    expires_at = NumberAttribute()

    PREFIX: ClassVar[str] = "session#"
