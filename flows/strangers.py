"""Partitions that hold no Avro. In: what was read of a partition. Out: which dead letters are kept, and how long the row is. Pure.

    magic ── 1,000 in a row ──► non-Avro: one letter in 1,000 offsets, all counted ── anything else but a tombstone ──► as before

A function of the messages in the order of their offsets, so the same letters are kept in every batching and after every restart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from flows.wire import RawBatch, Rejected

IN_A_ROW = 1_000  # messages of fate `magic`, then the partition counts as non-Avro
SAMPLED = 1_000  # and a dead letter is kept where the offset is divisible by this


class Read(Protocol):
    """How far a partition is read."""

    @property
    def strangers(self) -> int:
        """The messages of fate `magic` in a row up to here."""


@dataclass(frozen=True, slots=True)
class Strangers:
    """`rows`: partition -> messages of fate `magic` in a row at its end; `since`: partition -> the offset at which it became non-Avro."""

    rows: Mapping[int, int]
    since: dict[int, int]
    left_out: frozenset[tuple[int, int]]

    def kept(self, message: Rejected) -> bool:
        """Whether a rejected message leaves a dead letter."""
        return (message.partition, message.offset) not in self.left_out


def judged_strangers(
    before: Mapping[int, Read], frame: pl.DataFrame, segments: Mapping[int, slice], rejected: Sequence[Rejected], bad: Iterable[RawBatch]
) -> Strangers:
    """What the messages of some batches make of each partition that has any. `segments`: the rows of each partition in `frame`."""
    rows, since, left_out = {}, {}, set()
    magic: dict[int, list[int]] = {}
    others: dict[int, list[int]] = {}
    for message in rejected:
        if message.reason != "tombstone":
            (magic if message.reason == "magic" else others).setdefault(message.partition, []).append(message.offset)
    for batch in bad:
        others.setdefault(batch.partition, []).append(batch.base_offset)
    for partition, position in before.items():
        if partition not in magic:  # the fast way: a row goes on or ends
            rows[partition] = 0 if partition in segments or partition in others else position.strangers
            continue
        offsets, events = np.array(magic[partition]), segments.get(partition, slice(0, 0))
        breaks = np.sort(np.concatenate([frame["__offset"][events].to_numpy(), np.array(others.get(partition, []), np.int64)]))
        broken = np.searchsorted(breaks, offsets)  # how many other messages came before each
        first = np.searchsorted(broken, broken)  # the index of the first stranger of its row
        row = np.arange(len(offsets)) - first + 1 + np.where(broken == 0, position.strangers, 0)
        left_out |= {(partition, offset) for offset in offsets[(row > IN_A_ROW) & (offsets % SAMPLED != 0)].tolist()}
        if len(became := np.flatnonzero(row == IN_A_ROW)):
            since[partition] = int(offsets[became[-1]])
        rows[partition] = 0 if broken[-1] < len(breaks) else int(row[-1])
    return Strangers(rows, since, frozenset(left_out))
