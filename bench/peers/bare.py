"""The limit: confluent-kafka's consumer, settings as fast as we know them, doing nothing with the messages. In: PEER_*. Out: `read N`."""

from confluent_kafka import Consumer, TopicPartition

from bench.clicks import PARTITIONS
from bench.peers import Reads, told

BATCH = 1_000


def main() -> None:
    """Read all of the topic."""
    given = told()
    consumer = Consumer(
        {
            "bootstrap.servers": given.bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "queued.max.messages.kbytes": 65_536,
            "queued.min.messages": 200_000,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.assign([TopicPartition(given.topic, partition, 0) for partition in range(PARTITIONS)])
    reads = Reads(given.total)
    while (left := given.total - reads.count) > 0:
        reads.add(len(consumer.consume(min(BATCH, left), 1)))  # asked for more than there is, it would wait for the second to pass
    consumer.close()


if __name__ == "__main__":
    main()
