"""Power cuts at every operation of an update, a confirmation and a revert: how many states, whether all hold, and how fast.

A board of 1 MiB with three geometries (sectors of 4 KiB and units of 4 bytes, 2 KiB and 8, 8 KiB and 16) in both boot modes.

    depth 1       all cases; distinct states, failures
    depth 2       a sample of all pairs of cuts: so many in all, or of each combination (--each)
    rate          distinct states at depth 1 a second of CPU, the least of the combinations
    speed-up      one worker's time over two workers', theirs with the time of starting them, at depth 1 of the first board that swaps;
                  the best of some rounds, for the machine may have other things to do. `cpu ratio` is what two workers spend over what
                  one spends: other load hardly changes it

What is remembered by content is in `powercut/report.py`: image verification among it.

    PYTHONPATH=tests/support python tests/bench/powercut.py [--size 262144] [--sample 100000] [--each] [--seed 1] [--workers 2] [--rounds 3]
                                                            [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import BootMode, Layout
from hillhold_bootsim.powercut.making import make_scenario
from hillhold_bootsim.powercut.pools import Here, local
from hillhold_bootsim.powercut.runner import Outcome, Plan, Runner
from hillhold_bootsim.powercut.scenario import Scenario

GEOMETRIES = ((4096, 4), (2048, 8), (8192, 16))
"""Bytes of a sector and of a program unit."""
AIMS = {"failures": 0, "states a second and core at least": 1000, "speed-up at least": 1.8}
QUICK = {"size": 16 * 1024, "sample": 600, "rounds": 1}


def scenario(sector: int, unit: int, mode: BootMode, size: int) -> Scenario:
    geometry = Geometry.uniform(1024 * 1024, sector, unit, otp=2048)
    return make_scenario(Layout.in_a_row(f"{sector}-{unit}", geometry, 32 * 1024, 384 * 1024, mode=mode), size)


def explored(found: Scenario, plan: Plan, workers: int) -> tuple[Outcome, float]:
    """Explore, and say how long it took."""
    began = time.monotonic()
    runner = Runner(found, plan)
    if workers == 1:
        outcome = runner.run(Here(runner.explorer))
    else:
        with local(workers) as pool:
            outcome = runner.run(pool)
    return outcome, time.monotonic() - began


def speed_up(found: Scenario, rounds: int) -> tuple[float, float]:
    """One worker's time over two workers', and their CPU."""
    walls: dict[int, float] = {}
    seconds: dict[int, float] = {}
    for _ in range(rounds):
        for workers in (1, 2):
            outcome, wall = explored(found, Plan(), workers)
            walls[workers] = min(wall, walls.get(workers, wall))
            seconds[workers] = min(outcome.seconds, seconds.get(workers, outcome.seconds))
    return walls[1] / walls[2], seconds[2] / seconds[1]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    combinations = [(sector, unit, mode) for sector, unit in GEOMETRIES for mode in BootMode]
    sample = options.sample if options.each else -(-options.sample // len(combinations))
    rows, swaps = [], None
    for sector, unit, mode in combinations:
        found = scenario(sector, unit, mode, options.size)
        if mode is BootMode.SWAP:
            swaps = swaps or found
        alone, _ = explored(found, Plan(), options.workers)
        deeper, wall = explored(found, Plan(2, sample, options.seed), options.workers)
        pairs = deeper.levels[1]
        row: dict[str, Any] = {
            "sector": sector,
            "unit": unit,
            "boot": mode.value,
            "operations": len(alone.operations.edge),
            "cases": alone.levels[0].cases,
            "states": alone.states,
            "failures": alone.failures,
            "rate": round(alone.states / alone.seconds),
            "pairs": pairs.total,
            "sampled": pairs.cases,
            "sampled states": pairs.states,
            "sampled failures": pairs.failures,
            "first failing": deeper.first,
            "seconds": round(wall, 1),
        }
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    assert swaps is not None
    ratio, cpu = speed_up(swaps, options.rounds)
    return {
        "size": options.size,
        "rows": rows,
        "states": sum(row["states"] for row in rows),
        "sampled": sum(row["sampled"] for row in rows),
        "failures": sum(row["failures"] + row["sampled failures"] for row in rows),
        "rate": min(row["rate"] for row in rows),
        "speed-up": round(ratio, 2),
        "cpu ratio": round(cpu, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256 * 1024)
    parser.add_argument(
        "--sample", type=int, default=100_000, help="pairs of cuts that are taken, of all combinations together"
    )
    parser.add_argument("--each", action="store_true", help="so many of each combination")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a small image and sample, one round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    found = measure(options)
    if options.json:
        print(json.dumps({**found, "aims": AIMS}))
        return
    print(f"Power cuts on an update, a confirmation and a revert of {found['size']} bytes")
    print(f"  {'sector':>7}{'unit':>5}{'boot':>7}{'operations':>11}{'cases':>9}{'states':>8}{'a second':>9}", end="")
    print(f"{'pairs':>13}{'sampled':>9}{'states':>8}{'failures':>9}")
    for row in found["rows"]:
        print(
            f"  {row['sector']:>7}{row['unit']:>5}{row['boot']:>7}{row['operations']:>11}{row['cases']:>9}{row['states']:>8}"
            f"{row['rate']:>9}{row['pairs']:>13}{row['sampled']:>9}{row['sampled states']:>8}"
            f"{row['failures'] + row['sampled failures']:>9}"
        )
    print(
        f"  distinct states at depth 1 {found['states']}, pairs sampled {found['sampled']}, failures {found['failures']} (aim 0)"
    )
    print(f"  states a second and core, at least {found['rate']}: {found['rate'] / 1000:.2f} times the aim")
    print(f"  speed-up from one to two workers {found['speed-up']}: {found['speed-up'] / 1.8:.2f} times the aim")
    print(f"  (CPU of two workers over that of one: {found['cpu ratio']})")
    if found["failures"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
