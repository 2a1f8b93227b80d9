"""Files from elsewhere: POST /api/storage/from-url (FEATURES F8.21)."""

import hashlib
import itertools
import random
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import aws, outbound, providers
from chalicelib.access import cache
from chalicelib.core import importing, jobs, parts, uploads
from chalicelib.errors import StorageUnavailable
from chalicelib.providers.s3 import S3
from chalicelib.settings import settings
from chalicelib.tables.buckets import FILES
from chalicelib.tables.jobs import Job
from infra import stack
from tests.client import Answer, Client, together
from tests.conftest import Clock, Tenant, read_environment_again, run_job
from tests.files.conftest import FILE, ROOT, Choose, Killed, examples, folder, get, keys, listed, refused, row_of, run_pending, stored
from tests.issuer import Handler, Web
from tests.servers import hostile
from tests.unit.test_outbound import LOOPBACK_NOTATIONS, NOT_PUBLIC, certificate

MIB = 1 << 20
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
# Seconds for which a server may be silent, where a test is about one that is.
SHORT = 0.1


# ---- asking, and what answers ----------------------------------------------------------------------------------
def fetched(client: Client, url: str, **fields: Any) -> Answer:
    return client("POST", "/api/storage/from-url", {"url": url, **fields})


def imported(client: Client, url: str, **fields: Any) -> dict[str, Any]:
    """The file that an import has stored."""
    answer = fetched(client, url, **fields)
    assert answer.status == 201, answer.body
    data: dict[str, Any] = answer.json()["data"]
    return data


def at(web: Web, path: str) -> str:
    return f"http://127.0.0.1:{web.port}{path}"


