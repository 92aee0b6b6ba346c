"""Both ends over a modelled line in virtual time: every transport, lines that lose and spoil, boards that restart, hosts that die, ports
that go away, slow erases; and what the host's end does at each of its limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from bench import Bench, installed
from hillhold_bootsim.line import Direction, LineModel
from hillhold_bootsim.linefaults import LineFaults
from hillhold_verifier.agent import CHECKED_FOR, Agent
from hillhold_verifier.answers import Body
from hillhold_verifier.conversation import Progress, Request
from hillhold_verifier.courier import Courier, ask, read_status
from hillhold_verifier.errors import OperationalError, UnprovisionedError
from hillhold_verifier.exchange import MAX_ANSWER, MAX_TEXT, Exchange, Timing
from hillhold_verifier.framing import SHARED, Framed, Receiver, Transport, frame
from hillhold_verifier.smp import Group, ImageCommand, Message, Op, OsCommand, decode, encode
from hillhold_verifier.smp_check import checked, with_check
from offers import TreeSource, image, offer, offer_patch, started
from slowline import Rig

CONSOLE, COBS, RAW = Transport.CONSOLE, Transport.COBS, Transport.RAW
LINES: tuple[tuple[Transport, ...], ...] = (SHARED, (CONSOLE,), (COBS,), (RAW,))
CLEAN = LineFaults()


def with_newer(transports: Sequence[Transport] = SHARED, *, patched: bool = False) -> Bench:
    bench = installed(buffers=4, transports=transports)
    new = offer(bench.repo, "1.1.0", 2)
    if patched:
        offer_patch(bench.repo, "1.1.0", bench.repo.blobs["pump/1.0.0/app.bin"], new)
    bench.repo.publish()
    return bench


def rig(bench: Bench, exchange: Exchange | None = None, faults: LineFaults = CLEAN, seed: int = 0) -> Rig:
    line = LineModel(to_board=faults, to_host=faults, latency=0.002, seed=seed)
    return Rig(bench, exchange or Exchange(), line)


def erasures(bench: Bench) -> int:
    return sum(bench.flash.wear(sector) for sector in range(bench.flash.geometry.sectors))


def finishes(bench: Bench) -> None:
    bench.power_cycle()
    bench.wait(bench.seconds + 1)
    assert bench.facts_after_reset().running == "1.1.0"


# --- transports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("transports", "found"), [*zip(LINES, (COBS, CONSOLE, None, RAW), strict=True)], ids=str)
def test_the_transport_is_found_and_a_push_goes_over_it(
    transports: tuple[Transport, ...], found: Transport | None
) -> None:
    bench = with_newer(transports)
    line = rig(bench)
    if found is None:  # COBS is only tried where console answers
        with pytest.raises(OperationalError, match="tried console and raw"):
            line.run(bench.courier().push())
        return
    assert line.run(bench.courier().push(reset=False)).installed == "pump/1.1.0/app.bin"
    assert line.exchange.transport is found
    finishes(bench)


@pytest.mark.parametrize("transport", list(Transport))
def test_a_transport_that_is_given_is_not_asked_for(transport: Transport) -> None:
    bench = with_newer((RAW,) if transport is RAW else SHARED)
    line = rig(bench, Exchange(transport=transport))
    assert line.run(bench.courier().push(reset=False)).installed
    assert line.exchange.resent == 0
    finishes(bench)


@pytest.mark.parametrize("transports", [SHARED, (CONSOLE,), (RAW,)], ids=str)
def test_probing_writes_nothing_and_asks_nothing_but_parameters(transports: tuple[Transport, ...]) -> None:
    bench = installed(transports=transports)
    asked: list[Message] = []
    feed = bench.board.feed

    def watch(data: bytes, now: int | None) -> bytes:
        for receiver in (Receiver(2000), Receiver(2000, (RAW,))):
            asked.extend(decode(event.data) for event in receiver.feed(data) if isinstance(event, Framed))
        return feed(data, now)

    bench.board.feed = watch  # type: ignore[method-assign]
    operations = bench.flash.operations
    rig(bench).run(ask(Request(Op.READ, Group.OS, OsCommand.ECHO, {"d": "x"})))
    assert {(one.op, one.group, one.command) for one in asked} == {(Op.READ, 0, 6), (Op.READ, 0, 0)}
    assert bench.flash.operations == operations


def test_a_board_that_boots_for_four_seconds_is_waited_for() -> None:
    bench = with_newer()
    bench.board.cut_power()
    line = rig(bench)
    wait = bench.wait

    def booting(seconds: float) -> None:
        if line.seconds > 4 and not bench.board.is_on:
            bench.board.power_on()
        wait(seconds)

    bench.wait = booting  # type: ignore[method-assign]
    assert line.run(bench.courier().push(reset=False)).installed
    finishes(bench)


# --- bad lines --------------------------------------------------------------------------------------------------------

BAD = {
    "errors": LineFaults(errors=3e-4),
    "drops": LineFaults(drops=3e-4),
    "bursts": LineFaults(bursts=1e-4, burst_length=20),
    "noise": LineFaults(noise=1e-3),
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("transports", [SHARED, (CONSOLE,), (RAW,)], ids=str)
def test_a_bad_line_takes_longer_and_that_is_all(transports: tuple[Transport, ...], kind: str, seed: int) -> None:
    bench = with_newer(transports)
    line = rig(bench, Exchange(sequence=seed), BAD[kind], seed)
    assert line.run(bench.courier().push(reset=False)).installed == "pump/1.1.0/app.bin"
    finishes(bench)


@pytest.mark.parametrize("transports", [SHARED, (RAW,)], ids=str)
def test_a_patch_and_a_reset_over_a_bad_line(transports: tuple[Transport, ...]) -> None:
    bench = with_newer(transports, patched=True)
    pushed = rig(bench, faults=BAD["errors"], seed=3).run(bench.courier().push())
    assert (pushed.how, pushed.runs) == ("patch", True)


def test_nothing_is_written_twice_on_a_bad_line() -> None:
    clean, bad = with_newer(), with_newer()
    rig(clean).run(clean.courier().push(reset=False))
    line = rig(bad, faults=LineFaults(errors=1e-3), seed=5)
    line.run(bad.courier().push(reset=False))
    assert line.exchange.resent > 0
    assert erasures(bad) == erasures(clean)


# --- what comes and goes ----------------------------------------------------------------------------------------------


class Until:
    """Does something once a transfer has come so far."""

    def __init__(self, done: int) -> None:
        self.done, self.did = done, False
        self.act: Callable[[], None] = lambda: None

    def __call__(self, step: Progress) -> None:
        if step.total and step.done >= self.done and not self.did:
            self.did = True
            self.act()


@pytest.mark.parametrize("transports", [SHARED, (RAW,)], ids=str)
def test_a_board_that_restarts_in_the_middle_of_a_transfer(transports: tuple[Transport, ...]) -> None:
    bench, until = with_newer(transports), Until(2500)
    until.act = bench.power_cycle
    pushed = rig(bench).run(Courier(TreeSource(bench.repo.tree), until).push(reset=False))
    assert until.did
    assert pushed.installed == "pump/1.1.0/app.bin"
    finishes(bench)


def test_a_host_that_dies_and_starts_again_goes_on_where_it_was() -> None:
    bench = with_newer()

    def die() -> None:
        raise KeyboardInterrupt

    until = Until(2500)
    until.act = die
    with pytest.raises(KeyboardInterrupt):
        rig(bench).run(Courier(TreeSource(bench.repo.tree), until).push(reset=False))
    steps: list[Progress] = []
    second = rig(bench, Exchange(sequence=77))
    assert second.run(Courier(TreeSource(bench.repo.tree), steps.append).push(reset=False)).installed
    assert next(step.done for step in steps if step.total) >= 2400
    finishes(bench)


@pytest.mark.parametrize("seconds", [0.0, 1.0, 8.0])
def test_a_port_that_goes_away_and_comes_back(seconds: float) -> None:
    """All that is under way is lost, either way; the board stays as it is."""
    bench, until = with_newer(), Until(2500)
    line = rig(bench)

    def unplug() -> None:
        line.line.clear()
        line.seconds += seconds
        line.exchange.reopened(line.seconds)

    until.act = unplug
    assert line.run(Courier(TreeSource(bench.repo.tree), until).push(reset=False)).installed
    finishes(bench)


@pytest.mark.parametrize("busy", [0.5, 2.5, 6.0])
def test_a_board_that_erases_slowly_is_asked_again_and_does_it_once(busy: float) -> None:
    clean, bench = with_newer(), with_newer()
    rig(clean).run(clean.courier().push(reset=False))
    line = rig(bench)
    erased = erasures(bench)

    def took() -> float:
        nonlocal erased
        before, erased = erased, erasures(bench)
        return busy if erased > before else 0.0

    line.busy = took
    assert line.run(bench.courier().push(reset=False)).installed == "pump/1.1.0/app.bin"
    assert erasures(bench) == erasures(clean)
    assert (line.exchange.resent > 0) is (busy > Timing().slow)
    finishes(bench)


def test_late_answers_to_an_earlier_host_are_no_answers() -> None:
    bench = installed()
    line = rig(bench, Exchange(transport=CONSOLE, sequence=9))
    for sequence in range(8):
        stale = Message(Op.READ_RSP, Group.OS, OsCommand.ECHO, sequence, {"r": "stale"})
        line.line.push(Direction.TO_HOST, frame(encode(stale), CONSOLE), 0.0)
    assert line.run(ask(Request(Op.READ, Group.OS, OsCommand.ECHO, {"d": "now"}))) == {"r": "now"}


# --- limits -----------------------------------------------------------------------------------------------------------


def silent(exchange: Exchange, request: Request) -> float:
    """How long a silent line is waited for."""
    exchange.begin(ask(request), 0.0)
    now = 0.0
    while True:
        try:
            exchange.poll(now)
        except OperationalError:
            return now
        now = exchange.due() or now


ECHO = Request(Op.READ, Group.OS, OsCommand.ECHO, {"d": "x"})


def test_how_long_a_silent_line_is_waited_for() -> None:
    assert silent(Exchange(), ECHO) == pytest.approx(6.0, abs=0.6)
    assert 10 < silent(Exchange(transport=COBS), ECHO) < 40
    assert 30 < silent(Exchange(transport=COBS), replace(ECHO, slow=True)) < 120
    assert silent(Exchange(transport=COBS), replace(ECHO, booting=True)) == pytest.approx(40, abs=3)
    assert silent(Exchange(Timing(probing=1.0)), ECHO) == pytest.approx(1.0, abs=0.6)


def test_a_slow_line_gets_the_time_that_its_bytes_take() -> None:
    """At 300 baud a request of 1 KB is half a minute on the line."""
    exchange = Exchange(transport=COBS, baud=300)
    exchange.begin(ask(Request(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, {"data": bytes(900), "off": 1})), 0.0)
    assert len(exchange.poll(0.0)) > 900
    assert (exchange.due() or 0) > 900 * 10 / 300


def test_the_last_text_is_kept_and_no_more() -> None:
    exchange = Exchange()
    for number in range(1000):
        exchange.receive(b"line %d of a log\r\n" % number, 0.0)
    assert len(exchange.text) == MAX_TEXT
    assert exchange.text.endswith(b"line 999 of a log\n")


def test_bytes_without_a_conversation_are_heard_and_change_nothing() -> None:
    exchange = Exchange(transport=CONSOLE)
    exchange.receive(frame(encode(Message(Op.READ_RSP, 0, 6, 0, {"buf_size": 7})), CONSOLE), 0.0)
    assert (exchange.busy, exchange.poll(1.0), exchange.due()) == (False, b"", None)


# --- several under way ------------------------------------------------------------------------------------------------


def uploaded(buffers: int, transports: Sequence[Transport]) -> tuple[int, float]:
    """How many pieces of an image were under way at most, and the seconds that its push took."""
    bench = Bench(started(), buffer=200, buffers=buffers, transports=transports)
    bench.push()
    offer(bench.repo, "1.1.0", 2, data=image("1.1.0", 2, length=15_000))
    bench.repo.publish()
    exchange = Exchange(transport=transports[0])
    line = Rig(bench, exchange, LineModel(latency=0.016))
    most, under_way = 0, set[int]()
    poll, receive = exchange.poll, exchange.receive

    def sent(now: float) -> bytes:
        nonlocal most
        data = poll(now)
        under_way.update(pieces(data, Op.WRITE))
        most = max(most, len(under_way))
        return data

    def came(data: bytes, now: float) -> None:
        under_way.difference_update(pieces(data, Op.WRITE_RSP))
        receive(data, now)

    answers = Receiver(MAX_ANSWER, transports)

    def pieces(data: bytes, op: Op) -> list[int]:
        receiver = answers if op is Op.WRITE_RSP else Receiver(MAX_ANSWER, transports)
        found = [decode(event.data) for event in receiver.feed(data) if isinstance(event, Framed)]
        return [one.sequence for one in found if (one.op, one.group, one.command) == (op, 1, ImageCommand.UPLOAD)]

    exchange.poll, exchange.receive = sent, came  # type: ignore[method-assign]
    assert line.run(bench.courier().push(reset=False)).installed
    assert exchange.resent == 0
    return most, line.seconds


@pytest.mark.parametrize("transports", [(COBS,), (RAW,)], ids=str)
def test_as_many_pieces_are_under_way_as_the_board_has_buffers_and_no_more(transports: tuple[Transport, ...]) -> None:
    """A line with a slow adapter is kept busy by them."""
    seen = {buffers: uploaded(buffers, transports) for buffers in (1, 2, 4)}
    assert [seen[buffers][0] for buffers in seen] == [1, 2, 4]
    assert seen[4][1] < 0.9 * seen[1][1]


# --- checks of raw ----------------------------------------------------------------------------------------------------


def test_over_raw_a_spoilt_message_is_lost_and_not_refused() -> None:
    """Each bit of a message in turn: nothing but the message itself is ever taken from it."""
    body: Body = {"off": 700, "data": bytes(range(40))}
    data = with_check(Message(Op.WRITE, 1, 1, 5, body))
    assert checked(decode(data)) == body
    for bit in range(len(data) * 8):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        for event in Receiver(1024, (RAW,)).feed(bytes(spoilt)):
            if isinstance(event, Framed):
                try:
                    message = decode(event.data)
                except Exception:
                    continue
                assert "crc" not in message.body or checked(message) is None


def test_an_error_that_hits_the_check_and_the_data_is_lost_as_well() -> None:
    """Where one host checks its messages, a field that no stock tool has is a spoilt check; after a while it is a tool's that has it."""
    bench = with_newer((RAW,))
    line = rig(bench, Exchange(transport=RAW))
    line.run(read_status())
    spoilt = with_check(Message(Op.WRITE, Group.OS, OsCommand.ECHO, 1, {"d": "x"})).replace(b"\x63crc", b"\x63crb")
    assert decode(spoilt).body.keys() == {"d", "crb"}
    assert bench.feed(spoilt) == b""
    bench.wait(CHECKED_FOR / 2)
    assert bench.feed(spoilt) == b""
    bench.wait(CHECKED_FOR)
    assert decode(bench.feed(spoilt)).body == {"r": "x"}


