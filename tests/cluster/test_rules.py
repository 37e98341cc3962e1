"""The alert rules against written-out series (promtool), and the dashboards against what Grafana is given."""

import re
from pathlib import Path

from infra.cluster.compose import INFRA, docker
from infra.grafana.__main__ import DIRECTORY
from infra.grafana.boards import BOARDS
from infra.grafana.render import render
from tests.cluster.live import Live

PROMETHEUS = INFRA / "images" / "prometheus"


def promtool(live: Live, *arguments: str) -> str:
    """promtool, as the image has it."""
    (image,) = (service.image for service in live.compose.services() if service.name == "prometheus")
    done = docker("run", "--rm", "--volume", f"{PROMETHEUS}:/rules:ro", "--entrypoint", "promtool", image, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_its_configuration(live: Live) -> None:
    assert "SUCCESS" in promtool(live, "check", "config", "/rules/prometheus.yml")


def test_every_alert_fires_when_it_should_and_not_before(live: Live) -> None:
    assert "SUCCESS" in promtool(live, "test", "rules", "/rules/rules.test.yml")


def test_every_alert_has_a_test() -> None:
    def alerts(file: Path, word: str) -> set[str]:
        return set(re.findall(rf"{word} (\w+)", file.read_text()))

    assert alerts(PROMETHEUS / "rules.yml", "alert:") == alerts(PROMETHEUS / "rules.test.yml", "alertname:")


def test_grafana_is_given_what_the_code_says() -> None:
    assert {file.name: file.read_text() for file in DIRECTORY.glob("*.json")} == {f"{board.name}.json": render(board) for board in BOARDS}
