"""`python -m serve` with a profile of its loop. In: a file's name. Out: the seconds of CPU that each function took, in that file.

Seconds of this thread's own CPU, not of the clock: what a busy machine takes away is nobody's fault.
"""

import cProfile
import sys
import time

from serve.__main__ import main

if __name__ == "__main__":
    file = sys.argv.pop(1)
    profile = cProfile.Profile(time.thread_time)
    code = profile.runcall(main)
    profile.dump_stats(file)
    sys.exit(code)
