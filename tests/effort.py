"""How much work something takes, on a machine that others keep busy too."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_most(cpu_s: float) -> Iterator[None]:
    """CPU time of this thread alone: neither who else runs counts, nor collecting what other tests have left."""
    gc.disable()
    used_s = time.thread_time()
    try:
        yield
        assert time.thread_time() - used_s < cpu_s
    finally:
        gc.enable()
