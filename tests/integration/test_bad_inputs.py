"""Every bad input, mixed one to one with good events, through the flow as people run it: real broker and registry, the literal command."""

import ast
import json
import os
import re
import struct
import subprocess
import sys
import urllib.request
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from prometheus_client.parser import text_string_to_metric_families

from infra.embedded import Cluster
from infra.embedded.child import free_port
from tests.batches import varint
from tests.integration.catalogue import BAD_SCHEMAS, CASES, EVENT, GOOD, HOSTILE, MILLIS, World, framed
from tests.integration.running import ROOT, T0_MS, Flow, Kept, finals, now_ms, records, until

pytestmark = pytest.mark.timeout(400)  # the first test fills a dozen topics and waits for one flow that reads all of them

PREFIX = "poison."
CODECS = ("gzip", "snappy", "lz4", "zstd")
MEGABYTES = 6
BOMBS = 3
TEXTS = 2_500
CITIES, LIMIT = 500, 16
LARGE = {"max.message.bytes": str(32 << 20)}
CONFIG = f"""
[topics."{PREFIX}events"]
by = [[], ["city"]]
[topics."{PREFIX}events".kpis]
n = {{ count = "*" }}
amount = {{ sum = "amount" }}
level = {{ sum = "level" }}
levels = {{ count = "level" }}

[topics."{PREFIX}groups"]
by = [[], ["city"]]
groups = {LIMIT}

[topics."{PREFIX}long"]
by = ["city"]

[topics."{PREFIX}versions".kpis]
amount = {{ sum = "amount" }}
cost = {{ sum = "cost" }}
price = {{ sum = "price" }}
gone = {{ sum = "gone" }}
kind = {{ sum = "kind" }}
extra = {{ sum = "extra" }}
"""
CLOSE_MS = T0_MS + 60_000


@dataclass(frozen=True)
class Run:
    """What one flow made of all topics."""

    cluster: Cluster
    flow: Flow
    sent: dict[str, list[tuple[bytes | None, bytes | None]]]  # topic -> key and value at each offset; of those that can be read
    fates: dict[str, Counter[str]]
    unmeasured: dict[tuple[str, str, str], int]
    peak_mb: float

    def letters(self, topic: str) -> dict[int, Kept]:
        kept = [letter for letter in records(self.cluster, "kpi.dead-letters") if letter.headers["kpi.topic"] == topic]
        at = {int(letter.headers["kpi.offset"]): letter for letter in kept}
        assert len(at) == len(kept), "a dead letter came twice"
        return at

    def rows(self, topic: str) -> list[dict[str, Any]]:
        """The final rows of the window that all events but the last one lie in."""
        return [row for row in finals(self.cluster, f"kpi.{topic}.1s") if row["window_start"].timestamp() * 1000 == T0_MS]


class Topics:
    """The topics of this module: made, filled, and what was sent to them."""

    def __init__(self, cluster: Cluster, registry: SchemaRegistryClient) -> None:
        self.cluster, self.registry = cluster, registry
        self.admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        self.sent: dict[str, list[tuple[bytes | None, bytes | None]]] = {}

    def make(self, name: str, **config: str) -> str:
        topic = f"{PREFIX}{name}"
        self.admin.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(30)
        self.sent[topic] = []
        return topic

    def register(self, subject: str, text: Any, kind: str = "AVRO", references: Sequence[SchemaReference] = ()) -> int:
        text = text if isinstance(text, str) else json.dumps(text)
        return int(self.registry.register_schema(subject, Schema(text, kind, list(references))))

    def send(self, topic: str, values: Sequence[bytes | None], *, noted: bool = True, codec: str = "none") -> None:
        large = {"message.max.bytes": 1_000_000_000, "batch.size": 1_000_000_000, "batch.num.messages": 1_000_000, "linger.ms": 60_000}
        queue = {"queue.buffering.max.kbytes": 2_000_000, "queue.buffering.max.messages": 1_000_000}
        producer = Producer({"bootstrap.servers": self.cluster.bootstrap, **large, **queue, "compression.type": codec})
        producer.list_topics(topic, 30)  # else a slow answer may move them to the partition one by one, and a flush cut the batch in two
        for number, value in enumerate(values):
            key = b"key %d" % number
            producer.produce(topic, value, key, 0, timestamp=now_ms())
            if noted:
                self.sent[topic].append((key, value))
        assert producer.flush(60) == 0


