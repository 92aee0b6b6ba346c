"""One patch, in a process that was started for it and holds no key: base and result come in, the patch goes out.

Standard input is a header (`HEADER`), the base, and the result; standard output is the patch, and standard error why there is none. The
exit code is 0, or `HOPELESS` for a base that a look at a sample shows to have next to nothing in common with the result.

`patchpool` starts it, and believes nothing of what comes out.
"""

from __future__ import annotations

import math
import os
import signal
import struct
from typing import Final

from hillhold_signer.patches import make_patch

HEADER: Final = struct.Struct("<QQI")
"""Bytes of the base, and of the result; seconds after which nobody waits any more."""
HOPELESS: Final = 7
"""Exit code: nothing was made. No signal and no interpreter ends with it."""

SAMPLES: Final = 4096
"""Pieces of the result that are looked for in the base."""
PIECE: Final = 8
"""Bytes of one: two instructions or so."""
FEWEST: Final = 256
"""Pieces from which on they say something."""
SHARE: Final = 0.03
"""Part of them that has to be found. A patch pays where it spares a fifth of the compressed image, which takes far more than that."""
_NICE: Final = 10


def alike(base: bytes, result: bytes) -> bool:
    """Say whether a patch from `base` could pay; true where that cannot be told quickly.

    It costs one pass over the base at most, and memory for the samples alone; it ends as soon as enough is found.
    """
    step = max(PIECE, len(result) // SAMPLES)
    wanted = {result[at : at + PIECE] for at in range(0, len(result) - PIECE + 1, step)}
    if not base or len(wanted) < FEWEST:
        return True
    missing = math.ceil(len(wanted) * SHARE)
    for at in range(len(base) - PIECE + 1):
        if base[at : at + PIECE] in wanted:
            wanted.discard(base[at : at + PIECE])
            missing -= 1
            if not missing:
                return True
    return False


def main() -> int:
    """Make the patch; returns the exit code."""
    if hasattr(os, "nice"):
        os.nice(_NICE)  # whoever started it has other things to do
    with os.fdopen(0, "rb", closefd=False) as source:
        *lengths, seconds = HEADER.unpack(source.read(HEADER.size))
        base, result = map(source.read, lengths)
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)  # it ends then, even in the library's loops: whoever started it may have been killed
    if [len(base), len(result)] != lengths:
        return 1
    if not alike(base, result):
        return HOPELESS
    with os.fdopen(1, "wb", closefd=False) as out:
        out.write(make_patch(base, result, check=False))
    return 0
