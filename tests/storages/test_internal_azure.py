"""Azure Blob as the internal storage: the tests of objects, and uploads once more, for buckets that name no storage."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib import providers
from tests.api.test_objects import *  # noqa: F403
from tests.api.test_resumable import *  # noqa: F403
from tests.conftest import Tenant
from tests.servers.azurite import Azurite

del test_a_chunk_costs_two_writes_of_the_table_and_no_read  # noqa: F821  # calls of S3


@pytest.fixture
def tenant(
    account: Azurite, every_kind: None, settings_again: Callable[[], None], monkeypatch: pytest.MonkeyPatch, new_tenant: Any
) -> Iterator[Tenant]:
    """A tenant of an installation on Azure."""
    monkeypatch.setenv("STOWAGE_STORAGE_PROVIDER", "azure")
    monkeypatch.setenv("STOWAGE_AZURE_CONNECTION_STRING", account.connection_string)
    settings_again()
    providers.internal.cache_clear()
    yield new_tenant()
    providers.internal.cache_clear()
