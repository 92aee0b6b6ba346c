"""`hillhold-device` and a stock board (`hillhold-lab board --stock`) as processes, through a pseudo-terminal or TCP."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hillhold_bootsim import boards
from hillhold_verifier.hostfiles import exclusive
from hillhold_verifier.stockpush import TRUST_NOTE
from lab import BIN, TIMEOUT, Board, Done, Lab, device, run


@contextmanager
def stock(lab: Lab, flash: Path, kind: str = "zephyr", *options: object) -> Iterator[Board]:
    """Run a stock board; its bootloader holds the lab's image key."""
    log = flash.with_suffix(".log")
    words = [
        "--flash",
        flash,
        "--boot-key",
        lab.folder / "boot.pub",
        "--link",
        flash.with_suffix(".tty"),
        "--stock",
        kind,
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*map(str, (BIN / "hillhold-lab", "board", *words, *options))],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield Board(process, log)
    finally:
        process.kill()
        process.wait(TIMEOUT)


def first(lab: Lab) -> tuple[object, ...]:
    """What is said of a board at the first push."""
    return "--root", lab.root, "--product", "pump", "--hardware", "nrf51-a"


def push(source: Path, board: Board, state: Path, *options: object) -> Done:
    return device("push", source, "--port", board.port, "--host-state", state, *options)


