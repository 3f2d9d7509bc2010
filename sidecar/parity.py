"""Compares a restored copy with production, page by page, while production goes on writing and nobody is paused.

Production is read before the restore, into fingerprints, and as of a position that is then restored: so what happens during the restore does
not matter. A page that differs all the same is excused only where Litestream's own lists say that it changed meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sidecar.core.errors import SidecarError, Unreadable
from sidecar.core.model import Database, Position
from sidecar.core.parity import Parity, ParityResult, inconclusive
from sidecar.core.parity_judging import Judged, conclude, judge
from sidecar.core.ports_pages import Fingerprints, LivePages, LocalChanges, PageKeeper, PageReader
from sidecar.parity_reading import PageReading
from sidecar.pieces import Around, NotInPieces, Pace

DIFFERING_MAX = 200_000  # pages whose difference is looked into; of another database all differ
LISTS_POLL_S = 0.1
GATHER_EVERY_S = 5.0  # Litestream keeps its local files for minutes
CONFIRMED_MAX = 64
LOOKS = 5  # until one of them is of one state
NAMED_MAX = 5  # page numbers in a sentence

log = logging.getLogger("sidecar.parity")


@dataclass(frozen=True, slots=True)
class Comparer:
    """What comparing needs of the world; safe to share between threads."""

    pages: LivePages
    changes: Callable[[Database], LocalChanges]
    fingerprints: Callable[[Path, int], AbstractContextManager[Fingerprints]]
    keeper: PageKeeper
    pace: Pace = field(default_factory=Pace)

    @contextmanager
    def begun(self, database: Database, room: Path, around: Around) -> Iterator[Comparison]:
        """Production, read; what that needs lies in `room` and goes with the block. Raises Stopped, Overdue."""
        comparison = Comparison(self, database, around)
        with contextlib.ExitStack() as opened:
            try:
                with self.pages.opened(database.path) as reader:
                    with reader.snapshot() as first:
                        page_size = first.index.page_size
                    prints = opened.enter_context(self.fingerprints(room, page_size))
                    comparison.read(reader, prints)
            except (NotInPieces, Unreadable, OSError) as error:
                comparison.obstacle = _obstacle(error)
            yield comparison


class Comparison:
    """One comparison under way, for one thread."""

    def __init__(self, house: Comparer, database: Database, around: Around) -> None:
        self._house, self._database, self._around = house, database, around
        self._log = house.changes(database)
        self._read: tuple[Fingerprints, PageReading] | None = None
        self.obstacle: Parity | None = None
        self._gathered_s = around.clock.monotonic()

    @property
    def target(self) -> Position | None:
        """The position that is to be restored, where production could be read as of one."""
        return self._read[1].target if self._read is not None and self.obstacle is None else None

    def read(self, reader: PageReader, prints: Fingerprints) -> None:
        """Production, whole. Raises NotInPieces, Unreadable, Stopped, Overdue, OSError."""
        self._read = prints, PageReading(prints, self._log, self._around, self._house.pace)
        self._read[1].read(reader)

    def told(self, stage: str, done: int, total: int | None) -> None:
        """As `ports.Progress`, while something else takes its time: lists of changes do not stay for ever."""
        now_s = self._around.clock.monotonic()
        if now_s - self._gathered_s > GATHER_EVERY_S:
            self._gathered_s = now_s
            self._log.gather()
        self._around.progress(stage, done, total)

    def conclude(self, copy: Path, position: Position, page_size: int, drill_id: str, *, newest: bool) -> Parity:
        """What the comparison says of the copy restored to `position`, which was to be the newest, or not. Raises Stopped, Overdue, OSError."""
        if self.obstacle is not None or self._read is None:
            return self.obstacle or inconclusive("production was not read")
        prints, reading = self._read
        if page_size != prints.page_size:
            return inconclusive(
                f"production has pages of {prints.page_size} bytes, the copy of {page_size}", "see the check `identity`"
            )
        pages = copy.stat().st_size // page_size
        differing, many = self._differing(prints, reading, copy, pages)
        judged = self._judged(reading, differing, position)
        if many > DIFFERING_MAX and not judged.unexplained:
            judged = replace(judged, unknown=judged.unknown + many - DIFFERING_MAX)
        found = conclude(pages, many, judged)
        if found.result is ParityResult.DIFFERENT:
            return self._confirmed(found, judged, copy, drill_id)
        return self._not_behind(found, position) if newest and found.result is ParityResult.EQUAL else found

    def _not_behind(self, found: Parity, position: Position) -> Parity:
        """The same, unless the copy is older than what Litestream had captured: it proves nothing of the rest."""
        target = self.target
        if target is None or target.txid is None or target == position or not target.covers(position):
            return found
        return replace(
            found,
            result=ParityResult.INCONCLUSIVE,
            message=f"Litestream had captured {target}, and the replica led to {position} only; of that, {found.message}",
            hint="see the checks `lag` and `replica`: Litestream is slow to send it, or a file of the replica is gone",
        )

    def _differing(
        self, prints: Fingerprints, reading: PageReading, copy: Path, pages: int
    ) -> tuple[dict[int, set[int]], int]:
        """Differing pages by reading, those past the copy's end that production had among them; and how many of the copy's differ."""
        found: dict[int, set[int]] = {}
        many = 0
        for page, number in prints.differing(copy):
            many += 1
            if many <= DIFFERING_MAX:
                found.setdefault(number, set()).add(page)
            self._around.pause(0)
        past = 0
        for first, numbers in prints.all_readings(pages + 1):
            for place, number in enumerate(numbers):
                past += 1
                if reading.means(number) and past <= DIFFERING_MAX:
                    found.setdefault(number, set()).add(first + place)
        return found, many

    def _judged(self, reading: PageReading, differing: dict[int, set[int]], position: Position) -> Judged:
        """Judge them, once Litestream has captured past everything that was read."""
        clock = self._around.clock
        ends_s = clock.monotonic() + (self._house.pace.lists_s if differing else 0)
        while True:
            changes = self._log.gather(since=position)
            judged = judge(differing, reading.read_at(changes), changes, changes.stands_at(position))
            if not judged.unknown or clock.monotonic() >= ends_s:
                return judged
            self._around.pause(LISTS_POLL_S)

    def _confirmed(self, found: Parity, judged: Judged, copy: Path, drill_id: str) -> Parity:
        """Look at production once more before saying so, name what the pages belong to, and keep both versions of the first ones."""
        keeper, pages = self._house.keeper, judged.unexplained[:CONFIRMED_MAX]
        now: dict[int, bytes | None] = {}
        try:
            with self._house.pages.opened(self._database.path) as reader:
                now = _look(reader, pages)
        except (Unreadable, OSError) as error:
            log.warning("%s: a second look: %s", self._database.name, _obstacle(error).message)
        same = {page for page in pages if (held := now.get(page)) is not None and keeper.is_in(copy, page, held)}
        if len(same) == len(pages):
            return inconclusive(
                f"{len(judged.unexplained)} pages differed when production was read, and are the same now",
                "look at the next comparison; if it happens again, report it",
            )
        kept = keeper.keep(
            drill_id, copy, {page: held for page, held in now.items() if page not in same and held is not None}
        )
        around = self._around
        owners = keeper.owners(copy, judged.unexplained, timeout_s=around.left_s(), stop=around.stop)
        shown = ", ".join(str(page) for page in found.different[:NAMED_MAX])
        more = ", …" if found.differing > NAMED_MAX else ""
        belongs = f" ({', '.join(owners)})" if owners else ""
        return replace(found, owners=owners, kept=kept, message=f"{found.message}: {shown}{more}{belongs}")


def _look(reader: PageReader, pages: Collection[int]) -> dict[int, bytes | None]:
    """Some pages as they are now; none where the WAL was begun anew each time. Raises Unreadable, OSError."""
    for _ in range(LOOKS):
        with reader.snapshot() as snapshot:
            found = dict(snapshot.older(pages, snapshot.index.max_frame))
            if snapshot.intact():
                return found
    return {}


def _obstacle(error: SidecarError | OSError) -> Parity:
    if isinstance(error, SidecarError):
        return inconclusive(f"production could not be read page by page: {error.message}", error.hint)
    return inconclusive(
        f"production could not be read page by page: {error.strerror or error}", "check the sidecar's log"
    )
