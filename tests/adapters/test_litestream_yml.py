"""litestream.yml is read as the real Litestream reads it; wherever a command can show that, both are asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.adapters import litestream_yml
from sidecar.adapters.litestream_yml import LitestreamConfig, read, rescan
from sidecar.core.errors import ConfigError
from sidecar.core.litestream_keys import Generation
from tests.litestreams import App, Litestream, binary, binary_of, environment, rclone_s3, until

BOTH: tuple[Generation, Generation] = ("0.3", "0.5")


def executable(generation: Generation) -> str:
    return binary() if generation == "0.5" else binary_of("0.3.13")


def ask(generation: Generation, *args: str, config: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Litestream with a configuration on standard input, as the sidecar hands it over."""
    return subprocess.run(
        [executable(generation), *args], input=config, text=True, capture_output=True, timeout=20,
        env=environment(**env), check=False,
    )  # fmt: skip


def write(folder: Path, text: str) -> Path:
    path = folder / "litestream.yml"
    path.write_text(text.replace("§", str(folder)))
    return path


def database(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("create table t (id integer primary key)")
    connection.commit()
    connection.close()
    return path


def names(config: LitestreamConfig) -> dict[str, str]:
    return {each.name: each.path for each in config.databases}


def refusal(path: Path, generation: Generation = "0.5") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(path, {}, generation=generation)
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value


# What a person may get wrong: the file, and the whole sentence. The command shows that Litestream refuses it as well.
REFUSED_05 = [
    ("dbs: {path: /a}", "databases", "dbs: must be a list: entries that begin with `- ` (line 1)"),
    ("[]", "databases", "must hold keys such as `dbs:` (line 1)"),
    ("dbs:\n- path: /a\n- null", "databases",
     ("dbs[0]: has no replica; add `replica:` with a `url:` or a `path:` (line 2); "
     "dbs[1]: must hold keys such as `path:` (line 3)")),
    ("dbs:\n- path: /a\n  replica:\n    path: [x]", "databases",
     "dbs[0].replica.path: must be a single value (line 4)"),
    ("dbs:\n- replica: {path: /r}", "databases",
     "dbs[0]: needs `path:` (one file), or `dir:` and `pattern:` (a folder) (line 2)"),
    ("dbs:\n- path: /a\n  dir: /b\n  pattern: '*'\n  replica: {path: /r}", "databases",
     "dbs[0].dir: and `path` exclude each other; keep one (line 3)"),
    ("dbs:\n- dir: /b\n  replica: {path: /r}", "databases",
     "dbs[0].pattern: is missing; `dir:` needs one such as `*.db` (line 2)"),
    ("dbs:\n- dir: §\n  pattern: '[a'\n  replica: {path: /r}", "replicate",
     "dbs[0].pattern: is not a file pattern; write one such as `*.db` (line 3)"),
    ("dbs:\n- path: /a\n  watch: true\n  replica: {path: /r}", "databases",
     "dbs[0].watch: works with `dir:` only (line 3)"),
    ("dbs:\n- path: /a\n  meta-dir: /m\n  replica: {path: /r}", "databases",
     "dbs[0].meta-dir: works with `dir:` only (line 3)"),
    ("dbs:\n- dir: §\n  pattern: '*'\n  meta-dir: /m\n  meta-path: /m\n  replica: {path: /r}", "databases",
     "dbs[0].meta-dir: and `meta-path` exclude each other; keep one (line 4)"),
    ("dbs:\n- path: /a\n  replica: {path: /r}\n  replicas: [{path: /r}]", "databases",
     "dbs[0].replicas: and `replica` exclude each other; keep `replica` (line 4)"),
    ("dbs:\n- path: /a\n  replicas:\n  - path: /r\n  - path: /s", "databases",
     ("dbs[0].replicas: more than one replica, which Litestream 0.5 refuses; keep one, as `replica:`, or stay with "
     "Litestream 0.3 (line 3)")),
    ("dbs:\n- path: /a\n  replicas: [null]", "databases",
     "dbs[0].replicas[0]: must hold keys such as `path:` (line 3)"),
    ("dbs:\n- path: /a\n  replica:\n    path: s3://AK:SEKRET@b/x", "databases",
     "dbs[0].replica.path: is a URL; write it under `url:` (line 4)"),
    ("dbs:\n- path: /a\n  replica: {url: 's3://b/x', bucket: b}", "databases",
     "dbs[0].replica.bucket: and `url` exclude each other for a replica of type s3; keep one (line 3)"),
    ("bucket: b\ndbs:\n- path: /a\n  replica: {url: 's3://b/x'}", "databases",
     "dbs[0].replica.bucket: and `url` exclude each other for a replica of type s3; keep one (line 4)"),
    ("dbs:\n- path: /a\n  replica: {type: s3, path: x}", "databases",
     "dbs[0].replica.bucket: is missing; a replica of type s3 needs it (line 3)"),
    ("dbs:\n- path: /a\n  replica: {url: 's3://localhost:9000/x'}", "databases",
     "dbs[0].replica.bucket: is missing; a replica of type s3 needs it (line 3)"),
    ("dbs:\n- path: /a\n  replica: {type: sftp, path: x}", "databases",
     ("dbs[0].replica.host: is missing; a replica of type sftp needs it (line 3); "
     "dbs[0].replica.user: is missing; a replica of type sftp needs it (line 3)")),
    ("dbs:\n- path: /a\n  replica: {url: 'nats://h/b', client-cert: c}", "databases",
     "dbs[0].replica.client-cert: and `client-key` must be given together (line 3)"),
    ("dbs:\n- path: /a\n  replica: {type: floppy}", "databases",
     "dbs[0].replica.type: names no replica type of Litestream 0.5 (abs, file, gs, nats, oss, s3, sftp, webdav) (line 3)"),
    ("dbs:\n- path: /a\n  replica: {url: 's3://b:x/y'}", "databases",
     "dbs[0].replica.url: cannot be read as a URL (line 3)"),
    ("dbs:\n- path: /a\n  replica: {url: bucket}", "databases",
     "dbs[0].replica.url: needs a scheme, as in `s3://bucket/path` (line 3)"),
    ("dbs:\n- path: /a\n  replica: {}", "databases",
     "dbs[0].replica.path: is missing; a replica of type file needs it (line 3)"),
    ("dbs:\n- path: /a\n  replica:\n    path: /r\n    age: {recipients: [age1x]}", "databases",
     ("dbs[0].replica.age: age encryption is refused by Litestream 0.5, which cannot encrypt; remove `age:`, or stay with "
     "Litestream 0.3 to read an encrypted replica (line 5)")),
    ("snapshot: {interval: 1 day}\ndbs:\n- path: /a\n  replica: {path: /r, sync-interval: 0s}\nsocket: {enabled: 'true'}",
     "databases",
     ("snapshot.interval: `1 day` is not a duration; write one like `30s`, `5m` or `24h` (Litestream has no days) (line 1); "
     "dbs[0].replica.sync-interval: must be longer than nothing (line 4); "
     "socket.enabled: must be true or false, without quotes (line 5)")),
    ("levels: [{interval: 0s}]\ndbs:\n- path: /a\n  replica: {path: /r, concurrency: many}", "databases",
     ("levels[0].interval: must be longer than nothing (line 1); "
     "dbs[0].replica.concurrency: must be a whole number (line 4)")),
    ("heartbeat-interval: 5s\ndbs:\n- path: /a\n  replica: {path: /r}", "databases",
     "heartbeat-interval: must be one minute or longer (line 1)"),
    ("addr: '9090'\ndbs:\n- path: §/a\n  replica: {path: §/r}", "replicate",
     "addr: needs a port, as in `:9090` (line 1)"),
    ("dbs:\n- path: §/a\n  replica: {path: /r}\n- path: §/./a\n  replica: {path: /s}", "replicate",
     "dbs[1].path: is already listed as dbs[0] (line 4)"),
    (("dbs:\n- path: /a\n  snapshot: {interval: 1h}\n  replica: {path: /r}\n- path: /b\n  snapshot: {interval: 2h}\n"
     "  replica: {path: /s}"), "databases",
     "dbs[1].snapshot.interval: differs from dbs[0]; Litestream has one for all databases (line 6)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "command", "sentence"), REFUSED_05, ids=[each[2][:40] for each in REFUSED_05])
def test_refused_as_litestream_05_refuses_it(tmp_path: Path, text: str, command: str, sentence: str) -> None:
    path = write(tmp_path, text)
    error = refusal(path)
    assert error.message == f"{path}: {sentence}"
    assert "SEKRET" not in error.message + error.hint
    assert ask("0.5", command, "-config", str(path)).returncode != 0


REFUSED_HERE = [
    ("0.5", "", "dbs: the file is empty"),
    ("0.5", "addr: ':9090'", "dbs: no database is listed (line 1)"),
    ("0.5", "dbs: []", "dbs: no database is listed (line 1)"),
    ("0.5", "a: b: c", "is not valid YAML: mapping values are not allowed in this context (line 1)"),
    ("0.5", "dbs:\n  - path: 'x\n", "is not valid YAML: found unexpected end of stream (line 3)"),
    ("0.5", "a: &a [*a]\ndbs: []", "is not valid YAML: an anchor refers to itself"),
    ("0.3", "dbs:\n- dir: /x\n  pattern: '*'\n  replicas: [{path: /r}]",
     "dbs[0].dir: is not known to Litestream 0.3; list each file with `path:`, or move to Litestream 0.5 (line 2)"),
    ("0.3", "dbs:\n- path: /x\n  replica: {path: /r}",
     "dbs[0]: `replica:` is not known to Litestream 0.3, write `replicas:` and below it `- ` (line 3)"),
    ("0.3", "dbs:\n- path: /x", "dbs[0]: has no `replicas:` (line 2)"),
    ("0.3", "dbs:\n- path: /x\n  replicas: [{url: 'gs://b/x'}]",
     "dbs[0].replicas[0].url: names no replica type of Litestream 0.3 (abs, file, gcs, s3, sftp) (line 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("generation", "text", "sentence"), REFUSED_HERE, ids=[each[2][:40] for each in REFUSED_HERE])
def test_refused_because_nothing_could_be_watched(
    tmp_path: Path, generation: Generation, text: str, sentence: str
) -> None:
    path = write(tmp_path, text)
    assert refusal(path, generation).message == f"{path}: {sentence}"


def test_a_missing_unreadable_or_binary_file_is_one_sentence(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.yml").message == f"{tmp_path}/no.yml: there is no such file"
    assert refusal(tmp_path).message == f"{tmp_path}: cannot be read: Is a directory"
    (tmp_path / "b.yml").write_bytes(b"dbs:\n- path: \xff\n")
    assert refusal(tmp_path / "b.yml").message == f"{tmp_path}/b.yml: is not UTF-8 text (line 2)"
    deep = write(tmp_path, "a: " + "[" * 50_000)
    said = refusal(deep).message  # PyYAML 6.0.4 has a limit of its own, older ones crash
    assert said.startswith(f"{deep}: is not valid YAML: ")
    assert "nest" in said


# What looks odd and is right: Litestream takes it, so do we.
ACCEPTED = [
    "{socket: {enabled: y}, bogus-key: 1, dbs: [{path: /p, bogus: 2, replica: {path: /r}}]}",
    "addr: ':1'\naddr: ':9090'\ndbs: [{path: /p, replica: {path: /r, sync-interval: 10}}]",
    "x: &r {path: /r}\ndbs: [{path: /p, replica: {<<: *r, type: file}}]",
    "dbs: [{path: /p, replica: {path: /r}}]\n---\ndbs: [1]",
    "{socket: , snapshot: ~, dbs: [{path: /p, replica: {path: /r}, replicas: []}]}",
    "dbs: [{path: /p, replicas: [{path: /r}]}]",
    "dbs: [{path: 'sqlite:///p', replica: {url: 'file:///r'}}]",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted_as_litestream_accepts_it(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    config = read(path, {})
    assert [(each.name, each.path, each.replica.label) for each in config.databases] == [("p", "/p", "file:///r")]
    said = ask("0.5", "databases", "-json", "-config", str(path))
    assert json.loads(said.stdout) == [{"path": "/p", "replica": "file"}]


VARIABLES = [
    "/v/$A", "/v/${A}b", "/v/$A-b", "/v/$Ab/x", "/v/${NOPE}/x", "/v/$$/x", "/v/$1a", "/v/x$", "/v/${}x", "/v/$-x",
    "/v/${A:-d}x", "/v/$/x", "/v/$EMPTY/x", "/v/${A", "/v/x${1}y", "/v/$_U/x", "/v/a$.b", "/v/../w//x/./",
]  # fmt: skip


def test_variables_and_paths_become_what_litestream_makes_of_them(tmp_path: Path) -> None:
    env = {"A": "one", "EMPTY": "", "_U": "u"}
    for generation in BOTH:
        several = "replicas: [{path: /r}]"
        for text in VARIABLES:
            path = write(tmp_path, f"dbs:\n- {several}\n  path: '{text}'\n- {{path: /last, {several}}}\n")
            said = ask(generation, "databases", "-config", str(path), **env)
            theirs = [line.split("  ")[0] for line in said.stdout.splitlines()[1:]]
            try:
                ours = [each.path for each in read(path, env, generation=generation).databases]
            except ConfigError:
                ours = []
            assert ours == theirs, (generation, text)


def test_variables_that_are_not_set_are_told_but_not_those_in_comments(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "# $GONE\ndbs:\n- path: ${HOME_OF}/x.db # and $GONE\n  replica: {url: 's3://b/${NOPE}', region: '#$R'}\n",
    )
    config = read(path, {"HOME_OF": "/h"})
    assert config.unset_variables == ("NOPE", "R")
    assert "`$NOPE` is not set; Litestream reads nothing in its place" in config.warnings
    assert config.databases[0].replica.label == "s3://b"
    assert read(path, {}, expand_env=False).databases[0].replica.label == "s3://b/${NOPE}"
    assert read(path, {}, expand_env=False).unset_variables == ()


LABELS = [
    ("{path: /r/../s}", "file", "file:///s", None),
    ("{url: 'file:///re p'}", "file", "file:///re%20p", None),
    ("{url: 's3://AKIA123:SEKRET@bkt/a/b'}", "s3", "s3://bkt/a/b", None),
    ("{type: s3, bucket: bkt, path: /a, endpoint: 'http://[::1]:9000'}", "s3", "s3://bkt/a", ("::1", 9000)),
    ("{type: s3, bucket: bkt, path: a, endpoint: s3.example.com}", "s3", "s3://bkt/a", ("s3.example.com", 443)),
    ("{type: s3, bucket: bkt, path: a, endpoint: 'localhost'}", "s3", "s3://bkt/a", ("localhost", 80)),
    ("{url: 's3://bkt.localhost:9000/a'}", "s3", "s3://bkt/a", ("localhost", 9000)),
    ("{url: 's3://bkt/a?endpoint=http://h:81&region=x'}", "s3", "s3://bkt/a", ("h", 81)),
    ("{url: 's3://arn:aws:s3:us-east-1:123456789012:accesspoint/ap/x'}", "s3",
     "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/ap/x", None),
    ("{url: 'sftp://me:SEKRET@host/a'}", "sftp", "sftp://host/a", ("host", 22)),
    ("{type: sftp, host: 'host:2222', user: me, password: 0123, path: /a}", "sftp", "sftp://host:2222/a", ("host", 2222)),
    ("{url: 'webdavs://me:SEKRET@h/a'}", "webdav", "webdav://h/a", ("h", 443)),
    ("{type: webdav, webdav-url: 'http://me:SEKRET@h:8080/dav', path: a}", "webdav", "webdav://h:8080/dav/a", ("h", 8080)),
    ("{url: 'nats://me:SEKRET@h/bucket'}", "nats", "nats://h/bucket", ("h", 4222)),
    ("{url: 'abs://account@box/a'}", "abs", "abs://box/a", None),
    ("{url: 'gs://bkt/a'}", "gs", "gs://bkt/a", None),
    ("{url: 'oss://bkt/a'}", "oss", "oss://bkt/a", None),
]  # fmt: skip


@pytest.mark.parametrize(("replica", "kind", "label", "endpoint"), LABELS, ids=[each[2] for each in LABELS])
def test_label_and_endpoint_of_every_replica_type(
    tmp_path: Path, replica: str, kind: str, label: str, endpoint: tuple[str, int] | None
) -> None:
    config = read(write(tmp_path, f"dbs: [{{path: /p, replica: {replica}}}]"), {})
    made = config.databases[0].replica
    assert (made.type, made.label, made.endpoint) == (kind, label, endpoint)
    assert "SEKRET" not in repr(config)
    assert ("SEKRET" in config.secrets) == ("SEKRET" in replica)
    said = ask("0.5", "databases", "-json", "-no-expand-env", "-config", "/dev/stdin", config=made.config)
    assert (said.returncode, json.loads(said.stdout)) == (0, [{"path": "/p", "replica": kind}])


def test_03_has_types_of_its_own_and_named_replicas(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "access-key-id: AKIDTOP\nsecret-access-key: TOPSECRET\naddr: 127.0.0.1:9090\nsocket: {enabled: true}\ndbs:\n"
        "- path: /a.db\n  meta-path: '~/m'\n  replicas:\n"
        "  - {name: first, type: s3, bucket: b, path: x, retention: 72h, snapshot-interval: 1h, age: {identities: []}}\n"
        "  - path: /second\n"
        "- path: /b.db\n  replicas: [{url: 'gcs://b/x'}]\n- path: /c.db\n  replicas: [{url: 's3://b.localhost:9000/x'}]\n",
    )
    config = read(path, {}, generation="0.3")
    first, second, third = config.databases
    assert (first.replica.name, first.replica.label) == ("first", "s3://b/x")
    assert (second.replica.type, second.replica.name, second.replica.label) == ("gs", "gcs", "gcs://b/x")
    assert (third.replica.label, third.replica.endpoint) == ("s3://b/x", ("localhost", 9000))
    assert first.meta_path == f"{Path.cwd()}/~/m"
    assert "dbs[0] has 2 replicas; only the first is watched" in config.warnings
    assert config.snapshots["/a.db"].retention == timedelta(hours=72)
    assert config.snapshots["/a.db"].interval == timedelta(hours=1)
    assert config.snapshots["/b.db"].interval is None
    assert (config.socket_path, config.metrics_url) == (None, "http://127.0.0.1:9090/metrics")
    for each, kind in ((first, "first"), (second, "gcs"), (third, "s3")):
        said = ask("0.3", "databases", "-no-expand-env", "-config", "/dev/stdin", config=each.replica.config)
        assert said.stdout.splitlines()[1].split() == [each.path, kind]


ADDRESSES = [
    (":9090", "http://127.0.0.1:9090/metrics"), ("0.0.0.0:9090", "http://127.0.0.1:9090/metrics"),
    ("[::]:9090", "http://127.0.0.1:9090/metrics"), ("[::1]:9090", "http://[::1]:9090/metrics"),
    ("metrics.local:80", "http://metrics.local:80/metrics"),
]  # fmt: skip


@pytest.mark.parametrize(("addr", "url"), ADDRESSES)
def test_metrics_url(tmp_path: Path, addr: str, url: str) -> None:
    config = read(write(tmp_path, f"addr: '{addr}'\ndbs: [{{path: /p, replica: {{path: /r}}}}]"), {})
    assert config.metrics_url == url


def test_socket_snapshots_and_l0_retention(tmp_path: Path) -> None:
    plain = read(write(tmp_path, "dbs: [{path: /p, replica: {path: /r}}]"), {})
    assert (plain.socket_path, plain.metrics_url) == (None, None)
    assert plain.snapshots["/p"].interval == plain.snapshots["/p"].retention == timedelta(hours=24)
    assert plain.l0_retention == timedelta(minutes=5)
    text = "l0-retention: 1h\nsocket: {enabled: true}\ndbs: [{path: /p, snapshot: {interval: 1h}, replica: {path: /r}}]"
    own = read(write(tmp_path, text), {})
    assert own.socket_path == "/var/run/litestream.sock"
    assert own.snapshots["/p"].interval == timedelta(hours=1)
    assert own.l0_retention == timedelta(hours=1)
    over = read(write(tmp_path, f"snapshot: {{interval: 2h, retention: 96h}}\n{text}"), {})
    assert over.snapshots["/p"].interval == timedelta(hours=2)
    assert over.snapshots["/p"].retention == timedelta(hours=96)


def test_relative_paths_and_home_are_made_absolute_and_relative_ones_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "dbs: [{path: app.db, replicas: [{path: rep}]}, {path: ~/x.db, replicas: [{path: ~/rep}]}]")
    config = read(path, {})
    said = json.loads(ask("0.5", "databases", "-json", "-config", str(path)).stdout)
    assert [each.path for each in config.databases] == [each["path"] for each in said]
    assert config.databases[0].replica.label == f"file://{tmp_path}/rep"
    assert [each.partition(":")[0] for each in config.warnings] == ["dbs[0].path `app.db` is relative"]


def test_names(tmp_path: Path) -> None:
    paths = ["/data/app.db", "/srv/data/app.db", "/x/app.db", "/x/app.sqlite", "/x/other.db", "/y/.hidden"]
    listed = "".join(f"- {{path: {each}, replica: {{path: /r{each}}}}}\n" for each in paths)
    path = write(tmp_path, f"dbs:\n{listed}")
    assert names(read(path, {})) == {
        "/data/app": "/data/app.db", "srv/data/app": "/srv/data/app.db", "x/app.db": "/x/app.db",
        "app.sqlite": "/x/app.sqlite", "other": "/x/other.db", ".hidden": "/y/.hidden",
    }  # fmt: skip
    named = read(path, {}, aliases={"/data/app.db": "other", "/gone.db": "gone"})
    assert names(named) == {
        "other": "/data/app.db", "data/app": "/srv/data/app.db", "x/app.db": "/x/app.db",
        "app.sqlite": "/x/app.sqlite", "other.db": "/x/other.db", ".hidden": "/y/.hidden",
    }  # fmt: skip
    assert named.warnings == ("sidecar.yml names /gone.db, which litestream.yml does not",)


def test_folders_hold_what_litestream_finds_in_them(tmp_path: Path, litestream: Callable[..., Litestream]) -> None:
    """File pattern, SQLite header, symbolic links, depth: one folder per rule, and Litestream's own answer beside."""
    for folder in ("star", "deep", "class", "negated", "escaped", "question", "target"):
        for name in ("a.db", "b.db", "ab.db", "x.txt", "sub/c.db", "*.db"):
            database(tmp_path / folder / name)
        (tmp_path / folder / "empty.db").touch()
        (tmp_path / folder / "text.db").write_text("SQLite format 4, but no")
        (tmp_path / folder / "linked.db").symlink_to(tmp_path / folder / "a.db")
        (tmp_path / folder / "linkdir.db").symlink_to(tmp_path / folder / "sub")
    (tmp_path / "star" / "broken.db").symlink_to("/nowhere")
    patterns = {"star": "*.db", "deep": "*.db", "class": "[a-b].db", "negated": "[^a].db", "escaped": "\\*.db",
                "question": "?.db"}  # fmt: skip
    path = write(
        tmp_path,
        "dbs:\n" + "".join(
            f"- {{dir: §/{folder}, pattern: '{pattern}', recursive: {str(folder == 'deep').lower()}, "
            f"replica: {{path: §/rep/{folder}}}}}\n" for folder, pattern in patterns.items()
        ),
    )  # fmt: skip
    ours = [each.path for each in read(path, {}).databases]
    running = litestream(path).start()
    until(lambda: running.log.count("found databases in directory") == len(patterns))
    counts = [int(each) for each in re.findall(r"found databases in directory.* count=(\d+)", running.log)]
    until(lambda: running.log.count("initialized db") == sum(counts))
    assert ours == re.findall(r'msg="initialized db" path=(\S+)', running.log)
    assert f"{tmp_path}/deep/sub/c.db" in ours
    assert f"{tmp_path}/escaped/*.db" in ours
    assert f"{tmp_path}/star/linked.db" in ours
    assert len(ours) == 5 + 6 + 2 + 2 + 1 + 3


def test_a_folder_without_databases_is_an_empty_fleet_and_a_warning(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    database(tmp_path / "data" / "app.sqlite")
    text = "dbs: [{dir: §/%s, pattern: '*.db', watch: %s, replica: {path: §/rep}}]"
    empty = read(write(tmp_path, text % ("data", "true")), {})
    assert empty.databases == ()
    assert empty.warnings == (f"dbs[0].dir {tmp_path}/data holds no database matching `*.db`",)
    for folder, warning in (
        ("data", "holds no database matching `*.db`, and without `watch: true` Litestream refuses to start"),
        ("link", "is a symbolic link, which Litestream does not follow; write the folder itself"),
        ("none", "cannot be read: No such file or directory"),
    ):
        path = write(tmp_path, text % (folder, "false"))
        assert read(path, {}).warnings == (f"dbs[0].dir {tmp_path}/{folder} {warning}",)
        assert ask("0.5", "replicate", "-once", "-config", str(path)).returncode != 0


def test_rescan_follows_a_folder_and_is_the_same_object_when_nothing_changed(tmp_path: Path) -> None:
    database(tmp_path / "data" / "a.db")
    path = write(
        tmp_path, "dbs: [{dir: §/data, pattern: '*.db', recursive: true, watch: true, replica: {path: §/rep}}]"
    )
    config = read(path, {}, aliases={f"{tmp_path}/data/b.db": "second"})
    assert names(config) == {"a": f"{tmp_path}/data/a.db"}
    assert rescan(config) is config
    database(tmp_path / "data" / "b.db")
    grown = rescan(config)
    assert names(grown) == {"a": f"{tmp_path}/data/a.db", "second": f"{tmp_path}/data/b.db"}
    database(tmp_path / "data" / "x" / "a.db")
    assert names(rescan(grown))["x/a"] == f"{tmp_path}/data/x/a.db"
    (tmp_path / "data" / "a.db").unlink()
    shrunk = rescan(grown)
    assert set(names(shrunk)) == {"a", "second"}
    assert names(shrunk)["a"] == f"{tmp_path}/data/x/a.db"


def test_looking_again_never_drops_the_locks_of_a_connection_of_ours(tmp_path: Path) -> None:
    """Closing any descriptor of a database file would drop this process's SQLite locks on it (POSIX)."""
    file = database(tmp_path / "data" / "a.db")
    (tmp_path / "data" / "hard.db").hardlink_to(file)
    wide = write(tmp_path, "dbs: [{dir: §/data, pattern: 'a.db', watch: true, replica: {path: §/rep}}]")
    config = read(wide, {})
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("begin immediate")
    try_to_write = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('begin immediate')"

    def locked() -> bool:
        """Whether another process is kept from writing."""
        tried = subprocess.run(
            [sys.executable, "-c", try_to_write, str(file)], capture_output=True, text=True, check=False
        )
        return "database is locked" in tried.stderr

    assert locked()
    rescan(config)
    read(wide, {}, previous=config)
    wide.write_text(wide.read_text().replace("'a.db'", "'*.db'"))  # now the hard link matches as well
    both = read(wide, {}, previous=config)
    assert len(both.databases) == 2
    assert locked()
    read(wide, {})  # without what was known before: the file is opened, closed, and the lock is gone
    assert not locked()
    connection.close()


def test_a_file_that_two_entries_match_counts_once(tmp_path: Path) -> None:
    file = database(tmp_path / "data" / "a.db")
    folder = "{dir: §/data, pattern: '*.db', replica: {path: §/rep}}"
    config = read(write(tmp_path, f"dbs: [{{path: §/data/a.db, replica: {{path: §/own}}}}, {folder}]"), {})
    assert [each.replica.label for each in config.databases] == [f"file://{tmp_path}/own"]
    assert config.warnings == (f"{file} is listed twice (dbs[0], dbs[1]); the first counts",)
    plain = read(write(tmp_path, "dbs: [{path: /p, replica: {path: /r}}]"), {})
    assert rescan(plain) is plain


@pytest.mark.parametrize(
    ("first", "second", "advice"),
    [
        ("{path: /rep}", "{url: 'file:///rep'}", "a path of its own"),
        ("{type: s3, bucket: b, path: app}", "{url: 's3://b/app'}", "a path of its own"),
        (
            "{type: nats, url: 'nats://h:4222/b', path: one}", "{type: nats, url: 'nats://h:4222/b', path: two}",
            "a bucket of its own, since `path` means nothing for NATS",
        ),
    ],
)  # fmt: skip
def test_two_databases_that_replicate_to_one_place_are_said(
    tmp_path: Path, first: str, second: str, advice: str
) -> None:
    config = read(write(tmp_path, f"dbs: [{{path: /a.db, replica: {first}}}, {{path: /b.db, replica: {second}}}]"), {})
    (warning,) = config.warnings
    assert warning.startswith("/a.db and /b.db replicate to the same place, ")
    assert warning.endswith(f": what comes back is neither of them; give each {advice}")


def test_two_endpoints_are_two_places(tmp_path: Path) -> None:
    stores = [f"{{type: s3, bucket: b, path: app, endpoint: 'http://127.0.0.1:{port}'}}" for port in (9000, 9001)]
    entries = ", ".join(f"{{path: /{name}.db, replica: {store}}}" for name, store in zip("ab", stores, strict=True))
    assert read(write(tmp_path, f"dbs: [{entries}]"), {}).warnings == ()


def test_a_file_that_cannot_be_a_database_does_not_stop_the_scan(tmp_path: Path) -> None:
    database(tmp_path / "data" / "a.db")
    os.mkfifo(tmp_path / "data" / "pipe.db")
    (tmp_path / "data" / "dir.db").mkdir()
    for odd in (b"/\xff.db", b"/\xfe.db"):
        Path(os.fsdecode(os.fsencode(tmp_path / "data") + odd)).touch()
    shutil.copy(tmp_path / "data" / "a.db", os.fsdecode(os.fsencode(tmp_path / "data") + b"/\xff.db"))
    path = write(tmp_path, "dbs: [{dir: §/data, pattern: '*.db', replica: {path: §/rep}}]")
    config = read(path, {})
    assert list(names(config)) == ["a"]
    assert config.warnings == (
        f"{tmp_path}/data/\\xff.db: its name is not UTF-8, so it is left out; Litestream 0.5 crashes when it meets it: rename it",
    )


def test_thousands_of_files_are_read_and_looked_at_again_in_no_time(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = database(folder / "0.db").read_bytes()[:16]
    for index in range(1, 2000):
        (folder / f"{index}.db").write_bytes(first)
    path = write(tmp_path, "dbs: [{dir: §/data, pattern: '*.db', watch: true, replica: {url: 's3://b/x'}}]")
    config = read(path, {})
    assert len(config.databases) == 2000
    start = time.process_time()
    assert rescan(config) is config
    assert time.process_time() - start < 1


RESTORED: list[tuple[Generation, str, str]] = [
    ("0.5", "dbs: [{path: §/data/app.db, replica: {path: '§/re $NOT p'}}]", "data/app.db"),
    ("0.5", "dbs: [{path: §/data/app.db, meta-path: §/meta, replica: {url: 'file://§/re p'}}]", "data/app.db"),
    ("0.5", "dbs: [{dir: §/data, pattern: '*', recursive: true, meta-dir: §/meta, replica: {url: 'file://§/r e'}}]",
     "data/in ner/a'b.db"),
    ("0.5", "dbs: [{dir: §/data, pattern: '*', recursive: true, meta-path: §/meta, replica: {path: §/rep}}]",
     "data/in ner/a'b.db"),
    ("0.5", "dbs: [{dir: §/data, pattern: '*', recursive: true, replicas: [{path: §/rep}]}]", "data/ünï.db"),
    ("0.3", "dbs: [{path: §/data/app.db, replicas: [{path: §/rep}, {name: b, path: §/other}]}]", "data/app.db"),
    ("0.3", "dbs: [{path: §/data/app.db, meta-path: §/meta, replicas: [{name: 'a b', url: 'file://§/re p'}]}]",
     "data/app.db"),
]  # fmt: skip


@pytest.mark.parametrize(("generation", "text", "file"), RESTORED)
def test_each_database_restores_from_its_own_configuration_through_standard_input(
    tmp_path: Path, litestream: Callable[..., Litestream], generation: Generation, text: str, file: str
) -> None:
    app = App(tmp_path / file)
    app.write()
    path = write(tmp_path, text)
    config = read(path, {}, generation=generation, expand_env="$NOT" not in text)
    if "$NOT" in text:
        path.write_text(path.read_text().replace("$NOT", "${DOLLAR}NOT"))
    litestream(path, executable=executable(generation), env=environment(DOLLAR="$")).start()
    made = next(each for each in config.databases if each.path == str(tmp_path / file))
    replica = Path(made.replica.label.removeprefix("file://"))
    until(lambda: [*replica.rglob("*.ltx"), *replica.rglob("*.snapshot.lz4")], say=f"files in {replica}")
    assert Path(made.meta_path).is_dir()
    target = tmp_path / "out.db"
    more = ["-replica", made.replica.name] if generation == "0.3" else []

    def restored() -> bool:
        arguments = ["-config", "/dev/stdin", "-no-expand-env", *more, "-o", str(target), made.path]
        return ask(generation, "restore", *arguments, config=made.replica.config).returncode == 0

    until(restored, every=0.2)
    assert sqlite3.connect(target).execute("select count(*) from t").fetchone() == (1,)
    app.close()


def test_defaults_from_the_top_level_reach_a_real_s3_server(
    tmp_path: Path, app: App, litestream: Callable[..., Litestream]
) -> None:
    app.write()
    with rclone_s3(tmp_path / "s3") as server:
        path = write(
            tmp_path,
            f"access-key-id: ${{KEY}}\nsecret-access-key: $SECRET\nendpoint: 'http://127.0.0.1:{server.port}'\n"
            "force-path-style: yes\nregion: us-east-1\ndbs: [{path: §/data/app.db, replica: {url: 's3://bkt/a pp'}}]\n",
        )
        env = {"KEY": server.key, "SECRET": server.secret}
        config = read(path, env)
        made = config.databases[0].replica
        assert (made.label, made.endpoint) == ("s3://bkt/a pp", ("127.0.0.1", server.port))
        assert config.secrets == (server.secret, server.key)
        litestream(path, env=environment(**env)).start()
        until(lambda: list((tmp_path / "s3" / "bkt" / "a pp").rglob("*.ltx")))
        said = ask("0.5", "ltx", "-level", "all", "-json", "-config", "/dev/stdin", "-no-expand-env", str(app.path),
                   config=made.config)  # fmt: skip
        assert said.returncode == 0, said.stderr
        assert json.loads(said.stdout)


def test_what_was_read_is_plain_to_compare(tmp_path: Path) -> None:
    path = write(tmp_path, "dbs: [{path: /p, replica: {path: /r}}]")
    assert read(path, {}) == read(path, {})
    assert replace(read(path, {}), warnings=("x",)) != read(path, {})
    assert litestream_yml.SQLITE_HEADER == b"SQLite format 3\x00"
