"""Objects in one bucket of S3, or of anything that speaks its protocol.

    {bucket}/{key}     an object

Needs s3:GetObject, s3:PutObject, s3:ListBucket, s3:AbortMultipartUpload, s3:ListMultipartUploadParts,
s3:ListBucketMultipartUploads, and s3:DeleteObject where garbage is collected. No checksum header is sent unless asked
for (since boto3 1.36 the default ones are refused by R2, B2 and others): SigV4 signs the body's SHA-256, which every
server that checks signatures enforces.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib import aws
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import Inspected, Listed, ListedPart, Part, Stat

# AWS limits: docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MIB = 1 << 20
GIB = 1 << 30
DELETE_LIMIT = 1000
# Characters that a key may have and XML 1.0 may not (§2.2): one would spoil a DeleteObjects request for all the others.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# A range beyond the end is told as missing bytes: the row promised them.
_MISSING = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload", "InvalidRange"})


class S3:
    """One bucket. Empty `access_key`: the function's own credentials. Empty `endpoint`: AWS."""

    max_key_bytes = 1024
    min_part_bytes = 5 * MIB
    max_part_bytes = 5 * GIB
    max_parts = 10_000

    def __init__(self, bucket: str, *, region: str = "", endpoint: str = "", access_key: str = "", secret_key: str = "") -> None:
        self.bucket = bucket
        self._region = region or aws.region()
        self._endpoint = endpoint or None
        self._access_key = access_key or None
        self._secret_key = secret_key or None

    @cached_property
    def _client(self) -> Any:
        return aws.new_client(
            "s3",
            region_name=self._region,
            endpoint_url=self._endpoint,
            aws_access_key_id=self._access_key,
            aws_secret_access_key=self._secret_key,
            config=aws.config(
                signature_version="s3v4",
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path" if self._endpoint or aws.overridden_endpoint() else "virtual"},
            ),
        )

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        with _answering():
            answer: dict[str, Any] = self._client._make_api_call(operation, {"Bucket": self.bucket, **parameters})
            return answer

    def put(self, key: str, body: bytes, content_type: str) -> None:
        self._call("PutObject", Key=key, Body=body, ContentType=content_type)

    def read(self, key: str, offset: int, length: int) -> bytes:
        if length == 0:  # no Range can ask for nothing
            return b""
        answer = self._call("GetObject", Key=key, Range=f"bytes={offset}-{offset + length - 1}")
        with _answering():
            body: bytes = answer["Body"].read()
        if len(body) != length:
            raise BytesMissing("the stored object is shorter than its record says")
        return body

    def stat(self, key: str) -> Stat | None:
        answer = self._head(key)
        return Stat(answer["ContentLength"], answer["ETag"].strip('"')) if answer else None

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            return self._call("HeadObject", Key=key)
        except BytesMissing:
            # A HEAD has no body to tell a missing object from a missing bucket, and the two must not be confused.
            self._call("ListObjectsV2", Prefix=key, MaxKeys=1)
            return None

    def inspect(self, key: str, length: int) -> Inspected | None:
        try:
            answer = self._call("GetObject", Key=key, Range=f"bytes=0-{length - 1}")
        except BytesMissing as missing:
            if _code(missing.__cause__) != "InvalidRange":
                return None
            found = self._head(key)  # of an empty object there is no first byte
            return Inspected(found["ContentLength"], b"", found["ContentType"], found["LastModified"].timestamp()) if found else None
        with _answering():
            start = answer["Body"].read()
        size = int(answer["ContentRange"].rpartition("/")[2])
        return Inspected(size, start, answer["ContentType"], answer["LastModified"].timestamp())

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        left: dict[str, str] = {}
        together = [key for key in keys if not _NOT_IN_XML.search(key)]
        for key in keys:
            if _NOT_IN_XML.search(key):
                self._call("DeleteObject", Key=key)
        for start in range(0, len(together), DELETE_LIMIT):
            batch = [{"Key": key} for key in together[start : start + DELETE_LIMIT]]
            answer = self._call("DeleteObjects", Delete={"Objects": batch, "Quiet": True})
            left |= {error["Key"]: error.get("Code", "Unknown") for error in answer.get("Errors", ())}
        return left

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        start = {"StartAfter": after} if after else {}
        for page in self._pages("ListObjectsV2", {"ContinuationToken": "NextContinuationToken"}, Prefix=prefix, **start):
            for entry in page.get("Contents", ()):
                yield Listed(entry["Key"], entry["Size"])

    # ---- Copier --------------------------------------------------------------------------------------
    def copy(self, source: str, target: str) -> None:
        self._call("CopyObject", Key=target, CopySource={"Bucket": self.bucket, "Key": source})

    # ---- Presigner -----------------------------------------------------------------------------------
    def presign_get(self, key: str, expires_in: int, content_type: str, disposition: str) -> str:
        parameters = {"Bucket": self.bucket, "Key": key, "ResponseContentType": content_type}
        if disposition:
            parameters["ResponseContentDisposition"] = disposition
        return str(self._client.generate_presigned_url("get_object", parameters, expires_in))

    def presign_put(self, key: str, expires_in: int, headers: Mapping[str, str]) -> str:
        signed = {_PUT_PARAMETERS[name.lower()]: value for name, value in headers.items()}
        parameters: dict[str, Any] = {"Bucket": self.bucket, "Key": key, **signed}
        if "ContentLength" in parameters:
            parameters["ContentLength"] = int(parameters["ContentLength"])
        return str(self._client.generate_presigned_url("put_object", parameters, expires_in))

    def presign_part(self, key: str, upload_id: str, number: int, length: int, expires_in: int) -> str:
        part = {"Bucket": self.bucket, "Key": key, "UploadId": upload_id, "PartNumber": number, "ContentLength": length}
        return str(self._client.generate_presigned_url("upload_part", part, expires_in))

    # ---- Multipart -----------------------------------------------------------------------------------
    def create_multipart(self, key: str, content_type: str) -> str:
        return str(self._call("CreateMultipartUpload", Key=key, ContentType=content_type)["UploadId"])

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        answer = self._call("UploadPart", Key=key, UploadId=upload_id, PartNumber=number, Body=body)
        return Part(number, answer["ETag"])

    def copy_part(self, key: str, upload_id: str, number: int, source: str, offset: int, length: int) -> Part:
        answer = self._call(
            "UploadPartCopy",
            Key=key,
            UploadId=upload_id,
            PartNumber=number,
            CopySource={"Bucket": self.bucket, "Key": source},
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
        unfinished = [upload["UploadId"] for page in pages for upload in page.get("Uploads", ()) if upload["Key"] == key]
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


_PUT_PARAMETERS = {
    "content-length": "ContentLength",
    "content-md5": "ContentMD5",
    "content-type": "ContentType",
    "if-none-match": "IfNoneMatch",
    "x-amz-checksum-sha256": "ChecksumSHA256",
}


@contextmanager
def _answering() -> Iterator[None]:
    """Tell a missing object from a storage that does not answer or refuses."""
    try:
        yield
    except ClientError as error:
        if _code(error) in _MISSING:
            raise BytesMissing("the stored object is missing") from error
        raise StorageUnavailable("the storage refused or failed the request; try again shortly") from error
    except (BotoCoreError, OSError) as error:
        raise StorageUnavailable("the storage cannot be reached; try again shortly") from error


def _code(error: BaseException | None) -> str:
    """The code of S3's refusal."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""
