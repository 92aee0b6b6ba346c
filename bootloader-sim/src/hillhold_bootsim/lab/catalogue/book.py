"""How a case gets into the catalogue: its data and its function, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.judge import Attack
from hillhold_bootsim.lab.model import Case


class Book:
    """The cases of one module, in their order."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._attacks: list[Attack] = []

    def add(
        self,
        id: str,
        sentence: str,
        *,
        how: str,
        expected: str,
        sources: tuple[str, ...],
        leaves: str = "",
        needs: tuple[str, ...] = ("metadata",),
    ) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
        """Enter a function as a case; see `model.Case`."""

        def enter(run: Callable[[Bench], None]) -> Callable[[Bench], None]:
            once = tuple(dict.fromkeys(sources))  # kinds of attacks have clauses in common
            self._attacks.append(Attack(Case(id, self._group, sentence, how, expected, once, leaves, needs), run))
            return run

        return enter

    def __iter__(self) -> Iterator[Attack]:
        return iter(self._attacks)
