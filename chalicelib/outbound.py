"""Requests to addresses that somebody else has chosen: key sets of tenants, endpoints of their storages.

A name is resolved when a connection is made, every address that it has is judged, and the socket is connected to
one of those very addresses: an answer of the name server that changes in between leads nowhere. Judged by the
number, an address is the same in every notation. Refused is all that is not public, whatever IPv6 wraps it in,
unless `STOWAGE_ALLOW_PRIVATE_ENDPOINTS` is on (the local run), which also permits plain HTTP.
"""

import http.client
import ipaddress
import re
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from threading import Event, Timer
from typing import Any

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
# Of a name's addresses, so that one with many dead ones does not outlast the function.
ADDRESSES_TRIED = 2
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close", "User-Agent": "stowage"}

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


def fetch(url: str, max_bytes: int) -> bytes:
    """What a GET of `url` answers, if that is 200 and at most `max_bytes` long.

    Raises Refused for an address that is not public and for a redirect, Unreachable for everything else.
    """
    parsed = _parsed(url)
    connection = _connection(parsed)
    late = Event()
    try:
        connection.connect()
        with _cut_off(connection.sock, late):
            connection.timeout = READ_TIMEOUT
            connection.request("GET", parsed.request_uri, headers=HEADERS, preload_content=False, decode_content=False)
            body = _body(connection.getresponse(), max_bytes)
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        raise Unreachable(f"{parsed.host} does not answer as it should: {type(error).__name__}") from error
    finally:
        connection.close()
    if late.is_set():  # what ends with its connection looks whole
        raise Unreachable(f"{parsed.host} takes too long")
    return body


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


@contextmanager
def _cut_off(connected: socket.socket, late: Event) -> Iterator[None]:
    """Shut `connected` after WHOLE_TIMEOUT and set `late`: a socket's own timeout begins anew with each byte."""

    def cut() -> None:
        late.set()
        with suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    timer = Timer(WHOLE_TIMEOUT, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _parsed(url: str) -> Url:
    """`url` in its parts; raises Refused for one that must not, or cannot, be asked."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or len(url) > MAX_URL_CHARACTERS:
        raise Refused(f"a URL has at most {MAX_URL_CHARACTERS} characters of ASCII and neither spaces nor backslashes")
    try:
        parsed = parse_url(url)
    except urllib3.exceptions.LocationParseError:
        raise Refused("it is not a URL") from None
    schemes = ("https", "http") if settings().allow_private_endpoints else ("https",)
    if parsed.scheme not in schemes or not parsed.host:
        raise Refused("the URL must begin with https:// and name a host")
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

    def _new_conn(self) -> socket.socket:
        addresses = resolved(self._dns_host, self.port)
        for *_, address in addresses:
            screen(address[0].partition("%")[0])
        failure: OSError = OSError("the name has no address")
        for family, kind, protocol, _, address in addresses[:ADDRESSES_TRIED]:
            try:
                return self._connected(socket.socket(family, kind, protocol), address)
            except OSError as error:
                failure = error
        raise urllib3.exceptions.NewConnectionError(self, f"no connection: {failure}") from failure  # type: ignore[arg-type]  # mixed in

    def _connected(self, made: socket.socket, address: Any) -> socket.socket:
        try:
            for option in self.socket_options or ():
                made.setsockopt(*option)
            if isinstance(self.timeout, int | float):
                made.settimeout(self.timeout)
            made.connect(address)
        except BaseException:
            made.close()
            raise
        sys.audit("http.client.connect", self, self._dns_host, self.port)
        return made


def resolved(host: str, port: int) -> list[Any]:
    """Every address of `host`, as `socket.getaddrinfo` gives them; raises Unreachable."""
    try:
        return socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # IDNA refuses labels that are too long or empty
        raise Unreachable(f"{host} has no address") from error


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
