"""A modelled line between two real ports: any program on the near side talks through it to whatever is on the far side.

The near side is a pseudo-terminal or a TCP port (`uart`), the far side a port that `hillhold_verifier.link` opens. Either may go away and
come back: the far side is opened again until it is there, and meanwhile what is sent to it is lost, as on a wire that leads nowhere.
A script can unplug the adapter: then the near side is gone for a while, and all that is under way is lost.

A far port that takes nothing may block its writer; so it has a thread, and the near side goes on. Memory is bounded on every way: the line
takes no more than its queue, which makes a writer wait, and bytes that a reader leaves beyond MAX_PENDING are lost, as on a UART.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from hillhold_bootsim.line import Direction, LineModel
from hillhold_bootsim.uart import CHUNK, MAX_PENDING, Line
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.link import Stream

POLL_SECONDS: Final = 0.001
"""How late a byte may come, beside what the machine itself adds; about what USB takes."""
REOPEN_SECONDS: Final = 0.1
LEAVE_SECONDS: Final = 0.5
"""How long a far port that blocks is waited for at the end."""


@dataclass(frozen=True, slots=True)
class Unplug:
    """The adapter is pulled out once so many bytes have been taken towards the board, for so many seconds."""

    after: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Unplug:
        """Read `AFTER_BYTES:SECONDS`.

        Raises:
            MisuseError: it is not that, or too long for a life.
        """
        after, _, seconds = text.partition(":")
        with suppress(ValueError):
            if after.isascii() and after.isdecimal() and 0 < float(seconds) <= 86400:
                return cls(int(after), float(seconds))
        raise MisuseError(f"unplug {text!r}: expected AFTER_BYTES:SECONDS, such as 20000:1.5")


class _Far:
    """The far port and its thread."""

    def __init__(self, open_far: Callable[[], Stream]) -> None:
        self._open = open_far
        self._stream: Stream | None = open_far()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._came, self._going = bytearray(), bytearray()
        self.lost = 0
        self.notes: deque[str] = deque()
        self._thread = threading.Thread(target=self._run, name="far side of the line", daemon=True)
        self._thread.start()

    def take(self, room: int) -> bytes:
        """Return up to `room` bytes of what came."""
        with self._lock:
            data = bytes(self._came[:room])
            del self._came[:room]
        return data

    def give(self, data: bytes) -> None:
        """Send `data` soon, or lose it."""
        with self._lock:
            room = MAX_PENDING - len(self._going) if self._stream is not None else 0
            self._going += data[:room]
            self.lost += len(data[room:])

    def close(self) -> None:
        self._stop.set()
        self._thread.join(LEAVE_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._stream is None:
                    stream = self._open()
                    with self._lock:
                        self._stream = stream
                    self.notes.append("the far side is back")
                self._exchange(self._stream)
            except OperationalError as error:
                self._lose(error)
                self._stop.wait(REOPEN_SECONDS)
        if self._stream is not None:
            self._stream.close()

    def _exchange(self, stream: Stream) -> None:
        if len(self._came) < CHUNK:
            data = stream.read(POLL_SECONDS)
        else:
            data = b""
            self._stop.wait(POLL_SECONDS)
        with self._lock:
            self._came += data
            going = bytes(self._going[:CHUNK])
        if going:
            stream.write(going)
            with self._lock:
                del self._going[: len(going)]

    def _lose(self, error: OperationalError) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
            self.lost += len(self._going)
            self._going.clear()
        if stream is not None:
            self.notes.append(f"the far side is gone: {error}")
            with suppress(OperationalError, OSError):
                stream.close()


class LineFront:
    """Runs a model between a near and a far side.

    Args:
        model: the line.
        open_near: makes the near side; called again after each unplugging.
        open_far: opens the far side; called again whenever it has gone.
        timer: seconds that only go forward.
        unplugs: what is to be unplugged; each once.
        report: told in a few words what happens to the two sides.

    Attributes:
        near: the near side, None while it is unplugged.
        name: what a program opens there.
        unplugged: how often that was.

    Raises:
        OperationalError: a side that cannot be opened now.
    """

    def __init__(
        self,
        model: LineModel,
        open_near: Callable[[], Line],
        open_far: Callable[[], Stream],
        timer: Callable[[], float],
        unplugs: Sequence[Unplug] = (),
        report: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.model, self._open_near, self._timer, self._report = model, open_near, timer, report
        self._unplugs = deque(sorted(unplugs, key=lambda unplug: unplug.after))
        self._pending = b""
        self._back = 0.0
        self._lost = 0
        self.unplugged = 0
        self.near: Line | None = open_near()
        self.name = self.near.name
        try:
            self._far = _Far(open_far)
        except BaseException:
            self.near.close()
            raise

    @property
    def lost(self) -> int:
        """Bytes that came while the adapter was unplugged or the far side gone, or that nobody read."""
        return self._lost + self._far.lost

    def run(self, stop: threading.Event) -> None:
        """Carry bytes until `stop` is set.

        Raises:
            OperationalError: the near side failed, or could not be plugged in again.
        """
        while not stop.is_set():
            self._plug()
            self._carry_to_board(stop)
            self._carry_to_host()
            while self._far.notes:
                self._report(self._far.notes.popleft())

    def close(self) -> None:
        """Give both sides back. A far port that blocks is closed by its thread, once it no longer does."""
        if self.near is not None:
            self.near.close()
            self.near = None
        self._far.close()

    def _plug(self) -> None:
        if self.near is None:
            if self._timer() >= self._back:
                self.near = self._open_near()
                self._report("plugged in again")
        elif self._unplugs and self.model.counts(Direction.TO_BOARD).received >= self._unplugs[0].after:
            unplug = self._unplugs.popleft()
            near, self.near = self.near, None
            near.close()
            self.model.clear()
            self._lost += len(self._pending)
            self._pending = b""
            self.unplugged += 1
            self._back = self._timer() + unplug.seconds
            self._report(f"unplugged for {unplug.seconds:g} s")

    def _carry_to_board(self, stop: threading.Event) -> None:
        event = self.model.next_event()
        wait = POLL_SECONDS if event is None else max(0.0, min(POLL_SECONDS, event - self._timer()))
        if self.near is None:
            stop.wait(POLL_SECONDS)
        else:
            room = min(CHUNK, self.model.room(Direction.TO_BOARD))
            if self._unplugs:
                room = min(room, self._unplugs[0].after - self.model.counts(Direction.TO_BOARD).received)
            data, done = self.near.exchange(self._pending, wait, room)
            self._pending = self._pending[done:]
            self.model.push(Direction.TO_BOARD, data, self._timer())
        if data := self.model.pull(Direction.TO_BOARD, self._timer()):
            self._far.give(data)

    def _carry_to_host(self) -> None:
        data = self._far.take(self.model.room(Direction.TO_HOST))
        if self.near is None:
            self._lost += len(data)
            return
        self.model.push(Direction.TO_HOST, data, self._timer())
        self._pending += self.model.pull(Direction.TO_HOST, self._timer())
        self._lost += len(self._pending[MAX_PENDING:])
        self._pending = self._pending[:MAX_PENDING]
