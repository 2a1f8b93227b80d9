"""Copies in the internal storage of objects that lie where nobody else can fetch them: on servers that hand out no URLs.

    staged/{bucket_id}/{version}    a whole object, for a day

An object that is too large for one answer is staged once by a job, and downloads of it are sent there. The image function, too, reads
sources of tenants' storages here: so it needs neither their credentials nor the way to them. A version names bytes that never
change, so a copy cannot be out of date.
"""

import uuid

from chalicelib import providers, seam
from chalicelib.access.principals import Principal, Role
from chalicelib.core import jobs, keeping
from chalicelib.core.jobs import JobFailed, Step
from chalicelib.errors import BytesMissing, Staging, StorageUnavailable
from chalicelib.providers import Multipart, Part
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject

JOB = "object.stage"
FOLDER = "staged/"
# Seconds. A lifecycle rule removes what is a day old; what is handed out must outlive the hour of its URL.
KEPT = 24 * 3600
USED_UNTIL = 20 * 3600
FAILED_FOR = 300
PART_BYTES = 16 << 20
_JOBS = uuid.UUID("5f4ca0f7-6d2a-4ab1-8f4e-6d9d5b7f9c11")


def key_of(row: StoredObject) -> str:
    """Where an object's copy lies in the internal storage."""
    return f"{FOLDER}{row.bucket_id}/{row.version}"


def _is_there(row: StoredObject) -> bool:
    found = providers.internal().inspect(key_of(row), 1)
    return found is not None and found.size == row.size and found.stored + USED_UNTIL > seam.timestamp()


def copied(row: StoredObject) -> str:
    """The key of an object in the internal storage: its own, or that of a copy, made now. For objects that fit into memory."""
    if row.storage_id is None:
        return str(row.physical_key)
    if not _is_there(row):
        body = keeping.holding(row).read(row.physical_key, 0, int(row.size))
        providers.internal().put(key_of(row), body, row.content_type)
    return key_of(row)


def require(row: StoredObject) -> str:
    """The key of an object's copy; raises Staging until a job has made it, StorageUnavailable while one has just failed, BytesMissing."""
    if _is_there(row):
        return key_of(row)
    job_id = str(uuid.uuid5(_JOBS, key_of(row)))
    met = Job.read(job_id)
    if met is not None and met.error and seam.moment(met.updated_at).timestamp() + FAILED_FOR > seam.timestamp():
        raise StorageUnavailable(f"the object could not be brought to where it can be downloaded from: {met.error}")
    if met is None or met.pending is None:
        _begin(row, job_id, met)
    raise Staging("the object is being brought to where it can be downloaded from; try again shortly, or ask for ranges")


def _begin(row: StoredObject, job_id: str, ended: Job | None) -> None:
    """Start the job that copies an object; its id follows from the version, so there is one."""
    if keeping.holding(row).stat(row.physical_key) is None:
        raise BytesMissing("the stored object is missing")
    job = jobs.new(JOB, Principal(Role.SERVICE, row.tenant_id), {"row": row.attribute_values})
    job.job_id = job_id
    jobs.restart(job, ended)


def step(job: Job) -> Step:
    """Begin, carry a part over, or end. Each can be repeated."""
    row = StoredObject(**job.task["row"])
    target, size, key = providers.internal(), int(row.size), key_of(row)
    if not isinstance(target, Multipart):
        raise JobFailed("this storage takes no uploads in parts")
    checkpoint = dict(job.checkpoint)
    if "upload_id" not in checkpoint:
        return Step({"upload_id": target.create_multipart(key, row.content_type), "etags": []}, 0, size)
    etags, part_bytes = checkpoint["etags"], max(PART_BYTES, -(-size // target.max_parts))
    offset = len(etags) * part_bytes
    if offset < size:
        length = min(part_bytes, size - offset)
        try:
            body = keeping.holding(row).read(row.physical_key, offset, length)
        except BytesMissing:
            target.abort_multipart(key, checkpoint["upload_id"])
            raise JobFailed("the object was deleted meanwhile") from None
        part = target.upload_part(key, checkpoint["upload_id"], len(etags) + 1, body)
        return Step({**checkpoint, "etags": [*etags, part.etag]}, offset + length, size)
    target.complete_multipart(key, checkpoint["upload_id"], [Part(number, etag) for number, etag in enumerate(etags, 1)])
    return Step(checkpoint, size, size, finished=True)


def give_up(job: Job) -> None:
    """Free what a copy that failed has stored so far."""
    target = providers.internal()
    if isinstance(target, Multipart) and "upload_id" in job.checkpoint:
        target.abort_multipart(key_of(StoredObject(**job.task["row"])), job.checkpoint["upload_id"])
