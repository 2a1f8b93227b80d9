"""Events on the installation's EventBridge bus: `object.created`, `object.updated`, `object.removed`.

Delivered at least once. `event_id` is the same each time the same change is told, so receivers can tell a
repetition; it holds the version, the row's revision and the type.
"""

import json
from dataclasses import dataclass
from typing import Any

from chalicelib import aws, seam
from chalicelib.errors import Unavailable
from chalicelib.settings import settings

SOURCE = "stowage"
BATCH = 10  # AWS limit: PutEvents entries


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` such as `object.created`; `detail` is JSON; `time` epoch seconds."""

    kind: str
    detail: dict[str, Any]
    time: float


def publish(events: list[Event]) -> None:
    """Put events on the bus; raises Unavailable when one was not taken."""
    bus = settings().event_bus
    if not bus:
        return
    for start in range(0, len(events), BATCH):
        entries = [_entry(event, bus) for event in events[start : start + BATCH]]
        answer = aws.client("events")._make_api_call("PutEvents", {"Entries": entries})
        if answer.get("FailedEntryCount"):
            raise Unavailable("the event bus did not take every event")


def _entry(event: Event, bus: str) -> dict[str, Any]:
    return {
        "EventBusName": bus,
        "Source": SOURCE,
        "DetailType": event.kind,
        "Time": seam.at(event.time),
        "Detail": json.dumps(event.detail, separators=(",", ":"), ensure_ascii=False),
    }
