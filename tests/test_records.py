"""The contract with every reader of KPI topics: schemas, keys, values, headers."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.fold import Fold, Rows
from flows.plan import Kpi, Output, TopicPlan
from flows.records import DEAD, Origin, Record, encode, field_names, output_topic, schemas, set_aside
from flows.said import avro_name
from tests.core import MILLIS, money, partial, planned, schema

GOLDEN = Path(__file__).parent / "golden"
PLACE = {"type": "record", "name": "Place", "fields": [{"name": "country", "type": ["null", "string"]}]}
FIELDS = {
    "ts": MILLIS,
    "address": PLACE,
    "channel": "string",
    "n": "int",
    "x": "double",
    "d": money(2),
    "ok": "boolean",
    "s": "string",
    "billed": MILLIS,
    "state": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID"]},
}
SCHEMA = schema(FIELDS)
SAID = """
windows = ["10s", "90s", "1d"]
by = [[], ["address.country"], ["address.country", "channel"]]
[topics.t.kpis]
orders = { count = "*" }
pace = { rate = "*" }
revenue = { sum = "d", unit = "EUR" }
items = { sum = "n" }
heat = { sum = "x", unit = "°C" }
worth = { sum = "d * n" }
average = { mean = "n" }
spread = { deviation = "x" }
paid = { share = "ok" }
least = { min = "n" }
dearest = { max = "d" }
hottest = { max = "x" }
last = { max = "s" }
"latest bill" = { max = "billed" }
opened = { first = "ok" }
closed = { last = "state" }
"first bill" = { first = "billed" }
newest = { last = "d" }
states = { counts = "state" }
answers = { counts = "ok" }
per_order = { ratio = ["revenue", "orders"], unit = "EUR" }
size = { quantile = "x", q = [0.5, 0.99], unit = "°C" }
customers = { distinct = "s" }
favourites = { top = "s", k = 3 }
items_spread = { histogram = "n", edges = [-10, 0, 0.5] }
meter = { increase = "n" }
gauge = { increase = "x" }
account = { increase = "d" }
"""
PLAN = planned(SAID, SCHEMA)


def encoded(rows: Rows) -> list[Record]:
    return [Record(*row) for row in encode(rows)]


def made_ready(plan: TopicPlan) -> TopicPlan:
    outputs = tuple(
        Output(output_topic(plan.topic, window), 100 + number, 2**31 - number - 1) for number, window in enumerate(plan.windows)
    )
    return replace(plan, outputs=outputs)


READY = made_ready(PLAN)


def parsed(plan: TopicPlan, number: int = 0) -> tuple[Any, Any]:
    key, value = schemas(plan, plan.windows[number])
    return fastavro.parse_schema(json.loads(key)), fastavro.parse_schema(json.loads(value))


def read(writer: Any, message: bytes | None, reader: Any = None) -> Any:
    assert message is not None
    body = io.BytesIO(message[5:])
    value = fastavro.schemaless_reader(body, writer, reader)
    assert not body.read(), "nothing is left over"
    return value


def closed(plan: TopicPlan, rows: Sequence[tuple[object, ...]]) -> list[Rows]:
    """Final rows of the plan's last group set, all sizes."""
    return Fold().take([partial(plan, rows, 10**10)]).rows


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("part", ["key", "value"])
def test_the_schemas_are_the_contract(number: int, part: str) -> None:
    """Golden: a change here is a change for every reader, and goes into CHANGELOG."""
    text = schemas(PLAN, PLAN.windows[number])[part == "value"]
    golden = GOLDEN / f"{output_topic('t', PLAN.windows[number])}-{part}.avsc"

    assert json.loads(text) == json.loads(golden.read_text(encoding="utf-8"))
    assert [f["name"] for f in json.loads(text)["fields"]] == [f["name"] for f in json.loads(golden.read_text(encoding="utf-8"))["fields"]]


def test_a_kpi_topic_is_named_after_its_source_and_window() -> None:
    assert [output_topic("shop.orders", window) for window in PLAN.windows] == [
        "kpi.shop.orders.10s",
        "kpi.shop.orders.90s",
        "kpi.shop.orders.1d",
    ]


def test_a_value_begins_with_the_fields_of_its_key() -> None:
    for number in range(3):
        key, value = parsed(PLAN, number)
        assert value["fields"][: len(key["fields"])] == key["fields"]


