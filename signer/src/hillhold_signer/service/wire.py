"""HTTP/1.1 by uvicorn, with bounds that it does not have: how long a request's head may be, how slow, and what comes after a refusal.

Without them, whoever can connect could fill the memory with one header that never ends, or hold every connection with heads that never do.
"""

from __future__ import annotations

from asyncio import TimerHandle
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request line with headers; a little more may come at once."""
HEAD: Final = 20.0
"""Seconds in which a head has to come, from the connection or its first byte on."""
MAX_REST: Final = 16 * 1024 * 1024
"""Bytes of a body that are still taken, and thrown away, once the answer is out: so that whoever sends them gets to read it."""


class WireProtocol(HttpToolsProtocol):
    """A connection with its bounds."""

    _timer: TimerHandle | None = None
    _in_head = False
    _head = 0
    _rest = 0

    def connection_made(self, transport: Any) -> None:
        """Wait for the first head; an ASGI server may wait for ever."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._calm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, as long as they come to an end."""
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head, self._head, self._rest = True, 0, 0
        if self._timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """End a head."""
        self._in_head = False
        self._calm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body; of one that nobody wants any more, not too much."""
        super().on_body(body)
        if self.cycle.response_complete:
            self._rest += len(body)
            if self._rest > MAX_REST:
                self.transport.close()

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(HEAD, self._refuse, b"408 Request Timeout")

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: bytes) -> None:
        self._calm()
        # There is none before the first head; and an answer that is under way is not written into.
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
