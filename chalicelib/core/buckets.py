"""Buckets: a tenant's named containers of objects."""

from dataclasses import dataclass
from typing import Any

from chalicelib import seam
from chalicelib.access.cache import MinuteCache
from chalicelib.access.permissions import bucket_not_found, require_service, stored_policies
from chalicelib.access.principals import Principal, Role
from chalicelib.core import content, jobs, keeping, names
from chalicelib.core.jobs import Step
from chalicelib.errors import BucketExists, BucketNotEmpty, BucketNotFound, BucketReserved, InvalidRequest, StorageNotFound, Unavailable
from chalicelib.images.options import check_presets
from chalicelib.settings import settings
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.policies import StoredPolicy
from chalicelib.tables.table import ConditionFailed, Item, Transaction, TransactionFailed, tries, write_all

DELETE_JOB = "bucket.delete"
MAX_ALLOWED_TYPES = 100
MAX_ALLOWED_CHARACTERS = 2000
DELETED_AT_ONCE = 500
# Seconds. A function lives 28 s and API Gateway waits 29.
REQUESTS_END_WITHIN = 60

_buckets: MinuteCache[Bucket] = MinuteCache()


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What may be chosen for a bucket. `file_size_limit` in bytes, None: the installation's; types None: any.

    `transforms` says how images may be asked for (`core/transforms.py`), None: with any options.
    """

    visibility: str = "private"
    file_size_limit: int | None = None
    allowed_mime_types: list[str] | None = None
    transforms: str | None = None
    transform_presets: dict[str, dict[str, str]] | None = None


def files_of(tenant_id: str) -> Bucket:
    """The bucket of a new tenant's files, which is not stored yet."""
    now = seam.iso(seam.now())
    chosen = BucketSettings()
    return Bucket(tenant_id, FILES, bucket_id=seam.new_uuid(), revision=1, visibility=chosen.visibility, created_at=now, updated_at=now)


def check_settings(chosen: dict[str, Any]) -> dict[str, Any]:
    """What was chosen of BucketSettings, in its usual form; raises InvalidRequest."""
    checked, limit = dict(chosen), settings().max_upload_size
    size, patterns = chosen.get("file_size_limit"), chosen.get("allowed_mime_types")
    if size is not None and not 0 < size <= limit:
        raise InvalidRequest(f"the size limit of a bucket lies between 1 and {limit} bytes")
    if patterns is not None:
        checked["allowed_mime_types"] = [content.check_pattern(pattern) for pattern in patterns]
        if len(patterns) > MAX_ALLOWED_TYPES or sum(map(len, patterns)) > MAX_ALLOWED_CHARACTERS:
            raise InvalidRequest(f"a bucket names at most {MAX_ALLOWED_TYPES} content types, {MAX_ALLOWED_CHARACTERS} characters in all")
    if chosen.get("transform_presets") is not None:
        check_presets(chosen["transform_presets"])
    return checked


def create(principal: Principal, name: str, choices: dict[str, Any], storage_id: str | None = None) -> Bucket:
    """A new bucket with `choices` of BucketSettings, on a storage of the tenant's, None: the internal one.

    Raises BucketExists, InvalidName, InvalidRequest, StorageNotFound, ProbeFailed.
    """
    chosen = BucketSettings(**check_settings(choices))
    names.check_bucket_name(name)
    revision = None
    if storage_id is not None:
        from chalicelib.core import storages

        revision = storages.require_usable(principal, storage_id)
    now = seam.iso(seam.now())
    bucket = Bucket(
        principal.tenant_id,
        name,
        bucket_id=seam.new_uuid(),
        storage_id=storage_id,
        revision=1,
        visibility=chosen.visibility,
        file_size_limit=chosen.file_size_limit,
        allowed_mime_types=chosen.allowed_mime_types,
        transforms=chosen.transforms,
        transform_presets=chosen.transform_presets,
        created_at=now,
        updated_at=now,
    )
    try:
        _put_new(bucket, revision)
    except ConditionFailed as failed:
        if failed.row is None:
            raise StorageNotFound(f"there is no storage {storage_id}") from failed
        if failed.row.bucket_id != bucket.bucket_id:  # ours is there when only an answer was lost
            raise BucketExists(f"there is a bucket {name} already") from failed
    return bucket


def _put_new(bucket: Bucket, revision: int | None) -> None:
    """Write the row of a new bucket, counted by its storage; raises ConditionFailed, with no row if it is the storage that is not there.

    `revision` of the storage is the one that was found usable.
    """
    if bucket.storage_id is None:
        bucket.put(Bucket.name.does_not_exist())
        return
    for _ in tries(f"storage {bucket.storage_id} is being changed; try again shortly"):
        try:
            with Transaction() as transaction:
                transaction.put(bucket, Bucket.name.does_not_exist())
                keeping.refer(transaction, bucket.tenant_id, bucket.storage_id, "buckets", 1, revision)
            return
        except TransactionFailed as failed:
            taken, other = failed.rows
            if taken is not None:
                raise taken from failed
            if other is not None and other.row is not None:
                raise Unavailable("the storage was changed at this moment; try again") from failed
            if other is not None:
                raise other from failed


def all_of(tenant_id: str) -> list[Bucket]:
    """Every bucket of a tenant, by name, that of its files included."""
    return Bucket.all_of(tenant_id)


def made_by(tenant_id: str) -> list[Bucket]:
    """Every bucket that a tenant has made, by name."""
    return [bucket for bucket in all_of(tenant_id) if bucket.name != FILES]


