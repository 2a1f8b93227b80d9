"""Connections that are logged in, kept between calls: making one takes several round trips."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Generic, Protocol, TypeVar

from chalicelib import outbound, seam

# Seconds. A function that was frozen finds connections that nobody has told it are closed.
KEPT_IDLE = 30


class Connection(Protocol):
    """What is kept: `fileno` of the socket that carries it, below 0 when it is closed; `close` to be done with it."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


Kept = TypeVar("Kept", bound=Connection)


class Connections(Generic[Kept]):
    """Connections made by `connect`, each used by one thread at a time. `usual` are the exceptions that a connection outlives."""

    def __init__(self, connect: Callable[[], Kept], usual: tuple[type[Exception], ...]) -> None:
        self._connect = connect
        self._usual = usual
        self._idle: list[tuple[float, Kept]] = []
        self._changing = Lock()
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[Kept]:
        """A connection; it is closed if what it is used for fails in a way that may leave it in disorder."""
        connection = self._kept() or self._connect()
        outbound.watch(connection)
        try:
            yield connection
        except self._usual:
            self._keep(connection)
            raise
        except BaseException:
            _close(connection)
            self._close_idle(seam.timestamp())  # what has ended one has most likely ended the others
            raise
        self._keep(connection)

    def _kept(self) -> Kept | None:
        self._close_idle(seam.timestamp() - KEPT_IDLE)
        with self._changing:
            return self._idle.pop()[1] if self._idle else None

    def _keep(self, connection: Kept) -> None:
        with self._changing:
            if not self._closed and connection.fileno() >= 0:
                self._idle.append((seam.timestamp(), connection))
                return
        _close(connection)

    def _close_idle(self, since: float) -> None:
        """Close those that have been idle since before that moment."""
        with self._changing:
            old = [entry for entry in self._idle if entry[0] <= since]
            self._idle = [entry for entry in self._idle if entry[0] > since]
        for _, connection in old:
            _close(connection)

    def close(self) -> None:
        """Close all that are idle now, and the others when they are done."""
        self._closed = True
        self._close_idle(seam.timestamp())


def _close(connection: Connection) -> None:
    with suppress(Exception):  # whatever a library makes of a broken connection
        connection.close()