def sending(raw: bytes) -> Handler:
    """Answers these very bytes and closes."""

    def handle(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(raw)

    return handle


def head(*lines: str, status: int = 200) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode("latin-1")


def chunked(body: bytes, size: int = 100) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


CHUNKED = "Transfer-Encoding: chunked"


def redirecting(*hops: tuple[int, str], body: bytes = b"there") -> Handler:
    """Answers one request after the other with a status and a Location, then with `body`."""
    left = list(hops)

    def handle(request: BaseHTTPRequestHandler) -> None:
        if left:
            status, location = left.pop(0)
            request.wfile.write(head(f"Location: {location}", "Content-Length: 4", status=status) + b"gone")
        else:
            request.wfile.write(head(f"Content-Length: {len(body)}", "Content-Type: text/plain") + body)

    return handle


def nothing_is_left(tenant: Tenant, *others: str) -> bool:
    """Whether there is no file but the `others`, no bytes of any, no upload that goes on, and nothing that one has begun."""
    assert sorted(keys(tenant.service)) == sorted(others)
    begun = tenant.service("GET", "/api/uploads").json()["uploads"]
    assert {each["status"] for each in begun} <= {"aborted"}, begun
    below = f"objects/tenants/{tenant.tenant_id}/"
    assert len(list(providers.internal().list(below))) == len(others)
    multiparts = aws.client("s3").list_multipart_uploads(Bucket=settings().s3_bucket, Prefix=below)
    assert multiparts.get("Uploads", []) == []
    return True


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Files of a hundred bytes come in several pieces, and each of them makes a part."""
    monkeypatch.setattr(importing, "PIECE", 32)
    monkeypatch.setattr(S3, "min_part_bytes", 24)
    monkeypatch.setattr(parts, "MAX_CHUNKED", 10_000)  # the larger an upload may become, the larger its parts
    return 32


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "READ_TIMEOUT", SHORT)
    monkeypatch.setattr(outbound, "CONNECT_TIMEOUT", SHORT)


def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses that are connected to from now on."""
    made: list[Any] = []
    real = outbound._connected

    def noting(connecting: socket.socket, address: Any, *more: Any) -> socket.socket:
        made.append(address[:2])
        return real(connecting, address, *more)

    monkeypatch.setattr(outbound, "_connected", noting)
    return made


# ---- what is stored --------------------------------------------------------------------------------------------
def test_what_a_url_answers_becomes_a_file_of_the_callers(ada: Client, web: Web, tenant: Tenant) -> None:
    """F8.21."""
    web.body, web.headers = PNG, {"Content-Type": "image/png"}
    data = imported(ada, at(web, "/pictures/one.png?size=full#top"))
    assert data.keys() == FILE | {"sourceUrl"}
    assert data["sourceUrl"] == at(web, "/pictures/one.png?size=full#top")
    assert (data["key"], data["size"], data["contentType"]) == ("one.png", len(PNG), "image/png")
    assert data["checksum"] == hashlib.sha256(PNG).hexdigest()
    assert (data["acl"], data["folderId"], data["metadata"]) == ("private", None, None)
    assert data["ownerId"] == stored(ada, "mine")["ownerId"]
    assert get(ada, "one.png").body == PNG
    assert web.asked == ["/pictures/one.png?size=full"]
    del data["sourceUrl"]  # it is told once, and not kept
    assert data in listed(ada)["data"]


def test_a_file_of_the_service_keys_has_no_owner(service: Client, web: Web) -> None:
    assert imported(service, at(web, "/a"))["ownerId"] is None


@pytest.mark.parametrize("body", [b"", b"\0", bytes(range(256)) * 40])
def test_any_bytes_are_stored_as_they_are(ada: Client, web: Web, body: bytes) -> None:
    web.body = body
    data = imported(ada, at(web, "/a"))
    assert (data["size"], data["checksum"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert get(ada, "a").body == body


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/photo.png", "photo.png"),
        ("/a/b/photo.png", "photo.png"),
        ("/photo%20one.png", "photo one.png"),
        ("/na%C3%AFve.txt", "naïve.txt"),
        ("/a+b.txt", "a+b.txt"),
        ("/once%2541.txt", "once%41.txt"),
        ("/folder/", "folder"),
        ("/a.png?b=/c.png", "a.png"),
        ("/a.png#/c.png", "a.png"),
    ],
)
def test_a_file_without_a_key_has_the_last_name_of_the_url(ada: Client, web: Web, path: str, key: str) -> None:
    assert imported(ada, at(web, path))["key"] == key
    assert get(ada, key).status == 200


@pytest.mark.parametrize("path", ["", "/", "//", "?name=a.png", "/#a.png"])
def test_a_url_that_names_nothing_needs_a_key(ada: Client, web: Web, path: str) -> None:
    refused(fetched(ada, at(web, path)), 422, "VALIDATION")
    assert web.asked == []
    assert imported(ada, at(web, path), key="a.png")["key"] == "a.png"


@pytest.mark.parametrize(
    "name",
    [
        "from-url", "folder-counts", "_sign", "..%2Fa", "a%2F..", "%2E%2E", "%00", "a%5Cb", "a%0Ab", "a.", "a%20", "a.uploading",
        "tenants%2Fa", "_sign%2Fa", "%FF.png", "%zz", "%", "x" * 201, f"a~{'0' * 26}",
    ],
)  # fmt: skip
def test_a_name_of_a_url_that_no_file_may_have_is_refused_before_anything_is_asked(ada: Client, web: Web, name: str) -> None:
    refused(fetched(ada, at(web, f"/files/{name}")), 422, "VALIDATION")
    assert web.asked == []
    assert keys(ada) == []


@pytest.mark.parametrize(
    "key", ["from-url", "folder-counts", "_sign", "_sign/a", "tenants/a", "tenants/", "/a", "a/../b", "a?", "a#b", "a\\b", "a.", "é" * 351]
)
def test_a_key_that_no_file_may_have_is_refused_before_anything_is_asked(ada: Client, web: Web, key: str) -> None:
    refused(fetched(ada, at(web, "/a"), key=key), 422, "VALIDATION")
    assert web.asked == []


@pytest.mark.parametrize(
    ("given", "said", "name", "kept"),
    [
        ("text/csv", "image/png", "a.png", "text/csv"),
        ("Text/CSV; charset=utf-8", None, "a", "text/csv; charset=utf-8"),
        (None, "image/PNG", "a.bin", "image/png"),
        (None, "text/html; charset=utf-8", "a.bin", "text/html; charset=utf-8"),
        ("", "image/gif", "a.png", "image/gif"),
        (None, "html", "a.html", "text/html"),
        (None, "text/plain, text/html", "a.png", "image/png"),
        (None, "text/\xe4", "a.png", "image/png"),
        (None, "text/" + "x" * 300, "a.png", "image/png"),
        (None, "application/x-www-form-urlencoded", "a.png", "image/png"),
        (None, "", "a.png", "image/png"),
        (None, None, "a.png", "image/png"),
        (None, None, "a.tar.gz", "application/gzip"),
        (None, "nonsense", "a", "application/octet-stream"),
    ],
)
def test_the_type_is_the_one_that_is_given_else_the_servers_else_what_the_name_suggests(
    ada: Client, web: Web, given: str | None, said: str | None, name: str, kept: str
) -> None:
    web.headers = {} if said is None else {"Content-Type": said}
    assert imported(ada, at(web, "/from"), key=name, contentType=given)["contentType"] == kept


@pytest.mark.parametrize("given", ["nonsense", "text/", "text/plain\nX: y", "text/plain, text/html", "té/xt"])
def test_a_type_that_is_given_and_is_none_is_refused_as_with_a_put(ada: Client, web: Web, given: str) -> None:
    refused(fetched(ada, at(web, "/a.png"), contentType=given), 422, "VALIDATION")
    assert web.asked == []
    assert keys(ada) == []


def test_a_file_is_filed_as_it_is_asked_for(ada: Client, web: Web) -> None:
    folder_id = folder(ada, "holidays")
    data = imported(ada, at(web, "/a.png"), key="elsewhere/a.png", folderId=folder_id, acl="public")
    assert (data["folderId"], data["acl"]) == (folder_id, "public")
    assert imported(ada, at(web, "/a.png"), key="elsewhere/b.png", folderId=ROOT)["folderId"] is None
    assert keys(ada, f"folderId={folder_id}") == ["elsewhere/a.png"]
    assert [each["name"] for each in ada("GET", "/api/folders").json()["data"]] == ["holidays"]


def test_a_file_whose_key_names_a_folder_is_filed_there(ada: Client, web: Web) -> None:
    data = imported(ada, at(web, "/a.png"), key="photos/spring/a.png")
    [made] = ada("GET", "/api/folders").json()["data"]
    assert (made["name"], made["id"]) == ("photos/spring", data["folderId"])


def test_over_ones_own_file_identity_folder_and_acl_stay(ada: Client, web: Web) -> None:
    folder_id = folder(ada, "holidays")
    before = stored(ada, "a.png", b"before", f"?folderId={folder_id}&acl=public")
    web.body = b"after"
    after = imported(ada, at(web, "/a.png"))
    same = ("id", "ownerId", "uploadedAt", "folderId", "acl")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert after["version"] > before["version"]
    assert get(ada, "a.png").body == b"after"
    assert imported(ada, at(web, "/a.png"), folderId=ROOT, acl="private")["folderId"] is None


def test_a_file_that_the_service_key_replaces_keeps_its_owner(ada: Client, service: Client, web: Web) -> None:
    before = stored(ada, "a.png")
    assert imported(service, at(web, "/a.png"))["ownerId"] == before["ownerId"]
    assert get(ada, "a.png").status == 200


@pytest.mark.parametrize("size", [10, 100])
@pytest.mark.usefixtures("small_pieces")
def test_over_another_users_file_an_import_changes_nothing(ada: Client, bob: Client, web: Web, tenant: Tenant, size: int) -> None:
    before = stored(bob, "a.png", b"bob's")
    web.body = b"x" * size
    refused(fetched(ada, at(web, "/a.png")), 403, "FORBIDDEN")
    assert get(bob, "a.png").body == b"bob's"
    assert listed(bob)["data"] == [before]
    assert nothing_is_left(tenant, "a.png")


def test_who_may_not_store_files_has_nothing_fetched(tenant: Tenant, web: Web) -> None:
    refused(fetched(tenant.anon, at(web, "/a")), 403, "FORBIDDEN")
    refused(fetched(tenant.user(role="guest"), at(web, "/a")), 403, "FORBIDDEN")
    answer = fetched(tenant.nobody, at(web, "/a"))
    refused(answer, 401, "UNAUTHORIZED")
    assert "www-authenticate" in answer.headers
    assert web.asked == []


def test_a_folder_that_is_not_there_or_another_tenants_is_not_found(ada: Client, web: Web, new_tenant: Callable[[], Tenant]) -> None:
    theirs = folder(new_tenant().service, "theirs")
    for folder_id in (theirs, "0b1e7b1c-0000-4000-8000-000000000000", "nonsense"):
        refused(fetched(ada, at(web, "/a"), folderId=folder_id), 404, "NOT_FOUND")
    assert web.asked == []
    assert keys(ada) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"url": None}, {"url": 1}, {"url": ""}, {"url": "nonsense"}, {"url": "http://127.0.0.1/" + "x" * 2048}, {"key": ""}, {"key": 1},
        {"key": "x" * 701}, {"acl": "secret"}, {"acl": 1}, {"folderId": ""}, {"folderId": 1}, {"contentType": 1},
        {"contentType": "x" * 256},
    ],
)  # fmt: skip
def test_fields_of_another_kind_are_refused(ada: Client, web: Web, changed: dict[str, Any]) -> None:
    refused(ada("POST", "/api/storage/from-url", {"url": at(web, "/a")} | changed), 422, "VALIDATION")
    assert web.asked == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"http://a.example/"', b"{}"])
def test_a_body_that_is_no_object_with_a_url_is_refused(ada: Client, body: bytes) -> None:
    refused(ada("POST", "/api/storage/from-url", body, {"content-type": "application/json"}), 422, "VALIDATION")


def test_nothing_of_the_caller_is_sent_along_and_no_compression_asked_for(tenant: Tenant, ada: Client, web: Web) -> None:
    web.handler = redirecting((302, "/second"))
    cookies = {"cookie": "stowage_session=secret; other=1", "x-metadata": "e30=", "referer": "https://app.example/"}
    answer = ada("POST", "/api/storage/from-url", {"url": at(web, "/first")}, cookies)
    assert answer.status == 201
    assert len(web.sent) == 2
    for sent in web.sent:
        assert sent.keys() == {"host", "accept", "accept-encoding", "connection", "user-agent"}
        assert sent["accept-encoding"] == "identity"
        assert sent["host"] == f"127.0.0.1:{web.port}"


