"""What TUS adds to its core: bytes with the creation, a length told later, checksums, concatenation."""

import base64
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.api.tus_client import (
    MAX_BODY,
    MIB,
    TUS,
    UNKNOWN,
    Tus,
    allow,
    digest,
    downloaded,
    encoded,
    holds,
    id_of,
    info,
    noise,
    refused,
    run_jobs,
    session,
)
from tests.conftest import Call, Tenant, run_job

Choose = Callable[[str, str], None]
LARGE = noise(8 * MIB + 1)


# ---- creation with upload ------------------------------------------------------------------------------
@pytest.mark.parametrize("sent", [b"abcdef", b"abc", b"a"])
def test_an_upload_begins_with_its_bytes(tus: Tus, sent: bytes) -> None:
    answer = tus.create(6, sent)
    assert (answer.status, answer.headers["upload-offset"]) == (201, str(len(sent)))
    assert tus.offset(id_of(answer)) == len(sent)
    assert tus.client.names("b") == (["o"] if sent == b"abcdef" else [])
    tus.send(id_of(answer), b"abcdef", 2, len(sent))
    assert holds(tus.client, b"abcdef")


@pytest.mark.parametrize(
    ("sent", "headers", "status"),
    [
        (b"abcdef", {"content_type": "text/plain"}, 415),
        (b"abcdef", {"content_type": None}, 415),
        (b"abcdefg", {}, 413),
        (b"abcdef", {"upload_checksum": digest("sha256", b"abcdeg")}, 460),
        (b"abcdef", {"upload_checksum": "crc32 AAAA"}, 400),
        (bytes(MAX_BODY + 1), {"upload_length": str(MAX_BODY + 1)}, 413),
    ],
)
def test_bytes_that_do_not_fit_begin_no_upload(tus: Tus, sent: bytes, headers: dict[str, str | None], status: int) -> None:
    answer = tus.create(6, sent, **headers)
    refused(answer, status)
    assert "location" not in answer.headers
    assert tus.client.names("b") == []


# ---- a length that is told later -----------------------------------------------------------------------
@pytest.mark.parametrize("told_with", [0, 1, 2, 3])
def test_the_length_may_be_told_with_any_chunk(tus: Tus, told_with: int) -> None:
    """The first, one in between, the last, or an empty one after all."""
    upload_id = tus.begin(upload_defer_length="1")
    for number, chunk in enumerate((b"abc", b"def", b"ghi", b"")):
        answer = tus.patch(upload_id, 3 * number, chunk, upload_length="9" if number == told_with else None)
        assert (answer.status, answer.headers["upload-offset"]) == (204, str(3 * number + len(chunk))), answer.body
        head = tus.head(upload_id)
        assert (head.headers.get("upload-length"), head.headers.get("upload-defer-length")) == (
            ("9", None) if number >= told_with else (None, "1")
        )
    assert holds(tus.client, b"abcdefghi")


def test_an_upload_of_unknown_length_may_turn_out_large_or_empty(tus: Tus) -> None:
    large = tus.begin(body=LARGE[: 4 * MIB], upload_defer_length="1")
    tus.send(large, LARGE[: 8 * MIB], 4 * MIB, 4 * MIB)
    assert tus.patch(large, 8 * MIB, LARGE[8 * MIB :], upload_length=str(len(LARGE))).status == 204
    assert holds(tus.client, LARGE)
    empty = tus.begin(name="empty", upload_defer_length="1")
    assert tus.patch(empty, 0, b"", upload_length="0").status == 204
    assert holds(tus.client, b"", "empty")


def test_a_length_that_was_told_stays(tus: Tus, half: str) -> None:
    upload_id = tus.begin(upload_defer_length="1")
    assert tus.patch(upload_id, 0, b"abc", upload_length="6").status == 204
    for each in (upload_id, half):
        for other in ("4", "5", "7", "-6", "six"):
            refused(tus.patch(each, 3, b"d", upload_length=other), 400)
        head = tus.head(each)
        assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("3", "6")


@pytest.mark.parametrize(("length", "deferred"), [("6", "1"), (None, "2"), (None, "0"), (None, ""), (None, "true")])
def test_a_length_is_told_now_or_later(tus: Tus, length: str | None, deferred: str) -> None:
    refused(tus.create(upload_length=length, upload_defer_length=deferred), 400)


