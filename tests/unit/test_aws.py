"""The lean client gives what botocore's own would."""

import base64
import datetime
import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import boto3
import botocore.parsers
import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import NoCredentialsError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib import aws
from chalicelib.aws import LeanParser
from chalicelib.tables.objects import StoredObject

MODEL = botocore.session.Session().get_service_model("dynamodb")
BINARY = st.binary(max_size=12).map(lambda raw: base64.b64encode(raw).decode())
NUMBER = st.integers().map(str) | st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(['"B":', '{"B": "eA=="}', "B", "BS", "é🙂"])


def values(with_binary: bool) -> st.SearchStrategy[dict[str, Any]]:
    flat = (
        st.fixed_dictionaries({"S": TEXT})
        | st.fixed_dictionaries({"N": NUMBER})
        | st.fixed_dictionaries({"BOOL": st.booleans()})
        | st.just({"NULL": True})
        | st.fixed_dictionaries({"SS": st.lists(TEXT, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"NS": st.lists(NUMBER, min_size=1, max_size=3)})
    )
    if with_binary:
        flat |= st.fixed_dictionaries({"B": BINARY}) | st.fixed_dictionaries({"BS": st.lists(BINARY, min_size=1, max_size=3)})
    return st.recursive(
        flat,
        lambda inner: (
            st.fixed_dictionaries({"L": st.lists(inner, max_size=3)})
            | st.fixed_dictionaries({"M": st.dictionaries(TEXT, inner, max_size=3)})
        ),
        max_leaves=6,
    )


ITEMS = st.booleans().flatmap(lambda binary: st.dictionaries(TEXT | st.sampled_from(["B", "BS", "name"]), values(binary), max_size=5))
TABLE = "stowage-objects"
CAPACITY = {"TableName": TABLE, "CapacityUnits": 1.5}

# Operation, and the body that it answers with, given an item.
ANSWERS: dict[str, Any] = {
    "GetItem": lambda item: {"Item": item, "ConsumedCapacity": CAPACITY},
    "Query": lambda item: {"Items": [item, {}, item], "Count": 3, "ScannedCount": 3, "LastEvaluatedKey": item},
    "Scan": lambda item: {"Items": [item], "Count": 1, "ScannedCount": 1},
    "BatchGetItem": lambda item: {
        "Responses": {TABLE: [item, item], "other": []},
        "UnprocessedKeys": {TABLE: {"Keys": [item], "ConsistentRead": True}},
    },
    "BatchWriteItem": lambda item: {
        "UnprocessedItems": {TABLE: [{"PutRequest": {"Item": item}}, {"DeleteRequest": {"Key": item}}]},
        "ItemCollectionMetrics": {TABLE: [{"ItemCollectionKey": item, "SizeEstimateRangeGB": [0, 1]}]},
    },
    "TransactGetItems": lambda item: {"Responses": [{"Item": item}, {}]},
    "TransactWriteItems": lambda item: {"ConsumedCapacity": [CAPACITY]},
    "PutItem": lambda item: {"Attributes": item},
    "UpdateItem": lambda item: {"Attributes": item},
    "DeleteItem": lambda item: {"Attributes": item},
    "DescribeTable": lambda item: {
        "Table": {"TableName": TABLE, "CreationDateTime": 1.7e9, "KeySchema": [{"AttributeName": "a", "KeyType": "HASH"}]}
    },
}
ERRORS: dict[str, Any] = {
    "ConditionalCheckFailedException": lambda item: {"message": "The conditional request failed", "Item": item},
    "TransactionCanceledException": lambda item: {
        "Message": "cancelled",
        "CancellationReasons": [
            {"Code": "ConditionalCheckFailed", "Message": "failed", "Item": item},
            {"Code": "None"},
            {"Code": "ValidationError", "Message": "x", "Item": None},
        ],
    },
    "ThrottlingException": lambda item: {"message": "slow down"},
    "ResourceNotFoundException": lambda item: {"message": "no such table"},
    "SomethingNew": lambda item: {"message": "unknown", "Item": item},
}


def both(operation: str, body: dict[str, Any], status: int, compact: bool) -> tuple[Any, Any]:
    raw = json.dumps(body, separators=(",", ":") if compact else None, ensure_ascii=compact).encode()
    shape = MODEL.operation_model(operation).output_shape
    answers = []
    for parser in (LeanParser(), botocore.parsers.JSONParser()):
        response = {"body": raw, "headers": {"x-amzn-requestid": "1"}, "status_code": status}
        parsed = parser.parse(response, shape)
        if status >= 400:
            code = parsed["Error"]["Code"]
            error_shape = MODEL.shape_for_error_code(code) if status >= 400 else None
            if error_shape is not None:
                parsed |= parser.parse(response, error_shape)
        answers.append(parsed)
    return answers[0], answers[1]


@pytest.mark.parametrize("operation", ANSWERS)
@settings(max_examples=20, deadline=None)
@given(item=ITEMS, compact=st.booleans())
@example(item={"a": {"B": "aGk="}, "b": {"S": "x"}}, compact=True)
@example(item={"a": {"M": {"x": {"L": [{"BS": ["aGk="]}]}}}}, compact=False)
@example(item={"B": {"S": '"B":"aGk="'}}, compact=True)
def test_answers_are_those_of_botocores_own_parser(operation: str, item: dict[str, Any], compact: bool) -> None:
    lean, own = both(operation, ANSWERS[operation](item), 200, compact)
    assert lean == own


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("prefix", ["", "com.amazonaws.dynamodb.v20120810#"])
@settings(max_examples=12, deadline=None)
@given(item=ITEMS, compact=st.booleans())
@example(item={"a": {"B": "aGk="}}, compact=True)
def test_errors_are_those_of_botocores_own_parser(error: str, prefix: str, item: dict[str, Any], compact: bool) -> None:
    body = {"__type": prefix + error} | ERRORS[error](item)
    lean, own = both("PutItem" if "Cond" in error else "TransactWriteItems", body, 400, compact)
    assert lean == own
    assert lean["Error"]["Code"] == error


@pytest.mark.parametrize("body", [b"", b"{}", b"not json", b"<html>"])
@pytest.mark.parametrize("status", [200, 400, 500, 503])
def test_broken_answers_are_treated_as_botocore_treats_them(body: bytes, status: int) -> None:
    shape = MODEL.operation_model("GetItem").output_shape
    outcomes = []
    for parser in (LeanParser(), botocore.parsers.JSONParser()):
        try:
            outcomes.append(parser.parse({"body": body, "headers": {}, "status_code": status}, shape))
        except Exception as error:
            outcomes.append(type(error))
    assert outcomes[0] == outcomes[1]


def test_one_parser_does_not_remember_what_it_read_before() -> None:
    parser, shape = LeanParser(), MODEL.operation_model("GetItem").output_shape
    bodies = [{"Item": {"a": {"B": "aGk="}}}, {"Item": {"a": {"S": "x"}}}, {"Item": {"a": {"B": "aGk="}}}]
    read = [parser.parse({"body": json.dumps(body).encode(), "headers": {}, "status_code": 200}, shape)["Item"]["a"] for body in bodies]
    assert read == [{"B": b"hi"}, {"S": "x"}, {"B": b"hi"}]


def test_rows_are_not_walked_unless_there_is_binary() -> None:
    class Walking(LeanParser):
        walked = 0

        def _handle_structure(self, shape: Any, value: Any) -> Any:
            self.walked += shape.name == "AttributeValue"
            return super()._handle_structure(shape, value)

    shape = MODEL.operation_model("Query").output_shape
    for body, wanted in (({"Items": [{"a": {"S": "x"}}] * 9}, 0), ({"Items": [{"a": {"B": "aGk="}}] * 9}, 9)):
        parser = Walking()
        parser.parse({"body": json.dumps(body).encode(), "headers": {}, "status_code": 200}, shape)
        assert parser.walked == wanted


# ---- the client ----------------------------------------------------------------------------------------------------
@pytest.fixture
def client(embedded: Any) -> Any:
    return aws.client("dynamodb")


def test_dynamodb_uses_the_lean_parser_and_a_parser_of_its_own_for_each_call(client: Any) -> None:
    factory = aws.session().get_component("response_parser_factory")
    assert isinstance(factory.create_parser("json"), LeanParser)
    assert factory.create_parser("json") is not factory.create_parser("json")
    assert not isinstance(factory.create_parser("rest-xml"), LeanParser)


def test_the_user_agent_is_fixed(client: Any) -> None:
    sent = []
    record = lambda request, **_: sent.append(request.headers["User-Agent"])  # noqa: E731
    client.meta.events.register("before-send.dynamodb.ListTables", record)
    client.list_tables()
    client.meta.events.unregister("before-send.dynamodb.ListTables", record)
    agents = {agent.decode() if isinstance(agent, bytes) else agent for agent in sent}
    assert len(agents) == 1
    assert agents.pop().split()[0] == "stowage", "Powertools appends itself in sessions made after its import"


def test_timeouts_are_set_and_leave_time_for_an_answer(client: Any) -> None:
    config = client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (aws.CONNECT_TIMEOUT, aws.READ_TIMEOUT)
    assert config.retries["total_max_attempts"] == aws.ATTEMPTS
    assert aws.ATTEMPTS * max(aws.CONNECT_TIMEOUT, aws.READ_TIMEOUT) < 28, "a function has 28 s in all"


def test_a_client_is_made_once(client: Any) -> None:
    assert aws.client("dynamodb") is client
    assert aws.session() is aws.session()


def test_changes_go_over_the_common_configuration() -> None:
    config = aws.config(read_timeout=1, signature_version="s3v4")
    assert (config.read_timeout, config.signature_version, config.user_agent) == (1, "s3v4", "stowage")
    assert config.parameter_validation is False


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "x"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-north-1"}, "eu-north-1"),
        ({}, "us-east-1"),
    ],
)
def test_the_region_is_that_of_the_function(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: str) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert aws.region() == wanted


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_a_stand_in_for_aws_is_known_by_either_variable(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    assert not aws.overridden_endpoint()
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert aws.overridden_endpoint()


def test_a_client_without_a_resolver_goes_to_the_endpoint_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook that `aws.client` uses: for these services it is the endpoint that the rules would give for every call."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for service in ("dynamodb", "sqs", "events", "ssm"):
        ruled = aws.new_client(service, region_name="eu-west-1", config=aws.config())
        operation = ruled.meta.service_model.operation_model(ruled.meta.service_model.operation_names[0])
        by_rules = ruled._resolve_endpoint_ruleset(operation, {}, {"client_region": "eu-west-1", "client_config": ruled.meta.config})
        ruled._ruleset_resolver = None
        settled = ruled._resolve_endpoint_ruleset(operation, {}, {})
        assert settled[0] == by_rules[0] == f"https://{service}.eu-west-1.amazonaws.com"


# ---- signatures ----------------------------------------------------------------------------------------------------
SERVICES = ("dynamodb", "sqs", "events", "ssm")
CREDENTIALS = st.builds(
    Credentials,
    access_key=st.just("AKIDEXAMPLE"),
    secret_key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    token=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80),
)
URLS = ("https://dynamodb.eu-west-1.amazonaws.com/", "http://127.0.0.1:4566/", "https://[::1]:443/", "http://LOCALHOST:80/")


