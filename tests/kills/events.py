"""A topic that is a function of its seed, and what a flow must make of it. In: seed, partition, offset. Out: messages, batches, rows. Pure.

Every partition gets an event each STEP_MS; what was written by a time can be read at any later one, in batches of any size.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import fastavro

from flows.declaration import parse
from flows.fields import Schema, read_schema
from flows.plan import Output, TopicPlan, plan
from flows.records import DEAD, LATE, output_topic
from flows.wire import RawBatch
from tests import oracle
from tests.batches import batch, confluent
from tests.core import MILLIS
from tests.differences import place_of
from tests.oracle import Event, Kpi, Message, Outcome, Spec, Step
from tests.oracle_windows import tumbling

TOPIC, PARTITIONS, STEP_MS = "kills.orders", 5, 40
SCHEMA_ID = 7
SHOPS = ("a", "b", "c", "d", "e", None)
SPEC = Spec(
    windows=tumbling(1_000, 5_000),
    kpis=(Kpi("n", "count", "*"), Kpi("sum", "sum", "amount"), Kpi("low", "min", "amount"), Kpi("mean", "mean", "amount")),
    time="event_time",
    lateness_ms=1_000,
    idle_ms=86_400_000,
    group_sets=((), ("shop",)),
    max_groups=3,
    shards=2,
)
FIELDS = [
    {"name": "event_time", "type": MILLIS},
    {"name": "shop", "type": ["null", "string"]},
    {"name": "amount", "type": ["null", "long"]},
]
"""The event's fields, as Avro writes them."""

_SCHEMA: Any = {"type": "record", "name": "Order", "fields": FIELDS}
_PARSED: Any = fastavro.parse_schema(_SCHEMA)
_DECLARED = f"""
[topics."{TOPIC}"]
windows = ["1s", "5s"]
lateness = "1s"
idle = "1d"
by = [[], ["shop"]]
groups = 3
shards = 2
[topics."{TOPIC}".kpis]
n = {{ count = "*" }}
sum = {{ sum = "amount" }}
low = {{ min = "amount" }}
mean = {{ mean = "amount" }}
"""


def schema_of(_schema_id: int) -> Schema:
    """The one schema there is."""
    return read_schema(SCHEMA_ID, json.dumps(_SCHEMA))


def planned(update: str) -> TopicPlan:
    """The plan; `update` as kpi.toml spells it."""
    made = plan(parse(f'[defaults]\nupdate = "{update}"\n{_DECLARED}'), TOPIC, [schema_of(SCHEMA_ID)])
    outputs = tuple(Output(output_topic(TOPIC, w), 2 * number + 1, 2 * number + 2) for number, w in enumerate(made.windows))
    return replace(made, outputs=outputs)


@dataclass(frozen=True, slots=True)
class Written:
    """What producers wrote from `begin_ms` on."""

    seed: int
    begin_ms: int

    def end(self, clock_ms: int) -> int:
        """The next offset of every partition then."""
        return max(0, (clock_ms - self.begin_ms) // STEP_MS)

    def message(self, partition: int, offset: int) -> Message:
        """Most are up to 0.9 s out of order; some are late, broken, ahead or nothing."""
        dice = Random(f"{self.seed} {partition} {offset}")
        stamp_ms, kind = self.begin_ms + offset * STEP_MS, dice.random()
        time_ms = stamp_ms - dice.randrange(900)
        if kind < 0.01:
            time_ms -= dice.randrange(3_000, 20_000)
        elif kind < 0.015:
            time_ms += 600_000
        event: Event | None = {
            "event_time": time_ms,
            "shop": dice.choice(SHOPS),
            "amount": dice.choice((None, dice.randrange(-500, 1_000))),
        }
        broken = None
        if 0.015 <= kind < 0.025:
            broken = dice.choice(("malformed", "short", "magic"))
        elif 0.025 <= kind < 0.03:
            event = None
        return Message(partition, offset, stamp_ms, f"{partition}:{offset}".encode(), event, broken)

    def batch(self, partition: int, begin: int, end: int) -> RawBatch:
        """The messages [begin, end) as the broker hands them out."""
        messages = [self.message(partition, offset) for offset in range(begin, end)]
        return batch([(m.key, _value(m), m.timestamp_ms, ()) for m in messages], partition, begin)

    def expected(self, end: int) -> Outcome:
        """What the specification says of the first `end` messages of every partition."""
        polled = {p: [self.message(p, offset) for offset in range(end)] for p in range(PARTITIONS)}
        return oracle.expect(SPEC, [Step(self.begin_ms + (end + 1) * STEP_MS, polled, PARTITIONS)])


def _value(message: Message) -> bytes | None:
    if message.event is None:
        return None
    good = confluent(SCHEMA_ID, _PARSED, message.event)
    match message.broken:
        case "malformed":
            return good[:-1]
        case "short":
            return good[:3]
        case "magic":
            return b"\1" + good[1:]
    return good


def set_aside(outcome: Outcome) -> Counter[tuple[str, str, str]]:
    """What must be set aside, each once: topic, `partition:offset`, reason."""
    kinds = {at: fate.kind for at, fate in outcome.fates.items() if fate.kind not in ("tombstone", "folded", "filtered")}
    return Counter((LATE if kind == "late" else DEAD, f"{p}:{o}", kind) for (p, o), kind in kinds.items())


def books(outcome: Outcome) -> dict[int, dict[str, int]]:
    """How many messages of each partition had which fate."""
    counted: dict[int, Counter[str]] = {partition: Counter() for partition in range(PARTITIONS)}
    for (partition, _), fate in outcome.fates.items():
        counted[partition][fate.kind] += 1
    return {partition: dict(counter) for partition, counter in counted.items()}


def differences(outcome: Outcome, finals: Sequence[dict[str, Any]], aside: Iterable[tuple[str, str, str]]) -> dict[str, int]:
    """How many rows are doubled, lost and wrong, KPIs and what was set aside together."""
    got: dict[oracle.Place, list[dict[str, Any]]] = {}
    for row in finals:
        got.setdefault(place_of(row), []).append(row)
    want = {row.place: row for row in outcome.finals}
    wrong = sum(
        1
        for key, row in want.items()
        for found in got.get(key, [])[:1]
        if found["events"] != row.events or any(not oracle_agrees(value, found[name]) for name, value in row.kpis.items())
    )
    apart, expected = Counter(aside), set_aside(outcome)
    return {
        "doubled": sum(len(rows) - 1 for rows in got.values()) + sum((apart - expected).values()),
        "lost": len(want.keys() - got.keys()) + sum((expected - apart).values()),
        "wrong": wrong + len(got.keys() - want.keys()),
    }


def oracle_agrees(want: object, got: object) -> bool:
    """Integers exactly; a mean of integers to the last but one digit."""
    if isinstance(want, float) and isinstance(got, float):
        return abs(want - got) <= 1e-12 * abs(want)
    return want == got
