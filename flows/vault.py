"""The tables of a state, each written once. In: tables. Out: what a snapshot holds in place of each: its bytes, or the name of a file.

    snapshot 1     A B c        files A, B; c is small
    snapshot 2     A   D c      D is written; B stays, as the flow may have to go on from snapshot 1
    snapshot 3     A   D c      B goes: snapshot 2 is durable, else the flow had not come so far

A file is on disk before the snapshot that names it is written, and its name is never used again. Files that a kill left over go at the
next start.
"""

import io
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from flows import recovery
from flows.stop import MISMATCH, Stop

FOLDER = "tables"
LARGE_BYTES = 64 << 10
FILE = b"ARROW1"  # what a file of Arrow IPC begins with, and a stream never
DAMAGED = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)  # what polars raises of a table that is
END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream: polars takes one that is cut short behind its schema for an empty table
NAME = re.compile(r"[0-9a-f]{32}\.arrow")

Kept = bytes | str


class Vault:
    """Of one key's state. Tables never change, so one that was asked for before is the same object."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory`: the recovery directory; without one, all tables are bytes in the snapshot."""
        self.folder = directory and directory / FOLDER
        self.before: dict[int, tuple[pl.DataFrame, Kept]] = {}
        self.now: dict[int, tuple[pl.DataFrame, Kept]] = {}
        self.gone: set[str] = set()
        self.written = 0  # bytes of files

    def put(self, table: pl.DataFrame) -> Kept:
        """What stands for the table in this snapshot. Raises Stop when the directory takes no more."""
        known = self.now.get(id(table)) or self.before.get(id(table)) or (table, self._stored(table))
        self.now[id(table)] = known
        return known[1]

    def get(self, kept: Kept) -> pl.DataFrame:
        """The table."""
        if isinstance(kept, bytes):
            table = unpacked(kept)
        elif self.folder is None:
            raise ValueError(f"table {kept} without a directory that holds it")
        else:
            table = unpacked((self.folder / kept).read_bytes())
        self.before[id(table)] = (table, kept)
        return table

    def end(self) -> None:
        """The snapshot has been made: forget what no snapshot holds that the flow may go on from."""
        if self.folder is not None:
            for name in self.gone:
                (self.folder / name).unlink(missing_ok=True)
            self.gone = {kept for _, kept in self.before.values() if isinstance(kept, str)}
            self.gone -= {kept for _, kept in self.now.values() if isinstance(kept, str)}
        self.before, self.now = self.now, {}

    def _stored(self, table: pl.DataFrame) -> Kept:
        octets = packed(table)
        if self.folder is None or len(octets) < LARGE_BYTES:
            return octets
        name = f"{uuid.uuid4().hex}.arrow"
        try:
            if not self.folder.exists():
                self.folder.mkdir(exist_ok=True)
                _sync(self.folder.parent)
            with (self.folder / name).open("xb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            _sync(self.folder)
        except OSError as error:
            why = recovery.unusable(self.folder.parent, error)
            raise why if isinstance(why, Stop) else Stop(1, f"kpi: {why}") from None
        self.written += len(octets)
        return name


def _sync(folder: Path) -> None:
    """Its entries are on disk."""
    entries = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entries)
    finally:
        os.close(entries)


def tidy(directory: Path, states: list[Any]) -> int:
    """Remove the files that none of the states names, which the flow goes on from: how many. Raises Stop when one that is named is gone."""
    named = set(_names(states))
    there = {file.name: file for file in (directory / FOLDER).glob("*.arrow")}
    if lost := named - set(there):
        raise Stop(MISMATCH, f"{directory}: {len(lost)} of {len(named)} files are missing in {directory / FOLDER}; bring them back")
    for name in set(there) - named:
        there[name].unlink()
    return len(there) - len(named)


def _names(state: Any) -> Iterator[str]:  # noqa: ANN401 - any state
    """By what they look like: a topic, too, may be called `orders.arrow`."""
    if isinstance(state, str) and NAME.fullmatch(state):
        yield state
    elif isinstance(state, dict | list):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _names(part)


def packed(table: pl.DataFrame) -> bytes:
    """A table as a stream of Arrow IPC. (Written as a file of it, polars asks its engine first: 0.6 ms for what takes 0.06.)"""
    out = io.BytesIO()
    table.write_ipc_stream(out, compression="lz4")  # panes of one group set are much alike
    return out.getvalue()


def unpacked(table: bytes) -> pl.DataFrame:
    """The table of `packed`; or of one that an earlier version of this program wrote, as a file of Arrow IPC. Raises ValueError."""
    is_file = table.startswith(FILE)
    if not is_file and not table.endswith(END):
        raise ValueError("a table that is cut short")
    try:
        return (pl.read_ipc if is_file else pl.read_ipc_stream)(io.BytesIO(table))
    except DAMAGED as error:
        raise ValueError(f"a table that is none ({error})") from None
