"""The way of every request: find the route, know the caller, call the view, word the answer, log one line."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from chalicelib import budget, seam
from chalicelib.errors import InternalError, MethodNotAllowed, RouteNotFound, StowageError
from chalicelib.observability import count, logger
from chalicelib.percent import percent_decoded
from chalicelib.settings import settings
from chalicelib.surfaces.http import Request
from chalicelib.surfaces.routes import Route, Surface, named
from chalicelib.webapp import Answer, Event, StowageApp, Stream

EXPOSED_HEADERS = (
    "Accept-Ranges, Content-Disposition, Content-Range, ETag, Last-Modified, Location, Retry-After, Tus-Checksum-Algorithm,"
    " Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Concat, Upload-Defer-Length, Upload-Expires, Upload-Length,"
    " Upload-Metadata, Upload-Offset, x-chunk-max, x-next-cursor, x-object-size, x-request-id"
)
CREDENTIALS = "Authorization, apikey, Cookie"
PREFLIGHT_LIFETIME = 7200  # Chromium keeps none longer
CATCH_ALL = "/{path+}"
TENANT_ID_CHARACTERS = 36
# Seconds, of the 28 that the function has.
WAITS_FOR_STORAGES = 20.0

Methods = dict[str, tuple[Surface, Route]]
"""What answers a path, by method."""
Dispatcher = Callable[[Event], Answer]


def mount(app: StowageApp, surfaces: Iterable[Surface], otherwise: Surface) -> None:
    """Register every path of the surfaces; the rest is 404, worded by the surface whose paths begin so, else by `otherwise`."""
    by_path: dict[str, Methods] = defaultdict(dict)
    for surface in surfaces:
        for route in surface.routes:
            by_path[route.path][route.method] = (surface, route)
    for path, methods in by_path.items():
        beside = _variable_beside(path, by_path)
        dispatcher = _dispatcher(methods, _first_of(methods))
        app.mount(path, _falling_through(dispatcher, methods, beside, by_path[beside]) if beside else dispatcher)
    known = {_beginning(path): next(iter(methods.values()))[0] for path, methods in by_path.items()}
    for path in ("/", CATCH_ALL):
        app.mount(path, _dispatcher({}, lambda event: known.get(_beginning(event["path"]), otherwise)))


def _first_of(methods: Methods) -> Callable[[Event], Surface]:
    surface = next(iter(methods.values()))[0]
    return lambda _: surface


def _beginning(path: str) -> tuple[str, ...]:
    """What tells the surface that a path without a route was meant for."""
    return tuple(path.split("/")[1:3])


def _say_who_may_keep(answer: Answer) -> None:
    """Have caches tell callers apart: the URLs of a surface that takes a cookie name neither tenant nor user."""
    answer.headers.setdefault("Cache-Control", "private, no-cache")
    varies_by = answer.headers.get("Vary")
    answer.headers["Vary"] = f"{varies_by}, {CREDENTIALS}" if varies_by else CREDENTIALS


def _variable_beside(path: str, paths: Iterable[str]) -> str | None:
    """The path of the greedy variable that API Gateway passes over for this path: it chooses a resource before it looks at the method."""
    parents = [path[:end] for end, character in enumerate(path) if character == "/"]
    greedy = [other for other in paths if other != path and other.endswith("+}")]
    return next((other for other in greedy if other[: other.rindex("/")] in parents and other.count("{") == 1), None)


def _falling_through(dispatcher: Dispatcher, methods: Methods, beside: str, theirs: Methods) -> Dispatcher:
    """Where a path does not have a method, what is asked for is a value of the variable beside it; whether it can be is for that to say."""
    parent, _, variable = beside.rpartition("/")
    other = _dispatcher(theirs, _first_of(theirs))

    def dispatch(event: Event) -> Answer:
        method = event["requestContext"]["httpMethod"]
        if method in methods or method == "OPTIONS" or method not in theirs:
            return dispatcher(event)
        value = percent_decoded(event["path"].partition(f"{parent}/")[2])
        return other({**event, "pathParameters": {variable.strip("{+}"): value}})

    return dispatch


def import_views(surfaces: Iterable[Surface]) -> None:
    """Import every view and model at once, for a process whose threads would otherwise import them in a race."""
    for surface in surfaces:
        for route in surface.routes:
            named(route.view)
            if route.body:
                named(route.body)


def _dispatcher(methods: Methods, otherwise: Callable[[Event], Surface]) -> Dispatcher:
    """What answers a path: by the surface of the method's route, and by the one that `otherwise` gives for one that it does not have."""

    def dispatch(event: Event) -> Answer:
        started = seam.timestamp()
        method = event["requestContext"]["httpMethod"]
        surface = methods[method][0] if method in methods else otherwise(event)
        request = Request(event, event["requestContext"].get("requestId") or seam.new_uuid(), surface.takes_cookie)
        answer = _answer(surface, methods, request)
        if surface.takes_cookie:
            _say_who_may_keep(answer)
        answer.headers.update(_common_headers(request, answer.headers.get("Vary")))
        _log(request, answer, seam.timestamp() - started)
        return answer

    return dispatch


