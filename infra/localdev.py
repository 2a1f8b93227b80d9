"""Makes `chalice local` (and `chalice.test.Client`) behave like API Gateway's REST APIs in front of Lambda.

`app.py` calls `install()` when it is loaded by `chalice local`; the deployed function never imports this module.
Three attributes of `chalice.local` are replaced and nothing else is touched; `tests/local/test_chalice_hooks.py`
holds every hook that is used. What differs from stock Chalice: greedy paths and API Gateway's precedence, raw
paths, every value of repeated headers, chunked and limited bodies, HEAD and 304 without a body, streamed answers
of the local filesystem provider, and about forty times the speed.
"""

import base64
import importlib
import ipaddress
import json
import logging
import os
import signal
import socket
import socketserver
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qs

from chalice import local
from chalice.app import Chalice
from chalice.config import Config

from infra import wire

Event = dict[str, Any]
Node = dict[str | None, Any]
"""A path segment's children by name; under None the route that ends here."""

# Seconds that a connection may stay silent, within a request or between two.
IDLE_TIMEOUT = 75
# Seconds that requests under way get to finish when the server is told to stop.
STOP_TIMEOUT = 20
# What is still read, in seconds and bytes, from a client that sends on after it was refused: closing at once
# would reset the connection, and the client might never see why.
LINGER_TIME = 10
LINGER_SILENCE = 2
LINGER_BYTES = 256 * 1024 * 1024
# Lambda's largest answer, in bytes of the JSON that carries it: base64 included.
MAX_ANSWER = 6 * 1024 * 1024
# Not passed to a function by API Gateway (https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html).
NOT_FORWARDED = frozenset(
    [
        *["connection", "content-length", "content-md5", "expect", "keep-alive", "max-forwards", "proxy-authenticate"],
        *["server", "te", "trailer", "transfer-encoding", "upgrade", "www-authenticate"],
    ]
)
# The server's own business, whatever a function says.
NOT_ANSWERED = frozenset(["connection", "date", "keep-alive", "server", "transfer-encoding"])
# As the GatewayResponses of `infra/template.yaml` have them.
GATEWAY_HEADERS = {
    "Content-Type": "application/json",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "*",
}
# What a request may carry, as its 413 tells: chalicelib/settings.py has the number.
CHUNK_MAX = {413: {"x-chunk-max": "4400000"}}
GATEWAY_CODES = {404: "RouteNotFound", 413: "TooLarge", 502: "InternalError"}

# Imported by the app when a request first needs them. Its threads here would do so in a race, which packages whose
# modules import each other do not survive.
IMPORTED_IN_REQUESTS = ("cryptography.hazmat.primitives.ciphers.aead", "filetype", "jwt", "python_multipart.multipart")

log = logging.getLogger(__name__)


@runtime_checkable
class Stream(Protocol):
    """A body that is sent in pieces as it is read; `length` bytes in all."""

    length: int

    def __iter__(self) -> Iterator[bytes]: ...


class NoRoute(local.LocalGatewayException):
    """No route has this path. A LocalGatewayException, so that every caller in Chalice answers with it."""

    CODE = 404

    def __init__(self) -> None:
        headers, body = gateway_answer(404, "there is no such route")
        super().__init__(headers, body)


def gateway_answer(status: int, message: str) -> tuple[dict[str, Any], bytes]:
    """Headers and body of an answer that API Gateway gives by itself."""
    request_id = str(uuid.uuid4())
    code = GATEWAY_CODES.get(status, "InvalidRequest")
    body = json.dumps({"code": code, "message": message, "request_id": request_id}, separators=(",", ":"))
    return GATEWAY_HEADERS | {"x-request-id": request_id} | CHUNK_MAX.get(status, {}), body.encode()


# ---- routing ---------------------------------------------------------------------------------------------------
class RouteMatcher(local.RouteMatcher):
    """One route for a path: a static segment before `{variable}` before `{greedy+}`."""

    def __init__(self, route_urls: list[str]) -> None:
        super().__init__(route_urls)
        self._root = _route_tree(tuple(self.route_urls))

    def match_route(self, url: str) -> local.MatchResult:
        """Route, raw path parameters and decoded query of `url`; raises NoRoute.

        A trailing slash belongs to no parameter: API Gateway drops it and keeps it in the event's path.
        """
        path, _, query = url.partition("?")
        found = _walk(self._root, path.strip("/").split("/"), {})
        if found is None:
            raise NoRoute
        route, parameters = found
        return local.MatchResult(route, parameters, parse_qs(query, keep_blank_values=True))


