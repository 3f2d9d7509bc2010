"""The checks about content: does a restored copy hold up, is it the same database, is production sound?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from sidecar.core.case import Case, clock_set_back, seconds, settling, spelled
from sidecar.core.evidence import Evidence
from sidecar.core.finding import TIMELESS, Finding, Holding, Reason, Status
from sidecar.core.model import Content, Drill, Outcome
from sidecar.core.shrinkage import shrinkage
from sidecar.core.turns import drill_due_at, proved_as_of

SOON = timedelta(minutes=10)  # a deploy script waits minutes, not hours
WAIT_HINT = "wait for the next drill, or start one: POST /drills or `litestream-sidecar verify`"
TRIES_WORTH_WAITING = 3  # what has kept us out this often in a row will not go away by waiting


def drill(case: Case) -> Finding:
    """Did the newest drill pass, recently enough? Inconclusive drills neither refresh the proof nor claim damage."""
    name, evidence = "drill", case.evidence
    found, restored, last = evidence.last_conclusive, evidence.restored, evidence.last_drill
    proof = evidence.last_passed if case.policy.counts_by_change else restored
    if found is not None and found.outcome is Outcome.FAILED:
        made = f", made by {found.verifier}," if found.verifier is not None else ""
        return Finding(
            name, Status.FAIL, f"the newest drill{made} failed: {found.message}",
            Reason(found.reason or Reason.RESTORE_FAILED), found.hint or "look at `litestream-sidecar history`",
        )  # fmt: skip
    if proof is None and last is not None:
        return Finding(
            name, Status.UNKNOWN, f"no drill has passed yet; the newest was {last.outcome}: {last.message}",
            Reason(last.reason or Reason.NEVER_DRILLED), last.hint or WAIT_HINT, worth_waiting(evidence),
        )  # fmt: skip
    if proof is None or restored is None:
        return Finding(
            name,
            Status.UNKNOWN,
            "the backup has never been restored",
            Reason.NEVER_DRILLED,
            WAIT_HINT,
            retryable=True,
        )
    proved_at = proved_as_of(evidence, proof, case.policy)
    ahead = clock_set_back(name, Reason.DRILL_OLD, "the last passed drill", proved_at, case.now)
    if ahead is not None:
        return ahead
    age, limit = seconds(case.now - proved_at), case.policy.drill_max_age.total_seconds()
    restored_age = seconds(case.now - restored.finished_at)
    if restored_age > case.policy.restore_max_age.total_seconds():
        age, limit = restored_age, case.policy.restore_max_age.total_seconds()
    if age > limit:
        why, what = "", "proved" if proof.by_change and age != restored_age else "restored"
        if last is not None and last.outcome is not Outcome.PASSED:
            why = f"; the newest was {last.outcome} ({last.reason}): {last.message}"
        return Finding(
            name, Status.FAIL, f"the backup was last {what} {spelled(age)} ago (limit {spelled(limit)}){why}",
            Reason.DRILL_OLD, WAIT_HINT, worth_waiting(evidence) and _drill_comes_soon(case), age, limit, "seconds",
        )  # fmt: skip
    until = min(proved_at + case.policy.drill_max_age, restored.finished_at + case.policy.restore_max_age)
    stood_s = seconds(proved_at - proof.finished_at)
    says: Callable[[float], str]
    if proof.by_change:
        says = partial(_forward_ago, seconds(proof.finished_at - restored.finished_at), stood_s)
    else:
        says = partial(_stood_ago, stood_s) if stood_s else _restored_ago
    return Finding(
        name, Status.PASS, says(age), None, "", False, age, limit, "seconds", Holding(until, proved_at, says)
    )


def _restored_ago(age_s: float) -> str:
    return f"restored and checked {spelled(age_s)} ago"


def _forward_ago(forward_s: float, stood_s: float, age_s: float) -> str:
    whole = f"{_restored_ago(forward_s + stood_s + age_s)}; brought forward and checked {spelled(stood_s + age_s)} ago"
    return f"{whole}; nothing new {spelled(age_s)} ago" if stood_s else whole


def _stood_ago(stood_s: float, age_s: float) -> str:
    return f"{_restored_ago(stood_s + age_s)}; a restore would have read the same files {spelled(age_s)} ago"


def worth_waiting(evidence: Evidence) -> bool:
    """Whether the next drill may well pass: a stop or a race goes by, a full scratch disk or an old fault does not."""
    last = evidence.last_drill
    if last is None or last.reason in {Reason.ABORTED, Reason.RACED}:
        return True
    return last.reason != Reason.SCRATCH_FULL and evidence.not_passed_in_a_row < TRIES_WORTH_WAITING


def of_this_drill(finding: Finding, newest: Drill, evidence: Evidence) -> Finding:
    """The finding `drill` for whoever asked for a drill just now: an older proof does not stand for one that found nothing out."""
    if finding.name != "drill" or finding.status is Status.FAIL or newest.outcome is Outcome.PASSED:
        return finding
    return Finding(
        "drill", Status.UNKNOWN, f"the drill was {newest.outcome}: {newest.message}",
        Reason(newest.reason or Reason.RESTORE_FAILED), newest.hint, worth_waiting(evidence),
    )  # fmt: skip


def _drill_comes_soon(case: Case) -> bool:
    """Whether waiting helps: the next scheduled drill is not hours away, as it is where only `?max_age` asks for it."""
    due_at = drill_due_at(case.evidence, case.policy)
    return due_at is None or due_at - case.now <= SOON


def identity(case: Case) -> Finding:
    """Is it still the same database, not empty, not shrunk, not another app's backup?

    Where production is not in reach, the restored copy is judged alone: against what was restored before it.
    """
    name, evidence, beside = "identity", case.evidence, case.policy.production
    if beside and evidence.replaced_at is not None:
        return Finding(
            name, Status.FAIL, "another file stands at the database's path than the one Litestream replicates",
            Reason.FILE_REPLACED, "restart Litestream so that it opens the new file, and check that it is the right one",
        )  # fmt: skip
    production = evidence.content if beside else None
    restored = _restored(evidence)
    for whose, content in (("production", production), ("the restored copy", restored)):
        if content is not None and not content.tables:
            return Finding(
                name, Status.FAIL, f"{whose} holds no table", Reason.EMPTY,
                "if the app is new, create its schema first; if not, find out who emptied it before anything is deployed",
                retryable=settling(case),
            )  # fmt: skip
    if production is not None and restored is not None:
        why = _another(production, restored)
        if why is not None:
            return Finding(
                name, Status.FAIL, f"the restored copy is not this database: {why}", Reason.IDENTITY_CHANGED,
                "compare the replica's path in litestream.yml with what other apps use",
                retryable=restored.read_at < production.read_at,  # production may have changed since: a new drill settles it
            )  # fmt: skip
    lost = max(
        (shrinkage(evidence.baseline, each) for each in (production, restored) if each is not None),
        default=0.0,
    )
    if lost > case.policy.max_shrink:
        return Finding(
            name, Status.FAIL, f"{lost:.0%} of its rows, tables or pages are gone, compared with the copy of "
            f"{(evidence.baseline.read_at if evidence.baseline else case.now):%Y-%m-%d %H:%M}",
            Reason.SHRUNK, "find out what deleted them; if it was meant: `litestream-sidecar verify NAME --accept-shrink`",
            observed=lost, limit=case.policy.max_shrink, unit="ratio",
        )  # fmt: skip
    if not beside:
        return _identity_alone(restored, evidence)
    if production is None:
        return Finding(name, Status.UNKNOWN, "production has not been read, so nothing is known to be the same",
                       Reason.IDENTITY_CHANGED, evidence.content_error or "", evidence.content_error is None)  # fmt: skip
    if restored is None:
        return Finding(name, Status.UNKNOWN, "no restored copy has been read yet to compare production with",
                       Reason.IDENTITY_CHANGED, WAIT_HINT, worth_waiting(evidence))  # fmt: skip
    return Finding(name, Status.PASS, "production and its restored copy are the same database", holds=TIMELESS)


def _identity_alone(restored: Content | None, evidence: Evidence) -> Finding:
    if restored is None:
        return Finding("identity", Status.UNKNOWN, "no restored copy has been read yet", Reason.IDENTITY_CHANGED,
                       WAIT_HINT, worth_waiting(evidence))  # fmt: skip
    return Finding(
        "identity", Status.PASS, "the restored copy is whole, as far as can be told without production", holds=TIMELESS
    )


def _restored(evidence: Evidence) -> Content | None:
    """The newest restored copy that could be read; of two of one instant the one that passed."""
    drills = (evidence.last_passed, evidence.last_conclusive)
    copies = [each.content for each in drills if each is not None and each.content is not None]
    return max(copies, key=lambda content: content.read_at, default=None)


def _another(production: Content, restored: Content) -> str | None:
    """Why two contents cannot be of one database, or None."""
    if production.application_id != restored.application_id:
        return f"application_id {restored.application_id} instead of {production.application_id}"
    if production.page_size != restored.page_size:
        return f"page size {restored.page_size} instead of {production.page_size}"
    if not set(production.tables) & set(restored.tables):
        return f"they have no table in common (it holds {', '.join(sorted(restored.tables)[:3])})"
    return None


def database(case: Case) -> Finding:
    """Did production's own content pass quick_check recently?"""
    name, evidence = "database", case.evidence
    if evidence.live is not None and evidence.live.file_id is None and evidence.live.error is not None:
        return Finding(
            name, Status.UNKNOWN, f"whether there is a database file cannot be seen: {evidence.live.error}", Reason.UNREADABLE,
            "run the sidecar as the app's user, or let it into the folder",
        )  # fmt: skip
    if evidence.live is not None and evidence.live.file_id is None:
        return Finding(
            name, Status.FAIL, "there is no database file at its path", Reason.UNREADABLE,
            "check that the volume is mounted and the path in litestream.yml is right",
            retryable=evidence.file_id is None,  # never seen: the app may be about to create it
        )  # fmt: skip
    newest, found = evidence.database_check, evidence.database_found
    if found is not None and found.sound is False:
        return Finding(name, Status.FAIL, f"production is damaged: {found.message}", Reason.DB_CORRUPT,
                       found.hint or "do not migrate; restore from the last good drill")  # fmt: skip
    if found is None:
        if newest is None:
            return Finding(
                name, Status.UNKNOWN, "production has not been checked yet", Reason.CHECK_OLD, retryable=True
            )
        reason = Reason(newest.reason or Reason.CHECK_OLD)
        return Finding(name, Status.UNKNOWN, f"production could not be checked: {newest.message}",
                       reason, newest.hint, reason is not Reason.UNREADABLE)  # fmt: skip
    ahead = clock_set_back(name, Reason.CHECK_OLD, "the last check of production", found.at, case.now)
    if ahead is not None:
        return ahead
    age, limit = seconds(case.now - found.at), case.policy.database_check_max_age.total_seconds()
    if age > limit:
        why = f"; since then: {newest.message}" if newest is not None and newest.sound is None else ""
        return Finding(
            name, Status.FAIL, f"production was last checked {spelled(age)} ago (limit {spelled(limit)}){why}",
            Reason.CHECK_OLD, (newest.hint if newest is not None else "") or "look at the sidecar's log: checks do not happen",
            newest is None or newest.reason != Reason.UNREADABLE, age, limit, "seconds",
        )  # fmt: skip
    holds = Holding(found.at + case.policy.database_check_max_age, found.at, _checked_ago)
    return Finding(name, Status.PASS, _checked_ago(age), None, "", False, age, limit, "seconds", holds)


