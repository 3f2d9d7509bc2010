"""Removes kept copies that no database of the fleet wants any more: it went, has another replica, or its policy keeps none."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from sidecar.core.model import Database
from sidecar.fleet import Fleet, FleetKeeper

log = logging.getLogger("sidecar.drill")


class Copies(Protocol):
    """What is kept."""

    def only(self, databases: Iterable[Database]) -> int:
        """Remove the copies of all others; how many went."""
        ...


class Tidying:
    """For the loop's thread.

    Args:
        keeper: the fleet in force.
        kept: the copies.
    """

    def __init__(self, keeper: FleetKeeper, kept: Copies) -> None:
        self._keeper, self._kept = keeper, kept
        self._tidied: Fleet | None = None

    def turned(self) -> None:
        """Once for every fleet."""
        fleet = self._keeper.fleet
        if fleet is self._tidied:
            return
        self._tidied = fleet
        going = self._kept.only(each for path, each in fleet.databases.items() if fleet.policies[path].counts_by_change)
        if going:
            log.info("%d kept copies removed, which no database here is drilled with any more", going)
