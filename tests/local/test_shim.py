"""`chalice local` with the shim, over a real socket: what API Gateway and Lambda would do with the same bytes."""

import base64
import json
import socket
import threading
import time
from typing import Any

import pytest

from chalicelib.settings import PAYLOAD_LIMIT
from infra import localdev, stack, wire
from tests.local.conftest import STREAMED
from tests.local.http_client import RawAnswer, RawConnection

MEGABYTE = 1024 * 1024


def event(answer: RawAnswer) -> dict[str, Any]:
    """The event that the function was given."""
    assert answer.status == 200, answer
    body: dict[str, Any] = answer.json()
    return body


def body_of(event: dict[str, Any]) -> bytes:
    assert event["isBase64Encoded"]
    return base64.b64decode(event["body"])


# ---- routes and paths ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "route", "parameters"),
    [
        ("/echo", "/echo", {}),
        ("/echo/a", "/echo/{name}", {"name": "a"}),
        ("/echo/a/fixed", "/echo/{name}/fixed", {"name": "a"}),
        ("/echo/a/fixed/b", "/echo/{name}/{rest+}", {"name": "a", "rest": "fixed/b"}),
        ("/echo/fixed/a/b", "/echo/fixed/{rest+}", {"rest": "a/b"}),
        ("/echo/a/b/c/d", "/echo/{name}/{rest+}", {"name": "a", "rest": "b/c/d"}),
        ("/else/where", "/{path+}", {"path": "else/where"}),
    ],
)
def test_a_static_segment_goes_before_a_variable_and_that_before_a_greedy_one(
    connection: RawConnection, path: str, route: str, parameters: dict[str, str]
) -> None:
    seen = event(connection.ask("GET", path))
    assert (seen["resource"], seen["requestContext"]["resourcePath"]) == (route, route)
    assert (seen["pathParameters"] or {}) == parameters


@pytest.mark.parametrize(
    ("target", "path", "rest"),
    [
        ("/echo/a/b%2Fc", "/echo/a/b%2Fc", "b/c"),
        ("/echo/a/b%20c+d", "/echo/a/b%20c+d", "b c+d"),
        ("/echo/a/%C3%BC", "/echo/a/%C3%BC", "ü"),
        ("/echo/a/ü", "/echo/a/%C3%BC", "ü"),
        ("/echo/a/b//c", "/echo/a/b//c", "b//c"),
        ("/echo/a//b", "/echo/a//b", "/b"),
        ("/echo/a/b/", "/echo/a/b/", "b/"),
        ("/echo/a/%2e%2e/b", "/echo/a/%2e%2e/b", "../b"),
        ("/echo/a/%FF", "/echo/a/%FF", None),
    ],
)
def test_paths_arrive_raw_and_are_decoded_once_by_the_app(connection: RawConnection, target: str, path: str, rest: str | None) -> None:
    seen = event(connection.ask("GET", target))
    assert seen["path"] == path
    assert seen["pathParameters"]["rest"] == rest


def test_an_absolute_target_means_its_path(connection: RawConnection) -> None:
    assert event(connection.ask("GET", "http://localhost:3000/echo/a"))["path"] == "/echo/a"


def test_an_unknown_route_is_404_in_json_with_cors(connection: RawConnection) -> None:
    answer = connection.ask("GET", "/", {"Authorization": "Bearer \u00e9"})
    assert answer.status == 404
    assert answer.json()["code"] == "RouteNotFound"
    assert answer.json()["request_id"] == answer.header("x-request-id")
    assert answer.header("access-control-allow-origin") == "*"


