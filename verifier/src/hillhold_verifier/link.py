"""A serial link to a board: an `Exchange` over a byte stream, in real time.

The byte stream is anything with `write` and `read`; `open_port` makes one of a serial port, a pseudo-terminal or `socket://HOST:PORT`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, Final, Protocol

from hillhold_verifier.conversation import Conversation, T
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.exchange import Exchange
from hillhold_verifier.hints import open_error, reason_of

WRITE_TIMEOUT: Final = 30.0
"""Seconds after which a port that takes no bytes counts as failed; the longest frame takes 23 s at 9600 baud."""
READ_PAUSE: Final = 0.05
"""Seconds that one read may wait."""
AWAY: Final = 30.0
"""Seconds that a port may be away: a board with a USB port of its own takes it along when it resets."""


class StreamError(OperationalError):
    """A stream failed: the port is gone, or takes no more bytes."""


class Stream(Protocol):
    """Bytes to and from a board."""

    def write(self, data: bytes, /) -> object:
        """Send all of `data`; raises `StreamError`."""

    def read(self, timeout: float, /) -> bytes:
        """Return what has come, waiting at most `timeout` seconds for the first byte; b"" where nothing came; raises `StreamError`."""

    def close(self) -> None:
        """Let go of the port."""


@dataclass(slots=True)
class Traffic:
    """Bytes on the line, framing included."""

    sent: int = 0
    received: int = 0


class Link:
    """One board on a byte stream.

    Args:
        stream: to and from the board.
        exchange: the host's end.
        reopen: opens the stream anew when it fails (raises `OperationalError` where it is not there yet), or None.

    Attributes:
        exchange: as given.
        traffic: bytes so far.
    """

    def __init__(
        self, stream: Stream, exchange: Exchange | None = None, reopen: Callable[[], Stream] | None = None
    ) -> None:
        self._stream, self._reopen = stream, reopen
        self.exchange = exchange or Exchange()
        self.traffic = Traffic()

    def run(self, conversation: Conversation[T]) -> T:
        """Carry a conversation to its end, and return its result.

        Raises:
            OperationalError: nobody answers, or the stream failed and did not come back.
            Whatever the conversation raises.
        """
        exchange = self.exchange
        exchange.begin(conversation, monotonic())
        while exchange.busy:
            try:
                if out := exchange.poll(monotonic()):
                    self._stream.write(out)
                    self.traffic.sent += len(out)
                due = exchange.due()
                wait = READ_PAUSE if due is None else min(READ_PAUSE, max(due - monotonic(), 0.0))
                data = self._stream.read(wait)
            except StreamError:
                if self._reopen is None:
                    raise
                self._come_back(self._reopen)
                continue
            self.traffic.received += len(data)
            exchange.receive(data, monotonic())
        result: T = exchange.result  # type: ignore[assignment]
        return result

    def close(self) -> None:
        """Let go of the stream."""
        self._stream.close()

    def _come_back(self, reopen: Callable[[], Stream]) -> None:
        """Wait for the port to be there again; raises the stream's error where it is not within `AWAY` seconds."""
        self._stream.close()
        end = monotonic() + AWAY
        while True:
            try:
                self._stream = reopen()
            except OperationalError:
                if monotonic() > end:
                    raise
                sleep(READ_PAUSE)
            else:
                break
        self.exchange.reopened(monotonic())


class _Port:
    """A pyserial port as a `Stream`."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def write(self, data: bytes, /) -> object:
        try:
            return self._port.write(data)
        except OSError as error:
            raise StreamError(f"{self._port.name}: {reason_of(error)}") from None

    def read(self, timeout: float, /) -> bytes:
        try:
            self._port.timeout = timeout
            first = self._port.read(1)
            self._port.timeout = 0
            return bytes(first + self._port.read(4096)) if first else b""
        except OSError as error:
            raise StreamError(f"{self._port.name}: {reason_of(error)}") from None

    def close(self) -> None:
        self._port.close()


def open_port(name: str, baud: int = 115200) -> Stream:
    """Open a serial port, a pseudo-terminal or `socket://HOST:PORT`.

    Raises:
        OperationalError: pyserial is not installed, or the port cannot be opened, or another program has it.
    """
    try:
        import serial
    except ImportError:
        raise OperationalError("serial ports need pyserial: pip install 'hillhold-verifier[serial]'") from None
    try:
        return _Port(
            serial.serial_for_url(name, baudrate=baud, timeout=READ_PAUSE, write_timeout=WRITE_TIMEOUT, exclusive=True)
        )
    except (ValueError, OSError) as error:  # a SerialException is an OSError
        raise open_error(name, error) from None
