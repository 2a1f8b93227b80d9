"""Uploads that are over: what they hold goes, at any step of a run that is killed there, and nothing else does."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from chalicelib import providers, seam, workers
from chalicelib.access.principals import Principal, Role
from chalicelib.core import cleanup, expiry, garbage, hours, objects, sessions
from chalicelib.errors import StorageUnavailable
from chalicelib.settings import settings
from chalicelib.tables.garbage import Garbage
from chalicelib.tables.uploads import PartsPage, UploadSession
from tests.client import Answer, Client
from tests.conftest import Call, Clock, Context, Tenant

TUS = "/storage/v1/upload/tus"
DAY = 24 * 3600
HOUR = 3600
PART = 32


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def service(tenant: Tenant, alone: None, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A bucket `b` on a storage of small parts, and tables without anything else."""
    monkeypatch.setattr(type(providers.internal()), "min_part_bytes", PART)
    tenant.service.bucket("b")
    return tenant.service


def begin(client: Client, size: int, name: str = "bw==", **headers: str) -> str:
    sent = {"Tus-Resumable": "1.0.0", "Upload-Length": str(size), "Upload-Metadata": f"bucket Yg==,filename {name}"} | headers
    answer = client("POST", TUS, headers=sent)
    assert answer.status == 201, answer.body
    return answer.headers["location"].rpartition("/")[2]


def send(client: Client, upload_id: str, offset: int, chunk: bytes) -> Answer:
    sent = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return client("PATCH", f"{TUS}/{upload_id}", chunk, sent)


def status(client: Client, upload_id: str) -> int:
    return client("HEAD", f"{TUS}/{upload_id}", headers={"Tus-Resumable": "1.0.0"}).status


def session(upload_id: str) -> UploadSession:
    found = UploadSession.read(upload_id, UploadSession.SESSION)
    assert found is not None
    return found


def staged(upload_id: str) -> list[str]:
    return [listed.key for listed in providers.internal().list(f"uploads/{upload_id}/")]


def unfinished(embedded: Any) -> list[str]:
    answer = embedded.client("s3").list_multipart_uploads(Bucket=settings().s3_bucket)
    return [upload["Key"] for upload in answer.get("Uploads", ())]


def run(seconds: float = 600, dry_run: bool = False) -> dict[str, Any]:
    report: dict[str, Any] = cleanup.run(lambda: seconds, dry_run)["uploads"]
    return report


@pytest.fixture
def half(service: Client) -> str:
    """An upload with a part and a tail."""
    upload_id = begin(service, 10 * PART)
    assert send(service, upload_id, 0, b"x" * PART).status == 204
    assert send(service, upload_id, PART, b"y" * 5).status == 204
    return upload_id


def test_an_upload_lives_a_day_after_its_last_chunk(service: Client, half: str, clock: Clock) -> None:
    clock.advance(DAY - HOUR)
    assert run()["freed"] == 0
    assert send(service, half, PART + 5, b"more").status == 204
    clock.advance(DAY - HOUR)
    assert run()["freed"] == 0
    assert status(service, half) == 200
    clock.advance(2 * HOUR)
    assert status(service, half) == 410  # even before the cleanup comes


def test_what_an_expired_upload_holds_is_freed(service: Client, half: str, clock: Clock, embedded: Any) -> None:
    assert len(unfinished(embedded)) == 1
    assert len(staged(half)) == 1
    clock.advance(DAY + HOUR)
    assert run() == {"due": 1, "expired": 1, "freed": 1, "tails": 1, "aborted": 1, "left": 0, "finished": True, "failures": {}}
    assert unfinished(embedded) == []
    assert staged(half) == []
    assert status(service, half) == 410
    assert send(service, half, PART + 5, b"late").status == 410
    assert run()["due"] == 0


def test_a_week_later_nothing_tells_of_it(half: str, service: Client, clock: Clock) -> None:
    clock.advance(DAY + HOUR)
    run()
    assert session(half).forget_at == int(session(half).expires_at + 7 * DAY)


def test_expired_uploads_are_found_by_their_index(service: Client, half: str, clock: Clock, calls: list[Call]) -> None:
    run()
    hours.emptied(expiry.CURSOR, "2020-01-01T00")
    hours.emptied(expiry.CURSOR, seam.hour(seam.timestamp() - 2 * HOUR))
    clock.advance(DAY + HOUR)
    calls.clear()
    expiry.collect(lambda: 600)
    assert "Scan" not in {call.operation for call in calls}
    assert status(service, half) == 410


