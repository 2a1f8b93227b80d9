"""Checksums of objects that could not be hashed as they came: direct uploads without one, joined uploads.

Until a job has read the bytes once, a row has no checksum. The job hashes piece after piece and puts the hash down
in its checkpoint; what it finds goes into the row only while that still names the same bytes.
"""

import base64
import hashlib

from chalicelib.access.principals import Principal
from chalicelib.core import garbage, hashing, jobs, keeping, objects
from chalicelib.core.jobs import JobFailed, Step
from chalicelib.core.objects import Companion
from chalicelib.errors import BytesMissing
from chalicelib.providers import Provider
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import ConditionFailed, tries

JOB = "object.checksum"
PIECE = 8 << 20
PIECES_A_STEP = 8
# Where a hash cannot be put down, it is taken in one step, which must end within a job's lease.
MAX_AT_ONCE = 2 << 30


def job_for(principal: Principal, row: StoredObject) -> Job | None:
    """The job that hashes an object which has no checksum; the caller stores it with the row, then wakes it."""
    if row.checksum is not None:
        return None
    task = {"partition": row.partition, "name": row.name, "version": row.version, "key": row.physical_key, "size": int(row.size)}
    task["storage_id"] = row.storage_id
    return jobs.new(JOB, principal, task)


def beside(job: Job | None) -> Companion | None:
    """The job as what is written together with the row."""
    return Companion(lambda transaction, _: transaction.put(job), lambda met: None) if job else None


def step(job: Job) -> Step:
    """Read the next 64 MiB, or set the checksum."""
    size, done = job.task["size"], int(job.done)
    state = job.checkpoint.get("state")
    running = hashing.resume(base64.b64decode(state)) if state else hashing.begin()
    if running is None:
        return _set(job, _at_once(job))
    try:
        for _ in range(PIECES_A_STEP):
            piece = _provider(job).read(job.task["key"], done, min(PIECE, size - done))
            running.update(piece)
            done += len(piece)
    except BytesMissing:
        return Step({}, done, size, finished=True)  # overwritten or deleted a day ago: nobody asks any more
    if done == size:
        return _set(job, running.hexdigest())
    return Step({"state": base64.b64encode(running.state()).decode()}, done, size)


def _provider(job: Job) -> Provider:
    return keeping.provider_of(job.tenant_id, job.task["storage_id"])


def _at_once(job: Job) -> str:
    size, running = job.task["size"], hashlib.sha256()
    if size > MAX_AT_ONCE:
        raise JobFailed("this installation's Python cannot hash an object of this size in steps")
    for offset in range(0, size, PIECE):
        running.update(_provider(job).read(job.task["key"], offset, min(PIECE, size - offset)))
    return running.hexdigest()


def _set(job: Job, checksum: str) -> Step:
    """Give the row its checksum: another version of the row, the same of the bytes."""
    size = job.task["size"]
    for _ in tries():
        row = garbage.namer(job.task["partition"], job.task["name"], job.task["version"], job.task["key"])
        if row is None:
            break
        was_read = objects.unchanged(row)
        row.checksum, row.revision = checksum, row.revision + 1
        try:
            row.put(was_read)
            break
        except ConditionFailed:
            continue
    return Step({}, size, size, finished=True)
