"""The checks about Litestream, the replica and the way there: each reason seen firing, each check seen passing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sidecar.core.case import Scratch
from sidecar.core.checks import CHECKS, judge
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason, Status
from sidecar.core.model import ClaimSource, LookResult, Position
from sidecar.core.policy import Policy
from tests.core.evidences import (
    NOW,
    ROOM,
    Row,
    ago,
    capture,
    claim,
    finding,
    healthy,
    listing,
    live,
    looked,
    seen,
    unknown,
)

FAIL, UNKNOWN, WARN, PASS = Status.FAIL, Status.UNKNOWN, Status.WARN, Status.PASS
GOOD = healthy()
NEW = unknown()
LATER = NOW + timedelta(minutes=10)


def claimed(**facts: Any) -> Evidence:
    return GOOD.after_claim(claim(**facts))


def shown(**facts: Any) -> Evidence:
    """The replica's newest listing, with these facts."""
    found = listing(**facts)
    return GOOD.after_sighting(live(), seen(shown=found))


def ended(result: LookResult, evidence: Evidence = GOOD) -> Evidence:
    """The newest look ended like this."""
    return evidence.after_sighting(live(), looked(result))


def emptied() -> Evidence:
    return ended(LookResult.NO_BACKUP)


LITESTREAM = [
    Row(check="litestream", evidence=GOOD, status=PASS, says="Litestream 0.5.17 runs and knows this database"),
    Row(
        check="litestream",
        evidence=NEW,
        status=UNKNOWN,
        reason=Reason.LITESTREAM_DOWN,
        retryable=True,
        says="has not been asked yet",
    ),
    Row(
        check="litestream",
        evidence=GOOD,
        now=NOW + timedelta(seconds=61),
        status=UNKNOWN,
        reason=Reason.LITESTREAM_DOWN,
        retryable=True,
        says="last asked 61 s ago",
    ),
    Row(
        check="litestream",
        evidence=claimed(up=False, error="connection refused"),
        status=FAIL,
        reason=Reason.LITESTREAM_DOWN,
        retryable=True,
        says="does not answer: connection refused",
    ),
    Row(
        check="litestream",
        evidence=claimed(managed=False),
        status=FAIL,
        reason=Reason.NOT_MANAGED,
        says="does not know this database",
    ),
    Row(
        check="litestream",
        evidence=claimed(managed=False, started_at=ago(seconds=20)),
        status=FAIL,
        reason=Reason.NOT_MANAGED,
        retryable=True,
        says="does not know this database",
    ),
    Row(
        check="litestream",
        evidence=NEW.after_claim(claim(managed=False)),
        status=FAIL,
        reason=Reason.NOT_MANAGED,
        retryable=True,
        says="does not know this database",
    ),
    Row(
        check="litestream",
        evidence=claimed(source=ClaimSource.NONE, up=False, managed=False),
        status=WARN,
        reason=Reason.NO_SOCKET,
        says="neither control socket nor metrics",
    ),
    Row(
        check="litestream",
        evidence=GOOD,
        now=ago(hours=1),
        status=UNKNOWN,
        reason=Reason.LITESTREAM_DOWN,
        retryable=True,
        says="1h ahead of this machine's clock, which was set back",
    ),
]

