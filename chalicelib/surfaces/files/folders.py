"""Folders over HTTP."""

from typing import TYPE_CHECKING

from chalicelib.core import folder_ends, folders, names
from chalicelib.errors import InvalidCursor
from chalicelib.surfaces.http import Request, json_answer
from chalicelib.tables.folders import Folder
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.files import models


def list_page(request: Request) -> Answer:
    after = request.query.get("cursor", "")
    if after and not names.is_uuid(after):
        raise InvalidCursor("the cursor is not one that this list gave; begin again without it")
    found, following = folders.page(request.principal, after)
    listed: models.FolderList = {"data": [shown(folder) for folder in found], "meta": {"nextCursor": following}}
    return json_answer(200, listed)


def create(request: Request, body: "models.CreateFolder") -> Answer:
    return json_answer(201, {"data": shown(folders.create(request.principal, body.name, body.parentId))})


def change(request: Request, body: "models.ChangeFolder") -> Answer:
    changed = folders.change(request.principal, request.path("folder_id"), body.changes())
    return json_answer(200, {"ok": True, "data": shown(changed)})


def delete(request: Request) -> Answer:
    folder_ends.delete(request.principal, request.path("folder_id"))
    return json_answer(200, {"ok": True})


def shown(folder: Folder) -> "models.Folder":
    """A folder, without its counters: `GET /api/storage/folder-counts` has them."""
    return {
        "id": folder.folder_id,
        "name": folder.name,
        "parentId": folder.parent_id,
        "ownerId": folder.owner_id,
        "createdAt": folder.created_at,
        "updatedAt": folder.updated_at,
    }
