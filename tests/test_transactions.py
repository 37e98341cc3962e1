"""Each error that a transaction can meet, at the producer's edge: rows and marker are committed once, or the flow stops and says why."""

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError

from flows.edge import Marker
from flows.records import DEAD, Record
from flows.stop import AWAY, FENCED, MISMATCH, REFUSED, Stop
from flows.transactions import GIVE_UP_S, REOPEN, Transactions
from tests import atomic_log
from tests.atomic_log import ABORTABLE, RETRIABLE, Log, LogEdge, LogProducer, fault

ROWS = [Record("kpi.t.10s", b"a", b"1"), Record("kpi.t.1m", b"b", b"2"), Record("kpi.late", b"c", b"3", (("kpi.reason", b"late"),))]
MARKER = Marker("lineage", 1, "run", "me")
THEIRS = Marker("lineage", 1, "run", "somebody else")
FENCING = [
    pytest.param(atomic_log.FENCED, id="fatal"),
    *(
        pytest.param(fault(code), id=KafkaError(code).name())
        for code in (
            KafkaError._FENCED,
            KafkaError.PRODUCER_FENCED,
            KafkaError.INVALID_PRODUCER_EPOCH,
            KafkaError.INVALID_TXN_STATE,
            KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        )
    ),
]


@pytest.fixture
def log() -> Log:
    return Log()


def opened(log: Log) -> Transactions:
    return Transactions(LogEdge(log), log.clock, log.pause)


def committed(log: Log) -> list[str]:
    """Commit ROWS; the calls from then on. They must be in the log once, with the marker."""
    transactions = opened(log)
    since = len(log.calls)
    transactions.commit(ROWS, MARKER)
    assert log.rows == ROWS
    assert log.marker == transactions.marker == MARKER
    return [call for call in log.calls[since:] if call not in {"produce", "flush", "poll"}]


def stopped(act: Callable[[], object]) -> Stop:
    with pytest.raises(Stop) as caught:
        act()
    return caught.value


def test_rows_and_marker_travel_in_one_transaction(log: Log) -> None:
    assert committed(log) == ["begin", "commit"]


# init_transactions


def test_a_retriable_error_of_init_is_tried_again_on_the_same_producer_and_nothing_is_read_or_sent_before(log: Log) -> None:
    log.fail("init", RETRIABLE, RETRIABLE)
    opened(log)
    assert log.calls == ["open", "init", "poll", "init", "poll", "init", "marker"]


def test_init_that_never_works_stops_the_flow_after_ten_minutes(log: Log) -> None:
    log.fail("init", *[RETRIABLE] * 7000)
    assert stopped(lambda: opened(log)).code == AWAY
    assert GIVE_UP_S <= log.now < GIVE_UP_S + 1


def test_a_transaction_timeout_that_the_brokers_refuse_stops_the_flow_with_the_setting_to_change(log: Log) -> None:
    log.fail("init", fault(KafkaError.INVALID_TRANSACTION_TIMEOUT, fatal=True))
    stop = stopped(lambda: opened(log))
    assert stop.code == REFUSED
    assert "KAFKA_TRANSACTION_TIMEOUT_MS" in str(stop)
    assert log.calls == ["open", "init"]


def test_an_init_that_is_fenced_leaves_to_the_other_instance(log: Log) -> None:
    log.fail("init", atomic_log.FENCED)
    assert stopped(lambda: opened(log)).code == FENCED


def test_a_wrong_password_stops_the_flow_though_the_client_would_try_for_ever(log: Log) -> None:
    edge = LogEdge(log)
    edge.refusal = KafkaError(KafkaError._AUTHENTICATION, "wrong password")
    log.fail("init", *[RETRIABLE] * 10)
    stop = stopped(lambda: Transactions(edge, log.clock, log.pause))
    assert stop.code == REFUSED
    assert "wrong password" in str(stop)
    assert log.calls.count("init") == 1


# the marker


def test_a_failed_reading_of_the_marker_is_done_again(log: Log) -> None:
    log.marker = MARKER
    log.fail("marker", *[fault(KafkaError._TRANSPORT), fault(KafkaError.NOT_LEADER_FOR_PARTITION)] * 100)
    assert opened(log).marker == MARKER


def test_a_progress_topic_that_is_not_there_stops_the_flow(log: Log) -> None:
    log.fail("marker", *[fault(KafkaError._UNKNOWN_PARTITION)] * 100)
    assert stopped(lambda: opened(log)).code == MISMATCH


# produce


