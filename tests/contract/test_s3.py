"""What only S3 can get wrong: signatures, endpoints that do not answer, credentials."""

import base64
import hashlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from chalicelib import aws
from chalicelib.errors import StorageUnavailable
from chalicelib.providers import ListedPart, Part
from chalicelib.providers.s3 import S3

BODY = b"hello, world"
LAMBDA_SECONDS = 28


def call(method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
    """The status of one request that carries these headers and nothing that the library would add."""
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.netloc, timeout=10)
    connection.request(method, f"{split.path}?{split.query}", body, headers or {})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


# ---- presigned PUT, on the server that verifies it -----------------------------------------------------------------
@pytest.fixture
def signed() -> dict[str, str]:
    return {
        "Content-Length": str(len(BODY)),
        "Content-Type": "text/plain",
        "Content-MD5": base64.b64encode(hashlib.md5(BODY).digest()).decode(),
        "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(BODY).digest()).decode(),
        "If-None-Match": "*",
    }


def test_a_presigned_put_stores_the_body(verifying: Any, key: str, signed: dict[str, str]) -> None:
    url = verifying.presign_put(key, 60, signed).url
    assert call("PUT", url, BODY, signed) == 200
    assert verifying.read(key, 0, len(BODY)) == BODY


def test_a_second_put_on_the_same_url_is_refused(verifying: Any, key: str, signed: dict[str, str]) -> None:
    url = verifying.presign_put(key, 60, signed).url
    assert call("PUT", url, BODY, signed) == 200
    assert call("PUT", url, BODY, signed) == 412


@pytest.mark.parametrize("name", ["Content-Type", "Content-MD5", "x-amz-checksum-sha256", "If-None-Match"])
def test_a_put_without_a_signed_header_is_refused(verifying: Any, key: str, signed: dict[str, str], name: str) -> None:
    url = verifying.presign_put(key, 60, signed).url
    sent = {header: value for header, value in signed.items() if header != name}
    assert call("PUT", url, BODY, sent) == 403
    assert verifying.stat(key) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "text/html"),
        ("Content-MD5", base64.b64encode(bytes(16)).decode()),
        ("x-amz-checksum-sha256", base64.b64encode(bytes(32)).decode()),
        ("If-None-Match", '"other"'),
    ],
)
def test_a_put_with_a_changed_header_is_refused(verifying: Any, key: str, signed: dict[str, str], name: str, value: str) -> None:
    url = verifying.presign_put(key, 60, signed).url
    assert call("PUT", url, BODY, signed | {name: value}) == 403
    assert verifying.stat(key) is None


def test_a_url_that_was_edited_to_sign_other_headers_is_refused(verifying: Any, key: str, signed: dict[str, str]) -> None:
    url = verifying.presign_put(key, 60, signed).url
    fewer, more = url.replace("%3Bif-none-match", ""), url.replace("%3Bhost", "%3Bhost%3Bx-amz-meta-colour")
    assert url not in (fewer, more)
    assert call("PUT", fewer, BODY, {name: value for name, value in signed.items() if name != "If-None-Match"}) == 403
    assert call("PUT", more, BODY, signed | {"x-amz-meta-colour": "red"}) == 403
    assert verifying.stat(key) is None


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"!", b""])
def test_a_put_of_another_size_is_refused(verifying: Any, key: str, signed: dict[str, str], body: bytes) -> None:
    only_size = {"Content-Length": signed["Content-Length"]}
    url = verifying.presign_put(key, 60, only_size).url
    assert call("PUT", url, body, {"Content-Length": str(len(body))}) == 403
    assert verifying.stat(key) is None


@pytest.mark.parametrize("integrity", ["Content-MD5", "x-amz-checksum-sha256"])
def test_a_put_of_other_bytes_is_refused(verifying: Any, key: str, signed: dict[str, str], integrity: str) -> None:
    headers = {name: signed[name] for name in ("Content-Length", integrity)}
    url = verifying.presign_put(key, 60, headers).url
    assert call("PUT", url, BODY[::-1], headers) == 400
    assert verifying.stat(key) is None


