"""The recovery directory: made, checked, and one flow's at a time. In: its path. Out: parts in it, and locks held while files stay open."""

import errno
import fcntl
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, TextIO

from flows.errors import ConfigError
from flows.stop import FULL, LOCKED, Stop

PARTS = 4  # so many workers can write it side by side, also after a later change: 32 KB each, made in 35 ms
PROBE_BYTES = 2**20  # SQLite wants room for a journal beside what it writes
MAKING = ".making"  # is there while parts are made: nothing has used them yet


def lock(directory: Path, process: int) -> TextIO:
    """The held lock of one Bytewax process id: keep the file open for as long as the flow runs. Raises Stop when somebody else holds it.

    Fencing guards the topics, not this directory: a second flow on it left it with empty state and no error. So take the lock before the
    engine starts. The kernel gives it back when the process ends, however it ends; a process that is only stopped (SIGSTOP) keeps it.
    """
    return _hold(directory, f"process-{process}")


def lock_all(directory: Path) -> ExitStack:
    """The locks of every process that has ever run here, and the supervisor's: nobody uses the directory. Raises Stop."""
    with ExitStack() as taken:
        for name in sorted({"supervisor", "process-0", *(file.stem for file in directory.glob("process-*.lock"))}):
            taken.enter_context(_hold(directory, name))
        return taken.pop_all()


def check_others(directory: Path, processes: int) -> None:
    """Raise Stop when a flow of more processes than ours still runs here: ours would not meet the locks of its last ones."""
    for path in directory.glob("process-*.lock"):
        if int(path.stem.removeprefix("process-")) >= processes:
            _hold(directory, path.stem).close()


def wait_for_processes(directory: Path, seconds: float, process: int | None = None) -> None:
    """Return when no process of a flow is left (or not this one), or after that long: it outlives its supervisor by a moment."""
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        try:
            return check_others(directory, 0) if process is None else lock(directory, process).close()
        except Stop:
            time.sleep(0.05)
    return None


def lock_supervisor(directory: Path, process: int | None = None) -> ExitStack:
    """The supervisor's lock: it holds the directory also while no flow runs. Raises Stop.

    On several machines each supervisor holds that of its own process id, and shares with the others what a lone one has alone.
    """
    with ExitStack() as taken:
        taken.enter_context(_hold(directory, "supervisor", shared=process is not None))
        if process is not None:
            taken.enter_context(_hold(directory, f"supervisor-{process}"))
        return taken.pop_all()


def identity(directory: Path, *, make: bool = False) -> str:
    """What tells this directory from every other one, so that supervisors know that theirs is the same; empty before it was made."""
    path = directory / "identity"
    try:
        if make and not path.exists():
            new = path.with_suffix(".new")
            new.write_text(uuid.uuid4().hex)
            new.replace(path)
        return path.read_text()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise unusable(directory, error) from None


