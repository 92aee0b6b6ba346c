"""The board's line on a pseudo-terminal and on TCP, with peers that come and go."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from hillhold_bootsim.board import VirtualBoard
from hillhold_bootsim.uart import LOOPBACK, Line, PtyLine, TcpLine, Traffic, parse_address, serve
from hillhold_verifier.errors import MisuseError, OperationalError

DEADLINE = 10.0  # seconds: only a failing test waits that long
needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")


class Shouter:
    """As much of a board as a line sees."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def feed(self, data: bytes, now: int | None) -> bytes:
        return data.upper() + f"@{now};".encode()

    def tick(self, now: float) -> None:
        self.ticks.append(now)


@contextmanager
def serving(line: Line, board: Shouter | None = None) -> Iterator[Traffic]:
    stop, traffic = threading.Event(), Traffic()
    shouter = board or Shouter()
    thread = threading.Thread(
        target=serve, args=(cast(VirtualBoard, shouter), line, stop, lambda: 42, time.monotonic, traffic)
    )
    thread.start()
    try:
        yield traffic
    finally:
        stop.set()
        thread.join(DEADLINE)
        line.close()
    assert not thread.is_alive()


def read(handle: int, until: bytes) -> bytes:
    data = b""
    while not data.endswith(until):
        data += os.read(handle, 100)
    return data


def ask(peer: socket.socket, data: bytes) -> bytes:
    peer.sendall(data)
    answer = b""
    while not answer.endswith(b";"):
        piece = peer.recv(100)
        assert piece, "the board hung up"
        answer += piece
    return answer


@needs_pty
def test_a_pseudo_terminal_survives_its_peers_and_carries_every_byte(tmp_path: Path) -> None:
    link = tmp_path / "board"
    line = PtyLine(link)
    assert str(link.readlink()) == line.path
    with serving(line) as traffic:
        for _ in range(2):
            handle = os.open(link, os.O_RDWR | os.O_NOCTTY)
            os.write(handle, b"a\r\nb\x03\x04")
            assert read(handle, b";") == b"A\r\nB\x03\x04@42;"
            os.close(handle)
    assert (traffic.received, traffic.sent) == (12, 20)
    assert (traffic.seconds(115200), traffic.seconds(9600)) == pytest.approx((32 / 11520, 32 / 960))
    assert list(tmp_path.iterdir()) == []


@needs_pty
def test_a_stale_link_is_replaced_and_another_boards_link_is_left(tmp_path: Path) -> None:
    link = tmp_path / "board"
    link.symlink_to("/nowhere")
    first = PtyLine(link)
    second = PtyLine(link)
    assert str(link.readlink()) == second.path
    first.close()
    assert str(link.readlink()) == second.path
    second.close()
    assert list(tmp_path.iterdir()) == []


@needs_pty
def test_what_is_no_link_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "board"
    path.write_bytes(b"precious")
    with pytest.raises(OperationalError, match="not a symbolic link"):
        PtyLine(path)
    assert path.read_bytes() == b"precious"
    with pytest.raises(OperationalError, match="cannot link"):
        PtyLine(tmp_path / "nowhere" / "board")
    assert [entry.name for entry in tmp_path.iterdir()] == ["board"]


@needs_pty
def test_a_terminal_that_nobody_reads_does_not_stop_the_board() -> None:
    board = Shouter()
    line = PtyLine()
    with serving(line, board) as traffic:
        handle = os.open(line.path, os.O_RDWR | os.O_NOCTTY)
        for _ in range(40):
            os.write(handle, b"x" * 1000)
        deadline = time.monotonic() + DEADLINE
        while traffic.received < 40_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        ticked = len(board.ticks)
        while len(board.ticks) < ticked + 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.close(handle)
    assert traffic.received == 40_000
    assert len(board.ticks) >= ticked + 3


def test_tcp_is_on_loopback_and_takes_one_peer_after_another() -> None:
    line = TcpLine()
    assert line.address[0] == LOOPBACK
    with serving(line) as traffic:
        for _ in range(3):
            with socket.create_connection(line.address, DEADLINE) as peer:
                assert ask(peer, b"hello") == b"HELLO@42;"
    assert (traffic.received, traffic.sent) == (15, 27)


def test_tcp_turns_a_second_peer_away_and_keeps_the_first() -> None:
    line = TcpLine()
    with serving(line), socket.create_connection(line.address, DEADLINE) as first:
        assert ask(first, b"one") == b"ONE@42;"
        with socket.create_connection(line.address, DEADLINE) as second:
            assert second.recv(10) == b""
        assert ask(first, b"two") == b"TWO@42;"


def test_tcp_survives_a_peer_that_breaks_off() -> None:
    line = TcpLine()
    with serving(line):
        peer = socket.create_connection(line.address, DEADLINE)
        assert ask(peer, b"one") == b"ONE@42;"
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()  # with a reset
        deadline = time.monotonic() + DEADLINE
        answer = b""
        while not answer and time.monotonic() < deadline:
            with socket.create_connection(line.address, DEADLINE) as again:
                try:
                    answer = ask(again, b"two")
                except (AssertionError, ConnectionError):
                    time.sleep(0.01)  # the board has not noticed yet
        assert answer == b"TWO@42;"


def test_a_port_that_is_taken() -> None:
    line = TcpLine()
    with pytest.raises(OperationalError, match="cannot listen"):
        TcpLine(port=line.address[1])
    line.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        (":0", ("127.0.0.1", 0)),
        ("board.example:65535", ("board.example", 65535)),
        ("[::1]:7", ("::1", 7)),
    ],
)
def test_reads_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", "host:65536", "host:-1", "::1:7", "host:１", "h:999999"]
)
def test_refuses_what_is_no_address(text: str) -> None:
    with pytest.raises(MisuseError, match="expected HOST:PORT"):
        parse_address(text)
