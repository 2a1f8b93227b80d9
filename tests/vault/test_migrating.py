"""`POST /keys/migrate`: every delta is copied and proven, then the key points elsewhere in one write; stopped anywhere, it goes on."""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.core import keys, migrating
from chalicelib.providers import internal as internal_storage
from chalicelib.tables.garbage import Garbage
from chalicelib.tables.jobs import Job
from chalicelib.tables.keys import VaultKey
from chalicelib.tables.table import Transaction, scan
from tests.client import Answer
from tests.conftest import Clock, Tenant, run_job
from tests.vault.conftest import BOB, BODY, DAY, Begun, Vault, counters, delta_row, key_row, put, told

BODIES = [b"one", b"a second one", bytes(range(256)) * 40]


class Death(BaseException):
    """The process is gone; nothing catches it."""


def migrate(vault: Vault, key_uuid: str, to: Vault, status: int = 202) -> Any:
    answer = vault.client("POST", "/keys/migrate", {"key_uuid": key_uuid, "storage_uuid": to.storage_uuid})
    assert answer.status == status, answer.body
    return answer.json()


def job_of(vault: Vault, job_id: str) -> dict[str, Any]:
    answer = vault.client("GET", f"/jobs/{job_id}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def moved(vault: Vault, key_uuid: str, to: Vault) -> dict[str, Any]:
    """What becomes of a migration that is left alone."""
    job_id = migrate(vault, key_uuid, to)["job_id"]
    while (job := job_of(vault, job_id))["status"] not in ("done", "failed"):
        run_job(job_id)
    return job


def filled(vault: Vault) -> tuple[str, list[Begun]]:
    """A key with a delta of each body. On internal storage the day has room for two."""
    key_uuid = vault.key()
    bodies = BODIES if vault.storage_uuid else BODIES[:2]
    return key_uuid, [vault.upload(key_uuid, body) for body in bodies]


def unchanged(vault: Vault, begun: list[Begun]) -> bool:
    return [vault.bytes_of(each) for each in begun] == BODIES[: len(begun)]


def key_counts(vault: Vault) -> dict[str, int]:
    return {row["storage_uuid"]: row["key_count"] for row in vault.client("GET", "/storages/list").json()}


@pytest.fixture
def other(brought: Callable[..., Vault]) -> Vault:
    """Another storage of the tenant's, on the embedded AWS."""
    return brought(remote_path="elsewhere")


# ---- it moves ------------------------------------------------------------------------------------------------
def test_every_delta_lies_in_the_new_storage_and_the_key_points_there(own: Vault, other: Vault, tenant: Tenant) -> None:
    key_uuid, begun = filled(own)
    before = [row | {"object_key": ""} for row in own.listed(key_uuid)]
    job = moved(own, key_uuid, other)
    assert (job["status"], job["done"], job["total"], job["error"]) == ("done", 3, 3, None)
    shown = own.shown(key_uuid)
    assert (shown["storage_uuid"], shown["job_id"], shown["delta_count"]) == (other.storage_uuid, None, 3)
    assert other.lies_there(key_uuid) == [f"elsewhere/{key_uuid}/{each['delta_uuid']}" for each in begun]
    assert [row | {"object_key": ""} for row in own.listed(key_uuid)] == before
    assert [row["object_key"] for row in own.listed(key_uuid)] == other.lies_there(key_uuid)
    assert unchanged(own, begun)
    assert key_counts(own) == {own.storage_uuid: 0, other.storage_uuid: 1}
    assert counters(tenant, key_uuid)[:3] == (3, 3, sum(map(len, BODIES)))


def test_the_old_objects_are_left(own: Vault, other: Vault) -> None:
    key_uuid, begun = filled(own)
    moved(own, key_uuid, other)
    assert own.lies_there(key_uuid) == [own.at(each) for each in begun]


def test_between_servers(strict: Vault, brought: Callable[..., Vault], stand_in: Callable[[str], None], embedded: Any) -> None:
    """The strict server stands in for one region, the embedded AWS is asked by its own endpoint."""
    fields = {"name": "minio", "provider": "minio", "bucket": "minio-of-vault", "endpoint_url": embedded.endpoint, "region": "us-east-1"}
    embedded.client("s3").create_bucket(Bucket="minio-of-vault")
    credentials = {"access_key": "A" * 20, "secret_key": "s" * 40} | _credentials_of(embedded)
    answer = strict.client("POST", "/api/v1/backups/storage-configs", fields | credentials)
    assert answer.status == 201, answer.body
    key_uuid, begun = filled(strict)
    answer = strict.client("POST", "/keys/migrate", {"key_uuid": key_uuid, "storage_uuid": answer.json()["id"]})
    assert answer.status == 202, answer.body
    run_job(answer.json()["job_id"])
    assert job_of(strict, answer.json()["job_id"])["status"] == "done"
    assert [row["object_key"] for row in strict.listed(key_uuid)] == [f"{key_uuid}/{each['delta_uuid']}" for each in begun]
    assert unchanged(strict, begun)


def _credentials_of(embedded: Any) -> dict[str, str]:
    iam = embedded.client("iam")
    iam.create_user(UserName="minio-of-vault")
    made = iam.create_access_key(UserName="minio-of-vault")["AccessKey"]
    return {"access_key": made["AccessKeyId"], "secret_key": made["SecretAccessKey"]}


def test_from_internal_storage_whose_objects_go_a_week_later(internal: Vault, own: Vault, tenant: Tenant) -> None:
    key_uuid, begun = filled(internal)
    assert moved(internal, key_uuid, own)["status"] == "done"
    assert internal.lies_there(key_uuid) == [internal.at(each) for each in begun]
    assert unchanged(internal, begun)
    assert internal.client("GET", f"/keys/storage-limits?key_uuid={key_uuid}").json()["limits"] is None
    filed = [Garbage.from_raw_data(item) for page in scan(Garbage) for item in page if "due_at" in item]
    due = {row.physical_key: row.due_at for row in filed if key_uuid in row.physical_key}
    assert due.keys() == {internal.at(each) for each in begun}
    assert all(6.9 * DAY < moment - time.time() < 7.1 * DAY for moment in due.values())
    assert internal_storage().stat(internal.at(begun[0])) is not None


def test_a_key_without_deltas_moves_at_once(own: Vault, other: Vault) -> None:
    key_uuid = own.key()
    job = moved(own, key_uuid, other)
    assert (job["status"], job["done"]) == ("done", 0)
    assert own.shown(key_uuid)["storage_uuid"] == other.storage_uuid


# ---- it is proven --------------------------------------------------------------------------------------------
def test_what_lies_in_the_new_storage_already_and_is_whole_is_not_copied_again(own: Vault, other: Vault, calls: list[Any]) -> None:
    key_uuid, begun = filled(own)
    for each, body in zip(begun, BODIES, strict=True):
        other.owner._call("PutObject", Key=other.at(each), Body=body)
    calls.clear()
    assert moved(own, key_uuid, other)["status"] == "done"
    assert {call.operation for call in calls if call.service == "s3"} == {"HeadObject"}
    assert unchanged(own, begun)


@pytest.mark.parametrize("spoilt", [b"other", b"one!"])
def test_what_lies_there_and_is_another_is_replaced_by_the_delta(own: Vault, other: Vault, spoilt: bytes) -> None:
    key_uuid, begun = filled(own)
    other.owner._call("PutObject", Key=other.at(begun[0]), Body=spoilt[: len(BODIES[0])])
    assert moved(own, key_uuid, other)["status"] == "done"
    assert unchanged(own, begun)


@pytest.mark.parametrize("damage", ["missing", "other bytes", "shorter"])
def test_a_delta_that_is_not_whole_where_it_lies_stops_the_migration_and_is_named(own: Vault, other: Vault, damage: str) -> None:
    key_uuid, begun = filled(own)
    if damage == "missing":
        own.owner.delete([own.at(begun[1])])
    else:
        own.overwrite(begun[1], BODIES[1].upper() if damage == "other bytes" else BODIES[1][:-1])
    job = moved(own, key_uuid, other)
    assert job["status"] == "failed"
    assert own.at(begun[1]) in job["error"]
    shown = own.shown(key_uuid)
    assert (shown["storage_uuid"], shown["job_id"]) == (own.storage_uuid, None)
    assert key_counts(own) == {own.storage_uuid: 1, other.storage_uuid: 0}
    assert own.bytes_of(begun[0]) == BODIES[0]


def test_it_goes_on_where_it_failed_once_the_delta_is_mended(own: Vault, other: Vault) -> None:
    key_uuid, begun = filled(own)
    own.owner.delete([own.at(begun[2])])
    assert moved(own, key_uuid, other)["status"] == "failed"
    own.overwrite(begun[2], BODIES[2])
    assert moved(own, key_uuid, other)["status"] == "done"
    assert unchanged(own, begun)


# ---- while others are at work --------------------------------------------------------------------------------
def test_what_is_confirmed_while_it_copies_is_copied_too(own: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    key_uuid, begun = filled(own)
    flip, late = migrating._flip, []

    def confirm_one_more(job: Job, key: VaultKey) -> Any:
        if len(late) < 2:
            late.append(own.upload(key_uuid, b"late %d" % len(late)))
        return flip(job, key)

    monkeypatch.setattr(migrating, "_flip", confirm_one_more)
    assert moved(own, key_uuid, other)["status"] == "done"
    assert [own.bytes_of(each) for each in late] == [b"late 0", b"late 1"]
    assert len(other.lies_there(key_uuid)) == 5
    assert unchanged(own, begun)


def test_what_is_deleted_while_it_copies_is_gone_from_both(own: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    key_uuid, begun = filled(own)
    flip, gone = migrating._flip, []

    def delete_one(job: Job, key: VaultKey) -> Any:
        if not gone:
            gone.append(begun[0])
            assert own.delete(begun[0]).status == 200
        return flip(job, key)

    monkeypatch.setattr(migrating, "_flip", delete_one)
    assert moved(own, key_uuid, other)["status"] == "done"
    for place in (own, other):
        assert place.at(begun[0]) not in place.lies_there(key_uuid)
    assert [own.bytes_of(each) for each in begun[1:]] == BODIES[1:]


def test_what_is_deleted_between_reading_and_storing_its_copy_is_not_left_in_the_new_storage(
    own: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_uuid, begun = filled(own)
    is_there, seen = migrating._is_proven, []

    def delete_it(place: Any, delta: Any) -> bool:
        answer: bool = is_there(place, delta)
        if delta.delta_uuid == begun[1]["delta_uuid"]:
            if len(seen) == 1:
                assert own.delete(begun[1]).status == 200  # its copy has just been stored; this removes it
                place.provider.put(place.at(delta.delta_uuid), BODIES[1], "x/y")  # … and a slow writer stores it once more
            seen.append(1)
        return answer

    monkeypatch.setattr(migrating, "_is_proven", delete_it)
    assert moved(own, key_uuid, other)["status"] == "done"
    assert len(other.lies_there(key_uuid)) == 2


def test_an_attempt_from_before_the_move_is_told_to_begin_again(own: Vault, other: Vault) -> None:
    key_uuid, _ = filled(own)
    pending = own.begin(key_uuid)
    moved(own, key_uuid, other)
    assert put(pending) == 200
    assert told(own.confirm(pending)) == (409, "AttemptMismatch")
    again = own.begin(key_uuid, delta_uuid=pending["delta_uuid"])
    assert put(again) == 200
    assert own.confirm(again).status == 200
    assert own.bytes_of(again) == BODY


def test_downloads_and_uploads_go_on_while_it_runs(own: Vault, other: Vault) -> None:
    key_uuid, begun = filled(own)
    job_id = migrate(own, key_uuid, other)["job_id"]
    assert own.shown(key_uuid)["job_id"] == job_id
    assert unchanged(own, begun)
    more = own.upload(key_uuid)
    run_job(job_id)
    assert own.bytes_of(more) == BODY


def test_asked_again_it_is_the_same_job_and_another_way_is_409(own: Vault, other: Vault, brought: Callable[..., Vault]) -> None:
    key_uuid, _ = filled(own)
    job_id = migrate(own, key_uuid, other)["job_id"]
    assert migrate(own, key_uuid, other)["job_id"] == job_id
    third = brought()
    assert migrate(own, key_uuid, third, 409)["code"] == "KeyBusy"
    answer = own.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "storage_uuid": third.storage_uuid})
    assert told(answer) == (409, "KeyBusy")
    assert own.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "name": "renamed"}).status == 200
    assert told(own.client("DELETE", "/storages/delete", {"storage_uuid": other.storage_uuid})) == (409, "StorageInUse")
    run_job(job_id)
    assert own.shown(key_uuid)["storage_uuid"] == other.storage_uuid


