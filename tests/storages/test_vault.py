"""The vault's storage records (seed 000): the lines of F1, and of F4 as far as they show here."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib import aws
from chalicelib.core import probing, tenants
from chalicelib.core.probing import Result
from chalicelib.core.storage_rules import PARTITIONS, aws_regions
from chalicelib.providers import Capabilities
from chalicelib.providers.s3 import S3
from chalicelib.surfaces.vault.routes import SURFACE
from chalicelib.tables.storages import Storage, StorageName
from tests.client import Answer, Client, together
from tests.conftest import Call, Tenant
from tests.storages.conftest import Servers
from tests.storages.scripted_s3 import Asked, Said, ScriptedS3, error, scripted_s3

# SHA-256 of what seed 000 publishes: the examples as JSON with sorted names, the policy and the rules to the letter.
PUBLISHED = {
    "R2": "c0b97b82558401dd2f6f55cb452a7116ced7766ce501fb7fe86934294663b324",
    "S3": "da8da5963f23ee6adc863611d7b296590ea7e99d8362460bbd6a23667629ac2a",
    "policy": "1cd0cb38d5ce2bd97117aa17dc2f0f21c3b8972e276584a7f84198a0edfb2a51",
    "cors of s3": "06be1633c7b9f650f6b24a6a3948702c771539c0b8d5829ca82013f03626db79",
    "cors of r2": "7c7c369a665ec26687f2319b0769f5269eca1334e563512b72de0985b0b12bbc",
}
ACCOUNT = "0123456789abcdef0123456789abcdef"
R2_HOST = f"{ACCOUNT}.r2.cloudflarestorage.com"
S3_HOST = "s3.us-east-1.amazonaws.com"
UNKNOWN = "00000000-0000-4000-8000-00000000abcd"
TEST_OBJECT = "omegasafe_connection_test.json"
S3_FIELDS: dict[str, Any] = {
    "name": "production_s3",
    "provider": "s3",
    "bucket_name": "my-production-bucket",
    "region": "us-east-1",
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "remote_path": "omega-safe/deltas",
}
R2_FIELDS: dict[str, Any] = {
    "name": "production_r2",
    "provider": "r2",
    "bucket_name": "my-r2-bucket",
    "region": "auto",
    "access_key_id": "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6",
    "secret_access_key": "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6q7r8s9t0u1v2w3x4y5z6",
    "endpoint_url": f"https://{R2_HOST}",
    "remote_path": "omega-safe/deltas",
}
SHOWN = {
    "storage_uuid", "name", "provider", "bucket_name", "region", "endpoint_url", "remote_path", "key_count", "warning", "status",
    "status_reason", "capabilities", "safeguards", "probed_at", "bucket_count", "bucket_object_count", "bucket_size_bytes",
    "last_used_at", "credentials_changed_at", "created_at", "updated_at",
}  # fmt: skip
OVERRIDES = "STOWAGE_ENDPOINT_OVERRIDES"


# ---- what stands in for S3 and R2 ------------------------------------------------------------------------------
@pytest.fixture
def plain(new_tenant: Any, every_kind: None) -> Tenant:
    """A tenant without storages."""
    made: Tenant = new_tenant()
    return made


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, settings_again: Callable[[], None]) -> Callable[..., None]:
    """Has servers stand in for hosts."""

    def put(servers: dict[str, str]) -> None:
        monkeypatch.setenv(OVERRIDES, ",".join(f"{host}={url}" for host, url in servers.items()))
        settings_again()

    return put


@pytest.fixture
def strict(servers: Servers, plain: Tenant, stand_in: Callable[..., None]) -> S3:
    """The strict server stands in for S3 in us-east-1; gives its owner's view of the bucket `my-production-bucket`."""
    told = servers.fields("strict_s3")
    owner = S3("my-production-bucket", endpoint=told["endpoint_url"], access_key=told["access_key"], secret_key=told["secret_key"])
    try:
        owner.reach()
    except Exception:
        owner._call("CreateBucket")
    for each in [entry.key for entry in owner.list("")]:
        owner.delete([each])
    stand_in({S3_HOST: told["endpoint_url"]})
    return owner


@pytest.fixture
def known(servers: Servers) -> dict[str, str]:
    """The keys that the strict server knows."""
    told = servers.fields("strict_s3")
    return {"access_key_id": told["access_key"], "secret_access_key": told["secret_key"]}


