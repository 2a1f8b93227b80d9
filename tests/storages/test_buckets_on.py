"""Buckets on tenants' own storages: how they are made, where their bytes lie and go, and how objects travel between storages."""

import base64
import hashlib
import http.client
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paramiko
import pytest
from azure.storage.blob import ContainerClient

from chalicelib import providers, seam, workers
from chalicelib.core import copies, expiry, garbage, jobs, keeping
from chalicelib.core.jobs import Step
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.garbage import Cursor
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.storages import Storage
from infra import stack
from tests.api.tus_client import Tus, noise, run_jobs, session
from tests.client import Answer, Client
from tests.conftest import Clock, Context, Tenant, run_job
from tests.durability.conftest import Stream, purge
from tests.servers.asyncssh_server import asyncssh_server
from tests.servers.process import free_port
from tests.storages.conftest import AGAIN, Fields, Servers, created

CONFIGS = "/api/v1/backups/storage-configs"
VAULT = "/storages"
HOUR = 3600
DAY = 25 * HOUR
MIB = 1 << 20
BODY = b"twenty-five bytes of text"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"

FieldsOf = Callable[[str], Fields]


@pytest.fixture
def tenant(new_tenant: Any, every_kind: None) -> Tenant:
    """A tenant that may bring storages and has none."""
    made: Tenant = new_tenant()
    return made


@pytest.fixture
def on(tenant: Tenant, fields_of: FieldsOf) -> Callable[..., str]:
    """Makes a storage of the tenant's, by kind; gives its id."""

    def make(kind: str, **changes: Any) -> str:
        return created(tenant, fields_of(kind) | changes)

    return make


def row_of(tenant: Tenant, name: str, bucket: str = "b") -> StoredObject:
    found = Bucket.read(tenant.tenant_id, bucket)
    assert found is not None
    row = StoredObject.read(found.partition, name)
    assert row is not None
    return row


def storage_of(tenant: Tenant, storage_id: str) -> Storage:
    row = Storage.read(tenant.tenant_id, storage_id)
    assert row is not None
    return row


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


def make(tenant: Tenant, name: str, storage_id: str | None, **more: Any) -> Answer:
    return tenant.service("POST", "/storage/buckets", {"name": name, "storage_id": storage_id, **more})


# ---- making ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["sftp", "ftp", "azure", "strict_s3", "filesystem"])
def test_a_bucket_is_made_on_a_storage_and_says_so(tenant: Tenant, on: Callable[..., str], kind: str) -> None:
    storage_id = on(kind)
    assert storage_of(tenant, storage_id).probe is None
    made = make(tenant, "b", storage_id.upper())
    assert (made.status, made.json()["storage_id"]) == (201, storage_id)
    assert storage_of(tenant, storage_id).status == "healthy"  # it was tried first
    tenant.service.bucket("inside")
    shown = {bucket["name"]: bucket["storage_id"] for bucket in tenant.service("GET", "/storage/buckets").json()}
    assert shown == {"b": storage_id, "inside": None}
    assert tenant.service("GET", "/storage/buckets/b").json()["storage_id"] == storage_id
    assert tenant.service.put("b", "folder/ä b", BODY, "text/plain").status == 201
    assert tenant.service.get("b", "folder/ä b").body == BODY
    assert row_of(tenant, "folder/ä b").storage_id == storage_id


def test_a_storage_of_nobody_and_one_of_another_tenant_are_not_found(
    tenant: Tenant, new_tenant: Any, on: Callable[..., str], fields_of: FieldsOf
) -> None:
    others = created(new_tenant("other"), fields_of("sftp"))
    for storage_id in (others, "00000000-0000-4000-8000-000000000000", "nonsense", "name#vault#x", "x" * 64):
        assert told(make(tenant, "b", storage_id)) == (404, "StorageNotFound")
    assert tenant.service("GET", "/storage/buckets").json() == []


def test_a_bucket_keeps_its_storage(tenant: Tenant, on: Callable[..., str]) -> None:
    first, second = on("sftp"), on("ftp", name="second")
    make(tenant, "b", first)
    tenant.service.bucket("inside")
    assert told(tenant.service("PUT", "/storage/buckets/b", {"storage_id": second})) == (409, "BucketFixed")
    assert told(tenant.service("PUT", "/storage/buckets/inside", {"storage_id": first})) == (409, "BucketFixed")
    same = tenant.service("PUT", "/storage/buckets/b", {"storage_id": first.upper(), "visibility": "public"})
    assert (same.status, same.json()["storage_id"], same.json()["public"]) == (200, first, True)
    assert tenant.service("GET", "/storage/buckets/inside").json()["storage_id"] is None


