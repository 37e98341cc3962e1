"""`make bench-scale`: what the flow costs, against one thing at a time. In: --events, --only. Out: .kpi/bench/scale.json, docs/scale.md.

Points of a curve are measured in turns, round by round, so that a slow minute of the machine falls on all of them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.clicks import HOUR_MS, START_MS, close, fill, schema
from bench.curves import BASE, CURVES, Curve, Point, page
from bench.running import Given, cost, over_time, recovery
from flows import topics
from flows.registry import Registry
from infra.embedded import Cluster, cluster

QUICK = 200_000
RESULTS = Path(".kpi/bench/scale.json")
PAGE = Path("docs/scale.md")
GONE_S = 30.0


@dataclass
class Runner:
    """Measures on one cluster."""

    running: Cluster
    events: int
    home: Path

    def __post_init__(self) -> None:
        self.environ = {**os.environ, **self.running.environ}
        self.numbers = count()

    def curve(self, name: str, curve: Curve, rounds: int) -> list[dict[str, Any]]:
        """Of every point what each round has measured."""
        made: dict[Point, list[dict[str, float]]] = {point: [] for point in curve.points}
        for number in range(rounds):
            with self.filled(made) if name != "state" else self.nothing() as full:
                for point in curve.points:
                    figures = self.state(point) if name == "state" else self.cost(full[point])
                    made[point].append(figures)
                    say(f"  {curve.title}, {point.label}: {said(figures)}" + (f" (round {number + 1})" if rounds > 1 else ""))
        return [{"x": point.x, "label": self.label(name, point), "rounds": of} for point, of in made.items()]

    def cost(self, given: Given) -> dict[str, float]:
        """What one run costs. Of several topics that of the second: in the first, their KPI topics and schemas are made."""
        first = cost(given, self.environ, self.home, self.name("flow")) if given.topics[1:] else {}
        figures = cost(given, self.environ, self.home, self.name("flow"))
        return {**figures, "first_rate": first["rate"]} if first else figures

    def label(self, name: str, point: Point) -> str:
        """The point's own, but for events: those are a part of what was asked for."""
        return f"{self.events_of(point):,}" if name == "events" else point.label

    @contextmanager
    def filled(self, points: Collection[Point]) -> Iterator[dict[Point, Given]]:
        """Full topics for all of these points; gone at the end, with all that the flows have made of them."""
        full: dict[object, tuple[str, ...]] = {}
        for point in points:
            if point.filled not in full:
                full[point.filled] = self.fill(point)
        try:
            yield {point: self.given(point, full[point.filled]) for point in points}
        finally:
            self.forget()

    @contextmanager
    def nothing(self) -> Iterator[dict[Point, Given]]:
        """No topics: who measures state fills them one by one."""
        yield {}

    def given(self, point: Point, names: tuple[str, ...]) -> Given:
        """How the flow reads these topics."""
        events = self.events_of(point) // point.topics * point.topics
        return Given(names, events, point.partitions, point.windows, point.workers, point.processes, point.readers, point.shards)

    def events_of(self, point: Point) -> int:
        """All events of a point."""
        return int(point.events * self.events)

    def fill(self, point: Point, *, closes: bool = True) -> tuple[str, ...]:
        """The names of its topics, full."""
        names = tuple(self.name("clicks") for _ in range(point.topics))
        began_s, events = time.perf_counter(), self.events_of(point) // point.topics
        for name in names:
            fill(
                self.running.bootstrap,
                self.running.registry_url,
                events,
                point.groups,
                point.a_second,
                topic=name,
                partitions=point.partitions,
                padding=point.padding,
                closes=closes,
            )
        say(
            f"  {events * point.topics:,} events of {point.groups:,} groups in {point.topics} x {point.partitions} partitions, "
            f"{35 + point.padding} bytes: written in {time.perf_counter() - began_s:.1f} s"
        )
        return names

    def state(self, point: Point) -> dict[str, float]:
        """What an epoch pays for a state, and how long it takes to come back to it."""
        names = self.fill(point, closes=False)

        def end() -> None:
            for name in names:
                schema_id = Registry(self.running.registry_url).register(f"{name}-value", json.dumps(schema(point.padding)))
                last_ms = START_MS + self.events_of(point) * 1000 // point.a_second + HOUR_MS
                close(self.running.bootstrap, schema_id, last_ms, topic=name, partitions=point.partitions)

        try:
            return recovery(self.given(point, names), self.environ, self.home, self.name("flow"), end)
        finally:
            self.forget()

    def backlog(self, events: int) -> dict[str, Any]:
        """Memory while a flow catches up."""
        self.events, began_s = events, time.perf_counter()
        names = self.fill(BASE)
        filled_s = time.perf_counter() - began_s
        try:
            return {"events": events, "fill_s": filled_s, **over_time(self.given(BASE, names), self.environ, self.home, self.name("flow"))}
        finally:
            self.forget()

    def name(self, what: str) -> str:
        """One that nothing had before."""
        return f"{what}{next(self.numbers):04}"

    def forget(self) -> None:
        """Delete the clicks and their KPIs: a broker with thousands of partitions is another broker."""
        admin = topics.administrator({"bootstrap.servers": self.running.bootstrap})
        gone = [name for name in topics.names(admin) if name.startswith(("clicks", "kpi.clicks"))]
        for deleted in admin.delete_topics(gone, operation_timeout=GONE_S).values() if gone else ():
            deleted.result()


