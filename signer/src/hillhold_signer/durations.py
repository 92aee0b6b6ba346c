"""Durations as people write them: "90s", "45m", "12h", "30d", "2w"."""

from __future__ import annotations

import re
from typing import Final

from hillhold_signer.errors import ConfigRefused

MAX_SECONDS: Final = 100 * 365 * 86400
"""A hundred years; more is a typing error."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PATTERN: Final = re.compile(r"(0|[1-9][0-9]{0,9})([smhdw])")


def parse_duration(text: object, what: str = "duration") -> int:
    """Return seconds.

    Raises:
        ConfigRefused: not a number with a unit, or more than `MAX_SECONDS`.
    """
    match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    seconds = int(match[1]) * _UNITS[match[2]] if match else -1
    if not 0 <= seconds <= MAX_SECONDS:
        raise ConfigRefused(what, expected='a duration such as "30d" (s, m, h, d or w)', got=repr(text)[:40])
    return seconds


def show_duration(seconds: int) -> str:
    """Return the shortest exact form."""
    for unit in ("w", "d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"
