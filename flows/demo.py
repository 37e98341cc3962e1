"""Demo events. In: a seed, a topic and a stretch of time. Out: Kafka messages in Confluent's wire format. Pure.

Time is cut into ticks. A tick's messages depend on nothing but the traffic, the topic and the tick's number: any stretch can be made
again, by any process, in any order, with the same bytes.
"""

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from flows.encoder import NULL, SOME, STOP, Cells, Numbers, chosen, decimals, fixed, joined, listed, optional_doubles, texts, zigzags

TICK_MS = 100
DAY_MS = 86_400_000

CHANNELS = ("WEB", "APP", "STORE", "PHONE")
COUPONS = ("WELCOME10", "SPRING", "FREESHIP", "VIP20")
CITIES = (("DE", "Berlin"), ("DE", "Hamburg"), ("DE", "München"), ("FR", "Paris"), ("FR", "Lyon"), ("NL", "Amsterdam"), ("PL", "Kraków"))
RESULTS = ("APPROVED", "DECLINED", "ERROR")
SITES = ("north", "south", "harbour", "airport", "campus", "depot")
CUSTOMERS, DEVICES, MERCHANTS = 20_000, 240, 400

Columns = Mapping[str, Sequence[Cells]]  # by the name of the field


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
    """What makes a topic's events: its share of the rate, the swing of a day and its hour (UTC) of most traffic, the key, values."""

    share: float
    swing: float
    peak_hour: float
    key: str
    columns: Callable[[np.random.Generator, Numbers, int], Columns]


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
    columns = shape.columns(rng, produced - delay, tick)
    values: list[bytes | None] = [*encode(columns)]
    for index in np.flatnonzero(rng.random(count) < traffic.broken).tolist():
        values[index] = BREAKS[int(rng.integers(len(BREAKS)))](values[index] or b"")
    keys = [text[1:] for text in joined(columns[shape.key])]
    return [*map(Message, keys, values, produced.tolist())]


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
        self._fields = [field["name"] for field in json.loads(text)["fields"]]

    def __call__(self, columns: Columns) -> list[bytes]:
        """The rows' values, in order. Raises KeyError for a field that nobody makes."""
        fields = [columns[name] for name in self._fields]
        return joined([chosen([self._header], np.zeros(len(fields[0][0].length), np.int64)), *chain(*fields)])


BREAKS: tuple[Callable[[bytes], bytes | None], ...] = (
    lambda value: value[: 5 + (len(value) - 5) // 2],  # truncated in the record
    lambda value: b"{" + value[1:],  # wrong magic byte
    lambda value: b"\0\x7f\xff\xff\xff" + value[5:],  # a schema id nobody registered
    lambda value: value + b"\0\0",  # trailing bytes
    lambda value: None,  # noqa: ARG005 - a tombstone has no value
)


def _orders(rng: np.random.Generator, times: Numbers, tick: int) -> Columns:
    count = len(times)
    quantity = rng.geometric(0.45, count)
    cents = (quantity * rng.lognormal(7.6, 0.6, count)).astype(np.int64) + 99  # median 20 EUR an item
    return {
        "placed_at": [zigzags(times)],
        "order_id": _ids(f"o-{tick:x}-", count),
        "customer_id": [_of(CUSTOMER, _skewed(rng, CUSTOMERS, count))],
        "channel": [zigzags(rng.choice(len(CHANNELS), count, p=(0.42, 0.38, 0.15, 0.05)))],
        "quantity": [zigzags(quantity)],
        "total": decimals(cents),
        "coupon": [chosen(COUPON, np.minimum(rng.integers(0, 8 * len(COUPONS), count), len(COUPONS)))],  # one order in eight has one
        "address": [chosen(CITY, _skewed(rng, len(CITIES), count))],
    }


def _readings(rng: np.random.Generator, times: Numbers, tick: int) -> Columns:
    count = len(times)
    device = rng.integers(0, DEVICES, count)
    warmth = math.cos(2 * math.pi * (tick * TICK_MS / DAY_MS - 14 / 24))  # of the day: warmest at 14 h
    temperature = np.round(15 + device % 7 + 6 * warmth + rng.normal(0, 0.4, count), 2)
    humidity = np.clip(np.round(55 - 15 * warmth + rng.normal(0, 3, count), 1), 0, 100)
    pressure = np.round(rng.normal(1013, 4, count), 1)
    battery = np.round(3.0 + rng.normal(0.6, 0.05, count), 3)
    return {
        "device_id": [_of(DEVICE, device)],
        "measured_at": [zigzags(times)],
        "temperature": [fixed(temperature)],
        "humidity": [fixed(humidity)],
        "pressure": [fixed(pressure)],
        "battery": [optional_doubles(battery, device % 4 != 0)],
        "tags": [_of(TAGS, device)],
    }


def _authorizations(rng: np.random.Generator, times: Numbers, tick: int) -> Columns:
    count = len(times)
    return {
        "authorization_id": _ids(f"a-{tick:x}-", count),
        "authorized_at": [zigzags(times * 1000 + rng.integers(0, 1000, count))],
        "merchant_id": [_of(MERCHANT, _skewed(rng, MERCHANTS, count))],
        "result": [zigzags(rng.choice(len(RESULTS), count, p=(0.93, 0.06, 0.01)))],
        "amount": decimals(rng.lognormal(7.9, 1.0, count).astype(np.int64) + 50),  # median 27 EUR
        "latency_ms": [zigzags(rng.lognormal(4.6, 0.5, count).astype(np.int64) + 15)],  # median 115 ms
        "contactless": [fixed(rng.choice(2, count, p=(0.3, 0.7)).astype(bool))],
    }


def _ids(beginning: str, count: int) -> Sequence[Cells]:
    """The beginning and a running number."""
    return texts([f"{beginning}{number}" for number in range(count)])


def _of(values: Sequence[bytes], which: Numbers) -> Cells:
    """In each row one of many values."""
    return listed([values[number] for number in which.tolist()])


def _skewed(rng: np.random.Generator, size: int, count: int) -> Numbers:
    """Numbers below `size`, small ones far more often: half of them in the first eighth."""
    return (rng.random(count) ** 3 * size).astype(np.int64)


def _avro(*values: str) -> bytes:
    """Strings, one after the other."""
    return b"".join(joined(texts(values)))


CUSTOMER = joined(texts([f"c-{customer:05}" for customer in range(CUSTOMERS)]))
MERCHANT = joined(texts([f"m-{merchant:03}" for merchant in range(MERCHANTS)]))
DEVICE = joined(texts([f"d-{device:03}" for device in range(DEVICES)]))
COUPON = [*(SOME + _avro(coupon) for coupon in COUPONS), NULL]
CITY = [_avro(*city) for city in CITIES]
TAGS = [
    b"\4" + _avro("site", SITES[device % len(SITES)], "firmware", "2.1" if device % 5 else "1.9") + STOP  # a block of two
    for device in range(DEVICES)
]

SHAPES: Mapping[str, Shape] = {
    "shop.orders": Shape(share=0.3, swing=0.6, peak_hour=19, key="customer_id", columns=_orders),
    "sensors.readings": Shape(share=0.5, swing=0.0, peak_hour=0, key="device_id", columns=_readings),
    "payments.authorizations": Shape(share=0.2, swing=0.5, peak_hour=13, key="merchant_id", columns=_authorizations),
}
