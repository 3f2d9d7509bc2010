"""Judges pages that differ: only one that nothing explains says that the backup is not what production held.

A page is excused where Litestream's own files list it as changed between the two states, unexplained where they list everything else,
and cannot be judged where such a file is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sidecar.core.changes import Bounds, Changes, may_have_changed
from sidecar.core.parity import Parity, ParityResult

SHOWN_MAX = 20  # page numbers that are named
HALF = 0.5  # below it nothing was shown: the comparison is not conclusive


@dataclass(frozen=True, slots=True)
class Judged:
    """What stands behind pages that differ; the rest of them are excused."""

    unexplained: tuple[int, ...]
    unknown: int  # a list of changes is missing


def judge(
    differing: Mapping[int, set[int]], read_at: Mapping[int, Bounds | None], changes: Changes, copy: Bounds | None
) -> Judged:
    """Hold differing pages, by the number of the reading that found them, against what changed between it and the copy's state.

    None: where that stands is not known.
    """
    unexplained: list[int] = []
    unknown = 0
    for reading, pages in differing.items():
        bounds = read_at.get(reading)
        between = changes.between(bounds, copy) if bounds is not None and copy is not None else None
        if between is None:
            unknown += len(pages)
            continue
        unexplained += pages - may_have_changed(between, pages)
    return Judged(tuple(sorted(unexplained)), unknown)


def conclude(pages: int, differing: int, judged: Judged) -> Parity:
    """What the comparison of a copy of so many pages says; `differing` of them were not the same."""
    proven, many = pages - differing, len(judged.unexplained)
    excused = max(differing - judged.unknown - sum(page <= pages for page in judged.unexplained), 0)
    counted = Parity(ParityResult.INCONCLUSIVE, pages, proven, excused)
    if judged.unexplained:
        return replace(
            counted, result=ParityResult.DIFFERENT, differing=many, different=judged.unexplained[:SHOWN_MAX],
            message=f"{many} of {pages} pages are not what production held, and nothing changed them meanwhile",
            hint="keep the replica for inspection; if production is right, give Litestream a new, empty path for this replica and "
            "restart it: it takes a snapshot there at once (neither a restart nor `litestream reset` alone mends it)",
        )  # fmt: skip
    if judged.unknown:
        return replace(
            counted,
            message=f"{judged.unknown} pages differ, and what changed meanwhile is not known: a file of Litestream's "
            "local folder is missing, or was not written in time",
            hint="check that Litestream runs, that its folder beside the database can be read, and that l0-retention is 5m or longer",
        )  # fmt: skip
    if proven < pages * HALF:
        return replace(
            counted,
            message=f"only {proven} of {pages} pages could be compared: the others changed meanwhile",
            hint="compare when less is written; where the app checkpoints by itself, leave that to Litestream",
        )  # fmt: skip
    found = replace(counted, result=ParityResult.EQUAL)
    weak = "" if found.strong else ", a weak proof"
    changed = f"; {excused} changed meanwhile{weak}" if excused else ""
    return replace(found, message=f"{proven} of {pages} pages are what production held{changed}")
