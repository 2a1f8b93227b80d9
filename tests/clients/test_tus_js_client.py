"""tus-js-client in Node, in processes of its own."""

import base64
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from tests.clients.conftest import MIB, OCTETS, ONE_PROCESS, Source, Stowage
from tests.local.test_run import STOP_LIMIT, Running, running

pytestmark = ONE_PROCESS

CHUNK = 4 * MIB
# Seconds.
UPLOAD_LIMIT = 180
# How often, a second apart, a user tries again before giving up. A writer that died keeps an upload for up to 35 s.
PATIENCE = 60

Event = dict[str, Any]


class Client:
    """A process that uploads one file, and what it has told."""

    def __init__(self, packages: Path, told: Mapping[str, Any]) -> None:
        self.events: list[Event] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(["node", "tus_js.mjs", json.dumps(told)], cwd=packages, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def await_told(self, name: str) -> Any:
        """The value of the next event that has this name."""
        deadline = time.monotonic() + UPLOAD_LIMIT
        while (line := self._line(deadline)) is not None:
            self.events.append(json.loads(line))
            if name in self.events[-1]:
                return self.events[-1][name]
        raise AssertionError(f"it ended without {name}: {self.events[-5:]}")

    def await_chunks(self, number: int) -> None:
        """Wait until so many chunks are acknowledged."""
        while len(self.chunks()) < number:
            self.await_told("method")

    def chunks(self) -> list[int]:
        """The offset of each chunk that was acknowledged."""
        return [int(event["offset"]) for event in self.answers("PATCH") if event["status"] == 204]

    def answers(self, method: str) -> list[Event]:
        return [event for event in self.events if event.get("method") == method]

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        self._process.wait()

    def _line(self, deadline: float) -> str | None:
        try:
            return self._lines.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"it tells nothing any more: {self.events[-5:]}") from None

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)


Start = Callable[..., Client]


@pytest.fixture
def start(packages: Path) -> Iterator[Start]:
    """Starts clients; ends those that have not ended."""
    started: list[Client] = []

    def make(place: Stowage, source: Source, metadata: Mapping[str, str], **told: Any) -> Client:
        common = {"endpoint": place.endpoint, "key": place.key, "file": str(source.path)}
        started.append(Client(packages, {**common, "metadata": {**place.placed, **metadata}, **told}))
        return started[-1]

    yield make
    for client in started:
        client.kill()


def named(name: str) -> dict[str, str]:
    return {"filename": name, "filetype": OCTETS}


# ---- whole uploads ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 64 * MIB])
def test_an_upload_of_any_size_arrives_whole(start: Start, place: Stowage, source: Callable[[int], Source], size: int) -> None:
    client = start(place, source(size), named(f"whole-{size}"))
    url = client.await_told("done")
    assert url.startswith(f"{place.endpoint}/")
    assert client.chunks() == list(range(0, size, CHUNK))
    place.assert_holds(f"whole-{size}", source(size))


def test_so_does_one_of_a_gigabyte(start: Start, stowage: Stowage, source: Callable[[int], Source]) -> None:
    client = start(stowage, source(1024 * MIB), named("gigabyte"))
    client.await_told("done")
    assert client.chunks() == list(range(0, 1024 * MIB, CHUNK))
    stowage.assert_holds("gigabyte", source(1024 * MIB))


def test_progress_goes_from_the_first_byte_to_the_last(start: Start, place: Stowage, source: Callable[[int], Source]) -> None:
    client = start(place, source(20 * MIB + 1), named("progress"))
    client.await_told("done")
    sent = [event["sent"] for event in client.events if "sent" in event]
    assert sent == sorted(sent)
    assert len(set(sent)) >= len(client.chunks()) == 6
    assert sent[-1] == 20 * MIB + 1


@pytest.mark.parametrize("size", [1, CHUNK, 5 * MIB + 1, 16 * MIB])
def test_the_first_chunk_may_come_with_the_creation(start: Start, place: Stowage, source: Callable[[int], Source], size: int) -> None:
    client = start(place, source(size), named(f"at-once-{size}"), options={"uploadDataDuringCreation": True})
    client.await_told("done")
    assert client.chunks() == list(range(CHUNK, size, CHUNK))
    place.assert_holds(f"at-once-{size}", source(size))


@pytest.mark.parametrize("size", [1, 5 * MIB + 1, 63 * MIB])
def test_a_stream_tells_its_length_with_its_last_chunk(start: Start, place: Stowage, source: Callable[[int], Source], size: int) -> None:
    client = start(place, source(size), named(f"deferred-{size}"), options={"uploadLengthDeferred": True})
    client.await_told("done")
    place.assert_holds(f"deferred-{size}", source(size))