def test_a_storage_of_the_vault_holds_buckets_too(tenant: Tenant, servers: Servers, fields_of: FieldsOf) -> None:
    server = servers.fields("strict_s3")
    servers.overrides["s3.us-east-1.amazonaws.com"] = server["endpoint_url"]
    fields_of("strict_s3")
    fields = {
        "name": "mine",
        "provider": "s3",
        "bucket_name": "tenants",
        "region": "us-east-1",
        "remote_path": "vault//of/",
        "access_key_id": server["access_key"],
        "secret_access_key": server["secret_key"],
    }
    made = tenant.service("POST", f"{VAULT}/create", fields)
    assert made.status == 201, made.body
    storage_id = made.json()["storage_uuid"]
    assert make(tenant, "b", storage_id).json()["storage_id"] == storage_id
    assert tenant.service.put("b", "o", BODY).status == 201
    assert tenant.service.get("b", "o").body == BODY
    refused = tenant.service("DELETE", f"{VAULT}/delete", {"storage_uuid": storage_id})
    assert (refused.status, storage_of(tenant, storage_id).buckets) == (409, 1)
    tenant.service("DELETE", "/storage/buckets/b")
    assert tenant.service("DELETE", f"{VAULT}/delete", {"storage_uuid": storage_id}).status == 200


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("sftp", {"secret_key": "wrong"}),
        ("sftp", {"bucket": "absent"}),
        ("ftp", {"port": 1}),
        ("azure", {"secret_key": base64.b64encode(b"x" * 64).decode()}),
        ("strict_s3", {"bucket": "absent"}),
        ("strict_s3", {"secret_key": "x" * 40}),
    ],
)
def test_no_bucket_is_made_on_a_storage_that_cannot_be_used(
    tenant: Tenant, on: Callable[..., str], kind: str, broken: dict[str, Any]
) -> None:
    storage_id = on(kind, **broken)
    answer = make(tenant, "b", storage_id)
    assert told(answer) == (422, "ProbeFailed")
    assert {"step", "cause", "hint"} <= answer.json()["details"].keys()
    assert str(broken.get("secret_key", "no secret")) not in answer.body.decode()
    assert tenant.service("GET", "/storage/buckets").json() == []
    assert storage_of(tenant, storage_id).buckets == 0
    assert tenant.service("DELETE", f"{CONFIGS}/{storage_id}").status == 200


# ---- where the bytes lie -----------------------------------------------------------------------------------
def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def on_server(servers: Servers, fields: Fields, kind: str) -> dict[str, bytes]:
    """What a server holds, by the path in its folder or bucket, seen past all of Stowage."""
    if kind == "sftp":
        return files_below(servers._folder / "sftp" / "root")
    if kind == "azure":
        host = f"{fields['access_key']}.blob.core.windows.net"
        container = ContainerClient(servers.overrides[host], "tenants", credential=fields["secret_key"])
        return {blob.name: container.download_blob(blob.name).readall() for blob in container.list_blobs()}
    from chalicelib.providers.s3 import S3

    bare = S3("tenants", endpoint=fields["endpoint_url"], access_key=fields["access_key"], secret_key=fields["secret_key"])
    return {listed.key: bare.read(listed.key, 0, listed.size) for listed in bare.list("")}


@pytest.mark.parametrize(("kind", "prefix"), [("sftp", "of stowage/"), ("azure", "a/b/"), ("strict_s3", "backups/")])
def test_the_bytes_lie_below_the_prefix_of_the_storage(
    tenant: Tenant, on: Callable[..., str], servers: Servers, fields_of: FieldsOf, kind: str, prefix: str
) -> None:
    make(tenant, "b", on(kind))
    tenant.service.put("b", "folder/o.txt", BODY, "text/plain")
    key = row_of(tenant, "folder/o.txt").physical_key
    assert key.startswith(f"objects/{tenant.tenant_id}-b/folder/o.txt~")
    mine = {path: body for path, body in on_server(servers, fields_of(kind), kind).items() if tenant.tenant_id in path}
    assert mine == {prefix + key: BODY}
    assert list(providers.internal().list(f"objects/{tenant.tenant_id}")) == []


# ---- what refers to a storage ------------------------------------------------------------------------------
def test_a_storage_is_free_as_soon_as_its_buckets_are_deleted(tenant: Tenant, on: Callable[..., str]) -> None:
    storage_id = on("sftp")
    for name, left in (("one", 1), ("two", 2)):
        make(tenant, name, storage_id)
        tenant.service.put(name, "o", BODY)
        answer = tenant.service("DELETE", f"{CONFIGS}/{storage_id}")
        assert answer.status == 400  # as the seed has it
        assert str(left) in answer.json()["detail"]
        assert tenant.service("GET", f"{CONFIGS}/{storage_id}").json()["bucket_count"] == left
    for name in ("one", "two"):
        assert tenant.service("DELETE", f"{CONFIGS}/{storage_id}").status == 400
        job_id = tenant.service("DELETE", f"/storage/buckets/{name}").json()["job_id"]
    assert tenant.service("DELETE", f"{CONFIGS}/{storage_id}").status == 200
    run_job(job_id)  # the rows go, though nobody can reach their bytes any more
    assert told(make(tenant, "three", storage_id)) == (404, "StorageNotFound")


