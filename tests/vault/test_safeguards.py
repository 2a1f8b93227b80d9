"""Seed 000 "Delta Upload Safeguards" and "Object Layout", sentence by sentence (FEATURES F2, F3.1 to F3.12, F3.16).

The storages verify signatures, so what is refused by one is refused by a server and not by a mock.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib import seam
from chalicelib.tables.deltas import Delta, DeltaPointer
from tests.client import Answer
from tests.conftest import Call, Tenant
from tests.servers.hostile import closed_port
from tests.storages.scripted_s3 import Asked, Said, ScriptedS3
from tests.vault.conftest import BODY, UNKNOWN, Begun, Vault, counters, md5_of, promised, put, send, told

OTHER = b"another encrypted delta, of another length than the first has"
SAME_SIZE = BODY[::-1]
MAX_BYTES = 10_485_760
MD5 = md5_of(BODY)
SIGNED = (
    "content-length;content-md5;host;if-none-match;x-amz-meta-expected-content-md5;x-amz-meta-expected-size-bytes;x-amz-meta-upload-attempt"
)
# Seed 000 "Object Layout": what its two examples are made of.
PUBLISHED_KEY, PUBLISHED_DELTA = "234e5678-e89b-12d3-a456-426614174001", "567e8901-e89b-12d3-a456-426614174004"
PUBLISHED = {
    None: "234e5678-e89b-12d3-a456-426614174001/567e8901-e89b-12d3-a456-426614174004",
    "customer-a/deltas": "customer-a/deltas/234e5678-e89b-12d3-a456-426614174001/567e8901-e89b-12d3-a456-426614174004",
}
PROPERTY = hypothesis_settings(
    deadline=None, max_examples=100, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
STORES = ("PutObject", "CopyObject", "CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload")
Requests = dict[str, Callable[[Vault, str], Answer]]


def query_of(url: str) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlsplit(url).query, strict_parsing=True).items()}


def path_of(url: str) -> str:
    return unquote(urlsplit(url).path)


def stored_bytes(vault: Vault, begun: Begun) -> bytes:
    body: bytes = vault.owner._call("GetObject", Key=vault.at(begun))["Body"].read()
    return body


def asked_of_storages(calls: list[Call]) -> list[str]:
    return [call.operation for call in calls if call.service == "s3"]


def put_in_parts(vault: Vault, begun: Begun, body: bytes) -> None:
    """What a client does that has the bucket's own credentials and uploads by multipart."""
    at = vault.at(begun)
    upload = vault.owner._call("CreateMultipartUpload", Key=at, Metadata=promised(begun))["UploadId"]
    etag = vault.owner._call("UploadPart", Key=at, UploadId=upload, PartNumber=1, Body=body)["ETag"]
    vault.owner._call("CompleteMultipartUpload", Key=at, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})


@pytest.fixture
def own_key(own: Vault) -> str:
    """One key for all examples of a property."""
    return own.key()


def require_nothing_begun(vault: Vault, tenant: Tenant, key_uuid: str) -> None:
    assert counters(tenant, key_uuid) == (0, 0, 0, 0, 0)
    assert vault.listed(key_uuid) == []
    assert vault.lies_there(key_uuid) == []


