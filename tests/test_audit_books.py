"""What stands in kpi.dead-letters against what must: rows of messages without Avro, batches that could not be read."""

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import recompute
from audit.aside import SCHEMA, Aside
from audit.books import books
from audit.compare import Tally
from audit.gather import Doubts
from audit.lineage import Begun
from audit.survey import Survey
from tests.test_strangers import STRETCH, wanted

FATES = {"m": "magic", "g": "folded", "s": "short", "t": "tombstone"}
UNKEPT = "dead letters of a partition that holds no Avro, of which a sample is kept"
UNREAD = "batches that the flow could not unpack"
Letter = tuple[int, int, str, str | None, int | None]  # SCHEMA but for the stamp


def found(kinds: str, letters: Sequence[Letter], gone: Collection[int] = (), cut: Collection[int] = ()) -> tuple[list[str], dict[str, int]]:
    """Differences and what is left out, of partition 0 with these messages. `gone`: offsets that no reader is given."""
    fates = [FATES[kind] for kind in kinds]
    for _, first, _, _, last in letters:
        fates[first : first + 1 if last is None else last + 1] = (
            fates[first : first + 1] if last is None else ["batch"] * (last + 1 - first)
        )
    there = [offset for offset in range(len(kinds)) if offset not in gone]
    with tempfile.TemporaryDirectory() as name:
        judged, aside = Path(name, "judged.parquet"), Path(name, "aside.parquet")
        shape = {"partition": pl.Int32, "offset": pl.Int64, "verdict": pl.String, "cause": pl.String}
        pl.DataFrame([(0, offset, fates[offset], None) for offset in there], shape, orient="row").write_parquet(judged)
        pl.DataFrame([(*letter[:-1], 1, letter[-1]) for letter in letters], SCHEMA, orient="row").write_parquet(aside)
        survey = Survey(
            "t",
            cast("Any", None),
            recompute.connect(Path(name)),
            recompute.Judged([judged], {}),
            Aside(aside, Doubts(), frozenset()),
            {0: (min(there, default=0), len(kinds))},
            {0: len(kinds)},
            frozenset(cut),
            None,
            None,
            "",
            Begun(),
        )
        tally = Tally()
        return [str(difference) for difference in books(survey, tally)], tally.left_out


def letters_of(kinds: str) -> list[Letter]:
    kept = [(offset, "magic") for offset in wanted(kinds)[0]] + [(offset, "short") for offset, kind in enumerate(kinds) if kind == "s"]
    return [(0, offset, reason, None, None) for offset, reason in sorted(kept)]


@settings(max_examples=40, deadline=None)
@given(stretches=st.lists(STRETCH, min_size=1, max_size=6), which=st.randoms(use_true_random=False))
def test_of_a_partition_without_avro_exactly_the_sample_must_be_there(stretches: list[tuple[str, int]], which: Any) -> None:
    kinds = "".join(kind * (count if kind == "m" else 1) for kind, count in stretches)
    letters = letters_of(kinds)
    unkept = kinds.count("m") + kinds.count("s") - len(letters)
    assert found(kinds, letters) == ([], {UNKEPT: unkept} if unkept else {})
    if letters:
        lost = letters.pop(which.randrange(len(letters)))
        assert found(kinds, letters)[0] == [f"t[0] offset {lost[1]}: fate: published nothing, recomputed {lost[2]!r}"]


def test_a_batch_that_could_not_be_read_is_one_letter_whether_its_messages_are_there_or_not() -> None:
    kinds = "m" * 900 + "gggggg" + "m" * 900
    letters = [(0, 900, "size", None, 905), *letters_of(kinds)]
    assert found(kinds, letters) == ([], {UNREAD: 1})
    assert found(kinds, letters, gone=range(900, 906)) == ([], {UNREAD: 1}), "and it ends a row"
    assert found(kinds, [*letters, letters[0]])[0] == ["t[0] offset 900: records set aside: published 2, recomputed 1"]
    without = "t[0] offset 900: fate: published nothing, recomputed "
    assert found("m" * 900 + "s" + kinds[901:], letters[1:])[0] == [without + "'short'"]


def test_a_row_whose_beginning_has_expired_may_be_longer_than_it_looks() -> None:
    kinds = "m" * 2_500
    kept = [offset for offset in letters_of(kinds) if offset[1] >= 600]
    assert found(kinds, kept, gone=range(600), cut={0})[0] == []
    assert len(found(kinds, kept, gone=range(600))[0]) == 599, "offsets 1,001 to 1,599"


def test_a_batch_that_could_not_be_read_ends_a_row_so_what_follows_must_be_there() -> None:
    kinds = "m" * 900 + "gggggg" + "m" * 900
    kept = [letter for letter in letters_of(kinds) if letter[1] != 1_500]
    lost = "t[0] offset 1500: fate: published nothing, recomputed 'magic'"
    assert found(kinds, [(0, 900, "size", None, 905), *kept], gone=range(900, 906)) == ([lost], {UNREAD: 1})


def test_a_record_that_is_there_twice_is_compared_as_well() -> None:
    """Of equal copies it is known since when the last one is there; what they say may be wrong, or differ."""
    letter: Letter = (0, 0, "short", None, None)
    assert found("s", [letter, letter])[0] == ["t[0] offset 0: records set aside: published 2, recomputed 1"]
    wrong = "t[0] offset 0: fate: published 'short', recomputed 'folded'"
    assert found("g", [letter, letter])[0] == ["t[0] offset 0: records set aside: published 2, recomputed 1", wrong]
    assert found("s", [letter, (0, 0, "magic", None, None)])[0][0].endswith("set aside: published '2, which differ', recomputed 1")
