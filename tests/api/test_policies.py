"""Policies over HTTP: who may do what in a bucket, what lists show, and why (CONTRACT "Denials", "Policy language", FEATURES F9)."""

import base64
import hashlib
import json
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib import aws, seam
from chalicelib.access import permissions
from chalicelib.access.cache import forget_everything
from chalicelib.access.policy import compile_policy, functions
from chalicelib.core import copies, objects, policies
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.policies import StoredPolicy
from chalicelib.tables.table import write_all
from tests.api.test_listing import Reads, bounded, model, page, pages
from tests.client import Answer, Client
from tests.conftest import Call, Clock, Tenant, run_job

ADA, BOB = "6f1c9a52-7d0e-4b6a-9c3f-0a1b2c3d4e5f", "0b6e4c1d-2a3f-4e5d-8c7b-6a5948372615"
POLICY = {"id", "bucket", "name", "operation", "definition", "created_at"}
OWN = "auth_uid()::uuid = owner_id"
BODY = b"hello"
BATCH_GET, QUERY, GET_OBJECT = Call("dynamodb", "BatchGetItem"), Call("dynamodb", "Query"), Call("s3", "GetObject")


@dataclass(frozen=True)
class World:
    """A tenant with a private bucket `b`, and its users Ada and Bob."""

    tenant: Tenant
    service: Client
    ada: Client
    bob: Client

    def allow(self, operation: str, definition: str = "true", bucket: str = "b") -> str:
        answer = create(self.service, operation, definition, bucket)
        assert answer.status == 201, answer.body
        return str(answer.json()["id"])

    def partition(self, bucket: str = "b") -> str:
        row: Any = Bucket.read(self.tenant.tenant_id, bucket)
        return str(row.partition)

    def info(self, name: str, bucket: str = "b") -> dict[str, Any]:
        shown: dict[str, Any] = self.service("GET", f"/storage/object-info/{bucket}/{name}").json()
        return shown

    def fill(self, bucket: str, columns: list[dict[str, Any]]) -> None:
        """Rows without bytes: a listing looks at nothing else."""
        now, partition = seam.iso(seam.now()), self.partition(bucket)
        rows = [
            StoredObject(
                partition,
                each["name"],
                id=seam.new_uuid(),
                version=seam.new_version(),
                revision=1,
                bucket=bucket,
                physical_key="objects/none",
                size=each.get("size", 1),
                content_type=each.get("content_type", "text/plain"),
                user_metadata=each.get("user_metadata"),
                created_at=now,
                updated_at=now,
                tokens_not_before=now,
            ).owned_by(each.get("owner_id"))
            for each in columns
        ]
        write_all([(StoredObject, {"PutRequest": {"Item": row.serialize()}}) for row in rows])


def create(client: Client, operation: str = "SELECT", definition: str = "true", bucket: str = "b", name: str = "a policy") -> Answer:
    return client("POST", "/storage/policies", {"bucket": bucket, "name": name, "operation": operation, "definition": definition})


def listed(client: Client, bucket: str = "b") -> list[dict[str, Any]]:
    answer = client("GET", f"/storage/policies/bucket/{bucket}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()
    return found


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code if answer.status >= 400 else ""


@pytest.fixture
def world(tenant: Tenant) -> World:
    tenant.service.bucket("b")
    return World(tenant, tenant.service, tenant.user(sub=ADA, email="ada@example.com"), tenant.user(sub=BOB))


@pytest.fixture
def stored(world: World) -> World:
    """The world with an object `a` of nobody's in bucket `b`."""
    assert world.service.put("b", "a", BODY, "text/plain").status == 201
    return world


@pytest.fixture
def nobody(world: World, choose: Callable[[str, str], None]) -> Client:
    """Requests without a credential, which are the tenant's."""
    choose("STOWAGE_DEFAULT_TENANT", world.tenant.tenant_id)
    return world.tenant.nobody


# ---- managing ------------------------------------------------------------------------------------------
def test_a_policy_is_created_listed_and_deleted(world: World) -> None:
    made = create(world.service, "INSERT", "auth_uid() IS NOT NULL", name="Ünï 1")
    assert (made.status, made.json().keys()) == (201, POLICY)
    policy = made.json()
    assert [policy[field] for field in ("bucket", "name", "operation", "definition")] == ["b", "Ünï 1", "INSERT", "auth_uid() IS NOT NULL"]
    second = create(world.service).json()
    assert listed(world.service) == [policy, second]
    assert world.service("DELETE", f"/storage/policies/{policy['id']}").json() == {}
    assert listed(world.service) == [second]
    assert told(world.service("DELETE", f"/storage/policies/{policy['id']}")) == (404, "PolicyNotFound")


def test_only_the_service_key_manages_policies(world: World) -> None:
    policy_id = world.allow("SELECT", "false")
    explain = {"bucket": "b", "operation": "SELECT", "path": "a", "claims": None}
    for client, status in (
        (world.ada, 403),
        (world.tenant.anon, 403),
        (world.tenant.user(role="service"), 403),
        (world.tenant.nobody, 401),
    ):
        assert create(client).status == status
        assert client("GET", "/storage/policies/bucket/b").status == status
        assert client("DELETE", f"/storage/policies/{policy_id}").status == status
        assert client("POST", "/storage/policies/explain", explain).status == status
    assert [policy["id"] for policy in listed(world.service)] == [policy_id]


@pytest.mark.parametrize(
    ("definition", "position"),
    [
        ("size >", 6),
        ("true)", 4),
        ("no_column = 1", 0),
        ("true AND no_function()", 9),
        ("name = 5", 0),
        ("true AND size", 9),
        ("EXISTS (SELECT 1)", 8),
        ("id IN (SELECT id)", 7),
        ("name ~ 'a'", 5),
        ("ünï = 1", 0),
        ("'日本' = name AND x", 16),
        ("1/0 = 1", 0),
        (" ", 1),
        ("true;", 4),
        ("(" * 70 + "true" + ")" * 70, 64),
        ("true AND " * 454 + "'x'", 4086),
    ],
)
def test_a_definition_that_is_refused_says_where(world: World, definition: str, position: int) -> None:
    answer = create(world.service, definition=definition)
    assert (answer.status, answer.code) == (400, "InvalidPolicy")
    shown = answer.json()
    assert shown["details"] == {"position": position}
    assert f"(at character {position + 1})" in shown["message"]
    assert listed(world.service) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"operation": "select"},
        {"operation": "ALL"},
        {"operation": None},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"definition": ""},
        {"definition": 5},
        {"definition": "x" * 4097},
        {"definition": "'" + "ä" * 2048 + "' = name"},
        {"bucket": ""},
        {"bucket": None},
    ],
)
def test_a_request_that_is_malformed_is_refused(world: World, changes: dict[str, Any]) -> None:
    body = {"bucket": "b", "name": "n", "operation": "SELECT", "definition": "true"} | changes
    assert world.service("POST", "/storage/policies", body).status == 400
    assert listed(world.service) == []


def test_an_unknown_bucket_is_not_found(world: World) -> None:
    for answer in (create(world.service, bucket="absent"), world.service("GET", "/storage/policies/bucket/absent")):
        assert told(answer) == (404, "BucketNotFound")


def test_a_bucket_has_at_most_a_hundred_policies(world: World) -> None:
    for _ in range(policies.MAX_POLICIES):
        world.allow("DELETE", "false")
    answer = create(world.service)
    assert told(answer) == (400, "InvalidRequest")
    assert "100" in answer.json()["message"]
    assert len(listed(world.service)) == 100


