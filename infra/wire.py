"""HTTP/1.1 on a byte stream (RFC 9112): reads requests strictly and writes answers, for the local server.

`chalice local` parses with the standard library, which loses chunked bodies, believes a Content-Length that is no
number and hides header lines that it cannot read. A request that this module cannot read without doubt raises
Refused, after which the connection has to be closed: where the next request begins is not known.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http.client import responses
from io import BufferedIOBase
from urllib.parse import quote_from_bytes

# API Gateway's largest request (https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html), bytes.
MAX_BODY = 10 * 1024 * 1024
MAX_LINE = 64 * 1024
MAX_HEADERS = 200
MAX_SKIPPED_LINES = 8
CHUNK_LINE = 1024

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_VERSION = re.compile(rb"HTTP/\d\.\d")
_AUTHORITY = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")
# Everything that a request target may hold as it is; the rest (raw UTF-8 above all) is percent-encoded.
_TARGET_SAFE = "".join(chr(code) for code in range(0x21, 0x7F))


class Refused(Exception):
    """A request that gets an answer but reaches no route."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """A request up to its body. `target` begins with a slash; header names are lower case, values in order."""

    method: str
    target: str
    headers: dict[str, list[str]]
    keep_alive: bool
    http_1_0: bool

    def field(self, name: str) -> str:
        """The one value of a header, repeated fields joined as RFC 9110 5.3 allows; empty without it."""
        return ", ".join(self.headers.get(name, ()))


# ---- requests --------------------------------------------------------------------------------------------------
def read_head(stream: BufferedIOBase) -> Head | None:
    """The next request, or None when the client has closed. Raises Refused."""
    line = _request_line(stream)
    if not line:
        return None
    words = line.split(b" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or not _VERSION.fullmatch(words[2]):
        raise Refused(400, "the request line is malformed")
    if words[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise Refused(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    headers = _headers(stream)
    http_1_0, hosts = words[2] == b"HTTP/1.0", len(headers.get("host", ()))
    if hosts > 1 or (hosts == 0 and not http_1_0):
        raise Refused(400, "exactly one Host header is required")
    options = ",".join(headers.get("connection", ())).lower().replace(" ", "").split(",")
    keep_alive = "keep-alive" in options if http_1_0 else "close" not in options
    return Head(words[0].decode(), _target(words[1]), headers, keep_alive, http_1_0)


def read_body(stream: BufferedIOBase, head: Head, go_on: Callable[[], None]) -> bytes | None:
    """The whole body, None without one. `go_on` sends `100 Continue` once it is known that the body is wanted."""
    coding = head.field("transfer-encoding").lower()
    length = _content_length(head)
    if coding and (coding != "chunked" or length is not None or head.http_1_0):
        raise Refused(400, "only a chunked body, and not with a Content-Length too, can be read")
    if not coding and not length:
        return None
    if length is not None and length > MAX_BODY:
        raise too_large()
    if head.headers.get("expect"):
        if head.field("expect").lower() != "100-continue":
            raise Refused(417, "the only expectation that can be met is 100-continue")
        go_on()
    return _chunked(stream) if coding else _exactly(stream, length or 0)


def too_large() -> Refused:
    """What API Gateway answers to a body beyond its limit."""
    return Refused(
        413,
        "the body is larger than a request may carry; send it in chunks (POST /storage/v1/upload/tus or"
        " /storage/upload/resumable; a file: POST /api/uploads), or directly (POST /storage/upload/direct)",
    )


def _request_line(stream: BufferedIOBase) -> bytes:
    for _ in range(MAX_SKIPPED_LINES):  # RFC 9112 2.2: empty lines before a request are ignored
        line = stream.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise Refused(414, "the request line is too long")
        if line.rstrip(b"\r\n") or not line:
            return line.rstrip(b"\r\n")
    raise Refused(400, "the request line is missing")


def _headers(stream: BufferedIOBase) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for _ in range(MAX_HEADERS):
        line = stream.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise Refused(431, "a header is too long")
        if not line.endswith(b"\n"):
            raise ConnectionError("the client closed within the headers")
        line = line.rstrip(b"\r\n")
        if not line:
            return headers
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            raise Refused(400, "a header is malformed")
        headers.setdefault(name.decode().lower(), []).append(value.strip(b" \t").decode("latin-1"))
    raise Refused(431, "there are too many headers")


def _target(raw: bytes) -> str:
    target = _AUTHORITY.sub(b"", raw, count=1)
    if not target.startswith(b"/"):
        target = b"/" + target
    if raw == b"*" or _CONTROL.search(raw):
        raise Refused(400, "the request target is malformed")
    return quote_from_bytes(target, _TARGET_SAFE)


def _content_length(head: Head) -> int | None:
    values = set(head.headers.get("content-length", ()))
    if not values:
        return None
    value = values.pop()
    if values or not value.isascii() or not value.isdigit():
        raise Refused(400, "Content-Length must be one whole number")
    digits = value.lstrip("0")
    if len(digits) > len(str(MAX_BODY)):
        raise too_large()  # and not an int() of as many digits as the client likes
    return int(digits or "0")


def _exactly(stream: BufferedIOBase, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ConnectionError("the client closed within the body")
    return data


def _chunked(stream: BufferedIOBase) -> bytes:
    parts, total = [], 0
    while size := _chunk_size(stream):
        total += size
        if total > MAX_BODY:
            raise too_large()
        parts.append(_exactly(stream, size))
        if stream.readline(3) not in (b"\r\n", b"\n"):
            raise Refused(400, "a chunk does not end where its size says")
    _headers(stream)  # trailers carry nothing that API Gateway passes on
    return b"".join(parts)


def _chunk_size(stream: BufferedIOBase) -> int:
    line = stream.readline(CHUNK_LINE + 1)
    if not line:
        raise ConnectionError("the client closed within the body")
    size = _CHUNK_SIZE.fullmatch(line.rstrip(b"\r\n"))
    if not size or not line.endswith(b"\n"):
        raise Refused(400, "a chunk size is malformed")
    return int(size[1], 16)


# ---- answers ---------------------------------------------------------------------------------------------------
def answer_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Status line and headers; raises ValueError for a value that would break out of its line."""
    lines = [f"HTTP/1.1 {status} {responses.get(status, '')}", f"Date: {_date(int(time.time()))}"]
    lines += [f"{name}: {value}" for name, value in headers]
    text = "\r\n".join(lines) + "\r\n\r\n"
    if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1:
        raise ValueError("a header of the answer contains a line break")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def flatten(headers: dict[str, str | Sequence[str]]) -> list[tuple[str, str]]:
    """Name and value pairs of headers of which some have several values."""
    pairs: list[tuple[str, str]] = []
    for name, value in headers.items():
        pairs += [(name, value)] if isinstance(value, str) else [(name, each) for each in value]
    return pairs


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
