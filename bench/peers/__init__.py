"""Other engines on the same topic, each a program of its own. In: PEER_* variables. Out: rows in the topic PEER_OUT, `read N` on stdout.

The contract, the same for all: the topic PEER_TOPIC holds PEER_TOTAL clicks (bench/clicks.py) in four partitions, without keys, the last of
each partition an hour later than the others. For each of PEER_WINDOWS (tumbling, milliseconds, joined by commas) and each country the peer
keeps number, sum, min and max of `amount` by `event_time`, drops no event, and writes to PEER_OUT: key `window_ms|start_ms|country`, value
`{"events": 3, "sum": 6.5, "min": 1.0, "max": 4.5}`. It may write a key again: the last value counts. It works with PEER_THREADS threads,
keeps files in PEER_HOME only, and ends on SIGTERM.

This module needs nothing but Python, as a peer may live in another environment than ours.
"""

import json
import os
import sys
import time
from dataclasses import dataclass, field

SCHEMA = {
    "type": "record",
    "name": "Click",
    "namespace": "bench",
    "fields": [
        {"name": "event_time", "type": "long"},
        {"name": "country", "type": "string"},
        {"name": "user_id", "type": "long"},
        {"name": "amount", "type": "double"},
        {"name": "items", "type": "int"},
        {"name": "coupon", "type": ["null", "string"], "default": None},
    ],
}  # as bench/clicks.py writes it, the time as a plain number: no datetime is made for each event
JUMP_MS = 1_800_000
TENTH_S = 0.1


@dataclass(frozen=True, slots=True)
class Told:
    """What the environment says to a peer."""

    bootstrap: str
    topic: str
    windows_ms: tuple[int, ...]
    out: str
    total: int
    home: str
    threads: int


def told() -> Told:
    """The PEER_* variables."""
    of = os.environ
    windows_ms = tuple(int(size) for size in of["PEER_WINDOWS"].split(",") if size)
    total, threads = int(of["PEER_TOTAL"]), int(of["PEER_THREADS"])
    return Told(of["KAFKA_BOOTSTRAP_SERVERS"], of["PEER_TOPIC"], windows_ms, of["PEER_OUT"], total, of["PEER_HOME"], threads)


@dataclass(slots=True)
class Reads:
    """Says `read N` at most ten times a second, and once all are read."""

    total: int
    count: int = 0
    said: float = field(default=0.0)

    def add(self, number: int) -> None:
        """`number` more have been handled."""
        self.count += number
        if (now := time.monotonic()) - self.said >= TENTH_S or self.count >= self.total:
            self.said = now
            sys.stdout.write(f"read {self.count}\n")
            sys.stdout.flush()


@dataclass(slots=True)
class Closing:
    """Knows the last event of each partition by its jump of an hour: its time may not count while another partition is still read."""

    latest_ms: dict[int, int] = field(default_factory=dict)

    def is_last(self, partition: int, time_ms: int) -> bool:
        """Whether the event jumps ahead of the one before it in its partition."""
        before = self.latest_ms.get(partition, time_ms)
        self.latest_ms[partition] = time_ms
        return time_ms - before > JUMP_MS


def row(window_ms: int, start_ms: int, country: str, result: tuple[int, float, float, float]) -> tuple[bytes, bytes]:
    """Key and value of a result as every peer writes it."""
    events, total, smallest, largest = result
    value = {"events": events, "sum": total, "min": smallest, "max": largest}
    return f"{window_ms}|{start_ms}|{country}".encode(), json.dumps(value).encode()
