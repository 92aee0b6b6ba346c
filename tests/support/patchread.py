"""A second decoder of `hhp2`, from its definition in FORMAT.md: the whole patch at once, the whole base in memory, byte by byte."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Final

LZMA_BOUND: Final = 1 << 20
"""Bytes of a stream that it looks at."""


def by_one_read(content: bytes, base: bytes, result_length: int) -> bytes | None:
    """The result; None where it is no patch. OverflowError: too much to look at."""
    if len(content) < 14:
        return None
    magic, version, properties, bits, *lengths = struct.unpack_from("<3sBBBII", content)
    lc, lp, pb = properties % 9, properties // 9 % 5, properties // 45
    if (magic, version, lengths) != (b"HHP", 2, [len(base), result_length]) or not 12 <= bits <= 14:
        return None
    if lc + lp > 3 or pb > 4:
        return None
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << bits, "lc": lc, "lp": lp, "pb": pb}]
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    try:
        plain = unpacker.decompress(content[14:], LZMA_BOUND)
    except lzma.LZMAError:
        return None
    if len(plain) == LZMA_BOUND:
        raise OverflowError
    if not unpacker.eof or unpacker.unused_data:
        return None
    stream = Stream(plain)
    try:
        correct = table(stream, base)
        made = records(stream, base, result_length, correct)
    except (IndexError, ValueError):
        return None
    return made if stream.at == len(plain) else None


class Stream:
    def __init__(self, plain: bytes) -> None:
        self.plain, self.at = plain, 0

    def number(self) -> int:
        value = place = 0
        while True:
            byte = self.plain[self.at]
            value |= (byte & 127) << (7 * place)
            self.at, place = self.at + 1, place + 1
            if byte < 128:
                break
        if value >= 2**32 or (place > 1 and byte == 0):
            raise ValueError("number")
        return value

    def signed(self) -> int:
        value = self.number()
        return value // 2 if value % 2 == 0 else -(value // 2) - 1

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.plain):
            raise IndexError
        self.at += count
        return self.plain[self.at - count : self.at]


def table(stream: Stream, base: bytes) -> Callable[[int], bytes]:
    """What gives the corrected base, of one way."""
    count = stream.number()
    if not count:
        return lambda way: base
    load, ram, ram_length = stream.number(), stream.number(), stream.number()
    if count > 384 or load + len(base) > 2**32 or ram + ram_length > 2**32:
        raise ValueError("table")
    rows: list[tuple[int, int]] = []
    start = shift = 0
    for _ in range(count):
        gap = stream.number()
        start, shift = start + gap, shift + stream.signed()
        if (rows and not gap) or start >= len(base) + ram_length or not -(2**31) <= shift < 2**31:
            raise ValueError("row")
        rows.append((start, shift))

    def moved(place: int) -> int:
        return next((shift for start, shift in reversed(rows) if start <= place), 0)

    made: dict[int, bytes] = {}

    def correct(way: int) -> bytes:
        if way not in made:
            made[way] = corrected(base, way, load, (ram, ram_length), moved)
        return made[way]

    return correct


def corrected(base: bytes, way: int, load: int, ram: tuple[int, int], moved: Callable[[int], int]) -> bytes:
    out = bytearray(base)
    for at in range(0, len(base) - 3, 4):
        word = int.from_bytes(base[at : at + 4], "little")
        if 0 <= word - load < len(base):
            place = (word - load) // 2 * 2
        elif 0 <= word - ram[0] < ram[1]:
            place = (len(base) + word - ram[0]) // 2 * 2
        else:
            continue
        out[at : at + 4] = ((word + moved(place)) % 2**32).to_bytes(4, "little")
    halves = struct.unpack_from(f"<{len(base) // 2}H", base)
    for n, (first, second) in enumerate(pairwise(halves)):
        if first >> 11 != 0b11110 or second & 0x9000 != 0x9000 or (n and halves[n - 1] >> 11 == 0b11110):
            continue
        s, j1, j2 = first >> 10 & 1, second >> 13 & 1, second >> 11 & 1
        bits = f"{s:b}{1 - (j1 ^ s):b}{1 - (j2 ^ s):b}{first & 0x3FF:010b}{second & 0x7FF:011b}0"
        offset = int(bits, 2) - (2**25 if s else 0)
        target = 2 * n + 4 + offset
        later = offset + (moved(target) if 0 <= target < len(base) else 0) - way
        if later == offset:
            continue
        bits = f"{later % 2**25:025b}"
        s = int(bits[0])
        j1, j2 = (1 - int(bits[place]) ^ s for place in (1, 2))
        first = 0xF000 | s << 10 | int(bits[3:13], 2)
        second = second & 0xD000 | j1 << 13 | j2 << 11 | int(bits[13:24], 2)
        out[2 * n : 2 * n + 4] = struct.pack("<HH", first, second)
    return bytes(out)


def records(stream: Stream, base: bytes, result_length: int, correct: Callable[[int], bytes]) -> bytes:
    """The result; IndexError where the records are cut short, ValueError where they are wrong."""
    cursor = 0
    made = bytearray()
    first = True
    while len(made) < result_length:
        copy, tag = stream.number(), stream.number()
        insert, seek = (stream.number(), stream.signed()) if tag & 1 else (0, 0)
        add = tag >> 1
        makes, end = copy + add + insert, cursor + copy + add
        if (tag & 1 and not insert and not seek) or (not makes and not (first and seek)):
            raise ValueError("empty")
        if end > len(base) or not 0 <= end + seek <= len(base) or len(made) + makes > result_length:
            raise ValueError("outside")
        old = correct(len(made) - cursor)[cursor:end]
        added = bytes(copy) + stream.take(add)
        made += bytes((a + b) % 256 for a, b in zip(old, added, strict=True))
        made += stream.take(insert)
        cursor, first = end + seek, False
    return bytes(made)
