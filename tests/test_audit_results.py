"""When a published value is the recomputed one."""

from decimal import Decimal

from audit.results import FLOOR, RELATIVE, Wanted, agree


def test_floats_agree_to_a_tolerance_and_all_else_exactly() -> None:
    assert agree(Wanted(1.0), 1.0 + RELATIVE / 2)
    assert not agree(Wanted(1.0), 1.0 + RELATIVE * 2)
    assert agree(Wanted(0.5, 1e100 * FLOOR), 0.5 + 1e100 * FLOOR / 2)  # 1e100 + 0.5 - 1e100, in doubles
    assert not agree(Wanted(0.5, 1e100 * FLOOR), 0.5 + 1e100 * FLOOR * 2)
    assert agree(Wanted(10**18), 10**18)
    assert not agree(Wanted(10**18), 10**18 + 1)
    assert agree(Wanted(Decimal("1.10")), Decimal("1.1"))
    assert not agree(Wanted(Decimal("99999999999999999999.01"), 1.0), Decimal("99999999999999999999.02"))
    assert not agree(Wanted("a"), "A")


def test_null_agrees_with_null_alone() -> None:
    assert agree(Wanted(None), None)
    assert not agree(Wanted(None), 0)
    assert not agree(Wanted(0.0, 1.0), None)
    assert not agree(Wanted(None, 1.0), 0.0)
