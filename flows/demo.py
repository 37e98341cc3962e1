"""Demo events. In: a seed, a topic and a stretch of time. Out: Kafka messages in Confluent's wire format. Pure.

Time is cut into ticks. A tick's messages depend on nothing but the traffic, the topic and the tick's number: any stretch can be made
again, by any process, in any order, with the same bytes.
"""

import io
import itertools
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import fastavro
import numpy as np
import numpy.typing as npt

TICK_MS = 100
DAY_MS = 86_400_000

CHANNELS = ("WEB", "APP", "STORE", "PHONE")
COUPONS = ("WELCOME10", "SPRING", "FREESHIP", "VIP20")
CITIES = (("DE", "Berlin"), ("DE", "Hamburg"), ("DE", "München"), ("FR", "Paris"), ("FR", "Lyon"), ("NL", "Amsterdam"), ("PL", "Kraków"))
RESULTS = ("APPROVED", "DECLINED", "ERROR")
SITES = ("north", "south", "harbour", "airport", "campus", "depot")
CUSTOMERS, DEVICES, MERCHANTS = 20_000, 240, 400

Integers = npt.NDArray[np.int64]
Row = Mapping[str, Any]


class Message(NamedTuple):
    """One Kafka message; `timestamp` is when it was produced (UTC ms), never before its event time."""

    key: bytes
    value: bytes | None
    timestamp: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """How much, how far out of order and how bad. Shares are of all messages, from 0 to 1."""

    rate: float = 300.0  # events/s over all topics, on the average of a day
    disorder_ms: int = 2_000  # an event arrives up to this long after its event time
    late: float = 0.005  # share that arrives later than that, by `late_ms` to twice as much
    late_ms: int = 60_000  # more than a flow's lateness and its smallest window
    broken: float = 0.002  # share that cannot be decoded, each kind of BREAKS as often as the others
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes a topic's events: its share of the rate, the swing of a day and its hour (UTC) of most traffic, the key, the rows."""

    share: float
    swing: float
    peak_hour: float
    key: str
    rows: Callable[[np.random.Generator, Integers, int], list[Row]]


def messages(topic: str, encode: "Encoder", traffic: Traffic, tick: int) -> list[Message]:
    """The messages produced during `[tick * TICK_MS, (tick + 1) * TICK_MS)`, in order of production."""
    shape = SHAPES[topic]
    rng = np.random.default_rng([traffic.seed, zlib.crc32(topic.encode()), tick])
    start = tick * TICK_MS
    count = int(rng.poisson(traffic.rate * shape.share * daily(shape, start) * TICK_MS / 1000))
    produced = np.sort(rng.integers(start, start + TICK_MS, count))
    delay = np.where(
        rng.random(count) < traffic.late,
        rng.integers(traffic.late_ms, 2 * traffic.late_ms + 1, count),
        rng.integers(0, traffic.disorder_ms + 1, count),
    )
    rows = shape.rows(rng, produced - delay, tick)
    values: list[bytes | None] = [*encode(rows)]
    for index in np.flatnonzero(rng.random(count) < traffic.broken).tolist():
        values[index] = BREAKS[int(rng.integers(len(BREAKS)))](values[index] or b"")
    return [Message(row[shape.key].encode(), *rest) for row, *rest in zip(rows, values, produced.tolist(), strict=True)]


def daily(shape: Shape, time_ms: int) -> float:
    """Traffic at a time of day: 1 + swing * cos(2π (t - peak) / day). Its mean over a day is 1.

    >>> round(daily(SHAPES["shop.orders"], 19 * 3_600_000), 3), round(daily(SHAPES["shop.orders"], 7 * 3_600_000), 3)
    (1.6, 0.4)
    """
    return 1 + shape.swing * math.cos(2 * math.pi * (time_ms / DAY_MS - shape.peak_hour / 24))


class Encoder:
    """Rows of one schema -> values: a zero byte, the schema id (four bytes, big-endian), the Avro record."""

    def __init__(self, schema_id: int, text: str) -> None:
        self._header = b"\0" + schema_id.to_bytes(4, "big")
        self._schema = fastavro.parse_schema(json.loads(text))

    def __call__(self, rows: Sequence[Row]) -> list[bytes]:
        """The rows' values, in order. Times and decimals come as Avro's own longs and bytes."""
        buffer, ends = io.BytesIO(), [0]
        for row in rows:
            buffer.write(self._header)
            fastavro.schemaless_writer(buffer, self._schema, row)
            ends.append(buffer.tell())
        body = buffer.getvalue()
        return [body[start:end] for start, end in itertools.pairwise(ends)]


