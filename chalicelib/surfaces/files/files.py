"""Files over HTTP."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chalicelib import seam
from chalicelib.core import content, file_tokens, files, newest
from chalicelib.core.filing import Filing
from chalicelib.core.newest import Wanted
from chalicelib.core.objects import Upload
from chalicelib.errors import InvalidRequest, MethodNotAllowed
from chalicelib.images.options import PARAMETERS
from chalicelib.surfaces import downloads
from chalicelib.surfaces.http import Request, json_answer, whole_number
from chalicelib.surfaces.writing import metadata, upsert
from chalicelib.tables.objects import PUBLIC
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.files import models

BASE = "/api/storage"
SIGN = "/sign"


def list_page(request: Request) -> Answer:
    query, limit = request.query, whole_number(request.query.get("limit"), "limit", newest.DEFAULT_LIMIT)
    offset = whole_number(query.get("offset"), "offset", 0)
    wanted = Wanted(query.get("prefix", ""), query.get("folderId") or None, query.get("search", "").strip())
    page = newest.page(request.principal, wanted, limit, offset, query.get("cursor", ""))
    listed: models.FileList = {
        "data": [shown(each) for each in page.files],
        "meta": {"total": page.total, "limit": limit, "offset": offset, "nextCursor": page.cursor},
    }
    return json_answer(200, listed)


def put(request: Request) -> Answer:
    key = request.path("key")
    content_type = content.declared_type(request.headers.get("content-type", ""), key)
    upload = Upload(request.body, content_type, metadata(request), upsert(request, default=True), chosen(request.query))
    row, is_new = files.store(request.principal, key, upload)
    return json_answer(201 if is_new else 200, {"data": shown(row.attribute_values)})


def get(request: Request) -> Answer:
    key, token = request.path("key"), request.query.get("token")
    if token is not None:
        opened = file_tokens.open_file(token, key)
        return downloads.answer(request, opened.found, opened, is_file=True)
    is_transform = bool(PARAMETERS & request.query.keys())
    return downloads.answer(request, files.find(request.tenant_principal, key, is_transform), is_file=True)


def get_public(request: Request) -> Answer:
    found = files.find_published(request.path("tenant_id"), request.path("key"))
    if not PARAMETERS & request.query.keys():
        raise InvalidRequest("only transforms of public files are given here; say how it is to be shown, such as ?width=800")
    return downloads.answer(request, found, is_file=True)


def change(request: Request, body: "models.ChangeFile") -> Answer:
    row = files.change(request.principal, request.path("key"), body.changes())
    return json_answer(200, {"ok": True, "data": shown(row.attribute_values)})


def delete(request: Request) -> Answer:
    files.delete(request.principal, request.path("key"))
    return json_answer(200, {"ok": True})


def sign(request: Request, body: "models.SignFile") -> Answer:
    return _signed(request, request.path("key"), body)


def post(request: Request, body: "models.SignFile") -> Answer:
    key = request.path("key")
    if not key.endswith(SIGN):
        raise MethodNotAllowed(f"POST to a file signs a URL of it, below {BASE}/_sign/", allow="GET, HEAD, PUT, PATCH, DELETE, OPTIONS")
    return _signed(request, key.removesuffix(SIGN), body)


def _signed(request: Request, key: str, body: "models.SignFile") -> Answer:
    signed = file_tokens.sign(request.principal, key, body.ttlSeconds)
    path = f"{BASE}/{quote(key)}?token={signed.token}"
    shown_url: models.SignedFile = {"url": request.base_url + path, "path": path, "expiresAt": seam.iso(seam.at(signed.expires))}
    return json_answer(200, shown_url)


def count_by_folder(request: Request) -> Answer:
    counts = newest.counts(request.principal)
    counted: models.FolderCounts = {
        "root": counts.in_none,
        "byFolderId": counts.in_folders,
        "total": counts.total,
        "complete": counts.complete,
    }
    return json_answer(200, counted)


def import_from_url(request: Request, body: "models.ImportFile") -> Answer:
    from chalicelib.core import importing
    from chalicelib.tables.jobs import Job

    wanted = importing.Import(body.url, body.key or "", body.contentType, body.upsert, Filing(body.acl, body.folderId))
    done = importing.begin(request.principal, wanted)
    if isinstance(done, Job):
        started: models.ImportStarted = {"jobId": done.job_id, "url": f"{request.base_url}/jobs/{done.job_id}"}
        return json_answer(202, started)
    return json_answer(201, {"data": {**shown(done.attribute_values), "sourceUrl": body.url}})


def chosen(given: Mapping[str, str]) -> Filing:
    """What a query, or a TUS client's metadata, says of a file beside its bytes."""
    return Filing(given.get("acl"), given.get("folderId") or None)


def shown(row: Mapping[str, Any]) -> "models.File":
    """A file, by the attributes of its row, without what only the core needs."""
    stored = row.get("user_metadata")
    return {
        "id": row["id"],
        "key": row["name"],
        "size": int(row["size"]),
        "contentType": row["content_type"],
        "checksum": row.get("checksum"),
        "version": row["version"],
        "acl": "public" if row.get("acl") == PUBLIC else "private",
        "folderId": row.get("folder_id"),
        "ownerId": row.get("owner_id"),
        "metadata": json.loads(stored) if stored else None,
        "uploadedAt": row["created_at"],
        "updatedAt": row["updated_at"],
    }
