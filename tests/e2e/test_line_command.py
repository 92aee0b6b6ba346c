"""`hillhold-lab line` as a process: bytes through real ports, what it says at the end, and updates over lines that are slow or spoiled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hillhold_bootsim.cli import main
from lab import BIN, TIMEOUT, Lab, device, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")


@dataclass
class Line:
    """A `hillhold-lab line` in the background."""

    process: subprocess.Popen[bytes]
    log: Path
    port: str

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT), self.log.read_text()


@contextmanager
def line(folder: Path, far: str, *options: object, tcp: bool = False) -> Iterator[Line]:
    log = folder / "line.log"
    place = ("--listen", "127.0.0.1:0") if tcp else ("--link", folder / "near")
    command = [BIN / "hillhold-lab", "line", far, *place, *options]
    with log.open("wb") as out:
        process = subprocess.Popen([*map(str, command)], stdout=out, stderr=subprocess.STDOUT)
    try:
        port = wait_for("; stop it", log).split("line from ")[1].partition(" to ")[0]
        yield Line(process, log, port)
    finally:
        process.kill()
        process.wait(TIMEOUT)


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A pseudo-terminal: our end, and the name of the other."""
    import tty

    ours, theirs = os.openpty()
    tty.setraw(theirs)
    yield ours, os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


def read(handle: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += os.read(handle, count - len(data))
    return data


def test_bytes_go_through_and_it_says_how_many(terminal: tuple[int, str], tmp_path: Path) -> None:
    ours, name = terminal
    with line(tmp_path, name, "--latency", 2) as started:
        near = os.open(started.port, os.O_RDWR | os.O_NOCTTY)
        os.write(near, b"a\r\nb\x03\x04")
        assert read(ours, 6) == b"a\r\nb\x03\x04"
        os.write(ours, b"answer\n")
        assert read(near, 7) == b"answer\n"
        os.close(near)
        code, log = started.stop()
    assert code == 0
    assert "to board: 6 bytes; 0 with a flipped bit" in log
    assert "to host: 7 bytes; 0 with a flipped bit" in log
    assert "unplugged" not in log
    assert not (tmp_path / "near").is_symlink()


def test_what_was_done_to_the_bytes_as_json(terminal: tuple[int, str], tmp_path: Path) -> None:
    """The same seed, the same faults: `test_line` knows where the first ones are."""
    ours, name = terminal
    with line(tmp_path, name, "--drops", 1, "--noise", 1, "--seed", 7, "--baud", 1_000_000, "--json") as started:
        near = os.open(started.port, os.O_RDWR | os.O_NOCTTY)
        os.write(near, bytes(100))
        assert len(read(ours, 100)) == 100
        os.close(near)
        code, log = started.stop(signal.SIGTERM)
    assert code == 0
    found: dict[str, Any] = json.loads(log.splitlines()[-1])
    assert (found["baud"], found["seed"], found["unplugged"], found["lost"]) == (1_000_000, 7, 0, 0)
    assert found["to_board"].items() >= {"received": 100, "dropped": 100, "noise": 100, "delivered": 100}.items()
    assert set(found["to_host"].values()) == {0}


@pytest.mark.parametrize("tcp", [False, True])
def test_a_board_is_updated_over_a_clean_line(lab: Lab, tmp_path: Path, tcp: bool) -> None:
    with (
        lab.board(tmp_path / "flash") as board,
        line(tmp_path, board.port, "--baud", 1_000_000, "--latency", 1, tcp=tcp) as started,
    ):
        done = device("push", lab.one, "--port", started.port)
        assert (done.code, "installed" in done.out) == (0, True), done.err
        assert device("status", "--port", started.port, "--json").json["running"][0] == "1.0.0"
        assert started.stop()[0] == 0


@pytest.mark.slow
def test_a_board_is_updated_over_a_line_with_errors(lab: Lab, tmp_path: Path) -> None:
    with (
        lab.board(tmp_path / "flash") as board,
        line(tmp_path, board.port, "--baud", 460_800, "--errors", 1e-4, "--seed", 5, "--json") as started,
    ):
        done = device("push", lab.one, "--port", started.port, timeout=180)
        assert (done.code, "installed" in done.out) == (0, True), done.err
        _, log = started.stop()
    assert json.loads(log.splitlines()[-1])["to_board"]["errors"] > 0


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"--listen": "here"}, 2, "expected HOST:PORT"),
        ({"--link": "near"}, 2, "either --link PATH or --listen"),
        ({"--errors": "1.5"}, 2, "'--errors'"),
        ({"--unplug": "soon"}, 2, "expected AFTER_BYTES:SECONDS"),
        ({"--listen": "256.0.0.1:0"}, 3, "cannot listen"),
        ({}, 3, "nowhere: No such file or directory"),
    ],
)
def test_what_it_cannot_do_is_said(tmp_path: Path, change: dict[str, str], code: int, words: str) -> None:
    options = {"--listen": "127.0.0.1:0"} | change
    given = [word for pair in options.items() for word in pair]
    done = CliRunner().invoke(main, ["line", str(tmp_path / "nowhere"), *given])
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert words in done.stderr


def test_its_help_has_an_example() -> None:
    assert "Example: hillhold-lab line ./tty --link ./bad-tty" in CliRunner().invoke(main, ["line", "--help"]).stdout
