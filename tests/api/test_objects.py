"""Storing, showing, changing and deleting objects (CONTRACT "Storage surface", FEATURES F8)."""

import base64
import hashlib
import json
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib.core import names, objects
from chalicelib.errors import StowageError
from tests.api.held import storage_of
from tests.client import Answer, Client
from tests.conftest import Tenant

PROPERTY = hypothesis_settings(
    deadline=None, max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
STORED = {"id", "name", "size", "content_type", "checksum", "checksum_state", "version"}
ROW = STORED | {"bucket", "owner_id", "user_metadata", "created_at", "updated_at"}
PATH = "/storage/object/b/"


@pytest.fixture
def bucket(service: Client) -> Client:
    """The service's client, with a bucket `b`."""
    service.bucket("b")
    return service


def info(client: Client, name: str, bucket: str = "b") -> dict[str, Any]:
    answer = client("GET", f"/storage/object-info/{bucket}/{quote(name)}")
    assert answer.status == 200, answer.body
    row: dict[str, Any] = answer.json()
    return row


def encoded(metadata: Any) -> str:
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata, separators=(",", ":")).encode()
    return base64.b64encode(text).decode()


# ---- uploading -----------------------------------------------------------------------------------------
def test_a_new_object_is_created(bucket: Client) -> None:
    answer = bucket.put("b", "a.txt", b"hello", "text/plain")
    assert answer.status == 201
    stored = answer.json()
    assert stored.keys() == STORED
    assert (stored["name"], stored["size"], stored["content_type"]) == ("a.txt", 5, "text/plain")
    assert (stored["checksum"], stored["checksum_state"]) == (hashlib.sha256(b"hello").hexdigest(), "known")
    assert bucket.get("b", "a.txt").body == b"hello"


def test_an_overwrite_is_told_apart_and_keeps_identity(bucket: Client) -> None:
    bucket.put("b", "a.txt", b"hello", "text/plain")
    before = info(bucket, "a.txt")
    answer = bucket.put("b", "a.txt", b"other!", "text/csv")
    assert answer.status == 200
    after = info(bucket, "a.txt")
    assert answer.json() == {field: after[field] for field in STORED}
    assert {field: after[field] for field in ("id", "owner_id", "created_at")} == {
        field: before[field] for field in ("id", "owner_id", "created_at")
    }
    assert (after["size"], after["content_type"], after["checksum"]) == (6, "text/csv", hashlib.sha256(b"other!").hexdigest())
    assert after["version"] > before["version"]
    assert after["updated_at"] > before["updated_at"]
    assert bucket.get("b", "a.txt").body == b"other!"


def test_an_object_of_the_service_key_has_no_owner(bucket: Client) -> None:
    bucket.put("b", "a")
    assert info(bucket, "a")["owner_id"] is None


@pytest.mark.parametrize("body", [b"", b"\0", bytes(range(256)) * 40, "naïve ☕".encode()])
def test_any_bytes_come_back_as_they_were(bucket: Client, body: bytes) -> None:
    stored = bucket.put("b", "a", body)
    assert (stored.status, stored.json()["size"], stored.json()["checksum"]) == (201, len(body), hashlib.sha256(body).hexdigest())
    assert bucket.get("b", "a").body == body


@pytest.mark.parametrize(
    "headers", [{"x-upsert": "false"}, {"x-upsert": "0"}, {"If-None-Match": "*"}, {"x-upsert": "true", "If-None-Match": "*"}]
)
def test_an_object_may_be_stored_only_if_there_is_none(bucket: Client, headers: dict[str, str]) -> None:
    assert bucket("POST", PATH + "a", b"first", headers).status == 201
    answer = bucket("POST", PATH + "a", b"second", headers)
    assert (answer.status, answer.code) == (409, "ObjectExists")
    assert bucket.get("b", "a").body == b"first"


@pytest.mark.parametrize("headers", [{}, {"x-upsert": "true"}, {"x-upsert": "1"}])
def test_an_object_is_replaced_unless_asked_otherwise(bucket: Client, headers: dict[str, str]) -> None:
    assert [bucket("POST", PATH + "a", body, headers).status for body in (b"first", b"second")] == [201, 200]
    assert bucket.get("b", "a").body == b"second"


@pytest.mark.parametrize("headers", [{"x-upsert": "perhaps"}, {"x-upsert": ""}, {"If-None-Match": '"x"'}])
def test_a_condition_that_is_none_is_refused(bucket: Client, headers: dict[str, str]) -> None:
    assert bucket("POST", PATH + "a", b"first", headers).status == 400
    assert bucket.names("b") == []


