"""Another attempt where one may help, and nowhere else; an end to every call; whatever is wrapped."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib import seam
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import Copier, Expirer, Listed, Multipart, Presigner, Promise, Stat
from chalicelib.providers.azure import Azure
from chalicelib.providers.failures import PASSING, Failure, failure
from chalicelib.providers.filesystem import Filesystem
from chalicelib.providers.ftp import FTP
from chalicelib.providers.retries import ATTEMPTS, LISTED_AT_ONCE, persistent
from chalicelib.providers.s3 import S3
from chalicelib.providers.sftp import SFTP

NOWHERE = "http://127.0.0.1:9"
MADE: dict[str, Callable[[Path], Any]] = {
    "S3": lambda _: S3("bucket", region="us-east-1", endpoint=NOWHERE, access_key="a", secret_key="b", unkept=frozenset([Promise.MD5])),
    "Azure": lambda _: Azure("container", account="account", key="a2V5", endpoint=NOWHERE, prefix="pre/"),
    "SFTP": lambda _: SFTP("127.0.0.1", "base", username="a", password="b"),
    "FTP": lambda _: FTP("127.0.0.1", "base", username="a", password="b"),
    "Filesystem": lambda folder: Filesystem(str(folder)),
}
CAN = {
    "S3": {Copier, Presigner, Multipart},
    "Azure": {Copier, Presigner, Multipart, Expirer},
    "SFTP": {Multipart},
    "FTP": {Multipart},
    "Filesystem": {Copier, Multipart, Expirer},
}
TOLD = ("holds", "max_key_bytes", "min_part_bytes", "max_part_bytes", "max_parts")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which takes time: each is the whole of what jitter may make of it."""
    made: list[float] = []
    monkeypatch.setattr(seam, "jitter", lambda ceiling: ceiling)
    monkeypatch.setattr(seam, "sleep", made.append)
    return made


# ---- what it can -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("seconds", [None, 18.0])
def test_it_can_exactly_what_it_could(name: str, seconds: float | None, tmp_path: Path) -> None:
    bare = MADE[name](tmp_path)
    wrapped = persistent(bare, seconds=seconds)
    for provider in (bare, wrapped, persistent(wrapped)):
        assert {kind for kind in (Copier, Presigner, Multipart, Expirer) if isinstance(provider, kind)} == CAN[name]
    assert {told: getattr(wrapped, told, None) for told in TOLD} == {told: getattr(bare, told, None) for told in TOLD}


@pytest.mark.parametrize("name", MADE)
def test_everything_public_of_a_provider_passes(name: str, tmp_path: Path) -> None:
    """A method that is added to a provider and forgotten here would be missing where it is used."""
    own = {"S3": {"bucket"}, "Azure": {"of_connection_string"}, "SFTP": {"shown_host_key"}}.get(name, set())
    bare = MADE[name](tmp_path)
    public = {attribute for attribute in dir(bare) if not attribute.startswith("_")} - own
    assert {attribute for attribute in public if not hasattr(persistent(bare), attribute)} <= {"root", "folder"}


def test_presigning_asks_nobody() -> None:
    told: list[StorageUnavailable] = []
    provider: Any = persistent(MADE["S3"](Path()), seconds=18, failed=told.append)
    assert provider.presign_get("a", 60, "text/plain", "").startswith(f"{NOWHERE}/bucket/a?")
    assert told == []


# ---- attempts ----------------------------------------------------------------------------------------------------
class Storage:
    """Fails as it is told to, then answers; counts what it is asked."""

    max_key_bytes = 1024

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.asked = list(failures), 0

    def stat(self, key: str) -> Stat | None:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return Stat(len(key))


def always(cause: Failure) -> Storage:
    return Storage(*(failure(cause) for _ in range(9)))


@pytest.mark.parametrize("cause", Failure)
def test_only_what_may_pass_is_asked_again(cause: Failure, pauses: list[float]) -> None:
    storage, told = always(cause), list[StorageUnavailable]()
    with pytest.raises(StorageUnavailable) as raised:
        persistent(storage, failed=told.append).stat("a")  # type: ignore[arg-type]
    assert raised.value.reason == cause
    assert storage.asked == (ATTEMPTS if cause in PASSING else 1)
    assert pauses == ([0.2, 0.4] if cause in PASSING else [])
    assert told == [raised.value]


def test_what_passes_are_timeouts_connections_and_business() -> None:
    assert {"Timeout", "CannotConnect", "Busy"} == PASSING
    assert ATTEMPTS == 3


@pytest.mark.parametrize("failing", [1, 2])
def test_an_attempt_that_succeeds_is_the_answer(failing: int, pauses: list[float]) -> None:
    storage, told = Storage(*(failure(Failure.BUSY) for _ in range(failing))), list[StorageUnavailable]()
    assert persistent(storage, failed=told.append).stat("abc") == Stat(3)  # type: ignore[arg-type]
    assert storage.asked == failing + 1
    assert pauses == [0.2, 0.4][:failing]
    assert told == []


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_as_many_attempts_as_asked_for(attempts: int) -> None:
    storage = always(Failure.TIMEOUT)
    with pytest.raises(StorageUnavailable):
        persistent(storage, attempts=attempts).stat("a")  # type: ignore[arg-type]
    assert storage.asked == attempts


