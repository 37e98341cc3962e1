"""Stock Bytewax, written well: KafkaSource, fastavro, fold_window with an EventClock. In: PEER_*. Out: a flow for `bytewax.run`.

Large batches, values of a key folded as they come (`ordered=False`), one fold for count, sum, min and max. The source ends where the topic
does, which closes what is open. The clock waits for five minutes of event time, as partitions are not read in step.
"""

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import fastavro
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaError, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window

from bench.peers import SCHEMA, Closing, Reads, row, told

BATCH = 10_000
WAIT = timedelta(minutes=5)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PARSED = fastavro.parse_schema(SCHEMA)

Click = tuple[int, float]  # event time in ms, amount
Read = KafkaSourceMessage[bytes | None, bytes | None]
Kept = tuple[int, float, float, float]  # number, sum, min, max
EMPTY: Kept = (0, 0.0, float("inf"), float("-inf"))


def decoder(reads: Reads) -> Callable[[list[Read | KafkaError[bytes | None, bytes | None]]], list[tuple[str, Click]]]:
    """Messages to what is folded, by country; counts them."""
    closing = Closing()

    def decode(messages: list[Read | KafkaError[bytes | None, bytes | None]]) -> list[tuple[str, Click]]:
        clicks = []
        for message in messages:
            if isinstance(message, KafkaError):
                raise TypeError(f"{message.err}: the source raises these itself")
            click: Any = fastavro.schemaless_reader(io.BytesIO((message.value or b"")[5:]), PARSED, None)
            time_ms = click["event_time"]
            if not closing.is_last(message.partition or 0, time_ms):
                clicks.append((click["country"], (time_ms, click["amount"])))
        reads.add(len(messages))
        return clicks

    return decode


def fold(kept: Kept, click: Click) -> Kept:
    """One event more."""
    events, total, smallest, largest = kept
    amount = click[1]
    return events + 1, total + amount, min(amount, smallest), max(amount, largest)


def merge(one: Kept, other: Kept) -> Kept:
    """Of two parts; tumbling windows never need it."""
    return one[0] + other[0], one[1] + other[1], min(one[2], other[2]), max(one[3], other[3])


def written(window_ms: int) -> Callable[[tuple[str, tuple[int, Kept]]], KafkaSinkMessage[bytes, bytes]]:
    """A closed window as its row; windows are numbered from 1970."""
    return lambda closed: KafkaSinkMessage(*row(window_ms, closed[1][0] * window_ms, closed[0], closed[1][1]))


def made() -> Dataflow:
    """The flow that the environment tells."""
    given = told()
    flow = Dataflow("stock")
    source = KafkaSource([given.bootstrap], [given.topic], tail=False, batch_size=BATCH)
    clicks = op.flat_map_batch("decode", op.input("clicks", flow, source), decoder(Reads(given.total)))
    clock: EventClock[Click] = EventClock(lambda click: EPOCH + timedelta(milliseconds=click[0]), wait_for_system_duration=WAIT)
    for window_ms in given.windows_ms:
        windower = TumblingWindower(length=timedelta(milliseconds=window_ms), align_to=EPOCH)
        closed = fold_window(f"fold{window_ms}", clicks, clock, windower, lambda: EMPTY, fold, merge, ordered=False)
        rows = op.map(f"row{window_ms}", closed.down, written(window_ms))
        kop.output(f"out{window_ms}", rows, brokers=[given.bootstrap], topic=given.out)
    return flow
