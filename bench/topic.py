"""What is in topics, as a reader of committed messages sees it. In: names, and from where on. Out: ends, and messages up to them."""

from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

Ends = dict[tuple[str, int], int]


class Looker:
    """Looks at topics, joins nothing."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumer = self._made()
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def topics(self) -> set[str]:
        """All there are."""
        return set(self._consumer.list_topics(timeout=10).topics)

    def ends(self, topics: Iterable[str]) -> Ends:
        """Where the next message of each partition goes; of topics that are there."""
        there = self._consumer.list_topics(timeout=10).topics
        places = [(name, partition) for name in topics if name in there for partition in there[name].partitions]
        return {place: self._consumer.get_watermark_offsets(TopicPartition(*place), 10)[1] for place in places}

    def messages(self, topic: str, begin: Mapping[tuple[str, int], int]) -> Iterator[Message]:
        """Those from `begin` (0 where it says nothing) to the present ends, each partition in its order."""
        consumer = self._made()
        left = {partition for (_, partition), end in self.ends([topic]).items() if end > begin.get((topic, partition), 0)}
        consumer.assign([TopicPartition(topic, partition, begin.get((topic, partition), 0)) for partition in left])
        try:
            while left:
                for message in consumer.consume(10_000, 1):
                    if (error := message.error()) is None:
                        yield message
                    elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                        left.discard(message.partition() or 0)
                    else:
                        raise KafkaException(error)
        finally:
            consumer.close()

    def delete(self, topics: Iterable[str]) -> None:
        """Take them away."""
        for done in self._admin.delete_topics(list(topics)).values() if (topics := list(topics)) else ():
            done.result(30)

    def _made(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "bench-looker",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
