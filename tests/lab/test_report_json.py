"""A campaign goes to JSON and back without loss, and what is not quite a campaign is refused by its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hillhold_bootsim.lab.errors import CampaignRefused
from hillhold_bootsim.lab.jsonform import from_json, to_json
from hillhold_bootsim.lab.model import Campaign, Result, Verdict
from labdata import campaign, with_texts

GOOD = to_json(campaign())


def test_a_campaign_comes_back_as_it_was() -> None:
    assert from_json(GOOD) == campaign()
    assert to_json(from_json(GOOD)) == GOOD


@given(st.text(max_size=40))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    """Control characters, directions and lone surrogates, too: what a board said is evidence, and is kept."""
    counter = iter(range(10_000))
    found = with_texts(campaign(), lambda _: f"{next(counter)}{text}\ud800")
    assert from_json(to_json(found)) == found


def test_a_figure_has_one_form() -> None:
    whole = _with_figure(3)
    assert to_json(whole) == to_json(_with_figure(3.0))
    assert from_json(to_json(_with_figure(0.1))) == _with_figure(0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_not_written(value: float) -> None:
    with pytest.raises(CampaignRefused, match=r"figures\.x: expected a number"):
        to_json(_with_figure(value))


def _with_figure(value: float) -> Campaign:
    found = campaign()
    tested = found.tested[0]
    first = replace(tested.results[0], figures={"x": value})
    return replace(found, tested=(replace(tested, results=(first,)),))


def edited(change: Callable[[Any], None]) -> bytes:
    value = json.loads(GOOD)
    change(value)
    return json.dumps(value).encode()


def _put(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(found: Any) -> None:
        for name in path[:-1]:
            found = found[name]
        found[path[-1]] = value

    return change


def _drop(*path: Any) -> Callable[[Any], None]:
    def change(found: Any) -> None:
        for name in path[:-1]:
            found = found[name]
        del found[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_put("format", value=2), "format of campaign: expected 1, got 2"),
        (_put("format", value=True), "format of campaign"),
        (_drop("format"), "format of campaign: expected 1, got None"),
        (_drop("paper", "number"), "campaign.paper: expected the field 'number'"),
        (_put("paper", "stamp", value=""), "campaign.paper: expected one of .*, got 'stamp'"),
        (_put("seed", value=1.5), "campaign.seed: expected an integer, got a number with a fraction"),
        (_put("seed", value=True), "campaign.seed: expected an integer, got true or false"),
        (_put("finished", value=0), "campaign.finished: expected true or false"),
        (_put("title", value=None), "campaign.title: expected text, got null"),
        (_put("cases", value={}), "campaign.cases: expected a list"),
        (_put("cases", 0, "sources", 0, value=3), r"campaign.cases\[0\].sources\[0\]: expected text"),
        (_put("cases", 0, "id", value="../x"), "id of a case: expected lowercase words"),
        (_put("cases", 0, "id", value='x"onclick'), "id of a case"),
        (_put("cases", 1, "id", value="rollback-of-timestamp"), "expected it once, got it twice"),
        (_put("cases", 0, "group", value=""), "expected a group"),
        (
            _put("tested", 0, "item", "kind", value="Virtual"),
            "kind of item .*: expected one of virtual, serial, adapter",
        ),
        (_put("tested", 1, "item", "name", value="pump board A"), "item 'pump board A': expected it once"),
        (_put("tested", 0, "results", 0, "case", value="unheard-of"), "expected a case of the campaign"),
        (_put("tested", 0, "results", 1, "case", value="rollback-of-timestamp"), "expected it once"),
        (_put("tested", 0, "results", 0, "verdict", value="passed"), "expected one of pass, fail, not tested"),
        (_put("tested", 0, "results", 0, "verdict", value=["pass"]), "expected one of pass"),
        (_put("tested", 0, "results", 0, "figures", "x", value="3"), "figures.x: expected a number"),
        (_put("tested", 0, "results", 0, "figures", "x", value=10**400), "double precision"),
        (_put("tested", 0, "results", 0, "evidence", 0, "kind", value="film"), "expected one of trace"),
        (_put("ended", value=0), "expected began before it ended"),
        (_put("ended", value=10**15), "before the year 10000"),
        (_put("began", value=-1), "expected began before it ended"),
    ],
)
def test_what_is_not_quite_a_campaign_is_refused_by_its_place(change: Callable[[Any], None], message: str) -> None:
    with pytest.raises(CampaignRefused, match=message):
        from_json(edited(change))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"\xff{}", b"[" * 100_000, b'{"format":1,"format":1}', b'{"format":NaN}', b"1" * 5000, b"null"],
    ids=range(9),
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(CampaignRefused):
        from_json(data)


def test_a_name_twice_in_one_object_is_refused() -> None:
    """Readers disagree on which of the two counts."""
    with pytest.raises(CampaignRefused, match="the name 'kind' twice in one object"):
        from_json(GOOD.replace(b'"kind": "virtual"', b'"kind": "virtual", "kind": "serial"'))


def test_a_number_beyond_doubles_is_refused() -> None:
    with pytest.raises(CampaignRefused, match="double precision"):
        from_json(GOOD.replace(b"340.25", b"1e999"))


def test_a_campaign_that_contradicts_itself_is_not_written() -> None:
    found = campaign()
    tested = replace(found.tested[0], results=(Result("unheard-of", Verdict.PASS, "", True),))
    with pytest.raises(CampaignRefused, match="expected a case of the campaign"):
        to_json(replace(found, tested=(tested,)))