# ---- presigned parts -----------------------------------------------------------------------------------------------
@pytest.fixture
def upload(verifying: Any, key: str) -> str:
    """A multipart upload to `key`."""
    return str(verifying.create_multipart(key, "text/plain"))


def listed(verifying: Any, key: str, upload: str) -> list[tuple[int, int]]:
    return [(part.number, part.size) for part in verifying.list_parts(key, upload)]


@pytest.mark.parametrize("body", [BODY, b"x", b""])
def test_a_presigned_part_is_stored(verifying: Any, key: str, upload: str, body: bytes) -> None:
    url = verifying.presign_part(key, upload, 2, len(body), 60)
    assert call("PUT", url, body, {"Content-Length": str(len(body))}) == 200
    [part] = verifying.list_parts(key, upload)
    assert (part.number, part.size, part.etag.strip('"')) == (2, len(body), hashlib.md5(body).hexdigest())
    verifying.complete_multipart(key, upload, [part])
    assert verifying.read(key, 0, len(body)) == body


def test_a_part_may_be_put_again(verifying: Any, key: str, upload: str) -> None:
    """So that a client whose answer was lost goes on; the ETag tells which bytes are there."""
    url = verifying.presign_part(key, upload, 1, len(BODY), 60)
    for body in (BODY, BODY[::-1]):
        assert call("PUT", url, body, {"Content-Length": str(len(body))}) == 200
    verifying.complete_multipart(key, upload, verifying.list_parts(key, upload))
    assert verifying.read(key, 0, len(BODY)) == BODY[::-1]


@pytest.mark.parametrize("body", [b"", BODY[:-1], BODY + b"!", BODY * 1000], ids=["none", "shorter", "longer", "much longer"])
def test_a_part_of_another_length_is_refused(verifying: Any, key: str, upload: str, body: bytes) -> None:
    url = verifying.presign_part(key, upload, 1, len(BODY), 60)
    assert call("PUT", url, body, {"Content-Length": str(len(body))}) == 403
    assert listed(verifying, key, upload) == []


@pytest.mark.parametrize(
    ("old", "new"), [("partNumber=1&", "partNumber=2&"), ("X-Amz-Expires=60", "X-Amz-Expires=600"), ("content-length%3Bhost", "host")]
)
def test_a_url_of_a_part_that_was_edited_is_refused(verifying: Any, key: str, upload: str, old: str, new: str) -> None:
    url = verifying.presign_part(key, upload, 1, len(BODY), 60)
    assert old in url
    assert call("PUT", url.replace(old, new), BODY, {"Content-Length": str(len(BODY))}) == 403
    assert listed(verifying, key, upload) == []


def test_a_url_of_a_part_opens_no_other_upload_and_no_other_key(verifying: Any, key: str, upload: str) -> None:
    other, of_other_key = verifying.create_multipart(key, "text/plain"), verifying.create_multipart(key + "b", "text/plain")
    url = verifying.presign_part(key, upload, 1, len(BODY), 60)
    assert upload in url
    length = {"Content-Length": str(len(BODY))}
    assert call("PUT", url.replace(upload, other), BODY, length) == 403
    assert call("PUT", url.replace(key, key + "b").replace(upload, of_other_key), BODY, length) == 403
    for each, of in ((upload, key), (other, key), (of_other_key, key + "b")):
        assert listed(verifying, of, each) == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_a_url_of_a_part_neither_lists_nor_ends_the_upload(verifying: Any, key: str, upload: str, method: str) -> None:
    verifying.upload_part(key, upload, 1, BODY)
    url = verifying.presign_part(key, upload, 1, len(BODY), 60)
    assert call(method, url, BODY, {"Content-Length": str(len(BODY))}) == 403
    assert listed(verifying, key, upload) == [(1, len(BODY))]
    assert verifying.stat(key) is None


def test_a_part_that_comes_when_its_upload_is_over_is_refused(verifying: Any, key: str, upload: str) -> None:
    url, length = verifying.presign_part(key, upload, 1, len(BODY), 60), {"Content-Length": str(len(BODY))}
    verifying.complete_multipart(key, upload, [verifying.upload_part(key, upload, 1, BODY)])
    assert call("PUT", url, BODY[::-1], length) == 404
    assert verifying.read(key, 0, len(BODY)) == BODY


