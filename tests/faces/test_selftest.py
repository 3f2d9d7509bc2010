"""`selftest`: the fault gallery as a user runs it, and a gallery in which something goes wrong, which it has to say."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from sidecar.commands.selftest import Patience, report, tried
from sidecar.commands.selftest_faults import FAULTS, Fault, nothing
from sidecar.commands.selftest_stage import staged
from sidecar.core.finding import Reason
from tests.faces.commands import interrupt, run, start
from tests.litestreams import binary, until
from tests.test_shipped import section

GALLERY_S = 300


@pytest.mark.timeout(GALLERY_S)
def test_every_fault_turns_red_for_its_reason_and_green_again(tmp_path: Path) -> None:
    ran = run("selftest", "--json", "--dir", tmp_path / "gallery", within=GALLERY_S)
    assert ran.err == ""
    document = ran.document
    assert [each for each in document["faults"] if not each["passed"]] == []
    assert (ran.code, document["passed"]) == (0, True)
    assert [each["fault"] for each in document["faults"]] == [each.name for each in FAULTS]
    for each in document["faults"]:
        if each["expected"]:
            assert each["reason"] in each["expected"]
            assert each["message"]
            assert each["hint"], each
            assert each["litestream"]
    assert (tmp_path / "gallery" / "litestream.log").exists(), "the folder that was given stays"
    assert list((tmp_path / "gallery" / "state" / "scratch").glob("room-*")) == []
    assert working_in(tmp_path) == []


def working_in(folder: Path) -> list[str]:
    """Commands of processes that name the folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = os.fsdecode(each.read_bytes()).replace("\0", " ")
            found += [words] if str(folder) in words else []
    return found


GONE = Fault(
    "gone",
    "nothing is wrong, and that is said to be harmless",
    (),
    lambda patient: shutil.rmtree(patient.replica),
    nothing,
)
UNSEEN = Fault("unseen", "nothing is done", (Reason.DB_CORRUPT,), nothing, nothing)
STAYS = Fault(
    "stays",
    "it is not mended",
    (Reason.NO_BACKUP, Reason.NO_SNAPSHOT),
    lambda patient: shutil.rmtree(patient.replica),
    nothing,
)


def test_a_gallery_that_goes_wrong_says_so(tmp_path: Path) -> None:
    patience = Patience(red_s=4, green_s=4, harmless_s=10)
    faults = (GONE, UNSEEN, STAYS)
    with staged(tmp_path, binary(), faults, threading.Event()) as stage:
        trials = tried(stage, faults, patience)
    assert [each.passed for each in trials] == [False, False, False]
    gone, unseen, stays = (each.document for each in trials)
    assert gone["reason"] in {"no_backup", "no_snapshot", "file_missing"}
    assert (unseen["check"], unseen["litestream"]) == (None, "restores, check passed")
    assert stays["reason"] in STAYS.reds
    assert stays["green_seconds"] is None
    assert stays["waited_for"]
    assert stays["litestream"] == "no matching backup files available"
    said = report(trials)
    assert said.startswith("FAILED  3 of 3 are not as they have to be\n")
    assert said.count("NOT OK") == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process = start("selftest", env={"TMPDIR": str(tmp_path)})
    until(lambda: any(tmp_path.glob("*/replica/*/ltx/9/*.ltx")), within=30, say="Litestream replicates")
    ended = interrupt(process, number)
    assert ended.code == 130
    assert ended.err.startswith("error: interrupted")
    assert list(tmp_path.iterdir()) == []
    assert working_in(tmp_path) == []


def test_the_faults_are_listed_without_running_any() -> None:
    ran = run("selftest", "--list")
    assert ran.code == 0
    for each in FAULTS:
        (line,) = [line for line in ran.out.splitlines() if line.split()[:1] == [each.name]]
        assert each.what in line
        assert ", ".join(each.reds) in line


def test_a_fault_that_there_is_not_is_a_usage_error() -> None:
    ran = run("selftest", "bitflip")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: there is no fault bitflip\ntry: one of: newest-lost, ")


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    ran = run("selftest", "--dir", tmp_path, "idle")
    assert ran.code == 2
    assert "is not empty" in ran.err
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_the_readme_shows_the_gallery_as_it_is() -> None:
    rows = [line for line in section("The fault gallery").splitlines() if line.startswith("| `")]
    shown = {
        cells[1].strip().strip("`"): cells for cells in (row.split(" | ") for row in (f"x | {row[2:]}" for row in rows))
    }
    assert list(shown) == [each.name for each in FAULTS]
    for each in FAULTS:
        assert shown[each.name][2].strip() == each.what
        said = shown[each.name][4]
        assert any(f"`{reason}`" in said for reason in each.reds) or each.harmless, (each.name, said)
