"""`postcheck`: after the deploy, is production intact, as expected, and covered by the backup again? One exit code."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sidecar import __version__
from sidecar.adapters.clock import SystemClock
from sidecar.adapters.receipts import read_key, read_receipt
from sidecar.assembly_road import Way, road_to
from sidecar.commands.progress import shown
from sidecar.commands.render import Echo, drawn, fleet_table, whole
from sidecar.commands.render_change import change_lines
from sidecar.commands.stopping import stopping
from sidecar.core.decision import Decision, Word
from sidecar.core.errors import SidecarError, Stopped
from sidecar.core.expectation import Expect, Expectation
from sidecar.core.ports import Road
from sidecar.core.receipt import Receipt
from sidecar.core.verdict import Document, rfc3339
from sidecar.deploy.gate import Patience
from sidecar.deploy.postcheck import Checked, Held, check_change, cover_again, decide, decision_of, refuse_unfit
from sidecar.logs import set_up
from sidecar.options import Options

CODES = {Word.PASSED: 0, Word.REFUSED: 1, Word.UNKNOWN: 3}
HEADLINES = {Word.PASSED: "HELD", Word.REFUSED: "DID NOT HOLD", Word.UNKNOWN: "COULD NOT TELL"}


@dataclass(frozen=True, slots=True)
class Expecting:
    """What was said about the change on the command line."""

    expect: str | None
    version: str | None
    allow_shrink: Sequence[str]

    @property
    def expectation(self) -> Expectation:
        """The same, for the comparison."""
        expect = Expect(self.expect) if self.expect is not None else Expect.MOVES_WITH_SCHEMA
        return Expectation(expect=expect, version=self.version, allow_shrink=frozenset(self.allow_shrink))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was said on the command line."""

    receipt: Path
    timeout: timedelta
    key_file: Path | None
    url: str | None
    token_file: Path | None
    expect: str | None
    expect_version: str | None
    allow_shrink: Sequence[str]
    as_json: bool


def postcheck(options: Options, wishes: Wishes, *, echo: Echo) -> int:
    """Hold production against the receipt, wait for the backup to cover it again, print what was found."""
    set_up(options.log_format, options.log_level)
    receipt = read_receipt(wishes.receipt, read_key(wishes.key_file))
    clock = SystemClock()
    way = Way(url=wishes.url, token_file=wishes.token_file)
    with stopping() as stop, road_to(options, way) as road, shown("postcheck") as progress:
        refuse_unfit(receipt, str(wishes.receipt), road.databases(), clock.now())
        expecting = Expecting(wishes.expect, wishes.expect_version, wishes.allow_shrink)
        patience = Patience(road, clock, stop, progress)
        here = options if wishes.url is None else None
        after = AfterDeploy(receipt, wishes.receipt, wishes.key_file, expecting, road, patience, clock, here)
        with after.taken():
            after.check(wishes.timeout)
        progress.rest()
        echo(json.dumps(after.document, indent=2, ensure_ascii=False) if wishes.as_json else after.text)
        return after.exit_code


def way_back(receipt: Path, key_file: Path | None, options: Options | None, *, execute: bool) -> str:
    """The command that rolls back; `options` None: another machine's, where the daemon is."""
    words = ["litestream-sidecar", "rollback", "--receipt", str(receipt.absolute())]
    given = {"--key-file": key_file}
    if options is not None:
        given |= {
            "--litestream-config": options.litestream_config,
            "--config": options.config,
            "--state-dir": options.state_dir,
        }
    for name, file in given.items():
        words += [name, str(file.absolute())] if file is not None else []
    return shlex.join([*words, *(["--execute"] if execute else [])])


@dataclass(slots=True)
class AfterDeploy:
    """What is asked after a deploy, and what came of it; the receipt is used up by an answer, and by nothing less."""

    receipt: Receipt
    file: Path
    key_file: Path | None
    expecting: Expecting
    road: Road
    patience: Patience
    clock: SystemClock
    options: Options | None  # None: the daemon of another machine does the work
    held: Held | None = None
    command: Document = field(default_factory=dict)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The receipt is in use for as long as the block lasts. Raises ReceiptError where it was used."""
        self.road.take(self.receipt.id)
        try:
            yield
        finally:
            if self.held is None:  # no answer: let somebody ask again
                nothing = Held(word=Word.UNKNOWN, reason="the postcheck did not come to an answer", checked=())
                with suppress(SidecarError):
                    self.road.decided(self._decision(nothing))

    def check(self, timeout: timedelta) -> None:
        """Production first; where it is as it should be, its backup. Raises `Stopped`."""
        expectation, wanted = self.expecting.expectation, len(self.receipt.databases)
        checked = check_change(self.receipt, expectation, self.patience, timeout)
        if not any(each.blocking for each in checked):
            checked = cover_again(checked, expectation, self.patience, timeout)
        self._conclude(decide(checked, wanted))

    def failed(self, program: str, code: int) -> None:
        """The deploy's own command failed: that is the answer; what it changed all the same is shown beside it."""
        self.command = {"exit_code": code}
        checked: tuple[Checked, ...] = ()
        with suppress(SidecarError, Stopped):
            checked = check_change(self.receipt, self.expecting.expectation, self.patience, timedelta(minutes=1))
        self._conclude(Held(word=Word.REFUSED, reason=f"{program} failed with exit code {code}", checked=checked))

    def _conclude(self, held: Held) -> None:
        self.held = held
        self.road.decided(self._decision(held))

    def _decision(self, held: Held) -> Decision:
        return decision_of(held, self.receipt, self.clock.now())

    @property
    def exit_code(self) -> int:
        """By what was decided."""
        return CODES[self.held.word] if self.held is not None else CODES[Word.UNKNOWN]

    @property
    def document(self) -> Document:
        """The shape of /ready, with what changed."""
        held = self.held
        assert held is not None, "asked before there was an answer"
        return {
            "ready": held.word is Word.PASSED,
            "retryable": held.word is Word.UNKNOWN,
            "reason": held.reason,
            "checked_at": rfc3339(self.clock.now()),
            "version": __version__,
            "databases": [each.document for each in held.checked],
            "decision": held.word.value,
            "receipt": str(self.file),
            "receipt_id": self.receipt.id,
            "rollback": way_back(self.file, self.key_file, self.options, execute=False)
            if held.word is not Word.PASSED
            else None,
        }

    @property
    def text(self) -> str:
        """The answer for people: the verdict, what stands in the way, what changed, the way back."""
        held = self.held
        assert held is not None, "asked before there was an answer"
        lines = [fleet_table(self.document, HEADLINES[held.word])]
        for each in held.checked:
            changes = change_lines(each.entry.name, each.change)
            lines += ["", *map(drawn, changes)] if changes else []
        if held.word is not Word.PASSED:
            lines += ["", *whole("way back", way_back(self.file, self.key_file, self.options, execute=False))]
        return "\n".join(lines)
