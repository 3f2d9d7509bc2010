"""How evidence grows: what is covered, what a look, a drill or a replaced file changes, and what it must never forget."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings

from sidecar.core.coverage import Coverage, coverage
from sidecar.core.evidence import Evidence
from sidecar.core.live_state import FileId
from sidecar.core.model import CheckKind, Content, LookResult, Outcome, Position
from sidecar.core.shrinkage import shrinkage
from tests.core.evidences import (
    NOW,
    SALTS,
    ago,
    audit,
    capture,
    claim,
    content,
    could_not_check,
    database_check,
    drill,
    healthy,
    histories,
    listing,
    live,
    looked,
    replica,
    seen,
    uncounted,
    unknown,
)

SOON = NOW + timedelta(seconds=5)


# Covered: every commit up to this instant is in the replica


def test_a_look_that_shows_all_covers_up_to_the_reading_before_it() -> None:
    evidence = unknown().after_sighting(live(ago(seconds=3)), seen())
    assert evidence.covered_at == ago(seconds=3)
    assert not evidence.changing


def test_an_idle_database_stays_covered_without_another_listing() -> None:
    evidence = unknown().after_sighting(live(), seen())
    later = evidence.after_live(replace(live(), read_at=SOON))
    assert later.covered_at == SOON


@pytest.mark.parametrize(
    "changed",
    [
        live(SOON, frames=4, captures=(capture(frames=3),)),
        replace(live(), read_at=SOON, modified_at=SOON),
        replace(live(), read_at=SOON, error="permission denied"),
        replace(live(), read_at=SOON, file_id=FileId(8, 2002)),
    ],
    ids=["a frame more", "another time", "not readable", "another file"],
)
def test_a_database_that_is_not_known_to_be_idle_is_not_covered_any_further(changed: object) -> None:
    evidence = unknown().after_sighting(live(), seen())
    assert evidence.after_live(changed).covered_at == NOW  # type: ignore[arg-type] # a LiveState, by the table


def test_a_write_that_litestream_has_not_captured_is_not_covered_by_any_listing() -> None:
    writing = live(SOON, frames=9, captures=(capture(42, ago(seconds=30), 3),))
    assert coverage(writing) is Coverage.BEHIND
    evidence = unknown().after_sighting(writing, seen(SOON))
    assert evidence.covered_at == ago(seconds=30)
    assert evidence.changing


def test_after_hours_of_rest_one_write_does_not_invent_hours_of_lag() -> None:
    rested = unknown().after_sighting(live(), seen())
    for hours in range(1, 8):
        rested = rested.after_live(replace(live(), read_at=NOW + timedelta(hours=hours)))
    now = NOW + timedelta(hours=7, seconds=3)
    one_write = live(now, 43, 4, modified_at=now, captures=(capture(43, now, 4), capture(42, ago(hours=1), 3)))
    look = rested.after_sighting(one_write, seen(now, listing(now, 42)))
    assert look.covered_at == NOW + timedelta(hours=7), "the last reading at which nothing had changed"


def test_when_the_replica_loses_its_newest_files_what_was_covered_is_forgotten() -> None:
    evidence = unknown().after_sighting(live(), seen())
    shorter = evidence.after_sighting(live(SOON), seen(SOON, listing(SOON, 40, at=ago(hours=2))))
    assert shorter.covered_at == ago(hours=2)


def test_another_generation_does_not_inherit_what_was_covered() -> None:
    evidence = unknown().after_sighting(live(), seen())
    there = Position("aaaaaaaaaaaaaaaa", 1, 0)
    moved = evidence.after_sighting(
        live(SOON), seen(SOON, listing(SOON, position=there, reachable=there, at=ago(hours=2)))
    )
    assert moved.covered_at == ago(hours=2)


def test_an_empty_replica_covers_nothing_and_the_listing_that_was_stays_known() -> None:
    evidence = unknown().after_sighting(live(), seen()).after_sighting(live(SOON), looked(LookResult.NO_BACKUP, SOON))
    assert evidence.covered_at is None
    assert evidence.listing is not None
    assert evidence.after_live(replace(live(), read_at=SOON)).covered_at is None


@pytest.mark.parametrize("result", [LookResult.UNREACHABLE, LookResult.AUTH, LookResult.TIMEOUT])
def test_a_look_that_showed_nothing_takes_no_proof_away(result: LookResult) -> None:
    evidence = unknown().after_sighting(live(), seen())
    after = evidence.after_sighting(replace(live(), read_at=SOON), looked(result, SOON))
    assert (after.listing, after.covered_at) == (evidence.listing, SOON)
    assert after.sighting is not None
    assert after.sighting.result is result


def test_a_clock_that_was_set_back_does_not_keep_a_database_covered_until_it_catches_up() -> None:
    evidence = unknown().after_sighting(live(), seen())
    back = ago(hours=1)  # the clock shows 02:00, although we covered it at 03:00
    stalled = live(back, 43, 9, captures=(capture(42, ago(hours=2), 3),))
    after = evidence.after_sighting(stalled, seen(back, listing(back, 42)))
    assert after.covered_at == ago(hours=2)


@given(histories())
@settings(deadline=None, max_examples=150)
def test_nothing_is_ever_covered_beyond_the_newest_reading(evidence: Evidence) -> None:
    assert evidence.covered_at is None or evidence.covered_at <= NOW


# The file at the path


def test_a_replaced_file_is_said_until_litestream_has_captured_it() -> None:
    other = FileId(8, 2002)
    unknown_to_litestream = live(SOON, frames=2, file_id=other, captures=(capture(42, frames=3),))
    uncaptured = replace(unknown_to_litestream, wal_index=replace(live().wal_index, salts=b"another!"))  # type: ignore[type-var] # there is one
    replaced = healthy().after_live(uncaptured)
    assert replaced.replaced_at == SOON
    assert replaced.after_live(replace(uncaptured, read_at=SOON + timedelta(hours=9))).replaced_at == SOON
    later = SOON + timedelta(hours=2)
    captured = live(SOON + timedelta(hours=9), 43, 2, file_id=other, captures=(capture(43, later, 2),))
    assert captured.wal_index is not None
    assert captured.wal_index.salts == SALTS
    assert replaced.after_live(captured).replaced_at == SOON, "a Litestream that runs on still has the old file open"
    restarted = replaced.after_claim(claim(later, started_at=SOON + timedelta(hours=1)))
    assert restarted.after_live(captured).replaced_at is None


def test_what_was_read_of_the_old_file_does_not_speak_for_the_new_one() -> None:
    replaced = healthy().after_live(live(SOON, file_id=FileId(8, 2002)))
    facts = (replaced.content, replaced.content_error, replaced.database_check, replaced.database_found)
    assert facts == (None, None, None, None)


def test_a_file_that_is_away_for_a_moment_is_not_a_new_one() -> None:
    gone = live(SOON, file_id=None, modified_at=None)
    back = healthy().after_live(gone).after_live(live(SOON + timedelta(seconds=5)))
    assert back.replaced_at is None
    assert back.database_found is not None


def test_a_slow_listing_does_not_take_a_newer_reading_back() -> None:
    newer = live(SOON, frames=5, captures=(capture(43, NOW, 5),))
    evidence = unknown().after_live(newer).after_sighting(live(), seen(SOON + timedelta(seconds=1)))
    assert evidence.live == newer


# The replica


def test_what_was_proved_of_one_replica_says_nothing_of_another() -> None:
    moved = healthy().of_replica(replica("s3://bucket/elsewhere"))
    facts = (
        "sighting",
        "listing",
        "covered_at",
        "covered_live",
        "last_drill",
        "last_conclusive",
        "last_passed",
        "last_audit",
    )
    assert [getattr(moved, fact) for fact in facts] == [None] * len(facts)
    assert moved.database_found == healthy().database_found
    assert moved.baseline == healthy().baseline, "whose rows are counted is the database, not its replica"


def test_the_same_label_at_another_endpoint_is_another_replica() -> None:
    at_home = healthy().of_replica(replica(endpoint=("minio", 9000)))
    assert at_home.last_passed is None


def test_the_same_replica_keeps_its_proof_also_with_new_keys() -> None:
    assert healthy().of_replica(replica(config="access-key-id: OTHER")) == healthy()


def test_evidence_of_before_replicas_were_recorded_is_taken_as_this_ones() -> None:
    old = replace(healthy(), replica=None)
    assert old.of_replica(replica()).last_passed == old.last_passed


def test_the_recorded_replica_holds_no_secret() -> None:
    assert "SECRET" not in str(healthy().replica)


# Drills


def test_only_what_found_out_is_conclusive_and_only_a_pass_is_proof() -> None:
    passed = healthy()
    aborted = passed.after_drill(drill(SOON, Outcome.ABORTED, "aborted"))
    timed_out = aborted.after_drill(drill(SOON, Outcome.INCONCLUSIVE, "timeout"))
    assert (timed_out.last_conclusive, timed_out.last_passed) == (passed.last_conclusive, passed.last_passed)
    assert timed_out.not_passed_in_a_row == 2
    failed = timed_out.after_drill(drill(SOON, Outcome.FAILED, "db_corrupt"))
    assert failed.last_conclusive == failed.last_drill
    assert failed.last_passed == passed.last_passed
    assert failed.not_passed_in_a_row == 3
    assert failed.after_drill(drill(SOON)).not_passed_in_a_row == 0


def test_only_integrity_check_counts_as_an_audit() -> None:
    quick = unknown().after_drill(drill())
    assert quick.last_audit is None
    audited = quick.after_drill(audit(SOON))
    assert audited.last_audit == audited.last_drill
    assert audited.after_drill(drill(SOON)).last_audit == audited.last_audit


@pytest.mark.parametrize(
    ("reason", "check", "stands"),
    [
        ("db_corrupt", CheckKind.FULL, True),
        ("db_corrupt", CheckKind.QUICK, False),
        ("file_corrupt", CheckKind.FULL, False),
        ("assertion_failed", CheckKind.FULL, False),
    ],
)
def test_a_quick_pass_does_not_outweigh_damage_that_only_integrity_check_sees(
    reason: str, check: CheckKind, *, stands: bool
) -> None:
    failed = healthy().after_drill(drill(NOW, Outcome.FAILED, reason, check=check))
    quick = failed.after_drill(drill(SOON))
    assert quick.last_conclusive is not None
    assert (quick.last_conclusive.outcome is Outcome.FAILED) is stands
    assert quick.last_passed == quick.last_drill


def test_a_copy_that_shrank_does_not_become_the_measure_of_itself() -> None:
    small = content(SOON, tables={"users": 10, "orders": 5})
    shrunk = healthy().after_drill(drill(SOON, content=small))
    assert shrunk.baseline == healthy().baseline
    assert healthy().after_drill(drill(SOON, content=small), max_shrink=0.95).baseline == small


def test_a_copy_that_shrank_becomes_the_measure_where_somebody_said_so_and_it_passed() -> None:
    small = content(SOON, tables={"users": 10, "orders": 5})
    meant = replace(drill(SOON, content=small), accepts_shrink=True)
    assert healthy().after_drill(meant).baseline == small
    failed = replace(drill(SOON, Outcome.FAILED, "db_corrupt"), content=small, accepts_shrink=True)
    assert healthy().after_drill(failed).baseline == healthy().baseline


# Production's own check


def test_what_could_not_be_found_out_leaves_what_was_found() -> None:
    evidence = healthy().after_database_check(could_not_check("unreadable", SOON))
    assert evidence.database_found == healthy().database_found
    assert evidence.database_check == could_not_check("unreadable", SOON)
    damaged = evidence.after_database_check(database_check(SOON, sound=False, reason="db_corrupt"))
    assert damaged.database_found == damaged.database_check


def test_a_schema_that_cannot_be_read_keeps_the_older_one_beside_the_error() -> None:
    evidence = healthy().after_content(None, "busy")
    assert (evidence.content, evidence.content_error) == (uncounted(), "busy")
    assert healthy().after_content(uncounted(SOON), None).content_error is None


# Shrinkage


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        (content(), 0.0),
        (content(tables={"users": 1000, "orders": 1}), 0.0),
        (content(tables={"users": 75, "orders": 0}), 0.5),
        (content(tables={"users": 200}), 0.5),
        (content(page_count=2), 0.8),
        (content(page_count=5, page_size=8192), 0.0),
        (uncounted(), 0.0),
        (uncounted(tables={}), 1.0),
    ],
)
def test_shrinkage_is_the_largest_share_lost(after: Content, lost: float) -> None:
    assert shrinkage(content(), after) == pytest.approx(lost)


def test_nothing_known_before_means_nothing_lost() -> None:
    assert shrinkage(None, content()) == 0.0
    assert shrinkage(content(tables={}, page_count=0), content()) == 0.0


def test_a_reading_before_the_first_listing_keeps_a_database_changing() -> None:
    assert unknown().changing
    assert unknown().after_live(live()).changing
    assert not unknown().after_sighting(live(), seen()).after_live(replace(live(), read_at=SOON)).changing


def test_what_litestream_says_again_is_no_news_for_a_while() -> None:
    known = healthy()
    assert known.claim is not None
    soon, later = NOW + timedelta(seconds=19), NOW + timedelta(seconds=20)
    again = replace(known.claim, read_at=soon, last_sync_at=soon)
    assert not known.is_news(again)
    assert known.is_news(replace(again, read_at=later))
    assert known.is_news(replace(again, read_at=NOW - timedelta(seconds=1))), "the clock was set back"
    assert replace(known, claim=None).is_news(again)
    for other in (
        {"up": False},
        {"managed": False},
        {"txid": 43},
        {"sync_error": "no room"},
        {"started_at": NOW},
        {"pid": 1},
        {"error": "refused"},
    ):
        assert known.is_news(replace(again, **other)), other
