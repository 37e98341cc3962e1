"""Topics that come, go, grow and lose their past under a running flow. In: a ground. Out: what the flow made of each, exactly.

Each life of a topic ends with a restart of the flow, which must not panic; a bystander topic goes on meanwhile.
"""

import re
import signal
import socket
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from infra.embedded import Cluster
from tests.chaos.base import Ground, Result
from tests.chaos.verdict import Verdict
from tests.integration.running import Flow, Topic, click, finals, now_ms, records, until

DECLARED = '[topics."/{prefix}.*/".kpis]\nn = {{ count = "*" }}\namount = {{ sum = "amount" }}\n'
WAIT_S = 60.0  # on a loaded machine; discovery alone may take 10 s
STEP_MS, HOUR_MS = 10_000, 3_600_000

Process = subprocess.Popen[bytes]


@dataclass
class Stage:
    """A flow on topics of its own, with a metrics page, and what has been sent to each topic: window -> (events, amount)."""

    cluster: Cluster
    home: Path
    name: str
    dice: Random
    topics: dict[str, Topic] = field(default_factory=dict)
    sent: dict[str, Counter[tuple[int, str]]] = field(default_factory=dict)
    time_ms: dict[str, int] = field(default_factory=dict)  # of the newest events of a topic

    def __post_init__(self) -> None:
        """The flow, stopped."""
        self.home.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        prefix = f"{self.name}."
        self.flow = Flow(
            self.cluster,
            self.home,
            prefix,
            DECLARED.format(prefix=prefix),
            windows='["1s"]',
            environ={"KPI_METRICS_PORT": str(self.port)},
        )

    def topic(self, name: str, partitions: int = 1) -> Topic:
        """A new topic of this flow."""
        made = self.topics[name] = Topic(self.cluster, f"{self.name}.{name}", partitions)
        self.sent.setdefault(name, Counter())
        return made

    def send(self, name: str, count: int = 5, *, counts: bool = True) -> None:
        """Events of one second to every partition; the time goes on, so a second call closes the window of the first."""
        time_ms = self.time_ms[name] = self.time_ms.get(name, now_ms() // STEP_MS * STEP_MS - HOUR_MS) + STEP_MS
        topic = self.topics[name]
        for partition in self.partitions(name):
            amounts = [self.dice.randrange(1, 100) for _ in range(count)]
            topic.send([click(time_ms, amount) for amount in amounts], partition)
            if counts:
                self.sent[name][time_ms, "n"] += count
                self.sent[name][time_ms, "amount"] += sum(amounts)

    def partitions(self, name: str) -> list[int]:
        """The partitions that a topic has."""
        topic = self.topics[name]
        return list(topic.admin.list_topics(topic.name, 10).topics[topic.name].partitions)

    def told(self, name: str, *, final: bool = True) -> Counter[tuple[int, str]]:
        """What the final rows of a topic say, or what its newest rows say."""
        told: Counter[tuple[int, str]] = Counter()
        for record in records(self.cluster, f"kpi.{self.name}.{name}.1s"):
            if record.value["final"] or not final:
                at = int(record.value["window_start"].timestamp() * 1000)
                told |= {(at, kpi): record.value[kpi] for kpi in ("n", "amount")}
        return told

    def closes(self, name: str, child: Process) -> None:
        """Send twice, and wait until the first window is final, and the second one read."""
        self.send(name)
        self.send(name)
        last, want = (self.time_ms[name], "n"), self.sent[name]
        try:
            until(lambda: self.told(name).keys() | {last, (last[0], "amount")} >= want.keys(), WAIT_S, child)
            until(lambda: self.told(name, final=False)[last] == want[last], WAIT_S, child)
        except AssertionError as error:
            raise RuntimeError(f"{name}: {error}: told {self.told(name, final=False)}, want {want}\n{self.flow.log[-2000:]}") from None

    def differences(self, name: str) -> tuple[int, int, int]:
        """Lost, doubled and wrong rows of a topic, its last window left out."""
        told, last = self.told(name), max(at for at, _ in self.sent[name])
        want = {at: value for at, value in self.sent[name].items() if at[0] < last}
        lost = len(want.keys() - told.keys())
        wrong = sum(at in told and told[at] != value for at, value in want.items()) + len(told.keys() - self.sent[name].keys())
        rows = [row["window_start"] for row in finals(self.cluster, f"kpi.{self.name}.{name}.1s")]
        return lost, len(rows) - len(set(rows)), wrong

    def gaps(self, name: str) -> int:
        """kpi_gap_messages_total of a topic, in this life of the flow."""
        return int(sum(self.metric("kpi_gap_messages_total", name)))

    def metric(self, metric: str, name: str) -> list[float]:
        """The values of a metric of a topic, one for each of its other labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as page:
            found = re.findall(rf'^{metric}{{.*topic="{self.name}\.{name}".*}} (\S+)$', page.read().decode(), re.MULTILINE)
        return [float(value) for value in found]

    def remove(self, name: str) -> int:
        """Remove all records of every partition, as retention does. How many offsets there were below."""
        topic = self.topics[name]
        done = topic.admin.delete_records([TopicPartition(topic.name, partition, -1) for partition in self.partitions(name)])
        return sum(each.result(10).low_watermark for each in done.values())

    @contextmanager
    def running(self) -> Iterator[Process]:
        """The flow; it must end well."""
        with self.flow.running() as child:
            yield child
            code = self.flow.end(child)
        if code != 0 or "Traceback" in self.flow.log or "panicked" in self.flow.log:
            raise RuntimeError(f"the flow ended with {code}:\n{self.flow.log[-3000:]}")


def deleted(stage: Stage, name: str) -> None:
    """A topic is deleted while it is read; the others go on."""
    stage.topic(name, 2)
    with stage.running() as child:
        stage.closes(name, child)
        topic = stage.topics[name]
        topic.admin.delete_topics([topic.name])[topic.name].result(10)
        until(lambda: f"{topic.name} is gone" in stage.flow.log, WAIT_S, child)
        stage.closes("bystander", child)


def created_again(stage: Stage, name: str) -> None:
    """Deleted and created again under its name, while the flow runs and once more while it does not: read from its beginning."""
    stage.topic(name, 2)
    with stage.running() as child:
        stage.send(name, 20)
        stage.closes(name, child)
        _anew(stage, name)
        stage.send(name, 3)  # fewer than were read of the old one
        stage.closes(name, child)
    _anew(stage, name)
    stage.send(name, 3)
    with stage.running() as child:
        stage.closes(name, child)
        if found := stage.gaps(name):
            raise RuntimeError(f"{name}: {found} offsets of another topic were missed")


def _anew(stage: Stage, name: str) -> None:
    old = stage.topics[name]
    old.admin.delete_topics([old.name])[old.name].result(10)
    until(lambda: old.name not in old.admin.list_topics(timeout=10).topics, WAIT_S)
    del stage.topics[name]
    stage.topic(name, 2)


def expanded(stage: Stage, name: str) -> None:
    """From 1 to 8 partitions: what a new one holds counts, from its first record."""
    stage.topic(name)
    with stage.running() as child:
        stage.closes(name, child)
        topic = stage.topics[name]
        topic.admin.create_partitions([NewPartitions(topic.name, 8)])[topic.name].result(10)
        until(lambda: len(stage.partitions(name)) == 8, WAIT_S)
        topic.producer = Producer({"bootstrap.servers": stage.cluster.bootstrap, "linger.ms": 5})  # the old one knows but one partition
        # A partition that joins promises clock - lateness: what is older would be late. So wait until all have joined, then write of now.
        until(lambda: len(stage.metric("kpi_watermark_seconds", name)) == 8, WAIT_S, child)
        stage.time_ms[name] = now_ms() // 1000 * 1000
        stage.closes(name, child)


def truncated_while_down(stage: Stage, name: str) -> None:
    """What retention removed before the flow came back is a gap of so many offsets; what came after it counts."""
    stage.topic(name, 2)
    with stage.running() as child:
        stage.closes(name, child)
    stage.send(name, 30, counts=False)
    stage.remove(name)
    with stage.running() as child:
        stage.closes(name, child)
        _gap(stage, name, 60)


def truncated_while_running(stage: Stage, name: str) -> None:
    """The same under a flow that is too slow: here, stopped for a moment."""
    stage.topic(name, 2)
    with stage.running() as child:
        stage.closes(name, child)
        child.send_signal(signal.SIGSTOP)
        try:
            stage.send(name, 400, counts=False)
            stage.remove(name)
            stage.send(name)
        finally:
            child.send_signal(signal.SIGCONT)
        stage.closes(name, child)
        read = stage.told(name)
        before = {at: value for at, value in read.items() if at not in stage.sent[name]}  # what it had fetched before
        _gap(stage, name, 800 - sum(value for (_, kpi), value in before.items() if kpi == "n"))
        stage.sent[name] |= Counter(before)


def _gap(stage: Stage, name: str, want: int) -> None:
    if (got := stage.gaps(name)) != want:
        raise RuntimeError(f"{name}: {got} offsets counted as missed, want {want}")


def created_new(stage: Stage, name: str) -> None:
    """A topic that appears under the running flow is read from its first record."""
    with stage.running() as child:
        stage.closes("bystander", child)
        stage.topic(name, 2)
        stage.closes(name, child)


LIVES: tuple[Callable[[Stage, str], None], ...] = (
    deleted,
    created_again,
    expanded,
    truncated_while_down,
    truncated_while_running,
    created_new,
)


def topics(on: Ground, count: int, seed: int) -> Result:
    """So many lives of topics, each ended by a restart on which everything goes on."""
    stage = Stage(on.cluster, on.home / "topics", f"topics{seed}", Random(seed))
    stage.topic("bystander")
    verdict, failed = Verdict(), list[str]()
    for number in range(count):
        life = LIVES[number % len(LIVES)]
        name = f"{life.__name__.replace('_', '-')}-{number}"
        on.say(f"    {name}")
        try:
            life(stage, name)
            with stage.running() as child:  # the restart
                stage.closes("bystander", child)
        except (RuntimeError, AssertionError) as error:
            failed.append(f"{name}: {error}")
    for name in stage.sent:
        lost, doubled, wrong = stage.differences(name)
        verdict.rows += len(stage.told(name)) // 2
        verdict.lost, verdict.doubled, verdict.wrong = verdict.lost + lost, verdict.doubled + doubled, verdict.wrong + wrong
        if lost or doubled or wrong:
            verdict.say(f"{name}: {lost} lost, {doubled} doubled, {wrong} wrong: told {stage.told(name)}, want {stage.sent[name]}")
    kinds = ", ".join(sorted({life.__name__.replace("_", " ") for life in LIVES[:count]}))
    return Result("topics", count, verdict, notes=f"{kinds}; a restart after each", failed=[*failed, *verdict.lines])