@pytest.fixture
def scripted(plain: Tenant, stand_in: Callable[..., None]) -> Iterator[ScriptedS3]:
    """A server that says what it is told to stands in for S3."""
    with scripted_s3() as server:
        stand_in({S3_HOST: server.endpoint})
        yield server


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No probe goes anywhere: each succeeds, and is listed here."""
    made: list[Any] = []

    def probe(connection: Any, *_: Any) -> Result:
        made.append(connection)
        return Result(bucket_exists=True, can_write=True, can_read=True, can_delete=True, latency_ms=1, capabilities=Capabilities())

    monkeypatch.setattr(probing, "probe", probe)
    return made


def create(client: Client, fields: dict[str, Any], status: int = 201) -> Any:
    answer = client("POST", "/storages/create", fields)
    assert answer.status == status, answer.body
    return answer.json()


def edit(client: Client, storage: dict[str, Any], status: int = 200, **changes: Any) -> Any:
    answer = client("PATCH", "/storages/edit", {"storage_uuid": storage["storage_uuid"], **changes})
    assert answer.status == status, answer.body
    return answer.json()


def listed(client: Client) -> list[dict[str, Any]]:
    answer = client("GET", "/storages/list")
    assert answer.status == 200, answer.body
    rows: list[dict[str, Any]] = answer.json()
    return rows


def delete(client: Client, storage: dict[str, Any]) -> Answer:
    return client("DELETE", "/storages/delete", {"storage_uuid": storage["storage_uuid"]})


def asked_of_storages(calls: list[Call]) -> list[str]:
    return [call.operation for call in calls if call.service == "s3"]


# ---- F1.1 to F1.10: the fields ---------------------------------------------------------------------------------
# By field: what is taken, and what is refused.
BOUNDARIES: dict[str, tuple[list[Any], list[Any]]] = {
    "name": (
        ["a", "n" * 255, "A.b_c-9", "...", "_"],
        ["", "n" * 256, "a b", "a/b", "ä", "a\n", "a\0", " a", "a:b", 5, None, ["a"], {}, True],
    ),
    "bucket_name": (
        ["abc", "b" * 63, "a-b.c", "1bc", "192.168.0.1.x", "256.1.1.1", "a--b"],
        ["", "ab", "b" * 64, "192.168.0.1", "8.8.8.8", "a..b", "-ab", "ab-", ".ab", "ab.", "Abc", "a_b", "a b", "äbc", "a/b", "ab\n",
         "abc\0", 5, None, ["abc"]],
    ),
    "region": (
        ["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1", "me-central-1"],
        ["auto", "", "us-east-9", "US-EAST-1", " us-east-1", "aws-global", "us-west-004", "us-east-1\n", 1, None],
    ),
    "access_key_id": (
        ["A" * 16, "A" * 128, "azAZ09+/=" + "0" * 7],
        ["", "A" * 15, "A" * 129, "A" * 15 + "-", "A" * 15 + " ", "A" * 15 + "_", "Ä" * 16, "A" * 16 + "\n", 1234567890123456, None],
    ),
    "secret_access_key": (
        ["s" * 32, "s" * 128, "azAZ09+/=" + "0" * 23],
        ["", "s" * 31, "s" * 129, "s" * 31 + "-", "s" * 31 + " ", "s" * 31 + "\\", "é" * 32, "s" * 32 + "\n", None, ["s" * 32]],
    ),
    "endpoint_url": (
        ["", None],
        ["https://s3.us-east-1.amazonaws.com", "https://a.example", "http://a", " ", "x", f"https://{R2_HOST}", 5],
    ),
    "remote_path": (
        ["", None, "a", "p" * 1024, "team//prod/", "a/b c/é", "a.b/.c", "a.", "a/./b", "~", "%2e%2e"],
        ["p" * 1025, "/a", "/", "..", "a/../b", "../a", "a/..", "a..b", *(f"a{each}b" for each in '<>:"|?*\\'), "a\0", "\0", "a\nb", "a\tb",
         "a\x1f", "a\x7f", 5, ["a"]],
    ),
    "provider": (["s3"], ["R2", "S3", "aws_s3", "gcs", "minio", "", "sftp", None, 3, ["s3"]]),
}  # fmt: skip
TAKEN = [(field, value) for field, (taken, _) in BOUNDARIES.items() for value in taken]
REFUSED = [(field, value) for field, (_, refused) in BOUNDARIES.items() for value in refused]


def _short(value: Any) -> str:
    return repr(value)[:30]


@pytest.mark.parametrize(("field", "value"), TAKEN, ids=_short)
def test_f1_1_to_f1_10_what_the_rules_allow_is_taken_and_shown_as_it_was_given(
    plain: Tenant, probes: list[Any], field: str, value: Any
) -> None:
    made = create(plain.service, S3_FIELDS | {field: value})
    assert made.get(field) == (None if field.endswith(("key_id", "access_key")) else value or None)
    assert len(probes) == 1


@pytest.mark.parametrize(("field", "value"), REFUSED, ids=_short)
def test_f1_1_to_f1_10_what_they_forbid_is_400_naming_the_field_and_nothing_is_probed_or_saved(
    plain: Tenant, probes: list[Any], field: str, value: Any
) -> None:
    answer = plain.service("POST", "/storages/create", S3_FIELDS | {field: value})
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert field in answer.json()["message"]
    assert (probes, listed(plain.service)) == ([], [])


@pytest.mark.parametrize("field", ["name", "provider", "bucket_name", "region", "access_key_id", "secret_access_key"])
def test_a_required_field_that_is_missing_is_400(plain: Tenant, probes: list[Any], field: str) -> None:
    answer = plain.service("POST", "/storages/create", {name: value for name, value in S3_FIELDS.items() if name != field})
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert field in answer.json()["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"name": NaN}', b'{"name": "\\ud800"}'])
def test_a_body_that_is_no_json_object_is_400(plain: Tenant, probes: list[Any], body: bytes) -> None:
    for method, path in (("POST", "/storages/create"), ("PATCH", "/storages/edit")):
        answer = plain.service(method, path, body)
        assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert probes == []


def test_fields_that_nobody_knows_are_ignored(plain: Tenant, probes: list[Any]) -> None:
    made = create(
        plain.service, S3_FIELDS | {"host_key": "x", "tenant_id": UNKNOWN, "revision": 7, "kind": "filesystem", "surface": "backups"}
    )
    assert made.keys() == SHOWN
    assert made["provider"] == "s3"
    assert probes[0].kind == "aws_s3"


def test_f1_4_every_region_that_botocore_offers_s3_in_is_taken() -> None:
    offered = {region for partition in PARTITIONS for region in aws.session().get_available_regions("s3", partition)}
    assert aws_regions() == offered
    assert {"us-east-1", "eu-central-1", "ap-southeast-2", "sa-east-1", "af-south-1"} <= offered
    assert "auto" not in offered


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "", "AUTO", "auto ", "weur", None])
def test_f1_5_r2_has_the_region_auto_alone(plain: Tenant, probes: list[Any], region: Any) -> None:
    answer = plain.service("POST", "/storages/create", R2_FIELDS | {"region": region})
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert "region" in answer.json()["message"]
    assert probes == []


@pytest.mark.parametrize(
    "endpoint", [f"https://{ACCOUNT}.r2.cloudflarestorage.com", f"https://{ACCOUNT}.r2.cloudflarestorage.com/",
                 f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com", f"https://{ACCOUNT}.fedramp.r2.cloudflarestorage.com"],
)  # fmt: skip
def test_f1_9_r2_takes_the_account_endpoint_also_of_a_jurisdiction(plain: Tenant, probes: list[Any], endpoint: str) -> None:
    made = create(plain.service, R2_FIELDS | {"endpoint_url": endpoint})
    assert (made["endpoint_url"], made["region"], made["provider"]) == (endpoint, "auto", "r2")
    assert probes[0].address == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        None, "", f"http://{R2_HOST}", R2_HOST, f"https://{R2_HOST}/my-r2-bucket", f"https://{R2_HOST}/my-r2-bucket/",
        f"https://my-r2-bucket.{R2_HOST}", f"https://{R2_HOST}//", f"https://{R2_HOST}?x=1", f"https://{R2_HOST}#x", f"https://{R2_HOST}:443",
        f"https://{R2_HOST}:8443", f"https://user@{R2_HOST}", f"https://user:p@{R2_HOST}", f"https://{R2_HOST}.", f"https://{R2_HOST}.evil.example",
        "https://ACCOUNT-ID.r2.cloudflarestorage.com", f"https://{ACCOUNT[:31]}.r2.cloudflarestorage.com",
        f"https://{ACCOUNT}0.r2.cloudflarestorage.com", f"https://{'g' * 32}.r2.cloudflarestorage.com",
        f"https://{ACCOUNT}.asia.r2.cloudflarestorage.com", f"https://{ACCOUNT}.r2xcloudflarestorage.com", "https://r2.cloudflarestorage.com",
        f"https://evil.example/{R2_HOST}", f"https://evil.example#@{R2_HOST}", f"https://evil.example\\@{R2_HOST}", f" https://{R2_HOST}",
        f"https://{R2_HOST}\n", f"HTTPS://{R2_HOST}", f"https://{R2_HOST}/%2e", "https://[::1]", "https://127.0.0.1", "https://[", 7,
    ],
    ids=_short,
)  # fmt: skip
def test_f1_8_and_f1_9_r2_refuses_every_other_endpoint(plain: Tenant, probes: list[Any], endpoint: Any) -> None:
    answer = plain.service("POST", "/storages/create", R2_FIELDS | {"endpoint_url": endpoint})
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert "endpoint_url" in answer.json()["message"]
    assert probes == []


# ---- the published examples ------------------------------------------------------------------------------------
def test_the_examples_here_are_those_that_are_published() -> None:
    published_r2 = R2_FIELDS | {"endpoint_url": "https://ACCOUNT-ID.r2.cloudflarestorage.com"}
    assert _sha256(json.dumps(published_r2, sort_keys=True)) == PUBLISHED["R2"]
    assert _sha256(json.dumps(S3_FIELDS, sort_keys=True)) == PUBLISHED["S3"]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_published_s3_example_makes_a_storage_with_keys_that_are_known(strict: S3, plain: Tenant, known: dict[str, str]) -> None:
    made = create(plain.service, S3_FIELDS | known)
    assert made.keys() == SHOWN
    expected = {name: value for name, value in S3_FIELDS.items() if "access_key" not in name}
    assert {name: made[name] for name in expected} == expected
    assert (made["endpoint_url"], made["warning"], made["status"], made["key_count"], made["bucket_count"]) == (None, None, "healthy", 0, 0)
    assert listed(plain.service) == [made]
    assert list(strict.list("")) == []


def test_the_published_r2_example_makes_a_storage(scripted: ScriptedS3, plain: Tenant, stand_in: Callable[..., None]) -> None:
    """With an account id in place of its word for one. The server at hand takes any keys, and the region `auto`."""
    stand_in({R2_HOST: scripted.endpoint})
    made = create(plain.service, R2_FIELDS)
    expected = {name: value for name, value in R2_FIELDS.items() if "access_key" not in name}
    assert {name: made[name] for name in expected} == expected
    assert made["status"] == "healthy"
    assert scripted.requests[1].key == f"omega-safe/deltas/{TEST_OBJECT}"
    assert "/auto/s3/aws4_request" in scripted.requests[0].headers["authorization"]


@pytest.mark.parametrize("fields", [R2_FIELDS, S3_FIELDS], ids=["r2", "s3"])
def test_the_very_published_values_fail_at_the_probe_and_not_before(
    strict: S3, plain: Tenant, stand_in: Callable[..., None], servers: Servers, fields: dict[str, Any]
) -> None:
    endpoint = servers.fields("strict_s3")["endpoint_url"]
    stand_in({S3_HOST: endpoint, R2_HOST: endpoint})
    told = create(plain.service, fields, 422)
    assert told["code"] == "ProbeFailed"
    assert told["details"]["step"] == "LIST"
    if fields is S3_FIELDS:  # the server at hand lies in us-east-1, where R2's `auto` is wrong
        assert told["details"]["cause"] == "InvalidCredentials"
        assert "does not exist in our records" in told["message"]


# ---- F1.12, F4: the probe --------------------------------------------------------------------------------------
def test_f1_12_a_storage_that_fails_its_probe_is_not_saved(strict: S3, plain: Tenant, known: dict[str, str], servers: Servers) -> None:
    told = create(plain.service, S3_FIELDS | known | {"secret_access_key": "s" * 40}, 422)
    assert told["code"] == "ProbeFailed"
    assert told.keys() == {"code", "message", "request_id", "details"}
    assert told["details"].keys() == {"step", "cause", "hint"}
    assert (told["details"]["step"], told["details"]["cause"]) == ("LIST", "WrongSignature")
    assert "s" * 40 not in json.dumps(told)
    assert listed(plain.service) == []
    assert [item for page in Storage.pages_of(plain.tenant_id) for item in page] == []


@pytest.mark.parametrize(
    ("change", "step", "cause"),
    [
        ({"bucket_name": "not-there-at-all"}, "LIST", "BucketNotFound"),
        (
            {"access_key_id": "OTHER0123456789ABCDE", "secret_access_key": "other/secret+0123456789abcdefghijklmnopq"},
            "LIST",
            "AccessDenied",
        ),
        ({"remote_path": "p" * 1024}, "PUT", None),
    ],
)
def test_f1_12_why_it_fails_is_told(
    strict: S3, plain: Tenant, known: dict[str, str], change: dict[str, Any], step: str, cause: str | None
) -> None:
    told = create(plain.service, S3_FIELDS | known | change, 422)
    assert told["details"]["step"] == step
    assert cause in (None, told["details"]["cause"])
    assert listed(plain.service) == []


def test_f1_12_another_name_is_free_again_after_a_failure(strict: S3, plain: Tenant, known: dict[str, str]) -> None:
    create(plain.service, S3_FIELDS | known | {"bucket_name": "not-there-at-all"}, 422)
    create(plain.service, S3_FIELDS | known)


@pytest.mark.parametrize(
    ("operation", "said", "step", "asked"),
    [
        ("LIST", Said(403, error("AccessDenied")), "LIST", ["LIST"]),
        ("PUT", Said(403, error("AccessDenied")), "PUT", ["LIST", "PUT"]),
        ("GET", Said(403, error("AccessDenied")), "GET", ["LIST", "PUT", "GET"]),
    ],
)
def test_f4_3_the_probe_stops_at_the_first_step_that_fails(
    scripted: ScriptedS3, plain: Tenant, operation: str, said: Said, step: str, asked: list[str]
) -> None:
    scripted.say[operation] = lambda _: said
    told = create(plain.service, S3_FIELDS, 422)
    assert told["details"] | {"hint": ""} == {"step": step, "cause": "AccessDenied", "hint": ""}
    assert "s3:PutObject" in told["details"]["hint"]
    assert scripted.asked == asked


def test_f4_3_and_f4_13_the_probe_lists_puts_gets_and_at_last_deletes_and_never_asks_for_the_bucket_as_such(
    strict: S3, plain: Tenant, known: dict[str, str], calls: list[Call]
) -> None:
    create(plain.service, S3_FIELDS | known)
    asked = asked_of_storages(calls)
    assert asked[:3] == ["ListObjectsV2", "PutObject", "GetObject"]
    assert asked[-1] == "DeleteObjects"
    assert not {"HeadBucket", "ListBuckets", "GetBucketLocation"} & set(asked)
    assert {"CreateMultipartUpload", "UploadPart", "AbortMultipartUpload", "GetBucketVersioning", "HeadObject"} <= set(asked)


def test_f4_4_a_storage_that_gives_back_other_bytes_is_refused(scripted: ScriptedS3, plain: Tenant) -> None:
    def mangled(asked: Asked) -> Said:
        return Said(206, scripted.objects[asked.key].replace(b"-", b"_"), {"Content-Range": "bytes 0-9/10"})

    scripted.say["GET"] = mangled
    told = create(plain.service, S3_FIELDS, 422)
    assert (told["details"]["step"], told["details"]["cause"]) == ("GET", "BytesDiffer")


def _kept_test_object(monkeypatch: pytest.MonkeyPatch, key: str = "AccessDenied") -> None:
    monkeypatch.setattr(S3, "delete", lambda self, keys: dict.fromkeys(keys, key))


@pytest.mark.parametrize(
    ("remote_path", "key"),
    [
        (None, TEST_OBJECT), ("", TEST_OBJECT), ("team/prod", f"team/prod/{TEST_OBJECT}"), ("team//prod/", f"team/prod/{TEST_OBJECT}"),
        ("a b/é+%", f"a b/é+%/{TEST_OBJECT}"),
    ],
)  # fmt: skip
def test_f1_11_f4_1_f4_2_f4_5_f4_19_the_test_object_lies_at_its_exact_key_with_exactly_three_fields_and_a_warning_names_it(
    strict: S3, plain: Tenant, known: dict[str, str], monkeypatch: pytest.MonkeyPatch, remote_path: str | None, key: str
) -> None:
    with monkeypatch.context() as denied:
        _kept_test_object(denied)
        made = create(plain.service, S3_FIELDS | known | {"remote_path": remote_path})
    assert [entry.key for entry in strict.list("")] == [key]
    document = json.loads(strict.read(key, 0, next(strict.list("")).size))
    assert document.keys() == {"storage_uuid", "user_uuid", "timestamp"}
    assert (document["storage_uuid"], document["user_uuid"]) == (made["storage_uuid"], plain.tenant_id)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", document["timestamp"])
    assert made["remote_path"] == (remote_path or None)
    assert key in made["warning"]
    assert "AccessDenied" in made["warning"]
    assert made["capabilities"]["can_delete"] is False
    assert listed(plain.service)[0]["storage_uuid"] == made["storage_uuid"]


def test_f4_5_a_delete_that_the_storage_denies_is_a_warning_also_when_it_is_edited(scripted: ScriptedS3, plain: Tenant) -> None:
    scripted.say["DELETE"] = lambda _: Said(403, error("AccessDenied"))
    made = create(plain.service, S3_FIELDS)
    assert f"omega-safe/deltas/{TEST_OBJECT}" in made["warning"]
    changed = edit(plain.service, made, remote_path="other")
    assert f"other/{TEST_OBJECT}" in changed["warning"]
    renamed = edit(plain.service, made, name="renamed")
    assert renamed["warning"] is None  # nothing was tested


def test_the_user_in_the_test_object_is_auth_uid(strict: S3, plain: Tenant, known: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    user = "9b2f2a5e-1111-4222-8333-944445555666"
    _kept_test_object(monkeypatch)
    create(plain.user(sub=user.upper(), role="org_admin"), S3_FIELDS | known | {"remote_path": None})
    (entry,) = strict.list("")
    assert json.loads(strict.read(TEST_OBJECT, 0, entry.size))["user_uuid"] == user


def test_f4_6_what_an_earlier_probe_left_is_overwritten(strict: S3, plain: Tenant, known: dict[str, str]) -> None:
    key = f"omega-safe/deltas/{TEST_OBJECT}"
    strict.put(key, b"left", "text/plain")
    assert create(plain.service, S3_FIELDS | known)["warning"] is None
    assert list(strict.list("")) == []


def test_f1_21_and_f4_14_to_f4_16_what_the_storage_keeps_is_told(scripted: ScriptedS3, plain: Tenant) -> None:
    told = create(plain.service, S3_FIELDS)
    skew = told["capabilities"].pop("clock_skew_seconds")
    assert abs(skew) < 5
    assert told["capabilities"] == {
        "can_delete": True, "conditional_put": True, "content_md5": True, "checksum_sha256": True, "metadata": True,
        "range_read": True, "multipart": True, "versioning": True,
    }  # fmt: skip
    assert set(told["safeguards"].values()) == {"enforced"}


@pytest.mark.parametrize(
    ("operation", "said", "capability", "value"),
    [
        ("VERSIONING", Said(200, b"<VersioningConfiguration/>"), "versioning", False),
        ("VERSIONING", Said(403, error("AccessDenied")), "versioning", None),
        ("VERSIONING", Said(501, error("NotImplemented")), "versioning", None),
        ("CREATE_MULTIPART", Said(403, error("AccessDenied")), "multipart", None),
        ("HEAD", Said(403), "metadata", None),
    ],
)
def test_f1_21_f4_16_an_extra_check_that_is_not_permitted_is_null_and_not_fatal(
    scripted: ScriptedS3, plain: Tenant, operation: str, said: Said, capability: str, value: Any
) -> None:
    scripted.say[operation] = lambda _: said
    assert create(plain.service, S3_FIELDS)["capabilities"][capability] is value


def test_n1_a_storage_that_ignores_conditions_is_checked_by_us(scripted: ScriptedS3, plain: Tenant) -> None:
    def careless(asked: Asked) -> Said:
        scripted.objects[asked.key], scripted.metadata[asked.key] = asked.body, {}
        return Said(200, headers={"ETag": '"x"'})

    scripted.say["PUT"] = careless
    told = create(plain.service, S3_FIELDS)
    assert (told["capabilities"]["conditional_put"], told["capabilities"]["content_md5"], told["capabilities"]["metadata"]) == (False,) * 3
    assert told["safeguards"] == {"overwrite": "checked", "content_md5": "checked", "checksum_sha256": "checked"}


# ---- F1.13, F1.14: editing -------------------------------------------------------------------------------------
def test_f1_13_a_new_name_alone_touches_no_bucket(
    strict: S3, plain: Tenant, known: dict[str, str], monkeypatch: pytest.MonkeyPatch, calls: list[Call]
) -> None:
    made = create(plain.service, S3_FIELDS | known)

    def probe(*_: Any) -> None:
        raise AssertionError("a probe")

    monkeypatch.setattr(probing, "probe", probe)
    calls.clear()
    changed = edit(plain.service, made, name="renamed")
    assert {call.service for call in calls} == {"dynamodb"}
    assert changed == made | {"name": "renamed", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > made["updated_at"]
    same = {name: value for name, value in (S3_FIELDS | known).items() if name != "name"}
    assert edit(plain.service, made, **same)["name"] == "renamed"  # the same details are no change


CHANGES = [{"bucket_name": "another-bucket"}, {"region": "eu-west-1"}, {"remote_path": "elsewhere"}, {"remote_path": None},
           {"access_key_id": "A" * 16}, {"secret_access_key": "s" * 32},
           {"provider": "r2", "region": "auto", "endpoint_url": f"https://{R2_HOST}"}]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=_short)
def test_f1_13_and_f1_14_changed_details_are_probed_as_they_are_to_be_and_count_at_once(
    plain: Tenant, probes: list[Any], change: dict[str, Any]
) -> None:
    made = create(plain.service, S3_FIELDS)
    changed = edit(plain.service, made, **change)
    assert len(probes) == 2
    shown = {name: value for name, value in change.items() if "access_key" not in name}
    assert {name: changed[name] for name in shown} == shown
    assert listed(plain.service) == [changed]
    moved = "access_key_id" in change or "secret_access_key" in change
    assert (changed["credentials_changed_at"] > made["credentials_changed_at"]) is moved


def test_f1_13_a_change_whose_probe_fails_is_not_saved(strict: S3, plain: Tenant, known: dict[str, str]) -> None:
    made = create(plain.service, S3_FIELDS | known)
    told = edit(plain.service, made, 422, bucket_name="not-there-at-all", name="renamed")
    assert (told["code"], told["details"]["cause"]) == ("ProbeFailed", "BucketNotFound")
    assert listed(plain.service) == [made]


@pytest.mark.parametrize(("field", "value"), [each for each in REFUSED if each[1] is not None and each[1] != ""], ids=_short)
def test_an_edit_keeps_the_same_rules(plain: Tenant, probes: list[Any], field: str, value: Any) -> None:
    made = create(plain.service, S3_FIELDS)
    told = edit(plain.service, made, 400, **{field: value})
    assert told["code"] == "InvalidRequest"
    assert field in told["message"]
    assert listed(plain.service) == [made]
    assert len(probes) == 1


def test_null_takes_endpoint_and_path_away_and_leaves_the_others(plain: Tenant, probes: list[Any]) -> None:
    made = create(plain.service, R2_FIELDS)
    left = edit(plain.service, made, name=None, bucket_name=None, region=None, access_key_id=None, secret_access_key=None, provider=None)
    assert left == made | {"updated_at": left["updated_at"]}
    assert len(probes) == 1
    assert edit(plain.service, made, remote_path=None)["remote_path"] is None
    assert edit(plain.service, made, 400, endpoint_url=None)["code"] == "InvalidRequest"  # R2 needs it
    moved = edit(plain.service, made, provider="s3", region="us-east-1", endpoint_url=None)
    assert (moved["provider"], moved["endpoint_url"], moved["region"]) == ("s3", None, "us-east-1")


def test_f1_14_objects_are_not_moved_by_an_edit(strict: S3, plain: Tenant, known: dict[str, str], calls: list[Call]) -> None:
    strict.put("omega-safe/deltas/kept", b"kept", "text/plain")
    made = create(plain.service, S3_FIELDS | known)
    calls.clear()
    edit(plain.service, made, remote_path="elsewhere")
    assert [entry.key for entry in strict.list("")] == ["omega-safe/deltas/kept"]
    assert "CopyObject" not in asked_of_storages(calls)


# ---- F1.15, F1.16: deleting, and what refers to a storage ------------------------------------------------------
def test_f1_15_deleting_removes_the_record_and_asks_nothing_of_the_bucket(
    strict: S3, plain: Tenant, known: dict[str, str], calls: list[Call]
) -> None:
    strict.put("omega-safe/deltas/kept", b"kept", "text/plain")
    made = create(plain.service, S3_FIELDS | known)
    calls.clear()
    answer = delete(plain.service, made)
    assert (answer.status, answer.json()) == (200, {})
    assert {call.service for call in calls} == {"dynamodb"}
    assert listed(plain.service) == []
    assert [entry.key for entry in strict.list("")] == ["omega-safe/deltas/kept"]
    assert [item for page in Storage.pages_of(plain.tenant_id) for item in page] == []  # neither row nor name
    assert delete(plain.service, made).code == "StorageNotFound"
    assert create(plain.service, S3_FIELDS | known)["storage_uuid"] != made["storage_uuid"]


def test_f1_16_a_storage_with_buckets_can_neither_go_nor_move_and_keeps_its_other_fields_changeable(
    strict: S3, plain: Tenant, known: dict[str, str]
) -> None:
    made = create(plain.service, S3_FIELDS | known)
    for name in ("one", "two"):
        plain.service.bucket(name, storage_id=made["storage_uuid"])
    answer = delete(plain.service, made)
    assert (answer.status, answer.code) == (409, "StorageInUse")
    assert answer.json()["details"] == {"buckets": 2}
    assert "2 buckets" in answer.json()["message"]
    for change in ({"bucket_name": "other-bucket"}, {"remote_path": "other"}, {"region": "eu-west-1"}, {"remote_path": None},
                   {"provider": "r2", "region": "auto", "endpoint_url": f"https://{R2_HOST}"}):  # fmt: skip
        told = edit(plain.service, made, 409, **change)
        assert (told["code"], told["details"]) == ("StorageInUse", {"buckets": 2})
    assert edit(plain.service, made, name="renamed", remote_path="omega-safe//deltas/")["bucket_count"] == 2  # the same place
    assert edit(plain.service, made, 422, secret_access_key="s" * 40)["details"]["cause"] == "WrongSignature"
    for name in ("one", "two"):
        assert plain.service("DELETE", f"/storage/buckets/{name}").status == 200
    left = listed(plain.service)[0]["bucket_count"]
    if left == 0:
        assert delete(plain.service, made).status == 200


@pytest.mark.parametrize(("counter", "number"), [("keys", 3), ("keys", 1)])
def test_f1_16_a_storage_with_keys_cannot_go_but_may_be_pointed_elsewhere(
    plain: Tenant, probes: list[Any], counter: str, number: int
) -> None:
    made = create(plain.service, S3_FIELDS)
    Storage(plain.tenant_id, made["storage_uuid"]).change([getattr(Storage, counter).set(number)], Storage.storage_id.exists())
    answer = delete(plain.service, made)
    assert (answer.status, answer.code, answer.json()["details"]) == (409, "StorageInUse", {counter: number})
    assert f"{number} keys" in answer.json()["message"]
    moved = edit(plain.service, made, bucket_name="other-bucket")
    assert (moved["bucket_name"], moved["key_count"]) == ("other-bucket", number)


# ---- F1.1: unique names ----------------------------------------------------------------------------------------
def test_a_name_is_taken_once_in_a_tenant_and_free_in_another(plain: Tenant, probes: list[Any], new_tenant: Any) -> None:
    made = create(plain.service, S3_FIELDS)
    told = create(plain.service, S3_FIELDS | {"bucket_name": "another-bucket"}, 409)
    assert told["code"] == "StorageExists"
    assert len(probes) == 1  # a name that is taken is not worth a probe
    other = create(plain.service, S3_FIELDS | {"name": "Production_s3"})  # case tells names apart
    assert edit(plain.service, other, 409, name=made["name"])["code"] == "StorageExists"
    assert edit(plain.service, made, name=made["name"])["name"] == made["name"]
    create(new_tenant().service, S3_FIELDS)
    renamed = edit(plain.service, made, name="renamed")
    assert edit(plain.service, other, name=made["name"])["name"] == made["name"]  # left behind by the other
    assert [row["name"] for row in listed(plain.service)] == [renamed["name"], made["name"]]


def test_a_name_of_the_backups_surface_is_another(plain: Tenant, probes: list[Any]) -> None:
    fields = {"name": "production_s3", "provider": "filesystem", "bucket": "b"}
    assert plain.service("POST", "/api/v1/backups/storage-configs", fields).status == 201
    made = create(plain.service, S3_FIELDS)
    assert [row["storage_uuid"] for row in listed(plain.service)] == [made["storage_uuid"]]
    configs = plain.service("GET", "/api/v1/backups/storage-configs").json()
    assert [row["provider"] for row in configs] == ["filesystem"]
    for asked in (
        edit(plain.service, {"storage_uuid": configs[0]["id"]}, 404, name="x"),
        delete(plain.service, {"storage_uuid": configs[0]["id"]}).json(),
    ):
        assert asked["code"] == "StorageNotFound"


def test_of_eight_that_want_one_name_at_once_one_gets_it(strict: S3, plain: Tenant, known: dict[str, str]) -> None:
    """Each has a path of its own: the seed's test object is one object."""
    fields = [S3_FIELDS | known | {"remote_path": f"of-{number}"} for number in range(8)]
    answers = together([lambda each=each: plain.service("POST", "/storages/create", each) for each in fields])  # type: ignore[misc]
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    (row,) = listed(plain.service)
    assert row["storage_uuid"] == next(answer.json()["storage_uuid"] for answer in answers if answer.status == 201)
    names = [item for page in Storage.pages_of(plain.tenant_id) for item in page if item["storage_id"]["S"].startswith(StorageName.PREFIX)]
    assert [name["taken_by"]["S"] for name in names] == [row["storage_uuid"]]


