"""Vaults on internal storage and on storages of one's own, all on real servers that verify signatures."""

import base64
import hashlib
import http.client
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote_plus, unquote, urlsplit

import pytest

from chalicelib import workers
from chalicelib.core import abandoned
from chalicelib.providers import METADATA
from chalicelib.providers.s3 import S3
from chalicelib.settings import settings
from chalicelib.tables.deltas import Delta
from chalicelib.tables.garbage import Cursor
from chalicelib.tables.keys import VaultKey
from chalicelib.tables.table import Item
from infra import stack
from tests.client import Answer, Client
from tests.conftest import Context, Tenant
from tests.durability.conftest import purge
from tests.servers.denying import Denying, denying
from tests.storages.conftest import Servers, every_kind, hung_up, servers, settings_again  # noqa: F401  fixtures
from tests.storages.scripted_s3 import ACCESS_KEY, SECRET_KEY, Said, ScriptedS3, scripted_s3

BODY = b"an encrypted delta, as far as anybody here can tell"
S3_HOST = "s3.us-east-1.amazonaws.com"
R2_HOST = "0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com"
HOUR, DAY = 3600, 86_400
ADA, BOB = "6f1c9a52-7d0e-4b6a-9c3f-0a1b2c3d4e5f", "0b6e4c1d-2a3f-4e5d-8c7b-6a5948372615"
UNKNOWN = "00000000-0000-4000-8000-00000000abcd"
PLACES = ("internal", "own", "strict")
Begun = dict[str, Any]


