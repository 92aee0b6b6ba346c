"""What never goes down, read from a state of the flash as the oracle defines it; remembered by the sectors that it follows from."""

from __future__ import annotations

from hillhold_bootsim.flash import FlashState
from hillhold_bootsim.layout import Partition
from hillhold_bootsim.powercut.machine import Memory
from hillhold_bootsim.powercut.oracle import Facts, counter_of, dropped_keys, floors_of
from hillhold_bootsim.powercut.scenario import Scenario
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.state import StateStore


class FactsReader:
    """Reads counter, floors and dropped keys of a board that is off."""

    def __init__(self, scenario: Scenario, memory: Memory) -> None:
        self._scenario, self._memory = scenario, memory
        geometry = scenario.layout.geometry

        def span(area: Partition) -> slice:
            return slice(geometry.sector_at(area.offset), geometry.sector_at(area.end - 1) + 1)

        first, second = scenario.layout.state
        self._spans = span(first), span(second)
        self._size = first.size
        self._last: tuple[FlashState, ...] = ()
        self._found = Facts(0, ())
        self._lists = tuple(span(area) for area in scenario.layout.keys or ())

    def of(self, state: FlashState) -> Facts:
        """Return them; floors that cannot be read are below all others."""
        areas = state[self._spans[0]], state[self._spans[1]]
        lists = tuple(state[span] for span in self._lists)
        # Most often nothing of this has changed, and what is the same object need not be hashed.
        sources = (*areas, *lists, state[-1:])
        if sources != self._last:
            self._last, self._found = sources, self._read(areas, lists, state)
        return self._found

    def _read(self, areas: tuple[FlashState, FlashState], lists: tuple[FlashState, ...], state: FlashState) -> Facts:
        def floors() -> tuple[int, ...]:
            try:
                return floors_of(StateStore(_Areas(areas, self._size)).load())
            except HillholdError:
                return (-1,) * 6

        (counter,) = self._memory.of(("counter", state[-1]), lambda: (counter_of(self._scenario, state),))
        (dropped,) = self._memory.of(("keys", lists), lambda: (dropped_keys(self._scenario, state),))
        return Facts(counter, self._memory.of(("floors", areas), floors), dropped)


class _Areas:
    """The agent's areas."""

    def __init__(self, areas: tuple[FlashState, FlashState], size: int) -> None:
        self._areas, self.size = areas, size

    def read(self, index: int) -> bytes:
        return b"".join(sector.content for sector in self._areas[index])

    def write(self, index: int, data: bytes) -> None:
        raise NotImplementedError
