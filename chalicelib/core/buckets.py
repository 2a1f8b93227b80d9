"""Buckets: a tenant's named containers of objects."""

from dataclasses import dataclass
from typing import Any

from chalicelib import seam
from chalicelib.access.cache import MinuteCache
from chalicelib.access.permissions import require_service
from chalicelib.access.principals import Principal, Role
from chalicelib.core import content, jobs, names
from chalicelib.core.jobs import Step
from chalicelib.errors import BucketExists, BucketNotEmpty, BucketNotFound, InvalidRequest, Unavailable
from chalicelib.settings import settings
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import ConditionFailed, Item, Transaction, TransactionFailed, write_all

DELETE_JOB = "bucket.delete"
MAX_ALLOWED_TYPES = 100
DELETED_AT_ONCE = 500
# Seconds. A function lives 28 s and API Gateway waits 29.
REQUESTS_END_WITHIN = 60

_buckets: MinuteCache[Bucket] = MinuteCache()


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What may be chosen for a bucket. `file_size_limit` in bytes, None: the installation's; types None: any."""

    visibility: str = "private"
    file_size_limit: int | None = None
    allowed_mime_types: list[str] | None = None

    def __post_init__(self) -> None:
        limit = settings().max_upload_size
        if self.file_size_limit is not None and not 0 < self.file_size_limit <= limit:
            raise InvalidRequest(f"the size limit of a bucket lies between 1 and {limit} bytes")
        if self.allowed_mime_types is not None:
            if len(self.allowed_mime_types) > MAX_ALLOWED_TYPES:
                raise InvalidRequest(f"a bucket names at most {MAX_ALLOWED_TYPES} content types")
            for pattern in self.allowed_mime_types:
                content.check_pattern(pattern)


def create(tenant_id: str, name: str, chosen: BucketSettings) -> Bucket:
    """A new bucket; raises BucketExists, InvalidName."""
    now = seam.iso(seam.now())
    bucket = Bucket(
        tenant_id,
        names.check_bucket_name(name),
        bucket_id=seam.new_uuid(),
        revision=1,
        visibility=chosen.visibility,
        file_size_limit=chosen.file_size_limit,
        allowed_mime_types=_lowered(chosen.allowed_mime_types),
        created_at=now,
        updated_at=now,
    )
    try:
        bucket.put(Bucket.name.does_not_exist())
    except ConditionFailed as failed:
        if failed.row.bucket_id != bucket.bucket_id:  # ours is there when only an answer was lost
            raise BucketExists(f"there is a bucket {name} already") from failed
    return bucket


def all_of(tenant_id: str) -> list[Bucket]:
    """Every bucket of a tenant, by name."""
    query = {"KeyConditionExpression": "tenant_id = :t", "ExpressionAttributeValues": {":t": {"S": tenant_id}}, "ConsistentRead": True}
    return [Bucket.from_raw_data(item) for page in Bucket.pages(**query) for item in page]


def get(tenant_id: str, name: str) -> Bucket:
    """The bucket as it stands; raises BucketNotFound."""
    bucket = _read(tenant_id, name)
    if bucket is None:
        _buckets.forget(_cache_key(tenant_id, name))
        raise not_found(name)
    _buckets.keep(_cache_key(tenant_id, name), bucket)
    return bucket


def visible(principal: Principal, name: str) -> Bucket:
    """The bucket for someone who may know of it: the service key, or anyone when it is public.

    Raises BucketNotFound, and Unauthorized when nobody asks for one that is not public.
    """
    bucket = get(principal.tenant_id, name)
    if principal.is_service or bucket.public:
        return bucket
    if principal.role is Role.NOBODY:
        require_service(principal, "seeing a private bucket")
    raise not_found(name)


def recent(tenant_id: str, name: str) -> Bucket:
    """The bucket as it stood at most a minute ago; raises BucketNotFound."""
    bucket = _buckets.get(_cache_key(tenant_id, name), lambda: _read(tenant_id, name))
    if bucket is None:
        raise not_found(name)
    return bucket


def remember(bucket: Bucket) -> None:
    """Keep a bucket that was read just now."""
    _buckets.keep(_cache_key(bucket.tenant_id, bucket.name), bucket)


