"""A push to a stock board: this host judges what the board cannot, writes nothing before, and remembers for it."""

from __future__ import annotations

from typing import Any

import pytest

from bench import DEVICE, FAILING, LAYOUT, MANUAL, SWAPPING
from forge import DAY, Repo
from hillhold_bootsim.layout import Layout
from hillhold_bootsim.stock import Stock
from hillhold_verifier.answers import BoardRefused, Body
from hillhold_verifier.conversation import Request
from hillhold_verifier.courier import Courier, StockBoardError
from hillhold_verifier.errors import (
    ExpiredError,
    HillholdError,
    MismatchError,
    MisuseError,
    OperationalError,
    RollbackError,
    SelectionError,
    SlotError,
    SmpError,
    UnprovisionedError,
)
from hillhold_verifier.hosttrust import HostTrust
from hillhold_verifier.select import Device
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, Op, OsCommand
from hillhold_verifier.stock import confirm_any
from hillhold_verifier.stockpush import End
from offers import TreeSource, image, offer, started
from stockrig import MemoryAreas, StockRig, factory


def newer(repo: Repo | None = None, version: str = "1.1.0", counter: int = 1, **custom: Any) -> Repo:
    repo = repo or started()
    offer(repo, version, counter, **custom)
    repo.publish("line", "snapshot", "timestamp")
    return repo


def rig(repo: Repo | None = None, layout: Layout = LAYOUT, **options: Any) -> StockRig:
    return StockRig(repo or newer(), layout, factory=factory(), **options)


def refused(bench: StockRig, error: type[HillholdError], words: str, **options: Any) -> None:
    """A push is refused before anything is written to the board."""
    before, sent = bench.content(), len(bench.written)
    with pytest.raises(error, match=words):
        bench.push(**options)
    assert len(bench.written) == sent
    assert bench.content() == before


# --- the whole way ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
@pytest.mark.parametrize("options", [{}, {"parameters": False}, {"match": True}, {"buffer": 1024}], ids=str)
def test_the_whole_way(layout: Layout, options: dict[str, Any]) -> None:
    bench = rig(layout=layout, **options)
    pushed = bench.push()
    assert (pushed.end, pushed.path, pushed.sent) == (End.CONFIRMED, "pump/1.1.0/app.bin", len(image("1.1.0")))
    assert bench.runs == "1.1.0"
    assert bench.states() == {"1.1.0": "active confirmed", "1.0.0": ""}
    assert bench.trust.remembered(0) is not None
    bench.power_cycle()
    assert bench.runs == "1.1.0"


def test_a_board_that_is_up_to_date_is_only_looked_at() -> None:
    bench = rig(started())
    pushed = bench.push()
    assert pushed.end is End.NOTHING
    assert [(v.path, v.outcome.value) for v in pushed.selection.verdicts] == [("pump/1.0.0/app.bin", "installed")]
    assert bench.written == []


def test_check_writes_nothing() -> None:
    bench = rig()
    board, selection = bench.run(bench.courier().check())
    assert [release.path for release in selection.plan] == ["pump/1.1.0/app.bin"]
    assert [str(found.version) for found in board.images] == ["1.0.0"]
    assert bench.written == []


def test_an_image_that_waits_is_on_trial_until_somebody_confirms_it() -> None:
    bench = rig(self_test=MANUAL)
    pushed = bench.push()
    assert pushed.end is End.TRIAL
    assert bench.states() == {"1.1.0": "active", "1.0.0": "confirmed"}
    remembered = bench.trust.remembered(0)
    assert remembered is not None
    assert str(remembered.version) == "1.0.0"
    bench.run(confirm_any())
    assert bench.states()["1.1.0"] == "active confirmed"
    assert bench.push().end is End.NOTHING


def test_a_trial_that_fails_is_remembered_and_not_tried_again() -> None:
    bench = rig(self_test=FAILING)
    assert bench.push().end is End.REVERTED
    assert bench.runs == "1.0.0"
    again = bench.push()
    assert again.end is End.NOTHING
    assert [v.reason for v in again.selection.verdicts if "1.1.0" in v.path] == [
        "its trial failed on this device before"
    ]
    trust = bench.trust
    assert len(trust.forget_failed()) == 1
    assert bench.push().end is End.REVERTED


