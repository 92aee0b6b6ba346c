"""What happens on a board, as data: images, metadata and the flash on which it begins.

An update to a release whose test passes and which is confirmed; then one to a release whose test fails, so that the board goes back. Both
by the verifier's own agent, with the metadata of a repository that the signer's own library made. A scenario holds no private key: it
is made once, and sent to whoever explores it.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from hillhold_bootsim.flash import Flash, FlashState
from hillhold_bootsim.layout import Layout
from hillhold_bootsim.maker import HARDWARE, PRODUCT, Maker, Wanted
from hillhold_bootsim.station import provision_board
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.metadata import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from hillhold_verifier.select import Device

NOW: Final = 1_800_000_000
"""When all of it happens, Unix seconds."""
CHUNK: Final = 1024
"""Bytes that the agent is given at a time."""
SETTING_UP, UPDATE, REVERT = 0, 1, 2
"""Numbers of the offers: what the board is given first, the update that is confirmed, and the one that fails its test."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source holds at one time: metadata by role, and the release that it wants on the board. `sha256` is the image's."""

    files: Mapping[str, bytes]
    version: str
    counter: int
    image: bytes
    passes: bool
    sha256: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", sha256(self.image).digest())


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that a run depends on.

    Attributes:
        layout: of the board, which has one component that is updated.
        keys: public image keys of the bootloader.
        provisioned: the flash of a board that holds no image yet.
        offers: the first is there before the power can fail; then the update, then the one that fails.
        chunk: bytes that the agent is given at a time.
    """

    layout: Layout
    keys: tuple[ImageKey, ...]
    provisioned: FlashState
    offers: tuple[Offer, Offer, Offer]
    chunk: int = CHUNK

    def offer_of(self, digest: bytes) -> int | None:
        """Return which offer's image has this SHA-256."""
        return next((number for number, offer in enumerate(self.offers) if offer.sha256 == digest), None)


def make_scenario(layout: Layout, size: int = 256 * 1024, chunk: int = CHUNK) -> Scenario:
    """Make repository and images for a board.

    Args:
        layout: of the board.
        size: bytes of the firmware in each image, about.
        chunk: bytes that the agent is given at a time.
    """
    flash = Flash(layout.geometry)
    with tempfile.TemporaryDirectory() as folder:
        maker = Maker(Path(folder) / "repository", layout.slots[0][0].size, NOW)
        provision_board(flash, layout, Device(PRODUCT, HARDWARE, "power-cut"), maker.root)
        offers = tuple(
            _offer(maker, Wanted(_payload(size, number), version, counter), passes)
            for number, (version, counter, passes) in enumerate(
                (("1.0.0", 1, True), ("1.1.0", 2, True), ("1.2.0", 3, False))
            )
        )
        key = maker.image_key
    return Scenario(layout, (key,), flash.state(), (offers[0], offers[1], offers[2]), chunk)


def _offer(maker: Maker, wanted: Wanted, passes: bool) -> Offer:
    image = maker.image(wanted)
    maker.release(wanted, image)
    folder = maker.path / "public" / "metadata"

    def newest(role: str) -> bytes:
        return max(folder.glob(f"*.{role}.json"), key=lambda path: int(path.name.split(".")[0])).read_bytes()

    files = {role: newest(role) for role in (ROOT, SNAPSHOT, TARGETS, PRODUCT)}
    files[TIMESTAMP] = (folder / "timestamp.json").read_bytes()
    return Offer(files, wanted.version, wanted.counter, image, passes)


def _payload(size: int, number: int) -> bytes:
    """Firmware that differs from one number to the next in every unit; the last one is a sector shorter, so that exchanges are uneven."""
    return random.Random(number).randbytes(size - 4096 * (number == REVERT and size > 8192))  # noqa: S311 - no secret