def _hold(directory: Path, name: str, *, shared: bool = False) -> TextIO:
    try:
        held = (directory / f"{name}.lock").open("a+", encoding="utf-8")  # NFS shares a lock only of a file that can be read
    except OSError as error:
        raise unusable(directory, error) from None
    try:
        fcntl.flock(held, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        who = name.replace("process-", "process id ").replace("supervisor-", "supervisor of process id ")
        raise Stop(LOCKED, f"{directory}: another flow ({who}) uses this recovery directory; stop it, or give this one its own") from None
    return held


def check(directory: Path) -> None:
    """Return when the directory takes a write. Raises Stop when its disk is full, ConfigError when it cannot be used at all."""
    probe = directory / f".probe-{os.getpid()}"
    try:
        try:
            with probe.open("wb") as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise unusable(directory, error) from None


def unusable(directory: Path, error: OSError) -> ConfigError | Stop:
    """What to say of a directory that the system refuses: a full disk may be mended while we wait, all else is for a person."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return full(directory)
    return ConfigError(f"-r: got {directory}, want a directory that can be written to ({error.strerror})")


def full(directory: Path) -> Stop:
    """What to say of a directory whose disk is full."""
    disk = shutil.disk_usage(directory)
    free = f"{disk.free / 2**20:.1f} of {disk.total / 2**20:.0f} MiB are free"
    return Stop(FULL, f"{directory}: the disk of the recovery directory is full ({free}); make room, and the flow goes on where it was")


def has_parts(directory: Path) -> bool:
    """Whether it was made a recovery directory."""
    return any(directory.glob("part-*.sqlite3"))


def forget_unfinished(directory: Path) -> int:
    """Remove snapshots of epochs that an ended flow had not finished: how many there were. Call it locked, before the engine starts.

    The engine resumes from the last epoch that every worker had finished, and leaves there what single steps have snapshotted since. A key
    that the next flow does not touch in the epoch of that number would later be resumed from it: a fold ahead of its source, and
    events lost in windows that it takes for closed (docs/decisions/0013). Process 0 of a flow does this: no engine runs before all
    have met, and on a shared volume one machine should write. Raises ConfigError when it is no whole recovery directory, and as `check`.
    """
    parts = sorted(directory.glob("part-*.sqlite3"))
    try:
        resume, forgotten = _resume_epoch(parts), 0
        for part in parts:
            with closing(sqlite3.connect(part)) as database, database:
                forgotten += database.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (resume,)).rowcount
    except sqlite3.Error as error:
        check(directory)
        raise ConfigError(f"-r: got {directory}, want recovery parts that can be read and written ({error})") from None
    return forgotten


def _resume_epoch(parts: list[Path]) -> int:
    """The epoch that the engine will begin with: the least that a worker of the last execution has come to; 1 before the first."""
    executions: dict[int, tuple[int, int]] = {-1: (1, 1)}  # number -> (workers, the epoch that it began with)
    reached: dict[tuple[int, int], int] = {}  # (execution, worker) -> the epoch that it has come to
    wanted = 0
    for part in parts:
        with closing(sqlite3.connect(part)) as database:
            wanted = max([wanted, *(count for (count,) in database.execute("SELECT part_count FROM parts"))])
            for number, workers, epoch in database.execute("SELECT ex_num, worker_count, resume_epoch FROM exs"):
                executions[number] = (workers, epoch)
            for number, worker, epoch in database.execute("SELECT ex_num, worker_index, worker_frontier FROM fronts"):
                reached[number, worker] = max(epoch, reached.get((number, worker), 0))
    if wanted != len(parts):
        raise ConfigError(f"-r: got {parts[0].parent} with {len(parts)} of {wanted} recovery parts, want all of them")
    last = max(executions)
    workers, began = executions[last]
    return min(reached.get((last, worker), began) for worker in range(workers))


def states(directory: Path, step: str) -> list[Any]:
    """What the parts of a step have snapshotted last, as the engine would resume them; also while a flow runs. Raises as above."""
    parts = sorted(directory.glob("part-*.sqlite3"))
    newest: dict[str, tuple[int, bytes]] = {}
    try:
        resume = _resume_epoch(parts)
        for part in parts:
            with closing(sqlite3.connect(f"{part.absolute().as_uri()}?mode=ro", uri=True)) as database:
                asked = (
                    "SELECT state_key, snap_epoch, ser_change FROM snaps WHERE step_id = ? AND snap_epoch < ? AND ser_change IS NOT NULL"
                )
                for name, epoch, change in database.execute(asked, (step, resume)):
                    newest[name] = max(newest.get(name, (-1, b"")), (epoch, change))
    except sqlite3.Error as error:
        raise ConfigError(f"-r: got {directory}, want recovery parts that can be read ({error})") from None
    return [pickle.loads(change) for _, (_, change) in sorted(newest.items())]  # noqa: S301 - the flow's own directory, as the engine reads it


def make(directory: Path) -> None:
    """The directory, with parts, if it is missing. Raises as `check` does."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(directory, error) from None


def make_parts(directory: Path) -> bool:
    """Parts in a directory that has none: whether they had to be made. Raises as `check` does. Call it under the supervisor's lock."""
    check(directory)
    making = directory / MAKING
    if has_parts(directory) and not making.exists():
        return False
    making.touch()
    for half in directory.glob("part-*.sqlite3*"):
        half.unlink()
    command = [sys.executable, "-m", "bytewax.recovery", str(directory), str(PARTS)]
    # A process of its own: a full disk is a panic in Rust.
    made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if made.returncode != 0:
        check(directory)
        said = (made.stderr.strip().splitlines() or [""])[-1]
        raise ConfigError(f"-r: got {directory}, want a directory that recovery parts can be made in ({said})")
    making.unlink()
    return True
