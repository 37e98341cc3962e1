"""Runs that Hypothesis draws: schema, messages, and how they were polled. In: draws. Out: runs for the oracle and the flow alike. Pure.

A message is drawn as four small numbers, so that a failing run shrinks to a few messages; its values follow from its own seed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random
from typing import NamedTuple

from hypothesis import strategies as st

from tests.oracle import YEAR_10000_MS, Event, Kpi, Message, Spec, Step, look_up
from tests.oracle_aggregates import Told
from tests.oracle_windows import DAY_MS, Window, floor, tumbling
from tests.shapes import GROUPS, Column, Time, columns, event_of, schema_of, times

BROKEN = ("short", "magic", "schema", "malformed", "range")
KINDS = ("good",) * 14 + ("disorder",) * 6 + ("late",) * 3 + ("brink", "ahead", "future", "impossible", "tombstone", *BROKEN)
SIZES_S = ((10, 60, 300), (10,), (60, 300), (5, 15, 60), (4, 6), (7,), (7, 13), (9, 12, 30), (1,))
HOPS_S = ((10, 5), (60, 20), (12, 4), (5, 1), (7, 3), (10, 4), (9, 6), (30, 20), (61, 60))  # size, hop: some divide, some do not
GAPS_S = (1, 2, 3, 5, 10, 13, 60)
STEPS_S = ((60, 10), (12, 4), (6, 1), (30, 15), (86_400, 3_600))  # of cumulate windows: size, step
CALENDAR_STEPS = (("1d", 3_600), ("1d", 43_200), ("1d", 1_800), ("1w", 86_400), ("1mo", 86_400), ("1w", 21_600))
UNITS = ("1d", "1w", "1mo", "1y")
SWITCHES = (  # zones, and a while before their clocks or calendars do something
    ("Europe/Berlin", "2026-03-28T21:30Z"),  # 23 hours
    ("Europe/Berlin", "2026-10-24T21:30Z"),  # 25 hours
    ("America/New_York", "2026-11-01T03:40Z"),
    ("America/Sao_Paulo", "2017-10-15T02:40Z"),  # no midnight
    ("America/Havana", "2026-11-01T03:30Z"),  # two of them
    ("America/St_Johns", "2006-10-29T02:20Z"),  # back at one minute past midnight
    ("Pacific/Apia", "2011-12-30T09:30Z"),  # a day is left out
    ("Australia/Lord_Howe", "2026-04-04T12:50Z"),  # half an hour
    ("Asia/Kolkata", "2028-02-28T18:10Z"),  # to the leap day, half past the hour
    ("", "2027-12-31T23:40Z"),  # a year, a month and a day end; a week does not
)
NUMBER = ("count", "sum", "mean", "min", "max", "deviation", "first", "last", "quantile", "distinct", "histogram", "increase")
SYMBOL = ("count", "first", "last", "counts", "distinct", "top")
AGGREGATES = {
    "integer": (*NUMBER, "top"),
    "float": NUMBER,
    "decimal": NUMBER,
    "boolean": (*SYMBOL, "share"),
    "enum": (*SYMBOL, "min", "max"),
    "string": ("count", "min", "max", "first", "last", "distinct", "top"),
}
SKETCHES = ("quantile", "distinct", "top", "histogram", "counts")
WHOLE = ("count", "rate", "distinct")  # of any column one number
NUMBERS = ("integer", "float", "decimal")
EDGES = ((0.0,), (-100.0, 0.0, 0.5, 10.0, 500.0), (1e-20, 1.0, 1e9, 1e20), (-1.5, 1.0))
PERCENTILES = {0.0: "p0", 0.25: "p25", 0.5: "p50", 0.95: "p95", 0.99: "p99", 0.999: "p99_9", 1.0: "p100"}


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
    windows: tuple[str, ...] = ("tumbling", "tumbling", "hopping", "session", "cumulate", "calendar")
    aggregates: tuple[str, ...] = ()  # only these; none said: all
    closes: bool = False  # everything, as the run ends idle


GAPS_MS = (0, 0, 1, 500, 1000, 1000, 2000, 3217, 10_000, 45_000)
SLOW_MS = (0, 1, 1000, 60_000, 899_999, 1_800_000, 3_600_000, 21_600_000, 86_400_000)  # for windows of hours and days
ORDERLY = Habit(kinds=("good",), partitions=1, idle_ms=(10**9,), lags_ms=(0, 500), promises=False, windows=("tumbling",))


@st.composite
def runs(draw: st.DrawFn, habit: Habit = Habit()) -> Run:
    """A run with everything that can happen to a topic."""
    time, fields = draw(times()), draw(columns())
    zone, begin = draw(st.sampled_from(SWITCHES))
    spec = draw(_specs(time, fields, habit, zone))
    partitions = draw(st.integers(1, habit.partitions))
    fewest = draw(st.sampled_from(habit.messages))
    slow = spec.slice_ms >= 60_000 or draw(st.sampled_from([False, False, False, True]))
    drafts = draw(st.lists(_drafts(partitions, habit, SLOW_MS if slow else GAPS_MS), min_size=fewest, max_size=fewest + 10))
    switch_ms = int(datetime.fromisoformat(begin).timestamp() * 1000)
    of_calendar = any(window.unit for window in spec.windows)
    base_ms = switch_ms if of_calendar else draw(st.sampled_from([1_760_000_000_000, 1_760_000_003_217, 45_000]))
    messages = list(_messages(spec, time, fields, drafts, base_ms))
    return Run(
        schema=schema_of(time, fields),
        spec=spec,
        time_declared=time.declared,
        steps=tuple(_steps(messages, draw(_plans(spec, partitions, habit, fewest // 6)), base_ms)),
        batch_lengths=tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))),
    )


def in_order() -> st.SearchStrategy[Run]:
    """Runs without disorder, late or broken messages, of one partition: any fold agrees on them. Tumbling windows of seconds."""
    return runs(ORDERLY)


def crowded(seed: int) -> Run:
    """Thousands of events of thousands of values in a few windows: more than a sketch knows one by one."""
    rnd, time = Random(seed), Time("t")
    texts = Column("buyer", "string", "string", lambda rnd: f"b{int(rnd.paretovariate(0.4)) % 20_000}")
    fields = (
        texts,
        Column("cents", "float", "double", lambda rnd: rnd.lognormvariate(0, 30)),
        Column("sold", "integer", "long", lambda rnd: rnd.randrange(-(2**40), 2**40)),
    )
    kpis = (
        Kpi("buyers", "distinct", "buyer"),
        Kpi("amounts", "distinct", "sold"),
        Kpi("most", "top", "buyer", Told(k=5)),
        Kpi("sold", "top", "sold", Told(k=3)),
        *(Kpi(f"cents_{PERCENTILES[q]}", "quantile", "cents", Told(q=q), "cents") for q in (0.0, 0.5, 0.99)),
        Kpi("worth_p50", "quantile", "sold", Told(q=0.5), "worth"),
        Kpi("per", "ratio", "*", Told(parts=("amounts", "buyers"))),
    )
    windows = (*tumbling(60_000, 120_000), Window("hopping", 90_000, 30_000), Window("session", 5_000))
    spec = Spec(windows, kpis, time="t", lateness_ms=1_000)
    stamps = sorted(1_760_000_000_000 + rnd.randrange(150_000) for _ in range(4_000))
    messages = [Message(0, n, at_ms, None, event_of(time, at_ms, fields, rnd)) for n, at_ms in enumerate(stamps)]
    steps = [Step(messages[n + 999].timestamp_ms, {0: messages[n : n + 1_000]}, 1) for n in range(0, 4_000, 1_000)]
    end_ms = stamps[-1] + 400_000
    return Run(schema_of(time, fields), spec, True, (*steps, Step(end_ms, {}, 1, {0: end_ms})), (500,))


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


def _drafts(partitions: int, habit: Habit, gaps_ms: Sequence[int]) -> st.SearchStrategy[Draft]:
    gaps = st.sampled_from(gaps_ms)
    return st.builds(Draft, st.integers(0, partitions - 1), gaps, st.sampled_from(habit.kinds), st.integers(0, 2**16 - 1))


@st.composite
def _windows(draw: st.DrawFn, habit: Habit, zone: str) -> tuple[Window, ...]:
    """One to five windows of mixed kinds; tumbling ones alone also in sizes that often go together."""
    if set(habit.windows) == {"tumbling"} or ("tumbling" in habit.windows and draw(st.integers(0, 4)) == 0):
        sizes_s = draw(st.sampled_from(SIZES_S) | st.lists(st.integers(1, 90), min_size=1, max_size=3, unique=True).map(tuple))
        return tumbling(*(1000 * size for size in sorted(sizes_s)))
    kinds = draw(st.lists(st.sampled_from(habit.windows), min_size=1, max_size=5))
    return tuple(dict.fromkeys(draw(_window(kind, zone)) for kind in kinds))


@st.composite
def _window(draw: st.DrawFn, kind: str, zone: str) -> Window:
    match kind:
        case "tumbling":
            return Window("tumbling", 1000 * draw(st.sampled_from((1, 2, 5, 10, 13, 60, 300))))
        case "hopping":
            size_s, hop_s = draw(st.sampled_from(HOPS_S))
            return Window("hopping", 1000 * size_s, 1000 * hop_s)
        case "session":
            return Window("session", 1000 * draw(st.sampled_from(GAPS_S)))
        case "cumulate":
            size_s, step_s = draw(st.sampled_from(STEPS_S))
            return Window("cumulate", 1000 * size_s, 1000 * step_s)
        case _ if draw(st.booleans()):
            return Window("tumbling", unit=draw(st.sampled_from(UNITS if zone else UNITS[1:])), zone=zone)
        case _:
            unit, step_s = draw(st.sampled_from(CALENDAR_STEPS if zone else CALENDAR_STEPS[3:]))
            return Window("cumulate", 0, 1000 * step_s, unit, zone)


@st.composite
def _kpis(draw: st.DrawFn, fields: Sequence[Column], habit: Habit) -> tuple[Kpi, ...]:
    """Up to eight KPIs, of which some are quantiles, and perhaps some by one another."""
    of: dict[str, list[Column]] = {}
    for column in fields:
        for aggregate in AGGREGATES.get(column.kind, ()):
            of.setdefault(aggregate, []).append(column)
    allowed = sorted(of.keys() & (set(habit.aggregates) or of.keys()))
    measured = st.sampled_from(allowed).flatmap(lambda a: st.tuples(st.sampled_from(of[a]), st.just(a))) if allowed else st.nothing()
    chosen = draw(st.lists(st.sampled_from(["n", "pace"]) | measured, min_size=1, max_size=8, unique=True))
    kpis: list[Kpi] = []
    numbers: list[str] = []
    for one in chosen:
        if isinstance(one, str):
            kpis.append(Kpi(one, "count" if one == "n" else "rate", "*"))
            numbers.append(one)
            continue
        column, aggregate = one
        made = Kpi(f"{column.path}_{aggregate}".replace(".", "_"), aggregate, column.path)
        told = draw(_told(aggregate))
        if aggregate == "quantile":
            kpis += [made._replace(name=f"{made.name}_{PERCENTILES[t.q]}", told=t, family=made.name) for t in told]
            continue
        kpis.append(made._replace(told=told[0]))
        if aggregate in WHOLE or aggregate == "share" or (column.kind in NUMBERS and aggregate not in SKETCHES):
            numbers.append(made.name)
    if numbers and (not habit.aggregates or "ratio" in habit.aggregates):
        pairs = draw(st.lists(st.tuples(st.sampled_from(numbers), st.sampled_from(numbers)), max_size=2))
        kpis += [Kpi(f"per_{number}", "ratio", "*", Told(parts=pair)) for number, pair in enumerate(pairs)]
    return tuple(draw(st.permutations(kpis)))


@st.composite
def _told(draw: st.DrawFn, aggregate: str) -> list[Told]:
    """What else an aggregate is told; of a quantile for each of its family."""
    match aggregate:
        case "quantile":
            return [Told(q=q) for q in draw(st.lists(st.sampled_from(sorted(PERCENTILES)), min_size=1, max_size=3, unique=True))]
        case "top":
            return [Told(k=draw(st.sampled_from([1, 2, 3, 10])))]
        case "histogram":
            return [Told(edges=draw(st.sampled_from(EDGES)))]
        case _:
            return [Told()]


@st.composite
def _specs(draw: st.DrawFn, time: Time, fields: Sequence[Column], habit: Habit, zone: str) -> Spec:
    paths = [c.path for c in fields]
    group_sets = [(), *((path,) for path in GROUPS if path in paths)]
    group_sets += [(a[0], b[0]) for a in group_sets[1:] for b in group_sets[1:] if a < b]
    return Spec(
        windows=draw(_windows(habit, zone)),
        kpis=draw(_kpis(fields, habit)),
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


def longest_ms(windows: Iterable[Window]) -> int:
    """No window is longer than this."""
    days = {"1d": 2, "1w": 8, "1mo": 32, "1y": 367}
    return max(days[window.unit] * DAY_MS if window.unit else window.size_ms for window in windows)


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
    idle_at_last = habit.closes or (habit.promises and draw(st.booleans()))
    return Plan(
        cuts=draw(st.lists(st.builds(Cut, takes, pauses, ends), min_size=polls, max_size=polls + 8)),
        lag_ms=draw(
            st.sampled_from(habit.lags_ms + (-30_000,) * 3 * joins)
        ),  # behind the events: only so a joined one finds its slice closed
        first=draw(st.integers(1, partitions)) if joins else partitions,
        partitions=partitions,
        joins_at=draw(st.integers(1, 6)),
        tail_ms=spec.idle_ms + spec.lateness_ms + longest_ms(spec.windows) if idle_at_last else None,
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
