"""`make verify` on a real broker, after the literal flow: equal where nothing is wrong, and every planted difference found."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from audit.moment import iso
from audit.topic import Topics
from infra.embedded import Cluster
from tests.integration.audits import KINDS, PARTITIONS, Audit, Record, again, ran, sale
from tests.integration.running import T0_MS, finals, until

ROWS = "kpi.equal.sales.1s"


@pytest.fixture(scope="module")
def audit(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return ran(cluster, tmp_path_factory.mktemp("flow"), "equal.")


@pytest.fixture
def planted(audit: Audit) -> Iterator[Callable[[str, Callable[[list[Any]], list[Record]]], "subprocess.CompletedProcess[str]"]]:
    """Verify with other records in a topic, which gets its own back afterwards."""
    restore: list[tuple[str, list[Record]]] = []

    def plant(topic: str, edited: Callable[[list[Any]], list[Record]]) -> "subprocess.CompletedProcess[str]":
        messages = audit.kept(topic)
        restore.append((topic, [Record.of(message) for message in messages]))
        audit.republish(topic, edited(messages))
        return audit.verify()

    yield plant
    for topic, records in restore:
        audit.republish(topic, records)


def final(audit: Audit, messages: list[Any], second: int = 5) -> Any:
    """A final row in the middle of the run, of a shop."""
    at = T0_MS // 1000 + second
    return next(
        m
        for m in messages
        if (row := audit.row(m))["final"] and row["window_start"].timestamp() == at and row["group_by"] == "shop" and row["shop"] == "b"
    )


def without(messages: list[Any], gone: Any) -> list[Record]:
    return [Record.of(message) for message in messages if message is not gone]


def test_a_run_with_everything_in_it_is_equal(audit: Audit) -> None:
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.startswith("equal: ")
    assert " by data" in said.stdout  # it had late records
    assert "left out" not in said.stdout
    one = audit.verify("5s")
    assert one.returncode == 0, one.stdout + one.stderr
    assert one.stdout.startswith("equal: ")


Planted = Callable[[str, Callable[[list[Any]], list[Record]]], "subprocess.CompletedProcess[str]"]


def test_a_changed_value_of_any_type_is_found_and_named(audit: Audit, planted: Planted) -> None:
    changes = {"events": 999, "amounts": 10**9, "weight": 3.25, "revenue": None, "last_shop": "c", "paid_share": 0.123}

    def edited(messages: list[Any]) -> list[Record]:
        rows = [final(audit, messages, second) for second in range(3, 3 + len(changes))]
        wrong = [audit.like(row, **{name: value}) for row, (name, value) in zip(rows, changes.items(), strict=True)]
        return [*(Record.of(message) for message in messages if message not in rows), *wrong]

    said = planted(ROWS, edited)
    assert said.returncode == 1, said.stdout + said.stderr
    *lines, last = said.stdout.splitlines()
    for second, (name, value) in enumerate(changes.items(), 3):
        start_ms = T0_MS + 1000 * second
        assert any(f"[{iso(start_ms)}, {iso(start_ms + 1000)}) shop = 'b': {name}: published {value!r}, " in line for line in lines)
    assert last.startswith(f"{len(changes)} differences in ")


def test_a_missing_final_row_is_found(audit: Audit, planted: Planted) -> None:
    said = planted(ROWS, lambda messages: without(messages, final(audit, messages)))
    assert said.returncode == 1, said.stdout + said.stderr
    assert "final row: published nothing, recomputed" in said.stdout
    assert "1 differences" in said.stdout


def test_a_doubled_final_row_is_found(audit: Audit, planted: Planted) -> None:
    said = planted(ROWS, lambda messages: [*map(Record.of, messages), Record.of(final(audit, messages))])
    assert said.returncode == 1, said.stdout + said.stderr
    assert "final rows: published 2, recomputed 1" in said.stdout
    assert "1 differences" in said.stdout


def test_an_invented_row_is_found(audit: Audit, planted: Planted) -> None:
    said = planted(ROWS, lambda messages: [*map(Record.of, messages), audit.like(final(audit, messages), shop="nobody")])
    assert said.returncode == 1, said.stdout + said.stderr
    assert "shop = 'nobody': final row: published" in said.stdout
    assert "recomputed nothing" in said.stdout
    assert "1 differences" in said.stdout


def test_a_removed_late_record_and_a_removed_dead_letter_are_found(planted: Planted) -> None:
    def its(messages: list[Any], value: bytes) -> Any:
        return next(m for m in messages if {("kpi.topic", b"equal.sales"), ("kpi.reason", value)} <= set(m.headers()))

    said = planted("kpi.late", lambda messages: without(messages, its(messages, b"late")))
    assert said.returncode == 1, said.stdout + said.stderr
    assert "fate: published nothing, recomputed 'late (data)'" in said.stdout
    assert "1 differences" in said.stdout

    said = planted("kpi.dead-letters", lambda messages: without(messages, its(messages, b"short")))
    assert said.returncode == 1, said.stdout + said.stderr
    assert "fate: published nothing, recomputed 'short'" in said.stdout


@pytest.mark.timeout(400)  # a run of a flow, four of a command
def test_every_kind_of_window_and_aggregate_is_equal_repaired_and_what_is_planted_is_found(cluster: Cluster, tmp_path: Path) -> None:
    audit = Audit.of(cluster, tmp_path, "kinds.", config=KINDS)
    with audit.flow.running() as child:
        audit.fill([0, 1, 2, 3, 5, 6, 7, 9])
        audit.close(20)
        last_s = T0_MS // 1000 + 14
        until(lambda: any(row["window_end"].timestamp() >= last_s for row in finals(cluster, "kpi.kinds.sales.6s-2s")), 60, child)
        until(lambda: len(finals(cluster, "kpi.kinds.sales.session-200ms")) > 10, 60, child)
        assert audit.flow.end(child) == 0
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr
    assert "left out" not in said.stdout

    mended = audit.run("audit.repair", "kinds.sales", "--yes")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert " late records stay out of session windows: they may join two sessions" in mended.stdout
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr
    assert " repaired)" in said.stdout

    changes = {"6s-2s": "weights_p50", "cumulate-12s-3s": "prices", "session-200ms": "meter"}
    for label, name in changes.items():
        messages = audit.kept(f"kpi.kinds.sales.{label}")
        row = next(m for m in reversed(messages) if (row := audit.row(m))["final"] and row[name] and row["group_by"] == "store")
        value = audit.row(row)[name]
        audit.republish(row.topic(), with_another(audit, messages, row, **{name: value * 1.0201 if name == "weights_p50" else value + 1}))
    said = audit.verify()
    assert said.returncode == 1, said.stdout + said.stderr
    *lines, last = said.stdout.splitlines()
    assert len(lines) == 3
    assert last.startswith("3 differences in ")
    for label, name in changes.items():
        assert sum(line.startswith(f"kpi.kinds.sales.{label} [") and f": {name}: published " in line for line in lines) == 1


def test_it_runs_beside_a_live_flow(cluster: Cluster, tmp_path: Path) -> None:
    audit = Audit.of(cluster, tmp_path, "live.")
    with audit.flow.running() as child:
        audit.fill(range(4))
        until(lambda: finals(cluster, "kpi.live.sales.1s"), 40, child)
        for second in range(4, 8):
            audit.fill([second], 100, second)
            said = audit.verify("1s")
            assert said.returncode == 0, said.stdout + said.stderr
        assert child.poll() is None


def test_what_cannot_be_verified_says_the_way_on(audit: Audit) -> None:
    for arguments, way_on in (
        (("audit.verify", "no.such.topic"), "set TOPIC to a source topic"),
        (("audit.verify", "equal.sales", "7s"), "WINDOW: got '7s', want one of 1s, 5s"),
    ):
        said = audit.run(*arguments)
        assert said.returncode == 2
        assert said.stdout == ""
        assert way_on in said.stderr
        assert "Traceback" not in said.stderr
        if "WINDOW" in way_on:
            assert "messages" not in said.stderr, "it was said before the topic was read"
    audit.topic.admin.create_topics([NewTopic("equal.unread", 1, 1)])["equal.unread"].result(10)
    said = audit.run("audit.verify", "equal.unread")
    assert said.returncode == 2
    assert "has committed no offsets of equal.unread: let it run first" in said.stderr


@pytest.mark.timeout(400)  # two runs of a flow, five of the command
def test_after_a_reset_what_came_then_is_compared_in_full_and_what_stood_before_is_counted(cluster: Cluster, tmp_path: Path) -> None:
    audit = ran(cluster, tmp_path, "anew.")
    before = audit.kept("kpi.anew.sales.1s")
    assert audit.run("flows.supervise", "--reset", "--yes").returncode == 0
    said = audit.verify()
    assert said.returncode == 2, said.stdout + said.stderr
    assert "was begun anew (make reset, " in said.stderr
    assert "has published nothing since: let it run first" in said.stderr

    again(audit)
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr
    assert "final rows and records from before " in said.stdout
    assert "when the flow was begun anew (make reset)" in said.stdout

    rows = audit.kept("kpi.anew.sales.1s")
    known = {(m.partition(), m.offset()) for m in before}
    wrong, doubled = final(audit, before), final(audit, [m for m in rows if (m.partition(), m.offset()) not in known])
    assert doubled.key() == wrong.key()
    audit.republish(wrong.topic(), with_another(audit, rows, wrong, events=999))
    said = audit.verify("1s")
    assert said.returncode == 0, "a row from before counts no more: " + said.stdout + said.stderr
    audit.republish(wrong.topic(), [*map(Record.of, rows), Record.of(doubled)])
    said = audit.verify("1s")
    assert said.returncode == 1, said.stdout + said.stderr
    assert "final rows: published 2, recomputed 1" in said.stdout
    assert "1 differences" in said.stdout

    missing = next(m for m in rows if (m.partition(), m.offset()) not in known and audit.row(m)["final"])
    audit.republish(wrong.topic(), without(rows, missing))
    where = TopicPartition(missing.topic(), missing.partition(), 1)  # what expires first is from before
    audit.topic.admin.delete_records([where])[TopicPartition(missing.topic(), missing.partition())].result(10)
    said = audit.verify("1s")
    assert said.returncode == 1, said.stdout + said.stderr
    assert "final row: published nothing, recomputed" in said.stdout
    assert "1 differences" in said.stdout


@pytest.mark.timeout(240)
def test_what_a_flow_without_a_recovery_directory_published_once_more_is_one_line(cluster: Cluster, tmp_path: Path) -> None:
    audit = ran(cluster, tmp_path, "twice.")
    audit.flow.durable = False
    again(audit)
    said = audit.verify()
    assert said.returncode == 1, said.stdout + said.stderr
    reason, last = said.stdout.splitlines()
    assert " were published more than once, with equal values, the last time from " in reason
    assert "the flow was begun anew without a recovery directory" in reason
    assert " differences in " in last
    since = re.findall(r"--since (\S+)", reason)[0]
    for arguments in (("--at-least-once",), ("--since", since)):
        said = audit.verify(*arguments)
        assert said.returncode == 0, said.stdout + said.stderr
        assert {"--since": f"from before {since}, when the flow was begun anew", "--at-least-once": "published more than once"}[
            arguments[0]
        ] in said.stdout

    messages = audit.kept("kpi.twice.sales.1s")
    row = final(audit, messages)
    audit.republish(row.topic(), with_another(audit, messages, row, amounts=10**9))
    said = audit.verify("1s", "--at-least-once")
    assert said.returncode == 1, said.stdout + said.stderr
    assert "final rows: published '2, which differ', recomputed 1" in said.stdout


@pytest.mark.timeout(240)
def test_a_topic_that_is_read_from_latest_is_verified_from_a_moment_on(cluster: Cluster, tmp_path: Path) -> None:
    """What stands before the flow's start is in no row and no dead letter, and moves no watermark."""
    audit = Audit.of(cluster, tmp_path, "latest.")
    audit.flow.config = audit.flow.config.replace("max_future", 'start = "latest"\nmax_future')
    for partition in range(PARTITIONS):
        audit.topic.send([b"\0\0", sale(T0_MS + 3_890_000)], partition, T0_MS + 3_599_000)
    topics = Topics({"bootstrap.servers": cluster.bootstrap}, "latest.")

    def begun() -> bool:
        for partition in range(PARTITIONS):
            audit.topic.send([sale(T0_MS + 3_000_000)], partition, T0_MS + 3_000_000)
        return len(topics.committed(audit.topic.name, PARTITIONS)) == PARTITIONS

    with audit.flow.running() as child:
        until(begun, 60, child)
        audit.fill([3_600, *range(4_000, 4_006)])
        audit.close(4_015)
        audit.until_closed(4_005, child)
        assert audit.flow.end(child) == 0
    topics.close()
    begin = ("--from", iso(T0_MS + 3_600_000))
    for arguments in ((), (*begin, "--since", iso(T0_MS + 3_600_001))):  # a flow that is begun anew has a later start
        said = audit.verify(*arguments)
        assert said.returncode == 2
        assert "give --from TIME after that moment" in said.stderr
    said = audit.verify(*begin)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "rows of windows that may hold events from before --from" in said.stdout


