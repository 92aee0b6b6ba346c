"""A stock board on a bench, all in memory, and a host that verifies for it.

repo = started()                                # lists 1.0.0
rig = StockRig(repo)                            # the factory wrote 1.0.0; the host holds the repository's first root
offer(repo, "1.1.0"); repo.publish()
assert rig.push().end is End.CONFIRMED
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final, TypeVar

import pytest

from bench import CLOCK, DEVICE, LAYOUT
from forge import Repo
from hillhold_bootsim.application import SelfTest
from hillhold_bootsim.board import Parts
from hillhold_bootsim.bootflags import BootRecord, ImageFlags
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.layout import Layout, padded
from hillhold_bootsim.stock import Stock, make_stock_board
from hillhold_verifier.answers import Body
from hillhold_verifier.conversation import Conversation, Pause, Progress, Request, Upload
from hillhold_verifier.errors import HillholdError, OperationalError
from hillhold_verifier.exchange import CONSOLE_OVERHEAD
from hillhold_verifier.framing import Framed, Receiver, Transport, frame
from hillhold_verifier.hosttrust import HostTrust
from hillhold_verifier.select import Device
from hillhold_verifier.smp import Group, Message, Op, decode, encode
from hillhold_verifier.stockpush import StockCourier, StockPushed
from hillhold_verifier.upload import one_at_a_time
from offers import TreeSource, held_keys, image, offer, started

T = TypeVar("T")
AREA: Final = 64 * 1024


class MemoryAreas:
    """Two state areas in memory."""

    size = AREA

    def __init__(self) -> None:
        self.areas = [b"", b""]
        self.writes = 0

    def read(self, index: int) -> bytes:
        return self.areas[index]

    def write(self, index: int, data: bytes) -> None:
        self.areas[index] = data
        self.writes += 1


class StockRig:
    """The board, switched on, and what one host holds for it.

    Attributes:
        requests: what was asked, in order.
        twist: may change an answer before the host sees it: a board that lies.
        notes: what the courier reported.
    """

    def __init__(
        self,
        repo: Repo,
        layout: Layout = LAYOUT,
        *,
        kind: Stock = Stock.ZEPHYR,
        factory: bytes | None = None,
        self_test: SelfTest | None = None,
        device: Device = DEVICE,
        transport: Transport = Transport.CONSOLE,
        **options: Any,
    ) -> None:
        self.repo, self.layout, self.transport = repo, layout, transport
        self.flash = Flash(layout.geometry)
        parts = Parts(self.flash, layout, held_keys())
        if factory is not None:
            parts.slots[0].erase(0, 0, parts.slots[0].size)
            parts.slots[0].write(0, 0, padded(factory, layout.geometry))
            parts.control.store.provision(BootRecord((ImageFlags(confirmed=0),) * len(layout.slots)))
        self.board = make_stock_board(self.flash, layout, held_keys(), kind, self_test, transport=transport, **options)
        self.board.power_on()
        self.areas = MemoryAreas()
        HostTrust.begin(self.areas, device, repo.tree["metadata/1.root.json"])
        self.clock, self.seconds, self._sequence = CLOCK, 0.0, 0
        self.requests: list[Request] = []
        self.notes: list[str] = []
        self.twist: Callable[[Request, Body], Body] = lambda _request, answer: answer

    # --- what is so ---------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> str | None:
        """The version that runs, told by the bytes that were started."""
        info = self.board.info
        return str(info.outcome.booted.image.version) if info and info.outcome.booted else None

    @property
    def written(self) -> list[Request]:
        """Requests that write."""
        return [one for one in self.requests if one.op is Op.WRITE]

    @property
    def trust(self) -> HostTrust:
        """What the host holds, read anew."""
        return HostTrust(self.areas)

    def content(self) -> bytes:
        """All of the flash."""
        return self.flash.read(0, self.layout.geometry.size)

    # --- what is done -------------------------------------------------------------------------------------------------

    def push(self, tree: Mapping[str, bytes] | None = None, **options: bool) -> StockPushed:
        return self.run(self.courier(tree).push(**options))

    def courier(self, tree: Mapping[str, bytes] | None = None) -> StockCourier:
        return StockCourier(TreeSource(self.repo.tree if tree is None else tree), self.trust, self.clock, self._note)

    def run(self, conversation: Conversation[T]) -> T:
        """Carry a conversation to its end."""
        carried: Generator[Request | Pause, Body, T] = one_at_a_time(_fitting(conversation, self.transport))
        answer: Body = {}
        try:
            step = next(carried)
            while True:
                if isinstance(step, Pause):
                    self.wait(step.seconds)
                    answer = {}
                else:
                    self.requests.append(step)
                    answer = self.twist(step, self.ask(step))
                step = carried.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def ask(self, request: Request, *, version: int = 1) -> Body:
        """Ask the board itself; raises `OperationalError` where it is silent."""
        self._sequence = (self._sequence + 1) % 256
        message = Message(request.op, request.group, request.command, self._sequence, request.body, version)
        answers = self.feed(frame(encode(message), self.transport))
        events = Receiver(16384, (self.transport,)).feed(answers)
        packets = [event.data for event in events if isinstance(event, Framed)]
        if not packets:
            raise OperationalError("no answer from the board")
        return decode(packets[0]).body

    def image(self, command: int, body: Body | None = None, *, read: bool = False, version: int = 1) -> Body:
        """Ask in group IMAGE, as a stock tool does."""
        op = Op.READ if read else Op.WRITE
        return self.ask(Request(op, Group.IMAGE, command, body or {}), version=version)

    def states(self) -> dict[str, str]:
        """What the board lists: the flags that are set, by version."""
        listed = self.image(0, read=True)["images"]
        assert isinstance(listed, list)
        names = ("active", "confirmed", "pending", "permanent")
        return {row["version"]: " ".join(name for name in names if row.get(name)) for row in listed}

    def upload(self, data: bytes, piece: int = 200) -> Body:
        """As a stock tool: whatever it is."""
        at, answer = 0, dict[str, object]()
        while at < len(data):
            first = {"len": len(data), "sha": sha256(data).digest()} if at == 0 else {}
            answer = dict(self.image(1, {**first, "off": at, "data": data[at : at + piece]}))
            if "err" in answer or not isinstance(found := answer.get("off"), int):
                break
            at = found
        return answer

    def feed(self, data: bytes) -> bytes:
        """Bytes of the line go in, the board's answer comes out."""
        return self.board.feed(data, None)

    def wait(self, seconds: float) -> None:
        self.seconds += seconds
        self.board.tick(self.seconds)

    def power_cycle(self) -> None:
        self.board.cut_power()
        self.board.power_on()

    def _note(self, progress: Progress) -> None:
        self.notes.append(progress.step)


