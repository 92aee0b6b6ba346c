"""A case told step by step: the operations around each cut, what it leaves, what boots then, and what the oracle says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hillhold_bootsim.flash import Cut
from hillhold_bootsim.powercut.explore import Boot, Case, Explorer, Path, Step, Verdict
from hillhold_bootsim.powercut.places import Places
from hillhold_bootsim.powercut.scenario import Scenario

AROUND: Final = 3
"""Operations that are told before a cut, and after one."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens; `kind` is "operation", "cut", "power", "boot" or "verdict"."""

    kind: str
    text: str


def replay(scenario: Scenario, explorer: Explorer, path: Path) -> tuple[tuple[Event, ...], str | None]:
    """Return what happens in a case, and what is wrong in it, if anything.

    Raises:
        ValueError: there is no such case.
    """
    told = _Teller(Places(scenario.layout))
    events: list[Event] = []
    steps, verdict = explorer.steps, Verdict(None)
    boots: tuple[Boot, ...] = ()
    for count in range(1, len(path) + 1):
        case = explorer.find(path[:count])
        at = path[count - 1].number
        if count > 1:
            events += told.boots(tuple(boot for boot in boots if boot.after <= at))
        events += told.around(case, steps[max(0, at - AROUND) : at])
        verdict = explorer.explore(case, record=True, whole=count == len(path))
        steps, boots = verdict.steps, verdict.boots
        events.append(Event("power", "the power comes back"))
    events += told.rest(verdict)
    return tuple(events), verdict.problem


class _Teller:
    def __init__(self, places: Places) -> None:
        self._places = places

    def around(self, case: Case, before: tuple[Step, ...]) -> Iterator[Event]:
        """What leads to a cut, and the cut."""
        for step in before:
            yield self._operation(step)
        what = self._what(case.step)
        match case.path[-1].where:
            case Cut.BEFORE:
                yield Event("cut", f"the power goes before {what}")
            case Cut.AFTER:
                yield Event("cut", f"the power goes after {what}, before the next")
            case Cut.TORN:
                yield Event("cut", f"the power goes within {what}: {case.how}")

    def boots(self, boots: tuple[Boot, ...]) -> Iterator[Event]:
        """What boots, and the verdict on each boot."""
        for boot in boots:
            yield from self._boot(boot)

    def rest(self, verdict: Verdict) -> Iterator[Event]:
        """What follows the last cut."""
        boots, steps = list(verdict.boots), verdict.steps
        last = len(steps) - AROUND if verdict.problem else len(steps)
        for at, step in enumerate(steps):
            while boots and boots[0].after <= at:
                yield from self._boot(boots.pop(0))
            if at < AROUND or at >= last:
                yield self._operation(step)
            elif at == AROUND:
                yield Event("operation", f"… up to operation {last - 1}")
        for boot in boots:
            yield from self._boot(boot)
        yield Event("verdict", f"FAILS: {verdict.problem}" if verdict.problem else "holds: the update came to its end")

    def _boot(self, boot: Boot) -> Iterator[Event]:
        outcome = boot.outcome
        booted = outcome.booted
        if booted is None:
            what = "nothing boots"
        else:
            what = f"{booted.image.version} boots from slot {booted.slot}{', on trial' if outcome.trial else ''}"
        yield Event("boot", "; ".join((what, *outcome.events)))
        yield Event("verdict", f"the oracle: {boot.problem}" if boot.problem else "the oracle: as it should be")

    def _operation(self, step: Step) -> Event:
        return Event("operation", self._what(step))

    def _what(self, step: Step) -> str:
        operation = step.operation
        where = self._places.name(operation.sector)
        return f"operation {operation.number}, {step.phase}: {operation.kind} {operation.length} bytes at {operation.offset:#x} ({where})"
