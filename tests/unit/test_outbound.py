"""Where requests may lead: to the public internet, in whatever notation its addresses come, and nowhere else."""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import outbound
from chalicelib.errors import InvalidRequest
from chalicelib.outbound import Refused, Unreachable, check_url, fetch, is_public
from tests.issuer import Web, ec_key

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001:81b::200e"]
NOT_PUBLIC = {
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "link-local": ["169.254.0.1", "fe80::1", "febf::1"],
    "metadata": ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "2001:db8::1", "3fff::1"],
    "carrier-grade NAT": ["100.64.0.1", "100.127.255.255"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a9fe:a9fe", "::127.0.0.1"],
    "6to4": ["2002:7f00:1::", "2002:808:808::1", "192.88.99.1"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1"],
    "Teredo": ["2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "none": ["", "localhost", "fe80::1%eth0", "1.2.3", "1.2.3.4.5"],
}
LOOPBACK_NOTATIONS = [
    "127.0.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "0x7f.1",
    "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(("kind", "address"), [(kind, address) for kind, several in NOT_PUBLIC.items() for address in several])
def test_every_other_address_is_not(kind: str, address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses())
def test_nothing_that_python_calls_special_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    special = address.is_private or address.is_loopback or address.is_multicast or address.is_reserved or address.is_link_local
    assert not (special and is_public(str(address)))


# ---- the URL alone ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("url", ["https://a.example/jwks", "https://a.example:8443/k?x=1", "https://8.8.8.8/", "https://[2606:4700::1]/k"])
def test_a_public_https_url_is_permitted(url: str) -> None:
    check_url(url, "jwks_url")


@pytest.mark.parametrize(
    "url",
    [
        "", "a", "//a.example/", "http://a.example/", "ftp://a.example/", "file:///etc/passwd", "https:///k", "https://", "javascript:1",
        "https://user@a.example/", "https://user:secret@a.example/", "https://:@a.example/", "https://@a.example/",
        "https://a.example@127.0.0.1/", "https://127.0.0.1#@a.example/", "https://a.example:0/", "https://a.example:65536/",
        "https://a.example:x/", "https://a b.example/", "https://a.example/\n", "https://a\\@b.example/", "https://ä.example/",
        "https://a.example/" + "x" * 2048, "https://169.254.169.254/latest/meta-data/", "https://10.0.0.1/", "https://0/",
        *(f"https://{notation}/" for notation in LOOPBACK_NOTATIONS),
    ],
)  # fmt: skip
def test_a_url_that_leads_elsewhere_is_refused_with_its_field(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^jwks_url: "):
        check_url(url, "jwks_url")


def test_a_refusal_does_not_repeat_a_password() -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_url("https://user:hunter2@a.example/", "jwks_url")
    assert "hunter2" not in refused.value.message


def test_where_private_endpoints_are_allowed_http_and_loopback_are_too(choose: Callable[[str, str], None]) -> None:
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "true")
    check_url("http://127.0.0.1:9000/k", "jwks_url")
    for url in ("ftp://127.0.0.1/", "http://user@127.0.0.1/", "http:///k"):
        with pytest.raises(InvalidRequest):
            check_url(url, "jwks_url")


# ---- the connection --------------------------------------------------------------------------------------------
@pytest.fixture
def forbidden(web: Web, choose: Callable[[str, str], None]) -> Iterator[Web]:
    """A server on loopback that must not be asked, proven at the end."""
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "false")
    yield web
    assert web.asked == []


def answering(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Has the name server give these addresses, one answer after the other; gives the names that it was asked."""
    asked: list[str] = []
    left = list(answers)

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["fe80::1%lo"], ["::1", "1.1.1.1"]])
def test_a_name_of_any_private_address_is_refused_without_a_connection(
    forbidden: Web, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    answering(monkeypatch, addresses)
    with pytest.raises(Refused):
        fetch(f"https://innocent.example:{forbidden.port}/", 100)


def test_the_socket_is_connected_to_the_address_that_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers otherwise the second time is not asked a second time."""
    asked = answering(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    connected: list[Any] = []

    def connect(made: socket.socket, address: Any, *_: Any) -> None:
        made.close()
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(outbound, "_connected", connect)
    with pytest.raises(Unreachable):
        fetch("https://rebinding.example/", 100)
    assert asked == ["rebinding.example"]
    assert connected == [("8.8.8.8", 443)]


@pytest.mark.parametrize("notation", ["localhost", *LOOPBACK_NOTATIONS[1:9]])
def test_a_connection_class_refuses_whoever_uses_it(forbidden: Web, notation: str) -> None:
    """As clients of storages will: the URL was not looked at, the resolver makes an address of each of these."""
    connection = outbound.ScreenedHTTPConnection(notation, forbidden.port)
    with pytest.raises(Refused):
        connection.request("GET", "/")


def test_a_pool_of_urllib3_can_use_the_connection_class(web: Web) -> None:
    web.body = b"hello"
    pool = urllib3.HTTPConnectionPool("localhost", web.port)
    pool.ConnectionCls = outbound.ScreenedHTTPConnection
    assert pool.request("GET", "/x").data == b"hello"


@pytest.mark.parametrize("host", ["none.invalid", "a" * 64 + ".example", "a..example"])
def test_a_name_without_an_address_is_unreachable(host: str) -> None:
    with pytest.raises(Unreachable):
        fetch(f"https://{host}/", 100)


def test_of_many_dead_addresses_two_are_tried(monkeypatch: pytest.MonkeyPatch, web: Web) -> None:
    answering(monkeypatch, ["127.0.0.1"] * 9)
    tried: list[Any] = []

    def refuse(made: socket.socket, address: Any, *_: Any) -> socket.socket:
        made.close()
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(outbound, "_connected", refuse)
    with pytest.raises(Unreachable):
        fetch("http://many.example/", 100)
    assert len(tried) == 2


def test_a_second_address_serves_when_the_first_does_not(monkeypatch: pytest.MonkeyPatch, web: Web) -> None:
    answering(monkeypatch, ["127.9.9.9", "127.0.0.1"])
    web.body = b"second"
    assert fetch(f"http://two.example:{web.port}/", 100) == b"second"


# ---- the answer ------------------------------------------------------------------------------------------------
def test_a_document_is_fetched_with_its_query(web: Web) -> None:
    web.body = b"x" * 1000
    assert fetch(f"{web.url}?a=b", 1000) == web.body
    assert web.asked == ["/jwks.json?a=b"]
    assert web.sent[0]["host"] == f"127.0.0.1:{web.port}"
    assert "authorization" not in web.sent[0]


def test_more_than_was_asked_for_is_refused(web: Web) -> None:
    web.body = b"x" * 1001
    with pytest.raises(Unreachable, match="more than 1000"):
        fetch(web.url, 1000)


def test_a_chunked_answer_has_the_same_limit(web: Web) -> None:
    def chunked(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n")

    web.handler = chunked
    assert fetch(web.url, 1000) == b"x" * 1000
    with pytest.raises(Unreachable):
        fetch(web.url, 999)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(web: Web, status: int) -> None:
    web.status, web.headers = status, {"Location": web.url + "?again"}
    with pytest.raises(Refused, match="redirect"):
        fetch(web.url, 100)
    assert web.asked == ["/jwks.json"]


@pytest.mark.parametrize("status", [204, 206, 400, 404, 429, 500, 503])
def test_only_200_is_an_answer_and_nothing_is_tried_again(web: Web, status: int) -> None:
    web.status = status
    with pytest.raises(Unreachable, match=str(status)):
        fetch(web.url, 100)
    assert len(web.asked) == 1


@pytest.mark.usefixtures("web")
def test_nobody_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(Unreachable):
        fetch(f"http://127.0.0.1:{port}/", 100)


@pytest.mark.parametrize(
    "raw", [b"", b"not HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200]
)
def test_an_answer_that_is_not_whole_is_unreachable(web: Web, raw: bytes) -> None:
    web.handler = lambda request: request.wfile.write(raw) and None
    with pytest.raises(Unreachable):
        fetch(web.url, 100)


@pytest.mark.parametrize("head", ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_an_answer_that_never_ends_is_cut_off(web: Web, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    """Also where what came so far looks whole: a body without a length ends with its connection."""
    over = threading.Event()

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(head.encode())
        over.wait(30)

    web.handler = endless
    monkeypatch.setattr(outbound, "WHOLE_TIMEOUT", 0.1)
    monkeypatch.setattr(outbound, "READ_TIMEOUT", 30)
    try:
        with pytest.raises(Unreachable):
            fetch(web.url, 100)
        assert not over.is_set()
    finally:
        over.set()


def test_silence_is_unreachable(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    web.handler = lambda request: over.wait(30) and None
    monkeypatch.setattr(outbound, "READ_TIMEOUT", 0.1)
    monkeypatch.setattr(outbound, "WHOLE_TIMEOUT", 30)
    try:
        with pytest.raises(Unreachable):
            fetch(web.url, 100)
    finally:
        over.set()


# ---- HTTPS -----------------------------------------------------------------------------------------------------
def certificate(folder: Path, name: str) -> Path:
    """A certificate for host `name`, or an IPv4 address, with its key, which is its own authority."""
    is_address = name.replace(".", "").isdigit()
    subjects: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(name)) if is_address else x509.DNSName(name)]
    key, subject = ec_key("tls"), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def tls(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, bool], str]]:
    """Puts a certificate for a name in front of the server, of an authority that is trusted or not; gives the URL."""

    def serve(name: str, trusted: bool) -> str:
        path = certificate(tmp_path, name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(path))
        outbound._trust.cache_clear()
        return f"https://localhost:{web.port}/jwks.json"

    yield serve
    outbound._trust.cache_clear()


def test_https_is_asked_under_its_name(tls: Callable[[str, bool], str], web: Web) -> None:
    url = tls("localhost", True)
    web.body = b"secret"
    assert fetch(url, 100) == b"secret"


@pytest.mark.parametrize(("name", "trusted"), [("localhost", False), ("elsewhere.example", True)])
def test_a_certificate_of_another_name_or_authority_is_refused(tls: Callable[[str, bool], str], web: Web, name: str, trusted: bool) -> None:
    with pytest.raises(Unreachable):
        fetch(tls(name, trusted), 100)
    assert web.asked == []
