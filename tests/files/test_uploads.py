"""Uploads of files by TUS, and as JSON for those who manage them (CONTRACT "Files surface", FEATURES F12)."""

import hashlib
import json
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from chalicelib import providers
from chalicelib.errors import BytesMissing
from chalicelib.tables.folders import Folder
from tests.api.tus_client import CHUNK, MAX_BODY, MIB, UNKNOWN, Tus, digest, encoded, id_of, noise, run_jobs, session
from tests.api.tus_client import refused as refused_by_tus
from tests.client import Answer, Client
from tests.conftest import Call, Clock, Tenant, run_job
from tests.durability.conftest import Machinery, machinery
from tests.files.conftest import ROOT, Choose, file_of, folder, get, keys, put, refused, stored, uid_of

__all__ = ["machinery"]  # a fixture

FOLDER = "/api/uploads"
DAY = 24 * 3600
SHOWN = {"id", "key", "size", "offset", "status", "contentType", "folderId", "createdAt", "expiresAt"}
STATUSES = ("uploading", "completed", "expired", "aborted")
# A small upload is stored whole with its last chunk, a large one has parts in the storage before; ALMOST all of it comes first.
SMALL, LARGE = b"sixteen bytes!!!", noise(8 * MIB + 1)
ALMOST = {len(SMALL): 8, len(LARGE): 8 * MIB}


@dataclass(frozen=True)
class Uploads(Tus):
    """TUS requests to the files surface, under one credential."""

    def ask(self, method: str, upload_id: str = "", body: bytes | None = None, **headers: Any) -> Answer:
        usual: dict[str, Any] = {"tus_resumable": "1.0.0"} | ({} if body is None else {"content_type": CHUNK})
        sent = {name.replace("_", "-"): value for name, value in (usual | headers).items() if value is not None}
        return self.client(method, f"{FOLDER}/{upload_id}" if upload_id else FOLDER, body, sent)

    def create(self, length: int | None = None, body: bytes | None = None, name: str = "o", **headers: str | None) -> Answer:
        return super().create(length, body, name, **({"upload_metadata": encoded(key=name)} | headers))

    def join(self, *upload_ids: str, **headers: str | None) -> Answer:
        return self.create(**({"upload_concat": "final;" + " ".join(f"{FOLDER}/{each}" for each in upload_ids)} | headers))

    def all(self, query: str = "") -> list[dict[str, Any]]:
        """The uploads that are listed."""
        answer = self.client("GET", f"{FOLDER}?{query}")
        assert answer.status == 200, answer.body
        document = answer.json()
        assert document.keys() == {"uploads"}
        found: list[dict[str, Any]] = document["uploads"]
        return found

    def shown(self, upload_id: str) -> dict[str, Any]:
        """An upload as JSON."""
        answer = self.client("GET", f"{FOLDER}/{upload_id}")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.body
        found: dict[str, Any] = answer.json()
        return found

    def statuses(self, query: str = "") -> list[str]:
        return [each["status"] for each in self.all(query)]


@pytest.fixture
def tus(ada: Client) -> Uploads:
    """Uploads of a user."""
    return Uploads(ada)


@pytest.fixture
def half(tus: Uploads) -> str:
    """An upload of six bytes, three of which are here."""
    return tus.begin(6, b"abc")


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def body(request: pytest.FixtureRequest) -> bytes:
    found: bytes = request.param
    return found


def begun(tus: Uploads, body: bytes, **headers: str | None) -> str:
    """An upload that lacks its last chunk alone."""
    upload_id = tus.begin(len(body), **headers)
    tus.send(upload_id, body[: ALMOST[len(body)]], 4 * MIB)
    return upload_id


def last_chunk(tus: Uploads, upload_id: str, body: bytes) -> Answer:
    return tus.patch(upload_id, ALMOST[len(body)], body[ALMOST[len(body)] :])


def bytes_of(client: Client, key: str = "o") -> bytes:
    """A file's bytes, from wherever the API sends its readers."""
    answer = get(client, key)
    if answer.status == 302:
        with urllib.request.urlopen(answer.headers["location"], timeout=30) as response:
            body: bytes = response.read()
        return body
    assert answer.status == 200, answer.body
    return answer.body


# ---- what the server is --------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [None, "1.0.0", "0.2.2"])
def test_options_tell_what_the_server_can_do(tenant: Tenant, version: str | None) -> None:
    """F12.5, F12.6"""
    answer = Uploads(tenant.nobody).ask("OPTIONS", tus_resumable=version)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
    assert set(answer.headers["tus-extension"].split(",")) == {
        *("creation", "creation-with-upload", "creation-defer-length", "expiration", "termination", "checksum", "concatenation")
    }
    assert set(answer.headers["tus-checksum-algorithm"].split(",")) == {"sha1", "sha256", "md5"}
    assert (answer.headers["tus-max-size"], answer.headers["x-chunk-max"]) == ("5000000000", str(MAX_BODY))