REPLICA = [
    Row(check="replica", evidence=GOOD, status=PASS, says="can be listed"),
    Row(
        check="replica",
        evidence=NEW,
        status=UNKNOWN,
        reason=Reason.UNREACHABLE,
        retryable=True,
        says="has not been listed yet",
    ),
    Row(
        check="replica",
        evidence=GOOD,
        now=LATER,
        status=UNKNOWN,
        reason=Reason.TIMEOUT,
        retryable=True,
        says="was last listed 10m ago",
    ),
    Row(
        check="replica",
        evidence=ended(LookResult.UNREACHABLE),
        status=FAIL,
        reason=Reason.UNREACHABLE,
        retryable=True,
        says="the store said no",
    ),
    Row(check="replica", evidence=ended(LookResult.AUTH), status=FAIL, reason=Reason.AUTH, says="the store said no"),
    Row(
        check="replica",
        evidence=ended(LookResult.TIMEOUT),
        status=FAIL,
        reason=Reason.TIMEOUT,
        retryable=True,
        says="the store said no",
    ),
    Row(
        check="replica",
        evidence=ended(LookResult.NO_BACKUP, NEW),
        status=FAIL,
        reason=Reason.NO_BACKUP,
        retryable=True,
        says="the store said no",
    ),
    Row(
        check="replica",
        evidence=emptied(),
        status=FAIL,
        reason=Reason.NO_BACKUP,
        says="although it held one before",
    ),
    Row(
        check="replica",
        evidence=GOOD,
        now=ago(hours=1),
        status=UNKNOWN,
        reason=Reason.TIMEOUT,
        retryable=True,
        says="set back",
    ),
]

# A write that the replica has not got: the listing stops one TXID short, whose local file is eight minutes old.
BEHIND = live(txid=43, captures=(capture(43), capture(42, ago(minutes=8))))
LAGS = NEW.after_sighting(BEHIND, seen()).after_claim(claim())

LAG = [
    Row(check="lag", evidence=GOOD, status=PASS, says="every commit up to 0 s ago is in the replica"),
    Row(
        check="lag",
        evidence=NEW,
        status=UNKNOWN,
        reason=Reason.LAGGING,
        retryable=True,
        says="not known yet which commits",
    ),
    Row(
        check="lag",
        evidence=LAGS,
        status=FAIL,
        reason=Reason.LAGGING,
        retryable=True,
        says="replica lacks commits of the last 480 s (limit 120 s)",
    ),
    Row(
        check="lag",
        evidence=LAGS.after_claim(claim(sync_error="disk I/O error")),
        status=FAIL,
        reason=Reason.STALLED,
        retryable=True,
        says="Litestream says: disk I/O error",
    ),
    Row(
        check="lag",
        evidence=GOOD.after_claim(claim(sync_error="disk I/O error")),
        status=WARN,
        reason=Reason.STALLED,
        retryable=True,
        says="cannot sync: disk I/O error",
    ),
    Row(
        check="lag",
        evidence=GOOD.after_live(live(LATER, error="permission denied")).after_claim(claim(LATER)),
        now=LATER,
        status=FAIL,
        reason=Reason.LAGGING,
        retryable=True,
        says="the local files cannot be read: permission denied",
    ),
    Row(
        check="lag",
        evidence=GOOD.after_live(live(txid=41)),
        status=FAIL,
        reason=Reason.REPLICA_AHEAD,
        says="the replica is at 000000000000002a, production only at 0000000000000029",
    ),
    Row(
        check="lag",
        evidence=emptied(),
        status=UNKNOWN,
        reason=Reason.LAGGING,
        retryable=False,
        says="the replica holds no commit",
    ),
    Row(
        check="lag",
        evidence=ended(LookResult.NO_BACKUP, NEW),
        status=UNKNOWN,
        reason=Reason.LAGGING,
        retryable=True,
        says="the replica holds no commit",
    ),
    Row(
        check="lag",
        evidence=GOOD,
        now=ago(hours=1),
        status=UNKNOWN,
        reason=Reason.LAGGING,
        retryable=True,
        says="set back",
    ),
]

