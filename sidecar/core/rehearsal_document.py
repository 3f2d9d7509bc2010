"""What a rehearsal found, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sidecar.core.comparison import comparison_document
from sidecar.core.finding import Status
from sidecar.core.rehearsal import Line, Rehearsal, State, outcome, verdict
from sidecar.core.verdict import Document, drill_document, rfc3339

OUTCOMES = {Status.PASS: "held", Status.FAIL: "failed", Status.UNKNOWN: "unknown"}


def rehearsal_document(found: Rehearsal, lines: Sequence[Line], *, at: datetime, version: str) -> Document:
    """`rehearse --json`. Figures are null where they could not be measured; `changes` where one of the censuses is missing."""
    ran, seen = found.ran, found.watched
    return {
        "outcome": OUTCOMES[outcome(lines)],
        "reason": verdict(found, lines),
        "checked_at": rfc3339(at),
        "version": version,
        "database": {"name": found.database.name, "path": found.database.path},
        "drill": drill_document(found.drill),
        "command": {
            "argv": list(ran.argv),
            "exit_code": ran.exit_code if ran.signal is None else None,
            "signal": ran.signal,
            "timed_out": ran.exit_code is None,
            "left_running": list(ran.left_running),
            "seconds": ran.seconds,
        },
        "measured": {
            "write_lock_longest_seconds": seen.longest_lock_seconds,
            "resolution_seconds": seen.resolution_seconds,
            "commits": seen.commits,
            "wal_written_bytes": seen.wal_written_bytes,
            "wal_peak_bytes": seen.wal_peak_bytes,
            "largest_transaction_bytes": seen.largest_transaction_bytes,
            "pages_changed": found.pages_changed,
        },
        "before": _state(found.before),
        "after": _state(found.after),
        "changes": _changes(found),
        "checks": [
            {"name": each.name, "status": each.status.value, "reason": each.reason, "message": each.message, "hint": each.hint or None}
            for each in lines
        ],
    }  # fmt: skip


def _state(state: State) -> Document:
    return {
        "size_bytes": state.shape.size_bytes,
        "page_size": state.shape.page_size,
        "wal": state.shape.wal,
        "auto_vacuum": state.shape.auto_vacuum,
    }


def _changes(found: Rehearsal) -> Document | None:
    """The comparison, and with `tables` the rows of each table that changed in any way."""
    if found.before.census is None or found.after.census is None:
        return None
    document = comparison_document(found.before.census, found.after.census)
    counts = {each["name"]: each for each in document["tables"]}
    told = {each.name: each for each in found.rows or ()}
    moved = [each.name for each in told.values() if each.inserted or each.deleted or each.updated]
    old, new = found.before.census.content.tables, found.after.census.content.tables
    document["tables"] = [
        {
            "name": name,
            "before": old.get(name),
            "after": new.get(name),
            "inserted": told[name].inserted if name in told else None,
            "deleted": told[name].deleted if name in told else None,
            "updated": told[name].updated if name in told else None,
        }
        for name in sorted({*counts, *moved})
    ]
    document["rows_compared"] = found.rows is not None
    document["rows_not_compared"] = [{"name": each.name, "why": each.why} for each in told.values() if each.why]
    if found.rows_note:
        document["rows_note"] = found.rows_note
    return document
