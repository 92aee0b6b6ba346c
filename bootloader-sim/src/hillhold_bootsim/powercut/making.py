"""Makes a scenario: a repository with example keys, three releases and their images. The only module of these that signs."""

from __future__ import annotations

import tempfile
from hashlib import shake_256
from pathlib import Path

from hillhold_bootsim.flash import Flash
from hillhold_bootsim.layout import Layout
from hillhold_bootsim.maker import HARDWARE, PRODUCT, Maker, Wanted
from hillhold_bootsim.powercut.scenario import CHUNK, LINE, NOW, REVERT, SETTING_UP, UPDATE, Offer, Scenario
from hillhold_bootsim.station import provision_board
from hillhold_signer.adding import Added
from hillhold_verifier.metadata import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from hillhold_verifier.release import patch_path
from hillhold_verifier.select import Device


def make_scenario(layout: Layout, size: int = 256 * 1024, chunk: int = CHUNK, *, patched: bool = False) -> Scenario:
    """Make repository and images for a board.

    Args:
        layout: of the board.
        size: bytes of the firmware in each image, about.
        chunk: bytes that the agent is given at a time.
        patched: the update comes as a patch.
    """
    flash = Flash(layout.geometry)
    with tempfile.TemporaryDirectory() as folder:
        maker = Maker(Path(folder) / "repository", layout.slots[0][0].size, NOW)
        provision_board(flash, layout, Device(PRODUCT, HARDWARE, "power-cut"), maker.root)
        first = _offer(maker, Wanted(_payload(size, SETTING_UP), "1.0.0", 1), passes=True)
        keys = [maker.image_key]
        if layout.keys:
            maker.change_image_key()
            keys.append(maker.image_key)
        drops = len(keys) - 1
        payload = _changed(size) if patched else _payload(size, UPDATE)
        base = first.sha256 if patched else None
        update = _offer(maker, Wanted(payload, "1.1.0", 2), passes=True, drops=drops, base=base)
        failing = _offer(maker, Wanted(_payload(size, REVERT), "1.2.0", 3), passes=False, drops=drops)
    return Scenario(layout, tuple(keys), flash.state(), (first, update, failing), chunk)


def _offer(maker: Maker, wanted: Wanted, *, passes: bool, drops: int = 0, base: bytes | None = None) -> Offer:
    image = maker.image(wanted)
    added = maker.release(wanted, image)
    folder = maker.path / "public" / "metadata"

    def newest(role: str) -> bytes:
        return max(folder.glob(f"*.{role}.json"), key=lambda path: int(path.name.split(".")[0])).read_bytes()

    files = {role: newest(role) for role in (ROOT, SNAPSHOT, TARGETS)}
    files[LINE] = newest(PRODUCT)
    files[TIMESTAMP] = (folder / "timestamp.json").read_bytes()
    return Offer(
        files, wanted.version, wanted.counter, image, passes, drops, _patch(maker, added, base) if base else b""
    )


def _patch(maker: Maker, added: Added, base: bytes) -> bytes:
    (found,) = (patch for patch in added.patches if patch.path == patch_path(added.target.path, base))
    folder, _, name = found.path.rpartition("/")
    return (maker.path / "public" / "targets" / folder / f"{found.hashes['sha256']}.{name}").read_bytes()


def _changed(size: int) -> bytes:
    """The first firmware with something changed, something gone and something new, so that a patch copies, adds and inserts."""
    before = _payload(size, SETTING_UP)
    third = size // 3
    new = shake_256(b"power-cut patch").digest(400)
    return before[:third] + new[:200] + before[third + 300 : 2 * third] + new[200:] + before[2 * third :]


def _payload(size: int, number: int) -> bytes:
    """Firmware that differs from one number to the next in every unit; the last one is a sector shorter, so that exchanges are uneven."""
    return shake_256(f"power-cut {number}".encode()).digest(size - 4096 * (number == REVERT and size > 8192))
