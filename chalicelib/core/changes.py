"""What follows from a change of an object's row: garbage, events, counters.

Fed by the stream of the objects table, which repeats records and reorders them between objects, so filing is
idempotent and events can be told apart; counters are added to and so only approximate. The order matters:
what must not be lost comes first, and a batch that fails part-way is delivered again whole.
No provider is called here: what was published of a file is withdrawn by a job.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pynamodb.expressions.condition import Condition

from chalicelib import seam
from chalicelib.core import events, garbage, publishing
from chalicelib.core.events import Event
from chalicelib.observability import logger
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.folders import Folder
from chalicelib.tables.garbage import Garbage
from chalicelib.tables.objects import Placement, StoredObject, UsedToken
from chalicelib.tables.storages import Storage
from chalicelib.tables.table import ConditionFailed

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A row before and after, None where there was none, at `time` (epoch seconds)."""

    before: StoredObject | None
    after: StoredObject | None
    time: float


def consume(records: Iterable[Record]) -> None:
    """Do everything that a batch of stream records calls for; raises when it must be delivered again."""
    changes = [change for record in records if (change := _change(record))]
    garbage.file_all([entry for change in changes if (entry := _superseded(change))])
    publishing.withdraw([(change.before, change.after) for change in changes])
    events.publish([event for change in changes if (event := _event(change))])
    _count(changes)


def _change(record: Record) -> Change | None:
    stream = record["dynamodb"]
    if stream["Keys"]["partition"]["S"].endswith((Placement.SUFFIX, UsedToken.SUFFIX)):
        return None
    before, after = (StoredObject.from_raw_data(stream[image]) if stream.get(image) else None for image in ("OldImage", "NewImage"))
    return Change(before, after, float(stream["ApproximateCreationDateTime"]))


def _superseded(change: Change) -> Garbage | None:
    old = change.before
    if old is None or (change.after and change.after.physical_key == old.physical_key):
        return None
    return garbage.entry_of(old, change.time)


def _event(change: Change) -> Event | None:
    row = change.after or change.before
    if row is None:
        return None
    kind = "object.created" if change.before is None else "object.removed" if change.after is None else "object.updated"
    detail = {
        "event_id": f"{row.version}.{int(row.revision)}.{kind}",
        "tenant_id": row.tenant_id,
        "bucket": row.bucket,
        "name": row.name,
        "id": row.id,
        "version": row.version,
        "size": int(row.size),
        "content_type": row.content_type,
        "checksum": row.checksum,
        "owner_id": row.owner_id,
    }
    return Event(kind, detail, change.time)


@dataclass(slots=True)
class _Counted:
    objects: int = 0
    size: int = 0
    used: float = 0


def _count(changes: list[Change]) -> None:
    buckets: dict[tuple[str, str], _Counted] = defaultdict(_Counted)
    storages: dict[tuple[str, str], _Counted] = defaultdict(_Counted)
    folders: dict[tuple[str, str], _Counted] = defaultdict(_Counted)
    for change in changes:
        for row, sign in ((change.before, -1), (change.after, 1)):
            if row is None:
                continue
            counted = [buckets[row.partition, row.bucket]]
            if row.storage_id is not None:
                counted.append(storages[row.tenant_id, row.storage_id])
            if row.folder_id is not None:
                counted.append(folders[row.tenant_id, row.folder_id])
            for each in counted:
                each.objects += sign
                each.size += sign * int(row.size)
                each.used = max(each.used, change.time if sign > 0 else 0)
    for (partition, bucket), counted_in in buckets.items():
        tenant_id, _, bucket_id = partition.partition("#")
        _add(Bucket(tenant_id, bucket), counted_in, [], Bucket.bucket_id == bucket_id)
    for (tenant_id, folder_id), counted_in in folders.items():
        _add(Folder(tenant_id, folder_id), counted_in, [], Folder.folder_id.exists())
    for (tenant_id, storage_id), counted_in in storages.items():
        used = [Storage.last_used_at.set(seam.iso(seam.at(counted_in.used)))] if counted_in.used else []
        _add(Storage(tenant_id, storage_id), counted_in, used, Storage.storage_id.exists())


def _add(row: Bucket | Folder | Storage, counted: _Counted, more: list[Any], condition: Condition) -> None:
    """Move a row's counters, where there is anything to move; `more` is set along with them."""
    if not counted.objects and not counted.size and not more:
        return
    kind = type(row)
    try:
        row.change([kind.object_count.add(counted.objects), kind.total_size_bytes.add(counted.size), *more], condition)
    except ConditionFailed:
        return  # deleted, or its name was taken anew: nobody asks for these counts
    except Exception:  # delivering the batch again would count the others twice
        logger().exception("a counter was not moved", extra={"row": row.__class__.__name__})
