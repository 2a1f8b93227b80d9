"""What a key may do while it uses internal storage (seed 000 "Internal Storage Limits"): cost-safety controls, and no more.

Uploads and downloads are counted in days and months of the UTC calendar, in the key's own row; a count that names another day or
month is of the past and begins anew. Counting is one condition of the write that it belongs to, so however many ask at once, no more
are let through.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from chalicelib import seam
from chalicelib.core.keys import is_active, not_found
from chalicelib.errors import LimitReached
from chalicelib.tables.keys import ACTIVE, VaultKey
from chalicelib.tables.table import Transaction, TransactionFailed, tries

MAX_STORED = 15
STORED = "stored"
BUSY = "the key is being used by too many at once; try again shortly"


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` of `what` in one `span`, a day or a month."""

    what: str
    span: str
    limit: int

    @property
    def name(self) -> str:
        return f"{self.what}_{'daily' if self.span == 'day' else 'monthly'}"

    def present(self, row: VaultKey) -> str:
        """The day or month of now; never one before that which has been counted in: clocks differ."""
        return max(seam.iso(seam.now())[: len("2026-11-25" if self.span == "day" else "2026-11")], self._counted(row) or "")

    def used(self, row: VaultKey) -> int:
        """How many there were in the present span."""
        return int(getattr(row, f"{self.what}_of_{self.span}")) if self._counted(row) == self.present(row) else 0

    def _counted(self, row: VaultKey) -> str | None:
        counted: str | None = getattr(row, f"{self.what}_{self.span}")
        return counted

    def resets_at(self, row: VaultKey) -> datetime:
        """When the present span is over."""
        began = datetime.fromisoformat(f"{self.present(row)}{'' if self.span == 'day' else '-01'}T00:00:00+00:00")
        return began + timedelta(days=1) if self.span == "day" else (began + timedelta(days=31)).replace(day=1)

    def taking(self, row: VaultKey) -> tuple[list[Action], Condition]:
        """What counts one more, and the condition for it."""
        counter, span = getattr(VaultKey, f"{self.what}_of_{self.span}"), getattr(VaultKey, f"{self.what}_{self.span}")
        present = self.present(row)
        if self._counted(row) == present:
            return [counter.add(1)], (span == present) & (counter < self.limit)
        return [span.set(present), counter.set(1)], span.does_not_exist() | (span < present)


UPLOADS = (Window("uploads", "day", 2), Window("uploads", "month", 5))
DOWNLOADS = (Window("downloads", "day", 20), Window("downloads", "month", 200))


def check(row: VaultKey, windows: Iterable[Window]) -> None:
    """Raise LimitReached for the first window that is used up, naming it and when it is counted anew."""
    for window in windows:
        if window.used(row) >= window.limit:
            resets_at = window.resets_at(row)
            message = f"this key has used its {window.limit} {window.what} of the {window.span} on internal storage; {_HINT}"
            told = {"window": window.name, "limit": window.limit, "resets_at": seam.iso(resets_at)}
            raise LimitReached(message, resets_at.timestamp() - seam.timestamp(), **told)


_HINT = "wait until it is counted anew, or attach a storage of your own, which has no such limits"


def full() -> LimitReached:
    """What to raise when nothing more can be stored."""
    message = f"this key has {MAX_STORED} deltas on internal storage; delete one, or attach a storage of your own, which has no such limit"
    return LimitReached(message, None, window=STORED, limit=MAX_STORED)


def taking(row: VaultKey, windows: Sequence[Window]) -> tuple[list[Action], Condition]:
    """What counts one more in each window, and the condition under which that may be written; raises LimitReached."""
    check(row, windows)
    taken = [window.taking(row) for window in windows]
    condition = taken[0][1]
    for _, more in taken[1:]:
        condition &= more
    return [action for actions, _ in taken for action in actions], condition


def take(row: VaultKey, windows: Sequence[Window]) -> None:
    """Count one more by itself; raises LimitReached, KeyNotFound. Killed right after it, one was counted for nothing.

    A transaction of one: a call of the SDK's that is repeated after a lost answer counts once.
    """
    for _ in tries(BUSY):
        actions, condition = taking(row, windows)
        try:
            with Transaction() as transaction:
                transaction.change(VaultKey(row.tenant_id, row.key_uuid), actions, condition & is_active())
            return
        except TransactionFailed:
            now = VaultKey.read(row.tenant_id, row.key_uuid)
        if now is None or now.status != ACTIVE:
            raise not_found(row.key_uuid)
        row = now
    raise AssertionError("tries() ends by raising")


def told(row: VaultKey | None) -> dict[str, Any]:
    """Every window with what a key has used of it, by what is counted; of no key the limits alone."""
    shown: dict[str, Any] = {}
    of = row or VaultKey("", "")
    for window in (*UPLOADS, *DOWNLOADS):
        state = {"limit": window.limit, "used": window.used(of) if row else None, "resets_at": seam.iso(window.resets_at(of))}
        shown.setdefault(window.what, {})[window.name.rpartition("_")[2]] = state
    shown["uploads"][STORED] = {"limit": MAX_STORED, "used": int(of.stored) if row else None, "resets_at": None}
    return shown
