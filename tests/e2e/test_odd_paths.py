"""Files and folders called what files can be called: copied by the real Litestream, drilled, compared, and shown without a line out of place.

What Litestream cannot cope with is said, with a reason: a name in no encoding ends it, a name too long for its own folder is never copied, and
with `?`, `#` or `%41` in a path it opens another file than the one it copies.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.stage import Sidecar
from tests.litestreams import App, Litestream, binary, environment, until

TOO_LONG = "y" * 244 + ".db"  # SQLite's `-journal` still fits behind it, `.…-litestream` around it does not
# Listed one by one: all that YAML can write. A dollar is a variable to Litestream and cannot be written, so such a file is found in a folder.
LISTED = (
    " lead and trail .db", "it's.db", 'say "hi".db', "100%41.db", "what?.db", "a#b.db", "new\nline.db", "-rf.db", "..up..db",
    "\u00fcber-\u65e5\u672c.db", "tab\t\x1b[31m.db", "back\\slash.db", "[a]*{b} &;<i>.db", TOO_LONG,
)  # fmt: skip
FOUND = ("$HOME and ${X}.db", "sub dir/'q\n#.db", "-d/--help.db")
MISTAKEN = {"100%41.db": "100A.db", "what?.db": "what", "a#b.db": "a", "sub dir/'q\n#.db": "sub dir/'q\n"}
OURS = """\
litestream: {{binary: {binary}}}
policy: {{look-every: 5s, max-lag: 20s, drill-every: 1h, drill-max-age: 2h}}
resources: {{drills: 2}}
"""


@dataclass
class Odd:
    """The daemon, after a drill of each, and what `/ready` says."""

    sidecar: Sidecar
    paths: dict[str, Path]  # by name
    ready: dict[str, Any]
    client: httpx.Client

    @property
    def databases(self) -> dict[str, Any]:
        return {each["name"]: each for each in self.ready["databases"]}

    def get(self, target: str, **headers: str) -> httpx.Response:
        return self.client.get(target, headers=headers)


def name_of(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".db")


def written(folder: Path) -> str:
    """litestream.yml: the listed ones as YAML writes them, and the folder."""
    block = "replica: {{type: file, path: {}, sync-interval: 200ms}}\n"
    lines = [f"  - path: {json.dumps(str(folder / 'one' / each))}\n    {block.format(folder / 'rep' / str(number))}"
             for number, each in enumerate(LISTED)]  # fmt: skip
    lines.append(
        f"  - dir: {folder / 'many'}\n    pattern: '*.db'\n    recursive: true\n    {block.format(folder / 'rep' / 'many')}"
    )
    return f"socket: {{enabled: true, path: {folder / 'l.sock'}}}\ndbs:\n{''.join(lines)}"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    folder = tmp_path_factory.mktemp("odd")
    paths = {name_of(each): folder / "one" / each for each in LISTED} | {
        name_of(each): folder / "many" / each for each in FOUND
    }
    with ExitStack() as opened:
        for path in paths.values():
            opened.enter_context(closing(App(path))).write()
        yml, ours = folder / "litestream.yml", folder / "sidecar.yml"
        yml.write_text(written(folder))
        ours.write_text(OURS.format(binary=binary()))
        litestream, sidecar = Litestream(yml), Sidecar(yml, ours, folder / "state")
        opened.callback(lambda: sidecar.stop() if sidecar.process is not None else None)
        opened.callback(litestream.kill)
        litestream.start()
        until(lambda: len(list(folder.glob("rep/*/ltx/0/*.ltx"))) >= len(LISTED) - 1, say="all are copied")
        until(
            lambda: len(list(folder.glob("rep/many/**/ltx/0/*.ltx"))) >= len(FOUND), say="all in the folder are copied"
        )
        sidecar.start()
        until(lambda: [each["name"] for each in sidecar.ready().json()["databases"] if not each["last_drill"]] == [name_of(TOO_LONG)],
              within=60, every=0.5, say="all that can be are drilled")  # fmt: skip
        client = opened.enter_context(httpx.Client(base_url=sidecar.url, timeout=10))
        yield Odd(sidecar, paths, sidecar.ready().json(), client)


def test_each_is_found_restored_and_equal(odd: Odd) -> None:
    assert {each["name"]: Path(each["path"]) for each in odd.ready["databases"]} == odd.paths
    for name, each in odd.databases.items():
        drill = each["last_drill"]
        if name != name_of(TOO_LONG):
            assert (drill["outcome"], drill["parity"]["result"]) == ("passed", "equal"), (name, drill["message"])
            assert [check["name"] for check in each["checks"] if check["status"] == "fail"] == [], name


def test_what_litestream_cannot_copy_is_said(odd: Odd) -> None:
    checks = {each["name"]: each for each in odd.databases[name_of(TOO_LONG)]["checks"]}
    assert (checks["replica"]["status"], checks["replica"]["reason"]) == ("fail", "no_backup")
    assert odd.databases[name_of(TOO_LONG)]["ready"] is False
    assert odd.ready["ready"] is False


def test_each_is_asked_for_by_name_and_drilled_by_name(odd: Odd) -> None:
    for name in odd.paths:
        for escaped in (quote(name, safe=""), quote(name)):
            found = odd.get(f"/databases/{escaped}").json()
            assert (found["name"], found["path"]) == (name, str(odd.paths[name]))
        alone = odd.client.get("/ready", params={"db": name})
        assert [each["name"] for each in alone.json()["databases"]] == [name]
    name = name_of("new\nline.db")
    assert odd.sidecar.drill(name)["outcome"] == "passed"


def test_one_line_stays_one_line(odd: Odd) -> None:
    text = odd.get("/ready?format=text").text
    lines = text.removesuffix("\n").split("\n")
    assert len(lines) == 1 + sum(len(each["checks"]) for each in odd.databases.values())
    assert all(line.startswith(("[+] ", "[-] ", "[!] ", "[?] ")) for line in lines[1:])
    assert all(line.isprintable() for line in lines), "nothing moves a cursor or changes a colour"
    assert {"[+] new line drill ok", "[+] tab \\x1b[31m drill ok"} <= set(lines)
    log = odd.sidecar.log
    assert all("\x1b[31m" not in line for line in log.splitlines())


def test_metrics_name_each_of_them(odd: Odd) -> None:
    found = {
        sample.labels["db"]: sample.value
        for family in text_string_to_metric_families(odd.get("/metrics").text)
        for sample in family.samples
        if sample.name == "litestream_sidecar_drill_passed_timestamp_seconds"
    }
    assert set(found) == set(odd.paths) - {name_of(TOO_LONG)}


def test_the_page_shows_each_of_them_and_leads_to_it(odd: Odd) -> None:
    page = odd.get("/", accept="text/html")
    assert page.status_code == 200
    assert "<i>" not in page.text
    for name in odd.paths:
        assert f'href="/?db={quote(name, safe="")}"' in page.text
        own = odd.get(f"/?db={quote(name, safe='')}", accept="text/html")
        assert own.status_code == 200


def test_where_litestream_opens_another_file_it_is_said(odd: Odd) -> None:
    for each, other in MISTAKEN.items():
        path = odd.paths[name_of(each)]
        opened = path.parents[each.count("/")] / other
        with closing(sqlite3.connect(opened)) as strange:
            assert ("_litestream_seq",) in strange.execute("select name from sqlite_schema").fetchall(), (
                "Litestream made this one"
            )
    log = odd.sidecar.log
    assert log.count("it does not hold this database's WAL against checkpoints") == len(MISTAKEN)


def test_a_name_in_no_encoding_ends_litestream_and_is_said(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/many/\xff\xfe.db"
    App(tmp_path / "many" / "sound.db").close()
    with closing(sqlite3.connect(odd)) as made:
        made.execute("create table t (v)")
    yml = tmp_path / "litestream.yml"
    yml.write_text(f"dbs: [{{dir: {tmp_path / 'many'}, pattern: '*.db', replica: {{path: {tmp_path / 'rep'}}}}}]")
    done = subprocess.run(
        [binary(), "replicate", "-config", str(yml)], capture_output=True, timeout=20, check=False, env=environment()
    )
    assert done.returncode != 0
    assert b"is not valid UTF-8" in done.stderr + done.stdout
    ours = tmp_path / "sidecar.yml"
    ours.write_text(OURS.format(binary=binary()))
    sidecar = Sidecar(yml, ours, tmp_path / "state")
    sidecar.start()
    try:
        assert [each["name"] for each in sidecar.ready().json()["databases"]] == ["sound"]
        assert sidecar.ready().json()["ready"] is False
        until(
            lambda: "its name is not UTF-8, so it is left out; Litestream 0.5 crashes when it meets it" in sidecar.log,
            within=5,
        )
    finally:
        sidecar.stop()
