"""Storages that do not keep every promise: confirming looks where the storage does not, and the answers name the weaker guarantee."""

import base64
import hashlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.providers.s3 import S3
from tests.conftest import Tenant, run_job
from tests.storages.scripted_s3 import ACCESS_KEY, SECRET_KEY, Asked, Said, ScriptedS3, error, scripted_s3
from tests.vault.conftest import BODY, R2_HOST, Vault, put, told

ON_S3 = {"provider": "s3", "region": "us-east-1"}
ON_R2 = {"provider": "r2", "region": "auto", "endpoint_url": f"https://{R2_HOST}"}
ENFORCED = {"overwrite": "enforced", "content_md5": "enforced"}


def md5_of(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def keeping(server: ScriptedS3, *, conditions: bool, digests: bool, metadata: bool = True) -> Callable[[Asked], Said]:
    """A PUT that holds clients to no more than this."""

    def answer(asked: Asked) -> Said:
        if conditions and asked.headers.get("if-none-match") == "*" and asked.key in server.objects:
            return Said(412, error("PreconditionFailed"))
        sent = asked.headers.get("content-md5")
        if digests and ((sent and sent != md5_of(asked.body)) or "x-amz-checksum-sha256" in asked.headers):
            return Said(400, error("BadDigest"))
        server.objects[asked.key] = asked.body
        told_by = {name: value for name, value in asked.headers.items() if name.startswith("x-amz-meta-")}
        server.metadata[asked.key] = told_by if metadata else {}
        return Said(200, headers=server._etag(asked.key))

    return answer


@pytest.fixture
def server() -> Iterator[ScriptedS3]:
    with scripted_s3() as running:
        yield running


@pytest.fixture
def on(server: ScriptedS3, tenant: Tenant, every_kind: None, stand_in: Callable[[str], None]) -> Callable[..., Vault]:
    """A vault on a storage that keeps what it is told to, and no more."""

    def make(described: dict[str, str] = ON_S3, **kept: bool) -> Vault:
        server.say["PUT"] = keeping(server, **kept)  # type: ignore[arg-type]
        stand_in(server.endpoint)
        fields = {"name": f"s-{uuid.uuid4().hex[:8]}", "bucket_name": "weak-one", **described}
        credentials = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
        answer = tenant.service("POST", "/storages/create", fields | credentials)
        assert answer.status == 201, answer.body
        owner = S3("weak-one", region="us-east-1", endpoint=server.endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY)
        return Vault(tenant.service, answer.json()["storage_uuid"], owner)

    return make


@pytest.mark.parametrize("conditions", [True, False])
@pytest.mark.parametrize("digests", [True, False])
def test_every_answer_names_what_the_storage_does_not_see_to(on: Callable[..., Vault], conditions: bool, digests: bool) -> None:
    vault = on(conditions=conditions, digests=digests)
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    assert put(begun) == 200
    confirmed = vault.confirm(begun).json()
    (listed,) = vault.listed(key_uuid)
    for answer in (begun, confirmed, listed):
        assert answer["safeguards"] == {
            "overwrite": "enforced" if conditions else "checked",
            "content_md5": "enforced" if digests else "checked",
        }
        warning = answer["warning"] or ""
        assert ("overwrite" in warning) == (not conditions)
        assert ("MD5" in warning) == (not digests)
        assert (answer["warning"] is None) == (conditions and digests)
    assert vault.bytes_of(begun) == BODY


def test_on_one_that_keeps_all_nothing_is_read_and_nobody_is_warned(on: Callable[..., Vault], server: ScriptedS3) -> None:
    vault = on(conditions=True, digests=True)
    begun = vault.begin(vault.key())
    assert (begun["safeguards"], begun["warning"]) == (ENFORCED, None)
    assert put(begun) == 200
    server.asked.clear()
    assert vault.confirm(begun).status == 200
    assert server.asked == ["HEAD"]


def test_bytes_that_a_storage_took_against_the_promise_are_found_by_reading_them(on: Callable[..., Vault], server: ScriptedS3) -> None:
    vault = on(conditions=True, digests=False)
    begun = vault.begin(vault.key())
    assert put(begun, b"x" * len(BODY)) == 200, "this storage lets anything in"
    server.asked.clear()
    answer = vault.confirm(begun)
    assert told(answer) == (422, "IntegrityFailed")
    assert server.asked == ["HEAD", "GET", "DELETE"]
    assert not vault.holds(begun)


def test_an_etag_is_not_relied_on_where_md5s_are_not_compared(on: Callable[..., Vault], server: ScriptedS3) -> None:
    """It may be anything: what counts is what is read."""
    vault = on(conditions=True, digests=False)
    begun = vault.begin(vault.key())
    server._etag = lambda key: {"ETag": f'"{"0" * 32}"'}  # type: ignore[method-assign]
    assert put(begun) == 200
    assert vault.confirm(begun).status == 200
    assert vault.bytes_of(begun) == BODY


def test_what_another_attempt_s_url_has_put_there_is_known_without_an_md5(on: Callable[..., Vault], server: ScriptedS3) -> None:
    vault = on(conditions=False, digests=False)
    server._etag = lambda key: {"ETag": '"opaque"'}  # type: ignore[method-assign]
    first = vault.begin(vault.key(), b"first")
    other = vault.begin(first["key_uuid"], b"other", delta_uuid=first["delta_uuid"])
    assert put(first, b"first") == 200
    assert vault.confirm(first).status == 200
    assert put(other, b"other") == 200
    assert told(vault.download(first)) == (422, "IntegrityFailed")


def test_ten_mebibytes_are_read_in_two_pieces(on: Callable[..., Vault], server: ScriptedS3) -> None:
    vault, body = on(conditions=True, digests=False), b"7" * 10_485_760
    begun = vault.begin(vault.key(), body)
    assert put(begun, body) == 200
    server.asked.clear()
    assert vault.confirm(begun).status == 200
    assert server.asked == ["HEAD", "GET", "GET"]


def test_what_was_overwritten_by_another_attempt_s_url_after_it_was_confirmed_is_not_given_out(on: Callable[..., Vault]) -> None:
    vault = on(conditions=False, digests=True)
    key_uuid = vault.key()
    first = vault.begin(key_uuid, b"first")
    second = vault.begin(key_uuid, b"second, longer", delta_uuid=first["delta_uuid"])
    assert put(first, b"first") == 200
    assert vault.confirm(first).status == 200
    assert put(second, b"second, longer") == 200, "this storage lets a URL overwrite"
    assert told(vault.download(first)) == (422, "IntegrityFailed")
    assert told(vault.confirm(second)) == (409, "AttemptMismatch")


def test_a_url_that_is_used_twice_changes_nothing_where_md5s_are_compared(on: Callable[..., Vault]) -> None:
    vault = on(conditions=False, digests=True)
    begun = vault.begin(vault.key())
    assert put(begun) == 200
    assert vault.confirm(begun).status == 200
    assert put(begun) == 200
    assert put(begun, b"x" * len(BODY)) == 400
    assert vault.bytes_of(begun) == BODY


def test_a_storage_that_keeps_no_metadata_takes_no_keys(on: Callable[..., Vault]) -> None:
    vault = on(conditions=True, digests=True, metadata=False)
    answer = vault.client("POST", "/keys/create", {"name": "k", "storage_uuid": vault.storage_uuid})
    assert told(answer) == (409, "CannotPresign")
    assert "metadata" in answer.json()["message"]


def test_an_object_encrypted_under_a_key_of_kms_has_no_etag_that_counts(on: Callable[..., Vault], server: ScriptedS3) -> None:
    vault = on(conditions=True, digests=True)
    begun = vault.begin(vault.key())
    assert put(begun) == 200
    kms = {"ETag": f'"{"0" * 32}"', "x-amz-server-side-encryption": "aws:kms"}
    server.say["HEAD"] = lambda asked: Said(200, server.objects[asked.key], server.metadata[asked.key] | kms)
    assert vault.confirm(begun).status == 200
    assert vault.download(begun).status == 200


def test_an_etag_that_is_an_md5_must_be_the_promised_one(on: Callable[..., Vault], server: ScriptedS3) -> None:
    vault = on(conditions=True, digests=True)
    begun = vault.begin(vault.key())
    assert put(begun) == 200
    server._etag = lambda key: {"ETag": f'"{"0" * 32}"'}  # type: ignore[method-assign]
    assert told(vault.confirm(begun)) == (422, "IntegrityFailed")


@pytest.mark.parametrize("etag", ['"0123456789abcdef0123456789abcdef-2"', '"opaque"', '"ABCDEF0123456789ABCDEF0123456789"'])
def test_an_etag_of_another_form_is_passed_over(on: Callable[..., Vault], server: ScriptedS3, etag: str) -> None:
    vault = on(conditions=True, digests=True)
    begun = vault.begin(vault.key())
    assert put(begun) == 200
    server._etag = lambda key: {"ETag": etag}  # type: ignore[method-assign]
    assert vault.confirm(begun).status == 200


def test_a_migration_onto_a_weak_storage_reads_what_it_has_stored(
    on: Callable[..., Vault], server: ScriptedS3, internal: Vault, tenant: Tenant
) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    vault = on(conditions=False, digests=False)
    answer: Any = internal.client("POST", "/keys/migrate", {"key_uuid": key_uuid, "storage_uuid": vault.storage_uuid})
    server.asked.clear()
    run_job(answer.json()["job_id"])
    assert server.asked == ["HEAD", "LIST", "PUT", "HEAD", "GET"]
    assert internal.bytes_of(begun) == BODY


def test_on_r2_the_url_is_signed_for_its_region_and_all_else_is_the_same(on: Callable[..., Vault]) -> None:
    vault = on(ON_R2, conditions=True, digests=True)
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    assert begun["url"].startswith(f"{vault.owner._endpoint}/weak-one/{key_uuid}/{begun['delta_uuid']}?")
    assert "%2Fauto%2Fs3%2Faws4_request" in begun["url"]
    assert begun["safeguards"] == ENFORCED
    assert put(begun) == 200
    assert put(begun) == 412
    assert vault.confirm(begun).status == 200
    assert vault.bytes_of(begun) == BODY
    assert vault.delete(begun).json()["left"] == []
