"""What follows from a change of an object's row: garbage, events, counters.

Fed by the stream of the objects table, which repeats records and reorders them between objects, so filing is
idempotent and events can be told apart; counters are added to and so only approximate. The order matters:
what must not be lost comes first, and a batch that fails part-way is delivered again whole.
No provider is called here.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib.core import events, garbage
from chalicelib.core.events import Event
from chalicelib.observability import logger
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.garbage import Garbage
from chalicelib.tables.objects import Placement, StoredObject, UsedToken
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
    return garbage.entry(old.partition, old.name, old.version, old.physical_key, change.time)


def _event(change: Change) -> Event | None:
    row = change.after or change.before
    if row is None:
        return None
    kind = "object.created" if change.before is None else "object.removed" if change.after is None else "object.updated"
    detail = {
        "event_id": f"{row.version}.{int(row.revision)}.{kind}",
        "tenant_id": row.partition.partition("#")[0],
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


def _count(changes: list[Change]) -> None:
    objects: dict[tuple[str, str], int] = defaultdict(int)
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for change in changes:
        for row, sign in ((change.before, -1), (change.after, 1)):
            if row is not None:
                objects[row.partition, row.bucket] += sign
                sizes[row.partition, row.bucket] += sign * int(row.size)
    for (partition, bucket), number in objects.items():
        _add(partition, bucket, number, sizes[partition, bucket])


def _add(partition: str, name: str, objects: int, size: int) -> None:
    if not objects and not size:
        return
    tenant_id, _, bucket_id = partition.partition("#")
    actions = [Bucket.object_count.add(objects), Bucket.total_size_bytes.add(size)]
    try:
        Bucket(tenant_id, name).change(actions, Bucket.bucket_id == bucket_id)
    except ConditionFailed:
        return  # deleted, or its name was taken anew: nobody asks for these counts
    except Exception:  # delivering the batch again would count the other buckets twice
        logger().exception("a counter was not moved", extra={"bucket_id": bucket_id})
