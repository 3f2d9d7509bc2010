"""Held: the findings about one database, kept from one question to the next while they must be what judging afresh would say.

A thousand databases are asked about many times a second, and little changes in between. A finding is held while what its check
reads (`READS`) is the very same value, the policy is the same, the clock has not gone back, and the finding itself says that
time has not turned it. Everything else, and whatever blocks, is judged again; the ages in what is held are counted anew.
"""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import compress
from operator import attrgetter, is_not

from sidecar.core.case import Case, Scratch, seconds
from sidecar.core.checks import CHECKS, FILE, READS, ROOM, SAID, Judged
from sidecar.core.evidence import Evidence
from sidecar.core.finding import TIMELESS, Finding
from sidecar.core.model import Database
from sidecar.core.policy import Policy
from sidecar.core.verdict import Verdict
from sidecar.core.verdict_text import (
    Aging,
    finding_text,
    lag_text,
    names_text,
    position_text,
    proved_text,
    replica_text,
    truth,
)

NEVER, FOREVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

_FIELDS = tuple(each.name for each in fields(Evidence))
_values = attrgetter(*_FIELDS)
_BITS = tuple(1 << number for number in range(len(_FIELDS) + 3))
_BIT = dict(zip((*_FIELDS, ROOM, FILE, SAID), _BITS, strict=True))
_CHECKS = tuple((check, sum(_BIT[field] for field in READS[name])) for name, check in CHECKS.items())
_POSITION = _BIT["live"] | _BIT[SAID] | _BIT["listing"]
_PROVED = _BIT["listing"] | _BIT["last_drill"] | _BIT["proof_stood_at"] | _BIT["content"]
_LIVE, _CLAIM = _BIT["live"], _BIT["claim"]
_ALL = sum(_BITS)
_LAG = list(CHECKS).index("lag")


class Held:
    """What is held of one database. Not thread-safe."""

    __slots__ = (
        "_database", "_evidence", "_found", "_judged", "_names", "_now", "_policy", "_position", "_proved", "_replica", "_room",
        "_texts", "_until", "_untils",
    )  # fmt: skip

    def __init__(self, database: Database, evidence: Evidence, policy: Policy, room: Scratch | None) -> None:
        self._database, self._evidence, self._policy, self._room = database, evidence, policy, room
        self._found: list[Finding | None] = [None] * len(_CHECKS)
        self._texts: list[str | Aging | None] = [None] * len(_CHECKS)
        self._untils = [NEVER] * len(_CHECKS)
        self._names = self._replica = self._position = self._proved = ""
        self._judged = Judged(())
        self._now, self._until = FOREVER, NEVER  # nothing has been judged, so nothing holds

    def judge(
        self, database: Database, evidence: Evidence, policy: Policy, room: Scratch | None, now: datetime
    ) -> Verdict:
        """The verdict at this instant; only ages in findings that do not block may still be those of an earlier one."""
        same = (
            evidence is self._evidence
            and policy is self._policy
            and room is self._room
            and database is self._database
            and self._now <= now <= self._until
        )
        if not same:
            self._renew(database, evidence, policy, room, now)
        self._now = now
        return Verdict(database, evidence, self._judged, now)

    def aged(self, verdict: Verdict) -> Verdict:
        """The verdict that `judge` has just given, with every age as it is now."""
        return replace(verdict, judged=Judged(tuple(_aged(each, verdict.now) for each in verdict.judged.findings)))

    def told(self, verdict: Verdict) -> Verdict:
        """The same of findings that have a reason; ages of those that simply pass may be earlier ones, which no line of text shows."""
        findings = verdict.judged.findings
        if all(each.reason is None or each.holds is None for each in findings):
            return verdict
        aged = tuple(each if each.reason is None else _aged(each, verdict.now) for each in findings)
        return replace(verdict, judged=Judged(aged))

    def text(self, verdict: Verdict) -> str:
        """`database_document` of the verdict that `judge` has just given, as JSON."""
        evidence, now, texts = verdict.evidence, verdict.now, self._texts
        if not self._names:
            self._names, self._replica = names_text(verdict.database), replica_text(verdict.database)
        self._position = self._position or position_text(evidence)
        self._proved = self._proved or proved_text(evidence)
        shown = []
        for number, finding in enumerate(self._found):
            if finding is None:
                continue
            text = texts[number]
            if text is None:
                text = texts[number] = finding_text(finding)
            shown.append(text if isinstance(text, str) else text.at(now))
        lag = lag_text(evidence, self._found[_LAG], now)
        head = f"{self._names}{truth(verdict.ready)}{self._replica}{self._position}{lag}{self._proved}"
        return f"{head}{', '.join(shown)}]}}"

    def _renew(
        self, database: Database, evidence: Evidence, policy: Policy, room: Scratch | None, now: datetime
    ) -> None:
        """Judge again what does not hold."""
        changed = _changed(self._evidence, evidence) | (_BIT[ROOM] if room != self._room else 0)
        if now < self._now or policy != self._policy:
            changed = _ALL
        if database != self._database:
            self._names = ""
        if changed & _POSITION:
            self._position = ""
        if changed & _PROVED:
            self._proved = ""
        self._database, self._evidence, self._policy, self._room = database, evidence, policy, room
        self._now = FOREVER  # should a check fail, nothing of this holds
        case, untils, late = Case(evidence, policy, room, now), self._untils, now > self._until
        for number, (check, reads) in enumerate(_CHECKS):
            if changed & reads or (late and now > untils[number]):
                found = self._found[number] = check(case)
                self._texts[number], untils[number] = None, _until(found)
        self._until = min(untils)
        self._judged = Judged(tuple([each for each in self._found if each is not None]))


def _changed(before: Evidence, after: Evidence) -> int:
    """Which fields hold another value: a bit for each."""
    if before is after:
        return 0
    changed = sum(compress(_BITS, map(is_not, _values(before), _values(after))))
    if changed & _CLAIM and _said(before) != _said(after):
        changed |= _BIT[SAID]
    if not changed & _LIVE:
        return changed
    if _reading(before) == _reading(after):
        return changed ^ _LIVE
    return changed | _BIT[FILE] if _file(before) != _file(after) else changed


def _reading(evidence: Evidence) -> tuple[object, ...] | None:
    """What the local files said. Of when that was, checks ask only whether it was after the newest look (`ahead.positions`)."""
    live, seen = evidence.live, evidence.sighting
    if live is None:
        return None
    after = seen is not None and seen.finished_at is not None and live.read_at >= seen.finished_at
    return (*live.fingerprint, live.captures, live.error, after)


def _said(evidence: Evidence) -> tuple[object, ...] | None:
    """What Litestream said of itself and of the database, whenever that was."""
    claim = evidence.claim
    if claim is None:
        return None
    return (claim.source, claim.up, claim.managed, claim.started_at, claim.txid, claim.sync_error, claim.error)


def _file(evidence: Evidence) -> tuple[object, ...]:
    """What is known of whether there is a file, and why not."""
    live = evidence.live
    return (live.file_id, live.error) if live is not None else ()


def _until(finding: Finding | None) -> datetime:
    """How long it holds. A check that does not apply (None) depends on the policy alone."""
    holds = finding.holds if finding is not None else TIMELESS
    return NEVER if holds is None or (finding is not None and finding.status.blocks) else holds.until


def _aged(finding: Finding, now: datetime) -> Finding:
    holds = finding.holds
    if holds is None or holds.since is None:
        return finding
    age_s = seconds(now - holds.since)
    return replace(finding, message=holds.says(age_s) if holds.says is not None else finding.message, observed=age_s)
