"""When a flow was begun anew, as the markers of kpi.progress tell it, whole or compacted."""

import pytest

from audit.lineage import Begun, Marker, beginning
from audit.topic import CannotVerifyError

OLD = [Marker(1, "a", 1, "x"), Marker(2, "a", 2, "x"), Marker(3, "a", 2, "y")]  # a restart has another owner, and the same lineage
RESET = Marker(10, "r", 0, "reset")
NEW = [Marker(20, "b", 0, "z"), Marker(21, "b", 1, "z")]
LATER = [Marker(40, "c", 0, "w"), Marker(42, "c", 1, "w")]


def test_a_flow_that_was_only_restarted_was_not_begun_anew() -> None:
    assert beginning([OLD, OLD[1:]], "kpi") == Begun()
    assert beginning([], "kpi") == Begun()


def test_what_counts_begins_with_the_first_commit_after_the_last_reset() -> None:
    #  a a a | reset  b b | reset  c c       ──► the first c of either part
    assert beginning([[*OLD, RESET, *NEW], [RESET, Marker(19, "d", 0, "v")]], "kpi") == Begun(19, 1)
    assert beginning([[*OLD, RESET, *NEW, Marker(30, "s", 0, "reset"), *LATER]], "kpi") == Begun(40, 2)


def test_a_part_that_was_compacted_is_told_by_the_other_and_a_lineage_by_the_one_before() -> None:
    assert beginning([[*OLD, RESET, *NEW], NEW[-1:]], "kpi") == Begun(20, 1)
    assert beginning([[*OLD, *NEW]], "kpi").since_ms == 20
    assert beginning([NEW[-1:], NEW[-1:]], "kpi") == Begun(), "forgotten"


def test_what_stands_before_is_named_by_the_moment_and_the_resets_that_are_known() -> None:
    said = "final rows and records from before 1970-01-01T00:00:40Z, when the flow was begun anew"
    assert [Begun(40_000, resets).former.removeprefix(said) for resets in (0, 1, 2)] == ["", " (make reset)", " (make reset, 2 times)"]


@pytest.mark.parametrize("parts", [[[RESET], [RESET]], [[*OLD, RESET, NEW[0]], [*OLD, RESET]]])
def test_a_reset_without_a_row_since_is_said(parts: list[list[Marker]]) -> None:
    with pytest.raises(CannotVerifyError, match=r"was begun anew \(make reset, 1970-01-01T00:00:00.010Z\) and has published nothing since"):
        beginning(parts, "kpi")
