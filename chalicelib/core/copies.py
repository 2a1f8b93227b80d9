"""Copies and moves: inside a bucket a move re-points the row, everything else copies bytes in the storage.

Up to 100 MB the bytes are copied in one call of the provider; beyond, by a job, part after part. Either way
the new row lands in one transaction with what belongs to it (the source's row when it is a move, the job's
end), so that neither a replay nor a kill brings back an object that was overwritten or deleted since.
"""

from contextlib import suppress
from typing import Any

from chalicelib import seam
from chalicelib.access.permissions import Operation, bucket_not_found, require
from chalicelib.access.principals import Principal
from chalicelib.core import buckets, checksums, content, filing, garbage, jobs, keeping, names, objects
from chalicelib.core.filing import Filing
from chalicelib.core.jobs import JobFailed, Step
from chalicelib.errors import PreconditionFailed, StorageRemoved
from chalicelib.providers import Copier, Multipart, Part, Provider
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import PRIVATE, StoredObject
from chalicelib.tables.table import Transaction, TransactionFailed, tries

COPY_JOB = "object.copy"
LARGE = 100_000_000
# Copied inside S3 in a second or two, far within a job's lease. At most 1,000 parts keep the checkpoint small.
PART_BYTES = 128 << 20
MAX_PARTS = 1000
# Where every part passes through memory, between storages and on servers that copy nothing, parts are smaller and there are more.
CARRIED_BYTES = 16 << 20
MAX_CARRIED_BYTES = 64 << 20
MAX_CARRIED_PARTS = 5000
# A copy is private, whatever it is a copy of or replaces, and has its source's metadata.
COPIED = Filing(PRIVATE, keeps_metadata=False)


def move(principal: Principal, bucket_name: str, source: str, to_bucket: str, target: str, upsert: bool) -> StoredObject | Job:
    """Give an object another name or bucket; gives its row, or the job that does it."""
    names.check_name_in(bucket_name, source)
    names.check_name_in(to_bucket, target)
    if bucket_name == to_bucket:
        return objects.repoint(principal, bucket_name, source, target, upsert)
    return _transfer(principal, bucket_name, source, to_bucket, target, upsert, is_move=True)


def copy(principal: Principal, bucket_name: str, source: str, to_bucket: str, target: str, upsert: bool) -> StoredObject | Job:
    """Store an object under another name or in another bucket too; gives the new row, or the job that does it."""
    names.check_name_in(bucket_name, source)
    names.check_name_in(to_bucket, target)
    return _transfer(principal, bucket_name, source, to_bucket, target, upsert, is_move=False)


def _transfer(
    principal: Principal, bucket_name: str, source: str, to_bucket: str, target: str, upsert: bool, *, is_move: bool
) -> StoredObject | Job:
    bucket, found = objects.read_current(principal, Operation.SELECT, bucket_name, source)
    found = objects.permit_existing(principal, Operation.SELECT, bucket, source, found)
    if is_move:
        require(principal, Operation.DELETE, bucket, found)
    into, current = objects.read_current(principal, Operation.INSERT, to_bucket, target)
    row = _row_for(principal, found, into, target, is_move)
    permit = objects.permit_replacement if is_move else objects.permit_upload
    permit(principal, into, row, current, upsert)
    objects.check_size(into, int(found.size))
    _check_content(into, found)
    if found.size > _at_once(row) or found.storage_id != row.storage_id:
        task = {"from": found.attribute_values, "to": row.attribute_values, "bucket": to_bucket, "move": is_move, "upsert": upsert}
        return jobs.start(COPY_JOB, principal, task)
    with garbage.filed_on_failure(row):
        _copy_bytes(keeping.holding(row), found, row)
        if is_move:
            _land(principal, into, row, upsert, found, None, is_move=True)
        else:
            hashing = checksums.job_for(principal, row)
            objects.flip(principal, into, row, current, upsert, checksums.beside(hashing), COPIED)
            _wake(hashing)
    return row


def _at_once(row: StoredObject) -> int:
    """Up to how many bytes a copy is made in the request: more by a storage that copies by itself than through memory."""
    return LARGE if isinstance(keeping.holding(row), Copier) else min(LARGE, CARRIED_BYTES)


def _check_content(into: Bucket, found: StoredObject) -> None:
    if into.allowed_mime_types is not None:
        start = objects.read(found, 0, min(int(found.size), content.SNIFFED_BYTES))
        content.check_allowed(into, found.content_type, start)


def _row_for(principal: Principal, found: StoredObject, into: Bucket, target: str, is_move: bool) -> StoredObject:
    row = objects.new_row(principal, into, target, found.content_type, found.user_metadata)
    row.size, row.checksum = found.size, found.checksum
    if is_move:
        row.id, row.created_at = found.id, found.created_at
        row.owned_by(found.owner_id)
    return row


def _copy_bytes(provider: Provider, found: StoredObject, row: StoredObject) -> None:
    if isinstance(provider, Copier):
        provider.copy(found.physical_key, row.physical_key)
    else:
        provider.put(row.physical_key, provider.read(found.physical_key, 0, int(found.size)), found.content_type)


