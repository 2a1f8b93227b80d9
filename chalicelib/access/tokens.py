"""User tokens: JSON Web Tokens (RFC 7519) signed with the tenant's secret (HS256).

`tenant_id` (or `organization_id`), `sub` and `exp` are required; `nbf` and `aud` are checked, with a minute of
leeway; `role`, `email` and `permissions` are read. A token never becomes a service or admin principal,
whatever its role says.
"""

from typing import Any

from chalicelib import seam
from chalicelib.access.cache import MinuteCache
from chalicelib.access.principals import Principal, Role
from chalicelib.access.sealing import unseal
from chalicelib.errors import Unauthorized
from chalicelib.tables.tenants import Tenant

LEEWAY = 60
LATEST = 253_402_300_800  # the year 10000; NaN and infinities are not below it
MAX_BYTES = 8192
ALGORITHM = "HS256"
_REFUSED = "the token is not valid; ask for a new one"

_tenants: MinuteCache[tuple[str, str]] = MinuteCache()


def looks_like_token(credential: str) -> bool:
    """Whether a credential is a JWT in its compact form: three parts between dots (RFC 7515 §7.1)."""
    return credential.count(".") == 2


def record_of_secret(tenant_id: str) -> str:
    """The name that a tenant's signing secret is sealed for."""
    return f"tenants/{tenant_id}/jwt_secret"


def principal_of(token: str) -> Principal:
    """The user whom `token` names; raises Unauthorized for anything but a valid token of an existing tenant."""
    import jwt

    if len(token) > MAX_BYTES:
        raise Unauthorized(_REFUSED)
    try:
        # The tenant must be known before its secret can be chosen; nothing of this is trusted yet.
        tenant_id = _tenant_named_in(jwt.decode(token, options={"verify_signature": False}))
        secret, audience = _verification_of(tenant_id)
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=audience,
            options={"require": ["exp", "sub"], "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except (jwt.PyJWTError, ValueError) as error:
        raise Unauthorized(_REFUSED) from error
    _check_times(claims)
    _check_subject(claims)
    return Principal(Role.USER, tenant_id, claims)


def _tenant_named_in(claims: dict[str, Any]) -> str:
    named = claims.get("tenant_id", claims.get("organization_id"))
    if not isinstance(named, str) or not 0 < len(named) <= 64:
        raise Unauthorized(_REFUSED)
    return named


def _verification_of(tenant_id: str) -> tuple[str, str]:
    def load() -> tuple[str, str] | None:
        tenant = Tenant.read(tenant_id)
        return (unseal(tenant.jwt_secret, record_of_secret(tenant_id)), tenant.jwt_audience) if tenant else None

    known = _tenants.get(tenant_id, load)
    if known is None:
        raise Unauthorized(_REFUSED)
    return known


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


def _check_subject(claims: dict[str, Any]) -> None:
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise Unauthorized(_REFUSED)
