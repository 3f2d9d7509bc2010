"""What is said of a rehearsal: every line green once, and red for its own reason."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sidecar.core.census import Census, ForeignKeys, SchemaObject
from sidecar.core.expectation import Expectation
from sidecar.core.finding import Status
from sidecar.core.model import CheckKind, Content, Database, Drill, Outcome, Position, Replica, SchemaVersion
from sidecar.core.rehearsal import Line, Ran, Rehearsal, RowChange, State, Watched, judge, outcome, spelled, verdict
from sidecar.core.rehearsal_document import rehearsal_document
from sidecar.core.restarts import Shape, restarts, shape_of

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PAGE = 4096
SHAPE = Shape(100 * PAGE, PAGE, wal=True, auto_vacuum="none", inode=7)
NOT_ASKED = Expectation()


def census(rows: int = 100, *, version: str = "1", app: int = 0, columns: str = "id", violations: int = 0) -> Census:
    content = Content(
        read_at=NOON, application_id=app, user_version=int(version), page_size=PAGE, page_count=100, schema_digest="d",
        schema_version=SchemaVersion("user_version", version), tables={"t": rows}, sqlite_version="3.50",
    )  # fmt: skip
    keys = ForeignKeys.of([("t", number, "p", 0) for number in range(violations)])
    return Census(content, keys, (SchemaObject("table", "t", "t", f"create table t ( {columns} )"),))


BEFORE = State(shape=SHAPE, census=census())
DRILL = Drill(
    id="d1", outcome=Outcome.PASSED, reason=None, message="", hint="", position=Position.of_txid(9), started_at=NOON,
    finished_at=NOON, check=CheckKind.QUICK, litestream_version="0.5.17",
)  # fmt: skip
GOOD = Rehearsal(
    database=Database("app", "/data/app.db", "/data/.app.db-litestream", Replica("file", "/replica")),
    drill=DRILL,
    ran=Ran(argv=("migrate", "{db}"), seconds=1.25, exit_code=0),
    watched=Watched(longest_lock_seconds=0.02, commits=3, wal_written_bytes=10 * PAGE),
    before=BEFORE,
    after=BEFORE,
    complaints=(),
    rows=(RowChange(name="t", inserted=0, deleted=0, updated=5),),
    rows_note="",
    pages_changed=2,
    guarded=True,
    production_changed=False,
)  # fmt: skip


def lines(found: Rehearsal, expectation: Expectation = NOT_ASKED) -> dict[str, Line]:
    """The lines by name; of several of one name the worst."""
    order = list(Status)
    return {each.name: each for each in sorted(judge(found, expectation), key=lambda each: order.index(each.status))}


def ran(**changed: Any) -> Rehearsal:
    return replace(GOOD, ran=replace(GOOD.ran, **changed))


def after(**changed: Any) -> Rehearsal:
    return replace(GOOD, after=replace(BEFORE, **changed))


def watched(**changed: Any) -> Rehearsal:
    return replace(GOOD, watched=replace(GOOD.watched, **changed))


def test_all_is_well() -> None:
    found = judge(GOOD, NOT_ASKED)
    assert [each.name for each in found] == [
        "command", "content", "identity", "database", "schema", "transaction", "lock", "litestream", "production",
    ]  # fmt: skip
    assert {each.status for each in found} == {Status.PASS}
    assert all(each.reason is None and not each.hint for each in found)
    assert (outcome(found), verdict(GOOD, found)) == (Status.PASS, "app: the command held on the copy")


FAIL, WARN, UNKNOWN, PASS = Status.FAIL, Status.WARN, Status.UNKNOWN, Status.PASS


@pytest.mark.parametrize(
    ("found", "name", "status", "reason", "says"),
    [
        (ran(exit_code=3), "command", FAIL, "command_failed", "it failed with exit code 3 after 1.2 s"),
        (ran(exit_code=-9, signal="SIGKILL"), "command", FAIL, "command_failed", "it was ended by SIGKILL after"),
        (ran(exit_code=None), "command", UNKNOWN, "timeout", "it had not ended after 1.2 s and was killed"),
        (ran(exit_code=1, scratch_full=True), "command", UNKNOWN, "scratch_full", "the scratch directory had run full"),
        (ran(opened_copy=False), "command", UNKNOWN, "copy_not_opened", "nothing was rehearsed"),
        (replace(GOOD, complaints=("row 1 missing", "b", "c", "d")), "content", FAIL, "db_corrupt", "quick_check: row 1 missing; b; c"),
        (after(census=None, error="no such module: x"), "content", UNKNOWN, "unreadable", "no such module: x"),
        (after(census=census(10)), "identity", FAIL, "shrunk", "table t has 10 rows of 100"),
        (after(census=census(app=5)), "identity", FAIL, "identity_changed", "it makes another database of it: application_id 5"),
        (after(census=census(violations=2)), "database", FAIL, "assertion_failed", "t -> p in 2 rows"),
        (after(census=census(columns="id , w")), "schema", FAIL, "version_differs", "its version is still 1"),
        (ran(left_running=("a (pid 5)",), lock_holder="a (pid 5)"), "transaction", FAIL, "transaction_open", "a (pid 5) still held"),
        (ran(left_running=("a (pid 5)", "b (pid 6)")), "transaction", WARN, "left_running", "a (pid 5), b (pid 6)"),
        (watched(longest_lock_seconds=5.0), "lock", WARN, "lock_long", "up to 5.0 s; most apps give up after 5 s"),
        (watched(longest_lock_seconds=0.0), "lock", PASS, None, "the write lock was never seen held"),
        (watched(rewrote_all=True), "litestream", WARN, "rewrote_all", "every page in one transaction"),
        (watched(journal_made=True), "litestream", WARN, "journal_mode", "refuses that with `database is locked`"),
        (watched(left_wal=True), "litestream", WARN, "journal_mode", "refuses that with `database is locked`"),
        (after(shape=replace(SHAPE, page_size=8192)), "litestream", FAIL, "page_size", "from 4096 to 8192"),
        (after(shape=replace(SHAPE, inode=8)), "litestream", FAIL, "file_replaced", "another file"),
        (replace(ran(production_writers=("app (pid 5)",)), production_changed=True), "production", PASS, None, "written meanwhile, and app (pid 5) has it open"),
        (replace(GOOD, production_changed=True), "production", UNKNOWN, "production_changed", "nobody but the command is known"),
        (replace(GOOD, production_changed=None), "production", PASS, None, "it is not on this machine"),
        (replace(GOOD, guarded=False), "production", PASS, None, "its files are as they were"),
    ],
)  # fmt: skip
def test_each_line_turns_for_its_own_reason(
    found: Rehearsal, name: str, status: Status, reason: str | None, says: str
) -> None:
    told = lines(found)
    line = told[name]
    assert (line.status, line.reason) == (status, reason)
    assert says in line.message
    assert (line.hint != "") == (status is not PASS)
    assert {each.name for each in told.values() if each.status is not PASS} == ({name} if status is not PASS else set())
    assert (outcome(told.values()) is PASS) == (status in {PASS, WARN})
    if status.blocks:
        assert verdict(found, tuple(told.values())) == f"app: {name}: {line.message}"


def test_a_table_that_is_gone_with_all_others() -> None:
    content = replace(census().content, tables={})
    line = lines(after(census=replace(census(), content=content, schema=())))["identity"]
    assert (line.message, line.reason) == ("it leaves no table at all", "empty")
    assert "roll back" not in line.hint


def test_no_hint_speaks_of_a_way_back_from_what_has_not_happened() -> None:
    for found in (after(census=census(10)), after(census=census(violations=2)), after(census=census(columns="x"))):
        assert all("roll" not in each.hint.lower() for each in judge(found, NOT_ASKED))


def test_what_a_killed_command_left_is_not_judged() -> None:
    found = replace(ran(exit_code=None), complaints=("bad",), after=replace(BEFORE, census=census(1)))
    assert outcome(judge(found, NOT_ASKED)) is UNKNOWN


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (replace(ran(exit_code=1), pages_changed=0), "and left nothing behind"),
        (replace(ran(exit_code=1), pages_changed=None), "and left schema and row counts as they were"),
        (replace(ran(exit_code=1), after=replace(BEFORE, census=census(columns="x"))), "left half of its changes behind"),
        (replace(ran(exit_code=1), pages_changed=3), "left half of its changes behind"),
        (replace(ran(exit_code=1), after=replace(BEFORE, census=None)), "and what it left cannot be read"),
    ],
)  # fmt: skip
def test_whether_a_failed_command_undid_its_work(found: Rehearsal, says: str) -> None:
    assert says in lines(found)["command"].message


def test_a_proved_fault_comes_before_what_is_not_known_and_warnings_are_counted() -> None:
    found = replace(ran(opened_copy=False), after=replace(BEFORE, census=census(1)))
    told = judge(found, NOT_ASKED)
    assert verdict(found, told).startswith("app: identity: rows are gone")
    assert verdict(found, told).endswith(" (and 1 more)")
    warned = watched(rewrote_all=True, left_wal=True)
    assert verdict(warned, judge(warned, NOT_ASKED)) == "app: the command held on the copy, with 2 warnings"


@pytest.mark.parametrize(
    ("pages", "wal", "expected"), [(95, 0, True), (80, 0, False), (95, 10, False), (None, 0, False)]
)
def test_vacuum_outside_the_wal_is_told_by_the_pages(pages: int | None, wal: int, *, expected: bool) -> None:
    found = replace(watched(wal_written_bytes=wal), pages_changed=pages)
    assert (lines(found)["litestream"].reason == "rewrote_all") == expected


def test_another_page_size_is_the_end_of_a_backup_by_0_5_and_a_full_copy_by_0_3() -> None:
    def told(*, v3: bool) -> list[tuple[str, bool]]:
        other = replace(SHAPE, page_size=8192)
        return [(each.reason, each.blocks) for each in restarts(SHAPE, other, rewrote_all=False, left_wal=False, v3=v3)]

    assert told(v3=False) == [("page_size", True)]
    assert told(v3=True) == [("page_size", False)]
    old = replace(after(shape=replace(SHAPE, page_size=8192)), drill=replace(DRILL, litestream_version="0.3.13"))
    assert lines(old)["litestream"].status is WARN


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Shape(8192, 4096, wal=False, auto_vacuum="none")),
        ({16: b"\0\1"}, Shape(8192, 65536, wal=False, auto_vacuum="none")),
        ({18: b"\2\2"}, Shape(8192, 4096, wal=True, auto_vacuum="none")),
        ({52: b"\0\0\0\5"}, Shape(8192, 4096, wal=False, auto_vacuum="full")),
        ({52: b"\0\0\0\5", 64: b"\0\0\0\1"}, Shape(8192, 4096, wal=False, auto_vacuum="incremental")),
        ({16: b"\0\7"}, None),
        ({0: b"nothing"}, None),
    ],
)  # fmt: skip
def test_the_shape_of_a_header(changes: dict[int, bytes], expected: Shape | None) -> None:
    header = bytearray(b"SQLite format 3\0" + b"\x10\0" + b"\1\1" + bytes(80))
    for at, put in changes.items():
        header[at : at + len(put)] = put
    assert shape_of(bytes(header), 8192, 0) == expected
    assert shape_of(bytes(header[:99]), 8192, 0) is None


def test_the_document() -> None:
    found = after(census=census(90, version="2", columns="id , w"))
    document = rehearsal_document(found, judge(found, NOT_ASKED), at=NOON, version="1.0.0")
    assert json.loads(json.dumps(document)) == document
    assert list(document) == [
        "outcome", "reason", "checked_at", "version", "database", "drill", "command", "measured", "before", "after", "changes", "checks",
    ]  # fmt: skip
    assert (document["outcome"], document["checked_at"]) == ("held", "2026-11-23T12:00:00Z")
    assert document["changes"]["tables"] == [
        {"name": "t", "before": 100, "after": 90, "inserted": 0, "deleted": 0, "updated": 5}
    ]
    assert document["command"] == {
        "argv": ["migrate", "{db}"], "exit_code": 0, "signal": None, "timed_out": False, "left_running": [], "seconds": 1.25,
    }  # fmt: skip
    unread = after(census=None)
    assert rehearsal_document(unread, judge(unread, NOT_ASKED), at=NOON, version="1")["changes"] is None


@pytest.mark.parametrize(("seconds", "said"), [(0.0214, "21 ms"), (0.9, "900 ms"), (1.0, "1.0 s"), (75.3, "75.3 s")])
def test_spelled(seconds: float, said: str) -> None:
    assert spelled(seconds) == said