@pytest.mark.parametrize(("path", "methods"), [("", {"POST", "GET"}), (UNKNOWN, {"PATCH", "HEAD", "DELETE", "POST", "GET"})])
def test_a_browser_may_ask_beforehand(tenant: Tenant, path: str, methods: set[str]) -> None:
    """F12.6: GET lies beside the methods of TUS."""
    asked = {"origin": "https://app.test", "access_control_request_method": "POST", "access_control_request_headers": "tus-resumable"}
    answer = Uploads(tenant.nobody).ask("OPTIONS", path, tus_resumable=None, **asked)
    assert (answer.status, answer.headers["access-control-allow-headers"]) == (204, "tus-resumable")
    assert set(answer.headers["access-control-allow-methods"].split(", ")) >= methods


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "HEAD", "DELETE"])
def test_another_version_is_refused_and_nothing_is_done(tus: Uploads, half: str, method: str, version: str | None) -> None:
    """F12.5"""
    target = "" if method == "POST" else half
    answer = tus.ask(method, target, b"def", tus_resumable=version, upload_offset="3", upload_length="6")
    refused_by_tus(answer, 412)
    assert answer.headers["tus-version"] == "1.0.0"
    assert tus.offset(half) == 3
    assert len(tus.all()) == 1


def test_every_error_of_tus_is_a_line_of_text_that_carries_the_version(tus: Uploads, half: str) -> None:
    """F12.8"""
    unknown_folder = encoded(key="x", folderId=UNKNOWN)
    for answer, status in (
        (tus.create(), 400),
        (tus.create(1, name="tenants/x"), 422),
        (Uploads(tus.client.using("sk_unknown")).create(1), 401),
        (tus.create(1, upload_metadata=unknown_folder), 404),
        (tus.patch(UNKNOWN, 0, b"a"), 404),
        (tus.patch(half, 0, b"a"), 409),
        (tus.patch(half, 3, b"four"), 413),
        (tus.patch(half, 3, b"def", content_type="text/plain"), 415),
        (tus.patch(half, 3, b"def", upload_checksum=digest("sha1", b"other")), 460),
    ):
        text = refused_by_tus(answer, status)
        assert text.endswith("\n")
        assert text.count("\n") == 1
    head = tus.head(UNKNOWN)
    assert (head.status, head.body, head.headers["tus-resumable"]) == (404, b"", "1.0.0")


