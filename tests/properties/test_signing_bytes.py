"""The bytes that are signed are python-tuf's, and what may not be signed is found whichever way a value is looked at."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st
from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, Targets
from tuf.api.serialization.json import CanonicalJSONSerializer

from hillhold_signer import encoding
from hillhold_signer.errors import ContentRefused

TEXT = st.text(max_size=8) | st.sampled_from(["a\nb", "\x7f", "\x00", "\ud800", '"\\', "é", "\u2028", "keyval"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=2) | st.just(2**53),
    lambda below: (
        st.lists(below, max_size=3)
        | st.tuples(below)
        | st.dictionaries(TEXT | st.integers(0, 2), below, max_size=3)
        | st.fixed_dictionaries({"keyval": st.dictionaries(TEXT, below, max_size=2)})
    ),
    max_leaves=8,
)


@given(VALUES)
def test_the_fast_look_finds_what_the_thorough_one_finds(value: Any) -> None:
    try:
        encoding.check_content(value)
        allowed = True
    except ContentRefused:
        allowed = False
    signed = Targets(1, None, datetime(2030, 1, 1, tzinfo=UTC), {}, unrecognized_fields={"x": value})
    try:
        data = encoding.signed_bytes(signed)
        written = encoding.file_bytes(signed, {}, "pump")
    except ContentRefused:
        assert not allowed
        return
    plain = b"\\" not in written
    event(f"plain {plain}")
    assert allowed
    assert data == CanonicalJSONSerializer().serialize(signed)
    assert encoding.parse(written, Targets)[1] == data
    assert Metadata[Targets].from_bytes(written).signed_bytes == data


@given(st.lists(st.integers(0, 3), max_size=3))
def test_one_signature_makes_the_same_file_as_many(numbers: list[int]) -> None:
    signed = Targets(1, None, datetime(2030, 1, 1, tzinfo=UTC), {}, unrecognized_fields={"x": numbers})
    made: list[bytes] = []

    def sign(payload: bytes) -> dict[str, Signature]:
        made.append(payload)
        return {"a" * 64: Signature("a" * 64, "00")}

    data = encoding.sign_file(signed, sign, "pump")
    assert made == [encoding.signed_bytes(signed)]
    assert data == encoding.file_bytes(signed, {"a" * 64: Signature("a" * 64, "00")}, "pump")
