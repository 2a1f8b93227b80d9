"""Uploads that are over, once more for buckets on tenants' own storages: what they hold there goes, at any step of a run that is killed.

`tests/durability/test_expiry.py` looks at the internal storage by S3's own calls, so what matters of it is told here anew.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from chalicelib import providers
from chalicelib.core import cleanup, expiry, garbage, objects, sessions
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.tables.garbage import Garbage
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.storages import Storage
from chalicelib.tables.uploads import UploadSession
from tests.api.held import storage_of
from tests.api.tus_client import Tus, info, noise, run_jobs, session
from tests.conftest import Clock, Tenant
from tests.durability.conftest import purge

DAY = 24 * 3600
HOUR = 3600
MIB = 1 << 20


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def tus(tenant_alone: Tenant) -> Tus:
    """TUS on a bucket `b`."""
    tenant_alone.service.bucket("b")
    return Tus(tenant_alone.service)


@pytest.fixture(autouse=True)
def purged(embedded: Any) -> None:
    """Tables in which nothing is of another test. Asked for first, before there is a tenant with a storage."""
    for model in (Storage, StoredObject, UploadSession, Garbage):
        purge(model)


@pytest.fixture
def tenant_alone(purged: None, tenant: Tenant) -> Tenant:
    return tenant


@pytest.fixture
def half(tus: Tus) -> str:
    """An upload of 16 MiB, with a part and a tail."""
    upload_id = tus.begin(16 * MIB)
    tus.send(upload_id, noise(8 * MIB), 4 * MIB)
    assert tus.patch(upload_id, 8 * MIB, b"tail").status == 204
    return upload_id


def staged(tenant: Tenant, upload_id: str) -> list[str]:
    return [listed.key for listed in storage_of(tenant).list(f"uploads/{upload_id}/")]


def parts(tenant: Tenant, stored: UploadSession) -> int:
    with suppress(BytesMissing):
        return len(storage_of(tenant).list_parts(stored.physical_key, stored.multipart_id))
    return 0


def run() -> dict[str, Any]:
    report: dict[str, Any] = cleanup.run(lambda: 600.0)["uploads"]
    return report


def test_what_an_expired_upload_holds_is_freed(tus: Tus, tenant: Tenant, half: str, clock: Clock) -> None:
    stored = session(half)
    assert parts(tenant, stored) >= 1
    assert len(staged(tenant, half)) >= 1
    assert list(providers.internal().list(f"uploads/{half}/")) == []
    clock.advance(DAY - HOUR)
    assert run()["freed"] == 0
    clock.advance(2 * HOUR)
    report = run()
    assert (report["due"], report["expired"], report["freed"], report["aborted"], report["left"]) == (1, 1, 1, 1, 0)
    assert (parts(tenant, stored), staged(tenant, half)) == (0, [])
    assert tus.head(half).status == 410
    assert run()["due"] == 0


def test_a_terminated_upload_is_freed_by_the_next_run(tus: Tus, tenant: Tenant, half: str) -> None:
    stored = session(half)
    assert tus.delete(half).status == 204
    assert parts(tenant, stored) == 0
    assert run()["freed"] == 1
    assert staged(tenant, half) == []


def test_an_object_outlives_its_upload_and_the_tails_do_not(tus: Tus, tenant: Tenant, half: str, clock: Clock) -> None:
    rest = noise(8 * MIB)[4:]
    for start in range(0, len(rest), 4 * MIB):
        assert tus.patch(half, 8 * MIB + 4 + start, rest[start : start + 4 * MIB]).status == 204
    row = info(tus.client)
    clock.advance(DAY + HOUR)
    assert (run()["freed"], staged(tenant, half)) == (1, [])
    clock.advance(2 * DAY)
    run()
    assert info(tus.client)["version"] == row["version"]
    assert tus.client.get("b", "o", Range="bytes=8388604-8388615").body == noise(8 * MIB)[-4:] + b"tail" + rest[:4]


def test_what_a_killed_writer_left_unnamed_is_looked_for(tus: Tus, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_id = tus.begin(16 * MIB)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(sessions, "commit", killed)
        patched.setattr(type(storage_of(tenant)), "min_part_bytes", 4 * MIB)
        for body in (noise(4 * MIB), b"tail"):
            with pytest.raises(Killed):
                tus.patch(upload_id, 0, body)
            clock.advance(sessions.LEASE + 1)
    assert session(upload_id).multipart_id is None
    assert len(staged(tenant, upload_id)) == 1
    clock.advance(DAY + HOUR)
    report = run()
    assert (report["aborted"], report["tails"], staged(tenant, upload_id)) == (1, 1, [])


STEPS = ["sessions.end", "garbage.file_all", "_empty", "write_all", "UploadSession.change"]


@pytest.mark.parametrize("after", [False, True])
def test_a_run_killed_at_any_step_is_repeated(tus: Tus, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    monkeypatch.setattr(type(storage_of(tenant)), "min_part_bytes", 32)
    for step in STEPS:
        upload_id = tus.begin(320)
        assert tus.patch(upload_id, 0, b"x" * 32).status == 204
        assert tus.patch(upload_id, 32, b"tail").status == 204
        stored = session(upload_id)
        clock.advance(DAY + HOUR)
        owner, _, name = step.rpartition(".")
        place: Any = {"sessions": sessions, "garbage": garbage, "": expiry, "UploadSession": UploadSession}[owner]
        real = getattr(place, name)

        def killed(*arguments: Any, real: Callable[..., Any] = real, **named: Any) -> None:
            if after:
                real(*arguments, **named)
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(place, name, killed)
            with suppress(Killed):
                run()
        clock.advance(2 * HOUR)
        assert run()["left"] == 0
        assert (parts(tenant, stored), staged(tenant, upload_id)) == (0, [])
        assert session(upload_id).expiry_hour is None
        assert tus.head(upload_id).status == 410


def test_a_storage_that_is_down_costs_nothing_but_time(
    tus: Tus, tenant: Tenant, half: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tus.client("POST", "/storage/buckets", {"name": "inside", "storage_id": None})
    stored = session(half)
    clock.advance(DAY + HOUR)

    def down(*_: object) -> None:
        raise StorageUnavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(type(storage_of(tenant)), "abort_all", down)
        report = run()
    assert (report["freed"], report["left"], report["failures"]) == (0, 1, {half: "StorageUnavailable"})
    clock.advance(3 * HOUR)
    assert run()["freed"] == 1
    assert (parts(tenant, stored), staged(tenant, half)) == (0, [])


def test_a_completed_object_whose_row_was_refused_is_garbage_once_the_upload_is_over(
    tus: Tus, tenant: Tenant, half: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    rest = noise(8 * MIB)[4:]
    assert tus.patch(half, 8 * MIB + 4, rest[: 4 * MIB]).status == 204
    with monkeypatch.context() as patched:
        patched.setattr(objects, "flip", killed)
        with pytest.raises(Killed):
            tus.patch(half, 12 * MIB + 4, rest[4 * MIB :])
    key, storage = session(half).physical_key, storage_of(tenant)
    assert storage.stat(key) is not None
    clock.advance(DAY + HOUR)
    assert run()["freed"] == 1
    clock.advance(DAY + 2 * HOUR)
    run()
    assert storage.stat(key) is None


def test_partial_uploads_go_with_their_bytes_and_what_was_joined_of_them_stays(tus: Tus, tenant: Tenant, clock: Clock) -> None:
    partials = [tus.partial(body) for body in (noise(6 * MIB), b"small")]
    assert tus.joined(*partials).status == 201
    run_jobs(tenant, "object.checksum")
    clock.advance(DAY + HOUR)
    assert run()["left"] == 0
    assert [list(providers.internal().list(f"uploads/{upload_id}/")) for upload_id in partials] == [[], []]
    clock.advance(2 * DAY)
    run()
    assert tus.client.get("b", "o", Range="bytes=-9").body == noise(6 * MIB)[-4:] + b"small"


def test_a_direct_upload_that_nobody_confirmed_goes(tenant_alone: Tenant, clock: Clock) -> None:
    tenant_alone.service.bucket("b")
    answer = tenant_alone.service("POST", "/storage/upload/direct", {"bucket": "b", "path": "o", "size": 5})
    assert answer.status == 201, answer.body
    key, storage = session(answer.json()["upload_id"]).physical_key, storage_of(tenant_alone)
    storage.put(key, b"bytes", "application/octet-stream")  # as its URL does it
    clock.advance(DAY + HOUR)
    assert run()["freed"] == 1
    clock.advance(DAY + 2 * HOUR)
    run()
    assert storage.stat(key) is None


# SFTP takes no direct uploads.
ON = {"test_a_direct_upload_that_nobody_confirmed_goes": ("azure", "strict_s3")}
