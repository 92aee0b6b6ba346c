"""How `hillhold-device` shows things to people: every rule about the terminal is here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from shutil import get_terminal_size
from time import monotonic
from typing import Final, TextIO, TypeAlias

from hillhold_verifier.answers import Body, components_of, plan_of, reasons_of
from hillhold_verifier.conversation import Progress as Step
from hillhold_verifier.select import Outcome
from hillhold_verifier.times import show_span, show_time

_WIDTH: Final = 24
"""Characters of a bar, where there is room."""
_LEAST: Final = 6
"""Below that a bar says nothing."""
_WINDOW: Final = 10.0
"""Seconds over which a rate is taken."""
_JUDGED: Final = 0.5
"""Seconds from which on there is a rate."""
_PATIENCE: Final = 5.0
"""Seconds between two lines about one transfer where there is no terminal."""

Result: TypeAlias = tuple[dict[str, object], list[str], int]
"""What a command found: values for JSON, lines for people, the exit code."""


def plain(text: str) -> str:
    """One printable line: what a board or a repository says must not move the cursor or forge another line."""
    return "".join(char if char.isprintable() else " " for char in text)


class Progress:
    """A line per step. Of a transfer, on a terminal, a bar with rate and time left; elsewhere a line now and then, and one at its end.

    Args:
        out: standard error.
        quiet: nothing is shown.
        clock: seconds of a clock that only goes forward.
        columns: characters of the terminal's line, now.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = monotonic,
        columns: Callable[[], int] = lambda: get_terminal_size().columns,
    ) -> None:
        self._out, self._quiet, self._clock, self._columns = out, quiet, clock, columns
        self._bar = out.isatty()
        self._open = ""  # the transfer whose bar stands on the current line
        self._pace = _Pace("", 0, 0.0)
        self._said = (0.0, 0)  # when the last line of this transfer came, and at which tenth of it

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def __call__(self, step: Step) -> None:
        """Show a step."""
        if self._quiet:
            return
        if not step.total:
            self._end()
            self._out.write(f"{plain(step.step)}\n")
        else:
            now = self._clock()
            if self._pace.what != step.step:
                self._end()
                self._pace = _Pace(step.step, step.done, now)
                self._said = (now, 10 * step.done // step.total)
            self._pace.note(step.done, now)
            if self._bar:
                self._draw(step, now)
            else:
                self._say(step, now)
        self._out.flush()

    def _draw(self, step: Step, now: float) -> None:
        self._open = step.step
        percent = f"{100 * step.done // step.total:3d} % "
        rest = f" {_size(step.done, step.total)}{self._ahead(step, now)}  {plain(step.step)}"
        room = self._columns() - 1  # a line that wraps could not be drawn over
        width = min(_WIDTH, room - len(percent) - len(rest) - 1)
        bar = ""
        if width >= _LEAST:
            full = width * step.done // step.total
            bar = "█" * full + "░" * (width - full) + " "
        self._out.write(f"\r\x1b[K{f'{bar}{percent}{rest}'[:room]}")

    def _say(self, step: Step, now: float) -> None:
        """At the end; before it, at each tenth of a transfer that takes long."""
        tenth = 10 * step.done // step.total
        if step.done >= step.total:
            self._out.write(f"{plain(step.step)}: {_kib(step.total)} KiB{self._ahead(step, now)}\n")
        elif tenth > self._said[1] and now - self._said[0] >= _PATIENCE:
            self._said = (now, tenth)
            self._out.write(
                f"{plain(step.step)}: {100 * step.done // step.total} %, {_size(step.done, step.total)}"
                f"{self._ahead(step, now)}\n"
            )

    def _ahead(self, step: Step, now: float) -> str:
        """Rate and time left; of what is done, its time. Nothing where there is too little to judge by."""
        if step.done >= step.total:
            seconds, rate = self._pace.whole(step.done, now)
            return f", {_kib(rate)} KiB/s, in {show_span(round(seconds))}" if seconds >= 1 else ""
        rate = self._pace.rate()
        if rate <= 0:
            return ""
        return f", {_kib(rate)} KiB/s, {show_span(max(1, round((step.total - step.done) / rate)))} left"

    def _end(self) -> None:
        if self._open:
            self._out.write("\n")
            self._open = ""


class _Pace:
    """How fast a transfer is: over the last seconds, since lines get better and worse; and from where it began, which may be its middle."""

    def __init__(self, what: str, done: int, now: float) -> None:
        self.what = what
        self._first = (now, done)
        self._points = deque([self._first])

    def note(self, done: int, now: float) -> None:
        """Take what is done now; less than before where a sender went back, and was too early then."""
        if done < self._points[-1][1]:
            self._points.clear()
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[1][0] >= _WINDOW:
            self._points.popleft()

    def rate(self) -> float:
        """Bytes in a second, lately; 0 where nothing is known yet."""
        (begun, first), (ended, last) = self._points[0], self._points[-1]
        return (last - first) / (ended - begun) if ended - begun >= _JUDGED else 0.0

    def whole(self, done: int, now: float) -> tuple[float, float]:
        """Seconds since it began here, and bytes in a second over them."""
        seconds = now - self._first[0]
        return seconds, (done - self._first[1]) / seconds if seconds > 0 else 0.0


def _kib(size: float) -> str:
    return f"{size / 1024:.1f}"


def _size(done: int, total: int) -> str:
    return f"{_kib(done)} of {_kib(total)} KiB"


def status_lines(identity: Body, status: Body) -> list[str]:
    """Return a board's status in words."""
    rows = [("board", f"{identity.get('id')} ({identity.get('product')} on {identity.get('hardware')})")]
    parts = components_of(status)
    names = identity.get("components")
    for number, part in enumerate(parts):
        if len(parts) > 1:
            rows.append(
                ("component", str(names[number] if isinstance(names, list) and number < len(names) else number))
            )
        rows += [
            (
                "running",
                _image(part.get("running"))
                + (", on trial" if status.get("trial") else "")
                + (", withdrawn" if part.get("withdrawn") is True else ""),
            ),
            ("confirmed", _image(part.get("confirmed"))),
            ("marked for trial", str(part.get("marked") or "nothing")),
            ("security counter", str(part.get("counter"))),
        ]
    rows += [
        ("trusts root", f"version {status.get('root')}"),
        ("time floor", show_time(time) if isinstance(time := status.get("time"), int) and time else "none"),
    ]
    if status.get("transfer"):
        rows.append(("transfer under way", str(status["transfer"])))
    if status.get("failed"):
        rows.append(("failed trials", str(status["failed"])))
    if status.get("refusal"):
        rows.append(("last refusal", str(status["refusal"])))
    return [f"{name:18} {value}" for name, value in rows]


def _image(value: object) -> str:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], bytes):
        return f"{value[0]} ({value[1].hex()[:16]}…)"
    return "nothing"


