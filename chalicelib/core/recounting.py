"""The counters of buckets, folders and storages, held against what they count: a slice an hour, a round a week.

They are moved by the stream of the objects table, which may repeat a record, or lose one in the end. A count takes a while, in which
objects come and go, and a counter follows by moments: so what lies between the counter before a count and after it is no error, and
only what is found amiss twice, an hour apart at least, is put right, as far as both agree. Until then it is noted in the counter's own
row. Noting and putting right is one write, so a run that dies leaves a counter either way, and the next one counts anew.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

from chalicelib import seam
from chalicelib.core import buckets, rounds
from chalicelib.observability import logger
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.folders import Folder, is_folder
from chalicelib.tables.objects import StoredObject, index_key
from chalicelib.tables.storages import Storage, is_storage
from chalicelib.tables.table import ConditionFailed, Item, call

KIND = "counters"
READ_AT_ONCE = 100
# Seconds between two sightings of one error.
APART = 3600

Counter = Bucket | Folder | Storage
"""A row with `object_count` and `total_size_bytes`."""
_MODELS: tuple[type[Counter], ...] = (Bucket, Folder, Storage)


@dataclass(slots=True)
class Report:
    """What a run did: counters that it held against what they count; `wrong` ones are noted, or `mended`."""

    counted: int = 0
    wrong: int = 0
    mended: int = 0
    round_ended: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Count:
    """A count of what lies under `key`, with the counters as they were before it; `start` None: it is done."""

    key: Item
    before: tuple[int, int]
    objects: int = 0
    size: int = 0
    start: Item | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    examined: int
    position: Any


def run(seconds_left: Callable[[], float], dry_run: bool = False) -> Report:
    """The next slice of the round; dry, what is wrong is only told."""
    report = Report()
    along = partial(_along, report, dry_run, cache(partial(buckets.partition_of, name=FILES)))
    for batch in rounds.going_on(KIND, along, seconds_left, dry_run):
        report.round_ended = batch.position is None
    return report


def _along(report: Report, dry_run: bool, drive_of: Callable[[str], str], position: Any) -> Iterator[_Batch]:
    """Every counter, a table after the other. A position is the table, the key that was last, and the count that is under way."""
    number, last, begun = position or (0, None, None)
    while number < len(_MODELS):
        start = {"ExclusiveStartKey": last} if last else {}
        page = call("Scan", TableName=_MODELS[number].Meta.table_name, Limit=READ_AT_ONCE, **start)
        for row in _counters(_MODELS[number], page["Items"]):
            count = _begin(row, begun)
            for examined in _go_on(row, count, drive_of):
                if count.start is not None:
                    yield _Batch(examined, [number, last, asdict(count)])
            report.counted += 1
            _settle(row, count, report, dry_run)
            last = count.key
        last, begun = page.get("LastEvaluatedKey"), None
        number += last is None
        yield _Batch(len(page["Items"]), [number, last, None] if number < len(_MODELS) else None)


def _counters(model: type[Counter], items: list[Item]) -> Iterator[Counter]:
    is_one = {Bucket: lambda _: True, Folder: is_folder, Storage: is_storage}[model]
    return (model.from_raw_data(item) for item in items if is_one(item))


# ---- counting ------------------------------------------------------------------------------------------
def _begin(row: Counter, begun: dict[str, Any] | None) -> _Count:
    """The count that is under way, if it is of this row, or a new one."""
    key = type(row).key(*_key_of(row))
    if begun is not None and begun["key"] == key:
        return _Count(**begun)
    return _Count(key, (int(row.object_count), int(row.total_size_bytes)))


def _key_of(row: Counter) -> tuple[str, str]:
    return row.tenant_id, row.name if isinstance(row, Bucket) else row.folder_id if isinstance(row, Folder) else row.storage_id


def _go_on(row: Counter, count: _Count, drive_of: Callable[[str], str]) -> Iterator[int]:
    """Count page by page; gives how many rows each had."""
    if isinstance(row, Storage):  # of its buckets, which were held against their objects before
        on_it = [bucket for bucket in Bucket.all_of(row.tenant_id) if bucket.storage_id == row.storage_id]
        count.objects = sum(int(bucket.object_count) for bucket in on_it)
        count.size = sum(int(bucket.total_size_bytes) for bucket in on_it)
        return
    query: dict[str, Any] = {"KeyConditionExpression": "#p = :p", "ProjectionExpression": "#s"}
    if isinstance(row, Bucket):
        attribute, partition = "partition", row.partition
    else:
        attribute, partition = "files_in_folder_key", index_key(drive_of(row.tenant_id), row.folder_id)
        query["IndexName"] = StoredObject.FOLDER_INDEX
    query["ExpressionAttributeNames"] = {"#p": attribute, "#s": "size"}
    query["ExpressionAttributeValues"] = {":p": {"S": partition}}
    while True:
        start = {"ExclusiveStartKey": count.start} if count.start else {}
        page = call("Query", TableName=StoredObject.Meta.table_name, **query, **start)
        count.objects += len(page["Items"])
        count.size += sum(int(item["size"]["N"]) for item in page["Items"])
        count.start = page.get("LastEvaluatedKey")
        yield len(page["Items"])
        if count.start is None:
            return


# ---- what a count shows --------------------------------------------------------------------------------
def _settle(row: Counter, count: _Count, report: Report, dry_run: bool) -> None:
    """Note by how much a counter is wrong, and put right what was noted before and is wrong still."""
    model, current = type(row), type(row).read(*_key_of(row))
    if current is None or current.created_at != row.created_at:
        return
    after = int(current.object_count), int(current.total_size_bytes)
    errors = [_error(*each) for each in zip(count.before, after, (count.objects, count.size), strict=True)]
    report.wrong += any(errors)
    *noted, at = current.miscounted or (0, 0, 0)
    if dry_run or (not any(errors) and current.miscounted is None) or at + APART > seam.timestamp():
        return
    mended = [_agreed(*each) for each in zip(errors, noted, strict=True)]
    left = [error - part for error, part in zip(errors, mended, strict=True)]
    moved = [model.object_count.add(-mended[0]), model.total_size_bytes.add(-mended[1])]
    note = model.setting({"miscounted": [*left, seam.timestamp()] if any(left) else None})
    unchanged = model.miscounted == current.miscounted if current.miscounted else model.miscounted.does_not_exist()
    with suppress(ConditionFailed):  # deleted, or another run is at work beside this one
        current.change([*moved, *note], (model.created_at == row.created_at) & unchanged)
        if any(mended):
            report.mended += 1
            logger().warning("a counter was put right", extra={"counter": model.__name__, "objects": -mended[0], "bytes": -mended[1]})


def _error(before: int, after: int, found: int) -> int:
    """By how much a counter says too much, or too little (below zero), whatever has happened during the count."""
    return max(min(before, after) - found, 0) or min(max(before, after) - found, 0)


def _agreed(error: int, noted: int) -> int:
    """What of an error was there before."""
    return min(error, noted, key=abs) if error * noted > 0 else 0
