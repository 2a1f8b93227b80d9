"""Every way that a storage fails is met on a real server, told by its own word and in the seed's, and tells no secret."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
from azure.storage.blob import ContainerClient
from cryptography.hazmat.primitives import serialization

from chalicelib.core import probing
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import catalogue
from chalicelib.providers.catalogue import Connection
from chalicelib.providers.failures import Failure
from chalicelib.providers.retries import persistent
from chalicelib.providers.s3 import S3
from tests.contract.conftest import trusting
from tests.issuer import rsa_key
from tests.servers.asyncssh_server import asyncssh_server
from tests.servers.azurite import Azurite, azurite
from tests.servers.ftp import FTPServer, make_certificates
from tests.servers.hostile import black_hole, closed_port, listener
from tests.servers.openssh import openssh
from tests.servers.process import LOOPBACK
from tests.servers.pyftpd import pyftpd
from tests.servers.ssh import SSHServer
from tests.servers.strict_s3 import StrictS3, strict_s3
from tests.servers.vsftpd import vsftpd

pytestmark = pytest.mark.xdist_group("failures")
PROFILE = probing.Profile("probe.json", b'{"probe": true}')
SECRET_KEY = "secret/Access+KEY0123456789"
AZURE_KEY = "c2VjcmV0QXp1cmVLZXkwMTIzNDU2Nzg5"
OLD_KEY = (
    rsa_key("another")
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    .decode()
)


# ---- servers -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictS3]:
    with strict_s3(tmp_path_factory.mktemp("swift") / "data") as server:
        S3("bucket", region=server.region, endpoint=server.endpoint, access_key=server.access_key, secret_key=server.secret_key)._call(
            "CreateBucket"
        )
        yield server


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with azurite(tmp_path_factory.mktemp("azurite")) as server:
        ContainerClient.from_connection_string(server.connection_string, "bucket").create_container()
        yield server


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with asyncssh_server(tmp_path_factory.mktemp("asyncssh")) as server:
        yield server


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with openssh(tmp_path_factory.mktemp("openssh")) as server:
        yield server


@pytest.fixture(scope="module")
def ftpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FTPServer]:
    with pyftpd(tmp_path_factory.mktemp("pyftpd")) as server:
        yield server


def on_swift(server: StrictS3, **changed: Any) -> Connection:
    keys = {"access_key": server.access_key, "secret_key": server.secret_key}
    return Connection(**{"kind": "minio", "bucket": "bucket", "region": server.region, "endpoint": server.endpoint, **keys, **changed})


def on_azurite(server: Azurite, **changed: Any) -> Connection:
    keys = {"access_key": server.account, "secret_key": server.key}
    return Connection(**{"kind": "azure_blob", "bucket": "bucket", "endpoint": server.endpoint, **keys, **changed})


def on_ssh(server: SSHServer, **changed: Any) -> Connection:
    keys = {"access_key": server.username, "secret_key": server.password or ""}
    keys |= {} if server.password else {"private_key": server.private_key}
    return Connection(**{"kind": "sftp", "bucket": ".", "host": server.host, "port": server.port, **keys, **changed})


def on_ftp(server: FTPServer, **changed: Any) -> Connection:
    keys = {"access_key": server.username, "secret_key": server.password}
    return Connection(**{"kind": "ftp", "bucket": ".", "host": server.host, "port": server.port, "tls": "none", **keys, **changed})


def somewhere(kind: str, port: int, host: str = LOOPBACK, scheme: str = "http") -> Connection:
    """A connection of a kind to whatever is there."""
    if kind in ("sftp", "ftp"):
        return Connection(
            kind=kind, bucket=".", host=host, port=port, tls="none" if kind == "ftp" else "", access_key="username", secret_key=SECRET_KEY
        )
    endpoint = f"{scheme}://{host}:{port}"
    if kind == "azure_blob":
        return Connection(kind=kind, bucket="bucket", endpoint=f"{endpoint}/accountname", access_key="accountname", secret_key=AZURE_KEY)
    return Connection(
        kind=kind, bucket="bucket", region="us-east-1", endpoint=endpoint, access_key="AKIDEXAMPLE0123", secret_key=SECRET_KEY
    )


# ---- what is told ------------------------------------------------------------------------------------------------
def probed(connection: Connection) -> probing.Result:
    return probing.probe(connection, "tenant", PROFILE)


def assert_no_secret(connection: Connection, *texts: object) -> None:
    secrets = [connection.secret_key, *connection.private_key.splitlines()[1:-1]]
    if KEYS_ARE_SECRET.get(connection.kind, True):
        secrets.append(connection.access_key)
    told = "\n".join(str(text) + repr(text) for text in texts)
    assert [secret for secret in secrets if secret and secret in told] == []


# The name of a user or an account may be part of an address.
KEYS_ARE_SECRET = {"azure_blob": False, "sftp": False, "ftp": False}


def assert_fails(connection: Connection, code: str, message: str, step: str = probing.LIST) -> probing.Result:
    """The probe fails so, knows what it has come to know, and neither it nor the provider tells a secret."""
    result = probed(connection)
    problem = result.problem
    assert problem is not None, result
    assert (problem.step, problem.code, problem.message) == (step, code, message)
    assert problem.hint.endswith(".")
    assert not result.succeeded
    reached = step != probing.LIST
    assert result.bucket_exists is (True if reached else False if code == Failure.BUCKET_NOT_FOUND else None)
    assert result.can_write is {probing.LIST: None, probing.PUT: False, probing.GET: True}[step]
    assert result.can_read is (False if step == probing.GET else None)
    assert (result.can_delete, result.latency_ms, result.warning) == (None, None, None)
    assert set(result.findings().values()) == {None}
    assert_no_secret(connection, result, problem, connection)
    return result


def assert_refuses(connection: Connection, code: str) -> StorageUnavailable:
    """The bare provider says so too, at whatever it is asked."""
    errors = []
    asks: tuple[Callable[[Any], Any], ...] = (
        lambda provider: provider.reach(),
        lambda provider: provider.put("a", b"x", "text/plain"),
        lambda provider: list(provider.list("a")),
    )
    for ask in asks:
        with pytest.raises(StorageUnavailable) as raised:
            ask(catalogue.opened(connection, "tenant"))
        errors.append(raised.value)
        assert raised.value.reason == code
        assert_no_secret(connection, raised.value, raised.value.message, raised.value.details)
    return errors[0]


def assert_succeeds(connection: Connection) -> probing.Result:
    result = probed(connection)
    assert result.problem is None
    assert result.succeeded
    assert (result.bucket_exists, result.can_write, result.can_read, result.can_delete, result.warning) == (True, True, True, True, None)
    assert result.latency_ms is not None
    assert result.latency_ms >= 1
    assert result.capabilities.range_read is True
    assert result.capabilities.multipart is True
    assert_no_secret(connection, result)
    provider = catalogue.opened(connection, "tenant")
    assert provider.stat(PROFILE.key) is None
    return result


def test_every_failure_has_words_and_a_hint() -> None:
    connection = somewhere("minio", 1)
    for cause in Failure:
        message, hint = probing._worded(cause, connection, {})
        assert message
        assert hint.endswith(".")


# ---- success -----------------------------------------------------------------------------------------------------
def test_storages_that_work_are_found_to(swift: StrictS3, blobs: Azurite, ssh: SSHServer, sshd: SSHServer, ftpd: FTPServer) -> None:
    found = assert_succeeds(on_swift(swift, prefix="/a//b/"))
    assert found.findings()["conditional_put"] is True
    assert found.host_key == ""
    assert_succeeds(on_azurite(blobs))
    assert assert_succeeds(on_ssh(ssh)).host_key == ssh.host_key
    assert assert_succeeds(on_ssh(sshd, bucket=str(sshd.root), prefix="x/y", host_key=sshd.host_key)).host_key == sshd.host_key
    assert assert_succeeds(on_ftp(ftpd)).host_key == ""


@pytest.mark.parametrize(
    ("kind", "host", "told"),
    [
        ("aws_s3", "s3.us-east-1.amazonaws.com", {}),
        ("wasabi", "s3.us-east-1.wasabisys.com", {}),
        ("digitalocean_spaces", "us-east-1.digitaloceanspaces.com", {}),
        ("backblaze_b2", "s3.us-east-1.backblazeb2.com", {"endpoint": "https://s3.us-east-1.backblazeb2.com"}),
        ("s3_compatible", "s3.example.com:8443", {"endpoint": "https://s3.example.com:8443"}),
    ],
)
def test_a_server_stands_in_for_a_host(swift: StrictS3, choose: Callable[[str, str], None], kind: str, host: str, told: Any) -> None:
    choose("STOWAGE_ENDPOINT_OVERRIDES", f"other.example=http://127.0.0.1:1,{host}={swift.endpoint}")
    assert_succeeds(on_swift(swift, kind=kind, **{"endpoint": "", **told}))


def test_a_server_stands_in_for_a_host_of_files(ftpd: FTPServer, ssh: SSHServer, choose: Callable[[str, str], None]) -> None:
    pairs = f"ftp.example=http://{ftpd.host}:{ftpd.port},sftp.example=http://{ssh.host}:{ssh.port}"
    choose("STOWAGE_ENDPOINT_OVERRIDES", pairs)
    assert_succeeds(on_ftp(ftpd, host="ftp.example", port=21))
    assert_succeeds(on_ssh(ssh, host="sftp.example", port=22))


# ---- S3 ----------------------------------------------------------------------------------------------------------
UNKNOWN_KEY = "The AWS Access Key Id you provided does not exist in our records."
NO_BUCKET = "The specified bucket does not exist"
DENIED = "Access Denied"


def test_s3_unknown_access_key(swift: StrictS3) -> None:
    connection = on_swift(swift, access_key="UNKNOWN0123456789AB")
    assert_fails(connection, "InvalidCredentials", UNKNOWN_KEY)
    assert_refuses(connection, "InvalidCredentials")


def test_s3_wrong_secret_key(swift: StrictS3) -> None:
    connection = on_swift(swift, secret_key=SECRET_KEY)
    told = "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    assert_fails(connection, "WrongSignature", told)
    assert_refuses(connection, "WrongSignature")


@pytest.mark.parametrize("changed", [{"access_key": "UNKNOWN0123456789AB"}, {"secret_key": SECRET_KEY}])
def test_b2_wrong_key(swift: StrictS3, choose: Callable[[str, str], None], changed: dict[str, str]) -> None:
    choose("STOWAGE_ENDPOINT_OVERRIDES", f"s3.us-west-004.backblazeb2.com={swift.endpoint}")
    connection = on_swift(swift, kind="backblaze_b2", endpoint="https://s3.us-west-004.backblazeb2.com", **changed)
    code = "InvalidCredentials" if "access_key" in changed else "WrongSignature"
    assert_fails(connection, code, "Invalid application key")


def test_s3_missing_bucket(swift: StrictS3) -> None:
    connection = on_swift(swift, bucket="never-made")
    assert_fails(connection, "BucketNotFound", NO_BUCKET)
    assert_refuses(connection, "BucketNotFound")


def test_s3_second_user(swift: StrictS3) -> None:
    connection = on_swift(swift, access_key=swift.second_access_key, secret_key=swift.second_secret_key)
    assert_fails(connection, "AccessDenied", DENIED)
    assert_refuses(connection, "AccessDenied")


def test_s3_wrong_region(swift: StrictS3) -> None:
    connection = on_swift(swift, region="us-west-2")
    told = "The authorization header is malformed; the region 'us-west-2' is wrong; expecting 'us-east-1'"
    assert_fails(connection, "WrongRegion", told)
    assert assert_refuses(connection, "WrongRegion").details["expected"] == "us-east-1"


def test_s3_clock(swift: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    real = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *args, **named: real(*args, **named) - timedelta(hours=1))
    connection = on_swift(swift)
    assert_fails(connection, "ClockSkewed", "The difference between the request time and the current time is too large.")
    assert_refuses(connection, "ClockSkewed")


def test_s3_without_credentials_is_not_asked_with_the_functions_own(swift: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", swift.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", swift.secret_key)
    for changed in ({"access_key": ""}, {"secret_key": ""}):
        result = probed(on_swift(swift, **changed))
        assert result.problem is not None
        assert (result.problem.step, result.problem.code) == ("LIST", "Failed")


# ---- Azure -------------------------------------------------------------------------------------------------------
def test_azure_wrong_key(blobs: Azurite) -> None:
    """Azurite says AuthorizationFailure, Azure itself AuthenticationFailed."""
    connection = on_azurite(blobs, secret_key=AZURE_KEY)
    assert_fails(connection, "AccessDenied", DENIED)
    assert_refuses(connection, "AccessDenied")
    told = b'<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code><Message>Server failed.</Message></Error>'
    with serving(Web(403, told, "application/xml")) as port:
        assert_fails(somewhere("azure_blob", port), "InvalidCredentials", "Server failed to authenticate the request")


def test_azure_missing_container(blobs: Azurite) -> None:
    connection = on_azurite(blobs, bucket="never-made")
    assert_fails(connection, "BucketNotFound", NO_BUCKET)
    assert_refuses(connection, "BucketNotFound")


# ---- SFTP --------------------------------------------------------------------------------------------------------
NO_LOGIN = "Authentication failed (publickey,password)"


@pytest.mark.parametrize("changed", [{"secret_key": "wrong password"}, {"secret_key": ""}, {"access_key": "nobody"}])
def test_sftp_wrong_password(ssh: SSHServer, changed: dict[str, str]) -> None:
    connection = on_ssh(ssh, **changed)
    assert_fails(connection, "AuthenticationFailed", NO_LOGIN)
    assert_refuses(connection, "AuthenticationFailed")


@pytest.mark.parametrize("key", [OLD_KEY, "not a key", OLD_KEY[:-200] + OLD_KEY[-100:]], ids=["another", "none", "broken"])
def test_sftp_wrong_key(sshd: SSHServer, key: str) -> None:
    connection = on_ssh(sshd, private_key=key)
    assert_fails(connection, "AuthenticationFailed", NO_LOGIN)
    assert_refuses(connection, "AuthenticationFailed")


def test_sftp_key_with_a_passphrase(ssh: SSHServer) -> None:
    key = serialization.load_pem_private_key(ssh.rsa_private_key.encode(), None)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.BestAvailableEncryption(b"correct horse")
    ).decode()
    assert_succeeds(on_ssh(ssh, private_key=private, secret_key="correct horse"))
    for passphrase in ("", "wrong battery"):
        assert_fails(on_ssh(ssh, private_key=private, secret_key=passphrase), "AuthenticationFailed", NO_LOGIN)


def test_sftp_host_key_changed(tmp_path: Path) -> None:
    told = "The host key of the server has changed"
    with openssh(tmp_path) as first:
        pinned = on_ssh(first, bucket=str(first.root), host_key=first.host_key)
        assert_succeeds(pinned)
    with openssh(tmp_path, port=first.port, new_host_key=True) as changed:
        assert changed.host_key != first.host_key
        assert_fails(pinned, "HostKeyChanged", told)
        assert_refuses(pinned, "HostKeyChanged")
        assert assert_succeeds(replace(pinned, host_key="")).host_key == changed.host_key
        assert_succeeds(replace(pinned, host_key=changed.host_key))


def test_files_missing_folder(ssh: SSHServer, ftpd: FTPServer) -> None:
    for connection in (on_ssh(ssh, bucket="never-made"), on_ftp(ftpd, bucket="never/made"), on_ftp(ftpd, bucket="/never-made", prefix="x")):
        assert_fails(connection, "BucketNotFound", NO_BUCKET)
        assert_refuses(connection, "BucketNotFound")


@contextmanager
def own_sftp(folder: Path, **methods: Any) -> Iterator[int]:
    """asyncssh's SFTP server in a thread, with these methods in place of its own; gives its port."""
    import asyncssh

    class Server(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return True

    class Files(asyncssh.SFTPServer):
        def __init__(self, channel: Any) -> None:
            super().__init__(channel, chroot=str(folder).encode())

    for name, method in methods.items():
        setattr(Files, name, method)
    loop, started, ports = asyncio.new_event_loop(), threading.Event(), list[int]()

    async def serve() -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen(LOOPBACK, 0, server_factory=Server, server_host_keys=[key], sftp_factory=Files)
        ports.append(server.get_port())
        started.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(20)
    yield ports[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)


def refuse(*_: Any, **__: Any) -> None:
    import asyncssh

    raise asyncssh.SFTPPermissionDenied("no")


def test_sftp_read_only(tmp_path: Path) -> None:
    with own_sftp(tmp_path, mkdir=refuse, rename=refuse, posix_rename=refuse, remove=refuse) as port:
        assert_fails(somewhere("sftp", port), "AccessDenied", DENIED, probing.PUT)


def test_sftp_without_the_right_to_delete_works_with_a_warning(tmp_path: Path) -> None:
    with own_sftp(tmp_path, remove=refuse) as port:
        result = probed(replace(somewhere("sftp", port), prefix="a//b"))
    assert result.succeeded
    assert (result.can_write, result.can_read, result.can_delete) == (True, True, False)
    assert result.warning is not None
    assert "AccessDenied" in result.warning
    assert "a/b/probe.json" in result.warning
    assert (tmp_path / "a" / "b" / "probe.json").exists()


def test_a_storage_that_changes_bytes_is_found_out(tmp_path: Path) -> None:
    def read(self: Any, file: Any, offset: int, size: int) -> bytes:
        file.seek(offset)
        return bytes(file.read(size).upper())

    with own_sftp(tmp_path, read=read) as port:
        assert_fails(somewhere("sftp", port), "BytesDiffer", "The storage gave back other bytes than it was given", probing.GET)


# ---- FTP ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("changed", [{"secret_key": "wrong password"}, {"access_key": "nobody"}])
def test_ftp_wrong_password(ftpd: FTPServer, changed: dict[str, str]) -> None:
    connection = on_ftp(ftpd, **changed)
    assert_fails(connection, "AuthenticationFailed", NO_LOGIN)
    assert_refuses(connection, "AuthenticationFailed")


UNTRUSTED = "SSL: CERTIFICATE_VERIFY_FAILED"


@pytest.mark.parametrize("tls", ["explicit", "implicit"])
def test_ftps_untrusted_certificate(tmp_path: Path, tls: Any) -> None:
    with pyftpd(tmp_path, tls=tls) as server:
        connection = on_ftp(server, tls=tls)
        assert_fails(connection, "TlsFailed", UNTRUSTED)
        assert_refuses(connection, "TlsFailed")
        with trusting(Path(str(server.certificate))):
            assert_succeeds(connection)


@pytest.mark.parametrize("reuse", [False, True])
def test_ftps_of_vsftpd_works(tmp_path: Path, reuse: bool) -> None:
    with vsftpd(tmp_path, tls="explicit", session_reuse=reuse) as server, trusting(Path(str(server.certificate))):
        assert_succeeds(on_ftp(server, tls="explicit"))


def test_ftps_asked_of_a_server_without(ftpd: FTPServer) -> None:
    result = probed(on_ftp(ftpd, tls="explicit"))
    assert result.problem is not None
    assert result.problem.step == "LIST"
    assert_no_secret(on_ftp(ftpd), result)


# ---- networks ----------------------------------------------------------------------------------------------------
KINDS = ["minio", "azure_blob", "sftp", "ftp"]
kinds = pytest.mark.parametrize("kind", KINDS)
NO_CONNECTION = "Could not connect to the endpoint URL"


@kinds
def test_a_closed_port(kind: str, request: pytest.FixtureRequest) -> None:
    with closed_port() as port:
        assert_fails(somewhere(kind, port), "ConnectionRefused", "Connection refused")
        assert_refuses(somewhere(kind, port), "ConnectionRefused")


@pytest.mark.parametrize("several", [["minio", "sftp", "ftp"], ["azure_blob"]])
def test_a_black_hole(several: list[str]) -> None:
    with black_hole() as (host, port), ThreadPoolExecutor(len(KINDS)) as pool:
        waiting = [pool.submit(assert_fails, somewhere(kind, port, host), "Timeout", "Connection timeout") for kind in several]
        for each in waiting:
            each.result()


@kinds
def test_an_unknown_name(kind: str) -> None:
    connection = somewhere(kind, 443, "nowhere.invalid")
    assert_fails(connection, "CannotConnect", NO_CONNECTION)
    assert_refuses(connection, "CannotConnect")


@dataclass
class Web:
    """An HTTP server that answers everything alike; `asked` are methods and paths, `sent` all headers."""

    status: int
    body: bytes = b""
    kind: str = "text/html"
    asked: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)


