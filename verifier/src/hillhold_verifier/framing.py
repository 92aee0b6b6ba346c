"""How an SMP message lies on a serial line: three transports, and a receiver that tells them apart (docs/FORMAT.md, "Framing").

    console   base64 lines with a CRC-16, as stock tools speak; shares the line with logs and a shell (`smp_console`)
    COBS      00 · COBS(message · CRC-16/XMODEM, big-endian) · 00      4 % of overhead where both ends are ours
    raw       the message alone, as Zephyr's raw UART: no check, no way back into step but silence; alone on its line

Console and COBS share a line: text and base64 have no byte 0, and no text begins with 1 or 2. A message whose flags are 0 begins, in
COBS, with 02 (or 01 where its first byte is 0); so the byte after a 0 says what follows, and a 0 that noise made, or a break condition,
costs nothing. So does the first byte after a silence: other people's COBS has a 0 at the end of a frame and none before it. The receiver
never raises on what comes, and holds a bounded number of bytes.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from hillhold_verifier.errors import MisuseError
from hillhold_verifier.smp import HEADER_SIZE
from hillhold_verifier.smp_console import ConsoleDecoder, Damaged, Junk, Packet, encode_console

GAP: Final = 0.5
"""Seconds of silence after which the rest of a frame does not come any more."""
COBS_RUN: Final = 254
"""Bytes without a 0 that one code of COBS stands for, at most."""

_DELIMITER: Final = b"\0"
_COBS_FIRST: Final = (1, 2)
_RAW_HEADER: Final = re.compile(rb"[\x00-\x03\x08-\x0b]\x00")
"""Operation and version that SMP defines, and no flags."""


class Transport(Enum):
    """How messages lie on the line."""

    CONSOLE = "console"
    COBS = "cobs"
    RAW = "raw"


SHARED: Final = (Transport.CONSOLE, Transport.COBS)
"""What one line carries side by side."""


@dataclass(frozen=True, slots=True)
class Framed:
    """The bytes of one message, and how they came. Over raw they may be anything that has a header."""

    transport: Transport
    data: bytes


Event: TypeAlias = Framed | Junk | Damaged


def cobs(data: bytes) -> bytes:
    """Encode by consistent overhead byte stuffing (Cheshire and Baker, 1999): the same bytes without a 0, one in 254 more."""
    out = bytearray()
    for run in data.split(_DELIMITER):
        for at in range(0, len(run) - COBS_RUN + 1, COBS_RUN):
            out += b"\xff" + run[at : at + COBS_RUN]
        rest = run[len(run) - len(run) % COBS_RUN :]
        out.append(len(rest) + 1)
        out += rest
    return bytes(out)


def uncobs(data: bytes) -> bytes | None:
    """Decode COBS, or None where a code leads beyond the end."""
    out, at = bytearray(), 0
    while at < len(data):
        code = data[at]
        block = data[at + 1 : at + code]
        if len(block) != code - 1:
            return None
        at += code
        out += block
        if code <= COBS_RUN and at < len(data):
            out.append(0)
    return bytes(out)


def frame(message: bytes, transport: Transport) -> bytes:
    """Frame one message.

    Raises:
        MisuseError: shorter than its header, or too long for the transport; over COBS also one with flags.
    """
    if transport is Transport.CONSOLE:
        return encode_console(message)
    if len(message) < HEADER_SIZE:
        raise MisuseError(f"an SMP message has at least {HEADER_SIZE} bytes, not {len(message)}")
    if transport is Transport.RAW:
        return message
    if message[1]:
        raise MisuseError(f"a message over COBS has no flags, not {message[1]:#04x}")
    return _DELIMITER + cobs(message + binascii.crc_hqx(message, 0).to_bytes(2)) + _DELIMITER


def frame_size(message: int, transport: Transport) -> int:
    """Return the bytes that a message of so many takes on the line, at most."""
    if transport is Transport.RAW:
        return message
    if transport is Transport.COBS:
        return message + 4 + (message + 2) // COBS_RUN + 1
    raw = message + 4
    return (raw + 2) // 3 * 4 + (raw + 89) // 90 * 3


class Receiver:
    """Finds messages in the bytes of a line.

    Args:
        limit: longest message that is accepted, in bytes.
        transports: `SHARED`, a part of it, or RAW alone.

    Raises:
        MisuseError: transports that do not share a line, or a limit that a console packet cannot have.
    """

    def __init__(self, limit: int, transports: Sequence[Transport] = SHARED) -> None:
        self.transports = tuple(transports)
        self._finders: _Shared | _Raw
        if set(transports) == {Transport.RAW}:
            self._finders = _Raw(limit)
        elif transports and set(transports) <= set(SHARED):
            self._finders = _Shared(limit, console=Transport.CONSOLE in transports, cobs=Transport.COBS in transports)
        else:
            names = ", ".join(transport.value for transport in transports)
            raise MisuseError(
                f"transports of one line: expected console, cobs or both, or raw alone, got {names or 'none'}"
            )
        self._heard: float | None = None
        self._fresh = False

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes of the line; return what they complete, in order. How they are cut into pieces does not matter."""
        self._fresh = self._fresh or bool(data)
        return self._finders.feed(data)

    @property
    def held(self) -> int:
        """Bytes that are kept for what is not complete yet; at most 3.5 times the limit and a line of text."""
        return self._finders.held

    @property
    def unfinished(self) -> bytes:
        """Text whose line has not ended."""
        return self._finders.unfinished

    def tick(self, seconds: float) -> list[Event]:
        """Let time pass (seconds of a clock that only goes forward): after `GAP` of silence, what was begun is given up."""
        if self._fresh or self._heard is None:
            self._heard, self._fresh = seconds, False
            return []
        return self._finders.give_up() if seconds - self._heard >= GAP else []


