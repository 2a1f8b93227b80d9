"""Files: the objects of a tenant's own drive, the bucket `.files`, by key.

What becomes of their bytes is the core's as for all objects. Here is what only files have: an `acl`, a folder, metadata that is merged,
and that who has no permission at all is told so (403), while what lies outside of what a permission holds for does not exist (404).
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from chalicelib.access.credentials import require_tenant
from chalicelib.access.permissions import Operation, object_not_found, require_any
from chalicelib.access.principals import Principal, Role
from chalicelib.core import buckets, content, filing, names, objects, publishing
from chalicelib.core.filing import Filing
from chalicelib.core.objects import Found, Upload
from chalicelib.errors import ObjectNotFound
from chalicelib.tables.buckets import FILES
from chalicelib.tables.objects import ROOT, StoredObject


def require(principal: Principal, *operations: Operation) -> None:
    """Raise Forbidden, or Unauthorized for nobody, if none of the operations can be permitted on any file."""
    require_any(principal, operations, buckets.recent(principal.tenant_id, FILES))


def find(principal: Principal, key: str, is_transform: bool = False) -> Found:
    """A file that the principal may read, or of which anybody may have the transform; raises ObjectNotFound, Forbidden, InvalidName."""
    names.check_name_in(FILES, key)
    bucket, row = objects.read_current(principal, Operation.SELECT, FILES, key)
    if is_transform and row is not None and publishing.is_published(row):
        return Found(bucket, row)
    require_any(principal, (Operation.SELECT,), bucket)
    return Found(bucket, objects.permit_existing(principal, Operation.SELECT, bucket, key, row))


def find_published(tenant_id: str, key: str) -> Found:
    """A file of which anybody may have transforms; raises ObjectNotFound, InvalidName."""
    names.check_name_in(FILES, key)
    with suppress(ObjectNotFound):
        if names.is_uuid(tenant_id):
            require_tenant(tenant_id)
            bucket, row = objects.read_current(Principal(Role.ANON, tenant_id), Operation.SELECT, FILES, key)
            if row is not None and publishing.is_published(row):
                return Found(bucket, row)
    raise object_not_found(FILES, key)


def store(principal: Principal, key: str, upload: Upload) -> tuple[StoredObject, bool]:
    """Store a file; gives its row, and whether it is new. Over another it needs UPDATE of that, and keeps its owner.

    Raises FolderNotFound, and what `objects.store` raises.
    """
    require(principal, Operation.INSERT, Operation.UPDATE)
    return objects.store(principal, FILES, key, upload)


def change(principal: Principal, key: str, changes: Mapping[str, Any]) -> StoredObject:
    """Set `acl` and `folder_id` (None: in none), and merge `metadata`: a key that is None goes, None for all of it wipes it.

    Raises ObjectNotFound, FolderNotFound, InvalidRequest, Forbidden, Unauthorized.
    """
    require(principal, Operation.UPDATE)
    folder_id = changes.get("folder_id") or ROOT
    filing.check(principal, Filing(changes.get("acl"), folder_id))

    def changes_of(row: StoredObject) -> dict[str, Any]:
        changed = {"acl": changes["acl"]} if "acl" in changes else {}
        if "folder_id" in changes:
            changed["folder_id"] = None if folder_id == ROOT else folder_id
        if "metadata" in changes:
            changed["user_metadata"] = _merged(row.user_metadata, changes["metadata"])
        return changed

    return objects.change(principal, FILES, key, changes_of)


def _merged(stored: str | None, given: Mapping[str, Any] | None) -> str | None:
    if given is None:
        return None
    merged = {**(json.loads(stored) if stored else {}), **given}
    return content.metadata_text({name: value for name, value in merged.items() if value is not None} or None)


def delete(principal: Principal, key: str) -> None:
    """Remove a file; raises ObjectNotFound, Forbidden, Unauthorized."""
    require(principal, Operation.DELETE)
    objects.delete(principal, FILES, key)
