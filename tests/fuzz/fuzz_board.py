"""Fuzz targets for both ends of the line: the agent under a hostile host, and the courier on its link under a hostile board.

Both begin with the traffic of real updates, recorded once, which the fuzzer cuts, spoils, reorders and alters.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import cache, lru_cache
from io import StringIO
from pathlib import Path
from typing import Final
from unittest.mock import patch

from bench import Bench
from fuzz_input import Input, altered, at, places, put
from hillhold_verifier import state
from hillhold_verifier.agent import Agent
from hillhold_verifier.answers import Body
from hillhold_verifier.cli.show import Progress
from hillhold_verifier.conversation import Conversation, Pause, Request, T
from hillhold_verifier.courier import Courier, confirm_running, read_status
from hillhold_verifier.errors import MisuseError, OperationalError, Refused, SmpError
from hillhold_verifier.exchange import MAX_ANSWER, Exchange, Timing
from hillhold_verifier.framing import Framed, Receiver, Transport, frame
from hillhold_verifier.link import Link
from hillhold_verifier.metadata import MAX_BYTES_OTHER
from hillhold_verifier.probing import LINE_END
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, Message, Op, decode, encode
from hillhold_verifier.smp_console import MAX_JUNK, encode_console
from hillhold_verifier.sources import DirectorySource
from hillhold_verifier.upload import one_at_a_time
from offers import TreeSource
from staged import answers, check, fresh, held_at_first, stage

STAGES: Final = ("start", "metadata", "sent", "marked")
BUFFER: Final = 1024
"""Bytes of a message that the virtual board takes."""
MAX_ACTS: Final = 24
MAX_REQUESTS: Final = 4000
"""More than a courier asks of any board that says the same for ever: a whole image in pieces of a few bytes, and retransmissions."""


@cache
def recorded() -> tuple[tuple[Request, Body], ...]:
    """All requests of an update by patch, of one by image and of a look, with the board's answers."""
    log: list[tuple[Request, Body]] = []
    for patches in (True, False):
        bench = fresh()
        courier = Courier(TreeSource(stage().repo.tree))
        for conversation in (courier.push(patches=patches), read_status(), confirm_running()):
            bench.run(noted(bench, conversation, log))
    return tuple(log)


def noted(
    bench: Bench, conversation: Conversation[T], log: list[tuple[Request, Body]]
) -> Generator[Request | Pause, Body, T]:
    plain = one_at_a_time(conversation)
    step = next(plain)
    while True:
        answer = yield step
        if isinstance(step, Request):
            log.append((step, answer))
        try:
            step = plain.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result


def any_body(source: Input, body: Body) -> bytes:
    """The CBOR of a body, as it is, altered, or no CBOR at all."""
    changed = copy.deepcopy(dict(body))
    match source.below(5):
        case 0:
            return source.chunk(source.byte())
        case 1:  # every number of it
            number = source.number()
            for way in list(places(changed)):
                if type(at(changed, way)) is int:
                    put(changed, way, number)
        case 2:
            altered(source, changed, raw=True)
            altered(source, changed, raw=True)
        case _:
            altered(source, changed, raw=True)
    try:
        return encode(Message(Op.READ, 0, 0, 0, changed))[8:]
    except MisuseError:
        return b"\xa0"


def packet(op: int, group: int, command: int, sequence: int, body: bytes) -> bytes:
    return bytes([8 | op, 0, *len(body).to_bytes(2), *group.to_bytes(2), sequence, command]) + body


# --- a hostile host ---------------------------------------------------------------------------------------------------


