"""Drills: restore the newest recovery point to scratch and ask SQLite whether it is sound.

A drill never raises for what it was sent to find. Damage is failed; anything that kept us from finding out is
inconclusive, which neither refreshes the proof nor claims damage (`drill_outcomes.py`). Where it is asked to, it compares what came back
with production, page by page (`parity.py`): a page that is not what production held is damage, not being able to compare is not.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event
from uuid import uuid4

from sidecar.core.errors import SidecarError, Stopped
from sidecar.core.finding import Reason
from sidecar.core.model import Drill, Outcome
from sidecar.core.ports import Progress
from sidecar.drill_attempt import Attempt, Equipment, Order
from sidecar.drill_outcomes import Found, concluded, kept_out

log = logging.getLogger("sidecar.drill")


def new_id() -> str:
    """A drill's id."""
    return uuid4().hex[:12]


@dataclass(frozen=True, slots=True)
class _Began:
    """When a drill began, by both clocks."""

    at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Driller(Equipment):
    """Drills one database at a time per call; safe to share between threads."""

    def run(self, order: Order, *, stop: Event, progress: Progress) -> Drill:
        """One drill, from plan to an empty scratch room. By change where it may be; whatever that finds, a restore judges."""
        began = self._beginning()
        if order.by_change and self.forwarder is not None and self.forwarder.may(order.database):
            drill = self._by_change(order, began, stop, progress)
            if drill is not None:
                return drill
        attempt = self._attempt(order, began, stop, progress, by_change=False)
        try:
            attempt.run()
        except (Found, SidecarError) as error:
            attempt.drill = concluded(attempt.drill, error)
        except OSError as error:
            attempt.drill = kept_out(attempt.drill, error)
        except Exception as error:  # what nobody foresaw must not be drilled again and again without a trace
            log.exception("a drill failed in a way that nobody foresaw")
            attempt.drill = replace(
                attempt.drill,
                reason=Reason.RESTORE_FAILED.value,
                message=f"the drill itself failed: {type(error).__name__}",
                hint="look at the sidecar's log, and report it",
            )
        return self._ended(attempt, began)

    def _by_change(self, order: Order, began: _Began, stop: Event, progress: Progress) -> Drill | None:
        """A passed drill, or one that was stopped; None: the whole is to be restored."""
        attempt = self._attempt(order, began, stop, progress, by_change=True)
        try:
            attempt.run()
        except Stopped as error:
            attempt.drill = concluded(attempt.drill, error)
        except (Found, SidecarError) as error:
            log.info(
                "%s: a kept copy was not brought forward, the whole is restored: %s", order.database.name, error.message
            )
            return None
        except Exception as error:  # noqa: BLE001 - whatever it was, a restore tells
            log.info(
                "%s: a kept copy was not brought forward, the whole is restored: %s",
                order.database.name,
                type(error).__name__,
            )
            return None
        return self._ended(attempt, began)

    def _beginning(self) -> _Began:
        return _Began(self.clock.now(), self.clock.monotonic())

    def _attempt(self, order: Order, began: _Began, stop: Event, progress: Progress, *, by_change: bool) -> Attempt:
        blank = Drill(
            id=order.id or new_id(), outcome=Outcome.INCONCLUSIVE, reason=None, message="", hint="", position=None,
            started_at=began.at, finished_at=began.at, check=order.check, litestream_version=self.replica.version,
            accepts_shrink=order.accepts_shrink, by_change=by_change,
        )  # fmt: skip
        return Attempt(self, order, blank, began.seconds + order.policy.drill_timeout.total_seconds(), stop, progress)

    def _ended(self, attempt: Attempt, began: _Began) -> Drill:
        spent, by_change = attempt.spent.get, attempt.drill.by_change
        return replace(
            attempt.drill, finished_at=self.clock.now(), took_seconds=round(self.clock.monotonic() - began.seconds, 4),
            plan_seconds=spent("plan"), check_seconds=spent("check"), parity_seconds=spent("parity"),
            restore_seconds=None if by_change else spent("restore"), apply_seconds=spent("restore") if by_change else None,
        )  # fmt: skip
