"""What people do today, as README.md has it, beside ours: each fault is made for real, their check passes, ours says no.

Where ours is no better, or asks more, a test says that too.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.stage import lose_past, newest_txid
from tests.faces.commands import Ran
from tests.litestreams import Litestream, binary, until
from tests.recipes.place import App, Place
from tests.recipes.snippets import blocks_below, settled

CRON, INTEGRITY, SENTINEL, BACKUP = blocks_below("What they are", "sh")
(HEARTBEAT,) = blocks_below("What they are", "yaml")
IN_SECONDS = "policy: {{max-lag: 2s, look-every: 1s}}\nlitestream: {{binary: {binary}, command-timeout: 10s}}\n"
PAGE = 4096


@pytest.fixture
def place(shop: Place) -> Place:
    """All is well."""
    shop.sidecar_yml.write_text(IN_SECONDS.format(binary=binary()))
    return shop


def proved(place: Place) -> None:
    """A drill passes; what it found is remembered."""
    ran = place.sidecar("verify", "app")
    assert ran.code == 0, ran


def theirs(place: Place, script: str) -> Ran:
    """A script of the section in this test's folder."""
    for there in ("/tmp/", "/safe/", "/restored/"):
        folder = place.folder / there.strip("/")
        folder.mkdir(exist_ok=True)
        script = script.replace(there, f"{folder}/")
    script = script.replace("sleep 2", "sleep 1.5")
    env = place.environment | {"LITESTREAM_CONFIG": str(place.litestream_yml)}
    return place.run("sh", "-c", settled(script, place), env=env)


def restored(place: Place) -> Path:
    return place.folder / "restored" / "app.db"


def query(file: Path, sql: str) -> Any:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchone()[0]


def ours(place: Place, *more: str) -> dict[str, tuple[str, str | None]]:
    """What `verify` says: check by check."""
    document = place.sidecar("verify", "app", "--json", *more).document
    return {each["name"]: (each["status"], each["reason"]) for each in document["databases"][0]["checks"]}


def synced(place: Place) -> None:
    """Have everything committed so far in the replica."""
    body = {"path": str(place.database), "wait": True, "timeout": 10}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(place.folder / "l.sock"))) as client:
        until(lambda: client.post("http://l/sync", json=body, timeout=12).status_code == 200, say="synced")


def app(place: Place) -> App:
    assert place.app is not None
    return place.app


# Faults after which a restore still ends well


def lagging(place: Place) -> None:
    """Litestream has ended, and the app goes on."""
    place.stop_litestream()
    app(place).execute("insert into customers (name) values ('of this machine only')")


def tail_lost(place: Place) -> None:
    """The newest files have gone from the store."""
    before = newest_txid(place.replica)
    for number in range(3):
        app(place).execute(f"insert into customers (name) values ('customer {number}')")
        synced(place)
    lose_past(place.replica, before)


def another_apps(place: Place) -> None:
    """Another app's backup stands at the replica's path."""
    other = place.folder / "other"
    (other / "data").mkdir(parents=True)
    wiki = App(other / "data" / "wiki.db")
    wiki.execute("create table pages (title text)")
    yml = other / "litestream.yml"
    yml.write_text(f"dbs: [{{path: {wiki.path}, replica: {{type: file, path: {other}/replica}}}}]")
    litestream = Litestream(yml).start()
    until(lambda: list((other / "replica" / "ltx" / "9").glob("*")), say="its backup is there")
    litestream.stop()
    wiki.stop()
    place.stop_litestream()
    shutil.rmtree(place.replica)
    (other / "replica").rename(place.replica)


def shrunk(place: Place) -> None:
    """Somebody deleted most of what there was."""
    proved(place)
    app(place).execute("delete from items where id > 20")
    app(place).execute("delete from orders where id > 20")
    synced(place)


def replaced(place: Place) -> None:
    """An older state was moved into production's place, and Litestream runs on."""
    proved(place)
    app(place).stop()
    older = place.folder / "older.db"
    with closing(sqlite3.connect(place.database)) as source, closing(sqlite3.connect(older)) as copy:
        source.backup(copy)
        copy.execute("delete from items where id <= 5")
        copy.commit()
    for suffix in ("-wal", "-shm"):
        place.database.with_name(f"app.db{suffix}").unlink(missing_ok=True)
    older.rename(place.database)
    place.app = App(place.database)
    app(place).execute("insert into customers (name) values ('of the replaced file')")


