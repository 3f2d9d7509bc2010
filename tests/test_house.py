"""The house keeps its rules: what each floor may import, where the world is touched, how long things may be.

Each rule takes modules and returns complaints. It is held against the house, and against a snippet that breaks it, so that
a rule that sees nothing cannot pass for a clean house. Exceptions are listed with their reason, and must still be needed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 60

CORE_STDLIB = frozenset(
    {
        "__future__", "array", "collections", "contextlib", "copy", "dataclasses", "datetime", "difflib", "enum", "fnmatch", "fractions",
        "functools", "hashlib", "hmac", "ipaddress", "itertools", "json", "math", "operator", "posixpath", "re", "shlex", "struct", "string", "types", "typing", "zlib",
        "unicodedata", "urllib.parse",
    }
)  # fmt: skip
# Named in types only; core calls nothing of theirs that touches the world.
CORE_TYPES_ONLY = {
    "pathlib": {"sidecar.core.ports", "sidecar.core.ports_pages", "sidecar.core.settings_model"},
    "threading": {"sidecar.core.ports", "sidecar.core.ports_pages"},
}

# Where each technology may be imported. What stands here nowhere may be imported nowhere.
CLIENTS = (
    "sidecar.adapters.litestream_socket",
    "sidecar.adapters.litestream_metrics",
    "sidecar.adapters.litestream_sync",
    "sidecar.adapters.daemon_client",
    "sidecar.adapters.daemon_road",
    "sidecar.adapters.ready_client",
    "sidecar.adapters.notify",
    "sidecar.adapters.verifier_client",
)
TECHNOLOGY: dict[str, tuple[str, ...]] = {
    "apsw": ("sidecar.adapters.sqlite_*", "sidecar.adapters.ledger*"),
    "cattrs": ("sidecar.settings_shape", "sidecar.adapters.ledger.codec"),
    "click": ("sidecar.cli*",),
    "fastcrc": ("sidecar.adapters.ltx_application",),
    "h11": ("sidecar.adapters.http_server",),
    "httpx": CLIENTS,
    "lz4": ("sidecar.adapters.ltx_application",),
    "obstore": ("sidecar.adapters.replica_listing.bucket",),
    "prometheus_client": ("sidecar.metrics", "sidecar.metric_text", "sidecar.adapters.litestream_metrics"),
    "rich": ("sidecar.commands.*",),
    "sqlite3": (),
    "subprocess": ("sidecar.adapters.process",),
    "tenacity": CLIENTS,
    "uvicorn": ("sidecar.adapters.http_server",),
    "watchdog": ("sidecar.adapters.watcher", "sidecar.adapters.journal_watch"),
    "xxhash": ("sidecar.adapters.fingerprints",),
    "yaml": (
        "sidecar.adapters.litestream_yml",
        "sidecar.adapters.litestream_command",
        "sidecar.adapters.replica_listing.target",
        "sidecar.settings",
    ),
}
TECHNOLOGY_EXCEPTIONS = {
    ("sidecar.adapters.background", "subprocess"): "the demo keeps its app and its Litestream running beside itself",
    ("sidecar.adapters.foreground", "subprocess"): "a person's command has their terminal, which `process` takes away",
    ("sidecar.adapters.ledger.folder", "tenacity"): "waits for the lock of a process that is just ending",
    ("sidecar.commands.demo_app", "apsw"): "a program of its own: the app whose database the demo backs up",
    ("sidecar.commands.selftest_app", "apsw"): "a program of its own: what the selftest's apps do",
    ("sidecar.assembly", "apsw"): "only the library's version, for the metrics",
    ("sidecar.assembly_tools", "apsw"): "only the library's version, for the evidence",
}

# Adapters that others may stand on: one way to run a child, to ask Litestream, to keep a descriptor, to read Litestream's folder, a schema.
SHARED_ADAPTERS = frozenset(
    {
        "sidecar.adapters.process",
        "sidecar.adapters.daemon_client",
        "sidecar.adapters.litestream_command",
        "sidecar.adapters.live_descriptors",
        "sidecar.adapters.local_folder",
        "sidecar.adapters.sqlite_content",
    }
)

WALL_CLOCK = frozenset(
    {
        "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns", "time.localtime",
        "time.gmtime", "time.ctime", "time.sleep",
    }
)  # fmt: skip
DEADLINES = frozenset({"time.monotonic", "time.monotonic_ns", "time.perf_counter"})
CLOCK = "sidecar.adapters.clock"
# A deadline is counted where the child or the query runs; no evidence is dated by it.
DEADLINE_KEEPERS = (
    "sidecar.adapters.daemon_road",
    "sidecar.adapters.verifier_client",
    "sidecar.adapters.process",
    "sidecar.adapters.foreground",
    "sidecar.adapters.rehearsal_watch",
    "sidecar.adapters.litestream_command",
    "sidecar.adapters.litestream_v3",
    "sidecar.adapters.litestream_v5",
    "sidecar.adapters.sqlite_content",
)

SPEAKERS = ("sidecar.__main__", "sidecar.cli*", "sidecar.commands*")
SPEAKING = frozenset(
    {"print", "exit", "quit", "sys.exit", "os._exit", "click.echo", "sys.stdout.write", "sys.stderr.write"}
)

# The floors, lowest first; a module stands on the first line that names it, and imports only from its own or lower ones.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("sidecar", "sidecar.core*"),
    ("sidecar.adapters*", "sidecar.settings*", "sidecar.options", "sidecar.logs"),
    (
        "sidecar.look", "sidecar.drill", "sidecar.drill_attempt", "sidecar.forwarding", "sidecar.tidying", "sidecar.drill_outcomes", "sidecar.parity", "sidecar.parity_reading", "sidecar.pieces", "sidecar.piecewise", "sidecar.production", "sidecar.fleet", "sidecar.pulse", "sidecar.desk", "sidecar.answers",
        "sidecar.news", "sidecar.thrift", "sidecar.drill_log", "sidecar.standing", "sidecar.diagnosis", "sidecar.metric_facts", "sidecar.metric_text", "sidecar.house",
        "sidecar.deploy*", "sidecar.trace", "sidecar.verifier",
    ),
    ("sidecar.daemon", "sidecar.workshop", "sidecar.web*", "sidecar.page*", "sidecar.openapi*", "sidecar.metrics"),
    ("sidecar.assembly_*",),
    ("sidecar.assembly",),
    ("sidecar.commands*",),
    ("sidecar.cli_*",),
    ("sidecar.cli",),
    ("sidecar.__main__",),
)  # fmt: skip
BUILDERS = ("sidecar.assembly*", "sidecar.commands*", "sidecar.adapters*")  # only these know any adapter by name


@dataclass(frozen=True)
class Module:
    """A module of the house, or a snippet that pretends to be one."""

    name: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """Dotted names as written, wherever they stand; `from a import b` gives `a.b`."""
        found: list[str] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = self.name.split(".")[: -node.level] if node.level else []
                base = ".".join([*package, *([node.module] if node.module else [])])
                found += [f"{base}.{alias.name}" for alias in node.names]
        return tuple(found)

    def within(self, patterns: Sequence[str]) -> bool:
        return any(fnmatch(self.name, pattern) for pattern in patterns)

    @property
    def floor(self) -> int | None:
        return next((number for number, names in enumerate(FLOORS) if self.within(names)), None)


def read(root: Path) -> tuple[Module, ...]:
    """Every module under `sidecar/`."""
    found = []
    for file in sorted((root / "sidecar").rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, file.read_text(encoding="utf-8")))
    return tuple(found)


House = Sequence[Module]
HOUSE = read(ROOT)


def own(imported: str, house: House) -> str | None:
    """The module of the house that an import reaches; None for foreign ones."""
    names = {module.name for module in house} | {module.name for module in HOUSE}
    while imported and imported not in names:
        imported = imported.rpartition(".")[0]
    return imported or None


def top(imported: str) -> str:
    return imported.partition(".")[0]


def foreign(module: Module) -> Iterator[str]:
    """What a module imports from beyond the house."""
    return (each for each in module.imports if top(each) != "sidecar")


def called(node: ast.AST) -> str:
    """`sys.stderr.write` of the call to it; empty where it is not a plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = called(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def names_used(module: Module) -> Iterator[str]:
    """Plain dotted names that are read or called, `datetime.datetime.now` shortened to `datetime.now`."""
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.Attribute, ast.Name)):
            yield called(node).replace("datetime.datetime.", "datetime.")
    yield from module.imports  # `from time import sleep`


