"""The list of what can go wrong."""

import re

import pytest

from chalicelib import errors
from chalicelib.errors import MethodNotAllowed, RangeNotSatisfiable, RouteNotFound, StowageError, Unauthorized, UploadLocked
from chalicelib.surfaces import openapi


def family(kind: type[StowageError]) -> list[type[StowageError]]:
    return [each for below in kind.__subclasses__() if below.__module__ == errors.__name__ for each in (below, *family(below))]


ERRORS = family(StowageError)
named = pytest.mark.parametrize("kind", ERRORS, ids=[kind.__name__ for kind in ERRORS])
# What is answered where there is no operation to declare it.
WITHOUT_OPERATION = {RouteNotFound, MethodNotAllowed}


def test_codes_are_unique() -> None:
    assert len({kind.code for kind in ERRORS}) == len(ERRORS) > 20


@named
def test_a_code_is_the_name_of_its_class_and_its_status_an_error(kind: type[StowageError]) -> None:
    assert kind.code == kind.__name__
    assert re.fullmatch("[A-Z][A-Za-z]+", kind.code)
    assert kind.status in {400, 401, 403, 404, 405, 409, 410, 412, 413, 415, 416, 422, 423, 429, 460, 500, 503}


@named
def test_headers_can_be_sent(kind: type[StowageError]) -> None:
    assert all(isinstance(name, str) and isinstance(value, str) for name, value in kind.headers.items())


@named
def test_what_may_pass_says_when_to_try_again(kind: type[StowageError]) -> None:
    assert (kind.status == 503) == ("Retry-After" in kind.headers)


def test_headers_that_a_status_must_carry() -> None:
    assert Unauthorized("x").headers["WWW-Authenticate"].startswith("Bearer")
    assert MethodNotAllowed("x", allow="GET, OPTIONS").headers == {"Allow": "GET, OPTIONS"}
    assert RangeNotSatisfiable("x", 17).headers == {"Content-Range": "bytes */17"}


@pytest.mark.parametrize(("seconds", "told"), [(35, "35"), (34.6, "35"), (1, "1"), (0.2, "1"), (0, "1"), (-5, "1")])
def test_a_lock_says_when_it_ends_at_the_latest(seconds: float, told: str) -> None:
    assert UploadLocked("x", seconds).headers == {"Retry-After": told}
    assert UploadLocked.headers == {}


def test_one_errors_headers_are_not_anothers() -> None:
    first, second = MethodNotAllowed("x", allow="GET"), MethodNotAllowed("x", allow="PUT")
    assert (first.headers, second.headers, MethodNotAllowed.headers) == ({"Allow": "GET"}, {"Allow": "PUT"}, {})


def test_message_and_details_are_kept() -> None:
    error = errors.TooLarge("too large", limit=5)
    assert (str(error), error.message, error.details) == ("too large", "too large", {"limit": 5})


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind not in WITHOUT_OPERATION], ids=lambda kind: kind.__name__)
def test_every_error_is_declared_by_an_operation(kind: type[StowageError]) -> None:
    declared = [
        response["description"].split(", ")
        for methods in openapi.document()["paths"].values()
        for operation in methods.values()
        for status, response in operation["responses"].items()
        if status == str(kind.status)
    ]
    assert any(kind.code in codes for codes in declared)