BREAKS: tuple[Callable[[bytes], bytes | None], ...] = (
    lambda value: value[: 5 + (len(value) - 5) // 2],  # truncated in the record
    lambda value: b"{" + value[1:],  # wrong magic byte
    lambda value: b"\0\x7f\xff\xff\xff" + value[5:],  # a schema id nobody registered
    lambda value: value + b"\0\0",  # trailing bytes
    lambda value: None,  # noqa: ARG005 - a tombstone has no value
)


def _orders(rng: np.random.Generator, times: Integers, tick: int) -> list[Row]:
    count = len(times)
    quantity = rng.geometric(0.45, count)
    cents = (quantity * rng.lognormal(7.6, 0.6, count)).astype(np.int64) + 99  # median 20 EUR an item
    columns = zip(
        times.tolist(),
        _skewed(rng, CUSTOMERS, count),
        rng.choice(len(CHANNELS), count, p=(0.42, 0.38, 0.15, 0.05)).tolist(),
        quantity.tolist(),
        cents.tolist(),
        rng.integers(0, 8 * len(COUPONS), count).tolist(),  # one order in eight has a coupon
        _skewed(rng, len(CITIES), count),
        strict=True,
    )
    return [
        {
            "order_id": f"o-{tick:x}-{index}",
            "customer_id": f"c-{customer:05}",
            "placed_at": time,
            "channel": CHANNELS[channel],
            "quantity": items,
            "total": _decimal(total),
            "coupon": COUPONS[coupon] if coupon < len(COUPONS) else None,
            "address": {"country": CITIES[city][0], "city": CITIES[city][1]},
        }
        for index, (time, customer, channel, items, total, coupon, city) in enumerate(columns)
    ]


def _readings(rng: np.random.Generator, times: Integers, tick: int) -> list[Row]:
    count = len(times)
    device = rng.integers(0, DEVICES, count)
    warmth = math.cos(2 * math.pi * (tick * TICK_MS / DAY_MS - 14 / 24))  # of the day: warmest at 14 h
    columns = zip(
        times.tolist(),
        device.tolist(),
        np.round(15 + device % 7 + 6 * warmth + rng.normal(0, 0.4, count), 2).tolist(),
        np.clip(np.round(55 - 15 * warmth + rng.normal(0, 3, count), 1), 0, 100).tolist(),
        np.round(rng.normal(1013, 4, count), 1).tolist(),
        np.round(3.0 + rng.normal(0.6, 0.05, count), 3).tolist(),
        strict=True,
    )
    return [
        {
            "device_id": f"d-{device:03}",
            "measured_at": time,
            "temperature": temperature,
            "humidity": humidity,
            "pressure": pressure,
            "battery": battery if device % 4 else None,
            "tags": {"site": SITES[device % len(SITES)], "firmware": "2.1" if device % 5 else "1.9"},
        }
        for time, device, temperature, humidity, pressure, battery in columns
    ]


def _authorizations(rng: np.random.Generator, times: Integers, tick: int) -> list[Row]:
    count = len(times)
    columns = zip(
        (times * 1000 + rng.integers(0, 1000, count)).tolist(),
        _skewed(rng, MERCHANTS, count),
        rng.choice(len(RESULTS), count, p=(0.93, 0.06, 0.01)).tolist(),
        (rng.lognormal(7.9, 1.0, count).astype(np.int64) + 50).tolist(),  # median 27 EUR
        (rng.lognormal(4.6, 0.5, count).astype(np.int64) + 15).tolist(),  # median 115 ms
        rng.choice(2, count, p=(0.3, 0.7)).astype(bool).tolist(),
        strict=True,
    )
    return [
        {
            "authorization_id": f"a-{tick:x}-{index}",
            "merchant_id": f"m-{merchant:03}",
            "authorized_at": time,
            "result": RESULTS[result],
            "amount": _decimal(amount),
            "latency_ms": latency,
            "contactless": contactless,
        }
        for index, (time, merchant, result, amount, latency, contactless) in enumerate(columns)
    ]


def _skewed(rng: np.random.Generator, size: int, count: int) -> list[int]:
    """Numbers below `size`, small ones far more often: half of them in the first eighth."""
    numbers: list[int] = (rng.random(count) ** 3 * size).astype(np.int64).tolist()
    return numbers


def _decimal(cents: int) -> bytes:
    """Avro's decimal of scale 2: the unscaled number as big-endian two's complement."""
    return cents.to_bytes(cents.bit_length() // 8 + 1, "big")


SHAPES: Mapping[str, Shape] = {
    "shop.orders": Shape(share=0.3, swing=0.6, peak_hour=19, key="customer_id", rows=_orders),
    "sensors.readings": Shape(share=0.5, swing=0.0, peak_hour=0, key="device_id", rows=_readings),
    "payments.authorizations": Shape(share=0.2, swing=0.5, peak_hour=13, key="merchant_id", rows=_authorizations),
}
