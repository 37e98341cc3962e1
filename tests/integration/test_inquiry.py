"""`make explain` and `make plan` on a real broker and registry, before, beside and after a flow."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import requests

from flows import recovery
from flows.registry import Registry
from flows.stop import REFUSED
from infra.embedded import Cluster
from tests.integration import supervised
from tests.integration.running import ROOT, until
from tests.integration.supervised import Supervised, end

pytestmark = pytest.mark.timeout(600)


def ask(flow: Supervised, *words: str, **more: str) -> tuple[int, str, str]:
    """Exit code and output of an inquiry with the flow's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.inquiry", *words],
        cwd=ROOT,
        env=flow.settings(**more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_start_is_told_before_and_a_change_with_what_it_means_for_the_state(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Supervised(cluster, tmp_path, "asked")
    flow.send(5)
    name = f"kpi.{flow.topic.name}.1s"
    code, told, _ = ask(flow, "plan")
    assert code == 0
    assert told.splitlines() == [
        f"state: none in {flow.recovery}: every topic is read from `start`",
        f"topic {name}: will be made",
        f"schema {name}-key: will be registered",
        f"schema {name}-value: will be registered",
    ]
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert ask(flow, "plan") == (0, "nothing changes\n", ""), "beside a flow that runs"
        assert end(child) == 0
    assert ask(flow, "plan") == (0, "nothing changes\n", "")
    assert {known for state in recovery.states(flow.recovery, "kpi.source") for known in state["topics"]} == {flow.topic.name}

    misspelled = f'[topics."{flow.topic.name}s"]\nupdate = "off"\n'.replace("{", "{{").replace("}", "}}")
    monkeypatch.setattr(supervised, "KPIS", supervised.KPIS + 'most = {{ max = "amount", unit = "EUR" }}\n' + misspelled)
    flow.windows = '["1s", "2s"]'
    code, told, _ = ask(flow, "plan")
    assert code == 0
    assert f"not used yet: topics.{flow.topic.name}s: no topic is called so (did you mean {flow.topic.name!r}?)" in told
    assert told.splitlines()[:3] == [
        "kept: added defaults.windows.2s: rows from windows on that begin after the change",
        (
            f'kept: added topics.{flow.topic.name}.kpis.most: {{ max = "amount", unit = "EUR" }}, '
            "from windows on that begin after the change; null before"
        ),
        "state: kept",
    ]
    assert f"schema {name}-value: a new version, compatible" in told
    assert f"topic kpi.{flow.topic.name}.2s: will be made" in told

    flow.windows = '["1s", "1500ms"]'
    code, told, _ = ask(flow, "plan")
    assert code == 1
    assert "refused: changed defaults.windows: " in told
    assert "make reset" in told
    assert flow.run() == 78
    assert "belongs to another declaration: defaults.windows: " in flow.log


def test_a_changed_declaration_that_the_state_can_follow_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "follows")
    flow.send(5)
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert end(child) == 0
    flow.environ = {"KPI_WINDOWS": "1s,2s"}
    flow.send(5)
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert end(child) == 0
    assert "declared anew: defaults.windows.2s (added)" in flow.log
    assert {state["generation"] for state in recovery.states(flow.recovery, "kpi.source")} == {1}


def test_what_is_explained_is_what_the_file_may_say_and_needs_no_file(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "explained")
    flow.send(1)

    code, told, error = ask(flow, "explain", flow.topic.name)
    assert (code, error) == (0, "")
    assert set(tomllib.loads(told)["topics"][flow.topic.name]["kpis"]) == {"n", "amount"}
    (tmp_path / "empty.toml").write_text("")
    code, told, _ = ask(flow, "explain", flow.topic.name, KPI_CONFIG=str(tmp_path / "empty.toml"))
    assert set(tomllib.loads(told)["topics"][flow.topic.name]["kpis"]) == {"rate", "amount_mean", "amount_min", "amount_max"}
    code, told, _ = ask(flow, "explain")
    assert list(tomllib.loads(told)["topics"]) == [flow.topic.name], "of every topic that is read"
    code, _, error = ask(flow, "explain", "explained.click")
    assert code == 2
    assert error == "kpi: TOPIC: got 'explained.click', want a topic that is there, or has schemas (did you mean 'explained.clicks'?)\n"


def test_a_schema_that_the_registry_would_not_take_is_said_before_it_is_tried(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "incompatible")
    flow.send(1)
    subject = f"kpi.{flow.topic.name}.1s-value"
    other = {"type": "record", "name": "kpi_incompatible_clicks_1s_value", "fields": [{"name": "window_start", "type": "string"}]}
    Registry(cluster.registry_url).register(subject, json.dumps(other))
    demand(cluster, subject)

    code, told, _ = ask(flow, "plan")

    assert code == 1
    assert f"schema {subject}: refused: not compatible with its newest version" in told
    assert flow.run() == REFUSED
    assert f"kpi: schema {subject}: " in flow.log
    assert "Traceback" not in flow.log


def demand(cluster: Cluster, subject: str) -> None:
    """New versions of a subject must be able to read the older ones."""
    requests.put(f"{cluster.registry_url}/config/{subject}", json={"compatibility": "BACKWARD"}, timeout=10).raise_for_status()


@pytest.mark.parametrize(("setting", "who"), [("SCHEMA_REGISTRY_URL", "the registry"), ("KAFKA_BOOTSTRAP_SERVERS", "Kafka")])
def test_a_registry_or_a_broker_that_is_away_is_one_line(cluster: Cluster, tmp_path: Path, setting: str, who: str) -> None:
    flow = Supervised(cluster, tmp_path, who.rsplit(maxsplit=1)[-1].lower())
    flow.send(1)
    nowhere = "127.0.0.1:9" if setting.startswith("KAFKA") else "http://127.0.0.1:9"
    for words in (("plan",), ("explain",)):
        code, told, error = ask(flow, *words, **{setting: nowhere})
        assert (code, told) == (2, "")
        (line,) = error.splitlines()
        assert line.startswith(f"kpi: {who} does not answer")
        assert nowhere in line
        assert line.endswith(f"; start it (make up), or set {setting}")
