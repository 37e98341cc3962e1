"""The sink's parts on an atomic log: what waits, what is committed when, and which state and marker belong together.

epoch      1            2                 3
part   rows ─snapshot─ barrier rows ─snap─ barrier
Kafka                  ▲ rows of 1         ▲ rows of 2
"""

import pickle
from itertools import count
from typing import NoReturn

import pytest

from flows.edge import Marker
from flows.records import Barrier, Record, Row
from flows.sink import Direct, KafkaSink, State, WriteAhead
from flows.stop import FENCED, MISMATCH, Stop
from tests.atomic_log import FENCED as IS_FENCED
from tests.atomic_log import Log, LogEdge

BARRIER = Barrier()


def leave(stop: Stop) -> NoReturn:
    """A test goes on where a flow ends."""
    raise stop


class Life:
    """A sink part between two kills: `epoch` runs one, `state` is what the recovery directory holds since then."""

    numbers = count()

    def __init__(self, log: Log, state: State | None = None) -> None:
        self.state, self.rows = state, list[Row]()
        self.part = WriteAhead(LogEdge(log), pickle.loads(pickle.dumps(state)), leave)

    def epoch(self, rows: int = 2, *, durable: bool = True) -> "Life":
        """A barrier, some rows, a snapshot, which a kill may have kept from the recovery directory."""
        new = [Record("kpi.t.10s", b"key", str(next(self.numbers)).encode()) for _ in range(rows)]
        self.part.write_batch([BARRIER, new[:1]])
        self.part.write_batch([new[1:]])
        state = self.part.snapshot()
        if durable:
            self.state, self.rows = state, self.rows + [tuple(row) for row in new]  # type: ignore[misc] # mypy forgets the length
        return self


@pytest.fixture
def log() -> Log:
    return Log()


def test_rows_go_to_kafka_with_the_barrier_after_their_snapshot_and_not_before(log: Log) -> None:
    part = WriteAhead(LogEdge(log), None, leave)
    part.write_batch([[Record("t", b"k", b"1")]])
    part.write_batch([BARRIER])
    assert log.rows == []  # their epoch is still open: after a kill they would be computed again
    part.snapshot()
    assert log.rows == []  # the snapshot is not durable yet
    part.write_batch([[Record("t", b"k", b"2")], BARRIER, [Record("t", b"k", b"3")]])
    assert [value for _, _, value, _ in log.rows] == [b"1"]
    part.snapshot()
    part.write_batch([BARRIER, BARRIER])
    assert [value for _, _, value, _ in log.rows] == [b"1", b"2", b"3"]


def test_several_epochs_before_a_barrier_go_out_in_one_transaction_in_order(log: Log) -> None:
    part = WriteAhead(LogEdge(log), None, leave)
    for value in (b"1", b"2", b"3"):
        part.write_batch([[Record("t", b"k", value)]])
        part.snapshot()
    part.write_batch([BARRIER])
    assert [value for _, _, value, _ in log.rows] == [b"1", b"2", b"3"]
    assert log.calls.count("commit") == 1
    assert part.snapshot()[2] == []  # what Kafka has leaves the recovery directory


def test_nothing_is_committed_when_the_input_ends_or_an_epoch_was_empty(log: Log) -> None:
    part = WriteAhead(LogEdge(log), None, leave)
    part.snapshot()
    part.write_batch([BARRIER])
    part.write_batch([[Record("t", b"k", b"1")]])
    part.snapshot()
    part.close()
    assert (log.rows, log.marker) == ([], None)


def test_a_kill_before_the_commit_leaves_the_rows_to_the_next_life(log: Log) -> None:
    life = Life(log).epoch()
    assert log.rows == []
    Life(log, life.state)
    assert log.rows == life.rows
    assert log.calls.count("commit") == 1


def test_a_kill_after_the_commit_does_not_send_the_rows_again(log: Log) -> None:
    life = Life(log).epoch()
    life.part.write_batch([BARRIER])
    assert log.rows == life.rows
    Life(log, life.state)
    assert log.rows == life.rows


def test_what_was_not_durable_is_computed_again_and_may_differ(log: Log) -> None:
    life = Life(log).epoch().epoch(rows=3, durable=False)
    again = Life(log, life.state).epoch(rows=5)
    again.part.write_batch([BARRIER])
    assert log.rows == life.rows + again.rows