def test_a_key_that_is_deleted_meanwhile_stays_deleted_in_both(own: Vault, other: Vault) -> None:
    key_uuid, _ = filled(own)
    job_id = migrate(own, key_uuid, other)["job_id"]
    job = Job.read(job_id)
    assert job is not None
    for _ in range(2):  # begun, and copied
        step = migrating.step(job)
        job.checkpoint, job.done = step.checkpoint, step.done
    assert len(other.lies_there(key_uuid)) == 3
    assert own.client("POST", "/keys/delete", {"key_uuid": key_uuid}).status == 200
    run_job(job_id)
    assert job_of(own, job_id)["status"] == "failed"
    assert own.lies_there(key_uuid) == other.lies_there(key_uuid) == []
    assert set(key_counts(own).values()) == {0}


# ---- it is stopped -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_write_it_goes_on_and_nothing_is_lost(
    own: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch, tenant: Tenant, clock: Clock, seed: int
) -> None:
    """After each kill, before a write or right after it, the next worker takes the job over, until it is done."""
    key_uuid, begun = filled(own)
    job_id = migrate(own, key_uuid, other)["job_id"]
    chance, kills = random.Random(seed), 0

    def dying(act: Callable[..., Any]) -> Callable[..., Any]:
        def die(*arguments: Any, **named: Any) -> Any:
            nonlocal kills
            if chance.random() < 0.4:
                kills += 1
                if chance.random() < 0.5:
                    act(*arguments, **named)
                raise Death
            return act(*arguments, **named)

        return die

    with monkeypatch.context() as context:
        for kind, name in ((Transaction, "_commit"), (type(own.owner), "put"), (Job, "change")):
            context.setattr(kind, name, dying(getattr(kind, name)))
        while job_of(own, job_id)["status"] != "done":
            try:
                run_job(job_id)
            except Death:
                clock.advance(200)  # the lease of the one that died
    assert kills
    assert unchanged(own, begun)
    shown = own.shown(key_uuid)
    assert (shown["storage_uuid"], shown["job_id"]) == (other.storage_uuid, None)
    assert key_counts(own) == {own.storage_uuid: 0, other.storage_uuid: 1}
    assert counters(tenant, key_uuid)[:2] == (3, 3)


