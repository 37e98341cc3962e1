"""The flow on a real broker and registry, started by the literal command."""

import time
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions

from infra.embedded import Cluster
from tests.integration.running import CLICK, T0_MS, Flow, Gate, Topic, click, finals, now_ms, records, until


def test_sigterm_ends_with_a_durable_snapshot_and_a_restart_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    topic = Topic(cluster, "term.clicks")
    flow = Flow(cluster, tmp_path, "term.", '[topics."term.clicks".kpis]\nn = { count = "*" }\namount = { sum = "amount" }\n')
    wanted = Counter({T0_MS + 1_000 * second: 20 for second in range(8)})

    def counted() -> Counter[int]:
        return Counter({int(row["window_start"].timestamp() * 1000): row["amount"] for row in finals(cluster, "kpi.term.clicks.1s")})

    with flow.running() as child:
        for second in range(4):
            for partition in (0, 1):
                topic.send([click(T0_MS + 1_000 * second)] * 10, partition)
        until(lambda: len(counted()) >= 2, 40, child)  # seconds 0 and 1 are behind the lateness
        assert flow.end(child) == 0
    for second in (*range(4, 8), 20):  # the last one closes the others
        for partition in (0, 1):
            topic.send([click(T0_MS + 1_000 * second)] * 10, partition)
    with flow.running() as child:
        until(lambda: len(counted()) >= 8, 40, child)
        assert flow.end(child) == 0

    rows = finals(cluster, "kpi.term.clicks.1s")
    assert counted() == wanted
    assert len(rows) == len(wanted), "a final row came twice"
    assert "exactly-once" in flow.log
    assert "Traceback" not in flow.log


def test_without_a_recovery_directory_the_start_says_at_least_once(cluster: Cluster, tmp_path: Path) -> None:
    topic = Topic(cluster, "once.clicks", partitions=1)
    flow = Flow(cluster, tmp_path, "once.", durable=False)
    topic.send([click(T0_MS), click(T0_MS + 10_000)])
    with flow.running() as child:
        until(lambda: finals(cluster, "kpi.once.clicks.1s"), 30, child)
        assert flow.end(child) == 0
    assert "at-least-once" in flow.log
    first = len(finals(cluster, "kpi.once.clicks.1s"))
    with flow.running() as child:  # reads from the start again: the same keys once more
        until(lambda: len(finals(cluster, "kpi.once.clicks.1s")) > first, 30, child)
    keys = {record.key for record in records(cluster, "kpi.once.clicks.1s") if record.value["final"]}
    assert len(keys) == 1


@pytest.mark.parametrize("durable", [True, False])
def test_a_flow_that_waits_for_kafka_ends_at_once_when_it_is_asked_to(cluster: Cluster, tmp_path: Path, durable: bool) -> None:
    flow = Flow(cluster, tmp_path, "nokafka.", durable=durable, environ={"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"})
    with flow.running() as child:
        until(lambda: "Kafka 127.0.0.1:9 has not answered since " in flow.log, 30, child)
        began = time.monotonic()
        assert flow.end(child) == 0
        assert time.monotonic() - began < 4
    assert ("asked to end: a last snapshot" in flow.log) == durable
    assert "Traceback" not in flow.log


def test_a_topic_with_a_schema_nobody_has_seen_gets_kpis_within_15_s(cluster: Cluster, tmp_path: Path) -> None:
    first = Topic(cluster, "new.clicks", partitions=1)
    with Flow(cluster, tmp_path, "new.").running() as child:
        first.send([click(T0_MS), click(T0_MS + 60_000)])
        until(lambda: records(cluster, "kpi.new.clicks.1s"), 30, child)

        schema = {**CLICK, "name": "Trip", "fields": [*CLICK["fields"], {"name": "distance", "type": "double"}]}
        second = Topic(cluster, "new.trips", partitions=3, schema=schema)
        started = time.monotonic()
        for partition in range(3):
            second.send([{**click(T0_MS), "distance": 2.5}, {**click(T0_MS + 60_000), "distance": 1.0}], partition)
        rows = until(lambda: finals(cluster, "kpi.new.trips.1s"), 15, child)
        assert time.monotonic() - started <= 15
        assert [(row["events"], row["distance_mean"]) for row in rows if row["window_start"].timestamp() * 1000 == T0_MS] == [(3, 2.5)]

        second.admin.create_partitions([NewPartitions("new.trips", 4)])["new.trips"].result(10)
        second.producer = Producer({"bootstrap.servers": cluster.bootstrap})  # the old one does not know the partition yet

        def is_read() -> bool:
            """Events go on coming: those from before the partition was found are late, as it promised when it joined."""
            second.send([{**click(now_ms()), "distance": 9.0}], 3, now_ms())
            return any(record.value["distance_max"] == 9.0 for record in records(cluster, "kpi.new.trips.1s"))

        until(is_read, 10, child)