@lru_cache(maxsize=8)
def _route_tree(routes: tuple[str, ...]) -> Node:
    root: Node = {}
    for route in routes:
        node = root
        for segment in route.strip("/").split("/"):
            node = node.setdefault(segment, {})
        node[None] = route
    return root


def _walk(node: Node, segments: list[str], parameters: dict[str, str]) -> tuple[str, dict[str, str]] | None:
    if not segments:
        return (node[None], parameters) if None in node else None
    first, rest = segments[0], segments[1:]
    if first in node and not first.startswith("{") and (found := _walk(node[first], rest, parameters)):
        return found
    variables = [name for name in node if name and name.startswith("{")]
    for name in variables:
        if first and not name.endswith("+}") and (found := _walk(node[name], rest, parameters | {name[1:-1]: first})):
            return found
    for name in variables:
        if name.endswith("+}") and any(segments):
            return node[name][None], parameters | {name[1:-2]: "/".join(segments)}
    return None


# ---- events ----------------------------------------------------------------------------------------------------
class LambdaEventConverter(local.LambdaEventConverter):
    """The event of Lambda proxy integration (payload 1.0) instead of Chalice's abridged one."""

    def _is_binary(self, headers: dict[str, Any]) -> bool:
        return "*/*" in self._binary_types or bool(super()._is_binary(headers))

    def create_lambda_event(self, method: str, path: str, headers: dict[str, Any], body: bytes | None = None) -> Event:
        """`headers` may give a list of values for a name; `path` is raw and includes the query."""
        several = _forwarded(headers)
        single = {name: values[-1] for name, values in several.items()}  # API Gateway keeps the last
        event: Event = super().create_lambda_event(method, path, single, body or None)
        context = event["requestContext"]
        query = event["multiValueQueryStringParameters"]
        if isinstance(event["body"], bytes):
            event["body"] = event["body"].decode("utf-8", "replace")
        event.update(
            resource=context["resourcePath"],
            path=context["path"],
            httpMethod=method,
            multiValueHeaders=several,
            pathParameters=event["pathParameters"] or None,
            queryStringParameters={name: values[-1] for name, values in query.items()} if query else None,
            isBase64Encoded=event.get("isBase64Encoded", False),
        )
        context.update(_request_context(single.get("host", "localhost")))
        return event


def _forwarded(headers: dict[str, Any]) -> dict[str, list[str]]:
    """The headers that a function sees, each with all its values, and the three that API Gateway adds."""
    several: dict[str, list[str]] = {}
    for name, value in headers.items():
        if name.lower() not in NOT_FORWARDED:
            several.setdefault(name.lower(), []).extend(value if isinstance(value, list) else [value])
    host = several.get("host", ["localhost"])[-1]
    port = host.rpartition(":")[2]
    several["x-forwarded-proto"] = ["http"]
    several["x-forwarded-port"] = [port if port.isdigit() else "80"]
    several["x-forwarded-for"] = [LambdaEventConverter.LOCAL_SOURCE_IP]
    return several


def _request_context(host: str) -> Event:
    return {
        "accountId": "000000000000",
        "apiId": "local",
        "domainName": host,
        "protocol": "HTTP/1.1",
        "requestId": str(uuid.uuid4()),
        "requestTimeEpoch": int(time.time() * 1000),
        "stage": "local",
    }


