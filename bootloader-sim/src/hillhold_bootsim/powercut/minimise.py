"""A failing case, made as small as it goes: whoever looks for the fault has less to look through."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from hillhold_bootsim.flash import Cut, CutAt
from hillhold_bootsim.powercut.explore import Case, Explorer, Path, Verdict


def minimise(explorer: Explorer, path: Path) -> tuple[Case, Verdict]:
    """Return the smallest case that fails like this one, and its verdict.

    First fewer cuts: each alone, then two of them, and so on, in their order; then each cut before or after its operation instead of torn
    within it; then each torn one in the first way that fails.

    Args:
        explorer: of the scenario.
        path: of a case that fails.

    Raises:
        ValueError: there is no such case, or it does not fail.
    """
    found = _failing(explorer, path)
    if found is None:
        raise ValueError(f"expected a case that fails, got {'/'.join(map(str, path))}")
    for smaller in _fewer(path):
        if better := _failing(explorer, smaller):
            found = better
            break
    for at in range(len(found[0].path)):
        for simpler in _simpler(found[0].path, at):
            if better := _failing(explorer, simpler):
                found = better
                break
    return found


def _fewer(path: Path) -> Iterator[Path]:
    for count in range(1, len(path)):
        yield from combinations(path, count)


def _simpler(path: Path, at: int) -> Iterator[Path]:
    cut = path[at]
    if cut.where is not Cut.TORN:
        return
    ways = (Cut.BEFORE, 0), (Cut.AFTER, 0), *((Cut.TORN, variant) for variant in range(cut.variant))
    for where, variant in ways:
        yield (*path[:at], CutAt(cut.number, where, variant), *path[at + 1 :])


def _failing(explorer: Explorer, path: Path) -> tuple[Case, Verdict] | None:
    """The case and its verdict, if there is such a case, no cut before its last fails alone, and it fails."""
    for count in range(1, len(path) + 1):
        try:
            case = explorer.find(path[:count])
        except ValueError:
            return None
        verdict = explorer.explore(case, record=True)
        if verdict.problem:
            return (case, verdict) if count == len(path) else None
    return None
