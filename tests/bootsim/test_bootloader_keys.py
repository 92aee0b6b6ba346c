"""Whom the bootloader believes: keys of every kind, revoked ones, encrypted images; and what its images ask of one another."""

from __future__ import annotations

import pytest
from imgtool.version import decode_version

import imagekit
from forge import Repo
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import BootMode, Layout
from imagekit import public
from keyrig import revoking
from tinyboard import Rig, mark_of, tiny

MODES = list(BootMode)


def signed(key: str, version: str, counter: int = 1, **create: object) -> bytes:
    return imagekit.sign(key, create=create or None, version=decode_version(version), security_counter=counter)


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", imagekit.NAMES)
def test_images_under_keys_of_every_kind_are_tried_and_confirmed(name: str, mode: BootMode) -> None:
    old, new = signed("ed25519", "1.0.0"), signed(name, "2.0.0", 2)
    rig = Rig(tiny(mode, sectors=8), keys=(public("ed25519"), public(name)))
    rig.install(0, old)
    rig.provision(0)
    assert rig.boot().booted
    rig.install(1, new)
    rig.control.set_marks({0: mark_of(new)})
    outcome = rig.boot()
    assert outcome.trial
    assert outcome.booted is not None
    assert outcome.booted.key == public(name)
    rig.control.confirm()
    again = rig.boot()
    assert (again.trial, again.booted and again.booted.sha256) == (False, mark_of(new).sha256)


@pytest.mark.parametrize("name", imagekit.NAMES)
def test_an_image_under_a_key_that_is_not_held_is_not_tried(name: str) -> None:
    old, new = signed("other", "1.0.0"), signed(name, "2.0.0", 2)
    rig = Rig(tiny(sectors=8), keys=(public("other"),))
    rig.install(0, old)
    rig.provision(0)
    rig.install(1, new)
    rig.control.set_marks({0: mark_of(new)})
    outcome = rig.boot()
    assert (outcome.trial, outcome.booted and outcome.booted.slot) == (False, 0)
    assert "image key" in outcome.events[0]


def test_an_encrypted_image_is_refused_by_name() -> None:
    old = signed("ed25519", "1.0.0")
    new = bytearray(signed("ed25519", "2.0.0", 2))
    new[16] |= 0x04  # IMAGE_F_ENCRYPTED_AES128
    rig = Rig(tiny(sectors=8), keys=(public("ed25519"),))
    rig.install(0, old)
    rig.provision(0)
    rig.install(1, bytes(new))
    rig.control.set_marks({0: mark_of(bytes(new))})
    outcome = rig.boot()
    assert not outcome.trial
    assert outcome.booted is not None
    assert "encrypted" in outcome.events[0]


# --- dependencies -----------------------------------------------------------------------------------------------------


def depending(version: str, least: str | None, on: int = 1) -> bytes:
    dependencies = {"images": [on], "versions": [decode_version(least)]} if least else None
    return imagekit.sign("ed25519", create={"dependencies": dependencies}, version=decode_version(version))


def pair(first: bytes, second: bytes, mode: BootMode) -> Rig:
    rig = Rig(tiny(mode, sectors=8, components=2), keys=(public("ed25519"),))
    rig.install(0, first)
    rig.install(0, second, 1)
    rig.provision(0, 0)
    return rig


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("least", "tried"), [("1.0.0", True), ("1.0.1", False), ("0.9.0", True), ("2.0.0", False)])
def test_an_image_is_tried_beside_what_it_depends_on(least: str, tried: bool, mode: BootMode) -> None:
    rig = pair(depending("1.0.0", None), depending("1.0.0", None), mode)
    assert len(rig.boot().images) == 2
    new = depending("1.1.0", least)
    rig.install(1, new)
    rig.control.set_marks({0: mark_of(new)})
    before = [image.confirmed for image in rig.record.images]
    outcome = rig.boot()
    assert outcome.trial == tried
    assert len(outcome.images) == 2, "refused, and the confirmed ones run"
    assert [image.confirmed for image in rig.record.images] == before
    if not tried:
        assert f"at least {least}" in outcome.events[0]
        assert not rig.record.marked


@pytest.mark.parametrize("mode", MODES)
def test_a_dependency_is_met_by_what_is_tried_together(mode: BootMode) -> None:
    rig = pair(depending("1.0.0", None), depending("1.0.0", None), mode)
    assert rig.boot().images
    first, second = depending("1.1.0", "1.1.0"), depending("1.1.0", None)
    rig.install(1, first)
    rig.install(1, second, 1)
    rig.control.set_marks({0: mark_of(first), 1: mark_of(second)})
    assert [str(booted.image.version) for booted in rig.boot().images] == ["1.1.0", "1.1.0"]


