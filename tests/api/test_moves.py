"""Moves and copies, at once and by job (CONTRACT "Storage surface", DESIGN invariants 1 to 3)."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from chalicelib.core import copies, garbage, jobs, objects
from chalicelib.core.jobs import Step
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.garbage import Cursor
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import Transaction, call
from chalicelib.workers import hourly
from tests.api.held import storage_of
from tests.client import Answer, Client
from tests.conftest import Call, Clock, Context, Tenant, run_job

STORED = {"id", "name", "size", "content_type", "checksum", "checksum_state", "version"}
ROW = STORED | {"bucket", "owner_id", "user_metadata", "created_at", "updated_at"}
BODY = b"twenty-five bytes of text"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
# Steps of the job that copies BODY in parts of seven bytes: begin, four parts, the end.
STEPS = 6


@pytest.fixture
def source(service: Client) -> Client:
    """The service's client, with object `s` in bucket `b`, and an empty bucket `to`."""
    service.bucket("b")
    service.bucket("to")
    service.put("b", "s", BODY, "text/plain", x_metadata="eyJrIjoxfQ==")
    return service


def relocate(client: Client, kind: str, source: str = "s", target: str = "t", to_bucket: str | None = None, **headers: str) -> Answer:
    body = {"bucket": "b", "from": source, "to": target} | ({"to_bucket": to_bucket} if to_bucket else {})
    return client("POST", f"/storage/object/{kind}", body, {name.replace("_", "-"): value for name, value in headers.items()})


def info(client: Client, bucket: str, name: str) -> dict[str, Any]:
    answer = client("GET", f"/storage/object-info/{bucket}/{name}")
    assert answer.status == 200, answer.body
    row: dict[str, Any] = answer.json()
    return row


# ---- inside a bucket -----------------------------------------------------------------------------------
def test_a_move_inside_a_bucket_re_points_and_touches_no_bytes(source: Client, calls: list[Call]) -> None:
    before = info(source, "b", "s")
    calls.clear()
    answer = relocate(source, "move", target="folder/t ü")
    assert not [call for call in calls if call.service == "s3"]
    assert answer.status == 200
    moved = answer.json()
    assert moved.keys() == ROW
    assert moved == before | {"name": "folder/t ü", "updated_at": moved["updated_at"]}
    assert source.names("b") == ["folder/t ü"]
    assert source.get("b", "folder/t ü").body == BODY
    assert source.get("b", "s").status == 404


def test_an_object_moves_on_and_back_and_stays_readable(source: Client) -> None:
    for name, target in (("s", "t"), ("t", "u"), ("u", "s")):
        assert relocate(source, "move", name, target).status == 200
        assert source.get("b", target).body == BODY
    assert source.names("b") == ["s"]


def test_what_takes_the_old_name_is_another_object(source: Client) -> None:
    moved = relocate(source, "move").json()
    assert source.put("b", "s", b"new").status == 201
    assert info(source, "b", "s")["id"] != moved["id"]
    assert source.get("b", "t").body == BODY
    assert source.get("b", "s").body == b"new"


def test_a_move_to_its_own_name_changes_nothing(source: Client) -> None:
    before = info(source, "b", "s")
    answer = relocate(source, "move", target="s")
    assert answer.status == 200
    assert answer.json() == before
    assert source.get("b", "s").body == BODY


def test_a_copy_inside_a_bucket_is_an_object_of_its_own(source: Client) -> None:
    before = info(source, "b", "s")
    answer = relocate(source, "copy")
    copied = answer.json()
    assert answer.status == 200
    assert copied.keys() == ROW
    kept = ("size", "content_type", "checksum", "checksum_state", "user_metadata")
    assert {name: copied[name] for name in kept} == {name: before[name] for name in kept}
    assert copied["id"] != before["id"]
    assert copied["version"] != before["version"]
    source.delete("b", "s")
    assert source.get("b", "t").body == BODY


def test_a_copy_onto_itself_needs_upsert_and_is_a_new_version(source: Client) -> None:
    before = info(source, "b", "s")
    assert relocate(source, "copy", target="s").status == 409
    answer = relocate(source, "copy", target="s", x_upsert="true")
    assert answer.status == 200
    assert answer.json()["version"] != before["version"]
    assert answer.json()["id"] == before["id"]
    assert source.get("b", "s").body == BODY


