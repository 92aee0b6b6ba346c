"""The lab's validation of itself (ISO/IEC 17025, 7.2): boards with a known fault, and what the catalogue finds on them.

Each broken board takes the cases that are a right name for its fault, and their neighbours in the catalogue, or all of it. At least one of
the right names has to fail. Boards without a fault take everything, and nothing may fail, or stay undecided, or be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from hillhold_bootsim.lab.broken import BOARDS, RIGHT, spec_of
from hillhold_bootsim.lab.broken.plant import Fault
from hillhold_bootsim.lab.catalogue import CATALOGUE
from hillhold_bootsim.lab.model import Check, Result, Tested, Verdict
from hillhold_bootsim.lab.runner import anew

NEIGHBOURS: Final = 1
"""Cases on either side of a right name that a broken board takes as well."""
IDS: Final = tuple(attack.case.id for attack in CATALOGUE)


def selfcheck(
    boards: Sequence[Fault] = BOARDS,
    seed: int = 0,
    workers: int = 1,
    *,
    full: bool = False,
    report: Callable[[Check], None] = lambda _check: None,
) -> tuple[Check, ...]:
    """Run the catalogue on boards that are broken on purpose, and on right ones.

    Args:
        boards: of `broken.BOARDS`.
        seed: of all keys and all noise.
        workers: processes; 1 for none beside this one.
        full: the whole catalogue on each.
        report: told each row when it is there.

    Returns:
        A row for each board, in order; the same for any seed and number of workers.

    Raises:
        WorkerLostError: a worker process is gone.
    """
    jobs = [(spec_of(board), cases_for(board, full=full)) for board in boards]
    untested = set(IDS) if set(RIGHT) <= set(boards) else set[str]()
    rights, checks = [board for board in boards if not board.finds], []
    for board, tested in zip(boards, anew(jobs, seed, workers), strict=True):
        checks.append(Check(board.id, board.sentence, board.finds, _found(board, tested)))
        if board in rights:
            untested -= {result.case for result in tested.results if result.verdict is not Verdict.NOT_TESTED}
        if board in rights[-1:]:  # a case that no right board takes part in says nothing
            checks[-1] = _with(checks[-1], untested)
        report(checks[-1])
    return tuple(checks)


def cases_for(board: Fault, *, full: bool) -> tuple[str, ...]:
    """Return the cases that a board takes, in the catalogue's order."""
    if full or not board.finds:
        return IDS
    places = {
        near
        for name in board.finds
        for near in range(IDS.index(name) - NEIGHBOURS, IDS.index(name) + NEIGHBOURS + 1)
        if 0 <= near < len(IDS)
    }
    return tuple(IDS[place] for place in sorted(places))


def _found(board: Fault, tested: Tested) -> tuple[str, ...]:
    """The cases that failed; on a right board, also those that came to no verdict."""
    bad = {Verdict.FAIL} if board.finds else {Verdict.FAIL, Verdict.INCONCLUSIVE}
    return _ids(result for result in tested.results if result.verdict in bad)


def _ids(results: Iterable[Result]) -> tuple[str, ...]:
    return tuple(result.case for result in results)


def _with(check: Check, untested: set[str]) -> Check:
    return Check(check.board, check.fault, check.expected, tuple(c for c in IDS if c in {*check.found, *untested}))
