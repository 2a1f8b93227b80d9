"""The tests of resumable uploads, once more for buckets on tenants' own storages.

Left out: what is counted in calls of the internal S3. The fixture `storage` varies the internal storage, which matters nothing here.
"""

import pytest

from tests.api.test_resumable import *  # noqa: F403
from tests.api.test_resumable import Uploads

del test_a_chunk_costs_two_writes_of_the_table_and_no_read  # noqa: F821


@pytest.fixture
def storage(uploads: Uploads) -> Uploads:
    return uploads


# What is told before any storage is asked, or by headers alone.
ONE = (
    "test_a_position_that_cannot_be_read_is_refused",
    "test_what_names_no_upload_is_refused",
    "test_a_completion_that_cannot_be_read_is_refused",
)
# Who comes while a server's files are being joined by another is told to come again: 503, and not yet 200.
ON = {"test_of_several_completions_at_once_one_object_comes": ("azure", "strict_s3")} | dict.fromkeys(ONE, ("sftp",))
