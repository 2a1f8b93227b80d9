"""Where the bytes of a tenant lie: the internal storage, or the one that the tests are run on once more."""

from typing import Any

from chalicelib.core import keeping
from tests.conftest import Tenant


def storage_of(tenant: Tenant) -> Any:
    """The provider that holds what the tenant's clients store."""
    return keeping.provider_of(tenant.tenant_id, getattr(tenant.service, "storage_id", None))
