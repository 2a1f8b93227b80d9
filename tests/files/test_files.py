"""A tenant's own drive through HTTP: PUT, GET, HEAD, PATCH and DELETE of files, and who may (seed 003, FEATURES F8, F9, F15)."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib import providers
from chalicelib.access.principals import Permission, Role
from chalicelib.core import objects, tenants
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.garbage import Garbage
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import scan
from tests.api.test_downloads import JAVASCRIPT, disposition, follow
from tests.api.test_objects import EDGE_NAMES, PDF, PNG, encoded
from tests.client import Answer, Client, together
from tests.conftest import Clock, Tenant
from tests.durability.api_process import ApiProcess
from tests.durability.conftest import Stream
from tests.files.conftest import (
    FILE,
    ROOT,
    UNKNOWN,
    Choose,
    allow,
    delete,
    examples,
    file_of,
    folder,
    get,
    is_permitted,
    keys,
    listed,
    patch,
    put,
    refused,
    row_of,
    stored,
    uid_of,
)

BYTES = b"0123456789"
SANDBOX = "default-src 'none'; sandbox"
# What no overwrite changes of a file, and what each one does.
KEPT, CHANGED = ("id", "key", "ownerId", "acl", "folderId", "uploadedAt"), ("version", "checksum", "size", "contentType")
SAME_ORIGIN = {"origin": "http://api.test"}


def sign(client: Client, key: str) -> Answer:
    return client("POST", f"/api/storage/_sign/{quote(key)}")


def reserved_bucket(tenant: Tenant) -> Bucket:
    bucket = Bucket.read(tenant.tenant_id, FILES)
    assert bucket is not None
    return bucket


@pytest.fixture
def api(embedded: Any) -> Iterator[ApiProcess]:
    """The API in a process of its own, behind a server that works on many requests at once."""
    process = ApiProcess()
    yield process
    process.reap()


def over_http(api: ApiProcess, token: str, method: str, key: str, body: bytes, **headers: str) -> Callable[[], Answer]:
    """A request to that process, to be made at the moment of others."""
    sent = {"Authorization": f"Bearer {token}"} | {name.replace("_", "-"): value for name, value in headers.items()}

    def act() -> Answer:
        answer = api.ask(method, f"/api/storage/{key}", body, sent)
        return Answer(answer.status, answer.headers, answer.body)

    return act


# ---- storing -------------------------------------------------------------------------------------------
def test_a_new_file_is_stored_under_its_key_and_is_its_users(tenant: Tenant, ada: Client) -> None:
    """F8.12"""
    answer = put(ada, "photo.txt", BYTES)
    assert answer.status == 201
    assert answer.json().keys() == {"data"}
    file = answer.json()["data"]
    assert file.keys() == FILE
    assert (file["key"], file["size"], file["contentType"], file["checksum"]) == (
        "photo.txt",
        10,
        "text/plain",
        hashlib.sha256(BYTES).hexdigest(),
    )
    assert (file["ownerId"], file["acl"], file["folderId"], file["metadata"]) == (uid_of(tenant, "ada"), "private", None, None)
    assert file["uploadedAt"] == file["updatedAt"]
    assert file_of(ada, "photo.txt") == file
    assert get(ada, "photo.txt").body == BYTES


def test_a_user_whose_token_names_a_uuid_owns_files_under_it(tenant: Tenant) -> None:
    """F8.12"""
    subject = "6F1C9A52-7d0e-4b6a-9c3f-0a1b2c3d4e5f"
    assert stored(tenant.user(sub=subject), "a")["ownerId"] == subject.lower()


def test_a_file_of_the_service_key_has_no_owner(service: Client) -> None:
    """F8.12"""
    assert stored(service, "a")["ownerId"] is None


def test_an_overwrite_keeps_who_and_where_a_file_is_and_has_a_new_version(ada: Client, service: Client) -> None:
    """F8.12"""
    label = folder(ada, "label")
    before = stored(ada, "a", b"before", f"?acl=public&folderId={label}", x_metadata=encoded({"k": 1}))
    answer = put(ada, "a", b"and after", content_type="text/csv")
    assert answer.status == 200
    after = answer.json()["data"]
    assert {name: after[name] for name in KEPT} == {name: before[name] for name in KEPT}
    assert all(after[name] != before[name] for name in CHANGED)
    assert after["version"] > before["version"]
    assert after["updatedAt"] > before["updatedAt"]
    assert file_of(ada, "a") == file_of(service, "a") == after
    assert get(ada, "a").body == b"and after"


def test_an_overwrite_may_file_anew(ada: Client) -> None:
    """F8.12"""
    label = folder(ada, "label")
    stored(ada, "docs/a")
    assert stored(ada, "docs/a", query=f"?acl=public&folderId={label}")["folderId"] == label
    refiled = stored(ada, "docs/a", query=f"?acl=private&folderId={ROOT}")
    assert (refiled["acl"], refiled["folderId"]) == ("private", None)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("acl=secret", 422, "VALIDATION"),
        ("acl=", 422, "VALIDATION"),
        (f"folderId={UNKNOWN}", 404, "NOT_FOUND"),
        ("folderId=nonsense", 404, "NOT_FOUND"),
    ],
)
def test_a_put_that_files_where_nothing_can_be_is_refused(ada: Client, query: str, status: int, code: str) -> None:
    """F8.12"""
    refused(put(ada, "a", query=f"?{query}"), status, code)
    assert keys(ada) == []
    before = stored(ada, "a", b"before")
    refused(put(ada, "a", b"after", f"?{query}"), status, code)
    assert file_of(ada, "a") == before


@pytest.mark.parametrize("body", [b"", b"\0", bytes(range(256)) * 40, "naïve ☕".encode()])
def test_any_bytes_come_back_as_they_were(ada: Client, body: bytes) -> None:
    """F8.12"""
    file = stored(ada, "a", body)
    assert (file["size"], file["checksum"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert get(ada, "a").body == body


@pytest.mark.parametrize(
    ("key", "declared", "kept"),
    [
        ("a.png", None, "image/png"),
        ("a.png", "", "image/png"),
        ("folder.png/a.txt", None, "text/plain"),
        ("a.json", "application/x-www-form-urlencoded", "application/json"),
        ("a", None, "application/octet-stream"),
        ("a.png", "text/plain", "text/plain"),
        ("a", "Text/Plain; charset=UTF-8", "text/plain; charset=UTF-8"),
        ("a", "multipart/form-data; boundary=x", "multipart/form-data; boundary=x"),
    ],
)
def test_the_type_is_the_declared_one_else_guessed_from_the_key(ada: Client, key: str, declared: str | None, kept: str) -> None:
    """F8.12: and the body is the file, whatever its type."""
    answer = ada("PUT", f"/api/storage/{key}", BYTES, {} if declared is None else {"content-type": declared})
    assert (answer.status, answer.json()["data"]["contentType"]) == (201, kept)
    assert (get(ada, key).headers["content-type"], get(ada, key).body) == (kept, BYTES)


@pytest.mark.parametrize("declared", ["nonsense", "a/b/c", "text/", "text/plain;", "text/pläin", "a/" + "b" * 300])
def test_a_declared_type_that_is_none_is_refused(ada: Client, declared: str) -> None:
    """F8.12"""
    refused(put(ada, "a", content_type=declared), 422, "VALIDATION")
    assert keys(ada) == []


@pytest.mark.parametrize("metadata", [{}, {"a": 1}, {"ä": ["☕", None, True, 1.5, {"deep": {}}]}, {"text": "x" * (4096 - 11)}])
def test_metadata_comes_with_the_file_and_is_shown(ada: Client, metadata: dict[str, Any]) -> None:
    """F8.12"""
    header = encoded(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
    assert stored(ada, "a", x_metadata=header)["metadata"] == metadata
    assert file_of(ada, "a")["metadata"] == metadata


@pytest.mark.parametrize("header", ["***", "e30", encoded(b"{"), encoded([1]), encoded(None), encoded({"text": "x" * 4096})])
def test_metadata_that_is_not_a_small_json_object_is_refused(ada: Client, header: str) -> None:
    """F8.12"""
    refused(put(ada, "a", x_metadata=header), 422, "VALIDATION")
    assert keys(ada) == []


@pytest.mark.parametrize(
    "headers", [{"x_upsert": "false"}, {"x_upsert": "0"}, {"if_none_match": "*"}, {"x_upsert": "true", "if_none_match": "*"}]
)
def test_a_file_may_be_stored_only_if_there_is_none(ada: Client, headers: dict[str, str]) -> None:
    """F8.12"""
    first = stored(ada, "a", b"first", **headers)
    error = refused(put(ada, "a", b"second", **headers), 409, "CONFLICT")
    assert error["details"]["reason"] == "ObjectExists"
    assert file_of(ada, "a") == first
    assert get(ada, "a").body == b"first"


@pytest.mark.parametrize("headers", [{"x_upsert": "perhaps"}, {"x_upsert": ""}, {"if_none_match": '"version"'}])
def test_a_condition_of_a_put_that_is_none_is_refused(ada: Client, headers: dict[str, str]) -> None:
    """F8.12"""
    refused(put(ada, "a", b"bytes", "", **headers), 422, "VALIDATION")
    assert keys(ada) == []


def test_of_eight_who_store_a_file_only_if_there_is_none_one_does(tenant: Tenant, ada: Client, api: ApiProcess) -> None:
    """F8.12"""
    token = tenant.token(sub="ada")
    answers = together([over_http(api, token, "PUT", "a", bytes([number]), If_None_Match="*") for number in range(8)])
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    (won,) = [number for number, answer in enumerate(answers) if answer.status == 201]
    assert get(ada, "a").body == bytes([won])


# ---- how much ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("size", "status"), [(0, 201), (9_999, 201), (10_000, 201), (10_001, 413)])
def test_a_put_carries_what_a_request_may_and_beyond_that_is_told_of_uploads(ada: Client, choose: Choose, size: int, status: int) -> None:
    """F8.31"""
    choose("STOWAGE_MAX_BODY", "10000")
    answer = put(ada, "a", bytes(size))
    assert answer.status == status
    if status == 413:
        error = refused(answer, 413, "TOO_LARGE")
        assert "/api/uploads" in error["message"]
        assert error["details"]["limit"] == 10_000
    assert keys(ada) == (["a"] if status == 201 else [])


def test_the_platforms_own_limit_is_that_of_a_put(ada: Client) -> None:
    """F8.31"""
    assert put(ada, "a", bytes(4_400_000)).status == 201
    assert "/api/uploads" in refused(put(ada, "b", bytes(4_400_001)), 413, "TOO_LARGE")["message"]
    assert keys(ada) == ["a"]


@pytest.mark.parametrize(("size", "announced", "status"), [(1001, "1", 413), (1001, "0", 413), (10, "999999999", 201), (10, "1", 201)])
def test_bytes_are_counted_as_they_come_and_not_as_they_are_announced(
    ada: Client, choose: Choose, size: int, announced: str, status: int
) -> None:
    """F8.31"""
    choose("STOWAGE_MAX_BODY", "1000")
    answer = put(ada, "a", bytes(size), content_length=announced)
    assert answer.status == status
    if status == 201:
        assert answer.json()["data"]["size"] == size


def test_what_is_too_large_for_a_request_touches_no_storage(ada: Client, choose: Choose, calls: list[Any]) -> None:
    """F8.31"""
    choose("STOWAGE_MAX_BODY", "1000")
    put(ada, "a", b"warm")
    calls.clear()
    assert put(ada, "a", bytes(1001)).status == 413
    assert [call for call in calls if call.service == "s3"] == []


def test_a_file_larger_than_a_request_comes_in_chunks_and_goes_by_a_redirect(ada: Client, choose: Choose) -> None:
    """F8.35: no request, and no answer, carries more than the platform lets it."""
    choose("STOWAGE_MAX_BODY", "10000")
    whole = bytes(range(250)) * 200
    tus = {"tus-resumable": "1.0.0", "content-type": "application/offset+octet-stream"}
    named = f"key {base64.b64encode(b'large.txt').decode()}"
    begun = ada("POST", "/api/uploads", headers=tus | {"upload-length": str(len(whole)), "upload-metadata": named})
    assert begun.status == 201, begun.body
    path = begun.headers["location"].removeprefix("http://api.test")
    assert ada("PATCH", path, whole[:10_001], tus | {"upload-offset": "0"}).status == 413
    for offset in range(0, len(whole), 10_000):
        assert ada("PATCH", path, whole[offset : offset + 10_000], tus | {"upload-offset": str(offset)}).status == 204
    assert (file_of(ada, "large.txt")["size"], file_of(ada, "large.txt")["contentType"]) == (len(whole), "text/plain")
    answer = get(ada, "large.txt")
    assert (answer.status, answer.body, answer.headers["cache-control"]) == (302, b"", "no-store")
    assert follow(answer)[2] == whole
    part = get(ada, "large.txt", range="bytes=10-19")
    assert (part.status, part.body) == (206, whole[10:20])


# ---- over what others have -----------------------------------------------------------------------------
@pytest.mark.parametrize("headers", [{}, {"x_upsert": "true"}, {"x_upsert": "false"}, {"if_none_match": "*"}])
@pytest.mark.parametrize("is_visible", [False, True])
def test_a_put_over_another_users_file_changes_nothing(
    tenant: Tenant, ada: Client, bob: Client, headers: dict[str, str], is_visible: bool
) -> None:
    """F8.13"""
    if is_visible:
        allow(tenant.service, "SELECT", "true")
    stored(ada, "a", b"of ada", x_metadata=encoded({"k": 1}))
    before, row = file_of(ada, "a"), row_of(tenant, "a")
    answer = put(bob, "a", b"of bob", f"?acl=public&folderId={ROOT}", content_type="text/csv", x_metadata=encoded({"b": 2}), **headers)
    refused(answer, 403, "FORBIDDEN")
    after = row_of(tenant, "a")
    assert row is not None
    assert after is not None
    assert after.attribute_values == row.attribute_values
    assert file_of(ada, "a") == before
    assert get(ada, "a").body == b"of ada"
    assert keys(bob, "search=a") == (["a"] if is_visible else [])


def test_a_put_over_a_file_of_the_service_key_changes_nothing(ada: Client, service: Client) -> None:
    """F8.13"""
    before = stored(service, "a", b"of the service")
    refused(put(ada, "a", b"of ada"), 403, "FORBIDDEN")
    assert file_of(service, "a") == before


def test_a_put_by_the_service_key_over_a_users_file_keeps_its_owner(tenant: Tenant, ada: Client, service: Client) -> None:
    """F8.13"""
    before = stored(ada, "a", b"of ada")
    answer = put(service, "a", b"by the service")
    assert (answer.status, answer.json()["data"]["ownerId"]) == (200, uid_of(tenant, "ada"))
    assert {name: file_of(ada, "a")[name] for name in KEPT} == {name: before[name] for name in KEPT}
    assert get(ada, "a").body == b"by the service"


def test_who_may_update_a_file_of_another_may_store_over_it_and_does_not_take_it(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F8.13"""
    stored(ada, "wiki/page", b"of ada")
    allow(tenant.service, "UPDATE", "starts_with(name, 'wiki/')")
    answer = put(bob, "wiki/page", b"of both")
    assert (answer.status, answer.json()["data"]["ownerId"]) == (200, uid_of(tenant, "ada"))
    assert get(ada, "wiki/page").body == b"of both"
    assert get(bob, "wiki/page").status == 404  # to write is not to read


