"""Draws the dashboard from Prometheus' answers to its own questions: no Grafana can be had here, so its pictures are made of the same data.

python -m tests.ops.draw        # tells the story at leisure (two minutes) and writes k8s/monitoring/pictures/*.png
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from tests.ops.monitoring import MONITORING, dashboard
from tests.ops.scene import Answer, answers, told

PICTURES = MONITORING / "pictures"
INK, FAINT, PAPER = "#24292f", "#8c959f", "#ffffff"
COLOURS = {"green": "#56a64b", "yellow": "#e0b400", "orange": "#ff780a", "red": "#e02f44", "blue": "#3274d9"}
CELL_IN = (0.46, 0.30)  # a cell of Grafana's grid, in inches
LEGEND_MAX = 6
BYTES = ("B", "KiB", "MiB", "GiB")
MINUTE, HOUR, DAY, KIB = 60, 3600, 86400, 1024

mpl.rcParams.update({"font.size": 6.5, "font.family": "DejaVu Sans", "text.color": INK, "axes.edgecolor": FAINT,
                     "xtick.color": FAINT, "ytick.color": FAINT, "axes.linewidth": 0.5})  # fmt: skip


def spelled(value: float, unit: str) -> str:
    """A value with its unit, as Grafana writes it."""
    if unit == "percentunit":
        return f"{value * 100:.4g}%"
    if unit == "bytes":
        power = 0
        while value >= KIB and power < len(BYTES) - 1:
            value, power = value / KIB, power + 1
        return f"{value:.3g} {BYTES[power]}"
    if unit == "s":
        for size, word in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
            if value >= 2 * size:
                return f"{value / size:.3g} {word}"
        return f"{value:.2g} s" if value < 1 else f"{value:.0f} s"
    if unit == "bool_yes_no":
        return "yes" if value else "no"
    return f"{value:.4g}" + {"ops": "/s", "reqps": "/s"}.get(unit, "")


def legend(answer: Answer, series: dict[str, Any]) -> str:
    text: str = answer.target["legendFormat"]
    for key, value in series["metric"].items():
        text = text.replace("{{" + key + "}}", value)
    return text


def colour_of(panel: dict[str, Any], value: float) -> str:
    """By thresholds, or by the words for values."""
    defaults = panel["fieldConfig"]["defaults"]
    for mapping in defaults.get("mappings", []):
        if str(int(value)) in mapping["options"]:
            return COLOURS[mapping["options"][str(int(value))]["color"]]
    name = "green"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            name = step["color"]
    return COLOURS[name]


def worded(panel: dict[str, Any], value: float) -> str:
    for mapping in panel["fieldConfig"]["defaults"].get("mappings", []):
        if str(int(value)) in mapping["options"]:
            return str(mapping["options"][str(int(value))]["text"])
    return spelled(value, panel["fieldConfig"]["defaults"]["unit"])


def stat(axes: Axes, panel: dict[str, Any], found: Sequence[Answer]) -> None:
    value = float(found[0].series[0]["value"][1])
    axes.set_axis_off()
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, color=colour_of(panel, value)))
    axes.text(0.5, 0.5, worded(panel, value), ha="center", va="center", color=PAPER, size=13, transform=axes.transAxes)


def lines(axes: Axes, panel: dict[str, Any], found: Sequence[Answer]) -> None:
    top, unit = 0.0, panel["fieldConfig"]["defaults"]["unit"]
    drawn = [(legend(answer, each), each["values"]) for answer in found for each in answer.series]
    begin = min(float(values[0][0]) for _, values in drawn)
    for label, values in drawn:
        ys = [float(value) for _, value in values]
        axes.plot([float(at) - begin for at, _ in values], ys, lw=0.9, label=label)
        top = max([top, *(y for y in ys if y == y)])  # noqa: PLR0124 - NaN is not equal to itself
    limit = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]
    if limit["value"] and limit["value"] < 4 * top:
        axes.axhline(limit["value"], color=COLOURS[limit["color"]], lw=0.7, ls="--")
    axes.set_ylim(0, top * 1.15 or 1)
    axes.yaxis.set_major_formatter(lambda value, _: spelled(value, unit))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    axes.grid(visible=True, lw=0.3, color="#d0d7de")
    axes.spines[["top", "right"]].set_visible(False)
    if len(drawn) <= LEGEND_MAX:
        axes.legend(loc="upper left", frameon=False, fontsize=5.5, ncols=2, borderaxespad=0.1)


def stripes(axes: Axes, panel: dict[str, Any], found: Sequence[Answer]) -> None:
    drawn = sorted(((legend(answer, each), each["values"]) for answer in found for each in answer.series), reverse=True)
    begin = min(float(values[0][0]) for _, values in drawn)
    for row, (_, values) in enumerate(drawn):
        step, spans, colours = float(values[1][0]) - float(values[0][0]), [], []
        for value, run in groupby(values, key=lambda point: float(point[1])):
            times = [float(at) - begin for at, _ in run]
            spans.append((times[0], times[-1] - times[0] + step))
            colours.append(colour_of(panel, value))
        axes.broken_barh(spans, (row - 0.4, 0.8), facecolors=colours)
    axes.set_yticks(range(len(drawn)), [label for label, _ in drawn])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def rows_of(panel: dict[str, Any], found: Sequence[Answer]) -> tuple[list[str], list[list[str]]]:
    """A table's headings and cells: several queries joined by database, or one query's labels."""
    overrides = panel["fieldConfig"]["overrides"]
    if not overrides:
        keys = list(found[0].series[0]["metric"])
        return keys, [[each["metric"].get(key, "") for key in keys] for each in found[0].series]
    names = sorted({each["metric"]["db"] for answer in found for each in answer.series})
    columns = []
    for answer, override in zip(found, overrides, strict=True):
        heading, unit = (each["value"] for each in override["properties"])
        values = {each["metric"]["db"]: spelled(float(each["value"][1]), unit) for each in answer.series}
        columns.append((heading, values))
    cells = [[name, *(values.get(name, "") for _, values in columns)] for name in names]
    return ["db", *(heading for heading, _ in columns)], cells


def grid(axes: Axes, panel: dict[str, Any], found: Sequence[Answer]) -> None:
    headings, cells = rows_of(panel, found)
    axes.set_axis_off()
    made = axes.table(cellText=cells, colLabels=headings, loc="upper center", cellLoc="left", edges="horizontal")
    made.auto_set_font_size(False)
    made.set_fontsize(6)
    for cell in made.get_celld().values():
        cell.set_linewidth(0.3)


DRAWN = {"stat": stat, "timeseries": lines, "state-timeline": stripes, "table": grid}


def picture(section: Sequence[dict[str, Any]], found: Sequence[Answer], to: Path) -> None:
    """One row of the dashboard with its panels in their places, as a small PNG."""
    top = min(panel["gridPos"]["y"] for panel in section)
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in section) - top
    figure = Figure(figsize=(24 * CELL_IN[0], height * CELL_IN[1]), dpi=100, facecolor=PAPER)
    for panel in section:
        place, own = panel["gridPos"], [each for each in found if each.panel["id"] == panel["id"]]
        bare = panel["type"] in {"stat", "table"}
        left, right, below, above = (0.2, 0.2, 0.3, 1.0) if bare else (1.6, 0.4, 1.0, 1.1)
        if panel["type"] == "state-timeline":
            left = 3.2
        x, y = place["x"] + left, height - (place["y"] - top + place["h"]) + below
        size = (place["w"] - left - right) / 24, (place["h"] - below - above) / height
        axes = figure.add_axes((x / 24, y / height, *size))
        axes.tick_params(labelsize=5.5, length=2)
        DRAWN[panel["type"]](axes, panel, own)
        at = ((place["x"] + 0.25) / 24, (height - (place["y"] - top) - 0.3) / height)
        figure.text(*at, panel["title"], ha="left", va="top", size=7.5, weight="bold")
    figure.savefig(to)
    with Image.open(to) as full:
        few = full.convert("RGB").quantize(64)
    few.save(to, optimize=True)


def sections() -> dict[str, list[dict[str, Any]]]:
    """The dashboard's rows, by a name fit for a file, with their panels."""
    found: dict[str, list[dict[str, Any]]] = {}
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            found[panel["title"].lower().replace(" ", "-")] = []
        else:
            found[next(reversed(found))].append(panel)
    return found


def draw(found: Sequence[Answer], folder: Path) -> list[Path]:
    """One picture a row of the dashboard."""
    folder.mkdir(exist_ok=True)
    files = []
    for name, section in sections().items():
        files.append(folder / f"{name}.png")
        picture(section, found, files[-1])
    return files


def main() -> None:
    """Tell the story at leisure and draw it for the README."""
    with tempfile.TemporaryDirectory() as folder, told(Path(folder), pace=6.0) as story:
        draw(answers(story), PICTURES)


if __name__ == "__main__":
    main()
