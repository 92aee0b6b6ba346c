"""Canonical JSON, and the strict reading of JSON before it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from forge import canon, ecdsa_key, key
from hillhold_verifier.canonical import MAX_DEPTH, MAX_INTEGER, canonical, dumps, loads
from hillhold_verifier.errors import MetadataError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)


@given(values)
def test_canonical_agrees_with_securesystemslib_and_with_the_definition(value: object) -> None:
    assert canonical(value) == (encode_canonical(value) or "").encode() == canon(value)  # type: ignore[arg-type]


@given(values)
def test_dumps_is_json_and_reads_back(value: object) -> None:
    data = dumps(value)
    assert loads(data) == value == json.loads(data)
    assert dumps(loads(data)) == data


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30))
def test_without_control_characters_the_file_is_the_signed_bytes(text: str) -> None:
    value = {text: [text, 7, None]}
    assert dumps(value) == canonical(value)


@pytest.mark.parametrize(
    "char", [chr(code) for code in range(0x20)] + ["\x7f", "\\", '"', "\\n", "\\u0041", "\u2028", "𝄞"]
)
def test_each_special_character_stands_raw_but_for_quote_and_backslash(char: str) -> None:
    raw = char.replace("\\", "\\\\").replace('"', '\\"')
    assert canonical({"a": char}) == f'{{"a":"{raw}"}}'.encode()
    assert loads(dumps({char: char})) == {char: char}


def test_keys_are_sorted_by_code_point() -> None:
    assert (
        canonical({"b": 1, "a": 2, "B": 3, "é": 4, "𝄞": 5, "\uffff": 6})
        == '{"B":3,"a":2,"b":1,"é":4,"\uffff":6,"𝄞":5}'.encode()
    )


def test_a_pem_key_is_one_line_in_the_file_and_several_under_the_signature() -> None:
    entry = ecdsa_key("alice").entry
    assert b"\n" not in dumps(entry)
    assert canonical(entry).count(b"\n") == entry["keyval"]["public"].count("\n") > 2
    assert canonical(loads(dumps(entry))) == canon(entry) == (encode_canonical(entry) or "").encode()
    assert dumps(key("alice").entry) == canon(key("alice").entry)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1,]",
        b"{'a':1}",
        b"[1]x",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"\xfe\xff\x00{\x00}",
        b'["\n"]',
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"\\u0061":2}}',
        b"[1.0]",
        b"[1e3]",
        b"[-0.0]",
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[01]",
        b"[9007199254740992]",
        b"[-9007199254740992]",
        b"[" + b"9" * 100_000 + b"]",
        b'["\\ud800"]',
        b'["\\udc00\\ud800"]',
        b'["a\\ud800"]',
        b'{"a":{"b":["\\ud800b"]}}',
        b'{"\\udfff":1}',
        b'["\xed\xa0\x80"]',
        b"[" * 17 + b"1" + b"]" * 17,
        b'{"a":' * 17 + b"1" + b"}" * 17,
        b'{"a": ' * 17 + b"1" + b"}" * 17,
        b'{"a":[ ' * 9 + b"1" + b"]}" * 9,
        b"[" * 400_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_json_parsers_do_not_agree_on_is_refused(data: bytes) -> None:
    with pytest.raises(MetadataError):
        loads(data)


def test_limits_are_reached_exactly() -> None:
    assert loads(b"[9007199254740991,-9007199254740991,-0]") == [MAX_INTEGER, -MAX_INTEGER, 0]
    value = loads(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH)
    for _ in range(MAX_DEPTH):
        assert isinstance(value, list)
        (value,) = value
    assert value == 1
    assert MAX_DEPTH == 16
    for opening in (b'{"a":', b'{"a": '):
        assert json.loads(opening * 16 + b"1" + b"}" * 16) == loads(opening * 16 + b"1" + b"}" * 16)
    assert loads(b'["\\ud834\\udd1e"]') == ["𝄞"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"a": value})


def test_a_lone_surrogate_has_no_canonical_form() -> None:
    with pytest.raises(MetadataError):
        canonical({"a": "\ud800"})
