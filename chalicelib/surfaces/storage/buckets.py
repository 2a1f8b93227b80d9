"""Buckets over HTTP."""

from typing import TYPE_CHECKING, Literal

from chalicelib.access.permissions import require_service
from chalicelib.core import buckets
from chalicelib.errors import BucketFixed
from chalicelib.surfaces.http import Request, flag, json_answer
from chalicelib.tables.buckets import Bucket
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.storage import models


def create(request: Request, body: "models.CreateBucket") -> Answer:
    require_service(request.principal, "creating a bucket")
    storage_id = body.storage_id.lower() if body.storage_id else None
    bucket = buckets.create(request.principal, body.name, body.chosen(), storage_id)
    return json_answer(201, shown(bucket))


def list_all(request: Request) -> Answer:
    require_service(request.principal, "listing the buckets")
    return json_answer(200, [shown(bucket) for bucket in buckets.made_by(request.principal.tenant_id)])


def get(request: Request) -> Answer:
    return json_answer(200, shown(buckets.visible(request.principal, request.path("bucket"))))


def change(request: Request, body: "models.ChangeBucket") -> Answer:
    require_service(request.principal, "changing a bucket")
    name = request.path("bucket")
    if body.name is not None and body.name != name:
        raise BucketFixed("a bucket keeps its name; create another and move its objects")
    if body.storage_id is not None and body.storage_id.lower() != buckets.get(request.principal.tenant_id, name).storage_id:
        raise BucketFixed("a bucket keeps its storage; create another and move its objects")
    return json_answer(200, shown(buckets.change(request.principal.tenant_id, name, body.chosen())))


def delete(request: Request) -> Answer:
    require_service(request.principal, "deleting a bucket")
    job = buckets.delete(request.principal, request.path("bucket"), flag(request.query.get("if_empty"), "if_empty"))
    return json_answer(200, {"job_id": job.job_id})


def _options(given: dict[str, str]) -> dict[str, int | bool | str]:
    """A preset as a body has it, and not as a query."""
    numbers = {name: int(given[name]) for name in ("width", "height", "quality") if name in given}
    return given | numbers | ({"enlarge": given["enlarge"] == "true"} if "enlarge" in given else {})


def _transforms(bucket: Bucket) -> Literal["any", "presets", "signed"]:
    match bucket.transforms:
        case "presets" | "signed" as held_to:
            return held_to
    return "any"


def shown(bucket: Bucket) -> "models.Bucket":
    """A bucket under both of the seed's spellings."""
    return {
        "id": bucket.bucket_id,
        "name": bucket.name,
        "visibility": "public" if bucket.public else "private",
        "public": bucket.public,
        "max_file_size": bucket.size_limit,
        "file_size_limit": bucket.size_limit,
        "allowed_mimes": bucket.allowed_mime_types,
        "allowed_mime_types": bucket.allowed_mime_types,
        "transforms": _transforms(bucket),
        "transform_presets": {name: _options(given) for name, given in (bucket.transform_presets or {}).items()},
        "storage_id": bucket.storage_id,
        "object_count": int(bucket.object_count),
        "total_size_bytes": int(bucket.total_size_bytes),
        "created_at": bucket.created_at,
        "updated_at": bucket.updated_at,
    }
