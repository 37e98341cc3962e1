"""A source topic, read and judged. In: the environment, Kafka. Out: what every command here begins with.

The order matters beside a live flow: first when it began and how far it has come, then what it has set aside, then the source topic. Rows
of a KPI topic are read after that, so they are there for everything before the offsets that the flow had committed.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from audit import recompute
from audit.aside import Aside, read_aside
from audit.gather import Batch, Gather, Source
from audit.lineage import Begun, begun
from audit.topic import CannotVerifyError, Topics, stamp_of
from flows.connection import connection
from flows.declaration import Declaration, read_declaration
from flows.errors import ConfigError
from flows.fields import Schema
from flows.plan import TopicPlan
from flows.registry import Away, Registry
from flows.windows import Window

SETTLE_S = 1.0  # the parts of the sink commit one after the other, a few ms apart; offsets are shown once a second

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ground:
    """What the environment says, the clients, and a directory that goes away."""

    declaration: Declaration
    topics: Topics
    registry: Registry
    settings: Mapping[str, str]
    flow_id: str
    directory: Path
    say: Say

    def schema_of(self, schema_id: int) -> Schema:
        """A schema, or SchemaError; a registry that is away ends the command."""
        try:
            return self.registry.schema(schema_id)
        except Away as error:
            raise CannotVerifyError(f"the schema registry does not answer: {error}; set SCHEMA_REGISTRY_URL") from None

    def source(self, topic: str) -> Source:
        """A source topic with its schemas."""
        return Source(
            self.declaration,
            topic,
            self.schema_of,
            lambda: self.registry.versions(f"{topic}-value"),
            lambda met: self.registry.others(topic, met),
        )

    def windows(self, topic: str, wanted: str | None) -> list[Window]:
        """One window size, as kpi.toml or as topics spell it, or all of the topic's. Raises ConfigError."""
        known = self.declaration.of(topic).windows
        chosen = [window for window in known if wanted in {None, window.label, window.spelled}]
        if not chosen:
            raise ConfigError(f"WINDOW: got {wanted!r}, want one of {', '.join(window.spelled for window in known)}")
        return chosen


@contextmanager
def ground(environ: Mapping[str, str], say: Say) -> Iterator[Ground]:
    """Everything a command needs, closed behind it. Raises ConfigError."""
    declaration, where = read_declaration(environ), connection(environ)
    flow_id = environ.get("KPI_FLOW_ID", "kpi")
    topics = Topics(where.librdkafka(), flow_id)
    try:
        with TemporaryDirectory(prefix="kpi-audit-") as directory:
            yield Ground(declaration, topics, Registry(*where.registry()), where.librdkafka(), flow_id, Path(directory), say)
    finally:
        topics.close()


@dataclass(frozen=True, slots=True)
class Survey:
    """`span`: what of each partition was read; `ends`: how far the flow has come; `closed_ms`: up to where data alone closes windows.

    `cut`: partitions of which the beginning was not read; `from_ms`: windows that begin before it are left out, and `why`;
    `begun`: since when what the flow has published counts.
    """

    topic: str
    plan: TopicPlan
    database: duckdb.DuckDBPyConnection
    judged: recompute.Judged
    aside: Aside
    span: Mapping[int, tuple[int, int]]
    ends: Mapping[int, int]
    cut: frozenset[int]
    closed_ms: int | None
    from_ms: int | None
    why: str
    begun: Begun

    @property
    def messages(self) -> int:
        """How many were judged."""
        return sum(count for verdict, count in self.counts().items() if verdict != "beyond")

    def counts(self) -> dict[str, int]:
        """Messages by verdict, late ones by cause: `late data`."""
        if not self.judged.parts:
            return {}
        name = "verdict || coalesce(' ' || CASE WHEN verdict = 'late' THEN cause END, '')"
        query = f"SELECT {name} AS name, count(*) AS n FROM {recompute.parquet(self.judged.parts)} GROUP BY 1 ORDER BY 1"
        return {row["name"]: row["n"] for row in recompute.fetched(self.database, query)}


