"""Uploads by TUS 1.0.0 (tus.io/protocols/resumable-upload, CONTRACT "Storage surface", FEATURES F12)."""

import hashlib
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from chalicelib import providers
from chalicelib.access.principals import Principal, Role
from chalicelib.core import sessions
from chalicelib.errors import BytesMissing, UploadLocked
from tests.api.held import storage_of
from tests.api.tus_client import (
    CHUNK,
    MAX_BODY,
    MIB,
    TUS,
    UNKNOWN,
    Tus,
    allow,
    digest,
    encoded,
    failing_once,
    holds,
    id_of,
    info,
    noise,
    refused,
    session,
)
from tests.client import Answer
from tests.conftest import Call, Clock, Tenant

Choose = Callable[[str, str], None]
HOUR, DAY = 3600, 24 * 3600
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
# A small upload is stored whole with its last chunk, a large one has parts in the storage before; ALMOST all of it comes first.
SMALL, LARGE = b"sixteen bytes!!!", noise(8 * MIB + 1)
ALMOST = {len(SMALL): 8, len(LARGE): 8 * MIB}


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def body(request: pytest.FixtureRequest) -> bytes:
    found: bytes = request.param
    return found


def last_chunk(tus: Tus, upload_id: str, body: bytes) -> Answer:
    return tus.patch(upload_id, ALMOST[len(body)], body[ALMOST[len(body)] :])


def begun(tus: Tus, body: bytes, **headers: str | None) -> str:
    """An upload that lacks its last chunk alone."""
    upload_id = tus.begin(len(body), **headers)
    tus.send(upload_id, body[: ALMOST[len(body)]], 4 * MIB)
    return upload_id


def service_of(tenant: Tenant) -> Principal:
    return Principal(Role.SERVICE, tenant.tenant_id)


# ---- what the server is --------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [None, "1.0.0", "0.2.2"])
def test_options_tell_what_the_server_can_do(tenant: Tenant, version: str | None) -> None:
    answer = Tus(tenant.nobody).ask("OPTIONS", tus_resumable=version)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
    assert set(answer.headers["tus-extension"].split(",")) == {
        *("creation", "creation-with-upload", "creation-defer-length", "expiration", "termination", "checksum", "concatenation")
    }
    assert set(answer.headers["tus-checksum-algorithm"].split(",")) == {"sha1", "sha256", "md5"}
    assert (answer.headers["tus-max-size"], answer.headers["x-chunk-max"]) == ("5000000000", str(MAX_BODY))


@pytest.mark.parametrize(("path", "methods"), [("", {"POST"}), (UNKNOWN, {"PATCH", "HEAD", "DELETE", "POST"})])
def test_a_browser_may_ask_beforehand(tenant: Tenant, path: str, methods: set[str]) -> None:
    wanted = "tus-resumable,upload-length,upload-metadata"
    asked = {"origin": "https://app.test", "access_control_request_method": "POST", "access_control_request_headers": wanted}
    answer = Tus(tenant.nobody).ask("OPTIONS", path, tus_resumable=None, **asked)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert set(answer.headers["access-control-allow-methods"].split(", ")) >= methods
    assert answer.headers["access-control-allow-headers"] == wanted
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"location", "tus-resumable", "tus-version", "tus-extension", "tus-max-size", "tus-checksum-algorithm"}
    assert exposed >= {"upload-offset", "upload-length", "upload-expires", "upload-metadata", "upload-defer-length", "upload-concat"}


def test_the_largest_upload_is_48_gib_whatever_is_set(tenant: Tenant, choose: Choose) -> None:
    choose("STOWAGE_MAX_UPLOAD_SIZE", str(10**12))
    assert Tus(tenant.nobody).ask("OPTIONS").headers["tus-max-size"] == str(48 << 30)


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0.1", "1.0"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "HEAD", "DELETE"])
def test_another_version_is_refused_and_nothing_is_done(tus: Tus, half: str, calls: list[Call], method: str, version: str | None) -> None:
    calls.clear()
    target = "" if method == "POST" else half
    answer = tus.ask(method, target, b"def", tus_resumable=version, upload_offset="3", upload_length="6")
    refused(answer, 412)
    assert answer.headers["tus-version"] == "1.0.0"
    assert calls == []
    assert tus.offset(half) == 3


