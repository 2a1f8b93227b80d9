"""Folders of a tenant's files, by tenant and id. They are metadata alone: no storage knows of them.

A name is unique among an owner's folders in one parent: that it is taken is a row of its own (`FolderName`), written in the same
transaction; those rows are also where an owner's folders are found. What lies in one folder is found by `by-parent`, which lags.
`FolderCount` limits how many an owner has. A move changes the tenant's `FolderTree`, so that two moves which together would make
a circle cannot both happen.

`object_count`, `total_size_bytes`   of the files in it, moved by the stream of the objects table, so approximate
`miscounted`                         as of buckets
"""

from typing import ClassVar, Self

from chalicelib.tables.objects import index_key
from chalicelib.tables.table import Item, JSONAttribute, NumberAttribute, Table, UnicodeAttribute, table_name


class Folder(Table):
    """One folder. `parent_id` None: at the top; `owner_id` None: the service key's."""

    class Meta:
        table_name: ClassVar[str] = table_name("folders")

    tenant_id = UnicodeAttribute(hash_key=True)
    folder_id = UnicodeAttribute(range_key=True)
    name = UnicodeAttribute()
    parent_id = UnicodeAttribute(null=True)
    owner_id = UnicodeAttribute(null=True)
    revision = NumberAttribute(default=1)
    object_count = NumberAttribute(default=0)
    total_size_bytes = NumberAttribute(default=0)
    miscounted = JSONAttribute(null=True)
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()
    # Of the sparse index.
    parent_key = UnicodeAttribute(null=True)

    BY_PARENT: ClassVar[str] = "by-parent"
    # Above every id, which is hexadecimal, and below the words that the other rows lie under.
    ABOVE_IDS: ClassVar[str] = "g"

    def lying_in(self, parent_id: str | None) -> Self:
        """Itself, put into another folder, or at the top."""
        self.parent_id = parent_id
        self.parent_key = None if parent_id is None else index_key(self.tenant_id, parent_id)
        return self


class FolderName(Table):
    """That a name is taken among an owner's folders in a parent, and by which. Lies beside the folders under `PREFIX`."""

    class Meta:
        table_name: ClassVar[str] = table_name("folders")

    tenant_id = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True, attr_name="folder_id")
    taken_by = UnicodeAttribute()

    PREFIX: ClassVar[str] = "name#"


class FolderCount(Table):
    """How many `folders` an owner has. Lies beside them under `PREFIX`."""

    class Meta:
        table_name: ClassVar[str] = table_name("folders")

    tenant_id = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True, attr_name="folder_id")
    folders = NumberAttribute(default=0)

    PREFIX: ClassVar[str] = "owner#"


class FolderTree(Table):
    """`revision` counts the moves of a tenant's folders."""

    class Meta:
        table_name: ClassVar[str] = table_name("folders")

    tenant_id = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True, attr_name="folder_id")
    revision = NumberAttribute(default=0)

    ITEM: ClassVar[str] = "tree"


def is_folder(item: Item) -> bool:
    """Whether an item of the table is a folder. Only the id has to be read of it."""
    return str(item["folder_id"]["S"]) < Folder.ABOVE_IDS


def names_of(owner_id: str | None) -> str:
    """Below it lies which names an owner has taken."""
    return f"{FolderName.PREFIX}{owner_id or ''}#"


def name_item(owner_id: str | None, parent_id: str | None, name: str) -> str:
    """Where it says that a name is taken."""
    return f"{names_of(owner_id)}{parent_id or ''}#{name}"


def count_item(owner_id: str | None) -> str:
    """Where it says how many folders an owner has."""
    return f"{FolderCount.PREFIX}{owner_id or ''}"
