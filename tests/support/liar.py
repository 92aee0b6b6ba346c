"""A service that says what a test wants it to say."""

from __future__ import annotations

import json
import re
import ssl
import threading
from base64 import b64encode
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from hillhold_signer import Repository
from hillhold_signer.serviceclient import Service
from workshop import tree

TOKEN = "hh_0123456789_secret"


def at_once(_: float) -> None:
    """Wait for nothing."""


class Liar:
    """A server that answers each path as a test says: (status, headers, body), or a function of the handler."""

    def __init__(self, answers: dict[str, Any], context: ssl.SSLContext | None = None) -> None:
        self.answers = answers
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                self.rfile.read(length)
                path = self.path.split("?")[0]
                liar.seen.append((self.command, path, dict(self.headers.items())))
                answer = liar.answers.get(f"{self.command} {path}", liar.answers.get(path, (404, {}, b"{}")))
                if callable(answer):
                    answer(self)
                    self.close_connection = True
                    return
                number, headers, body = answer
                self.send_response_only(number)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_POST = do_PATCH = do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Liar:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def service(self, token: str | None = TOKEN) -> Service:
        return Service(self.url, token, sleep=at_once)


def entry(data: bytes) -> dict[str, Any]:
    return {"length": len(data), "sha256": sha256(data).hexdigest(), "data": b64encode(data).decode()}


def served(files: dict[str, bytes]) -> dict[str, Any]:
    """The answers of a service that has these files."""
    listing = {name: entry(data) for name, data in files.items() if listed_name(name)}
    answers: dict[str, Any] = {"/v1/tree": (200, {}, json.dumps({"files": listing}).encode())}
    for name, data in files.items():
        answers[f"/v1/files/{name}"] = (200, {"ETag": f'"{sha256(data).hexdigest()}"'}, data)
    return answers


def listed_name(name: str) -> bool:
    ours = name.startswith(("people/", "drafts/", "revoked/", "image-keys/")) or name == "hillhold.toml"
    return ours or re.fullmatch(r"public/metadata/(timestamp|[0-9]+\.(root|snapshot|targets))\.json", name) is not None


def files_of(repository: Repository) -> dict[str, bytes]:
    return {name: data for name, data in tree(repository.folder.path).items() if not name.startswith(".")}


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response_only(200)
    handler.end_headers()
    try:
        for _ in range(1000):
            handler.wfile.write(b" " * (1 << 20))
    except OSError:
        pass
