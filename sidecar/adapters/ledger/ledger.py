"""The ledger's memory, and when it goes to disk.

Readers see memory only, so that no disk can hold up an answer. Facts are written behind (`flush`); what Litestream and the
local files say is read anew within seconds of a start, so those facts are written once a minute and a few at a time. A drill is
written at once, in a table of its own to which every process appends: beside a running daemon a command in the foreground
writes its drill and nothing else, and whoever reads folds in the drills that others wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from pathlib import Path
from threading import Lock as Mutex
from types import MappingProxyType
from typing import Self

import apsw

from sidecar.adapters.ledger import codec
from sidecar.adapters.ledger.behind import FOLDED, Stored, WriteBehind
from sidecar.adapters.ledger.file import (
    DrillRow,
    EvidenceFile,
    NewDrill,
    new_drill,
    open_or_move_aside,
    sentence_of,
)
from sidecar.adapters.ledger.folder import Lock, own_token, prepare, still_runs
from sidecar.adapters.ledger.folding import fold, last_heard, lost_drill
from sidecar.core.errors import EnvironmentProblem
from sidecar.core.evidence import Evidence
from sidecar.core.model import Database, Drill
from sidecar.core.ports import Clock

FORGET_AFTER, FORGET_MAX = timedelta(days=7), 500
NOTES_MAX = 20
PENDING_MAX = 1000  # drills that could not be written yet


class Ledger:
    """Evidence of all databases. Thread-safe; after `open` nothing here raises because of the disk: see `error`."""

    def __init__(self, file: EvidenceFile, lock: Lock, clock: Clock, *, exclusive: bool) -> None:
        self.notes: list[str] = []  # what was dropped or moved aside at the start, in sentences for the log
        self.error: str | None = None  # why the newest write failed; None once one succeeds
        self._file, self._lock, self._clock, self._mine = file, lock, clock, exclusive
        self._memory, self._disk = Mutex(), Mutex()  # the second is held during I/O, and taken first
        self._evidence: dict[str, Evidence] = {}
        self._view: Mapping[str, Evidence] | None = None
        self._behind = WriteBehind()
        self._folded: dict[str, int] = {}
        self._pending: list[tuple[NewDrill, Drill]] = []
        self._seen_seq = self._data_version = 0

    @classmethod
    def open(cls, state_dir: Path, *, clock: Clock, exclusive: bool) -> Self:
        """Open the evidence of a state directory; `exclusive` is the daemon's, and there is one.

        Raises EnvironmentProblem: the directory is not ours or not writable, another daemon holds it, a newer format.
        """
        prepare(state_dir)
        lock, path = Lock(state_dir), state_dir / "evidence.db"
        if exclusive:
            lock.take()
        else:
            lock.try_take()  # only whoever is alone may move a damaged file aside
        try:
            file, note = open_or_move_aside(path, alone=lock.held, now=clock.now())
            made = cls(file, lock, clock, exclusive=exclusive)
            made.notes += [note] if note else []
            made._begin()
        except BaseException:
            lock.release()
            raise
        if not exclusive:
            lock.release()
        return made

    def _begin(self) -> None:
        try:
            self._load()
            if self._mine:
                self._abort_lost_drills()
        except apsw.Error as error:
            self._file.close()
            raise EnvironmentProblem(
                f"{self._file.path} cannot be read: {error}",
                "check the disk of the state directory, or move the file away",
            ) from error

    def close(self) -> None:
        """Write everything, close the file, let go of the lock."""
        self.flush(everything=True)
        with self._disk:
            self._file.close()
            self._lock.release()

    def snapshot(self) -> Mapping[str, Evidence]:
        """Path to evidence, as of now; it does not change afterwards."""
        with self._memory:
            if self._view is None:
                self._view = MappingProxyType(dict(self._evidence))
            return self._view

    def record(self, path: str, change: Callable[[Evidence], Evidence], *, durable: bool = False) -> Evidence:
        """Change the evidence of one database; a database never seen begins with `first_seen_at` now."""
        with self._memory:
            grown = self._change(path, change)
        if durable:
            self.flush()
        return grown

    def begin_drill(self, database: Database, drill_id: str) -> None:
        """Note on disk that this process drills, so that its death shows as an aborted drill after the next start."""
        started = codec.text_of_time(self._clock.now())
        with self._disk:
            self._try(lambda: self._file.begin_drill(drill_id, database.path, database.name, started, own_token()))

    def add_drill(self, database: Database, drill: Drill, *, max_shrink: float = 0.5) -> Evidence:
        """A finished drill: into memory, and to disk at once."""
        self.refresh()
        with self._memory:
            grown = self._change(database.path, lambda evidence: fold(evidence, drill, max_shrink, self._clock.now()))
            self._pending.append((new_drill(database.path, database.name, drill, max_shrink), drill))
            del self._pending[:-PENDING_MAX]
        self.flush()
        return grown

    def refresh(self) -> None:
        """Fold in the drills that other processes wrote since; a look at the file's change counter when there are none."""
        with self._disk:
            self._try(self._catch_up, writes=False)

    def flush(self, *, everything: bool = False) -> None:
        """Write what is due, in one transaction; `everything` also writes what is due only once a minute."""
        with self._disk:
            if not self._pending and not self._behind.dirty:
                return
            self._try(lambda: self._write(everything=everything))

    def history(self, path: str | None, limit: int) -> list[tuple[str, Drill]]:
        """(name, drill) of one database or of all, newest first."""
        with self._memory:
            unwritten = [(new.name, drill) for new, drill in self._pending if path in {None, new.path}]
        rows: list[DrillRow] = []
        with self._disk:
            self._try(lambda: rows.extend(self._file.history(path, limit)), writes=False)
        found = [(row.name, drill) for row in rows if (drill := self._drill_of(row)) is not None]
        known = {drill.id for _, drill in found}
        newest = [each for each in reversed(unwritten) if each[1].id not in known]
        return (newest + found)[:limit]

    def drill(self, drill_id: str) -> tuple[str, Drill] | None:
        """(name, drill) of that id."""
        with self._memory:
            unwritten = next(((new.name, drill) for new, drill in self._pending if drill.id == drill_id), None)
        rows: list[DrillRow | None] = []
        with self._disk:
            self._try(lambda: rows.append(self._file.drill(drill_id)), writes=False)
        row = rows[0] if rows else None
        drill = self._drill_of(row) if row is not None else None
        return (row.name, drill) if row is not None and drill is not None else unwritten

    def forget(self, keep: Collection[str], *, older_than: timedelta = FORGET_AFTER) -> int:
        """Drop databases outside `keep` that nothing was learnt of for `older_than`; how many (at most `FORGET_MAX`)."""
        now = self._clock.now()
        with self._disk:
            with self._memory:
                gone = [
                    path
                    for path, evidence in self._evidence.items()
                    if path not in keep and now - last_heard(evidence) > older_than
                ][:FORGET_MAX]
                for path in gone:
                    del self._evidence[path]
                    self._folded.pop(path, None)
                    self._behind.forget(path)
                self._view = None if gone else self._view
            if gone and self._mine:

                def erase() -> None:
                    with self._file.transaction():
                        self._file.forget(gone)

                self._try(erase)
        return len(gone)

    # What follows runs with `_disk` held, `_change` with `_memory` held.

    def _try(self, work: Callable[[], object], *, writes: bool = True) -> None:
        try:
            work()
        except (apsw.Error, OSError, EnvironmentProblem) as error:
            self.error = sentence_of(self._file.path, error)
        else:
            self.error = None if writes else self.error

    def _change(self, path: str, change: Callable[[Evidence], Evidence]) -> Evidence:
        before = self._evidence.get(path)
        grown = change(before if before is not None else Evidence(first_seen_at=self._clock.now()))
        if grown is not before:
            self._evidence[path] = grown
            self._behind.touch(path)
            self._view = None
        return grown

    def _catch_up(self) -> None:
        version = self._file.data_version()
        if version == self._data_version:
            return
        self._fold_in(self._file.drills_after(self._seen_seq))
        self._data_version = version

    def _fold_in(self, rows: list[DrillRow]) -> None:
        """Drills of other processes into memory. Their rows are committed, so nothing here has to be undone."""
        now = self._clock.now()
        for row in rows:
            drill = self._drill_of(row)
            with self._memory:
                ours = drill is not None and any(drill.id == pending.id for _, pending in self._pending)
                if drill is not None and not ours:
                    found, shrink = drill, row.max_shrink
                    self._change(row.path, lambda known, it=found, shrink=shrink: fold(known, it, shrink, now))  # type: ignore[misc] # bound now
                self._folded[row.path] = self._seen_seq = row.seq

    def _write(self, *, everything: bool) -> None:
        alone = self._mine or self._lock.try_take()
        try:
            self._write_all(alone=alone, everything=everything)
        finally:
            if alone and not self._mine:
                self._lock.release()

    def _write_all(self, *, alone: bool, everything: bool) -> None:
        stored: Stored = {}
        with self._file.transaction():
            self._fold_in(self._file.drills_after(self._seen_seq))
            with self._memory:
                pending = list(self._pending)
                dirty = {path: self._evidence[path] for path in self._behind.dirty}
            last_seq = self._seen_seq
            for new, _ in pending:
                self._folded[new.path] = last_seq = self._file.add_drill(new)
            if alone:
                rows, stored = self._behind.due(dirty, self._folded, self._clock.monotonic(), everything=everything)
                self._file.write_facts(rows)
        with self._memory:
            done = {id(each) for each in pending}
            self._pending = [each for each in self._pending if id(each) not in done]
            self._seen_seq = last_seq
            self._behind.committed(stored, self._evidence)

    def _load(self) -> None:
        with self._disk:
            with self._file.transaction():
                facts: dict[str, dict[str, str]] = {}
                for path, fact, document in self._file.facts():
                    facts.setdefault(path, {})[fact] = document
                missed, self._seen_seq = self._file.unfolded(FOLDED), self._file.last_seq()
            self._data_version = self._file.data_version()
            for path, texts in facts.items():
                self._evidence[path] = codec.evidence_of_texts(path, texts, self._clock.now(), self._note)
                self._behind.loaded(path, self._evidence[path])
                self._folded[path] = int(texts[FOLDED]) if texts.get(FOLDED, "").isdigit() else 0
            newest = self._seen_seq
            self._fold_in(missed)
            self._seen_seq = newest

    def _drill_of(self, row: DrillRow) -> Drill | None:
        try:
            return codec.drill_of_text(row.document)
        except codec.UnstructurableError as error:
            self._note(f"{row.path}: a stored drill cannot be read ({error}) and is left out")
            return None

    def _note(self, sentence: str) -> None:
        if len(self.notes) < NOTES_MAX and sentence not in self.notes:
            self.notes.append(sentence)

    def _abort_lost_drills(self) -> None:
        """Drills that were under way when their process died: they proved nothing, and that is said."""
        now = self._clock.now()
        for drill_id, path, name, started_at, owner in self._file.running():
            if still_runs(owner):
                continue
            drill = lost_drill(drill_id, started_at, now)
            with self._memory:
                self._change(path, lambda evidence, drill=drill: fold(evidence, drill, 1.0, now))  # type: ignore[misc] # bound now
                self._pending.append((new_drill(path, name, drill, 1.0), drill))
        self.flush()
