"""How far event time has come. In: event times in offset order, promises, ends, the clock. Out: watermarks and lateness. Pure.

A partition's watermark `W_p` is the largest event time seen in it, in offset order, minus the allowed lateness; it never goes
back. A quiet partition may promise more (idle, joined). Everything is UTC milliseconds.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NEVER = -(2**62)  # the watermark of a partition not heard of yet
Times = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Mark(NamedTuple):
    """`W_p` by data alone and with promises (never less), and whether the partition is read nearly to its end."""

    seen_ms: int = NEVER
    promised_ms: int = NEVER
    fresh: bool = True


def before(times: Times, moves: Mask, lateness_ms: int, seen_ms: int) -> Times:
    """`W_p` by data alone just before each message, and after the last: one longer than `times` (in offset order).

    Only messages with `moves` move it (not those of an impossible or future time).
    """
    marks = np.empty(len(times) + 1, np.int64)
    marks[0] = seen_ms
    np.subtract(times, lateness_ms, out=marks[1:])
    marks[1:][~moves] = NEVER
    return np.maximum.accumulate(marks, out=marks)


def late(times: Times, watermarks: Times | int, slice_ms: int) -> Mask:
    """A message is late if and only if the end of its slice is at or below the watermark before it."""
    return (times // slice_ms + 1) * slice_ms <= watermarks


class Ends:
    """Since when partitions are known to be read: what was there when an end was asked for is read once their position has come to it."""

    def __init__(self) -> None:
        self._asked: dict[int, tuple[int, int]] = {}  # partition -> an end that is not reached, and when it was asked for

    def seen(self, ends: Mapping[int, int], positions: Mapping[int, int], clock_ms: int) -> dict[int, int]:
        """Partition -> the latest moment at which its end was asked for that is reached by now. `ends`: as they were just asked for."""
        found = {}
        for partition, end in ends.items():
            before, at = self._asked.pop(partition, None), positions[partition]
            if at >= end:
                found[partition] = clock_ms
            elif before is not None and at < before[0]:
                self._asked[partition] = before  # not the newer one: where messages come all the time that would never be reached
            else:
                self._asked[partition] = (end, clock_ms)
                found |= {partition: before[1]} if before is not None else {}
        return found


def topic_watermark(marks: Mapping[int, Mark], partitions: int, *, promises: bool) -> int:
    """Minimum over all partitions of the topic; a partition not heard of yet counts as NEVER."""
    if partitions == 0:
        return NEVER
    unheard = Mark()
    heard = (marks.get(partition, unheard) for partition in range(partitions))
    return min(mark.promised_ms if promises else mark.seen_ms for mark in heard)
