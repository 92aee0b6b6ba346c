"""A web server on loopback that serves a published tree, well or badly.

    with Web(repo.tree) as web:
        web.faults = [status(503), cut(100)]        # what happens to the next requests, one each; after them it serves well
        HttpSource(web.url).metadata("timestamp.json")
    assert web.seen == [...]                        # what was asked

Counts are of bodies. A `Pattern` stands for content that is never whole in memory.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TypeAlias
from urllib.parse import unquote

BLOCK = 64 * 1024


class Pattern:
    """So many bytes, of which each part can be told from its place."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._block = bytes(range(256)) * (BLOCK // 256)

    def __len__(self) -> int:
        return self.length

    def part(self, start: int, end: int) -> bytes:
        """Bytes from `start` to `end`, at most a block of them."""
        end = min(end, self.length)
        at = start % 256
        return self._block[at : min(at + end - start, BLOCK)] if start < end else b""


@dataclass(frozen=True)
class Seen:
    """One request."""

    path: str
    headers: Mapping[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


class Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    protocol_version = "HTTP/1.1"
    web: Web

    def do_GET(self) -> None:
        self.web.seen.append(Seen(self.path, dict(self.headers.items())))
        fault = self.web.faults.pop(0) if self.web.faults else serve
        try:
            fault(self)
            self.wfile.flush()
        except OSError:
            pass  # the client has heard enough
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def head(self, status: int, **headers: object) -> None:
        """Send status and headers; `_` in a name stands for `-`."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.flush()

    def body(self, data: bytes) -> None:
        with self.web.lock:
            self.web.sent += len(data)
        self.wfile.write(data)


Fault: TypeAlias = Callable[[Handler], object]


class Web:
    """The server; `public` is where in it the tree lies."""

    def __init__(
        self, tree: Mapping[str, bytes | Pattern], *, context: ssl.SSLContext | None = None, public: str = "/fw/"
    ) -> None:
        self.tree, self.public = tree, public
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.sent = 0
        self.etag: str | None = None
        self.ranges = True
        self.lock = threading.Lock()
        self.done = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"web": self}))
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = int(self._server.server_address[1])
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.origin = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.url = self.origin + public

    def __enter__(self) -> Web:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def asked(self) -> list[str]:
        """Paths of the requests, below the tree."""
        return [one.path.removeprefix(self.public) for one in self.seen]

    def content(self, handler: Handler) -> bytes | Pattern | None:
        path = unquote(handler.path.partition("?")[0])
        path = path.removeprefix(self.origin)  # a proxy is asked for a whole URL
        return self.tree.get(path.removeprefix(self.public)) if path.startswith(self.public) else None


def serve(handler: Handler, *, stop: int | None = None) -> None:
    """Answer as a good server does; or break off after `stop` bytes."""
    web = handler.web
    content = web.content(handler)
    if content is None:
        handler.head(404, Content_Length=0)
        return
    start, length = 0, len(content)
    headers: dict[str, object] = {"ETag": web.etag} if web.etag else {}
    if web.ranges and (asked := handler.headers.get("Range")) and handler.headers.get("If-Range", web.etag) == web.etag:
        found = re.fullmatch("bytes=([0-9]+)-", asked)
        assert found, asked
        start = int(found[1])
        if start >= length:
            handler.head(416, Content_Range=f"bytes */{length}", Content_Length=0)
            return
        headers["Content_Range"] = f"bytes {start}-{length - 1}/{length}"
    handler.head(206 if start else 200, Content_Length=length - start, **headers)
    end = length if stop is None else min(length, start + stop)
    while start < end:
        to = min(start + BLOCK, end)
        data = content.part(start, to) if isinstance(content, Pattern) else content[start:to]
        handler.body(data)
        start += len(data)


def cut(after: int) -> Fault:
    """Break off after so many bytes of the body."""
    return lambda handler: serve(handler, stop=after)


def status(number: int, body: bytes = b"", **headers: object) -> Fault:
    """Answer with a status."""

    def answer(handler: Handler) -> None:
        handler.head(number, Content_Length=len(body), **headers)
        handler.body(body)

    return answer


def raw(*pieces: bytes, times: int = 1, pause: float = 0) -> Fault:
    """Send these bytes, so often, with a pause before each, and then nothing until the test is over."""

    def answer(handler: Handler) -> None:
        for _ in range(times):
            for piece in pieces:
                if handler.web.done.wait(pause) if pause else handler.web.done.is_set():
                    return
                handler.body(piece)
                handler.wfile.flush()

    return answer


def silent(handler: Handler) -> None:
    """Take the request, and say nothing."""
    handler.web.done.wait(30)


def ranges(seen: Sequence[Seen]) -> list[int]:
    """Where the requests begin."""
    return [int(one.range.removeprefix("bytes=").removesuffix("-")) if one.range else 0 for one in seen]