@pytest.mark.parametrize("name", ["a b+c", "ünï/🙂", "x%2Fy", "p//q"])
def test_a_presigned_part_reaches_its_very_key(verifying: Any, folder: str, name: str) -> None:
    upload = verifying.create_multipart(folder + name, "text/plain")
    url = verifying.presign_part(folder + name, upload, 1, len(BODY), 60)
    assert call("PUT", url, BODY, {"Content-Length": str(len(BODY))}) == 200
    verifying.complete_multipart(folder + name, upload, verifying.list_parts(folder + name, upload))
    assert [entry.key for entry in verifying.list(folder)] == [folder + name]


# ---- more than a page ----------------------------------------------------------------------------------------------
def test_listing_goes_past_a_thousand_parts(quickly_verifying: Any, key: str) -> None:
    upload = quickly_verifying.create_multipart(key, "text/plain")
    made = [quickly_verifying.upload_part(key, upload, number, b"%d" % number) for number in range(1, 1006)]
    found = list(quickly_verifying.list_parts(key, upload))
    assert found == [ListedPart(part.number, part.etag, len(str(part.number))) for part in made]


def test_aborting_goes_past_a_thousand_uploads(quickly_verifying: Any, key: str) -> None:
    for _ in range(1005):
        quickly_verifying.create_multipart(key, "text/plain")
    kept = quickly_verifying.create_multipart(key + "b", "text/plain")
    assert quickly_verifying.abort_all(key) == 1005
    assert quickly_verifying.abort_all(key) == 0
    assert listed(quickly_verifying, key + "b", kept) == []


# ---- other presigned URLs ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_a_put_url_opens_nothing_else(verifying: Any, key: str, signed: dict[str, str], method: str) -> None:
    verifying.put(key, BODY, "text/plain")
    assert call(method, verifying.presign_put(key, 60, signed).url) == 403
    assert verifying.read(key, 0, len(BODY)) == BODY


def test_a_url_opens_no_other_key(verifying: Any, key: str) -> None:
    verifying.put(key + "b", BODY, "text/plain")
    url = verifying.presign_get(key, 60, "text/plain", "")
    assert call("GET", url.replace(key, key + "b")) == 403


def test_a_get_url_does_not_give_another_type(verifying: Any, key: str) -> None:
    verifying.put(key, BODY, "text/plain")
    url = verifying.presign_get(key, 60, "text/plain", "attachment")
    assert call("GET", url) == 200
    assert call("GET", url.replace("text%2Fplain", "text%2Fhtml")) == 403
    assert call("GET", url.replace("=attachment", "=inline")) == 403


def test_urls_expire(verifying: Any, key: str, signed: dict[str, str]) -> None:
    verifying.put(key + "b", BODY, "text/plain")
    put, get = verifying.presign_put(key, 1, signed).url, verifying.presign_get(key + "b", 1, "text/plain", "")
    upload = verifying.create_multipart(key, "text/plain")
    part = verifying.presign_part(key, upload, 1, len(BODY), 1)
    time.sleep(2.1)
    assert call("PUT", put, BODY, signed) == 403
    assert call("PUT", part, BODY, {"Content-Length": str(len(BODY))}) == 403
    assert call("GET", get) == 403
    assert verifying.stat(key) is None


@pytest.mark.parametrize("name", ["a b+c", "ünï/🙂", "x%2Fy", "p//q"])
def test_a_presigned_put_reaches_its_very_key(verifying: Any, folder: str, name: str, signed: dict[str, str]) -> None:
    url = verifying.presign_put(folder + name, 60, signed).url
    assert call("PUT", url, BODY, signed) == 200
    assert [listed.key for listed in verifying.list(folder)] == [folder + name]


def test_urls_are_signed_with_sigv4(s3: S3, key: str) -> None:
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in s3.presign_get(key, 60, "text/plain", "")
    assert "X-Amz-Expires=61" in s3.presign_put(key, 61, {"Content-Length": "1"}).url


def test_no_checksum_is_signed_that_was_not_asked_for(s3: S3, key: str) -> None:
    url = s3.presign_put(key, 60, {"Content-Length": "1"}).url.lower()
    assert "checksum" not in url
    assert "x-amz-signedheaders=content-length%3bhost" in url


