"""`python -m bench.peers.check NAME...`: whether peers find the right results. In: names (all without). Out: a line each; 1 if not."""

import argparse
import sys
import tempfile
from pathlib import Path

from bench.clicks import TOPIC, fill
from bench.contenders import COMMANDS, THREE
from bench.measure import Bench
from bench.peers.run import FailedError
from infra.embedded import PartError, cluster

EVENTS, GROUPS = 100_000, 1_000


def main() -> int:
    """Fill a small topic, and let each read it."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.check", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMMANDS))
    parser.add_argument("--windows", default=THREE)
    given = parser.parse_args()
    if unknown := set(given.names) - set(COMMANDS):
        parser.error(f"got {', '.join(sorted(unknown))}, want {', '.join(COMMANDS)}")
    bad = 0
    with tempfile.TemporaryDirectory(prefix="kpi-bench-", ignore_cleanup_errors=True) as home, cluster() as running:
        fill(running.bootstrap, running.registry_url, EVENTS, GROUPS)
        bench = Bench(running.environ, EVENTS, Path(home))
        for name in given.names or COMMANDS:
            try:
                rate = bench.peer(name, COMMANDS[name](), given.windows, TOPIC)
            except (FailedError, PartError, ImportError) as error:
                bad += 1
                print(f"{name}: {error}", flush=True)
            else:
                print(f"{name}: right, {rate:,.0f} events/s of {EVENTS:,}, memory {bench.peak_mb:,} MB", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