@contextmanager
def serving(web: Web, certificates: Any = None) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            web.asked.append(f"{self.command} {self.path}")
            web.sent.append(str(self.headers))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(web.status)
            self.send_header("Content-Type", web.kind)
            self.send_header("Content-Length", str(len(web.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(web.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    if certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server, certificates.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(20)


@pytest.mark.parametrize("kind", ["minio", "azure_blob"])
def test_https_with_a_certificate_of_nobody(tmp_path: Path, kind: str) -> None:
    web = Web(200)
    with serving(web, make_certificates(tmp_path)) as port:
        for host in (LOOPBACK, "localhost"):
            connection = somewhere(kind, port, host, "https")
            assert_fails(connection, "TlsFailed", UNTRUSTED)
            assert_refuses(connection, "TlsFailed")
    assert web.asked == []


HTML = b"<!DOCTYPE html><html><head><meta charset=utf-8><title>It works</title><br></head></html>"


@pytest.mark.parametrize("kind", ["minio", "azure_blob"])
@pytest.mark.parametrize(("status", "body"), [(200, HTML), (404, HTML), (404, b""), (200, b'{"a": 1}')], ids=["200", "404", "bare", "JSON"])
def test_a_web_server_that_is_no_storage(kind: str, status: int, body: bytes) -> None:
    with serving(Web(status, body)) as port:
        assert_fails(somewhere(kind, port), "CannotConnect", NO_CONNECTION)


@pytest.mark.parametrize("kind", ["minio", "azure_blob"])
@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (401, "InvalidCredentials"), (400, "Failed"), (500, "Busy"), (503, "Busy")]
)
def test_a_status_without_a_code(kind: str, status: int, code: str) -> None:
    if kind == "minio" and code == "Busy":
        code = "CannotConnect"  # S3 has a code for it: this is something else
    web = Web(status, HTML)
    with serving(web) as port:
        result = probed(somewhere(kind, port))
        assert result.problem is not None
        assert (result.problem.step, result.problem.code) == ("LIST", code)
        assert len(web.asked) == (probing.ATTEMPTS if code in ("Busy", "CannotConnect") else 1)
        assert_refuses(somewhere(kind, port), code)


@pytest.mark.parametrize("code", ["SlowDown", "InternalError", "ServiceUnavailable"])
def test_a_busy_s3(code: str) -> None:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>Slow down</Message></Error>'.encode()
    with serving(Web(503, body, "application/xml")) as port:
        assert_fails(somewhere("minio", port), "Busy", "The storage is busy or failing")


@pytest.mark.parametrize("body", [b"<Error><Message>x</Message></Error>", b"<Error/>"])
def test_a_refusal_without_a_code_is_one(body: bytes) -> None:
    with serving(Web(400, body, "application/xml")) as port:
        assert_refuses(somewhere("minio", port), "Failed")


def test_an_s3_that_answers_nothing_at_all_is_a_failure() -> None:
    with serving(Web(200)) as port:
        provider: Any = persistent(catalogue.opened(somewhere("minio", port), "tenant"), seconds=5)
        asks = (
            lambda: provider.inspect("a", 5),
            lambda: provider.create_multipart("a", "text/plain"),
            lambda: provider.upload_part("a", "1", 1, b"x"),
            lambda: provider.copy_part("a", "1", 1, "b", 0, 1),
            lambda: provider.examine("a", b"12345"),
        )
        for ask in asks:
            with pytest.raises((StorageUnavailable, BytesMissing)):
                ask()


@pytest.mark.parametrize("kind", ["minio", "azure_blob"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_leads_nowhere(kind: str, status: int) -> None:
    told = "The endpoint leads to an address that is not public, or redirects"
    with ExitStack() as stack:
        elsewhere = stack.enter_context(listener("silent"))
        server = stack.enter_context(listener("redirect", to=f"{elsewhere.url}/bucket/probe.json", status=status))
        connection = somewhere(kind, server.port)
        assert_fails(connection, "EndpointRefused", told)
        assert_refuses(connection, "EndpointRefused")
        provider: Any = catalogue.opened(connection, "tenant")
        for ask in (lambda: provider.stat("a"), lambda: provider.read("a", 0, 1), lambda: provider.create_multipart("a", "text/plain")):
            with pytest.raises(StorageUnavailable):
                ask()
        assert elsewhere.connections == []


@kinds
def test_what_may_not_be_asked(kind: str, choose: Callable[[str, str], None]) -> None:
    with listener("silent") as server:
        choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "false")
        told = "The endpoint leads to an address that is not public, or redirects"
        assert_fails(somewhere(kind, server.port), "EndpointRefused", told)
        assert server.connections == []


# ---- servers that talk nonsense ------------------------------------------------------------------------------------
@contextmanager
def talking(  # noqa: C901
    replies: dict[str, bytes], stored: Callable[[Any], None] = lambda _: None, fetched: bytes = b"226 done\r\n"
) -> Iterator[int]:
    """A server that speaks FTP and answers some commands with these; `stored` reads what is sent, RETR gives 400 bytes, then `fetched`."""
    import socket

    usual = {"USER": b"331 go on\r\n", "PASS": b"230 welcome\r\n", "TYPE": b"200 yes\r\n", "PWD": b'257 "/"\r\n', "REST": b"350 yes\r\n"}
    listening = socket.create_server((LOOPBACK, 0))

    def talk(client: socket.socket) -> None:
        data = None
        client.sendall(b"220 hello\r\n")
        for line in client.makefile("rb"):
            command = line.split()[0].decode()
            if command in ("STOR", "RETR") and data:
                client.sendall(b"150 go\r\n")
                with data.accept()[0] as carried:
                    if command == "STOR":
                        stored(carried)
                    else:
                        carried.sendall(b"x" * 400)
                client.sendall(fetched)
            elif command == "PASV":
                data = socket.create_server((LOOPBACK, 0))
                port = data.getsockname()[1]
                client.sendall(f"227 Entering (127,0,0,1,{port >> 8},{port & 255})\r\n".encode())
            else:
                client.sendall(replies.get(command) or usual.get(command) or b"500 what?\r\n")

    def accept() -> None:
        def behave(client: socket.socket) -> None:
            try:
                talk(client)
            except OSError:
                return

        while True:
            try:
                client = listening.accept()[0]
            except OSError:
                return
            threading.Thread(target=behave, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


NONSENSE = {
    "a path that is no text": {"PWD": b'257 "/\xff\xfe"\r\n'},
    "a size that is none": {"SIZE": b"200 fine\r\n"},
    "a size without digits": {"SIZE": b"213 large\r\n"},
    "a time that is none": {"SIZE": b"213 5\r\n", "MDTM": b"213 yesterday\r\n"},
    "a time that is missing": {"SIZE": b"213 5\r\n", "MDTM": b"213\r\n"},
}


@pytest.mark.parametrize("what", NONSENSE)
def test_an_ftp_server_that_talks_nonsense_is_a_failure(what: str) -> None:
    with talking(NONSENSE[what]) as port, pytest.raises(StorageUnavailable):
        persistent(catalogue.opened(somewhere("ftp", port), "tenant"), seconds=18).stat("a")


def test_a_transfer_that_the_server_breaks_off_is_no_missing_object() -> None:
    told = {"SIZE": b"213 1000\r\n", "MDTM": b"213 20260101000000\r\n"}
    with talking(told, fetched=b"451 Local error in processing.\r\n") as port, pytest.raises(StorageUnavailable):
        catalogue.opened(somewhere("ftp", port), "tenant").read("a", 0, 1000)
