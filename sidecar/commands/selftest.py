"""`selftest`: break backups of the real Litestream in every way, and show each check turning red, and green again once it is mended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.adapters.clock import SystemClock
from sidecar.commands.place import folder_of, litestream_for
from sidecar.commands.render import Echo, drawn
from sidecar.commands.selftest_faults import FAULTS, Fault
from sidecar.commands.selftest_patient import Patient
from sidecar.commands.selftest_stage import Stage, staged
from sidecar.commands.stopping import stopping
from sidecar.commands.verify import Unknown
from sidecar.core.errors import SidecarError, Stopped
from sidecar.core.finding import Finding
from sidecar.core.verdict import Verdict

POLL_S = 0.2
STILL_S = 3.0  # no file came for so long: the replicas have everything, and what is put aside is whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited, in seconds; several times what the policy of the selftest implies, for machines that are busy."""

    healthy_s: float = 90.0  # until everything has been replicated, restored and compared for the first time
    red_s: float = 60.0
    green_s: float = 60.0
    harmless_s: float = 20.0  # two drills


class _NotHealthy(SidecarError):
    """Nothing could be broken, since nothing was whole."""

    exit_code = 3


@dataclass(slots=True)
class Trial:
    """One fault, from whole to broken, found out, mended and whole again. Seconds are None where it did not come to that."""

    fault: Fault
    patient: Patient
    began_s: float = 0.0
    red: Finding | None = None
    red_s: float | None = None
    green_s: float | None = None
    litestream: str = ""
    ended: bool = False
    waited_for: str = ""  # what kept it from being green again

    @property
    def passed(self) -> bool:
        """Caught and green again; or never red, where nothing is wrong."""
        if self.fault.harmless:
            return self.ended and self.red is None
        return self.red is not None and self.green_s is not None

    @property
    def document(self) -> dict[str, Any]:
        """As `--json` shows it."""
        red = self.red
        return {
            "fault": self.fault.name, "what": self.fault.what, "expected": [str(each) for each in self.fault.reds],
            "passed": self.passed, "litestream": self.litestream,
            "check": red.name if red else None, "reason": str(red.reason) if red and red.reason else None,
            "message": red.message if red else None, "hint": red.hint if red else None,
            "red_seconds": self.red_s, "green_seconds": self.green_s, "waited_for": self.waited_for or None,
        }  # fmt: skip


def listed(names: Sequence[str], *, echo: Echo) -> int:
    """The faults, and what has to turn red."""
    rows = ((each.name, each.what, ", ".join(each.reds) or "nothing", each.how) for each in chosen(names))
    echo(_table(("fault", "what is done", "what has to turn red", "mended"), rows))
    return 0


def selftest(names: Sequence[str], folder: Path | None, *, as_json: bool, echo: Echo) -> int:
    """Run the named faults (none: all) at once, each in a database of its own; 0 when each was caught and is green again, 1 when not."""
    faults = chosen(names)
    binary = litestream_for("selftest")
    with stopping() as stop, folder_of(folder) as home, staged(home, binary, faults, stop) as stage:
        if not as_json:
            echo(
                f"{len(faults)} faults, each in a database of its own, the real Litestream, and the daemon, in {home}; about a minute"
            )
        trials = tried(stage, faults)
    document = {"passed": all(each.passed for each in trials), "faults": [each.document for each in trials]}
    echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else report(trials))
    return 0 if document["passed"] else 1


def tried(stage: Stage, faults: Sequence[Fault], patience: Patience | None = None) -> list[Trial]:
    """Make each fault on a stage that becomes healthy first, and see what comes of it. Raises SidecarError, Stopped."""
    trials = [Trial(each, stage.patient(each)) for each in faults]
    gallery = _Gallery(stage, trials, SystemClock(), patience or Patience())
    gallery.until_healthy()
    gallery.run()
    return trials


def chosen(names: Sequence[str]) -> list[Fault]:
    """The faults of these names, in the gallery's order. Raises Unknown for a name that none has."""
    known = {each.name: each for each in FAULTS}
    for name in names:
        if name not in known:
            raise Unknown(f"there is no fault {name}", f"one of: {', '.join(known)}")
    return [each for each in FAULTS if not names or each.name in names]


