"""All cuts of an update, to a depth: counted, covered, and explored by however many processes.

Level 1 are the cuts of the clean run; level n + 1 are the cuts of what follows each state of level n, up to where its run meets the clean
one. Of each state over all levels the first case is explored; a case that fails is not followed further. With a sample, so many cases of
each level from the second on are taken: `random.Random(seed).sample` over their numbers, which count through the states in order.

What is found does not depend on how many processes look, nor on how cases are divided among them: chunks are added up in order, and the
verdict on a case depends on nothing that was explored before.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Final

from hillhold_bootsim.powercut.explore import Explorer
from hillhold_bootsim.powercut.machine import Design
from hillhold_bootsim.powercut.pools import Pool
from hillhold_bootsim.powercut.scenario import Scenario
from hillhold_bootsim.powercut.work import Address, Chunk, Found, Item, Job, State, Way, source_digest

CASES: Final = 512
"""Cases in a chunk: half a second or so."""
NEIGHBOURS: Final = 32
"""How many times as many where all cases of a deeper level are taken: those that leave the same state are near each other."""
LISTED: Final = 20
"""Failing cases that are named."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How far to go.

    Attributes:
        depth: cuts of a case, at most.
        sample: how many cases of each level from the second on; None for all.
        seed: of the sample.
        chunk: cases that are given to a worker at a time; what is found does not depend on it.
    """

    depth: int = 1
    sample: int | None = None
    seed: int = 0
    chunk: int = CASES


@dataclass(slots=True)
class Level:
    """What was found of cases with so many cuts.

    Attributes:
        number: of cuts.
        total: cases that there are.
        cases: those that were taken.
        states: distinct ones among them, that no level before has.
        failures: states that failed.
    """

    number: int
    total: int
    cases: int = 0
    states: int = 0
    failures: int = 0


@dataclass(slots=True)
class Operations:
    """The clean run's operations, by number: states that cuts in them led to at level 1, and whether any case in them failed."""

    edge: list[int]
    torn: list[int]
    failed: list[bool]


@dataclass(slots=True)
class Outcome:
    """What was found.

    Attributes:
        levels: in order.
        coverage: cases by level and how they were cut.
        failed: failing states likewise.
        first: id and problem of the first case that fails, in the order of levels and cases.
        ids: of the first failing cases.
        operations: of the clean run.
        seconds: of CPU, in all processes; no part of what is found.
    """

    levels: list[Level] = field(default_factory=list)
    coverage: Counter[tuple[int, Way]] = field(default_factory=Counter)
    failed: Counter[tuple[int, Way]] = field(default_factory=Counter)
    first: tuple[str, str] | None = None
    ids: list[str] = field(default_factory=list)
    operations: Operations = field(default_factory=lambda: Operations([], [], []))
    seconds: float = 0.0

    @property
    def failures(self) -> int:
        """States that failed."""
        return sum(level.failures for level in self.levels)

    @property
    def states(self) -> int:
        """Distinct states."""
        return sum(level.states for level in self.levels)


Report = Callable[[Outcome], None]
"""Told how far it came, after every chunk."""


