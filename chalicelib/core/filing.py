"""What a file has beside other objects: who may see its pictures, and the folder that it is shown in."""

from dataclasses import dataclass, replace

from chalicelib.access.principals import Principal
from chalicelib.core import folders
from chalicelib.errors import InvalidRequest
from chalicelib.tables.buckets import FILES
from chalicelib.tables.objects import PRIVATE, PUBLIC, ROOT, StoredObject

ACLS = (PUBLIC, PRIVATE)


@dataclass(frozen=True, slots=True)
class Filing:
    """What was chosen. None: it stays as it is; a new file is private, and in the folder that its key names.

    `keeps_metadata`: where none comes with its bytes, it has that of the file that it replaces.
    """

    acl: str | None = None
    folder_id: str | None = None
    keeps_metadata: bool = True


UNCHANGED = Filing()


def check(principal: Principal, chosen: Filing) -> None:
    """Raise InvalidRequest for an acl that is none, FolderNotFound unless the principal may see the folder that was chosen."""
    if chosen.acl not in (None, *ACLS):
        raise InvalidRequest(f"acl is one of: {', '.join(ACLS)}", field="acl")
    if chosen.folder_id not in (None, ROOT):
        folders.require(principal, str(chosen.folder_id))


def standing(tenant_id: str, chosen: Filing) -> Filing:
    """What was chosen as far as it is there: a folder that has gone since is none."""
    if chosen.folder_id in (None, ROOT) or folders.exists(tenant_id, str(chosen.folder_id)):
        return chosen
    return replace(chosen, folder_id=ROOT)


def place(row: StoredObject, current: StoredObject | None, chosen: Filing) -> None:
    """File a row that is about to be written, in place of `current`."""
    if row.bucket != FILES:
        return
    acl = chosen.acl or (current.acl if current else None) or PRIVATE
    if chosen.folder_id is not None:
        folder_id = standing(row.tenant_id, chosen).folder_id
        folder_id = None if folder_id == ROOT else folder_id
    elif current is not None:
        folder_id = current.folder_id
    else:
        folder_id = folders.of_key(row.tenant_id, row.name, row.owner_id)
    row.filed(acl, folder_id)


def keep(row: StoredObject, current: StoredObject | None, given: str | None, chosen: Filing) -> None:
    """Give a file's row the metadata that came with its bytes, or where none did that of the file that it replaces."""
    if row.bucket == FILES:
        row.user_metadata = current.user_metadata if current and given is None and chosen.keeps_metadata else given