def test_bad_messages_become_dead_letters_and_their_neighbours_are_unharmed(cluster: Cluster, tmp_path: Path) -> None:
    topic = Topic(cluster, "bad.clicks", partitions=1)
    good = topic.encoded(click(T0_MS))
    bad: dict[str, list[bytes | None]] = {
        "tombstone": [None],
        "short": [b"", b"\0\0\0\0"],
        "magic": [b"\x01" + good[1:], b'{"json": true}', b"plain text"],
        "schema": [b"\0\xff\xff\xff\xff" + good[5:]],
        "malformed": [good[:-1], good + b"\0", good[:9], good + good],
        "future": [topic.encoded(click(now_ms() + 600_000)), topic.encoded(click(16_725_225_600_000))],
        "time": [topic.encoded(click(-1)), topic.encoded(click(2**62)), topic.encoded(click(-(2**62)))],
    }
    mixed: list[bytes | None] = []
    for values in bad.values():
        for value in values:
            mixed += [good, value]
    flow = Flow(cluster, tmp_path, "bad.", '[topics."bad.clicks".kpis]\nn = { count = "*" }\namount = { sum = "amount" }\n')
    with flow.running() as child:
        topic.send(mixed, stamp_ms=now_ms())
        topic.send([click(T0_MS + 60_000)], stamp_ms=now_ms())
        (row, *_) = until(lambda: finals(cluster, "kpi.bad.clicks.1s"), 40, child)
        assert flow.end(child) == 0
    assert (row["events"], row["amount"]) == (len(mixed) // 2, len(mixed) // 2)

    letters = [letter for letter in records(cluster, "kpi.dead-letters") if letter.headers["kpi.topic"] == "bad.clicks"]
    assert Counter(letter.headers["kpi.reason"] for letter in letters) == {r: len(v) for r, v in bad.items() if r != "tombstone"}
    at = {int(letter.headers["kpi.offset"]): letter for letter in letters}
    assert {offset: letter.value for offset, letter in at.items()} == {o: v for o, v in enumerate(mixed) if o % 2 and v is not None}
    assert all(letter.key == b"key" and letter.headers["kpi.partition"] == "0" and letter.headers["kpi.error"] for letter in letters)


def test_a_registry_that_is_away_pauses_reading_and_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """Away at the start, and away again when a new schema is met; other topics go on meanwhile."""
    topic = Topic(cluster, "away.clicks", partitions=1)
    gate = Gate(cluster.registry_url)
    flow = Flow(cluster, tmp_path, "away.", environ={"SCHEMA_REGISTRY_URL": gate.url})
    try:
        with flow.running() as child:
            topic.send([click(T0_MS), click(T0_MS + 2_000), click(T0_MS + 10_000)])
            until(lambda: "reading pauses" in flow.log, 30, child)
            assert records(cluster, "kpi.away.clicks.1s") == []
            gate.open()
            until(lambda: len(finals(cluster, "kpi.away.clicks.1s")) >= 2, 15, child)

            gate.close()
            other = Topic(cluster, "away.trips", partitions=1)
            other.send([click(T0_MS, amount=7), click(T0_MS + 10_000)])
            until(lambda: "away.trips: reading pauses" in flow.log, 20, child)
            topic.send([click(T0_MS + 20_000), click(T0_MS + 30_000)])
            until(lambda: len(finals(cluster, "kpi.away.clicks.1s")) >= 4, 15, child)
            gate.open()
            (row, *_) = until(lambda: finals(cluster, "kpi.away.trips.1s"), 15, child)
            assert row["amount_max"] == 7
            assert flow.end(child) == 0
    finally:
        gate.close()
    assert [letter for letter in records(cluster, "kpi.dead-letters") if letter.headers["kpi.topic"].startswith("away.")] == []


def test_an_unusable_configuration_stops_the_start_with_one_line(cluster: Cluster, tmp_path: Path) -> None:
    flow = Flow(cluster, tmp_path, "wrong.", '[topics."x".kpis]\nn = { median = "y" }\n')
    with flow.running() as child:
        assert child.wait(30) == 1
    said = [line for line in flow.log.splitlines() if line.startswith("kpi: ")]
    assert len(said) == 1
    assert "topics.x.kpis.n" in said[0]
    assert "median" in said[0]
    assert "Traceback" not in flow.log


def test_a_field_that_no_schema_has_stops_the_flow_with_one_line(cluster: Cluster, tmp_path: Path) -> None:
    topic = Topic(cluster, "field.clicks", partitions=1)
    topic.send([click(T0_MS)])
    flow = Flow(cluster, tmp_path, "field.", '[topics."field.clicks".kpis]\nn = { sum = "amuont" }\n')
    with flow.running() as child:
        assert child.wait(30) != 0
    assert "topics.field.clicks.kpis.n.sum: got 'amuont'" in flow.log
    assert "did you mean 'amount'" in flow.log
    assert "Traceback" not in flow.log


def test_another_declaration_is_refused_with_the_way_on(cluster: Cluster, tmp_path: Path) -> None:
    topic = Topic(cluster, "plan.clicks", partitions=1)
    topic.send([click(T0_MS), click(T0_MS + 10_000)])
    flow = Flow(cluster, tmp_path, "plan.")
    with flow.running() as child:
        until(lambda: finals(cluster, "kpi.plan.clicks.1s"), 30, child)
        assert flow.end(child) == 0
    flow.windows = '["2s"]'
    with flow.running() as child:
        assert child.wait(30) == 78
    assert "belongs to another declaration" in flow.log
