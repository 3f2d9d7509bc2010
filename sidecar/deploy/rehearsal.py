"""`rehearse`: run a command against a copy of production, and say what it would have done to production.

Production is read by its file names only, before and after. A command that would open it by name is refused before anything is
restored; one that opens it all the same is killed (the stage's business).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from urllib.parse import unquote

from sidecar.core.case import room_for
from sidecar.core.errors import EnvironmentProblem, ScratchFull, SidecarError, Stopped
from sidecar.core.model import CheckKind, Database, Drill
from sidecar.core.policy import Policy
from sidecar.core.ports import Clock, Integrity, LiveReader, Progress, RehearsalCopies, ScratchSpace, Stage
from sidecar.core.rehearsal import Rehearsal, RowChange, State, TouchedProduction
from sidecar.core.restarts import Shape

COPY_VARIABLE = "LITESTREAM_SIDECAR_REHEARSAL_DB"
PLACE = "{db}"
ROWS_TIMEOUT_S = 60.0  # for telling rows apart: a courtesy, not a check
MEGABYTE = 1_000_000
_SCHEME = re.compile(r"^[a-z][a-z0-9+.]*:", re.IGNORECASE)
_WORDS = re.compile(r"[\s'\"`;,|&()<>]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What to rehearse: the command, the caller's environment, and the variables to set in it, `{db}` standing for the copy."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    variables: Mapping[str, str]
    timeout_s: float

    def on(self, copy: Path) -> tuple[list[str], dict[str, str]]:
        """The command and its whole environment for this copy."""
        put = {name: text.replace(PLACE, str(copy)) for name, text in self.variables.items()}
        return [each.replace(PLACE, str(copy)) for each in self.argv], {
            **self.env,
            **put,
            COPY_VARIABLE: str(copy),
        }


def refuse_production(script: Script, production: Path) -> None:
    """Raises EnvironmentProblem where the command, or a variable that it would see, names production's database."""
    for each in script.argv:
        if _names(each, production):
            raise EnvironmentProblem(
                f"the command names production ({production}): it would migrate production", "write {db} in its place"
            )
    for name, value in {**script.env, **script.variables}.items():
        if _names(value, production):
            raise EnvironmentProblem(
                f"the environment variable {name} names production, which the command would open",
                f"--env {name}={PLACE} (in the form that the app expects, such as sqlite:///{PLACE}), or unset it",
            )


def _names(text: str, production: Path) -> bool:
    return any(_is(production, each) for each in _paths(text))


def _paths(text: str) -> Iterator[str]:
    """Everything in a text that may be meant as a path: words, what stands behind `=`, lists, and URLs without their scheme."""
    for word in {text, *_WORDS.split(text)}:
        for part in {word, word.partition("=")[2], word.rpartition("=")[2], *word.split(":")}:
            bare = unquote(_SCHEME.sub("", part).partition("?")[0])
            yield from {part, bare, bare.removeprefix("///"), re.sub("^/{2,}", "/", bare)}


