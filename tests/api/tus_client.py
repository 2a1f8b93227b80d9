"""A thin TUS client over the API's client, and what lies behind an upload: its session, its object, its jobs."""

import base64
import hashlib
import random
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from chalicelib.core import staging
from chalicelib.errors import StorageUnavailable
from chalicelib.tables.jobs import Job
from chalicelib.tables.table import scan
from chalicelib.tables.uploads import UploadSession
from tests.api.held import storage_of
from tests.client import Answer, Client
from tests.conftest import Tenant, run_job

TUS = "/storage/v1/upload/tus"
CHUNK = "application/offset+octet-stream"
MIB = 1 << 20
MAX_BODY = 4_400_000
UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@dataclass(frozen=True)
class Tus:
    """TUS requests under one credential. Headers are given as `upload_offset="3"`; None leaves out one that is usual."""

    client: Client

    def ask(self, method: str, upload_id: str = "", body: bytes | None = None, **headers: Any) -> Answer:
        usual: dict[str, Any] = {"tus_resumable": "1.0.0"} | ({} if body is None else {"content_type": CHUNK})
        sent = {name.replace("_", "-"): value for name, value in (usual | headers).items() if value is not None}
        return self.client(method, f"{TUS}/{upload_id}" if upload_id else TUS, body, sent)

    def create(self, length: int | None = None, body: bytes | None = None, name: str = "o", **headers: str | None) -> Answer:
        usual = {"upload_metadata": encoded(bucket="b", filename=name), "upload_length": None if length is None else str(length)}
        return self.ask("POST", "", body, **(usual | headers))

    def begin(self, length: int | None = None, body: bytes | None = None, name: str = "o", **headers: str | None) -> str:
        """The id of a new upload."""
        answer = self.create(length, body, name, **headers)
        assert answer.status == 201, answer.body
        return id_of(answer)

    def patch(self, upload_id: str, offset: int | str | None, body: bytes = b"", **headers: str | None) -> Answer:
        return self.ask("PATCH", upload_id, body, **({"upload_offset": None if offset is None else str(offset)} | headers))

    def head(self, upload_id: str) -> Answer:
        return self.ask("HEAD", upload_id)

    def delete(self, upload_id: str) -> Answer:
        return self.ask("DELETE", upload_id)

    def offset(self, upload_id: str) -> int:
        answer = self.head(upload_id)
        assert answer.status == 200
        return int(answer.headers["upload-offset"])

    def send(self, upload_id: str, body: bytes, chunk: int, first: int = 0) -> None:
        """`body` from byte `first` on, in chunks, each of which is acknowledged."""
        for start in range(first, len(body), chunk):
            answer = self.patch(upload_id, start, body[start : start + chunk])
            assert (answer.status, answer.headers.get("upload-offset")) == (204, str(min(start + chunk, len(body)))), answer.body

    def upload(self, body: bytes, chunk: int, name: str = "o", **headers: str | None) -> str:
        """The id of an upload whose bytes have all been sent."""
        upload_id = self.begin(len(body), name=name, **headers)
        self.send(upload_id, body, chunk)
        return upload_id

    def partial(self, body: bytes, chunk: int = 4 * MIB) -> str:
        """The id of a finished partial upload."""
        first = body[:chunk]
        upload_id = self.begin(len(body), first or None, upload_metadata=None, upload_concat="partial")
        self.send(upload_id, body, chunk, len(first))
        return upload_id

    def joined(self, *upload_ids: str, **headers: str | None) -> Answer:
        """The same, waited for where a job does it."""
        answer = self.join(*upload_ids, **headers)
        if answer.status == 201 and (job_id := session(id_of(answer)).job_id):
            run_job(job_id)
        return answer

    def join(self, *upload_ids: str, **headers: str | None) -> Answer:
        return self.create(**({"upload_concat": "final;" + " ".join(f"{TUS}/{each}" for each in upload_ids)} | headers))


def encoded(**values: str | bytes) -> str:
    """An Upload-Metadata header."""
    texts = {key: value if isinstance(value, bytes) else value.encode() for key, value in values.items()}
    return ",".join(f"{key} {base64.b64encode(text).decode()}" for key, text in texts.items())


def digest(algorithm: str, body: bytes) -> str:
    """An Upload-Checksum header."""
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, body).digest()).decode()}"


def id_of(answer: Answer) -> str:
    return answer.headers["location"].rpartition("/")[2]


def noise(size: int) -> bytes:
    """Bytes without a pattern, the same each time, that look like no known format."""
    return b"\0" * min(size, 16) + random.Random(size).randbytes(max(0, size - 16))


def info(client: Client, name: str = "o", bucket: str = "b") -> dict[str, Any]:
    """An object's row as the API shows it."""
    answer = client("GET", f"/storage/object-info/{bucket}/{quote(name)}")
    assert answer.status == 200, answer.body
    row: dict[str, Any] = answer.json()
    return row


def downloaded(client: Client, name: str = "o", bucket: str = "b") -> bytes:
    """An object's bytes, from where the API sends its readers."""
    answer = client.get(bucket, name)
    if answer.status == 503 and answer.code == "Staging":
        bring(info(client, name, bucket)["version"])
        answer = client.get(bucket, name)
    if answer.status == 302:
        with urllib.request.urlopen(answer.headers["location"], timeout=30) as response:
            body: bytes = response.read()
        return body
    assert answer.status == 200, answer.body
    return answer.body


def bring(version: str) -> None:
    """Run the job that brings an object to where it can be downloaded from."""
    rows = [Job.from_raw_data(item) for page in scan(Job) for item in page]
    (job,) = (row for row in rows if row.kind == staging.JOB and row.pending and row.task["row"]["version"] == version)
    run_job(job.job_id)


def holds(client: Client, body: bytes, name: str = "o") -> bool:
    """Whether the object's row and its bytes are those of `body`."""
    row = info(client, name)
    is_described = (row["size"], row["checksum"]) == (len(body), hashlib.sha256(body).hexdigest())
    return is_described and downloaded(client, name) == body


def session(upload_id: str) -> Any:
    """An upload's row."""
    return UploadSession.read(upload_id, UploadSession.SESSION)


def refused(answer: Answer, status: int) -> str:
    """A clear error as TUS has it; gives its text."""
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-request-id"]
    return answer.body.decode()


def allow(tenant: Tenant, operation: str = "INSERT", definition: str = "true") -> str:
    policy = {"bucket": "b", "name": operation, "operation": operation, "definition": definition}
    answer = tenant.service("POST", "/storage/policies", policy)
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


def failing_once(monkeypatch: pytest.MonkeyPatch, tenant: Tenant, method: str) -> None:
    """Have the tenant's storage fail at the next call of a provider's method, and be back for the one after it."""
    kind = type(storage_of(tenant))
    real = getattr(kind, method)

    def fail(*_: Any, **__: Any) -> Any:
        monkeypatch.setattr(kind, method, real)
        raise StorageUnavailable("the storage cannot be reached; try again shortly")

    monkeypatch.setattr(kind, method, fail)


def run_jobs(tenant: Tenant, kind: str) -> None:
    """Run the jobs of a tenant that are not finished."""
    rows = [Job.from_raw_data(item) for page in scan(Job) for item in page]
    for row in rows:
        if row.tenant_id == tenant.tenant_id and row.kind == kind and row.pending:
            run_job(row.job_id)
