"""Types: what is declared, what is allowed, what bytes prove, and what a browser is given."""

import base64
import io
import json
import zipfile
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import content
from chalicelib.errors import InvalidRequest, UnsupportedType


def zipped(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, "application/epub+zip" if name == "mimetype" else "<xml/>")
    return made.getvalue()


DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89"
APNG = PNG + b"\0\0\0\x08acTL\0\0\0\1\0\0\0\0"
M4A = b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0"
SAMPLES = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0",
    "image/gif": b"GIF89a\1\0\1\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\4\1\0\0\0\0",
    "image/webp": b"RIFF\x1a\0\0\0WEBPVP8L\r\0\0\0/\0\0\0\x10\7\x10\x11\x11\x88\x88\xfe\7\0",
    "image/bmp": b"BM\x1e\0\0\0\0\0\0\0\x1a\0\0\0\x0c\0\0\0\1\0\1\0\1\0\x18\0\0\0\xff\0",
    "image/tiff": b"II*\0\x08\0\0\0\x0e\0\0\1\4\0\1\0\0\0",
    "image/heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "application/pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "application/zip": zipped("a.txt"),
    DOCX: zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml"),
    "application/epub+zip": zipped("mimetype"),
    "application/gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\3+\1\0",
    "video/mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    "video/webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84webmB\x87\x81\2",
    "audio/ogg": b"OggS\0\2\0\0\0\0\0\0\0\0\x01\x02\x03\x04\0\0\0\0\0\0\0\0\1\x1e\1vorbis",
    "audio/x-wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0",
    "audio/mpeg": b"ID3\3\0\0\0\0\0\x21TSSE",
}  # fmt: skip


def bucket(*patterns: str) -> Any:
    return SimpleNamespace(name="b", allowed_mime_types=list(patterns))


# ---- what is declared ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("header", "name", "wanted"),
    [
        ("image/png", "a.txt", "image/png"),
        ("  image/png ", "a", "image/png"),
        ("Image/PNG", "a", "image/png"),
        ("text/html; Charset=UTF-8", "a", "text/html; Charset=UTF-8"),
        ("TEXT/plain;format=flowed", "a", "text/plain;format=flowed"),
        ("", "a.png", "image/png"),
        ("", "folder.png/a", "application/octet-stream"),
        ("", "A.PDF", "application/pdf"),
        ("", "no-suffix", "application/octet-stream"),
        ("", "a.unknown-suffix", "application/octet-stream"),
        ("", "http://x/a.png", "image/png"),
        ("", "data:text/html,a", "application/octet-stream"),
        ("", "[a].png", "image/png"),
        ("", "ü b+c%2F.json", "application/json"),
        ("application/x-www-form-urlencoded", "a.png", "image/png"),
        ("Application/X-WWW-Form-Urlencoded", "a", "application/octet-stream"),
    ],
)
def test_the_declared_type_else_that_of_the_name(header: str, name: str, wanted: str) -> None:
    assert content.declared_type(header, name) == wanted


@pytest.mark.parametrize("name", ["notes.txt.gz", "page.html.gz", "table.csv.bz2"])
def test_compressed_bytes_are_not_typed_as_what_they_hold(name: str) -> None:
    """They are stored and served as they are, without a Content-Encoding."""
    assert content.declared_type("", name) not in ("text/plain", "text/html", "text/csv")


@pytest.mark.parametrize(
    "text",
    [
        "", "text", "text/", "/plain", "text/plain/more", "text/pl ain", "text plain", "text/plain;", "text/plain; charset", "text/plain\n",
        "text/plain\r\nX-Evil: 1", "text/plain; a=b\n", 'text/plain; a="b\n"', "tëxt/plain", 'text/plain; a="é"', "text/plain; a=é",
        "a/" + "b" * 254, "text/plain,text/html", "image/*;", "\ud800/a",
    ],
)  # fmt: skip
def test_what_is_not_a_media_type_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        content.check_type(text)


