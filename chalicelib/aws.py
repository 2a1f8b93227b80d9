"""The AWS clients of this process: one botocore session, one client a service, each made when first asked for.

`boto3.client` would import boto3's resource layer (30 ms of CPU at every cold start) and return these same
botocore clients. Four things make them cheaper than their defaults, and none changes what is asked: the user
agent is fixed (botocore builds it anew twice a call), parameters are not validated against the service model
(types and tests do that), endpoints are settled once, and DynamoDB's attribute values stay as they arrived
(`LeanParser`). `tests/unit/test_aws.py` holds the hooks that this uses.
"""

import os
from functools import lru_cache
from threading import RLock
from typing import Any

import botocore.config
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

    The endpoint of these services is one for all operations, so it is settled once and not worked out from
    rules at each call; without a resolver botocore takes the one it began with.
    """
    made = new_client(service, region_name=region(), config=config())
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
