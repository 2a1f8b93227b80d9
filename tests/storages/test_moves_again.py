"""The tests of moves and copies, once more for buckets on tenants' own storages.

The strict server takes no parts of seven bytes: large copies on it are in `test_buckets_on.py`.
"""

from tests.api.test_moves import *  # noqa: F403

# What is told before any storage is asked, or by headers alone.
ONE = (
    "test_a_relocation_that_is_none_is_refused",
    "test_the_target_buckets_rules_hold",
    "test_a_missing_source_is_not_found",
)
ON = dict.fromkeys(
    (
        "test_a_large_one_is_a_job_that_lands_when_it_is_done",
        "test_a_job_survives_being_killed_at_any_step",
        "test_a_job_survives_being_killed_between_its_bytes_and_its_row",
        "test_two_workers_do_not_share_a_job",
        "test_a_replay_of_the_last_step_brings_nothing_back",
        "test_a_job_whose_last_answer_was_lost_is_done",
        "test_a_move_whose_source_changed_meanwhile_fails_and_leaves_it",
        "test_a_source_whose_row_changed_but_not_its_bytes_is_moved_all_the_same",
        "test_a_job_that_may_not_land_any_more_fails_and_the_source_stays",
        "test_a_job_that_failed_leaves_no_orphan_once_its_garbage_is_due",
    ),
    ("sftp", "azure"),
)
ON |= dict.fromkeys(ONE, ("sftp",))