@pytest.mark.parametrize(("method", "path"), [("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("PUT", f"/{UNKNOWN}")])
def test_a_method_that_is_none_is_refused(tus: Uploads, method: str, path: str) -> None:
    """F12.8"""
    answer = tus.client(method, FOLDER + path, b"a", {"Tus-Resumable": "1.0.0"})
    assert answer.status == 405
    assert {"POST", "GET"} <= set(answer.headers["allow"].split(", "))


# ---- creation ------------------------------------------------------------------------------------------
def test_an_upload_is_created(tus: Uploads) -> None:
    """F12.7"""
    answer = tus.create(6)
    assert (answer.status, answer.body) == (201, b"")
    assert answer.headers["location"] == f"http://api.test{FOLDER}/{id_of(answer)}"
    assert abs(parsedate_to_datetime(answer.headers["upload-expires"]) - datetime.now(UTC) - timedelta(days=1)) < timedelta(minutes=1)
    assert (answer.headers["x-chunk-max"], answer.headers["tus-resumable"]) == (str(MAX_BODY), "1.0.0")
    assert tus.offset(id_of(answer)) == 0
    assert keys(tus.client) == []


def test_where_an_upload_lies_is_told_as_the_installation_is_known(tus: Uploads, choose: Choose) -> None:
    """F12.7"""
    choose("STOWAGE_PUBLIC_URL", "https://files.example.com/v1/")
    answer = tus.create(6)
    assert answer.headers["location"] == f"https://files.example.com/v1{FOLDER}/{id_of(answer)}"


@pytest.mark.parametrize("length", [None, "", "-1", "1.5", "six", "9" * 19])
def test_a_bad_length_is_refused(tus: Uploads, length: str | None) -> None:
    """F12.7"""
    assert "Upload-Length" in refused_by_tus(tus.create(upload_length=length), 400)


def test_more_than_the_server_takes_is_refused(tus: Uploads, choose: Choose) -> None:
    """F12.7"""
    choose("STOWAGE_MAX_UPLOAD_SIZE", "100")
    assert tus.create(100).status == 201
    refused_by_tus(tus.create(101), 413)


@pytest.mark.parametrize("sent", [b"abcdef", b"abc"])
def test_an_upload_begins_with_its_bytes(tus: Uploads, sent: bytes) -> None:
    """F12.7"""
    answer = tus.create(6, sent)
    assert (answer.status, answer.headers["upload-offset"]) == (201, str(len(sent)))
    tus.send(id_of(answer), b"abcdef", 2, len(sent))
    assert get(tus.client, "o").body == b"abcdef"


def test_an_empty_file_is_done_when_it_is_created(tus: Uploads) -> None:
    """F12.7"""
    answer = tus.create(0, name="photos/empty.txt")
    assert (answer.status, answer.headers["upload-offset"]) == (201, "0")
    file = file_of(tus.client, "photos/empty.txt")
    assert (file["size"], file["contentType"]) == (0, "text/plain")
    assert file["folderId"] is not None


@pytest.mark.parametrize("told_with", [0, 1, 2])
def test_the_length_may_be_told_with_any_chunk(tus: Uploads, told_with: int) -> None:
    """F12.7, F12.9"""
    upload_id = tus.begin(upload_defer_length="1")
    assert tus.shown(upload_id)["size"] is None
    for number, chunk in enumerate((b"abc", b"def", b"")):
        assert tus.patch(upload_id, 3 * number, chunk, upload_length="6" if number == told_with else None).status == 204
        head = tus.head(upload_id)
        assert (head.headers.get("upload-length"), head.headers.get("upload-defer-length")) == (
            ("6", None) if number >= told_with else (None, "1")
        )
    assert get(tus.client, "o").body == b"abcdef"
    assert (tus.shown(upload_id)["size"], tus.shown(upload_id)["status"]) == (6, "completed")


# ---- metadata ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "key", "content_type"),
    [
        ({"key": "o.csv"}, "o.csv", "text/csv"),
        ({"filename": "o.csv"}, "o.csv", "text/csv"),
        ({"key": "folder/o", "filename": "o.csv"}, "folder/o", "application/octet-stream"),
        ({"key": "", "filename": "o.csv"}, "o.csv", "text/csv"),
        ({"key": "o.csv", "contentType": "text/plain; charset=utf-8"}, "o.csv", "text/plain; charset=utf-8"),
        ({"key": "o.csv", "filetype": "image/png"}, "o.csv", "image/png"),
        ({"key": "o.csv", "type": "image/png"}, "o.csv", "image/png"),
        ({"key": "o", "contentType": "image/png", "filetype": "text/plain", "type": "text/css"}, "o", "image/png"),
        ({"key": "o", "filetype": "text/plain", "type": "text/css"}, "o", "text/plain"),
        ({"key": "o", "contentType": "", "type": "text/css"}, "o", "text/css"),
        ({"key": "фото/naïve ☕.txt"}, "фото/naïve ☕.txt", "text/plain"),
        ({"key": "o.csv", "bucket": "other", "path": "p", "relativePath": "null"}, "o.csv", "text/csv"),
    ],
)
def test_metadata_name_the_file_and_its_type(tus: Uploads, given: dict[str, str], key: str, content_type: str) -> None:
    """F12.3"""
    upload_id = tus.begin(2, upload_metadata=encoded(**given))
    assert (tus.shown(upload_id)["key"], tus.shown(upload_id)["contentType"]) == (key, content_type)
    assert tus.patch(upload_id, 0, b"ok").status == 204
    assert keys(tus.client) == [key]
    assert file_of(tus.client, key)["contentType"] == content_type


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        encoded(bucket="b"),
        encoded(path="o"),
        encoded(key=""),
        encoded(key="", filename=""),
        "key b!w=",
        "key bw==,key eA==",
        encoded(key=b"\xff"),
        encoded(key="o", contentType="no type"),
        encoded(key="o", metadata="no JSON"),
        encoded(key="o", metadata="[1]"),
        encoded(key="o", metadata=json.dumps({"k": "v" * 4096})),
        encoded(key="o", acl="open"),
        encoded(key="o", acl=""),
        encoded(key="o", other="x" * 8192),
    ],
)
def test_metadata_that_describe_no_file_are_refused(tus: Uploads, header: str | None) -> None:
    """F12.3"""
    refused_by_tus(tus.create(1, upload_metadata=header), 400)
    assert tus.all() == []


@pytest.mark.parametrize("key", ["tenants/x/o", "_sign/o", "_sign", "folder-counts", "from-url", "../o", "/o"])
def test_a_reserved_key_is_refused(tus: Uploads, key: str) -> None:
    """F12.7"""
    refused_by_tus(tus.create(1, name=key), 422)
    refused_by_tus(tus.create(upload_defer_length="1", name=key), 422)
    refused_by_tus(tus.join(tus.partial(b"a"), upload_metadata=encoded(key=key)), 422)
    assert keys(tus.client) == []


def test_metadata_come_back_as_they_were_sent(tus: Uploads) -> None:
    """F12.9"""
    header = "filename bw==, folderId X19yb290X18=,is_confidential,empty ,relativePath bnVsbA=="
    upload_id = tus.begin(2, upload_metadata=header)
    assert tus.head(upload_id).headers["upload-metadata"] == header


# ---- chunks --------------------------------------------------------------------------------------------
def test_a_chunk_is_acknowledged(tus: Uploads) -> None:
    """F12.8, F12.9"""
    upload_id = tus.begin(6)
    answer = tus.patch(upload_id, 0, b"abc")
    assert (answer.status, answer.body, answer.headers["upload-offset"]) == (204, b"", "3")
    head = tus.head(upload_id)
    assert (head.status, head.body, head.headers["upload-offset"], head.headers["upload-length"]) == (200, b"", "3", "6")
    assert (head.headers["cache-control"], head.headers["tus-resumable"]) == ("no-store", "1.0.0")
    assert keys(tus.client) == []
    assert tus.patch(upload_id, 3, b"def").headers["upload-offset"] == "6"
    assert get(tus.client, "o").body == b"abcdef"


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", f"{CHUNK}x"])
def test_a_chunk_of_another_type_is_refused(tus: Uploads, half: str, content_type: str | None) -> None:
    """F12.8"""
    refused_by_tus(tus.patch(half, 3, b"def", content_type=content_type), 415)
    assert tus.offset(half) == 3