def _land(
    principal: Principal, into: Bucket, row: StoredObject, upsert: bool, found: StoredObject, job: Job | None, *, is_move: bool
) -> None:
    """Write the row, and in the same transaction remove the source of a move and end the job."""
    fresh, hashing = StoredObject(**row.attribute_values), checksums.job_for(principal, row)
    for _ in tries(objects.crowded(row.name), objects.WRITE_TRIES):
        current = StoredObject.read(row.partition, row.name)
        if is_move:
            found = _still_there(principal, found)
            content.check_allowed(into, found.content_type, b"")
            row.content_type, row.user_metadata = found.content_type, found.user_metadata
            objects.permit_replacement(principal, into, row, current, upsert)
            row.revision, row.tokens_not_before = (current.revision if current else 0) + 1, seam.iso(seam.now())
            filing.place(row, current, Filing(found.acl or PRIVATE))  # what was not public does not become so by what it replaces
        else:
            objects.permit_upload(principal, into, fresh, current, upsert)
            objects.succeed(row, current, fresh, COPIED)
        try:
            with Transaction() as transaction:
                transaction.put(row, objects.unchanged(current))
                if is_move:
                    transaction.remove(found, objects.unchanged(found))
                if hashing is not None:
                    transaction.put(hashing)
                if job is not None:
                    jobs.finish_with(transaction, job)
            _wake(hashing)
            return
        except TransactionFailed as failed:
            if job is not None and failed.rows[-1] is not None:
                raise failed.rows[-1] from failed  # ended already, or taken over: this is a replay


def _wake(hashing: Job | None) -> None:
    """What was copied without a checksum has one to come."""
    if hashing is not None:
        jobs.wake(hashing.job_id)


def _still_there(principal: Principal, moved: StoredObject) -> StoredObject:
    """The source of a move as it stands, if it may still go: another type or metadata goes along, other bytes do not."""
    bucket, now_there = objects.read_current(principal, Operation.DELETE, moved.bucket, moved.name)
    if now_there is None or now_there.version != moved.version:
        raise PreconditionFailed(f"object {moved.name} was changed while it was moved; move it again")
    for operation in (Operation.SELECT, Operation.DELETE):
        require(principal, operation, bucket, now_there)
    return now_there


# ---- the job -------------------------------------------------------------------------------------------
def copy_step(job: Job) -> Step:
    """One step of a large copy, or of one between storages: begin, a part, or the end. Each can be repeated."""
    found, row = StoredObject(**job.task["from"]), StoredObject(**job.task["to"])
    provider, size = keeping.holding(row), int(found.size)
    is_inside = found.storage_id == row.storage_id
    if not isinstance(provider, Multipart):
        raise JobFailed("the storage takes no objects in parts")
    if not is_inside and size <= CARRIED_BYTES:
        provider.put(row.physical_key, keeping.holding(found).read(found.physical_key, 0, size), found.content_type)
        return _finish(job, found, row, size)
    checkpoint, part_bytes = dict(job.checkpoint), _part_bytes(provider, size, is_inside)
    if "upload_id" not in checkpoint:
        upload_id = provider.create_multipart(row.physical_key, row.content_type)
        return Step({"upload_id": upload_id, "etags": []}, 0, size)
    offset = len(checkpoint["etags"]) * part_bytes
    if offset < size:
        part = _copy_part(provider, checkpoint, found, row, offset, min(part_bytes, size - offset))
        return Step({**checkpoint, "etags": [*checkpoint["etags"], part.etag]}, min(size, offset + part_bytes), size)
    parts = [Part(number, etag) for number, etag in enumerate(checkpoint["etags"], 1)]
    provider.complete_multipart(row.physical_key, checkpoint["upload_id"], parts)
    return _finish(job, found, row, size)


def _part_bytes(provider: Multipart, size: int, is_inside: bool) -> int:
    """How many bytes a part has; raises JobFailed for an object that is too large to be carried over."""
    if is_inside and max(PART_BYTES, -(-size // MAX_PARTS)) <= provider.max_part_bytes:
        return max(PART_BYTES, -(-size // MAX_PARTS))
    most = min(MAX_CARRIED_BYTES, provider.max_part_bytes)
    part_bytes = min(most, max(CARRIED_BYTES, -(-size // MAX_CARRIED_PARTS)))
    if part_bytes * MAX_CARRIED_PARTS < size:
        raise JobFailed(f"objects of more than {part_bytes * MAX_CARRIED_PARTS} bytes are not copied to this storage")
    return part_bytes


def _copy_part(provider: Multipart, checkpoint: dict[str, Any], found: StoredObject, row: StoredObject, offset: int, length: int) -> Part:
    number, upload_id = len(checkpoint["etags"]) + 1, checkpoint["upload_id"]
    if found.storage_id == row.storage_id:
        return provider.copy_part(row.physical_key, upload_id, number, found.physical_key, offset, length)
    body = keeping.holding(found).read(found.physical_key, offset, length)
    return provider.upload_part(row.physical_key, upload_id, number, body)


def _finish(job: Job, found: StoredObject, row: StoredObject, size: int) -> Step:
    principal = Principal.restored(job.task["principal"])
    with jobs.refused_for_good():
        into = buckets.get(principal.tenant_id, job.task["bucket"])
        if into.partition != row.partition:
            raise bucket_not_found(into.name)
        _land(principal, into, row, job.task["upsert"], found, job, is_move=job.task["move"])
    return Step(dict(job.checkpoint), size, size, finished=True)


def give_up(job: Job) -> None:
    """Free what a copy that failed has stored so far."""
    row = StoredObject(**job.task["to"])
    with suppress(StorageRemoved):  # with its record the right to touch what lies there is gone
        provider = keeping.holding(row)
        if isinstance(provider, Multipart) and "upload_id" in job.checkpoint:
            provider.abort_multipart(row.physical_key, job.checkpoint["upload_id"])
    garbage.file_quietly(row)