def test_a_stock_tool_is_heard_directly_behind_a_host_that_checks() -> None:
    bench = with_newer((RAW,))
    line = rig(bench, Exchange(transport=RAW))
    line.run(bench.courier().check())
    (new,) = [data for path, data in bench.repo.blobs.items() if "1.1.0" in path]
    stock: list[tuple[Op, int, int, Body]] = [
        (Op.READ, Group.OS, OsCommand.MCUMGR_PARAMETERS, {}),
        (Op.READ, Group.OS, 2, {"new": True}),
        (Op.WRITE, Group.OS, OsCommand.ECHO, {"d": "x"}),
        (Op.WRITE, Group.IMAGE, ImageCommand.ERASE, {"slot": 1}),
        (
            Op.WRITE,
            Group.IMAGE,
            ImageCommand.UPLOAD,
            {"image": 0, "off": 0, "len": len(new), "sha": b"", "data": new[:99]},
        ),
        (Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, {"off": 99, "data": new[99:200], "upgrade": False}),
        (Op.WRITE, Group.IMAGE, ImageCommand.STATE, {"hash": bytes(32), "confirm": False}),
        (Op.WRITE, Group.OS, OsCommand.RESET, {"force": 1, "boot_mode": 0}),
    ]
    for sequence, (op, group, command, body) in enumerate(stock):
        (answer,) = Receiver(2000, (RAW,)).feed(bench.feed(encode(Message(op, group, command, sequence, body))))
        assert isinstance(answer, Framed)
        assert decode(answer.data).sequence == sequence


