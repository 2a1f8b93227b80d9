"""What tests stand on: an embedded AWS provisioned from the deployed template, a clock, a counter of AWS calls."""

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MASTER_KEY = base64.b64encode(bytes(range(32))).decode()
os.environ.update(
    STOWAGE_MASTER_KEY=MASTER_KEY,
    STOWAGE_STORAGE_PROVIDER="filesystem",
    STOWAGE_LOG_LEVEL="CRITICAL",
    POWERTOOLS_METRICS_DISABLED="true",
)

from chalicelib import aws, providers, seam, settings, workers  # noqa: E402  # settings are read once: the environment comes first
from chalicelib.access import cache  # noqa: E402
from chalicelib.core import transforms  # noqa: E402
from infra import invoker, stack  # noqa: E402
from tests.client import Client  # noqa: E402
from tests.issuer import Web  # noqa: E402


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Nothing may be skipped where `CI` is set."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.EmbeddedAWS]:
    """MiniStack with Stowage's tables, queues, bucket and bus, and this process's environment turned to it."""
    made = stack.EmbeddedAWS(tmp_path_factory.mktemp("aws"))
    made.start()
    try:
        stack.provision(made, stack.local_template())
        names = stack.outputs(made)
        os.environ.update(
            made.environment(),
            STOWAGE_STORAGE_PROVIDER="s3",
            STOWAGE_S3_BUCKET=names["InternalBucket"],
            STOWAGE_JOBS_QUEUE=names["JobsQueueUrl"],
            STOWAGE_EVENT_BUS=names["EventBusName"],
        )
        read_environment_again()
        _running.append(Emptied(made))
        yield made
    finally:
        _running.clear()
        made.stop()


class Emptied:
    """The embedded AWS, from which what tests have left goes now and then: every scan and sweep of a later one would meet it again."""

    EVERY = 40  # tests

    def __init__(self, aws: stack.EmbeddedAWS) -> None:
        self._dynamodb, self._s3 = aws.client("dynamodb"), aws.client("s3")
        self._buckets = [bucket["Name"] for bucket in self._s3.list_buckets()["Buckets"]]
        self._tables = [self._definition(name) for name in self._dynamodb.list_tables()["TableNames"]]
        self.tests = 0

    def _definition(self, name: str) -> dict[str, Any]:
        described = self._dynamodb.describe_table(TableName=name)["Table"]
        wanted = ("TableName", "KeySchema", "AttributeDefinitions", "StreamSpecification")
        kept = {part: described[part] for part in wanted if part in described} | {"BillingMode": "PAY_PER_REQUEST"}
        of_index = ("IndexName", "KeySchema", "Projection")
        indexes = [{part: index[part] for part in of_index} for index in described.get("GlobalSecondaryIndexes", ())]
        return kept | ({"GlobalSecondaryIndexes": indexes} if indexes else {})

    def empty(self) -> None:
        self.tests = 0
        for table in self._tables:
            self._dynamodb.delete_table(TableName=table["TableName"])
            self._dynamodb.create_table(**table)
        for bucket in self._buckets:
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                self._delete(bucket, [listed["Key"] for listed in page.get("Contents", ())])
        cache.forget_everything()

    def _delete(self, bucket: str, keys: list[str]) -> None:
        together = [{"Key": key} for key in keys if key.isprintable()]  # XML 1.0 has no others
        if together:
            self._s3.delete_objects(Bucket=bucket, Delete={"Objects": together, "Quiet": True})
        for key in keys:
            if not key.isprintable():
                self._s3.delete_object(Bucket=bucket, Key=key)


_running: list[Emptied] = []


def empty_everything() -> None:
    """Begin with nothing in the embedded AWS, if there is one."""
    for made in _running:
        made.empty()


@pytest.fixture(scope="module", autouse=True)
def nothing_of_others() -> None:
    """A module begins with empty tables, but for what its own fixtures put there."""
    empty_everything()


@pytest.fixture
def emptied_afterwards() -> Iterator[None]:
    """For tests that look through all that there is."""
    yield
    empty_everything()


@pytest.fixture(autouse=True)
def not_too_much(request: pytest.FixtureRequest) -> Iterator[None]:
    """Empties the tables after some tests of a module too, unless it has fixtures of its own there (`KEEPS_ROWS`)."""
    yield
    for made in _running:
        made.tests += 1
        if made.tests >= Emptied.EVERY and not getattr(request.module, "KEEPS_ROWS", False):
            made.empty()


def read_environment_again() -> None:
    for cached in (settings.settings, aws.session, aws.client, providers.internal, transforms._lambda):
        cached.cache_clear()
    cache.forget_everything()
    aws.session().register("before-send", _record)


@dataclass(frozen=True)
class Call:
    service: str
    operation: str


_recorded: list[Call] = []


