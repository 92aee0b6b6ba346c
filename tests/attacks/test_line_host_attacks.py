"""What a hostile board, or a line, can do to a host: it ends, in bounded time and with a bounded number of requests; it keeps little; it
opens nothing but its own files (tests/e2e/test_device_command.py and the fuzzer's `courier` hold that last one, too)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from bench import Bench, installed
from hillhold_verifier.agent import CHOOSE, HELD, IDENTIFY
from hillhold_verifier.answers import MAX_WORDS, Body
from hillhold_verifier.conversation import Conversation, Request, T, Upload
from hillhold_verifier.courier import MAX_VERDICTS, Courier, Pushed, ask
from hillhold_verifier.errors import HillholdError, OperationalError, SmpError
from hillhold_verifier.exchange import MAX_ANSWER, MAX_TEXT, Exchange, Timing
from hillhold_verifier.framing import SHARED, Framed, Receiver, Transport, frame
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, Message, Op, OsCommand, decode, encode
from hillhold_verifier.smp_console import MAX_JUNK
from offers import TreeSource, offer

CONSOLE, COBS, RAW = Transport.CONSOLE, Transport.COBS, Transport.RAW
ECHO = Request(Op.READ, Group.OS, OsCommand.ECHO, {"d": "x"})
LENGTH = 100_000
TURN = 0.002
Says = Callable[["Board", Message], list[tuple[float, bytes]]]


class Board:
    """A board that says what a test has it say, on a line in virtual time.

    Attributes:
        says: seconds and bytes that follow on a request.
        hums: what it sends besides, ten times a second.
        seconds, requests: so far.
    """

    def __init__(self, exchange: Exchange, says: Says, *, hums: bytes = b"") -> None:
        self.exchange, self.says, self.hums = exchange, says, hums
        self.seconds, self.requests, self.sent = 0.0, 0, 0
        self.coming: list[tuple[float, int, bytes]] = []
        self.receivers = (Receiver(20_000, SHARED), Receiver(20_000, (RAW,)))
        self.transport = CONSOLE

    def answer(self, request: Message, body: Body, **change: Any) -> bytes:
        fields: dict[str, Any] = {
            "op": Op(request.op + 1),
            "group": request.group,
            "command": request.command,
            "sequence": request.sequence,
        }
        return frame(encode(Message(**{**fields, **change}, body=body)), self.transport)

    def run(self, conversation: Conversation[T], *, most: int = 5000, seconds: float = 36_000.0) -> T:
        exchange = self.exchange
        exchange.begin(conversation, self.seconds)
        while exchange.busy:
            self.hear(exchange.poll(self.seconds))
            assert self.requests <= most, "the host asks for ever"
            assert self.seconds <= seconds, "the host waits for ever"
            assert sum(receiver.held for receiver in exchange._receivers) <= 2 * (3.5 * MAX_ANSWER + MAX_JUNK)
            assert len(exchange.text) <= MAX_TEXT + MAX_JUNK
            due = exchange.due()
            times = [time for time, *_ in self.coming] + ([due] if due is not None else [])
            assert times or not exchange.busy, "the host waits for nothing"
            until = max(self.seconds, min(times, default=self.seconds))
            if self.hums:
                until = min(until, self.seconds + 0.1)
                exchange.receive(self.hums, until)
            self.seconds = until
            while self.coming and self.coming[0][0] <= self.seconds:
                exchange.receive(self.coming.pop(0)[2], self.seconds)
        result: T = exchange.result  # type: ignore[assignment]
        return result

    def hear(self, data: bytes) -> None:
        for receiver in self.receivers:
            for event in receiver.feed(data):
                if isinstance(event, Framed):
                    try:
                        message = decode(event.data)
                    except SmpError:
                        continue
                    self.requests, self.transport = self.requests + 1, event.transport
                    for late, said in self.says(self, message):
                        self.sent += 1
                        self.coming.append((self.seconds + late, self.sent, said))
        self.coming.sort()


class Zeros:
    def read(self, offset: int, length: int) -> bytes:
        return bytes(min(length, LENGTH - offset))


def sending(*, asks: bool, window: int = 4) -> Conversation[Body]:
    first: Body = {"image": 0, "len": LENGTH, "sha": bytes(32)}
    return (yield Upload(Zeros(), LENGTH, first, "image x", 1024, window, asks=asks))


def end_of(request: Message) -> int:
    offset, data = request.body["off"], request.body["data"]
    assert isinstance(offset, int)
    assert isinstance(data, bytes)
    return offset + len(data)


# --- an upload that does not come to its end --------------------------------------------------------------------------

OFFSETS: dict[str, Callable[[Message, Random], object]] = {
    "none of it": lambda _request, _random: 0,
    "one byte of each piece": lambda request, _: min(LENGTH, int(request.body["off"]) + 1),  # type: ignore[call-overload]
    "two thirds of each piece": lambda request, _: (2 * end_of(request) + int(request.body["off"])) // 3,  # type: ignore[call-overload]
    "any": lambda _, random: random.randrange(LENGTH + 1),
    "back and forth": lambda request, random: random.choice((0, end_of(request))),
    "all but one": lambda _request, _random: LENGTH - 1,
    "all, at once": lambda _request, _random: LENGTH,
    "beyond the end": lambda _request, _random: LENGTH + 1,
    "2^63": lambda _request, _random: 2**63,
    "-1": lambda _request, _random: -1,
    "text": lambda _request, _random: "7",
    "no offset": lambda _request, _random: None,
}


@pytest.mark.slow
@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("kind", OFFSETS)
def test_an_upload_is_answered_with_whatever_offsets(kind: str, *, asks: bool) -> None:
    """It ends, with what the board said last or an error; never with more requests than the pieces and a window behind each."""
    random = Random(kind)

    def says(board: Board, request: Message) -> list[tuple[float, bytes]]:
        return [(TURN, board.answer(request, {"off": OFFSETS[kind](request, random)}))]

    board = Board(Exchange(transport=COBS), says)
    if kind == "all, at once":
        assert board.run(sending(asks=asks), most=8)["off"] == LENGTH
        return
    with pytest.raises(HillholdError, match=r"took no more|SMP field off|offset of an upload"):
        board.run(sending(asks=asks), most=1000, seconds=60)


def test_a_board_that_takes_first_requests_and_never_a_piece_is_given_up() -> None:
    """Each answer to the first request would have begun the count of timeouts anew. A line that eats long frames does the same."""

    def says(board: Board, request: Message) -> list[tuple[float, bytes]]:
        return [] if request.body["data"] else [(TURN, board.answer(request, {"off": 0}))]

    with pytest.raises(OperationalError, match="asked 5 times"):
        Board(Exchange(transport=COBS), says).run(sending(asks=True), most=40, seconds=120)


@pytest.mark.parametrize("asks", [False, True])
def test_answers_that_come_later_and_later_hold_nobody_up(*, asks: bool) -> None:
    """Each just before it would be given up: the patience of a host grows with what it sees, and has an end."""

    def says(board: Board, request: Message) -> list[tuple[float, bytes]]:
        due = board.exchange.due()
        late = (due - board.seconds if due else 1.0) * 0.99
        return [(late, board.answer(request, {"off": end_of(request)}))]

    board = Board(Exchange(transport=COBS), says)
    board.run(sending(asks=asks, window=1), most=200, seconds=110 * Timing().most + 200)


# --- answers that are none --------------------------------------------------------------------------------------------


def wrong(board: Board, request: Message, random: Random) -> bytes:
    """An answer that is not this request's."""
    return board.answer(
        request,
        {"r": "wrong", "off": random.randrange(LENGTH), "magic": "hillhold"},
        **random.choice(
            (
                {"sequence": (request.sequence + random.randrange(1, 256)) % 256},
                {"command": request.command + 1},
                {"group": request.group + 1},
                {"op": Op.WRITE_RSP if request.op is Op.READ else Op.READ_RSP},
                {"op": request.op},
            )
        ),
    )


