"""Faults of the board's end of the line: what it does not expect, and what does not end."""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any, Final

from hillhold_bootsim.lab.broken.plant import Plant, Shelf
from hillhold_verifier import agent, wire
from hillhold_verifier.agent import Agent
from hillhold_verifier.errors import SmpError
from hillhold_verifier.framing import Receiver
from hillhold_verifier.metadata import parse_time
from hillhold_verifier.smp import Op, OsCommand
from hillhold_verifier.trust import Trust

SERVING: Final = Shelf()
_add = SERVING.add
MEMORY: Final = 32 * 1024
"""Bytes that such a board has for what it has not looked at yet."""


class OutOfMemoryError(Exception):
    """The board's memory is full, and its software stops."""


def _taken(size: int) -> None:
    if size > MEMORY:
        raise OutOfMemoryError(f"{size} bytes of {MEMORY}")


@_add("waits-for-the-end-of-a-line", "Once a line is too long it waits for its end, and hears nothing else until it is reset.",
      "line-without-end")  # fmt: skip
def waits_for_the_end_of_a_line(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def feed(line: Any, data: bytes) -> Any:
            line.without_end = 0 if b"\n" in data else getattr(line, "without_end", 0) + len(data)
            line.deaf = getattr(line, "deaf", False) or line.without_end > MEMORY // 2
            return [] if line.deaf else right(line, data)

        return feed

    plant.replace(Receiver, "feed", make)


@_add("keeps-all-that-never-ended", "It keeps all of a line until its end comes.", "line-without-end")
def keeps_all_that_never_ended(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def feed(line: Any, data: bytes) -> Any:
            line.kept = 0 if b"\n" in data else getattr(line, "kept", 0) + len(data)
            _taken(line.kept)
            return right(line, data)

        return feed

    plant.replace(Receiver, "feed", make)


@_add("stops-at-a-malformed-message", "Its software stops at a message that is malformed.", "message-malformed")
def stops_at_a_malformed_message(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def decode(packet: bytes) -> Any:
            try:
                return right(packet)
            except SmpError as error:
                raise AssertionError("cannot happen") from error

        return decode

    plant.replace(agent, "decode", make)


@_add("inflates-without-a-limit", "It inflates what comes, and looks at the length afterwards.", "endless-inflated")
def inflates_without_a_limit(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def inflate(packed: bytes, held: bytes, length: int, lister: bytes = b"") -> Any:
            dictionary, rest, size = next(wire._pieces(max(length, 1), held, lister))[1], packed, 0
            with suppress(zlib.error):
                while rest:
                    unpacker = zlib.decompressobj(-zlib.MAX_WBITS, dictionary)
                    size += len(unpacker.decompress(rest))
                    rest = unpacker.unused_data
            _taken(size)
            return right(packed, held, length, lister)

        return inflate

    plant.replace(agent, "inflate", make)


@_add("makes-room-for-what-is-announced", "It makes room for as many bytes as a file announces.", "endless-announced")
def makes_room_for_what_is_announced(plant: Plant) -> None:
    plant.replace(agent, "max_bytes", lambda right: lambda role: _Room(right(role)))


class _Room(int):
    """A limit that asks for the memory first."""

    def __lt__(self, length: int) -> bool:
        _taken(length)
        return super().__lt__(length)


@_add(
    "takes-the-date-from-the-line",
    "Whoever has the line sets the clock by which it judges expiry.",
    "date-from-the-line",
)
def takes_the_date_from_the_line(plant: Plant) -> None:
    told: list[int] = []

    def answering(right: Any) -> Any:
        def answer_os(request: Any, *rest: Any) -> Any:
            if (request.op, request.command) == (Op.WRITE, OsCommand.DATETIME_STRING):
                told.append(parse_time(f"{request.body.get('datetime')}Z"))
                return {}
            return right(request, *rest)

        return answer_os

    def receiving(right: Any) -> Any:
        return lambda board, data, now: right(board, data, told[-1] if told else now)

    plant.replace(agent, "answer_os", answering)
    plant.replace(Agent, "receive", receiving)
    plant.replace(Trust, "now", lambda _right: lambda _held, clock: clock or 0)