def _record(request: Any, event_name: str, **_: Any) -> None:
    _, service, operation = event_name.split(".")
    _recorded.append(Call(service, operation))


@pytest.fixture
def calls() -> list[Call]:
    """Every request that botocore has sent since the test began, or since `calls.clear()`."""
    _recorded.clear()
    return _recorded


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Sets a `STOWAGE_*` variable for one test."""

    def set_variable(name: str, value: str) -> None:
        monkeypatch.setenv(name, value)
        settings.settings.cache_clear()

    yield set_variable
    monkeypatch.undo()
    settings.settings.cache_clear()


@pytest.fixture
def web(choose: Callable[[str, str], None]) -> Iterator[Web]:
    """A server on loopback that Stowage may ask."""
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "true")
    made = Web()
    yield made
    made.stop()


@dataclass(frozen=True)
class ImageFunction:
    """Makes image functions, each to be asked until the next is made; stops them after the test."""

    made: list[invoker.Server]

    def __call__(self, **options: Any) -> invoker.Server:
        server = invoker.Server(0, stack.ACCESS_KEY, **options)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.made.append(server)
        self.ask(server)
        return server

    @staticmethod
    def ask(server: invoker.Server) -> None:
        os.environ.update(AWS_ENDPOINT_URL_LAMBDA=server.endpoint, STOWAGE_IMAGE_FUNCTION="image-transform")
        read_environment_again()

    def stop(self) -> None:
        for server in self.made:
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="session")
def shared_image_function(embedded: stack.EmbeddedAWS) -> Iterator[invoker.Server]:
    """One for all tests that have no wishes: its processes take half a second to start."""
    function = ImageFunction([])
    yield function(patience=30)
    function.stop()


@pytest.fixture
def image_function(shared_image_function: invoker.Server) -> invoker.Server:
    """Transforms images in processes of its own, as Lambda does."""
    if os.environ.get("AWS_ENDPOINT_URL_LAMBDA") != shared_image_function.endpoint:
        ImageFunction.ask(shared_image_function)
    return shared_image_function


@pytest.fixture
def new_image_function(embedded: stack.EmbeddedAWS) -> Iterator[ImageFunction]:
    """Makes one by the settings of now, with a concurrency, patience or timeout of its own."""
    function = ImageFunction([])
    yield function
    function.stop()


class Context:
    """What Lambda tells a function of its remaining time."""

    def __init__(self, seconds: float = 900) -> None:
        self._ends = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return round((self._ends - time.monotonic()) * 1000)


def run_job(job_id: str, seconds: float = 900) -> None:
    """What the jobs queue does with a message."""
    event = {"Records": [{"messageId": "m", "body": json.dumps({"job_id": job_id})}]}
    workers.job_worker(event, Context(seconds))


class Clock:
    """The time that Stowage believes it is: the real one, moved on by tests."""

    def __init__(self) -> None:
        self.moved = 0.0

    def advance(self, seconds: float) -> None:
        self.moved += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved, real = Clock(), seam.timestamp
    monkeypatch.setattr(seam, "timestamp", lambda: real() + moved.moved)
    return moved


@dataclass(frozen=True)
class Tenant:
    """A fresh tenant and clients under its credentials."""

    tenant_id: str
    service_key: str
    jwt_secret: str
    service: Client
    anon: Client
    nobody: Client

    def token(self, **claims: Any) -> str:
        import jwt

        issued = {"tenant_id": self.tenant_id, "aud": "authenticated", "sub": "someone", "exp": int(seam.timestamp()) + 3600}
        return jwt.encode({**issued, **claims}, self.jwt_secret, algorithm="HS256")

    def user(self, **claims: Any) -> Client:
        return self.service.using(self.token(**claims))


@pytest.fixture
def new_tenant(embedded: stack.EmbeddedAWS) -> Any:
    """Makes tenants."""
    from app import app
    from chalicelib.core import tenants

    def make(name: str = "test") -> Tenant:
        made = tenants.create_tenant(name)
        nobody = Client(app)
        return Tenant(
            made.tenant_id, made.service_key, made.jwt_secret, nobody.using(made.service_key), nobody.using(made.anon_key), nobody
        )

    return make


@pytest.fixture
def tenant(new_tenant: Any) -> Tenant:
    made: Tenant = new_tenant()
    return made


@pytest.fixture
def service(tenant: Tenant) -> Client:
    """The API under a service key of a fresh tenant."""
    return tenant.service


@pytest.fixture
def on_filesystem(embedded: stack.EmbeddedAWS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The internal storage is a folder."""
    monkeypatch.setenv("STOWAGE_STORAGE_PROVIDER", "filesystem")
    monkeypatch.setenv("STOWAGE_STORAGE_ROOT", str(tmp_path))
    settings.settings.cache_clear()
    providers.internal.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    settings.settings.cache_clear()
    providers.internal.cache_clear()
