"""What every scenario stands on. In: a cluster. Out: scenes (a topic that is fed, a flow, a watch), verdicts and rows of the scoreboard."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.embedded import Cluster, cluster
from infra.embedded.child import check_interrupt
from tests.chaos.feeder import PLAIN, Diet, Feeder, misplaced
from tests.chaos.flow import ROOT, SHAPES, Flow, Life
from tests.chaos.reference import SIZES, Expected, expected
from tests.chaos.verdict import Verdict, balance, judge, lag
from tests.chaos.watch import Watch

Say = Callable[[str], None]
SETTLE_S = 90.0  # for the last rows, on a loaded machine
FIRST_ROW_S = 60.0
VERIFY_S = 300.0
SHOWN = 8  # of the differences


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the scoreboard. `seconds` are what was measured, `limit_s` what their 99th percentile (the worst of few) must keep."""

    scenario: str
    count: int
    verdict: Verdict
    seconds: Sequence[float] = ()
    limit_s: float | None = None
    notes: str = ""
    failed: Sequence[str] = ()  # what else went wrong, in words

    @property
    def good(self) -> bool:
        """Whether all that was promised held."""
        in_time = self.limit_s is None or (bool(self.seconds) and percentile(self.seconds, 0.99) <= self.limit_s)
        return self.verdict.good and in_time and not self.failed


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(share * 1000) * len(ordered) // 1000) - 1)]


def until(what: Callable[[], object], limit_s: float, why: str) -> None:
    """Return when it is true. Raises TimeoutError with `why`."""
    end = time.monotonic() + limit_s
    while not what():
        check_interrupt()
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit_s:.0f} s: {why}")
        time.sleep(0.02)


def pause(seconds: float) -> None:
    """Let time pass; Ctrl-C ends it."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check_interrupt()
        time.sleep(min(left, 0.1))


@dataclass
class Scene:
    """A topic that is fed, a flow that reads it, and a watch on its rows."""

    feeder: Feeder
    flow: Flow
    watch: Watch
    say: Say
    want: Expected | None = None  # the reference, once the scene has settled

    def first_row(self, life: Life, limit_s: float = FIRST_ROW_S) -> float:
        """Seconds from a start to the first final row made by that life. Raises TimeoutError, or RuntimeError when it ended."""

        def seen() -> bool:
            if not life.alive:
                raise RuntimeError(f"{self.flow.flow_id} {life.shape} ended with {life.exit_codes}:\n{self.flow.log[-3000:]}")
            return self.watch.first_after(life.started_ms) is not None

        until(seen, limit_s, f"a row of {self.flow.flow_id} {life.shape}")
        return (self.watch.first_after(life.started_ms) or 0.0) - life.started_s

    def settle(self, life: Life | None = None) -> Verdict:
        """End the feed, let the flow (`life`, or a new one) catch up, judge everything, end it, and check its books."""
        flow = self.flow
        self.feeder.finish()
        life = life or flow.start(SHAPES[0])
        self.want = want = expected(flow.cluster, self.feeder.topic, self.feeder.schema_id)
        read_back = {at: one.value for at, one in want.records.items()}
        verdict = Verdict()
        try:
            until(lambda: self._caught_up(life), SETTLE_S, f"the lag of {flow.flow_id} is 0")
            end = time.monotonic() + SETTLE_S / 3
            while not (verdict := judge(flow, want)).good and not verdict.hopeless and time.monotonic() < end:
                pause(1.0)
        except (TimeoutError, RuntimeError) as error:
            verdict = judge(flow, want)
            verdict.amiss(str(error))
        if any(codes := life.stop()):
            verdict.amiss(f"SIGTERM ended the flow with {codes}")
        balance(verdict, flow, want)
        amiss, twice = misplaced(self.feeder.sent, self.feeder.somewhere, read_back)
        if amiss:
            verdict.amiss(f"{self.feeder.topic}: {amiss}")
        if twice:
            self.say(
                f"    {self.feeder.topic}: {twice} of {len(read_back):,} records of the input stand there once more, by their own producer"
            )
        for line in verdict.lines[:SHOWN]:
            self.say(f"    {line}")
        return verdict

    def _caught_up(self, life: Life) -> bool:
        if not life.alive:
            raise RuntimeError(f"{self.flow.flow_id} ended with {life.exit_codes}:\n{self.flow.log[-3000:]}")
        return not any(lag(self.flow.cluster, self.flow.flow_id, self.feeder.topic).values())


@dataclass
class Ground:
    """Where scenarios are played: a cluster, a directory, and a way to say how it goes."""

    cluster: Cluster
    home: Path
    say: Say
    short: bool = False
    names: set[str] = field(default_factory=set)

    @contextmanager
    def scene(
        self, name: str, seed: int, *, diet: Diet = PLAIN, environ: Mapping[str, str] | None = None, module: str = "flows.kpi"
    ) -> Iterator[Scene]:
        """A scene with a topic `chaos.<name>` of three partitions, being fed; everything is ended with the block."""
        if name in self.names:
            raise ValueError(f"{name}: got the same scene twice")
        self.names.add(name)
        feeder = Feeder(self.cluster, f"chaos.{name}", seed, diet=diet)
        flow = Flow(self.cluster, self.home / name, feeder.topic, f"chaos-{name}", environ or {}, module)
        watch = Watch(self.cluster, [f"kpi.{feeder.topic}.{label}" for label in SIZES])
        try:
            yield Scene(feeder.start(), flow, watch, self.say)
        finally:
            feeder.stop()
            flow.end()
            watch.end()


@contextmanager
def ground(home: Path, say: Say, *, short: bool = False, brokers: int = 3) -> Iterator[Ground]:
    """Three brokers, replication 3, two of them in sync, and a registry, for as long as the block lasts."""
    home.mkdir(parents=True, exist_ok=True)
    with quick_to_start(), cluster(brokers=brokers, say=say) as whole:
        yield Ground(whole, home, say, short)


@contextmanager
def quick_to_start() -> Iterator[None]:
    """Brokers that are started often and do little: the JVM's first compiler is enough."""
    before = os.environ.get("JAVA_TOOL_OPTIONS")
    os.environ["JAVA_TOOL_OPTIONS"] = f"{before or ''} -XX:TieredStopAtLevel=1".strip()
    try:
        yield
    finally:
        del os.environ["JAVA_TOOL_OPTIONS"]
        if before is not None:
            os.environ["JAVA_TOOL_OPTIONS"] = before


def verified(scene: Scene) -> list[str]:
    """The second opinion, of all windows: what `make verify` says where it finds a difference, nothing where all is equal."""
    command = [sys.executable, "-m", "audit.verify", scene.feeder.topic]
    environ = {**os.environ, **scene.flow.settings}
    said = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=VERIFY_S)
    lines = (said.stdout + said.stderr).strip()
    scene.say(f"    verify: {lines[-300:]}")
    return [f"verify {scene.feeder.topic} ended with {said.returncode}: {lines[-1000:]}"] if said.returncode else []
