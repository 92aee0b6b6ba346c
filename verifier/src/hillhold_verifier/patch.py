"""Apply a patch in the format `hhp2`: the held image and a small file in, the new image out, in order and in bounded memory.

A patch is a header of 14 bytes and one raw LZMA stream.

    offset  size  field
    0       3     magic "HHP"
    3       1     format version, 2
    4       1     LZMA properties, (pb * 5 + lp) * 9 + lc, with lc + lp <= 3 and pb <= 4
    5       1     log2 of the LZMA dictionary's size, 12 to 14
    6       4     length of the base, below 2**31, little-endian: equals the signed one
    10      4     length of the result, likewise
    14      ..    LZMA, raw (LZMA1), closed by its end marker; it is the last byte of the file

It decompresses to numbers and bytes. Numbers are LEB128: seven bits per byte, lowest first, below 2**32, in the fewest bytes;
signed ones are zigzag (0, -1, 1, -2 ... as 0, 1, 2, 3 ...). First comes the table of moves (`hillhold_verifier.moves`):

    rows    number        at most 384; if it is 0, the table ends here and the base is taken as it is
    load, ram, ram_length numbers
            rows          two numbers each: places since the row before, and, signed, the change of the shift

Then come records. A cursor into the base starts at 0; "the base" is from here on the base as corrected by the moves, on the way
from the cursor to the result's end. Each record does, in this order:

    copy    number        so many bytes of the base are copied; the cursor moves on
    add     number        bit 0 is `jump`; the rest is a count
    insert  number        only with `jump`
    seek    number        only with `jump`: signed
            add bytes     each is added, modulo 256, to a byte of the base; the cursor moves on
            insert bytes  taken as they are; then the cursor moves by `seek`

The records end when the result has its length, and the stream ends there. Refused: a read outside the base, a cursor outside
[0, base length], a result that grows beyond its length, a record that makes no byte (unless it is the first, which may only
seek: else a small patch costs unbounded work), `jump` with neither insert nor seek, and anything after the end.

A patch has no checksum. The caller verifies the patch's signed hash before it feeds a byte, the base's before it writes one,
and the result's before it marks the slot: for a wrong base the decoder gives wrong bytes without an error.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterator
from typing import Final

from hillhold_verifier.errors import MisuseError, PatchError
from hillhold_verifier.moves import MAX_MOVES, Moves, ReadBase, read_exactly

ALGORITHM: Final = "hhp2"

HEADER: Final = struct.Struct("<3sBBBII")
MAGIC: Final = b"HHP"
FORMAT_VERSION: Final = 2

LIMIT_LENGTH: Final = 2**31 - 1
"""Bytes of a base or result: twice as much, and a bit, fits into a number."""
MIN_WINDOW_BITS: Final = 12
MAX_WINDOW_BITS: Final = 14
"""log2 of the dictionary: 16 KiB beside liblzma's own 33 KB leave room within `WORKING_MEMORY`."""
MAX_LITERAL_BITS: Final = 3
"""lc + lp: 16 KB of probabilities on a microcontroller, (1846 + 768 * 2**3) * 2 bytes."""
CHUNK: Final = 2048
"""Bytes of every chunk of the result but the last: whole parts of a flash sector, or whole sectors."""
WORKING_MEMORY: Final = 64 * 1024
"""Bytes that decoding may take beyond base, result and the patch bytes that the caller holds."""

_INPUT_PIECE: Final = 512
_PIECE: Final = 256
"""Bytes that are decompressed, read or added at a time."""
_READ_AHEAD: Final = 256
_LIMIT_NUMBER: Final = 2**32 - 1
_NUMBER_BYTES: Final = 5
_LOW_BITS: Final = int.from_bytes(b"\x7f" * _PIECE, "little")
_HIGH_BITS: Final = int.from_bytes(b"\x80" * _PIECE, "little")


