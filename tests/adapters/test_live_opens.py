"""Nobody but `live_descriptors` opens a live database's files: closing them would drop SQLite's locks (PITFALLS 1).

A child process does all that a daemon does to a database, under an audit hook that sees every `open` of Python's and who asked for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.litestreams import ROOT, binary, environment
from tests.parity_stage import Scene, playing

KEEPER = "sidecar.adapters.live_descriptors"
CHILD = """
import json, os, sys, threading
from pathlib import Path

NAMES = {"app.db", "app.db-wal", "app.db-shm"}
seen = []

def asker():
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in {"sidecar", "snippet"}:
            return name
        frame = frame.f_back
    return "somebody else"

def hook(event, arguments):
    if event in {"open", "sqlite3.connect"} and isinstance(arguments[0], (str, bytes, os.PathLike)):
        name = os.path.basename(os.fsdecode(arguments[0])).partition("?")[0]
        if name in NAMES:
            seen.append((event, name, asker()))

sys.addaudithook(hook)

from sidecar.assembly_tools import load_fleet, tools
from sidecar.drill_attempt import Order
from sidecar.options import Options

config, ours, state, snippet = sys.argv[1:]
options = Options(litestream_config=Path(config), config=Path(ours), state_dir=Path(state))
stop, said = threading.Event(), {}
unseen = lambda *_: None
with tools(options, exclusive=True) as kit:
    fleet = load_fleet(options, kit.binary.generation)()
    database = next(iter(fleet.databases.values()))
    policy = fleet.policies[database.path]
    looked = kit.looker.look(database, None, policy, 20.0, stop)
    said["looked"] = looked.sighting.result.value if looked.content is not None else looked.content_error
    drill = kit.driller.run(Order(database, policy, parity=True), stop=stop, progress=unseen)
    said["drilled"] = [drill.outcome.value, drill.parity.result.value if drill.parity else None]
    checked = kit.examiner.run(database, policy, kit.live.read(database), stop=stop, progress=unseen)
    said["checked"] = checked.sound
    if snippet:
        exec(compile(snippet, "snippet", "exec"), {"__name__": "snippet", "path": database.path})
print(json.dumps({"said": said, "seen": seen}))
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with playing(tmp_path_factory.mktemp("opens"), rows=300) as made:
        made.app.go("small", pause=0.01)
        yield made
        made.app.rest()


def opened(scene: Scene, folder: Path, snippet: str = "") -> tuple[dict[str, object], list[tuple[str, str, str]]]:
    """What the child found, and who opened what of the live database."""
    ours = folder / "sidecar.yml"
    ours.write_text(f"litestream: {{binary: {binary()}}}\nscratch-dir: {folder / 'scratch'}\n")
    argv = [sys.executable, "-c", CHILD, str(scene.litestream.config), str(ours), str(folder / "state"), snippet]
    done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["said"], [tuple(each) for each in answer["seen"]]


def test_only_one_module_opens_live_files(scene: Scene, tmp_path: Path) -> None:
    said, seen = opened(scene, tmp_path)
    assert said == {"looked": "ok", "drilled": ["passed", "equal"], "checked": True}
    assert {name for _, name, _ in seen} == {"app.db", "app.db-wal", "app.db-shm"}, "the hook sees what is opened"
    assert {(event, who) for event, _, who in seen} == {("open", KEEPER)}


@pytest.mark.parametrize(
    "snippet",
    [
        "open(path + '-wal', 'rb').close()",
        "import os; os.close(os.open(path + '-shm', os.O_RDONLY))",
        "import os, shutil; shutil.copyfile(path, os.devnull)",
        "from pathlib import Path; Path(path).read_bytes()",
        "import sqlite3; sqlite3.connect(f'file:{path}?mode=ro', uri=True).close()",
    ],
)
def test_whoever_breaks_the_rule_is_seen(scene: Scene, tmp_path: Path, snippet: str) -> None:
    _, seen = opened(scene, tmp_path, snippet)
    assert "snippet" in {who for _, _, who in seen}
