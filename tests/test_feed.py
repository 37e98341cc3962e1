"""The dashboard's reader thread, against a real broker and registry: it finds, reads back, goes on, and never stops."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from flows.connection import connection
from flows.registry import Registry
from infra import embedded
from infra.embedded import Cluster
from serve import feed
from serve.feed import DISCOVERY_S, Feed
from serve.series import Board
from serve.shape import TOTAL, Group
from tests.integration.kpi_rows import KpiTopic, create, set_aside

SIZE_MS = 10_000
KPIS = {"orders": ("long", {"aggregate": "count", "of": "*"})}


def topic(cluster: Cluster, source: str, groups: tuple[str, ...] = ()) -> KpiTopic:
    return KpiTopic(cluster.bootstrap, Registry(cluster.registry_url), source, "10s", SIZE_MS, KPIS, groups)


@contextmanager
def feeding(cluster: Cluster) -> Iterator[Feed]:
    started = Feed(connection(cluster.environ), Board())
    started.start()
    try:
        yield started
    finally:
        started.stop()


def within(seconds: float, question: Callable[[], object]) -> float:
    """Wait until the answer is true; the seconds that took."""
    started = time.monotonic()
    while not question():
        assert time.monotonic() - started < seconds, "it did not come"
        time.sleep(0.02)
    return time.monotonic() - started


def values(at: Feed, source: str, group: Group = TOTAL) -> list[object]:
    return [point.row.values[0] for point in at.board.points(source, "10s", group)[1]]


@pytest.fixture
def source() -> str:
    return f"feed.{uuid.uuid4().hex[:8]}"


def test_history_is_read_back_and_what_comes_then_is_seen_within_a_second(cluster: Cluster, source: str) -> None:
    rows = topic(cluster, source, ("country",))
    for window in range(3):
        rows.send(window * SIZE_MS, {"orders": window})
        rows.send(window * SIZE_MS, {"orders": 10 + window}, {"country": "DE"})
    rows.flush()
    with feeding(cluster) as at:
        within(10, lambda: values(at, source) == [0, 1, 2])
        rows.send(3 * SIZE_MS, {"orders": 3})
        rows.flush()
        assert within(5, lambda: values(at, source) == [0, 1, 2, 3]) < 1
        assert values(at, source, Group(("country",), ("DE",))) == [10, 11, 12]


def test_a_new_topic_is_found(cluster: Cluster, source: str) -> None:
    with feeding(cluster) as at:
        within(10, lambda: at.state.looked)
        rows = topic(cluster, source)
        rows.send(0, {"orders": 1})
        rows.flush()
        assert within(10, lambda: values(at, source)) < DISCOVERY_S + 2


def test_late_and_dead_messages_are_counted_by_source_topic_and_reason(cluster: Cluster, source: str) -> None:
    set_aside(cluster.bootstrap, "kpi.late", source, "late", 3)
    set_aside(cluster.bootstrap, "kpi.dead-letters", source, "magic", 2)
    with feeding(cluster) as at:
        within(10, lambda: (at.board.fates(source, "late"), at.board.fates(source, "dead")) == ({"late": 3}, {"magic": 2}))


def test_rows_that_cannot_be_read_are_counted_and_the_rest_is_shown(cluster: Cluster, source: str) -> None:
    rows = topic(cluster, source)
    rows.send(0, {"orders": 1})
    rows.flush()
    for key, value in ((b"a", b"nonsense"), (b"b", b"\0" + (2**31 - 1).to_bytes(4, "big") + b"x"), (b"c", b""), (b"d", b"\0\0\0")):
        rows.producer.produce(rows.name, value, key)
    rows.producer.produce(rows.name, b"\0" + rows.ids[1].to_bytes(4, "big") + b"\xff" * 9, b"e")  # ends in the middle
    rows.send(SIZE_MS, {"orders": 2})
    rows.flush()
    with feeding(cluster) as at:
        within(15, lambda: values(at, source) == [1, 2])
        assert at.state.unreadable >= 5
        assert at.state.trouble == ""


def test_rows_of_a_transaction_that_was_aborted_are_never_shown(cluster: Cluster, source: str) -> None:
    rows = topic(cluster, source)
    rows.producer = Producer({"bootstrap.servers": cluster.bootstrap, "transactional.id": source})
    rows.producer.init_transactions()
    for window, finish in ((0, "commit_transaction"), (1, "abort_transaction"), (2, "commit_transaction")):
        rows.producer.begin_transaction()
        rows.send(window * SIZE_MS, {"orders": window})
        rows.flush()
        getattr(rows.producer, finish)()
    with feeding(cluster) as at:
        within(10, lambda: values(at, source) == [0, 2])


def test_of_a_long_history_the_newest_part_is_read(cluster: Cluster, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "HISTORY", 2)
    rows = topic(cluster, source)
    for window in range(5):
        rows.send(window * SIZE_MS, {"orders": window})
    rows.flush()
    with feeding(cluster) as at:
        within(10, lambda: values(at, source) == [3, 4])


def test_nothing_is_committed_and_no_group_is_joined(cluster: Cluster, source: str) -> None:
    rows = topic(cluster, source)
    rows.send(0, {"orders": 1})
    rows.flush()
    with feeding(cluster) as at:
        within(10, lambda: values(at, source))
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        groups = admin.list_consumer_groups().result(10)
    assert "kpi-dashboard" not in {group.group_id for group in groups.valid}


@pytest.mark.timeout(240)  # a cluster of its own, and each of its parts started twice
def test_it_outlives_broker_and_registry_and_says_what_it_waits_for() -> None:
    with embedded.cluster() as own, feeding(own) as at:
        first = topic(own, "first")
        first.send(0, {"orders": 1})
        first.flush()
        within(10, lambda: values(at, "first") == [1])

        own.stop_registry()  # what is known goes on, what is new waits
        first.send(SIZE_MS, {"orders": 2})
        first.flush()
        within(5, lambda: values(at, "first") == [1, 2])
        foreign = b"\0" + (first.ids[1] + 1).to_bytes(4, "big")  # an id that the feed has not met
        create(own.bootstrap, "kpi.second.10s")
        first.producer.produce("kpi.second.10s", foreign + b"row", b"key")
        first.flush()
        within(15, lambda: "registry" in at.state.trouble)
        first.send(2 * SIZE_MS, {"orders": 3})
        first.flush()
        within(15, lambda: values(at, "first") == [1, 2, 3])
        own.start_registry()
        within(15, lambda: not at.state.trouble)

        own.stop_broker()
        within(15, lambda: "Kafka does not answer" in at.state.trouble)
        own.start_broker()
        within(20, lambda: not at.state.trouble)
        first.send(3 * SIZE_MS, {"orders": 4})
        first.flush()
        within(15, lambda: values(at, "first") == [1, 2, 3, 4])


def test_a_topic_that_was_deleted_and_made_anew_is_read_from_its_new_beginning(cluster: Cluster, source: str) -> None:
    rows = topic(cluster, source)
    for window in range(5):
        rows.send(window * SIZE_MS, {"orders": window})
    rows.flush()
    with feeding(cluster) as at:
        within(10, lambda: values(at, source) == [0, 1, 2, 3, 4])
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        admin.delete_topics([rows.name])[rows.name].result(10)
        time.sleep(1)
        create(cluster.bootstrap, rows.name)
        rows.send(5 * SIZE_MS, {"orders": 5})
        rows.flush()
        within(20, lambda: values(at, source) == [0, 1, 2, 3, 4, 5])


def test_whatever_fails_it_starts_anew(cluster: Cluster, source: str, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Board):
        """Fails once, as a bug would."""

        failed = False

        def upsert(self, *row: object) -> None:
            if not self.failed:
                self.failed = True
                raise RuntimeError("a bug")
            super().upsert(*row)  # type: ignore[arg-type]

    rows = topic(cluster, source)
    rows.send(0, {"orders": 1})
    rows.flush()
    at = Feed(connection(cluster.environ), Broken())
    at.start()
    within(15, lambda: values(at, source) == [1])
    at.stop()
    assert "the feed starts anew" in caplog.text
    assert not any(thread.name == "feed" for thread in threading.enumerate())
