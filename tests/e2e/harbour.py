"""A harbour: one database for each kind of store, one Litestream and one daemon beside them all, and a secret in every place that can hold one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from tests.e2e.stage import Sidecar, Stage, last_txid, stage
from tests.litestreams import App, free_port
from tests.stores import KINDS, Azure, Store, serving

RIGHT, WRONG = "SECRETright", "SECRETwrong"
TOKEN, PING, HOOK = "SECRETtoken", "SECRETping", "SECREThook"
SNAPSHOTS = 9
# A database's own commits only: Litestream's checkpoint is a commit of its own, and none may fall into a fault.
BLOCK = "  - path: {path}\n    checkpoint-interval: 1h\n    replica: {replica}\n"
OURS = """\
http: {{token-file: {token}}}
notify: {{heartbeat-url: 'http://ping:{ping}@127.0.0.1:{port}/{ping}/{{db}}', webhook-url: 'http://127.0.0.1:{port}/?key={hook}'}}
resources: {{drills: 2, looks: 8}}
"""


@dataclass
class Harbour:
    """Its stores by name, each with an app; `app` is the database whose replica is a folder."""

    acting: Stage
    stores: dict[str, Store] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)

    @property
    def sidecar(self) -> Sidecar:
        return self.acting.sidecar

    @property
    def secrets(self) -> list[str]:
        """All that must never show, also as the keys that were made of it."""
        made = [each.account(password) for each in self.stores.values() if isinstance(each, Azure)
                for password in (RIGHT + "abs", WRONG + "abs")]  # fmt: skip
        return ["SECRET", *made]

    def write_litestream_yml(self, password: str = RIGHT) -> None:
        """With the passwords that begin like this; one of them comes from the environment."""
        blocks = [
            BLOCK.format(
                path=self.acting.app.path,
                replica=f"{{type: file, path: {self.acting.folder / 'replica'}, sync-interval: 200ms}}",
            )
        ]
        for name, store in self.stores.items():
            block = store.replica(password=f"{password}{name}")
            if name == "webdav" and password == RIGHT:
                block = block.replace(f"{RIGHT}webdav", "$WEBDAV_PASSWORD")
            blocks.append(BLOCK.format(path=self.apps[name].path, replica=block))
        control = f"socket: {{enabled: true, path: {self.acting.folder / 'l.sock'}}}\n"
        control += "levels: [{interval: 1h}]\n"  # a compaction would bring back what a test takes away
        self.acting.litestream.config.write_text(f"{control}dbs:\n{''.join(blocks)}")

    def until_all(self, name: str, status: str, reasons: dict[str, str] | None = None, *, within: float = 30) -> None:
        """One check of every store's database."""
        ends = time.monotonic() + within
        for each in self.stores:
            reason = (reasons or {}).get(each)
            found = self.sidecar.until_check(name, status, reason, db=each, within=max(1.0, ends - time.monotonic()))
            assert bool(found["hint"]) == (status == "fail"), found

    def until_ready(self, *, within: float = 60) -> None:
        self.sidecar.until_ready(within=within)

    def drill(self, name: str) -> tuple[str, str | None]:
        """One now; its outcome and reason."""
        self.sidecar.until_no_drill(name)
        answer = httpx.post(
            f"{self.sidecar.url}/drills", json={"db": name}, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5
        )
        assert answer.status_code == 202, answer.text
        drill = self.sidecar.ended(answer.headers["location"], within=40)
        return drill["outcome"], drill["reason"]


def lose_the_middle(store: Store) -> dict[str, bytes]:
    """Delete what holds the middle of the changes, on every level but the snapshots'; what was deleted."""
    names = [name for name in store.names() if level_of(name) != SNAPSHOTS]
    middle = max(last_txid(Path(name)) for name in names) - 2
    lost = {name: store.read(name) for name in names if first_txid(name) <= middle <= last_txid(Path(name))}
    for name in lost:
        store.delete(name)
    return lost


def level_of(name: str) -> int:
    """Of a file of a replica: its folder is `9` or `0009`, as the store has it."""
    return int(Path(name).parent.name)


def first_txid(name: str) -> int:
    return int(Path(name).stem.split("-")[0], 16)


@contextlib.contextmanager
def harbour(folder: Path) -> Iterator[Harbour]:
    """Everything runs, and has something to replicate."""
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    rest = OURS.format(
        token=token, ping=PING, hook=HOOK, port=free_port()
    )  # nobody listens there: what fails is logged
    with stage(folder / "stage", rest=rest) as acting, contextlib.ExitStack() as stack:
        all_of_it = Harbour(acting)
        for name in KINDS:
            all_of_it.stores[name] = stack.enter_context(serving(name, folder / name, password=f"{RIGHT}{name}"))
            all_of_it.apps[name] = App(acting.folder / "data" / f"{name}.db")
        for each in all_of_it.stores.values():
            acting.litestream.env |= each.env
        acting.litestream.env["WEBDAV_PASSWORD"] = f"{RIGHT}webdav"
        acting.sidecar.env |= acting.litestream.env
        all_of_it.write_litestream_yml()
        for app in (acting.app, *all_of_it.apps.values()):
            app.write(200)
        acting.litestream.start()
        acting.sidecar.start()
        try:
            yield all_of_it
        finally:
            for app in all_of_it.apps.values():
                app.close()


@dataclass
class Watch:
    """Asks /ready all the while, and looks at the command lines and the scratch files of the daemon and its children."""

    harbour: Harbour
    waits_s: list[float] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._ask, self._look)]
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()

    def _ask(self) -> None:
        with httpx.Client(timeout=20) as client:
            while not self._over.wait(0.1):
                self.waits_s.append(client.get(f"{self.harbour.sidecar.url}/ready").elapsed.total_seconds())

    def _look(self) -> None:
        scratch = self.harbour.sidecar.state_dir / "scratch"
        while not self._over.wait(0.03):
            for pid in [self.harbour.sidecar.pid, *children(self.harbour.sidecar.pid)]:
                with contextlib.suppress(OSError):
                    self.seen.add(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " "))
            with contextlib.suppress(OSError):  # rooms go while we look
                self.seen |= {read(each) for each in scratch.rglob("*") if each.is_file()}


def read(file: Path) -> str:
    """Its beginning."""
    with file.open("rb") as opened:
        return opened.read(100_000).decode(errors="replace")


def children(pid: int) -> list[int]:
    """Of a process, in any of its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(each) for each in task.read_text().split()]
    return found
