"""Writes what is made from other files: prometheusrule.yaml from rules.yml, dashboard.json from dashboard.py.

    python -m k8s.monitoring.generate

A test holds both against their sources, so run it after every change of those. With an address for the runbooks, all that
Prometheus, an Operator and Grafana take is written to a folder of the reader's own, with links that lead there:

    python -m k8s.monitoring.generate --runbooks https://wiki.example/litestream-sidecar --to FOLDER
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from k8s.monitoring.dashboard import DASHBOARD

HERE = Path(__file__).resolve().parent
RESERVED = "https://litestream-sidecar.example/"

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


def links_to(text: str, runbooks: str) -> str:
    """The same with every link to a runbook leading to this address."""
    return text.replace(f"{RESERVED}#", f"{runbooks}#")


def everything(runbooks: str) -> dict[str, str]:
    """All that is loaded somewhere, by file name, with links to this address. The files here stay as they are."""
    made = {"prometheusrule.yaml": prometheusrule(), "dashboard.json": dashboard()}
    as_they_are = (
        "rules.yml",
        "rules_test.yml",
        "rules_day_test.yml",
        "alertmanager.yml",
        "servicemonitor.yaml",
        "kustomization.yaml",
    )
    made |= {name: (HERE / name).read_text() for name in as_they_are}
    return {name: links_to(text, runbooks) for name, text in made.items()}


def address(text: str) -> str:
    """An address that can stand before `#alert-…` in YAML, JSON and a Go template. Raises ArgumentTypeError."""
    if re.fullmatch(r"https?://[^\s/\"'\\{}<>#]+(/[^\s\"'\\{}<>#]*)?", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no http(s) address without quotes, braces, blanks and #")
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m k8s.monitoring.generate", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--runbooks", type=address, metavar="URL", help="where you keep README.md, as a browser opens it"
    )
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where the files with your links go; made if need be")
    asked = parser.parse_args(arguments)
    if (asked.runbooks is None) != (asked.to is None):
        parser.error("--runbooks and --to go together: what is shipped here keeps its reserved address")
    if asked.runbooks is None:
        (HERE / "prometheusrule.yaml").write_text(prometheusrule())
        (HERE / "dashboard.json").write_text(dashboard())
        return
    if asked.to.resolve() == HERE:
        parser.error("--to must be another folder than this one, which keeps the reserved address")
    asked.to.mkdir(parents=True, exist_ok=True)
    for name, text in everything(asked.runbooks).items():
        (asked.to / name).write_text(text)


if __name__ == "__main__":
    main()
