"""Direct uploads: the client puts the bytes into the storage itself (CONTRACT "Storage surface", `core/direct.py`).

The embedded AWS verifies presigned URLs, so what is refused here is refused by a server and not by a mock.
"""

import base64
import hashlib
import http.client
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

import pytest

from chalicelib import aws, seam, workers
from chalicelib.access.principals import Principal, Role
from chalicelib.core import checksums, direct, expiry, garbage, keeping, objects, sessions
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import Part
from chalicelib.providers.s3 import S3
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.garbage import Cursor, Garbage
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import scan
from chalicelib.tables.uploads import UploadSession
from infra import stack
from tests.api.held import storage_of
from tests.client import Answer, Client
from tests.conftest import Clock, Context, Tenant, run_job

BODY = b"hello, direct world"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
DIRECT, SINGLE_LIMIT, PART_BYTES = "/storage/upload/direct", 100_000_000, 16 << 20
HOUR = 3600
DAY = 25 * HOUR
ADA, BOB = "6f1c9a52-7d0e-4b6a-9c3f-0a1b2c3d4e5f", "0b6e4c1d-2a3f-4e5d-8c7b-6a5948372615"
STORED = {"id", "name", "size", "content_type", "checksum", "checksum_state", "version"}
BEGUN = {"upload_id", "method", "url", "headers", "expires_at"}
IN_PARTS = {"upload_id", "part_size", "parts", "expires_at"}
NAMES = [
    "with space/and more",
    "plus+plus",
    "percent%25 percent%2Fslash",
    "ünïcödé/日本語/🙂",
    "double//slash",
    "amp&amp;<tag>'\"",
    "a.direct",
    "a~b",
    "tail/",
]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def sha256_base64(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def md5_base64(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


# ---- what a client does --------------------------------------------------------------------------------
def ask(client: Client, path: str = "a", size: int = len(BODY), **fields: Any) -> Answer:
    return client("POST", DIRECT, {"bucket": "b", "path": path, "size": size, **fields})


def begin(client: Client, path: str = "a", size: int = len(BODY), **fields: Any) -> dict[str, Any]:
    answer = ask(client, path, size, **fields)
    assert answer.status == 201, answer.body
    begun: dict[str, Any] = answer.json()
    return begun


def send(url: str, body: bytes, headers: dict[str, str], method: str = "PUT") -> tuple[int, str]:
    """Status and ETag of one request that carries these headers and nothing that the library would add."""
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.netloc, timeout=10)
    connection.request(method, f"{split.path}?{split.query}", body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers.get("ETag", "")


def put(begun: dict[str, Any], body: bytes = BODY) -> int:
    return send(begun["url"], body, begun["headers"])[0]


def put_part(part: dict[str, Any], body: bytes) -> tuple[int, str]:
    return send(part["url"], body, {"Content-Length": str(len(body))})


def confirm(client: Client, begun: dict[str, Any], body: Any = None) -> Answer:
    return client("POST", f"/storage/upload/{begun['upload_id']}/confirm", body)


def confirmed(client: Client, begun: dict[str, Any], body: Any = None) -> dict[str, Any]:
    answer = confirm(client, begun, body)
    assert answer.status == 200, answer.body
    row: dict[str, Any] = answer.json()
    return row


def give_up(client: Client, begun: dict[str, Any]) -> Answer:
    return client("DELETE", f"/storage/upload/{begun['upload_id']}")


def reissue(client: Client, begun: dict[str, Any], query: str = "") -> Answer:
    return client("GET", f"/storage/upload/{begun['upload_id']}/parts?{query}")


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


def info(client: Client, name: str = "a") -> dict[str, Any]:
    answer = client("GET", f"/storage/object-info/b/{quote(name)}")
    assert answer.status == 200, answer.body
    row: dict[str, Any] = answer.json()
    return row


# ---- what goes on behind -------------------------------------------------------------------------------
def key_of(begun: dict[str, Any]) -> str:
    """The physical key that a URL of an upload leads to."""
    url = begun["url"] if "url" in begun else begun["parts"][0]["url"]
    path = unquote(urlsplit(url).path)
    return path[path.index("/objects/") + 1 :]  # after the bucket and what else a storage puts before it


def holder(begun: dict[str, Any]) -> Any:
    """The provider that an upload goes to."""
    session = UploadSession.read(begun["upload_id"], UploadSession.SESSION)
    assert session is not None
    return keeping.holding(session)


def deliver(key: str) -> None:
    """ObjectCreated, as S3 tells a function of it: keys are encoded as forms are."""
    workers.bucket_objects({"Records": [{"s3": {"object": {"key": quote_plus(key, safe="/")}}}]}, Context())


def is_stored(begun: dict[str, Any]) -> bool:
    return holder(begun).stat(key_of(begun)) is not None


def row_of(tenant: Tenant, name: str = "a") -> StoredObject | None:
    bucket = Bucket.read(tenant.tenant_id, "b")
    assert bucket is not None
    return StoredObject.read(bucket.partition, name)


def stored_keys(tenant: Tenant) -> list[str]:
    return [listed.key for listed in storage_of(tenant).list(f"objects/{tenant.tenant_id}-")]


def filed(key: str) -> list[Garbage]:
    rows = (Garbage.from_raw_data(item) for page in scan(Garbage) for item in page if "due_at" in item)
    return [row for row in rows if row.physical_key == key]


def jobs_of(tenant: Tenant) -> list[Job]:
    """The checksum jobs that have not ended."""
    rows = (Job.from_raw_data(item) for page in scan(Job) for item in page)
    return [row for row in rows if row.tenant_id == tenant.tenant_id and row.kind == checksums.JOB and row.pending]


def run_jobs(tenant: Tenant) -> None:
    for job in jobs_of(tenant):
        run_job(job.job_id)
    assert jobs_of(tenant) == []


def clean_up() -> None:
    """The hourly cleanup, which other tests with a clock of their own have not been at yet."""
    for cursor in (garbage.CURSOR, expiry.CURSOR):
        Cursor(Cursor.HOUR, cursor).delete()
    workers.hourly({}, Context())


@pytest.fixture
def bucket(service: Client) -> Client:
    """The service's client, with a bucket `b`."""
    service.bucket("b")
    return service


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """The least bytes of a part, so few that tests can put some."""
    monkeypatch.setattr(S3, "min_part_bytes", 4)
    return 4


@pytest.fixture
def events(embedded: stack.EmbeddedAWS) -> Callable[[], list[dict[str, Any]]]:
    """Gives what the bucket has told since the last call, as Lambda would get it."""
    sqs, queue = aws.client("sqs"), stack.outputs(embedded)[stack.EVENTS_QUEUE]

    def come() -> list[dict[str, Any]]:
        found = []
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            taken = [{"Id": str(place), "ReceiptHandle": message["ReceiptHandle"]} for place, message in enumerate(messages)]
            sqs.delete_message_batch(QueueUrl=queue, Entries=taken)
            found += [json.loads(message["Body"]) for message in messages]
        return found

    return come


def await_event(events: Callable[[], list[dict[str, Any]]], begun: dict[str, Any]) -> dict[str, Any]:
    """The event about an upload; notifications follow a PUT by moments."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for event in events():
            if any(begun["upload_id"] in record["s3"]["object"]["key"] for record in event.get("Records", ())):
                return event
    raise AssertionError("the bucket did not tell of the object")


# ---- one PUT -------------------------------------------------------------------------------------------
def test_an_upload_is_begun_put_and_confirmed(bucket: Client) -> None:
    before = seam.timestamp()
    begun = begin(bucket, "folder/a.txt")
    assert begun.keys() == BEGUN
    assert begun["method"] == "PUT"
    assert begun["headers"] == {"Content-Type": "text/plain", "Content-Length": str(len(BODY)), "If-None-Match": "*"}
    assert before + HOUR <= seam.moment(begun["expires_at"]).timestamp() <= seam.timestamp() + HOUR
    assert put(begun) == 200
    assert bucket.names("b") == []
    row = confirmed(bucket, begun)
    assert row.keys() == STORED
    assert (row["name"], row["size"], row["content_type"]) == ("folder/a.txt", len(BODY), "text/plain")
    assert bucket.get("b", "folder/a.txt").body == BODY
    shown = info(bucket, "folder/a.txt")
    assert {field: shown[field] for field in STORED} == row


@pytest.mark.parametrize("promised", [sha256(BODY), sha256(BODY).upper(), sha256_base64(BODY)], ids=["hex", "upper hex", "base64"])
def test_a_promised_sha256_is_signed_and_known_at_once(bucket: Client, tenant: Tenant, promised: str) -> None:
    begun = begin(bucket, checksum_sha256=promised)
    assert begun["headers"]["x-amz-checksum-sha256"] == sha256_base64(BODY)
    assert put(begun) == 200
    row = confirmed(bucket, begun)
    assert (row["checksum"], row["checksum_state"]) == (sha256(BODY), "known")
    assert jobs_of(tenant) == []


@pytest.mark.parametrize(
    "promise",
    [{}, {"content_md5": md5_base64(BODY)}, {"content_md5": hashlib.md5(BODY).hexdigest()}],
    ids=["nothing", "md5 base64", "md5 hex"],
)
def test_without_a_sha256_the_checksum_is_pending_until_a_job_has_read_the_bytes(
    bucket: Client, tenant: Tenant, promise: dict[str, str]
) -> None:
    begun = begin(bucket, **promise)
    assert begun["headers"].get("Content-MD5") == (md5_base64(BODY) if promise else None)
    assert put(begun) == 200
    row = confirmed(bucket, begun)
    assert (row["checksum"], row["checksum_state"]) == (None, "pending")
    assert (info(bucket)["checksum"], info(bucket)["checksum_state"]) == (None, "pending")
    [listed] = bucket("GET", "/storage/objects/b").json()
    assert listed["checksum"] is None
    run_jobs(tenant)
    assert (info(bucket)["checksum"], info(bucket)["checksum_state"]) == (sha256(BODY), "known")
    assert info(bucket)["version"] == row["version"]


def test_both_digests_can_be_promised(bucket: Client) -> None:
    begun = begin(bucket, checksum_sha256=sha256(BODY), content_md5=md5_base64(BODY))
    assert {"x-amz-checksum-sha256", "Content-MD5"} <= begun["headers"].keys()
    assert put(begun) == 200
    assert confirmed(bucket, begun)["checksum"] == sha256(BODY)


def test_confirming_again_gives_the_same(bucket: Client, tenant: Tenant) -> None:
    begun = begin(bucket)
    put(begun)
    first = confirmed(bucket, begun)
    assert confirmed(bucket, begun) == first
    run_jobs(tenant)
    again = confirmed(bucket, begun)
    assert {field: again[field] for field in STORED - {"checksum", "checksum_state"}} == {
        field: first[field] for field in STORED - {"checksum", "checksum_state"}
    }


def test_what_was_not_put_cannot_be_confirmed_yet(bucket: Client) -> None:
    begun = begin(bucket)
    for _ in range(2):
        assert told(confirm(bucket, begun)) == (409, "NotUploaded")
    assert bucket.names("b") == []
    put(begun)
    confirmed(bucket, begun)


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 40], ids=["0", "1", "10240"])
@pytest.mark.parametrize("is_promised", [True, False], ids=["sha256", "no sha256"])
def test_objects_of_any_size_are_whole(bucket: Client, tenant: Tenant, body: bytes, is_promised: bool) -> None:
    begun = begin(bucket, size=len(body), **({"checksum_sha256": sha256(body)} if is_promised else {}))
    assert put(begun, body) == 200
    assert confirmed(bucket, begun)["size"] == len(body)
    assert bucket.get("b", "a").body == body
    run_jobs(tenant)
    assert info(bucket)["checksum"] == sha256(body)


@pytest.mark.parametrize(
    ("name", "declared", "stored"),
    [
        ("a.png", None, "image/png"),
        ("a", None, "application/octet-stream"),
        ("a.png", "text/plain; charset=UTF-8", "text/plain; charset=UTF-8"),
        ("a", "Image/JPEG", "image/jpeg"),
        ("a.tar.gz", None, "application/gzip"),
    ],
)
def test_the_type_is_the_declared_one_else_guessed_from_the_name(bucket: Client, name: str, declared: str | None, stored: str) -> None:
    begun = begin(bucket, name, **({"content_type": declared} if declared else {}))
    assert begun["headers"]["Content-Type"] == stored
    assert put(begun) == 200
    assert confirmed(bucket, begun)["content_type"] == stored
    assert bucket.get("b", name).headers["content-type"] == stored


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_every_name_is_put_under_its_very_key(bucket: Client, name: str) -> None:
    begun = begin(bucket, name)
    assert put(begun) == 200
    assert confirmed(bucket, begun)["name"] == name
    assert bucket.names("b") == [name]
    assert bucket.get("b", name).body == BODY


def test_user_metadata_goes_with_the_object(bucket: Client) -> None:
    metadata = {"colour": "bleu", "nested": {"é": [1, None]}}
    begun = begin(bucket, user_metadata=metadata)
    put(begun)
    confirmed(bucket, begun)
    assert info(bucket)["user_metadata"] == metadata


def test_an_object_is_replaced_and_keeps_its_identity(bucket: Client, tenant: Tenant) -> None:
    bucket.put("b", "a", b"old")
    before = info(bucket)
    begun = begin(bucket)
    put(begun)
    assert bucket.get("b", "a").body == b"old"
    row = confirmed(bucket, begun)
    assert bucket.get("b", "a").body == BODY
    after = info(bucket)
    assert (row["id"], after["id"], after["created_at"]) == (before["id"], before["id"], before["created_at"])
    assert after["version"] > before["version"]


def test_an_object_that_is_to_be_kept_is_told_when_the_upload_begins_or_when_it_ends(bucket: Client) -> None:
    begun = begin(bucket, upsert=False)
    put(begun)
    bucket.put("b", "a", b"was first")
    assert told(ask(bucket, upsert=False)) == (409, "ObjectExists")
    assert told(confirm(bucket, begun)) == (409, "ObjectExists")
    deliver(key_of(begun))
    assert bucket.get("b", "a").body == b"was first"
    bucket.delete("b", "a")
    confirmed(bucket, begun)
    assert bucket.get("b", "a").body == BODY


def test_two_uploads_of_one_name_are_two_versions(bucket: Client) -> None:
    first, second = begin(bucket), begin(bucket, size=3)
    assert key_of(first) != key_of(second)
    put(first)
    put(second, b"two")
    confirmed(bucket, second)
    assert bucket.get("b", "a").body == b"two"
    confirmed(bucket, first)
    assert bucket.get("b", "a").body == BODY
    confirmed(bucket, second)
    assert bucket.get("b", "a").body == BODY, "a repetition changes nothing"


def test_a_name_that_was_deleted_while_it_was_uploaded_is_a_new_object(bucket: Client) -> None:
    bucket.put("b", "a", b"old")
    before = info(bucket)
    begun = begin(bucket)
    put(begun)
    bucket.delete("b", "a")
    assert confirmed(bucket, begun)["id"] != before["id"]


# ---- the bucket tells of it ----------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_what_the_bucket_tells_makes_the_object_without_a_confirmation(
    bucket: Client, events: Callable[[], list[dict[str, Any]]], name: str
) -> None:
    begun = begin(bucket, name, checksum_sha256=sha256(BODY))
    assert put(begun) == 200
    workers.bucket_objects(await_event(events, begun), Context())
    assert bucket.names("b") == [name]
    assert bucket.get("b", name).body == BODY
    assert info(bucket, name)["checksum"] == sha256(BODY)


def test_the_bucket_tells_of_direct_uploads_alone(bucket: Client, tenant: Tenant, events: Callable[[], list[dict[str, Any]]]) -> None:
    bucket.put("b", "through the API.direct")
    begun = begin(bucket)
    put(begun)
    told_of = await_event(events, begun)
    for event in [told_of, *events()]:
        keys = [unquote_plus(record["s3"]["object"]["key"]) for record in event.get("Records", ())]
        assert [key for key in keys if tenant.tenant_id in key and key != key_of(begun)] == []


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_an_event_alone_makes_the_object(bucket: Client, name: str) -> None:
    begun = begin(bucket, name)
    put(begun)
    deliver(key_of(begun))
    assert bucket.names("b") == [name]
    assert bucket.get("b", name).body == BODY


def test_an_event_before_the_bytes_changes_nothing(bucket: Client) -> None:
    begun = begin(bucket)
    deliver(key_of(begun))
    assert bucket.names("b") == []
    put(begun)
    confirmed(bucket, begun)


@pytest.mark.parametrize(
    "order", ["event confirm", "confirm event", "event event", "confirm confirm", "event confirm event confirm"], ids=lambda order: order
)
def test_however_it_is_told_there_is_one_object_of_one_version(bucket: Client, tenant: Tenant, order: str) -> None:
    begun = begin(bucket)
    put(begun)
    confirmations = []
    for step in order.split():
        if step == "event":
            deliver(key_of(begun))
        else:
            confirmations.append(confirmed(bucket, begun))
    row = row_of(tenant)
    assert row is not None
    assert (row.version, row.revision, row.physical_key) == (begun["upload_id"], 1, key_of(begun))
    assert stored_keys(tenant) == [key_of(begun)]
    assert len(jobs_of(tenant)) == 1
    assert all(each == confirmations[0] for each in confirmations)
    assert {each["id"] for each in confirmations} <= {row.id}
    assert filed(key_of(begun)) == []


@pytest.mark.parametrize("is_in_parts", [False, True], ids=["single", "parts"])
def test_told_by_many_at_once_there_is_one_object_of_one_version(
    bucket: Client, tenant: Tenant, small_parts: int, is_in_parts: bool
) -> None:
    for number in range(5):
        name = f"raced {number}"
        begun = begin(bucket, name, **({"parts": 3} if is_in_parts else {}))
        _put_whole(begun)
        key = key_of(begun)

        def tell(number: int, begun: dict[str, Any] = begun, key: str = key) -> Any:
            return deliver(key) if number % 2 else confirm(bucket, begun)

        with ThreadPoolExecutor(8) as pool:
            answers = [answer for answer in pool.map(tell, range(8)) if answer is not None]
        assert [answer.status for answer in answers] == [200] * 4, [answer.body for answer in answers]
        row = row_of(tenant, name)
        assert row is not None
        assert (row.version, row.revision) == (begun["upload_id"], 1)
        assert {answer.json()["id"] for answer in answers} == {row.id}, "everyone is told of the object that there is"
        assert {answer.json()["version"] for answer in answers} == {row.version}
        assert [key for key in stored_keys(tenant) if name in key] == [key_of(begun)]
        assert bucket.get("b", name).body == BODY
    assert len(jobs_of(tenant)) == 5


def _nothing_more(client: Client, begun: dict[str, Any]) -> None:
    """Nothing."""


def _delete(client: Client, begun: dict[str, Any]) -> None:
    assert client.delete("b", "a").status == 200


def _overwrite(client: Client, begun: dict[str, Any]) -> None:
    assert client.put("b", "a", b"newer").status == 200


def _event(client: Client, begun: dict[str, Any]) -> None:
    deliver(key_of(begun))


@pytest.mark.parametrize(
    ("then", "left"),
    [(_nothing_more, BODY), (_event, BODY), (_delete, None), (_overwrite, b"newer")],
    ids=["confirmed", "told too", "deleted", "overwritten"],
)
def test_a_confirmation_that_is_overtaken_by_another_gives_what_that_gave(
    bucket: Client, monkeypatch: pytest.MonkeyPatch, then: Callable[[Client, dict[str, Any]], None], left: bytes | None
) -> None:
    """Whatever became of the object since."""
    begun = begin(bucket)
    put(begun)
    flip, first = objects.flip, []

    def overtaken(*arguments: Any) -> bool:
        monkeypatch.setattr(objects, "flip", flip)
        first.append(confirmed(bucket, begun))
        then(bucket, begun)
        return flip(*arguments)

    monkeypatch.setattr(objects, "flip", overtaken)
    second = confirmed(bucket, begun)
    assert bucket.get("b", "a").status == (404 if left is None else 200)
    assert left is None or bucket.get("b", "a").body == left
    assert second == first[0]


def test_a_confirmation_that_is_overtaken_by_the_end_of_its_upload_makes_nothing(bucket: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = begin(bucket)
    put(begun)
    flip = objects.flip

    def overtaken(*arguments: Any) -> bool:
        monkeypatch.setattr(objects, "flip", flip)
        assert give_up(bucket, begun).status == 200
        return flip(*arguments)

    monkeypatch.setattr(objects, "flip", overtaken)
    assert told(confirm(bucket, begun)) == (404, "UploadNotFound")
    assert bucket.names("b") == []


def _put_whole(begun: dict[str, Any], body: bytes = BODY) -> list[str]:
    """Put all bytes of an upload; gives the ETags of its parts."""
    if "url" in begun:
        assert put(begun, body) == 200
        return []
    etags, offset = [], 0
    for part in begun["parts"]:
        status, etag = put_part(part, body[offset : offset + part["size"]])
        assert status == 200
        offset += part["size"]
        etags.append(etag)
    assert offset == len(body)
    return etags


@pytest.mark.parametrize("is_first_told_by", ["event", "confirm"])
@pytest.mark.parametrize("is_in_parts", [False, True], ids=["single", "parts"])
def test_a_deleted_object_does_not_come_back(bucket: Client, small_parts: int, is_first_told_by: str, is_in_parts: bool) -> None:
    begun = begin(bucket, **({"parts": 3} if is_in_parts else {}))
    _put_whole(begun)
    if is_in_parts and is_first_told_by == "event":  # confirmed by a process that died right after it had them assembled
        session = UploadSession.read(begun["upload_id"], UploadSession.SESSION)
        direct._assemble(session, None)
    deliver(key_of(begun)) if is_first_told_by == "event" else confirmed(bucket, begun)
    assert bucket.delete("b", "a").status == 200
    deliver(key_of(begun))
    confirmed(bucket, begun)
    assert bucket.names("b") == []
    assert bucket.get("b", "a").status == 404


def test_an_overwritten_object_does_not_come_back(bucket: Client) -> None:
    begun = begin(bucket)
    put(begun)
    confirmed(bucket, begun)
    bucket.put("b", "a", b"newer")
    deliver(key_of(begun))
    confirmed(bucket, begun)
    assert bucket.get("b", "a").body == b"newer"


def test_a_moved_object_is_not_made_a_second_time(bucket: Client) -> None:
    begun = begin(bucket)
    put(begun)
    confirmed(bucket, begun)
    assert bucket("POST", "/storage/object/move", {"bucket": "b", "from": "a", "to": "c"}).status == 200
    deliver(key_of(begun))
    confirmed(bucket, begun)
    assert bucket.names("b") == ["c"]
    assert filed(key_of(begun)) == []


def test_an_event_that_comes_when_the_upload_is_forgotten_takes_nothing_from_the_object(bucket: Client, clock: Clock) -> None:
    begun = begin(bucket)
    put(begun)
    confirmed(bucket, begun)
    UploadSession(begun["upload_id"], UploadSession.SESSION).delete()
    deliver(key_of(begun))
    clock.advance(DAY)
    clean_up()
    assert bucket.get("b", "a").body == BODY


@pytest.mark.parametrize(
    "key",
    [
        "uploads/01JD3ZXQ2M8V9K4T6W7Y0ABCDE/00000001",
        "objects/00000000-0000-4000-8000-000000000000-b/a~01JD3ZXQ2M8V9K4T6W7Y0ABCDE",
        "objects/00000000-0000-4000-8000-000000000000-b/a~01JD3ZXQ2M8V9K4T6W7Y0ABCD.direct",
        "objects/nonsense/a~01JD3ZXQ2M8V9K4T6W7Y0ABCDE.direct",
        "somebody else's.direct",
        ".direct",
        "",
    ],
)
def test_what_is_no_direct_upload_is_left_alone(embedded: stack.EmbeddedAWS, key: str) -> None:
    deliver(key)
    assert filed(key) == []


def test_the_event_by_which_s3_tests_a_notification_is_taken(embedded: stack.EmbeddedAWS) -> None:
    workers.bucket_objects({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}, Context())


def test_bytes_of_another_name_under_the_version_of_an_upload_are_not_adopted(bucket: Client) -> None:
    begun = begin(bucket)
    other = key_of(begun).replace("/a~", "/other~")
    holder(begun).put(other, BODY, "application/octet-stream")
    deliver(other)
    assert bucket.names("b") == []
    assert len(filed(other)) == 1
    assert told(confirm(bucket, begun)) == (409, "NotUploaded")


def test_an_event_is_delivered_again_while_the_storage_is_down(bucket: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = begin(bucket)
    put(begun)

    def down(*_: object) -> None:
        raise StorageUnavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(S3, "inspect", down)
        with pytest.raises(StorageUnavailable):
            deliver(key_of(begun))
        assert told(confirm(bucket, begun)) == (503, "StorageUnavailable")
    deliver(key_of(begun))
    assert bucket.names("b") == ["a"]


# ---- what the storage refuses --------------------------------------------------------------------------
def _other_length(begun: dict[str, Any]) -> int:
    return send(begun["url"], BODY + b"!", begun["headers"] | {"Content-Length": str(len(BODY) + 1)})[0]


def _less(begun: dict[str, Any]) -> int:
    return send(begun["url"], BODY[:-1], begun["headers"] | {"Content-Length": str(len(BODY) - 1)})[0]


def _nothing(begun: dict[str, Any]) -> int:
    return send(begun["url"], b"", begun["headers"] | {"Content-Length": "0"})[0]


def _chunked(begun: dict[str, Any]) -> int:
    headers = {name: value for name, value in begun["headers"].items() if name != "Content-Length"}
    split = urlsplit(begun["url"])
    connection = http.client.HTTPConnection(split.netloc, timeout=10)
    connection.request("PUT", f"{split.path}?{split.query}", iter([BODY]), headers | {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def _changed(**headers: str) -> Callable[[dict[str, Any]], int]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda begun: send(begun["url"], BODY, begun["headers"] | named)[0]


def _without(name: str) -> Callable[[dict[str, Any]], int]:
    return lambda begun: send(begun["url"], BODY, {header: value for header, value in begun["headers"].items() if header != name})[0]


def _edited(old: str, new: str) -> Callable[[dict[str, Any]], int]:
    def edit(begun: dict[str, Any]) -> int:
        assert old in begun["url"]
        return send(begun["url"].replace(old, new), BODY, begun["headers"])[0]

    return edit


def _other_signature(begun: dict[str, Any]) -> int:
    url, _, signature = begun["url"].partition("X-Amz-Signature=")
    other = ("0" if signature[0] != "0" else "1") + signature[1:]
    return send(f"{url}X-Amz-Signature={other}", BODY, begun["headers"])[0]


def _unsigned(begun: dict[str, Any]) -> int:
    """The query without a promise, and the header with it."""
    fewer = begun["url"].replace("%3Bif-none-match", "")
    assert fewer != begun["url"]
    return send(fewer, BODY, {name: value for name, value in begun["headers"].items() if name != "If-None-Match"})[0]


def _other_method(method: str) -> Callable[[dict[str, Any]], int]:
    return lambda begun: send(begun["url"], BODY, begun["headers"], method)[0]


FORGERIES: dict[str, Callable[[dict[str, Any]], int]] = {
    "a longer body": _other_length,
    "a shorter body": _less,
    "no body": _nothing,
    "a body of untold length": _chunked,
    "another type": _changed(Content_Type="text/html"),
    "no type": _without("Content-Type"),
    "a condition that allows overwriting": _changed(If_None_Match='"other"'),
    "no condition": _without("If-None-Match"),
    "a condition that is no longer signed": _unsigned,
    "another signature": _other_signature,
    "a longer life": _edited("X-Amz-Expires=3600", "X-Amz-Expires=36000"),
    "another key": _edited("/a~", "/b~"),
    "another tenant": _edited("/objects/", "/objects/0"),
    "a plain key": _edited(".direct?", "?"),
    "a storage class": lambda begun: send(begun["url"] + "&x-amz-storage-class=GLACIER", BODY, begun["headers"])[0],
    "POST": _other_method("POST"),
    "DELETE": _other_method("DELETE"),
    "GET": _other_method("GET"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("promise", [{}, {"checksum_sha256": sha256(BODY)}], ids=["no digest", "sha256"])
def test_what_was_not_promised_is_refused_and_the_url_stays_good(
    bucket: Client, tenant: Tenant, promise: dict[str, str], forgery: str
) -> None:
    begun = begin(bucket, **promise)
    assert FORGERIES[forgery](begun) == 403
    assert stored_keys(tenant) == []
    assert told(confirm(bucket, begun)) == (409, "NotUploaded")
    assert put(begun) == 200
    confirmed(bucket, begun)
    assert bucket.get("b", "a").body == BODY


@pytest.mark.parametrize(
    ("promise", "header", "value"),
    [
        ({"checksum_sha256": sha256(BODY)}, "x-amz-checksum-sha256", sha256_base64(BODY[::-1])),
        ({"content_md5": md5_base64(BODY)}, "Content-MD5", md5_base64(BODY[::-1])),
    ],
    ids=["sha256", "md5"],
)
def test_other_bytes_of_the_same_length_are_refused(
    bucket: Client, tenant: Tenant, promise: dict[str, str], header: str, value: str
) -> None:
    begun = begin(bucket, **promise)
    assert put(begun, BODY[::-1]) == 400
    assert send(begun["url"], BODY[::-1], begun["headers"] | {header: value})[0] == 403, "with a digest of their own"
    assert _without(header)(begun) == 403
    assert stored_keys(tenant) == []
    assert told(confirm(bucket, begun)) == (409, "NotUploaded")
    assert put(begun) == 200
    confirmed(bucket, begun)


def test_a_put_that_breaks_off_stores_nothing(bucket: Client, tenant: Tenant) -> None:
    begun = begin(bucket)
    split = urlsplit(begun["url"])
    connection = http.client.HTTPConnection(split.netloc, timeout=10)
    connection.request("PUT", f"{split.path}?{split.query}", BODY[:5], begun["headers"])
    connection.close()
    assert told(confirm(bucket, begun)) == (409, "NotUploaded")
    assert put(begun) == 200
    assert stored_keys(tenant) == [key_of(begun)]


def test_a_second_put_is_refused_before_and_after_the_confirmation(bucket: Client) -> None:
    begun = begin(bucket)
    assert put(begun) == 200
    assert put(begun, BODY[::-1]) == 412
    confirmed(bucket, begun)
    assert put(begun, BODY[::-1]) == 412
    assert bucket.get("b", "a").body == BODY


def test_of_many_puts_at_once_one_is_stored(bucket: Client) -> None:
    begun = begin(bucket, size=1)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda number: put(begun, b"%d" % number), range(8)))
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}  # AWS answers 409 to those that run into each other
    confirmed(bucket, begun)
    assert bucket.get("b", "a").body == b"%d" % statuses.index(200)


def test_urls_expire(bucket: Client, small_parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "URL_LIFETIME", 1)
    begun, in_parts = begin(bucket), begin(bucket, "in parts", parts=2)
    ends = seam.moment(in_parts["expires_at"]).timestamp()
    assert ends <= seam.timestamp() + 1
    time.sleep(max(0.0, ends - seam.timestamp()) + 1.1)  # dates in URLs are whole seconds
    assert put(begun) == 403
    assert put_part(in_parts["parts"][0], BODY[: in_parts["part_size"]])[0] == 403
    assert told(confirm(bucket, begun)) == (409, "NotUploaded")
    assert confirm(bucket, in_parts).json()["details"]["missing"] == [1, 2]
    assert not is_stored(begun)


# ---- too late, and given up ----------------------------------------------------------------------------
def test_bytes_that_come_after_the_upload_expired_are_never_adopted_and_go(bucket: Client, tenant: Tenant, clock: Clock) -> None:
    begun = begin(bucket)
    clock.advance(DAY)
    assert put(begun) == 200
    deliver(key_of(begun))
    assert told(confirm(bucket, begun)) == (410, "UploadExpired")
    assert bucket.names("b") == []
    assert [(row.name, row.version) for row in filed(key_of(begun))] == [("a", begun["upload_id"])]
    clean_up()
    assert is_stored(begun), "whoever puts them is not cut off"
    deliver(key_of(begun))
    assert told(confirm(bucket, begun)) == (410, "UploadExpired")
    clock.advance(DAY)
    clean_up()
    assert stored_keys(tenant) == []
    assert bucket.names("b") == []


def test_bytes_that_nobody_ever_confirmed_go_when_the_upload_has_expired(bucket: Client, tenant: Tenant, clock: Clock) -> None:
    begun = begin(bucket)
    put(begun)
    clock.advance(DAY)
    clean_up()
    assert told(confirm(bucket, begun)) == (410, "UploadExpired")
    clock.advance(DAY)
    clean_up()
    assert stored_keys(tenant) == []


def test_a_confirmed_upload_expires_and_its_object_stays(bucket: Client, clock: Clock) -> None:
    begun = begin(bucket)
    put(begun)
    confirmed(bucket, begun)
    for _ in range(3):
        clock.advance(DAY)
        clean_up()
        deliver(key_of(begun))
    assert bucket.get("b", "a").body == BODY
    assert told(confirm(bucket, begun)) == (410, "UploadExpired")


def test_an_upload_can_be_confirmed_for_a_day(bucket: Client, clock: Clock) -> None:
    begun = begin(bucket)
    put(begun)
    clock.advance(sessions.LIFETIME - 60)
    clean_up()
    confirmed(bucket, begun)


@pytest.mark.parametrize("is_put_before", [True, False], ids=["put before", "put after"])
def test_an_upload_that_was_given_up_is_gone_with_its_bytes(bucket: Client, tenant: Tenant, clock: Clock, is_put_before: bool) -> None:
    begun = begin(bucket)
    if is_put_before:
        put(begun)
    assert give_up(bucket, begun).status == 200
    if not is_put_before:
        assert put(begun) == 200
    deliver(key_of(begun))
    assert told(confirm(bucket, begun)) == (404, "UploadNotFound")
    assert told(give_up(bucket, begun)) == (404, "UploadNotFound")
    assert bucket.names("b") == []
    clean_up()
    clock.advance(DAY)
    clean_up()
    assert stored_keys(tenant) == []


def test_a_complete_upload_cannot_be_given_up(bucket: Client) -> None:
    begun = begin(bucket)
    put(begun)
    confirmed(bucket, begun)
    assert told(give_up(bucket, begun)) == (409, "UploadSettled")
    assert bucket.get("b", "a").body == BODY


# ---- types, sizes, policies ----------------------------------------------------------------------------
def test_bytes_that_plainly_are_of_another_type_are_refused_where_types_matter(service: Client, tenant: Tenant, clock: Clock) -> None:
    service.bucket("b", allowed_mimes=["image/jpeg", "image/png"])
    assert told(ask(service, content_type="text/plain")) == (415, "UnsupportedType")
    begun = begin(service, size=len(PNG), content_type="image/jpeg", checksum_sha256=sha256(PNG))
    assert put(begun, PNG) == 200
    deliver(key_of(begun))
    for _ in range(2):
        answer = confirm(service, begun)
        assert told(answer) == (415, "UnsupportedType")
        assert answer.json()["details"]["detected"] == "image/png"
    assert service.names("b") == []
    honest = begin(service, size=len(PNG), content_type="image/png")
    put(honest, PNG)
    confirmed(service, honest)
    clock.advance(DAY)
    clean_up()
    clock.advance(DAY)
    clean_up()
    assert stored_keys(tenant) == [key_of(honest)]


def test_types_are_looked_at_in_parts_and_empty_objects_too(service: Client, small_parts: int) -> None:
    service.bucket("b", allowed_mimes=["image/jpeg", "image/png"])
    wrong = begin(service, size=len(PNG), content_type="image/jpeg", parts=3)
    _put_whole(wrong, PNG)
    assert told(confirm(service, wrong)) == (415, "UnsupportedType")
    empty = begin(service, size=0, content_type="image/jpeg")
    put(empty, b"")
    assert confirmed(service, empty)["size"] == 0


def test_an_object_beyond_the_limit_is_refused_when_it_begins(service: Client) -> None:
    service.bucket("b", max_file_size=10)
    begin(service, size=10)
    answer = ask(service, size=11)
    assert told(answer) == (413, "TooLarge")
    assert answer.json()["details"]["limit"] == 10


def test_an_installation_has_a_limit_too(bucket: Client, choose: Callable[[str, str], None]) -> None:
    choose("STOWAGE_MAX_UPLOAD_SIZE", "10")
    begin(bucket, size=10)
    assert told(ask(bucket, size=11)) == (413, "TooLarge")


def test_a_limit_that_came_meanwhile_holds(bucket: Client) -> None:
    begun = begin(bucket)
    put(begun)
    bucket("PUT", "/storage/buckets/b", {"max_file_size": 3})
    deliver(key_of(begun))
    assert told(confirm(bucket, begun)) == (413, "TooLarge")
    assert bucket.names("b") == []
    bucket("PUT", "/storage/buckets/b", {"max_file_size": None})
    confirmed(bucket, begun)


@pytest.mark.parametrize("other", [(BODY + b"!", "application/octet-stream"), (BODY, "text/html")], ids=["size", "type"])
def test_what_a_storage_took_against_the_promise_ends_the_upload(
    bucket: Client, tenant: Tenant, clock: Clock, other: tuple[bytes, str]
) -> None:
    """One that verifies no signature would."""
    begun = begin(bucket)
    holder(begun).put(key_of(begun), *other)
    assert told(confirm(bucket, begun)) == (422, "IntegrityFailed")
    assert told(confirm(bucket, begun)) == (404, "UploadNotFound")
    deliver(key_of(begun))
    assert bucket.names("b") == []
    clean_up()
    clock.advance(DAY)
    clean_up()
    assert stored_keys(tenant) == []


def _allow(client: Client, operation: str, definition: str = "true") -> str:
    answer = client("POST", "/storage/policies", {"bucket": "b", "name": "p", "operation": operation, "definition": definition})
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


def test_policies_are_asked_when_an_upload_begins(bucket: Client, tenant: Tenant) -> None:
    ada = tenant.user(sub=ADA)
    assert told(ask(ada)) == (403, "Forbidden")
    _allow(bucket, "INSERT", "size < 10 AND content_type = 'text/plain' AND owner_id = auth_uid()::uuid")
    assert told(ask(ada, size=10, content_type="text/plain")) == (403, "Forbidden")
    assert told(ask(ada, size=9, content_type="text/csv")) == (403, "Forbidden")
    begin(ada, size=9, content_type="text/plain")


def test_a_policy_may_insist_on_a_promised_checksum(bucket: Client, tenant: Tenant) -> None:
    _allow(bucket, "INSERT", f"checksum = '{sha256(BODY)}'")
    ada = tenant.user(sub=ADA)
    assert told(ask(ada)) == (403, "Forbidden")
    assert told(ask(ada, checksum_sha256=sha256(BODY[::-1]))) == (403, "Forbidden")
    begun = begin(ada, checksum_sha256=sha256(BODY))
    put(begun)
    assert confirmed(ada, begun)["checksum"] == sha256(BODY)


def test_policies_are_asked_again_at_the_end(bucket: Client, tenant: Tenant) -> None:
    policy = _allow(bucket, "INSERT")
    ada = tenant.user(sub=ADA)
    begun = begin(ada)
    put(begun)
    assert bucket("DELETE", f"/storage/policies/{policy}").status == 200
    assert told(confirm(ada, begun)) == (403, "Forbidden")
    assert told(confirm(bucket, begun)) == (403, "Forbidden"), "the service key confirms what the user may do"
    deliver(key_of(begun))
    assert bucket.names("b") == []
    _allow(bucket, "INSERT")
    confirmed(ada, begun)


def test_an_object_that_came_meanwhile_is_replaced_only_with_update(bucket: Client, tenant: Tenant) -> None:
    _allow(bucket, "INSERT")
    ada = tenant.user(sub=ADA)
    begun = begin(ada)
    put(begun)
    bucket.put("b", "a", b"of the service")
    assert told(confirm(ada, begun)) == (403, "Forbidden")
    deliver(key_of(begun))
    assert bucket.get("b", "a").body == b"of the service"


@pytest.mark.parametrize("told_by", ["event", "service", "user"])
def test_an_object_belongs_to_who_began_its_upload(bucket: Client, tenant: Tenant, told_by: str) -> None:
    _allow(bucket, "INSERT")
    ada = tenant.user(sub=ADA)
    begun = begin(ada)
    put(begun)
    if told_by == "event":
        deliver(key_of(begun))
    else:
        confirmed(ada if told_by == "user" else bucket, begun)
    assert info(bucket)["owner_id"] == Principal(Role.USER, tenant.tenant_id, {"sub": ADA}).uid


def test_an_object_of_the_service_key_has_no_owner(bucket: Client) -> None:
    begun = begin(bucket)
    put(begun)
    confirmed(bucket, begun)
    assert info(bucket)["owner_id"] is None


@pytest.mark.parametrize("is_made_anew", [False, True], ids=["deleted", "made anew"])
def test_a_bucket_that_was_deleted_meanwhile_gets_no_object(bucket: Client, tenant: Tenant, clock: Clock, is_made_anew: bool) -> None:
    begun = begin(bucket)
    put(begun)
    assert bucket("DELETE", "/storage/buckets/b").status == 200
    if is_made_anew:
        bucket.bucket("b")
    deliver(key_of(begun))
    assert told(confirm(bucket, begun)) == (404, "BucketNotFound")
    if is_made_anew:
        assert bucket.names("b") == []
    clock.advance(DAY)
    clean_up()
    clock.advance(DAY)
    clean_up()
    assert stored_keys(tenant) == []


# ---- parts ---------------------------------------------------------------------------------------------
def sizes(begun: dict[str, Any]) -> list[tuple[int, int]]:
    return [(part["number"], part["size"]) for part in begun["parts"]]


def test_a_large_object_goes_in_parts_without_being_asked_to(bucket: Client) -> None:
    assert begin(bucket, size=SINGLE_LIMIT).keys() == BEGUN
    begun = begin(bucket, size=SINGLE_LIMIT + 1)
    assert begun.keys() == IN_PARTS
    assert begun["part_size"] == PART_BYTES
    rest = SINGLE_LIMIT + 1 - 5 * PART_BYTES
    assert sizes(begun) == [*((number, PART_BYTES) for number in range(1, 6)), (6, rest)]
    assert len({part["url"] for part in begun["parts"]}) == 6
    assert give_up(bucket, begun).status == 200


def test_a_large_object_whose_sha256_is_promised_is_held_to_it_or_refused(bucket: Client) -> None:
    """Silently forgotten it must not be: who promises a digest counts on its being compared."""
    answer = ask(bucket, size=SINGLE_LIMIT + 1, checksum_sha256=sha256(BODY))
    if answer.status == 201:
        session = UploadSession.read(answer.json()["upload_id"], UploadSession.SESSION)
        assert session is not None
        assert session.checksum == sha256(BODY)
    else:
        assert told(answer) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    ("size", "parts", "wanted"),
    [
        (10, 1, [10]),
        (10, 2, [5, 5]),
        (10, 3, [4, 4, 2]),
        (12, 3, [4, 4, 4]),
        (13, 3, [5, 5, 3]),
        (10, 10_000, [4, 4, 2]),
        (4, 2, [4]),
        (5, 2, [4, 1]),
        (1, 1, [1]),
        (0, 1, [0]),
    ],
)
def test_parts_are_as_many_as_asked_for_where_their_least_size_allows(
    bucket: Client, small_parts: int, size: int, parts: int, wanted: list[int]
) -> None:
    begun = begin(bucket, size=size, parts=parts)
    assert begun.keys() == IN_PARTS
    assert sizes(begun) == list(enumerate(wanted, 1))
    body = BODY[:size]
    _put_whole(begun, body)
    assert confirmed(bucket, begun)["size"] == size
    assert bucket.get("b", "a").body == body


def test_parts_of_less_than_s3_takes_are_never_asked_for(bucket: Client) -> None:
    begun = begin(bucket, size=12 << 20, parts=100)
    assert sizes(begun) == [(1, 5 << 20), (2, 5 << 20), (3, 2 << 20)]


@pytest.mark.parametrize("size", [10_000 * PART_BYTES, 10_000 * PART_BYTES + 1, 5 * 10**12])
def test_the_numbers_of_parts_suffice_for_the_largest_objects(bucket: Client, choose: Callable[[str, str], None], size: int) -> None:
    choose("STOWAGE_MAX_UPLOAD_SIZE", str(5 * 10**12))
    begun = begin(bucket, size=size)
    part_size = begun["part_size"]
    count = math.ceil(size / part_size)
    assert 9_900 <= count <= 10_000
    assert [part["number"] for part in begun["parts"]] == list(range(1, 1001))
    last = reissue(bucket, begun, f"from={count}&count=1000").json()["parts"]
    assert [(part["number"], part["size"]) for part in last] == [(count, size - (count - 1) * part_size)]
    assert reissue(bucket, begun, f"from={count + 1}").status == 400


@pytest.mark.parametrize("told_etags", ["all", "none", "some", "unquoted", "empty"])
def test_an_object_is_made_of_its_parts(bucket: Client, tenant: Tenant, small_parts: int, told_etags: str) -> None:
    begun = begin(bucket, "a.txt", parts=3)
    etags = _put_whole(begun)
    named = [{"number": number, "etag": etag} for number, etag in enumerate(etags, 1)]
    body = {
        "all": {"parts": named},
        "none": None,
        "some": {"parts": named[1:2]},
        "unquoted": {"parts": [{**part, "etag": part["etag"].strip('"')} for part in named]},
        "empty": {},
    }[told_etags]
    row = confirmed(bucket, begun, body)
    assert (row["size"], row["content_type"], row["checksum_state"]) == (len(BODY), "text/plain", "pending")
    assert bucket.get("b", "a.txt").body == BODY
    assert confirmed(bucket, begun, body) == row
    assert confirmed(bucket, begun) == row
    run_jobs(tenant)
    assert info(bucket, "a.txt")["checksum"] == sha256(BODY)
    assert stored_keys(tenant) == [key_of(begun)]


def test_parts_can_be_put_in_any_order_and_again(bucket: Client, small_parts: int) -> None:
    begun = begin(bucket, size=10, parts=3)
    for number, body in ((3, b"ij"), (1, b"xxxx"), (2, b"efgh"), (1, b"abcd"), (3, b"ij")):
        assert put_part(begun["parts"][number - 1], body)[0] == 200
    confirmed(bucket, begun)
    assert bucket.get("b", "a").body == b"abcdefghij"


@pytest.mark.parametrize("length", [0, 1, 3, 5, 100])
def test_a_part_of_another_length_is_refused(bucket: Client, small_parts: int, length: int) -> None:
    begun = begin(bucket, size=10, parts=3)
    assert put_part(begun["parts"][0], bytes(length))[0] == 403
    assert put_part(begun["parts"][1], b"efgh")[0] == 200
    assert confirm(bucket, begun).json()["details"]["missing"] == [1, 3]


@pytest.mark.parametrize(("old", "new"), [("partNumber=1", "partNumber=2"), ("partNumber=1", "partNumber=7"), ("/a~", "/b~")])
def test_a_url_of_one_part_opens_no_other(bucket: Client, small_parts: int, old: str, new: str) -> None:
    begun = begin(bucket, size=12, parts=3)
    url = begun["parts"][0]["url"]
    assert old in url
    assert send(url.replace(old, new), b"abcd", {"Content-Length": "4"})[0] == 403
    other = begin(bucket, "c", size=12, parts=3)
    mine, others = (urlsplit(each["parts"][0]["url"]).query for each in (begun, other))
    ids = [next(part for part in query.split("&") if part.startswith("uploadId=")) for query in (mine, others)]
    assert send(url.replace(*ids), b"abcd", {"Content-Length": "4"})[0] == 403
    for each in (begun, other):
        assert confirm(bucket, each).json()["details"]["missing"] == [1, 2, 3]


def test_missing_parts_are_named(bucket: Client, small_parts: int) -> None:
    begun = begin(bucket, size=20, parts=5)
    for number in (2, 4):
        put_part(begun["parts"][number - 1], b"abcd")
    answer = confirm(bucket, begun)
    assert told(answer) == (409, "NotUploaded")
    assert answer.json()["details"] == {"missing": [1, 3, 5]}
    assert "1, 3, 5" in answer.json()["message"]
    for number in (1, 3, 5):
        put_part(begun["parts"][number - 1], b"abcd")
    confirmed(bucket, begun)


def test_a_part_with_another_etag_than_the_client_has_seen_is_told_and_can_be_put_again(bucket: Client, small_parts: int) -> None:
    begun = begin(bucket, size=10, parts=3)
    etags = _put_whole(begun, b"abcdefghij")
    answer = confirm(bucket, begun, {"parts": [{"number": 1, "etag": etags[0]}, {"number": 2, "etag": etags[0]}]})
    assert told(answer) == (422, "IntegrityFailed")
    assert "part 2" in answer.json()["message"]
    status, etag = put_part(begun["parts"][1], b"EFGH")
    assert status == 200
    assert told(confirm(bucket, begun, {"parts": [{"number": 2, "etag": etags[1]}]})) == (422, "IntegrityFailed")
    assert bucket.names("b") == []
    confirmed(bucket, begun, {"parts": [{"number": 2, "etag": etag}]})
    assert bucket.get("b", "a").body == b"abcdEFGHij"


def test_the_etag_of_a_part_that_there_is_not_is_told(bucket: Client, small_parts: int) -> None:
    begun = begin(bucket, size=10, parts=3)
    etags = _put_whole(begun, b"abcdefghij")
    assert told(confirm(bucket, begun, {"parts": [{"number": 4, "etag": etags[0]}]})) == (422, "IntegrityFailed")
    confirmed(bucket, begun)


def test_urls_of_parts_are_issued_again(bucket: Client, small_parts: int) -> None:
    begun = begin(bucket, size=10, parts=3)
    answer = reissue(bucket, begun)
    assert answer.status == 200
    again = answer.json()
    assert again.keys() == IN_PARTS
    assert (again["upload_id"], again["part_size"], sizes(again)) == (begun["upload_id"], 4, [(1, 4), (2, 4), (3, 2)])
    second = reissue(bucket, begun, "from=2&count=1").json()
    assert sizes(second) == [(2, 4)]
    assert sizes(reissue(bucket, begun, "from=3").json()) == [(3, 2)]
    assert sizes(reissue(bucket, begun, "count=2").json()) == [(1, 4), (2, 4)]
    for part, body in ((again["parts"][0], b"abcd"), (second["parts"][0], b"efgh"), (begun["parts"][2], b"ij")):
        assert put_part(part, body)[0] == 200
    confirmed(bucket, begun)
    assert bucket.get("b", "a").body == b"abcdefghij"


@pytest.mark.parametrize("query", ["from=0", "from=4", "from=-1", "from=x", "count=0", "count=1001", "count=-1", "count=x", "from=99999"])
def test_parts_that_there_are_not_are_not_issued(bucket: Client, small_parts: int, query: str) -> None:
    begun = begin(bucket, size=10, parts=3)
    assert told(reissue(bucket, begun, query)) == (400, "InvalidRequest")


def test_a_single_put_has_no_parts(bucket: Client) -> None:
    assert told(reissue(bucket, begin(bucket))) == (409, "UploadSettled")


def test_a_complete_upload_issues_no_parts(bucket: Client, small_parts: int) -> None:
    begun = begin(bucket, parts=3)
    _put_whole(begun)
    confirmed(bucket, begun)
    assert told(reissue(bucket, begun)) == (409, "UploadSettled")
    assert put_part(begun["parts"][0], BODY[: begun["part_size"]])[0] == 404
    assert bucket.get("b", "a").body == BODY


def test_the_bucket_tells_of_an_object_that_was_put_together(
    bucket: Client, tenant: Tenant, small_parts: int, events: Callable[[], list[dict[str, Any]]]
) -> None:
    begun = begin(bucket, parts=3)
    _put_whole(begun)
    confirmed(bucket, begun)
    workers.bucket_objects(await_event(events, begun), Context())
    row = row_of(tenant)
    assert row is not None
    assert row.revision == 1


@pytest.mark.parametrize("told_by", ["event", "confirm"])
def test_an_upload_whose_process_died_between_the_storage_and_the_row_is_finished(
    bucket: Client, tenant: Tenant, small_parts: int, told_by: str
) -> None:
    begun = begin(bucket, parts=3)
    etags = _put_whole(begun)
    session = UploadSession.read(begun["upload_id"], UploadSession.SESSION)
    assert session is not None
    parts = [Part(number, etag) for number, etag in enumerate(etags, 1)]
    holder(begun).complete_multipart(session.physical_key, session.multipart_id, parts)
    assert bucket.names("b") == []
    if told_by == "event":
        deliver(key_of(begun))
    else:
        confirmed(bucket, begun)
    assert bucket.get("b", "a").body == BODY
    assert confirmed(bucket, begun)["version"] == begun["upload_id"]


def _parts_left(begun: dict[str, Any]) -> int | None:
    """How many parts the storage holds of an upload, None when it has none of that id."""
    session = UploadSession.read(begun["upload_id"], UploadSession.SESSION)
    assert session is not None
    with suppress(BytesMissing):
        return len(holder(begun).list_parts(session.physical_key, session.multipart_id))
    return None


def test_parts_of_an_upload_that_is_given_up_go_at_once(bucket: Client, small_parts: int) -> None:
    begun = begin(bucket, parts=3)
    put_part(begun["parts"][0], BODY[: begun["part_size"]])
    assert _parts_left(begun) == 1
    assert give_up(bucket, begun).status == 200
    assert _parts_left(begun) is None
    assert put_part(begun["parts"][0], BODY[: begun["part_size"]])[0] == 404
    assert told(confirm(bucket, begun)) == (404, "UploadNotFound")
    assert told(reissue(bucket, begun)) == (404, "UploadNotFound")


def test_parts_of_an_upload_that_expired_go(bucket: Client, small_parts: int, clock: Clock) -> None:
    begun = begin(bucket, parts=3)
    put_part(begun["parts"][0], BODY[: begun["part_size"]])
    clock.advance(DAY)
    assert told(reissue(bucket, begun)) == (410, "UploadExpired")
    clean_up()
    assert _parts_left(begun) is None
    assert told(confirm(bucket, begun)) == (410, "UploadExpired")


class Killed(BaseException):
    """The process ends here."""


def test_a_beginning_that_was_killed_leaves_nothing_in_the_storage(
    bucket: Client, tenant: Tenant, clock: Clock, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[UploadSession] = []

    def killed(session: UploadSession, multipart_id: str) -> None:
        noted.append(session)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(sessions, "note_multipart", killed)
        with pytest.raises(Killed):
            ask(bucket, parts=3)
    clock.advance(DAY)
    clean_up()
    multipart: Any = keeping.holding(noted[0])
    assert multipart.abort_all(noted[0].physical_key) == 0


# ---- checksums -----------------------------------------------------------------------------------------
def _pending(client: Client, path: str = "a", body: bytes = BODY) -> dict[str, Any]:
    """An object whose checksum nobody knows yet."""
    begun = begin(client, path, size=len(body))
    put(begun, body)
    assert confirmed(client, begun)["checksum_state"] == "pending"
    return begun


def test_bytes_are_hashed_piece_by_piece_by_workers_that_have_little_time(
    bucket: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "PIECE", 100)
    monkeypatch.setattr(checksums, "PIECES_A_STEP", 3)
    body = bytes(range(256)) * 5
    _pending(bucket, body=body)
    [job] = jobs_of(tenant)
    reached = []
    while jobs_of(tenant):
        run_job(job.job_id, seconds=30)
        row: Any = Job.read(job.job_id)
        reached.append(int(row.done))
        assert len(reached) < 10
    assert reached == [300, 600, 900, 1200, 1280]
    assert info(bucket)["checksum"] == sha256(body)


def test_a_checksum_is_not_given_to_other_bytes(bucket: Client, tenant: Tenant) -> None:
    _pending(bucket)
    bucket.put("b", "a", b"newer")
    run_jobs(tenant)
    assert info(bucket)["checksum"] == sha256(b"newer")


def test_a_checksum_of_what_was_deleted_is_not_missed(bucket: Client, tenant: Tenant) -> None:
    begun = _pending(bucket)
    bucket.delete("b", "a")
    holder(begun).delete([key_of(begun)])
    run_jobs(tenant)
    assert bucket.names("b") == []


def test_a_checksum_finds_an_object_that_has_another_name_by_now(bucket: Client, tenant: Tenant) -> None:
    _pending(bucket)
    bucket("POST", "/storage/object/move", {"bucket": "b", "from": "a", "to": "c"})
    run_jobs(tenant)
    assert info(bucket, "c")["checksum"] == sha256(BODY)


@pytest.mark.parametrize("relocate", ["copy", "move"])
@pytest.mark.parametrize("to_bucket", ["b", "c"])
def test_a_copy_of_an_object_whose_checksum_is_pending_gets_it_too(bucket: Client, tenant: Tenant, relocate: str, to_bucket: str) -> None:
    bucket.bucket("c")
    _pending(bucket)
    body = {"bucket": "b", "from": "a", "to": "copy", "to_bucket": to_bucket}
    assert bucket("POST", f"/storage/object/{relocate}", body).status == 200
    run_jobs(tenant)
    row = bucket("GET", f"/storage/object-info/{to_bucket}/copy").json()
    assert (row["checksum"], row["checksum_state"]) == (sha256(BODY), "known")


def test_what_is_changed_while_its_checksum_is_pending_keeps_the_change(bucket: Client, tenant: Tenant) -> None:
    _pending(bucket)
    bucket("PATCH", "/storage/object-info/b/a", {"user_metadata": {"a": 1}, "content_type": "text/csv"})
    run_jobs(tenant)
    row = info(bucket)
    assert (row["user_metadata"], row["content_type"], row["checksum"]) == ({"a": 1}, "text/csv", sha256(BODY))


# ---- who may -------------------------------------------------------------------------------------------
Request = Callable[[Client, dict[str, Any]], Answer]
REQUESTS: dict[str, Request] = {"confirm": confirm, "parts": reissue, "give up": give_up}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_an_upload_is_known_to_who_began_it_and_to_the_service_key(
    bucket: Client, tenant: Tenant, new_tenant: Any, small_parts: int, request_name: str
) -> None:
    _allow(bucket, "INSERT")
    ada, request = tenant.user(sub=ADA), REQUESTS[request_name]
    begun = begin(ada, parts=3)
    _put_whole(begun)
    stranger = new_tenant()
    for other in (tenant.user(sub=BOB), tenant.anon, stranger.service, stranger.user(sub=ADA)):
        assert told(request(other, begun)) == (404, "UploadNotFound")
    assert told(request(tenant.nobody, begun)) == (401, "Unauthorized")
    assert bucket.names("b") == []
    assert request(ada, begun).status == 200


@pytest.mark.parametrize("request_name", REQUESTS)
def test_the_service_key_may_go_on_with_an_upload_of_a_user(bucket: Client, tenant: Tenant, small_parts: int, request_name: str) -> None:
    _allow(bucket, "INSERT")
    begun = begin(tenant.user(sub=ADA), parts=3)
    _put_whole(begun)
    assert REQUESTS[request_name](bucket, begun).status == 200


def test_a_user_does_not_go_on_with_an_upload_of_the_service_key(bucket: Client, tenant: Tenant) -> None:
    _allow(bucket, "INSERT")
    begun = begin(bucket)
    put(begun)
    assert told(confirm(tenant.user(sub=ADA), begun)) == (404, "UploadNotFound")


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("upload_id", ["x", "01JD3ZXQ2M8V9K4T6W7Y0ABCDE", "%2e%2e", "01jd3zxq2m8v9k4t6w7y0abcde", "%C3%A9" * 26, "a" * 300])
def test_an_upload_that_there_is_not_is_not_found(service: Client, request_name: str, upload_id: str) -> None:
    assert told(REQUESTS[request_name](service, {"upload_id": upload_id})) == (404, "UploadNotFound")


def test_nobody_begins_an_upload(bucket: Client, tenant: Tenant) -> None:
    assert told(ask(tenant.nobody)) == (401, "Unauthorized")
    assert told(ask(tenant.anon)) == (403, "Forbidden")


def test_uploads_into_no_bucket_are_not_found(service: Client) -> None:
    assert told(ask(service)) == (404, "BucketNotFound")


# ---- what is no direct upload --------------------------------------------------------------------------
def test_a_direct_upload_takes_no_chunks(bucket: Client) -> None:
    begun = begin(bucket)
    path = f"/storage/upload/{begun['upload_id']}"
    assert told(bucket("PATCH", path, BODY, {"Upload-Offset": "0", "Content-Type": "application/octet-stream"})) == (409, "UploadSettled")
    assert told(bucket("POST", f"{path}/complete")) == (409, "UploadSettled")
    put(begun)
    confirmed(bucket, begun)


def test_a_direct_upload_tells_whether_it_is_complete(bucket: Client) -> None:
    begun = begin(bucket)
    path = f"/storage/upload/{begun['upload_id']}"
    put(begun)
    for offset in ("0", str(len(BODY))):
        answer = bucket("HEAD", path)
        assert (answer.status, answer.headers["upload-offset"], answer.headers["upload-length"]) == (200, offset, str(len(BODY)))
        confirmed(bucket, begun)


def test_an_upload_in_chunks_is_not_confirmed(bucket: Client) -> None:
    begun = bucket("POST", "/storage/upload/resumable", {"bucket": "b", "path": "a", "size": 3}).json()
    assert told(confirm(bucket, begun)) == (409, "UploadSettled")
    assert told(reissue(bucket, begun)) == (409, "UploadSettled")


@pytest.mark.usefixtures("on_filesystem")
@pytest.mark.parametrize("fields", [{}, {"parts": 2}, {"size": SINGLE_LIMIT + 1}], ids=["single", "parts", "large"])
def test_a_storage_that_cannot_presign_names_what_it_takes(service: Client, fields: dict[str, Any]) -> None:
    service.bucket("b")
    answer = ask(service, **fields)
    assert told(answer) == (409, "CannotPresign")
    assert "/storage/v1/upload/tus" in answer.json()["message"]


def test_the_folder_of_a_filesystem_holds_nothing_of_a_refused_upload(service: Client, on_filesystem: Path) -> None:
    service.bucket("b")
    ask(service, parts=2)
    assert [path for path in on_filesystem.rglob("*") if path.is_file()] == []


# ---- bodies --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "fields",
    [
        {"size": None},
        {"size": -1},
        {"size": "19"},
        {"size": 1.5},
        {"size": True},
        {"size": 5 * 10**12 + 1},
        {"size": 10**30},
        {"bucket": ""},
        {"bucket": None},
        {"bucket": 1},
        {"path": ""},
        {"path": None},
        {"path": "../a"},
        {"path": "/a"},
        {"path": "a."},
        {"path": "a\0"},
        {"path": "a" * 701},
        {"path": "a~01JD3ZXQ2M8V9K4T6W7Y0ABCDE"},
        {"content_type": "nonsense"},
        {"content_type": "text/plain\r\nx: y"},
        {"content_type": "a/" + "b" * 300},
        {"checksum_sha256": ""},
        {"checksum_sha256": sha256(BODY)[:-1]},
        {"checksum_sha256": sha256(BODY)[:-1] + "g"},
        {"checksum_sha256": md5_base64(BODY)},
        {"checksum_sha256": sha256_base64(BODY)[:-1]},
        {"checksum_sha256": sha256_base64(BODY) + "\n"},
        {"checksum_sha256": sha256(BODY)[:62] + "  "},
        {"checksum_sha256": 5},
        {"content_md5": sha256(BODY)},
        {"content_md5": "x"},
        {"content_md5": md5_base64(BODY)[:-2]},
        {"parts": 0},
        {"parts": -1},
        {"parts": 10_001},
        {"parts": "3"},
        {"parts": 2.0},
        {"parts": 2, "checksum_sha256": sha256(BODY)},
        {"parts": 2, "content_md5": md5_base64(BODY)},
        {"user_metadata": []},
        {"user_metadata": {"a": "b" * 5000}},
        {"upsert": "true"},
        {"upsert": None},
    ],
    ids=lambda fields: ascii(fields)[:60],
)
def test_a_body_that_is_none_is_refused(bucket: Client, fields: dict[str, Any]) -> None:
    body = {"bucket": "b", "path": "a", "size": len(BODY), **fields}
    answer = bucket("POST", DIRECT, body)
    assert answer.status == 400, answer.body
    assert answer.code in ("InvalidRequest", "InvalidName")


@pytest.mark.parametrize("name", ["bucket", "path", "size"])
def test_a_body_without_what_it_needs_is_refused(bucket: Client, name: str) -> None:
    body = {field: value for field, value in {"bucket": "b", "path": "a", "size": 1}.items() if field != name}
    assert told(bucket("POST", DIRECT, body)) == (400, "InvalidRequest")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"a"', b"\xff"])
def test_what_is_no_json_object_is_refused(bucket: Client, body: bytes) -> None:
    assert told(bucket("POST", DIRECT, body, {"Content-Type": "application/json"})) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    "parts",
    [
        "x",
        {},
        [1],
        [{"number": 1}],
        [{"etag": "x"}],
        [{"number": 0, "etag": "x"}],
        [{"number": 10_001, "etag": "x"}],
        [{"number": "1", "etag": "x"}],
        [{"number": 1, "etag": ""}],
        [{"number": 1, "etag": "x" * 201}],
        [{"number": 1, "etag": None}],
    ],
    ids=ascii,
)
def test_a_confirmation_that_names_no_parts_is_refused(bucket: Client, small_parts: int, parts: Any) -> None:
    begun = begin(bucket, parts=3)
    _put_whole(begun)
    assert told(confirm(bucket, begun, {"parts": parts})) == (400, "InvalidRequest")
    confirmed(bucket, begun)
