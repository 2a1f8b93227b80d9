"""Clients as their users have them, against a run as its users have it.

The clients of `package.json` are installed by the first test that wants one of them. Sources, the run's data and what a
browser keeps go when the tests are over: together they have several gigabytes.
"""

import hashlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.local.test_run import Running, running
from tests.npm import installed

HERE = Path(__file__).parent
MIB = 1 << 20
# More than this is not answered but redirected to (CONTRACT "a request or answer carries").
ANSWERED = 4_400_000
# Seconds.
INSTALL_LIMIT = 120
REQUEST_LIMIT = 60
JOB_LIMIT = 60

# One process runs them all: the large ones are not to run beside each other.
ONE_PROCESS = pytest.mark.xdist_group("clients")


@pytest.fixture(scope="session")
def packages() -> Path:
    """The folder of the clients' packages, installed as the lock file says."""
    return installed(HERE, INSTALL_LIMIT)


# ---- what is uploaded ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Source:
    """A file and its SHA-256 in hex."""

    path: Path
    size: int
    sha256: str


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for large things."""
    made = tmp_path_factory.mktemp("clients")
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def source(folder: Path) -> Callable[[int], Source]:
    """Makes files of any size; the same size gives the same bytes, and no two MiB of them are alike."""
    pattern = random.Random(0).randbytes(2 * MIB)
    made: dict[int, Source] = {}

    def make(size: int) -> Source:
        if size not in made:
            digest, path = hashlib.sha256(), folder / f"{size}.bin"
            with path.open("wb") as file:
                for number, start in enumerate(range(0, size, MIB)):
                    shift = number * 997 % MIB
                    block = (number.to_bytes(8) + pattern[shift : shift + MIB - 8])[: size - start]
                    digest.update(block)
                    file.write(block)
            made[size] = Source(path, size, digest.hexdigest())
        return made[size]

    return make


# ---- where to --------------------------------------------------------------------------------------------------
class Stowage:
    """A run, as clients meet it, and a private bucket in it."""

    BUCKET = "clients"

    def __init__(self, live: Running) -> None:
        self.live = live
        self.api = f"http://localhost:{live.port}"
        self.endpoint = f"{self.api}/storage/v1/upload/tus"
        self.key = live.environment["SERVICE_KEY"]
        self.headers = {"Authorization": f"Bearer {self.key}"}
        self._redirects = live.environment["STOWAGE_STORAGE_PROVIDER"] == "s3"

    def make_bucket(self) -> None:
        created = requests.post(
            f"{self.api}/storage/buckets", json={"name": self.BUCKET, "public": False}, headers=self.headers, timeout=REQUEST_LIMIT
        )
        assert created.status_code == 201, created.text

    def info(self, path: str) -> dict[str, Any]:
        """The object's row."""
        found = requests.get(f"{self.api}/storage/object-info/{self._name(path)}", headers=self.headers, timeout=REQUEST_LIMIT)
        assert found.status_code == 200, found.text
        row: dict[str, Any] = found.json()
        return row

    def status(self, path: str) -> int:
        """The status of a download."""
        with self._download(path) as answer:
            return answer.status_code

    def head(self, url: str) -> requests.Response:
        """The answer to HEAD on an upload."""
        return requests.head(url, headers={**self.headers, "Tus-Resumable": "1.0.0"}, timeout=REQUEST_LIMIT)

    def await_object(self, path: str) -> None:
        """Wait for what a job makes."""
        self._until(lambda: self.status(path) != 404, f"there is no object {path}")

    def assert_holds(self, path: str, source: Source) -> dict[str, Any]:
        """The object's bytes and its row are those of the source; gives the row."""
        digest, size = hashlib.sha256(), 0
        with self._download(path) as answer:
            assert answer.status_code == 200, answer.text
            assert bool(answer.history) == (self._redirects and source.size > ANSWERED), "large objects come from the storage itself"
            for chunk in answer.iter_content(MIB):
                digest.update(chunk)
                size += len(chunk)
        assert (size, digest.hexdigest()) == (source.size, source.sha256)
        self._until(lambda: self.info(path)["checksum"] is not None, "it was never hashed")
        row = self.info(path)
        assert (row["size"], row["checksum"]) == (source.size, source.sha256)
        return row

    def _download(self, path: str) -> requests.Response:
        return requests.get(f"{self.api}/storage/object/{self._name(path)}", headers=self.headers, stream=True, timeout=REQUEST_LIMIT)

    def _name(self, path: str) -> str:
        return f"{self.BUCKET}/{quote(path)}"

    def _until(self, holds: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + JOB_LIMIT
        while not holds():
            assert time.monotonic() < deadline, complaint
            time.sleep(0.1)


@pytest.fixture(scope="session")
def stowage(folder: Path) -> Iterator[Stowage]:
    """The run that tests share. Nobody reads what it says, so it does not tell of each request."""
    with running(folder / "run", STOWAGE_LOG_LEVEL="WARNING") as live:
        made = Stowage(live)
        made.make_bucket()
        yield made
