"""Go's own rules for text that Litestream takes over unchanged: `$VAR`, durations, file patterns and clean paths.

Read as Go would read it, or a database is watched under another path than the one Litestream writes to. Sources: the Go
standard library's `os.Expand`, `time.ParseDuration`, `path/filepath.Match` and `path.Clean`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from fractions import Fraction

_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|(\{)|([*#$@!?\-0-9]|[A-Za-z_][A-Za-z0-9_]*))")
_DURATION = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


NANOSECONDS_MAX = (1 << 63) - 1  # Go's durations are 64 bits wide: 292 years


def expand(text: str, lookup: Callable[[str], str | None]) -> tuple[str, tuple[str, ...]]:
    """Replace `$X` and `${X}` as `os.Expand` does: unset is empty, `$$` is no escape, `${}` vanishes.

    Returns:
        The text, and the names that were used but are not set, in order, those in YAML comments left out.
    """
    unset: dict[str, None] = {}
    comments = _Comments(text)

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        if not name:
            return ""  # `${}` or a `${` that is never closed: Go eats the characters
        found = lookup(name)
        if found is None and not comments.hold(match.start()):
            unset[name] = None
        return found or ""

    return _VARIABLE.sub(value, text), tuple(unset)


class _Comments:
    """Where the comments of a YAML text stand. Asked from its beginning to its end, it reads each line once, however long."""

    def __init__(self, text: str) -> None:
        self._text, self._end, self._begins = text, -1, -1  # of the line last asked about, and of its comment

    def hold(self, at: int) -> bool:
        if at > self._end:
            begin, end = self._text.rfind("\n", 0, at) + 1, self._text.find("\n", at)
            self._end = self._begins = len(self._text) if end < 0 else end
            line = self._text[begin : self._end]
            mark = re.search(r"(?:^|\s)#", line)
            if mark is not None and all(line[: mark.start()].count(quote) % 2 == 0 for quote in "\"'"):
                self._begins = begin + mark.start()
        return at > self._begins


def duration(text: str) -> int:
    """Nanoseconds of a Go duration such as `1h30m` or `-1.5s`. Raises ValueError."""
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if body == "0":
        return 0
    total, at = Fraction(0), 0
    while at < len(body):
        part = _DURATION.match(body, at)
        if part is None or not (part[1] or part[2]):
            raise ValueError(text)
        total += Fraction(f"{part[1] or 0}.{part[2] or 0}") * _NANOSECONDS[part[3]]
        at = part.end()
    if not body:
        raise ValueError(text)
    if total > NANOSECONDS_MAX:
        raise ValueError(text)
    return sign * int(total)


def pattern(glob: str) -> re.Pattern[str]:
    """The regular expression of a `filepath.Match` pattern: `*`, `?`, `[a-z]`, `[^a]`, backslash. Raises ValueError."""
    parts: list[str] = []
    at = 0
    while at < len(glob):
        char = glob[at]
        if char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[":
            group, at = _class(glob, at + 1)
            parts.append(group)
            continue
        else:
            char, at = _escaped(glob, at, plain=True)
            parts.append(re.escape(char))
            continue
        at += 1
    return re.compile("".join(parts), re.DOTALL)


def _class(glob: str, at: int) -> tuple[str, int]:
    negated = glob.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while True:
        if glob.startswith("]", at) and ranges:
            break
        low, at = _escaped(glob, at)
        high = low
        if glob.startswith("-", at):
            high, at = _escaped(glob, at + 1)
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    body = "".join(ranges)
    if not body:
        return ("." if negated else "(?!)"), at + 1  # only ranges like z-a, which hold nothing
    return f"[{'^' if negated else ''}{body}]", at + 1


def _escaped(glob: str, at: int, *, plain: bool = False) -> tuple[str, int]:
    """One character and the place after it; inside a class `-` and `]` must be escaped."""
    if at >= len(glob) or (glob[at] in "-]" and not plain):
        raise ValueError(glob)
    if glob[at] == "\\":
        at += 1
        if at >= len(glob):
            raise ValueError(glob)
    return glob[at], at + 1


def clean(path: str) -> str:
    """`path.Clean`: no `.`, `..` or doubled slashes; `.` for nothing."""
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("//") else cleaned


def join(*parts: str) -> str:
    """`path.Join`: empty parts are ignored, an absolute second part stays below the first."""
    given = [part for part in parts if part]
    return clean("/".join(given)) if given else ""


def absolute(path: str, cwd: str) -> str:
    """`filepath.Abs` in a given working directory."""
    return clean(path) if path.startswith("/") else join(cwd, path)
