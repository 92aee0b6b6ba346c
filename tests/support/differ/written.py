"""Canonical JSON, quickly: for most values the compact form is the canonical one."""

from __future__ import annotations

import json
from typing import Final

import forge

_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def compact(value: object) -> bytes:
    """Compact sorted JSON: how files are written."""
    return _ENCODER.encode(value).encode(errors="surrogatepass")


def canon(value: object) -> bytes:
    """OLPC canonical JSON; of what has none, such as a float, any bytes."""
    data = compact(value)
    return data if b"\\" not in data else forge.canon(value)
