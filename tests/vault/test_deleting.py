"""Seed 000 "DELETE Permission Is Optional", sentence by sentence (FEATURES F3.13 to F3.15, F4.19)."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from chalicelib import seam
from chalicelib.core import key_ends
from chalicelib.tables.deltas import DELETED, STORED, Delta, DeltaPointer
from chalicelib.tables.keys import VaultKey
from chalicelib.tables.table import write_all
from tests.client import Answer, together
from tests.conftest import Call, Clock, Tenant, run_job
from tests.servers.denying import Denying
from tests.servers.hostile import closed_port
from tests.storages.scripted_s3 import Asked, Said, ScriptedS3, error
from tests.vault.conftest import (
    ADA,
    BOB,
    BODY,
    DAY,
    UNKNOWN,
    Begun,
    Vault,
    clean_up,
    counters,
    delta_row,
    key_row,
    md5_of,
    promised,
    put,
    told,
)

OTHER = b"another encrypted delta, of another length than the first has"
DELETES = {"DeleteObject", "DeleteObjects"}
Requests = dict[str, Callable[[Vault, str], Answer]]
NoDelete = tuple[Vault, Denying]


def deletes(calls: list[Call]) -> list[str]:
    """What storages were asked to delete."""
    return [call.operation for call in calls if call.service == "s3" and call.operation in DELETES]


def delete_key(vault: Vault, key_uuid: str, method: str = "POST") -> Answer:
    return vault.client(method, "/keys/delete", {"key_uuid": key_uuid})


def keys_of(vault: Vault) -> list[str]:
    return [each["key_uuid"] for each in vault.client("GET", "/keys/list").json()]


def uploaded_twice(vault: Vault) -> tuple[str, Begun, Begun]:
    """A key with two deltas, of other bytes each."""
    key_uuid = vault.key()
    return key_uuid, vault.upload(key_uuid), vault.upload(key_uuid, OTHER)


def everything_but_deleting(vault: Vault) -> Begun:
    """Uploads, confirms, downloads, claims and lists, in every order that succeeds or is a conflict; gives a delta that is stored."""
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    assert told(vault.confirm(begun)) == (409, "NotUploaded")
    assert [put(begun), put(begun)] == [200, 412]
    assert told(vault.confirm(begun, upload_attempt_uuid=UNKNOWN)) == (409, "AttemptMismatch")
    assert [vault.confirm(begun).status for _ in range(2)] == [200, 200]
    assert vault.bytes_of(begun) == BODY
    section = {"delta_uuid": begun["delta_uuid"], "start": 0, "length": 10}
    claimed = vault.client("POST", "/deltas/claim", section)
    assert claimed.status == 201, claimed.body
    assert told(vault.client("POST", "/deltas/claim", section)) == (409, "SectionClaimed")
    assert [each["claim_id"] for each in vault.client("GET", f"/deltas/claims?delta_uuid={begun['delta_uuid']}").json()] == [
        claimed.json()["claim_id"]
    ]
    assert vault.client("DELETE", "/deltas/claim", claimed.json()).status == 200
    assert vault.client("GET", f"/keys/check-layout?key_uuid={key_uuid}").json()["missing"] == []
    assert len(vault.listed(key_uuid)) == 1
    assert vault.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "name": "renamed"}).status == 200
    return begun


# ---- "Normal successful Delta upload, confirm, download, and claim flows do not call DeleteObject" (F3.13) ---------
def test_normal_flows_never_delete_an_object(vault: Vault, calls: list[Call]) -> None:
    calls.clear()
    begun = everything_but_deleting(vault)
    assert deletes(calls) == []
    assert vault.delete(begun).status == 200
    assert deletes(calls) == ["DeleteObjects"]  # so what this storage is asked is seen


def test_normal_flows_never_ask_a_storage_that_denies_it(no_delete: NoDelete) -> None:
    vault, server = no_delete
    server.denied.clear()
    begun = everything_but_deleting(vault)
    assert server.denied == []
    assert vault.delete(begun).status == 200
    assert len(server.denied) == 1


def test_a_mismatch_of_attempts_deletes_nothing(vault: Vault, calls: list[Call]) -> None:
    """ "An upload-attempt mismatch preserves the object": also when nobody knows the attempt that put it."""
    key_uuid = vault.key()
    first = vault.begin(key_uuid)
    second = vault.begin(key_uuid, OTHER, delta_uuid=first["delta_uuid"])
    put(first)
    calls.clear()
    assert told(vault.confirm(second)) == (409, "AttemptMismatch")
    vault.overwrite(first, OTHER)
    assert told(vault.confirm(second)) == (409, "AttemptMismatch")
    assert deletes(calls) == []
    assert vault.holds(first)


def test_a_confirmation_deletes_what_fails_the_matching_attempt(vault: Vault, calls: list[Call]) -> None:
    begun = vault.begin(vault.key())
    vault.overwrite(begun, OTHER, **promised(begun))
    calls.clear()
    assert told(vault.confirm(begun)) == (422, "IntegrityFailed")
    assert deletes(calls) == ["DeleteObjects"]
    assert not vault.holds(begun)


# ---- "You can operate OmegaSafe without granting DELETE permission" --------------------------------------------
def test_a_storage_that_denies_delete_says_so_when_it_is_added_and_is_taken(no_delete: NoDelete) -> None:
    """F4.19: the warning names what the test has left there."""
    vault, server = no_delete
    server.denied.clear()
    answer = vault.client("PATCH", "/storages/edit", {"storage_uuid": vault.storage_uuid, "remote_path": "tested/anew"})
    assert answer.status == 200, answer.body
    assert len(server.denied) == 1
    assert "tested/anew/omegasafe_connection_test.json" in answer.json()["warning"]
    assert answer.json()["capabilities"]["can_delete"] is False


def test_a_key_works_whole_on_a_storage_that_denies_delete(no_delete: NoDelete) -> None:
    vault, _ = no_delete
    key_uuid, first, second = uploaded_twice(vault)
    assert [vault.bytes_of(each) for each in (first, second)] == [BODY, OTHER]
    assert vault.shown(key_uuid)["delta_count"] == 2
    assert vault.delete(first).status == 200
    assert [each["delta_uuid"] for each in vault.listed(key_uuid)] == [second["delta_uuid"]]
    assert vault.bytes_of(second) == OTHER
    third = vault.upload(key_uuid)
    assert vault.bytes_of(third) == BODY
    assert delete_key(vault, key_uuid).status == 200
    assert keys_of(vault) == []


# ---- "DELETE is attempted by the explicit … routes" (F3.14) ----------------------------------------------------
def test_deleting_a_delta_deletes_its_object_and_its_record(vault: Vault, calls: list[Call]) -> None:
    key_uuid, begun, other = uploaded_twice(vault)
    calls.clear()
    answer = vault.delete(begun)
    assert (answer.status, answer.json()) == (200, {"delta_uuid": begun["delta_uuid"], "warning": None, "left": []})
    assert deletes(calls) == ["DeleteObjects"]
    assert vault.lies_there(key_uuid) == [vault.at(other)]
    assert [each["delta_uuid"] for each in vault.listed(key_uuid)] == [other["delta_uuid"]]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_deleting_a_key_deletes_its_objects_and_its_records(vault: Vault, tenant: Tenant, calls: list[Call], method: str) -> None:
    key_uuid, first, second = uploaded_twice(vault)
    calls.clear()
    answer = delete_key(vault, key_uuid, method)
    told_ = {"key_uuid": key_uuid, "deleted_count": 2, "warning": None, "left": [], "job_id": None}
    assert (answer.status, answer.json()) == (200, told_)
    assert set(deletes(calls)) == {"DeleteObjects"}
    assert vault.lies_there(key_uuid) == []
    assert keys_of(vault) == []
    assert VaultKey.read(tenant.tenant_id, key_uuid) is None
    assert all(DeltaPointer.read(each["delta_uuid"], DeltaPointer.ITEM) is None for each in (first, second))


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_key_without_deltas_is_deleted(vault: Vault, method: str) -> None:
    key_uuid = vault.key()
    answer = delete_key(vault, key_uuid, method)
    assert (answer.status, answer.json()["deleted_count"], answer.json()["warning"]) == (200, 0, None)
    assert keys_of(vault) == []


def test_other_deltas_and_keys_stay(vault: Vault) -> None:
    key_uuid, begun, other = uploaded_twice(vault)
    neighbour = vault.upload(vault.key("neighbour"))
    assert vault.delete(begun).status == 200
    assert vault.bytes_of(other) == OTHER
    assert delete_key(vault, key_uuid).status == 200
    assert vault.bytes_of(neighbour) == BODY
    assert keys_of(vault) == [neighbour["key_uuid"]]


def test_nothing_else_of_the_bucket_is_touched(byos: Vault) -> None:
    """What only begins like a key's folder is not the key's, and neither is what lies in it by other means."""
    key_uuid = byos.key()
    begun = byos.upload(key_uuid)
    others = [f"{byos.prefix}{key_uuid}", f"{byos.prefix}{key_uuid}0/x", f"{byos.at(begun)}.bak", f"{byos.prefix}{key_uuid}/mine", "mine"]
    for key in others:
        byos.owner.put(key, b"mine", "text/plain")
    assert delete_key(byos, key_uuid).status == 200
    assert sorted(listed.key for listed in byos.owner.list("")) == sorted(others)


def test_a_delta_that_was_never_uploaded_is_deleted_without_a_warning(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    answer = vault.delete(begun)
    assert (answer.status, answer.json()["warning"], answer.json()["left"]) == (200, None, [])
    assert vault.listed(begun["key_uuid"]) == []


def test_a_delta_that_was_not_confirmed_is_deleted_with_what_has_arrived(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    put(begun)
    assert vault.delete(begun).json()["left"] == []
    assert vault.lies_there(begun["key_uuid"]) == []
    assert told(vault.confirm(begun)) == (404, "DeltaNotFound")


def test_a_deleted_delta_does_not_come_back_by_its_url(vault: Vault, clock: Clock) -> None:
    """The URL works until it ends, and what it puts is deleted then."""
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    assert vault.delete(begun).status == 200
    assert put(begun) == 200
    assert told(vault.confirm(begun)) == (404, "DeltaNotFound")
    assert vault.listed(key_uuid) == []
    clock.advance(DAY)
    clean_up()
    assert vault.lies_there(key_uuid) == []
    assert delta_row(begun) is None


# ---- "completes explicit record removal and instructs the caller to clean up" (F3.15) --------------------------
def test_a_delta_that_the_storage_keeps_is_removed_all_the_same_and_told(no_delete: NoDelete, tenant: Tenant) -> None:
    vault, server = no_delete
    key_uuid, begun, other = uploaded_twice(vault)
    server.denied.clear()
    answer = vault.delete(begun)
    assert answer.status == 200, answer.body
    assert len(server.denied) == 1
    assert answer.json()["left"] == [f"omega-safe/deltas/{key_uuid}/{begun['delta_uuid']}"]
    assert "did not delete 1 object" in answer.json()["warning"]
    assert "delete them yourself" in answer.json()["warning"]
    assert vault.holds(begun)
    assert [each["delta_uuid"] for each in vault.listed(key_uuid)] == [other["delta_uuid"]]
    assert told(vault.download(begun)) == (404, "DeltaNotFound")
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(OTHER))


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_key_whose_deltas_the_storage_keeps_is_removed_all_the_same_and_told(no_delete: NoDelete, method: str) -> None:
    vault, server = no_delete
    key_uuid, first, second = uploaded_twice(vault)
    server.denied.clear()
    answer = delete_key(vault, key_uuid, method)
    assert (answer.status, answer.json()["deleted_count"]) == (200, 2)
    assert server.denied
    assert sorted(answer.json()["left"]) == sorted(f"omega-safe/deltas/{key_uuid}/{each['delta_uuid']}" for each in (first, second))
    assert "did not delete 2 object" in answer.json()["warning"]
    assert "delete them yourself" in answer.json()["warning"]
    assert vault.lies_there(key_uuid) == sorted(answer.json()["left"])
    assert keys_of(vault) == []
    assert told(vault.download(first)) == (404, "DeltaNotFound")


def test_what_is_left_is_named_as_it_lies_there(no_delete: NoDelete, brought: Callable[..., Vault]) -> None:
    """So that its owner can hand the very keys to any tool: here, to the storage once it permits it."""
    _, server = no_delete
    vault = brought(server.endpoint, remote_path="team//prod/")
    key_uuid, _, _ = uploaded_twice(vault)
    left = delete_key(vault, key_uuid).json()["left"]
    assert all(key.startswith(f"team/prod/{key_uuid}/") for key in left)
    server.denies = False
    assert vault.owner.delete(left) == {}
    assert vault.lies_there(key_uuid) == []


def test_after_the_right_was_given_deleting_deletes(no_delete: NoDelete) -> None:
    """What a test has once seen does not keep it from being attempted."""
    vault, server = no_delete
    key_uuid, begun, _ = uploaded_twice(vault)
    server.denies = False
    assert (vault.delete(begun).json()["left"], delete_key(vault, key_uuid).json()["left"]) == ([], [])
    assert vault.lies_there(key_uuid) == []


def lies_on(server: ScriptedS3, vault: Vault, begun: Begun) -> None:
    """What the PUT of an upload does there."""
    server.objects[vault.at(begun)] = BODY
    server.metadata[vault.at(begun)] = {f"x-amz-meta-{name}": value for name, value in promised(begun).items()}
    assert vault.confirm(begun).status == 200


def test_of_several_only_what_the_storage_keeps_is_told(scripted: tuple[Vault, ScriptedS3]) -> None:
    """As under a bucket policy, or a lock, that is of some objects only."""
    vault, server = scripted
    key_uuid = vault.key()
    begun = [vault.begin(key_uuid) for _ in range(3)]
    for each in begun:
        lies_on(server, vault, each)
    kept = vault.at(begun[1])

    def keep_one(asked: Asked) -> Said:
        gone = [vault.at(each) for each in begun if vault.at(each).encode() in asked.body and vault.at(each) != kept]
        for key in gone:
            server.objects.pop(key, None)
        return Said(200, f"<DeleteResult><Error><Key>{kept}</Key><Code>AccessDenied</Code></Error></DeleteResult>".encode())

    server.say["DELETE"] = keep_one
    answer = delete_key(vault, key_uuid).json()
    assert (answer["deleted_count"], answer["left"]) == (3, [kept])
    assert "did not delete 1 object" in answer["warning"]
    assert [key for key in server.objects if key_uuid in key] == [kept]


def test_a_deletion_where_nothing_was_found_says_where_it_looked(vault: Vault) -> None:
    """Its owner may have removed it, or may have pointed the storage elsewhere: then it still lies there."""
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    vault.owner.delete([vault.at(begun)])
    answer = vault.delete(begun)
    assert (answer.status, answer.json()["left"]) == (200, [])
    assert vault.at(begun) in answer.json()["warning"]
    assert vault.listed(key_uuid) == []
    assert told(vault.download(begun)) == (404, "DeltaNotFound")


def test_a_key_whose_objects_are_gone_is_deleted(vault: Vault) -> None:
    key_uuid, first, second = uploaded_twice(vault)
    vault.owner.delete([vault.at(first), vault.at(second)])
    answer = delete_key(vault, key_uuid)
    assert (answer.status, answer.json()["deleted_count"], answer.json()["left"]) == (200, 2, [])
    assert keys_of(vault) == []


# ---- a storage that is down ------------------------------------------------------------------------------------
def test_a_delta_on_a_storage_that_is_down_is_removed_and_told(own: Vault, stand_in: Callable[[str], None]) -> None:
    key_uuid, begun, other = uploaded_twice(own)
    with closed_port() as port:
        stand_in(f"http://127.0.0.1:{port}")
        answer = own.delete(begun)
        assert answer.status == 200, answer.body
        assert answer.json()["left"] == [own.at(begun)]
        assert "did not delete 1 object" in answer.json()["warning"]
    stand_in(own.owner._endpoint)
    assert own.holds(begun)
    assert [each["delta_uuid"] for each in own.listed(key_uuid)] == [other["delta_uuid"]]
    assert own.bytes_of(other) == OTHER


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_key_on_a_storage_that_is_down_is_removed_and_told(own: Vault, stand_in: Callable[[str], None], method: str) -> None:
    key_uuid, first, second = uploaded_twice(own)
    with closed_port() as port:
        stand_in(f"http://127.0.0.1:{port}")
        answer = delete_key(own, key_uuid, method)
        assert (answer.status, answer.json()["deleted_count"]) == (200, 2)
        assert sorted(answer.json()["left"]) == sorted([own.at(first), own.at(second)])
        assert "did not delete 2 object" in answer.json()["warning"]
        assert keys_of(own) == []
    stand_in(own.owner._endpoint)
    assert own.lies_there(key_uuid) == sorted([own.at(first), own.at(second)])


def test_a_key_on_a_storage_whose_bucket_is_gone_is_removed_and_told(own: Vault) -> None:
    key_uuid, first, second = uploaded_twice(own)
    own.owner.delete([own.at(first), own.at(second)])
    own.owner._call("DeleteBucket")
    assert own.delete(first).json()["left"] == [own.at(first)]
    answer = delete_key(own, key_uuid)
    assert (answer.status, answer.json()["left"]) == (200, [own.at(second)])
    assert keys_of(own) == []


NOT_FOUND = {"without a word": b"", "as of an object": error("NoSuchKey"), "as of a page": b"<html>Not Found</html>"}


@pytest.mark.parametrize("body", NOT_FOUND.values(), ids=NOT_FOUND)
def test_where_nothing_answers_but_not_found_the_records_are_removed_and_told(scripted: tuple[Vault, ScriptedS3], body: bytes) -> None:
    """As of a host at which there is no such storage any more."""
    vault, server = scripted
    key_uuid = vault.key()
    first, second = vault.begin(key_uuid), vault.begin(key_uuid)
    for each in (first, second):
        lies_on(server, vault, each)
    server.say["*"] = server.say["OTHER"] = lambda _: Said(404, body)
    answer = vault.delete(first)
    assert answer.status == 200, answer.body
    assert vault.at(first) in f"{answer.json()['left']} {answer.json()['warning']}"
    answer = delete_key(vault, key_uuid)
    assert (answer.status, answer.json()["deleted_count"]) == (200, 1)
    assert keys_of(vault) == []
    assert vault.client("DELETE", "/storages/delete", {"storage_uuid": vault.storage_uuid}).status == 200


def test_a_storage_that_says_of_what_it_deletes_that_it_is_not_there_has_deleted_it(scripted: tuple[Vault, ScriptedS3]) -> None:
    vault, server = scripted
    key_uuid = vault.key()
    first, second = vault.begin(key_uuid), vault.begin(key_uuid)
    for each in (first, second):
        lies_on(server, vault, each)
    server.say["DELETE"] = server.say["OTHER"] = lambda _: Said(404, error("NoSuchKey"))
    assert vault.delete(first).status == 200
    assert delete_key(vault, key_uuid).status == 200
    assert keys_of(vault) == []


# ---- what it frees ---------------------------------------------------------------------------------------------
def test_deleting_a_delta_frees_what_it_counted(vault: Vault, tenant: Tenant) -> None:
    key_uuid, begun, other = uploaded_twice(vault)
    assert counters(tenant, key_uuid)[:3] == (2, 2, len(BODY) + len(OTHER))
    assert vault.delete(begun).status == 200
    shown = vault.shown(key_uuid)
    assert (shown["delta_count"], shown["size_bytes"]) == (1, len(OTHER))
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(OTHER))
    assert vault.delete(other).status == 200
    shown = vault.shown(key_uuid)
    assert (shown["delta_count"], shown["size_bytes"]) == (0, 0)
    assert counters(tenant, key_uuid)[:3] == (0, 0, 0)


def test_deleting_a_delta_that_was_only_begun_frees_its_place_alone(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    vault.upload(key_uuid)
    begun = vault.begin(key_uuid, OTHER)
    assert counters(tenant, key_uuid)[:3] == (2, 1, len(BODY))
    assert vault.delete(begun).status == 200
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(BODY))


def test_deleting_a_delta_whose_place_was_given_back_frees_nothing_more(vault: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = vault.key()
    vault.upload(key_uuid)
    begun = vault.begin(key_uuid, OTHER)
    clock.advance(DAY)
    clean_up()
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(BODY))
    assert vault.delete(begun).status == 200
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(BODY))


def test_a_deletion_that_is_repeated_frees_nothing_twice(vault: Vault, tenant: Tenant) -> None:
    key_uuid, begun, _ = uploaded_twice(vault)
    assert vault.delete(begun).status == 200
    counted = counters(tenant, key_uuid)
    assert [told(vault.delete(begun)) for _ in range(2)] == [(404, "DeltaNotFound")] * 2
    assert counters(tenant, key_uuid) == counted


def test_deleting_makes_room_on_internal_storage_and_gives_no_upload_of_the_day_back(internal: Vault) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    assert internal.limits(key_uuid)["uploads"]["stored"]["used"] == 1
    assert internal.delete(begun).status == 200
    uploads = internal.limits(key_uuid)["uploads"]
    assert (uploads["stored"]["used"], uploads["daily"]["used"], uploads["monthly"]["used"]) == (0, 1, 1)


def test_a_deleted_key_lets_go_of_its_storage(byos: Vault) -> None:
    first, second = byos.key(), byos.key()
    remove = {"storage_uuid": byos.storage_uuid}
    (storage,) = byos.client("GET", "/storages/list").json()
    assert storage["key_count"] == 2
    assert delete_key(byos, first).status == 200
    assert told(byos.client("DELETE", "/storages/delete", remove)) == (409, "StorageInUse")
    assert delete_key(byos, second).status == 200
    assert byos.client("DELETE", "/storages/delete", remove).status == 200


# ---- at once ---------------------------------------------------------------------------------------------------
def test_of_many_that_delete_a_delta_at_once_one_does(own: Vault, tenant: Tenant) -> None:
    key_uuid, begun, _ = uploaded_twice(own)
    answers = together([lambda: own.delete(begun)] * 6)
    assert sorted(answer.status for answer in answers) == [200, 404, 404, 404, 404, 404]
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(OTHER))


def test_of_many_that_delete_a_key_at_once_it_goes_once(own: Vault, tenant: Tenant) -> None:
    key_uuid, first, second = uploaded_twice(own)
    staying = own.key()
    answers = together([lambda: delete_key(own, key_uuid)] * 6)
    assert {answer.status for answer in answers} <= {200, 202, 404}
    assert 200 in {answer.status for answer in answers}
    require_gone(own, tenant, key_uuid, [first["delta_uuid"], second["delta_uuid"]], staying=[staying])
    (storage,) = own.client("GET", "/storages/list").json()
    assert storage["key_count"] == 1


def test_a_delta_that_is_confirmed_and_deleted_at_once_is_deleted(own: Vault, tenant: Tenant) -> None:
    key_uuid = own.key()
    for _ in range(5):
        begun = own.begin(key_uuid)
        put(begun)
        deleted, confirmed = together([lambda begun=begun: own.delete(begun), lambda begun=begun: own.confirm(begun)])  # type: ignore[misc]
        assert deleted.status == 200, deleted.body
        assert confirmed.status in (200, 404, 409), confirmed.body
    assert counters(tenant, key_uuid)[:3] == (0, 0, 0)
    assert own.listed(key_uuid) == []
    assert own.lies_there(key_uuid) == []


def test_uploads_that_begin_while_a_key_is_deleted_leave_nothing(own: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = own.key()
    begin: list[Callable[[], Answer]] = [lambda: own.ask(key_uuid)] * 7
    deleted, *asked = together([lambda: delete_key(own, key_uuid), *begin])
    assert deleted.status == 200, deleted.body
    assert {answer.status for answer in asked} <= {201, 404}
    begun = [answer.json() for answer in asked if answer.status == 201]
    assert [put(each) for each in begun] == [200] * len(begun)
    assert [told(own.confirm(each)) for each in begun] == [(404, "DeltaNotFound")] * len(begun)
    clock.advance(DAY)
    clean_up()
    assert own.lies_there(key_uuid) == []
    require_gone(own, tenant, key_uuid, [each["delta_uuid"] for each in begun])


# ---- which ones ------------------------------------------------------------------------------------------------
def test_a_delta_may_be_named_in_the_query(vault: Vault) -> None:
    begun = vault.upload(vault.key())
    assert vault.client("DELETE", f"/deltas/delete?delta_uuid={begun['delta_uuid']}").status == 200
    assert not vault.holds(begun)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_key_may_be_named_in_the_query(internal: Vault, method: str) -> None:
    key_uuid = internal.key()
    assert internal.client(method, f"/keys/delete?key_uuid={key_uuid}").status == 200
    assert keys_of(internal) == []


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_body_and_query_may_name_the_same(internal: Vault, method: str) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    delta_uuid = begun["delta_uuid"]
    assert internal.client("DELETE", f"/deltas/delete?delta_uuid={delta_uuid.upper()}", {"delta_uuid": delta_uuid}).status == 200
    assert internal.client(method, f"/keys/delete?key_uuid={key_uuid}", {"key_uuid": key_uuid.upper()}).status == 200
    assert keys_of(internal) == []


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_body_and_query_that_contradict_each_other_delete_nothing(own: Vault, method: str) -> None:
    key_uuid, begun, other = uploaded_twice(own)
    other_key = own.key()
    contradicting = own.client("DELETE", f"/deltas/delete?delta_uuid={begun['delta_uuid']}", {"delta_uuid": other["delta_uuid"]})
    assert told(contradicting) == (400, "InvalidRequest")
    assert told(own.client(method, f"/keys/delete?key_uuid={key_uuid}", {"key_uuid": other_key})) == (400, "InvalidRequest")
    assert keys_of(own) == [key_uuid, other_key]
    assert [own.bytes_of(each) for each in (begun, other)] == [BODY, OTHER]


@pytest.mark.parametrize("body", [None, {}, {"delta_uuid": None, "key_uuid": None}, {"delta_uuid": "", "key_uuid": ""}], ids=repr)
@pytest.mark.parametrize(("method", "path"), [("DELETE", "/deltas/delete"), ("DELETE", "/keys/delete"), ("POST", "/keys/delete")])
def test_a_deletion_has_to_name_something(internal: Vault, method: str, path: str, body: Any) -> None:
    key_uuid = internal.key()
    assert told(internal.client(method, path, body)) == (400, "InvalidRequest")
    assert keys_of(internal) == [key_uuid]


@pytest.mark.parametrize("given", [1, True, ["x"], {}], ids=repr)
def test_an_id_of_another_type_is_refused(internal: Vault, given: Any) -> None:
    assert told(internal.client("DELETE", "/deltas/delete", {"delta_uuid": given})) == (400, "InvalidRequest")
    assert told(internal.client("POST", "/keys/delete", {"key_uuid": given})) == (400, "InvalidRequest")


def test_what_is_not_known_is_not_deleted(internal: Vault) -> None:
    assert told(internal.client("DELETE", "/deltas/delete", {"delta_uuid": UNKNOWN})) == (404, "DeltaNotFound")
    assert told(delete_key(internal, UNKNOWN)) == (404, "KeyNotFound")
    assert told(delete_key(internal, UNKNOWN, "DELETE")) == (404, "KeyNotFound")


# ---- whose -----------------------------------------------------------------------------------------------------
def test_nobody_else_deletes_a_users_delta_or_key(own: Vault, tenant: Tenant, new_tenant: Any) -> None:
    ada, bob = (own.using(tenant.user(sub=each)) for each in (ADA, BOB))
    key_uuid, begun, _ = uploaded_twice(ada)
    for other in (bob, own.using(new_tenant().service)):
        assert told(other.delete(begun)) == (404, "DeltaNotFound")
        assert told(delete_key(other, key_uuid)) == (404, "KeyNotFound")
        assert told(delete_key(other, key_uuid, "DELETE")) == (404, "KeyNotFound")
    assert own.using(tenant.nobody).delete(begun).status == 401
    assert delete_key(own.using(tenant.nobody), key_uuid).status == 401
    assert ada.bytes_of(begun) == BODY
    assert ada.delete(begun).status == 200
    assert delete_key(ada, key_uuid).status == 200


# ---- afterwards ------------------------------------------------------------------------------------------------
OF_A_DELTA: Requests = {
    "confirm": lambda vault, delta: vault.client("POST", "/deltas/confirm", {"delta_uuid": delta, "upload_attempt_uuid": UNKNOWN}),
    "download": lambda vault, delta: vault.client("GET", f"/deltas/download?delta_uuid={delta}"),
    "claim": lambda vault, delta: vault.client("POST", "/deltas/claim", {"delta_uuid": delta, "start": 0, "length": 1}),
    "claims": lambda vault, delta: vault.client("GET", f"/deltas/claims?delta_uuid={delta}"),
    "release": lambda vault, delta: vault.client("DELETE", "/deltas/claim", {"delta_uuid": delta, "claim_id": UNKNOWN}),
    "delete": lambda vault, delta: vault.client("DELETE", "/deltas/delete", {"delta_uuid": delta}),
}
OF_A_KEY: Requests = {
    "upload": lambda vault, key: vault.ask(key),
    "list": lambda vault, key: vault.client("GET", f"/deltas/list?key_uuid={key}"),
    "edit": lambda vault, key: vault.client("PATCH", "/keys/edit", {"key_uuid": key, "name": "other"}),
    "check-layout": lambda vault, key: vault.client("GET", f"/keys/check-layout?key_uuid={key}"),
    "storage-limits": lambda vault, key: vault.client("GET", f"/keys/storage-limits?key_uuid={key}"),
    "migrate": lambda vault, key: vault.client("POST", "/keys/migrate", {"key_uuid": key, "storage_uuid": vault.storage_uuid or UNKNOWN}),
    "delete": lambda vault, key: vault.client("DELETE", "/keys/delete", {"key_uuid": key}),
    "delete by POST": lambda vault, key: vault.client("POST", "/keys/delete", {"key_uuid": key}),
}


def test_a_deleted_delta_is_nowhere(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    assert vault.delete(begun).status == 200
    answers = {name: told(ask(vault, begun["delta_uuid"])) for name, ask in OF_A_DELTA.items()}
    assert answers == dict.fromkeys(OF_A_DELTA, (404, "DeltaNotFound"))
    assert told(vault.confirm(begun)) == (404, "DeltaNotFound")
    assert told(vault.ask(key_uuid, delta_uuid=begun["delta_uuid"])) == (404, "DeltaNotFound")
    assert vault.listed(key_uuid) == []
    assert vault.client("GET", f"/keys/check-layout?key_uuid={key_uuid}").json()["checked_count"] == 0


def test_a_deleted_key_is_nowhere_and_neither_are_its_deltas(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    pending = vault.begin(key_uuid, OTHER)
    assert delete_key(vault, key_uuid).status == 200
    answers = {name: told(ask(vault, key_uuid)) for name, ask in OF_A_KEY.items()}
    assert answers == dict.fromkeys(OF_A_KEY, (404, "KeyNotFound"))
    for each in (begun, pending):
        answers = {name: told(ask(vault, each["delta_uuid"])) for name, ask in OF_A_DELTA.items()}
        assert answers == dict.fromkeys(OF_A_DELTA, (404, "DeltaNotFound"))
    assert keys_of(vault) == []


def test_what_comes_by_a_url_after_its_key_was_deleted_is_deleted(vault: Vault, clock: Clock) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    assert delete_key(vault, key_uuid).status == 200
    assert put(begun) == 200
    assert told(vault.confirm(begun)) == (404, "DeltaNotFound")
    clock.advance(DAY)
    clean_up()
    assert vault.lies_there(key_uuid) == []
    assert delta_row(begun) is None


# ---- many ------------------------------------------------------------------------------------------------------
def fill(vault: Vault, tenant: Tenant, number: int, objects: int = 5) -> tuple[str, list[str]]:
    """A key with so many stored deltas, and their ids; only the first and the last few have objects."""
    key_uuid = vault.key()
    now = seam.iso(seam.now())
    ids = sorted(seam.new_timed_uuid() for _ in range(number))
    attempt = {"attempt": UNKNOWN, "size": len(BODY), "md5": md5_of(BODY), "storage_id": vault.storage_uuid, "expires_at": 0}
    rows = [
        Delta(
            key_uuid,
            each,
            tenant_id=tenant.tenant_id,
            status=STORED,
            attempts=[attempt],
            attempt=UNKNOWN,
            size_bytes=len(BODY),
            content_md5=md5_of(BODY),
            created_at=now,
            confirmed_at=now,
            expires_at=0,
        )
        for each in ids
    ]
    pointers = [DeltaPointer(each, key_uuid=key_uuid) for each in ids]
    write_all([(type(row), {"PutRequest": {"Item": row.serialize()}}) for row in (*rows, *pointers)])
    counted = [VaultKey.stored.set(number), VaultKey.deltas.set(number), VaultKey.size_bytes.set(number * len(BODY))]
    key_row(tenant, key_uuid).change(counted, VaultKey.key_uuid.exists())
    for each in ids[:objects] + ids[-objects:]:
        vault.owner.put(f"{vault.prefix}{key_uuid}/{each}", BODY, "application/octet-stream")
    return key_uuid, ids


def require_gone(vault: Vault, tenant: Tenant, key_uuid: str, ids: Sequence[str], staying: Sequence[str] = ()) -> None:
    assert VaultKey.read(tenant.tenant_id, key_uuid) is None
    assert all(row.status == DELETED for row in Delta.all_of(key_uuid))  # marks of those whose URLs work still
    assert all(DeltaPointer.read(each, DeltaPointer.ITEM) is None for each in ids)
    assert keys_of(vault) == list(staying)


def test_a_key_of_many_deltas_goes_in_one_request(vault: Vault, tenant: Tenant) -> None:
    key_uuid, ids = fill(vault, tenant, 250)
    assert vault.shown(key_uuid)["delta_count"] == 250
    answer = delete_key(vault, key_uuid)
    told_ = {"key_uuid": key_uuid, "deleted_count": 250, "warning": None, "left": [], "job_id": None}
    assert (answer.status, answer.json()) == (200, told_)
    assert vault.lies_there(key_uuid) == []
    require_gone(vault, tenant, key_uuid, ids)


def test_what_a_request_cannot_finish_goes_on_by_a_job(vault: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    key_uuid, ids = fill(vault, tenant, 250)
    with monkeypatch.context() as at_once:
        at_once.setattr(key_ends, "AT_ONCE", 0.0)
        answer = delete_key(vault, key_uuid)
    assert (answer.status, answer.json()["deleted_count"]) == (202, 100)
    job_id = answer.json()["job_id"]
    assert told(vault.client("GET", f"/deltas/list?key_uuid={key_uuid}")) == (404, "KeyNotFound")  # it is gone at once
    assert told(vault.ask(key_uuid)) == (404, "KeyNotFound")
    assert told(vault.client("GET", f"/deltas/download?delta_uuid={ids[-1]}")) == (404, "DeltaNotFound")
    assert keys_of(vault) == []
    run_job(job_id)
    shown = vault.client("GET", f"/jobs/{job_id}").json()
    assert {name: shown[name] for name in ("kind", "status", "done", "total", "error")} == {
        "kind": "key.delete",
        "status": "done",
        "done": 250,
        "total": 250,
        "error": None,
    }
    assert vault.lies_there(key_uuid) == []
    require_gone(vault, tenant, key_uuid, ids)


def test_asking_again_while_the_job_is_under_way_goes_on_with_it(own: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    key_uuid, ids = fill(own, tenant, 250)
    with monkeypatch.context() as at_once:
        at_once.setattr(key_ends, "AT_ONCE", 0.0)
        first = delete_key(own, key_uuid).json()
        second = delete_key(own, key_uuid, "DELETE").json()
    assert (first["deleted_count"], second["deleted_count"]) == (100, 200)
    assert first["job_id"] == second["job_id"]
    last = delete_key(own, key_uuid)
    assert (last.status, last.json()["deleted_count"], last.json()["job_id"]) == (200, 250, None)
    assert own.lies_there(key_uuid) == []
    require_gone(own, tenant, key_uuid, ids)


def test_a_storage_stays_in_use_until_the_job_of_its_last_key_is_done(own: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what it deletes by would be gone under it."""
    key_uuid, _ = fill(own, tenant, 150)
    monkeypatch.setattr(key_ends, "AT_ONCE", 0.0)
    job_id = delete_key(own, key_uuid).json()["job_id"]
    remove = {"storage_uuid": own.storage_uuid}
    assert told(own.client("DELETE", "/storages/delete", remove)) == (409, "StorageInUse")
    run_job(job_id)
    assert own.lies_there(key_uuid) == []
    assert own.client("DELETE", "/storages/delete", remove).status == 200


