"""The principal: who calls, whichever credential said so."""

import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """`nobody` sent no credential at all and is otherwise treated as `anon`."""

    SERVICE = "service"
    ANON = "anon"
    USER = "user"
    ADMIN = "admin"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Principal:
    """`tenant_id` is empty for an admin alone: platform keys belong to no tenant."""

    role: Role
    tenant_id: str
    claims: dict[str, Any] = field(default_factory=dict)

    @property
    def uid(self) -> str | None:
        """`auth_uid()`: the token's `sub` when it is a UUID, else its UUIDv5 in the tenant's namespace."""
        subject = self.claims.get("sub")
        if subject is None:
            return None
        try:
            return str(uuid.UUID(subject))
        except ValueError:
            return str(uuid.uuid5(uuid.UUID(self.tenant_id), subject))

    @property
    def is_service(self) -> bool:
        return self.role is Role.SERVICE

    def snapshot(self) -> dict[str, Any]:
        """What a job keeps, to ask again later on behalf of this principal."""
        return {"role": self.role.value, "tenant_id": self.tenant_id, "claims": self.claims}

    @classmethod
    def restored(cls, snapshot: dict[str, Any]) -> "Principal":
        return cls(Role(snapshot["role"]), snapshot["tenant_id"], snapshot["claims"])
