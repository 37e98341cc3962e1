"""Rows on their way into Kafka. In: records. Out: those that did not arrive, each with its error."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple, TypeAlias, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from flows.records import DEAD, Row

Sight: TypeAlias = tuple[str, bytes | None, bytes | None]  # as much of a row as a delivery report shows
Result = TypeVar("Result")

WAIT_S = 1.0  # calls into Kafka last no longer: Python runs signal handlers between calls
KEEP_VALUE, KEEP_KEY = 65_536, 1_024  # bytes that stay of a row too large


class Undelivered(Exception):  # noqa: N818 - said of a row
    """A row did not reach Kafka."""


class Failure(NamedTuple):
    """A row that did not arrive, and why."""

    error: KafkaError
    row: Sight

    @property
    def too_large(self) -> bool:
        """Whether the client, or the broker, refuses its size."""
        return self.error.code() == KafkaError.MSG_SIZE_TOO_LARGE


class Delivery:
    """Send rows and learn what became of each. Those in `alone` share a request with no other. Raises KafkaException when all is over."""

    def __init__(self, producer: Producer, alone: Collection[Sight] = ()) -> None:
        self._producer, self._alone = producer, alone
        self._failed: list[Failure] = []

    def send(self, rows: Iterable[Row], partition: int = -1) -> None:
        """Hand the rows to the client."""
        produce, report, alone = self._producer.produce, self._report, self._alone
        for row in rows:
            topic, key, value, headers = row
            apart = alone and row[:3] in alone
            if apart:
                self._flush()
            while True:
                try:
                    # By position, and a list only where there are headers: 1.1 M rows/s instead of 0.7 M.
                    produce(topic, value, key, partition, report, None, 0, list(headers) if headers else None)
                    break
                except BufferError:  # the queue is full: this very row again, or the rest would be committed without it
                    wait(self._producer.poll, 0.1)
                except KafkaException as error:
                    self._failed.append(Failure(error.args[0], row[:3]))
                    if not self._failed[-1].too_large:
                        return  # the producer takes nothing any more
                    break
            if apart:
                self._flush()

    def arrive(self) -> list[Failure]:
        """Wait until the fate of every row is known (the client gives one up after message.timeout.ms). The failures."""
        self._flush()
        return self._failed

    def _flush(self) -> None:
        while wait(self._producer.flush, WAIT_S):
            pass

    def _report(self, error: KafkaError | None, message: Any) -> None:  # noqa: ANN401 - confluent_kafka's Message
        if error is not None:
            self._failed.append(Failure(error, (message.topic(), message.key(), message.value())))


def wait(call: Callable[[float], Result], seconds: float = WAIT_S) -> Result:
    """The result of a call of the producer that may run callbacks. Raises KafkaException.

    A fatal error is raised inside such a call; confluent-kafka 2.16 runs delivery reports all the same. The call then ends in SystemError,
    behind which that error stands, or none at all (4 of 20 flows that were replaced while they stood still): it is fatal either way.
    """
    try:
        return call(seconds)
    except SystemError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KafkaException):
            cause = cause.__cause__ or cause.__context__
        fatal = KafkaError(KafkaError._FATAL, f"the client lost a fatal error: {error}", fatal=True)  # noqa: SLF001 - librdkafka's own errors are named so
        raise cause or KafkaException(fatal) from None


def deliver(producer: Producer, rows: Collection[Row]) -> None:
    """Every row is in Kafka when this returns; one too large is there as a dead letter. Raises Undelivered."""
    alone: set[Sight] = set()
    while rows:
        delivery = Delivery(producer, alone)
        try:
            delivery.send(rows)
            failed = delivery.arrive()
        except KafkaException as raised:
            raise Undelivered(f"{next(iter(rows))[0]}: {len(rows)} rows may not have been delivered: {raised.args[0].str()}") from raised
        if not failed:
            return
        refused = {failure.row for failure in failed}
        lighter = lighten([row for row in rows if row[:3] in refused], failed, alone)
        lost = failed if lighter is None else [failure for failure in failed if not failure.too_large]
        if lost:
            error, (topic, *_) = lost[0]
            raise Undelivered(f"{topic}: {len(lost)} of {len(rows)} rows were not delivered: {error.name()} ({error.str()})")
        rows = lighter or []


def lighten(rows: Collection[Row], failed: Iterable[Failure], alone: set[Sight]) -> list[Row] | None:
    """The rows, those cut that are certainly too large; those that may be are added to `alone`. None when that changes nothing.

    A broker refuses the whole batch of a request: only what was refused on its own is certain.
    """
    large = {failure.row for failure in failed if failure.too_large}
    if not large:
        return None
    certain = large if len(large) == 1 else large & alone
    suspected = large - alone
    alone |= large
    if not suspected and all(cut(row) == row for row in rows if row[:3] in certain):
        return None
    return [cut(row) if row[:3] in certain else row for row in rows]


def cut(row: Row) -> Row:
    """A dead letter for a row too large: the beginnings of key and value; the value's length is in `kpi.truncated`.

    What was cut before comes back unchanged.
    """
    topic, key, value, headers = row
    if any(name == "kpi.truncated" for name, _ in headers):
        return row
    headers = headers or (("kpi.topic", topic.encode()), ("kpi.reason", b"size"), ("kpi.error", b"larger than Kafka takes"))
    length = str(len(value or b"")).encode()
    return DEAD, key and key[:KEEP_KEY], value and value[:KEEP_VALUE], (*headers, ("kpi.truncated", length))
