"""What `k8s/monitoring/` ships, as tests read it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.litestreams import ROOT

MONITORING = ROOT / "k8s" / "monitoring"
RULES = MONITORING / "rules.yml"
RULES_TESTS = MONITORING / "rules_test.yml", MONITORING / "rules_day_test.yml"
DASHBOARD = MONITORING / "dashboard.json"

Rule = dict[str, Any]


def need(program: str) -> str:
    """Where a program is. A missing one fails: it must not be skipped."""
    found = shutil.which(program)
    assert found is not None, f"{program} is missing: .ci/test installs it"
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [need("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


def rules() -> list[Rule]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, Rule]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def documentation() -> str:
    return (ROOT / "README.md").read_text()


def anchor(heading: str) -> str:
    """The anchor GitHub gives a heading: lower case, punctuation dropped, blanks to hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def sections() -> dict[str, str]:
    """What stands below each `###` heading of the documentation, by anchor."""
    found = re.findall(r"^### (.+)\n((?:(?!^##).*\n?)*)", documentation(), re.MULTILINE)
    return {anchor(heading): text for heading, text in found}


@cache
def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def panels() -> Iterator[dict[str, Any]]:
    """The panels that show something: rows apart."""
    return (panel for panel in dashboard()["panels"] if panel["type"] != "row")


def names_in(text: str) -> set[str]:
    """Our metrics that a text names, without prefix and without a histogram's suffixes; recorded names apart."""
    found = re.findall(r"(?<![:\w])litestream_sidecar_([a-z0-9_]+)", text)
    return {re.sub(r"^(drill_duration_seconds)_(bucket|sum|count)$", r"\1", name) for name in found}


def recorded_in(text: str) -> set[str]:
    return set(re.findall(r"\bjob:litestream_sidecar_\w+:\w+", text))
