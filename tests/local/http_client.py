"""An HTTP/1.1 client that shows exactly what went over the wire, and lets a test send what no library would."""

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

LOOPBACK = "0100007F"
"""127.0.0.1 as Linux writes it in /proc/net/tcp."""
_LISTENING = "0A"


def listening_on(port: int) -> set[str]:
    """The local addresses, IPv4 and IPv6, on which anything listens on `port`; Linux only."""
    addresses = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            address, _, number = line.split()[1].partition(":")
            if line.split()[3] == _LISTENING and int(number, 16) == port:
                addresses.add(address)
    return addresses


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it was received; header names in lower case, each with all its values."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        values = self.headers.get(name)
        return values[-1] if values else None


class RawConnection:
    """A connection to the server under test."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> RawAnswer:
        """Send a well-formed request and read its answer."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost:3000", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return self.answer(head_only=method == "HEAD")

    def answer(self, head_only: bool = False) -> RawAnswer:
        """Read one answer; `head_only` for answers to HEAD."""
        status = int(self._stream.readline().split()[1])
        headers: dict[str, list[str]] = {}
        while line := self._stream.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers.setdefault(name.lower(), []).append(value.strip())
        length = int(headers.get("content-length", ["0"])[0])
        body = b"" if head_only or status < 200 or status in (204, 304) else self._stream.read(length)
        return RawAnswer(status, headers, body)

    def is_closed(self) -> bool:
        """Whether the server has closed; waits for it."""
        try:
            return self._stream.read(1) == b""
        except ConnectionResetError:
            return True
