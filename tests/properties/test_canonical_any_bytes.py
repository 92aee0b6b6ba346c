"""The quick way to read the written form says the same as the thorough one, of any bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hillhold_verifier import canonical
from hillhold_verifier.errors import MetadataError

TEXT = st.text(st.sampled_from('ab"\\{}[]:,1 é\n\x7f\ud800'), max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | TEXT
    | st.integers(-3, 3)
    | st.sampled_from([2**53 - 1, 2**53, -(2**53), 10**30, 10**15, 0.5, 1e300]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def thorough(data: bytes) -> object:
    try:
        return canonical._loads(data)
    except MetadataError as error:
        return str(error)


def quick(data: bytes) -> object:
    try:
        return canonical.loads(data)
    except MetadataError as error:
        return str(error)


def agree(data: bytes) -> None:
    assert quick(data) == thorough(data)
    if (found := canonical._written(data)) is not None:
        assert found == thorough(data)
        assert canonical.dumps(found) == canonical.canonical(found) == data


@given(VALUES, st.booleans(), st.sampled_from([",", ", "]))
@example({"a": 10**16}, True, ",")
@example({"a": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}, True, ",")
@example([[[[[[[[[[[[[[[["}]"]]]]]]]]]]]]]]]], True, ",")
def test_both_ways_agree_on_any_value(value: object, sort: bool, comma: str) -> None:
    try:
        agree(json.dumps(value, sort_keys=sort, separators=(comma, ":"), ensure_ascii=False).encode())
    except UnicodeEncodeError:
        agree(json.dumps(value, sort_keys=sort, separators=(comma, ":")).encode())


@given(st.text(st.sampled_from('{}[]":,01-.eENaIfinty\\u d8'), max_size=24))
@example('{"a":1,"a":1}')
@example('{"b":1,"a":1}')
@example("[1.0]")
@example("[1e5]")
@example("[-0]")
@example("[NaN]")
@example("[Infinity]")
@example('["\\ud800"]')
@example("[01]")
@example("[9007199254740992]")
@example("[-9007199254740991]")
def test_both_ways_agree_on_any_text(text: str) -> None:
    agree(text.encode())


@pytest.mark.parametrize("depth", range(12, 20))
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("inner", ['"x"', '"}]"', "[]", "{}"])
def test_both_ways_agree_on_depth(depth: int, left: str, right: str, inner: str) -> None:
    agree((left * depth + inner + right * depth).encode())


@pytest.mark.parametrize("levels", range(12, 36))
@pytest.mark.parametrize("kinds", ["[{", "{[", "[[{", "{{["])
@pytest.mark.parametrize("inner", ["1", "[]", "{}"])
def test_both_ways_agree_on_depth_of_mixed_nesting(levels: int, kinds: str, inner: str) -> None:
    """An object in an array is two levels, not one."""
    nested = inner
    for level in reversed(range(levels)):
        nested = f"[{nested}]" if kinds[level % len(kinds)] == "[" else f'{{"a":{nested}}}'
    agree(nested.encode())


@given(VALUES, VALUES)
def test_the_signed_part_of_a_file_is_its_canonical_form(signatures: object, signed: object) -> None:
    try:
        data = canonical.dumps({"signatures": signatures, "signed": signed})
        value, payload = canonical.parse_file(data)
    except MetadataError:
        return
    if payload is not None:
        assert payload == canonical.canonical(signed)
    assert value == {"signatures": signatures, "signed": signed}
