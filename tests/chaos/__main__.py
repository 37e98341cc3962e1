"""`make chaos`: kill, starve and poison a running flow on real brokers. In: how often. Out: progress, a table, an exit code.

0: everything that was promised held. 1: something did not. 130: ended by a person.
"""

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from infra.embedded import PartError
from infra.embedded.child import interrupt
from tests.chaos.base import Ground, Result, ground, percentile
from tests.chaos.brokers import brokers, outages
from tests.chaos.faults import faults
from tests.chaos.flow import ROOT
from tests.chaos.kills import kills, poison
from tests.chaos.links import links
from tests.chaos.registry import registry
from tests.chaos.topics import topics
from tests.chaos.verdict import Verdict
from tests.chaos.zombies import zombies

LOGS = ROOT / ".chaos"


class Scenario(NamedTuple):
    """What is played, how often, and how often in short."""

    play: Callable[[Ground, int, int], Result]
    times: int
    short: int


SCENARIOS = {
    "faults": Scenario(faults, 4, 3),
    "kills": Scenario(kills, 120, 10),
    "poison": Scenario(poison, 30, 5),
    "brokers": Scenario(brokers, 30, 3),
    "outages": Scenario(outages, 3, 1),
    "zombies": Scenario(zombies, 20, 2),
    "registry": Scenario(registry, 20, 10),
    "topics": Scenario(topics, 12, 6),
    "links": Scenario(links, 3, 1),
}


class Log:
    """Lines with the time since the start, to the terminal and to a file that stays."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        self.file, self._started = file, time.monotonic()

    def __call__(self, line: str) -> None:
        """Say a line."""
        stamped = f"{time.monotonic() - self._started:7.1f}  {line}\n"
        sys.stderr.write(stamped)
        sys.stderr.flush()
        with self.file.open("a") as file:
            file.write(stamped)


def played(on: Ground, name: str, count: int, seed: int) -> Result:
    """The result of a scenario; what it could not do is one."""
    started = time.monotonic()
    on.say(f"{name}: {count} to come, seed {seed}")
    try:
        result = SCENARIOS[name].play(on, count, seed)
    except Exception as error:  # noqa: BLE001 - whatever it was, the other scenarios are played, and the table is shown
        on.say(f"    {error!r}")
        result = Result(name, count, Verdict(), failed=[repr(error)])
    on.say(f"{name}: {'good' if result.good else 'BAD'} after {time.monotonic() - started:.0f} s: {result.notes}")
    for line in result.failed:
        on.say(f"    {line}")
    return result


def table(results: Sequence[Result]) -> str:
    """The scoreboard."""
    lines = [
        "",
        "scenario    count     rows   lost  doubled  wrong     p50 s   p99 s  worst s  limit s  verdict",
        "----------  -----  -------  -----  -------  -----  --------  ------  -------  -------  -------",
    ]
    for one in results:
        of, found = one.seconds, one.verdict
        shown = [f"{percentile(of, share):.1f}" if of else "" for share in (0.5, 0.99, 1.0)]
        limit = "" if one.limit_s is None else f"{one.limit_s:.0f}"
        lines.append(
            f"{one.scenario:<10}  {one.count:>5}  {found.rows:>7}  {found.lost:>5}  {found.doubled:>7}  {found.wrong:>5}  "
            f"{shown[0]:>8}  {shown[1]:>6}  {shown[2]:>7}  {limit:>7}  {'good' if one.good else 'BAD'}"
        )
    return "\n".join([*lines, "", *(f"{one.scenario}: {one.notes}" for one in results if one.notes)])


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill, starve and poison a running flow on real brokers.")
    for name, scenario in SCENARIOS.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"how many (default {scenario.times})")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of everything random (default: the time)")
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="play this scenario; may be given several times")
    parser.add_argument("--short", action="store_true", help="the form that the tests run")
    return parser.parse_args(given)


def main() -> int:
    """Play everything that was asked for, and show the table."""
    asked = arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    home = LOGS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    say = Log(home.with_suffix(".log"))
    results: list[Result] = []
    names = asked.only or list(SCENARIOS)
    try:
        with ground(home, say, short=asked.short) as on:
            for name in names:
                scenario = SCENARIOS[name]
                count = getattr(asked, name)
                results.append(
                    played(on, name, (scenario.short if asked.short else scenario.times) if count is None else count, asked.seed)
                )
    except KeyboardInterrupt:
        say("ended before its time")
        say(table(results))
        return 130
    except PartError as error:
        say(f"chaos: {error}")
        return 1
    say(table(results))
    say(f"the log: {say.file.relative_to(ROOT)}")
    if not all(result.good for result in results):
        say(f"what the flows said, and their recovery directories: {home.relative_to(ROOT)}/")
        return 1
    shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