def test_without_a_reset_it_stays_marked_and_the_next_push_boots_it() -> None:
    bench = rig()
    assert bench.push(reset=False).end is End.MARKED
    assert bench.states() == {"1.0.0": "active confirmed", "1.1.0": "pending"}
    pushed = bench.push()
    assert (pushed.end, pushed.sent) == (End.CONFIRMED, 0)


def test_a_push_that_was_interrupted_goes_on_where_it_stopped() -> None:
    bench = rig()
    uploads = 0

    def breaks(request: Request, answer: Body) -> Body:
        nonlocal uploads
        uploads += (request.group, request.command) == (Group.IMAGE, ImageCommand.UPLOAD) and request.op is Op.WRITE
        if uploads == 8:
            raise KeyboardInterrupt
        return answer

    bench.twist = breaks
    with pytest.raises(KeyboardInterrupt):
        bench.push()
    bench.twist, bench.requests = lambda _, answer: answer, []
    assert bench.push().end is End.CONFIRMED
    first, second = [one.body["off"] for one in bench.requests if one.command == 1 and one.group == 1 and one.op][:2]
    assert first == 0
    assert isinstance(second, int)
    assert second > 1000


# --- serial recovery ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
@pytest.mark.parametrize("options", [{}, {"hashes": False}, {"parameters": False}], ids=str)
def test_serial_recovery_is_overwritten_only_with_consent(layout: Layout, options: dict[str, Any]) -> None:
    bench = rig(layout=layout, kind=Stock.RECOVERY, **options)
    refused(bench, SlotError, "no way back")
    pushed = bench.push(no_way_back=True)
    assert (pushed.end, bench.runs) == (End.WRITTEN, "1.1.0")


def test_a_board_without_an_image_is_brought_one_through_recovery() -> None:
    bench = StockRig(newer())
    assert bench.states() == {}
    assert bench.push(no_way_back=True).end is End.WRITTEN
    assert bench.runs == "1.1.0"
    offer(bench.repo, "1.2.0")
    bench.repo.publish("line", "snapshot", "timestamp")
    assert bench.push().end is End.CONFIRMED
    assert bench.runs == "1.2.0"


def test_an_image_that_the_bootloader_does_not_accept_is_told_after_recovery() -> None:
    repo = started()
    offer(repo, "1.1.0", data=image("1.1.0", key="foreign"))
    repo.publish("line", "snapshot", "timestamp")
    bench = rig(repo, kind=Stock.RECOVERY)
    with pytest.raises(MismatchError, match="nothing that its bootloader accepts"):
        bench.push(no_way_back=True)


# --- what this host refuses in the board's place ------------------------------------------------------------------------


def test_metadata_that_have_expired() -> None:
    bench = rig()
    bench.clock += 8 * DAY
    refused(bench, ExpiredError, "timestamp")


def test_metadata_older_than_the_host_has_seen() -> None:
    bench = rig()
    old = dict(bench.repo.tree)
    for version in ("1.2.0", "1.3.0"):
        newer(bench.repo, version)
    assert bench.push().end is End.CONFIRMED
    before = bench.content()
    with pytest.raises(RollbackError):
        bench.push(old)
    assert bench.content() == before


def test_a_withdrawn_release() -> None:
    repo = newer(withdrawn="burns the battery")
    bench = rig(repo)
    pushed = bench.push()
    assert (pushed.end, bench.written) == (End.NOTHING, [])
    assert [v.reason for v in pushed.selection.verdicts if "1.1.0" in v.path] == ["withdrawn: burns the battery"]


def test_a_release_that_is_withdrawn_while_it_is_on_trial_ends_its_trial() -> None:
    bench = rig(self_test=MANUAL)
    assert bench.push().end is End.TRIAL
    bench.repo.change("pump/1.1.0/app.bin", withdrawn="burns the battery")
    bench.repo.publish("line", "snapshot", "timestamp")
    pushed = bench.push()
    assert (pushed.end, pushed.withdrawn, bench.runs) == (End.REVERTED, "pump/1.1.0/app.bin", "1.0.0")