def test_two_imports_of_one_key_at_once_make_one_file(ada: Client, web: Web, tenant: Tenant) -> None:
    def own_name(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(head() + request.path[1:].encode() * 50)

    web.handler = own_name
    answers = together([lambda each=each: fetched(ada, at(web, each), key="a") for each in ("/x", "/y")])  # type: ignore[misc]
    assert [answer.status for answer in answers] == [201, 201]
    assert {answer.json()["data"]["id"] for answer in answers} == {listed(ada)["data"][0]["id"]}
    assert get(ada, "a").body in (b"x" * 50, b"y" * 50)


# ---- redirects -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_and_the_file_keeps_the_name_of_the_first_url(ada: Client, web: Web, status: int) -> None:
    web.handler = redirecting((status, "/other.txt"))
    data = imported(ada, at(web, "/first.png"))
    assert (data["key"], data["sourceUrl"], data["contentType"]) == ("first.png", at(web, "/first.png"), "text/plain")
    assert web.asked == ["/first.png", "/other.txt"]
    assert get(ada, "first.png").body == b"there"


@pytest.mark.parametrize("hops", [1, 2, 3, 4, 5])
def test_up_to_five_redirects_are_followed(ada: Client, web: Web, hops: int) -> None:
    statuses = (301, 302, 303, 307, 308)
    web.handler = redirecting(*((statuses[hop], f"/{hop}") for hop in range(hops)))
    imported(ada, at(web, "/a"))
    assert web.asked == ["/a", *(f"/{hop}" for hop in range(hops))]


@pytest.mark.parametrize("locations", [[f"/{hop}" for hop in range(6)], ["/a"] * 9, ["/a", "/b"] * 9, [""] * 9, ["#x"] * 9])
def test_the_sixth_redirect_is_refused_even_if_it_leads_in_a_circle(ada: Client, web: Web, tenant: Tenant, locations: list[str]) -> None:
    web.handler = redirecting(*((302, location) for location in locations))
    error = refused(fetched(ada, at(web, "/a")), 422, "VALIDATION")
    assert (error["details"]["reason"], "redirects" in error["message"]) == ("ImportFailed", True)
    assert len(web.asked) == 6
    assert nothing_is_left(tenant)


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("http://127.0.0.1:{port}/x/y?z=1", "/x/y?z=1"),
        ("HTTP://127.0.0.1:{port}/x", "/x"),
        ("http://127.0.0.1:{port}", "/"),
        ("http://127.0.0.1:{port}?x=1", "/?x=1"),
        ("http://localhost:{port}/x", "/x"),
        ("//127.0.0.1:{port}/x", "/x"),
        ("/x", "/x"),
        ("x", "/folder/x"),
        ("./x", "/folder/x"),
        ("../x", "/x"),
        ("../../../x", "/x"),
        ("?x=1", "/folder/a?x=1"),
        ("/x#fragment", "/x"),
        ("/caf%C3%A9", "/caf%C3%A9"),
    ],
)
def test_a_redirect_may_say_where_in_any_form_of_a_url(ada: Client, web: Web, location: str, asked: str) -> None:
    web.handler = redirecting((302, location.format(port=web.port)))
    imported(ada, at(web, "/folder/a"))
    assert web.asked == ["/folder/a", asked]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_that_leads_nowhere_is_told_by_its_status(ada: Client, web: Web, tenant: Tenant, status: int) -> None:
    web.handler = sending(head("Content-Length: 4", status=status) + b"gone")
    error = refused(fetched(ada, at(web, "/a")), 422, "VALIDATION")
    assert (error["details"]["reason"], str(status) in error["message"]) == ("ImportFailed", True)
    assert nothing_is_left(tenant)


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1:{port}/x", "file:///etc/passwd", "gopher://127.0.0.1:{port}/x", "data:text/plain,hello", "javascript:alert(1)",
        "ws://127.0.0.1:{port}/", "http://user:hunter2@127.0.0.1:{port}/x", "//user:hunter2@127.0.0.1:{port}/x",
        "http://@127.0.0.1:{port}/x", "http://a.example@127.0.0.1:{port}/x", "http://127.0.0.1:0/", "http://127.0.0.1:99999/",
        "http://127.0.0.1:{port}/a b", "http:\\\\127.0.0.1:{port}\\x", "/\\127.0.0.1:{port}/x", "/\xe4", "/" + "x" * 2048,
        "http://[::1", "//[", "http://[x]:{port}/", "http://127.0.0.1]:{port}/", "http://127.0.0.1:x/", "http://" + "a" * 300 + "/",
    ],
)  # fmt: skip
def test_a_redirect_to_what_must_not_or_cannot_be_asked_is_refused(ada: Client, web: Web, tenant: Tenant, location: str) -> None:
    web.handler = redirecting((302, location.format(port=web.port)))
    answer = fetched(ada, at(web, "/a"))
    assert refused(answer, 422, "VALIDATION")["details"]["reason"] == "ImportFailed"
    assert b"hunter2" not in answer.body
    assert web.asked == ["/a"]
    assert nothing_is_left(tenant)


