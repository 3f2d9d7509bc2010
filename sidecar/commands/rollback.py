"""`rollback`: what a receipt's way back is worth today, as a plan; with `--execute` also the file part of it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from sidecar.adapters.hashing import copy_hashed, sha256_of
from sidecar.adapters.ledger import Deploys
from sidecar.adapters.placing import Placed, Spot
from sidecar.adapters.receipts import read_key, read_receipt
from sidecar.assembly_files import Configured, FileTools, beside, configured, file_tools
from sidecar.assembly_tools import read_settings
from sidecar.commands.progress import shown, unseen
from sidecar.commands.render import Echo
from sidecar.commands.stopping import stopping
from sidecar.core.case import room_for
from sidecar.core.decision import Decision, Kind, Word
from sidecar.core.errors import LitestreamError, ProvedBad, SidecarError
from sidecar.core.model import CheckKind, Database, Replica
from sidecar.core.people import tame
from sidecar.core.ports import Progress
from sidecar.core.receipt import Entry, Receipt
from sidecar.core.rollback import BESIDE, Artifact, Case, Plan, Probe, Standing, State, Surroundings, Way, position_of
from sidecar.core.rollback_steps import after_files
from sidecar.core.rollback_words import plan_document, step_document, step_lines
from sidecar.core.rollback_words import plan_text as text_of
from sidecar.logs import set_up
from sidecar.options import Options

CHECK_TIMEOUT_S = 24 * 3600.0  # a person watches, and may stop it


def rollback(
    options: Options, receipt_file: Path, key_file: Path | None, *, execute: bool, as_json: bool, echo: Echo
) -> int:
    """Print the plan, or carry out its file part and print what remains."""
    set_up(options.log_format, options.log_level)
    receipt = read_receipt(receipt_file, read_key(key_file))
    kit = file_tools()
    with stopping() as stop, shown("rollback") as progress:
        notes = [
            note for each in receipt.databases if execute and (note := kit.placing.recover(Path(each.path))) is not None
        ]
        plan = planned(kit, receipt, receipt_file, options, key_file=key_file, stop=stop, progress=progress)
        progress.rest()
        if not execute:
            echo(json.dumps(plan_document(plan), indent=2, ensure_ascii=False) if as_json else tame(text_of(plan)))
            return plan.exit_code
        placed = _executed(kit, plan, stop, progress)
    notes += _recorded(options, plan)
    if as_json:
        document = {
            "receipt": receipt.id,
            "databases": [
                {"name": case.entry.name, "path": str(each.path), "replaced": str(each.aside) if each.aside else None}
                for case, each in zip(plan.cases, placed, strict=True)
            ],
            "notes": notes,
            "steps": [step_document(each) for each in after_files(plan)],
        }
        echo(json.dumps(document, indent=2, ensure_ascii=False))
        return 0
    for note in notes:
        echo(tame(f"# note: {note}"))
    for case, each in zip(plan.cases, placed, strict=True):
        kept = f"; what it replaced is in {each.aside}" if each.aside is not None else ""
        echo(tame(f"# {case.entry.name}: {each.path} is the kept copy again, sha256 and quick_check ok{kept}"))
    echo(tame("\n".join(["# what remains to be done:", *step_lines(after_files(plan))])))
    return 0


def _recorded(options: Options, plan: Plan) -> list[str]:
    """Write it to the history, where there is a state directory; why it could not be written, which undoes nothing."""
    try:
        state = read_settings(options).state_dir
        if state.is_dir():
            names = tuple(case.entry.name for case in plan.cases)
            Deploys(state).write(
                Decision(
                    kind=Kind.ROLLBACK, word=Word.PASSED, at=plan.around.now, databases=names,
                    reason="the kept copies were put in place", receipt_id=plan.receipt.id,
                )
            )  # fmt: skip
    except SidecarError as error:
        return [f"it is not in the history: {error.message}"]
    return []


def plan_text(
    receipt: Receipt, receipt_file: Path, options: Options, *, key_file: Path | None = None, stop: Event
) -> str:
    """The plan as `rollback` prints it, for whoever has the receipt at hand. Raises Stopped."""
    return tame(text_of(planned(file_tools(), receipt, receipt_file, options, key_file=key_file, stop=stop)))


def planned(
    kit: FileTools,
    receipt: Receipt,
    receipt_file: Path,
    options: Options,
    *,
    key_file: Path | None,
    stop: Event,
    progress: Progress = unseen,
) -> Plan:
    """Find out what each database's way back is worth. Acts on nothing. Raises Stopped."""
    known, why = _configured(options)
    cases = tuple(_case(kit, each, known, why, stop, progress) for each in receipt.databases)
    given = {
        "--litestream-config": options.litestream_config,
        "--config": options.config,
        "--state-dir": options.state_dir,
    }
    around = Surroundings(
        receipt_file=str(receipt_file.absolute()),
        key_file=str(key_file.absolute()) if key_file is not None else None,
        litestream_config=str(options.litestream_config.absolute()),
        litestream=known.binary.version if known is not None else None,
        options=tuple(
            word for name, value in given.items() if value is not None for word in (name, str(value.absolute()))
        ),
        now=kit.clock.now(),
    )
    return Plan(receipt, cases, around)


