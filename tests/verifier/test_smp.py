"""SMP messages, bodies and console lines, case by case."""

from __future__ import annotations

import binascii
from types import MappingProxyType
from typing import Any

import cbor2
import pytest

from hillhold_verifier.errors import MisuseError, SmpError
from hillhold_verifier.smp import (
    MAX_MESSAGE,
    Group,
    ImageCommand,
    ImgMgmtErr,
    Message,
    MgmtErr,
    Op,
    OsCommand,
    decode,
    encode,
    error_body,
)
from hillhold_verifier.smp_body import MAX_BODY, MAX_DEPTH, MAX_ITEMS, decode_body, encode_body
from hillhold_verifier.smp_console import (
    MAX_JUNK,
    MAX_PACKET,
    ConsoleDecoder,
    Damaged,
    Event,
    Junk,
    Packet,
    encode_console,
)

ECHO = Message(Op.WRITE, Group.OS, OsCommand.ECHO, 7, {"d": "hi"})


def feed(data: bytes, limit: int = 1000) -> list[Event]:
    return ConsoleDecoder(limit).feed(data)


def lines(packet: bytes) -> list[bytes]:
    return encode_console(packet).splitlines(keepends=True)


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else 0


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_has_these_bytes() -> None:
    assert encode(ECHO) == bytes.fromhex("0a 00 0006 0000 07 00  a1 6164 626869")
    assert decode(encode(ECHO)) == ECHO


def test_header_fields_lie_where_the_protocol_says() -> None:
    message = Message(Op.READ_RSP, 0x4848, 0xFE, 0xFD, {}, version=0, flags=0xFC)

    assert encode(message) == bytes.fromhex("01 fc 0001 4848 fd fe a0")
    assert decode(encode(message)) == message


def test_a_message_without_a_body_has_an_empty_map() -> None:
    assert decode(bytes.fromhex("0000000000000006")) == Message(Op.READ, 0, 6, 0, {}, version=0)


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("SMP message", b""),
        ("SMP message", encode(ECHO)[:7]),
        ("SMP message", bytes(MAX_MESSAGE + 1)),
        ("SMP body length", encode(ECHO)[:-1]),
        ("SMP body length", encode(ECHO) + b"\0"),
        ("first byte 0x2a", b"\x2a" + encode(ECHO)[1:]),  # a reserved bit
        ("first byte 0x12", b"\x12" + encode(ECHO)[1:]),  # version 2
        ("first byte 0x0c", b"\x0c" + encode(ECHO)[1:]),  # operation 4
    ],
)
def test_refuses_malformed_messages(what: str, data: bytes) -> None:
    with pytest.raises(SmpError, match=what):
        decode(data)


@pytest.mark.parametrize(
    "change",
    [{"group": 65536}, {"group": -1}, {"command": 256}, {"sequence": 256}, {"flags": 256}, {"version": 2}],
)
def test_encoding_a_field_out_of_range_is_misuse(change: dict[str, Any]) -> None:
    fields = {"op": Op.READ, "group": 0, "command": 0, "sequence": 0} | change

    with pytest.raises(MisuseError):
        encode(Message(**fields))


def test_error_bodies() -> None:
    assert error_body(0, Group.IMAGE, MgmtErr.EBUSY, "later") == {"rc": 10, "rsn": "later"}
    assert error_body(0, Group.IMAGE, MgmtErr.EBUSY) == {"rc": 10}
    assert error_body(1, Group.IMAGE, ImgMgmtErr.INVALID_HASH, "x") == {"err": {"group": 1, "rc": 24}}
    assert decode_body(encode_body(error_body(1, Group.IMAGE, ImgMgmtErr.NO_IMAGE))) == {"err": {"group": 1, "rc": 3}}
    assert (ImageCommand.STATE, ImageCommand.UPLOAD, ImageCommand.ERASE, OsCommand.RESET) == (0, 1, 5, 5)


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_bodies_hold_plain_values_and_have_one_form() -> None:
    body = {"zz": 1, "b": [True, None, 1.5, -(2**64), 2**64 - 1, b"\0", "ü"], "a": {"x": {}}}

    assert decode_body(encode_body(body)) == body
    assert encode_body(dict(reversed(body.items()))) == encode_body(body)
    assert encode_body({"b": 1, "a": 2, "aa": 3}) == bytes.fromhex("a3 6161 02 6162 01 626161 03")
    assert encode_body(MappingProxyType({"e": MgmtErr.EBUSY, "t": (1,)})) == encode_body({"e": 10, "t": [1]})


