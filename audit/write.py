"""All of some records in Kafka, or none. In: records, a transactional id, a yes. Out: one committed transaction."""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from audit.topic import CannotVerifyError
from flows.question import agreed, at_terminal

TIMEOUT_MS = 600_000  # of the transaction; brokers allow 15 min as they come
ANSWER_S = 60.0
PARTITIONER = -1  # librdkafka's word for: as the key says


class Entry(NamedTuple):
    """A record to write. `partition`: PARTITIONER, or the one it must stand in; `stamp_ms`: 0 for now."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]
    partition: int = PARTITIONER
    stamp_ms: int = 0


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether a person agrees; without a terminal only who said so before."""
    if yes:
        return True
    if not (agrees := agreed(question)):
        print("nothing was changed" if at_terminal() else "nothing was changed; to do it: YES=1 (--yes)")
    return agrees


def write(settings: Mapping[str, str], transactional_id: str, entries: Iterable[Entry]) -> int:
    """How many were written, all in one transaction. Whatever goes wrong before its end, Ctrl-C too, leaves nothing.

    Raises CannotVerifyError.
    """
    told: dict[KafkaError | None, Message] = {}  # a message of each outcome
    own: dict[str, Any] = {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": TIMEOUT_MS,
        "compression.type": "lz4",
        "log_level": 0,
    }
    try:
        producer = Producer({**settings, **own})
        producer.init_transactions(ANSWER_S)
        producer.begin_transaction()
        count = 0
        try:
            for count, entry in enumerate(entries, 1):  # noqa: B007 - counted for the answer
                _produce(producer, entry, told.setdefault)
            producer.flush(TIMEOUT_MS / 1000)
            _check(told)
        except BaseException:
            producer.abort_transaction(ANSWER_S)
            raise
        with _undisturbed():  # a Ctrl-C inside the commit could not tell whether it was done
            _commit(producer)
    except KafkaException as error:
        raise CannotVerifyError(f"nothing was written: {error.args[0].str()}; run it again") from None
    return count


def _check(told: Iterable[KafkaError | None]) -> None:
    for error in told:
        if error is not None:
            raise KafkaException(error)


def _produce(producer: Producer, entry: Entry, delivered: Callable[..., Any]) -> None:
    """`delivered` is no Python code: a Ctrl-C inside of that would become a SystemError."""
    while True:
        try:
            producer.produce(
                entry.topic, entry.value, entry.key, entry.partition, on_delivery=delivered, timestamp=entry.stamp_ms, headers=entry.headers
            )
            producer.poll(0)
        except BufferError:
            producer.poll(0.1)
        else:
            return


@contextmanager
def _undisturbed() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _commit(producer: Producer) -> None:
    """A commit whose outcome is unknown is asked for again: only that can tell."""
    while True:
        try:
            producer.commit_transaction(ANSWER_S)
        except KafkaException as error:
            if error.args[0].retriable():
                continue
            if error.args[0].txn_requires_abort():
                producer.abort_transaction(ANSWER_S)
            raise
        else:
            return
