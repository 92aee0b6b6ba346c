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
AWAY_PAUSE: Final = 0.2
"""Seconds between two looks for it."""


class StreamError(OperationalError):
    """A stream failed: the port is gone, or takes no more bytes."""


class Stream(Protocol):
    """Bytes to and from a board."""

    def write(self, data: bytes, /) -> object:
        """Send all of `data`; raises `StreamError`."""

    def read(self, timeout: float, /) -> bytes:
        """Return what has come, waiting at most `timeout` seconds for the first byte; b"" where nothing came; raises `StreamError`."""

    def reopen(self) -> None:
        """Open it anew after it failed; raises `OperationalError` while it is not there."""

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
        notice: told in words that the port is away, and that it is back.

    Attributes:
        exchange: as given.
        traffic: bytes so far.
    """

    def __init__(
        self, stream: Stream, exchange: Exchange | None = None, notice: Callable[[str], None] = lambda _: None
    ) -> None:
        self._stream, self._notice = stream, notice
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
            except StreamError as error:
                if not self.traffic.received:
                    raise  # it never worked
                self._come_back(error)
                continue
            self.traffic.received += len(data)
            exchange.receive(data, monotonic())
        result: T = exchange.result  # type: ignore[assignment]
        return result

    def _come_back(self, error: StreamError) -> None:
        """Wait for the port to be there again; raises the error where it is not within `AWAY` seconds."""
        self._notice(f"the port is away ({error}); waiting for it")
        end = monotonic() + AWAY
        while True:
            try:
                self._stream.reopen()
                break
            except OperationalError:
                if monotonic() > end:
                    raise error from None
                sleep(AWAY_PAUSE)
        self._notice("the port is back")
        self.exchange.reopened(monotonic())


class _Port:
    """A pyserial port as a `Stream`; `connect` opens it, now and whenever it was away."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._port = connect()

    def reopen(self) -> None:
        self.close()
        self._port = self._connect()

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

    def set_dtr(self, level: bool) -> None:
        try:
            self._port.dtr = level
        except OSError as error:
            raise StreamError(f"{self._port.name}: {reason_of(error)}") from None

    def close(self) -> None:
        self._port.close()


def set_dtr(stream: Stream, level: bool) -> None:
    """Set a serial port's DTR, which some boards have wired to their reset; raises `OperationalError` where there is none."""
    if not isinstance(stream, _Port):
        raise OperationalError("DTR: expected a serial port, got another stream")
    stream.set_dtr(level)


def open_port(name: str, baud: int = 115200, find: Callable[[], str] | None = None) -> Stream:
    """Open a serial port, a pseudo-terminal or `socket://HOST:PORT`.

    Args:
        find: tells the port's name when it comes back, which may be another then.

    Raises:
        OperationalError: pyserial is not installed, or the port cannot be opened, or another program or a login has it.
    """
    try:
        import serial
    except ImportError:
        raise OperationalError("serial ports need pyserial: pip install 'hillhold-verifier[serial]'") from None
    names = [name]

    def connect() -> Any:
        where = names.pop() if names else find() if find else name
        try:
            return serial.serial_for_url(
                where, baudrate=baud, timeout=READ_PAUSE, write_timeout=WRITE_TIMEOUT, exclusive=True
            )
        except (ValueError, OSError) as error:  # a SerialException is an OSError
            raise open_error(where, error) from None

    return _Port(connect)
