"""An issuer of OpenID Connect on loopback: its keys rotate, and it may be slow, large, or not one at all.

with Idp() as idp:
    token = idp.token(sub="7")
    idp.answers["/jwks"] = Answer(b"…")        # what is served there instead
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from register import NOW

AUDIENCE = "hillhold"
RSA = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]


@dataclass
class Answer:
    """What the issuer says: a body, at once or one byte in so many seconds."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: float = 0
    byte_by_byte: float = 0
    drip_headers: float = 0


class Idp:
    """`keys` are those that it names, by kid; `seen` is what was asked of it."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"one": RSA[0]}
        self.answers: dict[str, Answer] = {}
        self.seen: list[str] = []
        self._stop = threading.Event()
        idp = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                idp.seen.append(self.path)
                idp._serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Idp:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def jwks(self) -> dict[str, Any]:
        return {"keys": [self.jwk(kid) for kid in self.keys]}

    def jwk(self, kid: str) -> dict[str, Any]:
        key = self.keys[kid].public_key()
        algorithm = ECAlgorithm if isinstance(key, ec.EllipticCurvePublicKey) else RSAAlgorithm
        return {**json.loads(algorithm.to_jwk(key)), "kid": kid, "use": "sig"}

    def claims(self, now: int = NOW) -> dict[str, Any]:
        return {"iss": self.url, "aud": AUDIENCE, "sub": "7", "iat": now, "nbf": now, "exp": now + 600}

    def token(
        self,
        *,
        key: Any = None,
        algorithm: str = "RS256",
        headers: Mapping[str, Any] | None = None,
        without: tuple[str, ...] = (),
        **claims: Any,
    ) -> str:
        """A token of its newest key; `headers` and `claims` go over the usual ones, `without` goes of both."""
        kid = list(self.keys)[-1]
        said = {name: value for name, value in {**self.claims(), **claims}.items() if name not in without}
        head = {name: value for name, value in {"kid": kid, **(headers or {})}.items() if name not in without}
        return jwt.encode(said, self.keys[kid] if key is None else key, algorithm, headers=head)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        documents: dict[str, Callable[[], Any]] = {
            "/.well-known/openid-configuration": lambda: {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"},
            "/jwks": self.jwks,
        }
        made = documents.get(handler.path)
        usual = Answer(json.dumps(made()).encode()) if made else Answer(b"", 404)
        answer = self.answers.get(handler.path, usual)
        self._stop.wait(answer.pause)
        try:
            if answer.drip_headers:
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not self._stop.wait(answer.drip_headers):
                    handler.wfile.write(b"x")
                return
            handler.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            for at in range(0, len(answer.body), 1 if answer.byte_by_byte else 65_536):
                handler.wfile.write(answer.body[at : at + (1 if answer.byte_by_byte else 65_536)])
                if answer.byte_by_byte and self._stop.wait(answer.byte_by_byte):
                    return
        except OSError:
            return  # who asked has gone


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
