"""Uploads of files over HTTP: by TUS, and as JSON for those who manage them."""

from typing import TYPE_CHECKING, Literal

from chalicelib import seam
from chalicelib.core import content, sessions, upload_lists
from chalicelib.core.sessions import Wanted
from chalicelib.errors import InvalidRequest
from chalicelib.surfaces.files.files import chosen
from chalicelib.surfaces.http import Request, json_answer, whole_number
from chalicelib.surfaces.tus import protocol
from chalicelib.surfaces.tus.protocol import Metadata, append, head, options, overridden, terminate
from chalicelib.surfaces.writing import metadata_in, upsert
from chalicelib.tables.buckets import FILES
from chalicelib.tables.objects import ROOT
from chalicelib.tables.uploads import UploadSession
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.files import models

__all__ = ["append", "create", "head", "list_newest", "options", "overridden", "show", "terminate"]

FOLDER = "/api/uploads"
_Status = Literal["uploading", "completed", "expired", "aborted"]
STATUSES: dict[str, _Status] = {
    sessions.OPEN: "uploading",
    sessions.DONE: "completed",
    sessions.EXPIRED: "expired",
    sessions.TERMINATED: "aborted",
}


# ---- TUS -----------------------------------------------------------------------------------------------
def create(request: Request) -> Answer:
    return protocol.create(request, FOLDER, lambda metadata: _wanted(metadata, upsert(request, default=True)), named_by=("key", "filename"))


def _wanted(metadata: Metadata, replaces: bool) -> Wanted:
    key = metadata.get("key") or metadata.get("filename")
    if not key:
        raise InvalidRequest("Upload-Metadata names the file, as key or filename")
    declared = metadata.get("contentType") or metadata.get("filetype") or metadata.get("type") or ""
    user_metadata = metadata_in(metadata.get("metadata"))
    return Wanted(FILES, key, content.declared_type(declared, key), user_metadata, replaces, filing=chosen(metadata))


# ---- JSON ----------------------------------------------------------------------------------------------
def list_newest(request: Request) -> Answer:
    named = request.query.get("status")
    status = next((ours for ours, theirs in STATUSES.items() if theirs == named), None)
    if named is not None and status is None:
        raise InvalidRequest(f"status is one of: {', '.join(STATUSES.values())}")
    limit = whole_number(request.query.get("limit"), "limit", upload_lists.DEFAULT_LIMIT)
    return json_answer(200, {"uploads": [_shown(session) for session in upload_lists.newest(request.principal, status, limit)]})


def show(request: Request) -> Answer:
    return json_answer(200, _shown(upload_lists.find(request.principal, request.path("upload_id"))))


def _shown(session: UploadSession) -> "models.FileUpload":
    folder_id = session.result.get("folder_id") if session.result else session.folder_id
    return {
        "id": session.upload_id,
        "key": str(session.name),
        "size": None if session.total is None else int(session.total),
        "offset": int(session.offset),
        "status": STATUSES[upload_lists.status_of(session)],
        "contentType": session.content_type,
        "folderId": None if folder_id == ROOT else folder_id,
        "createdAt": session.created_at,
        "expiresAt": seam.iso(seam.at(session.expires_at)),
    }
