"""Soak and lines find what goes wrong in one update of many, and are not talked out of it by the board."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hillhold_bootsim.flash import Cut, Operation
from hillhold_bootsim.lab.campaign import CutsOrder, LineOrder
from hillhold_bootsim.lab.cuts import CutsWork
from hillhold_bootsim.lab.honest import Kept, Stand, Work
from hillhold_bootsim.lab.journal import Part
from hillhold_bootsim.lab.judge import VERSION
from hillhold_bootsim.lab.lines import LineWork
from hillhold_bootsim.lab.model import Result, Verdict
from hillhold_bootsim.lab.reading import Ran, Reading
from hillhold_bootsim.lab.runner import Firmware
from hillhold_bootsim.lab.soak import SoakWork
from hillhold_bootsim.lab.target import Target
from hillhold_bootsim.lab.through import Through
from hillhold_bootsim.lab.virtual import VirtualSpec
from hillhold_bootsim.linefaults import LineFaults
from hillhold_bootsim.stock import Stock


def soak(target: Target, updates: int = 6, parts: list[Part] | None = None) -> Result:
    kept = Kept((), parts.append) if parts is not None else Kept()
    return SoakWork(updates).do(Stand(target, 3, Firmware()), kept)


class Changed(Through):
    """What is read of a board from the nth reading on is changed."""

    def __init__(self, target: Target, nth: int, **changes: object) -> None:
        super().__init__(target)
        self.left, self._changes = nth, changes
        self.kept: Reading | None = None

    def read(self) -> Reading | None:
        found = super().read()
        self.left -= 1
        if self.left == 0:
            self.kept = found
        if self.left >= 0 or found is None:
            return found
        changes = {name: value or getattr(self.kept, name) for name, value in self._changes.items()}
        return replace(found, **changes)  # type: ignore[arg-type]


def test_a_board_that_says_that_it_was_updated_and_was_not_fails() -> None:
    result = soak(Changed(VirtualSpec().make(3), 6, running=None))
    assert result.verdict is Verdict.FAIL
    assert "says that it runs the release, and does not" in result.evidence[0].text


def test_a_board_whose_counter_goes_down_fails() -> None:
    result = soak(Changed(VirtualSpec().make(3), 6, counters=(0,)))
    assert result.verdict is Verdict.FAIL
    assert "security counter is lower" in result.evidence[0].text


def test_a_board_whose_floor_goes_down_fails() -> None:
    result = soak(Changed(VirtualSpec().make(3), 6, floors={"root": 1, "timestamp": 1}))
    assert result.verdict is Verdict.FAIL
    assert "the floor of" in result.evidence[0].text


class OfVersion(Through):
    """A board of which a version can be read, and no bytes, as through many an adapter."""

    def read(self) -> Reading | None:
        found = super().read()
        return found and Reading(tuple(Ran(version=one.version) for one in found.running))


def works() -> list[Work]:
    cuts, line = CutsOrder(spread=2), LineOrder("good", 115200, 0, 62, LineFaults(), 2)
    return [SoakWork(2), CutsWork(cuts), LineWork(line)]


@pytest.mark.parametrize("work", works(), ids=lambda work: work.case.group)
def test_a_verdict_by_version_alone_says_so(work: Work) -> None:
    result = work.do(Stand(OfVersion(VirtualSpec().make(3)), 3, Firmware()), Kept())
    assert result.verdict is Verdict.PASS
    assert result.reason.endswith(VERSION)


@pytest.mark.parametrize("work", works(), ids=lambda work: work.case.group)
def test_the_evidence_has_words_and_state_before_the_first_part_and_after_the_last(work: Work) -> None:
    result = work.do(Stand(VirtualSpec().make(3), 3, Firmware()), Kept())
    kinds = [(one.kind, one.title.split()[0]) for one in result.evidence]
    seen = [
        ("words", "before"),
        ("state", "before"),
        ("note", "each"),
        ("trace", "the"),
        ("words", "after"),
        ("state", "after"),
    ]
    assert kinds == seen
    before, after = (result.evidence[at].text for at in (1, -1))
    assert before != after
    assert "floor timestamp" in before


def test_a_part_that_failed_before_an_interruption_is_not_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Part({}, "", "the board went back")
    for work in works():
        bench = Stand(VirtualSpec().make(3), 3, Firmware())
        monkeypatch.setattr(bench, "update", pytest.fail)
        monkeypatch.setattr(bench, "install", pytest.fail)
        result = work.do(bench, Kept([Part(), failed]))
        assert result.verdict is Verdict.FAIL
        assert result.evidence[0].text == failed.problem


def test_the_first_update_that_fails_ends_it_and_is_named() -> None:
    class Worn:
        """Its flash gives out."""

        left = 900

        def decide(self, operation: Operation) -> tuple[Cut, int] | None:
            self.left -= 1
            return (Cut.BEFORE, 0) if self.left < 0 else None

    target = VirtualSpec().make(3)
    target.board.flash.power_cut = Worn()
    parts: list[Part] = []
    result = soak(target, 40, parts)
    assert 1 < len(parts) < 40
    assert (result.verdict, result.reason) == (Verdict.FAIL, f"update {len(parts)} failed")
    assert [bool(part.problem) for part in parts] == [False] * (len(parts) - 1) + [True]


def test_a_stock_board_goes_forth_alone() -> None:
    result = soak(VirtualSpec(stock=Stock.ZEPHYR).make(3), 4)
    assert result.verdict is Verdict.PASS
    (told,) = (one.text for one in result.evidence if one.title == "each update")
    versions = [line.split()[1] for line in told.splitlines()]
    assert versions == sorted(versions)
    assert len(set(versions)) == 4


@pytest.mark.deep
def test_a_soak_of_thousands_wears_nothing_out_and_is_as_quick_at_its_end() -> None:
    parts: list[Part] = []
    result = soak(VirtualSpec().make(3), 4000, parts)
    assert (result.verdict, result.reason) == (Verdict.PASS, "4000 updates back and forth came in")
    assert (len(parts), result.figures["updates"]) == (4000, 4000)
    assert result.figures["longest seconds"] < 2 * result.figures["mean seconds"]
    (told,) = (one.text for one in result.evidence if one.title == "each update")
    assert len(told.splitlines()) < 100
