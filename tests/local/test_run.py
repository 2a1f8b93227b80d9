"""`make run` as a user has it: real processes, a data folder of its own, a free port."""

import base64
import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from infra import stack
from infra.datafolder import DataFolder, FolderError
from tests.local.http_client import LOOPBACK, RawAnswer, RawConnection, listening_on

ROOT = Path(__file__).resolve().parents[2]
READY = "Stowage listens on"
# Seconds. A second start takes about two on a quiet machine and has to take less than ten.
START_LIMIT = 60
SECOND_START_LIMIT = 30
STOP_LIMIT = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def environment(data: Path, port: int, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STOWAGE_", "AWS_"))}
    return inherited | {"STOWAGE_DATA": str(data), "PORT": str(port)} | more


def picture() -> bytes:
    """A PNG of 8 by 6 pixels."""
    drawn = BytesIO()
    Image.new("RGB", (8, 6), "teal").save(drawn, "PNG")
    return drawn.getvalue()


class Running:
    """A started `make run`: its output up to the welcome, and its `dev.env`."""

    def __init__(self, process: "subprocess.Popen[str]", data: Path, port: int, output: str, seconds: float) -> None:
        self.process, self.data, self.port, self.output, self.seconds = process, data, port, output, seconds
        self.environment = DataFolder(data, "").read_environment()

    def ask(self, method: str, path: str, body: bytes = b"", key: str = "SERVICE_KEY", **headers: str) -> RawAnswer:
        with RawConnection(self.port) as connection:
            return connection.ask(method, path, {"Authorization": f"Bearer {self.environment[key]}", **headers}, body)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit status after the signal."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=STOP_LIMIT)
        self.output += rest
        return self.process.returncode


@contextmanager
def running(data: Path, port: int | None = None, **more: str) -> Iterator[Running]:
    port = port or free_port()
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.run"],
        cwd=ROOT,
        env=environment(data, port, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output = read_until(process, READY)
        yield Running(process, data, port, output, time.monotonic() - started)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=STOP_LIMIT)


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    assert process.stdout
    deadline, output = time.monotonic() + START_LIMIT, ""
    for line in process.stdout:
        output += line
        if text in line:
            return output
        assert time.monotonic() < deadline, output
    raise AssertionError(f"it ended early:\n{output}")


def refused(data: Path, port: int, **more: str) -> str:
    """The one line with which it ends instead of starting."""
    ended = subprocess.run(
        [sys.executable, "-m", "infra.run"],
        cwd=ROOT,
        env=environment(data, port, **more),
        capture_output=True,
        text=True,
        timeout=START_LIMIT,
        check=False,
    )
    assert ended.returncode == 1, ended
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A run that several tests share."""
    with running(tmp_path_factory.mktemp("run") / "data") as started:
        yield started


def make_bucket(live: Running, name: str) -> None:
    created = live.ask(
        "POST", "/storage/buckets", json.dumps({"name": name, "public": True}).encode(), **{"Content-Type": "application/json"}
    )
    assert created.status == 201, created


# ---- a run -----------------------------------------------------------------------------------------------------
def test_it_tells_where_it_listens_and_three_lines_to_paste(live: Running) -> None:
    assert f"http://localhost:{live.port}" in live.output
    assert live.process.stdout
    rest = [live.process.stdout.readline() for _ in range(6)]
    assert rest[1].strip() == f"source {live.data / 'dev.env'}"
    assert [line.split()[0] for line in rest[2:5]] == ["curl"] * 3


def test_dev_env_can_be_sourced_and_is_for_its_owner_only(live: Running) -> None:
    assert (live.data / "dev.env").stat().st_mode & 0o777 == 0o600
    script = f". {shlex.quote(str(live.data / 'dev.env'))}; env"
    sourced = subprocess.run(["/bin/sh", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    named = dict(line.split("=", 1) for line in sourced.splitlines())
    required = "STOWAGE_URL TENANT_ID SERVICE_KEY ANON_KEY JWT_SECRET ADMIN_KEY AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID"
    required += " AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION STOWAGE_TABLE_PREFIX STOWAGE_STORAGE_PROVIDER STOWAGE_S3_BUCKET"
    required += " STOWAGE_STORAGE_ROOT STOWAGE_MASTER_KEY_PARAMETER STOWAGE_JOBS_QUEUE STOWAGE_EVENT_BUS STOWAGE_DEFAULT_TENANT"
    assert all(named.get(name) for name in required.split())
    assert named["STOWAGE_URL"] == f"http://localhost:{live.port}"
    assert named["STOWAGE_STORAGE_PROVIDER"] == "s3"
    assert named["STOWAGE_ALLOW_PRIVATE_ENDPOINTS"] == "true"
    key_file = Path(named["STOWAGE_MASTER_KEY_PARAMETER"].removeprefix("file:"))
    assert len(base64.b64decode(key_file.read_text())) == 32


def test_an_upload_is_served_counted_and_public(live: Running) -> None:
    make_bucket(live, "photos")
    stored = live.ask("POST", "/storage/object/photos/a%20b+%C3%BC.txt", b"hello", **{"Content-Type": "text/plain"})
    assert stored.status == 201
    assert live.ask("GET", "/storage/object/photos/a%20b+%C3%BC.txt", key="ANON_KEY").body == b"hello"
    deadline = time.monotonic() + 20
    while live.ask("GET", "/storage/buckets/photos").json()["object_count"] != 1:
        assert time.monotonic() < deadline, "the runner did not count the object"
        time.sleep(0.1)


def test_chalice_local_on_its_own_serves_the_same_beside_it(live: Running) -> None:
    make_bucket(live, "shared")
    assert live.ask("POST", "/storage/object/shared/a//b", b"both").status == 201
    assert live.ask("POST", "/storage/object/shared/dot.png", picture(), **{"Content-Type": "image/png"}).status == 201
    port = free_port()
    command = [str(Path(sys.executable).with_name("chalice")), "local", "--port", str(port), "--no-autoreload"]
    plain = subprocess.Popen(command, cwd=ROOT, env=environment(live.data, port) | live.environment, stdout=subprocess.DEVNULL)
    try:
        assert stack.await_answer(port, "/health", plain, START_LIMIT)  # type: ignore[arg-type]
        with RawConnection(port) as connection:
            key = {"Authorization": f"Bearer {live.environment['ANON_KEY']}"}
            assert connection.ask("GET", "/storage/object/shared/a//b", key).body == b"both"
            assert connection.ask("HEAD", "/storage/object/shared/a//b", key).status == 200
            assert connection.ask("GET", "/storage/object/shared/dot.png?width=4", key).status == 200
    finally:
        plain.terminate()
        assert plain.wait(STOP_LIMIT) == 0


def test_it_listens_on_loopback_only(live: Running) -> None:
    endpoints = [live.environment[name] for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_LAMBDA")]
    for port in (live.port, *(int(endpoint.rpartition(":")[2]) for endpoint in endpoints)):
        assert listening_on(port) == {LOOPBACK}


def test_a_second_run_on_the_same_folder_is_refused(live: Running) -> None:
    assert "in use by another run" in refused(live.data, free_port())


def test_a_taken_port_is_refused(live: Running, tmp_path: Path) -> None:
    assert f"port {live.port} is taken" in refused(tmp_path / "other", live.port)


# ---- the end of a run ------------------------------------------------------------------------------------------
def test_data_survives_a_stop_and_the_second_start_is_fast(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    data = tmp_path / "data"
    with running(data) as first:
        make_bucket(first, "kept")
        assert first.ask("POST", "/storage/object/kept/f", bytes(range(256))).status == 201
        assert first.stop() == 0
        before = first.environment
    with running(data, first.port) as second:
        print(f"second start: {second.seconds:.1f} s")  # noqa: T201
        record_property("second_start_seconds", second.seconds)
        assert second.seconds < SECOND_START_LIMIT
        assert second.environment == before
        assert second.ask("GET", "/storage/object/kept/f", key="ANON_KEY").body == bytes(range(256))
        assert second.ask("GET", "/storage/buckets/kept").json()["object_count"] == 1, first.output
        assert second.stop(signal.SIGINT) == 0
    assert nobody_uses(data)


def test_the_filesystem_provider_streams_without_s3(tmp_path: Path) -> None:
    with running(tmp_path / "data", STOWAGE_STORAGE_PROVIDER="filesystem") as live:
        make_bucket(live, "disk")
        assert live.ask("POST", "/storage/object/disk/f", b"x" * 3_000_000).status == 201
        assert live.ask("GET", "/storage/object/disk/f").body == b"x" * 3_000_000
        assert live.ask("POST", "/storage/object/disk/dot.png", picture(), **{"Content-Type": "image/png"}).status == 201
        assert Image.open(BytesIO(live.ask("GET", "/storage/object/disk/dot.png?width=4&format=webp").body)).size == (4, 3)
        assert any(path.is_file() for path in (live.data / "files").rglob("*"))
        assert not [path for path in (live.data / "aws" / "s3").rglob("*") if path.is_file() and path.stat().st_size >= 3_000_000]
        assert live.stop() == 0


def test_when_a_child_dies_the_run_says_which_and_ends_with_1(tmp_path: Path) -> None:
    with running(tmp_path / "data") as live:
        os.kill(child(live, "infra.runner"), signal.SIGKILL)
        output, _ = live.process.communicate(timeout=STOP_LIMIT)
        assert "the runner ended by itself" in output
        assert live.process.returncode == 1
    assert nobody_uses(live.data)


def test_when_the_run_is_killed_its_children_end_too(tmp_path: Path) -> None:
    with running(tmp_path / "data") as live:
        live.process.kill()
        live.process.wait()
        deadline = time.monotonic() + STOP_LIMIT
        while not nobody_uses(live.data):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    with running(live.data) as again:
        assert again.environment["TENANT_ID"] == live.environment["TENANT_ID"]


def child(live: Running, module: str) -> int:
    """The process that runs `module` for this run, as soon as it does: it is forked before it is that program."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        commands = {path.parent.name: _words(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
        mine = [pid for pid, words in commands.items() if module.encode() in words and str(live.data / "stream.json").encode() in words]
        if mine:
            return int(mine[0])
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _words(command_line: Path) -> list[bytes]:
    try:
        return command_line.read_bytes().split(b"\0")
    except OSError:  # a process that has ended meanwhile
        return []


def nobody_uses(data: Path) -> bool:
    """Whether neither a run nor its embedded AWS holds the folder."""
    with (data / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


# ---- refusals --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", ['{"layout": 0, "resources": "other", "complete": true}', "not json", "[]"])
def test_data_of_another_version_is_refused_and_left_alone(tmp_path: Path, version: str) -> None:
    (tmp_path / "version").write_text(version)
    (tmp_path / "master.key").write_text("precious")
    assert "made by another version of Stowage" in refused(tmp_path, free_port())
    assert (tmp_path / "master.key").read_text() == "precious"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    assert "holds something else" in refused(tmp_path, free_port())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot use the folder" in refused(tmp_path / "file" / "data", free_port())


@pytest.mark.parametrize("port", ["abc", "0", "70000", "-1", "9" * 30])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: str) -> None:
    assert "PORT must be a number" in refused(tmp_path, 1, PORT=port)


def test_a_wrong_setting_is_refused_with_its_name(tmp_path: Path) -> None:
    assert "STOWAGE_STORAGE_PROVIDER" in refused(tmp_path / "data", free_port(), STOWAGE_STORAGE_PROVIDER="floppy")


def test_a_lost_master_key_is_refused(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path, "f")
    folder.mark(complete=True)
    with pytest.raises(FolderError, match="is missing, and nothing sealed"):
        folder.master_key(complete=True)


def test_the_folder_keeps_values_with_any_character(tmp_path: Path) -> None:
    values: Mapping[str, str] = {"A": 'it\'s "$HOME" `x` \\ = #', "B": ""}
    folder = DataFolder(tmp_path, "f")
    folder.write_environment(dict(values))
    assert folder.read_environment() == values
