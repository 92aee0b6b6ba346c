"""The search finds what each scenario states: nothing, or violations with shortest traces of that many steps.

The large scenarios are searched by `make model`.
"""

from __future__ import annotations

import pytest

from trustmodel import records
from trustmodel.__main__ import main
from trustmodel.scenarios import CASES, Case
from trustmodel.search import Search


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if not case.large], ids=str)
def test_a_scenario_finds_what_it_states(case: Case) -> None:
    found = Search(case.config).run()
    assert found.whole
    assert {violation: len(trace) for violation, trace in found.violations.items()} == dict(case.expected)


@pytest.mark.parametrize("place", records.Place)
def test_a_reader_of_two_records_finds_the_old_or_the_new(place: records.Place) -> None:
    states, wrong = records.explore(place)
    assert states > 10
    assert wrong == ("P3 no readable record" if place is records.Place.THE_FIRST else "")


def test_the_command_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "theft-S"]) == 0
    assert "ok    theft-S[successor]: " in (said := capsys.readouterr().out)
    assert "OWNER theft | OWNER rotate | deliver T4->SMAX issued 0 key 1 | honest courier tries" in said
    assert main(["drive", "quorum-raise"]) == 0
    assert "ok    quorum-raise, whole: " in capsys.readouterr().out
    assert main(["search", "nothing of this name"]) == 1


def test_no_two_scenarios_are_the_same() -> None:
    assert len({case.config for case in CASES}) == len(CASES)
