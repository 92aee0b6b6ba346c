"""The bootloader's list of image keys: who revokes one, when that takes effect, and that a cut leaves the old list or the new."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from forge import T0, YEAR, Repo, key, keys
from hillhold_bootsim.flash import Cut, CutAt, Flash, Geometry, PowerLost
from hillhold_bootsim.keylist import KeyList, KeyRecord, decode_record, encode_record
from hillhold_bootsim.layout import Layout, SimRecordAreas
from hillhold_verifier.errors import (
    MetadataError,
    MismatchError,
    MisuseError,
    RecordError,
    Refused,
    RollbackError,
    SignatureError,
    SpaceError,
    UnprovisionedError,
)
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.slots import RecordAreas

FIELD = "x-hillhold-revoked-image-keys"
LAYOUT = Layout(name="tiny", geometry=Geometry(size=40 * 1024, sector=1024, unit=8), state_size=8192, slot_size=8192)


@cache
def image_key(name: str) -> ImageKey:
    public = key(name).private.public_key()
    return ImageKey.from_pem(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


OLD, NEW, SPARE = image_key("image-old"), image_key("image-new"), image_key("image-spare")
UNKNOWN = image_key("image-of-another-board")
HELD = (OLD, NEW)


def revoking(*named: ImageKey) -> Callable[[dict[str, Any]], None]:
    """An edit of a root: it revokes these keys."""
    return lambda signed: signed.__setitem__(FIELD, sorted(item.key_hash.hex() for item in named))


class Rig:
    """A board's flash with a provisioned list in it, and the repository whose roots it takes."""

    def __init__(self, *held: ImageKey, first: tuple[ImageKey, ...] = ()) -> None:
        self.repo, self.flash, self.held = Repo(), Flash(LAYOUT.geometry), held or HELD
        self.repo.publish(root=self.repo.root(edit=revoking(*first)) if first else self.repo.root())
        self.list.provision(self.repo.files["root"])

    @property
    def areas(self) -> SimRecordAreas:
        return SimRecordAreas(self.flash, LAYOUT)

    @property
    def list(self) -> KeyList:
        """As after a reset, with nothing in memory."""
        return KeyList(self.areas, self.held)

    def next_root(self, *named: ImageKey) -> bytes:
        self.repo.publish(root=self.repo.root(edit=revoking(*named)))
        return self.repo.files["root"]

    def revoke(self, *named: ImageKey) -> None:
        self.list.accept_root(self.next_root(*named))


def unchanged(rig: Rig, act: Callable[[], object], error: type[Exception], match: str | None = None) -> None:
    before = rig.flash.read(0, rig.flash.geometry.end)
    with pytest.raises(error, match=match):
        act()
    assert rig.flash.read(0, rig.flash.geometry.end) == before


# --- when a revocation takes effect -----------------------------------------------------------------------------------


def test_a_revocation_takes_effect_at_a_confirmed_boot_under_a_surviving_key() -> None:
    rig = Rig()
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
    rig = Rig()
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
    rig = Rig(OLD, NEW, SPARE)
    rig.revoke(OLD, SPARE)
    for used in ([NEW, OLD], [OLD, NEW], [OLD, OLD], [SPARE, NEW]):
        (event,) = rig.list.settle(used)
        assert "pending" in event
        assert rig.list.keys() == (OLD, NEW, SPARE)
    rig.list.settle([NEW, NEW])
    assert rig.list.keys() == (NEW,)


def test_without_a_confirmed_image_nothing_takes_effect() -> None:
    rig = Rig()
    rig.revoke(OLD)
    assert "no image was confirmed" in rig.list.settle([])[0]
    assert rig.list.keys() == HELD


@pytest.mark.parametrize("held", [(OLD,), (OLD, NEW)])
def test_the_last_key_is_never_removed(held: tuple[ImageKey, ...]) -> None:
    rig = Rig(*held)
    rig.revoke(OLD, NEW, UNKNOWN)
    for used in ([], *([item] for item in held)):
        (event,) = rig.list.settle(used)
        assert "no key would be left" in event
        assert rig.list.keys() == held


