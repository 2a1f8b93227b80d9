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
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib import outbound
from chalicelib.errors import InvalidRequest
from chalicelib.outbound import Refused, Unreachable, check_url, fetch, following, is_public, within
from tests.issuer import Handler, Web, ec_key

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

REDIRECTING = [301, 302, 303, 307, 308]
CHUNKED = "Transfer-Encoding: chunked"


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


# ---- what is followed ------------------------------------------------------------------------------------------
def head(*lines: str, status: int = 200) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode("latin-1")


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def sending(*answers: bytes) -> Handler:
    """Answers one request after the other with these very bytes, from the last on with that one."""
    left = list(answers)

    def handle(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(left.pop(0) if len(left) > 1 else left[0])

    return handle


def redirect(location: str, status: int = 302) -> bytes:
    return head(f"Location: {location}", "Content-Length: 4", status=status) + b"gone"


def pieces_of(url: str, redirects: int = 0, size: int = 100) -> list[bytes]:
    with following(url, redirects) as response:
        return list(response.pieces(size))


@pytest.mark.parametrize("redirects", [0, 1, 5])
def test_so_many_redirects_are_followed_and_no_more(web: Web, redirects: int) -> None:
    hops = [redirect(f"/{hop}", status) for hop, status in zip(range(redirects), (301, 302, 303, 307, 308), strict=False)]
    web.handler = sending(*hops, head() + b"there")
    assert pieces_of(web.url, redirects) == [b"there"]
    assert web.asked == ["/jwks.json", *(f"/{hop}" for hop in range(redirects))]
    web.asked.clear()
    web.handler = sending(redirect("/again"))
    with pytest.raises(Refused, match=f"redirects more than {redirects} times"):
        pieces_of(web.url, redirects)
    assert len(web.asked) == redirects + 1


def test_who_follows_asks_for_anything_in_plain_and_sends_nothing_else(web: Web) -> None:
    web.handler = sending(redirect("/other"), head())
    assert pieces_of(web.url, 1) == []
    for sent in web.sent:
        assert sent.keys() == {"host", "accept", "accept-encoding", "connection", "user-agent"}
        assert (sent["accept"], sent["accept-encoding"]) == ("*/*", "identity")


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 305, 400, 404, 429, 500, 503, *REDIRECTING])
def test_of_an_answer_that_is_neither_200_nor_a_redirect_to_somewhere_the_status_is_told(web: Web, status: int) -> None:
    web.handler = sending(head("Content-Length: 0", status=status))
    with pytest.raises(Unreachable, match=str(status)):
        pieces_of(web.url, 5)
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    "location",
    [
        "ftp://a.example/", "file:///etc/passwd", "data:,x", "http://user:hunter2@127.0.0.1/", "http://127.0.0.1:0/", "http://127.0.0.1:x/",
        "/a b", "/\\a", "/\xe4", "/" + "x" * 2048, "http://[::1", "//[", "http://[x]/", "http://a]/",
    ],
)  # fmt: skip
def test_a_redirect_to_no_url_that_may_be_asked_is_refused(web: Web, location: str) -> None:
    web.handler = sending(redirect(location))
    with pytest.raises((Refused, Unreachable)) as refused:
        pieces_of(web.url, 5)
    assert "hunter2" not in str(refused.value)
    assert len(web.asked) == 1


@pytest.mark.parametrize("notation", ["127.0.0.2", "2130706434", "[::1]", "10.0.0.1", "169.254.169.254", "innocent.example"])
def test_a_redirect_to_an_address_that_is_not_permitted_is_not_connected_to(
    web: Web, monkeypatch: pytest.MonkeyPatch, notation: str
) -> None:
    """Each hop is judged by itself: that the first one is permitted opens nothing to the second."""
    real, asked = outbound._connected, []
    answering(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])

    def screen(address: str) -> None:
        if address != "127.0.0.1":
            raise Refused("not there")

    def connect(made: socket.socket, address: Any, *more: Any) -> socket.socket:
        asked.append(address)
        return real(made, address, *more)

    monkeypatch.setattr(outbound, "screen", screen)
    monkeypatch.setattr(outbound, "_connected", connect)
    web.handler = sending(redirect(f"http://{notation}:{web.port}/"))
    with pytest.raises(Refused, match="not there"):
        pieces_of(web.url, 5)
    assert asked == [("127.0.0.1", web.port)]