def md5_of(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def send(url: str, body: bytes | None, headers: dict[str, str], method: str = "PUT") -> tuple[int, bytes]:
    """Status and body of one request that carries these headers and nothing that the library would add."""
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.netloc, timeout=30)
    try:
        connection.request(method, f"{split.path}?{split.query}", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def put(begun: Begun, body: bytes = BODY, **other: str | None) -> int:
    """The status of the PUT that an upload is to be made by, with headers changed or (None) left out."""
    headers = {name: value for name, value in (begun["headers"] | other).items() if value is not None}
    return send(begun["url"], body, headers)[0]


def promised(begun: Begun) -> dict[str, str]:
    """The metadata by which an object tells of its attempt, as S3's API takes it."""
    return {name.removeprefix(METADATA): value for name, value in begun["headers"].items() if name.startswith(METADATA)}


@dataclass
class Vault:
    """A client of the vault, and the storage that its keys are made on, None: internal; `owner` reaches that storage by itself."""

    client: Client
    storage_uuid: str | None
    owner: Any
    folder: str = ""
    endpoint_is_strict: bool = False

    def using(self, client: Client) -> "Vault":
        return replace(self, client=client)

    @property
    def prefix(self) -> str:
        return self.folder if self.storage_uuid else "deltas/"

    # ---- what most tests do --------------------------------------------------------------------------
    def key(self, name: str = "laptop") -> str:
        body = {"name": name} | ({"storage_uuid": self.storage_uuid} if self.storage_uuid else {})
        answer = self.client("POST", "/keys/create", body)
        assert answer.status == 201, answer.body
        return str(answer.json()["key_uuid"])

    def ask(self, key_uuid: str, body: bytes = BODY, **fields: Any) -> Answer:
        told = {"key_uuid": key_uuid, "size_bytes": len(body), "content_md5": md5_of(body)}
        return self.client("POST", "/deltas/upload", told | fields)

    def begin(self, key_uuid: str, body: bytes = BODY, **fields: Any) -> Begun:
        answer = self.ask(key_uuid, body, **fields)
        assert answer.status == 201, answer.body
        begun: Begun = answer.json()
        return begun

    def confirm(self, begun: Begun, **other: str) -> Answer:
        told = {name: begun[name] for name in ("delta_uuid", "upload_attempt_uuid")}
        return self.client("POST", "/deltas/confirm", told | other)

    def upload(self, key_uuid: str, body: bytes = BODY) -> Begun:
        """A delta that is stored, as it was begun."""
        begun = self.begin(key_uuid, body)
        assert put(begun, body) == 200
        answer = self.confirm(begun)
        assert answer.status == 200, answer.body
        return begun

    def download(self, begun: Begun) -> Answer:
        return self.client("GET", f"/deltas/download?delta_uuid={begun['delta_uuid']}")

    def bytes_of(self, begun: Begun) -> bytes:
        answer = self.download(begun)
        assert answer.status == 200, answer.body
        status, body = send(answer.json()["url"], None, {}, "GET")
        assert status == 200, body
        return body

    def listed(self, key_uuid: str) -> list[dict[str, Any]]:
        answer = self.client("GET", f"/deltas/list?key_uuid={key_uuid}")
        assert answer.status == 200, answer.body
        rows: list[dict[str, Any]] = answer.json()
        return rows

    def delete(self, begun: Begun) -> Answer:
        return self.client("DELETE", "/deltas/delete", {"delta_uuid": begun["delta_uuid"]})

    def shown(self, key_uuid: str) -> dict[str, Any]:
        answer = self.client("GET", "/keys/list")
        (found,) = [key for key in answer.json() if key["key_uuid"] == key_uuid]
        return dict(found)

    def limits(self, key_uuid: str) -> dict[str, Any]:
        answer = self.client("GET", f"/keys/storage-limits?key_uuid={key_uuid}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json()["limits"]
        return found

    # ---- what lies there -----------------------------------------------------------------------------
    def at(self, begun: Begun) -> str:
        return f"{self.prefix}{begun['key_uuid']}/{begun['delta_uuid']}"

    def holds(self, begun: Begun) -> bool:
        return self.owner.stat(self.at(begun)) is not None

    def lies_there(self, key_uuid: str) -> list[str]:
        return [listed.key for listed in self.owner.list(f"{self.prefix}{key_uuid}/")]

    def overwrite(self, begun: Begun, body: bytes, **metadata: str) -> None:
        """What somebody does who has the bucket's own credentials."""
        told = {"Metadata": metadata} if metadata else {}
        self.owner._call("PutObject", Key=self.at(begun), Body=body, **told)


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


def physical_key(begun: Begun) -> str:
    path = unquote(urlsplit(begun["url"]).path)
    return path[path.index("/deltas/") + 1 :]


def deliver(key: str) -> None:
    """ObjectCreated, as S3 tells a function of it."""
    workers.bucket_objects({"Records": [{"s3": {"object": {"key": quote_plus(key, safe="/")}}}]}, Context())


def key_row(tenant: Tenant, key_uuid: str) -> VaultKey:
    row = VaultKey.read(tenant.tenant_id, key_uuid)
    assert row is not None
    return row


def delta_row(begun: Begun) -> Delta | None:
    return Delta.read(begun["key_uuid"], begun["delta_uuid"])


def counters(tenant: Tenant, key_uuid: str) -> tuple[int, int, int, int, int]:
    """What a key counts: stored or to come, deltas, their bytes, uploads of the day and of the month."""
    row = key_row(tenant, key_uuid)
    return (*(int(each) for each in (row.stored, row.deltas, row.size_bytes, row.uploads_of_day, row.uploads_of_month)),)  # type: ignore[return-value]


def rows_of(tenant: Tenant) -> list[Item]:
    """Every row of a tenant's keys and of their deltas, as they stand."""
    keys = [item for page in VaultKey.pages_of(tenant.tenant_id) for item in page]
    return keys + [item for key in keys for page in Delta.pages_of(key["key_uuid"]["S"]) for item in page]


def clean_up() -> dict[str, Any]:
    """The part of the hourly cleanup that sees to deltas; another test may have moved the clock and passed our hour."""
    Cursor(Cursor.HOUR, abandoned.CURSOR).delete()
    return abandoned.collect(lambda: 600).as_dict()


# ---- where ---------------------------------------------------------------------------------------------------
@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, settings_again: Callable[[], None]) -> Callable[[str], None]:  # noqa: F811
    """Has a server stand in for S3 in us-east-1, and for R2."""

    def put_there(endpoint: str) -> None:
        hosts = (S3_HOST, R2_HOST)
        others = [pair for pair in settings().endpoint_overrides.split(",") if pair and pair.partition("=")[0] not in hosts]
        monkeypatch.setenv("STOWAGE_ENDPOINT_OVERRIDES", ",".join([*others, *(f"{host}={endpoint}" for host in hosts)]))
        settings_again()

    return put_there


@pytest.fixture
def brought(tenant: Tenant, every_kind: None, embedded: stack.EmbeddedAWS, stand_in: Callable[[str], None]) -> Callable[..., Vault]:  # noqa: F811
    """Brings a storage of the tenant's to the vault: a new bucket on a server that stands in for S3."""

    def bring(endpoint: str = "", access_key: str = "", secret_key: str = "", remote_path: str | None = "omega-safe/deltas") -> Vault:
        endpoint, bucket = endpoint or embedded.endpoint, f"own-{uuid.uuid4().hex[:12]}"
        if not access_key:
            access_key, secret_key = _new_credentials(embedded)
        owner = S3(bucket, region="us-east-1", endpoint=endpoint, access_key=access_key, secret_key=secret_key)
        owner._call("CreateBucket")
        stand_in(endpoint)
        fields = {
            "name": f"s-{uuid.uuid4().hex[:8]}",
            "provider": "s3",
            "bucket_name": bucket,
            "region": "us-east-1",
            "access_key_id": access_key,
            "secret_access_key": secret_key,
            "remote_path": remote_path,
        }
        answer = tenant.service("POST", "/storages/create", fields)
        assert answer.status == 201, answer.body
        folder = "/".join(part for part in (remote_path or "").split("/") if part)
        return Vault(tenant.service, answer.json()["storage_uuid"], owner, f"{folder}/" if folder else "")

    return bring


_credentials: list[tuple[str, str]] = []


def _new_credentials(embedded: stack.EmbeddedAWS) -> tuple[str, str]:
    """Of a user of the embedded AWS, as the seed's rules have them."""
    if not _credentials:
        iam = embedded.client("iam")
        name = f"vault-{secrets.token_hex(4)}"
        iam.create_user(UserName=name)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        _credentials.append((made["AccessKeyId"], made["SecretAccessKey"]))
    return _credentials[0]


@pytest.fixture
def internal(tenant: Tenant, embedded: stack.EmbeddedAWS) -> Vault:
    return Vault(tenant.service, None, S3(settings().s3_bucket, endpoint=embedded.endpoint))


@pytest.fixture
def own(brought: Callable[..., Vault]) -> Vault:
    return brought()


@pytest.fixture
def strict(brought: Callable[..., Vault], servers: Servers) -> Vault:  # noqa: F811
    fields = servers.fields("strict_s3")
    return replace(brought(fields["endpoint_url"], fields["access_key"], fields["secret_key"]), endpoint_is_strict=True)


@pytest.fixture(params=PLACES)
def vault(request: pytest.FixtureRequest) -> Vault:
    """A vault on internal storage, on one's own, on one's own at a server that knows keys and regions."""
    made: Vault = request.getfixturevalue(request.param)
    return made


@pytest.fixture(params=PLACES[1:])
def byos(request: pytest.FixtureRequest) -> Vault:
    """A vault on a storage of one's own."""
    made: Vault = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def no_delete(brought: Callable[..., Vault], embedded: stack.EmbeddedAWS) -> Iterator[tuple[Vault, Denying]]:
    """A vault on a storage whose credentials may not delete, and the server that denies it."""
    with ExitStack() as running:
        server = running.enter_context(denying(embedded.endpoint))
        yield brought(server.endpoint), server


@pytest.fixture
def scripted(brought: Callable[..., Vault]) -> Iterator[tuple[Vault, ScriptedS3]]:
    """A vault on a storage that says what it is told to, and that storage."""
    with scripted_s3() as server:
        server.say["OTHER"] = lambda _: Said(200)  # makes the bucket
        yield brought(server.endpoint, ACCESS_KEY, SECRET_KEY), server


@pytest.fixture(autouse=True)
def gone_afterwards(embedded: stack.EmbeddedAWS) -> Iterator[None]:
    """No cleanup of another test is to see to what lies on a server that has gone with this one."""
    yield
    purge(Delta)
