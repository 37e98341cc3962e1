"""The monitor's topic in Kafka: created, grown and put back in order. In: an admin client. Out: how many partitions it has."""

from collections.abc import Sequence

from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from infra.monitor.placement import Partition, assignment, missing, strayed

TIMEOUT_S = 10
SETTINGS = {"retention.ms": "600000", "segment.ms": "600000"}


class Topic:
    """One topic with a partition on every broker."""

    def __init__(self, admin: AdminClient, name: str, copies: int, least: int) -> None:
        """`copies` of each record, where there are so many brokers; the topic is made once there are `least` brokers."""
        self.name = name
        self._admin = admin
        self._copies = copies
        self._least = least

    def keep(self) -> int:
        """Do what is missing. Result: the number of partitions, 0 while there are too few brokers. Raises KafkaException."""
        brokers, partitions = self._look()
        if not partitions:
            return self._create(brokers) if len(brokers) >= self._least else 0
        total = len(partitions)
        if added := missing(brokers, partitions, self._copies):
            total += len(added)
            self._admin.create_partitions([NewPartitions(self.name, total, added)], request_timeout=TIMEOUT_S)[self.name].result()
        if stray := strayed(brokers, partitions):
            self._admin.elect_leaders(ElectionType.PREFERRED, [TopicPartition(self.name, number) for number in stray]).result()
        return total

    def _create(self, brokers: Sequence[int]) -> int:
        replicas = [assignment(broker, brokers, self._copies) for broker in brokers]
        settings = {**SETTINGS, "min.insync.replicas": str(max(1, len(replicas[0]) - 1))}
        new = NewTopic(self.name, len(brokers), replica_assignment=replicas, config=settings)
        self._admin.create_topics([new], request_timeout=TIMEOUT_S)[self.name].result()
        return len(brokers)

    def _look(self) -> tuple[list[int], dict[int, Partition]]:
        cluster = self._admin.list_topics(timeout=TIMEOUT_S)
        here = cluster.topics.get(self.name)
        return sorted(cluster.brokers), {
            number: Partition(partition.leader, partition.replicas, partition.isrs)
            for number, partition in (here.partitions if here else {}).items()
        }
