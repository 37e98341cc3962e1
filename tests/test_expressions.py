"""SQL over one event: what it reads, its type, its values; and groups that are made of it."""

from datetime import date, time
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.measure import part
from flows.declaration import parse
from flows.errors import ConfigError
from flows.expressions import evaluate, roots, type_of
from flows.intake import Position, take
from flows.plan import TopicPlan, plain, plan
from flows.said import grouped
from tests.batches import batch, confluent
from tests.core import MILLIS, money, planned, schema

ADDRESS = {"type": "record", "name": "Address", "fields": [{"name": "country", "type": ["null", "string"]}]}
ORDERS = schema({"at": MILLIS, "n": "long", "x": "double", "total": money(2), "paid": "boolean", "status": "string", "address": ADDRESS})
FRAME = pl.DataFrame({"a.b": ["x", "y.z", None], "n": [1, 2, 3]})


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("UPPER(a.b)", ["X", "Y.Z", None]),
        ('UPPER("a.b")', ["X", "Y.Z", None]),
        ("a.b", ["x", "y.z", None]),
        ("a.b = 'y.z' AND n < 3", ["false", "true", "false"]),  # a text is no path
        ("REPLACE(a.b, 'a.b', 'it''s')", ["x", "y.z", None]),
        ("1.5 * n", ["1.5", "3.0", "4.5"]),  # nor is a number
        ("n", ["1", "2", "3"]),
    ],
)
def test_a_nested_path_stands_in_sql_as_it_is_or_in_double_quotes(sql: str, values: list[str | None]) -> None:
    assert evaluate(FRAME, sql, pl.String()).to_list() == values


@settings(deadline=None)
@given(st.text("ab.'\"% ", max_size=8))
def test_a_text_in_sql_is_never_taken_for_a_path(text: str) -> None:
    quoted = text.replace("'", "''")

    assert evaluate(FRAME[:1], f"'{quoted}'", pl.String()).to_list() == [text]
    assert roots(f"CONCAT(a.b, '{quoted}')", FRAME.columns) == ["a.b"]


def test_a_whole_path_is_what_an_expression_reads() -> None:
    assert roots("UPPER(a.b) || c.d.e", ["a.b"]) == ["a.b", "c.d.e"]
    assert type_of("LENGTH(a.b)", FRAME.schema).is_integer()


@pytest.mark.parametrize(
    ("text", "name", "of"),
    [
        ("country", "country", "country"),
        ("address.country", "address.country", "address.country"),
        ("address.country AS country", "country", "address.country"),
        ("UPPER(address.country) as region", "region", "UPPER(address.country)"),
        ("CAST(n AS VARCHAR) AS n_text", "n_text", "CAST(n AS VARCHAR)"),
        ("status || ' AS ' || status AS twice", "twice", "status || ' AS ' || status"),
        (" n > 3\n  AS many ", "many", "n > 3"),
    ],
)
def test_a_group_is_a_field_or_sql_with_a_name(text: str, name: str, of: str) -> None:
    assert grouped(text) == (name, of)


@pytest.mark.parametrize(
    "text", ["UPPER(country)", "n > 3", "CAST(n AS VARCHAR)", "n AS 3", "n AS", "", "n + 1 AS a b", "n + 1 AS é", "a-b"]
)
def test_sql_without_a_name_is_refused_and_told_how_to_say_one(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r'^kpi\.toml: topics\.t\.by\.0\.0: got .*, want a field, or SQL with a name behind it such as "UPPER'
    ):
        parse(f"[topics.t]\nby = [[{text!r}]]")


@pytest.mark.parametrize(
    ("by", "want"),
    [
        ("[['n'], ['n % 2 AS n']]", "one meaning of each name: 'n' and 'n % 2 AS n' are two"),
        ("[['n % 2 AS it'], ['n % 3 AS it', 'n']]", "one meaning of each name"),
        ("[['n', 'n + 1 AS n']]", "each name once"),
        ("[['n + 1 AS a'], ['n + 1  as  a']]", "each once"),
    ],
)
def test_a_name_is_one_group_and_no_set_comes_twice(by: str, want: str) -> None:
    with pytest.raises(ConfigError, match=rf"^kpi\.toml: topics\.t\.by: got .*{want}"):
        parse(f"[topics.t]\nby = {by}")


