"""A server with the real systemd, set up word for word as systemd/README.md says: an app, Litestream and an object store as units."""

from __future__ import annotations

import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faces.commands import Ran
from tests.litestreams import ROOT, binary, until
from tests.recipes.machine import Machine, machine

UNITS = ROOT / "systemd"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
HOME = "/opt/litestream-sidecar"
DAEMON, VERIFY = "litestream-sidecar.service", "litestream-sidecar-verify@app.service"
SCRATCH, DATA, BUCKET = "var/cache/litestream-sidecar", "var/lib/app", "srv/store/bkt"
USER = 4242
KEY, SECRET = "AKIDEXAMPLE", "SECRETEXAMPLE"

COMMAND = f"""#!{HOME}/bin/python
import sys
from sidecar.__main__ import main
sys.exit(main())
"""
# The units of a server that is there before we come. Litestream's is the one of its own Debian package.
STORE = f"""[Service]
ExecStart=/usr/local/bin/rclone serve s3 --addr 127.0.0.1:9000 --auth-key {KEY},{SECRET} --vfs-cache-mode off \
  --dir-cache-time 10ms --poll-interval 0 /srv/store
Environment=RCLONE_CONFIG=/dev/null
"""
LITESTREAM = """[Unit]
Description=Litestream
[Service]
Restart=always
EnvironmentFile=-/etc/default/litestream
ExecStart=/usr/local/bin/litestream replicate
[Install]
WantedBy=multi-user.target
"""
APP = """[Service]
User=app
WorkingDirectory=/opt/app
ExecStart=/opt/app/serve
"""
SERVE = f"""#!{HOME}/bin/python
import sqlite3, time
connection = sqlite3.connect("/var/lib/app/app.db", isolation_level=None, timeout=10)
connection.execute("pragma journal_mode=wal")
connection.execute("create table if not exists t (id integer primary key, v)")
print("serving version", connection.execute("pragma user_version").fetchone()[0], flush=True)
while True:
    connection.execute("insert into t (v) values ('x')")
    time.sleep(1)
"""
# `--check`: nothing to migrate.
MIGRATE = f"""#!{HOME}/bin/python
import sqlite3, sys
connection = sqlite3.connect("/var/lib/app/app.db", isolation_level=None, timeout=10)
target = int(open("/opt/app/version").read())
if "--check" in sys.argv:
    sys.exit(connection.execute("pragma user_version").fetchone()[0] != target)
connection.executescript(f"alter table t add column of_version_{{target}}; pragma user_version={{target}}")
"""
POLICY = """policy: {look-every: 1s, max-lag: 30s, drill-every: 1h, drill-max-age: 2h}
litestream: {command-timeout: 3s}
"""