def _answer(surface: Surface, methods: Methods, request: Request) -> Answer:
    try:
        if request.method == "OPTIONS" and methods:
            return _preflight(methods, request)
        with budget.of(WAITS_FOR_STORAGES):
            return _call(_route(methods, request), request)
    except StowageError as error:
        return _error_answer(surface, request, error)
    except Exception:
        logger().exception("a request failed", extra={"request_id": request.request_id, "route": request.resource})
        return _error_answer(
            surface, request, InternalError("something went wrong on our side; try again, and report the request id if it stays")
        )


def _route(methods: Methods, request: Request) -> Route:
    if not methods:
        raise RouteNotFound("there is no such route; GET /openapi.json lists them all")
    if request.method not in methods:
        allowed = _allowed(methods)
        raise MethodNotAllowed(f"this route answers {allowed}", allow=allowed)
    return methods[request.method][1]


def _call(route: Route, request: Request) -> Answer:
    if route.needs_credential:
        _ = request.tenant_principal if route.needs_tenant else request.principal
    view = named(route.view)
    answer: Answer = view(request, request.parse(named(route.body), route.optional_body)) if route.body else view(request)
    return answer


def _error_answer(surface: Surface, request: Request, error: StowageError) -> Answer:
    answer = surface.render(error, request.request_id)
    if request.method == "HEAD":
        answer.body = b""
    return answer


def _preflight(methods: Methods, request: Request) -> Answer:
    """What a browser asks beforehand, beside what a route says of itself."""
    answer = _call(methods["OPTIONS"][1], request) if "OPTIONS" in methods else Answer(204)
    allowed = _allowed(methods)
    answer.headers |= {
        "Allow": allowed,
        "Access-Control-Allow-Methods": allowed,
        "Access-Control-Max-Age": str(PREFLIGHT_LIFETIME),
    }
    return answer


def _allowed(methods: Methods) -> str:
    return ", ".join(dict.fromkeys([*methods, "OPTIONS"]))


def _common_headers(request: Request, varies_by: Any) -> dict[str, str]:
    headers = {"x-request-id": request.request_id, "X-Content-Type-Options": "nosniff", "Access-Control-Expose-Headers": EXPOSED_HEADERS}
    origins = [origin.strip() for origin in settings().cors_origins.split(",")]
    origin = _first(request, "origin")
    if "*" in origins:
        headers["Access-Control-Allow-Origin"] = "*"
    else:
        headers["Vary"] = f"{varies_by}, Origin" if varies_by else "Origin"
        if origin in origins:
            headers |= {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}
    wanted = _first(request, "access-control-request-headers")
    if request.method == "OPTIONS" and wanted and "Access-Control-Allow-Origin" in headers and wanted.isprintable() and wanted.isascii():
        headers["Access-Control-Allow-Headers"] = wanted
    return headers


def _first(request: Request, header: str) -> str:
    try:
        return request.headers.get(header, "")
    except StowageError:  # a request that contradicts itself has been refused already
        return ""


def _log(request: Request, answer: Answer, seconds: float) -> None:
    body: Any = answer.body
    size = body.length if isinstance(body, Stream) else len(body)
    line = {
        "request_id": request.request_id,
        "method": request.method,
        "route": request.resource,
        "status": answer.status_code,
        "tenant_id": _tenant(request),
        "duration_ms": round(seconds * 1000, 1),
        "bytes_out": size,
    }
    logger().info("request", extra=line)
    status = answer.status_code
    counted = {"Requests": 1, "ClientErrors": int(400 <= status < 500), "ServerErrors": int(status >= 500), "LatencyMs": seconds * 1000}
    count(counted, "api")


def _tenant(request: Request) -> str | None:
    """The tenant of the credential, or the one that a public path names."""
    principal = request.__dict__.get("principal")  # cached_property: absent when nobody was authenticated
    if principal is not None:
        return str(principal.tenant_id)
    named = (request.event.get("pathParameters") or {}).get("tenant_id")
    return str(named)[:TENANT_ID_CHARACTERS] if named else None
