"""Filling the other slot: only what was authorised, resumed where it was cut, verified whole, from zero after wrong content."""

from __future__ import annotations

import copy
import random
from hashlib import sha256

import pytest

from bench import CLOCK, LAYOUT, SLOT_SIZE, Rig, unchanged
from hillhold_bootsim.bootloader import ResetReason
from hillhold_bootsim.flash import Cut, CutAt, PowerLost
from hillhold_bootsim.layout import SimSlots
from hillhold_verifier.errors import (
    MismatchError,
    OperationalError,
    OrderError,
    PatchError,
    SelectionError,
    SlotError,
    TransferError,
)
from hillhold_verifier.installer import Installer
from hillhold_verifier.state import StateStore
from offers import image, offer, offer_patch, patch, started

SECTOR = LAYOUT.slot_sector(0)


def ready() -> tuple[Rig, bytes]:
    """A board that runs 1.0.0 and knows of 1.1.0; the new image."""
    rig = Rig(started())
    rig.install(image("1.0.0"))
    data = offer(rig.repo, "1.1.0", 2)
    rig.repo.publish()
    rig.take()
    return rig, data


def ready_to_patch() -> tuple[Rig, bytes, bytes]:
    """The same, and a patch from 1.0.0 to 1.1.0."""
    rig = Rig(started())
    rig.install(image("1.0.0"))
    data = offer(rig.repo, "1.1.0", 2)
    made = offer_patch(rig.repo, "1.1.0", image("1.0.0"), data)
    rig.repo.publish()
    rig.take()
    return rig, data, made


def begin(rig: Rig, data: bytes, length: int | None = None) -> int:
    return rig.installer.begin(sha256(data).digest(), len(data) if length is None else length, CLOCK)


# --- what may be sent -------------------------------------------------------------------------------------------------


def test_content_that_was_not_authorised_is_refused() -> None:
    rig, data = ready()
    for wrong, length in ((b"other" * 99, None), (data, len(data) - 1), (data, len(data) + 1), (image("1.0.0"), None)):
        with unchanged(rig), pytest.raises(TransferError, match=r"which this device chose"):
            begin(rig, wrong, length)


def test_nothing_is_taken_where_nothing_is_to_be_installed() -> None:
    rig = Rig(started())
    rig.install(image("1.0.0"))
    with unchanged(rig), pytest.raises(TransferError, match="no release may be installed now"):
        begin(rig, image("1.0.0"))


def test_nothing_is_written_before_a_begin() -> None:
    rig, data = ready()
    with unchanged(rig):
        assert rig.installer.write(0, data[:100]) == 0
        assert rig.installer.write(100, data[100:200]) == 0


def test_nothing_is_written_after_a_reset_before_a_begin() -> None:
    rig, data = ready()
    rig.send(data, until=3000)
    rig.reset()
    with unchanged(rig):
        assert rig.installer.write(3000, data[3000:3100]) == 0
        assert rig.installer.write(0, data[:100]) == 0
    assert rig.trial(data).trial


def test_content_elsewhere_is_ignored_and_answered_with_the_right_offset() -> None:
    rig, data = ready()
    begin(rig, data)
    assert rig.installer.write(0, data[:500]) == 500
    before = rig.slots.read(1, 0, rig.slots.size)
    for offset in (0, 499, 501, 5000, 2**63):
        assert rig.installer.write(offset, data[:300]) == 500
    assert rig.slots.read(1, 0, rig.slots.size) == before
    assert rig.send(data) == len(data)


def test_more_than_was_announced_is_refused_and_the_rest_still_fits() -> None:
    rig, data = ready()
    rig.send(data, until=5000)
    before = rig.slots.read(1, 0, rig.slots.size)
    with pytest.raises(TransferError, match=f"expected {len(data)} bytes"):
        rig.installer.write(5000, data[5000:] + b"!")
    assert rig.slots.read(1, 0, rig.slots.size) == before
    assert rig.trial(data).trial


