"""What applying a patch takes of a device's memory, on a board whose slots are files."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path
from typing import Final

import pytest

import linuxboard
from forge import Repo
from hillhold_verifier.transfer import SlotTransfer

NEW: Final = "pump/1.1.0/app.bin"


def apply_peak(held: bytes, base: bytes, result: bytes, made: bytes) -> int:
    """The most bytes that `SlotTransfer.apply` takes on a board that runs `held`, from its first look at the staged patch to its last note.

    Args:
        held: what runs.
        base: that, or nothing, where the patch is the result compressed.
        result: what the patch makes.
        made: the patch.
    """
    repo = Repo()
    repo.add_release("1.0.0", held, counter=1)
    repo.publish()
    apply, peaks = SlotTransfer.apply, []

    def measured(transfer: SlotTransfer) -> object:
        tracemalloc.start()
        try:
            done = apply(transfer)
            peaks.append(tracemalloc.get_traced_memory()[1])
            return done
        finally:
            tracemalloc.stop()

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(linuxboard, "SLOT", 2 * max(len(held), len(result)) + 64 * 1024)
        patched.setattr(SlotTransfer, "apply", measured)
        board = linuxboard.LinuxBoard(Path(folder), repo)
        repo.add_release("1.1.0", result, counter=2)
        repo.add_patch(NEW, base, made, algorithm="hhp2")
        repo.publish()
        assert board.update().patched == (NEW,)
        assert board.slots[1].read_bytes().startswith(result)
    (peak,) = peaks
    return peak