@pytest.mark.parametrize(
    ("line", "length"),
    [
        ("Content-Length: 0", 0), ("Content-Length: 12", 12), ("Content-Length: 0012", 12), (f"Content-Length: {10**17}", 10**17),
        ("Content-Length: -1", None), ("Content-Length: +1", None), ("Content-Length: 1e3", None), ("Content-Length: \xb2", None),
        ("Content-Length:", None), ("X: 1", None),
    ],
)  # fmt: skip
def test_the_length_is_what_was_announced_if_it_is_a_number(web: Web, line: str, length: int | None) -> None:
    web.handler = sending(head(line))
    with following(web.url, 0) as response:
        assert response.length == length


@pytest.mark.parametrize(("line", "said"), [("Content-Type: text/plain; a=b", "text/plain; a=b"), ("Content-Type: x", "x"), ("X: y", "")])
def test_the_type_is_what_the_server_says_whatever_it_is(web: Web, line: str, said: str) -> None:
    web.handler = sending(head(line))
    with following(web.url, 0) as response:
        assert response.content_type == said


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(st.binary(max_size=200), st.integers(1, 250), st.sampled_from(["length", "chunks", "end"]), st.integers(1, 250))
def test_bytes_come_in_pieces_of_the_size_that_is_wanted(web: Web, body: bytes, size: int, framing: str, chunk: int) -> None:
    framed = {"length": head(f"Content-Length: {len(body)}") + body, "chunks": head(CHUNKED) + chunked(body, chunk), "end": head() + body}
    web.handler = sending(framed[framing])
    pieces = pieces_of(web.url, 0, size)
    assert b"".join(pieces) == body
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(0 < len(piece) <= size for piece in pieces[-1:])


@pytest.mark.parametrize("size", [10, 35, 70, 100])
@pytest.mark.parametrize(
    "raw",
    [
        head("Content-Length: 100") + b"x" * 70,
        head(CHUNKED) + b"64\r\n" + b"x" * 70,
        head(CHUNKED) + chunked(b"x" * 70, 70).removesuffix(b"0\r\n\r\n"),
        head(CHUNKED) + chunked(b"x" * 70, 70).removesuffix(b"0\r\n\r\n") + b"?\r\n",
    ],
)
def test_bytes_that_do_not_come_to_their_end_are_never_taken_for_all(web: Web, raw: bytes, size: int) -> None:
    web.handler = sending(raw)
    with pytest.raises(Unreachable):
        pieces_of(web.url, 0, size)


@pytest.mark.parametrize("size", [10, 70, 100])
@pytest.mark.parametrize("framing", [head(), head("Content-Length: 100"), head(CHUNKED) + b"64\r\n"])
def test_bytes_that_a_deadline_has_cut_off_are_never_taken_for_all(web: Web, framing: bytes, size: int) -> None:
    over = threading.Event()

    def stopping(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(framing + b"x" * 70)
        over.wait(30)

    web.handler = stopping
    try:
        with within(0.1) as deadline, pytest.raises(Unreachable):
            pieces_of(web.url, 0, size)
        assert deadline.is_over  # by its timer, or by the socket's, which ends at the same moment
    finally:
        over.set()


def test_who_has_seen_enough_closes_the_connection(web: Web) -> None:
    closed = threading.Event()

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(head())
        try:
            while True:
                request.wfile.write(b"x" * 65536)
        except OSError:
            closed.set()

    web.handler = endless
    with following(web.url, 0) as response:
        assert next(response.pieces(10)) == b"x" * 10
    assert closed.wait(5)


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
