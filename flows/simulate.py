"""A Bytewax flow that produces the demo events: `python -m flows.simulate`. In: a clock, SIM_* settings. Out: three topics.

- `SIM_RATE` (300): events/s over all topics, on the average of a day
- `SIM_DISORDER_MS` (2000): an event arrives up to this long after its event time
- `SIM_LATE` (0.005): share of events that arrive later than that: by `SIM_LATE_MS` (60000) to twice that
- `SIM_BROKEN` (0.002): share that cannot be decoded: truncated, wrong magic byte, unknown schema id, trailing bytes, tombstone
- `SIM_SEED` (1): same seed, same events at the same time
- `SIM_SECONDS` (0): ends after this time; 0 is never
- `SIM_BACKFILL` (120): seconds of history to begin with, so that charts have points at once
"""

import argparse
import functools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivery

from flows import demo, topics
from flows.connection import Connection, connection
from flows.errors import ConfigError
from flows.fields import SchemaError
from flows.registry import Away, Registry

LOG = logging.getLogger("flows.simulate")  # also as a program

SCHEMAS = Path(__file__).parent.parent / "schemas"
PARTITIONS = 4
BATCH = 5_000  # messages made at a time at most, but for one tick: keeps an item small and a stop prompt
FLUSH_S = 5.0  # for the last deliveries

Batch = tuple[str, list[demo.Message]]
Clock = Callable[[], int]  # UTC ms
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Settings:
    """What SIM_* says."""

    traffic: demo.Traffic
    seconds: float
    backfill_s: float


def settings(environ: Mapping[str, str]) -> Settings:
    """The settings in the environment. Raises ConfigError, which names the one that is wrong."""
    default = demo.Traffic()
    return Settings(
        traffic=demo.Traffic(
            rate=_number(environ, "SIM_RATE", default.rate),
            disorder_ms=int(_number(environ, "SIM_DISORDER_MS", default.disorder_ms)),
            late=_number(environ, "SIM_LATE", default.late, most=1),
            late_ms=int(_number(environ, "SIM_LATE_MS", default.late_ms)),
            broken=_number(environ, "SIM_BROKEN", default.broken, most=1),
            seed=int(_number(environ, "SIM_SEED", default.seed)),
        ),
        seconds=_number(environ, "SIM_SECONDS", 0),
        backfill_s=_number(environ, "SIM_BACKFILL", 120),
    )


def _number(environ: Mapping[str, str], key: str, default: float, most: float = 1e9) -> float:
    text = environ.get(key) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise ConfigError(f"{key}: got {text}, want a number from 0 to {most:g}")
    return number


