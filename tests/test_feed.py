"""The dashboard's reader thread, against a real broker and registry: it finds, reads back, goes on, and never stops."""

import doctest
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from flows.connection import connection
from flows.registry import Away, Registry
from infra import embedded
from infra.embedded import Cluster
from serve import asides, history, lag
from serve.asides import Aside
from serve.feed import DISCOVERY_S, Feed
from serve.history import Past
from serve.rows import Rows
from serve.series import POINTS, Board
from serve.shape import TOTAL, Group, Row, Shape
from tests.integration.kpi_rows import KpiTopic, create, set_aside

SIZE_MS = 10_000
NOW_MS = int(time.time() * 1000)
KPIS = {"orders": ("long", {"aggregate": "count", "of": "*"})}


def topic(cluster: Cluster, source: str, groups: tuple[str, ...] = ()) -> KpiTopic:
    return KpiTopic(cluster.bootstrap, Registry(cluster.registry_url), source, "10s", SIZE_MS, KPIS, groups)


class Order(Board):
    """Knows in what order rows came: source topic -> first values."""

    def __init__(self) -> None:
        super().__init__()
        self.came: dict[str, list[object]] = {}

    def upsert(self, shape: Shape, row: Row, at_ms: int) -> None:
        self.came.setdefault(shape.topic, []).append(row.values[0])
        super().upsert(shape, row, at_ms)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One of our own: a feed reads every KPI topic that there is, and how much is still to be read is asked for here."""
    with embedded.cluster() as started:
        yield started


@contextmanager
def running(feed: Feed) -> Iterator[Feed]:
    feed.start()
    try:
        yield feed
    finally:
        feed.stop()


def feeding(cluster: Cluster, board: Board | None = None, flow_id: str = "kpi") -> AbstractContextManager[Feed]:
    return running(Feed(connection(cluster.environ), board or Board(), flow_id=flow_id))


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
        assert within(15, lambda: values(at, source)) < DISCOVERY_S + 7


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


def test_the_newest_rows_are_read_first_and_all_of_the_history_behind_them(
    cluster: Cluster, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RECENT", 2)
    monkeypatch.setattr(history, "STRETCH", 3)
    monkeypatch.setattr(history, "HISTORY", 5)
    rows = topic(cluster, source)
    for window in range(12):
        rows.send(window * SIZE_MS, {"orders": window})
    rows.flush()
    with feeding(cluster, Order()) as at:
        within(10, lambda: values(at, source) == [*range(12)])  # the records are young, so all of them are read
        within(10, lambda: at.state.behind == 0)
        assert at.board.came[source] == [10, 11, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0]  # type: ignore[attr-defined]


def test_of_a_long_history_the_newest_part_is_read(cluster: Cluster, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, records in {"RECENT": 1, "STRETCH": 2, "LONGEST": 4}.items():
        monkeypatch.setattr(history, name, records)
    rows = topic(cluster, source)
    for window in range(9):
        rows.send(window * SIZE_MS, {"orders": window})
    rows.flush()
    with feeding(cluster) as at:
        within(10, lambda: values(at, source) == [5, 6, 7, 8])
        within(10, lambda: at.state.behind == 0)


def test_what_is_older_than_a_chart_shows_is_read_only_as_far_as_a_few_records(
    cluster: Cluster, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, records in {"RECENT": 1, "HISTORY": 3, "POINTS": 0}.items():  # a chart shows nothing that is older than now
        monkeypatch.setattr(history, name, records)
    rows = topic(cluster, source)
    for window in range(9):
        rows.send(window * SIZE_MS, {"orders": window})
    rows.flush()
    with feeding(cluster) as at:
        within(10, lambda: values(at, source) == [6, 7, 8])
        within(10, lambda: at.state.behind == 0)


def test_of_equal_revisions_the_one_written_last_is_shown_though_it_is_read_first(
    cluster: Cluster, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RECENT", 1)
    monkeypatch.setattr(history, "STRETCH", 1)
    rows = topic(cluster, source)
    for value in range(4):  # a flow without a recovery directory that was started four times
        rows.send(0, {"orders": value}, at_ms=NOW_MS - 10_000 + value)
    rows.flush()
    with feeding(cluster) as at:
        within(10, lambda: at.board.arrived(source) == 4 and at.state.behind == 0)
        assert values(at, source) == [3]


def test_history_waits_for_a_registry_that_is_away_and_nothing_of_it_is_lost(
    cluster: Cluster, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RECENT", 0)
    monkeypatch.setattr(history, "STRETCH", 4)
    rows = topic(cluster, source)
    for window in range(10):
        rows.send(window * SIZE_MS, {"orders": window})
    rows.flush()

    class Late(Rows):
        """The registry does not answer the first three times."""

        away = 3

        def read(self, value: bytes) -> tuple[Shape, Row]:
            if self.away:
                self.away -= 1
                raise Away("not yet")
            return super().read(value)

    at = Feed(connection(cluster.environ), Board())
    at._rows = Late(Registry(cluster.registry_url))
    with running(at):
        within(20, lambda: values(at, source) == [*range(10)])
        within(10, lambda: at.state.behind == 0 and not at.state.trouble)


def test_history_that_expires_or_goes_while_it_is_read_stops_nothing(
    cluster: Cluster, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RECENT", 1)
    monkeypatch.setattr(history, "STRETCH", 2)
    rows, other = topic(cluster, source), topic(cluster, f"{source}.other")
    for window in range(9):
        rows.send(window * SIZE_MS, {"orders": window})
        other.send(window * SIZE_MS, {"orders": window})
    rows.flush()
    other.flush()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})

    class Slow(Past):
        """Loses what it was to read, at the moment it begins."""

        gone = False

        def go_on(self) -> None:
            if self and not self.gone:
                self.gone = True
                expired = TopicPartition(rows.name, 0, 5)
                admin.delete_records([expired])[expired].result(10)
                admin.delete_topics([other.name])[other.name].result(10)
            super().go_on()

    at = Feed(connection(cluster.environ), Board())
    at._past = Slow(at._settings)
    with running(at):
        within(20, lambda: at.state.behind == 0 and values(at, source) == [5, 6, 7, 8])
        rows.send(9 * SIZE_MS, {"orders": 9})
        rows.flush()
        within(10, lambda: values(at, source) == [5, 6, 7, 8, 9])


def test_the_lag_of_the_flow_is_known_by_what_it_has_committed(cluster: Cluster, source: str) -> None:
    create(cluster.bootstrap, source, 2)
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for partition in (0, 0, 0, 1, 1):
        producer.produce(source, b"event", partition=partition)
    assert producer.flush(10) == 0
    flow = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": f"flow-{source}"})
    with feeding(cluster, flow_id=f"flow-{source}") as at:
        within(10, lambda: at.state.looked)
        assert at.board.lag(source) is None
        flow.commit(offsets=[TopicPartition(source, 0, 1), TopicPartition(source, 1, 2)], asynchronous=False)
        within(2 * DISCOVERY_S + 5, lambda: at.board.lag(source) == 2)
        flow.commit(offsets=[TopicPartition(source, 0, 3)], asynchronous=False)
        within(2 * DISCOVERY_S + 5, lambda: at.board.lag(source) == 0)
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        admin.delete_topics([source])[source].result(10)
        within(2 * DISCOVERY_S + 15, lambda: at.board.lag(source) is None)
    flow.close()


def test_the_newest_late_and_dead_messages_are_known_with_where_they_are(cluster: Cluster, source: str) -> None:
    said = {"error": "cause: data", "partition": "3", "offset": "42", "timestamp": "1700000000000", "schema_id": "7"}
    set_aside(cluster.bootstrap, "kpi.late", source, "late", 1, **said)
    set_aside(cluster.bootstrap, "kpi.dead-letters", source, "malformed", 1, error="cut off", offset="43")
    with feeding(cluster) as at:
        within(10, lambda: len(at.board.asides(source)) == 2)
        dead, late = at.board.asides(source)
        assert late == Aside("late", "late", "cause: data", source, 3, 42, 1_700_000_000_000, None, b"original", 8)
        assert (dead.fate, dead.reason, dead.error, dead.partition, dead.offset) == ("dead", "malformed", "cut off", -1, 43)


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


def test_a_topic_that_was_deleted_is_forgotten_and_when_it_comes_back_much_later_it_is_read_anew(cluster: Cluster, source: str) -> None:
    rows, other = topic(cluster, source), topic(cluster, f"{source}.other")
    for each in (rows, other):
        each.send(0, {"orders": 1})
        each.flush()
    with feeding(cluster) as at:
        within(10, lambda: values(at, source) == values(at, other.source) == [1])
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        admin.delete_topics([rows.name])[rows.name].result(10)
        within(3 * DISCOVERY_S + 5, lambda: source not in at.board.catalog)
        assert values(at, other.source) == [1]
        create(cluster.bootstrap, rows.name)
        rows.send(SIZE_MS, {"orders": 2})
        rows.flush()
        within(20, lambda: values(at, source) == [2])


@pytest.mark.parametrize(
    ("name", "minutes"),
    [
        ("kpi.shop.5m-1m", 1),
        ("kpi.shop.session-30s", 0.5),
        ("kpi.shop.cumulate-1d-1m", 1),
        ("kpi.shop.cumulate-1d-1h-America-Port-au-Prince", 60),
        ("kpi.shop.1d-Etc-GMTplus5", 1440),
        ("kpi.shop.1d-Etc-GMT-5", 1440),
        ("kpi.shop.1w", 7 * 1440),
        ("kpi.shop.1mo-Europe-Berlin", 31 * 1440),
        ("kpi.shop.1y", 366 * 1440),
        ("kpi.a.10s.strange", 0),
    ],
)
def test_how_far_back_a_chart_reaches_is_known_by_the_name_of_its_topic(name: str, minutes: float) -> None:
    assert history.reach_ms(name) == POINTS * minutes * 60_000


class Broken(Board):
    """Fails once, as a bug would."""

    failed = False

    def upsert(self, *row: object) -> None:
        if not self.failed:
            self.failed = True
            raise RuntimeError("a bug")
        super().upsert(*row)  # type: ignore[arg-type]


def test_whatever_fails_it_starts_anew(cluster: Cluster, source: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = topic(cluster, source)
    rows.send(0, {"orders": 1})
    rows.flush()
    at = Feed(connection(cluster.environ), Broken())
    at.start()
    within(15, lambda: values(at, source) == [1])
    at.stop()
    assert "the feed starts anew" in caplog.text
    assert not any(thread.name in {"feed", "lag"} for thread in threading.enumerate())


def test_a_feed_that_starts_anew_goes_on_where_it_was_and_counts_no_message_again(cluster: Cluster, source: str) -> None:
    set_aside(cluster.bootstrap, "kpi.late", source, "late", 3)
    board = Broken()
    board.failed = True
    with feeding(cluster, board) as at:
        within(10, lambda: at.board.fates(source, "late") == {"late": 3} and at.state.behind == 0)
        board.failed = False
        rows = topic(cluster, source)
        rows.send(0, {"orders": 1})
        rows.flush()
        within(20, lambda: board.failed and values(at, source) == [1])
        set_aside(cluster.bootstrap, "kpi.late", source, "late", 1)
        within(10, lambda: at.board.fates(source, "late") == {"late": 4})


@pytest.mark.parametrize("module", [asides, history, lag])
def test_the_examples_in_the_documentation_are_true(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