def test_reads_indefinite_lengths_as_zephyr_sends_them() -> None:
    data = bytes.fromhex("bf 66696d61676573 9f bf 64736c6f74 00 ff ff 6161 5f 4101 4102 ff 6162 7f 6163 ff ff")

    assert decode_body(data) == {"images": [{"slot": 0}], "a": b"\x01\x02", "b": "c"}


@pytest.mark.parametrize(
    "data",
    [
        "",
        "80",  # a list
        "a1 6161",  # cut short
        "a0 00",  # more bytes
        "bf 6161 00",  # no break
        "a1 6161 ff",  # a break where a value belongs
        "bf 6161 ff",  # a break between key and value
        "a1 00 00",  # a key that is not text
        "a1 4161 00",
        "a2 6161 00 6161 01",  # the same key twice
        "a2 6161 00 780161 01",
        "a2 6161 00 7f6161ff 01",
        "a1 61ff 00",  # not UTF-8
        "a1 6161 61ff",
        "a1 6161 7f 61c3 61bc ff",  # each chunk is text of its own
        "a1 6161 7f 4161 ff",  # a chunk of another type
        "a1 6161 7f 7f 6161 ff ff",  # a chunk of indefinite length
        "a1 6161 c0 74323031332d30332d32315432303a30343a30305a",  # a date
        "a1 6161 c2 4101",  # a big number
        "a1 6161 d81c 80",  # shareable
        "a1 6161 d81d 00",  # a shared reference
        "a1 6161 d823 6161",  # a regular expression
        "d9d9f7 a0",  # self-described CBOR
        "a1 6161 f7",  # undefined
        "a1 6161 f0",  # another simple value
        "a1 6161 f8ff",
        "a1 6161 f814",
        "a1 6161 fc",  # reserved
        "a1 6161 1c",
        "a1 6161 1f",  # an integer of indefinite length
        "a1 6161 9bffffffffffffffff",  # a length beyond all memory
        "a1 6161 5bffffffffffffffff",
        "bbffffffffffffffff",
    ],
)
def test_refuses_bodies_that_smp_has_no_use_for(data: str) -> None:
    with pytest.raises(SmpError, match="SMP body"):
        decode_body(bytes.fromhex(data))


def test_depth_items_and_size_are_limited_on_both_sides() -> None:
    deepest, most = nested(MAX_DEPTH), {"a": [0] * (MAX_ITEMS - 3)}
    largest = {"a": bytes(MAX_BODY - 6)}
    for body in (deepest, most, largest):
        assert decode_body(encode_body(body)) == body

    for body in (nested(MAX_DEPTH + 1), {"a": [0] * (MAX_ITEMS - 2)}, {"a": bytes(MAX_BODY - 5)}):
        with pytest.raises(SmpError):
            decode_body(cbor2.dumps(body))
        with pytest.raises(MisuseError):
            encode_body(body)


@pytest.mark.parametrize(
    "body",
    [
        {1: 2},
        {"a": {2: 3}},
        {"a": object()},
        {"a": {1, 2}},
        {"a": 2**64},
        {"a": "\ud800"},
        {"\ud800": 1},
        {"a": bytearray(1)},
    ],
)
def test_encoding_what_a_body_cannot_hold_is_misuse(body: Any) -> None:
    with pytest.raises(MisuseError):
        encode_body(body)


def test_encoding_a_cycle_is_misuse() -> None:
    body: dict[str, object] = {}
    body["again"] = body

    with pytest.raises(MisuseError):
        encode_body(body)


# --- console ----------------------------------------------------------------------------------------------------------


def test_a_frame_has_these_bytes() -> None:
    assert encode_console(b"Hello, world!") == b"\x06\x09" + b"AA9IZWxsbywgd29ybGQhet4=" + b"\n"
    assert feed(encode_console(b"Hello, world!")) == [Packet(b"Hello, world!")]


def test_lines_are_short_and_each_is_base64_of_its_own() -> None:
    framed = lines(bytes(range(256)) * 2)

    assert all(len(line) <= 127 for line in framed)
    assert framed[0].startswith(b"\x06\x09")
    assert all(line.startswith(b"\x04\x14") for line in framed[1:])
    raw = b"".join(binascii.a2b_base64(line[2:], strict_mode=True) for line in map(bytes.strip, framed))
    assert raw[:2] == (512 + 2).to_bytes(2)


@pytest.mark.parametrize("length", [1, 2, 3, 85, 86, 87, 88, 89, 176, 177, 178, 1000])
def test_round_trip_at_every_boundary(length: int) -> None:
    packet = bytes(i & 0xFF for i in range(length))

    assert feed(encode_console(packet)) == [Packet(packet)]
    assert feed(encode_console(packet).replace(b"\n", b"\r\n"), limit=length) == [Packet(packet)]


