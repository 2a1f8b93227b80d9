"""Uploads in chunks and direct uploads over HTTP (seed 002 "Resumable Upload Endpoints"; direct ones are CONTRACT's)."""

import re
from typing import TYPE_CHECKING

from chalicelib import seam
from chalicelib.core import content, direct, sessions, uploads
from chalicelib.core.direct import Begun, Promised
from chalicelib.core.sessions import Wanted
from chalicelib.errors import InvalidRequest
from chalicelib.settings import settings
from chalicelib.surfaces.http import Request, json_answer, natural_number, whole_number
from chalicelib.surfaces.storage.objects import stored
from chalicelib.tables.uploads import UploadSession
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.storage import models

_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")


# ---- in chunks -----------------------------------------------------------------------------------------
def begin(request: Request, body: "models.BeginUpload") -> Answer:
    session = uploads.begin(request.principal, sessions.RESUMABLE, _wanted(body))
    begun: models.UploadBegun = {
        "upload_id": session.upload_id,
        **_progress(session),
        "expires_at": seam.iso(seam.at(session.expires_at)),
        "chunk_max": settings().max_body,
    }
    return json_answer(201, begun)


def append(request: Request) -> Answer:
    offset, total = _position(request)
    session = uploads.append(request.principal, request.path("upload_id"), offset, request.body, total)
    return json_answer(200, _progress(session))


def head(request: Request) -> Answer:
    session = uploads.head(request.principal, request.path("upload_id"))
    length = {} if session.total is None else {"Upload-Length": str(int(session.total))}
    return Answer(200, headers={"Upload-Offset": str(int(session.offset)), **length, "Cache-Control": "no-store"})


def complete(request: Request, body: "models.CompleteUpload") -> Answer:
    checksum = content.hex_of(body.checksum) if body.checksum else None
    session = uploads.complete(request.principal, request.path("upload_id"), checksum)
    return json_answer(200, stored(uploads.result(session)))


def abandon(request: Request) -> Answer:
    uploads.terminate(request.principal, request.path("upload_id"))
    return json_answer(200, {})


def _wanted(body: "models.BeginUpload") -> Wanted:
    content_type = body.content_type or content.declared_type("", body.path)
    return Wanted(body.bucket, body.path, content_type, content.metadata_text(body.user_metadata), body.upsert, body.size)


def _progress(session: UploadSession) -> "models.UploadProgress":
    return {"bytes_uploaded": int(session.offset), "total_size": None if session.total is None else int(session.total)}


def _position(request: Request) -> tuple[int, int | None]:
    """Where the body belongs, and the size of the whole if it is told: Upload-Offset, or Content-Range."""
    header, offset = request.headers.get("content-range"), request.headers.get("upload-offset")
    if header is None:
        return natural_number(offset, "Upload-Offset"), None
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None or int(match[2]) - int(match[1]) + 1 != len(request.body):
        raise InvalidRequest("Content-Range is of the form 'bytes 0-99/1000' and as long as the body")
    if offset is not None and natural_number(offset, "Upload-Offset") != int(match[1]):
        raise InvalidRequest("Upload-Offset and Content-Range say different things")
    return int(match[1]), None if match[3] == "*" else int(match[3])


# ---- direct --------------------------------------------------------------------------------------------
def begin_direct(request: Request, body: "models.BeginDirect") -> Answer:
    promise = Promised(body.checksum_sha256, body.content_md5, body.parts)
    return json_answer(201, _shown(direct.begin(request.principal, _wanted(body), promise)))


def sign_parts(request: Request) -> Answer:
    first = whole_number(request.query.get("from"), "from", 1)
    count = whole_number(request.query.get("count"), "count", direct.MAX_PARTS_AT_ONCE)
    return json_answer(200, _shown(direct.sign_parts(request.principal, request.path("upload_id"), first, count)))


def confirm(request: Request, body: "models.ConfirmUpload") -> Answer:
    given = {part.number: part.etag for part in body.parts or ()}
    return json_answer(200, stored(uploads.result(direct.confirm(request.principal, request.path("upload_id"), given))))


def _shown(begun: Begun) -> "models.DirectBegun":
    session = begun.session
    shown: models.DirectBegun = {"upload_id": session.upload_id, "expires_at": seam.iso(seam.at(begun.expires))}
    if begun.headers is not None:
        return {**shown, "method": "PUT", "url": begun.url, "headers": dict(begun.headers)}
    listed: list[models.SignedPart] = [{"number": part.number, "size": part.size, "url": part.url} for part in begun.parts]
    return {**shown, "part_size": int(session.part_size), "parts": listed}
