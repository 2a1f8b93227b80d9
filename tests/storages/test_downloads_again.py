"""The tests of downloads, once more for buckets on tenants' own storages.

Left out: a folder that streams, which is the internal storage. On SFTP what is beyond an answer's limit is staged first, by other
rules (`test_staging.py`). Azure has neither the signature's name of S3's URLs nor another way to say a range or a date than S3.
"""

from tests.api.test_downloads import *  # noqa: F403

del test_a_folder_streams_what_is_beyond_the_limit  # noqa: F821

# What is told before any storage is asked, or by headers alone.
ONE = (
    "test_if_none_match_spares_what_is_at_hand",
    "test_what_a_page_could_load_as_code_is_plain_bytes",
    "test_several_ranges_and_malformed_ones_give_the_whole",
    "test_what_a_browser_could_run_is_an_attachment_in_a_sandbox",
    "test_if_match_insists_on_a_version",
    "test_what_is_harmless_is_shown_in_place",
)
ON = {
    "test_beyond_the_limit_a_redirect_leads_to_the_bytes": ("azure", "strict_s3"),
    "test_the_redirect_needs_no_credential_and_shows_none": ("strict_s3",),
    "test_the_redirect_is_as_safe_as_the_answer": ("azure", "strict_s3"),
    "test_a_range_beyond_the_limit_is_redirected": ("azure", "strict_s3"),
    "test_a_redirect_is_not_cached": ("azure", "strict_s3"),
    "test_the_platforms_own_limit_is_where_redirects_begin": ("azure", "strict_s3"),
    "test_any_name_asked_for_makes_a_well_formed_header": ("sftp",),
    "test_a_date_that_is_none_is_ignored": ("sftp",),
    "test_download_saves_under_the_name_asked_for": ("sftp",),
}
ON |= dict.fromkeys(ONE, ("sftp",))
