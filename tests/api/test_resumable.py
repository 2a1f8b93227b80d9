"""Resumable uploads without a protocol of their own (seed 002 "Resumable Upload Endpoints", CONTRACT "Storage surface")."""

import base64
import hashlib
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.access.principals import Principal, Role
from chalicelib.core import sessions
from chalicelib.surfaces import dispatch
from chalicelib.surfaces.mounted import SURFACES
from chalicelib.surfaces.platform.routes import SURFACE as PLATFORM
from chalicelib.webapp import StowageApp
from tests.api.held import storage_of
from tests.api.tus_client import MIB, Tus, allow, failing_once, holds, info, noise
from tests.client import Answer, Client
from tests.conftest import Call, Clock, Tenant

UPLOAD = "/storage/upload"
UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
MAX_BODY = 4_400_000
DAY = 24 * 3600
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
STORED = {"id", "name", "size", "content_type", "checksum", "checksum_state", "version"}
# A small upload lies beside the storage's parts until it is complete, a large one in them.
SMALL, LARGE = b"sixteen bytes!!!", noise(8 * MIB + 1)


@dataclass(frozen=True)
class Uploads:
    """Requests for resumable uploads under one credential."""

    client: Client

    def create(self, **fields: Any) -> Answer:
        wanted = {"bucket": "b", "path": "o", "size": 6} | fields
        return self.client("POST", f"{UPLOAD}/resumable", {name: value for name, value in wanted.items() if value is not None})

    def begin(self, **fields: Any) -> str:
        """The id of a new upload."""
        answer = self.create(**fields)
        assert answer.status == 201, answer.body
        return str(answer.json()["upload_id"])

    def append(self, upload_id: str, offset: int | str, body: bytes) -> Answer:
        return self.client("PATCH", f"{UPLOAD}/{upload_id}", body, {"Upload-Offset": str(offset)})

    def append_range(self, upload_id: str, content_range: str, body: bytes) -> Answer:
        return self.client("PATCH", f"{UPLOAD}/{upload_id}", body, {"Content-Range": content_range})

    def head(self, upload_id: str) -> Answer:
        return self.client("HEAD", f"{UPLOAD}/{upload_id}")

    def offset(self, upload_id: str) -> int:
        answer = self.head(upload_id)
        assert answer.status == 200
        return int(answer.headers["upload-offset"])

    def abandon(self, upload_id: str) -> Answer:
        return self.client("DELETE", f"{UPLOAD}/{upload_id}")

    def complete(self, upload_id: str, body: Any = None) -> Answer:
        return self.client("POST", f"{UPLOAD}/{upload_id}/complete", body)

    def send(self, body: bytes, chunk: int = 4 * MIB, **fields: Any) -> str:
        """The id of an upload whose bytes are all there."""
        upload_id = self.begin(size=len(body), **fields)
        for start in range(0, len(body), chunk):
            answer = self.append(upload_id, start, body[start : start + chunk])
            assert answer.status == 200, answer.body
        return upload_id


@pytest.fixture
def uploads(service: Client) -> Uploads:
    """Resumable uploads under the service key, with a bucket `b`."""
    service.bucket("b")
    return Uploads(service)


@pytest.fixture
def half(uploads: Uploads) -> str:
    """An upload of six bytes, three of which are here."""
    upload_id = uploads.begin()
    uploads.append(upload_id, 0, b"abc")
    return upload_id


@pytest.fixture
def whole(uploads: Uploads) -> str:
    """An upload whose six bytes are here, and which is not complete yet."""
    return uploads.send(b"abcdef")


