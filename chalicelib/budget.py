"""How long what is under way may still wait for storages that somebody else runs.

A request sets it once; each call to such a storage takes from it, so several slow answers cost no more than one. Jobs set none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from chalicelib import seam

_ends: ContextVar[float | None] = ContextVar("ends", default=None)


@contextmanager
def of(seconds: float) -> Iterator[None]:
    """Allow so many seconds from now to everything in here."""
    token = _ends.set(seam.timestamp() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


def left() -> float | None:
    """Seconds that are left, None where nobody has set a limit."""
    ends = _ends.get()
    return None if ends is None else ends - seam.timestamp()
