"""Counters that a stream has moved wrongly are put right: what lists and folders tell of totals is true again (DESIGN invariant 3)."""

from typing import Any

import pytest

from chalicelib import workers
from chalicelib.core import recounting
from chalicelib.core.recounting import Report
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.folders import Folder
from chalicelib.tables.garbage import Sweep
from tests.client import Client
from tests.conftest import Clock, Context, Tenant
from tests.durability.conftest import Stream, purge
from tests.files.conftest import folder, listed, put, stored

WEEK = 7 * 24 * 3600


@pytest.fixture(autouse=True)
def _alone(embedded: Any) -> None:
    """No counters of other tests, and no round of theirs."""
    for model in (Bucket, Folder, Sweep):
        purge(model)


class Killed(BaseException):
    """The process ends here."""


def a_round(clock: Clock) -> Report:
    """A whole round, a week after the one before."""
    clock.advance(WEEK)
    report = recounting.run(lambda: 100)
    assert report.round_ended
    return report


def told(client: Client, folder_id: str) -> tuple[int, int, dict[str, Any]]:
    """The totals that the API tells to who sees all: of the drive, of a folder, and the counts by folder."""
    counts = client("GET", "/api/storage/folder-counts").json()
    return listed(client)["meta"]["total"], listed(client, f"folderId={folder_id}")["meta"]["total"], counts


@pytest.fixture
def folder_id(service: Client, stream: Stream) -> str:
    """A folder with two of three files, whose counters are right."""
    made = folder(service, "holidays")
    for key, query in (("a", f"?folderId={made}"), ("b", f"?folderId={made}"), ("c", "")):
        stored(service, key, b"12345", query)
    stream.deliver()
    return made


RIGHT = (3, 2)


def counters(tenant: Tenant, folder_id: str) -> list[tuple[int, int]]:
    """Objects and bytes by the counters of the drive and of a folder."""
    rows = Bucket.read(tenant.tenant_id, FILES), Folder.read(tenant.tenant_id, folder_id)
    return [(int(row.object_count), int(row.total_size_bytes)) for row in rows if row]


def test_a_record_that_came_twice_is_counted_once_in_the_end(
    tenant: Tenant, service: Client, folder_id: str, stream: Stream, clock: Clock
) -> None:
    stored(service, "d", b"1234567", f"?folderId={folder_id}")
    stream.deliver(stream.deliver())
    assert told(service, folder_id)[:2] == (5, 4)
    assert a_round(clock) == Report(counted=2, wrong=2, mended=0, round_ended=True)
    assert told(service, folder_id)[:2] == (5, 4), "one sighting may be a stream that lags"
    assert a_round(clock) == Report(counted=2, wrong=2, mended=2, round_ended=True)
    assert told(service, folder_id) == (4, 3, {"root": 1, "byFolderId": {folder_id: 3}, "total": 4, "complete": True})
    assert counters(tenant, folder_id) == [(4, 22), (3, 17)]
    assert a_round(clock) == Report(counted=2, wrong=0, mended=0, round_ended=True)


def test_a_record_that_never_came_is_counted_in_the_end(
    tenant: Tenant, service: Client, folder_id: str, stream: Stream, clock: Clock
) -> None:
    service("DELETE", "/api/storage/a")
    stored(service, "c", b"longer than before")
    stream.records()
    for _ in range(2):
        a_round(clock)
    assert told(service, folder_id)[:2] == (2, 1)
    assert counters(tenant, folder_id) == [(2, 5 + 18), (1, 5)]


def test_what_only_was_late_is_left_alone(service: Client, folder_id: str, stream: Stream, clock: Clock) -> None:
    stored(service, "d", query=f"?folderId={folder_id}")
    assert a_round(clock).wrong == 2
    stream.deliver()
    assert a_round(clock) == Report(counted=2, wrong=0, mended=0, round_ended=True)
    assert told(service, folder_id)[:2] == (4, 3)


def test_of_two_errors_only_what_they_have_in_common_is_put_right(
    tenant: Tenant, service: Client, folder_id: str, stream: Stream, clock: Clock
) -> None:
    stored(service, "d", b"1")
    stream.deliver(stream.deliver())  # one too many
    a_round(clock)
    stored(service, "e", b"1")
    records = stream.records()
    stream.deliver(records)
    stream.deliver(records)  # another
    assert a_round(clock).mended == 1
    assert counters(tenant, folder_id)[0] == (6, 18), "five files, and the error that was found once"
    a_round(clock)
    assert counters(tenant, folder_id)[0] == (5, 17)


def test_two_sightings_in_one_hour_are_one(service: Client, folder_id: str, stream: Stream, clock: Clock) -> None:
    stored(service, "d")
    stream.deliver(stream.deliver())
    a_round(clock)
    Sweep(Sweep.HOUR, recounting.KIND).delete()
    assert recounting.run(lambda: 100).mended == 0
    clock.advance(recounting.APART + 1)
    Sweep(Sweep.HOUR, recounting.KIND).delete()
    assert recounting.run(lambda: 100).mended == 1