@pytest.mark.parametrize("bucket_name", ["absent", "B"])
def test_uploading_into_no_bucket_is_not_found(bucket: Client, bucket_name: str) -> None:
    answer = bucket.put(bucket_name, "a")
    assert (answer.status, answer.code) == (404, "BucketNotFound")


# ---- types ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "declared", "stored"),
    [
        ("a.png", None, "image/png"),
        ("folder.png/a.txt", None, "text/plain"),
        ("a.json", "application/x-www-form-urlencoded", "application/json"),
        ("a", None, "application/octet-stream"),
        ("a.unknown-suffix", None, "application/octet-stream"),
        ("a.png", "text/plain", "text/plain"),
        ("a", "Text/Plain; charset=UTF-8", "text/plain; charset=UTF-8"),
    ],
)
def test_the_type_is_the_declared_one_else_guessed_from_the_name(bucket: Client, name: str, declared: str | None, stored: str) -> None:
    headers = {} if declared is None else {"Content-Type": declared}
    answer = bucket("POST", PATH + name, b"bytes", headers)
    assert (answer.status, answer.json()["content_type"]) == (201, stored)
    assert bucket.get("b", name).headers["content-type"] == stored


@pytest.mark.parametrize(
    "declared", ["nonsense", "a/b/c", "text/", "/plain", "text/plain;", "text/pläin", "text/plain, text/csv", "a/" + "b" * 300]
)
def test_a_declared_type_that_is_none_is_refused(bucket: Client, declared: str) -> None:
    assert bucket.put("b", "a", b"bytes", declared).status == 400
    assert bucket.names("b") == []


@pytest.mark.parametrize("body", [b"plain text", b"", bytes(600), b"\x01\x02\x03", b"{}"])
def test_what_cannot_be_recognised_passes_on_its_declared_type(service: Client, body: bytes) -> None:
    service.bucket("b", allowed_mimes=["image/*"])
    assert service.put("b", "a", body, "image/png").status == 201


@pytest.mark.parametrize(
    ("allowed", "declared", "body", "status"),
    [
        ("image/*", "image/png", PNG, 201),
        ("image/png", "image/png", PNG, 201),
        ("*/*", "image/png", PNG, 201),
        ("image/jpeg", "image/jpg", JPEG, 201),
        ("IMAGE/PNG", "Image/PNG; a=b", PNG, 201),
        ("image/*", "image/png", PDF, 415),
        ("image/*", "image/png", JPEG, 415),
        ("text/*", "text/plain", PNG, 415),
        ("image/png", "image/gif", PNG, 415),
        ("image/*", "imagex/png", PNG, 415),
        ("image/*", "text/plain", b"text", 415),
    ],
)
def test_declared_type_and_bytes_must_both_be_allowed(service: Client, allowed: str, declared: str, body: bytes, status: int) -> None:
    service.bucket("b", allowed_mimes=[allowed])
    assert service.put("b", "a", body, declared).status == status
    assert service.names("b") == (["a"] if status == 201 else [])


def test_only_the_first_512_bytes_are_looked_at(service: Client) -> None:
    service.bucket("b", allowed_mimes=["text/plain"])
    assert service.put("b", "a", b"x" * 512 + PNG, "text/plain").status == 201


# ---- the order of checks: bucket, policy, size, declared type, magic bytes ------------------------------
def test_a_missing_bucket_is_told_before_what_may_be_done(tenant: Tenant) -> None:
    answer = tenant.service.put("absent", "a", b"bytes")
    assert (answer.status, answer.code) == (404, "BucketNotFound")
    assert tenant.anon.put("absent", "a", b"bytes").status == 403


def test_only_the_service_key_learns_that_a_bucket_does_not_exist(tenant: Tenant) -> None:
    tenant.service.bucket("private")
    for ask in (
        lambda client, bucket: client.put(bucket, "a", b"bytes"),
        lambda client, bucket: client.get(bucket, "a"),
        lambda client, bucket: client.delete(bucket, "a"),
        lambda client, bucket: client("GET", f"/storage/objects/{bucket}"),
        lambda client, bucket: client("GET", f"/storage/buckets/{bucket}"),
        lambda client, bucket: client("DELETE", f"/storage/objects/{bucket}", {"paths": ["a", "../b"]}),
    ):
        private, absent = (ask(tenant.anon, bucket) for bucket in ("private", "absent"))
        assert private.status == absent.status
        assert _without_names(private) == _without_names(absent)


