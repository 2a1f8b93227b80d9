"""The parts of AWS that drive the workers, turned by hand: the stream of the objects table, the queue, the hour."""

import hashlib
from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib import providers, workers
from chalicelib.access.principals import Principal, Role
from chalicelib.core import buckets, expiry, garbage, keeping, objects
from chalicelib.settings import settings
from chalicelib.tables.garbage import Cursor, Garbage
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import Table, scan, write_all
from chalicelib.tables.uploads import UploadSession
from infra import stack
from infra.runner import lambda_record
from tests.conftest import Context, Tenant

Record = dict[str, Any]
BYTES = b"bytes"


class Stream:
    """The stream of the objects table from the moment this is made, of one tenant's rows."""

    def __init__(self, aws: stack.EmbeddedAWS, tenant_id: str) -> None:
        self._client = aws.client("dynamodbstreams")
        self._arn = aws.client("dynamodb").describe_table(TableName=StoredObject.Meta.table_name)["Table"]["LatestStreamArn"]
        self._tenant_id = tenant_id
        shards = self._client.describe_stream(StreamArn=self._arn)["StreamDescription"]["Shards"]
        self._iterators = [self._latest(shard["ShardId"]) for shard in shards]

    def _latest(self, shard: str) -> str:
        wanted = {"StreamArn": self._arn, "ShardId": shard, "ShardIteratorType": "LATEST"}
        return str(self._client.get_shard_iterator(**wanted)["ShardIterator"])

    def records(self) -> list[Record]:
        """What has come since the last call, as Lambda would give it."""
        found: list[Record] = []
        for position, iterator in enumerate(self._iterators):
            while True:
                page = self._client.get_records(ShardIterator=iterator)
                iterator = page["NextShardIterator"]
                found += [lambda_record(record, self._arn) for record in page["Records"]]
                if not page["Records"]:
                    break
            self._iterators[position] = iterator
        return [record for record in found if record["dynamodb"]["Keys"]["partition"]["S"].startswith(self._tenant_id)]

    def deliver(self, records: list[Record] | None = None) -> list[Record]:
        """Hand records (those that have come) to the consumer, which must take them all."""
        records = self.records() if records is None else records
        if records:
            assert workers.object_rows({"Records": records}, Context()) == {"batchItemFailures": []}
        return records


@dataclass(frozen=True)
class Machinery:
    """What goes on behind the API."""

    stream: Stream

    def hour(self) -> dict[str, Any]:
        """The hourly cleanup; gives its report."""
        return workers.hourly({}, Context())


@pytest.fixture
def machinery(embedded: stack.EmbeddedAWS, tenant: Any, emptied_afterwards: None) -> Machinery:
    # Another test may have moved the clock and collected: no hour of ours is behind the collectors.
    for collector in (garbage.CURSOR, expiry.CURSOR):
        Cursor(Cursor.HOUR, collector).delete()
    return Machinery(Stream(embedded, tenant.tenant_id))


@pytest.fixture
def stored_keys(tenant: Any) -> Any:
    """The physical keys of everything that the tenant has in the internal storage."""

    def keys() -> set[str]:
        return {listed.key for listed in providers.internal().list(f"objects/{tenant.tenant_id}-")}

    return keys


ALL_MODELS = (StoredObject, UploadSession, Garbage)


@pytest.fixture
def alone(embedded: stack.EmbeddedAWS, emptied_afterwards: None) -> None:
    """Tables of objects, uploads and garbage, and a bucket, in which nothing is of another test."""
    for model in ALL_MODELS:
        purge(model)
    s3, bucket = embedded.client("s3"), settings().s3_bucket  # S3, on the embedded AWS
    for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
        s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    providers.internal().delete([listed.key for listed in providers.internal().list("")])


def fill(tenant: Tenant, bucket_name: str, number: int) -> None:
    """Objects `o000` and so on of five bytes, as uploads of the service key leave them, but faster."""
    bucket, rows = buckets.get(tenant.tenant_id, bucket_name), []
    for position in range(number):
        row = objects.new_row(Principal(Role.SERVICE, tenant.tenant_id), bucket, f"o{position:03d}", "application/octet-stream", None)
        row.size, row.checksum = len(BYTES), hashlib.sha256(BYTES).hexdigest()
        keeping.holding(row).put(row.physical_key, BYTES, row.content_type)
        rows.append(row)
    write_all([(StoredObject, {"PutRequest": {"Item": row.serialize()}}) for row in rows])


def purge(model: type[Table]) -> None:
    """Remove every row of a table."""
    names = [name for name in model._key_names() if name]
    for page in scan(model):
        write_all([(model, {"DeleteRequest": {"Key": {name: item[name] for name in names}}}) for item in page])


@pytest.fixture
def everything() -> Any:
    """What all of these hold, to be compared before and after."""

    def read() -> Any:
        rows = {model.__name__: sorted(map(str, (item for page in scan(model) for item in page))) for model in ALL_MODELS}
        return rows | {"storage": [listed.key for listed in providers.internal().list("")]}

    return read
