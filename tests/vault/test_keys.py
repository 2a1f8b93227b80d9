"""The vault's keys: made, listed, edited, pointed elsewhere, by whom (FEATURES F1.14 to F1.16, F2.3, F3.14, F3.17, F3.19).

And seed 000 "Operational Consequences", sentence by sentence: the words that a test is of stand above it.
"""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib.access.principals import Permission, Role
from chalicelib.core import keeping, key_ends, keys, tenants
from chalicelib.providers.s3 import S3
from chalicelib.surfaces.vault.routes import SURFACE
from chalicelib.tables.storages import Storage
from infra import stack
from tests.client import Answer, Client, together
from tests.conftest import Call, Tenant, run_job
from tests.storages.conftest import Fields, created, fields_of  # noqa: F401  a fixture
from tests.storages.scripted_s3 import scripted_s3
from tests.vault.conftest import (
    ADA,
    BOB,
    BODY,
    S3_HOST,
    UNKNOWN,
    Begun,
    Vault,
    delta_row,
    key_row,
    md5_of,
    put,
    rows_of,
    send,
    told,
)

SHOWN = {
    "key_uuid", "name", "storage_uuid", "user_uuid", "delta_count", "size_bytes", "job_id", "warning", "created_at", "updated_at",
}  # fmt: skip
GOOD_NAMES = ["a", "n" * 255, "🗝" * 255, " a b ", "../x", "ключ / 鍵", "{}", "null", "A.b_c-9", "'; --"]
BAD_NAMES = [
    "", " ", "   ", "\u00a0", "\u3000", "\t", "\n",
    "n" * 256, "🗝" * 256, "a\n", "\na", "a\tb", "a\0", "\0", "a\x1f", "a\x7f", "a\x85", "a\u2028b",
]  # fmt: skip
NO_TEXTS: list[Any] = [5, 1.5, True, [], ["a"], {}]
NO_IDS: list[Any] = [
    "", " ", "x", UNKNOWN.replace("-", ""), "{" + UNKNOWN + "}", f"urn:uuid:{UNKNOWN}", UNKNOWN[:-1], UNKNOWN + "0", UNKNOWN + "\n",
    f" {UNKNOWN}",    UNKNOWN[:-1] + "g", "a" * 65, UNKNOWN + "/../" + UNKNOWN, UNKNOWN.replace("-", "_"), "\0", "é" * 36,
]  # fmt: skip


def _short(value: Any) -> str:
    return repr(value)[:24]


def create(client: Client, name: Any = "laptop", **fields: Any) -> Answer:
    return client("POST", "/keys/create", {"name": name, **fields})


def edit(client: Client, key_uuid: str, **fields: Any) -> Answer:
    return client("PATCH", "/keys/edit", {"key_uuid": key_uuid, **fields})


def listed(client: Client, query: str = "") -> list[dict[str, Any]]:
    answer = client("GET", f"/keys/list{query}")
    assert answer.status == 200, answer.body
    rows: list[dict[str, Any]] = answer.json()
    return rows


def check(vault: Vault, key_uuid: str) -> dict[str, Any]:
    answer = vault.client("GET", f"/keys/check-layout?key_uuid={key_uuid}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def key_count(tenant: Tenant, storage_uuid: str | None) -> int:
    """What the storage itself says of how many keys refer to it."""
    (found,) = [each for each in tenant.service("GET", "/storages/list").json() if each["storage_uuid"] == storage_uuid]
    return int(found["key_count"])


def of_s3(calls: list[Call]) -> list[str]:
    return [call.operation for call in calls if call.service == "s3"]


# ---- create ----------------------------------------------------------------------------------------------------
def test_f3_19_a_key_is_made_where_it_is_asked_for_and_told_by_specific_names(vault: Vault, tenant: Tenant) -> None:
    answer = create(vault.client, **({"storage_uuid": vault.storage_uuid} if vault.storage_uuid else {}))
    made = answer.json()
    assert (answer.status, made.keys()) == (201, SHOWN)
    told_of = {name: made[name] for name in SHOWN - {"key_uuid", "created_at", "updated_at"}}
    assert told_of == {
        "name": "laptop",
        "storage_uuid": vault.storage_uuid,
        "user_uuid": None,
        "delta_count": 0,
        "size_bytes": 0,
        "job_id": None,
        "warning": None,
    }
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made["key_uuid"])
    assert made["created_at"] == made["updated_at"]
    assert listed(vault.client) == [made]
    if vault.storage_uuid:
        assert key_count(tenant, vault.storage_uuid) == 1


def test_a_storage_that_is_null_is_the_internal_one(internal: Vault) -> None:
    assert create(internal.client, storage_uuid=None).json()["storage_uuid"] is None


def test_a_key_shows_whose_it_is(tenant: Tenant, internal: Vault) -> None:
    assert create(tenant.user(sub=ADA)).json()["user_uuid"] == ADA
    assert create(tenant.user(sub=ADA.upper())).json()["user_uuid"] == ADA
    named = str(uuid.uuid5(uuid.UUID(tenant.tenant_id), "ada"))
    assert create(tenant.user(sub="ada")).json()["user_uuid"] == named


def test_a_user_needs_no_right_on_storages_to_make_a_key_on_one(tenant: Tenant, own: Vault) -> None:
    assert create(tenant.user(sub=ADA), storage_uuid=own.storage_uuid).json()["storage_uuid"] == own.storage_uuid
    assert key_count(tenant, own.storage_uuid) == 1


@pytest.mark.parametrize("name", GOOD_NAMES, ids=_short)
def test_a_name_of_1_to_255_characters_is_taken_and_shown_as_it_is(internal: Vault, name: str) -> None:
    made = create(internal.client, name)
    assert (made.status, made.json()["name"]) == (201, name)
    assert edit(internal.client, internal.key(), name=name).json()["name"] == name


@given(name=st.text(st.characters(categories=["L", "M", "N", "P", "S"]), min_size=1, max_size=255))
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_can_be_printed_is_a_name(internal: Vault, name: str) -> None:
    made = create(internal.client, name).json()
    assert made["name"] == name
    assert key_name(internal, made["key_uuid"]) == name


def key_name(vault: Vault, key_uuid: str) -> str:
    return str(vault.shown(key_uuid)["name"])


@pytest.mark.parametrize("name", [*BAD_NAMES, *NO_TEXTS, None], ids=_short)
def test_any_other_name_is_400_and_nothing_is_made(internal: Vault, tenant: Tenant, name: Any) -> None:
    answer = create(internal.client, name)
    assert told(answer) == (400, "InvalidRequest")
    assert "name" in answer.json()["message"]
    assert rows_of(tenant) == []


def test_a_name_may_be_given_twice(internal: Vault) -> None:
    made = [internal.key("same"), internal.key("same")]
    assert [row["key_uuid"] for row in listed(internal.client)] == made


@pytest.mark.parametrize("value", [*NO_IDS, *NO_TEXTS], ids=_short)
def test_f2_3_a_storage_named_otherwise_than_by_a_hyphenated_uuid_is_400(internal: Vault, tenant: Tenant, value: Any) -> None:
    answer = create(internal.client, storage_uuid=value)
    assert told(answer) == (400, "InvalidRequest")
    assert "storage_uuid" in answer.json()["message"]
    assert rows_of(tenant) == []


def test_f2_3_a_storage_may_be_named_in_upper_case(own: Vault) -> None:
    made = create(own.client, storage_uuid=str(own.storage_uuid).upper())
    assert (made.status, made.json()["storage_uuid"]) == (201, own.storage_uuid)


