"""How long a run of the cleanup waits for storages that tenants have brought.

The cleanup is everybody's: a storage that does not answer, or only slowly, may take a share of its time once an hour and no more. One that
has failed, or has used up its seconds, is left to the next run; what was due there stays due. The internal storage is always asked.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from chalicelib import seam
from chalicelib.core.keeping import Kept, storage_of
from chalicelib.errors import StorageUnavailable
from chalicelib.providers.failures import Failure

# Seconds a storage and run.
A_STORAGE = 60.0


class Patience:
    """Of one run."""

    def __init__(self) -> None:
        self._spent: dict[tuple[str, str | None], float] = defaultdict(float)

    def has_for(self, kept: Kept) -> bool:
        """Whether the storage that holds some bytes is asked once more."""
        return kept.storage_id is None or self._spent[storage_of(kept)] < A_STORAGE

    def require(self, kept: Kept) -> None:
        """Raise StorageUnavailable if it is not."""
        if not self.has_for(kept):
            raise StorageUnavailable("the storage has had its share of this run", Failure.BUSY)

    @contextmanager
    def asking(self, kept: Kept) -> Iterator[None]:
        """Count the time that is spent on a storage in here; with a failure it has used up all."""
        began = seam.timestamp()
        try:
            yield
        except StorageUnavailable:
            self._spent[storage_of(kept)] += A_STORAGE
            raise
        finally:
            self._spent[storage_of(kept)] += seam.timestamp() - began
