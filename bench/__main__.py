"""`make bench`: events a second, end to end through a real broker, beside a bare consumer that does nothing, in one run.

In: --events, --groups, --windows, --rounds. Out: a table of medians and their ratio. The flow's results are checked before its time counts.
Given several lists of windows, the flow is measured with each of them in turn: `--windows 10s --windows 1s --windows 1h/1s`.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.clicks import EVENTS_A_SECOND, PARTITIONS, fill
from bench.measure import Bench
from infra.embedded import cluster

WINDOWS = "10s,1m,5m"
BARE = "bare consumer that does nothing"


def main() -> None:
    """Fill, warm up, measure in turns, print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--events", type=int, default=8_000_000)
    parser.add_argument("--groups", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--windows", action="append", help="a list as in KPI_WINDOWS, several times to compare them (default: 10s,1m,5m)")
    parser.add_argument("--density", type=int, default=EVENTS_A_SECOND, help="events a second of event time")
    given = parser.parse_args()
    lists = given.windows or [WINDOWS]
    with tempfile.TemporaryDirectory(prefix="kpi-bench-", ignore_cleanup_errors=True) as home, cluster() as running:
        sys.stdout.write(f"writing {given.events:,} events of {given.groups:,} groups to {PARTITIONS} partitions ...\n")
        fill(running.bootstrap, running.registry_url, given.events, given.groups, given.density)
        bench = Bench(running.environ, given.events, Path(home))
        kinds: dict[str, Callable[[int], float]] = {BARE: bench.bare}
        for windows in lists:
            kinds[f"the flow, at least once, {windows}"] = partial(bench.flow, windows=windows, durable=False)
            kinds[f"the flow, exactly once, {windows}"] = partial(bench.flow, windows=windows, durable=True)
        if len(lists) > 1:
            kinds = {name: measure for name, measure in kinds.items() if "at least" not in name}
        bench.bare(0)
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(given.rounds):
            for name, measure in kinds.items():
                rates[name].append(measure(number))
    limit = statistics.median(rates[BARE])
    sys.stdout.write(f"\n| {given.groups:,} groups | events/s, median (min to max) | of the bare consumer |\n|---|---|---|\n")
    for name, measured in rates.items():
        middle = statistics.median(measured)
        sys.stdout.write(f"| {name} | {middle:,.0f} ({min(measured):,.0f} to {max(measured):,.0f}) | {middle / limit:.2f} |\n")


if __name__ == "__main__":
    main()