def test_a_job_tells_what_the_storage_has_kept(no_delete: NoDelete, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, _ = no_delete
    key_uuid, ids = fill(vault, tenant, 250)
    with monkeypatch.context() as at_once:
        at_once.setattr(key_ends, "AT_ONCE", 0.0)
        answer = delete_key(vault, key_uuid).json()
    assert sorted(answer["left"]) == [f"{vault.prefix}{key_uuid}/{each}" for each in ids[:100]]
    run_job(answer["job_id"])
    shown = vault.client("GET", f"/jobs/{answer['job_id']}").json()
    assert (shown["status"], shown["done"]) == ("done", 250)
    assert "did not delete 250 object" in shown["error"]
    require_gone(vault, tenant, key_uuid, ids)


def test_of_very_many_that_the_storage_keeps_the_number_is_told_and_the_first_thousand(no_delete: NoDelete, tenant: Tenant) -> None:
    vault, _ = no_delete
    key_uuid, ids = fill(vault, tenant, 1050, objects=1)
    answer = delete_key(vault, key_uuid)
    assert (answer.status, answer.json()["deleted_count"]) == (200, 1050)
    assert sorted(answer.json()["left"]) == [f"{vault.prefix}{key_uuid}/{each}" for each in ids[:1000]]
    assert "1050 object" in answer.json()["warning"]
    require_gone(vault, tenant, key_uuid, ids)


def test_however_long_the_names_of_what_is_kept_are_the_key_goes(
    no_delete: NoDelete, tenant: Tenant, brought: Callable[..., Vault]
) -> None:
    """Seed 000 permits a remote_path of 1024 characters, and a row of DynamoDB has 400 KB (AWS limit)."""
    _, server = no_delete
    vault = brought(server.endpoint, remote_path="/".join(["x" * 89] * 10))
    key_uuid, ids = fill(vault, tenant, 600, objects=1)
    answer = delete_key(vault, key_uuid)
    assert (answer.status, answer.json()["deleted_count"], answer.json()["job_id"]) == (200, 600, None)
    assert vault.at({"key_uuid": key_uuid, "delta_uuid": ids[0]}) in answer.json()["left"]
    assert "600 object" in answer.json()["warning"]
    require_gone(vault, tenant, key_uuid, ids)


def test_a_deletion_whose_job_has_failed_is_begun_anew_when_it_is_asked_for_again(
    own: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_uuid = own.key()
    own.upload(key_uuid)

    def broken(_: Any) -> Any:
        raise RuntimeError("whatever it was")

    with monkeypatch.context() as context:
        context.setattr(key_ends.deltas, "mark_of", broken)
        answer = delete_key(own, key_uuid)
        assert answer.status == 202
        job_id = answer.json()["job_id"]
        while own.client("GET", f"/jobs/{job_id}").json()["status"] != "failed":
            run_job(job_id)
    answer = delete_key(own, key_uuid)
    assert (answer.status, answer.json()["deleted_count"]) == (200, 1)
    assert own.client("GET", "/storages/list").json()[0]["key_count"] == 0
