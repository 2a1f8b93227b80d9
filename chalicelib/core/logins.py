"""Sessions of users who come by a browser: a token exchanged for a cookie, which scripts on a page cannot read.

A session is what its token was, for as long as that would have been valid and a day at most, but can be ended: within a minute
everywhere, as keys are revoked. Kept is the SHA-256 of the cookie's text.
"""

from contextlib import suppress

from chalicelib import seam
from chalicelib.access.credentials import forget_session, session_hash
from chalicelib.access.principals import Principal, Role
from chalicelib.errors import Forbidden, Unauthorized
from chalicelib.tables.table import ConditionFailed
from chalicelib.tables.tenants import Session

LONGEST = 24 * 3600  # seconds: it outlives the keys that have signed its token
# What is kept of a token: what principals are made of.
CLAIMS = ("sub", "role", "email", "permissions")


def begin(principal: Principal) -> tuple[str, int]:
    """The text of a cookie for a user who came with a token, and when it expires (seconds since 1970); raises Forbidden, Unauthorized."""
    if principal.role is Role.NOBODY:
        raise Unauthorized("a session is begun with a user's token; send it as `Authorization: Bearer …`")
    if principal.role is not Role.USER:
        raise Forbidden("a session is a user's; begin it with a user's token, not with a key")
    now = int(seam.timestamp())
    cookie, expires = seam.new_token(), min(int(principal.claims["exp"]), now + LONGEST)
    if expires <= now:  # clocks may differ by some seconds, for which a token is taken, but nothing is begun with it
        raise Unauthorized("the token has expired; sign in again")
    claims = {name: principal.claims[name] for name in CLAIMS if name in principal.claims}
    row = Session(session_hash(cookie), claims=claims | {"exp": expires}, of_tenant=principal.tenant_id, expires_at=expires)
    with suppress(ConditionFailed):  # nobody else has this hash: it was put before an answer was lost
        row.put(Session.key_hash.does_not_exist())
    return cookie, expires


def end(cookie: str) -> None:
    """End a session; one that is not there has ended."""
    with suppress(ConditionFailed):
        Session(session_hash(cookie)).remove(Session.key_hash.exists())
    forget_session(cookie)