def get(tenant_id: str, name: str) -> Bucket:
    """The bucket as it stands; raises BucketNotFound."""
    bucket = _read(tenant_id, name)
    if bucket is None:
        _buckets.forget(_cache_key(tenant_id, name))
        raise bucket_not_found(name)
    _buckets.keep(_cache_key(tenant_id, name), bucket)
    return bucket


def visible(principal: Principal, name: str) -> Bucket:
    """The bucket for someone who may know of it: the service key, or anyone when it is public.

    Raises BucketNotFound, and Unauthorized when nobody asks for one that is not public.
    """
    bucket = _read(principal.tenant_id, name)
    if bucket is not None and (principal.is_service or bucket.public):
        return bucket
    if principal.role is Role.NOBODY:
        require_service(principal, "seeing a private bucket")
    raise bucket_not_found(name)


def recent(tenant_id: str, name: str) -> Bucket:
    """The bucket as it stood at most a minute ago; raises BucketNotFound."""
    bucket = _buckets.get(_cache_key(tenant_id, name), lambda: _read(tenant_id, name))
    if bucket is None:
        raise bucket_not_found(name)
    return bucket


def partition_of(tenant_id: str, name: str) -> str:
    """Where the rows of a bucket's objects are. One that is gone has no rows to look through."""
    bucket = Bucket.read(tenant_id, name)
    return bucket.partition if bucket else f"{tenant_id}#"


def is_outdated(bucket: Bucket) -> bool:
    """Whether the name of a remembered bucket is free, or another bucket's, by now."""
    try:
        return bool(get(bucket.tenant_id, bucket.name).bucket_id != bucket.bucket_id)
    except BucketNotFound:
        return True


def remember(bucket: Bucket) -> None:
    """Keep a bucket that was read just now."""
    _buckets.keep(_cache_key(bucket.tenant_id, bucket.name), bucket)


def change(tenant_id: str, name: str, changes: dict[str, Any]) -> Bucket:
    """Set the given settings of a bucket and leave the others; raises BucketNotFound, InvalidRequest."""
    chosen = check_settings(changes)
    if name == FILES and chosen.get("visibility", "private") != "private":
        raise BucketReserved("the bucket of files stays private; a file's acl opens its pictures")
    for _ in tries(f"bucket {name} is being changed by too many at once; try again shortly"):
        bucket = get(tenant_id, name)
        actions = [
            *Bucket.setting(chosen),
            Bucket.revision.set(bucket.revision + 1),
            Bucket.updated_at.set(seam.iso(seam.now())),
        ]
        try:
            bucket.change(actions, (Bucket.bucket_id == bucket.bucket_id) & (Bucket.revision == bucket.revision))
        except ConditionFailed:
            continue
        remember(bucket)
        return bucket
    raise AssertionError("tries() ends by raising")


def delete(principal: Principal, name: str, if_empty: bool) -> Job:
    """Free the name at once and leave rows and bytes to the job that is given back; raises BucketReserved, and what `end` raises."""
    if name == FILES:
        raise BucketReserved("the bucket of files ends with its tenant; delete the files in it instead")
    return end(principal, name, if_empty)


def end(principal: Principal, name: str, if_empty: bool = False) -> Job:
    """End any bucket, that of a tenant's files included, as `delete` says.

    The row goes and the job comes in one transaction: killed right after it, the job is found and woken by
    the hourly cleanup. Raises BucketNotFound, and BucketNotEmpty when `if_empty` and it is not: a look beforehand,
    which an upload that is under way can slip through.
    """
    bucket = get(principal.tenant_id, name)
    if if_empty and _rows(bucket.partition):
        raise BucketNotEmpty(f"bucket {name} is not empty; delete its objects first, or leave out if_empty")
    job = jobs.new(DELETE_JOB, principal, {"bucket": name, "partition": bucket.partition, "deleted_at": seam.timestamp()})
    try:
        _replace_by_job(bucket, job)
    finally:
        _buckets.forget(_cache_key(principal.tenant_id, name))
    jobs.wake(job.job_id)
    return job


def _replace_by_job(bucket: Bucket, job: Job) -> None:
    for _ in tries(f"bucket {bucket.name} is being changed; try again shortly"):
        try:
            with Transaction() as transaction:
                transaction.remove(bucket, Bucket.bucket_id == bucket.bucket_id)
                transaction.put(job)
                if bucket.storage_id is not None:
                    keeping.refer(transaction, bucket.tenant_id, bucket.storage_id, "buckets", -1)
            return
        except TransactionFailed as failed:
            if not failed.conflict:  # a counter of a busy bucket moves all the time
                raise bucket_not_found(bucket.name) from failed


def delete_step(job: Job) -> Step:
    """Remove a page of a deleted bucket's rows, and its policies; the stream of the rows files their bytes as garbage.

    An upload that had read the bucket before it went may still land its row, for as long as a request can
    last; so the job looks once more after that.
    """
    rows = _rows(job.task["partition"])
    policies = stored_policies(job.task["partition"].partition("#")[2])
    write_all([(StoredPolicy, {"DeleteRequest": {"Key": StoredPolicy.key(each.bucket_id, each.policy_id)}}) for each in policies])
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
    """The keys of a page of a partition's rows."""
    query = {
        "KeyConditionExpression": "#p = :p",
        "ExpressionAttributeNames": {"#p": "partition", "#n": "name"},
        "ExpressionAttributeValues": {":p": {"S": partition}},
        "ProjectionExpression": "#p, #n",
        "ConsistentRead": True,
        "Limit": DELETED_AT_ONCE,
    }
    return next(StoredObject.pages(**query))


def _cache_key(tenant_id: str, name: str) -> str:
    return f"{tenant_id}/{name}"
