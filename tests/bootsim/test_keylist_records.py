"""The records of the list of image keys: unreadable is never taken for empty, and none is read in another form."""

from __future__ import annotations

import struct
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge import Object, keys
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.keylist import KeyRecord, decode_record, encode_record
from hillhold_verifier.errors import (
    MetadataError,
    MisuseError,
    RecordError,
    SignatureError,
    UnprovisionedError,
)
from keyrig import HELD, LAYOUT, NEW, OLD, UNKNOWN, KeyRig, revoking, untouched


def test_a_list_that_was_never_written_accepts_no_key() -> None:
    rig = KeyRig()
    rig.flash = Flash(LAYOUT.geometry)
    untouched(rig, lambda: rig.list.keys(), UnprovisionedError)
    untouched(rig, lambda: rig.list.settle([OLD]), UnprovisionedError)
    untouched(rig, lambda: rig.list.accept_root(rig.repo.files["root"]), UnprovisionedError)


def test_a_list_that_cannot_be_read_accepts_no_key_until_it_is_provisioned_again() -> None:
    rig = KeyRig()
    rig.revoke(OLD)
    for index in (0, 1):
        rig.areas.write(index, b"HHkl and then nothing of use")
    untouched(rig, lambda: rig.list.keys(), UnprovisionedError)
    rig.list.provision(rig.repo.files["root"])
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_provisioning_again_outnumbers_what_is_there() -> None:
    rig = KeyRig()
    for _ in range(3):
        rig.revoke(OLD)
    rig.list.settle([NEW])
    rig.list.provision(rig.repo.files["root"])
    assert rig.list.keys() == HELD, "a new start, with the revocations of its root pending"
    rig.list.settle([NEW])
    assert rig.list.keys() == (NEW,)


def test_provisioning_takes_only_a_root_that_its_own_quorum_signed() -> None:
    rig = KeyRig()
    for data, error in (
        (rig.repo.root(signers=keys("root-1")), SignatureError),
        (rig.repo.files["targets"], MetadataError),
        (b"", MetadataError),
    ):
        untouched(rig, lambda data=data: rig.list.provision(data), error)  # type: ignore[misc]


def of_format(record: bytes, number: int) -> bytes:
    changed = record[:4] + struct.pack(">H", number) + record[6:-32]
    return changed + sha256(changed).digest()


def test_a_newer_list_of_another_format_is_not_passed_over() -> None:
    rig = KeyRig()
    rig.revoke(OLD)
    rig.list.settle([NEW])
    sequence, record = max(decode_record(rig.areas.read(index)) for index in (0, 1) if rig.areas.read(index))
    at = next(index for index in (0, 1) if decode_record(rig.areas.read(index))[0] != sequence)
    rig.areas.write(at, of_format(encode_record(sequence - 2, record), 2))
    assert rig.list.keys() == (NEW,), "an older one is"
    rig.areas.write(at, of_format(encode_record(sequence + 1, record), 2))
    untouched(rig, lambda: rig.list.keys(), UnprovisionedError)
    rig.list.provision(rig.repo.files["root"])
    assert rig.list.keys() == HELD


def test_provisioning_outnumbers_two_lists_of_another_format() -> None:
    rig = KeyRig()
    record = KeyRecord(rig.repo.files["root"])
    for sequences in ((7, 9), (9, 7)):
        for index, sequence in enumerate(sequences):
            rig.areas.write(index, of_format(encode_record(sequence, record), 2))
        rig.list.provision(rig.repo.files["root"])
        assert rig.list.keys() == HELD


def test_a_record_holds_nothing_that_nobody_signed_and_no_key_that_is_not_held() -> None:
    # Else a carrier, or a long list, could fill the area, and what is revoked later would not fit.
    rig = KeyRig()
    data = rig.repo.root(version=2, edit=revoking(OLD, UNKNOWN))
    rig.list.accept_root(rig.repo.root(version=2, edit=revoking(OLD, UNKNOWN), edit_envelope=padded))
    rig.list.settle([NEW])
    sequence, record = max((decode_record(rig.areas.read(index)) for index in (0, 1)), key=lambda item: item[0])
    assert (sequence, record) == (3, KeyRecord(data, frozenset({OLD.key_hash})))


def padded(whole: Object) -> None:
    whole["x-pad"] = "x" * 500


def test_a_record_whose_root_cannot_be_read_is_not_passed_over_for_the_older_one() -> None:
    rig = KeyRig()
    rig.areas.write(1, encode_record(9, KeyRecord(b"no root", frozenset({OLD.key_hash}))))
    untouched(rig, lambda: rig.list.keys(), UnprovisionedError)


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
