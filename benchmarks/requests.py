"""Warm requests: AWS calls and CPU of each, and the two table operations beside plain boto3.

CPU is that of this process; the embedded AWS runs in another. `download`, `list` and the rest go through the whole
app, event to answer, while boto3's figures are a client call alone.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import boto3

from benchmarks.rig import Rig, Table, interleaved

ROUNDS = 9
BATCH = 10
PAIR_ROUNDS = 21
PAIR_BATCH = 40
SIBLINGS = 10_000
BODY = bytes(range(256)) * 40


def run(rig: Rig) -> tuple[Table, dict[str, Any]]:
    """Every request in turns with boto3's two calls."""
    tenant = rig.tenant("warm")
    tenant.service.bucket("b")
    tenant.service.put("b", "o", BODY)
    rig.fill(tenant, "b", "many", SIBLINGS)
    requests = _requests(rig, tenant)
    counted = {name: _calls(rig, request) for name, request in requests.items()}
    list_100 = requests.pop("list 100")
    cpu = interleaved(ROUNDS, BATCH, **requests)
    with rig.replayed():
        row, page = _tables(tenant)
        # What is compared lies side by side: what runs before a call leaves the processor's caches as it likes.
        for works in (row, page | {"list 100": list_100}):
            cpu |= interleaved(PAIR_ROUNDS, PAIR_BATCH, **works)
    figures = {
        "row_read_ratio": cpu["row read"] / cpu["boto3 get_item"],
        "list_page_ratio": cpu["page of 100"] / cpu["boto3 query"],
        "list_request_ratio": cpu["list 100"] / cpu["boto3 query"],
        "cpu_ms": {name: seconds * 1000 for name, seconds in cpu.items()},
        "calls": counted,
    }
    rows = [[name, counted.get(name, ""), f"{seconds * 1000:.2f}"] for name, seconds in cpu.items()]
    rows += [
        ["row read / get_item", "", f"{figures['row_read_ratio']:.2f}"],
        ["page of 100 / query", "", f"{figures['list_page_ratio']:.2f}"],
        ["list 100, whole request / query", "", f"{figures['list_request_ratio']:.2f}"],
    ]
    return Table("Warm requests", ["request", "AWS calls", "CPU ms"], rows), figures


def _requests(rig: Rig, tenant: Any) -> dict[str, Callable[[], object]]:
    from app import app

    numbers = count()
    doomed = _doomed(tenant)
    next(doomed)

    def sender(method: str, path: str, body: bytes | None = None) -> Callable[[], object]:
        event = rig.event(method, path, tenant.service_key, body)
        return lambda: app(event, None)

    def upload() -> object:
        return app(rig.event("POST", f"/storage/object/b/new-{next(numbers)}", tenant.service_key, BODY), None)

    def delete() -> object:
        return app(rig.event("DELETE", f"/storage/object/b/{next(doomed)}", tenant.service_key), None)

    return {
        "upload 10 KB": upload,
        "overwrite 10 KB": sender("POST", "/storage/object/b/o", BODY),
        "download 10 KB": sender("GET", "/storage/object/b/o"),
        "HEAD": sender("HEAD", "/storage/object/b/o"),
        "list 100": sender("GET", "/storage/objects/b?prefix=many/&limit=100"),
        "delete": delete,
    }


def _doomed(tenant: Any) -> Iterator[str]:
    """Names of objects that are there to be deleted."""
    names = [f"doomed-{number}" for number in range(ROUNDS * (BATCH + 1) + 2)]
    for name in names:
        tenant.service.put("b", name, b"x")
    yield ""
    yield from names


def _tables(tenant: Any) -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    """A row and a page of rows, by boto3 and by what stands for it here."""
    from chalicelib.access.principals import Principal, Role
    from chalicelib.core import buckets, listing
    from chalicelib.tables.objects import StoredObject

    partition = buckets.get(tenant.tenant_id, "b").partition
    client = boto3.client("dynamodb")
    key = {"partition": {"S": partition}, "name": {"S": "o"}}
    query = {
        "TableName": StoredObject.Meta.table_name,
        "KeyConditionExpression": "#p = :p AND begins_with(#n, :n)",
        "ExpressionAttributeNames": {"#p": "partition", "#n": "name"},
        "ExpressionAttributeValues": {":p": {"S": partition}, ":n": {"S": "many/"}},
        "ConsistentRead": True,
        "Limit": 100,
    }
    principal = Principal(Role.SERVICE, tenant.tenant_id)
    row: dict[str, Callable[[], object]] = {
        "boto3 get_item": lambda: client.get_item(TableName=StoredObject.Meta.table_name, Key=key, ConsistentRead=True),
        "row read": lambda: StoredObject.read(partition, "o"),
    }
    page: dict[str, Callable[[], object]] = {
        "boto3 query": lambda: client.query(**query),
        "page of 100": lambda: listing.page(principal, "b", prefix="many/", limit=100),
    }
    return row, page


def _calls(rig: Rig, request: Callable[[], object]) -> str:
    request()
    rig.calls.clear()
    request()
    return " + ".join(f"{number} {service}" for service, number in sorted(Counter(rig.calls).items()))
