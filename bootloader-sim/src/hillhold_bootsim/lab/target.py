"""A board under test, whatever it is: a line to it, a reset, and as much more as it allows.

What a board cannot do is no error: the cases that need it are not tested, and say why (`Target.lacks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from hillhold_bootsim.lab.model import Item
from hillhold_bootsim.lab.reading import Reading
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.link import Stream

CAN: Final = ("reset", "read", "power", "clock", "trial")
"""What a target may be able to do beside giving a line: a hard reset, a reading of its flash without its agent, switching its power,
setting its clock, scripting how trials end."""

CRASHED: Final = "the board's software crashed"
"""How a note begins that says so (`Target.notes`)."""


class GoneError(OperationalError):
    """The laboratory's own way to the board failed: its port is gone, its adapter broke. That says nothing of the board."""


class Trials(Enum):
    """How trials end on a board whose applications are scripted."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    WAIT = "wait"


class Target(Protocol):
    """One board.

    Attributes:
        item: what it is.
        lacks: of `CAN`, what it cannot do, with the reason in words.
    """

    @property
    def item(self) -> Item:
        """See above."""

    @property
    def lacks(self) -> Mapping[str, str]:
        """See above."""

    def open(self) -> Stream:
        """Open a line to it; raises `GoneError`, as all of these."""

    def reset(self) -> None:
        """Reset it from outside. Only where "reset" is not lacking; so on for the rest."""

    def read(self) -> Reading | None:
        """Read what it runs without asking its agent; None where that failed this time."""

    def power(self, on: bool) -> None:
        """Switch its power."""

    def set_clock(self, seconds: int | None) -> None:
        """Set its clock to Unix seconds, or to the right time (None)."""

    def trials(self, how: Trials) -> None:
        """Say how trials end from now on."""

    def now(self) -> int:
        """The right time, Unix seconds."""

    def seconds(self) -> float:
        """Seconds of a clock that only goes forward: the line's time, real or virtual."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""

    def notes(self) -> list[str]:
        """What happened behind the line since this was asked last, in words; a crash begins with `CRASHED`."""

    def close(self) -> None:
        """Let go of all of it."""


class Spec(Protocol):
    """How to get at a board: picklable where `alone`, so that another process can make it.

    Attributes:
        name: what people call it.
        kind: as of `model.Item`.
        alone: each case may have a board of its own, as new as this one; otherwise there is one board, which lives through all of them.
    """

    @property
    def name(self) -> str:
        """See above."""

    @property
    def kind(self) -> str:
        """See above."""

    @property
    def alone(self) -> bool:
        """See above."""

    def make(self, seed: int) -> Target:
        """Get it; raises `OperationalError`. `seed`: of the lab's keys, one of which the board has to trust."""


@dataclass(frozen=True, slots=True)
class Time:
    """The world's time, for boards that live in it.

    Attributes:
        now: returns Unix seconds.
        seconds: returns seconds of a clock that only goes forward.
        wait: lets seconds pass.
    """

    now: Callable[[], int]
    seconds: Callable[[], float]
    wait: Callable[[float], None]


class Outside:
    """What all targets share that live in the world's time, and can neither set a clock nor script a trial; see `Target`."""

    def __init__(self, world: Time, lacks: Mapping[str, str]) -> None:
        self._world, self.lacks = world, lacks

    def set_clock(self, seconds: int | None) -> None:
        """It cannot be set."""
        raise GoneError(f"{self.lacks['clock']} to {seconds}")

    def trials(self, how: Trials) -> None:
        """They cannot be scripted."""
        raise GoneError(f"{self.lacks['trial']}: {how.value}")

    def now(self) -> int:
        """The world's time."""
        return self._world.now()

    def seconds(self) -> float:
        """The world's clock that only goes forward."""
        return self._world.seconds()

    def wait(self, seconds: float) -> None:
        """Let the world go on."""
        self._world.wait(seconds)

    def notes(self) -> list[str]:
        """Nothing is seen behind the line."""
        return []
