"""`make bench`: events a second, end to end through a real broker, of the flow, its peers and a consumer that does nothing, in one run.

In: --events, --groups, --density, --windows, --rounds, --only. Out: a table, and docs/benchmark.md with a picture. A time counts when the
results are right. Given several lists of windows, the flow alone is measured with each of them, and no page is written:
`--windows 10s --windows 1s --windows 1h/1s`. Rows of windows other than tumbling ones are not checked: their time ends when none has come
for three seconds.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka import KafkaException

from bench.clicks import PARTITIONS, fill
from bench.contenders import CONTENDERS, PARTS, PYTHON, ROOT, entries
from bench.figures import EVENTS_A_SECOND
from bench.measure import Bench
from bench.peers.run import FailedError
from bench.report import ENOUGH, PICTURE, SHORT, Result, Run, drawn, page, sections, table
from infra.embedded import PartError, cluster
from infra.embedded.child import interrupt


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill, measure in turns, report."""
    signal.signal(signal.SIGTERM, interrupt)
    given, load = _parsed(arguments), os.getloadavg()[0]
    chosen = [one for one in entries(given.windows) if not given.only or (one.of.key if given.windows else one.key) in given.only]
    results = {one.key: Result(one) for one in chosen}
    with tempfile.TemporaryDirectory(prefix="kpi-bench-", ignore_cleanup_errors=True) as home, cluster() as running:
        for topic in dict.fromkeys(one.of.topic for one in chosen):
            events = given.events // PARTS[topic]
            print(f"writing {events:,} events of {given.groups:,} groups to {PARTITIONS} partitions of {topic} ...", flush=True)
            fill(running.bootstrap, running.registry_url, events, given.groups, given.density, topic=topic)
        bench = Bench(running.environ, given.events, Path(home))
        for number in range(given.rounds):
            print(f"round {number + 1} of {given.rounds}", flush=True)
            for one in reversed(chosen) if number % 2 else chosen:
                _measure(bench, number, results[one.key])
    print("\n" + (table if len(given.windows) > 1 else sections)(list(results.values())), flush=True)
    if len(given.windows) <= 1:
        _report(given, list(results.values()), load)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--events", type=int, default=32_000_000, help="how many (%(default)s); slow peers read an eighth or a fortieth of them"
    )
    parser.add_argument("--groups", type=int, default=1_000, help="how many the events are of (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="in turns (%(default)s)")
    windows = "a list as in KPI_WINDOWS, several times to compare them (default: 10s,1m,5m; and twelve of some contenders)"
    parser.add_argument("--windows", action="append", default=[], help=windows)
    parser.add_argument("--density", type=int, default=EVENTS_A_SECOND, help="events a second of event time (%(default)s)")
    names = [*(contender.key for contender in CONTENDERS), *(one.key for one in entries([]) if one.key.endswith("-12"))]
    parser.add_argument("--only", action="append", choices=names, help="a contender, several times for several (default: all)")
    parser.add_argument("--report", type=Path, default=ROOT / "docs", help="the directory of benchmark.md and benchmark.svg (%(default)s)")
    given = parser.parse_args(arguments)
    given.report.mkdir(parents=True, exist_ok=True)
    given.said = ["make bench", *(["BENCH=" + json.dumps(" ".join(_told(arguments)))] if _told(arguments) else [])]
    return given


def _told(arguments: Sequence[str] | None) -> list[str]:
    """The arguments but for where the page goes, which is of no interest on it."""
    told = list(sys.argv[1:] if arguments is None else arguments)
    if "--report" in told:
        del told[(at := told.index("--report")) : at + 2]
    return told


def _measure(bench: Bench, number: int, result: Result) -> None:
    one = result.entry
    print(f"  {one.key} ...", flush=True)
    try:
        rate = one.measure(bench, number)
    except (FailedError, PartError, ImportError, KafkaException) as error:
        result.said = f"{error}"
        print(f"  {one.key}: {error}", flush=True)
        return
    result.rates.append(rate)
    result.peak_mb = max(result.peak_mb, bench.peak_mb)
    print(f"  {one.key}: {rate / 1e6:.3f} M events/s, peak memory {bench.peak_mb:,} MB", flush=True)


def _report(given: argparse.Namespace, results: list[Result], load: float) -> None:
    run = Run(given.events, given.groups, given.density, given.rounds, " ".join(given.said), f"{datetime.now(UTC):%Y-%m-%d}", load)
    bars, picture = drawn(results), given.report / PICTURE
    told = given.report / "benchmark.md"
    told.write_text(page(results, run, picture=False))  # whatever becomes of the picture
    if run.events < ENOUGH:
        print(SHORT.replace("*", ""), flush=True)
    if bars and PYTHON.exists():
        command = [str(PYTHON), "-m", "bench.picture", str(picture)]
        subprocess.run(command, input=json.dumps(bars), text=True, check=True, cwd=ROOT)
    else:
        picture.unlink(missing_ok=True)
        print("no picture: nothing was measured" if not bars else "no picture: make bench-setup makes what draws it", flush=True)
    told.write_text(page(results, run, picture=picture.exists()))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
