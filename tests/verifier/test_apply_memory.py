"""Applying a patch takes bounded memory: base, patch and result stay in the slots, however long they are."""

from __future__ import annotations

import pytest

from applying import apply_peak
from hillhold_verifier.patch import WORKING_MEMORY
from offers import image, patch


@pytest.mark.parametrize("compressed", [False, True], ids=["patch", "compressed"])
@pytest.mark.parametrize("length", [24_000, 400_000, 4_000_000])
def test_the_memory_does_not_grow_with_the_image(length: int, compressed: bool) -> None:
    held = image("1.0.0", length=min(length, 400_000), dense=False)
    result = image("1.1.0", 2, seed=2, length=length, dense=False)
    base = b"" if compressed else held
    assert apply_peak(held, base, result, patch(base, result)) <= WORKING_MEMORY
