"""The deployed functions at work, each under its own role: the embedded AWS refuses what the role does not allow."""

import base64
import hashlib
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from chalicelib.access import sealing
from chalicelib.providers.s3 import S3
from tests.servers.strict_s3 import StrictS3, strict_s3

from .deployed import Stack, eventually

Row = dict[str, Any]


@pytest.fixture(scope="module")
def bucket(stack: Stack, service_key: str) -> str:
    created = stack.call("POST", "/storage/buckets", service_key, {"name": "photos"})
    assert created.status == 201, created.body
    return "photos"


def upload(stack: Stack, key: str, path: str, body: bytes, content_type: str = "application/octet-stream") -> Row:
    stored = stack.call("POST", f"/storage/object/{path}", key, body, {"Content-Type": content_type})
    assert stored.status in (200, 201), stored.body
    answer: Row = stored.json()
    return answer


def garbage_of(stack: Stack, physical_key: str) -> list[Row]:
    return [row for row in stack.rows("garbage") if row["physical_key"] == physical_key]


def object_row(stack: Stack, name: str) -> Row:
    return next(row for row in stack.rows("objects") if row["name"] == name and not row["partition"].endswith("#moved"))


def internal_bucket(stack: Stack) -> str:
    return stack.outputs()["InternalBucket"]


def holds(stack: Stack, physical_key: str) -> bool:
    listed = stack.client("s3").list_objects_v2(Bucket=internal_bucket(stack), Prefix=physical_key)
    return any(entry["Key"] == physical_key for entry in listed.get("Contents", []))


def test_the_api_answers_that_it_is_healthy(stack: Stack) -> None:
    assert stack.call("GET", "/health").status == 200


def test_the_admin_key_of_the_deployment_is_stored_as_its_hash_alone(stack: Stack) -> None:
    admins = [row for row in stack.rows("api-keys") if row["role"] == "admin"]
    assert [row["key_hash"] for row in admins] == [hashlib.sha256(stack.admin_key.encode()).hexdigest()]
    assert stack.admin_key not in str(admins)


def test_what_is_uploaded_through_the_api_is_downloaded_again(stack: Stack, service_key: str, bucket: str) -> None:
    body = bytes(range(256)) * 400
    stored = upload(stack, service_key, f"{bucket}/holiday/beach%20%C3%A9t%C3%A9.bin", body)
    assert stored["checksum"] == hashlib.sha256(body).hexdigest()
    fetched = stack.call("GET", f"/storage/object/{bucket}/holiday/beach%20%C3%A9t%C3%A9.bin", service_key)
    assert (fetched.status, fetched.body) == (200, body)
    row = object_row(stack, "holiday/beach été.bin")
    assert stack.client("s3").get_object(Bucket=internal_bucket(stack), Key=row["physical_key"])["Body"].read() == body


def test_overwriting_files_the_old_bytes_and_moves_the_counters(stack: Stack, service_key: str) -> None:
    assert stack.call("POST", "/storage/buckets", service_key, {"name": "counted"}).status == 201
    upload(stack, service_key, "counted/note.bin", b"first")
    old_key = object_row(stack, "note.bin")["physical_key"]
    upload(stack, service_key, "counted/note.bin", b"the second")
    filed = eventually(lambda: garbage_of(stack, old_key))
    assert [row["name"] for row in filed] == ["note.bin"]
    assert 23 * 3600 < filed[0]["due_at"] - int(time.time()) < 25 * 3600

    def counters() -> bool:
        row = next(row for row in stack.rows("buckets") if row["name"] == "counted")
        return (row["object_count"], row["total_size_bytes"]) == (1, 10)

    assert eventually(counters)


def test_changes_are_told_on_the_event_bus(stack: Stack, service_key: str, bucket: str) -> None:
    queue_url = stack.client("sqs").create_queue(QueueName="listener")["QueueUrl"]
    queue_arn = stack.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events, bus = stack.client("events"), stack.outputs()["EventBusName"]
    events.put_rule(Name="listen", EventBusName=bus, EventPattern='{"source": ["stowage"]}', State="ENABLED")
    events.put_targets(Rule="listen", EventBusName=bus, Targets=[{"Id": "queue", "Arn": queue_arn}])
    allowed = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": queue_arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    stack.client("sqs").set_queue_attributes(QueueUrl=queue_url, Attributes={"Policy": policy})
    upload(stack, service_key, f"{bucket}/announced.bin", b"news")
    told: list[str] = []

    def heard() -> bool:
        told.extend(
            message["Body"]
            for message in stack.client("sqs").receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages", [])
        )
        return any("object.created" in body and "announced.bin" in body for body in told)

    assert eventually(heard), told


def test_bytes_that_appear_unasked_are_filed_as_garbage(stack: Stack, service_key: str, bucket: str) -> None:
    tenant_id = next(row["tenant_id"] for row in stack.rows("buckets") if row["name"] == bucket)
    key = f"objects/{tenant_id}-{bucket}/a b+ü.bin~01ARZ3NDEKTSV4RRFFQ69G5FAV.direct"
    stack.client("s3").put_object(Bucket=internal_bucket(stack), Key=key, Body=b"unasked")
    assert [row["name"] for row in eventually(lambda: garbage_of(stack, key))] == ["a b+ü.bin"]


def test_only_direct_uploads_and_deltas_wake_the_function_for_them(stack: Stack) -> None:
    notified = stack.client("s3").get_bucket_notification_configuration(Bucket=internal_bucket(stack))
    filters = []
    for configuration in notified["LambdaFunctionConfigurations"]:
        assert configuration["LambdaFunctionArn"].endswith(":stowage-test-bucket-objects")
        assert configuration["Events"] == ["s3:ObjectCreated:*"]
        filters.append({rule["Name"].lower(): rule["Value"] for rule in configuration["Filter"]["Key"]["FilterRules"]})
    # AWS refuses two whose prefixes and suffixes overlap.
    assert filters == [{"prefix": "objects/", "suffix": ".direct"}, {"prefix": "deltas/"}]


