"""Parity: what the comparison of a restored copy with production, page by page, has shown. Facts, and no opinion."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

STRONG = 0.999  # share of pages proven from which a comparison stands for a check of production itself,
FEW = 8  # or so few pages left: of a small database a writer's last pages are more than that share


class ParityResult(StrEnum):
    """Whether the copy was what production held."""

    EQUAL = "equal"
    DIFFERENT = "different"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Parity:
    """One comparison. `pages`: of the copy; `proven`: the same in production; `excused`: changed by production meanwhile.

    `different` are the first page numbers that nothing explains, `owners` the tables and indexes they belong to.
    """

    result: ParityResult
    pages: int = 0
    proven: int = 0
    excused: int = 0
    message: str = ""
    hint: str = ""
    different: tuple[int, ...] = ()
    differing: int = 0  # how many in all
    owners: tuple[str, ...] = ()
    kept: str | None = None  # folder with both versions of the first pages

    @property
    def ratio(self) -> float | None:
        """Share of pages proven, 0-1; None where nothing was compared."""
        return self.proven / self.pages if self.pages else None

    @property
    def strong(self) -> bool:
        """Whether it stands for a check of production's own content."""
        few = self.pages - self.proven <= FEW
        return self.result is ParityResult.EQUAL and (few or self.proven >= self.pages * STRONG)


def inconclusive(message: str, hint: str = "") -> Parity:
    """Nothing was found out."""
    return Parity(ParityResult.INCONCLUSIVE, message=message, hint=hint)
