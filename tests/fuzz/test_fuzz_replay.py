"""The fixed part of fuzzing that every test run does, without atheris: every corpus whole, former findings, seeded mutations.

`make fuzz` goes on from there for as long as it is let.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from fuzz_run import FINDINGS, Account, last, table
from fuzz_targets import TARGETS, mutate_bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_and_mutations_of_it_break_no_target(name: str) -> None:
    target, random = TARGETS[name], Random(name)
    pool = target.seeds()
    assert len(set(pool)) > 2
    for seed in pool:
        assert len(seed) <= target.max_length, "the fuzzer would cut it"
        target.run(seed)
    for number in range(target.runs):
        # Every other time from an earlier mutation, so that changes add up.
        parent = random.choice(pool)
        change = target.mutate if target.mutate and number % 2 else mutate_bytes
        made = change(parent, random)[: target.max_length]
        target.run(made)
        if number % 2:
            pool.append(made)


@pytest.mark.parametrize("name", TARGETS)
def test_what_broke_a_target_once_does_so_no_more(name: str) -> None:
    for path in sorted(FINDINGS.glob(f"{name}/*")):
        print(path)
        TARGETS[name].run(path.read_bytes())


def test_the_account_reads_what_libfuzzer_says() -> None:
    text = "#2 INITED cov: 5 ft: 6 corp: 1/1b\n#9\tDONE   cov: 78 ft: 231 corp: 45/2Kb\nstat::number_of_executed_units: 6315\n"
    numbers = [last(rf"{word}: (\d+)", text) for word in ("cov", "ft", "corp", "units", "none")]
    assert numbers == [78, 231, 45, 6315, 0]
    shown = table([Account("smp", (6315, 1052, 78, 231, 45), (Path("crash-1"),))]).splitlines()
    assert shown[1].split() == ["smp", "6,315", "1,052", "78", "231", "45", "1"]