def test_a_group_of_sql_has_its_name_and_reads_what_it_needs() -> None:
    made = planned("by = [[], ['UPPER(address.country) AS region'], ['region2', 'n % 2 AS odd']]".replace("region2", "status"), ORDERS)

    assert made.group_sets == ((), ("region",), ("status", "odd"))
    assert made.groups == ("region", "status", "odd")
    assert made.group_expressions == (("region", "UPPER(address.country)"), ("odd", "n % 2"))
    assert {path for path, _ in made.columns} >= {"address.country", "status", "n"}
    assert plain(made)["group_expressions"] == made.group_expressions


def test_without_a_schema_the_group_sets_are_known_all_the_same() -> None:
    assert plan(parse("[topics.t]\nby = [['UPPER(x) AS y']]"), "t", []).group_sets == (("y",),)


@pytest.mark.parametrize(
    ("sql", "want"),
    [
        ("UPPER(adress.country) AS r", r"'adress\.country', want one of .*\(did you mean 'address\.country'\?\)"),
        ("UPPER(statu) AS r", r"'statu', want one of .*\(did you mean 'status'\?\)"),
        ("SUM(n) AS r", "want an expression over one event"),
        ("UPPERR(status) AS r", "want a field or a SQL expression"),
        ("STRING_TO_ARRAY(status, ',') AS r", "of kind other, want text, a number or a condition"),
    ],
)
def test_sql_to_group_by_is_checked_when_the_plan_is_made(sql: str, want: str) -> None:
    with pytest.raises(ConfigError, match=rf"^topics\.t\.by\[1\]: got .*{want}"):
        planned(f'by = [[], ["{sql}"]]', ORDERS)


def test_events_are_grouped_by_what_sql_makes_of_them() -> None:
    groups = ["UPPER(address.country) AS region", "n % 2 = 0 AS even", "CAST(status AS BIGINT) AS digits", "status", "total * 2 AS double"]
    made = planned(f"by = {groups}\nkpis.n = {{ count = '*' }}", ORDERS)
    event = {"at": 1_000, "n": 1, "x": 0.5, "total": Decimal("1.50"), "paid": True, "status": "new", "address": {"country": "de"}}
    events = [event, event | {"n": 2, "status": "7", "address": {"country": None}}]
    sent = batch([(None, confluent(1, ORDERS.parsed, each), 1_000, ()) for each in events])

    frame = take(made, {0: Position(0)}, [sent], lambda _: ORDERS, 2_000).frame

    assert frame.columns == ["time", "by:region", "by:even", "by:digits", "by:status", "by:double"]
    assert frame.select("by:region", "by:even", "by:status", "by:double").rows() == [
        ("DE", "false", "new", "3.00"),
        (None, "true", "7", "3.00"),
    ]
    assert frame["by:digits"].to_list() == [None, "7"], "what cannot be computed is a group of its own"


def test_the_audit_groups_by_the_same_sql() -> None:
    made = planned("by = [['UPPER(address.country) AS region', 'n']]", ORDERS)
    decoded = pl.DataFrame({"row": [0], "fate": ["folded"], "at": [1_000], "address.country": ["de"], "n": [4]})

    frame = part(made, [[0], [7], [1_000]], with_measures(decoded, made))

    assert frame.select("g0", "g1").rows() == [("DE", "4")]


def with_measures(decoded: pl.DataFrame, made: TopicPlan) -> pl.DataFrame:
    """And the fields that derived KPIs measure."""
    missing = [pl.lit(None, dtype).alias(path) for path, dtype in made.columns if path not in decoded.columns]
    return decoded.with_columns(missing)


def test_dates_and_times_of_day_are_dates_and_times_in_sql() -> None:
    frame = pl.DataFrame({"day": [date(2026, 2, 28), date(2026, 3, 1), None], "opens": [time(8), time(9, 30), None]})
    for sql, want in (
        ("day >= DATE '2026-03-01'", [False, True, None]),
        ("EXTRACT(month FROM day) = 3", [False, True, None]),
        ("opens < TIME '09:00:00'", [True, False, None]),
    ):
        assert type_of(sql, frame.schema) == pl.Boolean()
        assert evaluate(frame, sql, pl.Boolean()).to_list() == want
