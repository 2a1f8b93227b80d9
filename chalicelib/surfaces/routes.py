"""What a route is: one line of a surface's table.

A surface's table (`surfaces/storage/routes.py`) says everything that dispatch and OpenAPI need. Views and
models are named, not imported: a cold start pays only for the module of the route that is called.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from chalicelib.errors import StowageError
from chalicelib.webapp import Answer


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header: its JSON `schema`, for OpenAPI."""

    name: str
    where: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. `view` and `body` name a function and a Pydantic model as `module:name`.

    `optional_body`: none at all is as good as `{}`. `answers` maps each status to the TypedDict it carries
    (`module:name`), None where it has no JSON; `errors` are what else it may answer, beside those that every route can.
    `takes_credential`: it is asked for one only where the URL is not as good as one.
    """

    method: str
    path: str
    view: str
    summary: str
    answers: Mapping[int, str | None]
    body: str | None = None
    optional_body: bool = False
    raw_body: str | None = None
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[type[StowageError], ...] = ()
    needs_tenant: bool = True
    needs_credential: bool = True
    takes_credential: bool = False


@dataclass(frozen=True, slots=True)
class Surface:
    """A set of routes that share an error format: `render` words an error, with the request's id, in `error_type`.

    `statuses` are those that an error has here and nowhere else; `error_schema` names the shape of a JSON error; `takes_cookie`: a
    session's cookie is a credential. Two surfaces may share a path, with different methods.
    """

    name: str
    routes: tuple[Route, ...]
    render: Callable[[StowageError, str], Answer]
    error_type: str = "application/json"
    statuses: Mapping[type[StowageError], int] = field(default_factory=dict)
    error_schema: str = "Error"
    takes_cookie: bool = False


@cache
def named(reference: str) -> Any:
    """What `module:name` stands for."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
