"""The driver of a test: events are sent, the clock goes on, rows are looked at. In: values as people write them. Out: rows in plain words.

Time is virtual: the clock stands at the newest Kafka timestamp, until `advance` moves it on. Only while it is moved are the ends of
partitions looked at, so only then does a quiet one promise that nothing comes (docs/time.md, idle). At each look at rows the whole flow
runs anew over everything that was sent, so the same events always give the same rows, however often one looks.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from flows import topics
from flows.declaration import Declaration
from flows.durations import duration_ms
from flows.errors import ConfigError
from flows.fields import Schema, SchemaError, read_schema
from flows.plan import TopicPlan, plan
from flows.records import DEAD, LATE, Record, fields
from flows.windows import DAY_MS
from kpitest.batches import Message, batch, confluent
from kpitest.ends import MemoryTopic, MemoryTopics, Poll, ready, records_of
from kpitest.errors import WrongEventError, choices
from kpitest.expect import differences
from kpitest.rows import Row, kpi_rows, of_aside, plain
from kpitest.values import avro_value, moment_ms

LOOKS, LOOK_MS = 60, 1_000  # at the clock while it goes on: as often as a reader looks at it, but for longer stretches
IDS = 1_000  # schema ids a topic: its own, and those of its KPI topics


@dataclass(frozen=True, slots=True)
class Topic:
    """A source topic that something was sent to."""

    plan: TopicPlan
    schema: Schema
    named: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """What happened when: a message of a topic and partition, or, without one, a look at the clock."""

    clock_ms: int
    topic: str = ""
    partition: int = 0
    message: Message | None = None


class Driver:
    """One test: what is declared and which schemas there are (topic -> file), then events and time."""

    def __init__(self, declaration: Declaration, schemas: Mapping[str, Path]) -> None:
        self._declaration, self._schemas = declaration, schemas
        choice = declaration.defaults.topics
        self._chosen = topics.choose(choice.include, choice.exclude)
        self._topics: dict[str, Topic] = {}
        self._steps: list[Step] = []
        self._records: list[Record] | None = None  # of all steps, once somebody looked

    @property
    def clock_ms(self) -> int:
        """The virtual clock, UTC ms. Raises WrongEventError before the first event, as there is no time then."""
        if not self._steps:
            raise WrongEventError("nothing was sent yet, so there is no time that could go on")
        return self._steps[-1].clock_ms

    def send(
        self, topic: str, value: Mapping[str, Any] | bytes | None, *, at: object = None, key: str | None = None, partition: int = 0
    ) -> None:
        """A message. `at`: its Kafka timestamp (ISO text, datetime, UTC ms), which is its event time too where the value has none.

        Without `at` it is the event time. Bytes are sent as they are; None is a tombstone. Raises WrongEventError, ConfigError.
        """
        known = self.topic(topic)
        if isinstance(value, Mapping):
            value = self._timed(known, value, at)
            made = avro_value(known.schema.parsed, value, known.named)
            at = self._event_ms(known, made) if at is None else at
            try:
                raw: bytes | None = confluent(known.schema.id, known.schema.parsed, made)
            except (ValueError, TypeError) as error:
                raise WrongEventError(f"value: does not fit the schema ({error})") from None
        else:
            raw = value
        if at is None and not self._steps:
            raise WrongEventError("at: missing, and nothing says what time it is")
        stamp_ms = self.clock_ms if at is None else _moment(at, "at")
        clock_ms = max(stamp_ms, self._steps[-1].clock_ms if self._steps else stamp_ms)
        message = (None if key is None else key.encode(), raw, stamp_ms, ())
        self._add(Step(clock_ms, topic, partition, message))

    def advance(self, by: str) -> None:
        """Let the clock go on ("30s", "5m"): it is looked at each second, or 60 times where that is less often."""
        try:
            length_ms = duration_ms(by)
        except ValueError as error:
            raise WrongEventError(f"advance: got {by!r}, {error}") from None
        begin_ms = self.clock_ms
        looks = max(1, min(LOOKS, length_ms // LOOK_MS))
        for number in range(1, looks + 1):
            self._add(Step(begin_ms + length_ms * number // looks))

    def close(self) -> None:
        """Let the clock go on until every window is closed."""
        plans = [topic.plan for topic in self._topics.values()]
        # Twice, as a session ends a gap later, rounded up to a slice; two days more, as months and years are longer than about.
        windows_ms = max((2 * window.size_ms + 2 * DAY_MS for made in plans for window in made.windows), default=0)
        self._add(
            Step(self.clock_ms + windows_ms + max((made.idle_ms + made.lateness_ms + made.max_future_ms for made in plans), default=0))
        )

    def rows(self, topic: str | None = None, *, every: bool = False) -> list[dict[str, Any]]:
        """The newest row of each window and group, as who keeps the newest of a key sees them; `every`: provisional ones before it too.

        Plain JSON: times are ISO texts, decimals texts. Sorted by topic, window, group. Without `topic` those of all KPI topics.
        """
        if topic is not None:
            self.check(topic)
        return [plain(row) for row in self.table(every=every) if topic in (None, row["topic"])]

    def late(self) -> list[dict[str, Any]]:
        """What was too late, each with its source, partition, offset and cause."""
        return [plain(row) for row in of_aside(LATE, self._run())]

    def dead_letters(self) -> list[dict[str, Any]]:
        """What could not be used, each with its source, partition, offset, reason and error."""
        return [plain(row) for row in of_aside(DEAD, self._run())]

    def expect(self, *wanted: Mapping[str, Any], only: bool = False) -> None:
        """Rows that must be there, compared only in the fields that are given; `only`: and no others. Raises AssertionError."""
        for row in wanted:
            self.check(str(row.get("topic")), row)
        if found := differences(wanted, [*self.table(), *self.aside()], only=(lambda _: True) if only else None):
            raise AssertionError("\n".join(found))

    def table(self, *, every: bool = False) -> list[Row]:
        """The rows with their own types: datetimes and Decimals."""
        records = self._run()
        return [row for topic in self._topics.values() for row in kpi_rows(topic.plan, records, every=every)]

    def aside(self) -> list[Row]:
        """Late records, then dead letters."""
        return [row for name in (LATE, DEAD) for row in of_aside(name, self._run())]

    def check(self, topic: str, row: Mapping[str, Any] | None = None) -> None:
        """Raises WrongEventError where there is no such KPI topic, or where its rows have no such field."""
        known = {output.topic: each.plan for each in self._topics.values() for output in each.plan.outputs}
        if topic not in (*known, LATE, DEAD):
            raise WrongEventError(f"topic: got {topic!r}, want {choices(topic, (*known, LATE, DEAD))}")
        aside = ("source", "partition", "offset", "timestamp", "reason", "error", "key")
        names = ["topic", *([field["name"] for field in fields(known[topic])[1]] if topic in known else aside)]
        for name in row or ():
            if name not in names:
                raise WrongEventError(f"{name}: no such field in {topic}, want {choices(name, names)}")

    def topic(self, name: str) -> Topic:
        """A source topic with its plan. Raises WrongEventError without a schema, ConfigError where the declaration does not fit."""
        if name not in self._topics:
            if name not in self._schemas:
                raise WrongEventError(f"topic: got {name!r}, which has no schema, want {choices(name, self._schemas)}")
            if not self._chosen(name):
                raise WrongEventError(f"topic: got {name!r}, which is not read (defaults.topics)")
            id_ = IDS * (len(self._topics) + 1)
            named: dict[str, Any] = {}
            try:
                schema = read_schema(id_, self._schemas[name].read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, SchemaError) as error:
                raise WrongEventError(f"{self._schemas[name]}: {error}") from None
            _definitions(schema.parsed, named)
            self._topics[name] = Topic(ready(plan(self._declaration, name, [schema]), id_ + 1), schema, named)
        return self._topics[name]

    def _timed(self, topic: Topic, value: Mapping[str, Any], at: object) -> Mapping[str, Any]:
        """The value with `at` as its event time, where it has none."""
        path = topic.plan.time
        if at is None or path is None:
            return value
        *parents, last = path.split(".")
        inner: Any = value
        for name in parents:
            inner = inner.get(name) if isinstance(inner, Mapping) else None
        if not isinstance(inner, Mapping) or last in inner:
            return value
        leaf = topic.schema.leaves[path]
        time_ms = _moment(at, "at")
        return _replaced(value, parents, {**inner, last: time_ms * 1_000_000 // leaf.unit_ns if leaf.unit_ns else time_ms})

    def _event_ms(self, topic: Topic, value: Any) -> int | None:  # noqa: ANN401 - an Avro value
        """The event time in a value; None when it has none, or an impossible one."""
        if topic.plan.time is None:
            return None
        for name in topic.plan.time.split("."):
            value = value[name] if isinstance(value, dict) else None
        leaf = topic.schema.leaves[topic.plan.time]
        if not isinstance(value, int):
            return None
        time_ms = value * leaf.unit_ns // 1_000_000 if leaf.unit_ns else value
        return time_ms if time_ms >= 0 else None

    def _add(self, step: Step) -> None:
        self._steps.append(step)
        self._records = None

    def _run(self) -> list[Record]:
        if self._records is None:
            memory = [MemoryTopic(topic.plan, list(self._polls(name)), self._schema_of) for name, topic in self._topics.items()]
            self._records = records_of(MemoryTopics(memory)) if self._steps else []
        return self._records

    def _schema_of(self, schema_id: int) -> Schema:
        for topic in self._topics.values():
            if topic.schema.id == schema_id:
                return topic.schema
        raise SchemaError(f"schema {schema_id} is unknown to the registry")

    def _polls(self, topic: str) -> Iterator[Poll]:
        """The steps as a reader of a topic meets them: what came in one second of the clock is one poll, each look another."""
        own = [step for step in self._steps if step.message is None or step.topic == topic]
        partitions = 1 + max((step.partition for step in own), default=0)
        ends = dict.fromkeys(range(partitions), 0)
        begun = False
        for (looks, _), group in groupby(
            own, lambda step: (step.message is None, step.clock_ms if step.message is None else step.clock_ms // 1_000)
        ):
            steps = list(group)
            clock_ms = steps[-1].clock_ms
            batches = []
            for partition in sorted({step.partition for step in steps if step.message is not None}):
                messages = [step.message for step in steps if step.message is not None and step.partition == partition]
                batches.append(batch(messages, partition, ends[partition]))
                ends[partition] += len(messages)
            begun = begun or bool(batches)
            if begun:  # a topic is there from its first message on
                yield Poll(clock_ms, batches, partitions, dict.fromkeys(range(partitions), clock_ms) if looks else {})


def schema_files(where: Path, topic: str | None = None) -> dict[str, Path]:
    """Topic -> schema file: every `<topic>.avsc` of a directory; a single file is that of `topic`, else of its own name.

    Raises ConfigError where there is none.
    """
    if where.is_file():
        return {topic or where.name.removesuffix(".avsc"): where}
    if not (found := sorted(where.glob("*.avsc"))):
        raise ConfigError(f"schemas: got {where}, want a directory of <topic>.avsc, or one such file")
    return {file.name.removesuffix(".avsc"): file for file in found}


def _moment(at: object, where: str) -> int:
    try:
        return moment_ms(at)
    except (ValueError, TypeError):
        raise WrongEventError(f'{where}: got {at!r}, want a time such as "2026-11-26T10:00:00Z", or UTC milliseconds') from None


def _replaced(value: Mapping[str, Any], parents: Iterable[str], inner: Mapping[str, Any]) -> Mapping[str, Any]:
    first, *rest = [*parents, ""]
    return inner if not first else {**value, first: _replaced(value[first], rest[:-1], inner)}


def _definitions(parsed: Any, named: dict[str, Any]) -> None:  # noqa: ANN401 - parsed JSON
    """Every named type inside a parsed schema."""
    if isinstance(parsed, list):
        for each in parsed:
            _definitions(each, named)
    elif isinstance(parsed, dict):
        if "name" in parsed and "type" in parsed and parsed["type"] in ("record", "error", "enum", "fixed"):
            named[parsed["name"]] = parsed
        for inner in ("type", "items", "values", "fields"):
            _definitions(parsed.get(inner), named)