# The rules


def core_is_pure(house: House) -> list[str]:
    """R1: core imports core and a little of the standard library that touches nothing."""
    wrong = []
    for module in house:
        if not module.within(["sidecar.core", "sidecar.core.*"]):
            continue
        for each in module.imports:
            allowed_to = CORE_TYPES_ONLY.get(top(each), set())
            pure = each.startswith("sidecar.core.") or any(
                each == ok or each.startswith(f"{ok}.") for ok in CORE_STDLIB
            )
            if not pure and module.name not in allowed_to:
                wrong.append(f"{module.name} imports {each}")
    return wrong


def adapters_stand_alone(house: House) -> list[str]:
    """R2: adapters import core and the shared ones, never each other; a package may import its own parts."""
    wrong = []
    for module in house:
        if not module.within(["sidecar.adapters.*"]):
            continue
        package = ".".join(module.name.split(".")[:3])
        for each in module.imports:
            target = own(each, house)
            if target is None or target.startswith("sidecar.core") or target in {"sidecar", "sidecar.adapters"}:
                continue
            if target not in SHARED_ADAPTERS and not f"{target}.".startswith(f"{package}."):
                wrong.append(f"{module.name} imports {target}")
    return wrong


def the_clock_is_read_in_one_place(house: House) -> list[str]:
    """R3: everything that dates evidence is handed a clock."""
    wrong = []
    for module in house:
        forbidden = set(names_used(module)) & WALL_CLOCK
        if not module.within(DEADLINE_KEEPERS):
            forbidden |= set(names_used(module)) & DEADLINES
        if module.name != CLOCK:
            wrong += [f"{module.name} uses {each}" for each in sorted(forbidden)]
    return wrong