class Host:
    """What is said to a board; it ends with the fuzzer's bytes."""

    def __init__(self, source: Input) -> None:
        self.source = source
        self.bench = fresh(source.pick(STAGES))
        self.next, self.sequence = 0, 0
        self.ticked = self.open = False

    def act(self) -> None:
        source = self.source
        acts: tuple[Callable[[], None], ...] = (
            *(self.in_order, self.in_order, self.alter, self.alter, self.frame, self.spoil, self.noise, self.jump),
            *(self.bench.power_cycle, self.tick),
        )
        source.pick(acts)()
        self.bounded()

    def request(self) -> Request:
        log = recorded()
        found = log[self.next % len(log)][0]
        self.next += 1
        self.sequence = (self.sequence + 1) % 256
        return found

    def send(self, data: bytes) -> None:
        """One packet, which gets one answer at most; its start may end the line of one that was spoiled but for its end."""
        if data:
            assert len(answers(self.bench, encode_console(data))) <= 1 + self.open
            self.open = False

    def in_order(self) -> None:
        for _ in range(1 + self.source.below(4)):
            found = self.request()
            self.send(encode(Message(found.op, found.group, found.command, self.sequence, found.body)))

    def alter(self) -> None:
        found = self.request()
        body = any_body(self.source, found.body)
        self.send(packet(found.op, found.group, found.command, self.sequence, body))

    def frame(self) -> None:
        """Any command with any body."""
        group = self.source.pick((Group.OS, Group.IMAGE, HILLHOLD_GROUP, 64))
        head = (self.source.below(8), group, self.source.below(8), self.source.byte())
        self.send(packet(*head, any_body(self.source, self.request().body)))

    def spoil(self) -> None:
        found = self.request()
        frame = encode_console(encode(Message(found.op, found.group, found.command, self.sequence, found.body)))
        at = self.source.below(65_536) % len(frame)
        self.feed(frame[:at] + self.source.chunk(self.source.below(4)) + frame[at + self.source.below(4) :])

    def noise(self) -> None:
        marker = self.source.pick((b"", b"\x06\x09", b"\x04\x14", b"\n", b"A" * 3000))
        self.feed(marker + self.source.chunk(self.source.byte()))

    def feed(self, data: bytes) -> None:
        assert len(answers(self.bench, data)) <= 1 + len(data) // 16
        self.open = not data.endswith(b"\n")

    def jump(self) -> None:
        self.next = self.source.below(65_536)

    def tick(self) -> None:
        """The running image tests itself, with success."""
        self.ticked = True
        self.bench.wait(self.source.below(16))

    def bounded(self) -> None:
        """What the agent holds for a host does not grow beyond its limits."""
        agent = self.bench.board._agent
        if isinstance(agent, Agent):
            incoming = agent._incoming
            assert agent._receiver.held <= 3.5 * BUFFER + MAX_JUNK
            assert incoming is None or len(incoming.packed) < min(incoming.announced, MAX_BYTES_OTHER) + BUFFER

    def judge(self) -> None:
        if not self.ticked:
            check(self.bench)
            return
        facts = self.bench.facts()
        assert facts.failed is None
        assert self.bench.whole_image(facts.confirmed or 0) == ("1.0.0", "1.1.0")[facts.confirmed or 0]
        assert facts.running in ("1.0.0", "1.1.0")
        assert facts.counter == 1 + (facts.confirmed == 1)
        assert self.bench.held().is_not_below(held_at_first())


known_record = lru_cache(maxsize=64)(state.decode_record)


def fuzz_agent(data: bytes) -> None:
    """Whatever is said, only authentic content is marked, only what tested itself is confirmed, and the board answers still."""
    # Half of a run would be to read the same two records again at every reset; they have a target of their own.
    with patch.object(state, "decode_record", known_record):
        converse(data)


def converse(data: bytes) -> None:
    host = Host(Input(data))
    for _ in range(MAX_ACTS):
        if not host.source:
            break
        host.act()
    host.judge()
    host.bench.feed(
        b"\0\n"
    )  # ends a COBS frame that noise has opened, and a line; half a second of silence does as well
    assert host.bench.status()["root"] == 1
    host.bench.power_cycle()
    host.judge()


# --- a hostile board --------------------------------------------------------------------------------------------------


