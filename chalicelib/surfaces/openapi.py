"""The OpenAPI 3.1 document, made from the same tables of routes, models and errors that requests go by."""

import re
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from chalicelib.access.credentials import COOKIE
from chalicelib.errors import Forbidden, InternalError, InvalidRequest, StowageError, TooLarge, Unauthorized, Unavailable
from chalicelib.surfaces.mounted import SURFACES
from chalicelib.surfaces.routes import Route, Surface, named

VERSION = "0.1.0"
_REF = "#/components/schemas/{model}"
_ANYWHERE: tuple[type[StowageError], ...] = (InvalidRequest, InternalError, Unavailable)
_WITH_CREDENTIAL: tuple[type[StowageError], ...] = (Unauthorized, Forbidden)
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["code", "message", "request_id"],
    "properties": {
        "code": {"type": "string", "description": "Stable: for programs."},
        "message": {"type": "string", "description": "For people; says what to do."},
        "request_id": {"type": "string"},
        "details": {"type": "object"},
    },
}
_DETAIL_SCHEMA = {
    "type": "object",
    "required": ["detail"],
    "properties": {"detail": {"type": "string", "description": "For people; says what to do."}},
}
_FILE_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error", "requestId"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details"],
            "properties": {
                "code": {"type": "string", "description": "Stable: for programs. One a status."},
                "message": {"type": "string", "description": "For people; says what to do."},
                "details": {"type": "object", "description": "`reason` is the code that the other surfaces have for it."},
            },
        },
        "requestId": {"type": "string"},
    },
}


@cache
def document() -> dict[str, Any]:
    """The whole document but `servers`, which depends on the request."""
    schemas: dict[str, Any] = {"Error": _ERROR_SCHEMA, "Detail": _DETAIL_SCHEMA, "FileError": _FILE_ERROR_SCHEMA}
    paths: dict[str, Any] = {}
    for surface in SURFACES:
        for route in surface.routes:
            path = re.sub(r"\+}", "}", route.path)
            paths.setdefault(path, {})[route.method.lower()] = _operation(surface, route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stowage", "version": VERSION, "description": "Object storage over buckets that you own."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SECURITY_SCHEMES},
    }


_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a user token."},
    "apikey": {"type": "apiKey", "in": "header", "name": "apikey", "description": "An API key."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "A session of `POST /auth/session`; changes need `Origin`.",
    },
}


def _operation(surface: Surface, route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    module, _, function = route.view.rpartition(".")[2].partition(":")
    operation: dict[str, Any] = {
        "operationId": f"{surface.name}_{module}_{function}_{route.method.lower()}",
        "tags": [surface.name],
        "summary": route.summary,
        "parameters": [*_path_parameters(route.path), *map(_parameter, route.parameters)],
        "responses": _responses(surface, route, schemas),
    }
    if route.needs_credential or route.takes_credential:
        by_cookie: list[dict[str, list[str]]] = [{"session": []}] if surface.takes_cookie else []
        operation["security"] = [{"bearer": []}, {"apikey": []}, *by_cookie, *([{}] if route.takes_credential else [])]
    if route.body:
        content = {"application/json": {"schema": _model(route.body, schemas)}}
        operation["requestBody"] = {"required": not route.optional_body, "content": content}
    elif route.raw_body:
        operation["requestBody"] = {
            "required": not route.optional_body,
            "content": {route.raw_body: {"schema": {"type": "string", "format": "binary"}}},
        }
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    variables = re.findall(r"{(\w+)(\+?)}", path)
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        | ({"description": "May hold `/`."} if greedy else {})
        for name, greedy in variables
    ]


def _parameter(parameter: Any) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": False,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _responses(surface: Surface, route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in route.answers.items():
        responses[str(status)] = {"description": _STATUS[status]}
        if answer:
            responses[str(status)]["content"] = {"application/json": {"schema": _model(answer, schemas)}}
        elif route.method == "GET" and status in (200, 206):
            responses[str(status)]["content"] = {"*/*": {"schema": {}}}
    codes: dict[int, list[str]] = {}
    for error in _errors(route):
        codes.setdefault(surface.statuses.get(error, error.status), []).append(error.code)
    for status, names in sorted(codes.items()):
        responses[str(status)] = {"description": ", ".join(sorted(set(names)))}
        if route.method != "HEAD":
            responses[str(status)]["content"] = {surface.error_type: {"schema": _error_schema(surface)}}
    return responses


def _error_schema(surface: Surface) -> dict[str, Any]:
    return {"$ref": _REF.format(model=surface.error_schema)} if surface.error_type == "application/json" else {"type": "string"}


def _errors(route: Route) -> tuple[type[StowageError], ...]:
    """What a route may answer: its own errors, those of any route, and those of its credential and its body."""
    credential = _WITH_CREDENTIAL if route.needs_credential else ()
    body = (TooLarge,) if route.body or route.raw_body else ()
    return (*route.errors, *_ANYWHERE, *credential, *body)


def _model(reference: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema of a model or TypedDict, with what it refers to put among the components."""
    model = named(reference)
    schema = TypeAdapter(model).json_schema(ref_template=_REF)
    schemas.update(schema.pop("$defs", {}))
    name = reference.partition(":")[2]
    schemas[name] = schema
    return {"$ref": _REF.format(model=name)}


_STATUS = {
    200: "Done",
    201: "Created",
    202: "Accepted: a job does it",
    204: "Done",
    206: "The part asked for",
    302: "The bytes are at `Location`",
    304: "The copy at hand is current",
}
