"""The exact commands of a rollback, in order.

Measured (0.5.17 and 0.3.13, file replica): once everything has been stopped, Litestream needs nothing for a file that was
swapped. With its local folder kept, after `litestream reset` and with the folder removed it starts, takes a full copy (0.3:
a new generation), and a restore brings the rolled-back content and what was written since. Where it was not stopped it goes
on reporting the old file and restores bring the old content; a restart mends that.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sidecar.core.occupancy import Occupant, stop_command
from sidecar.core.rollback import BESIDE, Case, Plan, Standing, Surroundings, Way

PROGRAM = "litestream-sidecar"


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, and with which commands; `notes` are for the person who does it."""

    title: str
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def steps(plan: Plan) -> tuple[Step, ...]:
    """In order. Databases without a way back have none of their own."""
    return tuple(_steps(plan))


def after_files(plan: Plan) -> tuple[Step, ...]:
    """What remains once the files are in place."""
    return tuple(_after(plan))


def _steps(plan: Plan) -> Iterator[Step]:
    apps, streams = _open(plan)
    yield Step(
        "stop the app, everything that may open the database",
        tuple(dict.fromkeys(_stop(each) for each in apps)),
        _waits(apps) if apps else ("no app was seen with it open; stop it all the same, or it opens it meanwhile",),
    )
    yield Step(
        "stop Litestream",
        tuple(dict.fromkeys(_stop(each) for each in streams)),
        _waits(streams) if streams else ("it was not seen running; it must not run before the files are in place",),
    )
    hidden = [case.standing.path for case in plan.cases if case.standing.occupancy.locked]
    if hidden:
        yield Step(
            "find who else has it open",
            (),
            (f"somebody who cannot be seen from here holds locks on {', '.join(hidden)}: look in other containers",),
        )
    for case in plan.cases:
        if case.way in {Way.ARTIFACT, Way.POSITION}:
            yield from _file_steps(case, plan.around)
    yield from _after(plan)


def _open(plan: Plan) -> tuple[list[Occupant], list[Occupant]]:
    """Everybody who has one of the databases open: apps, and Litestreams."""
    everybody = {each.pid: each for case in plan.cases for each in case.standing.occupancy.processes}
    return (
        [each for each in everybody.values() if not each.is_litestream],
        [each for each in everybody.values() if each.is_litestream],
    )


def _stop(occupant: Occupant) -> str:
    command = stop_command(occupant)
    return command if occupant.unit else f"{command}  # {_one_line(occupant.command)}"


def _waits(occupants: Iterable[Occupant]) -> tuple[str, ...]:
    return ("go on when it has ended",) if any(not each.unit for each in occupants) else ()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _file_steps(case: Case, around: Surroundings) -> Iterator[Step]:
    """Move aside, put in place: every command fails where the one before it did not do its work."""
    path, name = case.standing.path, case.entry.name
    aside, fresh = (
        f"{path}.replaced-{around.stamp}",
        posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}.fresh"),
    )
    if case.standing.exists or case.standing.beside:
        kept = posixpath.join(
            aside, f"{posixpath.basename(path)}.old"
        )  # no `*.db`, which a `dir:` of Litestream's might match
        main = [_said("mv", path, kept)] if case.standing.exists else []
        yield Step(
            f"move {name} aside, all its files together",
            (
                _said("mkdir", "-m", "700", aside),
                *main,
                *(_moved(f"{path}{suffix}", f"{kept}{suffix}") for suffix in BESIDE),
            ),
            ("keep that folder until the app runs well again: what is lost by going back is in it",),
        )
    rollback = case.entry.rollback
    if case.way is Way.ARTIFACT:
        got = [
            _said("cp", rollback.artifact or "", fresh),
            f"echo {shlex.quote(f'{rollback.artifact_sha256}  {fresh}')} | sha256sum -c -",
        ]
    else:
        got = [_restore_command(case, fresh, around)]
    settled = [*_owned(case.standing, fresh), _said("sync", fresh)]
    stale = _said("rm", "-f", *(f"{path}{suffix}" for suffix in BESIDE))
    yield Step(
        f"put {name} in place",
        (*got, *settled, stale, _said("mv", fresh, path), _said("sync", posixpath.dirname(path))),
    )


def _moved(file: str, kept: str) -> str:
    """Stopping the app may have removed it since the plan was made."""
    return f"[ ! -e {shlex.quote(file)} ] || {_said('mv', file, kept)}"


def _restore_command(case: Case, target: str, around: Surroundings) -> str:
    position = case.entry.rollback.position or ""
    return _said(PROGRAM, "restore", case.entry.name, "--position", position, "--to", target, *around.options)


def _owned(standing: Standing, target: str) -> Iterator[str]:
    """Without a file to take them from, the folder's owner and a mode that keeps content private."""
    if standing.uid is None or standing.mode is None:
        yield _said("chmod", "600", target)
        return
    yield _said("chown", f"{standing.uid}:{standing.gid}", target)
    yield _said("chmod", f"{standing.mode:o}", target)


def _after(plan: Plan) -> Iterator[Step]:
    apps, streams = _open(plan)
    yield Step("start Litestream, and let it sync", _starts(streams), tuple(_about_litestream(plan, streams)))
    yield Step("start the app", _starts(apps), tuple(_by_hand(apps)))
    names = [case.entry.name for case in plan.cases if case.way is not Way.NONE]
    yield Step(
        "see that the backup covers it again",
        (_said(PROGRAM, "verify", *names, *plan.around.options),) if names else (),
        ("where it says `shrunk`: that is the rollback itself; say so with `--accept-shrink`",),
    )


def _starts(occupants: Iterable[Occupant]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"systemctl start {each.unit}" for each in occupants if each.unit))


def _by_hand(occupants: Iterable[Occupant]) -> Iterator[str]:
    for each in occupants:
        if not each.unit:
            yield f"it ran as: {_one_line(each.command)}"


def _about_litestream(plan: Plan, streams: Iterable[Occupant]) -> Iterator[str]:
    yield from _by_hand(streams)
    yield "until it has synced, a restore brings what the replica held before the rollback"
    version = plan.around.litestream
    if version is not None and not version.startswith("0.3."):
        paths = [case.entry.path for case in plan.cases if case.way is not Way.NONE]
        resets = "; ".join(
            _said("litestream", "reset", "-config", plan.around.litestream_config, each) for each in paths
        )
        yield f"it needs no reset where it was stopped before; where its log shows errors about local files, stop it, then: {resets}"


def _said(*words: str) -> str:
    """A command for a shell."""
    return shlex.join(words)
