"""Make a patch in the format `hhp1` (specified in `hillhold_verifier.patch` and `docs/FORMAT.md`).

bsdiff4 finds what of the base can be used again; this module writes it as records, in the order of the result, and compresses
them. Where a run of the base is unchanged it can be stated as `copy`, or as added zeros, which LZMA shrinks well too: which of
them is smaller depends on how the changes lie, so the shortest unchanged run that becomes a `copy` is tried at several lengths,
and then the LZMA properties. The smallest wins, the first of equals. The same bytes come out for the same input, with one
version of bsdiff4 and liblzma.

Every patch is applied again by the verifier's decoder before it is returned.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator
from typing import Final

import bsdiff4.core

from hillhold_verifier import patch
from hillhold_verifier.errors import MisuseError, OperationalError

ALGORITHM: Final = patch.ALGORITHM

_SHORTEST_COPIES: Final = (2, 32, None)
"""Unchanged bytes from which a run becomes a `copy`; with None, none does."""
_PROPERTIES: Final = ((2, 0, 0), (0, 0, 0), (3, 0, 0), (2, 0, 1), (0, 0, 1), (1, 1, 1))
"""lc, lp, pb to try. Position bits seldom help: numbers of several lengths lie between the bytes."""

_Section = tuple[bytes, bytes, int]
"""Differences to the base at the cursor, bytes to insert, and how the cursor moves then."""


def make_patch(base: bytes, result: bytes) -> bytes:
    """Makes the patch that turns `base` into `result`.

    Returns:
        The patch, of the format `ALGORITHM`. It may be larger than the result; whether it is worth it is for the caller.

    Raises:
        MisuseError: base or result are longer than the format can state.
        OperationalError: the patch does not give the result (a fault of the matching library).
    """
    if max(len(base), len(result)) > patch.LIMIT_LENGTH:
        raise MisuseError(f"base and result may have {patch.LIMIT_LENGTH} bytes at most")
    sections = _sections(base, result)
    streams = [_records(sections, shortest) for shortest in _SHORTEST_COPIES]
    stream = min(streams, key=lambda each: len(_compress(each, _PROPERTIES[0], patch.MAX_WINDOW_BITS)))
    window_bits = min(max((len(stream) - 1).bit_length(), patch.MIN_WINDOW_BITS), patch.MAX_WINDOW_BITS)
    packed, properties = min(
        ((_compress(stream, properties, window_bits), properties) for properties in _PROPERTIES),
        key=lambda each: len(each[0]),
    )
    lc, lp, pb = properties
    header = patch.HEADER.pack(
        patch.MAGIC, patch.FORMAT_VERSION, (pb * 5 + lp) * 9 + lc, window_bits, len(base), len(result)
    )
    _check(header + packed, base, result)
    return header + packed


def _sections(base: bytes, result: bytes) -> list[_Section]:
    if not base or not result:  # nothing to match
        return [(b"", result, 0)]
    control, differences, extra = bsdiff4.core.diff(base, result)
    numbers = [bsdiff4.core.decode_int64(control[at : at + 8]) for at in range(0, len(control), 8)]
    sections: list[_Section] = []
    add_at = insert_at = 0
    for at in range(0, len(numbers), 3):
        add, insert, seek = numbers[at : at + 3]
        if add or insert or not sections:
            section = (differences[add_at : add_at + add], extra[insert_at : insert_at + insert], seek)
            sections.append(section)
        else:  # the format refuses a record that makes nothing: its seek belongs to the one before
            differ, extra_bytes, sought = sections[-1]
            sections[-1] = (differ, extra_bytes, sought + seek)
        add_at, insert_at = add_at + add, insert_at + insert
    differ, extra_bytes, _ = sections[-1]
    sections[-1] = (differ, extra_bytes, 0)
    return sections


def _records(sections: list[_Section], shortest_copy: int | None) -> bytes:
    out = bytearray()
    for differences, insert, seek in sections:
        runs = list(_runs(differences, shortest_copy))
        jump = bool(insert or seek)
        if jump and not runs:
            runs = [(0, b"")]
        for place, (copy, add) in enumerate(runs):
            ends = jump and place == len(runs) - 1
            out += _number(copy) + _number(len(add) << 1 | ends)
            if ends:
                out += _number(len(insert)) + _number(seek << 1 if seek >= 0 else (-seek << 1) - 1)
            out += add
        out += insert
    return bytes(out)


def _runs(differences: bytes, shortest_copy: int | None) -> Iterator[tuple[int, bytes]]:
    """Splits differences into runs of zeros, to be copied, each with the differences that follow it."""
    copy = at = 0
    if shortest_copy is not None:
        for zeros in re.finditer(rb"\0{%d,}" % shortest_copy, differences):
            if zeros.start() > at:
                yield copy, differences[at : zeros.start()]
            copy, at = len(zeros.group()), zeros.end()
    if copy or at < len(differences):
        yield copy, differences[at:]


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _compress(stream: bytes, properties: tuple[int, int, int], window_bits: int) -> bytes:
    lc, lp, pb = properties
    lzma1 = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": 1 << window_bits,
        "lc": lc,
        "lp": lp,
        "pb": pb,
        "mode": lzma.MODE_NORMAL,
        "mf": lzma.MF_BT4,
        "nice_len": 273,
        "depth": 1000,
    }
    return lzma.compress(stream, lzma.FORMAT_RAW, filters=[lzma1])


def _check(made: bytes, base: bytes, result: bytes) -> None:
    decoder = patch.PatchDecoder(lambda offset, length: base[offset : offset + length], len(base), len(result))
    decoded = b"".join(decoder.feed(made))
    decoder.finish()
    if decoded != result:
        raise OperationalError("the patch that was made does not give the result: report this, with both files")
