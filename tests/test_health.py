"""When the dashboard calls itself healthy."""

from dataclasses import replace

from serve.feed import State
from serve.health import health

WELL = State("kafka:9092", "http://registry:8081", topics=3, rows=7, unreadable=1, looked=True)


def test_a_feed_that_reads_is_healthy_and_says_what_it_has_read() -> None:
    assert health(WELL, 2, alive=True) == (200, {"reads": True, "trouble": "", "topics": 3, "rows": 7, "unreadable": 1, "pages": 2})


def test_a_feed_that_waits_is_not_healthy_and_says_for_what() -> None:
    status, said = health(replace(WELL, trouble="the schema registry does not answer"), 0, alive=True)
    assert (status, said["reads"], said["trouble"]) == (503, False, "the schema registry does not answer")


def test_a_feed_that_has_not_seen_kafka_yet_is_not_healthy() -> None:
    status, said = health(replace(WELL, looked=False), 0, alive=True)
    assert (status, said["trouble"]) == (503, "connecting to Kafka")


def test_a_feed_that_has_ended_is_not_healthy() -> None:
    status, said = health(WELL, 0, alive=False)
    assert (status, said["trouble"]) == (503, "the feed has ended")
