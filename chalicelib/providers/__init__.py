"""Where bytes live: the contract that every provider keeps, and the providers that this installation uses.

A provider stores immutable bytes under physical keys and knows no tenant, bucket or row. It does one thing:
retries, limits and caching wrap it. What a provider can do beyond `Provider` it says by implementing one of
the small protocols below (`isinstance(provider, Presigner)`), never by a flag or a method that raises.
One conformance suite (`tests/contract`) runs against all of them, on real servers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Protocol, runtime_checkable

from chalicelib.settings import settings

# What metadata is called among the headers of a PUT: S3's way.
METADATA = "x-amz-meta-"


@dataclass(frozen=True, slots=True)
class Stat:
    """What every provider knows of an object: its `size` in bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a listing: physical key and `size` in bytes."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """A stored part of a multipart upload: `number` from 1, the provider's ETag for it."""

    number: int
    etag: str


@dataclass(frozen=True, slots=True)
class ListedPart(Part):
    """A part as the provider lists it: with its `size` in bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """An object at a glance: `size` bytes, the first of them, their type (None where none is kept), and when they were stored.

    `stored` in seconds since 1970, by the storage's own clock.
    """

    size: int
    start: bytes
    content_type: str | None
    stored: float


@dataclass(frozen=True, slots=True)
class Described:
    """An object as it was put: `size` bytes, and the metadata that came along, by lower-case name.

    `md5`, in base64, is what the storage itself has worked out of the bytes; None where it tells none that can be relied on.
    """

    size: int
    metadata: Mapping[str, str]
    md5: str | None


@dataclass(frozen=True, slots=True)
class Signed:
    """A presigned URL and every header that has to be sent to it, as it stands."""

    url: str
    headers: Mapping[str, str]


class Promise(StrEnum):
    """What a presigned PUT can be held to by the storage itself."""

    LENGTH = "length"
    TYPE = "type"
    NEW = "new"  # If-None-Match: *
    MD5 = "md5"
    SHA256 = "sha256"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a storage was seen to do; None: it could not be seen, for a right or the notion is missing there."""

    conditional_put: bool | None = None
    content_md5: bool | None = None
    checksum_sha256: bool | None = None
    metadata: bool | None = None
    range_read: bool | None = None
    multipart: bool | None = None
    versioning: bool | None = None
    clock_skew_seconds: float | None = None
    """Its clock less ours."""


class Provider(Protocol):
    """The smallest contract that works. All methods raise StorageUnavailable when the storage cannot answer."""

    max_key_bytes: int
    """Longest physical key in UTF-8 bytes."""

    def put(self, key: str, body: bytes, content_type: str) -> None:
        """Store `body` whole, durably, or not at all; a reader never sees a part of it."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; raises BytesMissing when there is no such object or it is shorter.

        Nothing is asked of the storage for no bytes.
        """

    def stat(self, key: str) -> Stat | None:
        """Size and ETag, or None when there is no such object (a definite answer, not a failure)."""

    def inspect(self, key: str, length: int) -> Inspected | None:
        """An object with the first `length` bytes of it in one look, or None when there is none (a definite answer)."""

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Remove objects; a missing one is removed already. Gives the keys that stayed, with the cause."""

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Every object whose key starts with `prefix` and sorts after `after`, in UTF-8 byte order."""

    def reach(self) -> None:
        """Raise unless the storage is there and lets its keys be listed: at most one is asked for."""

    def examine(self, key: str, body: bytes) -> Capabilities:
        """Try out on the object `key`, which holds `body` and will hold it again, what the storage keeps of its promises."""


@runtime_checkable
class Copier(Protocol):
    """Copies inside the storage, without the bytes passing through here."""

    def copy(self, source: str, target: str) -> None:
        """Store the object `source` as `target` too; raises BytesMissing."""


@runtime_checkable
class Presigner(Protocol):
    """Hands out URLs that work without credentials until they expire."""

    def presign_get(self, key: str, expires_in: int, content_type: str, disposition: str) -> str:
        """A URL that answers GET with the object under this type and disposition, for `expires_in` seconds."""

    holds: frozenset[Promise]
    """What of the headers of `presign_put` the storage enforces; what it does not is for the caller to check afterwards."""

    def presign_put(self, key: str, expires_in: int, headers: Mapping[str, str]) -> Signed:
        """A URL that takes one PUT, for `expires_in` seconds, and holds it to these `headers` as far as the storage does.

        Metadata has S3's names, `x-amz-meta-…`, whatever the storage calls it. What `headers` come back are to be sent as they are.
        """

    def presign_part(self, key: str, upload_id: str, number: int, length: int, expires_in: int) -> str:
        """A URL that takes part `number` of a multipart upload by PUT, for `expires_in` seconds.

        It has `length` bytes, as far as the storage holds to that.
        """


@runtime_checkable
class Describer(Protocol):
    """Keeps what a client says of an object when it puts it."""

    def describe(self, key: str) -> Described | None:
        """An object without its bytes, or None when there is none (a definite answer)."""


@runtime_checkable
class Closable(Protocol):
    """Keeps connections between calls."""

    def close(self) -> None:
        """Be done with them."""


@runtime_checkable
class Expirer(Protocol):
    """Removes by age what a lifecycle rule removes where the storage has such rules."""

    def expire(self, prefix: str, before: float) -> int:
        """Remove objects whose keys start with `prefix` and which were stored before that second of 1970; gives their number."""


@runtime_checkable
class Multipart(Protocol):
    """Builds an object from parts that are stored one by one."""

    min_part_bytes: int
    """Every part but the last has at least this many bytes."""
    max_part_bytes: int
    max_parts: int

    def create_multipart(self, key: str, content_type: str) -> str:
        """Begin an upload to `key`; gives the provider's upload id."""

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        """Store part `number` (again: it replaces the earlier one)."""

    def copy_part(self, key: str, upload_id: str, number: int, source: str, offset: int, length: int) -> Part:
        """Store a range of the object `source` as part `number`."""

    def list_parts(self, key: str, upload_id: str) -> Sequence[ListedPart]:
        """The parts that are stored, by number; raises BytesMissing when there is no such upload."""

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the object of its parts, in order; a second call after success succeeds."""

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Give up the upload and free its parts; aborting one that is gone succeeds."""

    def abort_all(self, key: str) -> int:
        """Give up every unfinished upload to exactly this key, known by its id or not; gives their number."""


@lru_cache(maxsize=1)
def internal() -> Provider:
    """The storage of every bucket that names none: `STOWAGE_STORAGE_PROVIDER`."""
    from chalicelib.providers.retries import persistent

    return persistent(_internal())


def _internal() -> Provider:
    chosen = settings()
    if chosen.storage_provider == "filesystem":
        from chalicelib.providers.filesystem import Filesystem

        return Filesystem(chosen.storage_root)
    if chosen.storage_provider == "azure":
        from chalicelib.providers.azure import Azure

        return Azure.of_connection_string(chosen.azure_connection_string, chosen.azure_container)
    from chalicelib.providers.s3 import S3

    return S3(
        chosen.s3_bucket,
        region=chosen.s3_region,
        endpoint=chosen.s3_endpoint,
        access_key=chosen.s3_access_key,
        secret_key=chosen.s3_secret_key,
    )