def test_pages_of_parts_go_with_the_upload(service: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PARTS_PER_PAGE", 2)
    upload_id = begin(service, 10 * PART)
    for number in range(5):
        assert send(service, upload_id, number * PART, b"x" * PART).status == 204
    assert len(list(PartsPage.query(upload_id, PartsPage.item.startswith(PartsPage.PREFIX)))) == 2
    clock.advance(DAY + HOUR)
    run()
    assert list(PartsPage.query(upload_id, PartsPage.item.startswith(PartsPage.PREFIX))) == []


def test_an_object_outlives_its_upload_and_the_tails_do_not(service: Client, half: str, clock: Clock) -> None:
    assert send(service, half, PART + 5, b"z" * (9 * PART - 5)).status == 204
    assert len(staged(half)) == 1
    clock.advance(DAY + HOUR)
    report = run()
    assert (report["expired"], report["freed"], report["tails"]) == (0, 1, 1)
    assert service.get("b", "o").body == b"x" * PART + b"y" * 5 + b"z" * (9 * PART - 5)
    clock.advance(2 * DAY)
    cleanup.run(lambda: 600)
    assert service.get("b", "o").status == 200


def test_a_small_upload_that_is_done_costs_no_storage_call(service: Client, clock: Clock, calls: list[Call]) -> None:
    sent = {"Content-Type": "application/offset+octet-stream"}
    upload = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Upload-Metadata": "bucket Yg==,filename bw=="}
    assert service("POST", TUS, b"abc", upload | sent).status == 201
    clock.advance(DAY + HOUR)
    calls.clear()
    assert expiry.collect(lambda: 600).freed == 1
    assert "s3" not in {call.service for call in calls}


def test_a_terminated_upload_is_freed_by_the_next_run(service: Client, half: str, embedded: Any) -> None:
    assert service("DELETE", f"{TUS}/{half}", headers={"Tus-Resumable": "1.0.0"}).status == 204
    assert unfinished(embedded) == []  # at once
    assert len(staged(half)) == 1
    assert run()["freed"] == 1
    assert staged(half) == []
    assert status(service, half) == 404


def test_what_a_killed_writer_left_unnamed_is_looked_for(
    service: Client, clock: Clock, embedded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = begin(service, 10 * PART)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(sessions, "commit", killed)
        for body in (b"x" * PART, b"tail"):
            with pytest.raises(Killed):
                send(service, upload_id, 0, body)
            clock.advance(sessions.LEASE + 1)
    assert session(upload_id).multipart_id is None
    assert len(unfinished(embedded)) == 1
    assert len(staged(upload_id)) == 1
    clock.advance(DAY + HOUR)
    report = run()
    assert (report["aborted"], report["tails"]) == (1, 1)
    assert unfinished(embedded) == staged(upload_id) == []


def test_multipart_uploads_to_other_keys_are_left_alone(service: Client, clock: Clock, embedded: Any) -> None:
    """The key of `o` is the beginning of that of `o2`."""
    gone, kept = begin(service, 10 * PART), begin(service, 10 * PART, "bzI=")
    assert send(service, gone, 0, b"x" * PART).status == 204
    clock.advance(2 * HOUR)
    assert send(service, kept, 0, b"x" * PART).status == 204
    clock.advance(DAY - HOUR)
    assert run()["aborted"] == 1
    assert unfinished(embedded) == [session(kept).physical_key]
    assert send(service, kept, PART, b"y" * (9 * PART)).status == 204


def test_an_upload_that_is_being_written_to_is_left_to_a_later_run(service: Client, half: str, tenant: Tenant, clock: Clock) -> None:
    clock.advance(DAY - 10)
    claimed = sessions.claim(Principal(Role.SERVICE, tenant.tenant_id), half, PART + 5, 4)
    clock.advance(20)
    report = run()
    assert (report["due"], report["freed"], report["left"]) == (1, 0, 1)
    sessions.commit(claimed, {"offset": PART + 9})
    assert status(service, half) == 200
    clock.advance(DAY + 2 * HOUR)
    assert run()["freed"] == 1


def test_a_writer_that_died_in_its_last_minute_does_not_keep_the_upload(half: str, tenant: Tenant, clock: Clock) -> None:
    clock.advance(DAY - 10)
    sessions.claim(Principal(Role.SERVICE, tenant.tenant_id), half, PART + 5, 4)
    clock.advance(20)
    assert run()["left"] == 1
    clock.advance(2 * HOUR)
    assert run()["freed"] == 1


STEPS = ["sessions.end", "garbage.file_all", "_empty", "write_all", "UploadSession.change"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_a_run_killed_at_any_step_is_repeated(
    service: Client, half: str, clock: Clock, embedded: Any, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    clock.advance(DAY + HOUR)
    owner, _, name = step.rpartition(".")
    place: Any = {"sessions": sessions, "garbage": garbage, "": expiry, "UploadSession": UploadSession}[owner]
    real = getattr(place, name)

    def killed(*arguments: Any, **named: Any) -> None:
        if after:
            real(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(place, name, killed)
        with suppress(Killed):
            run()
    clock.advance(2 * HOUR)
    report = run()
    assert report["left"] == 0
    assert unfinished(embedded) == staged(half) == []
    assert session(half).expiry_hour is None
    assert status(service, half) == 410


def test_a_storage_that_is_down_costs_nothing_but_time(
    service: Client, half: str, clock: Clock, embedded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(DAY + HOUR)

    def down(*_: object) -> None:
        raise StorageUnavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(type(providers.internal()), "abort_all", down)
        report = run()
    assert (report["freed"], report["left"], report["failures"]) == (0, 1, {half: "StorageUnavailable"})
    clock.advance(3 * HOUR)
    assert run()["freed"] == 1
    assert unfinished(embedded) == []


def test_a_run_out_of_time_goes_on_where_it_stopped(service: Client, clock: Clock) -> None:
    for _ in range(3):
        begin(service, 5)
    clock.advance(DAY + HOUR)
    left = iter([600.0, 0.0])
    report = expiry.collect(lambda: next(left))
    assert (report.freed, report.finished) == (1, False)
    report = expiry.collect(lambda: 600)
    assert (report.freed, report.finished) == (2, True)


def test_a_cleanup_that_did_not_run_for_a_week_catches_up(service: Client, half: str, clock: Clock) -> None:
    run()
    clock.advance(8 * DAY)
    assert run()["freed"] == 1


def test_a_dry_run_counts_and_changes_nothing(
    service: Client, half: str, clock: Clock, embedded: Any, everything: Callable[[], Any]
) -> None:
    clock.advance(DAY + HOUR)
    before = everything()
    report = workers.hourly({"dry_run": True}, Context())
    assert (report["dry_run"], report["uploads"]["due"], report["uploads"]["freed"]) == (True, 1, 0)
    assert everything() == before
    assert len(unfinished(embedded)) == 1
    assert run()["freed"] == 1


def test_a_completed_object_whose_row_was_refused_is_garbage_once_the_upload_is_over(
    service: Client, half: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts are assembled, then the process dies; nobody comes back."""

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(objects, "flip", killed)
        with pytest.raises(Killed):
            send(service, half, PART + 5, b"z" * (9 * PART - 5))
    key = session(half).physical_key
    assert providers.internal().stat(key) is not None
    clock.advance(DAY + HOUR)
    assert run()["freed"] == 1
    assert [row.physical_key for row in Garbage.scan() if getattr(row, "physical_key", "") == key] == [key]
    clock.advance(DAY + 2 * HOUR)
    cleanup.run(lambda: 600)
    assert providers.internal().stat(key) is None


def test_partial_uploads_go_with_their_bytes_and_what_was_joined_of_them_stays(service: Client, clock: Clock) -> None:
    partials = []
    for body in (b"a" * PART, b"b" * 7):
        upload_id = begin(service, len(body), **{"Upload-Concat": "partial"})
        assert send(service, upload_id, 0, body).status == 204
        partials.append(upload_id)
    urls = " ".join(f"{TUS}/{upload_id}" for upload_id in partials)
    final = {"Tus-Resumable": "1.0.0", "Upload-Concat": f"final;{urls}", "Upload-Metadata": "bucket Yg==,filename bw=="}
    assert service("POST", TUS, headers=final).status == 201
    clock.advance(DAY + HOUR)
    assert run()["freed"] == 3
    assert [staged(upload_id) for upload_id in partials] == [[], []]
    assert service.get("b", "o").body == b"a" * PART + b"b" * 7
