"""User tokens: JSON Web Tokens (RFC 7519), signed with the tenant's secret or by one of the keys that it publishes.

HS256 is verified with the tenant's secret alone, RS256 and ES256 with the keys at its `jwks_url` alone
(`access/keysets.py`): the key belongs to the algorithm before the token is believed in anything.
`tenant_id` (or `organization_id`), `sub` and `exp` are required; `nbf` and `aud` are checked, with a minute of
leeway; `role`, `email` and `permissions` are read. A token never becomes a service or admin principal,
whatever its role says.

A token has one spelling: base64 with padding or with stray bits (RFC 4648 §3.5) and JSON that names a thing twice
are refused, so that a text that differs from what was signed is never taken for it.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

from chalicelib import seam
from chalicelib.access.cache import MinuteCache
from chalicelib.access.principals import Principal, Role
from chalicelib.access.sealing import unseal
from chalicelib.errors import InvalidRequest, Unauthorized
from chalicelib.tables.tenants import Tenant

LEEWAY = 60
LATEST = 253_402_300_800  # the year 10000; NaN and infinities are not below it
MAX_BYTES = 8192
MAX_SUBJECT_CHARACTERS = 255
MAX_ROLE_CHARACTERS = 100
MAX_EMAIL_CHARACTERS = 320  # RFC 3696, erratum 1690: 64 + @ + 255
MAX_BRACKETS = 500
MAX_PERMISSIONS = 100
SYMMETRIC = "HS256"
ASYMMETRIC = ("RS256", "ES256")
_REFUSED = "the token is not valid; ask for a new one"


@dataclass(frozen=True, slots=True)
class _Issuer:
    """What a tenant's tokens are verified by."""

    secret: str
    audience: str
    jwks_url: str | None


_issuers: MinuteCache[_Issuer] = MinuteCache()


def looks_like_token(credential: str) -> bool:
    """Whether a credential is a JWT in its compact form: three parts between dots (RFC 7515 §7.1)."""
    return credential.count(".") == 2


def record_of_secret(tenant_id: str) -> str:
    """The name that a tenant's signing secret is sealed for."""
    return f"tenants/{tenant_id}/jwt_secret"


def principal_of(token: str) -> Principal:
    """The user whom `token` names.

    Raises Unauthorized for anything but a valid token of an existing tenant, Unavailable when the key set that would
    tell cannot be had.
    """
    if len(token) > MAX_BYTES:
        raise Unauthorized(_REFUSED)
    # The tenant must be known before its keys can be chosen; nothing of this is trusted yet.
    header, claims = (_document(_decoded(part)) for part in _parts(token)[:2])
    tenant_id = _tenant_named_in(claims)
    issuer = _issuer(tenant_id)
    algorithm = header.get("alg")
    verify(token, _key_of(issuer, algorithm, header.get("kid")), str(algorithm))
    _check_audience(claims.get("aud"), issuer.audience)
    _check_times(claims)
    _check_claims(claims)
    return Principal(Role.USER, tenant_id, claims)


def verify(token: str, key: Any, algorithm: str) -> bytes:
    """The payload of a JWS in compact form that `key` has signed by `algorithm` (RFC 7515 §5.2); raises Unauthorized.

    `key` is bytes for HS256, else a public key of `cryptography`. No extension is understood, so `crit` is refused.
    """
    import jwt

    header, payload, _ = (_decoded(part) for part in _parts(token))
    if "crit" in _document(header):
        raise Unauthorized(_REFUSED)
    try:
        jwt.api_jws.decode(token, key, algorithms=[algorithm])
    except (jwt.PyJWTError, ValueError, TypeError) as error:  # TypeError: a key of another kind
        raise Unauthorized(_REFUSED) from error
    return payload


def issue(tenant_id: str, claims: dict[str, Any], ttl_seconds: int) -> tuple[str, int]:
    """A token of the tenant with `claims`, signed with its secret, and when it expires (seconds since the Unix epoch).

    Raises InvalidRequest when it would be longer than those that are accepted.
    """
    import jwt

    issuer, now = _issuer(tenant_id), int(seam.timestamp())
    issued = {"tenant_id": tenant_id, "aud": issuer.audience, "iat": now, "exp": now + ttl_seconds}
    token = jwt.encode({**claims, **issued}, issuer.secret, algorithm=SYMMETRIC)
    if len(token) > MAX_BYTES:
        raise InvalidRequest(f"a token has at most {MAX_BYTES} bytes; name fewer or shorter permissions")
    return token, now + ttl_seconds


