"""The host's end of a serial link, sans-I/O: carries conversations over bytes and time, and sends again what was lost.

    probing (`probing`) ──► requests of the conversation, each sent again after a while with the same sequence number, a bounded number
                of times; of an upload as many as the board has buffers

What else comes on the line (logs, a shell, answers to somebody else, echoes) is no answer.

A raw line has no check of its own. Where the board has shown that it is ours, each request over raw states its CRC in a field `crc`, and so
does its answer (docs/FORMAT.md, "Raw"); whatever does not is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from hillhold_verifier.answers import Body
from hillhold_verifier.conversation import Conversation, Pause, Request, T, Upload
from hillhold_verifier.errors import MisuseError, NoAnswerError, SmpError
from hillhold_verifier.framing import SHARED, Framed, Receiver, Transport, frame, frame_size
from hillhold_verifier.probing import PARAMETERS, Probing
from hillhold_verifier.smp import Message, Op, decode, encode
from hillhold_verifier.smp_check import CHECK, checked, with_check
from hillhold_verifier.smp_console import Junk
from hillhold_verifier.upload import Uploader

MAX_ANSWER: Final = 16384
"""Bytes of a response."""
CONSOLE_OVERHEAD: Final = 4
"""Bytes of a stock board's buffer that length and CRC of a console packet take."""
FIRST_OWN_GROUP: Final = 64
"""The first id that SMP leaves to applications: a stock group is not sent fields that it does not know."""
ANSWER: Final = 512
"""Bytes of an answer that a host reckons with."""
BITS: Final = 10
"""Start bit, eight bits, stop bit."""
MAX_TEXT: Final = 2048
"""Bytes of other text that are kept, to say what answers in a board's place."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a host waits, in seconds.

    Attributes:
        first: for an answer, before it has seen how long they take.
        least: for an answer, whatever it has seen.
        most: likewise, beside the time that the bytes take: a board whose answers come later and later holds nobody up for ever.
        slow: for the answer of a board that erases, hashes or patches, before it is asked again; twice as long each further time.
        tries: how often a request is sent before the board counts as gone.
        booting: between two requests to a board that boots.
        booting_tries: how often; longer than watchdogs and swaps take.
        probing: until a silent line counts as one without a board.
        probe: for the answer to one probe.
    """

    first: float = 1.0
    least: float = 0.3
    most: float = 30.0
    slow: float = 3.0
    tries: int = 5
    booting: float = 2.0
    booting_tries: int = 20
    probing: float = 6.0
    probe: float = 0.5


@dataclass(slots=True)
class _Sent:
    """A request under way."""

    request: Request
    message: Message
    at: float
    wait: float
    tries: int = 1

    @property
    def due(self) -> float:
        return self.at + self.wait


