"""`python -m infra.grafana`: write every dashboard to where Grafana looks."""

from pathlib import Path

from infra.grafana.boards import BOARDS
from infra.grafana.render import render

DIRECTORY = Path(__file__).with_name("provisioning") / "dashboards"

if __name__ == "__main__":
    for board in BOARDS:
        (DIRECTORY / f"{board.name}.json").write_text(render(board))
