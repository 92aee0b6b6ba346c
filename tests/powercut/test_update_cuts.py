"""A whole update through courier and agent, cut at every flash operation, before it, torn within it, and after it; in both boot modes.

After each cut and the next power-on: exactly one whole authentic image boots, told by the slot's bytes and not by what the board says;
neither counter nor floors went down, and the counter is not ahead of the confirmation; a second boot changes nothing; and the same
courier finishes the update. A failing case names its cut: `replay(("image", "swap"), CutAt(...))` runs it again.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import pytest

from bench import LAYOUT, SWAPPING, Bench, BoardSilent, Facts, Held, installed
from forge import Repo
from hillhold_bootsim.flash import Cut, CutAt, Flash
from hillhold_bootsim.layout import Layout
from hillhold_verifier.courier import Courier
from offers import image, offer, offer_compressed, offer_patch, started

OLDER, OLD, NEW = "0.9.0", "1.0.0", "1.1.0"
WAYS = ((Cut.BEFORE, 0), (Cut.TORN, 0), (Cut.TORN, 1), (Cut.AFTER, 0))
"""And of each operation its number decides which outcomes of a torn one are tried."""
STRIDE = 7
"""Of all cases the default run takes every 7th; 7 and the 4 ways share no divisor, so each way meets every part of the update."""
How = tuple[str, str]
"""By image, patch or compressed image, and the boot mode."""
KINDS = [
    ("image", "remap"),
    *(
        pytest.param(how, marks=pytest.mark.deep)
        for how in (
            ("image", "swap"),
            *((content, mode) for content in ("patch", "compressed image") for mode in ("remap", "swap")),
        )
    ),
]
"""The explorer cuts image and patch in every run (`test_runner`), `test_ways` the compressed image; here it is the whole courier's way."""
every_kind = pytest.mark.parametrize("how", KINDS, ids="-".join)


@dataclass(frozen=True)
class Scenario:
    """A board that runs 1.0.0 in slot 1, with 0.9.0 in slot 0; and a repository with new metadata of every role and 1.1.0."""

    repo: Repo
    layout: Layout
    start: Flash
    facts: Facts
    held: Held
    how: How
    end: int

    @property
    def cuts(self) -> list[CutAt]:
        return cuts(self.start.operations, self.end)

    def bench(self, flash: Flash) -> Bench:
        return Bench(self.repo, self.layout, flash=flash)


def cuts(start: int, end: int) -> list[CutAt]:
    return [CutAt(number, where, 2 * number + variant) for number in range(start, end) for where, variant in WAYS]


@cache
def scenario(how: How) -> Scenario:
    content, mode = how
    layout = SWAPPING if mode == "swap" else LAYOUT
    repo = started(OLDER)
    bench = installed(repo, layout)
    offer(repo, OLD)
    repo.publish()
    bench.push()
    new = offer(repo, NEW, 2, data=None if content == "patch" else image(NEW, 2, seed=3, dense=content == "image"))
    if content == "patch":
        offer_patch(repo, NEW, image(OLD), new)
    if content == "compressed image":
        offer_compressed(repo, NEW, new)
    repo.publish("root", "targets", "line", "snapshot", "timestamp")
    bench.power_cycle()
    facts, held = bench.facts(), bench.held()
    assert (facts.running, facts.confirmed, facts.counter) == (OLD, 1, 1)
    clean = Bench(repo, layout, flash=copy.deepcopy(bench.flash))
    assert clean.push().how == content
    assert clean.facts_after_reset().running == NEW
    return Scenario(repo, layout, bench.flash, facts, held, how, clean.flash.operations)


def replay(how: How, cut: CutAt) -> None:
    """One case."""
    case = f"{how}, cut {cut}"
    stage = scenario(how)
    flash = copy.deepcopy(stage.start)
    flash.power_cut = cut
    courier = stage.bench(flash).courier()
    stopped = carry(stage, courier, flash)
    assert stopped, f"{case}: the power was never cut"
    verdict(stage, courier, flash, case)


def carry(stage: Scenario, courier: Courier, flash: Flash) -> bool:
    """Let the courier do its work on a board with this flash, from power-on to the boot after; say whether the board went silent."""
    bench = stage.bench(flash)
    try:
        bench.run(courier.push())
    except BoardSilent:
        return True
    if flash.powered:
        bench.board.cut_power()
        bench.board.power_on()
    return not flash.powered


def verdict(stage: Scenario, courier: Courier, flash: Flash, case: str) -> None:
    """The oracle."""
    flash.power_cut = None
    bench = stage.bench(flash)
    first = bench.facts()
    held = bench.held()
    slot = bench.board.control.flags().running
    assert slot is not None, f"{case}: nothing boots"
    assert first.running in (OLD, NEW), f"{case}: what runs is no whole authentic image"
    assert slot == (1 if first.running == OLD else 0), case
    assert first.trial == (first.running == NEW and first.confirmed == 1), case
    assert bench.whole_image(1) == OLD, f"{case}: the way back is gone"
    assert first.counter in ({1} if first.confirmed == 1 else {2}), f"{case}: counter {first.counter}"
    assert held.is_not_below(stage.held), f"{case}: {held}"
    content = flash.state()
    again = bench.facts_after_reset()
    assert again == first, f"{case}: a second boot differs"
    if not first.trial:
        assert flash.state() == content, f"{case}: a second boot wrote something"
    bench.wait(1)  # an application on trial comes to its end
    bench.run(courier.push())
    done = bench.facts_after_reset()
    assert (done.running, done.trial, done.counter, done.mark) == (NEW, False, 2, None), f"{case}: not finished: {done}"
    assert bench.held().is_not_below(held), case
    assert bench.whole_image(0) == NEW, case


@every_kind
def test_the_update_is_as_long_as_it_says(how: How) -> None:
    stage = scenario(how)
    operations = stage.end - stage.start.operations
    print(f"update by {how[0]}, {how[1]}: {operations} flash operations, {len(stage.cuts)} cuts")
    assert 60 <= operations <= 200


@pytest.mark.parametrize("part", range(4))
@every_kind
def test_a_sample_of_cuts(how: How, part: int) -> None:
    cases = scenario(how).cuts[part * STRIDE :: 4 * STRIDE]
    assert len(cases) > 10
    for cut in cases:
        replay(how, cut)


@pytest.mark.slow
@every_kind
def test_a_cut_at_every_operation(how: How) -> None:
    cases = scenario(how).cuts
    for cut in cases:
        replay(how, cut)
    assert len(cases) >= 240


@pytest.mark.deep
@every_kind
def test_a_cut_and_another_on_the_way_on(how: How) -> None:
    """Every 23rd cut, and after it every 11th of the courier's second attempt."""
    stage, count = scenario(how), 0
    for first in stage.cuts[::23]:
        flash = copy.deepcopy(stage.start)
        flash.power_cut = first
        courier = stage.bench(copy.deepcopy(stage.start)).courier()
        assert carry(stage, courier, flash)
        flash.power_cut = None
        flash.power_on()
        probe = copy.deepcopy(flash)
        rest = stage.bench(probe)
        rest.wait(1)
        rest.run(courier.push())
        seconds = cuts(flash.operations, probe.operations)
        for second in seconds[::11]:
            victim = copy.deepcopy(flash)
            victim.power_cut = second
            bench = stage.bench(victim)
            bench.wait(1)
            try:
                bench.run(courier.push())
            except BoardSilent:
                count += 1
            verdict(stage, courier, victim, f"{how}, cuts {first} {second}")
    assert count > 50
