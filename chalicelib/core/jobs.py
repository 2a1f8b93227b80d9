"""Jobs: work that outlives a request, done in steps whose outcome is stored.

A job is a row; the queue only says that there is something to do. A worker takes the row's lease, runs step
after step, and stores the checkpoint after each under its fence, so that a second worker or a zombie cannot
write over it. Killed at any moment, a job loses one step, which every kind must be able to repeat. A job
whose wake-up was lost is found by the hourly cleanup.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pynamodb.expressions.condition import Condition

from chalicelib import aws, seam
from chalicelib.access.principals import Principal, Role
from chalicelib.core import names
from chalicelib.errors import JobNotFound, StorageUnavailable, StowageError, Unauthorized, Unavailable
from chalicelib.observability import logger
from chalicelib.providers.failures import Failure
from chalicelib.settings import settings
from chalicelib.tables.jobs import Job
from chalicelib.tables.table import ConditionFailed, Transaction

# Seconds. A step must end well within the lease, and a worker stops early enough to hand on.
LEASE = 120
RESERVE = 45
FINISHED_FOR = 7 * 24 * 3600
STALE_AFTER = 300
MAX_FAILURES = 6
ASSEMBLES_FOR = 1
MAX_DELAY = 900  # SQS: DelaySeconds
PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Step:
    """What a step reached. `done` of `total` is progress; `wait` seconds must pass before the next."""

    checkpoint: dict[str, Any]
    done: int
    total: int | None = None
    finished: bool = False
    wait: float = 0


class JobFailed(Exception):
    """A step found that the job can never succeed; the message is told to its owner."""


@contextmanager
def refused_for_good() -> Iterator[None]:
    """What is refused in here will always be; what is only not to be had now is tried again from the checkpoint."""
    try:
        yield
    except Unavailable:
        raise
    except StowageError as error:
        raise JobFailed(error.message) from error


@dataclass(frozen=True, slots=True)
class Kind:
    """What does a kind of job: `step` one step of it, `give_up` frees what a job that failed for good has used."""

    step: Callable[[Job], Step]
    give_up: Callable[[Job], None] = lambda _: None


def new(kind: str, principal: Principal, task: dict[str, Any]) -> Job:
    """A job row that is not stored yet: the caller stores it with what it belongs to, then calls `wake`."""
    now = seam.iso(seam.now())
    return Job(
        seam.new_uuid(),
        tenant_id=principal.tenant_id,
        kind=kind,
        status="queued",
        task={**task, "principal": principal.snapshot()},
        pending=PENDING,
        created_at=now,
        updated_at=now,
    )


def start(kind: str, principal: Principal, task: dict[str, Any]) -> Job:
    """Store a job and wake a worker."""
    job = new(kind, principal, task)
    with suppress(ConditionFailed):  # the id is random: what stands there is this job, put before an answer was lost
        job.put(Job.job_id.does_not_exist())
    wake(job.job_id)
    return job


def restart(job: Job, ended: Job | None) -> None:
    """Store and wake a job whose id is fixed, in place of one that has ended, if there was one. Another may have done it meanwhile."""
    condition: Condition = Job.job_id.does_not_exist()
    if ended is not None:
        condition = Job.pending.does_not_exist() & (Job.fence == ended.fence)
        job.fence = ended.fence
    try:
        job.put(condition)
    except ConditionFailed as failed:
        if failed.row is None or failed.row.pending is None:
            return
    wake(job.job_id)  # also one that stood there: who stored it may have died before this


def get(principal: Principal, job_id: str) -> Job:
    """A job of the principal's tenant, for its service key or for who started it; raises JobNotFound, Unauthorized.

    The jobs of an admin belong to the platform: they have no tenant, as an admin key has none.
    """
    if principal.role is Role.NOBODY:
        raise Unauthorized("seeing a job needs the credential that started it; send it as `Authorization: Bearer …`")
    job = Job.read(job_id) if names.is_uuid(job_id) else None
    if job is not None and job.tenant_id == principal.tenant_id:
        started_by = Principal.restored(job.task["principal"])
        of_platform = principal.role is Role.ADMIN
        if principal.is_service or of_platform or (principal.uid is not None and principal.uid == started_by.uid):
            return job
    raise JobNotFound(f"there is no job {job_id}")


def is_pending(job_id: str) -> bool:
    """Whether a job has yet to end."""
    job = Job.read(job_id)
    return job is not None and job.pending is not None


def wake(job_id: str, delay: float = 0) -> None:
    """Ask for a worker in `delay` seconds. Best effort: the row says that there is work, not the message."""
    queue = settings().jobs_queue
    if not queue:
        return
    message = {"QueueUrl": queue, "MessageBody": json.dumps({"job_id": job_id}), "DelaySeconds": round(min(delay, MAX_DELAY))}
    try:
        aws.client("sqs")._make_api_call("SendMessage", message)
    except Exception:  # whatever it was, the hourly cleanup wakes the job; failing the request would tell a lie
        logger().exception("a job could not be woken", extra={"job_id": job_id})


def wake_stale() -> int:
    """Wake every job that should be running and shows no sign of it; gives their number."""
    before = seam.iso(seam.at(seam.timestamp() - STALE_AFTER))
    query = {
        "IndexName": "pending",
        "KeyConditionExpression": "#p = :p AND updated_at < :before",
        "ExpressionAttributeNames": {"#p": "pending"},
        "ExpressionAttributeValues": {":p": {"S": PENDING}, ":before": {"S": before}},
    }
    stale = [item["job_id"]["S"] for page in Job.pages(**query) for item in page]
    for job_id in stale:
        wake(job_id)
    return len(stale)


def work(job_id: str, kinds: Mapping[str, Kind], seconds_left: Callable[[], float], reserve: float = RESERVE) -> None:
    """Run a job until it ends, must wait, or fewer than `reserve` seconds are left; then hand it on."""
    job = Job.read(job_id)
    if job is None or job.pending is None or not _claim(job):
        return
    try:
        while True:
            step = kinds[job.kind].step(job)
            _store(job, step)
            if step.finished:
                return
            if step.wait or seconds_left() < reserve:
                _release(job, step.wait)
                return
    except ConditionFailed:
        logger().warning("a job was taken over", extra={"job_id": job_id, "kind": job.kind})
    except JobFailed as error:
        _fail(job, kinds[job.kind], str(error))
    except Exception as error:
        if isinstance(error, StorageUnavailable) and error.reason == Failure.ASSEMBLING:
            _release(job, ASSEMBLES_FOR)  # it gets on, and is no failure
            return
        logger().exception("a step failed", extra={"job_id": job_id, "kind": job.kind})
        _retry(job, kinds[job.kind], error)


def finish_with(transaction: Transaction, job: Job, note: str | None = None) -> None:
    """End a job in the same transaction as its last effect, so that no replay of the step repeats it.

    `note` tells its owner what is left to them.
    """
    transaction.change(job, [Job.status.set("done"), *Job.setting({"error": note}), *_ended()], _is_ours(job))


def _claim(job: Job) -> bool:
    free = (Job.lease_until < seam.timestamp()) & (Job.fence == job.fence) & Job.pending.exists()
    holder = seam.new_uuid()
    try:
        job.change([Job.status.set("running"), Job.fence.set(job.fence + 1), Job.holder.set(holder), *_touched(LEASE)], free)
    except ConditionFailed as failed:
        if failed.row is None or failed.row.holder != holder:
            return False
        job.fence += 1  # ours: the answer to an earlier attempt was lost
    return True


def _store(job: Job, step: Step) -> None:
    actions = [Job.checkpoint.set(step.checkpoint), Job.done.set(step.done), Job.failures.set(0), *_touched(LEASE)]
    if step.total is not None:
        actions.append(Job.total.set(step.total))
    if step.finished:
        actions += [Job.status.set("done"), *_ended()]
    job.change(actions, Job.fence == job.fence)


def _release(job: Job, wait: float) -> None:
    job.change([Job.status.set("queued"), *_touched(0)], Job.fence == job.fence)
    wake(job.job_id, wait)


def _retry(job: Job, kind: Kind, error: Exception) -> None:
    if job.failures + 1 >= MAX_FAILURES:
        _fail(job, kind, error.message if isinstance(error, StowageError) else "it failed repeatedly; the log has the cause")
        return
    try:
        job.change([Job.failures.set(job.failures + 1), Job.status.set("queued"), *_touched(0)], _is_ours(job))
    except ConditionFailed:
        return
    wake(job.job_id, 5 * 2**job.failures)


def _fail(job: Job, kind: Kind, error: str) -> None:
    """Free what the job has used, then end it: killed in between, it is tried, and fails, once more."""
    try:
        kind.give_up(job)
        job.change([Job.status.set("failed"), Job.error.set(error), *_ended()], _is_ours(job))
    except ConditionFailed:
        return


def _is_ours(job: Job) -> Condition:
    """That this worker still holds the job, and that it has not ended: its last answer may have been lost."""
    ours: Condition = (Job.fence == job.fence) & Job.pending.exists()
    return ours


def _touched(lease: float) -> list[Any]:
    return [Job.lease_until.set(seam.timestamp() + lease if lease else 0), Job.updated_at.set(seam.iso(seam.now()))]


def _ended() -> list[Any]:
    return [Job.pending.remove(), Job.expires_at.set(int(seam.timestamp()) + FINISHED_FOR)]
