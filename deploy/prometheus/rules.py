"""Writes the alerts as the Prometheus operator reads them: `make dashboards`. They are in alerts.yaml."""
# ruff: noqa: INP001 (a script)

from __future__ import annotations

from pathlib import Path
from textwrap import indent

ALERTS = Path(__file__).parent / "alerts.yaml"
RULES = Path(__file__).parents[2] / "k8s" / "components" / "monitoring" / "rules.yaml"
HEAD = """\
# Made of deploy/prometheus/alerts.yaml by `make dashboards`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: dpu
  labels:
    app.kubernetes.io/part-of: dpu
spec:
"""


def files() -> dict[Path, str]:
    """Return what the file is to hold."""
    groups = ALERTS.read_text().partition("groups:")
    return {RULES: HEAD + indent("".join(groups[1:]), "  ")}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
