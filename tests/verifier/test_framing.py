"""Framing: COBS by published examples; console, text and COBS on one line, whole and byte by byte; raw; silence; bounded memory."""

from __future__ import annotations

from random import Random

import pytest

from hillhold_verifier.errors import MisuseError
from hillhold_verifier.framing import (
    GAP,
    SHARED,
    Event,
    Framed,
    Receiver,
    Transport,
    cobs,
    frame,
    frame_size,
    uncobs,
)
from hillhold_verifier.smp import Message, Op, encode
from hillhold_verifier.smp_console import MAX_JUNK, Damaged, Junk

CONSOLE, COBS, RAW = Transport.CONSOLE, Transport.COBS, Transport.RAW
LIMIT = 1024
NOISE = b"[00:00:01.250,000] <inf> main: hello\r\n"

# Wikipedia, "Consistent Overhead Byte Stuffing", encoding examples; the delimiter is not part of ours.
EXAMPLES = [
    ("00", "0101"),
    ("0000", "010101"),
    ("00 11 00", "01 02 11 01"),
    ("11 22 00 33", "03 11 22 02 33"),
    ("11 22 33 44", "05 11 22 33 44"),
    ("11 00 00 00", "02 11 01 01 01"),
]
LONG = [
    (bytes(range(1, 255)), b"\xff" + bytes(range(1, 255)) + b"\x01"),
    (bytes(range(255)), b"\x01\xff" + bytes(range(1, 255)) + b"\x01"),
    (bytes(range(1, 256)), b"\xff" + bytes(range(1, 255)) + b"\x02\xff"),
    (bytes([*range(2, 256), 0]), b"\xff" + bytes(range(2, 256)) + b"\x01\x01"),
    (bytes([*range(3, 256), 0, 1]), b"\xfe" + bytes(range(3, 256)) + b"\x02\x01"),
]


def message(number: int = 0, size: int = 20, op: Op = Op.WRITE, version: int = 1) -> bytes:
    return encode(Message(op, 1, 1, number % 256, {"data": Random(number).randbytes(size), "off": number}, version))


def fed(receiver: Receiver, data: bytes, *, by_bytes: bool) -> list[Event]:
    pieces = [data[at : at + 1] for at in range(len(data))] if by_bytes else [data]
    return [event for piece in pieces for event in receiver.feed(piece)]


@pytest.mark.parametrize(("plain", "coded"), EXAMPLES)
def test_the_published_examples_of_cobs(plain: str, coded: str) -> None:
    assert cobs(bytes.fromhex(plain)) == bytes.fromhex(coded)
    assert uncobs(bytes.fromhex(coded)) == bytes.fromhex(plain)


@pytest.mark.parametrize(("plain", "coded"), LONG)
def test_long_runs_of_cobs(plain: bytes, coded: bytes) -> None:
    """The examples leave out the last 01 where a block of 254 ends the data; a decoder takes both."""
    assert cobs(plain) == coded
    assert uncobs(coded) == plain
    if coded[0] == 255 and len(coded) == 256:
        assert uncobs(coded[:-1]) == plain


def test_a_code_that_leads_beyond_the_end_is_no_cobs() -> None:
    assert uncobs(b"\x05\x11") is None
    assert uncobs(b"\x02\x11\xff\x01") is None


@pytest.mark.parametrize("by_bytes", [False, True])
@pytest.mark.parametrize("op", list(Op))
@pytest.mark.parametrize("version", [0, 1])
def test_console_text_and_cobs_share_a_line(op: Op, version: int, *, by_bytes: bool) -> None:
    sent = [(message(number, 37 * number, op, version), (CONSOLE, COBS)[number % 3 == 0]) for number in range(20)]
    line = b"".join(NOISE + frame(data, transport) for data, transport in sent)
    events = fed(Receiver(LIMIT), line + b"\0", by_bytes=by_bytes)
    assert [(one.data, one.transport) for one in events if isinstance(one, Framed)] == sent
    assert b"".join(one.text for one in events if isinstance(one, Junk)).count(b"hello") == 20
    assert not [one for one in events if isinstance(one, Damaged)]


def test_zeros_of_noise_or_a_break_cost_nothing() -> None:
    """A port that opens often gives one: a stock tool, which sends once, has its frame heard all the same."""
    data = message(1)
    for before in (b"\0", b"\0\0\0", b"x\0", NOISE + b"\0", b"\0" + NOISE):
        for transport in SHARED:
            assert Framed(transport, data) in Receiver(LIMIT).feed(before + frame(data, transport))


@pytest.mark.parametrize("spoil", range(0, 60))
def test_after_a_spoilt_frame_the_next_one_is_found(spoil: int) -> None:
    data, after = frame(message(1), COBS), frame(message(2), COBS)
    for value in (0, 1, 2, data[spoil % len(data)] ^ 0x55):
        spoilt = bytearray(data)
        spoilt[spoil % len(data)] = value
        events = Receiver(LIMIT).feed(bytes(spoilt) + after)
        assert Framed(COBS, message(2)) in events
        assert [one for one in events if isinstance(one, Framed)][:-1] in ([], [Framed(COBS, message(1))])


def test_what_a_frame_holds_is_never_taken_for_a_console_frame() -> None:
    """An image may hold the bytes of one, a reset for example."""
    inner = frame(message(9), CONSOLE)
    data = encode(Message(Op.WRITE, 1, 1, 7, {"data": inner, "off": 1}))
    assert Receiver(LIMIT).feed(frame(data, COBS)) == [Framed(COBS, data)]
    assert Receiver(LIMIT, (RAW,)).feed(data) == [Framed(RAW, data)]


