"""The check `parity`: was the restored copy, page by page, what production held at that position?

Not having been compared does not block `/ready`, which rests on the drill then, and warns; whoever migrates asks for more (`demanded`).
"""

from __future__ import annotations

from dataclasses import replace

from sidecar.core.case import Case, clock_set_back, seconds, spelled
from sidecar.core.checks_content import worth_waiting
from sidecar.core.finding import TIMELESS, Finding, Holding, Reason, Status
from sidecar.core.instants import from_the_future
from sidecar.core.model import Drill
from sidecar.core.parity import ParityResult

NAME = "parity"
RESTART_HINT = (
    "the drill that compares comes at once, or start one: POST /drills or `litestream-sidecar verify`; what the app "
    "commits and checkpoints while Litestream is stopped may be missing from the backup, and Litestream does not say so"
)
OFF_HINT = "`policy.parity: false` in sidecar.yml leaves this check out"


def parity(case: Case) -> Finding | None:
    """Asked only where the policy wants it, and production is in reach."""
    if not case.policy.compares:
        return None
    evidence = case.evidence
    compared, last = evidence.last_compared, evidence.last_own  # a verifier compares nothing
    why = (
        last.parity
        if last is not None and last.parity is not None and last.parity.result is ParityResult.INCONCLUSIVE
        else None
    )
    if compared is None or compared.parity is None:
        if why is not None:
            return Finding(
                NAME,
                Status.WARN,
                f"not compared: {why.message}",
                Reason.NOT_COMPARED,
                why.hint or OFF_HINT,
                holds=TIMELESS,
            )
        return Finding(
            NAME, Status.UNKNOWN, "no restored copy has been compared with production yet", Reason.NOT_COMPARED,
            OFF_HINT, worth_waiting(evidence),
        )  # fmt: skip
    found = compared.parity
    if found.result is ParityResult.DIFFERENT:
        return Finding(
            NAME, Status.FAIL, found.message, Reason.PAGES_DIFFER, found.hint, False, found.ratio, 1.0, "ratio"
        )
    as_of = evidence.proved_at(compared) if case.policy.skip_proved else compared.finished_at
    ahead = clock_set_back(NAME, Reason.NOT_COMPARED, "the last comparison", as_of, case.now)
    if ahead is not None:
        return ahead
    restarted_at = evidence.restarted_since(compared)
    if restarted_at is not None and not from_the_future(restarted_at, case.now):  # else the clock was set back since
        tried = why is not None and evidence.restarted_since(last) is None
        what = f"Litestream was started again {spelled(seconds(case.now - restarted_at))} ago, and no restored copy has been compared since"
        return Finding(
            NAME, Status.WARN if tried else Status.UNKNOWN, f"{what}: {why.message}" if tried and why is not None else what,
            Reason.NOT_COMPARED, RESTART_HINT, not tried,
        )  # fmt: skip
    age = case.now - as_of
    if age > case.policy.parity_max_age:
        since = f"; since then: {why.message}" if why is not None else ""
        return Finding(
            NAME, Status.WARN, f"last compared {spelled(seconds(age))} ago{since}", Reason.NOT_COMPARED,
            (why.hint if why is not None else "") or OFF_HINT,
        )  # fmt: skip
    holds = Holding(as_of + case.policy.parity_max_age) if restarted_at is None else None
    return Finding(NAME, Status.PASS, found.message, observed=found.ratio, limit=None, unit="ratio", holds=holds)


def of_this_comparison(finding: Finding, newest: Drill | None) -> Finding:
    """The finding for whoever asked for a drill just now: an older comparison does not stand for one that found nothing out."""
    made = newest.parity if newest is not None else None
    if (
        finding.name != NAME
        or finding.status is Status.FAIL
        or made is None
        or made.result is not ParityResult.INCONCLUSIVE
    ):
        return finding
    return Finding(NAME, Status.WARN, f"not compared: {made.message}", Reason.NOT_COMPARED, made.hint or OFF_HINT)


def demanded(finding: Finding, newest: Drill | None) -> Finding:
    """The same for whoever is about to migrate: a warning blocks."""
    found = of_this_comparison(finding, newest)
    return replace(found, status=Status.UNKNOWN, retryable=True) if found.status is Status.WARN else found
