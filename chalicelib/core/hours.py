"""Work that falls due by the hour: which hours may still hold some.

What is due lies under the hour in which it falls due. A cursor remembers the oldest hour that was not found empty of
work, so a run takes up where the last one stopped, however long ago that was.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pynamodb.expressions.condition import Condition

from chalicelib import seam
from chalicelib.tables.garbage import Cursor
from chalicelib.tables.table import ConditionFailed, Item, Table, scan

HOUR = 3600


def since(cursor: str, model: type[Table], attribute: str, dry_run: bool) -> Iterator[str]:
    """The hours that may hold work, from the oldest not yet emptied to the present one.

    Before the first run there is no cursor: the hours are looked for once, in `attribute` of the rows themselves.
    """
    reached = Cursor.read(Cursor.HOUR, cursor)
    hour = reached.next_hour if reached else _oldest(model, attribute)
    if hour is None and not dry_run:  # nothing yet: what comes falls due from now on
        emptied(cursor, seam.hour(seam.timestamp() - 2 * HOUR))
    while hour and hour <= seam.hour(seam.timestamp()):
        yield hour
        hour = after(hour)


def due(cursor: str, model: type[Table], dry_run: bool) -> Iterator[Item]:
    """The keys of rows whose `expiry_hour` has come, by their index `by-expiry`, oldest hour first.

    An hour is passed only when whoever asks has taken all of it, and, as the index follows writes by moments, the next one is over too.
    """
    for hour in since(cursor, model, "expiry_hour", dry_run):
        query = {"KeyConditionExpression": "expiry_hour = :h", "ExpressionAttributeValues": {":h": {"S": hour}}}
        for page in model.pages(IndexName="by-expiry", **query):
            yield from page
        if after(hour) < seam.hour(seam.timestamp()) and not dry_run:
            emptied(cursor, hour)


def later(row: Table, condition: Condition) -> None:
    """Have a later run find a row by its `expiry_hour`, wherever the cursor is by then, if `condition` holds: it may have gone on.

    Raises Unavailable: what cannot be put off must not be passed over.
    """
    expiry_hour: Any = type(row).get_attributes()["expiry_hour"]
    with suppress(ConditionFailed):
        row.change([expiry_hour.set(seam.hour(seam.timestamp() + HOUR))], condition)


def emptied(cursor: str, hour: str) -> None:
    """Never look at `hour` again."""
    Cursor(Cursor.HOUR, cursor, next_hour=after(hour)).save()


def after(hour: str) -> str:
    """The next hour."""
    return seam.hour(seam.moment(f"{hour}:00:00.000000Z").timestamp() + HOUR)


def _oldest(model: type[Table], attribute: str) -> str | None:
    pages = scan(model, ProjectionExpression="#h", ExpressionAttributeNames={"#h": attribute})
    return min((item[attribute]["S"] for page in pages for item in page if attribute in item), default=None)
