"""`make flow`: the KPI flow as it runs in production. In: the environment. Out: an exit code, once the flow has ended for good.

    supervisor ──► process 0 (threads) ─┐
         └───────► process 1 (threads) ─┴─► one ends: the others are killed, and all start again after a pause

Workers that have lost one of theirs hang in the engine, so all of them end and start together, also where each process has a machine
and a supervisor of its own (link.py). What only a person can mend is not tried again: the line was said, and the exit code is passed on.
"""

import argparse
import hashlib
import logging
import os
import random
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows import kpi, recovery, reset
from flows.errors import ConfigError
from flows.link import Alone, First, Link, Member
from flows.spelling import canonical
from flows.stop import AWAY, BEGIN_ANEW, ENDED, FENCED, FULL, LOCKED, MISMATCH, REFUSED, UNBEGUN, End, Stop

DIRECTORY = ".kpi/recovery"
KILL_S = 10.0
TURN_S = 0.1
KEEP_BYTES = 8_192
DISK_FULL = "database or disk is full"  # SQLite's words, at the end of the engine's panic
MOST = 64  # threads, or processes
PORTS = range(20_000, 32_000)  # below the system's own: else a client's connection may be given one of them
ADDRESS = re.compile(r"[^\s:;]+:(\d{1,5})", re.ASCII)
FINAL = {
    FENCED: "another flow with its KPI_FLOW_ID has taken over; run one of them, or give each an id of its own",
    LOCKED: "another flow uses its recovery directory; stop that one, or give this one its own",
    MISMATCH: f"its recovery directory belongs to something else; bring back what belongs to it, or begin anew: {BEGIN_ANEW}",
    REFUSED: "Kafka or the registry refuses it; correct the setting or the right that the line above names",
}

