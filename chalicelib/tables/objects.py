"""Objects by bucket and name: the row is the truth, the bytes lie where its `physical_key` says.

partition key  `{tenant_id}#{bucket_id}`      sort key  the object's name
`version`      names the bytes: a ULID, new with every write of bytes, part of the physical key
`storage_id`   where the physical key lies: the bucket's storage, None: the internal one
`revision`     counts the changes of the row: every write is conditional on the one that was read
`owner_key`    puts rows that have an owner into the index `by-owner`, where own-only listings look
`tokens_not_before`  signed URLs issued earlier do not open the object: its coming to this name, or a revocation

A move inside a bucket re-points: the new row names the old bytes. `Placement` says which row that is, in the
same transaction, so that the garbage collector can prove that no row names a key (`core/garbage.py`).
"""

from typing import ClassVar, Self

from chalicelib.tables.table import NumberAttribute, Table, UnicodeAttribute, table_name


class StoredObject(Table):
    """One object. `size` bytes; `checksum` SHA-256 in hex; `user_metadata` JSON text."""

    class Meta:
        table_name: ClassVar[str] = table_name("objects")

    partition = UnicodeAttribute(hash_key=True)
    name = UnicodeAttribute(range_key=True)
    id = UnicodeAttribute()
    version = UnicodeAttribute()
    revision = NumberAttribute()
    bucket = UnicodeAttribute()
    physical_key = UnicodeAttribute()
    storage_id = UnicodeAttribute(null=True)
    size = NumberAttribute()
    content_type = UnicodeAttribute()
    checksum = UnicodeAttribute(null=True)
    owner_id = UnicodeAttribute(null=True)
    owner_key = UnicodeAttribute(null=True)
    user_metadata = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()
    tokens_not_before = UnicodeAttribute()

    OWNER_INDEX: ClassVar[str] = "by-owner"

    def owned_by(self, owner_id: str | None) -> Self:
        """Set the owner, and with it the row's place in the index by owner; gives the row."""
        self.owner_id = owner_id
        self.owner_key = None if owner_id is None else owner_key(self.partition, owner_id)
        return self


def owner_key(partition: str, owner_id: str) -> str:
    """Where the index by owner holds one owner's objects of a bucket."""
    return f"{partition}#{owner_id}"


class Placement(Table):
    """Which name a moved version now has. Lies in the objects table under `{partition}#moved`, by version."""

    class Meta:
        table_name: ClassVar[str] = table_name("objects")

    partition = UnicodeAttribute(hash_key=True)
    version = UnicodeAttribute(range_key=True, attr_name="name")
    moved_to = UnicodeAttribute()

    SUFFIX: ClassVar[str] = "#moved"


class UsedToken(Table):
    """That a signed upload URL has been used, and for which version. Lies in the objects table under `{partition}#used`."""

    class Meta:
        table_name: ClassVar[str] = table_name("objects")

    partition = UnicodeAttribute(hash_key=True)
    token_hash = UnicodeAttribute(range_key=True, attr_name="name")
    version = UnicodeAttribute()
    expires_at = NumberAttribute()

    SUFFIX: ClassVar[str] = "#used"
