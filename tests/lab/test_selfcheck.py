"""The lab validates itself: each planted fault is found and rightly named, a right board is blamed for nothing."""

from __future__ import annotations

import json
from importlib import import_module

import pytest
from click.testing import CliRunner, Result

from hillhold_bootsim.cli import main
from hillhold_bootsim.lab import selfcheck as module
from hillhold_bootsim.lab.broken import BOARDS, BROKEN, BY_ID, RIGHT, spec_of
from hillhold_bootsim.lab.broken.plant import Fault, Plant
from hillhold_bootsim.lab.catalogue import BY_ID as CASES
from hillhold_bootsim.lab.house import House
from hillhold_bootsim.lab.model import Check, Verdict
from hillhold_bootsim.lab.runner import run
from hillhold_bootsim.lab.selfcheck import IDS, cases_for, selfcheck
from hillhold_bootsim.lab.virtual import EPOCH, VirtualSpec
from hillhold_verifier import trust
from hillhold_verifier.trust import Trust

HANDFUL = tuple(
    BY_ID[name]
    for name in (
        "ignores-expiry-timestamp",
        "hashes-the-first-half",
        "marks-half-a-set",
        "never-raises-the-counter",
        "stops-at-a-malformed-message",
    )
)


def lab(*words: str) -> Result:
    result = CliRunner().invoke(main, ["selfcheck", *words])
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result


# --- the boards -------------------------------------------------------------------------------------------------------


def test_every_broken_board_has_a_name_of_its_own_and_right_names_in_the_catalogue() -> None:
    assert len(BROKEN) >= 80
    assert len(BY_ID) == len(BOARDS)
    for board in BROKEN:
        assert board.finds, board.id
        assert set(board.finds) <= set(IDS), board.id
        assert board.sentence.endswith("."), board.id


@pytest.mark.parametrize("board", HANDFUL, ids=lambda board: board.id)
def test_a_planted_fault_is_found_by_each_of_its_right_names(board: Fault) -> None:
    (check,) = selfcheck([board])
    assert check.good
    assert set(board.finds) <= set(check.found)


def test_a_fault_is_in_its_own_board_alone_and_only_while_that_runs() -> None:
    before = {name: vars(holder)[name] for holder, name in ((trust, "check_expiry"), (Trust, "now"))}
    cases = [CASES["expired-timestamp"]]
    broken = spec_of(BY_ID["ignores-expiry-timestamp"])
    tested = run(cases, [VirtualSpec(), broken, VirtualSpec("again")], 0)
    assert [one.results[0].verdict for one in tested] == [Verdict.PASS, Verdict.FAIL, Verdict.PASS]
    assert before == {name: vars(holder)[name] for holder, name in ((trust, "check_expiry"), (Trust, "now"))}


def test_a_fault_is_taken_out_when_the_boards_code_raises() -> None:
    board = VirtualSpec().make(0).board
    plant = Plant(House(0, VirtualSpec().device, EPOCH))
    plant.replace(trust, "check_expiry", lambda _right: None)
    right = vars(trust)["check_expiry"]
    seen: list[object] = []

    def feed(*_: object) -> bytes:
        seen.append(vars(trust)["check_expiry"])
        raise ZeroDivisionError

    board.feed = feed  # type: ignore[assignment, method-assign]
    plant.grow(board)
    with pytest.raises(ZeroDivisionError):
        board.feed(b"", None)
    assert seen == [None]
    assert vars(trust)["check_expiry"] is right


# --- the rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rows_do_not_depend_on_seed_or_workers() -> None:
    rows = selfcheck(HANDFUL, seed=0)
    assert selfcheck(HANDFUL, seed=7, workers=2) == rows
    assert [row.board for row in rows] == [board.id for board in HANDFUL]


def test_a_board_that_no_case_finds_fails_the_selfcheck() -> None:
    harmless = Fault("right", "It is said to be broken, and is not.", ("expired-line",), RIGHT[0].plant, VirtualSpec())
    (check,) = selfcheck([harmless])
    assert (check.good, check.found) == (False, ())