def test_a_storage_that_is_not_there_or_is_another_tenants_is_404(tenant: Tenant, own: Vault, new_tenant: Any) -> None:
    other: Tenant = new_tenant("other")
    for client, storage_uuid in ((own.client, UNKNOWN), (other.service, own.storage_uuid), (other.user(sub=ADA), own.storage_uuid)):
        assert told(create(client, storage_uuid=storage_uuid)) == (404, "StorageNotFound")
    assert rows_of(tenant) == rows_of(other) == []
    assert key_count(tenant, own.storage_uuid) == 0


def test_a_storage_that_was_deleted_is_404(own: Vault) -> None:
    assert own.client("DELETE", "/storages/delete", {"storage_uuid": own.storage_uuid}).status == 200
    assert told(create(own.client, storage_uuid=own.storage_uuid)) == (404, "StorageNotFound")


@pytest.mark.parametrize("kind", ["filesystem", "sftp", "ftp"])
def test_a_storage_that_hands_out_no_urls_takes_no_keys(
    tenant: Tenant,
    internal: Vault,
    fields_of: Callable[[str], Fields],  # noqa: F811
    kind: str,
) -> None:
    storage_uuid, pointed = created(tenant, fields_of(kind)), internal.key()
    before = rows_of(tenant)
    for answer in (create(internal.client, storage_uuid=storage_uuid), edit(internal.client, pointed, storage_uuid=storage_uuid)):
        assert told(answer) == (409, "CannotPresign")
        assert "S3" in answer.json()["message"]
    assert rows_of(tenant) == before
    assert Storage.read(tenant.tenant_id, storage_uuid).keys == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["strict_s3", "azure"])
def test_a_storage_of_the_backups_surface_takes_keys_when_it_hands_out_urls(
    tenant: Tenant,
    internal: Vault,
    fields_of: Callable[[str], Fields],  # noqa: F811
    kind: str,
) -> None:
    storage_uuid = created(tenant, fields_of(kind))
    made = create(internal.client, storage_uuid=storage_uuid)
    assert (made.status, made.json()["storage_uuid"]) == (201, storage_uuid)
    assert Storage.read(tenant.tenant_id, storage_uuid).keys == 1  # type: ignore[union-attr]
    begun = internal.begin(made.json()["key_uuid"])
    assert put(begun) in (200, 201)
    assert internal.confirm(begun).status == 200
    assert internal.bytes_of(begun) == BODY


def test_an_internal_storage_of_files_takes_no_keys(internal: Vault, tenant: Tenant, request: pytest.FixtureRequest) -> None:
    made_before = internal.key()
    stored = internal.upload(made_before)
    request.getfixturevalue("on_filesystem")
    before = rows_of(tenant)
    assert told(create(internal.client)) == (409, "CannotPresign")
    assert told(internal.ask(made_before)) == (409, "CannotPresign")
    assert told(internal.download(stored)) == (409, "CannotPresign")
    assert rows_of(tenant) == before


def test_a_storage_of_ones_own_serves_also_where_the_internal_one_is_of_files(own: Vault, on_filesystem: Path) -> None:
    key_uuid = own.key()
    assert own.bytes_of(own.upload(key_uuid)) == BODY


def test_a_user_has_so_many_keys_and_no_more(internal: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys.MAX_KEYS_OF_USER == 100
    monkeypatch.setattr(keys, "MAX_KEYS_OF_USER", 3)
    ada = internal.using(tenant.user(sub=ADA))
    made = [ada.key(f"n{number}") for number in range(3)]
    before = rows_of(tenant)
    refused = create(ada.client)
    assert told(refused) == (400, "InvalidRequest")
    assert "3 keys" in refused.json()["message"]
    assert rows_of(tenant) == before
    assert create(tenant.user(sub=BOB)).status == 201
    assert [create(tenant.service).status for _ in range(4)] == [201] * 4
    assert ada.client("DELETE", "/keys/delete", {"key_uuid": made[0]}).status == 200
    assert create(ada.client).status == 201
    assert told(create(ada.client)) == (400, "InvalidRequest")


def test_however_many_make_keys_on_a_storage_at_once_it_counts_each(own: Vault, tenant: Tenant) -> None:
    answers = together([lambda: create(own.client, storage_uuid=own.storage_uuid)] * 12)
    made = sum(answer.status == 201 for answer in answers)
    assert {answer.status for answer in answers} <= {201, 503}
    assert made >= 1
    assert key_count(tenant, own.storage_uuid) == len(listed(own.client)) == made


# ---- list ------------------------------------------------------------------------------------------------------
@pytest.fixture(params=["service", "user"])
def five(request: pytest.FixtureRequest, internal: Vault, tenant: Tenant) -> tuple[Client, list[str]]:
    """Whoever has five keys, and these, oldest first; somebody else's were made in between."""
    client = tenant.service if request.param == "service" else tenant.user(sub=ADA)
    made = []
    for number in range(5):
        made.append(internal.using(client).key(f"n{number}"))
        if request.param == "user":
            internal.using(tenant.user(sub=BOB)).key("not hers")
    return client, made


def test_a_tenant_without_keys_lists_none(tenant: Tenant) -> None:
    for client in (tenant.service, tenant.user(sub=ADA)):
        answer = client("GET", "/keys/list")
        assert (answer.status, answer.json(), answer.headers.get("x-next-cursor")) == (200, [], None)


def test_keys_are_listed_oldest_first(five: tuple[Client, list[str]]) -> None:
    client, made = five
    rows = listed(client)
    assert [row["key_uuid"] for row in rows] == made
    assert [row["name"] for row in rows] == [f"n{number}" for number in range(5)]
    assert all(row.keys() == SHOWN for row in rows)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 1000])
def test_pages_of_any_length_show_each_key_once(five: tuple[Client, list[str]], limit: int) -> None:
    client, made = five
    found: list[str] = []
    query, pages = f"?limit={limit}", 0
    while query:
        answer = client("GET", f"/keys/list{query}")
        rows = [row["key_uuid"] for row in answer.json()]
        found, pages = found + rows, pages + 1
        cursor = answer.headers.get("x-next-cursor")
        assert (len(rows) == limit) if cursor else (len(rows) <= limit)
        query = f"?limit={limit}&cursor={cursor}" if cursor else ""
    assert (found, pages) == (made, -(-5 // limit))


def test_a_page_goes_on_after_a_key_that_was_deleted_meanwhile(five: tuple[Client, list[str]]) -> None:
    client, made = five
    cursor = client("GET", "/keys/list?limit=2").headers["x-next-cursor"]
    for gone in made[1:3]:
        assert client("DELETE", f"/keys/delete?key_uuid={gone}").status == 200
    assert [row["key_uuid"] for row in listed(client, f"?limit=2&cursor={cursor}")] == made[3:]
    assert [row["key_uuid"] for row in listed(client)] == [made[0], *made[3:]]


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "9" * 30, "1.5", "x", "", "1e2", "%20"])
def test_a_limit_that_is_none_is_400(tenant: Tenant, limit: str) -> None:
    for client in (tenant.service, tenant.user(sub=ADA)):
        answer = client("GET", f"/keys/list?limit={limit}")
        assert told(answer) == (400, "InvalidRequest")
        assert "limit" in answer.json()["message"]


@pytest.mark.parametrize("cursor", ["x", "", "0", UNKNOWN.replace("-", ""), UNKNOWN + "0", "%00", "{}"])
def test_a_cursor_that_no_page_gave_is_400(tenant: Tenant, cursor: str) -> None:
    for client in (tenant.service, tenant.user(sub=ADA)):
        assert told(client("GET", f"/keys/list?cursor={cursor}")) == (400, "InvalidCursor")