@pytest.mark.parametrize("offset", [0, 2, 4, 6, 10**9])
def test_another_offset_than_the_uploads_is_a_conflict(tus: Uploads, half: str, offset: int) -> None:
    """F12.8"""
    refused_by_tus(tus.patch(half, offset, b"d"), 409)
    assert tus.offset(half) == 3


@pytest.mark.parametrize("offset", [None, "", "-3", "three", "9" * 19])
def test_a_bad_offset_is_refused(tus: Uploads, half: str, offset: str | None) -> None:
    """F12.8"""
    refused_by_tus(tus.patch(half, offset, b"def"), 400)
    assert tus.offset(half) == 3


def test_bytes_past_the_length_are_refused(tus: Uploads, half: str) -> None:
    """F12.8"""
    refused_by_tus(tus.patch(half, 3, b"defg"), 413)
    assert tus.patch(half, 3, b"def").status == 204
    assert get(tus.client, "o").body == b"abcdef"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_a_chunk_is_taken_only_with_the_digest_that_was_promised(tus: Uploads, half: str, algorithm: str) -> None:
    """F12.8"""
    refused_by_tus(tus.patch(half, 3, b"def", upload_checksum=digest(algorithm, b"deg")), 460)
    refused_by_tus(tus.patch(half, 3, b"def", upload_checksum="crc32 AAAA"), 400)
    assert tus.offset(half) == 3
    assert tus.patch(half, 3, b"def", upload_checksum=digest(algorithm, b"def")).status == 204
    assert get(tus.client, "o").body == b"abcdef"


def test_a_post_may_stand_for_any_method(tus: Uploads, half: str) -> None:
    """F12.8"""
    head = tus.ask("POST", half, x_http_method_override="HEAD")
    assert (head.status, head.body, head.headers["upload-offset"]) == (200, b"", "3")
    patch = tus.ask("POST", half, b"d", x_http_method_override="patch", upload_offset="3")
    assert (patch.status, patch.headers["upload-offset"]) == (204, "4")
    for other in (None, "PUT", "GET"):
        refused_by_tus(tus.ask("POST", half, x_http_method_override=other), 405)
    assert tus.ask("POST", half, x_http_method_override="DELETE").status == 204
    assert tus.head(half).status == 404


# ---- what an upload becomes ----------------------------------------------------------------------------
def test_the_last_byte_makes_the_file_as_it_was_chosen(tus: Uploads, tenant: Tenant, body: bytes) -> None:
    """F12.3"""
    chosen = folder(tus.client, "chosen")
    metadata = encoded(
        key="photos/o.png", contentType="image/png", folderId=chosen, acl="public", metadata='{"k": {"título": "日本語 🎉"}}'
    )
    upload_id = begun(tus, body, upload_metadata=metadata)
    assert keys(tus.client) == []
    assert last_chunk(tus, upload_id, body).headers["upload-offset"] == str(len(body))
    file = file_of(tus.client, "photos/o.png")
    assert file == file | {
        "size": len(body),
        "contentType": "image/png",
        "checksum": hashlib.sha256(body).hexdigest(),
        "acl": "public",
        "folderId": chosen,
        "ownerId": uid_of(tenant, "ada"),
        "metadata": {"k": {"título": "日本語 🎉"}},
    }
    assert bytes_of(tus.client, "photos/o.png") == body


def test_a_file_for_which_nothing_was_chosen_is_private_and_in_the_folder_of_its_key(tus: Uploads, body: bytes) -> None:
    """F12.3, F8.20"""
    last_chunk(tus, begun(tus, body, upload_metadata=encoded(key="photos/spring/o.png")), body)
    file = file_of(tus.client, "photos/spring/o.png")
    (made,) = tus.client("GET", "/api/folders").json()["data"]
    assert (made["name"], made["ownerId"]) == ("photos/spring", file["ownerId"])
    assert (file["acl"], file["folderId"], file["metadata"]) == ("private", made["id"], None)


@pytest.mark.parametrize("folder_id", [ROOT, ""])
def test_a_file_may_be_kept_out_of_all_folders(tus: Uploads, folder_id: str) -> None:
    """F12.3, F8.20: an empty id is none, so it says nothing."""
    tus.begin(2, b"ok", upload_metadata=encoded(key="photos/o.png", folderId=folder_id))
    assert (file_of(tus.client, "photos/o.png")["folderId"] is None) == (folder_id == ROOT)


def test_a_file_of_the_service_key_has_no_owner(service: Client) -> None:
    """F12.3"""
    Uploads(service).begin(2, b"ok")
    assert file_of(service, "o")["ownerId"] is None


