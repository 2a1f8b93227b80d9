"""Deltas whose time is over: what was never confirmed gives its place back, what was deleted is deleted once more, then forgotten.

    pending, its last URL has ended    stored, if the object is there and is what was promised; else `expired`
    expired, for a week                forgotten, with what came after all to internal storage
    deleted, its last URL has ended    its object goes, if one came back by that URL; forgotten

A row goes last, so a run that dies in between is repeated.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from chalicelib import seam
from chalicelib.core import attempts, garbage, hours, layout
from chalicelib.core.hours import HOUR
from chalicelib.core.patience import Patience
from chalicelib.errors import StorageRemoved, StowageError
from chalicelib.observability import logger
from chalicelib.tables.deltas import DELETED, EXPIRED, PENDING, STORED, Delta, DeltaPointer
from chalicelib.tables.keys import VaultKey
from chalicelib.tables.table import ConditionFailed, write_all

CURSOR = "deltas"
# Seconds after which nobody waits for a storage that does not tell what lies there.
GIVEN_UP_AFTER = 7 * 24 * HOUR


@dataclass(slots=True)
class Report:
    """What a run did, in deltas; `left` to a later run."""

    due: int = 0
    stored: int = 0
    expired: int = 0
    forgotten: int = 0
    left: int = 0
    finished: bool = True

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def collect(seconds_left: Callable[[], float], dry_run: bool = False, patience: Patience | None = None) -> Report:
    """See to the deltas that are due, oldest hour first, until it is done or time runs out; or only count them."""
    report, patience = Report(), patience or Patience()
    for item in hours.due(CURSOR, Delta, dry_run):
        if seconds_left() <= 0:
            report.finished = False
            return report
        delta = Delta.read(item["partition"]["S"], item["item"]["S"])
        if delta is None or delta.expiry_hour is None or delta.expires_at > seam.timestamp():
            continue  # seen to already, or it went on: it is in the index under another hour by now
        report.due += 1
        if not dry_run:
            _see_to(delta, report, patience)
    return report


def _see_to(delta: Delta, report: Report, patience: Patience) -> None:
    key = VaultKey.read(delta.tenant_id, delta.key_uuid)
    try:
        if key is not None and delta.status == PENDING:
            _end(key, delta, report, patience)
        else:
            _forget(delta, patience)
            report.forgotten += 1
    except (ConditionFailed, StowageError) as error:
        logger().warning("a delta was left to the next run", extra={"delta_uuid": delta.delta_uuid, "error": repr(error)})
        report.left += 1
        hours.later(Delta(delta.key_uuid, delta.delta_uuid), Delta.expiry_hour == delta.expiry_hour)


def _end(key: VaultKey, delta: Delta, report: Report, patience: Patience) -> None:
    try:
        place = layout.place_of(key)
        patience.require(place)
        with patience.asking(place):
            became = attempts.end(key, delta)
    except StowageError:
        if delta.expires_at + GIVEN_UP_AFTER > seam.timestamp():
            raise
        became = attempts.expire(key, delta)
    if became == PENDING:
        raise ConditionFailed(delta)  # changed meanwhile
    report.stored += became == STORED
    report.expired += became == EXPIRED


def _forget(delta: Delta, patience: Patience) -> None:
    """Delete what may have come, where the attempts were to put it, then the row. What a tenant's storage refuses is its owner's.

    First the row says that the delta is gone, if it has not changed: so nothing is deleted that was confirmed at this moment.
    """
    put_in = {each["storage_id"] for each in delta.attempts}
    if delta.status != DELETED:
        put_in &= {None}  # what came late to a tenant's own storage is its owner's
        attempted_here = [each for each in delta.attempts if each["storage_id"] is None]
        gone = [Delta.status.set(DELETED), Delta.attempts.set(attempted_here), Delta.revision.add(1)]
        delta.change(gone, Delta.revision == delta.revision)
    for storage_id in put_in:
        try:
            place = layout.place_in(VaultKey(delta.tenant_id, delta.key_uuid), storage_id)
        except StorageRemoved:
            continue
        patience.require(place)
        with patience.asking(place):
            left = place.remove([delta.delta_uuid])
        if left and storage_id is None:
            raise garbage.not_deleted(left)
    write_all([(DeltaPointer, {"DeleteRequest": {"Key": DeltaPointer.key(delta.delta_uuid, DeltaPointer.ITEM)}})])
    delta.remove(Delta.revision == delta.revision)
