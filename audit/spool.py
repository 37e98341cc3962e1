"""Any number of rows as one Parquet file. In: rows, a schema. Out: the file. Keeps some of them in memory, writes to a directory."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

ROWS = 100_000  # kept in memory until they are written


class Spool:
    """Takes rows as tuples in the order of the schema."""

    def __init__(self, file: Path, schema: Mapping[str, pl.DataType]) -> None:
        self._file, self._schema = file, schema
        self._parts: list[Path] = []
        self._rows: list[tuple[Any, ...]] = []

    def take(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add rows."""
        self._rows += rows
        if len(self._rows) >= ROWS:
            self._write()

    def done(self) -> Path:
        """The file with all of them."""
        self._write()
        pl.scan_parquet(self._parts).sink_parquet(self._file)
        return self._file

    def _write(self) -> None:
        self._parts.append(self._file.with_suffix(f".{len(self._parts):06}"))
        pl.DataFrame(self._rows, schema=self._schema, orient="row").write_parquet(self._parts[-1])
        self._rows = []
