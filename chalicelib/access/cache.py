"""Rows that change rarely, remembered for a minute: keys, tenants and, for reads, buckets.

A minute is the time within which a revoked key or a changed policy must take effect (CONTRACT "Common"), so
it is the lifetime of everything here. Absence is not remembered: what was just made is found at once.
"""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from chalicelib import seam

LIFETIME = 60.0
CAPACITY = 10_000

Kept = TypeVar("Kept")


class MinuteCache(Generic[Kept]):
    """Values by key, each for 60 s. Full, it forgets everything: the rows are one read away."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, Kept]] = {}
        forgotten_with_the_rest(self)

    def get(self, key: str, load: Callable[[], Kept | None]) -> Kept | None:
        """The remembered value, else what `load` gives (remembered unless None)."""
        entry = self._kept.get(key)
        if entry and entry[0] > seam.timestamp():
            return entry[1]
        value = load()
        if value is None:
            self.forget(key)
        else:
            self.keep(key, value)
        return value

    def keep(self, key: str, value: Kept) -> None:
        if len(self._kept) >= CAPACITY:
            self._kept.clear()
        self._kept[key] = (seam.timestamp() + LIFETIME, value)

    def forget(self, key: str) -> None:
        self._kept.pop(key, None)

    def clear(self) -> None:
        self._kept.clear()


class Clearable(Protocol):
    def clear(self) -> None: ...


_caches: list[Clearable] = []


def forgotten_with_the_rest(cache: Clearable) -> None:
    """Have `forget_everything` empty `cache` too."""
    _caches.append(cache)


def forget_everything() -> None:
    """Empty every cache of this process, as a new one would start."""
    for cache in _caches:
        cache.clear()