def test_in_many_steps_of_a_few_deltas(own: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "BATCH", 1)
    key_uuid, begun = filled(own)
    assert moved(own, key_uuid, other)["status"] == "done"
    assert unchanged(own, begun)


def test_a_key_that_is_written_to_without_end_is_given_up_and_stays(own: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    key_uuid, begun = filled(own)
    monkeypatch.setattr(migrating, "MAX_PASSES", 3)
    flip = migrating._flip

    def change_first(job: Job, key: VaultKey) -> Any:
        VaultKey(key.tenant_id, key.key_uuid).change([VaultKey.revision.add(1)], keys.is_active())
        return flip(job, key)

    monkeypatch.setattr(migrating, "_flip", change_first)
    job = moved(own, key_uuid, other)
    assert (job["status"], own.shown(key_uuid)["storage_uuid"]) == ("failed", own.storage_uuid)
    assert unchanged(own, begun)


# ---- by hand, and after it -----------------------------------------------------------------------------------
def test_what_was_left_behind_when_a_key_was_pointed_elsewhere_by_hand_is_brought(own: Vault, other: Vault, tenant: Tenant) -> None:
    key_uuid, begun = filled(own)
    answer = own.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "storage_uuid": other.storage_uuid})
    assert "POST /keys/migrate" in answer.json()["warning"]
    assert told(own.download(begun[0])) == (404, "DeltaMissing")
    assert moved(own, key_uuid, other)["status"] == "done"
    assert unchanged(own, begun)
    assert key_counts(own) == {own.storage_uuid: 0, other.storage_uuid: 1}
    assert migrate(own, key_uuid, other, 409)["code"] == "UploadSettled"


