"""What is read of a flash without its agent is what the board's own parts say, in both boot modes; and it finds what they would hide."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from bench import LAYOUT, SWAPPING
from hillhold_bootsim.lab.bench import Bench, ran
from hillhold_bootsim.lab.reading import Ran, image_in
from hillhold_bootsim.lab.target import Trials
from hillhold_bootsim.lab.virtual import VirtualSpec, VirtualTarget
from hillhold_bootsim.layout import Layout

SPEC = VirtualSpec()


def bench(layout: Layout) -> Bench:
    return Bench(replace(SPEC, layout=layout, name=layout.name).make(3), 3)


def target(of: Bench) -> VirtualTarget:
    assert isinstance(of.target, VirtualTarget)
    return of.target


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
def test_it_reads_what_runs_through_installs_trials_and_reverts(layout: Layout) -> None:
    one = bench(layout)
    assert target(one).read().running == ()
    first = one.update()
    for _ in range(3):
        found = target(one).read()
        assert (found.running, found.confirmed) == ((ran(one.current),), (ran(one.current),))
        assert (found.trial, found.marked, found.counters) == (False, False, (1,))
        one.update()
    assert first.version != one.current.version
    tried = one.trial()
    found = target(one).read()
    assert (found.running, found.confirmed, found.trial) == ((ran(tried),), (ran(one.current),), True)
    one.script(Trials.FAIL)
    one.reset()
    one.wait(1)
    found = target(one).read()
    assert (found.running, found.confirmed, found.trial) == ((ran(one.current),), (ran(one.current),), False)


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
def test_it_says_the_same_as_the_board_and_goes_by_the_bytes(layout: Layout) -> None:
    one = bench(layout)
    one.settle()
    found, said = target(one).read(), one.words.said
    assert said.running[0].is_same(found.running[0])
    assert (said.counters, said.trial, said.marked) == (found.counters, found.trial, found.marked)
    assert found.floors is not None
    assert found.floors["root"] == 1
    assert found.floors["line"] == (said.floors or {})["line"]


def test_a_mark_is_read() -> None:
    one = bench(LAYOUT)
    one.settle()
    one.house.release()
    one.push(one.house.repo, reset=False)
    assert target(one).read().marked is True


def test_what_is_no_image_is_none() -> None:
    data = bench(LAYOUT)
    data.settle()
    image = data.current.data
    assert image_in(image + b"\xff" * 99) == Ran(sha256(image).hexdigest(), len(image), data.current.version)
    for other in (b"", image[:31], b"\xff" * 500, image[:40], b"\0" + image):
        assert image_in(other) is None


def test_images_are_the_same_by_their_bytes_or_else_by_their_version() -> None:
    assert Ran("aa", 1, "1.0.0").is_same(Ran("aa"))
    assert not Ran("aa", 1, "1.0.0").is_same(Ran("bb", 1, "1.0.0"))
    assert Ran(version="1.0.0").is_same(Ran("aa", 1, "1.0.0"))
    assert not Ran(version="").is_same(Ran("aa", 1, ""))