def test_of_eight_renames_to_one_name_at_once_one_succeeds(plain: Tenant, probes: list[Any]) -> None:
    made = [create(plain.service, S3_FIELDS | {"name": f"n{number}"}) for number in range(8)]
    answers = together(
        [
            lambda each=each: plain.service("PATCH", "/storages/edit", {"storage_uuid": each["storage_uuid"], "name": "wanted"})
            for each in made
        ]  # type: ignore[misc]
    )
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7
    assert sorted(row["name"] for row in listed(plain.service)).count("wanted") == 1
    names = [item for page in Storage.pages_of(plain.tenant_id) for item in page if item["storage_id"]["S"].startswith(StorageName.PREFIX)]
    assert len(names) == 8


# ---- F1.17: routes and ids -------------------------------------------------------------------------------------
def test_f1_17_delete_takes_the_id_in_the_body_or_in_the_query(plain: Tenant, probes: list[Any]) -> None:
    made = [create(plain.service, S3_FIELDS | {"name": f"n{number}"}) for number in range(4)]
    ids = [row["storage_uuid"] for row in made]
    service = plain.service
    assert service("DELETE", "/storages/delete", {"storage_uuid": ids[0]}).status == 200
    assert service("DELETE", f"/storages/delete?storage_uuid={ids[1]}").status == 200
    assert service("DELETE", f"/storages/delete?storage_uuid={ids[2].upper()}", {"storage_uuid": ids[2]}).status == 200
    contradiction = service("DELETE", f"/storages/delete?storage_uuid={ids[3]}", {"storage_uuid": UNKNOWN})
    assert (contradiction.status, contradiction.code) == (400, "InvalidRequest")
    for nothing in (
        service("DELETE", "/storages/delete"),
        service("DELETE", "/storages/delete", {}),
        service("DELETE", "/storages/delete", {"storage_uuid": 5}),
    ):
        assert (nothing.status, nothing.code) == (400, "InvalidRequest")
    assert [row["storage_uuid"] for row in listed(service)] == [ids[3]]
    assert service("DELETE", f"/storages/delete?storage_uuid={ids[3].upper()}").status == 200


