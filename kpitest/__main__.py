"""`make test-kpi`: events through the real flow, without a cluster. In: a file of events. Out: rows, or what differs from expected ones.

Without EXPECT= it prints the rows, as an expectation has them; UPDATE=1 writes them there. KPI_CONFIG says what is declared.
Exit code 0: as expected; 1: not so; 2: the events, the expectation or the declaration cannot be used, and the line says why.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.declaration import read_declaration
from flows.errors import ConfigError
from kpitest.driver import Driver, schema_files
from kpitest.errors import WrongEventError
from kpitest.expect import differences
from kpitest.rows import Row, plain
from kpitest.script import expected, play

AS_EXPECTED, DIFFERENT, UNUSABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """The command; its exit code."""
    made = argparse.ArgumentParser("python -m kpitest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("events", type=Path, nargs="?", help="a file of events, JSON lines (see kpitest/script.py)")
    made.add_argument("--expect", type=Path, metavar="FILE", help="rows that must be there, JSON lines")
    made.add_argument("--update", action="store_true", help="write the rows to the expectation")
    made.add_argument("--schema", type=Path, default=Path("schemas"), metavar="PATH", help="a directory of <topic>.avsc, or one such file")
    made.add_argument("--topic", help="the topic of the events that name none")
    given, unknown = made.parse_known_args(arguments)
    if unknown:
        sys.stderr.write(f"kpitest: unknown: {' '.join(unknown)}; --help says what there is\n")
        return UNUSABLE
    if given.events is None:
        sys.stderr.write("kpitest: needs a file of events; --help says what it looks like\n")
        return UNUSABLE
    try:
        return _run(given, Driver(read_declaration(environ), schema_files(given.schema, given.topic)))
    except (WrongEventError, ConfigError) as error:
        sys.stderr.write(f"test-kpi: {error}\n")
        return UNUSABLE


def _run(given: argparse.Namespace, driver: Driver) -> int:
    play(driver, _text(given.events), str(given.events), given.topic)
    rows = [*driver.table(), *driver.aside()]
    if given.expect is None:
        sys.stdout.write(_written(rows))
        return AS_EXPECTED
    if given.update:
        given.expect.write_text('{"only": true}\n' + _written(rows), encoding="utf-8")
        sys.stdout.write(f"test-kpi: {len(rows)} rows written to {given.expect}\n")
        return AS_EXPECTED
    wanted = expected(driver, _text(given.expect), str(given.expect))
    lines = differences(wanted.rows, rows, only=wanted.is_only)
    count = f"{len(wanted.rows)} expected, {len(rows)} there"
    summary = f"{len(lines)} rows are not as expected ({count})" if lines else f"as expected ({count})"
    sys.stdout.write("".join(f"{line}\n" for line in [*lines, f"test-kpi: {summary}"]))
    return DIFFERENT if lines else AS_EXPECTED


def _written(rows: Sequence[Row]) -> str:
    return "".join(f"{json.dumps(plain(row), ensure_ascii=False)}\n" for row in rows)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongEventError(f"{file}: cannot be read ({error})") from None


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # what the flow would tell its operators
    sys.exit(main())
