"""Policies: who may do what in a bucket, written as SQL and managed by the service key."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from chalicelib import seam
from chalicelib.access.permissions import Columns, Grant, Operation, columns_of, forget_policies, grant, scope_of, stored_policies
from chalicelib.access.principals import Principal, Role
from chalicelib.core import buckets, content, names, objects
from chalicelib.errors import InvalidRequest, PolicyNotFound
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.policies import StoredPolicy
from chalicelib.tables.table import ConditionFailed

if TYPE_CHECKING:
    from chalicelib.access.policy.explaining import Expression

MAX_POLICIES = 100
MAX_ID_CHARACTERS = 64
ID_SEPARATOR = "."
_OWN = "auth_role() = 'authenticated' AND owner_id = auth_uid()::uuid"
SEEDS = (
    ("users create files", Operation.INSERT, "auth_role() = 'authenticated'"),
    ("users read their own files", Operation.SELECT, _OWN),
    ("users change their own files", Operation.UPDATE, _OWN),
    ("users delete their own files", Operation.DELETE, _OWN),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one policy came to, and each of its expressions: `value` is true, false, null or error."""

    policy: StoredPolicy
    value: str
    expressions: "list[Expression]"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether it is allowed; `reason` is `public`, `policy`, `no_policy` or `no_policy_holds`; every policy's verdict."""

    allowed: bool
    reason: str
    decided_by: StoredPolicy | None
    verdicts: list[Verdict]


def create(tenant_id: str, bucket_name: str, name: str, operation: Operation, definition: str) -> StoredPolicy:
    """Add a policy to a bucket; raises InvalidPolicy with the position of what is refused, BucketNotFound, InvalidRequest."""
    from chalicelib.access.policy import compile_policy

    compiled = compile_policy(definition).compiled
    bucket = buckets.get(tenant_id, bucket_name)
    if len(stored_policies(bucket.bucket_id)) >= MAX_POLICIES:
        raise InvalidRequest(f"a bucket has at most {MAX_POLICIES} policies")
    policy = _new(bucket, name, operation, definition, compiled)
    try:
        policy.put(StoredPolicy.policy_id.does_not_exist())
    except ConditionFailed as failed:
        policy = failed.row  # ours: the id is random, and the answer to an earlier attempt was lost
    forget_policies(bucket.bucket_id)
    return policy


def _new(bucket: Bucket, name: str, operation: Operation, definition: str, compiled: str) -> StoredPolicy:
    return StoredPolicy(
        bucket.bucket_id,
        f"{bucket.bucket_id}{ID_SEPARATOR}{seam.new_version()}",
        tenant_id=bucket.tenant_id,
        bucket=bucket.name,
        name=name,
        operation=operation.value,
        definition=definition,
        compiled=compiled,
        created_at=seam.iso(seam.now()),
    )


def seeded(bucket: Bucket) -> list[StoredPolicy]:
    """The policies of a new tenant's files, not stored yet: users create freely, and read, change and delete what is their own."""
    return [_new(bucket, name, operation, *_compiled(definition)) for name, operation, definition in SEEDS]


@cache
def _compiled(definition: str) -> tuple[str, str]:
    from chalicelib.access.policy import compile_policy

    return definition, compile_policy(definition).compiled


def of_bucket(tenant_id: str, bucket_name: str) -> list[StoredPolicy]:
    """A bucket's policies, oldest first; raises BucketNotFound."""
    return stored_policies(buckets.get(tenant_id, bucket_name).bucket_id)


def delete(tenant_id: str, policy_id: str) -> None:
    """Remove a policy of the tenant's; raises PolicyNotFound."""
    bucket_id = policy_id.partition(ID_SEPARATOR)[0]
    policy = StoredPolicy.read(bucket_id, policy_id) if names.is_uuid(bucket_id) and len(policy_id) <= MAX_ID_CHARACTERS else None
    if policy is None or policy.tenant_id != tenant_id:
        raise PolicyNotFound(f"there is no policy {policy_id[:MAX_ID_CHARACTERS]}")
    with suppress(ConditionFailed):  # gone: by us, if an answer was lost, or by another
        policy.remove(StoredPolicy.policy_id.exists())
    forget_policies(bucket_id)


# ---- explaining ----------------------------------------------------------------------------------------
def explain(
    tenant_id: str, bucket_name: str, operation: Operation, path: str, claims: dict[str, Any] | None, prospect: dict[str, Any]
) -> Explanation:
    """What a caller with these token claims (None: no credential) would be told, and why.

    For INSERT the row is the one that would be: `prospect` may give its `size`, `content_type` and
    `user_metadata`. Raises BucketNotFound, ObjectNotFound, InvalidName.
    """
    names.check_name_in(bucket_name, path)
    caller = Principal(Role.ANON, tenant_id) if claims is None else Principal(Role.USER, tenant_id, claims)
    service = Principal(Role.SERVICE, tenant_id)
    bucket, row = objects.read_current(service, operation, bucket_name, path)
    if operation is Operation.INSERT:
        row = _prospective(caller, bucket, path, prospect)
    columns = columns_of(objects.permit_existing(service, operation, bucket, path, row))
    allowed = grant(caller, operation, bucket)
    if allowed.everything:
        return Explanation(True, "public", None, [])
    verdicts = [_verdict(policy, allowed, columns) for policy in stored_policies(bucket.bucket_id) if policy.operation == operation]
    decided = next((verdict.policy for verdict in verdicts if verdict.value == "true"), None)
    reason = "policy" if decided else "no_policy_holds" if verdicts else "no_policy"
    return Explanation(decided is not None, reason, decided, verdicts)


def _prospective(caller: Principal, bucket: Bucket, path: str, prospect: dict[str, Any]) -> StoredObject:
    row = objects.new_row(caller, bucket, path, prospect.get("content_type") or content.declared_type("", path), None)
    row.size, row.user_metadata = prospect.get("size") or 0, content.metadata_text(prospect.get("user_metadata"))
    return row


def _verdict(policy: StoredPolicy, allowed: Grant, columns: Columns) -> Verdict:
    from chalicelib.access.policy import explaining

    expressions = explaining.explain(policy.definition, lambda: scope_of(allowed.principal, allowed.uid, columns))
    whole = expressions[0]
    return Verdict(policy, "error" if whole.error else whole.value or "null", expressions)