def test_every_error_is_a_line_of_text_that_carries_the_version(tus: Tus, half: str) -> None:
    for answer, status in (
        (tus.create(), 400),
        (Tus(tus.client.using("sk_unknown")).create(1), 401),
        (tus.patch(UNKNOWN, 0, b"a"), 404),
        (tus.ask("GET", half), 405),
        (tus.ask("PUT", half, b"a"), 405),
        (tus.ask("PATCH", "", b"a"), 405),
        (tus.patch(half, 0, b"a"), 409),
        (tus.patch(half, 3, b"four"), 413),
        (tus.patch(half, 3, b"def", content_type="text/plain"), 415),
        (tus.patch(half, 3, b"def", upload_checksum=digest("sha1", b"other")), 460),
    ):
        text = refused(answer, status)
        assert text.endswith("\n")
        assert text.count("\n") == 1
    head = tus.head(UNKNOWN)
    assert (head.status, head.body, head.headers["tus-resumable"]) == (404, b"", "1.0.0")


# ---- creation ------------------------------------------------------------------------------------------
def test_an_upload_is_created(tus: Tus) -> None:
    answer = tus.create(6)
    assert (answer.status, answer.body) == (201, b"")
    assert answer.headers["location"] == f"http://api.test{TUS}/{id_of(answer)}"
    assert abs(parsedate_to_datetime(answer.headers["upload-expires"]) - datetime.now(UTC) - timedelta(days=1)) < timedelta(minutes=1)
    assert (answer.headers["x-chunk-max"], answer.headers["tus-resumable"]) == (str(MAX_BODY), "1.0.0")
    assert tus.offset(id_of(answer)) == 0
    assert tus.client.names("b") == []


@pytest.mark.parametrize("length", [None, "", " ", "-1", "1.5", "six", "0x6", "1e3", "9" * 19, "9" * 400, "٣"])
def test_a_bad_length_is_refused(tus: Tus, calls: list[Call], length: str | None) -> None:
    calls.clear()
    assert "Upload-Length" in refused(tus.create(upload_length=length), 400)
    assert calls == []


def test_more_than_the_server_takes_is_refused(tus: Tus, choose: Choose) -> None:
    choose("STOWAGE_MAX_UPLOAD_SIZE", "100")
    assert tus.create(100).status == 201
    for length in (101, 10**17):
        answer = tus.create(length)
        refused(answer, 413)
        assert answer.headers["x-chunk-max"] == str(MAX_BODY)


def test_more_than_the_bucket_takes_is_refused(tus: Tus) -> None:
    tus.client("PUT", "/storage/buckets/b", {"max_file_size": 10})
    assert tus.create(10).status == 201
    refused(tus.create(11), 413)


def test_a_bucket_must_be_there(tus: Tus, tenant: Tenant) -> None:
    elsewhere = encoded(bucket="nowhere", filename="o")
    refused(tus.create(1, upload_metadata=elsewhere), 404)
    refused(Tus(tenant.user()).create(1, upload_metadata=elsewhere), 403)


def test_a_type_that_the_bucket_does_not_take_is_refused(tus: Tus) -> None:
    tus.client("PUT", "/storage/buckets/b", {"allowed_mimes": ["image/*"]})
    refused(tus.create(1, upload_metadata=encoded(bucket="b", filename="o", filetype="text/plain")), 415)
    assert tus.create(1, upload_metadata=encoded(bucket="b", filename="o", filetype="image/png")).status == 201


@pytest.mark.parametrize("header", [{"x_upsert": "false"}, {"if_none_match": "*"}])
def test_an_existing_object_is_kept_if_the_client_wants_it(tus: Tus, header: dict[str, str | None]) -> None:
    tus.client.put("b", "o", b"first")
    for length in (5, 0):
        refused(tus.create(length, **header), 409)
    refused(tus.create(upload_defer_length="1", **header), 409)
    assert tus.client.get("b", "o").body == b"first"


@pytest.mark.parametrize("header", [{"x_upsert": "false"}, {"if_none_match": "*"}])
def test_an_object_that_came_meanwhile_is_kept_if_the_client_wants_it(tus: Tus, body: bytes, header: dict[str, str | None]) -> None:
    upload_id = begun(tus, body, **header)
    tus.client.put("b", "o", b"first")
    refused(last_chunk(tus, upload_id, body), 409)
    assert tus.client.get("b", "o").body == b"first"


