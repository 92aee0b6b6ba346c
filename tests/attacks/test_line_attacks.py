"""What someone can do with bytes on the line of a board: it stays responsive, bounded in memory, its image untouched.

Each attack goes over the line that console and COBS share, and over raw; then an honest request is answered, and nothing has changed.
"""

from __future__ import annotations

import binascii
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any

import pytest

from bench import MANUAL, Bench, installed, unchanged
from hillhold_verifier.agent import APPLY, CHOOSE, HELD, IDENTIFY, METADATA, STATUS, Agent
from hillhold_verifier.answers import Body
from hillhold_verifier.framing import GAP, SHARED, Framed, Receiver, Transport, frame
from hillhold_verifier.metadata import MAX_BYTES_OTHER
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, Message, Op, OsCommand, decode, encode
from hillhold_verifier.smp_check import CHECK
from hillhold_verifier.wire import base_name
from offers import image, offer
from stocktool import ERASE, STATE, UPLOAD, image_hash, is_error

CONSOLE, COBS, RAW = Transport.CONSOLE, Transport.COBS, Transport.RAW
BUFFER = 1024
HELD_BOUND = 6848
"""What an agent with that buffer keeps for hosts at most, beside a metadata file that is arriving (docs/FORMAT.md, "Memory")."""
LINES = pytest.mark.parametrize("transport", [CONSOLE, COBS, RAW])


@dataclass
class Wire:
    """Someone on a board's line.

    Attributes:
        most: bytes that the agent kept at most, beside metadata.
        sent, answered: bytes so far.
    """

    bench: Bench
    transport: Transport
    most: int = 0
    sent: int = 0
    answered: int = 0
    sequence: int = 0

    def __post_init__(self) -> None:
        self.receiver = Receiver(16384, self.bench.transports)

    def send(self, data: bytes, piece: int = 0) -> list[Message]:
        """Send bytes, perhaps in pieces; return the answers."""
        found = []
        for at in range(0, len(data), piece or len(data) or 1):
            answer = self.bench.feed(data[at : at + (piece or len(data))])
            self.sent += len(data[at : at + (piece or len(data))])
            self.answered += len(answer)
            found += [decode(event.data) for event in self.receiver.feed(answer) if isinstance(event, Framed)]
            if (agent := agent_of(self.bench)) is not None:
                arriving = agent._incoming
                self.most = max(self.most, agent.held - (len(arriving.packed) if arriving else 0))
        return found

    def frame(self, op: Op, group: int, command: int, body: Body | None = None) -> bytes:
        self.sequence = (self.sequence + 1) % 256
        return frame(encode(Message(op, group, command, self.sequence, body or {})), self.transport)

    def silence(self) -> None:
        """Nothing comes for as long as a frame that was begun is waited for."""
        self.bench.wait(0.02)
        self.bench.wait(GAP)

    def is_served(self) -> None:
        """An honest request is answered; at once over COBS, else once the line was silent for a while."""
        if self.transport is not COBS:
            self.silence()
        (answer,) = self.send(self.frame(Op.WRITE, Group.OS, OsCommand.ECHO, {"d": "honest"}))
        assert (answer.sequence, answer.body) == (self.sequence, {"r": "honest"})


def agent_of(bench: Bench) -> Agent | None:
    agent = bench.board._agent
    return agent if isinstance(agent, Agent) else None


def with_newer(transport: Transport, *, trial: bool = False, check: bool = True) -> tuple[Bench, bytes]:
    """A board that runs 1.0.0 and has chosen 1.1.0, or runs that on trial; the new image."""
    bench = installed(self_test=MANUAL, transports=(RAW,) if transport is RAW else SHARED)
    data = offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    if trial:
        bench.push()
        assert bench.facts().trial
    elif check:
        bench.check()
    return bench, data


@contextmanager
def attack(bench: Bench, transport: Transport) -> Iterator[Wire]:
    """Hold that what is done within changes nothing, leaves the board responsive, and makes it keep no more than it states."""
    wire = Wire(bench, transport)
    wire.is_served()
    with unchanged(bench):
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        yield wire
        wire.is_served()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert wire.most <= HELD_BOUND
        assert grown < 256 * 1024, "what is kept shows in the process, too"


