"""Reads and writes that tell what they met, on DynamoDB; faults are put in where one cannot be had for real."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import botocore.endpoint
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from chalicelib import aws, seam
from chalicelib.errors import Unavailable
from chalicelib.tables import table
from chalicelib.tables.garbage import Garbage
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import ConditionFailed, Transaction, TransactionFailed, read_snapshot, read_together, write_all
from tests.conftest import Call

pytestmark = pytest.mark.usefixtures("embedded")


@pytest.fixture
def partition() -> str:
    return f"~{seam.new_uuid()}"  # after every hour that the garbage collector looks at


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that Stowage would have made; botocore makes none either."""
    slept: list[float] = []
    monkeypatch.setattr(seam, "sleep", slept.append)
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda seconds: None))
    return slept


def row(partition: str, name: str = "a", revision: int = 1) -> StoredObject:
    return StoredObject(
        partition, name, id="1", version="v", revision=revision, bucket="b", physical_key="k", size=5, content_type="x/y",
        created_at="2026", updated_at="2026", tokens_not_before="2026",
    )  # fmt: skip


new = StoredObject.name.does_not_exist()


# ---- one row -------------------------------------------------------------------------------------------------------
def test_a_row_is_read_as_it_was_written(partition: str) -> None:
    row(partition).put(new)
    read = StoredObject.read(partition, "a")
    assert read is not None
    assert read.attribute_values == row(partition).attribute_values
    assert StoredObject.read(partition, "b") is None


def test_a_refused_write_carries_the_row_that_stood_there(partition: str) -> None:
    row(partition, revision=7).put(new)
    for write in (
        lambda: row(partition).put(new),
        lambda: row(partition).remove(StoredObject.revision == 1),
        lambda: row(partition).change([StoredObject.size.set(1)], StoredObject.revision == 1),
    ):
        with pytest.raises(ConditionFailed) as refused:
            write()
        assert isinstance(refused.value.row, StoredObject)
        assert (refused.value.row.name, refused.value.row.revision) == ("a", 7)
    read = StoredObject.read(partition, "a")
    assert read is not None
    assert (read.revision, read.size) == (7, 5)


def test_a_write_refused_over_nothing_carries_none(partition: str) -> None:
    with pytest.raises(ConditionFailed) as refused:
        row(partition).change([StoredObject.size.set(1)], StoredObject.revision == 1)
    assert refused.value.row is None


def test_a_change_takes_over_the_row_that_results(partition: str) -> None:
    changed = row(partition)
    changed.put(new)
    changed.change([StoredObject.size.add(3), StoredObject.revision.set(2)], StoredObject.revision == 1)
    assert (changed.size, changed.revision) == (8, 2)


def test_a_removed_row_is_gone(partition: str) -> None:
    row(partition).put(new)
    row(partition).remove(StoredObject.revision == 1)
    assert StoredObject.read(partition, "a") is None


def test_pages_go_to_the_end(partition: str) -> None:
    write_all([(StoredObject, {"PutRequest": {"Item": row(partition, f"{number:02}").serialize()}}) for number in range(7)])
    values = {":p": {"S": partition}}
    pages = list(
        StoredObject.pages(
            KeyConditionExpression="#p = :p", ExpressionAttributeNames={"#p": "partition"}, ExpressionAttributeValues=values, Limit=3
        )
    )
    assert [item["name"]["S"] for page in pages for item in page] == [f"{number:02}" for number in range(7)]
    assert all(len(page) <= 3 for page in pages)


def test_a_key_is_dynamodbs_json() -> None:
    assert StoredObject.key("p", "n") == {"partition": {"S": "p"}, "name": {"S": "n"}}
    assert Job.key("j") == {"job_id": {"S": "j"}}


def test_models_share_the_one_client(partition: str) -> None:
    assert StoredObject._get_connection().connection._client is aws.client("dynamodb")


# ---- several rows --------------------------------------------------------------------------------------------------
def test_rows_of_several_tables_come_in_one_call_in_the_order_asked(partition: str, calls: list[Call]) -> None:
    row(partition).put(new)
    filed = Garbage(partition, "k", due_at=1, partition="p", name="n", version="v")
    filed.put(Garbage.hour.does_not_exist())
    calls.clear()
    found = read_together((Garbage, partition, "k"), (StoredObject, partition, "never"), (StoredObject, partition, "a"))
    assert [type(each) for each in found] == [Garbage, type(None), StoredObject]
    assert calls == [Call("dynamodb", "BatchGetItem")]


def test_a_snapshot_has_rows_and_none(partition: str) -> None:
    row(partition).put(new)
    found = read_snapshot((StoredObject, partition, "never"), (StoredObject, partition, "a"))
    assert found[0] is None
    assert found[1].name == "a"


