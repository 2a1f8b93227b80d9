"""A server of S3's protocol whose credentials may not delete: it passes all else on to another server, byte for byte.

    with denying(endpoint) as server:
        storage = S3("bucket", endpoint=server.endpoint, …)

The Host that a client has signed goes along, so the server behind checks signatures as if it had been asked itself.
`server.asked` are the methods and paths so far, `server.denied` those that were refused.
"""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOOPBACK = "127.0.0.1"
DENIED = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length"})


class Denying:
    """Where it is, and what it was asked; `denies` may be turned off."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.asked: list[str] = []
        self.denied: list[str] = []
        self.denies = True


@contextmanager
def denying(behind: str) -> Iterator[Denying]:
    """The server, in threads of this process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            server.asked.append(f"{self.command} {self.path}")
            query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            if server.denies and "uploadId" not in query and (self.command == "DELETE" or "delete" in query):
                server.denied.append(f"{self.command} {self.path}")
                return self._say(403, {"Content-Type": "application/xml"}, DENIED)
            connection = http.client.HTTPConnection(urlsplit(behind).netloc, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            told = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
            length = answer.headers.get("Content-Length", "0") if self.command == "HEAD" else None
            self._say(answer.status, told, answer.read(), length)
            connection.close()
            return None

        def _say(self, status: int, headers: dict[str, str], body: bytes, length: str | None = None) -> None:
            self.send_response_only(status)
            for name, value in ({"Content-Length": length or str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    listening.daemon_threads = True
    server = Denying(f"http://{LOOPBACK}:{listening.server_address[1]}")
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