def test_the_gateways_own_answers_are_those_of_the_template(connection: RawConnection) -> None:
    deployed = stack.read_template()["Resources"]["RestAPI"]["Properties"]["GatewayResponses"]
    too_large = {"Content-Length": str(wire.MAX_BODY + 1)}
    for kind, headers in (("MISSING_AUTHENTICATION_TOKEN", {}), ("REQUEST_TOO_LARGE", too_large)):
        answer = connection.ask("POST", "/", headers)
        assert answer.status == deployed[kind]["StatusCode"]
        wanted = json.loads(deployed[kind]["ResponseTemplates"]["application/json"])
        assert answer.json() == wanted | {"request_id": answer.header("x-request-id")}
        for name, value in deployed[kind]["ResponseParameters"]["Headers"].items():
            assert answer.header(name.lower()) == value.strip("'")


def test_an_unknown_method_is_405(connection: RawConnection) -> None:
    assert connection.ask("BREW", "/echo").status == 405


# ---- queries and headers ---------------------------------------------------------------------------------------
def test_queries_arrive_decoded_with_all_their_values(connection: RawConnection) -> None:
    seen = event(connection.ask("GET", "/echo?a=1&a=2&b=%C3%BC+x&empty="))
    assert seen["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": ["ü x"], "empty": [""]}
    assert seen["queryStringParameters"] == {"a": "2", "b": "ü x", "empty": ""}


def test_without_a_query_both_maps_are_null(connection: RawConnection) -> None:
    seen = event(connection.ask("GET", "/echo"))
    assert seen["queryStringParameters"] is None
    assert seen["multiValueQueryStringParameters"] is None


def test_a_query_of_invalid_utf_8_does_not_fail(connection: RawConnection) -> None:
    assert event(connection.ask("GET", "/echo?a=%FF%FE&%FF=1"))["queryStringParameters"]["a"] == "\ufffd\ufffd"


def test_repeated_headers_keep_every_value(connection: RawConnection) -> None:
    connection.send(b"GET /echo HTTP/1.1\r\nHost: a\r\nX-Tag: one\r\nx-tag: two\r\n\r\n")
    seen = event(connection.answer())
    assert seen["multiValueHeaders"]["x-tag"] == ["one", "two"]
    assert seen["headers"]["x-tag"] == "two"


@pytest.mark.parametrize("name", ["TE", "Content-MD5", "Upgrade", "Trailer", "Connection", "Keep-Alive", "Max-Forwards"])
def test_headers_that_api_gateway_keeps_do_not_reach_the_function(connection: RawConnection, name: str) -> None:
    seen = event(connection.ask("POST", "/echo", {name: "x"}, b"body"))
    assert name.lower() not in seen["headers"]
    assert "content-length" not in seen["headers"]


def test_the_request_context_names_request_stage_host_and_client(connection: RawConnection) -> None:
    seen = event(connection.ask("GET", "/echo/a?b=c"))
    context = seen["requestContext"]
    assert context["requestId"]
    assert context["stage"]
    assert (context["domainName"], context["protocol"], context["httpMethod"]) == ("localhost:3000", "HTTP/1.1", "GET")
    assert (context["identity"]["sourceIp"], context["path"]) == ("127.0.0.1", "/echo/a")
    assert (seen["headers"]["x-forwarded-proto"], seen["headers"]["x-forwarded-port"]) == ("http", "3000")


# ---- bodies ----------------------------------------------------------------------------------------------------
def test_a_binary_body_arrives_unchanged(connection: RawConnection) -> None:
    data = bytes(range(256)) * 100
    assert body_of(event(connection.ask("POST", "/echo", {"Content-Type": "text/plain"}, data))) == data


def test_a_chunked_body_arrives_whole(connection: RawConnection) -> None:
    connection.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.send(b"5;name=value\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nX-Trailer: x\r\n\r\n")
    assert body_of(event(connection.answer())) == b"hello world"
    assert connection.ask("GET", "/echo").status == 200


def test_100_continue_is_sent_before_the_body(connection: RawConnection) -> None:
    connection.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert connection.answer().status == 100
    connection.send(b"ok")
    assert body_of(event(connection.answer())) == b"ok"


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(connection: RawConnection) -> None:
    connection.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (wire.MAX_BODY + 1))
    assert connection.answer().status == 413


