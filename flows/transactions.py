"""Rows and their marker appear in Kafka together, or not at all. In: records and a marker. Out: one committed transaction.

Every error that a transaction can meet is judged here. What each needs was measured on brokers that were killed.
"""

import itertools
import logging
import time
from collections.abc import Callable, Collection

from confluent_kafka import KafkaError, KafkaException, Producer

from flows.delivery import Delivery, Failure, Sight, lighten, wait
from flows.edge import Edge, Marker
from flows.records import PROGRESS, Row
from flows.stop import AWAY, BEGIN_ANEW, FENCED, MISMATCH, REFUSED, Stop

LOG = logging.getLogger(__name__)

GIVE_UP_S = 600.0  # a time, not a number of attempts: five attempts were too few for the outage of one broker
NEW_TOPIC_S = 10.0  # a topic just created is not known to every broker at once
CERTAIN_S = 5.0  # for an open transaction to end that may hide the marker before anybody is fenced
REOPEN = 3  # times in a row that a fenced producer may look whether it is still the owner

# A broker answers so to an older instance, but also after an outage longer than the transaction's timeout. The marker tells which.
FENCING = {
    KafkaError._FENCED,  # noqa: SLF001 - librdkafka's own errors are named so
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_TXN_STATE,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
}
UNKNOWN = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - as above
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - as above
}
AWAY_CODES = {
    KafkaError._TRANSPORT,  # noqa: SLF001 - as above
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - as above
    KafkaError._TIMED_OUT,  # noqa: SLF001 - as above
    KafkaError._MSG_TIMED_OUT,  # noqa: SLF001 - as above
    KafkaError._RESOLVE,  # noqa: SLF001 - as above
}
HINTS = {
    KafkaError.INVALID_TRANSACTION_TIMEOUT: "set KAFKA_TRANSACTION_TIMEOUT_MS to no more than the brokers' transaction.max.timeout.ms",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "allow Write and Describe on this transactional id",
}


