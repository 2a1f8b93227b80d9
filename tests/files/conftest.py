"""Files through HTTP: short ways to what most tests begin with."""

import json
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from chalicelib.core import names
from chalicelib.errors import StowageError
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import scan
from infra import stack
from tests.client import Answer, Client
from tests.conftest import Tenant, run_job
from tests.durability.conftest import Stream

TEXT = {"content-type": "text/plain"}
ROOT = "__root__"
UNKNOWN = "00000000-0000-4000-8000-00000000abcd"
# What is told of a file.
FILE = {"id", "key", "size", "contentType", "checksum", "version", "acl", "folderId", "ownerId", "metadata", "uploadedAt", "updatedAt"}

Choose = Callable[[str, str], None]
"""Sets a `STOWAGE_*` variable: what the fixture `choose` gives."""


class Killed(BaseException):
    """The process ends here."""


def examples(number: int) -> hypothesis_settings:
    """Of a property that asks the API: so many examples, the same each time."""
    unfit = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return hypothesis_settings(deadline=None, max_examples=number, derandomize=True, suppress_health_check=unfit)


def put(client: Client, key: str, body: bytes = b"bytes", query: str = "", **headers: str) -> Answer:
    """PUT of a file; `x_metadata="…"` is the header x-metadata."""
    sent = TEXT | {name.replace("_", "-"): value for name, value in headers.items()}
    return client("PUT", f"/api/storage/{quote(key)}{query}", body, sent)


def stored(client: Client, key: str, body: bytes = b"bytes", query: str = "", **headers: str) -> dict[str, Any]:
    """The file that a PUT has stored."""
    answer = put(client, key, body, query, **headers)
    assert answer.status in (200, 201), answer.body
    data: dict[str, Any] = answer.json()["data"]
    return data


def get(client: Client, key: str, query: str = "", method: str = "GET", **headers: str) -> Answer:
    """GET of a file; `if_none_match="…"` is the header If-None-Match."""
    return client(method, f"/api/storage/{quote(key)}{query}", headers={name.replace("_", "-"): value for name, value in headers.items()})


def patch(client: Client, key: str, **changes: Any) -> Answer:
    return client("PATCH", f"/api/storage/{quote(key)}", changes)


def delete(client: Client, key: str) -> Answer:
    return client("DELETE", f"/api/storage/{quote(key)}")


def listed(client: Client, query: str = "") -> dict[str, Any]:
    """A page of the list, whole."""
    answer = client("GET", f"/api/storage?{query}")
    assert answer.status == 200, answer.body
    page: dict[str, Any] = answer.json()
    return page


def keys(client: Client, query: str = "") -> list[str]:
    return [each["key"] for each in listed(client, query)["data"]]


def file_of(client: Client, key: str) -> dict[str, Any]:
    """A file as it is listed, of no more than 200."""
    (found,) = (each for each in listed(client, "limit=200")["data"] if each["key"] == key)
    assert isinstance(found, dict)
    return found


def folder(client: Client, name: str, parent_id: str | None = None) -> str:
    """The id of a new folder."""
    answer = client("POST", "/api/folders", {"name": name, "parentId": parent_id})
    assert answer.status == 201, answer.body
    return str(answer.json()["data"]["id"])


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The error of an answer, which has the files surface's own format (FEATURES F15.1)."""
    assert answer.status == status, answer.body
    document = json.loads(answer.body)
    assert document.keys() == {"error", "requestId"}
    assert document["requestId"] == answer.headers["x-request-id"]
    assert document["error"].keys() == {"code", "message", "details"}
    assert document["error"]["code"] == code
    error: dict[str, Any] = document["error"]
    return error


def is_permitted(key: str) -> bool:
    """Whether a file may have a key."""
    try:
        return bool(names.check_name_in(FILES, key))
    except StowageError:
        return False


def allow(service: Client, operation: str, definition: str = "true") -> str:
    """The id of a new policy of files."""
    policy = {"bucket": FILES, "name": f"{operation} {definition}", "operation": operation, "definition": definition}
    answer = service("POST", "/storage/policies", policy)
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


def uid_of(tenant: Tenant, subject: str) -> str:
    """The id under which a user whose token names no UUID owns files."""
    return str(uuid.uuid5(uuid.UUID(tenant.tenant_id), subject))


def row_of(tenant: Tenant, key: str) -> StoredObject | None:
    """A file's row as it stands."""
    bucket = Bucket.read(tenant.tenant_id, FILES)
    assert bucket is not None
    return StoredObject.read(bucket.partition, key)


@pytest.fixture
def ada(tenant: Tenant) -> Client:
    """A user of the tenant's."""
    return tenant.user(sub="ada")


@pytest.fixture
def bob(tenant: Tenant) -> Client:
    """Another one."""
    return tenant.user(sub="bob")


@pytest.fixture
def service(tenant: Tenant) -> Client:
    return tenant.service


@pytest.fixture
def stream(embedded: stack.EmbeddedAWS, tenant: Tenant) -> Stream:
    """The stream of the tenant's objects; `deliver()` has its consumer move counters, file garbage and withdraw what was published."""
    return Stream(embedded, tenant.tenant_id)


def run_pending(tenant: Tenant) -> list[str]:
    """Run every job of the tenant's that has not ended, as the queue would; gives their ids."""
    jobs = [Job.from_raw_data(item) for page in scan(Job) for item in page]
    ids = [str(job.job_id) for job in jobs if job.tenant_id == tenant.tenant_id and job.pending is not None]
    for job_id in ids:
        run_job(job_id)
    return ids
