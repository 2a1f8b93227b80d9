"""Writers, readers and deleters of one name at once, and answers that get lost on the way."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib import aws, providers
from chalicelib.access.principals import Principal, Role
from chalicelib.core import buckets, copies, jobs, objects
from chalicelib.errors import StorageUnavailable
from chalicelib.tables import table
from chalicelib.tables.objects import StoredObject
from tests.conftest import run_job
from tests.durability.api_process import ApiProcess

WRITERS = 16
DAY = 25 * 3600
PATH = "/storage/object/b/shared"
INSERT_OWN = "auth_uid()::uuid = owner_id"


@pytest.fixture
def api() -> Any:
    process = ApiProcess()
    yield process
    process.reap()


def test_of_sixteen_writers_one_whole_version_wins_and_no_orphan_stays(
    tenant: Any, api: ApiProcess, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any
) -> None:
    tenant.service.bucket("b")
    headers = {"Authorization": f"Bearer {tenant.service_key}"}
    bodies = [bytes([number]) * 50_000 for number in range(WRITERS)]
    digests = {hashlib.sha256(body).hexdigest() for body in bodies}
    api.ask("POST", PATH, bodies[0], headers)
    wrong: list[bytes] = []
    done = threading.Event()

    def read_on() -> None:
        while not done.is_set():
            answer = api.ask("GET", PATH, headers=headers)
            if answer.status != 200 or hashlib.sha256(answer.body).hexdigest() not in digests:
                wrong.append(answer.body)

    reader = threading.Thread(target=read_on)
    reader.start()
    with ThreadPoolExecutor(WRITERS) as pool:
        statuses = list(pool.map(lambda body: api.ask("POST", PATH, body, headers).status, bodies))
    done.set()
    reader.join()
    assert statuses == [200] * WRITERS
    assert wrong == []
    winner = tenant.service.get("b", "shared").body
    assert winner in bodies
    machinery.stream.deliver()
    clock.advance(DAY)
    machinery.hour()
    row = tenant.service("GET", "/storage/object-info/b/shared").json()
    assert hashlib.sha256(winner).hexdigest() == row["checksum"]
    assert len(stored_keys()) == 1


def test_an_overwrite_of_what_is_deleted_meanwhile_is_a_new_object_of_its_own(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not one with the identity, the owner and the birth of the object that is gone."""
    bucket = tenant.service.bucket("b")
    tenant.service("POST", "/storage/policies", {"bucket": "b", "name": "any", "operation": "UPDATE", "definition": "true"})
    tenant.service("POST", "/storage/policies", {"bucket": "b", "name": "own", "operation": "INSERT", "definition": INSERT_OWN})
    ada, bob = tenant.user(sub="ada"), tenant.user(sub="bob")
    first = ada.put("b", "shared", b"of ada").json()
    put = StoredObject.put

    def put_too_late(row: StoredObject, condition: Any) -> None:
        monkeypatch.setattr(StoredObject, "put", put)
        tenant.service.delete("b", "shared")
        put(row, condition)

    monkeypatch.setattr(StoredObject, "put", put_too_late)
    assert bob.put("b", "shared", b"of bob").status == 201
    row: Any = StoredObject.read(f"{tenant.tenant_id}#{bucket['id']}", "shared")
    assert row.owner_id == Principal(Role.USER, tenant.tenant_id, {"sub": "bob"}).uid
    assert row.owner_key.endswith(row.owner_id)
    assert row.id != first["id"]


def test_of_sixteen_writers_that_may_not_replace_exactly_one_creates(
    tenant: Any, api: ApiProcess, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any
) -> None:
    tenant.service.bucket("b")
    headers = {"Authorization": f"Bearer {tenant.service_key}", "If-None-Match": "*"}
    with ThreadPoolExecutor(WRITERS) as pool:
        statuses = list(pool.map(lambda number: api.ask("POST", PATH, bytes([number]), headers).status, range(WRITERS)))
    assert sorted(statuses) == [201] + [409] * (WRITERS - 1)
    machinery.stream.deliver()
    clock.advance(DAY)
    machinery.hour()
    assert len(stored_keys()) == 1
    assert tenant.service.get("b", "shared").body == bytes([statuses.index(201)])


def test_superseded_bytes_stay_readable_for_a_day(tenant: Any, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "o", b"old")
    (old,) = stored_keys()
    tenant.service.put("b", "o", b"new")
    machinery.stream.deliver()
    clock.advance(23 * 3600)
    machinery.hour()
    assert old in stored_keys()
    clock.advance(2 * 3600)
    machinery.hour()
    assert old not in stored_keys()
    assert tenant.service.get("b", "o").body == b"new"


def _lose_first_answer(monkeypatch: pytest.MonkeyPatch, operation: str, meanwhile: Callable[[], object] = lambda: None) -> list[int]:
    """The first answer to `operation` is lost after AWS has done it, so that the SDK sends it again."""
    client = aws.client("dynamodb")
    session, lost = client._endpoint.http_session, []
    send = session.send

    def sending(request: Any) -> Any:
        answer = send(request)
        if request.headers["X-Amz-Target"].decode().endswith(operation) and not lost:
            lost.append(answer.status_code)
            meanwhile()
            raise ReadTimeoutError(endpoint_url=request.url)
        return answer

    monkeypatch.setattr(session, "send", sending)
    return lost


