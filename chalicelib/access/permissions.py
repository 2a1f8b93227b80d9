"""May a principal do this to an object: the one place that decides, and the one that words the refusal.

Operations are those of the policy language. The service key may do everything, anyone may read a public bucket,
and everything else is for the bucket's policies: one that holds permits, none denies. Denials follow CONTRACT:
what SELECT hides does not exist for the caller (404), what is visible but not permitted is 403, and so is every
upload; nobody at all is asked for a credential (401).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from chalicelib import seam
from chalicelib.access.cache import MinuteCache
from chalicelib.access.principals import Permission, Principal, Role
from chalicelib.errors import BucketNotFound, Forbidden, ObjectNotFound, StowageError, Unauthorized
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.policies import StoredPolicy

if TYPE_CHECKING:
    from chalicelib.access.policy import Policy, Scope

Columns = Mapping[str, Any]
"""An object's row as policies see it: `tables/objects.py` by the names of CONTRACT "Policy language"."""


class Operation(StrEnum):
    SELECT = "SELECT"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


# ---- policies ------------------------------------------------------------------------------------------
_policies: "MinuteCache[dict[str, list[Policy]]]" = MinuteCache()


def stored_policies(bucket_id: str) -> list[StoredPolicy]:
    """Every policy of a bucket as it stands, oldest first."""
    return StoredPolicy.all_of(bucket_id)


def forget_policies(bucket_id: str) -> None:
    """Have this process read a bucket's policies again; others do so within a minute."""
    _policies.forget(bucket_id)


def _policies_for(bucket: Bucket, operation: Operation) -> "list[Policy]":
    def load() -> "dict[str, list[Policy]]":
        from chalicelib.access.policy import Policy

        loaded: dict[str, list[Policy]] = {each.value: [] for each in Operation}
        for stored in stored_policies(bucket.bucket_id):
            loaded[stored.operation].append(Policy.from_compiled(stored.compiled))
        return loaded

    known = _policies.get(bucket.bucket_id, load)
    return known[operation] if known else []


# ---- decisions -----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Grant:
    """What a principal may do in a bucket by one operation: everything, or what one of its policies permits.

    Policies that can hold for no row at all when this principal asks are left out; with none it may do nothing.
    """

    principal: Principal
    uid: str | None
    everything: bool
    policies: "tuple[Policy, ...]"

    @property
    def nothing(self) -> bool:
        return not self.everything and not self.policies

    @property
    def own_only(self) -> bool:
        """Whether it can hold only for objects that the principal owns."""
        return not self.everything and all(policy.is_own_only for policy in self.policies)

    def allows(self, columns: Columns) -> bool:
        """Whether the row is permitted."""
        if self.everything or self.nothing:
            return self.everything
        scope = scope_of(self.principal, self.uid, columns)
        return any(policy.holds(scope) for policy in self.policies)


def scope_of(principal: Principal, uid: str | None, columns: Columns) -> "Scope":
    """What a policy is worked out in."""
    from chalicelib.access.policy import Scope

    return Scope(uid, principal.auth_role, principal.email, columns, seam.now())


def grant(principal: Principal, operation: Operation, bucket: Bucket) -> Grant:
    """What the principal may do in a bucket by `operation`."""
    if principal.is_service or (operation is Operation.SELECT and bucket.public):
        return Grant(principal, None, True, ())
    uid, policies = principal.uid, _policies_for(bucket, operation)
    if policies:
        anybody = scope_of(principal, uid, {})
        policies = [policy for policy in policies if policy.may_hold(anybody)]
    return Grant(principal, uid, False, tuple(policies))


