"""What passes between `patchpool` and `patchworker`: a header, base and result one way, a length and the patch the other."""

from __future__ import annotations

import struct
from typing import Final

HEADER: Final = struct.Struct("<QQI")
"""Bytes of the base, and of the result; seconds after which nobody waits any more."""
LENGTH: Final = struct.Struct("<Q")
"""Bytes of the patch, or 0: none was made."""
