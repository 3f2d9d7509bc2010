"""A rollback plan in words: text that a person reads and a shell runs (all but commands is comments), and a JSON document."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime

from sidecar.core.case import spelled
from sidecar.core.rollback import Case, Plan, State, Way
from sidecar.core.rollback_steps import PROGRAM, Step, steps
from sidecar.core.verdict import Document, rfc3339


def plan_text(plan: Plan) -> str:
    """The whole plan."""
    return "\n".join([*_head(plan), "", *step_lines(steps(plan))])


def step_lines(ordered: tuple[Step, ...]) -> Iterator[str]:
    """Numbered titles and notes as comments, commands as they are to be typed."""
    for number, step in enumerate(ordered, 1):
        yield f"# {number}. {step.title}"
        yield from (f"#    {note}" for note in step.notes)
        yield from step.commands


def _head(plan: Plan) -> Iterator[str]:
    receipt, now = plan.receipt, plan.around.now
    yield f"# the way back by receipt {receipt.id}, issued {rfc3339(receipt.issued_at)}"
    if receipt.expires_at <= now:
        yield f"# it expired {rfc3339(receipt.expires_at)}: that ends its use for a deploy, not for going back"
    if receipt.override is not None:
        yield f"# the gate was overridden ({' '.join(receipt.override.reason.split())}): what stands below was not all proved"
    for case in plan.cases:
        yield "#"
        yield from _about(case, now)
    if all(case.way is Way.ARTIFACT for case in plan.cases):
        yield "#"
        yield f"# once everything is stopped, this does the file part, with more checks: {_execute(plan)}"


def _about(case: Case, now: datetime) -> Iterator[str]:
    yield f"# {case.entry.name}: {case.standing.path}"
    yield f"#   {_verdict(case)}"
    yield f"#   artifact  {artifact_sentence(case)}"
    yield f"#   position  {position_sentence(case)}"
    yield f"#   lost      {loss(case, now)}"
    seconds = case.seconds
    took = f"about {max(seconds, 1):.0f} s for the files{_speed(case)}" if seconds is not None else "not known"
    yield f"#   takes     {took}"
    if case.standing.occupancy.unseen:
        yield "#   some processes could not be looked into: run this as root to see everybody who has it open"
    if not case.standing.exists:
        yield "#   no database file stands there now"


def _verdict(case: Case) -> str:
    return {
        Way.ARTIFACT: "goes back to the kept copy",
        Way.POSITION: "goes back by a restore of the position from the replica; the kept copy is of no use",
        Way.NONE: "there is no way back by this receipt",
        Way.UNKNOWN: "not known whether there is a way back",
    }[case.way]


def artifact_sentence(case: Case) -> str:
    """What became of the kept copy."""
    where = case.entry.rollback.artifact
    return {
        State.SOUND: f"{where} is there, its sha256 is the receipt's",
        State.MISSING: f"{where} is gone",
        State.ALTERED: f"{where} was altered: its sha256 is not the receipt's",
        State.UNREADABLE: f"{where} cannot be read: {case.artifact.why}",
        State.NEVER: "none was made",
    }[case.artifact.state]


def position_sentence(case: Case) -> str:
    """Whether the TXID can still be restored."""
    position = case.entry.rollback.position
    if position is None:
        return "none: the kept copy is a copy of production"
    answer = {
        True: "can be restored from the replica, for now",
        False: "cannot be restored from the replica",
        None: "not known",
    }
    why = f" ({' '.join(case.probe.why.split())})" if case.probe.why else ""
    return f"{position} {answer[case.probe.restorable]}{why}"


def loss(case: Case, now: datetime) -> str:
    """What going back gives up."""
    rollback, standing = case.entry.rollback, case.standing
    since = spelled(max((now - rollback.created_at).total_seconds(), 0))
    said = f"everything committed since {rfc3339(rollback.created_at)}, {since} ago"
    if standing.last_commit is not None:
        ago = max((now - standing.last_commit).total_seconds(), 0)
        said += f"; the last write was {spelled(ago)} ago"
    if standing.position is not None and rollback.position is not None:
        count = case.positions_lost
        counted = f", {count} transaction{'' if count == 1 else 's'} on" if count is not None else ""
        said += f"; Litestream has captured production up to {standing.position}{counted}"
    return said


def _speed(case: Case) -> str:
    size, seconds = case.artifact.size_bytes, case.artifact.read_seconds
    return (
        f" ({size / seconds / 1e6:.0f} MB/s measured just now)" if case.way is Way.ARTIFACT and size and seconds else ""
    )


def _execute(plan: Plan) -> str:
    key = ("--key-file", plan.around.key_file) if plan.around.key_file else ()
    return shlex.join((PROGRAM, "rollback", "--receipt", plan.around.receipt_file, *key, "--execute"))


def plan_document(plan: Plan) -> Document:
    """The JSON of a plan."""
    now = plan.around.now
    return {
        "receipt": plan.receipt.id,
        "issued_at": rfc3339(plan.receipt.issued_at),
        "expired": plan.receipt.expires_at <= now,
        "planned_at": rfc3339(now),
        "possible": {0: True, 1: False}.get(plan.exit_code),
        "seconds": plan.seconds,
        "databases": [_case_document(case, now) for case in plan.cases],
        "steps": [step_document(each) for each in steps(plan)],
    }


def _case_document(case: Case, now: datetime) -> Document:
    rollback, standing = case.entry.rollback, case.standing
    return {
        "name": case.entry.name,
        "path": standing.path,
        "way": case.way.value,
        "artifact": {"path": rollback.artifact, "state": case.artifact.state.value, "message": artifact_sentence(case)},
        "position": {
            "value": rollback.position,
            "restorable": case.probe.restorable,
            "message": position_sentence(case),
        },
        "lost": {
            "since": rfc3339(rollback.created_at),
            "seconds": round(max((now - rollback.created_at).total_seconds(), 0), 3),
            "last_write": rfc3339(standing.last_commit),
            "production": standing.position,
            "positions": case.positions_lost,
        },
        "seconds": round(case.seconds, 3) if case.seconds is not None else None,
        "in_use_by": [
            {"pid": each.pid, "command": each.command, "unit": each.unit} for each in standing.occupancy.processes
        ],
        "locked": standing.occupancy.locked,
    }


def step_document(step: Step) -> Document:
    """The JSON of a step."""
    return {"title": step.title, "commands": list(step.commands), "notes": list(step.notes)}