SNAPSHOT = [
    Row(check="snapshot", evidence=GOOD, status=PASS, says="young enough"),
    Row(
        check="snapshot", evidence=shown(beyond_base_at=None, snapshot_at=ago(days=90)), status=PASS, says="nothing has"
    ),
    Row(
        check="snapshot",
        evidence=shown(snapshot_at=ago(days=90), beyond_base_at=ago(hours=1)),
        status=PASS,
        says="young enough",  # ninety days of rest, then a write: the snapshot is an hour behind, not ninety days
    ),
    Row(
        check="snapshot",
        evidence=NEW,
        status=UNKNOWN,
        reason=Reason.NO_SNAPSHOT,
        retryable=True,
        says="no snapshot has been seen yet",
    ),
    Row(
        check="snapshot",
        evidence=ended(LookResult.NO_BACKUP, NEW),
        status=FAIL,
        reason=Reason.NO_SNAPSHOT,
        retryable=True,
        says="holds no snapshot",
    ),
    Row(check="snapshot", evidence=emptied(), status=FAIL, reason=Reason.NO_SNAPSHOT, says="holds no snapshot"),
    Row(
        check="snapshot",
        evidence=shown(snapshot=None, snapshot_at=None),
        status=FAIL,
        reason=Reason.NO_SNAPSHOT,
        retryable=True,
        says="changes but no snapshot",
    ),
    Row(
        check="snapshot",
        evidence=shown(snapshot_at=ago(hours=40), beyond_base_at=ago(hours=31)),
        status=FAIL,
        reason=Reason.SNAPSHOT_OLD,
        retryable=True,
        says="changes of the last 1d7h are in no snapshot (limit 1d6h)",
    ),
]

CHAIN = [
    Row(check="chain", evidence=GOOD, status=PASS, says="leads to 000000000000002a"),
    Row(
        check="chain",
        evidence=NEW,
        status=UNKNOWN,
        reason=Reason.CHAIN_GAP,
        retryable=True,
        says="no chain of backup files",
    ),
    Row(check="chain", evidence=emptied(), status=UNKNOWN, reason=Reason.CHAIN_GAP, says="no chain of backup files"),
    Row(
        check="chain",
        evidence=shown(gap="the backup leads up to 4, but its next file starts at 6", reachable=Position.of_txid(4)),
        status=FAIL,
        reason=Reason.CHAIN_GAP,
        says="next file starts at 6",
    ),
    Row(
        check="chain",
        evidence=shown(reachable=Position.of_txid(4)),
        status=FAIL,
        reason=Reason.CHAIN_GAP,
        says="no unbroken chain of files leads to",
    ),
    Row(
        check="chain",
        evidence=shown(overlap="two level-0 files overlap"),
        status=WARN,
        reason=Reason.CHAIN_OVERLAP,
        says="overlap",
    ),
]

OTHERS = [
    Row(check="scratch", evidence=GOOD, status=PASS, says="there is room"),
    Row(
        check="scratch",
        evidence=GOOD,
        room=None,
        status=WARN,
        reason=Reason.SCRATCH_LOW,
        retryable=True,
        says="not known yet",
    ),
    Row(
        check="scratch",
        evidence=GOOD,
        room=Scratch(NOW, 1_000_000),
        status=WARN,
        reason=Reason.SCRATCH_LOW,
        says="1 MB are free for drills, the next one needs 17 MB",
    ),
]

ROWS = [*LITESTREAM, *REPLICA, *LAG, *SNAPSHOT, *CHAIN, *OTHERS]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_check_answers(row: Row) -> None:
    row.holds()


def test_a_healthy_database_is_ready() -> None:
    judged = judge(GOOD, Policy(), ROOM, NOW)
    assert judged.ready, judged.blocking
    assert {found.status for found in judged.findings} == {PASS}


def test_every_check_of_the_contract_stands_in_the_table_in_its_order() -> None:
    assert list(CHECKS) == [
        "litestream", "replica", "lag", "snapshot", "chain", "drill", "parity", "identity", "database", "schema", "scratch",
    ]  # fmt: skip


def test_parity_is_asked_only_where_the_policy_wants_it() -> None:
    names = [found.name for found in judge(GOOD, Policy(parity=False), ROOM, NOW).findings]
    assert "parity" not in names
    assert len(names) == len(CHECKS) - 1


