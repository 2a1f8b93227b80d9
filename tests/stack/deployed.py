"""A deployed stage, and requests to its API function as API Gateway would make them.

The embedded API Gateway passes binary bodies on undecoded and keeps the stage in the path, so the events are made
here, from the routes of the deployed definition.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.dynamodb.types import TypeDeserializer

from .embedded import REGION, EmbeddedAws

# Streams, queues and notifications are polled about once a second; cold starts come on top.
HAPPENS_WITHIN = 40
T = TypeVar("T")
_value = TypeDeserializer().deserialize


def eventually(look: Callable[[], T], within: float = HAPPENS_WITHIN) -> T:
    """What `look` gives as soon as that is true; its last answer when time has run out."""
    deadline = time.monotonic() + within
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


@dataclass(frozen=True)
class Answer:
    """What the API function answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Stack:
    """One deployed stage, seen by its owner."""

    aws: EmbeddedAws
    prefix: str
    out: Path
    admin_key: str

    def client(self, service: str, access_key: str = "test", secret_key: str = "test", token: str | None = None) -> Any:
        """A client for the account's root, or for whom the key belongs to."""
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.aws.endpoint,
            verify=str(self.aws.certificate),
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
        )

    def template(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.out / "template.json").read_text())
        return document

    def outputs(self) -> dict[str, str]:
        stack = self.client("cloudformation").describe_stacks(StackName=self.prefix)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def rows(self, noun: str) -> list[dict[str, Any]]:
        pages = self.client("dynamodb").get_paginator("scan").paginate(TableName=f"{self.prefix}-{noun}", ConsistentRead=True)
        return [{name: _value(value) for name, value in item.items()} for page in pages for item in page["Items"]]

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """The answer of `{prefix}-{function}`; fails the test when the function raised."""
        called = self.client("lambda").invoke(FunctionName=f"{self.prefix}-{function}", Payload=json.dumps(event))
        payload = json.loads(called["Payload"].read())
        assert "FunctionError" not in called, payload
        return payload

    def call(self, method: str, path: str, key: str = "", body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request; `path` percent-encoded and perhaps with a query, `body` bytes or what becomes JSON."""
        given = dict(headers or {})
        if key:
            given["Authorization"] = f"Bearer {key}"
        if body is not None and not isinstance(body, bytes):
            given.setdefault("Content-Type", "application/json")
            body = json.dumps(body).encode()
        return _answer(self.invoke("api", self._event(method, path, given, body)))

    def _event(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> dict[str, Any]:
        path, _, query = target.partition("?")
        resource, captured = self._route(path)
        pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
        return {
            "resource": resource,
            "path": path,
            "httpMethod": method,
            "headers": headers,
            "multiValueHeaders": {name: [value] for name, value in headers.items()},
            "queryStringParameters": dict(pairs) or None,
            "multiValueQueryStringParameters": {name: [value for other, value in pairs if other == name] for name, _ in pairs} or None,
            "pathParameters": captured or None,
            "stageVariables": None,
            "requestContext": {
                "resourcePath": resource,
                "path": f"/api{path}",
                "stage": "api",
                "httpMethod": method,
                "requestId": "stack-test",
                "identity": {"sourceIp": "127.0.0.1"},
            },
            "body": base64.b64encode(body).decode() if body is not None else None,
            "isBase64Encoded": body is not None,
        }

    def _route(self, path: str) -> tuple[str, dict[str, str]]:
        """The resource that API Gateway takes for a path: at each step a static part before a variable."""
        definition = self.template()["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
        matches = [(resource, found) for resource in definition["paths"] if (found := _match(resource, path)) is not None]
        assert matches, f"the deployed API has no route for {path}"
        return min(matches, key=lambda match: [part.startswith("{") + part.endswith("+}") for part in match[0].split("/")])


def _match(resource: str, path: str) -> dict[str, str] | None:
    """The path parameters when `path` matches; API Gateway drops a trailing slash there."""
    captured: dict[str, str] = {}
    wanted, given = resource.strip("/").split("/"), path.strip("/").split("/")
    for position, part in enumerate(wanted):
        if position >= len(given):
            return None
        if part.endswith("+}"):
            return captured | {part[1:-2]: "/".join(given[position:])}
        if part.startswith("{"):
            captured[part[1:-1]] = given[position]
        elif part != given[position]:
            return None
    return captured if len(wanted) == len(given) else None


def _answer(payload: dict[str, Any]) -> Answer:
    headers = {name.lower(): value for name, value in payload.get("headers", {}).items()}
    headers |= {name.lower(): values[-1] for name, values in payload.get("multiValueHeaders", {}).items()}
    body = base64.b64decode(payload["body"]) if payload.get("isBase64Encoded") else payload.get("body", "").encode()
    return Answer(payload["statusCode"], headers, body)
