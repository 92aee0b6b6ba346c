"""How a fault gets into one board: a few functions of its software are others, for as long as that board's code runs, and no longer.

The lab's own code (house, courier, judge) runs between two runs of the board, with everything in its place; so does any other board of
the process. A board that is planted is else the real one: agent, installer, rules of trust, bootloader and flash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from hillhold_bootsim.board import VirtualBoard
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.lab.house import House
from hillhold_bootsim.lab.virtual import VirtualSpec
from hillhold_bootsim.layout import Layout

P = ParamSpec("P")
R = TypeVar("R")
Make: TypeAlias = Callable[[Any], Any]
RUNS: Final = ("power_on", "reset", "feed", "tick")
"""What has a board's code run."""


PAIR: Final = VirtualSpec(
    "pair",
    Layout.in_a_row(
        name="pair",
        geometry=Geometry.uniform(size=112 * 1024, sector=2048, unit=4, otp=256),
        state_size=20 * 1024,
        slot_size=16 * 1024,
        components=2,
    ),
    ("app", "radio"),
)
"""A small board of two components."""


class Plant:
    """The changes of one board.

    Attributes:
        house: the lab's maker, for a fault that would else need a maker who makes the same mistake.
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self._changes: list[tuple[Any, str, Any]] = []

    def replace(self, holder: Any, name: str, make: Make) -> None:
        """Have another thing of that name in a module or class: what `make` returns of the right one."""
        self._changes.append((holder, name, make(vars(holder)[name])))

    def grow(self, board: VirtualBoard) -> VirtualBoard:
        """Have a board run with the changes; returns it."""
        for name in RUNS:
            setattr(board, name, self._within(getattr(board, name)))
        return board

    def _within(self, act: Callable[P, R]) -> Callable[P, R]:
        def run(*args: P.args, **named: P.kwargs) -> R:
            with self._planted():
                return act(*args, **named)

        return run

    @contextmanager
    def _planted(self) -> Iterator[None]:
        before = [(holder, name, vars(holder)[name]) for holder, name, _ in self._changes]
        try:
            for holder, name, new in self._changes:
                setattr(holder, name, new)
            yield
        finally:
            for holder, name, old in before:
                setattr(holder, name, old)


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken board.

    Attributes:
        id: stable, lowercase words with hyphens.
        sentence: what it does wrong, for people.
        finds: the cases of which at least one has to fail on it: each of them is a right name for the fault.
        plant: puts it in.
        spec: the board that has it, without it.
    """

    id: str
    sentence: str
    finds: tuple[str, ...]
    plant: Callable[[Plant], None]
    spec: VirtualSpec


class Shelf:
    """The broken boards of one module, in their order."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(
        self, id: str, sentence: str, *finds: str, spec: VirtualSpec | None = None
    ) -> Callable[[Callable[[Plant], None]], Callable[[Plant], None]]:
        """Enter a function that plants a fault; see `Fault`."""

        def enter(plant: Callable[[Plant], None]) -> Callable[[Plant], None]:
            self._faults.append(Fault(id, sentence, finds, plant, spec or VirtualSpec()))
            return plant

        return enter

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)


def always(value: object) -> Make:
    """Make a function that returns this and does nothing."""
    return partial(_always, value)


def _always(value: object, _right: object) -> Callable[..., object]:
    return lambda *_args, **_named: value
