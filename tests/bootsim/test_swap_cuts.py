"""Two images change places, and the power goes, or the chip is ill; and two components that are exchanged together."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Final

import pytest

from hillhold_bootsim.bootloader import ResetReason
from hillhold_bootsim.flash import Cut, CutAt, Faults, Flash, FlashState, PowerLost
from hillhold_bootsim.layout import BootMode, Layout
from hillhold_bootsim.swap import trailers
from hillhold_bootsim.trailer import SwapType
from swaplab import SHAPE_NAMES, SHAPES, at, board, every_shape, is_whole, primary
from tinyboard import NEW, OLD, Rig, cuts, mark_of, sign, tiny

THIRD: Final = sign("3.0.0", 1, payload=b"another one" * 20)


# --- cuts -------------------------------------------------------------------------------------------------------------


class At:
    """Keeps the state at each checkpoint of the swap."""

    def __init__(self) -> None:
        self.flash: Flash | None = None
        self.seen: list[tuple[Hashable, FlashState]] = []

    def __call__(self, tag: Hashable) -> None:
        if self.flash and isinstance(tag, tuple) and tag[0] == "swap":
            self.seen.append((tag, self.flash.state()))


def states(rig: Rig, reason: ResetReason) -> list[tuple[Hashable, FlashState]]:
    """The checkpoints of a boot."""
    flash, seen = Flash(rig.layout.geometry), At()
    flash.load(rig.snapshot())
    seen.flash = flash
    Rig(rig.layout, flash, checkpoint=seen).boot(reason)
    return seen.seen


@every_shape
def test_an_exchange_goes_on_from_each_step_as_if_nothing_had_happened(layout: Layout) -> None:
    """All that follows a checkpoint follows from the flash and the tag."""
    rig = board(layout)
    rig.control.set_marks({0: mark_of(NEW)})
    seen = states(rig, ResetReason.SOFT)
    assert [tag for tag, _ in seen] == [("swap", 0, step) for step in range(2 * -(-len(NEW) // rig.slots.sector))]
    rig.boot(ResetReason.SOFT)
    for tag, state in seen:
        resumed = Rig.of(layout, state)
        resumed.boot()
        assert resumed.snapshot() == rig.snapshot(), tag
    back = states(rig, ResetReason.WATCHDOG)
    assert len(back) == len(seen)
    rig.boot(ResetReason.WATCHDOG)
    for tag, state in back:
        resumed = Rig.of(layout, state)
        resumed.boot()
        assert resumed.snapshot() == rig.snapshot(), tag


@pytest.mark.slow
@pytest.mark.parametrize("way", ["forward", "back"])
@pytest.mark.parametrize("name", ["1-00", "4-ff", "8-ff", "16-00", "32-ff"])
def test_a_cut_at_every_operation_of_an_exchange_in_every_way(name: str, way: str) -> None:
    """Neither image is ever lost, in the middle of it as well: the next boot brings both to their places, and is done then."""
    layout = SHAPES[SHAPE_NAMES.index(name)]
    rig = board(layout)
    reason = ResetReason.SOFT
    rig.control.set_marks({0: mark_of(NEW)})
    if way == "back":
        rig.boot(reason)
        reason = ResetReason.WATCHDOG
    start, cases, seen = rig.snapshot(), 0, set()
    outcome = rig.boot(reason)
    for cut, state in cuts(layout.geometry, start, lambda flash: Rig(layout, flash).boot(reason)):
        if state in seen:
            continue
        seen.add(state)
        case, victim = f"{way}, cut {cut}", Rig.of(layout, state)
        # A failed test of which the record was not written is forgotten, and fails again.
        found = victim.boot() if victim.record.starts == 0 else victim.boot(reason)
        assert [booted.slot for booted in found.images] == [booted.slot for booted in outcome.images], case
        assert is_whole(victim), case
        image, expected = victim.image, rig.image
        assert (image.primary, image.wanted, image.shifted) == (expected.primary, expected.wanted, expected.shifted), (
            case
        )
        assert not image.moving, case
        cases += 1
    assert cases > 150


def test_what_is_done_is_not_done_again() -> None:
    """After a cut each sector is erased at most once more than without one."""
    clean = board()
    clean.control.set_marks({0: mark_of(NEW)})
    start = clean.snapshot()

    def wear(flash: Flash) -> list[int]:
        return [flash.wear(sector) for sector in range(flash.geometry.sectors)]

    flash = Flash(clean.layout.geometry)
    flash.load(start)
    Rig(clean.layout, flash).boot()
    least, operations = wear(flash), flash.operations
    for number in range(operations):
        for where in Cut:
            flash = Flash(clean.layout.geometry, power_cut=CutAt(number, where))
            flash.load(start)
            with pytest.raises(PowerLost):
                Rig(clean.layout, flash).boot()
            flash.power_on()
            Rig(clean.layout, flash).boot()
            more = [now - before for now, before in zip(wear(flash), least, strict=True)]
            assert sum(more[4:]) <= 1, f"{number}-{where.value}: {more}"
            assert min(more) >= 0


def test_status_that_reads_wrong_moves_nothing_wrong() -> None:
    """A step is done if its unit is not blank, whatever it reads as."""
    rig = board()
    trailer = trailers(rig.layout, 0)[0]
    rig.control.set_marks({0: mark_of(NEW)})
    for tag, state in states(rig, ResetReason.SOFT):
        victim = Rig.of(rig.layout, state)
        victim.flash.faults = Faults(flips=dict.fromkeys(range(trailer.status(0), trailer.slot.end), 0xFF))
        assert victim.boot().trial, tag
        assert primary(victim, len(NEW)) == NEW
        assert is_whole(victim)


def test_a_bad_sector_stops_the_board_and_loses_nothing() -> None:
    """Nothing is started from slots that are half exchanged; where the sector works after all, the exchange goes on."""
    rig = board()
    rig.control.set_marks({0: mark_of(NEW)})
    bad = rig.flash.geometry.sector_at(rig.layout.slots[0][0].offset) + 1
    rig.flash.faults = Faults(bad_sectors=frozenset({bad}))
    for _ in range(3):
        outcome = rig.boot()
        assert outcome.booted is None
        assert f"sector {bad} is bad" in outcome.events[0]
        assert "do not lie where they run" in outcome.events[1]
        assert rig.control.flags().running is None
    rig.flash.faults = Faults()
    assert rig.boot().trial
    assert primary(rig, len(NEW)) == NEW
    assert is_whole(rig)


# --- two components ---------------------------------------------------------------------------------------------------


def pair() -> Rig:
    """Two components that run OLD and THIRD; NEW is in the other slot of either."""
    rig = Rig(tiny(BootMode.SWAP, components=2))
    rig.install(0, OLD)
    rig.install(0, THIRD, 1)
    rig.provision(0, 0)
    rig.install(1, NEW)
    rig.install(1, NEW, 1)
    assert len(rig.boot().images) == 2
    return rig


def lie(rig: Rig) -> tuple[bool, bool]:
    """Whether each component's second image lies in its primary slot."""
    assert rig.read(0, len(OLD)) == OLD
    assert rig.read(0, len(THIRD), 1) == THIRD
    assert all(rig.read(1, len(NEW), component) == NEW for component in (0, 1))
    found = [rig.flash.read(pair[0].offset, len(NEW)) == NEW for pair in rig.layout.slots]
    return found[0], found[1]


