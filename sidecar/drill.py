"""Drills: restore the newest recovery point to scratch and ask SQLite whether it is sound.

A drill never raises for what it was sent to find. Damage is failed; anything that kept us from finding out is
inconclusive, which neither refreshes the proof nor claims damage (`drill_outcomes.py`). Where it is asked to, it compares what came back
with production, page by page (`parity.py`): a page that is not what production held is damage, not being able to compare is not.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from threading import Event
from uuid import uuid4

from sidecar.core.errors import SidecarError
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
class Driller(Equipment):
    """Drills one database at a time per call; safe to share between threads."""

    def run(self, order: Order, *, stop: Event, progress: Progress) -> Drill:
        """One drill, from plan to an empty scratch room."""
        began_s, started = self.clock.monotonic(), self.clock.now()
        deadline = began_s + order.policy.drill_timeout.total_seconds()
        blank = Drill(
            id=order.id or new_id(), outcome=Outcome.INCONCLUSIVE, reason=None, message="", hint="", position=None,
            started_at=started, finished_at=started, check=order.check, litestream_version=self.replica.version,
            accepts_shrink=order.accepts_shrink,
        )  # fmt: skip
        attempt = Attempt(self, order, blank, deadline, stop, progress)
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
        spent = attempt.spent.get
        return replace(
            attempt.drill, finished_at=self.clock.now(), took_seconds=round(self.clock.monotonic() - began_s, 4),
            plan_seconds=spent("plan"), restore_seconds=spent("restore"), check_seconds=spent("check"),
            parity_seconds=spent("parity"),
        )  # fmt: skip