def test_deleting_a_bucket_ends_as_a_job_that_the_queue_woke(stack: Stack, service_key: str) -> None:
    assert stack.call("POST", "/storage/buckets", service_key, {"name": "shortlived"}).status == 201
    upload(stack, service_key, "shortlived/one.bin", b"1")
    physical_key = object_row(stack, "one.bin")["physical_key"]
    deleted = stack.call("DELETE", "/storage/buckets/shortlived", service_key)
    assert deleted.status == 200, deleted.body
    assert eventually(lambda: garbage_of(stack, physical_key))
    assert not [row for row in stack.rows("objects") if row["name"] == "one.bin"]
    job = next(row for row in stack.rows("jobs") if row["job_id"] == deleted.json()["job_id"])
    assert (job["status"], int(job["done"])) in {("queued", 1), ("running", 1), ("done", 1)}


def test_a_tenant_is_made_changed_given_keys_and_deleted_within_the_functions_rights(stack: Stack) -> None:
    def admin(method: str, path: str, body: Any = None) -> Any:
        answer = stack.call(method, f"/admin/tenants{path}", stack.admin_key, body)
        assert answer.status in (200, 201), (method, path, answer.body)
        return answer.json()

    made = admin("POST", "", {"name": "shortlived"})
    tenant = f"/{made['tenant_id']}"
    assert admin("PATCH", tenant, {"jwt_audience": "files"})["jwt_audience"] == "files"
    key = admin("POST", f"{tenant}/keys", {"role": "service", "name": "second"})
    assert len(admin("GET", f"{tenant}/keys")) == 3
    assert stack.call("POST", "/auth/token", key["key"], {"sub": "me"}).status == 200
    admin("DELETE", f"{tenant}/keys/{key['id']}")
    for name in ("a", "b"):
        assert stack.call("POST", "/storage/buckets", made["service_key"], {"name": name}).status == 201
    path = f"/jobs/{admin('DELETE', tenant)['job_id']}"
    assert stack.call("GET", f"/admin{tenant}", stack.admin_key).status == 404
    # It ends two minutes later: that long a remembered credential may work.
    assert eventually(lambda: stack.call("GET", path, stack.admin_key).json()["done"] == 3), stack.call("GET", path, stack.admin_key).body
    assert not [row for row in stack.rows("buckets") if row["tenant_id"] == made["tenant_id"]]
    assert not [row for row in stack.rows("api-keys") if row.get("tenant_id") == made["tenant_id"]]


def test_the_api_may_do_all_that_it_offers(stack: Stack, service_key: str) -> None:
    """A call of each kind: what the role lacks would come out as 5xx."""
    assert stack.call("POST", "/storage/buckets", service_key, {"name": "first"}).status == 201
    assert stack.call("POST", "/storage/buckets", service_key, {"name": "second"}).status == 201
    for name in ("a", "b", "c", "d"):
        upload(stack, service_key, f"first/{name}.bin", name.encode())
    calls: list[tuple[str, str, Any]] = [
        ("PUT", "/storage/buckets/first", {"visibility": "public"}),
        ("GET", "/storage/buckets", None),
        ("GET", "/storage/buckets/first", None),
        ("GET", "/storage/objects/first?limit=2", None),
        ("GET", "/storage/object-info/first/a.bin", None),
        ("PATCH", "/storage/object-info/first/a.bin", {"user_metadata": {"k": "v"}}),
        ("HEAD", "/storage/object/first/a.bin", None),
        ("POST", "/storage/object/move", {"bucket": "first", "from": "a.bin", "to": "moved.bin"}),
        ("POST", "/storage/object/move", {"bucket": "first", "from": "b.bin", "to": "b.bin", "to_bucket": "second"}),
        ("POST", "/storage/object/copy", {"bucket": "first", "from": "moved.bin", "to": "copied.bin"}),
        ("DELETE", "/storage/object/first/c.bin", None),
        ("DELETE", "/storage/objects/first", {"paths": ["d.bin", "none.bin"]}),
        ("DELETE", "/storage/buckets/second?if_empty=true", None),
    ]
    answers = [(method, path, stack.call(method, path, service_key, body).status) for method, path, body in calls]
    assert [answer[2] for answer in answers] == [200] * 12 + [409], answers
    tenant_id = next(row["tenant_id"] for row in stack.rows("buckets") if row["name"] == "first")
    assert stack.call("GET", f"/storage/public/{tenant_id}/first/copied.bin").body == b"a"
    for path in ("/admin/tenants", f"/admin/tenants/{tenant_id}"):
        assert stack.call("GET", path, stack.admin_key).status == 200