def test_an_overwrite_keeps_what_the_object_is(tus: Tus, body: bytes) -> None:
    before = tus.client.put("b", "o", b"first").json()
    tus.upload(body, 4 * MIB)
    row = info(tus.client)
    assert row["id"] == before["id"]
    assert row["version"] > before["version"]
    assert holds(tus.client, body)


# ---- metadata ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        " ",
        encoded(bucket="b"),
        encoded(filename="o"),
        encoded(bucket="", filename="o"),
        encoded(bucket="b", filename=""),
        "bucket Yg==,filename b!w=",
        "bucket Yg==,filename bw",
        "bucket Yg==,filename bw==,filename eA==",
        "bücket Yg==,filename bw==",
        encoded(bucket="b", filename=b"\xff"),
        encoded(bucket="b", filename="../o"),
        encoded(bucket="b", filename="o", filetype="no type"),
        encoded(bucket="b", filename="o", metadata="no JSON"),
        encoded(bucket="b", filename="o", metadata="[1]"),
        encoded(bucket="b", filename="o", metadata=json.dumps({"k": "v" * 4096})),
        encoded(bucket="b", filename="o", other="x" * 8192),
    ],
)
def test_metadata_that_name_no_object_are_refused(tus: Tus, header: str | None) -> None:
    refused(tus.create(1, upload_metadata=header), 400)


def test_metadata_of_any_language_survive(tus: Tus) -> None:
    name, metadata = "фото/naïve ☕.txt", {"título": "日本語 🎉", "n": [1, None]}
    header = encoded(bucket="b", filename=name, metadata=json.dumps(metadata, ensure_ascii=False))
    tus.begin(2, b"ok", upload_metadata=header)
    row = info(tus.client, name)
    assert (row["name"], row["user_metadata"], row["content_type"]) == (name, metadata, "text/plain")


@pytest.mark.parametrize("header", ["filename bw==,bucket Yg==", "bucket Yg==, filename bw==,is_confidential,empty ,relativePath bnVsbA=="])
def test_metadata_come_back_as_they_were_sent(tus: Tus, header: str) -> None:
    upload_id = tus.begin(2, upload_metadata=header)
    assert tus.head(upload_id).headers["upload-metadata"] == header
    tus.patch(upload_id, 0, b"ok")
    assert tus.head(upload_id).headers["upload-metadata"] == header


@pytest.mark.parametrize(
    ("keys", "name", "content_type"),
    [
        ({"filename": "o.csv"}, "o.csv", "text/csv"),
        ({"filename": "o"}, "o", "application/octet-stream"),
        ({"filename": "o", "path": "folder/p.txt"}, "folder/p.txt", "text/plain"),
        ({"path": "p"}, "p", "application/octet-stream"),
        ({"filename": "o.csv", "filetype": "text/plain; charset=utf-8"}, "o.csv", "text/plain; charset=utf-8"),
        ({"filename": "o.csv", "contentType": "image/png"}, "o.csv", "image/png"),
        ({"filename": "o", "filetype": "image/png", "contentType": "text/plain"}, "o", "image/png"),
    ],
)
def test_metadata_name_the_object_and_its_type(tus: Tus, keys: dict[str, str], name: str, content_type: str) -> None:
    tus.begin(2, b"ok", upload_metadata=encoded(bucket="b", **keys))
    assert tus.client.names("b") == [name]
    assert info(tus.client, name)["content_type"] == content_type


# ---- chunks --------------------------------------------------------------------------------------------
def test_a_chunk_is_acknowledged(tus: Tus, clock: Clock) -> None:
    created = tus.create(6)
    clock.advance(HOUR)
    answer = tus.patch(id_of(created), 0, b"abc")
    assert (answer.status, answer.body, answer.headers["upload-offset"]) == (204, b"", "3")
    later = parsedate_to_datetime(answer.headers["upload-expires"]) - parsedate_to_datetime(created.headers["upload-expires"])
    assert later >= timedelta(hours=1)
    assert tus.offset(id_of(created)) == 3
    assert tus.client.names("b") == []
    assert tus.patch(id_of(created), 3, b"def").headers["upload-offset"] == "6"
    assert holds(tus.client, b"abcdef")


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "text/plain", f"{CHUNK}x"])
def test_a_chunk_of_another_type_is_refused(tus: Tus, half: str, content_type: str | None) -> None:
    refused(tus.patch(half, 3, b"def", content_type=content_type), 415)
    refused(tus.patch(half, 3, b"", content_type=content_type), 415)
    assert tus.offset(half) == 3