def test_many_lives_write_every_durable_row_once(log: Log) -> None:
    state, expected = None, list[Row]()
    for lives in range(40):
        life = Life(log, state)
        for epochs in range(lives % 4):
            life.epoch(rows=lives % 3, durable=(lives + epochs) % 5 != 0)
            if (lives + epochs) % 5 == 0:
                break  # killed before that snapshot was durable
        state, expected = life.state, expected + life.rows
    Life(log, state)
    assert log.rows == expected
    assert len(expected) > 40


def test_a_flow_without_its_recovery_directory_stops_at_its_first_barrier(log: Log) -> None:
    Life(log).epoch().epoch()
    assert refused(log, None) == "lost or replaced"


def test_a_flow_without_its_progress_topic_stops(log: Log) -> None:
    life = Life(log).epoch().epoch()
    log.marker = None
    assert refused(log, life.state) == "marker is lost"


def test_another_recovery_directory_stops_the_flow(log: Log) -> None:
    other = Life(Log()).epoch().epoch()
    Life(log).epoch().epoch()
    assert refused(log, other.state) == "another directory"


def test_an_older_copy_of_the_recovery_directory_stops_the_flow(log: Log) -> None:
    life = Life(log).epoch().epoch()
    old = life.state
    life.epoch().epoch()
    assert refused(log, old) == "an older or a diverged directory"


def test_a_copy_that_another_life_went_on_with_stops_the_flow(log: Log) -> None:
    #        ┌─ one: computes sequence 2, is killed before it is committed
    #   1 ───┤
    #        └─ two: computes and commits a sequence 2 of its own
    first = Life(log).epoch()
    one, two = Life(log, first.state), None
    one.epoch()
    two = Life(log, first.state).epoch()
    two.part.write_batch([BARRIER])
    rows = list(log.rows)
    assert refused(log, one.state) == "an older or a diverged directory"
    assert log.rows == rows == first.rows + two.rows


def test_a_refusal_says_the_way_on_and_writes_nothing(log: Log) -> None:
    Life(log).epoch().epoch()
    before = list(log.rows), log.marker
    with pytest.raises(Stop, match="begin anew: `make reset`"):
        Life(log)
    assert (log.rows, log.marker) == before


RESET = Marker("reset", 0, "", "reset")


def test_after_a_reset_only_a_fresh_directory_may_start_and_it_may_be_killed_at_any_moment(log: Log) -> None:
    Life(log).epoch().epoch()
    log.marker = RESET
    Life(log).epoch(durable=False)  # killed before its first snapshot was durable
    durable = Life(log).epoch()  # killed before its rows were committed
    rows = list(log.rows)
    again = Life(log, durable.state)
    again.epoch().part.write_batch([BARRIER])
    assert log.rows == rows + durable.rows + again.rows


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_after_a_reset_no_directory_from_before_it_may_start(log: Log, commits: int) -> None:
    old = Life(log)
    for _ in range(commits):
        old.epoch().part.write_batch([BARRIER])
    old.epoch()
    log.marker = RESET
    assert refused(log, old.state) == "another directory"
    Life(log)  # and not when a fresh one has started meanwhile either
    assert refused(log, old.state) == "another directory"


def test_a_part_that_slept_through_a_reset_is_fenced(log: Log) -> None:
    old = Life(log).epoch()
    Life(log)
    log.marker = RESET
    with pytest.raises(Stop) as caught:
        old.epoch().epoch()
    assert caught.value.code == FENCED


def refused(log: Log, state: State | None) -> str:
    """The part of the reason that the tests know."""
    reasons = ("lost or replaced", "marker is lost", "another directory", "an older or a diverged directory")
    with pytest.raises(Stop) as caught:
        Life(log, state)
    assert caught.value.code == MISMATCH
    return next(reason for reason in reasons if reason in str(caught.value))


@pytest.mark.parametrize("pending", [0, 2])
def test_an_older_instance_that_wakes_up_is_fenced_even_if_the_newer_has_not_written_a_row(log: Log, pending: int) -> None:
    old = Life(log).epoch().epoch(rows=pending)
    Life(log, old.state)
    rows = list(log.rows)
    with pytest.raises(Stop) as caught:
        old.epoch().epoch()
    assert caught.value.code == FENCED
    assert log.rows == rows