def test_an_id_is_taken_in_capitals(plain: Tenant, probes: list[Any]) -> None:
    made = create(plain.service, S3_FIELDS)
    assert edit(plain.service, {"storage_uuid": made["storage_uuid"].upper()}, name="x")["storage_uuid"] == made["storage_uuid"]


@pytest.mark.parametrize("form", [lambda each: each.replace("-", ""), lambda each: "{" + each + "}", lambda each: "x"])
def test_an_id_that_is_not_hyphenated_is_400(plain: Tenant, probes: list[Any], form: Callable[[str], str]) -> None:
    made = create(plain.service, S3_FIELDS)
    other = form(made["storage_uuid"])
    assert plain.service("PATCH", "/storages/edit", {"storage_uuid": other, "name": "x"}).status == 400
    assert plain.service("DELETE", "/storages/delete", {"storage_uuid": other}).status == 400
    assert plain.service("GET", f"/storages/policy?storage_uuid={other}").status == 400


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/storages/edit", {"storage_uuid": UNKNOWN, "name": "x"}), ("DELETE", "/storages/delete", {"storage_uuid": UNKNOWN}),
        ("DELETE", f"/storages/delete?storage_uuid={UNKNOWN}", None), ("GET", f"/storages/policy?storage_uuid={UNKNOWN}", None),
        ("GET", f"/storages/cors?storage_uuid={UNKNOWN}", None),
    ],
)  # fmt: skip
def test_a_storage_that_is_not_there_or_another_tenants_is_404(
    plain: Tenant, probes: list[Any], new_tenant: Any, method: str, path: str, body: Any
) -> None:
    theirs = create(new_tenant().service, S3_FIELDS)["storage_uuid"]
    for storage_id in (UNKNOWN, theirs):
        sent = None if body is None else json.loads(json.dumps(body).replace(UNKNOWN, storage_id))
        answer = plain.service(method, path.replace(UNKNOWN, storage_id), sent)
        assert (answer.status, answer.code) == (404, "StorageNotFound")


