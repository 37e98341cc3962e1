"""The specification by brute force: what a flow must say of a run. In: one topic, step by step. Out: fates, watermarks, rows. Pure.

Plain Python and exact arithmetic, no speed, nothing shared with `flows`.
The words are those of docs/time.md; tests/test_oracle.py holds it by hand-worked examples.

The order inside a step: partitions join, messages are judged, ends are seen, idle partitions promise, the watermark moves, windows close.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from typing import NamedTuple

from tests.oracle_aggregates import NOTHING, Expected, Measured, Told, measured, ratio, result
from tests.oracle_windows import Window, closes_next, floor, sessions, slice_length, stretches

NEVER = -(2**80)
"""The watermark of a partition not heard of yet: minus infinity, in ms."""

YEAR_10000_MS = 253_402_300_800_000
OTHER = "__other__"
KIB = 1024

Event = Mapping[str, object]


class Message(NamedTuple):
    """A message as it was read. `event` holds plain values: times as integers in the field's own unit, enums as str."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    event: Event | None  # None: a tombstone, if nothing is broken
    broken: str | None = None  # "short", "magic", "schema", "malformed" or "range": then `event` is what it would have been


@dataclass(frozen=True, slots=True)
class Step:
    """One poll of one topic: everything happens at one reading of the clock."""

    clock_ms: int
    polled: Mapping[int, Sequence[Message]]  # partition -> messages in offset order
    partitions: int  # count in the topic's metadata
    end_seen: Mapping[int, int] = field(default_factory=dict)  # partition -> when its end was asked for that is read, after their messages


