"""A serial line and the USB adapter at its host's end, in virtual time: how fast bytes come out, and what becomes of them on the way.

`LineModel` does no I/O and knows no clock: bytes are pushed in at one end and pulled out at the other, `now` is an argument, in seconds of
any clock that only goes forward. It is modelled simply:

- A byte takes ten bits (start, eight data bits, stop). Each direction is a wire of its own: what is pushed while another byte is under way
  waits for it. A byte that is lost takes its time on the wire like any other; a noise byte comes together with the byte that it precedes.
- Towards the board, a byte is there when its stop bit is over. Towards the host, an adapter with a `latency` collects bytes into packets
  and hands a packet over when it is full, or `latency` after its first byte, whichever is first. (The timer of an FTDI chip runs from the
  packet before: its bytes wait as long at most, and half as long in the mean.) USB's own time, under a millisecond, is not modelled.
- Faults hit bytes by their number within their direction, not by time (`linefaults`), so a run can be repeated.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from hillhold_bootsim.linefaults import Counts, LineFaults, Spoiler
from hillhold_bootsim.uart import BITS_PER_BYTE
from hillhold_verifier.errors import MisuseError

FTDI_PACKET: Final = 62
"""Bytes in a packet of a full-speed FTDI adapter: 64, less two of modem status. Others have 64."""
MAX_QUEUE: Final = 64 * 1024
"""Bytes that a direction holds unless told otherwise; then a writer waits, as at a port whose buffer is full."""
PORT_BUFFER: Final = 4096
"""Bytes that a serial port of Linux takes before its writer waits (one page)."""
_EPSILON: Final = 1e-3
"""Share of a byte's time within which two times are the same: sums of floats differ in their last digits."""


class Direction(Enum):
    """Which way a byte goes."""

    TO_BOARD = "to board"
    TO_HOST = "to host"


@dataclass(slots=True)
class _Wire:
    """One direction: runs of bytes, each with the time of its first byte and the time from byte to byte (0: a packet)."""

    spoiler: Spoiler
    byte_time: float
    latency: float
    packet: int
    free: float = -math.inf
    held: int = 0
    runs: deque[tuple[float, float, bytes]] = field(default_factory=deque)
    open: bytearray = field(default_factory=bytearray)
    """The packet that the adapter collects."""
    deadline: float = math.inf

    def push(self, data: bytes, now: float) -> None:
        begin = max(now, self.free)
        self.free = begin + len(data) * self.byte_time
        for number, run in self.spoiler.spoil(data):
            first = begin + (number + 1) * self.byte_time
            self.held += len(run)
            if self.latency > 0:
                self._collect(first, run)
            else:
                self.runs.append((first, self.byte_time, run))

    def _collect(self, first: float, run: bytes) -> None:
        step, slack = self.byte_time, self.byte_time * _EPSILON
        at = 0
        while at < len(run):
            came = first + at * step
            if came > self.deadline + slack:
                self._hand_over(self.deadline)
            if not self.open:
                self.deadline = came + self.latency
            in_time = int((self.deadline - came) / step) + 1
            count = min(self.packet - len(self.open), in_time, len(run) - at)
            self.open += run[at : at + count]
            at += count
            if len(self.open) == self.packet:
                self._hand_over(first + (at - 1) * step)

    def _hand_over(self, time: float) -> None:
        self.runs.append((time, 0.0, bytes(self.open)))
        self.open.clear()
        self.deadline = math.inf

    def pull(self, now: float) -> bytes:
        if now >= self.deadline:
            self._hand_over(self.deadline)
        slack = self.byte_time * _EPSILON
        out = []
        while self.runs and (first := self.runs[0][0]) <= now + slack:
            _, step, run = self.runs.popleft()
            count = int((now - first + slack) / step) + 1 if step else len(run)
            out.append(run[:count])
            if count < len(run):
                self.runs.appendleft((first + count * step, step, run[count:]))
                break
        data = b"".join(out)
        self.held -= len(data)
        self.spoiler.counts.delivered += len(data)
        return data

    def next_event(self) -> float:
        if not self.runs:
            return self.deadline
        first, step, run = self.runs[0]
        return first + (len(run) - 1) * step

    def clear(self) -> None:
        self.spoiler.counts.cleared += self.held
        self.runs.clear()
        self.open.clear()
        self.held, self.free, self.deadline = 0, -math.inf, math.inf


class LineModel:
    """Both directions of a line.

    Args:
        baud: bits per second.
        to_board: faults towards the board.
        to_host: faults towards the host.
        latency: seconds that the adapter waits for more bytes to the host; 0: there is no adapter, each byte comes by itself.
        packet: bytes in a packet of the adapter.
        queue: bytes that each direction takes before a writer has to wait.
        seed: of all faults.

    Raises:
        MisuseError: `baud`, `latency`, `packet` or `queue` that no line has.
    """

    def __init__(
        self,
        baud: int = 115200,
        *,
        to_board: LineFaults | None = None,
        to_host: LineFaults | None = None,
        latency: float = 0.0,
        packet: int = FTDI_PACKET,
        queue: int = MAX_QUEUE,
        seed: int = 0,
    ) -> None:
        if min(baud, packet, queue) < 1 or not 0 <= latency < math.inf:
            raise MisuseError(
                f"line: expected baud, packet and queue above 0 and a latency, got {baud}, {packet}, {queue} and {latency}"
            )
        self._queue = queue
        byte_time = BITS_PER_BYTE / baud
        self._wires = {
            way: _Wire(Spoiler(faults or LineFaults(), f"{seed}/{way.value}"), byte_time, wait, packet)
            for way, faults, wait in (
                (Direction.TO_BOARD, to_board, 0.0),
                (Direction.TO_HOST, to_host, latency),
            )
        }

    def room(self, direction: Direction) -> int:
        """Return how many bytes a push takes; 0 while `queue` bytes have not been pulled."""
        return max(0, self._queue - self._wires[direction].held)

    def push(self, direction: Direction, data: bytes, now: float) -> int:
        """Put bytes on the line at one end; returns how many it took, which are fewer where there is no room."""
        taken = data[: self.room(direction)]
        self._wires[direction].push(taken, now)
        return len(taken)

    def pull(self, direction: Direction, now: float) -> bytes:
        """Take what has come out at the other end by now."""
        return self._wires[direction].pull(now)

    def next_event(self) -> float | None:
        """Return when a pull is worth while: a packet is handed over, or all of a push has come out (or of a run of it, between
        faults). None where nothing is under way. A pull before that may give bytes, too."""
        event = min(wire.next_event() for wire in self._wires.values())
        return None if event == math.inf else event

    def clear(self) -> None:
        """Lose what is under way, as when the adapter is unplugged. The bytes have been counted: later faults do not move."""
        for wire in self._wires.values():
            wire.clear()

    def counts(self, direction: Direction) -> Counts:
        """Return what was done so far, as it goes on."""
        return self._wires[direction].spoiler.counts
