"""Stands for Lambda where the API invokes a function: the image function, in processes of its own.

    python -m infra.invoker PORT

Answers `POST /2015-03-31/functions/{name}/invocations` as AWS documents it, failures included: a call that takes too long
has its process killed, one that brings it down is told as such, and one too many is refused with 429. So the API code is the
same here and there; `AWS_ENDPOINT_URL_LAMBDA` is all that tells it where to ask.
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

import json
import logging
import multiprocessing
import os
import queue
import re
import resource
import signal
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from chalice.local import LambdaContext

from infra import lifeline

NAME = "image_transform"
CONFIG = json.loads((Path(__file__).parent.parent / ".chalice" / "config.json").read_text())["lambda_functions"][NAME]
MEMORY = CONFIG["lambda_memory_size"] << 20
TIMEOUT = float(CONFIG["lambda_timeout"])
# Lambda starts another process for another call; this machine has only so many cores, so a call waits a little for one.
CONCURRENCY = min(4, os.cpu_count() or 1)
PATIENCE = 5.0
MAX_PAYLOAD = 6 << 20
INVOCATION = re.compile(r"/2015-03-31/functions/([A-Za-z0-9:_-]+)/invocations")

log = logging.getLogger(__name__)

_spawning = multiprocessing.get_context("spawn")


def _serve(connection: Connection) -> None:
    """What a worker process does: call after call, until its starter has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(ValueError, OSError):  # some systems know no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from chalicelib.images.function import image_transform

    with suppress(EOFError, OSError):
        while True:
            event = json.loads(connection.recv_bytes())
            connection.send_bytes(_called(image_transform, event))


def _called(function: Callable[[Any, Any], Any], event: Any) -> bytes:
    """A flag for whether it failed, and what Lambda would answer."""
    try:
        return b"0" + json.dumps(function(event, LambdaContext(NAME, MEMORY >> 20, int(TIMEOUT * 1000)))).encode()
    except Exception as error:  # whatever it raises is what Lambda reports
        return b"1" + _report(type(error).__name__, str(error))


def _report(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


class Worker:
    """A process that runs the function, one call at a time; started when first called, and again after it was brought down."""

    def __init__(self) -> None:
        self._process: Any = None
        self._connection: Any = None

    def invoke(self, payload: bytes, timeout: float) -> tuple[bytes, bool]:
        """What the function answers, and whether it failed."""
        if self._process is None or not self._process.is_alive():
            self._start()
        try:
            self._connection.send_bytes(payload)
            if not self._connection.poll(timeout):
                self.stop()
                return _report("Sandbox.Timedout", f"Task timed out after {timeout:.2f} seconds"), True
            answer = self._connection.recv_bytes()
        except (EOFError, OSError):
            self.stop()
            return _report("Runtime.ExitError", "Runtime exited"), True
        return answer[1:], answer[:1] == b"1"

    def _start(self) -> None:
        self._connection, theirs = _spawning.Pipe()
        self._process = _spawning.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None


class Server(ThreadingHTTPServer):
    """Lambda's endpoint on a loopback port (0: any that is free), with `concurrency` processes at most.

    A call waits `patience` seconds for one of them; it takes `timeout` seconds at most. Only callers with `access_key` are served.
    """

    daemon_threads = True

    def __init__(
        self, port: int, access_key: str, concurrency: int = CONCURRENCY, patience: float = PATIENCE, timeout: float = TIMEOUT
    ) -> None:
        self.access_key, self.patience, self.seconds = access_key, patience, timeout
        self._workers = [Worker() for _ in range(concurrency)]
        self.idle: queue.Queue[Worker] = queue.Queue()
        for worker in self._workers:
            self.idle.put(worker)
        super().__init__(("127.0.0.1", port), Invocation)

    @property
    def endpoint(self) -> str:
        """The URL that stands for Lambda."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line instead of socketserver's traceback, and none for a client that has gone."""
        if not isinstance(sys.exception(), ConnectionError):
            log.error("an invocation failed: %r", sys.exception())

    def server_close(self) -> None:
        """Stop listening, and every process."""
        super().server_close()
        for worker in self._workers:
            worker.stop()


class Invocation(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Tell that it is up."""
        self._answer(200, b"{}")

    def do_POST(self) -> None:
        """Invoke."""
        length = self.headers.get("Content-Length", "")
        if not self._is_by_the_api():
            return self._refuse_unread(403, "InvalidSignatureException", "the request is not signed")
        if not INVOCATION.fullmatch(self.path):
            return self._refuse_unread(404, "ResourceNotFoundException", "there is no such function")
        if not length.isdigit() or int(length) > MAX_PAYLOAD:
            return self._refuse_unread(413, "RequestTooLargeException", f"a payload has at most {MAX_PAYLOAD} bytes")
        payload = self.rfile.read(int(length))
        try:
            worker = self.server.idle.get(timeout=self.server.patience) if self.server.patience else self.server.idle.get_nowait()
        except queue.Empty:
            return self._refuse(429, "TooManyRequestsException", "Rate Exceeded.")
        try:
            answer, failed = worker.invoke(payload, self.server.seconds)
        finally:
            self.server.idle.put(worker)
        return self._answer(200, answer, {"X-Amz-Function-Error": "Unhandled"} if failed else {})

    def _is_by_the_api(self) -> bool:
        """Not by a page in a browser, which can name neither the key nor, whatever its own host resolves to, this host."""
        signed = f"Credential={self.server.access_key}/" in self.headers.get("Authorization", "")
        return signed and f"http://{self.headers.get('Host')}" == self.server.endpoint

    def _refuse_unread(self, status: int, kind: str, message: str) -> None:
        self.close_connection = True  # what is left of the request would be read as the next
        self._refuse(status, kind, message)

    def _refuse(self, status: int, kind: str, message: str) -> None:
        self._answer(status, json.dumps({"Type": "User", "message": message}).encode(), {"x-amzn-ErrorType": kind})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        given = {"Content-Type": "application/json", "Content-Length": str(len(body)), "x-amzn-RequestId": str(uuid.uuid4())}
        if self.close_connection:
            given["Connection"] = "close"
        for name, value in {**given, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  the base class's name for it
        """Nothing: the API logs what it asks for."""


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM."""
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(name)s: %(message)s")
    lifeline.watch()
    server = Server(int(arguments[0]), os.environ["AWS_ACCESS_KEY_ID"])
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
