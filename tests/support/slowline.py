"""A host and a board at the ends of a modelled line, in virtual time: what takes minutes on a real one takes a second here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hillhold_bootsim.line import Direction, LineModel
from hillhold_verifier.conversation import Conversation, T
from hillhold_verifier.exchange import Exchange

TICK = 0.02
"""Seconds between two ticks of the board's timer."""


class Board(Protocol):
    """A board on a bench."""

    @property
    def seconds(self) -> float: ...

    def feed(self, data: bytes) -> bytes: ...

    def wait(self, seconds: float) -> None: ...


@dataclass
class Rig:
    """Attributes:
    seconds: since the start.
    busy: seconds that the board took for what it just did.
    """

    bench: Board
    exchange: Exchange
    line: LineModel
    seconds: float = 0.0
    busy: Callable[[], float] = lambda: 0.0
    free: float = 0.0

    def run(self, conversation: Conversation[T], limit: float = 36_000.0) -> T:
        """Carry a conversation to its end; raises what it raises."""
        self.exchange.begin(conversation, self.seconds)
        waiting = b""
        while self.exchange.busy:
            waiting += self.exchange.poll(self.seconds)
            waiting = waiting[self.line.push(Direction.TO_BOARD, waiting, self.seconds) :]
            self._advance()
            if data := self.line.pull(Direction.TO_BOARD, self.seconds):
                answer = self.bench.feed(data)
                self.free = max(self.free, self.seconds) + self.busy()
                self.line.push(Direction.TO_HOST, answer, self.free)
            self.exchange.receive(self.line.pull(Direction.TO_HOST, self.seconds), self.seconds)
            assert self.seconds < limit, "the host goes on for ever"
        result: T = self.exchange.result  # type: ignore[assignment]
        return result

    def _advance(self) -> None:
        events = [time for time in (self.line.next_event(), self.exchange.due()) if time is not None]
        until = max(self.seconds, min(events, default=self.seconds))
        if until - self.seconds > TICK:
            until = self.seconds + TICK
        self.seconds = until
        self.bench.wait(max(0.0, self.seconds - self.bench.seconds))
