"""Kafka as an atomic log in a file that survives kill -9: a sink part's edge. In: a producer's calls. Out: rows, all of a commit or none.

Rows are in the file before their transaction is committed, and hidden; a newer producer of a transactional id ends what an older one
left open, and fences it.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from confluent_kafka import KafkaError, Producer

from flows.edge import Edge, Marker
from flows.records import PROGRESS, Row
from tests.atomic_log import FENCED, Message
from tests.kills.fate import Fate
from tests.kills.tables import connect


class FileLog:
    """The log at a path."""

    def __init__(self, path: Path, fate: Fate | None = None) -> None:
        self.still = fate.still if fate else threading.Lock()
        with self.still:
            self.file = connect(path)

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing. Nobody stops this process meanwhile."""
        with self.still:
            self.file.execute("BEGIN IMMEDIATE")
            try:
                yield self.file
            except BaseException:
                self.file.execute("ROLLBACK")
                raise
            self.file.execute("COMMIT")

    def marker(self, transactional_id: str) -> Marker | None:
        with self.still:
            found = self.file.execute(
                "SELECT value FROM rows WHERE topic = ? AND key = ? AND committed ORDER BY number DESC LIMIT 1",
                (PROGRESS, transactional_id.encode()),
            ).fetchone()
        return None if found is None else Marker(*json.loads(found[0]))


def rows(path: Path) -> list[Row]:
    """What a read_committed reader sees, markers left out."""
    with closing(connect(path)) as file:
        found = file.execute("SELECT topic, key, value, headers FROM rows WHERE committed AND topic <> ? ORDER BY number", (PROGRESS,))
        return [
            (topic, key, value, tuple((name, text.encode()) for name, text in json.loads(headers))) for topic, key, value, headers in found
        ]


class FileProducer:
    """As much of librdkafka's transactional producer as the sink uses. `fences` False: a seeded fault."""

    def __init__(self, log: FileLog, transactional_id: str, fate: Fate, *, fences: bool) -> None:
        self.log, self.id, self.fate, self.fences = log, transactional_id, fate, fences
        self.epoch = 0
        self.waiting: list[tuple[Row, Callable[..., None]]] = []

    def init_transactions(self, _timeout: float) -> None:
        self.fate.meet("before init")
        with self.log.change() as file:
            file.execute("INSERT INTO producers VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1", (self.id,))
            (self.epoch,) = file.execute("SELECT epoch FROM producers WHERE id = ?", (self.id,)).fetchone()
            file.execute("DELETE FROM rows WHERE id = ? AND NOT committed", (self.id,))
        self.fate.meet("after init")

    def begin_transaction(self) -> None:
        self.fate.meet("begin")
        with self.log.change() as file:
            self._owned(file)

    def produce(self, *message: Any) -> None:
        topic, value, key, _, report, _, _, headers = message
        if topic == PROGRESS:
            self.flush(0)  # the rows are in the log, the marker is not
            self.fate.meet("before the marker")
        self.waiting.append(((topic, key, value, tuple(headers or ())), report))
        if len(self.waiting) == 10:
            self.flush(0)
            self.fate.meet("in the middle")

    def poll(self, _timeout: float) -> int:
        return 0

    def flush(self, _timeout: float) -> int:
        waiting, self.waiting = self.waiting, []
        refused = None
        with self.log.change() as file:
            if self._is_owner(file):
                values = [
                    (self.id, self.epoch, topic, key, value, json.dumps([(name, text.decode()) for name, text in headers]))
                    for (topic, key, value, headers), _ in waiting
                ]
                file.executemany("INSERT INTO rows (id, epoch, committed, topic, key, value, headers) VALUES (?, ?, 0, ?, ?, ?, ?)", values)
            else:
                refused = KafkaError(KafkaError.INVALID_PRODUCER_EPOCH)
        if refused:
            for row, report in waiting:
                report(refused, Message(row))
        return 0

    def commit_transaction(self, _timeout: float) -> None:
        self.fate.meet("before commit")
        with self.log.change() as file:
            self._owned(file)
            file.execute("UPDATE rows SET committed = 1 WHERE id = ? AND epoch = ? AND NOT committed", (self.id, self.epoch))
        self.fate.meet("after commit")

    def abort_transaction(self, _timeout: float) -> None:
        self.waiting = []
        with self.log.change() as file:
            self._owned(file)
            file.execute("DELETE FROM rows WHERE id = ? AND epoch = ? AND NOT committed", (self.id, self.epoch))

    def _is_owner(self, file: sqlite3.Connection) -> bool:
        (newest,) = file.execute("SELECT epoch FROM producers WHERE id = ?", (self.id,)).fetchone()
        return bool(newest == self.epoch) or not self.fences

    def _owned(self, file: sqlite3.Connection) -> None:
        if not self._is_owner(file):
            raise FENCED


class FileEdge(Edge):
    """One sink part's edge to a FileLog. Made with KafkaSink's own arguments: `settings` has `log`, `fate` and `fences`."""

    def __init__(self, settings: Mapping[str, object], flow_id: str, part: int) -> None:
        super().__init__({}, flow_id, part)
        self.fate, self.fences = cast("Fate", settings["fate"]), bool(settings["fences"])
        self.log = FileLog(Path(str(settings["log"])), self.fate)

    def transactional(self) -> Producer:
        return cast("Producer", FileProducer(self.log, self.transactional_id, self.fate, fences=self.fences))

    def marker(self) -> Marker | None:
        return self.log.marker(self.transactional_id)

    def glance(self) -> tuple[Marker | None, bool]:
        return self.marker(), True

    def show(self, offsets: Sequence[tuple[str, int, int]]) -> None:
        """Nobody looks."""
