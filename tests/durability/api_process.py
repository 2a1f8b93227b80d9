"""The API as a process of its own that can be killed: forked, so that two hundred of them cost seconds."""

import http.client
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class ApiProcess:
    """Serves the app on a loopback port; `before` runs in the new process before it serves."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _serve(self.port, before, writer)
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """One request on a connection of its own; raises OSError or HTTPException when the process dies over it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def kill_after(self, seconds: float) -> threading.Timer:
        """Have it killed a little later; the timer is running."""
        timer = threading.Timer(seconds, self.kill)
        timer.start()
        return timer

    def kill(self) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def reap(self) -> int:
        """End it if it still lives; gives its exit status, negative for a signal."""
        self.kill()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _serve(port: int, before: Callable[[], None], ready: int) -> Any:
    """The child: new clients, for sockets must not be shared with the parent, then the server of `chalice local`."""
    try:
        from chalice.config import Config

        from app import app
        from chalicelib import aws, providers
        from chalicelib.access import cache
        from infra import localdev

        aws.client.cache_clear()
        providers.internal.cache_clear()
        cache.forget_everything()
        before()
        server = localdev.create_local_server(app, Config(), "127.0.0.1", port)
        os.write(ready, b"!")
        server.server.serve_forever()
    finally:
        os._exit(1)


def die_at(step: int) -> Callable[[], None]:
    """For `before`: the process kills itself at a step. Even steps lie before an AWS call is sent, odd ones after its answer."""

    def arm() -> None:
        from chalicelib import aws

        seen = 0

        def pass_step(**_: Any) -> None:
            nonlocal seen
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        aws.session().register("before-send", pass_step)
        aws.session().register("before-parse", pass_step)

    return arm
