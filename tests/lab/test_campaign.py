"""A campaign comes to the same end however often it is interrupted, by however many workers, and whatever the seed."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

import hillhold_bootsim
from campaigns import BEGAN, SMALL, Lacking, OneBoard, go, order, seeded, verdicts
from hillhold_bootsim.lab import conduct as conduct_module
from hillhold_bootsim.lab.broken import BY_ID
from hillhold_bootsim.lab.catalogue import CATALOGUE
from hillhold_bootsim.lab.conduct import NOT_CHOSEN, Step, Tell, _code, inputs
from hillhold_bootsim.lab.errors import CampaignRefused
from hillhold_bootsim.lab.journal import NAME
from hillhold_bootsim.lab.jsonform import from_json, to_json
from hillhold_bootsim.lab.model import Campaign, Verdict
from hillhold_bootsim.lab.operations import NO_OPERATIONS
from hillhold_bootsim.lab.report.summary import Standing, summarise
from hillhold_bootsim.lab.selfcheck import selfcheck
from hillhold_bootsim.lab.serialport import LACKS
from hillhold_bootsim.lab.target import GoneError, Target
from hillhold_bootsim.lab.through import Through
from hillhold_bootsim.lab.virtual import VirtualSpec
from hillhold_signer.errors import StorageError
from hillhold_verifier.link import Stream

DONE = ["line-noisy", "power-cuts-spread", "soak", "rollback-timestamp", "lower-version"]
"""What the small campaign does, in its order."""


class Stop(BaseException):
    """Ctrl-C, or worse."""


def stop_after(count: int) -> Tell:
    left = [count]

    def tell(_step: Step) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stop

    return tell


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return go(order(), tmp_path_factory.mktemp("whole"))


def test_a_campaign_does_what_its_file_orders_and_says_what_it_did_not(whole: Campaign) -> None:
    found = {case: (verdict, reason) for _, case, verdict, reason in verdicts(whole)}
    assert [case for case, (verdict, _) in found.items() if verdict == "pass"] == DONE
    assert found["wrong-hardware"] == ("not tested", "left out by the laboratory: done last week")
    assert found["expired-root"] == ("not tested", NOT_CHOSEN)
    assert {attack.case.id for attack in CATALOGUE} <= found.keys()
    assert [case.id for case in whole.cases] == list(found)
    assert whole.finished
    assert (whole.began, whole.seed) == (BEGAN, 3)
    assert {"campaign file", "catalogue", "code of hillhold_verifier"} <= whole.hashes.keys()
    assert summarise(whole).standing is Standing.PASSED
    assert from_json(to_json(whole)) == whole


def test_figures_say_how_much_was_done(whole: Campaign) -> None:
    figures = {result.case: result.figures for result in whole.tested[0].results}
    assert figures["soak"]["updates"] == 4
    assert figures["line-noisy"]["updates"] == 2
    assert figures["line-noisy"]["seconds"] > figures["line-noisy"]["longest seconds"] > 0.5
    assert figures["power-cuts-spread"]["cuts"] == 3


def test_a_soak_goes_back_and_forth(whole: Campaign) -> None:
    (soak,) = (result for result in whole.tested[0].results if result.case == "soak")
    (told,) = (one.text for one in soak.evidence if one.title == "each update")
    versions = [line.split()[1].rstrip(":") for line in told.splitlines()]
    assert versions[1] == versions[3] < versions[0] < versions[2]


@pytest.mark.slow
@pytest.mark.parametrize("steps", range(1, len(DONE) + 1))
def test_a_campaign_that_is_interrupted_comes_to_the_same_end(whole: Campaign, tmp_path: Path, steps: int) -> None:
    with pytest.raises(Stop):
        go(order(), tmp_path, tell=stop_after(steps))
    again: list[Step] = []
    assert go(order(), tmp_path, tell=again.append) == whole
    assert [step.case for step in again] == DONE[steps:]
    data = (tmp_path / NAME).read_bytes()
    assert go(order(), tmp_path) == whole
    assert (tmp_path / NAME).read_bytes() == data


def test_a_campaign_whose_journal_was_cut_short_anywhere_comes_to_the_same_end(whole: Campaign, tmp_path: Path) -> None:
    go(order(), tmp_path / "first")
    data = (tmp_path / "first" / NAME).read_bytes()
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / NAME).write_bytes(data[: len(data) * number // 6])
        assert go(order(), folder) == whole


@pytest.mark.slow
def test_workers_change_nothing(whole: Campaign, tmp_path: Path) -> None:
    assert go(order(), tmp_path, workers=2) == whole


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_seeds_change_no_verdict(whole: Campaign, tmp_path: Path, seed: int) -> None:
    assert verdicts(go(seeded(order(), seed), tmp_path)) == verdicts(whole)


def test_several_items_are_told_apart(tmp_path: Path) -> None:
    two = order(SMALL.replace("[attacks]", '[[item]]\nname = "two"\nboard = "b"\nserial_number = "0042"\n[attacks]'))
    found = go(two, tmp_path, {"two": VirtualSpec("other", components=("app",), hardware="other-board")})
    assert [(tested.item.name, tested.item.hardware) for tested in found.tested] == [
        ("one", "lab-board"),
        ("two", "other-board"),
    ]
    assert found.tested[1].item.serial_number == "0042"
    assert [result.case for result in found.tested[1].results if result.verdict is Verdict.PASS] == DONE


@pytest.mark.slow
def test_the_tool_validates_itself_first_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boards = (BY_ID["ignores-expiry-timestamp"], BY_ID["right"])
    monkeypatch.setattr(conduct_module, "selfcheck", partial(selfcheck, boards))
    ordered = order(SMALL.replace("seed = 3", "seed = 3\nselfcheck = true"))
    steps: list[Step] = []
    with pytest.raises(Stop):
        go(ordered, tmp_path, tell=stop_after(1))
    assert not summarise(found := go(ordered, tmp_path, tell=steps.append)).unfound
    assert [step.case for step in steps] == [*(board.id for board in boards), *DONE]
    assert [(row.board, row.found, row.good) for row in found.checks] == [
        ("ignores-expiry-timestamp", ("expired-timestamp",), True),
        ("right", (), True),
    ]
    assert found.finished
    again: list[Step] = []
    assert go(ordered, tmp_path, tell=again.append) == found
    assert again == []


# --- boards that live through it ---------------------------------------------------------------------------------------


def test_one_board_lives_through_all_of_it(whole: Campaign, tmp_path: Path) -> None:
    found = go(order(SMALL + "[paper]\n"), tmp_path, {"one": OneBoard(VirtualSpec())})
    assert verdicts(found) == verdicts(whole)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 7, 8, 9, 10])
def test_one_board_goes_on_in_the_middle_of_a_case(whole: Campaign, tmp_path: Path, steps: int) -> None:
    board = OneBoard(VirtualSpec())
    with pytest.raises(Stop):
        go(order(), tmp_path, {"one": board}, tell=stop_after(steps))
    again: list[Step] = []
    found = go(order(), tmp_path, {"one": board}, tell=again.append)
    assert verdicts(found) == verdicts(whole)
    assert len(again) == 2 + 3 + 4 + len(DONE) - steps
    (soak,) = (result for result in found.tested[0].results if result.case == "soak")
    assert soak.figures["updates"] == 4


def test_boards_that_live_through_it_do_so_at_once(whole: Campaign, tmp_path: Path) -> None:
    two = order(SMALL.replace("[attacks]", '[[item]]\nname = "two"\nboard = "b"\n[attacks]'))
    meet, met = Barrier(2), set[str]()

    def tell(step: Step) -> None:
        if step.item not in met:
            met.add(step.item)
            meet.wait(60)  # in turn the second would not begin before the first is done

    found = go(two, tmp_path, {name: OneBoard(VirtualSpec()) for name in ("one", "two")}, tell)
    expected = [row[1:] for row in verdicts(whole)]
    for name in ("one", "two"):
        assert [row[1:] for row in verdicts(found) if row[0] == name] == expected


class Vanishing(OneBoard):
    """After so many bytes the way to the board is gone."""

    left = 10**9

    def make(self, seed: int) -> Target:
        board = self

        class Loose(Through):
            def open(self) -> Stream:
                stream = super().open()
                write = stream.write

                def counted(data: bytes, /) -> object:
                    board.left -= len(data)
                    if board.left < 0:
                        raise GoneError("the adapter was pulled out")
                    return write(data)

                stream.write = counted  # type: ignore[method-assign]
                return stream

        return Loose(self.target)


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 200, 5_000, 20_000, 45_000])
def test_a_board_that_vanishes_ends_its_item_and_is_gone_on_with(whole: Campaign, tmp_path: Path, left: int) -> None:
    two = order(SMALL.replace("[attacks]", '[[item]]\nname = "two"\nboard = "b"\n[attacks]'))
    board = Vanishing(VirtualSpec())
    board.left = left
    found = go(two, tmp_path, {"one": board})
    assert not found.finished
    assert "pulled out" in found.tested[0].item.facts["ended early"]
    assert summarise(found).standing is Standing.UNDECIDED
    assert not [result for result in found.tested[0].results if result.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)]
    assert [result.case for result in found.tested[1].results if result.verdict is Verdict.PASS] == DONE
    board.target, board.left = VirtualSpec().make(3), 10**9
    found = go(two, tmp_path, {"one": board})
    assert found.finished
    assert "ended early" not in found.tested[0].item.facts
    assert [row for row in verdicts(found) if row[0] == "one"] == verdicts(whole)


class Unreachable(OneBoard):
    def make(self, seed: int) -> Target:
        raise GoneError("no such port")


def test_a_board_that_cannot_be_reached_is_not_tested_and_says_so(tmp_path: Path) -> None:
    found = go(order(), tmp_path, {"one": Unreachable(VirtualSpec())})
    assert not found.finished
    assert found.tested[0].item.facts["ended early"] == "the board cannot be reached: no such port"


def test_a_real_board_has_no_cuts_at_operations_and_says_why(tmp_path: Path) -> None:
    text = SMALL.replace("spread = 3", "depth = 1")
    found = go(order(text), tmp_path, {"one": OneBoard(VirtualSpec())})
    assert ("one", "power-cuts-at-operations", "not tested", NO_OPERATIONS) in verdicts(found)


def test_a_board_without_a_switch_has_no_cuts_and_says_why(tmp_path: Path) -> None:
    board = OneBoard(VirtualSpec())
    board.target = Lacking(board.target, "power")
    found = go(order(), tmp_path, {"one": board})
    assert ("one", "power-cuts-spread", "not tested", LACKS["power"]) in verdicts(found)


def test_a_line_that_lets_nothing_through_fails(tmp_path: Path) -> None:
    found = go(order(SMALL.replace("errors = 1e-4", "drops = 1")), tmp_path)
    (line,) = (result for result in found.tested[0].results if result.case == "line-noisy")
    assert (line.verdict, line.reason) == (Verdict.FAIL, "update 1 failed")
    assert summarise(found).standing is Standing.FAILED


INPUTS = SMALL.replace('board = "virtual-m4-1m"', 'board = "mine.toml"\nfirmware = "app.bin"')
"""A campaign with a board file and firmware beside it."""


@pytest.mark.parametrize("name", ["mine.toml", "app.bin"])
def test_what_went_in_and_changed_meanwhile_is_refused_until_it_is_as_it_was(tmp_path: Path, name: str) -> None:
    for each in ("mine.toml", "app.bin"):
        (tmp_path / each).write_bytes(b"before")
    ordered = order(INPUTS, tmp_path)
    began = inputs(ordered)

    def change(_step: Step) -> None:
        (tmp_path / name).write_bytes(b"after")

    for tell in (change, lambda _step: None):  # at the end of the run, and at the beginning of the next
        with pytest.raises(CampaignRefused, match=rf"SHA-256 of the .* {name}, since the campaign began"):
            go(ordered, tmp_path / "out", tell=tell)
    (tmp_path / name).write_bytes(b"before")
    found = go(ordered, tmp_path / "out")
    assert found.finished
    assert found.hashes == began


def test_boards_and_clauses_that_ship_count_as_code(tmp_path: Path) -> None:
    copied = Path(shutil.copytree(Path(hillhold_bootsim.__file__).parent, tmp_path / "copy"))
    whole = _code(copied)
    for path in (copied / "boards/nrf52840dk.toml", copied / "lab/clauses/eu-cra.toml", copied / "uart.py"):
        path.write_bytes(path.read_bytes() + b"\n")
        assert _code(copied) != whole
        whole = _code(copied)


def test_a_full_disk_ends_a_campaign_and_it_goes_on(
    whole: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = os.fsync, [0]

    def full(descriptor: int) -> None:
        count[0] += 1
        if count[0] == 4:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        go(order(), tmp_path)
    assert go(order(), tmp_path) == whole