def check_result(choice: Body) -> Result:
    """Return what is said of a device's choice: its plan, and a reason for each other candidate."""
    grace, reasons = choice.get("grace"), reasons_of(choice)
    noted = [f"note: timestamp or snapshot expired {show_span(grace)} ago"] if isinstance(grace, int) else []
    if plan := plan_of(choice):
        lines = [f"would install {entry.get('path')} ({entry.get('len')} bytes)" for entry in plan]
        return shown(choice), [*lines, *_reason_lines(reasons), *noted], 0
    lines, code = nothing(reasons)
    return shown(choice), lines + noted, code


def nothing(reasons: tuple[tuple[str, str, str], ...]) -> tuple[list[str], int]:
    """Return what to say, and the exit code, where nothing is installable."""
    outcomes = {outcome for _, outcome, _ in reasons}
    current = Outcome.INSTALLED.value in outcomes
    # What is refused is below the confirmed image; what was passed over may be newer.
    head = "nothing to install" + (
        ": the board is up to date" if current and Outcome.PASSED_OVER.value not in outcomes else ""
    )
    return [head, *_reason_lines(reasons)], 0 if current else 1


def _reason_lines(reasons: tuple[tuple[str, str, str], ...]) -> list[str]:
    return [f"  {path}: {outcome}, {reason}" for path, outcome, reason in reasons]


def shown(body: Body) -> dict[str, object]:
    """Return the same for JSON: bytes as hexadecimal."""

    def value_of(value: object) -> object:
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, list):
            return [value_of(item) for item in value]
        if isinstance(value, dict):
            return {name: value_of(item) for name, item in value.items()}
        return value

    return {name: value_of(value) for name, value in body.items()}
