"""Kafka as an atomic log in memory: the edge of a sink part, with the faults that a real broker has not at will."""

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, Producer

from flows.edge import Edge, Marker
from flows.records import PROGRESS, Row

LARGEST = 1_000_000


def fault(code: int, **flags: bool) -> KafkaException:
    """An error as librdkafka raises it; flags: fatal, retriable, txn_requires_abort."""
    return KafkaException(KafkaError(code, "a test's fault", **flags))


FENCED = fault(KafkaError._FENCED, fatal=True)
RETRIABLE = fault(KafkaError._TIMED_OUT, retriable=True)
ABORTABLE = fault(KafkaError._INCONSISTENT, txn_requires_abort=True)


@dataclass
class Log:
    """What is committed, what was called, and the faults to come: call -> what it raises, or None to work this time.

    A fault under "after <call>" is raised when the call has had its effect; one under "deliver" is a delivery report's.
    """

    rows: list[Row] = field(default_factory=list)
    marker: Marker | None = None
    calls: list[str] = field(default_factory=list)
    faults: dict[str, deque[BaseException | None]] = field(default_factory=dict)
    newest: "LogProducer | None" = None
    now: float = 0.0
    hidden: int = 0  # so many glances may miss what an open transaction hides

    def fail(self, call: str, *errors: BaseException | None) -> None:
        self.faults.setdefault(call, deque()).extend(errors)

    def meet(self, call: str) -> None:
        if not call.startswith(("after ", "deliver")):
            self.calls.append(call)
        if (waiting := self.faults.get(call)) and (error := waiting.popleft()) is not None:
            raise error

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        self.now += 0.001
        return self.now


class LogProducer:
    """As much of librdkafka's transactional producer as the sink uses."""

    def __init__(self, log: Log) -> None:
        self.log, self.open, self.reports = log, list[tuple[Row, int]](), list[Callable[[], None]]()

    def init_transactions(self, _timeout: float) -> None:
        self.log.meet("init")
        self.log.newest = self

    def begin_transaction(self) -> None:
        self._owned("begin")
        self.open = []

    def produce(self, *message: Any) -> None:
        topic, value, key, partition, report, _, _, headers = message
        self.log.meet("produce")
        row = (topic, key, value, tuple(headers or ()))
        if len(value or b"") > LARGEST:
            raise fault(KafkaError.MSG_SIZE_TOO_LARGE)
        try:
            self.log.meet("deliver")
        except KafkaException as raised:
            self.reports.append(partial(report, raised.args[0], Message(row)))
        else:
            self.open.append((row, partition))

    def poll(self, _timeout: float) -> int:
        self.log.meet("poll")
        return 0

    def flush(self, _timeout: float) -> int:
        self.log.meet("flush")
        for report in self.reports:
            report()
        self.reports = []
        return 0

    def commit_transaction(self, timeout: float) -> None:
        self.log.now += timeout
        self._owned("commit")
        for row, partition in self.open:
            if row[0] == PROGRESS:
                assert partition == 0
                self.log.marker = Marker(*json.loads(row[2] or b""))
            else:
                self.log.rows.append(row)
        self.open = []
        self.log.meet("after commit")

    def abort_transaction(self, _timeout: float) -> None:
        self._owned("abort")
        self.open = []

    def _owned(self, call: str) -> None:
        self.log.meet(call)
        if self.log.newest is not self:
            raise FENCED


@dataclass
class Message:
    """A message in a delivery report: librdkafka's shows no headers there."""

    row: Row

    def topic(self) -> str:
        return self.row[0]

    def key(self) -> bytes | None:
        return self.row[1]

    def value(self) -> bytes | None:
        return self.row[2]


class LogEdge(Edge):
    """One sink part's edge to a Log."""

    def __init__(self, log: Log, part: int = 0) -> None:
        super().__init__({}, "flow", part)
        self.log = log

    def transactional(self) -> Producer:
        self.log.calls.append("open")
        return cast("Producer", LogProducer(self.log))

    def idempotent(self) -> Producer:
        return cast("Producer", DirectProducer(self.log))

    def marker(self) -> Marker | None:
        self.log.meet("marker")
        return self.log.marker

    def glance(self) -> tuple[Marker | None, bool]:
        self.log.meet("glance")
        self.log.hidden -= 1
        return self.log.marker, self.log.hidden < 0

    def show(self, offsets: Sequence[tuple[str, int, int]]) -> None:
        self.log.calls.append(f"show {list(offsets)}")


class DirectProducer(LogProducer):
    """Rows are in the log when flush() has returned."""

    def flush(self, timeout: float) -> int:
        self.log.rows += [row for row, _ in self.open]
        self.open = []
        return super().flush(timeout)
