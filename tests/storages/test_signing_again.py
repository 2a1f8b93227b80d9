"""The tests of signed URLs, once more for buckets on tenants' own storages.

Left out: what is counted in calls of the internal S3, and a redirect's end as S3 writes it (`test_staging.py` has that of a copy).
Without the old master key nobody opens a storage's secrets, so what is read after it is gone is left out too.
"""

from tests.api.test_signing import *  # noqa: F403

del test_a_signed_download_is_one_row_and_one_object  # noqa: F821
del test_the_mark_of_a_used_token_goes_by_itself_and_is_not_listed  # noqa: F821
del test_a_new_master_key_signs_and_the_old_one_still_opens  # noqa: F821

# SFTP has no URLs, and Azure's say their end in another way.
# What is told before any storage is asked, or by headers alone.
ONE = (
    "test_a_lifetime_out_of_bounds_is_refused",
    "test_no_token_that_was_tampered_with_lets_anyone_in",
    "test_a_token_is_compact_json_and_its_keyed_hash",
    "test_the_stream_passes_the_mark_over",
    "test_a_token_lives_as_long_as_was_asked",
)
ON = {"test_a_redirect_lives_no_longer_than_its_token": ("strict_s3",)}
ON |= dict.fromkeys(ONE, ("sftp",))