# ---- edit ------------------------------------------------------------------------------------------------------
def test_a_new_name_changes_nothing_else_and_asks_no_storage(vault: Vault, tenant: Tenant, calls: list[Call]) -> None:
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    before, shown = key_row(tenant, key_uuid).attribute_values, vault.shown(key_uuid)
    assert of_s3(calls)  # so that none below means something
    calls.clear()
    answer = edit(vault.client, key_uuid, name="desk")
    assert answer.status == 200
    assert answer.json() == shown | {"name": "desk", "updated_at": answer.json()["updated_at"]}
    assert answer.json()["updated_at"] > shown["updated_at"]
    assert of_s3(calls) == []
    changed = ("name", "updated_at")
    after = key_row(tenant, key_uuid).attribute_values
    assert {name: after[name] for name in after if name not in changed} == {name: before[name] for name in before if name not in changed}
    assert vault.shown(key_uuid) == answer.json()
    assert vault.bytes_of(begun) == BODY


def test_an_edit_of_nothing_changes_nothing(vault: Vault) -> None:
    key_uuid = vault.key()
    before = vault.shown(key_uuid)
    for fields in ({}, {"name": None}, {"name": "laptop"}):
        answer = edit(vault.client, key_uuid, **fields)
        assert answer.status == 200
        assert answer.json() | {"updated_at": ""} == before | {"updated_at": ""}


@pytest.mark.parametrize("name", [*BAD_NAMES, *NO_TEXTS], ids=_short)
def test_a_name_that_is_none_changes_nothing(own: Vault, tenant: Tenant, name: Any) -> None:
    key_uuid = own.key()
    before = rows_of(tenant)
    for fields in ({"name": name}, {"name": name, "storage_uuid": own.storage_uuid}):
        answer = edit(own.client, key_uuid, **fields)
        assert told(answer) == (400, "InvalidRequest")
        assert "name" in answer.json()["message"]
    assert rows_of(tenant) == before


def test_f3_17_a_key_does_not_go_back_to_internal_storage(vault: Vault, tenant: Tenant) -> None:
    """Seed: "PATCH /keys/edit does not support moving a key back to internal storage." """
    key_uuid = vault.key()
    vault.upload(key_uuid)
    before = rows_of(tenant)
    for fields in ({"storage_uuid": None}, {"storage_uuid": None, "name": "desk"}):
        answer = edit(vault.client, key_uuid, **fields)
        assert told(answer) == (400, "InvalidRequest")
        message = answer.json()["message"]
        assert "storage_uuid" in message
        assert "internal storage" in message
        assert "name a storage, or leave the field out" in message
    assert rows_of(tenant) == before


@pytest.mark.parametrize("starts", ["internal", "own"])
def test_f3_17_pointing_a_key_elsewhere_moves_nothing_counts_at_once_and_warns(
    request: pytest.FixtureRequest, brought: Callable[..., Vault], tenant: Tenant, calls: list[Call], starts: str
) -> None:
    vault: Vault = request.getfixturevalue(starts)
    other = brought()
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    calls.clear()
    answer = edit(vault.client, key_uuid, storage_uuid=other.storage_uuid)
    assert answer.status == 200
    assert of_s3(calls) == []
    shown = answer.json()
    assert (shown["storage_uuid"], shown["delta_count"], shown["size_bytes"]) == (other.storage_uuid, 1, len(BODY))
    assert "not moved" in shown["warning"]
    assert "check-layout" in shown["warning"]
    assert (vault.lies_there(key_uuid), other.lies_there(key_uuid)) == ([vault.at(begun)], [])
    assert key_count(tenant, other.storage_uuid) == 1
    if vault.storage_uuid:
        assert key_count(tenant, vault.storage_uuid) == 0
    assert told(other.download(begun)) == (404, "DeltaMissing")
    new = other.upload(key_uuid)
    assert (other.lies_there(key_uuid), other.bytes_of(new)) == ([other.at(new)], BODY)


def test_pointing_a_key_without_deltas_elsewhere_warns_of_nothing(internal: Vault, own: Vault) -> None:
    empty, begun = internal.key(), internal.key()
    internal.begin(begun)  # what is not stored is no delta yet
    for key_uuid in (empty, begun):
        assert edit(internal.client, key_uuid, storage_uuid=own.storage_uuid).json()["warning"] is None


def test_a_key_gets_a_name_and_a_storage_at_once(internal: Vault, own: Vault) -> None:
    key_uuid = internal.key()
    shown = edit(internal.client, key_uuid.upper(), storage_uuid=str(own.storage_uuid).upper(), name="desk").json()
    assert (shown["key_uuid"], shown["storage_uuid"], shown["name"]) == (key_uuid, own.storage_uuid, "desk")


def test_pointing_a_key_to_where_it_points_changes_nothing(own: Vault, tenant: Tenant) -> None:
    key_uuid = own.key()
    begun = own.upload(key_uuid)
    before = own.shown(key_uuid)
    for _ in range(3):
        shown = edit(own.client, key_uuid, storage_uuid=own.storage_uuid).json()
        assert shown | {"updated_at": ""} == before | {"updated_at": ""}
    assert key_count(tenant, own.storage_uuid) == 1
    assert own.bytes_of(begun) == BODY


def test_pointing_a_key_to_a_storage_that_is_not_there_or_not_the_tenants_is_404(vault: Vault, tenant: Tenant, new_tenant: Any) -> None:
    other: Tenant = new_tenant("other")
    theirs = created(other, {"name": "theirs", "provider": "filesystem", "bucket": "x"}) if vault.storage_uuid else UNKNOWN
    key_uuid = vault.key()
    before = rows_of(tenant)
    for storage_uuid in (UNKNOWN, theirs):
        assert told(edit(vault.client, key_uuid, storage_uuid=storage_uuid, name="desk")) == (404, "StorageNotFound")
    assert rows_of(tenant) == before


def test_a_key_that_a_job_moves_is_not_pointed_elsewhere_meanwhile(internal: Vault, brought: Callable[..., Vault], tenant: Tenant) -> None:
    one, two = brought(), brought()
    key_uuid = internal.key()
    moving = internal.client("POST", "/keys/migrate", {"key_uuid": key_uuid, "storage_uuid": one.storage_uuid}).json()
    for storage_uuid in (one.storage_uuid, two.storage_uuid):
        refused = edit(internal.client, key_uuid, storage_uuid=storage_uuid)
        assert told(refused) == (409, "KeyBusy")
        assert refused.json()["details"]["job_id"] == moving["job_id"] == internal.shown(key_uuid)["job_id"]
    assert (key_count(tenant, one.storage_uuid), key_count(tenant, two.storage_uuid)) == (1, 0)
    assert edit(internal.client, key_uuid, name="desk").json()["name"] == "desk"


def test_however_many_point_a_key_elsewhere_at_once_one_storage_counts_it(brought: Callable[..., Vault], tenant: Tenant) -> None:
    places = [brought(), brought(), brought()]
    key_uuid = places[0].key()

    def point(to: Vault) -> Callable[[], Answer]:
        return lambda: edit(to.client, key_uuid, storage_uuid=to.storage_uuid)

    answers = together([point(places[number % 3]) for number in range(9)])
    assert {answer.status for answer in answers} <= {200, 503}
    assert any(answer.status == 200 for answer in answers)
    points_to = places[0].shown(key_uuid)["storage_uuid"]
    assert [key_count(tenant, each.storage_uuid) for each in places] == [int(each.storage_uuid == points_to) for each in places]


def test_an_attempt_that_was_begun_before_the_key_was_pointed_elsewhere_is_not_taken(internal: Vault, own: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid)
    assert put(begun) == 200
    edit(internal.client, key_uuid, storage_uuid=own.storage_uuid)
    assert told(internal.confirm(begun)) == (409, "AttemptMismatch")
    assert internal.holds(begun)
    again = own.begin(key_uuid, delta_uuid=begun["delta_uuid"])
    assert put(again) == 200
    assert own.confirm(again).status == 200
    assert own.bytes_of(again) == BODY