Fault = Callable[[Place], None]
UNSEEN: dict[Fault, tuple[str, str]] = {
    lagging: ("lag", "lagging"),
    tail_lost: ("lag", "lagging"),
    another_apps: ("identity", "identity_changed"),
    shrunk: ("identity", "shrunk"),
    replaced: ("identity", "file_replaced"),
}


@pytest.mark.parametrize("fault", UNSEEN, ids=lambda fault: fault.__name__)
def test_a_restore_that_ends_well_is_not_yet_your_data(place: Place, fault: Fault) -> None:
    """The cron script and Litestream's own check pass; ours says no, and why."""
    check, reason = UNSEEN[fault]
    fault(place)
    assert theirs(place, CRON).code == 0
    assert theirs(place, INTEGRITY).code == 0
    assert query(restored(place), "pragma quick_check") == "ok"
    until(lambda: ours(place)[check] == ("fail", reason), within=20, every=0.3, say=f"{check} {reason}")


def test_all_of_them_see_a_backup_file_that_is_damaged(place: Place) -> None:
    """So the others are no straw men."""
    assert [theirs(place, each).code for each in (CRON, INTEGRITY)] == [0, 0]
    sentinel_comes_back(place)
    place.break_backup()
    restored(place).unlink()
    assert 0 not in [theirs(place, each).code for each in (CRON, INTEGRITY, SENTINEL)]
    assert ours(place)["drill"] == ("fail", "file_corrupt")


def test_an_index_with_a_wrong_key_is_seen_by_an_audit_only_by_theirs_as_by_ours(place: Place) -> None:
    app(place).execute("create index items_sku on items (sku)")
    ((root,),) = app(place).execute("select rootpage from sqlite_schema where name = 'items_sku'")
    entry = f"'index', 'items_sku', 'items', {root}, 'create index items_sku on items (sku)'"
    for sql in (
        "pragma writable_schema = on", "delete from sqlite_schema where name = 'items_sku'", "pragma writable_schema = reset",
        "update items set sku = 'of no index' where id = 5", "pragma writable_schema = on",
        f"insert into sqlite_schema values ({entry})", "pragma writable_schema = reset",
    ):  # fmt: skip
        app(place).execute(sql)
    synced(place)
    assert theirs(place, CRON).code == 0
    assert theirs(place, INTEGRITY).code == 0
    assert theirs(place, INTEGRITY.replace(" quick", " full").replace("app.db /", "full.db /")).code != 0
    assert ours(place)["drill"] == ("pass", None)
    assert ours(place, "--full")["drill"] == ("fail", "db_corrupt")


# `litestream restore -integrity-check` over a WAL that somebody left behind


def leave_a_stale_wal(place: Place) -> None:
    """Restored there on another day, written to, and all but the WAL removed (LITESTREAM-FACTS 5, h2)."""
    target = restored(place)
    assert theirs(place, INTEGRITY).code == 0
    old = App(target)
    old.execute("update items set sku = 'OLD' where id <= 100")
    wal = Path(f"{target}-wal").read_bytes()
    old.stop()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{target}{suffix}").unlink(missing_ok=True)
    Path(f"{target}-wal").write_bytes(wal)


def test_litestreams_check_passes_over_a_stale_wal_and_the_content_is_wrong(place: Place) -> None:
    leave_a_stale_wal(place)
    ran = theirs(place, INTEGRITY)
    assert ran.code == 0, ran
    assert "integrity check passed" in ran.out + ran.err
    assert query(restored(place), "select count(*) from items where sku = 'OLD'") == 100
    assert query(restored(place), "pragma integrity_check") == "ok"
    assert app(place).execute("select count(*) from items where sku = 'OLD'") == [[0]]


def test_ours_takes_the_stale_wal_away_and_says_so(place: Place) -> None:
    leave_a_stale_wal(place)
    ran = place.sidecar("restore", "app", "--to", restored(place))
    assert ran.code == 0, ran
    assert "-wal lay there without its database and was removed" in ran.out
    assert query(restored(place), "select count(*) from items where sku = 'OLD'") == 0


