"""Two at work on one delta or key, step by step in the order that hurts: what was acknowledged stays, what was deleted is gone."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.core import abandoned, attempts, deltas, hours, keeping, keys, migrating, quotas
from chalicelib.core.layout import Place, place_of
from chalicelib.errors import StorageUnavailable
from chalicelib.providers.s3 import S3
from chalicelib.tables.deltas import EXPIRED, STORED, Delta, DeltaPointer
from chalicelib.tables.garbage import Cursor, Garbage
from chalicelib.tables.jobs import Job
from chalicelib.tables.keys import VaultKey
from chalicelib.tables.storages import Storage
from chalicelib.tables.table import Transaction, TransactionFailed, scan
from tests.client import Client
from tests.conftest import Call, Clock, Tenant, run_job
from tests.vault.conftest import (
    ADA,
    BODY,
    DAY,
    HOUR,
    Begun,
    Vault,
    clean_up,
    counters,
    deliver,
    delta_row,
    key_row,
    physical_key,
    promised,
    put,
    told,
)


class Death(BaseException):
    """The process is gone; nothing catches it."""


def filed() -> set[str]:
    return {item["physical_key"]["S"] for page in scan(Garbage) for item in page if "due_at" in item}


def once_before(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, act: Callable[[], Any]) -> None:
    """Have `act` happen right before the first call of a function."""
    real, done = getattr(where, name), []

    def first_act(*arguments: Any, **named: Any) -> Any:
        if not done:
            done.append(True)
            act()
        return real(*arguments, **named)

    monkeypatch.setattr(where, name, first_act)


def spoilt(vault: Vault, begun: Begun) -> None:
    """Other bytes under the words of the attempt: what a storage that compares no MD5 lets in."""
    vault.overwrite(begun, b"x" * len(BODY), **promised(begun))


# ---- confirming ----------------------------------------------------------------------------------------------
def test_a_slow_confirmation_of_what_was_broken_does_not_delete_what_was_stored_since(byos: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right bytes come by the same URL while the first confirmation is about to delete the wrong ones."""
    begun = byos.begin(byos.key())
    spoilt(byos, begun)

    def mend() -> None:
        byos.owner.delete([byos.at(begun)])
        assert put(begun) == 200
        answer = byos.confirm(begun)
        assert answer.status in (200, 503), answer.body
        if answer.status == 200:
            stored.append(True)

    stored: list[bool] = []
    once_before(monkeypatch, Place, "remove", mend)
    byos.confirm(begun)
    if stored:
        assert byos.holds(begun)
    else:
        assert told(byos.confirm(begun)) == (409, "NotUploaded")
        assert put(begun) == 200
        assert byos.confirm(begun).status == 200
    assert byos.bytes_of(begun) == BODY


def test_while_a_broken_object_is_deleted_others_are_told_to_come_back(own: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, answers = own.begin(own.key()), []
    spoilt(own, begun)
    once_before(monkeypatch, Place, "remove", lambda: answers.append(own.confirm(begun)))
    assert told(own.confirm(begun)) == (422, "IntegrityFailed")
    assert [told(answer) for answer in answers] == [(503, "Unavailable")]
    assert not own.holds(begun)
    assert put(begun) == 200
    assert own.confirm(begun).status == 200


def test_who_dies_over_a_broken_object_keeps_confirmations_up_for_two_minutes(
    own: Vault, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise Death

    begun = own.begin(own.key())
    spoilt(own, begun)
    with monkeypatch.context() as context:
        once_before(context, Place, "remove", die)
        with pytest.raises(Death):
            own.confirm(begun)
    own.owner.delete([own.at(begun)])
    assert put(begun) == 200
    assert told(own.confirm(begun)) == (503, "Unavailable")
    clock.advance(attempts.CLEANING + 1)
    assert own.confirm(begun).status == 200
    assert own.bytes_of(begun) == BODY


def test_an_event_that_is_late_files_nothing_that_was_stored_and_pointed_elsewhere_since(
    internal: Vault, own: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid)
    assert put(begun) == 200

    def confirm_and_point_elsewhere() -> None:
        assert internal.confirm(begun).status == 200
        assert internal.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "storage_uuid": own.storage_uuid}).status == 200

    once_before(monkeypatch, VaultKey, "read", confirm_and_point_elsewhere)
    deliver(physical_key(begun))
    assert physical_key(begun) not in filed()


