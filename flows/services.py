"""What the readers of one process share. In: clients. Out: the topics that are there, and how far each partition has come."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from confluent_kafka.admin import AdminClient

from flows import topics
from flows.outage import Outage
from flows.outputs import Planner
from flows.registry import Registry

DISCOVER_S = 5.0
FAILED_S = 1.0


@dataclass
class Services:
    """What the readers of one process share."""

    kafka_python: Mapping[str, object]
    admin: AdminClient
    registry: Registry
    planner: Planner
    chosen: Callable[[str], bool]
    clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    reached_ms: dict[str, dict[int, int]] = field(default_factory=dict)  # topic -> partition -> watermark, of all readers here
    forbidden: dict[str, int] = field(default_factory=dict)  # topics that may not be read -> the reader that said so
    found: dict[str, tuple[str, int]] | None = None
    found_s: float = 0.0
    failed: str = ""
    failed_s: float = float("-inf")
    outage: Outage = field(default_factory=Outage)
    lock: threading.Lock = field(default_factory=threading.Lock)
    heavy: threading.Lock = field(default_factory=threading.Lock)  # held while a batch of more than 32 MiB is read: one at a time

    def topics(self) -> dict[str, tuple[str, int]]:
        """Chosen topic -> (id, partitions), asked anew every 5 s by whoever comes first. Raises topics.Unreachable.

        A failure takes 5 s, and holds for all who have waited behind it.
        """
        with self.lock:
            if time.monotonic() - self.failed_s < FAILED_S:
                raise topics.Unreachable(self.failed)
            if self.found is None or time.monotonic() - self.found_s >= DISCOVER_S:
                try:
                    self.found, self.found_s = topics.discover(self.admin, self.chosen), time.monotonic()
                except topics.Unreachable as error:
                    self.failed, self.failed_s = str(error), time.monotonic()
                    raise
            return self.found

    def look_again(self) -> None:
        """Whoever asks for topics next gets them as they are then."""
        with self.lock:
            self.found_s = float("-inf")
