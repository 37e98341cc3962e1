"""Grafana's dashboards as code: boards says what, json how. `python -m infra.grafana` writes what Grafana reads."""
