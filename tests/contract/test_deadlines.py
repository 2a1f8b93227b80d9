"""However a server behaves, a call and a probe end in time, with one failure; and a deadline leaves nothing behind."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chalicelib import outbound
from chalicelib.core import probing
from chalicelib.errors import StorageUnavailable
from chalicelib.providers import catalogue
from chalicelib.providers.azure import Azure
from chalicelib.providers.failures import Failure
from chalicelib.providers.ftp import FTP
from chalicelib.providers.retries import WHOLE_TIMEOUT, persistent
from chalicelib.providers.s3 import S3
from chalicelib.providers.sftp import SFTP
from tests.contract.conftest import trusting
from tests.contract.test_failures import AZURE_KEY, SECRET_KEY, somewhere, talking
from tests.servers.hostile import black_hole, listener
from tests.servers.process import LOOPBACK, ROOT
from tests.servers.pyftpd import pyftpd

pytestmark = pytest.mark.xdist_group("deadlines")
AT_MOST = 20
PROFILE = probing.Profile("probe.json", b"{}")

PROTOCOLS = ("minio", "azure_blob", "sftp", "ftp", "ftps")
GREETINGS = {"minio": "HTTP/1.1 200 ", "azure_blob": "HTTP/1.1 200 ", "sftp": "SSH-2.0-", "ftp": "220 ", "ftps": "\x16\x03\x03"}
BEHAVIOURS = ("silent", "drip", "half_open", "refusing", "banner_drip", "black_hole")


def connection(protocol: str, port: int) -> catalogue.Connection:
    from dataclasses import replace

    made = somewhere("ftp" if protocol == "ftps" else protocol, port)
    return replace(made, tls="implicit") if protocol == "ftps" else made


def called(made: catalogue.Connection) -> tuple[float, Any]:
    """Seconds that a call takes, and what it ends with."""
    told: list[StorageUnavailable] = []
    provider = persistent(catalogue.opened(made, "tenant"), seconds=WHOLE_TIMEOUT, failed=told.append)
    began = time.monotonic()
    try:
        provider.reach()
    except Exception as error:
        return time.monotonic() - began, error if told == [error] else (error, told)
    return time.monotonic() - began, None


def probed(made: catalogue.Connection) -> tuple[float, Any]:
    began = time.monotonic()
    try:
        result: Any = probing.probe(made, "tenant", PROFILE)
    except Exception as error:
        result = error
    return time.monotonic() - began, result


CASES = [(behaviour, protocol) for behaviour in BEHAVIOURS for protocol in PROTOCOLS]
ON_AZURE = [case for case in CASES if case[1] == "azure_blob"]


@pytest.mark.parametrize("cases", [[case for case in CASES if case not in ON_AZURE], ON_AZURE], ids=["others", "azure"])
def test_every_behaviour_of_every_protocol_ends_in_time(cases: list[tuple[str, str]]) -> None:
    with ExitStack() as stack:
        hole = stack.enter_context(black_hole())[1]
        ports = {}
        for behaviour, protocol in cases:
            if behaviour == "black_hole":
                ports[behaviour, protocol] = hole
            else:
                server = stack.enter_context(listener(behaviour, banner=GREETINGS[protocol]))  # type: ignore[arg-type]
                ports[behaviour, protocol] = server.port
        with ThreadPoolExecutor(2 * len(ports)) as pool:
            calls = {case: pool.submit(called, connection(case[1], port)) for case, port in ports.items()}
            probes = {case: pool.submit(probed, connection(case[1], port)) for case, port in ports.items()}
        for case, call in calls.items():
            seconds, error = call.result()
            assert seconds < AT_MOST, case
            assert isinstance(error, StorageUnavailable), (case, error)
            assert error.reason in ("Timeout", "CannotConnect", "ConnectionRefused", "TlsFailed"), (case, error.reason)
        for case, probe in probes.items():
            seconds, result = probe.result()
            assert seconds < AT_MOST, case
            assert isinstance(result, probing.Result), (case, result)
            assert result.problem is not None, case
            assert result.problem.hint, case
            if case not in (
                ("drip", "minio"),
                ("banner_drip", "minio"),
            ):  # probing.py: a head that the deadline cuts off looks like an empty listing, and LIST succeeds
                assert (result.problem.step, result.bucket_exists) == ("LIST", None), case
        assert {probe.result()[1].problem.code for case, probe in probes.items() if case[0] == "black_hole"} == {"Timeout"}


# ---- what is cut off is no answer ----------------------------------------------------------------------------------
def s3(port: int) -> S3:
    keys = {"access_key": "AKIDEXAMPLE0123", "secret_key": SECRET_KEY}
    return S3("bucket", region="us-east-1", endpoint=f"http://{LOOPBACK}:{port}", **keys, screened=True)  # type: ignore[arg-type]


def azure(port: int) -> Azure:
    return Azure("container", account="account", key=AZURE_KEY, endpoint=f"http://{LOOPBACK}:{port}/account")


makers = pytest.mark.parametrize("make", [s3, azure], ids=["s3", "azure"])


@pytest.fixture
def endless() -> Iterator[Callable[..., int]]:
    """Starts servers that answer with these headers and a byte of a body now and then; gives their ports."""
    over, servers = threading.Event(), list[ThreadingHTTPServer]()

    def serve(**headers: str) -> int:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.send_response(206)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.close_connection = True
                try:
                    while not over.wait(0.1):
                        self.wfile.write(b"x")
                        self.wfile.flush()
                except OSError:
                    return

            do_GET = do_PUT = do_POST = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield serve
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


@makers
@pytest.mark.parametrize("length", [100, 1000, 1 << 20])
def test_a_body_that_is_cut_off_is_no_answer(
    make: Callable[[int], Any], endless: Callable[..., int], length: int, request: pytest.FixtureRequest
) -> None:
    port = endless(Content_Length=str(length), Content_Range=f"bytes 0-{length - 1}/{length}", Content_Type="text/plain")
    for ask in (lambda provider: provider.read("a", 0, length), lambda provider: provider.inspect("a", length)):
        with pytest.raises(StorageUnavailable) as raised:
            ask(persistent(make(port), seconds=1.5))
        assert raised.value.reason == Failure.TIMEOUT


@makers
def test_a_body_without_a_length_that_is_cut_off_is_no_answer(
    make: Callable[[int], Any], endless: Callable[..., int], request: pytest.FixtureRequest
) -> None:
    """Its end is that of the connection, so it looks whole, and too short."""
    port = endless(Content_Range="bytes 0-99/100", Content_Type="text/plain", ETag='"e"', Last_Modified="Wed, 25 Nov 2026 17:00:00 GMT")
    with pytest.raises(StorageUnavailable) as raised:
        persistent(make(port), seconds=1.5).read("a", 0, 100)
    assert raised.value.reason == Failure.TIMEOUT


@makers
def test_a_listing_that_is_cut_off_is_none(make: Callable[[int], Any], endless: Callable[..., int]) -> None:
    port = endless(Content_Type="application/xml")
    with pytest.raises(StorageUnavailable) as raised:
        list(persistent(make(port), seconds=1.5).list(""))
    assert raised.value.reason == Failure.TIMEOUT


@makers
def test_a_body_that_breaks_its_promise_is_no_answer(make: Callable[[int], Any]) -> None:
    with listener("half_open") as server:
        for ask in (lambda provider: provider.read("a", 0, 1000), lambda provider: provider.read("a", 0, 100)):
            with pytest.raises(StorageUnavailable):
                ask(persistent(make(server.port), seconds=18, attempts=1))


# ---- FTP: the second connection ------------------------------------------------------------------------------------
@pytest.mark.parametrize("tls", [None, "implicit"])
def test_the_beginning_of_a_large_file_is_read_under_a_deadline(tmp_path: Path, tls: Any) -> None:
    with pyftpd(tmp_path, tls) as server, ExitStack() as stack:
        if tls:
            stack.enter_context(trusting(Path(str(server.certificate))))
        (server.root / "large").write_bytes(bytes(64 << 20))
        where = {"port": server.port, "username": server.username, "password": server.password}
        provider = persistent(FTP(server.host, ".", **where, tls=tls or "none"), seconds=5)  # type: ignore[arg-type]
        assert provider.read("large", 0, 10) == bytes(10)
        assert provider.read("large", 1000, 10) == bytes(10)
        found = provider.inspect("large", 512)
        assert found is not None
        assert (found.size, len(found.start)) == (64 << 20, 512)


def test_a_server_that_takes_bytes_slowly_is_cut_off() -> None:
    over = threading.Event()

    def slowly(carried: socket.socket) -> None:
        while not over.wait(0.5) and carried.recv(1 << 16):
            pass

    told = {"SIZE": b"550 no\r\n", "CWD": b"250 fine\r\n"}
    with talking(told, stored=slowly) as port:
        provider = persistent(FTP(LOOPBACK, "base", port=port, username="a", password="b", tls="none"), seconds=2)
        failed: list[Any] = []

        def put() -> None:
            try:
                provider.put("a", bytes(32 << 20), "text/plain")
            except StorageUnavailable as error:
                failed.append(error.reason)

        putting = threading.Thread(target=put, daemon=True)
        putting.start()
        putting.join(12)
        in_time = not putting.is_alive()
        over.set()
        putting.join(AT_MOST)
        assert in_time
        assert failed == [Failure.TIMEOUT]


# ---- keys ----------------------------------------------------------------------------------------------------------
ROUNDS = """
import base64, struct, sys
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ed25519
from chalicelib.errors import StorageUnavailable
from chalicelib.providers.sftp import read_private_key
private = ed25519.Ed25519PrivateKey.generate()
lines = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.BestAvailableEncryption(b"pass")).decode().split("\\n")
raw = base64.b64decode("".join(lines[1:-2]))
at = raw.index(b"bcrypt", 30) + 6
at += struct.unpack(">I", raw[at:at + 4])[0]
raw = raw[:at] + struct.pack(">I", 1 << 30) + raw[at + 4:]
text = "\\n".join([lines[0], base64.b64encode(raw).decode(), *lines[-2:]])
try:
    read_private_key(text, "pass")
