"""What a report says: page one, what was not tested, every case with its evidence, clauses, and never more than was seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from hillhold_bootsim.lab.judge import VERSION, WORDS
from hillhold_bootsim.lab.model import Campaign, Check, Item, Result, Verdict
from hillhold_bootsim.lab.model import Tested as OnOneItem  # pytest takes Test… for a class of tests
from hillhold_bootsim.lab.report.content import VIRTUAL, blocks
from hillhold_bootsim.lab.report.document import Block, Facts, Fold, Heading, Notice, Para, Pre, Table, Tone
from hillhold_bootsim.lab.report.summary import Basis, Outcome, Standing, summarise
from labdata import campaign


def page_one(found: Campaign) -> list[Block]:
    """Everything before the first heading that begins a page."""
    all_blocks = blocks(found)
    end = next(number for number, block in enumerate(all_blocks) if isinstance(block, Heading) and block.fresh)
    return all_blocks[:end]


def notices(found: Campaign) -> list[Notice]:
    return [block for block in page_one(found) if isinstance(block, Notice)]


def told(some: Sequence[Block]) -> Iterator[str]:
    for block in some:
        match block:
            case Heading() | Para():
                yield block.text
            case Notice():
                yield f"{block.title} {block.text}"
            case Facts():
                yield from (f"{name}: {value}" for name, value in block.rows)
            case Table():
                yield from (" | ".join(cell.text for cell in row) for row in block.rows)
            case Pre():
                yield block.text
            case Fold():
                yield block.title.text
                yield from told(block.blocks)


def section(found: Campaign, anchor: str) -> list[str]:
    all_blocks = blocks(found)
    begin = next(n for n, block in enumerate(all_blocks) if isinstance(block, Heading) and block.anchor == anchor)
    end = next(
        (n for n, b in enumerate(all_blocks) if n > begin and isinstance(b, Heading) and b.level == 2), len(all_blocks)
    )
    return list(told(all_blocks[begin:end]))


def only(*results: Result, kind: str = "serial", finished: bool = True, checks: tuple[Check, ...] = ()) -> Campaign:
    found = campaign()
    cases = tuple(case for case in found.cases if case.id in {result.case for result in results})
    tested = (OnOneItem(Item("board", kind), results),)
    return replace(found, cases=cases, tested=tested, finished=finished, checks=checks)


def beside(found: Campaign, *results: Result) -> Campaign:
    """With a second item."""
    return replace(found, tested=(*found.tested, OnOneItem(Item("another board", "serial"), results)))


PASS = Result("one-key-twice", Verdict.PASS, "refused", True)
FAIL = replace(PASS, verdict=Verdict.FAIL)
UNTESTED = Result("image-cut-short", Verdict.NOT_TESTED, "no way to read", False)
UNCLEAR = replace(UNTESTED, verdict=Verdict.INCONCLUSIVE)
BROKEN = Check("early", "a planted fault", ("one-key-twice",), ())


# --- page one ---------------------------------------------------------------------------------------------------------


def test_a_virtual_board_is_named_before_anything_else_on_page_one() -> None:
    first = notices(campaign())[0]
    assert (first.title, first.tone) == (VIRTUAL, Tone.BAD)
    assert "PROVES NOTHING ABOUT A PRODUCT" in first.title
    assert "pump board A" in first.text
    assert "pump board B" not in first.text


def test_where_all_are_virtual_no_statement_is_about_a_product() -> None:
    first = notices(only(PASS, kind="virtual"))[0]
    assert first.title == VIRTUAL
    assert "no statement in it is about any real board" in first.text


def test_a_real_board_has_no_such_notice() -> None:
    assert [notice.title for notice in notices(only(PASS))] == ["PASSED: all 1 tested cases passed"]


@pytest.mark.parametrize(
    ("found", "standing", "headline"),
    [
        (only(PASS), Standing.PASSED, "PASSED: all 1 tested cases passed"),
        (only(PASS, UNTESTED), Standing.PASSED, "PASSED: all 1 tested cases passed, 1 of 2 planned were not tested"),
        (
            beside(only(PASS, UNTESTED), replace(PASS, verdict=Verdict.NOT_TESTED), UNTESTED),
            Standing.UNDECIDED,
            "NOT DECIDED: 1 cases passed, but nothing was tested to an end on another board",
        ),
        (beside(only(PASS), FAIL), Standing.FAILED, "FAILED: 1 of 2 tested cases failed"),
        (only(FAIL, UNTESTED), Standing.FAILED, "FAILED: 1 of 1 tested cases failed"),
        (only(FAIL, UNCLEAR, finished=False, checks=(BROKEN,)), Standing.FAILED, "FAILED: 1 of 1"),
        (only(PASS, UNCLEAR), Standing.UNDECIDED, "NOT DECIDED: 1 cases passed, but 1 inconclusive"),
        (
            only(PASS, finished=False),
            Standing.UNDECIDED,
            "NOT DECIDED: 1 cases passed, but the campaign was not finished",
        ),
        (only(PASS, checks=(BROKEN,)), Standing.UNDECIDED, "the tool's own validation failed"),
        (only(UNTESTED), Standing.UNDECIDED, "NOT DECIDED: nothing was tested"),
        (replace(campaign(), tested=()), Standing.UNDECIDED, "NOT DECIDED: nothing was tested"),
        (replace(campaign(), tested=(), cases=()), Standing.UNDECIDED, "NOT DECIDED: nothing was tested"),
    ],
)
def test_the_verdict_is_never_better_than_what_was_seen(found: Campaign, standing: Standing, headline: str) -> None:
    summary = summarise(found)
    assert summary.standing is standing
    assert headline in summary.headline
    assert summary.headline in [notice.title for notice in notices(found)]


def test_a_planned_case_without_a_result_was_not_reached_and_keeps_the_whole_from_passing() -> None:
    found = replace(only(PASS), cases=campaign().cases)
    summary = summarise(found)
    assert summary.counts[Outcome.NOT_REACHED] == len(found.cases) - 1
    assert summary.standing is Standing.UNDECIDED


def test_page_one_says_how_many_verdicts_rest_on_the_boards_words() -> None:
    assert "2 of 6 verdicts rest on the board's own words" in notices(campaign())[1].text
    assert "own words" not in notices(only(PASS))[0].text


CRASHED = replace(FAIL, reason="the board's software crashed during the attack", independent=False)


@pytest.mark.parametrize(
    ("result", "basis", "words"),
    [
        (PASS, Basis.IMAGE, ""),
        (replace(PASS, reason=f"refused{VERSION}"), Basis.VERSION, "1 of 1 verdicts rest on the version of what ran"),
        (
            replace(PASS, reason=f"refused{WORDS}", independent=False),
            Basis.WORDS,
            "1 of 1 verdicts rest on the board's own words",
        ),
        (
            replace(FAIL, reason=f"it crashed{WORDS}", independent=False),
            Basis.WORDS,
            "1 of 1 verdicts rest on the board's own words",
        ),
        (CRASHED, Basis.SEEN, "1 of 1 verdicts rest on a crash of the board, or on its silence"),
    ],
    ids=["image", "version", "words", "crash, in words", "crash"],
)
def test_page_one_and_the_case_say_what_a_verdict_rests_on(result: Result, basis: Basis, words: str) -> None:
    found = only(result)
    (line,) = summarise(found).lines
    assert line.basis is basis
    assert words in notices(found)[0].text
    assert "verdicts rest" not in notices(found)[0].text or words
    told = " ".join(section(found, "evidence"))
    assert ("own words" in told.replace(WORDS, ""), "by its bytes" in told) == (
        basis is Basis.WORDS,
        basis is Basis.IMAGE,
    )
    (counts,) = (block for block in page_one(found) if isinstance(block, Table))
    assert counts.rows[0][-1].text == str(int(basis is Basis.IMAGE))


def test_page_one_says_that_the_validation_was_not_run_or_failed() -> None:
    assert "was not run" in notices(only(PASS))[0].text
    assert "FAILED (early)" in notices(only(PASS, checks=(BROKEN,)))[0].text


@pytest.mark.parametrize(
    "wanted",
    [
        "EX-2026-0042",
        "Example Laboratory",
        "Example Street",
        "Customer: Example Pumps",
        "SN 0001",
        "2026-05-20",
        "2026-05-28 20:26:40 UTC to 2026-05-28 21:56:40 UTC",
        "2026-05-29",
        "Deviations: Power cuts",
        "Ada (head of the laboratory); Grace",
        "The results relate only to the items tested",
        "seed 42",
    ],
)
def test_page_one_has_what_iso_17025_asks_of_a_report(wanted: str) -> None:
    assert any(wanted in line for line in told(page_one(campaign()))), wanted


def test_what_the_laboratory_did_not_state_shows_as_not_stated() -> None:
    bare = replace(campaign(), paper=type(campaign().paper)())
    lines = list(told(page_one(bare)))
    for name in ("Report number", "Laboratory", "Customer", "Items received", "Report issued", "Authorised by"):
        assert f"{name}: not stated" in lines


# --- sections ---------------------------------------------------------------------------------------------------------


def test_all_that_was_not_tested_is_listed_with_its_reason() -> None:
    lines = section(campaign(), "not-tested")
    assert "clock-far-ahead | pump board A | not tested | the board has no clock that can be set" in lines
    assert "image-cut-short | pump board B | inconclusive | the board did not answer after the reset" in lines
    assert sum("not reached" in line for line in lines) == 2
    assert "Every planned case" in section(only(PASS), "not-tested")[1]


def test_every_case_shows_all_its_evidence() -> None:
    found = campaign()
    text = "\n".join(section(found, "evidence"))
    for case in found.cases:
        assert {case.how, case.expected, case.sentence} <= set(text.replace(": ", "\n").splitlines())
    for tested in found.tested:
        for result in tested.results:
            assert result.reason in text
            assert all(evidence.text in text for evidence in result.evidence)


def test_a_case_says_whether_its_verdict_rests_on_the_boards_words() -> None:
    assert any("read independently of the board's agent" in line for line in section(only(PASS), "evidence"))
    words = section(only(replace(PASS, independent=False)), "evidence")
    assert any("rests on the board's own words" in line for line in words)
    assert not any("read independently of" in line for line in words)


def test_the_map_names_cases_verdicts_and_what_is_still_to_be_checked() -> None:
    lines = section(campaign(), "clauses")
    assert any(
        line.startswith("SVV-3 | ") and line.endswith("one-key-twice | 1 pass, 1 fail | to be checked")
        for line in lines
    )
    assert any(
        line.startswith("4.2.1.3 | ") and line.endswith("rollback-of-timestamp | 2 pass | checked") for line in lines
    )
    assert any(line.startswith("4.4.1 | ") and line.endswith("to be checked") for line in lines), (
        "among rows that were checked"
    )
    assert any("SUM-5 | " in line and "no case | – | to be checked" in line for line in lines)
    assert not any("CVE-2020-15093" in line for line in lines), "literature only where a case names it"


def test_a_source_that_no_data_file_has_is_shown_as_unknown() -> None:
    found = campaign()
    cases = (replace(found.cases[0], sources=("iso99999:1",)), *found.cases[1:])
    assert "iso99999:1 | rollback-of-timestamp" in section(replace(found, cases=cases), "clauses")


def test_the_validations_matrix_says_which_boards_were_not_found() -> None:
    lines = section(only(PASS, checks=(BROKEN, Check("right", "", (), ()))), "validation")
    assert "early | a planted fault | one-key-twice | nothing | NOT AS EXPECTED" in lines
    assert "right | none: the right board | nothing | nothing | as expected" in lines


def test_versions_and_hashes_of_everything_are_in() -> None:
    found = campaign()
    lines = section(found, "origins")
    assert {f"{name} | {value}" for name, value in {**found.versions, **found.hashes}.items()} <= set(lines)


def test_versions_and_hashes_that_are_missing_are_not_stated() -> None:
    lines = section(replace(campaign(), versions={}, hashes={}), "origins")
    assert sum(line.endswith(": not stated.") for line in lines) == 2