def change(tenant_id: str, name: str, changes: dict[str, Any]) -> Bucket:
    """Set the given settings of a bucket and leave the others; raises BucketNotFound, InvalidRequest."""
    while True:
        bucket = get(tenant_id, name)
        current = BucketSettings(bucket.visibility, bucket.size_limit, bucket.allowed_mime_types)
        chosen = BucketSettings(**{field: changes.get(field, getattr(current, field)) for field in BucketSettings.__slots__})
        actions = [
            Bucket.visibility.set(chosen.visibility),
            _set_or_remove(Bucket.file_size_limit, chosen.file_size_limit),
            _set_or_remove(Bucket.allowed_mime_types, _lowered(chosen.allowed_mime_types)),
            Bucket.revision.set(bucket.revision + 1),
            Bucket.updated_at.set(seam.iso(seam.now())),
        ]
        try:
            bucket.change(actions, (Bucket.bucket_id == bucket.bucket_id) & (Bucket.revision == bucket.revision))
        except ConditionFailed:
            continue
        remember(bucket)
        return bucket


def delete(principal: Principal, name: str, if_empty: bool) -> Job:
    """Free the name at once and leave rows and bytes to the job that is given back.

    The row goes and the job comes in one transaction: killed right after it, the job is found and woken by
    the hourly cleanup. Raises BucketNotFound, and BucketNotEmpty when `if_empty` and it is not.
    """
    bucket = get(principal.tenant_id, name)
    if if_empty and _rows(bucket.partition):
        raise BucketNotEmpty(f"bucket {name} is not empty; delete its objects first, or leave out if_empty")
    job = jobs.new(DELETE_JOB, principal, {"bucket": name, "partition": bucket.partition, "deleted_at": seam.timestamp()})
    try:
        with Transaction() as transaction:
            transaction.remove(bucket, Bucket.bucket_id == bucket.bucket_id)
            transaction.put(job)
    except TransactionFailed as failed:
        if failed.conflict:
            raise Unavailable("the bucket is being changed; try again shortly") from failed
        raise not_found(name) from failed
    finally:
        _buckets.forget(_cache_key(principal.tenant_id, name))
    jobs.wake(job.job_id)
    return job


def delete_step(job: Job) -> Step:
    """Remove a page of a deleted bucket's rows; their stream files the bytes as garbage.

    An upload that had read the bucket before it went may still land its row, for as long as a request can
    last; so the job looks once more after that.
    """
    rows = _rows(job.task["partition"])
    if rows:
        write_all([(StoredObject, {"DeleteRequest": {"Key": row}}) for row in rows])
        return Step({}, int(job.done) + len(rows))
    settled = job.task["deleted_at"] + REQUESTS_END_WITHIN
    wait = max(0.0, settled - seam.timestamp())
    return Step({}, int(job.done), int(job.done), finished=not wait, wait=wait)


def _read(tenant_id: str, name: str) -> Bucket | None:
    # What cannot be a name is not looked up: DynamoDB refuses keys that are too long.
    return Bucket.read(tenant_id, name) if names.is_uuid(tenant_id) and names.is_bucket_name(name) else None


def _rows(partition: str) -> list[Item]:
    query = {
        "KeyConditionExpression": "#p = :p",
        "ExpressionAttributeNames": {"#p": "partition", "#n": "name"},
        "ExpressionAttributeValues": {":p": {"S": partition}},
        "ProjectionExpression": "#p, #n",
        "ConsistentRead": True,
        "Limit": DELETED_AT_ONCE,
    }
    return next(StoredObject.pages(**query))


def not_found(name: str) -> BucketNotFound:
    return BucketNotFound(f"there is no bucket {name}")


def _lowered(patterns: list[str] | None) -> list[str] | None:
    return None if patterns is None else [pattern.lower() for pattern in patterns]


def _set_or_remove(attribute: Any, value: Any) -> Any:
    return attribute.remove() if value is None else attribute.set(value)


def _cache_key(tenant_id: str, name: str) -> str:
    return f"{tenant_id}/{name}"
