"""Groups over the limit, recomputed: which keep a row, and what the rest holds."""

import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

from audit import recompute
from audit.limit import OTHER, short
from audit.results import results
from audit.rows import rows
from flows.plan import Kpi, TopicPlan
from flows.windows import Window

WINDOW = Window(1000, "1s")
SHARDS = 4


@dataclass(frozen=True)
class Limited:
    """As much of a plan as a window needs, with a limit."""

    kpis: tuple[Kpi, ...]
    groups: tuple[str, ...]
    max_groups: int
    shards: int = 1


def rows_of(tmp_path: Path, events: list[tuple[int, str | None, str | None]], most: int) -> dict[tuple[Any, ...], int]:
    """(start, a, b) -> events."""
    shape = {"time": pl.Int64, "g0": pl.String, "g1": pl.String}
    pl.DataFrame(events, schema=shape, orient="row").with_columns(verdict=pl.lit("folded")).write_parquet(tmp_path / "part.parquet")
    plan = cast("TopicPlan", Limited((Kpi("n", "count"),), ("a", "b"), most, SHARDS))
    database = recompute.connect(tmp_path)
    rows(database, plan, (WINDOW, ("a", "b")), recompute.counted([tmp_path / "part.parquet"]), "want")
    return {(row["start"], row["g0"], row["g1"]): row["events"] for row in recompute.fetched(database, "SELECT * FROM want")}


@pytest.mark.parametrize("most", [8, 16, 40])
def test_the_groups_with_the_smallest_crc32_of_a_shard_stay_and_the_rest_is_one(tmp_path: Path, most: int) -> None:
    events: list[tuple[int, str | None, str | None]] = [
        (500 + 1000 * (n % 2), None if n % 7 == 0 else f"a{n % 31}", f"b{n % 5}") for n in range(700)
    ]
    events += [(500, OTHER, OTHER), (500, OTHER, None)]
    wanted: Counter[tuple[Any, ...]] = Counter()
    for start in (0, 1000):
        groups = Counter((a, b) for time, a, b in events if time // 1000 * 1000 == start)
        for shard in range(SHARDS):
            hashes = {
                group: crc
                for group in groups
                if (crc := zlib.crc32("\x1f".join(value or "\0" for value in group).encode())) % SHARDS == shard and group != (OTHER, OTHER)
            }
            kept = sorted(hashes, key=lambda group: hashes[group])[: max(1, most // SHARDS)]
            wanted.update({(start, *group): groups[group] for group in kept})
            wanted.update({(start, OTHER, OTHER): sum(groups[group] for group in hashes if group not in kept)})
        wanted[start, OTHER, OTHER] += groups[OTHER, OTHER]
    assert rows_of(tmp_path, events, most) == {key: count for key, count in wanted.items() if count}


def test_below_the_limit_every_group_has_its_row(tmp_path: Path) -> None:
    assert rows_of(tmp_path, [(0, "a", None), (1, "b", ""), (2, "b", "")], 8_000) == {(0, "a", None): 1, (0, "b", ""): 2}


def test_a_long_value_is_cut_between_characters_and_a_hash_follows() -> None:
    assert short("a" * 1024) == "a" * 1024
    cut = short("ä" * 511 + "aaa")
    assert cut is not None
    assert cut.startswith("ä" * 511 + "aa…")
    assert len(cut) == 513 + 1 + 32
    assert short("€" * 400) != short("€" * 401)
    assert short(None) is None


def test_late_events_of_a_repair_push_no_group_out_of_its_row(tmp_path: Path) -> None:
    """With a limit of 2 and one shard: the late group takes the room there is, or goes to the rest, whatever its crc32."""
    names = sorted(("a", "b", "c", "d"), key=lambda name: zlib.crc32(name.encode()))
    for punctual, wanted in (
        (names[3:], {names[3]: 1, names[0]: 1, OTHER: 2}),
        (names[2:], {names[2]: 1, names[3]: 1, OTHER: 2}),
        (names[1:], {names[1]: 1, names[2]: 1, OTHER: 2}),
    ):
        said = [(offset, 500, name, "folded" if name in punctual else "late") for offset, name in enumerate(names)]
        frame = pl.DataFrame(said, {"offset": pl.Int64, "time": pl.Int64, "g0": pl.String, "verdict": pl.String}, orient="row")
        frame.with_columns(pl.lit(0).alias("partition"), pl.lit(value=True).alias("kept")).write_parquet(tmp_path / "part.parquet")
        plan = cast("TopicPlan", Limited((Kpi("n", "count"),), ("a",), 2))
        database = recompute.connect(tmp_path)
        rows(database, plan, (WINDOW, ("a",)), recompute.counted([tmp_path / "part.parquet"], {0: 4}), "mended")
        assert {row["g0"]: row["events"] for row in recompute.fetched(database, "SELECT * FROM mended")} == wanted


def test_a_second_repair_pushes_no_group_out_of_the_row_that_the_first_one_gave_it(tmp_path: Path) -> None:
    """With a limit of 2: one group of the flow, one of the first repair, and a late one with a smaller crc32 after it."""
    first, second, flow = sorted(("a", "b", "c"), key=lambda name: zlib.crc32(name.encode()))
    said = [(0, 500, flow, "folded"), (1, 500, second, "late"), (2, 500, first, "late")]
    frame = pl.DataFrame(said, {"offset": pl.Int64, "time": pl.Int64, "g0": pl.String, "verdict": pl.String}, orient="row")
    frame.with_columns(pl.lit(0).alias("partition"), pl.lit(value=True).alias("kept")).write_parquet(tmp_path / "part.parquet")
    plan = cast("TopicPlan", Limited((Kpi("n", "count"),), ("a",), 2))
    database = recompute.connect(tmp_path)
    database.execute("CREATE TABLE have AS SELECT 0 AS start, 0 AS \"end\", '' AS key, NULL AS row WHERE false")
    for stop, wanted in ((2, {flow: 1, second: 1}), (3, {flow: 1, second: 1, OTHER: 1})):
        rows(database, plan, (WINDOW, ("a",)), recompute.counted([tmp_path / "part.parquet"], {0: stop}), "mended", have="have")
        assert {row["g0"]: row["events"] for row in recompute.fetched(database, "SELECT * FROM mended")} == wanted
        database.execute("CREATE OR REPLACE TABLE have AS SELECT start, \"end\", key, 'published' AS row FROM mended")


def test_the_groups_over_the_limit_are_no_counter_together(tmp_path: Path) -> None:
    said = [(offset, 500 + offset, name, 10 * offset) for offset, name in enumerate("aabbccdd")]
    frame = pl.DataFrame(said, {"offset": pl.Int64, "time": pl.Int64, "g0": pl.String, "m0": pl.Int64}, orient="row")
    frame.with_columns(partition=pl.lit(0), verdict=pl.lit("folded")).write_parquet(tmp_path / "part.parquet")
    plan = cast("TopicPlan", Limited((Kpi("meter", "increase", "x"),), ("a",), 2))
    database = recompute.connect(tmp_path)
    rows(database, plan, (WINDOW, ("a",)), recompute.counted([tmp_path / "part.parquet"]), "want")
    found = [(row["g0"], results(plan, row)["meter"].value) for row in recompute.fetched(database, "SELECT * FROM want")]
    assert sorted(value for name, value in found if name != OTHER) == [10, 10]
    assert [value for name, value in found if name == OTHER] == [None]