@pytest.mark.parametrize("offset", [None, "", "-3", "3.0", "three", "9" * 19, ["3", "0"]])
def test_a_bad_offset_is_refused(tus: Tus, half: str, offset: str | list[str] | None) -> None:
    assert "upload-offset" in refused(tus.ask("PATCH", half, b"def", upload_offset=offset), 400).lower()
    assert tus.offset(half) == 3


@pytest.mark.parametrize("offset", [0, 2, 4, 6, 10**9])
def test_another_offset_than_the_uploads_is_a_conflict(tus: Tus, half: str, offset: int) -> None:
    refused(tus.patch(half, offset, b"d"), 409)
    refused(tus.patch(half, offset, b""), 409)
    assert tus.offset(half) == 3
    assert tus.patch(half, 3, b"def").status == 204
    assert holds(tus.client, b"abcdef")


def test_a_chunk_whose_answer_was_lost_counts_once(tus: Tus) -> None:
    upload_id = tus.begin(9)
    for offset, chunk in ((0, b"abc"), (3, b"def"), (6, b"ghi")):
        assert tus.patch(upload_id, offset, chunk).status == 204
        refused(tus.patch(upload_id, offset, chunk), 409)
        assert tus.offset(upload_id) == offset + 3
    assert holds(tus.client, b"abcdefghi")


def test_bytes_past_the_length_are_refused(tus: Tus, half: str) -> None:
    answer = tus.patch(half, 3, b"defg")
    refused(answer, 413)
    assert answer.headers["x-chunk-max"] == str(MAX_BODY)
    assert tus.offset(half) == 3
    assert tus.patch(half, 3, b"def").status == 204
    refused(tus.patch(half, 6, b"g"), 413)
    assert holds(tus.client, b"abcdef")


def test_bytes_past_the_length_are_refused_where_it_is_told_again(tus: Tus, half: str) -> None:
    refused(tus.patch(half, 3, b"defg", upload_length="6"), 413)
    assert tus.offset(half) == 3
    assert tus.patch(half, 3, b"def", upload_length="6").status == 204
    assert holds(tus.client, b"abcdef")


@pytest.mark.parametrize("upload_id", [UNKNOWN, UNKNOWN.lower(), UNKNOWN[:-1], UNKNOWN + "A", "x", "%20", "a%2Fb", "%ff", "ü", "x" * 3000])
def test_what_is_no_upload_is_not_found(tus: Tus, upload_id: str) -> None:
    status = 400 if upload_id == "%ff" else 404
    refused(tus.patch(upload_id, 0, b"abc"), status)
    refused(tus.delete(upload_id), status)
    assert tus.head(upload_id).status == status


def all_refused(tus: Tus, upload_id: str, status: int) -> None:
    assert tus.head(upload_id).status == status
    refused(tus.patch(upload_id, 3, b"def"), status)
    refused(tus.patch(upload_id, 3, b""), status)
    refused(tus.delete(upload_id), status)
    refused(tus.ask("POST", upload_id, x_http_method_override="DELETE"), status)


def test_an_upload_of_another_tenant_is_not_found(tus: Tus, half: str, new_tenant: Any) -> None:
    all_refused(Tus(new_tenant().service), half, 404)
    assert tus.offset(half) == 3


def test_an_upload_is_for_who_began_it_and_the_service_key(tus: Tus, tenant: Tenant) -> None:
    allow(tenant)
    ada = Tus(tenant.user(sub="ada"))
    upload_id = ada.begin(9, b"abc")
    for other in (tenant.user(sub="bob"), tenant.anon):
        all_refused(Tus(other), upload_id, 404)
    assert tus.offset(upload_id) == 3
    assert tus.patch(upload_id, 3, b"def").status == 204
    assert ada.patch(upload_id, 6, b"ghi").status == 204
    assert tus.client.get("b", "o").body == b"abcdefghi"
    assert info(tus.client)["owner_id"] == str(uuid.uuid5(uuid.UUID(tenant.tenant_id), "ada"))


