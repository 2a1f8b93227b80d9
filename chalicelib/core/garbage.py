"""Bytes that no row names any more: filed when they lose their row, removed a day later if that still holds.

A day is longer than any presigned URL lives, so a reader of superseded bytes is never cut off. Filing is safe
whatever the truth: the collector deletes nothing before it has proved, on one consistent snapshot, that no
row names the key. Only a move inside a bucket ever gives old bytes a new row, and it writes where to
(`tables/objects.Placement`) in the same transaction; so when neither the name that was filed nor the place it
was last moved to names the key, no row does, and none ever will again.

Killed at any step, the collector repeats it: deleting twice is harmless, and a row of garbage goes last.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from chalicelib import seam
from chalicelib.core import hours, keeping
from chalicelib.core.hours import HOUR
from chalicelib.core.patience import Patience
from chalicelib.errors import StorageRemoved, StorageUnavailable, StowageError
from chalicelib.tables.garbage import Garbage, Quarantined
from chalicelib.tables.objects import Placement, StoredObject
from chalicelib.tables.table import Table, read_snapshot, read_together, write_all

LIFETIME = 24 * HOUR
QUARANTINE = 7 * 24 * HOUR
CURSOR = "collector"
BATCH = 100
MAX_BACKOFF_HOURS = 24
# After 1, 2, 4, 8 and 16 hours, then daily.
MAX_REFUSALS = 12


@dataclass(slots=True)
class Report:
    """What a run of the collector did, in keys; `left` tells what the storage refused to delete."""

    due: int = 0
    deleted: int = 0
    kept: int = 0
    left: dict[str, str] = field(default_factory=dict)
    finished: bool = True

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def entry(partition: str, name: str, version: str, physical_key: str, since: float, storage_id: str | None = None) -> Garbage:
    """The row that files a key which lost its row at `since` (epoch seconds).

    Filed late, it falls due in the next hour at the earliest: the collector never looks back at an hour.
    """
    due_at = max(since + LIFETIME, seam.timestamp())
    hour = max(seam.hour(due_at), seam.hour(seam.timestamp() + HOUR))
    return Garbage(hour, physical_key, due_at=due_at, partition=partition, name=name, version=version, storage_id=storage_id)


def entry_of(row: StoredObject, since: float) -> Garbage:
    """The same for the bytes of an object's row."""
    return entry(row.partition, row.name, row.version, row.physical_key, since, row.storage_id)


def file_quietly(row: StoredObject) -> None:
    """File the bytes of a row that was not to be, while another error is on its way to the caller."""
    with suppress(StowageError):  # what cannot be filed now stays as an orphan; the caller's own error matters more
        file_all([entry_of(row, seam.timestamp())])


@contextmanager
def filed_on_failure(row: StoredObject) -> Iterator[None]:
    """File a new row's bytes if anything goes wrong from here until the row is there, a lost answer included."""
    try:
        yield
    except Exception:
        file_quietly(row)
        raise


def file_all(entries: list[Garbage]) -> None:
    """File several at once."""
    distinct = {(garbage.hour, garbage.physical_key): garbage for garbage in entries}
    write_all([(Garbage, {"PutRequest": {"Item": garbage.serialize()}}) for garbage in distinct.values()])


def not_deleted(left: Mapping[str, str]) -> StorageUnavailable:
    """What to raise when the storage kept keys that had to go."""
    return StorageUnavailable(f"the storage refused to delete {len(left)} keys")


def collect(seconds_left: Callable[[], float], dry_run: bool = False, patience: Patience | None = None) -> Report:
    """Remove all garbage that is due, oldest hour first, until it is done or time runs out; or only count it."""
    report, patience = Report(), patience or Patience()
    for hour in hours.since(CURSOR, Garbage, "hour", dry_run):
        for batch in _due(hour):
            if seconds_left() <= 0:
                report.finished = False
                return report
            report.due += len(batch)
            if not dry_run:
                _remove(batch, report, patience)
        if hour < seam.hour(seam.timestamp()) and not dry_run:
            hours.emptied(CURSOR, hour)
    return report


