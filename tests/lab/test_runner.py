"""The catalogue, and how it is run: a right board passes everything, with the same verdicts for any seed and any number of workers."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from bench import SWAPPING
from hillhold_bootsim.cli.bench import virtual
from hillhold_bootsim.lab import model, runner
from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import BY_ID, CATALOGUE, sources
from hillhold_bootsim.lab.catalogue.leaves import COUNTER, LASTING, ROOT, ROTATED, TWO_ROOTS, lasting
from hillhold_bootsim.lab.judge import examine
from hillhold_bootsim.lab.model import Result, Verdict
from hillhold_bootsim.lab.runner import run
from hillhold_bootsim.lab.virtual import VirtualSpec
from hillhold_bootsim.line import LineModel
from hillhold_bootsim.linefaults import LineFaults
from hillhold_verifier.framing import Transport
from labboards import SEED, ZEPHYR

FEW = [
    BY_ID[name]
    for name in (
        *("message-malformed", "image-sample-key", "upload-goes-on-otherwise", "patch-makes-other"),
        *("trial-other-slot-erased", "rollback-line-after-rotation", "wrong-hardware", "lower-counter"),
        *("clock-set-back", "one-of-two-line", "stale-delegator", "fast-forward-snapshot"),
    )
]


def told(tested: model.Tested) -> list[tuple[str, Verdict, str, bool]]:
    return [(one.case, one.verdict, one.reason, one.independent) for one in tested.results]


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_the_catalogue_is_whole() -> None:
    cases = [attack.case for attack in CATALOGUE]
    assert len(cases) >= 40
    assert len({case.id for case in cases}) == len(cases)
    known = {value for name, value in vars(sources).items() if name.isupper()}
    for case in cases:
        assert case.sources, case.id
        assert set(case.sources) <= known, case.id
        assert set(case.needs) <= {"metadata", "smp", "reset", "read", "power", "clock", "trial", "components"}, case.id
        assert case.group in ("metadata", "image", "keys", "time", "trial", "line"), case.id
        for text in (case.how, case.expected):
            assert text.endswith("."), case.id
            assert "  " not in text, case.id


def test_what_lasts_comes_last() -> None:
    order = [lasting(attack.case.leaves) for attack in CATALOGUE]
    assert order == sorted(order)
    assert set(order) == set(range(len(LASTING))), "each kind is there, and nothing of no kind"
    burning = [attack.case.id for attack in CATALOGUE if attack.case.leaves == COUNTER]
    assert (
        [attack.case.id for attack in CATALOGUE[-len(burning) :]]
        == burning
        == ["lower-counter", "other-component-lower-counter"]
    )


def test_every_source_is_used() -> None:
    used = {source for attack in CATALOGUE for source in attack.case.sources}
    assert used == {value for name, value in vars(sources).items() if name.isupper()}


# --- a right board ----------------------------------------------------------------------------------------------------


def test_a_right_board_passes_a_part_of_each_kind() -> None:
    (tested,) = run(FEW, [VirtualSpec()], SEED)
    assert [one for one in told(tested) if one[1] is not Verdict.PASS] == []
    assert all(one.independent for one in tested.results)


@pytest.mark.slow
def test_verdicts_and_reasons_do_not_depend_on_seed_or_workers() -> None:
    found = [told(run(FEW, [VirtualSpec()], seed, workers)[0]) for seed, workers in ((1, 1), (99, 2), (-5, 3))]
    assert found[0] == found[1] == found[2]


def test_several_boards_are_tested_at_once_and_reported_each() -> None:
    seen: list[tuple[str, str]] = []
    specs = [VirtualSpec(), replace(VirtualSpec("swapping"), layout=SWAPPING), ZEPHYR]
    cases = [BY_ID["rollback-line"], BY_ID["image-older-uploaded"]]
    tested = run(cases, specs, SEED, 2, lambda name, result: seen.append((name, result.case)))
    assert [one.item.name for one in tested] == ["small", "swapping", "zephyr"]
    assert [[result.verdict.value for result in one.results] for one in tested] == [
        ["pass", "pass"],
        ["pass", "pass"],
        ["not tested", "fail"],
    ]
    assert Counter(seen) == Counter((spec.name, attack.case.id) for spec in specs for attack in cases)


OF_TWO = [attack.case.id for attack in CATALOGUE if "components" in attack.case.needs]
"""Cases that a board of one component cannot take part in."""


@pytest.mark.slow
def test_a_right_board_passes_the_whole_catalogue() -> None:
    with ThreadPoolExecutor() as threads:  # both at once: one has this process, the other one its workers
        other = threads.submit(run, CATALOGUE, [VirtualSpec()], 2, 2)
        found = [told(each[0]) for each in (run(CATALOGUE, [VirtualSpec()], 1, 1), other.result())]
    assert found[0] == found[1]
    assert [one for one in found[0] if one[1] is not Verdict.PASS] == [
        (case, Verdict.NOT_TESTED, "the board has one component", False) for case in OF_TWO
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("nrf52840dk", marks=pytest.mark.deep),
        "nrf5340dk",
        pytest.param("nucleo_l073rz", marks=pytest.mark.deep),
    ],
)
def test_right_boards_of_other_makes_pass_it_too(name: str) -> None:
    (tested,) = run(CATALOGUE, [virtual(name)], SEED, 2)
    verdicts = {result.case: result.verdict for result in tested.results if result.verdict is not Verdict.PASS}
    assert verdicts == ({} if name == "nrf5340dk" else dict.fromkeys(OF_TWO, Verdict.NOT_TESTED))


@pytest.mark.slow
def test_one_board_lives_through_the_whole_catalogue_in_its_order() -> None:
    """As a real one has to: what one case leaves behind spoils no other, and each leaves for good what it says, and no more."""
    bench = Bench(VirtualSpec().make(SEED), SEED)
    bench.settle()
    roots, counter = held(bench)
    for attack in CATALOGUE:
        case = attack.case
        result = examine(attack, bench)
        assert result.verdict is (Verdict.NOT_TESTED if case.id in OF_TWO else Verdict.PASS), result
        now = held(bench)
        assert now[0] - roots == {ROOT: 1, ROTATED: 1, TWO_ROOTS: 2}.get(case.leaves, 0), case.id
        assert now[1] - counter == (case.leaves == COUNTER and case.id not in OF_TWO), case.id
        roots, counter = now


def held(bench: Bench) -> tuple[int, int]:
    """The version of the root, and the security counter, read from the flash."""
    found = bench.read()
    assert found is not None
    assert found.floors is not None
    assert found.counters is not None
    return found.floors["root"], found.counters[0]


def slow_line() -> LineModel:
    faults = LineFaults(errors=2e-4, drops=1e-4)
    return LineModel(1_000_000, to_board=faults, to_host=faults, seed=4)


@pytest.mark.parametrize(
    "spec", [VirtualSpec(line=LineModel), VirtualSpec(transports=(Transport.RAW,))], ids=["line", "raw"]
)
def test_other_lines_make_no_other_verdict(spec: VirtualSpec) -> None:
    (tested,) = run([BY_ID[name] for name in ("rollback-line", "frames-console", "frames-raw")], [spec], SEED)
    assert {result.verdict for result in tested.results} == {Verdict.PASS}


def test_a_bad_line_spoils_no_verdict() -> None:
    (tested,) = run([BY_ID["rollback-line"], BY_ID["stale-delegator"]], [VirtualSpec(line=slow_line)], SEED)
    assert {result.verdict for result in tested.results} == {Verdict.PASS}


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_an_error_of_the_tool_itself_is_no_verdict_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = examine

    def broken(attack: Any, bench: Bench) -> Result:
        if attack.case.id == FEW[0].case.id:
            raise KeyError("a bug of ours")
        return whole(attack, bench)

    monkeypatch.setattr(runner, "examine", broken)
    (tested,) = run(FEW[:2], [VirtualSpec()], SEED)
    first, second = tested.results
    assert (first.verdict, first.reason) == (Verdict.INCONCLUSIVE, "an error of the laboratory's own tool: KeyError")
    assert "a bug of ours" in first.evidence[-1].text
    assert second.verdict is Verdict.PASS
