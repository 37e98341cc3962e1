"""Brokers are killed under a flow: the leader of its input, the controller, its transaction coordinator, and two at a time.

In: a ground. Out: rows of the scoreboard.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient

from flows.stop import AWAY
from infra.embedded import Cluster
from tests.chaos.base import Ground, Result, Scene, pause, until, verified
from tests.chaos.feeder import now_ms
from tests.chaos.flow import SHAPES, Life, Shape
from tests.chaos.reference import SIZES
from tests.chaos.verdict import OWN_TOPICS

RESUME_LIMIT_S = 15.0
DOWN_S = (0.0, 5.0)
WHOLE_S = 120.0  # until all replicas are in sync again
OUTAGE_S = 15.0
TIMEOUT_MS = 10_000  # of the transactions in an outage: shorter than the outage
INTERNAL = "__transaction_state"


class Members:
    """Who does what in a cluster, and whether it is whole."""

    def __init__(self, cluster: Cluster, topics: list[str]) -> None:
        self._cluster, self._topics = cluster, topics
        self._admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "reconnect.backoff.max.ms": 200, "log_level": 0})

    def leader(self, topic: str, partition: int) -> int:
        """The broker that leads a partition."""
        return int(self._admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader)

    def controller(self) -> int:
        """The leader of the metadata quorum."""
        admin = KafkaAdminClient(bootstrap_servers=self._cluster.bootstrap.split(","))
        try:
            return int(admin.describe_metadata_quorum()["leader_id"])
        finally:
            admin.close()

    def coordinator(self, transactional_id: str) -> int:
        """The leader of the partition of __transaction_state that Kafka hashes the id to."""
        partitions = len(self._admin.list_topics(INTERNAL, timeout=10).topics[INTERNAL].partitions)
        return self.leader(INTERNAL, java_hash(transactional_id) % partitions)

    def led(self, without: set[int]) -> bool:
        """Whether every partition that the flow needs has a leader that is not one of the dead."""
        return self._every(lambda partition: partition.leader >= 0 and partition.leader not in without)

    def whole(self, brokers: int = 3) -> bool:
        """Whether every partition has a leader and all its replicas in sync."""
        return self._every(lambda partition: partition.leader >= 0 and len(partition.isrs) == brokers)

    def _every(self, holds: Callable[..., bool]) -> bool:
        try:
            topics = self._admin.list_topics(timeout=1).topics
        except KafkaException:
            return False
        return all(name in topics and all(map(holds, topics[name].partitions.values())) for name in self._topics)


def java_hash(text: str) -> int:
    """Java's String.hashCode without its sign, as Kafka takes it.

    >>> java_hash("hello"), java_hash("kpi-0")
    (99162322, 102219770)
    """
    value = 0
    for char in text.encode("utf-16-be")[1::2]:
        value = (31 * value + char) & 0xFFFFFFFF
    return value & 0x7FFFFFFF


@dataclass
class Siege:
    """A flow whose brokers are killed: what came of it so far."""

    scene: Scene
    life: Life
    members: Members
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def without(self, nodes: set[int], down_s: float) -> str:
        """Kill brokers and bring them back after a while; measure from the moment all partitions are led to the next final row."""
        cluster, several = self.scene.flow.cluster, len(nodes) > 1
        for node in nodes:
            cluster.kill_broker(node)
        back = threading.Thread(target=_bring_back, args=(cluster, nodes, down_s))
        back.start()
        shown = "no row"
        try:
            if several:
                pause(down_s)
            until(lambda: self.members.led(nodes if back.is_alive() and not several else set()), WHOLE_S, "every partition has a leader")
            took = self._resumed(time.monotonic(), now_ms())
            self.seconds.append(took)
            shown = f"the next row {took:.1f} s after a leader was there"
        except TimeoutError as error:
            self.fail(str(error))
        finally:
            back.join()
        until(self.members.whole, WHOLE_S, "all replicas are in sync")
        return shown

    def change(self, shape: Shape) -> None:
        """The flow ended as a deployment would, and started in another shape."""
        if any(codes := self.life.stop()):
            self.fail(f"SIGTERM ended the flow with {codes}")
        self.life = self.scene.flow.start(shape)
        self.scene.first_row(self.life)

    def fail(self, line: str) -> None:
        """Something that must not be."""
        self.failed.append(line)
        self.scene.say(f"    {line}")

    def _resumed(self, led_s: float, led_ms: int) -> float:
        """Seconds to a final row. A flow that gave Kafka up is started again, as a supervisor would; any other end is a failure."""
        flow, watch = self.scene.flow, self.scene.watch
        end = time.monotonic() + WHOLE_S
        while (seen_s := watch.first_after(led_ms)) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"no row of {flow.flow_id} within {WHOLE_S:.0f} s:\n{flow.log[-2000:]}")
            if not self.life.alive:
                if any(code not in {None, AWAY} for code in self.life.exit_codes):
                    self.fail(f"{flow.flow_id} {self.life.shape} ended with {self.life.exit_codes}:\n{flow.log[-2000:]}")
                self.life.kill()
                self.life = flow.start(self.life.shape)
            pause(0.05)
        return seen_s - led_s


def brokers(ground: Ground, count: int, seed: int) -> Result:
    """`count` brokers killed, one at a time, each role in turn; the flow changes its shape after each third of them."""
    dice = Random(seed)
    with ground.scene("brokers", seed) as scene:
        siege = besieged(scene)
        members = siege.members
        roles: dict[str, Callable[[], int]] = {
            "leader": lambda: members.leader(scene.feeder.topic, dice.randrange(scene.feeder.partitions)),
            "controller": members.controller,
            "coordinator": lambda: members.coordinator(f"{scene.flow.flow_id}-{dice.randrange(2)}"),
        }
        each = -(-count // len(SHAPES))
        for number in range(count):
            if number and number % each == 0 and count > len(roles):
                siege.change(SHAPES[number // each])
            role = list(roles)[number % len(roles)]
            node, down_s = roles[role](), dice.uniform(*DOWN_S)
            shown = siege.without({node}, down_s)
            ground.say(f"brokers: {number + 1} of {count}, {siege.life.shape}, {role} (broker {node}) down {down_s:.1f} s, {shown}")
        verdict = scene.settle(siege.life)
        siege.failed += verified(scene)
    notes = "leader, controller, coordinator in turn; seconds from the moment that all partitions were led"
    return Result("brokers", count, verdict, siege.seconds, RESUME_LIMIT_S, notes, siege.failed)


def outages(ground: Ground, count: int, seed: int) -> Result:
    """Two of three brokers away for longer than the transaction timeout: nothing can be written, no controller can be elected."""
    dice = Random(seed)
    with ground.scene("outages", seed, environ={"KAFKA_TRANSACTION_TIMEOUT_MS": str(TIMEOUT_MS)}) as scene:
        siege = besieged(scene)
        for number in range(count):
            nodes = set(dice.sample((1, 2, 3), 2))
            shown = siege.without(nodes, OUTAGE_S)
            ground.say(f"outages: {number + 1} of {count}, brokers {nodes} down {OUTAGE_S:.0f} s, {shown}")
        verdict = scene.settle(siege.life)
        siege.failed += verified(scene)
    notes = f"two of three brokers away for {OUTAGE_S:.0f} s, transaction timeout {TIMEOUT_MS // 1000} s"
    return Result("outages", count, verdict, siege.seconds, RESUME_LIMIT_S, notes, siege.failed)


def besieged(scene: Scene) -> Siege:
    """The flow of a scene, once it has written its first row."""
    life = scene.flow.start()
    scene.first_row(life)
    outputs = [f"kpi.{scene.feeder.topic}.{label}" for label in SIZES]
    return Siege(scene, life, Members(scene.flow.cluster, [scene.feeder.topic, *outputs, *OWN_TOPICS, INTERNAL]))


def _bring_back(cluster: Cluster, nodes: set[int], down_s: float) -> None:
    pause(down_s)
    threads = [threading.Thread(target=cluster.start_broker, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