def _without_names(answer: Any) -> str:
    told = json.loads(answer.body)
    if isinstance(told, dict):
        told.pop("request_id")
    return json.dumps(told).replace("private", "absent")


def test_what_may_be_done_is_told_before_the_size(tenant: Tenant) -> None:
    tenant.service.bucket("b", max_file_size=1)
    assert tenant.anon.put("b", "a", b"two").status == 403


def test_the_size_is_told_before_the_declared_type(service: Client) -> None:
    service.bucket("b", max_file_size=1, allowed_mimes=["image/png"])
    answer = service.put("b", "a", b"two", "text/plain")
    assert (answer.status, answer.json()["details"]) == (413, {"limit": 1})


def test_the_declared_type_is_told_before_the_bytes(service: Client) -> None:
    service.bucket("b", allowed_mimes=["image/png"])
    answer = service.put("b", "a", PDF, "image/gif")
    assert (answer.status, answer.json()["details"]) == (415, {"allowed": ["image/png"]})
    answer = service.put("b", "a", PDF, "image/png")
    assert (answer.status, answer.json()["details"]) == (415, {"detected": "application/pdf"})


@pytest.mark.parametrize(("size", "status"), [(9, 201), (10, 201), (11, 413)])
def test_an_object_is_as_large_as_its_bucket_allows(service: Client, size: int, status: int) -> None:
    service.bucket("b", max_file_size=10)
    assert service.put("b", "a", bytes(size)).status == status


# ---- forms ---------------------------------------------------------------------------------------------
def form(*parts: tuple[str, str | None, str | None, bytes]) -> bytes:
    """A multipart body of (field, file name, type, bytes)."""
    body = b""
    for field, file_name, type_, content in parts:
        disposition = f'form-data; name="{field}"' + (f'; filename="{file_name}"' if file_name is not None else "")
        body += f"--XX\r\nContent-Disposition: {disposition}\r\n".encode()
        body += (f"Content-Type: {type_}\r\n" if type_ else "").encode() + b"\r\n" + content + b"\r\n"
    return body + b"--XX--\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=XX"}


def test_the_one_file_of_a_form_is_stored_under_its_own_type(bucket: Client) -> None:
    content = b"\r\n--X\r\n" + PNG
    answer = bucket("POST", PATH + "a", form(("note", None, None, b"hi"), ("file", "x.bin", "image/png", content)), FORM)
    assert (answer.status, answer.json()["content_type"], answer.json()["size"]) == (201, "image/png", len(content))
    assert bucket.get("b", "a").body == content


def test_a_files_type_is_guessed_when_the_form_tells_none(bucket: Client) -> None:
    answer = bucket("POST", PATH + "a.png", form(("file", "x", None, b"bytes")), FORM)
    assert (answer.status, answer.json()["content_type"]) == (201, "image/png")


def test_an_empty_file_of_a_form_is_stored(bucket: Client) -> None:
    assert bucket("POST", PATH + "a", form(("file", "x", "text/plain", b"")), FORM).status == 201
    assert bucket.get("b", "a").body == b""


def test_a_files_type_in_a_form_is_checked_like_any_other(service: Client) -> None:
    service.bucket("b", allowed_mimes=["image/*"])
    assert service("POST", PATH + "a", form(("file", "x", "image/png", PDF)), FORM).status == 415
    assert service("POST", PATH + "a", form(("file", "x", "image/png", PNG)), FORM).status == 201


@pytest.mark.parametrize(
    "body",
    [
        form(),
        form(("note", None, None, b"hi")),
        form(("one", "1", "text/plain", b"1"), ("two", "2", "text/plain", b"2")),
        b"",
        b"not a form",
        b"--XX\r\nContent-Disposition",
        form(("file", "x", "nonsense", b"1")),
    ],
)
def test_a_form_without_exactly_one_file_is_refused(bucket: Client, body: bytes) -> None:
    assert bucket("POST", PATH + "a", body, FORM).status == 400
    assert bucket.names("b") == []


def test_a_form_that_breaks_off_is_refused(bucket: Client) -> None:
    whole = form(("file", "x", "text/plain", b"all of the bytes"))
    assert bucket("POST", PATH + "a", whole[:-20], FORM).status == 400
    assert bucket.names("b") == []


