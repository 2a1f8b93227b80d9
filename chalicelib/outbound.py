"""Requests to addresses that somebody else has chosen: key sets of tenants, endpoints of their storages, files to be imported.

A name is resolved when a connection is made, every address that it has is judged, and the socket is connected to
one of those very addresses: an answer of the name server that changes in between leads nowhere. Judged by the
number, an address is the same in every notation. Refused is all that is not public, whatever IPv6 wraps it in,
unless `STOWAGE_ALLOW_PRIVATE_ENDPOINTS` is on (the local run), which also permits plain HTTP.
"""

import http.client
import ipaddress
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from threading import Lock, Thread, Timer
from typing import Any
from urllib.parse import urljoin

import urllib3.connection
import urllib3.exceptions
from urllib3.util import Url, parse_url

from chalicelib.errors import InvalidRequest
from chalicelib.settings import settings

MAX_URL_CHARACTERS = 2048
# Seconds: to connect, of silence, and from the question to the end of the answer.
CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 5.0
WHOLE_TIMEOUT = 8.0
RESOLVE_TIMEOUT = 5.0
# Of a name's addresses, so that one with many dead ones does not outlast the function.
ADDRESSES_TRIED = 2
MAX_LENGTH = 10**18
REDIRECTING = frozenset({301, 302, 303, 307, 308})
HEADERS = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "stowage"}

# IANA's registry of special-purpose addresses, multicast, and what clouds answer their guests at.
# https://www.iana.org/assignments/iana-ipv4-special-registry
_NOT_PUBLIC = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host
        "169.254.0.0/16",  # link-local; metadata of AWS, Azure and Google
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocols; Oracle's metadata
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
# Of IPv6 only global unicast is public. Loopback, unique local and link-local addresses, multicast and every
# IPv4 address that is mapped or translated (::ffff:0:0/96, 64:ff9b::/96, 64:ff9b:1::/48) lie outside of it.
# https://www.iana.org/assignments/iana-ipv6-special-registry
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocols; Teredo
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
]


_AUTHORITY_ENDS = re.compile("[/?#]")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")


class Refused(Exception):
    """The request would lead where none may go; the message says why."""


class Unreachable(Exception):
    """There is no answer, or none that can be used; the message says why."""


