"""The checks about content: each reason seen firing, each check seen passing; and that no reason is left without a case."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sidecar.core.checks import judge
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason, Status
from sidecar.core.live_state import FileId
from sidecar.core.model import CheckKind, Content, Outcome, SchemaVersion
from sidecar.core.policy import Policy
from tests.core.evidences import (
    NOW,
    ROOM,
    Row,
    ago,
    audit,
    capture,
    claim,
    content,
    could_not_check,
    database_check,
    drill,
    finding,
    healthy,
    live,
    seen,
    uncounted,
    unknown,
)
from tests.core.test_checks import ROWS as ROWS_OF_THE_WAY_THERE
from tests.core.test_checks_parity import ROWS as ROWS_OF_PARITY

FAIL, UNKNOWN, WARN, PASS = Status.FAIL, Status.UNKNOWN, Status.WARN, Status.PASS
GOOD, NEW = healthy(), unknown()


def drilled(outcome: Outcome, reason: str, evidence: Evidence = NEW, **facts: object) -> Evidence:
    return evidence.after_drill(drill(NOW, outcome, reason, **facts))


def kept_out(reason: str, times: int = 1, evidence: Evidence = NEW) -> Evidence:
    for _ in range(times):
        evidence = drilled(Outcome.INCONCLUSIVE, reason, evidence)
    return evidence


def produced(found: Content) -> Evidence:
    """Production as SQLite sees it now, beside the restored copy of a minute ago."""
    older = NEW.after_drill(drill(ago(minutes=1))).after_live(live())
    return older.after_content(found, None)


def restored(found: Content) -> Evidence:
    return GOOD.after_drill(drill(content=found))


SETTLED = replace(NEW, first_seen_at=ago(days=1))
LONG_AGO_DRILLED = SETTLED.after_drill(drill(ago(hours=25)))

PROVED = [
    Row(
        check="drill",
        evidence=drilled(Outcome.FAILED, reason),
        status=FAIL,
        reason=Reason(reason),
        says=f"was {reason}",
    )
    for reason in ("file_corrupt", "file_missing", "db_corrupt", "assertion_failed")
]
KEPT_OUT = [
    Row(
        check="drill", evidence=kept_out(reason), status=UNKNOWN, reason=Reason(reason), retryable=retryable,
        says=f"no drill has passed yet; the newest was inconclusive: it was {reason}",
    )
    for reason, retryable in (("restore_failed", True), ("timeout", True), ("raced", True), ("scratch_full", False))
]  # fmt: skip
DRILL = [
    Row(check="drill", evidence=GOOD, status=PASS, says="restored and checked 0 s ago"),
    Row(check="drill", evidence=NEW, status=UNKNOWN, reason=Reason.NEVER_DRILLED, retryable=True, says="never been"),
    *PROVED,
    *KEPT_OUT,
    Row(
        check="drill", evidence=drilled(Outcome.ABORTED, "aborted"), status=UNKNOWN, reason=Reason.ABORTED, retryable=True,
        says="the newest was aborted",
    ),
    Row(
        check="drill", evidence=kept_out("timeout", 3), status=UNKNOWN, reason=Reason.TIMEOUT, retryable=False,
        says="the newest was inconclusive",
    ),
    Row(
        check="drill", evidence=LONG_AGO_DRILLED, status=FAIL, reason=Reason.DRILL_OLD, retryable=True,
        says="last restored 1d1h ago (limit 1d)",
    ),
    Row(
        check="drill", evidence=kept_out("scratch_full", 1, LONG_AGO_DRILLED), status=FAIL, reason=Reason.DRILL_OLD,
        retryable=False, says="the newest was inconclusive (scratch_full)",
    ),
    Row(check="drill", evidence=kept_out("timeout", 9, GOOD), status=PASS, says="restored"),
    Row(
        check="drill", evidence=GOOD, now=ago(hours=2), status=UNKNOWN, reason=Reason.DRILL_OLD, retryable=True,
        says="2h ahead of this machine's clock, which was set back",
    ),
]  # fmt: skip

IDENTITY = [
    Row(check="identity", evidence=GOOD, status=PASS, says="are the same database"),
    Row(
        check="identity", evidence=NEW, status=UNKNOWN, reason=Reason.IDENTITY_CHANGED, retryable=True,
        says="production has not been read",
    ),
    Row(
        check="identity", evidence=NEW.after_drill(drill()).after_content(None, "not the app's user (run as it)"),
        status=UNKNOWN, reason=Reason.IDENTITY_CHANGED, says="production has not been read",
    ),
    Row(
        check="identity", evidence=NEW.after_content(uncounted(), None), status=UNKNOWN, reason=Reason.IDENTITY_CHANGED,
        retryable=True, says="no restored copy has been read yet",
    ),
    Row(
        check="identity", evidence=GOOD.after_live(live(file_id=FileId(8, 2002), captures=())), status=FAIL,
        reason=Reason.FILE_REPLACED, says="another file stands at the database's path",
    ),
    Row(
        check="identity", evidence=GOOD.after_content(uncounted(tables={}), None), status=FAIL, reason=Reason.EMPTY,
        says="production holds no table",
    ),
    Row(
        check="identity", evidence=NEW.after_content(uncounted(tables={}), None), status=FAIL, reason=Reason.EMPTY,
        retryable=True, says="production holds no table",
    ),
    Row(
        check="identity", evidence=restored(content(tables={})), status=FAIL, reason=Reason.EMPTY,
        says="the restored copy holds no table",
    ),
    *(
        Row(
            check="identity", evidence=restored(other), status=FAIL, reason=Reason.IDENTITY_CHANGED,
            says=f"the restored copy is not this database: {why}",
        )
        for other, why in (
            (content(application_id=8), "application_id 8 instead of 7"),
            (content(page_size=8192), "page size 8192 instead of 4096"),
            (content(tables={"songs": 1}), "they have no table in common (it holds songs)"),
        )
    ),
    Row(
        check="identity", evidence=produced(uncounted(application_id=8)), status=FAIL, reason=Reason.IDENTITY_CHANGED,
        retryable=True, says="application_id 7 instead of 8",  # production was read after the drill: the next one settles it
    ),
    Row(
        check="identity", evidence=restored(content(tables={"users": 40, "orders": 20})), status=FAIL,
        reason=Reason.SHRUNK, says="60% of its rows, tables or pages are gone",
    ),
    Row(
        check="identity", evidence=GOOD.after_content(uncounted(page_count=4), None), status=FAIL, reason=Reason.SHRUNK,
        says="60% of its rows",
    ),
    Row(
        check="identity", evidence=restored(content(tables={"users": 40, "orders": 20})), policy=Policy(max_shrink=0.7),
        status=PASS, says="same database",
    ),
]  # fmt: skip

NO_FILE = live(file_id=None, modified_at=None, wal_index=None, captures=(), size_bytes=0, wal_bytes=0)
DAMAGED = database_check(sound=False, reason="db_corrupt", message="quick_check: row 3 missing from index i")
HALF_A_DAY = timedelta(hours=13)
DATABASE = [
    Row(check="database", evidence=GOOD, status=PASS, says="quick_check passed 0 s ago"),
    Row(
        check="database", evidence=NEW, status=UNKNOWN, reason=Reason.CHECK_OLD, retryable=True,
        says="production has not been checked yet",
    ),
    Row(
        check="database", evidence=GOOD, now=NOW + HALF_A_DAY, status=FAIL, reason=Reason.CHECK_OLD, retryable=True,
        says="last checked 13h ago (limit 12h)",
    ),
    Row(
        check="database", evidence=GOOD.after_database_check(could_not_check("unreadable", NOW + HALF_A_DAY)),
        now=NOW + HALF_A_DAY, status=FAIL, reason=Reason.CHECK_OLD, says="since then: it was unreadable",
    ),
    Row(
        check="database", evidence=NEW.after_database_check(could_not_check("check_old")), status=UNKNOWN,
        reason=Reason.CHECK_OLD, retryable=True, says="could not be checked: it was check_old",
    ),
    Row(
        check="database", evidence=NEW.after_database_check(could_not_check("unreadable")), status=UNKNOWN,
        reason=Reason.UNREADABLE, says="could not be checked: it was unreadable",
    ),
    Row(
        check="database", evidence=GOOD.after_live(NO_FILE), status=FAIL, reason=Reason.UNREADABLE,
        says="there is no database file at its path",
    ),
    Row(
        check="database", evidence=NEW.after_live(NO_FILE), status=FAIL, reason=Reason.UNREADABLE, retryable=True,
        says="there is no database file at its path",
    ),
    Row(  # not being let in says nothing of what stands there
        check="database", evidence=GOOD.after_live(replace(NO_FILE, error="/data/app.db: permission denied")), status=UNKNOWN,
        reason=Reason.UNREADABLE, says="cannot be seen: /data/app.db: permission denied",
    ),
    Row(
        check="database", evidence=GOOD.after_database_check(DAMAGED), status=FAIL, reason=Reason.DB_CORRUPT,
        says="production is damaged: quick_check: row 3 missing",
    ),
    Row(
        check="database", evidence=GOOD.after_database_check(DAMAGED).after_database_check(could_not_check("check_old")),
        status=FAIL, reason=Reason.DB_CORRUPT, says="production is damaged",
    ),
    Row(
        check="database", evidence=GOOD, now=ago(hours=2), status=UNKNOWN, reason=Reason.CHECK_OLD, retryable=True,
        says="set back",
    ),
]  # fmt: skip

NEXT = SchemaVersion("django_migrations", "0043_next")
SCHEMA = [
    Row(check="schema", evidence=GOOD, status=PASS, says="are at 0042_auto (django_migrations)"),
    Row(
        check="schema", evidence=NEW, status=UNKNOWN, reason=Reason.VERSION_UNKNOWN, retryable=True, says="has not been read"
    ),
    Row(
        check="schema", evidence=NEW.after_content(None, "not the app's user (run as it)"), status=UNKNOWN,
        reason=Reason.VERSION_UNKNOWN, says="has not been read",
    ),
    Row(
        check="schema", evidence=GOOD.after_content(None, "not the app's user (run as it)"), status=UNKNOWN,
        reason=Reason.VERSION_UNKNOWN, says="cannot be read now",
    ),
    Row(
        check="schema", evidence=GOOD.after_content(uncounted(schema_version=None, error="no such table: v"), None),
        status=UNKNOWN, reason=Reason.VERSION_UNKNOWN, says="cannot be told: no such table: v",
    ),
    Row(
        check="schema", evidence=NEW.after_content(uncounted(), None), status=UNKNOWN, reason=Reason.VERSION_UNKNOWN,
        retryable=True, says="no restored copy to compare with yet",
    ),
    Row(
        check="schema", evidence=GOOD.after_content(uncounted(schema_version=NEXT), None), status=FAIL,
        reason=Reason.VERSION_DIFFERS, retryable=True, says="production is at 0043_next, the restored copy at 0042_auto",
    ),
    Row(
        check="schema", evidence=restored(content(schema_version=None)), status=FAIL, reason=Reason.VERSION_DIFFERS,
        retryable=True, says="the restored copy at unknown",
    ),
    Row(
        check="schema", evidence=GOOD.after_content(uncounted(schema_digest="d2"), None), status=FAIL,
        reason=Reason.VERSION_DIFFERS, retryable=True, says="their schemas differ",
    ),
]  # fmt: skip

ROWS = [*DRILL, *IDENTITY, *DATABASE, *SCHEMA]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_check_answers(row: Row) -> None:
    row.holds()


def test_no_reason_of_the_contract_is_without_a_case() -> None:
    fired = {row.reason for row in [*ROWS, *ROWS_OF_THE_WAY_THERE, *ROWS_OF_PARITY]}
    assert fired >= set(Reason)


def test_every_check_is_seen_passing() -> None:
    passing = {row.check for row in [*ROWS, *ROWS_OF_THE_WAY_THERE, *ROWS_OF_PARITY] if row.status is PASS}
    assert passing == {found.name for found in judge(GOOD, Policy(), ROOM, NOW).findings}


def test_a_failed_drill_stands_until_one_passes() -> None:
    failed = drilled(Outcome.FAILED, "db_corrupt", GOOD)
    for _ in range(3):
        failed = kept_out("timeout", 1, failed)
        assert finding("drill", failed).reason is Reason.DB_CORRUPT
    assert finding("drill", failed.after_drill(drill())).status is PASS


def test_what_integrity_check_found_a_quick_drill_does_not_clear() -> None:
    failed = drilled(Outcome.FAILED, "db_corrupt", GOOD, check=CheckKind.FULL)
    quick = failed.after_drill(drill())
    assert finding("drill", quick).reason is Reason.DB_CORRUPT
    assert finding("drill", quick.after_drill(audit())).status is PASS


def test_a_failed_drill_that_read_nothing_leaves_the_older_copy_to_compare() -> None:
    assert finding("identity", drilled(Outcome.FAILED, "file_corrupt", GOOD)).status is PASS
    stranger = drilled(Outcome.FAILED, "assertion_failed", GOOD, content=content(NOW + timedelta(1), application_id=8))
    assert finding("identity", stranger).reason is Reason.IDENTITY_CHANGED


def test_a_vacuum_into_larger_pages_has_not_shrunk_anything() -> None:
    larger = uncounted(page_count=3, page_size=16384)
    evidence = GOOD.after_content(larger, None).after_drill(drill(content=content(page_count=3, page_size=16384)))
    assert finding("identity", evidence).status is PASS


def test_a_file_that_was_replaced_must_be_read_and_checked_anew() -> None:
    other = live(file_id=FileId(8, 2002), modified_at=ago(days=30))  # an old backup moved over the live file
    replaced = GOOD.after_live(other)
    assert finding("database", replaced).reason is Reason.CHECK_OLD
    assert finding("schema", replaced).reason is Reason.VERSION_UNKNOWN
    restarted = replaced.after_claim(claim(NOW, started_at=NOW + timedelta(seconds=1)))
    captured = restarted.after_live(
        live(
            NOW + timedelta(seconds=5), 43, file_id=FileId(8, 2002), captures=(capture(43, NOW + timedelta(seconds=2)),)
        )
    )
    assert finding("identity", captured).reason is not Reason.FILE_REPLACED
    assert not judge(captured, Policy(), ROOM, NOW).ready


def test_a_look_that_began_before_the_file_was_replaced_does_not_bring_the_old_file_back() -> None:
    replaced = GOOD.after_live(live(NOW + timedelta(seconds=5), file_id=FileId(8, 2002), captures=()))
    after = replaced.after_sighting(live(), seen(NOW + timedelta(seconds=9)))
    assert after.file_id == FileId(8, 2002)
    assert after.replaced_at == replaced.replaced_at


def test_what_was_proved_of_a_replaced_file_counts_for_nothing() -> None:
    other = FileId(8, 2002)
    replaced = GOOD.after_live(live(NOW + timedelta(seconds=1), file_id=other))
    assert finding("drill", replaced).reason is Reason.NEVER_DRILLED
    drilled_meanwhile = replaced.after_drill(drill(NOW + timedelta(seconds=2)))
    restarted = drilled_meanwhile.after_claim(claim(NOW, started_at=NOW + timedelta(seconds=3)))
    captured = live(NOW + timedelta(seconds=9), 43, file_id=other, captures=(capture(43, NOW + timedelta(seconds=4)),))
    cleared = restarted.after_live(captured)
    assert cleared.replaced_at is None
    assert finding("drill", cleared).reason is Reason.NEVER_DRILLED, "that drill was still of the file before"
    assert cleared.baseline is not None, "what was lost must still show"


def test_waiting_for_a_drill_that_is_hours_away_is_not_worth_it() -> None:
    policy = Policy(drill_every=timedelta(hours=6))
    asked_for_more = finding(
        "drill", GOOD, replace(policy, drill_max_age=timedelta(minutes=1)), NOW + timedelta(hours=1)
    )
    assert (asked_for_more.reason, asked_for_more.retryable) == (Reason.DRILL_OLD, False)
    due = finding(
        "drill", GOOD, replace(policy, drill_max_age=timedelta(minutes=1)), NOW + timedelta(hours=5, minutes=55)
    )
    assert (due.reason, due.retryable) == (Reason.DRILL_OLD, True)
