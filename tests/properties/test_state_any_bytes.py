"""Any bytes in a record area: a `RecordError` or a state; also where the checksum is right and the body is anything that CBOR can say."""

from __future__ import annotations

import struct
from functools import cache
from hashlib import sha256

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge import Repo
from hillhold_verifier.errors import RecordError
from hillhold_verifier.release import Version
from hillhold_verifier.select import Installed
from hillhold_verifier.state import DeviceState, StagedPatch, Transfer, decode_record, encode_record
from holder import PUMP, holding

NAMES = ("device", "files", "floors", "time", "slots", "transfer", "failed", "schemes")


@cache
def valid() -> bytes:
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish()
    slot = Installed("pump/1.0.0/app.bin", Version(1, 0, 0), b"\1" * 32, 5, 0)
    transfer = Transfer(0, slot, StagedPatch(b"\2" * 32, 7, "hhp2", b"\3" * 32, 9))
    return encode_record(
        3, DeviceState(PUMP, holding(repo), (slot, None), transfer, (b"\4" * 32,), frozenset({"ed25519"}))
    )


def record(body: bytes) -> bytes:
    whole = struct.pack(">4sHQI", b"HHst", 1, 3, len(body)) + body
    return whole + sha256(whole).digest()


def decoded(data: bytes) -> DeviceState | None:
    try:
        _, state = decode_record(data)
    except RecordError:
        return None
    return state


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.binary(max_size=40)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.datetimes(timezones=st.timezones())
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"HHst\0\1" + tail))
def test_any_bytes(data: bytes) -> None:
    assert decoded(data) is None


@given(st.data())
def test_a_valid_record_with_bytes_changed(data: st.DataObject) -> None:
    raw = bytearray(valid())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    assert decoded(bytes(raw)) is None


@given(st.binary(max_size=100) | values.map(cbor2.dumps))
def test_any_body_under_a_right_checksum(body: bytes) -> None:
    assert decoded(record(body)) is None


@given(st.sampled_from(NAMES), values)
def test_any_value_in_a_field(name: str, value: object) -> None:
    body = cbor2.loads(valid()[18:-32])
    body[name] = value
    state = decoded(record(cbor2.dumps(body)))
    assert state is None or name in ("device", "floors", "time", "slots", "transfer", "failed", "schemes")


@given(st.data(), values)
def test_any_value_in_any_place(data: st.DataObject, value: object) -> None:
    body = cbor2.loads(valid()[18:-32])
    at = body
    while True:
        name = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[name], dict | list) or not at[name] or data.draw(st.booleans()):
            break
        at = at[name]
    at[name] = value
    decoded(record(cbor2.dumps(body)))


@given(st.data())
def test_a_valid_body_with_bytes_changed_under_a_right_checksum(data: st.DataObject) -> None:
    body = bytearray(valid()[18:-32])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    decoded(record(bytes(body)))


@pytest.mark.parametrize(
    "odd",
    [
        "c48201 19ffff",  # a decimal with an absurd exponent
        "d81e820100",  # a fraction over zero
        "c4821b7fffffffffffffff03",
        "c5821b7fffffffffffffff03",
        "d8236128",  # a regular expression that is none
        "5b7fffffffffffffff",  # a byte string of 2**63-1 bytes
        "5bffffffffffffffff",
        "9b7fffffffffffffff",
        "9a7fffffff",
        "bb7fffffffffffffff",
        "c1fb7e37e43c8800759c",  # the time 1e300
        "c11b7fffffffffffffff",
        "d8641b7fffffffffffffff",
        "d9010443010203",
        "d90105a14300000001",
        "d8254101",  # a UUID of one byte
        "d81c81d81d00",  # a list that holds itself
        "d81ca100d81d00",
        "d9010081d81900",
        "d901028180",  # a set of a list
        "a18000",  # a list as a key
        "a2010101 02",  # a key twice
        "f7",
        "ff",
        "61ff",
        "f8ff",
        "81" * 50_000,
        "a100" * 20_000,
        "c25a00010000" + "ff" * 65_536,  # an integer of half a million bits
    ],
    ids=lambda text: text[:12],
)
def test_oddities_of_cbor(odd: str) -> None:
    raw = bytes.fromhex(odd)
    assert decoded(record(raw)) is None
    for name in NAMES:
        fields = b"".join(cbor2.dumps(other) + (raw if other == name else b"\xf6") for other in NAMES)
        assert decoded(record(bytes([0xA0 + len(NAMES)]) + fields)) is None
    assert decoded(record(valid()[18:-32] + raw)) is None


@given(st.integers(0, 2**64 - 1))
def test_any_sequence_number_comes_back(sequence: int) -> None:
    assert decode_record(encode_record(sequence, decode_record(valid())[1]))[0] == sequence
