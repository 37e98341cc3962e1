"""A first kpi.toml. In: the schemas of topics. Out: what would be derived from them, declared, for a person to change. Pure."""

import tomllib
from collections.abc import Mapping

from flows.declaration import Declaration, File
from flows.explain import explained
from flows.fields import Schema
from flows.plan import plan
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
    """The text of kpi.toml for these topics: the same KPIs that they have without it, each with its reason."""
    nothing = Declaration(File())
    tables = (explained(plan(nothing, topic, [schema]), nothing, [schema]) for topic, schema in sorted(schemas.items()))
    # What is a default is left to [defaults], or a change there would change nothing.
    return "\n".join(
        [HEAD, *("".join(line for line in table.splitlines(keepends=True) if not line.endswith("  # default\n")) for table in tables)]
    )