def test_a_release_that_is_longer_than_the_slot_is_refused() -> None:
    rig, _ = ready()
    big = offer(rig.repo, "1.2.0", 2, data=bytes(SLOT_SIZE + 1), format="raw")
    rig.repo.publish()
    rig.take()
    with unchanged(rig), pytest.raises(SlotError, match=f"got {SLOT_SIZE}"):
        begin(rig, big)


def test_a_slot_that_holds_the_release_already_takes_nothing() -> None:
    rig, data = ready()
    rig.send(data)
    operations = rig.flash.operations
    assert begin(rig, data) == len(data)
    assert rig.flash.operations == operations


def test_a_begin_clears_the_mark_of_what_it_erases() -> None:
    rig, data = ready()
    rig.send(data)
    rig.installer.mark(CLOCK)
    third = offer(rig.repo, "1.2.0", 2)
    rig.repo.publish()
    rig.take()
    begin(rig, third)
    assert rig.facts().mark is None
    assert not rig.reset().trial
    assert rig.facts().running == "1.0.0"


@pytest.mark.parametrize("act", ["begin", "erase"])
def test_mark_and_knowledge_of_a_slot_go_before_its_content_does(act: str) -> None:
    """Cut before each operation: where a byte of the slot has changed, nothing says any more what it holds."""
    rig, data = ready()
    rig.send(data)
    rig.installer.mark(CLOCK)
    third = offer(rig.repo, "1.2.0", 2)
    rig.repo.publish()
    rig.take()
    was, start, changed = rig.slots.read(1, 0, rig.slots.size), rig.flash.operations, 0
    for number in range(start, start + 100):
        victim = Rig(rig.repo, flash=copy.deepcopy(rig.flash), boots=False)
        victim.flash.power_cut = CutAt(number, Cut.BEFORE)
        try:
            victim.installer.erase() if act == "erase" else begin(victim, third)
        except PowerLost:
            victim.flash.power_on()
        else:
            break
        if victim.slots.read(1, 0, rig.slots.size) != was:
            changed += 1
            assert victim.control.flags().mark is None, number
            assert victim.stored().slots[1] is None, number
    assert changed > 2


def test_what_was_made_and_then_erased_is_not_there_when_it_is_asked_for_again() -> None:
    rig, data = ready()
    rig.send(data)
    rig.installer.erase()
    with unchanged(rig), pytest.raises(OrderError, match="received whole"):
        rig.installer.apply()


def test_what_was_made_and_then_decayed_is_not_there_when_it_is_asked_for_again() -> None:
    rig, data = ready()
    rig.send(data)
    rig.slots.erase(1, 0, SECTOR)
    with pytest.raises(MismatchError):
        rig.installer.mark(CLOCK)
    with unchanged(rig), pytest.raises(OrderError, match="received whole"):
        rig.installer.apply()


def test_a_slot_that_is_erased_for_other_content_is_never_gone_on_with() -> None:
    """Cut before each operation of a begin in the middle of another transfer."""
    rig, data = ready()
    rig.send(data, until=3000)
    third = offer(rig.repo, "1.2.0", 2)
    rig.repo.publish()
    rig.take()
    was, start, changed = rig.slots.read(1, 0, rig.slots.size), rig.flash.operations, 0
    for number in range(start, start + 100):
        victim = Rig(rig.repo, flash=copy.deepcopy(rig.flash), boots=False)
        victim.flash.power_cut = CutAt(number, Cut.BEFORE)
        try:
            begin(victim, third)
        except PowerLost:
            victim.flash.power_cut = None
            victim.reset(ResetReason.POWER_ON)
        else:
            break
        if victim.slots.read(1, 0, rig.slots.size) != was:
            changed += 1
            transfer = victim.stored().transfer
            assert transfer is None or transfer.release.path == "pump/1.2.0/app.bin", number
        assert victim.trial(third).trial, number
    assert changed > 2


