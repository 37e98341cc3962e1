"""The flow between the ends of kpitest, and its rows as the specification has them: the flow is the real one, bytes to bytes."""

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from flows import recovery, vault
from flows.fields import Schema
from flows.intake import Position
from flows.plan import TopicPlan
from flows.records import DEAD, LATE, Record, schemas
from flows.slices import Events
from flows.topology import FOLD, kpi_flow
from flows.windows import Window
from kpitest.ends import Kept, MemoryTopic, Poll, decoded, ready

__all__ = ["Kept", "MemoryTopic", "Poll", "Result", "events_of", "run"]


@dataclass(frozen=True)
class Result:
    """KPI rows as a reader of the topics sees them, records set aside, and the books."""

    rows: list[dict[str, Any]]
    late: list[dict[str, str]]
    dead: list[dict[str, str]]
    positions: dict[int, Position]

    @property
    def finals(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["final"]]


def run(
    plan: TopicPlan,
    polls: Sequence[Poll],
    schema_of: Callable[[int], Schema],
    *,
    readers: int = 1,
    restarts: Sequence[int] = (),
) -> Result:
    """The real flow from record batches to records, in this process; ended and started again, from its snapshots, before some polls."""
    source, sink = MemoryTopic(ready(plan), polls, schema_of, readers), Kept()
    if not restarts:
        run_main(kpi_flow(source, sink))  # type: ignore[no-untyped-call]
        return _result(plan, source, sink)
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(vault, "LARGE_BYTES", 0):  # every table has its file
        init_db_dir(directory, 1)  # type: ignore[no-untyped-call]
        for source.until in (*sorted(restarts), len(polls)):
            vault.tidy(Path(directory), recovery.states(Path(directory), FOLD))
            config = RecoveryConfig(directory)  # type: ignore[no-untyped-call]
            flow = kpi_flow(source, sink, directory=Path(directory))
            run_main(flow, epoch_interval=timedelta(0), recovery_config=config)  # type: ignore[no-untyped-call]
    return _result(plan, source, sink)


def _result(plan: TopicPlan, source: MemoryTopic, sink: Kept) -> Result:
    set_aside = {topic: [_headers(record) for record in sink.records if record.topic == topic] for topic in (LATE, DEAD)}
    rows = [row for window in plan.windows for row in _rows(plan, window, sink.records)]
    return Result(rows, set_aside[LATE], set_aside[DEAD], source.positions)


def _headers(record: Record) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


def _rows(plan: TopicPlan, window: Window, records: Iterable[Record]) -> Iterable[dict[str, Any]]:
    """KPI rows with their times as integers and their groups by path; the key must be the beginning of the value."""
    groups = {f["name"]: f["group"] for f in json.loads(schemas(plan, window)[0])["fields"] if "group" in f}
    for key, value in decoded(plan, window, records):
        assert {name: value[name] for name in key} == key
        row = {name: it for name, it in value.items() if name not in groups}
        row["window"] = window.label
        row["window_start"], row["window_end"] = (round(value[name].timestamp() * 1000) for name in ("window_start", "window_end"))
        row["group"] = {path: value[name] for name, path in groups.items()}
        yield row


def events_of(items: Iterable[Any]) -> list[Events]:
    return [item for item in items if isinstance(item, Events)]
