"""`rehearse`: restore the newest backup into scratch, run the command on the copy, and tell what it did to it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event

from sidecar import __version__
from sidecar.adapters.foreground import find_program
from sidecar.assembly_rehearsal import rehearser
from sidecar.assembly_tools import Tools, load_fleet, tools
from sidecar.commands.progress import shown
from sidecar.commands.rehearse_report import report
from sidecar.commands.render import Echo
from sidecar.commands.stopping import stopping
from sidecar.commands.verify import wanted
from sidecar.core.errors import EnvironmentProblem, SidecarError, Stopped
from sidecar.core.expectation import Expect, Expectation
from sidecar.core.finding import Status
from sidecar.core.model import Drill, Outcome
from sidecar.core.redact import redact
from sidecar.core.rehearsal import judge, outcome
from sidecar.core.rehearsal_document import rehearsal_document
from sidecar.deploy.rehearsal import Script, refuse_production
from sidecar.drill import new_id
from sidecar.drill_attempt import Order
from sidecar.fleet import FleetKeeper
from sidecar.logs import set_up
from sidecar.options import Options

EXIT_CODES = {Status.PASS: 0, Status.FAIL: 1, Status.UNKNOWN: 3}
NOTHING_RESTORED = 0  # the room's own need; the drill asks for what it restores


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a person asked for, as the command line read it."""

    command: Sequence[str]
    db: str
    env: tuple[str, ...]
    database_url: str | None
    timeout: timedelta
    expect: str | None
    expect_version: str | None
    allow_shrink: tuple[str, ...]
    as_json: bool


class NoCopy(SidecarError):
    """The newest backup could not be restored, so there is nothing to rehearse on: proved (1), or not found out (3)."""

    def __init__(self, name: str, drill: Drill) -> None:
        super().__init__(f"{name}: nothing to rehearse on, the drill {_ended(drill)}: {drill.message}", drill.hint)
        self.exit_code = 1 if drill.outcome is Outcome.FAILED else 3


def rehearse(options: Options, wishes: Wishes, *, echo: Echo) -> int:
    """Rehearse, print what was found; 0 it would hold, 1 proved that not, 3 could not tell."""
    set_up(options.log_format, options.log_level)
    script = _script(wishes)
    find_program(script.argv[0], {**script.env, **script.variables})
    with tools(options, exclusive=False) as kit, stopping() as stop:
        fleet = FleetKeeper(load_fleet(options, kit.binary.generation), kit.clock).fleet
        (database,) = wanted(fleet, (wishes.db,))
        policy = fleet.policies[database.path]
        refuse_production(script, Path(database.path))
        with kit.scratch.room(NOTHING_RESTORED) as room:
            drill = _drilled(kit, Order(database, policy, id=new_id(), keep=room), stop)
            if drill.outcome is not Outcome.PASSED:
                raise NoCopy(database.name, drill)
            kept = room / "drilled.db"
            (room / f"{database.name}-{drill.id}.db").rename(kept)
            with shown(database.name) as progress:
                show = rehearser(kit, quiet_stdout=wishes.as_json).begin(
                    database, policy, drill, kept, script, stop, progress
                )
            show.play()
            with shown(database.name) as progress:
                found = show.found(progress)
        found = replace(found, ran=replace(found.ran, argv=tuple(redact(each, fleet.secrets) for each in script.argv)))
        lines = judge(found, _expectation(wishes, policy.max_shrink))
        document = rehearsal_document(found, lines, at=kit.clock.now(), version=__version__)
    echo(json.dumps(document, indent=2, ensure_ascii=False) if wishes.as_json else report(document))
    return EXIT_CODES[outcome(lines)]


def _drilled(kit: Tools, order: Order, stop: Event) -> Drill:
    """A drill whose copy is kept, recorded in the history. No look before it: that would open production. Raises Stopped."""
    database = order.database
    kit.ledger.record(database.path, lambda known: known.of_replica(database.replica))
    kit.ledger.begin_drill(database, order.id)
    with shown(database.name) as progress:
        drill = kit.driller.run(order, stop=stop, progress=progress)
    kit.ledger.add_drill(database, drill, max_shrink=order.policy.max_shrink)
    kit.ledger.flush()
    if drill.outcome is Outcome.ABORTED:
        raise Stopped("told to stop")
    return drill


def _ended(drill: Drill) -> str:
    return "failed" if drill.outcome is Outcome.FAILED else "was inconclusive"


def _script(wishes: Wishes) -> Script:
    """The command with the variables that were asked for. Raises EnvironmentProblem for one that is no NAME=VALUE."""
    variables = {}
    for each in wishes.env:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise EnvironmentProblem(f"--env {each} is not NAME=VALUE", "write it as in --env DB_PATH={db}")
        variables[name] = value
    if wishes.database_url is not None:
        variables["DATABASE_URL"] = wishes.database_url
    return Script(
        argv=tuple(wishes.command), env=dict(os.environ), variables=variables, timeout_s=wishes.timeout.total_seconds()
    )


def _expectation(wishes: Wishes, max_shrink: float) -> Expectation:
    return Expectation(
        expect=Expect(wishes.expect) if wishes.expect is not None else Expect.MOVES_WITH_SCHEMA,
        version=wishes.expect_version, allow_shrink=frozenset(wishes.allow_shrink), max_shrink=max_shrink,
    )  # fmt: skip
