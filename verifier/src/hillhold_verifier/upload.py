"""The sender of one upload, sans-I/O: which request goes next, what an answer means, and when to go back.

A board takes pieces in order and says which offset it wants next, whatever it was sent. So nothing is written twice, and an answer that
names another offset than the one behind its piece means that an earlier piece was lost: the sender goes back to there. Pieces under
way when it goes back are answered once more; those answers say nothing new. Lost and spoilt pieces make the next ones shorter, which
costs less on a bad line; each that arrives makes them longer again. MCUboot's serial recovery takes a piece but for its last bytes,
where they fill no unit of its flash: that is no loss, and the next piece begins with them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from hillhold_verifier.answers import Body
from hillhold_verifier.conversation import Conversation, Pause, Progress, Request, T, Upload
from hillhold_verifier.errors import OperationalError, SmpError
from hillhold_verifier.smp import Group, ImageCommand, Message, Op, encode
from hillhold_verifier.smp_fields import int_field

MAX_SETBACKS: Final = 16
"""How often a board may ask for what it was sent before, beyond once for each piece that arrived."""
MIN_PIECE: Final = 128
"""Bytes below which pieces are not made shorter."""
GROWTH: Final = 4
"""Bytes by which a piece that arrives makes the next ones longer."""
SHRINK: Final = 0.75
"""What is left of a piece's length after one was lost."""
LEAST_WINDOW: Final = 2
"""Requests under way at first, and after each loss: what is sent behind a lost piece is sent again. Two keep a slow line busy."""
WORD: Final = 8
"""Bytes of a program unit, mostly: pieces end with one, so that a board has no rest to keep."""
RUN: Final = 32
"""Pieces that arrive in a row before one more may be under way: a fast line with a slow adapter wants that."""


class Uploader:
    """Sends `upload`.

    Attributes:
        result: the body that ended it: `off` is the length, or it is a refusal. None until then.
        pending: requests whose answers count; what is not among them any more has been overtaken.
    """

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self.result: Body | None = None
        self._at = 0  # what the board has, by its own words
        self._next = 0  # what goes next
        self._begun = False  # the board knows what is coming
        self.pending: tuple[Request, ...] = ()
        self._most, self._run = max(1, upload.window), 0
        self._window = min(self._most, LEAST_WINDOW)
        self._whole = self._piece = max(MIN_PIECE, upload.buffer)
        self._arrived = self._setbacks = self._best = 0

    def take(self) -> Request | None:
        """Return the request that goes next, or None while enough are under way, or it has ended.

        Raises:
            OperationalError: the source ends before it should, or fails.
        """
        if self.result is not None or len(self.pending) >= (self._window if self._begun else 1):
            return None
        if self._begun and self._next >= self._upload.length:
            return None
        request = self._following() if self._begun else self._first()
        self.pending += (request,)
        return request

    def answered(self, request: Request, body: Body) -> None:
        """Take the response to a request that `take` returned.

        Raises:
            SmpError: it has no offset that could be one.
            OperationalError: the board asks for the same again and again.
        """
        if not self._settle(request):
            return  # it was sent before going back, and says what is known
        if "err" in body or body.get("rc"):
            self.result = body
            return
        at, end = int_field(body, "off"), _end(request)
        if at > self._upload.length:
            raise SmpError("offset of an upload", expected=f"at most {self._upload.length}", got=at)
        asked = not self._begun and end == 0
        self._begun = True
        if at < end and self._took_most(request, at):
            self._take_part(at, body)
        elif at < end:
            self._go_back(at)
        elif at > self._at or asked:
            self._advance(at, body)

    def lost(self, request: Request) -> None:
        """Take note that a request had no answer in time: what was sent from there on goes again."""
        if self._settle(request):
            self._restart(self._at)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _first(self) -> Request:
        """The request that names the content: without data, or with as much as there is room for."""
        head: dict[str, object] = {**self._upload.first, "off": 0}
        data = b"" if self._upload.asks else self._read(0, head)
        self._next = len(data)
        return self._request({**head, "data": data}, slow=True)

    def _following(self) -> Request:
        named = self._upload.first if self._next == 0 else {}
        head: dict[str, object] = {**named, "off": self._next}
        data = self._read(self._next, head)
        self._next += len(data)
        return self._request({**head, "data": data}, slow=self._next >= self._upload.length)

    def _read(self, at: int, head: Body) -> bytes:
        used = len(encode(Message(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, 0, {**head, "data": b""})))
        room = min(self._piece, self._upload.buffer) - used - 2  # the length of the byte string takes two bytes more
        room = room // WORD * WORD or max(room, 1)
        data = self._upload.content.read(at, min(room, self._upload.length - at))
        if not data:
            raise OperationalError(
                f"{self._upload.what}: {at} bytes, not the {self._upload.length} that its metadata state"
            )
        return data

    def _request(self, body: Body, *, slow: bool) -> Request:
        return Request(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, body, slow)

    def _advance(self, at: int, body: Body) -> None:
        self._arrived += at > self._best  # where to go on is no advance, nor is what was there before
        self._best = max(self._best, at)
        self._piece = min(self._whole, self._piece + GROWTH)
        self._run += 1
        if self._run % RUN == 0:
            self._window = min(self._most, self._window + 1)
        self._at, self._next = at, max(self._next, at)
        self.pending = tuple(one for one in self.pending if _end(one) > at)
        self._upload.report(Progress(self._upload.what, at, self._upload.length))
        if at >= self._upload.length:
            self.result = body

    def _took_most(self, request: Request, at: int) -> bool:
        """A piece was taken but for its end. Whoever takes less than half of each is not waited for: that would take very many requests."""
        offset = request.body["off"]
        return isinstance(offset, int) and at > self._at and 2 * at >= offset + _end(request)

    def _take_part(self, at: int, body: Body) -> None:
        """A board took a part of a piece (MCUboot's serial recovery writes whole words): the rest goes again, and nothing was lost."""
        self._advance(at, body)
        self.pending, self._next = (), at

    def _go_back(self, at: int) -> None:
        self._setbacks += 1
        if self._setbacks > MAX_SETBACKS + self._arrived:
            raise OperationalError(
                f"the board took no more of {self._upload.what} than {at} of {self._upload.length} bytes"
            )
        self._restart(at)

    def _restart(self, at: int) -> None:
        """Go on from `at`, with shorter pieces; from the start, the content has to be named again."""
        self._piece, self._run = max(MIN_PIECE, int(self._piece * SHRINK)), 0
        self._window = min(self._most, LEAST_WINDOW)
        self.pending = ()
        self._at = self._next = at
        self._begun = at > 0

    def _settle(self, request: Request) -> bool:
        """Take a request off what is pending; False where it is not."""
        left = tuple(one for one in self.pending if one is not request)
        found = len(left) < len(self.pending)
        self.pending = left
        return found


def _end(request: Request) -> int:
    """The offset behind a request's piece."""
    offset, data = request.body["off"], request.body["data"]
    return offset + len(data) if isinstance(offset, int) and isinstance(data, bytes) else 0


def one_at_a_time(conversation: Conversation[T]) -> Generator[Request | Pause, Body, T]:
    """Carry the uploads of a conversation by plain requests, one after the other, for a way that loses none."""
    answer: Body = {}
    try:
        step = next(conversation)
        while True:
            if isinstance(step, Upload):
                uploader = Uploader(step)
                while (request := uploader.take()) is not None:
                    uploader.answered(request, (yield request))
                answer = uploader.result or {}
            else:
                answer = yield step
            step = conversation.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