def test_a_dependency_on_an_image_that_the_board_does_not_have_is_not_met() -> None:
    rig = pair(depending("1.0.0", None), depending("1.0.0", None), BootMode.REMAP)
    new = depending("1.1.0", "0.0.0", on=2)
    rig.install(1, new)
    rig.control.set_marks({0: mark_of(new)})
    outcome = rig.boot()
    assert not outcome.trial
    assert "image 2" in outcome.events[0]


def test_confirmed_images_that_do_not_go_together_are_not_started() -> None:
    rig = pair(depending("1.0.0", "2.0.0"), depending("1.0.0", None), BootMode.REMAP)
    outcome = rig.boot()
    assert outcome.images == ()
    assert "recovery: image 1" in outcome.events[0]


# --- revoked keys -----------------------------------------------------------------------------------------------------


class Keyed:
    """A board whose bootloader has a list of the keys "ed25519" and "ecdsa", and runs an image under the first."""

    def __init__(self, mode: BootMode, *held: str) -> None:
        self.repo = Repo()
        self.repo.publish(root=self.repo.root())
        slots = 8 + (mode is BootMode.SWAP)
        geometry = Geometry.uniform(256 * 128, 256, 4, otp=256)
        layout = Layout.in_a_row("keyed", geometry, 256, 256 * slots, mode=mode, keys_size=4096)
        self.rig = Rig(layout, keys=tuple(public(name) for name in held or ("ed25519", "ecdsa")))
        assert self.rig.parts.keys is not None
        self.list = self.rig.parts.keys
        self.list.provision(self.repo.files["root"])
        self.rig.install(0, signed("ed25519", "1.0.0"))
        self.rig.provision(0)
        assert self.rig.boot().booted

    def revoke(self, *names: str) -> None:
        self.repo.publish(root=self.repo.root(edit=revoking(*map(public, names))))
        self.rig.control.accept_root(self.repo.files["root"])

    def mark(self, image: bytes) -> None:
        slot = self.rig.image.other
        self.rig.install(slot, image)
        self.rig.control.set_marks({0: mark_of(image)})


@pytest.mark.parametrize("mode", MODES)
def test_a_revocation_takes_effect_once_an_image_under_another_key_is_confirmed(mode: BootMode) -> None:
    board = Keyed(mode)
    board.revoke("ed25519")
    outcome = board.rig.boot()
    assert outcome.booted is not None, "it still boots under the revoked key"
    assert "pending" in outcome.events[0]

    new = signed("ecdsa", "2.0.0", 2)
    board.mark(new)
    assert board.rig.boot().trial
    assert len(board.list.keys()) == 2, "a trial changes nothing: the way back is under the revoked key"
    board.rig.control.confirm()
    outcome = board.rig.boot()
    assert outcome.booted is not None
    assert "in effect" in outcome.events[0]
    assert board.list.keys() == (public("ecdsa"),)

    board.mark(signed("ed25519", "3.0.0", 3))
    outcome = board.rig.boot()
    assert (outcome.trial, outcome.booted and outcome.booted.sha256) == (False, mark_of(new).sha256)
    assert "image key" in outcome.events[0]


@pytest.mark.parametrize("mode", MODES)
def test_a_trial_that_fails_goes_back_to_an_image_under_the_revoked_key(mode: BootMode) -> None:
    board = Keyed(mode)
    board.revoke("ed25519")
    board.mark(signed("ecdsa", "2.0.0", 2))
    assert board.rig.boot().trial
    board.rig.control.clear_marks()
    outcome = board.rig.boot()
    assert outcome.booted is not None
    assert str(outcome.booted.image.version) == "1.0.0"
    assert len(board.list.keys()) == 2


def test_the_last_key_is_never_dropped() -> None:
    board = Keyed(BootMode.REMAP, "ed25519")
    board.revoke("ed25519")
    for _ in range(2):
        outcome = board.rig.boot()
        assert outcome.booted is not None
        assert "no key would be left" in outcome.events[0]


def test_a_list_that_cannot_be_read_boots_nothing() -> None:
    board = Keyed(BootMode.REMAP)
    assert board.rig.layout.keys is not None
    for area in board.rig.layout.keys:
        board.rig.flash.erase(area.offset, area.size)
        board.rig.flash.program(area.offset, b"junk" * 8)
    outcome = board.rig.boot()
    assert outcome.images == ()
    assert "recovery: list of image keys" in outcome.events[0]