# Runs between us and the flow, in the flow's own process: asks Linux to kill it when we end, however we end (prctl(2), PR_SET_PDEATHSIG,
# which outlives exec), and gives up when we have ended already.
LEASH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to run: `workers` threads in each of `processes`, on one recovery directory; and how patient to be.

    `addresses`: where each of the processes is, on machines of their own; we run the one with the number `process`.
    """

    directory: Path
    workers: int = 1
    processes: int = 1
    process: int | None = None
    addresses: tuple[str, ...] = ()
    program: tuple[str, ...] = ("-m", "bytewax.run", "flows.kpi")
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    healthy_s: float = 60.0  # a flow that ran so long begins anew with the shortest pause
    grace_s: float = 30.0  # for the last snapshot; what was not in it is computed again


UNBEGUN_END = End(0, "it has ended before it began", again=False)


@dataclass
class Asked:
    """How often a person or a system asked us to end, and by which signal."""

    times: int = 0
    number: int = 0

    def __call__(self, number: int, _frame: object) -> None:
        """The signal handler."""
        self.times, self.number = self.times + 1, number

    def not_yet(self) -> bool:
        """Whether nobody has."""
        return not self.times


class Worker:
    """One process of the flow, in a group of its own, so that Ctrl-C reaches only us. What it says goes through us."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], prefix: str) -> None:
        leash = [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid())]
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as stderr:
            self.process = subprocess.Popen([*leash, *command], env=environ, stderr=stderr, process_group=0)  # noqa: S603 - our own command
        self.stderr = os.fdopen(reading, "rb", 0)
        self._prefix, self._rest, self.said = prefix.encode(), b"", b""

    def listen(self) -> bool:
        """Pass on whole lines of what it has said; whether there may be more."""
        chunk = os.read(self.stderr.fileno(), 65_536)
        self.said = (self.said + chunk)[-KEEP_BYTES:]
        *lines, self._rest = (self._rest + chunk).split(b"\n") if chunk else (self._rest, b"")
        _write(b"".join(self._prefix + line + b"\n" for line in lines if line or chunk))
        return bool(chunk)

    def signal(self, number: int) -> None:
        """To its whole group, if it is still there."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    @property
    def has_not_begun(self) -> bool:
        """Whether it was asked to end before it had taken part in anything."""
        return self.said.rstrip().endswith(UNBEGUN.encode())

    def end(self) -> End:
        """What its exit code means."""
        code = self.process.returncode
        last = (self.said.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        if code in FINAL:
            return End(code, FINAL[code], again=False)
        if code == 1 and last.startswith("kpi: "):
            return End(code, "its configuration cannot be used", again=False)
        if code == AWAY:
            return End(code, "Kafka is away", again=True)
        if code == FULL or DISK_FULL in last:
            return End(FULL, "the disk is full", again=True)
        if code < 0:
            return End(128 - code, f"process {self.process.pid} was ended by {signal.Signals(-code).name}", again=True)
        return End(code, f"process {self.process.pid} ended with exit code {code} ({last[:200]})", again=True)


@dataclass
class Flow:
    """All of our processes of one start."""

    workers: list[Worker]
    asked: Asked
    grace_s: float
    link: Link
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def run(self) -> End:
        """Until all have ended. When one has failed the others are killed: they hang, or would write a snapshot without it."""
        for worker in self.workers:
            self.selector.register(worker.stderr, selectors.EVENT_READ, worker)
        try:
            return self._run()
        finally:
            self._kill()
            self.selector.close()
            for worker in self.workers:
                worker.stderr.close()

    def _run(self) -> End:
        passed_on, deadline_s = False, float("inf")
        while True:
            self._turn()
            if (end := self._over(asked=passed_on)) is not None:
                return end
            if (self.asked.times > 0 or self.link.leaving) and not passed_on:
                passed_on, deadline_s = True, time.monotonic() + self.grace_s
                self.link.leave()
                for worker in self.workers:
                    worker.signal(signal.SIGTERM)
            elif self.asked.times > 1:
                return End(128 + self.asked.number, "asked twice: killed; the next start goes on from the last snapshot", again=False)
            if deadline_s == float("inf") and self._ended():
                deadline_s = time.monotonic() + self.grace_s
            if time.monotonic() > deadline_s:
                return End(
                    1, f"no last snapshot within {self.grace_s:.0f} s: killed; the next start goes on from the one before", again=False
                )

    def _ended(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.process.poll() is not None]

    def _over(self, *, asked: bool) -> End | None:
        """What those mean that have ended, here or elsewhere; None while the flow goes on."""
        ended = self._ended()
        failed = [worker for worker in ended if worker.process.returncode != 0]
        if failed:
            return _judged(failed, asked=asked)
        if asked and any(worker.has_not_begun for worker in ended):
            return UNBEGUN_END  # the others may wait for it for ever
        if len(ended) == len(self.workers):
            return ENDED
        return self.link.news()

    def _turn(self) -> None:
        for key, _ in self.selector.select(TURN_S):
            if not key.data.listen():
                self.selector.unregister(key.fileobj)
        if not self.selector.get_map():
            time.sleep(TURN_S)

    def _kill(self) -> None:
        """Kill those that are left, wait for them, and pass on their last words."""
        for worker in self.workers:
            worker.signal(signal.SIGKILL)
        for worker in self.workers:
            worker.process.wait(KILL_S)
        while self.selector.get_map() and (ready := self.selector.select(0)):
            for key, _ in ready:
                if not key.data.listen():
                    self.selector.unregister(key.fileobj)


def _judged(failed: Sequence[Worker], *, asked: bool) -> End:
    """What the first processes that failed mean for all."""
    codes = {worker.process.returncode for worker in failed}
    if asked and -signal.SIGTERM in codes:
        return UNBEGUN_END  # its own handler was not there yet
    if asked and AWAY in codes:
        return End(0, "it has ended; what Kafka has not got waits in the recovery directory", again=False)
    ends = [worker.end() for worker in failed]
    return next((end for end in ends if not end.again), ends[0])


def supervise(settings: Settings, environ: Mapping[str, str], asked: Asked) -> int:
    """Run the flow until it ends for good: its exit code."""
    recovery.make(settings.directory)
    with recovery.lock_supervisor(settings.directory, settings.process), closing(_link(settings, environ)) as link:
        recovery.wait_for_processes(settings.directory, KILL_S, settings.process)
        return _supervise(settings, environ, asked, link)


def _supervise(settings: Settings, environ: Mapping[str, str], asked: Asked, link: Link) -> int:
    pause_s, starts, begin_s = settings.first_pause_s, 0, 0.0
    while asked.not_yet():
        started_s, starts = time.monotonic(), starts + 1
        try:
            _make_parts(settings)
            end = link.gather(begin_s, asked.not_yet)
            if not asked.not_yet():
                return 0
            if end is None:
                started_s = time.monotonic()
                end = link.verdict(_once(settings, environ, asked, link))
        except Stop as stop:
            if stop.code != FULL:
                raise
            end = End(FULL, "the disk is full", again=True)
        if link.leaving and not asked.times and end.code not in FINAL:
            end, pause_s = End(0, f"{link.leaving} was asked to end", again=True), settings.first_pause_s
        if not end.again or asked.times:
            say(f"the flow is over: {end.why}")
            return end.code
        if time.monotonic() - started_s >= settings.healthy_s:
            pause_s = settings.first_pause_s
        if end.code == FULL:
            say(str(recovery.full(settings.directory)))
        say(f"{end.why}; start {starts + 1} " + ("when process 0 says so" if settings.process else f"in {pause_s:g} s"))
        begin_s = time.monotonic() + pause_s
        _pause(begin_s if end.code == FULL else 0.0, asked)  # a full disk is met again before anybody is waited for
        pause_s = min(settings.longest_pause_s, 2 * pause_s)
    return 0


def _pause(until_s: float, asked: Asked) -> None:
    while time.monotonic() < until_s and not asked.times:
        time.sleep(TURN_S)


def _make_parts(settings: Settings) -> None:
    """Parts of the recovery directory, if it has none, before any process starts: by process 0."""
    if not settings.process and recovery.make_parts(settings.directory):
        say(f"made the recovery directory {settings.directory} ({recovery.PARTS} parts)")


def _link(settings: Settings, environ: Mapping[str, str]) -> Link:
    """To the supervisors of the other processes, which meet at the address of process 0, at the port behind that of its process."""
    if settings.process is None:
        return Alone()
    host, _, port = settings.addresses[0].rpartition(":")
    where = host, int(port) + 1
    if settings.process == 0:
        recovery.identity(settings.directory, make=True)
        return First(where, settings.processes, lambda: _same(settings, environ), say)
    return Member(settings.process, where, lambda: _same(settings, environ), say)


def _same(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """What all supervisors of a flow must have in common."""
    want = kpi.wanted(environ)
    return {
        "KPI_ADDRESSES": ";".join(settings.addresses),
        "KPI_WORKERS": str(settings.workers),
        "KPI_FLOW_ID": want.flow_id,
        "kpi.toml and KPI_WINDOWS (digest)": hashlib.sha256(canonical(want.declaration).encode()).hexdigest()[:12],
        "recovery directory (identity)": recovery.identity(settings.directory),
    }


def _once(settings: Settings, environ: Mapping[str, str], asked: Asked, link: Link) -> End:
    commands = list(_commands(settings))
    several = len(commands) > 1
    own = {name: value for name, value in environ.items() if not name.startswith("BYTEWAX_")}
    workers: list[Worker] = []
    try:
        for number, command in enumerate(commands):
            workers.append(Worker(command, own, f"[{number}] " if several else ""))
    finally:
        if len(workers) < len(commands):
            for worker in workers:
                worker.signal(signal.SIGKILL)
    if settings.process is None:
        shape = f"{settings.processes} {'processes' if several else 'process'}"
    else:
        shape = f"process {settings.process} of {settings.processes}"
    pids = ", ".join(str(worker.process.pid) for worker in workers)
    threads = f"{settings.workers} {_plural('worker', settings.workers)}"
    say(f"started {shape} of {threads}, recovery directory {settings.directory}, process {pids}")
    return Flow(workers, asked, settings.grace_s, link).run()


def _commands(settings: Settings) -> list[list[str]]:
    """The arguments of Python for each process."""
    epoch_s = "1" if settings.workers * settings.processes == 1 else "0"  # several workers take every epoch as one tick
    command = [*settings.program, "-r", str(settings.directory), "-s", epoch_s, "-b", "0", "-w", str(settings.workers)]
    if settings.process is not None:
        return [[*command, "-i", str(settings.process), "-a", ";".join(settings.addresses)]]
    if settings.processes == 1:
        return [command]
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(settings.processes))
    return [[*command, "-i", str(number), "-a", addresses] for number in range(settings.processes)]


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on. Raises Stop when there are too few."""
    found: list[int] = []
    for port in random.sample(PORTS, 1_000):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise Stop(1, f"kpi: no {count} free ports from {PORTS.start} to {PORTS.stop} for KPI_PROCESSES")


