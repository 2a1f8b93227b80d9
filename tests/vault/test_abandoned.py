"""What nobody comes back for: attempts that end, bytes that come late, deltas that come back after they were deleted (FEATURES F3.23)."""

from typing import Any

import pytest

from chalicelib import workers
from chalicelib.core import abandoned, attempts
from chalicelib.providers.s3 import S3
from chalicelib.tables.deltas import DELETED, EXPIRED, PENDING, STORED, Delta, DeltaPointer
from chalicelib.tables.garbage import Cursor, Garbage
from chalicelib.tables.table import scan
from tests.conftest import Clock, Context, Tenant
from tests.servers.denying import Denying
from tests.vault.conftest import (
    BODY,
    DAY,
    HOUR,
    Begun,
    Vault,
    clean_up,
    counters,
    deliver,
    delta_row,
    md5_of,
    physical_key,
    put,
    told,
)

ENDED = attempts.URL_LIFETIME + 1
WEEK = 7 * DAY + HOUR


def status(begun: Begun) -> str | None:
    row = delta_row(begun)
    return row.status if row else None


def arrives(vault: Vault, begun: Begun, body: bytes = BODY) -> None:
    """What a PUT stores that began just before its URL ended, and was slow."""
    told_by = {
        "expected-size-bytes": str(len(body)),
        "expected-content-md5": md5_of(body),
        "upload-attempt": begun["upload_attempt_uuid"],
    }
    vault.overwrite(begun, body, **told_by)


def is_known(begun: Begun) -> bool:
    return DeltaPointer.read(begun["delta_uuid"], DeltaPointer.ITEM) is not None


