"""What `/metrics` shows of one database, as a table: the metric's name, its help, its labels beside `db`, and how to read it.

A reader that finds nothing known yields nothing: the series is absent, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sidecar.core.checks import CLAIM_MAX_AGE
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Status
from sidecar.core.forecast import drill_like_last, restore_like_last
from sidecar.core.model import ClaimSource, Listing, LookResult
from sidecar.core.verdict import Verdict, lag_seconds

VALUE_MAX = 128  # characters of a label's value that a database supplies

Sample = tuple[tuple[str, ...], float | None]  # the labels beside `db`


@dataclass(frozen=True, slots=True)
class Fact:
    """One family of gauges. `key`: what all that it says rests on, where many databases have that in common."""

    help: str
    read: Callable[[Verdict], Iterator[Sample]]
    labels: tuple[str, ...] = ()
    key: Callable[[Verdict], Hashable] | None = None


def _one(help_text: str, read: Callable[[Evidence], float | None]) -> Fact:
    """A fact of one value."""

    def sample(verdict: Verdict) -> Iterator[Sample]:
        yield (), read(verdict.evidence)

    return Fact(help_text, sample)


def _stamp(at: datetime | None) -> float | None:
    return at.timestamp() if at is not None else None


def _ready(verdict: Verdict) -> Iterator[Sample]:
    yield (), float(verdict.ready)


def _check_status(verdict: Verdict) -> Iterator[Sample]:
    for finding in verdict.judged.findings:
        for status in Status:
            yield (finding.name, status.value), float(finding.status is status)


def _statuses(verdict: Verdict) -> Hashable:
    return tuple([(finding.name, finding.status.value) for finding in verdict.judged.findings])


def _reasons(verdict: Verdict) -> Hashable:
    return tuple([(each.name, each.reason.value) for each in verdict.judged.findings if each.reason is not None])


def _check_reason(verdict: Verdict) -> Iterator[Sample]:
    for finding in verdict.judged.findings:
        if finding.reason is not None:
            yield (finding.name, finding.reason.value), 1


def _lag(verdict: Verdict) -> Iterator[Sample]:
    yield (), lag_seconds(verdict.evidence, verdict.now)


def _shown(evidence: Evidence) -> Listing | None:
    """The newest listing, unless the replica has been seen to hold nothing since: then what it showed is gone."""
    emptied = evidence.sighting is not None and evidence.sighting.result is LookResult.NO_BACKUP
    return None if emptied else evidence.listing


def _live_position(evidence: Evidence) -> float | None:
    live, claim = evidence.live, evidence.claim
    if live is not None and live.capture is not None:
        return live.capture.position.txid
    return (claim.txid or None) if claim is not None else None


def _replica_position(evidence: Evidence) -> float | None:
    listing = _shown(evidence)
    return listing.position.txid if listing is not None else None


def _snapshot_at(evidence: Evidence) -> float | None:
    listing = _shown(evidence)
    return _stamp(listing.snapshot_at) if listing is not None else None


def _oldest_at(evidence: Evidence) -> float | None:
    listing = _shown(evidence)
    return _stamp(listing.oldest_restorable_at) if listing is not None else None


def _replica_bytes(evidence: Evidence) -> float | None:
    listing = _shown(evidence)
    if listing is None:  # an emptied replica is known to hold 0 bytes
        return 0 if evidence.sighting is not None and evidence.sighting.result is LookResult.NO_BACKUP else None
    return listing.size_bytes


def _replica_files(verdict: Verdict) -> Iterator[Sample]:
    listing = _shown(verdict.evidence)
    for level, count in sorted(listing.files.items()) if listing is not None else ():
        yield (str(level),), count


def _drill_stages(verdict: Verdict) -> Iterator[Sample]:
    drill = verdict.evidence.last_drill
    if drill is not None:
        yield ("plan",), drill.plan_seconds
        yield ("restore",), drill.restore_seconds
        yield ("apply",), drill.apply_seconds
        yield ("check",), drill.check_seconds
        yield ("parity",), drill.parity_seconds


def _time_to_restore(evidence: Evidence) -> float | None:
    drill = evidence.restored
    if drill is None or drill.restore_seconds is None:
        return None
    return (drill.plan_seconds or 0.0) + drill.restore_seconds


def _proved_at(evidence: Evidence) -> float | None:
    drill = evidence.last_passed
    return _stamp(evidence.proved_at(drill)) if drill is not None else None


def _database_bytes(evidence: Evidence) -> float | None:
    live = evidence.live
    return live.size_bytes if live is not None and live.file_id is not None else None


def _wal_bytes(evidence: Evidence) -> float | None:
    live = evidence.live
    return live.wal_bytes if live is not None and live.file_id is not None else None


def _schema_version(verdict: Verdict) -> Iterator[Sample]:
    content = verdict.evidence.content
    if content is not None and content.schema_version is not None:
        yield (content.schema_version.source, content.schema_version.value[:VALUE_MAX]), 1


FACTS: Mapping[str, Fact] = {
    "ready": Fact(
        "Whether we may rely on this database's backup, and migrate.", _ready, key=lambda verdict: verdict.ready
    ),
    "check_status": Fact(
        "1 for the status that a check of a database has now, 0 for the others.",
        _check_status,
        ("check", "status"),
        _statuses,
    ),
    "check_reason": Fact("Why a check does not simply pass; always 1.", _check_reason, ("check", "reason"), _reasons),
    "lag_seconds": Fact("Age of the oldest commit that the replica may lack.", _lag),
    "live_position": _one("The newest TXID that Litestream holds locally.", _live_position),
    "replica_position": _one("The newest TXID in the replica.", _replica_position),
    "replica_sync_timestamp_seconds": _one(
        "Every commit up to this instant is known to be in the replica.", lambda known: _stamp(known.covered_at)
    ),
    "snapshot_timestamp_seconds": _one("Time of the newest snapshot in the replica.", _snapshot_at),
    "replica_files": Fact("Backup files in the replica; 0.3: level 9 snapshots, 0 WAL.", _replica_files, ("level",)),
    "replica_bytes": _one("Bytes of backup files in the replica.", _replica_bytes),
    "oldest_restorable_timestamp_seconds": _one("The oldest state that the replica can bring back.", _oldest_at),
    "drill_passed_timestamp_seconds": _one(
        "When a drill last passed.", lambda known: _stamp(known.last_passed.finished_at) if known.last_passed else None
    ),
    "restored_timestamp_seconds": _one(
        "When the whole backup was last restored and found sound; a drill by change reads only what is new.",
        lambda known: _stamp(known.restored.finished_at) if known.restored else None,
    ),
    "proof_timestamp_seconds": _one(
        "As of when the newest backup is proved: a drill passed, or would have restored what the last one did.",
        _proved_at,
    ),
    "drill_finished_timestamp_seconds": _one(
        "When a drill last ended, however it went.",
        lambda known: _stamp(known.last_drill.finished_at) if known.last_drill else None,
    ),
    "drill_stage_seconds": Fact("How long each stage of the newest drill took.", _drill_stages, ("stage",)),
    "restored_bytes": _one(
        "Size of the copy that last passed a drill.",
        lambda known: known.last_passed.size_bytes if known.last_passed else None,
    ),
    "pages_proven_ratio": _one(
        "Share of the restored copy's pages that the last comparison proved to be what production held.",
        lambda known: known.last_compared.parity.ratio if known.last_compared and known.last_compared.parity else None,
    ),
    "rto_seconds": _one(
        "Measured time to restore: plan and restore of the last passed drill that restored the whole.", _time_to_restore
    ),
    "rto_predicted_seconds": _one(
        "Time to restore the database as large as it is now, by what the last passed drill took.",
        restore_like_last,
    ),
    "drill_predicted_seconds": _one(
        "Time that a drill like the last passed one would take with the database as large as it is now.",
        drill_like_last,
    ),
    "drill_memory_bytes": _one(
        "Memory that Litestream took at its peak to restore, in the last passed drill.",
        lambda known: known.restored.memory_bytes if known.restored else None,
    ),
    "database_bytes": _one("Size of the live database file.", _database_bytes),
    "wal_bytes": _one("Size of the live WAL.", _wal_bytes),
    "database_check_timestamp_seconds": _one(
        "When production's own content was last checked to an end.",
        lambda known: _stamp(known.database_found.at) if known.database_found else None,
    ),
    "schema_version_info": Fact(
        "The schema version that production records; always 1.", _schema_version, ("source", "value")
    ),
}


def litestream_up(verdicts: tuple[Verdict, ...]) -> float | None:
    """1 while Litestream answers, 0 while it does not; None where it cannot be asked, or has not been lately."""
    claims = [
        each.evidence.claim.up
        for each in verdicts
        if each.evidence.claim is not None
        and each.evidence.claim.source is not ClaimSource.NONE
        and each.now - each.evidence.claim.read_at <= CLAIM_MAX_AGE
    ]
    return float(all(claims)) if claims else None