def test_an_object_that_the_service_completes_is_still_whose_upload_it_was(tus: Tus, tenant: Tenant) -> None:
    allow(tenant, definition="auth_uid()::uuid = owner_id")
    upload_id = Tus(tenant.user(sub="ada")).begin(6, b"abc")
    assert tus.patch(upload_id, 3, b"def").status == 204
    assert info(tus.client)["owner_id"] == str(uuid.uuid5(uuid.UUID(tenant.tenant_id), "ada"))


def test_nobody_is_asked_for_a_credential(tus: Tus, half: str, tenant: Tenant, choose: Choose) -> None:
    nobody = Tus(tenant.nobody)
    for default_tenant in ("", tenant.tenant_id):
        choose("STOWAGE_DEFAULT_TENANT", default_tenant)
        for answer in (nobody.create(1), nobody.create(1, upload_concat="partial")):
            refused(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_nobody_is_asked_for_a_credential_on_any_upload(tus: Tus, half: str, tenant: Tenant, choose: Choose) -> None:
    for default_tenant in ("", tenant.tenant_id):
        choose("STOWAGE_DEFAULT_TENANT", default_tenant)
        for upload_id in (half, UNKNOWN):
            all_refused(Tus(tenant.nobody), upload_id, 401)
            refused(Tus(tenant.nobody).join(upload_id), 401)


def test_nobody_may_upload_where_a_policy_says_so(tus: Tus, tenant: Tenant, choose: Choose) -> None:
    allow(tenant)
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    nobody = Tus(tenant.nobody)
    upload_id = nobody.begin(6, b"abc")
    assert nobody.offset(upload_id) == 3
    assert nobody.patch(upload_id, 3, b"def").status == 204
    assert holds(tus.client, b"abcdef")


# ---- one writer at a time ------------------------------------------------------------------------------
def test_while_one_writes_others_are_told_to_wait(tus: Tus, half: str, tenant: Tenant) -> None:
    writer = sessions.claim(service_of(tenant), half, 3, 3)
    for answer in (tus.patch(half, 3, b"def"), tus.patch(half, 3, b"d"), tus.delete(half)):
        refused(answer, 423)
        assert 1 <= int(answer.headers["retry-after"]) <= sessions.LEASE
    assert tus.offset(half) == 3
    sessions.release(writer, touched=True)
    assert tus.patch(half, 3, b"def").status == 204
    assert holds(tus.client, b"abcdef")


def test_a_writer_that_is_gone_is_followed_and_can_change_nothing(tus: Tus, half: str, tenant: Tenant, clock: Clock) -> None:
    gone = sessions.claim(service_of(tenant), half, 3, 2)
    clock.advance(sessions.LEASE + 1)
    assert tus.patch(half, 3, b"d").headers["upload-offset"] == "4"
    with pytest.raises(UploadLocked):
        sessions.commit(gone, {"offset": 5})
    sessions.release(gone, touched=True)
    assert tus.offset(half) == 4
    assert tus.patch(half, 4, b"ef").status == 204
    assert holds(tus.client, b"abcdef")


@pytest.mark.parametrize("method", ["put", "upload_part", "complete_multipart"])
def test_an_upload_goes_on_when_the_storage_is_back(tus: Tus, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(type(storage_of(tenant)), "min_part_bytes", 5 * MIB)
    upload_id, body = tus.begin(9 * MIB), noise(9 * MIB)
    failing_once(monkeypatch, tenant, method)
    statuses = []
    while (offset := tus.offset(upload_id)) < len(body):
        statuses.append(tus.patch(upload_id, offset, body[offset : offset + 4 * MIB]).status)
    assert sorted(statuses) == [204] * (2 if method == "complete_multipart" else 3) + [503]
    assert holds(tus.client, body)


# ---- the end -------------------------------------------------------------------------------------------
def test_an_upload_expires_a_day_after_its_last_chunk(tus: Tus, new_tenant: Any, clock: Clock) -> None:
    upload_id = tus.begin(9, b"abc")
    clock.advance(DAY - 60)
    assert tus.patch(upload_id, 3, b"def").status == 204
    clock.advance(DAY - 60)
    assert tus.offset(upload_id) == 6
    clock.advance(60)
    for answer in (tus.patch(upload_id, 6, b"ghi"), tus.patch(upload_id, 6, b""), tus.patch(upload_id, 0, b"a"), tus.delete(upload_id)):
        refused(answer, 410)
    assert tus.head(upload_id).status == 410
    assert Tus(new_tenant().service).head(upload_id).status == 404
    assert tus.client.names("b") == []


def test_a_done_upload_is_known_for_a_day(tus: Tus, body: bytes, clock: Clock) -> None:
    upload_id = begun(tus, body)
    clock.advance(DAY - 60)
    answer = last_chunk(tus, upload_id, body)
    assert answer.status == 204
    left = parsedate_to_datetime(answer.headers["upload-expires"]) - datetime.now(UTC)
    assert left > timedelta(days=2, minutes=-3)
    clock.advance(DAY - 60)
    assert tus.offset(upload_id) == len(body)
    clock.advance(60)
    assert tus.head(upload_id).status == 410
    assert holds(tus.client, body)


def test_a_terminated_upload_is_gone(tus: Tus, tenant: Tenant, body: bytes) -> None:
    upload_id = begun(tus, body)
    stored = session(upload_id)
    answer = tus.delete(upload_id)
    assert (answer.status, answer.body, answer.headers["tus-resumable"]) == (204, b"", "1.0.0")
    all_refused(tus, upload_id, 404)
    refused(last_chunk(tus, upload_id, body), 404)
    assert tus.client.names("b") == []
    assert storage_of(tenant).stat(stored.physical_key) is None


def test_a_terminated_upload_frees_its_parts(tus: Tus, tenant: Tenant) -> None:
    upload_id = tus.begin(20 * MIB)
    tus.send(upload_id, noise(8 * MIB), 4 * MIB)
    stored, provider = session(upload_id), storage_of(tenant)
    assert isinstance(provider, providers.Multipart)
    assert sum(part.size for part in provider.list_parts(stored.physical_key, stored.multipart_id)) == 8 * MIB
    assert tus.delete(upload_id).status == 204
    with pytest.raises(BytesMissing):
        provider.list_parts(stored.physical_key, stored.multipart_id)


def test_a_done_upload_cannot_be_terminated(tus: Tus, body: bytes) -> None:
    upload_id = tus.upload(body, 4 * MIB)
    refused(tus.delete(upload_id), 409)
    assert tus.offset(upload_id) == len(body)
    assert holds(tus.client, body)


@pytest.mark.parametrize("since", ["deleted", "overwritten"])
def test_replaying_a_done_upload_brings_nothing_back(tus: Tus, body: bytes, since: str) -> None:
    upload_id = tus.upload(body, 4 * MIB)
    if since == "deleted":
        tus.client.delete("b", "o")
    else:
        tus.client.put("b", "o", b"second")
    assert tus.offset(upload_id) == len(body)
    refused(last_chunk(tus, upload_id, body), 409)
    refused(tus.patch(upload_id, 0, body[:4]), 409)
    assert tus.patch(upload_id, len(body), b"").headers["upload-offset"] == str(len(body))
    assert tus.offset(upload_id) == len(body)
    if since == "deleted":
        assert tus.client.get("b", "o").status == 404
        assert tus.client.names("b") == []
    else:
        assert tus.client.get("b", "o").body == b"second"


def test_head_tells_how_far_an_upload_is(tus: Tus, half: str) -> None:
    known, unknown = tus.head(half), tus.head(tus.begin(upload_defer_length="1"))
    assert (known.status, known.body, known.headers["upload-offset"], known.headers["upload-length"]) == (200, b"", "3", "6")
    assert (unknown.headers["upload-offset"], unknown.headers["upload-defer-length"]) == ("0", "1")
    assert "upload-defer-length" not in known.headers
    assert "upload-length" not in unknown.headers
    for answer in (known, unknown):
        assert (answer.headers["cache-control"], answer.headers["tus-resumable"]) == ("no-store", "1.0.0")
        assert "upload-expires" in answer.headers


# ---- other methods' names ------------------------------------------------------------------------------
def test_a_post_may_stand_for_any_method(tus: Tus, half: str) -> None:
    head = tus.ask("POST", half, x_http_method_override="HEAD")
    assert (head.status, head.body, head.headers["upload-offset"]) == (200, b"", "3")
    patch = tus.ask("POST", half, b"d", x_http_method_override="patch", upload_offset="3")
    assert (patch.status, patch.headers["upload-offset"]) == (204, "4")
    refused(tus.ask("POST", half, b"d", x_http_method_override="PATCH", upload_offset="3"), 409)
    refused(tus.ask("POST", half, x_http_method_override="DELETE", tus_resumable=None), 412)
    assert tus.ask("POST", half, x_http_method_override="DELETE").status == 204
    assert tus.head(half).status == 404


@pytest.mark.parametrize("method", [None, "", "POST", "GET", "PUT", "OPTIONS"])
def test_a_post_stands_for_nothing_else(tus: Tus, half: str, method: str | None) -> None:
    answer = tus.ask("POST", half, b"def", x_http_method_override=method, upload_offset="3")
    refused(answer, 405)
    assert set(answer.headers["allow"].split(", ")) >= {"PATCH", "HEAD", "DELETE"}
    assert tus.offset(half) == 3


# ---- what the bucket allows ----------------------------------------------------------------------------
def test_policies_are_asked_at_the_beginning(tus: Tus, tenant: Tenant) -> None:
    ada = Tus(tenant.user(sub="ada"))
    for length, headers in ((6, {}), (0, {}), (None, {"upload_defer_length": "1"})):
        refused(ada.create(length, **headers), 403)
    allow(tenant, definition="size <= 5 AND starts_with(name, 'ada/')")
    refused(ada.create(5), 403)
    refused(ada.create(6, name="ada/o"), 403)
    assert ada.create(5, name="ada/o").status == 201


def test_policies_are_asked_again_at_the_end(tus: Tus, tenant: Tenant, body: bytes, clock: Clock) -> None:
    policy, ada = allow(tenant), Tus(tenant.user(sub="ada"))
    upload_id = begun(ada, body)
    tus.client("DELETE", f"/storage/policies/{policy}")
    clock.advance(61)
    refused(last_chunk(ada, upload_id, body), 403)
    assert tus.client.names("b") == []
    allow(tenant)
    clock.advance(61)
    done = last_chunk(ada, upload_id, body)
    assert done.status in (204, 409)  # 409: the chunk was taken the first time, as HEAD tells
    assert ada.offset(upload_id) == len(body)
    assert holds(tus.client, body)


def test_what_turns_out_as_no_policy_allows_becomes_no_object(tus: Tus, tenant: Tenant) -> None:
    allow(tenant, definition="size <= 5")
    ada = Tus(tenant.user(sub="ada"))
    upload_id = ada.begin(body=b"abc", upload_defer_length="1")
    refused(ada.patch(upload_id, 3, b"def", upload_length="6"), 403)
    assert tus.client.names("b") == []


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "and made anew"])
def test_the_upload_of_a_deleted_bucket_ends_nowhere(tus: Tus, body: bytes, again: bool) -> None:
    upload_id, untouched = begun(tus, body), tus.begin(6)
    tus.client("DELETE", "/storage/buckets/b")
    if again:
        tus.client.bucket("b")
    refused(last_chunk(tus, upload_id, body), 404)
    refused(tus.patch(untouched, 0, b"abcdef"), 404)
    if again:
        assert tus.client.names("b") == []


