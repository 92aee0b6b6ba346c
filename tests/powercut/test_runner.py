"""All cuts, over however many processes: what is found is the same, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cuts import small
from hillhold_bootsim.flash import FlashState
from hillhold_bootsim.layout import BootMode
from hillhold_bootsim.powercut.digest import Digests
from hillhold_bootsim.powercut.explore import Case, Explorer, parse_id
from hillhold_bootsim.powercut.machine import Design, StuckError
from hillhold_bootsim.powercut.oracle import Facts, May
from hillhold_bootsim.powercut.pools import Here, Pool, WorkerLostError, local
from hillhold_bootsim.powercut.runner import Level, Outcome, Plan, Runner
from hillhold_bootsim.powercut.scenario import UPDATE
from hillhold_bootsim.powercut.work import Chunk, Item, Job, OtherReleaseError, source_digest
from hillhold_bootsim.swap import Swapper
from hillhold_signer.examples import NAMES, example_private
from planted import FORGETFUL

pytestmark = pytest.mark.slow

SIZE = 5000


@contextmanager
def processes(runner: Runner, workers: int) -> Iterator[Pool]:
    if workers == 1:
        yield Here(runner.explorer)
    else:
        with local(workers) as pool:
            yield pool


@cache
def run(plan: Plan, workers: int = 1, design: Design | None = None, mode: BootMode = BootMode.SWAP) -> Outcome:
    runner = Runner(small(mode, SIZE), plan, design)
    with processes(runner, workers) as pool:
        return runner.run(pool)


def same(outcome: Outcome) -> Outcome:
    """All but the time."""
    return replace(outcome, seconds=0)


def test_what_is_found_does_not_depend_on_workers_or_chunks() -> None:
    plan = Plan(depth=2, sample=150, seed=4)
    expected = same(run(plan, design=FORGETFUL))
    assert expected.failures > 100
    assert len(expected.ids) == 20
    assert expected.levels[1].cases == 150
    for workers, chunk in ((2, 101), (3, 37)):
        assert same(run(replace(plan, chunk=chunk), workers, FORGETFUL)) == expected, (workers, chunk)


def test_a_good_board_holds_in_both_boot_modes_to_three_cuts() -> None:
    for mode in BootMode:
        outcome = run(Plan(depth=3, sample=40, seed=9), mode=mode)
        assert [level.number for level in outcome.levels] == [1, 2, 3]
        assert [level.cases for level in outcome.levels[1:]] == [40, 40]
        assert (outcome.failures, outcome.first, outcome.ids) == (0, None, [])
        assert outcome.levels[0].cases == outcome.levels[0].total > outcome.levels[0].states > 500


@pytest.mark.parametrize("mode", list(BootMode))
def test_a_patch_survives_every_cut_of_its_transfer_and_application(mode: BootMode) -> None:
    """And two: the transfer goes on at its offset, the application is done again from the staged patch."""
    scenario = small(mode, SIZE, patched=True)
    assert 0 < len(scenario.offers[UPDATE].patch) < SIZE / 2
    runner = Runner(scenario, Plan(depth=2, sample=300, seed=2))
    outcome = runner.run(Here(runner.explorer))
    assert {"write the patch", "apply the patch"} <= {step.phase for step in runner.explorer.steps}
    assert (outcome.failures, outcome.first) == (0, None)
    assert [level.cases for level in outcome.levels[1:]] == [300]


def test_three_cuts_are_the_same_in_any_chunks() -> None:
    plan = Plan(depth=3, sample=40, seed=9)
    expected, other = (same(run(each, mode=BootMode.REMAP)) for each in (plan, replace(plan, chunk=3)))
    assert expected == other


def test_a_sample_is_a_function_of_its_seed() -> None:
    first, other = (same(run(Plan(depth=2, sample=50, seed=seed), mode=BootMode.REMAP)) for seed in (1, 2))
    assert first.levels[0] == other.levels[0]
    assert first.coverage != other.coverage


def test_a_sample_that_is_larger_than_a_level_is_all_of_it() -> None:
    runner = Runner(small(BootMode.REMAP, SIZE), Plan(depth=2, sample=1000))
    assert runner.taken(Level(2, 1001)) == 1000
    assert runner.taken(Level(2, 1000)) == runner.taken(Level(3, 1000)) == 1000
    assert runner.taken(Level(2, 999)) == 999
    assert runner.taken(Level(1, 1001)) == 1001


def test_states_are_counted_as_one_by_one() -> None:
    explorer = Explorer(small(size=SIZE))
    states: set[tuple[FlashState, May, Facts]] = set()
    digests, reader = set(), Digests()
    for case in explorer.cases(explorer.steps):
        states.add((case.state, case.step.may, case.facts))
        digests.add(reader.of(case))
    assert len(digests) == len(states) == run(Plan()).levels[0].states


def test_digests_are_those_of_the_state_whatever_was_seen_before() -> None:
    explorer = Explorer(small(size=SIZE))
    cases = list(explorer.cases(explorer.steps))
    reader = Digests()
    known = {case.id: reader.of(case) for case in cases}
    random.Random(1).shuffle(cases)
    for case in cases[:200]:
        assert Digests().of(case) == known[case.id]


def test_the_verdict_on_a_case_does_not_depend_on_those_before_it() -> None:
    def verdicts(explorer: Explorer, cases: list[Case]) -> dict[str, str | None]:
        return {case.id: explorer.explore(case).problem for case in cases}

    explorer = Explorer(small(size=SIZE), FORGETFUL)
    cases = list(explorer.cases(explorer.steps))[::3]
    expected = verdicts(explorer, cases)
    assert None in expected.values()
    assert len(set(expected.values())) > 1
    random.Random(2).shuffle(cases)
    assert verdicts(Explorer(small(size=SIZE), FORGETFUL), cases) == expected
    alone = Explorer(small(size=SIZE), FORGETFUL)
    assert {case.id: alone.explore(case, record=True).problem for case in cases} == expected


def test_some_cases_by_number_are_those_among_all() -> None:
    explorer = Explorer(small(size=SIZE))
    cases = list(explorer.cases(explorer.steps))
    assert sum(map(explorer.count, explorer.steps)) == len(cases)
    numbers = sorted(random.Random(3).sample(range(len(cases)), 100))
    assert list(explorer.cases(explorer.steps, (), numbers)) == [cases[number] for number in numbers]
    for number in numbers[::10]:
        assert explorer.find(parse_id(cases[number].id)) == cases[number]


def test_a_clean_run_that_fails_is_no_case() -> None:
    class Lazy(Swapper):
        def _move(self, *_: object) -> None:
            pass

    with pytest.raises(StuckError, match="without any cut"):
        Runner(small(size=SIZE), Plan(), Design(swapper=Lazy))


def test_no_private_key_is_in_what_workers_are_given() -> None:
    runner = Runner(small(size=SIZE), Plan())
    data = pickle.dumps(Job(runner.scenario, runner.design, source_digest()))
    for name in NAMES:
        secret = example_private(name).private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        for form in (secret, secret.hex().encode(), b64encode(secret)[:40], b64encode(b"\0" + secret)[4:40]):
            assert form not in data, name
        assert b"PRIVATE" not in data
    # Looking so would find what is there.
    public = example_private("image").public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert public in data


def test_a_worker_that_dies_is_an_error_that_says_so() -> None:
    others = set(multiprocessing.active_children())

    def kill() -> None:
        # While the second one is being started, Python 3.11's executor trips over itself when the first one dies.
        while len(mine := set(multiprocessing.active_children()) - others) < 2:
            time.sleep(0.01)
        pid = mine.pop().pid
        assert pid
        os.kill(pid, signal.SIGKILL)

    runner = Runner(small(size=SIZE), Plan(chunk=20))
    killer = threading.Thread(target=kill)
    with local(2) as pool:
        killer.start()
        with pytest.raises(WorkerLostError, match="worker process is gone"):
            runner.run(pool)
    killer.join()
    assert not set(multiprocessing.active_children()) - others


def test_a_worker_with_other_code_is_refused() -> None:
    scenario = small(size=SIZE)
    with local(1) as pool:
        pool.begin(Job(scenario, Design(), b"another"))
        future = pool.submit(Chunk((Item((), range(10)),), deeper=False))
        with pytest.raises(OtherReleaseError, match="other code"):
            pool.result(future)


@pytest.mark.deep
def test_all_pairs_of_cuts_are_the_same_for_any_workers_and_all_hold() -> None:
    for mode in BootMode:
        expected = same(run(Plan(depth=2), mode=mode))
        assert expected.failures == 0
        assert expected.levels[1].cases == expected.levels[1].total > 50_000
        assert same(run(Plan(depth=2, chunk=61), 2, mode=mode)) == expected