@pytest.fixture(params=["s3", "filesystem"])
def storage(request: pytest.FixtureRequest, uploads: Uploads) -> Uploads:
    """Resumable uploads on each provider."""
    if request.param == "filesystem":
        request.getfixturevalue("on_filesystem")
    return uploads


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def body(request: pytest.FixtureRequest) -> bytes:
    found: bytes = request.param
    return found


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """A clear error as the storage surface has it; gives its details."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()
    assert {"code", "message", "request_id"} <= error.keys() <= {"code", "message", "request_id", "details"}
    assert (error["code"], error["request_id"]) == (code, answer.headers["x-request-id"])
    assert error["message"]
    details: dict[str, Any] = error.get("details") or {}
    return details


def all_refused(uploads: Uploads, upload_id: str, status: int, code: str) -> None:
    head = uploads.head(upload_id)
    assert (head.status, head.body) == (status, b"")
    refused(uploads.append(upload_id, 3, b"def"), status, code)
    refused(uploads.append(upload_id, 3, b""), status, code)
    refused(uploads.complete(upload_id), status, code)
    refused(uploads.abandon(upload_id), status, code)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# ---- creation ------------------------------------------------------------------------------------------
def test_an_upload_is_created(uploads: Uploads) -> None:
    answer = uploads.create()
    assert answer.status == 201
    begun = answer.json()
    assert begun.keys() == {"upload_id", "bytes_uploaded", "total_size", "expires_at", "chunk_max"}
    assert (begun["bytes_uploaded"], begun["total_size"], begun["chunk_max"]) == (0, 6, MAX_BODY)
    assert abs(datetime.fromisoformat(begun["expires_at"]) - datetime.now(UTC) - timedelta(days=1)) < timedelta(minutes=1)
    assert uploads.offset(begun["upload_id"]) == 0
    assert uploads.client.names("b") == []


@pytest.mark.parametrize(
    "fields",
    [
        *({"size": size} for size in (None, -1, "six", 6.5, 10**20)),
        *({"bucket": bucket} for bucket in (None, "", 1)),
        *({"path": path} for path in (None, "", 1, "../o", "/o")),
        {"content_type": "no type"},
        {"user_metadata": [1]},
        {"user_metadata": {"k": "v" * 4096}},
        {"upsert": "perhaps"},
    ],
)
def test_what_names_no_upload_is_refused(uploads: Uploads, calls: list[Call], fields: dict[str, Any]) -> None:
    calls.clear()
    refused(uploads.create(**fields), 400, "InvalidRequest")
    assert calls == []


def test_a_creation_that_is_no_json_is_refused(uploads: Uploads) -> None:
    for body in (b"", b"{", b"[]", b"\xff"):
        refused(uploads.client("POST", f"{UPLOAD}/resumable", body), 400, "InvalidRequest")


def test_an_upload_keeps_to_the_bucket_and_its_limits(uploads: Uploads, tenant: Tenant) -> None:
    refused(uploads.create(bucket="nowhere"), 404, "BucketNotFound")
    refused(Uploads(tenant.user()).create(), 403, "Forbidden")
    refused(Uploads(tenant.user()).create(bucket="nowhere"), 403, "Forbidden")
    assert refused(uploads.create(size=5_000_000_001), 413, "TooLarge")["limit"] == 5_000_000_000
    uploads.client("PUT", "/storage/buckets/b", {"max_file_size": 5, "allowed_mimes": ["image/*"]})
    assert refused(uploads.create(size=6, content_type="image/png"), 413, "TooLarge")["limit"] == 5
    refused(uploads.create(size=5), 415, "UnsupportedType")
    assert uploads.create(size=5, content_type="image/png").status == 201


@pytest.mark.parametrize("path", ["o.csv", "фото/naïve ☕.txt"])
def test_an_object_is_what_was_said_at_its_creation(uploads: Uploads, path: str) -> None:
    metadata = {"título": "日本語 🎉", "n": [1, None]}
    upload_id = uploads.send(b"abcdef", path=path, content_type="Image/PNG", user_metadata=metadata)
    assert uploads.complete(upload_id).json()["content_type"] == "image/png"
    row = info(uploads.client, path)
    assert (row["name"], row["content_type"], row["user_metadata"]) == (path, "image/png", metadata)


def test_the_type_of_an_object_is_guessed_from_its_name(uploads: Uploads) -> None:
    for path, content_type in (("o.csv", "text/csv"), ("o", "application/octet-stream")):
        assert uploads.complete(uploads.send(b"a", path=path)).json()["content_type"] == content_type


# ---- bytes ---------------------------------------------------------------------------------------------
def test_bytes_are_appended_at_their_offset(uploads: Uploads) -> None:
    upload_id = uploads.begin()
    for offset, chunk in enumerate((b"a", b"b", b"c", b"d", b"e", b"f")):
        answer = uploads.append(upload_id, offset, chunk)
        assert (answer.status, answer.json()) == (200, {"bytes_uploaded": offset + 1, "total_size": 6})
    assert uploads.complete(upload_id).status == 200
    assert holds(uploads.client, b"abcdef")


@pytest.mark.parametrize("ranges", [("bytes 0-2/6", "bytes 3-5/6"), ("bytes 0-2/*", " bytes 3-5/* ")])
def test_bytes_are_appended_where_their_range_says(uploads: Uploads, ranges: tuple[str, str]) -> None:
    upload_id = uploads.begin()
    assert uploads.append_range(upload_id, ranges[0], b"abc").json() == {"bytes_uploaded": 3, "total_size": 6}
    assert uploads.append_range(upload_id, ranges[1], b"def").json() == {"bytes_uploaded": 6, "total_size": 6}
    assert uploads.complete(upload_id).status == 200
    assert holds(uploads.client, b"abcdef")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload-Offset": ""},
        {"Upload-Offset": "-3"},
        {"Upload-Offset": "three"},
        {"Upload-Offset": "3.0"},
        {"Upload-Offset": "9" * 19},
        {"Upload-Offset": ["3", "0"]},
        {"Content-Range": ""},
        {"Content-Range": "3-5/6"},
        {"Content-Range": "bytes 3-5"},
        {"Content-Range": "bytes */6"},
        {"Content-Range": "bytes 5-3/6"},
        {"Content-Range": "bytes 3-4/6"},
        {"Content-Range": "bytes 3-6/*"},
        {"Content-Range": "bytes 3-5/7"},
        {"Content-Range": "bytes -3-5/6"},
        {"Content-Range": "bytes 3-5/6, 3-5/6"},
        {"Content-Range": f"bytes {'9' * 16}-{'9' * 16}/*"},
    ],
)
def test_a_position_that_cannot_be_read_is_refused(uploads: Uploads, half: str, headers: dict[str, Any]) -> None:
    refused(uploads.client("PATCH", f"{UPLOAD}/{half}", b"def", headers), 400, "InvalidRequest")
    assert uploads.offset(half) == 3


@pytest.mark.parametrize("offset", [0, 2, 4, 6, 10**9])
def test_another_offset_than_the_uploads_is_a_conflict(uploads: Uploads, half: str, offset: int) -> None:
    assert refused(uploads.append(half, offset, b"d"), 409, "OffsetMismatch") == {"offset": 3}
    assert refused(uploads.append_range(half, f"bytes {offset}-{offset}/*", b"d"), 409, "OffsetMismatch") == {"offset": 3}
    assert uploads.append(half, 3, b"def").status == 200
    uploads.complete(half)
    assert holds(uploads.client, b"abcdef")


def test_bytes_past_the_size_are_refused(uploads: Uploads, half: str) -> None:
    assert refused(uploads.append(half, 3, b"defg"), 413, "TooLarge") == {"limit": 6}
    assert refused(uploads.append_range(half, "bytes 3-6/*", b"defg"), 413, "TooLarge") == {"limit": 6}
    assert uploads.offset(half) == 3
    assert uploads.append(half, 3, b"def").status == 200
    refused(uploads.append(half, 6, b"g"), 413, "TooLarge")
    uploads.complete(half)
    assert holds(uploads.client, b"abcdef")


def test_bytes_past_the_size_are_refused_where_it_is_told_again(uploads: Uploads, half: str) -> None:
    assert uploads.append_range(half, "bytes 3-6/6", b"defg").status in (400, 413)
    assert uploads.offset(half) == 3
    assert uploads.append_range(half, "bytes 3-5/6", b"def").status == 200
    assert uploads.complete(half).status == 200
    assert holds(uploads.client, b"abcdef")


def test_a_chunk_beyond_the_limit_is_refused(uploads: Uploads) -> None:
    upload_id = uploads.begin(size=MAX_BODY + 1)
    body = noise(MAX_BODY + 1)
    assert refused(uploads.append(upload_id, 0, body), 413, "TooLarge") == {"limit": MAX_BODY}
    assert uploads.append(upload_id, 0, body[:-1]).json()["bytes_uploaded"] == MAX_BODY


def test_head_tells_how_far_an_upload_is(uploads: Uploads, half: str) -> None:
    for _ in range(2):
        head = uploads.head(half)
        assert (head.status, head.body) == (200, b"")
        shown = {name: head.headers[name] for name in ("upload-offset", "upload-length", "cache-control")}
        assert shown == {"upload-offset": "3", "upload-length": "6", "cache-control": "no-store"}


def test_bytes_of_another_type_are_refused_with_the_first_of_them(uploads: Uploads) -> None:
    uploads.client("PUT", "/storage/buckets/b", {"allowed_mimes": ["text/plain"]})
    upload_id = uploads.begin(size=len(PNG), content_type="text/plain")
    assert refused(uploads.append(upload_id, 0, PNG), 415, "UnsupportedType")["detected"] == "image/png"
    for offset in range(len(PNG)):
        assert uploads.append(upload_id, offset, PNG[offset : offset + 1]).status == 200
    refused(uploads.complete(upload_id), 415, "UnsupportedType")
    assert uploads.client.names("b") == []


# ---- completion ----------------------------------------------------------------------------------------
def test_an_upload_is_not_complete_while_bytes_are_missing(uploads: Uploads, half: str) -> None:
    assert refused(uploads.complete(half), 409, "UploadIncomplete") == {"offset": 3}
    assert refused(uploads.complete(half, {"checksum": sha256(b"abc")}), 409, "UploadIncomplete") == {"offset": 3}
    assert refused(uploads.complete(uploads.begin()), 409, "UploadIncomplete") == {"offset": 0}
    assert uploads.append(half, 3, b"def").status == 200
    assert uploads.complete(half).status == 200


def test_the_object_appears_with_its_completion_alone(uploads: Uploads, body: bytes) -> None:
    upload_id = uploads.send(body)
    assert uploads.offset(upload_id) == len(body)
    assert uploads.append(upload_id, len(body), b"").json() == {"bytes_uploaded": len(body), "total_size": len(body)}
    assert uploads.client.names("b") == []
    assert uploads.client.get("b", "o").status == 404
    answer = uploads.complete(upload_id)
    assert answer.status == 200
    stored = answer.json()
    assert stored.keys() == STORED
    assert (stored["name"], stored["size"], stored["checksum"], stored["checksum_state"]) == ("o", len(body), sha256(body), "known")
    assert {name: info(uploads.client)[name] for name in STORED} == stored
    assert holds(uploads.client, body)


@pytest.mark.parametrize("body", [None, b"", {}, {"checksum": None}])
def test_a_completion_needs_no_body(uploads: Uploads, whole: str, body: Any) -> None:
    assert uploads.complete(whole, body).status == 200
    assert holds(uploads.client, b"abcdef")


def test_an_upload_is_completed_once_and_answers_alike_each_time(uploads: Uploads, body: bytes) -> None:
    upload_id = uploads.send(body)
    first = uploads.complete(upload_id)
    for again in (uploads.complete(upload_id), uploads.complete(upload_id, {"checksum": sha256(body)})):
        assert (again.status, again.json()) == (200, first.json())
    refused(uploads.complete(upload_id, {"checksum": sha256(b"other")}), 422, "IntegrityFailed")
    assert info(uploads.client)["version"] == first.json()["version"]


@pytest.mark.parametrize("since", ["deleted", "overwritten"])
def test_what_a_complete_upload_is_asked_changes_nothing(uploads: Uploads, body: bytes, since: str) -> None:
    upload_id = uploads.send(body)
    made = uploads.complete(upload_id).json()
    if since == "deleted":
        uploads.client.delete("b", "o")
    else:
        uploads.client.put("b", "o", b"second")
    assert uploads.complete(upload_id).json() == made
    assert uploads.offset(upload_id) == len(body)
    refused(uploads.append(upload_id, 0, body[:4]), 409, "OffsetMismatch")
    refused(uploads.append(upload_id, len(body), b"more"), 413, "TooLarge")
    refused(uploads.abandon(upload_id), 409, "UploadSettled")
    if since == "deleted":
        assert uploads.client.get("b", "o").status == 404
        assert uploads.client.names("b") == []
    else:
        assert uploads.client.get("b", "o").body == b"second"


def test_a_wrong_checksum_changes_nothing_and_the_right_one_still_completes(uploads: Uploads, body: bytes) -> None:
    uploads.client.put("b", "o", b"first")
    upload_id = uploads.send(body)
    for _ in range(2):
        assert refused(uploads.complete(upload_id, {"checksum": sha256(b"other")}), 422, "IntegrityFailed") == {"checksum": sha256(body)}
        assert uploads.client.get("b", "o").body == b"first"
        assert uploads.offset(upload_id) == len(body)
    assert uploads.complete(upload_id, {"checksum": sha256(body)}).status == 200
    assert holds(uploads.client, body)


@pytest.mark.parametrize(
    "checksum",
    [sha256(b"abcdef"), sha256(b"abcdef").upper(), base64.b64encode(hashlib.sha256(b"abcdef").digest()).decode()],
    ids=["hex", "upper-case hex", "base64"],
)
def test_a_checksum_is_given_in_hex_or_base64(uploads: Uploads, whole: str, checksum: str) -> None:
    assert uploads.complete(whole, {"checksum": checksum}).json()["checksum"] == sha256(b"abcdef")


@pytest.mark.parametrize("body", [{"checksum": ""}, {"checksum": "abc"}, {"checksum": "z" * 64}, {"checksum": 1}, [], b"{", b"null"])
def test_a_completion_that_cannot_be_read_is_refused(uploads: Uploads, whole: str, body: Any) -> None:
    refused(uploads.complete(whole, body), 400, "InvalidRequest")
    assert uploads.client.names("b") == []


def test_an_empty_file_is_complete_when_it_is_said_to_be(storage: Uploads) -> None:
    upload_id = storage.begin(size=0)
    head = storage.head(upload_id)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("0", "0")
    assert storage.client.names("b") == []
    assert storage.complete(upload_id, {"checksum": sha256(b"")}).json()["size"] == 0
    assert holds(storage.client, b"")


def test_an_existing_object_is_kept_if_the_client_wants_it(uploads: Uploads, body: bytes) -> None:
    upload_id = uploads.send(body, upsert=False)
    uploads.client.put("b", "o", b"first")
    refused(uploads.create(upsert=False), 409, "ObjectExists")
    for _ in range(2):
        refused(uploads.complete(upload_id), 409, "ObjectExists")
    assert uploads.client.get("b", "o").body == b"first"
    uploads.client.delete("b", "o")
    assert uploads.complete(upload_id).status == 200
    assert holds(uploads.client, body)


def test_an_overwrite_keeps_what_the_object_is(uploads: Uploads, body: bytes) -> None:
    before = uploads.client.put("b", "o", b"first").json()
    after = uploads.complete(uploads.send(body)).json()
    assert after["id"] == before["id"]
    assert after["version"] > before["version"]
    assert holds(uploads.client, body)


@pytest.mark.parametrize(
    ("size", "chunk"),
    [(7, 1), (5 * MIB - 1, 4 * MIB), (5 * MIB, MAX_BODY), (5 * MIB + 1, 3 * MIB), (12 * MIB, 3_333_333), (2 * MIB, 65_537)],
)
def test_what_is_uploaded_in_chunks_is_what_is_downloaded(storage: Uploads, size: int, chunk: int) -> None:
    body = noise(size)
    assert storage.complete(storage.send(body, chunk), {"checksum": sha256(body)}).status == 200
    assert holds(storage.client, body)


# ---- the end -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sent", [0, 8 * MIB, len(LARGE)])
def test_an_abandoned_upload_is_gone(uploads: Uploads, sent: int) -> None:
    upload_id = uploads.begin(size=len(LARGE))
    for start in range(0, sent, 4 * MIB):
        uploads.append(upload_id, start, LARGE[start : min(sent, start + 4 * MIB)])
    answer = uploads.abandon(upload_id)
    assert (answer.status, answer.json()) == (200, {})
    all_refused(uploads, upload_id, 404, "UploadNotFound")
    assert uploads.client.names("b") == []


def test_an_upload_expires_a_day_after_its_last_chunk(uploads: Uploads, half: str, clock: Clock) -> None:
    clock.advance(DAY - 60)
    assert uploads.append(half, 3, b"d").status == 200
    clock.advance(DAY - 60)
    assert uploads.offset(half) == 4
    clock.advance(60)
    all_refused(uploads, half, 410, "UploadExpired")


def test_what_is_no_upload_is_not_found(uploads: Uploads, half: str, new_tenant: Any) -> None:
    for upload_id in (UNKNOWN, UNKNOWN.lower(), "x", "%20", "x" * 3000):
        all_refused(uploads, upload_id, 404, "UploadNotFound")
    all_refused(Uploads(new_tenant().service), half, 404, "UploadNotFound")
    assert uploads.offset(half) == 3


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_another_method_is_refused(uploads: Uploads, half: str, method: str) -> None:
    answer = uploads.client(method, f"{UPLOAD}/{half}", b"def")
    refused(answer, 405, "MethodNotAllowed")
    assert {"PATCH", "HEAD", "DELETE"} <= set(answer.headers["allow"].split(", "))


def test_a_partial_upload_is_not_completed_into_an_object(uploads: Uploads) -> None:
    refused(uploads.complete(Tus(uploads.client).partial(b"abc")), 409, "UploadSettled")


# ---- whose it is ---------------------------------------------------------------------------------------
def test_an_upload_is_for_who_began_it_and_the_service_key(uploads: Uploads, tenant: Tenant) -> None:
    allow(tenant, definition="auth_uid()::uuid = owner_id")
    ada = Uploads(tenant.user(sub="ada"))
    upload_id = ada.begin()
    ada.append(upload_id, 0, b"abc")
    for other in (tenant.user(sub="bob"), tenant.anon):
        all_refused(Uploads(other), upload_id, 404, "UploadNotFound")
    assert uploads.append(upload_id, 3, b"def").status == 200
    assert uploads.complete(upload_id).status == 200
    assert info(uploads.client)["owner_id"] == str(uuid.uuid5(uuid.UUID(tenant.tenant_id), "ada"))


@pytest.mark.parametrize("is_default", [False, True])
def test_nobody_is_asked_for_a_credential(uploads: Uploads, half: str, tenant: Tenant, choose: Any, is_default: bool) -> None:
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id if is_default else "")
    answer = Uploads(tenant.nobody).create()
    refused(answer, 401, "Unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    all_refused(Uploads(tenant.nobody), half, 401, "Unauthorized")


def test_policies_are_asked_again_at_the_end(uploads: Uploads, tenant: Tenant, body: bytes, clock: Clock) -> None:
    policy, ada = allow(tenant), Uploads(tenant.user(sub="ada"))
    upload_id = ada.send(body)
    tenant.service("DELETE", f"/storage/policies/{policy}")
    clock.advance(61)
    refused(ada.complete(upload_id), 403, "Forbidden")
    assert ada.offset(upload_id) == len(body)
    assert uploads.client.names("b") == []
    allow(tenant)
    clock.advance(61)
    assert ada.complete(upload_id).status == 200
    assert holds(uploads.client, body)


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "and made anew"])
def test_the_upload_of_a_deleted_bucket_ends_nowhere(uploads: Uploads, body: bytes, again: bool) -> None:
    upload_id = uploads.send(body)
    uploads.client("DELETE", "/storage/buckets/b")
    if again:
        uploads.client.bucket("b")
    refused(uploads.complete(upload_id), 404, "BucketNotFound")
    if again:
        assert uploads.client.names("b") == []


# ---- several at once, and failures ---------------------------------------------------------------------
@pytest.fixture
def functions(tenant: Tenant, uploads: Uploads) -> list[Uploads]:
    """Several clients, each served by a function of its own."""
    made = []
    for _ in range(4):
        app = StowageApp("stowage")
        dispatch.mount(app, SURFACES, otherwise=PLATFORM)
        made.append(Uploads(Client(app, tenant.service_key)))
    return made


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_of_several_at_the_same_offset_exactly_one_wins(functions: list[Uploads], uploads: Uploads, size: int) -> None:
    upload_id = uploads.begin(size=3 * size)
    start, body = threading.Barrier(len(functions)), b""

    def append(client: Uploads, offset: int, chunk: bytes) -> Answer:
        start.wait()
        return client.append(upload_id, offset, chunk)

    with ThreadPoolExecutor(len(functions)) as pool:
        for offset in range(0, 3 * size, size):
            chunks = [bytes([65 + number]) * size for number in range(len(functions))]
            answers = list(pool.map(append, functions, [offset] * len(functions), chunks))
            won = [chunk for answer, chunk in zip(answers, chunks, strict=True) if answer.status == 200]
            assert len(won) == 1
            assert {answer.status for answer in answers} <= {200, 409, 423}
            body += won[0]
    assert uploads.complete(upload_id, {"checksum": sha256(body)}).status == 200
    assert holds(uploads.client, body)


def test_of_several_completions_at_once_one_object_comes(functions: list[Uploads], uploads: Uploads, body: bytes) -> None:
    upload_id = uploads.send(body)
    with ThreadPoolExecutor(len(functions)) as pool:
        answers = list(pool.map(lambda client: client.complete(upload_id), functions))
    assert [answer.status for answer in answers] == [200] * len(functions)
    assert {answer.json()["version"] for answer in answers} == {info(uploads.client)["version"]}
    assert holds(uploads.client, body)


def test_while_one_writes_others_are_told_to_wait(uploads: Uploads, half: str, tenant: Tenant) -> None:
    writer = sessions.claim(Principal(Role.SERVICE, tenant.tenant_id), half, 3, 3)
    for answer in (uploads.append(half, 3, b"def"), uploads.abandon(half)):
        refused(answer, 423, "UploadLocked")
        assert 1 <= int(answer.headers["retry-after"]) <= sessions.LEASE
    refused(uploads.complete(half), 409, "UploadIncomplete")
    sessions.release(writer, touched=True)
    assert uploads.append(half, 3, b"def").status == 200


@pytest.mark.parametrize(("method", "before"), [("put", 0), ("read", 1), ("create_multipart", 1), ("upload_part", 1)])
def test_what_the_storage_could_not_take_is_taken_the_second_time(
    storage: Uploads, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, method: str, before: int
) -> None:
    """Chunks of which two make a part: the first is put aside, the second completes it."""
    size = storage_of(tenant).min_part_bytes * 4 // 5
    chunks = [bytes([65 + number]) * size for number in range(3)]
    upload_id = storage.begin(size=3 * size)
    for number, chunk in enumerate(chunks):
        if number == before:
            failing_once(monkeypatch, tenant, method)
            answer = storage.append(upload_id, number * size, chunk)
            refused(answer, 503, "StorageUnavailable")
            assert int(answer.headers["retry-after"]) >= 1
            assert storage.offset(upload_id) == number * size
        assert storage.append(upload_id, number * size, chunk).json()["bytes_uploaded"] == (number + 1) * size
    assert storage.complete(upload_id, {"checksum": sha256(b"".join(chunks))}).status == 200
    assert holds(storage.client, b"".join(chunks))


def test_a_completion_that_the_storage_failed_is_made_the_second_time(
    uploads: Uploads, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    upload_id = uploads.send(body)
    failing_once(monkeypatch, tenant, "put" if body is SMALL else "complete_multipart")
    refused(uploads.complete(upload_id), 503, "StorageUnavailable")
    assert uploads.client.names("b") == []
    assert uploads.complete(upload_id).status == 200
    assert holds(uploads.client, body)


# ---- what it costs -------------------------------------------------------------------------------------
def test_a_chunk_costs_two_writes_of_the_table_and_no_read(uploads: Uploads, calls: list[Call]) -> None:
    upload_id = uploads.begin(size=16 * MIB)
    for number, in_storage in enumerate((["PutObject"], ["GetObject", "CreateMultipartUpload", "UploadPart"])):
        calls.clear()
        assert uploads.append(upload_id, number * 4 * MIB, bytes(4 * MIB)).status == 200
        assert [call.operation for call in calls if call.service == "dynamodb"] == ["UpdateItem", "UpdateItem"]
        assert [call.operation for call in calls if call.service == "s3"] == in_storage
