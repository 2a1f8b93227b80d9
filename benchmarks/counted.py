"""A loopback forwarder before the embedded AWS that notes what is asked, whoever asks and by whichever SDK.

A request counts when it arrives, so those that an SDK repeats count again. It passes on in one piece what came
in chunks: sizes and times behind it mean nothing.
"""

import http.client
import threading
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_BY_HOP = frozenset(["connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"])
_TIMEOUT = 120
# UploadPart has both of the first two.
_S3_WORDS = ("partNumber", "uploadId", "uploads", "list-type", "delete", "tagging")
_WRITES = frozenset(["BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"])


class Forwarder(ThreadingHTTPServer):
    """Listens at `endpoint` while entered; `asked` has the service and the operation of each request, in order."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.asked: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "Forwarder":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def s3_calls(self) -> Counter[str]:
        """Requests to S3 so far, by operation."""
        return Counter(operation for service, operation in self.asked if service == "s3")

    @property
    def table_writes(self) -> int:
        """Requests to DynamoDB so far that write; a transaction is one."""
        return sum(service == "dynamodb" and operation in _WRITES for service, operation in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer
    disable_nagle_algorithm = True
    server: Forwarder

    def forward(self) -> None:
        self.server.asked.append(_operation(self.command, self.path, self.headers.get("x-amz-target", "")))
        body = self._chunks() if self.headers.get("transfer-encoding") else self.rfile.read(int(self.headers.get("content-length", 0)))
        connection = http.client.HTTPConnection(self.server.upstream, timeout=_TIMEOUT)
        try:
            connection.request(self.command, self.path, body, _passed_on(self.headers.items()))
            answer = connection.getresponse()
            self._answer(answer, answer.read())
        finally:
            connection.close()

    def handle_expect_100(self) -> bool:
        """At once, for an SDK waits a second for it."""
        self.send_response_only(100)
        self.end_headers()
        self.wfile.flush()
        return True

    def _chunks(self) -> bytes:
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def _answer(self, answer: http.client.HTTPResponse, body: bytes) -> None:
        self.send_response_only(answer.status)
        for name, value in _passed_on(answer.getheaders()).items():
            self.send_header(name, value)
        if answer.status not in (204, 304):
            length = answer.getheader("content-length") if self.command == "HEAD" else None
            self.send_header("content-length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


for _method in ("DELETE", "GET", "HEAD", "POST", "PUT"):
    setattr(_Handler, f"do_{_method}", _Handler.forward)


def _passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in _HOP_BY_HOP}


def _operation(method: str, target: str, json_target: str) -> tuple[str, str]:
    """The JSON protocol names both in a header; an operation of S3 is told by the method and a word of the query."""
    if json_target:
        name, _, operation = json_target.partition(".")
        return name.partition("_")[0].lower(), operation
    words = {pair.partition("=")[0] for pair in urlsplit(target).query.split("&")}
    return "s3", " ".join([method, *(word for word in _S3_WORDS if word in words)])
