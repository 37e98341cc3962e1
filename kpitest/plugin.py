"""The fixture `kpi` for pytest: tests/conftest.py names this module in `pytest_plugins`. In: kpi.toml, schemas. Out: a Driver a test.

    def test_an_order_counts(kpi):
        kpi.send("shop.orders", {...}, at="2026-11-26T10:00:00Z")
        kpi.advance("1m")
        assert kpi.rows("kpi.shop.orders.10s")[0]["orders"] == 1

Other declarations or schemas: a fixture `kpi_config` or `kpi_schemas` of the test's own goes before the one here.
"""

import os
from pathlib import Path

import pytest

from flows.declaration import read_declaration
from kpitest.driver import Driver, schema_files


@pytest.fixture
def kpi_config(pytestconfig: pytest.Config) -> Path:
    """The declaration that `kpi` takes: KPI_CONFIG, else kpi.toml of the project."""
    return pytestconfig.rootpath / os.environ.get("KPI_CONFIG", "kpi.toml")


@pytest.fixture
def kpi_schemas(pytestconfig: pytest.Config) -> Path:
    """Where `kpi` finds `<topic>.avsc`: in schemas/ of the project."""
    return pytestconfig.rootpath / "schemas"


@pytest.fixture
def kpi(kpi_config: Path, kpi_schemas: Path) -> Driver:
    """A driver of the real flow, with a clock of its own and nothing sent."""
    return Driver(read_declaration({"KPI_CONFIG": str(kpi_config)}), schema_files(kpi_schemas))