# --- endless data, lies, frames without an end ------------------------------------------------------------------------

FLOODS: dict[str, Callable[[Random], bytes]] = {
    "zeros": lambda _: bytes(20_000),
    "ones": lambda _: b"\1" * 20_000,
    "an idle line": lambda _: b"\xff" * 20_000,
    "anything": lambda random: random.randbytes(20_000),
    "a line without an end": lambda _: b"A" * 20_000,
    "very short lines": lambda _: b"a\n" * 10_000,
    "a first line without an end": lambda _: b"\x06\x09" + b"QUJD" * 5_000,
    "first lines": lambda _: b"\x06\x09" * 10_000,
    "further lines": lambda _: b"\x04\x14QUJD\n" * 3_000,
    "half markers": lambda _: b"\x06\x04" * 10_000,
    "COBS without an end": lambda _: b"\0\2" + b"\1" * 20_000,
    "COBS of nothing but codes": lambda _: (b"\0\2" + b"\1" * 1000) * 20,
    "delimiters": lambda _: b"\0\2\0\1" * 5_000,
    "headers": lambda _: b"\x0a\0\3\xf0\0\0\0\0" * 2_500,
    "headers of the longest messages": lambda _: b"\x0a\0\xff\xff\0\0\0\0" * 2_500,
    "headers one byte apart": lambda _: b"\x0a\0" * 10_000,
}


@pytest.mark.slow
@LINES
@pytest.mark.parametrize("kind", FLOODS)
def test_endless_data(kind: str, transport: Transport) -> None:
    bench, _ = with_newer(transport)
    random = Random(kind)
    with attack(bench, transport) as wire:
        for piece in (0, 977):
            wire.send(FLOODS[kind](random), piece)
        wire.send(FLOODS[kind](random)[:2000], 1)
        # Over raw, eight zeros are a request already: SMP v1, echo, no body.
        assert wire.answered <= (2 * wire.sent if transport is RAW else 64)


def packet(length: int, raw: bytes, first: bytes = b"\x06\x09") -> bytes:
    """A console packet whose length is whatever it is said to be."""
    return first + binascii.b2a_base64(length.to_bytes(2) + raw)


@LINES
@pytest.mark.parametrize("length", [0, 1, 2, 7, 9, BUFFER - 8, BUFFER - 7, 0x7FFF, 0xFFFF])
def test_a_length_that_lies(length: int, transport: Transport) -> None:
    """In a message's header, and in a console packet: too long, too short, and the longest that is allowed."""
    bench, _ = with_newer(transport)
    message = bytes([10, 0, *length.to_bytes(2), 0, 0, 0, 0]) + b"\xa1\x61d\x61x"
    with attack(bench, transport) as wire:
        for _ in range(40):
            answers = wire.send(frame(message, transport))
            wire.silence()
            assert all(answer.body.get("r") != "x" for answer in answers)
            if transport is not RAW:
                checked = message + binascii.crc_hqx(message, 0).to_bytes(2)
                assert wire.send(packet(length, checked)) == []
                assert wire.send(packet(length, checked) + b"\x04\x14" + binascii.b2a_base64(checked)) == []


@LINES
def test_a_frame_that_never_ends(transport: Transport) -> None:
    """It goes on slowly enough that there is no silence: what it may hold is bounded, and then the line is free again."""
    bench, _ = with_newer(transport)
    begun = {
        CONSOLE: [packet(BUFFER + 2, b"\x08\0"), *[b"\x04\x14" + binascii.b2a_base64(b"\1") for _ in range(3000)]],
        COBS: [b"\0\2", *[b"\7"] * 3000],
        RAW: [b"\x0a\0" + (BUFFER - 8).to_bytes(2), *[b"\x0a"] * 3000],
    }
    with attack(bench, transport) as wire:
        for piece in begun[transport]:
            wire.send(piece)
            bench.wait(GAP * 0.8)
        assert wire.most >= BUFFER - 1


