"""The runner: the events that Lambda's sources would deliver, from a real embedded AWS."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra import runner, stack

TABLE = "stowage-objects"

Event = dict[str, Any]


class Functions:
    """Functions that keep the events they are given, and fail when told to."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Event]] = []
        self.fail: Callable[[str, Event], Any] = lambda name, event: None

    def __getattr__(self, name: str) -> Callable[[Event, Any], Any]:
        def function(event: Event, context: Any) -> Any:
            assert context.get_remaining_time_in_millis() > 0
            self.events.append((name, event))
            return self.fail(name, event)

        return function

    def of(self, name: str) -> list[Event]:
        return [event for called, event in self.events if called == name]

    def names(self) -> list[str]:
        """Names of the rows that object_rows was given, in order."""
        return [record["dynamodb"]["Keys"]["name"]["S"] for event in self.of("object_rows") for record in event["Records"]]


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.EmbeddedAWS]:
    embedded = stack.EmbeddedAWS(tmp_path_factory.mktemp("aws"))
    embedded.start()
    try:
        stack.provision(embedded, stack.local_template())
        yield embedded
    finally:
        embedded.stop()


@pytest.fixture
def functions() -> Functions:
    return Functions()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_PAUSE", 0.01)


def stream(aws: stack.EmbeddedAWS, functions: Functions, positions: Path) -> runner.Stream:
    target = runner.Target("object_rows", functions.object_rows)
    return runner.Stream(TABLE, target, aws.environment(), positions, threading.Event())


@pytest.fixture
def position(aws: stack.EmbeddedAWS, tmp_path: Path) -> Path:
    """A position file at the present end of the stream."""
    path = tmp_path / "stream.json"
    assert stream(aws, Functions(), path).drain(10)
    return path


def put(aws: stack.EmbeddedAWS, *names: str) -> None:
    """Write rows that differ from any before: a put that changes nothing leaves no record."""
    dynamodb = aws.client("dynamodb")
    for name in names:
        row = {"partition": {"S": "t#b"}, "name": {"S": name}, "id": {"S": str(uuid.uuid4())}, "size": {"N": "3"}, "raw": {"B": b"\xff"}}
        dynamodb.put_item(TableName=TABLE, Item=row)


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "what was awaited did not happen"
        time.sleep(0.05)


def test_a_change_arrives_as_lambda_would_deliver_it(aws: stack.EmbeddedAWS, functions: Functions, position: Path) -> None:
    put(aws, "shape.txt")
    assert stream(aws, functions, position).drain(10)
    (event,) = functions.of("object_rows")
    (record,) = json.loads(json.dumps(event))["Records"]
    assert (record["eventName"], record["eventSource"], record["eventVersion"]) == ("INSERT", "aws:dynamodb", "1.1")
    assert record["eventID"]
    assert record["eventSourceARN"].startswith(f"arn:aws:dynamodb:us-east-1:000000000000:table/{TABLE}/stream/")
    change = record["dynamodb"]
    assert change["Keys"] == {"partition": {"S": "t#b"}, "name": {"S": "shape.txt"}}
    assert change["NewImage"]["raw"] == {"B": "/w=="}
    assert change["NewImage"]["size"] == {"N": "3"}
    assert "OldImage" not in change
    assert abs(change["ApproximateCreationDateTime"] - time.time()) < 60
    assert change["SequenceNumber"].isdigit()
    assert change["StreamViewType"] == "NEW_AND_OLD_IMAGES"


def test_a_restarted_runner_goes_on_where_it_stopped(aws: stack.EmbeddedAWS, functions: Functions, position: Path) -> None:
    put(aws, "a", "b")
    assert stream(aws, functions, position).drain(10)
    put(aws, "c")
    assert stream(aws, functions, position).drain(10)
    assert functions.names() == ["a", "b", "c"]


def test_a_failed_batch_is_delivered_again(aws: stack.EmbeddedAWS, functions: Functions, position: Path, fast: None) -> None:
    put(aws, "a", "b")
    calls = iter([True, False, False, False])

    def fail(name: str, event: Event) -> None:
        if next(calls):
            raise RuntimeError("not now")

    functions.fail = fail
    assert stream(aws, functions, position).drain(10)
    assert functions.names()[:2] == ["a", "b"]
    assert functions.names()[2:] == ["a", "b"]


def test_a_record_that_always_fails_is_given_up_and_holds_nothing_up(
    aws: stack.EmbeddedAWS, functions: Functions, position: Path, fast: None, caplog: pytest.LogCaptureFixture
) -> None:
    put(aws, "a", "bad", "c", "d")
    succeeded: list[str] = []

    def fail(name: str, event: Event) -> None:
        names = [record["dynamodb"]["Keys"]["name"]["S"] for record in event["Records"]]
        if "bad" in names:
            raise RuntimeError("never")
        succeeded.extend(names)

    functions.fail = fail
    assert stream(aws, functions, position).drain(20)
    assert succeeded == ["a", "c", "d"]
    assert "gave up" in caplog.text


