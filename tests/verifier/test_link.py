"""The link: lost, doubled, cut, spoilt and late frames in either direction; a silent board; noise; and what it costs in bytes."""

from __future__ import annotations

from collections.abc import Generator, Mapping

import pytest

from bench import Bench, blind, installed
from hillhold_verifier.agent import STATUS
from hillhold_verifier.answers import BoardRefused, Body
from hillhold_verifier.conversation import Pause, Request
from hillhold_verifier.courier import Courier, ask, read_status
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.link import Link, open_port
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, Message, Op, OsCommand, decode, encode
from hillhold_verifier.smp_console import ConsoleDecoder, Packet, encode_console
from lossy import Fault, ScriptedStream
from offers import TreeSource, offer, offer_patch, started

TIMEOUT = 0.02


def link_to(stream: ScriptedStream, *, tries: int = 4) -> Link:
    return Link(stream, timeout=TIMEOUT, slow_timeout=TIMEOUT, tries=tries)


def spoilt(bench: Bench, side: str, faults: Mapping[int, Fault]) -> ScriptedStream:
    return ScriptedStream(bench, requests=faults) if side == "requests" else ScriptedStream(bench, answers=faults)


def with_newer() -> Bench:
    bench = installed()
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    return bench


def finishes(bench: Bench) -> None:
    """The new image is marked: what the courier had to do over the link is done."""
    bench.power_cycle()
    bench.wait(1)
    assert bench.facts_after_reset().running == "1.1.0"


def frames() -> int:
    """How many requests a push takes on a perfect line."""
    bench = with_newer()
    stream = ScriptedStream(bench)
    link_to(stream).run(bench.courier().push(reset=False))
    return stream.written


def test_a_perfect_line() -> None:
    bench = with_newer()
    stream = ScriptedStream(bench)
    link = link_to(stream)
    pushed = link.run(bench.courier().push(reset=False))
    assert pushed.installed == "pump/1.1.0/app.bin"
    assert stream.written == stream.answered
    assert link.traffic.sent > 5188 * 4 / 3
    assert 0 < link.traffic.received < link.traffic.sent
    finishes(bench)


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
@pytest.mark.parametrize("side", ["requests", "answers"])
def test_a_fault_in_every_fourth_frame(side: str, fault: Fault) -> None:
    bench = with_newer()
    faults = dict.fromkeys(range(1, 400, 4), fault)
    stream = spoilt(bench, side, faults)
    assert link_to(stream).run(bench.courier().push(reset=False)).installed == "pump/1.1.0/app.bin"
    assert bench.facts().mark is not None
    finishes(bench)


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.DOUBLE], ids=lambda fault: fault.name)
@pytest.mark.parametrize("side", ["requests", "answers"])
@pytest.mark.slow
def test_one_fault_at_each_frame(side: str, fault: Fault) -> None:
    count = frames()
    for number in range(count):
        bench = with_newer()
        stream = spoilt(bench, side, {number: fault})
        link_to(stream).run(bench.courier().push(reset=False))
        finishes(bench)
    assert count > 15


def test_a_patch_over_a_line_that_loses_answers() -> None:
    bench = installed()
    old = bench.repo.blobs["pump/1.0.0/app.bin"]
    offer_patch(bench.repo, "1.1.0", old, offer(bench.repo, "1.1.0", 2))
    bench.repo.publish()
    stream = ScriptedStream(bench, answers=dict.fromkeys(range(0, 100, 2), Fault.DROP))
    assert link_to(stream).run(bench.courier().push(reset=False)).how == "patch"
    finishes(bench)


def test_text_on_the_line_disturbs_nothing() -> None:
    bench = with_newer()
    stream = ScriptedStream(bench, noise=b"[00:00:01] <inf> main: hello\r\n\xff\x00\n")
    assert link_to(stream).run(bench.courier().push(reset=False)).installed
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

    def close(self) -> None:
        """Nothing to do."""


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


@pytest.mark.parametrize("says", FOREIGN)
def test_no_answer_of_its_own_is_an_operational_error(says: bytes) -> None:
    stream = Silent(says)
    with pytest.raises(OperationalError, match=r"no answer from the board in 0\.02 s, asked 3 times"):
        Link(stream, timeout=TIMEOUT, tries=3).run(ask(Request(Op.READ, HILLHOLD_GROUP, STATUS, {})))
    assert stream.writes == 3


def test_a_board_that_is_switched_off_in_between() -> None:
    bench = with_newer()
    link = link_to(ScriptedStream(bench), tries=2)
    bench.board.cut_power()
    with pytest.raises(OperationalError, match="no answer from the board"):
        link.run(bench.courier().push())
    bench.board.power_on()
    assert link.run(bench.courier().push(reset=False)).installed == "pump/1.1.0/app.bin"
    finishes(bench)


def test_slow_requests_have_a_time_of_their_own() -> None:
    stream = Silent()
    link = Link(stream, timeout=0.001, slow_timeout=0.05, tries=1)
    with pytest.raises(OperationalError, match=r"0\.05 s"):
        link.run(ask(Request(Op.READ, HILLHOLD_GROUP, STATUS, {}, slow=True)))
    with pytest.raises(OperationalError, match=r"0\.001 s"):
        link.run(ask(Request(Op.READ, HILLHOLD_GROUP, STATUS, {})))


def test_sequence_numbers_go_round() -> None:
    bench = Bench(started())
    link = link_to(ScriptedStream(bench))
    for number in range(300):
        body: Body = {"d": str(number)}
        assert link.run(ask(Request(Op.WRITE, Group.OS, OsCommand.ECHO, body))) == {"r": str(number)}


def test_a_conversation_may_pause_and_return_and_raise() -> None:
    bench = Bench(started())
    link = link_to(ScriptedStream(bench))

    def pausing() -> Generator[Request | Pause, Body, str]:
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
    """The application ends its test while the courier waits: here another turn of the board's own time at each answer."""
    bench = with_newer()

    class Ticking(ScriptedStream):
        def write(self, data: bytes, /) -> object:
            written = super().write(data)
            self.bench.wait(1)
            return written

    steps: list[str] = []
    courier = Courier(TreeSource(bench.repo.tree), lambda progress: steps.append(progress.step))
    pushed = link_to(Ticking(bench)).run(courier.push())
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
    assert Link(stream, timeout=0.02).run(ask(reset)) == {}
    assert stream.writes == 1


def test_a_reset_that_is_lost_is_asked_for_again_once_the_board_says_so() -> None:
    bench = with_newer()
    lost: list[bytes] = []

    class LosesTheFirstReset(ScriptedStream):
        def write(self, data: bytes, /) -> object:
            events = ConsoleDecoder(4096).feed(data)
            found = [decode(event.data) for event in events if isinstance(event, Packet)]
            if not lost and any((one.group, one.command) == (Group.OS, OsCommand.RESET) for one in found):
                lost.append(data)
                return len(data)
            return super().write(data)

    boots = bench.board.boots
    pushed = link_to(LosesTheFirstReset(bench)).run(bench.courier().push())
    assert lost
    assert bench.board.boots == boots + 1
    assert pushed.installed == "pump/1.1.0/app.bin"
    assert pushed.status["starts"] in (0, 1)