def test_bytes_of_another_type_are_refused_with_the_first_chunk(tus: Tus) -> None:
    tus.client("PUT", "/storage/buckets/b", {"allowed_mimes": ["text/plain", "image/png"]})
    as_text, as_image = (encoded(bucket="b", filename="o", filetype=kind) for kind in ("text/plain", "image/png"))
    upload_id = tus.begin(1000, upload_metadata=as_text)
    assert "image/png" in refused(tus.patch(upload_id, 0, PNG), 415)
    assert tus.offset(upload_id) == 0
    refused(tus.create(1000, PNG, upload_metadata=as_text), 415)
    assert tus.create(1000, PNG, upload_metadata=as_image).status == 201
    assert tus.patch(upload_id, 0, b"text").status == 204


@pytest.mark.parametrize("size", [100, 5 * MIB])
def test_bytes_of_another_type_are_refused_at_the_end_if_they_came_piecemeal(tus: Tus, size: int) -> None:
    tus.client("PUT", "/storage/buckets/b", {"allowed_mimes": ["text/plain"]})
    body = PNG.ljust(size, b"\0")
    upload_id = tus.begin(size, body[:1], upload_metadata=encoded(bucket="b", filename="o", filetype="text/plain"))
    tus.send(upload_id, body[:-10], 4 * MIB, 1)
    refused(tus.patch(upload_id, size - 10, body[-10:]), 415)
    assert tus.client.names("b") == []


