"""The drive of an installation whose internal storage is a folder, or Azure Blob (on Azurite): what clients see is the same as on S3."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib import providers
from chalicelib.settings import settings
from chalicelib.tables.buckets import FILES
from infra import stack
from tests.api.tus_client import MIB, noise
from tests.client import Client
from tests.conftest import Tenant
from tests.files.conftest import Choose, delete, file_of, folder, get, keys, listed, put, refused, row_of, stored
from tests.files.test_import import at, imported
from tests.files.test_uploads import Uploads, bytes_of
from tests.images import pictures
from tests.issuer import Web
from tests.servers.azurite import Azurite
from tests.storages.conftest import account

__all__ = ["account"]  # a fixture

KEY, DIGITS = "docs/a b+ü.txt", b"0123456789"
LARGE = noise(9 * MIB + 7)


@pytest.fixture
def on_azure(embedded: stack.EmbeddedAWS, account: Azurite, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The internal storage is a container."""
    monkeypatch.setenv("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "true")
    monkeypatch.setenv("STOWAGE_STORAGE_PROVIDER", "azure")
    monkeypatch.setenv("STOWAGE_AZURE_CONNECTION_STRING", account.connection_string)
    settings.cache_clear()
    providers.internal.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()
    providers.internal.cache_clear()


@pytest.fixture(autouse=True, params=["filesystem", "azure"])
def storage(request: pytest.FixtureRequest) -> str:
    """What the internal storage is."""
    request.getfixturevalue(f"on_{request.param}")
    return str(request.param)


@pytest.fixture
def digits(ada: Client) -> Client:
    """Ada's client, with her file KEY of ten bytes."""
    stored(ada, KEY, DIGITS)
    return ada


def held(tenant: Tenant) -> set[str]:
    """The keys of all that the storage holds of the tenant's files."""
    return {each.key for each in providers.internal().list(f"objects/tenants/{tenant.tenant_id}/")}


def physical_key(tenant: Tenant, key: str) -> str:
    row = row_of(tenant, key)
    assert row is not None
    return str(row.physical_key)


# ---- storing and giving --------------------------------------------------------------------------------
@pytest.mark.parametrize("body", [b"", b"\0", bytes(range(256)) * 40], ids=["empty", "zero", "all"])
def test_any_bytes_come_back_as_they_were(ada: Client, body: bytes) -> None:
    """F8.12"""
    answer = put(ada, KEY, body)
    assert (answer.status, answer.json()["data"]) == (201, file_of(ada, KEY))
    file = file_of(ada, KEY)
    assert (file["size"], file["checksum"], file["contentType"]) == (len(body), hashlib.sha256(body).hexdigest(), "text/plain")
    assert get(ada, KEY).body == body


def test_keys_of_which_one_is_the_others_folder_or_differs_by_case_are_files_apart(tenant: Tenant, ada: Client) -> None:
    """F8.18"""
    names = ["a", "A", "a/", "a/b", "a/b/c", "a~b", "ü/日本 🎈"]
    for name in names:
        stored(ada, name, name.encode())
    assert [get(ada, name).body for name in names] == [name.encode() for name in names]
    assert len(held(tenant)) == len(names)


@pytest.mark.parametrize(("header", "first", "last"), [("bytes=2-5", 2, 5), ("bytes=5-", 5, 9), ("bytes=-3", 7, 9), ("bytes=8-99", 8, 9)])
def test_a_range_gives_that_part(digits: Client, header: str, first: int, last: int) -> None:
    """F8.23"""
    answer = get(digits, KEY, range=header)
    assert (answer.status, answer.body, answer.headers["content-range"]) == (206, DIGITS[first : last + 1], f"bytes {first}-{last}/10")


def test_a_range_beyond_the_end_is_told_the_size(digits: Client) -> None:
    """F8.23"""
    answer = get(digits, KEY, range="bytes=10-")
    refused(answer, 416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == "bytes */10"


def test_head_tells_everything_but_the_bytes(digits: Client) -> None:
    """F8.23"""
    whole, head = get(digits, KEY), get(digits, KEY, method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "10")
    for name in ("content-type", "etag", "last-modified", "accept-ranges", "cache-control", "x-object-size"):
        assert head.headers[name] == whole.headers[name]
    assert get(digits, KEY, if_none_match=head.headers["etag"]).status == 304


def test_a_file_beyond_what_an_answer_carries_is_given_whole(ada: Client, choose: Choose, storage: str) -> None:
    """F8.35: a folder hands out no URLs, so its bytes are streamed."""
    body = LARGE[: 3 * MIB]  # three pieces of the stream
    stored(ada, KEY, body)
    choose("STOWAGE_MAX_BODY", "1000")
    assert get(ada, KEY).status == (200 if storage == "filesystem" else 302)
    assert bytes_of(ada, KEY) == body
    assert get(ada, KEY, range="bytes=100-1099").body == body[100:1100]
    if storage == "filesystem":
        part = get(ada, KEY, range="bytes=100-2999999")
        assert (part.status, part.body) == (206, body[100:3_000_000])


# ---- other ways to store -------------------------------------------------------------------------------
@pytest.mark.parametrize("body", [b"", DIGITS, LARGE], ids=["empty", "small", "large"])
def test_a_file_comes_in_chunks(ada: Client, body: bytes) -> None:
    """F12.3"""
    upload_id = Uploads(ada).upload(body, 4 * MIB, KEY)
    file = file_of(ada, KEY)
    assert (file["size"], file["checksum"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert bytes_of(ada, KEY) == body
    assert Uploads(ada).shown(upload_id)["status"] == "completed"


def test_an_upload_goes_on_where_it_was_and_is_given_up(ada: Client) -> None:
    """F12.8"""
    uploads = Uploads(ada)
    upload_id, unwanted = uploads.begin(len(LARGE), LARGE[: 4 * MIB], KEY), uploads.begin(len(LARGE), LARGE[: 4 * MIB], "other")
    assert uploads.delete(unwanted).status == 204
    assert uploads.offset(upload_id) == 4 * MIB
    uploads.send(upload_id, LARGE, 4 * MIB, 4 * MIB)
    assert bytes_of(ada, KEY) == LARGE
    assert keys(ada) == [KEY]


@pytest.mark.parametrize("body", [b"", DIGITS, LARGE], ids=["empty", "small", "large"])
def test_a_file_is_imported_from_a_url(ada: Client, web: Web, body: bytes) -> None:
    """F8.21"""
    web.body, web.headers = body, {"Content-Type": "text/csv"}
    file = imported(ada, at(web, "/a.bin"), key=KEY)
    assert (file["size"], file["checksum"], file["contentType"]) == (len(body), hashlib.sha256(body).hexdigest(), "text/csv")
    assert bytes_of(ada, KEY) == body


def test_a_direct_upload_goes_where_urls_can_be_handed_out_and_is_told_of_tus_elsewhere(tenant: Tenant, ada: Client, storage: str) -> None:
    """CONTRACT "Storage surface": a storage that cannot presign."""
    answer = ada("POST", "/storage/upload/direct", {"bucket": FILES, "path": KEY, "size": 10})
    assert answer.status == (409 if storage == "filesystem" else 201)
    if storage == "filesystem":
        assert (answer.code, "/storage/v1/upload/tus" in answer.json()["message"]) == ("CannotPresign", True)
    assert (keys(ada), held(tenant)) == ([], set())


# ---- transforms and tokens -----------------------------------------------------------------------------
def test_a_picture_is_transformed_and_anew_when_its_file_is_another(ada: Client, new_image_function: Any) -> None:
    """F11.6"""
    new_image_function(concurrency=1, patience=30)
    for size in ((80, 40), (40, 40)):
        stored(ada, "a.png", pictures.saved(pictures.photograph(*size), "PNG"), content_type="image/png")
        answers = [get(ada, "a.png", "?width=20&format=webp") for _ in ("made", "kept")]
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[0].body == answers[1].body
        image = pictures.opened(answers[0].body)
        assert (image.size, image.format) == ((20, 20 * size[1] // size[0]), "WEBP")


def test_a_signed_url_opens_its_file_without_a_credential_until_that_is_deleted(tenant: Tenant, digits: Client) -> None:
    """F10.5, F10.7"""
    path = digits("POST", f"/api/storage/_sign/{KEY.replace(' ', '%20')}").json()["path"]
    assert tenant.nobody("GET", path).body == DIGITS
    assert tenant.nobody("GET", path, headers={"range": "bytes=2-5"}).body == DIGITS[2:6]
    stored(digits, KEY, b"over")
    assert tenant.nobody("GET", path).body == b"over"
    delete(digits, KEY)
    refused(tenant.nobody("GET", path), 401, "UNAUTHORIZED")


# ---- what becomes of files -----------------------------------------------------------------------------
def test_an_overwrite_is_another_version_of_the_same_file(tenant: Tenant, ada: Client) -> None:
    """F8.12: and leaves the bytes of before to those who are reading them."""
    label = folder(ada, "label")
    before = stored(ada, KEY, DIGITS, f"?acl=public&folderId={label}")
    etag, old = get(ada, KEY).headers["etag"], physical_key(tenant, KEY)
    answer = put(ada, KEY, b"over")
    after = answer.json()["data"]
    kept = ("id", "key", "ownerId", "acl", "folderId", "uploadedAt")
    assert (answer.status, {name: after[name] for name in kept}) == (200, {name: before[name] for name in kept})
    assert after["version"] > before["version"]
    assert (get(ada, KEY, if_none_match=etag).status, get(ada, KEY).body) == (200, b"over")
    assert held(tenant) == {old, physical_key(tenant, KEY)}


def test_a_moved_file_is_given_from_where_its_bytes_lie(tenant: Tenant, digits: Client) -> None:
    """F8.24"""
    before = held(tenant)
    assert digits("POST", "/storage/object/move", {"bucket": FILES, "from": KEY, "to": "moved"}).status == 200
    assert get(digits, "moved").body == DIGITS
    assert get(digits, KEY).status == 404
    assert held(tenant) == before == {physical_key(tenant, "moved")}


def test_a_deleted_file_is_gone_and_another_may_come_in_its_place(digits: Client) -> None:
    """F8.15"""
    before = file_of(digits, KEY)
    answer = delete(digits, KEY)
    assert (answer.status, answer.json()) == (200, {"ok": True})
    refused(get(digits, KEY), 404, "NOT_FOUND")
    refused(delete(digits, KEY), 404, "NOT_FOUND")
    assert listed(digits)["data"] == []
    assert put(digits, KEY, b"another").status == 201
    assert file_of(digits, KEY)["id"] != before["id"]
    assert get(digits, KEY).body == b"another"


def test_bytes_that_are_not_where_they_should_be_are_told_apart_from_no_file(tenant: Tenant, digits: Client) -> None:
    """F15.1"""
    providers.internal().delete([physical_key(tenant, KEY)])
    assert get(digits, KEY).status == 503
    assert keys(digits) == [KEY]
