"""How much work something takes, on a machine that others keep busy too."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_once() -> Iterator[None]:
    """What takes hundredths of a second here, and minutes where it is wrong. The thread's own CPU time: who else runs does not count."""
    used_s = time.thread_time()
    yield
    assert time.thread_time() - used_s < 5