def test_a_full_queue_is_polled_and_the_same_row_sent_again(log: Log) -> None:
    log.fail("produce", None, BufferError(), BufferError())
    assert committed(log) == ["begin", "commit"]
    assert log.calls.count("poll") == 2


def test_a_row_larger_than_the_client_takes_becomes_a_dead_letter_in_a_new_transaction(log: Log) -> None:
    huge = Record("kpi.t.10s", b"k" * 5000, b"v" * 3_000_000)
    opened(log).commit([ROWS[0], huge, ROWS[1]], MARKER)
    letter = log.rows[1]
    assert log.rows == [ROWS[0], letter, ROWS[1]]
    assert letter[:3] == (DEAD, b"k" * 1024, b"v" * 65536)
    assert dict(letter[3]) | {"kpi.error": b""} == {
        "kpi.topic": b"kpi.t.10s",
        "kpi.reason": b"size",
        "kpi.error": b"",
        "kpi.truncated": b"3000000",
    }
    assert log.calls.count("abort") == 1


def test_a_late_record_that_is_too_large_keeps_the_headers_that_say_where_it_came_from(log: Log) -> None:
    headers = (("kpi.topic", b"shop.orders"), ("kpi.reason", b"late"))
    opened(log).commit([Record("kpi.late", None, b"v" * 2_000_000, headers)], MARKER)
    assert log.rows == [(DEAD, None, b"v" * 65536, (*headers, ("kpi.truncated", b"2000000")))]


def test_of_a_batch_that_the_broker_refuses_only_the_row_that_is_too_large_alone_is_cut(log: Log) -> None:
    large = fault(KafkaError.MSG_SIZE_TOO_LARGE)
    log.fail("deliver", large, large, None, None)  # the first two were one batch
    log.fail("deliver", None, large, None, None)  # each alone: it was the second
    opened(log).commit(ROWS, MARKER)
    assert [row[0] for row in log.rows] == ["kpi.t.10s", DEAD, "kpi.late"]
    assert log.rows[0] == ROWS[0]
    assert log.calls.count("flush") == 1 + 5 + 3  # at the end of each attempt, and around each row that travels alone


def test_a_dead_letter_that_is_refused_all_the_same_stops_the_flow_in_the_end(log: Log) -> None:
    log.fail("deliver", *[fault(KafkaError.MSG_SIZE_TOO_LARGE), None] * 5000)
    assert stopped(lambda: opened(log).commit(ROWS[:1], MARKER)).code == AWAY
    assert log.rows == []


# delivery reports


def test_a_failed_delivery_aborts_the_transaction_though_its_commit_would_succeed(log: Log) -> None:
    log.fail("deliver", None, fault(KafkaError._MSG_TIMED_OUT))
    assert committed(log) == ["begin", "abort", "begin", "commit"]


def test_a_producer_that_takes_nothing_more_aborts_the_transaction(log: Log) -> None:
    log.fail("produce", None, fault(KafkaError._STATE))
    assert committed(log) == ["begin", "abort", "begin", "commit"]


# commit


@pytest.mark.parametrize("when", ["commit", "after commit"])
def test_a_commit_of_unknown_outcome_is_called_again_on_the_same_producer_and_never_aborted(log: Log, when: str) -> None:
    log.fail(when, RETRIABLE, RETRIABLE)
    assert committed(log) == ["begin", "commit", "commit", "commit"]


@pytest.mark.parametrize(("when", "again"), [("commit", ["begin", "commit"]), ("after commit", [])])
def test_an_outcome_unknown_for_longer_than_the_timeout_is_read_from_the_marker(log: Log, when: str, again: list[str]) -> None:
    log.fail(when, *[RETRIABLE] * 60)
    calls = committed(log)
    assert set(calls[1 : -3 - len(again)]) == {"commit"}
    assert calls[len(calls) - 3 - len(again) :] == ["open", "init", "marker", *again]


def test_an_abortable_error_after_an_unknown_outcome_is_judged_by_the_marker_and_never_aborted(log: Log) -> None:
    log.fail("after commit", RETRIABLE)
    log.fail("commit", None, ABORTABLE)
    assert committed(log) == ["begin", "commit", "commit", "open", "init", "marker"]


def test_an_abortable_commit_is_aborted_and_done_again(log: Log) -> None:
    log.fail("commit", ABORTABLE, ABORTABLE)
    assert committed(log) == [*["begin", "commit", "abort"] * 2, "begin", "commit"]


