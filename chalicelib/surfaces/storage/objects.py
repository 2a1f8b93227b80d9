"""Objects over HTTP."""

import json
from typing import TYPE_CHECKING, Any, Literal

from chalicelib.core import content, copies, listing, objects
from chalicelib.core.objects import Upload
from chalicelib.surfaces import downloads, forms
from chalicelib.surfaces.http import Request, json_answer, whole_number
from chalicelib.surfaces.writing import metadata, upsert
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.storage import models


def upload(request: Request) -> Answer:
    name = request.path("path")
    body, declared = request.body, request.headers.get("content-type", "")
    if content.essence(declared) == forms.TYPE:
        body, declared = forms.single_file(declared, body)
    wanted = Upload(body, content.declared_type(declared, name), metadata(request), upsert(request, default=True))
    row, is_new = objects.store(request.principal, request.path("bucket"), name, wanted)
    return json_answer(201 if is_new else 200, stored(row))


def download(request: Request) -> Answer:
    return downloads.answer(request, objects.find(request.principal, request.path("bucket"), request.path("path")))


def download_public(request: Request) -> Answer:
    found = objects.find_public(request.path("tenant_id"), request.path("bucket"), request.path("path"))
    return downloads.answer(request, found)


def show(request: Request) -> Answer:
    return json_answer(200, shown(objects.find(request.principal, request.path("bucket"), request.path("path")).row))


def change(request: Request, body: "models.ChangeObject") -> Answer:
    changes: dict[str, Any] = {}
    if "user_metadata" in body.model_fields_set:
        changes["user_metadata"] = content.metadata_text(body.user_metadata)
    if body.content_type is not None:
        changes["content_type"] = body.content_type
    return json_answer(200, shown(objects.change(request.principal, request.path("bucket"), request.path("path"), lambda _: changes)))


def delete(request: Request) -> Answer:
    objects.delete(request.principal, request.path("bucket"), request.path("path"))
    return json_answer(200, {})


def delete_many(request: Request, body: "models.DeleteMany") -> Answer:
    outcomes = objects.delete_many(request.principal, request.path("bucket"), body.paths)
    answers: list[models.Deleted] = [
        {"path": path, "error": {"code": error.code, "message": error.message} if error else None}
        for path, error in zip(body.paths, outcomes, strict=True)
    ]
    return json_answer(200, answers)


def move(request: Request, body: "models.Relocate") -> Answer:
    replaces = upsert(request, default=False)
    done = copies.move(request.principal, body.bucket, body.source, body.to_bucket or body.bucket, body.target, replaces)
    return _row_or_job(done)


def copy(request: Request, body: "models.Relocate") -> Answer:
    replaces = upsert(request, default=False)
    done = copies.copy(request.principal, body.bucket, body.source, body.to_bucket or body.bucket, body.target, replaces)
    return _row_or_job(done)


def list_page(request: Request) -> Answer:
    query = request.query
    page = listing.page(
        request.principal,
        request.path("bucket"),
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        limit=whole_number(query.get("limit"), "limit", 100),
        offset=whole_number(query.get("offset"), "offset", 0),
        cursor=query.get("cursor", ""),
    )
    return json_answer(200, page.rows, {"x-next-cursor": page.cursor} if page.cursor else None)


def shown(row: StoredObject) -> "models.Object":
    """An object's row, without what only the core needs."""
    return {
        "id": row.id,
        "name": row.name,
        "bucket": row.bucket,
        "version": row.version,
        "size": int(row.size),
        "content_type": row.content_type,
        "checksum": row.checksum,
        "checksum_state": checksum_state(row),
        "owner_id": row.owner_id,
        "user_metadata": json.loads(row.user_metadata) if row.user_metadata else None,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def stored(row: StoredObject) -> "models.Stored":
    """What an upload answers."""
    return {
        "id": row.id,
        "name": row.name,
        "size": int(row.size),
        "content_type": row.content_type,
        "checksum": row.checksum,
        "checksum_state": checksum_state(row),
        "version": row.version,
    }


def checksum_state(row: StoredObject) -> Literal["known", "pending"]:
    """Whether a job has yet to read the bytes for their checksum."""
    return "pending" if row.checksum is None else "known"


def _row_or_job(done: StoredObject | Job) -> Answer:
    if isinstance(done, Job):
        return json_answer(202, {"job_id": done.job_id})
    return json_answer(200, shown(done))
