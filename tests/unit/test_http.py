"""From a proxy event to a request."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from chalicelib import settings
from chalicelib.errors import InvalidName, InvalidRequest, TooLarge
from chalicelib.surfaces.http import SINGLE_HEADERS, Request, flag, json_answer, natural_number, parsed_json, whole_number
from chalicelib.surfaces.storage.models import (
    BeginDirect,
    BeginUpload,
    ChangeObject,
    CompleteUpload,
    ConfirmUpload,
    CreateBucket,
    DeleteMany,
    Relocate,
)


def request(body: Any = None, headers: dict[str, Any] | None = None, stage: str = "api", **changed: Any) -> Request:
    """A request as API Gateway hands it over; a header may have several values."""
    several = {name: value if isinstance(value, list) else [value] for name, value in (headers or {}).items()}
    event = {
        "headers": {name: values[-1] for name, values in several.items()},
        "multiValueHeaders": several,
        "body": body,
        "isBase64Encoded": False,
        "requestContext": {"httpMethod": "POST", "resourcePath": "/x", "stage": stage, "domainName": "fallback.test"},
    }
    return Request(event | changed, "request-1")


def sent(raw: bytes) -> Request:
    return request(base64.b64encode(raw).decode(), isBase64Encoded=True)


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def use(name: str, value: str) -> None:
        monkeypatch.setenv(f"STOWAGE_{name}", value)
        settings.settings.cache_clear()

    yield use
    monkeypatch.undo()
    settings.settings.cache_clear()


# ---- headers -------------------------------------------------------------------------------------------------------
def test_headers_are_found_in_any_case() -> None:
    assert request(headers={"Content-TYPE": "a/b"}).headers == {"content-type": "a/b"}


def test_headers_of_either_form_are_seen() -> None:
    assert request(multiValueHeaders=None, headers={"A": "1"}).headers == {"a": "1"}
    assert Request(request().event | {"headers": None, "multiValueHeaders": {"A": ["1"]}}, "1").headers == {"a": "1"}
    assert Request(request().event | {"headers": None, "multiValueHeaders": None}, "1").headers == {}


def test_values_of_a_list_are_joined() -> None:
    assert request(headers={"If-Match": ['"a"', '"b"']}).headers["if-match"] == '"a", "b"'


def test_every_header_of_the_upload_protocols_says_one_thing() -> None:
    tus = {"upload-offset", "upload-length", "upload-defer-length", "upload-metadata", "upload-checksum", "upload-concat", "tus-resumable"}
    assert tus | {"x-http-method-override", "content-range"} <= set(SINGLE_HEADERS)


@pytest.mark.parametrize("name", SINGLE_HEADERS)
def test_a_contradiction_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        _ = request(headers={name: ["1", "2"]}).headers
    with pytest.raises(InvalidRequest, match=name):
        _ = request(headers={name: "1", name.upper(): "2"}).headers


@pytest.mark.parametrize("name", SINGLE_HEADERS)
def test_a_repetition_is_one_value(name: str) -> None:
    assert request(headers={name: ["1", "1"]}).headers[name] == "1"


# ---- query and path ------------------------------------------------------------------------------------------------
def test_query_values_are_found() -> None:
    assert request(multiValueQueryStringParameters={"a": ["1"], "b": [""], "c": ["x", "x"]}).query == {"a": "1", "b": "", "c": "x"}
    assert request(multiValueQueryStringParameters=None).query == {}


@pytest.mark.parametrize("query", [{"a": ["1", "2"]}, {"a": ["\ufffd"]}, {"\ufffd": ["1"]}, {"a": ["\ud800"]}, {"\ud800": ["1"]}])  # noqa: PT014
def test_an_ambiguous_or_broken_query_is_refused(query: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        _ = request(multiValueQueryStringParameters=query).query
    refused.value.message.encode()


def test_a_path_parameter_that_could_not_be_decoded_is_an_invalid_name() -> None:
    assert request(pathParameters={"a": "x/ y"}).path("a") == "x/ y"
    with pytest.raises(InvalidName):
        request(pathParameters={"a": None}).path("a")


# ---- body ----------------------------------------------------------------------------------------------------------
@given(st.binary(max_size=100))
def test_a_body_arrives_byte_by_byte(raw: bytes) -> None:
    assert sent(raw).body == raw


def test_a_body_of_text_is_utf8() -> None:
    assert request("ü").body == "ü".encode()
    assert request(None).body == b""


def test_the_limit_is_on_the_bytes_received(setting: Any) -> None:
    setting("MAX_BODY", "10")
    assert sent(b"x" * 10).body == b"x" * 10
    with pytest.raises(TooLarge) as refused:
        _ = sent(b"x" * 11).body
    assert refused.value.details == {"limit": 10}
    assert "upload" in refused.value.message
    with pytest.raises(TooLarge):
        _ = request("é" * 6).body


@pytest.mark.parametrize("body", ["a", "a===", "====a", "é", "!!!!", "YWJj!", "YW Jj"])
def test_a_body_that_is_no_base64_is_refused(body: str) -> None:
    """And not taken for the bytes that its valid letters happen to spell: nothing may be stored of it."""
    with pytest.raises(InvalidRequest):
        _ = request(body, isBase64Encoded=True).body


# ---- JSON ----------------------------------------------------------------------------------------------------------
class Model(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str
    size: int = 0


def test_a_document_becomes_a_model() -> None:
    assert sent(b'{"name": "a", "size": 3, "more": 1}').parse(Model) == Model(name="a", size=3)


def test_every_field_that_is_wrong_is_named() -> None:
    with pytest.raises(InvalidRequest) as refused:
        sent(b'{"size": "three"}').parse(Model)
    assert {problem["field"] for problem in refused.value.details["fields"]} == {"name", "size"}
    assert "name" in refused.value.message
    assert "three" not in refused.value.message


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"{", b"nope", b"{'a': 1}", b'{"name": NaN}', b'{"size": Infinity}', b'{"size": -Infinity}', b'{"size": 1e999}',
        b'{"size": -1e999}',
        b'{"name": "\xff"}', b'\xef\xbb\xbf{"name": "a"}', b'{"name": "\\ud800"}', b'{"\\udfff": 1}', b"[" * 100_000, b'{"a":' * 50_000,
        b"[]" * 2,
        b'{"size": ' + b"9" * 5000 + b"}", b'"\x00"', b"\x00", b"[1,]", b'{"name": "a"} x', b"null", b"[]", b"1", b'"a"',
    ],
    ids=lambda raw: str(raw[:20]),
)  # fmt: skip
def test_what_is_no_document_of_the_model_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sent(raw).parse(Model)
    assert len(refused.value.message) <= 2000
    json.dumps(refused.value.details).encode()


class Choice(BaseModel):
    model_config = ConfigDict(strict=True)
    size: int = 0


@pytest.mark.parametrize("body", [None, "", b"{}"])
def test_a_body_that_may_be_left_out_is_an_empty_document(body: Any) -> None:
    asked = sent(body) if isinstance(body, bytes) else request(body)
    assert asked.parse(Choice, optional=True) == Choice()


@pytest.mark.parametrize("raw", [b" ", b"null", b"[]", b"{", b'{"size": "3"}'])
def test_a_body_that_may_be_left_out_is_checked_when_it_is_there(raw: bytes) -> None:
    assert sent(b'{"size": 3}').parse(Choice, optional=True) == Choice(size=3)
    with pytest.raises(InvalidRequest):
        sent(raw).parse(Choice, optional=True)


def test_a_json_body_has_at_most_a_megabyte() -> None:
    with pytest.raises(TooLarge):
        sent(b'{"name": "' + b"a" * 1_000_000 + b'"}').parse(Model)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_any_json_is_read_as_it_was_written(document: Any) -> None:
    assert parsed_json(json.dumps(document).encode(), "it") == document


FIELDS = ["name", "bucket", "from", "to", "paths", "user_metadata", "content_type", "max_file_size", "public"]
FIELDS += ["path", "size", "upsert", "checksum", "checksum_sha256", "content_md5", "parts"]
MODELS = [CreateBucket, Relocate, DeleteMany, ChangeObject, BeginUpload, BeginDirect, CompleteUpload, ConfirmUpload]


@pytest.mark.parametrize("model", MODELS)
@given(document=JSON, field=st.sampled_from(FIELDS))
def test_any_json_is_a_model_or_an_invalid_request(model: Any, document: Any, field: str) -> None:
    complete = {"name": "a", "bucket": "b", "from": "a", "to": "b", "paths": ["a"], "path": "a", "size": 1}
    for whole in (document, {field: document}, complete | {field: document}):
        refused = None
        try:
            sent(json.dumps(whole).encode()).parse(model)
        except InvalidRequest as error:
            refused = {"message": error.message, "details": error.details}
        assert json_answer(400, refused).body, "what is told can be sent"


# ---- where the API lies --------------------------------------------------------------------------------------------
GATEWAY = "abc.execute-api.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("headers", "stage", "wanted"),
    [
        ({"Host": GATEWAY, "X-Forwarded-Proto": "https"}, "api", f"https://{GATEWAY}/api"),
        ({"Host": "files.example.com", "X-Forwarded-Proto": "https"}, "api", "https://files.example.com"),
        ({"Host": "localhost:3000", "X-Forwarded-Proto": "http"}, "local", "http://localhost:3000"),
        ({"Host": "localhost:3000"}, "local", "http://localhost:3000"),
        ({"Host": "files.example.com"}, "api", "https://files.example.com"),
        ({}, "api", "https://fallback.test"),
    ],
)
def test_the_base_is_that_of_the_request_stage_included(headers: dict[str, str], stage: str, wanted: str) -> None:
    assert request(headers=headers, stage=stage).base_url == wanted


@pytest.mark.parametrize("url", ["https://cdn.example.com/base", "https://cdn.example.com/base/"])
def test_the_public_url_goes_over_the_request(setting: Any, url: str) -> None:
    setting("PUBLIC_URL", url)
    assert request(headers={"Host": GATEWAY}).base_url == "https://cdn.example.com/base"


# ---- small readers -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("text", "wanted"), [(None, False), ("true", True), ("TRUE ", True), ("1", True), ("false", False), ("0", False)])
def test_a_flag_is_true_or_false(text: str | None, wanted: bool) -> None:
    assert flag(text, "x") is wanted


@pytest.mark.parametrize("text", ["", " ", "yes", "no", "2", "tru", "true,true", "é"])
def test_any_other_flag_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="x-upsert"):
        flag(text, "x-upsert")


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_a_whole_number_is_read(number: int) -> None:
    assert whole_number(str(number), "x", 5) == number


@pytest.mark.parametrize("text", ["", "-", "--1", "+1", "1.0", "1e3", " 1", "1 ", "٣", "²", "0x1", "1_000", "9" * 19, "9" * 5000, "NaN"])
def test_any_other_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="limit"):
        whole_number(text, "limit", 5)


def test_no_number_is_the_default() -> None:
    assert whole_number(None, "x", 5) == 5


@given(st.integers(0, 10**18 - 1))
def test_a_number_of_bytes_is_read(number: int) -> None:
    assert natural_number(str(number), "x") == natural_number(f" {number} ", "x") == number


@pytest.mark.parametrize("text", [None, "", " ", "-", "-1", "--1", "+1", "1.0", "1 000", "1, 1", "٣", "0x1", "1_000", "9" * 19, "9" * 5000])
def test_what_is_no_number_of_bytes_is_refused(text: str | None) -> None:
    with pytest.raises(InvalidRequest, match="Upload-Offset"):
        natural_number(text, "Upload-Offset")


def test_an_answer_is_compact_json() -> None:
    made = json_answer(201, {"a": ["ü", None]}, {"x": "y"})
    assert (made.status_code, made.body) == (201, '{"a":["ü",null]}'.encode())
    assert made.headers == {"Content-Type": "application/json", "x": "y"}