def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_413(port: int) -> None:
    with RawConnection(port) as connection:
        connection.send(b"PUT /answer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % wire.MAX_BODY)
        connection.send(bytes(wire.MAX_BODY))
        assert connection.answer().status == 200
    with RawConnection(port) as connection:
        connection.send(b"PUT /answer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (wire.MAX_BODY + 1))
        connection.send(bytes(wire.MAX_BODY + 1))
        answer = connection.answer()
        assert (answer.status, answer.json()["code"]) == (413, "TooLarge")
        assert answer.header("access-control-allow-origin") == "*"
        assert answer.header("x-chunk-max") == str(PAYLOAD_LIMIT)
        assert connection.is_closed()


def test_a_chunked_body_beyond_the_limit_is_413(connection: RawConnection) -> None:
    connection.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(wire.MAX_BODY // MEGABYTE + 1):
        connection.send(b"%x\r\n" % MEGABYTE + bytes(MEGABYTE) + b"\r\n")
    assert connection.answer().status == 413
    connection.send(b"0\r\n\r\n")


def test_a_client_that_sends_far_too_much_before_it_reads_still_gets_its_413(connection: RawConnection) -> None:
    connection.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (40 * MEGABYTE))
    for _ in range(40):
        connection.send(bytes(MEGABYTE))
    assert connection.answer().status == 413


def test_several_requests_share_a_connection_and_may_be_sent_at_once(connection: RawConnection) -> None:
    connection.send(b"GET /echo/1 HTTP/1.1\r\nHost: a\r\n\r\n" + b"\r\nGET /echo/2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [event(connection.answer())["path"] for _ in range(2)] == ["/echo/1", "/echo/2"]


@pytest.mark.parametrize(("version", "header", "kept"), [("1.1", "close", False), ("1.0", "", False), ("1.0", "keep-alive", True)])
def test_the_connection_is_kept_as_asked(connection: RawConnection, version: str, header: str, kept: bool) -> None:
    connection.send(f"GET /echo HTTP/{version}\r\nHost: a\r\nConnection: {header}\r\n\r\n".encode())
    answer = connection.answer()
    assert answer.status == 200
    if kept:
        assert answer.header("connection") == "keep-alive"
        assert connection.ask("GET", "/echo").status == 200
    else:
        assert connection.is_closed()


# ---- requests that cannot be read ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /echo\r\n\r\n", 400),
        (b"GET  /echo HTTP/1.1\r\n\r\n", 400),
        (b"G\x00T /echo HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /ec\x00ho HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /echo HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /echo HTTP/1.1\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nX : space\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * 70_000), 431),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300 + b"\r\n", 431),
        (b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 70_000), 414),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n" % (b"9" * 5000), 413),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n", 417),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_connection_closed(
    connection: RawConnection, capfd: pytest.CaptureFixture[str], request_bytes: bytes, status: int
) -> None:
    connection.send(request_bytes)
    answer = connection.answer()
    assert answer.status == status
    assert set(answer.json()) == {"code", "message", "request_id"}
    connection.socket.shutdown(socket.SHUT_WR)
    assert connection.is_closed()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "request_bytes",
    [b"", b"GET", b"GET /echo HTTP/1.1\r\nHost", b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"],
)
def test_a_client_that_hangs_up_is_nobodys_error(port: int, capfd: pytest.CaptureFixture[str], request_bytes: bytes) -> None:
    with RawConnection(port) as connection:
        connection.send(request_bytes)
    with RawConnection(port) as other:
        assert other.ask("GET", "/echo").status == 200
    assert capfd.readouterr().err == ""


# ---- answers ---------------------------------------------------------------------------------------------------
def test_head_has_the_headers_of_get_and_no_body(connection: RawConnection) -> None:
    assert connection.ask("HEAD", "/answer").header("content-length") == "5"
    assert connection.ask("GET", "/answer").body == b"hello"


@pytest.mark.parametrize("status", ["204", "304"])
def test_204_and_304_have_no_body_and_no_length(connection: RawConnection, status: str) -> None:
    answer = connection.ask("GET", f"/answer?status={status}")
    assert answer.header("content-length") is None
    assert connection.ask("GET", "/answer").body == b"hello"


def test_an_empty_answer_has_length_zero(connection: RawConnection) -> None:
    assert connection.ask("GET", "/answer?kind=empty").header("content-length") == "0"


def test_a_content_length_of_the_function_is_renamed(connection: RawConnection) -> None:
    answer = connection.ask("HEAD", "/answer?kind=length")
    assert answer.headers["content-length"] == ["5"]
    assert answer.header("x-amzn-remapped-content-length") == "12345"


def test_a_header_with_several_values_is_sent_several_times(connection: RawConnection) -> None:
    assert connection.ask("GET", "/answer?kind=several").headers["set-cookie"] == ["a=1", "b=2"]


def test_a_line_break_in_a_header_makes_no_second_header(connection: RawConnection) -> None:
    answer = connection.ask("GET", "/answer?kind=injected")
    assert answer.status >= 500
    assert answer.header("x-other") is None
    with pytest.raises(ValueError, match="line break"):
        wire.answer_head(200, [("X-Name", "a\r\nX-Other: b")])


def test_an_answer_beyond_lambdas_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        localdev.Answer.by_function({"statusCode": 200, "headers": {}, "body": "x" * (localdev.MAX_ANSWER + 1)})


def test_a_header_beyond_latin_1_is_sent_as_utf_8(connection: RawConnection) -> None:
    value = connection.ask("GET", "/answer?kind=unicode").header("x-name") or ""
    assert value.encode("latin-1").decode() == "näme €"


def test_a_stream_is_sent_with_its_length(connection: RawConnection) -> None:
    answer = connection.ask("GET", "/answer?kind=stream")
    assert answer.header("content-length") == str(len(STREAMED))
    assert answer.body == STREAMED
    head = connection.ask("HEAD", "/answer?kind=stream")
    assert head.header("content-length") == str(len(STREAMED))
    assert connection.ask("GET", "/answer").body == b"hello"


@pytest.mark.parametrize("kind", ["broken-stream", "failing-stream"])
def test_a_stream_that_breaks_off_ends_the_connection(connection: RawConnection, kind: str) -> None:
    answer = connection.ask("GET", f"/answer?kind={kind}")
    assert len(answer.body) < 1000
    assert connection.is_closed()


def test_a_failing_view_is_5xx_and_the_server_goes_on(connection: RawConnection) -> None:
    assert connection.ask("GET", "/answer?kind=crash").status >= 500
    assert connection.ask("GET", "/echo").status == 200


def test_the_first_request_is_served_alone_and_later_ones_together() -> None:
    server = localdev.Server(("127.0.0.1", 0), localdev.Connection)
    events: list[str] = []

    def serve(name: str) -> None:
        with server.turn():
            events.append(f"{name} begins")
            time.sleep(0.2)
            events.append(f"{name} ends")

    def serve_together(*names: str) -> list[str]:
        events.clear()
        threads = [threading.Thread(target=serve, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [event.split()[1] for event in events]

    assert serve_together("a", "b") == ["begins", "ends", "begins", "ends"]
    assert serve_together("c", "d") == ["begins", "begins", "ends", "ends"]
    server.server_close()


def test_an_answer_leaves_in_one_segment(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(b"GET /answer HTTP/1.1\r\nHost: a\r\n\r\n")
        received = plain.recv(65536)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\nhello")


def test_a_thousand_requests_on_one_connection_take_about_a_second(connection: RawConnection) -> None:
    started = time.perf_counter()
    for _ in range(1000):
        connection.ask("GET", "/answer")
    # Four times what it takes: this is to notice 40 ms of delayed acknowledgements a request, not a slow machine.
    assert time.perf_counter() - started < 4
