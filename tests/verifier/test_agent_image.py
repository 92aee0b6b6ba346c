"""Group IMAGE as stock tools speak it: what it lists, takes, marks and confirms, of one component and of two."""

from __future__ import annotations

from hashlib import sha256

import pytest

from bench import CLOCK, Rig, unchanged
from duo import Duo
from forge import Repo
from hillhold_bootsim.bootflags import SimBootControl
from hillhold_bootsim.bootloader import ResetReason
from hillhold_verifier.agent_image import answer_image, image_error
from hillhold_verifier.errors import (
    ConfirmError,
    ExpiredError,
    ImageError,
    MismatchError,
    SelectionError,
    SlotError,
    SmpError,
    TransferError,
)
from hillhold_verifier.installer import Installer
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.smp import Group, ImageCommand, ImgMgmtErr, Message, MgmtErr, Op
from hillhold_verifier.state import StateStore
from offers import image, offer, started

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
    images = [entry(0, "1.0.0", OLD, "confirmed"), entry(1, "1.1.0.5", NEW, "active")]
    assert listed(rig.installer) == {"images": images, "splitStatus": 0}
    rig.installer.confirm(self_tested=True)
    images = [entry(0, "1.0.0", OLD), entry(1, "1.1.0.5", NEW, "confirmed", "active")]
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


@pytest.mark.parametrize("digest", [b"", name_of(OLD)], ids=["none", "the running one's"])
def test_a_test_needs_the_hash_of_the_image_in_the_other_slot(digest: bytes) -> None:
    rig = ready()
    with unchanged(rig), pytest.raises(SelectionError, match="hash of the image in the other slot"):
        set_state(rig.installer, digest)


@pytest.mark.parametrize("confirm", [False, True])
def test_a_hash_that_no_slot_holds_is_refused(confirm: bool) -> None:
    rig = on_trial()
    with unchanged(rig), pytest.raises(SelectionError, match="that of an image in a slot"):
        set_state(rig.installer, sha256(b"another").digest(), confirm=confirm)


def test_a_trial_is_why_the_image_in_the_other_slot_is_not_tested_then() -> None:
    rig = on_trial()
    with unchanged(rig), pytest.raises(SlotError, match="only way back"):
        set_state(rig.installer, name_of(OLD))
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
    assert ask(duo.installer, ImageCommand.UPLOAD, upload(data, image=1, data=data)) == {"off": len(data)}
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
    rig = ready()
    rig.installer.erase()
    for number in (1, 2, 255):
        with unchanged(rig), pytest.raises(TransferError, match=f"image number: expected 0 to 0, got {number}"):
            ask(rig.installer, ImageCommand.UPLOAD, upload(NEW, image=number))
    with unchanged(rig), pytest.raises(SmpError, match="image"):
        ask(rig.installer, ImageCommand.UPLOAD, upload(NEW, image="0"))


def test_an_upload_names_its_content() -> None:
    rig = ready()
    body = upload(NEW)
    del body["sha"]
    with unchanged(rig), pytest.raises(TransferError, match="expected sha, the SHA-256 of the whole image"):
        ask(rig.installer, ImageCommand.UPLOAD, body)


def test_a_first_piece_without_data_asks_where_to_go_on() -> None:
    rig = ready()
    rig.installer.erase()
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(NEW, data=b"")) == {"off": 0}
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(NEW)) == {"off": 100}
    assert ask(rig.installer, ImageCommand.UPLOAD, upload(NEW)) == {"off": 100}


@pytest.mark.parametrize(
    ("body", "component"), [({}, 0), ({"slot": 0}, 0), ({"slot": 2}, 1), ({"slot": 3}, 1)], ids=str
)
def test_an_erase_names_a_slot_by_all_images_and_erases_the_other_one_of_its_component(
    body: dict[str, object], component: int
) -> None:
    duo, _ = pair()
    duo.update()
    assert ask(duo.installer, ImageCommand.ERASE, body) == {}
    assert [duo.installer.held(number, 1) is None for number in (0, 1)] == [component == 0, component == 1]
    assert [duo.installer.held(number, 0) is None for number in (0, 1)] == [False, False]


@pytest.mark.parametrize("slot", [2, 3, 9])
def test_an_erase_of_a_slot_that_the_device_does_not_have_is_refused(slot: int) -> None:
    rig = ready()
    with unchanged(rig), pytest.raises(TransferError, match="image number"):
        ask(rig.installer, ImageCommand.ERASE, {"slot": slot})


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "v1", "v2"),
    [
        (SmpError.code, MgmtErr.EINVAL, ImgMgmtErr.INVALID_LENGTH),
        (ImageError.code, MgmtErr.ECORRUPT, ImgMgmtErr.INVALID_IMAGE_HEADER),
        (MismatchError.code, MgmtErr.ECORRUPT, ImgMgmtErr.INVALID_HASH),
        (SlotError.code, MgmtErr.EBADSTATE, ImgMgmtErr.NO_FREE_SLOT),
        (ConfirmError.code, MgmtErr.EBADSTATE, ImgMgmtErr.IMAGE_CONFIRMATION_DENIED),
        (MgmtErr.EUNKNOWN, MgmtErr.EUNKNOWN, ImgMgmtErr.UNKNOWN),
        (SelectionError.code, MgmtErr.EACCESSDENIED, ImgMgmtErr.INVALID_HASH),
        (TransferError.code, MgmtErr.EACCESSDENIED, ImgMgmtErr.INVALID_HASH),
        (ExpiredError.code, MgmtErr.EACCESSDENIED, ImgMgmtErr.INVALID_HASH),
    ],
)
def test_a_refusal_has_a_stock_code_in_either_version(code: int, v1: MgmtErr, v2: ImgMgmtErr) -> None:
    old, new = (Message(Op.WRITE, Group.IMAGE, ImageCommand.STATE, 0, {}, version) for version in (0, 1))
    assert image_error(old, code, "because") == {"rc": v1, "rsn": "because"}
    assert image_error(new, code, "because") == {"err": {"group": Group.IMAGE, "rc": v2}}