# ---- answers ---------------------------------------------------------------------------------------------------
class Answer:
    """What goes back over the wire: `body` is bytes, or a Stream."""

    def __init__(self, status: int, headers: dict[str, Any], body: bytes | Stream) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @classmethod
    def by_function(cls, response: Event) -> "Answer":
        """From what a function returns; raises ValueError where Lambda or API Gateway would refuse it."""
        body = response.get("body")
        if body is None:
            body = b""
        elif isinstance(body, str | bytes):
            if len(body) > MAX_ANSWER:
                raise ValueError(f"the answer has {len(body)} bytes; Lambda carries at most {MAX_ANSWER}")
            body = _decoded(body, response.get("isBase64Encoded", False))
        elif not isinstance(body, Stream):
            raise ValueError(f"the answer's body is a {type(body).__name__}")
        return cls(int(response["statusCode"]), {**response.get("headers", {}), **response.get("multiValueHeaders", {})}, body)

    @classmethod
    def by_gateway(cls, status: int, message: str) -> "Answer":
        """One that no function gave."""
        return cls(status, *gateway_answer(status, message))

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.length

    @property
    def bodyless(self) -> bool:
        """Whether its status rules a body out, and with it Content-Length (RFC 9110 8.6)."""
        return self.status < 200 or self.status in (204, 304)

    def head(self, *connection: tuple[str, str]) -> bytes:
        """Status line and headers, with those that API Gateway drops, renames and adds."""
        headers: list[tuple[str, str]] = []
        named = set()
        for name, value in wire.flatten(self.headers):
            lower = name.lower()
            named.add(lower)
            if lower == "content-length":
                headers.append(("x-amzn-Remapped-Content-Length", value))
            elif lower not in NOT_ANSWERED:
                headers.append((name, value))
        if not self.bodyless:
            headers.append(("Content-Length", str(self.length)))
            if "content-type" not in named:
                headers.append(("Content-Type", "application/json"))
        return wire.answer_head(self.status, [*headers, *connection])


def _decoded(body: str | bytes, encoded: bool) -> bytes:
    raw = body if isinstance(body, bytes) else body.encode()
    return base64.b64decode(raw) if encoded else raw


