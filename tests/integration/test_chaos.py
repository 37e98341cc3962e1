"""`make chaos` in short: a running flow on three real brokers is killed, replaced and robbed of its brokers, and says what it must."""

from collections.abc import Iterator

import pytest

from infra.embedded.cluster import say_to_stderr
from tests.chaos.base import Ground, Result, ground
from tests.chaos.brokers import brokers
from tests.chaos.faults import faults
from tests.chaos.kills import poison
from tests.chaos.zombies import zombies

SEED = 4


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One cluster of three for all scenarios: starting it takes as long as one of them."""
    with ground(tmp_path_factory.mktemp("chaos"), say_to_stderr, short=True) as started:
        yield started


def held(result: Result) -> None:
    assert (result.verdict.lost, result.verdict.doubled, result.verdict.wrong) == (0, 0, 0), result.verdict.lines
    assert list(result.failed) == []
    assert result.good, f"{result.scenario}: {sorted(result.seconds)} s, limit {result.limit_s} s"


@pytest.mark.timeout(240)
def test_a_flow_that_commits_before_it_is_durable_is_found_out(on: Ground) -> None:
    """The harness proves itself: kills make this one double its rows, and the verdict says so."""
    held(faults(on, 3, SEED))


@pytest.mark.timeout(600)
def test_fifteen_kills_in_changing_shapes_among_poison_neither_lose_nor_double_a_row(on: Ground) -> None:
    result = poison(on, 15, SEED)
    held(result)
    assert len(result.seconds) >= 8, "too few restarts were measured"


@pytest.mark.timeout(400)
def test_a_leader_a_controller_and_a_coordinator_that_are_killed_cost_no_row(on: Ground) -> None:
    result = brokers(on, 3, SEED)
    held(result)
    assert len(result.seconds) == 3


@pytest.mark.timeout(300)
def test_a_flow_that_was_replaced_while_it_stood_still_leaves_fenced(on: Ground) -> None:
    result = zombies(on, 2, SEED)
    held(result)
    assert result.notes == "2 of 2 left fenced"
