"""HTTP by hand: bytes that no client would send."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

PATIENCE = 60.0


def raw(url: str, data: bytes | Iterable[bytes], *, most: int = 1 << 20) -> bytes:
    """Send bytes, and return all that comes until the other side ends it; the client says that it ends, too."""
    parts = urlsplit(url)
    found = b""
    with socket.create_connection((parts.hostname or "", parts.port or 80), PATIENCE) as connection:
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # ended before all was sent: look at what was said
            for chunk in [data] if isinstance(data, bytes) else data:
                connection.sendall(chunk)
        with contextlib.suppress(ConnectionResetError):
            while len(found) < most and (chunk := connection.recv(65_536)):
                found += chunk
    return found


def request(method: str, path: str, *headers: str, token: str | None = None, body: bytes = b"") -> bytes:
    """A request as it goes over the wire, with no other headers than these and those of the connection."""
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if token:
        head.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def statuses(answer: bytes) -> list[int]:
    """The status of each answer on a connection."""
    lines = [line for line in answer.split(b"\n") if line.startswith(b"HTTP/1.1 ")]
    return [int(line.split(b" ")[1]) for line in lines]
