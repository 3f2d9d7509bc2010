"""Names, paths and what other programs say may hold anything: nothing of it may command a person's terminal."""

from __future__ import annotations

from typing import Any


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
