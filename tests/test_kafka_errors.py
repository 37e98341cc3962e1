"""Every error that Kafka can answer with: what is done, and the tests that hold it. The first column is where it comes up."""

import pytest

from tests.test_docs import ROOT, functions_of

EDGE, REAL, LOG, READ = "test_transactions.py", "integration/test_sink_broker.py", "test_sink.py", "integration/test_consumer_errors.py"
ROWS = {
    ("init", "retriable: again on the same producer, nothing before it worked"): [
        (EDGE, "test_a_retriable_error_of_init_is_tried_again_on_the_same_producer_and_nothing_is_read_or_sent_before"),
        (EDGE, "test_init_that_never_works_stops_the_flow_after_ten_minutes"),
    ],
    ("init", "fatal: stop with the hint"): [
        (EDGE, "test_a_transaction_timeout_that_the_brokers_refuse_stops_the_flow_with_the_setting_to_change"),
        (EDGE, "test_a_wrong_password_stops_the_flow_though_the_client_would_try_for_ever"),
        (EDGE, "test_an_init_that_is_fenced_leaves_to_the_other_instance"),
        (REAL, "test_what_the_brokers_refuse_for_good_stops_the_flow_with_a_hint"),
    ],
    ("produce", "a full queue: poll, the same row again"): [
        (EDGE, "test_a_full_queue_is_polled_and_the_same_row_sent_again"),
    ],
    ("produce", "too large: abort, the row as a dead letter, the batch again"): [
        (EDGE, "test_a_row_larger_than_the_client_takes_becomes_a_dead_letter_in_a_new_transaction"),
        (EDGE, "test_of_a_batch_that_the_broker_refuses_only_the_row_that_is_too_large_alone_is_cut"),
        (REAL, "test_a_record_larger_than_the_topic_takes_does_not_take_its_batch_with_it"),
        (REAL, "test_a_record_larger_than_the_client_takes_is_a_dead_letter_of_the_same_transaction"),
    ],
    ("delivery", "an error: abort and do it again"): [
        (EDGE, "test_a_failed_delivery_aborts_the_transaction_though_its_commit_would_succeed"),
        (EDGE, "test_a_producer_that_takes_nothing_more_aborts_the_transaction"),
    ],
    ("commit", "retriable, outcome unknown: commit again, then the marker decides"): [
        (EDGE, "test_a_commit_of_unknown_outcome_is_called_again_on_the_same_producer_and_never_aborted"),
        (EDGE, "test_an_outcome_unknown_for_longer_than_the_timeout_is_read_from_the_marker"),
        (EDGE, "test_an_abortable_error_after_an_unknown_outcome_is_judged_by_the_marker_and_never_aborted"),
    ],
    ("commit", "abortable: abort and do it again, for ten minutes"): [
        (EDGE, "test_an_abortable_commit_is_aborted_and_done_again"),
        (EDGE, "test_abortable_commits_stop_the_flow_after_ten_minutes_and_not_after_a_few"),
    ],
    ("commit", "fenced and fatal: a new producer, and on only if the marker is ours"): [
        (EDGE, "test_a_fenced_producer_goes_on_with_a_new_one_while_the_marker_is_its_own"),
        (EDGE, "test_fenced_four_times_in_a_row_the_flow_leaves"),
        (EDGE, "test_a_flow_that_was_replaced_leaves_without_writing"),
        (EDGE, "test_an_abort_that_is_fenced_counts_as_fenced"),
        (REAL, "test_an_older_instance_leaves_fenced_and_what_it_left_open_is_never_seen"),
    ],
    ("offsets", "never inside a transaction: committed after it, for display"): [
        (LOG, "test_offsets_are_shown_after_the_transaction_and_without_rows_too"),
        (REAL, "test_offsets_are_shown_in_the_group_of_the_flow"),
    ],
    ("consumer", "offset out of range: a counted gap, on from the earliest"): [
        (READ, "test_offsets_that_expired_are_a_counted_gap_and_reading_goes_on_from_the_earliest"),
    ],
    ("consumer", "unknown topic, not authorised: the others go on"): [
        (READ, "test_a_topic_that_is_deleted_is_told_and_the_others_go_on"),
        (READ, "test_a_topic_that_may_not_be_read_is_told_and_tried_again_and_the_others_go_on"),
    ],
}


@pytest.mark.parametrize(("where", "error"), ROWS)
def test_every_error_of_kafka_has_its_tests(where: str, error: str) -> None:
    missing = [test for file, test in ROWS[where, error] if test not in functions_of(ROOT / "tests" / file)]
    assert missing == []
    assert ROWS[where, error]
