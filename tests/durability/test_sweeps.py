"""The sweeps: what is amiss is found, and nothing that somebody may need is ever lost by it (DESIGN invariant 4)."""

from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import pytest

from chalicelib import providers, seam, workers
from chalicelib.core import cleanup, garbage, rounds, sessions, sweeps
from chalicelib.core.patience import Patience
from chalicelib.errors import StorageUnavailable
from chalicelib.tables.garbage import Garbage, Quarantined, Suspect, Sweep
from chalicelib.tables.objects import StoredObject
from tests.client import Client
from tests.conftest import Clock, Context, Tenant
from tests.durability.conftest import Stream, fill

HOUR = 3600
DAY = 24 * HOUR
# More than a hundred objects: one of them is less than 1 %.
MANY = 120


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def service(tenant: Tenant, alone: None) -> Client:
    """A bucket `b` with many objects, and tables without anything else."""
    tenant.service.bucket("b", public=True)
    fill(tenant, "b", MANY)
    return tenant.service


@pytest.fixture
def stream(embedded: Any, tenant: Tenant) -> Stream:
    return Stream(embedded, tenant.tenant_id)


def run() -> dict[str, Any]:
    """One hourly run; gives what the sweeps report."""
    report: dict[str, Any] = workers.hourly({}, Context())["sweeps"]
    return report


def look_often(clock: Clock) -> dict[str, Any]:
    """Hourly runs, as many as a suspicion takes and over as long; gives the last one's report."""
    for _ in range(sweeps.SIGHTINGS - 1):
        run()
        clock.advance(13 * HOUR)
    return run()


def row(client: Client, tenant: Tenant, name: str) -> StoredObject:
    bucket_id = client("GET", "/storage/buckets/b").json()["id"]
    found = StoredObject.read(f"{tenant.tenant_id}#{bucket_id}", name)
    assert found is not None
    return found


def key_of(client: Client, tenant: Tenant, name: str) -> str:
    return str(row(client, tenant, name).physical_key)


def old_version(clock: Clock, days: float = 30) -> str:
    """A version that was made so long ago."""
    clock.moved -= days * DAY
    try:
        return seam.new_version()
    finally:
        clock.moved += days * DAY


def stored(key: str) -> bool:
    return providers.internal().stat(key) is not None


# ---- rows without bytes --------------------------------------------------------------------------------
@pytest.fixture
def lost(service: Client, tenant: Tenant) -> str:
    """The key of an object `o007`, whose bytes somebody has deleted behind our back."""
    key = key_of(service, tenant, "o007")
    providers.internal().delete([key])
    return key


def test_an_object_whose_bytes_are_missing_is_put_out_of_sight_and_kept_for_a_week(
    service: Client, lost: str, clock: Clock, stream: Stream
) -> None:
    assert service.get("b", "o007").status == 503
    report = look_often(clock)["missing"]
    assert (report["quarantined"], report["stopped"]) == (1, None)
    assert service.get("b", "o007").status == 404
    assert [(hidden.physical_key, hidden.row["name"]) for hidden in Quarantined.query(Quarantined.HOUR)] == [(lost, "o007")]
    assert service.get("b", "o008").status == 200
    removed = [record for record in stream.deliver() if record["eventName"] == "REMOVE"]
    assert len(removed) == 1


def test_two_sightings_or_less_than_a_day_are_not_enough(service: Client, lost: str, clock: Clock) -> None:
    run()
    clock.advance(2 * DAY)
    assert run()["missing"]["quarantined"] == 0  # seen twice
    assert service.get("b", "o007").status == 503


def test_many_sightings_within_a_day_are_not_enough(service: Client, lost: str, clock: Clock) -> None:
    for _ in range(10):
        assert run()["missing"]["quarantined"] == 0
        clock.advance(2 * HOUR)
    assert service.get("b", "o007").status == 503


def test_bytes_that_turn_up_in_time_end_the_suspicion(service: Client, lost: str, clock: Clock) -> None:
    run()
    providers.internal().put(lost, b"bytes", "text/plain")
    clock.advance(HOUR)
    assert run()["missing"]["cleared"] == 1
    assert list(Suspect.query(sweeps.MISSING)) == []


def test_an_overwrite_ends_the_suspicion(service: Client, lost: str, clock: Clock) -> None:
    run()
    assert service.put("b", "o007", b"anew").status == 200
    assert look_often(clock)["missing"]["quarantined"] == 0
    assert service.get("b", "o007").body == b"anew"


