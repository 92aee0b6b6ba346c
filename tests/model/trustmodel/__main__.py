"""The long way: every scenario is searched whole, and the real code is driven deep.

    python -m trustmodel search [SCENARIO ...]      the model by itself; prints what violates a rule, with a shortest trace
    python -m trustmodel drive [SCENARIO ...]       the real code, at each step of every history
    python -m trustmodel                            both

Exit code 1 where something is found that is not expected, or the other way round.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from trustmodel import records
from trustmodel.driven import DRIVEN
from trustmodel.scenarios import CASES, Case
from trustmodel.search import Search
from trustmodel.walk import DifferenceError, Walk


def main(arguments: list[str]) -> int:
    what, names = arguments[:1], arguments[1:]
    parts: dict[str, Callable[[list[str]], bool]] = {"search": search, "drive": drive}
    if what and what[0] not in parts:
        print(__doc__)
        return 2
    right = [part(names) for name, part in parts.items() if not what or name == what[0]]
    return 0 if all(right) else 1


def search(names: list[str]) -> bool:
    """Search the scenarios of these names, or all."""
    for place in records.Place:
        states, wrong = records.explore(place)
        print(f"records: {place.value}: {states} states, {wrong or 'HOLDS'}")
    right = [_search(case) for case in CASES if not names or case.scenario in names]
    return bool(right) and all(right)


def drive(names: list[str]) -> bool:
    """Drive the real code through the scenarios of these names, or all."""
    right = [
        _drive(driven.name, Walk(driven.config), depth, cuts=cuts)
        for driven in DRIVEN
        if not names or driven.name in names
        for depth, cuts in ((driven.deep, False), (driven.cut_deep, True))
        if depth
    ]
    return bool(right) and all(right)


def _search(case: Case) -> bool:
    start = time.process_time()
    found = Search(case.config).run()
    lengths = {violation: len(trace) for violation, trace in found.violations.items()}
    right = lengths == dict(case.expected) and found.whole
    verdict = "HOLDS" if found.whole and not lengths else "not whole" if not found.whole else "violated"
    figures = f"{found.states} states, {found.edges} edges, {time.process_time() - start:.1f} s"
    print(f"{'ok   ' if right else 'WRONG'} {case}: {figures}, {verdict}", flush=True)
    for violation, trace in found.violations.items():
        print(f"    {violation}: {len(trace)} steps, {case.expected.get(violation, 'none')} expected")
        print("        " + " | ".join(map(str, trace)))
    for violation in set(case.expected) - set(lengths):
        print(f"    {violation}: expected, not found")
    return right


def _drive(name: str, walk: Walk, depth: int, *, cuts: bool) -> bool:
    start = time.process_time()
    try:
        done = walk.run(depth, cuts=cuts)
    except DifferenceError as error:
        print(f"WRONG {name}: {error}", flush=True)
        return False
    extent = "whole" if done.whole else f"{depth} steps deep"
    print(
        f"ok    {name}, {extent}: {done.nodes} nodes, {done.edges} edges, {done.histories} histories; {done.steps} steps on the real code, "
        f"{done.refused} refusals, {done.cuts} cuts, {time.process_time() - start:.1f} s",
        flush=True,
    )
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
