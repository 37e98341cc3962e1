"""`make verify`: recompute the final rows from the source topic and compare. In: TOPIC [WINDOW]. Out: one line or the first differences.

Exit code 0: equal; 1: there are differences; 2: it cannot be verified, and the line says what to do.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from audit.command import command, parser
from audit.compare import Difference, Tally, books, rows
from audit.published import read_published
from audit.survey import Ground, Survey, survey
from audit.topic import CannotVerifyError

FIRST = 10
EQUAL, DIFFERENT = 0, 1
GIVEN = ("late idle", "late joined", "late closed", "schema")

ABOUT = """Recompute the final rows of KPI topics from the source topic, with another program (fastavro, DuckDB), and compare.

Compared: every final row of a closed window (there once; integers, decimals, texts and times exactly; floats to 1e-9, or to 64
roundings of the size of what was added), late records of cause `data`, and dead letters. It may run beside a live flow: what lies
beyond the offsets committed by KPI_FLOW_ID is not finished, and not compared.

Taken as given, as it depends on the clock of the run: late records of cause idle or joined, and schemas that were unknown then.
Expressions and `where` are evaluated by polars, whose dialect they are. An event that found its slice closed (cause closed, counted in
kpi_late_closed_events_total) is in no record: its windows show up as differences of one event."""


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """The command; its exit code."""
    made = parser("verify", ABOUT)
    made.add_argument("window", nargs="?", help="one of its window sizes, as 1m; all of them without it")
    made.add_argument("--from", dest="begin", type=moment_ms, metavar="TIME", help="leave out windows that begin before (ISO, UTC)")
    return command(made, arguments, environ, _verify)


def moment_ms(text: str) -> int:
    """UTC ms of an ISO time, which is UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _verify(where: Ground, given: argparse.Namespace) -> int:
    found = survey(where, given.topic, given.begin)
    windows = found.windows(given.window)
    tally = Tally()

    def differences() -> Iterator[Difference]:
        yield from books(found, tally)
        for window in windows:
            published = read_published(where.topics, found.plan, window, where.schema_of, where.directory)
            yield from rows(found, window, published, tally)

    total, lines = 0, list[str]()
    for difference in differences():
        total += 1
        if total <= FIRST:
            lines.append(str(difference))
    if not total and not tally.rows:
        raise CannotVerifyError(
            f"{given.topic}: no window is closed that can be compared{_aside(tally.left_out)}; wait for the first, or give another --from"
        )
    if total:
        lines.append(f"{total} differences in {_scope(tally)}")
    else:
        lines.append(f"equal: {_scope(tally)}, {found.messages:,} messages{_given(found)}{_aside(tally.left_out)}")
    print("\n".join(lines))
    return DIFFERENT if total else EQUAL


def _scope(tally: Tally) -> str:
    mended = f" ({tally.repaired:,} repaired)" if tally.repaired else ""
    return f"{tally.rows:,} rows{mended} of {len(tally.windows):,} windows"


def _given(found: Survey) -> str:
    counts = found.counts()
    late = f"; late: {counts['late data']:,} by data" if counts.get("late data") else ""
    given = [f"{counts[name]:,} {name}" for name in GIVEN if counts.get(name)]
    return late + (f"; taken as given: {', '.join(given)}" if given else "")


def _aside(left_out: Mapping[str, int]) -> str:
    return f"; left out: {', '.join(f'{count:,} {why}' for why, count in left_out.items())}" if left_out else ""


if __name__ == "__main__":
    sys.exit(main())
