"""A stock board that lies, that somebody else has been at, or that loses its power: what it says decides little, and binds nobody later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import LAYOUT, MANUAL, SWAPPING
from hillhold_bootsim.application import SelfTest
from hillhold_bootsim.layout import Layout
from hillhold_verifier.answers import BoardRefused, Body
from hillhold_verifier.conversation import Request
from hillhold_verifier.courier import Courier, StockBoardError
from hillhold_verifier.errors import (
    HillholdError,
    MismatchError,
    MisuseError,
    OperationalError,
    SelectionError,
    SlotError,
    SmpError,
)
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, Op, OsCommand
from hillhold_verifier.stockpush import End
from offers import TreeSource, image
from stockrig import StockRig, factory, newer, refused, rig


def test_a_trial_of_somebody_elses_image_is_left_alone() -> None:
    bench = rig(self_test=MANUAL)
    bench.upload(image("1.0.7"))
    listed = bench.image(0, read=True)["images"]
    assert isinstance(listed, list)
    bench.image(0, {"hash": listed[1]["hash"], "confirm": False})
    refused(bench, SlotError, "which this host did not choose")
    bench.power_cycle()
    assert bench.runs == "1.0.7"
    refused(bench, SlotError, "no trial under way")


def test_an_image_that_somebody_marked_for_good_is_not_booted() -> None:
    bench = rig()
    bench.upload(image("1.1.0"))
    listed = bench.image(0, read=True)["images"]
    assert isinstance(listed, list)
    bench.image(0, {"hash": listed[1]["hash"], "confirm": True})
    assert bench.states()["1.1.0"] == "pending permanent"
    refused(bench, SlotError, "which this host did not choose")


def test_a_mark_that_is_withdrawn_meanwhile_is_said() -> None:
    bench = rig()
    assert bench.push(reset=False).end is End.MARKED
    bench.repo.change("pump/1.1.0/app.bin", withdrawn="burns the battery")
    bench.repo.publish("line", "snapshot", "timestamp")
    assert bench.push().end is End.NOTHING
    assert "pump/1.1.0/app.bin is marked, and withdrawn" in "; ".join(bench.notes)


def test_a_cut_between_the_mark_and_the_reset_costs_nothing() -> None:
    bench = rig()
    assert bench.push(reset=False).end is End.MARKED
    bench.power_cycle()
    pushed = bench.push()
    assert (pushed.end, pushed.sent, bench.runs) == (End.CONFIRMED, 0, "1.1.0")


def test_a_board_that_went_back_to_an_older_image_gets_no_older_release() -> None:
    """Somebody wrote 1.0.0 over what this host saw it confirm; the line still lists 1.1.0 below that, and nothing above."""
    repo = newer(newer(), "1.2.0")
    bench = rig(repo)
    assert bench.push().path == "pump/1.2.0/app.bin"
    back = StockRig(repo, factory=factory())
    back.areas = bench.areas
    assert back.push().path == "pump/1.2.0/app.bin"
    repo.change("pump/1.2.0/app.bin", withdrawn="burns the battery")
    repo.publish("line", "snapshot", "timestamp")
    again = StockRig(repo, factory=factory())
    again.areas = bench.areas
    refused(again, SelectionError, "at least 1.2.0, which this host saw the board confirm")
    assert "the board went back to 1.0.0, by nobody's signature" in "; ".join(again.notes)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"images": 5}, OperationalError, "lists no images"),
        ({"images": [{"slot": 0}]}, SmpError, "version"),
        ({"images": [{"slot": 0, "version": "1.0.0.0.0"}]}, SmpError, "version of an image"),
        ({"images": [{"slot": 0, "version": "999.0.0"}]}, SmpError, "version of an image"),
        ({"images": [{"slot": -1, "version": "1.0.0"}]}, SmpError, "slot"),
        ({"images": [{"slot": 0, "version": "1.0.0", "hash": b"short"}]}, SmpError, "hash of an image"),
        ({"images": [{"slot": 0, "version": "1.0.0", "active": True}] * 2}, SmpError, "a map for each slot"),
        ({"images": [{"slot": n, "version": "1.0.0"} for n in range(99)]}, SmpError, "at most 32"),
        ({"images": [{"slot": 0, "image": 3, "version": "1.0.0", "active": True}]}, MisuseError, "--component"),
        ({"rc": 8}, OperationalError, "error 8 ENOTSUP"),
        ({"err": {"group": 1, "rc": 11}}, OperationalError, "error 11 FLASH_READ_FAILED"),
    ],
)
def test_a_list_that_is_none_is_refused(change: Body, error: type[HillholdError], words: str) -> None:
    bench = rig()

    def lies(request: Request, answer: Body) -> Body:
        return change if (request.group, request.command) == (Group.IMAGE, ImageCommand.STATE) else answer

    bench.twist = lies
    refused(bench, error, words)


def test_a_board_that_says_that_it_wrote_something_else_is_not_asked_to_try_it() -> None:
    bench = rig(match=True)
    bench.twist = lambda _, answer: {**answer, "match": False} if "match" in answer else answer
    with pytest.raises(MismatchError, match="another, by its own check"):
        bench.push()
    assert "pending" not in "".join(bench.states().values())


def test_a_board_that_lists_another_image_than_it_was_sent_is_not_asked_to_try_it() -> None:
    bench = rig()

    def lies(_: Request, answer: Body) -> Body:
        rows = answer.get("images")
        if isinstance(rows, list) and len(rows) == 2:
            return {**answer, "images": [rows[0], {**rows[1], "hash": bytes(32)}]}
        return answer

    bench.twist = lies
    with pytest.raises(MismatchError, match="the board's other slot"):
        bench.push()
    assert "pending" not in "".join(bench.states().values())


def test_a_board_that_marks_for_good_is_not_reset() -> None:
    bench = rig()

    def lies(_: Request, answer: Body) -> Body:
        rows = answer.get("images")
        if isinstance(rows, list):
            return {**answer, "images": [{**row, "permanent": row["pending"]} for row in rows]}
        return answer

    bench.twist = lies
    with pytest.raises(MismatchError, match=r"a trial of 1\.1\.0"):
        bench.push()
    assert bench.runs == "1.0.0"


def test_a_board_that_knows_no_trials_gets_nothing() -> None:
    """Its bootloader boots the highest version: what is uploaded would run at the next reset, and for good."""
    bench = rig()
    ask = bench.ask

    def without(request: Request, *, version: int = 1) -> Body:
        if (request.op, request.group, request.command) == (Op.WRITE, Group.IMAGE, ImageCommand.STATE):
            return {"rc": 8}
        return ask(request, version=version)

    bench.ask = without  # type: ignore[method-assign]
    before = bench.content()
    with pytest.raises(SlotError, match="boots the highest version at once"):
        bench.push()
    assert bench.content() == before


def test_a_boards_own_refusal_is_told_in_its_words() -> None:
    bench = rig()
    bench.twist = lambda request, answer: (
        {"err": {"group": 1, "rc": 30}} if request.op is Op.WRITE and request.command == 1 else answer
    )
    with pytest.raises(BoardRefused, match="upload: the board answers error 30 INVALID_IMAGE_TOO_LARGE"):
        bench.push()


def test_a_board_that_lies_about_its_version_binds_nobody_later() -> None:
    bench = rig()
    bench.twist = lambda _, answer: (
        {"images": [{"slot": 0, "version": "255.255.65535", "hash": bytes(32), "active": True, "confirmed": True}]}
        if "images" in answer
        else answer
    )
    assert bench.push().end is End.NOTHING
    bench.twist = lambda _, answer: answer
    assert bench.push().end is End.CONFIRMED


def test_a_reset_that_was_lost_is_sent_again() -> None:
    bench = rig()
    resets = 0
    ask = bench.ask

    def deaf(request: Request, *, version: int = 1) -> Body:
        nonlocal resets
        if (request.group, request.command) == (Group.OS, OsCommand.RESET):
            resets += 1
            if resets == 1:
                return {}
        return ask(request, version=version)

    bench.ask = deaf  # type: ignore[method-assign]
    assert bench.push().end is End.CONFIRMED
    assert resets == 2


def spoil(bench: StockRig, uploads: int) -> None:
    """One byte of so many uploads changes on the way, as on a raw line, which has no check."""
    ask, spoilt = bench.ask, 0

    def on_the_way(request: Request, *, version: int = 1) -> Body:
        nonlocal spoilt
        at, data = request.body.get("off"), request.body.get("data")
        if isinstance(at, int) and isinstance(data, bytes) and at <= 600 < at + len(data) and spoilt < uploads:
            spoilt += 1
            changed = data[: 600 - at] + bytes([data[600 - at] ^ 1]) + data[601 - at :]
            request = replace(request, body={**request.body, "data": changed})
        return ask(request, version=version)

    bench.ask = on_the_way  # type: ignore[method-assign]


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
def test_an_image_that_the_line_spoilt_is_sent_once_more(layout: Layout) -> None:
    bench = rig(layout=layout)
    spoil(bench, 1)
    pushed = bench.push()
    assert (pushed.end, pushed.sent) == (End.CONFIRMED, 2 * len(image("1.1.0")))
    assert bench.trust.state.failed == ()


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
def test_a_line_that_spoils_an_image_again_makes_it_no_failed_one(layout: Layout) -> None:
    bench = rig(layout=layout)
    spoil(bench, 2)
    assert bench.push().end is End.NOT_STARTED
    assert (bench.runs, bench.states()) == ("1.0.0", {"1.0.0": "active confirmed"})
    assert bench.trust.state.failed == ()
    assert bench.push().end is End.CONFIRMED


@pytest.mark.parametrize("change", [{"hash": bytes(32)}, {"confirmed": True}], ids=["hash", "confirmed"])
def test_one_list_that_the_line_spoilt_ends_nothing(change: Body) -> None:
    bench = rig(self_test=MANUAL)

    def spoilt(request: Request, answer: Body) -> Body:
        rows = answer.get("images")
        if isinstance(rows, list) and bench.runs == "1.1.0" and len(bench.requests) % 3 == 0:
            return {**answer, "images": [{**row, **(change if row["active"] else {})} for row in rows]}
        return answer

    bench.twist = spoilt
    assert bench.push().end is End.TRIAL
    assert bench.trust.state.failed == ()
    remembered = bench.trust.remembered(0)
    assert remembered is not None
    assert str(remembered.version) == "1.0.0"


def test_a_reset_that_comes_twice_makes_no_failed_trial() -> None:
    """The second one ends the trial that the first one began."""
    bench = rig(self_test=SelfTest(seconds=1))
    ask, resets = bench.ask, 0

    def twice(request: Request, *, version: int = 1) -> Body:
        nonlocal resets
        if (request.group, request.command) == (Group.OS, OsCommand.RESET):
            resets += 1
            if resets == 1:
                ask(request, version=version)
        return ask(request, version=version)

    bench.ask = twice  # type: ignore[method-assign]
    assert bench.push().end is End.CONFIRMED
    assert (resets, bench.trust.state.failed) == (2, ())


def test_a_board_of_ours_is_not_verified_for() -> None:
    bench = rig()
    bench.twist = lambda request, answer: {"magic": "hillhold"} if request.group == HILLHOLD_GROUP else answer
    refused(bench, MisuseError, "verifies for itself")


def test_an_ordinary_push_says_that_it_is_a_stock_board_and_writes_nothing() -> None:
    bench = rig()
    with pytest.raises(StockBoardError, match="a stock board: it has SMP, and not Hillhold's group"):
        bench.run(Courier(TreeSource(bench.repo.tree)).push())
    assert bench.written == []


def test_a_host_that_dies_after_the_upload_sends_it_again() -> None:
    """The board has forgotten the upload's hash; whether what lies in the slot is whole, only a whole upload says."""
    bench = rig()

    def dies(request: Request, answer: Body) -> Body:
        if request.group == Group.IMAGE and request.op is Op.WRITE and "hash" in request.body:
            raise KeyboardInterrupt
        return answer

    bench.twist = dies
    with pytest.raises(KeyboardInterrupt):
        bench.push()
    bench.power_cycle()
    bench.twist = lambda _, answer: answer
    assert bench.push().end is End.CONFIRMED