RESET = encode(Message(Op.WRITE, Group.OS, OsCommand.RESET, 7, {}))
ERASE = encode(Message(Op.WRITE, Group.IMAGE, ImageCommand.ERASE, 7, {}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", [{"confirm": True}, {"off": 700, "data": RESET + ERASE + bytes(3)}], ids=["state", "upload"]
)
def test_no_two_errors_make_a_stock_write_of_a_message_with_a_check(body: Body) -> None:
    """Each bit of its header, its number of fields and its check's name, and any other one. What it carries may look like messages."""
    hello = with_check(Message(Op.READ, Group.OS, OsCommand.ECHO, 1, {}))
    data = with_check(Message(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, 5, body))
    name = data.index(b"\x63crc") * 8
    for one in (*range(9 * 8), *range(name, name + 5 * 8)):
        for other in range(0, len(data) * 8, 3):
            spoilt = bytearray(data)
            spoilt[one // 8] ^= 1 << one % 8
            spoilt[other // 8] ^= (one != other) << other % 8
            agent = Agent(UnprovisionedError("state", expected="a readable record", got="none"), transports=(RAW,))
            said = Receiver(2000, (RAW,)).feed(agent.receive(hello + bytes(spoilt), None))
            assert not [one for one in said if isinstance(one, Framed) and one.data[0] & 7 != Op.READ_RSP]


def test_over_raw_an_answer_without_a_check_is_dropped_once_one_had_it() -> None:
    """An error may take the check from an answer and hit an offset as well."""
    line = rig(installed(transports=(RAW,)), Exchange(transport=RAW))
    line.run(read_status())
    exchange, now = line.exchange, line.seconds
    exchange.begin(ask(Request(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, {"off": 9, "data": b"x"})), now)
    request = decode(exchange.poll(now))
    right, wrong = (Message(Op.WRITE_RSP, 1, 1, request.sequence, {"off": offset}) for offset in (10, 700))
    exchange.receive(encode(wrong), now)
    assert exchange.busy
    exchange.receive(with_check(right), now)
    assert (exchange.busy, exchange.result) == (False, {"off": 10})


@pytest.mark.parametrize("bit", range(8))
def test_over_raw_a_spoilt_answer_about_the_buffer_is_lost_and_not_believed(bit: int) -> None:
    """A board is asked for its buffer once it has shown that it is ours: pieces longer than the buffer would never be answered."""
    bench, spoilt = with_newer((RAW,)), list[bytes]()
    feed = bench.board.feed

    def spoil(data: bytes, now: int | None) -> bytes:
        answer = feed(data, now)
        if b"buf_size" not in answer or spoilt:
            return answer
        spoilt.append(answer)
        at = answer.index(b"\x19\x04\x00")
        return answer[: at + 1] + bytes([answer[at + 1] ^ 1 << bit]) + answer[at + 2 :]

    bench.board.feed = spoil  # type: ignore[method-assign]
    line = rig(bench, Exchange(transport=RAW))
    assert line.run(bench.courier().push(reset=False)).installed
    assert spoilt
    assert line.exchange.resent == 1


def test_a_stock_board_over_raw_is_sent_no_field_that_it_does_not_know() -> None:
    exchange = Exchange(transport=RAW)
    exchange.begin(ask(ECHO), 0.0)
    assert b"crc" not in exchange.poll(0.0)
    ours = rig(installed(transports=(RAW,)), Exchange(transport=RAW))
    ours.run(read_status())
    ours.exchange.begin(ask(ECHO), ours.seconds)
    assert b"crc" in ours.exchange.poll(ours.seconds)