def test_another_tenants_policy_is_not_found(world: World, new_tenant: Any) -> None:
    policy_id = world.allow("SELECT")
    stranger: Tenant = new_tenant()
    stranger.service.bucket("b")
    unknown = f"{seam.new_uuid()}.{seam.new_version()}"
    answers = [stranger.service("DELETE", f"/storage/policies/{each}") for each in (policy_id, unknown)]
    texts = [
        answer.body.decode().replace(each, "ID").replace(answer.headers["x-request-id"], "R")
        for answer, each in zip(answers, (policy_id, unknown), strict=True)
    ]
    assert [told(answer) for answer in answers] == [(404, "PolicyNotFound")] * 2
    assert texts[0] == texts[1]
    assert listed(stranger.service) == []
    assert len(listed(world.service)) == 1


@pytest.mark.parametrize(
    "policy_id", ["x", "x.y", ".", "a" * 3000, "%00", "00000000-0000-4000-8000-00000000abcd", "00000000-0000-4000-8000-00000000abcd."]
)
def test_what_is_no_policy_id_is_not_found(world: World, policy_id: str) -> None:
    assert world.service("DELETE", f"/storage/policies/{policy_id}").status in (400, 404)


def test_the_seeds_policies_mean_what_the_seed_says(world: World) -> None:
    world.service.bucket("avatars")
    world.service.bucket("documents")
    world.allow("INSERT", "auth_uid() IS NOT NULL", "avatars")
    world.allow("DELETE", "auth_uid()::uuid = owner_id", "avatars")
    world.allow("INSERT", "auth_uid() IS NOT NULL", "documents")
    world.allow("SELECT", "auth_uid()::uuid = owner_id", "documents")
    assert world.tenant.anon.put("avatars", "a", BODY).status == 403
    assert world.ada.put("avatars", "a", BODY).status == 201
    assert world.ada.put("documents", "a", BODY).status == 201
    assert world.bob.delete("avatars", "a").status == 404
    assert world.ada.delete("avatars", "a").status == 200
    assert world.bob.get("documents", "a").status == 404
    assert world.ada.get("documents", "a").body == BODY
    assert world.ada.names("documents") == ["a"]
    assert world.bob.names("documents") == []


