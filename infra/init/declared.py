"""A first kpi.toml. In: the schemas of topics. Out: what would be derived from them, declared, for a person to change. Pure."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping

from flows.declaration import Declaration, File
from flows.fields import Schema
from flows.plan import TopicPlan, plan
from infra.init.demo import SCHEMAS

HEAD = """# What to compute. Everything here is optional: a topic without a table gets KPIs derived from its Avro types.
# Every setting stands in docs/contracts.md.

[defaults]
windows  = ["10s", "1m", "5m"]  # KPI_WINDOWS=10s,1m overrides
lateness = "10s"                # how far events may come out of order
idle     = "15s"                # a quiet partition stops holding windows open after this time
update   = "1s"                 # open windows are told at most this often; "off": final rows only
"""


def is_templates(text: str) -> bool:
    """Whether a kpi.toml declares nothing but the demo's topics: then it is nobody's, and may be written anew."""
    try:
        return set(tomllib.loads(text).get("topics", {})) <= set(SCHEMAS)
    except tomllib.TOMLDecodeError:
        return False


def declared(schemas: Mapping[str, Schema]) -> str:
    """The text of kpi.toml for these topics: the same KPIs that they have without it."""
    return "\n".join([HEAD, *(_topic(plan(Declaration(File()), topic, [schema])) for topic, schema in sorted(schemas.items()))])


def _topic(made: TopicPlan) -> str:
    name = json.dumps(made.topic)
    time = [f"time = {json.dumps(made.time)}"] if made.time else ["# no field is a time: Kafka's timestamp is the event time"]
    kpis = [_kpi(kpi.name, kpi.aggregate, kpi.of, kpi.unit) for kpi in made.kpis]
    return "\n".join(
        [f"[topics.{name}]", *time, 'by = [[]]  # the total; also by a field: [[], ["country"]]', "", f"[topics.{name}.kpis]", *kpis, ""]
    )


def _kpi(name: str, aggregate: str, of: str, unit: str | None) -> str:
    key = name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)
    said: Iterable[str] = (f"{word} = {json.dumps(it, ensure_ascii=False)}" for word, it in ((aggregate, of), ("unit", unit)) if it)
    return f"{key} = {{ {', '.join(said)} }}"
