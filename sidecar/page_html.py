"""HTML out of a few functions: whatever is not made by `tag` is escaped, so that forgetting to escape cannot happen.

Names, paths and what other programs say are shown as text and nothing else; characters that cannot be seen, those that turn
the writing direction among them, are written out.
"""

from __future__ import annotations

import html
from datetime import datetime

from sidecar.core.people import seconds_for_people, tame
from sidecar.core.verdict import rfc3339

TEXT_MAX = 2000  # characters of one text
VOID = frozenset({"link", "meta"})


class Html(str):
    """Markup that `tag` and its like have made."""

    __slots__ = ()


def text(value: str, limit: int = TEXT_MAX) -> Html:
    """Text for people, inert, no longer than `limit`."""
    cut = value if len(value) <= limit else value[: limit - 1] + "…"
    return Html(html.escape(tame(cut)))


def exactly(value: str) -> str:
    """A value for an attribute that is compared and never shown: whole, in valid UTF-8."""
    return value.encode(errors="backslashreplace").decode()


def tag(element: str, /, *children: str | None, **attributes: str | float | bool | None) -> Html:
    """An element. `class_` is written for `class`, `data_key` for `data-key`; None and False leave a part out."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if element in VOID:
        return Html(f"<{element}{given}>")
    return Html(f"<{element}{given}>{joined(*children)}</{element}>")


def joined(*parts: str | None) -> Html:
    """One after the other."""
    return Html("".join(each if isinstance(each, Html) else text(each) for each in parts if each is not None))


def name_of(value: str, limit: int = 300) -> Html:
    """A name or path amid other words: what it is written in does not turn what stands around it."""
    return tag("bdi", text(value, limit))


def spoken(value: str) -> Html:
    """A sentence of ours or of another program's; what stands in backticks is something to type."""
    parts = text(value).split("`")
    if len(parts) % 2 == 0:  # one is left over: they quote nothing
        return tag("bdi", text(value))
    return tag("bdi", *(tag("code", Html(each)) if number % 2 else Html(each) for number, each in enumerate(parts)))


def when(at: datetime, now: datetime) -> Html:
    """`3 min ago`, with the instant itself for whoever wants it exactly."""
    age = (now - at).total_seconds()
    if age < -1:
        spoken = f"in {seconds_for_people(-age)}"
    else:
        spoken = "just now" if age < 1 else f"{seconds_for_people(age)} ago"
    return tag("time", spoken, datetime=rfc3339(at), title=f"{at:%Y-%m-%d %H:%M:%S} UTC")
