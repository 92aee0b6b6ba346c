"""Any bytes are a boot flag record, counter entry or flash file header in its one form, or are refused by their own error."""

from __future__ import annotations

import contextlib
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from hillhold_bootsim.bootflags import RECORD_SIZE, BootRecord, decode_record, encode_record
from hillhold_bootsim.counter import decode_entry, encode_entry
from hillhold_bootsim.flash import Geometry
from hillhold_bootsim.flashfile import HEADER_SIZE, FlashFileError, check_header, header
from hillhold_verifier.errors import RecordError
from hillhold_verifier.slots import Mark

GEOMETRY = Geometry.uniform(size=4096, sector=256, unit=4, otp=64)
HASHES = st.binary(min_size=32, max_size=32)
MARKS = st.builds(Mark, HASHES, st.integers(1, 2**32 - 1))
RECORDS = st.one_of(
    st.builds(BootRecord, st.sampled_from([None, 0, 1]), MARKS, st.integers(0, 255), st.none() | HASHES),
    st.builds(BootRecord, st.sampled_from([None, 0, 1]), st.none(), st.just(0), st.none() | HASHES),
)
BODIES = st.builds(
    lambda sequence, rest: b"HHbf\0\1" + sequence.to_bytes(8, "big") + rest,
    st.integers(0, 3),
    st.binary(min_size=82, max_size=82)
    | st.builds(lambda a, b: a + bytes(82 - len(a) - len(b)) + b, st.binary(max_size=12), st.binary(max_size=40)),
)


@given(RECORDS, st.integers(1, 2**64 - 1))
def test_a_record_has_one_form(record: BootRecord, sequence: int) -> None:
    data = encode_record(sequence, record)
    assert len(data) == RECORD_SIZE
    assert decode_record(data) == (sequence, record)


@given(
    st.binary(max_size=200)
    | st.binary(min_size=RECORD_SIZE, max_size=RECORD_SIZE)
    | BODIES.map(lambda body: body + hashlib.sha256(body).digest())
)
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    with contextlib.suppress(RecordError):
        sequence, record = decode_record(data)
        assert encode_record(sequence, record) == data


@given(
    st.binary(max_size=12)
    | st.integers(0, 2**32 - 1).map(lambda v: v.to_bytes(4, "big") + (2**32 - 1 - v).to_bytes(4, "big"))
)
def test_any_bytes_are_a_counter_entry_or_nothing(data: bytes) -> None:
    value = decode_entry(data)
    assert value is None or data[:8] == encode_entry(value)


@given(st.binary(max_size=HEADER_SIZE + 8), st.integers(0, HEADER_SIZE), st.booleans())
def test_any_bytes_are_the_header_or_refused(data: bytes, at: int, patch: bool) -> None:
    good = header(GEOMETRY)
    candidate = (good[:at] + data + good[at + len(data) :])[:HEADER_SIZE] if patch else data
    with contextlib.suppress(FlashFileError):
        check_header(candidate, GEOMETRY)
        assert candidate == good
    check_header(good, GEOMETRY)
