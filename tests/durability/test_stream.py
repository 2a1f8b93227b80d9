"""What follows from changes of rows: delivered once, twice, late, or with the rest of AWS failing."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib import aws, providers, workers
from chalicelib.core import buckets, changes, events, garbage
from chalicelib.settings import settings
from chalicelib.tables.garbage import Garbage
from tests.conftest import Context

DAY = 25 * 3600


@pytest.fixture
def told(embedded: Any) -> Any:
    """The events that reached the bus since, as a queue behind a rule gets them."""
    bus, queues = aws.client("events"), aws.client("sqs")
    url = queues._make_api_call("CreateQueue", {"QueueName": "told"})["QueueUrl"]
    arn = queues._make_api_call("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["QueueArn"]})["Attributes"]["QueueArn"]
    rule = {"Name": "told", "EventBusName": settings().event_bus, "EventPattern": json.dumps({"source": ["stowage"]})}
    bus._make_api_call("PutRule", rule)
    bus._make_api_call("PutTargets", {"Rule": "told", "EventBusName": settings().event_bus, "Targets": [{"Id": "q", "Arn": arn}]})
    queues._make_api_call("PurgeQueue", {"QueueUrl": url})

    def take() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while messages := queues._make_api_call("ReceiveMessage", {"QueueUrl": url, "MaxNumberOfMessages": 10}).get("Messages"):
            found += [json.loads(message["Body"]) for message in messages]
            for message in messages:
                queues._make_api_call("DeleteMessage", {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]})
        return found

    return take


def counts(tenant: Any, name: str = "b") -> tuple[int, int]:
    bucket = buckets.get(tenant.tenant_id, name)
    return int(bucket.object_count), int(bucket.total_size_bytes)


def filed(tenant: Any) -> list[Garbage]:
    rows = [row for row in Garbage.scan() if row.hour[:1].isdigit()]  # what lies under words is something else
    return [row for row in rows if row.partition.startswith(tenant.tenant_id)]


def test_counters_follow_uploads_overwrites_moves_and_deletes(tenant: Any, machinery: Any) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "a", b"12345")
    tenant.service.put("b", "c", b"1")
    machinery.stream.deliver()
    assert counts(tenant) == (2, 6)
    tenant.service.put("b", "a", b"12")
    tenant.service("POST", "/storage/object/move", {"bucket": "b", "from": "c", "to": "d"})
    machinery.stream.deliver()
    assert counts(tenant) == (2, 3)
    tenant.service.delete("b", "a")
    machinery.stream.deliver()
    assert counts(tenant) == (1, 1)
    shown = tenant.service("GET", "/storage/buckets/b").json()
    assert (shown["object_count"], shown["total_size_bytes"]) == (1, 1)


def test_changes_are_told_on_the_bus(tenant: Any, machinery: Any, told: Callable[[], list[dict[str, Any]]]) -> None:
    tenant.service.bucket("b")
    first = tenant.service.put("b", "a", b"one", "text/plain").json()
    second = tenant.service.put("b", "a", b"two!", "text/plain").json()
    tenant.service.delete("b", "a")
    machinery.stream.deliver()
    events = sorted(told(), key=lambda event: event["detail"]["event_id"])
    kinds = {event["detail-type"]: event["detail"] for event in events}
    assert set(kinds) == {"object.created", "object.updated", "object.removed"}
    assert all(event["source"] == "stowage" for event in events)
    created, updated, removed = (kinds[f"object.{kind}"] for kind in ("created", "updated", "removed"))
    assert created["version"] == first["version"]
    assert updated["version"] == removed["version"] == second["version"]
    assert (updated["tenant_id"], updated["bucket"], updated["name"], updated["size"]) == (tenant.tenant_id, "b", "a", 4)
    assert len({detail["event_id"] for detail in kinds.values()}) == 3


def test_a_record_delivered_twice_files_the_same_garbage_and_tells_the_same_event(
    tenant: Any, machinery: Any, told: Callable[[], list[dict[str, Any]]], stored_keys: Callable[[], set[str]], clock: Any
) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "a", b"old")
    tenant.service.put("b", "a", b"new")
    records = machinery.stream.deliver()
    before = {(row.hour, row.physical_key) for row in filed(tenant)}
    machinery.stream.deliver(records)
    assert {(row.hour, row.physical_key) for row in filed(tenant)} == before
    assert len(before) == 1
    ids = [event["detail"]["event_id"] for event in told()]
    assert len(ids) == 4
    assert len(set(ids)) == 2
    clock.advance(DAY)
    machinery.hour()
    assert len(stored_keys()) == 1
    assert tenant.service.get("b", "a").body == b"new"


def test_a_record_delivered_days_late_is_still_collected_and_costs_nothing_that_is_needed(
    tenant: Any, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any
) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "a", b"old")
    tenant.service.put("b", "a", b"new")
    records = machinery.stream.records()
    clock.advance(3 * DAY)
    machinery.hour()
    machinery.stream.deliver(records)
    assert len(stored_keys()) == 2
    clock.advance(2 * 3600)
    machinery.hour()
    assert len(stored_keys()) == 1
    assert tenant.service.get("b", "a").body == b"new"


def test_records_out_of_order_file_what_was_superseded_and_nothing_else(
    tenant: Any, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any
) -> None:
    tenant.service.bucket("b")
    for body in (b"1", b"2", b"3"):
        tenant.service.put("b", "a", body)
    machinery.stream.deliver(list(reversed(machinery.stream.records())))
    clock.advance(DAY)
    machinery.hour()
    assert len(stored_keys()) == 1
    assert tenant.service.get("b", "a").body == b"3"


def test_a_batch_that_cannot_be_filed_is_delivered_again(tenant: Any, machinery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "a", b"old")
    tenant.service.put("b", "a", b"new")
    records = machinery.stream.records()

    def down(_: object) -> None:
        raise RuntimeError("down")

    with monkeypatch.context() as broken:
        broken.setattr(garbage, "file_all", down)
        with pytest.raises(RuntimeError, match="down"):  # what the mapping sees, bisects and retries
            workers.object_rows({"Records": records}, Context())
    assert counts(tenant) == (0, 0)  # nothing is counted before what must not be lost is safe
    machinery.stream.deliver(records)
    assert counts(tenant) == (1, 3)
    assert len(filed(tenant)) == 1


def test_a_record_that_does_not_go_is_named_and_those_before_it_are_done(tenant: Any, machinery: Any) -> None:
    tenant.service.bucket("b")
    for name in ("a", "b", "c"):
        tenant.service.put("b", name, b"x")
    records = machinery.stream.records()
    records[1]["dynamodb"]["NewImage"]["size"] = {"N": "poison"}
    answer = workers.object_rows({"Records": records}, Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": records[1]["dynamodb"]["SequenceNumber"]}]}
    assert counts(tenant) == (1, 1)


def test_an_event_that_the_bus_does_not_take_is_delivered_again(tenant: Any, machinery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "a", b"x")
    records = machinery.stream.records()
    monkeypatch.setattr(events, "BATCH", 11)  # more than AWS takes at once
    with pytest.raises(Exception, match=r"PutEvents|entries|not take"):
        events.publish([events.Event("object.created", {"event_id": str(number)}, 0) for number in range(11)])
    monkeypatch.undo()
    machinery.stream.deliver(records)
    assert counts(tenant) == (1, 1)


def test_a_counter_that_cannot_be_moved_does_not_hold_up_the_stream(tenant: Any, machinery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "a", b"x")

    def down(*_: object) -> None:
        raise RuntimeError("down")

    monkeypatch.setattr(changes.Bucket, "change", down)
    machinery.stream.deliver()


def test_the_consumer_calls_no_provider(tenant: Any, machinery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "a", b"1")
    tenant.service.delete("b", "a")
    monkeypatch.setattr(providers, "internal", lambda: pytest.fail("the stream's consumer asked for a provider"))
    assert len(machinery.stream.deliver()) == 2


def test_bytes_that_appear_by_themselves_are_never_adopted(
    tenant: Any, machinery: Any, stored_keys: Callable[[], set[str]], clock: Any
) -> None:
    tenant.service.bucket("b")
    tenant.service.put("b", "a", b"kept")
    key = f"objects/{tenant.tenant_id}-b/a~01ARZ3NDEKTSV4RRFFQ69G5FAV.direct"
    providers.internal().put(key, b"late", "text/plain")
    event = {"Records": [{"s3": {"object": {"key": key.replace("~", "%7E")}}}]}
    workers.bucket_objects(event, Context())
    workers.bucket_objects(event, Context())
    assert tenant.service.get("b", "a").body == b"kept"
    clock.advance(DAY)
    machinery.hour()
    assert key not in stored_keys()
    assert tenant.service.get("b", "a").body == b"kept"


@pytest.mark.parametrize("key", ["transforms/x.direct", "objects/no-tenant/x.direct", "objects/", "deltas/a/b.direct", "objects/x~y"])
def test_other_objects_in_the_bucket_are_left_alone(machinery: Any, tenant: Any, key: str) -> None:
    workers.bucket_objects({"Records": [{"s3": {"object": {"key": key}}}]}, Context())
    assert [row for row in Garbage.scan() if row.physical_key == key] == []
