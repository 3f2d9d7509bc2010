"""The status page's tools: past deploys from the book and the shelf, with the receipts that lie in their default place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sidecar.adapters.ledger import Deploys
from sidecar.adapters.shelf import Shelf
from sidecar.answers import Answers
from sidecar.assembly_road import daemon_shelf
from sidecar.core.receipt import Kept
from sidecar.page_facts import Gatherer
from sidecar.settings import Settings
from sidecar.trace import LagTrace
from sidecar.web_page import PageRoute


@dataclass(frozen=True, slots=True)
class PastDeploys:
    """Satisfies `page_facts.Past`."""

    book: Deploys
    shelf: Shelf
    receipts: Path  # where `gate` writes them unless told otherwise

    def newest(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """As the book's."""
        return self.book.newest(limit)

    def kept(self) -> Sequence[Kept]:
        """As the shelf's, with their receipts."""
        return [replace(each, receipt=self._receipt(each.receipt_id)) for each in self.shelf.kept()]

    def _receipt(self, receipt_id: str) -> str | None:
        file = self.receipts / f"{receipt_id}.json"
        return str(file) if file.exists() else None


def status_page(
    answers: Answers, book: Deploys, settings: Settings, trace: LagTrace, alive: Callable[[], bool]
) -> PageRoute:
    """The route `/`."""
    past = PastDeploys(book, daemon_shelf(settings), settings.state_dir / "receipts")
    return PageRoute(answers, Gatherer(answers, past, trace.curve, alive))


def in_turn(*calls: Callable[[], None]) -> Callable[[], None]:
    """One call for several."""

    def call_all() -> None:
        for each in calls:
            each()

    return call_all
