"""The whole cluster at work, as `make up APPS=1` leaves it. The tests build on each other's cluster, and the last one breaks it."""

import itertools
import json
import re
import threading
import time
from collections import Counter
from functools import partial

import pytest
import yaml
from bokeh.client import pull_session
from bokeh.models import ColumnDataSource
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from infra.cluster.compose import INFRA, docker
from infra.cluster.up import up
from infra.grafana.boards import BOARDS
from tests.cluster.live import BOOTSTRAP, REGISTRY, Live, admin, ask, firing, get, number, post, within

RULES = [rule for group in yaml.safe_load((INFRA / "images/prometheus/rules.yml").read_text())["groups"] for rule in group["rules"]]
COLD_S, WARM_S, MEMORY_GIB = 240, 60, 2.5
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("live")]


def test_it_is_healthy_within_4_minutes_and_says_where_everything_is(live: Live) -> None:
    assert live.seconds < COLD_S
    services = {"zookeeper", "kafka1", "kafka2", "kafka3", "registry", "monitor", "burrow", "prometheus", "simulator", "flow", "dashboard"}
    status = live.status()
    assert {service for service, said in status.items() if "(healthy)" in said} >= services
    left_out = {line.split()[2].strip(",") for line in live.said if line.startswith("left out: ")}
    assert left_out | set(status) >= {"grafana", "zoonavigator", "cmak"}
    table = live.said[-1] if "infra/.env" not in live.said[-1] else live.said[-2]
    assert all(re.search(rf"^    {service} ", table, re.MULTILINE) for service in services)


def test_every_target_of_prometheus_is_up() -> None:
    def down() -> dict[str, str]:
        targets = get("http://127.0.0.1:9090/api/v1/targets")["data"]["activeTargets"]
        return {target["scrapeUrl"]: target["lastError"] for target in targets if target["health"] != "up"}

    jobs = {"prometheus", "zookeeper", "kafka", "registry", "monitor", "flow", "dashboard"}
    within(60, lambda: not down() and {sample["metric"]["job"] for sample in ask("up == 1")} == jobs)
    within(30, lambda: number("sum(up)") == 9)


def test_events_become_kpis_and_kpis_become_charts() -> None:
    def rows() -> float:
        topics = [name for name in admin().list_topics(timeout=10).topics if re.fullmatch(r"kpi\.shop\.orders\.\w+", name)]
        consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "test"})
        try:
            return sum(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1] for topic in topics)
        except KafkaException:  # a topic that is being made just now has a name, and no partition yet
            return 0
        finally:
            consumer.close()

    within(120, rows)

    def points() -> int:
        with pull_session(url="http://127.0.0.1:5006/dashboard") as session:
            sources = [model for model in session.document.models if isinstance(model, ColumnDataSource)]
            return sum(len(next(iter(source.data.values()), ())) for source in sources)

    assert within(60, points) > 0
    within(120, lambda: number("min(kpi:windows_without_final{window='10s'}) < 10"))


def test_every_query_of_a_dashboard_has_samples() -> None:
    queries = [panel.query.replace("$topic", ".+") for board in BOARDS for panel in board.panels]
    assert len(queries) > 60
    within(150, lambda: not [query for query in queries if not ask(query)])
    assert not ask(queries[0].replace("brokers", "brookers")), "a wrong name answers with success and nothing"


def test_every_rule_has_samples_and_no_alert_fires() -> None:
    numbers = [rule["record"] for rule in RULES if "record" in rule]
    compared = [re.fullmatch(r"([\w:]+) (?:[<>]|!=) [\d.]+", rule["expr"]) for rule in RULES if "alert" in rule]
    assert {found[1] if found else None for found in compared} <= set(numbers), "an alert compares a recorded number"
    within(60, lambda: not [name for name in numbers if not ask(name)])
    within(240, lambda: not firing())


def test_what_is_built_here_fits_into_2_5_gib_together(live: Live) -> None:
    units = {"B": 0, "KiB": 10, "MiB": 20, "GiB": 30}
    built = {service.name for service in live.compose.services() if service.dockerfile}
    names = [container.name for container in live.compose.containers() if container.service in built]
    said = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *names).stdout
    used = [float(number) * 2 ** units[unit] for number, unit in re.findall(r"^([\d.]+)(\w+) /", said, re.MULTILINE)]
    assert len(used) >= 11
    assert all(used)
    assert sum(used) < MEMORY_GIB * 2**30


def leaders() -> list[int]:
    """Who leads the partitions of the monitor's topic."""
    return sorted(partition.leader for partition in admin().list_topics("_monitor", timeout=10).topics["_monitor"].partitions.values())


def test_the_monitor_has_a_partition_on_every_broker_and_loses_nothing() -> None:
    assert leaders() == [1, 2, 3]
    assert number("sum(kmf_records_consumed_total) > 0")
    assert number("sum(kmf_records_lost_total)") == 0
    assert number("sum(kmf_records_duplicated_total)") == 0


def schema(*fields: str, kind: str = "long") -> dict[str, str]:
    return {"schema": json.dumps({"type": "record", "name": "T", "fields": [{"name": name, "type": kind} for name in fields]})}