@pytest.mark.parametrize(("length", "chunk"), [("2", b"def"), ("2", b""), ("5", b"def"), ("0", b"")])
def test_a_length_below_the_bytes_that_are_there_is_refused(tus: Tus, length: str, chunk: bytes) -> None:
    upload_id = tus.begin(body=b"abc", upload_defer_length="1")
    assert tus.patch(upload_id, 3, chunk, upload_length=length).status in (400, 413)
    assert tus.offset(upload_id) == 3
    assert tus.patch(upload_id, 3, b"def", upload_length="6").status == 204
    assert holds(tus.client, b"abcdef")


def test_a_length_that_is_told_later_keeps_to_the_limits(tus: Tus, choose: Choose) -> None:
    choose("STOWAGE_MAX_UPLOAD_SIZE", "10")
    upload_id = tus.begin(upload_defer_length="1")
    refused(tus.patch(upload_id, 0, b"abc", upload_length="11"), 413)
    assert tus.patch(upload_id, 0, b"abc", upload_length="10").status == 204


def test_an_upload_of_unknown_length_does_not_outgrow_the_largest(tus: Tus, choose: Choose) -> None:
    choose("STOWAGE_MAX_UPLOAD_SIZE", "10")
    refused(tus.create(body=b"eleven byte", upload_defer_length="1"), 413)
    upload_id = tus.begin(body=b"abcdef", upload_defer_length="1")
    refused(tus.patch(upload_id, 6, b"ghijk"), 413)
    assert tus.patch(upload_id, 6, b"ghij", upload_length="10").status == 204
    assert holds(tus.client, b"abcdefghij")


def test_what_turns_out_larger_than_the_bucket_takes_becomes_no_object(tus: Tus) -> None:
    tus.client("PUT", "/storage/buckets/b", {"max_file_size": 5})
    upload_id = tus.begin(body=b"abc", upload_defer_length="1")
    refused(tus.patch(upload_id, 3, b"def", upload_length="6"), 413)
    assert tus.client.names("b") == []


def test_an_empty_upload_is_done_when_it_is_created(tus: Tus) -> None:
    answer = tus.create(0)
    assert (answer.status, answer.headers["upload-offset"]) == (201, "0")
    assert holds(tus.client, b"")
    head = tus.head(id_of(answer))
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("0", "0")
    refused(tus.patch(id_of(answer), 0, b"a"), 413)


# ---- checksums -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_a_chunk_is_taken_only_with_the_digest_that_was_promised(tus: Tus, half: str, algorithm: str) -> None:
    refused(tus.patch(half, 3, b"def", upload_checksum=digest(algorithm, b"deg")), 460)
    refused(tus.patch(half, 3, b"def", upload_checksum=f"{algorithm} {base64.b64encode(b'short').decode()}"), 460)
    assert tus.offset(half) == 3
    assert tus.client.names("b") == []
    assert tus.patch(half, 3, b"def", upload_checksum=digest(algorithm, b"def")).status == 204
    assert holds(tus.client, b"abcdef")


@pytest.mark.parametrize("checksum", ["", "crc32 AAAA", "sha512 AAAA", "SHA 1", "sha1 !!!!", "sha1 AAA"])
def test_a_digest_that_cannot_be_read_is_refused(tus: Tus, half: str, checksum: str) -> None:
    refused(tus.patch(half, 3, b"def", upload_checksum=checksum), 400)
    assert tus.offset(half) == 3


# ---- concatenation -------------------------------------------------------------------------------------
def test_partial_uploads_are_joined_in_the_order_that_is_named(tus: Tus) -> None:
    first, second = noise(5 * MIB), noise(5 * MIB + 7)
    a, b = tus.partial(first), tus.partial(second)
    assert tus.client.names("b") == []
    answer = tus.joined(b, a)
    assert answer.status == 201
    assert downloaded(tus.client) == second + first
    head = tus.head(id_of(answer))
    assert head.headers["upload-offset"] == head.headers["upload-length"] == str(len(first + second))


