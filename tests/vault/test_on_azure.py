"""Deltas on Azure Blob, as the internal storage and as one's own: its URLs hold to `If-None-Match` alone, so all else is looked at."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib import providers
from chalicelib.core import keeping
from tests.conftest import Tenant, run_job
from tests.servers.azurite import Azurite
from tests.storages.conftest import Fields, account, created, fields_of  # noqa: F401  fixtures
from tests.vault.conftest import BODY, Vault, counters, put, told

CHECKED = {"overwrite": "enforced", "content_md5": "checked"}


@pytest.fixture
def at_home(
    account: Azurite,  # noqa: F811
    tenant: Tenant,
    every_kind: None,
    settings_again: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Vault]:
    """A vault on the internal storage of an installation on Azure."""
    monkeypatch.setenv("STOWAGE_STORAGE_PROVIDER", "azure")
    monkeypatch.setenv("STOWAGE_AZURE_CONNECTION_STRING", account.connection_string)
    settings_again()
    providers.internal.cache_clear()
    yield Vault(tenant.service, None, providers.internal())
    providers.internal.cache_clear()


@pytest.fixture
def brought_azure(tenant: Tenant, fields_of: Callable[[str], Fields]) -> Vault:  # noqa: F811
    """A vault on an Azure container of the tenant's."""
    storage_id = created(tenant, fields_of("azure"))
    assert tenant.service("POST", f"/api/v1/backups/storage-configs/{storage_id}/test").json()["success"]
    provider = keeping.provider_of(tenant.tenant_id, storage_id)
    return Vault(tenant.service, storage_id, provider)


@pytest.fixture(params=["at_home", "brought_azure"])
def on_azure(request: pytest.FixtureRequest) -> Vault:
    made: Vault = request.getfixturevalue(request.param)
    return made


def test_a_delta_is_uploaded_confirmed_downloaded_and_deleted(on_azure: Vault, tenant: Tenant) -> None:
    key_uuid = on_azure.key()
    begun = on_azure.begin(key_uuid)
    assert begun["headers"]["x-ms-meta-upload_attempt"] == begun["upload_attempt_uuid"]
    assert begun["safeguards"] == CHECKED
    assert told(on_azure.confirm(begun)) == (409, "NotUploaded")
    assert put(begun) == 201
    assert put(begun) in (403, 409), "the URL makes a new blob, once"
    answer = on_azure.confirm(begun)
    assert (answer.status, answer.json()["safeguards"]) == (200, CHECKED)
    assert on_azure.bytes_of(begun) == BODY
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(BODY))
    assert on_azure.delete(begun).json() == {"delta_uuid": begun["delta_uuid"], "warning": None, "left": []}
    assert on_azure.lies_there(key_uuid) == []


@pytest.mark.parametrize("other", [{"Content-MD5": None}, {"Content-MD5": None, "x-ms-meta-expected_size_bytes": "1"}])
def test_what_the_url_lets_in_and_was_not_promised_is_rejected_and_deleted(on_azure: Vault, other: dict[str, Any]) -> None:
    begun = on_azure.begin(on_azure.key())
    assert put(begun, b"x" * len(BODY), **other) == 201
    assert told(on_azure.confirm(begun)) == (422, "IntegrityFailed")
    assert not on_azure.holds(begun)


def test_without_the_metadata_it_is_of_no_attempt_and_stays(on_azure: Vault) -> None:
    begun = on_azure.begin(on_azure.key())
    assert put(begun, **{"x-ms-meta-upload_attempt": None}) == 201
    assert told(on_azure.confirm(begun)) == (409, "AttemptMismatch")
    assert on_azure.holds(begun)


def test_a_key_moves_from_s3_to_azure(brought_azure: Vault, own: Vault, tenant: Tenant) -> None:
    key_uuid = own.key()
    begun = own.upload(key_uuid)
    job_id = own.client("POST", "/keys/migrate", {"key_uuid": key_uuid, "storage_uuid": brought_azure.storage_uuid}).json()["job_id"]
    run_job(job_id)
    assert own.client("GET", f"/jobs/{job_id}").json()["status"] == "done"
    assert own.bytes_of(begun) == BODY