def test_the_last_key_stays_though_the_others_go_one_root_after_another() -> None:
    rig = Rig(OLD, NEW, SPARE)
    rig.revoke(OLD)
    rig.list.settle([SPARE])
    rig.revoke(OLD, NEW)
    rig.list.settle([SPARE])
    assert rig.list.keys() == (SPARE,)
    rig.revoke(OLD, NEW, SPARE)
    assert "no key would be left" in rig.list.settle([SPARE])[0]
    assert rig.list.keys() == (SPARE,)


def test_what_is_in_effect_stays_so_though_a_later_root_names_it_no_more() -> None:
    rig = Rig(OLD, NEW, SPARE)
    rig.revoke(OLD)
    rig.list.settle([NEW])
    rig.revoke()
    assert rig.list.settle([NEW]) == ()
    rig.revoke(SPARE)
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_what_a_later_root_names_no_more_before_it_took_effect_never_does() -> None:
    rig = Rig()
    rig.revoke(OLD)
    rig.revoke()
    assert rig.list.settle([NEW]) == ()
    assert rig.list.keys() == HELD


def test_keys_that_the_bootloader_does_not_hold_are_harmless() -> None:
    rig = Rig()
    rig.revoke(UNKNOWN)
    before = rig.flash.operations
    assert rig.list.settle([OLD]) == ()
    assert (rig.list.keys(), rig.flash.operations) == (HELD, before)
    rig.revoke(UNKNOWN, OLD)
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_a_bootloader_that_is_built_anew_keeps_what_is_in_effect() -> None:
    rig = Rig()
    rig.revoke(OLD)
    rig.list.settle([NEW])
    rig.held = (OLD, NEW, SPARE)
    assert rig.list.keys() == (NEW, SPARE)
    rig.held = (OLD,)
    assert rig.list.keys() == (), "one that holds none but revoked keys boots nothing"


def test_the_first_root_may_revoke_as_well() -> None:
    rig = Rig(first=(OLD,))
    assert rig.list.keys() == HELD
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_an_image_under_a_key_that_is_not_accepted_is_the_bootloaders_own_fault() -> None:
    rig = Rig()
    rig.revoke(OLD)
    unchanged(rig, lambda: rig.list.settle([UNKNOWN]), MisuseError)
    rig.list.settle([NEW])
    unchanged(rig, lambda: rig.list.settle([OLD]), MisuseError)


# --- whose root -------------------------------------------------------------------------------------------------------


def test_a_root_that_is_held_changes_nothing() -> None:
    rig = Rig()
    before = rig.flash.operations
    rig.list.accept_root(rig.repo.files["root"])
    assert rig.flash.operations == before


def test_a_held_root_with_other_signatures_changes_nothing() -> None:
    # A courier who leaves out a signature that is one too many must not make bootloader and agent disagree for ever.
    rig = Rig()
    data = rig.repo.root(version=2, edit=revoking(OLD), signers=keys("root-1", "root-2", "root-3"))
    rig.list.accept_root(data)
    before = rig.flash.operations
    rig.list.accept_root(rig.repo.root(version=2, edit=revoking(OLD), signers=keys("root-2", "root-3")))
    assert rig.flash.operations == before


def test_root_follows_root_through_new_keys() -> None:
    rig = Rig()
    rig.repo.rotate("root")
    rig.list.accept_root(rig.repo.files["root"])
    rig.revoke(OLD)
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_an_expired_root_revokes_all_the_same() -> None:
    rig = Rig()
    rig.list.accept_root(rig.repo.root(version=2, edit=revoking(OLD), expires=T0 - YEAR))
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


@pytest.mark.parametrize("version", [1, 2, 5, 2**53 - 1])
def test_only_the_next_version_is_taken(version: int) -> None:
    rig = Rig()
    for _ in range(2):
        rig.revoke(OLD)
    unchanged(rig, lambda: rig.list.accept_root(rig.repo.root(version=version)), RollbackError)


