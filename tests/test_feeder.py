"""The harness' own books: what it fed stands in the topic, each record once; and it sees where that is not so."""

from collections import Counter

from tests.chaos.feeder import Place, Value, misplaced

SENT: dict[Place, Value] = {(0, 0): b"a", (0, 1): None, (1, 0): b"a"}
SOMEWHERE: Counter[tuple[int, Value]] = Counter({(0, b"c"): 2})
STANDS = {**SENT, (0, 2): b"c", (0, 3): b"c"}


def test_records_whose_place_nobody_said_are_counted_and_nothing_is_amiss() -> None:
    assert misplaced(SENT, SOMEWHERE, STANDS) == ("", 0)
    assert misplaced(SENT, Counter(), SENT) == ("", 0)


def test_a_record_that_its_producer_wrote_twice_is_counted() -> None:
    assert misplaced(SENT, SOMEWHERE, {**STANDS, (1, 1): b"a", (0, 4): b"c"}) == ("", 2)


def test_a_record_that_is_missing_elsewhere_or_nobodys_is_seen() -> None:
    for wrong in (
        {at: value for at, value in STANDS.items() if at != (0, 1)},
        {at: value for at, value in STANDS.items() if at != (0, 3)},
        {**STANDS, (1, 0): b"b"},
        {**STANDS, (1, 1): b"c"},
        {**STANDS, (0, 4): b"d"},
    ):
        assert misplaced(SENT, SOMEWHERE, wrong)[0]
