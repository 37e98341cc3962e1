"""`make load` in short: pages on a real broker and server cost what was promised, and one too many meets the sign."""

from pathlib import Path

import pytest

from infra.embedded.cluster import say_to_stderr
from tests.load.parts import SHORT
from tests.load.run import Report, run


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """One run for all."""
    home: Path = tmp_path_factory.mktemp("load")
    return run(SHORT, say_to_stderr, home)


def test_every_visitor_gets_a_page_and_keeps_it(report: Report) -> None:
    assert report.failed == []


def test_a_session_takes_at_most_5_mib(report: Report) -> None:
    assert 0 < report.mib_a_session <= 5


def test_19_of_20_frames_take_at_most_250_ms(report: Report) -> None:
    assert 0 < report.frame_p95_ms <= 250


def test_one_page_more_than_the_cap_meets_the_sign(report: Report) -> None:
    assert report.beyond == 503
    assert "All places are taken" in report.beyond_text
