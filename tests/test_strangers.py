"""Partitions without Avro: which dead letters are kept is a function of the messages in their order, not of the batches."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.intake import Position, Reading, take
from tests.batches import Message, batch
from tests.test_intake import GOOD, NOW_MS, PLAN, headers, message, schema_of

MAGIC, GOOD_ONE, SHORT, TOMBSTONE = message(b"\1text"), message(GOOD), message(b""), message(None)
KINDS = {"m": MAGIC, "g": GOOD_ONE, "s": SHORT, "t": TOMBSTONE}


def kept(messages: list[Message], cuts: list[int], *, restart: bool = False) -> tuple[list[int], Position, list[int]]:
    """The offsets of the `magic` letters, the position, and where the partition was marked, of messages cut into batches there."""
    reading = Reading("t")
    reading.meet(0, 0, NOW_MS)
    letters: list[int] = []
    marked: list[int] = []
    for start, end in zip([0, *cuts], [*cuts, len(messages)], strict=True):
        if restart:  # nothing but the position survives
            position = reading.positions[0]
            reading = Reading("t")
            reading.positions[0] = position
        if messages[start:end]:
            _, aside = reading.read(PLAN, 1, [batch(messages[start:end], base_offset=start)], schema_of, NOW_MS)
            letters += [int(h["kpi.offset"]) for h in map(headers, aside) if h["kpi.reason"] == "magic"]
            marked += reading.notes.strange.values()
    return letters, reading.positions[0], marked


def wanted(kinds: str) -> tuple[list[int], int]:
    """The same offsets, and the row at the end, one message after the other."""
    offsets, row = [], 0
    for offset, kind in enumerate(kinds):
        row = row + 1 if kind == "m" else row if kind == "t" else 0
        if kind == "m" and (row <= 1_000 or offset % 1_000 == 0):
            offsets.append(offset)
    return offsets, row


STRETCH = st.tuples(st.sampled_from("mmmgst"), st.sampled_from([1, 2, 600, 999, 1_000, 1_001]))


@settings(max_examples=40, deadline=None)
@given(stretches=st.lists(STRETCH, min_size=1, max_size=6), cuts=st.lists(st.integers(0, 6_000), max_size=4), restart=st.booleans())
def test_the_letters_kept_are_the_same_in_every_batching_and_after_restarts(
    stretches: list[tuple[str, int]], cuts: list[int], *, restart: bool
) -> None:
    kinds = "".join(kind * (count if kind == "m" else 1) for kind, count in stretches)
    messages = [KINDS[kind] for kind in kinds]
    letters, position, _ = kept(messages, sorted({cut for cut in cuts if cut < len(messages)}), restart=restart)
    assert (letters, position.strangers) == wanted(kinds)
    assert position.fates.get("magic", 0) == kinds.count("m"), "all are counted"
    assert sum(position.fates.values()) == position.offset == len(kinds)


@pytest.mark.parametrize(("between", "ends"), [("t", False), ("s", True), ("g", True)])
def test_a_row_ends_with_any_other_fate_but_a_tombstone(between: str, *, ends: bool) -> None:
    kinds = "m" * 999 + between + "mm"
    letters, position, marked = kept([KINDS[kind] for kind in kinds], [])
    assert (position.strangers, marked) == ((2, []) if ends else (1_001, [1_000]))
    assert (1_001 in letters) is ends


def test_a_partition_is_marked_once_a_row_and_again_in_the_next() -> None:
    _, _, marked = kept([MAGIC] * 1_500 + [GOOD_ONE] + [MAGIC] * 1_200, [300, 1_200, 2_000])
    assert marked == [999, 2_500]


def test_a_row_that_ended_in_one_batch_is_not_gone_on_with_in_the_next() -> None:
    letters, position, marked = kept([MAGIC] * 999 + [GOOD_ONE] + [MAGIC] * 3, [1_000])
    assert (position.strangers, marked, letters[-3:]) == (3, [], [1_000, 1_001, 1_002])


def test_another_partition_has_a_row_of_its_own() -> None:
    positions = {0: Position(0, strangers=1_000), 1: Position(0, strangers=999)}
    got = take(PLAN, positions, [batch([message(b"\1text")] * 2, p, 0) for p in (0, 1)], schema_of, NOW_MS)
    assert [(h["kpi.partition"], h["kpi.offset"]) for h in map(headers, got.aside)] == [("0", "0"), ("1", "0")]
    assert {p: at.strangers for p, at in got.positions.items()} == {0: 1_002, 1: 1_001}
