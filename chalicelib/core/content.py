"""What an object's bytes are said to be, what they look like, and how safely a browser may be given them."""

import json
import re
from functools import cache
from mimetypes import MimeTypes
from typing import Any

from chalicelib.errors import InvalidRequest, UnsupportedType
from chalicelib.tables.buckets import Bucket

SNIFFED_BYTES = 512
MAX_METADATA_BYTES = 4096
UNKNOWN = "application/octet-stream"
MAX_TYPE_CHARACTERS = 255

# RFC 9110 §8.3.1: type "/" subtype, then parameters.
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE = re.compile(rf'({_NAME}/{_NAME})(?:\s*;\s*{_NAME}=(?:{_NAME}|"[^"\\\x00-\x1f\x7f]*"))*')
_PATTERN = re.compile(rf"\*/\*|{_NAME}/(?:\*|{_NAME})")

# Types that one container format carries: bytes that look like the first may honestly be any of the others.
_CONTAINERS = {
    "application/zip": ("application/vnd.", "application/java-archive", "application/epub+zip", "application/x-", "model/"),
    "application/gzip": ("application/", "image/svg+xml"),
    "application/x-ole-storage": ("application/", "image/vnd."),
    "application/xml": ("application/", "text/", "image/svg+xml"),
    "video/mp4": ("audio/", "video/", "application/mp4", "image/heic", "image/heif", "image/avif"),
    "video/quicktime": ("audio/", "video/"),
    "video/x-matroska": ("audio/", "video/"),
    "video/webm": ("audio/", "video/"),
    "video/x-m4v": ("audio/", "video/"),
    "video/x-ms-asf": ("audio/", "video/"),
    "audio/ogg": ("audio/", "video/", "application/ogg"),
    "audio/m4a": ("audio/", "video/"),
    "image/tiff": ("image/",),
    "image/heic": ("image/",),
}
_ALIASES = {
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip",
    "audio/mp3": "audio/mpeg",
    "audio/wav": "audio/x-wav",
    "audio/wave": "audio/x-wav",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/vnd.microsoft.icon": "image/x-icon",
}

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
# Types that a page could load as code from here even though the answer is an attachment.
_CODE = frozenset({"application/ecmascript", "application/javascript", "application/wasm", "text/ecmascript", "text/javascript"})


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
    if not declared or declared.lower() == "application/x-www-form-urlencoded":
        return _types_by_name().guess_type(f"/{name}")[0] or UNKNOWN
    return check_type(declared)


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
    text = json.dumps(metadata, separators=(",", ":"), ensure_ascii=False)
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"user metadata has at most {MAX_METADATA_BYTES} bytes of JSON")
    return text


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
    if seen and _conflict(essence(content_type), seen):
        raise UnsupportedType(f"the bytes are {seen}, not {content_type}", detected=seen)


def sniff(start: bytes) -> str | None:
    """The type that the first bytes prove, or None."""
    import filetype

    return filetype.guess_mime(start[:SNIFFED_BYTES]) if start else None


def essence(content_type: str) -> str:
    """A media type without its parameters, under its usual name."""
    bare = content_type.partition(";")[0].strip().lower()
    return _ALIASES.get(bare, bare)


def _matches(content_type: str, patterns: list[str]) -> bool:
    bare = content_type.partition(";")[0].strip().lower()
    family = bare.partition("/")[0] + "/*"
    return any(pattern in ("*/*", family) or essence(pattern) == essence(bare) for pattern in patterns)


def _conflict(declared: str, seen: str) -> bool:
    seen = _ALIASES.get(seen, seen)
    return declared not in (seen, UNKNOWN) and not declared.startswith(_CONTAINERS.get(seen, ("\0",)))


def served_type(content_type: str) -> str:
    """The type an answer carries: code that a page could load is served as plain bytes."""
    return UNKNOWN if essence(content_type) in _CODE else content_type


def is_inline(content_type: str) -> bool:
    """Whether a browser may show it in place; everything else is a download."""
    bare = essence(content_type)
    return bare in _INLINE or bare.startswith(_INLINE_FAMILIES)
