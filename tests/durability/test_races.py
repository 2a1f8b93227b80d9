"""Writers, readers and deleters of one name at once, and answers that get lost on the way."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib import aws
from chalicelib.core import objects
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import call
from tests.conftest import run_job
from tests.durability.api_process import ApiProcess

WRITERS = 16
DAY = 25 * 3600
PATH = "/storage/object/b/shared"


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
    rows = call("Scan", TableName=StoredObject.Meta.table_name)["Items"]
    return {row["name"]["S"] for row in rows if row["partition"]["S"].startswith(tenant.tenant_id)}