# ---- sizes ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("size", "chunk"),
    [
        (17, 1),
        (3 * MIB + 5, MIB),
        (2 * MIB, 65_537),
        (MAX_BODY, MAX_BODY),
        (5 * MIB - 1, 4 * MIB),
        (5 * MIB, 4 * MIB),
        (5 * MIB + 1, 4 * MIB),
        (5 * MIB + 1, MAX_BODY),
        (12 * MIB, 1_234_567),
        (12 * MIB, 4_194_301),
    ],
)
def test_what_is_uploaded_in_chunks_is_what_is_downloaded(storage: Tus, size: int, chunk: int) -> None:
    body = noise(size)
    upload_id = storage.upload(body, chunk)
    assert holds(storage.client, body)
    head = storage.head(upload_id)
    assert head.headers["upload-offset"] == head.headers["upload-length"] == str(size)


def test_chunks_of_all_sizes_make_one_object(storage: Tus) -> None:
    body, offset = noise(11 * MIB + 3), 0
    upload_id = storage.begin(len(body))
    for length in (1, 4 * MIB, 1, 65_536, 2 * MIB - 1, 4 * MIB + 1, 7, MAX_BODY):
        chunk = body[offset : offset + length]
        assert storage.patch(upload_id, offset, chunk, upload_checksum=digest("md5", chunk)).status == 204
        offset += len(chunk)
    storage.send(upload_id, body, 4 * MIB, offset)
    assert holds(storage.client, body)


