"""`gate`: may we deploy? With a command behind `--`: gate, run it, postcheck, and keep its exit code."""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sidecar import __version__
from sidecar.adapters.clock import SystemClock
from sidecar.adapters.foreground import find_program, run_foreground
from sidecar.adapters.receipts import read_key, write_receipt
from sidecar.assembly_road import Way, road_to
from sidecar.assembly_tools import read_settings
from sidecar.commands.postcheck import AfterDeploy, Expecting, way_back
from sidecar.commands.progress import shown
from sidecar.commands.render import Echo, fleet_table, whole
from sidecar.commands.rollback import plan_text
from sidecar.commands.stopping import stopping
from sidecar.core.decision import Decision, Word, sentence_of
from sidecar.core.errors import ReceiptError, SidecarError
from sidecar.core.ports import Road
from sidecar.core.receipt import Receipt
from sidecar.core.verdict import Document, rfc3339
from sidecar.deploy.gate import Answer, Issue, Patience, Question, ask, decision_of, receipt_for
from sidecar.logs import set_up
from sidecar.options import Options

RECEIPT_VARIABLE = "LITESTREAM_SIDECAR_RECEIPT"
SIGNAL_BASE = 128  # a shell says 128 + N of a command that signal N ended
CODES = {Word.PASSED: 0, Word.OVERRIDDEN: 0, Word.REFUSED: 1, Word.UNKNOWN: 3}
HEADLINES = {
    Word.PASSED: "PASSED",
    Word.OVERRIDDEN: "OVERRIDDEN",
    Word.REFUSED: "REFUSED",
    Word.UNKNOWN: "COULD NOT TELL",
}

log = logging.getLogger("sidecar.deploy.gate")


class Unknown(SidecarError):
    """A name that no database has, or no reason where one is asked for: a usage error."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was said on the command line."""

    dbs: Sequence[str]
    command: Sequence[str] | None
    timeout: timedelta
    fresh: bool
    max_age: timedelta | None
    receipt: Path | None
    valid_for: timedelta
    keep: Path | None
    keep_count: int | None
    keep_max: int | None
    override: str | None
    key_file: Path | None
    url: str | None
    token_file: Path | None
    expect: str | None
    expect_version: str | None
    allow_shrink: Sequence[str]
    as_json: bool

    @property
    def way(self) -> Way:
        """Which road."""
        return Way(
            url=self.url, token_file=self.token_file, keep=self.keep, keep_count=self.keep_count, keep_max=self.keep_max
        )

    @property
    def expecting(self) -> Expecting:
        """What the deploy is meant to do."""
        return Expecting(self.expect, self.expect_version, self.allow_shrink)


def gate(options: Options, wishes: Wishes, *, echo: Echo) -> int:
    """Put the question, write the receipt, run the command if there is one; the exit code of the contract, or the command's."""
    set_up(options.log_format, options.log_level)
    key = read_key(wishes.key_file)
    if wishes.override is not None and not wishes.override.strip():
        raise Unknown("--override needs a reason: it stands in the receipt and the history", "say why, and who you are")
    if wishes.command is not None:
        find_program(wishes.command[0], os.environ)
    clock = SystemClock()
    receipt_id = f"{clock.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    file = wishes.receipt or read_settings(options).state_dir / "receipts" / f"{receipt_id}.json"
    if os.path.lexists(file):
        if str(wishes.receipt) == os.environ.get(RECEIPT_VARIABLE):
            raise Unknown(
                f"this runs inside another gate, whose receipt {RECEIPT_VARIABLE} names",
                "leave the inner gate out: the outer one has asked already",
            )
        raise ReceiptError(f"{file} exists already", "name another file with --receipt, or move it away")
    with stopping() as stop, road_to(options, wishes.way) as road, shown("gate") as progress:
        question = Question(
            names=chosen(road.databases(), wishes.dbs), receipt_id=receipt_id, timeout=wishes.timeout,
            max_age=wishes.max_age, override=wishes.override,
        )  # fmt: skip
        here = options if wishes.url is None else None
        deploy = _Deploy(wishes, road, Patience(road, clock, stop, progress), clock, key, file, stop, here)
        answer, receipt = deploy.decide(question)
        document = _document(answer, receipt, file, clock.now())
        progress.rest()
        if receipt is None or wishes.command is None:
            echo(
                json.dumps(document, indent=2, ensure_ascii=False)
                if wishes.as_json
                else _text(answer, receipt, file, document)
            )
            return CODES[answer.word]
        if not wishes.as_json:
            echo(_text(answer, receipt, file, document))
        code, after = deploy.run(receipt)
        progress.rest()
        if wishes.as_json:
            echo(json.dumps(document | after.document, indent=2, ensure_ascii=False))
        else:
            echo("\n" + after.text)
            if after.exit_code != 0 and wishes.url is None:  # elsewhere the artifact is not in reach
                echo("\n" + plan_text(receipt, file, options, key_file=wishes.key_file, stop=threading.Event()))
        return code


