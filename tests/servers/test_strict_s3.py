"""The strict S3 server refuses what S3 refuses, in S3's words."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.servers.process import LOOPBACK, ROOT
from tests.servers.strict_s3 import StrictS3, strict_s3

BUCKET = "bucket"
MIB = 1 << 20
OTHER_MD5 = "rL0Y20zC+Fzt72VPzMSk2A=="  # of "foo"
OTHER_SHA256 = "LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564="
# Prints where a server is, and waits for its own end.
STARTER = """
import sys, time
from pathlib import Path
from tests.servers.strict_s3 import strict_s3
with strict_s3(Path(sys.argv[1])) as server:
    print(server.endpoint, flush=True)
    time.sleep(600)
"""


def client_of(server: StrictS3, access_key: str = "", secret_key: str = "", signature_version: str = "s3v4") -> Any:
    return botocore.session.Session().create_client(
        "s3",
        region_name=server.region,
        endpoint_url=server.endpoint,
        aws_access_key_id=access_key or server.access_key,
        aws_secret_access_key=secret_key or server.secret_key,
        config=Config(
            signature_version=signature_version,
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


def refusal(call: Any, **parameters: Any) -> str:
    """The code with which S3 refuses."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def send(method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, dict(headers or {}), method=method)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictS3]:
    with strict_s3(tmp_path_factory.mktemp("strict-s3")) as made:
        owner = client_of(made)
        owner.create_bucket(Bucket=BUCKET)
        owner.put_object(Bucket=BUCKET, Key="a", Body=b"body")
        yield made


@pytest.fixture(scope="module")
def s3(server: StrictS3) -> Any:
    return client_of(server)


def read(s3: Any, key: str, **parameters: Any) -> bytes:
    body: bytes = s3.get_object(Bucket=BUCKET, Key=key, **parameters)["Body"].read()
    return body


# ---- who asks ----------------------------------------------------------------------------------------------------
OPERATIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("get_object", {"Key": "a"}),
    ("put_object", {"Key": "a", "Body": b"x"}),
    ("list_objects_v2", {}),
    ("delete_objects", {"Delete": {"Objects": [{"Key": "a"}]}}),
    ("copy_object", {"Key": "b", "CopySource": {"Bucket": BUCKET, "Key": "a"}}),
    ("create_multipart_upload", {"Key": "a"}),
)
each_operation = pytest.mark.parametrize(("operation", "parameters"), OPERATIONS, ids=[name for name, _ in OPERATIONS])


@each_operation
def test_an_access_key_that_nobody_has(server: StrictS3, operation: str, parameters: dict[str, Any]) -> None:
    nobody = client_of(server, access_key="NOBODY0123456789ABCD")
    assert refusal(getattr(nobody, operation), Bucket=BUCKET, **parameters) == "InvalidAccessKeyId"


@each_operation
def test_a_secret_that_is_wrong(server: StrictS3, operation: str, parameters: dict[str, Any]) -> None:
    mistaken = client_of(server, secret_key=server.secret_key + "x")
    assert refusal(getattr(mistaken, operation), Bucket=BUCKET, **parameters) == "SignatureDoesNotMatch"


@each_operation
def test_a_user_who_may_not(server: StrictS3, operation: str, parameters: dict[str, Any]) -> None:
    second = client_of(server, server.second_access_key, server.second_secret_key)
    if operation == "delete_objects":  # it answers for each key
        assert second.delete_objects(Bucket=BUCKET, **parameters)["Errors"][0]["Code"] == "AccessDenied"
    else:
        assert refusal(getattr(second, operation), Bucket=BUCKET, **parameters) == "AccessDenied"


@each_operation
def test_a_bucket_that_is_missing(s3: Any, operation: str, parameters: dict[str, Any]) -> None:
    assert refusal(getattr(s3, operation), Bucket="missing", **parameters) == "NoSuchBucket"


def test_a_request_that_is_not_signed(server: StrictS3) -> None:
    status, body = send("GET", f"{server.endpoint}/{BUCKET}/a")
    assert status == 403
    assert b"<Code>AccessDenied</Code>" in body


def test_a_signature_of_version_2(server: StrictS3) -> None:
    assert refusal(client_of(server, signature_version="s3").list_objects_v2, Bucket=BUCKET) == "InvalidRequest"


@pytest.mark.parametrize(
    ("region", "changed", "status", "code"),
    [
        ("us-east-1", {}, 200, b""),
        ("eu-west-1", {}, 400, b"AuthorizationHeaderMalformed"),
        ("us-east-1", {"X-Amz-Date": "20200101T000000Z"}, 403, b"RequestTimeTooSkewed"),
    ],
)
def test_what_a_signature_is_bound_to(server: StrictS3, region: str, changed: dict[str, str], status: int, code: bytes) -> None:
    request = signed(server, "GET", f"{server.endpoint}/{BUCKET}", region=region)
    answered, body = send("GET", request.url, {**request.headers, **changed})
    assert answered == status
    assert code in body


