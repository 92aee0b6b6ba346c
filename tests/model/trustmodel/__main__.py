"""Search the scenarios and say what was found: `python -m trustmodel [SCENARIO ...]`. Exit code 1 where it is not what is expected."""

from __future__ import annotations

import sys
import time

from trustmodel import records
from trustmodel.scenarios import CASES, Case
from trustmodel.search import Search


def main(names: list[str]) -> int:
    for place in records.Place:
        states, wrong = records.explore(place)
        print(f"records: {place.value}: {states} states {wrong or 'HOLDS'}")
    chosen = [case for case in CASES if not names or case.scenario in names]
    right = [_run(case) for case in chosen]
    return 0 if right and all(right) else 1


def _run(case: Case) -> bool:
    start = time.process_time()
    found = Search(case.config).run()
    lengths = {violation: len(trace) for violation, trace in found.violations.items()}
    right = lengths == dict(case.expected) and found.whole
    seconds = time.process_time() - start
    print(
        f"{'ok   ' if right else 'WRONG'} {case}: {found.states} states, {found.edges} edges, {seconds:.1f} s"
        f"{'' if found.whole else ', not whole'}{'' if lengths else ', HOLDS'}",
        flush=True,
    )
    for violation, trace in found.violations.items():
        print(f"    {violation}: {len(trace)} steps, {case.expected.get(violation, 'none')} expected")
        print("        " + " | ".join(map(str, trace)))
    for violation in set(case.expected) - set(lengths):
        print(f"    {violation}: expected, not found")
    return right


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
