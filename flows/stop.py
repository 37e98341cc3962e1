"""Why a flow may not go on: a code for what restarts it, a line for people. In: the reason. Out: the end of the process."""

import os
import sys
from typing import NamedTuple, NoReturn

FULL = 74  # the disk of the recovery directory is full: start again when there is room
AWAY = 75  # Kafka took nothing for minutes: start again when it is back
REFUSED = 76  # Kafka refuses this client for good: a setting or a right must change
FENCED = 77  # another flow has taken over
MISMATCH = 78  # marker and recovery directory do not belong together
LOCKED = 79  # another process uses the recovery directory

UNBEGUN = "kpi: ended before Kafka answered"  # the last line, with code 0, of a process that the others may be waiting for
BEGIN_ANEW = "`make reset` says first what that means"


class Stop(Exception):  # noqa: N818 - it is an order, not an error of the program
    """The flow must end now: going on could lose or double rows. The text says why, and the way on."""

    def __init__(self, code: int, line: str) -> None:
        super().__init__(line)
        self.code = code


class End(NamedTuple):
    """Why a flow is over: its exit code (0: asked to, or by itself), a reason for people, and whether to start again."""

    code: int
    why: str
    again: bool


ENDED = End(0, "it has ended", again=False)


def leave(stop: Stop) -> NoReturn:
    """End the process at once: an exception would let other worker threads write one more snapshot."""
    sys.stderr.write(f"{stop}\n")
    sys.stderr.flush()
    os._exit(stop.code)