def is_public(address: str) -> bool:
    """Whether an IP address, in its canonical notation, is one of the public internet."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _NOT_PUBLIC)
    return parsed in _GLOBAL_UNICAST and not any(parsed in network for network in _NOT_PUBLIC_6)


def check_url(url: str, what: str) -> None:
    """Raise InvalidRequest unless `url`, which `what` names, may be asked as far as it alone can tell."""
    try:
        _parsed(url)
    except Refused as refused:
        raise InvalidRequest(f"{what}: {refused}") from None


def check_endpoint(url: str, what: str, plain_http: bool) -> None:
    """Raise InvalidRequest unless `url`, which `what` names, is a bare server that may be asked, `plain_http` allowed or not."""
    try:
        parsed = _parsed(url, ("https", "http") if plain_http else ("https",))
    except Refused as refused:
        raise InvalidRequest(f"{what}: {refused}") from None
    if parsed.query or parsed.fragment or (parsed.path or "/") != "/":
        raise InvalidRequest(f"{what}: the URL must end after host and port")


def check_host(host: str, what: str) -> None:
    """Raise InvalidRequest unless `host`, which `what` names, is a name or an address that may be asked, and nothing more."""
    if not _HOST.fullmatch(host) and not (":" in host and _is_address(host)):
        raise InvalidRequest(f"{what}: it must be a host name or an IP address, without scheme, user and port")
    try:
        literal = _literal(f"[{host}]" if ":" in host else host)
        if literal is not None:
            screen(literal)
    except Refused as refused:
        raise InvalidRequest(f"{what}: {refused}") from None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
        return True
    except ValueError:
        return False


def fetch(url: str, max_bytes: int) -> bytes:
    """What a GET of `url` answers, if that is 200 and at most `max_bytes` long.

    Raises Refused for an address that is not public and for a redirect, Unreachable for everything else.
    """
    parsed = _parsed(url)
    connection = _connection(parsed)
    with within(WHOLE_TIMEOUT) as deadline:
        try:
            with _told_of(str(parsed.host)):
                body = _body(_asked(parsed, connection, "application/json"), max_bytes)
        finally:
            connection.close()
        if deadline.passed:  # what ends with its connection looks whole
            raise Unreachable(f"{parsed.host} takes too long")
    return body


class Response:
    """An answer whose bytes are still to come. `length` is what was announced, None where nothing was."""

    def __init__(self, host: str, answer: Any, deadline: "Deadline | None") -> None:
        self._host = host
        self._answer = answer
        self._deadline = deadline
        announced = answer.headers.get("Content-Length", "")
        self.length = min(int(announced[:20]), MAX_LENGTH) if announced.isascii() and announced.isdigit() else None
        self.content_type: str = answer.headers.get("Content-Type") or ""

    def pieces(self, size: int) -> Iterator[bytes]:
        """The bytes, in pieces of `size`; the last may be shorter. Raises Unreachable when they do not come to their end."""
        while piece := self._whole(size):
            yield piece
        if self._deadline is not None and self._deadline.is_over:  # what ends with its connection looks whole
            raise Unreachable(f"{self._host} takes too long")

    def _whole(self, size: int) -> bytes:
        parts, missing = [], size
        with _told_of(self._host):
            while missing and (part := self._answer.read(missing)):
                parts.append(part)
                missing -= len(part)
        return b"".join(parts)


@contextmanager
def following(url: str, redirects: int) -> Iterator[Response]:
    """What a GET of `url` answers, if that is 200, after so many redirects at most, each of which is judged like the first.

    Raises Refused for an address that may not be asked, Unreachable for everything else.
    """
    for _ in range(redirects + 1):
        parsed = _parsed(url)
        connection, answer = _connection(parsed), None
        try:
            answer = _asked(parsed, connection, "*/*", left() or READ_TIMEOUT)
            target = answer.headers.get("Location") if answer.status in REDIRECTING else None
            if target is None:
                _check_plain(str(parsed.host), answer)
                yield Response(str(parsed.host), answer, _present.get())
                return
            url = _joined(url, target)
        finally:
            connection.close()
            if answer is not None:  # what is to be closed after it keeps the connection for itself
                answer.close()
    raise Refused(f"it redirects more than {redirects} times")


def _check_plain(host: str, answer: Any) -> None:
    """Raise Unreachable unless an answer is 200 and carries the bytes as they are."""
    if answer.status != 200:
        raise Unreachable(f"{host} answers {answer.status}")
    encodings = {name: answer.headers.get(name, "").strip().lower() for name in ("Content-Encoding", "Transfer-Encoding")}
    if encodings["Content-Encoding"] not in ("", "identity") or encodings["Transfer-Encoding"] not in ("", "chunked", "identity"):
        raise Unreachable(f"{host} sends the bytes in an encoding that was not asked for")


def _joined(url: str, target: str) -> str:
    """Where a redirect leads, absolute or not; raises Refused."""
    try:
        return urljoin(url, target)
    except ValueError:
        raise Refused("it redirects to what is not a URL") from None


def _asked(url: Url, connection: Any, accept: str, silence: float = READ_TIMEOUT) -> Any:
    """The answer to a GET, which may be silent for so many seconds at a time."""
    with _told_of(str(url.host)):
        connection.connect()
        connection.timeout = silence
        headers = HEADERS | {"Accept": accept}
        connection.request("GET", url.request_uri, headers=headers, preload_content=False, decode_content=False)
        return connection.getresponse()


@contextmanager
def _told_of(host: str) -> Iterator[None]:
    """Say of whatever goes wrong on a connection that its host does not answer."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        raise Unreachable(f"{host} does not answer as it should: {type(error).__name__}") from error


