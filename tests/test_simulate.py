"""The demo events and the flow that produces them."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from flows import demo, simulate
from flows.connection import connection
from flows.demo import DAY_MS, SHAPES, TICK_MS, Encoder, Message, Traffic, daily, messages
from flows.errors import ConfigError
from flows.fields import read_schema
from infra.embedded import Cluster

ID = 7
TEXT = {topic: (simulate.SCHEMAS / f"{topic}.avsc").read_text() for topic in SHAPES}
PARSED = {topic: fastavro.parse_schema(json.loads(text)) for topic, text in TEXT.items()}
ENCODERS = {topic: Encoder(ID, text) for topic, text in TEXT.items()}
TIME = {"shop.orders": "placed_at", "sensors.readings": "measured_at", "payments.authorizations": "authorized_at"}
TICK = 17_000_000_000  # 2023-11-14 22:13:20 UTC
GOOD = Traffic(rate=10_000, late=0, broken=0)

topics = pytest.mark.parametrize("topic", list(SHAPES))


def made(topic: str, traffic: Traffic, ticks: int = 20) -> list[Message]:
    return [message for tick in range(TICK, TICK + ticks) for message in messages(topic, ENCODERS[topic], traffic, tick)]


def read(topic: str, value: bytes | None) -> dict[str, Any] | str:
    """The event, or what is wrong with the value."""
    if value is None:
        return "tombstone"
    if value[0] != 0:
        return "magic"
    if value[1:5] != ID.to_bytes(4, "big"):
        return "schema"
    body = io.BytesIO(value[5:])
    try:
        event = fastavro.schemaless_reader(body, PARSED[topic], None)
    except (EOFError, ValueError, IndexError):
        return "truncated"
    assert isinstance(event, dict)
    return "trailing" if body.read() else event


def delays_ms(topic: str, traffic: Traffic) -> list[float]:
    """How long after its event time each message was produced."""
    found = []
    for message in made(topic, traffic):
        event = read(topic, message.value)
        assert isinstance(event, dict)
        found.append((datetime.fromtimestamp(message.timestamp / 1000, UTC) - event[TIME[topic]]) / timedelta(milliseconds=1))
    return found


@topics
def test_the_same_seed_gives_the_same_bytes(topic: str) -> None:
    traffic = Traffic(rate=3000, late=0.1, broken=0.1)
    assert made(topic, traffic) == made(topic, traffic)
    assert made(topic, traffic) != made(topic, Traffic(rate=3000, late=0.1, broken=0.1, seed=2))


def test_any_stretch_of_time_can_be_made_on_its_own() -> None:
    whole = made("shop.orders", GOOD, ticks=3)
    assert whole[len(made("shop.orders", GOOD, ticks=2)) :] == messages("shop.orders", ENCODERS["shop.orders"], GOOD, TICK + 2)


@topics
def test_a_tick_without_events_has_no_messages(topic: str) -> None:
    assert made(topic, Traffic(rate=0)) == []


@topics
def test_every_event_is_valid_by_its_schema(topic: str) -> None:
    for message in made(topic, GOOD, ticks=5):
        event = read(topic, message.value)
        assert isinstance(event, dict)
        assert fastavro.validate(event, PARSED[topic], strict=True)
        assert message.key.decode() == event[SHAPES[topic].key]


@topics
def test_every_schema_can_be_read_whole_and_says_what_its_numbers_mean(topic: str) -> None:
    schema = read_schema(ID, TEXT[topic])
    assert [leaf.kind for leaf in schema.leaves.values()].count("time") == 1
    for field in json.loads(TEXT[topic])["fields"]:
        kind = field["type"] if isinstance(field["type"], str) else json.dumps(field["type"])
        assert "unit" in field or not any(number in kind for number in ('"double"', '"decimal"', "int"))


def test_amounts_are_money() -> None:
    events = [read("shop.orders", message.value) for message in made("shop.orders", GOOD)]
    totals = [event["total"] for event in events if isinstance(event, dict)]
    assert all(isinstance(total, Decimal) and total.as_tuple().exponent == -2 for total in totals)
    assert Decimal(1) <= min(totals) < Decimal(30) < max(totals) < Decimal(100_000)


@topics
def test_event_ids_are_unique(topic: str) -> None:
    name = {"shop.orders": "order_id", "payments.authorizations": "authorization_id"}.get(topic)
    if name is None:
        name = "device_id"  # readings have no id: many of few devices
    found = [event[name] for event in (read(topic, message.value) for message in made(topic, GOOD)) if isinstance(event, dict)]
    assert len(set(found)) == (demo.DEVICES if name == "device_id" else len(found))


@topics
def test_messages_come_in_order_of_production_inside_their_tick(topic: str) -> None:
    produced = [message.timestamp for message in messages(topic, ENCODERS[topic], GOOD, TICK)]
    assert produced == sorted(produced)
    assert TICK * TICK_MS <= produced[0] <= produced[-1] < (TICK + 1) * TICK_MS


def test_the_rate_is_the_mean_of_a_day_over_all_topics() -> None:
    ticks = range(TICK, TICK + DAY_MS // TICK_MS, 864)  # a thousand of a day, evenly spread
    count = sum(len(messages(topic, ENCODERS[topic], Traffic(rate=300), tick)) for topic in SHAPES for tick in ticks)
    assert count == pytest.approx(300 * len(ticks) * TICK_MS / 1000, rel=0.03)  # 30,000 expected, deviation 173


@topics
def test_traffic_follows_the_hour_of_the_day(topic: str) -> None:
    #  night _.-''-._ night: the peak hour has (1 + swing) / (1 - swing) times the traffic of twelve hours later
    shape = SHAPES[topic]
    peak = 20_000 * DAY_MS + int(shape.peak_hour * 3_600_000)
    assert daily(shape, peak) == pytest.approx(1 + shape.swing)
    assert daily(shape, peak + DAY_MS // 2) == pytest.approx(1 - shape.swing)
    busy, quiet = (
        sum(len(messages(topic, ENCODERS[topic], GOOD, at // TICK_MS + tick)) for tick in range(10)) for at in (peak, peak + DAY_MS // 2)
    )
    assert busy / quiet == pytest.approx((1 + shape.swing) / (1 - shape.swing), rel=0.1)


@topics
def test_events_are_out_of_order_by_no_more_than_the_disorder(topic: str) -> None:
    found = delays_ms(topic, Traffic(rate=10_000, late=0, broken=0, disorder_ms=500))
    assert -1 < min(found) < 5
    assert 495 < max(found) <= 500


@topics
def test_without_disorder_event_times_rise(topic: str) -> None:
    found = delays_ms(topic, Traffic(rate=10_000, late=0, broken=0, disorder_ms=0))
    assert all(-1 < delay <= 0 for delay in found)  # microseconds are floored when they are read


@topics
def test_the_late_share_is_later_than_the_flow_waits(topic: str) -> None:
    found = delays_ms(topic, Traffic(rate=10_000, late=0.1, broken=0, disorder_ms=500, late_ms=60_000))
    late = [delay for delay in found if delay > 500]
    assert len(late) / len(found) == pytest.approx(0.1, rel=0.2)
    assert 59_999 < min(late) < max(late) <= 120_000


@topics
def test_the_broken_share_is_broken_in_every_way_alike(topic: str) -> None:
    found = [read(topic, message.value) for message in made(topic, Traffic(rate=10_000, late=0, broken=0.1))]
    kinds = Counter(each for each in found if isinstance(each, str))
    assert sum(kinds.values()) / len(found) == pytest.approx(0.1, rel=0.2)
    assert set(kinds) == {"truncated", "magic", "schema", "trailing", "tombstone"}
    assert max(kinds.values()) < 2 * min(kinds.values())


def test_the_settings_are_those_of_the_environment() -> None:
    assert simulate.settings({}) == simulate.Settings(Traffic(), seconds=0, backfill_s=120)
    environ = {"SIM_RATE": "1e5", "SIM_DISORDER_MS": "0", "SIM_LATE": "0", "SIM_LATE_MS": "30000", "SIM_BROKEN": "1", "SIM_SEED": "9"}
    wanted = simulate.settings(environ | {"SIM_SECONDS": "2.5", "SIM_BACKFILL": "0"})
    assert wanted == simulate.Settings(Traffic(100_000, 0, 0, 30_000, 1, 9), seconds=2.5, backfill_s=0)


@pytest.mark.parametrize(("key", "value"), [("SIM_RATE", "fast"), ("SIM_RATE", "-1"), ("SIM_LATE", "1.5"), ("SIM_BROKEN", "nan")])
def test_a_wrong_setting_is_named(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: got {value}, want a number from 0 to "):
        simulate.settings({key: value})


class Clock:
    now = TICK * TICK_MS

    def __call__(self) -> int:
        return self.now


def source(clock: Clock, stop: threading.Event | None = None, **settings: float) -> simulate.DemoSource:
    wanted = simulate.Settings(GOOD, **{"seconds": 0, "backfill_s": 0, **settings})
    return simulate.DemoSource(ENCODERS, wanted, clock, stop or threading.Event())


def batches(part: simulate.DemoPart) -> list[Message]:
    found: list[Message] = []
    while batch := part.next_batch():
        found += batch[0][1]
    return found


def test_a_part_makes_each_tick_when_it_is_over() -> None:
    #  now = 0 ms: nothing   99 ms: nothing   100 ms: tick 0   350 ms: ticks 1 and 2
    clock = Clock()
    part = source(clock).build_part("events", "shop.orders", None)
    assert batches(part) == []
    clock.now += 99
    assert batches(part) == []
    clock.now += 1
    assert part.next_awake() == datetime.fromtimestamp(clock.now / 1000, UTC)
    assert batches(part) == made("shop.orders", GOOD, 1)
    clock.now += 250
    assert batches(part) == made("shop.orders", GOOD, 3)[len(made("shop.orders", GOOD, 1)) :]


def test_history_comes_first_and_in_bounded_batches() -> None:
    part = source(Clock(), backfill_s=10).build_part("events", "sensors.readings", None)
    first = part.next_batch()[0][1]
    assert first[0].timestamp // TICK_MS == TICK - 100
    assert len(first) < simulate.BATCH + 5000
    assert [message.timestamp // TICK_MS for message in first + batches(part)][-1] == TICK - 1


def test_a_part_ends_after_its_seconds() -> None:
    clock = Clock()
    part = source(clock, seconds=1).build_part("events", "shop.orders", None)
    clock.now += 60_000
    assert batches_to_the_end(part) == made("shop.orders", GOOD, 10)


def batches_to_the_end(part: simulate.DemoPart) -> list[Message]:
    found: list[Message] = []
    try:
        while True:
            found += [message for _, batch in part.next_batch() for message in batch]
    except StopIteration:
        return found


def test_a_part_that_resumes_repeats_nothing_and_makes_up_for_no_more_than_the_history() -> None:
    resumed = source(Clock(), backfill_s=1).build_part("events", "shop.orders", TICK - 4)
    assert batches(resumed)[0].timestamp // TICK_MS == TICK - 4
    after_a_week = source(Clock(), backfill_s=1).build_part("events", "shop.orders", TICK - 7 * DAY_MS // TICK_MS)
    assert batches(after_a_week)[0].timestamp // TICK_MS == TICK - 10


def test_a_signal_ends_a_part() -> None:
    stop = threading.Event()
    part = source(Clock(), stop, backfill_s=10).build_part("events", "shop.orders", None)
    part.next_batch()
    stop.set()
    with pytest.raises(StopIteration):
        part.next_batch()


def test_a_message_that_is_not_delivered_stops_the_flow(cluster: Cluster) -> None:
    where = connection(cluster.environ | {"KAFKA_TOPIC_METADATA_PROPAGATION_MAX_MS": "0"})
    part = simulate.ProducerSink(where, threading.Event()).build("produce", 0, 1)
    with pytest.raises(KafkaException, match="Unknown topic"):
        deliver(part, [(f"absent-{uuid.uuid4().hex}", [Message(b"k", b"v", 0)])])


def deliver(part: simulate.ProducerPart, items: list[simulate.Batch]) -> None:
    part.write_batch(items)
    part.close()


def consumed(bootstrap: str) -> dict[str, list[Any]]:
    """Everything in the three topics."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "enable.auto.commit": False})
    found: dict[str, list[Any]] = {}
    for topic in SHAPES:
        parts = [TopicPartition(topic, part, 0) for part in reader.list_topics(topic, timeout=10).topics[topic].partitions]
        count = sum(reader.get_watermark_offsets(part, timeout=10)[1] for part in parts)
        reader.assign(parts)
        found[topic] = []
        while len(found[topic]) < count:
            found[topic] += reader.consume(count - len(found[topic]), timeout=10)
    reader.close()
    return found


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the simulator as a person does; ends what a test has left."""
    running: list[subprocess.Popen[str]] = []

    def starter(environ: dict[str, str], *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bytewax.run", "flows.simulate", *options]
        root = Path(simulate.__file__).parents[1]
        running.append(subprocess.Popen(command, cwd=root, env={**os.environ, **environ}, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield starter
    for process in running:
        process.kill()
        process.communicate()


def test_the_flow_produces_to_real_topics_and_ends(cluster: Cluster, start: Start) -> None:
    environ = {**cluster.environ, "SIM_SECONDS": "1", "SIM_BACKFILL": "10", "SIM_RATE": "2000", "SIM_BROKEN": "0.02"}
    process = start(environ)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "shop.orders, sensors.readings, payments.authorizations at 2000 events/s" in said
    for topic, found in consumed(cluster.bootstrap).items():
        assert {message.partition() for message in found} == set(range(simulate.PARTITIONS))
        ids = Counter((message.value() or b"-----")[:5] for message in found)
        (header, count), *_ = ids.most_common()
        assert header[0] == 0
        assert 0.9 * len(found) < count < len(found)
        span_ms = max(message.timestamp()[1] for message in found) - min(message.timestamp()[1] for message in found)
        assert span_ms > 9_000, topic


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_the_flow_cleanly(cluster: Cluster, start: Start, number: signal.Signals, workers: str) -> None:
    process = start({**cluster.environ, "SIM_BACKFILL": "0"}, "-w", workers)
    assert process.stderr is not None
    assert "events/s" in process.stderr.readline()
    time.sleep(0.3)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in said


def test_the_flow_waits_for_kafka_with_one_line_and_ends_on_a_signal(start: Start) -> None:
    process = start({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"})
    assert process.stderr is not None
    assert "waiting: cannot list the topics" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said == ""


def test_a_wrong_setting_ends_the_start_with_one_line(start: Start) -> None:
    process = start({"SIM_RATE": "fast"})
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said == "SIM_RATE: got fast, want a number from 0 to 1e+09\n"


def test_undelivered_messages_stop_the_flow_but_not_a_person(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "FLUSH_S", 0.1)
    stop = threading.Event()
    part = simulate.ProducerSink(connection({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}), stop).build("produce", 0, 1)
    with pytest.raises(TimeoutError, match=r"^1 messages were not delivered"):
        deliver(part, [("shop.orders", [Message(b"k", b"v", 0)])])
    stop.set()
    part.close()
    assert caplog.messages[-1] == "1 messages were not delivered"


def test_the_flow_waits_for_the_registry(cluster: Cluster, start: Start) -> None:
    process = start({**cluster.environ, "SCHEMA_REGISTRY_URL": "http://127.0.0.1:9"})
    assert process.stderr is not None
    assert "waiting: http://127.0.0.1:9: ConnectError" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