@pytest.mark.parametrize("transport", [CONSOLE, COBS, RAW])
def test_only_the_answer_to_what_was_asked_is_one(transport: Transport) -> None:
    """Before it come others' answers, echoes of the request, and answers of another transport; after it, it comes again."""
    random = Random(3)

    def says(board: Board, request: Message) -> list[tuple[float, bytes]]:
        right = board.answer(request, {"r": f"{request.sequence}"})
        return [(TURN, wrong(board, request, random) * 20 + right + right), (0.5, right), (180.0, right)]

    def talk() -> Conversation[list[Body]]:
        found = []
        for _ in range(200):
            found.append((yield ECHO))
        return found

    board = Board(Exchange(transport=transport, sequence=7), says)
    board.transport = transport
    assert board.run(talk(), most=200) == [{"r": f"{(7 + at) % 256}"} for at in range(200)]


def test_answers_of_an_earlier_exchange_install_nothing_and_end_nothing() -> None:
    """A recording of a whole update's answers, with the same sequence numbers, comes between those of the board."""
    bench = installed(buffers=4)
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    spare = installed(bench.repo, buffers=4)
    recorded: list[bytes] = []

    def real(of: Bench, *, replay: bool) -> Says:
        def says(board: Board, request: Message) -> list[tuple[float, bytes]]:
            answer = of.feed(frame(encode(request), board.transport))
            if not replay:
                recorded.append(answer)
                return [(TURN, answer)]
            old = recorded[board.requests % len(recorded)]
            return [(TURN / 2, old if board.requests % 3 == 0 else b""), (TURN, answer + old)]

        return says

    first = Board(Exchange(transport=COBS, sequence=1), real(spare, replay=False))
    first.run(Courier(TreeSource(bench.repo.tree)).push(reset=False))
    second = Board(Exchange(transport=COBS, sequence=200), real(bench, replay=True))
    pushed = second.run(Courier(TreeSource(bench.repo.tree)).push(reset=False))
    assert pushed.installed == "pump/1.1.0/app.bin"
    assert bench.facts().mark is not None


