"""A question before something that cannot be taken back. In: the question. Out: yes or no."""

import signal
import sys


def at_terminal() -> bool:
    """Whether there is a person who could answer."""
    return sys.stdin is not None and sys.stdin.isatty()


def agreed(question: str) -> bool:
    """Whether a person at a terminal says yes; without a terminal nobody does. Ctrl-C is a KeyboardInterrupt at once."""
    if not at_terminal():
        return False
    signal.siginterrupt(signal.SIGINT, True)  # importing polars sets a handler after which a read goes on, and waits
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
