"""Days in minutes: an app that writes, pauses, breaks and mends, and a model that knows what was done and says what the daemon has to say.

The model is one word for each database, and knows nothing of the sidecar: `sound` must be ready, `broken` must not be, `unsettled`
(something was just done) may be either. It is asked again and again while the acts go on.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from tests.e2e.stage import ASK, Sidecar, Stage, pause, stage
from tests.litestreams import App, until

NAMES = ("app", "orders", "users", "mail")
ROWS_MAX = 6000
WITHIN_S = 60.0  # several times what the policy below implies
POLICY = """\
policy:
  look-every: 1s
  max-lag: 6s
  drill-every: 2s
  drill-max-age: 2m
  audit-every: 20s
  database-check-every: 10s
resources: {{drills: 2, nice: 0}}
litestream: {{binary: {binary}, command-timeout: 20s}}
databases:
  app: {{policy: {{assertions: [{{name: first-row, sql: "select v <> 'wrong' from t where id = 1", min: 1}}]}}}}
# {turn}
"""
# Compactions, retention and snapshots all the while.
THEIRS = """\
levels: [{{interval: 2s}}, {{interval: 10s}}]
snapshot: {{interval: 15s, retention: 1m}}
l0-retention: 30s
l0-retention-check-interval: 5s
socket: {{enabled: true, path: {socket}}}
dbs:
"""


@dataclass
class World:
    """Everything, and what the model says of each database."""

    acting: Stage
    apps: dict[str, App]
    random: random.Random
    model: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)  # where the daemon said something else
    acts: list[str] = field(default_factory=list)
    sizes: list[tuple[float, int, int, int]] = field(
        default_factory=list
    )  # MB resident, descriptors, threads, bytes of state
    turn: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def sidecar(self) -> Sidecar:
        return self.acting.sidecar

    def say(self, state: str, *names: str) -> None:
        """What the model says from now on; none: of all."""
        self.model |= dict.fromkeys(names or NAMES, state)

    def watch(self) -> None:
        """Ask the daemon again and again, and hold its answer against the model's before and after: a change meanwhile excuses."""
        while not self.over.wait(0.2):
            before = dict(self.model)
            with contextlib.suppress(httpx.TransportError):
                answer = self.sidecar.ready().json()
                for each in answer["databases"]:
                    state = before[each["name"]]
                    if state != self.model[each["name"]]:
                        continue
                    if (state == "sound" and not each["ready"]) or (state == "broken" and each["ready"]):
                        self.wrong.append(
                            f"{self.acts[-1]}: {each['name']} is {state}, ready={each['ready']}: {why(each)}"
                        )
            self.sizes.append(sizes(self.sidecar))

    def until_sound(self, *names: str) -> None:
        """Wait until the daemon says ready; from then on it must go on saying so."""
        wanted = names or NAMES
        until(lambda: self.sidecar.ready(db=list(wanted)).status_code == 200, within=WITHIN_S, every=0.2,
              say=f"{wanted} ready after {self.acts[-1]}; {self.sidecar.ready().json()['reason']}")  # fmt: skip
        self.say("sound", *wanted)

    def until_red(self, name: str, reasons: set[str]) -> None:
        """Wait until one of these reasons stands against it; from then on it must not be ready."""

        def told() -> bool:
            (found,) = (each for each in self.sidecar.ready().json()["databases"] if each["name"] == name)
            return any(each["reason"] in reasons and each["status"] == "fail" for each in found["checks"])

        until(told, within=WITHIN_S, every=0.2, say=f"{name} is {reasons} after {self.acts[-1]}")
        self.say("broken", name)


def why(database: dict[str, object]) -> str:
    """The checks that block, in one line."""
    checks: list[dict[str, str]] = database["checks"]  # type: ignore[assignment]
    return "; ".join(
        f"{each['name']} {each['reason']}: {each['message'][:160]}"
        for each in checks
        if each["status"] in {"fail", "unknown"}
    )


