"""A question before something that cannot be taken back. In: the question. Out: yes or no."""

import signal
import sys


def agreed(question: str) -> bool:
    """Whether a person at a terminal says yes; without a terminal nobody does. Ctrl-C is a KeyboardInterrupt at once."""
    if not sys.stdin.isatty():
        return False
    signal.siginterrupt(signal.SIGINT, True)  # importing polars sets a handler after which a read goes on, and waits
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