class Transactions:
    """One transactional id. `marker` is what it committed last, in this life or an earlier one; None before the first time.

    `admit` raises Stop for a marker that must not be gone on from: it is asked before an older instance is fenced, and again after.
    Raises Stop when going on could lose or double rows, or Kafka has been away for GIVE_UP_S.
    """

    def __init__(
        self,
        edge: Edge,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
        admit: Callable[[Marker | None], None] | None = None,
    ) -> None:
        self._edge, self._clock, self._pause = edge, clock, pause
        self._begin_s = clock()
        self._fenced_in_a_row = 0
        self._said: int | None = None
        producer = edge.transactional()
        if admit:
            self._knock(producer, admit)
        self._producer, self.marker = self._open(producer)
        if admit:
            admit(self.marker)
        edge.outage.worked(edge.transactional_id)

    def commit(self, rows: Collection[Row], marker: Marker) -> None:
        """One transaction with all rows and the marker. Returns when it is committed: aborted ones were done again."""
        self._begin_s = self._clock()
        alone: set[Sight] = set()
        for attempt in itertools.count():
            failed = self._attempt(rows, marker, alone)
            if self.marker == marker:
                self._fenced_in_a_row, self._said = 0, None
                self._edge.outage.worked(self._edge.transactional_id)
                return
            lighter = lighten(rows, failed, alone)
            if lighter is None:
                self._pause(min(5.0, 0.1 * 2**attempt))
            rows = lighter or rows

    def _attempt(self, rows: Collection[Row], marker: Marker, alone: set[Sight]) -> list[Failure]:
        """What did not arrive. Afterwards the marker tells whether it was committed; if not, the transaction is aborted."""
        begin = self._clock()
        delivery = Delivery(self._producer, alone)
        try:
            self._producer.begin_transaction()
            delivery.send(rows)
            delivery.send([marker.record(self._edge.transactional_id)], self._edge.part)
            failed = delivery.arrive()
        except KafkaException as error:
            self._judge(error.args[0], marker)
            return []
        if failed:
            self._be_patient(failed[0].error)
            self._abort(marker)
        else:
            self._finish(marker, begin + self._edge.timeout_s)
        return failed

    def _finish(self, marker: Marker, end: float) -> None:
        """Commit. A retriable error leaves the outcome open: only commit again can tell, and after the timeout only the marker."""
        unknown = False
        while True:
            try:
                wait(self._producer.commit_transaction)
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                if error.retriable() and self._clock() < end:
                    unknown = True
                    self._be_patient(error)
                elif unknown and not _fences(error):
                    return self._reopen(error, marker)  # never abort what may be committed
                else:
                    return self._judge(error, marker)
            else:
                self.marker = marker
                return None

    def _judge(self, error: KafkaError, target: Marker) -> None:
        self._be_patient(error)
        if _fences(error):
            self._fenced(error, target)
        elif error.txn_requires_abort():
            self._abort(target)
        else:
            self._reopen(error, target)

    def _abort(self, target: Marker) -> None:
        while True:
            try:
                return wait(self._producer.abort_transaction)
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
            self._be_patient(error)
            if _fences(error):
                return self._fenced(error, target)
            if not error.retriable():
                return self._reopen(error, target)

    def _fenced(self, error: KafkaError, target: Marker) -> None:
        """Look whether the marker is still ours; without a limit, two instances would fence each other for ever."""
        self._fenced_in_a_row += 1
        if self._fenced_in_a_row > REOPEN:
            raise self._taken_over(error.str())
        self._reopen(error, target)

    def _reopen(self, error: KafkaError, target: Marker) -> None:
        """A new producer ends whatever was open. Go on only if nobody else has committed since: the marker names its owner."""
        ours = (self.marker, target)
        self._producer, self.marker = self._open(self._edge.transactional())
        if self.marker not in ours:
            raise self._taken_over(f"{error.str()}; it has committed since")

    def _knock(self, producer: Producer, admit: Callable[[Marker | None], None]) -> None:
        """Be refused, if so, while nobody is fenced yet. What an open transaction may hide is judged when _open() has ended that."""
        certain_s = self._clock() + CERTAIN_S
        while True:
            try:
                marker, certain = self._edge.glance()
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                if error.code() in UNKNOWN:
                    return None
                self._wait_on(producer, error)
                continue
            try:
                return admit(marker)
            except Stop:
                if certain:
                    raise
            if self._clock() > certain_s:
                return None
            self._pause(0.1)

    def _open(self, producer: Producer) -> tuple[Producer, Marker | None]:
        """Fence older instances and end what they left open; then read the marker: before, it could still change."""
        while True:
            try:
                wait(producer.init_transactions)
                break
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
            if not error.retriable():
                raise self._taken_over(error.str()) if error.code() in FENCING else self._refused(error)
            self._wait_on(producer, error)
        known = self._clock() + NEW_TOPIC_S
        while True:
            try:
                return producer, self._edge.marker()
            except KafkaException as raised:  # reading harms nothing: any error may be tried again
                error = raised.args[0]
            if error.code() in UNKNOWN and self._clock() > known:
                raise self._stop(MISMATCH, f"there is no {PROGRESS}[{self._edge.part}] ({error.str()}); begin anew: {BEGIN_ANEW}")
            if error.code() not in UNKNOWN:
                self._be_patient(error)
            self._pause(0.2)

    def _wait_on(self, producer: Producer, error: KafkaError) -> None:
        wait(producer.poll, 0)  # runs the callback that sets `refusal`
        if self._edge.refusal is not None:
            raise self._refused(self._edge.refusal)
        self._be_patient(error)
        self._pause(0.1)

    def _be_patient(self, error: KafkaError) -> None:
        """Say an error once, and stop when it has lasted for too long. That Kafka does not answer is said by the outage."""
        if error.retriable() or error.code() in AWAY_CODES:
            self._edge.outage.failed(self._edge.transactional_id, error.str(), self._begin_s)
        elif error.code() != self._said:
            self._said = error.code()
            LOG.warning("%s: %s (%s); trying again", self._edge.transactional_id, error.name(), error.str())
        if self._clock() > self._begin_s + GIVE_UP_S:
            raise self._stop(
                AWAY,
                f"Kafka has taken no row for {GIVE_UP_S / 60:.0f} min ({error.str()}); "
                "rows wait in the recovery directory: start again when Kafka is well",
            )

    def _taken_over(self, why: str) -> Stop:
        return self._stop(FENCED, f"another flow with this KPI_FLOW_ID has taken over ({why}); run one of them, or give them two ids")

    def _refused(self, error: KafkaError) -> Stop:
        return self._stop(REFUSED, f"Kafka refuses this client ({error.str()}); {HINTS.get(error.code(), 'correct the KAFKA_* settings')}")

    def _stop(self, code: int, line: str) -> Stop:
        return Stop(code, f"{self._edge.transactional_id}: {line}")


def _fences(error: KafkaError) -> bool:
    return bool(error.fatal()) or error.code() in FENCING