def test_a_delta_is_uploaded_directly_confirmed_and_downloaded(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    assert vault.bytes_of(begun) == BODY
    assert vault.lies_there(key_uuid) == [vault.at(begun)]


# ---- 1 to 10485760 bytes (F3.1) ------------------------------------------------------------------------------
def test_a_delta_of_one_byte_is_taken(vault: Vault) -> None:
    begun = vault.upload(vault.key(), b"\0")
    assert vault.bytes_of(begun) == b"\0"


def test_a_delta_of_ten_mebibytes_is_taken(internal: Vault) -> None:
    body = bytes(range(256)) * (MAX_BYTES // 256)
    key_uuid = internal.key()
    begun = internal.upload(key_uuid, body)
    assert hashlib.sha256(internal.bytes_of(begun)).digest() == hashlib.sha256(body).digest()
    assert internal.shown(key_uuid)["size_bytes"] == MAX_BYTES


def test_a_delta_of_ten_mebibytes_may_be_begun_everywhere(vault: Vault) -> None:
    begun = vault.begin(vault.key(), size_bytes=MAX_BYTES)
    assert begun["headers"]["Content-Length"] == str(MAX_BYTES)


@pytest.mark.parametrize("size", [0, -1, MAX_BYTES + 1, 1 << 63, 1 << 200])
def test_a_size_outside_the_limit_is_refused_when_it_is_asked_for(vault: Vault, tenant: Tenant, size: int) -> None:
    """Also on a storage of one's own: the limit is universal."""
    key_uuid = vault.key()
    assert told(vault.ask(key_uuid, size_bytes=size)) == (400, "InvalidRequest")
    require_nothing_begun(vault, tenant, key_uuid)


@pytest.mark.parametrize("size", [None, True, "51", 51.5, [51], {}])
def test_a_size_that_is_no_whole_number_is_refused(internal: Vault, tenant: Tenant, size: Any) -> None:
    key_uuid = internal.key()
    assert told(internal.ask(key_uuid, size_bytes=size)) == (400, "InvalidRequest")
    require_nothing_begun(internal, tenant, key_uuid)


@pytest.mark.parametrize("field", ["key_uuid", "size_bytes", "content_md5"])
def test_what_an_upload_needs_cannot_be_left_out(internal: Vault, tenant: Tenant, field: str) -> None:
    key_uuid = internal.key()
    body = {"key_uuid": key_uuid, "size_bytes": len(BODY), "content_md5": MD5}
    del body[field]
    assert told(internal.client("POST", "/deltas/upload", body)) == (400, "InvalidRequest")
    require_nothing_begun(internal, tenant, key_uuid)


# ---- the MD5 (F3.2) ------------------------------------------------------------------------------------------
NO_MD5 = {
    "of 15 bytes": base64.b64encode(b"x" * 15).decode(),
    "of 17 bytes": base64.b64encode(b"x" * 17).decode(),
    "of 18 bytes": base64.b64encode(b"x" * 18).decode(),
    "of a SHA-256": base64.b64encode(hashlib.sha256(BODY).digest()).decode(),
    "in hexadecimal": hashlib.md5(BODY).hexdigest(),
    "in 24 hexadecimal digits": hashlib.md5(BODY).hexdigest()[:24],
    "in the alphabet of URLs": base64.urlsafe_b64encode(b"\xfb\xff" * 8).decode(),
    "without padding": MD5.rstrip("="),
    "with half the padding": MD5[:-1],
    "with more padding": MD5 + "=",
    "after a space": " " + MD5,
    "before a space": MD5 + " ",
    "before a line's end": MD5 + "\n",
    "with a line's end inside": MD5[:12] + "\n" + MD5[12:],
    "without padding and 24 long": MD5.rstrip("=") + "\n\n",
    "with bits that decode to nothing": MD5[:21] + chr(ord(MD5[21]) + 1) + "==",
    "padded in the middle": "AA==" + MD5[4:],
    "empty": "",
    "of other letters": "ä" * 22 + "==",
    "null": None,
    "a number": 1,
    "a list": [MD5],
}


@pytest.mark.parametrize("md5", NO_MD5.values(), ids=NO_MD5)
def test_what_is_not_the_base64_of_an_md5_is_refused(own: Vault, tenant: Tenant, md5: Any) -> None:
    key_uuid = own.key()
    assert told(own.ask(key_uuid, content_md5=md5)) == (400, "InvalidRequest")
    require_nothing_begun(own, tenant, key_uuid)


def test_an_md5_that_is_refused_costs_nothing_of_the_quota(internal: Vault) -> None:
    key_uuid = internal.key()
    for md5 in NO_MD5.values():
        assert internal.ask(key_uuid, content_md5=md5).status == 400
    assert internal.limits(key_uuid)["uploads"]["daily"]["used"] == 0


BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
ALMOST = st.builds(
    lambda digest, at, letter: (text := base64.b64encode(digest).decode())[:at] + letter + text[at + 1 :],
    st.binary(min_size=16, max_size=16),
    st.integers(0, 23),
    st.sampled_from(BASE64 + "=-_ \n\tä"),
)


@PROPERTY
@given(md5=st.text(st.sampled_from(BASE64 + "=-_ \n"), min_size=20, max_size=28) | ALMOST)
def test_an_md5_is_taken_exactly_when_sixteen_bytes_are_written_like_that(own: Vault, own_key: str, md5: str) -> None:
    # 22 letters for 128 bits: the last carries two of them, and four that are nought.
    permitted = re.fullmatch(r"[A-Za-z0-9+/]{21}[AQgw]==", md5) is not None
    answer = own.ask(own_key, content_md5=md5)
    assert answer.status == (201 if permitted else 400)
    if permitted:
        assert answer.json()["headers"]["Content-MD5"] == md5


# ---- what is signed (F3.4) -----------------------------------------------------------------------------------
def test_the_url_signs_exactly_what_makes_an_upload_safe(vault: Vault) -> None:
    query = query_of(vault.begin(vault.key())["url"])
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-SignedHeaders"] == SIGNED


def test_the_headers_are_told_that_the_put_has_to_carry(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    assert begun["method"] == "PUT"
    assert begun["headers"] == {
        "Content-Length": str(len(BODY)),
        "Content-MD5": MD5,
        "If-None-Match": "*",
        "x-amz-meta-expected-size-bytes": str(len(BODY)),
        "x-amz-meta-expected-content-md5": MD5,
        "x-amz-meta-upload-attempt": begun["upload_attempt_uuid"],
    }


def test_every_attempt_has_a_uuid_of_its_own(own: Vault) -> None:
    key_uuid = own.key()
    begun = [own.begin(key_uuid) for _ in range(3)]
    begun += [own.begin(key_uuid, delta_uuid=begun[0]["delta_uuid"]) for _ in range(3)]
    assert len({each["upload_attempt_uuid"] for each in begun}) == 6
    assert len({each["delta_uuid"] for each in begun}) == 3


def test_what_was_signed_lies_with_the_object(vault: Vault) -> None:
    begun = vault.upload(vault.key())
    found = vault.owner.describe(vault.at(begun))
    assert found.metadata == promised(begun)
    assert found.size == len(BODY)


# ---- the storage refuses everything else (F3.5) --------------------------------------------------------------
CHANGED = {
    "Content-Length": str(len(BODY) - 1),
    "Content-MD5": md5_of(OTHER),
    "If-None-Match": '"0123456789abcdef0123456789abcdef"',
    "x-amz-meta-expected-size-bytes": "1",
    "x-amz-meta-expected-content-md5": md5_of(OTHER),
    "x-amz-meta-upload-attempt": UNKNOWN,
}


def test_every_header_that_is_told_is_changed_and_left_out_below(internal: Vault) -> None:
    assert set(internal.begin(internal.key())["headers"]) == set(CHANGED)


def test_another_body_is_refused_by_the_storage(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    assert put(begun, SAME_SIZE) == 400
    assert vault.lies_there(key_uuid) == []
    assert told(vault.confirm(begun)) == (409, "NotUploaded")


@pytest.mark.parametrize("body", [b"", BODY[:-1], BODY + b"x", BODY * 2], ids=["none", "shorter", "longer", "twice"])
def test_a_body_of_another_size_is_refused_by_the_storage(vault: Vault, body: bytes) -> None:
    """Also with the MD5 that fits it: then it is not the one that was signed."""
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    resized = begun | {"headers": begun["headers"] | {"Content-Length": str(len(body))}}
    assert put(resized, body) == 403
    assert put(resized, body, **{"Content-MD5": md5_of(body)}) == 403
    assert vault.lies_there(key_uuid) == []


@pytest.mark.parametrize("name", CHANGED)
def test_a_signed_header_that_is_changed_is_refused_by_the_storage(vault: Vault, name: str) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    body = BODY[:-1] if name == "Content-Length" else BODY
    assert put(begun, body, **{name: CHANGED[name]}) == 403
    assert vault.lies_there(key_uuid) == []
    assert put(begun) == 200  # nothing else was wrong with it


@pytest.mark.parametrize("name", CHANGED)
def test_a_signed_header_that_is_left_out_is_refused_by_the_storage(vault: Vault, name: str) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    if name == "Content-Length":  # HTTP has one other way to tell where a body ends
        assert put(begun, b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), **{name: None, "Transfer-Encoding": "chunked"}) == 403
    else:
        assert put(begun, BODY, **{name: None}) == 403
    assert vault.lies_there(key_uuid) == []
    assert put(begun) == 200


def test_metadata_that_was_not_signed_is_refused_by_a_storage_that_looks_for_it(strict: Vault) -> None:
    key_uuid = strict.key()
    assert put(strict.begin(key_uuid), BODY, **{"x-amz-meta-more": "1"}) == 403
    assert strict.lies_there(key_uuid) == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_the_url_of_an_upload_does_nothing_else(vault: Vault, method: str) -> None:
    begun = vault.upload(vault.key())
    assert send(begun["url"], None, {}, method)[0] == 403
    assert stored_bytes(vault, begun) == BODY


def test_the_url_puts_nothing_elsewhere(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    elsewhere = begun | {"url": begun["url"].replace(begun["delta_uuid"], UNKNOWN)}
    assert elsewhere["url"] != begun["url"]
    assert put(elsewhere) == 403
    assert vault.lies_there(key_uuid) == []


# ---- once (F3.6) ---------------------------------------------------------------------------------------------
def test_a_second_put_on_the_same_url_is_refused(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    assert [put(begun), put(begun), put(begun)] == [200, 412, 412]
    assert stored_bytes(vault, begun) == BODY
    assert vault.confirm(begun).status == 200
    assert put(begun) == 412
    assert vault.bytes_of(begun) == BODY


def test_another_attempt_cannot_overwrite_what_has_arrived(vault: Vault) -> None:
    key_uuid = vault.key()
    first = vault.begin(key_uuid)
    second = vault.begin(key_uuid, OTHER, delta_uuid=first["delta_uuid"])
    assert put(first) == 200
    assert put(second, OTHER) == 412
    assert stored_bytes(vault, first) == BODY


# ---- the service never receives the body (F3.3) --------------------------------------------------------------
def test_the_url_leads_to_the_storage_and_not_to_the_service(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    assert urlsplit(begun["url"]).netloc == urlsplit(vault.owner._endpoint).netloc
    assert path_of(begun["url"]) == f"/{vault.owner.bucket}/{vault.at(begun)}"


def test_the_service_neither_reads_nor_writes_a_body(vault: Vault, calls: list[Call]) -> None:
    key_uuid = vault.key()
    calls.clear()
    begun = vault.upload(key_uuid)
    assert vault.download(begun).status == 200
    asked = asked_of_storages(calls)
    assert "HeadObject" in asked  # so the requests to this storage are seen
    assert not set(asked) & {"GetObject", *STORES}


def test_bytes_that_are_sent_along_are_not_kept(internal: Vault) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid, data=BODY.decode(), content=base64.b64encode(BODY).decode())
    assert internal.lies_there(key_uuid) == []
    assert told(internal.confirm(begun)) == (409, "NotUploaded")


# ---- confirming (F3.7, F3.11, F3.12) -------------------------------------------------------------------------
def test_a_confirmed_delta_is_told_as_it_was_promised(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    put(begun)
    answer = vault.confirm(begun)
    assert answer.status == 200, answer.body
    shown = answer.json()
    expected = {
        "delta_uuid": begun["delta_uuid"],
        "key_uuid": key_uuid,
        "status": "stored",
        "size_bytes": len(BODY),
        "content_md5": MD5,
        "upload_attempt_uuid": begun["upload_attempt_uuid"],
        "object_key": vault.at(begun),
        "warning": None,
    }
    assert {name: shown[name] for name in expected} == expected
    assert vault.listed(key_uuid) == [shown]


def test_confirming_again_gives_the_same(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    put(begun)
    first = vault.confirm(begun)
    counted = counters(tenant, key_uuid)
    again = [vault.confirm(begun) for _ in range(3)]
    assert first.status == 200
    assert [(answer.status, answer.json()) for answer in again] == [(200, first.json())] * 3
    assert counters(tenant, key_uuid) == counted
    assert counted[:3] == (1, 1, len(BODY))


def test_confirming_before_the_put_changes_nothing(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    before = counters(tenant, key_uuid), vault.listed(key_uuid)
    assert told(vault.confirm(begun)) == (409, "NotUploaded")
    assert (counters(tenant, key_uuid), vault.listed(key_uuid)) == before
    assert [each["status"] for each in before[1]] == ["pending"]
    assert put(begun) == 200
    assert vault.confirm(begun).status == 200


def test_an_unknown_delta_cannot_be_confirmed(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    put(begun)
    assert told(vault.confirm(begun, delta_uuid=UNKNOWN)) == (404, "DeltaNotFound")
    assert vault.holds(begun)


# ---- an attempt mismatch is a conflict, and preserves the object (F3.9) --------------------------------------
def test_an_unknown_attempt_is_a_conflict_and_the_object_is_kept(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    put(begun)
    assert told(vault.confirm(begun, upload_attempt_uuid=UNKNOWN)) == (409, "AttemptMismatch")
    assert stored_bytes(vault, begun) == BODY
    assert vault.confirm(begun).status == 200
    assert vault.bytes_of(begun) == BODY


def test_the_attempt_of_another_delta_is_a_conflict_and_the_object_is_kept(vault: Vault) -> None:
    key_uuid = vault.key()
    begun, other = vault.begin(key_uuid), vault.begin(key_uuid, OTHER)
    put(begun)
    put(other, OTHER)
    assert told(vault.confirm(begun, upload_attempt_uuid=other["upload_attempt_uuid"])) == (409, "AttemptMismatch")
    assert stored_bytes(vault, begun) == BODY
    assert [vault.confirm(each).status for each in (begun, other)] == [200, 200]


def test_a_stored_delta_is_not_confirmed_by_an_unknown_attempt(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    before = vault.listed(key_uuid)
    assert told(vault.confirm(begun, upload_attempt_uuid=UNKNOWN)) == (409, "AttemptMismatch")
    assert vault.listed(key_uuid) == before
    assert vault.bytes_of(begun) == BODY


def test_what_another_attempt_has_put_is_a_conflict_that_names_it(vault: Vault) -> None:
    key_uuid = vault.key()
    first = vault.begin(key_uuid)
    second = vault.begin(key_uuid, OTHER, delta_uuid=first["delta_uuid"])
    assert put(first) == 200
    answer = vault.confirm(second)
    assert told(answer) == (409, "AttemptMismatch")
    assert answer.json()["details"] == {"upload_attempt_uuid": first["upload_attempt_uuid"]}
    assert stored_bytes(vault, first) == BODY
    assert vault.confirm(first).json()["size_bytes"] == len(BODY)
    assert vault.bytes_of(first) == BODY


@pytest.mark.parametrize("attempt", [UNKNOWN, "", None], ids=["unknown", "empty", "none"])
def test_an_object_that_tells_of_no_such_attempt_is_a_conflict_and_kept(vault: Vault, attempt: str | None) -> None:
    """It is not this attempt's, whatever it is: nobody but its owner may delete it."""
    begun = vault.begin(vault.key())
    put(begun)
    metadata = promised(begun) | {"upload-attempt": attempt or ""}
    if attempt is None:
        del metadata["upload-attempt"]
    vault.overwrite(begun, OTHER, **metadata)
    assert told(vault.confirm(begun)) == (409, "AttemptMismatch")
    assert stored_bytes(vault, begun) == OTHER


# ---- an integrity failure of the matching attempt (F3.10) ----------------------------------------------------
BROKEN: dict[str, tuple[bytes, dict[str, str | None]]] = {
    "other bytes of the same size": (SAME_SIZE, {}),
    "a byte less": (BODY[:-1], {}),
    "a byte more": (BODY + b"x", {}),
    "nothing": (b"", {}),
    "another size is told": (BODY, {"expected-size-bytes": "1"}),
    "its size is told otherwise": (BODY, {"expected-size-bytes": f"0{len(BODY)}"}),
    "no size is told": (BODY, {"expected-size-bytes": None}),
    "another MD5 is told": (BODY, {"expected-content-md5": md5_of(OTHER)}),
    "no MD5 is told": (BODY, {"expected-content-md5": None}),
    "another size is told, and true": (OTHER, {"expected-size-bytes": str(len(OTHER))}),
    "all is true but not as promised": (OTHER, {"expected-size-bytes": str(len(OTHER)), "expected-content-md5": md5_of(OTHER)}),
}


def break_it(vault: Vault, begun: Begun, broken: str) -> None:
    body, changes = BROKEN[broken]
    vault.overwrite(begun, body, **{name: value for name, value in (promised(begun) | changes).items() if value is not None})


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_not_as_promised_is_rejected_and_deleted(vault: Vault, broken: str) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    put(begun)
    break_it(vault, begun, broken)
    answer = vault.confirm(begun)
    assert told(answer) == (422, "IntegrityFailed")
    assert answer.json()["details"]["left"] == []
    assert vault.lies_there(key_uuid) == []
    assert told(vault.confirm(begun)) == (409, "NotUploaded")
    assert vault.shown(key_uuid)["delta_count"] == 0


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_not_as_promised_is_rejected_also_where_it_cannot_be_deleted(no_delete: Any, broken: str) -> None:
    """And the answer tells its whole key, as the bucket's owner sees it."""
    vault, server = no_delete
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    put(begun)
    break_it(vault, begun, broken)
    server.denied.clear()
    answer = vault.confirm(begun)
    assert told(answer) == (422, "IntegrityFailed")
    assert answer.json()["details"]["left"] == [f"omega-safe/deltas/{key_uuid}/{begun['delta_uuid']}"]
    assert len(server.denied) == 1
    assert stored_bytes(vault, begun) == BROKEN[broken][0]
    assert told(vault.confirm(begun)) == (422, "IntegrityFailed")
    assert vault.shown(key_uuid)["delta_count"] == 0
    assert [each["status"] for each in vault.listed(key_uuid)] == ["pending"]


def test_after_a_rejection_the_right_bytes_can_be_sent_to_the_same_url(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    put(begun)
    vault.overwrite(begun, SAME_SIZE, **promised(begun))
    assert vault.confirm(begun).status == 422
    assert put(begun) == 200
    assert vault.confirm(begun).status == 200
    assert vault.bytes_of(begun) == BODY


def test_an_object_of_the_right_bytes_that_was_put_anew_is_accepted(vault: Vault) -> None:
    """By metadata, size and ETag it is what was promised: who has put it does not matter."""
    begun = vault.begin(vault.key())
    vault.overwrite(begun, BODY, **promised(begun))
    assert vault.confirm(begun).status == 200
    assert vault.bytes_of(begun) == BODY


# ---- the ETag, where it is one of a single part (F3.8) -------------------------------------------------------
def test_an_object_that_was_put_in_parts_is_accepted(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    put_in_parts(vault, begun, BODY)
    assert vault.owner._call("HeadObject", Key=vault.at(begun))["ETag"].strip('"').endswith("-1")
    answer = vault.confirm(begun)
    assert answer.status == 200, answer.body
    assert vault.bytes_of(begun) == BODY


def test_an_object_in_parts_of_another_size_is_rejected(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    put_in_parts(vault, begun, OTHER)
    assert told(vault.confirm(begun)) == (422, "IntegrityFailed")
    assert vault.lies_there(key_uuid) == []


def says_of_objects(server: ScriptedS3, body: bytes, begun: Begun, **headers: str) -> None:
    """Has the storage tell of whatever is asked for that it is this attempt's."""
    metadata = {f"x-amz-meta-{name}": value for name, value in promised(begun).items()}

    def head(_: Asked) -> Said:
        return Said(200, body, metadata | {name.replace("_", "-"): value for name, value in headers.items()})

    server.say["HEAD"] = head


ANOTHER_ETAG = '"0123456789abcdef0123456789abcdef"'


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"0123456789abcdef0123456789abcdef-2"'},
        {"ETag": ANOTHER_ETAG, "x_amz_server_side_encryption": "aws:kms"},
        {"ETag": ANOTHER_ETAG, "x_amz_server_side_encryption": "aws:kms:dsse"},
        {"ETag": ANOTHER_ETAG, "x_amz_server_side_encryption_customer_algorithm": "AES256"},
        {"ETag": '"0x8DC0123456789AB"'},
        {},
    ],
    ids=["in parts", "SSE-KMS", "DSSE-KMS", "SSE-C", "no MD5", "none"],
)
def test_an_etag_that_is_no_md5_of_the_bytes_is_not_compared(scripted: tuple[Vault, ScriptedS3], headers: dict[str, str]) -> None:
    vault, server = scripted
    begun = vault.begin(vault.key())
    says_of_objects(server, BODY, begun, **headers)
    answer = vault.confirm(begun)
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    "headers",
    [{"ETag": ANOTHER_ETAG}, {"ETag": ANOTHER_ETAG.strip('"')}, {"ETag": ANOTHER_ETAG, "x_amz_server_side_encryption": "AES256"}],
    ids=["plain", "unquoted", "SSE-S3"],
)
def test_an_etag_that_is_an_md5_has_to_match(scripted: tuple[Vault, ScriptedS3], headers: dict[str, str]) -> None:
    vault, server = scripted
    begun = vault.begin(vault.key())
    says_of_objects(server, BODY, begun, **headers)
    assert told(vault.confirm(begun)) == (422, "IntegrityFailed")
    says_of_objects(server, BODY, begun, **headers | {"ETag": f'"{hashlib.md5(BODY).hexdigest()}"'})
    assert vault.confirm(begun).status == 200


# ---- another attempt at a delta ------------------------------------------------------------------------------
def test_a_known_delta_starts_another_attempt_of_other_bytes(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    first = vault.begin(key_uuid)
    second = vault.begin(key_uuid, OTHER, delta_uuid=first["delta_uuid"])
    assert second["delta_uuid"] == first["delta_uuid"]
    assert second["upload_attempt_uuid"] != first["upload_attempt_uuid"]
    assert put(second, OTHER) == 200
    assert put(first) == 412
    shown = vault.confirm(second).json()
    assert (shown["size_bytes"], shown["content_md5"]) == (len(OTHER), md5_of(OTHER))
    assert vault.bytes_of(second) == OTHER
    assert told(vault.confirm(first)) == (409, "AttemptMismatch")
    assert vault.bytes_of(second) == OTHER
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(OTHER))


def test_a_stored_delta_starts_no_other_attempt(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    before = counters(tenant, key_uuid), vault.listed(key_uuid)
    assert told(vault.ask(key_uuid, OTHER, delta_uuid=begun["delta_uuid"])) == (409, "UploadSettled")
    assert (counters(tenant, key_uuid), vault.listed(key_uuid)) == before
    assert vault.bytes_of(begun) == BODY


def test_an_unknown_delta_starts_no_attempt(vault: Vault, tenant: Tenant) -> None:
    """Ids are given by the service: a client cannot choose one."""
    key_uuid = vault.key()
    assert told(vault.ask(key_uuid, delta_uuid=UNKNOWN)) == (404, "DeltaNotFound")
    require_nothing_begun(vault, tenant, key_uuid)


def test_the_delta_of_another_key_starts_no_attempt(vault: Vault, tenant: Tenant) -> None:
    begun, key_uuid = vault.begin(vault.key()), vault.key()
    assert told(vault.ask(key_uuid, delta_uuid=begun["delta_uuid"])) == (404, "DeltaNotFound")
    require_nothing_begun(vault, tenant, key_uuid)


def test_the_delta_of_another_tenant_is_not_there(vault: Vault, new_tenant: Any) -> None:
    begun = vault.begin(vault.key())
    put(begun)
    other = new_tenant()
    theirs = Vault(other.service, None, vault.owner)
    key_uuid = theirs.key()
    assert told(theirs.ask(key_uuid, delta_uuid=begun["delta_uuid"])) == (404, "DeltaNotFound")
    assert told(theirs.ask(begun["key_uuid"])) == (404, "KeyNotFound")
    assert told(theirs.confirm(begun)) == (404, "DeltaNotFound")
    assert told(theirs.download(begun)) == (404, "DeltaNotFound")
    require_nothing_begun(theirs, other, key_uuid)
    assert vault.confirm(begun).status == 200


# ---- the layout (F2.1, F2.2, F2.4, F2.5) ---------------------------------------------------------------------
LAYOUTS = {
    None: "",
    "": "",
    "prod": "prod/",
    "omega-safe/deltas": "omega-safe/deltas/",
    "team//prod/": "team/prod/",
    "a///b//": "a/b/",
    "with space/ünï+%2F": "with space/ünï+%2F/",
}


@pytest.mark.parametrize("remote_path", LAYOUTS, ids=repr)
def test_a_delta_lies_at_its_key_and_its_own_id_below_the_remote_path(brought: Callable[..., Vault], remote_path: str | None) -> None:
    vault = brought(remote_path=remote_path)
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    expected = f"{LAYOUTS[remote_path]}{key_uuid}/{begun['delta_uuid']}"
    assert [listed.key for listed in vault.owner.list("")] == [expected]
    assert begun["object_key"] == expected
    assert [each["object_key"] for each in vault.listed(key_uuid)] == [expected]
    assert path_of(begun["url"]) == path_of(vault.download(begun).json()["url"]) == f"/{vault.owner.bucket}/{expected}"
    assert vault.bytes_of(begun) == BODY


def test_on_internal_storage_the_layout_is_the_same_below_deltas(internal: Vault) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    expected = f"deltas/{key_uuid}/{begun['delta_uuid']}"
    assert internal.lies_there(key_uuid) == [expected]
    assert begun["object_key"] == expected
    assert path_of(begun["url"]) == f"/{internal.owner.bucket}/{expected}"


@pytest.fixture
def published_ids(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The next key and delta have the ids of the seed's examples; nothing of them stays."""
    ids = chain([PUBLISHED_KEY, PUBLISHED_DELTA], repeat(PUBLISHED_DELTA))
    monkeypatch.setattr(seam, "new_timed_uuid", lambda: next(ids))
    yield
    Delta(PUBLISHED_KEY, PUBLISHED_DELTA).remove(Delta.delta_uuid.exists())
    DeltaPointer(PUBLISHED_DELTA).remove(DeltaPointer.item.exists())


@pytest.mark.parametrize("remote_path", PUBLISHED, ids=repr)
def test_the_published_examples_come_out_to_the_letter(brought: Callable[..., Vault], published_ids: None, remote_path: str | None) -> None:
    vault = brought(remote_path=remote_path)
    begun = vault.upload(vault.key())
    assert [listed.key for listed in vault.owner.list("")] == [PUBLISHED[remote_path]]
    assert begun["object_key"] == PUBLISHED[remote_path]
    assert vault.bytes_of(begun) == BODY


def test_the_segment_of_the_key_is_always_there(vault: Vault) -> None:
    for key_uuid in (vault.key(), vault.key()):
        begun = vault.upload(key_uuid)
        assert vault.at(begun).split("/")[-2:] == [key_uuid, begun["delta_uuid"]]
        assert vault.lies_there(key_uuid) == [vault.at(begun)]


def test_the_filename_is_exactly_the_delta_uuid(vault: Vault) -> None:
    begun = vault.upload(vault.key())
    (lies_at,) = vault.lies_there(begun["key_uuid"])
    url = vault.download(begun).json()["url"]
    assert lies_at.rpartition("/")[2] == begun["delta_uuid"]
    assert path_of(begun["url"]).rpartition("/")[2] == begun["delta_uuid"]
    assert query_of(url)["response-content-disposition"] == f'attachment; filename="{begun["delta_uuid"]}"'


SEGMENT = st.text(st.sampled_from("aZ09-_. ~ü日%+&='()"), max_size=5).filter(lambda segment: ".." not in segment and segment != ".")


@hypothesis_settings(PROPERTY, max_examples=25)
@given(segments=st.lists(SEGMENT, max_size=6))
def test_any_remote_path_is_joined_without_its_empty_segments(own: Vault, own_key: str, segments: list[str]) -> None:
    remote_path = "/".join(segments).lstrip("/")
    changes = {"storage_uuid": own.storage_uuid, "remote_path": remote_path}
    answer = own.client("PATCH", "/storages/edit", changes)
    assert answer.status == 200, answer.body
    begun = own.begin(own_key)
    expected = "/".join([*(segment for segment in segments if segment), own_key, begun["delta_uuid"]])
    assert begun["object_key"] == expected
    assert put(begun) == 200
    assert own.owner.stat(expected).size == len(BODY)
    assert own.confirm(begun).json()["object_key"] == expected


# ---- ids (F2.3) ----------------------------------------------------------------------------------------------
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def test_ids_are_hyphenated_and_in_lower_case(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    assert all(UUID.fullmatch(begun[name]) for name in ("key_uuid", "delta_uuid", "upload_attempt_uuid"))


def test_ids_are_lower_cased_on_the_way_in(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid.upper())
    assert begun["key_uuid"] == key_uuid
    assert path_of(begun["url"]) == f"/{vault.owner.bucket}/{vault.prefix}{key_uuid}/{begun['delta_uuid']}"
    again = vault.begin(key_uuid.upper(), delta_uuid=begun["delta_uuid"].upper())
    assert again["delta_uuid"] == begun["delta_uuid"]
    assert put(again) == 200
    shouted = {name: again[name].upper() for name in ("delta_uuid", "upload_attempt_uuid")}
    confirmed = vault.confirm(again, **shouted)
    assert confirmed.status == 200, confirmed.body
    assert [confirmed.json()[name] for name in shouted] == [again[name] for name in shouted]
    downloaded = vault.client("GET", f"/deltas/download?delta_uuid={again['delta_uuid'].upper()}")
    assert downloaded.json()["delta_uuid"] == again["delta_uuid"]
    assert [each["delta_uuid"] for each in vault.listed(key_uuid.upper())] == [again["delta_uuid"]]
    assert vault.client("DELETE", "/deltas/delete", {"delta_uuid": again["delta_uuid"].upper()}).status == 200
    assert vault.lies_there(key_uuid) == []


TAKES_KEY: Requests = {
    "upload": lambda vault, key: vault.ask(key),
    "list": lambda vault, key: vault.client("GET", f"/deltas/list?key_uuid={key}"),
    "edit": lambda vault, key: vault.client("PATCH", "/keys/edit", {"key_uuid": key, "name": "other"}),
    "delete": lambda vault, key: vault.client("DELETE", "/keys/delete", {"key_uuid": key}),
    "delete by POST": lambda vault, key: vault.client("POST", "/keys/delete", {"key_uuid": key}),
    "delete by query": lambda vault, key: vault.client("DELETE", f"/keys/delete?key_uuid={key}"),
    "check-layout": lambda vault, key: vault.client("GET", f"/keys/check-layout?key_uuid={key}"),
    "storage-limits": lambda vault, key: vault.client("GET", f"/keys/storage-limits?key_uuid={key}"),
    "migrate": lambda vault, key: vault.client("POST", "/keys/migrate", {"key_uuid": key, "storage_uuid": UNKNOWN}),
}
TAKES_DELTA: Requests = {
    "confirm": lambda vault, delta: vault.client("POST", "/deltas/confirm", {"delta_uuid": delta, "upload_attempt_uuid": UNKNOWN}),
    "download": lambda vault, delta: vault.client("GET", f"/deltas/download?delta_uuid={delta}"),
    "claim": lambda vault, delta: vault.client("POST", "/deltas/claim", {"delta_uuid": delta, "start": 0, "length": 1}),
    "claims": lambda vault, delta: vault.client("GET", f"/deltas/claims?delta_uuid={delta}"),
    "release": lambda vault, delta: vault.client("DELETE", "/deltas/claim", {"delta_uuid": delta, "claim_id": UNKNOWN}),
    "delete": lambda vault, delta: vault.client("DELETE", "/deltas/delete", {"delta_uuid": delta}),
    "delete by query": lambda vault, delta: vault.client("DELETE", f"/deltas/delete?delta_uuid={delta}"),
}
WRITTEN_OTHERWISE: dict[str, Callable[[str], str]] = {
    "compact": lambda given: given.replace("-", ""),
    "in braces": lambda given: f"{{{given}}}",
    "hyphenated elsewhere": lambda given: given.replace("-", "", 1)[:12] + "-" + given.replace("-", "", 1)[12:],
    "with an extension": lambda given: f"{given}.bin",
    "after a folder": lambda given: f"../{given}",
    "a digit short": lambda given: given[:-1],
    "no hexadecimal": lambda given: given[:-1] + "g",
}


@pytest.mark.parametrize("written", WRITTEN_OTHERWISE)
@pytest.mark.parametrize("request_", TAKES_KEY)
def test_a_key_uuid_that_is_not_hyphenated_is_refused(internal: Vault, request_: str, written: str) -> None:
    key_uuid = internal.key()
    assert told(TAKES_KEY[request_](internal, WRITTEN_OTHERWISE[written](key_uuid))) == (400, "InvalidRequest")
    assert internal.shown(key_uuid)["name"] == "laptop"
    assert internal.listed(key_uuid) == []


@pytest.mark.parametrize("written", WRITTEN_OTHERWISE)
@pytest.mark.parametrize("request_", TAKES_DELTA)
def test_a_delta_uuid_that_is_not_hyphenated_is_refused(own: Vault, request_: str, written: str) -> None:
    begun = own.upload(own.key())
    before = own.listed(begun["key_uuid"])
    assert told(TAKES_DELTA[request_](own, WRITTEN_OTHERWISE[written](begun["delta_uuid"]))) == (400, "InvalidRequest")
    assert own.listed(begun["key_uuid"]) == before
    assert own.holds(begun)


@pytest.mark.parametrize("written", WRITTEN_OTHERWISE)
def test_other_ids_that_are_not_hyphenated_are_refused(own: Vault, written: str) -> None:
    begun = own.begin(own.key())
    put(begun)
    write = WRITTEN_OTHERWISE[written]
    assert told(own.confirm(begun, upload_attempt_uuid=write(begun["upload_attempt_uuid"]))) == (400, "InvalidRequest")
    assert told(own.ask(begun["key_uuid"], delta_uuid=write(begun["delta_uuid"]))) == (400, "InvalidRequest")
    elsewhere = {"name": "x", "storage_uuid": write(str(own.storage_uuid))}
    assert told(own.client("POST", "/keys/create", elsewhere)) == (400, "InvalidRequest")
    assert own.confirm(begun).status == 200


def test_ids_are_taken_and_given_by_their_specific_names_alone(vault: Vault) -> None:
    """F3.19."""
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    shown = [begun, vault.shown(key_uuid), *vault.listed(key_uuid), vault.download(begun).json()]
    assert not any("id" in each or "uuid" in each for each in shown)
    assert told(vault.client("GET", f"/deltas/download?id={begun['delta_uuid']}")) == (400, "InvalidRequest")
    assert told(vault.client("DELETE", "/deltas/delete", {"id": begun["delta_uuid"]})) == (400, "InvalidRequest")
    assert vault.holds(begun)


# ---- downloading (F3.16) -------------------------------------------------------------------------------------
def test_the_url_of_a_download_answers_the_bytes_and_needs_no_header(vault: Vault) -> None:
    begun = vault.upload(vault.key())
    answer = vault.download(begun)
    assert answer.status == 200, answer.body
    assert set(answer.json()) == {"delta_uuid", "url", "expires_at"}
    url = answer.json()["url"]
    assert query_of(url)["X-Amz-SignedHeaders"] == "host"
    assert send(url, None, {}, "GET") == (200, BODY)


def test_no_url_carries_a_credential(vault: Vault, tenant: Tenant) -> None:
    """Of the storage's there is the name of its access key, as the protocol has it, and never the secret."""
    begun = vault.upload(vault.key())
    secrets = [tenant.service_key, tenant.jwt_secret, *([vault.owner._secret_key] if vault.storage_uuid else [])]
    for url in (begun["url"], vault.download(begun).json()["url"]):
        named = query_of(url)
        assert not any(secret in unquote(url) for secret in secrets)
        assert {name for name in named if name.startswith("X-Amz-")} == {
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-SignedHeaders",
            "X-Amz-Signature",
        }


def test_the_url_of_a_download_does_nothing_else(vault: Vault) -> None:
    key_uuid = vault.key()
    begun, other = vault.upload(key_uuid), vault.upload(key_uuid, OTHER)
    url = vault.download(begun).json()["url"]
    assert send(url, OTHER, {"Content-Length": str(len(OTHER))}, "PUT")[0] == 403
    assert send(url, None, {}, "DELETE")[0] == 403
    assert send(url.replace(begun["delta_uuid"], other["delta_uuid"]), None, {}, "GET")[0] == 403
    assert [stored_bytes(vault, each) for each in (begun, other)] == [BODY, OTHER]


def test_a_delta_that_was_not_confirmed_is_not_downloaded(vault: Vault) -> None:
    begun = vault.begin(vault.key())
    assert told(vault.download(begun)) == (409, "NotUploaded")
    put(begun)
    assert told(vault.download(begun)) == (409, "NotUploaded")


def test_a_delta_whose_object_was_removed_is_missing(vault: Vault) -> None:
    key_uuid = vault.key()
    begun, other = vault.upload(key_uuid), vault.upload(key_uuid, OTHER)
    vault.owner.delete([vault.at(begun)])
    assert told(vault.download(begun)) == (404, "DeltaMissing")
    assert vault.bytes_of(other) == OTHER
    vault.overwrite(begun, BODY)  # and whoever brings it back has it again
    assert vault.bytes_of(begun) == BODY


@pytest.mark.parametrize("body", [SAME_SIZE, OTHER, b""], ids=["of the same size", "of another size", "of nothing"])
def test_a_delta_that_was_overwritten_is_not_downloaded(vault: Vault, body: bytes) -> None:
    begun = vault.upload(vault.key())
    vault.overwrite(begun, body, **promised(begun))
    answer = vault.download(begun)
    assert told(answer) == (422, "IntegrityFailed")
    assert "url" not in answer.json()
    assert stored_bytes(vault, begun) == body  # it is its owner's to look at


def test_the_object_is_looked_at_before_a_url_is_given(vault: Vault, calls: list[Call]) -> None:
    begun = vault.upload(vault.key())
    calls.clear()
    assert vault.download(begun).status == 200
    assert asked_of_storages(calls) == ["HeadObject"]


def test_while_the_storage_cannot_be_asked_nothing_is_decided(own: Vault, stand_in: Callable[[str], None]) -> None:
    key_uuid = own.key()
    stored, begun = own.upload(key_uuid), own.begin(key_uuid, OTHER)
    put(begun, OTHER)
    with closed_port() as port:
        stand_in(f"http://127.0.0.1:{port}")
        assert told(own.confirm(begun)) == (503, "StorageUnavailable")
        assert told(own.download(stored)) == (503, "StorageUnavailable")
    stand_in(own.owner._endpoint)
    assert own.confirm(begun).status == 200
    assert [own.bytes_of(each) for each in (stored, begun)] == [BODY, OTHER]


def test_an_unknown_delta_is_not_downloaded(internal: Vault) -> None:
    assert told(internal.client("GET", f"/deltas/download?delta_uuid={UNKNOWN}")) == (404, "DeltaNotFound")
    assert told(internal.client("GET", "/deltas/download")) == (400, "InvalidRequest")