def test_a_board_on_a_withdrawn_release_is_told_of() -> None:
    bench = rig()
    bench.push()
    bench.repo.change("pump/1.1.0/app.bin", withdrawn="burns the battery")
    bench.repo.publish("line", "snapshot", "timestamp")
    pushed = bench.push()
    assert (pushed.end, pushed.withdrawn, bench.runs) == (End.NOTHING, "pump/1.1.0/app.bin", "1.1.0")


def test_a_changed_byte_of_the_image_is_seen_before_the_first_byte_is_sent() -> None:
    bench = rig()
    (name,) = [name for name in bench.repo.tree if name.startswith("targets/pump/1.1.0/")]
    spoilt = bytearray(bench.repo.tree[name])
    spoilt[2000] ^= 1
    bench.repo.tree[name] = bytes(spoilt)
    refused(bench, MismatchError, "sha256 of pump/1.1.0/app.bin")


def test_an_image_whose_header_says_something_else() -> None:
    repo = started()
    offer(repo, "1.1.0", data=image("1.0.9"))
    repo.publish("line", "snapshot", "timestamp")
    refused(rig(repo), MismatchError, "image header")


def test_an_unknown_image_counts_for_only_forward() -> None:
    bench = StockRig(newer(), factory=image("1.1.5", seed=9))
    assert bench.push().end is End.NOTHING
    assert "runs 1.1.5, and no release of the line is known to be it" in "; ".join(bench.notes)
    newer(bench.repo, "1.2.0")
    assert bench.push().end is End.CONFIRMED


def test_another_image_of_the_version_that_runs_is_refused() -> None:
    bench = StockRig(newer(), factory=image("1.1.0", seed=9))
    pushed = bench.push()
    assert (pushed.end, bench.written) == (End.NOTHING, [])
    assert [v.reason for v in pushed.selection.verdicts if "1.1.0" in v.path] == [
        "another image of the confirmed version 1.1.0"
    ]


def test_a_signed_step_down_is_taken() -> None:
    bench = rig()
    assert bench.push().end is End.CONFIRMED
    newer(bench.repo, "1.0.5", downgrade_from=["1.1.0"])
    assert bench.push().path == "pump/1.0.5/app.bin"
    assert bench.push().end is End.NOTHING
    remembered = bench.trust.remembered(0)
    assert remembered is not None
    assert str(remembered.version) == "1.0.5"


def test_a_counter_below_what_the_board_confirmed_before_is_refused() -> None:
    repo = newer(version="1.1.0", counter=5)
    bench = rig(repo)
    assert bench.push().end is End.CONFIRMED
    offer(repo, "1.2.0", 4)
    repo.publish("line", "snapshot", "timestamp")
    pushed = bench.push()
    assert [v.reason for v in pushed.selection.verdicts if "1.2.0" in v.path] == [
        "security counter 4 is below this device's 5"
    ]


def test_a_set_is_not_for_a_board_that_cannot_mark_it_in_one_write() -> None:
    repo = started()
    pair = Device("pump", "nrf-a", "serial-1", ("app", "radio"))
    offer(repo, "1.1.0", set="summer")
    radio = image("4.0.0", seed=5)
    path = repo.add_release("4.0.0", radio, counter=1, file="radio.bin", component="radio")
    repo.change(path, format="mcuboot", set="summer")
    repo.publish("line", "snapshot", "timestamp")
    refused(StockRig(repo, factory=factory(), device=pair), SelectionError, "no stock board marks")


def test_a_host_state_that_cannot_be_read_is_not_taken_for_none() -> None:
    bench = rig()
    bench.areas.areas = [b"HHst" + bytes(200), b""]
    with pytest.raises(UnprovisionedError):
        bench.push()
    areas = MemoryAreas()
    HostTrust.begin(areas, DEVICE, bench.repo.tree["metadata/1.root.json"])
    with pytest.raises(MisuseError, match="already"):
        HostTrust.begin(areas, DEVICE, bench.repo.tree["metadata/1.root.json"])


# --- boards in other states, and boards that lie -------------------------------------------------------------------------


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
