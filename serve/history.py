"""What was written before the dashboard started. In: how far partitions are read back. Out: their messages, the newest stretch first.

The newest records of each partition are read first, by the feed itself; what is older is read here beside it, stretch by stretch further
into the past, so that a page shows the present at once and its past fills up.
"""

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from flows.durations import UNITS_MS
from serve.series import POINTS

RECENT = 5_000  # records of a partition that are read before all that is older: 0.1 s
HISTORY = 50_000  # records read back whatever their age
LONGEST = 500_000  # records read back at most: about 20 s
STRETCH = 50_000  # records read forward at once
READER = {
    "auto.offset.reset": "earliest",  # what has expired meanwhile is passed over
    "queued.max.messages.kbytes": 4_096,  # what is fetched beyond a stretch is thrown away
    "fetch.queue.backoff.ms": 5,
}
LENGTH = r"(\d{1,9})(ms|s|mo|m|h|d|w|y)"
SPELLED = re.compile(rf"\.(?:session-|cumulate-)?{LENGTH}(?:-{LENGTH})?(?:-[A-Z][\w+-]*)?$")
CALENDAR_MS = {"w": 7 * UNITS_MS["d"], "mo": 31 * UNITS_MS["d"], "y": 366 * UNITS_MS["d"]}

Part = tuple[str, int]


def part_of(message: Message) -> Part:
    """Where a message is from."""
    return message.topic() or "", message.partition() or 0


def reach_ms(topic: str) -> int:
    """How far back a chart of a KPI topic can show, as its windows are so far apart; 0 where its name does not say its window.

    >>> reach_ms("kpi.shop.orders.10s"), reach_ms("kpi.shop"), reach_ms("kpi.shop.cumulate-1d-10s-Europe-Berlin")
    (14400000, 0, 14400000)
    """
    found = SPELLED.search(topic)
    return POINTS * int(found[3] or found[1]) * {**UNITS_MS, **CALENDAR_MS}[found[4] or found[2]] if found else 0


def since(consumer: Consumer, parts: Iterable[Part], now_ms: int, answer_s: float) -> dict[Part, int]:
    """Partition -> the offset of the oldest moment that a chart shows, where anything is younger than that. Raises KafkaException."""
    wanted = [TopicPartition(*part, now_ms - reach) for part in parts if (reach := reach_ms(part[0]))]
    found = consumer.offsets_for_times(wanted, answer_s) if wanted else []
    return {(it.topic, it.partition): it.offset for it in found if it.error is None and it.offset >= 0}


def split(low: int, high: int, oldest: int) -> tuple[int, int]:
    """Where the history of a partition [low, high) begins, and where its newest part does.

    It reaches back to the offset of the oldest moment shown, but for HISTORY records at least, and LONGEST at most.

    >>> split(0, 90_000, 70_000), split(0, 900_000, 0), split(100, 120, 120)
    ((40000, 85000), (400000, 895000), (100, 100))
    """
    return max(low, high - LONGEST, min(oldest, high - HISTORY)), max(low, high - min(RECENT, LONGEST))


@dataclass(slots=True)
class Stretch:
    """What is left of a partition: [start, end). Under way is [at, end), read up to `read`."""

    start: int
    end: int
    at: int
    read: int


class Past:
    """A second consumer of the feed's thread, there while there is something to read back."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = {**settings, **READER}
        self._consumer: Consumer | None = None
        self._stretches: dict[Part, Stretch] = {}
        self._waiting: set[Part] = set()
        self._done: set[Part] = set()

    def __bool__(self) -> bool:
        return bool(self._stretches)

    @property
    def behind(self) -> int:
        """Records still to be read, at most: what was compacted counts until it is passed over."""
        return sum(it.at - it.start + it.end - it.read for it in self._stretches.values())

    def add(self, part: Part, start: int, end: int) -> None:
        """Read [start, end) of a partition, from the next `go_on` on; instead of what is left of it."""
        self._drop(part)
        if start < end:
            at = max(start, end - STRETCH)
            self._stretches[part] = Stretch(start, end, at, at)
            self._waiting.add(part)

    def keep(self, topics: Container[str]) -> None:
        """Give up what is left of all other topics: librdkafka goes on waiting for one that is gone, and says nothing."""
        for part in [part for part in self._stretches if part[0] not in topics]:
            self._drop(part)

    def go_on(self) -> None:
        """Read what waits."""
        if self._waiting and self._consumer is None:
            self._consumer = Consumer(self._settings)
        for part in self._waiting:
            self._assign(part)
        self._waiting.clear()

    def consume(self, most: int, wait_s: float) -> list[Message]:
        """What comes within a moment. Whoever takes it calls `leave` for what must come again."""
        done, self._done = self._done, set()
        for part in done:
            self._next(part)
        if self._consumer is None:
            return []
        return [message for message in self._consumer.consume(most, wait_s) if self._belongs(message)]

    def leave(self, part: Part, offset: int) -> None:
        """Read a partition no more until `go_on`, which goes on at `offset`."""
        self._leave(part)
        if stretch := self._stretches.get(part):
            stretch.read = offset
            self._waiting.add(part)

    def close(self) -> None:
        """Leave the broker; what was under way waits for `go_on`."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        for part, stretch in self._stretches.items():
            stretch.read = stretch.at
            self._waiting.add(part)
        self._done.clear()

    def _belongs(self, message: Message) -> bool:
        part = part_of(message)
        stretch = self._stretches.get(part)
        if stretch is None or part in self._done:
            return False
        error, offset = message.error(), message.offset() or 0
        if error and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its name
            stretch.start = stretch.at  # a topic that is gone, or may not be read: what is older is not to be had
        elif not error and offset < stretch.end:
            stretch.read = offset + 1
        if error or offset + 1 >= stretch.end:
            self._done.add(part)
        return not error and offset < stretch.end

    def _next(self, part: Part) -> None:
        stretch = self._stretches[part]
        stretch.end, stretch.at = stretch.at, max(stretch.start, stretch.at - STRETCH)
        stretch.read = stretch.at
        if stretch.start == stretch.end:
            self._drop(part)
        else:
            self._leave(part)
            self._assign(part)

    def _drop(self, part: Part) -> None:
        self._leave(part)
        self._stretches.pop(part, None)
        if not self._stretches:
            self.close()

    def _assign(self, part: Part) -> None:
        if self._consumer is not None:
            self._consumer.incremental_assign([TopicPartition(*part, self._stretches[part].read)])

    def _leave(self, part: Part) -> None:
        self._done.discard(part)
        self._waiting.discard(part)
        if self._consumer is not None and part in self._stretches:
            try:
                self._consumer.incremental_unassign([TopicPartition(*part)])
            except KafkaException:
                return  # it was not assigned: it waited
