"""What belongs to a verifier, put together: who asks it, where sidecar.yml names one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from sidecar.adapters.ledger.codec import drill_of_text
from sidecar.assembly_tools import Tools
from sidecar.core.errors import SidecarError
from sidecar.drill_log import DrillLog
from sidecar.fleet import FleetKeeper
from sidecar.settings import Settings
from sidecar.verifier import Elsewhere, Verifier


def verifier_client(settings: Settings) -> tuple[Elsewhere, type[SidecarError]] | None:
    """Whom to ask, and the error that says it does not know a database; None where no verifier is configured."""
    asked = settings.verifier
    if asked.url is None:
        return None
    from sidecar.adapters.verifier_client import UnknownThere, VerifierClient  # noqa: PLC0415 - 16 MB, for who has one

    return VerifierClient(asked.url, drill_of_text, asked.token_file), UnknownThere


def asked_verifiers(
    kit: Tools, keeper: FleetKeeper, drills: DrillLog, wake: Callable[[], None], stack: ExitStack
) -> list[Verifier]:
    """Who asks the verifier, begun, and ended with the stack; none where none is configured."""
    found = verifier_client(kit.settings)
    if found is None:
        return []
    made = Verifier(*found, keeper, kit.ledger, drills, kit.clock, wake)
    made.start()
    stack.callback(made.close)
    return [made]