def sizes(sidecar: Sidecar) -> tuple[float, int, int, int]:
    """What must not grow."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{sidecar.pid}/status").read_text().splitlines() if ":" in line
    )
    state = sum(each.stat().st_size for each in sidecar.state_dir.glob("evidence.db*"))
    return (
        int(status["VmRSS"].split()[0]) / 1024,
        sum(1 for _ in Path(f"/proc/{sidecar.pid}/fd").iterdir()),
        int(status["Threads"]),
        state,
    )


# Acts that must not redden anything


def write(world: World) -> None:
    for _ in range(world.random.randint(1, 40)):
        world.apps[world.random.choice(NAMES)].write(world.random.randint(1, 20))
        pause(world.random.random() / 50)
    for app in world.apps.values():  # or it grows and grows
        app.execute(f"delete from t where id > 1 and id <= (select max(id) from t) - {ROWS_MAX}")


def rest(world: World) -> None:
    pause(world.random.uniform(0.5, 4))


def vacuum(world: World) -> None:
    world.apps[world.random.choice(NAMES)].execute("vacuum")


def migrate(world: World) -> None:
    """A column more; the schema version moves, which a new drill has to follow."""
    name = world.random.choice(NAMES)
    world.say("unsettled", name)
    version = int(str(world.apps[name].execute("pragma user_version")[0][0])) + 1
    world.apps[name].connection.executescript(
        f"begin; alter table t add column c{version}; pragma user_version = {version}; commit"
    )

    def seen() -> bool:
        (found,) = world.sidecar.ready(db=name).json()["databases"]
        return bool(found["schema_version"]) and found["schema_version"]["value"] == str(version)

    until(seen, within=WITHIN_S, every=0.2, say=f"{name} is at {version}")
    world.until_sound(name)


def reload(world: World) -> None:
    """Another sidecar.yml that means the same."""
    world.turn += 1
    file = world.sidecar.sidecar_yml
    file.write_text(file.read_text().rsplit("# ", 1)[0] + f"# {world.turn}\n")
    os.kill(world.sidecar.pid, signal.SIGHUP)


# Acts that must redden one database, or all, and are undone


def restart(world: World) -> None:
    """Litestream ends, as an operator or as the kernel ends it, and is started again while the app goes on."""
    world.say("unsettled")
    world.random.choice([world.acting.litestream.stop, world.acting.litestream.kill])()
    write(world)
    world.until_red(world.random.choice(NAMES), {"litestream_down", "lagging"})
    world.say("unsettled")
    world.acting.litestream.start()
    world.until_sound()


def broken(world: World, name: str, reasons: set[str], breaks: str, mends: str) -> None:
    world.say("unsettled", name)
    world.apps[name].connection.executescript(breaks)
    world.until_red(name, reasons)
    pause(world.random.uniform(0, 3))
    world.say("unsettled", name)
    world.apps[name].connection.executescript(mends)
    world.until_sound(name)


def lose_rows(world: World) -> None:
    name = world.random.choice(NAMES)
    rows = int(str(world.apps[name].execute("select count(*) from t")[0][0]))
    numbers = f"recursive n (i) as (select 1 union all select i + 1 from n where i < {rows})"
    refill = f"insert into t (v) with {numbers} select hex(randomblob(30)) from n"
    broken(world, name, {"shrunk"}, "delete from t where id % 10 <> 1", refill)


def answer_wrong(world: World) -> None:
    broken(
        world,
        "app",
        {"assertion_failed"},
        "update t set v = 'wrong' where id = 1",
        "update t set v = 'right' where id = 1",
    )


def cut(world: World) -> None:
    """Every snapshot is cut to its half while Litestream hangs; it heals such things by the next snapshot otherwise."""
    name = world.random.choice(NAMES)
    litestream = world.acting.litestream.process
    assert litestream is not None
    world.say("unsettled")
    litestream.send_signal(signal.SIGSTOP)
    whole = {file: file.read_bytes() for file in (world.acting.folder / "replica" / name / "ltx" / "9").glob("*.ltx")}
    for file, data in whole.items():
        file.write_bytes(data[: len(data) // 2])
    world.until_red(name, {"file_corrupt"})
    world.say("unsettled")
    for file, data in whole.items():
        file.write_bytes(data)
    litestream.send_signal(signal.SIGCONT)
    world.until_sound()


HARMLESS: tuple[Callable[[World], None], ...] = (write, write, write, rest, vacuum, migrate, reload)
HARMFUL: tuple[Callable[[World], None], ...] = (restart, lose_rows, answer_wrong, cut)


@contextlib.contextmanager
def world(folder: Path, seed: int) -> Iterator[World]:
    """Four databases beside one Litestream and one daemon that says ready."""
    with stage(folder) as acting:
        apps = {name: acting.app if name == "app" else App(folder / "data" / f"{name}.db") for name in NAMES}
        theirs = THEIRS.format(socket=folder / "l.sock")
        for name, app in apps.items():
            app.execute("create index t_v on t (v)")
            app.write(3000, text="x" * 60)
            theirs += f"  - {{path: {app.path}, replica: {{type: file, path: {folder / 'replica' / name}, sync-interval: 200ms}}}}\n"
        acting.litestream.config.write_text(theirs)
        acting.sidecar.sidecar_yml.write_text(POLICY.format(binary=acting.litestream.executable, turn=0))
        acting.litestream.start()
        acting.sidecar.start()
        made = World(acting, apps, random.Random(seed))
        made.acts.append("start")
        made.say("unsettled")
        made.until_sound()
        watching = threading.Thread(target=made.watch, daemon=True)
        watching.start()
        try:
            yield made
        finally:
            made.over.set()
            watching.join()
            for name, app in apps.items():
                if name != "app":
                    app.close()


def live(made: World, seconds: float, drills: int = 0) -> int:
    """Acts in a random order, each harmful one at least once, for so long and until so many drills have ended; the number of drills."""
    ends_s, queue = time.monotonic() + seconds, list(HARMFUL)
    made.random.shuffle(queue)
    while True:
        for _ in range(made.random.randint(1, 3)):
            do(made, made.random.choice(HARMLESS))
        do(made, queue.pop() if queue else made.random.choice(HARMFUL))
        done = ended(made.sidecar)
        if time.monotonic() > ends_s and done >= drills and not queue:
            return done


def do(made: World, act: Callable[[World], None]) -> None:
    """One act, which stands in what went wrong."""
    made.acts.append(f"{len(made.acts)} {act.__name__}")
    act(made)


def ended(sidecar: Sidecar) -> int:
    """Drills, whatever they found."""
    lines = ASK.get(f"{sidecar.url}/metrics", timeout=10).text.splitlines()
    return int(
        sum(float(each.rsplit(" ", 1)[1]) for each in lines if each.startswith("litestream_sidecar_drills_total{"))
    )


def grown(made: World) -> dict[str, float]:
    """What the last quarter of the time took, as a ratio of the second: the first is the start's."""
    quarter = len(made.sizes) // 4
    columns = zip(*made.sizes, strict=True)
    return {
        what: median(column[-quarter:]) / max(1, median(column[quarter : 2 * quarter]))
        for what, column in zip(("memory", "descriptors", "threads", "state"), columns, strict=True)
    }
