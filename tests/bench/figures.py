"""What the benchmarks share: medians, ratios, and one way to print and keep them. Figures, never assertions."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def middle(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    return f"{middle(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def keep(name: str, figures: dict[str, Any]) -> None:
    """Print the figures as one JSON line, and write them to a file where a name was given as the first argument."""
    text = json.dumps({"bench": name, **figures})
    say(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text + "\n")