def test_a_dry_run_tells_and_changes_nothing(tenant: Tenant, service: Client, folder_id: str, stream: Stream, clock: Clock) -> None:
    stored(service, "d")
    stream.deliver(stream.deliver())
    for _ in range(3):
        clock.advance(WEEK)
        report = workers.hourly({"dry_run": True}, Context())["counters"]
        assert (report["wrong"], report["mended"]) == (1, 0)
    row = Bucket.read(tenant.tenant_id, FILES)
    assert row is not None
    assert (row.object_count, row.miscounted) == (5, None)
    assert Sweep.read(Sweep.HOUR, recounting.KIND) is None


def test_the_hour_counts_too(service: Client, folder_id: str, stream: Stream, clock: Clock) -> None:
    stored(service, "d")
    stream.deliver(stream.deliver())
    for mended in (0, 1):
        assert workers.hourly({}, Context())["counters"]["mended"] == mended
        assert workers.hourly({}, Context())["counters"]["counted"] == 0, "a round a week"
        clock.advance(WEEK)
    assert listed(service)["meta"]["total"] == 4


# ---- while things go on --------------------------------------------------------------------------------
@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows a page."""
    real = recounting.call
    monkeypatch.setattr(recounting, "call", lambda operation, **more: real(operation, **{**more, "Limit": 2}))


@pytest.mark.usefixtures("short_pages")
@pytest.mark.parametrize("killed_at", range(6))
def test_a_count_goes_on_where_it_was_left_or_killed(
    tenant: Tenant, service: Client, folder_id: str, stream: Stream, clock: Clock, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    for number in range(6):
        stored(service, f"more/{number}", b"1", f"?folderId={folder_id}")
    stream.deliver(stream.deliver())
    saved = Sweep.save
    left = killed_at

    def dying(sweep: Sweep) -> Any:
        nonlocal left
        left -= 1
        if left == -1:
            raise Killed
        return saved(sweep)

    monkeypatch.setattr(Sweep, "save", dying)
    for _ in range(2):
        clock.advance(WEEK)
        ended = 0
        for _ in range(40):
            try:
                ended += recounting.run(lambda: 0).round_ended  # one batch, and time is over
            except Killed:
                continue
            if ended:
                break
        assert ended == 1
    assert counters(tenant, folder_id) == [(9, 21), (8, 16)]


@pytest.mark.usefixtures("short_pages")
def test_what_comes_and_goes_during_a_count_is_no_error(
    tenant: Tenant, service: Client, folder_id: str, stream: Stream, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, number = recounting.call, 0

    def busy(operation: str, **more: Any) -> Any:
        nonlocal number
        answer = real(operation, **more)
        if operation == "Query" and number % 3 == 0:  # more often, and a count would never end
            for begins in "a", "z":  # behind what was counted, and before it
                put(service, f"{begins}{number}", b"1", f"?folderId={folder_id}")
            stream.deliver()
        number += operation == "Query"
        return answer

    monkeypatch.setattr(recounting, "call", busy)
    for _ in range(3):
        assert a_round(clock).mended == 0
    assert number > 9
    assert counters(tenant, folder_id)[0][0] == len(listed(service, "limit=200")["data"])


def test_a_bucket_of_the_same_name_is_another(
    tenant: Tenant, service: Client, folder_id: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.bucket("b")
    real = recounting.call

    def anew(operation: str, **more: Any) -> Any:
        answer = real(operation, **more)
        if more.get("ExpressionAttributeNames", {}).get("#p") == "partition" and service("GET", "/storage/buckets/b").status == 200:
            row = Bucket.read(tenant.tenant_id, "b")
            assert row is not None
            row.created_at, row.object_count = "2020-01-01T00:00:00.000Z", 7
            row.save()
        return answer

    monkeypatch.setattr(recounting, "call", anew)
    a_round(clock)
    row = Bucket.read(tenant.tenant_id, "b")
    assert row is not None
    assert row.miscounted is None


@pytest.mark.parametrize(
    ("before", "after", "found", "error"),
    [(5, 5, 5, 0), (5, 5, 3, 2), (5, 5, 8, -3), (5, 9, 7, 0), (9, 5, 7, 0), (5, 9, 4, 1), (5, 9, 12, -3), (9, 5, 3, 2), (-1, -1, 0, -1)],
)
def test_an_error_lies_outside_of_what_the_counter_said_meanwhile(before: int, after: int, found: int, error: int) -> None:
    assert recounting._error(before, after, found) == error


@pytest.mark.parametrize(("error", "noted", "agreed"), [(2, 2, 2), (3, 1, 1), (1, 3, 1), (-3, -1, -1), (-1, 2, 0), (0, 5, 0), (5, 0, 0)])
def test_errors_agree_as_far_as_both_go(error: int, noted: int, agreed: int) -> None:
    assert recounting._agreed(error, noted) == agreed