def _configured(options: Options) -> tuple[Configured | None, str]:
    """Both configurations, or why they cannot be had: going back to a kept copy needs neither."""
    try:
        return configured(options), ""
    except SidecarError as error:
        return None, error.message


def _case(kit: FileTools, entry: Entry, known: Configured | None, why: str, stop: Event, progress: Progress) -> Case:
    database = known.fleet.databases.get(entry.path) if known is not None else None
    if known is not None and database is None:
        why = "litestream.yml does not name this database any more"
    probe = (
        _probe(known, database, entry, stop)
        if known is not None and database is not None
        else Probe(restorable=None, why=why)
    )
    return Case(
        entry=entry,
        artifact=_artifact(kit, entry, stop, progress),
        probe=probe,
        standing=_standing(kit, entry, database),
    )


def _probe(known: Configured, database: Database, entry: Entry, stop: Event) -> Probe:
    position = position_of(entry.rollback.position)
    if position is None:
        return Probe(restorable=False)
    try:
        known.replica.plan_at(database, position, timeout_s=known.fleet.command_timeout_s, stop=stop)
    except LitestreamError as error:
        return Probe(restorable=False if error.reason in {"no_backup", "file_missing"} else None, why=error.message)
    return Probe(restorable=True)


def _artifact(kit: FileTools, entry: Entry, stop: Event, progress: Progress) -> Artifact:
    rollback = entry.rollback
    if rollback.artifact is None or rollback.artifact_sha256 is None:
        return Artifact(state=State.NEVER)
    file, began = Path(rollback.artifact), kit.clock.monotonic()
    try:
        size = file.stat().st_size
        same = sha256_of(file, stop=stop, progress=progress) == rollback.artifact_sha256
    except FileNotFoundError:
        return Artifact(state=State.MISSING)
    except OSError as error:
        return Artifact(state=State.UNREADABLE, why=error.strerror or str(error))
    seconds = kit.clock.monotonic() - began
    return Artifact(state=State.SOUND if same else State.ALTERED, size_bytes=size, read_seconds=seconds)


