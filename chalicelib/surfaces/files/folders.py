"""Folders over HTTP."""

from typing import TYPE_CHECKING

from chalicelib.core import folders
from chalicelib.surfaces.http import Request, json_answer
from chalicelib.tables.folders import Folder
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.files import models


def list_all(request: Request) -> Answer:
    return json_answer(200, {"data": [shown(folder) for folder in folders.all_of(request.principal)]})


def create(request: Request, body: "models.CreateFolder") -> Answer:
    return json_answer(201, {"data": shown(folders.create(request.principal, body.name, body.parentId))})


def change(request: Request, body: "models.ChangeFolder") -> Answer:
    changed = folders.change(request.principal, request.path("folder_id"), body.changes())
    return json_answer(200, {"ok": True, "data": shown(changed)})


def delete(request: Request) -> Answer:
    folders.delete(request.principal, request.path("folder_id"))
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