class _Place(Enum):
    TEXT = "text or console lines"
    BEGINNING = "after a delimiter or a silence"
    FRAME = "in a COBS frame"
    OVERLONG = "rest of a frame that was given up"


class _Shared:
    """Console lines, text and COBS frames on one line."""

    def __init__(self, limit: int, *, console: bool, cobs: bool) -> None:
        self._text = ConsoleDecoder(limit)
        self._console, self._cobs = console, cobs
        self._limit = limit + 2 + (limit + 2) // COBS_RUN + 1
        self._place = _Place.BEGINNING
        self._frame = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        if not self._cobs:
            return self._lines(data)
        events: list[Event] = []
        for number, piece in enumerate(data.split(_DELIMITER)):
            if number:
                self._delimiter(events)
            if piece:
                self._piece(piece, events)
        return events

    def give_up(self) -> list[Event]:
        begun, self._place = self._place is _Place.FRAME, _Place.BEGINNING
        self._frame.clear()
        return [Damaged("the end of a frame did not come")] if begun else []

    @property
    def held(self) -> int:
        return self._text.held + len(self._frame)

    @property
    def unfinished(self) -> bytes:
        return self._text.unfinished

    def _piece(self, piece: bytes, events: list[Event]) -> None:
        if self._place is _Place.BEGINNING:
            self._place = _Place.FRAME if piece[0] in _COBS_FIRST else _Place.TEXT
        if self._place is _Place.TEXT:
            events += self._lines(piece)
        elif self._place is _Place.FRAME:
            if len(self._frame) + len(piece) <= self._limit:
                self._frame += piece
                return
            self._frame.clear()
            self._place = _Place.OVERLONG
            events.append(Damaged("a frame that is longer than any may be"))

    def _delimiter(self, events: list[Event]) -> None:
        coded, was = bytes(self._frame), self._place
        self._frame.clear()
        self._place = _Place.BEGINNING
        if was is not _Place.FRAME:
            return
        raw = uncobs(coded)
        if raw is None or len(raw) < HEADER_SIZE + 2 or len(raw) != HEADER_SIZE + int.from_bytes(raw[2:4]) + 2:
            # The CRC alone does not see zeros that follow it.
            events.append(Damaged("a frame that is not as long as its message says"))
        elif binascii.crc_hqx(raw, 0):  # over message and CRC together it is 0
            events.append(Damaged("a wrong CRC"))
        else:
            events.append(Framed(Transport.COBS, raw[:-2]))

    def _lines(self, data: bytes) -> list[Event]:
        found = self._text.feed(data)
        if not self._console:
            return [event for event in found if isinstance(event, Junk)]
        return [Framed(Transport.CONSOLE, event.data) if isinstance(event, Packet) else event for event in found]


class _Raw:
    """Messages one after the other. After something else, the next header that can be one is taken for one."""

    def __init__(self, limit: int) -> None:
        if limit < HEADER_SIZE:
            raise MisuseError(f"the limit of a message is at least {HEADER_SIZE} bytes, not {limit}")
        self._limit = limit
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        self._held += data
        events: list[Event] = []
        while len(self._held) >= HEADER_SIZE:
            length = HEADER_SIZE + int.from_bytes(self._held[2:4])
            if not _RAW_HEADER.match(self._held) or length > self._limit:
                self._skip(events)
            elif len(self._held) < length:
                break
            else:
                events.append(Framed(Transport.RAW, bytes(self._held[:length])))
                del self._held[:length]
        return events

    def give_up(self) -> list[Event]:
        begun = bool(self._held)
        self._held.clear()
        return [Damaged("the end of a message did not come")] if begun else []

    @property
    def held(self) -> int:
        return len(self._held)

    @property
    def unfinished(self) -> bytes:
        return b""

    def _skip(self, events: list[Event]) -> None:
        """Drop what cannot be a header."""
        found = _RAW_HEADER.search(self._held, 1)
        end = found.start() if found else len(self._held) - 1
        events.append(Junk(bytes(self._held[:end])))
        del self._held[:end]
