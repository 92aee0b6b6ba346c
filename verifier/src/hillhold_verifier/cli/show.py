"""How `hillhold-device` shows things to people: every rule about the terminal is here."""

from __future__ import annotations

from shutil import get_terminal_size
from time import monotonic
from typing import TextIO

from hillhold_verifier.answers import Body, components_of
from hillhold_verifier.courier import Progress as Step
from hillhold_verifier.times import show_time

_WIDTH = 24


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
