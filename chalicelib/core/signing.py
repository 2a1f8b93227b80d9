"""Signed URLs: whoever holds one may download one object, or upload one, until it expires.

A token is `{payload}.{signature}`, both base64url without padding (seed 002 "Signed URLs"). The payload is compact
JSON: bucket `b`, path `p`, tenant `pid`, expiry `exp` and issue `iat` in seconds since 1970, and the master key's
id `kid`; one for a transform alone has its options `tr` and the role `r` of who signed it; one for uploads has the scope
`s: "up"`, who signed it (role `r`, claims `c`), whether it may overwrite `u`, and a type `t`. The signature is HMAC-SHA256
under a key derived from the master key, so that a changed master key ends all tokens once it is no longer listed beside
the new one.

What is no longer the object that was signed is not opened: a token older than the object's `tokens_not_before` (when
it came to its name, or when its tokens were revoked) or than its bucket is refused.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from chalicelib import seam
from chalicelib.access.credentials import require_tenant
from chalicelib.access.permissions import Operation, denial_of_missing, require_any
from chalicelib.access.principals import Principal, Role
from chalicelib.access.sealing import MasterKey, master_keys
from chalicelib.core import buckets, content, names, objects, transforms
from chalicelib.core.objects import Found, Upload
from chalicelib.errors import BucketNotFound, ExpiredToken, InvalidSignature, StowageError
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.objects import StoredObject, UsedToken

CONTEXT = b"atlas-storage-signed-urls"
DEFAULT_LIFETIME = 3600
MAX_LIFETIME = 604_800
MAX_SIGNED_AT_ONCE = 1000
MAX_TOKEN_CHARACTERS = 8192
UPLOAD = "up"
# DynamoDB deletes the mark of a used token some time after it could be used again.
KEPT_AFTER_EXPIRY = 86_400

Transform = dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Signed:
    """A token and when it expires, in seconds since 1970."""

    token: str
    expires: int

    @property
    def path(self) -> str:
        """Where the API answers to it."""
        return f"/storage/signed/{self.token}"


@dataclass(frozen=True, slots=True)
class Opened:
    """What a download token opens, for how many more seconds, and which transform of it alone, if it says."""

    found: Found
    seconds_left: float
    transform: transforms.Signed | None


# ---- signing -------------------------------------------------------------------------------------------
def sign_download(principal: Principal, bucket_name: str, path: str, lifetime: int, transform: Transform = None) -> Signed:
    """A token for an object that the principal may read, or for one transform of it; raises what reading it would."""
    return _sign_found(principal, objects.find(principal, bucket_name, path), lifetime, transform)


def sign_downloads(
    principal: Principal, bucket_name: str, paths: Sequence[str], lifetime: int, transform: Transform = None
) -> list[Signed | StowageError]:
    """A token or an error for each path, in order."""
    found = objects.find_many(principal, bucket_name, paths)
    return [each if isinstance(each, StowageError) else _sign_found(principal, each, lifetime, transform) for each in found]


def sign_upload(principal: Principal, bucket_name: str, path: str, lifetime: int, upsert: bool, content_type: str | None) -> Signed:
    """A token that uploads to a path once, on behalf of the principal, whose policies are asked when it does.

    What will be uploaded is not known yet, so only who could upload nothing at all to the bucket is refused here.
    Raises Forbidden, Unauthorized, BucketNotFound, InvalidName, KeyTooLong, UnsupportedType.
    """
    names.check_name_in(bucket_name, path)
    try:
        bucket = buckets.get(principal.tenant_id, bucket_name)
    except BucketNotFound as error:
        raise denial_of_missing(principal, Operation.INSERT, bucket_name, path) from error
    require_any(principal, (Operation.INSERT, Operation.UPDATE), bucket)
    objects.new_row(principal, bucket, path, "", None)  # that its key is not too long
    if content_type:
        content.check_allowed(bucket, content_type, b"")
    claims = {name: value for name in ("sub", "role", "email") if (value := principal.claims.get(name)) is not None}
    scope = {"s": UPLOAD, "r": principal.role.value, "c": claims, "u": upsert, "t": content_type}
    return _sign(principal.tenant_id, bucket_name, path, lifetime, seam.timestamp(), scope)


def revoke(principal: Principal, bucket_name: str, path: str) -> None:
    """End every token of an object that was issued until now; needs UPDATE."""

    def later(row: StoredObject) -> dict[str, Any]:
        # Later than before even by a clock that lags the one that said so.
        return {"tokens_not_before": seam.iso(max(seam.now(), seam.moment(row.tokens_not_before) + timedelta(microseconds=1)))}

    objects.change(principal, bucket_name, path, later)


def _sign_found(principal: Principal, found: Found, lifetime: int, transform: Transform) -> Signed:
    if transform:
        transforms.check(found, transform, trusted=principal.is_service)
    # Another process, whose clock may be ahead of this one's, wrote the row: a new token is never older than it.
    issued = max(seam.timestamp(), _not_before(found.row))
    return _sign(
        principal.tenant_id,
        found.bucket.name,
        found.row.name,
        lifetime,
        issued,
        {"tr": transform, "r": principal.role.value} if transform else {},
    )


def _sign(tenant_id: str, bucket: str, path: str, lifetime: int, issued: float, scope: dict[str, Any]) -> Signed:
    key, expires = master_keys()[0], int(seam.timestamp()) + lifetime
    payload = {"b": bucket, "p": path, "pid": tenant_id, "exp": expires, "iat": issued, "kid": key.key_id, **scope}
    encoded = base64url(json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode())
    return Signed(f"{encoded}.{base64url(_signature(key, encoded))}", expires)


# ---- opening -------------------------------------------------------------------------------------------
def open_download(token: str) -> Opened:
    """The object that a token opens; raises InvalidSignature, ExpiredToken, ObjectNotFound."""
    payload = _verified(token, scope=None)
    require_tenant(payload["pid"])
    service = Principal(Role.SERVICE, payload["pid"])
    bucket, row = objects.read_current(service, Operation.SELECT, payload["b"], payload["p"])
    row = objects.permit_existing(service, Operation.SELECT, bucket, payload["p"], row)
    _check_age(payload, bucket, row)
    transform = transforms.Signed(payload["tr"], payload["r"] == Role.SERVICE.value) if "tr" in payload else None
    return Opened(Found(bucket, row), payload["exp"] - seam.timestamp(), transform)


def store_signed(token: str, body: bytes, declared: str, user_metadata: str | None) -> tuple[StoredObject, bool]:
    """Upload by a token, once; gives the row, and whether it is new. Raises what an upload does, and TokenUsed."""
    payload = _verified(token, scope=UPLOAD)
    require_tenant(payload["pid"])
    signer = Principal(Role(payload["r"]), payload["pid"], payload["c"])

    def used(bucket: Bucket, row: StoredObject) -> UsedToken:
        _check_age(payload, bucket, None)
        mark = hashlib.sha256(token.encode()).hexdigest()
        return UsedToken(bucket.partition + UsedToken.SUFFIX, mark, version=row.version, expires_at=payload["exp"] + KEPT_AFTER_EXPIRY)

    content_type = payload["t"] or content.declared_type(declared, payload["p"])
    return objects.store(signer, payload["b"], payload["p"], Upload(body, content_type, user_metadata, payload["u"]), used)


def _verified(token: str, scope: str | None) -> dict[str, Any]:
    """The payload of a token that this installation signed for `scope`."""
    encoded, _, signature = token.partition(".")
    given = from_base64url(signature)
    if len(token) > MAX_TOKEN_CHARACTERS or not any(hmac.compare_digest(given, _signature(key, encoded)) for key in master_keys()):
        raise InvalidSignature("the signed URL is not valid; ask for a new one")
    payload: dict[str, Any] = json.loads(from_base64url(encoded))
    if payload.get("s") != scope:
        raise InvalidSignature(f"this URL is for {'uploads' if scope is None else 'downloads'} alone")
    if payload["exp"] <= seam.timestamp():
        raise ExpiredToken("the signed URL has expired; ask for a new one")
    return payload


def _check_age(payload: dict[str, Any], bucket: Bucket, row: StoredObject | None) -> None:
    born = seam.moment(bucket.created_at).timestamp()
    if payload["iat"] < born or (row is not None and payload["iat"] < _not_before(row)):
        raise InvalidSignature("the signed URL was revoked, or is for an object that is no longer there; ask for a new one")


def _not_before(row: StoredObject) -> float:
    return seam.moment(row.tokens_not_before).timestamp()


def _signature(key: MasterKey, encoded: str) -> bytes:
    return hmac.digest(key.derive(CONTEXT), encoded.encode(), "sha256")


def base64url(data: bytes) -> str:
    """RFC 4648 §5, without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    """base64url without padding; empty for anything else, the unused bits of its last character included."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except ValueError:
        return b""
    return data if base64url(data) == text else b""