class Exchange:
    """The host's end.

    Args:
        timing: how long it waits.
        transport: how messages lie on the line, or None to find out.
        sequence: the first sequence number: another one each time, so that late answers to an earlier host do not fit.
        baud: bits per second, which the time of a long request depends on.

    Attributes:
        transport: as given, or as found.
        resent: how often a request was sent again.
    """

    def __init__(
        self,
        timing: Timing | None = None,
        *,
        transport: Transport | None = None,
        sequence: int = 0,
        baud: int = 115200,
    ) -> None:
        self._timing, self._baud = timing or Timing(), baud
        self.transport = transport
        self._receivers = [
            Receiver(MAX_ANSWER, group)
            for group in ((SHARED, (Transport.RAW,)) if transport is None else [_line(transport)])
        ]
        self._sequence = sequence % 256
        self._ours = False  # over raw: the board states CRCs
        self._probing = Probing(self._timing.probing, self._timing.probe, baud) if transport is None else None
        self._probes: set[int] = set()
        self._conversation: Conversation[Any] | None = None
        self._uploader: Uploader | None = None
        self._pause: float | None = None
        self._sent: list[_Sent] = []
        self._out = bytearray()
        self._delay: float | None = None  # how long answers take, smoothed
        self._silent = 0  # timeouts in a row, of an upload's pieces
        self.result: object = None
        self._text = b""
        self.resent = 0

    @property
    def busy(self) -> bool:
        """A conversation is under way."""
        return self._conversation is not None

    @property
    def text(self) -> bytes:
        """The last bytes outside of frames; a prompt that waits is among them."""
        return self._text + self._receivers[0].unfinished

    def begin(self, conversation: Conversation[T], now: float) -> None:
        """Begin a conversation; `result` is what it returned once the exchange is not `busy` any more. `now`: as in `poll`."""
        self._conversation = conversation
        self._sent.clear()
        self._uploader = self._pause = None
        if self._probing is None:
            self._step({}, now, first=True)
        else:
            self._probing = Probing(self._timing.probing, self._timing.probe, self._baud)

    def poll(self, now: float) -> bytes:
        """Let time pass; return the bytes to send now.

        Args:
            now: seconds of a clock that only goes forward.

        Raises:
            NoAnswerError: nobody answers.
            Whatever the conversation raises.
        """
        for receiver in self._receivers:
            receiver.tick(now)
        if self.busy and self._probing is not None:
            self._ask_around(self._probing, now)
        elif self.busy and self._pause is not None:
            if now >= self._pause:
                self._pause = None
                self._step({}, now)
        elif self.busy:
            self._overdue(now)
            self._fill(now)
        out, self._out = bytes(self._out), bytearray()
        return out

    def due(self) -> float | None:
        """Return when `poll` has something to do at the latest, if nothing comes."""
        if self._probing is not None:
            return self._probing.due
        times = [sent.due for sent in self._sent] + ([self._pause] if self._pause is not None else [])
        return min(times, default=None)

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes of the line; raises as `poll`."""
        for receiver in self._receivers:
            for event in receiver.feed(data):
                if isinstance(event, Framed):
                    self._message(event, now)
                elif isinstance(event, Junk) and receiver is self._receivers[0]:
                    self._text = (self._text + event.text + b"\n")[-MAX_TEXT:]

    def reopened(self, now: float) -> None:
        """Take note that the port was away: what was under way goes again at once."""
        for sent in self._sent:
            sent.at, sent.wait = now, 0.0

    # --- probing ------------------------------------------------------------------------------------------------------

    def _ask_around(self, probing: Probing, now: float) -> None:
        transport = probing.poll(now)
        if probing.found is not None:
            self._settle(probing.found, now)
        elif isinstance(transport, bytes):
            self._out += transport
        elif transport is not None:
            message = self._number(PARAMETERS)
            self._probes.add(message.sequence)
            self._out += frame(encode(message), transport)

    def _probed(self, probing: Probing, event: Framed, message: Message, now: float) -> None:
        wanted = (Op.READ_RSP, PARAMETERS.group, PARAMETERS.command)
        if (message.op, message.group, message.command) == wanted and message.sequence in self._probes:
            probing.answered(event.transport, now)
            self._ask_around(probing, now)

    def _settle(self, transport: Transport, now: float) -> None:
        self.transport, self._probing = transport, None
        self._receivers = [receiver for receiver in self._receivers if transport in receiver.transports]
        self._step({}, now, first=True)

    # --- talking ------------------------------------------------------------------------------------------------------

    def _step(self, answer: Body, now: float, *, first: bool = False) -> None:
        """Give the conversation what it waits for, and begin its next step."""
        if (conversation := self._conversation) is None:
            raise MisuseError("no conversation is under way")
        try:
            step = next(conversation) if first else conversation.send(answer)
        except StopIteration as end:
            self.result, self._conversation = end.value, None
            return
        if isinstance(step, Pause):
            self._pause = now + step.seconds
        elif isinstance(step, Upload):
            self._silent = 0
            self._uploader = Uploader(self._fitting(step))
            self._fill(now)
        else:
            self._send(step, now)

    def _fitting(self, upload: Upload) -> Upload:
        """The upload as the line allows it."""
        buffer, window = upload.buffer, upload.window
        if self.transport is Transport.CONSOLE:
            buffer -= CONSOLE_OVERHEAD
        elif self.transport is Transport.RAW:
            buffer -= len(CHECK) if self._ours else 0
            window = window if self._ours else 1  # Zephyr's raw UART drops messages that arrive together
        return replace(upload, buffer=buffer, window=window)

    def _fill(self, now: float) -> None:
        """Send as many pieces of an upload as may be under way."""
        while self._uploader is not None and (request := self._uploader.take()) is not None:
            self._send(request, now)

    def _send(self, request: Request, now: float) -> None:
        message = self._number(request)
        data = self._framed(message)
        ahead = sum(
            frame_size(len(encode(sent.message)), self.transport or Transport.CONSOLE) for sent in self._sent
        ) + len(data)
        self._out += data
        on_line = (ahead + ANSWER) * BITS / self._baud
        self._sent.append(_Sent(request, message, now, self._patience(request) * 2**self._silent + on_line))

    def _number(self, request: Request) -> Message:
        message = Message(request.op, request.group, request.command, self._sequence, request.body)
        self._sequence = (self._sequence + 1) % 256
        return message

    def _framed(self, message: Message) -> bytes:
        raw = self.transport is Transport.RAW and (self._ours or message.group >= FIRST_OWN_GROUP)
        return frame(with_check(message) if raw else encode(message), self.transport or Transport.CONSOLE)

    def _patience(self, request: Request) -> float:
        if request.booting or request.once:
            return self._timing.booting
        if request.slow:
            return self._timing.slow
        if self._delay is None:
            return self._timing.first
        return min(max(self._timing.least, 4 * self._delay), self._timing.most)

    def _overdue(self, now: float) -> None:
        """Send again, or give up, what was not answered in time."""
        for sent in [one for one in self._sent if now >= one.due]:
            if sent not in self._sent:
                continue  # given up with the one before
            if sent.request.once:
                self._sent.clear()
                self._step({}, now)
                return
            self.resent += 1
            if self._uploader is not None and not sent.request.slow:
                self._give_up_after(self._silent)
                self._silent += 1
                self._uploader.lost(sent.request)
                self._sent.clear()
                return
            self._give_up_after(sent.tries - 1, booting=sent.request.booting)
            sent.tries += 1
            sent.at = now
            if not sent.request.booting:
                sent.wait = max(sent.wait, self._patience(sent.request)) * (2 if sent.tries > 1 else 1)
            self._out += self._framed(sent.message)

    def _give_up_after(self, timeouts: int, *, booting: bool = False) -> None:
        tries = max(self._timing.tries, self._timing.booting_tries) if booting else self._timing.tries
        if timeouts + 1 >= tries:
            raise NoAnswerError(f"no answer from the board, asked {'once' if tries == 1 else f'{tries} times'}")

    def _message(self, event: Framed, now: float) -> None:
        try:
            message = decode(event.data)
        except SmpError:
            return
        if not self.busy:
            return
        if self._probing is not None:
            self._probed(self._probing, event, message, now)
            return
        if event.transport is not self.transport:
            return
        if event.transport is Transport.RAW and "crc" in message.body:
            body = checked(message)
            if body is None:
                return
            self._ours, message = True, replace(message, body=body)
        elif self._ours:
            return
        found = next((sent for sent in self._sent if _answers(message, sent.message)), None)
        if found is not None:
            self._answered(found, message.body, now)

    def _answered(self, sent: _Sent, body: Body, now: float) -> None:
        self._sent.remove(sent)
        if sent.tries == 1 and not (sent.request.slow or sent.request.booting):
            delay = now - sent.at
            self._delay = delay if self._delay is None else self._delay + (delay - self._delay) / 8
        uploader = self._uploader
        if uploader is None:
            self._step(body, now)
            return
        if not sent.request.slow:  # a board that takes first requests and no pieces would be asked for ever
            self._silent = 0
        uploader.answered(sent.request, body)
        self._sent = [one for one in self._sent if any(one.request is each for each in uploader.pending)]
        if uploader.result is not None:
            self._uploader = None
            self._sent.clear()
            self._step(uploader.result, now)
        else:
            self._fill(now)


def _line(transport: Transport) -> tuple[Transport, ...]:
    """What lies on the line beside that transport."""
    return SHARED if transport in SHARED else (transport,)


def _answers(message: Message, request: Message) -> bool:
    """Say whether a message is the response to a request."""
    wanted = (request.op + 1, request.group, request.command, request.sequence)
    return (message.op, message.group, message.command, message.sequence) == wanted
