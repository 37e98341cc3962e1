"""What is on the cluster. In: the environment. Out: the schemas of its Avro topics, or why there are none."""

from collections.abc import Mapping
from typing import NamedTuple

from flows import topics
from flows.connection import connection
from flows.errors import ConfigError
from flows.fields import Schema, SchemaError
from flows.registry import Away, Registry


class Found(NamedTuple):
    """Topic -> the newest version of its schema; and in words why there is none."""

    schemas: Mapping[str, Schema]
    why: str = ""


def found(environ: Mapping[str, str]) -> Found:
    """The topics of the cluster that the environment names, those without a schema left out. Changes nothing there."""
    try:
        where = connection(environ)
        registry = Registry(*where.registry())
        listed = topics.discover(topics.administrator(where.librdkafka()), topics.choose([".*"], []))
        schemas = {topic: schema for topic in listed if (schema := _schema(registry, topic)) is not None}
    except (topics.Unreachable, Away, ConfigError) as error:
        return Found({}, str(error))
    return Found(schemas, "" if schemas else f"no topic at {where.settings['bootstrap.servers']} has an Avro schema")


def _schema(registry: Registry, topic: str) -> Schema | None:
    try:
        latest = registry.latest(f"{topic}-value")
        return None if latest is None else registry.schema(latest[0])
    except SchemaError:
        return None
