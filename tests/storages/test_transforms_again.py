"""The tests of transforms, once more for buckets on tenants' own storages, whose sources are staged for the image function.

Left out: what is counted in calls, and folders as the internal storage. What is refused before any storage is asked runs on one alone;
on Azure what makes pictures.
"""

from tests.api.test_transforms import *  # noqa: F403

del test_a_first_time_costs_a_look_a_claim_a_token_and_an_invocation  # noqa: F821
del test_a_folder_keeps_results_as_s3_does  # noqa: F821
del test_a_folder_forgets_results_after_a_day  # noqa: F821
del test_a_folder_refuses_what_s3_refuses  # noqa: F821
del test_a_folder_streams_what_is_beyond_the_limit  # noqa: F821

EVERYWHERE, ONE = ("sftp", "azure", "strict_s3"), ("sftp",)
# What makes pictures of bytes that come from the storage, and what else of the storage could show.
FROM_STORAGE = (
    "test_the_size_is_what_was_asked_for_and_never_distorted",
    "test_the_format_is_the_sources_by_default",
    "test_an_overwrite_is_another_picture_at_once",
    "test_what_cannot_be_decoded_is_refused_and_remembered",
    "test_what_is_no_image_is_given_as_it_is",
    "test_a_url_signed_for_a_transform_opens_that_and_nothing_else",
    "test_a_result_that_the_storage_lost_is_made_again",
    "test_beyond_the_limit_a_redirect_leads_to_the_image",
)
# What is told by options, modes and headers alone, long before a storage is asked.
UNASKED = (
    "test_a_bad_value_is_refused_and_nothing_is_made",
    "test_the_automatic_format_is_the_smallest_that_is_accepted_by_name",
    "test_the_validator_is_the_same_however_the_options_are_written",
    "test_it_is_saved_under_the_objects_name_with_the_ending_of_what_it_is",
    "test_a_range_of_a_transformed_image_is_all_of_it",
    "test_a_higher_quality_costs_more_bytes",
    "test_a_bucket_shows_how_its_images_may_be_asked_for",
    "test_what_a_bucket_shows_of_its_presets_may_be_given_back",
    "test_null_lifts_what_a_bucket_was_held_to",
    "test_a_bucket_takes_no_mode_and_no_presets_that_there_cannot_be",
    "test_a_bucket_takes_as_many_presets_with_names_as_long_as_it_says",
)
ON = {"*": ("sftp", "strict_s3")} | dict.fromkeys(FROM_STORAGE, EVERYWHERE) | dict.fromkeys(UNASKED, ONE)
