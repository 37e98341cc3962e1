"""The sink on a real broker: killed at random moments it writes every row once; what Kafka refuses is heard of."""

import logging
import re
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import cast

import pytest
from bytewax.recovery import init_db_dir
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from flows.delivery import Delivery, Undelivered, deliver
from flows.edge import PROGRESS_SETTINGS, Edge, Marker
from flows.records import DEAD, PROGRESS, Barrier, Record
from flows.sink import WriteAhead
from flows.stop import FENCED, MISMATCH, REFUSED, Stop
from flows.topics import ensure
from flows.transactions import Transactions
from infra.embedded import Cluster
from tests.test_sink import leave

ROWS = 3000
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> AdminClient:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    ensure(admin, {PROGRESS: (2, PROGRESS_SETTINGS), DEAD: (1, {})})
    return admin


@pytest.fixture
def topic(admin: AdminClient) -> str:
    return new_topic(admin, {})


@pytest.fixture
def flow_id() -> str:
    return f"flow-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def edge(cluster: Cluster, flow_id: str) -> Callable[..., Edge]:
    return lambda **settings: Edge({"bootstrap.servers": cluster.bootstrap, "log_level": 2} | settings, flow_id, 0)


def new_topic(admin: AdminClient, settings: dict[str, str]) -> str:
    name = f"kpi.sink-{uuid.uuid4().hex[:8]}"
    ensure(admin, {name: (2, settings)})
    return name


def read(cluster: Cluster, topic: str, until: str = "read_uncommitted") -> list[tuple[bytes | None, dict[str, object]]]:
    """Every (value, headers) that a read_committed reader sees, up to the end for that isolation: "read_committed" stops
    where a transaction is open.
    """
    settings = {
        "bootstrap.servers": cluster.bootstrap,
        "group.id": "test",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
        "log_level": 2,
    }
    last = Consumer({**settings, "isolation.level": until})
    consumer = Consumer({**settings, "isolation.level": "read_committed", "auto.offset.reset": "earliest"})
    partitions = [TopicPartition(topic, number, 0) for number in last.list_topics(topic, 10).topics[topic].partitions]
    ends = {where.partition: last.get_watermark_offsets(where, 10)[1] for where in partitions}
    consumer.assign(partitions)
    values = []
    while ends:
        message = consumer.poll(10)
        assert message is not None, f"a transaction is still open in {topic}"
        error = message.error()
        if error is None:
            values.append((message.value(), dict(cast("list[tuple[str, object]]", message.headers() or []))))
        else:
            assert error.code() == KafkaError._PARTITION_EOF, error
            if (message.offset() or 0) >= ends.get(message.partition() or 0, 0):
                ends.pop(message.partition() or 0, None)
    consumer.close()
    return values


class Flow:
    """A flow that is killed and started again on its recovery directory."""

    def __init__(self, cluster: Cluster, flow_id: str, topic: str, directory: Path) -> None:
        directory.mkdir()
        init_db_dir(directory, 2)  # type: ignore[no-untyped-call]
        self._arguments = [cluster.bootstrap, flow_id, str(directory), topic]
        self._cluster, self._flow_id, self._topic = cluster, flow_id, topic

    def run(self, rows: int, chance: float, seeded: str = "") -> int:
        """Its exit code; -9 when it killed itself."""
        command = [sys.executable, "-m", "tests.integration.killed_flow", *self._arguments, str(rows), str(chance), seeded]
        return subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode

    def end(self) -> None:
        """End what a kill left open: until then, or for a minute, other flows cannot read their markers behind it."""
        for part in range(2):
            Edge({"bootstrap.servers": self._cluster.bootstrap}, self._flow_id, part).transactional().init_transactions(10)

    def doubled_and_lost(self, rows: int, until: str = "read_uncommitted") -> tuple[int, int]:
        """How many rows a reader sees too often, and how many not at all."""
        want = Counter(f"{reader}:{number}" for reader in range(2) for number in range(rows))
        got = Counter((value or b"").decode() for value, _ in read(self._cluster, self._topic, until))
        return sum((got - want).values()), sum((want - got).values())


def test_ten_kills_at_random_moments_neither_lose_nor_double_a_row(cluster: Cluster, flow_id: str, topic: str, tmp_path: Path) -> None:
    flow = Flow(cluster, flow_id, topic, tmp_path / "recovery")
    assert [flow.run(100_000, 0.05) for _ in range(10)] == [-9] * 10
    sofar = flow.doubled_and_lost(100_000, "read_committed")
    assert sofar[0] == 0
    done = 200_000 - sofar[1]
    assert done > 0, "no life was long enough to write a row"
    assert flow.run(done + ROWS, 0.0) == 0  # more than any reader has emitted yet
    assert flow.doubled_and_lost(done + ROWS) == (0, 0)