def blocks() -> list[str]:
    """The shell blocks of systemd/README.md."""
    return re.findall(r"^```sh\n(.*?)^```", (UNITS / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@dataclass
class Server:
    """The machine, and who acts on it."""

    machine: Machine
    _flipped: list[Path] = field(default_factory=list)

    def sh(self, script: str, *, code: int | None = 0, within: float = 60) -> Ran:
        ran = self.machine.run("sh", "-ec", script, within=within)
        assert code is None or ran.code == code, (script, ran)
        return ran

    def systemctl(self, *arguments: str, code: int | None = 0) -> Ran:
        ran = self.machine.run("systemctl", *arguments)
        assert code is None or ran.code == code, (arguments, ran, self.journal(arguments[-1]))
        return ran

    def show(self, what: str, unit: str = DAEMON) -> str:
        return self.machine.run("systemctl", "show", "-P", what, unit).out.strip()

    def status(self) -> str:
        return self.show("StatusText")

    def journal(self, unit: str = DAEMON) -> str:
        return self.machine.run("journalctl", "-u", unit, "-o", "cat", "--no-pager").out

    def said(self, text: str, unit: str = DAEMON) -> None:
        """It stands in the journal, which is written a moment later than what it tells happens."""
        until(lambda: text in self.journal(unit), within=5, say=f"{text}: {self.journal(unit)[-2000:]}")

    def path(self, name: str) -> Path:
        """A file of the machine's as it is seen from out here."""
        return self.machine.root / name.removeprefix("/")

    def edit(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file as an editor does: a new one, moved over the old."""
        self.machine.write(f"{name}.new", text, mode)
        self.sh(f"mv {name}.new {name}")

    def configure(self, unit: str, text: str) -> None:
        """A drop-in for the length of one test."""
        self.machine.write(f"/etc/systemd/system/{unit}.d/99-test.conf", text)
        self.systemctl("daemon-reload")

    def ask(self, path: str, *more: str, method: str = "GET") -> tuple[int, Any]:
        """Status code (0: nobody answers) and document; no proxy, no configuration of the host's."""
        ran = self.machine.run(
            "curl", "-q", "-sS", "--noproxy", "*", "-m", "5", "-X", method, *more,
            "-w", "\n%{http_code}", f"http://127.0.0.1:9810{path}",
        )  # fmt: skip
        body, _, code = ran.out.rpartition("\n")
        return int(code or 0), json.loads(body) if body.startswith("{") else body

    def until_ready(self) -> None:
        until(lambda: self.ask("/ready")[0] == 200, within=40, say=f"/ready is 200: {self.status()}")

    def drill(self, *more: str) -> str:
        """Ask for a drill; its state's path."""
        code, said = self.ask(
            "/drills", "-H", "content-type: application/json", "-d", '{"db":"app"}', *more, method="POST"
        )
        assert code == 202, said
        return f"/drills/{said['id']}"

    def restores(self) -> list[str]:
        """Litestream's processes that restore."""
        return self.sh("grep -lsz '^restore$' /proc/[0-9]*/cmdline", code=None).out.split()

    def version(self) -> int:
        """PRAGMA user_version of production, read as the app's user."""
        script = (
            "import sqlite3; print(sqlite3.connect('/var/lib/app/app.db').execute('pragma user_version').fetchone()[0])"
        )
        return int(self.sh(f'runuser -u app -- {HOME}/bin/python -c "{script}"').out)

    def flip(self) -> None:
        """A bit of every file of the backup; once more: as it was."""
        files = self._flipped or sorted(self.path(BUCKET).rglob("*.ltx"))
        assert files
        for each in files:
            if each.exists():
                content = bytearray(each.read_bytes())
                content[len(content) // 2] ^= 0x10
                each.write_bytes(bytes(content))
        self._flipped = [] if self._flipped else files

    def settle(self) -> None:
        """As it was before the test: no drop-in of a test, good configuration, good backup, everything runs."""
        if self._flipped:
            self.flip()
        self.sh(
            "rm -f /etc/systemd/system/*.d/99-test.conf; systemctl daemon-reload; systemctl kill -s CONT store.service"
        )
        self.sh(
            "systemctl reset-failed; systemctl start store litestream app; systemctl restart litestream-sidecar.service"
        )


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server on which app and Litestream have run for a while, and litestream-sidecar as README.md has it installed."""
    scripts = Path(sysconfig.get_path("scripts"))
    shown = {
        "/opt/python": Path(sys.base_prefix),  # ProtectHome= would hide one that lies in somebody's home
        "/opt/packages": Path(sysconfig.get_path("purelib")),
        "/opt/checkout": ROOT,
        "/usr/local/bin/litestream": Path(binary()),
        "/usr/local/bin/rclone": scripts / "rclone",
    }
    with machine(folder, shown=shown) as made:
        here = Server(made)
        site = f"{HOME}/lib/{PYTHON}/site-packages"
        made.write(f"{HOME}/pyvenv.cfg", "home = /opt/python/bin\n")
        made.write(f"{site}/checkout.pth", "/opt/checkout\n/opt/packages\n")
        made.write(f"{HOME}/bin/litestream-sidecar", COMMAND, 0o755)
        made.write("/etc/ld.so.conf.d/python.conf", "/opt/python/lib\n")  # where its libpython is a shared one
        here.sh(
            f"ln -s /opt/python/bin/{PYTHON} {HOME}/bin/python; ldconfig\n"
            f"ln -sf {HOME}/bin/litestream-sidecar /usr/local/bin/; useradd -M -u {USER} -U app\n"
            "systemctl mask --runtime systemd-networkd-wait-online.service\n"  # there is no network to wait for
            "mkdir -p /srv/store/bkt; install -d -m 750 -o app -g app /var/lib/app"
        )
        yml = (UNITS / "litestream.yml").read_text().replace("bucket: app-backup", "bucket: bkt")
        more = (
            "endpoint: http://127.0.0.1:9000\n      force-path-style: true\n      sync-interval: 200ms\n      region:"
        )
        for unit, text in (("store", STORE), ("litestream", LITESTREAM), ("app", APP)):
            made.write(f"/etc/systemd/system/{unit}.service", text)
        made.write("/etc/litestream.yml", yml.replace("region:", more))
        made.write("/etc/default/litestream", f"AWS_ACCESS_KEY_ID={KEY}\nAWS_SECRET_ACCESS_KEY={SECRET}\n", 0o600)
        made.write("/opt/app/serve", SERVE, 0o755)
        made.write("/opt/app/migrate", MIGRATE, 0o755)
        made.write("/opt/app/version", "0")
        here.sh("systemctl daemon-reload; systemctl start store app")
        install(here)
        try:
            yield here
        finally:  # Litestream before its store: it would wait long for one that has gone
            here.sh(
                "systemctl kill -s CONT store; for each in litestream-sidecar app litestream store; do systemctl stop $each; done",
                code=None,
            )


def install(here: Server) -> None:
    """What README.md says, up to the first start; its first block needs a package index, so `server` has done what it does."""
    _, units, litestream, start, _ = blocks()
    here.sh(f"cd /opt/checkout\n{units}")
    ours = here.path("/etc/litestream-sidecar/sidecar.yml")
    ours.write_text(ours.read_text() + POLICY)
    here.machine.write(
        "/etc/litestream-sidecar/aws",
        f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n",
        0o600,
    )
    for unit in ("litestream-sidecar.service", "litestream-sidecar-verify@.service"):
        drop_in = here.path(f"/etc/systemd/system/{unit}.d/10-app.conf")
        drop_in.write_text(
            re.sub("^#((LoadCredential=aws|Environment=AWS).*)", r"\1", drop_in.read_text(), flags=re.MULTILINE)
        )
    here.sh(f"cd /opt/checkout/systemd\n{litestream}")
    here.sh(start)
