"""A loopback server before DynamoDB that asks once and then answers from memory.

The embedded AWS looks at every row of a partition for each Query, which DynamoDB does not. Behind this server a
benchmark sends the requests that it sends to DynamoDB and gets the same bytes back, and what the embedded AWS
takes is waited for once. It runs in a process of its own, so that the CPU of the one that measures is its own.
"""

import http.client
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_KEPT = ("content-type", "x-amz-crc32", "x-amzn-requestid")
_TIMEOUT = 60


def serve(upstream: str) -> None:
    """Prints the port that it took, then serves until it is ended."""
    answers: dict[tuple[str, bytes], tuple[int, list[tuple[str, str]], bytes]] = {}
    host = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet an answer
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            asked = (self.headers["x-amz-target"], body)
            if asked not in answers:
                answers[asked] = self._ask(body)
            status, headers, answer = answers[asked]
            self.send_response_only(status)
            for name, value in [*headers, ("content-length", str(len(answer)))]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(host, timeout=_TIMEOUT)
            try:
                connection.request("POST", "/", body, dict(self.headers.items()))
                answer = connection.getresponse()
                return answer.status, [(name, value) for name, value in answer.getheaders() if name.lower() in _KEPT], answer.read()
            finally:
                connection.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1])