def _fitting(conversation: Conversation[T], transport: Transport) -> Conversation[T]:
    """The same conversation with the room that a console packet leaves, as `Exchange` reckons it."""
    try:
        step = next(conversation)
        while True:
            if isinstance(step, Upload) and transport is Transport.CONSOLE:
                step = replace(step, buffer=step.buffer - CONSOLE_OVERHEAD)
            step = conversation.send((yield step))
    except StopIteration as end:
        result: T = end.value
        return result


def factory() -> bytes:
    """The image that the factory wrote: the release 1.0.0."""
    return image("1.0.0")


def newer(repo: Repo | None = None, version: str = "1.1.0", counter: int = 1, **custom: Any) -> Repo:
    repo = repo or started()
    offer(repo, version, counter, **custom)
    repo.publish("line", "snapshot", "timestamp")
    return repo


def rig(repo: Repo | None = None, layout: Layout = LAYOUT, **options: Any) -> StockRig:
    return StockRig(repo or newer(), layout, factory=factory(), **options)


def refused(bench: StockRig, error: type[HillholdError], words: str, **options: Any) -> None:
    """A push is refused before anything is written to the board."""
    before, sent = bench.content(), len(bench.written)
    with pytest.raises(error, match=words):
        bench.push(**options)
    assert len(bench.written) == sent
    assert bench.content() == before
