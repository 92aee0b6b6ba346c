"""A whole update, cut at every flash operation in every way, and the recovery after that cut again.

After each: exactly one whole authentic image boots; the counter never went down; a second boot changes nothing (or is one more counted
start of the same trial); the update can be finished. A failing case prints its cuts, which replay it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hillhold_bootsim.bootflags import BootRecord
from hillhold_bootsim.bootloader import MAX_TRIAL_STARTS, BootOutcome, ResetReason
from hillhold_bootsim.flash import Cut, CutAt, Flash, PowerLost
from hillhold_verifier.slots import Mark

if TYPE_CHECKING:
    from tests.bootsim.conftest import Rig, Sign

TORN_SEEDS = 4
WAYS = [(Cut.BEFORE, 0), (Cut.AFTER, 0), *((Cut.TORN, seed) for seed in range(TORN_SEEDS))]


class Update:
    """The update from `old` in slot 0 to `new` in slot 1, as an agent would do it, from wherever the board is."""

    def __init__(self, old: bytes, new: bytes, new_rig: Callable[..., Rig]) -> None:
        self.old, self.new, self.new_rig = old, new, new_rig
        self.mark = Mark(hashlib.sha256(new).digest(), len(new))
        self.hashes = {0: hashlib.sha256(old).digest(), 1: self.mark.sha256}
        rig = new_rig()
        self.start = rig.flash
        rig.install(0, old)
        rig.install(1, b"\0" * 900)
        rig.control.provision(0)
        assert rig.boot().booted is not None

    def run(self, flash: Flash) -> None:
        """Power on, and carry the update to its end."""
        rig = self.new_rig(flash)
        if rig.boot().trial:
            self.confirm(rig)
        if rig.control.flags().confirmed == 1:
            return
        if rig.control.flags().mark:
            rig.control.clear_marks()
        rig.install(1, self.new)
        rig.control.set_marks({0: self.mark})
        outcome = rig.boot(ResetReason.SOFT)
        assert outcome.trial, outcome.events
        self.confirm(rig)

    def confirm(self, rig: Rig) -> None:
        rig.control.confirm()
        rig.counter.raise_to(2)

    def check(self, flash: Flash, case: str) -> None:
        """The oracle."""
        rig = self.new_rig(flash)
        lowest = rig.counter.value()
        assert lowest >= 1, case
        outcome = rig.boot()
        self.authentic(outcome, rig, case)
        assert rig.counter.value() >= lowest, case
        before, record = rig.snapshot(), rig.control.record()
        again = rig.boot()
        self.authentic(again, rig, case)
        if not outcome.trial:
            assert rig.snapshot() == before, f"{case}: a second boot changed something"
        elif record.starts < MAX_TRIAL_STARTS:
            assert again.trial, case
            assert rig.control.record() == replace(record, starts=record.starts + 1), case
        finishing = copy.deepcopy(flash)
        self.run(finishing)
        done = self.new_rig(finishing)
        last = done.boot()
        assert last.booted is not None, case
        assert (last.booted.slot, last.trial, done.counter.value()) == (1, False, 2), f"{case}: not finished"
        assert done.control.record() == BootRecord(confirmed=1), case

    def authentic(self, outcome: BootOutcome, rig: Rig, case: str) -> None:
        assert outcome.booted is not None, f"{case}: nothing boots: {outcome.events}"
        slot = outcome.booted.slot
        assert outcome.booted.sha256 == self.hashes[slot], case
        whole = rig.slots.read(slot, 0, len(self.new if slot else self.old))
        assert hashlib.sha256(whole).digest() == self.hashes[slot], case
        assert outcome.trial == (rig.control.record().confirmed != slot), case


@pytest.fixture
def update(sign: Sign, new_rig: Callable[..., Rig]) -> Update:
    return Update(sign("1.0.0", 1), sign("2.0.0", 2, payload=b"newer firmware" * 4), new_rig)


def cuts(flash: Flash, act: Callable[[Flash], object]) -> Iterator[tuple[CutAt, Flash]]:
    """Every state in which a cut leaves the flash on which `act` began."""
    clean = copy.deepcopy(flash)
    act(clean)
    for number in range(flash.operations, clean.operations):
        for where, seed in WAYS:
            victim = copy.deepcopy(flash)
            victim.power_cut = cut = CutAt(number, where, seed)
            with pytest.raises(PowerLost):
                act(victim)
            victim.power_cut = None
            victim.power_on()
            yield cut, victim


def test_the_update_itself(update: Update) -> None:
    flash = copy.deepcopy(update.start)
    update.run(flash)
    update.check(flash, "no cut")
    assert update.new_rig(flash).control.record() == BootRecord(confirmed=1)


def test_a_cut_at_every_operation(update: Update) -> None:
    cases = 0
    booted = set()
    for cut, flash in cuts(update.start, update.run):
        outcome = update.new_rig(copy.deepcopy(flash)).boot()
        booted.add((outcome.booted.slot if outcome.booted else None, outcome.trial))
        update.check(flash, f"cut {cut}")
        cases += 1
    assert booted == {(0, False), (1, True), (1, False)}, "the script passes through every stage"
    assert cases >= 15 * len(WAYS)


@pytest.mark.slow
def test_a_cut_at_every_operation_and_at_every_one_of_the_way_on(update: Update) -> None:
    cases = 0
    for first, flash in cuts(update.start, update.run):
        for second, again in cuts(flash, update.run):
            update.check(again, f"cuts {first} {second}")
            cases += 1
    assert cases >= 1000


def test_a_start_whose_record_was_cut_does_not_count_and_the_bound_holds(update: Update) -> None:
    for where, seed in WAYS:
        flash = copy.deepcopy(update.start)
        rig = update.new_rig(flash)
        rig.install(1, update.new)
        rig.control.set_marks({0: update.mark})
        flash.power_cut = CutAt(flash.operations, where, seed)
        with pytest.raises(PowerLost):
            rig.boot()
        flash.power_cut = None
        flash.power_on()
        trials = 0
        while update.new_rig(flash).boot().trial:
            trials += 1
            assert trials <= MAX_TRIAL_STARTS
        assert trials == MAX_TRIAL_STARTS, "the record was not written: an erase alone is no start"
        update.check(flash, f"after the trials, {where.value} {seed}")
