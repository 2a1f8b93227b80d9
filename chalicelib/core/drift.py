"""Storages change behind our back: rights are taken away, versioning is turned off, servers go. Hourly, those that are due are probed.

Due is what was not probed for a week, or has failed several times since. One that fails, or no longer shows what it showed when a person
last had it tested, is marked degraded, with the reason, and `storage.degraded` is published; one that is well again is marked so.
A probe that is cut short by death is made again the next hour.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from chalicelib import seam
from chalicelib.core import events, keeping, probing, storages
from chalicelib.core.events import Event
from chalicelib.core.storages import DEGRADED
from chalicelib.errors import Unavailable
from chalicelib.observability import logger
from chalicelib.tables.storages import Storage, is_storage
from chalicelib.tables.table import scan

# Seconds.
EVERY = 7 * 24 * 3600
ONE_PROBE = 25
FAILURES = 3
# What degraded is looked at this often, so that it does not stay so for a week when it is well again.
DEGRADED_EVERY = 3600


@dataclass(slots=True)
class Report:
    """What a run did, in storages."""

    due: int = 0
    probed: int = 0
    degraded: int = 0
    recovered: int = 0
    finished: bool = True

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run(seconds_left: Callable[[], float], dry_run: bool = False) -> Report:
    """Probe the storages that are due, those first that were longest not; or only count them."""
    report = Report()
    due = sorted((row for row in _all() if _is_due(row)), key=lambda row: row.probed_at or "")
    report.due = len(due)
    for row in due:
        if dry_run or seconds_left() < ONE_PROBE:
            report.finished = dry_run
            return report
        _look_at(row, report)
    return report


def _all() -> list[Storage]:
    items = (item for page in scan(Storage) for item in page)
    return [Storage.from_raw_data(item) for item in items if is_storage(item)]


def _is_due(row: Storage) -> bool:
    if not row.is_active and not row.buckets and not row.keys and not row.backups:
        return False
    if row.probed_at is None:
        return False  # nobody has relied on it yet
    age = seam.timestamp() - seam.moment(row.probed_at).timestamp()
    return bool(age > EVERY or row.failures >= FAILURES or (row.status == DEGRADED and age > DEGRADED_EVERY))


def _look_at(row: Storage, report: Report) -> None:
    was_degraded = row.status == DEGRADED
    try:
        result = probing.probe(keeping.connection_of(row), row.tenant_id, storages.profile_of(row, row.tenant_id))
    except Exception:  # a storage that cannot even be described must not keep up the others
        logger().exception("a storage could not be probed", extra={"storage_id": row.storage_id})
        return
    report.probed += 1
    storages.note(row, result)
    if row.status == DEGRADED and not was_degraded:
        try:
            _publish(row, result)
        except Unavailable:  # told the next hour, when it is found so again
            logger().warning("an event was not taken", extra={"storage_id": row.storage_id})
            return
        report.degraded += 1
        logger().warning("a storage is degraded", extra={"storage_id": row.storage_id, "reason": row.reason})
    storages.keep(row)
    report.recovered += was_degraded and row.status != DEGRADED


def _publish(row: Storage, result: probing.Result) -> None:
    now = seam.timestamp()
    detail = {
        "event_id": f"{row.storage_id}.{row.probed_at}.storage.degraded",
        "tenant_id": row.tenant_id,
        "storage_id": row.storage_id,
        "surface": row.surface,
        "name": row.name,
        "code": result.problem.code if result.problem else "Lost",
        "reason": row.reason,
        "lost": storages.lost(row) if result.succeeded else [],
    }
    events.publish([Event("storage.degraded", detail, now)])