class Terminal(StringIO):
    """Takes what is shown to people; nothing may move the cursor but the progress bar itself."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        assert text.removeprefix("\r\x1b[K").removesuffix("\n").isprintable()
        return len(text)


class HostileBoard:
    """A stream to a board that says what the fuzzer has it say, and at last the same for ever."""

    def __init__(self, source: Input) -> None:
        self.source, self.out, self.requests = source, b"", 0
        self.lines = (Receiver(BUFFER * 16), Receiver(BUFFER * 16, (Transport.RAW,)))
        self.transport = Transport.CONSOLE
        self.honest = source.below(32)
        self.asked: dict[tuple[int, int, int], int] = {}
        self.body = b"\xa0"

    def write(self, data: bytes, /) -> object:
        events = [event for line in self.lines for event in line.feed(data) if isinstance(event, Framed)]
        assert events or data == LINE_END, (
            "what a host sends is a message over some transport, or ends a line before one"
        )
        for event in events:
            self.transport = event.transport
            with suppress(SmpError):  # what is COBS to one receiver may have a header in it to the other
                self.answer(decode(event.data))
        return len(data)

    def answer(self, request: Message) -> None:
        self.requests += 1
        assert self.requests <= MAX_REQUESTS, "the courier does not come to an end"
        head = (request.op + 1, request.group, request.command, request.sequence)
        answer = self.right(request)
        if self.honest:
            self.honest -= 1
            self.say(packet(*head, encode(Message(Op.READ, 0, 0, 0, answer))[8:]))
            return
        source = self.source
        kind = source.below(8) if source else 8
        match kind:
            case 0 | 1:
                self.honest = source.byte()
                self.say(packet(*head, encode(Message(Op.READ, 0, 0, 0, answer))[8:]))
            case 2 | 3 | 4 | 5:
                self.body = any_body(source, answer)
                self.say(packet(*head, self.body))
            case 6:
                self.out += source.chunk(source.byte())
            case 7:
                other = (source.byte() % 8, source.pick((0, 1, HILLHOLD_GROUP)), source.below(8), source.byte())
                self.say(packet(*other, self.body))
            case _:
                self.say(packet(*head, self.body))

    def say(self, data: bytes) -> None:
        with suppress(MisuseError):  # COBS has no flags
            self.out += frame(data, self.transport)

    def right(self, request: Message) -> Body:
        """What an honest board says: to an upload, that it took it; else the next answer to such a request."""
        kind = (int(request.op), request.group, request.command)
        if kind == (Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD):
            off, data = request.body["off"], request.body["data"]
            assert isinstance(off, int)
            assert isinstance(data, bytes)
            return {"off": off + len(data)}
        known = [answer for asked, answer in recorded() if (asked.op, asked.group, asked.command) == kind]
        self.asked[kind] = number = self.asked.get(kind, -1) + 1
        return known[min(number, len(known) - 1)] if known else {}

    def read(self, timeout: float, /) -> bytes:
        assert timeout >= 0
        found, self.out = self.out, b""
        return found

    def reopen(self) -> None:
        raise OperationalError("gone for good")

    def close(self) -> None:
        """Nothing to let go of."""


class Watch:
    """Which files are opened, of all that this process opens while it is on."""

    def __init__(self) -> None:
        self.on, self.opened = False, list[str]()
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and event == "open":
            self.opened.append(str(arguments[0]))


@cache
def repository() -> tuple[Path, Watch, tempfile.TemporaryDirectory[str]]:
    """The staged repository in a folder, for as long as this process lives."""
    folder = tempfile.TemporaryDirectory(prefix="hillhold-fuzz-")
    for name, data in stage().repo.tree.items():
        path = Path(folder.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Path(folder.name), Watch(), folder


def without_pauses(conversation: Conversation[T]) -> Conversation[T]:
    """The conversation with a board that is quick."""
    answer: Body = {}
    try:
        step = next(conversation)
        while True:
            answer = {} if isinstance(step, Pause) else (yield step)
            step = conversation.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def fuzz_courier(data: bytes) -> None:
    """Whatever a board says, the courier ends, with a result or one of its errors; it opens no file but the repository's."""
    source = Input(data)
    root, watch, _ = repository()
    kind = source.below(6)
    board = HostileBoard(source)
    timing = Timing(
        first=0.002, least=0.002, slow=0.002, tries=4, booting=0.002, booting_tries=4, probing=0.02, probe=0.002
    )
    link = Link(board, Exchange(timing, transport=source.pick((None, *Transport)), baud=10**8))
    courier = Courier(DirectorySource(root), Progress(Terminal()))
    watch.opened.clear()
    watch.on = True
    try:
        with suppress(Refused, OperationalError):
            match kind:
                case 0:
                    link.run(read_status())
                case 1:
                    link.run(confirm_running())
                case _:
                    link.run(without_pauses(courier.push(patches=kind % 2 == 0)))
    finally:
        watch.on = False
    assert all(Path(name).resolve().is_relative_to(root.resolve()) for name in watch.opened), watch.opened
    assert all(receiver.held <= 3.5 * MAX_ANSWER + MAX_JUNK for receiver in link.exchange._receivers)
