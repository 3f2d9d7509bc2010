"""Deploys, for people: what one changed (the schema as a diff, the rows of each table), and what was decided about each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sidecar.commands.render import drawn, labelled, narrow
from sidecar.core.people import tamed
from sidecar.core.verdict import Document

_AROUND_SIGNS = re.compile(r" ?([(),])(?: (?=[,)])|(?<=\() )?")
_COLOURS = {"passed": "green", "refused": "red"}
LINES_MAX = 30  # of one database; the JSON has all


def change_lines(name: str, change: Document | None) -> list[str]:
    """Lines below a heading; empty where nothing changed or nothing is known."""
    if change is None:
        return []
    lines = list(_lines(tamed(change)))
    more = [f"  … and {len(lines) - LINES_MAX} more (--json shows all)"] if len(lines) > LINES_MAX else []
    return [f"{name}: what changed", *lines[:LINES_MAX], *more] if lines else []


def _lines(change: Document) -> Iterator[str]:
    then, now = (change["schema_version"][each] for each in ("before", "after"))
    if then != now:
        yield f"  version {then['value'] if then else '?'} -> {now['value'] if now else '?'}"
    for each in change["schema"]:
        if each["before"] is not None:
            yield f"  - {_sql(each, 'before')}"
        if each["after"] is not None:
            yield f"  + {_sql(each, 'after')}"
    for each in change["tables"]:
        yield f"  {each['name']}: {_rows(each['before'])} -> {_rows(each['after'])}"
    keys = change["foreign_key_violations"]
    if keys["before"] != keys["after"]:
        yield f"  foreign-key violations: {keys['before']} -> {keys['after']}"


def _rows(count: int | None) -> str:
    if count is None:
        return "no table"
    return "? rows" if count < 0 else f"{count} row{'s' if count != 1 else ''}"


def _sql(change: Document, when: str) -> str:
    """The statement as people write it; an index that SQLite made by itself has none."""
    return _AROUND_SIGNS.sub(lambda found: found[1], change[when]) or f"{change['type']} {change['name']}"


def decisions_table(decisions: list[Document]) -> str:
    """What deploy commands decided, newest first: the newest as a sentence, then one row each, its reason below where room is scarce."""
    from rich import box  # noqa: PLC0415 - only where a person looks
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    decisions = tamed(decisions)
    newest = decisions[0]
    first = Text.assemble(
        "the newest: ", (f"{newest['kind']} {newest['decision']}", _colour(newest)), f", {newest['at']}"
    )
    if narrow():
        things: list[Any] = [first]
        for each in decisions:
            head = Text.assemble(
                each["at"],
                "  ",
                (f"{each['kind']} {each['decision']}", _colour(each)),
                "  ",
                ", ".join(each["databases"]),
            )
            receipt = [f"receipt {each['receipt']}"] if each["receipt"] else []
            things += ["", head, *labelled("", "", Text(_why(each)), *receipt)]
        return drawn(*things)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("at", "what", "decision", "databases", "reason", "receipt"):
        table.add_column(heading, overflow="fold")
    for each in decisions:
        table.add_row(
            each["at"], each["kind"], Text(each["decision"], _colour(each)), Text(", ".join(each["databases"])),
            Text(_why(each)), each["receipt"] or "",
        )  # fmt: skip
    return drawn(first, "", table)


def _colour(decision: Document) -> str:
    return _COLOURS.get(decision["decision"], "yellow")


def _why(decision: Document) -> str:
    overridden = f" (overridden: {decision['override']})" if decision["override"] else ""
    return f"{decision['reason']}{overridden}"
