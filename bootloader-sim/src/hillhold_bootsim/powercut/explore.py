"""Every cut of an update, every state in which it leaves the flash, and what becomes of each.

The *clean run* is what happens without a cut; its operations are numbered from 0. A *case* is one cut or more, `412-torn-3` or
`412-torn-3/17-before`: operation 412 of the clean run, then operation 17 of what follows the next power-on. Each leaves the flash in a
state, and of the cases that leave it in the same state, with the same expectations, the first is explored:

- the board is switched on: the oracle judges what boots;
- it is switched on once more: nothing may change but one more counted start of a trial;
- everything goes on to its end, and every boot on the way is judged.

A run that comes to where a run was before that ended well (flash, tag and what may boot are the same: `Machine.look`) need not be followed
further. What never goes down is judged from each such place to the next, whether or not a run was there before: the verdict on a case does
not depend on the cases before it. Nothing ends so early while a sector reads unstably.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from hillhold_bootsim.bootloader import BootOutcome
from hillhold_bootsim.flash import (
    Cut,
    CutAt,
    FlashContractError,
    FlashState,
    Operation,
    completed,
    count_outcomes,
    outcomes,
)
from hillhold_bootsim.powercut.facts import FactsReader
from hillhold_bootsim.powercut.machine import Design, Machine, Memory, StuckError
from hillhold_bootsim.powercut.oracle import Facts, May, Oracle
from hillhold_bootsim.powercut.scenario import Scenario
from hillhold_bootsim.torn import Sector
from hillhold_verifier.errors import HillholdError

MAX_KNOWN: Final = 20_000
"""Ends of runs that are remembered."""

Path = tuple[CutAt, ...]
"""The cuts of a case, in order; each counts operations from the power-on before it."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation of a run: the flash before it, what is going on, and what may boot after a cut in it; it is numbered from power-on."""

    operation: Operation
    before: FlashState
    phase: str
    may: May


@dataclass(frozen=True, slots=True)
class Case:
    """A cut, the state in which it leaves the flash, and its description.

    Attributes:
        path: all cuts up to this one.
        step: the operation that was cut.
        state: of the flash afterwards.
        facts: what was there before the cut, and never goes down.
        how: "before", "after", or the name of the torn outcome.
    """

    path: Path
    step: Step
    state: FlashState
    facts: Facts
    how: str

    @property
    def id(self) -> str:
        """Names the case; `parse_id` reads it."""
        return "/".join(map(str, self.path))


