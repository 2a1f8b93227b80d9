"""The tests of TUS, once more for buckets on tenants' own storages.

Left out: what is counted in calls of the internal S3, and what is told by the protocol's headers alone, before any storage is asked.
The whole runs on SFTP and the strict server; on Azure what stores, ends and gives up uploads.
"""

import pytest

from tests.api import conftest
from tests.api.test_tus import *  # noqa: F403
from tests.api.tus_client import Tus

tus, half = conftest.tus, conftest.half

del test_64_mib_cost_few_calls  # noqa: F821
del test_a_chunk_is_taken_without_a_read_of_the_table  # noqa: F821
del test_an_upload_in_one_request_costs_one_call_of_the_storage  # noqa: F821

EVERYWHERE = ("sftp", "azure", "strict_s3")
# What is told before any storage is asked, or by headers alone.
ONE = (
    "test_another_version_is_refused_and_nothing_is_done",
    "test_metadata_that_name_no_object_are_refused",
    "test_a_bad_length_is_refused",
    "test_what_is_no_upload_is_not_found",
    "test_metadata_name_the_object_and_its_type",
    "test_a_bad_offset_is_refused",
)
ON = {"*": ("sftp", "strict_s3")} | dict.fromkeys(
    (
        "test_an_upload_goes_on_when_the_storage_is_back",
        "test_a_terminated_upload_is_gone",
        "test_a_terminated_upload_frees_its_parts",
        "test_replaying_a_done_upload_brings_nothing_back",
        "test_the_upload_of_a_deleted_bucket_ends_nowhere",
        "test_bytes_of_another_type_are_refused_at_the_end_if_they_came_piecemeal",
        "test_what_is_uploaded_in_chunks_is_what_is_downloaded",
        "test_chunks_of_all_sizes_make_one_object",
        "test_a_writer_that_is_gone_is_followed_and_can_change_nothing",
        "test_of_several_at_the_same_offset_exactly_one_wins",
    ),
    EVERYWHERE,
)


@pytest.fixture
def storage(tus: Tus) -> Tus:
    """The internal storage may be any: it matters nothing here."""
    return tus


ON |= dict.fromkeys(ONE, ("sftp",))
# Its clock is two days ahead of the internal storage's, which would be a copy that is too old.
ON |= {"test_a_done_upload_is_known_for_a_day": ("azure", "strict_s3")}
