"""What the status page shows, gathered in one go: of all databases, or of one. Reads state and causes no work.

What comes from a disk (past drills, deploys, kept artifacts) may wait for it, so this runs in a worker thread; deploys are
read again only every few seconds, however many people look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from sidecar.answers import Answers
from sidecar.core.errors import SidecarError
from sidecar.core.finding import Status
from sidecar.core.model import Database, Drill
from sidecar.core.policy import Policy
from sidecar.core.receipt import Kept
from sidecar.core.verdict import FleetVerdict, Verdict
from sidecar.trace import Curve

WHOLE_FLEET_MAX = 5  # a fleet as small as this is shown in full, whether ready or not
FULL_MAX = 20  # databases that are shown in full
ROWS_MAX = 1000  # databases that are listed beside them
PLOTTED_MAX = 60  # drills in a plot
DRILLS_MAX, DRILLS_OF_ONE_MAX = 10, 30  # newest drills that are listed
DECISIONS_MAX = 8
DECISIONS_READ_MAX = 200
DEPLOYS_EVERY_S = 5.0


class Past(Protocol):
    """Deploys that were. Raises SidecarError."""

    def newest(self, limit: int) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102 - see ledger/deploys.py
    def kept(self) -> Sequence[Kept]: ...  # noqa: D102 - see shelf.py


@dataclass(frozen=True, slots=True)
class Subject:
    """One database that is shown in full."""

    verdict: Verdict
    policy: Policy
    curve: Curve | None
    drills: Sequence[Drill]  # newest first
    kept: Kept | None  # the newest rollback artifact
    drilling: str | None  # `queued` or `running`


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the page shows."""

    fleet: FleetVerdict
    one: bool  # of one database
    version: str
    alive: bool
    stale: str | None  # why the configuration on disk is not in force
    full: Sequence[Subject]
    rows: Sequence[Verdict]
    unlisted: int
    drills: Sequence[tuple[str, Drill]]
    decisions: Sequence[Mapping[str, Any]]
    past_error: str | None  # why deploys could not be read


@dataclass(frozen=True, slots=True)
class Deploys:
    """What is known of deploys, as of a few seconds ago."""

    decisions: Sequence[Mapping[str, Any]] = ()
    kept: Mapping[str, Kept] | None = None  # by name: the newest
    error: str | None = None


class Gatherer:
    """Thread-safe.

    Args:
        answers: the read side of the daemon.
        past: deploys that were, and what was kept for the way back.
        curve: how far behind a database's replica was, by path.
        alive: whether the daemon's loop turns.
    """

    def __init__(
        self, answers: Answers, past: Past, curve: Callable[[str], Curve | None], alive: Callable[[], bool]
    ) -> None:
        self._answers, self._past, self._curve, self._alive = answers, past, curve, alive
        self._lock, self._read_at, self._deploys = Lock(), -1e9, Deploys()

    def facts(self, database: Database | None) -> Facts:
        """Of this database, or of all."""
        deploys = self._known_deploys()
        fleet = self._answers.verdict([database] if database is not None else None)
        verdicts = sorted(fleet.verdicts, key=_worst_first)
        small = len(verdicts) <= WHOLE_FLEET_MAX
        full = [each for each in verdicts if small or not each.ready][:FULL_MAX]
        shown = {each.database.path for each in full}
        rest = [each for each in verdicts if each.database.path not in shown]
        limit = DRILLS_OF_ONE_MAX if database is not None else DRILLS_MAX
        past = [
            each for each in deploys.decisions if database is None or database.name in (each.get("databases") or ())
        ]
        error = self._answers.keeper.error
        return Facts(
            fleet=fleet, one=database is not None, version=self._answers.version, alive=self._alive(),
            stale=str(error) if error is not None else None,
            full=[self._subject(each, deploys) for each in full], rows=rest[:ROWS_MAX],
            unlisted=max(len(rest) - ROWS_MAX, 0),
            drills=self._answers.ledger.history(database.path if database is not None else None, limit),
            decisions=past[:DECISIONS_MAX], past_error=deploys.error,
        )  # fmt: skip

    def _subject(self, verdict: Verdict, deploys: Deploys) -> Subject:
        path, name = verdict.database.path, verdict.database.name
        ticket = self._answers.desk.open_at(path)
        return Subject(
            verdict,
            self._answers.keeper.fleet.policies.get(path, Policy()),
            self._curve(path),
            [drill for _, drill in self._answers.ledger.history(path, PLOTTED_MAX)],
            (deploys.kept or {}).get(name),
            ticket.state if ticket is not None else None,
        )

    def _known_deploys(self) -> Deploys:
        with self._lock:
            now = self._answers.clock.monotonic()
            if now - self._read_at >= DEPLOYS_EVERY_S:
                self._deploys, self._read_at = self._read_deploys(), now
            return self._deploys

    def _read_deploys(self) -> Deploys:
        try:
            kept = {each.name: each for each in self._past.kept()}  # the newest comes last
            return Deploys(self._past.newest(DECISIONS_READ_MAX), kept)
        except SidecarError as error:
            return Deploys(error=str(error))


def _worst_first(verdict: Verdict) -> tuple[bool, bool, str]:
    proved = any(finding.status is Status.FAIL for finding in verdict.judged.findings)
    return verdict.ready, not proved, verdict.database.name
