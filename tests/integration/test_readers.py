"""What the readers of a flow remember of a topic, on a real broker: over a restart, and when the topic is away for a while."""

import json
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewPartitions

from flows import topics
from flows.connection import connection
from flows.declaration import READERS, parse
from flows.errors import ConfigError
from flows.intake import Position
from flows.outputs import Planner
from flows.reader import Duty, Emission, _Reader
from flows.registry import Registry
from flows.services import Services
from flows.slices import Events
from flows.source import KafkaSource, Reader
from infra.embedded import Cluster
from tests.batches import confluent
from tests.integration.running import CLICK, T0_MS, Topic, asked, click, now_ms, until


@dataclass
class Life:
    """The readers of one life of a flow, and the events that they passed on: (plan's version, event time)."""

    readers: list[Reader]
    planner: Planner
    seen: list[tuple[tuple[int, ...], int]] = field(default_factory=list)

    def pop(self) -> list[int]:
        """The event times so far."""
        for reader in self.readers:
            for item in reader.next_batch():
                if isinstance(item, Events) and item.frame is not None:
                    self.seen += [(item.plan.version, time_ms) for time_ms in item.frame["time"]]
        return sorted(time_ms for _, time_ms in self.seen)

    def state(self) -> list[Any]:
        return [reader.snapshot() for reader in self.readers]

    def know(self, topic: str, partitions: int) -> bool:
        """Whether all readers remember the topic with so many partitions."""
        self.pop()
        return all(state["topics"].get(topic, {}).get("partitions") == partitions for state in self.state())

    def position(self, topic: str, partition: int) -> Position:
        """Where a partition stands, as it would go on after a restart."""
        self.pop()
        known = [state["topics"].get(topic, {"positions": {}})["positions"] for state in self.state()]
        return next((Position(*positions[partition]) for positions in known if partition in positions), Position(0))


@contextmanager
def life(
    cluster: Cluster, topic: str, said: str = "", states: list[Any] | None = None, chosen: Callable[[str], bool] | None = None
) -> Iterator[Life]:
    where = connection(cluster.environ)
    admin, registry = topics.administrator(where.librdkafka()), Registry(*where.registry())
    planner = Planner(parse(f'[topics."{topic}"]\nlateness = "1s"\n{said}'), registry, admin, 2)
    services = Services(where.kafka_python(), admin, registry, planner, chosen or (lambda name: name == topic))
    source = KafkaSource(services, 2, durable=True, declared="test", stopping=threading.Event())
    with ExitStack() as ending:
        readers = []
        for name, state in zip(source.list_parts(), states or [None] * READERS, strict=True):
            readers.append(source.build_part("source", name, state))
            ending.callback(readers[-1].close)
        yield Life(readers, planner)


def test_a_partition_that_is_added_while_the_flow_is_down_is_read_from_its_beginning_and_joins(cluster: Cluster) -> None:
    """Whichever reader it falls to, also one that had no partition of the topic before."""
    topic = Topic(cluster, "readers.grown", partitions=1)
    with life(cluster, topic.name, 'start = "latest"') as first:
        until(lambda: first.know(topic.name, 1), 60)
        states = first.state()
    topic.admin.create_partitions([NewPartitions(topic.name, 4)])[topic.name].result(10)
    topic.producer = Producer({"bootstrap.servers": cluster.bootstrap})  # the old one does not know the partitions yet
    until(lambda: len(topic.producer.list_topics(topic.name, 10).topics[topic.name].partitions) == 4, 30)
    for partition in range(4):
        topic.send([click(T0_MS)], partition)
    with life(cluster, topic.name, 'start = "latest"', states) as second:

        def books() -> dict[int, dict[str, int]]:
            second.pop()
            return {
                p: at[4] for state in second.state() for p, at in state["topics"].get(topic.name, {"positions": {}})["positions"].items()
            }

        until(lambda: sum(sum(fates.values()) for fates in books().values()) >= 4, 60)
        assert books() == {0: {"folded": 1}, 1: {"late": 1}, 2: {"late": 1}, 3: {"late": 1}}


