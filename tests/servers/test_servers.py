"""The servers are what tests take them for, as clients find that have nothing to do with Stowage."""

import ftplib
import http.client
import io
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient

from tests.servers.asyncssh_server import asyncssh_server
from tests.servers.azurite import azurite
from tests.servers.ftp import TLS, FTPServer
from tests.servers.hostile import black_hole, closed_port, listener
from tests.servers.openssh import openssh
from tests.servers.process import ROOT, StartError, external, running
from tests.servers.pyftpd import pyftpd
from tests.servers.ssh import SSHServer
from tests.servers.vsftpd import vsftpd

# Seconds.
PATIENCE = 10
IMPATIENCE = 0.5


# ---- SFTP ------------------------------------------------------------------------------------------------------
StartSSH = Callable[..., AbstractContextManager[SSHServer]]


@contextmanager
def ssh_session(server: SSHServer) -> Iterator[paramiko.Transport]:
    """A session in which nobody is logged in yet."""
    with socket.create_connection((server.host, server.port), PATIENCE) as connection, closing(paramiko.Transport(connection)) as session:
        session.start_client(timeout=PATIENCE)
        yield session


def host_key(session: paramiko.Transport) -> str:
    key = session.get_remote_server_key()
    return f"{key.get_name()} {key.get_base64()}"


def keys_of(server: SSHServer) -> list[paramiko.PKey]:
    texts = {paramiko.Ed25519Key: server.private_key, paramiko.RSAKey: server.rsa_private_key}
    return [kind.from_private_key(io.StringIO(text)) for kind, text in texts.items()]


