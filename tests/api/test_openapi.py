"""/openapi.json: valid, complete, and true (FEATURES F15.7): schemathesis asks, and no answer may be undeclared."""

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import TypeAdapter
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from app import app
from chalicelib.core import tenants
from chalicelib.errors import Unauthorized
from chalicelib.surfaces import tus
from chalicelib.surfaces.openapi import SURFACES
from chalicelib.surfaces.routes import Route
from chalicelib.surfaces.routes import named as named_model
from chalicelib.surfaces.storage.upload_routes import TUS_SURFACE
from tests.client import Client
from tests.conftest import Tenant

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
VERBS = {"get", "head", "post", "put", "patch", "delete", "options", "trace"}
# 460 is of TUS alone (tus.io/protocols/resumable-upload "Checksum").
PHRASES = {status.value: status.phrase for status in HTTPStatus} | {460: "Checksum Mismatch"}
# A chunk is bytes, of whatever type TUS calls them.
schemathesis.serializer.alias(tus.CHUNK, "application/octet-stream")
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


@pytest.fixture
def document(tenant: Tenant) -> dict[str, Any]:
    answer = tenant.nobody("GET", "/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = answer.json()
    return found


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_route_is_in_the_document_and_nothing_else(document: dict[str, Any]) -> None:
    declared = {(verb.upper(), path) for path, operations in document["paths"].items() for verb in operations.keys() & VERBS}
    routes = {(route.method, route.path.replace("+}", "}")) for surface in SURFACES for route in surface.routes}
    assert declared == routes


def test_every_mounted_path_is_in_the_document_and_the_reverse(document: dict[str, Any]) -> None:
    mounted = {path.replace("+}", "}") for path in app.routes} - {"/", "/{path}"}  # those two answer the rest with 404
    assert mounted == document["paths"].keys()


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(names) == len(set(names))


def test_no_two_models_share_a_name() -> None:
    """A schema is found by its model's name: of two, one would describe the other's answers."""
    referred = {each for surface in SURFACES for route in surface.routes for each in (*route.answers.values(), route.body) if each}
    found: dict[str, Any] = {}
    for reference in referred:
        schema = TypeAdapter(named_model(reference)).json_schema(ref_template="{model}")
        for name, described in (schema.pop("$defs", {}) | {reference.partition(":")[2]: schema}).items():
            assert found.setdefault(name, described) == described, name


def test_every_variable_of_a_path_is_declared(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            declared = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))


def test_what_needs_a_credential_says_so(document: dict[str, Any]) -> None:
    for surface in SURFACES:
        for route in surface.routes:
            operation = document["paths"][route.path.replace("+}", "}")][route.method.lower()]
            assert ("security" in operation) == (route.needs_credential or route.takes_credential)
            assert ({} in operation.get("security", [])) == route.takes_credential
            by_itself = any(issubclass(error, Unauthorized) for error in route.errors)  # a signed URL is its own credential
            assert ("401" in operation["responses"]) == (route.needs_credential or by_itself)


def test_the_document_names_the_server_that_was_asked(tenant: Tenant) -> None:
    assert tenant.nobody("GET", "/openapi.json").json()["servers"] == [{"url": "http://api.test"}]


def test_nothing_inner_is_shown(document: dict[str, Any]) -> None:
    text = str(document)
    for word in ("physical_key", "key_hash", "partition", "chalicelib"):
        assert word not in text


def test_what_tus_answers_is_declared_as_it_is(document: dict[str, Any]) -> None:
    """Its errors are text, and what it tells else stands in headers."""
    for route in TUS_SURFACE.routes:
        operation = document["paths"][route.path][route.method.lower()]
        for status, response in operation["responses"].items():
            expected = {"text/plain": {"schema": {"type": "string"}}} if int(status) >= 400 and route.method != "HEAD" else {}
            assert response.get("content", {}) == expected, (route.path, status)
        if route.raw_body:
            assert list(operation["requestBody"]["content"]) == [tus.CHUNK]


