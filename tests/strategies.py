"""Runs that Hypothesis draws: schema, messages, and how they were polled. In: draws. Out: runs for the oracle and the flow alike. Pure.

A message is drawn as four small numbers, so that a failing run shrinks to a few messages; its values follow from its own seed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

from hypothesis import strategies as st

from tests.oracle import YEAR_10000_MS, Event, Kpi, Message, Spec, Step, floor, look_up
from tests.shapes import GROUPS, Column, Time, columns, event_of, schema_of, times

BROKEN = ("short", "magic", "schema", "malformed", "range")
KINDS = ("good",) * 14 + ("disorder",) * 6 + ("late",) * 3 + ("brink", "ahead", "future", "impossible", "tombstone", *BROKEN)
SIZES_S = ((10, 60, 300), (10,), (60, 300), (5, 15, 60), (4, 6), (7,), (7, 13), (9, 12, 30), (1,))
NUMBER = ("sum", "mean", "min", "max", "deviation")
AGGREGATES = {"integer": NUMBER, "float": NUMBER, "decimal": NUMBER, "boolean": ("share",)}


@dataclass(frozen=True, slots=True)
class Run:
    """A run of one topic: what is declared, and what was polled when."""

    schema: dict[str, object]
    spec: Spec
    time_declared: bool
    steps: tuple[Step, ...]
    batch_lengths: tuple[int, ...]  # messages a record batch, in turn
    schema_id: int = 7

    @property
    def messages(self) -> list[Message]:
        """Every message, by partition and offset."""
        return sorted((m for step in self.steps for polled in step.polled.values() for m in polled), key=lambda m: m[:2])


@dataclass(frozen=True, slots=True)
class Where:
    """A condition in SQL and in Python: null is not true."""

    sql: str
    path: str
    holds: Callable[[object], bool] = field(repr=False)

    def __call__(self, event: Event) -> bool:
        """Whether the event counts."""
        value = look_up(event, self.path)
        return value is not None and self.holds(value)


WHERES = (
    Where("city <> 'TEST'", "city", lambda v: v != "TEST"),
    Where("channel = 'WEB'", "channel", lambda v: v == "WEB"),
    Where("channel IN ('WEB', 'APP')", "channel", lambda v: v in ("WEB", "APP")),
    Where("paid", "paid", bool),
    Where("quantity > 0", "quantity", lambda v: isinstance(v, int) and v > 0),
    Where("quantity BETWEEN -100 AND 500", "quantity", lambda v: isinstance(v, int) and -100 <= v <= 500),
    Where("total IS NOT NULL", "total", lambda _: True),
)


class Draft(NamedTuple):
    """A message before it has a time: how long after the one before it arrived, and what is wrong with it."""

    partition: int
    gap_ms: int
    kind: str
    seed: int


class Cut(NamedTuple):
    """A poll before it has a clock: how many messages of each partition, how long after the one before, which ends were seen."""

    takes: tuple[int, int, int, int]
    pause_ms: int
    ends: int  # a bit a partition


@dataclass(frozen=True, slots=True)
class Habit:
    """What runs look like. The defaults: everything that can happen."""

    kinds: tuple[str, ...] = KINDS
    partitions: int = 4
    idle_ms: tuple[int, ...] = (1000, 5000, 15_000, 3_600_000)
    lags_ms: tuple[int, ...] = (0, 0, 500, 600_000, -30_000)  # read clock minus the newest Kafka timestamp
    messages: tuple[int, ...] = (0, 5, 20, 40, 60)  # at least, and up to ten more
    promises: bool = True  # partitions join, and the run may end idle


ORDERLY = Habit(kinds=("good",), partitions=1, idle_ms=(10**9,), lags_ms=(0, 500), promises=False)


@st.composite
def runs(draw: st.DrawFn, habit: Habit = Habit()) -> Run:
    """A run with everything that can happen to a topic."""
    time, fields = draw(times()), draw(columns())
    spec = draw(_specs(time, fields, habit))
    partitions = draw(st.integers(1, habit.partitions))
    fewest = draw(st.sampled_from(habit.messages))
    drafts = draw(st.lists(_drafts(partitions, habit), min_size=fewest, max_size=fewest + 10))
    base_ms = draw(st.sampled_from([1_760_000_000_000, 1_760_000_003_217, 45_000]))
    messages = list(_messages(spec, time, fields, drafts, base_ms))
    return Run(
        schema=schema_of(time, fields),
        spec=spec,
        time_declared=time.declared,
        steps=tuple(_steps(messages, draw(_plans(spec, partitions, habit, fewest // 6)), base_ms)),
        batch_lengths=tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))),
    )


def in_order() -> st.SearchStrategy[Run]:
    """Runs without disorder, late or broken messages, of one partition: any fold agrees on them."""
    return runs(ORDERLY)


@st.composite
def rearranged(draw: st.DrawFn, run: Run) -> Run:
    """The same messages in other polls, batches and interleavings, read after all of them were written: nobody promises or joins.

    Two of them differ in nothing that may matter: every message has the same fate in both (but for the cause `closed`, which cannot occur).
    """
    messages = run.messages
    partitions = max((step.partitions for step in run.steps), default=1)
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    clock_ms = max((m.timestamp_ms for m in messages), default=0)
    cuts = draw(st.lists(st.tuples(st.integers(0, partitions - 1), st.integers(1, 9)), max_size=30))
    queues = {p: [m for m in messages if m.partition == p] for p in range(partitions)}
    steps = []
    for partition, take in cuts:
        polled, queues[partition] = queues[partition][:take], queues[partition][take:]
        steps.append(Step(clock_ms, {partition: polled}, partitions))
    rest = [Step(clock_ms, {p: queues[p]}, partitions) for p in draw(st.permutations(range(partitions)))]
    return replace(run, steps=tuple(steps + rest), batch_lengths=tuple(lengths))


def _drafts(partitions: int, habit: Habit) -> st.SearchStrategy[Draft]:
    gaps = st.sampled_from([0, 0, 1, 500, 1000, 1000, 2000, 3217, 10_000, 45_000])
    return st.builds(Draft, st.integers(0, partitions - 1), gaps, st.sampled_from(habit.kinds), st.integers(0, 2**16 - 1))


@st.composite
def _specs(draw: st.DrawFn, time: Time, fields: Sequence[Column], habit: Habit) -> Spec:
    measured = [Kpi(f"{c.path}_{a}".replace(".", "_"), a, c.path) for c in fields for a in AGGREGATES.get(c.kind, ())]
    choice = [Kpi("n", "count", "*"), Kpi("pace", "rate", "*"), *measured]
    paths = [c.path for c in fields]
    group_sets = [(), *((path,) for path in GROUPS if path in paths)]
    group_sets += [(a[0], b[0]) for a in group_sets[1:] for b in group_sets[1:] if a < b]
    sizes_s = draw(st.sampled_from(SIZES_S) | st.lists(st.integers(1, 90), min_size=1, max_size=3, unique=True).map(tuple))
    return Spec(
        sizes_ms=tuple(1000 * size for size in sorted(sizes_s)),
        kpis=tuple(draw(st.lists(st.sampled_from(choice), min_size=1, max_size=8, unique=True))),
        time=time.path,
        time_unit_ns=time.unit_ns,
        lateness_ms=1000 * draw(st.sampled_from([0, 1, 2, 5, 10]) | st.integers(0, 30)),
        idle_ms=draw(st.sampled_from(habit.idle_ms)),
        max_future_ms=draw(st.sampled_from([0, 1000, 60_000, 300_000])),
        group_sets=tuple(draw(st.lists(st.sampled_from(group_sets), min_size=1, max_size=3, unique=True))),
        where=draw(st.sampled_from([None, None, *(w for w in WHERES if w.path in paths)])),
        max_groups=draw(st.sampled_from([10_000, 10_000, 1, 2, 3, 5, 8])),
    )


def _messages(spec: Spec, time: Time, fields: Sequence[Column], drafts: Iterable[Draft], base_ms: int) -> Iterable[Message]:
    """The drafts as messages, in the order in which they were written."""
    now_ms = base_ms
    offsets = {partition: 3 * partition for partition in range(4)}
    measured = {kpi.field for kpi in spec.kpis}
    for draft in drafts:
        rnd = Random(draft.seed)
        now_ms += draft.gap_ms
        time_ms = max(0, now_ms + _shift(spec, draft.kind, now_ms, rnd))
        raw = _raw(time, time_ms, draft.kind, rnd)
        kind = draft.kind
        if kind == "range" and "price" not in measured:  # a decimal that nobody reads does no harm
            kind = "good"
        yield Message(
            partition=draft.partition,
            offset=offsets[draft.partition],
            timestamp_ms=now_ms if time.path else time_ms,
            key=None if rnd.random() < 0.1 else str(draft.seed % 5).encode(),
            event=None if kind == "tombstone" else event_of(time, raw, fields, rnd),
            broken=kind if kind in BROKEN else None,
        )
        offsets[draft.partition] += 1


def _shift(spec: Spec, kind: str, now_ms: int, rnd: Random) -> int:
    """Event time minus time of writing."""
    match kind:
        case "disorder":
            return -rnd.randint(0, spec.lateness_ms + spec.slice_ms)
        case "late":
            return -spec.lateness_ms - rnd.randint(0, 60_000)
        case "brink":  # on the edge of a slice, or just before it
            return floor(now_ms, spec.slice_ms) - now_ms - spec.lateness_ms - rnd.randint(0, 1)
        case "ahead":
            return rnd.randint(0, spec.max_future_ms)
        case "future":
            return spec.max_future_ms + rnd.choice((0, 1, 2, 10**6, 10**13))
        case _:
            return 0


def _raw(time: Time, time_ms: int, kind: str, rnd: Random) -> int | None:
    """The field of event time, in its own unit, as far as a long can hold it."""
    if kind == "impossible":
        return rnd.choice(
            [-1, -(2**62), 2**62, 2**63 - 1, min(2**63 - 1, YEAR_10000_MS * 1_000_000 // time.unit_ns), *([None] * time.nullable)]
        )
    return min(2**63 - 1, time.raw(time_ms, rnd))


class Plan(NamedTuple):
    """How the topic is polled."""

    cuts: Sequence[Cut]
    lag_ms: int
    first: int  # partitions in the metadata before any joins
    partitions: int
    joins_at: int  # the step at which the others join
    tail_ms: int | None  # how long the run stays idle at its end
    ago_ms: int  # how long before it was reached an end was asked for


@st.composite
def _plans(draw: st.DrawFn, spec: Spec, partitions: int, habit: Habit, polls: int) -> Plan:
    takes = st.tuples(*[st.integers(0, 6)] * 4)
    pauses = st.sampled_from([0, 0, 0, 100, 1000, 5000, 20_000, 60_000])
    ends = st.sampled_from([0, 0, 15, 15]) | st.integers(0, 15)
    joins = habit.promises and draw(st.booleans())
    return Plan(
        cuts=draw(st.lists(st.builds(Cut, takes, pauses, ends), min_size=polls, max_size=polls + 8)),
        lag_ms=draw(
            st.sampled_from(habit.lags_ms + (-30_000,) * 3 * joins)
        ),  # behind the events: only so a joined one finds its slice closed
        first=draw(st.integers(1, partitions)) if joins else partitions,
        partitions=partitions,
        joins_at=draw(st.integers(1, 6)),
        tail_ms=spec.idle_ms + spec.lateness_ms + max(spec.sizes_ms) if habit.promises and draw(st.booleans()) else None,
        ago_ms=draw(st.sampled_from([0, 0, 0, 1, 1000, 20_000])),
    )


def _steps(messages: Sequence[Message], plan: Plan, base_ms: int) -> Iterable[Step]:
    """The messages cut into polls: each partition in order, the clock never going back, everything read at last."""
    queues = {p: [m for m in messages if m.partition == p] for p in range(plan.partitions)}
    clock_ms = max(0, base_ms + plan.lag_ms)
    rest = Cut((len(messages),) * 4, 0, 0)
    for number, cut in enumerate([*plan.cuts, rest, rest]):  # two, so that the others join before the last
        partitions = plan.partitions if number >= min(plan.joins_at, len(plan.cuts) + 1) else plan.first
        polled: Mapping[int, Sequence[Message]] = {p: queues[p][: cut.takes[p]] for p in range(partitions) if queues[p][: cut.takes[p]]}
        queues |= {p: queues[p][len(taken) :] for p, taken in polled.items()}
        newest_ms = max((m.timestamp_ms for taken in polled.values() for m in taken), default=clock_ms)
        clock_ms = max(clock_ms, newest_ms + plan.lag_ms if polled else clock_ms) + cut.pause_ms
        asked_ms = max(0, clock_ms - plan.ago_ms)
        yield Step(clock_ms, polled, partitions, {p: asked_ms for p in range(partitions) if cut.ends >> p & 1})
    if plan.tail_ms is not None:
        yield Step(clock_ms + plan.tail_ms, {}, plan.partitions, dict.fromkeys(range(plan.partitions), clock_ms + plan.tail_ms))
