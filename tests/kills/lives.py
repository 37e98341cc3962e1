"""Many lives of one flow, each ended by SIGKILL: what test_kills.py runs as a child process. In: arguments. Out: one line of JSON.

Lives are forked from this process, which has imported what they need but what starts threads (polars does when it is imported):
so a life begins in a tenth of the time. Arguments: directory, seed, kills, zombies, seeded fault ("" for none).
"""

import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

from bytewax.recovery import init_db_dir

from tests.kills.fate import LONGEST_S, PARTS, POINTS, Life
from tests.kills.tables import connect

WARM = (
    "bytewax.inputs bytewax.operators bytewax.outputs bytewax.run confluent_kafka.admin confluent_kafka.schema_registry crc32c "
    "fastavro kafka.consumer.fetcher lz4.frame numpy prometheus_client pydantic snappy zstandard "
    "flows.durations flows.stop flows.topics flows.watermark"
)
DOWNTIME_MS = 8_000  # more than lateness and the largest window
STEP_MS = 40
UNDONE_S = 30.0
FINISH_S = 200.0  # for all that is still unread, on a machine that is busy with other things


class Lives:
    """A flow, its log, and what became of it."""

    def __init__(self, home: Path, seed: int, seeded: str) -> None:
        self.home, self.seeded, self.dice = home, seeded, Random(seed)
        self.recovery = home / "recovery"
        self.recovery.mkdir()
        (home / "deaths").touch()
        init_db_dir(self.recovery, 2)  # type: ignore[no-untyped-call]
        self.begin_ms = time.time_ns() // 1_000_000
        self.skipped_ms = 0
        self.exits: Counter[str] = Counter()
        self.zombies = 0
        self.seed = seed

    def life(self, point: str = "", **more: object) -> Life:
        """The next life, with other workers and epochs than the last."""
        often = {"in the middle": 4, "before init": 2, "after init": 2}.get(point, 6)
        made = Life(
            self.seed,
            self.begin_ms,
            self.skipped_ms,
            str(self.recovery),
            str(self.home / "log.sqlite3"),
            str(self.home / "deaths"),
            workers=self.dice.choice((1, 2)),
            epoch_ms=self.dice.choice((10, 20, 40)),
            update="off" if self.seeded else "100ms",
            point=point,
            nth=self.dice.randint(1, often),
            most_s=self.dice.uniform(0.02, 0.2) if point == "any moment" else LONGEST_S,
            late=self.dice.random() < 0.5,
            seeded=self.seeded,
        )
        return replace(made, **more)  # type: ignore[arg-type] # fields by name

    def start(self, life: Life) -> int:
        """The pid of a new process that lives it."""
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork takes one thread along, and the locks of all"
        pid = os.fork()
        if pid:
            return pid
        try:
            said = os.open(self.home / "said", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
            os.dup2(said, 1)
            os.dup2(said, 2)
            importlib.import_module("tests.kills.life").live(life)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as its parent
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    def kill(self) -> None:
        """One life that ends somewhere; then, for half of them, a long time without any."""
        point = self.dice.choice((*POINTS, "any moment", "any moment"))
        self._wait(self.start(self.life(point)))
        if self.dice.random() < 0.5:
            self.skipped_ms += DOWNTIME_MS

    def zombie(self) -> None:
        """One life is stopped, another goes on from a copy of its directory; then the first wakes up.

        It is stopped late: before it had claimed its parts, it would be the newer one when it wakes up, and in its right.
        """
        point = self.dice.choice(("begin", "in the middle", "before the marker", "before commit", "after commit", "any moment"))
        first = self.start(self.life(point, stops=True, late=True))
        _, status = os.waitpid(first, os.WUNTRACED)
        if not os.WIFSTOPPED(status):  # where nothing is fenced, one of those before has put its marker over a newer one: nobody may go on
            self.exits[f"the first, too soon: {os.waitstatus_to_exitcode(status)}"] += 1
            return
        copy = self.home / f"recovery-{self.zombies}"
        self.zombies += 1
        shutil.copytree(self.recovery, copy)
        self.recovery = copy
        before = self._owners()
        second = self.start(self.life())
        # Until it has claimed both markers: before, the first could still find itself the owner, and the second would leave.
        _until(lambda: len(now := self._owners()) == PARTS and all(now[part] != before.get(part) for part in now))
        os.kill(first, signal.SIGCONT)
        if self.seeded:
            _until(lambda: self.doubled() > 0 or _gone(first))  # a busy machine needs its time until both have committed the same rows
            os.kill(first, signal.SIGKILL)
        self._wait(first, "the first: ")
        os.kill(second, signal.SIGKILL)
        self._wait(second, "the second: ")

    def finish(self) -> int:
        """Two lives without a fault, to the end of what is written by now, and past it: the second commits what the first left pending."""
        limit = (time.time_ns() // 1_000_000 + self.skipped_ms - self.begin_ms) // STEP_MS
        for _ in range(2):
            self._wait(self.start(self.life(limit=limit)), "at last: ", FINISH_S)
        return limit

    def doubled(self) -> int:
        """How many rows a reader sees again, when all of them are final."""
        with closing(connect(self.home / "log.sqlite3")) as log:
            visible = "FROM rows WHERE committed AND topic <> 'kpi.progress'"
            (rows,) = log.execute(f"SELECT count(*) {visible}").fetchone()
            (keys,) = log.execute(f"SELECT count(*) FROM (SELECT DISTINCT topic, key {visible})").fetchone()
            return int(rows - keys)

    def _owners(self) -> dict[bytes, str]:
        """Who committed the marker of each sink part."""
        with closing(connect(self.home / "log.sqlite3")) as log:
            markers = log.execute("SELECT key, value FROM rows WHERE committed AND topic = 'kpi.progress' ORDER BY number")
            return {key: json.loads(value)[-1] for key, value in markers}

    def _wait(self, pid: int, who: str = "", limit_s: float = UNDONE_S) -> None:
        """How a life has ended; one that goes on for so long is ended, and said to hang."""
        deadline = time.monotonic() + limit_s
        while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                self.exits[f"{who}hangs"] += 1
                return
            time.sleep(0.002)
        self.exits[f"{who}{os.waitstatus_to_exitcode(ended[1])}"] += 1


def _gone(pid: int) -> bool:
    """Whether it has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _until(what: Callable[[], bool], limit_s: float = UNDONE_S) -> None:
    deadline = time.monotonic() + limit_s
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)


def main() -> None:
    """Kill, see whether a seeded fault shows, and finish."""
    home, seed, kills, zombies, seeded = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    for name in WARM.split():
        importlib.import_module(name)
    lives = Lives(home, seed, seeded)
    order = [lives.kill] * kills + [lives.zombie] * zombies
    lives.dice.shuffle(order)
    for end in order:
        end()
        if seeded and lives.doubled():
            break
    limit = lives.finish()
    points = Counter((home / "deaths").read_text().splitlines())
    print(json.dumps({"begin_ms": lives.begin_ms, "limit": limit, "exits": lives.exits, "points": points}))  # noqa: T201 - its result


if __name__ == "__main__":
    main()