def technologies_have_their_place(house: House) -> list[str]:
    """R4: one module a technology; what pyproject.toml does not give us is imported nowhere."""
    wrong = []
    for module in house:
        for each in sorted({top(imported) for imported in foreign(module)}):
            known = TECHNOLOGY.get(each)
            if known is None and each in sys.stdlib_module_names:
                continue
            if known is None or not (module.within(known) or (module.name, each) in TECHNOLOGY_EXCEPTIONS):
                wrong.append(f"{module.name} imports {each}")
    return wrong


def nothing_is_too_long(house: House) -> list[str]:
    """R5: a module is read in one sitting, a function in one glance."""
    wrong = []
    for module in house:
        lines = len(module.source.splitlines())
        if lines > MODULE_LINES_MAX:
            wrong.append(f"{module.name} has {lines} lines")
        for node in ast.walk(module.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    wrong.append(f"{module.name}.{node.name} has {length} lines")
    return wrong


def modules_say_why_they_exist(house: House) -> list[str]:
    """R5: the first line is a docstring."""
    return [module.name for module in house if not (ast.get_docstring(module.tree) or "").strip()]


def only_the_command_line_speaks_and_exits(house: House) -> list[str]:
    """R6: everybody else returns, raises or logs."""
    wrong = []
    for module in house:
        if module.within(SPEAKERS):
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and called(node.func) in SPEAKING:
                wrong.append(f"{module.name} calls {called(node.func)}")
            elif isinstance(node, ast.Name) and node.id == "SystemExit":
                wrong.append(f"{module.name} names SystemExit")
    return wrong


def nothing_imports_upwards(house: House) -> list[str]:
    """R6: core < adapters and settings < verbs < daemon, web, metrics < assembly < commands < cli."""
    wrong = [f"{module.name} stands on no floor" for module in house if module.floor is None]
    for module in house:
        for each in module.imports:
            target = own(each, house)
            floor = Module(target, "").floor if target is not None else None
            if floor is not None and module.floor is not None and floor > module.floor:
                wrong.append(f"{module.name} imports {target}")
    return wrong


def only_builders_know_adapters(house: House) -> list[str]:
    """R6: verbs and faces are given their ports; who satisfies them is the assembly's business."""
    wrong = []
    for module in house:
        for each in module.imports:
            target = own(each, house)
            if target is None or not target.startswith("sidecar.adapters"):
                continue
            if not module.within(BUILDERS):
                wrong.append(f"{module.name} imports {target}")
    return wrong


def there_is_no_circle(house: House) -> list[str]:
    """R6: imports form a ladder, also those inside functions. A package's `__init__` is not reached by its parts."""
    graph: dict[str, set[str]] = {module.name: set() for module in house}
    for module in house:
        for each in module.imports:
            target = own(each, house)
            if target in graph and target != module.name:
                graph[module.name].add(target)
    removed = True
    while removed:  # take away what imports nothing that is left; what stays is in a circle, or above one
        removed = False
        for name in [name for name, targets in graph.items() if not targets & set(graph)]:
            del graph[name]
            removed = True
    return [f"{name} is in a circle with {', '.join(sorted(targets & set(graph)))}" for name, targets in graph.items()]


RULES: tuple[Callable[[House], list[str]], ...] = (
    core_is_pure,
    adapters_stand_alone,
    the_clock_is_read_in_one_place,
    technologies_have_their_place,
    nothing_is_too_long,
    modules_say_why_they_exist,
    only_the_command_line_speaks_and_exits,
    nothing_imports_upwards,
    only_builders_know_adapters,
    there_is_no_circle,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: Callable[[House], list[str]]) -> None:
    assert rule(HOUSE) == []


def test_the_house_was_found() -> None:
    assert {"sidecar", "sidecar.core.checks", "sidecar.adapters.clock", "sidecar.daemon"} <= {
        each.name for each in HOUSE
    }


BROKEN: tuple[tuple[Callable[[House], list[str]], str, str], ...] = (
    (core_is_pure, "sidecar.core.bad", "import os"),
    (core_is_pure, "sidecar.core.bad", "from os import environ"),
    (core_is_pure, "sidecar.core.bad", "def f():\n    import logging"),
    (core_is_pure, "sidecar.core.bad", "from pathlib import Path"),
    (core_is_pure, "sidecar.core.bad", "from urllib.request import urlopen"),
    (core_is_pure, "sidecar.core.bad", "from sidecar.desk import DrillDesk"),
    (core_is_pure, "sidecar.core.bad", "from .. import desk"),
    (adapters_stand_alone, "sidecar.adapters.bad", "from sidecar.adapters.scratch import Scratch"),
    (adapters_stand_alone, "sidecar.adapters.bad", "from sidecar.adapters import scratch"),
    (adapters_stand_alone, "sidecar.adapters.bad", "from sidecar.desk import DrillDesk"),
    (adapters_stand_alone, "sidecar.adapters.process_two", "from sidecar.adapters.ledger.codec import FACTS"),
    (the_clock_is_read_in_one_place, "sidecar.look", "from datetime import datetime\nx = datetime.now()"),
    (the_clock_is_read_in_one_place, "sidecar.look", "import datetime\nx = datetime.datetime.now"),
    (the_clock_is_read_in_one_place, "sidecar.look", "import time\ntime.monotonic()"),
    (the_clock_is_read_in_one_place, "sidecar.look", "from time import time"),
    (the_clock_is_read_in_one_place, "sidecar.adapters.process", "import time\ntime.sleep(1)"),
    (technologies_have_their_place, "sidecar.look", "import subprocess"),
    (technologies_have_their_place, "sidecar.adapters.scratch", "import apsw"),
    (technologies_have_their_place, "sidecar.adapters.ledger.file", "import sqlite3"),
    (technologies_have_their_place, "sidecar.web", "from httpx import Client"),
    (technologies_have_their_place, "sidecar.adapters.sqlite_live", "import requests"),
    (nothing_is_too_long, "sidecar.look", "x = 1\n" * (MODULE_LINES_MAX + 1)),
    (nothing_is_too_long, "sidecar.look", "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    (modules_say_why_they_exist, "sidecar.look", "x = 1"),
    (only_the_command_line_speaks_and_exits, "sidecar.look", "print('x')"),
    (only_the_command_line_speaks_and_exits, "sidecar.daemon", "import sys\nsys.exit(1)"),
    (only_the_command_line_speaks_and_exits, "sidecar.daemon", "raise SystemExit"),
    (only_the_command_line_speaks_and_exits, "sidecar.assembly", "import sys\nsys.stderr.write('x')"),
    (nothing_imports_upwards, "sidecar.look", "from sidecar.daemon import Daemon"),
    (nothing_imports_upwards, "sidecar.daemon", "def f():\n    import sidecar.assembly"),
    (nothing_imports_upwards, "sidecar.assembly", "from sidecar import cli"),
    (nothing_imports_upwards, "sidecar.somewhere", "x = 1"),
    (only_builders_know_adapters, "sidecar.drill", "from sidecar.adapters.scratch import Scratch"),
    (only_builders_know_adapters, "sidecar.web", "from sidecar.adapters import clock"),
)


@pytest.mark.parametrize(
    ("rule", "name", "source"), BROKEN, ids=[f"{rule.__name__}-{number}" for number, (rule, *_) in enumerate(BROKEN)]
)
def test_the_rule_sees_what_breaks_it(rule: Callable[[House], list[str]], name: str, source: str) -> None:
    assert rule([Module(name, source)]) != []


def test_a_circle_is_seen_and_a_ladder_is_none() -> None:
    one = Module("sidecar.core.one", "from sidecar.core.two import x")
    two = Module("sidecar.core.two", "def f():\n    import sidecar.core.one")
    above = Module("sidecar.core.above", "import sidecar.core.one")
    assert len(there_is_no_circle([one, two, above])) == 3
    assert there_is_no_circle([one, Module("sidecar.core.two", "import re"), above]) == []


def test_every_exception_is_still_needed() -> None:
    by_name = {module.name: module for module in HOUSE}
    for name, each in TECHNOLOGY_EXCEPTIONS:
        assert each in {top(imported) for imported in by_name[name].imports}, (name, each)
    for name in (*DEADLINE_KEEPERS, CLOCK):
        assert set(names_used(by_name[name])) & DEADLINES, name
