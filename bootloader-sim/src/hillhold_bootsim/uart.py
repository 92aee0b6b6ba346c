"""The board's UART on a pseudo-terminal or a TCP port.

`PtyLine` makes a pseudo-terminal and, under a path of the caller's, a symbolic link to it, which is replaced atomically and removed at the
end. `TcpLine` listens; one peer at a time, a second one is turned away at once. Either way peers come and go while the board stays
as it is. Like a UART, the line has no flow control: what nobody reads is lost beyond MAX_PENDING bytes.

`serve` joins a line and a board until its stop event is set. Clocks are arguments; signals are the caller's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import socket
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from hillhold_bootsim.board import VirtualBoard
from hillhold_verifier.errors import MisuseError, OperationalError

CHUNK: Final = 4096
"""Bytes that are taken off the line at a time."""
MAX_PENDING: Final = 256 * 1024
"""Bytes of answers that wait for a slow peer; more than any answer is long."""
TICK_SECONDS: Final = 0.02
"""The board's timer runs at least this often, and so often is the stop event looked at."""
BITS_PER_BYTE: Final = 10
"""Start bit, eight bits, stop bit."""
LOOPBACK: Final = "127.0.0.1"


@dataclass(slots=True)
class Traffic:
    """Bytes over the line, as the board sees them."""

    received: int = 0
    sent: int = 0

    def seconds(self, baud: int) -> float:
        """Return how long these bytes take on a line of so many bits per second that carries one direction at a time."""
        return line_seconds(self.received + self.sent, baud)


def line_seconds(count: int, baud: int) -> float:
    """Return how long so many bytes take on a line of so many bits per second."""
    return count * BITS_PER_BYTE / baud


class Line(Protocol):
    """A byte line whose peer may come and go."""

    @property
    def name(self) -> str:
        """What a peer opens."""

    def exchange(self, pending: bytes, timeout: float, room: int = CHUNK) -> tuple[bytes, int]:
        """Wait up to `timeout` seconds; return what came, at most `room` bytes, and how many bytes of `pending` are done with (sent, or
        lost with the peer)."""

    def close(self) -> None:
        """Give everything back."""


def serve(
    board: VirtualBoard,
    line: Line,
    stop: threading.Event,
    clock: Callable[[], int | None],
    timer: Callable[[], float],
    traffic: Traffic | None = None,
) -> Traffic:
    """Serve a board on a line until `stop` is set; the line stays open, and the board as it is.

    Args:
        board: switched on by the caller.
        line: an open line.
        stop: ends the loop, within TICK_SECONDS.
        clock: Unix seconds for the agent, or None for a board without a clock.
        timer: seconds that only go forward, for the application.
        traffic: counted on, where given.

    Raises:
        OperationalError: the line failed, or the flash's file.
    """
    counted = Traffic() if traffic is None else traffic
    pending = b""
    while not stop.is_set():
        data, done = line.exchange(pending, TICK_SECONDS)
        pending = pending[done:]
        if data:
            counted.received += len(data)
            answer = board.feed(data, clock())
            counted.sent += len(answer)
            pending = (pending + answer)[:MAX_PENDING]
        board.tick(timer())
    return counted