def test_nothing_known_is_never_ready() -> None:
    judged = judge(NEW, Policy(), None, NOW)
    assert not judged.ready
    assert {found.name for found in judged.blocking} == set(CHECKS) - {"scratch"}
    assert all(found.status is UNKNOWN for found in judged.blocking), "and nothing is claimed to be proved"


def test_proved_faults_come_before_what_is_not_known() -> None:
    judged = judge(claimed(up=False, error="gone"), Policy(), ROOM, LATER)
    statuses = [found.status for found in judged.blocking]
    assert statuses == sorted(statuses, key=lambda status: status is not FAIL)


def test_an_idle_database_turns_nothing_red_by_age_while_the_daemon_looks() -> None:
    evidence = GOOD
    at = NOW
    for _ in range(20):  # two and a half days of rest
        at += timedelta(hours=3)
        still = replace(live(), read_at=at)
        evidence = evidence.after_sighting(still, seen(at, replace(listing(), read_at=at))).after_claim(claim(at))
    assert finding("lag", evidence, now=at).status is PASS
    assert finding("replica", evidence, now=at).status is PASS
    assert finding("snapshot", evidence, Policy(max_snapshot_age=timedelta(days=9)), at).status is PASS


def test_the_replica_is_not_called_ahead_by_files_read_before_its_listing_ended() -> None:
    before = live(ago(seconds=30), txid=41)
    raced = GOOD.after_sighting(before, seen())
    assert finding("lag", replace(raced, live=before)).reason is not Reason.REPLICA_AHEAD


def test_a_replica_ahead_is_still_seen_in_evidence_that_came_from_disk() -> None:
    ahead = GOOD.after_live(live(txid=41))
    again = replace(ahead, listing=replace(ahead.listing, files=dict(ahead.listing.files))) if ahead.listing else ahead
    assert again.listing is not ahead.listing
    assert finding("lag", again).reason is Reason.REPLICA_AHEAD


def test_another_generation_is_not_ahead() -> None:
    old = Position("aaaaaaaaaaaaaaaa", 9, 4152)
    evidence = GOOD.after_sighting(live(), seen(shown=listing(position=old, reachable=old)))
    assert finding("lag", evidence).reason is not Reason.REPLICA_AHEAD


def test_a_03_chain_that_ends_where_its_last_segment_begins_is_whole() -> None:
    evidence = shown(position=Position("aaaaaaaaaaaaaaaa", 2, 8192), reachable=Position("aaaaaaaaaaaaaaaa", 2, 4152))
    assert finding("chain", evidence).status is PASS


def test_an_idle_database_has_no_lag_while_its_files_are_read_and_a_growing_one_when_they_are_not() -> None:
    strict = Policy(max_lag=timedelta(seconds=2))
    read_just_now = finding("lag", GOOD, strict, NOW + timedelta(seconds=5))
    assert (read_just_now.status, read_just_now.observed) == (PASS, 0.0)
    not_read_any_more = finding("lag", GOOD, strict, NOW + timedelta(seconds=16))
    assert (not_read_any_more.status.blocks, not_read_any_more.observed) == (True, 16.0)


def test_between_two_looks_a_tighter_limit_is_not_known_rather_than_disproved() -> None:
    written = GOOD.after_live(live(NOW + timedelta(seconds=5), frames=9, captures=(capture(),)))
    at = NOW + timedelta(seconds=40)
    tight = finding("lag", written, Policy(max_lag=timedelta(seconds=30)), at)
    assert (tight.status, tight.reason, tight.retryable) == (UNKNOWN, Reason.LAGGING, True)
    assert "last listed 40 s ago" in tight.message
    assert finding("lag", written, Policy(max_lag=timedelta(minutes=2)), at).status is PASS
    nobody_looks = finding("lag", written, Policy(max_lag=timedelta(seconds=30)), NOW + timedelta(minutes=4))
    assert nobody_looks.status is FAIL
