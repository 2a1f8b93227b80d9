"""The storages that the conformance suite runs on.

To add one: a session fixture that gives its provider, and its line in STORAGES.
"""

import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.endpoint
import pytest
from azure.storage.blob import ContainerClient
from moto.server import ThreadedMotoServer

from chalicelib.providers import Copier, Describer, Expirer, Multipart, Presigner, Provider
from chalicelib.providers.azure import Azure
from chalicelib.providers.filesystem import Filesystem
from chalicelib.providers.ftp import FTP
from chalicelib.providers.s3 import S3
from chalicelib.providers.sftp import SFTP
from infra import stack
from tests.servers.asyncssh_server import asyncssh_server
from tests.servers.azurite import azurite
from tests.servers.ftp import FTPServer
from tests.servers.openssh import openssh
from tests.servers.pyftpd import pyftpd
from tests.servers.strict_s3 import strict_s3
from tests.servers.vsftpd import vsftpd


@dataclass(frozen=True)
class Storage:
    """`fixture` gives the provider; `capabilities` is all that it can do beside the smallest contract.

    `verifies_urls` and `refuses_small_parts` tell what the server at hand enforces, not what the provider does; a `slow` one is not
    asked for thousands.
    """

    fixture: str
    capabilities: frozenset[type] = frozenset()
    verifies_urls: bool = False
    refuses_small_parts: bool = False
    slow: bool = False


S3_CAPABILITIES = frozenset([Copier, Describer, Presigner, Multipart])
TREE_CAPABILITIES = frozenset([Multipart])
STORAGES = (
    Storage("filesystem", frozenset([Copier, Multipart, Expirer])),
    Storage("s3_on_ministack", S3_CAPABILITIES, verifies_urls=True),
    Storage("s3_on_moto", S3_CAPABILITIES, refuses_small_parts=True),
    Storage("s3_on_swift", S3_CAPABILITIES, verifies_urls=True, refuses_small_parts=True, slow=True),
    Storage("azure_on_azurite", S3_CAPABILITIES | {Expirer}),
    Storage("sftp_on_openssh", TREE_CAPABILITIES),
    Storage("sftp_on_asyncssh", TREE_CAPABILITIES),
    Storage("ftp_on_pyftpdlib", TREE_CAPABILITIES),
    Storage("ftp_on_vsftpd", TREE_CAPABILITIES),
    Storage("ftps_on_pyftpdlib", TREE_CAPABILITIES),
    Storage("ftps_on_vsftpd", TREE_CAPABILITIES),
)


def having(
    *capabilities: type, verifies_urls: bool = False, refuses_small_parts: bool = False, fixtures: str = "", quick: bool = False
) -> list[object]:
    """The storages with all of these, as parameters of a fixture."""
    chosen = [
        storage
        for storage in STORAGES
        if storage.capabilities.issuperset(capabilities)
        and storage.fixture.startswith(fixtures)
        and not (quick and storage.slow)
        and (storage.verifies_urls or not verifies_urls)
        and (storage.refuses_small_parts or not refuses_small_parts)
    ]
    return [pytest.param(storage, id=storage.fixture) for storage in chosen]


@pytest.fixture(autouse=True)
def private_endpoints(choose: Callable[[str, str], None]) -> None:
    """The servers of tests lie on loopback."""
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "true")


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


@pytest.fixture(scope="session")
def s3_on_swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with strict_s3(tmp_path_factory.mktemp("swift") / "data") as server:
        keys = {"access_key": server.access_key, "secret_key": server.secret_key}
        made = S3("conformance", region=server.region, endpoint=server.endpoint, **keys)
        made._call("CreateBucket")
        yield S3("conformance", region=server.region, endpoint=server.endpoint, **keys, prefix="team//prod ü/", screened=True)


@pytest.fixture(scope="session")
def azure_on_azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    with azurite(tmp_path_factory.mktemp("azurite")) as server:
        ContainerClient.from_connection_string(server.connection_string, "conformance").create_container()
        yield Azure("conformance", account=server.account, key=server.key, endpoint=server.endpoint, prefix="pre fix/ü/")


@pytest.fixture(scope="session")
def sftp_on_openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SFTP]:
    with openssh(tmp_path_factory.mktemp("openssh")) as server:
        yield SFTP(
            server.host,
            str(server.root),
            port=server.port,
            username=server.username,
            private_key=server.private_key,
            host_key=server.host_key,
            prefix="backups/a b",
        )


@pytest.fixture(scope="session")
def sftp_on_asyncssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SFTP]:
    with asyncssh_server(tmp_path_factory.mktemp("asyncssh")) as server:
        yield SFTP(server.host, ".", port=server.port, username=server.username, password=str(server.password))


class _Trusting(FTP):
    """Trusts the authority of its server, as a system that knows it would."""

    authority: Path | None = None

    def _connect(self) -> Any:
        if self.authority is None:
            return super()._connect()
        with trusting(self.authority):
            return super()._connect()


def _ftp(server: FTPServer, tls: str, **options: str) -> FTP:
    made = _Trusting(server.host, ".", port=server.port, username=server.username, password=server.password, tls=tls, **options)
    made.authority = server.certificate
    return made


@pytest.fixture(scope="session")
def ftp_on_pyftpdlib(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FTP]:
    with pyftpd(tmp_path_factory.mktemp("pyftpd")) as server:
        yield _ftp(server, "none", prefix="backups")


@pytest.fixture(scope="session")
def ftp_on_vsftpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FTP]:
    with vsftpd(tmp_path_factory.mktemp("vsftpd")) as server:
        yield _ftp(server, "none")


@pytest.fixture(scope="session")
def ftps_on_pyftpdlib(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FTP]:
    with pyftpd(tmp_path_factory.mktemp("pyftpd"), tls="implicit") as server:
        yield _ftp(server, "implicit")


@pytest.fixture(scope="session")
def ftps_on_vsftpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FTP]:
    with vsftpd(tmp_path_factory.mktemp("vsftpd"), tls="explicit", session_reuse=True) as server:
        yield _ftp(server, "explicit")


@contextmanager
def trusting(authority: Path) -> Iterator[None]:
    """Has this process trust one authority and no other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority))
        yield


# ---- what tests ask for ------------------------------------------------------------------------------------------
def _provider(request: pytest.FixtureRequest) -> Provider:
    provider: Provider = request.getfixturevalue(request.param.fixture)
    return provider


provider = pytest.fixture(scope="session", params=having(), name="provider")(_provider)
quick = pytest.fixture(scope="session", params=having(quick=True), name="quick")(_provider)
quickly_verifying = pytest.fixture(scope="session", params=having(Presigner, verifies_urls=True, quick=True), name="quickly_verifying")(
    _provider
)
copier = pytest.fixture(scope="session", params=having(Copier), name="copier")(_provider)
describer = pytest.fixture(scope="session", params=having(Describer), name="describer")(_provider)
presigner = pytest.fixture(scope="session", params=having(Presigner), name="presigner")(_provider)
s3 = pytest.fixture(scope="session", params=having(fixtures="s3_"), name="s3")(_provider)
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
