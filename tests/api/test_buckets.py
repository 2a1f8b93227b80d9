"""Buckets, as a client of the storage surface sees them (CONTRACT "Storage surface", FEATURES F7)."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib.core import buckets
from chalicelib.tables.buckets import Bucket
from tests.client import Client
from tests.conftest import Clock, Tenant, run_job

PROPERTY = hypothesis_settings(
    deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
FIELDS = {
    "id",
    "name",
    "visibility",
    "public",
    "max_file_size",
    "file_size_limit",
    "allowed_mimes",
    "allowed_mime_types",
    "transforms",
    "transform_presets",
    "storage_id",
    "object_count",
    "total_size_bytes",
    "created_at",
    "updated_at",
}
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


# ---- creating ------------------------------------------------------------------------------------------
def test_a_new_bucket_is_private_unlimited_internal_and_empty(service: Client) -> None:
    answer = service("POST", "/storage/buckets", {"name": "photos"})
    assert answer.status == 201
    bucket = answer.json()
    assert bucket.keys() == FIELDS
    assert bucket["created_at"] == bucket["updated_at"]
    assert {field: bucket[field] for field in FIELDS - {"id", "created_at", "updated_at"}} == {
        "name": "photos",
        "visibility": "private",
        "public": False,
        "max_file_size": None,
        "file_size_limit": None,
        "allowed_mimes": None,
        "allowed_mime_types": None,
        "transforms": "any",
        "transform_presets": {},
        "storage_id": None,
        "object_count": 0,
        "total_size_bytes": 0,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"visibility": "public", "max_file_size": 1000, "allowed_mimes": ["image/*", "text/plain"]},
        {"public": True, "file_size_limit": 1000, "allowed_mime_types": ["image/*", "text/plain"]},
        {
            "public": True,
            "visibility": "public",
            "max_file_size": 1000,
            "file_size_limit": 1000,
            "allowed_mimes": ["image/*", "text/plain"],
        },
    ],
)
def test_either_spelling_is_taken_and_both_are_answered(service: Client, fields: dict[str, Any]) -> None:
    created = service.bucket("photos", **fields)
    shown = service("GET", "/storage/buckets/photos").json()
    assert shown == created
    assert (shown["visibility"], shown["public"]) == ("public", True)
    assert (shown["max_file_size"], shown["file_size_limit"]) == (1000, 1000)
    assert shown["allowed_mimes"] == shown["allowed_mime_types"] == ["image/*", "text/plain"]


@pytest.mark.parametrize(
    "fields",
    [
        {"public": True, "visibility": "private"},
        {"max_file_size": 1, "file_size_limit": 2},
        {"allowed_mimes": ["image/*"], "allowed_mime_types": ["text/*"]},
    ],
)
def test_spellings_that_contradict_each_other_are_refused(service: Client, fields: dict[str, Any]) -> None:
    assert service("POST", "/storage/buckets", {"name": "photos", **fields}).status == 400
    assert service("GET", "/storage/buckets").json() == []


@pytest.mark.parametrize("spelling", ["max_file_size", "file_size_limit"])
@pytest.mark.parametrize(
    ("given_size", "size"),
    [
        (1, 1),
        (5_000_000_000, 5_000_000_000),
        ("20MB", 20_000_000),
        ("20 mb", 20_000_000),
        ("5 MiB", 5 << 20),
        ("1.5KB", 1500),
        ("5GB", 5_000_000_000),
        ("1024", 1024),
    ],
)
def test_a_size_limit_is_a_number_of_bytes_or_a_text_with_a_unit(service: Client, spelling: str, given_size: Any, size: int) -> None:
    assert service.bucket("b", **{spelling: given_size})["max_file_size"] == size


@pytest.mark.parametrize(
    "size", [0, -1, 1.5, True, 5_000_000_001, 10**30, "0", "-1MB", "lots", "20XB", "1e6", "", "6GB", "99999999999999999999TB", [], {}]
)
def test_a_size_limit_that_is_none_is_refused(service: Client, size: Any) -> None:
    assert service("POST", "/storage/buckets", {"name": "b", "file_size_limit": size}).status == 400
    assert service("GET", "/storage/buckets").json() == []


@pytest.mark.parametrize("pattern", ["image/png", "image/*", "*/*", "application/vnd.api+json", "IMAGE/PNG"])
def test_a_type_may_be_exact_or_a_family(service: Client, pattern: str) -> None:
    assert service.bucket("b", allowed_mimes=[pattern])["allowed_mime_types"] == [pattern.lower()]


@pytest.mark.parametrize(
    "types", [["image"], ["image/**"], [""], ["*/png"], ["a b/c"], ["image/png; a=b"], [7], "image/*", ["ä/b"], ["a/b"] * 101]
)
def test_a_type_that_is_none_is_refused(service: Client, types: Any) -> None:
    assert service("POST", "/storage/buckets", {"name": "b", "allowed_mime_types": types}).status == 400


@pytest.mark.parametrize("fields", [{"public": "true"}, {"public": 1}, {"visibility": "secret"}, {"visibility": True}])
def test_a_visibility_that_is_none_is_refused(service: Client, fields: dict[str, Any]) -> None:
    assert service("POST", "/storage/buckets", {"name": "b", **fields}).status == 400


def test_an_unknown_storage_is_not_found(service: Client) -> None:
    answer = service("POST", "/storage/buckets", {"name": "b", "storage_id": "3b241101-e2bb-4255-8caf-4136c566a962"})
    assert (answer.status, answer.code) == (404, "StorageNotFound")
    assert service("GET", "/storage/buckets").json() == []


def test_null_chooses_the_internal_storage(service: Client) -> None:
    assert service.bucket("b", storage_id=None)["storage_id"] is None


def test_a_second_bucket_of_the_same_name_is_refused_and_the_first_stays(service: Client) -> None:
    first = service.bucket("photos", public=True)
    answer = service("POST", "/storage/buckets", {"name": "photos"})
    assert (answer.status, answer.code) == (409, "BucketExists")
    assert service("GET", "/storage/buckets/photos").json() == first


def test_names_that_differ_in_case_are_two_buckets(service: Client) -> None:
    assert service.bucket("photos")["id"] != service.bucket("Photos")["id"]


@pytest.mark.parametrize("name", ["a", "-", "_", "a.", "a..b", "A.b_c-9", "0", "x" * 100, "moves", "Move", "objects"])
def test_names_within_the_rules_are_taken_and_found_again(service: Client, name: str) -> None:
    created = service.bucket(name)
    assert created["name"] == name
    assert service("GET", f"/storage/buckets/{name}").json() == created


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "x" * 101, "move", "copy", "bücket", "a b", "a/b", "a\n", "a%20", "a+b", "日本", "a\0", "\ud800"]
)
def test_names_outside_the_rules_are_refused(service: Client, name: str) -> None:
    assert service("POST", "/storage/buckets", {"name": name}).status == 400
    assert service("GET", "/storage/buckets").json() == []


@PROPERTY
@given(name=st.text(st.sampled_from(LETTERS + "./ %+~ä"), max_size=110))
def test_a_name_is_taken_exactly_when_it_is_within_the_rules(new_tenant: Any, name: str) -> None:
    permitted = 1 <= len(name) <= 100 and set(name) <= set(LETTERS + ".") and not name.startswith(".") and name not in ("move", "copy")
    answer = new_tenant().service("POST", "/storage/buckets", {"name": name})
    assert answer.status == (201 if permitted else 400)


# ---- who may -------------------------------------------------------------------------------------------
MANAGEMENT = [
    ("POST", "/storage/buckets", {"name": "other"}),
    ("GET", "/storage/buckets", None),
    ("PUT", "/storage/buckets/known", {"public": False}),
    ("DELETE", "/storage/buckets/known", None),
]


@pytest.mark.parametrize(("method", "path", "body"), MANAGEMENT)
@pytest.mark.parametrize("visibility", ["public", "private"])
def test_managing_needs_the_service_key(
    tenant: Tenant, choose: Callable[[str, str], None], method: str, path: str, body: Any, visibility: str
) -> None:
    known = tenant.service.bucket("known", visibility=visibility)
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    for client, status in ((tenant.anon, 403), (tenant.user(role="service"), 403), (tenant.nobody, 401)):
        assert client(method, path, body).status == status
    assert tenant.service("GET", "/storage/buckets").json() == [known]


def test_others_see_a_public_bucket_by_name(tenant: Tenant, choose: Callable[[str, str], None]) -> None:
    bucket = tenant.service.bucket("open", public=True)
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    for client in (tenant.anon, tenant.user(), tenant.nobody):
        answer = client("GET", "/storage/buckets/open")
        assert (answer.status, answer.json()) == (200, bucket)


def test_others_see_a_private_bucket_as_one_that_does_not_exist(tenant: Tenant) -> None:
    tenant.service.bucket("closed")
    for client in (tenant.anon, tenant.user()):
        hidden, unknown = client("GET", "/storage/buckets/closed"), client("GET", "/storage/buckets/absent")
        assert (hidden.status, hidden.code) == (unknown.status, unknown.code) == (404, "BucketNotFound")


def test_nobody_is_asked_for_a_credential_at_a_private_bucket(tenant: Tenant, choose: Callable[[str, str], None]) -> None:
    tenant.service.bucket("closed")
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    answer = tenant.nobody("GET", "/storage/buckets/closed")
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_another_tenants_bucket_is_invisible(tenant: Tenant, new_tenant: Any) -> None:
    tenant.service.bucket("theirs", public=True)
    stranger = new_tenant().service
    assert stranger("GET", "/storage/buckets").json() == []
    for method, body in (("GET", None), ("PUT", {"public": False}), ("DELETE", None)):
        assert stranger(method, "/storage/buckets/theirs", body).status == 404
    assert stranger.bucket("theirs")["public"] is False
    assert tenant.service("GET", "/storage/buckets/theirs").json()["public"] is True


def test_the_list_is_an_array_of_all_buckets_by_name(service: Client) -> None:
    created = [service.bucket(name) for name in ("b", "a", "c.1", "B")]
    answer = service("GET", "/storage/buckets")
    assert answer.status == 200
    assert answer.json() == sorted(created, key=lambda bucket: bucket["name"])


# ---- changing ------------------------------------------------------------------------------------------
def test_a_change_sets_what_it_names_and_leaves_the_rest(service: Client) -> None:
    before = service.bucket("b", public=True, max_file_size="1MB", allowed_mimes=["image/*"])
    answer = service("PUT", "/storage/buckets/b", {"max_file_size": "2MB"})
    assert answer.status == 200
    after = answer.json()
    assert after == before | {"max_file_size": 2_000_000, "file_size_limit": 2_000_000, "updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]
    assert service("GET", "/storage/buckets/b").json() == after


@pytest.mark.parametrize("spelling", ["max_file_size", "file_size_limit"])
def test_null_lifts_the_size_limit(service: Client, spelling: str) -> None:
    service.bucket("b", max_file_size=3)
    assert service.put("b", "x", b"four").status == 413
    assert service("PUT", "/storage/buckets/b", {spelling: None}).json()["file_size_limit"] is None
    assert service.put("b", "x", b"four").status == 201


@pytest.mark.parametrize("spelling", ["allowed_mimes", "allowed_mime_types"])
def test_null_lifts_the_allowed_types(service: Client, spelling: str) -> None:
    service.bucket("b", allowed_mimes=["image/*"])
    assert service.put("b", "x", b"four", "text/plain").status == 415
    assert service("PUT", "/storage/buckets/b", {spelling: None}).json()["allowed_mimes"] is None
    assert service.put("b", "x", b"four", "text/plain").status == 201


def test_an_empty_list_of_types_allows_none(service: Client) -> None:
    service.bucket("b", allowed_mimes=[])
    assert service.put("b", "x", b"four", "text/plain").status == 415


def test_turning_a_bucket_private_closes_it(tenant: Tenant) -> None:
    tenant.service.bucket("b", public=True)
    tenant.service.put("b", "x", b"bytes")
    assert tenant.anon.get("b", "x").status == 200
    assert tenant.service("PUT", "/storage/buckets/b", {"visibility": "private"}).json()["public"] is False
    assert tenant.anon.get("b", "x").status == 404


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"storage_id": "3b241101-e2bb-4255-8caf-4136c566a962"}, {"name": "other", "public": True}]
)
def test_name_and_storage_are_fixed(service: Client, change: dict[str, Any]) -> None:
    before = service.bucket("b")
    answer = service("PUT", "/storage/buckets/b", change)
    assert (answer.status, answer.code) == (409, "BucketFixed")
    assert service("GET", "/storage/buckets").json() == [before]


def test_naming_the_present_name_and_storage_is_no_change(service: Client) -> None:
    service.bucket("b")
    answer = service("PUT", "/storage/buckets/b", {"name": "b", "storage_id": None, "public": True})
    assert (answer.status, answer.json()["public"]) == (200, True)


@pytest.mark.parametrize(
    "change", [{"max_file_size": 0}, {"max_file_size": 5_000_000_001}, {"public": "yes"}, {"allowed_mimes": ["x"]}, []]
)
def test_a_change_that_is_wrong_changes_nothing(service: Client, change: Any) -> None:
    before = service.bucket("b")
    assert service("PUT", "/storage/buckets/b", change).status == 400
    assert service("GET", "/storage/buckets/b").json() == before


def test_changing_what_does_not_exist_is_not_found(service: Client) -> None:
    answer = service("PUT", "/storage/buckets/b", {"public": True})
    assert (answer.status, answer.code) == (404, "BucketNotFound")
    assert service("GET", "/storage/buckets").json() == []


# ---- deleting ------------------------------------------------------------------------------------------
def test_deleting_frees_the_name_and_serves_nothing_at_once(tenant: Tenant) -> None:
    service = tenant.service
    service.bucket("b", public=True)
    service.put("b", "x", b"bytes")
    answer = service("DELETE", "/storage/buckets/b")
    assert (answer.status, answer.json().keys()) == (200, {"job_id"})
    assert service("GET", "/storage/buckets").json() == []
    assert service("GET", "/storage/buckets/b").status == 404
    assert service.get("b", "x").status == 404
    assert service("HEAD", "/storage/object/b/x").status == 404
    assert service("GET", "/storage/object-info/b/x").status == 404
    assert service("GET", "/storage/objects/b").status == 404
    assert service.put("b", "y", b"bytes").status == 404
    assert service.delete("b", "x").status == 404
    assert tenant.nobody("GET", f"/storage/public/{tenant.tenant_id}/b/x").status == 404
    assert service("DELETE", "/storage/buckets/b").status == 404


def test_another_process_stops_serving_a_deleted_bucket_within_a_minute(tenant: Tenant, clock: Clock) -> None:
    service = tenant.service
    service.bucket("b")
    service.put("b", "x", b"bytes")
    remembered = Bucket.read(tenant.tenant_id, "b")
    assert remembered is not None
    service("DELETE", "/storage/buckets/b")
    buckets.remember(remembered)  # as a process does that had read the bucket just before
    assert service.put("b", "y", b"bytes").status == 404
    buckets.remember(remembered)
    clock.advance(60)
    assert service.get("b", "x").status == 404


def test_the_job_of_a_deletion_removes_every_row_and_ends(tenant: Tenant, clock: Clock) -> None:
    service = tenant.service
    service.bucket("b")
    for number in range(3):
        service.put("b", f"x{number}", b"bytes")
    bucket = Bucket.read(tenant.tenant_id, "b")
    assert bucket is not None
    job_id = service("DELETE", "/storage/buckets/b").json()["job_id"]
    assert service("GET", f"/jobs/{job_id}").json() == {
        "id": job_id,
        "kind": "bucket.delete",
        "status": "queued",
        "done": 0,
        "total": None,
        "error": None,
    }
    run_job(job_id)
    assert buckets._rows(bucket.partition) == []
    assert service("GET", f"/jobs/{job_id}").json()["status"] != "done"  # an upload under way may still land
    clock.advance(61)
    run_job(job_id)
    job = service("GET", f"/jobs/{job_id}").json()
    assert (job["status"], job["done"], job["total"], job["error"]) == ("done", 3, 3, None)


def test_an_upload_that_lands_after_the_deletion_is_removed_too(tenant: Tenant, clock: Clock) -> None:
    service = tenant.service
    service.bucket("b")
    service.put("b", "x", b"bytes")
    bucket = Bucket.read(tenant.tenant_id, "b")
    assert bucket is not None
    job_id = service("DELETE", "/storage/buckets/b").json()["job_id"]
    run_job(job_id)
    late = service.bucket("other")
    service.put("other", "late", b"bytes")
    landed = _row_in(tenant, late["name"], "late")
    landed.partition = bucket.partition
    landed.save()
    clock.advance(61)
    run_job(job_id)
    assert buckets._rows(bucket.partition) == []
    assert service("GET", f"/jobs/{job_id}").json()["status"] == "done"


def _row_in(tenant: Tenant, bucket_name: str, name: str) -> Any:
    from chalicelib.tables.objects import StoredObject

    bucket = Bucket.read(tenant.tenant_id, bucket_name)
    assert bucket is not None
    row = StoredObject.read(bucket.partition, name)
    assert row is not None
    return row


def test_the_job_is_shown_to_the_service_key_alone(tenant: Tenant, new_tenant: Any) -> None:
    tenant.service.bucket("b")
    job_id = tenant.service("DELETE", "/storage/buckets/b").json()["job_id"]
    assert tenant.service("GET", f"/jobs/{job_id}").status == 200
    for client in (tenant.anon, tenant.user(), new_tenant().service):
        assert client("GET", f"/jobs/{job_id}").status == 404


def test_if_empty_keeps_a_bucket_that_holds_something(service: Client) -> None:
    bucket = service.bucket("b")
    service.put("b", "x", b"bytes")
    answer = service("DELETE", "/storage/buckets/b?if_empty=true")
    assert (answer.status, answer.code) == (409, "BucketNotEmpty")
    assert service("GET", "/storage/buckets/b").json() == bucket
    assert service.get("b", "x").body == b"bytes"


def test_if_empty_deletes_a_bucket_that_holds_nothing_any_more(service: Client) -> None:
    service.bucket("b")
    service.put("b", "x", b"bytes")
    service("POST", "/storage/object/move", {"bucket": "b", "from": "x", "to": "y"})
    service.delete("b", "y")
    answer = service("DELETE", "/storage/buckets/b?if_empty=true")
    assert (answer.status, answer.json().keys()) == (200, {"job_id"})
    assert service("GET", "/storage/buckets/b").status == 404


@pytest.mark.parametrize("query", ["if_empty=false", "if_empty=0"])
def test_without_if_empty_a_full_bucket_goes(service: Client, query: str) -> None:
    service.bucket("b")
    service.put("b", "x", b"bytes")
    assert service("DELETE", f"/storage/buckets/b?{query}").status == 200


@pytest.mark.parametrize("query", ["if_empty=maybe", "if_empty=", "if_empty=true&if_empty=false"])
def test_an_if_empty_that_says_neither_deletes_nothing(service: Client, query: str) -> None:
    service.bucket("b")
    assert service("DELETE", f"/storage/buckets/b?{query}").status == 400
    assert service("GET", "/storage/buckets/b").status == 200


def test_a_name_taken_anew_shares_nothing_with_the_bucket_before(tenant: Tenant, clock: Clock) -> None:
    service = tenant.service
    first = service.bucket("b", public=True, max_file_size=100, allowed_mimes=["text/plain"])
    service.put("b", "old", b"old", "text/plain")
    service.put("b", "both", b"old", "text/plain")
    job_id = service("DELETE", "/storage/buckets/b").json()["job_id"]
    second = service.bucket("b")
    assert second["id"] != first["id"]
    assert (second["public"], second["max_file_size"], second["allowed_mimes"]) == (False, None, None)
    assert service.names("b") == []
    assert service.get("b", "old").status == 404
    assert service.put("b", "both", b"new").status == 201
    run_job(job_id)
    clock.advance(61)
    run_job(job_id)
    assert service("GET", f"/jobs/{job_id}").json()["status"] == "done"
    assert service.names("b") == ["both"]
    assert service.get("b", "both").body == b"new"


def test_deleting_what_does_not_exist_is_not_found(service: Client) -> None:
    answer = service("DELETE", "/storage/buckets/b")
    assert (answer.status, answer.code) == (404, "BucketNotFound")
