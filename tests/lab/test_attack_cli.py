"""`hillhold-lab attack`, `plan` and `identify`."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from hillhold_bootsim.cli import main
from hillhold_bootsim.lab.catalogue import CATALOGUE
from hillhold_bootsim.lab.house import House
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.metadata import parse_root
from hillhold_verifier.select import Device


def lab(*words: object, answers: str = "") -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], input=answers)


def test_cases_are_listed() -> None:
    text = lab("attack", "--list")
    assert text.exit_code == 0
    assert len(text.stdout.splitlines()) == len(CATALOGUE)
    rows = json.loads(lab("attack", "--list", "--json").stdout)
    assert [row["id"] for row in rows] == [attack.case.id for attack in CATALOGUE]
    assert all(row["sources"] for row in rows)


def test_verdicts_are_printed_each_with_its_sentence() -> None:
    result = lab("attack", "rollback-line", "expired-root", "--workers", 1)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert (
        lines[0] == "PASS         small  rollback-line: the board runs as before, and its maker's next release came in"
    )
    assert lines[-1] == "small: 2 pass"


def test_a_failed_case_is_exit_code_one() -> None:
    result = lab("attack", "image-older-uploaded", "--stock", "zephyr", "--json")
    assert result.exit_code == 1
    (board,) = json.loads(result.stdout)
    (row,) = board["results"]
    assert (row["verdict"], row["independent"]) == ("fail", True)
    assert {one["kind"] for one in row["evidence"]} >= {"trace", "state", "words"}


def test_a_case_that_does_not_exist_is_a_usage_error() -> None:
    result = lab("attack", "rollback-everything")
    assert result.exit_code == 2
    assert "--list" in result.output


def test_a_board_that_is_named_twice_is_a_usage_error() -> None:
    assert lab("attack", "--board", "nrf52840dk", "--board", "nrf52840dk").exit_code == 2


def test_a_real_board_is_asked_for_and_without_a_yes_nothing_is_done(tmp_path: Path) -> None:
    adapter = tmp_path / "touched.py"
    adapter.write_text(f"open({str(tmp_path / 'touched')!r}, 'w').close()\n")
    for answers in ("", "n\n"):
        result = lab("attack", "rollback-line", "--adapter", adapter, answers=answers)
        assert result.exit_code == 2
        assert "cannot be undone" in result.output
        assert "nothing was done" in result.output
        assert not (tmp_path / "touched").exists()


def test_a_yes_goes_on_and_what_could_not_be_tested_is_no_success(tmp_path: Path) -> None:
    adapter = tmp_path / "none.py"
    adapter.write_text("")
    result = lab("attack", "rollback-line", "--adapter", adapter, "--yes")
    assert result.exit_code == 3
    assert "NOT TESTED" in result.stdout


def test_what_one_board_passed_says_nothing_of_one_that_is_not_there() -> None:
    both = ("--board", "virtual-m4-1m", "--port", "./no-such-port", "--yes")
    result = lab("attack", "rollback-timestamp", *both, "--workers", 1)
    assert result.exit_code == 3
    assert "virtual-m4-1m: 1 pass" in result.stdout
    assert "./no-such-port: 1 not tested" in result.stdout


def test_the_plan_says_what_stays_and_writes_what_a_board_has_to_trust(tmp_path: Path) -> None:
    result = lab("plan", "lower-counter", "--provisioning", tmp_path / "new", "--seed", 5)
    assert result.exit_code == 0, result.output
    assert "cannot be undone" in result.stdout
    assert "the security counter is one higher" in result.stdout
    house = House(5, Device("any", "any", ""), 0)
    assert (tmp_path / "new/1.root.json").read_bytes() == house.first_root
    assert parse_root(house.first_root).signed.version == 1
    assert ImageKey.from_pem((tmp_path / "new/boot.pub").read_bytes()) == house.boot_key
    told = json.loads(lab("plan", "lower-counter", "--json").stdout)
    assert [row["id"] for row in told["cases"]] == ["lower-counter"]


def test_identify_says_what_a_board_is_and_what_it_lacks() -> None:
    result = lab("identify", "--board", "nrf52840dk", "--json")
    assert result.exit_code == 0, result.output
    (board,) = json.loads(result.stdout)["boards"]
    assert (board["kind"], board["facts"]["hardware"], board["lacks"]) == ("virtual", "nrf52840dk", {})
    assert "running" in lab("identify", "--stock", "zephyr").stdout
