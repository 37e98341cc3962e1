"""One partition of the monitor's topic for every broker. In: brokers and partitions. Out: partitions to add, leaders to put back. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Partition:
    """Where one partition lives; the first replica is the leader that is wanted."""

    leader: int
    replicas: Sequence[int]
    in_sync: Sequence[int]


def assignment(first: int, brokers: Sequence[int], copies: int) -> list[int]:
    """The replicas of a partition that `first` is to lead: itself and the brokers after it, round and round.

    >>> assignment(2, [1, 2, 3], 2)
    [2, 3]
    """
    start = brokers.index(first)
    return [brokers[(start + step) % len(brokers)] for step in range(min(copies, len(brokers)))]


def missing(brokers: Sequence[int], partitions: Mapping[int, Partition], copies: int) -> list[list[int]]:
    """The replicas of the partitions to add, so that every broker is to lead one."""
    led = {partition.replicas[0] for partition in partitions.values()}
    return [assignment(broker, brokers, copies) for broker in brokers if broker not in led]


def strayed(brokers: Sequence[int], partitions: Mapping[int, Partition]) -> list[int]:
    """Partitions that could be led by the broker that is to lead them, and are not: it was away and is back."""
    return [
        number
        for number, partition in sorted(partitions.items())
        if partition.leader != (wanted := partition.replicas[0]) and wanted in brokers and wanted in partition.in_sync
    ]