def test_users_work_under_policies_and_signed_urls_within_the_functions_rights(stack: Stack, service_key: str) -> None:
    assert stack.call("POST", "/storage/buckets", service_key, {"name": "homes"}).status == 201
    made = []
    for operation in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        policy = {"bucket": "homes", "name": "own", "operation": operation, "definition": "auth_uid()::uuid = owner_id"}
        made.append(stack.call("POST", "/storage/policies", service_key, policy))
        assert made[-1].status == 201, made[-1].body
    ada, bob = (stack.call("POST", "/auth/token", service_key, {"sub": sub}).json()["token"] for sub in ("ada", "bob"))
    upload(stack, ada, "homes/a/diary.txt", b"dear diary")
    upload(stack, ada, "homes/a/diary.txt", b"dear diary, again")
    assert stack.call("GET", "/storage/object/homes/a/diary.txt", bob).status == 404
    listed = eventually(lambda: stack.call("GET", "/storage/objects/homes?delimiter=/", ada).json())
    assert [row["name"] for row in listed] == ["a/"]
    assert stack.call("GET", "/storage/objects/homes", bob).json() == []
    signed = stack.call("POST", "/storage/signed-url", ada, {"bucket": "homes", "path": "a/diary.txt"}).json()
    assert stack.call("GET", signed["signed_url"]).body == b"dear diary, again"
    assert stack.call("POST", "/storage/signed-url/revoke", ada, {"bucket": "homes", "path": "a/diary.txt"}).status == 200
    assert stack.call("GET", signed["signed_url"]).status == 401
    for_upload = stack.call("POST", "/storage/signed-upload-url", ada, {"bucket": "homes", "path": "a/new.txt"}).json()["signed_url"]
    assert [stack.call("PUT", for_upload, None, b"once").status for _ in range(2)] == [201, 409]
    asked = {"bucket": "homes", "operation": "SELECT", "path": "a/new.txt", "claims": {"sub": "bob"}}
    assert stack.call("POST", "/storage/policies/explain", service_key, asked).json()["reason"] == "no_policy_holds"
    assert stack.call("DELETE", f"/storage/policies/{made[0].json()['id']}", service_key).status == 200
    assert len(stack.call("GET", "/storage/policies/bucket/homes", service_key).json()) == 3
    assert stack.call("DELETE", "/storage/buckets/homes", service_key).status == 200
    assert eventually(lambda: not [row for row in stack.rows("policies") if row["bucket"] == "homes"])


def test_missing_bytes_are_told_from_forbidden_ones(stack: Stack, service_key: str, bucket: str) -> None:
    upload(stack, service_key, f"{bucket}/lost.bin", b"lost")
    stack.client("s3").delete_object(Bucket=internal_bucket(stack), Key=object_row(stack, "lost.bin")["physical_key"])
    answer = stack.call("GET", f"/storage/object/{bucket}/lost.bin", service_key)
    assert (answer.status, answer.json()["code"]) == (503, "BytesMissing")


def test_a_large_copy_is_made_by_the_job_worker(stack: Stack, service_key: str, bucket: str) -> None:
    upload(stack, service_key, f"{bucket}/large.bin", b"small")
    row, size = object_row(stack, "large.bin"), 100_000_001
    stack.client("s3").put_object(Bucket=internal_bucket(stack), Key=row["physical_key"], Body=bytes(size))
    stack.client("dynamodb").update_item(
        TableName=f"{stack.prefix}-objects",
        Key={name: {"S": row[name]} for name in ("partition", "name")},
        UpdateExpression="SET #s = :s",
        ExpressionAttributeNames={"#s": "size"},
        ExpressionAttributeValues={":s": {"N": str(size)}},
    )
    started = stack.call("POST", "/storage/object/copy", service_key, {"bucket": bucket, "from": "large.bin", "to": "large copy.bin"})
    assert started.status == 202, started.body
    path = f"/jobs/{started.json()['job_id']}"
    assert eventually(lambda: stack.call("GET", path, service_key).json()["status"] == "done"), stack.call("GET", path, service_key).body
    copied = stack.client("s3").head_object(Bucket=internal_bucket(stack), Key=object_row(stack, "large copy.bin")["physical_key"])
    assert copied["ContentLength"] == size
    fetched = stack.call("GET", f"/storage/object/{bucket}/large%20copy.bin", service_key)
    assert fetched.status == 302
    assert "X-Amz-Signature" in fetched.headers["location"]


def test_the_hourly_function_removes_garbage_that_is_due(stack: Stack, service_key: str, bucket: str) -> None:
    upload(stack, service_key, f"{bucket}/superseded.bin", b"old")
    row = object_row(stack, "superseded.bin")
    upload(stack, service_key, f"{bucket}/superseded.bin", b"new")
    assert eventually(lambda: garbage_of(stack, row["physical_key"]))
    due = {name: {"S": row[name]} for name in ("physical_key", "partition", "name", "version")}
    due |= {"hour": {"S": f"{datetime.now(UTC):%Y-%m-%dT%H}"}, "due_at": {"N": str(int(time.time()) - 1)}, "attempts": {"N": "0"}}
    stack.client("dynamodb").put_item(TableName=f"{stack.prefix}-garbage", Item=due)
    report = stack.invoke("hourly", {"source": "aws.events", "detail-type": "Scheduled Event"})
    assert report["garbage"]["left"] == {}
    assert not holds(stack, row["physical_key"])
    assert holds(stack, object_row(stack, "superseded.bin")["physical_key"])


