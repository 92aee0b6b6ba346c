"""`hillhold-lab powercut`: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cuts import small
from hillhold_bootsim.cli import main
from hillhold_bootsim.layout import BootMode
from hillhold_bootsim.powercut.machine import Design
from hillhold_bootsim.powercut.runner import Plan, Runner
from hillhold_bootsim.powercut.scenario import Scenario
from planted import FORGETFUL

pytestmark = pytest.mark.slow

command: Any = import_module("hillhold_bootsim.cli.powercut")  # the package has the command under that name
BOARD = "nucleo_h563zi"
SIZE = "5000"
LAB = (sys.executable, "-c", "from hillhold_bootsim.cli import main; main()", "powercut")


def lab(*words: str) -> Result:
    return CliRunner().invoke(main, ["powercut", *words])


@pytest.fixture
def bad_design(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's boards forget how far an exchange came."""

    class Forgetful(Runner):
        def __init__(self, scenario: Scenario, plan: Plan, design: Design | None = FORGETFUL) -> None:
            super().__init__(scenario, plan, design)

    monkeypatch.setattr(command, "Runner", Forgetful)


def test_all_that_holds_is_reported_and_the_same_again(tmp_path: Path) -> None:
    words = (BOARD, "--size", SIZE, "--depth", "2", "--sample", "30", "--seed", "7")
    first = lab(*words, "--workers", "1", "--report", str(tmp_path / "a"))
    assert first.exit_code == 0, first.output
    assert "all hold" in first.stdout
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "powercut.html",
        "powercut.json",
        "powercut.svg",
    ]
    second = lab(*words, "--workers", "2", "--report", str(tmp_path / "b"), "--json")
    assert second.exit_code == 0, second.output
    printed = json.loads(second.stdout)["found"]
    written = [json.loads((tmp_path / name / "powercut.json").read_bytes())["found"] for name in "ab"]
    assert printed == written[0] == written[1]
    for name in ("powercut.html", "powercut.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (printed["format"], printed["board"], printed["boot"], printed["failures"]) == (1, BOARD, "swap", 0)
    levels = printed["levels"]
    assert [level["cuts"] for level in levels] == [1, 2]
    assert levels[1]["cases"] == 30 < levels[1]["total"]
    ways = {(row["operation"], row["how"]) for row in printed["coverage"]}
    assert {
        ("erase", "before"),
        ("erase", "after"),
        ("erase", "unstable"),
        ("program", "prefix"),
        ("program", "one-bit"),
    } <= ways
    assert sum(row["cases"] for row in printed["coverage"]) == sum(level["cases"] for level in levels)


@pytest.mark.usefixtures("bad_design")
def test_a_failing_case_is_made_small_and_named_with_the_command_that_replays_it(tmp_path: Path) -> None:
    result = lab(BOARD, "--size", SIZE, "--workers", "1", "--report", str(tmp_path))
    assert result.exit_code == 1, result.output
    found = json.loads((tmp_path / "powercut.json").read_bytes())["found"]
    assert found["failures"] > 20 == len(found["failing"])
    assert found["first"]["id"] == found["failing"][0]
    smallest = found["smallest"]
    assert smallest["command"] == f"hillhold-lab powercut {BOARD} --size {SIZE} --replay {smallest['id']}"
    assert smallest["command"] in result.stdout
    assert "states FAIL" in result.stdout
    page = (tmp_path / "powercut.html").read_text()
    assert smallest["command"] in page
    assert 'class="bad"' in (tmp_path / "powercut.svg").read_text()
    again = lab(*smallest["command"].split()[2:])
    assert again.exit_code == 1
    assert "FAILS: " in again.stdout
    data = json.loads(lab(*smallest["command"].split()[2:], "--json").stdout)
    assert (data["id"], data["problem"]) == (smallest["id"], smallest["problem"])


def test_a_replay_of_what_holds_returns_0() -> None:
    result = lab(BOARD, "--size", SIZE, "--replay", "12-after")
    assert result.exit_code == 0, result.output
    assert "the power goes after operation 12" in result.stdout
    assert result.stdout.splitlines()[-1].strip() == "holds: the update came to its end"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((BOARD,), "give either --report DIR, or --replay ID"),
        ((BOARD, "--report", "x", "--replay", "1-after"), "give either --report DIR, or --replay ID"),
        (
            (BOARD, "--report", "x", "--workers", "2", "--scheduler", "h:1"),
            "give either --workers N or --scheduler ADDRESS",
        ),
        ((BOARD, "--report", "x", "--workers", "0"), "--workers"),
        ((BOARD, "--report", "x", "--depth", "0"), "--depth"),
        ((BOARD, "--report", "x", "--sample", "0"), "--sample"),
        (("no-such-board", "--report", "x"), "expected one of"),
        (("nucleo_l073rz", "--report", "x", "--size", "49000"), "has room for 47744 bytes"),
        ((BOARD, "--size", SIZE, "--replay", "12"), "expected a case as"),
        ((BOARD, "--size", SIZE, "--replay", "99999-after"), "there is no cut"),
    ],
)
def test_wrong_use_is_an_error_in_words(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = lab(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_a_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = lab(BOARD, "--size", SIZE, "--report", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert (tmp_path / "file").read_text() == "mine"


def test_a_scheduler_that_is_not_there_is_operational(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hillhold_bootsim.powercut.pools.CONNECT", 1)
    result = lab(BOARD, "--size", SIZE, "--scheduler", "127.0.0.1:9", "--report", str(tmp_path / "x"))
    assert result.exit_code == 3
    assert "no scheduler at 127.0.0.1:9" in result.stderr
    assert not (tmp_path / "x").exists()


def test_help_shows_an_example() -> None:
    result = lab("--help")
    assert result.exit_code == 0
    assert "Example: hillhold-lab powercut nrf52840dk --depth 2" in " ".join(result.output.split())


def test_a_full_disk_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (BOARD, "--size", SIZE, "--workers", "1", "--report", str(tmp_path))
    for name in ("powercut.html", "powercut.json", "powercut.svg"):
        (tmp_path / name).write_text("old")
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    result = lab(*words)
    assert result.exit_code == 3
    assert "No space left on device" in result.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("powercut.html", "powercut.json", "powercut.svg"), "old"
    )


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The command with two workers, in a session of its own, once its workers are at work."""
    words = (*LAB, "virtual-m4-1m", "--workers", "2", "--report", str(folder / "report"))
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while len(in_session(process.pid)) < 4:  # itself, the fork server, and two workers at least
            assert time.monotonic() < end
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        time.sleep(1)
        yield process
    finally:
        for pid in in_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def in_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def gone(session: int, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while in_session(session):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("everyone", [False, True])
def test_ctrl_c_ends_all_processes_and_says_how_far_it_came(tmp_path: Path, everyone: bool) -> None:
    """As a terminal does, which interrupts all of them; and as whoever interrupts the command alone."""
    with running(tmp_path) as process:
        (os.killpg if everyone else os.kill)(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 3, err
        assert "error: interrupted at 1 cut, after " in err
        assert "no report was written" in err
        assert "Traceback" not in err + out
        assert gone(process.pid)
    assert not (tmp_path / "report").exists()


def test_workers_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        process.kill()
        assert gone(process.pid)


def test_the_page_and_the_picture_say_what_was_found(tmp_path: Path) -> None:
    for mode in BootMode:
        scenario = small(mode, 5000)
        runner = Runner(scenario, Plan())
        outcome = runner.outcome
        outcome.operations = replace(
            outcome.operations, failed=[number == 5 for number in range(len(runner.explorer.steps))]
        )
        svg = command.drawing(command.Findings(scenario, 5000, runner.plan, runner.explorer.steps, outcome))
        assert svg.startswith("<svg")
        assert "1 operations in which a cut fails: 5" in svg
