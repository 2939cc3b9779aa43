"""Writes the dashboard of `panels.py` in Grafana's form; rows and panels lie in their order.

python examples/deploy/grafana/dashboard.py > examples/deploy/grafana/dashboards/headway.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from panels import ROWS, Panel

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT, ACROSS = 8, 8, 24
"""Of a panel and of the dashboard, in Grafana's units."""


def variable(name: str, label: str, series_label: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values(vllm:num_requests_running, {series_label})",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def graph(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """A panel in Grafana's form, at its place."""
    drawn: dict[str, Any] = {"fillOpacity": 10, "showPoints": "never"}
    if panel.stacked:
        drawn |= {"fillOpacity": 60, "stacking": {"mode": "normal"}}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": drawn},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi"},
        },
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query.expr, "legendFormat": query.legend}
            for place, query in enumerate(panel.queries)
        ],
    }


def laid_out() -> Iterator[dict[str, Any]]:
    """Rows and their panels, three beside each other."""
    number, y = 1, 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": y, "w": ACROSS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place}
        number, y = number + 1, y + 1
        for position, panel in enumerate(panels):
            line, x = divmod(position * WIDTH, ACROSS)
            yield graph(panel, number, x, y + line * HEIGHT)
            number += 1
        y += HEIGHT * -(-len(panels) * WIDTH // ACROSS)


def dashboard() -> dict[str, Any]:
    """The whole file."""
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }
    return {
        "uid": "headway",
        "title": "Headway",
        "tags": ["headway", "llm"],
        "schemaVersion": 41,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                source,
                variable("model", "Model", "model_name"),
                variable("instance", "Instance", "instance"),
            ]
        },
        "panels": list(laid_out()),
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=1)
    print()