def test_a_flip_whose_first_answer_was_lost_succeeds(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.service.bucket("b")
    lost = _lose_first_answer(monkeypatch, "PutItem")
    answer = tenant.service.put("b", "o", b"body")
    assert lost == [200]
    assert answer.status == 201
    assert tenant.service("GET", "/storage/object-info/b/o").json()["version"] == answer.json()["version"]


def test_an_overwrite_whose_first_answer_was_lost_succeeds_and_is_not_new(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "o", b"old")
    lost = _lose_first_answer(monkeypatch, "PutItem")
    answer = tenant.service.put("b", "o", b"new")
    assert lost == [200]
    assert answer.status == 200
    assert tenant.service.get("b", "o").body == b"new"


def test_a_flip_whose_answer_was_lost_and_that_was_overwritten_since_still_leaves_one_whole_version(
    tenant: Any, monkeypatch: pytest.MonkeyPatch, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any
) -> None:
    tenant.service.bucket("b")
    _lose_first_answer(monkeypatch, "PutItem", meanwhile=lambda: tenant.service.put("b", "o", b"other"))
    assert tenant.service.put("b", "o", b"mine").status in (200, 201)
    body = tenant.service.get("b", "o").body
    assert body in (b"mine", b"other")
    machinery.stream.deliver()
    clock.advance(DAY)
    machinery.hour()
    assert tenant.service.get("b", "o").body == body
    assert len(stored_keys()) == 1


def test_a_delete_whose_first_answer_was_lost_succeeds(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "o", b"body")
    lost = _lose_first_answer(monkeypatch, "DeleteItem")
    assert tenant.service.delete("b", "o").status == 200
    assert lost == [200]
    assert tenant.service.get("b", "o").status == 404


def test_a_move_whose_first_answer_was_lost_succeeds_once(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "from", b"body")
    lost = _lose_first_answer(monkeypatch, "TransactWriteItems")
    assert tenant.service("POST", "/storage/object/move", {"bucket": "b", "from": "from", "to": "to"}).status == 200
    assert lost == [200]
    assert tenant.service.names("b") == ["to"]
    assert tenant.service.get("b", "to").body == b"body"


def test_a_moved_object_survives_the_garbage_of_its_old_name(
    tenant: Any, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any
) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "a", b"body")
    for source, target in (("a", "b"), ("b", "c"), ("c", "a")):
        assert tenant.service("POST", "/storage/object/move", {"bucket": "b", "from": source, "to": target}).status == 200
        machinery.stream.deliver()
        clock.advance(DAY)
        machinery.hour()
        assert tenant.service.get("b", target).body == b"body"
    tenant.service.delete("b", "a")
    machinery.stream.deliver()
    clock.advance(DAY)
    machinery.hour()
    assert stored_keys() == set()