# ---- delete ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("named", ["body", "query", "both"])
def test_f3_14_a_key_is_deleted_with_its_deltas_by_either_method(vault: Vault, tenant: Tenant, method: str, named: str) -> None:
    key_uuid, other = vault.key(), vault.key("other")
    begun, kept = [vault.upload(key_uuid), vault.upload(key_uuid)], vault.upload(other)
    query = "" if named == "body" else f"?key_uuid={key_uuid.upper() if named == 'both' else key_uuid}"
    answer = vault.client(method, f"/keys/delete{query}", None if named == "query" else {"key_uuid": key_uuid})
    assert answer.status == 200, answer.body
    assert answer.json() == {"key_uuid": key_uuid, "deleted_count": 2, "warning": None, "left": [], "job_id": None}
    assert vault.lies_there(key_uuid) == []
    assert [row["key_uuid"] for row in listed(vault.client)] == [other]
    assert vault.bytes_of(kept) == BODY
    if vault.storage_uuid:
        assert key_count(tenant, vault.storage_uuid) == 1
    for gone in (
        vault.client(method, "/keys/delete", {"key_uuid": key_uuid}),
        edit(vault.client, key_uuid, name="x"),
        vault.ask(key_uuid),
        vault.client("GET", f"/deltas/list?key_uuid={key_uuid}"),
        vault.client("GET", f"/keys/storage-limits?key_uuid={key_uuid}"),
        vault.client("GET", f"/keys/check-layout?key_uuid={key_uuid}"),
    ):
        assert told(gone) == (404, "KeyNotFound")
    for answer in (vault.download(begun[0]), vault.delete(begun[0]), vault.confirm(begun[1])):
        assert told(answer) == (404, "DeltaNotFound")


def test_body_and_query_that_name_different_keys_are_400(internal: Vault, tenant: Tenant) -> None:
    one, two = internal.key(), internal.key()
    for method in ("POST", "DELETE"):
        assert told(internal.client(method, f"/keys/delete?key_uuid={one}", {"key_uuid": two})) == (400, "InvalidRequest")
        assert told(internal.client(method, "/keys/delete", {})) == (400, "InvalidRequest")
        assert told(internal.client(method, "/keys/delete")) == (400, "InvalidRequest")
    assert [row["key_uuid"] for row in listed(internal.client)] == [one, two]


