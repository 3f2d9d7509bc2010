"""Two real databases with a story, scraped by the real Prometheus, and the dashboard's every question put to it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.stage import Stage, pause, stage
from tests.litestreams import App, Writer, until
from tests.ops.monitoring import panels
from tests.ops.stack import Hook, Prometheus, prometheus

INSTEAD = {"$__rate_interval": "15s", "$job": ".*", "$db": ".*"}
POINTS = 120


@dataclass(frozen=True, slots=True)
class Story:
    """Who was asked, and from when to when."""

    prometheus: Prometheus
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What Prometheus answered to one question of one panel."""

    panel: dict[str, Any]
    target: dict[str, Any]
    series: list[dict[str, Any]]


def filled(expr: str) -> str:
    """An expression as Grafana sends it."""
    for variable, value in INSTEAD.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr


def answers(story: Story) -> list[Answer]:
    """Every expression of every panel, asked as Grafana asks it: over time, or for now."""
    step = max((story.ended - story.began) / POINTS, 1.0)
    found = []
    for panel in panels():
        for target in panel["targets"]:
            expr = filled(target["expr"])
            if target["instant"]:
                series = story.prometheus.ask("query", query=expr, time=story.ended)["result"]
            else:
                series = story.prometheus.over(expr, story.began, story.ended, step)
            found.append(Answer(panel, target, series))
    return found


def break_backup(acting: Stage) -> None:
    """Flip a bit in every backup file of the app: nobody notices until it is restored."""
    for file in acting.replica.rglob("*.ltx"):
        body = bytearray(file.read_bytes())
        body[len(body) // 2] ^= 0xFF
        file.write_bytes(body)


@contextlib.contextmanager
def told(folder: Path, *, pace: float = 1.0) -> Iterator[Story]:
    """All is well; Litestream stops while both apps write; it comes back; then one backup is damaged, and a drill finds it.

    Args:
        folder: where it happens.
        pace: how many times as long the quiet times last: 1 for a test, more for a picture.
    """
    orders = folder / "stage" / "data" / "orders.db"
    second = (
        f"  - path: {orders}\n    replica: {{type: file, path: {folder / 'orders-replica'}, sync-interval: 200ms}}\n"
    )
    with (
        Hook() as hook,
        stage(
            folder / "stage",
            db_settings=second,
            rest=f"notify: {{heartbeat-url: 'http://127.0.0.1:{hook.port}/{{db}}'}}\n"
            "resources: {requests-per-day: 100000}\nverifier: {url: 'http://127.0.0.1:9'}",  # nobody answers there
        ) as acting,
        contextlib.closing(App(orders)) as other,
    ):
        sidecar = acting.sidecar
        acting.app.write(3000)
        other.write(500)
        acting.litestream.start()
        sidecar.start()
        with prometheus(folder / "prometheus", sidecar.port) as asked, Writer(acting.app), Writer(other, pause=0.1):
            until(lambda: asked.instant("up == 1"), say="scraped")
            began = time.time()
            sidecar.until_ready(within=40)
            for name in ("app", "orders"):
                sidecar.drill(name)
            pause(3 * pace)
            acting.litestream.stop()
            pause(6 * pace)
            acting.litestream.start()
            pause(4 * pace)
            break_backup(acting)
            sidecar.drill("app")
            until(lambda: "DrillFailed" in asked.firing(), say="DrillFailed fires")
            pause(2 * pace)
            yield Story(asked, began, time.time())
