"""Verdicts: findings folded into one answer, and the documents that carry it (`/ready`, `verify`, `status`, `gate`).

Nothing is stored here: a verdict is made from evidence and `now` for whoever asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sidecar.core.case import Scratch
from sidecar.core.checks import Judged, judge
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Finding
from sidecar.core.instants import from_the_future
from sidecar.core.model import Content, Database, Drill
from sidecar.core.parity import Parity
from sidecar.core.policy import Policy

Document = dict[str, Any]  # what becomes JSON


@dataclass(frozen=True, slots=True)
class Verdict:
    """One database, its evidence and what the checks make of it."""

    database: Database
    evidence: Evidence
    judged: Judged
    now: datetime

    @property
    def ready(self) -> bool:
        """Whether we may rely on this database's backup, and migrate."""
        return self.judged.ready

    @property
    def retryable(self) -> bool:
        """Whether waiting alone can make it ready."""
        return not self.ready and all(finding.retryable for finding in self.judged.blocking)


@dataclass(frozen=True, slots=True)
class FleetVerdict:
    """The verdicts of all databases that were asked for. No database at all is not ready."""

    verdicts: tuple[Verdict, ...]
    checked_at: datetime
    empty_reason: str = "litestream.yml names no database that exists"

    @property
    def ready(self) -> bool:
        """Whether every database is ready."""
        return bool(self.verdicts) and all(verdict.ready for verdict in self.verdicts)

    @property
    def retryable(self) -> bool:
        """Whether waiting alone can make the fleet ready."""
        waiting = [verdict for verdict in self.verdicts if not verdict.ready]
        return not self.ready and (not self.verdicts or all(verdict.retryable for verdict in waiting))

    @property
    def reason(self) -> str:
        """One sentence: what stands in the way, the worst first; or that all is well."""
        if not self.verdicts:
            return self.empty_reason
        if self.ready:
            count, far = len(self.verdicts), sum(not each.database.in_reach for each in self.verdicts)
            alone = "" if not far else "; of them only" if far == count else f"; of {far} of them only"
            alone = f"{alone} the backup was judged, production is not in reach" if far else ""
            return f"{count} database{'s' if count > 1 else ''} can be restored{alone}"
        blocked = [(verdict, finding) for verdict in self.verdicts for finding in verdict.judged.blocking]
        verdict, finding = min(blocked, key=lambda pair: pair[1].status != "fail")
        others = len({each.database.path for each, _ in blocked}) - 1
        more = f" (and {others} more)" if others else ""
        return f"{verdict.database.name}: {finding.message}{more}"

    @property
    def proved_bad(self) -> bool:
        """Whether anything is proved wrong, as opposed to not known."""
        return any(finding.status == "fail" for verdict in self.verdicts for finding in verdict.judged.findings)


def verdict_of(database: Database, evidence: Evidence, policy: Policy, room: Scratch | None, now: datetime) -> Verdict:
    """Judge one database at one instant."""
    return Verdict(database, evidence, judge(evidence, policy, room, now), now)


def rfc3339(at: datetime | None) -> str | None:
    """UTC with seconds and `Z`, as the contract's JSON shows times."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at is not None else None


def fleet_document(fleet: FleetVerdict, version: str) -> Document:
    """The body of `/ready` (CONTRACT 3)."""
    return {
        "ready": fleet.ready,
        "retryable": fleet.retryable,
        "reason": fleet.reason,
        "checked_at": rfc3339(fleet.checked_at),
        "version": version,
        "databases": [database_document(verdict) for verdict in fleet.verdicts],
    }


def database_document(verdict: Verdict) -> Document:
    """One entry of `databases` in `/ready`, and the body of `/databases/NAME` beside its drills."""
    database, evidence = verdict.database, verdict.evidence
    listing = evidence.listing
    return {
        "name": database.name,
        "path": database.path,
        "ready": verdict.ready,
        "replica": {"type": database.replica.type, "label": database.replica.label},
        "production": database.in_reach,
        "position": {
            "live": live_position(evidence),
            "replica": str(listing.position) if listing is not None else None,
            "lag_seconds": lag_seconds(evidence, verdict.now),
        },
        **proved_document(evidence),
        "checks": [finding_document(finding) for finding in verdict.judged.findings],
    }


def proved_document(evidence: Evidence) -> Document:
    """What `database_document` says of the snapshot, the newest drill and the schema."""
    listing = evidence.listing
    production = evidence.content.schema_version if evidence.content is not None else None
    return {
        "snapshot": {"position": str(listing.snapshot), "created_at": rfc3339(listing.snapshot_at)}
        if listing is not None and listing.snapshot is not None
        else None,
        "last_drill": drill_document(evidence.last_drill) if evidence.last_drill is not None else None,
        "proof_stood_at": rfc3339(evidence.proof_stood_at),
        "schema_version": _schema_version(production),
    }


def _schema_version(version: Any) -> Document | None:
    return {"source": version.source, "value": version.value} if version is not None else None


def live_position(evidence: Evidence) -> str | None:
    """Where production stands: what Litestream's newest local file holds, or what Litestream says; None where nobody knows."""
    if evidence.live is not None and evidence.live.capture is not None:
        return str(evidence.live.capture.position)
    if evidence.claim is not None and evidence.claim.txid:
        return f"{evidence.claim.txid:016x}"
    return None


