"""What a file has beside other objects: who may see its pictures, and the folder that it is shown in."""

from dataclasses import dataclass

from chalicelib.access.principals import Principal
from chalicelib.core import folders
from chalicelib.errors import InvalidRequest
from chalicelib.tables.buckets import FILES
from chalicelib.tables.objects import PRIVATE, PUBLIC, ROOT, StoredObject

ACLS = (PUBLIC, PRIVATE)


@dataclass(frozen=True, slots=True)
class Filing:
    """What was chosen. None: it stays as it is; a new file is private, and in the folder that its key names."""

    acl: str | None = None
    folder_id: str | None = None


LEFT = Filing()


def check(principal: Principal, chosen: Filing) -> None:
    """Raise InvalidRequest for an acl that is none, FolderNotFound unless the principal may see the folder that was chosen."""
    if chosen.acl not in (None, *ACLS):
        raise InvalidRequest(f"acl is one of: {', '.join(ACLS)}", field="acl")
    if chosen.folder_id not in (None, ROOT):
        folders.require(principal, str(chosen.folder_id))


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


def keep(row: StoredObject, current: StoredObject | None, given: str | None) -> None:
    """Give a file's row the metadata that came with its bytes, or where none did those of the file that it replaces."""
    if row.bucket == FILES:
        row.user_metadata = current.user_metadata if current and given is None else given
