"""The storages that the conformance suite runs on.

To add one: a session fixture that gives its provider, and its line in STORAGES.
"""

import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import botocore.endpoint
import pytest
from moto.server import ThreadedMotoServer

from chalicelib.providers import Copier, Expirer, Multipart, Presigner, Provider
from chalicelib.providers.filesystem import Filesystem
from chalicelib.providers.s3 import S3
from infra import stack


@dataclass(frozen=True)
class Storage:
    """`fixture` gives the provider; `capabilities` is all that it can do beside the smallest contract.

    `verifies_urls` and `refuses_small_parts` tell what the server at hand enforces, not what the provider does.
    """

    fixture: str
    capabilities: frozenset[type] = frozenset()
    verifies_urls: bool = False
    refuses_small_parts: bool = False


S3_CAPABILITIES = frozenset([Copier, Presigner, Multipart])
STORAGES = (
    Storage("filesystem", frozenset([Copier, Multipart, Expirer])),
    Storage("s3_on_ministack", S3_CAPABILITIES, verifies_urls=True),
    Storage("s3_on_moto", S3_CAPABILITIES, refuses_small_parts=True),
)


def having(*capabilities: type, verifies_urls: bool = False, refuses_small_parts: bool = False) -> list[object]:
    """The storages with all of these, as parameters of a fixture."""
    chosen = [
        storage
        for storage in STORAGES
        if storage.capabilities.issuperset(capabilities)
        and (storage.verifies_urls or not verifies_urls)
        and (storage.refuses_small_parts or not refuses_small_parts)
    ]
    return [pytest.param(storage, id=storage.fixture) for storage in chosen]


# ---- servers ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def filesystem(tmp_path_factory: pytest.TempPathFactory) -> Filesystem:
    return Filesystem(str(tmp_path_factory.mktemp("files")))


@pytest.fixture(scope="session")
def s3_on_ministack(embedded: stack.EmbeddedAWS) -> S3:
    embedded.client("s3").create_bucket(Bucket="conformance")
    return S3("conformance", endpoint=embedded.endpoint, access_key=stack.ACCESS_KEY, secret_key=stack.SECRET_KEY)


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_on_moto(moto_endpoint: str) -> S3:
    keys = {
        "AWS_ENDPOINT_URL": moto_endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "moto",
        "AWS_SECRET_ACCESS_KEY": "moto",
    }
    stack.aws_client("s3", keys).create_bucket(Bucket="conformance")
    return S3("conformance", region="us-east-1", endpoint=moto_endpoint, access_key="moto", secret_key="moto")


# ---- what tests ask for ------------------------------------------------------------------------------------------
def _provider(request: pytest.FixtureRequest) -> Provider:
    provider: Provider = request.getfixturevalue(request.param.fixture)
    return provider


provider = pytest.fixture(scope="session", params=having(), name="provider")(_provider)
copier = pytest.fixture(scope="session", params=having(Copier), name="copier")(_provider)
presigner = pytest.fixture(scope="session", params=having(Presigner), name="presigner")(_provider)
verifying = pytest.fixture(scope="session", params=having(Presigner, verifies_urls=True), name="verifying")(_provider)
multipart = pytest.fixture(scope="session", params=having(Multipart), name="multipart")(_provider)
strict_multipart = pytest.fixture(scope="session", params=having(Multipart, refuses_small_parts=True), name="strict_multipart")(_provider)


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"objects/{uuid.uuid4()}/a"


@pytest.fixture
def folder() -> str:
    """A prefix, ending in `/`, that no other test uses."""
    return f"objects/{uuid.uuid4()}/"


@pytest.fixture(scope="session")
def closed_port() -> int:
    """A loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore tries again at once."""
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda seconds: None))
