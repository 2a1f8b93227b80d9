"""The tests of objects, once more for buckets on tenants' own storages."""

from tests.api.test_objects import *  # noqa: F403

# What is told before any storage is asked, or by headers alone.
ONE = (
    "test_user_metadata_that_is_not_a_small_json_object_is_refused",
    "test_a_change_that_is_none_is_refused",
    "test_paths_that_are_none_are_refused",
    "test_a_declared_type_that_is_none_is_refused",
    "test_the_type_is_the_declared_one_else_guessed_from_the_name",
    "test_a_form_without_exactly_one_file_is_refused",
    "test_declared_type_and_bytes_must_both_be_allowed",
    "test_a_path_is_percent_decoded_exactly_once",
)
ON = dict.fromkeys(ONE, ("sftp",))
