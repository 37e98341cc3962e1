"""Topics as an auditor reads them: read_committed, from offset to offset, in no consumer group. In: settings. Out: messages, offsets."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

FETCH = 10_000  # messages taken from librdkafka at once
ANSWER_S = 10.0
SILENCE_S = 60.0  # without a message, and without the end: Kafka is away, or a transaction hangs
SAY_S = 2.0
WAIT_S = 0.1  # a call that gathers FETCH messages returns after this time at the latest, at the end of a topic above all
READER: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 65_536,
    # Also what a batch may unpack to: the flow reads up to 256 MiB, and librdkafka tries zstd's in rooms that grow threefold.
    "receive.message.max.bytes": 3 * (256 << 20),
    "log_level": 0,
}

Span = Mapping[int, tuple[int, int]]  # partition -> [first offset, end)
Unread = Mapping[int, Sequence[tuple[int, int]]]  # partition -> first and last offset of batches that the flow could not read


class CannotVerifyError(Exception):
    """What was asked cannot be done here; the text says why, and the way on."""


class Topics:
    """One client. `flow_id` is only asked for what it has committed."""

    def __init__(self, settings: Mapping[str, str], flow_id: str) -> None:
        self._flow_id = flow_id
        self._consumer = Consumer({**settings, **READER, "group.id": flow_id})

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def partitions(self, topic: str) -> int:
        """How many; 0 where there is no such topic."""
        try:
            found = self._consumer.list_topics(timeout=ANSWER_S).topics.get(topic)
        except KafkaException as error:
            raise CannotVerifyError(f"Kafka does not answer ({error.args[0].str()}); set KAFKA_BOOTSTRAP_SERVERS") from None
        return 0 if found is None or found.error is not None else len(found.partitions)

    def span(self, topic: str) -> dict[int, tuple[int, int]]:
        """First offset and end of each partition; the end is that of what is committed."""
        asked = [TopicPartition(topic, partition) for partition in range(self.partitions(topic))]
        return {tp.partition: self._ask(partial(self._consumer.get_watermark_offsets, tp, ANSWER_S)) for tp in asked}

    def committed(self, topic: str, partitions: int) -> dict[int, int]:
        """How far the flow has come, by partition; those that it has not committed are left out."""
        asked = [TopicPartition(topic, partition) for partition in range(partitions)]
        found = self._ask(lambda: self._consumer.committed(asked, ANSWER_S))
        return {tp.partition: tp.offset for tp in found if tp.offset >= 0}

    def at_time(self, topic: str, time_ms: int, span: Span) -> dict[int, int]:
        """The first offset of each partition whose Kafka timestamp is not before a time; its end where there is none."""
        asked = [TopicPartition(topic, partition, time_ms) for partition in span]
        found = self._ask(lambda: self._consumer.offsets_for_times(asked, ANSWER_S))
        return {tp.partition: tp.offset if tp.offset >= 0 else span[tp.partition][1] for tp in found}

    def read(
        self, topic: str, span: Span, say: Callable[[str], None] | None = None, unread: Unread = MappingProxyType({})
    ) -> Iterator[list[Message]]:
        """Every committed message of a span, in offset order inside a partition; `say` hears how far it is, every two seconds.

        What cannot be read here either is passed over where it lies in a batch that is `unread`.
        """
        left = {partition: end for partition, (first, end) in span.items() if end > first}
        total, done = sum(end - first for first, end in span.values()), 0
        started_s = said_s = heard_s = time.monotonic()
        self._consumer.assign([TopicPartition(topic, partition, span[partition][0]) for partition in left])
        try:
            while left:
                found = self._consumer.consume(FETCH, WAIT_S)
                now_s = time.monotonic()
                heard_s = now_s if found else heard_s
                if now_s - heard_s > SILENCE_S:
                    raise CannotVerifyError(f"{topic}: nothing came for {SILENCE_S:.0f} s; is Kafka there, does a transaction hang?")
                messages = [message for message in found if self._within(message, left, span, unread)]
                done += len(messages)
                if say is not None and now_s - said_s >= SAY_S:
                    said_s = now_s
                    say(f"{topic}: {done:,} of about {total:,} messages, {done / (now_s - started_s):,.0f}/s")
                if messages:
                    yield messages
        finally:
            self._consumer.unassign()
        if say is not None:
            say(f"{topic}: {done:,} messages, {done / max(1e-3, time.monotonic() - started_s):,.0f}/s")

    def _within(self, message: Message, left: dict[int, int], span: Span, unread: Unread) -> bool:
        """Whether a message counts; strikes off partitions that are read to their end."""
        partition, offset, error = message.partition() or 0, message.offset() or 0, message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its name
            if error.retriable() or error.code() in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}:  # noqa: SLF001 - as above
                return False
            known = [last for first, last in unread.get(partition, ()) if first <= offset <= last]
            if not known:
                raise CannotVerifyError(f"{message.topic()}[{partition}]: {error.str()}; run it again")
            self._consumer.seek(TopicPartition(message.topic() or "", partition, known[0] + 1))
            return False
        if partition not in left:
            return False
        inside = error is None and offset < span[partition][1]
        if offset >= left[partition] - (error is None):
            del left[partition]
        return inside

    @staticmethod
    def _ask(question: Callable[[], Any]) -> Any:  # noqa: ANN401 - confluent_kafka's answers
        try:
            return question()
        except KafkaException as error:
            raise CannotVerifyError(f"Kafka does not answer ({error.args[0].str()})") from None


def stamp_of(message: Message) -> int:
    """Kafka's timestamp, UTC ms; -1 where it has none."""
    kind, stamp_ms = message.timestamp()
    return stamp_ms if kind else -1


def headers_of(message: Message) -> dict[str, str]:
    """Headers as text."""
    found: Any = message.headers() or ()
    return {name: value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "") for name, value in found}


def progress(line: str) -> None:
    """Progress goes beside the result."""
    print(line, file=sys.stderr, flush=True)
