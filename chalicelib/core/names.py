"""Names of buckets and objects, and the physical keys made from them.

    objects/{tenant_id}-{bucket}/{name}~{version}          what was stored through the API
    objects/{tenant_id}-{bucket}/{name}~{version}.direct   what a client puts by itself: the bucket tells of these
    objects/tenants/{tenant_id}/{name}~{version}           the same of the tenant's files
    uploads/{upload_id}/{fence}                            bytes of an upload that no part holds yet
    deltas/{key_uuid}/{delta_uuid}                         a delta; in a storage of the tenant's, without the first word

A version is a ULID and no segment of a name may end like one, so a physical key is read back without doubt.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from chalicelib.errors import InvalidName, InvalidRequest, KeyTooLong
from chalicelib.tables.buckets import FILES

CONTAINER = "objects"
STAGING = "uploads"
DELTAS = "deltas/"
DIRECT = ".direct"
MAX_NAME_BYTES = 700
MAX_SEGMENT_BYTES = 200
MAX_BUCKET_CHARACTERS = 100
MAX_TITLE_CHARACTERS = 255
# A static route lies beside `/storage/object/{bucket}`, and API Gateway prefers it (tests hold the two together).
RESERVED_BUCKETS = frozenset({"move", "copy"})
# Static routes beside `/api/storage/{key}`; the folders are those of physical keys and of signed URLs, for which no file may be taken.
RESERVED_FOLDERS = ("tenants/", "_sign/")
RESERVED_KEYS = frozenset({"_sign", "folder-counts", "from-url"})

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_BUCKET = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_VERSION_SUFFIX = re.compile(r"~[0-9A-Za-z]{26}(?=/|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID as ids here are written: hyphenated, in lower case."""
    return _UUID.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether `text` is a ULID: the form of versions and of upload ids."""
    return _ULID.fullmatch(text) is not None


def is_bucket_name(name: str) -> bool:
    """Whether `name` is 1 to 100 of letters, digits, `.`, `_`, `-`, not starting with `.`, or that of the bucket of files."""
    return name == FILES or (1 <= len(name) <= MAX_BUCKET_CHARACTERS and _BUCKET.fullmatch(name) is not None)


def check_bucket_name(name: str) -> str:
    """`name`, or InvalidName if it cannot name a new bucket."""
    if not is_bucket_name(name):
        raise InvalidName(f"a bucket name has 1 to {MAX_BUCKET_CHARACTERS} letters, digits, '.', '_' or '-' and does not start with '.'")
    if name in RESERVED_BUCKETS or name == FILES:
        raise InvalidName(f"'{name}' is a word of the API and cannot name a bucket")
    return name


def check_name_in(bucket: str, name: str) -> str:
    """`name`, or InvalidName if it cannot name an object of that bucket."""
    check_object_name(name)
    if bucket == FILES:
        for folder in RESERVED_FOLDERS:
            if name.startswith(folder):
                raise InvalidName(f"the key of a file does not start with '{folder}'")
        if name.rstrip("/") in RESERVED_KEYS:  # as it is where an end of slashes counts for nothing
            raise InvalidName(f"'{name}' is a word of the API and cannot be the key of a file")
    return name


def check_object_name(name: str) -> str:
    """`name`, already percent-decoded once, or InvalidName saying which rule it breaks (FEATURES F8.18)."""
    if not name:
        raise InvalidName("an object needs a name")
    _check_characters(name, "a name")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidName(f"a name has at most {MAX_NAME_BYTES} bytes of UTF-8")
    if name.startswith("/"):
        raise InvalidName("a name does not start with '/'")
    if name.endswith(".uploading"):
        raise InvalidName("a name does not end in '.uploading'")
    if _VERSION_SUFFIX.search(name):
        raise InvalidName("no part of a name ends in '~' and 26 letters or digits: that is how versions are told")
    for segment in name.split("/"):
        _check_segment(segment)
    return name


def _check_characters(text: str, what: str) -> None:
    if _CONTROL.search(text):
        raise InvalidName(f"{what} has no control characters")
    for character in "\\?#":
        if character in text:
            raise InvalidName(f"{what} has no '{character}'")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidName(f"{what} is valid Unicode: no lone surrogates") from None


def _check_segment(segment: str) -> None:
    # Decoded once more, as a careless proxy would: `%2e%2e` must not become `..` further on.
    if segment in (".", "..") or unquote(segment) in (".", ".."):
        raise InvalidName("no part of a name is '.' or '..'")
    if segment.endswith((".", " ")):
        raise InvalidName("no part of a name ends in a dot or a space")
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise InvalidName(f"no part of a name is longer than {MAX_SEGMENT_BYTES} bytes of UTF-8")


def check_title(name: str) -> str:
    """`name`, or InvalidRequest if people could not tell it from others: what is not addressed by its name may have any that is seen."""
    if not name.strip() or len(name) > MAX_TITLE_CHARACTERS or not name.isprintable():
        raise InvalidRequest(f"name: 1 to {MAX_TITLE_CHARACTERS} characters that can be printed", field="name")
    return name


def check_prefix(prefix: str) -> str:
    """A prefix of names: it may stop anywhere, so only characters and length are checked."""
    if prefix:
        _check_characters(prefix, "a prefix")
        if len(prefix.encode()) > MAX_NAME_BYTES:
            raise InvalidName(f"a prefix has at most {MAX_NAME_BYTES} bytes of UTF-8")
    return prefix


def physical_key(tenant_id: str, bucket: str, name: str, version: str, limit: int, direct: bool = False) -> str:
    """Where the bytes of one version lie; raises KeyTooLong beyond the provider's `limit` of bytes."""
    key = f"{container(tenant_id, bucket)}{name}~{version}{DIRECT if direct else ''}"
    excess = len(key.encode()) - limit
    if excess > 0:
        room = len(name.encode()) - excess
        raise KeyTooLong(f"the storage of this bucket has room for names of {room} bytes", max_name_bytes=room)
    return key


