"""Writes what is made from other files: prometheusrule.yaml from rules.yml, dashboard.json from dashboard.py.

    python -m k8s.monitoring.generate

A test holds both against their sources, so run it after every change of those.
"""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent

from k8s.monitoring.dashboard import DASHBOARD

HERE = Path(__file__).resolve().parent

HEAD = """\
# Made from rules.yml by `python -m k8s.monitoring.generate`: change that and run it again.
# A Prometheus Operator takes it where its ruleSelector says so: kube-prometheus-stack wants the label `release: <its release>`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: litestream-sidecar
  labels:
    app.kubernetes.io/name: litestream-sidecar
spec:
"""


def prometheusrule() -> str:
    """The rules as the Operator's resource: the same text below `spec:`, without the file's own opening remarks."""
    rules = (HERE / "rules.yml").read_text()
    return HEAD + indent(rules[rules.index("groups:") :], "  ")


def dashboard() -> str:
    """The dashboard as Grafana imports it."""
    return json.dumps(DASHBOARD, indent=1) + "\n"


if __name__ == "__main__":
    (HERE / "prometheusrule.yaml").write_text(prometheusrule())
    (HERE / "dashboard.json").write_text(dashboard())
