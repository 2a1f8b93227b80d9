"""What webapp.py does, and every private hook of Chalice that it uses: an upgrade that moves one fails here."""

import base64
import inspect
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import chalice.app
import pytest
from chalice.app import Chalice, Response
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib import webapp
from chalicelib.webapp import METHODS, Answer, StowageApp, Stream, normalised, percent_decoded

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def api_gateway_conflicts(paths: Iterable[str]) -> list[str]:
    """What API Gateway would refuse in a set of paths: one variable name a parent, greedy only at the end."""
    seen: dict[str, str] = {}
    problems = []
    for path in paths:
        parts = path.strip("/").split("/")
        for position, part in enumerate(parts):
            if not part.startswith("{"):
                continue
            parent = "/".join(parts[:position])
            if seen.setdefault(parent, part) != part:
                problems.append(f"{path}: sibling variables {seen[parent]} and {part}")
            if part.endswith("+}") and position != len(parts) - 1:
                problems.append(f"{path}: a greedy variable that is not last")
    return problems


def event(
    resource: str, path: str, method: str = "GET", headers: dict[str, str] | None = None, /, **parameters: str | None
) -> dict[str, Any]:
    """A proxy event as API Gateway REST sends it."""
    return {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in (headers or {}).items()} or None,
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": parameters or None,
        "stageVariables": None,
        "requestContext": {"resourcePath": resource, "httpMethod": method, "path": f"/api{path}", "requestId": "1", "stage": "api"},
        "body": None,
        "isBase64Encoded": False,
    }


@pytest.fixture
def seen() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def app(seen: list[dict[str, Any]]) -> StowageApp:
    """An app that shows the events that reach its views."""
    made = StowageApp("test")

    def dispatch(given_event: dict[str, Any]) -> Answer:
        seen.append(given_event)
        return Answer(200, b"\x00\xffbytes", {"Content-Type": "image/png"})

    for path in ("/a", "/a/{x}", "/b/{x}/{path+}", "/", "/{path+}"):
        made.mount(path, dispatch)
    return made


# ---- Chalice's hooks -----------------------------------------------------------------------------------------------
def test_routes_are_registered_by_a_method_that_gets_path_and_handler() -> None:
    parameters = inspect.signature(Chalice._register_route).parameters
    assert list(parameters) == ["self", "name", "user_handler", "kwargs", "unused"]
    assert parameters["unused"].kind is inspect.Parameter.VAR_KEYWORD
    registered: list[tuple[str, Any]] = []

    class Recording(Chalice):
        def _register_route(self, name: str, user_handler: Any, kwargs: Any, **unused: Any) -> None:
            path = kwargs["path"]
            super()._register_route(name, user_handler, kwargs, **unused)
            registered.append((path, user_handler))

    recording = Recording("recording")

    @recording.route("/x/{y}", methods=["GET", "PUT"])
    def view(y: str) -> str:
        return y

    assert [path for path, _ in registered] == ["/x/{y}"]


def test_routes_hold_entries_by_path_and_method_whose_arguments_can_be_set() -> None:
    plain = Chalice("plain")
    plain.route("/x/{y}/{z+}", methods=["GET"])(lambda: "no arguments")
    entry = plain.routes["/x/{y}/{z+}"]["GET"]
    assert entry.view_args == ["y"]
    entry.view_args = []
    answer = plain(event("/x/{y}/{z+}", "/x/1/2", "GET", {"accept": "*/*"}, z="2"), None)
    assert (answer["statusCode"], answer["body"]) == (200, "no arguments")


def test_the_app_is_called_with_event_and_context() -> None:
    assert list(inspect.signature(Chalice.__call__).parameters) == ["self", "event", "context"]


def test_binary_types_are_a_list_that_answers_are_encoded_by(app: StowageApp) -> None:
    assert isinstance(Chalice("plain").api.binary_types, list)
    assert app.api.binary_types == ["*/*"]
    assert Chalice("other").api.binary_types != ["*/*"], "the default of all apps was changed"


def test_a_response_becomes_a_dict_with_a_base64_body() -> None:
    assert list(inspect.signature(Response.to_dict).parameters) == ["self", "binary_types"]
    made = Response(b"\x00\xff", {"Content-Type": "image/png"}, 206).to_dict(["*/*"])
    assert made["statusCode"] == 206
    assert made["isBase64Encoded"] is True
    assert base64.b64decode(made["body"]) == b"\x00\xff"


def test_the_request_gives_back_the_very_event(app: StowageApp, seen: list[dict[str, Any]]) -> None:
    assert list(inspect.signature(chalice.app.Request.to_original_event).parameters) == ["self"]
    app(event("/a", "/a") | {"own": "field"}, None)
    assert seen[0]["own"] == "field"