def settings_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The command line over the environment. Raises ConfigError."""
    directory = arguments.recovery_directory or environ.get("BYTEWAX_RECOVERY_DIRECTORY") or DIRECTORY
    workers, processes = _count("KPI_WORKERS", environ.get("KPI_WORKERS")), _count("KPI_PROCESSES", environ.get("KPI_PROCESSES"))
    settings = Settings(Path(directory), workers, processes)
    addresses, process = environ.get("KPI_ADDRESSES") or "", environ.get("KPI_PROCESS_ID") or ""
    return replace(settings, **_place(addresses, process, environ.get("KPI_PROCESSES"))) if addresses or process else settings


def _place(given: str, process: str, processes: str | None) -> dict[str, Any]:
    """Where the processes of a flow on several machines are, and which of them is ours; nothing more where one machine has all."""
    addresses = tuple(given.split(";"))
    ports = [int(found[1]) if (found := ADDRESS.fullmatch(address)) else 0 for address in addresses]
    if len(set(addresses)) < len(addresses) or not all(0 < port < 2**16 - 1 for port in ports):
        raise ConfigError(
            f"KPI_ADDRESSES: got {given or 'nothing'}, want host:port;host:port…, one for each process, ports from 1 to 65534"
        )
    if len(addresses) > MOST or (processes and int(processes) != len(addresses)):
        raise ConfigError(f"KPI_ADDRESSES: got {len(addresses)} addresses, want {processes or f'at most {MOST}'}, or no KPI_PROCESSES")
    if not (process.isascii() and process.isdecimal() and int(process) < len(addresses)):
        want = f"the place of this process in KPI_ADDRESSES, from 0 to {len(addresses) - 1}"
        raise ConfigError(f"KPI_PROCESS_ID: got {process or 'nothing'}, want {want}")
    several = len(addresses) > 1
    return {"processes": len(addresses), "process": int(process) if several else None, "addresses": addresses if several else ()}


def _count(name: str, value: str | None) -> int:
    if not value:
        return 1
    if not (value.isascii() and value.isdecimal() and 0 < int(value) <= MOST):
        raise ConfigError(f"{name}: got {value}, want a whole number from 1 to {MOST}")
    return int(value)


def say(line: str) -> None:
    """A line for people."""
    _write(f"flow: {line}\n".encode())


def _write(text: bytes) -> None:
    with suppress(OSError):  # nobody reads on: no reason to end the flow
        sys.stderr.buffer.write(text)
        sys.stderr.buffer.flush()


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def main(arguments: Sequence[str] | None = None) -> int:
    """The flow's exit code, or that of a reset."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.supervise",
        description="Runs the KPI flow exactly-once, and starts all of its workers again after a crash of any. SIGTERM or Ctrl-C ends "
        "it with a last snapshot, a second one at once. KPI_WORKERS: threads a process (1). KPI_PROCESSES: processes (1). On several "
        "machines: KPI_ADDRESSES, host:port;host:port…, and which of them is this one, KPI_PROCESS_ID.",
    )
    parser.add_argument("-r", "--recovery-directory", metavar="DIR", help=f"made when missing (BYTEWAX_RECOVERY_DIRECTORY, {DIRECTORY})")
    parser.add_argument("--reset", action="store_true", help="do not run it: forget what it has done, so that the next start begins anew")
    parser.add_argument("--yes", action="store_true", help="with --reset: do not ask (YES=1)")
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        say(f"unknown: {' '.join(unknown)}; --help says what there is")
        return 2
    try:
        settings = settings_of(given, os.environ)
        if given.reset:
            return reset.reset(settings.directory, os.environ, sure=given.yes or os.environ.get("YES") == "1")
        logging.getLogger("flows").addHandler(logging.NullHandler())  # what it warns of, each process says by itself
        kpi.wanted(os.environ)
        asked = Asked()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, asked)
        return supervise(settings, os.environ, asked)
    except ConfigError as error:
        _write(f"kpi: {error}\n".encode())
        return 1
    except Stop as stop:
        _write(f"{stop}\n".encode())
        return stop.code


if __name__ == "__main__":
    sys.exit(main())
