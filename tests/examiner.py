"""Looks at live databases as the sidecar does, in a process of its own: whoever reads a file that somebody cuts off may be killed for it.

python -m tests.examiner     One path a line; one JSON object a line back: what each way of looking said.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import apsw

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.live_files import LiveFiles
from sidecar.adapters.local_changes import LocalChanges
from sidecar.adapters.page_file import page_file
from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.adapters.sqlite_pages import LivePages
from sidecar.core.errors import SidecarError
from sidecar.core.model import CheckKind, Database, Replica
from sidecar.pieces import Around, Pace
from sidecar.piecewise import Copier
from tests.page_reading import backup, read, same

DESCRIPTORS = LiveDescriptors()
CLOCK = SystemClock()


def looked(path: str) -> str:
    """What the look reads of the local files; it never raises."""
    state = LiveFiles(DESCRIPTORS.read, CLOCK).read(Database("app", path, f"{path}-litestream", Replica("file", "r")))
    return state.error or ("index" if state.wal_index is not None else "no index")


def content(path: str) -> str:
    return f"{LiveSqlite(DESCRIPTORS).content(path, schema_version='auto', now=CLOCK.now()).page_count} pages"


def checked(path: str) -> str:
    """Copied and checked, as production's content is; the rows of what was found sound."""
    with tempfile.TemporaryDirectory() as made:
        target = Path(made) / "copy.db"
        LiveSqlite(DESCRIPTORS).copy(path, target, timeout_s=20, stop=Event(), progress=lambda *_: None)
        return judged(target)


def pieced(path: str) -> str:
    """The same of a copy in pieces, where it is one."""
    live = LiveSqlite(DESCRIPTORS)
    copier = Copier(LivePages(live), LocalChanges, page_file, live, Pace(settle_s=2.0), hold_s=0.0)
    database = Database("app", path, f"{path}-litestream", Replica("file", "r"))
    with tempfile.TemporaryDirectory() as made:
        target = Path(made) / "copy.db"
        copier.copy(database, target, Around(CLOCK, lambda: 20.0, Event(), lambda *_: None))
        return judged(target)


def judged(copy: Path) -> str:
    complaints = CopySqlite().check(copy, CheckKind.QUICK, timeout_s=20, stop=Event(), progress=lambda *_: None)
    return f"damaged: {complaints[0]}" if complaints else f"sound: {rows(str(copy))}"


def rows(path: str) -> str:
    with closing(
        apsw.Connection(f"file:{path}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    ) as copy:
        return str(copy.execute("select count(*), sum(length(v)), max(id) from t").get)


def paged(path: str) -> str:
    """Page by page, held against SQLite's own copy of the same read transaction."""
    with LivePages(LiveSqlite(DESCRIPTORS)).opened(path) as reader, reader.snapshot() as snapshot:
        ours = read(snapshot)
        return (
            "as SQLite reads them"
            if same(ours, backup(reader, snapshot.index.page_size))
            else "not as SQLite reads them"
        )


WAYS: dict[str, Callable[[str], str]] = {
    "look": looked,
    "content": content,
    "check": checked,
    "pieces": pieced,
    "pages": paged,
}


def examined(path: str) -> dict[str, Any]:
    found = {}
    for name, way in WAYS.items():
        try:
            found[name] = way(path)
        except SidecarError as error:
            found[name] = f"{type(error).__name__}: {error.message}"
        except OSError as error:
            found[name] = f"OSError: {error.strerror}"
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            found[name] = f"UNFORESEEN {type(error).__name__}: {error}"
    return found


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(examined(line.rstrip("\n"))) + "\n")
        sys.stdout.flush()