def container(tenant_id: str, bucket: str) -> str:
    """Below which the bytes of a bucket's objects lie."""
    return f"{CONTAINER}/tenants/{tenant_id}/" if bucket == FILES else f"{CONTAINER}/{tenant_id}-{bucket}/"


def staging_prefix(upload_id: str) -> str:
    """What lies below it belongs to one upload alone, and to no row."""
    return f"{STAGING}/{upload_id}/"


@dataclass(frozen=True, slots=True)
class Placed:
    """What a physical key says of the bytes that lie there; `direct`: a client puts them by itself."""

    tenant_id: str
    bucket: str
    name: str
    version: str
    direct: bool


_PHYSICAL_KEY = re.compile(
    rf"{CONTAINER}/(?:(?P<tenant_id>[0-9a-f-]{{36}})-(?P<bucket>[^/]+)|tenants/(?P<of_files>[0-9a-f-]{{36}}))"
    rf"/(?P<name>.+)~(?P<version>[0-9A-HJKMNP-TV-Z]{{26}})(?P<direct>{re.escape(DIRECT)})?",
    re.DOTALL,
)


def placed(key: str) -> Placed | None:
    """The inverse of `physical_key`; None for a key that it did not make."""
    match = _PHYSICAL_KEY.fullmatch(key)
    if match is None:
        return None
    tenant_id, bucket = match["tenant_id"] or match["of_files"], match["bucket"] or FILES
    return Placed(tenant_id, bucket, match["name"], match["version"], match["direct"] is not None)


def delta_key(key_uuid: str, delta_uuid: str, is_internal: bool) -> str:
    """Where a delta lies below its storage's own prefix (seed 000 "Object Layout")."""
    return f"{DELTAS if is_internal else ''}{key_uuid}/{delta_uuid}"


def delta_at(key: str) -> tuple[str, str] | None:
    """The ids of the key and the delta that lie at a physical key of the internal storage; None for one that is of no delta."""
    ids = key.removeprefix(DELTAS).split("/") if key.startswith(DELTAS) else []
    return (ids[0], ids[1]) if len(ids) == 2 and all(map(is_uuid, ids)) else None
