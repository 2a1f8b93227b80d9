"""Clients as their users have them, against a run as its users have it.

The clients of `package.json` are installed by the first test that wants one of them. Sources, the run's data and what a
browser keeps go when the tests are over: together they have several gigabytes.
"""

import hashlib
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest
import requests

from tests.local.test_run import Running, running
from tests.npm import installed

HERE = Path(__file__).parent
MIB = 1 << 20
# More than this is not answered but redirected to (CONTRACT "a request or answer carries").
ANSWERED = 4_400_000
OCTETS = "application/octet-stream"
T = TypeVar("T")
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

    BUCKET = "homes"
    # What a row calls an object's name, type and metadata.
    FIELDS = ("name", "content_type", "user_metadata")

    def __init__(self, live: Running) -> None:
        self.live = live
        self.api = f"http://localhost:{live.port}"
        self.endpoint = f"{self.api}/storage/v1/upload/tus"
        self.key = live.environment["SERVICE_KEY"]
        # Metadata of every upload to here.
        self.placed = {"bucket": self.BUCKET}
        self._redirects = live.environment["STOWAGE_STORAGE_PROVIDER"] == "s3"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def metadata(self, name: str) -> dict[str, str]:
        """Metadata of an upload in the words that only this surface has; `filename` and `filetype` all have."""
        return {**self.placed, "path": name, "contentType": OCTETS}

    def make_bucket(self) -> None:
        self.ask("POST", "/storage/buckets", 201, name=self.BUCKET, public=False)

    def ask(self, method: str, path: str, status: int = 200, **body: Any) -> Any:
        """The JSON of an answer."""
        answer = requests.request(method, f"{self.api}{path}", json=body or None, headers=self.headers, timeout=REQUEST_LIMIT)
        assert answer.status_code == status, answer.text
        return answer.json()

    def url(self, name: str) -> str:
        """Where the object is read."""
        return f"{self.api}/storage/object/{self.BUCKET}/{quote(name)}"

    def info(self, name: str) -> dict[str, Any]:
        """The object's row."""
        row: dict[str, Any] = self.ask("GET", f"/storage/object-info/{self.BUCKET}/{quote(name)}")
        return row

    def status(self, name: str, **headers: str) -> int:
        """The status of a download, under other headers if there are any."""
        with self._download(name, headers) as answer:
            return answer.status_code

    def head(self, url: str) -> requests.Response:
        """The answer to HEAD on an upload."""
        return requests.head(url, headers={**self.headers, "Tus-Resumable": "1.0.0"}, timeout=REQUEST_LIMIT)

    def await_object(self, name: str) -> None:
        """Wait for what a job makes."""
        self._until(lambda: self.status(name) != 404, f"there is no object {name}")

    def assert_holds(self, name: str, source: Source, content_type: str = OCTETS) -> dict[str, Any]:
        """The object's bytes and its row are those of the source; gives the row."""
        digest, size = hashlib.sha256(), 0
        with self._download(name) as answer:
            assert answer.status_code == 200, answer.text
            assert bool(answer.history) == (self._redirects and source.size > ANSWERED), "large objects come from the storage itself"
            for chunk in answer.iter_content(MIB):
                digest.update(chunk)
                size += len(chunk)
        assert (size, digest.hexdigest()) == (source.size, source.sha256)
        self._until(lambda: self.info(name)["checksum"] is not None, "it was never hashed")
        row = self.info(name)
        assert (row["size"], row["checksum"], *(row[field] for field in self.FIELDS[:2])) == (
            source.size,
            source.sha256,
            name,
            content_type,
        )
        return row

    def _download(self, name: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        return requests.get(self.url(name), headers=headers or self.headers, stream=True, timeout=REQUEST_LIMIT)

    def _until(self, look: Callable[[], T], complaint: str) -> T:
        deadline = time.monotonic() + JOB_LIMIT
        while not (found := look()):
            assert time.monotonic() < deadline, complaint
            time.sleep(0.1)
        return found


class Drive(Stowage):
    """A run, as clients meet it who have a user's token, and a folder of the user's."""

    USER = "ada"
    FIELDS = ("key", "contentType", "metadata")

    def __init__(self, live: Running) -> None:
        super().__init__(live)
        self.endpoint = f"{self.api}/api/uploads"
        tokens = [self.ask("POST", "/auth/token", sub=user)["token"] for user in (self.USER, "bob")]
        self.key, self._key_of_another = tokens
        self.folder = self.ask("POST", "/api/folders", 201, name=self.USER)["data"]["id"]
        self.placed = {"folderId": self.folder}

    def metadata(self, name: str) -> dict[str, str]:
        return {**self.placed, "key": name, "contentType": OCTETS}

    def url(self, name: str) -> str:
        return f"{self.api}/api/storage/{quote(name)}"

    def info(self, name: str) -> dict[str, Any]:
        """The file as it is listed, which may be moments after it is there."""
        listed = f"/api/storage?prefix={quote(name)}"
        found = self._until(lambda: [file for file in self.ask("GET", listed)["data"] if file["key"] == name], f"{name} is not listed")
        file: dict[str, Any] = found[0]
        return file

    def assert_holds(self, name: str, source: Source, content_type: str = OCTETS) -> dict[str, Any]:
        """The same; and the file lies in the folder, for its owner alone."""
        file = super().assert_holds(name, source, content_type)
        assert (file["folderId"], file["acl"]) == (self.folder, "private")
        assert self.status(name, Authorization=f"Bearer {self._key_of_another}") == 404
        return file


@pytest.fixture(scope="session")
def stowage(folder: Path) -> Iterator[Stowage]:
    """The run that tests share. Nobody reads what it says, so it does not tell of each request."""
    with running(folder / "run", STOWAGE_LOG_LEVEL="WARNING") as live:
        made = Stowage(live)
        made.make_bucket()
        yield made


@pytest.fixture(scope="session")
def drive(stowage: Stowage) -> Drive:
    """The same run, for a user."""
    return Drive(stowage.live)


@pytest.fixture(params=["stowage", "drive"])
def place(request: pytest.FixtureRequest) -> Stowage:
    """Both, one after the other."""
    found: Stowage = request.getfixturevalue(request.param)
    return found
