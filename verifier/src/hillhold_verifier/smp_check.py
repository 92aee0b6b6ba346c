"""A check of a message's own, for transports that have none: the field `crc` of its body (docs/FORMAT.md, "Raw").

Its value is four bytes, the CRC-32 (ISO-HDLC, as in zlib), big-endian, of the whole message with these four bytes 0.
"""

from __future__ import annotations

from binascii import crc32
from dataclasses import replace
from typing import Final

from hillhold_verifier.answers import Body
from hillhold_verifier.smp import Message, encode

CRC: Final = "crc"
CHECK: Final = b"\x63crc\x44" + bytes(4)
"""What the field adds to a message, in bytes."""
STOCK_FIELDS: Final = frozenset(
    {
        *("d", "force", "boot_mode", "datetime", "query", "format"),
        *("image", "off", "data", "len", "sha", "upgrade", "hash", "confirm", "slot"),
    }
)
"""What stock tools send in groups OS and IMAGE. An error in the name of a check makes none of them of it."""


def with_check(message: Message) -> bytes:
    """Encode a message with its check; raises as `encode`."""
    return encode(replace(message, body={**message.body, CRC: _check(message)}))


def checked(message: Message) -> Body | None:
    """Return the body without the check of a message that has one, or None where it does not fit."""
    body = {name: value for name, value in message.body.items() if name != CRC}
    return body if message.body.get(CRC) == _check(replace(message, body=body)) else None


def _check(message: Message) -> bytes:
    return crc32(encode(replace(message, body={**message.body, CRC: bytes(4)}))).to_bytes(4)