# ---- the server ------------------------------------------------------------------------------------------------
class Connection(socketserver.StreamRequestHandler):
    """One client's connection: requests in, answers out, until either side closes."""

    timeout = IDLE_TIMEOUT
    disable_nagle_algorithm = True
    server: "Server"

    def __init__(self, request: socket.socket, address: Any, server: "Server", app_object: Chalice, config: Config) -> None:
        self._gateway = local.LocalGateway(app_object, config)
        super().__init__(request, address, server)

    def handle(self) -> None:
        """Serve requests until one of them is the last."""
        try:
            while self._serve():
                pass
        except (ConnectionError, TimeoutError):
            pass  # the client has gone: nobody is left to tell

    def _serve(self) -> bool:
        try:
            head = wire.read_head(self.rfile)
            if head is None:
                return False
            with self.server.request():
                body = wire.read_body(self.rfile, head, self._go_on)
                with self.server.turn():
                    answer = self._ask(head, body)
                return self._send(answer, head)
        except wire.Refused as refused:
            headers, body = gateway_answer(refused.status, str(refused))
            self.connection.sendall(Answer(refused.status, headers, body).head(("Connection", "close")) + body)
            self._linger()
            return False

    def _go_on(self) -> None:
        self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _ask(self, head: wire.Head, body: bytes | None) -> Answer:
        try:
            response = self._gateway.handle_request(method=head.method, path=head.target, headers=head.headers, body=body)
            return Answer.by_function(response)
        except local.LocalGatewayException as error:
            return Answer(error.CODE, error.headers, error.body or b"")
        except Exception:  # what Lambda would report as a crash of the function
            log.exception("the function failed")
            return Answer.by_gateway(502, "the request could not be completed; try again shortly")

    def _send(self, answer: Answer, head: wire.Head) -> bool:
        """Send `answer`, in one write unless it is streamed; returns whether the connection may serve another request."""
        keep = head.keep_alive and not self.server.stopping
        connection = [("Connection", "keep-alive" if keep else "close")] if head.http_1_0 or not keep else []
        try:
            start = answer.head(*connection)
        except ValueError as error:
            log.error("the function's answer was refused: %s", error)
            answer = Answer.by_gateway(502, "the request could not be completed; try again shortly")
            start = answer.head(*connection)
        if head.method == "HEAD" or answer.bodyless:
            self.connection.sendall(start)
        elif isinstance(answer.body, bytes):
            self.connection.sendall(start + answer.body)
        else:
            return self._send_stream(start, answer.body) and keep
        return keep

    def _send_stream(self, start: bytes, body: Stream) -> bool:
        """Send a streamed answer; returns False, for the connection to be closed, when it broke off."""
        left = body.length
        try:
            for chunk in body:
                self.connection.sendall(start + chunk)
                start, left = b"", left - len(chunk)
            self.connection.sendall(start)
        except (ConnectionError, TimeoutError):
            raise
        except Exception:  # the head is sent: only the missing bytes can tell the client
            log.exception("an answer broke off %d bytes before its end", left)
            return False
        return left == 0

    def _linger(self) -> None:
        """Read what a refused client still sends, so that it comes to read the answer."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(LINGER_SILENCE)
        deadline, left = time.monotonic() + LINGER_TIME, LINGER_BYTES
        while left > 0 and time.monotonic() < deadline:
            received = len(self.connection.recv(1 << 20))
            if not received:
                return
            left -= received


class Server(local.ThreadedHTTPServer):
    """Accepts connections, a thread each, and knows how many requests are under way."""

    request_queue_size = 128
    stopping = False

    def __init__(self, *arguments: Any) -> None:
        self._warm = False
        self._cold_start = threading.Lock()
        self._requests = 0
        self._idle = threading.Condition()
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Bind without the reverse name lookup of http.server, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The time in which the function runs: the first request alone, then all at once.

        A Lambda process serves one request at a time, so what an app imports and connects when it is first
        called need not be made for several threads.
        """
        if self._warm:
            yield
            return
        with self._cold_start:
            yield
            self._warm = True

    @contextmanager
    def request(self) -> Iterator[None]:
        """The time from a request's head to the end of its answer."""
        with self._idle:
            self._requests += 1
        try:
            yield
        finally:
            with self._idle:
                self._requests -= 1
                self._idle.notify_all()

    def finish(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for requests under way; returns whether none is left."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._requests, timeout)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line instead of socketserver's traceback."""
        log.error("a connection failed: %r", sys.exception())


class DevServer(local.LocalDevServer):
    """The server of `chalice local`; SIGTERM ends it once the requests under way are answered."""

    server: Server

    def serve_forever(self) -> None:
        """Serve until `shutdown`, or SIGTERM where this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=self.shutdown).start())
        super().serve_forever()
        self.server.server_close()
        self.server.finish(STOP_TIMEOUT)

    def shutdown(self) -> None:
        """Accept no more; must be called from another thread than serves."""
        self.server.stopping = True
        super().shutdown()


def create_local_server(app_obj: Chalice, config: Config, host: str, port: int) -> DevServer:
    """What `chalice local` serves with. Refuses, with one line, hosts that others can reach."""
    if not is_loopback(host):
        _exit(f"chalice local listens on this machine only; use 127.0.0.1 or localhost instead of {host}")
    local.CustomLocalChalice.__bases__ = (local.LocalChalice, app_obj.__class__)
    app_obj.__class__ = local.CustomLocalChalice
    try:
        return DevServer(app_obj, config, host, port, handler_cls=Connection, server_cls=Server)  # type: ignore[arg-type]  # called alike
    except OSError as error:
        _exit(f"cannot listen on {host}:{port}: {error.strerror}")
        raise


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return host == "localhost" or ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False


def _exit(message: str) -> None:
    """End the process with one line. With `chalice local`'s reloader this runs in a thread, where SystemExit is lost."""
    if threading.current_thread() is threading.main_thread():
        raise SystemExit(message)
    print(message, file=sys.stderr, flush=True)
    os._exit(1)


def install() -> None:
    """Put the shim in place of `chalice.local`'s own parts; a second call changes nothing."""
    replacements: Iterable[tuple[str, Any]] = (
        ("RouteMatcher", RouteMatcher),
        ("LambdaEventConverter", LambdaEventConverter),
        ("create_local_server", create_local_server),
    )
    for name, replacement in replacements:
        setattr(local, name, replacement)
    # `chalice local` lets everybody log at INFO; Lambda does not.
    for library in ("botocore", "pynamodb", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for library in IMPORTED_IN_REQUESTS:
        importlib.import_module(library)
