"""Objects in one bucket of S3, or of anything that speaks its protocol.

    {bucket}/{key}     an object

Needs s3:GetObject, s3:PutObject, s3:ListBucket, s3:AbortMultipartUpload, s3:ListMultipartUploadParts,
s3:ListBucketMultipartUploads, and s3:DeleteObject where garbage is collected. No checksum header is sent unless asked
for (since boto3 1.36 the default ones are refused by R2, B2 and others): SigV4 signs the body's SHA-256, which every
server that checks signatures enforces.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from chalicelib import aws, seam
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import METADATA, Capabilities, Described, Inspected, Listed, ListedPart, Part, Promise, Signed, Stat
from chalicelib.providers.failures import Failure, failure, of_connection, of_status

# AWS limits: docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MIB = 1 << 20
GIB = 1 << 30
DELETE_LIMIT = 1000
# Characters that a key may have and XML 1.0 may not (§2.2): one would spoil a DeleteObjects request for all the others.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# A range beyond the end is told as missing bytes: the row promised them.
_MISSING = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload", "InvalidRange"})
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and what R2 and B2 say for the same.
_FAILURES = {
    "InvalidAccessKeyId": Failure.INVALID_CREDENTIALS,
    "SignatureDoesNotMatch": Failure.WRONG_SIGNATURE,
    "Unauthorized": Failure.INVALID_CREDENTIALS,
    "InvalidToken": Failure.INVALID_CREDENTIALS,
    "NoSuchBucket": Failure.BUCKET_NOT_FOUND,
    "InvalidBucketName": Failure.BUCKET_NOT_FOUND,
    "AuthorizationHeaderMalformed": Failure.WRONG_REGION,
    "PermanentRedirect": Failure.WRONG_REGION,
    "IllegalLocationConstraintException": Failure.WRONG_REGION,
    "RequestTimeTooSkewed": Failure.CLOCK_SKEWED,
    "SlowDown": Failure.BUSY,
    "ThrottlingException": Failure.BUSY,
    "RequestTimeout": Failure.BUSY,
    "OperationAborted": Failure.BUSY,
}
# What servers say that delete one object at a time, or want another checksum of a list than botocore sends.
_NOT_TOGETHER = frozenset({"NotImplemented", "MissingContentMD5", "InvalidRequest", "InvalidDigest", "MalformedXML", "MethodNotAllowed"})
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_EXPECTED = re.compile(r"expecting '([a-z0-9-]{1,40})'")


class S3:
    """One bucket. Empty `access_key`: the function's own credentials. Empty `endpoint`: AWS.

    Keys lie below `prefix`, which is empty or ends in `/`. With `screened` the endpoint is one that somebody else has chosen.
    `unkept` are promises that this storage was seen not to keep.
    """

    max_key_bytes = 1024
    min_part_bytes = 5 * MIB
    max_part_bytes = 5 * GIB
    max_parts = 10_000
    holds = frozenset(Promise)

    def __init__(
        self,
        bucket: str,
        *,
        region: str = "",
        endpoint: str = "",
        access_key: str = "",
        secret_key: str = "",
        prefix: str = "",
        virtual_host: bool = False,
        storage_class: str = "",
        screened: bool = False,
        unkept: frozenset[Promise] = frozenset(),
    ) -> None:
        self.bucket = bucket
        self.holds = frozenset(Promise) - unkept
        self.max_key_bytes = S3.max_key_bytes - len(prefix.encode())
        self._region = region or aws.region()
        self._endpoint = endpoint or None
        self._access_key = access_key or None
        self._secret_key = secret_key or None
        self._prefix = prefix
        self._virtual_host = virtual_host or not (endpoint or aws.overridden_endpoint())
        self._storage_class = {"StorageClass": storage_class} if storage_class else {}
        self._screened = screened

    @cached_property
    def _client(self) -> Any:
        client = aws.new_client(
            "s3",
            region_name=self._region,
            endpoint_url=self._endpoint,
            aws_access_key_id=self._access_key,
            aws_secret_access_key=self._secret_key,
            config=aws.config(
                signature_version="s3v4",
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "virtual" if self._virtual_host else "path"},
                retries={"total_max_attempts": 1, "mode": "standard"},
                **({"proxies": {}} if self._screened else {}),
            ),
        )
        if self._screened:
            from chalicelib.providers.screened import screen_botocore

            screen_botocore(client)
        return client

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        for name in ("Key", "Prefix", "StartAfter"):
            if name in parameters:
                parameters[name] = self._prefix + parameters[name]
        with self._answering():
            answer: dict[str, Any] = self._client._make_api_call(operation, {"Bucket": self.bucket, **parameters})
            return answer

    def _source(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._prefix + key}

    def put(self, key: str, body: bytes, content_type: str) -> None:
        self._call("PutObject", Key=key, Body=body, ContentType=content_type, **self._storage_class)

    def read(self, key: str, offset: int, length: int) -> bytes:
        if length == 0:  # no Range can ask for nothing
            return b""
        answer = self._call("GetObject", Key=key, Range=f"bytes={offset}-{offset + length - 1}")
        begins = str(answer.get("ContentRange", "bytes 0-")).startswith(f"bytes {offset}-")
        if not begins or answer.get("ContentLength", length) > length:  # a server that does not look at ranges
            raise failure(Failure.FAILED)
        with self._answering():
            body: bytes = answer["Body"].read(length + 1)  # a server that sends more is not listened to
            if len(body) < length:
                answer["Body"].read(1)  # only a read that finds nothing looks whether all has come that was announced
        if len(body) != length:
            raise BytesMissing("the stored object is shorter than its record says")
        return body

    def stat(self, key: str) -> Stat | None:
        answer = self._head(key)
        return Stat(answer["ContentLength"]) if answer else None

    def describe(self, key: str) -> Described | None:
        answer = self._head(key)
        return Described(answer["ContentLength"], _lower(answer["Metadata"]), _md5_told_by(answer)) if answer else None

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            return self._call("HeadObject", Key=key)
        except BytesMissing:
            # A HEAD has no body to tell a missing object from a missing bucket, and the two must not be confused.
            self._require_there(key)
            return None

    def inspect(self, key: str, length: int) -> Inspected | None:
        try:
            answer = self._call("GetObject", Key=key, Range=f"bytes=0-{length - 1}")
        except BytesMissing as missing:
            if _code(missing.__cause__) != "InvalidRange":
                return None
            found = self._head(key)  # of an empty object there is no first byte
            return Inspected(found["ContentLength"], b"", found["ContentType"], found["LastModified"].timestamp()) if found else None
        with self._answering():
            start = answer["Body"].read(length + 1)[:length]
        size = int(answer["ContentRange"].rpartition("/")[2])
        return Inspected(size, start, answer["ContentType"], answer["LastModified"].timestamp())

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        left: dict[str, str] = {}
        together = [key for key in keys if not _NOT_IN_XML.search(key)]
        for key in keys:
            if _NOT_IN_XML.search(key):
                self._delete_one(key)
        for start in range(0, len(together), DELETE_LIMIT):
            left |= self._delete_together(together[start : start + DELETE_LIMIT])
        return left

    def _delete_together(self, keys: Sequence[str]) -> dict[str, str]:
        objects = [{"Key": self._prefix + key} for key in keys]
        try:
            answer = self._call("DeleteObjects", Delete={"Objects": objects, "Quiet": True})
        except (StorageUnavailable, BytesMissing) as error:
            if isinstance(error, StorageUnavailable) and _code(error.__cause__) not in _NOT_TOGETHER:
                raise
            for key in keys:
                self._delete_one(key)
            return {}
        return {error["Key"][len(self._prefix) :]: error.get("Code", "Unknown") for error in answer.get("Errors", ())}

    def _delete_one(self, key: str) -> None:
        try:
            self._call("DeleteObject", Key=key)
        except BytesMissing as missing:
            if _code(missing.__cause__) != "NoSuchKey":  # 404 of whatever answers there
                raise failure(Failure.CANNOT_CONNECT) from missing

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        start = {"StartAfter": after} if after else {}
        for page in self._pages("ListObjectsV2", {"ContinuationToken": "NextContinuationToken"}, Prefix=prefix, **start):
            for entry in page.get("Contents", ()):
                yield Listed(entry["Key"][len(self._prefix) :], entry["Size"])

    def reach(self) -> None:
        self._require_there("")

    def _require_there(self, prefix: str) -> None:
        try:
            self._call("ListObjectsV2", Prefix=prefix, MaxKeys=1)
        except BytesMissing as error:  # 404 without a code of S3's
            raise failure(Failure.CANNOT_CONNECT) from error

    # ---- Copier --------------------------------------------------------------------------------------
    def copy(self, source: str, target: str) -> None:
        self._call("CopyObject", Key=target, CopySource=self._source(source), **self._storage_class)

    # ---- Presigner -----------------------------------------------------------------------------------
    def presign_get(self, key: str, expires_in: int, content_type: str, disposition: str) -> str:
        parameters = {**self._source(key), "ResponseContentType": content_type}
        if disposition:
            parameters["ResponseContentDisposition"] = disposition
        return str(self._client.generate_presigned_url("get_object", parameters, expires_in))

    def presign_put(self, key: str, expires_in: int, headers: Mapping[str, str]) -> Signed:
        named = _lower(headers)
        metadata = {name.removeprefix(METADATA): value for name, value in named.items() if name.startswith(METADATA)}
        signed = {_PUT_PARAMETERS[name]: value for name, value in named.items() if not name.startswith(METADATA)}
        parameters: dict[str, Any] = {**self._source(key), **signed, **({"Metadata": metadata} if metadata else {})}
        if "ContentLength" in parameters:
            parameters["ContentLength"] = int(parameters["ContentLength"])
        return Signed(str(self._client.generate_presigned_url("put_object", parameters, expires_in)), headers)

    def presign_part(self, key: str, upload_id: str, number: int, length: int, expires_in: int) -> str:
        part = {**self._source(key), "UploadId": upload_id, "PartNumber": number, "ContentLength": length}
        return str(self._client.generate_presigned_url("upload_part", part, expires_in))

    # ---- Multipart -----------------------------------------------------------------------------------
    def create_multipart(self, key: str, content_type: str) -> str:
        return str(self._call("CreateMultipartUpload", Key=key, ContentType=content_type, **self._storage_class)["UploadId"])

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        answer = self._call("UploadPart", Key=key, UploadId=upload_id, PartNumber=number, Body=body)
        return Part(number, answer["ETag"])

    def copy_part(self, key: str, upload_id: str, number: int, source: str, offset: int, length: int) -> Part:
        answer = self._call(
            "UploadPartCopy",
            Key=key,
            UploadId=upload_id,
            PartNumber=number,
            CopySource=self._source(source),
            CopySourceRange=f"bytes={offset}-{offset + length - 1}",
        )
        return Part(number, answer["CopyPartResult"]["ETag"])

    def list_parts(self, key: str, upload_id: str) -> Sequence[ListedPart]:
        pages = self._pages("ListParts", {"PartNumberMarker": "NextPartNumberMarker"}, Key=key, UploadId=upload_id)
        return [ListedPart(part["PartNumber"], part["ETag"], part["Size"]) for page in pages for part in page.get("Parts", ())]

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        try:
            self._call("CompleteMultipartUpload", Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed})
        except BytesMissing:  # NoSuchUpload: completed by an earlier call whose answer was lost, or aborted
            if self.stat(key) is None:
                raise

    def abort_multipart(self, key: str, upload_id: str) -> None:
        try:
            self._call("AbortMultipartUpload", Key=key, UploadId=upload_id)
        except BytesMissing:
            return

    def abort_all(self, key: str) -> int:
        markers = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
        pages = self._pages("ListMultipartUploads", markers, Prefix=key)
        unfinished = [upload["UploadId"] for page in pages for upload in page.get("Uploads", ()) if upload["Key"] == self._prefix + key]
        for upload_id in unfinished:
            self.abort_multipart(key, upload_id)
        return len(unfinished)

    def _pages(self, operation: str, markers: Mapping[str, str], **parameters: Any) -> Iterator[dict[str, Any]]:
        """The pages of a list that goes on at `markers`: each parameter, and where an answer tells its next value."""
        while True:
            answer = self._call(operation, **parameters)
            yield answer
            if not answer.get("IsTruncated"):
                return
            parameters |= {marker: answer[following] for marker, following in markers.items()}

    # ---- examined --------------------------------------------------------------------------------------
    def examine(self, key: str, body: bytes) -> Capabilities:
        put = {"Key": key, "Body": body, "ContentType": "application/json"}
        other = hashlib.sha256(body + b"other").digest()
        wrong_md5 = base64.b64encode(hashlib.md5(body + b"other", usedforsecurity=False).digest()).decode()
        told = {"expected-size-bytes": str(len(body))}
        found = _tried(lambda: (self._call("PutObject", Metadata=told, **put), self._call("HeadObject", Key=key))[1])
        versioning = _tried(lambda: self._call("GetBucketVersioning"))
        return Capabilities(
            conditional_put=self._refuses({"412", "PreconditionFailed", "ConditionalRequestConflict"}, put, IfNoneMatch="*"),
            content_md5=self._refuses({"BadDigest", "InvalidDigest"}, put, ContentMD5=wrong_md5),
            checksum_sha256=self._refuses(_BAD_CHECKSUM, put, ChecksumSHA256=base64.b64encode(other).decode()),
            metadata=found["Metadata"] == told if found else None,
            range_read=_tried(lambda: self.read(key, 1, 3) == body[1:4]),
            multipart=_tried(lambda: self._makes_parts(key)),
            versioning=versioning.get("Status") == "Enabled" if versioning is not None else None,
            clock_skew_seconds=round(found["LastModified"].timestamp() - seam.timestamp(), 1) if found else None,
        )

    def _refuses(self, codes: frozenset[str] | set[str], put: Mapping[str, Any], **condition: str) -> bool | None:
        """Whether a PUT that must be refused is; None if it is refused for another reason."""
        try:
            self._call("PutObject", **put, **condition)
        except StorageUnavailable as error:
            code = _code(error.__cause__)
            return True if code in codes else False if code == "NotImplemented" else None
        return False

    def _makes_parts(self, key: str) -> bool:
        upload_id = self.create_multipart(key, "application/json")
        try:
            self.upload_part(key, upload_id, 1, b"{}")
        finally:
            self.abort_multipart(key, upload_id)
        return True

    # ---- failures --------------------------------------------------------------------------------------
    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Tell a missing object from a storage that does not answer or refuses, and why."""
        try:
            yield
        except ClientError as error:
            if _code(error) in _MISSING:
                raise BytesMissing("the stored object is missing") from error
            raise self._refusal(error) from error
        except ResponseParserError as error:
            raise failure(Failure.CANNOT_CONNECT) from error  # whatever answers there, it does not speak S3's protocol
        except (BotoCoreError, OSError) as error:
            raise failure(of_connection(error)) from error

    def _refusal(self, error: ClientError) -> StorageUnavailable:
        answer = error.response.get("ResponseMetadata", {})
        status, expected = answer.get("HTTPStatusCode", 0), _expected_region(error)
        cause = _FAILURES.get(_code(error))
        if cause is Failure.WRONG_REGION or (expected and expected != self._region and status in (301, 307, 400)):
            return failure(Failure.WRONG_REGION, region=self._region, expected=expected)
        if cause is None:
            cause = of_status(status)
            if cause is Failure.BUSY and not _code(error).isalpha():
                cause = Failure.CANNOT_CONNECT  # S3 has a code for it: this is a web server, or a proxy
        return failure(cause)


