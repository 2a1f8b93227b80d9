"""The tests of TUS' extensions, once more for buckets on tenants' own storages. Partial uploads lie in the internal one.

Left out: what is joined at once by copies, for between storages every join is a job.
"""

import pytest

from tests.api import conftest
from tests.api.test_tus_extensions import *  # noqa: F403
from tests.api.tus_client import Tus

tus, half = conftest.tus, conftest.half

del test_large_uploads_are_joined_at_once_by_copies  # noqa: F821


@pytest.fixture
def storage(tus: Tus) -> Tus:
    """The internal storage may be any: it matters nothing here."""
    return tus


# What is told before any storage is asked, or by headers alone.
ONE = (
    "test_an_order_that_names_no_uploads_is_refused",
    "test_a_digest_that_cannot_be_read_is_refused",
    "test_a_length_is_told_now_or_later",
)
ON = dict.fromkeys(ONE, ("sftp",))
