"""Deltas and claims over HTTP."""

from typing import TYPE_CHECKING

from chalicelib import seam
from chalicelib.core import attempts, claims, deltas
from chalicelib.core.claims import Claim
from chalicelib.core.layout import Place
from chalicelib.providers import Promise
from chalicelib.surfaces.http import Request, json_answer, whole_number
from chalicelib.surfaces.vault.ids import named, uuid_of
from chalicelib.tables.deltas import STORED, Delta
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.vault import models

PAGE = 100


def upload(request: Request, body: "models.UploadDelta") -> Answer:
    delta_uuid = None if body.delta_uuid is None else uuid_of("delta_uuid", body.delta_uuid)
    begun = attempts.begin(request.principal, uuid_of("key_uuid", body.key_uuid), body.size_bytes, body.content_md5, delta_uuid)
    shown: models.DeltaUpload = {
        "delta_uuid": begun.delta.delta_uuid,
        "key_uuid": begun.delta.key_uuid,
        "upload_attempt_uuid": begun.attempt,
        "method": "PUT",
        "url": begun.url,
        "headers": dict(begun.headers),
        "expires_at": seam.iso(seam.at(begun.expires)),
        "object_key": begun.place.whole(begun.delta.delta_uuid),
        "safeguards": _safeguards(begun.place),
        "warning": begun.place.weakness,
    }
    return json_answer(201, shown)


def confirm(request: Request, body: "models.ConfirmDelta") -> Answer:
    ids = uuid_of("delta_uuid", body.delta_uuid), uuid_of("upload_attempt_uuid", body.upload_attempt_uuid)
    return json_answer(200, _shown(*attempts.confirm(request.principal, *ids)))


def download(request: Request) -> Answer:
    delta_uuid = named(request, "delta_uuid")
    url, expires = deltas.download(request.principal, delta_uuid)
    shown: models.DeltaDownload = {"delta_uuid": delta_uuid, "url": url, "expires_at": seam.iso(seam.at(expires))}
    return json_answer(200, shown)


def list_all(request: Request) -> Answer:
    limit = whole_number(request.query.get("limit"), "limit", PAGE)
    place, found, after = deltas.page(request.principal, named(request, "key_uuid"), limit, request.query.get("cursor"))
    return json_answer(200, [_shown(place, delta) for delta in found], {"x-next-cursor": after} if after else None)


def delete(request: Request, body: "models.DeleteDelta") -> Answer:
    delta_uuid = named(request, "delta_uuid", body.delta_uuid)
    left = deltas.delete(request.principal, delta_uuid)
    shown: models.DeltaDeleted = {"delta_uuid": delta_uuid, "warning": left.warning, "left": left.keys}
    return json_answer(200, shown)


def claim(request: Request, body: "models.ClaimSection") -> Answer:
    delta_uuid = uuid_of("delta_uuid", body.delta_uuid)
    return json_answer(201, _claimed(delta_uuid, claims.claim(request.principal, delta_uuid, body.start, body.length)))


def list_claims(request: Request) -> Answer:
    delta_uuid = named(request, "delta_uuid")
    return json_answer(200, [_claimed(delta_uuid, each) for each in claims.all_of(request.principal, delta_uuid)])


def release(request: Request, body: "models.ReleaseSection") -> Answer:
    delta_uuid, claim_id = named(request, "delta_uuid", body.delta_uuid), named(request, "claim_id", body.claim_id)
    claims.release(request.principal, delta_uuid, claim_id)
    return json_answer(200, {})


def _shown(place: Place, delta: Delta) -> "models.Delta":
    is_stored = delta.status == STORED
    promised = delta.attempts[-1]  # what it will be, unless another attempt is confirmed
    return {
        "delta_uuid": delta.delta_uuid,
        "key_uuid": delta.key_uuid,
        "status": delta.status,  # type: ignore[typeddict-item]  # written by core/attempts.py alone
        "size_bytes": int(delta.size_bytes if is_stored else promised["size"]),
        "content_md5": delta.content_md5 if is_stored else promised["md5"],
        "upload_attempt_uuid": delta.attempt if is_stored else promised["attempt"],
        "object_key": place.whole(delta.delta_uuid),
        "safeguards": _safeguards(place),
        "warning": place.weakness,
        "created_at": delta.created_at,
        "confirmed_at": delta.confirmed_at,
    }


def _safeguards(place: Place) -> "models.DeltaSafeguards":
    return {
        "overwrite": "checked" if Promise.NEW in place.unkept else "enforced",
        "content_md5": "checked" if Promise.MD5 in place.unkept else "enforced",
    }


def _claimed(delta_uuid: str, each: Claim) -> "models.SectionClaim":
    return {
        "claim_id": each["claim_id"],
        "delta_uuid": delta_uuid,
        "start": each["start"],
        "length": each["length"],
        "user_uuid": each["claimed_by"],
        "created_at": each["created_at"],
    }
