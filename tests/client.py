"""A client of the API in this process: real proxy events in, decoded answers out, no socket between."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from infra.localdev import Answer as Wire
from infra.localdev import LambdaEventConverter, RouteMatcher


@dataclass(frozen=True)
class Answer:
    """Status, headers by lower-case name, and the whole body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json()["code"])


class Client:
    """Requests under one credential (a key or token; empty: none)."""

    def __init__(self, app: Any, credential: str = "") -> None:
        self._app = app
        self._credential = credential
        self._events = LambdaEventConverter(RouteMatcher(list(app.routes)), ["*/*"])

    def using(self, credential: str) -> "Client":
        return Client(self._app, credential)

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, Any] | None = None) -> Answer:
        """`path` is sent as it is; a `body` that is not bytes goes as JSON."""
        sent: dict[str, Any] = {"host": "api.test"} | {name.lower(): value for name, value in (headers or {}).items()}
        if self._credential:
            sent.setdefault("authorization", f"Bearer {self._credential}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        event = self._events.create_lambda_event(method, path, sent, body)
        wire = Wire.by_function(self._app(event, None))
        found = {name.lower(): value for name, value in wire.headers.items()}
        return Answer(wire.status, found, wire.body if isinstance(wire.body, bytes) else b"".join(wire.body))

    # ---- the routes that most tests begin with -------------------------------------------------------
    def bucket(self, name: str, **fields: Any) -> dict[str, Any]:
        answer = self("POST", "/storage/buckets", {"name": name, **fields})
        assert answer.status == 201, answer.body
        created: dict[str, Any] = answer.json()
        return created

    def put(self, bucket: str, name: str, body: bytes = b"", content_type: str = "application/octet-stream", **headers: str) -> Answer:
        sent = {"Content-Type": content_type} | {key.replace("_", "-"): value for key, value in headers.items()}
        return self("POST", f"/storage/object/{bucket}/{quote(name)}", body, sent)

    def get(self, bucket: str, name: str, **headers: str) -> Answer:
        return self(
            "GET", f"/storage/object/{bucket}/{quote(name)}", headers={key.replace("_", "-"): value for key, value in headers.items()}
        )

    def delete(self, bucket: str, name: str) -> Answer:
        return self("DELETE", f"/storage/object/{bucket}/{quote(name)}")

    def names(self, bucket: str, query: str = "") -> list[str]:
        answer = self("GET", f"/storage/objects/{bucket}?{query}")
        assert answer.status == 200, answer.body
        return [row["name"] for row in answer.json()]


def together(acts: list[Callable[[], Answer]]) -> list[Answer]:
    """What each gives, all begun at one moment."""
    start = threading.Barrier(len(acts))

    def act(index: int) -> Answer:
        start.wait()
        return acts[index]()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(act, range(len(acts))))
