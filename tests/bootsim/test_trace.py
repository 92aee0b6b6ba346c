"""A capture is told as it was: messages by name, requests with their answers, what was lost, and what was no message at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from hillhold_bootsim.cli import main
from hillhold_bootsim.trace import Broken, Failure, Said, Seen, Trace, trace
from hillhold_bootsim.tracetext import event_lines, event_values, summary_lines
from hillhold_verifier.capture import Chunk
from hillhold_verifier.errors import SlotError
from hillhold_verifier.framing import Transport, frame
from hillhold_verifier.smp import HILLHOLD_GROUP, ImgMgmtErr, Message, MgmtErr, Op, encode

ECHO = Message(Op.WRITE, 0, 0, 7, {"d": "hello"})
ECHO_RSP = Message(Op.WRITE_RSP, 0, 0, 7, {"r": "hello"})
UPLOAD = Message(Op.WRITE, 1, 1, 255, {"off": 0, "len": 4000, "data": bytes(512)})


def at(time: float, message: Message, transport: Transport = Transport.CONSOLE, *, sent: bool | None = None) -> Chunk:
    goes = message.op in (Op.READ, Op.WRITE) if sent is None else sent
    return Chunk(time, goes, frame(encode(message), transport))


def lines(*chunks: Chunk, width: int = 100) -> list[str]:
    return list(event_lines(trace(chunks).events, HILLHOLD_GROUP, width))


def seen(found: Trace) -> list[Seen]:
    return [event for event in found.events if isinstance(event, Seen)]


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_request_and_its_answer_are_told_with_the_time_between() -> None:
    assert lines(at(0.5, ECHO), at(0.5125, ECHO_RSP)) == [
        '     0.5000 > console #7   write     os echo            d "hello"',
        '     0.5125 < console #7   write rsp os echo            12.5 ms  r "hello"',
    ]


@pytest.mark.parametrize("transport", Transport)
def test_each_transport_is_recognised(transport: Transport) -> None:
    found = trace([at(0, ECHO, transport), at(0.1, ECHO_RSP, transport)])
    assert [(event.transport, event.message) for event in seen(found)] == [(transport, ECHO), (transport, ECHO_RSP)]
    assert len(found.events) == 2


@pytest.mark.parametrize("transport", Transport)
def test_bytes_may_come_one_by_one(transport: Transport) -> None:
    data = frame(encode(UPLOAD), transport)
    found = trace([Chunk(number / 1000, True, bytes([byte])) for number, byte in enumerate(data)])
    assert [event.message for event in seen(found)] == [UPLOAD]
    assert len(found.events) == 1


def test_a_courier_that_tries_one_transport_after_the_other_is_followed() -> None:
    found = trace(
        [
            at(0, ECHO, Transport.CONSOLE),
            at(2, ECHO, Transport.RAW),
            at(2.1, ECHO_RSP, Transport.RAW),
            at(3, UPLOAD, Transport.RAW),
        ]
    )
    assert [event.transport.value for event in seen(found)] == ["console", "raw", "raw", "raw"]
    assert [(event.times, event.answers) for event in seen(found) if event.is_request] == [(1, 0), (2, 1), (1, 0)]
    assert len(found.events) == 4


def test_byte_strings_are_told_by_length_and_beginning() -> None:
    assert "len 4000  off 0  data [512B:00000000…]" in lines(at(0, UPLOAD))[1]
    short = Message(Op.WRITE, 1, 0, 1, {"hash": b"\x01\x02", "none": b""})
    assert "hash [2B:0102]  none [0B]" in lines(at(0, short))[0]


def test_a_long_body_goes_on_below_and_no_line_is_too_wide() -> None:
    body = {"images": [{"slot": slot, "version": "1.0.0", "hash": bytes(32), "active": True} for slot in range(4)]}
    told = lines(at(0, Message(Op.READ_RSP, 1, 0, 1, body)), width=80)
    assert len(told) > 3
    assert max(map(len, told)) <= 80
    assert told[0].endswith("image state        nobody asked")
    assert all(line.startswith(" " * 13) for line in told[1:])
    assert "version 1" not in "".join(told)
    assert not any(line.endswith((" version", " slot", " hash")) for line in told)  # a name and its value stay together


def test_errors_are_told_by_name() -> None:
    v1 = Message(Op.WRITE_RSP, 1, 5, 1, {"rc": int(MgmtErr.EBUSY)}, version=0)
    v2 = Message(Op.WRITE_RSP, 1, 1, 2, {"err": {"group": 1, "rc": int(ImgMgmtErr.INVALID_HASH)}})
    ours = Message(Op.WRITE_RSP, HILLHOLD_GROUP, 4, 3, {"err": {"group": HILLHOLD_GROUP, "rc": SlotError.code}})
    unknown = Message(Op.WRITE_RSP, 1, 1, 4, {"err": {"group": 1, "rc": 9999}, "rc": 9999})
    odd = Message(Op.WRITE_RSP, 1, 1, 5, {"err": {"group": "x", "rc": None}, "rc": "y"})
    told = [line for message in (v1, v2, ours, unknown, odd) for line in lines(at(0, message), width=200)]
    assert "image erase        nobody asked  rc 10 (EBUSY)" in told[0]
    assert "err {rc 24, group 1} (INVALID_HASH)" in told[1]
    assert "hillhold apply     nobody asked  err {rc 35, group 18504} (SlotError)" in told[2]
    assert not any("(" in line for line in told[3:])


def test_groups_and_commands_that_are_not_known_have_numbers() -> None:
    assert "group 200 command 9" in lines(at(0, Message(Op.READ, 200, 9, 1)))[0]
    assert "image command 200" in lines(at(0, Message(Op.READ, 1, 200, 1)))[0]


def test_the_number_of_hillholds_group_can_be_another() -> None:
    found = trace([at(0, Message(Op.READ, 64, 5, 1))])
    assert "hillhold status" in next(event_lines(found.events, 64, 100))
    assert "group 64 command 5" in next(event_lines(found.events, HILLHOLD_GROUP, 100))


# --- lost and doubled -------------------------------------------------------------------------------------------------


def test_a_request_that_is_sent_again_says_so_and_the_answer_counts_from_the_last_one() -> None:
    told = lines(at(0, ECHO), at(2, ECHO), at(2.25, ECHO_RSP))
    assert "no answer" in told[0]
    assert "sent again (2)" in told[1]
    assert "no answer" not in told[1]
    assert "250.0 ms" in told[2]


def test_the_same_request_in_a_new_message_is_sent_again_only_while_the_first_has_no_answer() -> None:
    other = Message(Op.WRITE, 0, 0, 8, {"d": "hello"})
    assert [event.times for event in seen(trace([at(0, ECHO), at(2, other)]))] == [1, 2]
    assert [event.times for event in seen(trace([at(0, ECHO), at(1, ECHO_RSP), at(2, other)]))] == [1, 1, 1]


def test_an_answer_that_comes_twice_and_one_that_nobody_asked_for() -> None:
    stray = Message(Op.READ_RSP, 0, 6, 99, {})
    told = lines(at(0, ECHO), at(0.1, ECHO_RSP), at(0.2, ECHO_RSP), at(0.3, stray))
    assert "a second answer" not in told[1]
    assert "a second answer" in told[2]
    assert "nobody asked" in told[3]


def test_answers_in_another_order_find_their_requests() -> None:
    asks = [Message(Op.WRITE, 1, 1, number, {"off": number}) for number in range(4)]
    answers = [Message(Op.WRITE_RSP, 1, 1, number, {"off": number + 1}) for number in (2, 0, 3, 1)]
    found = trace([*(at(number, ask) for number, ask in enumerate(asks)), *(at(10, answer) for answer in answers)])
    assert [event.latency for event in seen(found)[4:]] == [8, 10, 7, 9]
    assert found.summary()["unanswered"] == 0


def test_a_sequence_number_that_comes_round_is_not_a_retransmission() -> None:
    chunks = []
    for number in range(600):
        ask = Message(Op.READ, HILLHOLD_GROUP, 5, number % 256)
        chunks += [at(number, ask), at(number + 0.5, Message(Op.READ_RSP, HILLHOLD_GROUP, 5, number % 256))]
    summary = trace(chunks).summary()
    assert (summary["requests"], summary["sent_again"], summary["unanswered"], summary["answers"]) == (600, 0, 0, 600)


# --- between frames ---------------------------------------------------------------------------------------------------


def test_text_between_frames_is_told_as_text() -> None:
    log = b"[00:00:01] <inf> main: \x1b[31mhi\x1b[0m \xff\r\n"
    answer = frame(encode(ECHO_RSP), Transport.CONSOLE)
    told = lines(at(0, ECHO), Chunk(0.1, False, log + answer + log), Chunk(0.2, False, b"uart:~$ "))
    assert told[1] == "     0.1000 < text    [00:00:01] <inf> main: \x1b[31mhi\x1b[0m \\xff"
    assert "write rsp os echo" in told[2]
    assert told[4] == "     0.2000 < text    uart:~$ "  # a prompt has no end of line


def test_damaged_frames_are_told_with_the_reason() -> None:
    data = bytearray(frame(encode(ECHO_RSP), Transport.CONSOLE))
    data[10] ^= 1
    told = lines(at(0, ECHO), Chunk(0.1, False, bytes(data)), Chunk(5, False, b""))
    assert told[1].startswith("     0.1000 < damaged ")
    assert "no answer" in told[0]


def test_a_frame_with_a_good_checksum_that_is_no_message_is_damaged() -> None:
    found = trace([Chunk(0, False, frame(b"\xff" * 20, Transport.CONSOLE))])
    (event,) = found.events
    assert isinstance(event, Broken)
    assert "SMP" in event.reason


def test_a_port_that_failed_is_told() -> None:
    found = trace([at(0, ECHO), Chunk(1, False, b"", "x: Input/output error")])
    assert found.events[1] == Failure(1, "x: Input/output error")
    assert list(event_lines(found.events[1:], 0, 100)) == ["     1.0000 ! port    x: Input/output error"]


def test_a_line_with_text_alone_is_all_text() -> None:
    found = trace([Chunk(0, False, b"pi login: ")])
    assert found.events == [Said(0, False, b"pi login: ")]


def test_a_line_that_is_held_low_says_nothing() -> None:
    """Eight zeros are a message of SMP over raw."""
    assert not seen(trace([at(0, ECHO), Chunk(1, False, bytes(800)), at(2, ECHO)]))[2:]


def test_what_lies_around_the_bytes_of_another_transport_is_not_told_twice() -> None:
    log = b"hello\n"
    chunks = [
        Chunk(0, False, log),
        at(1, ECHO_RSP, Transport.COBS),
        Chunk(2, False, log),
        at(3, ECHO_RSP),
        Chunk(4, False, log),
    ]
    assert [type(event).__name__ for event in trace(chunks).events] == ["Said", "Seen", "Said", "Seen", "Said"]


def test_the_summary_counts() -> None:
    chunks = [
        at(0, ECHO),
        at(2, ECHO),
        Chunk(2.1, False, b"hi\n"),
        at(2.25, ECHO_RSP),
        at(3, UPLOAD),
        Chunk(4, False, b"", "x"),
    ]
    found = trace(chunks)
    assert found.summary() == {
        "seconds": 4,
        "sent_bytes": sum(len(chunk.data) for chunk in chunks if chunk.sent),
        "received_bytes": sum(len(chunk.data) for chunk in chunks if not chunk.sent),
        "requests": 3,
        "sent_again": 1,
        "unanswered": 2,
        "answers": 1,
        "damaged": 0,
        "lines_of_text": 1,
        "failures": 1,
        "median_latency": 0.25,
        "longest_latency": 0.25,
    }
    told = "\n".join(summary_lines(found))
    assert "requests  3, 1 of them sent again, 2 without an answer" in told
    assert "answers   1, 250.0 ms after their requests" in told
    assert "text      1 lines" in told


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=12))
def test_any_bytes_are_told_without_an_error(pieces: list[tuple[bool, bytes]]) -> None:
    found = trace([Chunk(number, sent, data) for number, (sent, data) in enumerate(pieces)])
    list(event_lines(found.events, HILLHOLD_GROUP, 100))
    json.dumps([event_values(event, HILLHOLD_GROUP) for event in found.events], allow_nan=False)
    assert summary_lines(found)
    assert [event.time for event in found.events] == sorted(event.time for event in found.events)


# --- the command ------------------------------------------------------------------------------------------------------


def written(path: Path, *chunks: Chunk, rest: str = "") -> Path:
    head = {"hillhold-capture": 1, "port": "/dev/ttyACM0", "baud": 115200, "start": 1_700_000_000}
    rows = [{"t": chunk.time, "d": ">" if chunk.sent else "<", "b": chunk.data.hex()} for chunk in chunks]
    path.write_text("".join(json.dumps(row) + "\n" for row in (head, *rows)) + rest)
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["trace", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_prints_a_capture(tmp_path: Path) -> None:
    file = written(tmp_path / "x", at(0.5, ECHO), at(0.6, ECHO_RSP))
    code, out, err = run(file)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "capture of /dev/ttyACM0 at 115200 baud, begun 2023-11-14T22:13:20Z"
    assert '< console #7   write rsp os echo            100.0 ms  r "hello"' in out
    assert "requests  1" in out


def test_what_a_board_says_cannot_move_the_cursor(tmp_path: Path) -> None:
    file = written(
        tmp_path / "x",
        Chunk(0, False, b"\x1b[2J\xe2\x80\xaeabc\n"),
        at(1, Message(Op.READ_RSP, 0, 0, 1, {"\x1b[2J": "\x1b[2J"})),
    )
    _, out, _ = run(file)
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_the_good_part_of_a_capture_that_was_cut_short_is_shown_and_then_the_error(tmp_path: Path) -> None:
    file = written(tmp_path / "x", at(0.5, ECHO), rest='{"t": 0.6, "d": "<", "b')
    code, out, err = run(file)
    assert code == 1
    assert 'd "hello"' in out
    assert "requests  1" in out
    assert err.startswith(
        "error: capture line 3: expected one JSON object, got the beginning of one: the file was cut short"
    )
    code, out, err = run(file, "--json")
    assert (code, err) == (1, "")
    assert json.loads(out)["problem"].startswith("capture line 3")
    assert len(json.loads(out)["events"]) == 1
    code, out, err = run(file, "--raw")
    assert (code, err[:22]) == (1, "error: capture line 3:")
    assert "0000  06 09" in out


def test_a_file_that_is_no_capture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x7fELF")
    assert run(tmp_path / "x")[0] == 1
    code, out, _ = run(tmp_path / "x", "--json")
    assert (code, json.loads(out)["exit"]) == (1, 1)


def test_json_has_every_event_whole(tmp_path: Path) -> None:
    code, out, _ = run(written(tmp_path / "x", at(0, UPLOAD), Chunk(1, False, b"hi\n")), "--json")
    assert code == 0
    values = json.loads(out)
    assert values["capture"] == {"port": "/dev/ttyACM0", "baud": 115200, "start": 1_700_000_000}
    request, text = values["events"]
    assert request["body"] == {"off": 0, "len": 4000, "data": "00" * 512}
    assert (request["name"], request["transport"], request["answers"]) == ("image upload", "console", 0)
    assert (text["kind"], text["text"], text["bytes"]) == ("text", "hi", b"hi".hex())
    assert values["problem"] is None


def test_raw_prints_bytes(tmp_path: Path) -> None:
    _, out, _ = run(written(tmp_path / "x", Chunk(0.25, False, b"hello\n")), "--raw")
    assert out.splitlines()[1:] == [
        "     0.2500 < 6 bytes",
        f"             0000  {'68 65 6c 6c 6f 0a':48} hello.",
    ]
