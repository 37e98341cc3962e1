"""A KPI topic of what the audit recomputes, without a broker. In: events, records. Out: what comparing finds. Writes to a directory."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import fastavro
import polars as pl
from confluent_kafka import Message

from audit import compare, recompute
from audit.aside import Aside
from audit.gather import Doubts
from audit.lineage import Begun
from audit.measure import part
from audit.published import REPAIR, SCHEMA, Published, begun_of, row_of, shape_of
from audit.repair import changes_of, encoded, record_of
from audit.rows import rows
from audit.survey import Survey
from flows.declaration import parse
from flows.fields import read_schema
from flows.plan import plan
from flows.records import BEGUN, UNKNOWN, schemas
from flows.windows import Window
from tests.audited import ASIDE


@dataclass(frozen=True)
class Board:
    """A topic that was read and judged, and the directory of its files."""

    survey: Survey
    directory: Path

    @classmethod
    def of(cls, directory: Path, declared: str, schema: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Self:
        """One partition of events, each as its columns; everything but the last lateness is closed."""
        made = plan(parse(declared), "t", [read_schema(1, json.dumps(schema))])
        count = len(events)
        columns = {path: pl.Series(path, [event[path] for event in events], dtype) for path, dtype in made.columns}
        decoded = pl.DataFrame({"row": range(count), "fate": pl.repeat(None, count, dtype=pl.String, eager=True), **columns})
        part(made, [[0] * count, range(count), [-1] * count], decoded).write_parquet(directory / "part.parquet")
        pl.DataFrame(schema=ASIDE).write_parquet(directory / "aside.parquet")
        database = recompute.connect(directory)
        judged = recompute.judge(database, made, [directory / "part.parquet"], recompute.Known(directory / "aside.parquet"))
        closed_ms = recompute.closed_ms(made, judged.reached, 1)
        aside = Aside(directory / "aside.parquet", Doubts(), frozenset())
        span, ends = {0: (0, count)}, {0: count}
        return cls(Survey("t", made, database, judged, aside, span, ends, frozenset(), closed_ms, None, "", Begun()), directory)

    def window(self, label: str) -> Window:
        return next(window for window in self.survey.plan.windows if window.label == label)

    def records(self, window: Window, *, late: bool = False) -> list[dict[str, Any]]:
        """The final rows as a flow publishes them: of events that are not late, or of all."""
        found: list[dict[str, Any]] = []
        ends = self.survey.ends if late else None
        for group_set in self.survey.plan.group_sets:
            events = recompute.counted(self.survey.judged.parts, ends)
            rows(self.survey.database, self.survey.plan, (window, group_set), events, "want")
            query = f'SELECT *, start AS at_ms, "end" AS until_ms, NULL AS have_highest FROM want WHERE "end" <= {self.survey.closed_ms}'
            fetched = recompute.fetched(self.survey.database, query)
            found += [{**record_of(self.survey, group_set, row), "closed_by": "data"} for row in fetched]
        return found

    def published(self, window: Window, records: Iterable[Mapping[str, Any]]) -> Published:
        """Records as they are read from a topic."""
        made = self.survey.plan
        key, value = map(json.loads, schemas(made, window))
        shape = shape_of(made, read_schema(2, json.dumps(value)))
        key, value = map(fastavro.parse_schema, (key, value))
        kept = []
        for offset, record in enumerate(records):
            body = encoded(2, value, record)
            headers: list[tuple[str, str | bytes | None]] = (
                [(REPAIR, json.dumps(self.survey.ends))] if record["closed_by"] == "repair" else []
            )
            headers += [(name, record[name]) for name in (UNKNOWN, BEGUN) if name in record]
            head = encoded(1, key, record)
            kept.append(row_of(Message(partition=0, offset=offset, key=head, timestamp=(1, 1), headers=headers), body, shape, made))
        file = self.directory / "published.parquet"
        pl.DataFrame(kept, SCHEMA, orient="row").write_parquet(file)
        return Published(f"kpi.t.{window.label}", file, None, 0, begun_of(file))

    def differences(self, window: Window, records: Iterable[Mapping[str, Any]]) -> tuple[list[compare.Difference], compare.Tally]:
        tally = compare.Tally()
        found = list(compare.rows(self.survey, window, self.published(window, records), tally))
        return [*found, *tally.too_many()], tally

    def repaired(self, window: Window, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows that a repair adds to these."""
        return [dict(change.record) for change in changes_of(self.survey, window, self.published(window, records))]

    def since(self, from_ms: int) -> "Board":
        return replace(self, survey=replace(self.survey, from_ms=from_ms, why="begin before --from"))
