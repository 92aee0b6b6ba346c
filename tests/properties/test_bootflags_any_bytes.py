"""Any bytes are a boot flag record, counter entry or flash file header in its one form, or are refused by their own error."""

from __future__ import annotations

import contextlib
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from hillhold_bootsim.bootflags import BootRecord, ImageFlags, decode_record, encode_record, record_size
from hillhold_bootsim.counter import decode_entry, encode_entry
from hillhold_bootsim.flashfile import HEADER_SIZE, FlashFileError, check_header, header
from hillhold_bootsim.geometry import MAX_RUNS, Geometry
from hillhold_verifier.errors import RecordError
from hillhold_verifier.slots import Mark

GEOMETRIES = st.builds(
    lambda unit, runs, erased, otp: Geometry(tuple((n, size * unit) for n, size in runs), unit, erased, otp * unit),
    st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128, 256]),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 64)), min_size=1, max_size=MAX_RUNS),
    st.sampled_from([0x00, 0xFF]),
    st.integers(0, 8),
)
HASHES = st.binary(min_size=32, max_size=32)
MARKS = st.builds(Mark, HASHES, st.integers(1, 2**32 - 1))


@st.composite
def images(draw: st.DrawFn) -> ImageFlags:
    """Flags of a component, in range."""
    mark, primary, wanted = draw(st.none() | MARKS), draw(st.integers(0, 1)), draw(st.integers(0, 1))
    exchanged = primary != wanted
    return ImageFlags(
        confirmed=draw(st.sampled_from([None, 0, 1])),
        mark=mark,
        failed=draw(st.none() | HASHES),
        permanent=mark is not None and draw(st.booleans()),
        primary=primary,
        wanted=wanted,
        moving=exchanged and draw(st.booleans()),
        sectors=draw(st.integers(1, 2**16 - 1)) if exchanged else 0,
        shifted=draw(st.booleans()),
    )


@st.composite
def records(draw: st.DrawFn) -> BootRecord:
    found = tuple(draw(st.lists(images(), min_size=1, max_size=4)))
    return BootRecord(found, draw(st.integers(0, 255)) if any(image.mark for image in found) else 0)


def _damaged(case: tuple[BootRecord, int, bytes]) -> bytes:
    """A record with other bytes somewhere, and the checksum that fits these."""
    record, at, put = case
    body = encode_record(7, record)[:-32]
    at %= len(body)
    body = (body[:at] + put + body[at + len(put) :])[: len(body)]
    return body + hashlib.sha256(body).digest()


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """What begins as a record of this format and number of components, and goes on with anything."""
    count = draw(st.integers(0, 5))
    head = b"HHbf\0\2" + draw(st.integers(0, 3)).to_bytes(8, "big") + bytes([draw(st.integers(0, 2)), count])
    rest = 80 * count
    for _ in range(draw(st.integers(0, 3))):
        piece = draw(st.binary(max_size=8))
        head += piece + bytes(draw(st.integers(0, 40)))
    return head[: 16 + rest].ljust(16 + rest, b"\0")


@given(records(), st.integers(1, 2**64 - 1))
def test_a_record_has_one_form(record: BootRecord, sequence: int) -> None:
    components = len(record.images)
    data = encode_record(sequence, record)
    assert len(data) == record_size(components)
    assert decode_record(data, components) == (sequence, record)


@given(
    st.binary(max_size=400)
    | bodies().map(lambda body: body + hashlib.sha256(body).digest())
    | st.tuples(records(), st.integers(0, 400), st.binary(min_size=1, max_size=4)).map(_damaged),
    st.integers(1, 4),
)
def test_any_bytes_are_a_record_or_refused(data: bytes, components: int) -> None:
    with contextlib.suppress(RecordError):
        sequence, record = decode_record(data, components)
        assert len(record.images) == components
        assert encode_record(sequence, record) == data


@given(
    st.binary(max_size=12)
    | st.integers(0, 2**32 - 1).map(lambda v: v.to_bytes(4, "big") + (2**32 - 1 - v).to_bytes(4, "big"))
)
def test_any_bytes_are_a_counter_entry_or_nothing(data: bytes) -> None:
    value = decode_entry(data)
    assert value is None or data[:8] == encode_entry(value)


@given(GEOMETRIES, st.binary(max_size=HEADER_SIZE + 8), st.integers(0, HEADER_SIZE), st.booleans())
def test_any_bytes_are_the_header_or_refused(geometry: Geometry, data: bytes, at: int, patch: bool) -> None:
    good = header(geometry)
    candidate = (good[:at] + data + good[at + len(data) :])[:HEADER_SIZE] if patch else data
    with contextlib.suppress(FlashFileError):
        check_header(candidate, geometry)
        assert candidate == good
    check_header(good, geometry)


@given(GEOMETRIES, GEOMETRIES)
def test_each_geometry_has_a_header_of_its_own(one: Geometry, other: Geometry) -> None:
    assert (header(one) == header(other)) == (one == other)