def test_a_partial_upload_is_told_as_such(tus: Tus) -> None:
    upload_id = tus.begin(6, b"abc", upload_metadata="", upload_concat="partial")
    for length in (3, 6):
        head = tus.head(upload_id)
        assert (head.headers["upload-concat"], head.headers["upload-offset"]) == ("partial", str(length))
        assert "upload-metadata" not in head.headers
        assert tus.patch(upload_id, length, b"def" if length == 3 else b"").status == 204
    assert tus.client.names("b") == []
    assert tus.delete(upload_id).status == 204
    assert tus.head(upload_id).status == 404


def test_the_length_of_a_partial_upload_may_be_told_later(tus: Tus) -> None:
    upload_id = tus.begin(body=b"abc", upload_metadata=None, upload_concat="partial", upload_defer_length="1")
    refused(tus.join(upload_id), 409)
    assert tus.patch(upload_id, 3, b"def", upload_length="6").status == 204
    assert tus.joined(upload_id).status == 201
    assert downloaded(tus.client) == b"abcdef"


def test_a_joined_upload_comes_back_as_it_was_ordered(tus: Tus) -> None:
    a, b = tus.partial(b"abc"), tus.partial(b"def")
    for order in (f"final;{TUS}/{a} {TUS}/{b}", f"final;http://api.test{TUS}/{b} http://api.test{TUS}/{a}"):
        head = tus.head(id_of(tus.create(upload_concat=order)))
        assert head.headers["upload-concat"] == order


def test_a_joined_upload_has_the_metadata_that_it_was_ordered_with(tus: Tus) -> None:
    header = encoded(bucket="b", filename="o", filetype="text/csv", metadata='{"k": 1}')
    answer = tus.joined(tus.partial(b"abc"), upload_metadata=header)
    row = info(tus.client)
    assert (row["content_type"], row["user_metadata"]) == ("text/csv", {"k": 1})
    assert tus.head(id_of(answer)).headers["upload-metadata"] == header


def test_a_joined_upload_takes_no_bytes(tus: Tus) -> None:
    """403 by the protocol."""
    upload_id = id_of(tus.joined(tus.partial(b"abc")))
    refused(tus.patch(upload_id, 3, b"d"), 403)
    refused(tus.patch(upload_id, 0, b"d"), 403)
    assert downloaded(tus.client) == b"abc"


def test_the_length_of_a_joined_upload_is_that_of_its_parts_whatever_is_told(tus: Tus) -> None:
    assert tus.joined(tus.partial(b"abc"), upload_length="99").status == 201
    assert downloaded(tus.client) == b"abc"


def test_what_cannot_be_joined_is_refused(tus: Tus, half: str, tenant: Tenant, new_tenant: Any) -> None:
    allow(tenant)
    other = new_tenant()
    finished, unfinished = tus.partial(b"abc"), tus.begin(6, b"abc", upload_concat="partial")
    given_up, by_ada = tus.partial(b"abc"), Tus(tenant.user(sub="ada")).partial(b"abc")
    tus.delete(given_up)
    for upload_id, status in ((unfinished, 409), (UNKNOWN, 404), (Tus(other.service).partial(b"abc"), 404), (given_up, 404), (half, 400)):
        refused(tus.join(finished, upload_id), status)
    bob = Tus(tenant.user(sub="bob"))
    refused(bob.join(bob.partial(b"abc"), by_ada), 404)
    assert tus.client.names("b") == []
    assert tus.join(by_ada).status == 201


@pytest.mark.parametrize("order", ["final", "final;", "final; ", "final;x", "final;/", "Partial", "both", "partial;x", f"final;{TUS}"])
def test_an_order_that_names_no_uploads_is_refused(tus: Tus, order: str) -> None:
    refused(tus.create(6, upload_concat=order), 400)


def test_a_join_is_an_upload_to_the_bucket(tus: Tus, tenant: Tenant) -> None:
    ada = Tus(tenant.user(sub="ada"))
    partial = ada.partial(b"abcdef")
    refused(ada.join(partial), 403)
    allow(tenant)
    refused(ada.join(partial, upload_metadata=None), 400)
    tus.client("PUT", "/storage/buckets/b", {"max_file_size": 5})
    refused(ada.join(partial), 413)
    tus.client("PUT", "/storage/buckets/b", {"max_file_size": 6})
    assert ada.joined(partial).status == 201
    assert info(tus.client)["owner_id"] == str(uuid.uuid5(uuid.UUID(tenant.tenant_id), "ada"))
    refused(tus.join(tus.partial(b"other"), x_upsert="false"), 409)
    assert downloaded(tus.client) == b"abcdef"


