"""A rehearsal as a person reads it in a terminal: the verdict, what would happen, what stands against it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

from sidecar.commands.render import drawn, labelled
from sidecar.core.people import bytes_for_people, tamed
from sidecar.core.rehearsal import spelled
from sidecar.core.verdict import Document

HEADLINES = {
    "held": ("WOULD HOLD", "bold green"),
    "failed": ("WOULD FAIL", "bold red"),
    "unknown": ("COULD NOT TELL", "bold yellow"),
}
SCHEMA_LINES_MAX = 40
TABLES_MAX = 20
SQL_SHOWN_MAX = 200
_STATUS_STYLE = {"warn": "yellow", "unknown": "yellow", "fail": "red"}
_ORDER = {"fail": 0, "unknown": 1, "warn": 2}


def report(document: Document) -> str:
    """The document of `rehearse --json` for people."""
    from rich.text import Text  # noqa: PLC0415 - only where a person looks

    document = tamed(document)
    word, style = HEADLINES[document["outcome"]]
    things: list[Any] = [Text.assemble((word, style), "  ", document["reason"]), ""]
    for label, text, *more in _facts(document):
        things += labelled(label, "bold", Text(text), *more)
    checks = [each for each in document["checks"] if each["status"] != "pass"]
    if checks:
        things.append("")
    for each in sorted(checks, key=lambda each: _ORDER[each["status"]]):
        line = Text.assemble((each["name"], "bold"), f" ({each['reason']}): {each['message']}")
        hints = [f"try: {each['hint']}"] if each["hint"] else []
        things += labelled(each["status"], _STATUS_STYLE[each["status"]], line, *hints)
    return drawn(*things)


def _facts(document: Document) -> Iterator[tuple[str, ...]]:
    command, seen = document["command"], document["measured"]
    before, after = document["before"], document["after"]
    yield "backup", f"restored {document['drill']['position']} and found it sound"
    how = "killed at its time-out" if command["timed_out"] else command["signal"] or f"exit code {command['exit_code']}"
    yield "command", f"{spelled(command['seconds'])}, {how}"
    held = seen["write_lock_longest_seconds"]
    yield (
        "lock",
        f"held {spelled(held)} at the longest: as long would the app wait to write" if held else "never seen held",
    )
    written = f"{bytes_for_people(seen['wal_written_bytes'])} written in {_several(seen['commits'], 'commit')}"
    largest = f", the largest {bytes_for_people(seen['largest_transaction_bytes'])}"
    yield "wal", written + largest if seen["commits"] else "nothing written"
    pages = seen["pages_changed"]
    differ = f"; {_several(pages, 'page')} changed" if pages is not None else ""
    yield (
        "size",
        f"{bytes_for_people(before['size_bytes'])} before, {bytes_for_people(after['size_bytes'])} after{differ}",
    )
    if document["changes"] is not None:
        yield from _schema(document["changes"])
        yield from _rows(document["changes"])


def _schema(changes: Document) -> Iterator[tuple[str, ...]]:
    old, new = (changes["schema_version"][each] for each in ("before", "after"))
    then, now = (each["value"] if each is not None else "unknown" for each in (old, new))
    version = f"version {then} before and after" if then == now else f"version {then} before, {now} after"
    lines = [line for each in changes["schema"] for line in _object(each)]
    cut = [f"and {len(lines) - SCHEMA_LINES_MAX} more lines (--json has all)"] if len(lines) > SCHEMA_LINES_MAX else []
    yield "schema", version, *lines[:SCHEMA_LINES_MAX], *cut


def _object(change: Document) -> Iterator[str]:
    """A new or a gone object whole; of a changed one only the parts that differ."""
    before, after = change["before"], change["after"]
    if before is None or after is None:
        yield f"{'+' if before is None else '-'} {_short(after or before)}"
        return
    yield f"  {change['type']} {change['name']}:"
    old, new = _parts(before), _parts(after)
    for what, a, b, c, d in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if what != "equal":
            yield from (f"-   {_short(each)}" for each in old[a:b])
            yield from (f"+   {_short(each)}" for each in new[c:d])


def _parts(sql: str) -> list[str]:
    """A statement cut at its commas, the brackets around its columns taken off."""
    head, bracket, body = sql.partition(" ( ")
    inner, _, tail = body.rpartition(" )")
    return [head, *re.split(r" , ", inner), tail] if bracket else [sql]


def _short(sql: str) -> str:
    return sql if len(sql) <= SQL_SHOWN_MAX else sql[: SQL_SHOWN_MAX - 1] + "…"


def _rows(changes: Document) -> Iterator[tuple[str, ...]]:
    tables = changes["tables"]
    lines = [_table(each) for each in tables[:TABLES_MAX]]
    if len(tables) > TABLES_MAX:
        lines.append(f"and {len(tables) - TABLES_MAX} more tables (--json has all)")
    lines += [f"{each['name']}: not compared: {each['why']}" for each in changes["rows_not_compared"][:TABLES_MAX]]
    unseen = changes.get("rows_note") or "rows could not be compared"
    note = "" if changes["rows_compared"] else f" (only counted: {unseen})"
    yield (
        "rows",
        ("no table changed" if not tables else f"{len(tables)} table{'s' if len(tables) > 1 else ''} changed") + note,
        *lines,
    )


def _table(table: Document) -> str:
    name, before, after = table["name"], table["before"], table["after"]
    if before is None:
        return f"{name}: new, {_several(after, 'row')}"
    if after is None:
        return f"{name}: gone with its {_several(before, 'row')}"
    told = [f"{table[each]} {each}" for each in ("inserted", "deleted", "updated") if table[each]]
    return f"{name}: {_several(before, 'row')} before, {after} after" + (f" ({', '.join(told)})" if told else "")


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
