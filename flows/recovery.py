"""The recovery directory belongs to one flow at a time. In: its path. Out: the lock, held while the file stays open."""

import fcntl
from pathlib import Path
from typing import TextIO

from flows.stop import LOCKED, Stop


def lock(directory: Path, process: int) -> TextIO:
    """The held lock of one Bytewax process id: keep the file open for as long as the flow runs. Raises Stop when somebody else holds it.

    Fencing guards the topics, not this directory: a second flow on it left it with empty state and no error. So take the lock before the
    engine starts. The kernel gives it back when the process ends, however it ends; a process that is only stopped (SIGSTOP) keeps it.
    """
    held = (directory / f"process-{process}.lock").open("a", encoding="utf-8")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise Stop(
            LOCKED, f"{directory}: another flow (process id {process}) uses this recovery directory; stop it, or give this one its own"
        ) from None
    return held