def test_a_move_never_takes_an_object_that_came_after_the_one_it_read(source: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    read, replaced = objects.read_together, []

    def and_then_replaced(*wanted: Any) -> list[Any]:
        rows = read(*wanted)
        if not replaced:
            replaced.append(True)
            source.delete("b", "s")
            source.put("b", "s", b"another object")
        return rows

    monkeypatch.setattr(objects, "read_together", and_then_replaced)
    relocate(source, "move")
    monkeypatch.undo()
    # Whether the move took the new object or none: what was stored last is not lost.
    assert b"another object" in [source.get("b", name).body for name in source.names("b")]


# ---- between buckets -----------------------------------------------------------------------------------
def test_a_move_to_another_bucket_takes_the_object_along(source: Client) -> None:
    before = info(source, "b", "s")
    answer = relocate(source, "move", target="folder/t", to_bucket="to")
    assert answer.status == 200
    moved = answer.json()
    assert moved == before | {"name": "folder/t", "bucket": "to", "version": moved["version"], "updated_at": moved["updated_at"]}
    assert source.names("b") == []
    assert source.get("to", "folder/t").body == BODY


def test_a_copy_to_another_bucket_leaves_the_object_there(source: Client) -> None:
    assert relocate(source, "copy", target="s", to_bucket="to").status == 200
    assert source.get("b", "s").body == source.get("to", "s").body == BODY
    source("DELETE", "/storage/buckets/b")
    assert source.get("to", "s").body == BODY


@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize("name", ["a b", "ä+%2F", "x//y/", "😀"])
def test_any_name_can_be_left_and_taken(service: Client, kind: str, name: str) -> None:
    service.bucket("b")
    service.bucket("to")
    service.put("b", name, BODY)
    assert relocate(service, kind, name, name, "to").status == 200
    assert relocate(service, kind, name, name, "to").status == (409 if kind == "copy" else 404)
    assert service.get("to", name).body == BODY
    assert service.names("to") == [name]


# ---- onto something ------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize("to_bucket", [None, "to"])
@pytest.mark.parametrize("headers", [{}, {"x_upsert": "false"}, {"If_None_Match": "*"}, {"x_upsert": "true", "If_None_Match": "*"}])
def test_what_is_there_is_kept_unless_asked_otherwise(source: Client, kind: str, to_bucket: str | None, headers: dict[str, str]) -> None:
    source.put(to_bucket or "b", "t", b"kept")
    answer = relocate(source, kind, to_bucket=to_bucket, **headers)
    assert (answer.status, answer.code) == (409, "ObjectExists")
    assert source.get(to_bucket or "b", "t").body == b"kept"
    assert source.get("b", "s").body == BODY


@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize("to_bucket", [None, "to"])
def test_with_upsert_what_is_there_is_replaced(source: Client, kind: str, to_bucket: str | None) -> None:
    source.put(to_bucket or "b", "t", b"replaced")
    assert relocate(source, kind, to_bucket=to_bucket, x_upsert="true").status == 200
    assert source.get(to_bucket or "b", "t").body == BODY
    assert source.get("b", "s").status == (404 if kind == "move" else 200)


# ---- what is missing or not allowed --------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize("to_bucket", [None, "to"])
def test_a_missing_source_is_not_found(source: Client, kind: str, to_bucket: str | None) -> None:
    for target in ("t", "absent"):
        answer = relocate(source, kind, "absent", target, to_bucket)
        assert (answer.status, answer.code) == (404, "ObjectNotFound")


@pytest.mark.parametrize("kind", ["move", "copy"])
def test_a_missing_bucket_is_not_found(source: Client, kind: str) -> None:
    assert relocate(source, kind, to_bucket="absent").code == "BucketNotFound"
    answer = source("POST", f"/storage/object/{kind}", {"bucket": "absent", "from": "s", "to": "t"})
    assert (answer.status, answer.code) == (404, "BucketNotFound")
    assert source.get("b", "s").body == BODY


@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ({"max_file_size": len(BODY) - 1}, 413),
        ({"max_file_size": len(BODY)}, 200),
        ({"allowed_mimes": ["image/*"]}, 415),
        ({"allowed_mimes": ["text/*"]}, 200),
    ],
)
def test_the_target_buckets_rules_hold(service: Client, kind: str, rules: dict[str, Any], status: int) -> None:
    service.bucket("b")
    service.bucket("to", **rules)
    service.put("b", "s", BODY, "text/plain")
    assert relocate(service, kind, to_bucket="to").status == status
    assert service.names("to") == (["t"] if status == 200 else [])
    assert service.get("b", "s").status == (404 if (kind, status) == ("move", 200) else 200)


