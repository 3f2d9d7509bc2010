"""The dashboard: by Grafana's own schema, and every question in it answered by the real Prometheus over the real daemon."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from k8s.monitoring.generate import dashboard as made
from tests.ops.draw import PICTURES, draw
from tests.ops.monitoring import (
    DASHBOARD,
    RULES,
    alerts,
    dashboard,
    documentation,
    kebab,
    names_in,
    panels,
    recorded_in,
    rules,
)
from tests.ops.scene import Answer, Story, answers, filled, told
from tests.recipes.tools import need, node_modules
from tests.test_shipped import metric_names

PICTURE_BYTES_MAX = 60_000
# In JSON a TypeScript enum is the word it stands for.
WRITTEN = """\
import type { Dashboard } from "@grafana/schema";
type Written<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Written<T[K]> } : T;
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with told(tmp_path_factory.mktemp("story")) as found:
        yield found


@pytest.fixture(scope="module")
def found(story: Story) -> list[Answer]:
    return answers(story)


def test_the_json_is_made_of_its_script() -> None:
    assert DASHBOARD.read_text() == made(), "run: python -m k8s.monitoring.generate"


def test_grafanas_own_schema_takes_it(tmp_path: Path) -> None:
    modules = node_modules(Path(__file__).with_name("grafana") / "package.json")
    (tmp_path / "node_modules").symlink_to(modules)
    options = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler", "--module", "esnext"]

    def compiled(name: str, document: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        source = tmp_path / name
        source.write_text(f"{WRITTEN}export const it = {json.dumps(document)} satisfies Written<Partial<Dashboard>>;\n")
        tsc = [need("node"), str(modules / "typescript" / "bin" / "tsc"), *options, str(source)]
        return subprocess.run(tsc, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    done = compiled("good.ts", dashboard())
    assert done.returncode == 0, done.stdout
    wrong = compiled("wrong.ts", dashboard() | {"refesh": "1m"})
    assert wrong.returncode != 0
    assert "refesh" in wrong.stdout


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len({panel["title"] for panel in everything}) == len(everything)
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]


def test_the_data_source_is_a_choice_everywhere() -> None:
    text = DASHBOARD.read_text()
    assert set(re.findall(r'"uid": "([^"]+)"', text)) == {"${datasource}", dashboard()["uid"]}
    assert [each["name"] for each in dashboard()["templating"]["list"]] == ["datasource", "job", "db"]
    for panel in panels():
        for each in (panel, *panel["targets"]):
            assert each["datasource"]["uid"] == "${datasource}"


def test_panels_lie_beside_each_other_and_not_on_top() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_links_lead_to_runbooks_that_exist() -> None:
    known = {rule["annotations"]["runbook_url"] for rule in alerts().values()}
    linked = {link["url"] for panel in panels() for link in panel.get("links", [])}
    assert linked <= known
    assert {f"alert-{kebab(name)}" for name in ("DrillFailed", "ReplicaLagging", "SidecarDown")} <= {
        url.partition("#")[2] for url in linked
    }


def test_every_question_is_answered(found: list[Answer]) -> None:
    assert {answer.panel["id"] for answer in found} == {panel["id"] for panel in panels()}
    for answer in found:
        where = (answer.panel["title"], answer.target["expr"])
        assert answer.series, f"EMPTY: {where}"
        values = [value for each in answer.series for _, value in each.get("values", [each.get("value", (0, "NaN"))])]
        assert any(math.isfinite(float(value)) for value in values), f"not one number: {where}"


def test_every_choice_has_values(story: Story) -> None:
    for each in dashboard()["templating"]["list"][1:]:
        series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", each["query"]["query"]).groups()  # type: ignore[union-attr] # else it fails
        found = story.prometheus.ask(f"label/{label}/values", **{"match[]": filled(series)})
        assert found == {"job": ["litestream-sidecar"], "db": ["app", "orders"]}[label]


def test_what_the_documentation_asks_prometheus_is_answered(story: Story) -> None:
    blocks = re.findall(r"^```promql\n(.*?)^```", documentation(), re.MULTILINE | re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    asked = [line for line in lines if line]
    assert len(asked) >= 5
    for expr in asked:
        assert story.prometheus.instant(expr), expr


def test_it_can_be_drawn(found: list[Answer], tmp_path: Path) -> None:
    files = draw(found, tmp_path / "pictures")
    assert sorted(each.name for each in files) == sorted(each.name for each in PICTURES.glob("*"))
    for file in (*files, *PICTURES.glob("*.png")):
        assert file.stat().st_size < PICTURE_BYTES_MAX, file
        with Image.open(file) as image:
            assert image.width > 1000
    for file in PICTURES.glob("*.png"):
        assert f"pictures/{file.name})" in documentation(), f"{file.name} is shown to nobody"


def test_every_metric_is_shown_and_every_name_is_one() -> None:
    known = metric_names()
    text = DASHBOARD.read_text()
    assert recorded_in(text) <= {rule["record"] for rule in rules() if "record" in rule}
    assert known == names_in(text)
    assert names_in(RULES.read_text()) < known