def test_a_row_returns_when_its_bytes_do(service: Client, lost: str, clock: Clock, stream: Stream) -> None:
    look_often(clock)
    stream.deliver()
    clock.advance(2 * DAY)  # by now the garbage of its removal is due
    providers.internal().put(lost, b"bytes", "text/plain")
    report = workers.hourly({}, Context())
    assert report["quarantine"] == {"held": 0, "restored": 1, "given_up": 0}
    assert service.get("b", "o007").body == b"bytes"
    clock.advance(2 * DAY)
    workers.hourly({}, Context())
    assert service.get("b", "o007").body == b"bytes"
    assert list(Quarantined.query(Quarantined.HOUR)) == []


def test_bytes_that_return_before_the_cleanup_looks_are_not_collected(service: Client, lost: str, clock: Clock, stream: Stream) -> None:
    """Garbage is collected before quarantines are looked at: a row in quarantine names its bytes."""
    look_often(clock)
    stream.deliver()
    providers.internal().put(lost, b"bytes", "text/plain")
    clock.advance(25 * HOUR)
    garbage.collect(lambda: 600)
    assert stored(lost)


def test_a_row_whose_name_was_taken_meanwhile_does_not_return(service: Client, lost: str, clock: Clock, stream: Stream) -> None:
    look_often(clock)
    assert service.put("b", "o007", b"another").status == 201
    providers.internal().put(lost, b"bytes", "text/plain")
    assert workers.hourly({}, Context())["quarantine"]["given_up"] == 1
    assert service.get("b", "o007").body == b"another"
    clock.advance(26 * HOUR)
    workers.hourly({}, Context())
    assert not stored(lost)
    assert service.get("b", "o007").body == b"another"


def test_a_row_whose_bucket_is_gone_does_not_return(service: Client, lost: str, clock: Clock) -> None:
    look_often(clock)
    assert service("DELETE", "/storage/buckets/b").status == 200
    service.bucket("b")
    providers.internal().put(lost, b"bytes", "text/plain")
    assert workers.hourly({}, Context())["quarantine"]["given_up"] == 1
    assert service.names("b") == []


def test_after_a_week_the_row_is_given_up(service: Client, lost: str, clock: Clock) -> None:
    look_often(clock)
    clock.advance(6 * DAY)
    assert workers.hourly({}, Context())["quarantine"]["held"] == 1
    clock.advance(2 * DAY)
    assert workers.hourly({}, Context())["quarantine"]["given_up"] == 1
    assert list(Quarantined.query(Quarantined.HOUR)) == []
    assert service.get("b", "o007").status == 404