# Litestream's heartbeat


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Somebody who takes heartbeats; the address, and what came."""
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/beat", came
    finally:
        server.shutdown()
        server.server_close()


def last_sync_at(place: Place) -> str:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(place.folder / "l.sock"))) as client:
        (database,) = client.get("http://l/list", timeout=5).json()["databases"]
        return f"{database['status']} {database['last_sync_at']}"


def test_the_heartbeat_of_an_idle_database_goes_on_when_its_replica_is_deleted(shop: Place) -> None:
    shop.stop()
    with listening() as (url, came):
        told = yaml.safe_load(HEARTBEAT)
        assert set(told) == {"heartbeat-url", "heartbeat-interval"}
        ours_now = f"heartbeat-url: {url}\nheartbeat-interval: 1m # the shortest there is; the first comes after 15 s\n"
        quiet = shop.litestream_yml.read_text().replace("    replica:", "    checkpoint-interval: 1h\n    replica:")
        shop.litestream_yml.write_text(ours_now + quiet)
        shop.start()
        before = last_sync_at(shop)
        assert came == []

        def deleted() -> bool:
            """What its start still writes is deleted, too."""
            shutil.rmtree(shop.replica, ignore_errors=True)
            return bool(came)

        until(deleted, within=25, every=0.2, say="the heartbeat comes")
        assert last_sync_at(shop) > before
        assert before.startswith("replicating ")
        assert theirs(shop, CRON).code != 0, "there is nothing to restore"
        assert ours(shop)["replica"] == ("fail", "no_backup")


# A sentinel row, and a copy by .backup, of a database that is damaged elsewhere


def sentinel_comes_back(place: Place) -> None:
    """The script gives Litestream two seconds, which on a busy machine is not always enough."""
    until(lambda: theirs(place, SENTINEL).code == 0, within=30, say="the sentinel row comes back")


def damage(place: Place) -> None:
    """A page of another table than the sentinel's is wiped in production's file, and Litestream copies that faithfully."""
    ((root,),) = app(place).execute("select rootpage from sqlite_schema where name = 'items'")
    place.stop()
    with closing(sqlite3.connect(place.database)) as closing_last:
        closing_last.execute("pragma wal_checkpoint(truncate)")
    with place.database.open("r+b") as file:
        file.seek((root - 1) * PAGE)
        file.write(bytes(PAGE))
    place.start()
    app(place).execute("insert into customers (name) values ('after the damage')")
    synced(place)


def test_a_sentinel_row_comes_back_out_of_a_damaged_backup(place: Place) -> None:
    damage(place)
    sentinel_comes_back(place)
    assert theirs(place, CRON).code != 0
    assert ours(place)["drill"] == ("fail", "db_corrupt")


def test_a_sentinel_row_does_see_what_never_reached_the_store(place: Place) -> None:
    sentinel_comes_back(place)
    lagging(place)
    assert theirs(place, SENTINEL).code != 0


def test_a_sentinel_row_comes_back_of_a_file_that_was_replaced(place: Place) -> None:
    """Litestream joins the new file's WAL to the old file that it has open: the row is there, in another database."""
    replaced(place)
    sentinel_comes_back(place)
    content = "select count(*) from items"
    assert (query(place.folder / "tmp" / "check.db", content), app(place).execute(content)) == (360, [[355]])
    assert ours(place)["identity"] == ("fail", "file_replaced")


def test_a_sentinel_row_is_written_into_production_and_ours_writes_nothing(place: Place) -> None:
    place.stop_litestream()  # it writes by itself, now and then
    before = place.fingerprint()
    assert ours(place)["drill"] == ("pass", None)
    assert place.fingerprint() == before
    place.replicate()
    sentinel_comes_back(place)
    assert app(place).execute("select count(*) from sentinel") == [[1]]
    shrunk(place)
    sentinel_comes_back(place)
    assert ours(place)["identity"] == ("fail", "shrunk")


def test_dot_backup_copies_damage_and_says_nothing(place: Place) -> None:
    damage(place)
    copy = place.folder / "safe" / "app.db"
    assert theirs(place, BACKUP).code == 0
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        query(copy, "select count(*) from items")
    copy.unlink()
    ran = place.sidecar("backup", "app", copy)
    assert ran.code == 1, ran
    assert not copy.exists()
