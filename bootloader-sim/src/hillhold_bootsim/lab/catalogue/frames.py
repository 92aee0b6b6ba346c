"""Bytes on the line that are no messages, or no right ones: the board finds its feet again, and serves whoever comes next."""

from __future__ import annotations

import struct
from typing import Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_verifier.framing import Transport, cobs, frame
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, Message, Op, encode

FRAME_CASES: Final = Book("line")
_add = FRAME_CASES.add
STAYS = "It answers none of it, starts nothing, and serves whoever comes next."
SOURCES: Final = (of.SYSTEM_TESTING, *kinds.LIMITS, *kinds.MALFORMED, *kinds.AVAILABLE)
SMP: Final = ("smp",)
_HEADER: Final = struct.Struct(">BBHHBB")


def _echo(bench: Bench, length: int = 20) -> bytes:
    return encode(Message(Op.WRITE, Group.OS, 0, 1, {"d": bench.noise("echo", length).hex()}))


@_add(
    "frames-console",
    "Console frames that are damaged in every way",
    how="Lines with a wrong start, wrong base64, a wrong CRC, wrong lengths, continuations of nothing, and frames that never end.",
    expected=STAYS,
    sources=SOURCES,
    needs=SMP,
)
def frames_console(bench: Bench) -> None:
    right = frame(_echo(bench), Transport.CONSOLE)
    for data in (
        b"\x06\x09\n",
        b"\x06\x09!!!!\n",
        b"\x06\x09AAA\n",
        right[:-5] + b"AAAA\n",
        right[:2] + b"//8" + right[5:],
        b"\x04\x14" + right[2:],
        right[: len(right) // 2],
        b"\n" + right[: len(right) // 2] + right,
        b"\x06\x09" + b"A" * 300 + b"\n",
        b"\x06\x09\x06\x09\x04\x14\n",
    ):
        bench.line(data, listen=0.3)


@_add(
    "frames-cobs",
    "COBS frames that are damaged in every way",
    how="Codes that lead beyond the end, empty frames, a wrong CRC, frames without an end, and delimiters alone.",
    expected=STAYS,
    sources=SOURCES,
    needs=SMP,
)
def frames_cobs(bench: Bench) -> None:
    right = frame(_echo(bench), Transport.COBS)
    for data in (
        b"\0" * 300,
        b"\0\xff\x01\0",
        b"\0\x02\0",
        right[:-3] + bytes([right[-3] ^ 1]) + right[-2:],
        right[:8] + b"\0" + right[8:],
        b"\0" + cobs(b"\x02\0" + bytes(400)) + b"\0",
        b"\0\x02" + b"\x01" * 500 + b"\0",
        right[: len(right) // 2],
        b"\0",
    ):
        bench.line(data, listen=0.3)


@_add(
    "frames-raw",
    "Messages without a frame, whole, cut and with wrong lengths",
    how="Messages as they are on a line that frames them, with lengths that promise more than comes, and noise of every kind.",
    expected=STAYS,
    sources=SOURCES,
    needs=SMP,
)
def frames_raw(bench: Bench) -> None:
    right = _echo(bench)
    for data in (
        right[:4],
        right[:2] + b"\xff\xff" + right[4:],
        right[:2] + b"\0\x01" + right[4:],
        bytes(range(256)) * 2,
        bench.noise("line", 2000),
        b"\xff" * 500,
        b"\x0a" + bytes(100),
    ):
        bench.line(data, listen=1.0)


@_add(
    "line-without-end",
    "A line of text that does not end",
    how="Base64 without an end of line, 200,000 bytes of it: bare, and behind the start of a frame.",
    expected="It keeps a bounded part of it, and serves whoever comes next.",
    sources=(of.TUF_ENDLESS, *SOURCES),
    needs=SMP,
)
def line_without_end(bench: Bench) -> None:
    for start in (b"", b"\x06\x09", b"\x04\x14", b"\0\x02"):
        bench.line(start, listen=0.1)
        for _ in range(50):
            bench.line(b"QUJD" * 250, listen=0.01)
        bench.line(b"\n\0", listen=0.3)


@_add(
    "message-too-long",
    "A message that is longer than the board's buffer",
    how="Right frames around messages of one and a half, four and sixteen times the length that the board states.",
    expected="It takes none of them, and serves whoever comes next.",
    sources=SOURCES,
    needs=SMP,
)
def message_too_long(bench: Bench) -> None:
    for factor in (1.5, 4, 16):
        length = min(int(bench.words.buffer * factor), 8000)
        bench.line(frame(_echo(bench, length // 2), bench.wire.transport), listen=1.0)


@_add(
    "message-malformed",
    "Messages whose header or CBOR body is wrong",
    how="Reserved operations and versions, lengths that do not fit, bodies that are no map, are cut, nested without end, or promise 2**64 "
    "bytes.",
    expected=STAYS,
    sources=(*SOURCES, of.SMP_UNAUTHENTICATED, of.NIST_OUTSIDE),
    needs=SMP,
)
def message_malformed(bench: Bench) -> None:
    bodies = (
        b"",
        b"\xff",
        b"\xa0\xa0",
        b"\x80",
        b"\xa1\x61",
        b"\xa1\x61d\x5b" + b"\xff" * 8,
        b"\xbb" + b"\xff" * 8,
        b"\xa1\x61d" + b"\x81" * 200 + b"\0",
        b"\x9f" * 200,
        b"\xa2\x61d\x01\x61d\x02",
        b"\xbf\x61d\xff",
        b"\xa1\x61d\xfb\x7f\xf8\0\0\0\0\0\0",
        b"\xa1\x61d\xc2\x49" + b"\xff" * 9,
    )
    for group in (Group.OS, Group.IMAGE, HILLHOLD_GROUP):
        for body in bodies:
            _message(bench, _HEADER.pack(2, 0, len(body), group, 1, 1) + body)
    for first in (0x07, 0x1A, 0xE2, 0x03, 0x01):
        _message(bench, _HEADER.pack(first, 0, 1, Group.IMAGE, 1, 1) + b"\xa0")
    for length in (0, 5, 0xFFFF):
        _message(bench, _HEADER.pack(2, 0, length, Group.IMAGE, 1, 1) + b"\xa0")


def _message(bench: Bench, message: bytes) -> None:
    """In a right frame; what cannot be framed is sent as it is."""
    transport = bench.wire.transport
    data = message if transport is Transport.RAW or message[1] else frame(message, transport)
    bench.line(data, listen=0.1)
