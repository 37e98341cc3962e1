"""Sketches: quantiles and numbers of distinct values, of any number of values in little room. In: values, pairs. Out: the same. Pure.

DDSketch (Masson, Rim, Lee, VLDB 2019) counts values in buckets that are 2 % wide; HyperLogLog (Flajolet et al. 2007), with the estimator
of Ertl (arXiv 1702.01284, algorithm 6), keeps the rarest hash of each of 32,768 parts. Both merge exactly: by adding, and by the maximum.
"""

import math

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

from flows.tallies import COUNT, ITEM, MOST, ROW, aligned, collected, gathered, spread

Numbers = npt.NDArray[np.float64]

# A millionth less than 1 %, so that what logarithms and subnormals round away leaves the result within it.
ACCURACY = 0.01 * (1 - 1e-6)
WIDTH = math.log((1 + ACCURACY) / (1 - ACCURACY))
MIDDLE = math.log(1 - ACCURACY)  # of a bucket, seen from its upper edge: 2 / (gamma + 1)
TINY = 5e-324
# Below 2**26 of the smallest doubles a bucket for each: they are multiples of TINY, so the middle of a bucket cannot be told there.
FEW = 2**26
FINE = FEW * TINY
MIDST = 2**27  # the bucket that ends at 1; all others are within 40,000 of it
LARGEST = math.log(np.finfo(np.float64).max) - 1e-12

BITS = 15
REGISTERS = 2**BITS
RANKS = 64 - BITS  # a rank is at most one more
INFINITE = 1 / (2 * math.log(2))  # the estimator's constant for many registers


def buckets(values: pl.Series) -> pl.Series:
    """The bucket of each finite number: 0 of 0, and the larger the number, the larger its bucket. Int32."""
    plain = values.cast(pl.Float64).to_numpy()
    size = np.abs(plain)
    index = np.ceil(np.log(np.maximum(size, FINE)) / WIDTH) + MIDST
    found = np.where(size < FINE, np.minimum(size, FINE) / TINY, index)
    return pl.Series(ITEM, np.copysign(found, plain).astype(np.int32))


def middles(found: Numbers) -> Numbers:
    """A number within ACCURACY of all that are in a bucket; NaN stays."""
    index = np.abs(found)
    large = np.exp(np.minimum((index - MIDST) * WIDTH + MIDDLE, LARGEST))
    return np.copysign(np.where(index < FEW, np.minimum(index, FEW) * TINY, large), found)


def quantile(tallies: pl.Series, q: float) -> pl.Series:
    """The value at place floor(q * (n - 1)) of the n values that are counted in buckets, within ACCURACY; null of none."""
    place = (q * (pl.col(COUNT).sum() - 1)).floor()
    found = spread(tallies).sort(ROW, ITEM).group_by(ROW).agg(pl.col(ITEM).filter(pl.col(COUNT).cum_sum() > place).first())
    bucket = aligned(found, len(tallies))[ITEM].cast(pl.Float64)
    return pl.Series(middles(bucket.to_numpy()), nan_to_null=True)


def hashed(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs of values as pairs of their hashes (UInt64), each once. Equal values have one hash, in every process, version and type."""
    pairs = pairs.unique()
    values = pairs[ITEM].unique()
    digests = pl.Series("hash", list(map(xxhash.xxh3_64_intdigest, _spelled(values))), dtype=pl.UInt64)
    known = pl.DataFrame({ITEM: values, "hash": digests})
    return pairs.join(known, on=ITEM).select(ROW, pl.col("hash").alias(ITEM)).unique()


def _spelled(values: pl.Series) -> list[bytes]:
    """A text a value, the same for the same number as integer, decimal of any scale or float."""
    if values.dtype.is_float():
        return [(str(int(value)) if value.is_integer() else repr(value)).encode() for value in values.to_list()]
    texts = values.cast(pl.String)
    if values.dtype.is_decimal():
        texts = texts.str.replace(r"(\.\d*?)0+$", "$1").str.strip_suffix(".")
    return texts.cast(pl.Binary).to_list()


def registers(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs of hashes as pairs of a register (UInt16) and a rank (UInt8): how many zeros the rest of the hash begins with, and one."""
    register, rest = pl.col(ITEM) // 2**RANKS, pl.col(ITEM) % 2**RANKS
    rank = rest.bitwise_leading_zeros() - (BITS - 1)
    return pairs.select(ROW, register.cast(pl.UInt16).alias(ITEM), rank.cast(pl.UInt8).alias(COUNT))


def rarest(pairs: pl.DataFrame) -> pl.DataFrame:
    """Each register of a row once, with its largest rank."""
    return collected(pairs.lazy().group_by(ROW, ITEM).agg(pl.col(COUNT).max()), len(pairs))


def bounded(hashes: pl.Series, filled: pl.Series) -> list[pl.Series]:
    """The same lists of hashes and of registers, where no row has both, nor more than MOST hashes: those it had are in its registers.

    So what a row has depends on the hashes it has met, and on nothing else: not on the order in which parts came together.
    """
    moves = ((hashes.list.len() > MOST) | (hashes.is_not_null() & filled.is_not_null())).fill_null(value=False)
    if not moves.any():
        return [hashes, filled]
    moved, stay = (pl.select(pl.when(which).then(hashes)).to_series().alias(hashes.name) for which in (moves, ~moves))
    pairs = rarest(pl.concat([spread(filled), registers(spread(moved))]))
    return [stay, gathered(pairs, len(filled), filled.dtype).alias(filled.name)]


def estimates(tallies: pl.Series) -> pl.Series:
    """How many distinct hashes filled these registers; null where there are none. Standard error 0.57 %."""
    rank = pl.col(COUNT).cast(pl.Int32)
    share = (2.0 ** -rank.cast(pl.Float64)).filter(rank <= RANKS).sum().alias("share")
    found = spread(tallies).group_by(ROW).agg(pl.len().alias("filled"), (rank > RANKS).sum().alias("full"), share).sort(ROW)
    filled, full, shares = (found[name].to_numpy().astype(np.float64) for name in ("filled", "full", "share"))
    weight = shares + REGISTERS * (_empty(1 - filled / REGISTERS) + 2.0**-RANKS * _full(1 - full / REGISTERS))
    counts = np.maximum(np.rint(INFINITE * REGISTERS**2 / weight), MOST + 1).astype(np.int64)
    return aligned(found.select(ROW, pl.Series(COUNT, counts)), len(tallies))[COUNT]


def _empty(x: Numbers) -> Numbers:
    """Ertl's sigma: x + sum of x^(2^k) * 2^(k - 1), of the share of empty registers; infinite where all are."""
    weight, found, before, x = 1.0, x.copy(), np.full_like(x, -1.0), x.copy()
    while (found != before).any():
        x, before = x * x, found
        found, weight = found + x * weight, weight * 2
    return found


def _full(x: Numbers) -> Numbers:
    """Ertl's tau: (1 - x - sum of (1 - x^(2^-k))^2 * 2^-k) / 3, of the share of registers that are not full."""
    weight, found, before, x = 1.0, 1 - x, np.full_like(x, -1.0), x.copy()
    while (found != before).any():
        x, before, weight = np.sqrt(x), found, weight / 2
        found = found - (1 - x) ** 2 * weight
    return found / 3
