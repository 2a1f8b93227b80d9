"""What PynamoDB's models need beside themselves: the shared lean client, and writes that tell what they met.

Each write here is one conditional call. `ConditionFailed.row` is the row that stood in its way, so that the
caller can tell its own earlier write (an SDK retry whose first answer was lost) from another writer's.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Self, cast

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.attributes import BooleanAttribute, JSONAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.connection.table import TableConnection
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action
from pynamodb.models import Model

from chalicelib import aws, seam
from chalicelib.errors import Unavailable
from chalicelib.settings import settings

Item = dict[str, dict[str, Any]]
"""A row as DynamoDB's JSON has it: `{"name": {"S": "a.txt"}}`."""
# AWS limits, in keys: BatchWriteItem, BatchGetItem.
BATCH_WRITE_LIMIT = 25
BATCH_READ_LIMIT = 100
# Seconds.
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0

__all__ = ["BooleanAttribute", "JSONAttribute", "NumberAttribute", "UnicodeAttribute"]


class ConditionFailed(Exception):
    """A conditional write was refused; `row` is what stood there, None when nothing did."""

    def __init__(self, row: Any) -> None:
        super().__init__("the condition of a write did not hold")
        self.row = row


class TransactionFailed(Exception):
    """A transaction changed nothing; `rows` has, for each write in order, what stood in its way.

    An entry is None for a write whose condition held, else a ConditionFailed. `conflict` tells that another
    transaction was at work on a row, so that the same transaction may succeed when tried again.
    """

    def __init__(self, rows: list[ConditionFailed | None], conflict: bool) -> None:
        super().__init__("the condition of a transaction did not hold")
        self.rows = rows
        self.conflict = conflict


def call(operation: str, **parameters: Any) -> dict[str, Any]:
    """One DynamoDB call on the shared client.

    Raises Unavailable when DynamoDB cannot be reached or has no room, and ClientError for everything that a
    caller must tell apart (conditions, transactions) or that is our own mistake.
    """
    try:
        return cast(dict[str, Any], aws.client("dynamodb")._make_api_call(operation, parameters))
    except ClientError as error:
        if error.response["Error"]["Code"] in _NO_ROOM:
            raise Unavailable("the table is busy; try again shortly") from error
        raise
    except BotoCoreError as error:
        raise Unavailable("the tables cannot be reached; try again shortly") from error


_NO_ROOM = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionInProgressException",
    }
)


def table_name(noun: str) -> str:
    """The deployed name of the table that holds `noun`."""
    return f"{settings().table_prefix}-{noun}"


def tries(refused: str = "the table is busy; try again shortly", number: int = 8) -> Iterator[None]:
    """Tries with growing, random pauses between them; raises Unavailable saying `refused` after the last."""
    for attempt in range(number):
        if attempt:
            seam.sleep(seam.jitter(min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)))
        yield
    raise Unavailable(refused)


