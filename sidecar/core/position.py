"""Positions as people and receipts write them: 16 hex digits (0.5), or `generation/index:offset` (0.3)."""

from __future__ import annotations

import re

from sidecar.core.model import Position

_V3 = re.compile(r"([0-9a-f]{16})/([0-9a-f]{8}):(\d+)")
_TXID = re.compile(r"[0-9a-f]{16}")


def position(text: str) -> Position:
    """The position of its spelling. Raises ValueError with a sentence."""
    found = _V3.fullmatch(text)
    if found is not None:
        return Position(found[1], int(found[2], 16), int(found[3]))
    if _TXID.fullmatch(text):
        return Position.of_txid(int(text, 16))
    raise ValueError(f"`{text}` is no position; write 16 hex digits like 000000000000002a, or generation/index:offset")
