"""What one listing of a replica brought for a look: Litestream's command's, or a shorter way's to the same files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sidecar.core.model import ReplicaFile


@dataclass(frozen=True, slots=True)
class Listed:
    """The files of one replica. `read_at` is the instant just before this listing began, which may be before it was asked for."""

    read_at: datetime
    files: tuple[ReplicaFile, ...]
