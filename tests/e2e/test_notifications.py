"""What a real daemon tells others when its real backup breaks and heals."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

from tests.adapters.test_notify import SECRET, listening
from tests.e2e.stage import stage
from tests.litestreams import until


def test_a_broken_backup_is_pinged_and_posted_and_so_is_the_mended_one(tmp_path: Path) -> None:
    with listening() as ear:
        rest = f"notify: {{heartbeat-url: '{ear.url('/beat/{db}/')}', webhook-url: '{ear.url('/hook/')}'}}"
        with stage(tmp_path, rest=rest) as acting:
            acting.app.write(50)
            acting.litestream.start()
            acting.sidecar.start()
            acting.sidecar.until_ready()

            def heard(path: str) -> list[bytes]:
                return [body for _, target, body in list(ear.heard) if urlsplit(target).path.startswith(path)]

            until(
                lambda: f"/beat/app/{SECRET}" in [urlsplit(target).path for _, target, _ in ear.heard], say="it passed"
            )
            assert f"/beat/app/{SECRET}/start" in [urlsplit(target).path for _, target, _ in ear.heard]
            until(lambda: acting.level(9), say="there is a snapshot")
            until(lambda: acting.sidecar.metric("notifications_total", to="heartbeat", result="sent"), say="counted")
            for file in acting.replica.rglob("*.ltx"):
                content = bytearray(file.read_bytes())
                content[len(content) // 2] ^= 0x10
                file.write_bytes(bytes(content))
            assert acting.sidecar.drill()["outcome"] == "failed"
            until(lambda: heard("/hook/"), say="the failed drill is posted")
            first = json.loads(heard("/hook/")[0])
            assert (first["event"], first["db"], first["drill"]["outcome"]) == ("drill_failed", "app", "failed")
            assert any(urlsplit(target).path.endswith("/fail") for _, target, _ in ear.heard)
            assert SECRET not in acting.sidecar.log
