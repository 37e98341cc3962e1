"""An outage of Kafka is two lines: one when it begins, one when it is over; and nobody who is asked to end waits for it.

failed ···5 s··· "has not answered since" ····· worked   "answers again"
"""

import logging
import threading
import time
from collections.abc import Iterator
from typing import NoReturn, Self

import pytest

from flows.outage import AGAIN_S, HOLD_S, LAST_S, PATIENCE_S, SPELL_S, Hushed, Outage, watch


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def __iadd__(self, seconds: float) -> Self:
        self.now_s += seconds
        return self


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock) -> Outage:
    return Outage("one:9092", clock)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "flows.outage"]


def test_an_outage_is_one_line_with_address_time_and_reason_and_its_end_is_another(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(600):
        outage.failed("reader-00", "connection refused")
        outage.failed("kpi-0", "timed out")
        outage.turn()
        clock += 0.1
    outage.worked("reader-00")
    outage.worked("kpi-0")
    outage.turn()
    outage.turn()
    began, ended = lines(caplog)
    at = time.strftime("%H:%M:", time.localtime(time.time() - 3))
    assert began.startswith("Kafka one:9092 has not answered since ")
    assert at in began
    assert began.endswith(" (connection refused); trying until it does")
    assert ended == "Kafka one:9092 answers again, after 60 s"


def test_what_is_over_after_a_moment_is_not_told(outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        outage.failed("kpi-0", "coordinator load in progress")
        outage.turn()
        clock += PATIENCE_S - 0.1
        outage.turn()
        outage.worked("kpi-0")
        outage.turn()
        clock += 10
    assert lines(caplog) == []


def test_a_try_that_took_long_counts_from_its_beginning(outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    outage.failed("reader-00", "cannot list the topics", clock() - 5)
    outage.turn()
    assert len(lines(caplog)) == 1


def test_a_client_that_works_does_not_speak_for_another_that_does_not(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        outage.failed("kpi-0", "timed out")
        outage.worked("reader-00")
        outage.turn()
        clock += 5
    assert len(lines(caplog)) == 1
    outage.worked("kpi-0")
    outage.turn()
    assert len(lines(caplog)) == 2


def leaves(outage: Outage, within_s: float, why: str = "", *, asked: bool = True) -> bool:
    """Whether the watch ends the process, where Kafka's answer to the watch itself is `why`."""
    ends, stopping = threading.Event(), threading.Event()

    def end(_why: str) -> NoReturn:
        ends.set()
        while True:
            time.sleep(60)  # as if the process were gone

    if asked:
        stopping.set()
    watch(outage, stopping, lambda: why, end)
    return ends.wait(within_s)


def test_who_is_asked_to_end_while_kafka_is_away_leaves_after_a_moment_for_the_last_snapshot() -> None:
    outage = Outage("one:9092")
    outage.failed("kpi-0", "timed out", time.monotonic() - 60)
    began_s = time.monotonic()
    assert leaves(outage, 30, "connection refused")
    assert time.monotonic() - began_s >= LAST_S


def test_who_is_asked_to_end_finds_out_by_itself_that_kafka_is_away() -> None:
    assert leaves(Outage("one:9092"), 30, "connection refused")


def test_a_client_that_waits_is_reason_enough_though_kafka_answers_others() -> None:
    outage = Outage("one:9092")
    outage.failed("kpi-0", "the coordinator is not there", time.monotonic() - 60)
    assert leaves(outage, 30)


def test_who_is_not_asked_waits_for_kafka() -> None:
    outage = Outage("one:9092")
    outage.failed("kpi-0", "timed out", time.monotonic() - 60)
    assert not leaves(outage, LAST_S + 1, "connection refused", asked=False)


def test_who_is_asked_while_kafka_answers_takes_its_time_for_the_last_snapshot() -> None:
    assert not leaves(Outage("one:9092"), LAST_S + 1)


# The client that reads


@pytest.fixture
def client(outage: Outage, clock: Clock) -> Iterator[logging.Logger]:
    logger = logging.getLogger("kafka.of.a.test")
    hushed = Hushed(outage, clock)
    logger.addHandler(hushed)
    logger.propagate = False
    yield logger
    logger.removeHandler(hushed)


def test_the_reading_clients_errors_are_not_heard_while_an_outage_explains_them(
    outage: Outage, clock: Clock, client: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(300):
        client.error("Connection failed: %s", "ECONNREFUSED")
        clock += 1
        if second == 10:
            outage.failed("reader-00", "connection refused")
    assert lines(caplog) == []


def test_errors_that_no_outage_explains_are_one_line_a_minute(
    clock: Clock, client: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(300):
        client.error("Connection failed: %s", "certificate verify failed")
        client.error("Metadata refresh: failed")
        client.warning("a task took 0.1 s")
        clock += 1
    assert lines(caplog) == ["the client that reads events: Connection failed: certificate verify failed"] * 5
    assert (HOLD_S + 5 * AGAIN_S) > 300


def test_an_error_now_and_then_is_a_matter_of_the_client_alone(
    clock: Clock, client: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        client.error("socket disconnected")
        clock += SPELL_S + 1
    assert lines(caplog) == []