def test_the_longest_type_has_255_characters() -> None:
    assert content.check_type("a/" + "b" * 253)


@pytest.mark.parametrize("pattern", ["image/png", "image/*", "*/*", "IMAGE/*", "application/vnd.a+b", "a/" + "b" * 253])
def test_a_pattern_is_a_type_or_a_family(pattern: str) -> None:
    assert content.check_pattern(pattern) == pattern.lower()


@pytest.mark.parametrize(
    "pattern", ["", "*", "*/png", "image", "image/", "image/*x", "image/png; q=1", " image/png", "a/" + "b" * 254, "é/*"]
)
def test_what_is_not_a_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest):
        content.check_pattern(pattern)


class Counting:
    """A pattern that tells the length of what it is run on."""

    def __init__(self, pattern: Any) -> None:
        self.pattern = pattern
        self.lengths: list[int] = []

    def fullmatch(self, text: str) -> Any:
        self.lengths.append(len(text))
        return self.pattern.fullmatch(text)


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "a/b" + ";a=b" * 25_000, "a/b;" + " " * 100_000, 'a/b;a="' + "x" * 100_000, "a/b" + "; " * 50_000]
)
def test_the_expression_for_types_never_sees_a_long_text(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Backtracking is bounded by 255 characters, whatever is sent."""
    counting = Counting(content._MEDIA_TYPE)
    monkeypatch.setattr(content, "_MEDIA_TYPE", counting)
    for check in (content.check_type, lambda text: content.declared_type(text, "a")):
        with pytest.raises(InvalidRequest):
            check(text)
    assert all(length <= content.MAX_TYPE_CHARACTERS for length in counting.lengths)


@pytest.mark.parametrize("text", ["a/b" + ";a=b" * 62 + ";", "a/b" + " " * 252, "a/b; a=" + "b" * 240 + " x", 'a/b;a="' + "b" * 240])
def test_the_worst_that_fits_is_refused(text: str) -> None:
    assert len(text) <= content.MAX_TYPE_CHARACTERS
    with pytest.raises(InvalidRequest):
        content.check_type(text)


# ---- user metadata -------------------------------------------------------------------------------------------------
def test_metadata_is_compact_json() -> None:
    assert content.metadata_text({"a": [1, "ü"]}) == '{"a":[1,"ü"]}'
    assert content.metadata_text(None) is None
    assert content.metadata_text({}) == "{}"


def test_metadata_has_at_most_4_kb_of_utf8() -> None:
    room = content.MAX_METADATA_BYTES - len('{"a":""}')
    assert len(content.metadata_text({"a": "x" * room}) or "") == 4096
    for value in ("x" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(InvalidRequest):
            content.metadata_text({"a": value})


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20) | st.none() | st.booleans(), max_size=5))
def test_metadata_is_kept_whole(metadata: dict[str, Any]) -> None:
    assert json.loads(content.metadata_text(metadata) or "") == metadata


# ---- digests -------------------------------------------------------------------------------------------------------
@given(st.sampled_from([16, 20, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_a_digest_is_taken_in_hex_and_in_base64(digest: bytes) -> None:
    wanted = base64.b64encode(digest).decode()
    for text in (digest.hex(), digest.hex().upper(), wanted):
        assert content.digest_base64(text, len(digest)) == wanted
    assert content.hex_of(wanted) == digest.hex()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "0" * 63,
        "0" * 65,
        "g" * 64,
        " " * 64,
        "00 " * 21 + "0",
        "A" * 42 + "==",
        "A" * 44,
        "A" * 43,
        "é" * 44,
        "A" * 43 + "=\n",
        "-" * 43 + "=",
    ],
)
def test_what_is_no_digest_of_its_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="32 bytes"):
        content.digest_base64(text, 32)


# ---- sniffing ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", SAMPLES, ids=str)
def test_known_formats_are_recognised_from_512_bytes(kind: str) -> None:
    assert content.sniff(SAMPLES[kind] + bytes(1000)) == kind


@pytest.mark.parametrize("start", [b"", b"hello", b"\0" * 512, b"<svg>", b"{}", "日本語".encode(), b"\xff\xfe"])
def test_what_is_not_recognised_is_nothing(start: bytes) -> None:
    assert content.sniff(start) is None


def test_only_the_first_512_bytes_count() -> None:
    assert content.sniff(b"\0" * 512 + b"%PDF-1.7") is None


@pytest.mark.parametrize("kind", SAMPLES, ids=str)
def test_honest_bytes_pass(kind: str) -> None:
    content.check_allowed(bucket(kind), kind, SAMPLES[kind])
    content.check_allowed(bucket("*/*"), f"{kind}; a=b", SAMPLES[kind])


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("image/png", "image/jpeg"), ("image/jpeg", "application/pdf"), ("text/plain", "image/png"), ("application/pdf", "image/gif"),
        ("image/png", "application/zip"), ("video/mp4", "image/png"), ("image/webp", "audio/x-wav"), ("text/html", "video/mp4"),
        ("image/gif", "application/gzip"), ("image/svg+xml", "image/png"), ("application/json", "application/pdf"),
    ],
)  # fmt: skip
def test_bytes_that_are_plainly_something_else_are_refused(declared: str, kind: str) -> None:
    with pytest.raises(UnsupportedType) as refused:
        content.check_allowed(bucket(declared), declared, SAMPLES[kind])
    assert refused.value.details == {"detected": kind}


@pytest.mark.parametrize(
    ("declared", "start"),
    [
        ("text/plain", b""), ("image/png", b""), ("image/png", b"hello"), ("image/svg+xml", b"<svg/>"), ("application/x-own", b"\0\1\2"),
        ("application/octet-stream", PNG),
    ],
)  # fmt: skip
def test_what_cannot_be_recognised_passes_on_its_declared_type(declared: str, start: bytes) -> None:
    content.check_allowed(bucket(declared), declared, start)


@pytest.mark.parametrize(
    ("declared", "start"),
    [
        (DOCX, SAMPLES["application/zip"]),
        ("application/java-archive", SAMPLES["application/zip"]),
        ("application/vnd.android.package-archive", zipped("AndroidManifest.xml")),
        ("application/x-zip-compressed", SAMPLES["application/zip"]),
        ("application/zip", SAMPLES[DOCX]),
        ("application/x-gzip", SAMPLES["application/gzip"]),
        ("application/x-tar", SAMPLES["application/gzip"]),
        ("image/svg+xml", SAMPLES["application/gzip"]),
        ("audio/mp4", SAMPLES["video/mp4"]),
        ("audio/mp4", M4A),
        ("audio/x-m4a", M4A),
        ("audio/webm", SAMPLES["video/webm"]),
        ("video/x-matroska", SAMPLES["video/webm"]),
        ("video/ogg", SAMPLES["audio/ogg"]),
        ("audio/opus", SAMPLES["audio/ogg"]),
        ("audio/wav", SAMPLES["audio/x-wav"]),
        ("audio/vnd.wave", SAMPLES["audio/x-wav"]),
        ("audio/mp3", SAMPLES["audio/mpeg"]),
        ("image/jpg", SAMPLES["image/jpeg"]),
        ("image/x-ms-bmp", SAMPLES["image/bmp"]),
        ("image/heif", SAMPLES["image/heic"]),
        ("image/x-adobe-dng", SAMPLES["image/tiff"]),
        ("image/png", APNG),
        ("audio/flac", b"fLaC\0\0\0\x22"),
        ("audio/aiff", b"FORM\0\0\0\x2eAIFFCOMM"),
        ("video/avi", b"RIFF\0\0\0\0AVI LIST"),
        ("audio/x-ms-wma", bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")),
        ("font/woff", b"wOFF\0\1\0\0\0\0\1\0"),
        ("font/woff2", b"wOF2\0\1\0\0\0\0\1\0"),
        ("font/ttf", b"\0\1\0\0\0\x0c\0\x80"),
        ("font/otf", b"OTTO\0\x0c\0\x80"),
        ("application/vnd.rar", b"Rar!\x1a\7\0"),
        ("application/vnd.sqlite3", b"SQLite format 3\0"),
        ("text/rtf", b"{\\rtf1\\ansi"),
        ("application/vnd.microsoft.portable-executable", b"MZ\x90\0\3\0\0\0"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value[:8]),
)
def test_another_honest_name_of_the_format_passes(declared: str, start: bytes) -> None:
    content.check_allowed(bucket(declared), declared, start)


@pytest.mark.parametrize("text", ["BMW 320i, red", "MZ is a label", "ID3 tags explained", "FWS,a,b\n1,2,3\n", "GIF is a format"])
@pytest.mark.parametrize("declared", ["text/plain", "text/csv"])
def test_text_that_begins_like_a_format_is_text(declared: str, text: str) -> None:
    """Text cannot be recognised, so it passes on its declared type (CONTRACT): a few letters prove nothing."""
    content.check_allowed(bucket(declared), declared, text.encode())


# ---- what a bucket takes -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("patterns", "declared"),
    [
        (["image/*"], "image/png"), (["image/*"], "image/svg+xml"), (["*/*"], "x/y"), (["image/png"], "image/png; a=b"),
        (["image/jpeg"], "image/jpg"), (["image/jpg"], "image/jpeg"), (["text/plain", "image/*"], "text/plain"),
        (["image/png"], "IMAGE/PNG"),
    ],
)  # fmt: skip
def test_a_type_that_a_bucket_names_is_taken(patterns: list[str], declared: str) -> None:
    content.check_allowed(bucket(*patterns), declared, b"")


@pytest.mark.parametrize(
    ("patterns", "declared"),
    [
        (["image/*"], "imagery/png"),
        (["image/*"], "text/plain"),
        (["image/png"], "image/pngx"),
        ([], "image/png"),
        (["text/*"], "image/png; text/plain"),
    ],
)
def test_another_type_is_refused_with_those_that_are_taken(patterns: list[str], declared: str) -> None:
    with pytest.raises(UnsupportedType) as refused:
        content.check_allowed(bucket(*patterns), declared, b"")
    assert refused.value.details == {"allowed": patterns}


def test_a_bucket_without_a_list_takes_anything_unseen() -> None:
    content.check_allowed(SimpleNamespace(name="b", allowed_mime_types=None), "image/png", b"%PDF-1.7")  # type: ignore[arg-type]


# ---- what a browser is given ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "kind", ["text/javascript", "application/javascript", "application/wasm", "TEXT/JavaScript; charset=utf-8", "text/ecmascript"]
)
def test_code_is_served_as_plain_bytes(kind: str) -> None:
    assert content.served_type(kind) == content.UNKNOWN


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "image/png", "text/html", "application/json"])
def test_other_types_are_served_as_they_are(kind: str) -> None:
    assert content.served_type(kind) == kind


@pytest.mark.parametrize(
    "kind", ["image/png", "IMAGE/PNG", "image/jpg", "video/mp4", "audio/anything", "application/pdf", "text/plain; charset=x"]
)
def test_harmless_types_are_shown_in_place(kind: str) -> None:
    assert content.is_inline(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "text/html", "image/svg+xml", "application/xml", "text/xml", "application/xhtml+xml", "text/javascript", "application/wasm",
        "text/css",
        "application/x-shockwave-flash", "application/octet-stream", "", "image/png/x", "multipart/x-mixed-replace", "text/html;image/png",
    ],
)  # fmt: skip
def test_everything_else_is_a_download(kind: str) -> None:
    assert not content.is_inline(kind)