def test_a_line_as_long_as_its_packet_is_read() -> None:
    raw = (300 + 2).to_bytes(2) + bytes(300) + binascii.crc_hqx(bytes(300), 0).to_bytes(2)

    assert feed(b"\x06\x09" + binascii.b2a_base64(raw), limit=300) == [Packet(bytes(300))]


def test_text_before_between_and_after_lines_is_junk() -> None:
    first, *rest = lines(bytes(200))
    wire = b"*** Booting\r\nuart:~$ " + first + b"[00:00] <inf> app: hi\n" + b"".join(rest) + b"\n\r\nbye\n"

    assert feed(wire) == [
        Junk(b"*** Booting"),
        Junk(b"uart:~$ "),
        Junk(b"[00:00] <inf> app: hi"),
        Packet(bytes(200)),
        Junk(b"bye"),
    ]


def test_long_text_comes_in_pieces() -> None:
    assert feed(b"x" * (2 * MAX_JUNK + 5) + b"\n") == [Junk(b"x" * MAX_JUNK)] * 2 + [Junk(b"x" * 5)]


def test_a_lost_line_damages_one_packet_and_the_next_arrives() -> None:
    framed, after = lines(bytes(400)), encode_console(b"next")

    for lost in range(len(framed)):
        kept = b"".join(framed[:lost] + framed[lost + 1 :])
        events = feed(kept + after)
        assert [type(event) for event in events] == [Damaged, Packet]
        assert events[-1] == Packet(b"next")


def test_a_line_that_comes_twice_damages_one_packet() -> None:
    framed = lines(bytes(range(250)))

    events = feed(framed[0] + framed[1] + framed[1] + framed[2] + encode_console(b"next"))

    assert [type(event) for event in events] == [Damaged, Packet]


def test_a_lost_newline_loses_nothing() -> None:
    wire = encode_console(bytes(200)).replace(b"\n", b"")

    assert feed(wire + encode_console(b"next")) == [Packet(bytes(200)), Packet(b"next")]


@pytest.mark.parametrize(
    ("reason", "wire"),
    [
        ("CRC", b"\x06\x09" + binascii.b2a_base64(b"\0\x03a\0\0")),
        ("a length of 2 ", b"\x06\x09" + binascii.b2a_base64(b"\0\x02\0\0")),
        ("a length of 1003 ", b"\x06\x09" + binascii.b2a_base64(b"\x03\xeb" + bytes(20))),
        ("at least a length", b"\x06\x09" + binascii.b2a_base64(b"\0")),
        ("at least a length", b"\x06\x09\n"),
        ("not base64", b"\x06\x09AA9IZW?sbywgd29ybGQhet4=\n"),
        ("not base64", b"\x06\x09AA9IZWxsbywgd29ybGQhet5=\n"),  # a bit after the end
        ("more bytes", b"\x06\x09" + binascii.b2a_base64(b"\0\x03a\0\0\0")),
        ("without a first", lines(bytes(200))[1]),
        ("further line that is not base64", lines(bytes(200))[0] + b"\x04\x14AA\x00A\n"),
        ("longer than any", b"\x06\x09" + b"A" * 2000 + b"\n"),
        ("next packet", lines(bytes(200))[0] + b"\x06"),
    ],
)
def test_damage_is_named_and_the_next_packet_arrives(reason: str, wire: bytes) -> None:
    damaged, *after = feed(
        wire + encode_console(b"next") if wire[-1:] == b"\n" else wire[:-1] + encode_console(b"next")
    )

    assert isinstance(damaged, Damaged)
    assert reason in damaged.reason
    assert after == [Packet(b"next")]


def test_the_rest_of_an_overlong_line_is_dropped_however_long() -> None:
    decoder = ConsoleDecoder(10)

    assert len(decoder.feed(b"\x06\x09" + b"A" * 100)) == 1
    assert [decoder.feed(b"A" * 100) for _ in range(3)] == [[], [], []]
    assert decoder.feed(b"\n" + encode_console(b"next")) == [Packet(b"next")]


def test_limits_of_the_console_are_misuse() -> None:
    for packet in (b"", bytes(MAX_PACKET + 1)):
        with pytest.raises(MisuseError):
            encode_console(packet)
    for limit in (0, MAX_PACKET + 1):
        with pytest.raises(MisuseError):
            ConsoleDecoder(limit)
    assert feed(encode_console(bytes(MAX_PACKET)), MAX_PACKET) == [Packet(bytes(MAX_PACKET))]
