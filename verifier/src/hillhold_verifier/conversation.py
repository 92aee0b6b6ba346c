"""What a conversation with a board is made of, whoever carries it.

A conversation is a generator that yields steps and is sent what became of each: of a `Request` the response's body, of an `Upload` the
body of the response that ended it, of a `Pause` nothing ({}). `link` carries one over a serial line.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from hillhold_verifier.answers import Body
from hillhold_verifier.smp import Op
from hillhold_verifier.sources import Content

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One SMP request.

    Attributes:
        slow: the board may take seconds (it erases, hashes or patches).
        booting: it may be silent for a while.
        once: sent once only; without an answer the body is empty. A reset that is sent again costs a trial one of its starts.
    """

    op: Op
    group: int
    command: int
    body: Body
    slow: bool = False
    booting: bool = False
    once: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait `seconds` before going on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """What is being done: a step in words, and bytes done of a total (0 of 0 where it is not a transfer)."""

    step: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Upload:
    """The stock upload of one file (SMP group IMAGE, command 1), with as many requests under way as the board has buffers.

    Attributes:
        content: the file.
        length: its bytes.
        first: fields of the request at offset 0 but for `off` and `data`: `len`, `sha`, `image`.
        what: what it is, for progress ("image pump/1.1.0/app.bin").
        buffer: bytes of the longest message that the board takes.
        window: requests that may be under way at a time.
        report: told of each advance.
        asks: the first request has no data, and asks where to go on. A stock board wants the image's header in it.
    """

    content: Content
    length: int
    first: Body
    what: str
    buffer: int
    window: int = 1
    report: Callable[[Progress], None] = lambda _: None
    asks: bool = False


Step: TypeAlias = Request | Pause | Upload
Conversation: TypeAlias = Generator[Step, Body, T]
"""Yields steps, is sent bodies, returns a T."""
