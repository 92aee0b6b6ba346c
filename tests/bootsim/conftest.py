"""Small boards, and images for them as real imgtool writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from imgtool import image as imgtool_image
from imgtool import keys as imgtool_keys
from imgtool.version import decode_version

from hillhold_bootsim.bootflags import SimBootControl
from hillhold_bootsim.bootloader import BootOutcome, ResetReason, boot
from hillhold_bootsim.counter import OtpCounter
from hillhold_bootsim.flash import Flash, Geometry
from hillhold_bootsim.layout import Layout, SimSlots, padded
from hillhold_verifier.mcuboot import ImageKey

KEYS: dict[str, Any] = {
    name: imgtool_keys.Ed25519(ed25519.Ed25519PrivateKey.generate()) for name in ("held", "foreign")
}
LAYOUT = Layout(name="tiny", geometry=Geometry.uniform(size=3072, sector=256, unit=4, otp=64), state_size=256, slot_size=1024)
Sign = Callable[..., bytes]


@dataclass
class Rig:
    """A small board's parts, without an agent or application."""

    flash: Flash = field(default_factory=lambda: Flash(LAYOUT.geometry))
    layout: Layout = LAYOUT
    keys: tuple[ImageKey, ...] = (ImageKey.from_pem(KEYS["held"].get_public_pem()),)

    def __post_init__(self) -> None:
        self.slots = SimSlots(self.flash, self.layout)
        self.control = SimBootControl(self.flash, self.layout)
        self.counter = OtpCounter(self.flash)

    def install(self, slot: int, data: bytes) -> None:
        """Write an image into a slot, in several operations."""
        self.slots.erase(slot, 0, self.slots.size)
        for at in range(0, len(data), 64):
            self.slots.write(slot, at, padded(data[at : at + 64], self.layout.geometry))

    def boot(self, reason: ResetReason = ResetReason.POWER_ON) -> BootOutcome:
        return boot(self.slots, self.control, self.counter, self.keys, reason)

    def snapshot(self) -> bytes:
        return self.flash.read(0, self.flash.geometry.end)


@pytest.fixture(scope="session")
def sign(tmp_path_factory: pytest.TempPathFactory) -> Sign:
    folder: Path = tmp_path_factory.mktemp("images")

    def make(
        version: str = "1.0.0", counter: int | None = 1, key: str = "held", payload: bytes = b"firmware" * 5
    ) -> bytes:
        source, target = folder / "in.bin", folder / "out.bin"
        source.write_bytes(payload)
        made = imgtool_image.Image(
            version=decode_version(version), header_size=32, pad_header=True, slot_size=1024, security_counter=counter
        )
        made.load(str(source))
        made.create(KEYS[key], "hash", None)
        made.save(str(target))
        return target.read_bytes()

    return make


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def new_rig() -> Callable[..., Rig]:
    """A rig on a given flash, as after a reset with nothing in memory; or on a new one."""
    return Rig