def test_a_board_that_is_named_wrongly_fails_the_selfcheck() -> None:
    real = BY_ID["ignores-expiry-timestamp"]
    wrong = Fault(real.id, real.sentence, ("expired-snapshot",), real.plant, real.spec)
    (check,) = selfcheck([wrong])
    assert (check.good, check.found) == (False, ("expired-timestamp",))


def test_a_right_board_that_fails_a_case_fails_the_selfcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "check_expiry", lambda *_: None)
    monkeypatch.setattr(module, "IDS", ("expired-line", "wrong-product"))
    (check,) = selfcheck(RIGHT[:1])
    assert (check.good, check.found) == (False, ("expired-line",))


def test_a_case_that_no_right_board_takes_part_in_fails_the_selfcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDS", ("half-a-set",))
    one_component = (RIGHT[0],)
    monkeypatch.setattr(module, "RIGHT", one_component)
    (check,) = selfcheck(one_component)
    assert (check.good, check.found) == (False, ("half-a-set",))


def test_by_default_a_broken_board_takes_its_right_names_and_their_neighbours() -> None:
    board = BY_ID["ignores-expiry-timestamp"]
    at = IDS.index("expired-timestamp")
    assert cases_for(board, full=False) == IDS[at - 1 : at + 2]
    assert cases_for(board, full=True) == cases_for(RIGHT[0], full=False) == IDS


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_shows_a_row_for_each_board_and_the_sum() -> None:
    done = lab("ignores-expiry-timestamp", "counts-key-ids", "--workers", "1")
    assert done.exit_code == 0
    first, second, last = done.output.splitlines()
    assert first.split(maxsplit=2)[:2] == ["good", "ignores-expiry-timestamp"]
    assert "found by expired-timestamp" in first
    assert "counts-key-ids" in second
    assert last.startswith("2 boards, 2 as they should be, 0 off; 6 attacks")


def test_the_command_exits_with_1_where_a_row_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        Check("a", "It lacks one.", ("expired-line",), ()),
        Check("b", "It lacks another.", ("expired-line",), ("expired-root",)),
        Check("right", "It has no fault.", (), ("wrong-product",)),
    )

    def found(_boards: object, _seed: int, _workers: int, *, full: bool, report: object) -> tuple[Check, ...]:
        assert full
        for row in rows:
            report(row)  # type: ignore[operator]
        return rows

    # The module by its name in sys.modules: in the package, the command has the same name.
    monkeypatch.setattr(import_module("hillhold_bootsim.cli.selfcheck"), "selfcheck", found)
    done = lab("--full")
    assert done.exit_code == 1
    assert "NOT FOUND; expected expired-line to fail" in done.output
    assert "NAMED WRONGLY, by expired-root; right would be expired-line" in done.output
    assert "failed, undecided or left out: wrong-product" in done.output
    assert "3 boards, 0 as they should be, 3 off" in done.output


def test_the_command_speaks_json_and_lists_the_boards() -> None:
    row = json.loads(lab("counts-key-ids", "--workers", "1", "--json").output)[0]
    assert row["board"] == "counts-key-ids"
    assert row["expected"] == ["delegated-two-ids"]
    assert row["good"] is True
    listed = json.loads(lab("--list", "--json").output)
    assert [one["id"] for one in listed] == [board.id for board in BOARDS]
    assert len(lab("--list").output.splitlines()) == len(BOARDS)


def test_an_unknown_board_is_a_usage_error() -> None:
    done = lab("sings")
    assert done.exit_code == 2
    assert "no board sings" in done.output


# --- all of it --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_broken_board_is_found_by_each_of_its_right_names_and_right_boards_pass_everything() -> None:
    for check in selfcheck(workers=2):
        assert check.good, check
        assert set(check.expected) <= set(check.found), check


@pytest.mark.deep
def test_the_whole_catalogue_on_every_board_names_every_fault_whatever_the_seed() -> None:
    rows = selfcheck(seed=1, workers=2, full=True)
    assert all(row.good for row in rows), [row for row in rows if not row.good]
    assert selfcheck(seed=2, workers=2, full=True) == rows
