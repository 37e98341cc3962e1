"""`make load`: 100 pages on a real broker and a real server, and what they cost. In: how many, how long. Out: figures, an exit code.

0: everything that was promised held. 1: something did not. 130: ended by a person. Logs and the report stay in .load/.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from infra.embedded import PartError
from infra.embedded.child import interrupt
from tests.load.parts import LOGS, SHORT, Plan
from tests.load.run import run


def plan(words: Sequence[str] | None = None) -> Plan:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="25 pages, held for 10 s, no churn")
    parser.add_argument("--sessions", type=int, default=100, metavar="N", help="pages that are open, and the cap (100)")
    parser.add_argument("--hold", type=float, default=120, metavar="S", help="seconds they are held and measured (120)")
    parser.add_argument("--churn", type=float, default=900, metavar="S", help="seconds in which pages leave and come after that (900)")
    parser.add_argument("--every", type=float, default=2, metavar="S", help="one leaves and one comes this often (2)")
    parser.add_argument("--flow", type=int, default=0, metavar="RATE", help="events a second through a real flow beside it (none)")
    parser.add_argument("--profile", action="store_true", help="leave the loop's profile in .load/profile (python -m pstats)")
    said = parser.parse_args(words)
    if said.short:
        return replace(SHORT, flow_rate=said.flow, profile=said.profile)
    return Plan(said.sessions, said.hold, said.churn, said.every, said.flow, said.profile)


def main() -> int:
    """0, 1 or 130, as said above."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    wanted, started = plan(), time.monotonic()
    LOGS.mkdir(exist_ok=True)

    def say(words: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:7.1f}  {words}\n")

    try:
        report = run(wanted, say)
    except KeyboardInterrupt:
        return 130
    except PartError as error:
        say(str(error))
        return 1
    (LOGS / "report.json").write_text(json.dumps({"plan": asdict(wanted), **asdict(report)}, indent=1) + "\n")
    for miss in report.misses():
        say(f"MISS {miss}")
    return 1 if report.misses() else 0


if __name__ == "__main__":
    sys.exit(main())
