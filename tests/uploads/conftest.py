"""What the tests of whole cleanups stand on."""

import pytest

from chalicelib.tables.jobs import Job
from chalicelib.tables.storages import Storage
from chalicelib.tables.table import Table, scan, write_all
from infra import stack


@pytest.fixture(scope="module", autouse=True)
def nothing_of_others(embedded: stack.EmbeddedAWS) -> None:
    """Forget jobs and storages that tests before these have left: each hour of theirs would wake and probe every one of them."""
    _forget(Job, "job_id")
    _forget(Storage, "tenant_id", "storage_id")


def _forget(model: type[Table], *keys: str) -> None:
    rows = [item for page in scan(model) for item in page]
    write_all([(model, {"DeleteRequest": {"Key": {key: item[key] for key in keys}}}) for item in rows])
