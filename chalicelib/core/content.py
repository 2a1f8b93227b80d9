"""What an object's bytes are said to be, what they look like, and how safely a browser may be given them."""

import base64
import json
import re
from functools import cache
from mimetypes import MimeTypes
from typing import Any

from chalicelib.errors import InvalidRequest, UnsupportedType
from chalicelib.tables.buckets import Bucket

SNIFFED_BYTES = 512
MAX_METADATA_BYTES = 4096
MAX_METADATA_DEPTH = 32
UNKNOWN = "application/octet-stream"
MAX_TYPE_CHARACTERS = 255

# RFC 6838 §4.2 for the names, RFC 9110 §8.3.1 for the whole: type "/" subtype, then parameters.
_NAME = r"[0-9A-Za-z][0-9A-Za-z!#$&^_.+-]*"
_VALUE = r"""(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|"[^"\\\x00-\x1f\x7f]*")"""
_MEDIA_TYPE = re.compile(rf"({_NAME}/{_NAME})(?: *; *[0-9A-Za-z_.-]+={_VALUE})*")
_PATTERN = re.compile(rf"\*/\*|{_NAME}/(?:\*|{_NAME})")
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz", "compress": "application/x-compress"}

# Other names under which the types that are recognised are declared.
_ALIASES = {
    "application/font-sfnt": "font/ttf",
    "application/font-woff": "font/woff",
    "application/vnd.microsoft.portable-executable": "application/x-msdownload",
    "application/vnd.rar": "application/x-rar-compressed",
    "application/vnd.sqlite3": "application/x-sqlite3",
    "application/x-gzip": "application/gzip",
    "application/x-rar": "application/x-rar-compressed",
    "application/x-zip-compressed": "application/zip",
    "audio/aiff": "audio/x-aiff",
    "audio/flac": "audio/x-flac",
    "audio/mp3": "audio/mpeg",
    "audio/vnd.wave": "audio/x-wav",
    "audio/wav": "audio/x-wav",
    "audio/wave": "audio/x-wav",
    "font/otf": "font/ttf",
    "font/sfnt": "font/ttf",
    "font/woff2": "font/woff",
    "image/apng": "image/png",
    "image/jp2": "image/jpx",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/vnd.microsoft.icon": "image/x-icon",
    "image/x-bmp": "image/bmp",
    "image/x-ms-bmp": "image/bmp",
    "text/rtf": "application/rtf",
    "video/avi": "video/x-msvideo",
}
# Containers: bytes that look like the one may honestly be declared as any of the others.
_FAMILIES = (
    (("application/zip", "application/epub+zip", "application/vnd.o"), ("application/",)),
    (("application/gzip",), ("application/", "image/svg+xml")),
    (("application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"), ("application/",)),
    (
        ("video/", "audio/ogg", "audio/mp4"),
        ("audio/", "video/", "application/mp4", "application/ogg", "image/heic", "image/heif", "image/avif"),
    ),
    (("image/heic", "image/avif"), ("image/",)),
    (("image/tiff",), ("image/",)),
    (("audio/mpeg", "audio/aac"), ("audio/",)),
)
# What a text may hold of the characters that are not printed: tab, line feed, form feed, carriage return, escape.
_TEXT = re.compile(rb"[\t\n\f\r\x1b\x20-\x7e\x80-\xff]*")

# Formats that are text themselves.
_TEXTUAL = frozenset({"application/pdf", "application/postscript", "application/rtf"})

_INLINE_FAMILIES = ("audio/", "video/")
_INLINE = frozenset(
    {
        "application/json",
        "application/pdf",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/x-icon",
        "text/csv",
        "text/plain",
    }
)
# Types that a page could load as code from here even though the answer is an attachment
# (mimesniff.spec.whatwg.org#javascript-mime-type, and WebAssembly).
_CODE = frozenset(
    {
        "application/ecmascript",
        "application/javascript",
        "application/wasm",
        "application/x-ecmascript",
        "application/x-javascript",
        "text/ecmascript",
        "text/javascript",
        "text/jscript",
        "text/livescript",
        "text/x-ecmascript",
        "text/x-javascript",
        *(f"text/javascript1.{minor}" for minor in range(6)),
    }
)


@cache
def _types_by_name() -> MimeTypes:
    # Made when first needed: it costs 20 ms of CPU, and downloads do without.
    return MimeTypes()


def declared_type(header: str, name: str) -> str:
    """The type an upload is stored under: the declared one, else the one its name suggests.

    curl sends `application/x-www-form-urlencoded` when nothing is declared, so that counts as nothing.
    Raises InvalidRequest when what is declared is not a media type.
    """
    declared = header.strip()
    if declared and declared.lower() != "application/x-www-form-urlencoded":
        return check_type(declared)
    kind, compression = _types_by_name().guess_type(f"/{name}")
    return _COMPRESSED.get(compression, UNKNOWN) if compression else kind or UNKNOWN


