"""SMP over a text console (Zephyr, "SMP over console"): packets as lines that share the wire with logs and a shell.

    packet   length u16 · message · CRC-16/XMODEM of the message u16        (big-endian; the length counts message and CRC)
    wire     0x06 0x09 · base64 · newline      the first line of a packet
             0x04 0x14 · base64 · newline      each further line

Each line is base64 of its own. We send lines of at most 123 bytes (30 groups of base64, as the `smp` package does; the protocol
allows 127 with the newline). The decoder takes lines of any length up to one that holds a whole packet.

The decoder reads a stream, in pieces of any size, and never raises on what comes over the line: text between frames is handed out as
`Junk`, what was a packet and cannot be one any more as `Damaged` (once per packet), and it finds its feet again at the next start
marker, even within a line, since neither marker can occur in base64. Text between the lines of one packet does not disturb it.
The events do not depend on how the stream is cut into pieces.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from enum import Enum

from hillhold_verifier.errors import MisuseError

MAX_PACKET = 0xFFFF - 2  # bytes of a message: the length field counts the CRC too
MAX_JUNK = 256  # bytes of text in one event; longer lines come in several
LINE_PAYLOAD = 90  # bytes before base64, 120 after

_START = b"\x06\x09"
_CONTINUE = b"\x04\x14"
_STOP = re.compile(rb"\n|\x06\x09|\x04\x14")
_MARKER_FIRST_BYTES = (_START[:1], _CONTINUE[:1])


@dataclass(frozen=True, slots=True)
class Packet:
    """A whole packet whose CRC is right: the bytes of one message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Junk:
    """Text outside frames: one line without its end, or at most `MAX_JUNK` bytes of it."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Damaged:
    """A packet that was lost, and why."""

    reason: str


Event = Packet | Junk | Damaged


def encode_console(packet: bytes) -> bytes:
    """Frame one message as console lines.

    Raises:
        MisuseError: an empty message, or one longer than `MAX_PACKET`.
    """
    if not 0 < len(packet) <= MAX_PACKET:
        raise MisuseError(f"a console packet has 1 to {MAX_PACKET} bytes, not {len(packet)}")
    raw = (len(packet) + 2).to_bytes(2) + packet + binascii.crc_hqx(packet, 0).to_bytes(2)
    lines = [_START]
    for at in range(0, len(raw), LINE_PAYLOAD):
        lines += [_CONTINUE] if at else []
        lines.append(binascii.b2a_base64(raw[at : at + LINE_PAYLOAD]))
    return b"".join(lines)


class _Line(Enum):
    """What the bytes since the last line end or marker are."""

    TEXT = "text"
    START = "first line of a packet"
    CONTINUE = "further line of a packet"
    OVERLONG = "rest of a line that was given up"


class ConsoleDecoder:
    """Find packets in the bytes of a console.

    Holds at most about 2.4 times `limit` bytes, and `MAX_JUNK`, between calls.
    """

    def __init__(self, limit: int) -> None:
        """Args:
            limit: longest message that is accepted, in bytes.

        Raises:
            MisuseError: a limit outside 1..`MAX_PACKET`.
        """
        if not 0 < limit <= MAX_PACKET:
            raise MisuseError(f"the limit of a console packet is 1 to {MAX_PACKET} bytes, not {limit}")
        self._limit = limit
        self._max_line = (limit + 4 + 2) // 3 * 4 + 1  # length, message and CRC in one line of base64, and "\r"
        self._kind = _Line.TEXT
        self._line = bytearray()
        self._held = b""  # the first byte of what may be a marker
        self._packet: bytearray | None = None  # message and CRC so far
        self._length = 0  # what `_packet` grows to
        self._reported = False  # the loss of the packet that further lines belong to

    @property
    def held(self) -> int:
        """Bytes that are kept between calls."""
        return len(self._line) + len(self._held) + len(self._packet or b"")

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes of the stream; return what they complete, in order."""
        data = self._held + data
        events: list[Event] = []
        at = 0
        for stop in _STOP.finditer(data):
            self._extend(data[at : stop.start()], events)
            self._end_line(events)
            if stop[0] == _START:
                self._begin(events)
            elif stop[0] == _CONTINUE:
                self._kind = _Line.CONTINUE
            at = stop.end()
        self._held = data[-1:] if at < len(data) and data[-1:] in _MARKER_FIRST_BYTES else b""
        self._extend(data[at : len(data) - len(self._held)], events)
        return events

    def _extend(self, piece: bytes, events: list[Event]) -> None:
        if self._kind is _Line.OVERLONG:
            return
        if self._kind is not _Line.TEXT:
            if len(self._line) + len(piece) > self._max_line:
                self._line.clear()
                self._kind = _Line.OVERLONG
                self._lose("a line that is longer than any packet may be", events)
            else:
                self._line += piece
            return
        for at in range(0, len(piece), MAX_JUNK):
            self._line += piece[at : at + MAX_JUNK]
            if len(self._line) >= MAX_JUNK:
                events.append(Junk(bytes(self._line[:MAX_JUNK])))
                del self._line[:MAX_JUNK]

    def _end_line(self, events: list[Event]) -> None:
        line, kind = bytes(self._line.removesuffix(b"\r")), self._kind
        self._line.clear()
        self._kind = _Line.TEXT
        if kind is _Line.TEXT and line:
            events.append(Junk(line))
        elif kind is _Line.START:
            self._start(line, events)
        elif kind is _Line.CONTINUE:
            self._continue(line, events)

    def _begin(self, events: list[Event]) -> None:
        if self._packet is not None:
            self._lose("the next packet began before its end", events)
        self._reported = False
        self._kind = _Line.START

    def _start(self, line: bytes, events: list[Event]) -> None:
        raw = _unbase64(line)
        if raw is None or len(raw) < 2:
            self._lose("a first line that is not base64 of at least a length", events)
            return
        length = int.from_bytes(raw[:2])
        if not 2 < length <= self._limit + 2:
            self._lose(f"a length of {length} where 3 to {self._limit + 2} are allowed", events)
            return
        self._packet, self._length = bytearray(), length
        self._grow(self._packet, raw[2:], events)

    def _continue(self, line: bytes, events: list[Event]) -> None:
        if self._packet is None:
            self._lose("a further line without a first one", events)
            return
        raw = _unbase64(line)
        if raw is None:
            self._lose("a further line that is not base64", events)
            return
        self._grow(self._packet, raw, events)

    def _grow(self, packet: bytearray, raw: bytes, events: list[Event]) -> None:
        if len(packet) + len(raw) > self._length:
            self._lose("more bytes than its length says", events)
            return
        packet += raw
        if len(packet) < self._length:
            return
        if binascii.crc_hqx(bytes(packet), 0) != 0:  # over message and CRC together it is 0
            self._lose("a wrong CRC", events)
            return
        self._packet = None
        events.append(Packet(bytes(packet[:-2])))

    def _lose(self, reason: str, events: list[Event]) -> None:
        """Give up the packet; the lines that may still come for it are no further events."""
        self._packet = None
        if not self._reported:
            events.append(Damaged(reason))
        self._reported = True


def _unbase64(line: bytes) -> bytes | None:
    """Decode canonical base64 (bits after the end are 0), or None."""
    try:
        raw = binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        return None
    return raw if binascii.b2a_base64(raw, newline=False) == line else None
