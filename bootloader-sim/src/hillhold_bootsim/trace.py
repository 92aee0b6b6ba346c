"""What a capture of a line says: its bytes decoded into SMP messages, requests matched to answers, text and damage in between.

Nothing is trusted: a capture may be of any board, and its bytes are whatever came. `tracetext` tells the result to people. The transport is
judged for each direction, message by message, since a courier tries one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from hillhold_verifier.capture import Chunk
from hillhold_verifier.errors import SmpError
from hillhold_verifier.framing import GAP, SHARED, Framed, Receiver, Transport
from hillhold_verifier.smp import HEADER_SIZE, MAX_MESSAGE, Message, Op, decode
from hillhold_verifier.smp_console import Damaged, Junk

_REMEMBERED: Final = 64
"""Requests among which one is looked for that is sent again; sequence numbers come round after 256."""


@dataclass(slots=True)
class Seen:
    """A message.

    Attributes:
        time: seconds since the start of the capture: when a write began, or when the last byte was read.
        sent: written by whoever captured, else read.
        data: the message's bytes, framing not included.
        times: how often this request was sent until now, this time included.
        answers: how many answers came to a request after this sending of it, or, of an answer, which one it is (1 is the first).
        latency: of an answer, seconds since its request was last sent; None where none was seen.
    """

    time: float
    sent: bool
    transport: Transport
    message: Message
    data: bytes
    times: int = 1
    answers: int = 0
    latency: float | None = None

    @property
    def is_request(self) -> bool:
        """Whether it asks."""
        return self.message.op in (Op.READ, Op.WRITE)


@dataclass(slots=True)
class Said:
    """Text between frames: a line, or a part of one."""

    time: float
    sent: bool
    text: bytes


@dataclass(slots=True)
class Broken:
    """A frame or message that was lost on the line, and why."""

    time: float
    sent: bool
    reason: str


@dataclass(slots=True)
class Failure:
    """The port failed."""

    time: float
    reason: str


Event = Seen | Said | Broken | Failure


@dataclass(slots=True)
class Trace:
    """A capture, decoded.

    Attributes:
        events: in the order of time.
        sent, received: bytes on the line.
        seconds: from the start to the last event.
    """

    events: list[Event] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    seconds: float = 0.0

    def summary(self) -> dict[str, int | float | None]:
        """Return the figures: bytes, requests and answers, and latencies in seconds (None without an answer)."""
        messages = [event for event in self.events if isinstance(event, Seen)]
        requests = [seen for seen in messages if seen.is_request]
        latencies = [seen.latency for seen in messages if seen.latency is not None and seen.answers == 1]
        return {
            "seconds": round(self.seconds, 6),
            "sent_bytes": self.sent,
            "received_bytes": self.received,
            "requests": len(requests),
            "sent_again": sum(seen.times > 1 for seen in requests),
            "unanswered": sum(not seen.answers for seen in requests),
            "answers": len(messages) - len(requests),
            "damaged": sum(isinstance(event, Broken) for event in self.events),
            "lines_of_text": sum(isinstance(event, Said) for event in self.events),
            "failures": sum(isinstance(event, Failure) for event in self.events),
            "median_latency": round(median(latencies), 6) if latencies else None,
            "longest_latency": round(max(latencies), 6) if latencies else None,
        }


class Tracer:
    """Decodes a capture, chunk by chunk."""

    def __init__(self) -> None:
        self._trace = Trace()
        self._lanes = {True: _Lane(True), False: _Lane(False)}
        self._requests: dict[tuple[bool, int, int, int, int], Seen] = {}
        self._recent: deque[Seen] = deque(maxlen=_REMEMBERED)

    def feed(self, chunk: Chunk) -> None:
        """Take the next chunk."""
        trace = self._trace
        trace.seconds = chunk.time
        if chunk.failure:
            trace.events.append(Failure(chunk.time, chunk.failure))
            return
        if chunk.sent:
            trace.sent += len(chunk.data)
        else:
            trace.received += len(chunk.data)
        for event in self._lanes[chunk.sent].feed(chunk.time, chunk.data):
            self._take(event)

    def finish(self) -> Trace:
        """Return all that was decoded."""
        for lane in self._lanes.values():
            self._trace.events += lane.finish(self._trace.seconds)
        # What a lane held back belongs before what was decoded meanwhile.
        self._trace.events.sort(key=lambda event: event.time)
        return self._trace

    def _take(self, event: Event) -> None:
        self._trace.events.append(event)
        if isinstance(event, Seen):
            if event.is_request:
                self._ask(event)
            else:
                self._answer(event)

    def _ask(self, seen: Seen) -> None:
        """A request that was sent before: the same again, or the same in a new message before the first was answered."""
        message = seen.message
        key = (seen.sent, message.op, message.group, message.command, message.sequence)
        for before in reversed(self._recent):
            if before.sent == seen.sent and _content(before) == _content(seen):
                if not before.answers or before.message.sequence == message.sequence:
                    seen.times = before.times + 1
                break
        self._requests[key] = seen
        self._recent.append(seen)

    def _answer(self, seen: Seen) -> None:
        message = seen.message
        request = self._requests.get((not seen.sent, message.op - 1, message.group, message.command, message.sequence))
        if request is not None:
            request.answers += 1
            seen.answers, seen.latency = request.answers, seen.time - request.time


def _content(seen: Seen) -> bytes:
    """A message without its sequence number."""
    return seen.data[:6] + seen.data[7:]


def trace(chunks: Iterable[Chunk]) -> Trace:
    """Decode a capture."""
    tracer = Tracer()
    for chunk in chunks:
        tracer.feed(chunk)
    return tracer.finish()


class _Lane:
    """One direction, read in both ways that a line can be read; where a message appears says which of the two is right.

    Text and damage wait until the next message has shown in which of the two ways they count.
    """

    def __init__(self, sent: bool) -> None:
        self._sent = sent
        self._shared, self._raw = _Way(SHARED), _Way((Transport.RAW,))
        self._current = self._shared

    def feed(self, time: float, data: bytes) -> list[Event]:
        """Take the next bytes; return what is decided by them."""
        for way in (self._shared, self._raw):
            found = [self._event(time, each) for each in way.take(time, data)]
            last = max((number for number, event in enumerate(found) if self._counts(way, event)), default=-1)
            if last >= 0:
                decided, way.held = way.held + found[: last + 1], found[last + 1 :]
                other = self._raw if way is self._shared else self._shared
                other.forget()
                self._current = way
                return decided
            way.held += found
        return []

    def finish(self, time: float) -> list[Event]:
        """Return what waited, and what was begun."""
        way = self._current
        rest = way.receiver.tick(time + GAP)
        if way is self._shared:
            rest += way.receiver.feed(b"\n")  # a prompt has no end of line
        return way.held + [self._event(time, each) for each in rest]

    def _counts(self, way: _Way, event: Event) -> bool:
        """Say whether this shows how the line is read. Eight zeros are a message, too: a line that is held low is not raw."""
        if not isinstance(event, Seen):
            return False
        return way is self._current or way is self._shared or len(event.data) > HEADER_SIZE

    def _event(self, time: float, found: Framed | Junk | Damaged) -> Event:
        match found:
            case Junk(text):
                return Said(time, self._sent, text)
            case Damaged(reason):
                return Broken(time, self._sent, reason)
            case Framed(transport, data):
                try:
                    return Seen(time, self._sent, transport, decode(data), data)
                except SmpError as error:
                    return Broken(time, self._sent, str(error))


class _Way:
    """One way to read a direction, and what was found in it since the last message."""

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = transports
        self.forget()

    def forget(self) -> None:
        """Begin anew: what was read so far is read in the other way."""
        self.receiver = Receiver(MAX_MESSAGE, self._transports)
        self.held: list[Event] = []

    def take(self, time: float, data: bytes) -> list[Framed | Junk | Damaged]:
        """Take bytes that came at a time, in seconds."""
        found = [*self.receiver.tick(time), *self.receiver.feed(data)]
        self.receiver.tick(time)  # this is when they were heard
        return found