def test_names_of_storages_are_not_ids(plain: Tenant, probes: list[Any]) -> None:
    """The row that keeps a name lies beside the storages."""
    create(plain.service, S3_FIELDS)
    for storage_id in ("name%23vault%23production_s3", "name#vault#production_s3"):
        assert plain.service("GET", f"/storages/policy?storage_uuid={storage_id}").status in (400, 404)
        assert plain.service("DELETE", "/storages/delete", {"storage_uuid": storage_id}).status in (400, 404)


def test_the_list_is_by_age(plain: Tenant, probes: list[Any]) -> None:
    for name in ("z", "a", "m"):
        create(plain.service, S3_FIELDS | {"name": name})
    assert [row["name"] for row in listed(plain.service)] == ["z", "a", "m"]


def test_wrong_methods_are_405(plain: Tenant) -> None:
    for method, path in (("GET", "/storages/create"), ("POST", "/storages/list"), ("PUT", "/storages/edit"), ("GET", "/storages/delete")):
        answer = plain.service(method, path)
        assert (answer.status, answer.code) == (405, "MethodNotAllowed")


# ---- F1.18: credentials ----------------------------------------------------------------------------------------
def test_f1_18_credentials_are_sealed_and_never_shown(plain: Tenant, probes: list[Any]) -> None:
    made = create(plain.service, S3_FIELDS)
    service, storage_id = plain.service, made["storage_uuid"]
    answers = [
        service("GET", "/storages/list"),
        service("GET", f"/storages/policy?storage_uuid={storage_id}"),
        service("GET", f"/storages/cors?storage_uuid={storage_id}"),
        service("PATCH", "/storages/edit", {"storage_uuid": storage_id, "name": "x"}),
        service("POST", "/storages/create", S3_FIELDS | {"name": "x"}),
        service("POST", "/storages/create", S3_FIELDS | {"region": "x"}),
    ]
    rows = json.dumps([item for page in Storage.pages_of(plain.tenant_id) for item in page])
    for secret in (S3_FIELDS["access_key_id"], S3_FIELDS["secret_access_key"]):
        assert secret not in rows
        assert secret not in json.dumps(made)
        assert all(secret.encode() not in answer.body for answer in answers)


