"""Kafka away, said once, and once that it is back. In: what the flow's clients meet. Out: two lines, and an end that does not wait for it.

    readers, sink parts ──► failed, worked ──► watch ──► "Kafka … has not answered since …"
                                                 └── asked to end ──► asks Kafka itself ──► the process is left

Leaving is no loss: what Kafka has not got is in the recovery directory, as after a kill.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import NoReturn

LOG = logging.getLogger(__name__)

PATIENCE_S = 5.0  # a broker that starts, or hands over, takes a few seconds
LAST_S = 3.0  # after SIGTERM, for a last snapshot without Kafka
TURN_S = 0.2
HOLD_S, SPELL_S, AGAIN_S = 15.0, 45.0, 60.0  # an outage is known after 10 s; kafka-python tries at least every 36 s


class Outage:
    """Whether Kafka answers. Each client reports under a name of its own: one that works does not speak for the others. Thread-safe."""

    def __init__(self, address: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.address, self._clock = address, clock
        self._lock = threading.Lock()
        self._failing: dict[str, tuple[float, str]] = {}  # who -> (since when, why)
        self._told_s: float | None = None  # when the outage that was told of began

    def failed(self, who: str, why: str, since_s: float | None = None) -> None:
        """A try, begun at `since_s`, has met no Kafka, and there will be another."""
        with self._lock:
            self._failing.setdefault(who, (self._clock() if since_s is None else since_s, why))

    def worked(self, who: str) -> None:
        """Kafka has answered."""
        with self._lock:
            self._failing.pop(who, None)

    def lasts_s(self) -> float:
        """For how long somebody has been waiting for Kafka; 0 when nobody is."""
        with self._lock:
            return self._clock() - min(self._failing.values())[0] if self._failing else 0.0

    def turn(self) -> None:
        """Tell what has changed."""
        with self._lock:
            since_s, why = min(self._failing.values(), default=(None, ""))
        if since_s is not None and self._told_s is None and self._clock() - since_s >= PATIENCE_S:
            self._told_s = since_s
            at = time.strftime("%H:%M:%S", time.localtime(time.time() - (self._clock() - since_s)))
            LOG.warning("Kafka %s has not answered since %s (%s); trying until it does", self.address, at, why)
        elif since_s is None and self._told_s is not None:
            LOG.warning("Kafka %s answers again, after %.0f s", self.address, self._clock() - self._told_s)
            self._told_s = None


def watch(outage: Outage, stopping: threading.Event, ask: Callable[[], str], end: Callable[[str], NoReturn]) -> None:
    """Tell of outages, in a thread of its own, for as long as the process lives. One that is asked to end does not wait for Kafka.

    `ask`: why Kafka does not answer, "" when it does. `end` ends the process.
    """

    def run() -> None:
        while not stopping.wait(TURN_S):
            outage.turn()
        asked_s = time.monotonic()
        while min(outage.lasts_s(), time.monotonic() - asked_s) < LAST_S:
            begin_s = time.monotonic()
            if why := ask():
                outage.failed("end", why, begin_s)
            else:
                outage.worked("end")
            time.sleep(TURN_S)
        end("ended without Kafka")

    threading.Thread(target=run, name="watch", daemon=True).start()


class Hushed(logging.Handler):
    """The log of the client that reads, which says several lines at each try: one a minute, of what no outage explains."""

    def __init__(self, outage: Outage, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.ERROR)
        self._outage, self._clock = outage, clock
        self._first_s = self._last_s = self._said_s = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        """Errors that have gone on for a while though Kafka answers."""
        now_s = self._clock()
        if now_s - self._last_s > SPELL_S:
            self._first_s = now_s
        self._last_s = now_s
        if now_s - self._first_s >= HOLD_S and now_s - self._said_s >= AGAIN_S and not self._outage.lasts_s():
            self._said_s = now_s
            LOG.warning("the client that reads events: %s", record.getMessage())
