"""Groups over the limit, and group values over 1 KiB. In: a table of windows and groups. Out: which of them have no row. Pure.

Of a window and shard the groups with the smallest crc32 keep their rows; the events of all others are counted once more, as one group.
Groups of late events alone, in a repair, take the room that is left: they push out no group that has its row, be it of the flow or of a
repair before.
"""

import hashlib
import zlib
from collections.abc import Sequence

import duckdb

BOUNDS = ("start", '"end"')  # of windows, and what they are put together from: columns
OTHER = "__other__"
LONGEST = 1024  # bytes of a group value
HASH = 32  # hex digits that stand for the rest of a longer one


def short(value: str | None) -> str | None:
    """A group value as rows have it: one beyond 1 KiB is cut between two characters, and a hash of the whole follows."""
    if value is None or len(value) * 4 <= LONGEST or len(octets := value.encode()) <= LONGEST:
        return value
    return octets[:LONGEST].decode(errors="ignore") + "…" + hashlib.sha256(octets).hexdigest()[:HASH]


def over(  # noqa: PLR0913, PLR0917 - a query has many parts
    database: duckdb.DuckDBPyConnection, table: str, names: Sequence[str], most: int, shards: int, have: str = ""
) -> bool:
    """Make the table `gone`: bounds and values of the groups of a table of rows that have none of their own. Whether there are any.

    `most`: groups of a window that all shards keep together; `have`: the table of published rows, where late events are in.
    """
    keep = max(1, most // shards)
    (largest,) = database.execute(f'SELECT max(n) FROM (SELECT count(*) AS n FROM {table} GROUP BY start, "end")').fetchone() or (0,)
    if not names or (largest or 0) <= keep:
        return False
    values = ", ".join(names)
    found = database.execute(f"SELECT DISTINCT {values} FROM {table}").fetchall()
    database.execute(f"CREATE OR REPLACE TABLE hashes ({', '.join(f'{name} VARCHAR' for name in names)}, hash BIGINT)")
    hashed = [(*group, zlib.crc32("\x1f".join("\0" if value is None else value for value in group).encode())) for group in found]
    database.executemany(f"INSERT INTO hashes VALUES ({', '.join('?' for _ in names)}, ?)", hashed)
    same = " AND ".join(f"rows.{name} IS NOT DISTINCT FROM hashes.{name}" for name in names)
    rest = " AND ".join(f"rows.{name} IS NOT DISTINCT FROM '{OTHER}'" for name in names)
    own = (
        f'(rows.start, rows."end", rows.key) NOT IN (SELECT (start, "end", key) FROM {have} WHERE {have}.row IS NOT NULL)'
        if have
        else "false"
    )
    order = ", ".join(["rows.punctual DESC", f"NOT rows.punctual AND {own}", "hash", *(f"rows.{name} NULLS FIRST" for name in names)])
    database.execute(
        f"CREATE OR REPLACE TABLE gone AS SELECT {', '.join(f'rows.{name}' for name in (*BOUNDS, *names))} FROM {table} AS rows "
        f"JOIN hashes ON {same} WHERE NOT ({rest}) "
        f'QUALIFY row_number() OVER (PARTITION BY rows.start, rows."end", hash % {shards} ORDER BY {order}) > {keep}'
    )
    return bool(database.execute("SELECT 1 FROM gone LIMIT 1").fetchone())


def renamed(rows: str, names: Sequence[str]) -> str:
    """SQL: rows with bounds, in which the groups that are `gone` have the values of the one that is counted once more."""
    same = " AND ".join(f"rows.{name} IS NOT DISTINCT FROM gone.{name}" for name in (*BOUNDS, *names))
    values = ", ".join(f"CASE WHEN gone.start IS NULL THEN rows.{name} ELSE '{OTHER}' END AS {name}" for name in names)
    return f"(SELECT rows.* REPLACE ({values}) FROM {rows} AS rows LEFT JOIN gone ON {same})"


def key_of(names: Sequence[str]) -> str:
    """SQL: one text for the values of a group, null apart from every text."""
    each = [f"coalesce('=' || {name}, '-')" for name in names]
    return " || chr(31) || ".join(each) or "''"
