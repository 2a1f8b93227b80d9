"""Clients of libraries go where `outbound` lets them, by whatever name: the private hooks that this needs, and that it works."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import botocore.awsrequest
import pytest

from chalicelib import aws, outbound
from chalicelib.errors import StorageUnavailable
from chalicelib.outbound import Screened
from chalicelib.providers import screened
from chalicelib.providers.azure import Azure
from chalicelib.providers.failures import Failure
from chalicelib.providers.ftp import FTP
from chalicelib.providers.s3 import S3
from chalicelib.providers.sftp import SFTP
from tests.servers.hostile import Hostile, listener
from tests.unit.test_outbound import answering

NOTATIONS = [
    "127.0.0.1", "localhost", "127.1", "127.0.1", "0x7f000001", "0x7f.1", "0177.0.0.1", "2130706433", "017700000001", "0",
    "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]",
]  # fmt: skip


def s3(host: str, port: int) -> S3:
    return S3("bucket", region="us-east-1", endpoint=f"http://{host}:{port}", access_key="a", secret_key="b", screened=True)


def azure(host: str, port: int) -> Azure:
    return Azure("container", account="account", key="a2V5", endpoint=f"http://{host}:{port}/account")


def sftp(host: str, port: int) -> SFTP:
    return SFTP(host.strip("[]"), "base", port=port, username="a", password="b")


def ftp(host: str, port: int) -> FTP:
    return FTP(host.strip("[]"), "base", port=port, username="a", password="b", tls="none")


def ftps(host: str, port: int) -> FTP:
    return FTP(host.strip("[]"), "base", port=port, username="a", password="b", tls="implicit")


MAKERS = (s3, azure, sftp, ftp, ftps)
makers = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


# ---- hooks -------------------------------------------------------------------------------------------------------
def test_botocore_makes_pools_from_the_hook() -> None:
    usual = aws.new_client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    pools = usual._endpoint.http_session._manager.pool_classes_by_scheme
    assert pools == {"http": botocore.awsrequest.AWSHTTPConnectionPool, "https": botocore.awsrequest.AWSHTTPSConnectionPool}
    manager = s3("a.example", 80)._client._endpoint.http_session._manager
    for scheme in ("http", "https"):
        pool = manager.connection_from_url(f"{scheme}://a.example/")
        assert isinstance(pool, pools[scheme])
        assert issubclass(pool.ConnectionCls, Screened)
        assert issubclass(pool.ConnectionCls, pools[scheme].ConnectionCls)
        assert pool.ConnectionCls._new_conn is Screened._new_conn


def redirection(client: Any) -> Any:
    context: dict[str, Any] = {}
    model = client.meta.service_model.operation_model("ListObjectsV2")
    client.meta.events.emit("before-parameter-build.s3.ListObjectsV2", params={"Bucket": "b"}, model=model, context=context)
    return context["s3_redirect"]["redirected"]


def test_botocores_redirector_believes_that_it_has_redirected() -> None:
    usual = aws.new_client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    assert redirection(usual) is False
    assert redirection(s3("a.example", 80)._client) is True


def test_the_session_of_requests_makes_screened_connections() -> None:
    session = screened.new_session()
    for scheme in ("http", "https"):
        pool = session.get_adapter(f"{scheme}://a.example/").poolmanager.connection_from_url(f"{scheme}://a.example/")  # type: ignore[attr-defined]
        assert issubclass(pool.ConnectionCls, Screened)
        assert pool.ConnectionCls._new_conn is Screened._new_conn
    assert session.trust_env is False


def test_azures_client_uses_that_session() -> None:
    transport = azure("a.example", 80)._blobs._client._client._pipeline._transport
    assert type(transport.session.get_adapter("http://a.example/")).__module__ == screened.__name__
    assert transport._use_env_settings is False


def test_an_s3_of_ones_own_is_not_screened() -> None:
    provider = S3("bucket", region="us-east-1", endpoint="http://127.0.0.1:9", access_key="a", secret_key="b")
    assert provider._client._endpoint.http_session._manager.pool_classes_by_scheme["http"] is botocore.awsrequest.AWSHTTPConnectionPool


# ---- where none may go -------------------------------------------------------------------------------------------
@pytest.fixture
def forbidden(choose: Callable[[str, str], None]) -> Iterator[Hostile]:
    """A server on loopback to which nothing may connect, proven at the end."""
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "false")
    with listener("silent") as server:
        yield server
        assert server.connections == []


def assert_refused(provider: Any) -> None:
    with pytest.raises(StorageUnavailable) as refused:
        provider.reach()
    assert refused.value.reason == Failure.ENDPOINT_REFUSED
    with pytest.raises(StorageUnavailable) as refused:
        provider.put("a", b"x", "text/plain")
    assert refused.value.reason == Failure.ENDPOINT_REFUSED


@makers
@pytest.mark.parametrize("notation", NOTATIONS)
def test_a_private_address_is_refused_without_a_packet(forbidden: Hostile, make: Callable[[str, int], Any], notation: str) -> None:
    assert_refused(make(notation, forbidden.port))


@makers
@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["fe80::1%lo"]])
def test_a_name_that_leads_there_is_refused_without_a_packet(
    forbidden: Hostile, make: Callable[[str, int], Any], addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, addresses)
    assert_refused(make("innocent.example", forbidden.port))


@makers
def test_a_name_that_changes_leads_to_the_address_that_was_judged(
    forbidden: Hostile, make: Callable[[str, int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    connected: list[Any] = []

    def connect(made: socket.socket, address: Any, *_: Any) -> None:
        made.close()
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(outbound, "_connected", connect)
    provider = make("rebinding.example", forbidden.port)
    with pytest.raises(StorageUnavailable) as refused:
        provider.reach()
    assert refused.value.reason in (Failure.CONNECTION_REFUSED, Failure.CANNOT_CONNECT)
    assert (asked, connected) == (["rebinding.example"], [("8.8.8.8", forbidden.port)])
    assert_refused(provider)  # the second time it has become a private one
    assert connected == [("8.8.8.8", forbidden.port)]


@pytest.mark.parametrize("make", [s3, azure], ids=lambda make: make.__name__)
def test_no_proxy_of_the_environment_is_asked(
    make: Callable[[str, int], Any], monkeypatch: pytest.MonkeyPatch, choose: Callable[[str, str], None]
) -> None:
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "true")
    with listener("refusing") as proxy, listener("refusing") as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with pytest.raises(StorageUnavailable):
            make(server.host, server.port).reach()
        assert len(server.connections) == 1
        assert proxy.connections == []


@makers
def test_where_private_endpoints_are_allowed_the_server_is_asked(
    make: Callable[[str, int], Any], choose: Callable[[str, str], None]
) -> None:
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "true")
    with listener("refusing") as server:
        with pytest.raises(StorageUnavailable):
            make("localhost", server.port).reach()
        assert len(server.connections) == 1
