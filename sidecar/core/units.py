"""Durations, sizes and shares as people write them in sidecar.yml: `1h30m`, `7d`, `10GiB`, `50%`.

Durations are Litestream's plus `d`. Every refusal is a sentence that shows what to write instead.
"""

from __future__ import annotations

import re
from datetime import timedelta

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)B?", re.IGNORECASE)
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
DAYS_MAX = 36500  # a hundred years: beyond it a duration is a slip, and timedelta soon overflows
PERCENT_MAX = 100
SIZE_MAX = 1 << 62  # four exbibytes
LENGTH_MAX = 64  # characters of a duration: what is longer is no duration, and would stand whole in a sentence


def duration(text: str) -> timedelta:
    """A duration such as `30s`, `5m`, `1h30m`, `26h`, `7d`. Raises ValueError with a sentence."""
    if len(text) > LENGTH_MAX:
        raise ValueError(f"a duration is no longer than {LENGTH_MAX} characters")
    body = text.strip()
    parts = list(_PART.finditer(body))
    if not parts or "".join(part[0] for part in parts) != body:
        raise ValueError(f"`{text}` is not a duration; write one like `30s`, `5m`, `1h30m` or `7d`")
    seconds = sum(float(part[1]) * _SECONDS[part[2]] for part in parts)
    if seconds > DAYS_MAX * 86400:
        raise ValueError(f"`{text}` is longer than a hundred years")
    return timedelta(seconds=seconds)


def size(text: str) -> int:
    """Bytes of a size such as `500MB` (powers of 1000) or `10GiB` (of 1024). Raises ValueError with a sentence."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"`{text}` is not a size; write one like `500MB` or `10GiB`")
    bytes_ = float(match[1]) * (1024 if match[3] else 1000) ** _POWER[match[2].upper()]
    if bytes_ > SIZE_MAX:
        raise ValueError(f"`{text}` is more than any disk holds")
    return int(bytes_)


def share(text: str) -> float:
    """A share between 0 and 1 from `50%` or `0.5`. Raises ValueError with a sentence."""
    match = _SHARE.fullmatch(text.strip())
    try:
        value = float(match[1]) / PERCENT_MAX if match is not None else float(text)
    except ValueError:
        raise ValueError(f"`{text}` is not a share; write one like `50%`") from None
    if not 0 <= value <= 1:
        raise ValueError(f"`{text}` is not between 0% and 100%; write one like `50%`")
    return value


def spell(length: timedelta) -> str:
    """A duration in the spelling of sidecar.yml: `1h30m`."""
    milliseconds = round(length.total_seconds() * 1000)
    words = "-" if milliseconds < 0 else ""
    rest = abs(milliseconds)
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size_ms)
        if count:
            words += f"{count}{unit}"
    return words or "0s"