def test_a_form_without_a_boundary_is_refused(bucket: Client) -> None:
    assert bucket("POST", PATH + "a", form(("file", "x", None, b"1")), {"Content-Type": "multipart/form-data"}).status == 400


# ---- user metadata -------------------------------------------------------------------------------------
@pytest.mark.parametrize("metadata", [{}, {"a": 1}, {"ä": ["☕", None, True, 1.5, {"deep": {}}]}, {"text": "x" * (4096 - 11)}])
def test_user_metadata_comes_with_the_upload_and_is_shown(bucket: Client, metadata: dict[str, Any]) -> None:
    header = encoded(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
    assert bucket.put("b", "a", b"", x_metadata=header).status == 201
    assert info(bucket, "a")["user_metadata"] == metadata
    assert bucket("GET", "/storage/objects/b").json()[0]["user_metadata"] == metadata


@pytest.mark.parametrize(
    "header",
    [
        "***",
        "e30",
        "ä",
        encoded(b"{"),
        encoded(b""),
        encoded(b"\xff"),
        encoded([1]),
        encoded("text"),
        encoded(None),
        encoded({"text": "x" * 4096}),
        encoded(b'{"a": NaN}'),
        encoded(b'{"a": Infinity}'),
        encoded(b'{"a": 1e999}'),
        encoded(b'{"a": "\\ud800"}'),
        encoded(b'{"\\udc00": 1}'),
        encoded(b'{"a":' * 700 + b"1" + b"}" * 700),
        encoded(b"[" * 10_000),
    ],
)
def test_user_metadata_that_is_not_a_small_json_object_is_refused(bucket: Client, header: str) -> None:
    assert bucket.put("b", "a", b"", x_metadata=header).status == 400
    assert bucket.names("b") == []


# ---- names ---------------------------------------------------------------------------------------------
EDGE_NAMES = [
    "a b",
    " a",
    "ä ö.txt",
    "日本語/写真.jpg",
    "😀",
    "é",  # composed
    "é",  # decomposed: another name
    "a+b",
    "%2F",
    "100%",
    "%252e",
    "a//b",
    "a/",
    "a///",
    "a/b/",
    "a&b=c;d,e",
    "a'b\"c",
    "<script>",
    "a:b*c|d",
    "~",
    "a~b",
    "~" + "a" * 25,
    "~" + "a" * 27,
    "a~" + "0" * 26 + "-",
    ".hidden",
    "..a",
    "...a",
    ".uploading.txt",
    "move",
    "copy",
    "\u0080",
    "\uffff",
    "\U0010ffff",
    "x" * 200,
    "ä" * 100,
    "/".join(["x" * 200, "y" * 200, "z" * 200, "w" * 97]),
]


@pytest.mark.parametrize("name", EDGE_NAMES)
def test_a_name_comes_back_from_every_route_as_it_was_given(bucket: Client, name: str) -> None:
    _check_round_trip(bucket, name)


def _check_round_trip(client: Client, name: str) -> None:
    body = name.encode()
    stored = client.put("b", name, body)
    assert (stored.status, stored.json()["name"]) == (201, name)
    assert client.get("b", name).body == body
    assert info(client, name)["name"] == name
    assert client.names("b") == [name]
    assert client("HEAD", PATH + quote(name)).headers["content-length"] == str(len(body))
    assert client.delete("b", name).status == 200
    assert client.names("b") == []
    assert client.get("b", name).status == 404


def _permitted(name: str) -> bool:
    try:
        return bool(names.check_object_name(name))
    except StowageError:
        return False


@PROPERTY
@given(
    name=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\\?#", exclude_categories=["Cc", "Cs"]), max_size=12),
        min_size=1,
        max_size=4,
    ).map("/".join)
)
def test_any_permitted_name_makes_the_round_trip(tenant: Tenant, name: str) -> None:
    assume(_permitted(name))
    if tenant.service("GET", "/storage/buckets/b").status == 404:
        tenant.service.bucket("b")
    _check_round_trip(tenant.service, name)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("a%20b", "a b"),
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("%61", "a"),
        ("a%252Fb", "a%2Fb"),
        ("a%25", "a%"),
        ("a%2F", "a/"),
        ("a//b", "a//b"),
    ],
)
def test_a_path_is_percent_decoded_exactly_once(bucket: Client, raw: str, name: str) -> None:
    assert bucket("POST", PATH + raw, b"bytes").json()["name"] == name
    assert bucket.names("b") == [name]
    assert bucket("GET", PATH + raw).body == b"bytes"