def test_an_overwrite_keeps_what_the_file_is(tus: Uploads, service: Client, body: bytes) -> None:
    """F12.16"""
    chosen = folder(tus.client, "chosen")
    before = stored(tus.client, "photos/o.txt", query=f"?folderId={chosen}&acl=public")
    last_chunk(Uploads(service), begun(Uploads(service), body, upload_metadata=encoded(key="photos/o.txt")), body)
    after = file_of(tus.client, "photos/o.txt")
    for field in ("id", "ownerId", "folderId", "acl", "uploadedAt"):
        assert after[field] == before[field]
    assert (after["size"], after["version"] > before["version"]) == (len(body), True)


def test_an_overwrite_may_choose_anew(tus: Uploads) -> None:
    """F12.3"""
    first, second = folder(tus.client, "first"), folder(tus.client, "second")
    stored(tus.client, "o", query=f"?folderId={first}&acl=public")
    tus.begin(2, b"ok", upload_metadata=encoded(key="o", folderId=second, acl="private"))
    assert (file_of(tus.client, "o")["folderId"], file_of(tus.client, "o")["acl"]) == (second, "private")


@pytest.mark.parametrize("size", [5 * MIB, 9 * MIB + 7])
def test_large_files_come_in_chunks(tus: Uploads, size: int) -> None:
    """F12.3"""
    body = noise(size)
    upload_id = tus.upload(body, 4 * MIB, name="photos/large.bin")
    file = file_of(tus.client, "photos/large.bin")
    assert (file["size"], file["checksum"]) == (size, hashlib.sha256(body).hexdigest())
    assert bytes_of(tus.client, "photos/large.bin") == body
    shown = tus.shown(upload_id)
    assert (shown["status"], shown["size"], shown["offset"]) == ("completed", size, size)


def test_an_upload_tells_how_far_it_is(tus: Uploads) -> None:
    """F12.21"""
    upload_id = tus.begin(20 * MIB, name="large.bin")
    assert tus.shown(upload_id)["offset"] == 0
    tus.send(upload_id, noise(12 * MIB), 4 * MIB)
    shown = tus.shown(upload_id)
    assert (shown["offset"], shown["size"], shown["status"]) == (12 * MIB, 20 * MIB, "uploading")


# ---- folders -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("folder_id", [UNKNOWN, "x", "00000000-0000-4000-8000-00000000abcd"])
@pytest.mark.parametrize("length", [1, None])
def test_a_folder_that_is_chosen_must_be_there(tus: Uploads, folder_id: str, length: int | None) -> None:
    """F12.3"""
    header = {"upload_metadata": encoded(key="o", folderId=folder_id), "upload_defer_length": None if length else "1"}
    assert "folder" in refused_by_tus(tus.create(length, **header), 404)
    refused_by_tus(tus.join(tus.partial(b"a"), upload_metadata=header["upload_metadata"]), 404)
    assert tus.all() == []


def test_a_folder_of_another_tenant_is_not_there(tus: Uploads, new_tenant: Any) -> None:
    """F12.3"""
    theirs = folder(new_tenant().service, "theirs")
    refused_by_tus(tus.create(1, upload_metadata=encoded(key="o", folderId=theirs)), 404)


def test_a_file_whose_folder_was_deleted_meanwhile_is_in_none(tus: Uploads, body: bytes) -> None:
    """F12.3"""
    gone = folder(tus.client, "gone")
    upload_id = begun(tus, body, upload_metadata=encoded(key="photos/o.png", folderId=gone))
    assert tus.client("DELETE", f"/api/folders/{gone}").status == 200
    assert last_chunk(tus, upload_id, body).status == 204
    assert file_of(tus.client, "photos/o.png")["folderId"] is None


def test_an_upload_that_is_refused_or_given_up_makes_no_folder(tus: Uploads, tenant: Tenant, bob: Client) -> None:
    """F8.20"""
    stored(bob, "photos/o", query=f"?folderId={ROOT}")
    refused_by_tus(tus.create(1, name="photos/o"), 403)
    refused_by_tus(Uploads(tenant.anon).create(1, name="other/o"), 403)
    tus.delete(tus.begin(6, b"abc", name="other/o"))
    assert list(Folder.pages_of(tenant.tenant_id)) == [[]]


# ---- whose file it is ----------------------------------------------------------------------------------
def test_over_another_users_file_nothing_is_begun(tus: Uploads, bob: Client) -> None:
    """F12.16"""
    before = stored(bob, "o", b"of bob")
    refused_by_tus(tus.create(6), 403)
    refused_by_tus(tus.create(6, b"of ada"), 403)
    refused_by_tus(tus.join(tus.partial(b"of ada")), 403)
    assert tus.all() == []
    assert (file_of(bob, "o"), get(bob, "o").body) == (before, b"of bob")


def test_over_another_users_file_no_upload_of_unknown_length_ends(tus: Uploads, bob: Client) -> None:
    """F12.16"""
    before = stored(bob, "o", b"of bob")
    upload_id = tus.begin(upload_defer_length="1")
    refused_by_tus(tus.patch(upload_id, 0, b"of ada", upload_length="6"), 403)
    assert (file_of(bob, "o"), get(bob, "o").body) == (before, b"of bob")


