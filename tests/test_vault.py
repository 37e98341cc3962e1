"""Tables of a state: each is written once, is there for as long as the flow may go on from a snapshot that names it, and not for longer."""

import errno
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import vault
from flows.stop import FULL, MISMATCH, Stop
from flows.vault import FOLDER, Kept, Vault, packed, tidy, unpacked


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table is a large one."""
    monkeypatch.setattr(vault, "LARGE_BYTES", 0)


def table(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"n": numbers}, schema={"n": pl.Int64})


def files(directory: Path) -> set[str]:
    return {file.name for file in (directory / FOLDER).glob("*")}


def snapshot(kept: Vault, tables: Sequence[pl.DataFrame]) -> list[Kept]:
    state = [kept.put(one) for one in tables]
    kept.end()
    return state


def test_a_table_that_stays_is_written_once(tmp_path: Path) -> None:
    kept, stays = Vault(tmp_path), table(1)
    states = [snapshot(kept, [stays, table(number)]) for number in range(5)]
    assert len({state[0] for state in states}) == 1
    assert len({state[1] for state in states}) == 5


@settings(deadline=None)
@given(st.lists(st.tuples(st.sets(st.integers(0, 5)), st.sampled_from(["on", "on", "on", "killed", "killed before"])), max_size=12))
def test_whatever_snapshot_the_flow_goes_on_from_its_tables_are_there(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> None:
    directory = tmp_path_factory.mktemp("vault")
    kept, tables = Vault(directory), {number: table(number) for number in range(6)}
    durable: list[tuple[list[Kept], list[int]]] = [([], [])]
    for wanted, then in drawn:
        numbers = sorted(wanted)
        durable.append((snapshot(kept, [tables[number] for number in numbers]), numbers))
        if then == "on":
            continue
        state, numbers = durable[-2 if then == "killed before" else -1]  # the last epoch may not have been finished
        tidy(directory, [{"levels": {0: state}}])
        assert files(directory) == {str(name) for name in state}
        kept = Vault(directory)
        assert [kept.get(name)["n"].to_list() for name in state] == [[number] for number in numbers]
        tables |= {number: kept.get(name) for number, name in zip(numbers, state, strict=True)}
        durable = [(state, numbers)]
    for _ in range(3):
        state = snapshot(kept, [])
    assert files(directory) == set(state)


def test_a_file_its_name_and_its_folder_are_on_disk_before_the_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = set[int](), os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    name = Vault(tmp_path).put(table(1))
    assert synced == {path.stat().st_ino for path in (tmp_path, tmp_path / FOLDER, tmp_path / FOLDER / str(name))}


def test_a_small_table_and_one_without_a_directory_are_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(Vault().put(table(1)), bytes)
    monkeypatch.setattr(vault, "LARGE_BYTES", 1_000)
    assert isinstance(Vault(tmp_path).put(table(1)), bytes)
    assert isinstance(Vault(tmp_path).put(table(*range(1_000))), str)


def test_a_file_that_is_named_and_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    state = snapshot(Vault(tmp_path), [table(1), table(2)])
    (tmp_path / FOLDER / str(state[0])).unlink()
    with pytest.raises(Stop, match=r"1 of 2 files are missing in .*tables; bring them back") as raised:
        tidy(tmp_path, [{"published": state[0], "levels": {0: [state[1]]}}])
    assert raised.value.code == MISMATCH


def test_a_topic_that_is_called_like_a_file_is_none(tmp_path: Path) -> None:
    state = snapshot(Vault(tmp_path), [table(1)])
    assert tidy(tmp_path, [{"plan": {"topic": "orders.arrow"}, "levels": {0: state}}]) == 0
    assert files(tmp_path) == set(state)


def test_a_full_disk_ends_the_flow_with_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Stop) as raised:
        Vault(tmp_path).put(table(1))
    assert raised.value.code == FULL


def test_a_table_of_an_earlier_version_is_still_read() -> None:
    table, file = pl.DataFrame({"start": [1, 2], "sum:n": pl.Series([3, None], dtype=pl.Int128)}), io.BytesIO()
    table.write_ipc(file, compression="lz4")
    assert unpacked(file.getvalue()).equals(table)
    assert unpacked(packed(table)).equals(table)


def test_a_table_that_is_cut_short_is_none_not_an_empty_one() -> None:
    octets = packed(pl.DataFrame({"n": range(1_000)}))
    for length in range(len(octets)):
        with pytest.raises((ValueError, pl.exceptions.PolarsError)):
            unpacked(octets[:length])
