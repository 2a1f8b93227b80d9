"""What a file has beside other objects: who may see its pictures, and the folder that it is shown in."""

from dataclasses import dataclass

from chalicelib.core import folders
from chalicelib.errors import FolderNotFound
from chalicelib.tables.buckets import FILES
from chalicelib.tables.objects import PRIVATE, ROOT, StoredObject


@dataclass(frozen=True, slots=True)
class Filing:
    """What was chosen. None: it stays as it is; a new file is private, and in the folder that its key names."""

    acl: str | None = None
    folder_id: str | None = None


LEFT = Filing()


def check(tenant_id: str, chosen: Filing) -> None:
    """Raise FolderNotFound if the folder that was chosen is not there."""
    if chosen.folder_id not in (None, ROOT) and not folders.exists(tenant_id, str(chosen.folder_id)):
        raise FolderNotFound(f"there is no folder {str(chosen.folder_id)[:64]}")


def place(row: StoredObject, current: StoredObject | None, chosen: Filing) -> None:
    """File a row that is about to be written, in place of `current`. A folder that has gone since it was chosen is none."""
    if row.bucket != FILES:
        return
    tenant_id = row.partition.partition("#")[0]
    acl = chosen.acl or (current.acl if current else None) or PRIVATE
    if chosen.folder_id is not None:
        folder_id = chosen.folder_id if chosen.folder_id != ROOT and folders.exists(tenant_id, chosen.folder_id) else None
    elif current is not None:
        folder_id = current.folder_id
    else:
        folder_id = folders.of_key(tenant_id, row.name, row.owner_id)
    row.filed(acl, folder_id)