class Table(Model):
    """A PynamoDB model on the shared client, with consistent reads and writes that report."""

    @classmethod
    def _get_connection(cls) -> TableConnection:
        connection = super()._get_connection()
        connection.connection._client = aws.client("dynamodb")
        return connection

    # ---- reading -------------------------------------------------------------------------------------
    @classmethod
    def key(cls, partition: str, sort: str | None = None) -> Item:
        """The primary key of a row as DynamoDB's JSON has it."""
        hash_name, range_name = cls._key_names()
        return {hash_name: {"S": partition}} | ({} if sort is None else {range_name: {"S": sort}})

    @classmethod
    @cache
    def _key_names(cls) -> tuple[str, str]:
        attributes = cls.get_attributes()
        named = [attributes[name].attr_name if name else "" for name in (cls._hash_keyname, cls._range_keyname)]
        return named[0], named[1]

    @classmethod
    def read(cls, partition: str, sort: str | None = None) -> Self | None:
        """The row as it stands (a consistent read), or None."""
        answer = call("GetItem", TableName=cls.Meta.table_name, Key=cls.key(partition, sort), ConsistentRead=True)
        return cls.from_raw_data(answer["Item"]) if "Item" in answer else None

    @classmethod
    def pages(cls, **query: Any) -> Iterator[list[Item]]:
        """The raw rows of a Query, page by page, to its end."""
        start: dict[str, Any] = {}
        while True:
            answer = call("Query", TableName=cls.Meta.table_name, **query, **start)
            yield answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    @classmethod
    def pages_of(cls, partition: str, **more: Any) -> Iterator[list[Item]]:
        """The raw rows under one partition key as they stand, page by page, in the order of their sort key."""
        query = {"KeyConditionExpression": "#partition = :partition", "ExpressionAttributeNames": {"#partition": cls._key_names()[0]}}
        return cls.pages(**query, ExpressionAttributeValues={":partition": {"S": partition}}, ConsistentRead=True, **more)

    @classmethod
    def all_of(cls, partition: str) -> list[Self]:
        """Every row under one partition key as it stands."""
        return [cls.from_raw_data(item) for page in cls.pages_of(partition) for item in page]

    # ---- writing -------------------------------------------------------------------------------------
    def put(self, condition: Condition) -> None:
        """Write the whole row if `condition` holds for what stands there; raises ConditionFailed."""
        self._write("PutItem", self.get_save_kwargs_from_instance(condition, return_values_on_condition_failure="ALL_OLD"))

    def remove(self, condition: Condition) -> None:
        """Delete the row if `condition` holds for what stands there; raises ConditionFailed."""
        self._write("DeleteItem", self.get_delete_kwargs_from_instance(condition, return_values_on_condition_failure="ALL_OLD"))

    def change(self, actions: Sequence[Action], condition: Condition) -> None:
        """Update attributes if `condition` holds, and take over the row that results; raises ConditionFailed."""
        update = self.get_update_kwargs_from_instance(list(actions), condition, return_values_on_condition_failure="ALL_OLD")
        self.deserialize(self._write("UpdateItem", update | {"ReturnValues": "ALL_NEW"})["Attributes"])

    @classmethod
    def setting(cls, values: Mapping[str, Any]) -> list[Action]:
        """The actions that set attributes, by their names here, and remove those that are None."""
        attributes = cls.get_attributes()
        return [attributes[name].remove() if value is None else attributes[name].set(value) for name, value in values.items()]

    def _write(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        for _ in tries():
            try:
                return call(operation, **parameters)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "ConditionalCheckFailedException":
                    item = error.response.get("Item")
                    raise ConditionFailed(self.from_raw_data(item) if item else None) from error
                if code != "TransactionConflictException":  # a transaction is at work on the row: soon over
                    raise
        raise AssertionError("tries() ends by raising")


def scan(model: type[Table], **more: Any) -> Iterator[list[Item]]:
    """Every raw row of a table, page by page, consistently."""
    start: dict[str, Any] = {}
    while True:
        answer = call("Scan", TableName=model.Meta.table_name, ConsistentRead=True, **more, **start)
        yield answer["Items"]
        if "LastEvaluatedKey" not in answer:
            return
        start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def read_together(*wanted: tuple[type[Table], str, str | None]) -> list[Any]:
    """Rows of several tables, 100 in one consistent BatchGetItem; None in place of a row that is not there."""
    starts = range(0, len(wanted), BATCH_READ_LIMIT)
    return [row for start in starts for row in _read_at_once(wanted[start : start + BATCH_READ_LIMIT])]


def _read_at_once(wanted: Sequence[tuple[type[Table], str, str | None]]) -> list[Any]:
    requests: dict[str, Any] = {}
    for model, partition, sort in wanted:
        request = requests.setdefault(model.Meta.table_name, {"ConsistentRead": True, "Keys": []})
        request["Keys"].append(model.key(partition, sort))
    found: dict[str, list[Item]] = {}
    for _ in tries():
        answer = call("BatchGetItem", RequestItems=requests)
        for table, items in answer["Responses"].items():
            found.setdefault(table, []).extend(items)
        requests = answer.get("UnprocessedKeys") or {}
        if not requests:
            break
    rows: list[Any] = []
    for model, partition, sort in wanted:
        key = model.key(partition, sort).items()
        match = (item for item in found.get(model.Meta.table_name, ()) if key <= item.items())
        item: Item | None = next(match, None)
        rows.append(model.from_raw_data(item) if item else None)
    return rows


def write_all(writes: Sequence[tuple[type[Table], dict[str, Any]]]) -> None:
    """Unconditional puts and deletes (`{"PutRequest": …}`), 25 a call, until each is taken."""
    for start in range(0, len(writes), BATCH_WRITE_LIMIT):
        requests: dict[str, list[dict[str, Any]]] = {}
        for model, write in writes[start : start + BATCH_WRITE_LIMIT]:
            requests.setdefault(model.Meta.table_name, []).append(write)
        for _ in tries():
            requests = call("BatchWriteItem", RequestItems=requests).get("UnprocessedItems") or {}
            if not requests:
                break


class Transaction:
    """Writes that happen together or not at all; a context manager that commits at its end.

    botocore adds a ClientRequestToken, so a retry inside the SDK whose first answer was lost is not a second
    write. Raises TransactionFailed.
    """

    def __init__(self) -> None:
        self._writes: list[tuple[Table, dict[str, Any]]] = []

    def put(self, row: Table, condition: Condition | None = None) -> None:
        self._add("Put", row, row.get_save_kwargs_from_instance(condition, return_values_on_condition_failure="ALL_OLD"))

    def remove(self, row: Table, condition: Condition) -> None:
        self._add("Delete", row, row.get_delete_kwargs_from_instance(condition, return_values_on_condition_failure="ALL_OLD"))

    def check(self, row: Table, condition: Condition) -> None:
        """Write nothing to a row, but only commit if `condition` holds for it."""
        wanted = row.get_delete_kwargs_from_instance(condition, return_values_on_condition_failure="ALL_OLD")
        self._add("ConditionCheck", row, wanted)

    def change(self, row: Table, actions: Sequence[Action], condition: Condition) -> None:
        update = row.get_update_kwargs_from_instance(list(actions), condition, return_values_on_condition_failure="ALL_OLD")
        self._add("Update", row, update)

    def _add(self, action: str, row: Table, parameters: dict[str, Any]) -> None:
        self._writes.append((row, {action: parameters}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self._commit()

    def _commit(self) -> None:
        try:
            call("TransactWriteItems", TransactItems=[write for _, write in self._writes])
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
            raise self._explain(error.response.get("CancellationReasons", [])) from error

    def _explain(self, reasons: list[dict[str, Any]]) -> Exception:
        codes = {reason.get("Code") for reason in reasons}
        if codes & {"ThrottlingError", "ProvisionedThroughputExceeded"}:
            return Unavailable("the table is busy; try again shortly")
        rows: list[ConditionFailed | None] = []
        for (row, _), reason in zip(self._writes, reasons, strict=True):
            refused = reason.get("Code") == "ConditionalCheckFailed"
            item = reason.get("Item")
            rows.append(ConditionFailed(row.from_raw_data(item) if item else None) if refused else None)
        return TransactionFailed(rows, conflict="TransactionConflict" in codes)


def read_snapshot(*wanted: tuple[type[Table], str, str]) -> list[Any]:
    """Rows as they stood at one moment (TransactGetItems); None in place of a row that is not there."""
    items = [{"Get": {"TableName": model.Meta.table_name, "Key": model.key(partition, sort)}} for model, partition, sort in wanted]
    for _ in tries():
        try:
            answer = call("TransactGetItems", TransactItems=items)
            break
        except ClientError as error:  # a transaction that writes one of these rows is under way
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
    found = zip(wanted, answer["Responses"], strict=True)
    return [model.from_raw_data(got["Item"]) if got.get("Item") else None for (model, _, _), got in found]
