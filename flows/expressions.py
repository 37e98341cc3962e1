"""Paths and SQL expressions over the leaves of an event. In: text, frames. Out: types and columns. Pure.

A path of a nested field stands in SQL as it is, `UPPER(address.country)`, or in double quotes.

The dialect is polars' own. What is measured of an event may depend on nothing but that event: not on its neighbours in a batch, not
on the clock. Integers are computed in 128 bits, so that a product beyond a long is null and not another number.
"""

import json
import re
from collections.abc import Mapping, Sequence

import polars as pl

MANY_EVENTS = {
    "Agg",
    "Over",
    "Rolling",
    "Len",
    "Range",
    "Shift",
    "Sort",
    "SortBy",
    "Rank",
    "CumSum",
    "CumCount",
    "Filter",
    "Slice",
    "Explode",
}
FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


TOKENS = re.compile(
    r"""'(?:[^']|'')*'               # a text
    | "(?:[^"]|"")*"                 # a quoted name
    | [A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+  # a path of a nested field
    """,
    re.VERBOSE,
)
WORDS = {"Column", "Literal", "FieldByName", "ToString"}  # nodes that hold a person's words: a text 'Len' is no node Len


def _parsed(text: str) -> pl.Expr:
    """SQL as an expression; a path is the name of a column, as frames have no structs."""
    return pl.sql_expr(TOKENS.sub(lambda token: token[0] if token[0][0] in "'\"" else f'"{token[0]}"', text))


def _nodes(tree: object) -> set[str]:
    """The name of every node in a serialized expression."""
    if isinstance(tree, dict):
        inner = [value[:1] if name == "Alias" else value for name, value in tree.items() if name not in WORDS]
        return set(tree).union(*map(_nodes, inner))
    return set().union(*map(_nodes, tree)) if isinstance(tree, list) else {tree} if isinstance(tree, str) else set()


def roots(text: str, columns: Sequence[str]) -> list[str]:
    """The leaves that a path or an expression reads."""
    return [text] if text in columns else list(dict.fromkeys(_parsed(text).meta.root_names()))


def type_of(text: str, schema: Mapping[str, pl.DataType]) -> pl.DataType:
    """The type of a path or an expression.

    Raises polars' exceptions for what is no SQL or reads no leaf, ValueError for what looks at more than one event or at the clock.
    """
    if text in schema:
        return schema[text]
    expression = _parsed(text)
    if _nodes(json.loads(expression.meta.serialize(format="json"))) & MANY_EVENTS:
        raise ValueError("an expression over one event: no aggregates, no windows")
    if not expression.meta.eq(_parsed(text)):
        raise ValueError("an expression that does not depend on the clock")
    return _wide(pl.DataFrame(schema=schema)).select(expression.alias("it")).schema["it"]


def evaluate(frame: pl.DataFrame, text: str, dtype: pl.DataType) -> pl.Series:
    """A value an event; null where it cannot be computed (a division by a decimal zero, a cast that fails) or does not fit `dtype`."""
    if text in frame.columns:
        return _cast(frame[text], dtype)
    read = _wide(frame.select(pl.int_range(pl.len()).alias("__row"), *roots(text, frame.columns)))
    return _evaluate(read, _parsed(text), dtype)


def _evaluate(frame: pl.DataFrame, expression: pl.Expr, dtype: pl.DataType) -> pl.Series:
    """A failure of polars is one of the whole column; halving it finds the events that are to blame."""
    try:
        return _cast(frame.with_columns(expression.alias("it"))["it"], dtype)
    except FAILURES:
        if len(frame) <= 1:
            return pl.Series("it", [None] * len(frame), dtype)
        middle = len(frame) // 2
        return pl.concat(_evaluate(half, expression, dtype) for half in (frame[:middle], frame[middle:]))


def _cast(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Null where one does not fit. A date is its days since 1970, a time of day its microseconds; as text both are as in ISO 8601."""
    if values.dtype == pl.Time:
        values = values.dt.to_string("%H:%M:%S%.f") if dtype == pl.String else values.cast(pl.Int64) // 1000
    return values.cast(dtype, strict=False)


def _wide(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(pl.Int64).cast(pl.Int128))
