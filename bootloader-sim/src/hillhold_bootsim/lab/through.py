"""A target that lets everything through to another one: what puts something between changes that alone."""

from __future__ import annotations

from collections.abc import Mapping

from hillhold_bootsim.lab.model import Item
from hillhold_bootsim.lab.reading import Reading
from hillhold_bootsim.lab.target import Target, Trials
from hillhold_verifier.link import Stream


class Through:
    """See `target.Target`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.lacks: Mapping[str, str] = target.lacks

    @property
    def item(self) -> Item:
        """What it is."""
        return self._target.item

    def open(self) -> Stream:
        """A line to it."""
        return self._target.open()

    def reset(self) -> None:
        """Reset it."""
        self._target.reset()

    def read(self) -> Reading | None:
        """Read it."""
        return self._target.read()

    def power(self, on: bool) -> None:
        """Switch it."""
        self._target.power(on)

    def set_clock(self, seconds: int | None) -> None:
        """Set its clock."""
        self._target.set_clock(seconds)

    def trials(self, how: Trials) -> None:
        """Say how trials end."""
        self._target.trials(how)

    def now(self) -> int:
        """The right time."""
        return self._target.now()

    def seconds(self) -> float:
        """The line's time."""
        return self._target.seconds()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._target.wait(seconds)

    def notes(self) -> list[str]:
        """What happened behind the line."""
        return self._target.notes()

    def close(self) -> None:
        """Let go of it."""
        self._target.close()
