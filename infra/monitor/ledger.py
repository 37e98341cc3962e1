"""What became of every record that was sent. In: sent, acknowledged, failed, received, and when. Out: fates and shares. Pure.

sent ──► acknowledged at offset 7 ──► received at 7: in time or delayed
  └─► failed                 └──► the reader meets another record at 7, or is past it: lost
"""

from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Record:
    """One record on its way."""

    sent_s: float
    offset: int | None = None  # once it is acknowledged
    acknowledged_s: float = 0.0
    overdue: bool = False


@dataclass
class Ledger:
    """The books of one partition. A record is in time when it is received within `late_s` seconds after it was sent."""

    late_s: float
    window_s: float = 60.0  # shares are told over so long
    memory_s: float = 600.0  # and so long a received record is known again
    fates: Counter[str] = field(default_factory=Counter)
    _way: dict[int, Record] = field(default_factory=dict)
    _seen: dict[int, tuple[int, float]] = field(default_factory=dict)  # number -> offset, when
    _in_time: deque[tuple[float, bool]] = field(default_factory=deque)
    _written: deque[tuple[float, bool]] = field(default_factory=deque)

    def sent(self, number: int, now_s: float) -> None:
        """A record is handed to the producer."""
        self._way[number] = Record(now_s)

    def acknowledged(self, number: int, offset: int, now_s: float) -> None:
        """Kafka has it: from now on it must be read."""
        self.fates["produced"] += 1
        self._written.append((now_s, True))
        if record := self._way.get(number):
            record.offset, record.acknowledged_s = offset, now_s

    def failed(self, number: int, now_s: float) -> None:
        """It was not written, as far as the producer knows."""
        self.fates["error"] += 1
        self._written.append((now_s, False))
        if (record := self._way.pop(number, None)) and not record.overdue:
            self._in_time.append((now_s, False))

    def received(self, number: int, offset: int, now_s: float) -> float | None:
        """Seconds on the way, when it is met for the first time. The same record at another offset is a duplicate.

        What was met at this offset or after it is no longer in the log: it was cut off, and this record was written in its place.
        """
        if number in self._seen:
            self.fates["duplicated"] += self._seen[number][0] != offset
            return None
        while self._seen and next(reversed(self._seen.values()))[0] >= offset:
            self._seen.popitem()
            self.fates["lost"] += 1
        self._seen[number] = (offset, now_s)
        if not (record := self._way.pop(number, None)):
            return None
        self.fates["consumed"] += 1
        delay = now_s - record.sent_s
        if delay > self.late_s:
            self.fates["delayed"] += 1
        if not record.overdue:
            self._in_time.append((now_s, delay <= self.late_s))
        return delay

    def passed(self, offset: int) -> None:
        """The reader is past `offset`: what was acknowledged up to there and was not met is lost."""
        for number in [number for number, record in self._way.items() if record.offset is not None and record.offset <= offset]:
            del self._way[number]
            self.fates["lost"] += 1

    def tick(self, now_s: float) -> None:
        """Time goes on: what is overdue counts against availability at once, and what is old is forgotten."""
        for record in self._way.values():
            if not record.overdue and now_s - record.sent_s > self.late_s:
                record.overdue = True
                self._in_time.append((now_s, False))
        for shares in (self._in_time, self._written):
            while shares and now_s - shares[0][0] > self.window_s:
                shares.popleft()
        while self._seen and now_s - next(iter(self._seen.values()))[1] > self.memory_s:
            del self._seen[next(iter(self._seen))]

    @property
    def first_awaited(self) -> int | None:
        """The lowest offset that was acknowledged and not yet met."""
        return min((record.offset for record in self._way.values() if record.offset is not None), default=None)

    def awaits_s(self, now_s: float) -> float:
        """For how long Kafka has had a record that is not met; 0 without any."""
        return max((now_s - record.acknowledged_s for record in self._way.values() if record.offset is not None), default=0.0)

    @property
    def consume_availability(self) -> float | None:
        """The share of records that came back in time; None without any."""
        return share(self._in_time)

    @property
    def produce_availability(self) -> float | None:
        """The share of records that Kafka acknowledged; None without any."""
        return share(self._written)


def share(outcomes: deque[tuple[float, bool]]) -> float | None:
    """How many of the outcomes are good."""
    return sum(good for _, good in outcomes) / len(outcomes) if outcomes else None
