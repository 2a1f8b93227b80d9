"""The AWS clients of this process: one botocore session, one client a service, each made when first asked for.

`boto3.client` would import boto3's resource layer (30 ms of CPU at every cold start) and return these same
botocore clients. Five things make them cheaper than their defaults, and none changes what is asked: the user
agent is fixed (botocore builds it anew twice a call), parameters are not validated against the service model
(types and tests do that), endpoints are settled once, requests are signed in one pass (`LeanSigner`), and
DynamoDB's attribute values stay as they arrived (`LeanParser`). `tests/unit/test_aws.py` holds the hooks that
this uses.
"""

import hashlib
import hmac
import os
from functools import lru_cache
from threading import RLock
from typing import Any

import botocore.auth
import botocore.config
import botocore.exceptions
import botocore.parsers
import botocore.session

USER_AGENT = "stowage"
# Seconds. The API function has 28 s in all: what never answers must leave time to say so.
CONNECT_TIMEOUT = 3
READ_TIMEOUT = 7
ATTEMPTS = 3


class LeanParser(botocore.parsers.JSONParser):  # type: ignore[misc]  # botocore has no types
    """Leaves maps of AttributeValue as JSON gave them instead of walking every attribute of every row.

    Only binary values differ between the two, so an answer in which one may occur is parsed in full.
    """

    def _handle_json_body(self, raw_body: bytes, shape: Any) -> Any:
        self._binary = b'"B":' in raw_body or b'"BS":' in raw_body
        return super()._handle_json_body(raw_body, shape)

    def _handle_map(self, shape: Any, value: Any) -> Any:
        if shape.value.name == "AttributeValue" and not self._binary:
            return value
        return super()._handle_map(shape, value)

    def _handle_list(self, shape: Any, node: Any) -> Any:
        if shape.name == "ItemList" and not self._binary:
            return node
        return super()._handle_list(shape, node)


class _ParserFactory(botocore.parsers.ResponseParserFactory):  # type: ignore[misc]
    def create_parser(self, protocol_name: str) -> Any:
        # A parser keeps `_binary` while it reads one body, and botocore makes one a call.
        return LeanParser(**self._defaults) if protocol_name == "json" else super().create_parser(protocol_name)


class LeanSigner(botocore.auth.SigV4Auth):  # type: ignore[misc]
    """Signature Version 4 of a request of the JSON protocol: a POST of bytes to `/` without a query.

    botocore walks and copies all headers twice a request and derives the key each time; this takes those that
    AWS demands (host, content-type, `x-amz-*`) once, and derives the key once a day.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """

    NAME = "v4-lean"

    def add_auth(self, request: Any) -> None:
        if self.credentials is None:
            raise botocore.exceptions.NoCredentialsError()
        now = botocore.auth.get_current_datetime().strftime(botocore.auth.SIGV4_TIMESTAMP)
        request.context["timestamp"] = request.headers["X-Amz-Date"] = now
        if self.credentials.token:
            request.headers["X-Amz-Security-Token"] = self.credentials.token
        sent = {name.lower(): value for name, value in request.headers.items()} | {"host": _host(request.url)}
        signed = {name: sent[name] for name in sorted(sent) if name in ("content-type", "host") or name.startswith("x-amz-")}
        headers = "".join(f"{name}:{value.strip()}\n" for name, value in signed.items())
        names = ";".join(signed)
        canonical = f"POST\n/\n\n{headers}\n{names}\n{hashlib.sha256(request.data).hexdigest()}"
        scope = f"{now[:8]}/{self._region_name}/{self._service_name}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(_signing_key(self.credentials.secret_key, scope), text.encode(), "sha256").hex()
        credential = f"{self.credentials.access_key}/{scope}"
        request.headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"


botocore.auth.AUTH_TYPE_MAPS[LeanSigner.NAME] = LeanSigner


@lru_cache(maxsize=16)
def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=16)
def _host(url: str) -> str:
    return str(botocore.auth._host_from_url(url))


def config(**changes: Any) -> botocore.config.Config:
    """The configuration that every client starts from: timeouts, three attempts, a fixed user agent."""
    chosen: dict[str, Any] = {
        "user_agent": USER_AGENT,
        "parameter_validation": False,
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "retries": {"total_max_attempts": ATTEMPTS, "mode": "standard"},
        "max_pool_connections": 50,
    }
    return botocore.config.Config(**(chosen | changes))


@lru_cache(maxsize=1)
def session() -> botocore.session.Session:
    """The process's botocore session; credentials and region come from the environment as AWS documents."""
    made = botocore.session.get_session()
    made.register_component("response_parser_factory", _ParserFactory())
    return made


def region() -> str:
    """The region of this function."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


@lru_cache(maxsize=16)
def client(service: str) -> Any:
    """The client of `service` (`dynamodb`, `sqs`, `events`, `ssm`) under the function's own credentials.

    They all speak the JSON protocol, which `LeanSigner` signs. Their endpoint is one for all operations, so it is
    settled once and not worked out from rules at each call; without a resolver botocore takes the one it began with.
    """
    made = new_client(service, region_name=region(), config=config(signature_version=LeanSigner.NAME))
    made._ruleset_resolver = None
    return made


def new_client(service: str, **options: Any) -> Any:
    """A client made from the process's session: one at a time, for botocore cannot make two at once."""
    with _making:
        return session().create_client(service, **options)


# Reentrant: the session itself is made inside.
_making = RLock()


def overridden_endpoint() -> bool:
    """Whether AWS itself is stood in for (`AWS_ENDPOINT_URL`), which rules out bucket names in hosts."""
    return bool(os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_S3"))
