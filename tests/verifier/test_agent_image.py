"""Group IMAGE as stock tools speak it: what it lists, takes, marks and confirms, of one component and of two."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from bench import CLOCK, Rig, unchanged
from hillhold_bootsim.bootflags import SimBootControl
from hillhold_bootsim.bootloader import ResetReason
from hillhold_verifier.agent_image import answer_image, image_error
from hillhold_verifier.errors import (
    ConfirmError,
    ExpiredError,
    HillholdError,
    ImageError,
    MismatchError,
    OperationalError,
    SelectionError,
    SlotError,
    SmpError,
    TransferError,
    UnprovisionedError,
)
from hillhold_verifier.installer import Installer
from hillhold_verifier.smp import Group, ImageCommand, ImgMgmtErr, Message, MgmtErr, Op
from hillhold_verifier.state import StateStore
from offers import offer, started
from stock import NEW, OLD, ask, entry, listed, name_of, on_trial, pair, ready, set_state, upload

# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_on_the_way_of_an_update() -> None:
    rig = ready()
    old = entry(0, "1.0.0", OLD, "confirmed", "active")
    assert listed(rig.installer) == {"images": [old, entry(1, "1.1.0.5", NEW)], "splitStatus": 0}
    rig.installer.mark(CLOCK)
    assert listed(rig.installer) == {"images": [old, entry(1, "1.1.0.5", NEW, "pending")], "splitStatus": 0}
    assert rig.reset().trial
    images = [entry(0, "1.1.0.5", NEW, "active"), entry(1, "1.0.0", OLD, "confirmed")]
    assert listed(rig.installer) == {"images": images, "splitStatus": 0}, "slot 0 is the one that runs"
    rig.installer.confirm(self_tested=True)
    images = [entry(0, "1.1.0.5", NEW, "confirmed", "active"), entry(1, "1.0.0", OLD)]
    assert listed(rig.installer) == {"images": images, "splitStatus": 0}


def test_what_is_no_mcuboot_image_is_not_in_the_list() -> None:
    rig = Rig(started())
    rig.install(OLD)
    rig.send(raw_release(rig))
    assert listed(rig.installer) == {"images": [entry(0, "1.0.0", OLD, "confirmed", "active")], "splitStatus": 0}


def raw_release(rig: Rig) -> bytes:
    data = offer(rig.repo, "1.1.0", 2, data=b"no image at all" * 50, format="raw")
    rig.repo.publish()
    rig.take()
    return data


def test_the_list_names_components_by_number() -> None:
    duo, _ = pair()
    answer = answer_image(Message(Op.READ, Group.IMAGE, ImageCommand.STATE, 0), duo.installer, CLOCK, self_tested=False)
    found = answer["images"]
    assert isinstance(found, list)
    assert [(one["image"], one["slot"], one["version"]) for one in found] == [(0, 0, "1.0.0"), (1, 0, "4.0.0")]


# --- test and confirm -------------------------------------------------------------------------------------------------


def test_a_test_of_the_image_in_the_other_slot_marks_it() -> None:
    rig = ready()
    set_state(rig.installer, name_of(NEW))
    assert rig.facts().mark == sha256(NEW).digest()


@pytest.mark.parametrize(
    ("digest", "words", "stock"),
    [
        (b"", "32 bytes, got 0", ImgMgmtErr.INVALID_HASH),
        (name_of(OLD)[:31], "32 bytes, got 31", ImgMgmtErr.INVALID_HASH),
        (name_of(OLD) + b"x", "32 bytes, got 33", ImgMgmtErr.INVALID_HASH),
        (bytes(32), "that of an image in a slot", ImgMgmtErr.HASH_NOT_FOUND),
        (name_of(OLD), "image in the other slot", ImgMgmtErr.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED),
    ],
    ids=["none", "short", "long", "unknown", "the running one's"],
)
def test_a_test_needs_the_hash_of_the_image_in_the_other_slot(digest: bytes, words: str, stock: ImgMgmtErr) -> None:
    rig = ready()
    with unchanged(rig), pytest.raises(SelectionError, match=words) as caught:
        set_state(rig.installer, digest)
    assert caught.value.stock == stock


def test_a_test_of_what_is_marked_already_changes_nothing() -> None:
    rig = ready()
    set_state(rig.installer, name_of(NEW))
    with unchanged(rig, moved=lambda facts: replace(facts, running="1.1.0+5", trial=True)):
        set_state(rig.installer, name_of(NEW))
        rig.reset()


def test_nothing_is_confirmed_while_an_image_waits_for_its_trial() -> None:
    """Who confirms then may think of the image that waits: "done" would be a wrong answer, and Zephyr refuses, too."""
    rig = ready()
    set_state(rig.installer, name_of(NEW))
    before = rig.facts()
    for digest in (b"", name_of(OLD)):
        with pytest.raises(ConfirmError, match="marked and did not run") as caught:
            set_state(rig.installer, digest, confirm=True)
        assert caught.value.stock == ImgMgmtErr.IMAGE_ALREADY_PENDING
    with pytest.raises(ConfirmError, match="has to run its trial first"):
        set_state(rig.installer, name_of(NEW), confirm=True)
    assert rig.facts() == before


@pytest.mark.parametrize("field", [{"confirm": 1}, {"confirm": "yes"}, {"hash": "text"}, {"hash": 5}], ids=str)
def test_a_state_of_another_type_is_refused(field: dict[str, object]) -> None:
    rig = on_trial()
    with unchanged(rig), pytest.raises(SmpError, match="SMP field"):
        ask(rig.installer, ImageCommand.STATE, {"confirm": True} | field)


@pytest.mark.parametrize("confirm", [False, True])
def test_a_hash_that_no_slot_holds_is_refused(confirm: bool) -> None:
    rig = on_trial()
    with unchanged(rig), pytest.raises(SelectionError, match="that of an image in a slot"):
        set_state(rig.installer, sha256(b"another").digest(), confirm=confirm)


def test_a_trial_is_why_the_image_in_the_other_slot_is_not_tested_then() -> None:
    rig = on_trial()
    with unchanged(rig), pytest.raises(SlotError, match="only way back") as caught:
        set_state(rig.installer, name_of(OLD))
    assert caught.value.stock == ImgMgmtErr.IMAGE_ALREADY_PENDING
    with unchanged(rig), pytest.raises(SelectionError, match="image in the other slot"):
        set_state(rig.installer, name_of(NEW))


def test_in_recovery_the_confirmed_image_is_not_tested() -> None:
    rig = ready()
    recovery = Installer(StateStore(rig.areas), [rig.slots], SimBootControl(rig.control.store), [rig.counter])
    assert recovery.flags().running is None
    with unchanged(rig), pytest.raises(SelectionError, match="image in the other slot"):
        set_state(recovery, name_of(OLD))
    set_state(recovery, name_of(NEW))
    assert rig.facts().mark == sha256(NEW).digest()


def test_a_confirmation_may_name_the_running_image_and_no_other() -> None:
    rig = on_trial()
    with unchanged(rig), pytest.raises(ConfirmError, match="the running image"):
        set_state(rig.installer, name_of(OLD), confirm=True)
    assert rig.reset(ResetReason.POWER_ON).trial
    set_state(rig.installer, name_of(NEW), confirm=True)
    assert rig.facts().confirmed == 1


def test_a_hash_names_the_slot_of_its_own_component() -> None:
    duo, images = pair()
    with pytest.raises(SelectionError, match="image in the other slot"):
        set_state(duo.installer, name_of(images["radio 4.0.0"]))
    duo.update()
    duo.start()
    with pytest.raises(ConfirmError, match="the running image"):
        set_state(duo.installer, name_of(images["radio 4.0.0"]), confirm=True)
    set_state(duo.installer, name_of(images["radio 5.0.0"]), confirm=True)
    assert duo.installer.on_trial is False
    assert [duo.installer.flags(number).confirmed for number in (0, 1)] == [1, 1]


def test_a_test_of_the_second_component_is_judged_by_its_own_flags() -> None:
    """Component 0 runs from slot 1 by then, component 1 from slot 0."""
    duo, images = pair()
    duo.repo.change("pump/2.0.0/app.bin", set=None)
    duo.repo.change("pump/5.0.0/radio.bin", set=None, withdrawn="not yet")
    duo.repo.publish("line", "snapshot", "timestamp")
    duo.update()
    duo.start()
    duo.installer.confirm(self_tested=True)
    duo.repo.change("pump/5.0.0/radio.bin", withdrawn=None)
    duo.repo.publish("line", "snapshot", "timestamp")
    duo.take()
    data = images["radio 5.0.0"]
    assert ask(duo.installer, ImageCommand.UPLOAD, upload(data, image=1, data=data)) == {
        "off": len(data),
        "match": True,
    }
    set_state(duo.installer, name_of(data))
    marks = [duo.installer.flags(number).mark for number in (0, 1)]
    assert [mark and mark.sha256 for mark in marks] == [None, sha256(data).digest()]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "v1", "v2"),
    [
        (ImageError("it"), MgmtErr.ECORRUPT, ImgMgmtErr.INVALID_IMAGE_HEADER),
        (MismatchError("it"), MgmtErr.ECORRUPT, ImgMgmtErr.INVALID_HASH),
        (SlotError("it"), MgmtErr.EBADSTATE, ImgMgmtErr.NO_FREE_SLOT),
        (ConfirmError("it"), MgmtErr.EBADSTATE, ImgMgmtErr.IMAGE_CONFIRMATION_DENIED),
        (UnprovisionedError("it"), MgmtErr.EBADSTATE, ImgMgmtErr.UNKNOWN),
        (OperationalError("it"), MgmtErr.EUNKNOWN, ImgMgmtErr.UNKNOWN),
        (SelectionError("it"), MgmtErr.EACCESSDENIED, ImgMgmtErr.INVALID_HASH),
        (TransferError("it"), MgmtErr.EACCESSDENIED, ImgMgmtErr.INVALID_HASH),
        (ExpiredError("it"), MgmtErr.EACCESSDENIED, ImgMgmtErr.INVALID_HASH),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_has_a_stock_code_in_either_version(error: HillholdError, v1: MgmtErr, v2: ImgMgmtErr) -> None:
    old, new = (Message(Op.WRITE, Group.IMAGE, ImageCommand.STATE, 0, {}, version) for version in (0, 1))
    assert image_error(old, error, "because") == {"rc": v1, "rsn": "because"}
    assert image_error(new, error, "because") == {"err": {"group": Group.IMAGE, "rc": v2}}


@pytest.mark.parametrize("version", [0, 1])
def test_a_field_of_another_type_is_an_error_of_smp_itself(version: int) -> None:
    """As Zephyr's decoder has it; a code of group IMAGE would say something else of the image."""
    request = Message(Op.WRITE, Group.IMAGE, ImageCommand.STATE, 0, {}, version)
    assert image_error(request, SmpError("it"), "because") == {"rc": MgmtErr.EINVAL, "rsn": "because"}


@pytest.mark.parametrize(
    ("stock", "v1"),
    [
        (ImgMgmtErr.HASH_NOT_FOUND, MgmtErr.EUNKNOWN),
        (ImgMgmtErr.IMAGE_ALREADY_PENDING, MgmtErr.EBADSTATE),
        (ImgMgmtErr.INVALID_OFFSET, MgmtErr.EINVAL),
    ],
)
def test_a_refusal_that_has_a_stock_name_is_called_by_it(stock: ImgMgmtErr, v1: MgmtErr) -> None:
    error = SmpError("it")
    error.stock = stock
    old, new = (Message(Op.WRITE, Group.IMAGE, ImageCommand.STATE, 0, {}, version) for version in (0, 1))
    assert image_error(old, error, "because") == {"rc": v1, "rsn": "because"}
    assert image_error(new, error, "because") == {"err": {"group": Group.IMAGE, "rc": stock}}