def test_an_incompatible_schema_is_refused() -> None:
    assert post(f"{REGISTRY}/subjects/cluster.test-value/versions", schema("a", "b"))[0] == 200
    assert post(f"{REGISTRY}/subjects/cluster.test-value/versions", schema("a"))[0] == 200, "backward compatible: a field less"
    assert post(f"{REGISTRY}/subjects/cluster.test-value/versions", schema("a", kind="string"))[0] == 409


def test_schemas_ids_and_data_survive_and_settings_are_in_force(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def known() -> dict[str, int]:
        subjects = get(f"{REGISTRY}/subjects")
        return {subject: get(f"{REGISTRY}/subjects/{subject}/versions/latest")["id"] for subject in subjects}

    before = known()
    assert len(before) >= 7
    assert live.compose.run("down") == 0
    monkeypatch.setenv("KAFKA_LOG_RETENTION_HOURS", "24")
    monkeypatch.setenv("KAFKA_MESSAGE_MAX_BYTES", "2000000")
    monkeypatch.setenv("ZOO_TICK_TIME", "1500")
    monkeypatch.setenv("MONITOR_LATE_S", "3")
    began = time.monotonic()
    up(live.compose, print, ["apps"])
    assert time.monotonic() - began < WARM_S
    after = known()
    assert {subject: after.get(subject) for subject in before} == before
    broker, client = ConfigResource(ResourceType.BROKER, "1"), admin()
    settings = client.describe_configs([broker])[broker].result()
    assert settings["log.retention.hours"].value == "24"
    assert settings["message.max.bytes"].value == "2000000"
    assert get("http://127.0.0.1:8085/commands/configuration")["tick_time"] == 1500
    assert "MONITOR_LATE_S=3" in live.environment("monitor")


class Writer(threading.Thread):
    """Writes numbers to a topic until it is told to stop; `acknowledged` are those that Kafka has."""

    def __init__(self, topic: str) -> None:
        super().__init__(daemon=True)
        self.topic, self.over = topic, threading.Event()
        self.acknowledged, self.failed = set[int](), list[str]()

    def run(self) -> None:
        producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True, "linger.ms": 5, "log_level": 0})
        for value in itertools.count():
            if self.over.wait(0.002):
                break
            producer.produce(self.topic, str(value), on_delivery=partial(self.told, value))
            producer.poll(0)
        producer.flush(60)

    def told(self, value: int, error: object, _message: object) -> None:
        self.failed.append(str(error)) if error else self.acknowledged.add(value)


def everything(topic: str) -> Counter[int]:
    """Every number in the topic, and how often."""
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "test", "enable.partition.eof": True, "auto.offset.reset": "earliest"})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    found, left = Counter[int](), len(partitions)
    while left:
        for message in consumer.consume(1000, 1.0):
            if message.error():
                left -= 1
            else:
                found[int(message.value() or b"")] += 1
    consumer.close()
    return found


def test_a_broker_that_is_killed_loses_nothing_and_is_seen(live: Live) -> None:
    topic, client = f"cluster.numbers.{time.time_ns()}", admin()
    client.create_topics([NewTopic(topic, 6, 3)])[topic].result()
    within(30, lambda: len(client.list_topics(topic, timeout=10).topics[topic].partitions) == 6)
    writer = Writer(topic)
    writer.start()
    time.sleep(3)
    live.docker("kill", "kafka2")
    within(60, lambda: (number("min(kmf_consume_availability_avg)") or 1) < 0.97)
    within(90, lambda: firing() >= {"KafkaBrokerDown", "KafkaUnderReplicated"})
    live.docker("start", "kafka2")
    within(180, lambda: not firing() & {"KafkaBrokerDown", "KafkaUnderReplicated"})
    writer.over.set()
    writer.join(90)
    found = everything(topic)
    assert writer.failed == []
    assert len(writer.acknowledged) > 1000
    assert set(found) >= writer.acknowledged, "0 lost"
    assert max(found.values()) == 1, "0 doubled"
    assert number("sum(kmf_records_lost_total)") == 0
    within(60, lambda: leaders() == [1, 2, 3])


def configure(topic: str, settings: dict[str, str]) -> None:
    client, resource = admin(), ConfigResource(ResourceType.TOPIC, topic)
    for name, value in settings.items():
        resource.add_incremental_config(ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET))
    client.incremental_alter_configs([resource])[resource].result()


def test_an_unclean_truncation_is_counted_as_loss(live: Live) -> None:
    """Broker 1 alone has the monitor's latest records and dies; brokers that were behind go on without them."""
    configure("_monitor", {"unclean.leader.election.enable": "true", "min.insync.replicas": "1"})
    live.docker("stop", "kafka2", "kafka3")
    before = number("sum(kmf_records_produced_total)") or 0
    within(60, lambda: (number("sum(kmf_records_produced_total)") or 0) > before + 30)
    live.docker("kill", "kafka1")
    live.docker("start", "kafka2", "kafka3")
    within(180, lambda: (number("sum(kmf_records_lost_total)") or 0) > 0)
    assert "MonitorLoss" in within(60, lambda: firing() & {"MonitorLoss"})
    live.docker("start", "kafka1")
    within(180, lambda: number("kafka:brokers_up == 3"))
    configure("_monitor", {"unclean.leader.election.enable": "false", "min.insync.replicas": "2"})
    live.docker("restart", "monitor")  # its counters begin anew, for who keeps this cluster