def test_two_copies_of_a_flow_write_the_pending_rows_once(log: Log) -> None:
    life = Life(log).epoch()
    Life(log, life.state)  # commits what was pending
    with pytest.raises(Stop) as caught:
        life.epoch()
    assert caught.value.code == FENCED
    assert log.rows == life.rows


def test_a_second_flow_with_another_directory_is_refused_before_it_fences_the_first(log: Log) -> None:
    first = Life(log).epoch().epoch()
    others = [None, Life(Log()).epoch().epoch().state]
    for state in others:
        opened = log.calls.count("init")
        refused(log, state)
        assert log.calls.count("init") == opened
    first.epoch().part.write_batch([BARRIER])
    assert log.rows == first.rows
    assert log.calls.count("open") == 1 + len(others)  # the first never had to look whether it is still the owner


def test_a_refusal_while_an_open_transaction_may_hide_the_marker_waits_for_its_end(log: Log) -> None:
    first = Life(log).epoch().epoch()
    log.hidden = 3
    refused(log, None)
    assert (log.calls.count("glance"), log.calls.count("init")) == (1 + 4, 1)
    first.epoch().part.write_batch([BARRIER])
    assert log.rows == first.rows


def test_what_stays_hidden_is_judged_when_the_older_instance_is_fenced_and_that_does_not_end_it(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.transactions.CERTAIN_S", 0.0)
    first = Life(log).epoch().epoch()
    log.hidden = 1_000
    refused(log, None)
    assert log.calls.count("init") == 2
    log.hidden = 0
    first.epoch().part.write_batch([BARRIER])
    assert log.rows == first.rows


def test_what_an_open_transaction_hides_does_not_hold_up_a_flow_whose_marker_may_be_right(log: Log) -> None:
    life = Life(log).epoch().epoch()
    log.hidden = 1_000  # as a kill in the middle of a commit leaves it, for a minute
    Life(log, life.state)
    assert log.calls.count("glance") == 2
    assert log.rows == life.rows


def test_a_marker_that_is_right_before_an_older_instance_is_fenced_is_checked_again_after(log: Log) -> None:
    life = Life(log).epoch().epoch()
    old = life.state
    rows = len(log.rows)

    class Racing(LogEdge):
        def glance(self) -> tuple[Marker | None, bool]:
            seen = super().glance()
            life.epoch().epoch()  # the older instance goes on until it is fenced
            return seen

    with pytest.raises(Stop, match="an older or a diverged directory") as caught:
        WriteAhead(Racing(log), old, leave)
    assert caught.value.code == MISMATCH
    assert len(log.rows) == rows + 4


def test_offsets_are_shown_after_the_transaction_and_without_rows_too(log: Log) -> None:
    part = WriteAhead(LogEdge(log), None, leave)
    part.write_batch([[Record("t", b"k", b"1")]])
    part.snapshot()
    part.write_batch([Barrier((("t", 0, 7),)), Barrier((("t", 1, 9),))])
    assert [call for call in log.calls if call.startswith(("commit", "show"))] == ["commit", "show [('t', 0, 7)]", "show [('t', 1, 9)]"]


def test_without_durability_rows_are_in_kafka_when_write_batch_returns(log: Log) -> None:
    part = Direct(LogEdge(log))
    rows = [Record("t", b"k", b"1"), Record("t", b"k", b"2")]
    part.write_batch([rows[:1], Barrier((("t", 0, 7),)), rows[1:]])
    assert log.rows == rows
    assert log.calls[-1] == "show [('t', 0, 7)]"


def test_every_part_is_reached_by_its_name_also_when_there_are_more_than_ten() -> None:
    sink = KafkaSink({}, "flow", durable=True, parts=12)
    in_the_order_of_the_engine = sorted(sink.list_parts())
    assert [in_the_order_of_the_engine[sink.part_fn(str(part))] for part in range(12)] == [str(part) for part in range(12)]


def test_a_fenced_part_is_gone_for_good(log: Log) -> None:
    life = Life(log).epoch()
    log.fail("begin", *[IS_FENCED] * 4)
    with pytest.raises(Stop):
        life.epoch()
    assert log.rows == []
