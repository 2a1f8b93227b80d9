"""A tenant that ends takes its vault along: the platform's part of it, and nothing of what lies in storages of its own."""

from typing import Any

import pytest

from chalicelib.core import tenants as core
from chalicelib.tables.deltas import Delta
from chalicelib.tables.jobs import Job
from chalicelib.tables.keys import VaultKey
from chalicelib.tables.storages import Storage
from chalicelib.tables.table import scan
from tests.client import Client
from tests.conftest import Clock, Tenant, run_job
from tests.vault.conftest import Vault


@pytest.fixture
def admin(tenant: Tenant) -> Client:
    return tenant.nobody.using(core.create_admin_key())


def finish(job_id: str, tenant_id: str, clock: Clock) -> Any:
    """The job, after it and those that it has begun have ended."""
    for _ in range(20):
        run_job(job_id)
        waiting = (Job.from_raw_data(item) for page in scan(Job) for item in page if "pending" in item)
        for job in [each for each in waiting if each.tenant_id == tenant_id]:
            run_job(job.job_id)
        clock.advance(60)
    job = Job.read(job_id)
    assert job is not None
    return job


def test_keys_and_deltas_of_a_deleted_tenant_go_and_its_own_storage_keeps_what_lies_there(
    tenant: Tenant, admin: Client, internal: Vault, own: Vault, clock: Clock
) -> None:
    at_home, outside, by_hand = internal.key(), own.key(), internal.key()
    ours, theirs, left = internal.upload(at_home), own.upload(outside), internal.upload(by_hand)
    pending = own.begin(outside)
    assert own.client("PATCH", "/keys/edit", {"key_uuid": by_hand, "storage_uuid": own.storage_uuid}).status == 200
    job_id = admin("DELETE", f"/admin/tenants/{tenant.tenant_id}").json()["job_id"]
    assert finish(job_id, tenant.tenant_id, clock).status == "done"
    assert VaultKey.all_of(tenant.tenant_id) == []
    assert Storage.all_of(tenant.tenant_id) == []
    assert not internal.holds(ours)
    assert not internal.holds(left), "nobody else could ever reach it"
    assert own.holds(theirs)
    marks = [row.status for begun in (ours, theirs, left, pending) for row in Delta.all_of(begun["key_uuid"])]
    assert set(marks) <= {"deleted"}


def test_while_a_key_is_there_yet_the_storages_stay(tenant: Tenant, admin: Client, own: Vault, clock: Clock) -> None:
    own.upload(own.key())
    job_id = admin("DELETE", f"/admin/tenants/{tenant.tenant_id}").json()["job_id"]
    clock.advance(200)
    run_job(job_id)
    assert Job.read(job_id).status == "queued"  # type: ignore[union-attr]
    assert Storage.all_of(tenant.tenant_id)
    assert finish(job_id, tenant.tenant_id, clock).status == "done"
    assert Storage.all_of(tenant.tenant_id) == []
