"""Which patches a new release gets: one from each earlier release that runs in the same place, where it pays.

A patch is a target `<target>.<first 16 hex of the base's SHA-256>.patch`, whose custom data sign its base, so that wrong bytes
never come out of a right patch on a wrong base: `{"v":1,"algorithm":…,"base":…,"base_length":…,"makes":…}`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from tuf.api.metadata import TargetFile

from hillhold_signer.patches import ALGORITHM, make_patch
from hillhold_verifier.release import Release, patch_path

MAX_BASES: Final = 8
"""Earlier releases that get a patch, the newest ones: older devices take the whole image."""
WORTH_PERCENT: Final = 80
"""A patch is kept where it is smaller than this share of the compressed image."""


def make_patches(
    target: TargetFile,
    image: bytes,
    bases: Sequence[Release],
    read: Callable[[Release], bytes],
    make: Callable[[bytes, bytes], bytes] = make_patch,
) -> list[tuple[TargetFile, bytes]]:
    """Return the patches that pay, as target entries with their bytes.

    Args:
        target: the new release.
        bases: earlier releases that run in the same place, lowest version first.
        read: returns the bytes of one of them.
        make: makes the patch from a base to a result; may know it already.
    """
    limit = len(zlib.compress(image, 9)) * WORTH_PERCENT // 100
    found = []
    for base in bases[-MAX_BASES:]:
        patch = make(read(base), image)
        if len(patch) >= limit:
            continue
        custom = {
            "v": 1,
            "algorithm": ALGORITHM,
            "base": base.sha256.hex(),
            "base_length": base.length,
            "makes": target.path,
        }
        path = patch_path(target.path, base.sha256)
        digest = sha256(patch).hexdigest()
        found.append((TargetFile(len(patch), {"sha256": digest}, path, {"custom": {"hillhold": custom}}), patch))
    return found
