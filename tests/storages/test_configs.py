"""Storage configs on the backups surface (seed 001): the lines of F5, and of F4 as far as they show here."""

import base64
import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from chalicelib.core import probing, storage_rules, storages, tenants
from chalicelib.core.probing import Result
from chalicelib.providers import Capabilities
from chalicelib.providers.s3 import S3
from chalicelib.surfaces.backups.routes import SURFACE
from chalicelib.tables.storages import Storage
from tests.client import Answer, Client, together
from tests.conftest import Call, Tenant
from tests.servers.asyncssh_server import asyncssh_server
from tests.servers.openssh import openssh
from tests.storages.conftest import Fields, Servers
from tests.storages.scripted_s3 import Said, ScriptedS3, error, scripted_s3

BASE = "/api/v1/backups"
CONFIGS = f"{BASE}/storage-configs"
TRY = f"{CONFIGS}/test-connection"
UNKNOWN = "00000000-0000-4000-8000-00000000abcd"
ACCOUNT = "a1b2c3d4e5f60718293a4b5c6d7e8f90"
R2_HOST = f"{ACCOUNT}.r2.cloudflarestorage.com"
B2_HOST = "s3.us-west-004.backblazeb2.com"
KEYS = {"access_key": "0041234567890ab0000000001", "secret_key": "K004AbCdEfGhIjKlMnOpQrStUvWxYz0"}  # 31 characters, as B2's are
# Seed 001, "Create Storage Configuration", with an account id and keys that look like some.
PUBLISHED: Fields = {
    "name": "Production Backups",
    "provider": "cloudflare_r2",
    "bucket": "oecsh-backups",
    "account_id": ACCOUNT,
    "access_key": "f0e1d2c3b4a5968778695a4b3c2d1e0f",
    "secret_key": "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "path_prefix": "backups/",
    "is_default": True,
}
VALID: dict[str, Fields] = {
    "aws_s3": {"bucket": "my-bucket", "region": "eu-west-1", **KEYS},
    "cloudflare_r2": {"bucket": "my-bucket", "account_id": ACCOUNT, **KEYS},
    "backblaze_b2": {"bucket": "my-bucket", "endpoint_url": B2_HOST, **KEYS},
    "minio": {"bucket": "my-bucket", "endpoint_url": "http://minio.example.com:9000", **KEYS},
    "sftp": {"bucket": "/srv/backups", "host": "sftp.example.com", **KEYS},
    "ftp": {"bucket": "/", "host": "ftp.example.com", **KEYS},
    "digitalocean_spaces": {"bucket": "my-bucket", "region": "fra1", **KEYS},
    "wasabi": {"bucket": "my-bucket", "region": "eu-central-1", **KEYS},
    "s3_compatible": {"bucket": "my-bucket", "endpoint_url": "https://s3.example.com", **KEYS},
    "azure_blob": {"bucket": "my-container", "access_key": "account01", "secret_key": base64.b64encode(b"k" * 64).decode()},
    "filesystem": {"bucket": "own"},
}
for _kind, _fields in VALID.items():
    _fields |= {"name": f"on {_kind}", "provider": _kind}
SEED_FIELDS = {
    "id", "organization_id", "name", "provider", "bucket", "region", "endpoint_url", "path_prefix", "storage_class", "is_default",
    "is_active", "total_size_bytes", "object_count", "last_used_at", "created_at", "updated_at",
}  # fmt: skip
OUR_FIELDS = {
    "host", "port", "tls", "host_key", "status", "status_reason", "capabilities", "safeguards", "probed_at", "bucket_count",
    "bucket_object_count", "bucket_size_bytes", "credentials_changed_at",
}  # fmt: skip
SEED_TEST_FIELDS = {"success", "message", "bucket_exists", "can_write", "can_read", "latency_ms"}


@pytest.fixture
def plain(new_tenant: Any, every_kind: None) -> Tenant:
    """A tenant without storages."""
    made: Tenant = new_tenant()
    return made


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, settings_again: Callable[[], None]) -> Callable[..., None]:
    """Sets settings for one test, by their names without `STOWAGE_`."""

    def put(**chosen: str) -> None:
        for name, value in chosen.items():
            monkeypatch.setenv(f"STOWAGE_{name}", value)
        settings_again()

    return put


@pytest.fixture
def scripted(every_kind: None) -> Iterator[ScriptedS3]:
    with scripted_s3() as server:
        yield server


def on(server: ScriptedS3, **more: Any) -> Fields:
    """A storage on a server that says what it is told to."""
    return {"name": "scripted", "provider": "s3_compatible", "bucket": "scripted", "endpoint_url": server.endpoint, **KEYS, **more}


def create(client: Client, fields: Fields, status: int = 201) -> Any:
    answer = client("POST", CONFIGS, fields)
    assert answer.status == status, answer.body
    return answer.json()


def change(client: Client, config: Fields, status: int = 200, **changes: Any) -> Any:
    answer = client("PATCH", f"{CONFIGS}/{config['id']}", changes)
    assert answer.status == status, answer.body
    return answer.json()


def shown(client: Client, config: Fields) -> Any:
    answer = client("GET", f"{CONFIGS}/{config['id']}")
    assert answer.status == 200, answer.body
    return answer.json()


def listed(client: Client) -> list[Fields]:
    answer = client("GET", CONFIGS)
    assert answer.status == 200, answer.body
    rows: list[Fields] = answer.json()
    return rows


def tried(client: Client, fields: Fields) -> Any:
    answer = client("POST", TRY, fields)
    assert answer.status == 200, answer.body
    assert answer.json().keys() >= SEED_TEST_FIELDS
    return answer.json()


def tried_saved(client: Client, config: Fields) -> Any:
    answer = client("POST", f"{CONFIGS}/{config['id']}/test")
    assert answer.status == 200, answer.body
    return answer.json()


def is_refused(answer: Answer, status: int, *words: str) -> None:
    assert answer.status == status, answer.body
    assert answer.json().keys() == {"detail"}
    assert isinstance(answer.json()["detail"], str)
    for word in words:
        assert word in answer.json()["detail"]


# ---- F5.1 to F5.4: creating ------------------------------------------------------------------------------------
def test_f5_1_to_f5_4_the_published_example_is_answered_as_published(plain: Tenant, calls: list[Call]) -> None:
    answer = plain.service("POST", f"{CONFIGS}?organization_id={plain.tenant_id}", PUBLISHED)
    assert answer.status == 201
    made = answer.json()
    assert made.keys() == SEED_FIELDS | OUR_FIELDS
    uuid.UUID(made["id"])
    for moment in ("created_at", "updated_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", made[moment])
    assert {name: made[name] for name in SEED_FIELDS - {"id", "created_at", "updated_at"}} == {
        "organization_id": plain.tenant_id, "name": "Production Backups", "provider": "cloudflare_r2", "bucket": "oecsh-backups",
        "region": "auto", "endpoint_url": None, "path_prefix": "backups/", "storage_class": None, "is_default": True, "is_active": True,
        "total_size_bytes": 0, "object_count": 0, "last_used_at": None,
    }  # fmt: skip
    assert (made["status"], made["capabilities"], made["probed_at"], made["host"], made["port"], made["tls"]) == ("untested", *[None] * 5)
    assert not [call for call in calls if call.service == "s3"]  # tested when it is asked for
    for secret in (PUBLISHED["access_key"], PUBLISHED["secret_key"], ACCOUNT):
        assert secret.encode() not in answer.body
    assert listed(plain.service) == [shown(plain.service, made)] == [made]


def test_the_forms_other_example_is_taken(plain: Tenant) -> None:
    """Seed 001, step 3; and its examples of a test, whose words for ids are refused as no account id."""
    fields = {name: value for name, value in PUBLISHED.items() if name != "is_default"} | {"name": "Cloudflare R2 Production"}
    assert create(plain.service, fields)["is_default"] is False
    example = {"name": "Test Config", "provider": "cloudflare_r2", "bucket": "test-bucket", "account_id": "account-id",
               "access_key": "access-key", "secret_key": "secret-key"}  # fmt: skip
    is_refused(plain.service("POST", TRY, example), 422, "account_id")


