"""A registry that is away in every way there is, under a flow that needs it. In: a ground. Out: what was lost, and how soon all was read.

known topic      ───────events──────────events────────►   goes on all the time
another topic              ├── away ──┤                   waits: a schema that nobody has seen yet
                           events      0 unread, in time
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro

from flows.registry import Registry as Client
from infra.embedded import Cluster
from tests.chaos.base import Ground, Result
from tests.chaos.outage import AWAY, Registry
from tests.chaos.topics import Process
from tests.chaos.verdict import Verdict, lag
from tests.integration.running import CLICK, Flow, Topic, asked, click, finals, now_ms, records, until

MOMENTS = ("a new version", "start", "a new topic")
LIMIT_S = 10.0  # from the end of an outage to lag 0
WAIT_S = 60.0  # on a loaded machine
AWAY_S = 1.5  # an outage lasts at the least
STEP_MS = 10_000


@dataclass
class Stage:
    """A flow behind a registry that fails, and topics."""

    cluster: Cluster
    home: Path
    name: str
    topics: dict[str, Topic] = field(default_factory=dict)
    sent: dict[str, dict[int, int]] = field(default_factory=dict)  # topic -> window -> events
    versions: int = 0

    def __post_init__(self) -> None:
        """The flow, stopped, and all well."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.registry = Registry(self.cluster.registry_url)
        self.flow = Flow(self.cluster, self.home, f"{self.name}.", windows='["1s"]', environ={"SCHEMA_REGISTRY_URL": self.registry.url})

    def topic(self, name: str) -> None:
        """A new topic, and its schema."""
        self.topics[name] = Topic(self.cluster, f"{self.name}.{name}", 1)
        self.sent[name] = {}

    def version(self, name: str) -> None:
        """A new version of a topic's schema, in which the next events are written."""
        topic, self.versions = self.topics[name], self.versions + 1
        fields: list[Any] = [{"name": f"more_{number}", "type": ["null", "long"], "default": None} for number in range(self.versions)]
        schema: dict[str, Any] = {**CLICK, "fields": [*CLICK["fields"], *fields]}
        topic.schema_id = asked(lambda: Client(self.cluster.registry_url).register(f"{topic.name}-value", json.dumps(schema)))
        topic.parsed = fastavro.parse_schema(schema)

    def send(self, name: str) -> int:
        """Ten events in one second, one later. The second, which ends in a final row."""
        sent = self.sent[name]
        at = max(sent, default=now_ms() // STEP_MS * STEP_MS - 3_600_000) + STEP_MS
        self.topics[name].send([click(at)] * 10 + [click(at + STEP_MS)])
        sent[at], sent[at + STEP_MS] = sent.get(at, 0) + 10, 1
        return at

    def told(self, name: str) -> list[tuple[int, int]]:
        """Window and events of every final row."""
        return [(int(row["window_start"].timestamp() * 1000), row["events"]) for row in finals(self.cluster, f"kpi.{self.name}.{name}.1s")]

    def unread(self, name: str) -> int:
        """How many records the flow has not shown as read."""
        return sum(lag(self.cluster, f"{self.name}.", f"{self.name}.{name}").values())

    def reads(self, name: str, at: int, child: Process) -> None:
        """Wait for the final row of a second."""
        try:
            until(lambda: at in dict(self.told(name)), WAIT_S, child)
        except AssertionError as error:
            raise RuntimeError(f"{name}: {error}\n{self.flow.log[-3000:]}") from None


def registry(on: Ground, count: int, seed: int) -> Result:
    """So many outages: each way to fail in turn, when a version is met, at the start, when a topic is met."""
    stage = Stage(on.cluster, on.home / "registry", f"registry{seed}")
    verdict, failed, seconds = Verdict(), list[str](), list[float]()
    for name in ("known", "growing"):
        stage.topic(name)
        stage.send(name)
    try:
        with stage.flow.running() as child:
            stage.reads("growing", min(stage.sent["growing"]), child)
            if stage.flow.end(child) != 0:
                failed.append("the first life did not end well")
        for number in range(count):
            mode, moment = AWAY[(number + seed) % len(AWAY)], MOMENTS[number % len(MOMENTS)]
            try:
                seconds.append(_outage(stage, mode, moment, number))
                on.say(f"    {mode}, {moment}: read {seconds[-1]:.1f} s after it")
            except (RuntimeError, AssertionError) as error:
                failed.append(f"{mode}, {moment}: {error}")
                on.say(f"    {failed[-1]}")
    finally:
        stage.registry.close()
    for name, sent in stage.sent.items():
        told, want = stage.told(name), sorted(sent.items())[:-1]
        verdict.rows += len(told)
        verdict.doubled += len(told) - len(set(told))
        verdict.lost += len(set(want) - set(told))
        verdict.wrong += len(set(told) - set(sent.items()))
    dead = [letter for letter in records(on.cluster, "kpi.dead-letters") if letter.headers["kpi.topic"].startswith(f"{stage.name}.")]
    if dead:
        failed.append(f"{len(dead)} good messages are dead letters: {dead[0].headers}")
    return Result("registry", count, verdict, seconds, LIMIT_S, f"{len(dead)} good messages dead-lettered", failed)


def _outage(stage: Stage, mode: str, moment: str, number: int) -> float:
    """Seconds from its end until everything is read. What needs no new schema goes on meanwhile (at a start, nothing is known)."""
    waits = f"topic-{number}" if moment == "a new topic" else "growing"
    began = time.monotonic()
    if moment == "start":
        stage.registry.begin(mode)
    with stage.flow.running() as child:
        if moment != "start":
            stage.reads("known", stage.send("known"), child)
            stage.registry.begin(mode)
            began = time.monotonic()
        if moment == "a new topic":
            stage.topic(waits)
        if moment == "a new version":
            stage.version(waits)
        at = stage.send(waits)
        if moment != "start":
            stage.reads("known", stage.send("known"), child)
        until(lambda: stage.registry.mode == "refused" or stage.registry.failed > 0, WAIT_S, child)
        until(lambda: time.monotonic() - began > AWAY_S, WAIT_S, child)
        early = at in dict(stage.told(waits))
        if mode == "refused":
            until(lambda: stage.flow.log.count("reading pauses") >= 1, WAIT_S, child)
        stage.registry.end()
        ended = time.monotonic()
        if early:
            raise RuntimeError(f"{waits}: rows were told without a registry")
        stage.reads(waits, at, child)
        until(lambda: stage.unread(waits) == 0, WAIT_S, child)
        took = time.monotonic() - ended
        stage.reads("known", stage.send("known"), child)
        code = stage.flow.end(child)
    if code != 0 or "Traceback" in stage.flow.log:
        raise RuntimeError(f"the flow ended with {code}:\n{stage.flow.log[-3000:]}")
    return took