def test_only_what_a_function_reports_as_failed_is_delivered_again(
    aws: stack.EmbeddedAWS, functions: Functions, position: Path, fast: None
) -> None:
    put(aws, "a", "b", "c")

    def fail(name: str, event: Event) -> Event | None:
        if len(functions.events) > 1:
            return None
        return {"batchItemFailures": [{"itemIdentifier": event["Records"][1]["dynamodb"]["SequenceNumber"]}]}

    functions.fail = fail
    assert stream(aws, functions, position).drain(10)
    assert functions.names() == ["a", "b", "c", "b", "c"]


@pytest.fixture
def running(aws: stack.EmbeddedAWS, functions: Functions, position: Path) -> Iterator[runner.Runner]:
    """A whole runner beside `functions`."""
    outputs = stack.outputs(aws)
    environment = aws.environment() | {"STOWAGE_TABLE_PREFIX": "stowage", "STOWAGE_JOBS_QUEUE": outputs["JobsQueueUrl"]}
    made = runner.Runner(functions, environment, position, outputs[stack.EVENTS_QUEUE])
    made.start()
    yield made
    made.stop()


def test_a_message_becomes_an_event_and_is_deleted(aws: stack.EmbeddedAWS, functions: Functions, running: runner.Runner) -> None:
    queue = stack.outputs(aws)["JobsQueueUrl"]
    attribute = {"kind": {"DataType": "String", "StringValue": "copy"}}
    aws.client("sqs").send_message(QueueUrl=queue, MessageBody='{"job_id": "1"}', MessageAttributes=attribute)
    eventually(lambda: functions.of("job_worker"))
    (record,) = functions.of("job_worker")[0]["Records"]
    assert record["body"] == '{"job_id": "1"}'
    assert (record["eventSource"], record["eventSourceARN"]) == ("aws:sqs", "arn:aws:sqs:us-east-1:000000000000:stowage-jobs")
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["messageAttributes"]["kind"] == {"dataType": "String", "stringValue": "copy"}
    eventually(lambda: waiting(aws, queue) == 0)


def test_a_failed_message_is_delivered_again(aws: stack.EmbeddedAWS, functions: Functions, running: runner.Runner, fast: None) -> None:
    def fail(name: str, event: Event) -> None:
        if len(functions.of("job_worker")) == 1:
            raise RuntimeError("not now")

    functions.fail = fail
    queue = stack.outputs(aws)["JobsQueueUrl"]
    aws.client("sqs").send_message(QueueUrl=queue, MessageBody="again")
    eventually(lambda: len(functions.of("job_worker")) == 2)
    eventually(lambda: waiting(aws, queue) == 0)


def test_an_upload_to_the_bucket_becomes_an_s3_event(aws: stack.EmbeddedAWS, functions: Functions, running: runner.Runner) -> None:
    aws.client("s3").put_object(Bucket=stack.outputs(aws)["InternalBucket"], Key="objects/y z.direct", Body=b"123")
    eventually(lambda: functions.of("bucket_objects"))
    (record,) = functions.of("bucket_objects")[0]["Records"]
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["s3"]["object"]["key"] == "objects/y+z.direct"


def test_the_clock_strikes_at_the_start(functions: Functions, running: runner.Runner) -> None:
    eventually(lambda: functions.of("hourly"))
    assert functions.of("hourly")[0]["detail-type"] == "Scheduled Event"


def test_what_was_written_before_the_stop_is_handled_before_the_end(
    aws: stack.EmbeddedAWS, functions: Functions, running: runner.Runner
) -> None:
    names = [f"{number:03}" for number in range(250)]
    put(aws, *names)
    assert running.stop()
    assert functions.names() == names


def test_a_child_shard_waits_for_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [{"ShardId": "child", "ParentShardId": "parent"}, {"ShardId": "parent", "ParentShardId": "long-gone"}]
    pages = {"parent": [["1"], ["2"], None], "child": [["3"]]}

    def get_records(ShardIterator: str, Limit: int) -> Event:  # noqa: N803  AWS's names
        shard, page = ShardIterator.split("@")
        numbers = (pages[shard][int(page)] if int(page) < len(pages[shard]) else []) or []
        last = shard == "parent" and int(page) == 2
        records = [{"dynamodb": {"SequenceNumber": number, "Keys": {"name": {"S": number}}}} for number in numbers]
        return {"Records": records} | ({} if last else {"NextShardIterator": f"{shard}@{int(page) + 1}"})

    streams = SimpleNamespace(
        describe_stream=lambda **_: {"StreamDescription": {"Shards": shards}},
        get_shard_iterator=lambda ShardId, **_: {"ShardIterator": f"{ShardId}@0"},  # noqa: N803
        get_records=get_records,
    )
    tables = SimpleNamespace(describe_table=lambda **_: {"Table": {"LatestStreamArn": "arn"}})
    monkeypatch.setattr(stack, "aws_client", lambda service, _: tables if service == "dynamodb" else streams)
    functions = Functions()
    target = runner.Target("object_rows", functions.object_rows)
    read = runner.Stream("t", target, {}, tmp_path / "positions", threading.Event())
    for _ in range(6):
        read.read_on()
    assert functions.names() == ["1", "2", "3"]


def waiting(aws: stack.EmbeddedAWS, queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)
