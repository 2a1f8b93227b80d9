"""A small app behind the shim, on a real socket."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from chalice.config import Config

from chalicelib.webapp import Answer, StowageApp, Stream
from infra import localdev
from tests.local.http_client import RawConnection

STREAMED = b"0123456789" * 300_000


def echo(event: dict[str, Any]) -> Answer:
    """The event itself, without what depends on the moment."""
    return Answer(200, json.dumps(event).encode(), {"Content-Type": "application/json"})


def answer_as_asked(event: dict[str, Any]) -> Answer:
    """What the query describes: `status`, `kind`."""
    query = event["queryStringParameters"] or {}
    kind = query.get("kind", "plain")
    if kind == "crash":
        raise RuntimeError("a view failed")
    if kind == "stream":
        return Answer(200, Stream(len(STREAMED), (STREAMED[start : start + 65536] for start in range(0, len(STREAMED), 65536))))
    if kind == "broken-stream":
        return Answer(200, Stream(1000, iter([b"only this"])))
    if kind == "failing-stream":
        return Answer(200, Stream(1000, failing()))
    headers = {
        "length": {"Content-Length": "12345", "Content-Type": "text/plain"},
        "injected": {"X-Name": "a\r\nX-Other: b"},
        "unicode": {"X-Name": "näme €"},
        "several": {"Set-Cookie": ["a=1", "b=2"]},
    }.get(kind, {"Content-Type": "text/plain"})
    return Answer(int(query.get("status", "200")), b"" if kind == "empty" else b"hello", headers)  # type: ignore[arg-type]


def failing() -> Iterator[bytes]:
    yield b"begun"
    raise OSError("the disk is gone")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a running server."""
    localdev.install()
    app = StowageApp("shim")
    for path in ("/echo", "/echo/{name}", "/echo/{name}/fixed", "/echo/fixed/{rest+}", "/echo/{name}/{rest+}", "/{path+}"):
        app.mount(path, echo)
    app.mount("/answer", answer_as_asked)
    server = localdev.create_local_server(app, Config.create(), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server.server_port
    server.shutdown()
    thread.join()


@pytest.fixture
def connection(port: int) -> Iterator[RawConnection]:
    """A fresh connection to it."""
    with RawConnection(port) as connected:
        yield connected
