"""Make a patch in the format `hhp2` (specified in `hillhold_verifier.patch` and `docs/FORMAT.md`).

`hillhold_signer.matching` finds what of the base can be used again, in images whose addresses are blotted out; `hillhold_signer.moving`
finds how addresses moved; what then differs from the corrected base is written as records, in the order of the result, and compressed.
The same bytes come out for the same input, with one version of bsdiff4 and liblzma.

Every patch is applied again by the verifier's decoder before it is returned, unless the caller does so.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from hillhold_verifier import patch
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.moves import Moves

_COPY: Final = re.compile(rb"\0{2,}")
"""Unchanged bytes that become a `copy`: two numbers of a byte each state it."""
_SHORT: Final = 4096
"""Bytes of a stream for which literal contexts only cost: LZMA learns too little in it."""
_SHORT_PROPERTIES: Final = (0, 0, 0)
_PROPERTIES: Final = (2, 0, 0)
_WHOLE_PROPERTIES: Final = ((3, 0, 0), (2, 0, 1), (1, 1, 1))
"""lc, lp, pb; of a patch from nothing, those to try: it is an image, in which instructions lie at even offsets."""

_Section = tuple[bytes, bytes, int]
"""Differences to the base at the cursor, bytes to insert, and how the cursor moves then."""


def make_patch(base: bytes, result: bytes, *, check: bool = True) -> bytes:
    """Makes the patch that turns `base` into `result`.

    Args:
        check: also applies it. Whoever does that with what arrives need not do it twice.

    Returns:
        The patch, of the format `ALGORITHM`. It may be larger than the result; whether it is worth it is for the caller.

    Raises:
        MisuseError: base or result are longer than the format can state.
        OperationalError: the patch does not give the result (a fault of the matching library).
    """
    if max(len(base), len(result)) > patch.LIMIT_LENGTH:
        raise MisuseError(f"base and result may have {patch.LIMIT_LENGTH} bytes at most")
    stream = _stream(base, result)
    window_bits = min(max((len(stream) - 1).bit_length(), patch.MIN_WINDOW_BITS), patch.MAX_WINDOW_BITS)
    tried = _WHOLE_PROPERTIES if not base else (_PROPERTIES if len(stream) > _SHORT else _SHORT_PROPERTIES,)
    packed, properties = min(
        ((_compress(stream, properties, window_bits), properties) for properties in tried),
        key=lambda each: len(each[0]),
    )
    lc, lp, pb = properties
    header = patch.HEADER.pack(
        patch.MAGIC, patch.FORMAT_VERSION, (pb * 5 + lp) * 9 + lc, window_bits, len(base), len(result)
    )
    if check:
        _check(header + packed, base, result)
    return header + packed


def _stream(base: bytes, result: bytes) -> bytes:
    if not base or not result:  # nothing to match
        return _table(None) + _records([(b"", result, 0)])
    from hillhold_signer.moving import compared  # NumPy takes longer to load than a patch from nothing to make

    found, moves, differences = compared(base, result)
    return _table(moves) + _records(_sections(differences, result, found))


def _sections(differences: bytes, result: bytes, found: Sequence[tuple[int, int, int]]) -> Iterator[_Section]:
    """The result as sections; the first may make nothing, and only seek."""
    cursor = made = 0
    held = b""
    for start, new, length in [*found, (-1, len(result), 0)]:
        seek = start - cursor if length else 0
        if new > made or seek:
            yield held, result[made:new], seek
            held = b""
        held += differences[new : new + length]
        cursor, made = start + length, new + length
    if held:
        yield held, b"", 0


def _table(moves: Moves | None) -> bytes:
    if not moves:
        return _number(0)
    out = bytearray(_number(len(moves.starts)))
    for number in (moves.load, moves.ram, moves.ram_length):
        out += _number(number)
    last_place = last_shift = 0
    for place, shift in zip(moves.starts, moves.shifts, strict=True):
        out += _number(place - last_place) + _number(_zigzag(shift - last_shift))
        last_place, last_shift = place, shift
    return bytes(out)


def _records(sections: Iterable[_Section]) -> bytes:
    out = bytearray()
    for differences, insert, seek in sections:
        runs = list(_runs(differences))
        jump = bool(insert or seek)
        if jump and not runs:
            runs = [(0, b"")]
        for place, (copy, add) in enumerate(runs):
            ends = jump and place == len(runs) - 1
            out += _number(copy) + _number(len(add) << 1 | ends)
            if ends:
                out += _number(len(insert)) + _number(_zigzag(seek))
            out += add
        out += insert
    return bytes(out)


def _runs(differences: bytes) -> Iterator[tuple[int, bytes]]:
    """Splits differences into runs of zeros, to be copied, each with the differences that follow it."""
    copy = at = 0
    for zeros in _COPY.finditer(differences):
        if zeros.start() > at:
            yield copy, differences[at : zeros.start()]
        copy, at = len(zeros.group()), zeros.end()
    if copy or at < len(differences):
        yield copy, differences[at:]


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


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