def _standing(kit: FileTools, entry: Entry, database: Database | None) -> Standing:
    path = Path(os.path.realpath(entry.path))
    occupancy = kit.occupants.of(path)
    beside_it = tuple(suffix for suffix in BESIDE if os.path.lexists(f"{path}{suffix}"))
    # Litestream's folder is told by litestream.yml; without it only the file's own facts are read.
    live = kit.live.read(database or Database(entry.name, entry.path, "", Replica("", "")))
    try:
        found = path.stat()
    except OSError:
        return Standing(path=str(path), exists=False, beside=beside_it, occupancy=occupancy)
    return Standing(
        path=str(path), exists=True, beside=beside_it, uid=found.st_uid, gid=found.st_gid, mode=found.st_mode & 0o7777,
        position=str(live.capture.position) if live.capture is not None else None, last_commit=live.modified_at,
        occupancy=occupancy,
    )  # fmt: skip


# The file part


@dataclass(frozen=True, slots=True)
class _Ready:
    """A copy of an artifact beside its place, checked."""

    copy: Path
    spot: Spot
    entry: Entry


def _executed(kit: FileTools, plan: Plan, stop: Event, progress: Progress) -> list[Placed]:
    """Every database or none: all copies are made and checked before the first file is moved. Raises SidecarError."""
    _refuse(plan)
    with contextlib.ExitStack() as stack:
        ready = [stack.enter_context(_prepared(kit, case, stop, progress)) for case in plan.cases]
        done: list[Placed] = []
        try:
            for each in ready:
                done.append(_put(kit, each, stop, progress))  # noqa: PERF401 - what is done must be known when one fails
        except BaseException:
            for placed in reversed(done):
                kit.placing.take_back(placed)
            raise
        return done


def _refuse(plan: Plan) -> None:
    """Of all databases, before gigabytes are copied for the first; each is looked at again before it is touched."""
    for case in plan.cases:
        case.standing.occupancy.refuse(case.standing.path)
    for case in plan.cases:
        if case.way is not Way.ARTIFACT:
            kind = ProvedBad if case.way is Way.NONE else SidecarError
            hint = (
                "follow the printed plan (without --execute): it restores the position"
                if case.way is Way.POSITION
                else "look for the kept copy on other machines and in backups of this one"
            )
            raise kind(f"{case.entry.name}: there is no kept copy to put in place ({case.artifact.state.value})", hint)


@contextlib.contextmanager
def _prepared(kit: FileTools, case: Case, stop: Event, progress: Progress) -> Iterator[_Ready]:
    """Copy the artifact beside the database and check the copy. Raises SidecarError."""
    entry, artifact = case.entry, Path(case.entry.rollback.artifact or "")
    spot = kit.placing.look(Path(entry.path), force=True)
    with beside(spot.path) as space, space.room(room_for(case.artifact.size_bytes or 0)) as room:
        copy = room / "copy"
        try:
            digest = copy_hashed(artifact, copy, stop=stop, progress=progress)
        except OSError as error:
            raise SidecarError(f"{artifact} cannot be copied: {error.strerror}", "check the disk (`dmesg`)") from error
        if digest != entry.rollback.artifact_sha256:
            raise ProvedBad(
                f"{artifact} was altered: its sha256 is not the receipt's", "print the plan for other targets"
            )
        _check(kit, copy, f"the artifact {artifact}", stop, progress)
        yield _Ready(copy, spot, entry)


def _put(kit: FileTools, ready: _Ready, stop: Event, progress: Progress) -> Placed:
    def check(path: Path) -> None:
        if sha256_of(path, stop=stop, progress=progress) != ready.entry.rollback.artifact_sha256:
            raise ProvedBad(f"{path} is not what was put there: everything was put back", "check the disk (`dmesg`)")
        _check(kit, path, str(path), stop, progress)

    return kit.placing.put(ready.copy, ready.spot, keep=True, check=check)


def _check(kit: FileTools, file: Path, what: str, stop: Event, progress: Progress) -> None:
    complaints: Sequence[str] = kit.integrity.check(
        file, CheckKind.QUICK, timeout_s=CHECK_TIMEOUT_S, stop=stop, progress=progress
    )
    if complaints:
        raise ProvedBad(f"quick_check of {what}: {'; '.join(complaints[:3])}", "print the plan for other targets")