@pytest.mark.parametrize("kind", VALID)
def test_f5_6_a_storage_of_each_kind_is_made(plain: Tenant, kind: str) -> None:
    made = create(plain.service, VALID[kind])
    expected = {name: value for name, value in VALID[kind].items() if name in made and name != "endpoint_url"}
    assert {name: made[name] for name in expected} == expected
    assert made["port"] == {"sftp": 22, "ftp": 21}.get(kind)
    assert made["tls"] == ("explicit" if kind == "ftp" else None)
    assert made["region"] == {
        "aws_s3": "eu-west-1", "cloudflare_r2": "auto", "backblaze_b2": "us-west-004", "minio": "us-east-1", "s3_compatible": "us-east-1",
        "digitalocean_spaces": "fra1", "wasabi": "eu-central-1",
    }.get(kind)  # fmt: skip


# ---- the fields' rules, by provider ----------------------------------------------------------------------------
S3_KINDS = ("aws_s3", "cloudflare_r2", "backblaze_b2", "minio", "digitalocean_spaces", "wasabi", "s3_compatible")
TAKEN: list[tuple[str, Fields]] = [
    *((kind, {"bucket": bucket}) for kind in S3_KINDS for bucket in ("abc", "b" * 63, "a.b-c")),
    *((kind, {"path_prefix": prefix}) for kind in VALID for prefix in ("p" * 1024, "a//b/", "", None)),
    *(("aws_s3", {"storage_class": each}) for each in ("STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "", None)),
    ("aws_s3", {"region": "cn-north-1"}),
    ("aws_s3", {"endpoint_url": ""}),
    ("cloudflare_r2", {"region": "auto"}),
    ("cloudflare_r2", {"account_id": None, "endpoint_url": f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com"}),
    ("cloudflare_r2", {"endpoint_url": f"https://{R2_HOST}/"}),
    ("backblaze_b2", {"endpoint_url": f"https://{B2_HOST}"}),
    ("backblaze_b2", {"endpoint_url": f"https://{B2_HOST}/", "region": "us-west-004"}),
    ("minio", {"endpoint_url": "https://minio.example.com:9000", "region": "home-1"}),
    ("minio", {"endpoint_url": "http://127.0.0.1:9000"}),
    ("minio", {"endpoint_url": "http://[::1]:9000/"}),
    ("s3_compatible", {"endpoint_url": "http://s3.example.com"}),
    ("s3_compatible", {"endpoint_url": "https://s3.example.com:8443", "region": "r" * 40}),
    *(("sftp", {"port": port}) for port in (1, 2222, 65535, None)),
    *((kind, {"bucket": bucket}) for kind in ("sftp", "ftp") for bucket in (".", "/", "a b/é", "/" + "a" * 1023, "a..b")),
    *((kind, {"host": host}) for kind in ("sftp", "ftp") for host in ("a", "a.example.", "127.0.0.1", "::1", "a_b-c.example")),
    *((kind, {"secret_key": "p@ss: w/rd%41 é"}) for kind in ("sftp", "ftp")),
    *(("ftp", {"tls": tls}) for tls in ("explicit", "implicit", "none", None)),
    ("sftp", {"host_key": "ssh-ed25519 " + "A" * 68}),
    *(("azure_blob", {"bucket": bucket}) for bucket in ("abc", "a-b-c", "c" * 63)),
    *(("azure_blob", {"access_key": account}) for account in ("abc", "a" * 24)),
    ("azure_blob", {"endpoint_url": "https://account01.blob.core.windows.net"}),
    *(("filesystem", {"bucket": bucket}) for bucket in ("a", "A.b_c-d", "f" * 100)),
]  # fmt: skip
# By provider: what is refused, and the field that is at fault.
REFUSED: list[tuple[str, Fields, str]] = [
    *((kind, {"name": name}, "name") for kind in ("aws_s3",) for name in ("", " ", "n" * 256, "a\n", "a\0", 5, None)),
    *((kind, {"bucket": bucket}, "bucket") for kind in S3_KINDS
      for bucket in ("ab", "b" * 64, "192.168.0.1", "a..b", "-ab", "ab-", "Abc", "", None, 5)),
    *((kind, {"path_prefix": prefix}, "path_prefix") for kind in VALID for prefix in ("p" * 1025, "/a", "a/../b", "a\\b", "a\0", "a?b", 5)),
    *((kind, {field: value}, field) for kind in ("aws_s3", "minio", "sftp", "azure_blob") for field in ("access_key", "secret_key")
      for value in ("", None, "k" * 513, "a\nb", "a\0b", 5)),
    *(("aws_s3", {"access_key": value}, "access_key") for value in (" key", "key ", "k y", "é")),
    *(("aws_s3", {"region": region}, "region") for region in ("", None, "auto", "us-east-9", "eu_west_1", "us-east-1 ")),
    *(("aws_s3", {"storage_class": each}, "storage_class") for each in ("GLACIER", "DEEP_ARCHIVE", "standard", "A" * 41, "A B")),
    *(("aws_s3", {"endpoint_url": each}, "endpoint_url") for each in ("https://s3.amazonaws.com", "x")),
    *((kind, {"endpoint_url": "https://a.example"}, "endpoint_url") for kind in ("digitalocean_spaces", "wasabi", "cloudflare_r2")),
    *(("cloudflare_r2", {"account_id": each}, "account_id")
      for each in (ACCOUNT[:31], ACCOUNT + "0", "g" * 32, "account-id", f"{ACCOUNT}\n", 5)),
    *(("cloudflare_r2", {"region": each}, "region") for each in ("us-east-1", "weur")),
    *(("cloudflare_r2", {"account_id": None, "endpoint_url": each}, "endpoint_url")
      for each in (f"https://{R2_HOST}/oecsh-backups", f"https://oecsh-backups.{R2_HOST}", f"http://{R2_HOST}")),
    *(("backblaze_b2", {"endpoint_url": each}, "endpoint_url")
      for each in ("", None, f"http://{B2_HOST}", f"{B2_HOST}/bucket", f"bucket.{B2_HOST}", f"{B2_HOST}:443", f"{B2_HOST}?x",
                   "s3.backblazeb2.com",
                   "a.example", f"u@{B2_HOST}", f"{B2_HOST}.a.example", "f004.backblazeb2.com", f"ftp://{B2_HOST}")),
    ("backblaze_b2", {"region": "eu-central-003"}, "region"),
    *(("minio", {"endpoint_url": each}, "endpoint_url")
      for each in ("", None, "minio.example.com:9000", "http://minio.example.com", "https://minio.example.com", "ftp://minio.example.com:9000",
                   "http://minio.example.com:0", "http://minio.example.com:65536", "http://minio.example.com:x",
                   "http://u:p@minio.example.com:9000",
                   "http://minio.example.com:9000/bucket", "http://minio.example.com:9000?x", "http://minio.example.com:9000#x", "http://:9000")),
    *(("s3_compatible", {"region": each}, "region") for each in ("EU", "a b", "r" * 41, "a.b", "é")),
    *((kind, {"region": None}, "region") for kind in ("digitalocean_spaces", "wasabi")),
    *((kind, {"host": each}, "host") for kind in ("sftp", "ftp")
      for each in ("", None, "a b", "sftp://a", "a/b", "u@a", "x.example:22", "[::1]", "a\n", "é.example", "a" * 254, "a?b", "-a",
                   "a\\b", 5)),
    *((kind, {"port": each}, "port") for kind in ("sftp", "ftp") for each in (0, -1, 65536, "22", 22.5, True)),
    *((kind, {"bucket": each}, "bucket") for kind in ("sftp", "ftp") for each in ("", "a/../b", "..", "a\nb", "a\0", "b" * 1025, None)),
    *(("ftp", {"tls": each}, "tls") for each in ("starttls", "TRUE", "tls", True)),
    *(("sftp", {"host_key": each}, "host_key")
      for each in ("x", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 " + "A" * 68 + " me@here", "A" * 2101)),
    *(("sftp", {"private_key": each}, "private_key")
      for each in ("x", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----", "k" * 16_385)),
    *(("azure_blob", {"bucket": each}, "bucket") for each in ("ab", "c" * 64, "a--b", "-ab", "ab-", "Abc", "a.b", "$root")),
    *(("azure_blob", {"access_key": each}, "access_key") for each in ("ab", "a" * 25, "Account", "a-b", "a.b", "a/b")),
    *(("azure_blob", {"endpoint_url": each}, "endpoint_url") for each in ("http://a.example", "a.example", "https://a.example/container")),
    *(("filesystem", {"bucket": each}, "bucket") for each in ("", "f" * 101, ".", "..", ".a", "a/b", "/etc", "a b", "é", "a\0")),
    # what a provider does not have
    *((kind, {field: value}, field) for kind in S3_KINDS
      for field, value in (("host", "a"), ("port", 1), ("tls", "none"), ("host_key", "a"), ("private_key", "a"))),
    *((kind, {"account_id": ACCOUNT}, "account_id") for kind in VALID if kind != "cloudflare_r2"),
    *((kind, {field: "a"}, field) for kind in ("sftp", "ftp", "filesystem") for field in ("endpoint_url", "region", "storage_class")),
    *(("ftp", {field: "a"}, field) for field in ("host_key", "private_key")),
    ("sftp", {"tls": "none"}, "tls"),
    *(("azure_blob", {field: "a"}, field) for field in ("host", "tls", "region", "storage_class", "private_key")),
    *(("filesystem", {field: "a"}, field) for field in ("access_key", "secret_key", "host")),
    *(("aws_s3", {"is_default": each}, "is_default") for each in ("true", 1, None)),
]  # fmt: skip


def test_f5_2_what_the_rules_allow_is_taken(plain: Tenant) -> None:
    for kind, fields in TAKEN:
        answer = plain.service("POST", CONFIGS, VALID[kind] | fields)
        assert answer.status == 201, (kind, fields, answer.body)
        assert plain.service("DELETE", f"{CONFIGS}/{answer.json()['id']}").status == 200  # a tenant has at most 100


@pytest.mark.parametrize("kind", VALID)
def test_f5_2_what_they_forbid_is_422_naming_the_field_and_nothing_is_saved(plain: Tenant, kind: str) -> None:
    for fields, field in [(fields, field) for of, fields, field in REFUSED if of == kind]:
        for path in (CONFIGS, TRY):
            if path == TRY and isinstance(fields.get("name"), str):
                continue  # a storage that is not saved needs no name that may be
            answer = plain.service("POST", path, VALID[kind] | fields)
            assert answer.status == 422, (fields, answer.body)
            is_refused(answer, 422, field)
    assert listed(plain.service) == []


def test_a_host_with_a_port_that_could_be_hexadecimal_is_422(plain: Tenant) -> None:
    is_refused(plain.service("POST", CONFIGS, VALID["sftp"] | {"host": "a:22"}), 422, "host")


@pytest.mark.parametrize("endpoint", ["[", "https://[", "https://[x]/", "https://a\u2100b"])
def test_an_endpoint_of_b2_that_is_no_url_is_422(plain: Tenant, endpoint: str) -> None:
    is_refused(plain.service("POST", CONFIGS, VALID["backblaze_b2"] | {"endpoint_url": endpoint}), 422, "endpoint_url")


def test_a_private_key_that_contradicts_itself_is_422(plain: Tenant) -> None:
    form = serialization.PrivateFormat.OpenSSH
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    lines = key.strip().splitlines()
    raw = bytearray(base64.b64decode("".join(lines[1:-1])))
    raw[-30] ^= 1
    key = "\n".join([lines[0], base64.b64encode(bytes(raw)).decode(), lines[-1]])
    is_refused(plain.service("POST", CONFIGS, VALID["sftp"] | {"private_key": key}), 422, "private_key")


@pytest.mark.parametrize("provider", ["r2", "AWS_S3", "gcs", "", "../x", 5, None, ["aws_s3"], "x" * 3000])
def test_f5_6_a_provider_that_nobody_knows_is_422(plain: Tenant, provider: Any) -> None:
    is_refused(plain.service("POST", CONFIGS, VALID["aws_s3"] | {"provider": provider}), 422, "provider")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"1", b"\xff\xfe", b'{"name": NaN}', b'{"name": "\\ud800"}'])
def test_f5_20_a_body_that_is_no_json_object_is_422(plain: Tenant, body: bytes) -> None:
    config = create(plain.service, VALID["filesystem"])
    for method, path in (("POST", CONFIGS), ("POST", TRY), ("PATCH", f"{CONFIGS}/{config['id']}")):
        is_refused(plain.service(method, path, body), 422)


def test_f5_5_r2_without_an_account_id_is_told_in_the_seeds_words(plain: Tenant) -> None:
    fields = {name: value for name, value in PUBLISHED.items() if name != "account_id"}
    for path in (CONFIGS, TRY):
        for given in (fields, fields | {"account_id": ""}, fields | {"account_id": None}):
            answer = plain.service("POST", path, given)
            assert (answer.status, answer.json()) == (422, {"detail": "Account ID is required for Cloudflare R2"})


@pytest.mark.parametrize("given", [B2_HOST, f"https://{B2_HOST}"])
def test_f5_7_b2s_region_follows_from_its_endpoint(plain: Tenant, given: str) -> None:
    made = create(plain.service, VALID["backblaze_b2"] | {"endpoint_url": given})
    assert (made["endpoint_url"], made["region"]) == (f"https://{B2_HOST}", "us-west-004")


def test_f5_7_another_endpoint_of_b2_brings_its_region_along(plain: Tenant) -> None:
    made = create(plain.service, VALID["backblaze_b2"])
    assert change(plain.service, made, endpoint_url="s3.eu-central-003.backblazeb2.com")["region"] == "eu-central-003"


@pytest.mark.parametrize(("fields", "address"), [
    ({"provider": "aws_s3", "region": "cn-north-1"}, "https://s3.cn-north-1.amazonaws.com.cn"),
    ({"provider": "cloudflare_r2", "account_id": ACCOUNT}, f"https://{R2_HOST}"),
    ({"provider": "digitalocean_spaces", "region": "fra1"}, "https://fra1.digitaloceanspaces.com"),
    ({"provider": "wasabi", "region": "eu-central-1"}, "https://s3.eu-central-1.wasabisys.com"),
])  # fmt: skip
def test_f5_4_an_endpoint_that_follows_is_not_shown(plain: Tenant, monkeypatch: pytest.MonkeyPatch, fields: Fields, address: str) -> None:
    seen: list[str] = []
    monkeypatch.setattr(probing, "probe", lambda connection, *_: (seen.append(connection.address), Result(latency_ms=1))[1])
    made = create(plain.service, {"name": "n", "bucket": "my-bucket", **KEYS, **fields})
    assert made["endpoint_url"] is None
    assert tried_saved(plain.service, made)["success"] is True
    assert seen == [address]


def test_f5_22_a_prefix_is_shown_as_it_was_given_and_not_doubled(plain: Tenant, scripted: ScriptedS3) -> None:
    for prefix in ("backups/", "backups", "backups//"):
        scripted.requests.clear()
        made = create(plain.service, on(scripted, path_prefix=prefix))
        assert made["path_prefix"] == prefix
        assert tried_saved(plain.service, made)["success"] is True
        assert re.fullmatch(r"backups/test-connection-\d+\.txt", scripted.requests[1].key)


# ---- F5.10, F5.20, F5.21: listing, errors, who may -------------------------------------------------------------
def test_f5_10_the_list_is_an_array_of_whole_rows_oldest_first(plain: Tenant) -> None:
    made = [create(plain.service, VALID["filesystem"] | {"name": name}) for name in ("z", "a", "a", "m")]
    rows = plain.service("GET", f"{CONFIGS}?organization_id={plain.tenant_id.upper()}").json()
    assert rows == made
    assert [row["name"] for row in rows] == ["z", "a", "a", "m"]  # a name is not unique here


def test_f5_21_an_organization_that_is_anothers_is_404(plain: Tenant, new_tenant: Any) -> None:
    other = new_tenant()
    for organization in (other.tenant_id, UNKNOWN, "", "x"):
        for method, path in (("POST", CONFIGS), ("GET", CONFIGS), ("POST", TRY)):
            body = VALID["filesystem"] if method == "POST" else None
            is_refused(plain.service(method, f"{path}?organization_id={organization}", body), 404)
    assert listed(plain.service) == listed(other.service) == []


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test")])
def test_a_config_that_is_not_there_or_anothers_is_404(plain: Tenant, new_tenant: Any, method: str, path: str) -> None:
    theirs = create(new_tenant().service, VALID["filesystem"])["id"]
    for config in (theirs, UNKNOWN, "x", theirs.replace("-", ""), "name%23vault%23x", "..", "%00"):
        answer = plain.service(method, f"{CONFIGS}/{config}{path}", {"name": "mine"} if method == "PATCH" else None)
        assert answer.status in ((404,) if config in (theirs, UNKNOWN) else (404, 422)), answer.body
        assert answer.json().keys() == {"detail"}
    mine = create(plain.service, VALID["filesystem"])["id"]
    assert plain.service("GET", f"{CONFIGS}/{mine.upper()}").status == 200


def test_f5_20_every_error_is_a_detail(plain: Tenant, use: Callable[..., None]) -> None:
    config = create(plain.service, VALID["filesystem"])
    asked = [
        plain.service("PUT", CONFIGS), plain.service("GET", TRY + "/x"), plain.service("GET", f"{CONFIGS}/{config['id']}/test"),
        plain.anon("GET", CONFIGS), plain.nobody("GET", CONFIGS), plain.service.using("sk_wrong")("GET", CONFIGS),
        plain.service("GET", f"{CONFIGS}?organization_id=a&organization_id=b"), plain.service("POST", CONFIGS, b"x" * 4_500_000),
        plain.service("POST", CONFIGS, b'{"name": "' + b"x" * 1_000_001 + b'"}'),
    ]  # fmt: skip
    statuses = [answer.status for answer in asked]
    assert statuses == [405, 404, 405, 403, 401, 401, 422, 413, 413]
    for answer in asked[:1] + asked[2:]:
        is_refused(answer, answer.status)
        assert answer.headers["x-request-id"]
    assert "www-authenticate" in asked[4].headers


READS, EVERYTHING = {"list", "show", "try_saved"}, {"list", "show", "try_saved", "create", "try_out", "change", "delete"}
BY_PERMISSION = {
    "org.storage.create": {"create", "try_out"}, "org.storage.list": READS,
    "org.storage.update": {"change"}, "org.storage.delete": {"delete"},
}  # fmt: skip


def may(client: Client, config_id: str) -> set[str]:
    """What a client may do, told by trying: a config that is not there is not found by whoever may look for it."""
    tries = {
        "create": ("POST", CONFIGS, VALID["filesystem"]),
        "try_out": ("POST", TRY, VALID["filesystem"]),
        "list": ("GET", CONFIGS, None),
        "show": ("GET", f"{CONFIGS}/{config_id}", None),
        "try_saved": ("POST", f"{CONFIGS}/{config_id}/test", None),
        "change": ("PATCH", f"{CONFIGS}/{config_id}", {"name": "changed"}),
        "delete": ("DELETE", f"{CONFIGS}/{UNKNOWN}", None),
    }
    answers = {name: client(method, path, body) for name, (method, path, body) in tries.items()}
    assert {answer.status for answer in answers.values()} <= {200, 201, 403, 404}, {name: each.body for name, each in answers.items()}
    return {name for name, answer in answers.items() if answer.status != 403}


def test_f4_7_f4_8_f5_21_each_permission_permits_its_own_routes(plain: Tenant) -> None:
    from chalicelib.access.principals import Permission, Role

    config_id = create(plain.service, VALID["filesystem"])["id"]
    for permission, expected in BY_PERMISSION.items():
        key, _ = tenants.create_key(plain.tenant_id, Role.CUSTOM, "ci", [Permission(permission)])
        assert may(plain.nobody.using(key), config_id) == expected
        assert may(plain.user(permissions=[permission]), config_id) == expected


@pytest.mark.parametrize(
    ("role", "expected"),
    [("org_admin", EVERYTHING), ("org_member", READS), ("org_viewer", READS), ("authenticated", set()), ("service", set())],
)
def test_f5_21_a_role_permits_what_its_set_says(plain: Tenant, role: str, expected: set[str]) -> None:
    config_id = create(plain.service, VALID["filesystem"])["id"]
    assert may(plain.user(role=role), config_id) == expected


def test_f5_21_the_service_key_may_everything_anon_nothing_and_nobody_is_401(plain: Tenant, use: Callable[..., None]) -> None:
    config_id = create(plain.service, VALID["filesystem"])["id"]
    assert may(plain.service, config_id) == EVERYTHING
    assert may(plain.anon, config_id) == set()
    for default in ("", plain.tenant_id):
        use(DEFAULT_TENANT=default)
        for route in SURFACE.routes:
            body = VALID["filesystem"] if route.method in ("POST", "PATCH") else None
            answer = plain.nobody(route.method, route.path.replace("{config_id}", config_id), body)
            is_refused(answer, 401)
            assert "www-authenticate" in answer.headers


# ---- F5.11: changing -------------------------------------------------------------------------------------------
def test_f5_11_a_change_is_partial(plain: Tenant) -> None:
    made = create(plain.service, VALID["aws_s3"] | {"path_prefix": "a/", "storage_class": "STANDARD_IA"})
    renamed = change(plain.service, made, name="Updated Name", is_default=True)
    assert renamed == made | {"name": "Updated Name", "is_default": True, "updated_at": renamed["updated_at"]}
    assert renamed["updated_at"] > made["updated_at"]
    for change_, shown_ in (
        ({"bucket": "other-bucket"}, {"bucket": "other-bucket"}),
        ({"region": "us-west-2"}, {"region": "us-west-2"}),
        ({"path_prefix": "b/"}, {"path_prefix": "b/"}),
        ({"path_prefix": None}, {"path_prefix": None}),
        ({"storage_class": None}, {"storage_class": None}),
        ({"is_active": False}, {"is_active": False}),
        ({"is_active": True}, {"is_active": True}),
        ({}, {}),
        ({"name": None, "provider": None, "is_active": None, "is_default": None}, {}),
    ):
        before = shown(plain.service, made)
        after = change(plain.service, made, **change_)
        assert after == before | shown_ | {"updated_at": after["updated_at"]}
        assert shown(plain.service, made) == after


def test_f5_11_null_empties_a_field_of_the_connection(plain: Tenant) -> None:
    made = create(plain.service, VALID["sftp"] | {"port": 2222, "host_key": "ssh-ed25519 " + "A" * 68})
    after = change(plain.service, made, port=None, host_key=None, secret_key=KEYS["secret_key"])
    assert (after["port"], after["host_key"]) == (22, None)
    is_refused(plain.service("PATCH", f"{CONFIGS}/{made['id']}", {"host": None}), 422, "host")
    is_refused(plain.service("PATCH", f"{CONFIGS}/{made['id']}", {"secret_key": None}), 422, "secret_key")
    ftp = create(plain.service, VALID["ftp"] | {"tls": "none"})
    assert change(plain.service, ftp, tls=None, secret_key=KEYS["secret_key"])["tls"] == "explicit"


def test_f5_11_a_change_to_another_provider_has_that_ones_rules(plain: Tenant) -> None:
    made = create(plain.service, VALID["sftp"] | {"port": 2222})
    path = f"{CONFIGS}/{made['id']}"
    is_refused(plain.service("PATCH", path, {"provider": "ftp"}), 422, "host")
    there = {"host": "ftp.example.com", "secret_key": KEYS["secret_key"]}
    is_refused(plain.service("PATCH", path, there | {"provider": "ftp", "host_key": "ssh-ed25519 " + "A" * 68}), 422, "host_key")
    moved = change(plain.service, made, provider="ftp", **there)
    assert (moved["provider"], moved["host"], moved["port"], moved["tls"]) == ("ftp", "ftp.example.com", 21, "explicit")
    is_refused(plain.service("PATCH", path, {"provider": "aws_s3"}), 422)
    moved = change(plain.service, made, provider="aws_s3", bucket="my-bucket", region="eu-west-1")
    assert (moved["provider"], moved["host"], moved["port"], moved["tls"]) == ("aws_s3", None, None, None)


@pytest.mark.parametrize("kind", ["sftp", "ftp"])
def test_a_password_is_sent_to_another_server_only_by_who_knows_it(plain: Tenant, kind: str) -> None:
    """Else whoever may change a config, and not see its password, would have it shown to a server of their own."""
    made = create(plain.service, VALID[kind])
    for changes in (
        {"host": "other.example.com"},
        {"port": 2222},
        {"host_key": "ssh-ed25519 " + "A" * 68} if kind == "sftp" else {"tls": "none"},
    ):
        is_refused(plain.service("PATCH", f"{CONFIGS}/{made['id']}", changes), 422, "secret_key")
        assert shown(plain.service, made) == made
        change(plain.service, made, secret_key=KEYS["secret_key"], **changes)
        made = shown(plain.service, made)


@pytest.mark.parametrize("kind", VALID)
def test_f5_11_a_change_keeps_the_same_rules(plain: Tenant, kind: str) -> None:
    made = create(plain.service, VALID[kind])
    for fields, field in [(fields, field) for of, fields, field in REFUSED if of == kind][::3]:
        if None in fields.values() or len(fields) > 1:
            continue  # which leaves a field, or empties one that something else stands for
        answer = plain.service("PATCH", f"{CONFIGS}/{made['id']}", fields)
        if fields in ({"port": 0}, {"endpoint_url": ""}):
            continue
        assert answer.status == 422, (fields, answer.body)
        is_refused(answer, 422, field)
    assert listed(plain.service) == [made]


def test_f5_25_the_age_of_credentials_moves_with_credentials_alone(plain: Tenant) -> None:
    made = create(plain.service, VALID["sftp"])
    for changes in ({"name": "n"}, {"host": "o.example.com", "secret_key": KEYS["secret_key"]},
                    {"path_prefix": "x"}, {"access_key": KEYS["access_key"]},
                    {"is_active": False},
                    {"secret_key": KEYS["secret_key"]}, {"is_default": True}, {}):  # fmt: skip
        assert change(plain.service, made, **changes)["credentials_changed_at"] == made["credentials_changed_at"]
    last = made["credentials_changed_at"]
    for changes in ({"secret_key": "other"}, {"access_key": "other"}):
        now = change(plain.service, made, **changes)["credentials_changed_at"]
        assert now > last
        last = now


def test_f5_25_credentials_of_a_storage_with_buckets_are_tested_before_they_are_swapped(plain: Tenant, servers: Servers) -> None:
    made = create(plain.service, servers.fields("strict_s3"))
    plain.service.bucket("b", storage_id=made["id"])
    plain.service.put("b", "kept", b"kept", "text/plain")
    before = shown(plain.service, made)
    answer = plain.service("PATCH", f"{CONFIGS}/{made['id']}", {"secret_key": "wrong", "name": "renamed"})
    is_refused(answer, 422, "Connection failed: The request signature we calculated does not match")
    assert shown(plain.service, made) == before
    assert plain.service.get("b", "kept").body == b"kept"
    is_refused(plain.service("PATCH", f"{CONFIGS}/{made['id']}", {"bucket": "other-bucket"}), 400, "1 buckets")
    assert change(plain.service, made, is_active=False)["is_active"] is False
    assert plain.service.get("b", "kept").body == b"kept"


# ---- F5.12, F5.15: the default ---------------------------------------------------------------------------------
def defaults(client: Client) -> list[str]:
    return [row["id"] for row in listed(client) if row["is_default"]]


def test_f5_12_f5_15_there_is_at_most_one_default(plain: Tenant) -> None:
    first, second, third = (create(plain.service, VALID["filesystem"] | {"is_default": each}) for each in (True, True, False))
    assert (first["is_default"], second["is_default"], third["is_default"]) == (True, True, False)
    assert defaults(plain.service) == [second["id"]]
    assert change(plain.service, third, is_default=True)["is_default"] is True
    assert defaults(plain.service) == [third["id"]]
    assert shown(plain.service, second)["is_default"] is False
    assert change(plain.service, second, is_default=False)["is_default"] is False  # it was none
    assert defaults(plain.service) == [third["id"]]
    assert change(plain.service, third, is_default=False)["is_default"] is False
    assert defaults(plain.service) == []
    change(plain.service, first, is_default=True)
    assert plain.service("DELETE", f"{CONFIGS}/{second['id']}").status == 200
    assert defaults(plain.service) == [first["id"]]
    assert plain.service("DELETE", f"{CONFIGS}/{first['id']}").status == 200
    assert defaults(plain.service) == []


def test_f5_12_of_eight_defaults_set_at_once_one_is_left(plain: Tenant) -> None:
    made = [create(plain.service, VALID["filesystem"]) for _ in range(8)]
    answers = together(
        [lambda each=each: plain.service("PATCH", f"{CONFIGS}/{each['id']}", {"is_default": True}) for each in made]  # type: ignore[misc]
    )
    assert {answer.status for answer in answers} <= {200, 503}, [answer.body for answer in answers]
    assert 200 in {answer.status for answer in answers}
    assert len(defaults(plain.service)) == 1


def test_f5_12_a_default_that_is_deleted_and_set_at_once_is_not_left_behind(plain: Tenant) -> None:
    for _ in range(4):
        made = create(plain.service, VALID["filesystem"])
        together([lambda made=made: plain.service("PATCH", f"{CONFIGS}/{made['id']}", {"is_default": True}),  # type: ignore[misc]
                 lambda made=made: plain.service("DELETE", f"{CONFIGS}/{made['id']}")])  # type: ignore[misc]  # fmt: skip
        left = {row["id"] for row in listed(plain.service)}
        assert storages.default_of(plain.tenant_id) in left | {None}


def test_changes_of_several_fields_at_once_all_count(plain: Tenant) -> None:
    made = create(plain.service, VALID["aws_s3"])
    acts = [{"is_active": False}, {"path_prefix": "x"}, {"region": "us-west-2"}, {"storage_class": "STANDARD_IA"}]
    answers = together([lambda each=each: plain.service("PATCH", f"{CONFIGS}/{made['id']}", each) for each in acts])  # type: ignore[misc]
    assert {answer.status for answer in answers} == {200}
    after = shown(plain.service, made)
    assert (after["is_active"], after["path_prefix"], after["region"], after["storage_class"]) == (False, "x", "us-west-2", "STANDARD_IA")


def test_a_new_name_and_another_change_at_once_both_count(plain: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    made = create(plain.service, VALID["aws_s3"])
    check, within = storage_rules.check_name, []

    def another(surface: str, name: str) -> str:
        if name == "renamed" and not within:
            within.append(name)
            change(plain.service, made, path_prefix="x")  # after the first has read the row
        return check(surface, name)

    monkeypatch.setattr(storage_rules, "check_name", another)
    after = change(plain.service, made, name="renamed")
    assert (after["name"], after["path_prefix"]) == ("renamed", "x")


# ---- F5.14: deleting -------------------------------------------------------------------------------------------
def _count(tenant: Tenant, config: Fields, **counters: int) -> None:
    actions = [getattr(Storage, name).set(number) for name, number in counters.items()]
    Storage(tenant.tenant_id, config["id"]).change(actions, Storage.storage_id.exists())


def test_f5_14_a_config_with_backups_is_kept_with_the_seeds_words(plain: Tenant) -> None:
    made = create(plain.service, VALID["filesystem"] | {"is_default": True})
    _count(plain, made, backups=42, backup_bytes=5368709120)
    answer = plain.service("DELETE", f"{CONFIGS}/{made['id']}")
    assert answer.status == 400
    assert answer.json() == {"detail": "Cannot delete storage config with 42 backups. Delete or migrate backups first."}
    row = shown(plain.service, made)
    assert (row["object_count"], row["total_size_bytes"], row["is_default"]) == (42, 5368709120, True)  # F5.19
    _count(plain, made, backups=0)
    assert plain.service("DELETE", f"{CONFIGS}/{made['id']}").json() == {}
    assert plain.service("DELETE", f"{CONFIGS}/{made['id']}").status == 404


def test_f5_14_a_config_with_buckets_is_kept_likewise(plain: Tenant, use: Callable[..., None]) -> None:
    made = create(plain.service, VALID["filesystem"])
    plain.service.bucket("b", storage_id=made["id"])
    is_refused(plain.service("DELETE", f"{CONFIGS}/{made['id']}"), 400, "1 buckets")
    assert shown(plain.service, made)["bucket_count"] == 1
    _count(plain, made, backups=2)
    is_refused(plain.service("DELETE", f"{CONFIGS}/{made['id']}"), 400, "2 backups")


def test_a_config_with_backups_cannot_be_pointed_elsewhere(plain: Tenant) -> None:
    made = create(plain.service, VALID["aws_s3"])
    _count(plain, made, backups=1)
    is_refused(plain.service("PATCH", f"{CONFIGS}/{made['id']}", {"bucket": "other-bucket"}), 400, "1 backups")


# ---- F5.17, F5.18, F5.23, F5.24: what the platform allows ------------------------------------------------------
def test_f5_17_the_platforms_settings_are_told_in_the_seeds_words(plain: Tenant, use: Callable[..., None]) -> None:
    use(ENABLED_PROVIDERS="")
    seeds = {
        "enabled_providers": ["aws_s3", "cloudflare_r2", "backblaze_b2", "minio", "sftp", "ftp"],
        "allow_org_byos": True,
        "has_default_storage": False,
    }
    for client in (plain.service, plain.anon, plain.user()):
        answer = client("GET", f"{BASE}/storage-settings")
        assert (answer.status, answer.json()) == (200, seeds)
    use(ENABLED_PROVIDERS="sftp, wasabi", ALLOW_ORG_BYOS="false", PLATFORM_STORAGE="true")
    assert plain.service("GET", f"{BASE}/storage-settings").json() == {
        "enabled_providers": ["sftp", "wasabi"], "allow_org_byos": False, "has_default_storage": True,
    }  # fmt: skip


NOT_ENABLED = "Organization storage configuration is not enabled on this platform. Contact your platform administrator."
VAULT_FIELDS = {
    "name": "n",
    "provider": "s3",
    "bucket_name": "my-bucket",
    "region": "us-east-1",
    "access_key_id": "A" * 16,
    "secret_access_key": "s" * 32,
}


def test_f5_18_where_tenants_bring_no_storages_both_surfaces_say_so(plain: Tenant, use: Callable[..., None]) -> None:
    made = create(plain.service, VALID["aws_s3"])
    use(ALLOW_ORG_BYOS="false")
    for path, fields in ((CONFIGS, VALID["aws_s3"]), (TRY, VALID["aws_s3"])):
        answer = plain.service("POST", path, fields)
        assert (answer.status, answer.json()) == (403, {"detail": NOT_ENABLED})
    answer = plain.service("POST", "/storages/create", VAULT_FIELDS)
    assert (answer.status, answer.code, answer.json()["message"]) == (403, "Forbidden", NOT_ENABLED)
    is_refused(plain.service("PATCH", f"{CONFIGS}/{made['id']}", {"bucket": "other-bucket"}), 403, NOT_ENABLED)
    assert change(plain.service, made, name="renamed", is_active=False)["name"] == "renamed"
    assert plain.service("DELETE", f"{CONFIGS}/{made['id']}").status == 200


def test_f5_18_a_provider_that_is_not_enabled_is_403(plain: Tenant, use: Callable[..., None]) -> None:
    use(ENABLED_PROVIDERS="sftp,ftp")
    for kind in VALID:
        for path in (CONFIGS, TRY):
            answer = plain.service("POST", path, VALID[kind])
            if kind in ("sftp", "ftp"):
                assert answer.status in (200, 201)
            else:
                is_refused(answer, 403, kind)
    assert plain.service("POST", "/storages/create", VAULT_FIELDS).status == 403
    made = create(plain.service, VALID["sftp"])
    is_refused(
        plain.service(
            "PATCH", f"{CONFIGS}/{made['id']}", {"provider": "aws_s3", "host": None, "port": None, "region": "us-east-1", "bucket": "abc"}
        ),
        403,
    )


# Seed 001's two tables: cost, egress fees, setup, then S3, encryption, versioning, lifecycle, multi-region, zero egress.
YES, NO = True, False
TABLE = {
    "cloudflare_r2": ("Most users", "$0.015/GB/mo", "$0", "easy", YES, YES, YES, YES, "automatic", YES),
    "aws_s3": ("Enterprise", "$0.023/GB/mo", "$0.09/GB", "easy", YES, YES, YES, YES, "manual", NO),
    "backblaze_b2": ("Archival", "$0.005/GB/mo", "$0.01/GB", "moderate", YES, YES, YES, YES, YES, NO),
    "minio": ("Self-hosted", "Infrastructure cost", "$0", "advanced", YES, YES, YES, YES, "do it yourself", YES),
    "sftp": ("Legacy systems", "Infrastructure cost", "$0", "moderate", NO, "manual", NO, NO, "not applicable", YES),
    "ftp": ("Legacy systems", "Infrastructure cost", "$0", "moderate", NO, "manual", NO, NO, "not applicable", YES),
}
COLUMNS = ("best_for", "cost", "egress_fees", "setup_complexity", "s3_compatible", "encryption_at_rest", "versioning", "lifecycle_policies",
           "multi_region", "zero_egress")  # fmt: skip
NOTES = {
    "cloudflare_r2": "zero egress, s3-compatible, recommended", "aws_s3": "industry standard, multi-region",
    "backblaze_b2": "lowest storage cost, good for long-term", "minio": "gdpr compliance, full control",
    "sftp": "use existing sftp servers",
    "ftp": "less secure than sftp",
}  # fmt: skip


def _providers(client: Client) -> dict[str, Fields]:
    answer = client("GET", f"{BASE}/storage-providers")
    assert answer.status == 200
    return {row["provider"]: row for row in answer.json()}


def test_f5_24_the_comparison_is_the_seeds(plain: Tenant, use: Callable[..., None]) -> None:
    rows = _providers(plain.anon)
    assert list(rows) == list(VALID)
    assert {kind: tuple(rows[kind][column] for column in COLUMNS) for kind in TABLE} == TABLE
    assert all(row["enabled"] for row in rows.values())
    use(ENABLED_PROVIDERS="sftp")
    assert [kind for kind, row in _providers(plain.service).items() if row["enabled"]] == ["sftp"]


def test_f5_24_the_comparisons_notes_and_compliance_are_the_seeds(plain: Tenant) -> None:
    rows = _providers(plain.service)
    assert {kind: rows[kind]["notes"].lower() for kind in NOTES} == NOTES
    assert all("gdpr" in json.dumps(list(rows[kind])).lower() for kind in NOTES)


@pytest.mark.parametrize("kind", VALID)
def test_f5_24_the_fields_that_are_said_to_be_needed_are_those_that_are(plain: Tenant, kind: str) -> None:
    needed = _providers(plain.service)[kind]["required_fields"]
    least = {"name": "n", "provider": kind} | {field: VALID[kind][field] for field in needed}
    create(plain.service, least)
    for field in needed:
        is_refused(plain.service("POST", CONFIGS, {name: value for name, value in least.items() if name != field}), 422)


# ---- F4: testing -----------------------------------------------------------------------------------------------
def test_f4_7_a_test_before_saving_saves_nothing(plain: Tenant, servers: Servers) -> None:
    for kind in ("strict_s3", "sftp", "ftp", "filesystem"):
        found = tried(plain.service, servers.fields(kind))
        assert found | {"latency_ms": 0} == {
            "success": True, "message": "Connection successful", "bucket_exists": True, "can_write": True, "can_read": True,
            "latency_ms": 0, "code": None, "step": None, "hint": None, "warning": None,
        }, kind  # fmt: skip
        assert isinstance(found["latency_ms"], int)
        assert found["latency_ms"] >= 1
    assert [item for page in Storage.pages_of(plain.tenant_id) for item in page] == []


def test_f4_8_a_test_of_a_saved_config_is_kept(plain: Tenant, servers: Servers) -> None:
    made = create(plain.service, servers.fields("strict_s3"))
    assert (made["status"], made["capabilities"], made["probed_at"]) == ("untested", None, None)
    assert tried_saved(plain.service, made)["success"] is True
    row = shown(plain.service, made)
    assert (row["status"], row["status_reason"]) == ("healthy", None)
    assert row["probed_at"] > made["created_at"]
    assert row["capabilities"].keys() == {
        "can_delete", "conditional_put", "content_md5", "checksum_sha256", "metadata", "range_read", "multipart", "versioning",
        "clock_skew_seconds",
    }  # fmt: skip
    assert (row["capabilities"]["can_delete"], row["capabilities"]["conditional_put"], row["capabilities"]["metadata"]) == (
        True,
        True,
        True,
    )
    assert set(row["safeguards"].values()) == {"enforced"}
    change(plain.service, made, secret_key="wrong")
    row = shown(plain.service, made)
    assert (row["status"], row["capabilities"], row["probed_at"]) == ("untested", None, None)  # of other credentials
    assert tried_saved(plain.service, made)["success"] is False
    row = shown(plain.service, made)
    assert (row["status"], row["status_reason"].startswith("The request signature")) == ("degraded", True)


def test_f4_10_the_test_object_is_named_by_the_time_and_is_gone_afterwards(plain: Tenant, scripted: ScriptedS3) -> None:
    tried(plain.service, on(scripted, path_prefix="backups/"))
    assert scripted.asked[:3] == ["LIST", "PUT", "GET"]
    assert scripted.asked[-1] == "DELETE"
    keys = {asked.key for asked in scripted.requests if asked.operation in ("PUT", "GET", "HEAD")}
    assert len(keys) == 1
    assert re.fullmatch(r"backups/test-connection-\d{10,}\.txt", keys.pop())
    assert scripted.objects == {}
    assert scripted.requests[0].query["prefix"] == ["backups/"]
    assert scripted.requests[0].query["max-keys"] == ["1"]


def test_f4_10_two_tests_at_once_do_not_disturb_each_other(plain: Tenant, scripted: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    from chalicelib import seam

    second, ticks = seam.now().replace(microsecond=0), itertools.count()
    monkeypatch.setattr(seam, "now", lambda: second + timedelta(microseconds=next(ticks)))
    within: list[Any] = []

    def another(_: Any) -> None:
        if not within:
            within.append(None)
            within[0] = tried(plain.service, on(scripted))

    scripted.say["GET"] = another  # between the PUT and the GET of the first
    assert tried(plain.service, on(scripted))["success"] is True
    assert within[0]["success"] is True


@pytest.mark.parametrize(
    ("operation", "figures"),
    [("LIST", (None, None, None)), ("PUT", (True, False, None)), ("GET", (True, True, False))],
)
def test_f4_9_figures_are_told_as_far_as_they_are_known(
    plain: Tenant, scripted: ScriptedS3, operation: str, figures: tuple[Any, ...]
) -> None:
    scripted.say[operation] = lambda _: Said(403, error("AccessDenied"))
    found = tried(plain.service, on(scripted))
    assert (found["success"], found["message"], found["code"], found["step"]) == (
        False,
        "Connection failed: Access Denied",
        "AccessDenied",
        operation,
    )
    assert (found["bucket_exists"], found["can_write"], found["can_read"]) == figures
    assert found["latency_ms"] is None
    assert found["hint"]


def test_f4_5_a_denied_delete_is_a_warning(plain: Tenant, scripted: ScriptedS3) -> None:
    scripted.say["DELETE"] = lambda _: Said(403, error("AccessDenied"))
    found = tried(plain.service, on(scripted, path_prefix="backups/"))
    assert found["success"] is True
    (left,) = scripted.objects
    assert left in found["warning"]


# The seed's troubleshooting section: what a storage answers, and what is told of it.
WORDS = [
    (Said(403, error("InvalidAccessKeyId")), "The AWS Access Key Id you provided does not exist in our records.", "InvalidCredentials"),
    (Said(404, error("NoSuchBucket")), "The specified bucket does not exist", "BucketNotFound"),
    (Said(403, error("AccessDenied")), "Access Denied", "AccessDenied"),
    (Said(400, error("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-1'", Region="eu-west-1")),
     "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'", "WrongRegion"),
    (Said(301, error("PermanentRedirect"), {"x-amz-bucket-region": "eu-west-1", "Location": "http://127.0.0.1:1/"}),
     "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'", "WrongRegion"),
    (Said(503, error("SlowDown")), "The storage is busy or failing", "Busy"),
    (Said(403, error("RequestTimeTooSkewed")), "The difference between the request time and the current time is too large.", "ClockSkewed"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "message", "code"), WORDS, ids=[code for *_, code in WORDS])
def test_f4_12_the_messages_are_the_seeds(plain: Tenant, scripted: ScriptedS3, said: Said, message: str, code: str) -> None:
    scripted.say["LIST"] = lambda _: said
    found = tried(plain.service, on(scripted))
    assert (found["success"], found["message"], found["code"]) == (False, f"Connection failed: {message}", code)
    assert found["bucket_exists"] is (False if code == "BucketNotFound" else None)
    assert found["hint"]


@pytest.mark.parametrize(
    "said", [Said(403, error("InvalidAccessKeyId")), Said(403, error("SignatureDoesNotMatch")), Said(401, error("Unauthorized"))]
)
def test_f4_12_b2_has_its_own_word_for_a_wrong_key(plain: Tenant, scripted: ScriptedS3, use: Callable[..., None], said: Said) -> None:
    use(ENDPOINT_OVERRIDES=f"{B2_HOST}={scripted.endpoint}")
    scripted.say["LIST"] = lambda _: said
    assert tried(plain.service, VALID["backblaze_b2"])["message"] == "Connection failed: Invalid application key"


@pytest.mark.parametrize("provider", ["s3_compatible", "sftp", "ftp"])
def test_f4_12_a_refused_connection_is_told(plain: Tenant, provider: str) -> None:
    from tests.servers.hostile import closed_port

    with closed_port() as port:
        place = {"endpoint_url": f"http://127.0.0.1:{port}"} if provider == "s3_compatible" else {"host": "127.0.0.1", "port": port}
        found = tried(plain.service, VALID[provider] | place)
    assert (found["message"], found["code"]) == ("Connection failed: Connection refused", "ConnectionRefused")


def test_f4_12_servers_that_do_not_know_the_user_are_told_in_the_seeds_words(plain: Tenant, servers: Servers) -> None:
    for kind in ("sftp", "ftp"):
        for wrong in ({"secret_key": "wrong"}, {"access_key": "nobody-here"}):
            found = tried(plain.service, servers.fields(kind) | wrong)
            assert (found["message"], found["code"]) == (
                "Connection failed: Authentication failed (publickey,password)",
                "AuthenticationFailed",
            )
        found = tried(plain.service, servers.fields(kind) | {"bucket": "not/there"})
        assert (found["message"], found["code"], found["bucket_exists"]) == (
            "Connection failed: The specified bucket does not exist",
            "BucketNotFound",
            False,
        )


@pytest.mark.parametrize(
    "said",
    [
        Said(404, b"<html><hr>nginx</html>"), Said(404),
        Said(200, b"<html><br>hello"), Said(200, b"hello"), Said(403, b"\xff\xfe<"), Said(302, headers={"Location": "http://127.0.0.1:1/"}),
        Said(304),
        Said(400, b"{}"), Said(500, b"x" * 100_000),
    ],
    ids=lambda said: f"{said.status} {said.body[:6]!r}",
)  # fmt: skip
def test_f4_12_what_is_no_storage_is_not_taken_for_one_that_lost_an_object(plain: Tenant, scripted: ScriptedS3, said: Said) -> None:
    scripted.say["LIST"] = lambda _: said
    found = tried(plain.service, on(scripted))
    assert (found["success"], found["step"]) == (False, "LIST")
    assert "right after it was stored" not in found["message"]


# Answers that S3 would not give, and servers of its protocol might.
ODD = {
    "HEAD without a date": ("HEAD", Said(200, dated=False)),
    "HEAD with a date that is none": ("HEAD", Said(200, headers={"Last-Modified": "yesterday"}, dated=False)),
    "HEAD with a length that is none": ("HEAD", Said(200, headers={"Content-Length": "abc"})),
    "DELETE of what is missing": ("DELETE", Said(404, error("NoSuchKey"))),
    "DELETE fails without a key": ("DELETE", Said(200, b"<DeleteResult><Error><Code>X</Code></Error></DeleteResult>")),
    "DELETE fails for another key": ("DELETE", Said(200, b"<DeleteResult><Error><Key>other</Key><Code>X</Code></Error></DeleteResult>")),
    "multipart without an id": ("CREATE_MULTIPART", Said(200, b"<InitiateMultipartUploadResult/>")),
    "part without an ETag": ("PART", Said(200)),
    "GET with a length that is none": ("GET", Said(200, b"x", {"Content-Length": "abc"})),
    "error without a code": ("LIST", Said(403, b"<Error></Error>")),
    "error with two codes": ("LIST", Said(400, b"<Error><Code>a</Code><Code>b</Code></Error>")),
    "error with a code of elements": ("PUT", Said(400, b"<Error><Code><x/></Code></Error>")),
    "number that is none": ("LIST", Said(200, b"<ListBucketResult><MaxKeys>abc</MaxKeys></ListBucketResult>")),
    "date that is none": ("LIST", Said(200, b"<ListBucketResult><Contents><LastModified>z</LastModified></Contents></ListBucketResult>")),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_a_test_ends_with_an_answer_whatever_the_storage_says(plain: Tenant, scripted: ScriptedS3, odd: str) -> None:
    operation, said = ODD[odd]
    scripted.say[operation] = lambda _: said
    found = tried(plain.service, on(scripted))
    assert found["success"] is (operation not in ("LIST", "PUT", "GET"))


def test_f4_probes_are_limited(plain: Tenant, scripted: ScriptedS3, use: Callable[..., None]) -> None:
    use(PROBES_PER_MINUTE="2")
    made = create(plain.service, on(scripted))
    tried(plain.service, on(scripted))
    tried_saved(plain.service, made)
    asked = len(scripted.asked)
    for answer in (plain.service("POST", TRY, on(scripted)), plain.service("POST", f"{CONFIGS}/{made['id']}/test")):
        is_refused(answer, 429, "2 new probes a minute")
        assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert len(scripted.asked) == asked
    assert shown(plain.service, made)["status"] == "healthy"


# ---- SFTP: keys of hosts and users -----------------------------------------------------------------------------
def test_f5_9_a_host_key_is_pinned_by_the_first_test_and_another_is_refused(plain: Tenant, tmp_path: Path) -> None:
    with ExitStack() as first:
        server = first.enter_context(asyncssh_server(tmp_path / "s"))
        fields = {"name": "n", "provider": "sftp", "host": server.host, "port": server.port, "bucket": ".", "access_key": server.username,
                  "secret_key": server.password}  # fmt: skip
        assert tried(plain.service, fields)["success"] is True
        made = create(plain.service, fields)
        assert made["host_key"] is None
        assert tried_saved(plain.service, made)["success"] is True
        pinned = shown(plain.service, made)["host_key"]
        assert pinned == server.host_key.strip()
        assert tried(plain.service, fields | {"host_key": pinned})["success"] is True
    with asyncssh_server(tmp_path / "s", port=fields["port"], new_host_key=True) as other:
        found = tried_saved(plain.service, made)
        assert (found["success"], found["code"]) == (False, "HostKeyChanged")
        row = shown(plain.service, made)
        assert (row["host_key"], row["status"]) == (pinned, "degraded")
        assert change(plain.service, made, host_key=None, secret_key=server.password)["host_key"] is None
        assert tried_saved(plain.service, made)["success"] is True
        assert shown(plain.service, made)["host_key"] == other.host_key.strip()


@pytest.mark.parametrize("kind", ["private_key", "rsa_private_key"])
def test_f5_9_a_private_key_logs_in(plain: Tenant, tmp_path: Path, kind: str) -> None:
    with openssh(tmp_path / "s") as server:
        fields = {"name": "n", "provider": "sftp", "host": server.host, "port": server.port, "bucket": ".", "access_key": server.username,
                  "private_key": getattr(server, kind), "host_key": server.host_key.strip()}  # fmt: skip
        assert tried(plain.service, fields)["success"] is True
        made = create(plain.service, fields)
        assert made.keys() == SEED_FIELDS | OUR_FIELDS
        plain.service.bucket("b", storage_id=made["id"])
        assert plain.service.put("b", "a", b"bytes").status == 201
        assert plain.service.get("b", "a").body == b"bytes"
        found = tried(plain.service, {name: value for name, value in fields.items() if name != "private_key"} | {"secret_key": "x"})
        assert found["code"] == "AuthenticationFailed"


# ---- F5.27, and buckets ----------------------------------------------------------------------------------------
def test_a_bucket_is_made_only_on_a_storage_that_was_reached(plain: Tenant, scripted: ScriptedS3) -> None:
    made = create(plain.service, on(scripted))
    scripted.say["LIST"] = lambda _: Said(403, error("AccessDenied"))
    answer = plain.service("POST", "/storage/buckets", {"name": "b", "storage_id": made["id"]})
    assert (answer.status, answer.code) == (422, "ProbeFailed")
    assert shown(plain.service, made)["bucket_count"] == 0
    scripted.say.clear()
    plain.service.bucket("b", storage_id=made["id"])
    assert shown(plain.service, made)["bucket_count"] == 1


def test_a_result_without_capabilities_can_be_kept(plain: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "probe", lambda *_: Result(bucket_exists=True, capabilities=Capabilities()))
    made = create(plain.service, VALID["aws_s3"])
    assert tried_saved(plain.service, made)["success"] is True
    assert set(shown(plain.service, made)["safeguards"].values()) == {"checked"}


def test_on_the_internal_storage_nothing_of_this_shows(plain: Tenant) -> None:
    plain.service.bucket("b")
    assert listed(plain.service) == []


def test_the_strict_servers_owner_sees_what_a_storage_keeps(plain: Tenant, servers: Servers) -> None:
    fields = servers.fields("strict_s3") | {"path_prefix": f"{uuid.uuid4()}/"}
    made = create(plain.service, fields)
    plain.service.bucket("b", storage_id=made["id"])
    plain.service.put("b", "a", b"bytes")
    owner = S3("tenants", endpoint=fields["endpoint_url"], access_key=fields["access_key"], secret_key=fields["secret_key"])
    assert [entry.size for entry in owner.list(fields["path_prefix"])] == [5]
