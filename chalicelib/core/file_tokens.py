"""Tokens that open one file to whoever holds its URL, until they expire.

A token is `{payload}.{signature}`, both base64url without padding (seed 003 "Signed URLs"). The payload is compact JSON: the physical key
`k` as `tenants/{tenant}/{key}`, the tenant `t`, and the expiry `exp` in seconds since 1970. The signature is HMAC-SHA256 of the payload and
of the file's `tokens_not_before`: so a token ends with its file, with a move and with a revocation, and never opens what another has
stored under the key since. It is made under `STOWAGE_AUTH_SECRET`, whose change ends all tokens, or where that is not set, under a key
derived from the master key.
"""

import hashlib
import hmac
import json
from typing import Any

from chalicelib import seam
from chalicelib.access.credentials import require_tenant
from chalicelib.access.permissions import Operation
from chalicelib.access.principals import Principal, Role
from chalicelib.access.sealing import master_keys
from chalicelib.core import files, names, objects
from chalicelib.core.objects import Found
from chalicelib.core.signing import Opened, Signed, base64url, from_base64url
from chalicelib.errors import ExpiredToken, InvalidRequest, InvalidSignature, ObjectNotFound
from chalicelib.settings import settings
from chalicelib.tables.buckets import FILES
from chalicelib.tables.objects import StoredObject

LABEL = b"stowage-file-tokens"
# Seconds.
DEFAULT_LIFETIME = 3600
MIN_LIFETIME, MAX_LIFETIME = 60, 86_400
MAX_TOKEN_CHARACTERS = 4096


def sign(principal: Principal, key: str, lifetime: int) -> Signed:
    """A token for a file that the principal may read; raises InvalidRequest, and what reading it would."""
    if not MIN_LIFETIME <= lifetime <= MAX_LIFETIME:
        raise InvalidRequest(f"ttlSeconds lies between {MIN_LIFETIME} and {MAX_LIFETIME}", field="ttlSeconds")
    row, expires = files.find(principal, key).row, int(seam.timestamp()) + lifetime
    payload = {"k": _physical(principal.tenant_id, key), "t": principal.tenant_id, "exp": expires}
    encoded = base64url(json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode())
    return Signed(f"{encoded}.{base64url(_signature(_secrets()[0], encoded, row))}", expires)


def open_file(token: str, key: str) -> Opened:
    """The file that a token opens, which is the one under `key`; raises InvalidSignature, ExpiredToken, InvalidName."""
    names.check_name_in(FILES, key)
    encoded, _, signature = token.partition(".")
    payload = _payload(encoded) if len(token) <= MAX_TOKEN_CHARACTERS else {}
    tenant_id, expires = payload.get("t"), payload.get("exp")
    # Nothing of this is trusted yet: it only says which row tells whether it is to be.
    if not isinstance(tenant_id, str) or not names.is_uuid(tenant_id) or payload.get("k") != _physical(tenant_id, key):
        raise _invalid()
    found = _found(tenant_id, key)
    given = from_base64url(signature)
    if not any(hmac.compare_digest(given, _signature(secret, encoded, found.row)) for secret in _secrets()) or type(expires) is not int:
        raise _invalid()
    if expires <= seam.timestamp():
        raise ExpiredToken("the signed URL has expired; ask for a new one")
    return Opened(found, expires - seam.timestamp(), None)


def _found(tenant_id: str, key: str) -> Found:
    try:
        require_tenant(tenant_id)
        bucket, row = objects.read_current(Principal(Role.SERVICE, tenant_id), Operation.SELECT, FILES, key)
    except ObjectNotFound:
        raise _invalid() from None
    if row is None:
        raise _invalid()
    return Found(bucket, row)


def _payload(encoded: str) -> dict[str, Any]:
    try:
        payload = json.loads(from_base64url(encoded))
    except (ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def _physical(tenant_id: str, key: str) -> str:
    return f"tenants/{tenant_id}/{key}"


def _secrets() -> list[bytes]:
    """What tokens are signed under, the one in use first."""
    chosen = settings().auth_secret
    return [hashlib.sha256(LABEL + b":" + chosen.encode()).digest()] if chosen else [key.derive(LABEL) for key in master_keys()]


def _signature(secret: bytes, encoded: str, row: StoredObject) -> bytes:
    return hmac.digest(secret, f"{encoded}.{row.tokens_not_before}".encode(), "sha256")


def _invalid() -> InvalidSignature:
    return InvalidSignature("the signed URL is not valid for this file; ask for a new one")
