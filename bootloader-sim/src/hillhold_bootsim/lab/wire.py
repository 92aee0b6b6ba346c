"""The host's end of a line to a target, in the target's time, with everything that goes over it kept for the report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from hillhold_bootsim.lab.target import GoneError, Target
from hillhold_bootsim.trace import trace
from hillhold_bootsim.tracetext import event_lines
from hillhold_verifier.answers import Body
from hillhold_verifier.capture import Chunk
from hillhold_verifier.conversation import Conversation, Request, T
from hillhold_verifier.errors import NoAnswerError, OperationalError, SmpError
from hillhold_verifier.exchange import Exchange
from hillhold_verifier.framing import Framed, Receiver, Transport, frame
from hillhold_verifier.link import StreamError
from hillhold_verifier.smp import HILLHOLD_GROUP, MAX_MESSAGE, Message, Op, decode, encode

STEP: Final = 0.5
"""Seconds that one read may wait."""
ANSWER: Final = 3.0
"""Seconds that a board has for the answer to a message that may get none."""
TRIES: Final = 3
"""How often such a message is sent: a bad line must not spoil an attack."""
AWAY: Final = 30.0
"""Seconds that a port may be away when its board resets."""
KEPT: Final = 4 * 1024 * 1024
"""Bytes of a case that are kept for its trace."""
SHOWN: Final = 160
"""Lines of a trace in a report; of a longer one, the beginning and the end."""
WIDTH: Final = 110


class Wire:
    """One open line.

    Attributes:
        chunks: what went over it since `forget`.
        sent, received: bytes, likewise.
        unanswered: messages that no answer came to, however often they were sent, likewise.
    """

    def __init__(self, target: Target, group: int = HILLHOLD_GROUP) -> None:
        self._target, self._group = target, group
        self._stream = target.open()
        self._exchange = Exchange()
        self._sequence = self._resent = 0
        self._failing: float | None = None
        self._patient = True
        self.forget()

    def forget(self) -> None:
        """Begin a new trace."""
        self.chunks: list[Chunk] = []
        self.sent = self.received = self.unanswered = 0
        self._start = self._target.seconds()

    def run(self, conversation: Conversation[T]) -> T:
        """Carry a conversation to its end.

        Raises:
            NoAnswerError: nobody answers.
            GoneError: the port failed and did not come back.
            Whatever the conversation raises.
        """
        exchange, target = self._exchange, self._target
        exchange.begin(conversation, target.seconds())
        try:
            while exchange.busy:
                if out := exchange.poll(target.seconds()):
                    self.write(out)
                due = exchange.due()
                wait = STEP if due is None else min(STEP, max(due - target.seconds(), 0.0))
                exchange.receive(self.read(wait), target.seconds())
        except BaseException as error:
            self.unanswered += isinstance(error, NoAnswerError)
            self._begin_anew()
            raise
        result: T = exchange.result  # type: ignore[assignment]
        return result

    def ask(self, request: Request, *, version: int = 1, tries: int = TRIES) -> Body:
        """Send one message, the same again where no answer came within `ANSWER` seconds; return the answer's body, {} without one."""
        self._sequence = (self._sequence + 1) % 256
        transport = self.transport
        message = Message(request.op, request.group, request.command, self._sequence, request.body, version)
        for _ in range(tries):
            self.write(frame(encode(message), transport))
            receiver = Receiver(MAX_MESSAGE, (transport,))
            end = self._target.seconds() + ANSWER
            while self._target.seconds() < end:
                for event in receiver.feed(self.read(STEP)):
                    if isinstance(event, Framed) and (body := self._answer(event.data, message)) is not None:
                        return body
        self.unanswered += 1
        return {}

    @staticmethod
    def _answer(data: bytes, request: Message) -> Body | None:
        """The body of the answer to a request; None of anything else."""
        with suppress(SmpError):
            answer = decode(data)
            wanted = (request.op + 1, request.group, request.command, request.sequence)
            return answer.body if (answer.op, answer.group, answer.command, answer.sequence) == wanted else None
        return None

    @property
    def transport(self) -> Transport:
        """How messages lie on this line, as the last conversation found."""
        return self._exchange.transport or Transport.CONSOLE

    @property
    def resent(self) -> int:
        """How often a request was sent again, since the line was opened."""
        return self._resent + self._exchange.resent

    def write(self, data: bytes) -> None:
        """Put bytes on the line; raises `GoneError`."""
        self._keep(Chunk(self._time(), True, data))
        self.sent += len(data)
        self._try(lambda: self._stream.write(data))

    def read(self, timeout: float) -> bytes:
        """Return what comes, waiting at most `timeout` seconds for the first of it; raises `GoneError`."""
        data = self._try(lambda: self._stream.read(timeout))
        if isinstance(data, bytes) and data:
            self._failing = None
            self._keep(Chunk(self._time(), False, data))
            self.received += len(data)
            return data
        return b""

    def drain(self, seconds: float) -> bytes:
        """Listen for some time, and return all that came."""
        end, heard = self._target.seconds() + seconds, b""
        while self._target.seconds() < end:
            heard += self.read(min(STEP, end - self._target.seconds()))
        return heard

    def answers(self, request: Request) -> bool:
        """Send one message once; say whether an answer comes. A port that is gone has none, and is not waited for."""
        self._patient = False
        try:
            return bool(self.ask(request, tries=1))
        except StreamError:
            return False
        finally:
            self._patient = True

    def forgive(self) -> None:
        """The board was without power: that its port was away meanwhile does not count."""
        self._failing = None

    def close(self) -> None:
        """Let go of the line."""
        with suppress(OperationalError):
            self._stream.close()

    def text(self) -> str:
        """The trace since `forget`, decoded, in lines."""
        lines = list(event_lines(trace(self.chunks).events, self._group, WIDTH))
        if len(lines) > SHOWN:
            left_out = len(lines) - SHOWN
            lines = [*lines[: SHOWN // 2], f"… {left_out} lines …", *lines[-SHOWN // 2 :]]
        return "\n".join(lines)

    def _begin_anew(self) -> None:
        """A conversation that broke off must not be answered in the next one."""
        transport = self._exchange.transport
        self._resent += self._exchange.resent
        self._exchange = Exchange(transport=transport, sequence=self._sequence + 128)

    def _try(self, act: Callable[[], object]) -> object:
        try:
            return act()
        except StreamError as error:
            if not self._patient:
                raise
            self._come_back(error)
            return b""

    def _come_back(self, error: StreamError) -> None:
        """Open the port anew; raises `GoneError` where nothing came over it for `AWAY` seconds, though it may open."""
        if self._failing is None:
            self._failing = self._target.seconds()
        while True:
            if self._target.seconds() > self._failing + AWAY:
                raise GoneError(f"the port is gone: {error}") from None
            self._target.wait(STEP)
            with suppress(OperationalError):
                self._stream.reopen()
                return

    def _keep(self, chunk: Chunk) -> None:
        if self.sent + self.received < KEPT:
            self.chunks.append(chunk)

    def _time(self) -> float:
        return round(self._target.seconds() - self._start, 6)


def read_request(group: int, command: int, **body: object) -> Request:
    """A request that reads."""
    return Request(Op.READ, group, command, body)


def write_request(group: int, command: int, **body: object) -> Request:
    """A request that writes."""
    return Request(Op.WRITE, group, command, body)