def _body(response: Any, max_bytes: int) -> bytes:
    if 300 <= response.status < 400:
        raise Refused(f"it answers {response.status}, and redirects are not followed")
    if response.status != 200:
        raise Unreachable(f"it answers {response.status}")
    body: bytes = response.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise Unreachable(f"it answers more than {max_bytes} bytes")
    response.read(1)  # only a read that finds nothing looks whether all has come
    return body


# ---- time ------------------------------------------------------------------------------------------------------
class Deadline:
    """Shuts every connection that is watched when its time is over: a socket's own timeout begins anew with each byte."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._ends = time.monotonic() + seconds
        self._watched: list[socket.socket] = []
        self._changing = Lock()
        self._timer = Timer(seconds, self._cut)
        self._timer.daemon = True

    def left(self) -> float:
        """Seconds until it is over."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether it has cut connections off, or was about to when something else gave up."""
        return self.passed or not self.left()

    def watch(self, connected: Any) -> None:
        """Have a socket, or whatever has its `fileno`, shut in time. A second descriptor: TLS takes the first one over."""
        with suppress(OSError, ValueError), self._changing:
            watched = socket.socket(fileno=os.dup(connected.fileno()))
            self._watched.append(watched)
            if self.passed:
                watched.shutdown(socket.SHUT_RDWR)

    def _cut(self) -> None:
        with self._changing:
            self.passed = True
            for watched in self._watched:
                with suppress(OSError):
                    watched.shutdown(socket.SHUT_RDWR)

    def start(self) -> None:
        self._timer.start()

    def stop(self) -> None:
        self._timer.cancel()
        with self._changing:
            for watched in self._watched:
                watched.close()
            self._watched.clear()


_present: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def within(seconds: float) -> Iterator[Deadline]:
    """What is connected to, or used, in here is cut off after `seconds`, or when the time of what it lies in is over."""
    outer = _present.get()
    deadline = Deadline(seconds if outer is None else min(seconds, outer.left()))
    token = _present.set(deadline)
    deadline.start()
    try:
        yield deadline
    finally:
        _present.reset(token)
        deadline.stop()


@contextmanager
def aside() -> Iterator[None]:
    """What is connected to, or used, in here is no part of what a deadline around it is for, and not cut off by it."""
    token = _present.set(None)
    try:
        yield
    finally:
        _present.reset(token)


def left() -> float | None:
    """Seconds that are left of the deadline that this code runs under, None where there is none."""
    deadline = _present.get()
    return None if deadline is None else deadline.left()


def watch(connected: Any) -> None:
    """Have a connection cut off by the deadline that this code runs under, if it runs under one."""
    deadline = _present.get()
    if deadline is not None and connected is not None:
        deadline.watch(connected)


