"""Two sweeps hold what the tables say against what the storage holds, a slice an hour, a round a week.

`missing`  objects whose bytes are not there: looked for along the rows
`orphan`   bytes that no row names, as a killed writer leaves them: looked for along the storage, below `objects/` alone,
           where all that Stowage writes carries its version; what does not is somebody else's and left alone

A sweep removes nothing. What it finds becomes a suspect, and is looked at again each hour: three sightings over more
than a day, and it goes into quarantine for a week; whatever turns up in its place until then ends the suspicion, or the
quarantine. A row in quarantine is out of sight, and returns when its bytes do; bytes in quarantine are filed as garbage
that falls due at its end, when the collector proves once more that no row names them. When more than 1 % of what
the last round has seen would go, or the storage shows none of the objects it should have, nothing goes: that is a storage
that is broken or misconfigured, and an alarm for people.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import islice
from typing import Any

from chalicelib import providers, seam
from chalicelib.core import buckets, folders, garbage, keeping, names, objects, rounds, sessions
from chalicelib.core.garbage import LIFETIME, QUARANTINE
from chalicelib.core.patience import Patience
from chalicelib.errors import StorageRemoved, StorageUnavailable
from chalicelib.observability import logger
from chalicelib.providers import Provider
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.garbage import Quarantined, Suspect, Sweep
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import ConditionFailed, Transaction, TransactionFailed, call, read_together

MISSING, ORPHAN = "missing", "orphan"
# Seconds.
SLICE = 240
SUSPECTED_FOR = 24 * 3600
# A version is older than this before its bytes can be orphans: longer than garbage waits and an upload rests.
GRACE = 2 * 24 * 3600
SIGHTINGS = 3
MOST = 0.01
MAX_SUSPECTS = 1000
MAX_OF_A_TENANT = 100
BATCH = 500
# From this many rows of a bucket on, its keys are listed and not asked for one by one.
LISTED_FROM = 10
# Rows on a tenant's storage between two looks at how long it takes.
ASKED_AT_ONCE = 100
SAMPLE = 20


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step of a sweep saw: `examined` rows or keys, those that are suspect, and where the next one begins."""

    examined: int
    suspects: Sequence[Suspect]
    position: Any


@dataclass(slots=True)
class Report:
    """What a run of one sweep did; `stopped` says why it touched nothing, `cleared` are suspects that were none."""

    examined: int = 0
    found: int = 0
    suspected: int = 0
    cleared: int = 0
    quarantined: int = 0
    round_ended: bool = False
    stopped: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run(seconds_left: Callable[[], float], dry_run: bool = False, patience: Patience | None = None) -> dict[str, Report]:
    """The next slice of both sweeps, and a look at every suspect; dry, a slice that notes and touches nothing."""
    along_rows, is_missing = partial(_along_rows, patience or Patience()), partial(_is_missing, patience or Patience())
    return {
        MISSING: _run(MISSING, along_rows, is_missing, _hide, seconds_left, dry_run),
        ORPHAN: _run(ORPHAN, _along_keys, _is_orphan, _file, seconds_left, dry_run),
    }


def _run(
    kind: str,
    batches: Callable[[Any], Iterator[Batch]],
    still: Callable[[Suspect], bool],
    act: Callable[[Suspect], bool],
    seconds_left: Callable[[], float],
    dry_run: bool,
) -> Report:
    report = Report()
    others = max(seconds_left() - SLICE, seconds_left() / 2)  # what is left to those that come after this one

    def own_seconds_left() -> float:
        return seconds_left() - others

    known = Suspect.all_of(kind)
    try:
        if not dry_run:
            _settle(kind, known, still, act, report, own_seconds_left)
        _advance(kind, batches, known, own_seconds_left, report, dry_run)
    except StorageUnavailable as error:
        report.stopped = error.message
    return report