def test_names_and_metadata_of_any_script_survive(start: Start, place: Stowage, source: Callable[[int], Source]) -> None:
    name, told = "Grüße/日本語/naïve – файл 🌍.txt", {"Größe": "übergroß", "題": "✓ 🌍"}
    metadata = {"filename": name, "filetype": "text/plain", "metadata": json.dumps(told, ensure_ascii=False)}
    url = start(place, source(1), metadata).await_told("done")
    row = place.assert_holds(name, source(1), "text/plain")
    assert row[place.FIELDS[2]] == told
    pairs = dict(pair.split(" ") for pair in place.head(url).headers["Upload-Metadata"].split(","))
    assert {key: base64.b64decode(value).decode() for key, value in pairs.items()} == {**place.placed, **metadata}


# ---- uploads in parallel ---------------------------------------------------------------------------------------
def test_four_parts_at_once_become_one_object(start: Start, place: Stowage, source: Callable[[int], Source]) -> None:
    client = start(place, source(64 * MIB), named("parallel"), options={"parallelUploads": 4})
    client.await_told("done")
    assert len(client.answers("POST")) == 5
    place.assert_holds("parallel", source(64 * MIB))


@pytest.mark.parametrize("size", [4, 12 * MIB + 1, 19 * MIB + 3])
def test_parts_that_are_too_small_for_the_storage_are_joined_by_a_job(
    start: Start, place: Stowage, source: Callable[[int], Source], size: int
) -> None:
    name = f"parallel-{size}"
    url = start(place, source(size), named(name), options={"parallelUploads": 4}).await_told("done")
    place.await_object(name)
    place.assert_holds(name, source(size))
    head = place.head(url)
    assert head.headers["Upload-Offset"] == head.headers["Upload-Length"] == str(size)


# ---- interrupted uploads ---------------------------------------------------------------------------------------
def test_a_paused_upload_goes_on_where_it_was(start: Start, place: Stowage, source: Callable[[int], Source]) -> None:
    client = start(place, source(64 * MIB), named("paused"), pauseAt=30 * MIB)
    client.await_told("done")
    assert len(client.answers("POST")) == 1
    assert len(client.answers("HEAD")) >= 1
    assert client.chunks() == sorted(set(client.chunks())), "no chunk was sent twice"
    place.assert_holds("paused", source(64 * MIB))


def test_another_process_goes_on_with_the_upload_of_one_that_was_killed(
    start: Start, place: Stowage, source: Callable[[int], Source], tmp_path: Path
) -> None:
    storage = str(tmp_path / "uploads.json")
    killed = start(place, source(64 * MIB), named("killed"), storage=storage)
    killed.await_chunks(5)
    killed.kill()
    heir = start(place, source(64 * MIB), named("killed"), storage=storage, resume=True)
    heir.await_told("done")
    assert not heir.answers("POST")
    assert heir.chunks()[0] >= 5 * CHUNK
    place.assert_holds("killed", source(64 * MIB))


@pytest.mark.parametrize("provider", ["filesystem", "s3"])
def test_an_upload_outlives_the_server_that_takes_it(start: Start, folder: Path, source: Callable[[int], Source], provider: str) -> None:
    data, chosen = folder / f"killed-{provider}", {"STOWAGE_STORAGE_PROVIDER": provider, "STOWAGE_LOG_LEVEL": "WARNING"}
    with running(data, **chosen) as first:
        stowage = Stowage(first)
        stowage.make_bucket()
        client = start(stowage, source(64 * MIB), named("outlives"), patience=PATIENCE)
        client.await_chunks(5)
        os.kill(api_of(first), signal.SIGKILL)
        output, _ = first.process.communicate(timeout=STOP_LIMIT)
        assert "the API ended by itself" in output
        assert first.process.returncode == 1
    with running(data, first.port, **chosen) as second:
        client.await_told("done")
        assert len(client.answers("POST")) == 1
        assert client.chunks() == sorted(set(client.chunks()))
        Stowage(second).assert_holds("outlives", source(64 * MIB))
        assert second.stop() == 0


def api_of(live: Running) -> int:
    """The process that serves this run's API."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # a process that has ended meanwhile
            continue
        if b"chalice.cli:main" in words and str(live.port).encode() in words:
            return int(path.parent.name)
    raise AssertionError("nothing serves this run's API")


def test_an_upload_that_is_given_up_is_gone(start: Start, place: Stowage, source: Callable[[int], Source]) -> None:
    url = start(place, source(64 * MIB), named("given-up"), terminateAt=20 * MIB).await_told("terminated")
    assert place.head(url).status_code == 404
    assert place.status("given-up") == 404
