"""One HTTP GET that ends, whoever answers: deadlines on every read, few redirects and none to less security, no secret in a message.

Made of the standard library; proxies come from the environment as they do for `urllib`. `sources_http` asks again where it is worth it.
"""

from __future__ import annotations

import base64
import io
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import AbstractHTTPHandler, OpenerDirector, ProxyHandler, Request

from hillhold_verifier.errors import MisuseError, OperationalError

MAX_REDIRECTS: Final = 5
CONNECT_TIMEOUT: Final = 10.0
"""Seconds for one address of a host to accept a connection."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
_PRINTABLE: Final = re.compile(r"[!-~]+")


class Broken(Exception):
    """This attempt failed, and another may not. `after`: seconds that the server asks to be left alone, if it does."""

    def __init__(self, why: str, after: int | None = None) -> None:
        super().__init__(why)
        self.after = after


class Unreached(Broken):
    """There was not even a connection."""


@dataclass(frozen=True, slots=True)
class Address:
    """An `http` or `https` URL. What is secret in it stays out of `shown` and of the representation."""

    scheme: str
    host: str
    path: str
    query: str = field(default="", repr=False)
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse the URL of a repository; `user:password@` becomes Basic authentication (RFC 7617).

        Raises:
            MisuseError: it is not one; the message repeats nothing of it, since it may hold a password.
        """
        try:
            parts = _split(text)
        except ValueError as error:
            raise MisuseError(f"URL of a repository: expected http(s)://HOST[:PORT]/PATH, got {error}") from None
        if parts.query or parts.fragment:
            raise MisuseError("URL of a repository: expected http(s)://HOST[:PORT]/PATH, got one with ? or #")
        authorization = None
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(secret.encode()).decode()}"
        return cls(parts.scheme, _host(parts), parts.path.rstrip("/") + "/", "", authorization)

    def below(self, name: str) -> Address:
        """Return the address of a file of the repository. `+` is escaped: S3 would read a space."""
        return Address(self.scheme, self.host, self.path + quote(name), "", self.authorization)

    @property
    def url(self) -> str:
        """The URL without credentials."""
        return self.shown + (f"?{self.query}" if self.query else "")

    @property
    def shown(self) -> str:
        """The URL for people: a redirect's query is often a signature that grants access."""
        return f"{self.scheme}://{self.host}{self.path}"

    def redirected(self, location: str | None) -> Address:
        """Return where an answer leads. Credentials go along only to the same origin.

        Raises:
            OperationalError: nowhere, to another scheme, or from https to http.
        """
        try:
            parts = _split(location or "", self.url)
        except ValueError as error:
            raise OperationalError(f"{self.shown}: redirected to {error}") from None
        if self.scheme == "https" and parts.scheme == "http":
            raise OperationalError(f"{self.shown}: redirected from https to http, which is not followed")
        same = (parts.scheme, _host(parts)) == (self.scheme, self.host)
        return Address(parts.scheme, _host(parts), parts.path or "/", parts.query, self.authorization if same else None)


def _split(text: str, base: str = "") -> SplitResult:
    """Split a URL, relative to `base`; raises `ValueError` that says what came, without repeating it."""
    if not _PRINTABLE.fullmatch(text):
        raise ValueError("one with characters that are not printable ASCII")
    try:
        parts = urlsplit(urljoin(base, text))
        port = parts.port
    except ValueError:
        raise ValueError("a malformed one") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("one with another scheme")
    if not parts.hostname or port == 0:
        raise ValueError("one without a host")
    return parts


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2].lower()


class Answer:
    """What a server answered; `status` and `headers` are there, the body is read piece by piece."""

    def __init__(self, address: Address, response: HTTPResponse, watch: _Watch) -> None:
        self._address, self._response, self._watch = address, response, watch
        self.status = response.status
        self.headers = response.headers

    def read(self, length: int, seconds: float) -> bytes:
        """Return at most `length` bytes as soon as there are any, none at the end.

        Args:
            seconds: how long that may take.

        Raises:
            Broken: the connection broke off, or nothing came in time.
        """
        self._watch.start(seconds)
        try:
            data = self._response.read1(length)
        except (OSError, HTTPException) as error:
            raise _reason(self._address, error) from None
        if not data and self._response.length:
            raise Broken(f"broken off with {self._response.length} bytes to come")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._response.close()