def test_the_whole_way_from_an_empty_board(lab: Lab, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with stock(lab, tmp_path / "flash") as board:
        assert "recovery" in board.wait_for("boot (power-on)")
        refused = push(lab.one, board, state, *first(lab))
        assert refused.code == 1
        assert "there is no way back" in refused.err
        assert "--no-way-back" in refused.err
        written = push(lab.one, board, state, "--no-way-back")
        assert written.code == 0
        assert written.out.splitlines()[1] == TRUST_NOTE
        board.wait_for("boot (soft): 1.0.0 from slot 0")
        done = push(lab.two, board, state, "--json")
        assert done.code == 0
        assert (done.json["installed"], done.json["end"]) == (["pump/1.1.0/app.bin"], "confirmed")
        assert done.json["verified"] == {"metadata": "this host", "board": "the image's signature only"}
        board.wait_for("1.1.0 from slot 1, on trial")
        again = push(lab.two, board, state)
        assert (again.code, again.out.splitlines()[0]) == (0, "nothing to install: the board is up to date")
        status = device("status", "--port", board.port)
        assert "stock board        SMP, and not Hillhold's group" in status.out
        assert "no metadata, no floors" in status.out
        images = device("status", "--port", board.port, "--json").json["images"]
        assert [(image["version"], image["active"], image["confirmed"]) for image in images if image["active"]] == [
            ("1.1.0", True, True)
        ]


def test_the_whole_way_over_raw(lab: Lab, tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "raw.toml"
    text = boards.board_text("virtual-m4-1m").replace('hardware = "virtual-m4-1m"', 'hardware = "nrf51-a"')
    file.write_text(text.replace("baud = 115200", 'baud = 115200\ntransports = ["raw"]'))
    with stock(lab, tmp_path / "flash", "zephyr", file) as board:
        assert push(lab.one, board, state, *first(lab), "--no-way-back").code == 0
        board.wait_for("boot (soft): 1.0.0")
        done = push(lab.two, board, state, "--transport", "raw")
        assert done.code == 0
        assert done.out.startswith("installed and confirmed pump/1.1.0/app.bin")


@pytest.mark.deep
def test_a_board_of_another_kind_is_said_and_nothing_is_written(lab: Lab, tmp_path: Path) -> None:
    with stock(lab, tmp_path / "flash") as board:
        plain = device("push", lab.one, "--port", board.port)
        assert (plain.code, plain.err.splitlines()[0]) == (
            3,
            "error: a stock board: it has SMP, and not Hillhold's group 18504",
        )
        assert "--host-state DIR" in plain.err
        board.stop()
    with lab.board(tmp_path / "other") as ours:
        wrong = push(lab.one, ours, tmp_path / "state", *first(lab))
        assert wrong.code == 2
        assert "verifies for itself" in wrong.err
        options = device("push", lab.one, "--port", ours.port, "--root", lab.root)
        assert (options.code, "for a stock board" in options.err) == (2, True)


def test_an_image_that_waits_is_confirmed_by_hand(lab: Lab, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with stock(lab, tmp_path / "flash", "zephyr", "--confirm", "wire") as board:
        assert push(lab.one, board, state, *first(lab), "--no-way-back").code == 0
        board.wait_for("boot (soft)")
        trial = push(lab.two, board, state)
        assert trial.code == 0
        assert trial.out.splitlines()[0].startswith("on trial: pump/1.1.0/app.bin")
        assert "hillhold-device confirm" in trial.out
        confirmed = device("confirm", "--port", board.port)
        assert (confirmed.code, confirmed.out.splitlines()[0]) == (0, "confirmed 1.1.0")


@pytest.mark.deep
def test_a_trial_that_fails_is_remembered_until_somebody_forgets_it(lab: Lab, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with stock(lab, tmp_path / "flash", "zephyr", "--self-test", "fail") as board:
        assert push(lab.one, board, state, *first(lab), "--no-way-back").code == 0
        board.wait_for("boot (soft)")
        failed = push(lab.two, board, state)
        assert failed.code == 1
        assert failed.out.startswith("reverted: the trial of pump/1.1.0/app.bin failed; the board runs 1.0.0")
        again = push(lab.two, board, state)
        assert "its trial failed on this device before" in again.out
        assert device("forget", "--host-state", state).out.startswith("forgot ")
        check = device("check", lab.two, "--port", board.port, "--host-state", state)
        assert check.out.startswith("would install pump/1.1.0/app.bin")


def test_metadata_are_not_rolled_back_on_this_host(lab: Lab, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with stock(lab, tmp_path / "flash") as board:
        assert push(lab.two, board, state, *first(lab), "--no-way-back").code == 0
        board.wait_for("boot (soft)")
        old = push(lab.one, board, state)
        assert old.code == 1
        assert "timestamp" in old.err


def test_one_host_state_serves_one_push_at_a_time(lab: Lab, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with stock(lab, tmp_path / "flash") as board:
        assert device("check", lab.one, "--port", board.port, "--host-state", state, *first(lab)).code == 0
        with exclusive(state):
            second = push(lab.one, board, state, "--no-way-back")
        assert (second.code, "in use by another process" in second.err) == (3, True)
        assert push(lab.one, board, state, "--no-way-back").code == 0


@pytest.mark.parametrize(
    ("left", "words"),
    [(2, "say --root"), (4, "say --product"), (6, "say --hardware")],
)
def test_a_new_board_has_to_be_told_of(lab: Lab, tmp_path: Path, left: int, words: str) -> None:
    given = first(lab)[: left - 2] + first(lab)[left:]
    with stock(lab, tmp_path / "flash") as board:
        done = push(lab.one, board, tmp_path / "state", *given)
        assert (done.code, words in done.err) == (2, True)
        assert not (tmp_path / "state").exists()


def test_what_this_host_trusts_is_said_once(lab: Lab, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with stock(lab, tmp_path / "flash") as board:
        assert device("check", lab.one, "--port", board.port, "--host-state", state, *first(lab)).code == 0
        again = push(lab.one, board, state, *first(lab))
        assert again.code == 2
        assert "leave --root, --product, --hardware out" in again.err
        for area in ("state.0", "state.1"):
            (state / area).write_bytes(b"HHst" + bytes(1000))
        spoilt = push(lab.one, board, state)
        assert spoilt.code == 1
        assert "device state" in spoilt.err


@pytest.mark.deep
def test_two_first_pushes_at_once_leave_one_state(lab: Lab, tmp_path: Path) -> None:
    """The second one must not begin anew what the first one has begun."""
    state = tmp_path / "state"
    with stock(lab, tmp_path / "flash") as board, stock(lab, tmp_path / "other") as other:
        words = [["check", lab.one, "--port", each.port, "--host-state", state, *first(lab)] for each in (board, other)]
        pair = [subprocess.Popen([str(BIN / "hillhold-device"), *map(str, each)]) for each in words]
        codes = sorted(process.wait(TIMEOUT) for process in pair)
        assert codes[0] == 0
        assert codes[1] in (2, 3)
        assert push(lab.one, board, state, "--no-way-back").code == 0


@pytest.mark.deep
def test_a_flash_of_one_kind_is_not_taken_for_the_other(lab: Lab, tmp_path: Path) -> None:
    flash, key = tmp_path / "flash", lab.folder / "boot.pub"
    with lab.board(flash) as board:
        assert board.stop() == 0
    done = run("hillhold-lab", "board", "--flash", flash, "--boot-key", key, "--listen", ":0", "--stock", "zephyr")
    assert (done.code, "written by a board with Hillhold's agent" in done.err) == (2, True)
    given = run(
        "hillhold-lab",
        "board",
        "--flash",
        tmp_path / "new",
        "--boot-key",
        key,
        "--listen",
        ":0",
        "--stock",
        "zephyr",
        *lab.new,
    )
    assert (given.code, "leave --root, --product, --hardware out" in given.err) == (2, True)


def test_a_push_that_is_killed_goes_on(large: Lab, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with stock(large, tmp_path / "flash") as board:
        assert push(large.one, board, state, *first(large), "--no-way-back").code == 0
        board.wait_for("boot (soft)")
        words = ["push", large.two, "--port", board.port, "--host-state", state]
        process = subprocess.Popen([str(BIN / "hillhold-device"), *map(str, words)], stderr=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()
        process.wait(TIMEOUT)
        done = push(large.two, board, state)
        assert done.code == 0, done.err
        assert done.out.startswith("installed and confirmed pump/1.1.0/app.bin")
    shutil.rmtree(state)