# ---- a slice -------------------------------------------------------------------------------------------
def _advance(
    kind: str,
    batches: Callable[[Any], Iterator[Batch]],
    known: Sequence[Suspect],
    seconds_left: Callable[[], float],
    report: Report,
    dry_run: bool,
) -> None:
    """Go on with the round until it ends or time runs out."""
    counted: Counter[str | None] = Counter(suspect.storage_id for suspect in known)
    for batch in rounds.going_on(kind, batches, seconds_left, dry_run):
        report.examined += batch.examined
        report.found += len(batch.suspects)
        if not dry_run:
            counted.update(suspect.storage_id for suspect in batch.suspects)
            if counted[None] > MAX_SUSPECTS:
                report.stopped = f"more than {MAX_SUSPECTS} suspects"
                return
            for suspect in batch.suspects:
                if suspect.storage_id is None or counted[suspect.storage_id] <= MAX_OF_A_TENANT:  # more says that the storage is another
                    _note(suspect)
        report.round_ended = batch.position is None


def _note(suspect: Suspect) -> None:
    try:
        suspect.put(Suspect.physical_key.does_not_exist())
    except ConditionFailed:
        return  # known already


def _along_rows(patience: Patience, position: Any) -> Iterator[Batch]:
    """Every object's row, as the table has them: a bucket's lie together, by name."""
    while True:
        start = {"ExclusiveStartKey": position} if position else {}
        page = call("Scan", TableName=StoredObject.Meta.table_name, Limit=BATCH, **start)
        position = page.get("LastEvaluatedKey")
        rows = [StoredObject.from_raw_data(item) for item in page["Items"] if "physical_key" in item]
        yield Batch(len(rows), [_suspect_of(row) for row in _lost(rows, patience)], position)
        if position is None:
            return


def _suspect(kind: str, partition: str, name: str, version: str, physical_key: str) -> Suspect:
    return Suspect(kind, physical_key, partition=partition, name=name, version=version, first_seen=seam.timestamp())


def _suspect_of(row: StoredObject) -> Suspect:
    suspect = _suspect(MISSING, row.partition, row.name, row.version, row.physical_key)
    suspect.storage_id = row.storage_id
    return suspect


def _lost(rows: Sequence[StoredObject], patience: Patience) -> list[StoredObject]:
    """Those whose bytes are not there. A tenant's storage that does not answer, or slowly, keeps up nobody else's: its rows are passed
    over, and the next round comes by again.
    """
    by_storage: dict[tuple[str, str | None], list[StoredObject]] = defaultdict(list)
    for row in rows:
        by_storage[keeping.storage_of(row)].append(row)
    lost: list[StoredObject] = []
    for (_, storage_id), together in by_storage.items():
        if storage_id is None:
            lost += _lost_on(providers.internal(), together)
            continue
        for start in range(0, len(together), ASKED_AT_ONCE):
            if not patience.has_for(together[0]):
                break
            with suppress(StorageUnavailable), patience.asking(together[0]):
                lost += _lost_on(keeping.holding(together[0]), together[start : start + ASKED_AT_ONCE])
    return lost


def _lost_on(provider: Provider, rows: Sequence[StoredObject]) -> list[StoredObject]:
    by_container: dict[str, list[StoredObject]] = defaultdict(list)
    for row in rows:
        by_container[names.container(row.tenant_id, row.bucket)].append(row)
    present: set[str] = set()
    for container, inside in by_container.items():
        if len(inside) >= LISTED_FROM:
            present |= _listed(provider, container, [row.physical_key for row in inside])
    # A listing proves that bytes are there; that they are not, only a look at the key itself does.
    return [row for row in rows if row.physical_key not in present and provider.stat(row.physical_key) is None]


def _listed(provider: Provider, container: str, keys: Sequence[str]) -> set[str]:
    """Those of `keys` that a listing shows which is not much longer than they are."""
    wanted, last = set(keys), max(keys, key=str.encode)
    first = min(keys, key=str.encode)
    found: set[str] = set()
    for number, listed in enumerate(provider.list(container, first[:-1])):
        if number > 3 * len(keys) or listed.key.encode() > last.encode():
            break
        if listed.key in wanted:
            found.add(listed.key)
    return found


def _along_keys(position: Any) -> Iterator[Batch]:
    """Everything that the storage holds of objects, by key."""
    listing = providers.internal().list(f"{names.CONTAINER}/", position or "")
    while True:
        keys = [listed.key for listed in islice(listing, BATCH)]
        yield Batch(len(keys), _unnamed(keys), keys[-1] if len(keys) == BATCH else None)
        if len(keys) < BATCH:
            return