def test_abortable_commits_stop_the_flow_after_ten_minutes_and_not_after_a_few(log: Log) -> None:
    log.fail("commit", *[ABORTABLE] * 1000)
    transactions = opened(log)
    stop = stopped(lambda: transactions.commit(ROWS, MARKER))
    assert stop.code == AWAY
    assert log.rows == []
    assert log.now >= GIVE_UP_S
    assert log.calls.count("commit") > 50


@pytest.mark.parametrize("error", FENCING)
def test_a_fenced_producer_goes_on_with_a_new_one_while_the_marker_is_its_own(log: Log, error: BaseException) -> None:
    log.fail("commit", *[error] * REOPEN)
    assert committed(log) == [*["begin", "commit", "open", "init", "marker"] * REOPEN, "begin", "commit"]


def test_a_fenced_commit_that_had_worked_is_not_done_again(log: Log) -> None:
    log.fail("after commit", atomic_log.FENCED)
    assert committed(log) == ["begin", "commit", "open", "init", "marker"]


@pytest.mark.parametrize("error", FENCING)
def test_fenced_four_times_in_a_row_the_flow_leaves(log: Log, error: BaseException) -> None:
    log.fail("commit", *[error] * (REOPEN + 1))
    assert stopped(lambda: opened(log).commit(ROWS, MARKER)).code == FENCED
    assert log.rows == []
    assert log.calls.count("open") == 1 + REOPEN


def test_the_count_of_fencings_begins_anew_after_a_commit(log: Log) -> None:
    transactions = opened(log)
    for sequence in range(1, 4):
        log.fail("commit", *[atomic_log.FENCED] * REOPEN, None)
        transactions.commit(ROWS, MARKER._replace(sequence=sequence))
    assert log.rows == ROWS * 3


def test_a_fatal_error_that_meets_a_delivery_report_is_still_that_error(log: Log) -> None:
    error = SystemError("returned a result with an exception set")
    error.__cause__ = atomic_log.FENCED
    log.fail("flush", error)
    assert committed(log) == ["begin", "open", "init", "marker", "begin", "commit"]


def test_a_fatal_error_that_the_client_lost_is_fatal(log: Log) -> None:
    """As the client did to flows that were replaced: not even a cause."""
    log.fail("flush", SystemError("<built-in method flush of cimpl.Producer object> returned NULL without setting an exception"))
    assert committed(log) == ["begin", "open", "init", "marker", "begin", "commit"]


def test_a_fatal_error_that_meets_two_delivery_reports_is_still_that_error(log: Log) -> None:
    first, second = (SystemError("returned a result with an exception set") for _ in range(2))
    first.__cause__, second.__cause__ = atomic_log.FENCED, first
    log.fail("flush", second)
    assert committed(log) == ["begin", "open", "init", "marker", "begin", "commit"]


@pytest.mark.parametrize("call", ["begin", "produce", "flush", "commit"])
def test_a_flow_that_was_replaced_leaves_without_writing(log: Log, call: str) -> None:
    transactions = opened(log)
    log.newest, log.marker = LogProducer(log), THEIRS
    log.fail(call, atomic_log.FENCED)
    stop = stopped(lambda: transactions.commit(ROWS, MARKER))
    assert stop.code == FENCED
    assert "KPI_FLOW_ID" in str(stop)
    assert (log.rows, log.marker) == ([], THEIRS)


def test_an_error_of_no_known_kind_asks_the_marker(log: Log) -> None:
    log.fail("after commit", fault(KafkaError.UNKNOWN))
    assert committed(log) == ["begin", "commit", "open", "init", "marker"]


# abort


def test_an_abort_that_is_fenced_counts_as_fenced(log: Log) -> None:
    log.fail("commit", *[ABORTABLE] * (REOPEN + 1))
    log.fail("abort", *[atomic_log.FENCED] * (REOPEN + 1))
    assert stopped(lambda: opened(log).commit(ROWS, MARKER)).code == FENCED
    assert log.calls.count("open") == 1 + REOPEN


def test_a_retriable_abort_is_called_again(log: Log) -> None:
    log.fail("commit", ABORTABLE)
    log.fail("abort", RETRIABLE, RETRIABLE)
    assert committed(log) == ["begin", "commit", "abort", "abort", "abort", "begin", "commit"]


@pytest.mark.parametrize("error", [atomic_log.FENCED, fault(KafkaError.UNKNOWN)])
def test_an_abort_that_cannot_work_ends_with_a_new_producer(log: Log, error: BaseException) -> None:
    log.fail("commit", ABORTABLE)
    log.fail("abort", error)
    assert committed(log) == ["begin", "commit", "abort", "open", "init", "marker", "begin", "commit"]
