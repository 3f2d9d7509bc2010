"""Whom to ask about Litestream: its control socket first, its metrics where there is none or where it stays shut."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from sidecar.core.model import Claim, ClaimSource, Database
from sidecar.core.ports import Clock

SECOND_QUESTION_S = (
    1.0  # metrics are asked as well only when the socket refused within this; the whole stays under 3.5 s
)


class Witness(Protocol):
    """Somebody who can be asked about all databases at once; never raises."""

    def read(self, databases: tuple[Database, ...]) -> dict[str, Claim]:
        """Path to claim."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class LitestreamClaims:
    """Satisfies `core.ports.Claims` with one or two witnesses, or none."""

    def __init__(self, *, socket: Witness | None, metrics: Witness | None, clock: Clock) -> None:
        self._socket, self._metrics, self._clock = socket, metrics, clock

    def read(self, databases: tuple[Database, ...]) -> dict[str, Claim]:
        """A claim for every database in reach, within about 3 s; `ClaimSource.NONE` where nobody can be asked."""
        databases = tuple(database for database in databases if database.in_reach)
        started = self._clock.monotonic()
        if self._socket is None:
            if self._metrics is not None:
                return self._metrics.read(databases)
            nobody = Claim(self._clock.now(), ClaimSource.NONE)
            return {database.path: nobody for database in databases}
        claims = self._socket.read(databases)
        refused = bool(claims) and not any(claim.up for claim in claims.values())
        if self._metrics is None or not refused or self._clock.monotonic() - started > SECOND_QUESTION_S:
            return claims
        # A socket that is shut for us (another user's, or 0.3, which has none) says nothing about Litestream itself.
        second = self._metrics.read(databases)
        return {
            path: replace(second[path], error=claim.error) if second[path].up else claim
            for path, claim in claims.items()
        }

    def close(self) -> None:
        """Close both connections."""
        for witness in (self._socket, self._metrics):
            if witness is not None:
                witness.close()
