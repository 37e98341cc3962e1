"""Boards in Grafana's own format. In: a Board. Out: JSON. Pure."""

import json
from typing import Any

from infra.grafana.boards import Board, Panel

SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT, IN_A_ROW = 8, 7, 3  # of 24 columns


def render(board: Board) -> str:
    """The file that Grafana reads."""
    topic = {
        "name": "topic",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": f"label_values({board.topic}, topic)", "refId": "topic"},
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
    dashboard = {
        "uid": f"kpi-flow-{board.name}",
        "title": board.title,
        "tags": ["kpi-flow"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["kpi-flow"], "title": "", "asDropdown": False}],
        "templating": {"list": [topic] if board.topic else []},
        "panels": [_panel(number, panel) for number, panel in enumerate(board.panels)],
    }
    return json.dumps(dashboard, indent=1) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, IN_A_ROW)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "expr": panel.query, "legendFormat": panel.legend or panel.title, "datasource": SOURCE}],
    }