def check_type(text: str) -> str:
    """`text` if it is a media type, with its type and subtype in lower case; else InvalidRequest."""
    match = _MEDIA_TYPE.fullmatch(text) if len(text) <= MAX_TYPE_CHARACTERS else None
    if not match or not text.isascii():
        raise InvalidRequest("the content type is not of the form 'type/subtype'")
    return match[1].lower() + text[len(match[1]) :]


def check_pattern(pattern: str) -> str:
    """An entry of a bucket's allowed types (`image/png`, `image/*`), in lower case; raises InvalidRequest."""
    if not _PATTERN.fullmatch(pattern) or len(pattern) > MAX_TYPE_CHARACTERS:
        raise InvalidRequest(f"'{pattern[:80]}' is neither a content type nor of the form 'image/*'")
    return pattern.lower()


def metadata_text(metadata: dict[str, Any] | None) -> str | None:
    """User metadata as it is stored: compact JSON of at most 4 KB; raises InvalidRequest."""
    if metadata is None:
        return None
    if _depth(metadata) > MAX_METADATA_DEPTH:
        raise InvalidRequest(f"user metadata is nested at most {MAX_METADATA_DEPTH} deep")
    text = json.dumps(metadata, separators=(",", ":"), ensure_ascii=False)
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"user metadata has at most {MAX_METADATA_BYTES} bytes of JSON")
    return text


def digest_base64(text: str, size: int) -> str:
    """A digest of `size` bytes, given in base64 or in hex, in base64; raises InvalidRequest."""
    try:
        digest = bytes.fromhex(text) if len(text) == 2 * size else base64.b64decode(text, validate=True)
    except ValueError:
        digest = b""
    if len(digest) != size:
        raise InvalidRequest(f"a digest of {size} bytes is given in base64 or in hex")
    return base64.b64encode(digest).decode()


def hex_of(digest: str) -> str:
    """A digest in base64, in hex."""
    return base64.b64decode(digest).hex()


def _depth(value: Any) -> int:
    """How many containers lie in each other, counted no further than matters."""
    depth, level = 0, [value]
    while level and depth <= MAX_METADATA_DEPTH:
        inner = [list(each.values()) if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        depth += bool(inner)
        level = [each for values in inner for each in values]
    return depth


def check_allowed(bucket: Bucket, content_type: str, start: bytes) -> None:
    """Raise UnsupportedType when the declared type, or what the bytes plainly are, is not among the bucket's.

    `start` is the first 512 bytes. What cannot be recognised (text, nothing, an unknown format) passes on its
    declared type; only a positive conflict is refused.
    """
    if bucket.allowed_mime_types is None:
        return
    if not _matches(content_type, bucket.allowed_mime_types):
        raise UnsupportedType(f"bucket {bucket.name} does not take {content_type}", allowed=bucket.allowed_mime_types)
    seen = sniff(start)
    if seen and _conflict(essence(content_type), essence(seen)):
        raise UnsupportedType(f"the bytes are {seen}, not {content_type}", detected=seen)


def sniff(start: bytes) -> str | None:
    """The type that the first bytes prove, or None. Text proves nothing, even if it begins as `BM` or `GIF` would."""
    import filetype

    start = start[:SNIFFED_BYTES]
    proven: str | None = filetype.guess_mime(start) if start else None
    return None if proven and proven not in _TEXTUAL and _TEXT.fullmatch(start) else proven


def essence(content_type: str) -> str:
    """A media type without its parameters, under its usual name."""
    bare = content_type.partition(";")[0].strip().lower()
    return _ALIASES.get(bare, bare)


def _matches(content_type: str, patterns: list[str]) -> bool:
    bare = content_type.partition(";")[0].strip().lower()
    family = bare.partition("/")[0] + "/*"
    return any(pattern in ("*/*", family) or essence(pattern) == essence(bare) for pattern in patterns)


def _conflict(declared: str, seen: str) -> bool:
    if declared in (seen, UNKNOWN):
        return False
    return not any(seen.startswith(kinds) and declared.startswith(honest) for kinds, honest in _FAMILIES)


def served_type(content_type: str) -> str:
    """The type an answer carries: code that a page could load is served as plain bytes."""
    return UNKNOWN if essence(content_type) in _CODE else content_type


def is_inline(content_type: str) -> bool:
    """Whether a browser may show it in place; everything else is a download."""
    bare = essence(content_type)
    return bare in _INLINE or bare.startswith(_INLINE_FAMILIES)
