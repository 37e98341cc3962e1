"""A child process that cannot outlive us. In: a command. Out: a running process with its own log."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import psutil

from infra.embedded.errors import PartError

# Runs between us and the command, in the command's own process: asks Linux to kill it when we die, however we die (prctl(2),
# PR_SET_PDEATHSIG, which outlives exec), and gives up when we are dead already.
LEASH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""

INTERRUPTED = threading.Event()

# Below Linux' and macOS' ephemeral ports: else a client that reconnects while the server is down may be given the server's port.
PORTS = range(20_000, 32_000)


class Child:
    """A process in its own group (so that Ctrl-C reaches only us), with its output in a log."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, environ: Mapping[str, str] | None = None) -> None:
        """Start `command` in the current directory. `environ` is added to our own environment."""
        self.name = name
        self.log = log
        self._asked = False
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            environ = {**os.environ, **(environ or {})}
            self._process = _spawner().run(
                lambda: subprocess.Popen(
                    leashed(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environ,
                    process_group=0,
                )
            )

    @property
    def pid(self) -> int:
        """The command's own process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def stop(self, grace_s: float = 10) -> None:
        """End it with SIGTERM; kill what is left of its group after `grace_s` seconds."""
        self.ask_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self.kill()

    def ask_to_stop(self) -> None:
        """Send SIGTERM, once, and return at once: a second one means in a hurry, and a program may then leave half done."""
        if not self._asked:
            self._asked = True
            self._process.terminate()

    def kill(self) -> None:
        """Kill it and its children, as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def listens(self, port: int) -> bool:
        """Whether this very process listens on `port`: who else may answer there is of no interest."""
        try:
            connections = psutil.Process(self.pid).net_connections(kind="tcp")
        except psutil.Error:
            return False
        return any(connection.status == psutil.CONN_LISTEN and connection.laddr.port == port for connection in connections)

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_until(self, answers: Callable[[], bool], timeout_s: float) -> None:
        """Return when `answers()`. Raises PartError with the end of the log when it ends or stays silent."""
        end = time.monotonic() + timeout_s
        while not answers():
            check_interrupt()
            if self.exit_code is not None:
                raise PartError(self.obituary())
            if time.monotonic() > end:
                raise PartError(f"{self.name} did not answer within {timeout_s:.0f} s; the end of its log ({self.log}):\n{self.tail()}")
            time.sleep(0.05)

    def obituary(self) -> str:
        """Which process ended, how, and its last words."""
        return f"{self.name} ended with exit code {self.exit_code}; the end of its log ({self.log}):\n{self.tail()}"


def interrupt(_number: int, _frame: object) -> None:
    """A signal handler: KeyboardInterrupt now, and again at the next check should a library's callback have swallowed it."""
    INTERRUPTED.set()
    raise KeyboardInterrupt


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if there was one."""
    if INTERRUPTED.is_set():
        raise KeyboardInterrupt


def leashed(command: Sequence[str | Path]) -> list[str]:
    """The same command, but Linux kills it when the thread that starts it ends, and so when we die."""
    return [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *map(str, command)]


class _Spawner:
    """One thread that lives as long as we do: Linux counts a child's parent as dead when the *thread* that made it ends.

    A daemon, and no ThreadPoolExecutor: where Ctrl-C comes while that starts its thread, Python waits for it for ever at the end.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Future[subprocess.Popen[bytes]], Callable[[], subprocess.Popen[bytes]]]] = SimpleQueue()
        threading.Thread(target=self._serve, name="spawner", daemon=True).start()

    def run(self, call: Callable[[], "subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
        """What the call returns, or raises, in that thread."""
        future: Future[subprocess.Popen[bytes]] = Future()
        self._asked.put((future, call))
        return future.result()

    def _serve(self) -> None:
        while True:
            future, call = self._asked.get()
            try:
                future.set_result(call())
            except OSError as error:
                future.set_exception(error)


@cache
def _spawner() -> _Spawner:
    return _Spawner()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    for port in random.sample(PORTS, 100):
        if is_free(port):
            return port
    raise PartError(f"no free port between {PORTS.start} and {PORTS.stop}")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