def signed(signer: type[SigV4Auth], credentials: Credentials, url: str, body: bytes) -> str:
    request = AWSRequest(
        "POST", url, data=body, headers={"X-Amz-Target": "DynamoDB_20120810.GetItem", "Content-Type": "application/x-amz-json-1.0"}
    )
    signer(credentials, "dynamodb", "eu-west-1").add_auth(request)
    return str(request.headers["Authorization"])


@given(credentials=CREDENTIALS, url=st.sampled_from(URLS), body=st.binary(min_size=1, max_size=60))
def test_a_signature_is_botocores_own(credentials: Credentials, url: str, body: bytes) -> None:
    with mock.patch("botocore.auth.get_current_datetime", return_value=datetime.datetime(2026, 11, 20, 12, 30, 59, tzinfo=datetime.UTC)):
        assert signed(aws.LeanSigner, credentials, url, body) == signed(SigV4Auth, credentials, url, body)


def test_a_request_without_credentials_is_refused_as_botocore_does() -> None:
    for signer in (aws.LeanSigner, SigV4Auth):
        with pytest.raises(NoCredentialsError):
            signed(signer, None, URLS[0], b"{}")  # type: ignore[arg-type]


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_of_its_services_is_a_post_to_the_root(service: str) -> None:
    model = aws.client(service).meta.service_model
    assert model.resolved_protocol == "json"
    assert aws.client(service).meta.config.signature_version == aws.LeanSigner.NAME
    for name in model.operation_names:
        operation = model.operation_model(name)
        assert (operation.http["method"], operation.http["requestUri"], operation.resolved_auth_type) == ("POST", "/", None), name


