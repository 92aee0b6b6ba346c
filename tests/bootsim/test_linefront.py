"""A modelled line between real ports: either side comes and goes, blocks or floods, and the other one is served."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hillhold_bootsim.line import PORT_BUFFER, Direction, LineModel
from hillhold_bootsim.linefaults import LineFaults
from hillhold_bootsim.linefront import LineFront, Unplug
from hillhold_bootsim.uart import MAX_PENDING, Line, PtyLine, TcpLine
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.link import Stream, open_port

DEADLINE = 10.0  # seconds: only a failing test waits that long
FAST = 4_000_000
needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")


@dataclass
class FakeFar:
    """A far side in memory, which comes and goes, floods or blocks as told."""

    answer: Callable[[bytes], bytes] = bytes.upper
    there: bool = True
    flood: bytes = b""
    blocked: threading.Event | None = None
    written: bytearray = field(default_factory=bytearray)
    read_out: int = 0
    _pending: bytes = b""

    def open(self) -> Stream:
        if not self.there:
            raise OperationalError("port far: No such file or directory")
        return self

    def write(self, data: bytes, /) -> object:
        if self.blocked is not None:
            self.blocked.wait(DEADLINE)
        if not self.there:
            raise OperationalError("far: write timeout")
        self.written += data
        self._pending += self.answer(data)
        return len(data)

    def read(self, timeout: float, /) -> bytes:
        if not self.there:
            raise OperationalError("far: Input/output error")
        data, self._pending = self._pending + self.flood, b""
        if not data:
            time.sleep(timeout)
        self.read_out += len(data)
        return data

    def reopen(self) -> None:
        """It is open."""

    def close(self) -> None:
        pass


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.005)


@contextmanager
def running(
    model: LineModel, near: Callable[[], Line], far: Callable[[], Stream], *unplugs: Unplug
) -> Iterator[tuple[LineFront, list[str]]]:
    said: list[str] = []
    front, stop = LineFront(model, near, far, time.monotonic, unplugs, said.append), threading.Event()
    thread = threading.Thread(target=front.run, args=(stop,))
    thread.start()
    try:
        yield front, said
    finally:
        stop.set()
        thread.join(DEADLINE)
        front.close()
        assert not thread.is_alive()


def same_port() -> Callable[[], TcpLine]:
    """What opens a TCP port, each time the same."""
    first = TcpLine()
    first.close()
    return lambda: TcpLine(*first.address)


def receive(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = peer.recv(count - len(data))
        assert piece, "the line hung up"
        data += piece
    return data


def connect(line: Line | None) -> socket.socket:
    assert isinstance(line, TcpLine)
    return socket.create_connection(line.address, DEADLINE)


@needs_pty
def test_bytes_go_through_real_ports_on_both_sides_and_every_peer_that_comes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8
    far, link = PtyLine(tmp_path / "far"), tmp_path / "near"
    stop = threading.Event()

    def echo() -> None:
        pending = b""
        while not stop.is_set():
            came, done = far.exchange(pending, 0.01)
            pending = pending[done:] + came

    thread = threading.Thread(target=echo)
    thread.start()
    with running(LineModel(FAST, latency=0.002), lambda: PtyLine(link), lambda: open_port(far.name)) as (front, said):
        assert front.name == str(link)
        for _ in range(2):
            handle = os.open(link, os.O_RDWR | os.O_NOCTTY)
            os.write(handle, data)
            back = b""
            while len(back) < len(data):
                back += os.read(handle, 5000)
            assert back == data
            os.close(handle)
        assert (front.model.counts(Direction.TO_BOARD).received, front.lost, said) == (2 * len(data), 0, [])
    stop.set()
    thread.join(DEADLINE)
    far.close()
    assert list(tmp_path.iterdir()) == []


def test_it_takes_as_long_as_the_line() -> None:
    far = FakeFar(answer=lambda _: b"")
    with running(LineModel(9600), TcpLine, far.open) as (front, _), connect(front.near) as peer:
        began = time.monotonic()
        peer.sendall(bytes(480))
        until(lambda: len(far.written) == 480)
        assert time.monotonic() - began >= 0.5


def test_what_the_model_does_reaches_both_sides() -> None:
    faults, far = LineFaults(errors=1), FakeFar(answer=lambda data: bytes(len(data)))
    with running(LineModel(FAST, to_board=faults, to_host=faults), TcpLine, far.open) as (front, _):
        with connect(front.near) as peer:
            peer.sendall(bytes(50))
            assert [byte.bit_count() for byte in receive(peer, 50)] == [1] * 50
        assert [byte.bit_count() for byte in far.written] == [1] * 50


def test_a_far_side_that_goes_is_opened_again() -> None:
    far = FakeFar()
    with running(LineModel(FAST), TcpLine, far.open) as (front, said), connect(front.near) as peer:
        peer.sendall(b"one")
        assert receive(peer, 3) == b"ONE"
        far.there = False
        until(lambda: said)
        peer.sendall(b"into nothing")
        until(lambda: front.lost == 12)
        far.there = True
        until(lambda: len(said) == 2)
        peer.sendall(b"two")
        assert receive(peer, 3) == b"TWO"
    assert said == ["the far side is gone: far: Input/output error", "the far side is back"]
    assert bytes(far.written) == b"onetwo"


def test_what_a_far_side_did_not_take_before_it_went_does_not_reach_it_later() -> None:
    far = FakeFar(blocked=threading.Event())
    assert far.blocked
    with running(LineModel(FAST), TcpLine, far.open) as (front, said), connect(front.near) as peer:
        peer.sendall(b"old " * 100)
        until(lambda: front.model.counts(Direction.TO_BOARD).delivered == 400)
        far.there = False
        far.blocked.set()
        until(lambda: said)
        assert front.lost == 400
        far.there = True
        until(lambda: len(said) == 2)
        peer.sendall(b"new")
        assert receive(peer, 3) == b"NEW"
    assert bytes(far.written) == b"new"


@needs_pty
def test_an_unplugged_terminal_is_gone_and_comes_back_as_another_one(tmp_path: Path) -> None:
    link, far = tmp_path / "near", FakeFar()
    model = LineModel(1200)  # so slow that most is still under way
    with running(model, lambda: PtyLine(link), far.open, Unplug(100, 1)) as (front, said):
        handle = os.open(link, os.O_RDWR | os.O_NOCTTY)
        os.write(handle, bytes(150))
        until(lambda: not link.is_symlink())
        with pytest.raises(OSError, match="Input/output"):
            os.write(handle, b"x")
        until(link.is_symlink)
        os.close(handle)
        assert said == ["unplugged for 1 s", "plugged in again"]
        assert model.counts(Direction.TO_BOARD).received == 100
        assert model.counts(Direction.TO_BOARD).cleared > 50
        assert front.unplugged == 1
        handle = os.open(link, os.O_RDWR | os.O_NOCTTY)
        os.write(handle, b"again")
        assert os.read(handle, 1) == b"A"
        os.close(handle)


def test_an_unplugged_tcp_port_drops_its_peer_and_refuses_others_meanwhile() -> None:
    far = FakeFar(flood=b"log ")
    with running(LineModel(FAST), same_port(), far.open, Unplug(5, 1), Unplug(0, 0.2)) as (front, said):
        until(lambda: said == ["unplugged for 0.2 s", "plugged in again"])
        address = front.name.removeprefix("socket://").split(":")
        with connect(front.near) as peer:
            peer.sendall(b"12345678")
            until(lambda: front.near is None)
            with pytest.raises(ConnectionError):
                socket.create_connection((address[0], int(address[1])), DEADLINE)
            with suppress(ConnectionError):
                while peer.recv(4096):
                    pass
        until(lambda: front.near is not None)
        assert front.lost > 0
        with connect(front.near) as peer:
            assert receive(peer, 4)
    assert front.unplugged == 2


def test_a_far_side_that_takes_nothing_holds_up_nobody_and_fills_nothing() -> None:
    far = FakeFar(blocked=threading.Event())
    with running(LineModel(12_000_000, queue=PORT_BUFFER), TcpLine, far.open) as (front, _):
        with connect(front.near) as peer:
            peer.sendall(bytes(MAX_PENDING + 50_000))
            until(lambda: front.lost >= 50_000 - PORT_BUFFER)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert far.blocked
    far.blocked.set()


@needs_pty
def test_a_near_side_that_nobody_reads_loses_what_is_too_much(tmp_path: Path) -> None:
    far = FakeFar(flood=bytes(3000))
    with running(LineModel(12_000_000), lambda: PtyLine(tmp_path / "near"), far.open) as (front, _):
        until(lambda: front.lost > 0)
        counts = front.model.counts(Direction.TO_HOST)
        assert counts.delivered > MAX_PENDING
        far.flood = b""
        until(lambda: front.model.next_event() is None)
        handle = os.open(tmp_path / "near", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        got = 0
        while select.select([handle], [], [], 1)[0]:
            got += len(os.read(handle, 65536))
        os.close(handle)
        assert got >= MAX_PENDING
        assert got + front.lost == counts.delivered == far.read_out


def test_a_far_side_that_floods_waits_for_the_line() -> None:
    far = FakeFar(flood=bytes(1000))
    with running(LineModel(1200, queue=PORT_BUFFER), TcpLine, far.open):
        time.sleep(0.3)
        assert PORT_BUFFER < far.read_out < 3 * PORT_BUFFER


def test_a_writer_that_is_faster_than_the_line_waits() -> None:
    """A socket's buffers are large, but finite; the line takes no more than its queue."""
    far = FakeFar(answer=lambda _: b"")
    model = LineModel(1200, queue=PORT_BUFFER)
    with running(model, TcpLine, far.open) as (front, _), connect(front.near) as peer:
        peer.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.sendall(bytes(100_000_000))
        assert model.counts(Direction.TO_BOARD).received < 2 * PORT_BUFFER


def test_what_cannot_be_opened_leaves_nothing_behind(tmp_path: Path) -> None:
    far = FakeFar(there=False)
    opened: list[Line] = []

    def near() -> Line:
        opened.append(TcpLine())
        return opened[-1]

    with pytest.raises(OperationalError, match="No such file"):
        LineFront(LineModel(), near, far.open, time.monotonic)
    with pytest.raises(ConnectionError):
        connect(opened[0])


def test_reads_what_is_to_be_unplugged() -> None:
    assert Unplug.parse("20000:1.5") == Unplug(20000, 1.5)


@pytest.mark.parametrize("text", ["", "5", "5:", ":1", "-5:1", "5:-1", "5:0", "5:nan", "5:inf", "5:1:1", "x:1", "²:1"])
def test_refuses_what_cannot_be_unplugged(text: str) -> None:
    with pytest.raises(MisuseError, match="expected AFTER_BYTES:SECONDS"):
        Unplug.parse(text)
