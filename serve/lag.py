"""How far the flow is behind. In: the offsets its consumer group has committed, and where its topics end. Out: messages by source topic.

A thread of its own, so that it may wait. It joins no group: it only asks what that of the flow has committed. Through a consumer, as
librdkafka 2.16 ends the process (a segmentation fault) when an AdminClient asks and the group's coordinator has just moved.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, TopicPartition

LOG = logging.getLogger(__name__)

ASKED_S = 3.0  # how often
ANSWER_S = 5.0  # what was not answered within this time is unknown
GOING_S = 2.0  # the end of the dashboard waits no longer for this
END = -1  # the moment after the last message, where Kafka is asked for the offset of a moment

Lags = Mapping[str, int]  # source topic -> messages not committed; a topic of which that is unknown is not there
Offsets = Mapping[tuple[str, int], int]


class Lag:
    """Asks again and again, and tells every answer. `start` and `stop` it once."""

    def __init__(self, settings: Mapping[str, Any], group: str, tell: Callable[[Lags], None]) -> None:
        self._settings = {**settings, "group.id": group, "enable.auto.commit": False, "log_level": 0}
        self._tell = tell
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for a moment, but not for a broker that does not answer."""
        self._stopping.set()
        self._thread.join(GOING_S)

    def _run(self) -> None:
        consumer = Consumer(self._settings)
        while not self._stopping.is_set():
            try:
                self._tell(lags(consumer))
            except Exception as error:  # noqa: BLE001 - whatever it is: unknown, and asked again
                LOG.debug("the flow's lag is unknown: %r", error)
                self._tell({})
            self._stopping.wait(ASKED_S)
        consumer.close()


def lags(consumer: Consumer) -> Lags:
    """How far the consumer's group is behind. Raises KafkaException."""
    topics = consumer.list_topics(timeout=ANSWER_S).topics.items()
    sources = {name: topic for name, topic in topics if not name.startswith(("_", "kpi.")) and topic.error is None}
    wanted = [TopicPartition(name, part) for name, topic in sources.items() for part in topic.partitions]
    offsets = _known(consumer.committed(wanted, ANSWER_S)) if wanted else {}
    ends = _known(consumer.offsets_for_times([TopicPartition(*part, END) for part in offsets], ANSWER_S)) if offsets else {}
    return behind(offsets, ends)


def behind(offsets: Offsets, ends: Offsets) -> dict[str, int]:
    """Topic -> messages between what was committed and the end; a topic whose end is unknown, or before that, is left out.

    >>> behind({("a", 0): 3, ("a", 1): 4, ("b", 0): 9}, {("a", 0): 5, ("a", 1): 4, ("b", 0): 1})
    {'a': 2}
    """
    lags: Counter[str] = Counter()
    unknown = {part[0] for part, offset in offsets.items() if ends.get(part, -1) < offset}
    for part, offset in offsets.items():
        lags[part[0]] += ends.get(part, offset) - offset
    return {topic: n for topic, n in lags.items() if topic not in unknown}


def _known(parts: list[TopicPartition]) -> Offsets:
    return {(it.topic, it.partition): it.offset for it in parts if it.error is None and it.offset >= 0}