# ---- what may be asked -----------------------------------------------------------------------------------------
def _parsed(url: str, schemes: tuple[str, ...] = ()) -> Url:
    """`url` in its parts; raises Refused for one that must not, or cannot, be asked. `schemes` where others than usual are taken."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or len(url) > MAX_URL_CHARACTERS:
        raise Refused(f"a URL has at most {MAX_URL_CHARACTERS} characters of ASCII and neither spaces nor backslashes")
    try:
        parsed = parse_url(url)
    except urllib3.exceptions.LocationParseError:
        raise Refused("it is not a URL") from None
    schemes = schemes or (("https", "http") if settings().allow_private_endpoints else ("https",))
    if parsed.scheme not in schemes or not parsed.host:
        raise Refused(f"the URL must begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and name a host")
    if "@" in _AUTHORITY_ENDS.split(url.partition("://")[2])[0]:  # the parser drops one that is empty
        raise Refused("the URL must not carry a user or a password")
    if parsed.port == 0:
        raise Refused("port 0 cannot be asked")
    literal = _literal(parsed.host)
    if literal is not None:
        screen(literal)
    return parsed


def _literal(host: str) -> str | None:
    """The address that `host` spells out, in its canonical notation; None for a name.

    IPv4 may be written as up to four numbers, decimal, octal or hexadecimal (inet_aton).
    """
    if host.startswith("["):
        return host.strip("[]").partition("%")[0]
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def screen(address: str) -> None:
    """Raise Refused unless connections to this IP address are permitted."""
    if not settings().allow_private_endpoints and not is_public(address):
        raise Refused("it leads to an address that is not public")


# ---- connections -----------------------------------------------------------------------------------------------
class Screened:
    """Mixed into a connection class of urllib3, before it: connects to screened addresses only. Raises Refused."""

    _dns_host: str
    port: int
    timeout: Any
    socket_options: Any

    sock: Any

    def _new_conn(self) -> socket.socket:
        try:
            made = connect(self._dns_host, self.port, self.timeout, tuple(self.socket_options or ()))
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, f"no connection: {error}") from error  # type: ignore[arg-type]  # mixed in
        sys.audit("http.client.connect", self, self._dns_host, self.port)
        return made

    def request(self, *arguments: Any, **named: Any) -> Any:
        watch(self.sock)  # kept from an earlier request; a new one is watched when it is made
        return super().request(*arguments, **named)  # type: ignore[misc]  # mixed in


def connect(host: str, port: int, timeout: Any, options: tuple[Any, ...] = ()) -> socket.socket:
    """A connected socket to one of the addresses of `host`, all of them screened; raises Refused, Unreachable, OSError."""
    addresses = resolved(host, port)
    for *_, address in addresses:
        screen(address[0].partition("%")[0])
    failure: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in addresses[:ADDRESSES_TRIED]:
        deadline = _present.get()
        left = deadline.left() if deadline else None
        if left == 0.0:
            raise TimeoutError("there is no time left to connect")
        bounded = left if left is not None and not (isinstance(timeout, int | float) and timeout < left) else timeout
        try:
            made = _connected(socket.socket(family, kind, protocol), address, bounded, options)
        except OSError as error:
            failure = error
            continue
        if isinstance(timeout, int | float):
            made.settimeout(timeout)
        return made
    raise failure


def _connected(made: socket.socket, address: Any, timeout: Any, options: tuple[Any, ...]) -> socket.socket:
    try:
        for option in options:
            made.setsockopt(*option)
        if isinstance(timeout, int | float):
            made.settimeout(timeout)
        made.connect(address)
        watch(made)
    except BaseException:
        made.close()
        raise
    return made


def resolved(host: str, port: int) -> list[Any]:
    """Every address of `host`, as `socket.getaddrinfo` gives them; raises Unreachable.

    Asked in a thread that is not waited for longer than RESOLVE_TIMEOUT: a name server that is dead is not to be interrupted.
    """
    found: list[Any] = []
    failed: list[Exception] = []

    def ask() -> None:
        try:
            found.extend(socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:  # IDNA refuses labels that are too long or empty
            failed.append(error)

    deadline = _present.get()
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(RESOLVE_TIMEOUT if deadline is None else min(RESOLVE_TIMEOUT, deadline.left()))
    if not found:
        raise Unreachable(f"{host} has no address") from (failed[0] if failed else None)
    return found


class ScreenedHTTPConnection(Screened, urllib3.connection.HTTPConnection):
    """Plain HTTP to screened addresses."""


class ScreenedHTTPSConnection(Screened, urllib3.connection.HTTPSConnection):
    """HTTPS to screened addresses; the certificate is checked for the name that was asked."""


def _connection(url: Url) -> Any:
    host = str(url.host).strip("[]")
    if url.scheme == "http":
        return ScreenedHTTPConnection(host, url.port, timeout=CONNECT_TIMEOUT)
    return ScreenedHTTPSConnection(host, url.port, timeout=CONNECT_TIMEOUT, ssl_context=_trust())


@lru_cache(maxsize=1)
def _trust() -> ssl.SSLContext:
    """The certificate authorities of the system: reading them takes 10 ms."""
    return ssl.create_default_context()