# ---- attempts that end ---------------------------------------------------------------------------------------
def test_while_the_url_works_the_cleanup_leaves_an_attempt_alone(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    clean_up()
    assert status(begun) == PENDING
    assert counters(tenant, key_uuid)[0] == 1


def test_an_attempt_whose_url_has_ended_gives_its_place_back(vault: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    clock.advance(ENDED)
    assert clean_up()["expired"] >= 1
    assert status(begun) == EXPIRED
    assert counters(tenant, key_uuid)[:3] == (0, 0, 0)
    assert vault.listed(key_uuid) == []
    clean_up()
    assert counters(tenant, key_uuid)[0] == 0


def test_what_has_come_and_was_never_confirmed_is_confirmed_by_the_cleanup(vault: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    assert put(begun) == 200
    clock.advance(ENDED)
    assert clean_up()["stored"] >= 1
    assert status(begun) == STORED
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(BODY))
    assert vault.confirm(begun).status == 200
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(BODY))


def test_what_has_come_and_is_not_what_was_promised_counts_as_nothing(byos: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = byos.key()
    foreign, broken = byos.begin(key_uuid), byos.begin(key_uuid)
    byos.overwrite(foreign, b"of somebody else")
    arrives(byos, broken)
    byos.overwrite(broken, b"!" * len(BODY), **{"upload-attempt": broken["upload_attempt_uuid"]})
    clock.advance(ENDED)
    clean_up()
    assert (status(foreign), status(broken)) == (EXPIRED, EXPIRED)
    assert byos.holds(foreign), "it is not ours to delete"
    assert not byos.holds(broken)
    assert counters(tenant, key_uuid)[:3] == (0, 0, 0)


def test_what_comes_after_it_has_expired_is_taken_and_counted_once(vault: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    clock.advance(ENDED)
    clean_up()
    arrives(vault, begun)
    assert vault.confirm(begun).status == 200
    assert vault.confirm(begun).status == 200
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(BODY))
    assert vault.bytes_of(begun) == BODY


def test_the_event_of_what_comes_late_is_enough(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid)
    clock.advance(ENDED)
    clean_up()
    arrives(internal, begun)
    deliver(physical_key(begun))
    assert status(begun) == STORED
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(BODY))


def test_an_expired_delta_is_begun_again_by_its_id(vault: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    clock.advance(ENDED)
    clean_up()
    again = vault.begin(key_uuid, b"other bytes", delta_uuid=begun["delta_uuid"])
    assert counters(tenant, key_uuid)[0] == 1
    assert put(again, b"other bytes") == 200
    assert vault.confirm(again).status == 200
    assert vault.bytes_of(again) == b"other bytes"
    assert counters(tenant, key_uuid)[:3] == (1, 1, 11)


def test_a_week_after_it_has_expired_it_is_forgotten_with_what_came_to_internal_storage(
    internal: Vault, tenant: Tenant, clock: Clock
) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid)
    clock.advance(ENDED)
    clean_up()
    arrives(internal, begun)
    clock.advance(WEEK)
    assert clean_up()["forgotten"] >= 1
    assert (status(begun), is_known(begun), internal.holds(begun)) == (None, False, False)
    assert counters(tenant, key_uuid)[:3] == (0, 0, 0)
    assert told(internal.confirm(begun)) == (404, "DeltaNotFound")


def test_what_came_late_to_a_storage_of_one_s_own_is_left_to_its_owner(byos: Vault, clock: Clock) -> None:
    begun = byos.begin(byos.key())
    clock.advance(ENDED)
    clean_up()
    arrives(byos, begun)
    clock.advance(WEEK)
    clean_up()
    assert (status(begun), byos.holds(begun)) == (None, True)


# ---- deltas that come back -----------------------------------------------------------------------------------
def test_a_deleted_delta_that_comes_back_by_its_url_is_deleted_when_that_has_ended(vault: Vault, tenant: Tenant, clock: Clock) -> None:
    """Once its object is gone, the condition of the URL holds again."""
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    assert vault.delete(begun).status == 200
    assert put(begun) == 200
    assert told(vault.confirm(begun)) == (404, "DeltaNotFound")
    if vault.storage_uuid is None:
        deliver(physical_key(begun))
    assert status(begun) == DELETED
    assert counters(tenant, key_uuid)[:3] == (0, 0, 0)
    clean_up()
    assert vault.holds(begun), "the URL works yet: it could come once more"
    clock.advance(2 * HOUR)
    clean_up()
    assert (status(begun), vault.holds(begun)) == (None, False)


def test_the_same_with_the_whole_key(vault: Vault, clock: Clock) -> None:
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    assert vault.client("POST", "/keys/delete", {"key_uuid": key_uuid}).status == 200
    assert put(begun) == 200
    if vault.storage_uuid is None:
        deliver(physical_key(begun))
    assert told(vault.confirm(begun)) == (404, "DeltaNotFound")
    clock.advance(2 * HOUR)
    clean_up()
    assert (status(begun), vault.holds(begun)) == (None, False)


def test_a_delta_whose_urls_have_ended_leaves_nothing_behind(vault: Vault, clock: Clock) -> None:
    begun = vault.upload(vault.key())
    clock.advance(3 * HOUR)
    assert vault.delete(begun).status == 200
    assert (status(begun), is_known(begun), vault.holds(begun)) == (None, False, False)


def test_bytes_in_internal_storage_that_no_delta_ever_was_are_filed_as_garbage(internal: Vault) -> None:
    stray: Begun = {
        "key_uuid": "234e5678-e89b-12d3-a456-426614174001",
        "delta_uuid": "567e8901-e89b-12d3-a456-426614174004",
    }
    internal.overwrite(stray, b"stray")
    deliver(internal.at(stray))
    filed = [item["physical_key"]["S"] for page in scan(Garbage) for item in page if "due_at" in item]
    assert internal.at(stray) in filed


@pytest.mark.parametrize("key", ["deltas/", "deltas/a/b", "deltas/x", "deltas/234e5678-e89b-12d3-a456-426614174001/b/c", "deltas/ü+ %"])
def test_an_event_about_another_key_of_the_folder_is_passed_over(internal: Vault, key: str) -> None:
    deliver(key)
    assert key not in [item["physical_key"]["S"] for page in scan(Garbage) for item in page]


# ---- storages that do not answer -----------------------------------------------------------------------------
def test_a_storage_that_does_not_answer_keeps_up_nobody_and_is_asked_again(
    own: Vault, internal: Vault, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chalicelib.providers.failures import Failure, failure

    mine, ours = own.key(), internal.key()
    at_own, at_ours = own.begin(mine), internal.begin(ours)
    clock.advance(ENDED)
    describe = S3.describe

    def down(provider: S3, key: str) -> Any:
        if provider.bucket == own.owner.bucket:
            raise failure(Failure.CANNOT_CONNECT)
        return describe(provider, key)

    with monkeypatch.context() as context:
        context.setattr(S3, "describe", down)
        report = clean_up()
    assert report["left"] >= 1
    assert (status(at_own), status(at_ours)) == (PENDING, EXPIRED)
    clock.advance(HOUR)
    clean_up()
    assert status(at_own) == EXPIRED


def test_after_a_week_nobody_waits_for_it(own: Vault, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    from chalicelib.providers.failures import Failure, failure

    def down(provider: S3, key: str) -> Any:
        raise failure(Failure.CANNOT_CONNECT)

    key_uuid = own.key()
    begun = own.begin(key_uuid)
    clock.advance(ENDED + WEEK)
    monkeypatch.setattr(S3, "describe", down)
    clean_up()
    assert status(begun) == EXPIRED
    assert counters(tenant, key_uuid)[0] == 0


def test_what_a_storage_does_not_delete_is_forgotten_all_the_same(no_delete: tuple[Vault, Denying], clock: Clock) -> None:
    vault, _ = no_delete
    begun = vault.upload(vault.key())
    vault.delete(begun)
    clock.advance(2 * HOUR)
    clean_up()
    assert status(begun) is None
    assert vault.holds(begun)


# ---- the run -------------------------------------------------------------------------------------------------
def test_a_dry_run_counts_and_changes_nothing(own: Vault, clock: Clock) -> None:
    begun = own.begin(own.key())
    clock.advance(ENDED)
    Cursor(Cursor.HOUR, abandoned.CURSOR).delete()
    report = abandoned.collect(lambda: 600, dry_run=True)
    assert report.due >= 1
    assert (report.expired, report.stored, report.forgotten) == (0, 0, 0)
    assert status(begun) == PENDING


def test_a_run_without_time_says_so_and_the_next_goes_on(own: Vault, clock: Clock) -> None:
    begun = own.begin(own.key())
    clock.advance(ENDED)
    Cursor(Cursor.HOUR, abandoned.CURSOR).delete()
    assert not abandoned.collect(lambda: 0).finished
    assert status(begun) == PENDING
    clean_up()
    assert status(begun) == EXPIRED


def test_the_hourly_function_does_it_and_tells(own: Vault, clock: Clock) -> None:
    begun = own.begin(own.key())
    clock.advance(ENDED)
    Cursor(Cursor.HOUR, abandoned.CURSOR).delete()
    report = workers.hourly({}, Context())["deltas"]
    assert report["expired"] >= 1
    assert status(begun) == EXPIRED


def test_a_row_that_went_on_meanwhile_is_left(own: Vault, clock: Clock) -> None:
    key_uuid = own.key()
    begun = own.begin(key_uuid)
    clock.advance(ENDED)
    again = own.begin(key_uuid, delta_uuid=begun["delta_uuid"])
    clean_up()
    assert status(again) == PENDING
    assert Delta.read(key_uuid, begun["delta_uuid"]).attempts[-1]["attempt"] == again["upload_attempt_uuid"]  # type: ignore[union-attr]
