"""The bootloader's list of image keys: who revokes one, when that takes effect, and that a cut leaves the old list or the new."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge import T0, YEAR, keys
from hillhold_bootsim.flash import Cut, CutAt, PowerLost
from hillhold_bootsim.keylist import KeyRecord, decode_record, encode_record
from hillhold_verifier.errors import (
    MetadataError,
    MismatchError,
    MisuseError,
    RecordError,
    Refused,
    RollbackError,
    SignatureError,
    SpaceError,
)
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.slots import RecordAreas
from keyrig import HELD, NEW, OLD, SPARE, UNKNOWN, KeyRig, revoking, untouched

# --- when a revocation takes effect -----------------------------------------------------------------------------------


def test_a_revocation_takes_effect_at_a_confirmed_boot_under_a_surviving_key() -> None:
    rig = KeyRig()
    assert rig.list.keys() == HELD
    rig.revoke(OLD)
    assert rig.list.keys() == HELD, "pending changes nothing"
    (event,) = rig.list.settle([OLD])
    assert "pending, a confirmed image is signed by" in event
    assert rig.list.keys() == HELD
    (event,) = rig.list.settle([NEW])
    assert event.endswith("in effect")
    assert OLD.key_hash.hex()[:16] in event
    assert rig.list.keys() == (NEW,)


def test_settling_writes_once_and_not_again() -> None:
    rig = KeyRig()
    rig.list.settle([OLD])
    rig.revoke(OLD)
    before = rig.flash.operations
    rig.list.settle([OLD])
    assert rig.flash.operations == before, "what is pending writes nothing"
    rig.list.settle([NEW])
    assert (after := rig.flash.operations) > before
    assert rig.list.settle([NEW]) == ()
    assert rig.flash.operations == after


def test_one_component_that_still_needs_the_revoked_key_keeps_it_for_all() -> None:
    rig = KeyRig(OLD, NEW, SPARE)
    rig.revoke(OLD, SPARE)
    for used in ([NEW, OLD], [OLD, NEW], [OLD, OLD], [SPARE, NEW]):
        (event,) = rig.list.settle(used)
        assert "pending" in event
        assert rig.list.keys() == (OLD, NEW, SPARE)
    rig.list.settle([NEW, NEW])
    assert rig.list.keys() == (NEW,)


def test_without_a_confirmed_image_nothing_takes_effect() -> None:
    rig = KeyRig()
    rig.revoke(OLD)
    assert "no image was confirmed" in rig.list.settle([])[0]
    assert rig.list.keys() == HELD


@pytest.mark.parametrize("held", [(OLD,), (OLD, NEW)])
def test_the_last_key_is_never_removed(held: tuple[ImageKey, ...]) -> None:
    rig = KeyRig(*held)
    rig.revoke(OLD, NEW, UNKNOWN)
    for used in ([], *([item] for item in held)):
        (event,) = rig.list.settle(used)
        assert "no key would be left" in event
        assert rig.list.keys() == held


def test_the_last_key_stays_though_the_others_go_one_root_after_another() -> None:
    rig = KeyRig(OLD, NEW, SPARE)
    rig.revoke(OLD)
    rig.list.settle([SPARE])
    rig.revoke(OLD, NEW)
    rig.list.settle([SPARE])
    assert rig.list.keys() == (SPARE,)
    rig.revoke(OLD, NEW, SPARE)
    assert "no key would be left" in rig.list.settle([SPARE])[0]
    assert rig.list.keys() == (SPARE,)


def test_what_is_in_effect_stays_so_though_a_later_root_names_it_no_more() -> None:
    rig = KeyRig(OLD, NEW, SPARE)
    rig.revoke(OLD)
    rig.list.settle([NEW])
    rig.revoke()
    assert rig.list.settle([NEW]) == ()
    rig.revoke(SPARE)
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_what_a_later_root_names_no_more_before_it_took_effect_never_does() -> None:
    rig = KeyRig()
    rig.revoke(OLD)
    rig.revoke()
    assert rig.list.settle([NEW]) == ()
    assert rig.list.keys() == HELD


def test_keys_that_the_bootloader_does_not_hold_are_harmless() -> None:
    rig = KeyRig()
    rig.revoke(UNKNOWN)
    before = rig.flash.operations
    assert rig.list.settle([OLD]) == ()
    assert (rig.list.keys(), rig.flash.operations) == (HELD, before)
    rig.revoke(UNKNOWN, OLD)
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_a_bootloader_that_is_built_anew_keeps_what_is_in_effect() -> None:
    rig = KeyRig()
    rig.revoke(OLD)
    rig.list.settle([NEW])
    rig.held = (OLD, NEW, SPARE)
    assert rig.list.keys() == (NEW, SPARE)
    rig.held = (OLD,)
    assert rig.list.keys() == (), "one that holds none but revoked keys boots nothing"


def test_the_first_root_may_revoke_as_well() -> None:
    rig = KeyRig(first=(OLD,))
    assert rig.list.keys() == HELD
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_an_image_under_a_key_that_is_not_accepted_is_the_bootloaders_own_fault() -> None:
    rig = KeyRig()
    rig.revoke(OLD)
    untouched(rig, lambda: rig.list.settle([UNKNOWN]), MisuseError)
    rig.list.settle([NEW])
    untouched(rig, lambda: rig.list.settle([OLD]), MisuseError)


# --- whose root -------------------------------------------------------------------------------------------------------


def test_a_root_that_is_held_changes_nothing() -> None:
    rig = KeyRig()
    before = rig.flash.operations
    rig.list.accept_root(rig.repo.files["root"])
    assert rig.flash.operations == before


def test_a_held_root_with_other_signatures_changes_nothing() -> None:
    # A courier who leaves out a signature that is one too many must not make bootloader and agent disagree for ever.
    rig = KeyRig()
    data = rig.repo.root(version=2, edit=revoking(OLD), signers=keys("root-1", "root-2", "root-3"))
    rig.list.accept_root(data)
    before = rig.flash.operations
    rig.list.accept_root(rig.repo.root(version=2, edit=revoking(OLD), signers=keys("root-2", "root-3")))
    assert rig.flash.operations == before


def test_root_follows_root_through_new_keys() -> None:
    rig = KeyRig()
    rig.repo.rotate("root")
    rig.list.accept_root(rig.repo.files["root"])
    rig.revoke(OLD)
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_an_expired_root_revokes_all_the_same() -> None:
    rig = KeyRig()
    rig.list.accept_root(rig.repo.root(version=2, edit=revoking(OLD), expires=T0 - YEAR))
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


@pytest.mark.parametrize("version", [1, 2, 5, 2**53 - 1])
def test_only_the_next_version_is_taken(version: int) -> None:
    rig = KeyRig()
    for _ in range(2):
        rig.revoke(OLD)
    untouched(rig, lambda: rig.list.accept_root(rig.repo.root(version=version)), RollbackError)


def test_a_fork_of_roots_is_refused() -> None:
    rig = KeyRig()
    rig.revoke(OLD)
    fork = rig.repo.root(version=2, edit=revoking(NEW))
    untouched(
        rig,
        lambda: rig.list.accept_root(fork),
        MismatchError,
        "root version 2: expected .*, which the bootloader holds",
    )


@pytest.mark.parametrize(
    "signers",
    [[], ["root-1"], ["mallory", "root-1"], ["targets-1", "targets-2"], ["line-1", "line-2", "line-3"], ["image-new"]],
)
def test_less_than_roots_quorum_revokes_nothing(signers: list[str]) -> None:
    rig = KeyRig()
    data = rig.repo.root(version=2, edit=revoking(OLD), signers=keys(*signers))
    untouched(rig, lambda: rig.list.accept_root(data), SignatureError)


def test_both_quorums_have_to_sign() -> None:
    rig = KeyRig()
    mallory = {"root": keys("mallory-1", "mallory-2")}
    for signers in (keys("root-1", "root-2"), keys("mallory-1", "mallory-2"), keys("root-1", "mallory-1", "mallory-2")):
        data = rig.repo.root(version=2, keys=mallory, edit=revoking(OLD), signers=signers)
        untouched(rig, lambda data=data: rig.list.accept_root(data), SignatureError)  # type: ignore[misc]


def test_a_field_that_was_added_after_signing_revokes_nothing() -> None:
    rig = KeyRig()
    data = rig.repo.root(version=2, edit_envelope=lambda whole: revoking(OLD)(whole["signed"]))
    untouched(rig, lambda: rig.list.accept_root(data), SignatureError)
    rig.list.accept_root(rig.repo.root(version=2, edit_envelope=revoking(OLD)))  # beside what is signed: not read
    assert rig.list.settle([NEW]) == ()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_root_are_refused(data: bytes) -> None:
    rig = _shared()
    untouched(rig, lambda: rig.list.accept_root(data), MetadataError)


@cache
def _shared() -> KeyRig:
    return KeyRig()


def test_a_root_that_does_not_fit_is_refused_and_room_is_kept_for_what_it_revokes() -> None:
    rig = KeyRig()

    def padded(length: int) -> bytes:
        def edit(signed: dict[str, Any]) -> None:
            revoking(OLD, NEW)(signed)
            signed["x-pad"] = "x" * length

        return rig.repo.root(version=2, edit=edit)

    untouched(rig, lambda: rig.list.accept_root(padded(9000)), SpaceError)
    room = rig.areas.size - len(encode_record(2, KeyRecord(padded(0))))
    # Both keys take 64 bytes once they are in effect.
    untouched(rig, lambda: rig.list.accept_root(padded(room - 63)), SpaceError)
    rig.list.accept_root(padded(room - 64))


# --- power ------------------------------------------------------------------------------------------------------------


def _revoked(rig: KeyRig) -> None:
    rig.revoke(OLD)


def _in_effect(rig: KeyRig) -> None:
    rig.revoke(OLD)
    rig.list.settle([NEW])


CHANGES: list[tuple[str, Callable[[KeyRig], object], Callable[[KeyRig], object]]] = [
    ("the first root", lambda rig: rig.next_root(OLD), lambda rig: rig.list.accept_root(rig.repo.files["root"])),
    ("settle", _revoked, lambda rig: rig.list.settle([NEW])),
    ("a later root", _in_effect, lambda rig: rig.list.accept_root(rig.repo.root(version=3, edit=revoking()))),
    ("provision", _in_effect, lambda rig: rig.list.provision(rig.repo.files["root"])),
]


@pytest.mark.parametrize(("prepare", "change"), [item[1:] for item in CHANGES], ids=[item[0] for item in CHANGES])
def test_a_cut_at_any_operation_leaves_the_old_list_or_the_new(
    prepare: Callable[[KeyRig], object], change: Callable[[KeyRig], object]
) -> None:
    start = KeyRig()
    prepare(start)
    done = copy.deepcopy(start)
    change(done)
    first, last = start.flash.operations, done.flash.operations
    assert last > first
    old, new = held(start.areas), held(done.areas)
    assert old != new
    seen = set()
    for number in range(first, last):
        for cut in (
            CutAt(number, Cut.BEFORE),
            CutAt(number, Cut.AFTER),
            *(CutAt(number, Cut.TORN, s) for s in range(8)),
        ):
            rig = copy.deepcopy(start)
            rig.flash.power_cut = cut
            with pytest.raises(PowerLost):
                change(rig)
            rig.flash.power_cut = None
            rig.flash.power_on()
            found = held(rig.areas)
            assert found in (old, new), str(cut)
            seen.add(found == new)
            assert rig.list.keys() == (start if found == old else done).list.keys()
            change(rig)
            assert held(rig.areas) == new, f"{cut}: the change cannot be made again"
    assert seen == {True, False}


def held(areas: RecordAreas) -> KeyRecord:
    """What counts, read by other means."""
    found = []
    for index in (0, 1):
        try:
            found.append(decode_record(areas.read(index)))
        except RecordError:
            continue
    return max(found, key=lambda item: item[0])[1]


def test_nothing_that_a_carrier_brings_takes_a_key_away_that_is_needed() -> None:
    """Every sequence of roots, in any order, against boots of either image: what runs can be booted again."""
    roots = KeyRig(OLD, NEW, SPARE)
    offered = [
        roots.repo.files["root"],
        roots.next_root(OLD),
        roots.next_root(OLD, NEW),
        roots.next_root(SPARE),
        roots.next_root(),
    ]
    offered += [roots.repo.root(version=2, edit=revoking(SPARE)), roots.repo.root(version=9)]

    def walk(rig: KeyRig, runs: tuple[ImageKey, ...], depth: int) -> None:
        assert set(runs) <= set(rig.list.keys())
        if not depth:
            return
        for data in offered:
            tried = copy.deepcopy(rig)
            try:
                tried.list.accept_root(data)
            except Refused:
                assert held(tried.areas) == held(rig.areas)
                continue
            for one in (OLD, NEW):
                for other in (NEW, SPARE):
                    booted = copy.deepcopy(tried)
                    accepted = booted.list.keys()
                    if {one, other} <= set(accepted):
                        booted.list.settle([one, other])
                        walk(booted, (one, other), depth - 1)

    walk(KeyRig(OLD, NEW, SPARE), (OLD, NEW), 3)