def test_raw_messages_whole_and_byte_by_byte() -> None:
    sent = [message(number, 40 * number) for number in range(20)]
    for by_bytes in (False, True):
        events = fed(Receiver(LIMIT, (RAW,)), b"".join(sent), by_bytes=by_bytes)
        assert [one.data for one in events if isinstance(one, Framed)] == sent


def test_raw_finds_the_next_header_behind_what_is_none() -> None:
    for noise in (b"login: ", b"\xff" * 300, b"\x06\x09AAsIAA==\n", b"\x0b\x01" * 9):
        events = Receiver(LIMIT, (RAW,)).feed(noise + message(3))
        assert events[-1] == Framed(RAW, message(3))


def test_a_length_that_lies_is_given_up_after_a_silence() -> None:
    for transports, half in (((RAW,), message(1, 200)[:100]), (SHARED, frame(message(1, 200), COBS)[:100])):
        receiver = Receiver(LIMIT, transports)
        assert receiver.feed(half) == []
        assert receiver.tick(10.0) == []
        assert receiver.tick(10.0 + GAP / 2) == []
        assert receiver.held > 0
        assert [type(event) for event in receiver.tick(10.0 + GAP)] == [Damaged]
        assert receiver.held == 0
        whole = message(2) if transports == (RAW,) else frame(message(2), CONSOLE)
        assert Framed(RAW if transports == (RAW,) else CONSOLE, message(2)) in receiver.feed(whole)


@pytest.mark.parametrize("by_bytes", [False, True])
@pytest.mark.parametrize("transports", [SHARED, (COBS,)])
@pytest.mark.parametrize("before", [b"", NOISE, b"uart:~$ ", frame(message(1), COBS), frame(message(1), COBS)[:-9]])
def test_a_frame_without_a_delimiter_before_it_is_found_on_an_idle_line(
    before: bytes, transports: tuple[Transport, ...], *, by_bytes: bool
) -> None:
    """Other people's clients end a frame with one and begin it with none."""
    receiver = Receiver(LIMIT, transports)
    fed(receiver, before, by_bytes=by_bytes)
    if before:
        receiver.tick(10.0)
        receiver.tick(10.0 + GAP)
    for number in range(3):
        assert fed(receiver, frame(message(number), COBS)[1:], by_bytes=by_bytes)[-1:] == [
            Framed(COBS, message(number))
        ]


def test_behind_text_a_frame_without_a_delimiter_before_it_is_text() -> None:
    receiver = Receiver(LIMIT)
    assert not [one for one in receiver.feed(NOISE + frame(message(1), COBS)[1:]) if isinstance(one, Framed)]
    assert receiver.feed(frame(message(2), COBS)[1:]) == [Framed(COBS, message(2))]


def test_on_an_idle_line_console_and_text_are_what_they_are() -> None:
    receiver = Receiver(LIMIT)
    for now in (0.0, 10.0, 20.0):
        assert receiver.feed(NOISE + frame(message(1), CONSOLE)) == [Junk(NOISE[:-2]), Framed(CONSOLE, message(1))]
        receiver.tick(now)
        receiver.tick(now + GAP)


def test_bytes_that_come_slowly_are_no_silence() -> None:
    receiver, data, events = Receiver(LIMIT), frame(message(1), COBS), list[Event]()
    for number, at in enumerate(range(0, len(data), 5)):
        events += receiver.feed(data[at : at + 5])
        events += receiver.tick(number * GAP * 0.9)
    assert events == [Framed(COBS, message(1))]


@pytest.mark.parametrize("transports", [SHARED, (CONSOLE,), (COBS,), (RAW,)])
def test_memory_is_bounded_whatever_comes(transports: tuple[Transport, ...]) -> None:
    random = Random(1)
    receiver, most = Receiver(LIMIT, transports), 0
    for _ in range(3000):
        match random.randrange(7):
            case 0:
                data = random.randbytes(random.randrange(3000))
            case 1:
                data = b"\0\x02" + b"\x01" * random.randrange(4000)
            case 2:
                data = b"\x06\x09" + b"A" * random.randrange(4000)
            case 3:
                data = b"\x0a\x00\xff\xff" + b"\x01" * random.randrange(4000)
            case 4:
                data = b"\x0a\x00\x03\xf0"
            case 5:
                data = frame(message(random.randrange(999), random.randrange(900)), random.choice(SHARED))[
                    : random.randrange(999)
                ]
            case _:
                data = b"\0" * random.randrange(100)
        receiver.feed(data)
        most = max(most, receiver.held)
    assert LIMIT / 2 < most <= 3.5 * LIMIT + MAX_JUNK


@pytest.mark.parametrize("size", [8, 9, 100, 253, 254, 255, 256, 508, 509, 1000, 1024, 4000])
def test_the_size_on_the_line_is_reckoned_right(size: int) -> None:
    for seed in range(5):
        data = b"\x0a\x00" + Random(seed).randbytes(size - 2)
        for transport in Transport:
            assert len(frame(data, transport)) <= frame_size(size, transport)
    assert len(frame(b"\x0a\x00" + b"\x01" * (size - 2), COBS)) in (frame_size(size, COBS), frame_size(size, COBS) - 1)
    assert frame_size(1024, COBS) / 1024 < 1.01


def test_what_cannot_be_framed_or_received() -> None:
    with pytest.raises(MisuseError, match="at least 8 bytes"):
        frame(b"\x0a\x00", COBS)
    with pytest.raises(MisuseError, match="no flags"):
        frame(encode(Message(Op.READ, 0, 0, 0, {}, flags=1)), COBS)
    for transports in ((), (RAW, CONSOLE), (RAW, COBS)):
        with pytest.raises(MisuseError, match="transports of one line"):
            Receiver(LIMIT, transports)