def _checked_ago(age_s: float) -> str:
    return f"quick_check passed {spelled(age_s)} ago"


def schema(case: Case) -> Finding:
    """Is the schema version recorded, and the same in production and in the restored copy?"""
    name, evidence = "schema", case.evidence
    production = evidence.content
    restored = evidence.last_passed.content if evidence.last_passed is not None else None
    if production is None:
        return Finding(name, Status.UNKNOWN, "production's schema has not been read", Reason.VERSION_UNKNOWN,
                       evidence.content_error or "", retryable=evidence.content_error is None)  # fmt: skip
    if evidence.content_error is not None:
        return Finding(name, Status.UNKNOWN, "production has changed since its schema was last read, and cannot be read now",
                       Reason.VERSION_UNKNOWN, evidence.content_error)  # fmt: skip
    version = production.schema_version
    if version is None:
        return Finding(name, Status.UNKNOWN, f"production's schema version cannot be told: {production.error}",
                       Reason.VERSION_UNKNOWN, "check policy.schema-version")  # fmt: skip
    if restored is None:
        return Finding(name, Status.UNKNOWN, f"production is at {version.value}; no restored copy to compare with yet",
                       Reason.VERSION_UNKNOWN, WAIT_HINT, retryable=True)  # fmt: skip
    if restored.schema_version != version:
        then = restored.schema_version.value if restored.schema_version is not None else "unknown"
        return Finding(name, Status.FAIL, f"production is at {version.value}, the restored copy at {then}",
                       Reason.VERSION_DIFFERS, WAIT_HINT, retryable=True)  # fmt: skip
    if restored.schema_digest != production.schema_digest:
        return Finding(name, Status.FAIL, f"both say {version.value}, but their schemas differ",
                       Reason.VERSION_DIFFERS, WAIT_HINT, retryable=True)  # fmt: skip
    return Finding(
        name, Status.PASS, f"production and the restored copy are at {version.value} ({version.source})", holds=TIMELESS
    )