def test_an_object_moved_at_the_moment_of_collection_is_kept(
    tenant: Any, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector looks at the old name and the placement in one snapshot; a move between two looks makes it look again."""
    from chalicelib.core import garbage

    tenant.service.bucket("b")
    tenant.service.put("b", "a", b"body")
    tenant.service("POST", "/storage/object/move", {"bucket": "b", "from": "a", "to": "b"})
    machinery.stream.deliver()
    clock.advance(DAY)
    moves = [("b", "c"), ("c", "d")]
    look = garbage.read_snapshot

    def moving(*wanted: Any) -> Any:
        found = look(*wanted)
        if moves and wanted[0][1].startswith(tenant.tenant_id):
            source, target = moves.pop(0)
            assert tenant.service("POST", "/storage/object/move", {"bucket": "b", "from": source, "to": target}).status == 200
        return found

    monkeypatch.setattr(garbage, "read_snapshot", moving)
    machinery.hour()
    assert moves == []
    assert tenant.service.get("b", "d").body == b"body"


def test_an_upload_under_way_when_its_bucket_is_deleted_and_made_anew_is_not_in_the_new_one(
    tenant: Any, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "before", b"x")
    flip, jobs = objects.flip, []

    def late_flip(*arguments: Any) -> bool:
        jobs.append(tenant.service("DELETE", "/storage/buckets/b").json()["job_id"])
        tenant.service.bucket("b")
        run_job(jobs[0])
        return flip(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(objects, "flip", late_flip)
        assert tenant.service.put("b", "late", b"late").status == 201
    assert tenant.service.names("b") == []
    assert tenant.service.put("b", "new", b"new").status == 201
    _finish(tenant, machinery, clock, jobs[0])
    assert tenant.service.names("b") == ["new"]
    assert _rows_of(tenant) == {"new"}
    machinery.stream.deliver()
    clock.advance(DAY)
    machinery.hour()
    assert len(stored_keys()) == 1
    assert tenant.service.get("b", "new").body == b"new"


def _finish(tenant: Any, machinery: Any, clock: Any, job_id: str) -> None:
    clock.advance(300)
    run_job(job_id)
    assert tenant.service("GET", f"/jobs/{job_id}").json()["status"] == "done"


def _rows_of(tenant: Any) -> set[str]:
    rows = [row for page in table.scan(StoredObject) for row in page]
    return {row["name"]["S"] for row in rows if row["partition"]["S"].startswith(tenant.tenant_id)}


def test_a_write_that_meets_a_transaction_waits_for_it(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB refuses a plain write to a row that a transaction is writing; the embedded one does not, so it is put in."""
    tenant.service.bucket("b")
    tenant.service.put("b", "o", b"old")
    real, met = table.call, []

    def busy(operation: str, **parameters: Any) -> Any:
        met.append(operation)
        if operation in ("PutItem", "DeleteItem", "UpdateItem") and met.count(operation) < 3:
            raise ClientError({"Error": {"Code": "TransactionConflictException", "Message": ""}}, operation)
        return real(operation, **parameters)

    monkeypatch.setattr(table, "call", busy)
    assert tenant.service.put("b", "o", b"new").status == 200
    assert tenant.service("PUT", "/storage/buckets/b", {"public": True}).status == 200
    assert tenant.service.delete("b", "o").status == 200
    assert [met.count(operation) for operation in ("PutItem", "UpdateItem", "DeleteItem")] == [3, 3, 3]


def test_bytes_whose_storing_was_answered_by_nobody_are_no_orphan(
    tenant: Any, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant.service.bucket("b")
    storage = providers.internal()

    class Silent:
        max_key_bytes = storage.max_key_bytes

        def put(self, *arguments: Any) -> None:
            storage.put(*arguments)
            raise StorageUnavailable("the answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(providers, "internal", Silent)
        assert tenant.service.put("b", "o", b"x").status == 503
    assert len(stored_keys()) == 1
    clock.advance(DAY)
    machinery.hour()
    assert stored_keys() == set()


def test_metadata_that_was_changed_while_an_object_was_moved_goes_along(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.service.bucket("b")
    tenant.service.bucket("to")
    tenant.service.put("b", "o", b"x", "text/plain")
    copy_bytes = copies._copy_bytes

    def patch_meanwhile(*arguments: Any) -> None:
        copy_bytes(*arguments)
        changed = {"user_metadata": {"k": "late"}, "content_type": "text/css"}
        assert tenant.service("PATCH", "/storage/object-info/b/o", changed).status == 200

    monkeypatch.setattr(copies, "_copy_bytes", patch_meanwhile)
    moved = tenant.service("POST", "/storage/object/move", {"bucket": "b", "from": "o", "to": "o", "to_bucket": "to"})
    assert moved.status == 200
    row = tenant.service("GET", "/storage/object-info/to/o").json()
    assert (row["user_metadata"], row["content_type"]) == ({"k": "late"}, "text/css")
    assert tenant.service.get("b", "o").status == 404


def test_a_metadata_change_whose_first_answer_was_lost_is_made_once(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "o", b"x")
    lost = _lose_first_answer(monkeypatch, "PutItem")
    assert tenant.service("PATCH", "/storage/object-info/b/o", {"user_metadata": {"k": 1}}).status == 200
    assert lost == [200]
    row = StoredObject.read(buckets.get(tenant.tenant_id, "b").partition, "o")
    assert row is not None
    assert row.revision == 2


def test_a_job_whose_first_answer_was_lost_is_started_and_claimed(tenant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    principal = Principal(Role.SERVICE, tenant.tenant_id)
    woken: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "wake", lambda job_id, delay=0: woken.append(job_id))
        lost = _lose_first_answer(patched, "PutItem")
        job = jobs.start("test", principal, {})
        assert (lost, woken) == ([200], [job.job_id])
    with monkeypatch.context() as patched:
        lost = _lose_first_answer(patched, "UpdateItem")
        jobs.work(job.job_id, {"test": jobs.Kind(lambda _: jobs.Step({}, 1, 1, finished=True))}, lambda: 600)
        assert lost == [200]
    assert jobs.get(principal, job.job_id).status == "done"


def test_a_bucket_that_another_process_deleted_and_made_anew_is_served_as_it_is(tenant: Any) -> None:
    """This process still remembers the old bucket, as another container would for up to a minute."""
    tenant.service.bucket("b", public=True)
    tenant.service.put("b", "o", b"old")
    remembered = buckets.recent(tenant.tenant_id, "b")
    tenant.service("DELETE", "/storage/buckets/b")
    buckets.remember(remembered)
    assert tenant.anon.get("b", "o").status == 404
    tenant.service.bucket("b")
    tenant.service.put("b", "o", b"new")
    buckets.remember(remembered)
    assert tenant.service.get("b", "o").body == b"new"
    buckets.remember(remembered)
    assert tenant.anon.get("b", "o").status == 404  # the new one is private