def test_also_from_internal_storage(internal: Vault, own: Vault) -> None:
    key_uuid, begun = filled(internal)
    assert internal.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "storage_uuid": own.storage_uuid}).status == 200
    assert told(internal.download(begun[0])) == (404, "DeltaMissing")
    assert moved(internal, key_uuid, own)["status"] == "done"
    assert unchanged(internal, begun)


def test_a_delta_that_was_left_behind_in_internal_storage_goes_with_its_record(internal: Vault, own: Vault) -> None:
    key_uuid, begun = filled(internal)
    assert internal.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "storage_uuid": own.storage_uuid}).status == 200
    answer = internal.delete(begun[0])
    assert answer.status == 200
    assert own.at(begun[0]) in answer.json()["warning"]
    assert internal.lies_there(key_uuid) == [internal.at(begun[1])]


# ---- what is refused -----------------------------------------------------------------------------------------
def test_to_where_it_lies_already_is_409(own: Vault) -> None:
    key_uuid, _ = filled(own)
    assert migrate(own, key_uuid, own, 409)["code"] == "UploadSettled"


def test_to_a_storage_that_is_not_there_or_not_of_this_tenant_is_404(own: Vault, new_tenant: Any) -> None:
    key_uuid = own.key()
    stranger = Vault(new_tenant().service, own.storage_uuid, None)
    body = {"key_uuid": key_uuid, "storage_uuid": "00000000-0000-4000-8000-00000000abcd"}
    assert told(own.client("POST", "/keys/migrate", body)) == (404, "StorageNotFound")
    assert told(stranger.client("POST", "/keys/migrate", body)) == (404, "KeyNotFound")


