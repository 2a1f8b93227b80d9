"""From the credentials of a request to its principal.

`Authorization: Bearer <key or token>` or `apikey: <key>`. Both present: the key names the tenant and the
token the user, and two different tenants are refused. Neither: who a session's cookie names, where one is taken, else nobody, in the
default tenant if there is one. Keys and sessions are looked up by their SHA-256, so nothing is compared that timing could betray.
"""

import hashlib
from collections.abc import Mapping

from chalicelib import seam
from chalicelib.access import tokens
from chalicelib.access.cache import MinuteCache
from chalicelib.access.principals import Principal, Role
from chalicelib.errors import ObjectNotFound, Unauthorized
from chalicelib.settings import settings
from chalicelib.tables.tenants import ApiKey, Session, Tenant

MAX_KEY_CHARACTERS = 256

COOKIE = "stowage_session"

_keys: MinuteCache[Principal] = MinuteCache()
_sessions: MinuteCache[Session] = MinuteCache()
_tenants: MinuteCache[bool] = MinuteCache()


def key_hash(key: str) -> str:
    """What is stored of an API key."""
    return hashlib.sha256(_bytes(key)).hexdigest()


def _bytes(text: str) -> bytes:
    # What a header holds may be no text; no key and no cookie is made of it.
    return text.encode(errors="surrogatepass")


def session_hash(cookie: str) -> str:
    """What is stored of a session's cookie."""
    return Session.PREFIX + hashlib.sha256(_bytes(cookie)).hexdigest()


def authenticate(headers: Mapping[str, str], cookie: str = "") -> Principal:
    """Who sent a request with these (lower-case) headers, and the cookie of a session where one is taken.

    Raises Unauthorized for a credential that is not valid.
    """
    bearer, api_key = _bearer(headers), headers.get("apikey", "").strip()
    if bearer and api_key:
        by_key, by_bearer = _principal_of_key(api_key), _principal_of(bearer)
        if by_key.tenant_id != by_bearer.tenant_id:
            raise Unauthorized("the key and the token belong to different tenants")
        return by_bearer
    if bearer or api_key:
        return _principal_of(bearer or api_key)
    if cookie:
        return _principal_of_session(cookie)
    tenant_id = settings().default_tenant
    if not tenant_id:
        raise Unauthorized("send an API key or a token as `Authorization: Bearer …`")
    return Principal(Role.NOBODY, tenant_id)


def require_tenant(tenant_id: str) -> None:
    """Raise what a missing object would, unless the tenant exists: what it made public or signed ends with it."""
    if not _tenants.get(tenant_id, lambda: Tenant.read(tenant_id) is not None or None):
        raise ObjectNotFound("there is no such object")


def forget_session(cookie: str) -> None:
    """Have this process look for a session again; others do so within a minute."""
    _sessions.forget(session_hash(cookie))


def _principal_of_session(cookie: str) -> Principal:
    digest = session_hash(cookie)
    known = _sessions.get(digest, lambda: Session.read(digest)) if len(cookie) <= MAX_KEY_CHARACTERS else None
    if known is None or known.expires_at <= seam.timestamp():
        raise Unauthorized("the session has ended; sign in again")
    try:
        require_tenant(known.of_tenant)
    except ObjectNotFound:
        raise Unauthorized("the session has ended; sign in again") from None
    return Principal(Role.USER, known.of_tenant, known.claims)


def _bearer(headers: Mapping[str, str]) -> str:
    value = headers.get("authorization", "").strip()
    if not value:
        return ""
    scheme, _, credential = value.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise Unauthorized("the Authorization header must be `Bearer` and an API key or a token")
    return credential.strip()


def _principal_of(credential: str) -> Principal:
    return tokens.principal_of(credential) if tokens.looks_like_token(credential) else _principal_of_key(credential)


def _principal_of_key(key: str) -> Principal:
    if len(key) > MAX_KEY_CHARACTERS:
        raise Unauthorized("the API key is not valid")
    digest = key_hash(key)

    def load() -> Principal | None:
        row = ApiKey.read(digest)
        if row is None:
            return None
        return Principal(Role(row.role), row.tenant_id or "", {} if row.permissions is None else {"permissions": row.permissions})

    known = _keys.get(digest, load)
    if known is None:
        raise Unauthorized("the API key is not valid")
    return known
