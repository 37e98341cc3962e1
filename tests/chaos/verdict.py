"""Whether a flow said what it must. In: the reference, and every output topic read back. Out: figures and the first differences."""

import pickle
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.embedded import Cluster
from tests.chaos.flow import Flow
from tests.chaos.reference import SIZES, Expected, decoded_rows, ends, raw
from tests.differences import agree
from tests.oracle import Row

BROKEN = ("short", "magic", "schema", "malformed", "range", "time", "future")
OWN_TOPICS = ("kpi.late", "kpi.dead-letters", "kpi.progress")


class Where(NamedTuple):
    """The key of a KPI row."""

    size_ms: int
    start_ms: int
    group_by: str
    shop: str | None


@dataclass
class Verdict:
    """Rows that a read_committed reader sees not at all, too often, or otherwise than they must be; `lines` says which, the first few."""

    rows: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is amiss, and there was something to judge."""
        return self.rows > 0 and not (self.lost or self.doubled or self.wrong)

    @property
    def hopeless(self) -> bool:
        """Whether waiting cannot mend it: what was written twice stays."""
        return self.doubled > 0

    def amiss(self, line: str) -> None:
        """Something else is wrong."""
        self.wrong += 1
        self.lines.insert(0, line)

    def say(self, line: str) -> None:
        """Keep one of the first differences."""
        if len(self.lines) < 20:
            self.lines.append(line)


def judge(flow: Flow, want: Expected) -> Verdict:
    """Everything that can be judged of a flow that has caught up: rows, late records, dead letters, open transactions, lag."""
    verdict = Verdict()
    for label in SIZES:
        _rows(verdict, flow.cluster, flow.topic, label, want.outcome.finals)
    _aside(verdict, flow, "kpi.late", want, ("late",))
    _aside(verdict, flow, "kpi.dead-letters", want, BROKEN)
    for topic in (*(f"kpi.{flow.topic}.{label}" for label in SIZES), *OWN_TOPICS):
        stable, high = ends(flow.cluster, topic, committed=True), ends(flow.cluster, topic)
        for partition in high:
            if stable[partition] != high[partition]:
                verdict.wrong += 1
                verdict.say(f"{topic}[{partition}]: a transaction is open at {stable[partition]} of {high[partition]}")
    for partition, left in lag(flow.cluster, flow.flow_id, flow.topic).items():
        if left:
            verdict.wrong += 1
            verdict.say(f"{flow.topic}[{partition}]: the group's lag is {left}")
    return verdict


def _rows(verdict: Verdict, cluster: Cluster, topic: str, label: str, finals: Iterable[Row]) -> None:
    """Final rows as multiset, and the last row of each key."""
    size_ms = SIZES[label]
    of_size = [row for row in finals if row.window.label == label]
    want = {Where(size_ms, row.start_ms, ",".join(row.group_set), *(row.group or (None,))): row for row in of_size}
    got: dict[Where, list[dict[str, Any]]] = {}
    for _, row in decoded_rows(cluster, f"kpi.{topic}.{label}"):
        got.setdefault(Where(size_ms, _ms(row["window_start"]), row["group_by"], row["shop"]), []).append(row)
    verdict.rows += len(want)
    for where, expected in want.items():
        rows = got.pop(where, [])
        final = [row for row in rows if row["final"]]
        if not final:
            verdict.lost += 1
            verdict.say(f"{where}: no final row, want {expected.events} events")
            continue
        if len(final) > 1:
            verdict.doubled += len(final) - 1
            verdict.say(f"{where}: {len(final)} final rows, of {[row['events'] for row in final]} events")
        if not rows[-1]["final"]:
            verdict.wrong += 1
            verdict.say(f"{where}: a provisional row behind the final one")
        for row in final:
            amiss = [name for name, value in expected.kpis.items() if not agree(value, row[name])]
            if amiss or row["events"] != expected.events or _ms(row["window_end"]) != where.start_ms + size_ms:
                verdict.wrong += 1
                verdict.say(f"{where}: got {row['events']} events, want {expected.events}; {amiss} differ")
    for where, rows in got.items():
        if any(row["final"] for row in rows):
            verdict.wrong += 1
            verdict.say(f"{where}: got a final row of {rows[-1]['events']} events, want none")


def _aside(verdict: Verdict, flow: Flow, topic: str, want: Expected, kinds: tuple[str, ...]) -> None:
    """Late records, or dead letters: each once, the original bytes, with where from and why."""
    fates = want.set_aside(*kinds)
    got = Counter[tuple[int, int]]()
    for one in raw(flow.cluster, topic):
        if one.headers.get("kpi.topic") != flow.topic:
            continue
        at = int(one.headers["kpi.partition"]), int(one.headers["kpi.offset"])
        got[at] += 1
        fate, original = fates.get(at), want.records.get(at)
        said = one.headers["kpi.error"].removeprefix("cause: ") if topic == "kpi.late" else one.headers["kpi.reason"]
        if fate is None or original is None or said != (fate.cause or fate.kind) or one.value != original.value or one.key != original.key:
            verdict.wrong += 1
            verdict.say(f"{topic}: {flow.topic}{at}: got {said}, want {fate}")
    verdict.rows += len(fates)
    for at, fate in fates.items():
        if got[at] != 1:
            verdict.lost += not got[at]
            verdict.doubled += max(0, got[at] - 1)
            verdict.say(f"{topic}: {flow.topic}{at} ({fate}) stands there {got[at]} times")


def lag(cluster: Cluster, group: str, topic: str) -> dict[int, int]:
    """Partition -> records that the group has not shown as read."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    high = ends(cluster, topic)
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition) for partition in high])
    shown = admin.list_consumer_group_offsets([asked])[group].result(30).topic_partitions
    return {tp.partition: high[tp.partition] - max(0, tp.offset) for tp in shown}


def books(recovery: Path, topic: str) -> dict[int, tuple[int, dict[str, int]]]:
    """Partition -> (next offset, fate -> count), as the last snapshots of the readers say. The flow must have ended."""
    latest: dict[str, tuple[int, bytes]] = {}
    for part in recovery.glob("part-*.sqlite3"):
        with sqlite3.connect(part) as store:
            asked = "SELECT state_key, snap_epoch, ser_change FROM snaps WHERE step_id = 'kpi.source' AND ser_change IS NOT NULL"
            for reader, epoch, change in store.execute(asked):
                if reader not in latest or epoch > latest[reader][0]:
                    latest[reader] = (epoch, change)
        store.close()
    found = {}
    for _, change in latest.values():
        for partition, position in pickle.loads(change)["topics"].get(topic, {"positions": {}})["positions"].items():
            found[partition] = (position[0], dict(position[4]))
    return found


def balance(verdict: Verdict, flow: Flow, want: Expected) -> None:
    """The books of a flow that has ended: of each partition every fate counted as the reference counts it."""
    kept = books(flow.recovery, flow.topic)
    due: dict[int, Counter[str]] = {}
    for (partition, _), fate in want.outcome.fates.items():
        due.setdefault(partition, Counter())[fate.kind] += 1
    for partition, fates in due.items():
        _, counted = kept.get(partition, (0, {}))
        if {kind: count for kind, count in counted.items() if count} != dict(fates):
            verdict.wrong += 1
            verdict.say(f"{flow.topic}[{partition}]: the books say {counted}, want {dict(fates)}")


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
