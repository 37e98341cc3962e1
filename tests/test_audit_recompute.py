"""The audit's recomputation against the specification: generated runs, from bytes to rows, without a broker."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audited import Audited, audit
from tests.differences import compare
from tests.oracle import Outcome, expect
from tests.strategies import Run, runs
from tests.test_flow import GENERATED


def audited(drawn: Run, outcome: Outcome, step: int) -> Audited:
    with tempfile.TemporaryDirectory() as directory:
        return audit(drawn, outcome.fates, Path(directory), step)


@pytest.mark.timeout(400)
@settings(GENERATED, max_examples=200)
@given(runs(), st.sampled_from([1000, 13]), st.integers(1, 4))
def test_the_audit_says_what_the_specification_says(run: Run, step: int, shards: int) -> None:
    drawn = replace(run, spec=replace(run.spec, shards=shards))
    outcome = expect(drawn.spec, drawn.steps)
    again = audited(drawn, outcome, step)

    assert {at: (fate.kind, fate.cause) for at, fate in outcome.fates.items()} == dict(again.fates)
    expected = {row.place: row for row in (*outcome.finals, *outcome.open)}
    given = [{**row, "revision": 0, "final": True, "closed_by": "data"} for row in again.rows]
    differences = [line for line in compare(list(expected.values()), given, first=1000) if "final" not in line and "closed_by" not in line]
    assert differences == []
