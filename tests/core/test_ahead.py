"""The replica ahead of production: once it was set back, again and again somebody else writes there; and forgotten after a while."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason, Status
from tests.core.evidences import NOW, ago, finding, healthy, listing, live, replica, seen

SECOND = timedelta(seconds=1)


def readings(*txids: int) -> tuple[Evidence, datetime]:
    """A replica at TXID 42, and production as it is read a second apart after each listing."""
    evidence, at = healthy(), NOW
    for txid in txids:
        at += 2 * SECOND
        shown = replace(seen(at, listing()), read_at=at, finished_at=at)
        evidence = evidence.after_sighting(live(at - SECOND, txid=txid), shown).after_live(live(at + SECOND, txid=txid))
    return evidence, at + SECOND


def test_ahead_for_a_while_is_ahead_once() -> None:
    evidence, at = readings(42, 41, 41, 41)
    assert evidence.ahead is not None
    assert (evidence.ahead.times, evidence.ahead.still) == (1, True)
    assert not evidence.ahead.another_writer(at)
    evidence, at = readings(41, 41, 42)
    assert evidence.ahead is not None
    assert (evidence.ahead.times, evidence.ahead.still) == (1, False)
    assert finding("lag", evidence, now=at).status is Status.PASS


def test_ahead_again_is_another_writer_also_while_production_is_at_its_position() -> None:
    evidence, at = readings(41, 42, 41, 42)
    found = finding("lag", evidence, now=at)
    assert (found.status, found.reason, found.retryable) == (Status.FAIL, Reason.REPLICA_AHEAD, False)
    assert "another Litestream writes to the same path" in found.message
    assert "2 times" in found.message
    assert found.hint


def test_it_is_forgotten_after_ten_minutes_of_rest_and_with_the_replica() -> None:
    evidence, at = readings(41, 42, 41, 42)
    rest = replace(evidence.after_live(live(at + timedelta(minutes=11))), covered_at=at + timedelta(minutes=11))
    assert finding("lag", rest, now=at + timedelta(minutes=11)).reason is not Reason.REPLICA_AHEAD
    moved = replace(evidence, replica="s3 s3://bucket/app").of_replica(replica("s3://bucket/elsewhere"))
    assert moved.ahead is None


def test_what_cannot_be_told_changes_nothing() -> None:
    evidence, _ = readings(41)
    unread = evidence.after_live(replace(live(ago(seconds=-9)), captures=()))
    assert unread.ahead == evidence.ahead