class Stingy:
    """Answers of DynamoDB that leave all but the first key or write unprocessed, `times` times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.times, self.calls = times, 0
        self._call = table.call
        monkeypatch.setattr(table, "call", self)

    def __call__(self, operation: str, **parameters: Any) -> dict[str, Any]:
        if "RequestItems" not in parameters:
            return self._call(operation, **parameters)
        self.calls += 1
        requests = parameters["RequestItems"]
        if self.calls > self.times:
            return self._call(operation, RequestItems=requests)
        name = next(iter(requests))
        if operation == "BatchGetItem":
            keys = requests[name]["Keys"]
            taken = {name: requests[name] | {"Keys": keys[:1]}}
            left = {**requests, name: requests[name] | {"Keys": keys[1:]}}
            return self._call(operation, RequestItems=taken) | {
                "UnprocessedKeys": {each: kept for each, kept in left.items() if kept["Keys"]}
            }
        taken = {name: requests[name][:1]}
        left = {**requests, name: requests[name][1:]}
        return self._call(operation, RequestItems=taken) | {"UnprocessedItems": {each: kept for each, kept in left.items() if kept}}


def test_keys_that_were_not_processed_are_asked_for_again(partition: str, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a", "b", "c", "d"]
    for name in names:
        row(partition, name).put(new)
    stingy = Stingy(monkeypatch, times=2)
    found = read_together(*((StoredObject, partition, name) for name in names))
    assert [each.name for each in found] == names
    assert stingy.calls == 3
    assert len(pauses) == 2


def test_writes_that_were_not_taken_are_sent_again(partition: str, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stingy = Stingy(monkeypatch, times=2)
    names = [f"{number:02}" for number in range(30)]
    write_all([(StoredObject, {"PutRequest": {"Item": row(partition, name).serialize()}}) for name in names])
    assert all(StoredObject.read(partition, name) for name in names)
    assert stingy.calls == 2 + 2
    write_all([(StoredObject, {"DeleteRequest": {"Key": StoredObject.key(partition, name)}}) for name in names])
    assert not any(StoredObject.read(partition, name) for name in names)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: read_together((StoredObject, "p", "a")),
        lambda: write_all([(StoredObject, {"DeleteRequest": {"Key": StoredObject.key("p", "a")}})]),
    ],
    ids=["read", "write"],
)
def test_what_is_never_processed_is_unavailable(pauses: list[float], monkeypatch: pytest.MonkeyPatch, ask: Callable[[], object]) -> None:
    def never(operation: str, **parameters: Any) -> dict[str, Any]:
        return {"Responses": {}, "UnprocessedKeys": parameters["RequestItems"], "UnprocessedItems": parameters["RequestItems"]}

    monkeypatch.setattr(table, "call", never)
    with pytest.raises(Unavailable):
        ask()
    assert len(pauses) == 7
    assert sum(pauses) < 28


# ---- transactions --------------------------------------------------------------------------------------------------
def test_a_transaction_writes_all(partition: str) -> None:
    row(partition, "old").put(new)
    row(partition, "change").put(new)
    with Transaction() as transaction:
        transaction.put(row(partition, "new"), new)
        transaction.remove(row(partition, "old"), StoredObject.revision == 1)
        transaction.change(row(partition, "change"), [StoredObject.revision.set(2)], StoredObject.revision == 1)
    assert StoredObject.read(partition, "new")
    assert StoredObject.read(partition, "old") is None
    changed = StoredObject.read(partition, "change")
    assert changed is not None
    assert changed.revision == 2


def test_a_refused_transaction_changes_nothing_and_tells_each_reason(partition: str) -> None:
    row(partition, "there", revision=7).put(new)
    with pytest.raises(TransactionFailed) as refused, Transaction() as transaction:  # noqa: PT012  it commits at its end
        transaction.put(row(partition, "fine"), new)
        transaction.put(row(partition, "there"), new)
        transaction.remove(row(partition, "absent"), StoredObject.revision == 1)
    fine, there, absent = refused.value.rows
    assert fine is None
    assert there is not None
    assert (there.row.name, there.row.revision) == ("there", 7)
    assert absent is not None
    assert absent.row is None
    assert not refused.value.conflict
    assert StoredObject.read(partition, "fine") is None


def test_a_transaction_whose_body_fails_writes_nothing(partition: str, calls: list[Call]) -> None:
    calls.clear()
    with pytest.raises(KeyError), Transaction() as transaction:  # noqa: PT012  it commits at its end
        transaction.put(row(partition), new)
        raise KeyError
    assert calls == []


def test_reasons_are_of_the_type_of_their_write(partition: str) -> None:
    Garbage(partition, "k", due_at=1, partition="p", name="n", version="v").put(Garbage.hour.does_not_exist())
    with pytest.raises(TransactionFailed) as refused, Transaction() as transaction:  # noqa: PT012  it commits at its end
        transaction.put(row(partition), new)
        transaction.put(Garbage(partition, "k", due_at=2, partition="p", name="n", version="v"), Garbage.hour.does_not_exist())
    assert refused.value.rows[1] is not None
    assert isinstance(refused.value.rows[1].row, Garbage)


def cancelled(*codes: str) -> ClientError:
    reasons = [{"Code": code} for code in codes]
    return ClientError({"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}, "TransactWriteItems")  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize(
    ("codes", "conflict"),
    [
        (("TransactionConflict", "None"), True),
        (("None", "ConditionalCheckFailed"), False),
        (("TransactionConflict", "ConditionalCheckFailed"), True),
    ],
)
def test_a_conflict_is_told(monkeypatch: pytest.MonkeyPatch, codes: tuple[str, str], conflict: bool) -> None:
    def refuse(operation: str, **parameters: Any) -> dict[str, Any]:
        raise cancelled(*codes)

    monkeypatch.setattr(table, "call", refuse)
    with pytest.raises(TransactionFailed) as refused, Transaction() as transaction:  # noqa: PT012  it commits at its end
        transaction.put(row("p", "a"), new)
        transaction.put(row("p", "b"), new)
    assert refused.value.conflict is conflict
    assert [each is not None for each in refused.value.rows] == [code == "ConditionalCheckFailed" for code in codes]


@pytest.mark.parametrize("code", ["ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_throttled_transaction_is_unavailable(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def refuse(operation: str, **parameters: Any) -> dict[str, Any]:
        raise cancelled(code)

    monkeypatch.setattr(table, "call", refuse)
    with pytest.raises(Unavailable), Transaction() as transaction:
        transaction.put(row("p"), new)


def test_a_snapshot_waits_for_a_transaction_under_way(partition: str, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    row(partition).put(new)
    call, failures = table.call, [cancelled("TransactionConflict")] * 2

    def conflict(operation: str, **parameters: Any) -> dict[str, Any]:
        if failures:
            raise failures.pop()
        return call(operation, **parameters)

    monkeypatch.setattr(table, "call", conflict)
    assert read_snapshot((StoredObject, partition, "a"))[0].name == "a"
    assert len(pauses) == 2


# ---- a DynamoDB that has no room, or is not there ------------------------------------------------------------------
@pytest.fixture
def answering() -> Iterator[Any]:
    """Makes DynamoDB answer every call with an error of this code; gives how often it was asked."""
    client = aws.client("dynamodb")
    asked: list[str] = []
    chosen: dict[str, Any] = {}

    def answer(request: Any, **_: Any) -> AWSResponse:
        asked.append(request.url)
        body = f'{{"__type":"com.amazonaws.dynamodb.v20120810#{chosen["code"]}","message":"x"}}'.encode()
        raw = SimpleNamespace(stream=lambda *_, **__: iter([body]), read=lambda *_: body)
        return AWSResponse(request.url, chosen["status"], {"content-type": "application/x-amz-json-1.0"}, raw)

    def set_up(code: str, status: int) -> list[str]:
        chosen.update(code=code, status=status)
        return asked

    client.meta.events.register_first("before-send.dynamodb.*", answer)
    yield set_up
    client.meta.events.unregister("before-send.dynamodb.*", answer)


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ThrottlingException", 400),
        ("ProvisionedThroughputExceededException", 400),
        ("RequestLimitExceeded", 400),
        ("TransactionInProgressException", 400),
        ("InternalServerError", 500),
        ("ServiceUnavailable", 503),
    ],
)
def test_a_table_without_room_is_unavailable_after_three_tries(answering: Any, code: str, status: int) -> None:
    asked = answering(code, status)
    with pytest.raises(Unavailable) as refused:
        StoredObject.read("p", "a")
    assert refused.value.status == 503
    assert 1 <= len(asked) <= aws.ATTEMPTS


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("code", ["ValidationException", "ResourceNotFoundException", "AccessDeniedException"])
def test_our_own_mistakes_are_not_called_unavailable(answering: Any, code: str) -> None:
    asked = answering(code, 400)
    with pytest.raises(ClientError):
        StoredObject.read("p", "a")
    assert len(asked) == 1


@pytest.mark.usefixtures("pauses")
def test_a_dynamodb_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = aws.session().create_client("dynamodb", region_name="us-east-1", endpoint_url="http://127.0.0.1:1", config=aws.config())
    monkeypatch.setattr(aws, "client", lambda service: lost)
    with pytest.raises(Unavailable):
        StoredObject.read("p", "a")
