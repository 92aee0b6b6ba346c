"""The link: lost, doubled, cut, spoilt and late frames in either direction; a silent board; noise; probing; and what it costs in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from bench import Bench, blind, installed
from hillhold_verifier.agent import STATUS
from hillhold_verifier.answers import BoardRefused, Body
from hillhold_verifier.conversation import Conversation, Pause, Request
from hillhold_verifier.courier import Courier, ask, read_status
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.exchange import Exchange, Timing
from hillhold_verifier.framing import Framed, Receiver, Transport
from hillhold_verifier.link import Link, open_port
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, Message, Op, OsCommand, decode, encode
from hillhold_verifier.smp_console import encode_console
from lossy import Fault, Pair
from offers import TreeSource, offer, offer_patch, started

LINES = [Transport.CONSOLE, Transport.COBS]


def pair(bench: Bench, transport: Transport | None = Transport.CONSOLE, **options: object) -> Pair:
    return Pair(bench, Exchange(transport=transport), **options)  # type: ignore[arg-type]


def spoilt(
    bench: Bench, side: str, faults: Mapping[int, Fault], transport: Transport | None = Transport.CONSOLE
) -> Pair:
    return pair(bench, transport, **{side: faults})


def with_newer(buffers: int = 1) -> Bench:
    bench = installed(buffers=buffers)
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    return bench


def finishes(bench: Bench) -> None:
    """The new image is marked: what the courier had to do over the link is done."""
    bench.power_cycle()
    bench.wait(bench.seconds + 1)
    assert bench.facts_after_reset().running == "1.1.0"


def frames() -> int:
    """How many requests a push takes on a perfect line."""
    bench = with_newer()
    line = pair(bench)
    line.run(bench.courier().push(reset=False))
    return line.sent


@pytest.mark.parametrize("by_bytes", [False, True])
@pytest.mark.parametrize("buffers", [1, 4])
@pytest.mark.parametrize("transport", [*LINES, None])
def test_a_perfect_line(transport: Transport | None, buffers: int, by_bytes: bool) -> None:
    bench = with_newer(buffers)
    line = pair(bench, transport, by_bytes=by_bytes)
    pushed = line.run(bench.courier().push(reset=False))
    assert pushed.installed == "pump/1.1.0/app.bin"
    assert line.exchange.resent == 0
    assert line.exchange.transport is (transport or Transport.COBS)
    finishes(bench)


@pytest.mark.slow
@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
@pytest.mark.parametrize("side", ["requests", "answers"])
@pytest.mark.parametrize("buffers", [1, 4])
@pytest.mark.parametrize("transport", LINES)
def test_a_fault_in_every_fourth_frame(transport: Transport, buffers: int, side: str, fault: Fault) -> None:
    bench = with_newer(buffers)
    line = spoilt(bench, side, dict.fromkeys(range(1, 400, 4), fault), transport)
    assert line.run(bench.courier().push(reset=False)).installed == "pump/1.1.0/app.bin"
    assert bench.facts().mark is not None
    finishes(bench)


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.DOUBLE], ids=lambda fault: fault.name)
@pytest.mark.parametrize("side", ["requests", "answers"])
@pytest.mark.slow
def test_one_fault_at_each_frame(side: str, fault: Fault) -> None:
    count = frames()
    for number in range(count):
        bench = with_newer()
        spoilt(bench, side, {number: fault}).run(bench.courier().push(reset=False))
        finishes(bench)
    assert count > 15


def test_a_patch_over_a_line_that_loses_answers() -> None:
    bench = installed()
    old = bench.repo.blobs["pump/1.0.0/app.bin"]
    offer_patch(bench.repo, "1.1.0", old, offer(bench.repo, "1.1.0", 2))
    bench.repo.publish()
    line = pair(bench, answers=dict.fromkeys(range(0, 100, 2), Fault.DROP))
    assert line.run(bench.courier().push(reset=False)).how == "patch"
    finishes(bench)


@pytest.mark.parametrize("transport", [*LINES, None])
def test_text_on_the_line_disturbs_nothing(transport: Transport | None) -> None:
    bench = with_newer()
    line = pair(bench, transport, noise=b"[00:00:01] <inf> main: hello\r\n\xff\x00\n")
    assert line.run(bench.courier().push(reset=False)).installed
    finishes(bench)


class Silent:
    """A board that says nothing, or always the same."""

    def __init__(self, says: bytes = b"") -> None:
        self.says, self.writes = says, 0

    def write(self, data: bytes, /) -> object:
        self.writes += 1
        return len(data)

    def read(self, timeout: float, /) -> bytes:
        return self.says

    def reopen(self) -> None:
        raise OperationalError("gone for good")

    def close(self) -> None:
        """Nothing to do."""


QUICK = Timing(first=0.02, least=0.02, slow=0.05, tries=3, booting=0.02, probing=0.1, probe=0.02)


def quick(stream: Silent, transport: Transport | None = Transport.CONSOLE) -> Link:
    return Link(stream, Exchange(QUICK, transport=transport))


FOREIGN = [
    b"",
    b"login: ",
    b"\x06\x09!!!!\n",
    encode_console(b"no SMP message"),
    encode_console(encode(Message(Op.READ_RSP, HILLHOLD_GROUP, STATUS, 99))),
    encode_console(encode(Message(Op.WRITE_RSP, HILLHOLD_GROUP, STATUS, 0))),
    encode_console(encode(Message(Op.READ_RSP, Group.OS, STATUS, 0))),
    encode_console(encode(Message(Op.READ_RSP, HILLHOLD_GROUP, 0, 0))),
    encode_console(encode(Message(Op.READ, HILLHOLD_GROUP, STATUS, 0))),
]


def test_a_board_that_was_asked_once_is_said_to_have_been() -> None:
    timing = replace(QUICK, tries=1)
    with pytest.raises(OperationalError, match=r"^no answer from the board, asked once$"):
        Link(Silent(b""), Exchange(timing, transport=Transport.CONSOLE)).run(
            ask(Request(Op.READ, HILLHOLD_GROUP, STATUS, {}))
        )


@pytest.mark.slow
@pytest.mark.parametrize("says", FOREIGN)
def test_no_answer_of_its_own_is_an_operational_error(says: bytes) -> None:
    stream = Silent(says)
    with pytest.raises(OperationalError, match=r"no answer from the board, asked 3 times"):
        quick(stream).run(ask(Request(Op.READ, HILLHOLD_GROUP, STATUS, {})))
    assert stream.writes == 3


@pytest.mark.parametrize("says", FOREIGN)
def test_probing_a_line_without_a_board_ends(says: bytes) -> None:
    stream = Silent(says)
    with pytest.raises(
        OperationalError, match=r"no answer from the board in 0\.1 s at 115200 baud; tried console and raw"
    ):
        quick(stream, None).run(ask(Request(Op.READ, HILLHOLD_GROUP, STATUS, {})))
    assert 2 <= stream.writes <= 6


def test_a_board_that_is_switched_off_in_between() -> None:
    bench = with_newer()
    line = pair(bench)
    bench.board.cut_power()
    with pytest.raises(OperationalError, match="no answer from the board"):
        line.run(bench.courier().push())
    bench.board.power_on()
    assert line.run(bench.courier().push(reset=False)).installed == "pump/1.1.0/app.bin"
    finishes(bench)


def test_sequence_numbers_go_round() -> None:
    bench = Bench(started())
    line = pair(bench)
    for number in range(300):
        body: Body = {"d": str(number)}
        assert line.run(ask(Request(Op.WRITE, Group.OS, OsCommand.ECHO, body))) == {"r": str(number)}


def test_a_conversation_may_pause_and_return_and_raise() -> None:
    bench = Bench(started())
    link = pair(bench)

    def pausing() -> Conversation[str]:
        assert (yield Pause(0.001)) == {}
        answer = yield Request(Op.READ, HILLHOLD_GROUP, STATUS, {})
        return str(answer["root"])

    assert link.run(pausing()) == "1"
    blind(bench, 0)
    blind(bench, 1)
    bench.power_cycle()
    with pytest.raises(BoardRefused, match="readable record"):
        link.run(read_status())


def test_a_push_with_a_reset_over_the_link() -> None:
    bench = with_newer()
    steps: list[str] = []
    courier = Courier(TreeSource(bench.repo.tree), lambda progress: steps.append(progress.step))
    pushed = pair(bench, None).run(courier.push())
    assert (pushed.installed, pushed.status["trial"]) == ("pump/1.1.0/app.bin", False)
    assert bench.facts().running == "1.1.0"
    assert "reset, trial boot" in steps


@pytest.mark.parametrize("name", ["/dev/there-is-no-such-port", "socket://127.0.0.1:1", "no-such-scheme://x"])
def test_a_port_that_cannot_be_opened(name: str) -> None:
    with pytest.raises(OperationalError, match="port"):
        open_port(name)


def test_a_reset_is_sent_once_and_its_answer_may_be_lost() -> None:
    """Sent again, it would cost a trial one of its starts."""
    stream = Silent()
    reset = Request(Op.WRITE, Group.OS, OsCommand.RESET, {}, once=True)
    assert quick(stream).run(ask(reset)) == {}
    assert stream.writes == 1


def test_a_reset_that_is_lost_is_asked_for_again_once_the_board_says_so() -> None:
    bench = with_newer()
    lost: list[bytes] = []

    def loses_the_first_reset(data: bytes) -> bytes:
        found = [decode(event.data) for event in Receiver(4096).feed(data) if isinstance(event, Framed)]
        if not lost and any((one.group, one.command) == (Group.OS, OsCommand.RESET) for one in found):
            lost.append(data)
            return b""
        return data

    boots = bench.board.boots
    pushed = pair(bench, before=loses_the_first_reset).run(bench.courier().push())
    assert lost
    assert bench.board.boots == boots + 1
    assert pushed.installed == "pump/1.1.0/app.bin"
    assert pushed.status["starts"] in (0, 1)


@pytest.mark.parametrize("fault", [Fault.DOUBLE, Fault.LATE], ids=lambda fault: fault.name)
@pytest.mark.parametrize("transport", LINES)
def test_a_reset_that_comes_twice_or_late_costs_a_start_of_the_trial_at_most(
    transport: Transport, fault: Fault
) -> None:
    bench = with_newer()
    boots = bench.board.boots
    # Where the reset goes, a push without one reads the status.
    pushed = spoilt(bench, "requests", {frames() - 1: fault}, transport).run(bench.courier().push())
    assert bench.board.boots == boots + 2
    assert pushed.runs
    assert bench.facts().failed is None
    assert pushed.status["starts"] == 0