def test_a_topic_that_is_away_for_a_while_and_is_the_same_goes_on_where_it_was(cluster: Cluster) -> None:
    """As when a right is taken away and given back: nothing is read twice, and nothing is missing."""
    topic, there = Topic(cluster, "readers.away", partitions=2), threading.Event()
    there.set()
    topic.send([click(T0_MS)], 0)
    topic.send([click(T0_MS + 1)], 1)
    with life(cluster, topic.name, chosen=lambda name: there.is_set() and name == topic.name) as one:
        until(lambda: one.pop() == [T0_MS, T0_MS + 1], 60)
        there.clear()
        services = one.readers[0].source.services
        until(lambda: not services.topics(), 30)
        until(lambda: topic.name not in services.reached_ms, 30)
        topic.send([click(T0_MS + 2)], 0)
        there.set()
        topic.send([click(T0_MS + 3)], 1)
        until(lambda: len(one.pop()) >= 4, 60)
        assert one.pop() == [T0_MS, T0_MS + 1, T0_MS + 2, T0_MS + 3]


def test_the_versions_that_a_topic_was_read_with_are_those_of_its_first_plan_after_a_restart(cluster: Cluster) -> None:
    """Else fields and the choice of event time would be others than before."""
    older = {**CLICK, "name": "Weighed", "fields": [*CLICK["fields"], {"name": "weight", "type": ["null", "double"], "default": None}]}
    topic, newer = Topic(cluster, "readers.versions", partitions=1, schema=older), {**CLICK, "name": "Weighed"}
    versions = (topic.schema_id, Registry(cluster.registry_url).register(f"{topic.name}-value", json.dumps(newer)))
    topic.send([{**click(T0_MS), "weight": 1.5}])
    with life(cluster, topic.name) as first:
        until(lambda: first.pop() and first.know(topic.name, 1), 60)
        states = first.state()
    topic.parsed, topic.schema_id = fastavro.parse_schema(newer), versions[1]
    topic.send([click(T0_MS + 1)])
    with life(cluster, topic.name, states=states) as second:
        until(second.pop, 60)
        assert second.seen == [(tuple(sorted(versions)), T0_MS + 1)]


def test_what_waits_in_a_paused_partition_is_not_late_by_a_promise_of_its_own(cluster: Cluster) -> None:
    """A quiet partition runs ahead of the others by its promises, and is paused: it must not promise for what it cannot see then."""
    #  partition 0     quiet: promises, is paused ····· a message of now waits ········ is read: folded
    #  partition 1     a year behind, and busy ········································ comes to now
    topic = Topic(cluster, "readers.paused", partitions=2)
    with life(cluster, topic.name, 'windows = ["1s"]\nidle = "3s"') as one:
        steps = count()

        def busy_until(what: Callable[[], Any]) -> None:
            def goes_on() -> Any:
                topic.send([click(T0_MS + 1_000 * next(steps))], 1)
                return what()

            until(goes_on, 60)

        def busy_for(stretch_ms: int) -> None:
            end_ms = now_ms() + stretch_ms
            busy_until(lambda: now_ms() > end_ms)

        busy_until(lambda: one.position(topic.name, 0).idle_ms > 0 and one.position(topic.name, 1).seen_ms > 0)
        busy_for(1_000)  # what comes at once may be read before it is paused
        topic.send([click(now_ms())], 0)
        busy_for(5_000)
        assert one.position(topic.name, 0).fates == {}, "it is paused"
        topic.send([click(now_ms())], 1)
        until(lambda: one.position(topic.name, 0).fates, 60)
        assert one.position(topic.name, 0).fates == {"folded": 1}


def test_a_topic_that_is_created_again_between_two_looks_is_read_once(cluster: Cluster) -> None:
    """Kafka is asked for topics every 5 s; until then a consumer would go on in the new topic where it was in the old one."""
    topic = Topic(cluster, "readers.again", partitions=1)
    topic.send([click(T0_MS)])
    with life(cluster, topic.name) as one:
        until(lambda: one.pop() == [T0_MS], 60)
        services = one.readers[0].source.services
        with services.lock:
            services.found_s = time.monotonic() + 3_600  # nobody looks
        topic.admin.delete_topics([topic.name])[topic.name].result(10)
        until(lambda: topic.name not in topic.admin.list_topics(timeout=10).topics, 60)
        Topic(cluster, topic.name, partitions=1).send([click(T0_MS + n) for n in (1, 2, 3)])
        time.sleep(6)
        one.pop()
        services.found_s = 0.0
        until(lambda: {T0_MS + n for n in range(4)} <= set(one.pop()), 60)
        time.sleep(2)
        assert one.pop() == [T0_MS + n for n in range(4)]


