"""A kept copy brought forward by what is new, against a full drill: stages, Litestream's follower, our own application of LTX files.

python -m tests.bench.by_change_roads [figures.json]     (SIZE_MB=1000 CHURN=0.01 ROUNDS=2 IDLE_S=15)

Each stage runs in a process of its own; CPU seconds, bytes and the most memory are those of the process and its children. Bytes are those of
read and write calls, whether or not the page cache had them.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

from sidecar.adapters.fingerprints import CHUNK_PAGES, fingerprints
from sidecar.adapters.ltx_application import forward
from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.commands.progress import unseen
from sidecar.core.ltx import index_size, parse_header, parse_name, parse_pages
from sidecar.core.model import CheckKind
from tests.bench.by_change import CHURN, COMMITS, churn
from tests.bench.figures import keep, middle, say
from tests.litestreams import App, Litestream, binary, environment, until

SIZE_MB = int(os.environ.get("SIZE_MB", "1000"))
ROUNDS = int(os.environ.get("ROUNDS", "2"))
IDLE_S = float(os.environ.get("IDLE_S", "15"))
TRIES = 6  # of stopping the follower in the middle
CHECK_S = 3600.0


@dataclass
class Cost:
    """Of one stage: seconds, and MB read, written, resident at most."""

    cpu_s: float
    wall_s: float
    read_mb: float
    written_mb: float
    peak_mb: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.cpu_s + other.cpu_s, self.wall_s + other.wall_s, self.read_mb + other.read_mb,
            self.written_mb + other.written_mb, max(self.peak_mb, other.peak_mb),
        )  # fmt: skip

    def __str__(self) -> str:
        return (
            f"CPU {self.cpu_s:7.3f} s  wall {self.wall_s:7.3f} s  read {self.read_mb:8.1f} MB  "
            f"written {self.written_mb:8.1f} MB  peak {self.peak_mb:5.0f} MB"
        )


def cost(what: Callable[[], object]) -> Cost:
    """Run it in a forked process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            before, cpu, began = io_bytes("self"), cpu_s(), time.monotonic()
            what()
            after, wall = io_bytes("self"), time.monotonic() - began
            peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
            moved = [(b - a) / 1e6 for a, b in zip(before, after, strict=True)]
            os.write(writer, json.dumps([cpu_s() - cpu, wall, *moved, peak / 1000]).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        said = told.read()
    os.waitpid(pid, 0)
    assert said, "the stage failed"
    return Cost(*json.loads(said))


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def io_bytes(pid: int | str) -> tuple[int, int]:
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["rchar"]), int(lines["wchar"])


def process_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int, what: str = "VmRSS") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(what + ":"))


