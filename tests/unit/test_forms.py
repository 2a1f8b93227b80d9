"""The one file of a multipart form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import InvalidRequest
from chalicelib.surfaces.forms import single_file

BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts: tuple[str, bytes], boundary: str = BOUNDARY, end: str = "--\r\n") -> bytes:
    body = b"".join(f"--{boundary}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n" for headers, content in parts)
    return body + f"--{boundary}{end}".encode()


def file(name: str = "a.txt", kind: str = "text/plain") -> str:
    return f'Content-Disposition: form-data; name="file"; filename="{name}"' + (f"\r\nContent-Type: {kind}" if kind else "")


FIELD = ('Content-Disposition: form-data; name="note"', b"a field")


def test_the_file_and_its_type_are_found() -> None:
    assert single_file(TYPE, form((file(), b"hello"))) == (b"hello", "text/plain")


def test_a_file_without_type_has_none() -> None:
    assert single_file(TYPE, form((file(kind=""), b"hello")))[0] == b"hello"
    assert single_file(TYPE, form((file(kind=""), b"hello")))[1] in ("", "application/octet-stream", "text/plain")


def test_fields_beside_it_are_passed_over() -> None:
    assert single_file(TYPE, form(FIELD, (file("ü.png", "image/png"), b"\x89PNG"), FIELD)) == (b"\x89PNG", "image/png")


@given(st.binary(max_size=500))
def test_any_bytes_come_out_as_they_went_in(body: bytes) -> None:
    assert single_file(TYPE, form((file(), body)))[0] == body


def test_a_file_of_4_mb_is_whole() -> None:
    body = bytes(range(256)) * 16_000
    assert single_file(TYPE, form((file(), body)))[0] == body


@pytest.mark.parametrize("body", [b"\r\n", b"--", f"\r\n--{BOUNDARY[:-1]}".encode(), b"\r\n\r\n--\r\n"])
def test_what_looks_like_a_boundary_is_kept(body: bytes) -> None:
    assert single_file(TYPE, form((file(), body)))[0] == body


@pytest.mark.parametrize("boundary", ["x", "a'()+_,-./:=?b", "b" * 70])
def test_a_boundary_may_be_quoted(boundary: str) -> None:
    assert single_file(f'multipart/form-data; boundary="{boundary}"', form((file(), b"x"), boundary=boundary))[0] == b"x"


def test_the_type_may_be_written_in_any_case() -> None:
    assert single_file(TYPE.replace("multipart/form-data", "Multipart/Form-Data"), form((file(), b"x")))[0] == b"x"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (TYPE, form(FIELD)),
        (TYPE, form()),
        (TYPE, form((file(), b"1"), (file(), b"2"))),
        (TYPE, b""),
        (TYPE, b"no form at all"),
        (TYPE, form((file(), b"hello"), boundary="another")),
        (TYPE, form((file(), b"hello"))[:60]),
        (TYPE, form((file(), b"hello"))[:-30]),
        (TYPE, form((file(), b"hello"))[:-4]),
        ("multipart/form-data", form((file(), b"hello"))),
        ("multipart/form-data; boundary=", form((file(), b"hello"))),
        ("multipart/form-data; boundary=" + "b" * 300, form((file(), b"hello"))),
        (TYPE, form(("Broken Header Line", b"x"))),
        (TYPE, form((file() + "\r\nContent-Transfer-Encoding: base64", b"!!!"))),
    ],
)  # fmt: skip
def test_anything_but_one_whole_file_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        single_file(content_type, body)


@given(st.binary(max_size=200), st.text(max_size=40))
def test_garbage_is_refused_and_never_crashes(body: bytes, tail: str) -> None:
    with pytest.raises(InvalidRequest):
        single_file("multipart/form-data; " + tail, body)
    with pytest.raises(InvalidRequest):
        single_file(TYPE, f"--{BOUNDARY}\r\n".encode() + body)