def test_a_fork_of_roots_is_refused() -> None:
    rig = Rig()
    rig.revoke(OLD)
    fork = rig.repo.root(version=2, edit=revoking(NEW))
    unchanged(
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
    rig = Rig()
    data = rig.repo.root(version=2, edit=revoking(OLD), signers=keys(*signers))
    unchanged(rig, lambda: rig.list.accept_root(data), SignatureError)


def test_both_quorums_have_to_sign() -> None:
    rig = Rig()
    mallory = {"root": keys("mallory-1", "mallory-2")}
    for signers in (keys("root-1", "root-2"), keys("mallory-1", "mallory-2"), keys("root-1", "mallory-1", "mallory-2")):
        data = rig.repo.root(version=2, keys=mallory, edit=revoking(OLD), signers=signers)
        unchanged(rig, lambda data=data: rig.list.accept_root(data), SignatureError)  # type: ignore[misc]


def test_a_field_that_was_added_after_signing_revokes_nothing() -> None:
    rig = Rig()
    data = rig.repo.root(version=2, edit_envelope=lambda whole: revoking(OLD)(whole["signed"]))
    unchanged(rig, lambda: rig.list.accept_root(data), SignatureError)
    rig.list.accept_root(rig.repo.root(version=2, edit_envelope=revoking(OLD)))  # beside what is signed: not read
    assert rig.list.settle([NEW]) == ()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_root_are_refused(data: bytes) -> None:
    rig = _shared()
    unchanged(rig, lambda: rig.list.accept_root(data), MetadataError)


@cache
def _shared() -> Rig:
    return Rig()


def test_a_root_that_does_not_fit_is_refused_and_room_is_kept_for_what_it_revokes() -> None:
    rig = Rig()

    def padded(length: int) -> bytes:
        def edit(signed: dict[str, Any]) -> None:
            revoking(OLD, NEW)(signed)
            signed["x-pad"] = "x" * length

        return rig.repo.root(version=2, edit=edit)

    unchanged(rig, lambda: rig.list.accept_root(padded(9000)), SpaceError)
    room = LAYOUT.state_size - len(encode_record(2, KeyRecord(padded(0))))
    # Both keys take 64 bytes once they are in effect.
    unchanged(rig, lambda: rig.list.accept_root(padded(room - 63)), SpaceError)
    rig.list.accept_root(padded(room - 64))


# --- the records ------------------------------------------------------------------------------------------------------


def test_a_list_that_was_never_written_accepts_no_key() -> None:
    rig = Rig()
    rig.flash = Flash(LAYOUT.geometry)
    unchanged(rig, lambda: rig.list.keys(), UnprovisionedError)
    unchanged(rig, lambda: rig.list.settle([OLD]), UnprovisionedError)
    unchanged(rig, lambda: rig.list.accept_root(rig.repo.files["root"]), UnprovisionedError)


def test_a_list_that_cannot_be_read_accepts_no_key_until_it_is_provisioned_again() -> None:
    rig = Rig()
    rig.revoke(OLD)
    for index in (0, 1):
        rig.areas.write(index, b"HHkl and then nothing of use")
    unchanged(rig, lambda: rig.list.keys(), UnprovisionedError)
    rig.list.provision(rig.repo.files["root"])
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_provisioning_again_outnumbers_what_is_there() -> None:
    rig = Rig()
    for _ in range(3):
        rig.revoke(OLD)
    rig.list.settle([NEW])
    rig.list.provision(rig.repo.files["root"])
    assert rig.list.keys() == HELD, "a new start, with the revocations of its root pending"
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_provisioning_takes_only_a_root_that_its_own_quorum_signed() -> None:
    rig = Rig()
    for data, error in (
        (rig.repo.root(signers=keys("root-1")), SignatureError),
        (rig.repo.files["targets"], MetadataError),
        (b"", MetadataError),
    ):
        unchanged(rig, lambda data=data: rig.list.provision(data), error)  # type: ignore[misc]


def of_format(record: bytes, number: int) -> bytes:
    changed = record[:4] + struct.pack(">H", number) + record[6:-32]
    return changed + sha256(changed).digest()


def test_a_newer_list_of_another_format_is_not_passed_over() -> None:
    rig = Rig()
    rig.revoke(OLD)
    rig.list.settle([NEW])
    sequence, record = max(decode_record(rig.areas.read(index)) for index in (0, 1) if rig.areas.read(index))
    at = next(index for index in (0, 1) if decode_record(rig.areas.read(index))[0] != sequence)
    rig.areas.write(at, of_format(encode_record(sequence - 2, record), 2))
    assert rig.list.keys() == (NEW,), "an older one is"
    rig.areas.write(at, of_format(encode_record(sequence + 1, record), 2))
    unchanged(rig, lambda: rig.list.keys(), UnprovisionedError)
    rig.list.provision(rig.repo.files["root"])
    assert rig.list.keys() == HELD


def test_a_record_whose_root_cannot_be_read_is_not_passed_over_for_the_older_one() -> None:
    rig = Rig()
    rig.areas.write(1, encode_record(9, KeyRecord(b"no root", frozenset({OLD.key_hash}))))
    unchanged(rig, lambda: rig.list.keys(), UnprovisionedError)


RECORDS = [
    KeyRecord(b""),
    KeyRecord(b"root" * 50, frozenset({OLD.key_hash})),
    KeyRecord(b"r", frozenset({OLD.key_hash, NEW.key_hash, bytes(32), b"\xff" * 32})),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_read_back_as_it_was_and_refused_with_any_other_byte(record: KeyRecord) -> None:
    data = encode_record(7, record)
    assert decode_record(data + b"\xff" * 9) == (7, record)
    for at in range(len(data)):
        with pytest.raises(RecordError):
            decode_record(data[:at])
        for bit in range(8):
            with pytest.raises(RecordError):
                decode_record(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])


@given(st.binary(max_size=300), st.booleans())
def test_bytes_that_are_no_record_are_refused(data: bytes, signed: bool) -> None:
    if signed:  # a checksum that fits is no proof of the rest
        data = struct.pack(">4sHQI", b"HHkl", 1, 1, len(data)) + data
        data += sha256(data).digest()
    try:
        sequence, record = decode_record(data)
    except RecordError:
        return
    assert encode_record(sequence, record) == data


def test_values_out_of_range_are_not_written() -> None:
    for sequence, record in ((0, KeyRecord(b"")), (2**64, KeyRecord(b"")), (1, KeyRecord(b"", frozenset({b"short"})))):
        with pytest.raises(MisuseError):
            encode_record(sequence, record)


# --- power ------------------------------------------------------------------------------------------------------------


def _revoked(rig: Rig) -> None:
    rig.revoke(OLD)


def _in_effect(rig: Rig) -> None:
    rig.revoke(OLD)
    rig.list.settle([NEW])


CHANGES: list[tuple[str, Callable[[Rig], object], Callable[[Rig], object]]] = [
    ("the first root", lambda rig: rig.next_root(OLD), lambda rig: rig.list.accept_root(rig.repo.files["root"])),
    ("settle", _revoked, lambda rig: rig.list.settle([NEW])),
    ("a later root", _in_effect, lambda rig: rig.list.accept_root(rig.repo.root(version=3, edit=revoking()))),
    ("provision", _in_effect, lambda rig: rig.list.provision(rig.repo.files["root"])),
]


@pytest.mark.parametrize(("prepare", "change"), [item[1:] for item in CHANGES], ids=[item[0] for item in CHANGES])
def test_a_cut_at_any_operation_leaves_the_old_list_or_the_new(
    prepare: Callable[[Rig], object], change: Callable[[Rig], object]
) -> None:
    start = Rig()
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
    roots = Rig(OLD, NEW, SPARE)
    offered = [
        roots.repo.files["root"],
        roots.next_root(OLD),
        roots.next_root(OLD, NEW),
        roots.next_root(SPARE),
        roots.next_root(),
    ]
    offered += [roots.repo.root(version=2, edit=revoking(SPARE)), roots.repo.root(version=9)]

    def walk(rig: Rig, runs: tuple[ImageKey, ...], depth: int) -> None:
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

    walk(Rig(OLD, NEW, SPARE), (OLD, NEW), 3)
