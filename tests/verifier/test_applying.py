"""Applying a patch on a device: in bounded memory, in flash order, and by any algorithm that it knows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from hashlib import sha256

import pytest

from applying import apply_peak
from bench import CLOCK, LAYOUT, SWAPPING, Bench, Rig, confirmed_rig, installed
from hillhold_bootsim.layout import Layout, SimSlots
from hillhold_verifier import agent, installer, local, transfer
from hillhold_verifier.algorithms import DECODERS
from hillhold_verifier.errors import PatchError
from hillhold_verifier.installer import Installer
from hillhold_verifier.local import LocalUpdate
from hillhold_verifier.moves import ReadBase
from hillhold_verifier.patch import WORKING_MEMORY
from hillhold_verifier.smp import Op
from hillhold_verifier.state import StateStore
from offers import TreeSource, image, offer, offer_patch, patch

NEW = "pump/1.1.0/app.bin"
BASE = image("1.0.0")


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [False, True], ids=["patch", "compressed"])
@pytest.mark.parametrize("length", [24_000, 400_000, 4_000_000])
def test_the_memory_does_not_grow_with_the_image(length: int, compressed: bool) -> None:
    """Base, patch and result stay in the slots."""
    held = image("1.0.0", length=min(length, 400_000), dense=False)
    result = image("1.1.0", 2, seed=2, length=length, dense=False)
    base = b"" if compressed else held
    assert apply_peak(held, base, result, patch(base, result)) <= WORKING_MEMORY


# --- flash order ------------------------------------------------------------------------------------------------------


class Watched(SimSlots):
    """Remembers what was written and erased: slot, offset, length."""

    def __init__(self, rig: Rig, layout: Layout) -> None:
        super().__init__(rig.flash, layout)
        self.written: list[tuple[int, int, int]] = []
        self.erased: list[tuple[int, int, int]] = []

    def write(self, slot: int, offset: int, data: bytes) -> None:
        self.written.append((slot, offset, len(data)))
        super().write(slot, offset, data)

    def erase(self, slot: int, offset: int, length: int) -> None:
        self.erased.append((slot, offset, length))
        super().erase(slot, offset, length)


def test_the_result_is_written_in_flash_order() -> None:
    """From the slot's start on, without a gap and nothing twice; what is erased is what the result needs, before."""
    rig = confirmed_rig()
    data = offer(rig.repo, "1.1.0", 2, data=image("1.1.0", 2, seed=5, length=6000))
    made = offer_patch(rig.repo, "1.1.0", BASE, data)
    rig.repo.publish()
    rig.take()
    slots = Watched(rig, LAYOUT)
    rig.installer = Installer(StateStore(rig.areas), [slots], rig.control, [rig.counter])
    rig.send(made)
    slots.written.clear()
    slots.erased.clear()
    rig.installer.apply()
    ends = [offset + length for _, offset, length in slots.written]
    assert [offset for _, offset, _ in slots.written] == [0, *ends[:-1]]
    assert len(data) <= ends[-1] < len(data) + slots.unit
    assert len(ends) > 3
    assert {slot for slot, _, _ in (*slots.written, *slots.erased)} == {1}
    assert slots.erased == [(1, 0, -(-len(data) // slots.sector) * slots.sector)]


# --- another algorithm ------------------------------------------------------------------------------------------------


class Inflating:
    """A decoder of another algorithm: the patch is the result, compressed by zlib."""

    def __init__(self, base: ReadBase, base_length: int, result_length: int) -> None:
        self._stream = zlib.decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._stream.decompress(data)

    def finish(self) -> None:
        if not self._stream.eof:
            raise PatchError("patch cut short", expected="its end", got="less")


DATA = image("1.1.0", 2, seed=5, dense=False)
DEFLATED = zlib.compress(DATA, 9)


def know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the device know the algorithm "zlib" as well."""
    for module in (agent, installer, local, transfer):
        monkeypatch.setattr(module, "DECODERS", {**DECODERS, "zlib": Inflating})


def offer_deflated(board: Bench | Rig) -> None:
    offer(board.repo, "1.1.0", 2, data=DATA)
    board.repo.add_patch(NEW, BASE, DEFLATED, algorithm="zlib")
    board.repo.publish()


def test_a_courier_brings_a_patch_of_another_algorithm_to_a_board_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    know(monkeypatch)
    bench = installed()
    assert bench.own(Op.READ, agent.IDENTIFY)["alg"] == ["hhp2", "zlib"]
    offer_deflated(bench)
    pushed = bench.push(reset=False)
    assert (pushed.how, pushed.sent) == ("patch", len(DEFLATED))
    assert bench.facts().mark == sha256(DATA).digest()


def test_a_device_applies_a_patch_of_another_algorithm_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch)
    rig = confirmed_rig()
    offer_deflated(rig)
    updated = LocalUpdate(rig.installer, TreeSource(rig.repo.tree), CLOCK).update()
    assert (updated.patched, updated.read) == ((NEW,), len(DEFLATED))
    assert rig.facts().mark == sha256(DATA).digest()


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
def test_a_patch_whose_algorithm_was_dropped_is_refused_and_the_image_goes(layout: Layout) -> None:
    """The state is that of firmware that knew more."""
    rig = confirmed_rig(layout=layout)
    offer_deflated(rig)
    rig.take()
    with pytest.MonkeyPatch.context() as monkeypatch:
        know(monkeypatch)
        rig.send(DEFLATED)
    rig.power_cycle()
    before, flags = rig.facts(), rig.control.flags()
    assert rig.send(DEFLATED) == len(DEFLATED), "it is there whole"
    with pytest.raises(PatchError, match="patch algorithm: expected hhp2, got zlib"):
        rig.installer.apply()
    assert (rig.facts(), rig.control.flags()) == (before, flags)
    updated = LocalUpdate(rig.installer, TreeSource(rig.repo.tree), CLOCK).update()
    assert (updated.patched, updated.read) == ((), len(DATA))
    assert rig.facts().mark == sha256(DATA).digest()
