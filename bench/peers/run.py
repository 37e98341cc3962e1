"""A contender's process from start to end. In: a command, what it is told. Out: how many messages it had handled when; peak memory."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import IO, Self

import psutil

from infra.embedded.child import leashed

THREADS = 2
LINES = 20


class FailedError(RuntimeError):
    """A contender that did not do what was asked: the run goes on without it."""


class Program:
    """A running contender; ends with its `with` block, children included."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.reads: list[tuple[float, int]] = [(time.perf_counter(), 0)]
        self.log = log
        self._peaks_kb: dict[int, int] = {}
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                leashed(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environ},
                process_group=0,
                text=True,
            )
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raises FailedError with its last words when it ended badly."""
        if self.exit_code:
            words = "\n".join(self.log.read_text(errors="replace").splitlines()[-LINES:])
            raise FailedError(f"ended with exit code {self.exit_code}:\n{words}")

    def peak_mb(self) -> int:
        """The sum over its processes of the most memory that each has had until now, as far as they were seen alive."""
        with suppress(psutil.Error):
            own = psutil.Process(self._process.pid)
            for process in [own, *own.children(recursive=True)]:
                if peak := peak_kb(process.pid):
                    self._peaks_kb[process.pid] = peak
        return sum(self._peaks_kb.values()) // 1024

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            if (count := said_read(line)) is not None:
                self.reads.append((time.perf_counter(), count))


def said_read(line: str) -> int | None:
    """The number of a line `read N`; None of any other."""
    found = re.fullmatch(r"read (\d+)\s*", line)
    return int(found[1]) if found else None


def crossing(reads: Sequence[tuple[float, int]], count: int) -> float:
    """When so many had been handled: on the line between the last report below and the first one that is not."""
    for (before, low), (after, high) in pairwise(reads):
        if low < count <= high:
            return before + (after - before) * (count - low) / (high - low)
    raise FailedError(f"it never said that it had handled {count:,} messages")


def peak_kb(pid: int) -> int:
    """Linux' VmHWM of a process; 0 where it cannot be read."""
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
