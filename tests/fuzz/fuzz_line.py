"""Fuzz targets for what lies between the ends: how messages are framed, and both ends together over a line that does as the fuzzer
likes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from typing import Final
from unittest.mock import patch

from bench import CLOCK
from fuzz_input import Input
from hillhold_verifier import state
from hillhold_verifier.conversation import Conversation, T
from hillhold_verifier.courier import Courier
from hillhold_verifier.errors import OperationalError, Refused
from hillhold_verifier.exchange import Exchange
from hillhold_verifier.framing import (
    Event,
    Framed,
    Receiver,
    Transport,
    cobs,
    frame,
    frame_size,
    uncobs,
)
from hillhold_verifier.smp import HEADER_SIZE
from hillhold_verifier.smp_console import MAX_JUNK, Damaged, Junk
from hillhold_verifier.stockpush import End
from offers import TreeSource
from staged import NEW, fresh, stage
from stockrig import StockRig, rig

CONSOLE, COBS, RAW = Transport.CONSOLE, Transport.COBS, Transport.RAW
LIMIT: Final = 300
"""Bytes of the longest message that the fuzzed receiver takes."""
BOARDS: Final = ((CONSOLE, COBS), (CONSOLE,), (COBS,), (RAW,))
STAGES: Final = ("start", "metadata", "sent")
MOST_SECONDS: Final = 20_000.0
MOST_SENT: Final = 3_000
TURN: Final = 0.002

known_record = lru_cache(maxsize=256)(state.decode_record)


# --- framing ----------------------------------------------------------------------------------------------------------


def message_of(source: Input) -> bytes:
    """A message whose header is right; its body may be anything, and longer than the receiver takes."""
    body = source.chunk(source.byte() + source.pick((0, 0, 0, 90)))
    return bytes([8 | source.below(4), 0, *len(body).to_bytes(2), 0, source.byte(), source.byte(), 1]) + body


def opens_cobs(stream: bytes) -> bool:
    """What comes behind these bytes lies in a COBS frame that was begun."""
    return stream.rpartition(b"\0")[2][:1] in (b"\1", b"\2")


def fuzz_framing(data: bytes) -> None:
    """Events do not depend on how the stream is cut; what is held is bounded; each frame that was sent whole is found where it must be."""
    source = Input(data)
    transports = source.pick(BOARDS)
    cuts = sorted(source.below(2048) for _ in range(source.below(6)))
    stream, due = b"", list[Framed]()
    while source:
        match source.below(7):
            case 0:
                stream += source.pick((b"\x06\x09", b"\x04\x14", b"\n", b"\0", b"\0\2", b"\0\1", b"\n\0", b"A" * 500))
            case 1 | 2:
                transport, message = source.pick(tuple(Transport)), message_of(source)
                fits = transport in transports and len(message) <= LIMIT
                # A COBS frame is found behind anything; a console frame unless a COBS frame is open; a raw one has no such promise.
                if fits and (
                    transport is COBS or (transport is CONSOLE and not (COBS in transports and opens_cobs(stream)))
                ):
                    due.append(Framed(transport, message))
                stream += frame(message, transport)
            case 3:
                spoilt = frame(message_of(source), source.pick(tuple(Transport)))
                at = source.below(2048) % len(spoilt)
                stream += spoilt[:at] + source.chunk(1) + spoilt[at + source.below(3) :]
            case 4:
                stream += source.chunk(source.byte()).replace(b"\0", b"")
            case 5:
                stream += frame(message_of(source), RAW)
            case _:
                stream += source.chunk(source.byte())
    whole = fed(stream, [], transports)
    assert all(found_in_order(due, whole))
    for pieces in (cuts, list(range(len(stream)))):
        other = fed(stream, pieces, transports)
        if RAW in transports:  # what is no message is told as it comes, but for bytes that may still begin a header
            shorter, longer = sorted((texts(other), texts(whole)), key=len)
            assert longer.startswith(shorter)
            assert len(longer) - len(shorter) < HEADER_SIZE
            assert framed(other) == framed(whole)
        else:
            assert other == whole
    codec(data)


def found_in_order(due: list[Framed], events: list[Event]) -> list[bool]:
    left = iter(events)
    return [one in left for one in due]


def framed(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, Junk)]


def texts(events: list[Event]) -> bytes:
    return b"".join(event.text for event in events if isinstance(event, Junk))


def fed(stream: bytes, cuts: list[int], transports: tuple[Transport, ...]) -> list[Event]:
    receiver, events = Receiver(LIMIT, transports), list[Event]()
    for start, end in pairwise([0, *(min(cut, len(stream)) for cut in cuts), len(stream)]):
        events += receiver.feed(stream[start:end])
        assert receiver.held <= 3.5 * LIMIT + MAX_JUNK
    for event in events:
        assert not isinstance(event, Framed) or (event.transport in transports and 0 < len(event.data) <= LIMIT)
        assert not isinstance(event, Damaged) or event.reason
    return events


def codec(data: bytes) -> None:
    """COBS of any bytes has no 0, is as long as was reckoned, and gives them again; any bytes are COBS of something, or of nothing."""
    coded = cobs(data)
    assert b"\0" not in coded
    assert len(coded) <= len(data) + len(data) // 254 + 1
    assert uncobs(coded) == data
    plain = uncobs(data)
    assert plain is None or uncobs(cobs(plain)) == plain
    message = b"\x08\0" + data
    if len(message) >= 8:
        for transport in Transport:
            assert len(frame(message, transport)) <= frame_size(len(message), transport)


# --- both ends --------------------------------------------------------------------------------------------------------


@dataclass
class Line:
    """Carries a conversation in virtual time; each handful of bytes that one end sends may be lost, doubled, cut, changed, mixed with
    noise, late by up to a minute, followed by what was sent before, or meet a board that restarts. When the fuzzer's bytes end, the
    line is clean."""

    source: Input
    exchange: Exchange
    feed: Callable[[bytes], bytes]
    wait: Callable[[float], None]
    restart: Callable[[], None]

    def __post_init__(self) -> None:
        self.seconds, self.sent = 0.0, 0
        self.coming: list[tuple[float, int, bool, bytes]] = []
        self.earlier: dict[bool, list[bytes]] = {True: [], False: []}

    def run(self, conversation: Conversation[T]) -> T:
        self.exchange.begin(conversation, self.seconds)
        while self.exchange.busy:
            if out := self.exchange.poll(self.seconds):
                self.send(out, to_board=True)
            self.advance()
            assert self.seconds < MOST_SECONDS, "the host goes on for ever"
            assert self.sent < MOST_SENT, "the host asks for ever"
        result: T = self.exchange.result  # type: ignore[assignment]
        return result

    def advance(self) -> None:
        due = self.exchange.due()
        times = [time for time, *_ in self.coming] + ([due] if due is not None else [])
        if not self.exchange.busy:
            return
        assert times, "the host waits for nothing"
        passed = max(0.0, min(times) - self.seconds)
        self.seconds += passed
        self.wait(passed)
        while self.coming and self.coming[0][0] <= self.seconds:
            _, _, to_board, data = self.coming.pop(0)
            if to_board:
                self.send(self.feed(data), to_board=False)
            else:
                self.exchange.receive(data, self.seconds)

    def send(self, data: bytes, *, to_board: bool) -> None:
        if not data:
            return
        late, before = 0.0, self.earlier[to_board]
        source, pieces = self.source, [data]
        match source.below(16) if source else 0:
            case 6:
                pieces = []
            case 7:
                pieces = [data, data]
            case 8:
                pieces = [data[: source.below(2048) % (len(data) + 1)]]
            case 9 | 10:
                at = source.below(2048) % len(data)
                pieces = [data[:at] + bytes([data[at] ^ (source.byte() or 1)]) + data[at + 1 :]]
            case 11:
                at = source.below(2048) % len(data)
                pieces = [data[:at] + source.chunk(source.below(12)) + data[at:]]
            case 12:
                late = source.byte() / 4
            case 13 if before:
                pieces = [data, source.pick(before)]
            case 14 if before:
                pieces = [source.pick(before), data]
            case 15:
                self.restart()
        self.earlier[to_board] = [*before[-7:], data]
        for piece in pieces:
            self.sent += 1
            self.coming.append((self.seconds + TURN + late, self.sent, to_board, piece))
        self.coming.sort()


def fuzz_pair(data: bytes) -> None:
    """A courier and a board over a bad line: it ends, and what it says was installed is what the board has marked, or runs."""
    with patch.object(state, "decode_record", known_record):
        pair(Input(data))


def pair(source: Input) -> None:
    transports = source.pick(BOARDS)
    bench = fresh(source.pick(STAGES), transports=transports, buffers=1 + source.below(4))
    known = {(CONSOLE, COBS): None, (COBS,): COBS, (CONSOLE,): CONSOLE, (RAW,): RAW}[transports]
    exchange = Exchange(transport=known if source.below(2) else None, sequence=source.byte())
    if transports == (COBS,):
        exchange = Exchange(transport=COBS)
    line = Line(source, exchange, bench.feed, bench.wait, bench.power_cycle)
    pushed = None
    with suppress(Refused, OperationalError):
        pushed = line.run(Courier(TreeSource(stage().repo.tree)).push(patches=bool(source.below(2)), reset=False))
    facts = bench.facts()
    marked = facts.mark == sha256(NEW).digest()
    confirmed = facts.confirmed is not None and bench.whole_image(facts.confirmed)
    assert confirmed in ("1.0.0", "1.1.0")
    assert facts.mark is None or (marked and bench.whole_image(1) == "1.1.0")
    assert facts.failed is None
    if pushed is not None and pushed.installed:
        assert marked or confirmed == "1.1.0"
    bench.wait(1)
    assert bench.status()["root"] == 1


def fuzz_stock(data: bytes) -> None:
    """A host that verifies for a stock board, over a bad line: it ends, and what it says that the board confirmed is what runs there."""
    with patch.object(state, "decode_record", known_record):
        stock(Input(data))


def stock(source: Input) -> None:
    bench: StockRig = rig(count=1 + source.below(4), match=bool(source.below(2)))
    line = Line(
        source, Exchange(transport=CONSOLE), lambda data: bench.board.feed(data, CLOCK), bench.wait, bench.power_cycle
    )
    pushed = None
    with suppress(Refused, OperationalError):
        pushed = line.run(bench.courier().push(reset=bool(source.below(4))))
    assert bench.runs in ("1.0.0", "1.1.0")
    bench.board.feed(b"\n", None)  # a packet that lacks its line's end is answered now, and not in between
    assert set(bench.states()) <= {"1.0.0", "1.1.0"}
    if pushed is not None and pushed.end is End.CONFIRMED:
        assert bench.runs == "1.1.0"
    if pushed is not None and pushed.end is End.MARKED:
        assert bench.runs == "1.1.0" or "pending" in bench.states()["1.1.0"]
    bench.power_cycle()
    assert bench.runs in ("1.0.0", "1.1.0")