def test_a_body_that_was_not_signed(server: StrictS3) -> None:
    request = signed(server, "PUT", f"{server.endpoint}/{BUCKET}/a", b"body")
    status, body = send("PUT", request.url, request.headers, b"Body")
    assert status == 400
    assert b"<Code>XAmzContentSHA256Mismatch</Code>" in body


def signed(server: StrictS3, method: str, url: str, body: bytes = b"", region: str = "us-east-1") -> Any:
    request = botocore.awsrequest.AWSRequest(method, url, data=body)
    credentials = botocore.credentials.Credentials(server.access_key, server.secret_key)
    botocore.auth.S3SigV4Auth(credentials, "s3", region).add_auth(request)
    return request


# ---- objects -----------------------------------------------------------------------------------------------------
def test_an_object_and_its_ranges(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="a b+ü%2F🙂//x", Body=b"0123456789", ContentType="text/x")
    assert read(s3, "a b+ü%2F🙂//x") == b"0123456789"
    assert read(s3, "a b+ü%2F🙂//x", Range="bytes=2-4") == b"234"
    assert read(s3, "a b+ü%2F🙂//x", Range="bytes=8-99") == b"89"
    assert refusal(s3.get_object, Bucket=BUCKET, Key="a b+ü%2F🙂//x", Range="bytes=10-11") == "InvalidRange"
    assert s3.head_object(Bucket=BUCKET, Key="a b+ü%2F🙂//x")["ContentType"] == "text/x"
    assert refusal(s3.get_object, Bucket=BUCKET, Key="missing") == "NoSuchKey"


def test_a_copy(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="source", Body=b"body", ContentType="text/x", Metadata={"a": "1"})
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "source"})
    s3.delete_object(Bucket=BUCKET, Key="source")
    copy = s3.get_object(Bucket=BUCKET, Key="copy")
    assert (copy["Body"].read(), copy["ContentType"], copy["Metadata"]) == (b"body", "text/x", {"a": "1"})
    missing = {"Bucket": BUCKET, "Key": "missing"}
    assert refusal(s3.copy_object, Bucket=BUCKET, Key="copy", CopySource=missing) == "NoSuchKey"


def test_a_list_is_in_the_order_of_bytes(s3: Any) -> None:
    keys = sorted((f"list/{name}" for name in ("a!", "a-b", "a/b", "a0", "A", "é", "\ufffd", "\U00010000")), key=str.encode)
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    s3.put_object(Bucket=BUCKET, Key="list0", Body=b"")
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET, Prefix="list/")["Contents"]] == keys
    page = s3.list_objects_v2(Bucket=BUCKET, Prefix="list/", StartAfter=keys[2], MaxKeys=2)
    assert [each["Key"] for each in page["Contents"]] == keys[3:5]
    page = s3.list_objects_v2(Bucket=BUCKET, Prefix="list/", ContinuationToken=page["NextContinuationToken"])
    assert [each["Key"] for each in page["Contents"]] == keys[5:]
    deleted = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in [*keys, "list/missing"]]})
    assert "Errors" not in deleted
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix="list/")["KeyCount"] == 0


@pytest.mark.parametrize(
    ("promised", "code"),
    [
        ({"ContentMD5": OTHER_MD5}, "BadDigest"),
        ({"ContentMD5": "no MD5"}, "InvalidDigest"),
        ({"ChecksumSHA256": OTHER_SHA256}, "BadDigest"),
    ],
)
def test_a_body_that_is_not_as_promised(s3: Any, promised: dict[str, str], code: str) -> None:
    assert refusal(s3.put_object, Bucket=BUCKET, Key="promised", Body=b"body", **promised) == code
    assert refusal(s3.get_object, Bucket=BUCKET, Key="promised") == "NoSuchKey"
    s3.put_object(Bucket=BUCKET, Key="kept", Body=b"foo", **({} if code == "InvalidDigest" else promised))