def columns_of(row: StoredObject) -> Columns:
    """An object's row as policies see it."""
    return {
        "id": row.id,
        "name": row.name,
        "bucket_id": row.bucket,
        "size": row.size,
        "content_type": row.content_type,
        "checksum": row.checksum,
        "owner_id": row.owner_id,
        "user_metadata": row.user_metadata,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def permits(principal: Principal, operation: Operation, bucket: Bucket, row: StoredObject) -> bool:
    """Whether the principal may do `operation` on the object (for INSERT: on the one that is to be)."""
    return grant(principal, operation, bucket).allows(columns_of(row))


def require(principal: Principal, operation: Operation, bucket: Bucket, row: StoredObject) -> None:
    """Raise what the caller is to be told when `operation` on an object is not permitted."""
    if not permits(principal, operation, bucket, row):
        raise denial(principal, operation, bucket, row)


# ---- refusals ------------------------------------------------------------------------------------------
def denial(principal: Principal, operation: Operation, bucket: Bucket, row: StoredObject) -> StowageError:
    """The refusal of `operation`, which says no more than the caller may know."""
    if principal.role is Role.NOBODY:
        return _unauthorized()
    if operation is Operation.INSERT or (operation is not Operation.SELECT and permits(principal, Operation.SELECT, bucket, row)):
        return _forbidden(operation, bucket.name)
    return object_not_found(bucket.name, row.name)


def denial_of_missing(principal: Principal, operation: Operation, bucket_name: str, name: str) -> StowageError:
    """What is told of a bucket that does not exist: to all but the service key what a private one would be told."""
    if principal.is_service:
        return bucket_not_found(bucket_name)
    if operation is Operation.INSERT and principal.role is not Role.NOBODY:
        return _forbidden(operation, bucket_name)
    return absence(principal, None, bucket_name, name)


def absence(principal: Principal, bucket: Bucket | None, bucket_name: str, name: str) -> StowageError:
    """What is told of an object that is not there: nobody may only know so of a public bucket."""
    if principal.role is Role.NOBODY and not (bucket and bucket.public):
        return _unauthorized()
    return object_not_found(bucket_name, name)


def bucket_not_found(bucket_name: str) -> BucketNotFound:
    return BucketNotFound(f"there is no bucket {bucket_name}")


def object_not_found(bucket_name: str, name: str) -> ObjectNotFound:
    return ObjectNotFound(f"there is no file {name}" if bucket_name == FILES else f"there is no object {name} in bucket {bucket_name}")


def _forbidden(operation: Operation, bucket_name: str) -> Forbidden:
    if bucket_name == FILES and operation is Operation.INSERT:
        return Forbidden(
            "this credential may not INSERT this file: its policies do not permit it, or the key is another's; choose another key"
        )
    return Forbidden(f"this credential may not {operation} in bucket {bucket_name}")


def _unauthorized() -> Unauthorized:
    return Unauthorized("this needs a credential; send an API key or a token as `Authorization: Bearer …`")


def require_any(principal: Principal, operations: Sequence[Operation], bucket: Bucket) -> None:
    """Raise unless at least one of the operations may be permitted on some row."""
    if all(grant(principal, operation, bucket).nothing for operation in operations):
        raise _unauthorized() if principal.role is Role.NOBODY else _forbidden(operations[0], bucket.name)


def require_credential(principal: Principal, permitted: bool) -> None:
    """Raise for nobody to whom nothing is permitted: whether there are policies, and what for, is not told."""
    if principal.role is Role.NOBODY and not permitted:
        raise _unauthorized()


def require_service(principal: Principal, what: str) -> None:
    """Raise unless the tenant's service key asks."""
    if principal.role is Role.NOBODY:
        raise Unauthorized(f"{what} needs the service key; send it as `Authorization: Bearer …`")
    if not principal.is_service:
        raise Forbidden(f"{what} needs the service key")


def require_user(principal: Principal, what: str) -> None:
    """Raise unless a user of the tenant asks, or its service key."""
    if principal.role is Role.NOBODY:
        raise Unauthorized(f"{what} needs a user's token or the service key; send it as `Authorization: Bearer …`")
    if principal.role is not Role.USER and not principal.is_service:
        raise Forbidden(f"{what} needs a user's token or the service key")


def require_admin(principal: Principal, what: str) -> None:
    """Raise unless a key of the platform asks."""
    if principal.role is Role.NOBODY:
        raise Unauthorized(f"{what} needs an admin key; send it as `Authorization: Bearer …`")
    if principal.role is not Role.ADMIN:
        raise Forbidden(f"{what} needs an admin key")


# ---- what belongs to no object -------------------------------------------------------------------------
def require_permission(principal: Principal, permission: Permission) -> None:
    """Raise unless the principal has a permission of CONTRACT "Permissions"."""
    if principal.role is Role.NOBODY:
        raise Unauthorized("this needs a credential; send it as `Authorization: Bearer …`")
    if not principal.may(permission):
        raise Forbidden(f"this needs the permission {permission}; the service key has it")
