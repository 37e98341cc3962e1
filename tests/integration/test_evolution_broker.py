"""A changed kpi.toml on a real broker: the flow goes on with what it has, and `make verify` agrees with what it tells."""

from pathlib import Path
from typing import Any

import pytest

from infra.embedded import Cluster
from tests.integration.audits import CONFIG, Audit
from tests.integration.running import T0_MS, records, until

pytestmark = pytest.mark.timeout(600)  # three starts, on a machine that others use too


def final(audit: Audit, window: str) -> list[tuple[int, dict[str, Any], dict[str, str]]]:
    """Start in seconds of the run, row and headers of the final rows of a window size."""
    kept = [record for record in records(audit.cluster, f"kpi.{audit.topic.name}.{window}") if record.value["final"]]
    return [(int(record.value["window_start"].timestamp()) - T0_MS // 1000, record.value, record.headers) for record in kept]


def test_kpis_and_windows_come_and_go_with_the_state_kept_and_verify_agrees(cluster: Cluster, tmp_path: Path) -> None:
    #  1s, 5s, 15s, weight ──(closed to 7 s)── 1s, 15s, 4s, gap 2s, most ──────► 33 s, 50 s, 60 s
    audit = Audit.of(cluster, tmp_path, "evolving.")
    audit.flow.windows = '["1s", "5s", "15s"]'
    with audit.flow.running() as child:
        audit.fill(range(9))
        until(lambda: max((start for start, *_ in final(audit, "1s")), default=0) >= 5, 150, child)
        assert audit.flow.end(child) == 0
    before = final(audit, "1s")
    audit.flow.windows = '["1s", "15s", "4s", "gap 2s"]'
    audit.flow.config = audit.flow.config.replace('weight = { mean = "weight" }\n', 'most = { max = "amount" }\n')
    with audit.flow.running() as child:
        audit.fill(range(9, 30), seed=2)
        audit.close(50)
        audit.close(60)
        until(lambda: max((start for start, *_ in final(audit, "15s")), default=0) >= 25, 150, child)
        until(lambda: final(audit, "session-2s"), 150, child)
        assert audit.flow.end(child) == 0

    assert audit.flow.log.count("kpis.most (added)") == audit.flow.log.count("windows.5s (removed)") == 1
    since = {int(headers["kpi.begun"]) // 1000 - T0_MS // 1000 for _, _, headers in final(audit, "4s")}
    assert len(since) == 1, "the same in every shard"
    assert 6 < min(since) < 12
    assert min(start for start, *_ in final(audit, "4s")) >= min(since)
    seconds = final(audit, "1s")
    assert seconds[: len(before)] == before or len(seconds) > len(before)
    unknown = {start for start, _, headers in seconds if headers.get("kpi.unknown") == "most"}
    assert unknown
    assert max(unknown) < min(since)
    assert all(row["most"] is None for start, row, _ in final(audit, "15s") if start <= 0)
    assert any(row["most"] is not None for start, row, _ in seconds if start >= min(since))
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr
    assert "rows of windows from before their size was declared" in said.stdout
    assert {(start, row["events"]) for start, row, _ in final(audit, "session-2s") if row["group_by"] == ""} == {(50, 3)}, "30 s went on"
    assert "values of KPIs that were declared while their window was open" in said.stdout


def test_a_change_that_the_state_cannot_follow_is_one_line_and_the_way_back_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    audit = Audit.of(cluster, tmp_path, "refusing.")
    with audit.flow.running() as child:
        audit.fill(range(5))
        until(lambda: final(audit, "1s"), 150, child)
        assert audit.flow.end(child) == 0
    known = audit.flow.log
    audit.flow.config = audit.flow.config.replace('n = { count = "*" }', 'n = { count = "amount" }')
    with audit.flow.running() as child:
        assert child.wait(150) == 78
    (line,) = [line for line in audit.flow.log.removeprefix(known).splitlines() if "another declaration" in line]
    assert 'kpis.n: { count = "*" } -> { count = "amount" }: give what is new another name' in line
    audit.flow.config = CONFIG.format(topic=audit.topic.name)
    with audit.flow.running() as child:
        audit.fill(range(5, 9))
        until(lambda: max(start for start, *_ in final(audit, "1s")) >= 5, 150, child)
        assert audit.flow.end(child) == 0