def test_over_another_users_file_that_came_meanwhile_no_upload_ends(tus: Uploads, bob: Client, body: bytes) -> None:
    """F12.16"""
    upload_id = begun(tus, body)
    before = stored(bob, "o", b"of bob")
    refused_by_tus(last_chunk(tus, upload_id, body), 403)
    assert (file_of(bob, "o"), get(bob, "o").body) == (before, b"of bob")
    assert keys(tus.client) == []
    assert tus.shown(upload_id)["status"] == "uploading"


def test_nor_does_a_join(tus: Uploads, bob: Client) -> None:
    """F12.16"""
    upload_id = id_of(tus.join(tus.partial(b"abc"), tus.partial(b"def")))
    before = stored(bob, "o", b"of bob")
    run_job(session(upload_id).job_id)
    assert (file_of(bob, "o"), get(bob, "o").body) == (before, b"of bob")


@pytest.mark.parametrize("header", [{"x_upsert": "false"}, {"if_none_match": "*"}])
def test_an_existing_file_is_kept_if_the_client_wants_it(tus: Uploads, body: bytes, header: dict[str, str | None]) -> None:
    """F12.16"""
    upload_id = begun(tus, body, **header)
    stored(tus.client, "o", b"first")
    refused_by_tus(last_chunk(tus, upload_id, body), 409)
    refused_by_tus(tus.create(6, **header), 409)
    assert get(tus.client, "o").body == b"first"


def test_policies_are_asked_again_at_the_end(tus: Uploads, tenant: Tenant, body: bytes, clock: Clock) -> None:
    """F12.16"""
    upload_id = begun(tus, body)
    for policy in tenant.service("GET", "/storage/policies/bucket/.files").json():
        if policy["operation"] == "INSERT":
            assert tenant.service("DELETE", f"/storage/policies/{policy['id']}").status == 200
    clock.advance(61)
    refused_by_tus(last_chunk(tus, upload_id, body), 403)
    refused_by_tus(tus.create(1), 403)
    assert keys(tenant.service) == []


