"""Seed 000 "Connectivity Test", sentence by sentence, on the embedded AWS and on the strict server (FEATURES F4.1 to F4.6)."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.providers.s3 import S3
from tests.client import Answer
from tests.conftest import Call, Tenant
from tests.servers.denying import Denying
from tests.vault.conftest import ADA, Vault, told

TEST_OBJECT = "omegasafe_connection_test.json"


@pytest.fixture(params=["own", "strict"])
def bring(request: pytest.FixtureRequest, tenant: Tenant) -> Callable[..., Answer]:
    """Adds one more storage on the bucket of a first one, on either server, whose credentials are known; others may be given."""
    vault: Vault = request.getfixturevalue(request.param)
    owner = vault.owner

    def add(**changes: Any) -> Answer:
        fields = {
            "name": f"s-{uuid.uuid4().hex[:8]}",
            "provider": "s3",
            "bucket_name": owner.bucket,
            "region": "us-east-1",
            "access_key_id": owner._access_key,
            "secret_access_key": owner._secret_key,
            "remote_path": "team/prod",
        }
        return vault.client("POST", "/storages/create", fields | changes)

    add.vault = vault  # type: ignore[attr-defined]
    return add


def names_of(vault: Vault) -> set[str]:
    return {row["name"] for row in vault.client("GET", "/storages/list").json()}


def asked(calls: list[Call]) -> list[str]:
    return [call.operation for call in calls if call.service == "s3"]


def test_it_runs_before_a_new_configuration_is_saved_and_one_that_fails_is_not(bring: Any) -> None:
    before = names_of(bring.vault)
    failing = {"BucketNotFound": {"bucket_name": "no-such-bucket-of-anybody"}}
    if bring.vault.endpoint_is_strict:  # the embedded AWS looks at the signatures of URLs alone
        failing["WrongSignature"] = {"secret_access_key": "w" * 40}
        failing["InvalidCredentials"] = {"access_key_id": "W" * 20}
    for cause, changes in failing.items():
        answer = bring(**changes)
        assert told(answer) == (422, "ProbeFailed")
        assert (answer.json()["details"]["step"], answer.json()["details"]["cause"]) == ("LIST", cause)
        assert names_of(bring.vault) == before


def test_when_one_is_edited_it_runs_again_only_if_connection_details_were_changed(bring: Any, calls: list[Call]) -> None:
    made = bring().json()
    for changes, runs in (({"name": "renamed"}, False), ({"remote_path": "elsewhere"}, True), ({"remote_path": "elsewhere"}, False)):
        calls.clear()
        assert bring.vault.client("PATCH", "/storages/edit", {"storage_uuid": made["storage_uuid"], **changes}).status == 200
        assert bool(asked(calls)) == runs, changes


@pytest.mark.parametrize(
    ("remote_path", "expected"),
    [(None, TEST_OBJECT), ("", TEST_OBJECT), ("team/prod", f"team/prod/{TEST_OBJECT}"), ("team//prod/", f"team/prod/{TEST_OBJECT}")],
)
def test_it_uses_one_object_of_a_fixed_name_at_the_root_or_under_the_remote_path(
    bring: Any, monkeypatch: pytest.MonkeyPatch, remote_path: str | None, expected: str
) -> None:
    with monkeypatch.context() as context:
        context.setattr(S3, "delete", lambda *_: {})  # so that it can be looked at
        answer = bring(remote_path=remote_path)
        assert answer.status == 201, answer.body
    lies = [listed.key for listed in bring.vault.owner.list("") if listed.key.endswith(TEST_OBJECT)]
    assert lies == [expected]


def test_it_is_a_json_document_with_three_fields(bring: Any, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tenant.user(sub=ADA, permissions=["org.storage.create", "org.storage.list"])
    monkeypatch.setattr(S3, "delete", lambda *_: {})
    bring.vault.client = client
    made = bring().json()
    key = f"team/prod/{TEST_OBJECT}"
    stat = bring.vault.owner.stat(key)
    assert stat is not None
    document = json.loads(bring.vault.owner.read(key, 0, stat.size))
    assert document.keys() == {"storage_uuid", "user_uuid", "timestamp"}
    assert (document["storage_uuid"], document["user_uuid"]) == (made["storage_uuid"], ADA)


def test_it_is_no_delta_and_no_part_of_a_key_s_data(bring: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3, "delete", lambda *_: {})
    storage_uuid = bring().json()["storage_uuid"]
    key_uuid = bring.vault.client("POST", "/keys/create", {"name": "k", "storage_uuid": storage_uuid}).json()["key_uuid"]
    assert bring.vault.listed(key_uuid) == []
    layout = bring.vault.client("GET", f"/keys/check-layout?key_uuid={key_uuid}").json()
    assert (layout["checked_count"], layout["missing"], layout["differing"]) == (0, [], [])


def test_it_lists_puts_gets_and_at_last_deletes(bring: Any, calls: list[Call]) -> None:
    calls.clear()
    assert bring().status == 201
    made = asked(calls)
    assert made[:3] == ["ListObjectsV2", "PutObject", "GetObject"]
    assert made[-1] in ("DeleteObjects", "DeleteObject")
    assert not {"HeadBucket", "ListBuckets"} & set(made)


def test_bytes_that_come_back_as_others_fail_it(bring: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SHA-256 of what was downloaded is compared with that of what was uploaded."""
    read = S3.read
    monkeypatch.setattr(S3, "read", lambda *asked: read(*asked)[::-1])
    answer = bring()
    assert told(answer) == (422, "ProbeFailed")
    assert answer.json()["details"]["step"] == "GET"


def test_if_delete_fails_the_configuration_is_saved_and_a_warning_names_what_is_left(
    no_delete: tuple[Vault, Denying], tenant: Tenant
) -> None:
    vault, server = no_delete
    assert server.denied, "it was attempted"
    (listed,) = vault.client("GET", "/storages/list").json()
    edited = vault.client("PATCH", "/storages/edit", {"storage_uuid": listed["storage_uuid"], "remote_path": "a/b"}).json()
    assert f"a/b/{TEST_OBJECT}" in edited["warning"]
    assert vault.owner.stat(f"a/b/{TEST_OBJECT}") is not None


def test_what_an_earlier_test_has_left_is_overwritten(no_delete: tuple[Vault, Denying]) -> None:
    vault, _ = no_delete
    (listed,) = vault.client("GET", "/storages/list").json()
    key = f"omega-safe/deltas/{TEST_OBJECT}"
    vault.owner._call("PutObject", Key=key, Body=b"of an earlier test")
    for path in ("elsewhere", "omega-safe/deltas"):
        edit = {"storage_uuid": listed["storage_uuid"], "remote_path": path}
        assert vault.client("PATCH", "/storages/edit", edit).status == 200
    stat = vault.owner.stat(key)
    assert stat is not None
    assert json.loads(vault.owner.read(key, 0, stat.size))["storage_uuid"] == listed["storage_uuid"]
