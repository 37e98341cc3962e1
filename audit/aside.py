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
from audit.topic import Topics, Unread, headers_of, stamp_of
from flows.records import DEAD, LATE

SCHEMA = {
    "partition": pl.Int32(),
    "offset": pl.Int64(),
    "reason": pl.String(),  # `late`, or why it is a dead letter
    "cause": pl.String(),  # of a late one
    "stamp": pl.Int64(),  # when it was set aside, UTC ms
    "last": pl.Int64(),  # a batch that could not be read has one letter, at its first offset: its last one; null of a message's
}
BATCH = r"partition \d+, offsets \d+ to (\d+), \d+ records: "  # how the letter of a whole batch begins to say what is wrong


@dataclass(frozen=True, slots=True)
class Aside:
    """`file`: SCHEMA; `expired`: those of the two topics whose beginning is not there any more; `unread`: see Topics.read.

    `before`: how many of the topic's count no more, as the flow was begun anew.
    """

    file: Path
    doubts: Doubts
    expired: frozenset[str]
    unread: Unread = field(default_factory=dict)
    before: int = 0


def read_aside(topics: Topics, topic: str, directory: Path, since_ms: int) -> Aside:
    """What was set aside of a topic since a moment, both topics read to their present ends."""
    spool, expired, before = Spool(directory / "aside.parquet", SCHEMA), set[str](), 0
    for source in (LATE, DEAD):
        span = topics.span(source)
        if any(first > 0 for first, _ in span.values()):
            expired.add(source)
        for messages in topics.read(source, span):
            found = [_row(said, stamp_of(message)) for message in messages if is_of(said := headers_of(message), topic)]
            kept = [row for row in found if row[-2] >= since_ms]
            before += len(found) - len(kept)
            spool.take(kept)
    file = spool.done()
    doubts = Doubts(_offsets(file, ["schema"]), _offsets(file, ["malformed", "range"]))
    return Aside(file, doubts, frozenset(expired), _unread(file), before)


def is_of(said: Mapping[str, str], topic: str) -> bool:
    """Whether these are the headers of a record of the topic."""
    return said.get("kpi.topic") == topic and "kpi.offset" in said


def _row(said: Mapping[str, str], stamp_ms: int) -> tuple[Any, ...]:
    offset = int(said["kpi.offset"])
    cause = said.get("kpi.error", "").removeprefix("cause: ") if said.get("kpi.reason") == "late" else None
    whole = re.match(BATCH, said.get("kpi.error", ""))
    return int(said["kpi.partition"]), offset, said.get("kpi.reason"), cause, stamp_ms, int(whole[1]) if whole else None


def _unread(file: Path) -> Unread:
    found: dict[int, list[tuple[int, int]]] = {}
    batches = pl.scan_parquet(file).filter(pl.col("last").is_not_null()).select("partition", "offset", "last").collect()
    for partition, first, last in batches.iter_rows():
        found.setdefault(partition, []).append((first, last))
    return found


def _offsets(file: Path, reasons: list[str]) -> dict[int, Any]:
    found = pl.scan_parquet(file).filter(pl.col("reason").is_in(reasons)).select("partition", "offset").collect()
    return {int(key[0]): np.sort(part["offset"].to_numpy()) for key, part in found.partition_by("partition", as_dict=True).items()}
