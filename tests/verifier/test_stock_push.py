"""A push to a stock board: this host judges what the board cannot, writes nothing before, and remembers for it."""

from __future__ import annotations

from typing import Any

import pytest

from bench import DEVICE, LAYOUT, MANUAL, SWAPPING
from forge import DAY
from hillhold_bootsim.application import SelfTest, Verdict
from hillhold_bootsim.layout import Layout
from hillhold_bootsim.stock import Stock
from hillhold_verifier.answers import Body
from hillhold_verifier.conversation import Request
from hillhold_verifier.errors import (
    ExpiredError,
    MismatchError,
    MisuseError,
    RollbackError,
    SelectionError,
    SlotError,
    UnprovisionedError,
)
from hillhold_verifier.hosttrust import HostTrust
from hillhold_verifier.select import Device
from hillhold_verifier.smp import Group, ImageCommand, Op
from hillhold_verifier.stock import confirm_any
from hillhold_verifier.stockpush import End
from offers import image, offer, started
from stockrig import MemoryAreas, StockRig, factory, newer, refused, rig

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


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
@pytest.mark.parametrize(("seconds", "trials"), [(2.0, 1), (0.0, 2)], ids=["seen", "before-the-first-look"])
def test_a_trial_that_fails_is_remembered_and_not_tried_again(seconds: float, trials: int, layout: Layout) -> None:
    bench = rig(layout=layout, self_test=SelfTest(default=Verdict.FAIL, seconds=seconds))
    boots = bench.board.boots
    assert bench.push().end is End.REVERTED
    assert (bench.runs, bench.board.boots - boots) == ("1.0.0", 2 * trials)
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
    with pytest.raises(MismatchError, match="no image that its bootloader accepts"):
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