@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize(("body", "status"), [(PNG, 200), (b"unrecognised", 200), (b"", 200), (PDF, 415)])
def test_the_target_bucket_looks_at_the_bytes_too(service: Client, kind: str, body: bytes, status: int) -> None:
    service.bucket("b")
    service.bucket("to", allowed_mimes=["image/*"])
    service.put("b", "s", body, "image/png")
    answer = relocate(service, kind, to_bucket="to")
    assert answer.status == status
    assert service.names("to") == (["t"] if status == 200 else [])


@pytest.mark.parametrize(
    "body",
    [
        {"bucket": "b", "from": "s"},
        {"bucket": "b", "to": "t"},
        {"from": "s", "to": "t"},
        {"bucket": "b", "from": "s", "to": "../t"},
        {"bucket": "b", "from": "s", "to": "/t"},
        {"bucket": "b", "from": "s", "to": ""},
        {"bucket": "b", "from": "s", "to": "x" * 201},
        {"bucket": "b", "from": "s.", "to": "t"},
        {"bucket": "b", "from": "s", "to": ["t"]},
        {"bucket": "b", "from": "s", "to": "t", "to_bucket": 5},
        {"bucket": "", "from": "s", "to": "t"},
        {"bucket": "b", "from": "s", "to": "t\ud800"},
    ],
)
@pytest.mark.parametrize("kind", ["move", "copy"])
def test_a_relocation_that_is_none_is_refused(source: Client, kind: str, body: dict[str, Any]) -> None:
    assert source("POST", f"/storage/object/{kind}", body).status == 400
    assert source.names("b") == ["s"]
    assert source.names("to") == []


def test_both_sides_are_asked_whether_it_may_be(tenant: Tenant) -> None:
    service = tenant.service
    service.bucket("b", public=True)
    service.bucket("closed")
    service.put("b", "s", BODY)
    service.put("closed", "s", BODY)
    for client in (tenant.anon, tenant.user()):
        assert relocate(client, "move").status == 403
        assert relocate(client, "copy").status == 403
        assert relocate(client, "copy", to_bucket="closed").status == 403
        for kind in ("move", "copy"):
            hidden = client("POST", f"/storage/object/{kind}", {"bucket": "closed", "from": "s", "to": "t", "to_bucket": "b"})
            assert (hidden.status, hidden.code) == (404, "ObjectNotFound")
    assert service.names("b") == service.names("closed") == ["s"]


# ---- large: by job -------------------------------------------------------------------------------------
class Killed(BaseException):
    """The worker's process ends here."""


def run_with(job_id: str, step: Callable[[Job], Step]) -> None:
    jobs.work(job_id, {copies.COPY_JOB: jobs.Kind(step)}, lambda: 600.0)


