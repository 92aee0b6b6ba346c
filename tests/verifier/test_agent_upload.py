"""Uploads and erases as stock tools send them: what they name, where they go on, which slot they take."""

from __future__ import annotations

from hashlib import sha256

import pytest

from bench import CLOCK, SLOT_SIZE, Rig, unchanged
from hillhold_verifier.agent_image import answer_image
from hillhold_verifier.errors import (
    MismatchError,
    SelectionError,
    SlotError,
    SmpError,
    TransferError,
)
from hillhold_verifier.smp import Group, ImageCommand, ImgMgmtErr, Message, Op
from offers import offer, offer_patch, started
from stock import NEW, OLD, ask, entry, listed, name_of, on_trial, pair, ready, set_state, upload

# --- upload and erase -------------------------------------------------------------------------------------------------


def test_an_upload_goes_to_the_image_that_it_names_by_default_the_first() -> None:
    duo, images = pair()
    for name, component in (("radio 5.0.0", 1), ("app 2.0.0", 0)):
        body = upload(images[name], image=component)
        if component == 0:
            del body["image"]
        assert ask(duo.installer, ImageCommand.UPLOAD, body) == {"off": 100}
        duo.start()
        transfer = duo.installer.state.transfer
        assert transfer is not None
        assert transfer.component == component


def test_an_upload_names_an_image_that_the_device_has() -> None:
    duo, images = pair()
    for number in (2, 255, 2**63):
        with pytest.raises(TransferError, match=f"image number: expected 0 to 1, got {number}") as caught:
            ask(duo.installer, ImageCommand.UPLOAD, upload(images["app 2.0.0"], image=number))
        assert caught.value.stock == ImgMgmtErr.NO_FREE_SLOT
    for odd in ("0", -1, None):
        with pytest.raises(SmpError, match="image"):
            ask(duo.installer, ImageCommand.UPLOAD, upload(images["app 2.0.0"], image=odd))
    assert duo.installer.state.transfer is None


def test_where_there_is_one_image_its_number_is_not_judged() -> None:
    """`smpmgr upgrade --slot 1` sends the slot as `image`; Zephyr looks at neither."""
    rig = ready()
    rig.installer.erase()
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(NEW, image=1)) == {"off": 100}
    rest = {"off": 100, "data": NEW[100:]}
    assert ask(rig.installer, ImageCommand.UPLOAD, rest) == {"off": len(NEW), "match": True}
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(NEW, image=1)) == {"off": len(NEW), "match": True}
    with pytest.raises(SmpError, match="image"):
        ask(rig.installer, ImageCommand.UPLOAD, upload(NEW, image=-1))
    assert ask(rig.installer, ImageCommand.ERASE, {"image": 7}) == {}
    assert rig.installer.held(0, 1) is None


def named(start: int | None) -> dict[str, object]:
    """The `sha` of an upload of the new image: its first bytes, or none at all."""
    return {} if start is None else {"sha": sha256(NEW).digest()[:start]}


def without_sha(content: bytes, **changes: object) -> dict[str, object]:
    return {name: value for name, value in upload(content, **changes).items() if name != "sha"}