def survey(where: Ground, topic: str, since_ms: int | None, from_ms: int | None) -> Survey:
    """Read and judge a source topic. `since_ms`: see Begun, None: as kpi.progress says. Raises CannotVerifyError, ConfigError."""
    partitions = where.topics.partitions(topic)
    if not partitions:
        raise CannotVerifyError(f"there is no topic {topic!r}: set TOPIC to a source topic")
    began = begun(where.topics, where.flow_id) if since_ms is None else Begun(since_ms)
    ends = where.topics.committed(topic, partitions)
    if not ends:
        raise CannotVerifyError(
            f"the flow {where.flow_id!r} has committed no offsets of {topic}: let it run first, or set KPI_FLOW_ID to the id it runs under"
        )
    time.sleep(SETTLE_S)
    aside = read_aside(where.topics, topic, where.directory, began.since_ms)
    span = where.topics.span(topic)
    start = where.declaration.of(topic).start
    if start == "latest" and (from_ms is None or from_ms < began.since_ms):
        raise CannotVerifyError(
            f'{topic}: start = "latest": where the flow began is not written anywhere; give --from TIME after that moment'
        )
    expired = {partition for partition, (first, _) in span.items() if first > 0}
    begin_ms = start if isinstance(start, int) else from_ms if start == "latest" else None
    if begin_ms is not None:
        span = {
            partition: (max(span[partition][0], first), span[partition][1])
            for partition, first in where.topics.at_time(topic, begin_ms, span).items()
        }
    cut = frozenset(span if start == "latest" else expired)
    gather, firsts = _gathered(where, topic, aside, span)
    if not gather.parts:
        raise CannotVerifyError(f"{topic} holds no messages")
    database = recompute.connect(where.directory)
    known = recompute.Known(aside.file, {partition: ends.get(partition, 0) for partition in range(partitions)}, cut)
    judged = recompute.judge(database, gather.plan, gather.parts, known)
    future_ms = gather.plan.max_future_ms
    bounds = [
        (from_ms, "begin before --from"),
        (start if isinstance(start, int) else None, "begin before `start`"),
        (max((firsts.get(p, 0) + future_ms for p in expired), default=None), "may hold events that have expired from the source topic"),
        (begin_ms + future_ms if start == "latest" and begin_ms is not None else None, "may hold events from before --from"),
    ]
    lowest, why = max(((at, said) for at, said in bounds if at is not None), default=(None, ""))
    closed = recompute.closed_ms(gather.plan, judged.reached, partitions)
    return Survey(topic, gather.plan, database, judged, aside, span, ends, cut, closed, lowest, why, began)


def _gathered(where: Ground, topic: str, aside: Aside, span: Mapping[int, tuple[int, int]]) -> tuple[Gather, dict[int, int]]:
    """The parts, and the Kafka timestamp of the first message of each partition."""
    latest = where.registry.latest(f"{topic}-value")
    source = where.source(topic)
    ids = [] if latest is None else [latest[0]]
    while True:
        gather, firsts = Gather(source, where.directory, ids, aside.doubts), dict[int, int]()
        for messages in where.topics.read(topic, span, where.say, aside.unread):
            batch = Batch(
                [message.partition() or 0 for message in messages],
                [message.offset() or 0 for message in messages],
                [stamp_of(message) for message in messages],
                [message.value() for message in messages],
            )
            if len(firsts) < len(span):
                for partition, stamp_ms in zip(batch.partitions, batch.stamps, strict=True):
                    firsts.setdefault(partition, stamp_ms)
            gather.take(batch)
        gather.flush()
        if not gather.stale:
            return gather, firsts
        ids = sorted(gather.ids)
        where.say(f"{topic}: schemas {', '.join(map(str, ids))} were met; reading once more with all of them")
        for part in gather.parts:
            part.unlink()
