"""Small boards of several shapes, in both boot modes, without an agent or application, and images for them as real imgtool writes them.

rig = Rig(SWAP)
rig.install(0, sign("1.0.0")); rig.provision(0)
assert rig.boot().booted
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from imgtool import image as imgtool_image
from imgtool import keys as imgtool_keys
from imgtool.version import decode_version

from hillhold_bootsim.board import Parts
from hillhold_bootsim.bootflags import BootRecord, ImageFlags
from hillhold_bootsim.bootloader import BootOutcome, ResetReason, no_checkpoint
from hillhold_bootsim.flash import Cut, CutAt, Flash, FlashState, Operation, PowerLost, outcomes
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import BootMode, Layout, padded
from hillhold_bootsim.swap import Checkpoint
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.slots import Mark

KEYS: dict[str, Any] = {
    name: imgtool_keys.Ed25519(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))
    for name in ("held", "foreign")
}
HELD: tuple[ImageKey, ...] = (ImageKey.from_pem(KEYS["held"].get_public_pem()),)


def tiny(
    mode: BootMode = BootMode.REMAP,
    unit: int = 4,
    erased: int = 0xFF,
    *,
    sectors: int = 5,
    otp: int = 256,
    components: int = 1,
    sector: int = 256,
) -> Layout:
    """A board of small sectors; in swap mode the trailer takes one or two of each slot."""
    slot = (sectors + (mode is BootMode.SWAP)) * sector
    size = 4 * sector + components * (2 * slot + (sector if mode is BootMode.SWAP else 0))
    geometry = Geometry.uniform(size, sector, unit, erased, otp)
    return Layout.in_a_row("tiny", geometry, state_size=sector, slot_size=slot, mode=mode, components=components)


REMAP, SWAP = tiny(), tiny(BootMode.SWAP)
SHAPES = {
    f"{layout.mode.value}-{layout.geometry.unit}-{layout.geometry.erased_value:02x}": layout
    for layout in (
        REMAP,
        SWAP,
        tiny(BootMode.REMAP, 32, 0x00),
        tiny(BootMode.REMAP, 1),
        tiny(BootMode.SWAP, 1, 0x00),
        tiny(BootMode.SWAP, 8),
        tiny(BootMode.SWAP, 16, 0x00),
        tiny(BootMode.SWAP, 32),
    )
}


class Rig:
    """A small board's parts, without an agent or application, as after a reset with nothing in memory."""

    def __init__(
        self,
        layout: Layout,
        flash: Flash | None = None,
        keys: tuple[ImageKey, ...] = HELD,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self.layout, self.keys = layout, keys
        self.flash = Flash(layout.geometry) if flash is None else flash
        self.parts = Parts(self.flash, layout, keys, checkpoint)
        self.slots, self.counter = self.parts.slots[0], self.parts.counters[0]
        self.control, self.store = self.parts.control, self.parts.control.store

    @property
    def swaps(self) -> bool:
        return self.layout.mode is BootMode.SWAP

    @property
    def record(self) -> BootRecord:
        return self.store.record()

    @property
    def image(self) -> ImageFlags:
        """The stored flags of component 0."""
        return self.record.images[0]

    def provision(self, *confirmed: int | None) -> None:
        """Write the flags anew; `confirmed` for each component."""
        self.store.provision(BootRecord(tuple(ImageFlags(confirmed=slot) for slot in confirmed)))

    def at_rest(self, confirmed: int | None, failed: bytes | None = None) -> BootRecord:
        """The record of a board that runs this slot, and has nothing else to do."""
        lies = confirmed if self.swaps and confirmed else 0
        image = ImageFlags(confirmed=confirmed, failed=failed, primary=lies, wanted=lies, shifted=self.image.shifted)
        return BootRecord((image,))

    def install(self, slot: int, data: bytes, component: int = 0) -> None:
        """Write an image into a slot, in several operations."""
        slots = self.parts.slots[component]
        slots.erase(slot, 0, slots.size)
        for at in range(0, len(data), 64):
            slots.write(slot, at, padded(data[at : at + 64], self.layout.geometry))

    def boot(self, reason: ResetReason = ResetReason.POWER_ON) -> BootOutcome:
        """Boot, and hold that what was started is what lies where it runs."""
        outcome = self.parts.bootloader.boot(reason)
        for component, booted in enumerate(outcome.images):
            found = self.flash.read(self.runs_from(component, booted.slot), booted.image.length)
            assert hashlib.sha256(found).digest() == booted.sha256, f"another image runs than slot {booted.slot}'s"
        return outcome

    def read(self, slot: int, length: int, component: int = 0) -> bytes:
        return self.parts.slots[component].read(slot, 0, length)

    def runs_from(self, component: int = 0, slot: int = 0) -> int:
        """Where a slot's image runs: at the start of the primary slot in swap mode."""
        return self.layout.slots[component][0 if self.swaps else slot].offset

    def snapshot(self) -> FlashState:
        return self.flash.state()

    @classmethod
    def of(cls, layout: Layout, state: FlashState) -> Rig:
        """A board whose flash holds this, after power-on."""
        flash = Flash(layout.geometry)
        flash.load(state)
        return cls(layout, flash)


def sign(version: str = "1.0.0", counter: int | None = 1, key: str = "held", payload: bytes = b"firmware" * 5) -> bytes:
    """An image, signed under a key of that name."""
    made = imgtool_image.Image(
        version=decode_version(version), header_size=32, pad_header=True, slot_size=4096, security_counter=counter
    )
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        source, target = Path(folder) / "in.bin", Path(folder) / "out.bin"
        source.write_bytes(payload)
        made.load(str(source))
        made.create(KEYS[key], "hash", None)
        made.save(str(target))
        return target.read_bytes()


def mark_of(data: bytes) -> Mark:
    """The mark of an image."""
    return Mark(hashlib.sha256(data).digest(), len(data))


OLD = sign("1.0.0", 1, payload=b"firmware" * 5)
NEW = sign("2.0.0", 1, payload=b"newer firmware" * 30)
"""Of other lengths: one and three of the small sectors."""


class _Listening:
    """A cut that never comes, and takes down how each operation may be torn."""

    def __init__(self, flash: Flash) -> None:
        self.flash, self.ways = flash, list[tuple[int, int]]()

    def decide(self, operation: Operation, /) -> None:
        sector = self.flash.state()[operation.sector]
        self.ways.append((operation.number, len(outcomes(self.flash.geometry, sector, operation))))


def cuts(
    geometry: Geometry, start: FlashState, act: Callable[[Flash], object], stride: int = 1
) -> Iterator[tuple[CutAt, FlashState]]:
    """Every state in which a cut leaves a flash on which `act` begins: before, torn in each way, and after each of its operations.

    The flash that `act` is given counts its operations from 0. With `stride` only so many of them.
    """
    flash = Flash(geometry)
    flash.load(start)
    flash.power_cut = listening = _Listening(flash)
    act(flash)
    ways = [
        CutAt(number, where, variant)
        for number, torn in listening.ways
        for where in Cut
        for variant in range(torn if where is Cut.TORN else 1)
    ]
    for cut in ways[::stride]:
        victim = Flash(geometry, power_cut=cut)
        victim.load(start)
        try:
            act(victim)
        except PowerLost:
            yield cut, victim.state()
        else:
            raise AssertionError(f"{cut}: the power was never cut")
