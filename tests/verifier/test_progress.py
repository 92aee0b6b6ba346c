"""What people see of a transfer: rate and time left of late, on wide and narrow terminals, and where there is no terminal."""

from __future__ import annotations

import io

import pytest

from hillhold_verifier.cli.show import Progress
from hillhold_verifier.conversation import Progress as Step

TOTAL = 256 * 1024


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Shown:
    """Progress on a clock that the test moves."""

    def __init__(self, *, terminal: bool = True, columns: int = 120, quiet: bool = False) -> None:
        self.out = Terminal() if terminal else io.StringIO()
        self.now = 1000.0
        self.progress = Progress(self.out, quiet=quiet, clock=lambda: self.now, columns=lambda: columns)

    def at(self, seconds: float, done: int, what: str = "image a", total: int = TOTAL) -> str:
        """Show a step so many seconds after the start; returns what was drawn for it."""
        self.now, before = 1000 + seconds, self.out.tell()
        self.progress(Step(what, done, total))
        return self.out.getvalue()[before:].replace("\r\x1b[K", "")


def test_a_bar_has_percent_sizes_rate_and_time_left() -> None:
    shown = Shown()
    assert shown.at(0, 0) == "░" * 24 + "   0 %  0.0 of 256.0 KiB  image a"
    assert (
        shown.at(4, TOTAL // 4)
        == "█" * 6 + "░" * 18 + "  25 %  64.0 of 256.0 KiB, 16.0 KiB/s, 12 seconds left  image a"
    )
    assert shown.at(400, TOTAL // 2).endswith(", 0.2 KiB/s, 13 minutes left  image a")


def test_a_resumed_transfer_is_as_fast_as_it_is_now() -> None:
    """What an earlier run sent counts for the bar and not for the rate."""
    shown = Shown()
    shown.at(0, TOTAL // 2)
    assert " 62 %  160.0 of 256.0 KiB, 8.0 KiB/s, 12 seconds left" in shown.at(4, TOTAL // 2 + TOTAL // 8)
    assert shown.at(16, TOTAL).endswith("100 %  256.0 of 256.0 KiB, 8.0 KiB/s, in 16 seconds  image a")


def test_the_rate_is_that_of_the_last_seconds() -> None:
    shown = Shown()
    for second in range(60):
        shown.at(second, second * 1024)
    for second in range(60, 75):
        drawn = shown.at(second, 60 * 1024 + (second - 60) * 4096)
    assert ", 4.0 KiB/s, " in drawn


def test_after_a_pause_the_rate_is_low_and_then_right_again() -> None:
    shown = Shown()
    for second in range(10):
        shown.at(second, second * 1024)
    assert ", 0.0 KiB/s, 3 hours left" in shown.at(59, 10 * 1024)
    for second in range(60, 80):
        drawn = shown.at(second, (second - 49) * 1024)
    assert ", 1.0 KiB/s, " in drawn


def test_a_sender_that_goes_back_has_no_rate_below_nothing() -> None:
    shown = Shown()
    shown.at(0, 0)
    shown.at(1, 8192)
    assert "KiB/s" not in shown.at(2, 4096)
    assert ", 4.0 KiB/s" in shown.at(3, 8192)


def test_a_transfer_after_another_begins_anew() -> None:
    shown = Shown()
    shown.at(0, 0)
    shown.at(10, TOTAL)
    drawn = shown.at(10, 0, "image b")
    assert drawn.startswith("\n")
    assert "KiB/s" not in drawn
    assert ", 32.0 KiB/s" in shown.at(11, 32 * 1024, "image b")


@pytest.mark.parametrize("columns", [1, 10, 20, 40, 60, 80, 200])
def test_no_line_wraps(columns: int) -> None:
    shown = Shown(columns=columns)
    shown.at(0, 0, "image pump/1.1.0/app.bin")
    drawn = shown.at(5, TOTAL // 3, "image pump/1.1.0/app.bin")
    assert len(drawn) < columns
    if columns >= 10:
        assert "33 %" in drawn


def test_on_a_narrow_terminal_the_bar_goes_first() -> None:
    shown = Shown(columns=60)
    shown.at(0, 0)
    assert shown.at(4, TOTAL // 4) == " 25 %  64.0 of 256.0 KiB, 16.0 KiB/s, 12 seconds left  imag"
    assert Shown(columns=80).at(0, 0).startswith("░" * 24)


def test_without_a_terminal_a_short_transfer_has_one_line() -> None:
    shown = Shown(terminal=False)
    drawn = "".join(shown.at(step / 100, step * TOTAL // 40) for step in range(41))
    assert drawn == "image a: 256.0 KiB\n"


def test_without_a_terminal_a_long_transfer_has_a_line_at_each_tenth() -> None:
    shown = Shown(terminal=False)
    drawn = "".join(shown.at(step / 2, step * 1024, total=200 * 1024) for step in range(201)).splitlines()
    assert len(drawn) == 10
    assert drawn[0] == "image a: 10 %, 20.0 of 200.0 KiB, 2.0 KiB/s, 90 seconds left"
    assert drawn[-1] == "image a: 200.0 KiB, 2.0 KiB/s, in 100 seconds"


def test_without_a_terminal_lines_are_seconds_apart() -> None:
    shown = Shown(terminal=False)
    drawn = "".join(shown.at(step / 10, step * TOTAL // 100) for step in range(101)).splitlines()
    assert [line.split(",")[0] for line in drawn] == ["image a: 50 %", "image a: 256.0 KiB"]


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_is_quiet(terminal: bool) -> None:
    shown = Shown(terminal=terminal, quiet=True)
    assert shown.at(0, 0) + shown.at(60, TOTAL // 2) + shown.at(100, TOTAL) == ""


def test_what_a_repository_calls_an_image_does_not_move_the_cursor() -> None:
    assert "\x1b" not in Shown().at(0, 0, "image \x1b[2J")
