"""Late records and dead letters of one source topic as Parquet. In: kpi.late, kpi.dead-letters. Out: one file, and what to doubt."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from audit.gather import Doubts
from audit.spool import Spool
from audit.topic import Topics, Unread, headers_of
from flows.records import DEAD, LATE

SCHEMA = {
    "partition": pl.Int32(),
    "offset": pl.Int64(),
    "reason": pl.String(),  # `late`, or why it is a dead letter
    "cause": pl.String(),  # of a late one
    "last": pl.Int64(),  # a batch that could not be read has one letter, at its first offset: its last one; null of a message's
}
BATCH = r"partition \d+, offsets \d+ to (\d+), \d+ records: "  # how the letter of a whole batch begins to say what is wrong


@dataclass(frozen=True, slots=True)
class Aside:
    """`file`: SCHEMA; `expired`: those of the two topics whose beginning is not there any more; `unread`: see Topics.read."""

    file: Path
    doubts: Doubts
    expired: frozenset[str]
    unread: Unread = field(default_factory=dict)


def read_aside(topics: Topics, topic: str, directory: Path) -> Aside:
    """What was set aside of a topic, both topics read to their present ends."""
    spool, expired = Spool(directory / "aside.parquet", SCHEMA), set[str]()
    for source in (LATE, DEAD):
        span = topics.span(source)
        if any(first > 0 for first, _ in span.values()):
            expired.add(source)
        for messages in topics.read(source, span):
            said = map(headers_of, messages)
            spool.take(_row(it) for it in said if it.get("kpi.topic") == topic and "kpi.offset" in it)
    file = spool.done()
    return Aside(file, Doubts(_offsets(file, ["schema"]), _offsets(file, ["malformed", "range"])), frozenset(expired), _unread(file))


def _row(said: Mapping[str, str]) -> tuple[Any, ...]:
    offset = int(said["kpi.offset"])
    cause = said.get("kpi.error", "").removeprefix("cause: ") if said.get("kpi.reason") == "late" else None
    whole = re.match(BATCH, said.get("kpi.error", ""))
    return int(said["kpi.partition"]), offset, said.get("kpi.reason"), cause, int(whole[1]) if whole else None


def _unread(file: Path) -> Unread:
    found: dict[int, list[tuple[int, int]]] = {}
    batches = pl.scan_parquet(file).filter(pl.col("last").is_not_null()).select("partition", "offset", "last").collect()
    for partition, first, last in batches.iter_rows():
        found.setdefault(partition, []).append((first, last))
    return found


def _offsets(file: Path, reasons: list[str]) -> dict[int, Any]:
    found = pl.scan_parquet(file).filter(pl.col("reason").is_in(reasons)).select("partition", "offset").collect()
    return {int(key[0]): np.sort(part["offset"].to_numpy()) for key, part in found.partition_by("partition", as_dict=True).items()}