def _parts(token: str) -> list[str]:
    parts = token.split(".")
    if len(parts) != 3:
        raise Unauthorized(_REFUSED)
    return parts


def _decoded(part: str) -> bytes:
    """The bytes of one part in base64url; raises Unauthorized for any spelling of them but the one (RFC 7515 §2)."""
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as error:
        raise Unauthorized(_REFUSED) from error
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        raise Unauthorized(_REFUSED)
    return decoded


def _document(text: bytes) -> dict[str, Any]:
    if text.count(b"[") + text.count(b"{") > MAX_BRACKETS:  # how deep Python itself would go differs by version
        raise Unauthorized(_REFUSED)
    try:
        document = json.loads(text.decode(), object_pairs_hook=_distinct, parse_constant=_refused)
        json.dumps(document, ensure_ascii=False).encode()  # a lone surrogate is no text
    except (ValueError, RecursionError) as error:
        raise Unauthorized(_REFUSED) from error
    if not isinstance(document, dict):
        raise Unauthorized(_REFUSED)
    return document


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _tenant_named_in(claims: dict[str, Any]) -> str:
    named = claims.get("tenant_id", claims.get("organization_id"))
    if not isinstance(named, str) or not 0 < len(named) <= 64:
        raise Unauthorized(_REFUSED)
    return named


def _issuer(tenant_id: str) -> _Issuer:
    def load() -> _Issuer | None:
        tenant = Tenant.read(tenant_id)
        if tenant is None:
            return None
        return _Issuer(unseal(tenant.jwt_secret, record_of_secret(tenant_id)), tenant.jwt_audience, tenant.jwks_url)

    known = _issuers.get(tenant_id, load)
    if known is None:
        raise Unauthorized(_REFUSED)
    return known


def _key_of(issuer: _Issuer, algorithm: Any, kid: Any) -> Any:
    """The one key that may have signed by `algorithm`; raises Unauthorized, Unavailable."""
    if kid is not None and not isinstance(kid, str):
        raise Unauthorized(_REFUSED)
    if algorithm == SYMMETRIC:
        return issuer.secret.encode()
    if not issuer.jwks_url or algorithm not in ASYMMETRIC:
        raise Unauthorized(_REFUSED)
    from chalicelib.access import keysets

    key = keysets.key(issuer.jwks_url, algorithm, kid)
    if key is None:
        raise Unauthorized(_REFUSED)
    return key


def _check_audience(named: Any, audience: str) -> None:
    audiences = named if isinstance(named, list) else [named]
    if audience not in audiences or not all(isinstance(each, str) for each in audiences):
        raise Unauthorized(_REFUSED)


def _check_times(claims: dict[str, Any]) -> None:
    # Not left to the library: it reads its own clock, and tests move ours.
    now = seam.timestamp()
    for claim, too_late in (("exp", True), ("nbf", False)):
        value = claims.get(claim)
        if value is None and claim == "nbf":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
            raise Unauthorized(_REFUSED)
        if too_late and value + LEEWAY <= now:
            raise Unauthorized("the token has expired; ask for a new one")
        if not too_late and value - LEEWAY > now:
            raise Unauthorized("the token is not valid yet")


def _check_claims(claims: dict[str, Any]) -> None:
    subject, permissions = claims.get("sub"), claims.get("permissions")
    named = permissions.split() if isinstance(permissions, str) else [] if permissions is None else permissions
    fit = [
        isinstance(subject, str) and 0 < len(subject) <= MAX_SUBJECT_CHARACTERS,
        _is_text(claims.get("role"), MAX_ROLE_CHARACTERS),
        _is_text(claims.get("email"), MAX_EMAIL_CHARACTERS),
        isinstance(named, list) and len(named) <= MAX_PERMISSIONS and all(isinstance(each, str) for each in named),
    ]
    if not all(fit):
        raise Unauthorized(_REFUSED)


def _is_text(value: Any, characters: int) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= characters)