@dataclass
class Stage:
    """A database, its replica, and Litestream, which runs while there is something to send."""

    folder: Path

    def __post_init__(self) -> None:
        self.app = App(self.folder / "data" / "app.db")
        self.app.execute("create index if not exists t_v on t (substr(v, 1, 8))")
        for _ in range(max(SIZE_MB // 10, 1)):
            self.app.connection.execute(
                "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)"
                " insert into t (v) select hex(randomblob(450)) from n"
            )
        self.config = self.folder / "litestream.yml"
        replica = f"{{type: file, path: {self.folder / 'replica'}}}"
        self.config.write_text(f"dbs: [{{path: {self.app.path}, replica: {replica}}}]\n")
        self.litestream = Litestream(self.config).start()
        self.ltx = self.folder / "replica" / "ltx"
        until(lambda: list((self.ltx / "9").glob("*.ltx")), within=900, every=0.5, say="the first snapshot")
        time.sleep(3)

    def newest(self) -> int:
        return max(last for _, last, _ in self.files())

    def files(self) -> list[tuple[int, int, Path]]:
        found = [(parse_name(path.name), path) for path in self.ltx.glob("*/*.ltx")]
        return sorted((named[0], named[1], path) for named, path in found if named is not None)

    def past(self, txid: int) -> list[Path]:
        """The fewest files, none of them a snapshot, that lead on from there."""
        files, found = [each for each in self.files() if each[2].parent.name != "9"], []
        while fits := [(last, -first, path) for first, last, path in files if first <= txid + 1 and last > txid]:
            txid, _, path = max(fits)
            found.append(path)
        return found

    def churn(self) -> None:
        """Change that share of the pages, and wait until the replica has them."""
        before = self.newest()
        churn(self.app, pause_s=1.2)
        until(lambda: self.newest() > before, within=30, say="the changes in the replica")
        time.sleep(3)

    def restore(self, out: Path, txid: int | None = None) -> None:
        at = ["-txid", f"{txid:016x}"] if txid is not None else []
        command = [binary(), "restore", "-config", str(self.config), *at, "-o", str(out), str(self.app.path)]
        subprocess.run(command, check=True, env=environment(), capture_output=True)


def check(copy: Path, kind: CheckKind) -> None:
    said = CopySqlite().check(copy, kind, timeout_s=CHECK_S, stop=Event(), progress=unseen)
    assert not said, said


def parity(production: Path, copy: Path, room: Path, *, compare: bool) -> None:
    """Fingerprints of production's file, and of the copy's pages against them."""
    page_size = 4096
    with fingerprints(room, page_size) as prints:
        with production.open("rb", buffering=0) as file:
            first = 1
            while data := file.read(CHUNK_PAGES * page_size):
                prints.put(first, memoryview(data), 1)
                first += len(data) // page_size
        if compare:
            different = sum(1 for _ in prints.differing(copy))
            assert not different, f"{different} pages differ"


def changed_pages(files: list[Path]) -> set[int]:
    found: set[int] = set()
    for path in files:
        with path.open("rb") as file:
            header = parse_header(file.read(100))
            file.seek(-24, os.SEEK_END)
            size = index_size(file.read(24))
            file.seek(-24 - size, os.SEEK_END)
            found.update(parse_pages(file.read(size), header.page_count) or ())
    return found


def changed_parity(production: Path, copy: Path, files: list[Path]) -> int:
    """Pages that the files name, of production's file and of the copy's."""
    different = 0
    with production.open("rb", buffering=0) as ours, copy.open("rb", buffering=0) as theirs:
        for page in sorted(changed_pages(files)):
            at = (page - 1) * 4096
            different += os.pread(ours.fileno(), 4096, at) != os.pread(theirs.fileno(), 4096, at)
    assert not different, f"{different} changed pages differ"
    return different


def table_of_pages(copy: Path) -> None:
    """dbstat, which tells whose each page is."""
    import apsw  # noqa: PLC0415

    connection = apsw.Connection(f"file:{copy}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    sum(1 for _ in connection.execute("select name, pageno from dbstat"))
    connection.close()


def same_file(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", "-s", str(one), str(other)], check=False).returncode == 0


def one_round(stage: Stage, folder: Path) -> dict[str, Cost]:
    """A full drill's stages and road B's, on the same files, in turn; the copy that B brought forward equals the restored one."""
    kept, out, production = folder / "kept.db", folder / "out.db", stage.app.path
    before = stage.newest()
    kept.unlink(missing_ok=True)
    stage.restore(kept, before)
    stage.churn()
    stage.litestream.stop()  # its read transaction keeps production's file from being whole
    stage.app.execute("pragma wal_checkpoint(truncate)")
    files = stage.past(before)
    took: dict[str, Cost] = {
        "restore": cost(lambda: stage.restore(out)),
        "apply": cost(lambda: forward(kept, files, before)),
    }
    took["quick_check"] = cost(lambda: check(kept, CheckKind.QUICK))
    took["integrity_check"] = cost(lambda: check(out, CheckKind.FULL))
    took["production"] = cost(lambda: parity(production, out, folder, compare=False))
    took["parity"] = cost(lambda: parity(production, kept, folder, compare=True))
    took["changed_parity"] = cost(lambda: changed_parity(production, kept, files))
    took["dbstat"] = cost(lambda: table_of_pages(kept))
    changed = changed_pages(files)
    say(
        f"  {len(files)} files of {sum(each.stat().st_size for each in files) / 1e6:.1f} MB, {len(changed)} pages "
        f"({len(changed) * 4096 / kept.stat().st_size:.2%}); byte for byte as restored: {same_file(kept, out)}"
    )
    out.unlink()
    stage.litestream.start()
    time.sleep(5)
    return took


def follower(stage: Stage, folder: Path) -> dict[str, Any]:
    """Litestream's own, kept alive: idle, applying, stopped in the middle."""
    copy, told = folder / "f.db", folder / "f.db-txid"
    command = [binary(), "restore", "-f", "-config", str(stage.config), "-o", str(copy), str(stage.app.path)]
    with (folder / "follow.log").open("ab") as log:
        running = subprocess.Popen(command, env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until(told.exists, within=600, say="the follower's copy")
        time.sleep(3)
        first, idle_from = process_cpu_s(running.pid), io_bytes(running.pid)
        resident = resident_mb(running.pid)
        time.sleep(IDLE_S)
        idle = (process_cpu_s(running.pid) - first) / IDLE_S * 3600
        torn, between, locked, found = 0, 0, 0, 0
        os.kill(running.pid, signal.SIGSTOP)  # let it find all of the churn at once
        stage.churn()
        target, old = stage.newest(), int(told.read_text(), 16)
        files = stage.past(old)
        want, have = changed_pages(files), folder / "have.db"
        stage.restore(have)
        before, io_before, began = process_cpu_s(running.pid), io_bytes(running.pid), time.monotonic()
        stamp = copy.stat().st_mtime_ns
        os.kill(running.pid, signal.SIGCONT)
        while int(told.read_text() or "0", 16) < target and time.monotonic() - began < 60:
            if found < TRIES and copy.stat().st_mtime_ns != stamp:
                os.kill(running.pid, signal.SIGSTOP)
                time.sleep(0.01)
                stamp, found = copy.stat().st_mtime_ns, found + 1
                done = equal_pages(copy, have, want)
                torn += 0 < done < len(want)
                between += int(told.read_text() or "0", 16) == old
                locked += "POSIX" in (locks := lock_of(copy)) or "FLOCK" in locks
                os.kill(running.pid, signal.SIGCONT)
            time.sleep(0.001)
        wall = time.monotonic() - began
        moved = [(b - a) / 1e6 for a, b in zip(io_before, io_bytes(running.pid), strict=True)]
        return {
            "idle_cpu_s_per_hour": idle, "idle_resident_mb": resident, "peak_mb": resident_mb(running.pid, "VmHWM"),
            "applied_resident_mb": resident_mb(running.pid), "apply_cpu_s": process_cpu_s(running.pid) - before,
            "apply_wall_s": wall, "apply_read_mb": moved[0], "apply_written_mb": moved[1], "files": len(files),
            "stopped": found, "half_way": torn, "told_the_old_txid": between, "lock_held": locked,
            "reached": int(told.read_text(), 16) == target, "read_before_idle_mb": idle_from[0] / 1e6,
        }  # fmt: skip
    finally:
        os.kill(running.pid, signal.SIGCONT)
        running.terminate()
        running.wait(timeout=30)
        again = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=20, check=False)
        say(f"  follower ended and begun again: exit {again.returncode} {again.stderr.strip()[-260:]}")


def equal_pages(copy: Path, other: Path, pages: set[int]) -> int:
    """How many of them are the same already; page 1 apart, which the follower alters."""
    with copy.open("rb", buffering=0) as one, other.open("rb", buffering=0) as two:
        return sum(os.pread(one.fileno(), 4096, (n - 1) * 4096) == os.pread(two.fileno(), 4096, (n - 1) * 4096)
                   for n in pages if n > 1) + (1 in pages)  # fmt: skip


def lock_of(file: Path) -> str:
    inode = f":{file.stat().st_ino} "
    return " ".join(line for line in Path("/proc/locks").read_text().splitlines() if inode in line)


def verdict(rounds: list[dict[str, Cost]]) -> dict[str, Any]:
    took = {name: middle_of([each[name] for each in rounds]) for name in rounds[0]}
    for name, each in took.items():
        say(f"  {name:16} {each}")
    full = took["restore"] + took["quick_check"] + took["parity"]
    ways = {
        "B + quick_check + parity": took["apply"] + took["quick_check"] + took["parity"],
        "B + quick_check + changed parity": took["apply"] + took["quick_check"] + took["changed_parity"],
        "B + changed parity": took["apply"] + took["changed_parity"],
        "B alone": took["apply"],
    }
    say(f"  {'full drill':34} {full}")
    for name, each in ways.items():
        times = [round(a / max(b, 1e-6), 1) for a, b in zip(asdict(full).values(), asdict(each).values(), strict=True)]
        say(f"  {name:34} times cheaper: CPU {times[0]}, wall {times[1]}, read {times[2]}, written {times[3]}")
    return {name: asdict(each) for name, each in (took | {"full": full} | ways).items()}


def middle_of(costs: list[Cost]) -> Cost:
    return Cost(*(middle([getattr(each, name) for each in costs]) for name in asdict(costs[0])))


def main() -> None:
    os.environ.update(environment())
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        stage = Stage(folder)
        try:
            say(
                f"database {stage.app.path.stat().st_size / 1e6:.0f} MB, {CHURN:.1%} of its pages changed in {COMMITS} commits"
            )
            told = follower(stage, folder)
            say(f"  follower {json.dumps(told)}")
            figures = verdict([one_round(stage, folder) for _ in range(ROUNDS)])
        finally:
            stage.litestream.kill()
            stage.app.close()
        keep("by_change_roads", {"size_mb": SIZE_MB, "churn": CHURN, "rounds": ROUNDS, **figures, "follower": told})


if __name__ == "__main__":
    main()