def cents(number: int) -> Decimal:
    return Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -2))


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 200_000),
        st.none() | st.text(max_size=3),
        st.text(max_size=3),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(-1e100, 1e100),
        st.none() | st.integers(-(10**36), 10**36).map(cents),
        st.none() | st.booleans(),
        st.none() | st.text(max_size=5) | st.just("long " * 2_000),
        st.none() | st.integers(0, 2**41),
        st.none() | st.sampled_from(["NEW", "PAID"]),
    ).map(lambda row: (*row[:3], row[5], row[3], row[4], None, *row[6:])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_what_is_written_reads_back_and_the_key_is_the_beginning_of_the_value(events: list[tuple[object, ...]]) -> None:
    names = field_names(READY)
    for rows in closed(READY, events):
        records = encoded(rows)
        assert len(records) == len(rows.table)
        for record, row in zip(records, rows.table.iter_rows(named=True), strict=True):
            assert record.key is not None
            assert record.value is not None
            number = row["window"]
            key_schema, value_schema = parsed(READY, number)
            assert record.topic == READY.outputs[number].topic
            assert (record.key[:5], record.value[:5]) == (header(READY.outputs[number].key_id), header(READY.outputs[number].value_id))
            assert record.value[5:].startswith(record.key[5:])
            key, value = read(key_schema, record.key), read(value_schema, record.value)
            assert (written(key_schema, key), written(value_schema, value)) == (record.key[5:], record.value[5:]), (
                "as any Avro library writes it"
            )
            assert value == {**value, **key}
            assert (key["group_by"], key["address_country"], key["channel"]) == (
                "address.country,channel",
                row["by:address.country"],
                row["by:channel"],
            )
            assert [key[name].timestamp() * 1000 for name in ("window_start", "window_end")] == [
                row["start"],
                row["end"],
            ]
            for column in (column for column in row if column.startswith("kpi:")):
                assert plain(value[names[column]]) == told(row[column], value[names[column]]), column
            assert (value["events"], value["revision"], value["final"], value["closed_by"]) == (row["events"], 0, True, "data")


def written(writer: Any, record: Any) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, writer, record)
    return body.getvalue()


