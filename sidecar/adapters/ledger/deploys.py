"""`deploys.db`: what deploy commands decided, and which receipts were used. Shared by a daemon and commands in the foreground.

A file of its own beside `evidence.db`: it is written a few times a day, by whoever decides, and nobody keeps it open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from sidecar.adapters.ledger.folder import new_file, own_token, prepare, still_runs
from sidecar.core.decision import Decision, Kind, Word, decision_document
from sidecar.core.errors import EnvironmentProblem, ReceiptError

VERSION = 1
BUSY_MS = 5000
DECISIONS_KEPT_MAX = 5000
USED, IN_USE = "used", "in use"
_SCHEMA = f"""
create table if not exists decisions (seq integer primary key autoincrement, document text not null);
create table if not exists counts (decision text primary key, count integer not null) without rowid;
create table if not exists receipts (id text primary key, state text not null, owner text not null) without rowid;
pragma user_version = {VERSION};
"""


class Deploys:
    """Satisfies `ports.DeployBook`; safe to share between threads and processes. Raises EnvironmentProblem."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "deploys.db"
        self._sign: tuple[int, int, int] | None = None  # of the file, as `counts` was read
        self.counts: Mapping[str, int] = {}  # by decision, as of the last `refresh`; a scrape reads this and no disk

    def take(self, receipt_id: str) -> None:
        """Use this receipt, for one postcheck. Raises ReceiptError: it was used, or somebody is using it now."""
        with self._open() as db:
            row = db.execute("select state, owner from receipts where id = ?", (receipt_id,)).fetchone()
            if row is not None and row[0] == USED:
                raise ReceiptError(
                    f"the receipt {receipt_id} was used already", "gate again: a receipt is for one deploy"
                )
            if row is not None and still_runs(row[1]):
                raise ReceiptError(
                    f"the receipt {receipt_id} is in use by another postcheck",
                    "wait until it has ended; where it was killed and a daemon did its work, restart the daemon",
                )
            db.execute("insert or replace into receipts values (?, ?, ?)", (receipt_id, IN_USE, own_token()))

    def write(self, decision: Decision) -> None:
        """Add a decision and count it. A postcheck that could not tell leaves its receipt for another try."""
        with self._open() as db:
            db.execute("insert into decisions (document) values (?)", (json.dumps(decision_document(decision)),))
            db.execute("delete from decisions where seq <= last_insert_rowid() - ?", (DECISIONS_KEPT_MAX,))
            if decision.kind is Kind.GATE:
                db.execute(
                    "insert into counts values (?, 1) on conflict do update set count = count + 1",
                    (decision.word.value,),
                )
            if decision.kind is Kind.POSTCHECK and decision.word is Word.UNKNOWN:
                db.execute("delete from receipts where id = ?", (decision.receipt_id,))
            elif decision.kind is Kind.POSTCHECK:
                db.execute("insert or replace into receipts values (?, ?, '')", (decision.receipt_id, USED))
        self.refresh()

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Decisions as documents, newest first."""
        if not self.path.exists():
            return []
        with self._open() as db:
            rows = db.execute("select document from decisions order by seq desc limit ?", (limit,)).fetchall()
        return [json.loads(str(document)) for (document,) in rows]

    def refresh(self) -> None:
        """Read the counts anew, where the file has changed since."""
        try:
            status = self.path.stat()
        except OSError:
            return
        if (sign := (status.st_ino, status.st_mtime_ns, status.st_size)) != self._sign:
            with self._open() as db:
                self._sign = sign
                self.counts = {
                    str(word): int(count) for word, count in db.execute("select decision, count from counts")
                }

    @contextmanager
    def _open(self) -> Iterator[apsw.Connection]:
        """One transaction on a connection of its own."""
        prepare(self.path.parent)
        new_file(self.path)
        try:
            db = apsw.Connection(str(self.path))
        except apsw.Error as error:
            raise self._unusable(error) from error
        try:
            db.set_busy_timeout(BUSY_MS)
            db.pragma("journal_mode", "delete")
            db.execute("begin immediate")
            if db.pragma("user_version") == 0:
                db.execute(_SCHEMA)
            yield db
            db.execute("commit")
        except apsw.Error as error:
            raise self._unusable(error) from error
        finally:
            db.close(True)  # rolls back what was not committed

    def _unusable(self, error: apsw.Error) -> EnvironmentProblem:
        return EnvironmentProblem(
            f"{self.path} cannot be used: {error}",
            "check the room, owner and mode of the state directory; a damaged file may be moved away, past decisions go with it",
        )