def _expected_region(error: ClientError) -> str | None:
    """The region that the storage says a bucket lies in."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    told = error.response.get("Error", {})
    match = _EXPECTED.search(str(told.get("Message", "")))
    named = str(told.get("Region") or headers.get("x-amz-bucket-region") or (match[1] if match else ""))
    return named if _REGION.fullmatch(named) else None


def _tried(look: Callable[[], Any]) -> Any:
    """What a check finds, None when it is not permitted or goes wrong."""
    try:
        return look()
    except (StorageUnavailable, BytesMissing):
        return None


def _lower(named: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in named.items()}


def _md5_told_by(answer: Mapping[str, Any]) -> str | None:
    """The MD5 of an object, in base64, by its ETag, which is one unless it is joined of parts, or encrypted under a key that is not S3's.

    docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    etag = answer.get("ETag", "").strip('"')
    encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return base64.b64encode(bytes.fromhex(etag)).decode() if _MD5.fullmatch(etag) and not encrypted else None


_MD5 = re.compile(r"[0-9a-f]{32}")
_PUT_PARAMETERS = {
    "content-length": "ContentLength",
    "content-md5": "ContentMD5",
    "content-type": "ContentType",
    "if-none-match": "IfNoneMatch",
    "x-amz-checksum-sha256": "ChecksumSHA256",
}


_BAD_CHECKSUM = frozenset({"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "InvalidRequest"})


def _code(error: BaseException | None) -> str:
    """The code of S3's refusal."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