class Runner:
    """Explores a scenario.

    Raises (at construction):
        StuckError: the clean run itself goes wrong; says how.

    Attributes:
        explorer: of the scenario, in this process.
        outcome: what was found so far.
    """

    def __init__(self, scenario: Scenario, plan: Plan, design: Design | None = None) -> None:
        self.scenario, self.plan, self.design = scenario, plan, design or Design()
        self.explorer = Explorer(scenario, self.design)
        self._counts = [self.explorer.count(step) for step in self.explorer.steps]
        self._ends = list(accumulate(self._counts))
        zeros = [0] * len(self._counts)
        self.outcome = Outcome(operations=Operations(zeros, zeros.copy(), [False] * len(zeros)))
        self._seen: set[bytes] = set()

    def run(self, pool: Pool, report: Report = lambda _outcome: None) -> Outcome:
        """Explore to the plan's depth.

        Raises:
            WorkerLostError: a worker process is gone.
        """
        pool.begin(Job(self.scenario, self.design, source_digest()))
        ways: list[tuple[Address, int]] = [((), sum(self._counts))]
        for number in range(1, self.plan.depth + 1):
            level = Level(number, sum(count for _, count in ways))
            self.outcome.levels.append(level)
            items = self._taken(level, ways)
            ways = []
            if number > 1:
                pool.know(b"".join(sorted(self._seen)))
            for found in self._explored(pool, items, level):
                ways += [(state.address, state.following) for state in self._add(level, found) if state.following]
                report(self.outcome)
        return self.outcome

    def taken(self, level: Level) -> int:
        """Return how many cases of a level are to be taken."""
        return min(level.total, self.plan.sample) if self._sampled(level) and self.plan.sample else level.total

    # --- inside -------------------------------------------------------------------------------------------------------

    def _sampled(self, level: Level) -> bool:
        return level.number > 1 and self.plan.sample is not None and self.plan.sample < level.total

    def _taken(self, level: Level, ways: list[tuple[Address, int]]) -> Iterator[Item]:
        """The cases of a level that are taken, by the state that they follow."""
        if not self._sampled(level) or self.plan.sample is None:
            yield from (Item(after, range(count)) for after, count in ways)
            return
        ends = list(accumulate(count for _, count in ways))
        picked = deque(sorted(random.Random(self.plan.seed).sample(range(level.total), self.plan.sample)))  # noqa: S311 - no secret
        while picked:
            at = bisect_right(ends, picked[0])
            first = ends[at] - ways[at][1]
            numbers = []
            while picked and picked[0] < ends[at]:
                numbers.append(picked.popleft() - first)
            yield Item(ways[at][0], tuple(numbers))

    def _chunks(self, items: Iterator[Item], level: Level) -> Iterator[Chunk]:
        """Cases in order, so many at a time."""
        limit = self.plan.chunk * (1 if level.number == 1 or self._sampled(level) else NEIGHBOURS)
        deeper = level.number < self.plan.depth
        held: list[Item] = []
        room = limit
        for after, numbers in items:
            at = 0
            while at < len(numbers):
                piece = numbers[at : at + room]
                held.append(Item(after, piece))
                at, room = at + len(piece), room - len(piece)
                if not room:
                    yield Chunk(tuple(held), deeper)
                    held, room = [], limit
        if held:
            yield Chunk(tuple(held), deeper)

    def _explored(self, pool: Pool, items: Iterator[Item], level: Level) -> Iterator[Found]:
        """What chunks came to, in order."""
        chunks = self._chunks(items, level)
        waiting = deque(pool.submit(chunk) for chunk in islice(chunks, pool.ahead))
        while waiting:
            found = pool.result(waiting.popleft())
            waiting.extend(pool.submit(chunk) for chunk in islice(chunks, 1))
            yield found

    def _add(self, level: Level, found: Found) -> Iterator[State]:
        """Add up a chunk; return the states that no chunk before had."""
        outcome = self.outcome
        outcome.seconds += found.seconds
        level.cases += found.cases.total()
        for way, count in found.cases.items():
            outcome.coverage[level.number, way] += count
        for state in found.states:
            if state.digest in self._seen:
                continue
            self._seen.add(state.digest)
            level.states += 1
            operation = bisect_right(self._ends, state.address[0])
            if level.number == 1:
                within = state.address[0] - self._ends[operation] + self._counts[operation]
                edge = within in (0, self._counts[operation] - 1)
                (outcome.operations.edge if edge else outcome.operations.torn)[operation] += 1
            if state.problem:
                level.failures += 1
                outcome.failed[level.number, state.way] += 1
                outcome.operations.failed[operation] = True
                outcome.first = outcome.first or state.problem
                if len(outcome.ids) < LISTED:
                    outcome.ids.append(state.problem[0])
            yield state
