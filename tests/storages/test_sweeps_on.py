"""The sweeps over tenants' own storages: what is amiss there is found, a storage that is amiss itself proves nothing, and what lies
there without a row is nobody's business."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib import providers, seam, workers
from chalicelib.core import keeping, recounting, sweeps
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.garbage import Garbage, Quarantined, Suspect
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.storages import Storage
from chalicelib.tables.uploads import UploadSession
from infra.stack import EmbeddedAWS
from tests.conftest import Clock, Context, Tenant, run_job
from tests.durability.conftest import Stream, purge
from tests.storages import test_buckets_on
from tests.storages.conftest import AGAIN, Fields, created
from tests.storages.test_buckets_on import CONFIGS, fields_of_server, make

# A fixture of others.
own_sftp = test_buckets_on.own_sftp

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def tenant(new_tenant: Any, every_kind: None, monkeypatch: pytest.MonkeyPatch) -> Tenant:
    """A tenant that may bring storages, and tables in which nothing is of another test."""
    for model in (Storage, StoredObject, UploadSession, Garbage):
        purge(model)
    providers.internal().delete([listed.key for listed in providers.internal().list("")])
    monkeypatch.setattr(sweeps, "MOST", 1.0)  # they are few here
    made: Tenant = new_tenant()
    return made


@pytest.fixture(params=AGAIN)
def storage_id(request: pytest.FixtureRequest, tenant: Tenant, fields_of: Callable[[str], Fields]) -> str:
    """A storage with a bucket `b` of three objects; and a bucket `inside` with one in the internal storage."""
    return filled(tenant, created(tenant, fields_of(request.param)))


def filled(tenant: Tenant, storage_id: str) -> str:
    assert make(tenant, "b", storage_id).status == 201
    assert make(tenant, "inside", None).status == 201
    for name in ("lost", "one", "two"):
        assert tenant.service.put("b", name, b"bytes", "text/plain").status == 201
    assert tenant.service.put("inside", "o", b"inner").status == 201
    return storage_id


def row_of(tenant: Tenant, name: str, bucket: str = "b") -> StoredObject:
    found = Bucket.read(tenant.tenant_id, bucket)
    assert found is not None
    row = StoredObject.read(found.partition, name)
    assert row is not None
    return row


def lose(tenant: Tenant, *names: str) -> list[str]:
    """Take the bytes of objects in `b` from the storage; gives their keys."""
    rows = [row_of(tenant, name) for name in names]
    for row in rows:
        assert keeping.holding(row).delete([row.physical_key]) == {}
    return [row.physical_key for row in rows]


def hour() -> dict[str, Any]:
    report: dict[str, Any] = workers.hourly({}, Context())
    return report


def look_often(clock: Clock) -> dict[str, Any]:
    """Hourly runs, as many as a suspicion takes and over as long; gives what the last one tells of missing bytes."""
    for _ in range(sweeps.SIGHTINGS - 1):
        hour()
        clock.advance(13 * HOUR)
    found: dict[str, Any] = hour()["sweeps"]["missing"]
    return found


def suspects(kind: str = sweeps.MISSING) -> list[str]:
    return sorted(suspect.physical_key for suspect in Suspect.all_of(kind))


def hidden() -> list[str]:
    return [each.physical_key for each in Quarantined.all_of(Quarantined.HOUR)]


def test_an_object_whose_bytes_are_missing_goes_into_quarantine_and_returns_with_them(
    tenant: Tenant, storage_id: str, clock: Clock
) -> None:
    (key,) = lose(tenant, "lost")
    report = hour()["sweeps"]["missing"]
    assert (report["examined"], report["found"], report["quarantined"]) == (4, 1, 0)
    assert suspects() == [key]
    clock.advance(13 * HOUR)
    assert hour()["sweeps"]["missing"]["quarantined"] == 0
    assert tenant.service.get("b", "lost").status == 503
    clock.advance(13 * HOUR)
    assert hour()["sweeps"]["missing"]["quarantined"] == 1
    assert tenant.service.get("b", "lost").status == 404
    assert hidden() == [key]
    keeping.provider_of(tenant.tenant_id, storage_id).put(key, b"bytes", "text/plain")
    assert hour()["quarantine"]["restored"] == 1
    assert tenant.service.get("b", "lost").body == b"bytes"
    assert row_of(tenant, "lost").storage_id == storage_id
    assert (hidden(), suspects()) == ([], [])


def test_a_suspicion_ends_when_the_bytes_are_back(tenant: Tenant, storage_id: str, clock: Clock) -> None:
    (key,) = lose(tenant, "lost")
    hour()
    keeping.provider_of(tenant.tenant_id, storage_id).put(key, b"bytes", "text/plain")
    clock.advance(13 * HOUR)
    assert hour()["sweeps"]["missing"]["cleared"] == 1
    assert look_often(clock)["quarantined"] == 0
    assert tenant.service.get("b", "lost").body == b"bytes"


def test_nothing_goes_while_the_storage_shows_no_other_object_of_the_bucket(tenant: Tenant, storage_id: str, clock: Clock) -> None:
    keys = lose(tenant, "lost", "one", "two")
    report = look_often(clock)
    assert (report["quarantined"], report["suspected"], report["stopped"]) == (0, 3, None)
    assert hidden() == []
    assert sorted(tenant.service.names("b")) == ["lost", "one", "two"]
    storage = keeping.provider_of(tenant.tenant_id, storage_id)
    storage.put(keys[1], b"bytes", "text/plain")
    clock.advance(HOUR)
    report = hour()["sweeps"]["missing"]
    assert (report["quarantined"], report["cleared"]) == (2, 1)
    assert tenant.service.names("b") == ["one"]
    assert tenant.service.get("inside", "o").body == b"inner"


def test_another_bucket_on_the_storage_vouches_for_nothing(tenant: Tenant, storage_id: str, clock: Clock) -> None:
    make(tenant, "c", storage_id)
    tenant.service.put("c", "o", b"there")
    lose(tenant, "lost", "one", "two")
    assert look_often(clock)["quarantined"] == 0
    assert sorted(tenant.service.names("b")) == ["lost", "one", "two"]


def test_a_week_later_the_row_is_given_up(tenant: Tenant, storage_id: str, clock: Clock) -> None:
    lose(tenant, "lost")
    look_often(clock)
    clock.advance(6 * DAY)
    assert hour()["quarantine"]["held"] == 1
    clock.advance(2 * DAY)
    assert hour()["quarantine"]["given_up"] == 1
    assert hidden() == []
    assert tenant.service.get("b", "lost").status == 404
    assert tenant.service.get("b", "one").body == b"bytes"


# ---- storages that are down ----------------------------------------------------------------------------------------
@pytest.fixture
def server(own_sftp: Any) -> Any:
    """A server of SFTP that can be stopped and started."""

    class Switch:
        def __init__(self) -> None:
            self.up()

        def up(self) -> None:
            self.address, self.down = own_sftp()

    return Switch()


@pytest.fixture
def on_server(tenant: Tenant, server: Any) -> str:
    return filled(tenant, created(tenant, fields_of_server(server.address)))


def test_a_storage_that_is_down_marks_nothing_and_holds_up_no_other(
    tenant: Tenant, on_server: str, server: Any, clock: Clock, fields_of: Callable[[str], Fields]
) -> None:
    up = created(tenant, fields_of("strict_s3"))
    make(tenant, "up", up)
    for name in ("lost", "kept"):
        tenant.service.put("up", name, b"bytes")
    row = row_of(tenant, "lost", "up")
    keeping.holding(row).delete([row.physical_key])
    server.down()
    report = look_often(clock)
    assert (report["stopped"], report["quarantined"], report["suspected"]) == (None, 1, 1)
    assert hidden() == [row.physical_key]
    assert sorted(tenant.service.names("b")) == ["lost", "one", "two"]
    server.up()
    assert [tenant.service.get("b", name).body for name in ("lost", "one", "two")] == [b"bytes"] * 3


def test_a_suspect_on_a_storage_that_is_down_is_suspect_no_more(tenant: Tenant, on_server: str, server: Any, clock: Clock) -> None:
    lose(tenant, "lost")
    hour()
    server.down()
    clock.advance(13 * HOUR)
    assert look_often(clock)["quarantined"] == 0
    assert (suspects(), hidden()) == ([], [])
    server.up()
    clock.advance(7 * DAY)
    assert look_often(clock)["quarantined"] == 1  # the next round finds it


def test_a_folder_that_is_gone_is_a_storage_that_is_down(tenant: Tenant, server: Any, clock: Clock) -> None:
    """A disk that is not mounted, a bucket that was renamed."""
    (server.address.root / "disk").mkdir()
    filled(tenant, created(tenant, fields_of_server(server.address, bucket="disk")))
    (server.address.root / "disk").rename(server.address.root / "away")
    report = look_often(clock)
    assert (report["quarantined"], report["found"], report["stopped"]) == (0, 0, None)
    (server.address.root / "away").rename(server.address.root / "disk")
    assert tenant.service.get("b", "one").body == b"bytes"


def test_a_row_in_quarantine_is_held_while_its_storage_is_down(tenant: Tenant, on_server: str, server: Any, clock: Clock) -> None:
    (key,) = lose(tenant, "lost")
    look_often(clock)
    server.down()
    clock.advance(9 * DAY)
    assert hour()["quarantine"]["held"] == 1
    server.up()
    keeping.provider_of(tenant.tenant_id, on_server).put(key, b"bytes", "text/plain")
    assert hour()["quarantine"]["restored"] == 1
    assert tenant.service.get("b", "lost").body == b"bytes"


def test_a_storage_that_goes_down_between_two_looks_stops_no_other(
    tenant: Tenant, on_server: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, fields_of: Callable[[str], Fields]
) -> None:
    """Its own objects are looked at once more before anything goes: that it may be down by then is its tenant's business alone."""
    from chalicelib.errors import StorageUnavailable

    other = created(tenant, fields_of("strict_s3"))
    make(tenant, "up", other)
    for name in ("lost", "kept"):
        tenant.service.put("up", name, b"bytes")
    row = row_of(tenant, "lost", "up")
    keeping.holding(row).delete([row.physical_key])
    lose(tenant, "lost")
    for _ in range(sweeps.SIGHTINGS - 1):
        hour()
        clock.advance(13 * HOUR)
    real = sweeps._shows_others

    def down(suspect: Suspect) -> bool:
        if suspect.storage_id == on_server:
            raise StorageUnavailable("down")
        return real(suspect)

    monkeypatch.setattr(sweeps, "_shows_others", down)
    report = hour()["sweeps"]["missing"]
    assert (report["stopped"], report["quarantined"]) == (None, 1)