# ---- F1.19, F1.20, F1.22: papers -------------------------------------------------------------------------------
PUBLISHED_POLICY = """{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "s3:ListBucket",
      "Resource": "arn:aws:s3:::YOUR-BUCKET-NAME"
    },
    {
      "Effect": "Allow",
      "Action": [
        "s3:GetObject",
        "s3:PutObject"
      ],
      "Resource": "arn:aws:s3:::YOUR-BUCKET-NAME/*"
    }
  ]
}"""
PUBLISHED_CORS = """[
  {
    "AllowedOrigins": ["https://app.omega-safe.com"],
    "AllowedMethods": [%s"GET", "HEAD"],
    "AllowedHeaders": ["*"],
    "ExposeHeaders": [],
    "MaxAgeSeconds": 300
  }
]"""
CORS = {"s3": PUBLISHED_CORS % '"PUT", ', "r2": PUBLISHED_CORS % '"PUT", "POST", '}


def _compact(text: str) -> bytes:
    """The same document, members in the same order, written as answers are."""
    return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False).encode()


def test_the_papers_here_are_those_that_are_published() -> None:
    assert _sha256(PUBLISHED_POLICY) == PUBLISHED["policy"]
    assert {f"cors of {kind}": _sha256(rules) for kind, rules in CORS.items()}.items() <= PUBLISHED.items()