def test_no_bucket_ever_lies_on_a_storage_that_is_gone(tenant: Tenant, on: Callable[..., str]) -> None:
    outcomes = set()
    for number in range(25):
        storage_id, start = on("filesystem", name=f"raced {number}"), threading.Barrier(3)
        tenant.service("POST", f"{CONFIGS}/{storage_id}/test")

        def making(name: str, storage_id: str = storage_id, start: threading.Barrier = start) -> int:
            start.wait()
            return make(tenant, name, storage_id).status

        def removing(storage_id: str = storage_id, start: threading.Barrier = start) -> int:
            start.wait()
            return tenant.service("DELETE", f"{CONFIGS}/{storage_id}").status

        with ThreadPoolExecutor(3) as pool:
            made = [pool.submit(making, f"b{number}"), pool.submit(making, f"c{number}")]
            removed = pool.submit(removing).result()
            statuses = [each.result() for each in made]
        row = Storage.read(tenant.tenant_id, storage_id)
        lying = [bucket for bucket in Bucket.all_of(tenant.tenant_id) if bucket.storage_id == storage_id]
        outcomes.add((removed, *sorted(statuses)))
        if row is None:
            assert (removed, lying) == (200, [])
        else:
            assert (removed, int(row.buckets)) == (400, len(lying))
        assert len(lying) == statuses.count(201)
    assert {outcome[0] for outcome in outcomes} <= {200, 400}


