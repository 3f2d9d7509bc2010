"""A configuration file as a tree that knows its lines, so that every mistake can name the place it stands in.

Built from PyYAML's nodes by their shape alone: no YAML library is imported here, and the text of every scalar stays
as it was written, because Litestream reads `0123` as text where it wants text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

_PLAIN = re.compile(r"[A-Za-z0-9_+.-]*[A-Za-z0-9]")
_ESCAPES = {'"': '\\"', "\\": "\\\\"}
_FIRST_PRINTABLE, _LAST_PRINTABLE, _LAST_OF_FOUR_DIGITS = 0x20, 0x7E, 0xFFFF
_QUOTED = re.compile(r"'(?!<)[^']{4,}'")
VALUES_MAX = 1_000_000  # of a file, each use of an anchor counted: a fleet of 10,000 databases has a fifth of that
MERGE_TAG = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as written. `tag` is YAML's guess: str, int, float, bool, null, timestamp."""

    text: str
    tag: str
    line: int
    plain: bool = False

    @property
    def value(self) -> str | int | float | bool | None:
        """The value where YAML's guess is safe; text otherwise (`12:30` is a time of day, not 750)."""
        if self.tag == "null":
            return None
        if self.tag == "bool":
            return self.text.lower() in {"true", "yes", "on"}
        try:
            if self.tag == "int":
                return int(self.text)
            if self.tag == "float":
                return float(self.text)
        except ValueError:
            return self.text
        return self.text


@dataclass(frozen=True, slots=True)
class Items:
    """A YAML sequence."""

    items: tuple[Tree, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Table:
    """A YAML mapping; merge keys resolved, a repeated key keeps its last value and stands in `repeated`."""

    entries: Mapping[str, Tree]
    lines: Mapping[str, int]  # where each key stands
    line: int
    repeated: tuple[str, ...] = ()

    def get(self, key: str) -> Tree | None:
        """The value of a key; None where it is absent or null."""
        found = self.entries.get(key)
        return None if isinstance(found, Scalar) and found.tag == "null" else found

    def text(self, key: str) -> str:
        """The text of a scalar; empty where it is absent, null or not a scalar."""
        found = self.get(key)
        return found.text if isinstance(found, Scalar) else ""

    def table(self, key: str) -> Table:
        """The mapping under a key; an empty one where there is none."""
        found = self.get(key)
        return found if isinstance(found, Table) else Table({}, {}, self.line_of(key))

    def items(self, key: str) -> tuple[Tree, ...]:
        """The sequence under a key; empty where there is none."""
        found = self.get(key)
        return found.items if isinstance(found, Items) else ()

    def line_of(self, key: str) -> int:
        """The line a key stands in; the mapping's own where it is absent."""
        return self.lines.get(key, self.line)


Tree: TypeAlias = Scalar | Items | Table


class Unbuildable(ValueError):
    """YAML that is no tree of a bearable size; the message is a sentence."""


def of_node(node: Any) -> Tree:
    """The tree of a PyYAML node (anything with `tag`, `value` and `start_mark`). Raises Unbuildable."""
    return _Builder().build(node)


def without_quotes(problem: str) -> str:
    """PyYAML's sentence about a mistake, without the words that it quotes of the file: `*hunter2` may be a password."""
    return _QUOTED.sub("'…'", problem)


class _Builder:
    """An anchor is built once however often it is used; one within itself is refused, and so are anchors that multiply."""

    def __init__(self) -> None:
        self._built: dict[int, tuple[Tree, int] | None] = {}
        self._values = 0  # in the trees built so far, as whoever walks all of them would count

    def build(self, node: Any) -> Tree:
        key, before = id(node), self._values
        if key in self._built:
            known = self._built[key]
            if known is None:
                raise Unbuildable("an anchor refers to itself")
            made, values = known
            self._values += values
        else:
            self._built[key] = None
            self._values += 1
            made = self._make(node)
            self._built[key] = made, self._values - before
        if self._values > VALUES_MAX:
            raise Unbuildable(f"it holds more than {VALUES_MAX} values, each use of an anchor counted")
        return made

    def _make(self, node: Any) -> Tree:
        line = node.start_mark.line + 1
        if isinstance(node.value, str):
            tag = str(node.tag).rsplit(":", 1)[-1]
            return Scalar(node.value, tag, line, plain=node.style in {None, ""})
        if node.value and not isinstance(node.value[0], tuple):
            return Items(tuple(self.build(each) for each in node.value), line)
        if str(node.tag).endswith(":seq"):
            return Items((), line)
        return self._table(node, line)

    def _table(self, node: Any, line: int) -> Table:
        entries: dict[str, Tree] = {}
        lines: dict[str, int] = {}
        merged: list[Table] = []
        repeated = []
        for key_node, value_node in node.value:
            value = self.build(value_node)
            if key_node.tag == MERGE_TAG:
                parts = value.items if isinstance(value, Items) else (value,)
                merged.extend(part for part in parts if isinstance(part, Table))
                continue
            key = key_node.value if isinstance(key_node.value, str) else "?"
            if key in entries:
                repeated.append(key)
            entries[key], lines[key] = value, key_node.start_mark.line + 1
        for part in merged:
            for key, value in part.entries.items():
                if key not in entries:
                    entries[key], lines[key] = value, part.lines[key]
        return Table(entries, lines, line, tuple(repeated))


def dump(tree: Tree) -> str:
    """YAML of a tree on one line, in flow style; what was plain and simple stays plain, so that its type stays."""
    if isinstance(tree, Table):
        return "{" + ", ".join(f"{_quote(key)}: {dump(value)}" for key, value in tree.entries.items()) + "}"
    if isinstance(tree, Items):
        return "[" + ", ".join(dump(each) for each in tree.items) + "]"
    if tree.tag == "null":
        return "null"
    return tree.text if tree.plain and _PLAIN.fullmatch(tree.text) else _quote(tree.text)


def table(entries: Mapping[str, Tree]) -> Table:
    """A mapping that stands in no file."""
    return Table(entries, {}, 0)


def items(*each: Tree) -> Items:
    """A sequence that stands in no file."""
    return Items(each, 0)


def text(value: str) -> Scalar:
    """A text that stands in no file."""
    return Scalar(value, "str", 0)


def _quote(value: str) -> str:
    return '"' + "".join(_escape(char) for char in value) + '"'


def _escape(char: str) -> str:
    """YAML 1.1 double-quoted escapes: anything that is not printable ASCII by its number."""
    code = ord(char)
    if char in _ESCAPES:
        return _ESCAPES[char]
    if _FIRST_PRINTABLE <= code <= _LAST_PRINTABLE:
        return char
    return f"\\u{code:04x}" if code <= _LAST_OF_FOUR_DIGITS else f"\\U{code:08x}"
