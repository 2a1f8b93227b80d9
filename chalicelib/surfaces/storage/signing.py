"""Signed URLs over HTTP."""

from typing import TYPE_CHECKING

from chalicelib import seam
from chalicelib.core import signing
from chalicelib.core.signing import Signed
from chalicelib.errors import StowageError
from chalicelib.surfaces import downloads
from chalicelib.surfaces.http import Request, json_answer
from chalicelib.surfaces.storage.objects import stored
from chalicelib.surfaces.writing import metadata
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.storage import models


def sign(request: Request, body: "models.Sign") -> Answer:
    return json_answer(
        200, _shown(request, signing.sign_download(request.principal, body.bucket, body.path, body.expires_in, _options(body.transform)))
    )


def sign_many(request: Request, body: "models.SignMany") -> Answer:
    outcomes = signing.sign_downloads(request.principal, body.bucket, body.paths, body.expires_in, _options(body.transform))
    answers: list[models.SignedPath] = [_path_shown(request, path, outcome) for path, outcome in zip(body.paths, outcomes, strict=True)]
    return json_answer(200, answers)


def sign_upload(request: Request, body: "models.SignUpload") -> Answer:
    signed = signing.sign_upload(request.principal, body.bucket, body.path, body.expires_in, body.upsert, body.content_type)
    return json_answer(200, _shown(request, signed))


def revoke(request: Request, body: "models.Revoke") -> Answer:
    signing.revoke(request.principal, body.bucket, body.path)
    return json_answer(200, {})


def download(request: Request) -> Answer:
    opened = signing.open_download(request.path("token"))
    return downloads.answer(request, opened.found, opened)


def upload(request: Request) -> Answer:
    declared = request.headers.get("content-type", "")
    row, is_new = signing.store_signed(request.path("token"), request.body, declared, metadata(request))
    return json_answer(201 if is_new else 200, stored(row))


def _options(transform: "models.Transform | None") -> dict[str, str] | None:
    return transform.given() if transform else None


def _shown(request: Request, signed: Signed) -> "models.Signed":
    return {"signed_url": signed.path, "url": request.base_url + signed.path, "expires_at": seam.iso(seam.at(signed.expires))}


def _path_shown(request: Request, path: str, outcome: Signed | StowageError) -> "models.SignedPath":
    if isinstance(outcome, StowageError):
        return {"path": path, "signed_url": None, "url": None, "error": {"code": outcome.code, "message": outcome.message}}
    return {"path": path, "signed_url": outcome.path, "url": request.base_url + outcome.path, "error": None}