@pytest.mark.parametrize("name", ["x" * 201, "ä" * 101, "a/" + "x" * 201, "/".join(["x" * 200, "y" * 200, "z" * 200, "w" * 98]), "日" * 67])
def test_a_name_beyond_the_limits_is_refused(bucket: Client, name: str) -> None:
    answer = bucket.put("b", name)
    assert (answer.status, answer.code) == (400, "InvalidName")
    assert bucket.names("b") == []


def test_a_name_that_the_storage_has_no_room_for_is_told_how_much_there_is(
    bucket: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(storage_of(tenant)), "max_key_bytes", 100)
    answer = bucket.put("b", "x" * 80)
    assert (answer.status, answer.code) == (400, "KeyTooLong")
    room = answer.json()["details"]["max_name_bytes"]
    assert bucket.put("b", "x" * room).status == 201
    assert bucket.put("b", "y" * (room + 1)).status == 400
    assert bucket.names("b") == ["x" * room]


# ---- object-info ---------------------------------------------------------------------------------------
def test_the_row_is_shown_without_the_body(bucket: Client) -> None:
    stored = bucket.put("b", "a.txt", b"hello", "text/plain", x_metadata=encoded({"k": "v"})).json()
    shown = info(bucket, "a.txt")
    assert shown.keys() == ROW
    assert shown == shown | stored | {"bucket": "b", "owner_id": None, "user_metadata": {"k": "v"}}
    assert shown["created_at"] == shown["updated_at"]


def test_metadata_is_replaced_and_removed_while_the_bytes_stay(bucket: Client) -> None:
    bucket.put("b", "a", b"hello", "text/plain", x_metadata=encoded({"old": 1, "k": 1}))
    before = info(bucket, "a")
    answer = bucket("PATCH", "/storage/object-info/b/a", {"user_metadata": {"new": [1, None]}})
    assert answer.status == 200
    assert answer.json() == before | {"user_metadata": {"new": [1, None]}, "updated_at": answer.json()["updated_at"]}
    assert answer.json()["updated_at"] > before["updated_at"]
    assert bucket("PATCH", "/storage/object-info/b/a", {"user_metadata": None}).json()["user_metadata"] is None
    assert info(bucket, "a")["user_metadata"] is None
    assert bucket.get("b", "a").body == b"hello"


def test_the_type_is_changed_and_served(bucket: Client) -> None:
    bucket.put("b", "a", b"hello", "text/plain", x_metadata=encoded({"k": 1}))
    answer = bucket("PATCH", "/storage/object-info/b/a", {"content_type": "Text/CSV"})
    assert (answer.status, answer.json()["content_type"], answer.json()["user_metadata"]) == (200, "text/csv", {"k": 1})
    assert bucket.get("b", "a").headers["content-type"] == "text/csv"


def test_a_changed_type_must_be_one_that_the_bucket_takes(service: Client) -> None:
    service.bucket("b", allowed_mimes=["text/*"])
    service.put("b", "a", b"hello", "text/plain")
    assert service("PATCH", "/storage/object-info/b/a", {"content_type": "image/png"}).status == 415
    assert info(service, "a")["content_type"] == "text/plain"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"size": 1},
        {"content_type": None},
        {"content_type": "nonsense"},
        {"content_type": 5},
        {"user_metadata": [1]},
        {"user_metadata": "text"},
        {"user_metadata": {"text": "x" * 4096}},
        [],
        None,
    ],
)
def test_a_change_that_is_none_is_refused(bucket: Client, change: Any) -> None:
    bucket.put("b", "a", b"hello", "text/plain")
    before = info(bucket, "a")
    assert bucket("PATCH", "/storage/object-info/b/a", json.dumps(change).encode()).status == 400
    assert info(bucket, "a") == before