def test_keys_that_may_not_create_files_upload_none(tenant: Tenant, choose: Choose) -> None:
    """F12.16"""
    refused_by_tus(Uploads(tenant.anon).create(1), 403)
    for default_tenant in ("", tenant.tenant_id):
        choose("STOWAGE_DEFAULT_TENANT", default_tenant)
        answer = Uploads(tenant.nobody).create(1)
        refused_by_tus(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_an_upload_is_for_who_began_it_and_the_service_key(tus: Uploads, tenant: Tenant, bob: Client, new_tenant: Any) -> None:
    """F12.16"""
    upload_id = tus.begin(9, b"abc")
    for other in (bob, tenant.anon, new_tenant().service):
        assert Uploads(other).head(upload_id).status == 404
        refused_by_tus(Uploads(other).patch(upload_id, 3, b"def"), 404)
        refused_by_tus(Uploads(other).delete(upload_id), 404)
    assert Uploads(tenant.service).patch(upload_id, 3, b"def").status == 204
    assert tus.patch(upload_id, 6, b"ghi").status == 204
    assert file_of(tus.client, "o")["ownerId"] == uid_of(tenant, "ada")


# ---- termination and expiry ----------------------------------------------------------------------------
def test_an_upload_that_is_given_up_is_gone(tus: Uploads, body: bytes) -> None:
    """F12.10"""
    upload_id = begun(tus, body)
    stored_under = session(upload_id)
    answer = tus.delete(upload_id)
    assert (answer.status, answer.body, answer.headers["tus-resumable"]) == (204, b"", "1.0.0")
    assert tus.head(upload_id).status == 404
    refused_by_tus(last_chunk(tus, upload_id, body), 404)
    refused_by_tus(tus.delete(upload_id), 404)
    refused(tus.client("GET", f"{FOLDER}/{upload_id}"), 404, "NOT_FOUND")
    assert keys(tus.client) == []
    if stored_under.multipart_id:
        storage = providers.internal()
        assert isinstance(storage, providers.Multipart)
        with pytest.raises(BytesMissing):
            storage.list_parts(stored_under.physical_key, stored_under.multipart_id)


def test_a_file_that_is_there_is_not_given_up(tus: Uploads, body: bytes) -> None:
    """F12.10"""
    upload_id = begun(tus, body)
    last_chunk(tus, upload_id, body)
    refused_by_tus(tus.delete(upload_id), 409)
    assert bytes_of(tus.client) == body


def test_an_upload_expires_a_day_after_its_last_chunk(tenant: Tenant, clock: Clock) -> None:
    """F12.13"""
    tus = Uploads(tenant.service)
    upload_id = tus.begin(9, b"abc")
    clock.advance(DAY - 60)
    assert tus.patch(upload_id, 3, b"def").status == 204
    clock.advance(DAY - 60)
    assert tus.shown(upload_id)["status"] == "uploading"
    clock.advance(60)
    assert tus.head(upload_id).status == 410
    refused_by_tus(tus.patch(upload_id, 6, b"ghi"), 410)
    refused_by_tus(tus.delete(upload_id), 410)
    refused(tenant.service("GET", f"{FOLDER}/{upload_id}"), 410, "GONE")
    assert tus.statuses() == ["expired"]
    assert keys(tenant.service) == []


def test_the_cleanup_frees_what_an_expired_upload_holds(tenant: Tenant, clock: Clock, machinery: Machinery) -> None:
    """F12.13"""
    tus = Uploads(tenant.service)
    upload_id = tus.begin(20 * MIB, name="large.bin")
    tus.send(upload_id, noise(8 * MIB), 4 * MIB)
    held, storage = session(upload_id), providers.internal()
    assert isinstance(storage, providers.Multipart)
    assert storage.list_parts(held.physical_key, held.multipart_id) != []
    clock.advance(DAY + 1)
    assert machinery.hour()["uploads"]["expired"] >= 1
    with pytest.raises(BytesMissing):
        storage.list_parts(held.physical_key, held.multipart_id)
    assert tus.head(upload_id).status == 410
    refused(tenant.service("GET", f"{FOLDER}/{upload_id}"), 410, "GONE")
    assert tus.statuses() == ["expired"]
    assert keys(tenant.service) == []


# ---- concatenation -------------------------------------------------------------------------------------
def test_partial_uploads_need_no_key_and_are_joined_under_one(tus: Uploads, tenant: Tenant) -> None:
    """F12.3"""
    chosen = folder(tus.client, "chosen")
    first, second = tus.partial(b"abc"), tus.begin(3, b"def", upload_metadata=encoded(filename="part"), upload_concat="partial")
    assert tus.head(first).headers["upload-concat"] == "partial"
    assert keys(tus.client) == []
    metadata = encoded(key="photos/o.txt", folderId=chosen, acl="public", metadata='{"k": 1}')
    upload_id = id_of(tus.joined(second, first, upload_metadata=metadata))
    file = file_of(tus.client, "photos/o.txt")
    assert (file["size"], file["contentType"], file["folderId"], file["acl"]) == (6, "text/plain", chosen, "public")
    assert (file["metadata"], file["ownerId"]) == ({"k": 1}, uid_of(tenant, "ada"))
    assert get(tus.client, "photos/o.txt").body == b"defabc"
    assert tus.offset(upload_id) == 6
    refused_by_tus(tus.patch(upload_id, 6, b"g"), 403)
    run_jobs(tenant, "object.checksum")
    assert file_of(tus.client, "photos/o.txt")["checksum"] == hashlib.sha256(b"defabc").hexdigest()


def test_large_partial_uploads_are_joined(tus: Uploads) -> None:
    """F12.3"""
    bodies = [noise(5 * MIB), noise(5 * MIB + 7)]
    assert tus.joined(*map(tus.partial, bodies), upload_metadata=encoded(key="photos/o.bin")).status == 201
    assert bytes_of(tus.client, "photos/o.bin") == b"".join(bodies)
    assert file_of(tus.client, "photos/o.bin")["folderId"] is not None


def test_what_cannot_be_joined_is_refused(tus: Uploads, half: str, bob: Client) -> None:
    """F12.8"""
    finished, unfinished = tus.partial(b"abc"), tus.begin(6, b"abc", upload_metadata=None, upload_concat="partial")
    for upload_id, status in ((unfinished, 409), (UNKNOWN, 404), (Uploads(bob).partial(b"abc"), 404), (half, 400)):
        refused_by_tus(tus.join(finished, upload_id), status)
    refused_by_tus(tus.join(finished, upload_metadata=None), 400)
    assert keys(tus.client) == []


# ---- uploads as JSON -----------------------------------------------------------------------------------
def test_an_upload_is_shown(tus: Uploads, clock: Clock) -> None:
    """F12.21"""
    chosen = folder(tus.client, "chosen")
    upload_id = tus.begin(6, b"abc", upload_metadata=encoded(key="photos/o.png", folderId=chosen))
    shown = tus.shown(upload_id)
    assert shown.keys() == SHOWN
    assert shown == shown | {
        "id": upload_id,
        "key": "photos/o.png",
        "size": 6,
        "offset": 3,
        "status": "uploading",
        "contentType": "image/png",
        "folderId": chosen,
    }
    lasts = datetime.fromisoformat(shown["expiresAt"]) - datetime.fromisoformat(shown["createdAt"])
    assert timedelta(0) <= lasts - timedelta(days=1) < timedelta(minutes=1)
    assert tus.all() == [shown]
    tus.patch(upload_id, 3, b"def")
    assert tus.shown(upload_id) | {"expiresAt": ""} == shown | {"expiresAt": "", "offset": 6, "status": "completed"}


@pytest.mark.parametrize("chosen", [ROOT, None])
def test_an_upload_for_which_no_folder_was_chosen_shows_none(tus: Uploads, chosen: str | None) -> None:
    """F12.21"""
    given = {"key": "photos/o.png"} | ({} if chosen is None else {"folderId": chosen})
    assert tus.shown(tus.begin(6, upload_metadata=encoded(**given)))["folderId"] is None


def test_uploads_are_listed_newest_first(tus: Uploads, clock: Clock) -> None:
    """F12.21"""
    begun_in_order = []
    for number in range(5):
        begun_in_order.append(tus.begin(6, name=str(number)))
        clock.advance(1)
    tus.patch(begun_in_order[1], 0, b"abc")
    assert [each["id"] for each in tus.all()] == begun_in_order[::-1]
    assert [each["id"] for each in tus.all("limit=2")] == begun_in_order[:-3:-1]
    assert [each["id"] for each in tus.all("limit=200")] == begun_in_order[::-1]


def test_uploads_are_listed_by_status(tenant: Tenant, clock: Clock) -> None:
    """F12.21"""
    tus = Uploads(tenant.service)
    ids = {"expired": tus.begin(6, b"abc", name="a")}
    clock.advance(DAY + 1)
    ids |= {
        "uploading": tus.begin(6, b"abc", name="b"),
        "completed": tus.begin(3, b"abc", name="c"),
        "aborted": tus.begin(6, b"abc", name="d"),
    }
    tus.delete(ids["aborted"])
    assert {each["status"]: each["id"] for each in tus.all()} == ids
    for status in STATUSES:
        assert [(each["id"], each["status"]) for each in tus.all(f"status={status}")] == [(ids[status], status)]
        assert tus.all(f"status={status}&limit=1") == tus.all(f"status={status}")


def test_uploads_of_one_status_are_found_among_many_others(tus: Uploads, clock: Clock) -> None:
    """F12.21"""
    wanted = tus.begin(6, name="wanted")
    for number in range(4):
        clock.advance(1)
        tus.begin(2, b"ok", name=str(number))
    assert [each["id"] for each in tus.all("status=uploading&limit=1")] == [wanted]


def test_a_user_sees_ones_own_uploads_and_the_service_key_all_of_the_tenant(
    tus: Uploads, tenant: Tenant, bob: Client, new_tenant: Any, clock: Clock
) -> None:
    """F12.21"""
    ids = []
    for client in (tus.client, bob, tenant.service):
        ids.append(Uploads(client).begin(6))
        clock.advance(1)
    of_another = Uploads(new_tenant().service).begin(6)
    for client, own in ((tus.client, ids[0]), (bob, ids[1])):
        assert [each["id"] for each in Uploads(client).all()] == [own]
    assert [each["id"] for each in Uploads(tenant.service).all()] == ids[::-1]
    for upload_id in (*ids[1:], of_another, UNKNOWN, "x", "%20"):
        refused(tus.client("GET", f"{FOLDER}/{upload_id}"), 404, "NOT_FOUND")
    assert Uploads(tenant.service).shown(ids[0])["id"] == ids[0]
    refused(tenant.service("GET", f"{FOLDER}/{of_another}"), 404, "NOT_FOUND")


def test_uploads_that_become_no_file_by_themselves_are_not_shown(tus: Uploads, tenant: Tenant) -> None:
    """F12.21"""
    tenant.service.bucket("b")
    partial, of_storage = tus.partial(b"abc"), Tus(tenant.service).begin(6, b"abc")
    for upload_id in (partial, of_storage):
        refused(tenant.service("GET", f"{FOLDER}/{upload_id}"), 404, "NOT_FOUND")
    assert tus.all() == Uploads(tenant.service).all() == []
    joined = id_of(tus.joined(partial))
    assert [each["id"] for each in tus.all()] == [joined]


@pytest.mark.parametrize(
    "query",
    [
        "status=done",
        "status=",
        "status=Uploading",
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1.5",
        "limit=" + "9" * 19,
    ],
)
def test_a_bad_query_is_refused(tus: Uploads, query: str) -> None:
    """F12.21"""
    refused(tus.client("GET", f"{FOLDER}?{query}"), 422, "VALIDATION")


def test_uploads_are_listed_for_users_and_the_service_key_alone(tenant: Tenant, half: str, choose: Choose) -> None:
    """F12.21"""
    for query in ("", "?status=uploading", "?limit=1"):
        refused(tenant.anon("GET", f"{FOLDER}{query}"), 403, "FORBIDDEN")
    refused(tenant.anon("GET", f"{FOLDER}/{half}"), 404, "NOT_FOUND")
    for default_tenant in ("", tenant.tenant_id):
        choose("STOWAGE_DEFAULT_TENANT", default_tenant)
        refused(tenant.nobody("GET", FOLDER), 401, "UNAUTHORIZED")
        refused(tenant.nobody("GET", f"{FOLDER}/{half}"), 401, "UNAUTHORIZED")


def test_a_list_costs_two_reads(tus: Uploads, calls: list[Call]) -> None:
    """F12.21"""
    for number in range(5):
        tus.begin(6, name=str(number))
    tus.all()
    calls.clear()
    assert len(tus.all()) == 5
    assert [call.operation for call in calls] == ["Query", "BatchGetItem"]


def test_a_put_shows_no_upload(tus: Uploads) -> None:
    """F12.21"""
    assert put(tus.client, "o").status == 201
    assert tus.all() == []
