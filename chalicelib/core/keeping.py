"""Where bytes are kept: the provider of each storage, internal or a tenant's own, opened once and kept.

What reads and writes objects needs no more of storages than this; how they are made and tested is in `core/storages.py`. Whatever
a tenant's storage alone needs is imported when the first one is opened.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from pynamodb.expressions.condition import Condition

from chalicelib import providers
from chalicelib.access.cache import MinuteCache, forgotten_with_the_rest
from chalicelib.access.sealing import unseal
from chalicelib.errors import StorageRemoved, StorageUnavailable, StowageError
from chalicelib.observability import logger
from chalicelib.providers import Closable, Promise, Provider
from chalicelib.settings import SettingsError
from chalicelib.tables.storages import Storage
from chalicelib.tables.table import ConditionFailed, Transaction

if TYPE_CHECKING:
    from chalicelib.providers.catalogue import Connection

PLAIN = ("kind", "bucket", "region", "endpoint", "account_id", "host", "port", "tls", "host_key", "prefix", "storage_class")
MAX_OPENED = 64
# By which finding of a probe each promise is seen to be kept.
_SEEN_BY = {Promise.NEW: "conditional_put", Promise.MD5: "content_md5", Promise.SHA256: "checksum_sha256"}


class Kept(Protocol):
    """Whatever tells in which storage its bytes lie: rows of objects and of garbage, sessions of uploads."""

    @property
    def partition(self) -> Any: ...

    @property
    def storage_id(self) -> Any: ...


_rows: MinuteCache[Storage] = MinuteCache()
_told: MinuteCache[bool] = MinuteCache()


def holding(kept: Kept) -> Provider:
    """The provider that holds some bytes."""
    return provider_of(*storage_of(kept))


def storage_of(kept: Kept) -> tuple[str, str | None]:
    """The tenant and the id of the storage that holds some bytes; the internal one is everybody's: no tenant, None."""
    return ("", None) if kept.storage_id is None else (kept.partition.partition("#")[0], kept.storage_id)


def provider_of(tenant_id: str, storage_id: str | None) -> Provider:
    """The provider of a tenant's storage, None: the internal one. Raises StorageRemoved."""
    if storage_id is None:
        return providers.internal()
    row = _rows.get(_cache_key(tenant_id, storage_id), lambda: Storage.read(tenant_id, storage_id))
    if row is None:
        raise StorageRemoved("the storage of this object was removed")
    key, state = _cache_key(tenant_id, storage_id), (int(row.revision), row.probed_at, row.host_key)
    known = _opened.get(key)
    if known is not None and known[0] == state:
        return known[1]
    made = _open(row)
    if len(_opened) >= MAX_OPENED:
        _opened.clear()
    _opened[key] = state, made
    if known is not None and isinstance(known[1], Closable):
        known[1].close()
    return made


def as_it_stands(tenant_id: str, storage_id: str) -> Storage:
    """A storage's row read now, which the provider is then made of: for what a change of it must reach at once. Raises StorageRemoved."""
    row = Storage.read(tenant_id, storage_id)
    if row is None:
        changed(tenant_id, storage_id)
        raise StorageRemoved("the storage was removed")
    _rows.keep(_cache_key(tenant_id, storage_id), row)
    return row


def _open(row: Storage) -> Provider:
    from chalicelib.providers.catalogue import opened
    from chalicelib.providers.retries import WHOLE_TIMEOUT, persistent

    try:
        connection = connection_of(row)
    except SettingsError as error:  # of one storage, which must keep up no other
        logger().exception("a storage's secrets cannot be opened", extra={"storage_id": row.storage_id})
        raise StorageUnavailable("the storage's credentials cannot be opened; give them again") from error
    bare = opened(connection, row.tenant_id, unkept(row.probe or {}))
    return persistent(bare, seconds=WHOLE_TIMEOUT, failed=_failing(row.tenant_id, row.storage_id))


class _Opened(dict[str, tuple[Any, Provider]]):
    """Providers by storage, each with what its row was like; forgotten, they are closed."""

    def clear(self) -> None:
        for _, provider in list(self.values()):
            if isinstance(provider, Closable):
                provider.close()
        super().clear()


_opened = _Opened()
forgotten_with_the_rest(_opened)


def _failing(tenant_id: str, storage_id: str) -> Callable[[StorageUnavailable], None]:
    """Notes that a storage does not do what it was asked; the next request reads its row anew."""
    key = _cache_key(tenant_id, storage_id)

    def count() -> bool:
        with suppress(ConditionFailed, StowageError):
            Storage(tenant_id, storage_id).change([Storage.failures.add(1)], Storage.storage_id.exists())
        return True

    def note(error: StorageUnavailable) -> None:
        from chalicelib.providers.failures import Failure

        if error.reason != Failure.ASSEMBLING:
            _rows.forget(key)
            _told.get(key, count)

    return note


def changed(tenant_id: str, storage_id: str) -> None:
    """Have this process read a storage's row again; others do so within a minute."""
    _rows.forget(_cache_key(tenant_id, storage_id))


def _cache_key(tenant_id: str, storage_id: str) -> str:
    return f"{tenant_id}/{storage_id}"


def connection_of(row: Storage) -> "Connection":
    """What a storage is reached by, its secrets opened; raises SettingsError where the master key is another."""
    from chalicelib.providers.catalogue import Connection

    secrets = json.loads(unseal(row.sealed, record_of_secrets(row.tenant_id, row.storage_id)))
    plain = {field: getattr(row, field) for field in PLAIN} | {"port": int(row.port)}
    return Connection(**plain, **secrets)


def record_of_secrets(tenant_id: str, storage_id: str) -> str:
    """What a storage's secrets are sealed for."""
    return f"storages/{tenant_id}/{storage_id}/secrets"


def unkept(findings: dict[str, Any]) -> frozenset[Promise]:
    """The promises that a storage was not seen to keep, by what is stored of its probe."""
    return frozenset(promise for promise, finding in _SEEN_BY.items() if findings.get(finding) is not True)


def refer(transaction: Transaction, tenant_id: str, storage_id: str, counter: str, number: int, revision: int | None = None) -> None:
    """Have `transaction` count what refers to a storage, which has to be there: `buckets`, `keys` or `backups`.

    With a `revision` it has to be as it was then.
    """
    there: Condition = Storage.storage_id.exists()
    if revision is not None:
        there = Storage.revision == revision
    transaction.change(Storage(tenant_id, storage_id), [getattr(Storage, counter).add(number)], there)