def test_a_key_that_is_too_long(s3: Any) -> None:
    longest = "é" * 512
    s3.put_object(Bucket=BUCKET, Key=longest, Body=b"body")
    assert read(s3, longest) == b"body"
    assert refusal(s3.put_object, Bucket=BUCKET, Key=longest + "a", Body=b"body") == "KeyTooLongError"
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=longest)["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key=longest, UploadId=upload, PartNumber=10_000, Body=b"part")


def test_an_object_that_is_not_replaced(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="once", Body=b"first", IfNoneMatch="*")
    assert refusal(s3.put_object, Bucket=BUCKET, Key="once", Body=b"second", IfNoneMatch="*") == "PreconditionFailed"
    assert read(s3, "once") == b"first"


# ---- parts -------------------------------------------------------------------------------------------------------
def test_an_upload_in_parts(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="tail", Body=b"0123456789")
    upload = {"Bucket": BUCKET, "Key": "parts", "UploadId": s3.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]}
    first = s3.upload_part(**upload, PartNumber=1, Body=b"x" * 5 * MIB)["ETag"]
    tail = {"Bucket": BUCKET, "Key": "tail"}
    second = s3.upload_part_copy(**upload, PartNumber=2, CopySource=tail, CopySourceRange="bytes=2-4")["CopyPartResult"]["ETag"]
    listed = s3.list_parts(**upload)["Parts"]
    assert [(part["PartNumber"], part["ETag"], part["Size"]) for part in listed] == [(1, first, 5 * MIB), (2, second, 3)]
    assert [each["UploadId"] for each in s3.list_multipart_uploads(Bucket=BUCKET, Prefix="parts")["Uploads"]] == [upload["UploadId"]]
    assert refusal(s3.get_object, Bucket=BUCKET, Key="parts") == "NoSuchKey"
    parts = {"Parts": [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]}
    s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    assert read(s3, "parts", Range=f"bytes={5 * MIB - 1}-") == b"x234"
    assert s3.head_object(Bucket=BUCKET, Key="parts")["ETag"].endswith('-2"')
    assert refusal(s3.list_parts, **upload) == "NoSuchUpload"


def test_parts_that_make_no_object(s3: Any) -> None:
    upload = {"Bucket": BUCKET, "Key": "refused", "UploadId": s3.create_multipart_upload(Bucket=BUCKET, Key="refused")["UploadId"]}
    parts = [{"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=b"small")["ETag"]} for number in (1, 2)]

    def complete(*parts: dict[str, Any]) -> str:
        return refusal(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": list(parts)})

    assert complete(*parts) == "EntityTooSmall"
    assert complete(*reversed(parts)) == "InvalidPartOrder"
    assert complete({"PartNumber": 3, "ETag": parts[0]["ETag"]}) == "InvalidPart"
    assert complete({"PartNumber": 1, "ETag": '"' + "0" * 32 + '"'}) == "InvalidPart"
    assert refusal(s3.upload_part, **upload, PartNumber=10_001, Body=b"small") == "InvalidArgument"
    s3.abort_multipart_upload(**upload)
    for call, more in ((s3.list_parts, {}), (s3.upload_part, {"PartNumber": 1, "Body": b"x"}), (s3.abort_multipart_upload, {})):
        assert refusal(call, **upload, **more) == "NoSuchUpload"


# ---- URLs --------------------------------------------------------------------------------------------------------
SIGNED = {"Content-Type": "text/x", "If-None-Match": "*"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({**SIGNED, "Content-Type": "text/y"}, b"body"),
        ({"Content-Type": "text/x"}, b"body"),
        ({**SIGNED, "If-None-Match": '"a"'}, b"body"),
        (SIGNED, b"bodies"),
        ({**SIGNED, "x-amz-acl": "public-read"}, b"body"),
    ],
    ids=["type", "no condition", "condition", "length", "not signed"],
)
def test_a_url_is_for_what_was_signed(s3: Any, headers: dict[str, str], body: bytes) -> None:
    put = {"Bucket": BUCKET, "Key": "by URL", "ContentLength": 4, "ContentType": "text/x", "IfNoneMatch": "*"}
    url = s3.generate_presigned_url("put_object", put, 60)
    assert send("PUT", url, headers, body)[0] == 403
    assert send("PUT", url.replace("by%20URL", "other"), SIGNED, b"body")[0] == 403
    assert send("PUT", url, SIGNED, b"body")[0] == 200
    assert send("PUT", url, SIGNED, b"body")[0] == 412
    s3.delete_object(Bucket=BUCKET, Key="by URL")


def test_a_url_that_reads(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="read by URL", Body=b"body")
    url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "read by URL", "ResponseContentType": "text/x"}, 60)
    assert send("GET", url) == (200, b"body")
    assert send("GET", url.replace("text%2Fx", "text%2Fhtml"))[0] == 403
    for method in ("DELETE", "POST", "PUT"):
        assert send(method, url, body=b"")[0] == 403


def test_a_url_that_has_expired(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="expired", Body=b"body")
    url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "expired"}, 1)
    assert send("GET", url)[0] == 200
    time.sleep(2.1)
    status, body = send("GET", url)
    assert status == 403
    assert b"Request has expired" in body


# ---- the process -------------------------------------------------------------------------------------------------
def test_it_ends_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        endpoint = starter.stdout.readline().strip()
        assert send("GET", endpoint)[0] == 403
        os.kill(starter.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection((LOOPBACK, int(endpoint.rpartition(":")[2]))).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    pytest.fail("it goes on")
