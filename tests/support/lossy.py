"""A line between a host and a board on the bench, in virtual time: it loses, doubles, cuts, spoils and delays frames by script."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from time import sleep

from bench import Bench
from hillhold_verifier.conversation import Conversation, T
from hillhold_verifier.exchange import Exchange

TURN = 0.002
"""Seconds from a frame to its answer."""
_FRAMES = re.compile(rb"\n?\x06\x09(?:(?!\n?\x06\x09)[^\0])*|\0[^\0]+\0|[^\0\x06]+", re.DOTALL)


class Fault(Enum):
    """What happens to one frame on the line."""

    DROP = "lost"
    DOUBLE = "doubled"
    TRUNCATE = "cut short"
    CORRUPT = "one bit wrong"
    LATE = "comes with the next"


def frames(data: bytes) -> list[bytes]:
    """Split what was sent at once into frames, console or COBS."""
    found = _FRAMES.findall(data)
    assert b"".join(found) == data
    return found


@dataclass
class Pair:
    """A host's exchange and a board, with faults by the number of the frame in each direction (from 0).

    Attributes:
        by_bytes: hand everything over byte by byte.
        seconds: since the start; the board's time passes with it.
    """

    bench: Bench
    exchange: Exchange
    requests: Mapping[int, Fault] = field(default_factory=dict)
    answers: Mapping[int, Fault] = field(default_factory=dict)
    noise: bytes = b""
    by_bytes: bool = False
    seconds: float = 0.0
    sent: int = 0
    answered: int = 0
    before: Callable[[bytes], bytes] = lambda data: data
    _arriving: list[tuple[float, bytes]] = field(default_factory=list)
    _late: dict[bool, bytes] = field(default_factory=lambda: {False: b"", True: b""})

    def run(self, conversation: Conversation[T], limit: float = 3600.0) -> T:
        """Carry a conversation to its end."""
        self.exchange.begin(conversation, self.seconds)
        while self.exchange.busy:
            if out := self.exchange.poll(self.seconds):
                self._to_board(self.before(out))
            self._arrive()
            assert self.seconds < limit, "the host goes on for ever"
        result: T = self.exchange.result  # type: ignore[assignment]
        return result

    def _to_board(self, data: bytes) -> None:
        for one in frames(data):
            number, self.sent = self.sent, self.sent + 1
            for piece in self._spoil(one, self.requests.get(number), answer=False):
                answer = b"".join(map(self.bench.feed, _cut(piece, self.by_bytes)))
                for each in frames(answer) if answer else []:
                    number, self.answered = self.answered, self.answered + 1
                    said = self.noise + b"".join(self._spoil(each, self.answers.get(number), answer=True))
                    self._arriving.append((self.seconds + TURN, said))

    def _arrive(self) -> None:
        """Let time pass until something happens, and hand over what has come."""
        due = self.exchange.due()
        times = [time for time, _ in self._arriving[:1]] + ([due] if due is not None else [])
        if not times or not self.exchange.busy:
            return
        passed = max(0.0, min(times) - self.seconds)
        self.seconds += passed
        self.bench.wait(passed)
        while self._arriving and self._arriving[0][0] <= self.seconds:
            for piece in _cut(self._arriving.pop(0)[1], self.by_bytes):
                self.exchange.receive(piece, self.seconds)

    def _spoil(self, data: bytes, fault: Fault | None, *, answer: bool) -> Sequence[bytes]:
        before, self._late[answer] = self._late[answer], b""
        match fault:
            case Fault.DROP:
                return [before] if before else []
            case Fault.DOUBLE:
                return [before + data, data]
            case Fault.TRUNCATE:
                return [before + data[: len(data) * 2 // 3]]
            case Fault.CORRUPT:
                at = len(data) // 2
                return [before + data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]]
            case Fault.LATE:
                self._late[answer] = before + data
                return []
        return [before + data]


def _cut(data: bytes, by_bytes: bool) -> Sequence[bytes]:
    return [data[at : at + 1] for at in range(len(data))] if by_bytes else [data]


class Direct:
    """A `Stream` to a board on the bench, in real time, without faults."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.pending = bench, b""

    def write(self, data: bytes, /) -> object:
        self.pending += self.bench.feed(data)
        return len(data)

    def read(self, timeout: float, /) -> bytes:
        if not self.pending:
            sleep(min(timeout, 0.001))
        data, self.pending = self.pending, b""
        return data

    def reopen(self) -> None:
        """It is open."""

    def close(self) -> None:
        """Nothing to let go of."""
