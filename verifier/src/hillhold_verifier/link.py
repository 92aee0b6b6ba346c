"""A serial link to a board: carries a courier's conversation over a byte stream, and sends lost requests again.

The byte stream is anything with `write` and `read`; `open_port` makes one of a serial port, a pseudo-terminal or `socket://HOST:PORT`.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, Final, Protocol, TypeVar

from hillhold_verifier.answers import Body
from hillhold_verifier.conversation import Pause, Request
from hillhold_verifier.errors import OperationalError, SmpError
from hillhold_verifier.hints import open_error, reason_of
from hillhold_verifier.smp import Message, decode, encode
from hillhold_verifier.smp_console import ConsoleDecoder, Packet, encode_console

T = TypeVar("T")

TIMEOUT: Final = 2.0
SLOW_TIMEOUT: Final = 30.0
TRIES: Final = 4
BOOT_TRIES: Final = 20
"""How often a request is sent to a board that boots: 40 s, more than watchdogs and swaps take."""
WRITE_TIMEOUT: Final = 30.0
"""Seconds after which a port that takes no bytes counts as failed; the longest frame takes 23 s at 9600 baud."""
MAX_ANSWER: Final = 16384
"""Bytes of a response."""
READ_PAUSE: Final = 0.05
"""Seconds that one read may wait."""


class Stream(Protocol):
    """Bytes to and from a board."""

    def write(self, data: bytes, /) -> object:
        """Send all of `data`."""

    def read(self, timeout: float, /) -> bytes:
        """Return what has come, waiting at most `timeout` seconds for the first byte; b"" where nothing came."""

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
        timeout: seconds after which a request counts as lost.
        slow_timeout: the same for requests on which a board erases, hashes or patches.
        tries: how often a request is sent before the board counts as gone.
    """

    def __init__(
        self, stream: Stream, *, timeout: float = TIMEOUT, slow_timeout: float = SLOW_TIMEOUT, tries: int = TRIES
    ) -> None:
        self._stream, self._tries = stream, tries
        self._timeouts = {False: timeout, True: slow_timeout}
        self._decoder = ConsoleDecoder(MAX_ANSWER)
        self._sequence = 0
        self.traffic = Traffic()

    def run(self, conversation: Conversation[T]) -> T:
        """Carry a conversation to its end, and return its result.

        Raises:
            OperationalError: no answer after so many tries.
            Whatever the conversation raises.
        """
        answer: Body = {}
        try:
            step = next(conversation)
            while True:
                if isinstance(step, Pause):
                    sleep(step.seconds)
                    answer = {}
                else:
                    answer = self._ask(step)
                step = conversation.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _ask(self, request: Request) -> Body:
        sequence = self._sequence
        self._sequence = (sequence + 1) % 256
        frame = encode_console(encode(Message(request.op, request.group, request.command, sequence, request.body)))
        timeout = self._timeouts[request.slow]
        tries = 1 if request.once else max(self._tries, BOOT_TRIES) if request.booting else self._tries
        for _ in range(tries):
            self._stream.write(frame)
            self.traffic.sent += len(frame)
            if (answer := self._await(request, sequence, timeout)) is not None:
                return answer
        if request.once:
            return {}
        asked = "asked once" if tries == 1 else f"asked {tries} times"
        raise OperationalError(f"no answer from the board in {timeout:g} s, {asked}")

    def _await(self, request: Request, sequence: int, timeout: float) -> Body | None:
        end = monotonic() + timeout
        while (left := end - monotonic()) > 0:
            data = self._stream.read(min(left, READ_PAUSE))
            self.traffic.received += len(data)
            for event in self._decoder.feed(data):
                if not isinstance(event, Packet):
                    continue
                try:
                    message = decode(event.data)
                except SmpError:
                    continue
                wanted = (request.op + 1, request.group, request.command, sequence)
                if (message.op, message.group, message.command, message.sequence) == wanted:
                    return message.body
        return None


class _Port:
    """A pyserial port as a `Stream`."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def write(self, data: bytes, /) -> object:
        try:
            return self._port.write(data)
        except OSError as error:
            raise OperationalError(f"{self._port.name}: {reason_of(error)}") from None

    def read(self, timeout: float, /) -> bytes:
        try:
            self._port.timeout = timeout
            first = self._port.read(1)
            self._port.timeout = 0
            return bytes(first + self._port.read(4096)) if first else b""
        except OSError as error:
            raise OperationalError(f"{self._port.name}: {reason_of(error)}") from None

    def close(self) -> None:
        self._port.close()


def open_port(name: str, baud: int = 115200) -> Stream:
    """Open a serial port, a pseudo-terminal or `socket://HOST:PORT`.

    Raises:
        OperationalError: pyserial is not installed, or the port cannot be opened, or another program or a login has it.
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