def _due(hour: str) -> Iterator[list[Garbage]]:
    for page in Garbage.pages_of(hour, Limit=BATCH):
        rows = [Garbage.from_raw_data(item) for item in page]
        yield [row for row in rows if row.due_at <= seam.timestamp()]


def _remove(batch: list[Garbage], report: Report, patience: Patience) -> None:
    unneeded = [row for row in batch if not is_named(row)]
    report.kept += len(batch) - len(unneeded)
    left = _delete_bytes(unneeded, patience)
    report.left |= left
    report.deleted += len(unneeded) - len(left)
    put_off = [_later(row) for row in unneeded if row.physical_key in left and not _is_given_up(row)]
    gone = [row for row in unneeded if row.physical_key not in left]
    file_all(put_off)
    write_all([_deletion(Placement, row.partition + Placement.SUFFIX, row.version) for row in gone])
    write_all([_deletion(Garbage, row.hour, row.physical_key) for row in batch])


def _is_given_up(row: Garbage) -> bool:
    """Whether bytes stay where they are: their storage is a tenant's, and has refused to delete them for a week or more."""
    return row.storage_id is not None and row.attempts >= MAX_REFUSALS


def is_named(garbage: Garbage) -> bool:
    """Whether a row names these bytes, one in quarantine included."""
    return namer(garbage.partition, garbage.name, garbage.version, garbage.physical_key) is not None


def namer(partition: str, name: str, version: str, physical_key: str) -> StoredObject | None:
    """The row that names bytes, on one snapshot of the places where it could be: its name, its last move, quarantine."""
    while True:
        row, placement, quarantined = read_snapshot(
            (StoredObject, partition, name),
            (Placement, partition + Placement.SUFFIX, version),
            (Quarantined, Quarantined.HOUR, physical_key),
        )
        if row is not None and row.physical_key == physical_key:
            return cast(StoredObject, row)
        if quarantined is not None:
            return StoredObject(**quarantined.row)
        if placement is None or placement.moved_to == name:
            return None
        name = placement.moved_to


def is_filed(physical_key: str) -> bool:
    """Whether bytes are filed already, for any hour up to the end of a quarantine."""
    ahead = [seam.hour(seam.timestamp() + HOUR * number) for number in range(QUARANTINE // HOUR + 2)]
    batches = (ahead[start : start + BATCH] for start in range(0, len(ahead), BATCH))  # the first tells it most of the time
    return any(any(read_together(*((Garbage, hour, physical_key) for hour in batch))) for batch in batches)


def _delete_bytes(rows: Sequence[Garbage], patience: Patience) -> dict[str, str]:
    """Delete bytes, storage by storage; gives the keys that stayed, with the cause. One storage that fails keeps up no other."""
    left: dict[str, str] = {}
    by_storage: dict[tuple[str, str | None], list[Garbage]] = defaultdict(list)
    for row in rows:
        by_storage[keeping.storage_of(row)].append(row)
    for together in by_storage.values():
        keys = [row.physical_key for row in together]
        if not patience.has_for(together[0]):
            left |= dict.fromkeys(keys, "Later")
            continue
        try:
            with patience.asking(together[0]):
                left |= keeping.holding(together[0]).delete(keys)
        except StorageRemoved:
            continue  # its record is gone, and with it the right to touch what lies there
        except StowageError as error:
            left |= dict.fromkeys(keys, error.code)
    return left


def _later(row: Garbage) -> Garbage:
    due_at = seam.timestamp() + min(2**row.attempts, MAX_BACKOFF_HOURS) * HOUR
    return Garbage(
        seam.hour(due_at),
        row.physical_key,
        due_at=due_at,
        partition=row.partition,
        name=row.name,
        version=row.version,
        storage_id=row.storage_id,
        attempts=row.attempts + 1,
    )


def _deletion(model: type[Table], partition: str, sort: str) -> tuple[type[Table], dict[str, Any]]:
    return model, {"DeleteRequest": {"Key": model.key(partition, sort)}}
