"""The power of a virtual board is cut at every flash operation of an update: `hillhold_bootsim.powercut`, as a case of a campaign."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final, Protocol

from hillhold_bootsim.boards import Board
from hillhold_bootsim.lab.campaign import CutsOrder
from hillhold_bootsim.lab.model import Case, Evidence, Result, Verdict
from hillhold_bootsim.powercut.machine import StuckError
from hillhold_bootsim.powercut.making import make_scenario
from hillhold_bootsim.powercut.pools import Pool
from hillhold_bootsim.powercut.report import EDGES, Findings, coverage_table, levels_table
from hillhold_bootsim.powercut.runner import Plan, Runner

FRAME: Final = 2048
"""Bytes of an image beside its firmware, at most: header, hash, signature, counter."""
NO_OPERATIONS: Final = "a real board: the operations of its flash cannot be counted from outside"


class Pools(Protocol):
    """Has processes for a runner, as long as they are needed."""

    def __call__(self, runner: Runner, /) -> AbstractContextManager[Pool]:
        """Start them; raises `WorkerLostError`, `ClusterError`."""


@dataclass(frozen=True, slots=True)
class OperationsWork:
    """The case; not a `honest.Work`: it has a board in memory of its own, and processes of its own."""

    order: CutsOrder

    @property
    def case(self) -> Case:
        """What the report says of it."""
        order = self.order
        again = f", and again during the recovery, up to {order.depth} cuts" if order.depth > 1 else ""
        sample = f"; {order.sample} cases of each further cut are taken" if order.sample and order.depth > 1 else ""
        return Case(
            "power-cuts-at-operations",
            "power",
            f"The power is cut at every flash operation of an update and of a revert{again}.",
            f"On a board in memory, with firmware of {order.size} bytes: before each operation, torn within it in every way of a finite "
            f"number, and after it{sample}. The firmware is not executed.",
            "Exactly one whole authentic image boots, no counter and no floor is lower, a second boot changes nothing, and the update "
            "comes to its end.",
            (
                *(
                    "fda-premarket:appendix-1.H-interruption",
                    "en303645:5.9-2",
                    "nist-sp-800-193:4.4",
                    "iec62443-4-2:CR-7.1",
                ),
                *(
                    "iec62443-4-2:CR-7.4",
                    "nist-sp-800-193:4.4.1",
                    "fda-premarket:appendix-1.G",
                    "eu-cra:I-2h",
                    "nist-sp-800-193:4.3.2",
                ),
            ),
            needs=("power",),
        )

    def explore(self, board: Board, seed: int, pools: Pools) -> Result:
        """Cut, and judge.

        Args:
            board: a virtual one, of which the first component is updated.
            seed: of the sample.

        Raises:
            WorkerLostError, ClusterError: of the processes.
        """
        case, order = self.case.id, self.order
        room = board.image_sizes[0] - FRAME
        if order.size > room:
            why = f"the board has room for {max(room, 0)} bytes of firmware, not for {order.size}"
            return Result(case, Verdict.NOT_TESTED, why, False)
        layout = replace(board.layout, slots=board.layout.slots[:1])
        try:
            runner = Runner(make_scenario(layout, order.size), Plan(order.depth, order.sample, seed))
        except StuckError as error:
            return Result(case, Verdict.FAIL, "an update fails without a cut of the power", True, (_note(str(error)),))
        with pools(runner) as pool:
            outcome = runner.run(pool)
        found = Findings(runner.scenario, order.size, runner.plan, runner.explorer.steps, outcome)
        figures: dict[str, float] = {
            "flash operations": len(found.steps),
            "cuts": sum(level.cases for level in outcome.levels),
            "distinct states": outcome.states,
            "states that fail": outcome.failures,
        }
        evidence = [Evidence("note", "cuts by number and by operation", "\n".join(_lines(found)))]
        if outcome.first:
            command = f"hillhold-lab powercut {board.name} --size {order.size} --replay {outcome.first[0]}"
            evidence.insert(0, _note(f"{outcome.first[0]}: {outcome.first[1]}\n{command}"))
            reason = f"{outcome.failures} states of the flash after a cut fail, the first after {outcome.first[0]}"
            return Result(case, Verdict.FAIL, reason, True, tuple(evidence), figures)
        reason = "after every cut one whole authentic image boots, and the update comes to its end"
        return Result(case, Verdict.PASS, reason, True, tuple(evidence), figures)


def _note(text: str) -> Evidence:
    return Evidence("note", "the first failing case", text)


def _lines(found: Findings) -> Iterator[str]:
    yield f"{'cuts':>6}{'cases':>14}{'of':>16}{'distinct states':>17}{'failures':>10}"
    for number, cases, total, states, failures in levels_table(found):
        yield f"{number:>6}{cases:>14}{total:>16}{states:>17}{failures:>10}"
    ways, rows = coverage_table(found.outcome)
    yield f"{'cases by phase':<28}{'operation':<10}{'before':>10}{'torn':>12}{'after':>10}"
    for phase, kind, row in rows:
        count = {way: row.get(way, (0, 0))[0] for way in ways}
        torn = sum(count[way] for way in ways if way not in EDGES)
        yield f"{phase:<28}{kind:<10}{count['before']:>10}{torn:>12}{count['after']:>10}"
