"""What is measured against what, and how it is told. In: results. Out: docs/scale.md. Pure.

Each curve turns one thing and leaves the rest as in BASE. What bends a curve is said beside it, and only where it was looked into.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.figures import EVENTS_A_SECOND

MANY = 4.0  # times as many events as other curves have, where what is compared would take a second or two else
LONG_S = 2.0  # a shorter run is over, but for the wait for its last epoch, before a quarter of it is seen
SIZES = ("10s", "1m", "5m", "20s", "30s", "2m", "10m", "15m", "20m", "30m", "45m", "1h")  # the first three are those of BASE


@dataclass(frozen=True, slots=True)
class Point:
    """One thing to measure: what is in the topics, and how the flow reads them."""

    x: float
    label: str
    events: float = 1.0  # of those that are asked for
    groups: int = 1_000
    partitions: int = 4
    topics: int = 1
    padding: int = 0
    a_second: int = EVENTS_A_SECOND
    windows: tuple[str, ...] = ("10s", "1m", "5m")
    workers: int = 1
    processes: int = 1
    readers: int = 4
    shards: int = 1

    @property
    def filled(self) -> tuple[float, int, int, int, int, int]:
        """Points that have this in common read the same topics."""
        return self.events, self.groups, self.partitions, self.topics, self.padding, self.a_second


BASE = Point(0, "base")


@dataclass(frozen=True, slots=True)
class Curve:
    """Points that differ in one thing. `figures`: the columns of its table, name -> key of a result and its format."""

    title: str
    axis: str
    points: tuple[Point, ...]
    why: str
    figures: Mapping[str, tuple[str, str]]
    log: bool = True


COST = {
    "events/s": ("rate", ",.0f"),
    "after the first quarter": ("later_rate", ",.0f"),
    "at the very first start": ("first_rate", ",.0f"),
    "CPU s a million events": ("cpu_s", ".2f"),
    "peak MB": ("peak_mb", ",.0f"),
    "final rows": ("rows", ",.0f"),
}
STATE = {
    "groups in open slices": ("open_groups", ",.0f"),
    "snapshot MB": ("snapshot_mb", ".2f"),
    "snapshot s": ("snapshot_s", ".3f"),
    "epoch s": ("epoch_s", ".2f"),
    "recovery directory MB": ("stored_mb", ".1f"),
    "s until it is up": ("page_s", ".1f"),
    "s until the first message": ("recovery_s", ".1f"),
}


def _turned(values: Sequence[int], turn: Callable[[Point, int], Point]) -> tuple[Point, ...]:
    return tuple(replace(turn(BASE, value), x=value, label=f"{value:,}") for value in values)


def _groups(*values: int, a_second: int = EVENTS_A_SECOND) -> tuple[Point, ...]:
    return _turned(values, lambda point, value: replace(point, groups=value, a_second=a_second))


FEW_EVENTS = """A run begins and ends with things that do not grow: the first frames, the plan of the topic (its KPI topics, and two
schemas for each window size), and the last rows, which become visible with the commit that follows their epoch of a second. The more
events, the less of that falls on each."""
MANY_GROUPS = """A slice and group is one row, however many events it has, and what happens to rows costs more than what happens to
events. Of 100,000 groups, with 5,000 events a second, a window of 10 s sees half an event each: there is nearly a row for each event, and
every row is merged, encoded and written in each size."""
DENSE_GROUPS = """The same, twenty times as dense: now a window of 10 s sees ten events of each of 100,000 groups, and there is a row for
eight events in all. So what costs is rows, not groups."""
MORE_SHARDS = """As before, but with `shards = 4`: each takes a quarter of the groups. With one worker there is nothing to share, so what
differs is what small tables cost, by the piece, and chance. (See [scaling.md](scaling.md#readers-and-shards).)"""
MANY_SIZES = """A size costs its rows: it is merged from the next smaller one that divides it, never from events. The large sizes have few
windows in this stretch of event time, and add little."""
MANY_PARTITIONS = """A frame holds all partitions of a topic that its reader has, so more of them make no more frames. Each is judged by
itself, as lateness is a partition's own: sixteen in a frame of 4,800 events cost at most 0.9 ms more than one, in one process without a
broker. The batches become smaller, as each partition gets a smaller part of the events."""
MANY_TOPICS = """A frame is of one topic, and one of 100 events takes 1.5 ms of CPU (decoded and judged 0.9, sliced 0.5, folded 0.1: in one
process without a broker), as much as 3,500 events of a large frame. Partitions of a topic are spread over four readers, so of N topics
there are at least 4 N frames: the fewer events a topic has, the more of that falls on each.
The very first start costs too: for each window size of a topic a KPI topic is made and two schemas registered, eight topics at a time."""
ONE_READER = """As before, but with `readers = 1` declared: all partitions of a topic are in one frame. A single topic is read by one thread
then, not by four; many topics share the readers out by themselves. (See [scaling.md](scaling.md#readers-and-shards).)"""
LARGE_MESSAGES = """Every byte is received, checked, unpacked and looked at, also that of fields which no KPI reads (here texts of 50
bytes): a text that is none makes its message malformed. Memory is what costs: pages that come and go, and copies on the way. Kafka's client
takes 4 kB at a time from its socket."""
MORE_WORKERS = """Two cores are all there are here, and the broker needs some of one. A thread more shares Python's lock with the others, a
second process pays for what crosses from one to the other; what either wins is what the first leaves idle. See
[scaling.md](scaling.md) for what more cores are expected to give."""

CURVES = {
    "events": Curve(
        "Events",
        "events, as a part of those asked for",
        tuple(replace(BASE, x=part, label=f"{part:.1%}", events=part) for part in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)),
        FEW_EVENTS,
        COST,
    ),
    "groups": Curve("Groups", "groups", _groups(1, 10, 100, 1_000, 10_000, 100_000), MANY_GROUPS, COST),
    "dense": Curve(
        "Groups of a dense stream",
        "groups, with 100,000 events a second of event time",
        tuple(replace(point, events=MANY) for point in _groups(1_000, 10_000, 100_000, a_second=100_000)),
        DENSE_GROUPS,
        COST,
    ),
    "shards": Curve(
        "Groups of a dense stream in four shards",
        "groups, with 100,000 events a second of event time",
        tuple(replace(point, events=MANY, shards=4) for point in _groups(1_000, 10_000, 100_000, a_second=100_000)),
        MORE_SHARDS,
        COST,
    ),
    "windows": Curve(
        "Window sizes",
        "window sizes (10s, 1m, 5m, then 20s, 30s, 2m, 10m, 15m, 20m, 30m, 45m, 1h)",
        tuple(replace(BASE, x=count, label=f"{count}", windows=SIZES[:count], events=MANY) for count in (1, 2, 3, 4, 6, 8, 12)),
        MANY_SIZES,
        COST,
        log=False,
    ),
    "partitions": Curve(
        "Partitions", "partitions", _turned((1, 4, 16, 64), lambda point, value: replace(point, partitions=value)), MANY_PARTITIONS, COST
    ),
    "topics": Curve(
        "Topics",
        "topics",
        _turned((1, 5, 20, 50), lambda point, value: replace(point, topics=value, events=MANY)),
        MANY_TOPICS,
        COST,
    ),
    "readers": Curve(
        "Topics with one reader each",
        "topics, each read by one reader",
        tuple(replace(point, events=MANY, readers=1) for point in _turned((1, 5, 20, 50), lambda it, value: replace(it, topics=value))),
        ONE_READER,
        COST,
    ),
    "size": Curve(
        "Message size",
        "bytes a message",
        tuple(replace(BASE, x=size, label=f"{size:,}", padding=size - 35) for size in (35, 100, 300, 1_000)),
        LARGE_MESSAGES,
        COST,
    ),
    "workers": Curve(
        "Workers",
        "workers",
        (
            replace(BASE, x=1, label="1 thread", events=MANY),
            replace(BASE, x=2, label="2 threads", workers=2, events=MANY),
            replace(BASE, x=3, label="2 processes", processes=2, events=MANY),
        ),
        MORE_WORKERS,
        COST,
        log=False,
    ),
    "state": Curve("State", "groups", _groups(1, 1_000, 10_000, 30_000, 100_000), "", STATE),
}


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure that all rounds have."""
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0] if all(key in one for one in rounds)}


HEAD = """# What it costs, against one thing at a time

Made by `{command}` on {date}; do not edit. Medians of {rounds} round(s); {cores} cores, shared with the broker.

Unless a curve says otherwise: {events:,} events of 35 bytes, 1 topic of 4 partitions, 1,000 groups, windows of 10 s, 1 m and 5 m, 1 worker,
exactly once, 5,000 events a second of event time in each topic. Events a second are from the first counted event to the last final row in
Kafka, and of runs of two seconds and more once again without the first quarter of the events, so without what a start costs; CPU is that
of the flow's processes alone.
Every event was in exactly one final row of each size, or there would be no figure.

![curves](scale.svg)
"""

BACKLOG = """
## A backlog

{events:,} events were there before the flow began, written as whole record batches in {fill_s:.0f} s. It caught up in {seconds:.0f} s, with
{cpu_s:.2f} CPU s a million events and at most {peak_mb:,.0f} MB.

| s | million messages read | MB |
|---|---|---|
"""


def page(results: Mapping[str, Any]) -> str:
    """docs/scale.md, of what `python -m bench.scale` has measured."""
    text = HEAD.format(**results)
    for name, curve in CURVES.items():
        if points := results["curves"].get(name):
            of = f"{results['events'] * MANY:,.0f} events in all.\n\n" if curve.points[-1].events == MANY else ""
            text += f"\n## {curve.title}\n\n{of}{_table(curve, points)}" + (f"\n{curve.why}\n" if curve.why else "")
    if (backlog := results.get("backlog")) is not None:
        shown = backlog["curve"][:: max(1, len(backlog["curve"]) // 10)]
        text += BACKLOG.format(**backlog) + "".join(f"| {second} | {read:.1f} | {memory:,} |\n" for second, read, memory in shown)
    return text


def _table(curve: Curve, points: Sequence[Mapping[str, Any]]) -> str:
    middles = [(point["label"], medians(point["rounds"])) for point in points]
    figures = {head: of for head, of in curve.figures.items() if any(of[0] in middle for _, middle in middles)}
    text = f"| {curve.axis} | {' | '.join(figures)} |\n|---|{'---|' * len(figures)}\n"
    for label, middle in middles:
        cells = [format(middle[key], spec) if _says(middle, key) else "" for key, spec in figures.values()]
        text += f"| {label} | {' | '.join(cells)} |\n"
    return text


def _says(figures: Mapping[str, float], key: str) -> bool:
    """Whether there is such a figure, and it says something."""
    return key in figures and (key != "later_rate" or figures["events"] / figures["rate"] >= LONG_S)
