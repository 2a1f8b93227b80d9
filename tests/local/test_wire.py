"""The HTTP reader against any bytes at all."""

from contextlib import suppress
from io import BytesIO
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import wire

FRAGMENTS = [
    *[b"GET", b"PUT", b" ", b"/", b"//", b"a", b"%2F", b"?x=%FF", b"*", b"http://h/p", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/9.9"],
    *[
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b":",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 05\r\n",
        b"content-length: -1\r\n",
    ],
    *[b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"X: y\r\n z\r\n"],
    *[b"5\r\nhello\r\n", b"0\r\n\r\n", b"hello", b"ffffffffffffffff\r\n", b"\x00", b"\xff", "ü".encode()],
]
REQUESTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=8)), max_size=30).map(b"".join)


def no_answer() -> None:
    """Stands for `100 Continue`."""


def read(stream: BytesIO) -> tuple[wire.Head, bytes | None] | None:
    head = wire.read_head(stream)
    return None if head is None else (head, wire.read_body(stream, head, no_answer))


@given(REQUESTS)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    found = None
    with suppress(wire.Refused, ConnectionError):
        found = read(BytesIO(data))
    assert found is None or (found[0].target.isascii() and found[0].target.startswith("/"))


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=10), st.binary(max_size=20))
def test_a_body_ends_where_it_should_however_it_is_framed(body: bytes, cuts: list[int], following: bytes) -> None:
    pieces, rest = [], body
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    chunks = b"".join(b"%X\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, rest] if piece) + b"0\r\n\r\n"
    chunked = BytesIO(b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n" + chunks + following)
    sized = BytesIO(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 00%d\r\n\r\n" % len(body) + body + following)
    for stream in (chunked, sized):
        found = read(stream)
        assert found is not None
        assert (found[1] or b"", stream.read()) == (body, following)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1))
def test_raw_unicode_in_a_target_means_its_utf_8(name: str) -> None:
    stream = BytesIO(f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    head = wire.read_head(stream)
    assert head is not None
    assert unquote_to_bytes(head.target) == unquote_to_bytes(f"/{name}")


def test_a_content_length_of_many_digits_is_too_large_and_not_computed() -> None:
    with pytest.raises(wire.Refused) as refused:
        read(BytesIO(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n" % (b"9" * 60_000)))
    assert refused.value.status == 413
