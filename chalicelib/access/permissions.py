"""May a principal do this to an object: the one place that decides, and the one that words the refusal.

Operations are those of the policy language. Denials follow CONTRACT: what SELECT hides does not exist for the
caller (404), what is visible but not permitted is 403, and so is every upload; nobody at all is asked for a
credential (401).
"""

from enum import StrEnum

from chalicelib.access.principals import Principal, Role
from chalicelib.errors import BucketNotFound, Forbidden, ObjectNotFound, StowageError, Unauthorized
from chalicelib.tables.buckets import Bucket


class Operation(StrEnum):
    SELECT = "SELECT"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


def permits(principal: Principal, operation: Operation, bucket: Bucket) -> bool:
    """The service key may do everything, anyone may read a public bucket, and nothing else is allowed."""
    return principal.is_service or (operation is Operation.SELECT and bucket.public)


def require(principal: Principal, operation: Operation, bucket: Bucket, name: str) -> None:
    """Raise what the caller is to be told when `operation` on object `name` is not permitted."""
    if not permits(principal, operation, bucket):
        raise denial(principal, operation, bucket, name)


def denial(principal: Principal, operation: Operation, bucket: Bucket, name: str) -> StowageError:
    """The refusal of `operation`, which says no more than the caller may know."""
    if principal.role is Role.NOBODY:
        return _unauthorized()
    if operation is Operation.INSERT or permits(principal, Operation.SELECT, bucket):
        return _forbidden(operation, bucket.name)
    return hidden(principal, bucket.name, name)


def hidden(principal: Principal, bucket_name: str, name: str) -> StowageError:
    """What is told of an object that the caller may not see: the same whether it, or its bucket, exists or not."""
    if principal.role is Role.NOBODY:
        return _unauthorized()
    return ObjectNotFound(f"there is no object {name} in bucket {bucket_name}")


def denial_of_missing(principal: Principal, operation: Operation, bucket_name: str, name: str) -> StowageError:
    """What is told of a bucket that does not exist: to all but the service key what a private one would be told."""
    if principal.is_service:
        return BucketNotFound(f"there is no bucket {bucket_name}")
    if operation is Operation.INSERT and principal.role is not Role.NOBODY:
        return _forbidden(operation, bucket_name)
    return hidden(principal, bucket_name, name)


def _forbidden(operation: Operation, bucket_name: str) -> Forbidden:
    return Forbidden(f"this credential may not {operation} in bucket {bucket_name}")


def _unauthorized() -> Unauthorized:
    return Unauthorized("this needs a credential; send an API key or a token as `Authorization: Bearer …`")


def require_service(principal: Principal, what: str) -> None:
    """Raise unless the tenant's service key asks."""
    if principal.role is Role.NOBODY:
        raise Unauthorized(f"{what} needs the service key; send it as `Authorization: Bearer …`")
    if not principal.is_service:
        raise Forbidden(f"{what} needs the service key")


def require_admin(principal: Principal, what: str) -> None:
    """Raise unless a key of the platform asks."""
    if principal.role is Role.NOBODY:
        raise Unauthorized(f"{what} needs an admin key; send it as `Authorization: Bearer …`")
    if principal.role is not Role.ADMIN:
        raise Forbidden(f"{what} needs an admin key")