def test_a_put_over_another_users_file_is_refused_however_many_store_at_once(tenant: Tenant, ada: Client, api: ApiProcess) -> None:
    """F8.13"""
    before = stored(ada, "a", b"of ada")
    answers = together(
        [over_http(api, tenant.token(sub=who), "PUT", "a", f"of {who} {number}".encode()) for number in range(5) for who in ("ada", "bob")]
    )
    assert [answer.status for answer in answers] == [200, 403] * 5
    assert {name: file_of(ada, "a")[name] for name in KEPT} == {name: before[name] for name in KEPT}
    assert get(ada, "a").body.startswith(b"of ada ")


def test_of_users_who_store_one_new_file_at_once_one_has_it_and_the_others_are_refused(
    tenant: Tenant, service: Client, api: ApiProcess
) -> None:
    """F8.13"""
    who = [f"user-{number}" for number in range(8)]
    answers = together([over_http(api, tenant.token(sub=each), "PUT", "new", each.encode()) for each in who])
    assert sorted(answer.status for answer in answers) == [201] + [403] * 7
    winner = who[[answer.status for answer in answers].index(201)]
    assert file_of(service, "new")["ownerId"] == uid_of(tenant, winner)
    assert get(service, "new").body == winner.encode()


def test_a_file_that_another_stores_between_look_and_write_is_not_overwritten(
    ada: Client, bob: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F8.13: and the bytes that were stored in vain are filed as garbage."""
    read = objects.read_current

    def and_then_stored(*arguments: Any) -> Any:
        found = read(*arguments)
        monkeypatch.undo()
        stored(ada, "a", b"of ada")
        return found

    monkeypatch.setattr(objects, "read_current", and_then_stored)
    refused(put(bob, "a", b"of bob"), 403, "FORBIDDEN")
    assert get(ada, "a").body == b"of ada"
    row = row_of(tenant, "a")
    assert row is not None
    held = {each.key for each in providers.internal().list(f"objects/tenants/{tenant.tenant_id}/")}
    assert len(held) == 2
    assert held - {row.physical_key} <= garbage()
    assert row.physical_key not in garbage()


def garbage() -> set[str]:
    return {item["physical_key"]["S"] for page in scan(Garbage) for item in page}


# ---- giving --------------------------------------------------------------------------------------------
@pytest.fixture
def digits(ada: Client, clock: Clock) -> Client:
    """A user with a file `d` of ten bytes, some seconds old."""
    stored(ada, "d", BYTES)
    clock.advance(5)
    return ada


def test_a_file_is_given_with_what_it_is(digits: Client) -> None:
    """F8.23"""
    file, answer = file_of(digits, "d"), get(digits, "d")
    assert (answer.status, answer.body) == (200, BYTES)
    assert {name: answer.headers[name] for name in ("content-type", "etag", "accept-ranges", "x-object-size")} == {
        "content-type": "text/plain",
        "etag": f'"{file["version"]}"',
        "accept-ranges": "bytes",
        "x-object-size": "10",
    }
    told = parsedate_to_datetime(answer.headers["last-modified"])
    updated = datetime.fromisoformat(file["updatedAt"])
    assert told == updated.replace(microsecond=0) + timedelta(seconds=bool(updated.microsecond))  # the first second by which it was


def test_head_tells_everything_but_the_bytes(digits: Client) -> None:
    """F8.23"""
    whole, head = get(digits, "d"), get(digits, "d", method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "10")
    for name in ("content-type", "etag", "last-modified", "accept-ranges", "cache-control", "content-security-policy", "x-object-size"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    ("header", "first", "last"), [("bytes=0-0", 0, 0), ("bytes=2-5", 2, 5), ("bytes=5-", 5, 9), ("bytes=-3", 7, 9), ("bytes=8-99", 8, 9)]
)
def test_a_range_gives_that_part(digits: Client, header: str, first: int, last: int) -> None:
    """F8.23"""
    answer = get(digits, "d", range=header)
    assert (answer.status, answer.body, answer.headers["content-range"]) == (206, BYTES[first : last + 1], f"bytes {first}-{last}/10")


@pytest.mark.parametrize("header", ["bytes=0-1,3-4", "bytes=5-2", "items=0-1", "nonsense"])
def test_a_range_that_is_not_a_single_one_gives_the_whole(digits: Client, header: str) -> None:
    """F8.23"""
    answer = get(digits, "d", range=header)
    assert (answer.status, answer.body) == (200, BYTES)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_beyond_the_end_is_told_the_size(digits: Client, header: str) -> None:
    """F8.23"""
    answer = get(digits, "d", range=header)
    refused(answer, 416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_at_hand_is_not_sent_again_until_it_is_overwritten(digits: Client, method: str) -> None:
    """F8.23"""
    first = get(digits, "d", method=method)
    unchanged = get(digits, "d", method=method, if_none_match=first.headers["etag"])
    assert (unchanged.status, unchanged.body, unchanged.headers["etag"]) == (304, b"", first.headers["etag"])
    assert unchanged.headers["cache-control"].startswith("private")
    assert put(digits, "d", BYTES).status == 200  # the same bytes, and yet another version
    again = get(digits, "d", method=method, if_none_match=first.headers["etag"])
    assert again.status == 200
    assert again.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize(("seconds", "status"), [(-1, 200), (0, 304), (3600, 304)])
def test_what_is_no_newer_than_what_is_at_hand_is_not_sent_again(digits: Client, seconds: int, status: int) -> None:
    """F8.23"""
    modified = parsedate_to_datetime(get(digits, "d").headers["last-modified"])
    since = format_datetime(modified + timedelta(seconds=seconds), usegmt=True)
    assert get(digits, "d", if_modified_since=since).status == status


def test_a_version_that_is_insisted_on_must_be_the_one_there(digits: Client) -> None:
    """F8.23"""
    etag = get(digits, "d").headers["etag"]
    assert get(digits, "d", if_match=etag).status == 200
    refused(get(digits, "d", if_match='"other"'), 412, "PRECONDITION_FAILED")
    longer_ago = format_datetime(datetime(2015, 10, 21, tzinfo=UTC), usegmt=True)
    refused(get(digits, "d", if_unmodified_since=longer_ago), 412, "PRECONDITION_FAILED")


def test_a_change_of_what_is_said_of_a_file_leaves_its_bytes_validator_alone(digits: Client) -> None:
    """F8.23"""
    etag = get(digits, "d").headers["etag"]
    assert patch(digits, "d", acl="public", metadata={"k": 1}).status == 200
    assert get(digits, "d", if_none_match=etag).status == 304


@pytest.mark.parametrize(
    ("query", "name"), [("download", "päge one.txt"), ("download=", "päge one.txt"), ("download=other%22.txt", 'other".txt')]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_download_has_a_browser_save_the_file(ada: Client, method: str, query: str, name: str) -> None:
    """F8.23"""
    stored(ada, "docs/päge one.txt")
    assert "content-disposition" not in get(ada, "docs/päge one.txt", method=method).headers
    answer = get(ada, "docs/päge one.txt", f"?{query}", method)
    assert (answer.status, disposition(answer)[1]) == (200, name)


@pytest.mark.parametrize(
    "content_type",
    ["text/html", "TEXT/HTML; charset=utf-8", "image/svg+xml", "text/xml", "application/xml", "application/xhtml+xml", "unknown/type"],
)
def test_what_a_browser_could_run_is_an_attachment_in_a_sandbox(ada: Client, content_type: str) -> None:
    """F8.22"""
    stored(ada, "page", b"<script>alert(1)</script>", content_type=content_type)
    answer = get(ada, "page")
    assert (answer.status, disposition(answer)) == (200, ("page", "page"))
    assert answer.headers["content-security-policy"] == SANDBOX
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("content_type", [*JAVASCRIPT, "application/wasm", "Text/JavaScript; charset=utf-8"])
def test_what_a_page_could_load_as_code_is_plain_bytes(ada: Client, content_type: str) -> None:
    """F8.22"""
    stored(ada, "code", b"alert(1)", content_type=content_type)
    answer = get(ada, "code")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert disposition(answer) == ("code", "code")
    assert answer.headers["content-security-policy"] == SANDBOX
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "text/plain; charset=utf-8", "video/mp4", "audio/mpeg"])
def test_what_is_harmless_is_shown_in_place(ada: Client, content_type: str) -> None:
    """F8.22"""
    stored(ada, "d", BYTES, content_type=content_type)
    answer = get(ada, "d")
    assert answer.headers["content-type"] == content_type
    assert "content-disposition" not in answer.headers
    assert answer.headers["content-security-policy"] == SANDBOX
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_pdf_is_shown_in_place_without_the_sandbox_in_which_browsers_show_none(ada: Client, method: str) -> None:
    """F8.22"""
    stored(ada, "d.pdf", PDF, content_type="application/pdf")
    answer = get(ada, "d.pdf", method=method)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/pdf")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert {"content-disposition", "content-security-policy"}.isdisjoint(answer.headers)


@pytest.mark.parametrize("acl", ["public", "private"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_shared_cache_keeps_an_original_whatever_its_acl(ada: Client, choose: Choose, acl: str, method: str) -> None:
    """F8.36"""
    choose("STOWAGE_PUBLIC_BASE_URL", "https://img.example.com")
    version = stored(ada, "d", BYTES, f"?acl={acl}")["version"]
    for query, kept_for in (("", "no-cache"), (f"?version={version}", "max-age=31536000, immutable")):
        answer = get(ada, "d", query, method)
        assert (answer.status, answer.headers["cache-control"]) == (200, f"private, {kept_for}")
        unchanged = get(ada, "d", query, method, if_none_match=answer.headers["etag"])
        assert (unchanged.status, unchanged.headers["cache-control"]) == (304, f"private, {kept_for}")
    assert get(ada, "d", range="bytes=0-1").headers["cache-control"] == "private, no-cache"


def test_a_version_that_is_asked_for_must_be_the_one_there(digits: Client) -> None:
    """F8.23"""
    version = file_of(digits, "d")["version"]
    put(digits, "d", b"other")
    refused(get(digits, "d", f"?version={version}"), 404, "NOT_FOUND")


# ---- changing ------------------------------------------------------------------------------------------
def test_a_change_answers_the_file_as_it_is_now(digits: Client) -> None:
    """F8.14"""
    label, before = folder(digits, "label"), file_of(digits, "d")
    answer = patch(digits, "d", acl="public", folderId=label, metadata={"k": [1, None]})
    assert answer.status == 200
    assert answer.json().keys() == {"ok", "data"}
    assert answer.json()["ok"] is True
    after = answer.json()["data"]
    assert after == before | {"acl": "public", "folderId": label, "metadata": {"k": [1, None]}, "updatedAt": after["updatedAt"]}
    assert after["updatedAt"] > before["updatedAt"]
    assert file_of(digits, "d") == after
    assert get(digits, "d").body == BYTES


@pytest.mark.parametrize("given", [{}, {"acl": None}, {"size": 5, "ownerId": UNKNOWN, "version": "other"}])
def test_what_is_not_given_or_cannot_be_changed_stays(digits: Client, given: dict[str, Any]) -> None:
    """F8.14"""
    label = folder(digits, "label")
    before = patch(digits, "d", acl="public", folderId=label, metadata={"k": 1}).json()["data"]
    answer = patch(digits, "d", **given)
    assert (answer.status, answer.json()["ok"]) == (200, True)
    assert answer.json()["data"] == before | {"updatedAt": answer.json()["data"]["updatedAt"]}


@pytest.mark.parametrize("acl", ["public", "private"])
def test_the_acl_is_set_and_set_again(digits: Client, acl: str) -> None:
    """F8.14"""
    for each in ("public", "private", acl, acl):
        assert patch(digits, "d", acl=each).json()["data"]["acl"] == each
    assert file_of(digits, "d")["acl"] == acl


@pytest.mark.parametrize(
    ("before", "given", "after"),
    [
        (None, {"a": 1}, {"a": 1}),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"a": 1}, {"a": None}, None),
        ({"a": 1}, {"absent": None}, {"a": 1}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}}, {"a": {"x": 3}}),
        ({"a": 1}, {"a": {"inner": None}}, {"a": {"inner": None}}),
        ({"a": 1, "b": 2}, None, None),
        (None, None, None),
        ({"a": "x" * 2000}, {"b": "y" * (4096 - 2000 - 17)}, {"a": "x" * 2000, "b": "y" * (4096 - 2000 - 17)}),
    ],
    ids=["first", "merged", "removed", "last one", "absent", "nothing", "not merged inside", "inner null", "wiped", "none", "at the limit"],
)
def test_metadata_is_merged_a_null_key_goes_and_null_wipes_it(
    ada: Client, before: dict[str, Any] | None, given: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    """F8.14"""
    stored(ada, "d", BYTES, "", **({} if before is None else {"x_metadata": encoded(before)}))
    answer = patch(ada, "d", metadata=given)
    assert (answer.status, answer.json()["data"]["metadata"]) == (200, after)
    assert file_of(ada, "d")["metadata"] == after


def test_metadata_that_grows_beyond_four_kilobytes_by_merging_is_refused(ada: Client) -> None:
    """F8.14"""
    stored(ada, "d", x_metadata=encoded({"a": "x" * 4000}))
    before = file_of(ada, "d")
    refused(patch(ada, "d", metadata={"b": "y" * 100}), 422, "VALIDATION")
    assert file_of(ada, "d") == before
    assert patch(ada, "d", metadata={"a": None, "b": "y" * 100}).json()["data"]["metadata"] == {"b": "y" * 100}


@pytest.mark.parametrize(
    "body",
    [
        {"acl": "secret"},
        {"acl": 1},
        {"acl": "Public"},
        {"folderId": 5},
        {"folderId": ""},
        {"folderId": "x" * 65},
        {"metadata": [1]},
        {"metadata": "text"},
        {"metadata": {"text": "x" * 4096}},
        [],
        None,
        b"",
        b"{",
        b'{"metadata": {"a": NaN}}',
        b'{"metadata": {"a": "\\ud800"}}',
    ],
)
def test_a_change_that_is_none_is_refused_and_changes_nothing(digits: Client, body: Any) -> None:
    """F8.14"""
    before = file_of(digits, "d")
    refused(digits("PATCH", "/api/storage/d", body if isinstance(body, bytes) else json.dumps(body).encode()), 422, "VALIDATION")
    assert file_of(digits, "d") == before


@pytest.mark.parametrize("folder_id", [UNKNOWN, "nonsense"])
def test_a_file_does_not_go_to_a_folder_that_is_not_there(digits: Client, folder_id: str) -> None:
    """F8.14"""
    before = file_of(digits, "d")
    error = refused(patch(digits, "d", acl="public", folderId=folder_id), 404, "NOT_FOUND")
    assert error["details"]["reason"] == "FolderNotFound"
    assert file_of(digits, "d") == before


def test_changes_of_metadata_at_once_all_count(tenant: Tenant, digits: Client, api: ApiProcess) -> None:
    """F8.14"""
    token = tenant.token(sub="ada")
    answers = together([over_http(api, token, "PATCH", "d", json.dumps({"metadata": {str(k): k}}).encode()) for k in range(8)])
    assert [answer.status for answer in answers] == [200] * 8
    assert file_of(digits, "d")["metadata"] == {str(number): number for number in range(8)}


def test_a_change_never_brings_back_a_file_that_was_deleted_meanwhile(digits: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8.14"""
    read = objects.read_current

    def and_then_deleted(*arguments: Any) -> Any:
        found = read(*arguments)
        monkeypatch.undo()
        assert delete(digits, "d").status == 200
        return found

    monkeypatch.setattr(objects, "read_current", and_then_deleted)
    refused(patch(digits, "d", acl="public"), 404, "NOT_FOUND")
    assert keys(digits) == []


# ---- deleting ------------------------------------------------------------------------------------------
def test_a_deleted_file_is_gone_from_every_route(tenant: Tenant, digits: Client) -> None:
    """F8.15"""
    answer = delete(digits, "d")
    assert (answer.status, answer.json()) == (200, {"ok": True})
    for gone in (get(digits, "d"), patch(digits, "d", acl="public"), delete(digits, "d"), sign(digits, "d")):
        refused(gone, 404, "NOT_FOUND")
    assert (get(digits, "d", method="HEAD").status, get(digits, "d", method="HEAD").body) == (404, b"")
    assert keys(digits) == []
    assert row_of(tenant, "d") is None


def test_the_bytes_of_a_deleted_file_are_left_to_the_collector(tenant: Tenant, digits: Client, stream: Stream) -> None:
    """F8.15"""
    row = row_of(tenant, "d")
    assert row is not None
    delete(digits, "d")
    stream.deliver()
    assert row.physical_key in garbage()


def test_a_file_stored_after_a_deletion_is_a_new_one(tenant: Tenant, digits: Client, bob: Client) -> None:
    """F8.15"""
    patch(digits, "d", acl="public", metadata={"k": 1})
    before = file_of(digits, "d")
    delete(digits, "d")
    answer = put(bob, "d", BYTES)
    assert answer.status == 201
    after = answer.json()["data"]
    assert (after["ownerId"], after["acl"], after["metadata"]) == (uid_of(tenant, "bob"), "private", None)
    assert after["id"] != before["id"]
    assert after["uploadedAt"] > before["uploadedAt"]


# ---- who may -------------------------------------------------------------------------------------------
Act = Callable[[Client], Answer]
# Every way to a file of this surface, for a caller to whom `mine` is another's or their own.
EVERY: dict[str, Act] = {
    "list": lambda client: client("GET", "/api/storage"),
    "store new": lambda client: put(client, "new"),
    "store over": lambda client: put(client, "mine"),
    "get": lambda client: get(client, "mine"),
    "head": lambda client: get(client, "mine", method="HEAD"),
    "transform": lambda client: get(client, "mine", "?width=10"),
    "change": lambda client: patch(client, "mine", metadata={"changed": True}),
    "sign": lambda client: sign(client, "mine"),
    "sign by suffix": lambda client: client("POST", "/api/storage/mine/sign"),
    "counts": lambda client: client("GET", "/api/storage/folder-counts"),
    "import": lambda client: client("POST", "/api/storage/from-url", {"url": "https://example.com/a"}),
    "delete": lambda client: delete(client, "mine"),
}
every = pytest.mark.parametrize("act", EVERY.values(), ids=EVERY)


def denied(answer: Answer, act: Act, status: int, code: str) -> None:
    """A refusal, which has no body where HEAD was asked."""
    if act is EVERY["head"]:
        assert (answer.status, answer.body) == (status, b"")
    else:
        refused(answer, status, code)


@every
def test_nobody_at_all_is_asked_for_a_credential(tenant: Tenant, ada: Client, act: Act) -> None:
    """F9.22, F8.36: whatever its acl."""
    for acl in ("private", "public"):
        before = stored(ada, "mine", query=f"?acl={acl}")
        answer = act(tenant.nobody)
        denied(answer, act, 401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert listed(tenant.service)["data"] == [before]


@every
def test_who_has_no_permission_at_all_is_told_so(tenant: Tenant, ada: Client, act: Act) -> None:
    """F9.17, F8.36: the anon key, a key with permissions for other things, and users whose role is another than `authenticated`."""
    before = stored(ada, "mine", query="?acl=public")
    custom, _ = tenants.create_key(tenant.tenant_id, Role.CUSTOM, "all permissions", list(Permission))
    roles = (tenant.user(sub="ada", role=role) for role in ("editor", "service_role", "anon", "org_admin"))
    for client in (tenant.anon, tenant.nobody.using(custom), *roles):
        denied(act(client), act, 403, "FORBIDDEN")
    assert listed(tenant.service)["data"] == [before]


@every
def test_a_credential_that_is_none_opens_nothing(tenant: Tenant, ada: Client, act: Act) -> None:
    """F9.22"""
    before = stored(ada, "mine", query="?acl=public")
    for credential in ("sk_unknown", "not a key", "a.b.c", tenant.token(exp=1), tenant.token(sub="ada", aud="other")):
        denied(act(tenant.nobody.using(credential)), act, 401, "UNAUTHORIZED")
    assert listed(tenant.service)["data"] == [before]


NOT_THERE = ("get", "head", "change", "sign", "sign by suffix", "delete")


@pytest.mark.parametrize("act", [EVERY[name] for name in NOT_THERE], ids=NOT_THERE)
@pytest.mark.parametrize("is_public", [False, True])
def test_a_users_file_does_not_exist_for_another_user(tenant: Tenant, ada: Client, bob: Client, act: Act, is_public: bool) -> None:
    """F9.19, F8.36"""
    before = stored(ada, "mine", query=f"?acl={'public' if is_public else 'private'}")
    denied(act(bob), act, 404, "NOT_FOUND")
    assert listed(tenant.service)["data"] == [before]


def test_what_is_hidden_is_worded_as_what_is_not_there(ada: Client, bob: Client) -> None:
    """F9.19"""
    stored(ada, "mine")
    for name in NOT_THERE:
        hidden = EVERY[name](bob)
        delete(ada, "mine")
        absent = EVERY[name](bob)
        stored(ada, "mine")
        assert hidden.status == absent.status == 404
        if name != "head":
            assert hidden.json()["error"] == absent.json()["error"]


def test_lists_and_counts_show_a_user_their_own_files_alone(ada: Client, bob: Client) -> None:
    """F9.17, F9.19"""
    stored(ada, "of-ada/1")
    stored(bob, "of-bob/1")
    stored(bob, "of-bob/2")
    assert (keys(ada), keys(bob)) == (["of-ada/1"], ["of-bob/2", "of-bob/1"])
    assert [client("GET", "/api/storage/folder-counts").json()["total"] for client in (ada, bob)] == [1, 2]


@pytest.mark.parametrize("claims", [{}, {"role": "authenticated"}, {"role": "service"}, {"role": None}])
def test_a_user_may_create_freely_and_read_change_and_delete_their_own(tenant: Tenant, claims: dict[str, Any]) -> None:
    """F9.17: and no token makes its user the service."""
    user, other = tenant.user(sub="user", **claims), tenant.user(sub="other")
    stored(other, "theirs")
    assert put(user, "any/where/at all").status == 201
    assert get(user, "any/where/at all").status == 200
    assert keys(user) == ["any/where/at all"]
    assert patch(user, "any/where/at all", acl="public").status == 200
    assert put(user, "any/where/at all").status == 200
    assert sign(user, "any/where/at all").status == 200
    assert get(user, "theirs").status == 404
    assert delete(user, "any/where/at all").status == 200


def test_the_service_key_may_do_everything_with_every_file(tenant: Tenant, ada: Client, service: Client) -> None:
    """F9.17"""
    stored(ada, "mine")
    assert keys(service) == ["mine"]
    assert get(service, "mine").status == 200
    assert patch(service, "mine", acl="public").json()["data"]["ownerId"] == uid_of(tenant, "ada")
    assert sign(service, "mine").status == 200
    assert delete(service, "mine").status == 200
    assert keys(ada) == []


def test_another_tenants_credentials_find_nothing_here(ada: Client, new_tenant: Any) -> None:
    """F8.17"""
    stored(ada, "mine")
    stranger = new_tenant()
    for client in (stranger.service, stranger.user(sub="ada")):
        for name in NOT_THERE:
            assert EVERY[name](client).status == 404
        assert keys(client) == []


# ---- cookie, key or token ------------------------------------------------------------------------------
ADMITTED: dict[str, tuple[str, str, Any, int]] = {
    "list": ("GET", "/api/storage", None, 200),
    "store new": ("PUT", "/api/storage/new", b"bytes", 201),
    "store over": ("PUT", "/api/storage/mine", b"bytes", 200),
    "get": ("GET", "/api/storage/mine", None, 200),
    "head": ("HEAD", "/api/storage/mine", None, 200),
    "change": ("PATCH", "/api/storage/mine", {"acl": "public"}, 200),
    "sign": ("POST", "/api/storage/_sign/mine", None, 200),
    "sign by suffix": ("POST", "/api/storage/mine/sign", None, 200),
    "counts": ("GET", "/api/storage/folder-counts", None, 200),
    "import": ("POST", "/api/storage/from-url", {"url": "ftp://example.com/a"}, 422),
    "delete": ("DELETE", "/api/storage/mine", None, 200),
}


@pytest.mark.parametrize(("method", "path", "body", "status"), ADMITTED.values(), ids=ADMITTED)
@pytest.mark.parametrize("by", ["cookie", "bearer", "apikey"])
def test_every_route_takes_a_sessions_cookie_or_a_key(
    tenant: Tenant, ada: Client, by: str, method: str, path: str, body: Any, status: int
) -> None:
    """F9.22"""
    stored(ada, "mine")
    begun = ada("POST", "/auth/session")
    credential = {
        "cookie": {"cookie": begun.headers["set-cookie"].partition(";")[0], **SAME_ORIGIN},
        "bearer": {"authorization": f"Bearer {tenant.service_key}"},
        "apikey": {"apikey": tenant.service_key},
    }[by]
    assert tenant.nobody(method, path, body, credential).status == status
    assert tenant.nobody(method, path, body).status == 401


# ---- policies ------------------------------------------------------------------------------------------
def test_the_drive_comes_with_four_policies_that_the_service_key_sees(tenant: Tenant) -> None:
    """F9.17"""
    policies = tenant.service("GET", f"/storage/policies/bucket/{FILES}").json()
    assert sorted(each["operation"] for each in policies) == ["DELETE", "INSERT", "SELECT", "UPDATE"]
    assert all("auth_role() = 'authenticated'" in each["definition"] for each in policies)
    assert tenant.user()("GET", f"/storage/policies/bucket/{FILES}").status == 403


def test_a_policy_lets_another_role_read(tenant: Tenant, ada: Client) -> None:
    """F9.17"""
    stored(ada, "mine", BYTES)
    auditor = tenant.user(sub="eve", role="auditor")
    refused(get(auditor, "mine"), 403, "FORBIDDEN")
    allow(tenant.service, "SELECT", "auth_role() = 'auditor'")
    assert get(auditor, "mine").body == BYTES
    assert keys(auditor) == ["mine"]
    assert sign(auditor, "mine").status == 200
    for name in ("store new", "store over", "change", "delete", "import"):
        refused(EVERY[name](auditor), 403, "FORBIDDEN")
    refused(get(tenant.user(sub="bob"), "mine"), 404, "NOT_FOUND")


def test_a_policy_lets_the_anon_key_read_and_nobody_without_one(tenant: Tenant, ada: Client) -> None:
    """F9.17, F9.22"""
    stored(ada, "mine", BYTES)
    allow(tenant.service, "SELECT", "auth_role() = 'anon'")
    assert get(tenant.anon, "mine").body == BYTES
    assert keys(tenant.anon) == ["mine"]
    refused(delete(tenant.anon, "mine"), 403, "FORBIDDEN")
    refused(get(tenant.nobody, "mine"), 401, "UNAUTHORIZED")


def test_what_is_visible_and_not_permitted_is_forbidden(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F9.19"""
    before = stored(ada, "mine")
    allow(tenant.service, "SELECT", "true")
    for name in ("store over", "change", "delete"):
        refused(EVERY[name](bob), 403, "FORBIDDEN")
    assert file_of(ada, "mine") == before


def test_a_policy_may_open_a_part_of_the_drive(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F9.19"""
    for key in ("shared/a", "mine"):
        stored(ada, key)
    for operation in ("SELECT", "UPDATE", "DELETE"):
        allow(tenant.service, operation, "starts_with(name, 'shared/')")
    assert get(bob, "shared/a").status == 200
    assert patch(bob, "shared/a", metadata={"k": 1}).json()["data"]["ownerId"] == uid_of(tenant, "ada")
    assert delete(bob, "shared/a").status == 200
    refused(get(bob, "mine"), 404, "NOT_FOUND")


def test_without_its_policy_an_operation_is_for_the_service_key_alone(tenant: Tenant, ada: Client) -> None:
    """F9.17"""
    stored(ada, "mine")
    for policy in tenant.service("GET", f"/storage/policies/bucket/{FILES}").json():
        if policy["operation"] != "INSERT":
            assert tenant.service("DELETE", f"/storage/policies/{policy['id']}").status == 200
    assert put(ada, "new").status == 201
    for name in ("list", "get", "change", "sign", "delete", "store over"):
        refused(EVERY[name](ada), 403, "FORBIDDEN")
    assert get(tenant.service, "mine").status == 200


# ---- keys ----------------------------------------------------------------------------------------------
LONG = "/".join(["x" * 200, "y" * 200, "z" * 200, "w" * 98])
# As they are sent, by the rule that they break.
REFUSED_KEYS = {
    "NUL": "a%00b",
    "line break": "a%0Ab",
    "delete": "a%7F",
    "leading slash": "/a",
    "leading slash, escaped": "%2Fa",
    "backslash": "a%5Cb",
    "question mark": "a%3Fb",
    "hash": "a%23b",
    "dot": "a/./b",
    "dots": "a/../b",
    "dots, escaped": "a/%2e%2E/b",
    "dots, escaped twice": "a/%252e%252e/b",
    "dot, escaped twice": "%252e",
    "ends in a dot": "a.",
    "part ends in a dot": "a./b",
    "ends in a space": "a%20",
    "part ends in a space": "a%20/b",
    "uploading": "a/b.uploading",
    "escape of no digits": "a%zz",
    "escape cut off": "a%2",
    "percent alone": "a%",
    "no UTF-8": "%ff",
    "surrogate": "%ed%a0%80",
    "like a version": "a~" + "0" * 26,
    "long part": "x" * 201,
    "long": LONG,
}
RESERVED_KEYS = {
    "tenants/": "tenants/x",
    "tenants/ of this one": f"tenants/{UNKNOWN}/x",
    "tenants/, slash escaped": "tenants%2Fx",
    "tenants/, escaped": "%74enants/x",
    "tenants/ alone": "tenants/",
    "_sign/, slash escaped": "_sign%2Fx",
    "_sign": "_sign",
    "folder-counts, escaped": "folder%2Dcounts",
    "from-url, escaped": "from%2Durl",
}


@pytest.mark.parametrize("raw", [*REFUSED_KEYS.values(), *RESERVED_KEYS.values()], ids=[*REFUSED_KEYS, *RESERVED_KEYS])
def test_a_key_that_breaks_a_rule_is_refused_by_every_route(tenant: Tenant, ada: Client, raw: str) -> None:
    """F8.16, F8.18"""
    for method, body in (("PUT", b"bytes"), ("GET", None), ("PATCH", {"acl": "public"}), ("DELETE", None)):
        error = refused(ada(method, f"/api/storage/{raw}", body), 422, "VALIDATION")
        assert error["details"]["reason"] == "InvalidName"
    head = ada("HEAD", f"/api/storage/{raw}")
    assert (head.status, head.body) == (422, b"")
    assert listed(tenant.service)["data"] == []


@pytest.mark.parametrize("raw", [*REFUSED_KEYS.values(), *RESERVED_KEYS.values()], ids=[*REFUSED_KEYS, *RESERVED_KEYS])
def test_a_key_that_breaks_a_rule_is_not_signed(ada: Client, raw: str) -> None:
    """F8.16, F8.18"""
    refused(ada("POST", f"/api/storage/_sign/{raw}"), 422, "VALIDATION")
    if raw != "_sign":  # below it lies the other way to sign, of a file called `sign`
        refused(ada("POST", f"/api/storage/{raw}/sign"), 422, "VALIDATION")


@pytest.mark.parametrize("path", ["folder-counts", "from-url", "_sign/x"])
def test_what_other_routes_are_called_is_no_file(tenant: Tenant, ada: Client, path: str) -> None:
    """F8.16"""
    answer = ada("PUT", f"/api/storage/{path}", b"bytes")
    assert answer.status == 422, answer.body
    assert listed(tenant.service)["data"] == []


@pytest.mark.parametrize("path", ["", "/"])
def test_no_key_at_all_is_no_file(tenant: Tenant, ada: Client, path: str) -> None:
    """F8.18: what is there is the list, which is only asked for."""
    answer = ada("PUT", f"/api/storage{path}", b"bytes")
    refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in answer.headers["allow"]
    assert listed(tenant.service)["data"] == []


KEPT_KEYS = [
    "tenants",
    "tenantsx/a",
    "a/tenants/b",
    "Tenants/a",
    "_signed",
    "a/_sign",
    "a/_sign/b",
    "folder-counts/a",
    "from-url2",
    "a/sign",
]


@pytest.mark.parametrize("key", [*EDGE_NAMES, *KEPT_KEYS, *("/".join("abcdefgh"[:depth]) for depth in range(1, 9))])
def test_a_key_comes_back_from_every_route_as_it_was_given(ada: Client, key: str) -> None:
    """F8.18: spaces, plus, percent, Unicode, slashes at the end, and one to eight parts."""
    _check_round_trip(ada, key)


def _check_round_trip(client: Client, key: str) -> None:
    body = key.encode()
    answer = put(client, key, body)
    assert (answer.status, answer.json()["data"]["key"]) == (201, key)
    assert get(client, key).body == body
    assert get(client, key, method="HEAD").headers["content-length"] == str(len(body))
    assert patch(client, key, acl="public").json()["data"]["key"] == key
    assert keys(client) == keys(client, f"prefix={quote(key, safe='')}") == [key]
    path = sign(client, key).json()["path"]
    assert client.using("")("GET", path).body == body
    assert delete(client, key).json() == {"ok": True}
    assert get(client, key).status == 404
    assert keys(client) == []


@examples(12)
@given(
    key=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\\?#", exclude_categories=["Cc", "Cs"]), max_size=12),
        min_size=1,
        max_size=8,
    ).map("/".join)
)
def test_any_permitted_key_makes_the_round_trip(ada: Client, key: str) -> None:
    """F8.18"""
    assume(is_permitted(key))
    _check_round_trip(ada, key)


@pytest.mark.parametrize(("raw", "key"), [("a+b", "a+b"), ("a%2Bb", "a+b"), ("a%20b", "a b"), ("a%2Fb", "a/b"), ("a%252Fb", "a%2Fb")])
def test_a_key_is_percent_decoded_exactly_once(ada: Client, raw: str, key: str) -> None:
    """F8.18"""
    assert ada("PUT", f"/api/storage/{raw}", b"bytes").json()["data"]["key"] == key
    assert ada("GET", f"/api/storage/{raw}").body == b"bytes"
    assert keys(ada) == [key]


# ---- where bytes lie -----------------------------------------------------------------------------------
def test_bytes_lie_below_the_tenants_own_prefix_however_they_came(tenant: Tenant, ada: Client) -> None:
    """F8.17"""
    stored(ada, "docs/by put")
    assert ada("POST", f"/storage/object/{FILES}/docs/by%20post", b"bytes").status == 201
    below = f"objects/tenants/{tenant.tenant_id}/"
    rows = [row_of(tenant, key) for key in ("docs/by put", "docs/by post")]
    assert all(row is not None and row.physical_key == f"{below}{row.name}~{row.version}" for row in rows)
    assert {each.key for each in providers.internal().list(below)} == {row.physical_key for row in rows if row is not None}


def test_where_bytes_lie_is_never_shown(tenant: Tenant, ada: Client) -> None:
    """F8.17"""
    answers = [
        put(ada, "mine"),
        put(ada, "mine"),
        get(ada, "mine"),
        get(ada, "mine", method="HEAD"),
        patch(ada, "mine", acl="public"),
        ada("GET", "/api/storage"),
        ada("GET", "/api/storage/folder-counts"),
        tenant.service("GET", f"/storage/object-info/{FILES}/mine"),
        tenant.service("GET", f"/storage/objects/{FILES}"),
        put(tenant.user(sub="bob"), "mine"),
        get(tenant.user(sub="bob"), "mine"),
        put(ada, "a" * 201),
        delete(ada, "mine"),
    ]
    for answer in answers:
        told = json.dumps(answer.headers) + answer.body.decode()
        assert "objects/" not in told
        assert tenant.tenant_id not in told


# ---- the bucket behind it, on the storage surface ------------------------------------------------------
def test_the_bucket_of_files_cannot_be_made(service: Client) -> None:
    """F8.17"""
    answer = service("POST", "/storage/buckets", {"name": FILES})
    assert (answer.status, answer.code) == (400, "InvalidName")


@pytest.mark.parametrize("query", ["", "?if_empty=true"])
def test_the_bucket_of_files_cannot_be_deleted(tenant: Tenant, ada: Client, query: str) -> None:
    """F8.17"""
    stored(ada, "mine", BYTES)
    answer = tenant.service("DELETE", f"/storage/buckets/{FILES}{query}")
    assert (answer.status, answer.code) == (409, "BucketReserved")
    assert get(ada, "mine").body == BYTES
    assert ada("DELETE", f"/storage/buckets/{FILES}").status == 403


@pytest.mark.parametrize("change", [{"visibility": "public"}, {"public": True}, {"public": True, "max_file_size": 5}])
def test_the_bucket_of_files_cannot_be_made_public(tenant: Tenant, ada: Client, change: dict[str, Any]) -> None:
    """F8.36"""
    stored(ada, "mine", BYTES)
    answer = tenant.service("PUT", f"/storage/buckets/{FILES}", change)
    assert (answer.status, answer.code) == (409, "BucketReserved")
    bucket = reserved_bucket(tenant)
    assert (bucket.public, bucket.size_limit) == (False, None)
    assert tenant.service("PUT", f"/storage/buckets/{FILES}", {"visibility": "private"}).status == 200


def test_the_bucket_of_files_is_not_among_those_that_people_made(tenant: Tenant, ada: Client) -> None:
    """F8.17"""
    tenant.service.bucket("made")
    stored(ada, "mine")
    assert [bucket["name"] for bucket in tenant.service("GET", "/storage/buckets").json()] == ["made"]
    assert ada("GET", f"/storage/buckets/{FILES}").status == 404


def test_the_limits_of_the_bucket_hold_for_files(tenant: Tenant, ada: Client) -> None:
    """F8.12"""
    changed = tenant.service("PUT", f"/storage/buckets/{FILES}", {"max_file_size": 100, "allowed_mimes": ["text/*", "image/png"]})
    assert changed.status == 200
    assert put(ada, "a", bytes(100)).status == 201
    assert refused(put(ada, "a", bytes(101)), 413, "TOO_LARGE")["details"]["limit"] == 100
    refused(put(ada, "b", PNG, content_type="image/gif"), 415, "UNSUPPORTED_TYPE")
    refused(put(ada, "b", PDF, content_type="image/png"), 415, "UNSUPPORTED_TYPE")
    assert put(ada, "b", PNG, content_type="image/png").status == 201


def test_what_is_stored_as_an_object_of_the_bucket_is_a_file(tenant: Tenant, ada: Client) -> None:
    """F8.17"""
    assert ada("POST", f"/storage/object/{FILES}/docs/a", BYTES, {"content-type": "text/plain"}).status == 201
    file = file_of(ada, "docs/a")
    assert (file["ownerId"], file["acl"], file["contentType"]) == (uid_of(tenant, "ada"), "private", "text/plain")
    assert file["folderId"] is not None
    patch(ada, "docs/a", acl="public", metadata={"k": 1})
    assert ada("POST", f"/storage/object/{FILES}/docs/a", b"over").status == 200
    after = file_of(ada, "docs/a")
    assert {name: after[name] for name in KEPT} == {name: file[name] for name in KEPT} | {"acl": "public"}


ON_STORAGE: dict[str, Act] = {
    "download": lambda client: client.get(FILES, "mine"),
    "info": lambda client: client("GET", f"/storage/object-info/{FILES}/mine"),
    "change": lambda client: client("PATCH", f"/storage/object-info/{FILES}/mine", {"user_metadata": {"k": 1}}),
    "delete": lambda client: client.delete(FILES, "mine"),
    "move": lambda client: client("POST", "/storage/object/move", {"bucket": FILES, "from": "mine", "to": "theirs"}),
    "copy": lambda client: client("POST", "/storage/object/copy", {"bucket": FILES, "from": "mine", "to": "theirs"}),
    "sign": lambda client: client("POST", "/storage/signed-url", {"bucket": FILES, "path": "mine"}),
}


@pytest.mark.parametrize("act", ON_STORAGE.values(), ids=ON_STORAGE)
@pytest.mark.parametrize("who", ["bob", "anon", "editor"])
def test_the_storage_surface_hides_files_as_the_files_surface_does(tenant: Tenant, ada: Client, act: Act, who: str) -> None:
    """F9.19"""
    before = stored(ada, "mine", query="?acl=public")
    client = {"bob": tenant.user(sub="bob"), "anon": tenant.anon, "editor": tenant.user(sub="ada", role="editor")}[who]
    assert act(client).status == 404
    assert listed(tenant.service)["data"] == [before]


@pytest.mark.parametrize("act", ON_STORAGE.values(), ids=ON_STORAGE)
def test_the_storage_surface_serves_users_their_own_files(ada: Client, act: Act) -> None:
    """F9.17"""
    stored(ada, "mine")
    assert act(ada).status == 200


def test_the_storage_surface_lists_users_their_own_files(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F9.17"""
    stored(ada, "of ada")
    stored(bob, "of bob")
    assert ada.names(FILES) == ["of ada"]
    assert tenant.service.names(FILES) == ["of ada", "of bob"]
    assert tenant.anon.names(FILES) == []
    assert tenant.nobody("GET", f"/storage/objects/{FILES}").status == 401


def test_the_storage_surface_hides_files_from_those_who_name_many(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F9.19"""
    before, mine = stored(ada, "of ada", query="?acl=public"), stored(bob, "of bob")
    paths = ["of ada", "of bob", "absent"]
    signed = bob("POST", "/storage/signed-urls", {"bucket": FILES, "paths": paths, "expires_in": 60})
    codes = [each["error"] and each["error"]["code"] for each in signed.json()]
    assert codes == ["ObjectNotFound", None, "ObjectNotFound"]
    assert listed(tenant.service)["data"] == [mine, before]
    deleted = bob("DELETE", f"/storage/objects/{FILES}", {"paths": paths})
    assert [each["error"] and each["error"]["code"] for each in deleted.json()] == codes
    assert listed(tenant.service)["data"] == [before]


def test_the_storage_surface_stores_over_nobodys_file_but_ones_own(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F8.13"""
    before, mine = stored(ada, "a", BYTES), stored(bob, "b")
    assert bob.put(FILES, "a", b"of bob").status == 403
    for verb in ("move", "copy"):
        answer = bob("POST", f"/storage/object/{verb}", {"bucket": FILES, "from": "b", "to": "a"}, {"x-upsert": "true"})
        assert (answer.status, answer.code) == (403, "Forbidden")
    assert tenant.anon.put(FILES, "new", b"of anybody").status == 403
    assert listed(tenant.service)["data"] == [mine, before]
    assert get(ada, "a").body == BYTES


def test_a_file_that_is_moved_stays_what_it_was(ada: Client) -> None:
    """F8.17"""
    label = folder(ada, "label")
    before = stored(ada, "a", BYTES, f"?acl=public&folderId={label}", x_metadata=encoded({"k": 1}))
    assert ada("POST", "/storage/object/move", {"bucket": FILES, "from": "a", "to": "elsewhere/b"}).status == 200
    after = file_of(ada, "elsewhere/b")
    assert after == before | {"key": "elsewhere/b", "updatedAt": after["updatedAt"]}
    assert keys(ada) == keys(ada, f"folderId={label}") == ["elsewhere/b"]
    assert get(ada, "elsewhere/b").body == BYTES


def test_a_file_that_is_moved_out_of_the_drive_and_back_is_private_again(tenant: Tenant, ada: Client) -> None:
    """F8.17"""
    tenant.service.bucket("b")
    stored(ada, "docs/a", BYTES, "?acl=public")
    moved = {"bucket": FILES, "from": "docs/a", "to_bucket": "b", "to": "docs/a"}
    assert tenant.service("POST", "/storage/object/move", moved).status == 200
    assert keys(tenant.service) == []
    assert refused(get(ada, "docs/a"), 404, "NOT_FOUND")
    back = {"bucket": "b", "from": "docs/a", "to_bucket": FILES, "to": "docs/a"}
    assert tenant.service("POST", "/storage/object/move", back).status == 200
    file = file_of(ada, "docs/a")
    assert (file["acl"], file["ownerId"]) == ("private", uid_of(tenant, "ada"))
    assert file["folderId"] is not None


NAMES_REFUSED = ["../x", "a.uploading", "a\\b"]  # in every bucket
FILE_KEYS_REFUSED = ["tenants/x", "_sign/x", "_sign", "folder-counts", "from-url", *NAMES_REFUSED]
BY_URL = ("upload", "download", "info", "change", "delete")
BY_KEY: dict[str, Callable[[Client, str], Answer]] = {
    "upload": lambda client, key: client.put(FILES, key, b"bytes"),
    "download": lambda client, key: client.get(FILES, key),
    "info": lambda client, key: client("GET", f"/storage/object-info/{FILES}/{quote(key)}"),
    "change": lambda client, key: client("PATCH", f"/storage/object-info/{FILES}/{quote(key)}", {"user_metadata": {}}),
    "delete": lambda client, key: client.delete(FILES, key),
    "move from": lambda client, key: client("POST", "/storage/object/move", {"bucket": FILES, "from": key, "to": "b"}),
    "move to": lambda client, key: client("POST", "/storage/object/move", {"bucket": FILES, "from": "mine", "to": key}),
    "copy to": lambda client, key: client("POST", "/storage/object/copy", {"bucket": FILES, "from": "mine", "to": key}),
    "copy in": lambda client, key: client(
        "POST", "/storage/object/copy", {"bucket": "b", "from": "outside", "to_bucket": FILES, "to": key}
    ),
    "sign": lambda client, key: client("POST", "/storage/signed-url", {"bucket": FILES, "path": key}),
    "sign an upload": lambda client, key: client("POST", "/storage/signed-upload-url", {"bucket": FILES, "path": key}),
    "resumable": lambda client, key: client("POST", "/storage/upload/resumable", {"bucket": FILES, "path": key, "size": 1}),
    "direct": lambda client, key: client("POST", "/storage/upload/direct", {"bucket": FILES, "path": key, "size": 1}),
    "explain": lambda client, key: client(
        "POST", "/storage/policies/explain", {"bucket": FILES, "operation": "INSERT", "path": key, "claims": {"sub": "ada"}}
    ),
}


@pytest.mark.parametrize("how", BY_KEY)
def test_the_storage_surface_holds_to_the_rules_of_keys_in_the_bucket_of_files(service: Client, how: str) -> None:
    """F8.16, F8.18: in a body, what names no object anywhere is a field that is wrong."""
    service.bucket("b")
    service.put("b", "outside", b"bytes")
    before = stored(service, "mine")
    for key in FILE_KEYS_REFUSED:
        answer = BY_KEY[how](service, key)
        code = "InvalidRequest" if key in NAMES_REFUSED and how not in BY_URL else "InvalidName"
        assert (answer.status, answer.code) == (400, code), (key, answer.body)
    assert listed(service)["data"] == [before]


def test_the_storage_surface_holds_many_keys_at_once_to_the_rules(service: Client) -> None:
    """F8.16, F8.18: each by itself, worded as for one alone."""
    signed = service("POST", "/storage/signed-urls", {"bucket": FILES, "paths": FILE_KEYS_REFUSED, "expires_in": 60})
    deleted = service("DELETE", f"/storage/objects/{FILES}", {"paths": FILE_KEYS_REFUSED})
    for answer in (signed, deleted):
        assert answer.status == 200
        told = {outcome["path"]: outcome["error"] and outcome["error"]["code"] for outcome in answer.json()}
        assert told == dict.fromkeys(FILE_KEYS_REFUSED, "InvalidName")


def test_other_buckets_may_have_what_files_may_not(service: Client) -> None:
    """F8.16"""
    service.bucket("b")
    for key in ("tenants/x", "_sign/x", "_sign", "folder-counts", "from-url"):
        assert service.put("b", key, b"bytes").status == 201


# ---- errors --------------------------------------------------------------------------------------------
FAILURES: dict[str, tuple[int, str, str, Act]] = {
    "no credential": (401, "UNAUTHORIZED", "Unauthorized", lambda ada: get(ada.using(""), "mine")),
    "bad token": (401, "UNAUTHORIZED", "InvalidSignature", lambda ada: get(ada.using(""), "mine", "?token=a.b")),
    "other's": (403, "FORBIDDEN", "Forbidden", lambda ada: put(ada, "of the service")),
    "absent": (404, "NOT_FOUND", "ObjectNotFound", lambda ada: get(ada, "absent")),
    "no folder": (404, "NOT_FOUND", "FolderNotFound", lambda ada: patch(ada, "mine", folderId=UNKNOWN)),
    "no upload": (404, "NOT_FOUND", "UploadNotFound", lambda ada: ada("GET", "/api/uploads/01ARZ3NDEKTSV4RRFFQ69G5FAV")),
    "wrong method": (405, "METHOD_NOT_ALLOWED", "MethodNotAllowed", lambda ada: ada("PUT", "/api/storage", b"bytes")),
    "no signing": (405, "METHOD_NOT_ALLOWED", "MethodNotAllowed", lambda ada: ada("POST", "/api/storage/mine")),
    "exists": (409, "CONFLICT", "ObjectExists", lambda ada: put(ada, "mine", x_upsert="false")),
    "folder exists": (409, "CONFLICT", "FolderExists", lambda ada: ada("POST", "/api/folders", {"name": "taken"})),
    "condition": (412, "PRECONDITION_FAILED", "PreconditionFailed", lambda ada: get(ada, "mine", if_match='"other"')),
    "too large": (413, "TOO_LARGE", "TooLarge", lambda ada: put(ada, "new", bytes(4_400_001))),
    "wrong type": (415, "UNSUPPORTED_TYPE", "UnsupportedType", lambda ada: put(ada, "new", content_type="image/png")),
    "range": (416, "RANGE_NOT_SATISFIABLE", "RangeNotSatisfiable", lambda ada: get(ada, "mine", range="bytes=99-")),
    "bad key": (422, "VALIDATION", "InvalidName", lambda ada: get(ada, "a.")),
    "bad parameter": (422, "VALIDATION", "InvalidRequest", lambda ada: ada("GET", "/api/storage?limit=x")),
    "bad cursor": (422, "VALIDATION", "InvalidCursor", lambda ada: ada("GET", "/api/storage?cursor=x")),
    "bad body": (422, "VALIDATION", "InvalidRequest", lambda ada: ada("PATCH", "/api/storage/mine", b"{")),
    "no image": (422, "VALIDATION", "UnprocessableImage", lambda ada: get(ada, "mine", "?width=0")),
}


@pytest.mark.parametrize(("status", "code", "reason", "act"), FAILURES.values(), ids=FAILURES)
def test_every_error_has_the_surfaces_own_form(tenant: Tenant, ada: Client, status: int, code: str, reason: str, act: Act) -> None:
    """F15.1"""
    stored(ada, "mine", BYTES)
    stored(tenant.service, "of the service")
    folder(ada, "taken")
    assert tenant.service("PUT", f"/storage/buckets/{FILES}", {"allowed_mimes": ["text/*"]}).status == 200
    answer = act(ada)
    error = refused(answer, status, code)
    assert error["details"]["reason"] == reason
    assert answer.headers["content-type"] == "application/json"
    assert error["message"]
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_field_that_is_wrong_is_named(ada: Client) -> None:
    """F15.1"""
    stored(ada, "mine")
    details = refused(patch(ada, "mine", acl="secret", folderId=5), 422, "VALIDATION")["details"]
    assert {each["field"] for each in details["fields"]} == {"acl", "folderId"}


def test_a_key_that_the_storage_has_no_room_for_is_told_how_much_there_is(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F15.1"""
    monkeypatch.setattr(type(providers.internal()), "max_key_bytes", 120)
    error = refused(put(ada, "x" * 100), 422, "VALIDATION")
    assert error["details"]["reason"] == "KeyTooLong"
    room = error["details"]["max_name_bytes"]
    assert put(ada, "x" * room).status == 201
    refused(put(ada, "y" * (room + 1)), 422, "VALIDATION")


def test_an_upload_that_has_expired_is_gone(service: Client, clock: Clock) -> None:
    """F15.1"""
    named = f"key {base64.b64encode(b'a').decode()}"
    begun = service("POST", "/api/uploads", headers={"tus-resumable": "1.0.0", "upload-length": "5", "upload-metadata": named})
    path = begun.headers["location"].removeprefix("http://api.test")
    assert service("GET", path).status == 200
    clock.advance(25 * 3600)
    assert refused(service("GET", path), 410, "GONE")["details"]["reason"] == "UploadExpired"


def test_bytes_that_are_not_where_they_should_be_are_told_apart_from_no_file(tenant: Tenant, ada: Client) -> None:
    """F15.1"""
    stored(ada, "mine", BYTES)
    row = row_of(tenant, "mine")
    assert row is not None
    providers.internal().delete([row.physical_key])
    answer = get(ada, "mine")
    assert refused(answer, 503, "UNAVAILABLE")["details"]["reason"] == "BytesMissing"
    assert answer.headers["retry-after"] == "60"


def test_a_defect_of_ours_is_told_without_its_cause(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F15.1"""

    def broken(*_: Any) -> StoredObject:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(objects, "read_current", broken)
    answer = get(ada, "mine")
    assert refused(answer, 500, "INTERNAL")["details"]["reason"] == "InternalError"
    assert b"secret" not in answer.body


@pytest.mark.parametrize("key", ["from-url/", "folder-counts/", "_sign/", "from-url//"])
def test_a_word_of_the_api_is_no_key_with_a_slash_after_it_either(ada: Client, service: Client, key: str) -> None:
    """F8.18: servers on the way may take the two for one."""
    refused(put(ada, key), 422, "VALIDATION")
    assert service("POST", f"/storage/object/.files/{quote(key)}", b"x", {"content-type": "text/plain"}).status == 400


def test_a_copy_brings_its_own_metadata_and_is_private_whatever_it_replaces(ada: Client) -> None:
    """F8.13: nobody has opened it, nor said that of it."""
    stored(ada, "from", b"copied")
    stored(ada, "to", b"before", "?acl=public")
    patch(ada, "to", metadata={"of": "before"})
    copied = ada("POST", "/storage/object/copy", {"bucket": ".files", "from": "from", "to": "to"}, {"x-upsert": "true"})
    assert copied.status == 200, copied.body
    file = file_of(ada, "to")
    assert (get(ada, "to").body, file["acl"], file["metadata"]) == (b"copied", "private", file_of(ada, "from")["metadata"])
