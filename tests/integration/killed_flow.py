"""A small flow with the real sink that kills itself at random moments: what test_sink_broker.py runs as a child process.

Every reader emits its rows in batches of random size, so that no epoch is ever computed alike twice. Arguments: bootstrap servers,
flow id, recovery directory, topic, rows a reader, chance of a death at each fault point (0: live on), seeded fault ("" or
"commit_in_snapshot").
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main
from confluent_kafka import Producer

from flows import sink as module
from flows.edge import Edge, Marker
from flows.records import PROGRESS, Barrier, Record
from flows.sink import Item, KafkaSink, State, WriteAhead
from flows.stop import Stop, leave

READERS, PARTS, BATCH = 2, 2, 40
DICE = random.Random()


class Dying:
    """A producer whose process may be killed before, in the middle of, and after a commit; and a while after it first begins one."""

    def __init__(self, producer: Producer, chance: float) -> None:
        self._producer, self._chance = producer, chance
        self._end = threading.Thread(target=die_later, daemon=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def init_transactions(self, timeout: float) -> None:
        self._producer.init_transactions(timeout)
        if DICE.random() < self._chance:
            die()

    def begin_transaction(self) -> None:
        if self._chance and not self._end.ident:
            self._end.start()
        self._producer.begin_transaction()

    def produce(self, *message: Any) -> None:
        if message[0] == PROGRESS and DICE.random() < self._chance:
            self._producer.flush(5)  # the rows are in the log, the marker is not
            die()
        self._producer.produce(*message)

    def commit_transaction(self, timeout: float) -> None:
        if DICE.random() < self._chance:
            die()
        self._producer.commit_transaction(timeout)
        if DICE.random() < self._chance:
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_later() -> None:
    """Whatever the other threads do then."""
    time.sleep(DICE.uniform(0.05, 0.7))
    die()


class DyingEdge(Edge):
    """The real edge, with producers that die."""

    chance = 0.0

    def transactional(self) -> Producer:
        return cast("Producer", Dying(super().transactional(), self.chance))


class CommitInSnapshot(WriteAhead):
    """A seeded fault, and the obvious way to do it: rows are committed in snapshot(), before it is durable; nothing is checked."""

    def _check(self, marker: Marker | None, *, fresh: bool) -> None:
        pass

    def _claim(self) -> None:
        pass

    def snapshot(self) -> State:
        lineage, _, _ = super().snapshot()
        self._transactions.marker = None
        self._commit()
        return lineage, (0, ""), []


class Reader(StatefulSourcePartition[tuple[str, Item], int]):
    """Rows "<reader>:<number>", a barrier to every part after each snapshot, and for two epochs past the end."""

    def __init__(self, name: str, rows: int, state: int | None) -> None:
        self._name, self._rows, self._next = name, rows, state or 0
        self._first, self._idle = True, 0

    def next_batch(self) -> list[tuple[str, Item]]:
        batch: list[tuple[str, Item]] = []
        if self._first:
            self._first = False
            offsets = (("source", int(self._name), self._next),)
            batch = [(str(part), Barrier(offsets if part == int(self._name) % PARTS else ())) for part in range(PARTS)]
            self._idle += self._next == self._rows
            if self._idle > 2:
                raise StopIteration
        end = min(self._rows, self._next + DICE.randrange(1, BATCH))
        rows: Sequence[Record] = [Record(sys.argv[4], self._name.encode(), f"{self._name}:{n}".encode()) for n in range(self._next, end)]
        self._next = end
        return [*batch, ("0", list(rows[::2])), ("1", list(rows[1::2]))]

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + timedelta(milliseconds=DICE.choice([1, 2, 4, 15]))

    def snapshot(self) -> int:
        self._first = True
        return self._next


class Source(FixedPartitionedSource[tuple[str, Item], int]):
    """READERS readers."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def list_parts(self) -> list[str]:
        return [str(reader) for reader in range(READERS)]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Reader:  # noqa: ARG002 - the engine's signature
        return Reader(for_part, self._rows, resume_state)


def main() -> None:
    """Run to the end, or die."""
    bootstrap, flow_id, recovery, _topic, rows, chance, seeded = sys.argv[1:]
    DyingEdge.chance = float(chance)
    if seeded:
        module.WriteAhead = CommitInSnapshot  # type: ignore[misc] # that is the fault
    flow = Dataflow("killed")
    sink = KafkaSink({"bootstrap.servers": bootstrap, "log_level": 2}, flow_id, durable=True, parts=PARTS, edge=DyingEdge)
    op.output("sink", op.input("source", flow, Source(int(rows))), sink)
    try:
        cli_main(flow, epoch_interval=timedelta(milliseconds=100), recovery_config=RecoveryConfig(recovery))  # type: ignore[no-untyped-call]
    except Stop as stop:
        leave(stop)


if __name__ == "__main__":
    main()
