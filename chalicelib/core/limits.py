"""A token bucket for each tenant and each thing that is dear: so many at once, and as many a minute after that.

What is stored is one number, the moment at which the bucket is full again; taking a token moves it on by the time that a token
takes to come back (ATM Forum's "generic cell rate algorithm"). One conditional write, or two where the bucket was not full.
Killed after it, a request has used up a token for nothing.
"""

from chalicelib import seam
from chalicelib.errors import Throttled
from chalicelib.tables.limits import Limit
from chalicelib.tables.table import ConditionFailed, tries

# Microseconds, whole: sums of fractions would differ here and in the table.
SECOND = 1_000_000
MINUTE = 60 * SECOND
KEPT_WHEN_FULL = 86_400


def take(tenant_id: str, what: str, per_minute: int) -> None:
    """Take one of the `per_minute` tokens for `what`; raises Throttled, with the seconds until there is one."""
    now, step = int(seam.timestamp() * SECOND), MINUTE // per_minute
    latest = now + step * (per_minute - 1)  # at which a bucket with one token left is full
    row, expiry = Limit(f"{tenant_id}#{what}"), Limit.expires_at.set(now // SECOND + KEPT_WHEN_FULL)
    for _ in tries(f"too many {what} are asked for at once; try again shortly"):
        try:
            row.change([Limit.full_at.set(now + step), expiry], Limit.name.does_not_exist() | (Limit.full_at < now))
            return
        except ConditionFailed as failed:
            full_at = int(failed.row.full_at)
        if full_at > latest:
            raise Throttled(f"this tenant may ask for {per_minute} new {what} a minute; try again shortly", (full_at - latest) / SECOND)
        try:
            row.change([Limit.full_at.add(step), expiry], (Limit.full_at >= now) & (Limit.full_at <= latest))
            return
        except ConditionFailed:
            continue  # others took tokens in between
    raise AssertionError("tries() ends by raising")
