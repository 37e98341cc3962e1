"""How many groups of a stretch keep a row of their own, and how long their names may be. In: tables of groups. Out: the same, cut. Pure.

Of each stretch (slice or window) the groups with the smallest crc32 stay; all others become one, the rest, whose values all are OTHER.

    groups by crc32    3  7  12  20 | 31  44  90      keep 4
                       a  d   f   b | __other__       whoever is not among the first four of a part is not among those of the whole

So what is cut away can never come back, and what stays was never cut: parts may be cut before they are merged, at any level and in any
order, and always the same groups stay, each with all of its events. (Bottom-k sampling; Cohen and Kaplan, PODC 2007.)
"""

import hashlib
import zlib
from collections.abc import Sequence
from functools import reduce
from operator import and_

import numpy as np
import polars as pl

from flows import aggregates
from flows.plan import TopicPlan
from flows.windows import START

OTHER = "__other__"
LONGEST_BYTES = 1024
CRC = "crc32"


def keep_of(plan: TopicPlan) -> int:
    """How many groups a shard keeps of a stretch: its part of the plan's, and one at least."""
    return max(1, plan.max_groups // plan.shards)


def crcs(table: pl.DataFrame, groups: Sequence[str]) -> pl.Series:
    """The crc32 of each row's group (CRC, Int64): the same in every process and version, as the shard and the rest depend on it.

    Groups that are spelled alike (a null and the text NUL) have one crc32; what depends on more than that looks at the values too.
    """
    names = table.select(pl.concat_str([pl.col(group).fill_null("\0") for group in groups], separator="\x1f")).to_series().to_list()
    return pl.Series(CRC, [zlib.crc32(name.encode()) for name in names], dtype=pl.Int64)


def is_rest(table: pl.DataFrame, groups: Sequence[str]) -> pl.Series:
    """Whether each row is the rest: all of its values are OTHER. A group of events that have just these values is part of it."""
    found: pl.Series = reduce(and_, (table[group] == OTHER for group in groups))
    return found.fill_null(value=False) if found.null_count() else found


def cut(table: pl.DataFrame, groups: Sequence[str], keep: int, plan: TopicPlan) -> tuple[pl.DataFrame, int]:
    """A table in which each stretch has at most `keep` groups and the rest; and how many rows went into the rest just now.

    The crc32 of the groups may stand in a column CRC, which goes.
    """
    if len(table) > keep and _most(table) > keep:
        rest = is_rest(table, groups)
        named = table.filter(~rest)
        if _most(named) > keep:
            stays = _first(named, groups, keep)
            gone = named.filter(~stays).with_columns(pl.lit(OTHER).alias(group) for group in groups)
            merged = aggregates.merge(pl.concat([table.filter(rest), gone]).drop(CRC, strict=False), plan, [START, *groups])
            return pl.concat([named.filter(stays).drop(CRC, strict=False), merged]), len(gone)
    return table.drop(CRC) if CRC in table.columns else table, 0


def _most(table: pl.DataFrame) -> int:
    """The rows of the stretch that has most of them."""
    return int(np.unique(table[START].to_numpy(), return_counts=True)[1].max(initial=0))


def _first(table: pl.DataFrame, groups: Sequence[str], keep: int) -> pl.Series:
    """The first `keep` rows of each stretch by crc32; where that is equal the smaller values come first, null before any text."""
    starts, hashes = table[START].to_numpy(), (table[CRC] if CRC in table.columns else crcs(table, groups)).to_numpy()
    order = np.lexsort((hashes, starts))
    if ((np.diff(starts[order]) == 0) & (np.diff(hashes[order]) == 0)).any():
        keys = table.select(START, pl.Series(CRC, hashes), *groups).with_row_index("row")
        order = keys.sort(START, CRC, *groups)["row"].to_numpy()
    ordered = starts[order]
    stays = np.zeros(len(table), np.bool_)
    stays[order[np.arange(len(table)) - np.searchsorted(ordered, ordered) < keep]] = True
    return pl.Series(stays)


def shortened(table: pl.DataFrame, groups: Sequence[str]) -> pl.DataFrame:
    """A table without group values of more than LONGEST_BYTES: see `short`. Costs a look at the lengths where there are none."""
    longest = table.select(pl.col(groups).str.len_bytes().max()).row(0)
    for group, length in zip(groups, longest, strict=True):
        if length is not None and length > LONGEST_BYTES:
            table = table.with_columns(
                pl.Series(group, [None if value is None else short(value) for value in table[group]], dtype=pl.String)
            )
    return table


def short(value: str) -> str:
    """A group value of more than LONGEST_BYTES, cut between two characters, with a hash of the whole behind it.

    The result is itself longer than LONGEST_BYTES, so it is no other group's value: equal before, equal after, and only then.

    >>> short("a" * 1024) == "a" * 1024, len(short("a" * 1025))
    (True, 1057)
    """
    data = value.encode()
    if len(data) <= LONGEST_BYTES:
        return value
    return f"{data[:LONGEST_BYTES].decode(errors='ignore')}…{hashlib.sha256(data).hexdigest()[:32]}"
