"""`doctor`: is all this set up right, and what should be changed? Asks every question, however many fail."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path

from sidecar import diagnosis
from sidecar.adapters import litestream_yml
from sidecar.assembly_tools import Binary, Tools, find_litestream, load_fleet, read_settings, strangers, tools
from sidecar.assembly_verifier import verifier_client
from sidecar.commands.render import Echo, drawn, labelled
from sidecar.core.errors import ConfigError, EnvironmentProblem, SidecarError
from sidecar.core.model import Database
from sidecar.core.people import tame
from sidecar.diagnosis import Diagnosis, Grade
from sidecar.fleet import Fleet
from sidecar.logs import set_up
from sidecar.options import Options
from sidecar.settings import Settings

_COLOURS = {Grade.OK: "green", Grade.WARN: "yellow", Grade.UNKNOWN: "yellow", Grade.BAD: "bold red"}
_EXIT = {Grade.BAD: 1, Grade.UNKNOWN: 3}
_CONFIGURATION = frozenset({"litestream.yml", "sidecar.yml", "binary", "state", "http"})


def doctor(options: Options, *, echo: Echo) -> int:
    """Print every answer and what to change; exit code 0 fine, 1 something is wrong, 2 configuration, 3 not known."""
    set_up(options.log_format, "error")
    found: list[Diagnosis] = []
    for each in _questions(options):
        found.append(each)
        echo(_line(each))
    grades = [each.grade for each in found]
    echo(", ".join(f"{grades.count(grade)} {grade.value}" for grade in Grade if grade in grades))
    if any(each.grade is Grade.BAD and each.subject in _CONFIGURATION for each in found):
        return 2
    return next((_EXIT[grade] for grade in (Grade.BAD, Grade.UNKNOWN) if grade in grades), 0)


def _line(each: Diagnosis) -> str:
    from rich.text import Text  # noqa: PLC0415 - only where a person looks

    line = Text.assemble((f"{tame(each.subject)}: ", "bold"), tame(each.message))
    first, *more = tame(each.fix).splitlines() or [""]
    below = [f"try: {first}", *(f"       {row}" for row in more)] if first else []
    return drawn(*labelled(each.grade.value, _COLOURS[each.grade], line, *below))


def _mistakes(subject: str, error: SidecarError) -> Iterator[Diagnosis]:
    if isinstance(error, ConfigError):
        for number, mistake in enumerate(error.mistakes, 1):
            yield Diagnosis(subject, Grade.BAD, str(mistake), error.hint if number == len(error.mistakes) else "")
    else:
        yield Diagnosis(subject, Grade.BAD, error.message, error.hint)


def _asked(subject: str, answers: Iterator[Diagnosis]) -> Iterator[Diagnosis]:
    """The answers of one question; a refusal is an answer too."""
    try:
        yield from answers
    except SidecarError as error:
        yield from _mistakes(subject, error)


def _questions(options: Options) -> Iterator[Diagnosis]:
    yield from diagnosis.environment(os.environ)
    right, settings = options, None
    try:
        settings = read_settings(options)
        yield Diagnosis(
            "sidecar.yml", Grade.OK, str(options.config) if options.config else "not given; defaults are in force"
        )
    except SidecarError as error:
        yield from _mistakes("sidecar.yml", error)
        right = replace(options, config=None)  # what can be asked without it is asked all the same
        settings = read_settings(right)
    binary = None
    try:
        binary = find_litestream(settings)
        yield Diagnosis("binary", Grade.OK, f"Litestream {binary.version} at {binary.path}")
    except SidecarError as error:
        yield from _mistakes("binary", error)
    config = None
    try:
        config = litestream_yml.read(
            options.litestream_config, os.environ,
            generation=binary.generation if binary else "0.5", aliases=settings.aliases,
        )  # fmt: skip
    except SidecarError as error:
        yield from _mistakes("litestream.yml", error)
    databases = {each.path: each for each in config.databases} if config is not None else {}
    if config is not None:
        yield from _read(options, settings, config)
    yield from diagnosis.http(settings)
    yield from diagnosis.state(settings)
    yield from _asked("scratch", diagnosis.room(databases, settings.scratch, settings.resources.scratch_max))
    if binary is not None and databases:
        yield from _tried(right, settings, binary)


def _read(options: Options, settings: Settings, config: litestream_yml.LitestreamConfig) -> Iterator[Diagnosis]:
    """What litestream.yml says."""
    count = len(config.databases)
    said = f"{options.litestream_config}: {count} database{'' if count == 1 else 's'}"
    if count:
        yield Diagnosis("litestream.yml", Grade.OK, said)
    else:
        yield Diagnosis(
            "litestream.yml", Grade.BAD, said, "list a database under `dbs:`, or check `dir:` and `pattern:`"
        )
    for warning in config.warnings:
        yield Diagnosis("litestream.yml", Grade.WARN, warning)
    for warning in strangers(settings, {each.name for each in config.databases}):
        yield Diagnosis("sidecar.yml", Grade.WARN, warning, "correct the name, or remove it")
    for each in config.databases:
        yield from diagnosis.tight(each, settings.policy_for(each.name))
    for each in config.databases:
        times = config.snapshots[each.path]
        yield from diagnosis.retention(each, times.interval, times.retention)


def _tried(options: Options, settings: Settings, binary: Binary) -> Iterator[Diagnosis]:
    """The questions that need the adapters. Where no state can be kept, they are asked with an empty one."""
    with ExitStack() as stack:
        kit = None
        if settings.state_dir.is_dir():
            try:
                kit = stack.enter_context(tools(options, exclusive=False))
            except EnvironmentProblem as error:
                yield from _mistakes("state", error)
        if kit is None:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="litestream-sidecar-")))
            try:
                kit = stack.enter_context(tools(replace(options, state_dir=made), exclusive=False))
            except EnvironmentProblem as error:  # it is scratch-dir, not the state directory
                yield from () if settings.state_dir.is_dir() else _mistakes("state", error)
                return
        fleet = load_fleet(options, binary.generation)()
        claims = kit.claims(fleet).read(tuple(fleet.databases.values()))
        has_socket = binary.generation == "0.5"
        yield from dict.fromkeys(  # what concerns Litestream as a whole is said once
            chain.from_iterable(
                diagnosis.claim(fleet.databases[path], each, has_socket=has_socket) for path, each in claims.items()
            )
        )
        for each in fleet.databases.values():
            yield from _of_one(kit, fleet, each)
        asked = verifier_client(settings)
        if asked is not None:
            yield from diagnosis.verifier(*asked, list(fleet.databases.values()))


def _of_one(kit: Tools, fleet: Fleet, each: Database) -> Iterator[Diagnosis]:
    understood = kit.fetcher.understands(each)
    yield from diagnosis.by_change(each, fleet.policies[each.path], understood=understood)
    if not each.in_reach:
        yield diagnosis.alone(each)
        yield from _asked(each.name, diagnosis.listing(each, kit.looker, fleet.command_timeout_s, kit.clock))
        return
    yield from _asked(each.name, diagnosis.files(each, kit.live))
    if kit.live.read(each).file_id is not None:
        yield from _asked(each.name, diagnosis.production(each, kit.production, fleet.policies[each.path], kit.clock))
    yield from _asked(each.name, diagnosis.listing(each, kit.looker, fleet.command_timeout_s, kit.clock))
