"""One run of the flow, exactly once, over topics that are full. In: topics, windows, workers. Out: what it cost, its results checked.

The flow runs as in production, under flows.supervise. What it costs is read outside of it: CPU and memory in /proc, counts on its own
metrics page, and the moment of its last row at the ends of its KPI topics.
"""

import io
import json
import os
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import fastavro
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place
from kafka import KafkaConsumer, TopicPartition

from bench.clicks import DECLARED
from flows.registry import Registry
from flows.windows import parse_window
from infra.embedded.child import Child, free_port

PATIENCE_S = 900.0
STILL_S = 3.0
LOOK_S = 0.05
LOOKS = 20  # looking takes at most this part of the time: a page of 50 topics takes the flow 10 ms to write
LONGEST_S = 0.5  # between two looks, however slow the machine is
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
GROUPS = 1_000_000  # the limit of groups: never reached here
IDLE = "1d"  # only data closes windows: the last event of each partition shall stay in open ones, however long a run takes


@dataclass(frozen=True, slots=True)
class Given:
    """Full topics, `events` in all, each of so many partitions; and how the flow runs over them."""

    topics: tuple[str, ...]
    events: int
    partitions: int
    windows: tuple[str, ...]
    workers: int = 1
    processes: int = 1
    readers: int = 4
    shards: int = 1

    @property
    def total(self) -> int:
        """All messages: in each partition, one more closes the windows."""
        return self.events + len(self.topics) * self.partitions


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of a flow from outside at a moment."""

    at_s: float
    cpu_s: float
    rss_mb: float
    page: str

    def value(self, name: str) -> float:
        """The sum of a metric over its labels."""
        return sum(float(found) for found in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.page, re.MULTILINE))

    @property
    def counted(self) -> int:
        """Messages read and passed on."""
        return int(self.value("kpi_messages_total"))


@dataclass
class Flow:
    """The flow's processes, under their supervisor, for as long as a `with` block lasts."""

    given: Given
    environ: Mapping[str, str]
    home: Path
    name: str
    looks: list[Look] = field(default_factory=list)
    took_s: float = 0.0  # the last look

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        chosen = ", ".join(f'"{re.escape(topic)}"'.replace("\\", "\\\\") for topic in self.given.topics)
        windows = ", ".join(f'"{window}"' for window in self.given.windows)
        shared = f"readers = {self.given.readers}\nshards = {self.given.shards}\n"
        defaults = f'windows = [{windows}]\ngroups = {GROUPS}\nidle = "{IDLE}"\n{shared}'
        topics = f"[defaults]\n{defaults}\n[defaults.topics]\ninclude = [{chosen}]\n"
        (self.home / "kpi.toml").write_text(topics + "".join(DECLARED.format(topic=topic) for topic in self.given.topics))
        self.port = free_port()
        environ = {
            **self.environ,
            "KPI_FLOW_ID": self.name,
            "KPI_CONFIG": str(self.home / "kpi.toml"),
            "KPI_METRICS_PORT": str(self.port),
            "KPI_WORKERS": str(self.given.workers),
            "KPI_PROCESSES": str(self.given.processes),
            "BYTEWAX_RECOVERY_DIRECTORY": str(self.home / self.name),
        }
        environ.pop("KPI_WINDOWS", None)
        self.child = Child("flow", [sys.executable, "-m", "flows.supervise"], self.home / f"{self.name}.log", environ)
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop(40)

    def kill(self) -> None:
        """SIGKILL to all of its processes; the supervisor's children end with it."""
        self.child.kill()

    def look(self) -> Look | None:
        """One more look; None while it has no page yet."""
        began_s = time.perf_counter()
        if self.child.exit_code is not None:
            raise RuntimeError(f"the flow has ended; see {self.child.log}")
        with suppress(OSError):
            cpu_s, rss_mb = _cost(_children(self.child.pid))
            look = Look(time.perf_counter(), cpu_s, rss_mb, "".join(map(_page, range(self.port, self.port + self.given.processes))))
            self.looks.append(look)
        self.took_s = time.perf_counter() - began_s
        return self.looks[-1] if self.looks else None

    def wait(self, until: Callable[[Look], bool]) -> Look:
        """The first look of which that is true."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            look = self.look()
            if look is not None and until(look):
                return look
            time.sleep(min(LONGEST_S, max(LOOK_S, LOOKS * self.took_s)))
        raise RuntimeError(f"the flow did not get that far; see {self.child.log}")

    def peak_mb(self) -> float:
        """The most memory that its processes have had, together."""
        return (
            sum(int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) for pid in _children(self.child.pid)) / 1024
        )


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text: str = page.read().decode()
        return text


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cost(pids: Sequence[int]) -> tuple[float, float]:
    """CPU seconds of processes so far, and their memory in MB."""
    cpu = memory = 0.0
    for pid in pids:
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # from the third field of proc(5) on
        cpu += (int(after[11]) + int(after[12])) / TICKS_A_SECOND
        memory += int(after[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return cpu, memory


class Published:
    """The KPI topics of a flow. In: the time before it runs. Out: when its last row came, and whether all its rows are right."""

    def __init__(self, given: Given, environ: Mapping[str, str]) -> None:
        self.given, self.environ = given, environ
        self._client = KafkaConsumer(bootstrap_servers=environ["KAFKA_BOOTSTRAP_SERVERS"], enable_auto_commit=False)
        self.before = self.ends()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close(autocommit=False)

    def ends(self) -> dict[TopicPartition, int]:
        """Where every partition of every KPI topic ends."""
        there = self._client.topics()
        labels = [parse_window(window).label for window in self.given.windows]
        names = [name for topic in self.given.topics for label in labels if (name := f"kpi.{topic}.{label}") in there]
        ends: dict[TopicPartition, int] = self._client.end_offsets(
            [TopicPartition(name, partition) for name in names for partition in self._client.partitions_for_topic(name) or ()]
        )
        return ends

    def settled(self, look: Callable[[], Look | None]) -> Look:
        """What was seen when the last row came: nothing has come for three seconds since."""
        ends, last = self.before, None
        while last is None or time.perf_counter() - last.at_s < STILL_S:
            began_s = time.perf_counter()
            if (now := self.ends()) != ends:
                ends, last = now, look()
            time.sleep(min(LONGEST_S, max(LOOK_S, LOOKS * (time.perf_counter() - began_s) / 4)))
        return last

    def check(self) -> int:
        """Every event is in exactly one final row of every size: the number of final rows. Raises RuntimeError."""
        ends, rows = self.ends(), 0
        counted = dict.fromkeys(sorted({tp.topic for tp in ends}), 0)
        schemas = {name: self._schemas(name) for name in counted}
        for name, value in self._values(ends):
            row: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), *schemas[name])
            if row["final"]:
                counted[name] += row["events"]
                rows += 1
        want = self.given.events // len(self.given.topics)
        wrong = {name: count for name, count in counted.items() if count != want}
        if wrong or len(counted) != len(self.given.topics) * len(self.given.windows):
            raise RuntimeError(f"final rows count {wrong} events, want {want} in each of {len(counted)} topics")
        return rows

    def _schemas(self, name: str) -> tuple[Any, Any]:
        """The schema of a KPI topic's rows, and of the two fields of them that are looked at."""
        latest = Registry(self.environ["SCHEMA_REGISTRY_URL"]).latest(f"{name}-value")
        writer: Any = fastavro.parse_schema(json.loads(latest[1] if latest else "null"))
        fields = [it for it in writer["fields"] if it["name"] in {"events", "final"}]
        return writer, fastavro.parse_schema({"type": "record", "name": writer["name"], "fields": fields})

    def _values(self, ends: Mapping[TopicPartition, int]) -> Iterator[tuple[str, bytes]]:
        """What has come since, with its topic; of all topics by one consumer, as each takes a second to begin and to end."""
        settings = {"group.id": "bench", "enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True}
        consumer = Consumer({"bootstrap.servers": self.environ["KAFKA_BOOTSTRAP_SERVERS"], **settings})
        left = {(tp.topic, tp.partition) for tp, end in ends.items() if self.before.get(tp, 0) < end}
        consumer.assign([Place(*at, self.before.get(TopicPartition(*at), 0)) for at in left])
        while left:
            for message in consumer.consume(10_000, 0.2):
                if message.error():
                    left.discard((message.topic(), message.partition()))
                elif (value := message.value()) is not None:
                    yield str(message.topic()), value
        consumer.close()


class Run(NamedTuple):
    """A flow that has read all and written all: the first look, that of its last row, CPU seconds a million messages, peak MB, looks."""

    begun: Look
    last: Look
    cpu_s: float
    peak_mb: float
    looks: list[Look]


def _caught_up(published: Published, starting: Flow) -> Run:
    with starting as flow:
        begun, total = flow.wait(lambda _: True), flow.given.total
        flow.wait(lambda look: look.counted >= total)
        last = published.settled(flow.look)
        flow.look()  # rows are seen a moment before their epoch is counted
        return Run(begun, last, (last.cpu_s - begun.cpu_s) / total * 1e6, flow.peak_mb(), flow.looks)


def on_disk(directory: Path) -> int:
    """The bytes of its files; those that go while we look are of none."""
    total = 0
    for file in directory.rglob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue
    return total


def cost(given: Given, environ: Mapping[str, str], home: Path, name: str) -> dict[str, float]:
    """What one run cost: events a second from the first counted event to the last final row, and of those after the first quarter;
    CPU seconds a million events, peak MB.
    """
    with Published(given, environ) as published:
        run = _caught_up(published, Flow(given, environ, home, name))
        rows = published.check()
    first = max((look for look in run.looks if look.counted == 0), key=lambda look: look.at_s, default=run.begun)
    quarter = next(look for look in run.looks if look.counted >= given.total / 4)
    taken = {
        "events": given.events,
        "rate": (given.total - first.counted) / (run.last.at_s - first.at_s),
        "later_rate": (given.total - quarter.counted) / (run.last.at_s - quarter.at_s),
        "cpu_s": run.cpu_s,
        "peak_mb": run.peak_mb,
        "rows": rows,
        "open_groups": max(look.value("kpi_open_groups") for look in run.looks),
    }
    return taken | _snapshots(run.looks, given)


def _snapshots(looks: Sequence[Look], given: Given) -> dict[str, float]:
    """How long an epoch lasted, and the most that the snapshots of all shards took of one."""
    last, most_s, most_bytes, folds = looks[-1], 0.0, 0.0, given.shards * len(given.topics)
    for before, after in pairwise(looks):
        count, seconds, size = (
            after.value(name) - before.value(name)
            for name in ("kpi_snapshot_seconds_count", "kpi_snapshot_seconds_sum", "kpi_snapshot_bytes_total")
        )
        if count > 0:
            most_s, most_bytes = max(most_s, seconds / count * folds), max(most_bytes, size / count * folds)
    epochs = last.value("kpi_epoch_seconds_count")
    epoch = {"epoch_s": last.value("kpi_epoch_seconds_sum") / epochs} if epochs else {}
    return epoch | {"snapshot_s": most_s, "snapshot_mb": most_bytes / 1e6}


def recovery(given: Given, environ: Mapping[str, str], home: Path, name: str, close: Callable[[], None]) -> dict[str, float]:
    """Killed with its windows open, and started again: seconds from the start to the page, and on to the first message that is read.

    `close` writes an event a partition that closes all windows: those are the messages that are read after the kill.
    """
    with Published(given, environ) as published:
        with Flow(given, environ, home, name) as flow:
            flow.wait(lambda look: look.counted >= given.events)
            published.settled(flow.look)
            looks = flow.looks
            flow.kill()
        close()
        began_s = time.perf_counter()
        stored = on_disk(home / name) / 1e6
        with Flow(given, environ, home, name) as flow:
            page = flow.wait(lambda _: True)
            first = flow.wait(lambda look: look.counted > 0)
            published.settled(flow.look)
        published.check()
    figures = {"open_groups": looks[-1].value("kpi_open_groups"), "page_s": page.at_s - began_s, "recovery_s": first.at_s - began_s}
    return figures | {"stored_mb": stored} | _snapshots(looks, given)


def over_time(given: Given, environ: Mapping[str, str], home: Path, name: str) -> dict[str, Any]:
    """A backlog that is caught up with: memory and messages read, second by second."""
    with Published(given, environ) as published:
        run = _caught_up(published, Flow(given, environ, home, name))
        published.check()
    seconds = {int(look.at_s - run.begun.at_s): look for look in run.looks}
    curve = [[second, look.counted / 1e6, round(look.rss_mb)] for second, look in seconds.items()]
    return {"seconds": run.last.at_s - run.begun.at_s, "peak_mb": run.peak_mb, "cpu_s": run.cpu_s, "curve": curve}
