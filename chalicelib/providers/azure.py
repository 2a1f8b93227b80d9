"""Objects as block blobs in one container of Azure Blob Storage, by azure-storage-blob.

    {container}/{prefix}{key}                              an object
    {container}/{prefix}.stowage/parts/{mark}{random}      a multipart upload: its parts are this blob's uncommitted blocks

A blob has one set of uncommitted blocks, and completing would throw away those of any other upload to it. So an upload has a blob
of its own, empty until it is complete, which is then copied inside the account and deleted. Deleting it gives up the upload.
A block has no ETag: its id is all that Azure tells of it, so a part that is stored again under its number cannot be told apart.

A URL for a PUT is held to nothing but that it makes a new blob (a SAS signs no headers): who adopts the blob checks the rest.
Needs: the account's key.
"""

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import groupby
from typing import Any
from urllib.parse import quote

from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobBlock, BlobSasPermissions, ContainerClient, ContentSettings, generate_blob_sas

from chalicelib import seam
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.outbound import Refused, Unreachable
from chalicelib.providers import METADATA, Capabilities, Described, Inspected, Listed, ListedPart, Part, Promise, Signed, Stat
from chalicelib.providers.failures import PASSING, Failure, failure, of_connection, of_status
from chalicelib.providers.screened import new_session

CONNECT_TIMEOUT = 5
READ_TIMEOUT = 7
# Seconds that a copy inside the account is waited for; it takes a moment, whatever the size, unless Azure is busy.
COPIES_FOR = 12
FIRST_PAUSE = 0.1
UPLOADS_REST = 7 * 24 * 3600
# One request each way, whatever the size: a chunk is held in memory anyway.
AT_ONCE = 256 << 20
OWN = ".stowage/"
UPLOADS = f"{OWN}parts/"
_MARK_DIGITS, _RANDOM_DIGITS = 16, 16
_MISSING = frozenset({"BlobNotFound", "ResourceNotFound", "InvalidRange", "InvalidBlockList"})
_NO_COPY_OF_RANGES = frozenset({"NotImplemented", "APINotImplemented", "FeatureNotSupported", "UnsupportedHeader"})
# https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
_FAILURES = {
    "ContainerNotFound": Failure.BUCKET_NOT_FOUND,
    "InvalidResourceName": Failure.BUCKET_NOT_FOUND,
    "AuthenticationFailed": Failure.INVALID_CREDENTIALS,
    "InvalidAuthenticationInfo": Failure.INVALID_CREDENTIALS,
    "NoAuthenticationInformation": Failure.INVALID_CREDENTIALS,
    "AuthorizationFailure": Failure.ACCESS_DENIED,
    "AuthorizationPermissionMismatch": Failure.ACCESS_DENIED,
    "AccountIsDisabled": Failure.ACCESS_DENIED,
    "ServerBusy": Failure.BUSY,
    "OperationTimedOut": Failure.BUSY,
    "InternalError": Failure.BUSY,
}