def test_stock_chalice_fails_without_an_accept_header() -> None:
    """Why one is filled in. If this ever passes, `normalised` has less to do."""
    plain = Chalice("plain")
    plain.api.binary_types = ["*/*"]
    plain.route("/x")(lambda: Response(b"1", {"Content-Type": "image/png"}))
    assert plain(event("/x", "/x"), None)["statusCode"] == 400


# ---- the app -------------------------------------------------------------------------------------------------------
def test_every_path_answers_every_method(app: StowageApp) -> None:
    for methods in app.routes.values():
        assert sorted(methods) == sorted(METHODS)
    for method in METHODS:
        assert app(event("/a", "/a", method), None)["statusCode"] == 200


@pytest.mark.parametrize(
    "headers", [None, {}, {"Accept": "text/html"}, {"accept": "application/json"}, {"ACCEPT": "*/*"}, {"Content-Type": "x"}]
)
def test_bodies_leave_as_bytes_in_base64_whatever_is_accepted(app: StowageApp, headers: dict[str, str] | None) -> None:
    answer = app(event("/a", "/a", "GET", headers), None)
    assert base64.b64decode(answer["body"]) == b"\x00\xffbytes"
    assert answer["isBase64Encoded"] is True


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json", "image/*;q=0.5", "nonsense", "", "text/html,application/xhtml+xml,*/*;q=0.8"]
)
def test_no_accept_header_makes_a_request_fail(app: StowageApp, accept: str) -> None:
    """Who asks for JSON and downloads a picture gets the picture (RFC 9110 §12.5.1 lets a server disregard Accept)."""
    answer = app(event("/a", "/a", "GET", {"Accept": accept}), None)
    assert answer["statusCode"] == 200
    assert base64.b64decode(answer["body"]) == b"\x00\xffbytes"


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/plain; charset=utf-8", "image/png", "x/y", ""])
@pytest.mark.parametrize("body", [b"", b"text", b"\xff\xfe\x00"])
def test_any_body_of_any_type_can_be_answered(content_type: str, body: bytes) -> None:
    made = StowageApp("test")
    made.mount("/x", lambda _: Answer(200, body, {"Content-Type": content_type} if content_type else {}))
    answer = made(event("/x", "/x"), None)
    assert answer["statusCode"] == 200
    assert base64.b64decode(answer["body"]) == body
    assert json.dumps(answer)


@pytest.mark.parametrize("content_type", ["application/json", "*/json", "image/png", "text/csv; a=b"])
def test_a_request_of_any_type_reaches_the_view(app: StowageApp, seen: list[dict[str, Any]], content_type: str) -> None:
    whole = event("/a", "/a", "POST", {"content-type": content_type}) | {
        "body": base64.b64encode(b"\xff{").decode(),
        "isBase64Encoded": True,
    }
    assert app(whole, None)["statusCode"] == 200
    assert seen[0]["body"] == whole["body"]


def test_a_stream_is_handed_to_the_local_server_as_it_is() -> None:
    body = Stream(3, [b"a", b"bc"])
    made = Answer(200, body, {"x": "y"}).to_dict(["*/*"])
    assert made["body"] is body
    assert (made["statusCode"], made["headers"], body.length, b"".join(body)) == (200, {"x": "y"}, 3, b"abc")


def test_an_answers_headers_are_its_own() -> None:
    headers = {"a": "b"}
    Answer(200, headers=headers).headers["c"] = "d"
    assert headers == {"a": "b"}


# ---- path parameters -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raw", "path", "wanted"),
    [
        ("x", "/b/1/x", "x"),
        ("x/y", "/b/1/x/y", "x/y"),
        ("a+b", "/b/1/a+b", "a+b"),
        ("a%2Bb", "/b/1/a%2Bb", "a+b"),
        ("a%20b", "/b/1/a%20b", "a b"),
        ("a%252Fb", "/b/1/a%252Fb", "a%2Fb"),
        ("a%2Fb", "/b/1/a%2Fb", "a/b"),
        ("x//y", "/b/1/x//y", "x//y"),
        ("%C3%BC", "/b/1/%C3%BC", "ü"),
        ("x", "/b/1/x/", "x/"),
        ("x/", "/b/1/x/", "x/"),
        ("x", "/b/1/x//", "x//"),
        ("x/", "/b/1/x//", "x//"),
        ("%FF", "/b/1/%FF", None),
        ("%C3", "/b/1/%C3", None),
        ("%C0%AF", "/b/1/%C0%AF", None),
        ("%ED%A0%80", "/b/1/%ED%A0%80", None),
        ("100%", "/b/1/100%", None),
        ("%zz", "/b/1/%zz", None),
        ("%2", "/b/1/%2", None),
        ("%+1", "/b/1/%+1", None),
    ],
)
@pytest.mark.parametrize("spelling", ["path", "path+"])
def test_a_greedy_path_is_decoded_exactly_once(
    app: StowageApp, seen: list[dict[str, Any]], spelling: str, raw: str, path: str, wanted: str | None
) -> None:
    app(event("/b/{x}/{path+}", path, x="1", **{spelling: raw}), None)
    assert seen[0]["pathParameters"] == {"x": "1", "path": wanted}