def test_f1_19_the_policy_is_the_published_one_with_the_buckets_name(plain: Tenant, probes: list[Any]) -> None:
    made = create(plain.service, S3_FIELDS)
    answer = plain.service("GET", f"/storages/policy?storage_uuid={made['storage_uuid']}")
    policy = _compact(PUBLISHED_POLICY.replace("YOUR-BUCKET-NAME", "my-production-bucket"))
    assert b'"policy":' + policy + b"," in answer.body
    told = answer.json()
    more = json.dumps(told["policy_with_optional"])
    assert all(f'"{right}"' in more for right in ("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"))
    assert told["storage_uuid"] == made["storage_uuid"]
    words = " ".join(told["permissions"])
    assert all(right in words for right in ("s3:ListBucket", "s3:GetObject", "s3:PutObject"))
    assert "s3:DeleteObject" not in words
    assert "s3:DeleteObject" in " ".join(told["optional"])


@pytest.mark.parametrize(("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_f1_19_the_policy_names_the_partition_of_the_region(plain: Tenant, probes: list[Any], region: str, partition: str) -> None:
    made = create(plain.service, S3_FIELDS | {"region": region})
    policy = plain.service("GET", f"/storages/policy?storage_uuid={made['storage_uuid']}").json()["policy"]
    assert {statement["Resource"].split(":")[1] for statement in policy["Statement"]} == {partition}


def test_f1_22_r2_needs_the_same_rights_in_its_own_words(plain: Tenant, probes: list[Any]) -> None:
    made = create(plain.service, R2_FIELDS)
    told = plain.service("GET", f"/storages/policy?storage_uuid={made['storage_uuid']}").json()
    assert told["policy"] is None
    assert (told["permissions"], told["optional"]) == (["Bucket LIST", "Object GET", "Object PUT"], ["Object DELETE"])


def test_f1_22_a_storage_that_permits_no_more_than_the_policy_passes_the_probe(scripted: ScriptedS3, plain: Tenant) -> None:
    for operation in ("DELETE", "VERSIONING", "ABORT", "OTHER"):
        scripted.say[operation] = lambda _: Said(403, error("AccessDenied"))
    made = create(plain.service, S3_FIELDS)
    assert (made["status"], made["capabilities"]["can_delete"], made["capabilities"]["versioning"]) == ("healthy", False, None)


@pytest.mark.parametrize(("provider", "fields"), [("s3", S3_FIELDS), ("r2", R2_FIELDS)])
def test_f1_20_the_cors_rules_are_the_published_ones(
    plain: Tenant, probes: list[Any], choose: Callable[[str, str], None], provider: str, fields: dict[str, Any]
) -> None:
    choose("STOWAGE_CORS_ORIGINS", "https://app.omega-safe.com")
    made = create(plain.service, fields)
    answer = plain.service("GET", f"/storages/cors?storage_uuid={made['storage_uuid']}")
    assert answer.body == b'{"storage_uuid":"' + made["storage_uuid"].encode() + b'","cors":' + _compact(CORS[provider]) + b"}"


# ---- who may ---------------------------------------------------------------------------------------------------
ROUTES = [(route.method, route.path) for route in SURFACE.routes if route.path.startswith("/storages/")]
RIGHTS = {"org.storage.create": "create", "org.storage.list": "list", "org.storage.update": "edit", "org.storage.delete": "delete"}


def may(client: Client, storage_id: str, number: int) -> set[str]:
    """What a client may do, told by trying: a storage that is not there is not found by whoever may look for it."""
    tries = {
        "create": ("POST", "/storages/create", S3_FIELDS | {"name": f"new-{number}"}),
        "list": ("GET", "/storages/list", None),
        "policy": ("GET", f"/storages/policy?storage_uuid={storage_id}", None),
        "cors": ("GET", f"/storages/cors?storage_uuid={storage_id}", None),
        "edit": ("PATCH", "/storages/edit", {"storage_uuid": storage_id, "name": f"edited-{number}"}),
        "delete": ("DELETE", "/storages/delete", {"storage_uuid": UNKNOWN}),
    }
    answers = {name: client(method, path, body) for name, (method, path, body) in tries.items()}
    assert {answer.status for answer in answers.values()} <= {200, 201, 403, 404}, {name: each.body for name, each in answers.items()}
    assert all(answer.code == "Forbidden" for answer in answers.values() if answer.status == 403)
    return {name for name, answer in answers.items() if answer.status != 403}


READS = {"list", "policy", "cors"}
EVERYTHING = READS | {"create", "edit", "delete"}


def test_each_permission_permits_its_own_routes_and_no_other(plain: Tenant, probes: list[Any]) -> None:
    from chalicelib.access.principals import Permission, Role

    storage_id = create(plain.service, S3_FIELDS)["storage_uuid"]
    for number, (permission, act) in enumerate(RIGHTS.items()):
        key, _ = tenants.create_key(plain.tenant_id, Role.CUSTOM, "ci", [Permission(permission)])
        expected = READS if act == "list" else {act}
        assert may(plain.nobody.using(key), storage_id, number) == expected
        assert may(plain.user(permissions=[permission]), storage_id, 10 + number) == expected
        assert may(plain.user(permissions=f"other {permission}"), storage_id, 20 + number) == expected
    backups, _ = tenants.create_key(plain.tenant_id, Role.CUSTOM, "ci", [each for each in Permission if "storage" not in each.value])
    assert may(plain.nobody.using(backups), storage_id, 30) == set()


@pytest.mark.parametrize(
    ("role", "expected"),
    [("org_admin", EVERYTHING), ("org_member", READS), ("org_viewer", READS), ("authenticated", set()), ("service", set()),
     ("admin", set()), ("ORG_ADMIN", set())],
)  # fmt: skip
def test_a_role_permits_what_its_set_says(plain: Tenant, probes: list[Any], role: str, expected: set[str]) -> None:
    storage_id = create(plain.service, S3_FIELDS)["storage_uuid"]
    assert may(plain.user(role=role), storage_id, 0) == expected


def test_the_service_key_may_everything_anon_nothing_and_nobody_is_401(
    plain: Tenant, probes: list[Any], choose: Callable[[str, str], None]
) -> None:
    storage_id = create(plain.service, S3_FIELDS)["storage_uuid"]
    assert may(plain.service, storage_id, 0) == EVERYTHING
    assert may(plain.anon, storage_id, 1) == set()
    for default in ("", plain.tenant_id):
        choose("STOWAGE_DEFAULT_TENANT", default)
        for method, path in ROUTES:
            answer = plain.nobody(
                method, f"{path}?storage_uuid={storage_id}", S3_FIELDS | {"storage_uuid": storage_id} if method != "GET" else None
            )
            assert (answer.status, answer.code) == (401, "Unauthorized")
            assert "www-authenticate" in answer.headers


# ---- what the platform allows ----------------------------------------------------------------------------------
def test_f4_probes_are_limited(plain: Tenant, probes: list[Any], choose: Callable[[str, str], None]) -> None:
    choose("STOWAGE_PROBES_PER_MINUTE", "2")
    made = [create(plain.service, S3_FIELDS | {"name": f"n{number}"}) for number in range(2)]
    answer = plain.service("POST", "/storages/create", S3_FIELDS | {"name": "third"})
    assert (answer.status, answer.code) == (429, "Throttled")
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert (len(probes), len(listed(plain.service))) == (2, 2)
    assert edit(plain.service, made[0], name="renamed")["name"] == "renamed"  # which probes nothing
    assert edit(plain.service, made[0], 429, remote_path="x")["code"] == "Throttled"
