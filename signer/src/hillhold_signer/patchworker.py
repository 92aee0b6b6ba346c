"""Patches, one after another, in a process that holds no key: base and result come in, the patch goes out.

Standard input and output are as `patchjob` says; standard error is why it gave up. No patch is made from a base
that a look at a sample shows to have next to nothing in common with the result.

`patchpool` starts it, and believes nothing of what comes out.
"""

from __future__ import annotations

import math
import os
import signal
from typing import Final

from hillhold_signer.patches import make_patch
from hillhold_signer.patchjob import HEADER, LENGTH

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
    """Make patches until nobody asks for more; returns the exit code."""
    if hasattr(os, "nice"):
        os.nice(_NICE)  # whoever started it has other things to do
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no patch
    with os.fdopen(0, "rb", closefd=False) as source, os.fdopen(answers, "wb") as out:
        while header := source.read(HEADER.size):
            *lengths, seconds = HEADER.unpack(header)
            _alarm(seconds)  # it ends then, even in the library's loops: whoever started it may have been killed
            base, result = map(source.read, lengths)
            if [len(base), len(result)] != lengths:
                return 1
            made = make_patch(base, result, check=False) if alike(base, result) else b""
            out.write(LENGTH.pack(len(made)) + made)
            out.flush()
            _alarm(0)
    return 0


def _alarm(seconds: int) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)