def chosen(databases: Mapping[str, str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The names of these databases, given by name or path; all where none is given. Raises Unknown."""
    if not databases:
        raise Unknown("litestream.yml names no database that exists", "check `dbs:`, `dir:` and `pattern:` in it")
    by_path = {path: name for name, path in databases.items()}
    names = []
    for each in wanted:
        name = each if each in databases else by_path.get(str(Path(each).absolute()))
        if name is None:
            raise Unknown(f"there is no database {each}", f"one of: {', '.join(sorted(databases)[:10])}")
        names.append(name)
    return tuple(dict.fromkeys(names)) or tuple(sorted(databases))


@dataclass(frozen=True, slots=True)
class _Deploy:
    """One deploy: the decision, and what comes after it."""

    wishes: Wishes
    road: Road
    patience: Patience
    clock: SystemClock
    key: bytes | None
    file: Path
    stop: threading.Event
    options: Options | None  # None: the daemon of another machine does the work

    def decide(self, question: Question) -> tuple[Answer, Receipt | None]:
        """The answer, recorded; and its receipt, written, where it passed. What is kept for no receipt is given up."""
        receipt: Receipt | None = None
        try:
            answer = ask(question, self.patience)
            if answer.passed:
                issue = Issue(
                    id=question.receipt_id, sidecar=__version__, valid_for=self.wishes.valid_for,
                    override=question.override, command=way_back(self.file, self.wishes.key_file, self.options, execute=True),
                )  # fmt: skip
                made = receipt_for(answer, issue, self.clock.now())
                write_receipt(made, self.file, self.key)
                receipt = made
            self._record(decision_of(answer, question, self.clock.now()))
        except BaseException:  # nothing half done: no receipt without its decision, no artifact without its receipt
            if receipt is not None:
                self.file.unlink(missing_ok=True)
            with suppress(SidecarError):
                self._record(decision_of(_cut_short(), question, self.clock.now()))
            raise
        return answer, receipt

    def _record(self, decision: Decision) -> None:
        if decision.override:
            log.warning("%s", sentence_of(decision))
        self.road.decided(decision)

    def run(self, receipt: Receipt) -> tuple[int, AfterDeploy]:
        """The command, then the postcheck; the command's exit code where it failed, else the postcheck's."""
        command = self.wishes.command or ()
        after = AfterDeploy(
            receipt,
            self.file,
            self.wishes.key_file,
            self.wishes.expecting,
            self.road,
            self.patience,
            self.clock,
            self.options,
        )
        with after.taken():
            code = run_foreground(
                command, env={**os.environ, RECEIPT_VARIABLE: str(self.file)}, timeout_s=None, stop=self.stop,
                quiet_stdout=self.wishes.as_json, kill_leftovers=False,
            )  # fmt: skip
            if code != 0:
                code = SIGNAL_BASE - code if code < 0 else code
                after.failed(command[0], code)
                return code, after
            after.check(self.wishes.timeout)
            return after.exit_code, after


def _cut_short() -> Answer:
    return Answer(word=Word.UNKNOWN, reason="the gate did not come to an answer", proofs=())


def _document(answer: Answer, receipt: Receipt | None, file: Path, now: datetime) -> Document:
    """The shape of /ready, and the receipt's path."""
    return {
        "ready": answer.word is Word.PASSED,
        "retryable": answer.word in {Word.REFUSED, Word.UNKNOWN}
        and all(each.ready or each.retryable for each in answer.proofs),
        "reason": answer.reason,
        "checked_at": rfc3339(now),
        "version": __version__,
        "databases": [each.database for each in answer.proofs],
        "decision": answer.word.value,
        "receipt": str(file) if receipt is not None else None,
        "receipt_id": receipt.id if receipt is not None else None,
        "expires_at": rfc3339(receipt.expires_at) if receipt is not None else None,
    }


def _text(answer: Answer, receipt: Receipt | None, file: Path, document: Document) -> str:
    table = fleet_table(document, HEADLINES[answer.word])
    if receipt is None:
        return table
    until = f"good until {receipt.expires_at:%Y-%m-%d %H:%M} UTC"
    lines = [table, "", *whole("receipt", str(file), until)]
    for each in receipt.databases:
        lines += whole(f"way back of {each.name}", each.rollback.artifact or "no artifact could be kept")
    return "\n".join(lines)