@pytest.mark.parametrize("error", [BytesMissing("gone"), ValueError("a mistake"), StorageUnavailable("for no reason")])
def test_a_definite_answer_and_a_mistake_are_not_asked_again(error: Exception, pauses: list[float]) -> None:
    storage = Storage(error)
    with pytest.raises(type(error)):
        persistent(storage).stat("a")  # type: ignore[arg-type]
    assert (storage.asked, pauses) == (1, [])


def test_pauses_are_jittered(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    ceilings: list[float] = []

    def jitter(ceiling: float) -> float:
        ceilings.append(ceiling)
        return ceiling / 4

    monkeypatch.setattr(seam, "jitter", jitter)
    with pytest.raises(StorageUnavailable):
        persistent(always(Failure.BUSY)).stat("a")  # type: ignore[arg-type]
    assert (ceilings, pauses) == ([0.2, 0.4], [0.05, 0.1])


# ---- the deadline ------------------------------------------------------------------------------------------------
class Slow(Storage):
    def stat(self, key: str) -> Stat | None:
        time.sleep(0.3)
        return super().stat(key)


def test_what_comes_too_late_is_no_answer() -> None:
    told: list[StorageUnavailable] = []
    with pytest.raises(StorageUnavailable) as raised:
        persistent(Slow(), seconds=0.05, failed=told.append).stat("a")  # type: ignore[arg-type]
    assert raised.value.reason == Failure.TIMEOUT
    assert told == [raised.value]


@pytest.mark.parametrize("cause", [Failure.CANNOT_CONNECT, Failure.FAILED, Failure.ACCESS_DENIED])
def test_after_the_deadline_nothing_is_asked_again(cause: Failure) -> None:
    storage = Slow(failure(cause))
    with pytest.raises(StorageUnavailable) as raised:
        persistent(storage, seconds=0.05).stat("a")  # type: ignore[arg-type]
    assert raised.value.reason == Failure.TIMEOUT
    assert storage.asked == 1


def test_bytes_that_are_missing_after_the_deadline_are_not_known_to_be() -> None:
    with pytest.raises(StorageUnavailable):
        persistent(Slow(BytesMissing("shorter than its record says")), seconds=0.05).stat("a")  # type: ignore[arg-type]


# ---- lists -------------------------------------------------------------------------------------------------------
KEYS = [f"{number:05}" for number in range(3 * LISTED_AT_ONCE + 500)]


class Lister(Storage):
    """A list that fails each time that it has given so many entries."""

    def __init__(self, *fails_after: int) -> None:
        super().__init__()
        self.fails_after, self.after = list(fails_after), list[str]()

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        self.after.append(after)
        left = self.fails_after.pop(0) if self.fails_after else len(KEYS) + 1
        for key in KEYS:
            if key.startswith(prefix) and key > after:
                if not left:
                    raise failure(Failure.CANNOT_CONNECT)
                left -= 1
                yield Listed(key, 1)
        if not left:
            raise failure(Failure.CANNOT_CONNECT)


@pytest.mark.parametrize(
    "fails_after",
    [(), (0,), (1,), (999,), (1000,), (1001,), (1500, 0), (2500, 1), (0, 0), (1000, 1000, 1000), (len(KEYS),), (3499, 0)],
)
def test_a_list_goes_on_after_its_last_key(fails_after: tuple[int, ...], pauses: list[float]) -> None:
    lister, told = Lister(*fails_after), list[StorageUnavailable]()
    found = persistent(lister, failed=told.append).list("")  # type: ignore[arg-type]
    assert [listed.key for listed in found] == KEYS
    assert len(lister.after) == len(fails_after) + 1
    assert len(pauses) == len(fails_after)
    assert told == []


def test_a_list_begins_where_it_is_asked_to() -> None:
    lister = Lister(10)
    assert [listed.key for listed in persistent(lister).list("00", after="00996")] == ["00997", "00998", "00999"]  # type: ignore[arg-type]
    assert lister.after == ["00996"]


def test_a_list_that_fails_for_good_tells_so_once() -> None:
    lister, told = Lister(1200, 0, 0, 0), list[StorageUnavailable]()
    found = persistent(lister, failed=told.append).list("")  # type: ignore[arg-type]
    seen = []
    with pytest.raises(StorageUnavailable) as raised:
        seen += [listed.key for listed in found]
    assert told == [raised.value]
    assert lister.after == ["", "00999", "00999", "00999"][: len(lister.after)]


def test_a_list_asks_nothing_before_it_is_read() -> None:
    lister = Lister()
    persistent(lister).list("")  # type: ignore[arg-type]
    assert lister.after == []
