"""The principal: who calls, whichever credential said so."""

import re
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """`nobody` sent no credential at all and is otherwise treated as `anon`; so is `custom`, a key with permissions."""

    SERVICE = "service"
    ANON = "anon"
    CUSTOM = "custom"
    USER = "user"
    ADMIN = "admin"
    NOBODY = "nobody"


class Permission(StrEnum):
    """What a key may be given (CONTRACT "Permissions"); a token may name others, which mean nothing here."""

    CREATE_STORAGES = "org.storage.create"
    LIST_STORAGES = "org.storage.list"
    UPDATE_STORAGES = "org.storage.update"
    DELETE_STORAGES = "org.storage.delete"
    CREATE_BACKUPS = "project.backups.create"
    LIST_BACKUPS = "project.backups.list"
    DELETE_BACKUPS = "project.backups.delete"
    RESTORE_BACKUPS = "project.backups.restore"


# What a user's role brings along, beside what the token itself names. The tenant signs its tokens, so these are its own to give; the
# names are such that no role which a tenant has for its policies falls under them by chance.
ROLE_PERMISSIONS: dict[str, frozenset[Permission]] = {
    "org_admin": frozenset(Permission),
    "org_member": frozenset(
        {Permission.LIST_STORAGES, Permission.CREATE_BACKUPS, Permission.LIST_BACKUPS, Permission.RESTORE_BACKUPS},
    ),
    "org_viewer": frozenset({Permission.LIST_STORAGES, Permission.LIST_BACKUPS}),
}
AUTHENTICATED = "authenticated"
# In this form alone: uuid.UUID takes many others, by which one text could pass for another.
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Principal:
    """`tenant_id` is empty for an admin alone: platform keys belong to no tenant.

    `claims` are those of a user's token, checked; of a custom key `permissions` alone.
    """

    role: Role
    tenant_id: str
    claims: dict[str, Any] = field(default_factory=dict)

    @property
    def uid(self) -> str | None:
        """`auth_uid()`: the token's `sub` when it is a UUID, else its UUIDv5 in the tenant's namespace."""
        subject = self.claims.get("sub")
        if subject is None:
            return None
        if _UUID.fullmatch(subject):
            return str(subject).lower()
        return str(uuid.uuid5(uuid.UUID(self.tenant_id), subject))

    @property
    def email(self) -> str | None:
        """`auth_email()`: the token's, if it names one."""
        return self.claims.get("email")

    @property
    def auth_role(self) -> str:
        """`auth_role()`: `service` for the service key alone, for a user the token's role or `authenticated`, else `anon`."""
        if self.role is not Role.USER:
            return Role.SERVICE.value if self.is_service else Role.ANON.value
        named: str | None = self.claims.get("role")
        return AUTHENTICATED if not named or named == Role.SERVICE else named

    @property
    def permissions(self) -> frozenset[str]:
        """What the token or the custom key names, as a list or as one text with spaces between."""
        named: list[str] | str = self.claims.get("permissions") or []
        return frozenset(named.split() if isinstance(named, str) else named)

    def may(self, permission: Permission) -> bool:
        """Whether the key, the token or the user's role grants a permission; the service key has all."""
        by_role = ROLE_PERMISSIONS.get(self.auth_role, frozenset()) if self.role is Role.USER else frozenset()
        return self.is_service or permission in self.permissions or permission in by_role

    @property
    def is_service(self) -> bool:
        return self.role is Role.SERVICE

    def snapshot(self) -> dict[str, Any]:
        """What a job keeps, to ask again later on behalf of this principal."""
        return {"role": self.role.value, "tenant_id": self.tenant_id, "claims": self.claims}

    @classmethod
    def restored(cls, snapshot: dict[str, Any]) -> "Principal":
        return cls(Role(snapshot["role"]), snapshot["tenant_id"], snapshot["claims"])