def assert_stores(session: paramiko.Transport, root: Path) -> None:
    files = paramiko.SFTPClient.from_transport(session)
    assert files is not None
    for name in ("old", "new"):
        files.putfo(io.BytesIO(name.encode()), name)
    files.mkdir("folder")
    with pytest.raises(OSError, match=r"Failure|exists"):
        files.rename("new", "old")
    files.posix_rename("new", "old")
    assert sorted(files.listdir()) == ["folder", "old"]
    assert (root / "old").read_bytes() == b"new"
    files.remove("old")
    files.rmdir("folder")
    assert list(root.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        files.stat("old")


@pytest.mark.parametrize("start", [openssh, asyncssh_server])
def test_ssh_server_takes_its_keys_and_no_other(tmp_path: Path, start: StartSSH) -> None:
    with start(tmp_path) as server:
        for key in keys_of(server):
            with ssh_session(server) as session:
                assert host_key(session) == server.host_key
                session.auth_publickey(server.username, key)
                assert_stores(session, server.root)
        with ssh_session(server) as session, pytest.raises(paramiko.AuthenticationException):
            session.auth_publickey(server.username, paramiko.RSAKey.generate(2048))


@pytest.mark.parametrize("start", [openssh, asyncssh_server])
def test_ssh_server_comes_back_on_its_port_with_another_host_key(tmp_path: Path, start: StartSSH) -> None:
    with start(tmp_path) as first, ssh_session(first) as left_open:
        first_key = host_key(left_open)
    with start(tmp_path, port=first.port) as same, ssh_session(same) as session:
        assert host_key(session) == first_key
    with start(tmp_path, port=first.port, new_host_key=True) as changed, ssh_session(changed) as session:
        assert host_key(session) == changed.host_key != first_key
        session.auth_publickey(first.username, keys_of(first)[0])
    assert first.port == same.port == changed.port


def test_asyncssh_takes_its_password_and_no_other(tmp_path: Path) -> None:
    with asyncssh_server(tmp_path) as server:
        assert server.password
        with ssh_session(server) as session:
            session.auth_password(server.username, server.password)
            assert_stores(session, server.root)
        for username, password in ((server.username, "wrong"), ("root", server.password)):
            with ssh_session(server) as session, pytest.raises(paramiko.AuthenticationException):
                session.auth_password(username, password)


def test_openssh_takes_no_password(tmp_path: Path) -> None:
    with openssh(tmp_path) as server, ssh_session(server) as session:
        assert server.password is None
        with pytest.raises(paramiko.BadAuthenticationType):
            session.auth_password(server.username, "")


# ---- FTP -------------------------------------------------------------------------------------------------------
StartFTP = Callable[..., AbstractContextManager[FTPServer]]


class ImplicitTLS(ftplib.FTP_TLS):
    """TLS from the first byte on, which Python's client cannot by itself."""

    def connect(self, host: str = "", port: int = 0, *_: Any, **__: Any) -> str:
        self.host, self.port = host, port
        plain = socket.create_connection((host, port), PATIENCE)
        self.af = plain.family
        self.sock = self.context.wrap_socket(plain, server_hostname=host)
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        return self.welcome


class ResumingTLS(ftplib.FTP_TLS):
    """Data connections resume the TLS session of the commands."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        return self.context.wrap_socket(connection, server_hostname=self.host, session=self.sock.session), size


def ftp_client(server: FTPServer, tls: TLS, kind: type[ftplib.FTP] | None = None) -> ftplib.FTP:
    """A client that has connected and not logged in."""
    kind = kind or {None: ftplib.FTP, "explicit": ftplib.FTP_TLS, "implicit": ImplicitTLS}[tls]
    trusting = {"context": ssl.create_default_context(cafile=server.certificate)} if issubclass(kind, ftplib.FTP_TLS) else {}
    client = kind(timeout=PATIENCE, **trusting)
    client.connect(server.host, server.port)
    return client


@pytest.mark.parametrize("tls", [None, "explicit", "implicit"])
@pytest.mark.parametrize("start", [pyftpd, vsftpd])
def test_ftp_server_stores(tmp_path: Path, start: StartFTP, tls: TLS) -> None:
    with start(tmp_path, tls) as server, ftp_client(server, tls) as client:
        client.login(server.username, server.password)
        if isinstance(client, ftplib.FTP_TLS):
            client.prot_p()
        assert client.pwd() == server.home
        for name in ("old", "new"):
            client.storbinary(f"STOR {name}", io.BytesIO(name.encode()))
        client.mkd("folder")
        client.rename("new", "old")
        assert sorted(client.nlst()) == ["folder", "old"]
        assert (server.root / "old").read_bytes() == b"new"
        client.storbinary("STOR old", io.BytesIO(b"newer"))
        read: list[bytes] = []
        client.retrbinary("RETR old", read.append)
        assert b"".join(read) == b"newer"
        client.delete("old")
        client.rmd("folder")
        assert list(server.root.iterdir()) == []
        for command in ("SIZE old", "CWD folder", "DELE old"):
            with pytest.raises(ftplib.error_perm, match="550"):
                client.sendcmd(command)


@pytest.mark.parametrize("tls", [None, "explicit", "implicit"])
@pytest.mark.parametrize("start", [pyftpd, vsftpd])
def test_ftp_server_refuses_who_is_not_its_user(tmp_path: Path, start: StartFTP, tls: TLS) -> None:
    with start(tmp_path, tls) as server:
        for username, password in ((server.username, "wrong"), ("root", server.password)):
            with ftp_client(server, tls) as client, pytest.raises(ftplib.error_perm, match="530"):
                client.login(username, password)


@pytest.mark.parametrize("start", [pyftpd, vsftpd])
def test_ftp_server_with_tls_takes_nothing_in_plain(tmp_path: Path, start: StartFTP) -> None:
    with start(tmp_path, "explicit") as server:
        with ftp_client(server, None) as client, pytest.raises(ftplib.error_perm, match=r"530|550"):
            client.login(server.username, server.password)
        with ftp_client(server, "explicit") as client:
            client.login(server.username, server.password)
            with pytest.raises(ftplib.error_perm, match=r"522|550"):
                client.nlst()


def test_vsftpd_can_ask_for_a_resumed_session(tmp_path: Path) -> None:
    with vsftpd(tmp_path, "explicit", session_reuse=True) as server:
        for kind, refused in ((ftplib.FTP_TLS, True), (ResumingTLS, False)):
            with ftp_client(server, "explicit", kind) as client:
                assert isinstance(client, ftplib.FTP_TLS)
                client.login(server.username, server.password)
                client.prot_p()
                if refused:
                    with pytest.raises((ftplib.error_temp, ftplib.error_perm, OSError)):
                        client.nlst()
                else:
                    assert client.nlst() == []


def test_pyftpd_has_mlsd_and_vsftpd_has_not(tmp_path: Path) -> None:
    with pyftpd(tmp_path / "pyftpd") as server, ftp_client(server, None) as client:
        client.login(server.username, server.password)
        (server.root / "file").write_bytes(b"12")
        ((name, facts),) = client.mlsd()
        assert (name, facts["type"], facts["size"]) == ("file", "file", "2")
    with vsftpd(tmp_path / "vsftpd") as server, ftp_client(server, None) as client:
        client.login(server.username, server.password)
        assert "MLS" not in client.sendcmd("FEAT")
        with pytest.raises(ftplib.error_perm, match="500"):
            list(client.mlsd())


# ---- Azure -----------------------------------------------------------------------------------------------------
def test_azurite_stores_for_its_key_and_no_other(tmp_path: Path) -> None:
    with azurite(tmp_path) as server:
        with BlobServiceClient.from_connection_string(server.connection_string) as client:
            container = client.create_container("container")
            container.upload_blob("a/b", b"old")
            container.upload_blob("a/b", b"new", overwrite=True)
            assert [blob.name for blob in container.list_blobs(name_starts_with="a/")] == ["a/b"]
            assert container.download_blob("a/b").readall() == b"new"
            container.delete_blob("a/b")
            assert list(container.list_blobs()) == []
        wrong = {"account_name": server.account, "account_key": "d3Jvbmc="}
        with BlobServiceClient(server.endpoint, credential=wrong) as client, pytest.raises(HttpResponseError) as refused:
            client.create_container("another")
        assert refused.value.status_code == 403


# ---- hostile ones ----------------------------------------------------------------------------------------------
def ask(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=IMPATIENCE) as answer:
        body: bytes = answer.read()
        return body


def test_silent_listener_counts_what_it_hears() -> None:
    with listener("silent") as server:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                ask(server.url)
        assert len(server.connections) == 2
        assert server.bytes_received == 2 * len(server.connections[0].received) > 0


def test_dripping_listener_outlives_a_timeout_of_each_read() -> None:
    with listener("drip", interval=0.02) as server, socket.create_connection((server.host, server.port), IMPATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        received, until = b"", time.monotonic() + 2 * IMPATIENCE
        while time.monotonic() < until:
            received += client.recv(100)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert len(received) <= 2 * IMPATIENCE / 0.02 + 1


def test_half_open_listener_breaks_its_promise() -> None:
    with listener("half_open") as server, pytest.raises(http.client.IncompleteRead):
        ask(server.url)


def test_refusing_listener_closes() -> None:
    with listener("refusing") as server:
        with socket.create_connection((server.host, server.port), PATIENCE) as client:
            assert client.recv(1) == b""
        assert len(server.connections) == 1


def test_dripping_banner_never_ends() -> None:
    with (
        listener("banner_drip", banner="220 ", interval=0.01) as server,
        socket.create_connection((server.host, server.port), PATIENCE) as client,
        client.makefile("rb") as lines,
    ):
        assert lines.read(10) == b"220 xxxxxx"


def test_redirecting_listener_sends_elsewhere() -> None:
    with listener("refusing") as elsewhere, listener("redirect", to=f"{elsewhere.url}/there", status=307) as server:
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            ask(server.url)
        assert len(server.connections) == len(elsewhere.connections) == 1


def test_closed_port_refuses_and_black_hole_does_not_answer() -> None:
    with closed_port() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), PATIENCE)
    with black_hole() as address:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                socket.create_connection(address, IMPATIENCE)


# ---- life ------------------------------------------------------------------------------------------------------
def test_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    command = external("/bin/sh", "-c", "echo what is wrong; exit 3")
    with pytest.raises(StartError, match=r"status 3(.|\n)*what is wrong"), running(command, tmp_path / "log", lambda _: None):
        pass


@pytest.mark.parametrize("module", ["vsftpd", "pyftpd"])
def test_server_ends_with_a_killed_test_run(tmp_path: Path, module: str) -> None:
    program = (
        f"import pathlib, sys, time; from tests.servers.{module} import {module}\n"
        f"with {module}(pathlib.Path(sys.argv[1])) as server: print(server.port, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except ConnectionRefusedError:
            break
        assert time.monotonic() < deadline, "it still listens"
        time.sleep(0.05)
