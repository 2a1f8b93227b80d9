"""The garbage collector and the job runner under faults: refusals, kills, lack of time."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from chalicelib import providers, seam, workers
from chalicelib.access.principals import Principal, Role
from chalicelib.core import cleanup, garbage, jobs
from chalicelib.core.jobs import JobFailed, Kind, Step
from chalicelib.errors import StorageUnavailable
from chalicelib.tables.jobs import Job
from tests.conftest import Context, run_job

DAY = 25 * 3600


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def superseded(tenant: Any, machinery: Any) -> Any:
    """A bucket `b` with object `o`, whose three earlier versions are filed as garbage."""
    tenant.service.bucket("b")
    for body in (b"1", b"2", b"3", b"4"):
        tenant.service.put("b", "o", body)
    machinery.stream.deliver()
    return tenant


class Refusing:
    """The internal storage, which will not delete some keys."""

    def __init__(self, refuses: Callable[[str], bool]) -> None:
        self._real = providers.internal()
        self._refuses = refuses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def delete(self, keys: list[str]) -> Mapping[str, str]:
        self._real.delete([key for key in keys if not self._refuses(key)])
        return {key: "AccessDenied" for key in keys if self._refuses(key)}


def test_what_the_storage_refuses_to_delete_is_tried_again_later(
    superseded: Any, machinery: Any, clock: Any, stored_keys: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(DAY)
    refusing = Refusing(lambda key: True)
    with monkeypatch.context() as patched:
        patched.setattr(providers, "internal", lambda: refusing)
        report = machinery.hour()["garbage"]
    assert len([key for key in report["left"] if superseded.tenant_id in key]) == 3
    assert len(stored_keys()) == 4
    clock.advance(2 * 3600)
    machinery.hour()
    assert len(stored_keys()) == 1


def test_a_storage_that_is_down_costs_nothing_but_time(
    superseded: Any, machinery: Any, clock: Any, stored_keys: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(DAY)

    class Down:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            def answer(*_: object, **__: object) -> Any:
                raise StorageUnavailable("down")

            return answer

    with monkeypatch.context() as patched:
        patched.setattr(providers, "internal", Down)
        machinery.hour()
    clock.advance(2 * 3600)
    machinery.hour()
    assert len(stored_keys()) == 1


@pytest.mark.parametrize("step", ["is_named", "_delete_bytes", "file_all", "write_all"])
def test_a_collector_killed_at_any_step_is_repeated_without_loss(
    superseded: Any, machinery: Any, clock: Any, stored_keys: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    clock.advance(DAY)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(garbage, step, killed)
        with pytest.raises(Killed):
            machinery.hour()
    assert superseded.service.get("b", "o").body == b"4"
    machinery.hour()
    assert len(stored_keys()) == 1
    assert superseded.service.get("b", "o").body == b"4"


def test_a_collector_out_of_time_goes_on_where_it_stopped(
    superseded: Any, machinery: Any, clock: Any, stored_keys: Callable[[], set[str]]
) -> None:
    clock.advance(DAY)
    report = workers.hourly({}, Context(seconds=0))
    assert report["garbage"]["finished"] is False
    assert len(stored_keys()) == 4
    assert machinery.hour()["garbage"]["finished"] is True
    assert len(stored_keys()) == 1


def test_a_collector_that_did_not_run_for_a_week_catches_up(
    superseded: Any, machinery: Any, clock: Any, stored_keys: Callable[[], set[str]]
) -> None:
    machinery.hour()
    clock.advance(8 * 24 * 3600)
    machinery.hour()
    assert len(stored_keys()) == 1


# ---- jobs ----------------------------------------------------------------------------------------------------------
SERVICE = Principal(Role.SERVICE, "00000000-0000-4000-8000-000000000000")


@pytest.fixture
def job(embedded: object) -> Job:
    return jobs.start("test", SERVICE, {})


def counting(job: Job) -> Step:
    """Five steps."""
    done = int(job.checkpoint.get("done", 0)) + 1
    return Step({"done": done}, done, 5, finished=done == 5)


def run(job: Job, step: Callable[[Job], Step], seconds: float = 600, give_up: Callable[[Job], None] = lambda _: None) -> Job:
    jobs.work(job.job_id, {"test": Kind(step, give_up)}, lambda: seconds)
    found = Job.read(job.job_id)
    assert found is not None
    return found


def test_a_job_runs_to_its_end(job: Job) -> None:
    ended = run(job, counting)
    assert (ended.status, ended.done, ended.total, ended.pending) == ("done", 5, 5, None)
    assert ended.expires_at > seam.timestamp()


def test_a_worker_short_of_time_hands_on_after_each_step(job: Job) -> None:
    for done in range(1, 5):
        handed_on = run(job, counting, seconds=jobs.RESERVE - 1)
        assert (handed_on.status, handed_on.done) == ("queued", done)
    assert run(job, counting, seconds=1).status == "done"


def test_a_second_worker_leaves_a_job_that_is_being_worked_on(job: Job) -> None:
    seen = []

    def step(held: Job) -> Step:
        seen.append(run(held, lambda _: pytest.fail("two workers on one job")).status)
        return counting(held)

    assert run(job, step).status == "done"
    assert seen == ["running"] * 5


def test_a_zombie_cannot_write_over_the_one_that_took_its_job(job: Job, clock: Any) -> None:
    def stall(held: Job) -> Step:
        clock.advance(jobs.LEASE + 1)
        assert run(held, counting).status == "done"
        return Step({"done": 1}, 1, 5)

    assert run(job, stall).checkpoint == {"done": 5}


def test_a_job_whose_worker_was_killed_is_taken_up_again(job: Job, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: Job) -> Step:
        raise Killed

    with pytest.raises(Killed):
        run(job, killed)
    woken: list[str] = []
    monkeypatch.setattr(jobs, "wake", lambda job_id, delay=0: woken.append(job_id))
    cleanup.run(lambda: 600)
    assert job.job_id not in woken  # it may be running yet
    clock.advance(jobs.STALE_AFTER + 1)
    cleanup.run(lambda: 600)
    assert job.job_id in woken
    assert run(job, counting).status == "done"


def test_a_step_that_fails_is_tried_again_and_ends_the_job_after_six_times(job: Job) -> None:
    given_up: list[str] = []

    def failing(_: Job) -> Step:
        raise StorageUnavailable("the storage is down")

    for attempt in range(1, jobs.MAX_FAILURES):
        tried = run(job, failing, give_up=lambda held: given_up.append(held.job_id))
        assert (tried.status, tried.failures, given_up) == ("queued", attempt, [])
    failed = run(job, failing, give_up=lambda held: given_up.append(held.job_id))
    assert (failed.status, failed.error, failed.pending) == ("failed", "the storage is down", None)
    assert given_up == [job.job_id]


def test_a_step_that_succeeds_forgets_earlier_failures(job: Job) -> None:
    def failing(_: Job) -> Step:
        raise StorageUnavailable("down")

    run(job, failing)
    assert run(job, counting).failures == 0


def test_an_inner_error_is_not_told_to_the_owner(job: Job) -> None:
    def failing(_: Job) -> Step:
        raise ValueError("arn:aws:iam::123456789012:role/secret")

    for _ in range(jobs.MAX_FAILURES):
        ended = run(job, failing)
    assert ended.status == "failed"
    assert "secret" not in (ended.error or "")


def test_a_job_that_can_never_succeed_ends_at_once(job: Job) -> None:
    def hopeless(_: Job) -> Step:
        raise JobFailed("the bucket is gone")

    ended = run(job, hopeless)
    assert (ended.status, ended.error) == ("failed", "the bucket is gone")
    assert run(job, lambda _: pytest.fail("an ended job is not begun again")).status == "failed"


def test_a_wake_up_that_is_lost_fails_no_request(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from chalicelib import settings

    monkeypatch.setenv("STOWAGE_JOBS_QUEUE", "http://127.0.0.1:9/000000000000/none")
    settings.settings.cache_clear()
    try:
        tenant.service.bucket("b")
        answer = tenant.service("DELETE", "/storage/buckets/b")
        assert answer.status == 200
        assert tenant.service("GET", f"/jobs/{answer.json()['job_id']}").json()["status"] == "queued"
    finally:
        monkeypatch.undo()
        settings.settings.cache_clear()


def test_deleting_a_bucket_takes_its_rows_and_then_its_bytes(
    tenant: Any, machinery: Any, clock: Any, stored_keys: Callable[[], set[str]]
) -> None:
    tenant.service.bucket("b")
    for number in range(30):
        tenant.service.put("b", f"o{number}", b"x")
    job_id = tenant.service("DELETE", "/storage/buckets/b").json()["job_id"]
    assert tenant.service.get("b", "o1").status == 404
    run_job(job_id)
    clock.advance(120)
    run_job(job_id)
    shown = tenant.service("GET", f"/jobs/{job_id}").json()
    assert (shown["status"], shown["done"], shown["kind"]) == ("done", 30, "bucket.delete")
    machinery.stream.deliver()
    assert len(stored_keys()) == 30
    clock.advance(DAY)
    machinery.hour()
    assert stored_keys() == set()
