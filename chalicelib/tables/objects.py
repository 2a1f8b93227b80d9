"""Objects by bucket and name: the row is the truth, the bytes lie where its `physical_key` says.

partition key  `{tenant_id}#{bucket_id}`      sort key  the object's name
`version`      names the bytes: a ULID, new with every write of bytes, part of the physical key
`storage_id`   where the physical key lies: the bucket's storage, None: the internal one
`revision`     counts the changes of the row: every write is conditional on the one that was read
`owner_key`    puts rows that have an owner into the index `by-owner`, where own-only listings look
`tokens_not_before`  signed URLs issued earlier do not open the object: its coming to this name, or a revocation

Of files, the objects of the bucket that every tenant has (`tables/buckets.FILES`), moreover:

`acl`          `public` or `private`; `folder_id` the folder that it is shown in, None: in none
`files…_key`   put them into the indexes `newest…`, where lists of files look: of all, of an owner, in a folder, of an owner in a folder

A move inside a bucket re-points: the new row names the old bytes. `Placement` says which row that is, in the
same transaction, so that the garbage collector can prove that no row names a key (`core/garbage.py`).
"""

from typing import ClassVar, Self

from chalicelib.tables.buckets import FILES
from chalicelib.tables.table import NumberAttribute, Table, UnicodeAttribute, table_name

PUBLIC, PRIVATE = "public", "private"
# In place of a folder's id: in none.
ROOT = "__root__"


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
    acl = UnicodeAttribute(null=True)
    folder_id = UnicodeAttribute(null=True)
    files_key = UnicodeAttribute(null=True)
    files_of_owner_key = UnicodeAttribute(null=True)
    files_in_folder_key = UnicodeAttribute(null=True)
    files_of_owner_in_folder_key = UnicodeAttribute(null=True)

    OWNER_INDEX: ClassVar[str] = "by-owner"
    FOLDER_INDEX: ClassVar[str] = "newest-in-folder"

    @property
    def tenant_id(self) -> str:
        """Whose it is, as its bucket's partition says."""
        return str(self.partition.partition("#")[0])

    @property
    def bucket_id(self) -> str:
        """The id of its bucket, which no other bucket of the name has."""
        return str(self.partition.partition("#")[2])

    def owned_by(self, owner_id: str | None) -> Self:
        """Set the owner; gives the row."""
        self.owner_id = owner_id
        return self.indexed()

    def filed(self, acl: str, folder_id: str | None) -> Self:
        """Set what a file has beside other objects; gives the row."""
        self.acl, self.folder_id = acl, folder_id
        return self.indexed()

    def indexed(self) -> Self:
        """Put the row into the indexes that its bucket, its owner and its folder say; gives the row."""
        owner, folder, is_file = self.owner_id, self.folder_id or ROOT, self.bucket == FILES
        self.owner_key = index_key(self.partition, owner) if owner else None
        self.files_key = self.partition if is_file else None
        self.files_of_owner_key = index_key(self.partition, owner) if is_file and owner else None
        self.files_in_folder_key = index_key(self.partition, folder) if is_file else None
        self.files_of_owner_in_folder_key = index_key(self.partition, owner, folder) if is_file and owner else None
        return self


def index_key(partition: str, *of: str) -> str:
    """Where an index holds the objects of a bucket that are an owner's, or in a folder."""
    return "#".join((partition, *of))


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