@pytest.mark.slow
@pytest.mark.parametrize("transport", [None, CONSOLE, COBS, RAW])
@pytest.mark.parametrize(
    "hums",
    [
        b"log line\r\n" * 50,
        b"A" * 500,
        b"a\n" * 250,
        bytes(500),
        b"\0\2\0\1" * 100,
        b"\x06\x09" * 250,
        b"\x0b\0\x3f\xf0\0\0\0\0" * 60,
        frame(encode(Message(Op.READ_RSP, 0, 6, 0, {"buf_size": 7})), COBS) * 20,
        frame(encode(Message(Op.READ_RSP, 0, 0, 250, {})), CONSOLE) * 20,
        frame(bytes([11, 0, 0, 0, 0, 0, 0, 0]), RAW) * 60,
    ],
    ids=lambda data: repr(data[:8]),
)
def test_a_line_that_says_something_for_ever_is_given_up(hums: bytes, transport: Transport | None) -> None:
    board = Board(Exchange(transport=transport, sequence=100), lambda _board, _request: [], hums=hums)
    tracemalloc.start()
    with pytest.raises(OperationalError, match="no answer from the board"):
        board.run(ask(ECHO), most=30, seconds=60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 1024 * 1024


# --- what a board says of itself --------------------------------------------------------------------------------------


def lying(bench: Bench, lies: Callable[[Message, Body], Body]) -> Says:
    """An honest board, but for what `lies` makes of its answers."""
    receiver = Receiver(20_000)

    def says(board: Board, request: Message) -> list[tuple[float, bytes]]:
        found = [
            event for event in receiver.feed(bench.feed(frame(encode(request), CONSOLE))) if isinstance(event, Framed)
        ]
        return [(TURN, board.answer(request, lies(request, decode(one.data).body))) for one in found]

    return says


def with_newer() -> Bench:
    bench = installed(buffers=4)
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    return bench


def is_(request: Message, group: int, command: int) -> bool:
    return (request.group, request.command) == (group, command)


@pytest.mark.parametrize(
    "value", [0, 1, 64, 127, 128, 2**16, 2**63, -1, -(2**63), "1024", b"\4\0", None, True, 1.5, []]
)
@pytest.mark.parametrize("name", ["buf_size", "buf_count"])
def test_parameters_that_are_none(name: str, value: object) -> None:
    """A board may say that it takes more or less than it does: that costs time, or the push; nothing else."""
    bench = with_newer()

    def lies(request: Message, body: Body) -> Body:
        return {**body, name: value} if is_(request, Group.OS, OsCommand.MCUMGR_PARAMETERS) else body

    board = Board(Exchange(transport=COBS), lying(bench, lies))

    def push() -> Pushed:
        return board.run(bench.courier().push(reset=False), most=500, seconds=600)

    if not isinstance(value, int) or value < 0 or value is True:
        with pytest.raises(SmpError, match=name):
            push()
    elif name == "buf_size" and value > 1024:
        with pytest.raises(OperationalError, match="no answer"):
            push()
    else:
        assert push().installed
        assert bench.facts().mark is not None


def test_parameters_that_change_from_answer_to_answer() -> None:
    bench, random = with_newer(), Random(5)

    def lies(request: Message, body: Body) -> Body:
        if is_(request, Group.OS, OsCommand.MCUMGR_PARAMETERS):
            return {"buf_size": random.choice((64, 300, 900)), "buf_count": random.randrange(5)}
        return body

    for sequence in range(5):
        board = Board(Exchange(sequence=sequence), lying(bench, lies))
        assert board.run(bench.courier().push(reset=False), most=600, seconds=600).installed in (
            "pump/1.1.0/app.bin",
            None,
        )


@pytest.mark.parametrize("version", [10**9, 2**64 - 1, 0, -1, "1", None, [1]])
def test_a_board_that_says_it_holds_roots_that_do_not_exist(version: object) -> None:
    bench = with_newer()

    def lies(request: Message, body: Body) -> Body:
        return {**body, "r": version} if is_(request, HILLHOLD_GROUP, HELD) else body

    board = Board(Exchange(transport=COBS), lying(bench, lies))
    with pytest.raises((OperationalError, SmpError)):
        board.run(bench.courier().push(), most=20)


@pytest.mark.parametrize("rows", [[[[], {}, 0]] * 400, [["\u20ac" * 1200] * 3], [[]] * 1900, [[0] * 1900]], ids=len)
def test_a_board_that_has_reasons_without_end_is_heard_to_a_bound(rows: list[object]) -> None:
    """Pages full of small things, or of long texts, and always more to come: as many as there can be releases are kept, in short words."""
    bench = with_newer()

    def lies(request: Message, body: Body) -> Body:
        return {"reasons": rows, "more": 2**60} if is_(request, HILLHOLD_GROUP, CHOOSE) else body

    board = Board(Exchange(transport=COBS), lying(bench, lies))
    reasons = board.run(bench.courier().check(), most=MAX_VERDICTS + 20)[1]["reasons"]
    assert isinstance(reasons, list)
    assert len(reasons) < MAX_VERDICTS + 400
    assert all(type(text) is str and len(text) <= MAX_WORDS for row in reasons for text in row)


def test_a_board_that_is_another_one_at_each_question() -> None:
    """Identity and lists are made up anew each time, from what honest boards say; the host ends."""
    bench, random = with_newer(), Random(11)
    pool: list[Body] = [{}]

    def lies(request: Message, body: Body) -> Body:
        if is_(request, HILLHOLD_GROUP, IDENTIFY):
            return body
        pool.append(body)
        return random.choice(pool) if random.random() < 0.3 else body

    for sequence in range(60):
        board = Board(Exchange(transport=COBS, sequence=sequence), lying(bench, lies))
        with suppress(HillholdError):
            board.run(bench.courier().push(), most=2000)
    assert bench.facts().running in ("1.0.0", "1.1.0")
