"""What would be computed and why, as TOML that gives the same plan again."""

import json
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.declaration import parse
from flows.explain import explained
from flows.fields import Schema, read_schema
from flows.plan import TopicPlan, plan
from flows.spelling import key, toml
from tests.core import MILLIS, money
from tests.declarations import SETTINGS, written

ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
TYPES: dict[str, tuple[Any, list[Any]]] = {  # type -> annotations that it may have
    "n": ("long", [["sum", "last"], {"quantile": [0.5, 0.99], "top": 3}, {"histogram": [-1, 0.5, 1e20]}, ["summ"], "sum"]),
    "x": (["null", "double"], [["deviation"], {"quantile": True}, {"quantile": [7]}]),
    "d": (money(2), [["increase", "distinct"], []]),
    "s": ("string", [{"top": True, "distinct": True}, ["share"]]),
    "e": (ENUM, [["counts", "first"]]),
    "ok": ("boolean", [["counts", "share"], None]),
    "at": (MILLIS, [["min", "max"]]),
    "event_time": (MILLIS, []),
    "raw": ("bytes", [["count"]]),
}


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    fields: list[dict[str, Any]] = []
    for name in draw(st.lists(st.sampled_from(sorted(TYPES)), unique=True, max_size=6)):
        avro, annotations = TYPES[name]
        more: dict[str, Any] = draw(st.sampled_from([{}, *({"kpi": annotation} for annotation in annotations)]))
        fields.append({"name": name, "type": avro, **draw(st.sampled_from([{}, {"unit": 'a "b" \\ é\x7f'}])), **more})
    nested = {"type": "record", "name": "In", "fields": [{"name": "c", "type": "string"}, {"name": "m", "type": "int"}]}
    return read_schema(1, json.dumps({"type": "record", "name": "Event", "fields": [*fields, {"name": "in", "type": nested}]}))


SAID = st.fixed_dictionaries(
    {},
    optional=SETTINGS
    | {
        "by": st.sampled_from([[[]], [[], ["in.c"]], [["UPPER(in.c) AS c", "in.m"]]]),
        "where": st.sampled_from(["in.m > 1", "in.c <> 'it''s \"so\"'"]),
        "kpis": st.sampled_from(
            [
                {"n": {"count": "*"}, "m": {"sum": "in.m", "unit": "€"}, "each": {"ratio": ["m", "n"]}},
                {"in m": {"quantile": "in.m * 2", "q": [0.5]}, "x.y": {"histogram": "in.m", "edges": [0.1]}, "t": {"top": "in.c"}},
            ]
        ),
    },
)


@settings(deadline=None)
@given(schemas(), SAID, st.fixed_dictionaries({}, optional=SETTINGS), st.sampled_from(["shop.orders", "a b", "/sh.*/"]))
def test_what_is_explained_gives_the_same_plan_when_it_is_read(
    schema: Schema, said: dict[str, Any], defaults: dict[str, Any], table: str
) -> None:
    topic = "shop.orders" if table.startswith("/") else table
    declaration = parse(written({"defaults": defaults, "topics": {table: said}}))
    made = plan(declaration, topic, [schema])

    text = explained(made, declaration, [schema])

    assert plan(parse(text), topic, [schema]) == made
    assert all("  # " in line for line in text.splitlines() if " = " in line and not line.startswith("#"))


@given(
    st.recursive(
        st.text() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans(),
        lambda of: st.lists(of) | st.dictionaries(st.text(), of),
        max_leaves=8,
    )
)
def test_toml_is_read_as_it_was_written(value: object) -> None:
    assert tomllib.loads(f"{key('a b')} = {toml(value)}") == {"a b": value}


FIELDS = [
    {"name": "placed_at", "type": MILLIS},
    {"name": "total", "type": money(2), "unit": "EUR"},
    {"name": "latency_ms", "type": "int", "unit": "ms", "kpi": {"quantile": [0.5, 0.99]}},
    {"name": "paid", "type": "boolean", "kpi": ["shares"]},
]
ORDERS = read_schema(7, json.dumps({"type": "record", "name": "Order", "fields": FIELDS}))


def lines(text: str, topic: str = "t") -> tuple[TopicPlan, Mapping[str, str]]:
    """The plan, and the reason of each line of what is explained."""
    declaration = parse(text)
    made = plan(declaration, topic, [ORDERS])
    found = [line.partition("  # ") for line in explained(made, declaration, [ORDERS]).splitlines() if "  # " in line]
    return made, {line.split(" = ")[0]: why for line, _, why in found}


def test_every_line_says_why_it_is_so() -> None:
    _, why = lines("[defaults]\nlateness = '1s'\nwindows = ['10s']\n[topics.'/t.*/']\nidle = '3s'\nby = [['paid']]")

    assert why == {
        "windows": "kpi.toml, [defaults], or KPI_WINDOWS",
        "lateness": "kpi.toml, [defaults]",
        "idle": 'kpi.toml, [topics."/t.*/"]',
        "update": "default",
        "max_future": "default",
        "groups": "default",
        "readers": "default",
        "shards": "default",
        "start": "default",
        "time": "found: the first timestamp of the schema",
        "by": 'kpi.toml, [topics."/t.*/"]',
        "rate": "derived: every topic has it",
        "total_sum": "derived: total is of type decimal; the unit from the schema",
        "total_mean": "derived: total is of type decimal; the unit from the schema",
        "total_min": "derived: total is of type decimal; the unit from the schema",
        "total_max": "derived: total is of type decimal; the unit from the schema",
        "latency_ms": 'the schema says so: "kpi": {"quantile": [0.5, 0.99]}; the unit, too',
        "paid_share": "derived: paid is of type boolean",
    }


def test_what_is_declared_is_said_to_be() -> None:
    _, why = lines("[topics.t]\ntime = 'placed_at'\nkpis.n = { count = '*' }")

    assert (why["time"], why["n"], why["by"]) == ("kpi.toml, [topics.t]", "kpi.toml, [topics.t]", "default: the total")


def test_an_annotation_of_no_use_is_named() -> None:
    declaration = parse("")
    text = explained(plan(declaration, "t", [ORDERS]), declaration, [ORDERS])

    assert "\n# left out, an annotation of no use: paid: got 'shares', want one of count, " in text
    assert "(did you mean 'share'?)" in text


def test_a_topic_without_a_schema_is_explained_too() -> None:
    declaration = parse("[topics.t]\nby = [['a']]\ntime = 'x'")
    text = explained(plan(declaration, "t", []), declaration, [])

    assert text.startswith("# Avro schemas: none\n[topics.t]\n")
    assert text.endswith("# no KPIs: no Avro schema of it can be read\n")
    assert tomllib.loads(text)["topics"]["t"]["by"] == [["a"]]


@pytest.mark.parametrize("evil", ["\n", "\r", "\x00", "\u2028", "\x85"])
def test_nothing_from_a_schema_leaves_its_comment(evil: str) -> None:
    text = json.dumps(
        {"type": "record", "name": "E", "fields": [{"name": "a", "type": "long", "unit": evil, "kpi": [f"x{evil}[defaults]"]}]}
    )
    schema, declaration = read_schema(1, text), parse("")
    made = plan(declaration, "t", [schema])

    assert plan(parse(explained(made, declaration, [schema])), "t", [schema]) == made