def said(figures: Mapping[str, float]) -> str:
    """A line for people."""
    if "rate" in figures:
        rates = " and later ".join(f"{figures[name] / 1e6:.2f}" for name in ("rate", "later_rate"))
        return f"{rates} M events/s, {figures['cpu_s']:.2f} CPU s a million, {figures['peak_mb']:,.0f} MB"
    return ", ".join(f"{name} {value:,.3f}" for name, value in figures.items())


def say(line: str) -> None:
    """Progress."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> None:
    """Measure, remember, tell."""
    parser = argparse.ArgumentParser(prog="make bench-scale", description=__doc__)
    parser.add_argument(
        "--events", type=int, default=8_000_000, help="the most; curves other than that of events take a quarter of them (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=1, help="of which a figure is the median (%(default)s)")
    parser.add_argument("--only", action="append", choices=[*CURVES, "backlog"], help="a curve, several times for several (default: all)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} events")
    parser.add_argument("--backlog", type=int, help="so many events at once, and memory over time (none; 50000000 takes a minute)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the figures (%(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page (%(default)s)")
    given = parser.parse_args(arguments)
    most = QUICK if given.quick else given.events
    wanted = given.only or CURVES
    usual = most if given.quick else most // 4
    results: dict[str, Any] = {
        "command": " ".join(["python -m bench.scale", *(sys.argv[1:] if arguments is None else arguments)]),
        "date": datetime.now(UTC).date().isoformat(),
        "events": usual,
        "rounds": given.rounds,
        "cores": os.cpu_count(),
        "curves": {},
    }
    with TemporaryDirectory(prefix="kpi-scale-", ignore_cleanup_errors=True) as home, cluster() as running:
        warm = Runner(running, min(usual, QUICK), Path(home))
        with warm.filled([BASE]) as full:
            say(f"  warmed: {said(cost(full[BASE], warm.environ, warm.home, warm.name('warm')))}")
        for name, curve in CURVES.items():
            if name in wanted:
                say(f"{curve.title}: {len(curve.points)} points")
                runner = Runner(running, most if name == "events" else usual, Path(home))
                runner.numbers = warm.numbers
                results["curves"][name] = runner.curve(name, curve, given.rounds)
                keep(results, given.results, given.page)
        if given.backlog:
            say(f"a backlog of {given.backlog:,} events")
            results["backlog"] = warm.backlog(given.backlog)
            keep(results, given.results, given.page)


def keep(results: Mapping[str, Any], file: Path, told: Path) -> None:
    """After every curve: what is measured by then is worth keeping."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1))
    told.write_text(page(results))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # what was measured by then is kept, and what was started has ended
        sys.exit(130)