# ---- where nothing may lead ------------------------------------------------------------------------------------
@pytest.fixture
def guarded(web: Web, choose: Choose, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server on loopback that must not be asked, nor any other connected to, nor a name looked up: proven at the end."""
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "false")
    made = connections(monkeypatch)
    yield web
    assert (web.asked, made) == ([], [])


NOTATIONS = [
    *LOOPBACK_NOTATIONS,
    *(f"[{each}]" if ":" in each else each for kind, several in NOT_PUBLIC.items() if kind != "none" for each in several),
    "0", "0x0", "0300.0250.1.1", "3232235777", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518", "0xA9.0xFE.0xA9.0xFE",
    "[::ffff:169.254.169.254]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[fe80::1%25eth0]", "[::]",
]  # fmt: skip


def test_every_notation_of_an_address_that_is_not_public_is_refused_unasked(ada: Client, guarded: Web) -> None:
    for notation, port in itertools.product(NOTATIONS, ("", f":{guarded.port}")):
        error = refused(fetched(ada, f"https://{notation}{port}/latest/meta-data/a"), 422, "VALIDATION")
        assert error["details"]["reason"] == "InvalidRequest"
        assert error["message"].startswith("url: ")
    assert keys(ada) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/x", "http://8.8.8.8/x", "http://127.0.0.1:{port}/x", "ftp://a.example/x", "file:///etc/passwd", "file://a.example/x",
        "gopher://a.example/x", "data:text/plain,hello", "javascript:alert(1)", "s3://a/x", "//a.example/x", "/etc/passwd", "a.example/x",
        "https://user:hunter2@a.example/x", "https://user@a.example/x", "https://@a.example/x", "https://a.example@127.0.0.1:{port}/x",
        "https://127.0.0.1:{port}#@a.example/x", "https://127.0.0.1:{port}?@a.example/x", "https:\\\\a.example\\x",
        "https://a.example\\@127.0.0.1/x", "https://a.example/a b", " https://a.example/x", "https://a.example/x\n", "https://a.example/\tx",
        "https://ä.example/x", "https://a.example/ä", "https://127。0。0。1/x", "https://①②⑦.0.0.1/x", "https://", "https:///x",
        "https://a.example:0/x", "https://a.example:99999/x",
    ],
)  # fmt: skip
def test_a_url_that_is_none_of_the_public_web_is_refused_unasked(ada: Client, guarded: Web, url: str) -> None:
    answer = fetched(ada, url.format(port=guarded.port), key="x")
    error = refused(answer, 422, "VALIDATION")
    assert (error["details"]["reason"], error["message"][:5]) == ("InvalidRequest", "url: ")
    assert b"hunter2" not in answer.body


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["fe80::1%eth0"], ["169.254.169.254"]])
def test_a_name_of_any_address_that_is_not_public_is_refused_unasked(
    ada: Client, guarded: Web, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    resolving(monkeypatch, {NAME: addresses})
    error = refused(fetched(ada, f"https://{NAME}:{guarded.port}/a"), 422, "VALIDATION")
    assert error["details"]["reason"] == "ImportFailed"
    assert not any(address in error["message"] for address in addresses)
    assert keys(ada) == []


def resolving(monkeypatch: pytest.MonkeyPatch, known: dict[str, list[str]]) -> None:
    """Has the name server know names of ours beside those that it does."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *more: Any, **named: Any) -> list[Any]:
        if host not in known:
            return real(host, port, *more, **named)
        families = ((socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in known[host])
        return [(family, socket.SOCK_STREAM, 6, "", (each, port)) for family, each in families]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


NAME = "innocent.example"


@pytest.fixture
def site(request: pytest.FixtureRequest, web: Web, choose: Choose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server behind HTTPS whose address, and no other of loopback, passes for a public one; `param` is the host that it is known as."""
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "false")
    real = outbound.is_public
    monkeypatch.setattr(outbound, "is_public", lambda address: address == "127.0.0.1" or real(address))
    path = certificate(tmp_path, getattr(request, "param", "127.0.0.1"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    outbound._trust.cache_clear()
    yield web
    outbound._trust.cache_clear()


def test_a_file_is_fetched_over_https_and_over_its_redirects(ada: Client, site: Web) -> None:
    site.handler = redirecting((302, f"https://127.0.0.1:{site.port}/b"), (307, "/c"))
    url = f"https://127.0.0.1:{site.port}/a"
    assert imported(ada, url)["sourceUrl"] == url
    assert site.asked == ["/a", "/b", "/c"]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/x", "http://a.example/x", *(f"https://{each}:{{port}}/x" for each in (
            "127.0.0.2", "2130706434", "0x7f000002", "0177.0.0.2", "127.2", "0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]", "10.0.0.1", "192.168.0.1", "172.16.0.1", "169.254.169.254", "2852039166", "[fd00:ec2::254]",
            "168.63.129.16", "100.100.100.200", "innocent.example", "half.example",
        )), "//10.0.0.1:{port}/x", "//innocent.example:{port}/x",
    ],
)  # fmt: skip
def test_every_hop_is_screened_like_the_first_and_never_connected_to(
    ada: Client, site: Web, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """F8.21: on every redirect hop."""
    resolving(monkeypatch, {"innocent.example": ["127.0.0.2"], "half.example": ["127.0.0.1", "10.0.0.1"]})
    made = connections(monkeypatch)
    for hops in (0, 4):
        made.clear()
        site.handler = redirecting(*((302, f"/{hop}") for hop in range(hops)), (302, location.format(port=site.port)))
        error = refused(fetched(ada, f"https://127.0.0.1:{site.port}/a"), 422, "VALIDATION")
        assert error["details"]["reason"] == "ImportFailed"
        assert made == [("127.0.0.1", site.port)] * (hops + 1)
    assert site.asked == ["/a", "/a", "/0", "/1", "/2", "/3"]
    assert nothing_is_left(tenant)


# ---- how much --------------------------------------------------------------------------------------------------
LIMIT = 100


@pytest.fixture
def limited(small_pieces: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """A hundred bytes at most."""
    monkeypatch.setattr(importing, "MAX_BYTES", LIMIT)
    return LIMIT


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """The end of the test, for servers that keep up whoever asks."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("announced", [LIMIT + 1, 10**9, 10**18, 10**40])
@pytest.mark.usefixtures("limited")
def test_what_announces_too_much_is_refused_before_it_comes(
    ada: Client, web: Web, tenant: Tenant, over: threading.Event, announced: int
) -> None:
    """F8.21."""

    def withholding(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(head(f"Content-Length: {announced}"))
        over.wait(30)

    web.handler = withholding
    assert refused(fetched(ada, at(web, "/a")), 413, "TOO_LARGE")["details"]["limit"] == LIMIT
    assert nothing_is_left(tenant)


def test_the_limit_is_a_hundred_million_bytes(ada: Client, web: Web, tenant: Tenant) -> None:
    web.handler = sending(head("Content-Length: 100000001"))
    error = refused(fetched(ada, at(web, "/a")), 413, "TOO_LARGE")
    assert (error["details"]["limit"], "100000000" in error["message"]) == (100_000_000, True)


@pytest.mark.parametrize("size", [LIMIT + 1, 10 * LIMIT])
@pytest.mark.parametrize(
    ("lines", "is_chunked"),
    [
        ([CHUNKED], True),
        ([CHUNKED, "Content-Length: 10"], True),
        (["Content-Length: 10", CHUNKED], True),
        ([], False),
        (["Content-Length: -1"], False),
        (["Content-Length: many"], False),
    ],
)
@pytest.mark.usefixtures("limited")
def test_bytes_that_go_beyond_the_limit_are_refused_whatever_was_announced(
    ada: Client, web: Web, tenant: Tenant, lines: list[str], is_chunked: bool, size: int
) -> None:
    body = b"x" * size
    web.handler = sending(head(*lines) + (chunked(body) if is_chunked else body))
    assert refused(fetched(ada, at(web, "/a")), 413, "TOO_LARGE")["details"]["limit"] == LIMIT
    assert nothing_is_left(tenant)


@pytest.mark.usefixtures("limited")
def test_of_a_server_that_sends_without_end_no_more_than_the_limit_is_read(ada: Client, web: Web, tenant: Tenant) -> None:
    broken = threading.Event()

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(head(CHUNKED))
        try:
            while True:
                request.wfile.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
        except OSError:
            broken.set()

    web.handler = endless
    refused(fetched(ada, at(web, "/a")), 413, "TOO_LARGE")
    assert broken.wait(5)
    assert nothing_is_left(tenant)


@pytest.mark.parametrize(
    "raw", [head(f"Content-Length: {LIMIT}") + b"x" * LIMIT, head(CHUNKED) + chunked(b"x" * LIMIT), head() + b"x" * LIMIT]
)
@pytest.mark.usefixtures("limited")
def test_exactly_the_limit_is_stored(ada: Client, web: Web, raw: bytes) -> None:
    web.handler = sending(raw)
    assert imported(ada, at(web, "/a"))["size"] == LIMIT
    assert get(ada, "a").body == b"x" * LIMIT


@pytest.mark.usefixtures("limited")
def test_of_an_answer_that_goes_on_after_its_length_the_rest_is_none_of_the_file(ada: Client, web: Web) -> None:
    web.handler = sending(head("Content-Length: 10") + b"x" * 1000)
    assert imported(ada, at(web, "/a"))["size"] == 10
    assert get(ada, "a").body == b"x" * 10


@pytest.mark.parametrize("raw", [head("Content-Length: 80") + b"x" * 80, head(CHUNKED) + chunked(b"x" * 80)])
@pytest.mark.usefixtures("small_pieces")
def test_the_limit_of_the_tenants_own_files_holds_too(ada: Client, web: Web, tenant: Tenant, raw: bytes) -> None:
    assert tenant.service("PUT", f"/storage/buckets/{FILES}", {"file_size_limit": 79}).status == 200
    web.handler = sending(raw)
    assert refused(fetched(ada, at(web, "/a")), 413, "TOO_LARGE")["details"]["limit"] == 79
    assert nothing_is_left(tenant)


@pytest.mark.parametrize("size", [20, 100])
@pytest.mark.parametrize(("said", "start"), [("text/html", b"<html>"), ("image/png", PDF)])
@pytest.mark.usefixtures("small_pieces")
def test_a_type_that_the_tenants_files_do_not_have_is_refused(
    ada: Client, web: Web, tenant: Tenant, said: str, start: bytes, size: int
) -> None:
    assert tenant.service("PUT", f"/storage/buckets/{FILES}", {"allowed_mime_types": ["image/*"]}).status == 200
    web.headers, web.body = {"Content-Type": said}, start.ljust(size, b"\0")
    refused(fetched(ada, at(web, "/a.png")), 415, "UNSUPPORTED_TYPE")
    assert nothing_is_left(tenant)


# ---- servers that fail -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("come", [0, 10, 70, 99])
@pytest.mark.parametrize(
    "cut",
    [
        lambda come: head("Content-Length: 100") + b"x" * come,
        lambda come: head(CHUNKED) + b"64\r\n" + b"x" * come,
        lambda come: head(CHUNKED) + chunked(b"x" * come).removesuffix(b"0\r\n\r\n"),
        lambda come: head(CHUNKED) + chunked(b"x" * come).removesuffix(b"0\r\n\r\n") + b"zz\r\n",
    ],
    ids=["of its length", "of its chunk", "before the last chunk", "at a chunk that is none"],
)
@pytest.mark.usefixtures("small_pieces")
def test_an_answer_that_is_cut_short_is_not_stored(ada: Client, web: Web, tenant: Tenant, cut: Callable[[int], bytes], come: int) -> None:
    before = stored(ada, "kept", b"before")
    web.handler = sending(cut(come))
    assert refused(fetched(ada, at(web, "/kept")), 422, "VALIDATION")["details"]["reason"] == "ImportFailed"
    assert get(ada, "kept").body == b"before"
    assert listed(ada)["data"] == [before]
    assert nothing_is_left(tenant, "kept")


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206, 207, 300, 304, 305, 400, 401, 403, 404, 410, 418, 429, 500, 503, 599])
def test_a_status_other_than_200_is_named(ada: Client, web: Web, tenant: Tenant, status: int) -> None:
    web.handler = sending(head("Content-Length: 5", "Retry-After: 1", status=status) + b"other")
    error = refused(fetched(ada, at(web, "/a")), 422, "VALIDATION")
    assert error["details"]["reason"] == "ImportFailed"
    assert str(status) in error["message"]
    assert len(web.asked) == 1
    assert nothing_is_left(tenant)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\r\n\r\n", b"\0" * 100, b"SSH-2.0-OpenSSH_9.0\r\n", b"220 ftp.example ready\r\n", b"<html>hello</html>",
        b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc Fine\r\n\r\n", b"HTTP/1.1 99999 Fine\r\n\r\n", b"HTTP/9.9 200 Fine\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 70_000, b"HTTP/1.1 200 Fine\r\nA: " + b"x" * 70_000, b"HTTP/1.1 200 Fine\r\n" + b"A: b\r\n" * 200,
        head("Content-Length: 5, 6") + b"short", head("Content-Length: 5", "Content-Length: 6") + b"short",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)  # fmt: skip
def test_an_answer_that_is_not_http_is_not_stored(ada: Client, web: Web, tenant: Tenant, raw: bytes) -> None:
    web.handler = sending(raw)
    assert refused(fetched(ada, at(web, "/a")), 422, "VALIDATION")["details"]["reason"] == "ImportFailed"
    assert nothing_is_left(tenant)


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "chunked, gzip"])
def test_an_answer_in_a_transfer_coding_that_is_not_understood_is_not_stored_with_it(
    ada: Client, web: Web, tenant: Tenant, coding: str
) -> None:
    """RFC 9112 §6.1: none but `chunked` may be sent to who has not asked for it."""
    web.handler = sending(head(f"Transfer-Encoding: {coding}") + chunked(b"hello"))
    assert refused(fetched(ada, at(web, "/a")), 422, "VALIDATION")["details"]["reason"] == "ImportFailed"
    assert nothing_is_left(tenant)


