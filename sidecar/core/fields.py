"""Reads the fields of a JSON document of ours, strictly: what is missing or of another kind is named with its place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sidecar.core.errors import ReceiptError


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object and where it stands: `r.json: databases[0].rollback`. Every method raises ReceiptError."""

    document: Mapping[str, Any]
    place: str
    within: str = ""

    def text(self, name: str) -> str:
        """A string."""
        found: str = self._typed(name, str, "a text")
        return found

    def text_or_none(self, name: str) -> str | None:
        """A string, or null."""
        return None if self.document.get(name) is None else self.text(name)

    def number(self, name: str) -> int:
        """A whole number."""
        found: int = self._typed(name, int, "a whole number")
        return found

    def number_or_none(self, name: str) -> int | None:
        """A whole number, or null."""
        return None if self.document.get(name) is None else self.number(name)

    def real(self, name: str) -> float:
        """A finite number."""
        found: float = self._typed(name, (int, float), "a number")
        try:
            if math.isfinite(found):
                return float(found)
        except OverflowError:  # a whole number beyond every float
            pass
        raise self._wrong(name, "must be a number")

    def flag(self, name: str) -> bool:
        """True or false."""
        if not isinstance(found := self.document.get(name), bool):
            raise self._wrong(name, "must be true or false")
        return found

    def flag_or(self, name: str, *, default: bool) -> bool:
        """True or false; the default where it is absent or null."""
        return default if self.document.get(name) is None else self.flag(name)

    def time(self, name: str) -> datetime:
        """A time with its zone, as aware UTC."""
        text = self.text(name)
        try:
            at = datetime.fromisoformat(text)
            if at.tzinfo is None:
                raise self._wrong(name, "must name its time zone")
            return at.astimezone(UTC)
        except (ValueError, OverflowError):  # in UTC it may be beyond the years 1 to 9999
            raise self._wrong(name, "must be a time such as 2026-11-23T03:00:00Z") from None

    def numbers(self, name: str) -> dict[str, int]:
        """An object of whole numbers."""
        found = self._typed(name, dict, "an object")
        if not all(isinstance(each, int) and not isinstance(each, bool) for each in found.values()):
            raise self._wrong(name, "must hold whole numbers")
        return dict(found)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        found = self._typed(name, list, "a list")
        if not all(isinstance(each, str) for each in found):
            raise self._wrong(name, "must hold texts")
        return tuple(found)

    def texts_or_none(self, name: str) -> tuple[str, ...] | None:
        """A list of strings, or null."""
        return None if self.document.get(name) is None else self.texts(name)

    def document_at(self, name: str) -> dict[str, Any] | None:
        """An object as it is, or null."""
        return None if self.document.get(name) is None else dict(self._typed(name, dict, "an object"))

    def documents(self, name: str) -> list[dict[str, Any]]:
        """A list of objects as they are."""
        return [dict(each.document) for each in self.each(name)]

    def part(self, name: str) -> Fields:
        """An object."""
        return Fields(self._typed(name, dict, "an object"), self.place, f"{self._path(name)}.")

    def maybe(self, name: str) -> Fields | None:
        """An object, or null."""
        return None if self.document.get(name) is None else self.part(name)

    def each(self, name: str) -> Iterator[Fields]:
        """A list of objects."""
        for number, found in enumerate(self._typed(name, list, "a list")):
            place = f"{self._path(name)}[{number}]"
            if not isinstance(found, dict):
                raise ReceiptError(f"{self.place}: {place} must be an object", HINT)
            yield Fields(found, self.place, f"{place}.")

    def _typed(self, name: str, kind: type | tuple[type, ...], called: str) -> Any:
        found = self.document.get(name)
        if not isinstance(found, kind) or isinstance(found, bool):
            raise self._wrong(name, "is missing" if name not in self.document else f"must be {called}")
        return found

    def _path(self, name: str) -> str:
        return f"{self.within}{name}"

    def _wrong(self, name: str, what: str) -> ReceiptError:
        return ReceiptError(f"{self.place}: {self._path(name)} {what}", HINT)


HINT = "gate again: this document was not written by this version of the sidecar"
