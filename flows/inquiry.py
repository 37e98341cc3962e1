"""`make explain`, `make plan`: what is computed and why, and what a changed kpi.toml changes. In: the environment. Out: text alone.

Both ask Kafka for topics and the registry for schemas. `plan` compares with what runs: the declaration that the state in the recovery
directory was made with.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows import recovery, topics
from flows.connection import connection
from flows.declaration import Declaration
from flows.errors import ConfigError, did_you_mean
from flows.evolution import Change, changes
from flows.explain import explained
from flows.fields import Schema, SchemaError
from flows.kpi import Wanted, wanted
from flows.outputs import draft, latest, output_schemas
from flows.plan import TopicPlan
from flows.registry import Away, Registry
from flows.source import STATE_VERSION
from flows.spelling import canonical
from flows.supervise import DIRECTORY

GOOD, REFUSED, IMPOSSIBLE = 0, 1, 2
STEP = "kpi.source"


@dataclass(frozen=True, slots=True)
class Ground:
    """What both commands ask. `listed`: every topic of the cluster."""

    want: Wanted
    registry: Registry
    listed: Callable[[], set[str]]

    def chosen(self) -> list[str]:
        """The topics that the flow reads."""
        return sorted(filter(self.want.chosen, self.listed()))

    def draft(self, topic: str) -> tuple[TopicPlan, list[Schema]]:
        """The plan that a start would make of a topic, and the schemas it is made from."""
        return draft(self.want.declaration, self.registry, topic, latest(self.registry, topic))


def ground(environ: Mapping[str, str]) -> Ground:
    """Kafka and the registry, as the flow would find them. Raises ConfigError."""
    want = wanted(environ)
    admin = topics.administrator(want.where.librdkafka())
    return Ground(want, Registry(*want.where.registry()), lambda: topics.names(admin))


def explain(at: Ground, topic: str | None) -> Iterator[str]:
    """The tables of a topic, or of all that the flow reads."""
    if topic is None:
        names = at.chosen()
        if not names:
            yield "# no topic to read: no Avro topic is chosen (see [defaults] topics)\n"
    else:
        names = [topic]
        if at.registry.latest(f"{topic}-value") is None and topic not in (listed := at.listed()):
            raise ConfigError(f"TOPIC: got {topic!r}, want a topic that is there, or has schemas{did_you_mean(topic, listed)}")
    for number, name in enumerate(names):
        made, schemas = at.draft(name)
        yield ("\n" if number else "") + explained(made, at.want.declaration, schemas)


def plan(at: Ground, directory: Path) -> tuple[list[str], int]:
    """What a start would change, line by line, and whether it would be refused."""
    lines, refused = _of_state(directory, canonical(at.want.declaration))
    listed = at.listed()
    lines += _unmet(at.want.declaration, listed)
    for topic in at.chosen():
        for line, good in _of_topic(at, topic, listed):
            lines.append(line)
            refused |= not good
    return lines or ["nothing changes"], REFUSED if refused else GOOD


def _unmet(declaration: Declaration, listed: Collection[str]) -> Iterator[str]:
    """A table whose topic is not there: it may come, or its name is misspelled."""
    for table in declaration.file.topics:
        if not any(declaration.table_of(topic) == table for topic in listed):
            yield f"not used yet: topics.{table}: no topic is called so{did_you_mean(table, listed)}"


def _of_state(directory: Path, declared: str) -> tuple[list[str], bool]:
    states = recovery.states(directory, STEP) if directory.is_dir() and recovery.has_parts(directory) else []
    if not states:
        return [f"state: none in {directory}: every topic is read from `start`"], False
    if any(state["version"] != STATE_VERSION for state in states):
        return [f"state: refused: {directory} is of another version of this program: make reset"], True
    running = {name: known.get("time") for state in states for name, known in state["topics"].items()}
    found = changes(states[0]["declared"], declared, running)
    refused = any(change.verdict == "refused" for change in found)
    verdict = ["state: refused, until that is brought back, or begun anew: make reset"] if refused else ["state: kept"] if found else []
    return [*map(said, found), *verdict], refused


def said(change: Change) -> str:
    """A change as a line.

    >>> said(Change("added", "defaults.windows.1h", "kept", "rows from then on"))
    'kept: added defaults.windows.1h: rows from then on'
    """
    return f"{change.verdict}: {change.kind} {change.path}: {change.why}"


def _of_topic(at: Ground, topic: str, listed: set[str]) -> Iterator[tuple[str, bool]]:
    """What a start would make for one topic, and whether it can."""
    try:
        made, _ = at.draft(topic)
    except ConfigError as error:
        yield f"refused: {error}", False
        return
    for fault in made.faults:
        yield f"left out: {topic}: the schema's annotation {fault}", True
    for name, *schemas in output_schemas(made) if made.version else ():
        if name not in listed:
            yield f"topic {name}: will be made", True
        for subject, schema in zip((f"{name}-key", f"{name}-value"), schemas, strict=True):
            known = at.registry.latest(subject)
            if known is None:
                yield f"schema {subject}: will be registered", True
            elif json.loads(known[1]) != json.loads(schema):
                good = at.registry.compatible(subject, schema)
                yield (
                    f"schema {subject}: {'a new version, compatible' if good else 'refused: not compatible with its newest version'}",
                    good,
                )


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 where a start would be refused; 2 where it cannot be said."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.inquiry",
        description="Says what the flow computes and why, as TOML that may stand in kpi.toml (explain), or what a start with the kpi.toml "
        "of now would change of what runs (plan). Does nothing. Reads what the flow reads: KPI_CONFIG, KPI_WINDOWS, "
        "KAFKA_BOOTSTRAP_SERVERS, SCHEMA_REGISTRY_URL.",
    )
    parser.add_argument("what", choices=("explain", "plan"), nargs="?", default="explain")
    parser.add_argument("topic", nargs="?", help="explain: one topic, which need not be in kpi.toml; without it every topic that is read")
    parser.add_argument("-r", "--recovery-directory", metavar="DIR", help=f"plan: of the flow (BYTEWAX_RECOVERY_DIRECTORY, {DIRECTORY})")
    given, unknown = parser.parse_known_args(arguments)
    if unknown or (given.what == "plan" and given.topic):
        return _failed(f"unknown: {' '.join(unknown or [given.topic])}; --help says what there is")
    logging.getLogger("flows").addHandler(logging.NullHandler())
    directory = Path(given.recovery_directory or os.environ.get("BYTEWAX_RECOVERY_DIRECTORY") or DIRECTORY)
    try:
        at = ground(os.environ)
        if given.what == "plan":
            lines, code = plan(at, directory)
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            return code
        for text in explain(at, given.topic):
            sys.stdout.write(text)
    except Away as error:
        return _failed(f"the registry does not answer: {error}; start it (make up), or set SCHEMA_REGISTRY_URL")
    except topics.Unreachable as error:
        at_address = connection(os.environ).settings["bootstrap.servers"]
        return _failed(f"Kafka does not answer at {at_address}: {error}; start it (make up), or set KAFKA_BOOTSTRAP_SERVERS")
    except (ConfigError, SchemaError) as error:
        return _failed(str(error))
    return GOOD


def _failed(line: str) -> int:
    sys.stderr.write(f"kpi: {line}\n")
    return IMPOSSIBLE


if __name__ == "__main__":
    sys.exit(main())
