"""Plans made ready to run. In: topics and the schema ids met in them. Out: plans whose KPI topics and schemas exist.

Here alone the flow waits for registry and cluster: a plan that has left this module needs neither again.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from confluent_kafka.admin import AdminClient

from flows import topics
from flows.declaration import Declaration, Topic
from flows.edge import PROGRESS_SETTINGS
from flows.errors import ConfigError
from flows.fields import Schema, SchemaError
from flows.plan import Output, TopicPlan, helpful, plan
from flows.records import DEAD, LATE, PROGRESS, output_topic, schemas
from flows.registry import Away, Registry

LOG = logging.getLogger(__name__)
PARTITIONS = 4  # of a KPI topic: a reader of charts is one process
LISTED_S = 5.0  # that long a list of topics is believed: at a start plans are made in a row, and each would ask for it
AT_ONCE = 8  # plans that are made ahead of their first messages


class Planner:
    """Plans by topic, shared by the readers of a process so that all of them meet a new schema together. Thread-safe."""

    def __init__(self, declaration: Declaration, registry: Registry, admin: AdminClient, sink_parts: int) -> None:
        self._declaration, self._registry, self._admin = declaration, registry, admin
        self.sink_parts = sink_parts
        self._turns: dict[str, threading.Lock] = {}  # one a topic: what hangs or is long for one delays no other
        self._listing, self._creating = threading.Lock(), threading.Lock()
        self._wanted: dict[str, tuple[int, Mapping[str, str]]] = {}  # topics that plans wait for
        self._foreseen: set[str] = set()
        self._plans: dict[str, TopicPlan] = {}
        self._met: dict[str, frozenset[int]] = {}
        self._generation = 0
        self._there: set[str] = set()  # the cluster's topics, as they were then
        self._listed_s = float("-inf")

    def begin(self, generation: int) -> None:
        """Plans are of this generation: what is declared has changed so many times. Call it before the first plan is made."""
        self._generation = generation

    def ensure_own_topics(self) -> None:
        """The topics of late records, dead letters and the sink's markers. Raises topics.Unreachable."""
        retention = {"retention.ms": str(self._declaration.defaults.retention)}
        wanted = {LATE: (PARTITIONS, retention), DEAD: (PARTITIONS, retention), PROGRESS: (self.sink_parts, PROGRESS_SETTINGS)}
        topics.ensure(self._admin, wanted)

    def declared(self, topic: str) -> Topic:
        """What is declared for a topic, whatever its schemas."""
        return self._declaration.of(topic)

    def is_named(self, topic: str) -> bool:
        """Whether the declaration has a table for this very topic: then a mistake in it stops the flow."""
        return topic in self._declaration.file.topics

    def remember(self, topic: str, ids: Iterable[int]) -> None:
        """Schema ids that an earlier life has met in a topic: its plans go on from them. Asks nobody."""
        with self._turn(topic):
            self._met[topic] = self._met.get(topic, frozenset()) | frozenset(ids)

    def foresee(self, names: Iterable[str]) -> None:
        """Begin to make the plans of topics that are new here, side by side: each waits for two answers of the registry a window, and two.

        Returns at once, and says nothing of what fails: whoever asks for the plan hears of it.
        """
        new = [name for name in names if name not in self._foreseen]
        self._foreseen.update(new)
        rest = iter(new)

        def ahead() -> None:
            for name in rest:
                try:
                    self.plan(name)
                except (ConfigError, SchemaError):
                    continue
                except (Away, topics.Unreachable):
                    self._foreseen.difference_update(new)  # those that have a plan cost nothing when they are foreseen again
                    break

        for number in range(min(AT_ONCE, len(new))):
            threading.Thread(target=ahead, name=f"plans-{number}", daemon=True).start()

    def plan(self, topic: str, new: int | None = None) -> TopicPlan:
        """The plan of a topic for every schema id it was ever asked with; before the first, that of its subject's latest version.

        Raises registry.Away and topics.Unreachable (try again; nothing was lost), ConfigError (the declaration does not fit),
        SchemaError (`new` is not usable).
        """
        made = self._plans.get(topic)
        if made is not None and topic not in self._met and (new is None or new in made.version):
            return made
        with self._turn(topic):
            made = self._plans.get(topic)
            ids = set(made.version) if made else latest(self._registry, topic)
            ids |= {id_ for id_ in self._met.get(topic, ()) if usable(self._registry, id_) is not None}
            if new is not None:
                ids.add(new)
            if made is None or ids != set(made.version):
                self._plans[topic] = self._ready(draft(self._declaration, self._registry, topic, ids)[0])
                _say(made, self._plans[topic])
            self._met.pop(topic, None)
            return self._plans[topic]

    def _turn(self, topic: str) -> threading.Lock:
        return self._turns.setdefault(topic, threading.Lock())

    def _ready(self, made: TopicPlan) -> TopicPlan:
        made = replace(made, generation=self._generation)
        if not made.version:
            return made
        settings = {"cleanup.policy": "compact,delete", "retention.ms": str(self._declaration.defaults.retention)}
        wanted = list(output_schemas(made))
        self._ensure({name: (PARTITIONS, settings) for name, _, _ in wanted})
        outputs = [
            Output(name, self._registered(f"{name}-key", key), self._registered(f"{name}-value", value)) for name, key, value in wanted
        ]
        return replace(made, outputs=tuple(outputs))

    def _ensure(self, wanted: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
        """Have the topics there: one request for those of all the plans that wait meanwhile, as a broker makes topics one by one."""
        with self._listing:
            if time.monotonic() - self._listed_s >= LISTED_S:
                self._there, self._listed_s = topics.names(self._admin), time.monotonic()
        if wanted.keys() <= self._there:
            return
        self._wanted.update(wanted)
        with self._creating:
            if wanted.keys() <= self._there:  # another plan's request had them
                return
            together, self._wanted = {**self._wanted, **wanted}, {}
            try:
                topics.ensure(self._admin, together)
            except ConfigError:  # perhaps of another plan's
                together = dict(wanted)
                topics.ensure(self._admin, together)
            self._there.update(together)

    def _registered(self, subject: str, text: str) -> int:
        try:
            return self._registry.register(subject, text)
        except SchemaError as error:
            raise ConfigError(f"schema {error}: what is registered there is of another kind, want other names of KPIs or topic") from None


def draft(declaration: Declaration, registry: Registry, topic: str, ids: AbstractSet[int]) -> tuple[TopicPlan, list[Schema]]:
    """A plan from these versions, and their schemas; where they lack a declared field, or have it in a type of no use, from all of its
    subject's; else from what other record types have (see Registry.others). Raises registry.Away, ConfigError, SchemaError.
    """
    met = [registry.schema(schema_id) for schema_id in ids]
    try:
        return plan(declaration, topic, met), met
    except ConfigError:
        more = _all(registry, registry.versions(f"{topic}-value") - ids)
        more = more or helpful(declaration, topic, met, _all(registry, registry.others(topic, met) - ids))
        if not more:
            raise
        return plan(declaration, topic, [*met, *more]), [*met, *more]


def latest(registry: Registry, topic: str) -> set[int]:
    """The id of the newest version of a topic's subject, if there is one that can be used."""
    newest = registry.latest(f"{topic}-value")
    return set() if newest is None or usable(registry, newest[0]) is None else {newest[0]}


def _all(registry: Registry, ids: AbstractSet[int]) -> list[Schema]:
    return [schema for schema_id in ids if (schema := usable(registry, schema_id)) is not None]


def usable(registry: Registry, schema_id: int) -> Schema | None:
    """The schema of an id, if messages can be read with it."""
    try:
        return registry.schema(schema_id)
    except SchemaError:
        return None


def output_schemas(made: TopicPlan) -> Iterator[tuple[str, str, str]]:
    """The KPI topics of a plan, one for each of its windows, and the schemas of their keys and values."""
    for window in made.windows:
        yield output_topic(made.topic, window), *schemas(made, window)


def _say(before: TopicPlan | None, made: TopicPlan) -> None:
    """One line where a new version changes what event time is: people should declare it; and one for each annotation of no use."""
    for fault in made.faults:
        if before is None or fault not in before.faults:
            LOG.warning('%s: the schema\'s annotation "kpi" is left out: %s', made.topic, fault)
    if before is not None and before.version and before.time != made.time:
        now = made.time or "Kafka's timestamp"
        LOG.warning("%s: event time is %s from now on, and was %s: declare `time`", made.topic, now, before.time or "Kafka's timestamp")
