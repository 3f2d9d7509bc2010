"""A rehearsal: what a command did to a copy of production, and whether it may do that to production. Pure: values in, lines out.

What is told here is what was measured on the copy. What the same command would do elsewhere (its mails, its calls to other
services), and how it fares beside an app that writes, no copy can show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sidecar.core.census import Census
from sidecar.core.comparison import schema_changes
from sidecar.core.errors import SidecarError
from sidecar.core.expectation import Expectation, judge_change
from sidecar.core.finding import Finding, Reason, Status
from sidecar.core.model import Database, Drill
from sidecar.core.restarts import PAGES_MIN, REWRITTEN_SHARE, Shape, restarts

LOCK_WARN_S = 5.0  # how long Python's sqlite3 and Rails wait for a lock before they say "database is locked"
NAMED_MAX = 3


class TouchedProduction(SidecarError):
    """The command opened production's files, and was killed."""

    exit_code = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What was seen of the copy while the command ran; how closely, `resolution_seconds` says."""

    longest_lock_seconds: float = 0.0
    commits: int = 0
    wal_written_bytes: int = 0
    wal_peak_bytes: int = 0
    largest_transaction_bytes: int = 0
    rewrote_all: bool = False  # one transaction wrote as many pages as the database has
    left_wal: bool = False  # it was in WAL mode, and was seen not to be at some moment
    journal_made: bool = False  # a rollback journal stood beside it, however shortly; in WAL mode SQLite makes none
    resolution_seconds: float = 0.0  # the longest pause between two looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How the command ended."""

    argv: tuple[str, ...]
    seconds: float
    exit_code: int | None  # negative: a signal ended it; None: it had not ended in time and was killed
    signal: str | None = None  # that signal's name
    left_running: tuple[str, ...] = ()  # what it started and left behind, killed by us
    lock_holder: str | None = None  # which process held the write lock when the command had ended
    opened_copy: bool = True
    production_writers: tuple[str, ...] = ()  # who else has production open for writing
    scratch_full: bool = False  # there was no room left at some moment, which the backup's copy is not to blame for


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """Rows of one table: those with a new key, those whose key is gone, those with the same key and another content.

    `why` says why it could not be told; then the figures are None.
    """

    name: str
    inserted: int | None = None
    deleted: int | None = None
    updated: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The copy at one instant. `census` None: it could not be taken, and `error` says why."""

    shape: Shape
    census: Census | None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """Everything that was found out."""

    database: Database
    drill: Drill
    ran: Ran
    watched: Watched
    before: State
    after: State
    complaints: tuple[str, ...]  # quick_check's
    rows: tuple[RowChange, ...] | None  # None: not compared
    rows_note: str  # why not
    pages_changed: int | None
    guarded: bool  # the command's processes were watched for production's files
    production_changed: bool | None  # meanwhile, by whomever; None: it is not on this machine


@dataclass(frozen=True, slots=True)
class Line:
    """One answer, as in a finding; `reason` is a word, None exactly when it passed."""

    name: str
    status: Status
    message: str
    reason: str | None = None
    hint: str = ""


def judge(found: Rehearsal, expectation: Expectation) -> tuple[Line, ...]:
    """Every answer, in the order in which a person asks. What a killed command left half-done is not judged."""
    lines = [_command(found)]
    if found.ran.exit_code is not None:
        lines += _content(found, expectation)
    litestream = () if found.complaints else _litestream(found)  # a file that is gone or damaged has no shape
    return (*lines, *_left(found.ran), _lock(found), *litestream, _production(found))


def _command(found: Rehearsal) -> Line:
    """Did it run to its end, and well? What it leaves behind when it fails is the worst surprise of a deploy."""
    name, ran = "command", found.ran
    took = f"after {spelled(ran.seconds)}"
    if ran.exit_code is None:
        return Line(
            name, Status.UNKNOWN, f"it had not ended {took} and was killed", "timeout",
            "give it more time (--timeout), or find out what it waits for",
        )  # fmt: skip
    if ran.exit_code != 0 and ran.scratch_full:
        return Line(
            name, Status.UNKNOWN, f"it {_ended(ran)} {took}, and the scratch directory had run full", "scratch_full",
            "free some space, or move scratch-dir to a larger disk",
        )  # fmt: skip
    if ran.exit_code != 0:
        said = f"it {_ended(ran)} {took}, {_left_as(found)}"
        return Line(name, Status.FAIL, said, "command_failed", "its output says why; mend it and rehearse again")
    if not ran.opened_copy:
        return Line(
            name, Status.UNKNOWN, "it ended well, and nobody was seen opening the copy: nothing was rehearsed", "copy_not_opened",
            "write {db} where its arguments name the database, or say --env NAME={db} or --database-url",
        )  # fmt: skip
    return Line(name, Status.PASS, f"it ended well {took}")


def spelled(seconds: float) -> str:
    """`21 ms`, `1.3 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _ended(ran: Ran) -> str:
    return f"was ended by {ran.signal}" if ran.signal is not None else f"failed with exit code {ran.exit_code}"


def _left_as(found: Rehearsal) -> str:
    """Whether a failed command undid what it had begun."""
    before, after = found.before.census, found.after.census
    if before is None or after is None:
        return "and what it left cannot be read"
    changed = schema_changes(before, after) or before.content.tables != after.content.tables
    if changed or found.pages_changed or found.before.shape != found.after.shape:
        return "and left half of its changes behind: a failed deploy would need the way back"
    return "and left nothing behind" if found.pages_changed == 0 else "and left schema and row counts as they were"


def _content(found: Rehearsal, expectation: Expectation) -> Iterator[Line]:
    """Is what it left sound, whole and as expected?"""
    if found.complaints:
        said = "; ".join(found.complaints[:NAMED_MAX])
        yield Line("content", Status.FAIL, f"quick_check: {said}", Reason.DB_CORRUPT, "never run this on production")
    elif found.before.census is None or found.after.census is None:
        yield Line(
            "content", Status.UNKNOWN, found.after.error or found.before.error, Reason.UNREADABLE, "check it with the app itself"
        )  # fmt: skip
    else:
        yield Line("content", Status.PASS, "quick_check finds it sound")
        yield from map(_reworded, judge_change(found.before.census, found.after.census, expectation))


_REWORDED = {
    Reason.EMPTY: "it leaves no table at all",
    Reason.IDENTITY_CHANGED: "it makes another database of it",
    Reason.VERSION_UNKNOWN: "the schema version after it cannot be told",
}


def _reworded(finding: Finding) -> Line:
    """The comparison speaks of production after a deploy; here nothing has happened yet, and there is nothing to roll back."""
    message, hint, reason = finding.message, finding.hint, finding.reason
    if finding.status is Status.FAIL and reason is not None:
        flags = hint[hint.index("--") :] if "--allow-shrink" in hint or "--expect" in hint else ""
        hint = "mend the migration and rehearse again" + (f"; where it is meant, say {flags}" if flags else "")
    if finding.status.blocks and reason in _REWORDED:
        detail = message.partition(": ")[2]
        message = f"{_REWORDED[reason]}: {detail}" if detail else _REWORDED[reason]
    elif (
        finding.status is Status.WARN and reason is Reason.IDENTITY_CHANGED
    ):  # the page size, of which `litestream` says more
        return Line(finding.name, Status.PASS, "it is the same database, and no table has shrunk")
    return Line(finding.name, finding.status, message, reason.value if reason is not None else None, hint)


def _left(ran: Ran) -> Iterator[Line]:
    """What it left running, above all with a transaction open."""
    name, hint = "transaction", "let the command wait for what it starts, and commit or roll back before it ends"
    if ran.lock_holder is not None:
        yield Line(
            name, Status.FAIL, f"{ran.lock_holder} still held the write lock when the command had ended: no one else could write",
            "transaction_open", hint,
        )  # fmt: skip
    elif ran.left_running:
        said = ", ".join(ran.left_running[:NAMED_MAX])
        yield Line(
            name,
            Status.WARN,
            f"it left running: {said} (killed here; on production nobody would)",
            "left_running",
            hint,
        )
    else:
        yield Line(name, Status.PASS, "no transaction and no process was left open")


def _lock(found: Rehearsal) -> Line:
    """How long the app's writes would have waited."""
    name, held = "lock", found.watched.longest_lock_seconds
    said = f"the app's writes would wait up to {spelled(held)}" if held else "the write lock was never seen held"
    if held >= LOCK_WARN_S:
        return Line(
            name, Status.WARN, f"{said}; most apps give up after {LOCK_WARN_S:g} s (`database is locked`)", "lock_long",
            "migrate in smaller transactions, stop the app meanwhile, or raise its busy timeout",
        )  # fmt: skip
    return Line(name, Status.PASS, said)


def _litestream(found: Rehearsal) -> Iterator[Line]:
    """What it does that Litestream does not take in its stride."""
    name = "litestream"
    found_out = list(
        restarts(
            found.before.shape, found.after.shape, rewrote_all=_rewrote_all(found), left_wal=_left_wal(found),
            v3=(found.drill.litestream_version or "").removeprefix("v").startswith("0.3."),
        )
    )  # fmt: skip
    for each in found_out:
        yield Line(name, Status.FAIL if each.blocks else Status.WARN, each.message, each.reason, each.hint)
    if not found_out:
        yield Line(name, Status.PASS, "Litestream goes on where it is")


def _rewrote_all(found: Rehearsal) -> bool:
    """Whether every page was written anew, as VACUUM does."""
    pages, changed = found.after.shape.pages, found.pages_changed or 0
    in_rollback_mode = not found.watched.wal_written_bytes
    return found.watched.rewrote_all or (in_rollback_mode and pages >= PAGES_MIN and changed >= REWRITTEN_SHARE * pages)


def _left_wal(found: Rehearsal) -> bool:
    """Whether it was not in WAL mode at some moment, however shortly."""
    watched = found.watched
    return watched.left_wal or (watched.journal_made and found.before.shape.wal)


def _production(found: Rehearsal) -> Line:
    """Production was left alone: how do we know? A look comes every few milliseconds, and a faster hand would not be seen."""
    name, seen = "production", "the command was never seen opening production" if found.guarded else ""
    writers = ", ".join(found.ran.production_writers[:NAMED_MAX])
    if found.production_changed and not writers:
        return Line(
            name, Status.UNKNOWN, "production changed meanwhile, and nobody but the command is known to write there",
            "production_changed", "look at production; rehearse as the app's user and while the app runs, so that we see that it has it open",
        )  # fmt: skip
    meanwhile = {
        True: f"it was written meanwhile, and {writers} has it open",
        False: "its files are as they were",
        None: "it is not on this machine",
    }[found.production_changed]
    return Line(name, Status.PASS, "; ".join(each for each in (seen, meanwhile) if each))


def outcome(lines: Iterable[Line]) -> Status:
    """FAIL: proved that it would not hold; UNKNOWN: could not tell; else PASS."""
    statuses = {each.status for each in lines}
    return next((each for each in (Status.FAIL, Status.UNKNOWN) if each in statuses), Status.PASS)


def verdict(found: Rehearsal, lines: Iterable[Line]) -> str:
    """The one sentence."""
    lines = tuple(lines)
    blocking = sorted((each for each in lines if each.status.blocks), key=lambda each: each.status is not Status.FAIL)
    if blocking:
        more = f" (and {len(blocking) - 1} more)" if len(blocking) > 1 else ""
        return f"{found.database.name}: {blocking[0].name}: {blocking[0].message}{more}"
    warned = sum(each.status is Status.WARN for each in lines)
    but = f", with {warned} warning{'s' if warned > 1 else ''}" if warned else ""
    return f"{found.database.name}: the command held on the copy{but}"
