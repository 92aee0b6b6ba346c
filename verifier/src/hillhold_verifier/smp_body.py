"""The body of an SMP message: one CBOR map with text keys (RFC 8949), as plain Python values.

Encoding is deterministic: shortest forms, definite lengths, keys in length-first order (RFC 8949, 4.2.3), as the `smp` package sends.

Decoding first walks over the bytes and refuses all that SMP has no use for, so that cbor2 only ever sees harmless input: tags (dates,
big numbers, shared references, regular expressions), undefined and other simple values, keys that are not text, keys that come
twice, bytes after the map, and more depth, items or bytes than the limits below. Indefinite lengths are accepted: Zephyr sends maps so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import cbor2

from hillhold_verifier.errors import MisuseError, SmpError

MAX_BODY = 16 * 1024  # bytes: several times the largest buffer of stock boards (Zephyr's default is 384)
MAX_DEPTH = 8  # nested maps and lists, the outermost included; image state needs 3
MAX_ITEMS = 2048  # values and keys in all: bounds the memory that small bytes can claim

_UINT, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)  # RFC 8949, 3.1: major types
_INDEFINITE = 31
_BREAK = 0xFF
_FALSE, _TRUE, _NULL = 20, 21, 22
_FLOATS = range(25, 28)  # half, single, double: 2, 4 and 8 bytes follow


def encode_body(body: Mapping[str, object]) -> bytes:
    """Encode a body; the same body always gives the same bytes.

    Raises:
        MisuseError: a value that is not int (64 bits and sign), float, bytes, str, bool, None, list, tuple or mapping, a key
            that is not text, or more than the limits of this module.
    """
    try:
        data = cbor2.dumps(_plain(body, MAX_DEPTH), canonical=True)
        decode_body(data)  # the limits are the same in both directions
    except (SmpError, UnicodeEncodeError, cbor2.CBOREncodeError) as error:
        raise MisuseError(f"not a body that SMP can carry: {error}") from error
    return data


def decode_body(data: bytes) -> dict[str, object]:
    """Decode a body.

    Returns:
        A map of int, float, bytes, str, bool, None, list and dict.

    Raises:
        SmpError: malformed, not a map, or outside the limits of this module.
    """
    if len(data) > MAX_BODY:
        raise SmpError("SMP body", expected=f"at most {MAX_BODY} bytes", got=len(data))
    if not data or data[0] >> 5 != _MAP:
        raise SmpError("SMP body", expected="a CBOR map", got=data[:1].hex() or "nothing")
    walk = _Walk(data)
    walk.value(MAX_DEPTH)
    if walk.at != len(data):
        raise SmpError("SMP body", expected="one CBOR map", got=f"{len(data) - walk.at} more bytes")
    try:
        return cast(dict[str, object], cbor2.loads(data))
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError) as error:
        raise SmpError("SMP body", expected="well-formed CBOR", got=str(error)) from error


def _plain(value: object, depth: int) -> object:
    """Copy a value into the plain types that every release of cbor2 encodes alike (an IntEnum becomes an int)."""
    if value is None or isinstance(value, (bool, float, bytes)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if depth == 0:
        raise MisuseError(f"an SMP body nests at most {MAX_DEPTH} deep")
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise MisuseError("keys of an SMP body are text")
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    raise MisuseError(f"an SMP body cannot hold {type(value).__name__}")


class _Walk:
    """One pass over CBOR bytes that builds nothing but the keys of open maps."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.items = data, 0, 0

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise SmpError("SMP body", expected=f"{length} more bytes", got=len(self.data) - self.at)
        self.at += length
        return self.data[self.at - length : self.at]

    def at_break(self) -> bool:
        """Step over a break, if one is next."""
        if self.data[self.at : self.at + 1] != bytes([_BREAK]):
            return False
        self.at += 1
        return True

    def head(self) -> tuple[int, int, int]:
        """Read a head: major type, additional information, argument (0 where the length is indefinite)."""
        self.items += 1
        if self.items > MAX_ITEMS:
            raise SmpError("SMP body", expected=f"at most {MAX_ITEMS} items", got="more")
        major, info = divmod(self.take(1)[0], 32)
        if info < 24:
            return major, info, info
        if info < 28:
            return major, info, int.from_bytes(self.take(1 << (info - 24)))
        if info == _INDEFINITE and major in (_BYTES, _TEXT, _LIST, _MAP):
            return major, info, 0
        raise SmpError("SMP body", expected="well-formed CBOR", got=f"byte {self.data[self.at - 1]:#04x}")

    def value(self, depth: int) -> None:
        major, info, argument = self.head()
        if major in (_BYTES, _TEXT):
            self.string(major, info, argument)
        elif major in (_LIST, _MAP):
            if depth == 0:
                raise SmpError("SMP body", expected=f"at most {MAX_DEPTH} levels", got="more")
            self.container(major, info, argument, depth - 1)
        elif major == _TAG:
            raise SmpError("SMP body", expected="no CBOR tags", got=f"tag {argument}")
        elif major == _SIMPLE and info not in (_FALSE, _TRUE, _NULL, *_FLOATS):
            raise SmpError("SMP body", expected="false, true, null or a float", got=f"simple value {argument}")

    def container(self, major: int, info: int, argument: int, depth: int) -> None:
        keys: set[bytes] = set()
        left = argument
        while not self.at_break() if info == _INDEFINITE else left:
            left -= 1
            if major == _MAP:
                key = self.key()
                if key in keys:  # two readers could take two different values
                    raise SmpError("SMP body", expected="each key once", got=key.decode())
                keys.add(key)
            self.value(depth)

    def key(self) -> bytes:
        major, info, argument = self.head()
        if major != _TEXT:
            raise SmpError("SMP body", expected="keys of text", got=f"a key of major type {major}")
        return self.string(major, info, argument)

    def string(self, major: int, info: int, argument: int) -> bytes:
        """Read a string, or the chunks of one of indefinite length (each definite, RFC 8949, 3.2.3)."""
        if info != _INDEFINITE:
            content = self.take(argument)
            if major == _TEXT:
                try:
                    content.decode()
                except UnicodeDecodeError as error:
                    raise SmpError("SMP body", expected="text in UTF-8", got=content[:16].hex()) from error
            return content
        chunks = []
        while not self.at_break():
            chunk_major, chunk_info, length = self.head()
            if chunk_major != major or chunk_info == _INDEFINITE:
                raise SmpError("SMP body", expected="definite chunks of one type", got=f"major type {chunk_major}")
            chunks.append(self.string(major, chunk_info, length))
        return b"".join(chunks)