def lag_seconds(evidence: Evidence, now: datetime) -> float | None:
    """Age of the oldest commit that the replica may lack, in seconds; None while nobody knows."""
    if evidence.covered_at is None or from_the_future(evidence.covered_at, now):
        return None
    lag = evidence.lag(now)
    return round(lag.total_seconds(), 3) if lag is not None else None


def drill_document(drill: Drill) -> Document:
    """One drill, as `last_drill`, in `history` and at `/drills/ID`."""
    content = drill.content
    return {
        "id": drill.id,
        "outcome": drill.outcome.value,
        "reason": drill.reason,
        "message": drill.message,
        "hint": drill.hint or None,
        "position": str(drill.position) if drill.position is not None else None,
        "started_at": rfc3339(drill.started_at),
        "finished_at": rfc3339(drill.finished_at),
        "plan_seconds": drill.plan_seconds,
        "restore_seconds": drill.restore_seconds,
        "by_change": drill.by_change,
        "apply_seconds": drill.apply_seconds,
        "check_seconds": drill.check_seconds,
        "size_bytes": drill.size_bytes,
        "check": drill.check.value,
        "parity_seconds": drill.parity_seconds,
        "parity": _parity(drill.parity),
        "schema_version": _schema_version(content.schema_version) if content is not None else None,
        "rows": _rows(content),
        "sqlite_version": content.sqlite_version if content is not None else None,
        "litestream_version": drill.litestream_version,
        "verifier": drill.verifier,
    }


def _parity(parity: Parity | None) -> Document | None:
    """How much of production a drill proved, page by page; None where it was not asked to."""
    if parity is None:
        return None
    return {
        "result": parity.result.value,
        "pages": parity.pages,
        "proven": parity.proven,
        "excused": parity.excused,
        "message": parity.message,
        "different": list(parity.different),
        "owners": list(parity.owners),
        "kept": parity.kept,
    }


def _rows(content: Content | None) -> int | None:
    if content is None or min(content.tables.values(), default=0) < 0:
        return None
    return sum(content.tables.values())


def finding_document(finding: Finding) -> Document:
    """One entry of `checks`."""
    return {
        "name": finding.name,
        "status": finding.status.value,
        "reason": finding.reason.value if finding.reason is not None else None,
        "message": finding.message,
        "observed": finding.observed,
        "limit": finding.limit,
        "unit": finding.unit,
        "retryable": finding.retryable,
        "hint": finding.hint or None,
    }


def _one_line(text: str) -> str:
    """What Litestream or SQLite said may run over several lines; one line stays one check."""
    return " ".join(text.split())


def text_lines(fleet: FleetVerdict) -> Sequence[str]:
    """`?format=text`: the one-sentence reason first, then one line a check."""
    lines = [_one_line(fleet.reason)]
    for verdict in fleet.verdicts:
        for finding in verdict.judged.findings:
            mark = "[-]" if finding.status.blocks else "[+]"
            word = "ok" if finding.reason is None else finding.reason.value
            tail = "" if finding.reason is None else f": {_one_line(finding.message)}"
            lines.append(f"{mark} {verdict.database.name} {finding.name} {word}{tail}")
    return lines
