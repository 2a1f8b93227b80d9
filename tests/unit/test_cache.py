"""What is remembered for a minute, and what is not."""

from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.access import cache
from chalicelib.access.cache import MinuteCache


@pytest.fixture
def remembered() -> Iterator[MinuteCache[str]]:
    made: MinuteCache[str] = MinuteCache()
    yield made
    cache._caches.remove(made)


class Loader:
    """Gives its values one after the other and counts."""

    def __init__(self, *values: str | None) -> None:
        self.values = list(values)
        self.calls = 0

    def __call__(self) -> str | None:
        self.calls += 1
        return self.values.pop(0)


@pytest.mark.parametrize(("seconds", "calls"), [(0, 1), (59.9, 1), (60.1, 2), (3600, 2)])
def test_a_value_lives_for_60_seconds(remembered: MinuteCache[str], clock: Any, seconds: float, calls: int) -> None:
    load = Loader("old", "new")
    assert remembered.get("key", load) == "old"
    clock.advance(seconds)
    assert remembered.get("key", load) == ("old" if calls == 1 else "new")
    assert load.calls == calls


def test_using_a_value_does_not_prolong_it(remembered: MinuteCache[str], clock: Any) -> None:
    load = Loader("old", "new")
    for _ in range(3):
        remembered.get("key", load)
        clock.advance(31)
    assert remembered.get("key", Loader("newer")) in ("new", "newer")
    assert load.calls == 2


def test_absence_is_not_remembered(remembered: MinuteCache[str]) -> None:
    load = Loader(None, "made since")
    assert remembered.get("key", load) is None
    assert remembered.get("key", load) == "made since"


def test_what_went_is_forgotten(remembered: MinuteCache[str], clock: Any) -> None:
    remembered.get("key", Loader("there"))
    clock.advance(61)
    assert remembered.get("key", Loader(None)) is None
    assert remembered._kept == {}


def test_keys_do_not_mix(remembered: MinuteCache[str]) -> None:
    remembered.keep("a", "1")
    assert remembered.get("b", Loader("2")) == "2"
    assert remembered.get("a", Loader()) == "1"


def test_a_forgotten_value_is_loaded_anew(remembered: MinuteCache[str]) -> None:
    remembered.keep("a", "1")
    remembered.forget("a")
    remembered.forget("never known")
    assert remembered.get("a", Loader("2")) == "2"


def test_a_failing_load_remembers_nothing(remembered: MinuteCache[str]) -> None:
    def fail() -> str:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        remembered.get("a", fail)
    assert remembered.get("a", Loader("1")) == "1"


def test_it_never_holds_more_than_its_capacity(remembered: MinuteCache[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CAPACITY", 3)
    for number in range(10):
        remembered.keep(str(number), "x")
        assert len(remembered._kept) <= 3
        assert remembered.get(str(number), Loader()) == "x"


def test_everything_is_forgotten_at_once(remembered: MinuteCache[str]) -> None:
    remembered.keep("a", "1")
    cache.forget_everything()
    assert remembered.get("a", Loader("2")) == "2"