class Kpi(NamedTuple):
    """One KPI: `field` is a dotted path, or "*" for count, rate and ratio. Quantiles of one `family` are declared together."""

    name: str
    aggregate: str
    field: str
    told: Told = NOTHING
    family: str = ""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is asked of a topic. `time` None: the Kafka timestamp is the event time."""

    windows: tuple[Window, ...]
    kpis: tuple[Kpi, ...]
    time: str | None = "t"
    time_unit_ns: int = 1_000_000
    lateness_ms: int = 10_000
    idle_ms: int = 15_000
    max_future_ms: int = 300_000
    group_sets: tuple[tuple[str, ...], ...] = ((),)
    where: Callable[[Event], bool | None] | None = None
    max_groups: int = 10_000  # of a window and group set that have rows of their own
    shards: int = 1  # they share the limit

    @property
    def slice_ms(self) -> int:
        """Slice length g, in ms."""
        return slice_length(self.windows)


class Fate(NamedTuple):
    """What became of a message: exactly one of tombstone, short, magic, schema, malformed, range, time, future, late, filtered, folded."""

    kind: str
    cause: str | None = None  # of a late one: "data", "idle", "joined" or "closed"


@dataclass(frozen=True, slots=True)
class Row:
    """KPIs of one group in one window. An open one is what a provisional row would show at the end of the run, but for the rest."""

    window: Window
    start_ms: int
    end_ms: int
    group_set: tuple[str, ...]
    group: tuple[str | None, ...]
    events: int
    kpis: Mapping[str, Expected]
    slack: Mapping[str, float]  # by how much a float may miss, whatever its size (see oracle_aggregates.FLOOR)
    closed_by: str | None = None  # "data" or "idle"; None while open
    closed_step: int | None = None

    @property
    def final(self) -> bool:
        """Whether its window has closed."""
        return self.closed_step is not None

    @property
    def place(self) -> "Place":
        """Its window and group."""
        return self.window.label, self.start_ms, self.end_ms, self.group_set, self.group

    @property
    def rest(self) -> bool:
        """Whether it is of the groups over the limit."""
        return _is_rest(self.group)


Groups = tuple[tuple[str, ...], tuple[str | None, ...]]  # group set, group
Place = tuple[str, int, int, tuple[str, ...], tuple[str | None, ...]]  # window's label, start, end, group set, group


@dataclass(slots=True)
class Outcome:
    """Everything that a run must result in."""

    fates: dict[tuple[int, int], Fate] = field(default_factory=dict)  # (partition, offset) -> fate
    watermarks: list[int | None] = field(default_factory=list)  # W after each step; None: minus infinity
    finals: list[Row] = field(default_factory=list)
    open: list[Row] = field(default_factory=list)
    told: list[Row] = field(default_factory=list)  # of the open ones those that have a provisional row when the run is over
    perhaps: list[Row] = field(default_factory=list)  # and those that may have one
    over: set[Place] = field(default_factory=set)  # windows and groups that ended in the rest: they may have had provisional rows


@dataclass(slots=True)
class _Partition:
    """W_p in its three parts: what the events say, and the promises of joining and of being idle."""

    moved_ms: int
    joined: int = NEVER
    idle: int = NEVER
    data: int = NEVER

    @property
    def watermark(self) -> int:
        return max(self.data, self.joined, self.idle)

    def too_late(self, end_ms: int) -> str | None:
        """Why a message whose slice ends then is late, None if it is not: end of its slice <= W_p before it."""
        for cause, watermark in (("data", self.data), ("joined", self.joined), ("idle", self.idle)):
            if end_ms <= watermark:
                return cause
        return None

    def hear(self, watermark: int, clock_ms: int) -> None:
        """An event moves W_p, or does not. Whatever moves it starts the wait for idle anew."""
        if watermark > self.watermark:
            self.moved_ms = clock_ms
        self.data = max(self.data, watermark)


class _Folded(NamedTuple):
    time_ms: int
    partition: int
    offset: int
    step: int
    event: Event


def look_up(event: Event, path: str) -> object:
    """The value at a dotted path; None below a null record."""
    value: object = event
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value[name]
    return value


def event_time(spec: Spec, message: Message) -> int | None:
    """Event time in ms, floored; None when it is missing, negative or beyond the year 9999."""
    if spec.time is None:
        time_ms: object = message.timestamp_ms
    else:
        raw = look_up(message.event or {}, spec.time)
        time_ms = raw * spec.time_unit_ns // 1_000_000 if isinstance(raw, int) else None
    return time_ms if isinstance(time_ms, int) and 0 <= time_ms < YEAR_10000_MS else None


def _judge(  # noqa: PLR0911 - a fate a return
    spec: Spec, message: Message, clock_ms: int, partition: _Partition, closed_ms: int
) -> tuple[Fate, int]:
    """The first fate that applies, and the event time (0 where there is none). Whatever passes `future` moves the partition."""
    if message.broken or message.event is None:
        return Fate(message.broken or "tombstone"), 0
    time_ms = event_time(spec, message)
    if time_ms is None:
        return Fate("time"), 0
    if time_ms > min(message.timestamp_ms, clock_ms) + spec.max_future_ms:
        return Fate("future"), time_ms
    end_ms = floor(time_ms, spec.slice_ms) + spec.slice_ms
    cause = partition.too_late(end_ms)
    partition.hear(time_ms - spec.lateness_ms, clock_ms)
    if cause:
        return Fate("late", cause), time_ms
    if spec.where is not None and spec.where(message.event) is not True:
        return Fate("filtered"), time_ms
    if end_ms <= closed_ms:
        return Fate("late", "closed"), time_ms
    return Fate("folded"), time_ms


def expect(spec: Spec, steps: Sequence[Step]) -> Outcome:
    """What a flow must say of these steps."""
    outcome = Outcome()
    folded: list[_Folded] = []
    partitions: dict[int, _Partition] = {}
    watermark = data_watermark = NEVER  # with promises, and without
    history: list[tuple[int, int]] = []  # C after each step, with promises and without
    for number, step in enumerate(steps):
        for new in range(len(partitions), step.partitions):
            partitions[new] = _Partition(step.clock_ms, NEVER if number == 0 else step.clock_ms - spec.lateness_ms)
        closed_ms = floor(watermark, spec.slice_ms)
        for index, messages in sorted(step.polled.items()):
            for message in messages:
                fate, time_ms = _judge(spec, message, step.clock_ms, partitions[index], closed_ms)
                outcome.fates[index, message.offset] = fate
                if fate.kind == "folded" and message.event is not None:
                    folded.append(_Folded(time_ms, message.partition, message.offset, number, message.event))
        for index, asked_ms in step.end_seen.items():
            if asked_ms - partitions[index].moved_ms >= spec.idle_ms:
                partitions[index].idle = max(partitions[index].idle, asked_ms - spec.lateness_ms)
        watermark = max(watermark, min(p.watermark for p in partitions.values()))
        data_watermark = max(data_watermark, min(p.data for p in partitions.values()))
        history.append((floor(watermark, spec.slice_ms), floor(data_watermark, spec.slice_ms)))
        outcome.watermarks.append(None if watermark == NEVER else watermark)
    for window in spec.windows:
        _tell(spec, window, folded, history, outcome)
    return outcome


def _tell(spec: Spec, window: Window, folded: Sequence[_Folded], history: Sequence[tuple[int, int]], outcome: Outcome) -> None:
    """The rows of one window: final, open, and those that have provisional rows when the run is over."""
    if window.kind == "session":
        places = _sessions(spec, window, folded)
    else:
        places = _windows(spec, window, folded)
        over = _over(spec, places)
        outcome.over |= over
        places = _limited(places, over)
    next_ms = _next(window, history)
    for row, members in _rows(spec, window, places, history):
        (outcome.finals if row.final else outcome.open).append(row)
        if row.final or row.rest or window.kind == "session":  # a session's end moves, so that it is told once, when it is over
            continue
        if not window.step_ms or any(one.step and next_ms[one.step - 1] == row.end_ms for one in members):
            outcome.told.append(row)
        elif next_ms[-1] == row.end_ms:  # it became the next one when all was there: whether it is told is a matter of time
            outcome.perhaps.append(row)


def _next(window: Window, history: Sequence[tuple[int, int]]) -> list[int]:
    """The end of the window that closes next, after each step: of those that overlap only this one has provisional rows."""
    return [closes_next(window, closed_ms) if window.step_ms and closed_ms > NEVER else NEVER for closed_ms, _ in history]


def _windows(spec: Spec, window: Window, folded: Iterable[_Folded]) -> dict[Place, list[_Folded]]:
    """The events of every window and group, as if there were no limit."""
    places: dict[Place, list[_Folded]] = {}
    for one in folded:
        held = stretches(window, one.time_ms, spec.slice_ms)
        for groups in _groups(spec, one.event):
            for start_ms, end_ms in held:
                places.setdefault((window.label, start_ms, end_ms, *groups), []).append(one)
    return places


def _sessions(spec: Spec, window: Window, folded: Iterable[_Folded]) -> dict[Place, list[_Folded]]:
    """The events of every session and group: the limit holds for each slice, and who is over it there is of the rest in that slice."""
    length_ms = spec.slice_ms
    slices: dict[Place, list[_Folded]] = {}
    for one in folded:
        start_ms = floor(one.time_ms, length_ms)
        for groups in _groups(spec, one.event):
            slices.setdefault((window.label, start_ms, start_ms + length_ms, *groups), []).append(one)
    streams: dict[Groups, list[_Folded]] = {}
    for place, members in _limited(slices, _over(spec, slices)).items():
        streams.setdefault(place[3:], []).extend(members)
    return {
        (window.label, session[0].time_ms, session[-1].time_ms + window.size_ms, *groups): session
        for groups, stream in streams.items()
        for session in sessions(stream, lambda one: one.time_ms, window.size_ms)
    }


def _groups(spec: Spec, event: Event) -> list[Groups]:
    return [(group_set, tuple(_text(look_up(event, path)) for path in group_set)) for group_set in spec.group_sets]


def _is_rest(group: Sequence[str | None]) -> bool:
    return bool(group) and all(value == OTHER for value in group)


def _over(spec: Spec, windows: Iterable[Place]) -> set[Place]:
    """Those beyond the limit: in each window and shard, all but the first by crc32 (then by value, null before any text)."""
    shards: dict[tuple[object, ...], list[Place]] = {}
    for place in windows:
        *stretch, group_set, group = place
        if group_set and not _is_rest(group):
            shards.setdefault((*stretch, group_set, _crc32(group) % spec.shards), []).append(place)
    kept = max(1, spec.max_groups // spec.shards)
    return {place for places in shards.values() for place in sorted(places, key=lambda place: _order(place[-1]))[kept:]}


def _limited(windows: Mapping[Place, list[_Folded]], over: set[Place]) -> dict[Place, list[_Folded]]:
    """Events of groups over the limit as one group more, which those join that have its name."""
    limited: dict[Place, list[_Folded]] = {}
    for place, members in windows.items():
        to = (*place[:-1], (OTHER,) * len(place[-1])) if place in over else place
        limited.setdefault(to, []).extend(members)
    return limited


def _crc32(group: Sequence[str | None]) -> int:
    """Of the values in UTF-8 with a unit separator between them, null spelled as NUL."""
    return zlib.crc32(b"\x1f".join(b"\0" if value is None else value.encode() for value in group))


def _order(group: Sequence[str | None]) -> tuple[object, ...]:
    return (_crc32(group), *((value is not None, (value or "").encode()) for value in group))


def _rows(
    spec: Spec, window: Window, places: Mapping[Place, Sequence[_Folded]], history: Sequence[tuple[int, int]]
) -> Iterable[tuple[Row, Sequence[_Folded]]]:
    """Every row of every window, and its events: all at once, each window closed at the first step with end <= C."""
    for (_, start_ms, end_ms, group_set, group), members in places.items():
        closed_step = next((n for n, (closed_ms, _) in enumerate(history) if end_ms <= closed_ms), None)
        closed_by = None
        if closed_step is not None:
            assert all(one.step <= closed_step for one in members), "an event was folded into a closed window"
            closed_by = "data" if end_ms <= history[closed_step][1] else "idle"
        ordered = [one.event for one in sorted(members, key=lambda one: one[:3])]
        kpis, slack = kpis_of(spec, ordered, end_ms - start_ms, rest=_is_rest(group))
        yield Row(window, start_ms, end_ms, group_set, group, len(members), kpis, slack, closed_by, closed_step), members


def kpis_of(spec: Spec, events: Sequence[Event], length_ms: int, *, rest: bool = False) -> tuple[dict[str, Expected], dict[str, float]]:
    """All KPIs of these events, in order of (event time, partition, offset), and the slack of each. A rest is no counter."""
    found: dict[str, tuple[Expected, float]] = {}
    for kpi in sorted(spec.kpis, key=lambda kpi: kpi.aggregate == "ratio"):  # which needs the others
        if kpi.aggregate == "ratio":
            above, below = kpi.told.parts
            found[kpi.name] = ratio(found[above], found[below])
            continue
        values = [_value(look_up(event, kpi.field)) for event in events] if kpi.field != "*" else []
        counted = len(events) if kpi.field == "*" else len(measured(values))
        of_rest = rest and kpi.aggregate == "increase"
        found[kpi.name] = (None, 0.0) if of_rest else result(kpi.aggregate, values, counted, length_ms, kpi.told)
    return {name: value for name, (value, _) in found.items()}, {name: slack for name, (_, slack) in found.items()}


def _text(value: object) -> str | None:
    """A group value as the key spells it; null stays null, so that it is a group of its own. Over 1 KiB: cut, with a hash of the whole."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, time):  # as many digits behind the second as it needs: none, three or six
        return value.isoformat("microseconds" if value.microsecond % 1000 else "milliseconds" if value.microsecond else "seconds")
    if value is None or len(str(value).encode()) <= KIB:
        return None if value is None else str(value)
    text = str(value)
    head = max((text[:n] for n in range(KIB + 1) if len(text[:n].encode()) <= KIB), key=len)
    return head + "…" + hashlib.sha256(text.encode()).hexdigest()[:32]


def _value(value: object) -> Measured:
    assert value is None or isinstance(value, Measured), f"{value!r} cannot be measured"
    return value
