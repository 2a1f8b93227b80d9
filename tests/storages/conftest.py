"""Tenants whose buckets lie on storages of their own, on real servers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import paramiko
import pytest
from azure.storage.blob import ContainerClient

from chalicelib.access import cache
from chalicelib.providers.s3 import S3
from infra import stack
from tests.client import Client
from tests.conftest import Tenant
from tests.servers.asyncssh_server import asyncssh_server
from tests.servers.azurite import Azurite, azurite
from tests.servers.pyftpd import pyftpd
from tests.servers.strict_s3 import strict_s3

Fields = dict[str, Any]


def _sftp(folder: Path, running: ExitStack) -> Fields:
    server = running.enter_context(asyncssh_server(folder))
    return {
        "provider": "sftp",
        "host": server.host,
        "port": server.port,
        "bucket": ".",
        "access_key": server.username,
        "secret_key": server.password,
        "path_prefix": "of stowage/",
    }


def _ftp(folder: Path, running: ExitStack) -> Fields:
    server = running.enter_context(pyftpd(folder))
    return {
        "provider": "ftp",
        "host": server.host,
        "port": server.port,
        "bucket": "/",
        "access_key": server.username,
        "secret_key": server.password,
        "tls": "none",
    }


def _azure(folder: Path, running: ExitStack) -> Fields:
    server = running.enter_context(azurite(folder))
    ContainerClient.from_connection_string(server.connection_string, "tenants").create_container()
    return {
        "provider": "azure_blob",
        "bucket": "tenants",
        "overrides": {f"{server.account}.blob.core.windows.net": server.endpoint},
        "access_key": server.account,
        "secret_key": server.key,
        "path_prefix": "a/b",
    }


def _strict_s3(folder: Path, running: ExitStack) -> Fields:
    server = running.enter_context(strict_s3(folder / "data"))
    S3("tenants", endpoint=server.endpoint, access_key=server.access_key, secret_key=server.secret_key)._call("CreateBucket")
    return {
        "provider": "s3_compatible",
        "bucket": "tenants",
        "endpoint_url": server.endpoint,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "path_prefix": "backups/",
    }


def _files(folder: Path, running: ExitStack) -> Fields:
    return {"provider": "filesystem", "bucket": "own"}


MAKERS: dict[str, Callable[[Path, ExitStack], Fields]] = {
    "sftp": _sftp,
    "ftp": _ftp,
    "azure": _azure,
    "strict_s3": _strict_s3,
    "filesystem": _files,
}


class Servers:
    """Starts each server when it is first asked for; gives the fields of a storage on it.

    `overrides` are the hosts that servers stand in for, as `STOWAGE_ENDPOINT_OVERRIDES` has them.
    """

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self._folder, self._running = folder, running
        self._fields: dict[str, Fields] = {}
        self.overrides: dict[str, str] = {}

    def fields(self, kind: str) -> Fields:
        if kind not in self._fields:
            (self._folder / kind).mkdir()
            fields = MAKERS[kind](self._folder / kind, self._running)
            self.overrides |= fields.pop("overrides", {})
            self._fields[kind] = fields
        return {"name": f"on {kind}", **self._fields[kind]}


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with ExitStack() as running:
        yield Servers(tmp_path_factory.mktemp("servers"), running)


@pytest.fixture
def every_kind(embedded: stack.EmbeddedAWS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings_again: Callable[[], None]) -> None:
    """Tenants may bring every kind of storage, also on loopback."""
    monkeypatch.setenv("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "true")
    monkeypatch.setenv("STOWAGE_ENABLED_PROVIDERS", "all")
    monkeypatch.setenv("STOWAGE_PROBES_PER_MINUTE", "1000")
    monkeypatch.setenv("STOWAGE_STORAGE_ROOT", str(tmp_path))
    settings_again()


@pytest.fixture
def settings_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Reads the settings again now, and once more after the test."""
    from chalicelib.settings import settings

    def read() -> None:
        settings.cache_clear()
        cache.forget_everything()

    yield read
    monkeypatch.undo()
    read()


@pytest.fixture(autouse=True)
def hung_up() -> Iterator[None]:
    """Nobody else closes the connections of providers that a test has made, and each has a thread that looks for what comes."""
    yield
    for thread in threading.enumerate():
        if isinstance(thread, paramiko.Transport):
            thread.close()


class OnStorage(Client):
    """A client whose buckets lie on one storage."""

    storage_id = ""

    def using(self, credential: str) -> "OnStorage":
        made = OnStorage(self._app, credential)
        made.storage_id = self.storage_id
        return made

    def bucket(self, name: str, **fields: Any) -> dict[str, Any]:
        return super().bucket(name, **{"storage_id": self.storage_id, **fields})


def created(tenant: Tenant, fields: Fields) -> str:
    """The id of a new storage of the tenant's."""
    made = tenant.service("POST", "/api/v1/backups/storage-configs", fields)
    assert made.status == 201, made.body
    return str(made.json()["id"])


def on_storage(tenant: Tenant, fields: Fields) -> Tenant:
    """The tenant, with a storage of its own that its clients make their buckets on."""
    storage_id = created(tenant, fields)

    def client(of: Client) -> Client:
        on = OnStorage(of._app, of._credential)
        on.storage_id = storage_id
        return on

    return replace(tenant, service=client(tenant.service), anon=client(tenant.anon), nobody=client(tenant.nobody))


@pytest.fixture
def fields_of(
    servers: Servers, every_kind: None, settings_again: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Fields]:
    """Gives what describes a storage of this kind, on a server that runs."""

    def describe(kind: str) -> Fields:
        fields = servers.fields(kind)
        monkeypatch.setenv("STOWAGE_ENDPOINT_OVERRIDES", ",".join(f"{host}={url}" for host, url in servers.overrides.items()))
        settings_again()
        return fields

    return describe


@pytest.fixture
def tenant_on(new_tenant: Any, fields_of: Callable[[str], Fields]) -> Callable[[str], Tenant]:
    """Makes tenants whose buckets lie on a storage of this kind."""

    def make(kind: str, name: str = "test") -> Tenant:
        fields = fields_of(kind)
        return on_storage(new_tenant(name), fields)

    return make


# Where the tests of objects and uploads are run once more: a server of files, one of blobs, one that checks every signature.
AGAIN = ("sftp", "azure", "strict_s3")


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that runs tests once more may say of some of them in `ON`, by name, where; and of all others under "*"."""
    chosen = getattr(metafunc.module, "ON", {})
    kinds = chosen.get(metafunc.function.__name__, chosen.get("*"))
    if kinds is not None and "tenant" in metafunc.fixturenames:
        metafunc.definition.add_marker(pytest.mark.parametrize("tenant", kinds, indirect=True))  # goes before the fixture's own


@pytest.fixture(params=AGAIN)
def tenant(request: pytest.FixtureRequest, tenant_on: Callable[[str], Tenant]) -> Tenant:
    """A tenant whose buckets lie on a storage of its own."""
    return tenant_on(request.param)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A storage account with the container that the internal storage of an installation on Azure uses."""
    with azurite(tmp_path_factory.mktemp("azurite")) as server:
        ContainerClient.from_connection_string(server.connection_string, "stowage").create_container()
        yield server
