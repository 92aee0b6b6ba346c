"""Which transport a board speaks: found by a question that writes nothing on it, sans-I/O.

The MCUmgr parameters are asked for over console and over raw, in turns, until something answers: the line may be silent because the board
still boots. Where console answers, COBS is tried: only a board of ours knows it. It is not tried before: a raw receiver takes the head
of a COBS frame for that of a long message, while it drops a console frame at its first byte.

What another probe left of a line is ended before console is used: Zephyr's console ignores the rest of a line. The end goes alone, some
time before the frame: Zephyr's shell takes what comes together with it for a command.
"""

from __future__ import annotations

from typing import Final

from hillhold_verifier.conversation import Request
from hillhold_verifier.errors import NoAnswerError
from hillhold_verifier.framing import Transport
from hillhold_verifier.smp import Group, Op, OsCommand

PARAMETERS: Final = Request(Op.READ, Group.OS, OsCommand.MCUMGR_PARAMETERS, {})
"""The question. A board without these parameters answers as well: that there are none."""
COBS_TRIES: Final = 2
"""How often COBS is tried: one frame may be lost."""
LINE_END: Final = b"\n"
LINE_PAUSE: Final = 0.1
"""Seconds between the end of a line and a console frame."""


class Probing:
    """Asks around.

    Args:
        patience: seconds until a silent line counts as one without a board.
        wait: seconds for one answer.
        baud: for the message.

    Attributes:
        due: when `poll` has something to do next.
        found: the transport, once it is known.
    """

    def __init__(self, patience: float, wait: float, baud: int) -> None:
        self._patience, self._wait, self._baud = patience, wait, baud
        self._began: float | None = None
        self._asked = 0.0
        self._turn = Transport.CONSOLE
        self._clean = True
        self._cobs_left: int | None = None
        self.due = 0.0
        self.found: Transport | None = None

    def poll(self, now: float) -> Transport | bytes | None:
        """Return over which transport to ask now, or what to send as it is, or None.

        Args:
            now: seconds of a clock that only goes forward.

        Raises:
            NoAnswerError: nothing answered in time.
        """
        self._began = now if self._began is None else self._began
        if now < self.due:
            return None
        if self._cobs_left is not None:
            if self._cobs_left == 0:
                if not self._clean:
                    return self._end_line(now)
                self.found = Transport.CONSOLE
                return None
            self._cobs_left -= 1
            self._clean = False
            self.due = now + self._wait
            return Transport.COBS
        if now - self._began >= self._patience:
            raise NoAnswerError(
                f"no answer from the board in {self._patience:g} s at {self._baud} baud; tried console and raw"
            )
        if self._turn is Transport.CONSOLE and not self._clean:
            return self._end_line(now)
        asked, self._asked, self.due = self._turn, now, now + self._wait
        self._clean = asked is Transport.CONSOLE
        self._turn = Transport.RAW if asked is Transport.CONSOLE else Transport.CONSOLE
        return asked

    def _end_line(self, now: float) -> bytes:
        self._clean, self.due = True, now + LINE_PAUSE
        return LINE_END

    def answered(self, transport: Transport, now: float) -> None:
        """Take note of an answer."""
        if transport is not Transport.CONSOLE:
            self.found = transport
        elif self._cobs_left is None:
            self._cobs_left = COBS_TRIES
            self._wait = max(self._wait / 2, 4 * (now - self._asked))
            self.due = now
