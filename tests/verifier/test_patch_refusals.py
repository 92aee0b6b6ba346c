"""Each fault of a patch has a refusal of its own on the device, and none touches what runs, in either boot mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import pytest

from bench import CLOCK, LAYOUT, SWAPPING, Rig, confirmed_rig
from hillhold_bootsim.layout import Layout
from hillhold_verifier.context import Context
from hillhold_verifier.errors import MismatchError, OrderError, PatchError, Refused, SlotError, TransferError
from hillhold_verifier.select import Installed
from hillhold_verifier.state import StagedPatch, StateStore, Transfer
from hillhold_verifier.transfer import SlotTransfer
from offers import image, offer, patch

NEW = "pump/1.1.0/app.bin"
BASE, DATA = image("1.0.0"), image("1.1.0", 2)
AWAY = image("0.9.0", seed=4)
MADE = patch(BASE, DATA)
ELSE = patch(BASE, image("1.2.0", 2))
"""For another target."""
modes = pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])


def send(rig: Rig, named: bytes, content: bytes) -> None:
    """Announce one content and send another; apply what came."""
    at = rig.installer.begin(sha256(named).digest(), len(named), CLOCK)
    while at < len(content):
        at = rig.installer.write(at, content[at : at + 700])
    rig.installer.apply()


@dataclass(frozen=True)
class Fault:
    """What is wrong, and how it is refused.

    Attributes:
        refusal, words: the refusal, and how it begins.
        listed: the patch that is signed.
        base: what is signed of its base.
        sent: what comes in its place; None: itself.
        named: what is announced; None: the signed patch.
        length: of the image, given the slot's size; None: that of `DATA`.
        decayed: the running image is not any more what it was.
    """

    refusal: type[Refused]
    words: str
    listed: bytes = MADE
    base: bytes = BASE
    sent: bytes | None = None
    named: bytes | None = None
    length: Callable[[int], int] | None = None
    decayed: bool = False


FAULTS: Final = {
    # Signed, by whoever may sign for the line.
    "wrong base": Fault(TransferError, "patch base: expected", patch(AWAY, DATA), AWAY),
    "truncated": Fault(PatchError, "patch cut short: expected", MADE[:-1]),
    "extended": Fault(PatchError, "patch: expected nothing after its end", MADE + b"\0"),
    "altered": Fault(PatchError, "patch magic: expected", b"?" + MADE[1:]),
    "for another target": Fault(MismatchError, "image hash: expected", ELSE),
    "slot too small": Fault(SlotError, "slot: expected at least", length=lambda size: size + 100),
    "staging too small": Fault(
        SlotError, "slot for image and patch: expected at least", length=lambda size: size - 600
    ),
    # On the way, or by the source, which is trusted with nothing.
    "unsigned, truncated": Fault(OrderError, "patch: expected one that was received whole", sent=MADE[:-1]),
    "unsigned, extended": Fault(TransferError, f"content: expected {len(MADE)} bytes", sent=MADE + b"\0"),
    "unsigned, altered": Fault(MismatchError, "patch hash: expected", sent=MADE[:-1] + b"?"),
    "unsigned, for another target": Fault(TransferError, f"content: expected {NEW}", named=ELSE, sent=ELSE),
    "right result with a wrong base": Fault(MismatchError, "patch base hash: expected", decayed=True),
}


def test_no_two_faults_are_refused_alike() -> None:
    refusals = [(fault.refusal, fault.words) for fault in FAULTS.values()]
    for number, (refusal, words) in enumerate(refusals):
        for other, others in refusals[:number]:
            assert refusal is not other or not (words.startswith(others) or others.startswith(words))


@modes
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused_in_its_own_words_and_what_runs_stays(name: str, layout: Layout) -> None:
    fault, rig = FAULTS[name], confirmed_rig(layout=layout)
    size = rig.slots.size
    data = image("1.1.0", 2, length=fault.length(size)) if fault.length else DATA
    offer(rig.repo, "1.1.0", 2, data=data)
    rig.repo.add_patch(NEW, fault.base, fault.listed, algorithm="hhp2")
    rig.repo.publish()
    rig.take()
    flags = rig.control.flags()
    assert flags.running is not None
    if fault.decayed:
        rig.slots.erase(flags.running, 2 * rig.slots.sector, rig.slots.sector)
    before = rig.slots.read(flags.running, 0, size)
    with pytest.raises(fault.refusal) as caught:
        send(rig, fault.named or fault.listed, fault.sent or fault.listed)
    assert type(caught.value) is fault.refusal
    assert str(caught.value).startswith(fault.words)
    assert rig.slots.read(flags.running, 0, size) == before
    assert rig.control.flags() == flags
    assert rig.stored().slots[1 - flags.running] is None
    if not fault.decayed:
        rig.power_cycle()
        assert (rig.facts().running, rig.facts().confirmed) == ("1.0.0", flags.confirmed)


@modes
def test_a_signed_patch_that_was_altered_at_any_byte_makes_the_image_or_is_refused(layout: Layout) -> None:
    """Some bits decide nothing, as of a dictionary that is larger than needed."""
    rig = confirmed_rig(layout=layout)
    offer(rig.repo, "1.1.0", 2)
    rig.repo.publish()
    rig.take()
    release = Installed.of(rig.installer.wanted(CLOCK))
    transfer = SlotTransfer(Context(StateStore(rig.areas), [rig.slots], rig.control, [rig.counter]))
    flags = rig.control.flags()
    assert flags.running is not None
    before = rig.slots.read(flags.running, 0, rig.slots.size)
    refused = 0
    for place in range(len(MADE)):
        altered = MADE[:place] + bytes([MADE[place] ^ 1 << place % 8]) + MADE[place + 1 :]
        digest = sha256(altered).digest()
        staged = StagedPatch(digest, len(altered), "hhp2", sha256(BASE).digest(), len(BASE))
        at = transfer.begin(digest, len(altered), 0, lambda: Transfer(0, release, staged))  # noqa: B023
        assert (at, transfer.write(at, altered)) == (0, len(altered))
        try:
            transfer.apply()
        except (PatchError, MismatchError):
            refused += 1
            assert rig.stored().slots[1 - flags.running] is None, place
        else:
            assert rig.slots.read(1 - flags.running, 0, len(DATA)) == DATA, place
            transfer.forget(0, 1 - flags.running)
        assert rig.control.flags() == flags, place
        assert rig.slots.read(flags.running, 0, rig.slots.size) == before, place
    assert refused > 0.9 * len(MADE)
