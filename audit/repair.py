"""`make repair`: windows of late records recomputed and published as a higher revision. In: TOPIC. Out: KPI rows, once a person agrees.

A repaired row is final, its `closed_by` is "repair", its key that of the row before. Its header `kpi.repair` says up to which offset of
each partition late messages are in it, so that `make verify` can compute it again.

Exit code 0: written, or nothing to do; 1: not wanted; 2: it cannot be done, and the line says what to do.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import fastavro

from audit import recompute
from audit.command import DECLINED, DONE, command, parser
from audit.compare import JOINED, changed, place_of, valid
from audit.measure import grouped
from audit.published import REPAIR, Published, read_published
from audit.results import results
from audit.rows import rows
from audit.stretches import placed
from audit.survey import Ground, Survey, survey
from audit.write import PARTITIONER, Entry, confirmed, write
from flows.records import field_names, schemas
from flows.windows import Window

FIRST = 10

ABOUT = """Recompute the windows that late records belong to, with them, and publish what changes as a higher revision.

Only windows that are closed already. First it shows what changes: windows, groups, each KPI old -> new; then it asks. All rows go out in
one transaction. Afterwards a window and group may have two final rows: the one with the higher revision is valid, which is the newer one
of its key, so who keeps the newest row of a key has it. A second run without new late records changes nothing.

Session windows stay as they are: a late message may join two sessions, whose rows nothing can take back. It says how many."""


class Change(NamedTuple):
    """A row to publish: what it says, where, and how that differs from what is there."""

    window: Window
    record: Mapping[str, Any]
    partition: int
    lines: Sequence[str]


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """The command; its exit code."""
    made = parser("repair", ABOUT)
    made.add_argument("--yes", action="store_true", help="write without asking")
    return command(made, arguments, environ, _repair)


def _repair(where: Ground, given: argparse.Namespace) -> int:
    found = survey(where, given.topic, given.since, given.begin)
    windows = [window for window in found.plan.windows if window.kind != "session"]
    changes = [change for window in windows for change in changes_of(found, window, read_published(where, found, window))]
    changes.sort(key=lambda it: (it.window, it.record["window_start"], it.record["window_end"], it.record["group_by"], it.lines[0]))
    if refused := _of_sessions(found):
        print(f"{refused:,} late records stay out of session windows: they may join two sessions, whose rows nothing can take back")
    late = sum(count for name, count in found.counts().items() if name.startswith("late "))
    if not changes:
        print(f"nothing to do: {late:,} late records, and every {'other ' * bool(refused)}closed window holds its own")
        return DONE
    lines = [line for change in changes for line in change.lines]
    mended = {(change.window, change.record["window_start"], change.record["window_end"]) for change in changes}
    more = [f"… and {len(lines) - FIRST:,} more"] if len(lines) > FIRST else []
    summary = f"{len(changes):,} rows of {len(mended):,} windows change: {len(lines):,} values; {late:,} late records in all"
    print("\n".join([*lines[:FIRST], *more, summary]))
    if not confirmed(f"publish {len(changes):,} rows?", yes=given.yes):
        return DECLINED
    count = write(where.settings, f"{where.flow_id}-repair", _entries(where, found, changes))
    print(f"{count:,} rows published")
    return DONE


def changes_of(found: Survey, window: Window, published: Published) -> Iterator[Change]:
    """The rows of closed windows with late messages that differ once those are in."""
    if not found.judged.parts:
        return
    database, plan = found.database, found.plan
    late = f"(SELECT * FROM {recompute.parquet(found.judged.parts)} WHERE verdict = 'late' AND kept)"
    place = placed(database, plan, window, (), late)
    finals = f'SELECT (start, "end") FROM {recompute.parquet([published.file])} WHERE final'
    closed = "false" if found.closed_ms is None else f'"end" <= {found.closed_ms}'
    kept = "true" if found.from_ms is None else f"start >= {found.from_ms}"
    panes = f'(SELECT DISTINCT start, "end" FROM {place.events})'
    database.execute(
        f'CREATE OR REPLACE TABLE late_windows AS SELECT DISTINCT start, "end" FROM {place.spread(panes)} '
        f'WHERE {kept} AND ({closed} OR (start, "end") IN ({finals}))'
    )
    events = recompute.counted(found.judged.parts, found.ends)
    for group_set in plan.group_sets:
        database.execute(f"CREATE OR REPLACE TABLE have AS {valid(published, group_set)}")
        rows(database, plan, (window, group_set), events, "mended", have="have", only="late_windows")
        for row in recompute.fetched(database, JOINED.format(want="mended") + " WHERE want.start IS NOT NULL"):
            lines = list(_lines(found, window, group_set, row))
            if lines:
                have = row["have_row"]
                partition = PARTITIONER if have is None else have["kpi_partition"]
                yield Change(window, record_of(found, group_set, row), partition, lines)


def _of_sessions(found: Survey) -> int:
    """How many late messages are of closed sessions, if there are such windows."""
    gaps = [window.size_ms for window in found.plan.windows if window.kind == "session"]
    if not gaps or not found.judged.parts or found.closed_ms is None:
        return 0
    late = f"{recompute.parquet(found.judged.parts)} WHERE verdict = 'late' AND kept"
    query = f"SELECT count(*) FROM {late} AND time + {min(gaps)} <= {found.closed_ms}"
    (count,) = found.database.execute(query).fetchone() or (0,)
    return int(count)


def _lines(found: Survey, window: Window, group_set: tuple[str, ...], row: Mapping[str, Any]) -> Iterator[str]:
    place = f"{window.label} {place_of(found, group_set, row)}"
    if row["have_row"] is None:
        yield f"{place}: no row -> {row['events']} events"
    else:
        differ = (it for it in changed(found, row, place) if not it.is_estimate)
        yield from (f"{place}: {it.field}: {it.published} -> {it.recomputed}" for it in differ)


def record_of(found: Survey, group_set: tuple[str, ...], row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as its Avro record."""
    names, columns = field_names(found.plan), grouped(found.plan)
    groups = {names[f"by:{path}"]: row[columns[path]] if path in group_set else None for path in found.plan.groups}
    kpis = {names[f"kpi:{name}"]: want.value for name, want in results(found.plan, row).items()}
    return {
        "group_by": ",".join(group_set),
        **groups,
        "window_start": row["at_ms"],
        "window_end": row["until_ms"],
        "events": row["events"],
        **kpis,
        "revision": 0 if row["have_highest"] is None else row["have_highest"] + 1,
        "final": True,
        "closed_by": "repair",
    }


def _entries(where: Ground, found: Survey, changes: Sequence[Change]) -> Iterator[Entry]:
    """The rows in Confluent's wire format, under the schemas that the flow registered."""
    header = json.dumps({str(partition): stop for partition, stop in sorted(found.ends.items())})
    known: dict[Window, tuple[tuple[int, Any], tuple[int, Any]]] = {}
    for window, record, partition, _ in changes:
        topic = f"kpi.{found.topic}.{window.label}"
        if window not in known:
            key, value = (
                (where.registry.register(f"{topic}-{end}", text), fastavro.parse_schema(json.loads(text)))
                for end, text in zip(("key", "value"), schemas(found.plan, window), strict=True)
            )
            known[window] = key, value
        key, value = known[window]
        yield Entry(topic, encoded(*key, record), encoded(*value, record), [(REPAIR, header)], partition)


def encoded(schema_id: int, schema: Any, record: Mapping[str, Any]) -> bytes:  # noqa: ANN401 - fastavro's schema
    """In Confluent's wire format."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, {field["name"]: record[field["name"]] for field in schema["fields"]})
    return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