@dataclass(frozen=True, slots=True)
class _Gallery:
    """Asks the daemon again and again, and takes each trial one step further when its turn has come."""

    stage: Stage
    trials: Sequence[Trial]
    clock: SystemClock
    patience: Patience

    def until_healthy(self) -> None:
        """Wait until every database can be restored and its replica is at rest. Raises SidecarError where that does not come."""
        ends_s = self.clock.monotonic() + self.patience.healthy_s
        still_since_s, files = self.clock.monotonic(), self._files()
        while self.clock.monotonic() < still_since_s + STILL_S or any(
            not each.ready for each in self._verdicts().values()
        ):
            if self._files() != files:
                still_since_s, files = self.clock.monotonic(), self._files()
            if self.clock.monotonic() > ends_s:
                reason = self.stage.house.answers.verdict().reason
                raise _NotHealthy(
                    f"the selftest's databases are not ready: {reason}", "run it on a machine that is less busy"
                )
            self._rest()
        for each in self.trials:
            each.patient.keep()

    def _files(self) -> set[Path]:
        return {file for each in self.trials for file in each.patient.files()}

    def run(self) -> None:
        """Break everything, and wait until each is found out, mended and whole again, or its time is over."""
        self._try([each for each in self.trials if not each.fault.alone])
        for each in self.trials:
            if each.fault.alone:
                self._try([each])

    def _try(self, trials: Sequence[Trial]) -> None:
        whole = list(trials)
        while not all(each.ended for each in trials):
            if whole:
                trial = whole.pop(0)
                trial.began_s = self.clock.monotonic()
                trial.fault.break_it(trial.patient)
            for each in trials:
                if each not in whole and not each.ended:
                    self._step(each, self._verdicts()[each.fault.name])
            self._rest()

    def _step(self, trial: Trial, verdict: Verdict) -> None:
        now_s = self.clock.monotonic()
        since_s = round(now_s - trial.began_s, 1)
        if trial.red_s is not None:  # mended, and since then
            if verdict.ready:
                trial.green_s, trial.ended = since_s, True
            elif since_s > self.patience.green_s:
                trial.waited_for, trial.ended = verdict.judged.blocking[0].message, True
            return
        found = _red(trial.fault, verdict)
        if found is None and since_s < (self.patience.harmless_s if trial.fault.harmless else self.patience.red_s):
            return
        trial.litestream = self.stage.restore(trial.fault)
        trial.red = found
        if found is None or trial.fault.harmless:
            trial.ended = True
            return
        trial.red_s = since_s
        trial.fault.mend_it(trial.patient)
        trial.began_s = self.clock.monotonic()

    def _verdicts(self) -> Mapping[str, Verdict]:
        return {each.database.name: each for each in self.stage.house.answers.verdict().verdicts}

    def _rest(self) -> None:
        words = self.stage.litestream.last_words()
        if words is not None:
            raise SidecarError(
                f"the selftest's Litestream {words}", "run it again with --dir FOLDER, which keeps the logs"
            )
        if self.stage.stop.wait(POLL_S):
            raise Stopped("told to stop")


def _red(fault: Fault, verdict: Verdict) -> Finding | None:
    """What has turned red, the reason that is expected first; of what is harmless anything that is red."""
    blocking = verdict.judged.blocking
    if fault.harmless:
        return blocking[0] if blocking else None
    ranked = [(fault.reds.index(each.reason), each) for each in blocking if each.reason in fault.reds]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def report(trials: Sequence[Trial]) -> str:
    """The table, and how many were caught."""
    rows = (
        (
            each.fault.name, each.fault.what, each.litestream, _said(each), _seconds(each.red_s), _seconds(each.green_s),
            "ok" if each.passed else f"NOT OK {each.waited_for}".rstrip(),
        )
        for each in trials
    )  # fmt: skip
    table = _table(
        ("fault", "what is done", "litestream restore", "litestream-sidecar", "red", "green again", ""), rows
    )
    count, wrong = len(trials), sum(not each.passed for each in trials)
    head = f"FAILED  {wrong} of {count} are not" if wrong else f"PASSED  {count} of {count} are"
    return f"{head} as they have to be\n\n{table}"


def _said(trial: Trial) -> str:
    red = trial.red
    if red is None:
        return "ready, all the while" if trial.fault.harmless else "nothing"
    return f"{red.name} {red.reason}: {red.message}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    from rich import box  # noqa: PLC0415 - only where a person looks
    from rich.table import Table  # noqa: PLC0415

    table = Table(*head, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return drawn(table)
