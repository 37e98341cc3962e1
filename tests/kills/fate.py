"""When a life of the flow ends. In: the plan of a life. Out: its death by SIGKILL (or its stop, for a zombie), and a line that says where.

Imports nothing that starts a thread: the fork server has it before it forks.
"""

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

POINTS = (
    "before init",
    "after init",
    "begin",
    "in the middle",
    "before the marker",
    "before commit",
    "after commit",
    "after snapshot",
    "any moment",
)
LONGEST_S = 25.0  # of a life that waits for something
MOST_SNAPSHOTS = 12  # in a life that does not come to its point
PARTS = 2  # of the sink
LINGER_S = 0.02  # "after snapshot" is up to so long after it: while it becomes durable, and until it is committed


@dataclass(frozen=True, slots=True)
class Life:
    """A life: how it runs, and where it ends: at the `nth` time it comes there or at the latest with the MOST_SNAPSHOTS-th snapshot.

    "any moment" is after `most_s` of processor time. `late`: all of that is counted from the first snapshots on. So a slow or a busy
    machine makes lives slower, and not emptier. `point` "": it lives until all of [0, `limit`) is read, and ends by itself.
    """

    seed: int
    begin_ms: int
    skipped_ms: int  # how far the clock is ahead: downtime that nobody had to wait for
    recovery: str
    log: str
    deaths: str
    workers: int
    epoch_ms: int
    update: str
    point: str
    nth: int = 1
    most_s: float = LONGEST_S
    late: bool = False
    limit: int = 0
    seeded: str = ""
    stops: bool = False  # SIGSTOP in place of SIGKILL


class Fate:
    """Where this process meets its end. `still` is held by whoever must not be stopped now: other processes would wait for it."""

    def __init__(self, life: Life, dice: Random) -> None:
        self.life, self.left, self.still = life, life.nth, threading.Lock()
        self.ended, self.snapshots, self.counts = False, 0, threading.Event()
        self.parts = set[int]()
        if not life.late:
            self.counts.set()
        self.linger_s = dice.uniform(0, LINGER_S)
        if life.point:
            threading.Thread(target=self._at_last, daemon=True).start()

    def meet(self, point: str) -> None:
        """The process is at this point."""
        if not self.counts.is_set() or self.life.point in {"", "any moment"}:
            return
        if point == self.life.point:
            self.left -= 1
            if self.left == 0:
                if point == "after snapshot":
                    threading.Timer(self.linger_s, self._end, [point]).start()
                else:
                    self._end(point)
        elif self.snapshots >= MOST_SNAPSHOTS:
            self._end("any moment")

    def snapshot(self, part: int) -> None:
        """A sink part has made one. Its last claim is behind it."""
        self.snapshots += 1
        self.parts.add(part)
        if len(self.parts) == PARTS:
            self.counts.set()
        self.meet("after snapshot")

    def _at_last(self) -> None:
        began_s = time.monotonic()
        self.counts.wait(LONGEST_S)
        used_s = time.process_time()
        while time.process_time() - used_s < self.life.most_s and time.monotonic() - began_s < LONGEST_S:
            time.sleep(0.005)
        self._end("any moment")

    def _end(self, point: str) -> None:
        with self.still:
            if self.ended:
                return  # a zombie has been stopped once
            self.ended = True
            with Path(self.life.deaths).open("ab", buffering=0) as deaths:
                deaths.write(f"{point}\n".encode())
            os.kill(os.getpid(), signal.SIGSTOP if self.life.stops else signal.SIGKILL)
