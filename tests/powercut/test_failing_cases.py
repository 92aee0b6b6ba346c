"""A failing case is made as small as it goes, and told step by step."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cuts import small
from hillhold_bootsim.flash import Cut
from hillhold_bootsim.powercut.explore import Explorer, Path, Verdict, parse_id
from hillhold_bootsim.powercut.minimise import minimise
from hillhold_bootsim.powercut.replay import replay
from planted import FORGETFUL

SIZE = 5000


@pytest.fixture(scope="module")
def bad() -> Explorer:
    return Explorer(small(size=SIZE), FORGETFUL)


@pytest.fixture(scope="module")
def good() -> Explorer:
    return Explorer(small(size=SIZE))


def first_failing(explorer: Explorer, where: Cut) -> str:
    return next(
        case.id
        for case in explorer.cases(explorer.steps)
        if case.path[-1].where is where and explorer.explore(case).problem
    )


def test_a_torn_cut_becomes_one_at_an_edge_where_that_fails_too(bad: Explorer) -> None:
    torn = first_failing(bad, Cut.TORN)
    case, verdict = minimise(bad, parse_id(torn))
    assert case.id == f"{torn.split('-')[0]}-after"
    assert verdict.problem
    assert bad.explore(bad.find(parse_id(case.id))).problem == verdict.problem


class Rules:
    """An explorer whose cases fail by a rule."""

    def __init__(self, fails: Callable[[str], bool]) -> None:
        self._fails = fails

    def find(self, path: Path) -> Any:
        if any(cut.where is Cut.TORN and cut.variant > 5 for cut in path):
            raise ValueError("there is no such outcome")
        return SimpleNamespace(path=path, id="/".join(map(str, path)))

    def explore(self, case: Any, **_: object) -> Verdict:
        return Verdict("it fails" if self._fails(case.id) else None)


@pytest.mark.parametrize(
    ("path", "fails", "expected"),
    [
        ("1-before/2-torn-3/4-after", lambda case: case.endswith("4-after"), "4-after"),
        ("1-before/2-torn-3", lambda case: case.endswith("2-torn-3"), "2-torn-3"),
        ("1-torn-2/2-torn-3", lambda case: "/" in case and "2-" in case, "1-before/2-before"),
        (
            "1-torn-2/2-torn-3/3-torn-0",
            lambda case: case[0] == "1" and case.endswith(("3-torn-0", "3-after")),
            "1-before/3-after",
        ),
        ("1-torn-2/2-torn-3", lambda case: case in ("1-torn-2/2-torn-3", "1-torn-2/2-torn-1"), "1-torn-2/2-torn-1"),
        ("7-after", lambda case: case == "7-after", "7-after"),
    ],
)
def test_fewer_cuts_first_then_edges_then_the_smallest_variant(
    path: str, fails: Callable[[str], bool], expected: str
) -> None:
    case, verdict = minimise(cast(Explorer, Rules(fails)), parse_id(path))
    assert (case.id, verdict.problem) == (expected, "it fails")


def test_a_case_that_holds_cannot_be_made_smaller(good: Explorer) -> None:
    with pytest.raises(ValueError, match="expected a case that fails, got 3-before"):
        minimise(good, parse_id("3-before"))


def test_a_replay_tells_the_cut_the_boots_and_the_verdict(bad: Explorer, good: Explorer) -> None:
    case, verdict = minimise(bad, parse_id(first_failing(bad, Cut.TORN)))
    events, problem = replay(small(size=SIZE), bad, case.path)
    assert problem == verdict.problem
    kinds = [event.kind for event in events]
    assert kinds[:5] == ["operation", "operation", "operation", "cut", "power"]
    assert events[-1].text == f"FAILS: {problem}"
    assert "slot" in next(event.text for event in events if event.kind == "cut")
    events, problem = replay(small(size=SIZE), good, case.path)
    assert problem is None
    boots = [event.text for event in events if event.kind == "boot"]
    assert any("1.1.0 boots from slot 1, on trial" in text for text in boots)
    assert "no trial: the image failed it" in boots[-1]
    assert [event.text for event in events if event.kind == "verdict"] == [
        *["the oracle: as it should be"] * len(boots),
        "holds: the update came to its end",
    ]


def test_a_replay_of_two_cuts_tells_both(good: Explorer) -> None:
    first = next(
        case
        for case in good.cases(good.steps)
        if len(good.explore(case, record=True).steps) > 6 and case.step.operation.number > 4
    )
    events, _ = replay(small(size=SIZE), good, (*first.path, *parse_id("5-after")))
    assert [event.kind for event in events].count("cut") == 2
    assert [event.kind for event in events].count("power") == 2


@pytest.mark.parametrize(
    "text", ["", "5", "5-torn", "5-before-1", "x-after", "5-after/", "-1-after", "5-sideways", "5-torn-x"]
)
def test_what_names_no_case_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a case as"):
        parse_id(text)


@pytest.mark.parametrize("text", ["99999-after", "3-torn-999", "3-before/99999-after"])
def test_a_case_that_there_is_not_is_refused(good: Explorer, text: str) -> None:
    with pytest.raises(ValueError, match="there is no cut"):
        good.find(parse_id(text))
