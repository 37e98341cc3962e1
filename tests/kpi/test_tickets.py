"""KPIs tried out as docs/testing.md says: once with files, once with the fixture `kpi`. A pattern for tests of your own."""

from pathlib import Path

import pytest

from kpitest import Driver
from kpitest.__main__ import main

HERE = Path(__file__).parent
TICKET = {"ticket_id": "t-1", "queue": "SALES", "wait_s": 60}


@pytest.fixture
def kpi_config() -> Path:
    return HERE / "kpi.toml"  # without this fixture it is the project's own, and so are the schemas


@pytest.fixture
def kpi_schemas() -> Path:
    return HERE / "schemas"


def test_the_tickets_of_the_file_give_the_rows_of_the_file() -> None:
    files = [str(HERE / "tickets.jsonl"), "--expect", str(HERE / "tickets.expected.jsonl"), "--schema", str(HERE / "schemas")]
    assert main(files, {"KPI_CONFIG": str(HERE / "kpi.toml")}) == 0


def test_a_minute_has_the_mean_wait_of_its_tickets(kpi: Driver) -> None:
    kpi.send("support.tickets", TICKET, at="2026-11-26T10:00:00Z")
    kpi.send("support.tickets", TICKET | {"wait_s": 30}, at="2026-11-26T10:00:59Z")
    kpi.advance("2m")
    total, _ = kpi.rows("kpi.support.tickets.1m")
    assert (total["answered"], total["wait"], total["final"]) == (2, 45.0, True)


def test_a_queue_has_rows_of_its_own(kpi: Driver) -> None:
    kpi.send("support.tickets", TICKET, at="2026-11-26T10:00:00Z")
    kpi.send("support.tickets", TICKET | {"queue": "TECH", "refund": "9.90"}, at="2026-11-26T10:00:00Z")
    kpi.close()
    kpi.expect(
        {"topic": "kpi.support.tickets.10m", "queue": "SALES", "answered": 1, "refunds": "0.00"},
        {"topic": "kpi.support.tickets.10m", "queue": "TECH", "answered": 1, "refunds": "9.90"},
    )
