"""A capture: what went over a line, byte for byte and with times, in a file (docs/FORMAT.md, "Capture").

For whoever has to find out afterwards what happened. It holds all that was sent, firmware included; keys and passphrases are never on
the line. A capture must not disturb what it watches: a disk that fills ends the capture and nothing else.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeGuard

from hillhold_verifier.errors import MisuseError, OperationalError, Refused
from hillhold_verifier.link import Stream

VERSION: Final = 1
MAX_LINE: Final = 1 << 20
"""Bytes of a line of a capture; a write or read of half a megabyte is none of ours."""

_MAX_TIME: Final = 1e9
"""Seconds, 31 years."""


class CaptureError(Refused):
    """Bytes that are not a capture, or not a whole one."""


class Capture:
    """A stream that is watched; it is used in place of the one that it wraps, and closes it.

    Args:
        stream: to and from the board.
        path: a file that does not exist yet.
        port, baud: what the stream is, for the reader.
        start: now, in Unix seconds.
        clock: seconds of a clock that only goes forward.
        failed: told once, in words, when the file cannot be written any more.

    Raises:
        MisuseError: the file exists. Nothing of it was changed, and the stream is open.
        OperationalError: it cannot be made.
    """

    def __init__(
        self,
        stream: Stream,
        path: Path,
        *,
        port: str,
        baud: int,
        start: int,
        clock: Callable[[], float],
        failed: Callable[[str], None],
    ) -> None:
        self._stream, self._clock, self._failed = stream, clock, failed
        self._path = path
        try:
            self._file: io.FileIO | None = io.FileIO(path, "x")  # unbuffered: what is written survives a crash of ours
        except FileExistsError:
            raise MisuseError(
                f"capture {path}: it exists", hint="a capture replaces nothing: name a new file"
            ) from None
        except OSError as error:
            raise OperationalError(f"capture {path}: {error.strerror}") from None
        self._start = clock()
        self._put({"hillhold-capture": VERSION, "port": port, "baud": baud, "start": start})

    def write(self, data: bytes, /) -> object:
        """Send all of `data`; it is in the capture even where that fails."""
        self._bytes(">", data)
        try:
            return self._stream.write(data)
        except OperationalError as error:
            self._event({"e": str(error)})
            raise

    def read(self, timeout: float, /) -> bytes:
        """Return what has come."""
        try:
            data = self._stream.read(timeout)
        except OperationalError as error:
            self._event({"e": str(error)})
            raise
        if data:
            self._bytes("<", data)
        return data

    def reopen(self) -> None:
        """Open the port anew; the capture goes on."""
        self._stream.reopen()

    def close(self) -> None:
        """Let go of the port, and of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._stream.close()

    def _bytes(self, direction: str, data: bytes) -> None:
        self._event({"d": direction, "b": data.hex()})

    def _event(self, values: dict[str, object]) -> None:
        self._put({"t": round(self._clock() - self._start, 6), **values})

    def _put(self, values: dict[str, object]) -> None:
        if self._file is None:
            return
        line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
        try:
            written = self._file.write(line)
            reason = "" if written == len(line) else "the disk is full"
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            self._file.close()
            self._file = None
            self._failed(f"capture {self._path}: {reason}; it ends here, the rest goes on")


@dataclass(frozen=True, slots=True)
class Head:
    """What a capture is of. `start` in Unix seconds, `baud` in bit/s."""

    port: str
    baud: int
    start: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that were written (`sent`) or read at one go, or words: the port failed.

    Attributes:
        time: seconds since the start.
    """

    time: float
    sent: bool
    data: bytes
    failure: str = ""


def read_head(file: BinaryIO) -> Head:
    """Read the first line of a capture.

    Raises:
        CaptureError: it is not one.
    """
    values = _object(_line(file), 1)
    version, port, baud, start = (values.get(name) for name in ("hillhold-capture", "port", "baud", "start"))
    if version != VERSION or isinstance(version, bool):
        raise CaptureError("capture", expected=f"a first line of format {VERSION}", got=f"{version!r}"[:40])
    if not isinstance(port, str) or not _whole(baud) or not _whole(start):
        raise CaptureError("capture", expected="port, baud and start in its first line")
    return Head(port, baud, start)


def read_chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Read what follows the first line, one at a time.

    Raises:
        CaptureError: a line that is not of a capture; what was yielded before is good.
    """
    number, last = 1, 0.0
    while line := _line(file):
        number += 1
        values = _object(line, number)
        time, failure = values.get("t"), values.get("e")
        if isinstance(time, bool) or not isinstance(time, int | float) or not last <= time < _MAX_TIME:
            raise CaptureError(f"capture line {number}", expected=f"a time `t` from {last:g} on", got=f"{time!r}"[:40])
        last = time
        if isinstance(failure, str):
            yield Chunk(time, False, b"", failure)
            continue
        direction, data = values.get("d"), values.get("b")
        if direction not in ("<", ">") or not isinstance(data, str):
            raise CaptureError(f"capture line {number}", expected='`d`, "<" or ">", and `b`')
        try:
            yield Chunk(time, direction == ">", bytes.fromhex(data))
        except ValueError:
            raise CaptureError(f"capture line {number}", expected="`b` in hexadecimal") from None


def _line(file: BinaryIO) -> bytes:
    line = file.readline(MAX_LINE)
    if len(line) == MAX_LINE:
        raise CaptureError("capture", expected=f"lines below {MAX_LINE} bytes")
    return line


def _object(line: bytes, number: int) -> dict[str, object]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):  # a UnicodeDecodeError is a ValueError
        values = None
    if not isinstance(values, dict):
        got = None if line.endswith(b"\n") else "the beginning of one: the file was cut short"
        raise CaptureError(f"capture line {number}", expected="one JSON object", got=got)
    return values


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
