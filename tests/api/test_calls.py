"""What a warm request costs in AWS calls: counted, since a count does not flake (the issue's "What it must reach")."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.access.cache import forget_everything
from chalicelib.access.credentials import key_hash
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.table import call
from chalicelib.tables.tenants import ApiKey
from chalicelib.tables.tenants import Tenant as TenantRow
from tests.client import Answer, Client
from tests.conftest import Call, Clock, Tenant

OBJECT = "/storage/object/b/warm"
GET_ITEM, BATCH_GET, PUT_ITEM = Call("dynamodb", "GetItem"), Call("dynamodb", "BatchGetItem"), Call("dynamodb", "PutItem")
DELETE_ITEM, QUERY, TRANSACTION = Call("dynamodb", "DeleteItem"), Call("dynamodb", "Query"), Call("dynamodb", "TransactWriteItems")
GET_OBJECT, PUT_OBJECT, COPY_OBJECT = Call("s3", "GetObject"), Call("s3", "PutObject"), Call("s3", "CopyObject")


@pytest.fixture
def warm(tenant: Tenant) -> Client:
    """A client whose key and bucket this process has just seen, with objects in the public bucket `b`."""
    tenant.service.bucket("b", public=True)
    for name in ("warm", "other"):
        tenant.service.put("b", name, b"0123456789", "text/plain")
    tenant.service.get("b", "warm")
    return tenant.service


def counted(calls: list[Call], act: Callable[[], Answer], status: int) -> list[Call]:
    calls.clear()
    answer = act()
    assert answer.status == status
    return list(calls)


@pytest.mark.parametrize(
    ("method", "headers", "status", "expected"),
    [
        ("GET", {}, 200, [BATCH_GET, GET_OBJECT]),
        ("GET", {"Range": "bytes=1-2"}, 206, [BATCH_GET, GET_OBJECT]),
        ("GET", {"Range": "bytes=99-"}, 416, [BATCH_GET]),
        ("GET", {"If-None-Match": "*"}, 304, [BATCH_GET]),
        ("GET", {"If-Match": '"other"'}, 412, [BATCH_GET]),
        ("HEAD", {}, 200, [BATCH_GET]),
        ("HEAD", {"If-None-Match": "*"}, 304, [BATCH_GET]),
    ],
)
def test_a_read_is_one_row_and_at_most_one_object(
    warm: Client, calls: list[Call], method: str, headers: dict[str, str], status: int, expected: list[Call]
) -> None:
    assert counted(calls, lambda: warm(method, OBJECT, headers=headers), status) == expected


def test_an_empty_object_is_read_from_its_row_alone(warm: Client, calls: list[Call]) -> None:
    warm.put("b", "empty")
    assert counted(calls, lambda: warm.get("b", "empty"), 200) == [BATCH_GET]


def test_the_row_is_shown_by_one_read(warm: Client, calls: list[Call]) -> None:
    assert counted(calls, lambda: warm("GET", "/storage/object-info/b/warm"), 200) == [BATCH_GET]


def test_a_new_upload_is_one_read_one_put_and_one_conditional_write(warm: Client, calls: list[Call]) -> None:
    assert counted(calls, lambda: warm.put("b", "new", b"bytes"), 201) == [BATCH_GET, PUT_OBJECT, PUT_ITEM]


def test_an_overwrite_costs_what_a_new_upload_does(warm: Client, calls: list[Call]) -> None:
    assert counted(calls, lambda: warm.put("b", "warm", b"bytes"), 200) == [BATCH_GET, PUT_OBJECT, PUT_ITEM]


def test_an_upload_that_is_refused_stores_nothing(warm: Client, calls: list[Call]) -> None:
    warm("PUT", "/storage/buckets/b", {"max_file_size": 4, "allowed_mimes": ["text/plain"]})
    assert counted(calls, lambda: warm.put("b", "new", b"bytes", "text/plain"), 413) == [BATCH_GET]
    assert counted(calls, lambda: warm.put("b", "new", b"b", "text/csv"), 415) == [BATCH_GET]
    assert counted(calls, lambda: warm.put("b", "warm", b"b", "text/plain", x_upsert="false"), 409) == [BATCH_GET]


def test_a_deletion_is_one_read_and_one_conditional_write(warm: Client, calls: list[Call]) -> None:
    assert counted(calls, lambda: warm.delete("b", "warm"), 200) == [BATCH_GET, DELETE_ITEM]


def test_a_change_of_metadata_touches_no_bytes(warm: Client, calls: list[Call]) -> None:
    change = {"user_metadata": {"k": 1}}
    assert counted(calls, lambda: warm("PATCH", "/storage/object-info/b/warm", change), 200) == [BATCH_GET, PUT_ITEM]


def test_many_deletions_are_read_a_hundred_at_a_time(warm: Client, calls: list[Call]) -> None:
    paths = ["warm", "other", *(f"absent {number}" for number in range(148))]
    made = counted(calls, lambda: warm("DELETE", "/storage/objects/b", {"paths": paths}), 200)
    assert sorted(call.operation for call in made) == ["BatchGetItem"] * 2 + ["DeleteItem"] * 2 + ["GetItem"]


@pytest.mark.parametrize("query", ["", "?limit=1", "?prefix=w", "?delimiter=/"])
def test_a_page_is_one_query(warm: Client, calls: list[Call], query: str) -> None:
    assert counted(calls, lambda: warm("GET", f"/storage/objects/b{query}"), 200) == [QUERY]


def test_a_move_inside_a_bucket_is_one_transaction_and_no_storage_call(warm: Client, calls: list[Call]) -> None:
    moved = counted(calls, lambda: warm("POST", "/storage/object/move", {"bucket": "b", "from": "warm", "to": "t"}), 200)
    assert moved == [BATCH_GET, TRANSACTION]


def test_a_copy_is_one_copy_in_the_storage(warm: Client, calls: list[Call]) -> None:
    copied = counted(calls, lambda: warm("POST", "/storage/object/copy", {"bucket": "b", "from": "warm", "to": "t"}), 200)
    assert copied == [BATCH_GET, BATCH_GET, COPY_OBJECT, PUT_ITEM]


def test_a_download_by_token_or_by_nobody_costs_no_more(tenant: Tenant, warm: Client, calls: list[Call]) -> None:
    user = tenant.user()
    user.get("b", "warm")
    assert counted(calls, lambda: user.get("b", "warm"), 200) == [BATCH_GET, GET_OBJECT]
    public = f"/storage/public/{tenant.tenant_id}/b/warm"
    assert tenant.nobody("GET", public).status == 200  # by now this process knows that there is such a tenant
    assert counted(calls, lambda: tenant.nobody("GET", public), 200) == [BATCH_GET, GET_OBJECT]


def test_what_needs_no_data_makes_no_call(tenant: Tenant, warm: Client, calls: list[Call]) -> None:
    for method, path, status in (
        ("GET", "/health", 200),
        ("GET", "/openapi.json", 200),
        ("OPTIONS", OBJECT, 204),
        ("GET", "/nowhere", 404),
    ):
        assert counted(calls, lambda method=method, path=path: tenant.nobody(method, path), status) == []  # type: ignore[misc]
    assert counted(calls, lambda: tenant.nobody("GET", OBJECT), 401) == []


def test_a_cold_process_reads_key_and_bucket_once(warm: Client, calls: list[Call]) -> None:
    forget_everything()
    assert counted(calls, lambda: warm.get("b", "warm"), 200) == [GET_ITEM, GET_ITEM, BATCH_GET, GET_OBJECT]
    assert counted(calls, lambda: warm.get("b", "other"), 200) == [BATCH_GET, GET_OBJECT]


def test_what_asks_for_no_credential_reads_in_a_cold_process_that_there_is_the_tenant(
    tenant: Tenant, warm: Client, calls: list[Call]
) -> None:
    public = f"/storage/public/{tenant.tenant_id}/b/warm"
    signed = warm("POST", "/storage/signed-url", {"bucket": "b", "path": "warm"}).json()["signed_url"]
    for path in (public, signed):
        forget_everything()
        assert counted(calls, lambda path=path: tenant.nobody("GET", path), 200) == [GET_ITEM, GET_ITEM, BATCH_GET, GET_OBJECT]  # type: ignore[misc]
        assert counted(calls, lambda path=path: tenant.nobody("GET", path), 200) == [BATCH_GET, GET_OBJECT]  # type: ignore[misc]


# ---- a minute ------------------------------------------------------------------------------------------
def test_after_a_minute_key_and_bucket_are_read_again(warm: Client, calls: list[Call], clock: Clock) -> None:
    clock.advance(61)
    assert counted(calls, lambda: warm.get("b", "warm"), 200) == [GET_ITEM, GET_ITEM, BATCH_GET, GET_OBJECT]


def test_a_key_that_is_used_all_the_time_is_read_again_all_the_same(warm: Client, calls: list[Call], clock: Clock) -> None:
    reads = 0
    for _ in range(13):  # two minutes and a bit
        reads += len(counted(calls, lambda: warm.get("b", "warm"), 200)) - 2
        clock.advance(10)
    assert reads == 2  # the key, twice; the bucket comes along with every object


def test_a_revoked_key_stops_within_a_minute(tenant: Tenant, warm: Client, clock: Clock) -> None:
    call("DeleteItem", TableName=ApiKey.Meta.table_name, Key=ApiKey.key(key_hash(tenant.service_key)))
    clock.advance(60)
    answer = warm.get("b", "warm")
    assert (answer.status, answer.code) == (401, "Unauthorized")


def test_a_token_of_a_deleted_tenant_stops_within_a_minute(tenant: Tenant, warm: Client, clock: Clock) -> None:
    user = tenant.user()
    assert user.get("b", "warm").status == 200
    call("DeleteItem", TableName=TenantRow.Meta.table_name, Key=TenantRow.key(tenant.tenant_id))
    clock.advance(60)
    assert user.get("b", "warm").status == 401


def test_a_bucket_that_another_process_closed_is_closed_within_a_minute(tenant: Tenant, warm: Client, clock: Clock) -> None:
    assert tenant.anon.get("b", "warm").status == 200
    bucket: Any = Bucket.read(tenant.tenant_id, "b")
    bucket.change([Bucket.visibility.set("private")], Bucket.name.exists())
    clock.advance(60)
    assert tenant.anon.get("b", "warm").status == 404


def test_a_write_sees_a_bucket_that_another_process_changed_at_once(tenant: Tenant, warm: Client) -> None:
    bucket: Any = Bucket.read(tenant.tenant_id, "b")
    bucket.change([Bucket.file_size_limit.set(1)], Bucket.name.exists())
    assert warm.put("b", "new", b"two").status == 413


def test_a_key_that_was_just_made_works_at_once(new_tenant: Any) -> None:
    unknown = new_tenant()
    assert unknown.nobody.using("sk_not_there_yet")("GET", "/storage/buckets").status == 401
    row: Any = ApiKey.read(key_hash(unknown.service_key))
    row.key_hash = key_hash("sk_not_there_yet")
    row.save()
    assert unknown.nobody.using("sk_not_there_yet")("GET", "/storage/buckets").status == 200
