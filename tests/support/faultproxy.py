"""Proxies on loopback that let the way to a server fail, when and as a test says.

with HttpProxy(s3.port) as way:                       # before an object store
    way.script = inorder(status(503), LOST, delay(2))  # what happens to the next requests; after them all is well
    way.script = seeded(7, {status(500): 0.1, LOST: 0.05, DROPPED: 0.05})
    store = from_url(bucket.url, **bucket.through(way.port).options)
assert way.seen == [("PUT", "/hillhold-1/blobs/…"), …]

with TcpProxy(postgres.port) as way:                  # before PostgreSQL
    way.lose = b"COMMIT"                              # the next one is carried out, and its answer is lost
    way.cut()                                         # every connection breaks now
    way.refusing = True                               # and no new one is taken
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal

BLOCK = 64 * 1024
PATIENCE = 60.0
"""Seconds that a server may take."""
PER_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True)
class Fault:
    """What happens to one request."""

    kind: Literal["none", "status", "dropped", "lost"] = "none"
    status: int = 0
    seconds: float = 0.0


WELL = Fault()
DROPPED = Fault("dropped")
"""The connection breaks, and the server never sees the request."""
LOST = Fault("lost")
"""The server does what is asked, and the connection breaks before its answer."""


def status(number: int) -> Fault:
    """The server never sees the request; the answer is an error."""
    return Fault("status", number)


def delay(seconds: float) -> Fault:
    """The request waits."""
    return Fault(seconds=seconds)


Script = Callable[[str, str], Fault]
"""From method and path to what happens."""


def inorder(*faults: Fault) -> Script:
    """One fault for each of the next requests, and none after them."""
    left = list(faults)
    return lambda method, path: left.pop(0) if left else WELL


def seeded(seed: int, rates: Mapping[Fault, float]) -> Script:
    """Each fault by chance, the same again for the same seed and order of requests."""
    chance = random.Random(seed)

    def script(method: str, path: str) -> Fault:
        drawn = chance.random()
        for fault, rate in rates.items():
            drawn -= rate
            if drawn < 0:
                return fault
        return WELL

    return script


def at(method: str, part: str, *faults: Fault) -> Script:
    """One fault for each of the next requests of this method whose path has `part` in it."""
    left = inorder(*faults)
    return lambda verb, path: left(verb, path) if verb == method and part in path else WELL


class _Handler(BaseHTTPRequestHandler):
    """Passes on the requests of one connection."""

    protocol_version = "HTTP/1.1"
    proxy: HttpProxy

    def do_GET(self) -> None:
        fault = self.proxy.next(self.command, self.path)
        time.sleep(fault.seconds)
        if fault.kind == "dropped":
            return self.reset()
        if fault.kind == "status":
            for _ in self.body():
                pass
            self.send_response_only(fault.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        server = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=PATIENCE)
        try:
            self.ask(server)
            answer = server.getresponse()
            if fault.kind == "lost":
                answer.read()
                return self.reset()
            self.answer(answer)
        except OSError:
            self.reset()
        finally:
            server.close()
        return None

    do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_GET

    def ask(self, server: http.client.HTTPConnection) -> None:
        server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in PER_CONNECTION:
                server.putheader(name, value)
        server.endheaders()
        for data in self.body():
            server.send(data)

    def body(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length", 0))
        while left and (data := self.rfile.read(min(left, BLOCK))):
            yield data
            left -= len(data)

    def answer(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in PER_CONNECTION:
                self.send_header(name, value)
        if answer.length is None and self.command != "HEAD":
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        while data := answer.read(BLOCK):
            self.wfile.write(data)

    def reset(self) -> None:
        """Break off, so that the client sees an error and no end."""
        self.close_connection = True
        _reset(self.connection)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class HttpProxy:
    """Before an HTTP server.

    Attributes:
        script: what happens to a request, by method and path.
        seen: the requests that came.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.script: Script = inorder()
        self.seen: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = int(self._server.server_address[1])

    def next(self, method: str, path: str) -> Fault:
        """Note a request, and say what happens to it."""
        with self._lock:
            self.seen.append((method, path))
            return self.script(method, path)

    def __enter__(self) -> HttpProxy:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class TcpProxy:
    """Before any server.

    Attributes:
        delay: seconds that each piece waits, either way.
        lose: after a client's next piece with these bytes, the connection breaks as soon as the server has answered; then None again.
        refusing: whether new connections are broken at once.
        lost: how often that happened.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.delay = 0.0
        self.lose: bytes | None = None
        self.refusing = False
        self.lost = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> TcpProxy:
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection."""
        with self._lock:
            for found in self._open:
                _reset(found)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                _reset(client)
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.upstream)) as server, self._kept(client, server):
            losing = threading.Event()
            there = threading.Thread(target=self._pump, args=(client, server, losing, True), daemon=True)
            there.start()
            self._pump(server, client, losing, False)
            there.join()

    @contextlib.contextmanager
    def _kept(self, *both: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open |= set(both)
        try:
            yield
        finally:
            with self._lock:
                self._open -= set(both)

    def _pump(self, source: socket.socket, target: socket.socket, losing: threading.Event, asking: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BLOCK):
                time.sleep(self.delay)
                if asking and self.lose and self.lose in data:
                    self.lose = None
                    losing.set()
                elif not asking and losing.is_set():
                    self.lost += 1
                    break
                target.sendall(data)
        for end in (source, target):
            _reset(end)


def _reset(connection: socket.socket) -> None:
    """Break a connection: with a reset, where the system lets us, and at once."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