class PatchDecoder:
    """Decodes one patch.

    Args:
        base: reads the base; its hash has been verified.
        base_length: bytes, as signed.
        result_length: bytes, as signed.

    Raises:
        MisuseError: lengths outside 0..`LIMIT_LENGTH`.
    """

    def __init__(self, base: ReadBase, base_length: int, result_length: int) -> None:
        if not (0 <= base_length <= LIMIT_LENGTH and 0 <= result_length <= LIMIT_LENGTH):
            raise MisuseError(f"lengths of base and result are within 0..{LIMIT_LENGTH}")
        self._base = base
        self._base_length = base_length
        self._result_length = result_length
        self._lzma: lzma.LZMADecompressor | None = None
        self._usable = True
        self._header = b""
        self._rest = b""  # the start of a record whose numbers have not all come
        self._out = bytearray()
        self._moves: Moves | None = None
        self._rows: int | None = None  # of the table, still to come
        self._cursor = 0
        self._way = 0  # from the cursor to the place in the result
        self._ahead, self._ahead_at = b"", 0
        self._first = True
        self._copy = self._add = self._insert = self._seek = 0  # what is left of the current record
        self._turn = 0  # how the way changes when it ends
        self._left = result_length  # bytes of the result that no record has announced yet

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decodes the next bytes of the patch, of any length.

        Returns:
            The result's next chunks, each of `CHUNK` bytes but the last. Decoding happens as they are taken, and raises
            there; all have to be taken before the next call.

        Raises:
            PatchError: not a patch, or not for these lengths. The decoder is of no use afterwards.
            OperationalError: the base could not be read.
            MisuseError: after an error, or before the former iterator was exhausted.
        """
        if not self._usable:
            raise MisuseError("this decoder has failed, or its former chunks were not all taken")
        self._usable = False
        return self._exhaust(data)

    def finish(self) -> None:
        """Checks that the patch has ended, exactly, with the whole result.

        Raises:
            PatchError: the patch is cut short.
            MisuseError: after an error, or before the last iterator was exhausted.
        """
        if not self._usable:
            raise MisuseError("this decoder has failed, or its last chunks were not all taken")
        self._usable = False
        if self._lzma is None:
            raise PatchError("patch header", expected=f"{HEADER.size} bytes", got=len(self._header))
        if not self._lzma.eof or self._pending() or self._rest or self._rows != 0:
            missing = self._pending()
            raise PatchError("patch cut short", expected="its end", got=f"{missing} bytes of the result missing")

    def _exhaust(self, data: bytes) -> Iterator[bytes]:
        yield from self._feed(data)
        self._usable = True  # and not in a `finally`: an error, or chunks left untaken, end the decoder for good

    def _pending(self) -> int:
        return self._left + self._copy + self._add + self._insert

    def _feed(self, data: bytes) -> Iterator[bytes]:
        start = 0
        if self._lzma is None:
            start = HEADER.size - len(self._header)
            self._header += data[:start]
            if len(self._header) < HEADER.size:
                return
            self._lzma = _decompressor(self._header, self._base_length, self._result_length)
        for at in range(start, len(data), _INPUT_PIECE):
            piece = data[at : at + _INPUT_PIECE]
            while piece or not (self._lzma.needs_input or self._lzma.eof):
                plain = self._decompress(self._lzma, piece)
                piece = b""
                yield from self._records(plain)
            if self._lzma.eof and (self._lzma.unused_data or at + _INPUT_PIECE < len(data)):
                raise PatchError("patch", expected="nothing after its end", got="more bytes")

    @staticmethod
    def _decompress(decompressor: lzma.LZMADecompressor, piece: bytes) -> bytes:
        if decompressor.eof:
            raise PatchError("patch", expected="nothing after its end", got="more bytes")
        try:
            return decompressor.decompress(piece, max_length=_PIECE)
        except lzma.LZMAError as error:
            raise PatchError("patch stream", expected="LZMA", got=str(error)) from error

    def _records(self, plain: bytes) -> Iterator[bytes]:
        plain = self._rest + plain
        self._rest = b""
        at, end = 0, len(plain)
        while self._rows != 0:
            try:
                at = self._read_table(plain, at)
            except IndexError:
                self._rest = plain[at:]
                return
        while True:
            while self._copy:
                count = min(self._copy, CHUNK - len(self._out), _PIECE)
                self._out += self._from_base(count)
                self._copy -= count
                if len(self._out) == CHUNK:
                    yield self._chunk()
            while (self._add or self._insert) and at < end:
                count = min(self._add or self._insert, end - at, CHUNK - len(self._out), _PIECE)
                piece = plain[at : at + count]
                at += count
                if self._add:
                    self._out += _sum(self._from_base(count), piece)
                    self._add -= count
                else:
                    self._out += piece
                    self._insert -= count
                if len(self._out) == CHUNK:
                    yield self._chunk()
            if self._add or self._insert:
                return
            self._move()
            if not self._left:
                break
            try:
                at = self._read_record(plain, at)
            except IndexError:  # the record's numbers go on in the next piece
                self._rest = plain[at:]
                return
        if at < end:
            raise PatchError("patch", expected="nothing after the whole result", got=f"{end - at} bytes")
        if self._out:
            yield self._chunk()

    def _read_table(self, plain: bytes, at: int) -> int:
        """Takes the head of the table of moves, or a row; IndexError if its numbers are not all there."""
        if self._rows is None:
            rows, at = _number(plain, at)
            if rows > MAX_MOVES:
                raise PatchError("patch moves", expected=f"at most {MAX_MOVES} rows", got=rows)
            if rows:
                load, at = _number(plain, at)
                ram, at = _number(plain, at)
                ram_length, at = _number(plain, at)
                self._moves = Moves(self._base_length, load, ram, ram_length)
            self._rows = rows
        elif self._moves:
            gap, at = _number(plain, at)
            change, at = _number(plain, at)
            self._moves.add(gap, _signed(change))
            self._rows -= 1
        return at

    def _read_record(self, plain: bytes, at: int) -> int:
        """Takes one record's numbers and checks what they ask for; IndexError if they are not all there."""
        copy, at = _number(plain, at)
        tag, at = _number(plain, at)
        add, insert, seek = tag >> 1, 0, 0
        if tag & 1:
            insert, at = _number(plain, at)
            zigzag, at = _number(plain, at)
            seek = _signed(zigzag)
            if not insert and not seek:
                raise PatchError("patch record", expected="insert or seek", got="neither")
        makes, reads = copy + add + insert, copy + add
        if not makes and not (self._first and seek):
            raise PatchError("patch record", expected="at least one byte", got="none")
        if makes > self._left:
            raise PatchError("patch result", expected=f"at most {self._left} bytes more", got=makes)
        if self._cursor + reads > self._base_length:
            raise PatchError("patch read", expected=f"within {self._base_length} bytes", got=self._cursor + reads)
        if not 0 <= self._cursor + reads + seek <= self._base_length:
            raise PatchError("patch cursor", expected=f"0 to {self._base_length}", got=self._cursor + reads + seek)
        self._copy, self._add, self._insert, self._seek = copy, add, insert, seek
        self._turn = insert - seek
        self._left -= makes
        self._first = False
        return at

    def _move(self) -> None:
        self._cursor += self._seek
        self._way += self._turn
        if self._turn and self._moves:  # what was read ahead is corrected for another way
            self._ahead = b""
        self._seek = self._turn = 0

    def _chunk(self) -> bytes:
        chunk = bytes(self._out)
        self._out.clear()
        return chunk

    def _from_base(self, count: int) -> bytes:
        """The next bytes of the base, at most a piece; small ones come from one read ahead."""
        offset = self._cursor - self._ahead_at
        if offset < 0 or offset + count > len(self._ahead):
            length = min(max(count, _READ_AHEAD), self._base_length - self._cursor)
            self._ahead = b""  # not held beside what replaces it
            if self._moves:
                self._ahead = self._moves.read(self._base, self._cursor, length, self._way)
            else:
                self._ahead = read_exactly(self._base, self._cursor, length)
            self._ahead_at, offset = self._cursor, 0
        self._cursor += count
        return self._ahead[offset : offset + count]


