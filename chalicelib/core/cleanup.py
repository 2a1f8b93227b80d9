"""The hourly cleanup: what is due goes, what was forgotten is woken, the next slice of both sweeps and of the count.

Each part is bounded by the time there is, takes up where it stopped, and can be repeated at any step. A dry run
counts what is due and what the sweeps would find, and changes nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chalicelib import providers, seam
from chalicelib.core import abandoned, drift, expiry, garbage, jobs, publishing, recounting, staging, sweeps, transforms
from chalicelib.core.patience import Patience
from chalicelib.errors import StorageUnavailable

# Seconds.
KEPT = 24 * 3600


def run(seconds_left: Callable[[], float], dry_run: bool = False) -> dict[str, Any]:
    """One round; gives a report with counts."""
    woken = 0 if dry_run else jobs.wake_stale()
    share = seconds_left() / 6  # so that a backlog of one does not starve the others
    patience = Patience()

    def left_but(shares: int) -> Callable[[], float]:
        return lambda: seconds_left() - shares * share

    uploads = expiry.collect(left_but(5), dry_run, patience)
    deltas = abandoned.collect(left_but(4), dry_run, patience)
    collected = garbage.collect(left_but(3), dry_run, patience)
    storages = drift.run(left_but(2), dry_run)
    quarantine = sweeps.end_quarantines(left_but(1), dry_run, patience)
    swept = sweeps.run(left_but(1), dry_run, patience)
    counters = recounting.run(seconds_left, dry_run)
    return {
        "dry_run": dry_run,
        "jobs_woken": woken,
        "uploads": uploads.as_dict(),
        "deltas": deltas.as_dict(),
        "garbage": collected.as_dict(),
        "quarantine": quarantine,
        "storages": storages.as_dict(),
        "copies_expired": 0 if dry_run else expire_copies(),
        "sweeps": {kind: report.as_dict() for kind, report in swept.items()},
        "counters": counters.as_dict(),
    }


def expire_copies() -> int:
    """Remove results and copies that are a day old where the storage has no rule for that; gives their number."""
    storage = providers.internal()
    if not isinstance(storage, providers.Expirer):
        return 0
    with suppress(StorageUnavailable):  # the next hour finds them too
        return sum(storage.expire(folder, seam.timestamp() - KEPT) for folder in (transforms.FOLDER, publishing.FOLDER, staging.FOLDER))
    return 0


def metrics(report: dict[str, Any]) -> dict[str, float]:
    """What of a report is worth a graph, and an alarm: `SweepsStopped`."""
    swept = report["sweeps"].values()
    return {
        "StoragesDegraded": report["storages"]["degraded"],
        "UploadsFreed": report["uploads"]["freed"],
        "UploadsLeft": report["uploads"]["left"],
        "GarbageDeleted": report["garbage"]["deleted"],
        "GarbageLeft": len(report["garbage"]["left"]),
        "BytesMissing": report["sweeps"][sweeps.MISSING]["suspected"],
        "OrphansSuspected": report["sweeps"][sweeps.ORPHAN]["suspected"],
        "Quarantined": sum(each["quarantined"] for each in swept),
        "SweepsStopped": sum(each["stopped"] is not None for each in swept),
    }