def test_a_change_never_brings_back_an_object_that_was_replaced_meanwhile(bucket: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    read = objects.read_current

    def and_then_replaced(*arguments: Any) -> Any:
        found = read(*arguments)
        monkeypatch.undo()
        bucket.delete("b", "a")
        bucket.put("b", "a", b"another object")
        return found

    bucket.put("b", "a", b"deleted")
    monkeypatch.setattr(objects, "read_current", and_then_replaced)
    bucket("PATCH", "/storage/object-info/b/a", {"user_metadata": {"k": 1}})
    assert bucket.get("b", "a").body == b"another object"


@pytest.mark.parametrize(("path", "code"), [("b/absent", "ObjectNotFound"), ("absent/a", "BucketNotFound")])
def test_what_is_not_there_is_neither_shown_nor_changed(bucket: Client, path: str, code: str) -> None:
    for method, body in (("GET", None), ("PATCH", {"user_metadata": {}})):
        answer = bucket(method, f"/storage/object-info/{path}", body)
        assert (answer.status, answer.code) == (404, code)


# ---- deleting ------------------------------------------------------------------------------------------
def test_a_deleted_object_is_gone_from_every_route(bucket: Client) -> None:
    bucket.put("b", "a", b"hello")
    answer = bucket.delete("b", "a")
    assert (answer.status, answer.json()) == (200, {})
    assert bucket.get("b", "a").status == 404
    assert bucket("HEAD", PATH + "a").status == 404
    assert bucket("GET", "/storage/object-info/b/a").status == 404
    assert bucket.names("b") == []
    again = bucket.delete("b", "a")
    assert (again.status, again.code) == (404, "ObjectNotFound")


def test_an_object_stored_after_a_deletion_is_a_new_one(bucket: Client) -> None:
    first = bucket.put("b", "a", b"hello").json()
    bucket.delete("b", "a")
    second = bucket.put("b", "a", b"hello")
    assert second.status == 201
    assert second.json()["id"] != first["id"]


def delete_many(client: Client, *paths: Any, bucket: str = "b") -> Answer:
    return client("DELETE", f"/storage/objects/{bucket}", {"paths": list(paths)})


def test_many_are_deleted_with_an_outcome_for_each(bucket: Client) -> None:
    for name in ("a", "b/c d", "kept", "ä+%2F"):
        bucket.put("b", name)
    paths = ["a", "absent", "../x", "b/c d", "", "ä+%2F", "x\0"]
    answer = delete_many(bucket, *paths)
    assert answer.status == 200
    outcomes = answer.json()
    assert [outcome["path"] for outcome in outcomes] == paths
    codes = [outcome["error"] and outcome["error"]["code"] for outcome in outcomes]
    assert codes == [None, "ObjectNotFound", "InvalidName", None, "InvalidName", None, "InvalidName"]
    assert bucket.names("b") == ["kept"]


def test_a_path_given_twice_is_deleted_once(bucket: Client) -> None:
    bucket.put("b", "a")
    errors = [outcome["error"] for outcome in delete_many(bucket, "a", "a").json()]
    assert errors[0] is None
    assert errors[1]["code"] == "ObjectNotFound"


def test_a_thousand_paths_are_taken(bucket: Client) -> None:
    bucket.put("b", "x0")
    bucket.put("b", "x999")
    answer = delete_many(bucket, *(f"x{number}" for number in range(1000)))
    assert (answer.status, len(answer.json())) == (200, 1000)
    assert [outcome["path"] for outcome in answer.json() if outcome["error"] is None] == ["x0", "x999"]
    assert bucket.names("b") == []


def test_more_than_a_thousand_paths_are_refused_and_nothing_is_deleted(bucket: Client) -> None:
    bucket.put("b", "x0")
    assert delete_many(bucket, *(f"x{number}" for number in range(1001))).status == 400
    assert bucket.names("b") == ["x0"]


def test_no_paths_are_no_outcomes(bucket: Client) -> None:
    answer = delete_many(bucket)
    assert (answer.status, answer.json()) == (200, [])


@pytest.mark.parametrize(
    "body", [{}, {"paths": None}, {"paths": "a"}, {"paths": [1]}, {"paths": [None]}, {"paths": [["a"]]}, {"path": ["a"]}, []]
)
def test_paths_that_are_none_are_refused(bucket: Client, body: Any) -> None:
    bucket.put("b", "a")
    assert bucket("DELETE", "/storage/objects/b", body).status == 400
    assert bucket.names("b") == ["a"]


def test_deleting_many_from_no_bucket_is_not_found(bucket: Client) -> None:
    assert delete_many(bucket, "a", bucket="absent").status == 404


def test_a_name_is_not_decoded_again_where_it_is_json(bucket: Client) -> None:
    bucket.put("b", "a b")
    assert [outcome["error"] and outcome["error"]["code"] for outcome in delete_many(bucket, "a%20b", "a+b").json()] == [
        "ObjectNotFound"
    ] * 2
    assert bucket.names("b") == [unquote("a%20b")]