class Getter:
    """Sends GET requests.

    Args:
        ca_file: certificates (PEM) that vouch for https servers, instead of the system's.
        clock: seconds that only rise.

    Raises:
        OperationalError: the file cannot be read.
    """

    def __init__(self, ca_file: Path | None, clock: Callable[[], float]) -> None:
        self._watch = _Watch(clock)
        self._opener = OpenerDirector()
        self._opener.add_handler(ProxyHandler())
        self._opener.add_handler(_Handler(self._watch, ca_file))

    def get(self, address: Address, headers: Mapping[str, str], seconds: float) -> Answer:
        """Send a GET request and follow redirects; `seconds`: for each answer's status and headers.

        Raises:
            Broken: no connection, no answer in time, or one that says to try again.
            OperationalError: redirects that are not followed, a certificate that does not verify, content in a coding.
        """
        answer, redirects = self._get(address, headers, seconds), 0
        while answer.status in _REDIRECTS:
            answer.close()
            if (redirects := redirects + 1) > MAX_REDIRECTS:
                raise OperationalError(f"{address.shown}: more than {MAX_REDIRECTS} redirects")
            address = address.redirected(answer.headers.get("Location"))
            answer = self._get(address, headers, seconds)
        coding = answer.headers.get("Content-Encoding", "identity")
        if answer.status in _TRANSIENT or coding != "identity":
            answer.close()
        if answer.status in _TRANSIENT:
            after = answer.headers.get("Retry-After", "")
            seen = int(after) if re.fullmatch("[0-9]{1,9}", after) else None
            raise Broken(f"status {answer.status}", seen)
        if coding != "identity":
            raise OperationalError(f"{address.shown}: expected the file as it is, got it in coding {coding!r:.40}")
        return answer

    def _get(self, address: Address, headers: Mapping[str, str], seconds: float) -> Answer:
        request = Request(address.url, headers={"User-Agent": "hillhold", **headers})  # noqa: S310 - http(s), see `_split`
        if address.authorization:
            request.add_header("Authorization", address.authorization)
        self._watch.start(seconds)
        try:
            response = self._opener.open(request, timeout=min(CONNECT_TIMEOUT, seconds))
        except (OSError, HTTPException, ValueError) as error:
            raise _reason(address, error) from None
        return Answer(address, response, self._watch)


def _reason(address: Address, error: Exception) -> Exception:
    """What to raise for an error of the standard library, whose own text may quote URLs of proxies with their passwords."""
    # Only while it connects and asks does `urllib` wrap what it meets.
    cause, broken = (error.reason, Unreached) if isinstance(error, URLError) else (error, Broken)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return OperationalError(f"{address.shown}: certificate verify failed: {cause.verify_message}")
    if isinstance(cause, TimeoutError):
        return broken("no answer in time")
    if isinstance(cause, ConnectionError):
        return broken(cause.strerror or "connection closed without an answer")
    if isinstance(cause, OSError):
        return broken(cause.strerror or type(cause).__name__)
    if isinstance(cause, HTTPException):
        return broken(f"not an answer in HTTP, or half of one ({type(cause).__name__})")
    return OperationalError(f"{address.shown}: cannot be asked; are the proxy settings right?")


# --- deadlines within the standard library ----------------------------------------------------------------------------


class _Watch:
    """The end of the operation under way. Socket timeouts alone count from each byte: a server that drips would hold a client for ever."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._end = clock, 0.0

    def start(self, seconds: float) -> None:
        self._end = self._clock() + seconds

    def left(self) -> float:
        if (left := self._end - self._clock()) <= 0:
            raise TimeoutError
        return left


class _Watched(io.RawIOBase):
    """What comes on a socket, until the watch ends."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, watch: _Watch) -> None:
        self._raw, self._sock, self._watch = raw, sock, watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(self._watch.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, watch: _Watch, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_Watched(self.fp.detach(), sock, watch))


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise OperationalError(f"CA file {ca_file}: {getattr(error, 'strerror', None) or error}") from None


class _Handler(AbstractHTTPHandler):
    """Opens http and https, and nothing else; hands out every answer, whatever its status."""

    def __init__(self, watch: _Watch, ca_file: Path | None) -> None:
        super().__init__()
        self._watch = watch
        self._context: ssl.SSLContext | None = _context(ca_file) if ca_file else None

    http_request = https_request = AbstractHTTPHandler.do_request_

    def http_open(self, request: Request) -> HTTPResponse:
        return self.do_open(partial(self._connection, HTTPConnection), request)

    def https_open(self, request: Request) -> HTTPResponse:
        # To read the system's certificates takes longer than to verify a repository: not before they are needed.
        self._context = self._context or _context(None)
        return self.do_open(partial(self._connection, partial(HTTPSConnection, context=self._context)), request)

    def _connection(self, kind: Callable[..., HTTPConnection], *arguments: Any, **options: Any) -> HTTPConnection:
        connection = kind(*arguments, **options)
        connection.response_class = partial(_Response, watch=self._watch)  # type: ignore[assignment]
        return connection
