"""Servers that misbehave, each in threads of this process, and places where there is none."""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from typing import Literal, get_args

from tests.servers.process import LOOPBACK

Behaviour = Literal["silent", "drip", "half_open", "refusing", "banner_drip", "redirect"]

KEPT = 1 << 16
PROMISED, SENT = 1000, 100
DRIPPED = f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {1 << 30}\r\n\r\n".encode()
HALF = f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {PROMISED}\r\n\r\n".encode() + b"x" * SENT
REDIRECT = "HTTP/1.1 {status} Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
# Seconds: for the client to read an answer before the connection is closed, which would take back what is unread.
LINGER = 2
# More connections than a backlog of none holds, and the seconds after which one that is not made never will be.
BACKLOG_TRIES = 16
HANGS_AFTER = 0.2


@dataclass
class Connection:
    """What a client has sent: how many bytes, and the first 64 KiB of them."""

    bytes_received: int = 0
    received: bytes = b""

    def add(self, data: bytes) -> None:
        self.bytes_received += len(data)
        self.received += data[: KEPT - len(self.received)]


@dataclass(frozen=True)
class Hostile:
    """Where a server is, and the connections that it has accepted so far, in their order."""

    port: int
    host: str = LOOPBACK
    connections: list[Connection] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The server's address for a client of HTTP."""
        return f"http://{self.host}:{self.port}"

    @property
    def bytes_received(self) -> int:
        """How many bytes all connections have sent."""
        return sum(connection.bytes_received for connection in self.connections)


class _Gone(Exception):
    """The client has closed the connection, or the server is to stop."""


@dataclass(frozen=True)
class _Peer:
    socket: socket.socket
    connection: Connection

    def read(self) -> None:
        """Wait for something that the client sends."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise _Gone
        self.connection.add(data)

    def read_for(self, seconds: float) -> None:
        """Read what comes meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and select.select([self.socket], [], [], left)[0]:
            self.read()

    def read_head(self) -> None:
        """Wait for the head of an HTTP request."""
        while b"\r\n\r\n" not in self.connection.received and len(self.connection.received) < KEPT:
            self.read()

    def answer(self, data: bytes) -> None:
        """Answer a request and close."""
        self.read_head()
        self.socket.sendall(data)
        self.socket.shutdown(socket.SHUT_WR)
        self.read_for(LINGER)

    def drip(self, start: bytes, interval: float) -> None:
        """Send a byte at a time, without end."""
        for byte in chain(start, repeat(ord("x"))):
            self.socket.sendall(bytes([byte]))
            self.read_for(interval)

    def drip_answer(self, interval: float) -> None:
        """Answer a request a byte at a time."""
        self.read_head()
        self.drip(DRIPPED, interval)

    def ignore(self) -> None:
        """Read without end."""
        while True:
            self.read()


def _behave(peer: _Peer, do: Callable[[_Peer], None]) -> None:
    with peer.socket, suppress(_Gone, OSError, ValueError):  # select finds a closed socket to be no number of a file
        do(peer)


@contextmanager
def listener(behaviour: Behaviour, *, to: str = "", status: int = 301, banner: str = "SSH-2.0-", interval: float = 1) -> Iterator[Hostile]:
    """A server that, to every connection:

    - `silent`: says nothing, and reads what comes;
    - `drip`: answers an HTTP request by a byte each `interval` seconds, of an answer that has a GiB;
    - `half_open`: answers an HTTP request with 100 of the 1000 bytes that it promises, and closes;
    - `refusing`: closes at once;
    - `banner_drip`: greets with `banner` by a byte each `interval` seconds and goes on with x, never ending the line;
    - `redirect`: answers an HTTP request with `status` and the address `to`.
    """
    behaviours: dict[str, Callable[[_Peer], None]] = {
        "silent": _Peer.ignore,
        "drip": partial(_Peer.drip_answer, interval=interval),
        "half_open": partial(_Peer.answer, data=HALF),
        "refusing": lambda _: None,
        "banner_drip": partial(_Peer.drip, start=banner.encode(), interval=interval),
        "redirect": partial(_Peer.answer, data=REDIRECT.format(status=status, to=to).encode()),
    }
    assert set(behaviours) == set(get_args(Behaviour))
    do = behaviours[behaviour]
    listening = socket.create_server((LOOPBACK, 0), backlog=128)
    hostile = Hostile(listening.getsockname()[1])
    started: list[tuple[threading.Thread, socket.socket]] = []

    def accept() -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            connection = Connection()
            thread = threading.Thread(target=_behave, args=(_Peer(accepted, connection), do), daemon=True)
            started.append((thread, accepted))
            hostile.connections.append(connection)
            thread.start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield hostile
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts; closing would not
        accepting.join()
        listening.close()
        for thread, accepted in started:
            with suppress(OSError):
                accepted.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of loopback that refuses connections. It is held, so that nobody comes to listen there."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        port: int = held.getsockname()[1]
        yield port


@contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """A host and port where a connection is neither made nor refused, as behind a firewall that drops packets."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((LOOPBACK, 0))
        listening.listen(0)
        address: tuple[str, int] = listening.getsockname()
        for _ in range(BACKLOG_TRIES):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
            if not select.select([], [waiting], [], HANGS_AFTER)[1]:
                break
        else:
            raise RuntimeError("connections to a full backlog are still made")
        yield address
