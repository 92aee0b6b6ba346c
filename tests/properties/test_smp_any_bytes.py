"""Any bytes, cut in any way: an `SmpError` or a message, events and never an exception, memory within limits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from hillhold_verifier.errors import SmpError
from hillhold_verifier.smp import Message, Op, decode, encode
from hillhold_verifier.smp_body import MAX_DEPTH, decode_body, encode_body
from hillhold_verifier.smp_console import MAX_JUNK, ConsoleDecoder, Damaged, Event, Junk, Packet, encode_console

LIMIT = 200

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=40)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(st.text(max_size=8), values, max_size=6).filter(lambda body: depth_of(body) <= MAX_DEPTH)
messages = st.builds(
    Message,
    op=st.sampled_from(Op),
    group=st.integers(0, 0xFFFF),
    command=st.integers(0, 255),
    sequence=st.integers(0, 255),
    body=bodies,
    version=st.sampled_from([0, 1]),
    flags=st.integers(0, 255),
)
# Bodies as a fuzzer would write them: heads of every kind, and values that cbor2 encodes with tags.
heads = st.sampled_from([bytes([b]) for b in range(256)])
cbor_soup = st.lists(heads | st.binary(max_size=4), max_size=24).map(b"".join).map(lambda soup: b"\xbf" + soup)
tagged = st.dictionaries(
    st.text(max_size=3) | st.integers(0, 3),
    st.integers() | st.datetimes(timezones=st.timezones()) | st.fractions() | st.uuids(),
    max_size=3,
).map(cbor2.dumps)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    if type(value) is list:
        return all(map(is_plain, value))
    return value is None or type(value) in (int, bytes, str, bool, float)


@given(messages)
def test_messages_come_back(message: Message) -> None:
    data = encode(message)

    assert decode(data) == message
    assert encode(decode(data)) == data


@given(st.binary(max_size=60) | cbor_soup | tagged | bodies.map(encode_body).flatmap(lambda b: damaged(b)))
def test_any_body_is_plain_and_bounded_or_refused(data: bytes) -> None:
    try:
        body = decode_body(data)
    except SmpError:
        return

    assert is_plain(body)
    assert depth_of(body) <= MAX_DEPTH
    again = encode_body(body)
    assert encode_body(decode_body(again)) == again


@given(st.binary(max_size=60) | messages.map(encode).flatmap(lambda m: damaged(m)))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = decode(data)
    except SmpError:
        return

    assert encode(message)[4:8] == data[4:8]
    assert is_plain(message.body)


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    return st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)).map(
        lambda where: data[: where[0]] + bytes([data[where[0]] ^ where[1]]) + data[where[0] + 1 :]
    )


# --- console ----------------------------------------------------------------------------------------------------------

text = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=40).map(str.encode)
packets = st.binary(min_size=1, max_size=LIMIT)
noise = st.lists(
    st.binary(max_size=20)
    | st.sampled_from([b"\x06\x09", b"\x04\x14", b"\n", b"\r", b"\x06", b"\x04", b"AAAA", b"=", b"x" * 400, b"A" * 400])
    | packets.map(encode_console)
    | packets.map(encode_console).flatmap(damaged),
    max_size=12,
).map(b"".join)


def held(decoder: ConsoleDecoder) -> int:
    return len(decoder._line) + len(decoder._held) + len(decoder._packet or b"")


def feed_cut(data: bytes, cuts: list[int]) -> list[Event]:
    decoder, events = ConsoleDecoder(LIMIT), []
    for start, end in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        events += decoder.feed(data[start:end])
        assert held(decoder) <= 2.4 * LIMIT + MAX_JUNK
    return events


@given(noise, st.lists(st.integers(0, 2000), max_size=8))
def test_events_do_not_depend_on_the_pieces_and_memory_is_bounded(data: bytes, cuts: list[int]) -> None:
    whole = ConsoleDecoder(LIMIT).feed(data)

    assert feed_cut(data, cuts) == whole
    assert feed_cut(data, list(range(len(data)))) == whole
    for event in whole:
        match event:
            case Packet(packet):
                assert 0 < len(packet) <= LIMIT
            case Junk(line):
                assert 0 < len(line) <= MAX_JUNK
                assert b"\n" not in line
            case Damaged(reason):
                assert reason


@given(st.lists(st.tuples(packets, st.lists(text, max_size=5)), max_size=4))
def test_packets_arrive_whole_among_log_lines(sent: list[tuple[bytes, list[bytes]]]) -> None:
    wire, logged = b"", []
    for packet, logs in sent:
        left = list(logs)
        for line in encode_console(packet).splitlines(keepends=True):
            if left:
                logged.append(left[0])
                wire += left.pop(0) + b"\r\n"
            wire += line

    events = ConsoleDecoder(LIMIT).feed(wire)

    assert [event.data for event in events if isinstance(event, Packet)] == [packet for packet, _ in sent]
    assert [event.text for event in events if isinstance(event, Junk)] == logged
    assert len(events) == len(sent) + len(logged)


@given(noise, packets)
def test_the_packet_after_any_noise_arrives(data: bytes, packet: bytes) -> None:
    assert ConsoleDecoder(LIMIT).feed(data + encode_console(packet))[-1] == Packet(packet)


@given(packets, st.data())
def test_a_damaged_frame_gives_no_other_packet(packet: bytes, data: st.DataObject) -> None:
    """One changed byte is a burst of at most 16 bits of base64 content, which CRC-16 always finds."""
    wire = data.draw(damaged(encode_console(packet)))

    events = ConsoleDecoder(LIMIT).feed(wire + encode_console(b"next"))

    assert {event.data for event in events if isinstance(event, Packet)} <= {packet, b"next"}
    assert events[-1] == Packet(b"next")