def test_a_chunk_beyond_the_limit_is_refused_with_the_limit(tus: Tus) -> None:
    body = noise(MAX_BODY + 1)
    upload_id = tus.begin(len(body))
    answer = tus.patch(upload_id, 0, body)
    assert str(MAX_BODY) in refused(answer, 413)
    assert answer.headers["x-chunk-max"] == str(MAX_BODY)
    tus.send(upload_id, body, MAX_BODY)
    assert holds(tus.client, body)


# ---- what it costs -------------------------------------------------------------------------------------
def counted(calls: list[Call], service: str) -> list[str]:
    return [call.operation for call in calls if call.service == service]


@pytest.mark.parametrize(("chunk", "in_storage"), [(4 * MIB, 30), (8 * MIB, 12)])
def test_64_mib_cost_few_calls(tus: Tus, calls: list[Call], choose: Choose, chunk: int, in_storage: int) -> None:
    choose("STOWAGE_MAX_BODY", str(10 << 20))
    block, number = noise(chunk), 64 * MIB // chunk
    upload_id = tus.begin(64 * MIB)
    calls.clear()
    for position in range(number):
        before = len(calls)
        assert tus.patch(upload_id, position * chunk, block).status == 204
        in_table = [operation for operation in counted(calls[before:], "dynamodb") if operation != "BatchGetItem"]
        is_last = position == number - 1
        assert in_table == ["UpdateItem", "UpdateItem"] + (["TransactWriteItems"] if is_last else [])
    assert len(counted(calls, "s3")) <= in_storage
    row = info(tus.client)
    assert (row["size"], row["checksum"]) == (64 * MIB, hashlib.sha256(block * number).hexdigest())


def test_a_chunk_is_taken_without_a_read_of_the_table(tus: Tus, calls: list[Call]) -> None:
    upload_id = tus.begin(30, b"0123456789")
    calls.clear()
    assert tus.patch(upload_id, 10, b"0123456789").status == 204
    assert counted(calls, "dynamodb") == ["UpdateItem", "UpdateItem"]
    assert counted(calls, "s3") == ["GetObject", "PutObject"]


def test_an_upload_in_one_request_costs_one_call_of_the_storage(tus: Tus, calls: list[Call]) -> None:
    tus.create(5, b"bytes")
    calls.clear()
    assert tus.create(5, b"other").status == 201
    assert counted(calls, "s3") == ["PutObject"]
    assert sorted(counted(calls, "dynamodb")) == ["BatchGetItem", "BatchGetItem", "PutItem", "TransactWriteItems"]
