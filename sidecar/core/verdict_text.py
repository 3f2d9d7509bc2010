"""The documents of `verdict.py` as JSON text, in pieces, so that what has not changed is written once and joined again and again.

Joined, the pieces are what `json.dumps` makes of the document, to the byte; a test holds one against the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from json import dumps
from json.encoder import encode_basestring_ascii as quoted

from sidecar.core.case import seconds
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Finding
from sidecar.core.model import Database
from sidecar.core.verdict import FleetVerdict, lag_seconds, live_position, proved_document, rfc3339


@dataclass(slots=True)
class Aging:
    """A finding whose age grows since an instant: the JSON before that age, with the message or up to it, and the JSON after."""

    since: datetime
    says: Callable[[float], str] | None
    before: str
    after: str

    def at(self, now: datetime) -> str:
        """As it reads now."""
        age_s = (now - self.since).total_seconds()
        if age_s < 0:
            age_s = 0.0  # as `case.seconds`, which is a call more
        if self.says is None:
            return f"{self.before}{age_s!r}{self.after}"
        return f'{self.before}{quoted(self.says(age_s))}, "observed": {age_s!r}{self.after}'


def finding_text(finding: Finding) -> str | Aging:
    """`finding_document`; in pieces where it grows."""
    holds = finding.holds
    before = f'{{"name": {quoted(finding.name)}, "status": {quoted(finding.status)}, "reason": {_text(finding.reason)}, "message": '
    said = f'{quoted(finding.message)}, "observed": '
    after = (
        f', "limit": {_number(finding.limit)}, "unit": {_text(finding.unit)}, '
        f'"retryable": {truth(finding.retryable)}, "hint": {_text(finding.hint or None)}}}'
    )
    if holds is None or holds.since is None:
        return _shared(f"{before}{said}{_number(finding.observed)}{after}")
    before = before if holds.says is not None else before + said
    return Aging(holds.since, holds.says, _shared(before), _shared(after))


@lru_cache(4096)
def _shared(text: str) -> str:
    """The text, as one object for all databases of which the same is said: most are well, and each says so with 2 KB."""
    return text


def names_text(database: Database) -> str:
    """The beginning of `database_document`, up to whether it is ready."""
    return f'{{"name": {quoted(database.name)}, "path": {quoted(database.path)}, "ready": '


def replica_text(database: Database) -> str:
    """What follows, up to the position."""
    kind, label = quoted(database.replica.type), quoted(database.replica.label)
    return f', "replica": {{"type": {kind}, "label": {label}}}, "production": {truth(database.in_reach)}'


def position_text(evidence: Evidence) -> str:
    """What follows, up to the lag."""
    listed = str(evidence.listing.position) if evidence.listing is not None else None
    live = live_position(evidence)
    return f', "position": {{"live": {_text(live)}, "replica": {_text(listed)}, "lag_seconds": '


def lag_text(evidence: Evidence, lag: Finding | None, now: datetime) -> str:
    """The lag, as `lag_seconds` counts it; what the finding `lag` has found out needs not be found out again."""
    holds = lag.holds if lag is not None else None
    if holds is None:
        return _number(lag_seconds(evidence, now))
    return repr(round(seconds(now - holds.since), 3)) if holds.since is not None else "0.0"


def proved_text(evidence: Evidence) -> str:
    """What follows, up to the first finding."""
    return f'}}, {dumps(proved_document(evidence))[1:-1]}, "checks": ['


def fleet_text(fleet: FleetVerdict, version: str, databases: list[str]) -> str:
    """`fleet_document`, of its databases' texts."""
    head = {
        "ready": fleet.ready,
        "retryable": fleet.retryable,
        "reason": fleet.reason,
        "checked_at": rfc3339(fleet.checked_at),
        "version": version,
    }
    return f'{dumps(head)[:-1]}, "databases": [{", ".join(databases)}]}}'


def truth(value: bool) -> str:  # noqa: FBT001 - the value that is written
    """A JSON boolean."""
    return "true" if value else "false"


def _text(value: str | None) -> str:
    return "null" if value is None else quoted(value)


def _number(value: float | None) -> str:
    return "null" if value is None else dumps(value) if value.__class__ is not float else _figure(value)


def _figure(value: float) -> str:
    return repr(value) if value - value == 0 else dumps(value)  # NaN and infinities have names of their own in JSON
