"""A serial line that is not perfect: a `Stream` to a board on the bench that loses, doubles, cuts, spoils and delays frames by script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from time import sleep

from bench import Bench


class Fault(Enum):
    """What happens to one write on the line."""

    DROP = "lost"
    DOUBLE = "doubled"
    TRUNCATE = "cut short"
    CORRUPT = "one bit wrong"
    LATE = "comes with the next"


@dataclass
class ScriptedStream:
    """A `Stream` to a board on a bench, with faults by the number of the frame in each direction (from 0).

    A doubled request reaches the board twice; a late answer comes together with the next one.
    """

    bench: Bench
    requests: Mapping[int, Fault] = field(default_factory=dict)
    answers: Mapping[int, Fault] = field(default_factory=dict)
    written: int = 0
    answered: int = 0
    closed: bool = False
    noise: bytes = b""
    _pending: bytes = b""
    _late: dict[bool, bytes] = field(default_factory=lambda: {False: b"", True: b""})

    def write(self, data: bytes, /) -> object:
        number, self.written = self.written, self.written + 1
        for piece in self._spoil(data, self.requests.get(number), answer=False):
            answer = self.bench.feed(piece)
            if answer:
                number, self.answered = self.answered, self.answered + 1
                self._pending += self.noise + b"".join(self._spoil(answer, self.answers.get(number), answer=True))
        return len(data)

    def read(self, timeout: float, /) -> bytes:
        if not self._pending:
            sleep(min(timeout, 0.001))
        data, self._pending = self._pending, b""
        return data

    def close(self) -> None:
        self.closed = True

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
