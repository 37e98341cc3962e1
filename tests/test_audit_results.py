"""When a published value is the recomputed one."""

from decimal import Decimal

from audit.results import FLOOR, RELATIVE, agree


def test_floats_agree_to_a_tolerance_and_all_else_exactly() -> None:
    assert agree(1.0, 1.0 + RELATIVE / 2, 0.0)
    assert not agree(1.0, 1.0 + RELATIVE * 2, 0.0)
    assert agree(0.5, 0.5 + 1e100 * FLOOR / 2, 1e100 * FLOOR)  # 1e100 + 0.5 - 1e100, in doubles
    assert not agree(0.5, 0.5 + 1e100 * FLOOR * 2, 1e100 * FLOOR)
    assert agree(10**18, 10**18, 0.0)
    assert not agree(10**18, 10**18 + 1, 0.0)
    assert agree(Decimal("1.10"), Decimal("1.1"), 0.0)
    assert not agree(Decimal("99999999999999999999.01"), Decimal("99999999999999999999.02"), 1.0)
    assert not agree("a", "A", 0.0)


def test_null_agrees_with_null_alone() -> None:
    assert agree(None, None, 0.0)
    assert not agree(None, 0, 0.0)
    assert not agree(0.0, None, 1.0)
    assert not agree(None, 0.0, 1.0)
