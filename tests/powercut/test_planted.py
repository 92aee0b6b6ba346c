"""The proof is proved: each planted bug is found, by a case that can be replayed; and cuts on the edges of operations alone miss some.

`TABLE` says which kinds of cut find which bug, in all cases of the scenario; docs/POWER-CUTS.md shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import BootMode, Layout
from hillhold_bootsim.powercut.explore import Case, Explorer, parse_id
from hillhold_bootsim.powercut.machine import StuckError
from hillhold_bootsim.powercut.making import make_scenario
from hillhold_bootsim.powercut.scenario import Scenario
from planted import BUGS

DOCUMENT = Path(__file__).parents[2] / "docs" / "POWER-CUTS.md"
KINDS = ("edge", "torn program", "torn erase", "unstable")
EVERY = frozenset(KINDS)
TORN = frozenset(("torn program", "torn erase"))
TABLE = {
    ("marked too early", "remap"): EVERY,
    ("marked too early", "swap"): EVERY,
    ("counter too early", "remap"): EVERY,
    ("counter too early", "swap"): EVERY,
    ("one state record", "remap"): EVERY,
    ("one state record", "swap"): EVERY,
    ("one flag record", "remap"): EVERY - {"unstable"},
    ("one flag record", "swap"): EVERY - {"unstable"},
    ("no checksum", "remap"): TORN,
    ("no checksum", "swap"): TORN,
    ("half-erased", "swap"): TORN,
    ("status by value", "swap"): frozenset({"torn program"}),
    ("no resume", "swap"): EVERY,
    ("saved too late", "remap"): EVERY,
    ("saved too late", "swap"): EVERY,
    ("way back erased", "remap"): EVERY,
    ("way back erased", "swap"): EVERY,
}
"""Besides: `newer format` goes wrong without any cut, and `no check on revert` only where the flash fails as well; each has its test."""


@cache
def scenario(mode: str) -> Scenario:
    geometry = Geometry.uniform(160 * 1024, 2048, 8, otp=256)
    layout = Layout.in_a_row("small", geometry, 24 * 1024, 20 * 1024, mode=BootMode(mode))
    return make_scenario(layout, 9000)


def kind_of(case: Case) -> str:
    if case.how in ("before", "after"):
        return "edge"
    return case.how if case.how == "unstable" else f"torn {case.step.operation.kind}"


def distinct(explorer: Explorer, kinds: frozenset[str] = EVERY) -> Iterator[Case]:
    seen = set()
    for case in explorer.cases(explorer.steps):
        if kind_of(case) in kinds and case.state not in seen:
            seen.add(case.state)
            yield case


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["remap", "swap"])
def test_without_a_bug_the_edges_find_nothing(mode: str) -> None:
    explorer = Explorer(scenario(mode))
    cases = list(distinct(explorer, frozenset({"edge"})))
    assert len(cases) > 100
    assert [case.id for case in cases if explorer.explore(case).problem] == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), TABLE)
def test_each_bug_is_found_and_replayed(name: str, mode: str) -> None:
    explorer = Explorer(scenario(mode), BUGS[name].design)
    edges_first = sorted(distinct(explorer), key=lambda case: kind_of(case) != "edge")
    found = next((case for case in edges_first if explorer.explore(case).problem), None)
    assert found is not None, f"{BUGS[name].words}: not found"

    anew = Explorer(scenario(mode), BUGS[name].design)
    problem = anew.explore(anew.find(parse_id(found.id))).problem
    print(f"{BUGS[name].words}, {mode}: {found.id} ({found.step.phase}, {found.how}): {problem}")
    assert problem is not None
    row = next(line for line in DOCUMENT.read_text().splitlines() if f"| {BUGS[name].words} | {mode} |" in line)
    assert row.endswith(f"| `{found.id}` |")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), TABLE)
def test_cuts_on_the_edges_alone_find_what_the_table_says(name: str, mode: str) -> None:
    explorer = Explorer(scenario(mode), BUGS[name].design)
    found = any(explorer.explore(case).problem for case in distinct(explorer, frozenset({"edge"})))
    assert found == ("edge" in TABLE[name, mode])


@pytest.mark.deep
@pytest.mark.parametrize(("name", "mode"), TABLE)
def test_the_table_is_true(name: str, mode: str) -> None:
    explorer = Explorer(scenario(mode), BUGS[name].design)
    found = {kind_of(case) for case in distinct(explorer) if explorer.explore(case).problem}
    assert found == TABLE[name, mode]


@pytest.mark.parametrize("mode", ["remap", "swap"])
def test_a_state_that_older_images_cannot_read_goes_wrong_without_any_cut(mode: str) -> None:
    with pytest.raises(StuckError, match="without any cut: counter or floors went down"):
        Explorer(scenario(mode), BUGS["newer format"].design)


@pytest.mark.parametrize("mode", ["remap", "swap"])
def test_no_check_on_revert_needs_flash_that_fails_too(mode: str) -> None:
    """No power cut finds it, as nothing that a cut leaves damages the confirmed image. A bit of that image that flips does."""
    careless, careful = Explorer(scenario(mode), BUGS["no check on revert"].design), Explorer(scenario(mode))
    last = [case for case in distinct(careful, frozenset({"edge"})) if case.step.phase == "boot after a failed test"][
        -1
    ]
    image = scenario(mode).offers[1].image
    flipped = [
        case for at in (40, len(image) // 2) if (case := _with_flipped_bit(last, image[at - 32 : at])) is not None
    ]
    assert flipped
    for case in flipped:
        assert "is no whole authentic image" in str(careless.explore(case).problem)
        assert "nothing boots" in str(careful.explore(case).problem), "refused, and not booted"


def _with_flipped_bit(case: Case, piece: bytes) -> Case | None:
    """The case in which one bit behind these bytes reads wrong."""
    for index, sector in enumerate(case.state):
        at = sector.content.find(piece)
        if at >= 0 and at + len(piece) < len(sector.content):
            content = bytearray(sector.content)
            content[at + len(piece)] ^= 0x10
            state = (*case.state[:index], sector._replace(content=bytes(content)), *case.state[index + 1 :])
            return replace(case, state=state)
    return None


def test_the_document_shows_the_table() -> None:
    text = DOCUMENT.read_text()
    for (name, mode), kinds in TABLE.items():
        marks = " | ".join("found" if kind in kinds else "missed" for kind in KINDS)
        assert f"| {BUGS[name].words} | {mode} | {marks} |" in text
