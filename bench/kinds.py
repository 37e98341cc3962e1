"""`python -m bench.kinds`: what windows and groups cost, in one process without a broker: frames to partials to windows to encoded rows.

In: --events, --rounds. Out: a table of ratios within this run, the scenarios in turns. Decoding is left out, which costs the same for all
of them: end to end the ratios are nearer to 1. Every scenario's final rows are counted before its time counts.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from bench.clicks import CONFIG, DISORDER_MS, SCHEMA, START_MS, TOPIC
from bench.figures import EVENTS_A_SECOND
from flows.declaration import parse
from flows.fields import read_schema
from flows.fold import Fold
from flows.plan import Output, TopicPlan, plan
from flows.records import encode, output_topic
from flows.slices import Events, partials
from flows.watermark import Mark

FRAME = 100_000  # events a frame, as the source makes them
TWELVE = ("10s", "20s", "30s", "1m", "2m", "3m", "5m", "10m", "15m", "30m", "1h", "1d")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is measured, and beside what: the figure is events a second over those of `beside`."""

    windows: tuple[str, ...]
    groups: int = 1_000
    beside: str = ""
    wanted: float = 0.0  # the ratio that the project promises
    a_second: int = EVENTS_A_SECOND  # of event time


SCENARIOS = {
    "one size": Scenario(("10s",)),
    "twelve sizes": Scenario(TWELVE, beside="one size", wanted=1 / 1.3),
    "tumbling 1s": Scenario(("1s",)),
    "hopping 1h/1s": Scenario(("1h/1s",), beside="tumbling 1s", wanted=1 / 1.5),
    "three sizes": Scenario(("10s", "1m", "5m")),
    "three sizes, 100,000 groups": Scenario(("10s", "1m", "5m"), 100_000, beside="three sizes", wanted=0.5),
}


def planned(windows: Sequence[str]) -> TopicPlan:
    """The plan of the clicks with these windows, its KPI topics made up."""
    text = CONFIG.replace('windows = ["10s", "1m", "5m"]', f'windows = {list(windows)}\nupdate = "off"')
    made = plan(parse(text), TOPIC, [read_schema(1, json.dumps(SCHEMA))])
    return replace(made, outputs=tuple(Output(output_topic(TOPIC, window), 1, 2) for window in made.windows))


def frames(made: TopicPlan, scenario: Scenario, events: int) -> Iterator[Events]:
    """The clicks as a reader passes them on."""
    dice = np.random.default_rng(1)
    names = pl.Series([f"k{number:06d}" for number in range(scenario.groups)])
    for begin in range(0, events, FRAME):
        numbers = np.arange(begin, min(events, begin + FRAME))
        times = START_MS + numbers * 1000 // scenario.a_second - dice.integers(0, DISORDER_MS, len(numbers))
        group = names.gather(dice.integers(0, scenario.groups, len(numbers)))
        frame = pl.DataFrame({"time": times, "by:country": group, "of:amount": dice.random(len(numbers)) * 100})
        reached_ms = int(times.max()) - made.lateness_ms
        yield Events(made, frame, {0: Mark(reached_ms, reached_ms)}, 1, 0, {})


def rate(scenario: Scenario, events: int) -> float:
    """Events a second of this process's own time."""
    made = planned(scenario.windows)
    given = list(frames(made, scenario, events))
    folds: dict[str, Fold] = {}
    counted = written = 0
    began = time.process_time()
    for one in given:
        for key, part in partials(one):
            for rows in folds.setdefault(key, Fold()).take([part]).rows:
                written += len(encode(rows))
                counted += int(rows.table.filter(window=0)["events"].sum())
    taken = time.process_time() - began
    if counted != (want := expected(made, given)):
        raise RuntimeError(f"{scenario}: final rows count {counted} events, want {want}")
    return events / taken


def expected(made: TopicPlan, given: Sequence[Events]) -> int:
    """The events of all closed windows of the first size, each counted in each of them."""
    window, closed_ms = made.windows[0], given[-1].marks[0].seen_ms
    hop_ms = window.step_ms or window.size_ms
    hops = np.concatenate([one.frame["time"].to_numpy() // hop_ms for one in given if one.frame is not None])
    until = np.concatenate([[0], np.cumsum(np.bincount(hops - hops.min()))])  # events before each hop
    ends = np.arange(1, closed_ms // hop_ms - hops.min() + 1)
    return int(sum(until[ends] - until[np.maximum(0, ends - window.size_ms // hop_ms)]))


def main() -> None:
    """Warm up, measure in turns, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.kinds", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario, in this process: its rate and peak memory")
    given = parser.parse_args()
    if given.only:
        measured = rate(SCENARIOS[given.only], given.events)
        sys.stdout.write(f"{measured:.0f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}\n")
        return
    rates: dict[str, list[tuple[float, int]]] = {name: [] for name in SCENARIOS}
    for _ in range(given.rounds):
        for name in SCENARIOS:
            rates[name].append(_apart(name, given.events))
    sys.stdout.write(
        "\n| windows, one process without a broker | events/s, median (min to max) | ratio | wanted | peak MB |\n|---|---|---|---|---|\n"
    )
    middles = {name: statistics.median(speed for speed, _ in of) for name, of in rates.items()}
    for name, scenario in SCENARIOS.items():
        speeds = [speed for speed, _ in rates[name]]
        ratio = f"{middles[name] / middles[scenario.beside]:.2f} of {scenario.beside} | {scenario.wanted:.2f}" if scenario.beside else " | "
        peak = max(peak for _, peak in rates[name])
        sys.stdout.write(f"| {name} | {middles[name]:,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}) | {ratio} | {peak} |\n")


def _apart(name: str, events: int) -> tuple[float, int]:
    """In a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "bench.kinds", "--only", name, "--events", str(events)]
    speed, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(speed), int(peak)


if __name__ == "__main__":
    main()