def status_of(client: Client, job_id: str) -> dict[str, Any]:
    answer = client("GET", f"/jobs/{job_id}")
    assert answer.status == 200
    job: dict[str, Any] = answer.json()
    return job


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty-five bytes are a large object, copied seven at a time."""
    monkeypatch.setattr(copies, "LARGE", 24)
    monkeypatch.setattr(copies, "PART_BYTES", 7)


def started(client: Client, kind: str, **more: str) -> str:
    answer = relocate(client, kind, to_bucket="to", **more)
    assert (answer.status, answer.json().keys()) == (202, {"job_id"})
    return str(answer.json()["job_id"])


@pytest.mark.usefixtures("small_is_large")
def test_up_to_the_limit_a_copy_is_done_at_once(source: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "LARGE", len(BODY))
    assert relocate(source, "copy", to_bucket="to").status == 200


def test_the_limit_is_a_hundred_megabytes() -> None:
    assert copies.LARGE == 100_000_000


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("kind", ["move", "copy"])
def test_a_large_one_is_a_job_that_lands_when_it_is_done(source: Client, kind: str) -> None:
    before = info(source, "b", "s")
    job_id = started(source, kind)
    assert status_of(source, job_id)["status"] == "queued"
    assert source.names("to") == []
    assert source.get("b", "s").body == BODY
    run_job(job_id)
    job = status_of(source, job_id)
    assert (job["kind"], job["status"], job["done"], job["total"], job["error"]) == ("object.copy", "done", 25, 25, None)
    assert source.get("to", "t").body == BODY
    after = info(source, "to", "t")
    assert (after["checksum"], after["content_type"], after["user_metadata"]) == (before["checksum"], "text/plain", {"k": 1})
    assert (after["id"] == before["id"]) == (kind == "move")
    assert source.names("b") == ([] if kind == "move" else ["s"])


@pytest.mark.usefixtures("small_is_large")
def test_a_large_move_inside_a_bucket_is_no_job(source: Client) -> None:
    assert relocate(source, "move").status == 200
    assert source.get("b", "t").body == BODY


@pytest.mark.usefixtures("small_is_large")
def test_a_large_one_is_refused_as_soon_as_a_small_one(source: Client) -> None:
    source.put("to", "t", b"kept")
    assert relocate(source, "copy", to_bucket="to").status == 409
    assert relocate(source, "copy", "absent", to_bucket="to").status == 404
    source("PUT", "/storage/buckets/to", {"max_file_size": 5})
    assert relocate(source, "copy", target="u", to_bucket="to").status == 413


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize("effect", ["lost", "kept"])
@pytest.mark.parametrize("killed_at", range(STEPS))
def test_a_job_survives_being_killed_at_any_step(source: Client, clock: Clock, kind: str, effect: str, killed_at: int) -> None:
    steps = 0

    def step(job: Job) -> Step:
        nonlocal steps
        steps += 1
        if steps - 1 != killed_at:
            return copies.copy_step(job)
        if effect == "kept":
            copies.copy_step(job)  # done, but never noted
        raise Killed

    job_id = started(source, kind)
    with pytest.raises(Killed):
        run_with(job_id, step)
    assert source.get("to" if source.names("to") else "b", "t" if source.names("to") else "s").body == BODY
    run_job(job_id)  # too early: the dead worker's lease still holds
    clock.advance(jobs.LEASE + 1)
    run_job(job_id)
    assert status_of(source, job_id)["status"] == "done"
    assert source.get("to", "t").body == BODY
    assert source.names("b") == ([] if kind == "move" else ["s"])


@pytest.mark.usefixtures("small_is_large")
def test_a_job_survives_being_killed_between_its_bytes_and_its_row(source: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    job_id = started(source, "move")
    with monkeypatch.context() as patched:
        patched.setattr(copies, "_land", killed)
        with pytest.raises(Killed):
            run_job(job_id)
    assert source.names("to") == []
    assert source.get("b", "s").body == BODY
    clock.advance(jobs.LEASE + 1)
    run_job(job_id)
    assert status_of(source, job_id)["status"] == "done"
    assert source.get("to", "t").body == BODY


@pytest.mark.usefixtures("small_is_large")
def test_two_workers_do_not_share_a_job(source: Client) -> None:
    job_id = started(source, "copy")
    counted = 0

    def step(job: Job) -> Step:
        nonlocal counted
        counted += 1
        run_job(job_id)  # a second delivery of the same message
        return copies.copy_step(job)

    run_with(job_id, step)
    assert counted == STEPS
    assert status_of(source, job_id)["status"] == "done"


def finished(client: Client, kind: str) -> tuple[str, Job]:
    """A finished job, and the job as its last step saw it."""
    seen: list[Job] = []

    def step(job: Job) -> Step:
        seen.append(Job(**job.attribute_values))
        return copies.copy_step(job)

    job_id = started(client, kind, x_upsert="true")
    run_with(job_id, step)
    assert status_of(client, job_id)["status"] == "done"
    return job_id, seen[-1]


AFTERWARDS = {
    "overwritten": (lambda client: client.put("to", "t", b"newer"), ["t"], b"newer"),
    "deleted": (lambda client: client.delete("to", "t"), [], None),
    "moved": (lambda client: client("POST", "/storage/object/move", {"bucket": "to", "from": "t", "to": "u"}), ["u"], None),
}


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize("after", AFTERWARDS)
@pytest.mark.parametrize("replayed", ["message", "step"])
def test_a_replay_of_the_last_step_brings_nothing_back(source: Client, clock: Clock, kind: str, after: str, replayed: str) -> None:
    change, names, body = AFTERWARDS[after]
    job_id, last = finished(source, kind)
    if kind == "move":
        source.put("b", "s", b"a new source")
    change(source)
    clock.advance(jobs.LEASE + 1)
    if replayed == "message":
        run_job(job_id)
    else:
        with suppress(Exception):  # refusing is right, whatever it is called
            copies.copy_step(last)
    assert source.names("to") == names
    if body is not None:
        assert source.get("to", "t").body == body
    assert source.names("b") == ["s"]
    assert status_of(source, job_id)["status"] == "done"


@pytest.mark.usefixtures("small_is_large")
def test_a_job_whose_last_answer_was_lost_is_done(source: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    from chalicelib.errors import Unavailable

    committed = Transaction._commit

    def lost(self: Transaction) -> None:
        committed(self)
        raise Unavailable("the answer never came")

    job_id = started(source, "move")
    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "_commit", lost)
        run_job(job_id)
    clock.advance(jobs.LEASE + 1)
    run_job(job_id)
    assert source.get("to", "t").body == BODY
    assert status_of(source, job_id)["status"] == "done"


CHANGED = {
    "overwritten": (lambda client: client.put("b", "s", b"newer bytes"), b"newer bytes"),
    "deleted": (lambda client: client.delete("b", "s"), None),
    "replaced": (lambda client: (client.delete("b", "s"), client.put("b", "s", b"another object")), b"another object"),
}


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("changed", CHANGED)
def test_a_move_whose_source_changed_meanwhile_fails_and_leaves_it(source: Client, clock: Clock, changed: str) -> None:
    change, body = CHANGED[changed]
    job_id = started(source, "move")
    change(source)
    _run_to_its_end(source, job_id, clock)
    job = status_of(source, job_id)
    assert job["status"] == "failed"
    assert "changed" in job["error"]
    assert source.names("to") == []
    assert source.names("b") == (["s"] if body else [])
    if body:
        assert source.get("b", "s").body == body


def _run_to_its_end(client: Client, job_id: str, clock: Clock) -> None:
    for _ in range(jobs.MAX_FAILURES + 1):
        run_job(job_id)
        clock.advance(jobs.LEASE + 1)


@pytest.mark.usefixtures("small_is_large")
def test_a_source_whose_row_changed_but_not_its_bytes_is_moved_all_the_same(source: Client) -> None:
    job_id = started(source, "move")
    source("PATCH", "/storage/object-info/b/s", {"user_metadata": {"k": 2}})
    run_job(job_id)
    assert status_of(source, job_id)["status"] == "done"
    assert source.names("b") == []
    assert source.get("to", "t").body == BODY


FAILING = {
    "taken": lambda client: client.put("to", "t", b"kept"),
    "gone": lambda client: client("DELETE", "/storage/buckets/to"),
    "anew": lambda client: (client("DELETE", "/storage/buckets/to"), client.bucket("to")),
}


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize("failing", FAILING)
def test_a_job_that_may_not_land_any_more_fails_and_the_source_stays(source: Client, kind: str, failing: str) -> None:
    job_id = started(source, kind)
    FAILING[failing](source)
    run_job(job_id)
    job = status_of(source, job_id)
    assert job["status"] == "failed"
    assert job["error"]
    assert source.get("b", "s").body == BODY
    if failing != "gone":
        assert source.names("to") == (["t"] if failing == "taken" else [])
    if failing == "taken":
        assert source.get("to", "t").body == b"kept"


def _keys_and_rows(tenant: Tenant) -> tuple[set[str], set[str]]:
    """Physical keys in the storage, and those that rows name."""
    stored = {entry.key for entry in storage_of(tenant).list(f"objects/{tenant.tenant_id}-")}
    named = set()
    for bucket in ("b", "to"):
        row = Bucket.read(tenant.tenant_id, bucket)
        assert row is not None
        for item in StoredObject.query(row.partition):
            named.add(item.physical_key)
    return stored, named


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("failing", ["taken", "overwritten"])
def test_a_job_that_failed_leaves_no_orphan_once_its_garbage_is_due(tenant: Tenant, source: Client, clock: Clock, failing: str) -> None:
    job_id = started(source, "move")
    if failing == "taken":
        source.put("to", "t", b"kept")
    else:
        # The stream would file the old bytes; here only what the job itself leaves is looked at.
        source("PATCH", "/storage/object-info/b/s", {"user_metadata": {"k": 2}})
        row = Bucket.read(tenant.tenant_id, "b")
        assert row is not None
        stored = StoredObject.read(row.partition, "s")
        assert stored is not None
        stored.version = "0" * 26
        stored.save()
    _run_to_its_end(source, job_id, clock)
    assert status_of(source, job_id)["status"] == "failed"
    # Other tests have moved the clock on, too, and with it where the collector stands.
    call("DeleteItem", TableName=Cursor.Meta.table_name, Key=Cursor.key(Cursor.HOUR, garbage.CURSOR))
    clock.advance(26 * 3600)
    hourly({}, Context())
    stored_keys, named_keys = _keys_and_rows(tenant)
    assert stored_keys == named_keys