def test_another_user_s_key_is_404(own: Vault, other: Vault, tenant: Tenant) -> None:
    key_uuid = own.key()
    answer: Answer = tenant.user(sub=BOB)("POST", "/keys/migrate", {"key_uuid": key_uuid, "storage_uuid": other.storage_uuid})
    assert told(answer) == (404, "KeyNotFound")
    assert key_row(tenant, key_uuid).job_id is None
    assert delta_row({"key_uuid": key_uuid, "delta_uuid": key_uuid}) is None


def test_what_was_left_in_internal_storage_is_not_forgotten_over_further_moves(
    internal: Vault, own: Vault, other: Vault, tenant: Tenant
) -> None:
    key_uuid, begun = filled(internal)
    for place in (own, other):
        assert internal.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "storage_uuid": place.storage_uuid}).status == 200
    assert key_row(tenant, key_uuid).moved_from == "internal"
    assert moved(internal, key_uuid, other)["status"] == "done"
    assert unchanged(internal, begun)
    filed = [item["physical_key"]["S"] for page in scan(Garbage) for item in page if "due_at" in item]
    assert {internal.at(each) for each in begun} <= set(filed)


def test_what_was_copied_by_hand_and_then_moved_is_put_away_too(internal: Vault, own: Vault, other: Vault) -> None:
    key_uuid, begun = filled(internal)
    for each, body in zip(begun, BODIES, strict=False):
        own.owner._call("PutObject", Key=own.at(each), Body=body)
    assert internal.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "storage_uuid": own.storage_uuid}).status == 200
    assert moved(internal, key_uuid, other)["status"] == "done"
    assert unchanged(internal, begun)
    filed = [item["physical_key"]["S"] for page in scan(Garbage) for item in page if "due_at" in item]
    assert {internal.at(each) for each in begun} <= set(filed)