@dataclass(frozen=True, slots=True)
class Boot:
    """A boot of a run: how many operations came before it ended, what it came to, and what the oracle says against it."""

    after: int
    outcome: BootOutcome
    problem: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case: what went wrong, or None; and, if that was asked for, what can be cut on the way on, and the boots."""

    problem: str | None
    steps: tuple[Step, ...] = ()
    boots: tuple[Boot, ...] = ()


def parse_id(text: str) -> Path:
    """Read the name of a case.

    Raises:
        ValueError: it names none.
    """
    cuts = []
    for part in text.split("/"):
        number, _, rest = part.partition("-")
        where, _, variant = rest.partition("-")
        if (
            not number.isdecimal()
            or where not in {cut.value for cut in Cut}
            or (where == "torn") != variant.isdecimal()
        ):
            raise ValueError(f"expected a case as 412-torn-3 or 412-torn-3/17-before, got {text!r}")
        cuts.append(CutAt(int(number), Cut(where), int(variant or 0)))
    return tuple(cuts)


class _Node:
    """Where all that follows is known; hashed once, for a flash has many sectors."""

    __slots__ = ("_hash", "_what")

    def __init__(self, state: FlashState, tag: Hashable, may: May) -> None:
        self._what = state, tag, may
        self._hash = hash(self._what)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Node) and self._what == other._what


class _Met(BaseException):
    """A run came to where another was that ended well."""


class Explorer:
    """Explores a scenario.

    Raises (at construction):
        StuckError: the clean run itself goes wrong; says how.

    Attributes:
        steps: the clean run.
    """

    def __init__(self, scenario: Scenario, design: Design | None = None) -> None:
        self._scenario, self._memory = scenario, Memory()
        self._machine = Machine(scenario, design or Design(), self._memory)
        self._again = Machine(scenario, design or Design(), self._memory)
        self._facts = FactsReader(scenario, self._memory)
        self._oracle = Oracle(scenario, lambda key, make: self._memory.of(("oracle", key), make))
        self._known: set[_Node] = set()
        self._clean: set[_Node] = set()
        self.start = self._machine.set_up()
        verdict = self._follow(self.start, frozenset({(0, False)}), self._facts.of(self.start), record=True, clean=True)
        if verdict.problem:
            raise StuckError(f"without any cut: {verdict.problem}")
        self.steps = verdict.steps

    def cases(self, steps: tuple[Step, ...], path: Path = (), numbers: Iterable[int] | None = None) -> Iterator[Case]:
        """Return the cuts in these steps, which follow the power-on after `path`: all, or some by their numbers, which ascend."""
        wanted = None if numbers is None else deque(numbers)
        first = 0
        for step in steps:
            if wanted is None:
                yield from self._cases_of(step, path)
                continue
            if not wanted:
                return
            end = first + self.count(step)
            if wanted[0] < end:
                found = list(self._cases_of(step, path))
                while wanted and wanted[0] < end:
                    yield found[wanted.popleft() - first]
            first = end

    def count(self, step: Step) -> int:
        """Return how many cuts there are in a step."""
        return 2 + count_outcomes(self._scenario.layout.geometry, step.before[step.operation.sector], step.operation)

    def explore(self, case: Case, *, record: bool = False, whole: bool = False) -> Verdict:
        """Say what becomes of a case.

        Args:
            case: one of this scenario.
            record: also say what operations follow, up to where the run meets the clean one.
            whole: follow the run to its end all the same.
        """
        return self._follow(case.state, case.step.may, case.facts, record=record, whole=whole)

    def find(self, path: Path) -> Case:
        """Return the case of these cuts.

        Raises:
            ValueError: there is no such operation or outcome.
        """
        steps, found = self.steps, None
        done: Path = ()
        for cut in path:
            if found is not None:
                steps = self.explore(found, record=True).steps
            step = steps[cut.number : cut.number + 1]
            found = next((case for case in self.cases(step, done) if case.path[-1] == cut), None)
            if found is None:
                raise ValueError(f"there is no cut {cut} after {'/'.join(map(str, done)) or 'the start'}")
            done = (*done, cut)
        if found is None:
            raise ValueError("expected at least one cut")
        return found

    # --- inside -------------------------------------------------------------------------------------------------------

    def _cases_of(self, step: Step, path: Path) -> Iterator[Case]:
        geometry, operation = self._scenario.layout.geometry, step.operation
        at = operation.sector
        sector, facts = step.before[at], self._facts.of(step.before)

        def case(cut: CutAt, how: str, left: Sector) -> Case:
            state = (*step.before[:at], left, *step.before[at + 1 :])
            return Case((*path, cut), step, state, facts, how)

        number = operation.number
        yield case(CutAt(number, Cut.BEFORE), "before", sector)
        for variant, (name, left) in enumerate(outcomes(geometry, sector, operation)):
            yield case(CutAt(number, Cut.TORN, variant), name, left)
        yield case(CutAt(number, Cut.AFTER), "after", completed(geometry, sector, operation))

    def _follow(
        self, state: FlashState, may: May, facts: Facts, *, record: bool, clean: bool = False, whole: bool = False
    ) -> Verdict:
        machine = self._machine
        steps: list[Step] = []
        met: list[_Node] = []
        boots: list[Boot] = []
        problem: str | None = None

        def decide(operation: Operation) -> None:
            steps.append(Step(operation, machine.flash.state(), machine.phase, machine.may))

        def look(tag: Hashable) -> None:
            nonlocal facts
            if machine.flash.unstable:
                return
            now = machine.flash.state()
            before, facts = facts, self._facts.of(now)
            if not facts >= before:
                raise _Broken(f"counter or floors went down: {before}, then {facts}")
            node = _Node(now, tag, machine.may)
            if not (clean or whole) and (node in self._clean or (not record and node in self._known)):
                raise _Met
            met.append(node)

        def booted(outcome: BootOutcome) -> None:
            nonlocal facts
            now = self._facts.of(machine.flash.state())
            found = self._judge(outcome, facts, now)
            boots.append(Boot(len(steps), outcome, found))
            if found:
                raise _Broken(f"{found} ({'; '.join(outcome.events)})" if outcome.events else found)
            facts = now

        machine.look, machine.booted = look, booted
        machine.flash.operations = 0
        machine.flash.power_cut = _Recorder(decide) if record else None
        try:
            machine.run(machine.switch_on(state, may))
        except _Met:
            pass
        except _Broken as broken:
            problem = str(broken)
        except (StuckError, FlashContractError, HillholdError) as error:
            problem = f"{type(error).__name__}: {error}"
        finally:
            machine.flash.power_cut = None
        if problem is None:
            known = self._clean if clean else self._known
            if len(known) > MAX_KNOWN and not clean:
                known.clear()
            known.update(met)
        return Verdict(problem, tuple(steps), tuple(boots) if record else ())

    def _judge(self, outcome: BootOutcome, before: Facts, now: Facts) -> str | None:
        """The oracle's judgement of a boot, and of another one after it."""
        machine = self._machine
        state, booted = machine.flash.state(), outcome.booted
        slot = booted.slot if booted else None
        problem = self._oracle.judge(state, slot, outcome.trial, machine.may, before, now)
        if problem is None:
            key = ("second boot", state, slot, outcome.trial)
            problem = self._memory.of(key, lambda: self._second_boot(outcome, state)) or None
        return problem

    def _second_boot(self, outcome: BootOutcome, state: FlashState) -> str:
        """Say what another boot changed that it must not, if anything."""
        again = self._again
        second = again.switch_on(state, frozenset())
        if not outcome.trial:
            if again.flash.state() != state:
                return "a second boot changed something"
            return "" if _same(outcome, second) else "a second boot started something else"
        changed = {at for at, (old, new) in enumerate(zip(state, again.flash.state(), strict=True)) if old != new}
        geometry, flags = self._scenario.layout.geometry, self._scenario.layout.flags
        allowed = {geometry.sector_at(area.offset) for area in flags}
        if second.trial and not changed <= allowed:
            return "a second boot of a trial changed more than the boot flags"
        if second.trial and not _same(outcome, second):
            return "a second boot of a trial started something else"
        return ""


class _Broken(Exception):
    """What a run is judged to be."""


class _Recorder:
    """A strategy that cuts nothing, and is told of all."""

    def __init__(self, tell: Callable[[Operation], None]) -> None:
        self._tell = tell

    def decide(self, operation: Operation, /) -> None:
        self._tell(operation)


def _same(first: BootOutcome, second: BootOutcome) -> bool:
    def what(outcome: BootOutcome) -> tuple[object, ...]:
        return (outcome.trial, *((booted.slot, booted.sha256) for booted in outcome.images))

    return what(first) == what(second)