def test_a_partial_upload_may_be_empty_and_may_be_joined_twice(tus: Tus, tenant: Tenant) -> None:
    empty, full = tus.partial(b""), tus.partial(b"abc")
    assert tus.offset(empty) == 0
    tus.joined(empty, full, empty, full)
    assert downloaded(tus.client) == b"abcabc"
    assert tus.join(empty, empty, name="empty").status == 201
    assert holds(tus.client, b"", "empty")
    assert tus.joined(full, name="again").status == 201
    assert downloaded(tus.client, "again") == b"abc"


def test_many_small_uploads_are_joined_by_a_job(storage: Tus, tenant: Tenant) -> None:
    bodies = [f"partial upload {number}\n".encode() * 40 for number in range(101)]
    answer = storage.join(*(storage.partial(body) for body in bodies))
    assert answer.status == 201
    assert "upload-offset" not in answer.headers
    head = storage.head(id_of(answer))
    assert "upload-offset" not in head.headers
    assert head.headers["upload-length"] == str(len(b"".join(bodies)))
    assert storage.client.names("b") == []
    run_job(session(id_of(answer)).job_id)
    assert storage.offset(id_of(answer)) == len(b"".join(bodies))
    assert info(storage.client)["checksum_state"] == "pending"
    run_jobs(tenant, "object.checksum")
    assert holds(storage.client, b"".join(bodies))
    refused(storage.delete(id_of(answer)), 409)


def test_a_join_that_is_given_up_makes_no_object(tus: Tus) -> None:
    upload_id = id_of(tus.join(tus.partial(b"abc"), tus.partial(b"def")))
    assert tus.delete(upload_id).status == 204
    run_job(session(upload_id).job_id)
    assert tus.client.names("b") == []
    assert tus.head(upload_id).status == 404


def test_a_join_keeps_an_object_that_came_before_its_job(tus: Tus) -> None:
    upload_id = id_of(tus.join(tus.partial(b"abc"), tus.partial(b"def"), x_upsert="false"))
    tus.client.put("b", "o", b"first")
    run_job(session(upload_id).job_id)
    assert tus.client.get("b", "o").body == b"first"
    assert tus.head(upload_id).status == 404


def test_a_job_that_joins_is_told_to_who_ordered_it_alone(tus: Tus, tenant: Tenant) -> None:
    allow(tenant)
    ada = Tus(tenant.user(sub="ada"))
    upload_id = id_of(ada.join(ada.partial(b"abc"), ada.partial(b"def")))
    assert Tus(tenant.user(sub="bob")).head(upload_id).status == 404
    run_job(session(upload_id).job_id)
    assert ada.offset(upload_id) == tus.offset(upload_id) == 6
    assert info(tus.client)["owner_id"] == str(uuid.uuid5(uuid.UUID(tenant.tenant_id), "ada"))


@pytest.mark.parametrize("sizes", [[1000, 6 * MIB, 0, 300], [6 * MIB, 1, 5 * MIB], [5 * MIB - 1, 2, 1]])
def test_uploads_of_all_sizes_are_joined(storage: Tus, tenant: Tenant, sizes: Sequence[int]) -> None:
    bodies = [noise(size) for size in sizes]
    upload_id = id_of(storage.join(*map(storage.partial, bodies)))
    if session(upload_id).job_id:
        run_job(session(upload_id).job_id)
    run_jobs(tenant, "object.checksum")
    assert holds(storage.client, b"".join(bodies))


def test_large_uploads_are_joined_at_once_by_copies(tus: Tus, tenant: Tenant, calls: list[Call]) -> None:
    bodies = [noise(5 * MIB), noise(6 * MIB), b"the rest"]
    partials = [tus.partial(body) for body in bodies]
    calls.clear()
    answer = tus.join(*partials)
    in_storage = [call.operation for call in calls if call.service == "s3"]
    assert in_storage == ["CreateMultipartUpload", *["UploadPartCopy"] * 3, "CompleteMultipartUpload", "HeadObject"]
    assert tus.offset(id_of(answer)) == sum(map(len, bodies))
    run_jobs(tenant, "object.checksum")
    assert holds(tus.client, b"".join(bodies))