# ---- the cleanup ---------------------------------------------------------------------------------------------
def test_what_is_confirmed_as_it_is_about_to_be_forgotten_is_not_deleted(
    internal: Vault, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = internal.begin(internal.key())
    clock.advance(HOUR + 1)
    clean_up()
    internal.overwrite(begun, BODY, **promised(begun))
    clock.advance(7 * DAY + HOUR)
    once_before(monkeypatch, abandoned, "_forget", lambda: internal.confirm(begun))
    clean_up()
    row = delta_row(begun)
    assert row is not None
    assert row.status == STORED
    assert internal.bytes_of(begun) == BODY


def test_an_expiry_that_meets_another_transaction_is_tried_again(
    own: Vault, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_uuid = own.key()
    own.begin(key_uuid)
    clock.advance(HOUR + 1)
    commit, met = Transaction._commit, []

    def conflict_first(self: Transaction) -> None:
        if not met:
            met.append(True)
            raise TransactionFailed([None, None], conflict=True)
        commit(self)

    monkeypatch.setattr(Transaction, "_commit", conflict_first)
    assert clean_up()["expired"] == 1
    assert counters(tenant, key_uuid)[0] == 0


def test_what_changes_while_it_expires_is_left_to_the_next_run_and_found_by_it(
    own: Vault, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = own.begin(own.key())
    clock.advance(HOUR + 1)
    row = Delta(begun["key_uuid"], begun["delta_uuid"])
    with monkeypatch.context() as context:
        once_before(context, attempts, "expire", lambda: row.change([Delta.revision.add(1)], Delta.delta_uuid.exists()))
        assert clean_up()["left"] == 1
    clock.advance(HOUR)
    assert abandoned.collect(lambda: 600).expired == 1, "though the cursor has passed its hour"


def test_of_deltas_on_a_storage_that_is_gone_for_good_all_are_given_up(own: Vault, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any) -> Any:
        raise StorageUnavailable("it does not answer", "Timeout")

    key_uuid = own.key()
    begun = [own.begin(key_uuid) for _ in range(4)]
    clock.advance(8 * DAY)
    monkeypatch.setattr(S3, "describe", down)
    assert clean_up()["expired"] == 4
    assert {row.status for each in begun if (row := delta_row(each))} == {EXPIRED}


def test_before_anything_has_expired_no_table_is_scanned_twice(embedded: Any, calls: list[Call]) -> None:
    Cursor(Cursor.HOUR, abandoned.CURSOR).delete()
    scans = []
    for _ in range(3):
        calls.clear()
        abandoned.collect(lambda: 600)
        scans.append(sum(call.operation == "Scan" for call in calls))
    assert scans == [1, 0, 0]


def test_a_dry_run_leaves_no_cursor(embedded: Any) -> None:
    Cursor(Cursor.HOUR, abandoned.CURSOR).delete()
    abandoned.collect(lambda: 600, dry_run=True)
    assert Cursor.read(Cursor.HOUR, abandoned.CURSOR) is None
    assert list(hours.due(abandoned.CURSOR, Delta, dry_run=True)) == []


# ---- downloads -----------------------------------------------------------------------------------------------
def test_a_download_of_a_key_that_is_deleted_at_that_moment_is_404(internal: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    once_before(monkeypatch, quotas, "take", lambda: internal.client("POST", "/keys/delete", {"key_uuid": key_uuid}))
    assert told(internal.download(begun)) == (404, "KeyNotFound")


def test_what_another_attempt_has_put_over_a_delta_of_the_same_size_is_not_given_out(byos: Vault) -> None:
    key_uuid = byos.key()
    first, other = byos.upload(key_uuid), byos.begin(key_uuid)
    byos.overwrite(first, BODY, **promised(other))
    assert told(byos.download(first)) == (422, "IntegrityFailed")


def test_a_delta_that_was_copied_without_its_words_is_given_out(byos: Vault) -> None:
    begun = byos.upload(byos.key())
    byos.overwrite(begun, BODY)
    assert byos.bytes_of(begun) == BODY


# ---- deleting ------------------------------------------------------------------------------------------------
def test_a_delete_that_has_to_begin_again_tells_nothing_of_what_it_has_deleted_itself(own: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = own.upload(own.key())
    section = {"delta_uuid": begun["delta_uuid"], "start": 0, "length": 1}
    once_before(monkeypatch, deltas, "_forget", lambda: own.client("POST", "/deltas/claim", section))
    answer = own.delete(begun)
    assert (answer.status, answer.json()["warning"], answer.json()["left"]) == (200, None, [])


def test_what_internal_storage_does_not_delete_at_once_goes_later_and_nobody_is_bothered(
    internal: Vault, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_uuid = internal.key()
    one, two = internal.upload(key_uuid), internal.upload(key_uuid)
    clock.advance(3 * HOUR)

    def busy(*_: Any) -> Any:
        raise StorageUnavailable("the storage is busy", "Busy")

    with monkeypatch.context() as context:
        context.setattr(S3, "delete", busy)
        answer = internal.delete(one)
        assert (answer.status, answer.json()["warning"], answer.json()["left"]) == (200, None, [])
        answer = internal.client("POST", "/keys/delete", {"key_uuid": key_uuid})
        assert (answer.status, answer.json()["warning"], answer.json()["left"]) == (200, None, [])
    assert physical_key(two) in filed()
    clean_up()
    assert delta_row(one) is None
    assert not internal.holds(one)


# ---- moving --------------------------------------------------------------------------------------------------
@pytest.fixture
def other(brought: Callable[..., Vault]) -> Vault:
    """Another storage of the tenant's."""
    return brought(remote_path="elsewhere")


def begun_moving(vault: Vault, key_uuid: str, to: Vault) -> str:
    answer = vault.client("POST", "/keys/migrate", {"key_uuid": key_uuid, "storage_uuid": to.storage_uuid})
    assert answer.status == 202, answer.body
    return str(answer.json()["job_id"])


def count(vault: Vault) -> int:
    (row,) = [each for each in vault.client("GET", "/storages/list").json() if each["storage_uuid"] == vault.storage_uuid]
    return int(row["key_count"])


def test_a_target_that_is_pointed_elsewhere_while_it_is_filled_is_filled_anew(
    own: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_uuid = own.key()
    begun = own.upload(key_uuid)
    job_id = begun_moving(own, key_uuid, other)
    edit = {"storage_uuid": other.storage_uuid, "remote_path": "a/new/place"}
    once_before(monkeypatch, migrating, "_flip", lambda: own.client("PATCH", "/storages/edit", edit))
    run_job(job_id)
    assert own.client("GET", f"/jobs/{job_id}").json()["status"] == "done"
    assert own.bytes_of(begun) == BODY
    assert [listed.key for listed in other.owner.list("a/new/place/")] == [f"a/new/place/{key_uuid}/{begun['delta_uuid']}"]


@pytest.mark.parametrize("deletes", ["delta", "key"])
def test_what_is_deleted_after_the_flip_and_before_internal_storage_is_put_away_is_gone_from_there_too(
    internal: Vault, own: Vault, clock: Clock, monkeypatch: pytest.MonkeyPatch, deletes: str
) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    clock.advance(3 * HOUR)
    job_id = begun_moving(internal, key_uuid, own)

    def delete() -> None:
        path, named = ("/deltas/delete", "delta_uuid") if deletes == "delta" else ("/keys/delete", "key_uuid")
        assert internal.client("DELETE", path, {named: begun[named]}).status == 200

    once_before(monkeypatch, migrating, "_put_away", delete)
    run_job(job_id)
    assert not internal.holds(begun)
    assert not own.holds(begun)


def test_a_copy_that_lands_while_its_delta_is_deleted_does_not_stay(own: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deletion has looked in the new storage and found nothing; the copy lands, of a delta that is there yet; then the row goes."""
    key_uuid = own.key()
    begun = own.upload(key_uuid)
    job, row = Job.read(begun_moving(own, key_uuid, other)), delta_row(begun)
    assert job is not None
    assert row is not None

    def land() -> None:
        other.overwrite(begun, BODY)
        assert not migrating._is_gone(row)

    once_before(monkeypatch, deltas, "_forget", land)
    assert own.delete(begun).status == 200
    assert not other.holds(begun)


def test_a_copy_that_lands_while_its_key_is_deleted_is_taken_away_by_the_migration(
    own: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_uuid = own.key()
    begun = own.upload(key_uuid)
    job, row = Job.read(begun_moving(own, key_uuid, other)), delta_row(begun)
    assert job is not None
    assert row is not None
    gone = []
    once_before(monkeypatch, deltas, "mark_of", lambda: gone.append(migrating._is_gone(row)))
    assert own.client("POST", "/keys/delete", {"key_uuid": key_uuid}).status == 200
    assert gone == [True]


def test_a_delta_that_is_being_deleted_does_not_end_the_migration(own: Vault, other: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its object has gone and its row not yet."""
    key_uuid = own.key()
    stays, goes = own.upload(key_uuid), own.upload(key_uuid)
    job_id = begun_moving(own, key_uuid, other)
    once_before(monkeypatch, deltas, "_forget", lambda: run_job(job_id))
    assert own.delete(goes).status == 200
    while own.client("GET", f"/jobs/{job_id}").json()["status"] == "queued":
        run_job(job_id)
    assert own.client("GET", f"/jobs/{job_id}").json()["status"] == "done"
    assert own.bytes_of(stays) == BODY
    assert not other.holds(goes)


def test_who_gives_a_migration_up_counts_nothing_that_another_has_just_finished(
    own: Vault, other: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_uuid = own.key()
    begun = own.upload(key_uuid)
    job_id = begun_moving(own, key_uuid, other)
    job = Job.read(job_id)
    assert job is not None
    for _ in range(2):
        step = migrating.step(job)
        job.checkpoint, job.done = step.checkpoint, step.done
    once_before(monkeypatch, keeping, "refer", lambda: migrating._flip(job, key_row(tenant, key_uuid)))
    migrating.give_up(job)
    assert key_row(tenant, key_uuid).storage_id == other.storage_uuid
    assert (count(own), count(other)) == (0, 1)
    assert own.bytes_of(begun) == BODY


def test_a_job_that_the_service_key_has_started_is_seen_by_the_key_s_owner(own: Vault, other: Vault, tenant: Tenant) -> None:
    ada: Client = tenant.user(sub=ADA)
    key_uuid = own.using(ada).key()
    job_id = begun_moving(own, key_uuid, other)
    for client in (ada, tenant.service):
        assert client("GET", f"/jobs/{job_id}").json()["kind"] == "key.migrate"
    assert tenant.user(sub="somebody else")("GET", f"/jobs/{job_id}").status == 404


# ---- storages ------------------------------------------------------------------------------------------------
def test_a_key_whose_storage_s_record_is_gone_ends_all_the_same(own: Vault, tenant: Tenant) -> None:
    key_uuid = own.key()
    own.upload(key_uuid)
    Storage(tenant.tenant_id, own.storage_uuid).remove(Storage.storage_id.exists())
    keeping.changed(tenant.tenant_id, str(own.storage_uuid))
    answer = own.client("POST", "/keys/delete", {"key_uuid": key_uuid})
    assert (answer.status, answer.json()["job_id"]) == (200, None)
    assert VaultKey.read(tenant.tenant_id, key_uuid) is None


@pytest.mark.parametrize("length", [950, 951])
def test_a_path_that_leaves_no_room_for_deltas_takes_no_keys(brought: Callable[..., Vault], length: int) -> None:
    """S3's keys have 1,024 bytes. Of these a slash and the key of a delta take 74, the test object less."""
    vault = brought(remote_path="/".join(["p" * 99] * 9 + ["q" * (length - 900)]))
    answer = vault.client("POST", "/keys/create", {"name": "k", "storage_uuid": vault.storage_uuid})
    if length == 950:
        assert answer.status == 201, answer.body
        return
    assert told(answer) == (400, "KeyTooLong")
    assert answer.json()["details"] == {"excess_bytes": 1}


def test_the_rows_of_a_list_come_without_their_claims(own: Vault) -> None:
    begun = own.upload(own.key())
    assert own.client("POST", "/deltas/claim", {"delta_uuid": begun["delta_uuid"], "start": 0, "length": 1}).status == 201
    (row,) = keys.rows_of(begun["key_uuid"])
    assert row.status == STORED
    assert "claims" not in {name for name, value in row.attribute_values.items() if value}
    assert len(own.client("GET", f"/deltas/claims?delta_uuid={begun['delta_uuid']}").json()) == 1


def test_a_confirmation_that_another_s_cleaning_has_overtaken_looks_again(
    own: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has seen the right bytes, which a slow deletion of the wrong ones before them has taken away since."""
    begun = own.begin(own.key())
    spoilt(own, begun)
    key, seen = key_row(tenant, begun["key_uuid"]), delta_row(begun)
    assert seen is not None
    own.owner.delete([own.at(begun)])
    assert put(begun) == 200
    once_before(monkeypatch, attempts, "_settle", lambda: attempts._clean(place_of(key), seen))
    assert told(own.confirm(begun)) == (409, "NotUploaded")
    assert put(begun) == 200
    assert own.confirm(begun).status == 200
    assert own.bytes_of(begun) == BODY


def test_an_attempt_that_begins_while_a_broken_object_is_deleted_keeps_nobody_up(own: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = own.begin(own.key())
    spoilt(own, begun)
    once_before(monkeypatch, Place, "remove", lambda: own.begin(begun["key_uuid"], delta_uuid=begun["delta_uuid"]))
    assert told(own.confirm(begun)) == (422, "IntegrityFailed")
    assert put(begun) == 200
    assert own.confirm(begun).status == 200


def test_what_came_late_to_a_storage_of_one_s_own_outlasts_a_cleanup_that_dies(
    byos: Vault, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = byos.begin(byos.key())
    clock.advance(2 * HOUR)
    clean_up()
    byos.overwrite(begun, BODY, **promised(begun))
    clock.advance(8 * DAY)

    def die(*_: Any) -> Any:
        raise Death

    with monkeypatch.context() as context:
        context.setattr(Delta, "remove", die)
        with pytest.raises(Death):
            clean_up()
    clean_up()
    assert delta_row(begun) is None
    assert DeltaPointer.read(begun["delta_uuid"], DeltaPointer.ITEM) is None
    assert byos.holds(begun)


def test_a_put_that_is_late_for_internal_storage_does_not_stay_there(internal: Vault, own: Vault) -> None:
    """The delta was begun here, its key pointed elsewhere, and the delta stored there."""
    key_uuid = internal.key()
    here = internal.begin(key_uuid)
    assert internal.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "storage_uuid": own.storage_uuid}).status == 200
    there = own.begin(key_uuid, delta_uuid=here["delta_uuid"])
    assert put(there) == 200
    assert own.confirm(there).status == 200
    assert put(here) == 200
    deliver(physical_key(here))
    assert physical_key(here) in filed()
    assert own.bytes_of(there) == BODY


def test_a_deletion_that_internal_storage_and_the_table_both_refuse_changes_nothing(
    internal: Vault, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is confirmed after it is kept: nothing was filed that a collector would come for."""
    begun = internal.begin(internal.key())
    assert put(begun) == 200

    def busy(*_: Any) -> Any:
        raise StorageUnavailable("the storage is busy", "Busy")

    with monkeypatch.context() as context:
        context.setattr(S3, "delete", busy)
        context.setattr(deltas, "_forget", busy)
        assert internal.delete(begun).status == 503
    assert internal.confirm(begun).status == 200
    assert physical_key(begun) not in filed()


def test_an_upload_that_needs_the_room_of_one_that_is_deleted_at_that_moment_gets_it(
    internal: Vault, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_uuid = internal.key()
    over = internal.begin(key_uuid)
    monkeypatch.setattr(quotas, "MAX_STORED", 1)
    clock.advance(HOUR + 1)
    once_before(monkeypatch, attempts, "end", lambda: internal.delete(over))
    assert internal.ask(key_uuid).status == 201
    assert counters(tenant, key_uuid)[0] == 1


def test_a_storage_whose_credentials_cannot_be_opened_keeps_no_record_up(own: Vault, tenant: Tenant) -> None:
    key_uuid = own.key()
    one, two = own.upload(key_uuid), own.upload(key_uuid)
    Storage(tenant.tenant_id, own.storage_uuid).change(
        [Storage.sealed.set("0000.x.y"), Storage.revision.add(1)], Storage.storage_id.exists()
    )
    answer = own.delete(one)
    assert (answer.status, len(answer.json()["left"])) == (200, 1)
    answer = own.client("POST", "/keys/delete", {"key_uuid": key_uuid})
    assert (answer.status, len(answer.json()["left"]), answer.json()["job_id"]) == (200, 1, None)
    assert two["delta_uuid"] in answer.json()["left"][0]
