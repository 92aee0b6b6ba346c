"""JSON in, canonical JSON out.

TUF signatures are over the OLPC canonical JSON of `signed` (TUF 4.2.1): keys sorted, no white space, no floats, and in strings nothing
escaped but the quote and the backslash. Canonical JSON is not always JSON: a line break in a PEM key stands in it raw. Metadata files are
therefore written as compact sorted JSON, which is the same bytes wherever no control character occurs (docs/adr/0001).

`loads` is stricter than `json.loads`: no duplicate keys, no floats, no integers beyond ±(2⁵³−1), no lone surrogates, bounded depth. What is
in the written form anyway is recognised as such by writing it again, which is several times faster than to look at each value.
"""

from __future__ import annotations

import json
import re
from typing import Final

from hillhold_verifier.errors import MetadataError

MAX_DEPTH: Final = 16
"""Nesting of objects and arrays; standard TUF metadata needs 7."""
MAX_INTEGER: Final = 2**53 - 1
"""Largest integer that every JSON implementation keeps exactly (RFC 8259, section 6)."""

_ESCAPE: Final = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})')
_NO_BRACKET: Final = bytes(set(range(256)) - set(b'{}[]"'))
_ENCODER: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)
_ASCII_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False)
_SIGNATURES, _SIGNED = b'{"signatures":', b',"signed":'
_PLAIN: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def loads(data: bytes) -> object:
    """Parse one JSON value from UTF-8 bytes.

    Raises:
        MetadataError: not JSON, or outside the limits named above.
    """
    found = _written(data)
    return _loads(data) if found is None else found


def parse_file(data: bytes) -> tuple[object, bytes | None]:
    """Parse a metadata file as `loads` does; also return the canonical JSON of its `signed` where that stands in it.

    In the written form it does, as the last of two members: `signatures`, `signed`.
    """
    found = _written(data)
    if isinstance(found, dict) and list(found) == ["signatures", "signed"]:
        return found, data[len(_SIGNATURES) + len(_ASCII_ENCODER.encode(found["signatures"])) + len(_SIGNED) : -1]
    return _loads(data) if found is None else found, None


def _written(data: bytes) -> object:
    """Parse what is in the written form, plain ASCII, and within all limits; None for anything else, valid or not.

    A text that comes back byte for byte has each key once; ASCII without a backslash has no lone surrogate.
    """
    if not data.isascii() or b"\\" in data or not _is_shallow(data):
        return None
    text = data.decode("ascii")
    try:
        value: object = _DECODER.decode(text)
    except (ValueError, MetadataError):
        return None
    return value if _ASCII_ENCODER.encode(value) == text else None


def _is_shallow(data: bytes) -> bool:
    """Brackets, without those in strings, nest at most `MAX_DEPTH` deep."""
    brackets = data.translate(None, _NO_BRACKET).replace(b'""', b"")
    for _ in range(MAX_DEPTH):
        # The innermost level only: an array around what was an object is no empty one yet.
        brackets = brackets.replace(b"{}", b".").replace(b"[]", b".").replace(b".", b"")
    return not brackets


def _loads(data: bytes) -> object:
    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_no_float,
            parse_constant=_no_float,
        )
    except UnicodeDecodeError as error:
        raise MetadataError("metadata text", expected="UTF-8", got=f"byte {error.start} that is not") from None
    except json.JSONDecodeError as error:
        raise MetadataError(f"metadata text: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise MetadataError("metadata nesting", expected=f"at most {MAX_DEPTH} levels", got="more") from None
    _check(value, 0)
    return value


def dumps(value: object) -> bytes:
    """Return the compact sorted JSON of `value`, the form in which metadata files are written.

    Raises:
        MetadataError: a lone surrogate.
    """
    return _encode(_text(value))


def canonical(value: object) -> bytes:
    """Return the canonical JSON of `value` (TUF 4.2.1), a value that `loads` returned or would return.

    Raises:
        MetadataError: nesting or text that canonical JSON here does not allow.
    """
    text = _text(value)
    if "\\" in text:
        text = _ESCAPE.sub(_raw, text)
    return _encode(text)


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MetadataError("metadata text", expected="whole characters", got="a lone surrogate") from None


def _text(value: object) -> str:
    return _ENCODER.encode(value)


def _raw(match: re.Match[str]) -> str:
    escape = match[1]
    if escape in '"\\':
        return match[0]
    return _PLAIN.get(escape) or chr(int(escape[1:], 16))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MetadataError("metadata object", expected="each key once", got="a key twice")
    return value


def _integer(text: str) -> int:
    # The length first: converting a million digits takes time that the sender chooses.
    if len(text) > 17 or abs(value := int(text)) > MAX_INTEGER:
        raise MetadataError("metadata integer", expected=f"at most {MAX_INTEGER} in magnitude", got=f"{text[:20]}…")
    return value


def _no_float(text: str) -> object:
    raise MetadataError("metadata number", expected="an integer", got=text[:20])


_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_float=_no_float, parse_constant=_no_float)


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MetadataError("metadata nesting", expected=f"at most {MAX_DEPTH} levels", got="more")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, str):
        _check_text(value)


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise MetadataError("metadata text", expected="whole characters", got="a lone surrogate")
