"""What happens on a board, as data: images, metadata and the flash on which it begins.

An update to a release whose test passes and which is confirmed, brought whole or as a patch; then one to a release whose test fails, so
that the board goes back. Both by the verifier's own agent, with the metadata of a repository that the signer's own library made. On a
board whose bootloader has a list of image keys, a new root revokes the first key before the update, which is signed by the second. A
scenario holds no private key: it is made once, and sent to whoever explores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from hillhold_bootsim.flash import FlashState
from hillhold_bootsim.layout import Layout
from hillhold_verifier.mcuboot import ImageKey

NOW: Final = 1_800_000_000
"""When all of it happens, Unix seconds."""
CHUNK: Final = 1024
"""Bytes that the agent is given at a time."""
LINE: Final = "line"
"""The role of the product line, whatever it is called."""
SETTING_UP, UPDATE, REVERT = 0, 1, 2
"""Numbers of the offers: what the board is given first, the update that is confirmed, and the one that fails its test."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source holds at one time: metadata by role, and the release that it wants on the board.

    `passes`: the image passes its test; `drops`: how many image keys the bootloader drops once it is confirmed; `patch`: what makes
    the image from that of the offer before, if it comes so; `sha256` is the image's.
    """

    files: Mapping[str, bytes]
    version: str
    counter: int
    image: bytes
    passes: bool
    drops: int = 0
    patch: bytes = b""
    sha256: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", sha256(self.image).digest())

    @property
    def content(self) -> bytes:
        """What is sent."""
        return self.patch or self.image


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
