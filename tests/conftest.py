"""What every test may ask for: a real broker and registry, started once a session. They are never faked and never skipped."""

from collections.abc import Iterator

import pytest

from infra import embedded

pytest_plugins = ["kpitest.plugin"]  # the fixture kpi
LONGEST = ("test_kills", "test_verify", "test_recovery_directory", "test_repair", "test_flow")  # four minutes each


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: at the end one worker would be left with them."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session")
def cluster() -> Iterator[embedded.Cluster]:
    """One real broker and registry for the whole session. Name your own topics; do not stop it (start your own for that)."""
    with embedded.cluster() as started:
        yield started