# ---- storages that are removed -------------------------------------------------------------------------------------
def test_a_row_in_quarantine_whose_storage_was_removed_is_given_up(tenant: Tenant, on_server: str, clock: Clock) -> None:
    lose(tenant, "lost")
    look_often(clock)
    assert len(hidden()) == 1
    run_job(tenant.service("DELETE", "/storage/buckets/b").json()["job_id"])
    assert tenant.service("DELETE", f"{CONFIGS}/{on_server}").status == 200
    clock.advance(9 * DAY)
    hour()
    clock.advance(9 * DAY)
    assert (hour()["quarantine"]["held"], hidden()) == (0, [])


def test_a_suspect_whose_storage_was_removed_is_none_any_more(tenant: Tenant, on_server: str, clock: Clock) -> None:
    lose(tenant, "lost")
    hour()
    run_job(tenant.service("DELETE", "/storage/buckets/b").json()["job_id"])
    assert tenant.service("DELETE", f"{CONFIGS}/{on_server}").status == 200
    clock.advance(13 * HOUR)
    report = hour()["sweeps"]["missing"]
    assert (report["stopped"], report["cleared"], suspects()) == (None, 1, [])


# ---- the internal storage beside them ------------------------------------------------------------------------------
def test_objects_on_other_storages_do_not_vouch_for_the_internal_one(
    tenant: Tenant, on_server: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has lost all it had, which may be little beside what lies elsewhere: that is a storage that is broken."""
    real = sweeps.call

    def as_it_may_lie(operation: str, **parameters: Any) -> Any:
        """The rows of `b` happen to be the first in the table."""
        answer = real(operation, **parameters)
        if operation == "Scan" and parameters.get("Limit") == sweeps.SAMPLE and "ExclusiveStartKey" not in parameters:
            first = [item for item in answer["Items"] if "storage_id" in item]
            last = {name: first[-1][name] for name in ("partition", "name")}
            return {**answer, "Items": first, "Count": len(first), "LastEvaluatedKey": last}
        return answer

    monkeypatch.setattr(sweeps, "call", as_it_may_lie)
    providers.internal().delete([listed.key for listed in providers.internal().list("objects/")])
    report = look_often(clock)
    assert report["quarantined"] == 0
    assert report["stopped"] == "the storage shows none of the objects that it was asked for"
    assert tenant.service.names("inside") == ["o"]


# ---- bytes without a row -------------------------------------------------------------------------------------------
def test_bytes_that_no_row_names_are_never_touched(tenant: Tenant, storage_id: str, clock: Clock) -> None:
    storage = keeping.provider_of(tenant.tenant_id, storage_id)
    clock.moved -= 30 * DAY
    old = seam.new_version()
    clock.moved += 30 * DAY
    keys = [f"objects/{tenant.tenant_id}-b/orphan~{old}", f"uploads/{old}/00000001", "readme.txt", "objects/readme.txt"]
    for key in keys:
        storage.put(key, b"mine", "text/plain")
    inner = f"objects/{tenant.tenant_id}-b/orphan~{old}"
    providers.internal().put(inner, b"an orphan", "text/plain")
    look_often(clock)
    clock.advance(9 * DAY)
    hour()
    assert all(storage.stat(key) is not None for key in keys)
    assert providers.internal().stat(inner) is None  # there it would be one
    assert suspects(sweeps.ORPHAN) == []


def test_the_counters_of_a_storage_are_those_of_its_buckets_in_the_end(
    tenant: Tenant, storage_id: str, embedded: EmbeddedAWS, clock: Clock
) -> None:
    stream = Stream(embedded, tenant.tenant_id)
    assert tenant.service.put("b", "three", b"bytes").status == 201
    stream.deliver(stream.deliver())  # told twice, after three objects of which nothing was told

    def counted() -> tuple[int, int]:
        row = Storage.read(tenant.tenant_id, storage_id)
        assert row is not None
        return int(row.object_count), int(row.total_size_bytes)

    assert counted() == (2, 10)
    for _ in range(2):  # its buckets' counters are put right first
        clock.advance(7 * DAY)
        assert recounting.run(lambda: 100).round_ended
        assert counted() == (2, 10)
    clock.advance(7 * DAY)
    recounting.run(lambda: 100)
    assert counted() == (4, 20)


def test_what_lies_there_is_not_even_listed_for_orphans(tenant: Tenant, storage_id: str) -> None:
    assert hour()["sweeps"]["orphan"]["examined"] == 1


def test_a_dry_run_finds_and_notes_nothing(tenant: Tenant, storage_id: str) -> None:
    lose(tenant, "lost")
    report = workers.hourly({"dry_run": True}, Context())["sweeps"]["missing"]
    assert (report["examined"], report["found"]) == (4, 1)
    assert suspects() == []


def test_many_objects_of_a_bucket_are_listed_and_not_asked_for_one_by_one(
    tenant: Tenant, storage_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        tenant.service.put("b", f"o{number}", b"bytes")
    (key,) = lose(tenant, "o7")
    kind, asked = type(keeping.provider_of(tenant.tenant_id, storage_id)), []
    real = kind.stat

    def counted(self: Any, key: str) -> Any:
        asked.append(key)
        return real(self, key)

    monkeypatch.setattr(kind, "stat", counted)
    hour()
    assert suspects() == [key]
    assert len([each for each in asked if "-b/" in each]) <= 2
