"""Rounds over everything there is: a slice an hour, one a week. Killed in a slice, a round goes on behind the last batch that was saved."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from chalicelib import seam
from chalicelib.tables.garbage import Sweep

# Seconds.
EVERY = 7 * 24 * 3600


class Batch(Protocol):
    """A step: how much it looked at, and where the next one begins (None: the round has ended)."""

    @property
    def examined(self) -> int: ...

    @property
    def position(self) -> Any: ...


B = TypeVar("B", bound=Batch)


def going_on(kind: str, batches: Callable[[Any], Iterator[B]], seconds_left: Callable[[], float], dry_run: bool) -> Iterator[B]:
    """The batches of a slice, each saved when it was seen to, until the round ends or time runs out; dry, of a round that is not noted.

    The next round begins a week after this one did.
    """
    sweep = Sweep.read(Sweep.HOUR, kind) or Sweep(Sweep.HOUR, kind, began_at=0)
    if sweep.position is None and not dry_run:
        if sweep.began_at + EVERY > seam.timestamp():
            return
        sweep.began_at, sweep.examined = seam.timestamp(), 0
    for batch in batches(sweep.position):
        yield batch
        if not dry_run:
            sweep.examined, sweep.position = sweep.examined + batch.examined, batch.position
            if batch.position is None:
                sweep.total = sweep.examined
            sweep.save()
        if seconds_left() <= 0:
            return