class Chip(SimSlots):
    """One that takes the first bytes of a piece and says that it failed, while it is `ill`."""

    ill = False

    def write(self, slot: int, offset: int, data: bytes) -> None:
        super().write(slot, offset, data[:8] if self.ill else data)
        if self.ill:
            raise OperationalError("the chip failed")


def test_after_a_write_that_failed_the_flash_is_looked_at() -> None:
    rig, data = ready()
    chip = Chip(rig.flash, LAYOUT)
    rig.installer = Installer(StateStore(rig.areas), [chip], rig.control, [rig.counter])
    rig.send(data, until=3000)
    chip.ill = True
    with pytest.raises(OperationalError, match="the chip failed"):
        rig.installer.write(3000, data[3000:3500])
    chip.ill = False
    assert rig.installer.write(3000, data[3000:3500]) == 0, "the sender begins again"
    assert begin(rig, data) == SECTOR
    assert rig.trial(data).trial


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 3, 700, 2047, 2048, 2049, 4096, 5000, 5187])
def test_an_interrupted_transfer_goes_on_at_a_sector_and_ends_right(at: int) -> None:
    rig, data = ready()
    assert rig.send(data, piece=333, until=at) == at
    rig.reset()
    offset = begin(rig, data)
    assert offset % SECTOR == 0
    assert at - SECTOR - rig.slots.unit < offset <= at, "no more than a sector and a unit is sent twice"
    assert rig.slots.read(1, 0, offset) == data[:offset]
    rig.send(data)
    assert rig.slots.read(1, 0, len(data)) == data
    assert rig.trial(data).trial


def test_a_begin_in_the_middle_of_a_transfer_says_where_it_is() -> None:
    rig, data = ready()
    rig.send(data, until=1403)
    assert begin(rig, data) == 1403


def test_erased_bytes_at_the_cut_are_sent_again() -> None:
    """An image with long runs of erased bytes: what was written of them cannot be told from what was not."""
    rig, _ = ready()
    data = offer(rig.repo, "1.2.0", 2, data=b"A" * 3000 + b"\xff" * 6000 + b"B" * 100, format="raw")
    rig.repo.publish()
    rig.take()
    rig.send(data, until=8000)
    rig.reset()
    assert begin(rig, data) == SECTOR
    assert rig.send(data) == len(data)
    assert rig.slots.read(1, 0, len(data)) == data


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("where", [Cut.BEFORE, Cut.TORN, Cut.AFTER])
def test_what_a_torn_write_left_is_sent_again(where: Cut, seed: int) -> None:
    rig, data = ready()
    rig.send(data, until=2800)
    rig.flash.power_cut = cut = CutAt(rig.flash.operations, where, seed)
    with pytest.raises(PowerLost):
        rig.installer.write(2800, data[2800:3500])
    rig.flash.power_cut = None
    rig.reset()
    assert begin(rig, data) == SECTOR, cut
    rig.send(data)
    assert rig.slots.read(1, 0, len(data)) == data, cut


def test_a_transfer_goes_on_with_other_content_only_from_zero() -> None:
    rig, data = ready()
    rig.send(data, until=3000)
    third = offer(rig.repo, "1.2.0", 2)
    rig.repo.publish()
    rig.take()
    rig.reset()
    assert begin(rig, third) == 0
    assert rig.slots.read(1, 0, 2 * SECTOR) == b"\xff" * 2 * SECTOR
    with pytest.raises(TransferError, match="which this device chose"):
        begin(rig, data)
    assert rig.trial(third).trial


def test_a_wrong_byte_is_found_at_the_end_and_the_transfer_starts_from_zero() -> None:
    rig, data = ready()
    wrong = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
    at = begin(rig, data)
    while at < 4900:
        at = rig.installer.write(at, wrong[at : at + 700])
    with pytest.raises(MismatchError, match="image hash"):
        rig.installer.write(at, wrong[at:])
    assert (rig.stored().transfer, rig.stored().slots[1]) == (None, None)
    assert rig.installer.write(at, data[at:]) == 0
    rig.reset()
    assert rig.facts().running == "1.0.0"
    assert begin(rig, data) == 0
    assert rig.trial(data).trial