@pytest.mark.parametrize("start", [None, 0, 3, 31, 32])
def test_an_upload_may_state_any_part_of_its_hash(start: int | None) -> None:
    """Nordic's libraries state three bytes; smpclient none, once the board was reset."""
    rig = ready()
    rig.installer.erase()
    first = without_sha(NEW) | named(start)
    assert ask(rig.installer, ImageCommand.UPLOAD, first) == {"off": 100}
    assert ask(rig.installer, ImageCommand.UPLOAD, first) == {"off": 100}, "it goes on where it was"
    rig.start_agent()
    assert ask(rig.installer, ImageCommand.UPLOAD, {"off": 100, "data": NEW[100:200]}) == {"off": 0}, "reset since"
    at = ask(rig.installer, ImageCommand.UPLOAD, first)["off"]
    assert at == 100 if start is None else at in (0, 100)
    assert isinstance(at, int)
    while at < len(NEW):
        answer = ask(rig.installer, ImageCommand.UPLOAD, {"off": at, "data": NEW[at : at + 700]})
        assert isinstance(answer["off"], int)
        at = answer["off"]
    assert answer == {"off": len(NEW), "match": True}
    assert ask(rig.installer, ImageCommand.UPLOAD, first) == {"off": len(NEW), "match": True}, "it is there already"
    set_state(rig.installer, name_of(NEW))
    assert rig.facts().mark == sha256(NEW).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"sha": sha256(OLD).digest()[:3]},
        {"sha": sha256(NEW).digest()[:3] + b"\0"},
        {"sha": sha256(NEW).digest()[1:4]},
        {"sha": sha256(NEW).digest() + b"\0"},
        {"sha": bytes(31)},
        {"len": len(NEW) - 1},
        {"len": len(NEW) + 1},
        {"len": len(NEW) + 1, "sha": sha256(NEW).digest()[:3]},
        {"len": 0},
        {"len": 2**63},
    ],
    ids=str,
)
def test_an_upload_that_names_nothing_that_the_device_chose(change: dict[str, object]) -> None:
    rig = ready()
    rig.installer.erase()
    with unchanged(rig), pytest.raises(TransferError):
        ask(rig.installer, ImageCommand.UPLOAD, without_sha(NEW) | change)


def test_other_content_of_the_same_length_is_found_out_by_the_hash_that_the_metadata_name() -> None:
    rig = ready()
    rig.installer.erase()
    other = NEW[:200] + b"another" + NEW[207:]
    ask(rig.installer, ImageCommand.UPLOAD, without_sha(other))
    with pytest.raises(MismatchError, match="image hash"):
        ask(rig.installer, ImageCommand.UPLOAD, {"off": 100, "data": other[100:]})
    assert rig.installer.held(0, 1) is None
    assert ask(rig.installer, ImageCommand.UPLOAD, without_sha(NEW, data=b"")) == {"off": 0}, "from zero"


def test_a_patch_is_named_by_its_whole_hash_only() -> None:
    """Its start, or its length alone, could as well mean the image that it makes."""
    rig = ready()
    rig.installer.erase()
    patch = offer_patch(rig.repo, "1.1.0+5", OLD, NEW)
    rig.repo.publish()
    rig.take()
    for start in (0, 3, 31):
        with unchanged(rig), pytest.raises(TransferError, match="which this device chose"):
            ask(rig.installer, ImageCommand.UPLOAD, upload(patch, sha=sha256(patch).digest()[:start]))
    answer = ask(rig.installer, ImageCommand.UPLOAD, upload(patch, data=patch))
    assert answer == {"off": len(patch)}, "no match is claimed: it is no image yet"


def test_an_upgrade_only_upload_is_of_a_version_above_the_running_one() -> None:
    rig = ready()
    rig.installer.erase()
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(NEW, upgrade=True)) == {"off": 100}
    back = offer(rig.repo, "0.9.0", 1)
    rig.repo.change("pump/0.9.0/app.bin", downgrade_from=["1.0.0"])
    rig.repo.change("pump/1.1.0+5/app.bin", withdrawn="it leaks")
    rig.repo.publish()
    rig.take()
    with unchanged(rig), pytest.raises(SelectionError, match=r"a version above 1\.0\.0, got 0\.9\.0") as caught:
        ask(rig.installer, ImageCommand.UPLOAD, upload(back, upgrade=True))
    assert caught.value.stock == ImgMgmtErr.CURRENT_VERSION_IS_NEWER
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(back, upgrade=False)) == {"off": 100}
    with pytest.raises(SmpError, match="upgrade"):
        ask(rig.installer, ImageCommand.UPLOAD, upload(back, upgrade=1))


def test_a_first_piece_without_data_asks_where_to_go_on() -> None:
    rig = ready()
    rig.installer.erase()
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(NEW, data=b"")) == {"off": 0}
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(NEW)) == {"off": 100}
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(NEW)) == {"off": 100}