def header(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big")


def plain(value: object) -> object:
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else value


def told(value: object, read: object) -> object:
    """A list of a row as its field has it: a map, or records with `events`."""
    if not isinstance(value, list):
        return value
    pairs = [tuple(pair.values()) for pair in value]
    if isinstance(read, dict):
        return dict(pairs)
    return [{label: one, "events": n} for (one, n), label in zip(pairs, (next(iter(pair)) for pair in value), strict=True)]


@pytest.mark.parametrize(("group_set", "said"), [((), ("", None)), (("address.country",), ("address.country", "DE"))])
def test_a_group_that_is_not_in_the_set_is_null_and_the_set_is_named(group_set: tuple[str, ...], said: tuple[str, str | None]) -> None:
    made = replace(READY, group_sets=tuple(sorted(READY.group_sets, key=lambda one: one == group_set)), windows=READY.windows[:1])
    event = (
        1_000,
        *{("address.country"): ("DE", "WEB")}.get(made.groups[0], ("WEB", "DE")),
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
    )
    (rows,) = closed(made, [event])
    (record,) = encoded(rows)
    key = read(parsed(made)[0], record.key)

    assert (key["group_by"], key["address_country"], key["channel"]) == (*said, None)


def test_the_same_group_and_window_always_has_the_same_key() -> None:
    first, second = (
        encoded(rows)[0].key
        for n in (1, 2)
        for rows in closed(READY, [(1_000, "DE", "WEB", None, n, None, None, None, None, None, None)])[:1]
    )

    assert first == second


ACTING = ("a\nb", "\0", 'say "x"', "<script>alert(1)</script>", "\u202egnp.exe", "\u200f", "\x1f", "'; --", "x" * 1_024)


@pytest.mark.parametrize("text", ACTING)
def test_a_group_value_is_in_key_and_value_as_it_came(text: str) -> None:
    """Escaping is the reader's."""
    rows = closed(READY, [(1_000, text, "c", None, 1, None, None, None, None, None, None)])
    record, *_ = encoded(rows[0])
    parts = parsed(READY)

    assert [read(part, message)["address_country"] for part, message in zip(parts, (record.key, record.value), strict=True)] == [text] * 2


def test_windows_far_from_today_can_be_written() -> None:
    for time_ms in (0, 253_402_300_700_000):
        rows = Fold().take([partial(READY, [(time_ms, None, "c", None, 1, None, None, None, None, None, None)], 253_402_300_900_000)]).rows
        record, *_ = encoded(rows[0])
        assert read(parsed(READY)[0], record.key)["window_start"] == datetime.fromtimestamp(time_ms // 10_000 * 10, UTC)


# -- adding a KPI


KPIS = [f"k{number} = {{ {what} }}" for number, what in enumerate(["count = '*'", "sum = 'd'", "max = 's'", "mean = 'n'"])]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_adding_a_kpi_anywhere_is_compatible_both_ways(order: tuple[int, ...]) -> None:
    """By Avro's own rules: a new reader reads old rows with null for what they lack, an old reader reads new rows without it."""
    said = "windows = ['10s']\n[topics.t.kpis]\n"
    old = made_ready(planned(said + "\n".join(KPIS[n] for n in order if n < 2), SCHEMA))
    new = made_ready(planned(said + "\n".join(KPIS[n] for n in order), SCHEMA))
    event = {"time": 1_000, "d": Decimal("1.25"), "s": "text", "n": 3}
    (old_row,), (new_row,) = (
        encoded(rows)
        for made in (old, new)
        for rows in closed(made, [(event["time"], *(event[kpi.of] for kpi in made.kpis if kpi.of != "*"))])
    )
    (old_key, old_schema), (new_key, new_schema) = parsed(old), parsed(new)

    assert old_key == new_key
    assert old_row.key is not None
    assert new_row.key is not None
    assert old_row.key[5:] == new_row.key[5:]
    forward, back = read(old_schema, old_row.value, new_schema), read(new_schema, new_row.value, old_schema)
    assert (forward["k0"], forward["k1"], forward["k2"], forward["k3"]) == (1, Decimal("1.25"), None, None)
    assert back == read(old_schema, old_row.value)


def test_a_kpi_that_goes_leaves_rows_that_both_can_read() -> None:
    old, new = planned("kpis = { a = { count = '*' }, b = { sum = 'n' } }", SCHEMA), planned("kpis = { b = { sum = 'n' } }", SCHEMA)
    row, *_ = encoded(closed(made_ready(old), [(1_000, 7)])[0])

    assert read(parsed(old)[1], row.value, parsed(new)[1])["b"] == 7


# -- names


def test_a_name_that_is_taken_gets_an_underscore() -> None:
    made = planned("by = ['events', 'a.b', 'a_b']\nkpis = { final = { count = '*' }, 'a b' = { count = '*' } }", colliding())

    assert field_names(made) == {"by:events": "events_", "by:a.b": "a_b", "by:a_b": "a_b_", "kpi:final": "final_", "kpi:a b": "a_b__"}


def colliding() -> Any:
    return schema({"events": "string", "a": {"type": "record", "name": "A", "fields": [{"name": "b", "type": "string"}]}, "a_b": "string"})


@pytest.mark.parametrize(
    "name", ["group_by", "window_start", "window_end", "events", "revision", "final", "closed_by", "start", "time", "", "1", "é", "a-b"]
)
def test_a_kpi_or_a_group_may_have_any_name(name: str) -> None:
    field = avro_name(name) or "g"
    made = made_ready(
        planned(f"windows = ['10s']\nby = ['{field}']\n[topics.t.kpis]\n'{name}' = {{ sum = 'n' }}", schema({field: "string", "n": "long"}))
    )
    (rows,) = closed(made, [(1_000, "group", 5)])
    (record,) = encoded(rows)
    key, value = (read(writer, message) for writer, message in zip(parsed(made), (record.key, record.value), strict=True))
    names = field_names(made)

    assert (key[names[f"by:{field}"]], value[names[f"by:{field}"]], value[names[f"kpi:{name}"]]) == ("group", "group", 5)
    assert (value["events"], value["final"], value["closed_by"]) == (1, True, "data")


NAMES = st.text(max_size=4) | st.sampled_from(["a.b", "a_b", "a b", "events", "1", "a_p50", "a_top", "a_bin", "t_10s_value", "value"])


@given(
    st.lists(
        st.tuples(NAMES, st.sampled_from(["count", "top", "histogram", "quantile", "counts"])), max_size=6, unique_by=lambda it: it[0]
    ),
    st.text(max_size=4),
)
def test_every_schema_is_valid_avro_with_names_of_its_own(kpis: list[tuple[str, str]], topic: str) -> None:
    """Fields, and the records that some of them hold; of a quantile's family too, beside others of these names."""
    made = replace(PLAN, topic=topic, kpis=tuple(Kpi(name, aggregate, q=0.5, family="a", edges=(1.0,)) for name, aggregate in kpis))

    key, value = parsed(made)

    names = [field["name"] for field in value["fields"]]
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in [*names, value["name"].removeprefix("kpi.")])
    assert len(set(names)) == len(names) == len(key["fields"]) + 1 + len(kpis) + 3


def test_a_kpi_says_in_the_schema_what_it_is() -> None:
    fields = {f["name"]: f for f in json.loads(schemas(PLAN, PLAN.windows[0])[1])["fields"]}

    assert fields["revenue"]["kpi"] == {"aggregate": "sum", "of": "d", "unit": "EUR"}
    assert fields["orders"]["kpi"] == {"aggregate": "count", "of": "*"}
    assert fields["size_p99"]["kpi"] == {"aggregate": "quantile", "of": "x", "unit": "°C", "q": 0.99, "family": "size", "error": 0.01}
    assert fields["customers"]["kpi"] == {"aggregate": "distinct", "of": "s", "error": 0.02, "exact_up_to": 1024}
    assert fields["favourites"]["kpi"] == {"aggregate": "top", "of": "s", "k": 3, "error": 1 / 1025, "exact_up_to": 1024}
    assert fields["items_spread"]["kpi"] == {"aggregate": "histogram", "of": "n", "edges": [-10, 0, 0.5]}
    assert fields["per_order"]["kpi"] == {"aggregate": "ratio", "of": "*", "unit": "EUR", "parts": ["revenue", "orders"]}
    assert fields["address_country"]["group"] == "address.country"


@pytest.mark.parametrize(
    ("spelled", "said"),
    [
        ("90s", {"window": "90s", "size_ms": 90_000, "kind": "tumbling", "step_ms": 0, "zone": "", "unit": ""}),
        ("5m/1m", {"window": "5m-1m", "size_ms": 300_000, "kind": "hopping", "step_ms": 60_000, "zone": "", "unit": ""}),
        ("gap 30s", {"window": "session-30s", "size_ms": 30_000, "kind": "session", "step_ms": 0, "zone": "", "unit": ""}),
        (
            "1d^1h@Europe/Berlin",
            {"window": "cumulate-1d-1h-Europe-Berlin", "size_ms": 86_400_000, "kind": "cumulate", "step_ms": 3_600_000}
            | {"zone": "Europe/Berlin", "unit": "1d"},
        ),
    ],
)
def test_a_record_says_in_the_schema_of_which_topic_and_windows_it_is(spelled: str, said: dict[str, object]) -> None:
    made = planned(f"windows = ['{spelled}']", SCHEMA)

    assert json.loads(schemas(made, made.windows[0])[1])["kpi"] == {"topic": "t", **said}


# -- records set aside


def test_a_record_set_aside_is_the_original_with_text_headers() -> None:
    record = set_aside(DEAD, b"k", b"\0v", Origin("täglich", 3, 2**40, -1, "schema", "no schema 9", 9))

    assert record == Record(
        "kpi.dead-letters",
        b"k",
        b"\0v",
        (
            ("kpi.topic", "täglich".encode()),
            ("kpi.partition", b"3"),
            ("kpi.offset", b"1099511627776"),
            ("kpi.timestamp", b"-1"),
            ("kpi.reason", b"schema"),
            ("kpi.error", b"no schema 9"),
            ("kpi.schema-id", b"9"),
        ),
    )


def test_the_schema_id_zero_is_known_and_none_is_not() -> None:
    zero, none = (dict(set_aside(DEAD, None, None, Origin("t", 0, 0, 0, "r", "e", schema_id)).headers) for schema_id in (0, None))

    assert zero["kpi.schema-id"] == b"0"
    assert "kpi.schema-id" not in none
