"""From a proxy event to a request, and from what a view gives or raises to an answer: the same for all surfaces."""

import base64
import binascii
import json
import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from chalicelib.access.credentials import COOKIE, authenticate
from chalicelib.access.principals import Principal, Role
from chalicelib.errors import Forbidden, InvalidName, InvalidRequest, TooLarge, Unauthorized
from chalicelib.settings import settings
from chalicelib.webapp import Answer, Event

if TYPE_CHECKING:
    from pydantic import BaseModel

JSON = "application/json"
MAX_JSON_BYTES = 1_000_000
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Headers that say one thing: two different values are a contradiction and not a list (RFC 9110 §5.3).
SINGLE_HEADERS = (
    "apikey",
    "authorization",
    "content-length",
    "content-range",
    "content-type",
    "if-modified-since",
    "if-range",
    "if-unmodified-since",
    "origin",
    "range",
    "tus-resumable",
    "upload-checksum",
    "upload-concat",
    "upload-defer-length",
    "upload-length",
    "upload-metadata",
    "upload-offset",
    "x-http-method-override",
    "x-metadata",
    "x-upsert",
)
LARGER_BODIES = (
    "send it in chunks of at most {limit} bytes (POST /storage/v1/upload/tus or /storage/upload/resumable; a file: POST /api/uploads),"
    " or directly (POST /storage/upload/direct)"
)

Model = TypeVar("Model", bound="BaseModel")


class Request:
    """One HTTP request. Header names are lower-case; `body` is whole and within the limit.

    `takes_cookie`: a session's cookie is a credential too.
    """

    def __init__(self, event: Event, request_id: str, takes_cookie: bool = False) -> None:
        context = event["requestContext"]
        self.event = event
        self.request_id = request_id
        self.method: str = context["httpMethod"]
        self.resource: str = context["resourcePath"]
        self.takes_cookie = takes_cookie
        self.stage: str = context.get("stage") or ""
        self._multi_headers = _multi_headers(event)

    @cached_property
    def headers(self) -> dict[str, str]:
        """Values by lower-case name; lists joined by commas. Raises InvalidRequest on a contradiction."""
        for name in SINGLE_HEADERS:
            if len(set(self._multi_headers.get(name, ()))) > 1:
                raise InvalidRequest(f"the header {name} is given more than once, with different values")
        return {name: values[0] if name in SINGLE_HEADERS else ", ".join(values) for name, values in self._multi_headers.items()}

    @cached_property
    def query(self) -> dict[str, str]:
        """Query values by name. Raises InvalidRequest when one is given twice or is not text."""
        given = self.event.get("multiValueQueryStringParameters") or {}
        for name, values in given.items():
            if len(set(values)) > 1:
                raise InvalidRequest(f"the parameter {name[:80]} is given more than once")
            if any("\ufffd" in value or not _is_text(value) for value in (name, *values)):
                raise InvalidRequest("a parameter is not valid UTF-8")
        return {name: values[-1] for name, values in given.items()}

    def path(self, name: str) -> str:
        """A path parameter, percent-decoded once; raises InvalidName."""
        value = (self.event.get("pathParameters") or {}).get(name)
        if value is None:
            raise InvalidName("the path is not valid percent-encoded UTF-8")
        return str(value)

    @cached_property
    def principal(self) -> Principal:
        """Who calls; raises Unauthorized, and Forbidden for a change that a page of another origin may have asked a browser for."""
        by_cookie = self.takes_cookie and not {"authorization", "apikey"} & self.headers.keys()
        cookie = self.cookie if by_cookie else ""
        if cookie and self.method not in SAFE_METHODS:
            self.require_same_origin()
        return authenticate(self.headers, cookie)

    @cached_property
    def tenant_principal(self) -> Principal:
        """The same where a tenant's own credential is needed; raises Forbidden for an admin key."""
        if self.principal.role is Role.ADMIN:
            raise Forbidden("an admin key manages tenants; use a key or token of the tenant itself")
        return self.principal

    @property
    def cookie(self) -> str:
        """The text of the session's cookie, empty where there is none; raises Unauthorized where there are two."""
        cookies = self.cookies
        if len(cookies) > 1:  # another site of this domain may have set one beside ours
            raise Unauthorized(f"there are two different cookies {COOKIE}; delete them and sign in again")
        return next(iter(cookies), "")

    @property
    def cookies(self) -> set[str]:
        """Every text that is sent as the session's cookie."""
        given = ";".join(self._multi_headers.get("cookie", ()))  # HTTP/2 may send one a pair (RFC 9113 §8.2.3)
        pairs = (pair.strip().partition("=") for pair in given.split(";"))
        return {value for name, _, value in pairs if name == COOKIE and value}

    def require_same_origin(self) -> None:
        """Raise Forbidden unless the browser says that a page of this very origin asks (Origin, RFC 6454)."""
        if self.headers.get("origin", "").lower() != self.origin:
            raise Forbidden(
                f"a change by a session's cookie comes from a page of {self.origin}, and says so in Origin; other pages use a token"
                " (behind a domain of your own, set STOWAGE_PUBLIC_URL)"
            )

    @property
    def origin(self) -> str:
        """Scheme, host and port of this API, as a browser writes them: without the scheme's own port."""
        base = urlsplit(self.base_url.lower())
        return f"{base.scheme}://{base.netloc.removesuffix(':443' if base.scheme == 'https' else ':80')}"

    @cached_property
    def body(self) -> bytes:
        """The raw body; raises TooLarge beyond the platform's limit."""
        raw = self.event.get("body")
        limit = settings().max_body
        if not raw:
            return b""
        body = _base64(raw) if self.event.get("isBase64Encoded") else raw.encode()
        if len(body) > limit:
            raise TooLarge(f"a request carries at most {limit} bytes; " + LARGER_BODIES.format(limit=limit), limit=limit)
        return body

    @property
    def base_url(self) -> str:
        """The API's absolute base, stage included, without a slash at its end."""
        if settings().public_url:
            return settings().public_url.rstrip("/")
        host = self.headers.get("host") or self.event["requestContext"].get("domainName", "localhost")
        scheme = self.headers.get("x-forwarded-proto", "http" if self.stage == "local" else "https")
        in_stage_path = ".execute-api." in host
        return f"{scheme}://{host}" + (f"/{self.stage}" if in_stage_path and self.stage else "")

    def parse(self, model: type[Model], optional: bool = False) -> Model:
        """The JSON body as `model`, which may be left out if `optional`; raises InvalidRequest naming each field that is wrong."""
        from pydantic import ValidationError

        document = {} if optional and not self.body else self._json()
        try:
            return model.model_validate(document)
        except ValidationError as error:
            problems = [
                {"field": ".".join(str(step) for step in problem["loc"])[:200], "message": problem["msg"]}
                for problem in error.errors(include_url=False, include_context=False, include_input=False)[:20]
            ]
            what = "; ".join(f"{problem['field'] or 'body'}: {problem['message']}" for problem in problems[:3])
            raise InvalidRequest(what, fields=problems) from None

    def _json(self) -> Any:
        if len(self.body) > MAX_JSON_BYTES:
            raise TooLarge(f"a JSON body has at most {MAX_JSON_BYTES} bytes", limit=MAX_JSON_BYTES)
        return parsed_json(self.body, "the body")


