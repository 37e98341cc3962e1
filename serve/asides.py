"""Messages that are in no window. In: records of kpi.late and kpi.dead-letters. Out: their numbers, and the newest of them. Pure.

Both are bounded, whatever topics and reasons the records name.
"""

from bisect import insort
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

FATES = {"kpi.late": "late", "kpi.dead-letters": "dead"}
REASONS = 1_000  # pairs of source topic and reason that are counted one by one
NEWEST = 20  # of a fate and source topic
SOURCES = 200  # fates and source topics whose newest are kept: 5 MB of the longest
CUT = 256  # bytes of a key or value

Headers = Mapping[str, bytes | str | None]


@dataclass(frozen=True, slots=True)
class Aside:
    """One message that was late or dead, and where it is. `key`, `value`: their first 256 bytes; `size`: the value's whole length in bytes.

    `partition`, `offset`, `timestamp_ms` (Kafka's) are those of the message itself, -1 where unknown.
    """

    fate: str
    reason: str
    error: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    size: int


def read_aside(fate: str, headers: Headers, key: bytes | None, value: bytes | None) -> Aside:
    """The message that a record of kpi.late or kpi.dead-letters is about.

    >>> read_aside("dead", {"kpi.topic": b"shop", "kpi.offset": b"7", "kpi.partition": b"x"}, None, b"ab").offset
    7
    """
    said = {name.removeprefix("kpi."): text for name, text in headers.items()}
    reason, error, topic = (_text(said.get(name)) for name in ("reason", "error", "topic"))
    partition, offset, timestamp_ms, whole = (_number(said.get(name)) for name in ("partition", "offset", "timestamp", "truncated"))
    start_key, start = (it and it[:CUT] for it in (key, value))
    size = max(whole, len(value or b""))
    return Aside(fate, reason or "unknown", error, topic or "unknown", partition, offset, timestamp_ms, start_key, start, size)


class Asides:
    """How many messages met which fate, and the newest of them."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._newest: OrderedDict[tuple[str, str], list[tuple[int, int, Aside]]] = OrderedDict()
        self._taken = 0

    def count(self, fate: str, topic: str, reason: str) -> None:
        """Count a message that is "late" or "dead"."""
        key = (fate, topic, reason)
        if key not in self._counts and len(self._counts) >= REASONS:
            key = (fate, topic if any(topic == known for _, known, _ in self._counts) else "", "other")
        self._counts[key] += 1

    def keep(self, aside: Aside, at_ms: int) -> None:
        """Keep a message that was set aside at `at_ms`, while it is among the newest; the source that is quiet for longest makes room."""
        self._taken += 1
        kept = self._newest.setdefault((aside.fate, aside.topic), [])
        insort(kept, (at_ms, self._taken, aside))
        del kept[:-NEWEST]
        self._newest.move_to_end((aside.fate, aside.topic))
        if len(self._newest) > SOURCES:
            self._newest.popitem(last=False)

    def fates(self, topic: str, fate: str) -> dict[str, int]:
        """Reason -> messages of a source topic that are "late" or "dead"."""
        return {reason: n for (its_fate, its_topic, reason), n in self._counts.items() if (its_fate, its_topic) == (fate, topic)}

    def newest(self, topic: str) -> list[Aside]:
        """The newest messages of a source topic, the newest first: at most 20 of each fate."""
        kept = [it for fate in FATES.values() for it in self._newest.get((fate, topic), ())]
        return [aside for _, _, aside in sorted(kept, reverse=True)]


def _text(header: bytes | str | None) -> str:
    return (header[:1_000].decode("utf-8", "replace") if isinstance(header, bytes) else header or "")[:250]


def _number(header: bytes | str | None) -> int:
    text = _text(header)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1  # noqa: PLR2004 - digits of 64 bits
