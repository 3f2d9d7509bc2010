"""What a person may say on the command line or in the environment, before any file is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options common to all commands (CONTRACT 1); None: not given."""

    litestream_config: Path
    config: Path | None = None
    state_dir: Path | None = None
    listen: str | None = None
    log_format: str = "console"
    log_level: str = "info"