@pytest.mark.parametrize("behaviour", ["refusing", "half_open"])
@pytest.mark.usefixtures("web", "impatient")
def test_a_server_that_does_not_answer_is_told_as_such(ada: Client, tenant: Tenant, behaviour: hostile.Behaviour) -> None:
    with hostile.listener(behaviour) as server:
        assert refused(fetched(ada, f"{server.url}/a"), 422, "VALIDATION")["details"]["reason"] == "ImportFailed"
    assert nothing_is_left(tenant)


@pytest.mark.usefixtures("web", "impatient")
def test_where_nobody_listens_nothing_is_stored(ada: Client, tenant: Tenant) -> None:
    with hostile.closed_port() as port, hostile.black_hole() as (host, hole):
        for url in (f"http://127.0.0.1:{port}/a", f"http://{host}:{hole}/a", "http://nowhere.invalid/a", f"http://{'a' * 64}.example/a"):
            assert refused(fetched(ada, url), 422, "VALIDATION")["details"]["reason"] == "ImportFailed"
    assert nothing_is_left(tenant)


def on_fire_from(number: int) -> Callable[..., Any]:
    """Stores parts until that one comes, and none from then on."""
    real, numbers = S3.upload_part, itertools.count(1)

    def upload_part(self: S3, *arguments: Any) -> Any:
        if next(numbers) >= number:
            raise StorageUnavailable("the storage is on fire")
        return real(self, *arguments)

    return upload_part


