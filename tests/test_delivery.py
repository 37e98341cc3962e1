"""Rows sent at once: each arrives, or the sender hears of it."""

from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError

from flows.delivery import Failure, Undelivered, cut, deliver, lighten
from flows.records import DEAD, Joined, Record
from tests import atomic_log
from tests.atomic_log import Log, LogEdge, fault

ROWS = [Record("kpi.t.10s", b"a", b"1"), Record("kpi.t.1m", b"b", b"2"), Record("kpi.late", b"c", b"3")]
LARGE = fault(KafkaError.MSG_SIZE_TOO_LARGE)


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_full_queue_is_polled_and_the_same_row_sent_again(log: Log) -> None:
    log.fail("produce", None, BufferError(), BufferError())
    deliver(LogEdge(log).idempotent(), ROWS)
    assert log.rows == ROWS


def test_a_failed_delivery_names_the_topic_the_count_and_the_error(log: Log) -> None:
    log.fail("deliver", None, fault(KafkaError.UNKNOWN_TOPIC_OR_PART))
    with pytest.raises(Undelivered, match=r"kpi\.t\.1m: 1 of 3 rows were not delivered: UNKNOWN_TOPIC_OR_PART"):
        deliver(LogEdge(log).idempotent(), ROWS)


def test_a_producer_that_takes_nothing_more_is_an_error(log: Log) -> None:
    log.fail("produce", None, fault(KafkaError._FATAL))
    with pytest.raises(Undelivered, match="_FATAL"):
        deliver(LogEdge(log).idempotent(), ROWS)


def test_a_fatal_error_while_waiting_is_an_error(log: Log) -> None:
    log.fail("flush", atomic_log.FENCED)
    with pytest.raises(Undelivered, match="may not have been delivered"):
        deliver(LogEdge(log).idempotent(), ROWS)


def test_a_row_too_large_becomes_a_dead_letter_and_its_neighbours_arrive(log: Log) -> None:
    deliver(LogEdge(log).idempotent(), [ROWS[0], Record("kpi.t.10s", b"k", b"v" * 2_000_000), ROWS[1]])
    assert log.rows[:2] == [ROWS[0], ROWS[1]]
    assert [(row[0], len(row[2] or b"")) for row in log.rows[2:]] == [(DEAD, 65536)]


def test_of_a_batch_that_the_broker_refuses_only_the_row_that_is_too_large_alone_is_cut(log: Log) -> None:
    log.fail("deliver", LARGE, LARGE, None)  # the first two were one batch
    log.fail("deliver", None, LARGE, None)  # each alone: it was the second
    deliver(LogEdge(log).idempotent(), ROWS)
    assert [row[0] for row in log.rows] == ["kpi.late", "kpi.t.10s", DEAD]


def test_a_dead_letter_that_is_refused_all_the_same_is_an_error(log: Log) -> None:
    log.fail("deliver", *[LARGE] * 9)
    with pytest.raises(Undelivered, match=r"kpi\.dead-letters: 1 of 1 rows were not delivered: MSG_SIZE_TOO_LARGE"):
        deliver(LogEdge(log).idempotent(), ROWS[:1])


def test_rows_are_not_made_again_where_none_was_too_large() -> None:
    """Each time takes as much memory as all of them, and an outage has many times."""
    assert lighten(Mock(spec=Joined), [Failure(fault(KafkaError._MSG_TIMED_OUT).args[0], ROWS[0][:3])], set()) is None


@pytest.mark.parametrize("alone", [True, False])
def test_of_several_collections_of_rows_only_the_one_that_is_too_large_is_cut(*, alone: bool) -> None:
    large = Record("kpi.t.10s", b"k", b"v" * 100_000)
    rows, failed = Joined(((ROWS[0], large), (ROWS[1],))), [Failure(LARGE.args[0], large[:3])]
    found = lighten(rows, failed, {large[:3]} if alone else set())
    assert found == [ROWS[0], cut(large), ROWS[1]]
    assert lighten(found, [Failure(LARGE.args[0], found[1][:3])], {found[1][:3]}) is None, "what was cut is not cut again"


def test_a_row_is_cut_once() -> None:
    once = cut(("kpi.late", None, b"v" * 100_000, ()))
    assert cut(once) == once
