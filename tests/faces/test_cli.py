"""The command line as scripts and people meet it: help, environment, JSON, tables, colours, exit codes."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from sidecar import __version__
from sidecar.adapters.http_server import HttpServer
from sidecar.commands.render import fleet_table, history_table
from sidecar.core.model import LookResult, Outcome, Sighting
from sidecar.core.parity import Parity, ParityResult, inconclusive
from sidecar.core.policy import Policy
from sidecar.core.settings_model import Listen
from sidecar.core.verdict import FleetVerdict, drill_document, fleet_document, verdict_of
from tests.faces.commands import COMMAND, Scene, in_terminal, interrupt, run, start
from tests.faces.site import Site
from tests.fakes import NOW, database, drill, healthy
from tests.litestreams import free_port, until

COMMANDS = ["run", "demo", "doctor", "status", "history", "verify"]
AS_SCRIPT = [
    sys.executable,
    "-c",
    "import sys; from sidecar.__main__ import main; sys.argv[0] = 'litestream-sidecar'; main()",
]
Serve = Callable[..., HttpServer]


def test_the_version_by_module_and_by_script() -> None:
    for command in (COMMAND, AS_SCRIPT):
        ran = run("--version", command=command)
        assert (ran.code, ran.out, ran.err) == (0, f"litestream-sidecar, version {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option_and_its_variable(command: str) -> None:
    ran = run(command, "--help", env={"COLUMNS": "200"})
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == run(command, "-h", command=AS_SCRIPT, env={"COLUMNS": "200"}).out
    options = set(re.findall(r"^  (--[a-z-]+)", ran.out, re.MULTILINE)) | {"--log-level"}
    said = " ".join(ran.out.split())
    for option in options:
        assert f"LITESTREAM_SIDECAR_{option[2:].upper().replace('-', '_')}" in said, option
    if command != "demo":
        assert {"--litestream-config", "--config", "--state-dir", "--log-format", "--log-level"} <= options


def test_help_of_all_is_for_people() -> None:
    ran = run("--help")
    assert ran.code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\S.*[^.]\.$", ran.out, re.MULTILINE), f"{command}'s line is whole"


def test_the_imports_of_a_command_are_paid_by_that_command() -> None:
    """`--version` loads nothing that answers for databases."""
    program = (
        "import sys\n"
        "from sidecar.cli import entry\n"
        "entry(['--version'])\n"
        "print(sorted({'apsw', 'httpx', 'uvicorn', 'rich', 'yaml', 'cattrs', 'watchdog', 'prometheus_client'} & set(sys.modules)))\n"
    )
    assert run(command=[sys.executable, "-c", program]).out.splitlines()[-1] == "[]"


def test_variables_stand_for_options_and_options_win(scene: Scene) -> None:
    env = {
        "LITESTREAM_SIDECAR_LITESTREAM_CONFIG": str(scene.litestream_yml),
        "LITESTREAM_SIDECAR_CONFIG": str(scene.sidecar_yml),
        "LITESTREAM_SIDECAR_STATE_DIR": str(scene.state),
        "LITESTREAM_SIDECAR_JSON": "1",
        "LITESTREAM_SIDECAR_FULL": "true",
        "LITESTREAM_SIDECAR_KEEP": str(scene.folder / "kept"),
    }
    ran = run("verify", "users", env=env)
    assert ran.code == 0
    assert ran.document["databases"][0]["last_drill"]["check"] == "full"
    assert len(list((scene.folder / "kept").iterdir())) == 1
    assert len(run("history", env=env | {"LITESTREAM_SIDECAR_LIMIT": "1"}).document) == 1
    other = scene.folder / "other"
    run("history", "--state-dir", other, env=env).refused(2, f"there is no state directory {other}")


def test_litestreams_own_variable_names_its_configuration(scene: Scene) -> None:
    given = ["--config", scene.sidecar_yml, "--state-dir", scene.state, "--json"]
    ran = run("verify", "users", *given, env={"LITESTREAM_CONFIG": str(scene.litestream_yml)})
    assert (ran.code, ran.document["ready"]) == (0, True)
    run("verify", *given).refused(2, "/etc/litestream.yml: there is no such file")


def test_warnings_go_to_stderr_and_json_stays_whole(scene: Scene) -> None:
    """A damaged evidence file is moved aside and said."""
    scene.state.mkdir(mode=0o700)
    (scene.state / "evidence.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    ran = scene.run("verify", "users", "--json", "--log-format", "json")
    assert (ran.code, ran.document["ready"]) == (0, True)
    assert ran.err.startswith('{"time": ')
    assert "moved" in ran.err


def test_run_from_its_start_to_its_end(scene: Scene) -> None:
    """Ready to be asked within two seconds on a busy machine; TERM is a clean end."""
    port = free_port()
    daemon = start(
        "run", *scene.options, "--log-format", "json", env={"LITESTREAM_SIDECAR_LISTEN": f"127.0.0.1:{port}"}
    )

    def alive() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
        except httpx.TransportError:
            return False

    until(alive, within=15)
    daemon.send_signal(signal.SIGHUP)
    ended = interrupt(daemon, signal.SIGTERM)
    assert (ended.code, ended.out) == (0, "")
    assert '"message": "ended"' in ended.err
    assert scene.scratch_is_empty()


# status


@pytest.fixture
def broken(site: Site) -> Site:
    """`app` is well; the drill of `users` failed; the store of `cold` cannot be reached; nothing is known of `new`."""
    failed = replace(drill("d2", NOW + timedelta(seconds=1)), outcome=Outcome.FAILED, reason="file_corrupt",
                     message="a file of the backup is damaged", hint="take a new snapshot now")  # fmt: skip
    away = Sighting(NOW, LookResult.UNREACHABLE, "nobody answers at s3:443", "check the host", None, NOW)
    site.house.add("users", healthy().after_drill(failed))
    site.house.add("cold", replace(healthy(), sighting=away))
    site.house.add("new")
    return site


def test_a_ready_fleet_is_0(serve: Serve) -> None:
    url = serve().url
    ran = run("status", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == "READY  1 database can be restored"
    told = run("status", "--json", "--url", f"{url}/ready")
    assert (told.code, told.err) == (0, "")
    assert told.document == httpx.get(f"{url}/ready").json()


def test_proved_bad_is_1_and_not_known_is_3(broken: Site, serve: Serve) -> None:
    url = serve(asgi=broken.app).url
    ran = run("status", "--url", url)
    assert ran.code == 1
    assert run("status", "--url", url, "--json").code == 1
    assert ran.out.startswith("NOT READY  ")
    assert "fail    users drill (file_corrupt): the newest drill failed: a file of the backup is damaged\n" in ran.out
    assert "        try: take a new snapshot now\n" in ran.out
    assert "\x1b" not in ran.out
    broken.house.remove("users")
    assert run("status", "--url", url).code == 3, "a store that cannot be reached proves nothing"
    broken.house.remove("cold")
    assert run("status", "--url", url).code == 3, "nothing is known of `new`"


def test_no_database_at_all_is_3(site: Site, serve: Serve) -> None:
    site.house.remove("app")
    ran = run("status", "--url", serve(asgi=site.app).url)
    assert (ran.code, ran.out) == (3, "NOT READY  litestream.yml names no database that exists\n")


def test_what_several_databases_have_in_common_is_said_once(site: Site, serve: Serve) -> None:
    uncompared = replace(drill(), parity=inconclusive("production is not in reach", "drill where it is"))
    for number in range(7):
        site.house.add(f"db{number}", replace(healthy(), last_drill=uncompared, last_compared=None))
    ran = run("status", "--url", serve(asgi=site.app).url)
    assert ran.code == 0
    assert ran.out.count("not_compared") == 1
    assert "db0, db1, db2, db3, db4 and 2 more parity (not_compared)" in ran.out


def test_the_history_says_how_much_of_production_each_drill_proved() -> None:
    equal = Parity(ParityResult.EQUAL, 20_000, 19_999, 1)
    made = [
        drill(),
        replace(drill(), parity=equal),
        replace(drill(), parity=inconclusive("production is not in reach")),
        replace(drill(), parity=inconclusive("production is not in reach")),
        replace(drill(), parity=None),
        replace(
            drill(), outcome=Outcome.FAILED, reason="pages_differ", message="2 of 20000 pages are not what production held",
            parity=replace(equal, result=ParityResult.DIFFERENT),
        ),
    ]  # fmt: skip
    told = history_table([("app", drill_document(each)) for each in made])
    rows = [line for line in told.splitlines() if line.startswith("2026-")]
    assert [row.split("  ")[-1].strip() for row in rows] == ["100%", "99.99%", "?", "?", "-", "pages differ"]
    assert "app not compared 2 times, last 2026-11-23T03:00:00Z: production is not in reach" in told
    assert "app failed 2026-11-23T03:00:00Z: pages_differ: 2 of 20000 pages are not what production held" in told


def test_a_proof_that_stands_is_told_beside_its_drill() -> None:
    drilled = healthy()
    for evidence, stands in ((drilled, False), (replace(drilled, proof_stood_at=NOW + timedelta(hours=6)), True)):
        verdict = verdict_of(database(), evidence, Policy(), None, NOW + timedelta(hours=7))
        told = " ".join(fleet_table(fleet_document(FleetVerdict((verdict,), verdict.now), "1.2.3")).split())
        assert "passed 2026-11-23T03:00:00Z" in told
        assert ("stands 2026-11-23T09:00:00Z" in told) == stands


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits_the_terminal(broken: Site, serve: Serve, columns: int) -> None:
    ran = in_terminal("status", "--url", serve(asgi=broken.app).url, columns=columns)
    assert ran.code == 1
    plain = re.sub(r"\x1b\[[0-9;]*m", "", ran.out)
    assert max(len(line) for line in plain.splitlines()) <= columns
    assert re.search(r"^database +ready +lag +snapshot +last drill +schema", plain, re.MULTILINE)
    assert "\x1b[1;31mNOT READY\x1b[0m" in ran.out
    assert "\x1b[32myes" in ran.out


def test_colours_are_for_terminals_that_want_them(serve: Serve) -> None:
    url = serve().url
    assert "\x1b[32m" in in_terminal("status", "--url", url).out
    assert "\x1b[32m" not in in_terminal("status", "--url", url, env={"NO_COLOR": "1"}).out
    assert "\x1b" not in in_terminal("status", "--url", url, env={"TERM": "dumb"}).out
    assert "\x1b" not in run("status", "--url", url).out


def test_what_a_database_is_called_does_not_command_the_terminal(site: Site, serve: Serve) -> None:
    site.house.add("[red]\x1b]0;owned\x07\x1b[2J", healthy())
    url = serve(asgi=site.app).url
    for ran in (in_terminal("status", "--url", url, columns=200), run("status", "--url", url)):
        assert r"[red]\x1b]0;owned\x07\x1b[2J" in ran.out
        assert "\x1b]0;" not in ran.out
        assert "\x1b[2J" not in ran.out


def test_a_socket_is_asked_too(serve: Serve, tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    serve(Listen("", 0, path))
    assert run("status", "--url", f"unix:{path}").code == 0
    ours = tmp_path / "sidecar.yml"
    ours.write_text(f"http: {{listen: 'unix:{path}'}}\n")
    assert run("status", "--config", ours).code == 0, "where it listens stands in sidecar.yml"


def test_watching_goes_on_until_it_is_interrupted(site: Site, serve: Serve) -> None:
    server = serve(asgi=site.app)
    watch = start("status", "--watch", "--json", "--url", server.url)
    until(lambda: len(site.counted) >= 2, say="it has asked twice")
    ran = interrupt(watch)
    assert (ran.code, ran.err) == (130, "error: interrupted\n")
    assert ran.out.count('"databases": [') >= 1


def test_watching_outlives_a_restart_of_the_daemon(site: Site, serve: Serve) -> None:
    server = serve(asgi=site.app)
    port = int(server.url.rsplit(":", 1)[1])
    watch = start("status", "--watch", "--url", server.url, env={"PYTHONUNBUFFERED": "1"})
    assert watch.stdout is not None
    assert watch.stdout.readline().startswith("READY")
    server.stop()
    until(lambda: "no daemon answers" in (watch.stdout.readline() if watch.stdout else ""), every=0)
    serve(Listen("127.0.0.1", port), asgi=site.app)
    until(lambda: "READY" in (watch.stdout.readline() if watch.stdout else ""), every=0)
    assert interrupt(watch).code == 130


def test_status_asks_where_the_environment_says_the_daemon_listens(serve: Serve, tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    serve(Listen("", 0, path))
    assert run("status", env={"LITESTREAM_SIDECAR_LISTEN": f"unix:{path}"}).code == 0