def test_two_components_are_tried_and_go_back_together() -> None:
    rig = pair()
    rig.control.set_marks({0: mark_of(NEW), 1: mark_of(NEW)})
    outcome = rig.boot()
    assert ([booted.slot for booted in outcome.images], outcome.trial) == ([1, 1], True)
    assert lie(rig) == (True, True)
    info = [at(rig, trailers(rig.layout, component)[0].swap_info)[0] for component in (0, 1)]
    assert info == [SwapType.TEST, SwapType.TEST | 1 << 4], "boot_write_swap_info: the image's number in the upper half"
    rig.boot(ResetReason.WATCHDOG)
    assert lie(rig) == (False, False)
    assert all(image.failed == mark_of(NEW).sha256 for image in rig.record.images)


@pytest.mark.parametrize("component", [0, 1])
def test_one_component_is_tried_beside_the_confirmed_image_of_the_other(component: int) -> None:
    rig = pair()
    rig.control.set_marks({component: mark_of(NEW)})
    other = rig.layout.slots[1 - component]
    before = [rig.flash.read(part.offset, part.size) for part in other]
    outcome = rig.boot()
    assert outcome.trial
    assert [booted.slot for booted in outcome.images] == [int(number == component) for number in (0, 1)]
    assert [rig.flash.read(part.offset, part.size) for part in other] == before
    rig.control.confirm()
    assert not rig.boot().trial
    assert lie(rig) == (component == 0, component == 1)


def test_neither_is_moved_where_one_of_two_is_refused() -> None:
    rig = pair()
    rig.control.set_marks({0: mark_of(NEW), 1: replace(mark_of(NEW), sha256=bytes(32))})
    outcome = rig.boot()
    assert ([booted.slot for booted in outcome.images], outcome.trial) == ([0, 0], False)
    assert "content of the marked slot" in outcome.events[0]
    assert lie(rig) == (False, False)
    assert not rig.record.marked


@pytest.mark.parametrize("way", ["forward", "back"])
def test_a_cut_between_two_components_leaves_both_or_none(way: str) -> None:
    rig = pair()
    reason = ResetReason.SOFT
    rig.control.set_marks({0: mark_of(NEW), 1: mark_of(NEW)})
    if way == "back":
        rig.boot(reason)
        reason = ResetReason.SELF_TEST
    start, seen = rig.snapshot(), set()
    for cut, state in cuts(rig.layout.geometry, start, lambda flash: Rig(rig.layout, flash).boot(reason), 5):
        victim = Rig.of(rig.layout, state)
        found = victim.boot()
        slots = [booted.slot for booted in found.images]
        assert slots in ([0, 0], [1, 1]), f"{way}, cut {cut}"
        assert lie(victim) == (slots == [1, 1],) * 2
        seen.add(slots[0])
    assert seen == ({1} if way == "forward" else {0, 1}), "a failed test that was not recorded is tried again"
