"""`make verify`: recompute the final rows from the source topic and compare. In: TOPIC [WINDOW]. Out: one line or the first differences.

Exit code 0: equal; 1: there are differences; 2: it cannot be verified, and the line says what to do.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from audit.books import books
from audit.command import command, parser
from audit.compare import Difference, Tally, rows
from audit.moment import iso
from audit.published import read_published
from audit.results import DISTINCT
from audit.survey import Ground, Survey, survey
from audit.topic import CannotVerifyError
from flows.windows import Window

FIRST = 10
EQUAL, DIFFERENT = 0, 1
GIVEN = ("late idle", "late joined", "late closed", "schema")

ABOUT = """Recompute the final rows of KPI topics from the source topic, with another program (fastavro, DuckDB), and compare.

Compared: every final row of a closed window (there once; integers, decimals, texts and times exactly; floats to 1e-9, or to 64
roundings of the size of what was added; quantiles to 1 %; distinct and top exactly up to 1,024 different values, beyond to what their
sketches promise), late records of cause `data`, and dead letters. It may run beside a live flow: what lies beyond the offsets
committed by KPI_FLOW_ID is not finished, and not compared.

After `make reset` the flow reads its topics from `start` again: what it publishes from then on is compared in full, and what stands
before it is only counted. Late messages that `make repair` had put in are not in those rows: repair once more. kpi.progress remembers a
reset for a megabyte of markers, about an hour of a busy flow; --since says so afterwards. A flow without a recovery directory is at least
once and leaves no marker: --at-least-once takes what is there more than once, and then nothing that is doubled is found.

Taken as given, as it depends on the clock of the run: late records of cause idle or joined, and schemas that were unknown then.
Expressions and `where` are evaluated by polars, whose dialect they are. An event that found its slice closed (cause closed, counted in
kpi_late_closed_events_total) is in no record: its windows show up as differences of one event."""


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """The command; its exit code."""
    made = parser("verify", ABOUT)
    made.add_argument("window", nargs="?", help="one of its window sizes, as 1m; all of them without it")
    made.add_argument("--at-least-once", action="store_true", help="what is there more than once, with equal values, is no difference")
    return command(made, arguments, environ, _verify)


def _verify(where: Ground, given: argparse.Namespace) -> int:
    windows = where.windows(given.topic, given.window)
    found, tally = survey(where, given.topic, given.since, given.begin), Tally()
    total, lines, again = 0, list[str](), list[Difference]()
    for difference in _differences(where, found, windows, tally):
        if difference.again_ms is not None and given.at_least_once:
            tally.leave("published more than once, with equal values")
            continue
        total += 1
        if difference.again_ms is not None:
            again.append(difference)
        elif len(lines) < FIRST:
            lines.append(str(difference))
    lines += [_anew(again)] if len(again) > FIRST else map(str, again[: FIRST - len(lines)])
    if not total and not tally.rows:
        raise CannotVerifyError(
            f"{given.topic}: no window is closed that can be compared{_aside(tally.left_out)}; wait for the first, or give another --from"
        )
    if total:
        lines.append(f"{total} differences in {_scope(tally)}{_aside(tally.left_out)}")
    else:
        lines.append(f"equal: {_scope(tally)}, {found.messages:,} messages{_given(found)}{_aside(tally.left_out)}")
    print("\n".join(lines))
    return DIFFERENT if total else EQUAL


def _differences(where: Ground, found: Survey, windows: Sequence[Window], tally: Tally) -> Iterator[Difference]:
    yield from books(found, tally)
    for window in windows:
        yield from rows(found, window, read_published(where, found, window), tally)
    yield from tally.too_many()


def _anew(again: Sequence[Difference]) -> str:
    """One line for all that was published once more."""
    last = iso(min(difference.again_ms or 0 for difference in again))
    return (
        f"{len(again):,} rows and records were published more than once, with equal values, the last time from {last} on: "
        "the flow was begun anew without a recovery directory, or by a `make reset` that kpi.progress has forgotten; or its sink doubles. "
        f"If it was begun anew: --since {last} compares what it published from then on, --at-least-once takes all of it"
    )


def _scope(tally: Tally) -> str:
    mended = f" ({tally.repaired:,} repaired)" if tally.repaired else ""
    beyond = f" ({len(tally.beyond):,} of {tally.estimates:,} estimates beyond {DISTINCT:.0%})" if tally.beyond else ""
    return f"{tally.rows:,} rows{mended} of {len(tally.windows):,} windows{beyond}"


def _given(found: Survey) -> str:
    counts = found.counts()
    late = f"; late: {counts['late data']:,} by data" if counts.get("late data") else ""
    given = [f"{counts[name]:,} {name}" for name in GIVEN if counts.get(name)]
    return late + (f"; taken as given: {', '.join(given)}" if given else "")


def _aside(left_out: Mapping[str, int]) -> str:
    return f"; left out: {', '.join(f'{count:,} {why}' for why, count in left_out.items())}" if left_out else ""


if __name__ == "__main__":
    sys.exit(main())