class Azure:
    """One container, by the `key` of its account, in base64, at `endpoint`. Keys lie below `prefix`, which is empty or ends in `/`."""

    max_key_bytes = 1024
    # Azure has no minimum; below this, 50,000 parts would not make 48 GiB.
    min_part_bytes = 1 << 20
    max_part_bytes = 4000 << 20
    max_parts = 50_000
    holds = frozenset({Promise.NEW})

    def __init__(self, container: str, *, account: str, key: str, endpoint: str, prefix: str = "") -> None:
        self.max_key_bytes = Azure.max_key_bytes - len(prefix.encode())
        self._container, self._account, self._key, self._prefix = container, account, key, prefix
        self._endpoint = endpoint.rstrip("/")

    @classmethod
    def of_connection_string(cls, text: str, container: str) -> "Azure":
        """The container of a storage account, given as Azure shows it; raises ValueError."""
        told = dict(part.split("=", 1) for part in text.strip().strip(";").split(";"))
        account = told.get("AccountName", "")
        host = f"{told.get('DefaultEndpointsProtocol', 'https')}://{account}.blob.{told.get('EndpointSuffix', 'core.windows.net')}"
        if not account or not told.get("AccountKey"):
            raise ValueError("the connection string names no AccountName and AccountKey")
        return cls(container, account=account, key=told["AccountKey"], endpoint=told.get("BlobEndpoint") or host)

    @cached_property
    def _blobs(self) -> ContainerClient:
        # Its own timeouts are what counts; those that a client is given, it does not look at.
        timeouts = {"connection_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT}
        transport = RequestsTransport(session=new_session(), session_owner=False, use_env_settings=False, **timeouts)
        return ContainerClient(
            self._endpoint,
            self._container,
            credential={"account_name": self._account, "account_key": self._key},
            transport=transport,
            retry_total=0,
            permit_redirects=False,
            max_single_put_size=AT_ONCE,
            max_single_get_size=AT_ONCE,
            max_chunk_get_size=AT_ONCE,
        )

    def _blob(self, key: str) -> Any:
        return self._blobs.get_blob_client(self._name(key))

    def _name(self, key: str) -> str:
        return self._prefix + _NOT_IN_XML.sub(lambda match: ESCAPE + _ESCAPED[match[0]], key)

    def put(self, key: str, body: bytes, content_type: str) -> None:
        with _answering():
            self._blob(key).upload_blob(body, overwrite=True, content_settings=ContentSettings(content_type=content_type))

    def read(self, key: str, offset: int, length: int) -> bytes:
        if length == 0:
            return b""
        with _answering():
            body: bytes = self._blob(key).download_blob(offset, length).readall()
        if len(body) != length:
            raise BytesMissing("the stored object is shorter than its record says")
        return body

    def stat(self, key: str) -> Stat | None:
        found = self._properties(key)
        return Stat(found.size) if found else None

    def describe(self, key: str) -> Described | None:
        """Names of metadata have `-` where Azure, which takes none, has `_`. The MD5 that it tells is whatever was sent along."""
        found = self._properties(key)
        if found is None:
            return None
        return Described(found.size, {name.lower().replace("_", "-"): value for name, value in (found.metadata or {}).items()}, None)

    def _properties(self, key: str) -> Any:
        try:
            with _answering():
                return self._blob(key).get_blob_properties()
        except BytesMissing:
            return None

    def inspect(self, key: str, length: int) -> Inspected | None:
        try:
            if length == 0:
                found, start = self._properties(key), b""
            else:
                with _answering():
                    download = self._blob(key).download_blob(0, length)
                    start, found = download.readall(), download.properties
                    found.size = int((found.content_range or "/0").rpartition("/")[2])
        except BytesMissing:
            found, start = self._properties(key), b""  # of an empty blob there is no first byte
            if found is not None and found.size:
                raise
        if found is None:
            return None
        return Inspected(found.size, start, found.content_settings.content_type, found.last_modified.timestamp())

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        left: dict[str, str] = {}
        gone: set[str] = set()
        for key in dict.fromkeys(keys):
            try:
                with suppress(BytesMissing), _answering():
                    self._blob(key).delete_blob(delete_snapshots="include")
            except StorageUnavailable as error:
                left[key] = error.reason or "Failed"
                if error.reason in PASSING:  # each of the others would wait as long
                    return left | {other: left[key] for other in keys if other not in gone}
                continue
            gone.add(key)
        return left

    def expire(self, prefix: str, before: float) -> int:
        """Also removes multipart uploads that were given up by nobody, or taken up again by a URL, a week ago."""
        number = 0
        with _answering():
            for folder, limit in ((prefix, before), (UPLOADS, before - UPLOADS_REST)):
                old = [
                    blob for blob in self._blobs.list_blobs(name_starts_with=self._name(folder)) if blob.last_modified.timestamp() < limit
                ]
                for blob in old:
                    with suppress(BytesMissing), _answering():
                        self._blobs.get_blob_client(blob.name).delete_blob()
                        number += 1
        return number

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        return (listed for listed in _in_order(self._listed(prefix)) if listed.key.encode() > after.encode())

    def _listed(self, prefix: str) -> Iterator[Listed]:
        with _answering():
            for blob in self._blobs.list_blobs(name_starts_with=self._name(prefix), results_per_page=5000):
                key = _ESCAPES.sub(lambda match: _LETTERS[match[1]], blob.name[len(self._prefix) :])
                if not key.startswith(OWN):
                    yield Listed(key, blob.size)

    def reach(self) -> None:
        try:
            with _answering():
                next(self._blobs.list_blobs(name_starts_with=self._prefix, results_per_page=1), None)
        except BytesMissing as error:  # 404 without a code of Azure's
            raise failure(Failure.CANNOT_CONNECT) from error

    def examine(self, key: str, body: bytes) -> Capabilities:
        told = {"expected_size_bytes": str(len(body))}
        settings = ContentSettings(content_type="application/json")
        found = None
        with suppress(StorageUnavailable, BytesMissing), _answering():
            self._blob(key).upload_blob(body, overwrite=True, metadata=told, content_settings=settings)
            found = self._properties(key)
        return Capabilities(
            conditional_put=self._refuses("BlobAlreadyExists", key, body, overwrite=False),
            content_md5=self._refuses("Md5Mismatch", key, body, overwrite=True, headers={"Content-MD5": _md5(body + b"other")}),
            metadata=found.metadata == told if found else None,
            range_read=self.read(key, 1, 3) == body[1:4],
            multipart=self._makes_parts(key),
            clock_skew_seconds=round(found.last_modified.timestamp() - seam.timestamp(), 1) if found else None,
        )

    def _refuses(self, code: str, key: str, body: bytes, **how: Any) -> bool | None:
        try:
            with _answering():
                self._blob(key).upload_blob(body, content_settings=ContentSettings(content_type="application/json"), **how)
        except StorageUnavailable as error:
            return True if _code(error.__cause__) == code else None
        return False

    def _makes_parts(self, key: str) -> bool:
        upload_id = self.create_multipart(key, "application/json")
        self.upload_part(key, upload_id, 1, b"{}")
        self.abort_multipart(key, upload_id)
        return True

    # ---- Copier --------------------------------------------------------------------------------------
    def copy(self, source: str, target: str) -> None:
        with _answering():
            self._copy(self._blob(source).url, target)

    def _copy(self, source_url: str, target: str) -> None:
        """Copy inside the account, and see it through; raises StorageUnavailable while it goes on for longer."""
        blob = self._blob(target)
        try:
            state = blob.start_copy_from_url(source_url)["copy_status"]
        except HttpResponseError as error:
            if _code(error) != "PendingCopyOperation":
                raise
            state = "pending"  # another has begun it
        ends, pause = seam.timestamp() + COPIES_FOR, FIRST_PAUSE
        while state == "pending":
            if seam.timestamp() > ends:
                raise failure(Failure.ASSEMBLING)
            seam.sleep(pause)
            pause *= 2
            state = blob.get_blob_properties().copy.status
        if state != "success":
            raise failure(Failure.FAILED)

    # ---- Presigner -----------------------------------------------------------------------------------
    def presign_get(self, key: str, expires_in: int, content_type: str, disposition: str) -> str:
        told = {"content_type": content_type} | ({"content_disposition": disposition} if disposition else {})
        return self._signed(key, BlobSasPermissions(read=True), expires_in, **told)

    def presign_put(self, key: str, expires_in: int, headers: Mapping[str, str]) -> Signed:
        sent = {name: value for name, value in headers.items() if name.lower() in _PUT_HEADERS}
        told = ((name.lower().removeprefix(METADATA), value) for name, value in headers.items() if name.lower().startswith(METADATA))
        sent |= {f"x-ms-meta-{name.replace('-', '_')}": value for name, value in told}
        return Signed(self._signed(key, BlobSasPermissions(create=True), expires_in), {"x-ms-blob-type": "BlockBlob", **sent})

    def presign_part(self, key: str, upload_id: str, number: int, length: int, expires_in: int) -> str:
        url = self._signed(_upload(key, upload_id), BlobSasPermissions(write=True), expires_in)
        return f"{url}&comp=block&blockid={quote(base64.b64encode(_block(number).encode()).decode(), safe='')}"

    def _signed(self, key: str, permission: BlobSasPermissions, expires_in: int, **told: Any) -> str:
        name, expiry = self._name(key), seam.at(seam.timestamp() + expires_in)
        sas = generate_blob_sas(self._account, self._container, name, account_key=self._key, permission=permission, expiry=expiry, **told)
        return f"{self._blob(key).url}?{sas}"

    # ---- Multipart -----------------------------------------------------------------------------------
    def create_multipart(self, key: str, content_type: str) -> str:
        told = base64.urlsafe_b64encode(content_type.encode()).decode().rstrip("=")
        upload_id = f"{_mark(key)}{secrets.token_hex(_RANDOM_DIGITS // 2)}.{told}"
        self.put(_upload(key, upload_id), b"", content_type)
        return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        blob = self._begun(key, upload_id)
        with _answering():
            blob.stage_block(_block(number), body)
        return Part(number, _block(number))

    def _begun(self, key: str, upload_id: str) -> Any:
        """The blob of an upload; raises BytesMissing when there is none, for a block would make one."""
        name = _upload(key, upload_id)
        if self._properties(name) is None:
            raise _no_upload()
        return self._blob(name)

    def copy_part(self, key: str, upload_id: str, number: int, source: str, offset: int, length: int) -> Part:
        blob = self._begun(key, upload_id)
        url = self._signed(source, BlobSasPermissions(read=True), 3600)
        try:
            with _answering():
                blob.stage_block_from_url(_block(number), url, offset, length)
        except StorageUnavailable as error:
            if _code(error.__cause__) not in _NO_COPY_OF_RANGES:
                raise
            return self.upload_part(key, upload_id, number, self.read(source, offset, length))
        return Part(number, _block(number))

    def list_parts(self, key: str, upload_id: str) -> Sequence[ListedPart]:
        with _answering():
            committed, uncommitted = self._blob(_upload(key, upload_id)).get_block_list("all")
        blocks = {str(block.id): block.size for block in (*committed, *uncommitted)}  # committed, while it is being copied
        return [ListedPart(int(block), block, size) for block, size in sorted(blocks.items())]

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        if any(part.etag != _block(part.number) for part in parts):
            raise failure(Failure.FAILED)
        blob = self._blob(_upload(key, upload_id))
        try:
            with _answering():
                committed, uncommitted = blob.get_block_list("all")
                known = {str(block.id) for block in (*committed, *uncommitted)}
                if not known.issuperset(part.etag for part in parts):
                    raise failure(Failure.FAILED)
                blocks = [BlobBlock(part.etag) for part in sorted(parts, key=lambda part: part.number)]
                if uncommitted or not committed:
                    blob.commit_block_list(blocks, content_settings=ContentSettings(content_type=_content_type(upload_id)))
                self._copy(blob.url, key)
                blob.delete_blob()
        except BytesMissing:  # completed by an earlier call whose answer was lost, or aborted
            if self.stat(key) is None:
                raise

    def abort_multipart(self, key: str, upload_id: str) -> None:
        with suppress(BytesMissing), _answering():
            self._blob(_upload(key, upload_id)).delete_blob()

    def abort_all(self, key: str) -> int:
        with _answering():
            unfinished = [blob.name for blob in self._blobs.list_blobs(name_starts_with=self._name(UPLOADS + _mark(key)))]
            for name in unfinished:
                with suppress(BytesMissing), _answering():
                    self._blobs.get_blob_client(name).delete_blob()
        return len(unfinished)


# From here on the order of UTF-16 and that of code points, and so of UTF-8, differ.
_LATE = re.compile("[\ue000-\U0010ffff]")


def _in_order(listed: Iterator[Listed]) -> Iterator[Listed]:
    """Sorted by UTF-8 what comes sorted by UTF-16: they differ only among keys that have such letters after the same beginning."""
    for beginning, group in groupby(listed, key=_beginning):
        if beginning is None:
            yield from group
        else:
            yield from sorted(group, key=lambda one: one.key.encode())


def _beginning(listed: Listed) -> str | None:
    match = _LATE.search(listed.key)
    return listed.key[: match.start()] if match else None


# What XML cannot hold would spoil a whole listing. It is written as two letters, of which the first is one that nobody has agreed on.
ESCAPE = "\uf8fe"
_LETTERS = {"0": ESCAPE, "1": "\ufffe", "2": "\uffff"}
_ESCAPED = {letter: digit for digit, letter in _LETTERS.items()}
_NOT_IN_XML = re.compile(f"[{ESCAPE}\ufffe\uffff]")
_ESCAPES = re.compile(f"{ESCAPE}([012])")

_PUT_HEADERS = frozenset({"content-type", "content-length", "content-md5", "if-none-match"})


def _block(number: int) -> str:
    """The id of a block: all of a blob's have one length."""
    return f"{number:06d}"


def _mark(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:_MARK_DIGITS]


def _upload(key: str, upload_id: str) -> str:
    """The key of the blob that is an upload to `key`; raises BytesMissing for what cannot be one."""
    name = upload_id.partition(".")[0]
    if len(name) != _MARK_DIGITS + _RANDOM_DIGITS or not name.isalnum() or not name.startswith(_mark(key)):
        raise _no_upload()
    return UPLOADS + name


def _content_type(upload_id: str) -> str:
    told = upload_id.partition(".")[2]
    return base64.urlsafe_b64decode(told + "=" * (-len(told) % 4)).decode()


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _no_upload() -> BytesMissing:
    return BytesMissing("there is no such multipart upload in the storage")


def _code(error: BaseException | None) -> str:
    """The code of Azure's refusal."""
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))


@contextmanager
def _answering() -> Iterator[None]:
    """Tell a missing blob from a storage that does not answer or refuses, and why."""
    try:
        yield
    except HttpResponseError as error:
        if _code(error) in _MISSING or (error.status_code in (404, 416) and _code(error) not in _FAILURES):
            raise BytesMissing("the stored object is missing") from error
        status = error.status_code or 0
        raise failure(_FAILURES.get(_code(error)) or of_status(status)) from error
    except binascii.Error as error:
        raise failure(Failure.INVALID_CREDENTIALS) from error  # the account's key
    except (AzureError, OSError, Refused, Unreachable, ValueError, AttributeError) as error:  # the last two of answers that are not Azure's
        raise failure(of_connection(error)) from error
