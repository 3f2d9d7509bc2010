"""What a person sees in a terminal: the fleet as a table, what stands in the way, what to do. rich is imported late."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from sidecar.core.finding import NOT_FOUND_OUT
from sidecar.core.people import bytes_for_people, seconds_for_people, share_for_people, tame, tamed
from sidecar.core.verdict import Document

LABEL_WIDTH = 8
PIPED_WIDTH = 200
WIDE = 120  # from here on tables show every column, and times as they are

Echo = Callable[[str], bool]  # False once nobody reads any more

NAMES_MAX = 5
_ORDER = {"fail": 0, "unknown": 1, "warn": 2}
_COLOURS = {"pass": "green", "warn": "yellow", "unknown": "yellow", "fail": "red"}
_ENDED = {"passed": "passed", "failed": "failed", "inconclusive": "was inconclusive", "aborted": "was aborted"}
_OUTCOMES = {"passed": "green", "failed": "red", "inconclusive": "yellow", "aborted": "yellow"}


def terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def drawn(*things: Any) -> str:
    """Rich things as text, as wide as the terminal; plain, and every sentence on one line, where nobody looks."""
    from rich.console import Console  # noqa: PLC0415 - only where a person looks
    from rich.text import Text  # noqa: PLC0415

    out = io.StringIO()
    width = shutil.get_terminal_size((PIPED_WIDTH, 40)).columns if terminal() else PIPED_WIDTH  # whatever $COLUMNS says
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


def whole(label: str, text: str, more: str = "") -> list[str]:
    """A path or a command that somebody will copy: never broken, on a line of its own where there may be too little room."""
    text, tail = tame(text), f" ({more})" if more else ""
    if not terminal():
        return [f"{label}: {text}{tail}"]
    return [f"{label}{tail}:", text]


def narrow() -> bool:
    """Whether a person looks through a window in which wide tables would be broken up."""
    return terminal() and shutil.get_terminal_size((PIPED_WIDTH, 40)).columns < WIDE


def age(at: str | None, now: str | None) -> str:
    """`5 min ago`, between two times as documents have them."""
    if at is None or now is None:
        return "?"
    seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(at)).total_seconds()
    return f"{seconds_for_people(max(seconds, 0.0))} ago"


def fleet_table(document: Document, headline: str | None = None) -> str:
    """The /ready document: one row a database, then every finding that is not a pass, with its way out.

    Args:
        document: the body of `/ready`, or of its shape.
        headline: the word before the reason; None: READY or NOT READY.
    """
    from rich import box  # noqa: PLC0415 - only where a person looks
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    document, short = tamed(document), narrow()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("database", "ready", "lag", "snapshot", "last drill", "schema"):
        table.add_column(heading, overflow="fold")

    def at(time: str | None) -> str:
        return age(time, document["checked_at"]) if short else time or "?"

    for each in document["databases"]:
        version, snapshot = each["schema_version"], each["snapshot"]
        table.add_row(
            Text(each["name"]),
            Text("yes", "green") if each["ready"] else Text("no", "bold red"),
            Text(seconds_for_people(each["position"]["lag_seconds"])),
            Text(at(snapshot["created_at"])) if snapshot else Text("none", "yellow"),
            _last_drill(each, at),
            Text(version["value"] if version else "?"),
        )
    word = headline or ("READY" if document["ready"] else "NOT READY")
    first = Text.assemble((word, "bold green" if document["ready"] else "bold red"), "  ", document["reason"])
    findings = list(_findings(document))
    return drawn(first, *(["", table] if document["databases"] else []), *(["", *findings] if findings else []))


def _last_drill(database: Document, at: Callable[[str | None], str]) -> Any:
    """How and when it ended, and where no other was needed since, as of when that was seen."""
    from rich.text import Text  # noqa: PLC0415 - only where a person looks

    drill, stood_at = database["last_drill"], database.get("proof_stood_at")  # a daemon of before does not say
    if not drill:
        return Text("never", "yellow")
    stands = f", stands {at(stood_at)}" if stood_at else ""
    return Text(f"{drill['outcome']} {at(drill['finished_at'])}{stands}", _OUTCOMES[drill["outcome"]])


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


def history_table(drills: Sequence[tuple[str, Document]]) -> str:
    """Past drills, newest first: how the newest ended, one row each, and below them what those found that did not pass or were not compared."""
    from rich import box  # noqa: PLC0415 - only where a person looks
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drills = tamed(drills)
    passed, newest = sum(drill["outcome"] == "passed" for _, drill in drills), drills[0][1]
    first = Text.assemble(
        "the newest ",
        (_ENDED[newest["outcome"]], _OUTCOMES[newest["outcome"]]),
        f"; {passed} of {len(drills)} drill{'s' if len(drills) > 1 else ''} passed",
    )  # fmt: skip
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    more, last = ((), ()) if narrow() else (("check", "position"), ("check took",))
    for heading in ("finished", "database", "outcome", *more, "size", "restore", *last, "proven"):
        table.add_column(heading, no_wrap=heading != "database", overflow="fold")
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, drill in drills:
        table.add_row(
            drill["finished_at"], Text(name), Text(drill["outcome"], _OUTCOMES[drill["outcome"]]),
            *(drill[each] or "?" for each in more), bytes_for_people(drill["size_bytes"]),
            seconds_for_people(drill["restore_seconds"]),
            *(seconds_for_people(drill["check_seconds"]) for _ in last), _proven(drill["parity"]),
        )  # fmt: skip
        parity = drill["parity"]
        if drill.get("by_change"):
            found.setdefault((name, drill["outcome"], "a kept copy was brought forward, nothing restored"), []).append(
                drill["finished_at"]
            )
        if drill.get("verifier"):
            found.setdefault((name, drill["outcome"], f"made by {drill['verifier']}"), []).append(drill["finished_at"])
        if drill["outcome"] == "passed" and parity is not None and parity["result"] == "inconclusive":
            found.setdefault((name, "not compared", parity["message"]), []).append(drill["finished_at"])
        if drill["outcome"] != "passed":
            what = f"{drill['reason']}: {drill['message']}" if drill["reason"] else drill["message"]
            found.setdefault((name, drill["outcome"], what), []).append(drill["finished_at"])
    below = [
        Text.assemble((f"{name} {outcome}", _OUTCOMES.get(outcome, "yellow")), f" {_times(times)}: {what}")
        for (name, outcome, what), times in found.items()
    ]
    return drawn(first, "", table, *(["", *below] if below else []))


def _proven(parity: Document | None) -> str:
    """How much of the copy was proved to be what production held."""
    if parity is None:
        return "-"
    if parity["result"] == "different":
        return "pages differ"
    if parity["result"] != "equal" or not parity["pages"]:
        return "?"
    return share_for_people(parity["proven"], parity["pages"])


def _times(times: Sequence[str]) -> str:
    return times[0] if len(times) == 1 else f"{len(times)} times, last {times[0]}"


def exit_code(document: Document) -> int:
    """0 ready; 1 something is proved wrong; 3 not known. Over several databases 1 comes before 3 before 0."""
    checks = [check for each in document["databases"] for check in each["checks"]]
    if any(check["status"] == "fail" and check["reason"] not in NOT_FOUND_OUT for check in checks):
        return 1
    return 0 if document["ready"] else 3