def test_an_event_time_that_changes_with_a_version_is_said(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """Two versions, of which the newest is met first."""
    fields: Any = CLICK["fields"]
    event_time, *others = fields
    at = {**event_time, "name": "at"}
    older = {**CLICK, "name": "Timed", "fields": [at, *others]}
    newer = {**older, "fields": [at, {**event_time, "default": 0}, *others]}
    topic = Topic(cluster, "readers.times", partitions=1, schema=older)
    old_id, topic.parsed = topic.schema_id, fastavro.parse_schema(newer)
    topic.schema_id = asked(lambda: Registry(cluster.registry_url).register(f"{topic.name}-value", json.dumps(newer)))
    event = {**click(T0_MS + 1), "at": T0_MS + 2}
    topic.send([event])
    with life(cluster, topic.name) as one:
        until(lambda: one.pop() == [T0_MS + 1], 60)
        topic.parsed, topic.schema_id = fastavro.parse_schema(older), old_id
        topic.send([event])
        until(lambda: one.pop() == [T0_MS + 1, T0_MS + 2], 60)
    assert f"{topic.name}: event time is at from now on, and was event_time: declare `time`" in caplog.text


@pytest.mark.parametrize("subject_of", ["{topic}-value", "{topic}-{record}", "{record}"])
def test_record_types_of_one_topic_are_read_whatever_their_subjects_are_called(cluster: Cluster, subject_of: str) -> None:
    """By topic, by topic and record, by record: messages carry ids, and KPIs may be of a type that comes later."""
    name = f"readers.strategies.{len(subject_of)}"
    types: dict[str, dict[str, Any]] = {
        of: {**CLICK, "name": f"Click{len(subject_of)}{of}", "namespace": "strategies"} for of in ("First", "Later")
    }
    types["Later"]["fields"] = [*CLICK["fields"], {"name": "refund", "type": "long", "default": 0}]
    topic = Topic(cluster, name, 1, types["First"], subject=subject_of.format(topic=name, record=f"strategies.{types['First']['name']}"))
    later = subject_of.format(topic=name, record=f"strategies.{types['Later']['name']}")
    if "{record}" not in subject_of:
        types["Later"]["name"] = types["First"]["name"]  # one subject has versions of one record
    id_ = asked(lambda: Registry(cluster.registry_url).register(later, json.dumps(types["Later"])))
    refund = confluent(id_, fastavro.parse_schema(types["Later"]), {**click(T0_MS + 2), "refund": 5})
    topic.send([click(T0_MS), click(T0_MS + 1), refund])
    with life(cluster, name, 'kpis.back = { sum = "refund" }') as one:
        until(lambda: one.pop() == [T0_MS, T0_MS + 1, T0_MS + 2], 60)
        assert {topic.schema_id, id_} <= set(one.planner.plan(name).version)


def test_a_topic_without_messages_that_a_pattern_does_not_fit_is_left_out_and_the_others_are_read(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    empty, topic = Topic(cluster, "readers.unfit.empty", partitions=4), Topic(cluster, "readers.fit", partitions=1)
    pattern = '[topics."/readers[.]unfit[.].*/"]\nkpis.n = { sum = "missing" }'
    with life(cluster, topic.name, pattern, chosen=lambda name: name in {empty.name, topic.name}) as one:
        until(lambda: f"{empty.name} is not read: topics.{empty.name}.kpis.n.sum: got 'missing'" in (one.pop(), caplog.text)[1], 60)
        topic.send([click(T0_MS)])
        until(lambda: one.pop() == [T0_MS], 60)


def test_the_ends_of_all_quiet_topics_are_asked_for_in_one_question(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    where, names = connection(cluster.environ), {"readers.quiet1", "readers.quiet2"}
    admin, registry = topics.administrator(where.librdkafka()), Registry(*where.registry())
    topics.ensure(admin, {name: (2, {}) for name in names})
    planner = Planner(parse('[defaults]\nidle = "1m"\nlateness = "1s"'), registry, admin, 2)
    clock, emitted, asked = [T0_MS], list[Emission](), list[set[str]]()
    services = Services(where.kafka_python(), admin, registry, planner, names.__contains__, clock_ms=lambda: clock[-1])
    reader = _Reader(Duty(0, 1, {}), services, emitted.append, lambda: False)
    ends = reader.consumer.end_offsets

    def ask(tps: list[Any], **more: int) -> object:
        asked.append({tp.topic for tp in tps})
        return ends(tps, **more)

    monkeypatch.setattr(reader.consumer, "end_offsets", ask)
    try:
        reader.turn()
        assert {emission.topic for emission in emitted} == names
        assert asked == []
        clock.append(T0_MS + 60_000)
        reader.tick_s = float("-inf")
        emitted.clear()
        reader.turn()
    finally:
        reader.consumer.close(autocommit=False)
    assert asked == [names]
    promised = {emission.topic: {position.idle_ms for position in emission.positions.values()} for emission in emitted}
    assert promised == {name: {T0_MS + 59_000} for name in names}


def test_plans_that_are_made_in_a_row_ask_for_the_list_of_topics_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    where, names, listed = connection(cluster.environ), ("readers.row1", "readers.row2"), count()
    admin, registry = topics.administrator(where.librdkafka()), Registry(*where.registry())
    schema = json.dumps(CLICK)
    for name in names:
        registry.register(f"{name}-value", schema)
        Planner(parse(""), registry, admin, 2).plan(name)  # an earlier life, which makes the KPI topics
    there = topics.names
    monkeypatch.setattr(topics, "names", lambda admin: (next(listed), there(admin))[1])
    monkeypatch.setattr(topics, "ensure", lambda *_: pytest.fail("they are there"))
    planner = Planner(parse(""), registry, admin, 2)
    assert [len(planner.plan(name).outputs) for name in names] == [3, 3]
    assert next(listed) == 1


def test_plans_are_made_ahead_and_one_that_cannot_be_made_holds_up_no_other(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    where, names, too_long = connection(cluster.environ), [f"readers.ahead{n}" for n in range(4)], "readers." + "x" * 240
    admin, registry = topics.administrator(where.librdkafka()), Registry(*where.registry())
    for name in (*names, too_long):  # whose KPI topics would have more than the 249 characters that Kafka takes
        registry.register(f"{name}-value", json.dumps(CLICK))
    planner = Planner(parse(""), registry, admin, 2)
    planner.foresee([too_long, *names])
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("plans-")]:
        thread.join(30)
    monkeypatch.setattr(registry, "register", lambda *_: pytest.fail("they are made"))
    assert [len(planner.plan(name).outputs) for name in names] == [3] * 4
    with pytest.raises(ConfigError, match=f"topic kpi.{too_long}"):
        planner.plan(too_long)


def test_where_many_new_topics_begin_is_one_question(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"readers.begin{n}" for n in range(3)]
    for name in names:
        Topic(cluster, name, partitions=2).send([click(T0_MS)], partition=1)
    where, asked = connection(cluster.environ), list[int]()
    admin, registry = topics.administrator(where.librdkafka()), Registry(*where.registry())
    declared = 'topics."readers.begin1".start = "latest"\ntopics."readers.begin2".start = "2000-01-01T00:00:00Z"'
    services = Services(where.kafka_python(), admin, registry, Planner(parse(declared), registry, admin, 2), set(names).__contains__)
    emitted: list[Emission] = []
    reader = _Reader(Duty(0, 1, {}), services, emitted.append, lambda: False)
    for way in ("beginning_offsets", "end_offsets", "offsets_for_times"):
        ask = getattr(reader.consumer, way)

        def counted(tps: Collection[Any], ask: Callable[[Any], object] = ask) -> object:
            asked.append(len(tps))
            return ask(tps)

        monkeypatch.setattr(reader.consumer, way, counted)
    try:
        reader._discover()
    finally:
        reader.consumer.close(autocommit=False)
    begins = {emission.topic: {p: position.offset for p, position in emission.positions.items()} for emission in emitted}
    assert begins == {names[0]: {0: 0, 1: 0}, names[1]: {0: 0, 1: 1}, names[2]: {0: 0, 1: 0}}
    assert asked == [2, 4, 2]