def test_more_than_one_in_a_hundred_stops_the_sweep_and_raises_the_alarm(
    service: Client, tenant: Tenant, clock: Clock, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: dict[str, float] = {}
    monkeypatch.setattr(workers, "count", lambda values, function: counted.update(values))
    providers.internal().delete([key_of(service, tenant, "o008")])
    report = look_often(clock)["missing"]
    assert report["stopped"] == f"2 of {MANY} would be touched, more than 1%"
    assert (report["quarantined"], counted["SweepsStopped"]) == (0, 1)
    assert [service.get("b", name).status for name in ("o007", "o008")] == [503, 503]


def test_a_storage_that_is_empty_is_not_believed(service: Client, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another bucket was configured, or the folder is not mounted."""
    monkeypatch.setattr(sweeps, "MOST", 1.0)
    providers.internal().delete([listed.key for listed in providers.internal().list("objects/")])
    report = look_often(clock)["missing"]
    assert report["stopped"] == "the storage shows none of the objects that it was asked for"
    assert len(service.names("b", "limit=1000")) == MANY


def test_a_storage_that_does_not_answer_stops_the_sweep_and_nothing_else(
    service: Client, lost: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise StorageUnavailable("the storage cannot be reached; try again shortly")

    with monkeypatch.context() as patched:
        for method in ("stat", "list"):
            patched.setattr(type(providers.internal()), method, down)
        reports = run()
    assert {report["stopped"] for report in reports.values()} == {"the storage cannot be reached; try again shortly"}
    assert list(Suspect.query(sweeps.MISSING)) == []
    assert look_often(clock)["missing"]["quarantined"] == 1


def test_nothing_is_touched_before_it_is_known_how_many_there_are(
    service: Client, lost: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sweeps._along_rows
    monkeypatch.setattr(sweeps, "BATCH", 10)
    monkeypatch.setattr(sweeps, "_along_rows", lambda *asked: islice(real(*asked), 1))  # a slice is one batch
    for _ in range(5):
        report = run()["missing"]
        clock.advance(13 * HOUR)
    assert (report["stopped"], report["quarantined"], report["suspected"]) == (None, 0, 1)
    assert service.get("b", "o007").status == 503


@pytest.mark.parametrize(
    "step", ["Suspect.put", "Suspect.change", "Suspect.delete", "Sweep.save", "Transaction._commit", "Quarantined.delete"]
)
@pytest.mark.parametrize("after", [False, True])
def test_a_run_killed_at_any_step_loses_nothing(
    service: Client, lost: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    owner, _, name = step.partition(".")
    place = {"Suspect": Suspect, "Sweep": Sweep, "Transaction": sweeps.Transaction, "Quarantined": Quarantined}[owner]
    real = getattr(place, name)

    def killed(*arguments: Any, **named: Any) -> None:
        if after:
            real(*arguments, **named)
        raise Killed

    for _ in range(sweeps.SIGHTINGS + 2):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, killed)
            with suppress(Killed):
                run()
        run()
        clock.advance(13 * HOUR)
    assert service.get("b", "o007").status == 404
    assert len(list(Quarantined.query(Quarantined.HOUR))) == 1
    providers.internal().put(lost, b"bytes", "text/plain")
    with monkeypatch.context() as patched:
        patched.setattr(place, name, killed)
        with suppress(Killed):
            run()
    run()
    assert service.get("b", "o007").body == b"bytes"
    assert list(Quarantined.query(Quarantined.HOUR)) == []


# ---- bytes without a row -------------------------------------------------------------------------------
def orphan(tenant: Tenant, clock: Clock, bucket: str = "b", name: str = "gone", days: float = 30) -> str:
    """Bytes that a writer stored and then died; put just now, whatever their version says."""
    key = f"objects/{tenant.tenant_id}-{bucket}/{name}~{old_version(clock, days)}"
    providers.internal().put(key, b"orphan", "text/plain")
    return key


def test_bytes_that_no_row_names_go_after_a_week_in_quarantine(service: Client, tenant: Tenant, clock: Clock) -> None:
    key = orphan(tenant, clock)
    assert look_often(clock)["orphan"]["quarantined"] == 1
    clock.advance(6 * DAY)
    workers.hourly({}, Context())
    assert stored(key)
    clock.advance(2 * DAY)
    workers.hourly({}, Context())
    assert not stored(key)
    assert len(service.names("b", "limit=1000")) == MANY
    assert all(service.get("b", name).status == 200 for name in service.names("b"))


def test_bytes_are_as_old_as_their_version_says(service: Client, tenant: Tenant, clock: Clock) -> None:
    """An upload that is under way has stored bytes and has no row yet."""
    young = orphan(tenant, clock, days=1.9)
    assert run()["orphan"]["found"] == 0
    assert stored(young)


def test_a_row_that_names_them_in_time_ends_the_suspicion(service: Client, tenant: Tenant, clock: Clock) -> None:
    key = orphan(tenant, clock)
    run()
    named = row(service, tenant, "o001")
    named.name, named.physical_key, named.version = "gone", key, key.rpartition("~")[2]
    named.save()
    assert look_often(clock)["orphan"]["quarantined"] == 0
    clock.advance(9 * DAY)
    run()
    assert service.get("b", "gone").status == 200


def test_a_row_that_names_them_during_the_quarantine_keeps_them(service: Client, tenant: Tenant, clock: Clock) -> None:
    key = orphan(tenant, clock)
    look_often(clock)
    named = row(service, tenant, "o001")
    named.name, named.physical_key, named.version = "gone", key, key.rpartition("~")[2]
    named.save()
    clock.advance(9 * DAY)
    workers.hourly({}, Context())
    assert service.get("b", "gone").status == 200


def test_an_object_that_was_moved_has_a_row_under_another_name(service: Client, tenant: Tenant, clock: Clock) -> None:
    for source, target in (("o001", "elsewhere"), ("elsewhere", "further")):
        assert service("POST", "/storage/object/move", {"bucket": "b", "from": source, "to": target}).status == 200
    clock.advance(3 * DAY)
    report = run()
    assert (report["orphan"]["found"], report["missing"]["found"]) == (0, 0)
    assert service.get("b", "further").status == 200


def test_superseded_bytes_that_wait_for_the_collector_are_no_orphans(service: Client, clock: Clock, stream: Stream) -> None:
    clock.advance(3 * DAY)
    assert service.put("b", "o001", b"anew").status == 200
    assert service.delete("b", "o002").status == 200
    stream.deliver()
    assert run()["orphan"]["found"] == 0


@pytest.mark.parametrize(
    "key",
    [
        "deltas/a/b",
        "transforms/x/y/z",
        "objects",
        "objects/readme.txt",
        "objects/{tenant}-b/no-version",
        "objects/{tenant}-b/short~01ARZ3",
        "objects/{tenant}-b/letters~IIIIIIIIIIIIIIIIIIIIIIIIII",
        "objects/not-a-tenant-b/x~01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "uploads/01ARZ3NDEKTSV4RRFFQ69G5FAV/00000001",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ],
)
def test_what_does_not_carry_a_version_of_ours_is_left_alone(service: Client, tenant: Tenant, clock: Clock, key: str) -> None:
    key = key.format(tenant=tenant.tenant_id)
    providers.internal().put(key, b"foreign", "text/plain")
    clock.advance(3 * DAY)
    assert look_often(clock)["orphan"]["found"] == 0
    clock.advance(9 * DAY)
    workers.hourly({}, Context())
    assert stored(key)


def test_a_bucket_whose_name_another_begins_with_is_another_bucket(service: Client, tenant: Tenant, clock: Clock) -> None:
    for bucket in ("images", "images2"):
        service.bucket(bucket)
        assert service.put(bucket, "photo", b"kept").status == 201
    gone, kept = orphan(tenant, clock, "images", "photo"), key_in(tenant, "images2")
    look_often(clock)
    clock.advance(9 * DAY)
    workers.hourly({}, Context())
    assert not stored(gone)
    assert stored(kept)
    assert [service.get(bucket, "photo").body for bucket in ("images", "images2")] == [b"kept", b"kept"]


def key_in(tenant: Tenant, bucket: str) -> str:
    (listed,) = providers.internal().list(f"objects/{tenant.tenant_id}-{bucket}/")
    return listed.key


def test_bytes_of_a_bucket_that_is_gone_are_orphans(service: Client, tenant: Tenant, clock: Clock) -> None:
    key = orphan(tenant, clock, "never-was")
    assert look_often(clock)["orphan"]["quarantined"] == 1
    clock.advance(9 * DAY)
    workers.hourly({}, Context())
    assert not stored(key)


def test_bytes_of_an_upload_that_lacks_nothing_but_its_end_are_no_orphans(
    service: Client, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(providers.internal()), "min_part_bytes", 8)
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    begun = service("POST", "/storage/v1/upload/tus", headers=tus | {"Upload-Length": "40", "Upload-Metadata": "bucket Yg==,filename bw=="})
    path = begun.headers["location"].removeprefix("http://api.test")
    for offset in (0, 10, 20):
        assert service("PATCH", path, b"0123456789", tus | {"Upload-Offset": str(offset)}).status == 204
        clock.advance(20 * HOUR)
    from chalicelib.core import objects

    with monkeypatch.context() as patched:
        patched.setattr(objects, "flip", killed_always)
        with pytest.raises(Killed):
            service("PATCH", path, b"0123456789", tus | {"Upload-Offset": "30"})
    assert run()["orphan"]["found"] == 0
    assert service("HEAD", path, headers=tus).headers["upload-offset"] == "40"
    assert service.get("b", "o").body == b"0123456789" * 4


def killed_always(*_: object) -> None:
    raise Killed


# ---- rounds --------------------------------------------------------------------------------------------
def test_a_round_goes_on_from_slice_to_slice_and_sees_everything(service: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "BATCH", 50)
    monkeypatch.setattr(sweeps, "SLICE", 0)
    seen: dict[str, list[int]] = {sweeps.MISSING: [], sweeps.ORPHAN: []}
    for _ in range(4):
        for kind, report in run().items():
            seen[kind].append(report["examined"])
        clock.advance(HOUR)
    assert sum(seen[sweeps.MISSING]) == sum(seen[sweeps.ORPHAN]) == MANY
    assert max(seen[sweeps.ORPHAN]) == 50


def test_the_next_round_begins_a_week_after_this_one_did(service: Client, clock: Clock) -> None:
    assert run()["missing"]["examined"] == MANY
    clock.advance(6 * DAY)
    assert run()["missing"]["examined"] == 0
    clock.advance(2 * DAY)
    assert run()["missing"]["examined"] == MANY


def test_rows_that_lie_together_are_listed_and_not_asked_for_one_by_one(service: Client, calls: list[Any]) -> None:
    calls.clear()
    run()
    asked = [call.operation for call in calls if call.service == "s3"]
    assert asked.count("HeadObject") <= 1
    assert asked.count("ListObjectsV2") <= 4


def test_too_many_suspects_stop_the_sweep(service: Client, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "MAX_SUSPECTS", 2)
    for number in range(3):
        orphan(tenant, clock, name=f"gone{number}")
    assert run()["orphan"]["stopped"] == "more than 2 suspects"
    assert list(Suspect.query(sweeps.ORPHAN)) == []


def test_a_dry_run_reports_and_changes_nothing(
    service: Client, tenant: Tenant, lost: str, clock: Clock, everything: Callable[[], Any]
) -> None:
    orphan(tenant, clock)
    before = everything()
    report = workers.hourly({"dry_run": True}, Context())["sweeps"]
    assert [(report[kind]["found"], report[kind]["examined"]) for kind in (sweeps.MISSING, sweeps.ORPHAN)] == [(1, MANY), (1, MANY)]
    assert everything() == before


def test_the_report_holds_counts_that_are_metrics(service: Client, lost: str, clock: Clock) -> None:
    report = cleanup.run(lambda: 600)
    assert cleanup.metrics(report) == {
        "StoragesDegraded": 0,
        "UploadsFreed": 0,
        "UploadsLeft": 0,
        "GarbageDeleted": 0,
        "GarbageLeft": 0,
        "BytesMissing": 0,
        "OrphansSuspected": 0,
        "Quarantined": 0,
        "SweepsStopped": 0,
    }
    assert cleanup.metrics(cleanup.run(lambda: 600))["BytesMissing"] == 1


def test_bytes_in_quarantine_are_filed_for_the_hour_in_which_their_week_is_over(service: Client, tenant: Tenant, clock: Clock) -> None:
    key = orphan(tenant, clock)
    look_often(clock)
    (filed,) = [each for each in Garbage.scan() if getattr(each, "physical_key", "") == key]
    assert filed.due_at - seam.timestamp() == pytest.approx(7 * DAY, abs=60)
    assert garbage.is_filed(key)
    assert not garbage.is_filed(key + "x")
    assert sessions.LIFETIME < sweeps.GRACE


def test_a_mass_loss_that_is_found_bit_by_bit_is_stopped_all_the_same(
    service: Client, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "MAX_SUSPECTS", 1)
    providers.internal().delete([key_of(service, tenant, f"o{number:03d}") for number in range(0, MANY, 2)])
    monkeypatch.setattr(sweeps, "BATCH", 1)
    for _ in range(12):
        run()
        clock.advance(13 * HOUR)
    assert len(service.names("b", "limit=1000")) == MANY
    assert list(Quarantined.query(Quarantined.HOUR)) == []


def test_rows_in_quarantine_count_among_what_would_go(
    service: Client, lost: str, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_often(clock)
    providers.internal().delete([key_of(service, tenant, "o008")])
    monkeypatch.setattr(rounds, "EVERY", 0)
    report = look_often(clock)["missing"]
    assert report["stopped"] == f"2 of {MANY - 1} would be touched, more than 1%"
    assert service.get("b", "o008").status == 503


def test_a_row_is_not_given_up_while_the_storage_shows_nothing(service: Client, lost: str, clock: Clock) -> None:
    look_often(clock)
    kept = {listed.key: providers.internal().read(listed.key, 0, listed.size) for listed in providers.internal().list("objects/")}
    providers.internal().delete(list(kept))
    clock.advance(8 * DAY)
    assert workers.hourly({}, Context())["quarantine"]["held"] == 1
    for key, body in kept.items():
        providers.internal().put(key, body, "text/plain")
    assert workers.hourly({}, Context())["quarantine"]["given_up"] == 1


def test_a_row_that_returned_and_was_moved_is_not_returned_again(
    service: Client, lost: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the return and the end of the quarantine would leave two rows with the same bytes."""
    look_often(clock)
    providers.internal().put(lost, b"bytes", "text/plain")
    with monkeypatch.context() as patched:
        patched.setattr(Quarantined, "delete", killed_always)
        workers.hourly({}, Context())
    assert service("POST", "/storage/object/move", {"bucket": "b", "from": "o007", "to": "moved"}).status == 200
    assert workers.hourly({}, Context())["quarantine"] == {"held": 0, "restored": 0, "given_up": 0}
    assert service.get("b", "o007").status == 404
    assert service.get("b", "moved").body == b"bytes"


def test_every_key_is_looked_at_whatever_the_size_of_a_batch(service: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "BATCH", 7)
    assert run()["orphan"]["examined"] == MANY


def test_two_cleanups_at_once_disturb_each_other_not(service: Client, lost: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    real = sweeps._is_missing

    def meanwhile(patience: Patience, suspect: Suspect) -> bool:
        monkeypatch.setattr(sweeps, "_is_missing", real)
        run()
        return real(patience, suspect)

    monkeypatch.setattr(sweeps, "_is_missing", meanwhile)
    clock.advance(13 * HOUR)
    run()
    clock.advance(13 * HOUR)
    assert run()["missing"]["quarantined"] == 1