def record(name: str, *fields: tuple[str, object], aliases: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    named = [
        {"name": field, "type": kind, **({"aliases": aliases[field]} if aliases and field in aliases else {})} for field, kind in fields
    ]
    return {"type": "record", "name": name, "fields": named}


def alternating(bad: Sequence[bytes | None], good: bytes) -> list[bytes | None]:
    return [value for each in bad for value in (good, each)]


def city(name: str) -> bytes:
    """A city as Avro writes it."""
    return b"\x02" + varint(len(name.encode())) + name.encode()


def fill(topics: Topics) -> None:
    """Every topic, each ending in an event a minute later, which closes the window of all others."""
    ids = {name: topics.register(f"{PREFIX}bad-{name}", text, kind) for name, (text, kind) in BAD_SCHEMAS.items()}
    ids["event"] = topics.register(f"{PREFIX}events-value", EVENT)
    world = World(ids, now_ms())
    good, last = world.event(), world.event(event_time=varint(CLOSE_MS))
    bad = [value for case in CASES if case.messages for value in case.messages(world)]
    topics.send(topics.make("events", **LARGE), [*alternating(bad, good), last], codec="lz4")

    empty = topics.register(f"{PREFIX}empty-value", record("Empty"))
    topics.send(topics.make("empty"), alternating([b"\0\0\0\0"] * 5, framed(empty, b"")))

    at_field = ("at", {"type": "long", "logicalType": "local-timestamp-millis"})
    local = topics.register(f"{PREFIX}local-value", record("Local", at_field))
    topics.send(topics.make("local"), [framed(local, varint(at)) for at in (T0_MS, T0_MS + 999, T0_MS + 1_000, CLOSE_MS)])

    topics.register("poison-money", record("Money", ("units", "long")))
    price = record("Order", ("event_time", MILLIS), ("total", "Money"))
    order = topics.register(f"{PREFIX}references-value", price, "AVRO", [SchemaReference("Money", "poison-money", 1)])
    values = [framed(order, varint(at) + varint(5)) for at in (T0_MS, T0_MS, CLOSE_MS)]
    topics.send(topics.make("references"), [*alternating([framed(order, b"\x80")] * 2, values[0]), *values])

    text = topics.make("text")
    topics.register(f"{text}-value", EVENT)
    topics.send(text, [good, *[b"line %d" % number for number in range(TEXTS)], None, *[b"more text"] * 10, good, b"{json}", good, last])

    fill_groups(topics, world)

    for codec in CODECS:
        topic = topics.make(codec, **LARGE)
        topics.register(f"{topic}-value", EVENT)
        octets = bytes(range(97, 123)) * ((MEGABYTES << 20) // 26)
        large = world.event(note=varint(len(octets)) + octets)
        # Each in a batch of its own: what does not compress would be larger than a topic takes.
        for value in (good, large, large[:-1], good, last):
            topics.send(topic, [value], codec=codec)

    fill_aborted(topics, world)

    bomb = topics.make("bomb", **LARGE)
    topics.register(f"{bomb}-value", EVENT)
    for _ in range(BOMBS):
        topics.send(bomb, [good, b"bad"])
        topics.send(bomb, [bytes(1 << 20)] * 260, noted=False, codec="zstd")
        topics.sent[bomb] += [(None, None)] * 260
        topics.send(bomb, [good, good[:-1]])
    topics.send(bomb, [last])

    topics.make("versions")
    old = topics.register(
        f"{PREFIX}versions-value",
        record("V", ("event_time", MILLIS), ("amount", "int"), ("cost", "long"), ("gone", "long"), ("kind", "int")),
    )
    topics.registry.set_compatibility(f"{PREFIX}versions-value", "NONE")
    renamed = topics.register(
        f"{PREFIX}versions-value",
        record(
            "V",
            ("event_time", MILLIS),
            ("amount", "long"),
            ("price", "long"),
            ("kind", "int"),
            ("extra", "long"),
            aliases={"price": ["cost"]},
        ),
    )
    newest = topics.register(
        f"{PREFIX}versions-value",
        record(
            "V",
            ("event_time", MILLIS),
            ("amount", "double"),
            ("price", "long"),
            ("kind", "string"),
            ("extra", "long"),
            aliases={"price": ["cost"]},
        ),
    )
    at = varint(T0_MS)
    kinds = [
        framed(old, at + varint(1) + varint(10) + varint(100) + varint(1_000)),
        framed(renamed, at + varint(2) + varint(20) + varint(2_000) + varint(7)),
        framed(newest, at + struct.pack("<d", 0.5) + varint(30) + b"\x02x" + varint(8)),
        framed(newest, at + varint(1)),
    ]
    end = framed(old, varint(CLOSE_MS) + varint(1) * 4)
    topics.send(f"{PREFIX}versions", [*kinds * 10, end])


def fill_aborted(topics: Topics, world: World) -> None:
    """Transactions, every other one aborted."""
    good, last = world.event(), world.event(event_time=varint(CLOSE_MS))
    aborted = topics.make("aborted")
    topics.register(f"{aborted}-value", EVENT)
    producer = Producer({"bootstrap.servers": topics.cluster.bootstrap, "transactional.id": aborted, "linger.ms": 5})
    producer.init_transactions(30)
    for turn in range(6):
        producer.begin_transaction()
        for value in (good, good[:-1], good):
            producer.produce(aborted, value, b"key", 0, timestamp=now_ms())
        producer.flush(30)
        (producer.abort_transaction if turn % 2 else producer.commit_transaction)(30)
    topics.sent[aborted] = [(b"key", value) for _ in range(3) for value in (good, good[:-1], good)]
    topics.send(aborted, [last])


def fill_groups(topics: Topics, world: World) -> None:
    """Many groups, and very long ones."""
    good, last = world.event(), world.event(event_time=varint(CLOSE_MS))
    many = [world.event(city=city(f"city {number}")) for number in range(CITIES)]
    long = [world.event(city=city("x" * (1 << 20) + end)) for end in "abb"]
    for name, bad in (("groups", many), ("long", long)):
        topic = topics.make(name, **LARGE)
        topics.register(f"{topic}-value", EVENT)
        topics.send(topic, [*alternating(bad, good), last])


@pytest.fixture(scope="module")
def run(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One flow reads all of it; what was read in the books is what was sent."""
    with SchemaRegistryClient({"url": cluster.registry_url}) as registry:
        topics = Topics(cluster, registry)
        fill(topics)
    port = free_port()
    flow = Flow(cluster, tmp_path_factory.mktemp("poison"), PREFIX, CONFIG, '["1s"]', environ={"KPI_METRICS_PORT": str(port)})
    sent = {topic: len(values) for topic, values in topics.sent.items()}
    with flow.running() as child:
        until(lambda: {topic: fates.total() for topic, fates in books(port).items()} == sent, 150, child)
        fates, unmeasured = books(port), left_out(port)
        closed = [topic for topic in sent if topic != f"{PREFIX}empty"]  # that one has no event times that could close a window
        until(lambda: all(finals(cluster, f"kpi.{topic}.1s") for topic in closed), 90, child)
        until(lambda: committed(cluster, sent) == ends(cluster, sent), 60, child)
        peak_mb = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{child.pid}/status").read_text())[0]) / 1024
        assert flow.end(child) == 0
    return Run(cluster, flow, topics.sent, fates, unmeasured, peak_mb)


def numbers(port: int, name: str) -> dict[tuple[str, ...], int]:
    """A metric of the page: its labels, by name, and the number."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:  # not there yet
        return {}
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples if sample.name == name]
    return {tuple(sample.labels[label] for label in sorted(sample.labels)): int(sample.value) for sample in samples}


def books(port: int) -> dict[str, Counter[str]]:
    """Of each topic the messages of each fate."""
    found: dict[str, Counter[str]] = {f"{PREFIX}{name}": Counter() for name in ALL}
    for (fate, _, topic), number in numbers(port, "kpi_messages_total").items():
        found[topic][fate] += number
    return found


def left_out(port: int) -> dict[tuple[str, str, str], int]:
    """Of each topic, and field or expression, and cause, the values that are left out."""
    return {(topic, of, cause): number for (cause, of, topic), number in numbers(port, "kpi_unmeasured_values_total").items()}


ALL = ("events", "empty", "local", "references", "text", "groups", "long", *CODECS, "aborted", "bomb", "versions")


def committed(cluster: Cluster, topics: Mapping[str, int]) -> dict[str, int]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": PREFIX})
    try:
        return {tp.topic: tp.offset for tp in consumer.committed([TopicPartition(topic, 0) for topic in topics], timeout=10)}
    finally:
        consumer.close()


def ends(cluster: Cluster, topics: Mapping[str, int]) -> dict[str, int]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": PREFIX})
    try:
        return {topic: consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1] for topic in topics}
    finally:
        consumer.close()


def is_original(letter: Kept, key: bytes | None, value: bytes | None) -> bool:
    """Byte for byte; or, where Kafka takes no record so large, its beginning and its length."""
    if "kpi.truncated" in letter.headers:
        assert value is not None
        return (letter.key, letter.value, letter.headers["kpi.truncated"]) == (key, value[:65_536], str(len(value)))
    return (letter.key, letter.value) == (key, value)


def test_every_bad_input_meets_its_fate_and_its_good_neighbours_are_folded(run: Run) -> None:
    topic = f"{PREFIX}events"
    world = World(dict.fromkeys([*BAD_SCHEMAS, "event"], 0), 0)
    expected = [case.fate for case in CASES if case.messages for _ in case.messages(world)]
    fates: dict[int, str] = dict(enumerate(fate for each in expected for fate in ("folded", each)))
    assert run.fates[topic] == Counter([*fates.values(), "folded"])

    letters = run.letters(topic)
    assert {at: letter.headers["kpi.reason"] for at, letter in letters.items()} == {
        at: fate for at, fate in fates.items() if fate not in {"tombstone", "folded"}
    }
    wrong = [at for at, letter in letters.items() if not is_original(letter, *run.sent[topic][at])]
    assert wrong == []
    assert all(letter.headers["kpi.partition"] == "0" and letter.headers["kpi.error"] for letter in letters.values())

    folded = Counter(fates.values())["folded"]
    (total,) = [row for row in run.rows(topic) if row["group_by"] == ""]
    assert (total["events"], total["n"], total["amount"]) == (folded, folded, folded)
    assert (total["levels"], total["level"]) == (folded - 3, (folded - 3) * 0.5), "NaN and infinities are left out"
    cities = {row["city"]: row["events"] for row in run.rows(topic) if row["group_by"] == "city"}
    wanted: dict[str | None, int] = {"Paris": folded - 1 - len(HOSTILE), None: 1}
    assert cities == wanted | dict.fromkeys(HOSTILE, 1)
    assert run.unmeasured[topic, "level", "not-finite"] == 3


def test_every_other_shape_of_a_topic_is_read_and_its_books_balance(run: Run) -> None:
    wanted: dict[str, dict[str, int]] = {
        "empty": {"folded": 5, "short": 5},
        "local": {"folded": 4},
        "references": {"folded": 5, "malformed": 2},
        "text": {"folded": 4, "magic": TEXTS + 11, "tombstone": 1},
        **{codec: {"folded": 4, "malformed": 1} for codec in CODECS},
        "aborted": {"folded": 7, "malformed": 3},
    }
    assert {name: dict(run.fates[f"{PREFIX}{name}"]) for name in wanted} == wanted
    assert [row["events"] for row in run.rows(f"{PREFIX}local")] == [2]
    assert [(row["events"], row["total_units_mean"]) for row in run.rows(f"{PREFIX}references")] == [(4, 5.0)]
    assert [(row["events"], row["amount_mean"]) for row in run.rows(f"{PREFIX}text")] == [(3, 1.0)]
    assert [(row["events"], row["amount_mean"]) for row in run.rows(f"{PREFIX}aborted")] == [(6, 1.0)]
    for codec in CODECS:
        topic = f"{PREFIX}{codec}"
        assert [(row["events"], row["amount_mean"]) for row in run.rows(topic)] == [(3, 1.0)]
        (letter,) = run.letters(topic).values()
        assert is_original(letter, b"key 0", run.sent[topic][2][1])


def test_groups_over_the_limit_share_a_row_and_all_events_are_in_some_row(run: Run) -> None:
    topic = f"{PREFIX}groups"
    assert run.fates[topic] == {"folded": 2 * CITIES + 1}
    rows = {row["city"]: row["events"] for row in run.rows(topic) if row["group_by"] == "city"}
    assert sum(rows.values()) == 2 * CITIES == next(row["events"] for row in run.rows(topic) if row["group_by"] == "")
    events = Counter(["Paris"] * CITIES + [f"city {number}" for number in range(CITIES)])
    kept = set(sorted(events, key=lambda name: zlib.crc32(name.encode()))[:LIMIT])
    assert rows == {name: events[name] for name in kept} | {"__other__": sum(count for name, count in events.items() if name not in kept)}
    assert run.flow.log.count(f"{topic}: a window has more than {LIMIT} groups") == 1


def test_a_group_value_of_a_megabyte_is_cut_and_stays_a_group_of_its_own(run: Run) -> None:
    rows = Counter({row["city"]: row["events"] for row in run.rows(f"{PREFIX}long")})
    long = [name for name in rows if name != "Paris"]
    assert rows["Paris"] == 3
    assert sorted(rows[name] for name in long) == [1, 2]
    assert all(name.startswith("x" * 1_024) and len(name) < 1_100 for name in long)


def test_a_topic_without_avro_is_said_once_and_leaves_samples_until_avro_comes(run: Run) -> None:
    topic = f"{PREFIX}text"
    row = [*range(1, TEXTS + 1), *range(TEXTS + 2, TEXTS + 12)]  # a tombstone between, and it does not count
    kept = [*row[:1_000], *(at for at in row[1_000:] if at % 1_000 == 0), TEXTS + 13]
    letters = run.letters(topic)
    assert sorted(letters) == kept
    assert all(is_original(letter, *run.sent[topic][at]) for at, letter in letters.items())
    assert run.flow.log.count("non-Avro") == 1
    assert f"{topic}[0]: non-Avro: 1000 messages in a row up to offset 1000" in run.flow.log


def test_a_bomb_is_one_dead_letter_and_memory_is_bounded(run: Run) -> None:
    topic = f"{PREFIX}bomb"
    assert run.fates[topic] == {"folded": 2 * BOMBS + 1, "short": BOMBS, "malformed": BOMBS, "size": 260 * BOMBS}
    assert [row["events"] for row in run.rows(topic)] == [2 * BOMBS]
    letters = {at: letter for at, letter in run.letters(topic).items() if letter.headers["kpi.reason"] == "size"}
    assert sorted(letters) == [2 + number * 264 for number in range(BOMBS)]
    for at, letter in letters.items():
        assert (letter.key, letter.value) == (None, None)
        assert f"offsets {at} to {at + 259}, 260 records: they unpack to more than 268435456 bytes" in letter.headers["kpi.error"]
    assert run.peak_mb < 1_500


def test_versions_of_a_schema_meet_in_one_window(run: Run) -> None:
    topic = f"{PREFIX}versions"
    assert run.fates[topic] == {"folded": 31, "malformed": 10}
    (row,) = run.rows(topic)
    assert {name: row[name] for name in ("events", "amount", "cost", "price", "gone", "kind", "extra")} == {
        "events": 30,
        "amount": 10 * (1 + 2 + 0.5),
        "cost": 10 * (10 + 20 + 30),  # under its old name
        "price": 10 * (10 + 20 + 30),  # and under its new one
        "gone": 10 * 100,
        "kind": 10 * (1_000 + 2_000),
        "extra": 10 * (7 + 8),
    }
    assert run.unmeasured[topic, "kind", "type"] == 10
    assert run.flow.log.count("'kind' has changed to a type that cannot be used") == 1


def test_nothing_crashed_and_nobody_can_write_into_the_log(run: Run) -> None:
    assert "Traceback" not in run.flow.log
    assert all(line.startswith("20") for line in run.flow.log.splitlines()), "each line begins with its time"
    assert "<script>" not in run.flow.log


def test_every_row_of_the_catalogue_is_tried_here_or_names_a_test_that_exists() -> None:
    for case in CASES:
        assert (case.messages is None) == bool(case.held_by), case.row
        if case.held_by:
            file, _, name = case.held_by.partition("::")
            tree = ast.parse((ROOT / file).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, case.held_by


def test_a_good_event_of_the_catalogue_is_one() -> None:
    assert set(GOOD) == {field["name"] for field in EVENT["fields"]}


@pytest.mark.parametrize("name", sorted(set(ALL) - {"empty"}))
def test_the_audit_agrees_on_every_topic_of_bad_inputs(run: Run, name: str) -> None:
    own = {"KPI_CONFIG": str(run.flow.home / "kpi.toml"), "KPI_FLOW_ID": PREFIX}
    environ = {**os.environ, **run.cluster.environ, **own}
    verify, replay = (
        subprocess.run(
            [sys.executable, "-m", f"audit.{module}", f"{PREFIX}{name}"],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        for module in ("verify", "replay")
    )
    assert verify.returncode == 0, verify.stdout + verify.stderr
    assert verify.stdout.startswith("equal: ")
    assert replay.returncode == 0, replay.stdout + replay.stderr
