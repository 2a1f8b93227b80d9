"""Chalice, made to carry Stowage's routes: the only module that knows Chalice's inner hooks.

What stock Chalice does not do on API Gateway REST, and this does:
* `{path+}` reaches the view, percent-decoded exactly once, with the trailing slash that API Gateway drops.
* Every path answers every method, so an unknown one is our 405 and not API Gateway's 403.
* What a view raises reaches our error answers; Chalice would turn it into its own before any middleware.
* Bodies leave as bytes: with `*/*` as binary type Chalice fails on text of another type than JSON.
* A request without an Accept header is not refused.

Hooks used, each held by a test in `tests/unit/test_webapp.py`: `_register_route`, `routes[path][method].view_args`,
`__call__`, `api.binary_types`, `Response.to_dict`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from chalice.app import Chalice, Request, Response

from chalicelib.percent import percent_decoded

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ANY_TYPE = ["*/*"]

Event = dict[str, Any]
Dispatch = Callable[[Event], Response]


class Stream:
    """A body of `length` bytes that is made as it is sent. Only the local server carries one; Lambda cannot."""

    def __init__(self, length: int, chunks: Iterable[bytes]) -> None:
        self.length = length
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)


class Answer(Response):
    """A response whose body is bytes or a Stream, encoded as API Gateway wants it."""

    body: bytes | Stream

    def __init__(self, status: int, body: bytes | Stream = b"", headers: Mapping[str, str] | None = None) -> None:
        given: dict[str, Any] = dict(headers or {})
        for name, value in given.items():
            if not "".join(value).isprintable():  # a line break would begin another header
                raise ValueError(f"the value of header {name} holds a control character")
        super().__init__(body, given, status)

    def to_dict(self, binary_types: list[str] | None = None) -> dict[str, Any]:
        if isinstance(self.body, Stream):
            return {"statusCode": self.status_code, "headers": self.headers, "multiValueHeaders": {}, "body": self.body}
        answer: dict[str, Any] = super().to_dict(binary_types)
        return answer


class StowageApp(Chalice):
    """A Chalice app whose routes hand the raw event to one function each."""

    def __init__(self, name: str) -> None:
        # Powertools configures the logger of this name; Chalice would add a handler that says everything twice.
        super().__init__(name, configure_logs=False)
        self.api.binary_types = list(ANY_TYPE)

    def mount(self, path: str, dispatch: Dispatch) -> None:
        """Answer every method of `path` (which may end in `{name+}`) by `dispatch`."""

        def view() -> Response:
            request = cast(Request, self.current_request)  # set by Chalice before any view
            return dispatch(request.to_original_event())

        view.__name__ = path
        self.route(path, methods=METHODS, content_types=ANY_TYPE)(view)

    def _register_route(self, name: str, user_handler: Callable[..., Any], kwargs: Any, **unused: Any) -> None:
        super()._register_route(name, user_handler, kwargs, **unused)
        for entry in self.routes[kwargs["path"]].values():
            # Chalice would ask the event for a parameter called `path+`; views take theirs from the event.
            entry.view_args = []

    def __call__(self, event: Event, context: Any) -> Any:
        return super().__call__(normalised(event), context)


def normalised(event: Event) -> Event:
    """The event with decoded path parameters and an Accept header; the caller's own stays as it was.

    A parameter that is not valid percent-encoded UTF-8 is given as None, for the surface to refuse.
    """
    context = event.get("requestContext") or {}
    if context.get("resourcePath") is None:
        return event
    headers = event.get("headers") or {}
    if not any(name.lower() == "accept" for name in headers):
        headers = {**headers, "Accept": "*/*"}
    raw_path = event.get("path") or context.get("path") or ""
    parameters = event.get("pathParameters") or {}
    return {**event, "headers": headers, "pathParameters": _decoded(parameters, context["resourcePath"], raw_path)}


def _decoded(parameters: Mapping[str, str], resource: str, raw_path: str) -> dict[str, str | None]:
    greedy = resource[resource.rfind("{") + 1 : -2] if resource.endswith("+}") else None
    decoded: dict[str, str | None] = {}
    for key, value in parameters.items():
        name = key.rstrip("+")
        if name == greedy:
            value = value.rstrip("/") + raw_path[len(raw_path.rstrip("/")) :]
        decoded[name] = percent_decoded(value)
    return decoded
