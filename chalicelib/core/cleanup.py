"""The hourly cleanup: what is due goes, what was forgotten is woken."""

from collections.abc import Callable
from typing import Any

from chalicelib.core import garbage, jobs


def run(seconds_left: Callable[[], float]) -> dict[str, Any]:
    """One round, within the time there is; gives a report with counts."""
    woken = jobs.wake_stale()
    collected = garbage.collect(seconds_left)
    return {"jobs_woken": woken, "garbage": collected.as_dict()}
