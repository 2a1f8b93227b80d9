"""Where a key's deltas lie (seed 000 "Object Layout").

    {remote_path}/{key_uuid}/{delta_uuid}    in a storage of the tenant's; without `remote_path` at its root
    deltas/{key_uuid}/{delta_uuid}           in the internal storage

A key says in which storage, and all its deltas are there: pointing it, or its storage, elsewhere moves nothing (seed 000 "Editing
Storage Settings"). What is worked out here is of the rows as they stand, so that such an edit counts at once.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chalicelib.core import garbage, keeping, names
from chalicelib.errors import CannotPresign, KeyTooLong, StorageUnavailable
from chalicelib.providers import Described, Describer, Presigner, Promise, Provider
from chalicelib.tables.keys import INTERNAL, VaultKey

_WEAKER = {
    Promise.NEW: "lets an upload's URL overwrite what lies there until it ends, so what is there is only compared when it is confirmed",
    Promise.MD5: "does not compare MD5s, so the bytes are read and compared when an upload is confirmed",
}
# What an object says of itself, by the names of its metadata.
SIZE, MD5, ATTEMPT = "expected-size-bytes", "expected-content-md5", "upload-attempt"
# Seconds.
URL_LIFETIME = 3600
READ_AT_ONCE = 5 << 20
UNFIT = "deltas lie on S3, R2, what speaks their protocol, or Azure Blob"


@dataclass(frozen=True, slots=True)
class Place:
    """The deltas of one key in one storage, None: the internal one, whose keys begin with `folder`, as its row of this `revision` says."""

    key: VaultKey
    storage_id: str | None
    folder: str
    provider: Provider
    keeps_metadata: bool = True
    revision: int | None = None

    @property
    def partition(self) -> str:
        """What its garbage is filed under, and its storage is asked under."""
        return f"{self.key.tenant_id}#{self.key.key_uuid}"

    def at(self, delta_uuid: str) -> str:
        """Where a delta lies, as the provider is asked for it."""
        return names.delta_key(self.key.key_uuid, delta_uuid, self.storage_id is None)

    def whole(self, delta_uuid: str) -> str:
        """The same as the bucket's owner sees it."""
        return self.folder + self.at(delta_uuid)

    @property
    def describer(self) -> Describer:
        """The provider as what tells of objects what was said of them; raises CannotPresign."""
        if not isinstance(self.provider, Describer) or not self.keeps_metadata:
            raise CannotPresign(f"{UNFIT}; this storage keeps no metadata of objects, by which an upload is known")
        return self.provider

    @property
    def presigner(self) -> Presigner:
        """The provider as what hands out URLs; raises CannotPresign."""
        if not isinstance(self.provider, Presigner):
            raise CannotPresign(f"{UNFIT}; this storage hands out no URLs for uploads")
        return self.provider

    def require_fit(self) -> tuple[Presigner, Describer]:
        """What deltas are put there by, and told from others; raises CannotPresign, and KeyTooLong where their keys have no room."""
        excess = len(self.at(self.key.key_uuid)) - self.provider.max_key_bytes
        if excess > 0:
            raise KeyTooLong(f"the storage has no room for the keys of deltas: its path is {excess} bytes too long", excess_bytes=excess)
        return self.presigner, self.describer

    @property
    def unkept(self) -> frozenset[Promise]:
        """What an upload is held to by Stowage, as this storage does not."""
        holds = self.provider.holds if isinstance(self.provider, Presigner) else frozenset()
        return frozenset({Promise.NEW, Promise.MD5}) - holds

    @property
    def weakness(self) -> str | None:
        """What an upload to this storage cannot rely on, in words; None where the storage sees to all of it."""
        told = [words for promise, words in _WEAKER.items() if promise in self.unkept]
        return f"this storage {' and '.join(told)}" if told else None

    def is_of(self, found: Described, size: int, md5: str) -> bool | None:
        """Whether an object has this size and MD5, in base64; None: the size, and of the MD5 this storage tells nothing to rely on."""
        if found.size != size:
            return False
        return None if found.md5 is None or Promise.MD5 in self.unkept else found.md5 == md5

    def md5_of(self, delta_uuid: str, size: int) -> str:
        """The MD5 of what lies there, in base64, by reading it; raises BytesMissing when it is shorter."""
        md5 = hashlib.md5(usedforsecurity=False)
        for offset in range(0, size, READ_AT_ONCE):
            md5.update(self.provider.read(self.at(delta_uuid), offset, min(READ_AT_ONCE, size - offset)))
        return base64.b64encode(md5.digest()).decode()

    def remove(self, delta_uuids: Iterable[str]) -> Mapping[str, str]:
        """Delete the objects of deltas as far as the storage lets it; gives the deltas whose objects stayed, and why."""
        wanted = {self.at(delta_uuid): delta_uuid for delta_uuid in delta_uuids}
        try:
            left = self.provider.delete(list(wanted))
        except StorageUnavailable as error:
            left = dict.fromkeys(wanted, error.reason or error.code)
        return {wanted[key]: cause for key, cause in left.items() if key in wanted}


def file_internal(key_uuid: str, delta_uuids: Iterable[str], since: float) -> None:
    """File objects of the internal storage that no delta needs any more: they go a day after `since` (epoch seconds)."""
    keys = {delta_uuid: names.delta_key(key_uuid, delta_uuid, True) for delta_uuid in delta_uuids}
    garbage.file_all([garbage.entry(f"#{key_uuid}", delta_uuid, delta_uuid, key, since) for delta_uuid, key in keys.items()])


def place_of(key: VaultKey) -> Place:
    """Where a key's deltas lie at present; raises StorageRemoved."""
    return place_in(key, key.storage_id)


def place_in(key: VaultKey, storage_id: str | None) -> Place:
    """Where they would lie in this storage; raises StorageRemoved."""
    if storage_id is None:
        return Place(key, None, "", keeping.provider_of("", None))
    from chalicelib.providers.catalogue import folder_of  # what only storages of tenants need

    row = keeping.as_it_stands(key.tenant_id, storage_id)
    keeps_metadata = (row.probe or {}).get("metadata") is not False
    provider = keeping.provider_of(key.tenant_id, storage_id)
    return Place(key, storage_id, folder_of(row.prefix), provider, keeps_metadata, int(row.revision))


def copies_of(key: VaultKey) -> list[str | None]:
    """Every storage in which Stowage has put deltas of a key and may delete them: where it points, and where it is being moved to.

    What is left where it pointed before is the storage's owner's, but in the internal storage, which nobody else can reach.
    """
    left_here = [None] if key.moved_from == INTERNAL else []
    moved_to = [key.target_id] if key.target_id else []
    return list(dict.fromkeys([key.storage_id, *moved_to, *left_here]))