def _decompressor(header: bytes, base_length: int, result_length: int) -> lzma.LZMADecompressor:
    magic, version, properties, window_bits, stated_base, stated_result = HEADER.unpack(header)
    if magic != MAGIC:
        raise PatchError("patch magic", expected=MAGIC.hex(), got=magic.hex())
    if version != FORMAT_VERSION:
        raise PatchError("patch format version", expected=FORMAT_VERSION, got=version)
    if stated_base != base_length:
        raise PatchError("patch base length", expected=base_length, got=stated_base)
    if stated_result != result_length:
        raise PatchError("patch result length", expected=result_length, got=stated_result)
    if not MIN_WINDOW_BITS <= window_bits <= MAX_WINDOW_BITS:
        raise PatchError(
            "patch window", expected=f"2**{MIN_WINDOW_BITS} to 2**{MAX_WINDOW_BITS}", got=f"2**{window_bits}"
        )
    rest, lc = divmod(properties, 9)
    pb, lp = divmod(rest, 5)
    if lc + lp > MAX_LITERAL_BITS or pb > 4:
        raise PatchError("patch LZMA properties", expected=f"lc + lp <= {MAX_LITERAL_BITS}, pb <= 4", got=(lc, lp, pb))
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << window_bits, "lc": lc, "lp": lp, "pb": pb}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)


def _number(plain: bytes, at: int) -> tuple[int, int]:
    byte = plain[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    for place in range(1, _NUMBER_BYTES):
        byte = plain[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if byte == 0 or value > _LIMIT_NUMBER:
                break
            return value, at + place + 1
    raise PatchError(
        "patch number", expected=f"at most {_LIMIT_NUMBER}, in its shortest form", got=plain[at : at + 5].hex()
    )


def _signed(zigzag: int) -> int:
    return (zigzag >> 1) ^ -(zigzag & 1)


def _sum(left: bytes, right: bytes) -> bytes:
    """Adds byte by byte, modulo 256, all at once: the low seven bits cannot carry over, the high bit is an exclusive or."""
    spare = 8 * (_PIECE - len(right))
    low, high = _LOW_BITS >> spare, _HIGH_BITS >> spare
    a, b = int.from_bytes(left, "little"), int.from_bytes(right, "little")
    return (((a & low) + (b & low)) ^ ((a ^ b) & high)).to_bytes(len(right), "little")
