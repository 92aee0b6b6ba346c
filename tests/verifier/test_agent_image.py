"""Group IMAGE as stock tools speak it: what it lists, takes, marks and confirms, of one component and of two."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from bench import CLOCK, SLOT_SIZE, Rig, unchanged
from duo import Duo
from forge import Repo
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
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.smp import Group, ImageCommand, ImgMgmtErr, Message, MgmtErr, Op
from hillhold_verifier.state import StateStore
from offers import image, offer, offer_patch, started

OLD, NEW = image("1.0.0"), image("1.1.0+5", 2)


def ask(
    installer: Installer, command: ImageCommand, body: dict[str, object], *, self_tested: bool = True
) -> dict[str, object]:
    request = Message(Op.WRITE, Group.IMAGE, command, 0, body)
    return dict(answer_image(request, installer, CLOCK, self_tested=self_tested))


def listed(installer: Installer) -> object:
    return dict(answer_image(Message(Op.READ, Group.IMAGE, ImageCommand.STATE, 0), installer, CLOCK, self_tested=False))


def set_state(installer: Installer, digest: bytes, *, confirm: bool = False) -> object:
    return ask(installer, ImageCommand.STATE, {"hash": digest, "confirm": confirm})


def name_of(data: bytes) -> bytes:
    """An image's own hash, by which stock tools name it."""
    return parse_image(data).sha256


def upload(content: bytes, **changes: object) -> dict[str, object]:
    """The first piece, of 100 bytes."""
    digest = sha256(content).digest()
    return {"image": 0, "off": 0, "len": len(content), "sha": digest, "data": content[:100]} | changes


def ready() -> Rig:
    """A board that runs 1.0.0 and holds 1.1.0+5 in the other slot."""
    rig = Rig(started())
    rig.install(OLD)
    offer(rig.repo, "1.1.0+5", 2, data=NEW)
    rig.repo.publish()
    rig.take()
    rig.send(NEW)
    return rig


def on_trial() -> Rig:
    rig = ready()
    rig.installer.mark(CLOCK)
    assert rig.reset().trial
    return rig


def pair() -> tuple[Duo, dict[str, bytes]]:
    """A device of two components whose images are MCUboot's; by name, what it runs and the set that it may install."""
    images = {
        "app 1.0.0": image("1.0.0", length=100),
        "radio 4.0.0": image("4.0.0", length=100, seed=2),
        "app 2.0.0": image("2.0.0", 2, length=100),
        "radio 5.0.0": image("5.0.0", 2, length=100, seed=2),
    }
    repo = Repo()

    def add(name: str, counter: int, **custom: object) -> None:
        component, version = name.split()
        path = repo.add_release(
            version, images[name], counter=counter, file=f"{component}.bin", component=component, format="mcuboot"
        )
        repo.change(path, **custom)

    add("app 1.0.0", 1)
    add("radio 4.0.0", 1)
    repo.publish()
    duo = Duo(repo, (images["app 1.0.0"], images["radio 4.0.0"]))
    add("app 2.0.0", 2, set="summer")
    add("radio 5.0.0", 2, set="summer")
    repo.publish("line", "snapshot", "timestamp")
    duo.take()
    return duo, images


# --- the list ---------------------------------------------------------------------------------------------------------


def entry(slot: int, version: str, data: bytes, *flags: str) -> dict[str, object]:
    of = {name: name in flags for name in ("pending", "confirmed", "active")}
    fixed = {"image": 0, "slot": slot, "version": version, "hash": name_of(data), "bootable": True, "permanent": False}
    return fixed | of


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