@pytest.mark.parametrize(
    "behind", [b"\x06\x09QUJD", packet(BUFFER + 2, bytes(80)), b"text without an end", b"\0\2\5\5"]
)
def test_an_honest_frame_behind_one_that_was_never_ended_is_answered_at_once(behind: bytes) -> None:
    """COBS behind anything; console behind anything but an open COBS frame."""
    bench, _ = with_newer(COBS)
    with attack(bench, COBS) as wire:
        for transport in (COBS, CONSOLE):
            wire.transport = transport
            wire.send(behind)
            found = wire.send(wire.frame(Op.WRITE, Group.OS, OsCommand.ECHO, {"d": "now"}))
            expected = not (transport is CONSOLE and behind.startswith(b"\0"))
            assert [answer.body for answer in found] == [{"r": "now"}] * expected
            wire.silence()
        wire.transport = COBS


# --- many frames ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@LINES
def test_ten_thousand_tiny_frames(transport: Transport) -> None:
    """The shortest requests that there are. Each is answered once, by no more than the buffer; nothing is kept of them."""
    bench, _ = with_newer(transport)
    groups, operations = (0, 1, 64, HILLHOLD_GROUP), range(4 if transport is RAW else 8)
    kinds = [(op, group, command) for op in operations for group in groups for command in range(9)]
    kinds.remove((Op.WRITE, Group.OS, OsCommand.RESET))
    kinds.remove((Op.WRITE, Group.IMAGE, ERASE))
    with attack(bench, transport) as wire:
        for number in range(10_000 // len(kinds)):
            frames = [
                frame(bytes([op, 0, 0, 0, *group.to_bytes(2), number, command]), transport)
                for op, group, command in kinds
            ]
            answers = wire.send(b"".join(frames))
            assert len(answers) == sum(op in (Op.READ, Op.WRITE) for op, _, _ in kinds)
            assert max(len(encode(answer)) for answer in answers) <= BUFFER
        assert wire.answered < 16 * wire.sent


@LINES
def test_an_answer_is_no_longer_than_the_buffer_however_many_releases_there_are(transport: Transport) -> None:
    bench, _ = with_newer(transport)
    for number in range(14):
        offer(bench.repo, f"0.0.{number}", 1, data=b"x%d" % number, withdrawn="because " * 25)
    bench.repo.publish()
    bench.check()
    with attack(bench, transport) as wire:
        for offset in range(16):
            (answer,) = wire.send(wire.frame(Op.READ, HILLHOLD_GROUP, CHOOSE, {"o": offset}))
            assert len(encode(answer)) + len(CHECK) <= BUFFER
            assert answer.body["reasons"] or offset > 14


@LINES
def test_words_that_a_host_made_long_are_not_kept(transport: Transport) -> None:
    bench, _ = with_newer(transport)
    body = {"f": 1, "n": 9, "l": 9, "b": b"\xee" * 900, "d": b""}
    with attack(bench, transport) as wire:
        for _ in range(20):
            (answer,) = wire.send(wire.frame(Op.WRITE, HILLHOLD_GROUP, METADATA, body))
            assert is_error(answer.body)
            assert len(encode(answer)) <= BUFFER
            wire.send(frame(b"\x0a\0\0\5\0\0\0\0\xa1\x63abc", transport))
        agent = agent_of(bench)
        assert agent is not None
        assert len(agent.last_refusal[1]) <= 240


def test_the_most_that_a_host_can_make_a_board_keep() -> None:
    """The bound is no guess: a long write of our group, long words, and a packet, a line and a COBS frame, none of them whole."""
    bench, _ = with_newer(CONSOLE)
    request = {"f": 1, "n": 9, "l": 9, "b": b"\xee" * 970, "d": b""}
    twice = b"\x79\x01\x80" + "\u20ac".encode() * 128
    with attack(bench, CONSOLE) as wire:
        wire.send(wire.frame(Op.WRITE, HILLHOLD_GROUP, METADATA, request))
        body = b"\xa2" + (twice + b"\0") * 2
        wire.send(frame(b"\x0a\0" + len(body).to_bytes(2) + bytes(4) + body, CONSOLE))
        wire.send(packet(BUFFER + 2, bytes(BUFFER)) + b"\x04\x14" + b"A" * 1360 + b"\0\2" + b"\7" * 1028)
        assert wire.most > 0.7 * HELD_BOUND
        wire.silence()
        wire.send(b"\n")


@pytest.mark.slow
@LINES
def test_metadata_that_never_ends_is_as_long_as_it_was_announced_at_most(transport: Transport) -> None:
    """Six hundred first pieces, then one file that announces the most and goes on and on."""
    bench, _ = with_newer(transport)
    limit = MAX_BYTES_OTHER
    first: Body = {"f": 4, "n": limit, "l": limit, "b": base_name(b""), "d": b"x" * 900}
    with attack(bench, transport) as wire:
        for _ in range(600):
            wire.send(wire.frame(Op.WRITE, HILLHOLD_GROUP, METADATA, first))
        agent, at, most = agent_of(bench), 900, 0
        assert agent is not None
        while at < 2 * limit:
            wire.send(wire.frame(Op.WRITE, HILLHOLD_GROUP, METADATA, {"f": 4, "o": at, "d": b"x" * 900}))
            at += 900
            most = max(most, agent.held)
        assert limit - 900 < most <= limit + HELD_BOUND


# --- an earlier exchange, and ours out of order -----------------------------------------------------------------------


@pytest.mark.slow
@LINES
def test_frames_of_an_earlier_exchange_replayed(transport: Transport) -> None:
    """A whole update was recorded, reset included. In order, backwards, in any order, and spliced: the board stays where it is."""
    bench = installed(transports=(RAW,) if transport is RAW else SHARED)
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    recorded: list[bytes] = []
    feed = bench.board.feed

    def record(data: bytes, now: int | None) -> bytes:
        recorded.append(data)
        return feed(data, now)

    bench.board.feed = record  # type: ignore[method-assign]
    assert bench.push().runs
    bench.board.feed = feed  # type: ignore[method-assign]
    frames = [frame(one.data, transport) for data in recorded for one in events(bench, data)]
    assert len(frames) > 12
    offer(bench.repo, "1.2.0", 3)
    bench.repo.publish()
    bench.check()
    with attack(bench, transport) as wire:
        worn = sum(bench.flash.wear(sector) for sector in range(bench.flash.geometry.sectors))
        random = Random(1)
        for order in (frames, frames[::-1], *(random.sample(frames, len(frames)) for _ in range(20))):
            for data in order:
                wire.send(data)
        for _ in range(50):
            one, other = random.choice(frames), random.choice(frames)
            wire.send(one[: random.randrange(len(one))] + other[random.randrange(len(other)) :])
            wire.silence()
        assert sum(bench.flash.wear(sector) for sector in range(bench.flash.geometry.sectors)) == worn
    assert bench.push().installed == "pump/1.2.0/app.bin"


def events(bench: Bench, data: bytes) -> list[Framed]:
    return [event for event in Receiver(16384, bench.transports).feed(data) if isinstance(event, Framed)]


def out_of_order(data: bytes) -> list[tuple[Op, int, int, Body]]:
    """Requests each of which has its place, but not here."""
    sha, newest = sha256(data).digest(), image_hash(data)
    return [
        (Op.WRITE, HILLHOLD_GROUP, APPLY, {}),
        (Op.WRITE, HILLHOLD_GROUP, METADATA, {"f": 2, "o": 5, "d": b"x"}),
        (Op.WRITE, HILLHOLD_GROUP, METADATA, {"f": 4, "n": 3, "l": 3, "b": base_name(b""), "d": b"xyz"}),
        (Op.WRITE, HILLHOLD_GROUP, METADATA, {"f": 0, "n": 99, "l": 99, "b": base_name(b""), "d": b"xyz"}),
        (Op.READ, HILLHOLD_GROUP, CHOOSE, {}),
        (Op.READ, HILLHOLD_GROUP, HELD, {}),
        (Op.READ, HILLHOLD_GROUP, IDENTIFY, {}),
        (Op.WRITE, HILLHOLD_GROUP, STATUS, {}),
        (Op.WRITE, Group.IMAGE, UPLOAD, {"off": 700, "data": data[700:800]}),
        (Op.WRITE, Group.IMAGE, UPLOAD, {"off": len(data) - 9, "data": data[-9:]}),
        (Op.WRITE, Group.IMAGE, STATE, {"hash": newest}),
        (Op.WRITE, Group.IMAGE, STATE, {"hash": newest, "confirm": True}),
        (Op.WRITE, Group.IMAGE, STATE, {"hash": image_hash(image("1.0.0")), "confirm": False}),
        (Op.WRITE, Group.IMAGE, UPLOAD, {"off": 0, "len": len(data) + 1, "sha": sha, "data": data[:99]}),
        (Op.WRITE, Group.IMAGE, UPLOAD, {"off": 0, "len": len(data), "sha": bytes(32), "data": data[:99]}),
    ]


@pytest.mark.slow
@LINES
@pytest.mark.parametrize("seed", range(3))
def test_everything_out_of_order_and_at_once(seed: int, transport: Transport) -> None:
    """Many requests come together, as from a host that does not wait, with noise between them."""
    bench, data = with_newer(transport)
    random = Random(seed)
    with attack(bench, transport) as wire:
        for _ in range(20):
            requests = out_of_order(data)
            random.shuffle(requests)
            noise = [b"" if transport is RAW else random.choice((b"", b"log\n", b"\0", b"\x06")) for _ in requests]
            sent = [wire.frame(*request) + between for request, between in zip(requests, noise, strict=True)]
            assert len(wire.send(b"".join(sent), random.choice((0, 64)))) == len(requests)


@LINES
def test_an_upload_without_metadata(transport: Transport) -> None:
    """As fast as the line takes it, whole and again and again: nothing of it is written."""
    bench, data = with_newer(transport, check=False)
    pieces = [{"off": at, "data": data[at : at + 700]} for at in range(700, len(data), 700)]
    first = {"off": 0, "len": len(data), "sha": sha256(data).digest(), "data": data[:700]}
    with attack(bench, transport) as wire:
        operations = bench.flash.operations
        for _ in range(20):
            frames = [wire.frame(Op.WRITE, Group.IMAGE, UPLOAD, body) for body in (first, *pieces)]
            refused, *ignored = wire.send(b"".join(frames))
            assert is_error(refused.body)
            assert {answer.body["off"] for answer in ignored} == {0}
        assert bench.flash.operations == operations


@pytest.mark.slow
@LINES
def test_stock_erase_and_confirm_in_the_middle_of_a_trial(transport: Transport) -> None:
    bench, data = with_newer(transport, trial=True)
    asked: list[tuple[Op, int, int, Body]] = [
        (Op.WRITE, Group.IMAGE, ERASE, {}),
        (Op.WRITE, Group.IMAGE, ERASE, {"slot": 1}),
        (Op.WRITE, Group.IMAGE, STATE, {"confirm": True}),
        (Op.WRITE, Group.IMAGE, STATE, {"confirm": True, "hash": image_hash(data)}),
        (Op.WRITE, Group.IMAGE, STATE, {"hash": image_hash(image("1.0.0"))}),
        (Op.WRITE, Group.IMAGE, UPLOAD, {"off": 0, "len": len(data), "data": data[:99]}),
    ]
    with attack(bench, transport) as wire:
        operations = bench.flash.operations
        for _ in range(100):
            answers = wire.send(b"".join(wire.frame(*request) for request in asked))
            assert len(answers) == len(asked)
            assert all(is_error(answer.body) for answer in answers)
        assert bench.flash.operations == operations


# --- what it costs ----------------------------------------------------------------------------------------------------


def calls(work: Callable[[], object]) -> int:
    """How many functions are called, those of C included: what a flood costs, without a clock."""
    count = 0

    def one(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(one)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.slow
@LINES
@pytest.mark.parametrize("piece", [0, 1])
@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_costs_in_proportion_to_its_length(kind: str, piece: int, transport: Transport) -> None:
    data = FLOODS[kind](Random(kind))[:8000]
    transports = (RAW,) if transport is RAW else (transport,)

    def fed(times: int) -> int:
        receiver, flood = Receiver(BUFFER, transports), data * times
        pieces = [flood[at : at + 1] for at in range(len(flood))] if piece else [flood]
        return calls(lambda: [receiver.feed(one) for one in pieces])

    once, four = fed(1), fed(4)
    assert four <= 4.5 * once + 200
    assert once <= 40 * len(data)
