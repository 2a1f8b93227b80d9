"""What every benchmark stands on: the embedded AWS, tenants, events, and tables to print."""

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """A title, a heading and rows of text."""

    title: str
    heading: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        lines = [self.heading, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.heading))]
        shown = [
            "  ".join(
                cell.ljust(width) if not index else cell.rjust(width) for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([self.title, "-" * len(self.title), *shown, ""])


@dataclass(frozen=True)
class Tenant:
    """A tenant of its own for a benchmark, and a client under its service key."""

    tenant_id: str
    service_key: str
    service: Any


class Rig:
    """An embedded AWS for as long as it is entered; `calls` counts what botocore sends."""

    def __init__(self) -> None:
        from infra import stack

        self._folder = tempfile.TemporaryDirectory()
        self._aws = stack.EmbeddedAWS(Path(self._folder.name))
        self.calls: list[str] = []

    def __enter__(self) -> "Rig":
        from infra import stack

        self._aws.start()
        stack.provision(self._aws, stack.local_template())
        names = stack.outputs(self._aws)
        os.environ.update(
            self._aws.environment(),
            STOWAGE_MASTER_KEY="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            STOWAGE_STORAGE_PROVIDER="s3",
            STOWAGE_S3_BUCKET=names["InternalBucket"],
            STOWAGE_JOBS_QUEUE=names["JobsQueueUrl"],
            STOWAGE_EVENT_BUS=names["EventBusName"],
        )
        from chalicelib import aws

        aws.session().register("before-send", lambda event_name, **_: self.calls.append(event_name.split(".")[1]))
        return self

    def __exit__(self, *_: object) -> None:
        self._aws.stop()
        self._folder.cleanup()

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """DynamoDB from memory (`benchmarks.replay`) while inside: for reads alone, of rows that nothing changes."""
        from chalicelib import aws

        command = [sys.executable, "-m", "benchmarks.replay", os.environ["AWS_ENDPOINT_URL"]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            aws.client.cache_clear()
            try:
                yield
            finally:
                del os.environ["AWS_ENDPOINT_URL_DYNAMODB"]
                aws.client.cache_clear()
                server.kill()

    def tenant(self, name: str) -> Tenant:
        from app import app
        from chalicelib.core import tenants
        from tests.client import Client

        made = tenants.create_tenant(name)
        return Tenant(made.tenant_id, made.service_key, Client(app, made.service_key))

    def fill(self, tenant: Tenant, bucket: str, prefix: str, number: int, folders: int = 0) -> None:
        """Rows without bytes: `{prefix}/{n}`, or spread over `{prefix}/{folder}/{n}`."""
        from chalicelib import seam
        from chalicelib.core import buckets
        from chalicelib.tables.objects import StoredObject
        from chalicelib.tables.table import write_all

        found, now = buckets.get(tenant.tenant_id, bucket), seam.iso(seam.now())
        template = StoredObject(
            found.partition,
            "",
            id=seam.new_uuid(),
            version=seam.new_version(),
            revision=1,
            bucket=bucket,
            physical_key="",
            size=12_345,
            content_type="image/jpeg",
            checksum="0" * 64,
            owner_id=seam.new_uuid(),
            user_metadata='{"camera":"X100","tags":["a","b"]}',
            created_at=now,
            updated_at=now,
            tokens_not_before=now,
        ).serialize()
        names = (f"{prefix}/{n % folders:04}/{n:07}.jpg" if folders else f"{prefix}/{n:07}.jpg" for n in range(number))
        write_all([(StoredObject, {"PutRequest": {"Item": template | {"name": {"S": name}}}}) for name in names])

    def event(self, method: str, path: str, credential: str, body: bytes | None = None) -> dict[str, Any]:
        """A proxy event, as API Gateway would send it."""
        from app import app
        from infra.localdev import LambdaEventConverter, RouteMatcher

        events = LambdaEventConverter(RouteMatcher(list(app.routes)), ["*/*"])
        headers = {"host": "bench.test", "authorization": f"Bearer {credential}"}
        if body is not None:
            headers["content-type"] = "application/octet-stream"
        return dict(events.create_lambda_event(method, path, headers, body))


def interleaved(rounds: int, batch: int, **works: Callable[[], object]) -> dict[str, float]:
    """CPU seconds of one call of each, in batches taken in turns so that noise falls on all alike.

    The least of the batches counts: what else the machine does can only add. Garbage is collected between
    batches and not within, so that none pays for what another left.
    """
    samples: dict[str, list[float]] = {name: [] for name in works}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, work in works.items():
                gc.collect()
                work()
                started = time.process_time()
                for _ in range(batch):
                    work()
                samples[name].append((time.process_time() - started) / batch)
    finally:
        gc.enable()
    return {name: min(taken) for name, taken in samples.items()}