# ---- endpoints that do not answer ----------------------------------------------------------------------------------
CALLS: dict[str, Callable[[S3], object]] = {
    "put": lambda s3: s3.put("a", b"", "text/plain"),
    "read": lambda s3: s3.read("a", 0, 1),
    "stat": lambda s3: s3.stat("a"),
    "delete": lambda s3: s3.delete(["a"]),
    "list": lambda s3: list(s3.list("")),
    "copy": lambda s3: s3.copy("a", "b"),
    "create_multipart": lambda s3: s3.create_multipart("a", "text/plain"),
    "upload_part": lambda s3: s3.upload_part("a", "id", 1, b""),
    "copy_part": lambda s3: s3.copy_part("a", "id", 1, "b", 0, 1),
    "list_parts": lambda s3: s3.list_parts("a", "id"),
    "complete_multipart": lambda s3: s3.complete_multipart("a", "id", [Part(1, "etag")]),
    "abort_multipart": lambda s3: s3.abort_multipart("a", "id"),
    "abort_all": lambda s3: s3.abort_all("a"),
    "inspect": lambda s3: s3.inspect("a", 512),
    "describe": lambda s3: s3.describe("a"),
}


def s3_at(port: int, bucket: str = "conformance") -> S3:
    return S3(bucket, region="us-east-1", endpoint=f"http://127.0.0.1:{port}", access_key="a", secret_key="b")


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("name", CALLS)
def test_a_storage_that_cannot_be_reached_is_unavailable(closed_port: int, name: str) -> None:
    with pytest.raises(StorageUnavailable):
        CALLS[name](s3_at(closed_port))


def test_a_closed_port_is_told_within_the_time_of_a_function(closed_port: int) -> None:
    started = time.monotonic()
    with pytest.raises(StorageUnavailable):
        s3_at(closed_port).stat("a")
    assert time.monotonic() - started < LAMBDA_SECONDS


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"stat", "describe"}))  # HEAD has no body: 404 for bucket and key alike
def test_a_bucket_that_is_not_there_is_no_missing_object(moto_endpoint: str, name: str) -> None:
    """A misnamed bucket must not make every row look as if it had lost its bytes (invariant 4)."""
    port = urlsplit(moto_endpoint).port
    assert port
    with pytest.raises(StorageUnavailable):
        CALLS[name](s3_at(port, "no-such-bucket"))


@pytest.fixture
def silent() -> Iterator[tuple[int, list[socket.socket]]]:
    """A port that takes connections and never says a word; what it took."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1], taken
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in taken:
        connection.close()


@pytest.mark.usefixtures("no_backoff")
def test_a_storage_that_never_answers_leaves_time_for_an_answer(
    silent: tuple[int, list[socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = aws.READ_TIMEOUT
    monkeypatch.setattr(aws, "READ_TIMEOUT", 0.2)  # how often it is tried is counted, how long each try takes is known
    port, taken = silent
    with pytest.raises(StorageUnavailable):
        s3_at(port).stat("a")
    assert len(taken) * configured < LAMBDA_SECONDS


# ---- credentials ---------------------------------------------------------------------------------------------------
def test_nobody_without_credentials_reads_an_object(s3_on_moto: S3, moto_endpoint: str, key: str) -> None:
    s3_on_moto.put(key, BODY, "text/plain")
    assert call("GET", f"{moto_endpoint}/{s3_on_moto.bucket}/{key}?") == 403
    assert call("HEAD", f"{moto_endpoint}/{s3_on_moto.bucket}/{key}?") == 403


def test_secrets_are_in_no_representation(s3_on_ministack: S3) -> None:
    other = S3("b", endpoint="http://127.0.0.1:1", access_key="an-access-key", secret_key="a-secret-key")
    assert "secret-key" not in repr(other) + str(other)


def test_errors_tell_nothing_of_the_storage(closed_port: int) -> None:
    with pytest.raises(StorageUnavailable) as refused:
        s3_at(closed_port).stat("some/physical/key")
    for secret in ("127.0.0.1", str(closed_port), "conformance", "physical"):
        assert secret not in refused.value.message
