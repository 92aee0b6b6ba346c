"""A whole update, cut at every flash operation in every way, and the recovery after that cut again; in both boot modes.

After each: exactly one whole authentic image boots, from where images run; the counter never went down; a second boot changes nothing (or
is one more counted start of the same trial); the update can be finished. A failing case prints its cuts, which replay it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from hillhold_bootsim.bootloader import MAX_TRIAL_STARTS, BootOutcome, ResetReason
from hillhold_bootsim.flash import Flash, FlashState
from hillhold_bootsim.layout import Layout
from tinyboard import SHAPES, Rig, cuts, mark_of, sign

OLD, NEW = sign("1.0.0", 1, payload=b"firmware" * 5), sign("2.0.0", 2, payload=b"newer firmware" * 30)
HASHES = {slot: hashlib.sha256(data).digest() for slot, data in ((0, OLD), (1, NEW))}
EXHAUSTIVE = [SHAPES[name] for name in ("remap-4-ff", "remap-32-00", "swap-1-00", "swap-8-ff")]
OTHERS = [layout for layout in SHAPES.values() if layout not in EXHAUSTIVE]
STRIDE = 7


def name_of(layout: Layout) -> str:
    return next(name for name, each in SHAPES.items() if each is layout)


class Update:
    """The update from `OLD` in slot 0 to `NEW` in slot 1, as an agent would do it, from wherever the board is."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        rig = Rig(layout)
        rig.install(0, OLD)
        rig.install(1, b"\0" * (rig.slots.size - 20))
        rig.provision(0)
        assert rig.boot().booted is not None
        self.start = rig.snapshot()
        self.seen: set[FlashState] = set()

    def run(self, flash: Flash) -> None:
        """Power on, and carry the update to its end."""
        rig = Rig(self.layout, flash)
        if rig.boot().trial:
            self.confirm(rig)
        if rig.control.flags().confirmed == 1:
            return
        if rig.control.flags().mark:
            rig.control.clear_marks()
        rig.install(1, NEW)
        rig.control.set_marks({0: mark_of(NEW)})
        outcome = rig.boot(ResetReason.SOFT)
        assert outcome.trial, outcome.events
        self.confirm(rig)

    def confirm(self, rig: Rig) -> None:
        rig.control.confirm()
        rig.counter.raise_to(2)

    def check(self, state: FlashState, case: str) -> None:
        """The oracle. What was checked once is not checked again: all follows from what the flash holds."""
        if state in self.seen:
            return
        self.seen.add(state)
        rig = Rig.of(self.layout, state)
        lowest = rig.counter.value()
        assert lowest >= 1, case
        outcome = rig.boot()
        self.authentic(outcome, rig, case)
        assert rig.counter.value() >= lowest, case
        before, record = rig.snapshot(), rig.record
        again = rig.boot()
        self.authentic(again, rig, case)
        if not outcome.trial:
            assert rig.snapshot() == before, f"{case}: a second boot changed something"
        elif record.starts < MAX_TRIAL_STARTS:
            assert again.trial, case
            assert rig.record == replace(record, starts=record.starts + 1), case
        finishing = Rig.of(self.layout, state)
        self.run(finishing.flash)
        done = Rig(self.layout, finishing.flash)
        last = done.boot()
        assert last.booted is not None, case
        assert (last.booted.slot, last.trial, done.counter.value()) == (1, False, 2), f"{case}: not finished"
        assert done.record == done.at_rest(1), case

    def authentic(self, outcome: BootOutcome, rig: Rig, case: str) -> None:
        assert outcome.booted is not None, f"{case}: nothing boots: {outcome.events}"
        slot = outcome.booted.slot
        assert outcome.booted.sha256 == HASHES[slot], case
        whole = rig.slots.read(slot, 0, len(NEW if slot else OLD))
        assert hashlib.sha256(whole).digest() == HASHES[slot], case
        assert outcome.trial == (rig.image.confirmed != slot), case
        assert slot == 0 or rig.slots.read(0, 0, len(OLD)) == OLD, f"{case}: the way back is gone"


@pytest.fixture
def update(layout: Layout) -> Update:
    return Update(layout)


def test_the_update_itself(update: Update) -> None:
    rig = Rig.of(update.layout, update.start)
    update.run(rig.flash)
    update.check(rig.snapshot(), "no cut")
    assert Rig(update.layout, rig.flash).record == rig.at_rest(1)


def every_cut(layout: Layout, stride: int = 1) -> None:
    update, cases, booted = Update(layout), 0, set()
    for cut, state in cuts(layout.geometry, update.start, update.run, stride):
        outcome = Rig.of(layout, state).boot()
        booted.add((outcome.booted.slot if outcome.booted else None, outcome.trial))
        update.check(state, f"cut {cut}")
        cases += 1
    print(f"{name_of(layout)}: {cases} cuts, {len(update.seen)} states")
    assert booted == {(0, False), (1, True), (1, False)}, "the script passes through every stage"
    assert cases >= 200 // stride


@pytest.mark.slow
@pytest.mark.parametrize("layout", EXHAUSTIVE, ids=name_of)
def test_a_cut_at_every_operation_in_every_way(layout: Layout) -> None:
    every_cut(layout)


@pytest.mark.parametrize("layout", OTHERS, ids=name_of)
def test_a_sample_of_cuts_on_other_shapes(layout: Layout) -> None:
    every_cut(layout, STRIDE)


@pytest.mark.slow
@pytest.mark.parametrize("layout", OTHERS, ids=name_of)
def test_a_cut_at_every_operation_on_other_shapes(layout: Layout) -> None:
    every_cut(layout)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["remap", "swap"])
def test_a_cut_at_every_operation_and_at_every_one_of_the_way_on(mode: str) -> None:
    """Of the second cuts a sample."""
    layout = SHAPES[f"{mode}-4-ff"]
    update, cases = Update(layout), 0
    firsts = dict.fromkeys(state for _, state in cuts(layout.geometry, update.start, update.run))
    for number, state in enumerate(firsts):
        for second, again in cuts(layout.geometry, state, update.run, 11 if mode == "remap" else 53):
            update.check(again, f"state {number}, cut {second}")
            cases += 1
    assert cases >= 1000


@pytest.mark.slow
def test_a_start_whose_record_was_cut_does_not_count_and_the_bound_holds(update: Update) -> None:
    marked = Rig.of(update.layout, update.start)
    marked.install(1, NEW)
    marked.control.set_marks({0: mark_of(NEW)})
    if marked.swaps:  # it is where it runs, and not started yet
        assert marked.parts.swapper
        image = marked.parts.swapper.wanting(0, marked.image, 1)
        record = marked.store.write(marked.record.with_image(0, image))
        marked.parts.swapper.exchange(0, record)
    for cut, state in cuts(update.layout.geometry, marked.snapshot(), lambda flash: Rig(update.layout, flash).boot()):
        rig, trials = Rig.of(update.layout, state), 0
        counted = rig.record.starts
        while rig.boot().trial:
            trials += 1
            assert trials <= MAX_TRIAL_STARTS
        assert trials == MAX_TRIAL_STARTS - counted, cut
        assert counted == 0 or cut.number > 0, "an erase alone is no start"
        update.check(rig.snapshot(), f"after the trials, {cut}")