def test_an_upload_without_offset_or_length_is_called_so() -> None:
    rig = ready()
    for field, stock in (("off", ImgMgmtErr.INVALID_OFFSET), ("len", ImgMgmtErr.INVALID_LENGTH)):
        body = upload(NEW)
        del body[field]
        with unchanged(rig), pytest.raises(SmpError, match=f"field {field}") as caught:
            ask(rig.installer, ImageCommand.UPLOAD, body)
        assert caught.value.stock == stock


def test_an_erase_takes_the_other_slot_of_the_image_that_it_names() -> None:
    """Slots are counted over all images; without one it is the other slot of `image`, which is what Nordic's libraries send."""
    for body, component in (
        ({}, 0),
        ({"slot": 1}, 0),
        ({"slot": 3}, 1),
        ({"image": 1}, 1),
        ({"image": 1, "slot": 1}, 0),
    ):
        duo, _ = pair()
        duo.update()
        duo.start()
        duo.installer.confirm(self_tested=True)
        assert ask(duo.installer, ImageCommand.ERASE, dict(body)) == {}
        assert [duo.installer.held(number, 0) is None for number in (0, 1)] == [component == 0, component == 1]
        assert [duo.installer.held(number, 1) is None for number in (0, 1)] == [False, False], "they run"


@pytest.mark.parametrize("slot", [0, 2])
def test_an_erase_of_a_slot_that_runs_is_refused(slot: int) -> None:
    duo, _ = pair()
    before = duo.installer.state
    with pytest.raises(SlotError, match=f"expected {slot + 1}, which does not run, got {slot}"):
        ask(duo.installer, ImageCommand.ERASE, {"slot": slot})
    assert duo.installer.state == before


def test_an_erase_of_a_slot_that_is_marked_is_refused() -> None:
    rig = ready()
    rig.installer.mark(CLOCK)
    before = rig.facts()
    with pytest.raises(SlotError, match="marked for a trial"):
        ask(rig.installer, ImageCommand.ERASE, {})
    assert rig.facts() == before


@pytest.mark.parametrize("body", [{}, {"slot": 0}, {"slot": 1}], ids=str)
def test_an_erase_during_a_trial_is_refused(body: dict[str, object]) -> None:
    rig = on_trial()
    with unchanged(rig), pytest.raises(SlotError):
        ask(rig.installer, ImageCommand.ERASE, body)


@pytest.mark.parametrize("slot", [2, 3, 9, 2**63])
def test_an_erase_of_a_slot_that_the_device_does_not_have_is_refused(slot: int) -> None:
    rig = ready()
    with unchanged(rig), pytest.raises(TransferError, match="expected 0 to 1, got") as caught:
        ask(rig.installer, ImageCommand.ERASE, {"slot": slot})
    assert caught.value.stock == ImgMgmtErr.INVALID_SLOT


def test_slots_are_listed_with_their_size() -> None:
    rig = Rig(started())
    answer = answer_image(
        Message(Op.READ, Group.IMAGE, ImageCommand.SLOT_INFO, 0), rig.installer, CLOCK, self_tested=False
    )
    slots = [{"slot": 0, "size": SLOT_SIZE}, {"slot": 1, "size": SLOT_SIZE, "upload_image_id": 0}]
    assert answer == {"images": [{"image": 0, "slots": slots}]}


def test_the_first_image_of_a_new_board_goes_to_slot_1_and_runs_from_slot_0() -> None:
    rig = Rig(started())
    rig.take()
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(OLD, data=OLD)) == {"off": len(OLD), "match": True}
    assert listed(rig.installer) == {"images": [entry(1, "1.0.0", OLD)], "splitStatus": 0}
    with pytest.raises(SlotError, match="expected 1"):
        ask(rig.installer, ImageCommand.ERASE, {"slot": 0})
    set_state(rig.installer, name_of(OLD))
    assert listed(rig.installer) == {"images": [entry(1, "1.0.0", OLD, "pending")], "splitStatus": 0}
    assert rig.reset().trial
    assert listed(rig.installer) == {"images": [entry(0, "1.0.0", OLD, "active")], "splitStatus": 0}