def parsed_json(text: bytes, what: str) -> Any:
    """What a JSON text says; raises InvalidRequest. NaN, infinities and lone surrogates, which Python would take, are refused."""
    try:
        document = json.loads(text.decode(), parse_constant=_refused, parse_float=_finite)
        if b"\\u" in text:  # only an escape can make a lone surrogate
            json.dumps(document, ensure_ascii=False).encode()
        return document
    except UnicodeError:
        raise InvalidRequest(f"{what} is not valid UTF-8") from None
    except RecursionError:
        raise InvalidRequest(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise InvalidRequest(f"{what} is not JSON: {error}"[:300]) from None


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number


def json_answer(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer carrying `document` as compact JSON."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return Answer(status, body, {"Content-Type": JSON, **(headers or {})})


def flag(text: str | None, what: str) -> bool:
    """`true` or `false` from a header or parameter (absent: false); raises InvalidRequest."""
    value = "false" if text is None else text.strip().lower()
    if value not in ("true", "false", "1", "0"):
        raise InvalidRequest(f"{what} is true or false")
    return value in ("true", "1")


def whole_number(text: str | None, what: str, default: int) -> int:
    """A number from a parameter; raises InvalidRequest. At most 18 digits, so that no later sum surprises."""
    if text is None:
        return default
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise InvalidRequest(f"{what} is a whole number")
    return int(text)


def natural_number(text: str | None, what: str) -> int:
    """A number of bytes from a header that must be there; raises InvalidRequest."""
    number = -1 if text is None else whole_number(text.strip() or "-", what, 0)
    if number < 0:
        raise InvalidRequest(f"{what} is given as a whole number of bytes")
    return number


def _multi_headers(event: Event) -> dict[str, list[str]]:
    given = event.get("multiValueHeaders") or {}
    headers: dict[str, list[str]] = {}
    for name, values in given.items():
        headers.setdefault(name.lower(), []).extend(str(value) for value in values)
    for name, value in (event.get("headers") or {}).items():
        headers.setdefault(name.lower(), [str(value)])
    return headers


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("the body did not arrive whole") from None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