def _unnamed(keys: Sequence[str]) -> list[Suspect]:
    """Bytes that are old enough and whose name has another row, or none, as far as one read of it can tell."""
    suspects = []
    partition = cache(buckets.partition_of)  # keys of a bucket lie together
    for key in keys:
        placed = names.placed(key)
        if placed and seam.version_time(placed.version) + GRACE < seam.timestamp():
            suspects.append(_suspect(ORPHAN, partition(placed.tenant_id, placed.bucket), placed.name, placed.version, key))
    rows = read_together(*{(StoredObject, suspect.partition, suspect.name) for suspect in suspects})
    named = {row.physical_key for row in rows if row}
    return [suspect for suspect in suspects if suspect.physical_key not in named and _is_orphan(suspect)]


# ---- suspects ------------------------------------------------------------------------------------------
def _settle(
    kind: str,
    suspects: Sequence[Suspect],
    still: Callable[[Suspect], bool],
    act: Callable[[Suspect], bool],
    report: Report,
    seconds_left: Callable[[], float],
) -> None:
    """Look at every suspect again: clear it, wait, or act on all that have been seen often enough, unless they are too many."""
    ready, suspected = [], 0
    for suspect in suspects:
        if seconds_left() <= 0:
            return
        if not still(suspect):
            suspect.delete()
            report.cleared += 1
            continue
        report.suspected += 1
        suspected += suspect.storage_id is None
        with suppress(ConditionFailed):  # another run is at work beside this one
            suspect.change([Suspect.sightings.set(suspect.sightings + 1)], Suspect.sightings == suspect.sightings)
        if suspect.sightings >= SIGHTINGS and suspect.first_seen + SUSPECTED_FOR < seam.timestamp():
            ready.append(suspect)
    of_tenants = [suspect for suspect in ready if suspect.storage_id is not None]
    ours = [suspect for suspect in ready if suspect.storage_id is None]
    for suspect in [*_acted_on(kind, ours, suspected, report), *of_tenants]:
        if seconds_left() <= 0:
            return
        try:
            is_over = act(suspect)
        except StorageUnavailable:
            if suspect.storage_id is None:
                raise
            continue  # its tenant's business alone
        if is_over:
            suspect.delete()
            report.quarantined += 1


def _acted_on(kind: str, ready: Sequence[Suspect], suspected: int, report: Report) -> Sequence[Suspect]:
    """Those of the internal storage's suspects, all or none, that may be acted on while so many are suspected."""
    sweep = Sweep.read(Sweep.HOUR, kind)
    if not ready or sweep is None or sweep.total is None:
        return []  # before a round has ended it is not known how many there are
    hidden = Quarantined.all_of(Quarantined.HOUR) if kind == MISSING else []
    report.stopped = _obstacle(suspected + sum(each.row.get("storage_id") is None for each in hidden), int(sweep.total))
    if report.stopped:
        logger().error("a sweep has stopped", extra={"sweep": kind, "suspects": len(ready), "reason": report.stopped})
        return []
    return ready


def _obstacle(number: int, total: int) -> str | None:
    """Why nothing may be touched while so many are amiss, those in quarantine included, if it may not."""
    if number > total * MOST:
        return f"{number} of {total} would be touched, more than {MOST:.0%}"
    if number >= MAX_SUSPECTS:
        return f"there are {MAX_SUSPECTS} suspects or more"
    return None if _is_healthy() else "the storage shows none of the objects that it was asked for"


def _is_healthy() -> bool:
    page = call("Scan", TableName=StoredObject.Meta.table_name, Limit=BATCH)
    keys = [item["physical_key"]["S"] for item in page["Items"] if "physical_key" in item and "storage_id" not in item][:SAMPLE]
    return not keys or any(providers.internal().stat(key) for key in keys)


# ---- rows without bytes --------------------------------------------------------------------------------
def _is_missing(patience: Patience, suspect: Suspect) -> bool:
    row = StoredObject.read(suspect.partition, suspect.name)
    if row is None or row.physical_key != suspect.physical_key:
        return False
    if suspect.storage_id is None:
        return providers.internal().stat(suspect.physical_key) is None
    # A tenant's storage that does not answer proves nothing: a later round looks again.
    if patience.has_for(suspect):
        with suppress(StorageUnavailable), patience.asking(suspect):
            return keeping.holding(suspect).stat(suspect.physical_key) is None
    return False