def test_the_kills_find_a_sink_that_commits_before_its_snapshot_is_durable(
    cluster: Cluster, flow_id: str, topic: str, tmp_path: Path
) -> None:
    flow = Flow(cluster, flow_id, topic, tmp_path / "recovery")
    for _ in range(20):
        assert flow.run(100_000, 0.05, "commit_in_snapshot") == -9
        if flow.doubled_and_lost(100_000, "read_committed")[0]:
            break
    else:
        pytest.fail("a seeded fault was not seen")
    flow.end()


def test_a_lost_recovery_directory_stops_the_flow_before_it_writes(cluster: Cluster, flow_id: str, topic: str, tmp_path: Path) -> None:
    assert Flow(cluster, flow_id, topic, tmp_path / "right").run(200, 0.0) == 0
    # Its readers have not a single row: the first barrier is enough.
    assert Flow(cluster, flow_id, topic, tmp_path / "empty").run(0, 0.0) == MISMATCH
    assert len(read(cluster, topic)) == 400


def test_an_older_instance_leaves_fenced_and_what_it_left_open_is_never_seen(
    cluster: Cluster, edge: Callable[..., Edge], topic: str
) -> None:
    old = WriteAhead(edge(), None, leave)
    for number in range(2):
        old.write_batch([[Record(topic, b"k", f"durable {number}".encode())]])
        state = old.snapshot()
        old.write_batch([Barrier()])
    half = edge().transactional()  # the old one, killed in the middle of a transaction
    half.init_transactions(10)
    half.begin_transaction()
    half.produce(topic, b"never committed")
    half.flush(10)
    new = WriteAhead(edge(), state, leave)
    old.write_batch([[Record(topic, b"k", b"zombie")]])
    old.snapshot()
    with pytest.raises(Stop) as caught:
        old.write_batch([Barrier()])
    assert caught.value.code == FENCED
    new.write_batch([[Record(topic, b"k", b"new")]])
    new.snapshot()
    new.write_batch([Barrier()])
    assert sorted(value or b"" for value, _ in read(cluster, topic)) == [b"durable 0", b"durable 1", b"new"]


def test_a_marker_is_found_behind_the_open_transaction_of_another_flow(cluster: Cluster, edge: Callable[..., Edge], flow_id: str) -> None:
    other = Producer({"bootstrap.servers": cluster.bootstrap, "transactional.id": f"other-{flow_id}"})
    other.init_transactions(10)
    transactions = Transactions(edge())
    other.begin_transaction()
    other.produce(PROGRESS, b"[]", b"other", 0)
    other.flush(10)
    marker = Marker("lineage", 1, "run", "owner")
    transactions.commit([], marker)
    assert edge().glance() == (None, False)  # it may be read past the open transaction only when that has ended
    ending = threading.Timer(0.5, other.abort_transaction, [10])
    ending.start()
    assert edge().marker() == marker
    ending.join()
    assert edge().glance() == (marker, True)


def test_a_marker_that_was_aborted_does_not_count(edge: Callable[..., Edge]) -> None:
    marker = Marker("lineage", 1, "run", "owner")
    Transactions(edge()).commit([], marker)
    torn = edge().transactional()
    torn.init_transactions(10)
    torn.begin_transaction()
    topic, key, value, _ = marker._replace(sequence=2).record(edge().transactional_id)
    torn.produce(topic, value, key, 0)
    torn.flush(10)
    torn.abort_transaction(10)
    assert edge().marker() == marker


def test_a_marker_is_found_far_behind_the_end_of_its_partition(edge: Callable[..., Edge]) -> None:
    marker = Marker("lineage", 1, "run", "owner")
    assert edge().marker() is None
    Transactions(edge()).commit([], marker)
    others = Delivery(edge().idempotent())
    others.send([Record(PROGRESS, b"somebody else", b"[]")] * 3000, 0)
    assert others.arrive() == []
    assert edge().marker() == marker


def test_every_commit_moves_the_marker(edge: Callable[..., Edge], topic: str) -> None:
    transactions = Transactions(edge())
    for sequence in range(1, 20):
        marker = Marker("lineage", sequence, "run", "owner")
        transactions.commit([Record(topic, b"k", b"v")] * sequence, marker)
        assert edge().marker() == marker


