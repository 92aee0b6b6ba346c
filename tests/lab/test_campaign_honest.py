"""Soak and lines find what goes wrong in one update of many, and are not talked out of it by the board."""

from __future__ import annotations

from dataclasses import replace

from hillhold_bootsim.flash import Cut, Operation
from hillhold_bootsim.lab.honest import Kept, Stand
from hillhold_bootsim.lab.journal import Part
from hillhold_bootsim.lab.model import Result, Verdict
from hillhold_bootsim.lab.reading import Reading
from hillhold_bootsim.lab.runner import Firmware
from hillhold_bootsim.lab.soak import SoakWork
from hillhold_bootsim.lab.target import Target
from hillhold_bootsim.lab.through import Through
from hillhold_bootsim.lab.virtual import VirtualSpec
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
    result = soak(Changed(VirtualSpec().make(3), 5, running=None))
    assert result.verdict is Verdict.FAIL
    assert "says that it runs the release, and does not" in result.evidence[0].text


def test_a_board_whose_counter_goes_down_fails() -> None:
    result = soak(Changed(VirtualSpec().make(3), 5, counters=(0,)))
    assert result.verdict is Verdict.FAIL
    assert "security counter is lower" in result.evidence[0].text


def test_a_board_whose_floor_goes_down_fails() -> None:
    result = soak(Changed(VirtualSpec().make(3), 5, floors={"root": 1, "timestamp": 1}))
    assert result.verdict is Verdict.FAIL
    assert "the floor of" in result.evidence[0].text


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
