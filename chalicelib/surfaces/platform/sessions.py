"""Sessions over HTTP: the cookie that carries one.

HttpOnly, so that no script reads it; Secure wherever there is more than this machine; SameSite=Lax, so that other sites' forms and
scripts do not send it. A change by it must also come from this very origin (`surfaces/http.py`).
"""

from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chalicelib import seam
from chalicelib.access.credentials import COOKIE
from chalicelib.core import logins
from chalicelib.surfaces.http import Request, json_answer
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.platform import models

# That are ended by one request: a browser has as many as there are sites of one domain that have set one.
MOST_COOKIES = 5
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def begin(request: Request) -> Answer:
    cookie, expires = logins.begin(request.principal)
    shown: models.SessionBegun = {"expires_at": seam.iso(seam.at(expires))}
    return json_answer(200, shown, _set(request, cookie, max(0, expires - int(seam.timestamp()))))


def end(request: Request) -> Answer:
    cookies = request.cookies
    if cookies:
        request.require_same_origin()
    for cookie in islice(cookies, MOST_COOKIES):
        logins.end(cookie)
    return json_answer(200, {}, _set(request, "", 0))


def _set(request: Request, cookie: str, seconds: int) -> dict[str, str]:
    secure = "" if urlsplit(request.base_url).hostname in LOOPBACK else "; Secure"
    attributes = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
    return {"Set-Cookie": f"{COOKIE}={cookie}; {attributes}", "Cache-Control": "no-store"}
