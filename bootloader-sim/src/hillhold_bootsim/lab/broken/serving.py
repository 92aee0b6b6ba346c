"""Faults of the board's end of the line: what it does not expect, and what does not end."""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any, Final

from hillhold_bootsim.lab.broken.plant import Plant, Shelf
from hillhold_verifier import agent, agent_image, framing, smp_console, trust, wire
from hillhold_verifier.agent import Agent
from hillhold_verifier.errors import Refused
from hillhold_verifier.framing import Receiver
from hillhold_verifier.metadata import parse_time
from hillhold_verifier.smp import Op, OsCommand
from hillhold_verifier.transfer import SlotTransfer
from hillhold_verifier.trust import Trust

SERVING: Final = Shelf()
_add = SERVING.add
MEMORY: Final = 32 * 1024
"""Bytes that such a board has for what it has not looked at yet."""


TRIES: Final = 300
"""Signatures that such a board can verify before its watchdog bites."""


class CannotHappenError(Exception):
    """Its makers did not expect this, and its software stops."""


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


def _stops(id: str, sentence: str, find: str, *places: tuple[Any, str]) -> None:
    """A board whose software stops where the right one refuses, or finds nothing."""

    @_add(id, sentence, find)
    def plant(plant: Plant) -> None:
        def make(right: Any) -> Any:
            def act(*args: Any) -> Any:
                try:
                    found = right(*args)
                except Refused as error:
                    raise CannotHappenError(str(error)) from error
                if found is None:
                    raise CannotHappenError
                return found

            return act

        for holder, name in places:
            plant.replace(holder, name, make)


_stops(
    "stops-at-a-malformed-message",
    "Its software stops at a message that is malformed.",
    "message-malformed",
    (agent, "decode"),
)
_stops("stops-at-another-type", "Its software stops at a field of another type than it expects.", "odd-messages",
       (agent, "int_field"), (agent_image, "int_field"), (agent_image, "bytes_field"))  # fmt: skip
_stops(
    "stops-at-bad-base64",
    "Its software stops at a console line that is not base64.",
    "frames-console",
    (smp_console, "_unbase64"),
)
_stops(
    "stops-at-a-bad-frame",
    "Its software stops at a COBS frame that leads beyond its end.",
    "frames-cobs",
    (framing, "uncobs"),
)
_stops(
    "stops-at-what-is-no-image",
    "Its software stops at bytes that are no image.",
    "image-noise",
    (agent_image, "read_image"),
)


@_add("overruns-its-buffer", "It takes messages of any length into a buffer that has one.", "message-too-long")
def overruns_its_buffer(plant: Plant) -> None:
    def making(right: Any) -> Any:
        return lambda line, limit, transports: right(line, 4 * limit, transports)

    def answering(right: Any) -> Any:
        def answer(board: Any, packet: bytes, clock: int | None) -> Any:
            if len(packet) > board._platform.buffer:
                raise CannotHappenError
            return right(board, packet, clock)

        return answer

    plant.replace(Receiver, "__init__", making)
    plant.replace(Agent, "answer", answering)


@_add("overruns-its-slot", "It takes pieces of an upload beyond the end that was announced.", "upload-in-disorder")
def overruns_its_slot(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def write(one: Any, offset: int, data: bytes) -> Any:
            running = one._context.state.transfer
            if running and one._writer and one._writer.offset == offset and offset + len(data) > running.content[1]:
                raise CannotHappenError
            return right(one, offset, data)

        return write

    plant.replace(SlotTransfer, "write", make)


@_add(
    "takes-more-than-was-announced", "It takes pieces of metadata beyond the end that was announced.", "endless-pieces"
)
def takes_more_than_was_announced(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def metadata(board: Any, body: Any, *rest: Any) -> Any:
            coming, data = board._incoming, body.get("d")
            if body.get("o") and coming and isinstance(data, bytes) and len(coming.packed + data) > coming.announced:
                raise CannotHappenError
            return right(board, body, *rest)

        return metadata

    plant.replace(Agent, "_metadata", make)


@_add("tries-every-key-on-every-signature", "It tries every key of a file on every signature, until its watchdog bites.",
      "many-signatures-timestamp", "many-signatures-root")  # fmt: skip
def tries_every_key_on_every_signature(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def verify(envelope: Any, name: str, role: Any, keys: Any, *rest: Any) -> Any:
            if len(envelope.signatures) * len(keys) > TRIES:
                raise CannotHappenError
            return right(envelope, name, role, keys, *rest)

        return verify

    plant.replace(trust, "verify", make)


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