# ---- uploads -----------------------------------------------------------------------------------------------------
MIB = 1 << 20
TUS = {"Tus-Resumable": "1.0.0"}
FOLDER = "/storage/v1/upload/tus"
LARGE = bytes(range(256)) * (6 * MIB // 256)  # two chunks, and one part of S3's, which has at least 5 MiB


def session_of(stack: Stack, upload_id: str) -> Row:
    return next(row for row in stack.rows("uploads") if (row["upload_id"], row["item"]) == (upload_id, "session"))


def create(stack: Stack, key: str, bucket: str, name: str, length: int, **headers: str) -> str:
    """The path of a new TUS upload."""
    told = ",".join(f"{field} {base64.b64encode(value.encode()).decode()}" for field, value in (("bucket", bucket), ("filename", name)))
    more = {field.replace("_", "-"): value for field, value in headers.items()}
    answer = stack.call(
        "POST", FOLDER, key, b"", TUS | {"Upload-Metadata": told} | more | ({"Upload-Length": str(length)} if length else {})
    )
    assert answer.status == 201, answer.body
    return f"{FOLDER}/{answer.headers['location'].rpartition('/')[2]}"


def send(stack: Stack, key: str, path: str, body: bytes, **headers: str) -> None:
    """All bytes of an upload, in chunks that a function can take."""
    for offset in range(0, len(body), 3 * MIB):
        sent = {"Upload-Offset": str(offset)} | (
            TUS | {"Content-Type": "application/offset+octet-stream"} if path.startswith(FOLDER) else {}
        )
        answer = stack.call("PATCH", path, key, body[offset : offset + 3 * MIB], sent)
        assert answer.status in (200, 204), answer.body


def put(stack: Stack, url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """The status of a PUT to the storage itself."""
    asked = urllib.request.Request(url, body, dict(headers), method="PUT")
    context = ssl.create_default_context(cafile=str(stack.aws.certificate))
    try:
        with urllib.request.urlopen(asked, context=context, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def fetched(stack: Stack, url: str) -> bytes:
    """What the storage itself answers GET with."""
    context = ssl.create_default_context(cafile=str(stack.aws.certificate))
    with urllib.request.urlopen(url, context=context, timeout=30) as answer:
        body: bytes = answer.read()
    return body


def stored_bytes(stack: Stack, name: str) -> bytes:
    found = stack.client("s3").get_object(Bucket=internal_bucket(stack), Key=object_row(stack, name)["physical_key"])
    return bytes(found["Body"].read())


def known_checksum(stack: Stack, key: str, path: str) -> str | None:
    """The checksum of an object, once somebody has worked it out."""
    shown = stack.call("GET", f"/storage/object-info/{path}", key)
    found: str | None = shown.json()["checksum"] if shown.status == 200 else None
    return found


def test_an_upload_in_chunks_becomes_an_object_within_the_apis_rights(stack: Stack, service_key: str, bucket: str) -> None:
    begun = stack.call("POST", "/storage/upload/resumable", service_key, {"bucket": bucket, "path": "chunks.bin", "size": len(LARGE)})
    assert begun.status == 201, begun.body
    path = f"/storage/upload/{begun.json()['upload_id']}"
    send(stack, service_key, path, LARGE)
    assert stack.call("HEAD", path, service_key).headers["upload-offset"] == str(len(LARGE))
    done = stack.call("POST", f"{path}/complete", service_key, {"checksum": hashlib.sha256(LARGE).hexdigest()})
    assert (done.status, done.json().get("checksum_state")) == (200, "known"), done.body
    assert stored_bytes(stack, "chunks.bin") == LARGE


def test_tus_uploads_are_begun_sent_given_up_and_joined_within_the_functions_rights(stack: Stack, service_key: str, bucket: str) -> None:
    assert stack.call("OPTIONS", FOLDER).status == 204
    whole = create(stack, service_key, bucket, "by tus.bin", len(LARGE))
    send(stack, service_key, whole, LARGE)
    assert stored_bytes(stack, "by tus.bin") == LARGE
    given_up = create(stack, service_key, bucket, "given up.bin", len(LARGE) + 1)
    send(stack, service_key, given_up, LARGE)
    assert stack.call("DELETE", given_up, service_key, headers=TUS).status == 204
    assert stack.call("HEAD", given_up, service_key, headers=TUS).status == 404
    assert session_of(stack, given_up.rpartition("/")[2])["multipart_id"] not in unfinished(stack)
    small = [create(stack, service_key, bucket, "part", 5, Upload_Concat="partial") for _ in range(2)]
    for path, body in zip(small, (b"first", b"other"), strict=True):
        send(stack, service_key, path, body)
    large = create(stack, service_key, bucket, "part", len(LARGE), Upload_Concat="partial")
    send(stack, service_key, large, LARGE)
    # Copies alone are made at once by the API; what is below the storage's minimum is joined by the job worker.
    create(stack, service_key, bucket, "joined at once.bin", 0, Upload_Concat=f"final;{large} {small[0]}")
    create(stack, service_key, bucket, "joined by job.bin", 0, Upload_Concat=f"final;{small[0]} {small[1]}")
    for name, body in (("joined at once.bin", LARGE + b"first"), ("joined by job.bin", b"firstother")):
        path = f"{bucket}/{name.replace(' ', '%20')}"
        assert eventually(lambda path=path: known_checksum(stack, service_key, path)) == hashlib.sha256(body).hexdigest()  # type: ignore[misc]
        assert stored_bytes(stack, name) == body


def unfinished(stack: Stack) -> set[str]:
    """The ids of all multipart uploads that are neither completed nor given up."""
    listed = stack.client("s3").list_multipart_uploads(Bucket=internal_bucket(stack))
    return {upload["UploadId"] for upload in listed.get("Uploads", ())}


def test_a_direct_upload_becomes_an_object_when_the_bucket_tells_of_it(stack: Stack, service_key: str, bucket: str) -> None:
    digest = hashlib.sha256(b"straight in").digest()
    for name, checksum in (("direct.bin", {}), ("promised.bin", {"checksum_sha256": digest.hex()})):
        wanted = {"bucket": bucket, "path": name, "size": 11} | checksum
        begun = stack.call("POST", "/storage/upload/direct", service_key, wanted)
        assert begun.status == 201, begun.body
        assert put(stack, begun.json()["url"], b"straight in", begun.json()["headers"]) == 200
        assert eventually(lambda name=name: known_checksum(stack, service_key, f"{bucket}/{name}")) == digest.hex()  # type: ignore[misc]
        assert stack.call("GET", f"/storage/object/{bucket}/{name}", service_key).body == b"straight in"
        confirmed = stack.call("POST", f"/storage/upload/{begun.json()['upload_id']}/confirm", service_key)
        assert (confirmed.status, confirmed.json()["name"]) == (200, name)


def test_a_direct_upload_in_parts_is_confirmed_within_the_apis_rights(stack: Stack, service_key: str, bucket: str) -> None:
    wanted = {"bucket": bucket, "path": "in parts.bin", "size": len(LARGE), "parts": 2}
    begun = stack.call("POST", "/storage/upload/direct", service_key, wanted)
    assert begun.status == 201, begun.body
    path = f"/storage/upload/{begun.json()['upload_id']}"
    again = stack.call("GET", f"{path}/parts?from=2&count=1", service_key).json()["parts"]
    assert stack.call("POST", f"{path}/confirm", service_key).status == 409
    offset = 0
    for part in [begun.json()["parts"][0], *again]:
        assert put(stack, part["url"], LARGE[offset : offset + part["size"]], {}) == 200
        offset += part["size"]
    confirmed = stack.call("POST", f"{path}/confirm", service_key)
    assert confirmed.status == 200, confirmed.body
    assert eventually(lambda: known_checksum(stack, service_key, f"{bucket}/in%20parts.bin")) == hashlib.sha256(LARGE).hexdigest()
    assert stored_bytes(stack, "in parts.bin") == LARGE


# ---- the hour ----------------------------------------------------------------------------------------------------
def hourly(stack: Stack, **event: Any) -> Any:
    return stack.invoke("hourly", {"source": "aws.events", "detail-type": "Scheduled Event", **event})


def change(stack: Stack, noun: str, key: Row, **values: Any) -> None:
    """Set attributes of a row, numbers and texts."""
    typed = {f":{name}": {"S": value} if isinstance(value, str) else {"N": str(value)} for name, value in values.items()}
    stack.client("dynamodb").update_item(
        TableName=f"{stack.prefix}-{noun}",
        Key={name: {"S": value} for name, value in key.items()},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
        ExpressionAttributeNames={f"#{name}": name for name in values},
        ExpressionAttributeValues=typed,
    )


def test_the_hourly_function_frees_uploads_that_have_expired(stack: Stack, service_key: str, bucket: str) -> None:
    hourly(stack)  # what other tests have given up is freed
    path = create(stack, service_key, bucket, "abandoned.bin", 2 * len(LARGE))
    send(stack, service_key, path, LARGE + LARGE[: 3 * MIB])  # a part, and a tail
    upload_id = path.rpartition("/")[2]
    session = session_of(stack, upload_id)
    assert session["multipart_id"] in unfinished(stack)
    assert holds(stack, session["tail_key"])
    change(
        stack,
        "uploads",
        {"upload_id": upload_id, "item": "session"},
        expires_at=int(time.time()) - 1,
        expiry_hour=f"{datetime.now(UTC):%Y-%m-%dT%H}",
    )
    assert hourly(stack, dry_run=True)["uploads"]["due"] == 1
    report = hourly(stack)
    assert (report["uploads"]["expired"], report["uploads"]["freed"], report["uploads"]["left"]) == (1, 1, 0), report
    assert session["multipart_id"] not in unfinished(stack)
    assert not holds(stack, session["tail_key"])
    assert "expiry_hour" not in session_of(stack, upload_id)
    assert stack.call("HEAD", path, service_key, headers=TUS).status == 410
    assert garbage_of(stack, session["physical_key"])


def test_the_hourly_function_puts_what_sweeps_have_found_into_quarantine_and_back(stack: Stack, service_key: str, bucket: str) -> None:
    hourly(stack)  # the first round of both sweeps has ended
    upload(stack, service_key, f"{bucket}/swept.bin", b"swept")
    row, s3 = object_row(stack, "swept.bin"), stack.client("s3")
    s3.delete_object(Bucket=internal_bucket(stack), Key=row["physical_key"])
    orphan = row | {
        "physical_key": row["physical_key"].rpartition("~")[0] + "~01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "version": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    }
    s3.put_object(Bucket=internal_bucket(stack), Key=orphan["physical_key"], Body=b"nobody's")
    for kind, found in (("missing", row), ("orphan", orphan)):
        texts = {name: found[name] for name in ("partition", "name", "version")}
        seen = {"first_seen": int(time.time()) - 2 * 24 * 3600, "sightings": 3}
        change(stack, "garbage", {"hour": kind, "physical_key": found["physical_key"]}, **texts, **seen)
        change(stack, "garbage", {"hour": "sweep", "physical_key": kind}, total=10_000)
    report = hourly(stack)
    assert {kind: (swept["quarantined"], swept["stopped"]) for kind, swept in report["sweeps"].items()} == {
        "missing": (1, None),
        "orphan": (1, None),
    }
    assert stack.call("GET", f"/storage/object/{bucket}/swept.bin", service_key).status == 404
    assert [entry["name"] for entry in garbage_of(stack, orphan["physical_key"])] == ["swept.bin"]
    s3.put_object(Bucket=internal_bucket(stack), Key=row["physical_key"], Body=b"swept")
    assert hourly(stack)["quarantine"]["restored"] == 1
    assert stack.call("GET", f"/storage/object/{bucket}/swept.bin", service_key).body == b"swept"


def test_an_image_is_transformed_within_the_functions_rights(stack: Stack, service_key: str, bucket: str) -> None:
    drawn = BytesIO()
    Image.effect_noise((640, 480), 60).save(drawn, "PNG")
    upload(stack, service_key, f"{bucket}/noise.png", drawn.getvalue(), "image/png")
    path = f"/storage/object/{bucket}/noise.png?width=100&format=webp"
    first, again = (stack.call("GET", path, service_key) for _ in range(2))
    assert (first.status, first.headers["content-type"]) == (200, "image/webp")
    assert Image.open(BytesIO(first.body)).size == (100, 75)
    assert again.body == first.body
    kept = stack.client("s3").list_objects_v2(Bucket=internal_bucket(stack), Prefix="transforms/")["Contents"]
    assert len(kept) == 1
    upload(stack, service_key, f"{bucket}/broken.png", drawn.getvalue()[:1000], "image/png")
    assert stack.call("GET", f"/storage/object/{bucket}/broken.png?width=100", service_key).status == 422


@contextmanager
def told(stack: Stack, functions: Iterable[str], variables: dict[str, str]) -> Iterator[None]:
    """The functions have these variables too for a while; afterwards their environments are as they were."""
    aws, environments = stack.client("lambda"), dict[str, dict[str, str]]()
    try:
        for name in (f"{stack.prefix}-{function}" for function in functions):
            environments[name] = aws.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
            aws.update_function_configuration(FunctionName=name, Environment={"Variables": environments[name] | variables})
        yield
    finally:
        for name, environment in environments.items():
            aws.update_function_configuration(FunctionName=name, Environment={"Variables": environment})


PRIVATE_ENDPOINTS = {"STOWAGE_ALLOW_PRIVATE_ENDPOINTS": "true"}


@pytest.fixture
def standing_in(stack: Stack, tmp_path: Path) -> Iterator[StrictS3]:
    """A server that the functions which use tenants' storages take for S3."""
    with strict_s3(tmp_path / "swift") as server:
        keys = {"access_key": server.access_key, "secret_key": server.secret_key}
        S3("tenants", region=server.region, endpoint=server.endpoint, **keys)._call("CreateBucket")
        overrides = {"STOWAGE_ENDPOINT_OVERRIDES": f"s3.us-east-1.amazonaws.com={server.endpoint}"}
        with told(stack, ("api", "job-worker", "hourly"), PRIVATE_ENDPOINTS | overrides):
            yield server


def test_a_storage_is_tested_used_and_watched_within_the_functions_rights(
    stack: Stack, service_key: str, bucket: str, standing_in: StrictS3
) -> None:
    described = {
        "name": "own",
        "provider": "s3",
        "bucket_name": "tenants",
        "region": "us-east-1",
        "access_key_id": standing_in.access_key,
        "secret_access_key": standing_in.secret_key,
        "remote_path": "of/stowage",
    }
    made = stack.call("POST", "/storages/create", service_key, described)
    assert made.status == 201, made.body
    storage_id = made.json()["storage_uuid"]
    assert stack.call("POST", "/storage/buckets", service_key, {"name": "owned", "storage_id": storage_id}).status == 201
    upload(stack, service_key, "owned/a.txt", b"on its own storage")
    assert stack.call("GET", "/storage/object/owned/a.txt", service_key).body == b"on its own storage"
    copied = stack.call(
        "POST", "/storage/object/copy", service_key, {"bucket": "owned", "from": "a.txt", "to": "a.txt", "to_bucket": bucket}
    )
    assert copied.status == 202, copied.body
    job = f"/jobs/{copied.json()['job_id']}"
    assert eventually(lambda: stack.call("GET", job, service_key).json()["status"] == "done"), stack.call("GET", job, service_key).body
    assert stack.call("GET", f"/storage/object/{bucket}/a.txt", service_key).body == b"on its own storage"
    assert eventually(lambda: stack.call("GET", "/storages/list", service_key).json()[0]["bucket_object_count"] == 1)
    row = next(row for row in stack.rows("storages") if row["storage_id"] == storage_id)
    change(stack, "storages", {name: row[name] for name in ("tenant_id", "storage_id")}, probed_at="2020-01-01T00:00:00.000000Z")
    assert stack.invoke("hourly", {})["storages"] == {"due": 1, "probed": 1, "degraded": 0, "recovered": 0, "finished": True}
    assert stack.call("DELETE", "/storages/delete", service_key, {"storage_uuid": storage_id}).status == 409
    assert stack.call("DELETE", "/storage/buckets/owned", service_key).status == 200
    assert stack.call("DELETE", f"/storages/delete?storage_uuid={storage_id}", service_key).status == 200


def test_a_vault_is_filled_moved_and_emptied_within_the_functions_rights(stack: Stack, service_key: str, standing_in: StrictS3) -> None:
    key_uuid = stack.call("POST", "/keys/create", service_key, {"name": "laptop"}).json()["key_uuid"]
    told_of, confirmed = (begin_delta(stack, service_key, key_uuid) for _ in range(2))
    assert eventually(lambda: delta_of(stack, told_of)["status"] == "stored"), "the bucket's event confirms"
    assert stack.call("POST", "/deltas/confirm", service_key, ids_of(confirmed)).status == 200
    url = stack.call("GET", f"/deltas/download?delta_uuid={confirmed['delta_uuid']}", service_key).json()["url"]
    assert fetched(stack, url) == DELTA
    section = {"delta_uuid": confirmed["delta_uuid"], "start": 0, "length": 3}
    assert stack.call("POST", "/deltas/claim", service_key, section).status == 201
    keys = {"access_key_id": standing_in.access_key, "secret_access_key": standing_in.secret_key}
    described = {"name": "vault", "provider": "s3", "bucket_name": "tenants", "region": "us-east-1", "remote_path": "of/vault"} | keys
    storage_id = stack.call("POST", "/storages/create", service_key, described).json()["storage_uuid"]
    moved = stack.call("POST", "/keys/migrate", service_key, {"key_uuid": key_uuid, "storage_uuid": storage_id})
    assert moved.status == 202, moved.body
    job = f"/jobs/{moved.json()['job_id']}"
    assert eventually(lambda: stack.call("GET", job, service_key).json()["status"] == "done"), stack.call("GET", job, service_key).body
    signing = {"access_key": standing_in.access_key, "secret_key": standing_in.secret_key}
    owner = S3("tenants", region=standing_in.region, endpoint=standing_in.endpoint, **signing)
    assert {listed.key for listed in owner.list(f"of/vault/{key_uuid}/")} == {
        f"of/vault/{key_uuid}/{each['delta_uuid']}" for each in (told_of, confirmed)
    }
    answer = stack.call("DELETE", f"/deltas/delete?delta_uuid={told_of['delta_uuid']}", service_key)
    assert (answer.status, answer.json()["warning"]) == (200, None)
    answer = stack.call("POST", "/keys/delete", service_key, {"key_uuid": key_uuid})
    assert (answer.status, answer.json()["deleted_count"], answer.json()["left"]) == (200, 1, [])
    assert list(owner.list(f"of/vault/{key_uuid}/")) == []
    assert stack.call("DELETE", f"/storages/delete?storage_uuid={storage_id}", service_key).status == 200


def test_a_vault_s_internal_deltas_are_deleted_within_the_functions_rights(stack: Stack, service_key: str) -> None:
    key_uuid = stack.call("POST", "/keys/create", service_key, {"name": "laptop"}).json()["key_uuid"]
    first, second = (begin_delta(stack, service_key, key_uuid) for _ in range(2))
    assert eventually(lambda: all(delta_of(stack, each)["status"] == "stored" for each in (first, second)))
    lies = f"deltas/{key_uuid}/"
    answer = stack.call("DELETE", f"/deltas/delete?delta_uuid={first['delta_uuid']}", service_key)
    assert (answer.status, answer.json()["left"]) == (200, [])
    listed = stack.client("s3").list_objects_v2(Bucket=internal_bucket(stack), Prefix=lies)
    assert [each["Key"] for each in listed["Contents"]] == [f"{lies}{second['delta_uuid']}"]
    abandoned = stack.call("POST", "/keys/create", service_key, {"name": "abandoned"}).json()["key_uuid"]
    wanted = {"key_uuid": abandoned, "size_bytes": len(DELTA), "content_md5": base64.b64encode(hashlib.md5(DELTA).digest()).decode()}
    never_sent = stack.call("POST", "/deltas/upload", service_key, wanted).json()
    place = {"partition": abandoned, "item": never_sent["delta_uuid"]}
    change(stack, "deltas", place, expires_at=1, expiry_hour=f"{datetime.now(UTC):%Y-%m-%dT%H}")
    assert stack.invoke("hourly", {})["deltas"]["expired"] == 1
    answer = stack.call("DELETE", f"/keys/delete?key_uuid={key_uuid}", service_key)
    assert (answer.status, answer.json()["left"]) == (200, [])
    assert "Contents" not in stack.client("s3").list_objects_v2(Bucket=internal_bucket(stack), Prefix=lies)


DELTA = b"an encrypted delta"


def begin_delta(stack: Stack, service_key: str, key_uuid: str) -> dict[str, Any]:
    """A delta whose bytes have just been put."""
    md5 = base64.b64encode(hashlib.md5(DELTA).digest()).decode()
    wanted = {"key_uuid": key_uuid, "size_bytes": len(DELTA), "content_md5": md5}
    begun = stack.call("POST", "/deltas/upload", service_key, wanted)
    assert begun.status == 201, begun.body
    told: dict[str, Any] = begun.json()
    assert put(stack, told["url"], DELTA, told["headers"]) == 200
    return told


def ids_of(begun: dict[str, Any]) -> dict[str, str]:
    return {name: begun[name] for name in ("delta_uuid", "upload_attempt_uuid")}


def delta_of(stack: Stack, begun: dict[str, Any]) -> dict[str, Any]:
    return next(row for row in stack.rows("deltas") if row["item"] == begun["delta_uuid"])


@pytest.fixture
def drive_told(stack: Stack) -> Iterator[str]:
    """Has the functions show public files on the embedded S3, and fetch from a server here, whose URL this is."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"fetched")

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    public = {"STOWAGE_PUBLIC_BASE_URL": f"{stack.aws.endpoint}/{internal_bucket(stack)}/public"}
    with (
        told(stack, ["job-worker"], PRIVATE_ENDPOINTS),
        told(stack, ["api"], PRIVATE_ENDPOINTS | public),
        ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/fetched.txt"
        server.shutdown()


def sealed(stack: Stack, secret: str, record: str) -> str:
    """A secret as one of the functions would have sealed it."""
    value = stack.client("ssm").get_parameter(Name=f"/{stack.prefix}/master-key", WithDecryption=True)["Parameter"]["Value"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "master_keys", lambda: (sealing.master_key_of(value.partition(",")[0]),))
        return sealing.seal(secret, record)


def work(stack: Stack, kind: str, tenant_id: str, task: dict[str, Any]) -> None:
    """Have the worker do a job of ada's to its end."""
    user = {"role": "user", "tenant_id": tenant_id, "claims": {"sub": "ada", "role": "authenticated"}}
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    row = {"kind": kind, "status": "queued", "pending": "pending", "created_at": now, "updated_at": now, "job_id": str(uuid4())}
    texts = row | {"tenant_id": tenant_id, "task": json.dumps(task | {"principal": user}), "checkpoint": "{}"}
    numbers = {name: {"N": "0"} for name in ("done", "failures", "fence", "lease_until")}
    item = {name: {"S": value} for name, value in texts.items()} | numbers
    stack.client("dynamodb").put_item(TableName=f"{stack.prefix}-jobs", Item=item)
    stack.invoke("job-worker", {"Records": [{"messageId": "m", "body": json.dumps({"job_id": row["job_id"]})}]})
    ended = next(each for each in stack.rows("jobs") if each["job_id"] == row["job_id"])
    assert (ended["status"], ended.get("error")) == ("done", None)


def test_a_drive_is_filled_shown_fetched_into_and_emptied_within_the_functions_rights(
    stack: Stack, service_key: str, drive_told: str
) -> None:
    drawn = BytesIO()
    Image.effect_noise((64, 48), 60).save(drawn, "PNG")
    token = stack.call("POST", "/auth/token", service_key, {"sub": "ada"}).json()["token"]

    def asked(status: int, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = stack.call(method, path, token, body, {name.replace("_", "-"): value for name, value in headers.items()})
        assert answer.status == status, (method, path, answer.body)
        return answer

    asked(201, "PUT", "/api/storage/photos/noise.png?acl=public", drawn.getvalue(), Content_Type="image/png")
    (listed,) = eventually(lambda: asked(200, "GET", "/api/storage?prefix=photos/").json()["data"])
    (shown,) = asked(200, "GET", "/api/folders").json()["data"]
    assert (listed["folderId"], shown["name"]) == (shown["id"], "photos")
    assert eventually(lambda: stack.call("GET", "/api/storage/folder-counts", service_key).json()["byFolderId"] == {shown["id"]: 1})
    assert asked(200, "GET", f"/api/storage?folderId={shown['id']}").json()["data"] == [listed]
    signed = asked(200, "POST", "/api/storage/photos/noise.png/sign").json()["path"]
    assert stack.call("GET", signed).body == drawn.getvalue()
    # What anybody may see, until it is private.
    found = stack.call("GET", f"/api/public/{tenant_of(stack, listed)}/photos/noise.png?width=16")
    assert found.status == 302, found.body
    key = "public/" + found.headers["location"].partition("/public/")[2]
    assert holds(stack, key)
    asked(200, "PATCH", "/api/storage/photos/noise.png", {"acl": "private", "metadata": {"mood": "good"}})
    assert eventually(lambda: not holds(stack, key))
    # Another folder, and none again.
    other = asked(201, "POST", "/api/folders", {"name": "other", "parentId": shown["id"]}).json()["data"]["id"]
    asked(200, "PATCH", f"/api/folders/{other}", {"name": "renamed", "parentId": None})
    asked(200, "PATCH", "/api/storage/photos/noise.png", {"folderId": other})
    asked(200, "DELETE", f"/api/folders/{other}")
    assert eventually(lambda: asked(200, "GET", "/api/storage?folderId=__root__").json()["data"])
    # By TUS, by URL, and by a URL as a job.
    location = asked(201, "POST", "/api/uploads", Upload_Length="3", **TUS, Upload_Metadata=f"key {b64('by tus.bin')}").headers["location"]
    path = location.partition("/api/uploads/")[2]
    asked(204, "PATCH", f"/api/uploads/{path}", b"tus", **TUS, Upload_Offset="0", Content_Type="application/offset+octet-stream")
    assert [each["status"] for each in asked(200, "GET", "/api/uploads").json()["uploads"]] == ["completed"]
    asked(201, "POST", "/api/storage/from-url", {"url": drive_told})
    tenant_id = tenant_of(stack, listed)
    task = {"key": "by job.txt", "content_type": None, "upsert": True, "acl": None, "folder_id": None}
    work(stack, "file.import", tenant_id, task | {"url": sealed(stack, drive_told, f"imports/{tenant_id}/url")})
    # What a request had no time for when it deleted a folder: the children of that, and its files.
    outer, inner = (asked(201, "POST", "/api/folders", {"name": name}).json()["data"]["id"] for name in ("outer", "inner"))
    asked(200, "PATCH", f"/api/folders/{inner}", {"parentId": outer})
    asked(200, "PATCH", "/api/storage/photos/noise.png", {"folderId": outer})
    work(stack, "folder.delete", tenant_id, {"folder_id": outer, "parent_id": None, "deleted_at": 0})
    assert {each["id"]: each["parentId"] for each in asked(200, "GET", "/api/folders").json()["data"]}[inner] is None
    assert "photos/noise.png" in [each["key"] for each in asked(200, "GET", "/api/storage?folderId=__root__").json()["data"]]
    for name in ("fetched.txt", "by%20job.txt"):
        assert asked(200, "GET", f"/api/storage/{name}").body == b"fetched"
    # A session in place of the token.
    cookie = asked(200, "POST", "/auth/session").headers["set-cookie"].partition(";")[0]
    assert len(stack.call("GET", "/api/storage", headers={"Cookie": cookie}).json()["data"]) == 4
    same = {"Cookie": cookie, "Host": "api.test", "Origin": "https://api.test"}
    for name in ("photos/noise.png", "by%20tus.bin", "fetched.txt", "by%20job.txt"):
        assert stack.call("DELETE", f"/api/storage/{name}", headers=same).status == 200
    assert stack.call("DELETE", "/auth/session", headers=same).status == 200
    assert eventually(lambda: stack.call("GET", "/api/storage/folder-counts", service_key).json()["total"] == 0)


def tenant_of(stack: Stack, file: dict[str, Any]) -> str:
    """Whose a file is."""
    return str(next(row["partition"] for row in stack.rows("objects") if row.get("id") == file["id"]).partition("#")[0])


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("sftp", {"host": "localhost", "bucket": "a", "access_key": "a", "secret_key": "b"}),
        ("ftp", {"host": "localhost", "bucket": "a", "access_key": "a", "secret_key": "b"}),
    ],
)
def test_the_package_has_what_every_kind_of_storage_needs(stack: Stack, service_key: str, kind: str, fields: dict[str, str]) -> None:
    answer = stack.call("POST", "/api/v1/backups/storage-configs/test-connection", service_key, {"name": "a", "provider": kind, **fields})
    assert answer.status == 200, answer.body
    assert answer.json()["code"] == "EndpointRefused", answer.body


def test_the_schedule_starts_the_hourly_function(stack: Stack) -> None:
    events = stack.client("events")
    rule = events.describe_rule(Name=f"{stack.prefix}-hourly")
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 hour)", "ENABLED")
    (target,) = events.list_targets_by_rule(Rule=f"{stack.prefix}-hourly")["Targets"]
    assert target["Arn"].endswith(f":function:{stack.prefix}-hourly")


def test_nothing_was_refused_and_no_dead_letter_is_left(stack: Stack) -> None:
    """Last, because it looks back at what the tests above made the functions do."""
    dead = [url for url in stack.client("sqs").list_queues(QueueNamePrefix=stack.prefix)["QueueUrls"] if url.endswith("-dead")]
    assert len(dead) == 4
    for url in dead:
        count = stack.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        assert count["Attributes"]["ApproximateNumberOfMessages"] == "0", url
    assert "AccessDenied" not in stack.aws.log()
