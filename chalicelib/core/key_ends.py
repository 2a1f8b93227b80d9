"""The end of a key: its deltas, with their objects as far as the storage lets them be deleted, then the key itself.

The key is marked and the job is stored in one transaction: from then on nothing can be added to it, and whoever dies, the hourly cleanup
wakes the job. The request that asked does the job's steps itself for a while, so that it can tell what the storage has kept; a key
of thousands of deltas is finished by the worker.
"""

from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from chalicelib import seam
from chalicelib.access.principals import Principal
from chalicelib.core import deltas, jobs, keeping, keys, layout
from chalicelib.core.deltas import Left
from chalicelib.core.jobs import Kind, Step
from chalicelib.tables.deltas import DELETED, Delta, DeltaPointer
from chalicelib.tables.jobs import Job
from chalicelib.tables.keys import DELETING, VaultKey
from chalicelib.tables.table import Transaction, TransactionFailed, tries, write_all

JOB = "key.delete"
BATCH = 100
# Seconds, of the 28 that a function lives.
AT_ONCE = 12.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a key: `deleted` deltas so far, what is `left` of them, and the job that goes on, None when all is done."""

    deleted: int
    left: Left = field(default_factory=Left)
    job_id: str | None = None


def delete(principal: Principal, key_uuid: str) -> Ended:
    """Delete a key and its deltas; raises KeyNotFound."""
    ends = seam.timestamp() + AT_ONCE
    job = begin(principal, key_uuid)
    jobs.work(job.job_id, {JOB: Kind(step)}, lambda: ends - seam.timestamp(), reserve=0)
    done = Job.read(job.job_id) or job
    return Ended(int(done.done), left_by(done), None if done.status == "done" else job.job_id)


def left_by(job: Job) -> Left:
    """What a job has left so far."""
    return Left(**job.checkpoint.get("left", {}))


def begin(principal: Principal, key_uuid: str, internal_only: bool = False) -> Job:
    """Mark a key as one that ends, and store the job for it, which nobody has woken yet; raises KeyNotFound.

    `internal_only`: what lies in storages of the tenant's stays there.
    """
    for _ in tries(f"key {key_uuid} is being used; try again shortly"):
        key = keys.get_even_ending(principal, key_uuid)
        if key.status == DELETING and (begun := Job.read(key.job_id)) and begun.status != "failed":
            return begun  # asked once more, after an answer that was lost
        job = jobs.new(JOB, keys.owner_of(key, principal), {"key_uuid": key_uuid, "internal_only": internal_only})
        marks = [VaultKey.status.set(DELETING), VaultKey.job_id.set(job.job_id), VaultKey.revision.add(1)]
        try:
            with Transaction() as transaction:
                transaction.change(VaultKey(key.tenant_id, key_uuid), marks, VaultKey.revision == key.revision)
                transaction.put(job)
            return job
        except TransactionFailed:
            continue
    raise AssertionError("tries() ends by raising")


def step(job: Job) -> Step:
    """Delete the next hundred deltas, or at last the key. Each can be repeated."""
    key = VaultKey.read(job.tenant_id, job.task["key_uuid"])
    after, left = job.checkpoint.get("after", ""), left_by(job)
    if key is None or key.job_id != job.job_id:
        return Step(job.checkpoint, int(job.done), int(job.done), finished=True)
    rows = list(islice(keys.rows_of(key.key_uuid, after), BATCH))
    if not rows:
        _remove(key, job, left)
        return Step({"after": after, "left": asdict(left)}, int(job.done), int(job.done), finished=True)
    there = [row for row in rows if row.status != DELETED]
    storages = [each for each in layout.copies_of(key) if each is None or not job.task["internal_only"]]
    stays_here = deltas.remove_copies(key, [row.delta_uuid for row in there], storages, left)
    layout.file_internal(key.key_uuid, stays_here, seam.timestamp())
    write_all([write for row in there for write in _forgetting(row)])
    done = int(job.done) + len(there)
    return Step({"after": rows[-1].delta_uuid, "left": asdict(left)}, done, max(done, int(key.stored)))


def _forgetting(row: Delta) -> list[tuple[Any, dict[str, Any]]]:
    """What removes a delta, or leaves a mark of it. The key takes no change of its deltas any more, so none is lost by this."""
    mark = deltas.mark_of(row)
    gone = {"PutRequest": {"Item": mark.serialize()}} if mark else {"DeleteRequest": {"Key": Delta.key(row.key_uuid, row.delta_uuid)}}
    return [(Delta, gone), (DeltaPointer, {"DeleteRequest": {"Key": DeltaPointer.key(row.delta_uuid, DeltaPointer.ITEM)}})]


def _remove(key: VaultKey, job: Job, left: Left) -> None:
    """Remove the key, have the storages that count it count one less, and end the job, in one."""
    counted_by = [each for each in dict.fromkeys([key.storage_id, key.target_id]) if each is not None]
    for _ in tries(f"key {key.key_uuid} is being used; try again shortly"):
        try:
            with Transaction() as transaction:
                transaction.remove(VaultKey(key.tenant_id, key.key_uuid), VaultKey.job_id == job.job_id)
                jobs.finish_with(transaction, job, left.warning)
                for storage_id in counted_by:
                    keeping.refer(transaction, key.tenant_id, storage_id, "keys", -1)
            return
        except TransactionFailed as failed:
            if failed.rows[0] or failed.rows[1]:
                raise  # it has ended, or another is at it
            # A storage whose record is gone counts nothing any more.
            counted_by = [each for each, refused in zip(counted_by, failed.rows[2:], strict=True) if not refused]
    raise AssertionError("tries() ends by raising")
