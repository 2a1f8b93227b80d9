"""Sealing every secret anew under the master key in use, when it has been replaced.

Secrets are few: a token secret a tenant, the credentials of a storage. Each is written back only if it still is what was read, so what
changes meanwhile is met in the next pass. Killed at any point, it is begun again and does what is left.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.access.sealing import master_keys, resealed
from chalicelib.access.tokens import record_of_secret
from chalicelib.core import keeping
from chalicelib.tables.storages import Storage, is_storage
from chalicelib.tables.table import ConditionFailed, scan
from chalicelib.tables.tenants import Tenant

PASSES = 5


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A sealed text, what it is sealed for, and how it is replaced; the last raises ConditionFailed when it is another by now."""

    text: str
    record: str
    replace: Callable[[str], None]


def reseal_all(tell: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Reseal what is sealed under other keys; gives how many secrets that were. `tell` of `done` and `total` as it goes on."""
    count = 0
    for _ in range(PASSES):
        old = [each for each in _all() if _key_id(each) != master_keys()[0].key_id]
        if not old:
            return count
        for number, each in enumerate(old, 1):
            fresh = resealed(each.text, each.record)
            with suppress(ConditionFailed):  # another pass will tell
                if fresh is not None:
                    each.replace(fresh)
                    count += 1
            tell(number, len(old))
    return count


def sealed_under(key_id: str) -> int:
    """How many secrets only this key opens."""
    return sum(_key_id(each) == key_id for each in _all())


def _key_id(sealed: _Sealed) -> str:
    return sealed.text.partition(".")[0]


def _all() -> Iterator[_Sealed]:
    for page in scan(Tenant):
        yield from (_of_tenant(Tenant.from_raw_data(item)) for item in page)
    for page in scan(Storage):
        yield from (_of_storage(Storage.from_raw_data(item)) for item in page if is_storage(item))


def _of_tenant(row: Tenant) -> _Sealed:
    def replace(text: str) -> None:
        row.change([Tenant.jwt_secret.set(text)], Tenant.jwt_secret == row.jwt_secret)

    return _Sealed(row.jwt_secret, record_of_secret(row.tenant_id), replace)


def _of_storage(row: Storage) -> _Sealed:
    def replace(text: str) -> None:
        row.change([Storage.sealed.set(text)], Storage.sealed == row.sealed)

    return _Sealed(row.sealed, keeping.record_of_secrets(row.tenant_id, row.storage_id), replace)
