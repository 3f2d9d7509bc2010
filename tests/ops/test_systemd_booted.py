"""The shipped units under the real systemd: what an administrator sees when things go well, and when they do not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.litestreams import until
from tests.ops.server import BUCKET, DAEMON, DATA, SCRATCH, USER, VERIFY, Server, blocks, server

LARGE_BYTES = 30_000_000
TOLD = "/etc/systemd/system/litestream-sidecar-verify@.service.d/20-tell.conf"
HOOK = """import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        open('/run/told', 'wb').write(self.rfile.read(int(self.headers['content-length'])))
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(('127.0.0.1', 9999), Hook).serve_forever()
"""


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("server") / "machine") as made:
        yield made


@pytest.fixture
def here(booted: Server) -> Server:
    booted.settle()
    return booted


def test_ten_minutes_as_the_readme_has_them(here: Server) -> None:
    here.until_ready()
    ran = here.sh(blocks()[-1])
    assert '"ready":true' in ran.out.replace(" ", "")
    assert "passed" in ran.out.partition('"ready":')[2], ran.out
    assert here.show("ExecMainStatus", VERIFY) == "0"
    until(lambda: here.status() == "ready: 1 database can be restored", within=8, say=here.status())


def test_a_start_is_done_when_the_loop_has_turned_and_http_answers(here: Server) -> None:
    here.systemctl("stop", DAEMON)
    here.machine.write("/opt/slow", '#!/bin/sh\n[ "$1" != version ] || sleep 2\nexec litestream "$@"\n', 0o755)
    ours = here.path("/etc/litestream-sidecar/sidecar.yml")
    before = ours.read_text()
    ours.write_text(before.replace("litestream: {", "litestream: {binary: /opt/slow, "))
    try:
        here.systemctl("start", "--no-block", DAEMON)
        until(lambda: here.show("MainPID") != "0")
        assert (here.show("ActiveState"), here.status(), here.ask("/livez")[0]) == ("activating", "", 0)
        here.systemctl("start", DAEMON)
        assert here.status().startswith(("ready: ", "not ready: app: ")), here.status()
        assert here.ask("/livez")[0] == 200
    finally:
        ours.write_text(before)


def test_a_wrong_configuration_is_a_failed_unit_and_no_loop_of_restarts(here: Server) -> None:
    here.systemctl("stop", DAEMON)
    here.configure(DAEMON, "[Service]\nEnvironment=LITESTREAM_SIDECAR_CONFIG=/etc/litestream-sidecar/none.yml\n")
    here.systemctl("start", DAEMON, code=1)
    assert [here.show(each) for each in ("ActiveState", "Result", "ExecMainStatus", "NRestarts")] == [
        "failed", "exit-code", "2", "0",
    ]  # fmt: skip
    here.said("error: /etc/litestream-sidecar/none.yml: there is no such file")


def test_the_watchdog_ends_a_stuck_loop_whose_threads_live_and_a_stopped_process(here: Server) -> None:
    here.configure(DAEMON, "[Service]\nWatchdogSec=3s\nRestartSec=2s\n")
    here.systemctl("restart", DAEMON)
    first = here.show("MainPID")
    time.sleep(4)  # a loop that turns is left alone
    assert here.show("MainPID") == first
    # The loop reads a changed configuration itself: a pipe that nobody writes to holds it there for ever.
    here.sh("mkfifo -m 644 /etc/pipe; cp -p /etc/litestream.yml /etc/good; mv /etc/pipe /etc/litestream.yml")
    try:
        time.sleep(1.5)
        assert here.show("Result") == "success"
        assert here.ask("/livez")[0] == 200, "a thread that only said it lives would go on saying so"
        until(lambda: here.show("Result") == "watchdog", within=8, every=0.02, say="the watchdog barks")
    finally:
        here.sh("mv /etc/good /etc/litestream.yml")
    until(lambda: here.show("NRestarts") == "1" and here.show("ActiveState") == "active", say="it is back")
    here.said("Watchdog timeout")
    here.said("Fatal Python error: Aborted")
    here.said("litestream_yml.py")  # the line at which it stood
    here.systemctl("kill", "--signal=STOP", "--kill-whom=main", DAEMON)
    until(lambda: here.show("NRestarts") == "2" and here.show("ActiveState") == "active", say="it is back again")
    assert here.show("MainPID") != first
    here.until_ready()


def test_credentials_reach_the_unit_alone_and_a_missing_one_fails_the_start(here: Server) -> None:
    here.systemctl("stop", DAEMON)
    ours = here.path("/etc/litestream-sidecar/sidecar.yml")
    before = ours.read_text()
    ours.write_text(before.replace("# token-file:", "token-file:"))
    here.configure(DAEMON, "[Service]\nLoadCredential=token:/etc/litestream-sidecar/token\n")
    try:
        here.systemctl("start", DAEMON, code=1)
        until(lambda: here.show("ExecMainStatus") == "243", say="status 243/CREDENTIALS")
        here.said("Failed to set up credentials")
        here.systemctl("stop", DAEMON)
        here.machine.write("/etc/litestream-sidecar/token", "s3same\n", 0o600)
        here.systemctl("start", DAEMON)
        content = ("-H", "content-type: application/json", "-d", '{"db":"app"}')
        assert here.ask("/drills", *content, method="POST")[0] == 401
        here.until_ready()  # with the store's keys from the other credential
        here.drill("-H", "authorization: Bearer s3same")
        assert "s3same" not in here.journal()
        assert "SECRETEXAMPLE" not in here.sh(f"cat /proc/{here.show('MainPID')}/environ").out
        assert here.sh("runuser -u nobody -- cat /run/credentials/litestream-sidecar.service/token", code=None).code
    finally:
        ours.write_text(before)
        here.path("/etc/litestream-sidecar/token").unlink(missing_ok=True)


def test_a_stop_in_the_middle_of_a_restore(here: Server) -> None:
    insert = f"import sqlite3; c = sqlite3.connect('/var/lib/app/app.db', timeout=10); c.execute('insert into t (v) values (randomblob({LARGE_BYTES}))'); c.commit()"
    here.sh(f'runuser -u app -- /opt/litestream-sidecar/bin/python -c "{insert}"')
    until(
        lambda: max(each.stat().st_size for each in here.path(BUCKET).rglob("*.ltx")) > LARGE_BYTES / 2, say="uploaded"
    )
    here.until_ready()
    until(lambda: "drills_running 0" in here.ask("/metrics")[1], say="no drill runs")
    drill = here.drill()
    rooms = here.path(SCRATCH)
    until(lambda: any(each.stat().st_size for each in rooms.glob("*/*.tmp")), every=0.002, say="bytes arrive")
    here.sh("systemctl kill -s STOP store.service")
    assert here.ask(drill)[1]["state"] == "running"
    assert here.restores() != []
    began, killed = time.monotonic(), here.journal().count("Killing")
    here.systemctl("stop", DAEMON)
    assert time.monotonic() - began < 12
    assert [here.show(each) for each in ("ActiveState", "Result", "ExecMainStatus")] == ["inactive", "success", "0"]
    assert here.restores() == []
    assert list(rooms.iterdir()) == []
    assert here.journal().count("Killing") == killed, "it ended its child itself"
    here.sh("systemctl kill -s CONT store.service")
    here.systemctl("start", DAEMON)
    assert here.ask(drill)[1]["state"] == "aborted"


def test_a_reload_takes_a_changed_configuration_over_and_a_broken_one_shows(here: Server) -> None:
    here.until_ready()
    process, said = here.show("MainPID"), here.journal().count("configuration taken over")
    here.systemctl("reload", DAEMON)
    until(lambda: here.journal().count("configuration taken over") > said, say="read again, unchanged as it is")
    ours = "/etc/litestream-sidecar/sidecar.yml"
    before = here.path(ours).read_text()
    try:
        here.edit(ours, before + "polcy: {}\n")
        here.systemctl("reload", DAEMON)
        until(lambda: "the changed configuration is not in force, see the log" in here.status(), say=here.status())
        assert here.ask("/ready")[0] == 200, "the old one stays in force"
    finally:
        here.edit(ours, before)
    here.systemctl("reload", DAEMON)
    until(lambda: here.status() == "ready: 1 database can be restored", say=here.status())
    assert (here.show("MainPID"), here.show("SubState"), here.show("NRestarts")) == (process, "running", "0")


def test_the_timer_verifies_and_a_broken_backup_is_a_failed_unit_that_somebody_hears_of(here: Server) -> None:
    shipped = Path(__file__).resolve().parents[2] / "systemd"
    assert here.show("ActiveState", "litestream-sidecar-verify@app.timer") == "active"
    assert "Sun" in here.show("NextElapseUSecRealtime", "litestream-sidecar-verify@app.timer")
    here.machine.write(TOLD, (shipped / "20-tell.conf").read_text())
    failed = "litestream-sidecar-failed@.service"
    here.machine.write(f"/etc/systemd/system/{failed}", (shipped / failed).read_text())
    here.machine.write("/etc/litestream-sidecar/tell.env", "TELL_URL=http://127.0.0.1:9999/\n", 0o600)
    here.machine.write("/opt/hook.py", HOOK)
    here.sh("systemd-run -q --unit=hook /opt/litestream-sidecar/bin/python /opt/hook.py")
    here.configure(
        "litestream-sidecar-verify@app.timer", "[Timer]\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=10ms\n"
    )
    here.flip()
    here.systemctl("restart", "litestream-sidecar-verify@app.timer")
    until(lambda: here.show("ActiveState", VERIFY) == "failed", say="the timer began it, and it failed")
    assert [here.show(each, VERIFY) for each in ("Result", "ExecMainStatus")] == ["exit-code", "1"]
    assert VERIFY in here.sh("systemctl --failed --no-legend --plain").out
    here.said("DISPROVED", VERIFY)
    until(lambda: VERIFY in here.sh("cat /run/told", code=None).out, say="the webhook heard of it")
    here.flip()
    here.systemctl("start", VERIFY)
    assert here.show("Result", VERIFY) == "success"
    here.sh(
        f"systemctl stop hook; rm {TOLD}; systemctl daemon-reload; systemctl restart litestream-sidecar-verify@app.timer"
    )


def test_the_daemon_can_change_nothing_but_what_is_its_own(here: Server) -> None:
    process = here.show("MainPID")

    def touch(folder: str) -> str:
        """As root, and yet in the daemon's mount namespace."""
        return here.sh(
            f"nsenter -t {process} -m touch {folder}/x && nsenter -t {process} -m rm {folder}/x", code=None
        ).err

    for folder in ("/usr", "/etc", "/var", "/var/log", "/opt", "/srv", "/", "/var/lib", "/var/cache"):
        assert "Read-only file system" in touch(folder), folder
    for folder in ("/home", "/root"):
        assert touch(folder), folder
    for folder in (
        "/var/lib/app",
        "/var/lib/litestream-sidecar",
        "/var/cache/litestream-sidecar",
        "/run/litestream-sidecar",
        "/tmp",
    ):
        assert touch(folder) == "", folder
    for folder in ("/var/lib/app", "/var/lib/litestream-sidecar", "/var/cache/litestream-sidecar", "/tmp", "/var/tmp"):
        script = f"cp /bin/true {folder}/x; {folder}/x; echo $?; rm {folder}/x"
        assert here.sh(f"nsenter -t {process} -m sh -c '{script}'").out == "126\n", folder
    status = dict(
        line.split(":", 1) for line in here.sh(f"tr -d '\\t' </proc/{process}/status").out.splitlines() if ":" in line
    )
    assert {status[each] for each in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert here.sh(f"stat -c %u /proc/{process}").out.strip() == str(USER)
    assert here.sh(f"cat /proc/{process}/oom_score_adj").out.strip() == "500"
    assert here.sh(f"awk '{{print $19}}' /proc/{process}/stat").out.strip() == "10", "nice"
    assert here.sh(f"ionice -p {process}").out.strip() == "idle"
    assert re.search(r"Max core file size +0 +0 ", here.sh(f"cat /proc/{process}/limits").out)
    assert "process_start_time_seconds" in here.ask("/metrics")[1]  # needs /proc/stat


def test_the_apps_files_stay_the_apps_while_it_is_stopped_and_beside_us(here: Server) -> None:
    here.systemctl("stop", DAEMON, "litestream", "app")
    close = (
        "import sqlite3; c = sqlite3.connect('/var/lib/app/app.db'); c.execute('select * from t').fetchone(); c.close()"
    )
    here.sh(f'chmod 660 /var/lib/app/app.db; runuser -u app -- /opt/litestream-sidecar/bin/python -c "{close}"')
    here.sh("test ! -e /var/lib/app/app.db-wal; rm /var/lib/litestream-sidecar/evidence.db*")
    here.systemctl("start", DAEMON)

    def examined() -> bool:
        checks = {each["name"]: each for each in here.ask("/ready")[1]["databases"][0]["checks"]}
        return bool(checks["database"]["status"] == "pass")

    until(examined, say="the closed database was opened and copied")
    owners = {(each.name, each.stat().st_uid) for each in here.path(DATA).rglob("*")}
    assert {owner for _, owner in owners} == {USER}, owners
    here.systemctl("start", "app", "litestream")
    written = here.path(DATA) / "app.db-wal"
    until(written.exists, say="the app writes")
    assert written.stat().st_mode & 0o777 == 0o660
    assert here.show("NRestarts", "app.service") == "0"
    here.until_ready()


def test_the_apps_own_unit_migrates_behind_the_gate_and_starts_without_it(here: Server) -> None:
    shipped = Path(__file__).resolve().parents[2] / "systemd" / "app.service.d" / "10-gate.conf"
    here.until_ready()
    before = here.version()
    here.machine.write("/etc/systemd/system/app.service.d/99-test.conf", shipped.read_text())
    here.systemctl("daemon-reload")
    here.machine.write("/opt/app/version", str(before + 1))
    here.systemctl("restart", "app")
    assert here.version() == before + 1
    here.said("HELD", "app")
    here.flip()
    here.systemctl("restart", "app")  # nothing to migrate: nobody is asked
    here.machine.write("/opt/app/version", str(before + 2))
    here.systemctl("restart", "app", code=1)
    assert here.version() == before + 1
    here.said("REFUSED", "app")
    here.machine.write("/opt/app/version", str(before + 1))