class PtyLine:
    """A pseudo-terminal in raw mode.

    Args:
        link: a symbolic link to it is made here; another link of that name is replaced, anything else is not.

    Raises:
        OperationalError: no pseudo-terminals here, or `link` is not ours to replace.
    """

    def __init__(self, link: Path | None = None) -> None:
        if sys.platform == "win32":
            raise OperationalError("no pseudo-terminals on Windows: listen on TCP and connect to socket://HOST:PORT")
        import tty

        try:
            # The board's own handle of the terminal stays open: otherwise every peer that leaves would break the line.
            self._board, self._terminal = os.openpty()
        except OSError as error:
            raise OperationalError(f"no pseudo-terminal: {error.strerror}") from error
        self.path = os.ttyname(self._terminal)
        self._link: Path | None = None
        try:
            tty.setraw(self._terminal)
            os.set_blocking(self._board, False)
            if link is not None:
                _replace_link(link, self.path)
                self._link = link
        except OSError as error:
            self.close()
            raise OperationalError(f"cannot link {link} to {self.path}: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The link, or the terminal where there is none."""
        return str(self._link or self.path)

    def exchange(self, pending: bytes, timeout: float, room: int = CHUNK) -> tuple[bytes, int]:
        """As `Line`. A terminal that nobody reads fills up, and holds what is pending."""
        try:
            readable, writable, _ = select.select(
                [self._board] if room else [], [self._board] if pending else [], [], timeout
            )
            sent = os.write(self._board, pending[:CHUNK]) if writable else 0
            return (os.read(self._board, room) if readable else b""), sent
        except BlockingIOError:
            return b"", 0
        except OSError as error:
            raise OperationalError(f"pseudo-terminal {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the terminal; remove the link if it still leads here."""
        if self._link is not None:
            with contextlib.suppress(OSError):
                if self._link.readlink() == Path(self.path):
                    self._link.unlink()
            self._link = None
        for handle in (self._board, self._terminal):
            with contextlib.suppress(OSError):
                os.close(handle)


class TcpLine:
    """A TCP port.

    Args:
        host: where to listen; anything but loopback lets the network at the board.
        port: 0 for any; `address` tells which.

    Raises:
        OperationalError: the address cannot be had.
    """

    def __init__(self, host: str = LOOPBACK, port: int = 0) -> None:
        self._peer: socket.socket | None = None
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family)
        except (OSError, OverflowError) as error:
            raise OperationalError(f"cannot listen on {host}:{port}: {error}") from error
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]

    @property
    def name(self) -> str:
        """`socket://HOST:PORT`."""
        host, port = self.address
        return f"socket://[{host}]:{port}" if ":" in host else f"socket://{host}:{port}"

    def exchange(self, pending: bytes, timeout: float, room: int = CHUNK) -> tuple[bytes, int]:
        """As `Line`. Without a peer, what is pending is lost."""
        if self._peer is None:
            self._wait(timeout)
            return b"", len(pending)
        peer = self._peer
        reading = [peer, self._listener] if room else [self._listener]
        readable, writable, _ = select.select(reading, [peer] if pending else [], [], timeout)
        # A peer that has just left may have been replaced already: only one that is there, and silent, has another turned away.
        if self._listener in readable and peer not in readable:
            self._turn_away()
        try:
            sent = peer.send(pending[:CHUNK]) if writable else 0
            data = peer.recv(room) if peer in readable else b""
        except BlockingIOError:
            return b"", 0
        except OSError:
            self._hang_up()
            return b"", len(pending)
        if peer in readable and not data:
            self._hang_up()
            return b"", len(pending)
        return data, sent

    def close(self) -> None:
        """Close the port, and the connection if there is one."""
        self._hang_up()
        self._listener.close()

    def _wait(self, timeout: float) -> None:
        if select.select([self._listener], [], [], timeout)[0]:
            with contextlib.suppress(OSError):  # a peer that is gone already
                peer, _ = self._listener.accept()
                peer.setblocking(False)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._peer = peer

    def _turn_away(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.accept()[0].close()

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None


def parse_address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `[IPV6]:PORT` or `:PORT`, which is loopback.

    Raises:
        MisuseError: none of these.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port.isascii() and port.isdecimal()) or len(port) > 5 or int(port) > 65535:
        raise MisuseError(f"address {text!r}: expected HOST:PORT")
    return host or LOOPBACK, int(port)


def _replace_link(link: Path, target: str) -> None:
    """Point a symbolic link at `target`, in one step."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISLNK(link.lstat().st_mode):
            raise OperationalError(f"{link} exists and is not a symbolic link: not replaced")
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(8)}")
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