def test_other_parameters_are_decoded_and_keep_no_slash(app: StowageApp, seen: list[dict[str, Any]]) -> None:
    app(event("/a/{x}", "/a/a%2Fb+c/", x="a%2Fb+c"), None)
    assert seen[0]["pathParameters"] == {"x": "a/b+c"}


def test_the_callers_event_stays_as_it_was() -> None:
    given_event = event("/b/{x}/{path+}", "/b/1/a%20b", x="1", path="a%20b")
    before = json.dumps(given_event)
    assert normalised(given_event)["headers"] == {"Accept": "*/*"}
    assert json.dumps(given_event) == before


@pytest.mark.parametrize("other", [{}, {"Records": []}, {"requestContext": None}, {"requestContext": {}}, {"source": "aws.events"}])
def test_an_event_of_another_kind_is_left_alone(other: dict[str, Any]) -> None:
    assert normalised(other) is other


@given(TEXT)
@example("a+b %2F é")
def test_what_was_encoded_once_is_decoded_once(text: str) -> None:
    assert percent_decoded(quote(text, safe="")) == text
    assert percent_decoded(quote(text)) == text
    assert percent_decoded(quote(quote(text, safe=""), safe="")) == quote(text, safe="")


@given(TEXT.filter(lambda text: "%" not in text))
def test_text_without_escapes_stays(text: str) -> None:
    assert percent_decoded(text) == text


@given(st.binary(max_size=20))
def test_any_bytes_are_decoded_as_strict_utf8_or_not_at_all(raw: bytes) -> None:
    try:
        wanted: str | None = raw.decode()
    except UnicodeDecodeError:
        wanted = None
    assert percent_decoded("".join(f"%{byte:02x}" for byte in raw)) == wanted


@given(st.text(st.sampled_from("%0aAgZ/+é "), max_size=12))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    decoded = percent_decoded(text)
    escapes = text.split("%")[1:]
    well_formed = all(len(escape) >= 2 and set(escape[:2]) <= set("0123456789abcdefABCDEF") for escape in escapes)
    assert decoded is None or well_formed


# ---- what API Gateway refuses --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "paths",
    [
        ["/a/{x}", "/a/{y}"],
        ["/a/{x}/b", "/a/{y}/c"],
        ["/a/{x}", "/a/{x+}"],
        ["/{x}", "/{path+}"],
        ["/a/{x+}/b"],
        ["/a/{x}/b/{y}", "/a/{x}/b/{z}"],
    ],
)
def test_what_api_gateway_refuses_is_found(paths: list[str]) -> None:
    assert api_gateway_conflicts(paths)
    assert api_gateway_conflicts(reversed(paths))


@pytest.mark.parametrize("paths", [[], ["/"], ["/a/{x}", "/a/{x}/b", "/a/b"], ["/a/{x}", "/b/{y}"], ["/a/{x}/{y+}", "/a/{x}/b"]])
def test_what_api_gateway_takes_is_no_conflict(paths: list[str]) -> None:
    assert api_gateway_conflicts(paths) == []


@pytest.fixture(scope="module")
def paths() -> list[str]:
    from app import app as whole

    return list(whole.routes)


def test_our_routes_have_no_conflict(paths: list[str]) -> None:
    assert api_gateway_conflicts(paths) == []
    assert "/{path+}" in paths
    assert "/" in paths


def test_our_routes_stay_below_300_resources(paths: list[str]) -> None:
    """The default quota of an API; a resource is each prefix of a path."""
    resources = {tuple(path.strip("/").split("/")[:depth]) for path in paths for depth in range(path.count("/") + 1)}
    assert 20 < len(resources) < 300


def test_only_webapp_knows_chalices_inner_hooks() -> None:
    from pathlib import Path

    root = Path(webapp.__file__).parent
    hooks = ("_register_route", "view_args", "binary_types", "to_original_event")
    assert {path.name for path in root.rglob("*.py") if any(hook in path.read_text() for hook in hooks)} == {"webapp.py"}
