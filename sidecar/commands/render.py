"""What a person sees in a terminal: the fleet as a table, what stands in the way, what to do. rich is imported late."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import Any

from sidecar.core.finding import NOT_FOUND_OUT
from sidecar.core.people import bytes_for_people, seconds_for_people, tamed
from sidecar.core.verdict import Document

LABEL_WIDTH = 8
PIPED_WIDTH = 200

Echo = Callable[[str], bool]  # False once nobody reads any more

NAMES_MAX = 5
_ORDER = {"fail": 0, "unknown": 1, "warn": 2}
_COLOURS = {"pass": "green", "warn": "yellow", "unknown": "yellow", "fail": "red"}
_OUTCOMES = {"passed": "green", "failed": "red", "inconclusive": "yellow", "aborted": "yellow"}


def terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def drawn(*things: Any) -> str:
    """Rich things as text, as wide as the terminal; plain, and every sentence on one line, where nobody looks."""
    from rich.console import Console  # noqa: PLC0415 - only where a person looks
    from rich.text import Text  # noqa: PLC0415

    out = io.StringIO()
    width = shutil.get_terminal_size((PIPED_WIDTH, 40)).columns
    # rich itself honours NO_COLOR and TERM=dumb
    console = Console(file=out, width=width, force_terminal=terminal(), color_system="auto" if terminal() else None)
    for thing in things:
        flows = isinstance(thing, (str, Text)) and not terminal()
        console.print(thing, highlight=False, markup=False, soft_wrap=flows)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def labelled(label: str, style: str, text: Any, *more: str) -> list[Any]:
    """A word in a narrow column and a sentence beside it, which stays there when it wraps; `more` below it, dimmed."""
    from rich.table import Table  # noqa: PLC0415 - only where a person looks
    from rich.text import Text  # noqa: PLC0415

    rows = [(Text(f"{label:{LABEL_WIDTH}}", style), text)]
    rows += [(Text(" " * LABEL_WIDTH), Text(each, "dim")) for each in more]
    if not terminal():
        return [Text.assemble(*row) for row in rows]
    grid = Table.grid()
    grid.add_column(width=LABEL_WIDTH)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return [grid]


def fleet_table(document: Document, headline: str | None = None) -> str:
    """The /ready document: one row a database, then every finding that is not a pass, with its way out.

    Args:
        document: the body of `/ready`, or of its shape.
        headline: the word before the reason; None: READY or NOT READY.
    """
    from rich import box  # noqa: PLC0415 - only where a person looks
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    document = tamed(document)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("database", "ready", "lag", "snapshot", "last drill", "schema"):
        table.add_column(heading, overflow="fold")
    for each in document["databases"]:
        drill, version, snapshot = each["last_drill"], each["schema_version"], each["snapshot"]
        table.add_row(
            Text(each["name"]),
            Text("yes", "green") if each["ready"] else Text("no", "bold red"),
            Text(seconds_for_people(each["position"]["lag_seconds"])),
            Text(snapshot["created_at"] or "?") if snapshot else Text("none", "yellow"),
            Text(f"{drill['outcome']} {drill['finished_at']}", _OUTCOMES[drill["outcome"]])
            if drill
            else Text("never", "yellow"),
            Text(version["value"] if version else "?"),
        )
    word = headline or ("READY" if document["ready"] else "NOT READY")
    first = Text.assemble((word, "bold green" if document["ready"] else "bold red"), "  ", document["reason"])
    findings = list(_findings(document))
    return drawn(first, *(["", table] if document["databases"] else []), *(["", *findings] if findings else []))


def _findings(document: Document) -> Iterable[Any]:
    """Everything that is not a pass; what several databases have in common is said once."""
    from rich.text import Text  # noqa: PLC0415 - only where a person looks

    said: dict[tuple[str, ...], list[str]] = {}
    for each in document["databases"]:
        for check in each["checks"]:
            if check["status"] != "pass":
                key = (check["status"], check["name"], check["reason"], check["message"], check["hint"] or "")
                said.setdefault(key, []).append(each["name"])
    for (status, name, reason, message, hint), databases in sorted(said.items(), key=lambda item: _ORDER[item[0][0]]):
        whose = ", ".join(databases[:NAMES_MAX]) + (
            f" and {len(databases) - NAMES_MAX} more" if len(databases) > NAMES_MAX else ""
        )
        line = Text.assemble((f"{whose} {name}", "bold"), f" ({reason}): {message}")
        yield from labelled(status, _COLOURS[status], line, *([f"try: {hint}"] if hint else []))


def history_table(drills: list[tuple[str, Document]]) -> str:
    """Past drills, newest first."""
    from rich import box  # noqa: PLC0415 - only where a person looks
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in (
        "finished",
        "database",
        "outcome",
        "check",
        "position",
        "size",
        "restore",
        "check took",
        "what it found",
    ):
        table.add_column(heading, overflow="fold")
    for name, drill in tamed(drills):
        what = drill["message"] if drill["outcome"] != "passed" else ""
        table.add_row(
            drill["finished_at"], Text(name), Text(drill["outcome"], _OUTCOMES[drill["outcome"]]), drill["check"],
            drill["position"] or "?", bytes_for_people(drill["size_bytes"]), seconds_for_people(drill["restore_seconds"]),
            seconds_for_people(drill["check_seconds"]),
            Text(f"{drill['reason']}: {what}" if drill["reason"] else what),
        )  # fmt: skip
    return drawn(table)


def exit_code(document: Document) -> int:
    """0 ready; 1 something is proved wrong; 3 not known. Over several databases 1 comes before 3 before 0."""
    checks = [check for each in document["databases"] for check in each["checks"]]
    if any(check["status"] == "fail" and check["reason"] not in NOT_FOUND_OUT for check in checks):
        return 1
    return 0 if document["ready"] else 3