except StorageUnavailable:
    sys.exit(7)
"""


def test_a_key_that_takes_for_ever_to_open_is_refused() -> None:
    ended = subprocess.run([sys.executable, "-c", ROUNDS], cwd=ROOT, timeout=8, check=False)
    assert ended.returncode == 7


# ---- what a deadline leaves ----------------------------------------------------------------------------------------
def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("fixture", ["s3_on_moto", "azure_on_azurite", "sftp_on_asyncssh", "ftp_on_pyftpdlib"])
def test_healthy_calls_leave_no_descriptors(fixture: str, request: pytest.FixtureRequest, key: str) -> None:
    provider = persistent(request.getfixturevalue(fixture), seconds=WHOLE_TIMEOUT)

    def use() -> None:
        provider.put(key, b"12345", "text/plain")
        assert provider.read(key, 0, 5) == b"12345"
        assert provider.stat(key) is not None
        assert [listed.key for listed in provider.list(key)] == [key]
        assert provider.delete([key]) == {}

    use()
    before = descriptors()
    for _ in range(8):
        use()
    ends = time.monotonic() + 10
    while descriptors() > before and time.monotonic() < ends:  # a server in this process closes its ends later
        time.sleep(0.1)
    assert descriptors() <= before + 2  # a server in this process may keep one or two


@pytest.mark.parametrize("behaviour", ["refusing", "half_open", "silent"])
def test_failing_calls_leave_no_descriptors_and_no_threads(behaviour: Any) -> None:
    def use(port: int) -> None:
        for protocol in PROTOCOLS:
            with pytest.raises(StorageUnavailable):
                persistent(catalogue.opened(connection(protocol, port), "tenant"), seconds=0.5, attempts=1).reach()

    with listener(behaviour) as server:
        use(server.port)
    time.sleep(0.5)
    before, threads = descriptors(), threading.active_count()
    with listener(behaviour) as server:
        use(server.port)
    ends = time.monotonic() + 15
    while (descriptors() > before or threading.active_count() > threads) and time.monotonic() < ends:
        time.sleep(0.1)
    assert (descriptors(), threading.active_count()) <= (before, threads)


def test_a_connection_outlives_the_deadline_that_it_was_made_under(ftp_on_pyftpdlib: FTP, sftp_on_asyncssh: SFTP) -> None:
    for bare in (ftp_on_pyftpdlib, sftp_on_asyncssh):
        provider = persistent(bare, seconds=1)
        assert provider.stat("never") is None
        time.sleep(1.2)
        assert provider.stat("never") is None


# ---- scopes --------------------------------------------------------------------------------------------------------
def test_the_innermost_deadline_counts() -> None:
    with listener("silent") as server, outbound.within(60) as outer:
        kept = outbound.connect(server.host, server.port, 20)
        with outbound.within(0.3) as inner:
            cut = outbound.connect(server.host, server.port, 20)
            assert cut.recv(1) == b""
        assert (inner.passed, outer.passed) == (True, False)
        kept.settimeout(0.3)
        with pytest.raises(TimeoutError):
            kept.recv(1)
        again = outbound.connect(server.host, server.port, 0.3)
        with pytest.raises(TimeoutError):
            again.recv(1)
        for each in (kept, cut, again):
            each.close()


def test_a_connection_made_before_is_cut_off_once_it_is_used_within() -> None:
    with listener("silent") as server:
        kept = outbound.connect(server.host, server.port, 20)
        with outbound.within(0.3) as deadline:
            outbound.watch(kept)
            assert kept.recv(1) == b""
        assert deadline.passed
        kept.close()


def test_after_the_deadline_no_connection_carries_anything() -> None:
    with listener("drip", interval=0.05) as server, outbound.within(0.05) as deadline:
        ends = time.monotonic() + 20
        while not deadline.passed and time.monotonic() < ends:
            time.sleep(0.02)
        try:
            with outbound.connect(server.host, server.port, 5) as made:
                made.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert made.recv(10) == b""
        except (OSError, outbound.Unreachable):
            pass
    assert server.bytes_received == 0


def test_a_deadline_is_of_its_thread() -> None:
    with listener("silent") as server, outbound.within(0.2) as deadline, ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(outbound.connect, server.host, server.port, 1).result()
        while not deadline.passed:
            time.sleep(0.02)
        with pytest.raises(TimeoutError):
            elsewhere.recv(1)
        elsewhere.close()


def test_no_deadline_watches_nothing() -> None:
    outbound.watch(None)
    with outbound.within(5):
        outbound.watch(None)
    with socket.socket() as closed:
        pass
    with outbound.within(5) as deadline:
        outbound.watch(closed)
        assert deadline._watched == []
