"""What every contender must find, from the messages of the topic itself. In: messages. Out: a frame of results, and where others differ.

Shares no code with the flow: fastavro decodes, polars groups the raw values. Frames of results have the columns of KEYS and VALUES.
"""

import io
import json
from collections.abc import Iterable, Sequence

import fastavro
import polars as pl

from bench.clicks import HOUR_MS
from bench.peers import SCHEMA

KEYS = ("window_ms", "start_ms", "country")
VALUES = ("events", "sum", "min", "max")
COLUMNS: dict[str, type[pl.DataType]] = {
    "window_ms": pl.Int64,
    "start_ms": pl.Int64,
    "country": pl.String,
    "events": pl.Int64,
    "sum": pl.Float64,
    "min": pl.Float64,
    "max": pl.Float64,
}
CHUNK = 200_000
NEAR = 1e-9  # relative: sums depend on the order of their parts


def clicks(values: Iterable[bytes]) -> pl.DataFrame:
    """The columns time, country and amount of Confluent-framed Avro."""
    parsed, frames = fastavro.parse_schema(SCHEMA), []
    rows: list[tuple[int, str, float]] = []

    def gather() -> None:
        frames.append(pl.DataFrame(rows, {"time": pl.Int64, "country": pl.String, "amount": pl.Float64}, orient="row"))
        rows.clear()

    for value in values:
        click = fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed, None)
        rows.append((click["event_time"], click["country"], click["amount"]))  # type: ignore[index,call-overload,arg-type] # a record
        if len(rows) == CHUNK:
            gather()
    gather()
    return pl.concat(frames)


def without_closing(found: pl.DataFrame) -> pl.DataFrame:
    """The clicks but those that stand, alone, an hour after all others."""
    return found.filter(pl.col("time") < pl.col("time").max() - HOUR_MS // 2)


def results(found: pl.DataFrame, windows_ms: Sequence[int]) -> pl.DataFrame:
    """Every window and country: [start, start + size), start a multiple of the size."""
    amount = pl.col("amount")
    figures = [pl.len().cast(pl.Int64).alias("events"), amount.sum().alias("sum"), amount.min().alias("min"), amount.max().alias("max")]
    return pl.concat(
        [
            pl.DataFrame(schema=COLUMNS),
            *(
                found.group_by((pl.col("time") // size * size).alias("start_ms"), "country")
                .agg(figures)
                .select(pl.lit(size, pl.Int64).alias("window_ms"), "start_ms", "country", *VALUES)
                for size in windows_ms
            ),
        ]
    )


def written(rows: Iterable[tuple[bytes, bytes]]) -> pl.DataFrame:
    """What a peer wrote, the last value of each key."""
    last = dict(rows)
    found = []
    for key, value in last.items():
        window, start, country = key.decode().split("|", 2)
        row = json.loads(value)
        found.append((int(window), int(start), country, row["events"], *(float(row[name]) for name in VALUES[1:])))
    return pl.DataFrame(found, COLUMNS, orient="row")


def differences(got: pl.DataFrame, want: pl.DataFrame) -> str:
    """How `got` differs from `want`, in one line; nothing when they are equal: numbers, min and max exactly, sums nearly."""
    closed = want["start_ms"].max()
    got = got.filter(pl.col("start_ms") <= closed)  # those of the closing clicks are nobody's business
    doubled = len(got) - got.select(KEYS).n_unique()
    both = want.join(got, on=KEYS, how="full", coalesce=True, suffix="_got")
    missing = both.filter(pl.col("events_got").is_null())
    surplus = both.filter(pl.col("events").is_null())
    unlike = both.drop_nulls().filter(
        (pl.col("events") != pl.col("events_got"))
        | (pl.col("min") != pl.col("min_got"))
        | (pl.col("max") != pl.col("max_got"))
        | ~((pl.col("sum") - pl.col("sum_got")).abs() <= NEAR * pl.col("sum").abs())
    )
    kinds = {"missing": missing, "that nobody wants": surplus, "with other figures": unlike}
    said = [f"{len(rows):,} rows {kind}, as {_shown(rows)}" for kind, rows in kinds.items() if len(rows)]
    return "; ".join([*said, *([f"{doubled:,} rows doubled"] if doubled else [])])


def _shown(rows: pl.DataFrame) -> str:
    first = rows.sort(KEYS).row(0, named=True)
    return f"{first['window_ms']}|{first['start_ms']}|{first['country']} ({first['events']} events, got {first['events_got']})"
