"""Folders of a tenant's files, by tenant and id. They are metadata alone: no storage knows of them.

A name is unique among the children of one parent: that it is taken is a row of its own (`FolderName`), written in the same transaction.
Whatever changes who lies in whom moves the tenant's `FolderTree` on, so that two moves which together would make a circle cannot both
happen.

`object_count`, `total_size_bytes`   of the files in it, moved by the stream of the objects table, so approximate
"""

from typing import ClassVar

from chalicelib.tables.table import Item, NumberAttribute, Table, UnicodeAttribute, table_name


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
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()


class FolderName(Table):
    """That a name is taken among a parent's children, and by which folder. Lies beside the folders under `PREFIX`."""

    class Meta:
        table_name: ClassVar[str] = table_name("folders")

    tenant_id = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True, attr_name="folder_id")
    taken_by = UnicodeAttribute()

    PREFIX: ClassVar[str] = "name#"


class FolderTree(Table):
    """How many `folders` there are; `revision` counts what has changed who lies in whom."""

    class Meta:
        table_name: ClassVar[str] = table_name("folders")

    tenant_id = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True, attr_name="folder_id", default="tree")
    revision = NumberAttribute(default=0)
    folders = NumberAttribute(default=0)

    ITEM: ClassVar[str] = "tree"


def name_item(parent_id: str | None, name: str) -> str:
    """Where it says that a name is taken."""
    return f"{FolderName.PREFIX}{parent_id or ''}#{name}"


def is_folder(item: Item) -> bool:
    """Whether an item of the table is a folder. Only the id has to be read of it."""
    return not item["folder_id"]["S"].startswith((FolderName.PREFIX, FolderTree.ITEM))