# ---- is it true? ---------------------------------------------------------------------------------------
def wsgi(service: Client, admin: Client) -> Callable[[dict[str, Any], StartResponse], Iterable[bytes]]:
    """The API as a WSGI application, by the same proxy events as everywhere; the raw path as the client sent it."""

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        headers = {name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
        if environ.get("CONTENT_TYPE"):
            headers["content-type"] = environ["CONTENT_TYPE"]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or None
        client = admin if environ["PATH_INFO"].startswith("/admin/") else service
        answer = client(environ["REQUEST_METHOD"], environ["REQUEST_URI"], body, headers)
        sent = [(name, value) for name, value in answer.headers.items() if name != "content-length"]
        length = answer.headers.get("content-length", str(len(answer.body)))
        start_response(f"{answer.status} {PHRASES[answer.status]}", [*sent, ("content-length", length)])
        return [answer.body]

    return application


@pytest.fixture
def described(tenant: Tenant) -> Any:
    """The API by its own document, with things to find in it."""
    admin = tenant.nobody.using(tenants.create_admin_key())
    for name, visibility in (("a", "public"), ("0", "private")):
        tenant.service.bucket(name, visibility=visibility)
        tenant.service.put(name, "0", b"0123456789", "text/plain")
    return schemathesis.openapi.from_wsgi("/openapi.json", wsgi(tenant.service, admin))


ROUTES = [route for surface in SURFACES for route in surface.routes]
BOUNDED = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


CASES = [
    *(pytest.param(route, GenerationMode.POSITIVE, id=f"{route.method} {route.path} as described") for route in ROUTES),
    # A route that takes nothing, or any bytes, cannot be asked wrongly.
    *(
        pytest.param(route, GenerationMode.NEGATIVE, id=f"{route.method} {route.path} not as described")
        for route in ROUTES
        if route.needs_credential or (route.parameters and route.raw_body is None)
    ),
]


def in_chunks(client: Client) -> str:
    """An upload that was begun."""
    return str(client("POST", "/storage/upload/resumable", {"bucket": "0", "path": "new", "size": 3}).json()["upload_id"])


def all_there(client: Client) -> str:
    """An upload that lacks nothing but its end."""
    upload_id = in_chunks(client)
    assert client("PATCH", f"/storage/upload/{upload_id}", b"abc", {"Upload-Offset": "0"}).status == 200
    return upload_id


def complete(client: Client) -> str:
    """An upload that has become an object."""
    upload_id = all_there(client)
    assert client("POST", f"/storage/upload/{upload_id}/complete").status == 200
    return upload_id


def direct(client: Client) -> str:
    """A direct upload in parts."""
    return str(client("POST", "/storage/upload/direct", {"bucket": "0", "path": "new", "size": 3, "parts": 1}).json()["upload_id"])


def by_tus(client: Client) -> str:
    """An upload that becomes an object with its last byte."""
    headers = {"Tus-Resumable": tus.VERSION, "Upload-Length": "3", "Upload-Metadata": "bucket MA==,filename bmV3"}
    return client("POST", "/storage/v1/upload/tus", headers=headers).headers["location"].rpartition("/")[2]


UPLOADS = (in_chunks, all_there, complete, direct, by_tus)


@pytest.mark.parametrize(("route", "mode"), CASES)
def test_every_answer_is_one_that_the_document_declares(described: Any, tenant: Tenant, route: Route, mode: GenerationMode) -> None:
    operation = described[route.path.replace("+}", "}")][route.method]
    there = {"bucket": "a", "path": "0", "tenant_id": tenant.tenant_id}

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode), of_something_there=st.booleans(), begin=st.sampled_from(UPLOADS))
    def ask(case: Any, of_something_there: bool, begin: Callable[[Client], str]) -> None:
        if of_something_there:
            upload = {"upload_id": begin(tenant.service)} if "upload_id" in case.path_parameters else {}
            case.path_parameters = {name: (there | upload).get(name, value) for name, value in case.path_parameters.items()}
        case.call_and_validate(checks=CHECKS)

    ask()


def test_a_body_that_may_be_left_out_is_not_required(document: dict[str, Any], tenant: Tenant) -> None:
    tenant.service.bucket("0")
    assert tenant.service("POST", f"/storage/upload/{all_there(tenant.service)}/complete").status == 200
    assert tenant.service("HEAD", f"/storage/v1/upload/tus/{by_tus(tenant.service)}", headers={"Tus-Resumable": tus.VERSION}).status == 200
    for path in ("/storage/upload/{upload_id}/complete", "/storage/upload/{upload_id}/confirm", "/storage/v1/upload/tus"):
        assert not document["paths"][path]["post"]["requestBody"]["required"], path