def test_a_retry_is_signed_anew(client: Any) -> None:
    sent: list[tuple[str, str]] = []

    def fail_once(request: Any, **_: Any) -> AWSResponse | None:
        sent.append((request.headers["X-Amz-Date"].decode(), request.headers["Authorization"].decode()))
        broken = SimpleNamespace(stream=lambda *_, **__: iter([b"{}"]))
        return AWSResponse(request.url, 500, {}, broken) if len(sent) == 1 else None

    moments = iter(datetime.datetime(2026, 11, day, tzinfo=datetime.UTC) for day in range(1, 30))
    client.meta.events.register("before-send.dynamodb.ListTables", fail_once)
    with mock.patch("botocore.auth.get_current_datetime", side_effect=lambda: next(moments)):
        client.list_tables()
    client.meta.events.unregister("before-send.dynamodb.ListTables", fail_once)
    assert [date for date, _ in sent] == ["20261101T000000Z", "20261102T000000Z"]
    assert "/20261102/" in sent[1][1]
    assert sent[1][1].count("Signature=") == 1


# ---- what a call costs ---------------------------------------------------------------------------------------------
def function_calls(work: Callable[[], object]) -> int:
    """How many functions, of Python and of C, `work` calls: the same each time, whatever else the machine does."""
    work()
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


def test_a_row_read_calls_at_most_two_thirds_of_the_functions_of_boto3s_get_item(embedded: Any) -> None:
    row = StoredObject(
        "t#b",
        "a",
        **dict.fromkeys(("id", "version", "bucket", "physical_key", "content_type", "created_at", "updated_at", "tokens_not_before"), "x"),
    )
    row.revision, row.size = 1, 2
    row.put(StoredObject.partition.does_not_exist())
    plain = boto3.client("dynamodb")
    own = function_calls(lambda: StoredObject.read("t#b", "a"))
    assert own <= function_calls(lambda: plain.get_item(TableName=StoredObject.Meta.table_name, Key=StoredObject.key("t#b", "a"))) * 2 / 3
