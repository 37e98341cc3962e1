"""The file of an atomic log. In: its path. Out: a connection to its tables. Imports nothing that starts a thread."""

import sqlite3
from pathlib import Path

TABLES = """
CREATE TABLE IF NOT EXISTS producers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY, id TEXT, epoch INTEGER, committed INTEGER, topic TEXT, key BLOB, value BLOB, headers TEXT);
CREATE INDEX IF NOT EXISTS hidden ON rows (id, epoch) WHERE committed = 0;
CREATE INDEX IF NOT EXISTS of_topic ON rows (topic, key);
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection that commits at once where nobody has begun a transaction; the tables are there."""
    file = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("PRAGMA synchronous = OFF")  # a kill takes the process, not the machine
    file.executescript(TABLES)
    return file
