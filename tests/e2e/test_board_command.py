"""`hillhold-lab board` as a process: it starts, provisions, serves on either line, outlives `kill -9` in its flash, and ends in words."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hillhold_bootsim import boards
from hillhold_bootsim.cli import main
from hillhold_bootsim.flashfile import open_or_create
from hillhold_bootsim.station import is_provisioned
from lab import TIMEOUT, Lab, device, run


@pytest.mark.parametrize("tcp", [False, True])
def test_a_new_board_serves_what_it_was_provisioned_to_be(lab: Lab, tmp_path: Path, tcp: bool) -> None:
    with lab.board(tmp_path / "flash", tcp=tcp) as board:
        assert board.port.startswith("socket://127.0.0.1:" if tcp else str(tmp_path))
        assert "recovery" in board.wait_for("boot (power-on)")
        status = device("status", "--port", board.port, "--json").json
        assert (status["id"], status["product"], status["hardware"]) == ("unit-7", "pump", "nrf51-a")
        assert status["running"] is None
        assert board.stop() == 0
        assert "off; " in board.log
    assert not (tmp_path / "flash.tty").is_symlink()


def test_its_flash_outlives_kill_9(lab: Lab, tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    with lab.board(flash) as board:
        assert device("push", lab.one, "--port", board.port).code == 0
        before = device("status", "--port", board.port, "--json").json
        board.kill()
    with lab.board(flash) as board:
        assert "1.0.0 from slot 0" in board.wait_for("boot (power-on)")
        after = device("status", "--port", board.port, "--json").json
    assert after["running"] == before["running"]
    assert {**after, "self_tested": True} == before


def test_a_board_file_says_what_its_board_is(lab: Lab, tmp_path: Path) -> None:
    """Hardware, keys, boot mode, buffer and baud rate come from the file; the path of a key is relative to it."""
    text = boards.board_text("nucleo_h563zi").replace('hardware = "nucleo_h563zi"', 'hardware = "nrf51-a"')
    file = lab.folder / "mine.toml"
    file.write_text(text.replace("baud = 115200", 'baud = 9600\nimage_keys = ["boot.pub"]'))
    flash = tmp_path / "flash"
    with lab.board(flash, file=file) as board:
        assert device("push", lab.one, "--port", board.port).code == 0
        assert device("push", lab.two, "--port", board.port).code == 0
        board.kill()
    with lab.board(flash, file=file) as board:
        assert "1.1.0 from slot 1" in board.wait_for("boot (power-on)")
        status = device("status", "--port", board.port, "--json").json
        assert (status["hardware"], status["running"][0]) == ("nrf51-a", "1.1.0")
        assert board.stop() == 0
        assert "s at 9600 baud" in board.log


def test_a_board_without_keys_is_not_made(lab: Lab, tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    done = run("hillhold-lab", "board", "nrf52840dk", "--flash", flash, "--listen", ":0", *lab.new)
    assert (done.code, flash.exists()) == (2, False)
    assert "board nrf52840dk names no image keys: give --boot-key FILE" in done.err


def ranges(offset: int, size: int) -> str:
    return f"[{{ offset = {offset}, size = {size} }}, {{ offset = {offset + size}, size = {size} }}]"


def test_a_flash_is_not_taken_over_by_a_board_with_other_partitions(lab: Lab, tmp_path: Path) -> None:
    """Same geometry, so the file's header does not tell; what is where its slots are would be destroyed."""
    flash, file = tmp_path / "flash", tmp_path / "mine.toml"
    with lab.board(flash) as board:
        assert device("push", lab.one, "--port", board.port).code == 0
    before = flash.read_bytes()
    text = re.sub("state = .*", f"state = {ranges(0xF2000, 0x4000)}", boards.board_text("virtual-m4-1m"))
    file.write_text(text)
    done = run(
        "hillhold-lab",
        "board",
        file,
        "--flash",
        flash,
        "--boot-key",
        lab.folder / "boot.pub",
        "--listen",
        ":0",
        *lab.new,
    )
    assert done.code == 2
    assert "written by a board with other partitions" in done.err
    assert flash.read_bytes() == before


def test_a_flash_serves_one_board_at_a_time(lab: Lab, tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    with lab.board(flash) as board:
        second = run("hillhold-lab", "board", "--flash", flash, "--boot-key", lab.folder / "boot.pub", "--listen", ":0")
        assert second.code == 3
        assert "in use by another process" in second.err
        assert device("status", "--port", board.port).code == 0


def test_ctrl_c_ends_it_in_words(lab: Lab, tmp_path: Path) -> None:
    with lab.board(tmp_path / "flash") as board:
        board.wait_for("boot (power-on)")
        os.kill(board.process.pid, signal.SIGINT)
        assert board.process.wait(TIMEOUT) == 0
        assert "off; 0 bytes received" in board.log


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"--listen": "here"}, 2, "expected HOST:PORT"),
        ({"--link": "tty"}, 2, "either --link PATH or --listen"),
        ({"--root": None}, 2, "a new board needs --root"),
        ({"--hardware": "NRF 51"}, 2, "'--hardware'"),
        ({"--boot-key": "one/public/metadata/1.root.json"}, 1, "expected a public key in PEM"),
        ({"--root": "boot.pub"}, 1, "metadata"),
        ({"--listen": "256.0.0.1:0"}, 3, "cannot listen"),
        ({"--flash": "no/such/folder"}, 3, "No such file or directory"),
        ({"--flash": "boot.pub"}, 1, "flash file"),
    ],
)
def test_what_it_cannot_do_is_said_and_provisions_nothing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None], code: int, words: str
) -> None:
    options: dict[str, object] = {"--flash": tmp_path / "flash", "--boot-key": "boot.pub", "--listen": ":0"}
    options |= dict(zip(lab.new[::2], lab.new[1::2], strict=True)) | change  # type: ignore[arg-type]
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    monkeypatch.chdir(lab.folder)
    done = CliRunner().invoke(main, ["board", *map(str, given)])
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    if (tmp_path / "flash").exists():
        with open_or_create(tmp_path / "flash", boards.board().layout.geometry) as flash:
            assert not is_provisioned(flash, boards.board().layout)


def test_a_provisioned_board_is_not_provisioned_again(lab: Lab, tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    with lab.board(flash):
        pass
    done = run(
        "hillhold-lab", "board", "--flash", flash, "--boot-key", lab.folder / "boot.pub", "--listen", ":0", *lab.new
    )
    assert done.code == 2
    assert "provisioned already; leave --root, --product, --hardware out" in done.err


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_flash_that_cannot_be_written_is_said(lab: Lab, tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    with lab.board(flash):
        pass
    flash.chmod(0o444)
    done = run("hillhold-lab", "board", "--flash", flash, "--boot-key", lab.folder / "boot.pub", "--listen", ":0")
    assert (done.code, done.err) == (3, f"error: cannot open flash file {flash}: Permission denied\n")