def test_making_and_deleting_buckets_keeps_the_count(tenant: Tenant, on: Callable[..., str]) -> None:
    storage_id = on("filesystem")
    make(tenant, "first", storage_id)

    def turn(number: int) -> None:
        name = f"b{number % 4}"
        make(tenant, name, storage_id)
        if number % 3:
            tenant.service("DELETE", f"/storage/buckets/{name}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(turn, range(36)))
    lying = [bucket for bucket in Bucket.all_of(tenant.tenant_id) if bucket.storage_id == storage_id]
    assert int(storage_of(tenant, storage_id).buckets) == len(lying)


# ---- what becomes of bytes that are no longer needed -------------------------------------------------------
@pytest.fixture
def stream(embedded: stack.EmbeddedAWS, tenant: Tenant) -> Stream:
    for cursor in (garbage.CURSOR, expiry.CURSOR):
        Cursor(Cursor.HOUR, cursor).delete()
    purge(Storage)  # those of other tests, whose servers are not those of now
    return Stream(embedded, tenant.tenant_id)


def hour() -> dict[str, Any]:
    report: dict[str, Any] = workers.hourly({}, Context())
    return report


def keys_on(tenant: Tenant, storage_id: str) -> set[str]:
    return {listed.key for listed in keeping.provider_of(tenant.tenant_id, storage_id).list(f"objects/{tenant.tenant_id}-")}


@pytest.mark.parametrize("kind", AGAIN)
def test_superseded_bytes_go_from_the_storage_a_day_later(
    stream: Stream, tenant: Tenant, on: Callable[..., str], clock: Clock, kind: str
) -> None:
    storage_id = on(kind)
    make(tenant, "b", storage_id)
    for name, body in (("kept", b"1"), ("kept", b"2"), ("gone", b"3"), ("kept", b"4")):
        assert tenant.service.put("b", name, body).status in (200, 201)
    tenant.service.delete("b", "gone")
    stream.deliver()
    hour()
    assert len(keys_on(tenant, storage_id)) == 4
    clock.advance(DAY)
    report = hour()["garbage"]
    assert (report["left"], report["finished"]) == ({}, True)
    assert keys_on(tenant, storage_id) == {row_of(tenant, "kept").physical_key}
    assert tenant.service.get("b", "kept").body == b"4"
    job_id = tenant.service("DELETE", "/storage/buckets/b").json()["job_id"]
    run_job(job_id)
    stream.deliver()
    clock.advance(DAY)
    hour()
    assert keys_on(tenant, storage_id) == set()


@pytest.fixture
def own_sftp(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Starts a server of SFTP on one port, again and again; gives what stops it."""
    port, open_ones = free_port(), []

    def start() -> Any:
        context = asyncssh_server(tmp_path / "own", port)
        server = context.__enter__()
        open_ones.append(context)

        def stop() -> None:
            open_ones.remove(context)
            context.__exit__(None, None, None)

        return server, stop

    yield start
    for context in open_ones:
        context.__exit__(None, None, None)


def fields_of_server(server: Any, **more: Any) -> Fields:
    described = {"name": "its own", "provider": "sftp", "host": server.host, "port": server.port, "bucket": "."}
    return described | {"access_key": server.username, "secret_key": server.password} | more


def test_a_storage_that_is_down_keeps_its_garbage_and_holds_up_no_other(
    stream: Stream, tenant: Tenant, on: Callable[..., str], own_sftp: Any, clock: Clock
) -> None:
    server, stop = own_sftp()
    down, up = created(tenant, fields_of_server(server)), on("strict_s3")
    for bucket, storage_id in (("down", down), ("up", up), ("inside", None)):
        make(tenant, bucket, storage_id)
        tenant.service.put(bucket, "o", b"old")
        tenant.service.put(bucket, "o", b"new")
    stream.deliver()
    stop()
    assert told(tenant.service.get("down", "o")) == (503, "StorageUnavailable")
    assert tenant.service.get("up", "o").body == b"new"
    clock.advance(DAY)
    report = hour()["garbage"]
    assert set(report["left"].values()) == {"StorageUnavailable"}
    assert len(report["left"]) == 1
    assert len(keys_on(tenant, up)) == 1
    assert len(list(providers.internal().list(f"objects/{tenant.tenant_id}-"))) == 1
    _, stop = own_sftp()
    assert len(keys_on(tenant, down)) == 2
    clock.advance(3 * HOUR)
    assert hour()["garbage"]["left"] == {}
    assert len(keys_on(tenant, down)) == 1
    assert tenant.service.get("down", "o").body == b"new"


def test_a_storage_whose_record_is_removed_is_left_alone(stream: Stream, tenant: Tenant, own_sftp: Any, clock: Clock) -> None:
    server, _ = own_sftp()
    storage_id = created(tenant, fields_of_server(server))
    make(tenant, "b", storage_id)
    make(tenant, "inside", None)
    for bucket in ("b", "inside"):
        tenant.service.put(bucket, "o", b"old")
        tenant.service.put(bucket, "o", b"new")
    job_id = tenant.service("DELETE", "/storage/buckets/b").json()["job_id"]
    assert tenant.service("DELETE", f"{CONFIGS}/{storage_id}").status == 200
    run_job(job_id)
    stream.deliver()
    before = files_below(server.root)
    clock.advance(DAY)
    report = hour()
    assert (report["garbage"]["left"], report["garbage"]["finished"]) == ({}, True)
    assert files_below(server.root) == before
    assert len(before) == 2
    assert len(list(providers.internal().list(f"objects/{tenant.tenant_id}-"))) == 1
    clock.advance(DAY)
    assert hour()["garbage"]["due"] == 0


def test_an_upload_on_a_storage_that_is_removed_expires_all_the_same(
    stream: Stream, tenant: Tenant, on: Callable[..., str], clock: Clock
) -> None:
    storage_id = on("sftp")
    make(tenant, "b", storage_id)
    tus = Tus(tenant.service)
    upload_id = tus.begin(30, b"0123456789")
    tenant.service("DELETE", "/storage/buckets/b")
    assert tenant.service("DELETE", f"{CONFIGS}/{storage_id}").status == 200
    clock.advance(DAY)
    report = hour()["uploads"]
    assert (report["left"], report["failures"]) == (0, {})
    assert session(upload_id).expiry_hour is None


def test_the_counters_of_a_storage_follow_its_objects(stream: Stream, tenant: Tenant, on: Callable[..., str]) -> None:
    storage_id = on("sftp")
    for name in ("b", "c"):
        make(tenant, name, storage_id)
    make(tenant, "inside", None)

    def counted() -> tuple[int, int]:
        stream.deliver()
        shown = tenant.service("GET", f"{CONFIGS}/{storage_id}").json()
        return shown["bucket_object_count"], shown["bucket_size_bytes"]

    assert (counted(), storage_of(tenant, storage_id).last_used_at) == ((0, 0), None)
    for bucket, name, body in (("b", "o", b"12345"), ("c", "o", b"1"), ("inside", "o", b"123")):
        tenant.service.put(bucket, name, body)
    assert counted() == (2, 6)
    used = storage_of(tenant, storage_id).last_used_at
    assert used is not None
    tenant.service.put("b", "o", b"12")
    assert counted() == (2, 3)
    assert storage_of(tenant, storage_id).last_used_at >= used
    tenant.service("POST", "/storage/object/move", {"bucket": "b", "from": "o", "to": "p"})
    assert counted() == (2, 3)
    tenant.service.delete("b", "p")
    assert counted() == (1, 1)
    moved = tenant.service("POST", "/storage/object/move", {"bucket": "inside", "from": "o", "to": "q", "to_bucket": "c"})
    run_job(moved.json()["job_id"])
    assert counted() == (2, 4)
    run_job(tenant.service("DELETE", "/storage/buckets/c").json()["job_id"])
    assert counted() == (0, 0)


# ---- between storages --------------------------------------------------------------------------------------
PAIRS = [(None, "sftp"), ("sftp", "azure"), ("azure", None), ("sftp", "strict_s3"), ("strict_s3", "ftp")]


class Killed(BaseException):
    """The worker's process ends here."""


def ids(pair: tuple[str | None, str | None]) -> str:
    return " to ".join(kind or "internal" for kind in pair)


@pytest.fixture(params=PAIRS, ids=ids)
def between(request: pytest.FixtureRequest, tenant: Tenant, on: Callable[..., str]) -> Tenant:
    """A bucket `b` with object `s` on one storage, and an empty bucket `to` on another."""
    for bucket, kind in zip(("b", "to"), request.param, strict=True):
        assert make(tenant, bucket, on(kind) if kind else None).status == 201
    assert tenant.service.put("b", "s", BODY, "text/csv", x_metadata="eyJrIjoxfQ==").status == 201
    return tenant


def relocate(tenant: Tenant, kind: str, **more: Any) -> str:
    answer = tenant.service("POST", f"/storage/object/{kind}", {"bucket": "b", "from": "s", "to": "t", "to_bucket": "to", **more})
    assert (answer.status, answer.json().keys()) == (202, {"job_id"}), answer.body
    return str(answer.json()["job_id"])


def info(client: Client, bucket: str, name: str) -> dict[str, Any]:
    answer = client("GET", f"/storage/object-info/{bucket}/{name}")
    assert answer.status == 200, answer.body
    row: dict[str, Any] = answer.json()
    return row


def landed(tenant: Tenant, kind: str, job_id: str, before: dict[str, Any], body: bytes = BODY) -> None:
    job = tenant.service("GET", f"/jobs/{job_id}").json()
    assert (job["status"], job["done"], job["total"], job["error"]) == ("done", len(body), len(body), None)
    after = info(tenant.service, "to", "t")
    for field in ("size", "content_type", "user_metadata", "checksum", "checksum_state", "owner_id"):
        assert after[field] == before[field]
    assert (after["id"] == before["id"]) == (kind == "move")
    row = row_of(tenant, "t", "to")
    found = Bucket.read(tenant.tenant_id, "to")
    assert found is not None
    assert row.storage_id == found.storage_id
    assert keeping.holding(row).read(row.physical_key, 0, len(body)) == body
    assert tenant.service.names("b") == ([] if kind == "move" else ["s"])


@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize("in_parts", [False, True], ids=["whole", "in parts"])
def test_an_object_goes_from_storage_to_storage_by_a_job(
    between: Tenant, monkeypatch: pytest.MonkeyPatch, kind: str, in_parts: bool, request: pytest.FixtureRequest
) -> None:
    body = BODY
    if in_parts:  # as large as a strict server wants them
        monkeypatch.setattr(copies, "CARRIED_BYTES", 5 * MIB)
        body = noise(11 * MIB)
        job_id = Tus(between.service).upload(body, 4 * MIB, "s")
        assert info(between.service, "b", "s")["checksum"] == hashlib.sha256(body).hexdigest()
    before = info(between.service, "b", "s")
    job_id = relocate(between, kind)
    assert between.service.names("to") == []
    run_job(job_id)
    landed(between, kind, job_id, before, body)


def test_an_empty_object_goes_too(between: Tenant) -> None:
    between.service.put("b", "s", b"", "text/csv")
    before = info(between.service, "b", "s")
    job_id = relocate(between, "move")
    run_job(job_id)
    landed(between, "move", job_id, before, b"")


STEPS = 6


@pytest.mark.parametrize("between", PAIRS[:3], indirect=True, ids=ids)
@pytest.mark.parametrize("kind", ["move", "copy"])
def test_a_job_between_storages_survives_being_killed_at_any_step(
    between: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(copies, "CARRIED_BYTES", 7)
    for effect in ("lost", "kept"):
        for killed_at in range(STEPS):
            steps = 0

            def step(job: Job, effect: str = effect, killed_at: int = killed_at) -> Step:
                nonlocal steps
                steps += 1
                if steps - 1 != killed_at:
                    return copies.copy_step(job)
                if effect == "kept":
                    copies.copy_step(job)  # done, but never noted
                raise Killed

            before = info(between.service, "b", "s")
            job_id = relocate(between, kind)
            with pytest.raises(Killed):
                jobs.work(job_id, {copies.COPY_JOB: jobs.Kind(step)}, lambda: 600.0)
            there = ("to", "t") if between.service.names("to") else ("b", "s")
            assert between.service.get(*there).body == BODY
            clock.advance(jobs.LEASE + 1)
            run_job(job_id)
            job = between.service("GET", f"/jobs/{job_id}").json()
            if (effect, killed_at) == ("kept", STEPS - 1):
                assert job["status"] == "done"
            landed(between, kind, job_id, before)
            between.service.delete("to", "t")
            assert between.service.put("b", "s", BODY, "text/csv", x_metadata="eyJrIjoxfQ==").status in (200, 201)


@pytest.mark.parametrize("between", PAIRS[:3], indirect=True, ids=ids)
def test_a_job_between_storages_survives_being_killed_between_its_bytes_and_its_row(
    between: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    before, job_id = info(between.service, "b", "s"), relocate(between, "move")
    with monkeypatch.context() as patched:
        patched.setattr(copies, "_land", killed)
        with pytest.raises(Killed):
            run_job(job_id)
    assert between.service.names("to") == []
    assert between.service.get("b", "s").body == BODY
    clock.advance(jobs.LEASE + 1)
    run_job(job_id)
    landed(between, "move", job_id, before)


def test_a_copy_that_fails_leaves_nothing_on_the_other_storage(
    stream: Stream, tenant: Tenant, on: Callable[..., str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "CARRIED_BYTES", 7)
    storage_id = on("sftp")
    make(tenant, "b", None)
    make(tenant, "to", storage_id)
    tenant.service.put("b", "s", BODY)
    job_id = relocate(tenant, "copy")
    tenant.service.put("to", "t", b"kept")
    run_job(job_id)
    assert tenant.service("GET", f"/jobs/{job_id}").json()["status"] == "failed"
    clock.advance(DAY)
    hour()
    assert keys_on(tenant, storage_id) == {row_of(tenant, "t", "to").physical_key}
    assert tenant.service.get("to", "t").body == b"kept"


def test_a_job_whose_storage_was_removed_ends(tenant: Tenant, on: Callable[..., str], clock: Clock) -> None:
    storage_id = on("sftp")
    make(tenant, "b", None)
    make(tenant, "to", storage_id)
    tenant.service.put("b", "s", BODY)
    job_id = relocate(tenant, "copy")
    tenant.service("DELETE", "/storage/buckets/to")
    assert tenant.service("DELETE", f"{CONFIGS}/{storage_id}").status == 200
    for _ in range(jobs.MAX_FAILURES + 1):
        run_job(job_id)
        clock.advance(jobs.LEASE + 1)
    assert tenant.service("GET", f"/jobs/{job_id}").json()["status"] == "failed"
    assert tenant.service.get("b", "s").body == BODY


# ---- inside one storage ------------------------------------------------------------------------------------
@pytest.mark.parametrize("storage", AGAIN)
@pytest.mark.parametrize("kind", ["move", "copy"])
def test_a_large_copy_inside_a_storage_is_a_job_of_parts(
    tenant: Tenant, on: Callable[..., str], monkeypatch: pytest.MonkeyPatch, storage: str, kind: str
) -> None:
    for limit in ("LARGE", "CARRIED_BYTES"):  # where the storage copies by itself, and where it does not
        monkeypatch.setattr(copies, limit, 10 * MIB)
    monkeypatch.setattr(copies, "PART_BYTES", 5 * MIB)
    body, storage_id = noise(11 * MIB), on(storage)
    for bucket in ("b", "to"):
        make(tenant, bucket, storage_id)
    Tus(tenant.service).upload(body, 4 * MIB, "s")
    before, job_id = info(tenant.service, "b", "s"), relocate(tenant, kind)
    run_job(job_id)
    landed(tenant, kind, job_id, before, body)


@pytest.mark.parametrize("storage", ["sftp", "azure", "strict_s3"])
def test_partial_uploads_that_lie_inside_are_joined_on_another_storage(tenant: Tenant, on: Callable[..., str], storage: str) -> None:
    make(tenant, "b", on(storage))
    tus = Tus(tenant.service)
    bodies = [noise(6 * MIB), b"small", noise(5 * MIB + 3), b"", noise(100_000)]
    partials = [tus.partial(body) for body in bodies]
    assert all(session(upload_id).storage_id is None for upload_id in partials)
    answer = tus.join(*partials)
    assert answer.status == 201
    job_id = session(answer.headers["location"].rpartition("/")[2]).job_id
    assert tenant.service.names("b") == []
    run_job(job_id)
    run_jobs(tenant, "object.checksum")
    whole, row = b"".join(bodies), row_of(tenant, "o")
    assert (row.size, row.checksum) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert keeping.holding(row).read(row.physical_key, 0, len(whole)) == whole


# ---- direct uploads ----------------------------------------------------------------------------------------
def begin(client: Client, body: bytes = BODY, **fields: Any) -> Answer:
    return client("POST", "/storage/upload/direct", {"bucket": "b", "path": "o", "size": len(body), **fields})


def send(url: str, body: bytes, headers: dict[str, str]) -> int:
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.netloc, timeout=10)
    connection.request("PUT", f"{split.path}?{split.query}", body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def confirm(client: Client, begun: dict[str, Any]) -> Answer:
    return client("POST", f"/storage/upload/{begun['upload_id']}/confirm")


@pytest.mark.parametrize("storage", ["azure", "strict_s3"])
@pytest.mark.parametrize(
    "promise", [{}, {"checksum_sha256": hashlib.sha256(BODY).hexdigest()}, {"content_md5": hashlib.md5(BODY).hexdigest()}]
)
def test_a_direct_upload_goes_to_the_tenants_storage(tenant: Tenant, on: Callable[..., str], storage: str, promise: dict[str, str]) -> None:
    make(tenant, "b", on(storage))
    begun = begin(tenant.service, **promise).json()
    assert confirm(tenant.service, begun).code == "NotUploaded"
    assert send(begun["url"], BODY, begun["headers"]) in (200, 201)
    row = confirm(tenant.service, begun)
    assert row.status == 200, row.body
    run_jobs(tenant, "object.checksum")
    assert info(tenant.service, "b", "o")["checksum"] == hashlib.sha256(BODY).hexdigest()
    assert tenant.service.get("b", "o").body == BODY
    assert send(begun["url"], b"x" * len(BODY), begun["headers"]) >= 400
    assert send(begun["url"], b"x" * len(BODY), {k: v for k, v in begun["headers"].items() if k.lower() != "if-none-match"}) >= 400
    assert tenant.service.get("b", "o").body == BODY


@pytest.mark.parametrize("storage", ["azure", "strict_s3"])
def test_a_direct_upload_in_parts_goes_there_too(tenant: Tenant, on: Callable[..., str], storage: str) -> None:
    make(tenant, "b", on(storage))
    body = noise(11 * MIB)
    begun = begin(tenant.service, body, parts=2).json()
    assert len(begun["parts"]) == 2
    offset = 0
    for part in begun["parts"]:
        assert send(part["url"], body[offset : offset + part["size"]], {"Content-Length": str(part["size"])}) in (200, 201)
        offset += part["size"]
    assert confirm(tenant.service, begun).status == 200
    run_jobs(tenant, "object.checksum")
    row = row_of(tenant, "o")
    assert row.checksum == hashlib.sha256(body).hexdigest()
    assert keeping.holding(row).read(row.physical_key, 0, len(body)) == body


@pytest.mark.parametrize("storage", ["sftp", "ftp", "filesystem"])
@pytest.mark.parametrize("fields", [{}, {"parts": 2}, {"size": 100_000_001}], ids=["single", "parts", "large"])
def test_a_server_of_files_takes_no_direct_uploads(tenant: Tenant, on: Callable[..., str], storage: str, fields: dict[str, Any]) -> None:
    make(tenant, "b", on(storage))
    answer = begin(tenant.service, **fields)
    assert told(answer) == (409, "CannotPresign")
    assert "/storage/v1/upload/tus" in answer.json()["message"]


UNKEPT = {"conditional_put": False, "checksum_sha256": False, "content_md5": False}


def distrust(tenant: Tenant, storage_id: str) -> None:
    """Have a probe find that a storage keeps none of its promises."""
    row = storage_of(tenant, storage_id)
    found = (row.probe or {}) | UNKEPT
    actions = [Storage.probe.set(found), Storage.expected.set(found), Storage.probed_at.set(seam.iso(seam.now()))]
    row.change(actions, Storage.storage_id.exists())
    keeping.changed(tenant.tenant_id, storage_id)


@pytest.fixture
def distrusted(tenant: Tenant, on: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage, with a bucket `b`, that takes what its URLs lead to without looking at a promise."""
    from chalicelib.providers.s3 import S3

    real = S3.presign_put

    def without_promises(self: S3, key: str, expires_in: int, headers: Any) -> Any:
        held = {name: value for name, value in headers.items() if name in ("Content-Type", "Content-Length")}
        return real(self, key, expires_in, held)

    storage_id = on("strict_s3")
    assert make(tenant, "b", storage_id).status == 201
    distrust(tenant, storage_id)
    monkeypatch.setattr(S3, "presign_put", without_promises)
    return storage_id


def test_what_a_storage_does_not_hold_to_is_checked_and_its_record_says_so(tenant: Tenant, on: Callable[..., str]) -> None:
    storage_id = on("strict_s3")
    make(tenant, "b", storage_id)
    shown = tenant.service("GET", f"{CONFIGS}/{storage_id}").json()
    assert shown["safeguards"] == {"overwrite": "enforced", "content_md5": "enforced", "checksum_sha256": "enforced"}
    distrust(tenant, storage_id)
    shown = tenant.service("GET", f"{CONFIGS}/{storage_id}").json()
    assert shown["safeguards"] == {"overwrite": "checked", "content_md5": "checked", "checksum_sha256": "checked"}


@pytest.mark.parametrize(
    "promise", [{}, {"checksum_sha256": hashlib.sha256(BODY).hexdigest()}, {"content_md5": hashlib.md5(BODY).hexdigest()}]
)
def test_a_put_that_is_replayed_after_the_confirmation_changes_nothing(
    distrusted: str, stream: Stream, tenant: Tenant, clock: Clock, on: Callable[..., str], promise: dict[str, str]
) -> None:
    storage_id = on("strict_s3", name="anew")  # `stream` has removed the records of storages
    make(tenant, "c", storage_id)
    distrust(tenant, storage_id)
    begun = begin(tenant.service, bucket="c", **promise).json()
    assert send(begun["url"], BODY, begun["headers"]) == 200
    assert confirm(tenant.service, begun).status == 200
    assert send(begun["url"], b"x" * len(BODY), begun["headers"]) == 200  # this storage lets it
    assert tenant.service.get("c", "o").body == BODY
    assert confirm(tenant.service, begun).json()["version"] == info(tenant.service, "c", "o")["version"]
    stream.deliver()
    clock.advance(DAY)
    hour()
    assert tenant.service.get("c", "o").body == BODY
    assert keys_on(tenant, storage_id) == {row_of(tenant, "o", "c").physical_key}


@pytest.mark.parametrize(
    ("promise", "sent"),
    [
        ({"checksum_sha256": hashlib.sha256(BODY).hexdigest()}, BODY[::-1]),
        ({"content_md5": hashlib.md5(BODY).hexdigest()}, BODY[::-1]),
    ],
    ids=["sha256", "md5"],
)
def test_bytes_that_break_a_promise_are_not_adopted(distrusted: str, tenant: Tenant, promise: dict[str, str], sent: bytes) -> None:
    begun = begin(tenant.service, **promise).json()
    assert send(begun["url"], sent, begun["headers"]) == 200
    assert told(confirm(tenant.service, begun)) == (422, "IntegrityFailed")
    assert told(confirm(tenant.service, begun)) == (404, "UploadNotFound")
    assert tenant.service.names("b") == []


def test_bytes_that_change_while_they_are_confirmed_are_adopted_as_a_whole_or_not_at_all(
    distrusted: str, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PUT between the look at the bytes and their copy."""
    from chalicelib.core import direct

    begun, take_away = begin(tenant.service, checksum_sha256=hashlib.sha256(BODY).hexdigest()).json(), direct._take_away
    assert send(begun["url"], BODY, begun["headers"]) == 200

    def overtaken(*arguments: Any) -> None:
        assert send(begun["url"], b"y" * len(BODY), begun["headers"]) == 200
        take_away(*arguments)

    monkeypatch.setattr(direct, "_take_away", overtaken)
    assert told(confirm(tenant.service, begun)) == (422, "IntegrityFailed")
    assert tenant.service.names("b") == []


def transports() -> int:
    """How many connections of SFTP this process has."""
    return sum(isinstance(thread, paramiko.Transport) and thread.is_active() for thread in threading.enumerate())


def test_a_probe_leaves_no_connection(tenant: Tenant, on: Callable[..., str]) -> None:
    storage_id = on("sftp")
    before = transports()
    for _ in range(3):
        assert tenant.service("POST", f"{CONFIGS}/{storage_id}/test").status == 200
    assert transports() == before


def test_a_storage_that_is_forgotten_leaves_no_connection(tenant: Tenant, on: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MAX_OPENED", 1)
    for number in range(4):
        make(tenant, f"b{number}", on("sftp", name=f"{number}"))
        tenant.service.put(f"b{number}", "o", BODY)
    before = transports()
    for _ in range(3):
        assert {tenant.service.get(f"b{number}", "o").body for number in range(4)} == {BODY}
    assert transports() <= before + 1


def test_a_storage_that_is_found_to_keep_no_promise_is_not_trusted_by_who_has_opened_it_before(
    tenant: Tenant, on: Callable[..., str]
) -> None:
    storage_id = on("strict_s3")
    make(tenant, "b", storage_id)
    assert providers.Promise.NEW in keeping.provider_of(tenant.tenant_id, storage_id).holds  # type: ignore[attr-defined]
    distrust(tenant, storage_id)
    assert providers.Promise.NEW not in keeping.provider_of(tenant.tenant_id, storage_id).holds  # type: ignore[attr-defined]
