"""`make verify` on a real broker, after the literal flow: equal where nothing is wrong, and every planted difference found."""

from pathlib import Path

from infra.embedded import Cluster
from tests.integration.audits import ran


def test_a_run_with_everything_in_it_is_equal(cluster: Cluster, tmp_path: Path) -> None:
    audit = ran(cluster, tmp_path, "equal.")
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.startswith("equal: ")