def _hide(suspect: Suspect) -> bool:
    """Put a row into quarantine, in one transaction, if it still names the missing bytes; gives whether it did."""
    row = StoredObject.read(suspect.partition, suspect.name)
    if row is None or row.physical_key != suspect.physical_key or not _shows_others(suspect):
        return False
    hidden = Quarantined(Quarantined.HOUR, row.physical_key, row=row.attribute_values, until=seam.timestamp() + QUARANTINE)
    try:
        with Transaction() as transaction:
            transaction.remove(row, objects.unchanged(row))
            transaction.put(hidden)
    except TransactionFailed:
        return False  # written to meanwhile: it will be looked at again
    logger().error("an object's bytes are missing; its row is in quarantine", extra={"version": row.version, "bucket": row.bucket})
    return True


def _shows_others(suspect: Suspect) -> bool:
    """Whether a tenant's storage, which nothing else vouches for, shows any other object of the same bucket."""
    if suspect.storage_id is None:
        return True
    rows = [StoredObject.from_raw_data(item) for item in next(StoredObject.pages_of(suspect.partition, Limit=SAMPLE))]
    return any(keeping.holding(row).stat(row.physical_key) for row in rows if row.physical_key != suspect.physical_key)


def end_quarantines(seconds_left: Callable[[], float], dry_run: bool = False, patience: Patience | None = None) -> dict[str, int]:
    """Return rows whose bytes are there again, give up those whose week is over; gives how many."""
    counted = {"held": 0, "restored": 0, "given_up": 0}
    hidden = Quarantined.all_of(Quarantined.HOUR)
    believes = bool(hidden) and not dry_run and _answers()
    for each in hidden:
        counted["held" if dry_run or not believes or seconds_left() <= 0 else _end_quarantine(each, patience or Patience())] += 1
    return counted


def _answers() -> bool:
    try:
        return _is_healthy()
    except StorageUnavailable:
        return False


def _end_quarantine(hidden: Quarantined, patience: Patience) -> str:
    row = StoredObject(**hidden.row)
    if not patience.has_for(row):
        return "held"
    try:
        with patience.asking(row):
            is_back = keeping.holding(row).stat(hidden.physical_key) is not None
    except StorageRemoved:  # only when no bucket is left on it
        hidden.delete()
        return "given_up"
    except StorageUnavailable:
        return "held"
    if not is_back and hidden.until > seam.timestamp():
        return "held"
    if is_back and _restore(row, hidden):
        return "restored"
    # Its name is another object's by now, or its week is over.
    garbage.file_all([garbage.entry_of(row, seam.timestamp())])
    hidden.delete()
    return "given_up"


def _restore(row: StoredObject, hidden: Quarantined) -> bool:
    """Return a row and end its quarantine, in one transaction: a row that was moved on is not brought back twice."""
    bucket = Bucket.read(row.tenant_id, row.bucket)
    if bucket is None or bucket.partition != row.partition:
        return False
    row.revision += 1
    if row.folder_id and not folders.exists(bucket.tenant_id, row.folder_id):  # deleted while the row was out of sight
        row.filed(row.acl, None)
    try:
        with Transaction() as transaction:
            transaction.put(row, StoredObject.name.does_not_exist())
            transaction.remove(hidden, Quarantined.physical_key.exists())
        return True
    except TransactionFailed as failed:
        return failed.rows[0] is None  # brought back by another run, or busy: it is looked at again


# ---- bytes without a row -------------------------------------------------------------------------------
def _is_orphan(suspect: Suspect) -> bool:
    session = sessions.stored(suspect.version)
    if session is not None and session.status == sessions.OPEN and not sessions.has_expired(session):
        return False  # an upload that lacks nothing but its end
    if providers.internal().stat(suspect.physical_key) is None or garbage.is_filed(suspect.physical_key):
        return False
    return garbage.namer(suspect.partition, suspect.name, suspect.version, suspect.physical_key) is None


def _file(suspect: Suspect) -> bool:
    """Bytes in quarantine are garbage that falls due in a week."""
    since = seam.timestamp() + QUARANTINE - LIFETIME
    garbage.file_all([garbage.entry(suspect.partition, suspect.name, suspect.version, suspect.physical_key, since)])
    return True