def with_another(audit: Audit, messages: list[Any], row: Any, **changes: Any) -> list[Record]:
    """The records, one of them with other values."""
    place = row.partition(), row.offset()
    return [audit.like(m, **changes) if (m.partition(), m.offset()) == place else Record.of(m) for m in messages]


def test_the_largest_batches_that_the_flow_reads_are_read_here_too(cluster: Cluster) -> None:
    """Of zstd, which librdkafka unpacks into rooms that grow threefold, up to a largest."""
    count, large = 250, 1_000_000_000
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic("unpacked", 1, 1)])["unpacked"].result(10)
    settings = {"bootstrap.servers": cluster.bootstrap, "compression.type": "zstd", "linger.ms": 60_000, "batch.num.messages": 1_000_000}
    producer = Producer({**settings, "message.max.bytes": large, "batch.size": large, "queue.buffering.max.kbytes": 2_000_000})
    producer.list_topics("unpacked", 30)
    for _ in range(count):
        producer.produce("unpacked", bytes(1 << 20), partition=0)
    assert producer.flush(60) == 0
    topics = Topics({"bootstrap.servers": cluster.bootstrap}, "unpacked")
    try:
        assert sum(len(messages) for messages in topics.read("unpacked", topics.span("unpacked"))) == count
    finally:
        topics.close()


@pytest.mark.timeout(240)
def test_windows_that_may_hold_expired_events_are_left_out(audit: Audit) -> None:
    """The last test of this file, as what has expired does not come back."""
    topic, admin = audit.topic.name, audit.topic.admin
    assert audit.verify("1s").returncode == 0
    admin.delete_records([TopicPartition(topic, 0, 5)])[TopicPartition(topic, 0)].result(10)
    said = audit.verify("1s")
    assert said.returncode == 2, said.stdout + said.stderr  # twelve seconds of run, and max_future is 5 minutes
    assert "rows of windows that may hold events that have expired from the source topic" in said.stderr
