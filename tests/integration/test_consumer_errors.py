"""What can go wrong with a topic that is read, on a real broker: it is said and counted, and the other topics go on."""

import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from flows.connection import connection
from flows.raw import raw_consumer
from flows.reader import RETRY_REFUSED_S
from flows.services import DISCOVER_S
from infra import embedded
from infra.embedded import Cluster
from infra.embedded.child import free_port
from tests.integration.running import T0_MS, Flow, Topic, click, finals, until

pytestmark = pytest.mark.timeout(600)  # several starts each, on a machine that others use too


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with access rules: all is allowed where no rule stands. And, as most do, it creates topics that clients ask for."""
    rules = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "auto.create.topics.enable": "true",
    }
    with embedded.cluster(home=tmp_path_factory.mktemp("guarded"), more=rules) as started:
        yield started


def test_offsets_that_expired_are_a_counted_gap_and_reading_goes_on_from_the_earliest(cluster: Cluster, tmp_path: Path) -> None:
    topic = Topic(cluster, "gap.clicks", partitions=1)
    flow = Flow(cluster, tmp_path, "gap.", '[topics."gap.clicks".kpis]\nn = { count = "*" }\n')

    def counted() -> Counter[int]:
        return Counter(
            {int(row["window_start"].timestamp() * 1000 - T0_MS) // 1000: row["n"] for row in finals(cluster, "kpi.gap.clicks.1s")}
        )

    def send(*seconds: int) -> None:
        for second in seconds:
            topic.send([click(T0_MS + 1_000 * second)] * 10)

    send(0, 1, 2, 3)
    with flow.running() as child:
        until(lambda: counted() == {0: 10, 1: 10}, 120, child)
        assert flow.end(child) == 0
    send(4, 5, 6)
    topic.admin.delete_records([TopicPartition("gap.clicks", 0, 65)])[TopicPartition("gap.clicks", 0, 65)].result(10)
    send(7, 8, 9)
    port = free_port()
    flow.environ = {"KPI_METRICS_PORT": str(port)}
    with flow.running() as child:
        until(lambda: counted() == {0: 10, 1: 10, 2: 10, 3: 10, 6: 5, 7: 10}, 120, child)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            assert 'kpi_gap_messages_total{partition="0",topic="gap.clicks"} 25.0' in page.read().decode()
        assert flow.end(child) == 0
    assert "gap.clicks[0]: offset 40 is not there any more, going on from 65" in flow.log


def test_a_topic_that_may_not_be_read_is_told_and_tried_again_and_the_others_go_on(guarded: Cluster, tmp_path: Path) -> None:
    closed, opened = Topic(guarded, "acl.closed", partitions=2), Topic(guarded, "acl.opened", partitions=2)
    rules = [
        AclBinding(ResourceType.TOPIC, "acl.closed", ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, permission)
        for operation, permission in (
            (AclOperation.READ, AclPermissionType.DENY),
            (AclOperation.WRITE, AclPermissionType.ALLOW),
            (AclOperation.DESCRIBE, AclPermissionType.ALLOW),
        )
    ]
    for future in opened.admin.create_acls(rules).values():
        future.result(10)
    flow = Flow(guarded, tmp_path, "acl.")
    with flow.running() as child:
        for second in (0, 1, 5):
            for topic in (closed, opened):
                for partition in (0, 1):
                    topic.send([click(T0_MS + 1_000 * second)] * 10, partition)
        until(lambda: len(finals(guarded, "kpi.acl.opened.1s")) == 2, 120, child)
        until(lambda: "acl.closed is not read: not authorised; allow Read and Describe on it" in flow.log, 120, child)
        opened.send([click(T0_MS + 20_000)], 0)
        opened.send([click(T0_MS + 20_000)], 1)
        until(lambda: len(finals(guarded, "kpi.acl.opened.1s")) == 3, 120, child)
        time.sleep(RETRY_REFUSED_S + DISCOVER_S)  # tried again, and refused again
        assert finals(guarded, "kpi.acl.closed.1s") == []
        (denied,) = (rule for rule in rules if rule.permission_type == AclPermissionType.DENY)
        opened.admin.delete_acls([_filter(denied)])[_filter(denied)].result(10)
        opened.admin.create_acls([_read(denied)])[_read(denied)].result(10)
        until(lambda: len(finals(guarded, "kpi.acl.closed.1s")) == 2, 120, child)
        until(lambda: "acl.closed: reading goes on" in flow.log, 30, child)  # said with the next look at the topics
        assert flow.end(child) == 0
    assert flow.log.count("acl.closed is not read: not authorised") == 1
    assert flow.log.count("acl.closed: reading goes on") == 1


def _filter(rule: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        rule.restype, rule.name, rule.resource_pattern_type, rule.principal, rule.host, rule.operation, rule.permission_type
    )


def _read(rule: AclBinding) -> AclBinding:
    return AclBinding(
        rule.restype, rule.name, rule.resource_pattern_type, rule.principal, rule.host, AclOperation.READ, AclPermissionType.ALLOW
    )


def test_a_topic_that_is_deleted_is_told_and_the_others_go_on(cluster: Cluster, tmp_path: Path) -> None:
    gone, stays = Topic(cluster, "del.gone", partitions=2), Topic(cluster, "del.stays", partitions=1)
    flow = Flow(cluster, tmp_path, "del.")
    with flow.running() as child:
        for topic in (gone, stays):
            topic.send([click(T0_MS), click(T0_MS + 10_000)])
        until(lambda: len(finals(cluster, "kpi.del.stays.1s")) == 1, 120, child)
        gone.admin.delete_topics(["del.gone"])["del.gone"].result(10)
        until(lambda: "del.gone is gone or was created again" in flow.log, 120, child)
        stays.send([click(T0_MS + 20_000)])
        until(lambda: len(finals(cluster, "kpi.del.stays.1s")) == 2, 120, child)
        assert flow.end(child) == 0
    with flow.running() as child:  # and a start without it goes on too
        stays.send([click(T0_MS + 30_000)])
        until(lambda: len(finals(cluster, "kpi.del.stays.1s")) == 3, 120, child)
        assert flow.end(child) == 0
    assert "Traceback" not in flow.log


def test_to_read_a_topic_that_is_gone_does_not_bring_it_back(guarded: Cluster) -> None:
    """Brokers may create what somebody asks for; most do."""
    consumer = raw_consumer(connection(guarded.environ).kafka_python())
    try:
        consumer.assign([kafka.TopicPartition("acl.nobodys", 0)])
        consumer.seek(kafka.TopicPartition("acl.nobodys", 0), 0)
        for _ in range(20):
            consumer.poll(timeout_ms=100)
    finally:
        consumer.close(autocommit=False)
    assert "acl.nobodys" not in AdminClient({"bootstrap.servers": guarded.bootstrap}).list_topics(timeout=10).topics