# ---- SELECT --------------------------------------------------------------------------------------------
READS: dict[str, Callable[[Client], Answer]] = {
    "download": lambda client: client.get("b", "a"),
    "head": lambda client: client("HEAD", "/storage/object/b/a"),
    "info": lambda client: client("GET", "/storage/object-info/b/a"),
    "sign": lambda client: client("POST", "/storage/signed-url", {"bucket": "b", "path": "a"}),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_who_may_select_may_read(stored: World, read: Callable[[Client], Answer]) -> None:
    stored.allow("SELECT", f"auth_uid() = '{ADA}' AND name = 'a'")
    assert read(stored.ada).status == 200
    for client in (stored.bob, stored.tenant.anon):
        assert read(client).status == 404
    assert stored.ada.names("b") == ["a"]
    assert stored.bob.names("b") == []


def test_each_path_of_a_batch_is_signed_or_not_by_itself(stored: World) -> None:
    stored.service.put("b", "secret", BODY)
    stored.allow("SELECT", "name <> 'secret'")
    answer = stored.ada("POST", "/storage/signed-urls", {"bucket": "b", "paths": ["secret", "a", "absent"]})
    assert [(row["path"], row["error"] and row["error"]["code"]) for row in answer.json()] == [
        ("secret", "ObjectNotFound"),
        ("a", None),
        ("absent", "ObjectNotFound"),
    ]


def test_a_hidden_object_is_told_of_like_one_that_is_not_there(stored: World) -> None:
    stored.allow("SELECT", "false")
    hidden, absent = (
        stored.ada("GET", f"/storage/object/b/{name}").body.decode().replace(f"object {name} in", "object N in") for name in ("a", "x")
    )
    assert json.loads(hidden) | {"request_id": ""} == json.loads(absent) | {"request_id": ""}


@pytest.mark.parametrize("operation", ["INSERT", "UPDATE", "DELETE"])
def test_a_policy_for_another_operation_permits_no_read(stored: World, operation: str) -> None:
    stored.allow(operation)
    assert [read(stored.ada).status for read in READS.values()] == [404] * len(READS)
    assert stored.ada.names("b") == []


@pytest.mark.parametrize(
    "definition", ["NULL", "owner_id = auth_uid()::uuid", "1 / (size - 5) = 1", "name::int = 5", "NOT (checksum = NULL)", "false"]
)
def test_null_false_and_errors_deny(stored: World, definition: str) -> None:
    stored.allow("SELECT", definition)
    assert stored.ada.get("b", "a").status == 404
    assert stored.ada.names("b") == []


def test_one_policy_that_holds_is_enough(stored: World) -> None:
    for definition in ("false", "name::int = 5", "NULL"):
        stored.allow("SELECT", definition)
    assert stored.ada.get("b", "a").status == 404
    stored.allow("SELECT", "true")
    assert stored.ada.get("b", "a").status == 200


def test_a_public_bucket_asks_no_policy_for_reading(stored: World) -> None:
    stored.service("PUT", "/storage/buckets/b", {"public": True})
    stored.allow("SELECT", "false")
    assert [read(stored.tenant.anon).status for read in READS.values()] == [200] * len(READS)
    assert stored.tenant.anon.names("b") == ["a"]
    assert stored.tenant.anon.put("b", "new", BODY).status == 403


def test_no_policy_opens_a_private_bucket_to_public_urls(stored: World) -> None:
    stored.allow("SELECT", "true")
    for client in (stored.tenant.nobody, stored.ada, stored.service):
        for method in ("GET", "HEAD"):
            assert client(method, f"/storage/public/{stored.tenant.tenant_id}/b/a").status == 404


def test_the_service_key_asks_no_policy(stored: World) -> None:
    for operation in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        stored.allow(operation, "false")
    service = stored.service
    assert [read(service).status for read in READS.values()] == [200] * len(READS)
    assert service.names("b") == ["a"]
    assert service.put("b", "new", BODY).status == 201
    assert service.put("b", "a", BODY).status == 200
    assert service("PATCH", "/storage/object-info/b/a", {"user_metadata": {}}).status == 200
    assert service.delete("b", "a").status == 200


# ---- who asks ------------------------------------------------------------------------------------------
def test_nobody_is_anon_to_policies(stored: World, nobody: Client) -> None:
    assert nobody.get("b", "a").status == 401
    policy_id = stored.allow("SELECT", "auth_role() = 'anon' AND auth_uid() IS NULL AND auth_email() IS NULL")
    assert nobody.get("b", "a").body == BODY
    assert nobody.names("b") == ["a"]
    assert stored.tenant.anon.get("b", "a").status == 200
    assert stored.ada.get("b", "a").status == 404
    stored.service("DELETE", f"/storage/policies/{policy_id}")
    stored.allow("SELECT", "auth_role() <> 'anon'")
    assert nobody.get("b", "a").status == 401
    assert nobody.get("b", "absent").status == 401
    assert stored.tenant.anon.get("b", "a").status == 404


@pytest.mark.parametrize(
    ("claims", "role"),
    [({}, "authenticated"), ({"role": "editor"}, "editor"), ({"role": "service"}, "authenticated"), ({"role": ""}, "authenticated")],
)
def test_the_role_is_the_tokens_but_never_service(stored: World, claims: dict[str, Any], role: str) -> None:
    stored.allow("SELECT", f"auth_role() = '{role}'")
    assert stored.tenant.user(sub=ADA, **claims).get("b", "a").status == 200
    assert stored.tenant.anon.get("b", "a").status == 404


def test_the_email_is_the_tokens(stored: World) -> None:
    stored.allow("SELECT", "auth_email() LIKE '%@example.com'")
    assert stored.ada.get("b", "a").status == 200
    assert stored.tenant.user(sub=ADA, email="ada@example.org").get("b", "a").status == 404
    assert stored.bob.get("b", "a").status == 404


@pytest.mark.parametrize(
    "subject",
    [
        "someone",
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "ünï",
        "6f1c9a52-7d0e-4b6a-9c3f",
        f"{{{ADA}}}",
        f"urn:uuid:{ADA}",
        f" {ADA}",
        f"{ADA}\n",
        ADA.replace("-", ""),
        ADA.replace("-", "", 1),
        f"+{ADA[1:]}",
        f"0x{ADA[2:]}",
        ADA.replace("9", "_"),
        ADA.replace("9", "\u0669"),
        ADA.replace("9", "\uff19"),
    ],
)
def test_a_subject_that_is_no_uuid_has_one_of_its_own_in_its_tenant(world: World, subject: str) -> None:
    uid = str(uuid.uuid5(uuid.UUID(world.tenant.tenant_id), subject))
    world.allow("INSERT", f"auth_uid() = '{uid}'")
    world.allow("SELECT", OWN)
    user = world.tenant.user(sub=subject)
    assert user.put("b", "a", BODY).status == 201
    assert world.info("a")["owner_id"] == uid
    assert user.get("b", "a").status == 200
    assert world.ada.get("b", "a").status == 404


def test_a_uuid_is_one_however_it_is_written(world: World) -> None:
    world.allow("INSERT", "auth_uid() IS NOT NULL")
    world.allow("SELECT", OWN)
    assert world.tenant.user(sub=ADA.upper()).put("b", "a", BODY).status == 201
    assert world.info("a")["owner_id"] == ADA
    assert world.ada.get("b", "a").status == 200
    assert world.ada.names("b") == ["a"]


# ---- INSERT and UPDATE ---------------------------------------------------------------------------------
CHECKSUM = hashlib.sha256(BODY).hexdigest()
PROSPECTS = [
    f"owner_id = '{ADA}'",
    "owner_id = auth_uid()::uuid",
    "size = 5",
    "content_type = 'text/plain'",
    f"checksum = '{CHECKSUM}'",
    "user_metadata ->> 'k' = '1'",
    "name = 'folder/new'",
    "bucket_id = 'b'",
    "created_at = updated_at AND created_at > now() - interval '1 minute' AND id IS NOT NULL",
]


@pytest.mark.parametrize("definition", PROSPECTS)
def test_an_upload_is_judged_by_the_row_that_would_be(world: World, definition: str) -> None:
    def upload(client: Client) -> Answer:
        return client.put("b", "folder/new", BODY, "text/plain", x_metadata=base64.b64encode(b'{"k": 1}').decode())

    refused = world.allow("INSERT", f"NOT coalesce({definition}, false)")
    assert told(upload(world.ada)) == (403, "Forbidden")
    assert world.service.names("b") == []
    world.service("DELETE", f"/storage/policies/{refused}")
    world.allow("INSERT", definition)
    assert upload(world.ada).status == 201
    assert world.info("folder/new")["owner_id"] == ADA


def test_who_has_no_uid_owns_nothing(world: World, nobody: Client) -> None:
    world.allow("INSERT", "owner_id IS NULL AND auth_role() = 'anon'")
    assert world.tenant.anon.put("b", "a", BODY).status == 201
    assert nobody.put("b", "c", BODY).status == 201
    assert (world.info("a")["owner_id"], world.info("c")["owner_id"]) == (None, None)
    assert world.ada.put("b", "d", BODY).status == 403


def test_an_overwrite_is_an_update_of_the_row_that_is_there(stored: World) -> None:
    stored.allow("INSERT", "true")
    assert told(stored.ada.put("b", "a", b"other")) == (403, "Forbidden")
    assert stored.service.get("b", "a").body == BODY
    stored.allow("UPDATE", "content_type = 'text/plain' AND size = 5")
    assert stored.ada.put("b", "a", b"another", "text/csv").status == 200
    assert stored.ada.put("b", "a", b"third", "text/plain").status == 403
    assert stored.service.get("b", "a").body == b"another"
    assert stored.info("a")["owner_id"] is None


def test_update_alone_does_not_insert(stored: World) -> None:
    stored.allow("UPDATE", "true")
    assert stored.ada.put("b", "a", BODY).status == 200
    assert stored.ada.put("b", "new", BODY).status == 403


def test_an_upload_is_refused_alike_whether_something_is_there_or_not(stored: World) -> None:
    stored.allow("SELECT", "false")
    answers = [stored.ada.put("b", name, BODY, x_upsert=upsert) for name in ("a", "absent") for upsert in ("true", "false")]
    shown = [(answer.status, answer.json() | {"request_id": ""}) for answer in answers]
    assert [each for each in shown if each != shown[0]] == []
    assert shown[0][0] == 403


def test_an_overwrite_of_what_is_deleted_meanwhile_is_the_uploaders_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.allow("INSERT", OWN)
    world.allow("UPDATE", "true")
    assert world.ada.put("b", "a", BODY).status == 201
    before, write = world.info("a"), objects._put

    def once_it_is_deleted(*arguments: Any) -> None:
        monkeypatch.undo()
        world.service.delete("b", "a")
        write(*arguments)

    monkeypatch.setattr(objects, "_put", once_it_is_deleted)
    assert world.bob.put("b", "a", BODY).status == 201
    after = world.info("a")
    assert after["owner_id"] == BOB
    assert after["id"] != before["id"]
    assert world.service.get("b", "a").body == BODY


def test_a_change_of_metadata_is_an_update(stored: World) -> None:
    def change(client: Client) -> Answer:
        return client("PATCH", "/storage/object-info/b/a", {"user_metadata": {"k": 1}})

    assert change(stored.ada).status == 404
    stored.allow("SELECT", "true")
    assert told(change(stored.ada)) == (403, "Forbidden")
    stored.allow("UPDATE", "user_metadata IS NULL")
    assert change(stored.ada).status == 200
    assert change(stored.ada).status == 403
    assert stored.info("a")["user_metadata"] == {"k": 1}


def test_a_change_which_shows_the_row_needs_select_beside_update(stored: World) -> None:
    stored.service("PATCH", "/storage/object-info/b/a", {"user_metadata": {"ssn": "123"}})
    before = stored.info("a")
    stored.allow("UPDATE", "true")
    hidden = stored.ada("PATCH", "/storage/object-info/b/a", {"content_type": "text/csv"})
    assert told(hidden) == (404, "ObjectNotFound")
    assert b"123" not in hidden.body
    assert stored.info("a") == before
    stored.allow("SELECT", "true")
    assert stored.ada("PATCH", "/storage/object-info/b/a", {"content_type": "text/csv"}).json()["content_type"] == "text/csv"


# ---- DELETE --------------------------------------------------------------------------------------------
def test_a_deletion_is_404_when_hidden_403_when_visible_and_done_when_permitted(stored: World) -> None:
    assert told(stored.ada.delete("b", "a")) == (404, "ObjectNotFound")
    stored.allow("SELECT", "true")
    assert told(stored.ada.delete("b", "a")) == (403, "Forbidden")
    stored.allow("DELETE", "size = 5 AND auth_email() = 'ada@example.com'")
    assert told(stored.bob.delete("b", "a")) == (403, "Forbidden")
    assert stored.ada.delete("b", "a").status == 200
    assert stored.service.names("b") == []


def test_of_many_deletions_each_is_judged_by_itself(world: World) -> None:
    for name in ("mine", "seen", "hidden"):
        world.service.put("b", name, BODY)
    world.allow("SELECT", "name <> 'hidden'")
    world.allow("DELETE", "name = 'mine'")
    answer = world.ada("DELETE", "/storage/objects/b", {"paths": ["hidden", "mine", "seen", "absent", "mine", "a\\b"]})
    assert [row["error"] and row["error"]["code"] for row in answer.json()] == [
        "ObjectNotFound",
        None,
        "Forbidden",
        "ObjectNotFound",
        "ObjectNotFound",
        "InvalidName",
    ]
    assert world.service.names("b") == ["hidden", "seen"]


def test_nobody_is_asked_for_a_credential_for_what_a_policy_denies(stored: World, nobody: Client) -> None:
    for operation in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        stored.allow(operation, "auth_role() = 'editor'")
    relocation = {"bucket": "b", "from": "a", "to": "t"}
    for answer in (
        nobody.get("b", "a"),
        nobody.put("b", "a", BODY),
        nobody.put("b", "new", BODY),
        nobody.delete("b", "a"),
        nobody("PATCH", "/storage/object-info/b/a", {"user_metadata": {}}),
        nobody("POST", "/storage/object/copy", relocation),
        nobody("POST", "/storage/object/move", relocation),
        nobody("POST", "/storage/signed-url", {"bucket": "b", "path": "a"}),
        nobody("POST", "/storage/signed-upload-url", {"bucket": "b", "path": "n"}),
        nobody("POST", "/storage/signed-url/revoke", {"bucket": "b", "path": "a"}),
    ):
        assert told(answer) == (401, "Unauthorized")
    assert stored.service.get("b", "a").body == BODY


def test_nobody_does_not_learn_whether_a_bucket_has_policies_or_is_there(stored: World, nobody: Client) -> None:
    stored.service.bucket("without")
    for operation in ("SELECT", "DELETE"):
        stored.allow(operation, "auth_role() = 'editor'")
    for bucket in ("b", "without", "absent"):
        for answer in (
            nobody("GET", f"/storage/objects/{bucket}"),
            nobody("DELETE", f"/storage/objects/{bucket}", {"paths": ["a", "n"]}),
            nobody("POST", "/storage/signed-urls", {"bucket": bucket, "paths": ["a", "n"]}),
        ):
            assert told(answer) == (401, "Unauthorized")
    assert stored.service.get("b", "a").body == BODY


# ---- moves and copies ----------------------------------------------------------------------------------
def relocate(client: Client, kind: str, to_bucket: str | None = None, source: str = "a", target: str = "t", **headers: str) -> Answer:
    body = {"bucket": "b", "from": source, "to": target} | ({"to_bucket": to_bucket} if to_bucket else {})
    return client("POST", f"/storage/object/{kind}", body, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("to_bucket", ["b", "to"])
def test_a_move_needs_delete_and_select_at_its_source_and_insert_at_its_target(stored: World, to_bucket: str) -> None:
    if to_bucket != "b":
        stored.service.bucket(to_bucket)
    assert relocate(stored.ada, "move", to_bucket).status == 404
    stored.allow("SELECT", "name = 'a'")
    assert told(relocate(stored.ada, "move", to_bucket)) == (403, "Forbidden")
    stored.allow("DELETE", "name = 'a'")
    assert told(relocate(stored.ada, "move", to_bucket)) == (403, "Forbidden")
    stored.allow("INSERT", f"name = 't' AND size = 5 AND bucket_id = '{to_bucket}' AND content_type = 'text/plain'", to_bucket)
    assert relocate(stored.ada, "move", to_bucket, target="u").status == 403
    assert stored.service.names("b") == ["a"]
    assert relocate(stored.ada, "move", to_bucket).status == 200
    assert stored.service.names("b") == (["t"] if to_bucket == "b" else [])
    assert stored.info("t", to_bucket)["owner_id"] is None


def test_a_move_needs_select_though_delete_is_permitted(stored: World) -> None:
    stored.allow("DELETE", "true")
    stored.allow("INSERT", "true")
    assert relocate(stored.ada, "move").status == 404
    assert stored.service.names("b") == ["a"]


@pytest.mark.parametrize("to_bucket", ["b", "to"])
def test_a_copy_onto_something_needs_update_and_not_insert_and_keeps_its_owner(stored: World, to_bucket: str) -> None:
    if to_bucket != "b":
        stored.service.bucket(to_bucket)
    stored.allow("SELECT", "true")
    insert = stored.allow("INSERT", "true", to_bucket)
    assert stored.bob.put(to_bucket, "t", b"kept", "text/csv").status == 201
    assert told(relocate(stored.ada, "copy", to_bucket, x_upsert="true")) == (403, "Forbidden")
    assert stored.service.get(to_bucket, "t").body == b"kept"
    stored.service("DELETE", f"/storage/policies/{insert}")
    stored.allow("UPDATE", "content_type = 'text/csv'", to_bucket)
    assert told(relocate(stored.ada, "copy", to_bucket)) == (409, "ObjectExists")
    assert relocate(stored.ada, "copy", to_bucket, x_upsert="true").status == 200
    assert stored.service.get(to_bucket, "t").body == BODY
    assert stored.info("t", to_bucket)["owner_id"] == BOB


@pytest.mark.parametrize("missing", ["INSERT", "UPDATE", "DELETE"])
@pytest.mark.parametrize("to_bucket", ["b", "to"])
def test_a_move_onto_another_object_needs_update_and_delete_of_it_and_insert(stored: World, to_bucket: str, missing: str) -> None:
    if to_bucket != "b":
        stored.service.bucket(to_bucket)
    stored.service.put(to_bucket, "t", b"kept", "text/csv")
    for operation in ("SELECT", "DELETE"):
        stored.allow(operation, "name = 'a'")
    there = "name = 't' AND content_type = 'text/csv' AND size = 4"
    needed = {"INSERT": "name = 't' AND content_type = 'text/plain' AND size = 5", "UPDATE": there, "DELETE": there}
    for operation in needed.keys() - {missing}:
        stored.allow(operation, needed[operation], to_bucket)
    before = stored.info("t", to_bucket)
    assert told(relocate(stored.ada, "move", to_bucket, x_upsert="true")) == (403, "Forbidden")
    assert stored.info("t", to_bucket) == before
    assert stored.service.get("b", "a").body == BODY
    stored.allow(missing, needed[missing], to_bucket)
    assert told(relocate(stored.ada, "move", to_bucket)) == (409, "ObjectExists")
    assert relocate(stored.ada, "move", to_bucket, x_upsert="true").status == 200
    assert stored.service.get(to_bucket, "t").body == BODY


@pytest.mark.parametrize("to_bucket", ["b", "to"])
def test_a_move_takes_no_ownership_of_what_may_be_overwritten(world: World, to_bucket: str) -> None:
    if to_bucket != "b":
        world.service.bucket(to_bucket)
    for bucket in {"b", to_bucket}:
        world.allow("SELECT", "true", bucket)
        world.allow("UPDATE", "true", bucket)
        world.allow("INSERT", "auth_uid() IS NOT NULL", bucket)
        world.allow("DELETE", OWN, bucket)
    assert world.ada.put("b", "a", BODY).status == 201
    assert world.bob.put(to_bucket, "t", b"bob's").status == 201
    before = world.info("t", to_bucket)
    assert told(relocate(world.ada, "move", to_bucket, x_upsert="true")) == (403, "Forbidden")
    assert world.info("t", to_bucket) == before
    assert world.ada.delete(to_bucket, "t").status == 403


@pytest.mark.parametrize("to_bucket", ["b", "to"])
def test_a_copy_needs_select_and_insert_and_is_its_makers(stored: World, to_bucket: str) -> None:
    if to_bucket != "b":
        stored.service.bucket(to_bucket)
    stored.allow("INSERT", "owner_id = auth_uid()::uuid AND name = 't'", to_bucket)
    assert relocate(stored.ada, "copy", to_bucket).status == 404
    stored.allow("SELECT", "true")
    assert told(relocate(stored.ada, "copy", to_bucket, target="u")) == (403, "Forbidden")
    assert relocate(stored.ada, "copy", to_bucket).status == 200
    assert stored.info("t", to_bucket)["owner_id"] == ADA
    assert stored.info("a")["owner_id"] is None


@pytest.mark.parametrize("kind", ["move", "copy"])
def test_a_large_one_is_asked_again_when_it_lands(stored: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(copies, "LARGE", 4)
    stored.service.bucket("to")
    for operation in ("SELECT", "DELETE"):
        stored.allow(operation)
    insert = stored.allow("INSERT", f"auth_uid() = '{ADA}'", "to")
    job_ids = [relocate(stored.ada, kind, "to", target=target).json()["job_id"] for target in ("t", "u")]
    if kind == "copy":
        run_job(job_ids[0])
    stored.service("DELETE", f"/storage/policies/{insert}")
    run_job(job_ids[1])
    job = stored.service("GET", f"/jobs/{job_ids[1]}").json()
    assert job["status"] == "failed"
    assert "INSERT" in job["error"]
    assert stored.service.names("to") == (["t"] if kind == "copy" else [])
    assert stored.service.get("b", "a").body == BODY


@pytest.mark.parametrize("kind", ["move", "copy"])
def test_a_large_one_lands_under_the_rights_of_who_asked(stored: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(copies, "LARGE", 4)
    stored.service.bucket("to")
    for operation in ("SELECT", "DELETE"):
        stored.allow(operation)
    stored.allow("INSERT", f"auth_uid() = '{ADA}' AND auth_email() = 'ada@example.com' AND auth_role() = 'authenticated'", "to")
    run_job(relocate(stored.ada, kind, "to").json()["job_id"])
    assert stored.info("t", "to")["owner_id"] == (ADA if kind == "copy" else None)


@pytest.mark.parametrize("by_job", [True, False])
@pytest.mark.parametrize("lost", ["SELECT", "DELETE"])
def test_a_move_across_buckets_asks_of_its_source_again_when_it_lands(
    stored: World, monkeypatch: pytest.MonkeyPatch, by_job: bool, lost: str
) -> None:
    stored.service.bucket("to")
    for operation in ("SELECT", "DELETE"):
        stored.allow(operation, "user_metadata ->> 'hold' IS NULL" if operation == lost else "true")
    stored.allow("INSERT", "true", "to")
    copy_bytes = copies._copy_bytes

    def hold() -> None:
        assert stored.service("PATCH", "/storage/object-info/b/a", {"user_metadata": {"hold": "legal"}}).status == 200

    def held_meanwhile(*arguments: Any) -> None:
        copy_bytes(*arguments)
        hold()

    if by_job:
        monkeypatch.setattr(copies, "LARGE", 4)
        job_id = relocate(stored.ada, "move", "to").json()["job_id"]
        hold()
        run_job(job_id)
        assert stored.service("GET", f"/jobs/{job_id}").json()["status"] == "failed"
    else:
        monkeypatch.setattr(copies, "_copy_bytes", held_meanwhile)
        refused = (403, "Forbidden") if lost == "DELETE" else (404, "ObjectNotFound")
        assert told(relocate(stored.ada, "move", "to")) == refused
    assert stored.service.get("b", "a").body == BODY
    assert stored.service.names("to") == []


# ---- changes of policies -------------------------------------------------------------------------------
def elsewhere(world: World, definition: str) -> StoredPolicy:
    """A policy that another process adds."""
    bucket_id = world.partition().partition("#")[2]
    row = StoredPolicy(
        bucket_id,
        f"{bucket_id}.{seam.new_version()}",
        tenant_id=world.tenant.tenant_id,
        bucket="b",
        name="from elsewhere",
        operation="SELECT",
        definition=definition,
        compiled=compile_policy(definition).compiled,
        created_at=seam.iso(seam.now()),
    )
    row.save()
    return row


def test_a_change_in_this_process_shows_at_once(stored: World) -> None:
    assert stored.ada.get("b", "a").status == 404
    policy_id = stored.allow("SELECT")
    assert stored.ada.get("b", "a").status == 200
    stored.service("DELETE", f"/storage/policies/{policy_id}")
    assert stored.ada.get("b", "a").status == 404


def test_a_change_in_another_process_shows_within_a_minute(stored: World, clock: Clock) -> None:
    assert stored.ada.get("b", "a").status == 404
    added = elsewhere(stored, "true")
    clock.advance(60)
    assert stored.ada.get("b", "a").status == 200
    added.delete()
    clock.advance(59)
    assert stored.ada.get("b", "a").status == 200  # remembered
    clock.advance(1)
    assert stored.ada.get("b", "a").status == 404


def test_policies_that_are_used_all_the_time_are_read_again_all_the_same(stored: World, clock: Clock) -> None:
    added = elsewhere(stored, "true")
    assert stored.ada.get("b", "a").status == 200
    added.delete()
    for _ in range(6):
        clock.advance(10)
        answer = stored.ada.get("b", "a")
    assert answer.status == 404


def test_a_bucket_that_takes_a_deleted_ones_name_has_none_of_its_policies(stored: World, clock: Clock) -> None:
    stored.allow("SELECT")
    stored.allow("INSERT")
    bucket_id = stored.partition().partition("#")[2]
    assert stored.ada.get("b", "a").status == 200
    job_id = stored.service("DELETE", "/storage/buckets/b").json()["job_id"]
    stored.service.bucket("b")
    stored.service.put("b", "a", BODY)
    assert listed(stored.service) == []
    assert stored.ada.get("b", "a").status == 404
    assert stored.ada.put("b", "new", BODY).status == 403
    assert len(permissions.stored_policies(bucket_id)) == 2
    clock.advance(120)
    run_job(job_id)
    assert permissions.stored_policies(bucket_id) == []
    assert stored.service.names("b") == ["a"]


# ---- cost ----------------------------------------------------------------------------------------------
def test_policies_cost_a_warm_request_nothing(stored: World, calls: list[Call]) -> None:
    for number in range(5):
        stored.allow("SELECT", f"size = {number} OR {OWN} OR auth_uid() IS NOT NULL")
    assert stored.ada.get("b", "a").status == 200
    calls.clear()
    assert stored.ada.get("b", "a").status == 200
    assert calls == [BATCH_GET, GET_OBJECT]
    calls.clear()
    assert stored.bob.delete("b", "a").status == 403
    assert calls == [BATCH_GET]
    calls.clear()
    assert stored.ada.names("b") == ["a"]
    assert calls == [QUERY]


def test_policies_cost_a_cold_process_one_query(stored: World, calls: list[Call]) -> None:
    stored.service.bucket("open", public=True)
    stored.service.put("open", "a", BODY)
    stored.allow("SELECT")
    made = []
    for bucket in ("open", "b"):
        forget_everything()
        calls.clear()
        assert stored.ada.get(bucket, "a").status == 200
        made.append(list(calls))
    public, private = made
    assert private == [*public[:-1], QUERY, public[-1]]


# ---- lists ---------------------------------------------------------------------------------------------
@dataclass
class Asked:
    """The Query calls that were made: their parameters."""

    parameters: list[dict[str, Any]]

    @property
    def indexes(self) -> list[str | None]:
        return [each.get("IndexName") for each in self.parameters]


@pytest.fixture
def asked(embedded: Any) -> Iterator[Asked]:
    made = Asked([])

    def note(params: dict[str, Any], **_: Any) -> None:
        made.parameters.append(dict(params))

    events = aws.client("dynamodb").meta.events
    events.register("provide-client-params.dynamodb.Query", note)
    yield made
    events.unregister("provide-client-params.dynamodb.Query", note)


@pytest.fixture
def reads(embedded: Any) -> Iterator[Reads]:
    made = Reads()

    def note(parsed: dict[str, Any], **_: Any) -> None:
        made.rows.append(parsed["ScannedCount"] if "ScannedCount" in parsed else parsed["Count"])

    events = aws.client("dynamodb").meta.events
    events.register("after-call.dynamodb.Query", note)
    yield made
    events.unregister("after-call.dynamodb.Query", note)


Columns = dict[str, Any]
# A definition, and what it means for Ada; what raises here is an error there.
MEANINGS: list[tuple[str, Callable[[Columns], bool]]] = [
    (OWN, lambda row: row["owner_id"] == ADA),
    (f"owner_id::text = auth_uid() AND size < 50 AND auth_uid() = '{ADA}'", lambda row: row["owner_id"] == ADA and row["size"] < 50),
    ("size > 70", lambda row: row["size"] > 70),
    ("100 / (size - 7) = 1", lambda row: int(100 / (row["size"] - 7)) == 1),
    ("name LIKE 'a/%'", lambda row: row["name"].startswith("a/")),
    ("name NOT LIKE '%b%' AND size >= 30", lambda row: "b" not in row["name"] and row["size"] >= 30),
    ("content_type = 'image/png'", lambda row: row["content_type"] == "image/png"),
    ("user_metadata ->> 'public' = 'true'", lambda row: bool(row["user_metadata"])),
    ("owner_id IS NULL AND split_part(name, '/', 2) = 'c'", lambda row: not row["owner_id"] and row["name"].split("/")[1:2] == ["c"]),
    ("false", lambda row: False),
    ("auth_role() = 'authenticated'", lambda row: True),
]


def _holds(meaning: Callable[[Columns], bool], row: Columns) -> bool:
    try:
        return meaning(row)
    except ZeroDivisionError:
        return False


def _some_rows(chance: random.Random) -> list[Columns]:
    names = {"/".join(chance.choice("abcd") * chance.randint(1, 2) for _ in range(chance.randint(1, 5))) for _ in range(280)}
    return [
        {
            "name": name,
            "size": chance.randint(0, 99),
            "owner_id": chance.choice([ADA, ADA, BOB, BOB, None]),
            "content_type": chance.choice(["text/plain", "text/plain", "image/png"]),
            "user_metadata": chance.choice([None, None, None, '{"public": true}']),
        }
        for name in sorted(names)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_a_list_shows_what_select_holds_for_and_every_such_row_once(world: World, seed: int) -> None:
    chance = random.Random(seed)
    rows = _some_rows(chance)
    assert len(rows) > 150
    world.fill("b", rows)
    for _ in range(6):
        chosen = chance.sample(MEANINGS, chance.choice([1, 1, 2, 3]))
        ids = [world.allow("SELECT", definition) for definition, _ in chosen]
        visible = [row["name"] for row in rows if any(_holds(meaning, row) for _, meaning in chosen)]
        for _ in range(6):
            prefix, delimiter = chance.choice(["", "", "a", "a/", "b/c", "aa/b/"]), chance.choice(["", "/"])
            limit, offset = chance.choice([1, 2, 7, 40, 1000]), chance.choice([0, 0, 1, 5, 60])
            query: dict[str, Any] = {"prefix": prefix, "delimiter": delimiter, "limit": limit}
            expected = model(visible, prefix, delimiter)
            shown = list(pages(world.ada, offset=offset, **query))
            case = ([definition for definition, _ in chosen], query, offset)
            assert [name for each in shown for name in each] == expected[offset:], case
            assert max(map(len, shown)) <= limit, case
        for policy_id in ids:
            world.service("DELETE", f"/storage/policies/{policy_id}")


def test_a_folder_shows_only_with_a_visible_row_below(world: World) -> None:
    world.fill("b", [{"name": name} for name in ("closed/1", "closed/deep/2", "open/1", "open/x", "top")])
    world.allow("SELECT", "name IN ('open/x', 'top')")
    assert page(world.ada, delimiter="/") == (["open/", "top"], "")
    assert page(world.ada, delimiter="/", prefix="closed/") == ([], "")
    assert page(world.ada, delimiter="/", offset=1) == (["top"], "")


def test_a_list_that_finds_few_stays_within_its_bounds(world: World, reads: Reads, calls: list[Call]) -> None:
    world.fill("b", [{"name": f"{number:04}", "size": number} for number in range(4500)])
    world.allow("SELECT", "size = 10 OR size = 2100 OR size >= 4490")
    world.ada.names("b", "limit=1")  # warm
    found = bounded(world.ada, reads, calls, limit=1000)
    assert [name for shown in found for name in shown] == ["0010", "2100", *(f"{number:04}" for number in range(4490, 4500))]
    assert [len(shown) for shown in found] == [1, 1, 10]


def test_a_list_that_finds_nothing_gives_cursors_to_its_end(world: World, reads: Reads, calls: list[Call]) -> None:
    world.fill("b", [{"name": f"{number % 50:02}/{number:04}"} for number in range(4100)])
    world.allow("SELECT", "size > 1000")
    world.ada.names("b", "limit=1")  # warm
    for query in ({}, {"delimiter": "/"}, {"offset": 10}):
        assert bounded(world.ada, reads, calls, **query) == [[], [], []]


def test_a_list_over_many_visible_folders_stays_within_its_ranges(world: World, reads: Reads, calls: list[Call]) -> None:
    folders = [f"folder {number:03}/" for number in range(240)]
    world.fill("b", [{"name": f"{folder}{number}", "size": number} for folder in folders for number in range(6)])
    world.allow("SELECT", "size = 0")
    world.ada.names("b", "limit=1")  # warm
    found = bounded(world.ada, reads, calls, delimiter="/", limit=300)
    assert [name for shown in found for name in shown] == folders
    assert len(found) > 1
    assert found[0]


def test_a_list_of_ones_own_is_one_query_of_the_index_however_much_others_have(world: World, asked: Asked, reads: Reads) -> None:
    mine = [f"{number:03}/{number}" for number in range(0, 100, 5)]
    world.fill("b", [{"name": name, "owner_id": ADA} for name in mine])
    world.allow("SELECT", OWN)
    world.allow("SELECT", "auth_uid()::uuid = owner_id AND size > 0")
    costs = []
    for foreign in (0, 1000):
        world.fill("b", [{"name": f"{number % 100:03}/x{number}", "owner_id": BOB if number % 2 else None} for number in range(foreign)])
        world.ada.names("b", "limit=1")  # warm
        asked.parameters.clear()
        reads.rows.clear()
        assert page(world.ada) == (mine, "")
        assert page(world.ada, delimiter="/")[0] == [f"{name[:4]}" for name in mine]
        assert set(asked.indexes) == {"by-owner"}
        costs.append(list(reads.rows))
    assert costs[0] == costs[1]
    assert costs[0][0] == len(mine)


def test_a_list_of_ones_own_is_empty_for_anon_and_reads_nothing(world: World, calls: list[Call]) -> None:
    world.fill("b", [{"name": "a"}, {"name": "c", "owner_id": ADA}])
    world.allow("SELECT", OWN)
    for client in (world.tenant.anon, world.ada):
        client.names("b")  # warm
    calls.clear()
    assert page(world.tenant.anon) == ([], "")
    assert calls == []


@pytest.mark.parametrize(
    "more",
    ["size > 50", "user_metadata ->> 'public' = 'true'", "owner_id IS NULL", "auth_role() = 'authenticated'", "owner_id IS NOT NULL"],
)
def test_ones_own_or_something_else_is_not_read_from_the_index(world: World, asked: Asked, more: str) -> None:
    world.fill(
        "b", [{"name": "mine", "owner_id": ADA}, {"name": "theirs", "owner_id": BOB, "size": 60, "user_metadata": '{"public": true}'}]
    )
    for definitions in ((OWN, more), (f"{OWN} OR {more}",)):
        ids = [world.allow("SELECT", definition) for definition in definitions]
        world.ada.names("b")  # warm
        asked.parameters.clear()
        assert page(world.ada)[0] == (["mine"] if more == "owner_id IS NULL" else ["mine", "theirs"])
        assert asked.indexes == [None]
        for policy_id in ids:
            world.service("DELETE", f"/storage/policies/{policy_id}")


def test_the_index_knows_what_became_of_ones_objects(world: World) -> None:
    world.service.bucket("to")
    for bucket in ("b", "to"):
        for operation in ("SELECT", "UPDATE", "DELETE"):
            world.allow(operation, OWN, bucket)
        world.allow("INSERT", "auth_uid() IS NOT NULL", bucket)
    for name in ("overwritten", "moved", "copied", "sent", "deleted", "onto", "changed"):
        assert world.ada.put("b", name, BODY).status == 201
    world.service.put("b", "overwritten", b"by the service")
    relocate(world.service, "move", source="moved", target="moved on")
    relocate(world.ada, "copy", source="copied", target="copy of mine")
    relocate(world.service, "copy", source="copied", target="copy of the service")
    relocate(world.service, "move", "to", source="sent", target="sent")
    world.ada.delete("b", "deleted")
    world.bob.put("b", "of bob", BODY)
    relocate(world.service, "move", source="of bob", target="onto", x_upsert="true")
    world.ada("PATCH", "/storage/object-info/b/changed", {"user_metadata": {"k": 1}})
    assert world.ada.names("b") == ["changed", "copied", "copy of mine", "moved on", "overwritten"]
    assert world.ada.names("to") == ["sent"]
    assert world.bob.names("b") == ["onto"]
    shown = {row["name"]: row for row in world.service("GET", "/storage/objects/b").json()}
    assert world.ada("GET", "/storage/objects/b").json() == [shown[name] for name in world.ada.names("b")]


def test_a_bucket_that_another_process_deleted_lists_like_one_that_is_not_there(stored: World) -> None:
    stored.allow("SELECT", "auth_uid() IS NOT NULL")
    assert stored.ada.names("b") == ["a"]
    row: Any = Bucket.read(stored.tenant.tenant_id, "b")
    StoredObject(row.partition, "a").delete()
    row.delete()
    assert page(stored.ada) == page(stored.ada, "absent") == ([], "")


def test_signing_in_a_bucket_that_is_not_there_is_like_signing_in_one_that_is_hidden(stored: World) -> None:
    answers = [stored.ada("POST", "/storage/signed-urls", {"bucket": bucket, "paths": ["a", "a\\b"]}) for bucket in ("b", "absent")]
    assert [answer.status for answer in answers] == [200, 200]
    hidden, absent = ([row["error"]["code"] for row in answer.json()] for answer in answers)
    assert hidden == absent == ["ObjectNotFound", "InvalidName"]


@pytest.fixture
def hidden(world: World) -> World:
    """The world with more rows than a page reads, of which nobody may see any."""
    world.fill("b", [{"name": f"secret {number:04}"} for number in range(2050)])
    world.allow("SELECT", "starts_with(name, 'public/')")
    return world


def _as_told(cursor: str) -> bytes:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def test_a_cursor_tells_no_name_that_its_caller_may_not_see(hidden: World) -> None:
    shown, cursor = page(hidden.ada)
    assert (shown, bool(cursor)) == ([], True)
    assert b"secret" not in cursor.encode() + _as_told(cursor)
    assert page(hidden.ada, cursor=cursor) == ([], "")


def test_a_cursor_where_policies_decide_is_for_its_caller_and_bucket_alone(hidden: World, nobody: Client) -> None:
    hidden.service.bucket("other")
    hidden.allow("SELECT", "true", "other")
    _, cursor = page(hidden.ada)
    plain = base64.urlsafe_b64encode(json.dumps(["secret 0050", 0]).encode()).decode().rstrip("=")
    changed = cursor[:-6] + ("A" if cursor[-6] != "A" else "B") + cursor[-5:]
    for client, bucket, sent in (
        (hidden.bob, "b", cursor),
        (hidden.tenant.anon, "b", cursor),
        (nobody, "b", cursor),
        (hidden.service, "b", cursor),
        (hidden.ada, "other", cursor),
        (hidden.ada, "b", plain),
        (hidden.ada, "b", changed),
        (hidden.ada, "b", cursor[:-1]),
    ):
        assert told(client("GET", f"/storage/objects/{bucket}?cursor={sent}")) == (400, "InvalidCursor"), (bucket, sent)


def test_a_cursor_is_plain_where_no_policy_decides(hidden: World) -> None:
    assert b"secret" in _as_told(page(hidden.service, limit=1)[1])
    hidden.service("PUT", "/storage/buckets/b", {"public": True})
    assert b"secret" in _as_told(page(hidden.ada, limit=1)[1])


def test_a_page_ends_after_some_seconds_of_policies(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:03}" for number in range(150)]
    world.fill("b", [{"name": name, "size": number} for number, name in enumerate(names)])
    world.allow("SELECT", "size < 3 OR size > 140")
    started, asked_for = seam.timestamp(), iter(range(100_000))
    monkeypatch.setattr(seam, "timestamp", lambda: started + next(asked_for) / 10)
    shown = list(pages(world.ada, limit=1000))
    assert [name for each in shown for name in each] == [*names[:3], *names[141:]]
    assert len(shown) > 2
    assert shown[1] == []
    assert page(world.service, limit=1000) == (names, "")


@pytest.mark.parametrize(
    ("definition", "poison"),
    [
        ("(user_metadata ->> 'level')::numeric <= 3", {"level": "\u0131nf"}),
        ("(user_metadata ->> 'level')::numeric <= 3", {"level": "\u0130nf"}),
        ("(user_metadata ->> 'level')::int <= 3", {"level": "\u0661"}),
        ("(user_metadata ->> 'level')::boolean OR size > 0", {"level": "\u212a"}),
        ("created_at + (user_metadata ->> 'level')::interval > now()", {"level": "1day2hours"}),
        ("created_at + (user_metadata ->> 'level')::interval > now()", {"level": "1000000000 hours"}),
        ("created_at < (user_metadata ->> 'level')::timestamptz", {"level": "9999-12-31 23:59:59-15"}),
    ],
)
def test_what_an_object_says_denies_it_at_worst_and_fails_no_list(world: World, definition: str, poison: dict[str, str]) -> None:
    world.allow("SELECT", f"name = 'fine' OR {definition}")
    for name, text in (("fine", {}), ("poisoned", poison)):
        sent = base64.b64encode(json.dumps(text).encode()).decode()
        assert world.service.put("b", name, BODY, x_metadata=sent).status == 201
    assert "fine" in world.ada.names("b")
    assert world.ada.get("b", "poisoned").status in (200, 404)
    assert page(world.service)[0] == ["fine", "poisoned"]


def test_an_interval_that_postgresql_does_not_read_permits_nothing(world: World) -> None:
    world.allow("SELECT", "created_at + (user_metadata ->> 'for')::interval > now()")
    for name, text in (("read", "1day 2hours"), ("unread", "1day2hours")):
        world.service.put("b", name, BODY, x_metadata=base64.b64encode(json.dumps({"for": text}).encode()).decode())
    assert world.ada.names("b") == ["read"]


def test_a_defect_in_a_policy_denies_and_fails_no_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> int:
        raise ZeroDivisionError("a defect")

    monkeypatch.setitem(functions.FUNCTIONS, "length", broken)
    world.fill("b", [{"name": "a", "size": 9}, {"name": "c", "size": 1}])
    world.allow("SELECT", "size < 5 OR length(name) > 0")
    assert page(world.ada) == (["c"], "")
    assert world.ada("GET", "/storage/object-info/b/a").status == 404
    world.allow("SELECT", "size = 9")
    assert page(world.ada) == (["a", "c"], "")


@pytest.mark.parametrize(
    "definition",
    [
        "created_at > now() - interval '1000000000 hours'",
        "created_at < '9999-12-31 24:00:00'",
        "created_at < '9999-12-31 23:59:59-15'",
        "created_at > '0001-01-01 00:00:00+15'",
        "created_at > '2026-11-20 23:59:60.999'",
        "size < '\u0131nf'::numeric",
        "size < '\u0130nf'::numeric",
        "user_metadata = '" + "[" * 900 + "]" * 900 + "'",
        "user_metadata = '" + '{"":' * 200 + "1" + "}" * 200 + "'",
        "user_metadata = '" + '{"":' * 350 + "1" + "}" * 350 + "'",
        "size IN (" + ", ".join(["1e999"] * 580) + ")",
    ],
    ids=lambda definition: ascii(definition[:44]),
)
def test_a_definition_of_extremes_is_taken_or_refused_and_fails_no_request(stored: World, definition: str) -> None:
    assert create(stored.service, definition=definition).status in (201, 400)
    assert stored.ada.get("b", "a").status in (200, 404)
    assert stored.ada("GET", "/storage/objects/b").status == 200


# ---- explain -------------------------------------------------------------------------------------------
CLAIMS = {"sub": ADA, "role": "editor", "email": "ada@example.com"}


def explain(world: World, operation: str = "SELECT", path: str = "a", claims: Any = CLAIMS, **more: Any) -> dict[str, Any]:
    answer = world.service(
        "POST", "/storage/policies/explain", {"bucket": "b", "operation": operation, "path": path, "claims": claims} | more
    )
    assert answer.status == 200, answer.body
    explained: dict[str, Any] = answer.json()
    return explained


def test_a_public_bucket_is_the_reason_for_reading(stored: World) -> None:
    stored.service("PUT", "/storage/buckets/b", {"public": True})
    stored.allow("SELECT", "false")
    assert explain(stored) == {"allowed": True, "reason": "public", "decided_by": None, "policies": []}
    assert explain(stored, "DELETE")["reason"] == "no_policy"


def test_without_a_policy_that_is_the_reason(stored: World) -> None:
    stored.allow("INSERT")
    assert explain(stored) == {"allowed": False, "reason": "no_policy", "decided_by": None, "policies": []}


def test_the_first_policy_that_holds_decides_and_all_are_shown(stored: World) -> None:
    ids = [stored.allow("SELECT", definition) for definition in ("false", "name = 'a'", "size::text::int = 5", "name::int = 1", "NULL")]
    explained = explain(stored)
    assert (explained["allowed"], explained["reason"]) == (True, "policy")
    assert explained["decided_by"] == {"id": ids[1], "name": "a policy"}
    assert [(policy["id"], policy["value"]) for policy in explained["policies"]] == list(
        zip(ids, ["false", "true", "true", "error", "null"], strict=True)
    )


def test_policies_that_do_not_hold_are_the_reason(stored: World) -> None:
    stored.allow("SELECT", "auth_uid() IS NULL")
    explained = explain(stored)
    assert (explained["allowed"], explained["reason"], explained["decided_by"]) == (False, "no_policy_holds", None)


def test_each_sub_expression_has_its_value(stored: World) -> None:
    definition = (
        "CASE WHEN size BETWEEN 1 AND 9 THEN name IN ('a', 'b') ELSE size::text = '5' END"
        " AND checksum::int = 1 AND owner_id = auth_uid()::uuid AND NOT (size > 7)"
    )
    stored.allow("SELECT", definition)
    (policy,) = explain(stored)["policies"]
    values = {each["expression"]: (each["type"], each["value"], bool(each["error"])) for each in policy["expressions"]}
    assert policy["value"] == "error"
    assert values == {
        definition: ("boolean", None, True),
        "CASE WHEN size BETWEEN 1 AND 9 THEN name IN ('a', 'b') ELSE size::text = '5' END": ("boolean", "true", False),
        "size BETWEEN 1 AND 9": ("boolean", "true", False),
        "size": ("bigint", "5", False),
        "name IN ('a', 'b')": ("boolean", "true", False),
        "name": ("text", "a", False),
        "size::text = '5'": ("boolean", "true", False),
        "size::text": ("text", "5", False),
        "checksum::int = 1": ("boolean", None, True),
        "checksum::int": ("integer", None, True),
        "checksum": ("text", CHECKSUM, False),
        "owner_id = auth_uid()::uuid": ("boolean", None, False),
        "owner_id": ("uuid", None, False),
        "auth_uid()::uuid": ("uuid", ADA, False),
        "auth_uid()": ("text", ADA, False),
        "NOT (size > 7)": ("boolean", "true", False),
        "(size > 7)": ("boolean", "false", False),
    }


def test_an_operand_that_is_used_twice_is_shown_once(stored: World) -> None:
    stored.allow("SELECT", "size * 2 BETWEEN SYMMETRIC 20 AND size - 5")
    (policy,) = explain(stored)["policies"]
    assert [(each["expression"], each["value"]) for each in policy["expressions"]] == [
        ("size * 2 BETWEEN SYMMETRIC 20 AND size - 5", "true"),
        ("size * 2", "10"),
        ("size", "5"),
        ("size - 5", "0"),
        ("size", "5"),
    ]


@pytest.mark.parametrize(
    "definition", ["(NULL::int = name::int) IS NULL", "coalesce(NULL::text || checksum, 'x') = 'x'", "true OR name::int = 1"]
)
def test_what_is_explained_is_what_is_decided(stored: World, definition: str) -> None:
    stored.allow("SELECT", definition)
    explained = explain(stored)
    assert explained["allowed"] == (stored.ada.get("b", "a").status == 200)
    (policy,) = explained["policies"]
    assert policy["value"] == policy["expressions"][0]["value"] == "true"


def test_without_claims_it_is_anon_that_asks(stored: World) -> None:
    stored.allow("SELECT", "auth_role() = 'anon' AND auth_uid() IS NULL AND auth_email() IS NULL")
    assert explain(stored, claims=None)["allowed"] is True
    assert explain(stored)["allowed"] is False


def test_claims_are_those_that_a_token_would_carry(stored: World) -> None:
    uid = uuid.uuid5(uuid.UUID(stored.tenant.tenant_id), "someone")
    stored.allow("SELECT", f"auth_role() = 'authenticated' AND auth_uid() = '{uid}' AND auth_email() IS NULL")
    assert explain(stored, claims={"sub": "someone", "tenant_id": "other", "aud": "x"})["allowed"] is True
    assert explain(stored, claims={"sub": "someone", "role": "service"})["allowed"] is True
    assert explain(stored, claims={"sub": "someone", "role": "editor"})["allowed"] is False


def test_an_upload_is_explained_by_the_row_that_would_be(stored: World) -> None:
    stored.allow("INSERT", "owner_id = auth_uid()::uuid AND size < 100 AND content_type = 'image/png' AND user_metadata ->> 'k' = 'v'")
    right: dict[str, Any] = {"size": 99, "content_type": "image/png", "user_metadata": {"k": "v"}}
    assert explain(stored, "INSERT", "new", **right)["allowed"] is True
    for wrong in ({"size": 100}, {"content_type": "image/gif"}, {"user_metadata": None}):
        assert explain(stored, "INSERT", "new", **right | wrong)["allowed"] is False
    assert explain(stored, "INSERT", "new", None, **right)["allowed"] is False
    assert explain(stored, "INSERT", "new.png", user_metadata={"k": "v"})["allowed"] is True  # its type by its name
    assert stored.service.names("b") == ["a"]


@pytest.mark.parametrize("operation", ["SELECT", "UPDATE", "DELETE"])
def test_an_object_that_is_not_there_cannot_be_explained(stored: World, operation: str) -> None:
    body = {"bucket": "b", "operation": operation, "path": "absent", "claims": None}
    assert told(stored.service("POST", "/storage/policies/explain", body)) == (404, "ObjectNotFound")
    assert told(stored.service("POST", "/storage/policies/explain", body | {"bucket": "absent"})) == (404, "BucketNotFound")


@pytest.mark.parametrize(
    "changes",
    [{"claims": {}}, {"claims": {"sub": ""}}, {"claims": "anon"}, {"operation": "ALL"}, {"path": ""}, {"path": "a\\b"}, {"size": -1}],
)
def test_an_explanation_of_what_cannot_be_is_refused(stored: World, changes: dict[str, Any]) -> None:
    body = {"bucket": "b", "operation": "SELECT", "path": "a", "claims": CLAIMS} | changes
    assert stored.service("POST", "/storage/policies/explain", body).status == 400
