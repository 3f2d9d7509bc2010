"""A real daemon beside a database at rest: the drills it does not make, what brings them back, and what only an audit sees."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.adapters.test_notify import listening
from tests.e2e.stage import Stage, pause, stage, tune
from tests.litestreams import until

AT_REST = "levels: [{interval: 1h}]\nl0-retention: 1h"  # Litestream itself leaves the files as they are
EVERY = {"drill_every": "2s", "drill_max_age": "8s"}


def passed(acting: Stage) -> float:
    return acting.sidecar.metric("drills_total", db="app", outcome="passed") or 0


def skipped(acting: Stage) -> float:
    return acting.sidecar.metric("drills_skipped_total", db="app") or 0


def until_it_stands(acting: Stage) -> float:
    """Wait for two drills in a row that are not made; how many have been made by then."""
    while True:
        made, before = passed(acting), skipped(acting)
        until(lambda before=before: skipped(acting) >= before + 2, say="two drills are not made")  # type: ignore[misc] # bound now
        if passed(acting) == made:
            return made


@contextlib.contextmanager
def at_rest(folder: Path, rest: str = "") -> Iterator[Stage]:
    """Everything runs, nobody writes, and the last drill's proof stands."""
    with stage(folder, settings=AT_REST, rest=rest) as acting:
        tune(acting, rest=rest, **EVERY)
        acting.app.write(50)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready()
        until_it_stands(acting)
        yield acting


def flip(file: Path, *, keep_time: bool) -> None:
    """One bit of one backup file, by somebody who may cover it up."""
    stat, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(bytes(content))
    if keep_time:
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_what_is_proved_is_not_restored_again(tmp_path: Path) -> None:
    with listening() as ear:
        rest = f"notify: {{heartbeat-url: '{ear.url('/beat/')}'}}"
        with at_rest(tmp_path, rest) as acting:
            made, heard = passed(acting), len(ear.heard)
            pause(9)  # longer than drill-max-age
            assert acting.sidecar.ready().status_code == 200
            assert passed(acting) == made
            found = acting.sidecar.check("drill")
            assert "a restore would have read the same files" in found["message"]
            asked = acting.sidecar.ready(max_age="5s").json()["databases"][0]["checks"]
            assert [each["reason"] for each in asked if each["name"] == "drill"] == ["drill_old"], "asks for a restore"
            beats = [urlsplit(target).path for _, target, _ in ear.heard[heard:]]
            assert len(beats) >= 2, "whoever waits for a sign of life gets it"
            assert not [each for each in beats if each.endswith(("/start", "/fail", "/log"))]
            proof = acting.sidecar.metric("proof_timestamp_seconds", db="app")
            assert (proof or 0) > (acting.sidecar.metric("drill_passed_timestamp_seconds", db="app") or 0) + 2

            acting.app.write()
            until(lambda: passed(acting) > made, say="what is new is restored")
            made = until_it_stands(acting)
            assert acting.sidecar.drill()["outcome"] == "passed", "whoever asks gets a drill"
            assert passed(acting) >= made + 1


def test_a_file_that_was_written_anew_is_restored_and_found_out(tmp_path: Path) -> None:
    with at_rest(tmp_path) as acting:
        flip(acting.level(9)[-1], keep_time=False)
        assert acting.sidecar.until_check("drill", "fail", "file_corrupt")["hint"]


def test_a_byte_of_production_that_nobody_wrote_through_sqlite_is_found_without_an_audit(tmp_path: Path) -> None:
    """The replica is as it was, and so is the proof that it restores; that it is what production holds is another matter."""
    with at_rest(tmp_path) as acting:
        acting.app.execute("pragma wal_checkpoint(full)")
        made = until_it_stands(acting)
        offset = acting.app.path.read_bytes().rindex(b"x" * 100)
        with acting.app.path.open("r+b") as file:
            file.seek(offset)
            file.write(b"X")
        found = acting.sidecar.until_check("drill", "fail", "pages_differ")
        assert passed(acting) == made, "the first that was made found it"
        assert found["hint"]


def test_damage_that_shows_in_no_listing_is_found_by_the_audit(tmp_path: Path) -> None:
    """The store, or the disk under it, lost a bit: size and time are what they were."""
    with at_rest(tmp_path) as acting:
        flip(acting.level(9)[-1], keep_time=True)
        made = until_it_stands(acting)
        assert acting.sidecar.ready().status_code == 200, "nobody has looked inside"
        assert passed(acting) == made
        tune(acting, audit_every="3s", **EVERY)
        acting.sidecar.until_check("drill", "fail", "file_corrupt")