def test_a_record_larger_than_the_client_takes_is_a_dead_letter_of_the_same_transaction(
    cluster: Cluster, edge: Callable[..., Edge], topic: str, flow_id: str
) -> None:
    late = Record(topic, b"k", b"v" * 2_000_000, (("kpi.topic", flow_id.encode()), ("kpi.reason", b"late")))
    rows = [Record(topic, b"k", b"before"), late, Record(topic, b"k", b"after")]
    Transactions(edge()).commit(rows, Marker("lineage", 1, "run", "owner"))
    assert [value for value, _ in read(cluster, topic)] == [b"before", b"after"]
    (letter,) = [(value, headers) for value, headers in read(cluster, DEAD) if headers.get("kpi.topic") == flow_id.encode()]
    assert letter == (b"v" * 65536, {"kpi.topic": flow_id.encode(), "kpi.reason": b"late", "kpi.truncated": b"2000000"})


@pytest.mark.parametrize("durable", [True, False])
def test_a_record_larger_than_the_topic_takes_does_not_take_its_batch_with_it(
    cluster: Cluster, admin: AdminClient, edge: Callable[..., Edge], durable: bool
) -> None:
    topic = new_topic(admin, {"max.message.bytes": "20000"})
    rows = [Record(topic, str(number % 7).encode(), Random(number).randbytes(100)) for number in range(300)]
    rows.insert(150, Record(topic, b"k", Random(0).randbytes(30_000)))
    if durable:
        Transactions(edge()).commit(rows, Marker("lineage", 1, "run", "owner"))
    else:
        deliver(edge().idempotent(), rows)
    assert Counter(value for value, _ in read(cluster, topic)) == Counter(row.value for row in rows if len(row.value or b"") == 100)
    assert [value for value, headers in read(cluster, DEAD) if headers["kpi.topic"] == topic.encode()] == [rows[150].value]


def test_without_durability_a_topic_that_is_not_there_is_an_error(edge: Callable[..., Edge], topic: str) -> None:
    quick = edge(**{"topic.metadata.propagation.max.ms": 500})
    with pytest.raises(Undelivered, match=r"kpi\.nowhere: 1 of 2 rows were not delivered"):
        deliver(quick.idempotent(), [Record(topic, b"k", b"v"), Record("kpi.nowhere", b"k", b"v")])


def test_without_durability_rows_are_there_when_the_delivery_returns(cluster: Cluster, edge: Callable[..., Edge], topic: str) -> None:
    rows = [Record(topic, b"k", str(number).encode(), (("kpi.reason", b"late"),)) for number in range(500)]
    deliver(edge().idempotent(), rows)
    assert read(cluster, topic) == [(row.value, dict(row.headers)) for row in rows]


def test_offsets_are_shown_in_the_group_of_the_flow(admin: AdminClient, edge: Callable[..., Edge], topic: str, flow_id: str) -> None:
    shown = edge()
    shown.show([(topic, 0, 7)])
    shown.show([(topic, 0, 8), (topic, 1, 9)])
    shown.close()
    (group,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(flow_id)]).values()
    assert {where.partition: where.offset for where in group.result(10).topic_partitions} == {0: 8, 1: 9}


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"transaction.timeout.ms": 3_600_000}, "KAFKA_TRANSACTION_TIMEOUT_MS"),
        ({"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "a", "sasl.password": "secret"}, "KAFKA_"),
    ],
)
def test_what_the_brokers_refuse_for_good_stops_the_flow_with_a_hint(
    edge: Callable[..., Edge], settings: dict[str, object], hint: str
) -> None:
    with pytest.raises(Stop, match=hint) as caught:
        Transactions(edge(log_level=0, **settings))
    assert caught.value.code == REFUSED
    assert "secret" not in str(caught.value)


def test_the_client_still_ends_transactions_by_the_older_protocol(edge: Callable[..., Edge], topic: str) -> None:
    """docs/guarantees.md says what that means (KAFKA-17754); once it is red, the client has learned KIP-890 and the page can say so."""
    said: list[str] = []
    listening = logging.getLogger("librdkafka of a test")
    listening.propagate = False
    listening.setLevel(logging.DEBUG)
    listening.addHandler(handler := logging.Handler())
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    producer = edge(debug="protocol", log_level=7, logger=listening).transactional()
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(topic, b"row")
    producer.commit_transaction(10)
    producer.poll(0)
    versions = {found[1] for line in said if (found := re.search(r"Sent EndTxnRequest \(v(\d+)", line))}
    assert versions == {"1"}