def _is(production: Path, path: str) -> bool:
    """Whether a path leads to production's file or to what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        if path and "\0" not in path and path.endswith(suffix):
            real = os.path.realpath(path.removesuffix(suffix))
            with suppress(OSError):
                if real == os.path.realpath(production) or Path(real).samefile(production):
                    return True
    return False


@dataclass(frozen=True, slots=True)
class Rehearser:
    """Rehearses one command at a time."""

    copies: RehearsalCopies
    integrity: Integrity
    live: LiveReader
    scratch: ScratchSpace
    clock: Clock
    stage: Stage

    def begin(
        self,
        database: Database,
        policy: Policy,
        drill: Drill,
        kept: Path,
        script: Script,
        stop: Event,
        progress: Progress,
    ) -> Show:
        """Set the stage with the drilled copy `kept`, which lies alone in a scratch room. Raises ScratchFull, Stopped."""
        show = Show(self, database, policy, drill, script, stop)
        show.prepare(kept, progress)
        return show


class Show:
    """One rehearsal under way: `play` and then `found`."""

    def __init__(
        self, house: Rehearser, database: Database, policy: Policy, drill: Drill, script: Script, stop: Event
    ) -> None:
        self.house, self.database, self.policy, self.drill = house, database, policy, drill
        self.script, self.stop = script, stop
        self.rows_note = ""

    def prepare(self, kept: Path, progress: Progress) -> None:
        """The copy under production's file name, a census of it, and where there is room a second, untouched copy."""
        self.copy = kept.parent / "copy" / Path(self.database.path).name
        self.copy.parent.mkdir(mode=0o700)
        kept.rename(self.copy)
        size, free = self.copy.stat().st_size, self.house.scratch.free_bytes()
        if free < room_for(size):
            raise ScratchFull(
                f"the scratch directory has {free / MEGABYTE:.1f} MB free beside the copy, and a migration may need "
                f"{room_for(size) / MEGABYTE:.1f} MB",
                "free some space, raise resources.scratch-max, or move scratch-dir to a larger disk",
            )
        self.before = self.state()
        self.pristine = (
            self.second_copy(kept.parent / "pristine.db", progress) if free >= size + room_for(size) else None
        )
        if self.pristine is None:
            self.rows_note = "there was no room for a second copy to compare with"

    def second_copy(self, target: Path, progress: Progress) -> Path | None:
        """An untouched copy beside the one that is played on; None where the disk says no. Raises Stopped."""
        progress("copy", 0, None)
        try:
            self.house.copies.duplicate(self.copy, target, stop=self.stop)
        except OSError:
            target.unlink(missing_ok=True)
            return None
        return target

    def state(self) -> State:
        """The copy as it is now; a census that cannot be taken is part of the answer."""
        shape = self.house.copies.shape(self.copy)
        census, error = None, ""
        try:
            if shape is not None:
                census = self.house.integrity.census(
                    self.copy, schema_version=self.policy.schema_version, now=self.house.clock.now(), inode=None,
                    timeout_s=self.policy.drill_timeout.total_seconds(), stop=self.stop,
                )  # fmt: skip
        except Stopped:
            raise
        except SidecarError as problem:
            error = problem.message
        return State(shape=shape or Shape(0, 1, wal=False, auto_vacuum="none", inode=0), census=census, error=error)

    def play(self) -> None:
        """The command, and whether production stayed as it was meanwhile.

        Raises:
            SidecarError: it touched production (exit 1), or could not be started (2).
            Stopped: as its name says; nothing of it runs on.
        """
        argv, env = self.script.on(self.copy)
        before = self.house.live.read(self.database)
        try:
            ran, self.watched = self.house.stage.play(
                argv, env, self.copy, Path(self.database.path), timeout_s=self.script.timeout_s, stop=self.stop
            )
        except TouchedProduction as error:
            same = before.fingerprint == self.house.live.read(self.database).fingerprint
            then = "its files are as they were" if same else "its files changed meanwhile, so look at what it did"
            raise TouchedProduction(f"{error.message}; {then}", error.hint) from None
        after = self.house.live.read(self.database)
        self.ran = replace(ran, argv=self.script.argv)
        absent = after.file_id is None and before.file_id is None
        self.production_changed = None if absent else before.fingerprint != after.fingerprint

    def found(self, progress: Progress) -> Rehearsal:
        """What the command left, held against what it was given. Raises Stopped."""
        complaints = self.complaints(progress)
        after = self.state()
        rows, pages = None, None
        if self.pristine is not None and not complaints:
            pages = self.house.copies.pages_changed(self.pristine, self.copy, after.shape.page_size, stop=self.stop)
            rows = self.rows(after)
        ran = self.ran if not pages else replace(self.ran, opened_copy=True)
        return Rehearsal(
            database=self.database, drill=self.drill, ran=ran, watched=self.watched, before=self.before, after=after,
            complaints=complaints, rows=rows, rows_note=self.rows_note, pages_changed=pages,
            guarded=self.house.stage.guards(), production_changed=self.production_changed,
        )  # fmt: skip

    def complaints(self, progress: Progress) -> tuple[str, ...]:
        """What is wrong with the file itself."""
        if not self.copy.exists():
            return (f"{self.copy.name} is gone",)
        said = self.house.copies.settle(self.copy)
        if said is not None:
            return (said,)
        timeout_s = self.policy.drill_timeout.total_seconds()
        return self.house.integrity.check(
            self.copy, CheckKind.QUICK, timeout_s=timeout_s, stop=self.stop, progress=progress
        )

    def rows(self, after: State) -> tuple[RowChange, ...] | None:
        """Table by table, where a table is there before and after."""
        if self.pristine is None or self.before.census is None or after.census is None:
            return None
        old, new = self.before.census.content.tables, after.census.content.tables
        try:
            return self.house.copies.rows(
                self.pristine, self.copy, sorted(old.keys() & new.keys()), timeout_s=ROWS_TIMEOUT_S, stop=self.stop
            )
        except Stopped:
            raise
        except SidecarError as problem:
            self.rows_note = problem.message
            return None