@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.usefixtures("small_pieces")
def test_a_storage_that_fails_in_between_is_told_as_such_and_nothing_is_left(
    ada: Client, web: Web, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    web.body = b"x" * 100
    with monkeypatch.context() as patched:
        patched.setattr(S3, "upload_part", on_fire_from(failing))
        refused(fetched(ada, at(web, "/a")), 503, "UNAVAILABLE")
    assert keys(ada) == []
    assert {each["status"] for each in ada("GET", "/api/uploads").json()["uploads"]} == {"aborted"}


# ---- several pieces --------------------------------------------------------------------------------------------
@examples(25)
@given(
    size=st.integers(0, 200),
    piece=st.integers(1, 70),
    part=st.sampled_from([1, 24, 70]),
    framing=st.sampled_from(["length", "chunks", "end"]),
    chunk=st.integers(1, 90),
)
def test_in_whatever_pieces_a_file_comes_it_is_stored_byte_for_byte(
    ada: Client, web: Web, choose: Choose, size: int, piece: int, part: int, framing: str, chunk: int
) -> None:
    choose("STOWAGE_IMPORTS_PER_MINUTE", "1000")
    body = random.Random(size).randbytes(size)
    raw = {"length": head(f"Content-Length: {size}") + body, "chunks": head(CHUNKED) + chunked(body, chunk), "end": head() + body}
    web.handler = sending(raw[framing])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(importing, "PIECE", max(piece, size // 8 + 1))
        patched.setattr(S3, "min_part_bytes", part)
        patched.setattr(parts, "MAX_CHUNKED", 10_000)
        data = imported(ada, at(web, "/a"))
    assert (data["size"], data["checksum"]) == (size, hashlib.sha256(body).hexdigest())
    assert get(ada, "a").body == body


def whole(tenant: Tenant, key: str) -> bytes:
    row = row_of(tenant, key)
    assert row is not None
    return providers.internal().read(row.physical_key, 0, int(row.size))


@pytest.mark.parametrize("size", [8 * MIB + 1, 17 * MIB])
def test_a_file_of_many_megabytes_is_stored_whole(ada: Client, web: Web, tenant: Tenant, size: int) -> None:
    web.body = random.Random(size).randbytes(size)
    data = imported(ada, at(web, "/large.bin"))
    assert (data["size"], data["checksum"]) == (size, hashlib.sha256(web.body).hexdigest())
    assert whole(tenant, "large.bin") == web.body


def test_no_more_than_three_pieces_are_held_in_memory(ada: Client, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.body = bytes(24 * MIB)
    monkeypatch.setattr(importing, "PIECE", 5 * MIB)
    imported(ada, at(web, "/warm"))
    tracemalloc.start()
    try:
        imported(ada, at(web, "/large.bin"))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 3.5 * importing.PIECE


# ---- what takes longer -----------------------------------------------------------------------------------------
class Slow:
    """Answers its first requests, so many `times`, with a `start` alone; then as `web` does, or by `usual` bytes."""

    def __init__(self, web: Web, over: threading.Event, time_is_over: Callable[[], None]) -> None:
        self.web = web
        self.start = head("Content-Length: 100") + b"x" * 50
        self.times = 1
        self.usual: Handler = web._answer
        self._over, self._time_is_over = over, time_is_over

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        if len(self.web.asked) > self.times:
            self.usual(request)
            return
        request.wfile.write(self.start)
        self._time_is_over()
        self._over.wait(30)


@pytest.fixture
def time_is_over(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Ends the time that there is for an answer, which no timer does."""
    begun: list[outbound.Deadline] = []
    monkeypatch.setattr(outbound.Deadline, "start", lambda deadline: begun.append(deadline))
    return lambda: begun[-1]._cut()


@pytest.fixture
def slow(web: Web, over: threading.Event, time_is_over: Callable[[], None]) -> Slow:
    """A server that does not come to the end of its first answer before time is over."""
    web.body, web.headers = random.Random(1).randbytes(100), {"Content-Type": "text/csv"}
    web.handler = Slow(web, over, time_is_over)
    return web.handler


def handed_on(client: Client, url: str, **fields: Any) -> str:
    """The id of the job that an import has become."""
    answer = fetched(client, url, **fields)
    assert answer.status == 202, answer.body
    assert answer.json().keys() == {"jobId", "url"}
    return str(answer.json()["jobId"])


def job(client: Client, job_id: str) -> dict[str, Any]:
    answer = client("GET", f"/jobs/{job_id}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.usefixtures("small_pieces")
def test_what_takes_longer_than_a_request_is_fetched_by_a_job(ada: Client, bob: Client, slow: Slow, tenant: Tenant) -> None:
    """F8.21."""
    folder_id = folder(ada, "holidays")
    job_id = handed_on(ada, at(slow.web, "/a.bin"), key="photos/a.bin", folderId=folder_id, acl="public")
    begun = job(ada, job_id)
    assert (begun["id"], begun["kind"], begun["status"], begun["error"]) == (job_id, "file.import", "queued", None)
    assert bob("GET", f"/jobs/{job_id}").status == 404
    assert nothing_is_left(tenant)
    assert run_pending(tenant) == [job_id]
    ended = job(ada, job_id)
    assert (ended["status"], ended["done"], ended["total"], ended["error"]) == ("done", 100, 100, None)
    [data] = listed(ada)["data"]
    assert (data["key"], data["size"], data["checksum"]) == ("photos/a.bin", 100, hashlib.sha256(slow.web.body).hexdigest())
    assert (data["contentType"], data["folderId"], data["acl"]) == ("text/csv", folder_id, "public")
    assert data["ownerId"] == stored(ada, "mine")["ownerId"]
    assert get(ada, "photos/a.bin").body == slow.web.body


def test_a_request_fetches_for_15_seconds_and_its_job_for_30(
    ada: Client, slow: Slow, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F8.21: a function lives for 28 and must have time to answer; the job asks for the type, and then for the bytes."""
    given: list[float] = []
    real = outbound.within
    monkeypatch.setattr(outbound, "within", lambda seconds: given.append(seconds) or real(seconds))
    handed_on(ada, at(slow.web, "/a"))
    assert given == [15]
    run_pending(tenant)
    assert given[:2] == [15, 30]
    assert 29 < given[2] <= 30
    assert importing.AT_ONCE < 28


@pytest.mark.parametrize("given", [None, "text/csv"], ids=["which asks for the type first", "which is told the type"])
@pytest.mark.parametrize("site", [NAME], indirect=True)
@pytest.mark.usefixtures("small_pieces")
def test_a_job_is_not_led_where_a_name_has_come_to_point(
    ada: Client, site: Web, slow: Slow, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """F8.21: the address was public when the request was made."""
    resolving(monkeypatch, {NAME: ["127.0.0.1"]})
    job_id = handed_on(ada, f"https://{NAME}:{site.port}/a", contentType=given)
    resolving(monkeypatch, {NAME: ["10.0.0.1"]})
    made = connections(monkeypatch)
    run_pending(tenant)
    assert made == []
    assert job(ada, job_id)["status"] == "failed"
    assert nothing_is_left(tenant)
    assert run_pending(tenant) == []


@pytest.mark.parametrize("given", [None, "text/csv"], ids=["which asks for the type first", "which is told the type"])
@pytest.mark.usefixtures("small_pieces")
def test_a_job_is_not_led_where_a_redirect_points(
    ada: Client, site: Web, slow: Slow, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """F8.21: on every redirect hop; when the request was made there was none."""
    job_id = handed_on(ada, f"https://127.0.0.1:{site.port}/a", contentType=given)
    slow.usual = redirecting((302, "/b"), (302, f"https://10.0.0.1:{site.port}/c"))
    made = connections(monkeypatch)
    run_pending(tenant)
    assert made == [("127.0.0.1", site.port)] * 2
    assert job(ada, job_id)["status"] == "failed"
    assert nothing_is_left(tenant)
    assert run_pending(tenant) == []


@pytest.mark.parametrize("size", [0, 1, 32, 64, 97])
@pytest.mark.usefixtures("small_pieces")
def test_a_job_stores_files_of_any_size(service: Client, slow: Slow, tenant: Tenant, size: int) -> None:
    body, slow.web.body = slow.web.body[:size], b"x" * 100
    job_id = handed_on(service, at(slow.web, "/a"), contentType="text/plain")
    slow.web.body = body
    run_pending(tenant)
    assert job(service, job_id)["status"] == "done"
    data = listed(service)["data"][0]
    assert (data["size"], data["contentType"], data["ownerId"]) == (size, "text/plain", None)
    assert get(service, "a").body == body


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        head("Content-Length: 100"),
        head() + b"x" * 50,
        head(CHUNKED) + chunked(b"x" * 50).removesuffix(b"0\r\n\r\n"),
        head(CHUNKED) + b"64\r\n" + b"x" * 50,
    ],
    ids=["unbegun", "in its head", "before its body", "in a body without a length", "between chunks", "in a chunk"],
)
@pytest.mark.usefixtures("small_pieces")
def test_wherever_an_answer_stops_it_is_not_taken_for_whole(ada: Client, slow: Slow, tenant: Tenant, start: bytes) -> None:
    slow.times, slow.start = 100, start
    job_id = handed_on(ada, at(slow.web, "/a"))
    run_pending(tenant)
    assert job(ada, job_id)["status"] == "failed"
    assert nothing_is_left(tenant)


@pytest.mark.usefixtures("web")
def test_a_server_that_is_not_reached_in_time_is_left_to_a_job(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the wait for the connection ends before the timer does, which ends at the same moment."""
    monkeypatch.setattr(importing, "AT_ONCE", SHORT)
    monkeypatch.setattr(outbound.Deadline, "start", lambda _: None)
    with hostile.black_hole() as (host, port):
        handed_on(ada, f"http://{host}:{port}/a")


@pytest.mark.usefixtures("web")
def test_a_server_that_drips_is_left_to_a_job_which_gives_up_in_time(ada: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real timer, which each byte would put off if it were the socket's."""
    monkeypatch.setattr(importing, "AT_ONCE", 3 * SHORT)
    monkeypatch.setattr(importing, "WHOLE", 3 * SHORT)
    with hostile.listener("banner_drip", banner="HTTP/1.1 2", interval=0.01) as server:
        job_id = handed_on(ada, f"{server.url}/a")
        run_pending(tenant)
    ended = job(ada, job_id)
    assert (ended["status"], "longer" in ended["error"]) == ("failed", True)
    assert nothing_is_left(tenant)


@pytest.mark.usefixtures("small_pieces")
def test_a_job_that_takes_too_long_fails_and_says_so(ada: Client, slow: Slow, tenant: Tenant) -> None:
    """F8.21: within 30 seconds."""
    slow.times = 100
    job_id = handed_on(ada, at(slow.web, "/a"))
    run_pending(tenant)
    ended = job(ada, job_id)
    assert (ended["status"], ended["error"]) == ("failed", "the URL takes longer than 30 seconds")
    assert nothing_is_left(tenant)
    assert run_pending(tenant) == []


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (head(status=404), "404"),
        (head("Content-Length: 1000"), "at most 100 bytes"),
        (head(CHUNKED) + chunked(b"x" * 1000), "at most 100 bytes"),
        (head("Content-Length: 100") + b"x" * 70, "does not answer as it should"),
        (head("Location: ftp://127.0.0.1/", status=302), "must begin with"),
        (head("Location: http://[::1", status=302), "cannot be fetched"),
        (b"nonsense", "does not answer as it should"),
    ],
)
@pytest.mark.usefixtures("limited")
def test_a_job_that_cannot_succeed_fails_and_leaves_nothing(ada: Client, slow: Slow, tenant: Tenant, raw: bytes, said: str) -> None:
    job_id = handed_on(ada, at(slow.web, "/a"))
    slow.usual = sending(raw)
    run_pending(tenant)
    ended = job(ada, job_id)
    assert (ended["status"], said in str(ended["error"])) == ("failed", True), ended
    assert nothing_is_left(tenant)


@pytest.mark.parametrize("failing", [1, 3])
@pytest.mark.usefixtures("small_pieces")
def test_a_job_begins_anew_when_the_storage_has_failed(
    ada: Client, slow: Slow, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    job_id = handed_on(ada, at(slow.web, "/a"))
    with monkeypatch.context() as patched:
        patched.setattr(S3, "upload_part", on_fire_from(failing))
        run_pending(tenant)
    assert job(ada, job_id)["status"] == "queued"
    assert keys(ada) == []
    run_pending(tenant)
    assert job(ada, job_id)["status"] == "done"
    assert get(ada, "a").body == slow.web.body
    assert ada("GET", "/api/uploads?status=uploading").json()["uploads"] == []


@pytest.mark.usefixtures("small_pieces")
def test_a_job_whose_storage_keeps_failing_ends_and_leaves_nothing(
    ada: Client, slow: Slow, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = handed_on(ada, at(slow.web, "/a"))
    monkeypatch.setattr(S3, "upload_part", on_fire_from(2))
    for _ in range(2 * jobs.MAX_FAILURES):  # each of its uploads is begun in a step of its own
        run_pending(tenant)
    assert job(ada, job_id)["status"] == "failed"
    assert nothing_is_left(tenant)


@pytest.mark.usefixtures("small_pieces")
def test_a_job_that_is_run_again_after_its_end_does_nothing(ada: Client, slow: Slow) -> None:
    job_id = handed_on(ada, at(slow.web, "/a"))
    run_job(job_id)
    newer = stored(ada, "a", b"newer")
    asked = len(slow.web.asked)
    run_job(job_id)
    assert len(slow.web.asked) == asked
    assert listed(ada)["data"] == [newer]


def test_a_file_that_another_has_stored_meanwhile_is_kept(ada: Client, bob: Client, slow: Slow, tenant: Tenant) -> None:
    job_id = handed_on(ada, at(slow.web, "/a"))
    theirs = stored(bob, "a", b"bob's")
    run_pending(tenant)
    assert job(ada, job_id)["status"] == "failed"
    assert listed(bob)["data"] == [theirs]
    assert nothing_is_left(tenant, "a")


@pytest.mark.parametrize("at_request", [1, 2, 3])
@pytest.mark.usefixtures("small_pieces")
def test_the_permission_is_asked_again_at_the_end_of_a_job(ada: Client, slow: Slow, tenant: Tenant, at_request: int) -> None:
    """Withdrawn before the job begins, while it begins its upload, or while the bytes come."""
    policies = tenant.service("GET", f"/storage/policies/bucket/{FILES}").json()
    [create] = [each["id"] for each in policies if each["operation"] == "INSERT"]

    def withdrawing(request: BaseHTTPRequestHandler) -> None:
        if len(slow.web.asked) == at_request:
            assert tenant.service("DELETE", f"/storage/policies/{create}").status == 200
        slow(request)

    slow.web.handler = withdrawing
    job_id = handed_on(ada, at(slow.web, "/a"))
    run_pending(tenant)
    ended = job(ada, job_id)
    assert (ended["status"], "may not INSERT" in ended["error"]) == ("failed", True)
    assert nothing_is_left(tenant)


# ---- jobs that are killed --------------------------------------------------------------------------------------
class Killer:
    """Ends the process before its next call of AWS but `left`, if that is a number."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self, **_: Any) -> None:
        if self.left == 0:
            self.left = None
            raise Killed
        if self.left is not None:
            self.left -= 1


@pytest.fixture
def killer(embedded: stack.EmbeddedAWS) -> Iterator[Killer]:
    made = Killer()
    read_environment_again()
    aws.session().register("before-send", made)
    yield made
    read_environment_again()


@pytest.mark.parametrize("size", [20, 60])
def test_a_job_that_is_killed_anywhere_stores_the_file_once(
    killer: Killer,
    ada: Client,
    slow: Slow,
    tenant: Tenant,
    clock: Clock,
    small_pieces: int,
    choose: Choose,
    size: int,
) -> None:
    """F8.21. What was put over it after it had landed is not replaced by a worker that does not know that it had."""
    choose("STOWAGE_IMPORTS_PER_MINUTE", "1000")
    slow.web.body = slow.web.body[:size]
    landed_at: list[bool] = []
    for step in itertools.count():
        slow.web.asked.clear()
        key = f"{step}.bin"
        job_id = handed_on(ada, at(slow.web, "/a"), key=key)
        killer.left = step
        try:
            run_job(job_id)
        except Killed:
            pass
        else:
            break
        landed_at.append(row_of(tenant, key) is not None)
        if landed_at[-1]:
            stored(ada, key, b"newer")
        clock.advance(jobs.LEASE + 1)
        run_job(job_id)
        assert job(ada, job_id)["status"] == "done", step
        assert get(ada, key).body == (b"newer" if landed_at[-1] else slow.web.body), step
        completed = ada("GET", "/api/uploads?status=completed&limit=200").json()["uploads"]
        assert [each["key"] for each in completed].count(key) == 1, step
    killer.left = None
    assert set(landed_at) == {True, False}  # the kills did fall on both sides of the landing
    assert len(landed_at) > 10


@pytest.mark.parametrize("size", [20, 100])
def test_a_job_whose_last_answer_is_lost_is_done_all_the_same(
    ada: Client, slow: Slow, clock: Clock, small_pieces: int, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    slow.web.body = slow.web.body[:size]
    job_id = handed_on(ada, at(slow.web, "/a"))
    real = uploads.append

    def losing(*arguments: Any) -> Any:
        session = real(*arguments)
        if session.status == "done":
            stored(ada, "a", b"newer")
            raise Killed
        return session

    with monkeypatch.context() as patched:
        patched.setattr(uploads, "append", losing)
        with pytest.raises(Killed):
            run_job(job_id)
    clock.advance(jobs.LEASE + 1)
    run_job(job_id)
    assert job(ada, job_id)["status"] == "done"
    assert get(ada, "a").body == b"newer"


@pytest.mark.parametrize("size", [20, 100])
def test_a_worker_that_was_thought_dead_changes_nothing(ada: Client, slow: Slow, clock: Clock, small_pieces: int, size: int) -> None:
    """It goes on when another has taken over, has stored the file, and something newer has been put there."""
    slow.web.body = slow.web.body[:size]

    def overtaking(request: BaseHTTPRequestHandler) -> None:
        if len(slow.web.asked) == 3:
            clock.advance(jobs.LEASE + 1)
            run_job(job_id)
            assert get(ada, "a").body == slow.web.body
            stored(ada, "a", b"newer")
        slow(request)

    slow.web.handler = overtaking
    job_id = handed_on(ada, at(slow.web, "/a"))
    run_job(job_id)
    assert len(slow.web.asked) == 4
    assert job(ada, job_id)["status"] == "done"
    assert get(ada, "a").body == b"newer"


# ---- how often -------------------------------------------------------------------------------------------------
def test_a_tenant_has_thirty_imports_a_minute() -> None:
    assert settings().imports_per_minute == 30


def test_more_imports_than_a_tenant_has_are_told_when_to_come_again(
    ada: Client, bob: Client, web: Web, clock: Clock, choose: Choose, new_tenant: Callable[[], Tenant]
) -> None:
    """F8.21, F15.1. They are the tenant's, whoever of it asks; what is refused unasked takes none."""
    choose("STOWAGE_IMPORTS_PER_MINUTE", "2")
    refused(fetched(ada, "ftp://a.example/a"), 422, "VALIDATION")
    assert [fetched(ada, at(web, "/a")).status, fetched(bob, at(web, "/b")).status] == [201, 201]
    answer = fetched(ada, at(web, "/c"))
    assert refused(answer, 429, "RATE_LIMITED")["details"]["reason"] == "Throttled"
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert web.asked == ["/a", "/b"]
    assert fetched(new_tenant().service, at(web, "/d")).status == 201
    clock.advance(int(answer.headers["retry-after"]))
    assert fetched(ada, at(web, "/c")).status == 201


def test_a_folder_that_has_gone_before_the_job_begins_is_none(ada: Client, slow: Slow, tenant: Tenant, clock: Clock) -> None:
    """F8.21, F8.20: as where it goes while bytes are sent."""
    folder_id = folder(ada, "holidays")
    job_id = handed_on(ada, at(slow.web, "/a"), folderId=folder_id)
    assert ada("DELETE", f"/api/folders/{folder_id}").status == 200
    cache.forget_everything()
    run_job(job_id)
    assert job(ada, job_id)["status"] == "done"
    assert listed(ada)["data"][0]["folderId"] is None


@pytest.mark.usefixtures("small_pieces")
def test_asking_for_the_type_takes_of_the_jobs_thirty_seconds(
    ada: Client, slow: Slow, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F8.21"""
    slow.start = b""
    job_id = handed_on(ada, at(slow.web, "/a"))
    given: list[float] = []
    real, usual = outbound.within, slow.usual

    def late(request: BaseHTTPRequestHandler) -> None:
        clock.advance(12)
        usual(request)

    slow.usual = late
    monkeypatch.setattr(outbound, "within", lambda seconds: given.append(seconds) or real(seconds))
    run_job(job_id)
    assert job(ada, job_id)["status"] == "done"
    assert given[0] == 30
    assert 17 < given[1] <= 18


def test_the_url_of_a_job_is_sealed_while_it_waits(ada: Client, slow: Slow) -> None:
    """It may be a signed one, and lies there for a week."""
    job_id = handed_on(ada, at(slow.web, "/a?signature=hunter2"), key="a")
    stored_job = Job.read(job_id)
    assert stored_job is not None
    assert "hunter2" not in str(stored_job.attribute_values)
    run_job(job_id)
    assert slow.web.asked[-1] == "/a?signature=hunter2"