def test_a_key_whose_deletion_a_job_goes_on_with_is_gone_at_once(own: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the storage is not let go before all that lies in it was seen to."""
    monkeypatch.setattr(key_ends, "AT_ONCE", 0)
    monkeypatch.setattr(key_ends, "BATCH", 1)
    key_uuid = own.key()
    *_, begun = [own.upload(key_uuid) for _ in range(4)]
    answer = own.client("DELETE", "/keys/delete", {"key_uuid": key_uuid})
    job_id = answer.json()["job_id"]
    assert (answer.status, answer.json()["deleted_count"], own.holds(begun)) == (202, 1, True)
    again = own.client("DELETE", "/keys/delete", {"key_uuid": key_uuid})
    assert (again.status, again.json()["job_id"], own.holds(begun)) == (202, job_id, True)
    assert listed(own.client) == []
    for gone in (
        edit(own.client, key_uuid, name="x"),
        own.ask(key_uuid),
        own.client("GET", f"/deltas/list?key_uuid={key_uuid}"),
        own.client("GET", f"/keys/check-layout?key_uuid={key_uuid}"),
        own.client("POST", "/keys/migrate", {"key_uuid": key_uuid, "storage_uuid": own.storage_uuid}),
    ):
        assert told(gone) == (404, "KeyNotFound")
    for gone in (own.download(begun), own.delete(begun), own.confirm(begun)):
        assert told(gone) == (404, "DeltaNotFound")
    assert told(drop(own)) == (409, "StorageInUse")
    run_job(job_id)
    assert own.client("GET", f"/jobs/{job_id}").json()["status"] == "done"
    assert (own.lies_there(key_uuid), key_count(tenant, own.storage_uuid)) == ([], 0)
    assert told(own.client("DELETE", "/keys/delete", {"key_uuid": key_uuid})) == (404, "KeyNotFound")
    assert drop(own).status == 200


# ---- seed "Editing Storage Settings" ---------------------------------------------------------------------------
def beside(vault: Vault) -> S3:
    """A new bucket on the same server, as its owner reaches it."""
    of = vault.owner
    made = S3(
        f"own-{uuid.uuid4().hex[:12]}", region="us-east-1", endpoint=of._endpoint, access_key=of._access_key, secret_key=of._secret_key
    )
    made._call("CreateBucket")
    return made


def repoint(vault: Vault, **changes: Any) -> Answer:
    return vault.client("PATCH", "/storages/edit", {"storage_uuid": vault.storage_uuid, **changes})


def another_path(vault: Vault) -> Vault:
    assert repoint(vault, remote_path="team//prod/").status == 200
    return replace(vault, folder="team/prod/")


def no_path(vault: Vault) -> Vault:
    assert repoint(vault, remote_path=None).status == 200
    return replace(vault, folder="")


def another_bucket(vault: Vault) -> Vault:
    bucket = beside(vault)
    assert repoint(vault, bucket_name=bucket.bucket).status == 200
    return replace(vault, owner=bucket)


def another_bucket_and_path(vault: Vault) -> Vault:
    bucket = beside(vault)
    assert repoint(vault, bucket_name=bucket.bucket, remote_path="new").status == 200
    return replace(vault, owner=bucket, folder="new/")


ELSEWHERE = [another_path, no_path, another_bucket, another_bucket_and_path]


def copy(begun: Begun, source: Vault, target: Vault) -> None:
    """What the seed has a user do by hand."""
    whole = {"Bucket": source.owner.bucket, "Key": source.at(begun)}
    target.owner._call("CopyObject", Key=target.at(begun), CopySource=whole)


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_f1_14_a_storage_pointed_elsewhere_takes_effect_at_once_and_moves_no_object(
    byos: Vault, tenant: Tenant, elsewhere: Callable[[Vault], Vault]
) -> None:
    """Seed: "Changing provider, bucket_name, region, endpoint_url, or remote_path takes effect immediately after the edit is
    committed. OmegaSafe does not move existing Delta objects between buckets or prefixes for you." """
    key_uuid = byos.key()
    begun = byos.upload(key_uuid)
    moved = elsewhere(byos)
    assert (byos.lies_there(key_uuid), moved.lies_there(key_uuid)) == ([byos.at(begun)], [])
    assert (key_count(tenant, byos.storage_uuid), moved.shown(key_uuid)["delta_count"]) == (1, 1)
    new = moved.upload(key_uuid)
    assert new["object_key"] == moved.at(new)
    assert (byos.lies_there(key_uuid), moved.lies_there(key_uuid)) == ([byos.at(begun)], [moved.at(new)])
    assert moved.bytes_of(new) == BODY


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_f1_14_what_is_not_at_the_new_place_fails_cleanly_until_its_owner_copies_it(
    byos: Vault, elsewhere: Callable[[Vault], Vault]
) -> None:
    """Seed: "If you repoint a storage that is already attached to keys with existing Deltas, those files must already exist at the
    new effective object location or later download and delete flows will fail." """
    key_uuid = byos.key()
    first, second = byos.upload(key_uuid), byos.upload(key_uuid, b"another delta")
    assert check(byos, key_uuid) == {
        "key_uuid": key_uuid,
        "storage_uuid": byos.storage_uuid,
        "checked_count": 2,
        "missing": [],
        "differing": [],
    }
    moved = elsewhere(byos)
    for begun in (first, second):
        refused = moved.download(begun)
        assert told(refused) == (404, "DeltaMissing")
        assert moved.at(begun) in refused.json()["message"]
    missing = [{"delta_uuid": begun["delta_uuid"], "object_key": moved.at(begun)} for begun in (first, second)]
    found = check(moved, key_uuid)
    assert (found["checked_count"], found["missing"], found["differing"]) == (2, missing, [])
    copy(first, byos, moved)
    assert check(moved, key_uuid)["missing"] == missing[1:]
    assert moved.bytes_of(first) == BODY
    copy(second, byos, moved)
    assert check(moved, key_uuid)["missing"] == []
    assert (moved.bytes_of(first), moved.bytes_of(second)) == (BODY, b"another delta")
    assert [row["object_key"] for row in moved.listed(key_uuid)] == [moved.at(first), moved.at(second)]
    assert moved.confirm(first).status == 200
    assert moved.client("POST", "/deltas/claim", {"delta_uuid": first["delta_uuid"], "start": 0, "length": 1}).status == 201
    assert moved.delete(second).json()["warning"] is None
    assert (moved.lies_there(key_uuid), byos.lies_there(key_uuid)) == ([moved.at(first)], sorted(map(byos.at, (first, second))))


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_f1_14_deleting_a_delta_that_is_not_at_the_new_place_tells_where_it_was_looked_for(
    byos: Vault, elsewhere: Callable[[Vault], Vault]
) -> None:
    key_uuid = byos.key()
    begun = byos.upload(key_uuid)
    moved = elsewhere(byos)
    answer = moved.delete(begun)
    assert answer.status == 200
    assert moved.at(begun) in answer.json()["warning"]
    assert byos.holds(begun)
    assert moved.listed(key_uuid) == []
    assert told(moved.delete(begun)) == (404, "DeltaNotFound")


def test_f1_14_a_storage_that_another_function_has_pointed_elsewhere_is_seen_there_at_once(
    byos: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has used a storage remembers it for a minute, and is not told of the edit."""
    key_uuid = byos.key()
    begun = byos.upload(key_uuid)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(keeping, "changed", lambda *_: None)
        moved = another_path(byos)
    assert told(moved.download(begun)) == (404, "DeltaMissing")
    assert len(check(moved, key_uuid)["missing"]) == 1
    new = moved.upload(key_uuid)
    assert moved.lies_there(key_uuid) == [moved.at(new)]
    assert moved.listed(key_uuid)[0]["object_key"] == moved.at(begun)
    moved.delete(begun)
    assert byos.holds(begun)


R2_HOST = "0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com"
S3_IN_EUROPE = "s3.eu-west-1.amazonaws.com"


@pytest.fixture
def standing_in(
    embedded: stack.EmbeddedAWS, monkeypatch: pytest.MonkeyPatch, settings_again: Callable[[], None]
) -> Callable[[dict[str, str]], None]:
    """Has servers stand in for hosts, the embedded AWS for S3 in two regions."""

    def put_there(others: dict[str, str]) -> None:
        servers = {S3_HOST: embedded.endpoint, S3_IN_EUROPE: embedded.endpoint} | others
        monkeypatch.setenv("STOWAGE_ENDPOINT_OVERRIDES", ",".join(f"{host}={url}" for host, url in servers.items()))
        settings_again()

    return put_there


def test_f1_14_a_change_of_region_takes_effect_at_once(own: Vault, standing_in: Callable[[dict[str, str]], None]) -> None:
    standing_in({})
    key_uuid = own.key()
    begun = own.upload(key_uuid)
    of, bucket = own.owner, f"own-{uuid.uuid4().hex[:12]}"
    owner = S3(bucket, region="eu-west-1", endpoint=of._endpoint, access_key=of._access_key, secret_key=of._secret_key)
    owner._call("CreateBucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    edited = repoint(own, region="eu-west-1", bucket_name=bucket)
    assert edited.status == 200, edited.body
    moved = replace(own, owner=owner)
    assert told(moved.download(begun)) == (404, "DeltaMissing")
    copy(begun, own, moved)
    assert "%2Feu-west-1%2Fs3%2Faws4_request" in moved.download(begun).json()["url"]
    assert (moved.bytes_of(begun), moved.bytes_of(moved.upload(key_uuid))) == (BODY, BODY)


def test_f1_14_a_change_of_provider_and_endpoint_takes_effect_at_once(own: Vault, standing_in: Callable[[dict[str, str]], None]) -> None:
    """A server that checks no signatures stands in for R2, in whose region no other does; what it is asked for is what counts."""
    key_uuid = own.key()
    begun = own.upload(key_uuid)
    with scripted_s3() as r2:
        standing_in({R2_HOST: r2.endpoint})
        edited = repoint(own, provider="r2", region="auto", endpoint_url=f"https://{R2_HOST}")
        assert edited.status == 200, edited.body
        r2.requests.clear()
        assert told(own.download(begun)) == (404, "DeltaMissing")
        assert own.at(begun) in {asked.key for asked in r2.requests}
        url = own.begin(key_uuid)["url"]
        assert url.startswith(r2.endpoint)
        assert "%2Fauto%2Fs3%2Faws4_request" in url
        assert own.holds(begun)
        r2.objects[own.at(begun)], r2.metadata[own.at(begun)] = BODY, {}
        assert own.download(begun).json()["url"].startswith(r2.endpoint)
        assert repoint(own, provider="s3", region="us-east-1", endpoint_url=None).status == 200
    assert own.bytes_of(begun) == BODY


def test_what_was_copied_before_a_key_is_pointed_elsewhere_is_served_without_a_gap(brought: Callable[..., Vault]) -> None:
    """Seed: "Before changing a key to a new storage, follow Keys Management — Object-layout requirement for manual Delta migration." """
    one, two = brought(), brought(remote_path="customer-a/deltas")
    key_uuid = one.key()
    deltas = [one.upload(key_uuid, body) for body in (BODY, b"second", b"third")]
    for begun in deltas:
        copy(begun, one, two)
    edit(one.client, key_uuid, storage_uuid=two.storage_uuid)
    found = check(two, key_uuid)
    assert (found["storage_uuid"], found["checked_count"], found["missing"], found["differing"]) == (two.storage_uuid, 3, [], [])
    assert [two.bytes_of(begun) for begun in deltas] == [BODY, b"second", b"third"]
    assert [row["object_key"] for row in two.listed(key_uuid)] == [
        f"customer-a/deltas/{key_uuid}/{begun['delta_uuid']}" for begun in deltas
    ]


def test_the_layout_also_tells_what_is_of_another_size(vault: Vault) -> None:
    key_uuid = vault.key()
    whole, longer, gone = vault.upload(key_uuid), vault.upload(key_uuid), vault.key("other")
    vault.overwrite(longer, BODY + b"!")
    found = check(vault, key_uuid)
    assert (found["checked_count"], found["missing"]) == (2, [])
    assert found["differing"] == [{"delta_uuid": longer["delta_uuid"], "object_key": vault.at(longer)}]
    assert told(vault.download(longer)) == (422, "IntegrityFailed")
    vault.owner.delete([vault.at(whole), vault.at(longer)])
    found = check(vault, key_uuid)
    assert [each["delta_uuid"] for each in found["missing"]] == [whole["delta_uuid"], longer["delta_uuid"]]
    assert found["differing"] == []
    assert check(vault, gone)["checked_count"] == 0


def test_the_layout_is_of_what_is_stored_in_this_key_and_nothing_else(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    assert check(vault, key_uuid)["checked_count"] == 0
    put(begun)
    assert check(vault, key_uuid)["checked_count"] == 0
    vault.confirm(begun)
    vault.owner.put(f"{vault.prefix}{key_uuid}/{UNKNOWN}", b"a stranger's", "text/plain")
    vault.owner.put(f"{vault.prefix}{key_uuid}x/{UNKNOWN}", b"a stranger's", "text/plain")
    found = check(vault, key_uuid)
    assert (found["checked_count"], found["missing"], found["differing"]) == (1, [], [])
    vault.delete(begun)
    assert check(vault, key_uuid)["checked_count"] == 0


def test_a_storage_whose_bucket_is_gone_fails_cleanly_and_lets_records_be_removed(own: Vault) -> None:
    key_uuid = own.key()
    one, two = own.upload(key_uuid), own.upload(key_uuid)
    own.owner.delete([own.at(one), own.at(two)])
    own.owner._call("DeleteBucket")
    layout = own.client("GET", f"/keys/check-layout?key_uuid={key_uuid}")
    for answer in (layout, own.download(one), own.confirm(own.begin(key_uuid))):
        assert told(answer) == (503, "StorageUnavailable")
    deleted = own.delete(one)
    assert (deleted.status, deleted.json()["left"]) == (200, [own.at(one)])
    assert "delete them yourself" in deleted.json()["warning"]
    ended = own.client("POST", "/keys/delete", {"key_uuid": key_uuid})
    assert (ended.status, own.at(two) in ended.json()["left"]) == (200, True)
    assert listed(own.client) == []


@given(states=st.lists(st.sampled_from(["there", "missing", "longer", "stranger"]), max_size=9), limit=st.integers(1, 4))
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_layout_names_all_that_is_amiss_page_after_page(own: Vault, states: list[str], limit: int) -> None:
    key_uuid = own.key()
    found: dict[str, list[dict[str, str]]] = {"there": [], "missing": [], "longer": []}
    for state in states:
        begun = own.upload(key_uuid)
        located = {"delta_uuid": begun["delta_uuid"], "object_key": own.at(begun)}
        if state == "stranger":  # lies there, and is of no delta any more
            own.delete(begun)
            own.overwrite(begun, b"a stranger's")
            continue
        found[state].append(located)
        if state == "missing":
            own.owner.delete([own.at(begun)])
        elif state == "longer":
            own.overwrite(begun, BODY + b"!")
    pages, path = [], f"/keys/check-layout?key_uuid={key_uuid}&limit={limit}"
    while path:
        answer = own.client("GET", path)
        assert answer.status == 200, answer.body
        pages.append(answer.json())
        after = answer.headers.get("x-next-cursor")
        path = f"/keys/check-layout?key_uuid={key_uuid}&limit={limit}&cursor={after}" if after else ""
    assert [page["checked_count"] for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert sum(page["checked_count"] for page in pages) == sum(map(len, found.values()))
    assert [each for page in pages for each in page["missing"]] == found["missing"]
    assert [each for page in pages for each in page["differing"]] == found["longer"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=%20"])
def test_a_page_of_the_layout_that_cannot_be_is_400(own: Vault, query: str) -> None:
    assert own.client("GET", f"/keys/check-layout?key_uuid={own.key()}&{query}").status == 400


# ---- seed "Deleting a Storage Entry" ---------------------------------------------------------------------------
def drop(vault: Vault) -> Answer:
    return vault.client("DELETE", "/storages/delete", {"storage_uuid": vault.storage_uuid})


def test_f1_16_a_storage_is_not_deleted_while_any_keys_refer_to_it(byos: Vault, internal: Vault, tenant: Tenant) -> None:
    """Seed: "The route is blocked while any keys still reference that storage." """
    made = [byos.key("one"), byos.using(tenant.user(sub=ADA)).key("two"), internal.key("three")]
    edit(internal.client, made[2], storage_uuid=byos.storage_uuid)
    for number in (3, 2, 1):
        refused = drop(byos)
        assert told(refused) == (409, "StorageInUse")
        assert refused.json()["details"] == {"keys": number}
        assert f"{number} keys" in refused.json()["message"]
        assert key_count(tenant, byos.storage_uuid) == number
        assert byos.client("DELETE", "/keys/delete", {"key_uuid": made.pop()}).json()["job_id"] is None
    assert drop(byos).status == 200
    assert tenant.service("GET", "/storages/list").json() == []


def test_f1_16_a_storage_whose_keys_were_pointed_elsewhere_is_deleted(brought: Callable[..., Vault]) -> None:
    one, two = brought(), brought()
    key_uuid = one.key()
    begun = one.upload(key_uuid)
    copy(begun, one, two)
    edit(one.client, key_uuid, storage_uuid=two.storage_uuid)
    assert drop(one).status == 200
    assert told(drop(two)) == (409, "StorageInUse")
    assert two.bytes_of(begun) == BODY
    assert told(edit(two.client, key_uuid, storage_uuid=one.storage_uuid)) == (404, "StorageNotFound")


def test_f1_15_deleting_a_storage_removes_the_record_only(brought: Callable[..., Vault], calls: list[Call]) -> None:
    """Seed: "DELETE /storages/delete removes the storage record only. It does not enumerate or delete objects from the bucket." """
    one, two = brought(), brought()
    key_uuid = one.key()
    begun = one.upload(key_uuid)
    edit(one.client, key_uuid, storage_uuid=two.storage_uuid)
    calls.clear()
    assert drop(one).status == 200
    assert of_s3(calls) == []
    assert one.holds(begun)


def test_a_key_is_never_left_on_a_storage_that_is_being_deleted(own: Vault, tenant: Tenant) -> None:
    answers = together([lambda: drop(own), *[lambda: create(own.client, storage_uuid=own.storage_uuid)] * 6])
    dropped, made = answers[0], [answer for answer in answers[1:] if answer.status == 201]
    if dropped.status == 200:
        assert made == []
        refusals = {(404, "StorageNotFound"), (503, "StorageRemoved"), (503, "Unavailable")}
        assert {told(answer) for answer in answers[1:]} <= refusals
        assert rows_of(tenant) == []
    else:
        assert told(dropped) in ((409, "StorageInUse"), (503, "Unavailable"))
        assert key_count(tenant, own.storage_uuid) == len(listed(own.client)) == len(made)


# ---- who may ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Ids:
    """What requests are made of: a key with a delta, one that is yet to be confirmed, a section, and another storage."""

    key: str
    delta: str
    arrived: str
    attempt: str
    claim: str
    target: str

    def unknown(self) -> "Ids":
        """The same of things that are not there; the storage is."""
        return Ids(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, self.target)


Asked = tuple[str, dict[str, Any] | None]
ACTS: dict[str, Callable[[Ids], Asked]] = {
    "POST /keys/create": lambda ids: ("", {"name": "new", "storage_uuid": ids.target}),
    "GET /keys/list": lambda ids: ("", None),
    "PATCH /keys/edit": lambda ids: ("", {"key_uuid": ids.key, "name": "desk", "storage_uuid": ids.target}),
    "POST /keys/delete": lambda ids: ("", {"key_uuid": ids.key}),
    "DELETE /keys/delete": lambda ids: (f"?key_uuid={ids.key}", None),
    "GET /keys/storage-limits": lambda ids: (f"?key_uuid={ids.key}", None),
    "GET /keys/check-layout": lambda ids: (f"?key_uuid={ids.key}", None),
    "POST /keys/migrate": lambda ids: ("", {"key_uuid": ids.key, "storage_uuid": ids.target}),
    "POST /deltas/upload": lambda ids: ("", {"key_uuid": ids.key, "size_bytes": len(BODY), "content_md5": md5_of(BODY)}),
    "POST /deltas/confirm": lambda ids: ("", {"delta_uuid": ids.arrived, "upload_attempt_uuid": ids.attempt}),
    "GET /deltas/download": lambda ids: (f"?delta_uuid={ids.delta}", None),
    "GET /deltas/list": lambda ids: (f"?key_uuid={ids.key}", None),
    "DELETE /deltas/delete": lambda ids: ("", {"delta_uuid": ids.delta}),
    "POST /deltas/claim": lambda ids: ("", {"delta_uuid": ids.delta, "start": 5, "length": 5}),
    "GET /deltas/claims": lambda ids: (f"?delta_uuid={ids.delta}", None),
    "DELETE /deltas/claim": lambda ids: ("", {"delta_uuid": ids.delta, "claim_id": ids.claim}),
}
OF_NO_KEY = {"POST /keys/create", "GET /keys/list"}
OF_A_KEY = sorted(ACTS.keys() - OF_NO_KEY)


@dataclass(frozen=True)
class Scene:
    """What somebody has, and how it is asked for."""

    tenant: Tenant
    vault: Vault
    target: Vault
    ids: Ids
    begun: Begun

    def ask(self, client: Client, route: str, ids: Ids | None = None) -> Answer:
        method, path = route.split()
        query, body = ACTS[route](ids or self.ids)
        return client(method, path + query, body)

    def state(self) -> Any:
        counts = [key_count(self.tenant, each.storage_uuid) for each in (self.vault, self.target)]
        return rows_of(self.tenant), counts, self.vault.lies_there(self.ids.key), self.target.lies_there(self.ids.key)


@pytest.fixture
def scene_of(tenant: Tenant, brought: Callable[..., Vault]) -> Callable[[Client], Scene]:
    """Sets a scene of somebody's."""

    def make(client: Client) -> Scene:
        vault, target = brought().using(client), brought()
        key_uuid = vault.key()
        stored, arrived = vault.upload(key_uuid), vault.begin(key_uuid)
        assert put(arrived) == 200
        claimed = client("POST", "/deltas/claim", {"delta_uuid": stored["delta_uuid"], "start": 0, "length": 5}).json()
        named = (stored["delta_uuid"], arrived["delta_uuid"], arrived["upload_attempt_uuid"], claimed["claim_id"])
        return Scene(tenant, vault, target, Ids(key_uuid, *named, str(target.storage_uuid)), stored)

    return make


def test_every_route_of_keys_and_deltas_is_tried_here() -> None:
    assert ACTS.keys() == {f"{route.method} {route.path}" for route in SURFACE.routes if not route.path.startswith("/storages/")}


def strangers(tenant: Tenant, other: Tenant) -> dict[str, Client]:
    """Users who have keys, and none of these."""
    everything = [each.value for each in Permission]
    return {
        "another user": tenant.user(sub=BOB),
        "a user without a UUID": tenant.user(sub="ada"),
        "a user called service": tenant.user(sub=BOB, role="service"),
        "a user called admin": tenant.user(sub=BOB, role="admin"),
        "the organisation's admin": tenant.user(sub=BOB, role="org_admin", permissions=everything),
        "another tenant's service key": other.service,
        "another tenant's user of the same id": other.user(sub=ADA),
    }


def outsiders(tenant: Tenant, other: Tenant) -> dict[str, tuple[Client, int]]:
    """Who has no business with any vault, and what each is told."""
    custom, _ = tenants.create_key(tenant.tenant_id, Role.CUSTOM, "every permission", list(Permission))
    return {
        "anon": (tenant.anon, 403),
        "a custom key": (tenant.nobody.using(custom), 403),
        "another tenant's anon": (other.anon, 403),
        "admin": (tenant.nobody.using(tenants.create_admin_key()), 403),
        "nobody": (tenant.nobody, 401),
        "a token by another secret": (tenant.nobody.using(replace(other, tenant_id=tenant.tenant_id).token(sub=ADA)), 401),
        "a token that is over": (tenant.user(sub=ADA, exp=1), 401),
        "a key that is none": (tenant.nobody.using("sk_" + "A" * 43), 401),
    }


def without_ids(answer: Answer, *ids: str) -> tuple[int, str, str, Any]:
    said = answer.json()
    message = str(said["message"])
    for each in ids:
        message = message.replace(each, "it")
    return answer.status, said["code"], message, said.get("details")


@pytest.mark.parametrize("route", OF_A_KEY)
def test_what_is_a_users_does_not_exist_for_others(
    scene_of: Callable[[Client], Scene], tenant: Tenant, new_tenant: Any, route: str
) -> None:
    other: Tenant = new_tenant("other")
    scene = scene_of(tenant.user(sub=ADA))
    before, ids = scene.state(), scene.ids
    for who, client in strangers(tenant, other).items():
        told_of_it, told_of_none = scene.ask(client, route), scene.ask(client, route, ids.unknown())
        assert told_of_it.status == 404, (who, told_of_it.body)
        assert without_ids(told_of_it, ids.key, ids.delta, ids.arrived) == without_ids(told_of_none, UNKNOWN), who
    for who, (client, status) in outsiders(tenant, other).items():
        answer = scene.ask(client, route)
        assert (answer.status, answer.code) == (status, "Forbidden" if status == 403 else "Unauthorized"), who
        assert ("www-authenticate" in answer.headers) == (status == 401)
    assert scene.state() == before
    assert scene.ask(tenant.user(sub=ADA.upper()), route).status < 300


@pytest.mark.parametrize("route", OF_A_KEY)
def test_what_is_the_service_keys_does_not_exist_for_users(scene_of: Callable[[Client], Scene], tenant: Tenant, route: str) -> None:
    scene = scene_of(tenant.service)
    before = scene.state()
    for client in (tenant.user(sub=ADA), tenant.user(sub=tenant.tenant_id), tenant.user(sub="service", role="service")):
        told_of_it, told_of_none = scene.ask(client, route), scene.ask(client, route, scene.ids.unknown())
        assert told_of_it.status == 404
        assert without_ids(told_of_it, scene.ids.key, scene.ids.delta, scene.ids.arrived) == without_ids(told_of_none, UNKNOWN)
    assert scene.state() == before
    assert scene.ask(tenant.service, route).status < 300


@pytest.mark.parametrize("route", OF_A_KEY)
def test_the_service_key_may_whatever_the_tenants_users_may(scene_of: Callable[[Client], Scene], tenant: Tenant, route: str) -> None:
    scene = scene_of(tenant.user(sub=ADA))
    answer = scene.ask(tenant.service, route)
    assert answer.status < 300, answer.body
    if not route.endswith("/keys/delete"):
        assert key_row(tenant, scene.ids.key).owner_id == ADA


@pytest.mark.parametrize("default", [True, False])
def test_keys_are_made_and_listed_by_users_and_the_service_key_alone(
    scene_of: Callable[[Client], Scene], tenant: Tenant, new_tenant: Any, choose: Callable[[str, str], None], default: bool
) -> None:
    other: Tenant = new_tenant("other")
    scene = scene_of(tenant.user(sub=ADA))
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id if default else "")
    before = scene.state()
    for route in ("POST /keys/create", "GET /keys/list"):
        for who, (client, status) in outsiders(tenant, other).items():
            method, path = route.split()
            answer = client(method, path, {"name": "x"} if method == "POST" else None)
            assert (answer.status, answer.code) == (status, "Forbidden" if status == 403 else "Unauthorized"), who
    assert scene.state() == before
    assert told(scene.ask(other.service, "POST /keys/create")) == (404, "StorageNotFound")
    assert rows_of(other) == []


def test_limits_without_a_key_are_told_to_users_and_the_service_key_alone(tenant: Tenant, new_tenant: Any) -> None:
    other: Tenant = new_tenant("other")
    for client in (tenant.service, tenant.user(sub=ADA)):
        assert client("GET", "/keys/storage-limits").json()["key_uuid"] is None
    for who, (client, status) in outsiders(tenant, other).items():
        assert client("GET", "/keys/storage-limits").status == status, who


def test_each_lists_their_own_and_the_service_key_all(internal: Vault, tenant: Tenant, new_tenant: Any) -> None:
    other: Tenant = new_tenant("other")
    clients = [tenant.user(sub=ADA), tenant.user(sub=BOB), tenant.service, other.service, other.user(sub=ADA)]
    made = [[internal.using(client).key(f"{number}") for number in range(2)] for client in clients]
    found = [[row["key_uuid"] for row in listed(client)] for client in clients]
    assert found == [made[0], made[1], made[0] + made[1] + made[2], made[3] + made[4], made[4]]


# ---- what a body says ------------------------------------------------------------------------------------------
BAD_NUMBERS: list[Any] = [None, "1", 1.5, 1.0, True, [], {}, -1, 10_485_761, 1 << 63, 10**40]
BAD: dict[str, list[Any]] = {
    "key_uuid": [*NO_IDS, *NO_TEXTS],
    "delta_uuid": [*NO_IDS, *NO_TEXTS],
    "storage_uuid": [*NO_IDS, *NO_TEXTS],
    "upload_attempt_uuid": [*NO_IDS, *NO_TEXTS, None],
    "claim_id": [*NO_IDS, *NO_TEXTS],
    "name": [*BAD_NAMES, *NO_TEXTS],
    "content_md5": [*NO_TEXTS, None, "", "x", "A" * 24, "A" * 22 + "=", md5_of(b"")[:-2], "A" * 22 + "=*", md5_of(b"") + "\n", "é" * 24],
    "size_bytes": [*BAD_NUMBERS, 0],
    "start": BAD_NUMBERS,
    "length": [*BAD_NUMBERS, 0],
}
OPTIONAL = {"PATCH /keys/edit": {"name", "storage_uuid"}, "POST /keys/create": {"storage_uuid"}}
WITH_BODY = sorted(route for route in ACTS if not route.startswith("GET") and route != "DELETE /keys/delete")


@pytest.fixture
def scene(scene_of: Callable[[Client], Scene], tenant: Tenant) -> Scene:
    return scene_of(tenant.service)


@pytest.mark.parametrize("route", WITH_BODY)
def test_f2_3_a_field_that_is_wrong_or_missing_is_400_naming_it_and_nothing_changes(scene: Scene, route: str) -> None:
    method, path = route.split()
    body = ACTS[route](scene.ids)[1] or {}
    before = scene.state()
    for field in body:
        for value in BAD[field]:
            answer = scene.vault.client(method, path, body | {field: value})
            assert told(answer) == (400, "InvalidRequest"), (field, value, answer.body)
            assert field in answer.json()["message"], (field, value)
        if field not in OPTIONAL.get(route, ()):
            answer = scene.vault.client(method, path, {name: body[name] for name in body if name != field})
            assert told(answer) == (400, "InvalidRequest"), field
            assert field in answer.json()["message"]
    for raw in (b"{", b"[]", b"null", b'"x"', b"\xff", b'{"name": NaN}', b'{"name": "\\ud800"}', b"[" * 100_000):
        assert told(scene.vault.client(method, path, raw)) == (400, "InvalidRequest"), raw[:20]
    assert scene.state() == before


@pytest.mark.parametrize("route", WITH_BODY)
def test_fields_that_nobody_knows_are_ignored_and_ids_are_lower_cased(scene: Scene, route: str) -> None:
    method, path = route.split()
    body = ACTS[route](scene.ids)[1] or {}
    upper = {name: value.upper() if name.endswith(("_uuid", "_id")) else value for name, value in body.items()}
    unknown = {"owner_id": ADA, "user_uuid": ADA, "tenant_id": UNKNOWN, "stored": -7, "status": "deleting", "x" * 300: [{}], "limits": None}
    answer = scene.vault.client(method, path, upper | unknown)
    assert answer.status < 300, answer.body
    for name in ("key_uuid", "delta_uuid", "storage_uuid"):
        if name in body:
            assert answer.json().get(name, body[name]) == body[name]
    assert all("owner_id" not in row for row in rows_of(scene.tenant))


@pytest.mark.parametrize("route", [route for route in sorted(ACTS) if route.startswith("GET") and route != "GET /keys/list"])
def test_f2_3_an_id_in_the_query_is_a_hyphenated_uuid_in_either_case(scene: Scene, route: str) -> None:
    method, path = route.split()
    query = ACTS[route](scene.ids)[0]
    name, _, value = query[1:].partition("=")
    for bad in (value.replace("-", ""), "x", "%7B" + value + "%7D", value + "0", "%00", "%20" + value):
        answer = scene.vault.client(method, f"{path}?{name}={bad}")
        assert told(answer) == (400, "InvalidRequest"), bad
        assert name in answer.json()["message"]
    assert scene.vault.client(method, f"{path}?{name}={value.upper()}").status == 200


@pytest.mark.parametrize("route", ["GET /deltas/list", "GET /keys/check-layout", "GET /deltas/download", "GET /deltas/claims"])
def test_an_id_that_is_required_and_missing_is_400(tenant: Tenant, route: str) -> None:
    method, path = route.split()
    for query in ("", "?key_uuid=&delta_uuid=", f"?id={UNKNOWN}"):
        assert told(tenant.service(method, path + query)) == (400, "InvalidRequest")


# ---- deltas of a key -------------------------------------------------------------------------------------------
def test_a_key_shows_how_many_deltas_it_has_and_their_bytes(vault: Vault) -> None:
    key_uuid = vault.key()
    bodies = [b"a", b"bc"]
    deltas = [vault.upload(key_uuid, body) for body in bodies]
    assert (vault.shown(key_uuid)["delta_count"], vault.shown(key_uuid)["size_bytes"]) == (2, 3)
    vault.delete(deltas[0])
    assert (vault.shown(key_uuid)["delta_count"], vault.shown(key_uuid)["size_bytes"]) == (1, 2)
    assert delta_row(deltas[1]) is not None


def test_deltas_are_listed_oldest_first_in_pages(byos: Vault) -> None:
    key_uuid = byos.key()
    made = [byos.begin(key_uuid)["delta_uuid"] for _ in range(5)]
    for limit in (1, 2, 4, 5, 6):
        found: list[str] = []
        query = f"?key_uuid={key_uuid}&limit={limit}"
        while query:
            answer = byos.client("GET", f"/deltas/list{query}")
            found += [row["delta_uuid"] for row in answer.json()]
            cursor = answer.headers.get("x-next-cursor")
            query = f"?key_uuid={key_uuid}&limit={limit}&cursor={cursor}" if cursor else ""
        assert found == made
    for limit_text in ("0", "1001", "x"):
        assert told(byos.client("GET", f"/deltas/list?key_uuid={key_uuid}&limit={limit_text}")) == (400, "InvalidRequest")
    assert told(byos.client("GET", f"/deltas/list?key_uuid={key_uuid}&cursor=x")) == (400, "InvalidCursor")


def test_a_download_url_gives_the_bytes_and_only_those(vault: Vault) -> None:
    begun = vault.upload(vault.key())
    url = vault.download(begun).json()["url"]
    assert send(url, None, {}, "GET") == (200, BODY)
    assert send(url.replace(begun["delta_uuid"], UNKNOWN), None, {}, "GET")[0] == 403