class DemoPart(StatefulSourcePartition[Batch, int]):
    """One topic's messages, tick after tick, as the clock reaches them. State: the next tick."""

    def __init__(self, topic: str, produce: Callable[[int], list[demo.Message]], ticks: range, source: "DemoSource") -> None:
        self._topic = topic
        self._produce = produce
        self._next, self._end = ticks.start, ticks.stop
        self._source = source

    def next_batch(self) -> list[Batch]:
        """The ticks that are over, up to BATCH messages. Raises StopIteration at the end, and soon after a signal."""
        if self._source.stop.is_set() or self._next >= self._end:
            raise StopIteration
        over, made = min(self._source.clock() // demo.TICK_MS, self._end), list[demo.Message]()
        while self._next < over and len(made) < BATCH:
            made += self._produce(self._next)
            self._next += 1
        return [(self._topic, made)] if made else []

    def next_awake(self) -> datetime | None:
        """When the next tick is over."""
        return datetime.fromtimestamp((self._next + 1) * demo.TICK_MS / 1000, UTC)

    def snapshot(self) -> int:
        """The next tick."""
        return self._next


class DemoSource(FixedPartitionedSource[Batch, int]):
    """One part a topic. A part that resumes makes up for the time it was away, but for no more than `backfill_s`."""

    def __init__(self, encoders: Mapping[str, demo.Encoder], wanted: Settings, clock: Clock, stop: threading.Event) -> None:
        self._encoders = encoders
        self._wanted = wanted
        self._start = clock() // demo.TICK_MS
        self.clock = clock
        self.stop = stop

    def list_parts(self) -> list[str]:
        """The topics."""
        return list(self._encoders)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> DemoPart:  # noqa: ARG002 - Bytewax' signature
        """The topic's messages since the history to begin with, or since it stopped."""
        encode, traffic = self._encoders[for_part], self._wanted.traffic
        first = self._start - round(self._wanted.backfill_s * 1000 / demo.TICK_MS)
        length = round(self._wanted.seconds * 1000 / demo.TICK_MS) or 10**12  # ticks; for ever is 3,000 years
        ticks = range(max(first, resume_state or first), self._start + length)
        return DemoPart(for_part, lambda tick: demo.messages(for_part, encode, traffic, tick), ticks, self)


class ProducerPart(StatelessSinkPartition[Batch]):
    """Writes to Kafka. A message that could not be delivered stops the flow: no item is ever dropped in silence."""

    def __init__(self, client: Producer, stop: threading.Event) -> None:
        self._client = client
        self._stop = stop

    def write_batch(self, items: list[Batch]) -> None:
        """Queue the messages, waiting while the queue is full. Raises KafkaException for an earlier one that failed."""
        produce = self._client.produce
        for topic, batch in items:
            for key, value, timestamp in batch:
                while True:
                    try:
                        produce(topic, value, key, -1, _delivered, None, timestamp)  # by position: a third faster
                        break
                    except BufferError:
                        self._client.poll(0.1)
                    if self._stop.is_set():
                        return  # the broker is away and a person wants out: close() says what is lost
        self._client.poll(0)

    def close(self) -> None:
        """Wait for the last deliveries. Raises TimeoutError when they do not come, unless a person has ended the flow."""
        if left := self._client.flush(FLUSH_S):
            if not self._stop.is_set():
                raise TimeoutError(f"{left} messages were not delivered")
            LOG.warning("%d messages were not delivered", left)


def _delivered(error: KafkaError | None, message: Delivery) -> None:
    if error is not None:
        raise KafkaException(error, f"{message.topic()}: a message was not delivered")  # out of poll() or flush()


def _tell(error: KafkaError) -> None:
    if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - librdkafka's own errors are named so
        LOG.warning("Kafka does not answer; messages wait until it does")


class ProducerSink(DynamicSink[Batch]):
    """One idempotent producer a worker."""

    def __init__(self, where: Connection, stop: threading.Event) -> None:
        self._where = where
        self._stop = stop

    def build(self, step_id: str, worker_index: int, worker_count: int) -> ProducerPart:  # noqa: ARG002 - Bytewax' signature
        """The worker's producer."""
        # Idempotence keeps the order of a partition through retries; callbacks for failures alone halve the cost of a message.
        own = {"enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4", "delivery.report.only.error": True}
        quiet = {"log_level": 2, "error_cb": _tell}  # else each failed connection is a line
        return ProducerPart(Producer({**own, **quiet, **self._where.librdkafka()}), self._stop)


def demo_flow(source: DemoSource, sink: ProducerSink) -> Dataflow:
    """The whole dataflow."""
    dataflow = Dataflow("simulate")
    op.output("produce", op.input("events", dataflow, source), sink)
    return dataflow


def flow() -> Dataflow:
    """The flow as the environment describes it. SIGTERM and Ctrl-C end it; a wrong setting ends it with one line."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("flows").setLevel(logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        return demo_flow(*ends(os.environ, stop))
    except (ConfigError, SchemaError) as error:
        raise SystemExit(str(error)) from None


def ends(environ: Mapping[str, str], stop: threading.Event) -> tuple[DemoSource, ProducerSink]:
    """Source and sink, once the topics are created and the schemas registered. Raises ConfigError, SchemaError."""
    wanted, where = settings(environ), connection(environ)
    admin = topics.administrator(where.librdkafka())
    registry = Registry(*where.registry())
    wait = Waiting(stop)
    wait.until(lambda: topics.ensure(admin, dict.fromkeys(demo.SHAPES, (PARTITIONS, {}))))
    encoders = {}
    for topic in demo.SHAPES:
        text = (SCHEMAS / f"{topic}.avsc").read_text(encoding="utf-8")
        encoders[topic] = demo.Encoder(wait.until(functools.partial(registry.register, f"{topic}-value", text)), text)
    LOG.info("%s at %g events/s to %s", ", ".join(encoders), wanted.traffic.rate, where.settings["bootstrap.servers"])
    return DemoSource(encoders, wanted, lambda: time.time_ns() // 1_000_000, stop), ProducerSink(where, stop)


class Waiting:
    """Tries until Kafka or the registry answers, and says once for what it waits."""

    def __init__(self, stop: threading.Event, pause_s: float = 1.0) -> None:
        self._stop = stop
        self._pause_s = pause_s

    def until(self, attempt: Callable[[], Answer]) -> Answer:
        """What the attempt returns when it succeeds. Raises SystemExit when a signal comes first."""
        said = ""
        while True:
            try:
                return attempt()
            except (Away, topics.Unreachable) as error:
                if said != str(error):
                    said = str(error)
                    LOG.warning("waiting: %s", said)
            if self._stop.wait(self._pause_s):
                raise SystemExit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow until SIGTERM, Ctrl-C, or the end of SIM_SECONDS; 2 for unknown arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _, unknown = parser.parse_known_args(arguments)
    if unknown:
        sys.stderr.write(f"simulate: unknown: {' '.join(unknown)}; --help says what there is\n")
        return 2
    cli_main(flow())  # type: ignore[no-untyped-call]
    return 0


if __name__ == "__main__":
    sys.exit(main())
