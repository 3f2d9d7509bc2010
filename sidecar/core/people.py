"""Values as people read them: times and sizes with units; and names, paths and what other programs say, which may hold anything.

Nothing of what they say may command a person's terminal, or turn the text around it.
"""

from __future__ import annotations

from typing import Any


def seconds_for_people(value: float | None) -> str:
    """`20 ms`, `3 s`, `4 min`, `7 h`, `2 d`; `?` for what nobody knows."""
    if value is None:
        return "?"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    if 0 < value < 0.1:  # noqa: PLR2004 - from there on milliseconds read better
        return f"{value * 1000:.0f} ms"
    return f"{value:.0f} s" if value >= 1 or value == 0 else f"{value:.1f} s"


def bytes_for_people(value: float | None) -> str:
    """`4.2 MB`; `?` for what nobody knows."""
    if value is None:
        return "?"
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def share_for_people(part: int, whole: int) -> str:
    """`99.98%`, rounded down: `100%` only where it is all of it."""
    return f"{10_000 * part // whole / 100:g}%"


def tame(text: str) -> str:
    """The text with control characters written out, ESC as backslash, `x1b`; line ends stay."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def tamed(value: Any) -> Any:
    """A JSON-like value with every string in it tamed."""
    if isinstance(value, str):
        return tame(value)
    if isinstance(value, dict):
        return {key: tamed(each) for key, each in value.items()}
    return [tamed(each) for each in value] if isinstance(value, list | tuple) else value
