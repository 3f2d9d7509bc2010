"""Write-behind: which facts of which databases differ from what stands on disk, and which of those are due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sidecar.adapters.ledger import codec
from sidecar.adapters.ledger.folding import changed, seen_again
from sidecar.core.evidence import Evidence

# Read anew within seconds of a start; so is what a look saw again.
VOLATILE = frozenset({"live", "claim", "covered_at"})
# Half of what a claim may be old, so that whoever starts after a kill can answer by what it finds. 25 a flush, of which there is one
# every 5 to 10 s: of more than some 100 databases it takes longer, and such a start answers no until Litestream was asked, a second later.
VOLATILE_EVERY_S, VOLATILE_MAX = 30.0, 25
DATABASES_MAX = 1000  # written in one flush, so that a flush takes half a second at most; the rest follows in the next
FOLDED = "_folded"  # the stored seq of the newest drill that a database's facts contain

Row = tuple[str, str, str]  # path, fact, document
Stored = Mapping[str, tuple[Evidence, Evidence]]  # path to (evidence as it was, evidence as it stands on disk now)


class WriteBehind:
    """Not thread-safe: the ledger calls it with its memory locked, `due` excepted, which reads what it is given."""

    def __init__(self) -> None:
        self._written: dict[str, Evidence] = {}
        self._volatile_at: dict[str, float] = {}
        self._dirty: dict[str, None] = {}  # in the order in which they changed
        self._waiting: dict[str, Evidence] = {}  # of which only what is volatile is left to be written

    @property
    def dirty(self) -> tuple[str, ...]:
        """Paths whose evidence may differ from what is on disk."""
        return tuple(self._dirty)

    def touch(self, path: str) -> None:
        """This database's evidence has changed."""
        self._dirty[path] = None

    def loaded(self, path: str, evidence: Evidence) -> None:
        """This is what stands on disk."""
        self._written[path] = evidence

    def forget(self, path: str) -> None:
        """This database is gone."""
        for table in (self._written, self._volatile_at, self._dirty, self._waiting):
            table.pop(path, None)

    def due(
        self, dirty: Mapping[str, Evidence], folded: Mapping[str, int], now_s: float, *, everything: bool
    ) -> tuple[list[Row], Stored]:
        """The rows to write now, and what will stand on disk once they are."""
        rows: list[Row] = []
        stored: dict[str, tuple[Evidence, Evidence]] = {}
        left, databases = VOLATILE_MAX, 0
        for path, evidence in dirty.items():
            if databases >= DATABASES_MAX and not everything:
                break
            waited = now_s - self._volatile_at.get(path, 0.0) >= VOLATILE_EVERY_S
            if self._waiting.get(path) is evidence and not everything and not (waited and left > 0):
                continue
            before, kept = self._written.get(path), evidence
            facts = changed(codec.FACTS, before, evidence)
            volatile = (VOLATILE if before is None else VOLATILE | seen_again(before, evidence)) & facts
            if before is not None and volatile and not everything and not (waited and left > 0):
                # What is known for the first time is not kept waiting: whoever starts after a kill would know nothing of it.
                later = {fact for fact in volatile if getattr(before, fact) is not None}
                facts -= later
                kept = replace(evidence, **{fact: getattr(before, fact) for fact in later})
            elif volatile:
                left -= 1
                self._volatile_at[path] = now_s
            rows += [(path, fact, codec.text_of_fact(fact, getattr(evidence, fact))) for fact in sorted(facts)]
            databases += bool(facts)
            if facts and path in folded:
                rows.append((path, FOLDED, str(folded[path])))
            stored[path] = (evidence, kept)
        return rows, stored

    def committed(self, stored: Stored, current: Mapping[str, Evidence]) -> None:
        """The rows are on disk."""
        for path, (seen, kept) in stored.items():
            self._written[path] = kept
            if kept is seen:
                self._waiting.pop(path, None)
            else:
                self._waiting[path] = seen
            if kept is seen and current.get(path) is seen:
                self._dirty.pop(path, None)
