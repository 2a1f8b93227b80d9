"""The embedded AWS, provisioned from the deployed CloudFormation."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import stack
from tests.local.http_client import LOOPBACK, listening_on


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.EmbeddedAWS]:
    """A running embedded AWS with its stack."""
    embedded = stack.EmbeddedAWS(tmp_path_factory.mktemp("aws"))
    embedded.start()
    try:
        assert stack.provision(embedded, stack.local_template())
        yield embedded
    finally:
        embedded.stop()


def deployed() -> dict[str, Any]:
    resources: dict[str, Any] = stack.read_template()["Resources"]
    return resources


def test_every_table_queue_and_bus_of_the_template_is_provisioned(aws: stack.EmbeddedAWS) -> None:
    wanted = {name for name, resource in deployed().items() if resource.get("Type") in stack.PROVISIONED}
    described = aws.client("cloudformation").describe_stack_resources(StackName=stack.STACK)["StackResources"]
    assert {resource["LogicalResourceId"] for resource in described} == wanted | {stack.EVENTS_QUEUE}


def test_tables_have_the_keys_indexes_and_streams_of_the_template(aws: stack.EmbeddedAWS) -> None:
    dynamodb = aws.client("dynamodb")
    for resource in deployed().values():
        if resource.get("Type") != "AWS::DynamoDB::Table":
            continue
        properties = resource["Properties"]
        name = properties["TableName"]["Fn::Sub"].replace("${Prefix}", "stowage")
        table = dynamodb.describe_table(TableName=name)["Table"]
        assert table["KeySchema"] == properties["KeySchema"]
        made = {index["IndexName"] for index in table.get("GlobalSecondaryIndexes", [])}
        assert made == {index["IndexName"] for index in properties.get("GlobalSecondaryIndexes", [])}
        assert ("LatestStreamArn" in table) == ("StreamSpecification" in properties)


def test_provisioning_again_changes_nothing(aws: stack.EmbeddedAWS) -> None:
    assert not stack.provision(aws, stack.local_template())


def test_events_of_the_bucket_arrive_in_the_local_queue_with_the_deployed_filter(aws: stack.EmbeddedAWS) -> None:
    outputs = stack.outputs(aws)
    s3, sqs = aws.client("s3"), aws.client("sqs")
    for key in ("objects/a/b.txt", "objects/a/c d.direct", "other/e.direct", "deltas/k/d", "deltas"):
        s3.put_object(Bucket=outputs["InternalBucket"], Key=key, Body=b"x")
    keys = []
    for _ in range(4):
        answer = sqs.receive_message(QueueUrl=outputs[stack.EVENTS_QUEUE], MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            keys += [record["s3"]["object"]["key"] for record in json.loads(message["Body"]).get("Records", [])]
    assert sorted(keys) == ["deltas/k/d", "objects/a/c+d.direct"]


def test_it_listens_on_loopback_only(aws: stack.EmbeddedAWS) -> None:
    assert listening_on(int(aws.endpoint.rpartition(":")[2])) == {LOOPBACK}


def test_rows_objects_messages_and_the_port_survive_a_clean_stop(tmp_path: Path) -> None:
    first = stack.EmbeddedAWS(tmp_path)
    first.start()
    stack.provision(first, stack.local_template())
    outputs = stack.outputs(first)
    item = {"tenant_id": {"S": "t"}, "raw": {"B": b"\xff\x00"}, "many": {"SS": ["a", "b"]}}
    first.client("dynamodb").put_item(TableName="stowage-tenants", Item=item)
    first.client("s3").put_object(Bucket=outputs["InternalBucket"], Key="ü/k", Body=b"bytes", ContentType="text/x", Metadata={"a": "b"})
    first.client("sqs").send_message(QueueUrl=outputs["JobsQueueUrl"], MessageBody="job")
    assert first.stop()

    second = stack.EmbeddedAWS(tmp_path)
    second.start()
    try:
        assert second.endpoint == first.endpoint
        assert not stack.provision(second, stack.local_template())
        found = second.client("dynamodb").get_item(TableName="stowage-tenants", Key={"tenant_id": {"S": "t"}})["Item"]
        assert found == item
        stored = second.client("s3").get_object(Bucket=outputs["InternalBucket"], Key="ü/k")
        assert (stored["Body"].read(), stored["ContentType"], stored["Metadata"]) == (b"bytes", "text/x", {"a": "b"})
        waiting = second.client("sqs").receive_message(QueueUrl=stack.outputs(second)["JobsQueueUrl"])["Messages"]
        assert [message["Body"] for message in waiting] == ["job"]
    finally:
        second.stop()


def test_another_port_is_taken_when_the_remembered_one_is_not_free(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (tmp_path / "port").write_text(str(taken.getsockname()[1]))
        embedded = stack.EmbeddedAWS(tmp_path)
        embedded.start()
        try:
            assert embedded.endpoint != f"http://127.0.0.1:{taken.getsockname()[1]}"
            assert stack.port_is_free(taken.getsockname()[1]) is False
        finally:
            embedded.stop()


def test_the_fingerprint_is_that_of_the_resources_alone() -> None:
    template = stack.local_template()
    same = template | {"Outputs": {}}
    other = template | {"Resources": template["Resources"] | {"Extra": {"Type": "AWS::SQS::Queue"}}}
    assert stack.fingerprint(same) == stack.fingerprint(template) != stack.fingerprint(other)


def test_nothing_local_refers_to_what_is_not_provisioned() -> None:
    template = stack.local_template()
    named = set(stack._names([template["Resources"], template["Outputs"], template["Conditions"]]))
    assert named <= template["Resources"].keys() | template["Parameters"].keys() | template["Conditions"].keys()


CHILD = "from infra import lifeline; import time; lifeline.watch(); time.sleep(60)"
STARTER = (
    f"import sys, time; from infra import stack; stack.spawn([sys.executable, '-c', {CHILD!r}], {{}}); print(flush=True); time.sleep(60)"
)


def test_a_child_ends_when_its_starter_is_killed() -> None:
    root = stack.TEMPLATE.parent.parent
    with subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True, cwd=root) as starter:
        assert starter.stdout
        starter.stdout.readline()
        starter.send_signal(signal.SIGKILL)
        started = time.monotonic()
        starter.stdout.read()  # the child has inherited the other end: this waits for it to close
    assert time.monotonic() - started < 30
