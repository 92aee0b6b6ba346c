"""How `hillhold-device` shows things to people: every rule about the terminal is here."""

from __future__ import annotations

from shutil import get_terminal_size
from time import monotonic
from typing import TextIO, TypeAlias

from hillhold_verifier.answers import Body, components_of, plan_of, reasons_of
from hillhold_verifier.conversation import Progress as Step
from hillhold_verifier.select import Outcome
from hillhold_verifier.times import show_span, show_time

_WIDTH = 24

Result: TypeAlias = tuple[dict[str, object], list[str], int]
"""What a command found: values for JSON, lines for people, the exit code."""


def plain(text: str) -> str:
    """One printable line: what a board or a repository says must not move the cursor or forge another line."""
    return "".join(char if char.isprintable() else " " for char in text)


class Progress:
    """A line per step; on a terminal, a bar with rate and time left for transfers."""

    def __init__(self, out: TextIO, *, quiet: bool = False) -> None:
        self._out, self._quiet = out, quiet
        self._bar = out.isatty()
        self._open = ""  # the transfer whose bar stands on the current line
        self._began = (0.0, 0)

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
        elif self._bar:
            self._draw(step)
        elif step.done >= step.total:
            self._out.write(f"{plain(step.step)}: {step.total} bytes\n")
        self._out.flush()

    def _draw(self, step: Step) -> None:
        now = monotonic()
        if self._open != step.step:
            self._end()
            self._open, self._began = step.step, (now, step.done)
        rate = (step.done - self._began[1]) / max(now - self._began[0], 0.001)
        left = f"{(step.total - step.done) / rate:.0f} s left " if rate > 0 else ""
        full = _WIDTH * step.done // step.total
        bar = "█" * full + "░" * (_WIDTH - full)
        text = f"{bar} {100 * step.done // step.total:3d} % {rate / 1024:.1f} KiB/s {left} {plain(step.step)}"
        # A line that wraps could not be drawn over.
        self._out.write(f"\r\x1b[K{text[: get_terminal_size().columns - 1]}")

    def _end(self) -> None:
        if self._open:
            self._out.write("\n")
            self._open = ""


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
