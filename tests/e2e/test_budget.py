"""A real daemon and a real S3 server: requests are counted, and kept within what is allowed by looking less often at what is at rest."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sidecar.core.units import spell
from tests.e2e.machine import WallClock
from tests.e2e.stage import Stage, pause, stage, tune
from tests.litestreams import rclone_s3, until

AT_REST = "levels: [{interval: 1h}]\nl0-retention: 1h"
BUDGET = "resources: {requests-per-day: 20000}"


def requests(acting: Stage) -> float:
    return sum(acting.sidecar.metric("replica_requests_total", way=way) or 0 for way in ("direct", "litestream"))


def test_looks_at_rest_are_put_apart_to_keep_the_budget(tmp_path: Path) -> None:
    """A look a second would be 86,400 requests a day, where one listing does."""
    with (
        rclone_s3(tmp_path / "store") as store,
        stage(tmp_path / "stage", replica=store.replica(), settings=AT_REST, rest=BUDGET) as acting,
    ):
        tune(acting, rest=BUDGET)
        sidecar = acting.sidecar
        acting.app.write(20)
        acting.litestream.start()
        sidecar.start()
        sidecar.until_ready()
        until(lambda: (sidecar.metric("look_stretch_ratio") or 0) > 1, within=30, say="looks are put apart")
        stretch = sidecar.metric("look_stretch_ratio")
        asked, limit = (sidecar.metric(f"replica_requests_per_day{each}") for each in ("", "_limit"))
        assert stretch is not None
        assert asked is not None
        assert limit == 20_000
        assert 8 <= stretch <= 64
        assert asked <= limit
        assert f"looks at rest come every {spell(timedelta(seconds=stretch))} now" in sidecar.log
        before = requests(acting)
        pause(17)
        assert requests(acting) - before <= 13, "two of a store's, or one of Litestream's and one more"
        assert sidecar.ready().status_code == 200, "what is looked at less often is not looked at too seldom"


def test_what_nobody_has_written_to_for_hours_is_listed_less_often_until_somebody_does(tmp_path: Path) -> None:
    with stage(tmp_path, settings=AT_REST) as acting:
        sidecar, app, clock = acting.sidecar, acting.app, WallClock(tmp_path / "clock")
        sidecar.env |= clock.env
        clock.set(11 * 3600)  # of the daemon alone: to Litestream another mtime is a change
        app.write(20)
        acting.litestream.start()
        until(lambda: any(acting.replica.rglob("*.ltx")), say="a first backup")
        pause(2)
        sidecar.start()
        sidecar.until_ready()
        pause(3)  # one more, which finds out
        before = looks(acting)
        pause(18)
        assert looks(acting) - before <= 3, "every ten seconds, where it was every second"
        assert sidecar.ready().status_code == 200
        before = looks(acting)
        app.write()
        until(lambda: looks(acting) > before, within=4, say="a write brings the next look")
        assert sidecar.ready().status_code == 200
        for file in acting.replica.rglob("*.ltx"):
            file.unlink()
        assert sidecar.until_check("snapshot", "fail", "no_snapshot", within=25), "whatever Litestream writes next"


def looks(acting: Stage) -> float:
    return acting.sidecar.metric("looks_total", db="app", result="ok") or 0
