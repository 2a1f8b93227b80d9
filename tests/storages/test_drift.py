"""Storages that change behind our back are found, told of once, and hold up nobody (`core/drift.py`)."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib import workers
from chalicelib.core import cleanup, drift, keeping
from chalicelib.tables.storages import Storage
from chalicelib.tables.table import scan
from tests.conftest import Clock, Context, Tenant
from tests.durability import test_stream
from tests.durability.conftest import purge
from tests.servers.hostile import listener
from tests.storages import test_buckets_on
from tests.storages.conftest import Fields, created
from tests.storages.test_buckets_on import CONFIGS, fields_of_server, make, storage_of

# Fixtures of others.
told, own_sftp = test_stream.told, test_buckets_on.own_sftp

HOUR = 3600
DAY = 24 * HOUR
WEEK = 7 * DAY

Told = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def tenant(new_tenant: Any, every_kind: None) -> Tenant:
    """A tenant that may bring storages, where nobody else has one."""
    purge(Storage)
    made: Tenant = new_tenant()
    return made


@pytest.fixture
def server(own_sftp: Any) -> Any:
    """A server of SFTP that can be stopped and started: `server.down()`, `server.up()`."""

    class Switch:
        def __init__(self) -> None:
            self.up()

        def up(self) -> None:
            self.address, self._stop = own_sftp()

        def down(self) -> None:
            self._stop()

    return Switch()


@pytest.fixture
def storage_id(tenant: Tenant, server: Any) -> str:
    """A storage with a bucket, tried just now."""
    made = created(tenant, fields_of_server(server.address))
    assert make(tenant, "b", made).status == 201
    return made


def hour(dry_run: bool = False) -> dict[str, Any]:
    """The hourly cleanup; what it tells of storages."""
    report: dict[str, Any] = workers.hourly({"dry_run": dry_run}, Context())["storages"]
    return report


def drifted(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["detail"] for event in events if event["detail-type"] == "storage.degraded"]


def counts(report: dict[str, Any]) -> tuple[int, int, int, int]:
    return report["due"], report["probed"], report["degraded"], report["recovered"]


# ---- when ----------------------------------------------------------------------------------------------------------
def test_what_was_not_probed_for_a_week_is_probed_again(tenant: Tenant, storage_id: str, clock: Clock) -> None:
    before = storage_of(tenant, storage_id).probed_at
    assert counts(hour()) == (0, 0, 0, 0)
    clock.advance(WEEK - HOUR)
    assert counts(hour()) == (0, 0, 0, 0)
    clock.advance(2 * HOUR)
    assert counts(hour()) == (1, 1, 0, 0)
    row = storage_of(tenant, storage_id)
    assert (row.status, row.reason) == ("healthy", None)
    assert row.probed_at > before
    assert counts(hour()) == (0, 0, 0, 0)


def test_what_nobody_has_relied_on_yet_is_left_alone(tenant: Tenant, server: Any, clock: Clock) -> None:
    untested = created(tenant, fields_of_server(server.address))
    clock.advance(2 * WEEK)
    assert counts(hour()) == (0, 0, 0, 0)
    assert storage_of(tenant, untested).status == "untested"


def test_what_is_put_aside_is_probed_only_while_something_refers_to_it(tenant: Tenant, storage_id: str, clock: Clock) -> None:
    assert tenant.service("PATCH", f"{CONFIGS}/{storage_id}", {"is_active": False}).status == 200
    clock.advance(WEEK + HOUR)
    assert hour()["due"] == 1
    tenant.service("DELETE", "/storage/buckets/b")
    clock.advance(WEEK + HOUR)
    assert hour()["due"] == 0


def test_repeated_failures_bring_it_forward(tenant: Tenant, storage_id: str, server: Any, clock: Clock) -> None:
    tenant.service.put("b", "o", b"bytes")
    server.down()
    for number in range(drift.FAILURES):
        assert counts(hour()) == (0, 0, 0, 0)
        assert tenant.service.get("b", "o").status == 503
        assert tenant.service.get("b", "o").status == 503  # counted once a minute
        assert storage_of(tenant, storage_id).failures == number + 1
        clock.advance(61)
    assert counts(hour()) == (1, 1, 1, 0)
    assert storage_of(tenant, storage_id).status == "degraded"


def test_objects_that_are_missing_are_no_failure_of_the_storage(tenant: Tenant, storage_id: str, clock: Clock) -> None:
    from chalicelib.tables.objects import StoredObject

    tenant.service.put("b", "o", b"bytes")
    bucket_id = tenant.service("GET", "/storage/buckets/b").json()["id"]
    row = StoredObject.read(f"{tenant.tenant_id}#{bucket_id}", "o")
    assert row is not None
    keeping.holding(row).delete([row.physical_key])
    for _ in range(4):
        assert tenant.service.get("b", "o").status == 503
        clock.advance(61)
    assert storage_of(tenant, storage_id).failures == 0


# ---- what is told --------------------------------------------------------------------------------------------------
def test_one_that_fails_is_degraded_and_told_of_once_until_it_is_well_again(
    tenant: Tenant,
    storage_id: str,
    server: Any,
    clock: Clock,
    told: Told,
) -> None:
    server.down()
    clock.advance(WEEK + HOUR)
    assert counts(hour()) == (1, 1, 1, 0)
    row = storage_of(tenant, storage_id)
    assert (row.status, row.reason) == ("degraded", "Connection refused")
    shown = tenant.service("GET", f"{CONFIGS}/{storage_id}").json()
    assert (shown["status"], shown["status_reason"]) == ("degraded", "Connection refused")
    (detail,) = drifted(told())
    assert (detail["tenant_id"], detail["storage_id"], detail["surface"]) == (tenant.tenant_id, storage_id, "backups")
    assert (detail["name"], detail["code"], detail["reason"], detail["lost"]) == ("its own", "ConnectionRefused", "Connection refused", [])
    assert server.address.password not in str(detail)
    assert hour()["due"] == 0  # not each time anybody looks
    clock.advance(HOUR + 60)
    assert counts(hour()) == (1, 1, 0, 0)
    assert drifted(told()) == []
    server.up()
    clock.advance(HOUR + 60)
    assert counts(hour()) == (1, 1, 0, 1)
    row = storage_of(tenant, storage_id)
    assert (row.status, row.reason, row.failures) == ("healthy", None, 0)
    assert drifted(told()) == []
    server.down()
    clock.advance(WEEK + HOUR)
    assert counts(hour()) == (1, 1, 1, 0)
    (again,) = drifted(told())
    assert again["event_id"] != detail["event_id"]


@pytest.mark.parametrize("lost", [{"versioning"}, {"conditional_put", "versioning"}])
def test_an_ability_that_is_lost_is_named(
    tenant: Tenant,
    fields_of: Callable[[str], Fields],
    clock: Clock,
    told: Told,
    lost: set[str],
) -> None:
    storage_id = created(tenant, fields_of("strict_s3"))
    make(tenant, "b", storage_id)
    row = storage_of(tenant, storage_id)
    could = dict(row.probe or {})
    assert could["conditional_put"] is True
    before = could | dict.fromkeys(lost, True)
    row.change([Storage.expected.set(before)], Storage.storage_id.exists())
    clock.advance(WEEK + HOUR)
    if "conditional_put" in lost:
        lying = pytest.MonkeyPatch()
        from chalicelib.providers.s3 import S3

        real = S3._refuses
        lying.setattr(S3, "_refuses", lambda self, codes, put, **how: False if "IfNoneMatch" in how else real(self, codes, put, **how))
        try:
            report = hour()
        finally:
            lying.undo()
    else:
        report = hour()
    assert counts(report) == (1, 1, 1, 0)
    row = storage_of(tenant, storage_id)
    assert row.status == "degraded"
    assert all(name in row.reason for name in lost)
    (detail,) = drifted(told())
    assert (detail["code"], set(detail["lost"])) == ("Lost", lost)
    # A person who looks at it, and takes it as it is, ends it.
    assert tenant.service("POST", f"{CONFIGS}/{storage_id}/test").status == 200
    assert storage_of(tenant, storage_id).status == "healthy"
    clock.advance(WEEK + HOUR)
    assert hour()["degraded"] == 0


def test_what_could_never_be_seen_is_not_missed(tenant: Tenant, fields_of: Callable[[str], Fields], clock: Clock) -> None:
    storage_id = created(tenant, fields_of("strict_s3"))
    make(tenant, "b", storage_id)
    row = storage_of(tenant, storage_id)
    row.change([Storage.expected.set(dict.fromkeys(row.probe, None) | {"multipart": False})], Storage.storage_id.exists())
    clock.advance(WEEK + HOUR)
    assert counts(hour()) == (1, 1, 0, 0)


# ---- without harm --------------------------------------------------------------------------------------------------
def rows() -> list[str]:
    return sorted(str(item) for page in scan(Storage) for item in page)


def test_a_dry_run_counts_and_changes_nothing(
    tenant: Tenant,
    storage_id: str,
    server: Any,
    clock: Clock,
    told: Told,
) -> None:
    server.down()
    clock.advance(WEEK + HOUR)
    before = rows()
    assert counts(hour(dry_run=True)) == (1, 0, 0, 0)
    assert rows() == before
    assert drifted(told()) == []
    assert counts(hour()) == (1, 1, 1, 0)


def test_a_run_without_time_leaves_the_rest_to_the_next(tenant: Tenant, server: Any, storage_id: str, clock: Clock) -> None:
    others = [created(tenant, fields_of_server(server.address, name=f"{number}")) for number in range(2)]
    for number, other in enumerate(others):
        assert make(tenant, f"b{number}", other).status == 201
    clock.advance(WEEK + HOUR)
    left = iter([600.0, drift.ONE_PROBE - 1.0])
    report = drift.run(lambda: next(left))
    assert (report.due, report.probed, report.finished) == (3, 1, False)
    assert drift.run(lambda: 0.0).as_dict() == {"due": 2, "probed": 0, "degraded": 0, "recovered": 0, "finished": False}
    report = drift.run(lambda: 600.0)
    assert (report.due, report.probed, report.finished) == (2, 2, True)


@pytest.fixture
def hanging(tenant: Tenant, fields_of: Callable[[str], Fields], server: Any) -> Iterator[tuple[str, str]]:
    """A storage that hangs, and one that was probed after it."""
    made = created(tenant, fields_of_server(server.address, name="hangs"))
    assert make(tenant, "hanging", made).status == 201
    with listener("silent") as silent:
        row = storage_of(tenant, made)
        row.change([Storage.port.set(silent.port)], Storage.storage_id.exists())
        keeping.changed(tenant.tenant_id, made)
        well = created(tenant, fields_of_server(server.address, name="well"))
        assert make(tenant, "well", well).status == 201
        yield made, well


def test_one_that_hangs_holds_up_the_others_for_20_seconds_at_the_most(tenant: Tenant, hanging: tuple[str, str], clock: Clock) -> None:
    clock.advance(WEEK + HOUR)
    began = time.monotonic()
    report = hour()
    assert time.monotonic() - began < 21
    assert counts(report) == (2, 2, 1, 0)
    assert [storage_of(tenant, each).status for each in hanging] == ["degraded", "healthy"]


def test_one_that_cannot_be_described_keeps_up_no_other(tenant: Tenant, storage_id: str, server: Any, clock: Clock) -> None:
    """Its secrets are sealed under a master key that is gone."""
    other = created(tenant, fields_of_server(server.address, name="other"))
    assert make(tenant, "other", other).status == 201
    storage_of(tenant, storage_id).change([Storage.sealed.set("nonsense")], Storage.storage_id.exists())
    clock.advance(WEEK + HOUR)
    report = hour()
    assert (report["due"], report["probed"]) == (2, 1)


def test_one_that_is_changed_or_removed_meanwhile_keeps_what_it_is_now(
    tenant: Tenant, storage_id: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chalicelib.core import probing

    real = probing.probe

    def removed_meanwhile(*arguments: Any) -> Any:
        found = real(*arguments)
        tenant.service("DELETE", "/storage/buckets/b")
        assert tenant.service("DELETE", f"{CONFIGS}/{storage_id}").status == 200
        return found

    monkeypatch.setattr(probing, "probe", removed_meanwhile)
    clock.advance(WEEK + HOUR)
    assert hour()["probed"] == 1
    assert Storage.read(tenant.tenant_id, storage_id) is None


def test_a_run_that_was_killed_is_repeated(
    tenant: Tenant, storage_id: str, server: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    from chalicelib.core import storages

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    server.down()
    clock.advance(WEEK + HOUR)
    with monkeypatch.context() as patched:
        patched.setattr(storages, "keep", killed)
        with pytest.raises(Killed):
            hour()
    assert storage_of(tenant, storage_id).status == "healthy"
    assert counts(hour()) == (1, 1, 1, 0)


def test_a_bus_that_is_down_does_not_end_the_cleanup_before_the_rest(
    tenant: Tenant,
    storage_id: str,
    server: Any,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    told: Told,
) -> None:
    """And the event is told later."""
    from chalicelib.core import events
    from chalicelib.errors import Unavailable

    def down(_: Any) -> None:
        raise Unavailable("the event bus did not take every event")

    server.down()
    clock.advance(WEEK + HOUR)
    with monkeypatch.context() as patched:
        patched.setattr(events, "publish", down)
        report = cleanup.run(lambda: 600.0)
    assert report["storages"]["probed"] == 1
    clock.advance(HOUR + 60)
    hour()
    assert len(drifted(told())) == 1


def test_many_who_meet_a_failure_at_once_count_it_once_a_minute(tenant: Tenant, storage_id: str, server: Any) -> None:
    tenant.service.put("b", "o", b"bytes")
    server.down()
    threads = [threading.Thread(target=tenant.service.get, args=("b", "o")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= storage_of(tenant, storage_id).failures <= 4
