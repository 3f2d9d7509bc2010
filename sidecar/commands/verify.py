"""`verify`: look and drill now, in the foreground; the same tools as the daemon's, and the same history."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sidecar import __version__
from sidecar.answers import Answers
from sidecar.assembly_tools import Tools, load_fleet, tools
from sidecar.commands.progress import shown
from sidecar.commands.render import Echo, exit_code, fleet_table
from sidecar.commands.stopping import stopping
from sidecar.core.case import Scratch
from sidecar.core.checks import Judged
from sidecar.core.checks_content import of_this_drill
from sidecar.core.checks_parity import of_this_comparison
from sidecar.core.errors import EnvironmentProblem, SidecarError, Stopped
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Finding, Status
from sidecar.core.model import CheckKind, Database, Drill, LookResult, Outcome
from sidecar.core.verdict import FleetVerdict, Verdict
from sidecar.desk import DrillDesk
from sidecar.drill import new_id
from sidecar.drill_attempt import Order
from sidecar.fleet import Fleet, FleetKeeper
from sidecar.logs import set_up
from sidecar.options import Options

# What a backup has to prove. Whether Litestream runs and production is sound are a daemon's questions.
PROOF = frozenset({"replica", "lag", "chain", "drill", "parity", "identity", "schema"})
BESIDE_PRODUCTION = frozenset(
    {"lag", "parity", "identity", "schema"}
)  # without production they can refuse, and not confirm
HEADLINES = {0: "PROVED", 1: "DISPROVED", 3: "COULD NOT TELL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How to drill, as the command line says."""

    full: bool = False
    keep: Path | None = None
    accept_shrink: bool = False
    as_json: bool = False


def verify(options: Options, names: Sequence[str], wishes: Wishes, *, echo: Echo) -> int:
    """Drill the named databases (none: all), print what was found; the exit code of the worst one."""
    if wishes.accept_shrink and not names:
        raise Unknown("--accept-shrink needs the name of a database", "name those whose loss was meant, one by one")
    set_up(options.log_format, options.log_level)
    with tools(options, exclusive=False) as kit, stopping() as stop:
        keeper = FleetKeeper(load_fleet(options, kit.binary.generation), kit.clock)
        databases = wanted(keeper.fleet, names)
        _make_room(wishes.keep, databases)
        drills = {each.path: _prove(kit, keeper.fleet, each, wishes, stop) for each in databases}
        room = Scratch(kit.clock.now(), kit.scratch.free_bytes())
        answers = Answers(keeper, kit.ledger, kit.clock, DrillDesk(new_id), lambda: room, __version__)
        found = answers.verdict(databases)
        document = answers.ready(proof(found, drills))
    code = exit_code(document)
    echo(
        json.dumps(document, indent=2, ensure_ascii=False) if wishes.as_json else fleet_table(document, HEADLINES[code])
    )
    return code


class Unknown(SidecarError):
    """A name that nothing has: a usage error."""

    exit_code = 2


def wanted(fleet: Fleet, names: Sequence[str]) -> list[Database]:
    """The databases of these names or paths, or all. Raises Unknown for a name that nobody has, or where there is none."""
    if not fleet.databases:
        raise Unknown("litestream.yml names no database that exists", "check `dbs:`, `dir:` and `pattern:` in it")
    if not names:
        return sorted(fleet.databases.values(), key=lambda each: each.name)
    found = {}
    for name in names:
        database = fleet.named(name) or fleet.databases.get(str(Path(name).absolute()))
        if database is None:
            known = ", ".join(sorted(each.name for each in fleet.databases.values())[:10])
            raise Unknown(f"there is no database {name}", f"one of: {known}")
        found[database.path] = database
    return list(found.values())


def _make_room(keep: Path | None, databases: Sequence[Database]) -> None:
    """Make the folder for kept copies before any work is done. A name that needs a path to be unique has folders in it."""
    if keep is None:
        return
    try:
        for each in databases:
            (keep / each.name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"--keep {keep} cannot be made: {error.strerror}", "name a folder that you may write to"
        ) from error


def _prove(kit: Tools, fleet: Fleet, database: Database, wishes: Wishes, stop: threading.Event) -> Drill:
    """One look and one drill, recorded in the history. Raises Stopped."""
    policy = fleet.policies[database.path]
    for path, claim in kit.claims(fleet).read((database,)).items():
        kit.ledger.record(path, lambda known, said=claim: known.of_replica(database.replica).after_claim(said))  # type: ignore[misc] # bound now
    known = kit.ledger.snapshot().get(database.path)
    with shown(database.name) as progress:
        progress("listing", 0, None)
        looked = kit.looker.look(database, known, policy, fleet.command_timeout_s, stop)
        kit.ledger.record(database.path, looked.applied)
        order = Order(
            database, policy, CheckKind.FULL if wishes.full else CheckKind.QUICK, new_id(), wishes.keep,
            parity=policy.compares, accepts_shrink=wishes.accept_shrink,
        )  # fmt: skip
        kit.ledger.begin_drill(database, order.id)
        drill = kit.driller.run(order, stop=stop, progress=progress)
    kit.ledger.add_drill(database, drill, max_shrink=policy.max_shrink)
    kit.ledger.flush()
    if drill.outcome is Outcome.ABORTED:
        raise Stopped("told to stop")
    return drill


def proof(found: FleetVerdict, drills: dict[str, Drill]) -> FleetVerdict:
    """The same verdicts with only the checks that a drill in the foreground answers; `drill` is about these drills."""
    return replace(found, verdicts=tuple(_about(each, drills[each.database.path]) for each in found.verdicts))


def _about(verdict: Verdict, drill: Drill) -> Verdict:
    findings = [
        of_this_comparison(of_this_drill(each, drill, verdict.evidence), drill)
        for each in verdict.judged.findings
        if _counts(each, verdict.evidence)
    ]
    return replace(verdict, judged=Judged(tuple(findings)))


def _counts(finding: Finding, evidence: Evidence) -> bool:
    absent = evidence.live is None or evidence.live.file_id is None
    unseen = evidence.sighting is None or evidence.sighting.result not in {LookResult.OK, LookResult.NO_BACKUP}
    if finding.name not in PROOF:
        return False
    if absent and finding.name in BESIDE_PRODUCTION:  # verifying on another machine
        return finding.status is Status.FAIL and finding.name != "lag"
    # What the replica lacks cannot be told while it cannot be listed; `replica` says so.
    return not (finding.name == "lag" and unseen and finding.status is Status.FAIL)
