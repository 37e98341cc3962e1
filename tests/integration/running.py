"""The flow as people run it, and a topic of their own: for tests on a real broker and registry."""

import io
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from flows.registry import Away, Registry
from infra.embedded import Cluster

ROOT = Path(__file__).parents[2]
T0_MS = 1_760_000_000_000
CLICK = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "shop", "type": "string"},
        {"name": "amount", "type": "long"},
    ],
}


@dataclass
class Flow:
    """`python -m bytewax.run flows.kpi`, on topics that begin with `prefix` only. `log` is what it says."""

    cluster: Cluster
    home: Path
    prefix: str
    config: str = ""
    windows: str = '["1s", "5s"]'
    durable: bool = True
    environ: Mapping[str, str] = field(default_factory=dict)
    runs: int = 0

    @property
    def log(self) -> str:
        return (self.home / "flow.log").read_text()

    @contextmanager
    def running(self, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The process, ended with the block (SIGKILL if it still runs then)."""
        defaults = f'[defaults]\nwindows = {self.windows}\nlateness = "1s"\nidle = "1h"\ntopics = {{ include = ["{self.prefix}.*"] }}\n'
        (self.home / "kpi.toml").write_text(defaults + self.config)
        arguments = [*more]
        if self.durable:
            recovery = self.home / "recovery"
            if not recovery.exists():
                recovery.mkdir()
                subprocess.run([sys.executable, "-m", "bytewax.recovery", str(recovery), "1"], check=True, capture_output=True, cwd=ROOT)
            arguments = ["-r", str(recovery), "-s", "1", "-b", "0", *more]
        own = {"KPI_CONFIG": str(self.home / "kpi.toml"), "KPI_FLOW_ID": self.prefix}
        environ = {**os.environ, **self.cluster.environ, **own, **self.environ}
        with (self.home / "flow.log").open("a") as log:
            command = [sys.executable, "-m", "bytewax.run", "flows.kpi", *arguments]
            child = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
            try:
                yield child
            finally:
                child.kill()
                child.wait()

    def end(self, child: "subprocess.Popen[bytes]") -> int:
        """SIGTERM and the exit code."""
        child.send_signal(signal.SIGTERM)
        return child.wait(30)


class Topic:
    """A topic, and the subject of its values. `send` takes what CLICK has, or bytes for what is no click."""

    def __init__(
        self, cluster: Cluster, name: str, partitions: int = 2, schema: Mapping[str, Any] = CLICK, *, subject: str | None = None
    ) -> None:
        self.cluster, self.name = cluster, name
        self.admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        self.admin.create_topics([NewTopic(name, partitions, 1)])[name].result(10)
        self.parsed = fastavro.parse_schema(dict(schema))
        self.schema_id: int = asked(lambda: Registry(cluster.registry_url).register(subject or f"{name}-value", json.dumps(schema)))
        self.producer = Producer({"bootstrap.servers": cluster.bootstrap, "linger.ms": 5})

    def encoded(self, event: Mapping[str, Any]) -> bytes:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self.parsed, dict(event))
        return b"\0" + self.schema_id.to_bytes(4, "big") + body.getvalue()

    def send(self, messages: Sequence[Mapping[str, Any] | bytes | None], partition: int = 0, stamp_ms: int = 0) -> None:
        for message in messages:
            value = self.encoded(message) if isinstance(message, Mapping) else message
            self.producer.produce(self.name, value, b"key", partition, timestamp=stamp_ms)
        assert self.producer.flush(10) == 0


def click(time_ms: int, amount: int = 1, shop: str = "a") -> dict[str, Any]:
    return {"event_time": time_ms, "shop": shop, "amount": amount}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Kept:
    """A record of a topic: its headers as text, its value decoded where it is Avro of the subject's own schema."""

    key: bytes | None
    value: Any
    headers: dict[str, str]
    stamp_ms: int  # when it was produced


def records(cluster: Cluster, topic: str) -> list[Kept]:
    """Everything in a topic, read_committed; nothing when there is no such topic yet."""
    settings = {"bootstrap.servers": cluster.bootstrap, "group.id": "test", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({**settings, "isolation.level": "read_committed"})
    try:
        found = consumer.list_topics(timeout=10).topics.get(topic)
        if found is None:
            return []
        left = set(found.partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        kept = []
        while left:
            message = consumer.poll(10)
            assert message is not None, f"{topic}: no end within 10 s"
            if message.error():
                left.discard(message.partition() or 0)
                continue
            kept.append(Kept(message.key(), message.value(), _texts(message.headers() or []), message.timestamp()[1]))
        if (
            asked(lambda: Registry(cluster.registry_url).latest(f"{topic}-value")) is None
        ):  # after the rows: a topic is there before its schema
            return kept
        schemas = {id_: _schema(cluster.registry_url, int.from_bytes(id_, "big")) for id_ in {each.value[1:5] for each in kept}}
        return [replace(each, value=_decoded(each.value, schemas)) for each in kept]
    finally:
        consumer.close()


def _decoded(value: bytes, schemas: Mapping[bytes, Any]) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas[value[1:5]], None)


@cache  # an id never means another schema
def _schema(registry_url: str, schema_id: int) -> Any:
    """A row is read with the schema it was written in: a KPI topic may have several."""
    return fastavro.parse_schema(json.loads(asked(lambda: Registry(registry_url).schema(schema_id).text)))


def asked(question: Callable[[], Any], limit_s: float = 60.0) -> Any:
    """The registry's answer. A real one lets a request in some thousand go unanswered (measured: 1 of 6,000), so everybody asks again."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            return question()
        except Away:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _texts(headers: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in headers if value is not None}


def finals(cluster: Cluster, topic: str) -> list[dict[str, Any]]:
    return [record.value for record in records(cluster, topic) if record.value["final"]]


def until(what: Callable[[], Any], limit_s: float, alive: "subprocess.Popen[bytes] | None" = None) -> Any:
    """The first true answer; a failure when there is none in time, or the process has died."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        assert alive is None or alive.poll() is None, "the process has ended"
        time.sleep(0.2)
    raise AssertionError(f"not within {limit_s} s: {what()!r}")


class Gate:
    """A TCP port that leads to a server while it is open, and refuses connections while it is not."""

    def __init__(self, url: str) -> None:
        self.to = urlsplit(url)
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.server: socketserver.ThreadingTCPServer | None = None
        self.connected: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.to.path}"

    def open(self) -> None:
        target = (self.to.hostname, self.to.port)
        connected = self.connected = list[socket.socket]()

        class Through(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                connected.append(self.request)
                with socket.create_connection(target) as beyond:
                    back = threading.Thread(target=_pump, args=(beyond, self.request), daemon=True)
                    back.start()
                    _pump(self.request, beyond)
                    back.join(5)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server = Server(("127.0.0.1", self.port), Through)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        for client in self.connected:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


def _pump(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while chunk := one.recv(65_536):
            other.sendall(chunk)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)
