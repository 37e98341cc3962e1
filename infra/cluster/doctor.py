"""`make doctor`: from this machine to the charts, hop by hop, until one is broken. In: the environment. Out: lines.

host ──► listener ──► broker ──► registry ──► topic ──► flow ──► KPI topic ──► dashboard
"""

import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from flows.connection import BOOTSTRAP, connection
from flows.errors import ConfigError
from flows.registry import Away, Registry
from infra.cluster.errors import ClusterError
from infra.cluster.images import Say
from infra.cluster.machine import check_daemon

DASHBOARD = "http://127.0.0.1:5006/dashboard"
PATIENCE_S = 15.0
OURS = ("_", "kpi.")


class Broken(Exception):  # noqa: N818 - what is said is said of a hop
    """A hop does not work; the text says what was seen."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of the way: `look` says what it sees or raises Broken, `fix` is the way on."""

    name: str
    look: Callable[[], str]
    fix: str


class Way:
    """The hops to the cluster that the environment names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        where = connection(environ)
        self._servers = str(where.settings["bootstrap.servers"])
        self._registry = where.registry()
        self._kafka = Consumer({**where.librdkafka(), "group.id": "doctor", "log_level": 0})

    def hops(self) -> Iterator[Hop]:
        """In the order in which an event takes them."""
        if self._servers == BOOTSTRAP:  # a Kafka of your own needs no Docker
            yield Hop("host", self._host, "install Docker, start its daemon")
        yield Hop("listener", self._listener, "make up; or is KAFKA_BOOTSTRAP_SERVERS right?")
        yield Hop("broker", self._broker, "make ps; make logs SERVICE=kafka1")
        yield Hop("registry", self._schemas, "make logs SERVICE=registry; or is SCHEMA_REGISTRY_URL right?")
        yield Hop("topic", self._topic, "make up APPS=1 writes simulated events; your own producers do as well")
        yield Hop("flow", self._flow, "make up APPS=1, or make flow; then make logs SERVICE=flow")
        yield Hop("KPI topic", self._kpis, "windows close once later events come: is the watermark behind? http://127.0.0.1:9090/alerts")
        yield Hop("dashboard", self._charts, "make up APPS=1; make logs SERVICE=dashboard")

    def _host(self) -> str:
        try:
            check_daemon()
        except ClusterError as error:
            raise Broken(str(error)) from None
        return "Docker answers"

    def _listener(self) -> str:
        for server in self._servers.split(","):
            host, _, port = server.strip().rpartition(":")
            try:
                socket.create_connection((host, int(port)), 3).close()
            except OSError as error:
                raise Broken(f"{server} accepts no connection ({error})") from None
        return f"{self._servers} accepts connections"

    def _broker(self) -> str:
        try:
            brokers = self._kafka.list_topics(timeout=PATIENCE_S).brokers.values()
        except KafkaException as error:
            raise Broken(f"does not speak Kafka ({error.args[0].str()})") from None
        for broker in brokers:
            try:
                socket.create_connection((broker.host, broker.port), 3).close()
            except OSError:
                raise Broken(f"broker {broker.id} is announced at {broker.host}:{broker.port}, which does not answer") from None
        return f"{len(brokers)} brokers answer where they say they are"

    def _schemas(self) -> str:
        try:
            Registry(*self._registry).latest("doctor")
        except Away as error:
            raise Broken(str(error)) from None
        return f"{self._registry[0]} answers"

    def _topic(self) -> str:
        full = [name for name in self._topics() if not name.startswith(OURS) and self._end(name)]
        if not full:
            raise Broken("no topic of events has a message")
        return f"{', '.join(sorted(full))}"

    def _flow(self) -> str:
        if "kpi.progress" not in self._topics():
            raise Broken("no flow has ever written here: kpi.progress is not there")
        before, end_s = self._end("kpi.progress"), time.monotonic() + PATIENCE_S
        while self._end("kpi.progress") == before:
            if time.monotonic() > end_s:
                raise Broken(f"the flow has written nothing for {PATIENCE_S:.0f} s")
            time.sleep(0.5)
        return "it writes"

    def _kpis(self) -> str:
        rows = {name: self._end(name) for name in self._topics() if name.startswith("kpi.") and name.count(".") > 1}
        if not any(rows.values()):
            raise Broken("no KPI topic has a row")
        return f"{sum(rows.values()):,} rows in {len(rows)} topics"

    def _charts(self) -> str:
        try:
            urllib.request.urlopen(DASHBOARD, timeout=PATIENCE_S).close()
        except OSError as error:
            raise Broken(f"{DASHBOARD} does not answer ({error})") from None
        return DASHBOARD

    def _topics(self) -> dict[str, list[int]]:
        return {name: list(topic.partitions) for name, topic in self._kafka.list_topics(timeout=PATIENCE_S).topics.items()}

    def _end(self, topic: str) -> int:
        return sum(
            self._kafka.get_watermark_offsets(TopicPartition(topic, number), timeout=PATIENCE_S)[1] for number in self._topics()[topic]
        )


def doctor(environ: Mapping[str, str], say: Say) -> bool:
    """Whether every hop works; the first that does not is named, with its fix."""
    try:
        hops = list(Way(environ).hops())
    except ConfigError as error:
        say(f"broken  settings   {error}")
        return False
    for hop in hops:
        try:
            say(f"ok      {hop.name:9}  {hop.look()}")
        except (Broken, KafkaException) as error:
            say(f"broken  {hop.name:9}  {error}\n        fix: {hop.fix}")
            return False
    return True