# --- patches ----------------------------------------------------------------------------------------------------------


def test_a_patch_makes_the_image() -> None:
    rig, data, made = ready_to_patch()
    assert rig.send(made) == len(made)
    assert rig.stored().slots[1] is None, "a patch is no image"
    assert str(rig.installer.apply().version) == "1.1.0"
    assert rig.slots.read(1, 0, len(data)) == data
    assert str(rig.installer.apply().version) == "1.1.0", "asked for again, it is done"
    rig.installer.mark(CLOCK)
    assert rig.reset().trial


def test_a_patch_makes_the_image_over_what_the_slot_held_before() -> None:
    rig, data, made = ready_to_patch()
    rig.install(data)
    newest = offer(rig.repo, "1.2.0", 2)
    made = offer_patch(rig.repo, "1.2.0", data, newest)
    rig.repo.publish()
    rig.take()
    rig.send(made)
    assert rig.slots.read(0, 0, 8) == image("1.0.0")[:8]
    rig.installer.apply()
    assert rig.slots.read(0, 0, len(newest)) == newest
    rig.installer.mark(CLOCK)
    assert rig.reset().trial


def test_a_patch_needs_a_confirmed_image() -> None:
    rig = Rig(started())
    made = offer_patch(rig.repo, "1.0.0", image("0.9.0"), image("1.0.0"))
    rig.repo.publish()
    rig.take()
    with unchanged(rig), pytest.raises(TransferError, match="got no confirmed image"):
        begin(rig, made)


def test_a_patch_is_not_marked_before_it_is_applied() -> None:
    rig, _, made = ready_to_patch()
    rig.send(made)
    rig.installer.begin(sha256(made).digest(), len(made), CLOCK)
    assert rig.whole_image(1) is None
    with pytest.raises(SelectionError, match="no whole image"):
        rig.installer.mark(CLOCK)
    assert rig.facts().mark is None


@pytest.mark.parametrize("sent", [None, 0, 100])
def test_a_patch_that_did_not_come_whole_is_not_applied(sent: int | None) -> None:
    rig, _, made = ready_to_patch()
    if sent is not None:
        rig.send(made, until=sent)
    with pytest.raises(OrderError, match="received whole"):
        rig.installer.apply()
    assert rig.send(made) == len(made)
    assert rig.installer.apply().sha256 == sha256(rig.slots.read(1, 0, len(image("1.1.0", 2)))).digest()


def test_an_altered_patch_is_refused_before_it_is_interpreted() -> None:
    rig, data, made = ready_to_patch()
    altered = made[:-20] + bytes([made[-20] ^ 1]) + made[-19:]
    begin(rig, made)
    assert rig.installer.write(0, altered) == len(made), "its hash is looked at when it is applied"
    with pytest.raises(MismatchError, match="patch hash"):
        rig.installer.apply()
    assert rig.slots.read(1, 0, 4 * SECTOR) == b"\xff" * 4 * SECTOR, "nothing was written"
    assert (rig.stored().transfer, rig.facts().running) == (None, "1.0.0")
    assert begin(rig, made) == 0
    rig.send(made)
    assert rig.installer.apply().sha256 == sha256(data).digest()


def test_a_patch_for_another_base_is_refused_at_once() -> None:
    rig, data, _ = ready_to_patch()
    other = offer_patch(rig.repo, "1.1.0", image("0.9.0"), data)
    rig.repo.publish()
    rig.take()
    with unchanged(rig), pytest.raises(TransferError, match="patch base"):
        begin(rig, other)


