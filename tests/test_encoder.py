"""What is written in columns is what fastavro writes value by value."""

import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from unittest import mock

import fastavro
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows import encoder
from flows.encoder import AT_ONCE, NULL, SOME, chosen, column, decimals, fixed, joined, listed, optional_doubles, texts, unscaled, zigzags

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}
LONGS = st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300)
EDGES = [sign * (1 << bits) + off for bits in range(63) for sign in (1, -1) for off in (-1, 0)] + [2**63 - 1, -(2**63)]


def cents(number: int) -> Decimal:
    return Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -2))


def written(avro: Any, values: Sequence[object]) -> list[bytes]:
    """By fastavro, each alone."""
    schema, rows = fastavro.parse_schema(avro), []
    for value in values:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, value)
        rows.append(out.getvalue())
    return rows


def read(avro: Any, rows: Sequence[bytes]) -> list[Any]:
    """By fastavro, each alone, nothing left. (It writes -128 cents and their like a byte longer than they must be: Java does not.)"""
    schema, found = fastavro.parse_schema(avro), []
    for row in rows:
        body = io.BytesIO(row)
        found.append(fastavro.schemaless_reader(body, schema, None))
        assert not body.read()
    return found


@given(st.lists(LONGS))
@example(EDGES)
@example([1] * (AT_ONCE + 1))
def test_numbers_are_written_as_alone(numbers: list[int]) -> None:
    values = np.array(numbers, np.int64)
    assert joined([zigzags(values)]) == written("long", numbers)
    assert joined(decimals(values)) == [unscaled(number) for number in numbers]


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.booleans(), st.text(max_size=4))))
def test_columns_make_a_row_one_after_the_other(rows: list[tuple[float, bool, str]]) -> None:
    doubles, flags = np.array([row[0] for row in rows], np.float64), np.array([row[1] for row in rows], np.bool_)
    found = joined([fixed(doubles), fixed(flags), *texts([row[2] for row in rows]), optional_doubles(doubles, flags)])
    names = ("double", "boolean", "string", ["null", "double"])
    record = {"type": "record", "name": "row", "fields": [{"name": f"f{n}", "type": avro} for n, avro in enumerate(names)]}
    assert found == written(record, [dict(zip(["f0", "f1", "f2", "f3"], (*row, row[0] if row[1] else None), strict=True)) for row in rows])


@pytest.mark.parametrize(
    ("avro", "dtype", "values"),
    [
        ("long", pl.Int64, LONGS),
        ("boolean", pl.Boolean, st.booleans()),
        ("string", pl.String, st.text(max_size=4)),
        ("double", pl.Float64, st.floats(allow_nan=False)),
        (DECIMAL, pl.Decimal(38, 2), LONGS.map(cents)),
        (DECIMAL, pl.Decimal(38, 2), (LONGS | st.integers(-(10**38) + 1, 10**38 - 1)).map(cents)),
    ],
    ids=["long", "boolean", "string", "double", "decimal of 64 bits", "decimal of 128 bits"],
)
@given(st.data())
def test_a_column_is_written_as_its_values_are_alone_nulls_included(avro: Any, dtype: Any, values: Any, data: st.DataObject) -> None:
    found = data.draw(st.lists(st.none() | values, max_size=6))
    with mock.patch.object(encoder, "FEW", data.draw(st.sampled_from([0, encoder.FEW]))):
        rows = joined(column(pl.Series(found, dtype=dtype), ["null", avro]))
    assert read(["null", avro], rows) == found
    assert avro == DECIMAL or rows == written(["null", avro], found)


@pytest.mark.parametrize("count", [encoder.FEW - 1, encoder.FEW, 2 * AT_ONCE + 1])
def test_many_texts_are_written_as_alone(count: int) -> None:
    found = [(None, "", "a", "ü", "k" * 200)[number % 5] for number in range(count)]
    assert joined(column(pl.Series(found), ["null", "string"])) == written(["null", "string"], found)
    named = [(it or "b")[:1] for it in found]
    assert joined(column(pl.Series(named, dtype=pl.Enum(["a", "b", "ü", "k"])), "string")) == written("string", named)


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 5), (4, 1)])
def test_bytes_that_are_not_there_make_no_row(start: int, length: int) -> None:
    with pytest.raises(IndexError):
        joined([fixed(np.zeros(4, np.uint8))._replace(start=np.array([start]), length=np.array([length]))])


def test_a_value_is_chosen_or_stands_there_already() -> None:
    assert joined([chosen([NULL, SOME], np.array([1, 0])), listed([b"a", b""])]) == [SOME + b"a", NULL]
