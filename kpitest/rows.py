"""Records to rows that people read. In: what the flow wrote. Out: rows as dictionaries, and the same as plain JSON. Pure."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from flows.plan import TopicPlan
from flows.records import Record, output_topic, schemas
from kpitest.ends import decoded

Row = dict[str, Any]
BOUNDS = ("window_start", "window_end")


def kpi_rows(plan: TopicPlan, records: Iterable[Record], *, every: bool = False) -> list[Row]:
    """The rows of a source topic's KPI topics, smallest window first, then by time and group; the newest of each key, or `every` one.

    `group_by` is a list, and a row has those group fields alone that it is grouped by.
    """
    found = []
    for window in plan.windows:
        groups = {f["name"]: f["group"] for f in json.loads(schemas(plan, window)[0])["fields"] if "group" in f}
        newest: dict[Any, Row] = {}
        for number, (key, value) in enumerate(decoded(plan, window, records)):
            paths = value["group_by"].split(",") if value["group_by"] else []
            kept = {
                name: it
                for name, it in value.items()
                if name not in (*BOUNDS, "group_by") and groups.get(name, paths[:1]) in (*paths, paths[:1])
            }
            bounds = {name: value[name] for name in BOUNDS}
            newest[number if every else tuple(key.values())] = {
                "topic": output_topic(plan.topic, window),
                **bounds,
                "group_by": paths,
                **kept,
            }
        found += sorted(newest.values(), key=lambda row: _order(row, groups))
    return found


def _order(row: Row, groups: Iterable[str]) -> tuple[Any, ...]:
    names = [(row.get(name) is not None, row.get(name) or "") for name in groups]
    return *(row[name] for name in BOUNDS), len(row["group_by"]), row["group_by"], names, row["revision"]


def of_aside(topic: str, records: Iterable[Record]) -> list[Row]:
    """The records of kpi.late or kpi.dead-letters, by source, partition and offset."""
    found = []
    for record in records:
        if record.topic == topic:
            said = {name.removeprefix("kpi."): text.decode() for name, text in record.headers}
            numbers = {name: int(said[name]) for name in ("partition", "offset")}
            stamp = datetime.fromtimestamp(int(said["timestamp"]) / 1000, UTC)
            key = None if record.key is None else record.key.decode("utf-8", "replace")
            found.append(
                {
                    "topic": topic,
                    "source": said["topic"],
                    **numbers,
                    "timestamp": stamp,
                    "reason": said["reason"],
                    "error": said["error"],
                    "key": key,
                }
            )
    return sorted(found, key=lambda row: (row["source"], row["partition"], row["offset"]))


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever a row holds
    """As JSON has it: times are ISO texts in UTC, decimals texts.

    >>> plain({"at": datetime(2026, 11, 26, 10, tzinfo=UTC), "total": Decimal("12.50")})
    {'at': '2026-11-26T10:00:00Z', 'total': '12.50'}
    """
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds" if value.microsecond else "seconds").replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case Mapping():
            return {name: plain(it) for name, it in value.items()}
        case list():
            return [plain(it) for it in value]
    return value