def test_a_patch_of_another_algorithm_is_refused_at_once() -> None:
    rig, _, _ = ready_to_patch()
    other = b"not one of ours"
    rig.repo.add_patch("pump/1.1.0/app.bin", image("1.0.0"), other, algorithm="zip")
    rig.repo.publish()
    rig.take()
    with unchanged(rig), pytest.raises(TransferError, match="patch algorithm"):
        begin(rig, other)


def test_a_patch_for_another_target_is_refused_at_once() -> None:
    rig, _, made = ready_to_patch()
    newest = offer(rig.repo, "1.2.0", 2)
    offer_patch(rig.repo, "1.2.0", image("1.0.0"), newest)
    rig.repo.publish()
    rig.take()
    with unchanged(rig), pytest.raises(TransferError, match=r"pump/1\.2\.0"):
        begin(rig, made)


def test_a_base_that_decayed_is_found_before_anything_is_written() -> None:
    rig, _, made = ready_to_patch()
    rig.send(made)
    rig.slots.erase(0, 2 * SECTOR, SECTOR)
    with pytest.raises(MismatchError, match="patch base hash"):
        rig.installer.apply()
    assert rig.slots.read(1, 0, 4 * SECTOR) == b"\xff" * 4 * SECTOR
    assert rig.stored().slots[1] is None


def test_a_signed_patch_that_makes_other_bytes_is_found_at_the_end() -> None:
    rig = Rig(started())
    rig.install(image("1.0.0"))
    data = offer(rig.repo, "1.1.0", 2)
    wrong = patch(image("1.0.0"), image("1.1.0", 2, seed=5))
    rig.repo.add_patch("pump/1.1.0/app.bin", image("1.0.0"), wrong, algorithm="hhp2")
    rig.repo.publish()
    rig.take()
    rig.send(wrong)
    with pytest.raises(MismatchError, match="image hash"):
        rig.installer.apply()
    assert (rig.stored().transfer, rig.stored().slots[1], rig.facts().mark) == (None, None, None)
    assert rig.trial(data).trial, "the image itself still goes"


@pytest.mark.parametrize("whole", [False, True], ids=["ends early", "is none"])
def test_a_signed_patch_that_is_none_is_refused(whole: bool) -> None:
    rig, data, made = ready_to_patch()
    junk = random.Random(7).randbytes(3000) if whole else made[:-1]
    rig.repo.add_patch("pump/1.1.0/app.bin", image("1.0.0"), junk, algorithm="hhp2")
    rig.repo.publish()
    rig.take()
    rig.send(junk)
    with pytest.raises(PatchError):
        rig.installer.apply()
    assert (rig.stored().transfer, rig.stored().slots[1]) == (None, None)
    assert rig.trial(data).trial


def test_where_patch_and_image_do_not_fit_together_only_the_image_goes() -> None:
    rig = Rig(started())
    rig.install(image("1.0.0"))
    data = image("1.1.0", 2, length=SLOT_SIZE - 1000)
    offer(rig.repo, "1.1.0", 2, data=data)
    made = offer_patch(rig.repo, "1.1.0", image("1.0.0"), data)
    rig.repo.publish()
    rig.take()
    with unchanged(rig), pytest.raises(SlotError):
        begin(rig, made)
    assert rig.trial(data).trial


def test_a_patch_is_resumed_and_applied_after_a_reset() -> None:
    rig = Rig(started())
    rig.install(image("1.0.0"))
    data = image("1.1.0", 2, seed=9)
    offer(rig.repo, "1.1.0", 2, data=data)
    made = offer_patch(rig.repo, "1.1.0", image("1.0.0"), data)
    assert len(made) > 2 * SECTOR
    rig.repo.publish()
    rig.take()
    rig.send(made, until=SECTOR + 100)
    rig.reset()
    assert begin(rig, made) == SECTOR
    rig.send(made)
    rig.reset()
    with pytest.raises(OrderError):
        rig.installer.apply()
    assert rig.send(made) == len(made)
    assert rig.installer.apply().sha256 == sha256(data).digest()
